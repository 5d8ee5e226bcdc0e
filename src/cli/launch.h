/* SPDX-License-Identifier: MIT */
#ifndef HEAPMARK_CLI_LAUNCH_H
#define HEAPMARK_CLI_LAUNCH_H

/*
 * Starting a program as if heapmark were not between it and whoever started heapmark, and waiting for its end.
 *
 * The program stays in our process group and session, with our signal mask and dispositions.  What the kernel sends
 * to the whole group (Ctrl-C, Ctrl-\, Ctrl-Z, hang-up, window size) it gets by itself, and we ignore it; what a
 * process sends to us is passed on.  When the program is stopped by job control, so are we, until the shell continues
 * the job.
 */

#include <stdint.h>
#include <sys/types.h>

struct preload;

struct launch {
    pid_t pid;
    int status;                 /* exit status as a shell gives it: its own, or 128 + signal */
    int signal;                 /* that ended it, 0 = none */
    int failed;                 /* errno of a fork or exec that failed: then nothing else is meant */
};

/* What else is to be done while the program runs. */
struct launch_company {
    uint64_t (*step)(void *context, pid_t pid);     /* returns the nanoseconds until it wants to be called again */
    void *context;
};

/* preload: what is set in the program's environment; NULL: nothing.  company may be NULL. */
void launch_and_wait(struct launch *launch, const char *path, char *const *argv, const struct preload *preload,
                     const struct launch_company *company);

#endif
