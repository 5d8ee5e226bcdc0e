/* SPDX-License-Identifier: MIT */
#ifndef HEAPMARK_CENSUS_LEDGER_H
#define HEAPMARK_CENSUS_LEDGER_H

/*
 * The ledger: every resident byte that the kernel counted, area by area, falls into one column.  The heap's own
 * columns come from the scan of the extents; the ledger adds everything else.
 */

#include "census/census.h"
#include <stdbool.h>
#include <stdint.h>

struct areas;
struct extents;
struct pymalloc;
struct scratch;

/* A live block of its own mapping: an mmapped chunk. */
struct ledger_chunk {
    uintptr_t start, end;       /* of the chunk */
    uint64_t requested;
};

struct ledger {
    const struct areas *areas;
    const struct extents *extents;
    const struct ledger_chunk *chunks;      /* sorted */
    uint32_t chunk_count;
    const struct census_mapping *mappings;  /* sorted */
    uint32_t mapping_count;
    const struct pymalloc *pymalloc;        /* arenas among the mappings; what is live in them is marked as told */
    uint64_t *mapped_by_site;               /* resident bytes, added to; by site */
    uint32_t sites;
    struct hmk_census *census;              /* columns are added to */
};

/* False: no memory. */
bool ledger_fill(struct ledger *ledger, struct scratch *scratch);

/* What /proc/PID/status says, into the census; false: cannot be read. */
bool ledger_read_status(struct hmk_census *census, struct scratch *scratch);

#endif
