/* SPDX-License-Identifier: MIT */
#ifndef HEAPMARK_SHIM_STACK_H
#define HEAPMARK_SHIM_STACK_H

/*
 * Stacks become site ids.
 *
 * A captured stack is identified by a 64-bit prefix hash over its frames, root first, and by its kind; only frames that changed since
 * the thread's last capture are hashed, then one lock-free look-up finds the id.  A new stack is interned under a lock into the
 * trie of the recording (parent, frame), from the deepest frame whose node is known; equal stacks always get
 * equal ids, whatever happened to the look-up table.  Two different stacks share an id when their hashes collide:
 * n * n / 2^65, or 3e-8 at a million stacks.
 *
 * Unloading a module starts a new generation: everything keyed by code addresses is looked up anew.
 */

#include "contract/format.h"
#include <stdbool.h>
#include <stdint.h>

struct thread;
struct unwind_start;

/* After the recording is open, which has the fixed sites and the root of the trie.  verify: compare every Nth stack of a thread
 * with the reference unwinder; 0 = never. */
bool stack_init(uint32_t verify);
uint32_t stack_verify_every(void);
uint32_t stack_site(struct thread *thread, const struct unwind_start *start, enum hmk_site_kind kind);
uint32_t stack_site_heap(struct thread *thread, const struct unwind_start *start);     /* HMK_KIND_HEAP */
/* Exact mode ends; new sites are sampled ones.  False: not now, since a thread does not come to the end of making a site. */
bool stack_begin_sampling(uint64_t interval);
void stack_forget(void);        /* a module was unloaded */
void stack_begin_python(void);  /* from now on stacks have Python frames */
void stack_abandon(struct thread *thread);      /* a signal handler left the thread's event by longjmp */
void stack_after_fork(void);    /* resets the lock; ids stay as they were */

#endif
