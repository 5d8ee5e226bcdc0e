/* SPDX-License-Identifier: MIT */
#ifndef HEAPMARK_SHIM_SETTINGS_H
#define HEAPMARK_SHIM_SETTINGS_H

#include <stdbool.h>
#include <stdint.h>

/* Values of the WORD settings, in the order of their lists in settings.def. */
enum { SETTINGS_CHILDREN_NO = 0, SETTINGS_CHILDREN_FORK = 1, SETTINGS_CHILDREN_ALL = 2 };
enum { SETTINGS_UNWINDER_FAST = 0, SETTINGS_UNWINDER_LIBUNWIND = 1 };

struct settings {
#define SETTING(field, key, kind, default_value, meaning) uint64_t field;
#include "contract/settings.def"
#undef SETTING
    const char *out;            /* HEAPMARK_OUT, or the default pattern; points into the environment */
    const char *options;        /* HEAPMARK_OPTIONS as given, or "" */
};

/* Reads the environment (raw environ vector; no libc call).  An unknown key or bad value is skipped; the first one is described in
 * `complaint` (a sentence for the event log and for one line on stderr at start), else complaint[0] = 0. */
void settings_read(struct settings *settings, char *const *environment, char *complaint, unsigned complaint_bytes);

#endif
