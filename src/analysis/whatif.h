/* SPDX-License-Identifier: MIT */
#ifndef HEAPMARK_ANALYSIS_WHATIF_H
#define HEAPMARK_ANALYSIS_WHATIF_H

/*
 * What glibc's settings would have changed, where that follows from a census.
 *
 *   thresholds   Freeing a mapped block of s bytes raises the threshold for mapping blocks to s and that for trimming tops to 2 s,
 *                unless one of the two is set: then both stay at 128 KiB.  Not held then: what blocks of 128 KiB and
 *                more covered last, and the tops of all arenas but 128 KiB of padding each.  The two may overlap, so
 *                the larger one is told.  M_TOP_PAD changes nothing: padding is not resident before it is used.
 *   arenas       With one arena a trim reaches every top.  Without a trim nothing follows: what threads free then lies
 *                between what others keep.
 *   tcache       No live block but cached free ones lie at the top of the main heap, and keep it from being trimmed.
 */

#include <stddef.h>
#include <stdint.h>

struct ledger;
struct profile;

enum whatif_setting { WHATIF_THRESHOLDS, WHATIF_ARENAS, WHATIF_TCACHE, WHATIF_SETTINGS };

enum whatif_bound {
    WHATIF_ABOUT,
    WHATIF_AT_LEAST,            /* what else it would change is not known */
    WHATIF_UP_TO,               /* if the threshold for trimming was not raised; blocks of that size were allocated */
    WHATIF_AFTER_TRIM
};

struct whatif {
    enum whatif_setting setting;
    enum whatif_bound bound;
    uint64_t bytes;             /* held less */
};

struct whatifs {
    struct whatif at[WHATIF_SETTINGS];
    size_t count;
};

/* By bytes, but what needs a trim last; those worth at least 1 MiB and a twentieth of RSS. */
struct whatifs whatifs_find(const struct profile *profile, const struct ledger *ledger);
/* All alike, worth it or not; bytes may be 0. */
struct whatif whatif_of(const struct profile *profile, const struct ledger *ledger, enum whatif_setting setting);

const char *whatif_name(enum whatif_setting setting);           /* for machines: "thresholds" */
const char *whatif_environment(enum whatif_setting setting);    /* "MALLOC_ARENA_MAX=1" */

#endif
