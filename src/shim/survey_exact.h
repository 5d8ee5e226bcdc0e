/* SPDX-License-Identifier: MIT */
#ifndef HEAPMARK_SHIM_SURVEY_EXACT_H
#define HEAPMARK_SHIM_SURVEY_EXACT_H

/* A census that is taken in a forked child (apart.h), while this process goes on. */

#include "census/census.h"
#include "shim/apart.h"

struct exact_parcel;
struct exact {
    struct census_result taken;         /* without its scratch: what it points to is in the parcel */
    struct apart_outcome outcome;
    struct exact_parcel *parcel;
};

/* As census_take, with the request's live_bytes and mappings asked when the heap stands still.  False: no census; the outcome
 * says whether there was no child, or it failed. */
bool exact_take(const struct thread *thread, const struct census_request *request, struct exact *exact);
void exact_release(struct exact *exact);

#endif
