/* SPDX-License-Identifier: MIT */
#ifndef HEAPMARK_ANALYSIS_VERDICT_H
#define HEAPMARK_ANALYSIS_VERDICT_H

/*
 * Why the memory is what it is, in a word, with the numbers behind it and the one thing to do next.
 *
 * Each finding explains a part of the resident memory.  They come in the order of what matters: the first is
 * the verdict.  Small things are not found: below 4 MiB or a tenth of the program's RSS nothing is wrong.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct history;
struct ledger;
struct profile;

enum verdict_kind {
    VERDICT_NOTHING,            /* nothing wrong */
    VERDICT_UNTOLD,             /* resident and neither live nor heapmark's; no census of this state tells what */
    VERDICT_IN_USE,             /* it is live; nothing to be had but by using less */
    VERDICT_LEAK,               /* allocated again and again, never freed */
    VERDICT_GROWTH,             /* the same, but the run was too short to call it a leak: it may just be loading */
    VERDICT_CACHE_GROWTH,       /* live memory rises to the end, at sites that do free */
    VERDICT_PINNED,             /* few live blocks hold much freed memory */
    VERDICT_RETURNABLE,         /* freed, in whole pages; nobody asked for it back */
    VERDICT_TOP_KEPT,           /* freed, at the top of the heap, kept by the trim threshold */
    VERDICT_TOP_STUCK,          /* at the top of a thread's arena, which malloc_trim never trims */
    VERDICT_THREAD_ARENAS,      /* the same, in many arenas */
    VERDICT_FRAGMENTATION,      /* freed bytes on pages that many live blocks share */
    VERDICT_CACHED,             /* in the allocator's per-thread caches */
    VERDICT_ARENAS_HELD,        /* free space in CPython's arenas, kept by live objects */
    VERDICT_OTHER_ALLOCATOR,    /* another allocator's cache */
    VERDICT_MAPPINGS,           /* mapped by the program itself */
    VERDICT_PYTHON_ARENAS,      /* mapped by CPython for its objects; what they hold could not be told */
    VERDICT_PYTHON_OBJECTS,     /* in use by small Python objects */
    VERDICT_KINDS
};

enum verdict_step {
    VERDICT_STEP_NONE,
    VERDICT_STEP_SNAPSHOT,      /* take a census */
    VERDICT_STEP_TRIM,          /* malloc_trim(0) */
    VERDICT_STEP_FREE,          /* free the blocks of `site` (then trim) */
    VERDICT_STEP_LIVE,          /* look at who is live */
    VERDICT_STEP_ARENA_MAX,     /* MALLOC_ARENA_MAX, then a trim */
    VERDICT_STEP_THRESHOLDS,    /* MALLOC_MMAP_THRESHOLD_ */
    VERDICT_STEP_TCACHE,
    VERDICT_STEP_SEPARATE,      /* keep long-lived and short-lived blocks apart */
    VERDICT_STEP_UNMAP,         /* the mappings of `site` */
    VERDICT_STEP_LEVER,         /* that allocator's own call */
    VERDICT_STEP_DROP,          /* drop or copy the objects that keep arenas: ledger->python says which */
    VERDICT_STEP_PYTHONMALLOC,  /* a run with PYTHONMALLOC=malloc sees the objects */
    VERDICT_STEPS
};

#define VERDICT_NO_SITE UINT32_MAX
struct verdict_finding {
    enum verdict_kind kind;
    uint64_t bytes;             /* resident or live bytes it explains */
    uint32_t site;              /* whose blocks; VERDICT_NO_SITE: nobody in particular */
    uint64_t site_blocks, site_bytes;
    uint64_t gain_bytes;        /* held bytes that go with those blocks */
    uint32_t sites;             /* how many sites, or sets of pins, share in it */
    enum verdict_step step;
    bool then_trim;             /* and the step returns nothing without a trim after it */
    uint64_t step_bytes;        /* what the step returns, as far as it can be told; 0: unknown */
};

#define VERDICT_FINDINGS 8
struct verdict {
    struct verdict_finding finding[VERDICT_FINDINGS];
    size_t count;               /* at least 1 */
};

/* `ledger` may be NULL: without a census of the present state only live memory is judged. */
struct verdict verdict_find(const struct profile *profile, const struct ledger *ledger, const struct history *history);

const char *verdict_kind_name(enum verdict_kind kind);      /* for machines: "top-stuck" */
const char *verdict_step_name(enum verdict_step step);

#endif
