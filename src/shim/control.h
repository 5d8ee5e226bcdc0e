/* SPDX-License-Identifier: MIT */
#ifndef HEAPMARK_SHIM_CONTROL_H
#define HEAPMARK_SHIM_CONTROL_H

/*
 * Serving requests of another process (contract/control.h) and of the program itself (api.c).
 *
 * SIGURG wakes the process: its default action is to be ignored, so a process that lost the handler is never killed.  The
 * handler acts only when its thread is outside the allocator: else it leaves a note (thread->pending) and the
 * outermost hook serves on its way out.  A thread that is being torn down, or is inside fork, never serves.  Requests are also
 * seen, without the signal, whenever the timeline takes a sample.
 *
 * The host does not see our handler: the calls by which it would (hooks_signal.c) find its own action of SIGURG, and what it
 * installs is called for every SIGURG that is not a request.  A host that goes round libc takes the signal away from us; then
 * live.control_signal becomes 0 at the next sample, and requests wait for samples.
 *
 * The work is done on a stack of our own, for threads and alternate signal stacks may be small, and with all signals
 * blocked: a handler of the host that allocates, or leaves by siglongjmp, would meet the locks of the allocator.
 */

#include "contract/control.h"
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

struct thread;

void control_init(bool want_signal);
void control_serve(struct thread *thread);  /* at the outermost exit of a hook */
void control_tick(struct thread *thread);   /* in a hook: notes a waiting request for the way out */
void control_after_fork(void);

/* Around a call by which the host reads or sets the action of SIGURG: in between, the kernel has the host's own.  False, with
 * nothing to reclaim, when there is no handler of ours.  The caller owns the process (start_is_owner). */
bool control_lend(uint64_t *mask);
void control_reclaim(const uint64_t *mask);
/* The host waits for signals by sigwait and got this one: true when it was a request, which has been served. */
bool control_take(const siginfo_t *info);

/* The work itself; the caller has marked the thread busy.  One request at a time: others wait. */
struct control_answer {
    uint32_t status;                        /* enum hmk_answer_status */
    uint64_t value[8];                      /* as live.answer */
};
void control_perform(struct thread *thread, uint32_t kind, uint64_t argument, const char *label,
                     struct control_answer *answer);

#endif
