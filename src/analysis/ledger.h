/* SPDX-License-Identifier: MIT */
#ifndef HEAPMARK_ANALYSIS_LEDGER_H
#define HEAPMARK_ANALYSIS_LEDGER_H

/* The partition of VmRSS at one instant, as a census took it, with what holds freed memory back. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct read_file;

enum ledger_part {
    LEDGER_LIVE,                /* requested bytes of live blocks */
    LEDGER_SLACK,               /* rounding and headers of live blocks */
    LEDGER_PYTHON,              /* blocks in use in CPython's arenas */
    LEDGER_RETURNABLE,          /* held, by cause: DESIGN's words; first .. */
    LEDGER_TOP,
    LEDGER_PARTIAL,
    LEDGER_EDGE,
    LEDGER_CACHED,
    LEDGER_STUCK_TOP,
    LEDGER_ARENA,
    LEDGER_FOREIGN,
    LEDGER_UNUSED,              /* .. last: resident, and never owned by a block */
    LEDGER_METADATA,
    LEDGER_MAPPED,
    LEDGER_FILES,
    LEDGER_SHARED,
    LEDGER_STACKS,
    LEDGER_SELF,
    LEDGER_UNEXPLAINED,
    LEDGER_PARTS
};
#define LEDGER_HELD_FIRST LEDGER_RETURNABLE
#define LEDGER_HELD_LAST LEDGER_UNUSED

enum ledger_kind {
    LEDGER_AT_EXIT, LEDGER_AT_REQUEST, LEDGER_AT_MARK, LEDGER_BEFORE_TRIM, LEDGER_AFTER_TRIM, LEDGER_AT_PEAK,
    LEDGER_AT_DROP, LEDGER_AT_OTHER
};

struct ledger_pin {
    enum { LEDGER_PIN_TOP, LEDGER_PIN_TOP_CACHED, LEDGER_PIN_PAGES } kind;
    bool returns_itself;        /* freeing it returns the memory; else a trim is needed */
    bool returnable;            /* malloc_trim(0) returns the gain even while the pin lives */
    bool unsampled;             /* blocks of unknown sites are among them; site 0: they all are */
    uint32_t site;
    uint32_t arena;             /* 0: main */
    uint64_t blocks, bytes;     /* of the pinning blocks */
    uint64_t gain_bytes;        /* held bytes that could go if this set went */
    uint64_t cumulative_bytes;  /* with all sets before it */
    uint64_t address, largest_bytes;
};

/* One heap of the allocator; the last of LEDGER_ARENAS adds up all from its own number on. */
#define LEDGER_ARENAS 8
struct ledger_arena {
    int64_t resident_bytes, live_bytes, held_bytes;
    int64_t forecast_bytes;     /* malloc_trim(0) returns of the held bytes */
    int64_t cached_bytes, stuck_bytes;
    uint64_t heaps;
};

/* Objects of one type in CPython's arenas of which at most a quarter is in use. */
struct ledger_keeper {
    enum {
        LEDGER_OBJECTS,
        LEDGER_TABLES,          /* no objects: what objects own */
        LEDGER_SPARES,          /* freed objects that the interpreter keeps for the next ones */
        LEDGER_OTHERS           /* of types for which there was no room */
    } kind;
    const char *type;
    uint32_t site;              /* that mapped most of the arenas */
    uint32_t arenas;            /* with such objects */
    uint64_t blocks, bytes;
    uint64_t gain_bytes;        /* held bytes that go with these objects, when all before it in the list went */
    uint64_t cumulative_bytes;
    uint64_t loss_bytes;        /* what RSS loses then: the gain and the objects themselves */
};

#define LEDGER_FILLS 8
struct ledger_python {
    uint32_t arena_count;       /* 0: no arenas, and the rest 0 too */
    uint32_t pool_count, free_pool_count;
    uint64_t arena_bytes;       /* resident */
    uint64_t live_blocks, slot_bytes, free_pool_bytes;
    uint32_t sparse_count;      /* arenas of which at most a quarter is in use */
    uint64_t sparse_bytes, sparse_live_bytes, sparse_blocks, seen_blocks;
    uint32_t fill_count[LEDGER_FILLS];  /* arenas of which up to ledger_fill_percent[] are in use */
    uint64_t fill_held[LEDGER_FILLS];   /* and what is held in them */
    struct ledger_keeper *keepers;      /* first the steps that free arenas, then others by how many they are */
    size_t keeper_count;
};
extern const unsigned char ledger_fill_percent[LEDGER_FILLS];

struct ledger {
    enum ledger_kind kind;
    const char *label;
    uint64_t time_ns;           /* since the start of the recording */
    uint64_t cost_ns;
    uint64_t slot;              /* record in the file */
    /* How far it can be trusted. */
    bool walked;                /* every chunk was accounted for: the forecast is exact */
    bool exact;                 /* taken in a forked child: of one instant */
    bool moving;                /* the heap changed under the scan */
    bool closed;                /* all identities closed */
    bool chunks_unknown;        /* not glibc's malloc: no chunk walk */
    bool rows_cut;              /* only the largest sites have their held bytes */
    bool sampled;               /* most blocks are unknown: who freed what is held is not told */
    bool estimated;             /* then: pins are told, by the chunks, and how live memory divides */
    double live_variance, slack_variance;   /* then: of those parts; if `walked`, their sum is exact all the same */

    int64_t part[LEDGER_PARTS];
    int64_t held_bytes;         /* sum of the held parts */
    int64_t sum_bytes;          /* of all parts; equals rss_bytes when nothing is wrong */
    uint64_t rss_bytes;
    uint64_t rss_anon_bytes, rss_file_bytes, rss_shmem_bytes, rss_peak_bytes, swap_bytes, vm_bytes, huge_bytes;

    uint64_t forecast_bytes;    /* malloc_trim(0) would return; by the walk when accepted, else by the block map */
    uint64_t forecast_map_bytes, forecast_walk_bytes;
    uint64_t would_map_bytes;   /* not held with MALLOC_MMAP_THRESHOLD_=131072 */
    uint64_t trim_threshold_bytes;
    uint64_t counted_live_bytes;    /* what the program had asked for and not freed, resident or not; 0: not known */
    uint64_t heap_extent_bytes, heap_resident_bytes, held_page_bytes, live_blocks, nonresident_live_bytes;
    uint32_t arena_count, heap_count;
    struct ledger_arena arena[LEDGER_ARENAS];   /* 0: the main one; the first arena_count */
    int64_t identity[6];

    struct ledger_pin *pins;    /* as ranked by the census: cumulative_bytes rises */
    size_t pin_count;
    struct ledger_python python;
};

/* All complete censuses by time. */
struct ledgers {
    struct ledger *at;
    size_t count;
};
struct ledgers ledgers_read(const struct read_file *file);
void ledgers_free(struct ledgers *ledgers);
/* NULL when there is none. */
const struct ledger *ledgers_newest(const struct ledgers *ledgers);
/* The newest, when it still tells the state of a process with that much resident and live memory now; else NULL.  What is
 * freed need not leave RSS. */
const struct ledger *ledgers_current(const struct ledgers *ledgers, uint64_t rss_bytes, uint64_t live_bytes);
/* One that saw far more held than the newest did: an exit's census is often taken when everything is gone.  NULL: none. */
const struct ledger *ledgers_more_held(const struct ledgers *ledgers);
const struct ledger *ledgers_at_peak(const struct ledgers *ledgers);    /* of the highest RSS, when it was taken at one */

/* The keepers to be named: the first ones that free nearly all that can be freed, at most three. */
size_t ledger_main_keepers(const struct ledger_python *python);

#endif
