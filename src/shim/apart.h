/* SPDX-License-Identifier: MIT */
#ifndef HEAPMARK_SHIM_APART_H
#define HEAPMARK_SHIM_APART_H

/*
 * Cold work in a child that is forked for it, so that no other thread moves what it looks at.
 *
 * The others are held at the door of the hooks for the length of the fork (67 ms for each GiB of the process; a program
 * that does not allocate meanwhile runs on), because a fork alone is no instant: threads write while the page
 * tables are copied.  The caller waits for the child; they do not.  The host sees no child: see sys_fork_apart.
 */

#include <stdbool.h>
#include <stdint.h>

struct thread;

struct apart_work {
    bool (*before)(void *argument, uint32_t inside);    /* in the process, the others being held; false: give up */
    void (*work)(void *argument);           /* in the child: system calls and our own structures alone */
    void *argument;
};

struct apart_outcome {
    int error;              /* positive errno: there was no child; 0: there was one */
    uint32_t inside;        /* threads that were in a hook at the fork: a block of each may be wrong */
};

#define APART_SANDBOX (-1)  /* for error: a seccomp filter that might kill the process for a fork */

struct apart_outcome apart_do(const struct thread *thread, const struct apart_work *work);

#endif
