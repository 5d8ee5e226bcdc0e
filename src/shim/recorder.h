/* SPDX-License-Identifier: MIT */
#ifndef HEAPMARK_SHIM_RECORDER_H
#define HEAPMARK_SHIM_RECORDER_H

/*
 * The recorder: births and deaths of blocks become counters of the recording.
 *
 * Order (the hooks keep it): a death is recorded before the real free, a birth after the real malloc, so that no other
 * thread can own the address in between.  realloc: death, real call, birth - or revival when it failed.
 *
 * Budget of an event without its stack: one cell of the block map, one counter cell, the heap's totals, the site's own
 * peak; no lock, no system call.  Every 64 events, or 64 KiB, the clock is looked at.
 */

#include "census/blockmap.h"
#include "shim/thread.h"
#include "shim/unwind.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

void recorder_birth(struct thread *thread, const void *block, size_t requested, const struct unwind_start *start);

/* False: the block is not in the map (older than heapmark, or not ours). */
bool recorder_death(struct thread *thread, const void *block, const struct unwind_start *start,
                    struct blockmap_block *dead);
/* The same for a block that will not come back. */
bool recorder_free(struct thread *thread, const void *block, const struct unwind_start *start);
void recorder_charge_free_sites(void);  /* from now on held bytes belong to the freeing site */
/* The real call failed after a death was recorded. */
void recorder_revive(struct thread *thread, const void *block, const struct blockmap_block *dead);
/* A free while the thread's own hook is on its way (a signal handler): the map is kept right, the counters follow later. */
void recorder_death_nested(const void *block);

/* Counters of a site that owns no blocks of the map: mappings, breaks, advice. */
void recorder_count(struct thread *thread, uint32_t site, int64_t bytes, bool birth);

/* A further thread is there, and has counted nothing yet; from the second on the heap's totals are gathered per thread. */
void recorder_thread_joined(struct thread *thread, uint32_t threads);
/* Adds what the thread has gathered to the totals. */
void recorder_flush(struct thread *thread);
void recorder_leave_slow(struct thread *thread);

/* In the child: the blocks of the map, all inherited, become the new recording's live blocks. */
void recorder_inherit(struct thread *thread);

#endif
