/* SPDX-License-Identifier: MIT */
#ifndef HEAPMARK_CLI_LIVE_H
#define HEAPMARK_CLI_LIVE_H

/*
 * The recording of a process that runs, mapped: its totals as they change, and the words by which it can be asked
 * (contract/control.h).  It is found among what the process has mapped, and taken for its own only when process number,
 * start time and boot agree, so that a child before its first allocation, an exec'ed program or a reused number
 * is never mistaken for the process that was recorded.
 */

#include <stdbool.h>
#include <sys/types.h>

struct fail;
struct hmk_header;
struct hmk_live;

struct live {
    pid_t pid;                          /* in our PID namespace */
    int fd;
    char *path;                         /* by which it can be opened */
    const struct hmk_header *header;
    struct hmk_live *totals;            /* shared with the process: only the request words may be written */
    bool writable;
};

/* `name` is a process number or a recording's file name.  False, with nothing to close: *why says what the process is
 * instead. */
bool live_open(struct live *live, const char *name, struct fail *why);
bool live_open_pid(struct live *live, pid_t pid, struct fail *why);
void live_close(struct live *live);

/* False: the process has ended, or become another program; *why says which. */
bool live_still(const struct live *live, struct fail *why);

#endif
