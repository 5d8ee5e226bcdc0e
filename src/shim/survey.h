/* SPDX-License-Identifier: MIT */
#ifndef HEAPMARK_SHIM_SURVEY_H
#define HEAPMARK_SHIM_SURVEY_H

/*
 * A census written into the recording: joins src/census with the recorder and the program's mappings.
 *
 * Records are slots of a ring for each kind, rewritten under an odd sequence number; a kind has at least two, so that a
 * process that is killed while writing one leaves the one before.  Rows and pins of a slot keep their place and are only moved when they
 * no longer fit.
 */

#include "contract/format.h"
#include <stdbool.h>
#include <stdint.h>

struct thread;

struct survey_result {
    uint64_t record;            /* of HMK_CENSUSES */
    uint64_t forecast_bytes;    /* the best forecast of malloc_trim(0) there is */
    int exact_error;            /* of survey_take_exact: why it is an ordinary one; see struct apart_outcome.  ECHILD: the child failed */
    uint32_t exact_inside;
};

void survey_init(char *const *environment);
/* The calling thread is marked busy and outside the allocator.  False: no census could be taken or stored. */
bool survey_take(struct thread *thread, enum hmk_census_kind kind, const char *label, struct survey_result *result);
/* In a forked child, so that nothing moves under the scan; where that cannot be, an ordinary one. */
bool survey_take_exact(struct thread *thread, enum hmk_census_kind kind, const char *label, struct survey_result *result);
/* After every sample of the timeline, outside the allocator: takes one at a new peak of RSS and after a large fall, when with it all
 * of them would have taken no more than 1 % of the run time so far; after a fall, 2 %. */
void survey_watch(void);
/* After a trim, and before the survey of it: with one thread, the map's memory for what went back goes back, too. */
void survey_release(void);
void survey_after_fork(void);

#endif
