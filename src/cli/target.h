/* SPDX-License-Identifier: MIT */
#ifndef HEAPMARK_CLI_TARGET_H
#define HEAPMARK_CLI_TARGET_H

/*
 * What `run` is about to start, judged before it starts: a preloaded library is silently ignored by some programs, and
 * kills others (a program of musl's loader ends with status 127).
 */

#include "base/fail.h"

enum target_verdict {
    TARGET_FINE,
    TARGET_NOT_FOUND,           /* 127 */
    TARGET_NOT_RUNNABLE,        /* 126 */
    TARGET_DEAF,                /* runs, but the preload is ignored; programs that it starts may still be recorded */
    TARGET_HOSTILE              /* the preload would break it */
};

struct target {
    char *path;                 /* what will be executed; NULL when not found */
    enum target_verdict verdict;
    struct fail why;            /* a sentence that says what to do, unless TARGET_FINE */
};

/* Looks `command` up as execvp does; follows #! lines, also through env. */
void target_inspect(struct target *target, const char *command);
void target_free(struct target *target);

#endif
