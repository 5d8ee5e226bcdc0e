/* SPDX-License-Identifier: MIT */
#ifndef HEAPMARK_H
#define HEAPMARK_H

/*
 * Talk to heapmark from the profiled program.  Header only: nothing to link.  Every function finds its counterpart in a
 * preloaded libheapmark.so by dlsym when first called, and does nothing (returns 0) when there is none.
 *
 * Thread-safe.  Sizes are bytes, times nanoseconds; unsigned long has 64 bits on every machine that heapmark runs on.
 * None of these may be called from a signal handler.
 * C89 and C++98 clean; needs <dlfcn.h> (before glibc 2.34 also -ldl).
 */

#include <dlfcn.h>
#include <stddef.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

/* For heapmark's own use. */
#if defined(__GNUC__)
#define HEAPMARK_FUNCTION static __attribute__((unused))
#else
#define HEAPMARK_FUNCTION static
#endif
#ifdef RTLD_DEFAULT             /* <dlfcn.h> hides it in strict modes */
#define HEAPMARK_HANDLE RTLD_DEFAULT
#else
#define HEAPMARK_HANDLE NULL
#endif

/* What heapmark_trim found.  All sizes are of the whole process. */
struct heapmark_trim_result {
    unsigned long rss_before;      /* resident bytes before */
    unsigned long rss_after;
    unsigned long returned;        /* rss_before - rss_after, not below 0 */
    unsigned long forecast;        /* what the ledger before it predicted; 0 when there was none */
    unsigned long nanoseconds;     /* how long the trim itself took */
};

/* Pass sizeof the struct you were compiled with: later versions append fields. */
struct heapmark_stats {
    unsigned long live_bytes;      /* requested bytes of blocks in use */
    unsigned long live_blocks;
    unsigned long peak_bytes;      /* highest live_bytes so far */
    unsigned long rss_bytes;       /* resident now */
    unsigned long rss_peak_bytes;
    unsigned long self_bytes;      /* heapmark's own memory */
};

typedef int (*heapmark_function_)(int what, const char *text, void *data, unsigned long bytes);

HEAPMARK_FUNCTION int heapmark_nothing_(int what, const char *text, void *data, unsigned long bytes)
{
    (void)what;
    (void)text;
    (void)data;
    (void)bytes;
    return 0;
}

HEAPMARK_FUNCTION int heapmark_call_(int what, const char *text, void *data, unsigned long bytes)
{
    static heapmark_function_ volatile function;    /* threads that race for it store the same */
    heapmark_function_ found = function;
    if (!found) {
        void *address = dlsym(HEAPMARK_HANDLE, "heapmark_entry");
        found = heapmark_nothing_;
        if (address)
            memcpy(&found, &address, sizeof address);
        function = found;
    }
    return found(what, text, data, bytes);
}

/* 1 when this process is being recorded. */
HEAPMARK_FUNCTION int heapmark_active(void) { return heapmark_call_(0, "", NULL, 0); }

/* Names this instant; 1 when recorded.  At most 200 bytes of the label are kept. */
HEAPMARK_FUNCTION int heapmark_mark(const char *label) { return heapmark_call_(1, label, NULL, 0); }

/* Begin and end a phase.  Phases nest; a pop ends the newest one of that label. */
HEAPMARK_FUNCTION int heapmark_push(const char *label) { return heapmark_call_(2, label, NULL, 0); }
HEAPMARK_FUNCTION int heapmark_pop(const char *label) { return heapmark_call_(3, label, NULL, 0); }

/* Takes a census now and keeps it in the recording; 1 when taken. */
HEAPMARK_FUNCTION int heapmark_snapshot(const char *label) { return heapmark_call_(4, label, NULL, 0); }

/* Takes a census, gives free memory back to the system, measures, takes another census.  `result` may be NULL.
 * 1: trimmed (whatever came back); 0: not active, or no way to trim. */
HEAPMARK_FUNCTION int heapmark_trim(struct heapmark_trim_result *result)
{
    if (result)
        memset(result, 0, sizeof *result);
    return heapmark_call_(5, "", result, result ? (unsigned long)sizeof *result : 0);
}

/* 1: filled; fields that this heapmark does not know are 0. */
HEAPMARK_FUNCTION int heapmark_stats(struct heapmark_stats *stats, unsigned long bytes)
{
    memset(stats, 0, bytes);
    return heapmark_call_(6, "", stats, bytes);
}

#ifdef __cplusplus
}
#endif
#endif
