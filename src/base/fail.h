/* SPDX-License-Identifier: MIT */
#ifndef HEAPMARK_BASE_FAIL_H
#define HEAPMARK_BASE_FAIL_H

/*
 * Why something failed, as one sentence for the user, without a newline.  Library code returns false (or NULL) with
 * the sentence in *why and frees what it took; only cli prints it and exits:
 *
 *     if (fd < 0)
 *         return fail_errno(why, "cannot open %s", path);       -> "cannot open x.hmk: No such file or directory"
 *     if (size == 0)
 *         return fail_say(why, "%s is empty", path);
 *
 * Both always return false (`fail` alone is a macro of libcheck).  `why` may be NULL when the caller does not care.
 * The last sentence wins, so a caller that knows more may word it anew (it may pass why->text as an argument).
 */

#include <stdbool.h>

struct fail {
    char text[1024];
};

bool fail_say(struct fail *why, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Appends ": " and the text of errno as it was at the call. */
bool fail_errno(struct fail *why, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
