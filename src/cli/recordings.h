/* SPDX-License-Identifier: MIT */
#ifndef HEAPMARK_CLI_RECORDINGS_H
#define HEAPMARK_CLI_RECORDINGS_H

/* Which recordings a run has made: found by the file name pattern, told from older ones by what their headers say. */

#include "base/array.h"
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct recording_found {
    char *path;
    uint32_t pid, ppid;
    uint64_t start_realtime_ns;
    uint64_t rss_peak_bytes;
    int64_t heap_peak_bytes;
    uint64_t file_bytes;
    bool small;                     /* the process has ended, and held little */
};

struct recordings {
    ARRAY_OF(struct recording_found) found;     /* by start time */
};

/* The recordings of process `pid`, started at or after the time, and of its descendants, made by the absolute
 * pattern. */
void recordings_find(struct recordings *recordings, const char *pattern, pid_t pid, uint64_t since_realtime_ns);
/* How many processes they are of: an exec gives a process another recording. */
size_t recordings_processes(const struct recordings *recordings);
/* The one with the largest RSS, or NULL when there is none. */
const struct recording_found *recordings_largest(const struct recordings *recordings);
/* Moves the small ones into a folder beside `kept`, which stays where it is; nothing is overwritten, and nothing done when `kept` is
 * small too.  Their number; *folder, to be freed, is NULL when it is 0. */
size_t recordings_gather(struct recordings *recordings, const struct recording_found *kept, char **folder);
void recordings_free(struct recordings *recordings);

#endif
