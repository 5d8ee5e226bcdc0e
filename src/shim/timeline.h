/* SPDX-License-Identifier: MIT */
#ifndef HEAPMARK_SHIM_TIMELINE_H
#define HEAPMARK_SHIM_TIMELINE_H

/* Samples of live bytes and RSS.  There is no helper thread: events drive it, so a process that sleeps adds none. */

#include <stdbool.h>
#include <stdint.h>

struct thread;

void timeline_init(uint64_t interval_ns);
/* Every 64 events: looks at the coarse clock, takes a sample when one is due. */
void timeline_tick(struct thread *thread);
void timeline_now(void);            /* takes a sample whatever the clock says (start, marks, end) */
uint64_t timeline_rss(void);        /* resident bytes now, by /proc/self/statm; 0 when that cannot be read */
void timeline_read_peak(void);      /* VmHWM into live.rss_peak_bytes, unless it is one of our own making */
/* Our own memory for a moment raises VmHWM for ever: between begin and end it is none of the program's. */
void timeline_own_peak_begin(void);
void timeline_own_peak_end(void);
void timeline_map(int64_t bytes);   /* the program mapped (or unmapped) that much anonymous memory */
void timeline_after_fork(void);

#endif
