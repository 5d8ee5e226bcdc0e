/* SPDX-License-Identifier: MIT */
#ifndef HEAPMARK_ANALYSIS_RANK_H
#define HEAPMARK_ANALYSIS_RANK_H

/* Which sites come first.  The order is total: equal values are ordered by site id, so two reports of one recording
 * are the same. */

#include "analysis/profile.h"

enum rank_key {
    RANK_LIVE, RANK_PEAK, RANK_OWN_PEAK, RANK_HELD, RANK_TOTAL, RANK_COUNT, RANK_TEMPORARY, RANK_MAPPED, RANK_PINNED,
    RANK_KEYS
};

/* The key by its name in options and JSON ("own-peak"); RANK_KEYS: no such key. */
enum rank_key rank_key_named(const char *name);
const char *rank_key_name(enum rank_key key);

/* What the site is ordered by. */
int64_t rank_value(const struct profile_site *site, enum rank_key key);

struct rank {
    const struct profile_site **sites;      /* highest first; only sites of the kind with a value above 0 */
    size_t count;
    int64_t total;                          /* sum of their values */
};
/* Sites of one kind; PROFILE_KINDS: of any. */
struct rank rank_sites(const struct profile *profile, enum rank_key key, enum profile_kind kind);
/* At most `count` of those that are not `hidden`, by site id (NULL: none is).  The total is of all. */
struct rank rank_first(const struct profile *profile, enum rank_key key, enum profile_kind kind, const bool *hidden, size_t count);
void rank_free(struct rank *rank);

/* The same without the order. */
struct rank_sum {
    const struct profile_site *largest;     /* the first of rank_sites; NULL: there is none */
    size_t count;
    int64_t total;
};
struct rank_sum rank_sum(const struct profile *profile, enum rank_key key, enum profile_kind kind);

#endif
