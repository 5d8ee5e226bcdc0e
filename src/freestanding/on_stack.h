/* SPDX-License-Identifier: MIT */
#ifndef HEAPMARK_FREESTANDING_ON_STACK_H
#define HEAPMARK_FREESTANDING_ON_STACK_H

/* Calls work(argument) on another stack, whose upper end is `top` (a multiple of 16), and comes back.  For what runs inside the
 * host's threads and needs more stack than a small thread or an alternate signal stack has. */
void on_stack(void *top, void (*work)(void *argument), void *argument);

#endif
