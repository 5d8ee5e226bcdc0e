/* SPDX-License-Identifier: MIT */
#ifndef HEAPMARK_CENSUS_CENSUS_H
#define HEAPMARK_CENSUS_CENSUS_H

/*
 * The census: where RSS went, at one instant.  Runs in the profiled process, beside its other threads; allocates
 * nothing from libc, takes no lock, reads heap memory only in ways that cannot fault.  The caller's thread is outside
 * the allocator, and no other census runs.  Needs about 8 KiB of stack.
 */

#include "census/scratch.h"
#include "contract/format.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* An anonymous mapping that the program made, and the site that made it. */
struct census_mapping {
    uintptr_t start, end;
    uint32_t site;
};

struct forked_before;

struct census_request {
    enum hmk_census_kind kind;
    uint32_t label;                 /* copied into the record */
    uint32_t site_count;            /* ids in the block map are below this */
    bool alone;                     /* no other thread of the process can run meanwhile */
    bool sampled;                   /* most live blocks are not in the block map */
    /* Then: how many blocks one of the map stands for. */
    double (*weight)(size_t requested, uint32_t site);
    uint64_t sample_bytes;          /* the counter of live bytes moves in steps of about so many */
    bool exact;                     /* the counters below are exact when nothing else runs: identity 0 can be checked */
    /* What the recorder counts as live now: bytes requested; called at the start and at the end. */
    uint64_t (*live_bytes)(void *context);
    /* Copies the program's mappings, sorted, at most `room`; returns how many there are.  NULL: none are known. */
    uint32_t (*mappings)(struct census_mapping *to, uint32_t room, void *context);
    void *context;
    uintptr_t allocator_code;       /* an address of it: its data most likely follow; 0: not known */
    uint64_t tcache_key;            /* the word at p[1] of a freed block p = malloc(24); 0: not known */
    uint64_t top_granule;           /* of a huge page where glibc asks for those; 0: the page size */
    uint64_t stale_live;            /* blocks whose free was missed; identity 3 */
    unsigned python_minor;          /* CPython 3.minor, with a GIL, is in the process; 0: none that is known */
    uintptr_t python_type;          /* its PyType_Type; 0: not known */
    const struct forked_before *before;     /* this is a child that was forked for the census; NULL: it is not */
};

#define CENSUS_ROWS_MOST 8192u
struct census_result {
    struct hmk_census census;       /* all but sequence, row_* and pin_*: places in the recording */
    const struct hmk_census_row *rows;
    struct hmk_pin *pins;           /* address of HMK_PIN_ARENA: of the type's name, NUL-terminated, for a string's offset */
    uint32_t row_count, pin_count;  /* rows: at most CENSUS_ROWS_MOST, those with the most bytes */
    /* Chunk bytes in use for the allocator (cached, unknown and its own structures included), mmapped chunks apart:
     * what mallinfo2 calls uordblks.  Valid with HMK_CENSUS_WALKED. */
    uint64_t uordblks;
    uint64_t cached_bytes;          /* chunks in tcache, resident or not; as above */
    struct scratch scratch;         /* holds rows and pins */
};

/* False: no census could be taken (no memory, or /proc cannot be read); nothing is to be released then. */
bool census_take(const struct census_request *request, struct census_result *result);
void census_release(struct census_result *result);

#endif
