/* SPDX-License-Identifier: MIT */
#ifndef HEAPMARK_SHIM_GATE_H
#define HEAPMARK_SHIM_GATE_H

/* The word behind the door that every hook goes through; see shim/thread.h. */

#include <stdbool.h>
#include <stdint.h>

enum thread_gate_state {
    THREAD_GATE_SHUT = 0,               /* off, or a forked child that has not settled yet */
    THREAD_GATE_OPEN = 1,
    THREAD_GATE_HELD = 2                /* this process's own, but who comes to the door waits there: thread_hold_others */
};

extern uint32_t *thread_gate __attribute__((visibility("hidden")));     /* enum thread_gate_state */

void thread_open_gate(void);
void thread_shut_gate(void);            /* for good, but for a child's own */
bool gate_is_closed(void);              /* not open yet, or shut for good */
/* The child of a fork that has not settled yet, as when a handler forked within a hook that then goes on: of the threads that
 * were there at the fork the calling one is left. */
bool gate_is_wiped(void);

#endif
