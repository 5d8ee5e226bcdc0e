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
 */

#include "contract/control.h"
#include <stdbool.h>
#include <stdint.h>

struct thread;

void control_init(bool want_signal);
void control_serve(struct thread *thread);  /* at the outermost exit of a hook */
void control_tick(struct thread *thread);   /* in a hook: notes a waiting request for the way out */
void control_after_fork(void);

/* The work itself; the thread is marked busy meanwhile. */
struct control_answer {
    uint32_t status;                        /* enum hmk_answer_status */
    uint64_t value[8];                      /* as live.answer */
};
void control_perform(struct thread *thread, uint32_t kind, uint64_t argument, const char *label,
                     struct control_answer *answer);

#endif
