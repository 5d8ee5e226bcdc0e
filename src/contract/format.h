/* SPDX-License-Identifier: MIT */
#ifndef HEAPMARK_CONTRACT_FORMAT_H
#define HEAPMARK_CONTRACT_FORMAT_H

/*
 * The recording (.hmk): all that crosses from the profiled process to the reader.
 *
 * One file per process image, mapped MAP_SHARED by the process that writes it, native byte order, all
 * fields naturally aligned.  The file is complete at every instant: a process that is killed at any
 * instruction leaves a readable file whose totals are right to the last completed event.
 *
 *   offset   size   what
 *   0        4096   struct hmk_header   identity and settings; written once, `magic` last
 *   4096     4096   struct hmk_live     totals that change with every event
 *   8192     4096   struct hmk_table [HMK_TABLE_SLOTS], the section directory
 *   >=12288  ...    chunks of the tables; each starts on a multiple of header.page_bytes
 *
 * Tables.  A table is an array of records of one size.  It lives in chunks: chunk k holds
 * `first_records << k` records, so record i is in chunk k = floor(log2(i / first_records + 1)), at place
 * i - first_records * (2^k - 1) of that chunk.  A chunk's file offset is stored (release) after its space was
 * allocated; 0 means not yet.  A table is append-only: the record is written first, then `count` is stored
 * (release).  A reader loads `count` (acquire) and trusts only records below it.  A reader of a dead
 * process's file does the same.  Fields that change after publication are marked "in place"; each is one
 * aligned word.  A record that is rewritten as a whole (struct hmk_census) carries a sequence number that is
 * odd while it is being written.  A table with record_bytes 0 is not used by the writer.
 *
 * Versions.  `version` is raised by any change that an older reader would misread; the reader keeps the
 * ability to read the version before.  A new table or a field taken from reserved space (zero in old files)
 * raises `minor` only.
 *
 * Strings are referred to by their byte offset in HMK_STRINGS; offset 0 is the empty string.  A string ends
 * with a NUL and never crosses a chunk boundary (the writer pads with NULs).
 *
 * Times are nanoseconds of CLOCK_MONOTONIC unless the name says otherwise.  Sizes are bytes.
 */

#include <stdint.h>

#define HMK_MAGIC "HEAPMARK"          /* 8 bytes, without the NUL */
#define HMK_VERSION 1u
#define HMK_MINOR 3u
#define HMK_BYTE_ORDER 0x01020304u
#define HMK_LIVE_OFFSET 4096u
#define HMK_TABLES_OFFSET 8192u
#define HMK_HEADER_BYTES 12288u
#define HMK_TABLE_SLOTS 16u
#define HMK_TABLE_CHUNKS 30u

enum hmk_table_id {
    HMK_STRINGS = 0,      /* char */
    HMK_MODULES = 1,      /* struct hmk_module */
    HMK_FRAMES = 2,       /* struct hmk_frame; record 0 is the root of the trie */
    HMK_SITES = 3,        /* struct hmk_site; the first HMK_SITE_FIRST ids have fixed meanings */
    HMK_SITE_PEAKS = 4,   /* struct hmk_site_peak, parallel to HMK_SITES */
    HMK_THREADS = 5,      /* struct hmk_thread: one per thread slot; slots of dead threads are reused */
    HMK_CELL_INDEX = 6,   /* struct hmk_cell_index, parallel to HMK_CELLS */
    HMK_CELLS = 7,        /* struct hmk_cell_page */
    HMK_TIMELINE_0 = 8,   /* struct hmk_sample; which of the two is valid: live.timeline_active */
    HMK_TIMELINE_1 = 9,
    HMK_EVENTS = 10,      /* struct hmk_event */
    HMK_CENSUSES = 11,    /* struct hmk_census */
    HMK_CENSUS_ROWS = 12, /* struct hmk_census_row */
    HMK_HISTOGRAMS = 13,  /* struct hmk_histogram, parallel to HMK_THREADS */
    HMK_CODES = 14,       /* struct hmk_code */
    HMK_PINS = 15         /* struct hmk_pin: rows of a census */
};

/* ---- page 0: identity --------------------------------------------------------------------------- */

enum hmk_header_flag {
    HMK_FLAG_FORKED = 1u << 0,      /* the process was forked and continues a parent's state */
    HMK_FLAG_SAMPLED = 1u << 1,     /* sample_bytes applies */
    HMK_FLAG_FREE_SITES = 1u << 2,  /* freed bytes are charged to the freeing site */
    HMK_FLAG_MEMFD = 1u << 3        /* no file could be made: the recording dies with the process */
};

struct hmk_header {
    char magic[8];              /* written last, with a release store of the eight bytes */
    uint32_t version;
    uint32_t minor;
    uint32_t byte_order;
    uint32_t header_bytes;      /* HMK_HEADER_BYTES */
    uint32_t page_bytes;        /* of the writer's machine */
    uint32_t flags;             /* enum hmk_header_flag */
    uint32_t pid;
    uint32_t ppid;              /* with HMK_FLAG_FORKED: the nearest ancestor that has a recording */
    uint32_t root_pid;          /* first profiled process of the family */
    uint32_t machine;           /* ELF e_machine */
    uint64_t start_realtime_ns; /* CLOCK_REALTIME at the start of recording */
    uint64_t start_ns;          /* CLOCK_MONOTONIC at the same instant */
    uint64_t process_start_ticks; /* field 22 of /proc/PID/stat: with pid, names the process */
    uint64_t boot_id[2];        /* of /proc/sys/kernel/random/boot_id, or 0 */
    uint64_t sample_bytes;      /* mean sampling interval, 0 = exact */
    uint32_t depth_max;         /* frames kept of a stack */
    uint32_t exe;               /* string: /proc/self/exe */
    uint32_t command;           /* string: arguments joined by a space, cut at 4000 bytes */
    uint32_t cwd;               /* string */
    uint32_t host;              /* string */
    uint32_t libc;              /* string, as "glibc 2.36" */
    uint32_t options;           /* string: HEAPMARK_OPTIONS as given */
    uint32_t unwinder;          /* string: name of the unwinder in use */
    char tool_version[32];
    uint64_t parent_start_ticks; /* of ppid when forked, else 0 */
    uint8_t reserved[4096 - 168];
};

/* ---- page 1: live totals (all in place) --------------------------------------------------------- */

enum hmk_state {
    HMK_STATE_RUNNING = 0,      /* or killed: the reader asks the kernel whether the process still lives */
    HMK_STATE_EXITED = 1,       /* exit(), return from main */
    HMK_STATE_EXITED_FAST = 2,  /* _exit(), _Exit(), quick_exit() */
    HMK_STATE_ABORTED = 3,
    HMK_STATE_EXECED = 4,       /* another image took over */
    HMK_STATE_STOPPED = 5       /* recording was given up; live.stop_reason says why */
};

enum hmk_stop_reason {
    HMK_STOP_NONE = 0,
    HMK_STOP_DISK_FULL = 1,     /* sites are no longer added; counting goes on */
    HMK_STOP_NO_MEMORY = 2,
    HMK_STOP_NO_FILE = 3
};

/* The whole heap's counters.  With one thread they are exact; with more, each thread adds what it has
 * gathered every `flush_bytes`, so bytes and peak are off by at most threads * flush_bytes. */
struct hmk_heap {
    int64_t live_bytes;         /* requested bytes of blocks allocated and not yet freed */
    int64_t live_blocks;
    int64_t peak_bytes;         /* maximum of live_bytes */
    int64_t peak_blocks;        /* live_blocks at that instant */
    uint64_t peak_ns;           /* when, to the resolution of the timeline */
    uint32_t epoch;             /* raised when a peak ends; see struct hmk_cell */
    uint32_t rising;            /* 1: now is the peak */
    uint32_t flush_bytes;       /* 0: exact */
    uint32_t threads_seen;      /* 2: more than one thread has allocated */
};

/* Sampled mode, since minor version 1: what two independent samples of half as many points, which together are the sample,
 * estimate each.  The estimate of the heap's peak is the mean of what each had live when the other had most:
 * heap.peak_bytes, the largest of many estimates, is too large. */
struct hmk_half {
    int64_t live_bytes, live_blocks;
    int64_t peak_bytes;         /* maximum of live_bytes */
    int64_t other_bytes, other_blocks;  /* live by the other sample at that time */
};

struct hmk_live {
    struct hmk_heap heap;
    uint32_t state;             /* enum hmk_state */
    int32_t exit_status;        /* with HMK_STATE_EXITED*, when known, else -1 */
    uint32_t stop_reason;       /* enum hmk_stop_reason */
    uint32_t timeline_active;   /* 0 or 1 */
    uint64_t timeline_interval_ns;
    uint64_t last_ns;           /* time of the last sample */
    uint64_t end_ns;            /* when state left RUNNING */
    uint64_t file_bytes;        /* size of the file */
    /* what the kernel said */
    uint64_t rss_start_bytes;
    uint64_t rss_last_bytes;    /* at last_ns */
    uint64_t rss_peak_bytes;    /* VmHWM at the last time it was read, or the largest sample; see own_peak_bytes */
    uint64_t rss_peak_ns;
    /* heapmark's own */
    uint64_t self_bytes;        /* memory mapped by the shim and touched: tables, block map, this file */
    uint64_t lost_sites;        /* stacks that could not be added (disk full or the limit of ids) */
    uint64_t lost_events;       /* log entries that did not fit */
    uint64_t lost_reentrant;    /* allocations from within a hook (a signal handler that allocates) */
    uint64_t unknown_frees;     /* frees of blocks that were never seen: older than heapmark, or a foreign allocator's */
    uint64_t stale_live;        /* allocations that landed on a block believed live: a free was missed */
    uint64_t cut_stacks;        /* stacks deeper than depth_max */
    uint64_t incomplete_stacks; /* stacks that ended at a frame nobody could unwind */
    uint64_t verify_checked;    /* stacks compared with the reference unwinder */
    uint64_t verify_wrong;
    uint64_t foreign_forks;     /* children that made no recording */
    /* control; see control.h */
    uint32_t request_sequence;
    uint32_t request_kind;
    uint32_t answer_sequence;
    uint32_t answer_status;
    uint64_t request_argument;
    char request_label[64];
    uint64_t answer[8];
    uint64_t control_signal;    /* signal number that wakes the process, 0 = none installed */
    uint64_t module_generation; /* raised when a module is unloaded */
    uint64_t inherited_blocks;  /* blocks that were live at the fork */
    uint64_t inherited_bytes;
    uint64_t spent_ns;          /* CPU time in heapmark's hooks, estimated */
    uint64_t cpu_ns;            /* CPU time of the process when spent_ns was computed */
    uint64_t sampled_from_ns;   /* exact until then, sampled since; 0: one mode throughout */
    uint64_t abandoned_events;  /* hooks that never ended: a signal handler left them by longjmp */
    struct hmk_half half[2];
    uint64_t own_peak_bytes;    /* since minor version 3: VmHWM up to which heapmark's ledgers raised it for a moment; 0: they did not.
                                 * rss_peak_bytes leaves that out */
    uint8_t reserved[4096 - 528];
};

/* ---- page 2: section directory ------------------------------------------------------------------ */

struct hmk_table {
    uint32_t record_bytes;
    uint32_t first_records;     /* capacity of chunk 0; a power of two */
    uint64_t count;             /* published records; in place, release */
    uint64_t chunk_offset[HMK_TABLE_CHUNKS];
};

/* ---- records ------------------------------------------------------------------------------------ */

struct hmk_module {
    uint64_t base;              /* load bias: run-time address - address in the file */
    uint64_t start;             /* lowest mapped address */
    uint64_t end;               /* one past the highest */
    uint64_t load_ns;
    uint64_t unload_ns;         /* in place; 0 = still loaded */
    uint32_t path;              /* string */
    uint32_t build_id_bytes;    /* 0 = none */
    uint8_t build_id[32];
};

/* A node of the trie of stacks.  `parent` is the caller (nearer to the root), always smaller than the own id. */
enum hmk_frame_kind {
    HMK_FRAME_NATIVE = 0,       /* code: return address as found on the stack; ref: module + 1, 0 = none */
    HMK_FRAME_SIGNAL = 1,       /* code: interrupted instruction, looked up exactly; ref as above */
    HMK_FRAME_PYTHON = 2,       /* code: offset of the instruction in the bytecode; ref: record of HMK_CODES */
    /* since minor version 3 */
    HMK_FRAME_LOOP = 3,         /* as NATIVE, in an interpreter's loop: below a JOIN Python frames take its place */
    HMK_FRAME_ENTRY = 4,        /* as PYTHON, the outermost frame of an activation of the loop */
    HMK_FRAME_JOIN = 5          /* a whole stack, and no frame: code: leaf of its Python path; parent: leaf of its native path */
};
/* The stack of a JOIN, from the leaf: the native path, where each LOOP is replaced by the next Python frames, up to and with an ENTRY.
 * Python frames that are left over are nearest to the root; a LOOP that none is left for stands for itself.  A JOIN is nobody's
 * parent. */
#define HMK_FRAME_KIND_SHIFT 28
struct hmk_frame {
    uint64_t code;
    uint32_t parent;
    uint32_t ref;               /* enum hmk_frame_kind << 28 | number */
};

/* A code object of an interpreter: a function, a module's body, a comprehension.  The line table is as the interpreter keeps
 * it, and is decoded by the reader: co_lnotab up to 3.9, co_linetable of 3.10, location table since 3.11. */
struct hmk_code {
    uint32_t file;              /* string: co_filename */
    uint32_t name;              /* string: co_qualname, before 3.11 co_name */
    uint32_t first_line;
    uint32_t version;           /* major << 8 | minor of the interpreter */
    uint32_t lines;             /* offset in HMK_STRINGS of line_bytes raw bytes, which may contain NULs */
    uint32_t line_bytes;        /* 0: only first_line is known */
    uint64_t reserved;
};

enum hmk_site_id {
    HMK_SITE_NONE = 0,          /* no owner known */
    HMK_SITE_BEFORE = 1,        /* made before heapmark was ready, or with no stack */
    HMK_SITE_LOST = 2,          /* stack not recorded: disk full or too many stacks */
    HMK_SITE_INHERITED = 3,     /* reserved */
    HMK_SITE_FIRST = 4
};
#define HMK_SITE_LIMIT (1u << 20)  /* ids fit 20 bits of a cell of the block map */

enum hmk_site_kind {
    HMK_KIND_HEAP = 0,          /* malloc and its family */
    HMK_KIND_MAPPING = 1,       /* mmap by the program */
    HMK_KIND_BREAK = 2,         /* brk/sbrk by the program */
    HMK_KIND_ADVICE = 3         /* madvise that gives pages back: born and gone at once, so only totals count */
};
enum hmk_site_flag {
    HMK_SITE_CUT = 1u << 8,         /* deeper than depth_max: the root side is missing */
    HMK_SITE_INCOMPLETE = 1u << 9,  /* the unwinder had to stop */
    HMK_SITE_GUESSED = 1u << 10,    /* at least one frame rests on a guess */
    HMK_SITE_SAMPLED = 1u << 11     /* its counters are estimates, already weighted */
};
struct hmk_site {
    uint32_t frame;             /* leaf node, 0 = no stack */
    uint32_t flags;             /* enum hmk_site_kind | enum hmk_site_flag */
    uint64_t first_ns;          /* first seen, to the resolution of the timeline */
};

/*
 * A site's own peak, over all threads (in place).
 *
 * Spread, since minor version 1: a block of s bytes that sampling records with probability p stands for s/p bytes and 1/p
 * blocks.  The sums of s*s*(1-p)/(p*p) and of (1-p)/(p*p) over the recorded blocks are the variances of what the site's
 * counters estimate.  The two are stored as one word.
 */
struct hmk_site_peak {
    int64_t live_bytes;         /* what the threads have flushed */
    int64_t peak_bytes;
    uint64_t peak_ns;
    float spread_bytes;         /* variance of allocated_bytes; 0 in exact mode */
    float spread_blocks;        /* variance of allocations */
};

struct hmk_thread {
    uint32_t tid;               /* in place: the thread that uses the slot now or did last */
    uint32_t served;            /* threads that have used the slot */
    uint64_t start_ns;
    int64_t pending_bytes;      /* gathered, not yet added to live.heap (in place) */
    int64_t pending_blocks;
    char name[16];
    uint64_t reserved[2];
};

/*
 * The counters of one (thread slot, site): 64 bytes, written by one thread only, in place.  The reader sums
 * over threads; single values may be negative (freed by another thread than the one that allocated).
 *
 * Share of the peak, O(1) per event: `peak_*` is what was live at the last peak, stored by the first event of
 * the cell after that peak ended.  So at any time the composition of the heap peak is, cell by cell:
 *     heap.rising               -> live now
 *     cell.epoch == heap.epoch  -> peak_bytes, peak_blocks
 *     otherwise                 -> live now (untouched since)
 */
struct hmk_cell {
    uint64_t allocations;
    uint64_t allocated_bytes;   /* requested */
    uint64_t frees;
    uint64_t freed_bytes;
    int64_t peak_bytes;
    uint64_t temporary;         /* blocks freed by the same thread before its next allocation */
    uint32_t epoch;
    int32_t peak_blocks;
    int32_t pending_bytes;      /* not yet added to the site's hmk_site_peak.live_bytes */
    int32_t slack_bytes;        /* usable - requested of live blocks; add up modulo 2^32 */
};

#define HMK_CELLS_PER_PAGE 64u
struct hmk_cell_page {
    struct hmk_cell cell[HMK_CELLS_PER_PAGE];   /* of sites first_site .. first_site + 63 */
};
struct hmk_cell_index {
    uint32_t thread;            /* slot */
    uint32_t first_site;
};

/* Requested sizes of all allocations of one thread slot.  Class of n bytes: 0..32: (n + 15) / 16 for n <= 512;
 * above: 33 + floor(log2(n - 1)) - 9, so class 33 holds 513..1024, 34 holds 1025..2048, ... */
#define HMK_SIZE_CLASSES 64u
struct hmk_histogram {
    uint64_t allocations[HMK_SIZE_CLASSES];
};

/* One point of the timeline: the samples of one interval (the last point still changes, in place).  When the active
 * table is full, pairs are merged into the other one, timeline_active flips and the interval doubles. */
#define HMK_TIMELINE_LIMIT 2048u
struct hmk_sample {
    uint64_t time_ns;
    int64_t live_bytes;         /* at that time */
    int64_t live_bytes_max;     /* within the interval, as far as sampled */
    uint64_t rss_bytes;
    uint64_t rss_bytes_max;
    uint64_t mapped_bytes;      /* live bytes of HMK_KIND_MAPPING sites */
};

enum hmk_event_kind {
    HMK_EVENT_START = 1,
    HMK_EVENT_EXIT = 2,         /* a: status */
    HMK_EVENT_EXEC = 3,         /* text: path */
    HMK_EVENT_EXEC_FAILED = 4,  /* a: errno */
    HMK_EVENT_FORK = 5,         /* a: child's pid */
    HMK_EVENT_MARK = 6,         /* text: label */
    HMK_EVENT_PHASE_BEGIN = 7,  /* text: label */
    HMK_EVENT_PHASE_END = 8,    /* text: label */
    HMK_EVENT_TRIM = 9,         /* a: RSS before, b: RSS after, c: forecast bytes, d: duration ns */
    HMK_EVENT_MODULE_LOAD = 10, /* a: module */
    HMK_EVENT_MODULE_UNLOAD = 11,
    HMK_EVENT_ABORT = 12,
    HMK_EVENT_DEGRADED = 13     /* text: what was switched off and why */
};
#define HMK_EVENT_LIMIT 65536u
struct hmk_event {
    uint64_t time_ns;
    uint32_t kind;              /* enum hmk_event_kind */
    uint32_t tid;
    uint64_t a, b, c, d;
    uint32_t text;              /* string */
    uint32_t live_kib;          /* live heap at that time, KiB */
    int64_t live_bytes;
    uint64_t rss_bytes;         /* 0 = not read */
};

/* ---- census ------------------------------------------------------------------------------------- */

enum hmk_census_kind {
    HMK_CENSUS_EXIT = 1,
    HMK_CENSUS_REQUEST = 2,
    HMK_CENSUS_MARK = 3,
    HMK_CENSUS_TRIM_BEFORE = 4,
    HMK_CENSUS_TRIM_AFTER = 5,
    HMK_CENSUS_RSS_PEAK = 6,
    HMK_CENSUS_DROP = 7
};

/* Why held bytes stay; DESIGN 2 and docs/architecture.md define each. */
enum hmk_cause {
    HMK_CAUSE_RETURNABLE = 0,   /* malloc_trim(0) returns them */
    HMK_CAUSE_PARTIAL = 1,      /* rest of a page that a live block shares */
    HMK_CAUSE_EDGE = 2,         /* whole free page, but its run starts on it or is too short */
    HMK_CAUSE_CACHED = 3,       /* tcache and fastbin chunks: free for us, in use for the allocator */
    HMK_CAUSE_TOP = 4,          /* the part of returnable kept in the main top by the trim threshold */
    HMK_CAUSE_STUCK_TOP = 5,    /* top of an arena other than the main one */
    HMK_CAUSE_ARENA = 6,        /* of CPython's arenas, what no block in use covers; a live block keeps each of them */
    HMK_CAUSE_FOREIGN = 7,      /* another allocator's cache */
    HMK_CAUSE_UNKNOWN = 8,      /* resident, never owned by a block we saw: top pad, huge-page fill */
    HMK_CAUSES = 12
};

enum hmk_census_flag {
    HMK_CENSUS_WALKED = 1u << 0,    /* the chunk walk was accepted for every arena: forecast_walk_bytes is valid */
    HMK_CENSUS_MOVING = 1u << 1,    /* the heap changed by more than 1 % under the scan */
    HMK_CENSUS_NOT_CLOSED = 1u << 2,/* an identity did not close: numbers marked unknown */
    HMK_CENSUS_NO_CHUNKS = 1u << 3, /* the allocator's chunks cannot be walked (not glibc) */
    HMK_CENSUS_ROWS_CUT = 1u << 4,  /* not all rows fitted; the largest ones are there */
    HMK_CENSUS_SAMPLED = 1u << 5,   /* most live blocks are not in the map: who freed what is held is not told */
    HMK_CENSUS_EXACT = 1u << 6,     /* taken in a forked child: nothing moved */
    HMK_CENSUS_ESTIMATED = 1u << 7  /* with SAMPLED, since minor version 2: rows have live and pin_share_bytes, estimated, and there
                                     * are pins at the top of the heap, by the chunks; without it neither */
};

/* Resident bytes of one arena; 0 is the main one.  The last place adds up all arenas that have no place of their own. */
#define HMK_CENSUS_ARENAS 8u
struct hmk_census_arena {
    uint64_t resident_bytes;
    uint64_t live_bytes;        /* with slack and headers */
    uint64_t held_bytes;
    uint64_t forecast_bytes;    /* the part of it that malloc_trim(0) returns */
    uint64_t cached_bytes;      /* HMK_CAUSE_CACHED */
    uint64_t stuck_bytes;       /* HMK_CAUSE_STUCK_TOP */
    uint64_t heaps;
};

#define HMK_FILLS 8u
struct hmk_census {
    uint32_t sequence;          /* odd: being written; even and not 0: complete */
    uint32_t kind;              /* enum hmk_census_kind */
    uint32_t flags;             /* enum hmk_census_flag */
    uint32_t label;             /* string */
    uint64_t time_ns;
    uint64_t cost_ns;           /* wall time it took */
    /* the kernel's word at the same instant */
    uint64_t rss_bytes, rss_anon_bytes, rss_file_bytes, rss_shmem_bytes, rss_hwm_bytes, swap_bytes, vm_bytes;
    uint64_t huge_bytes;        /* AnonHugePages over the heap's extents */
    /* the ledger: these sum to rss_bytes */
    uint64_t live_bytes;        /* requested bytes of live blocks that are resident */
    uint64_t slack_bytes;       /* usable - requested, and chunk headers, of live blocks; resident */
    uint64_t held_bytes[HMK_CAUSES];
    uint64_t metadata_bytes;    /* the allocator's own structures */
    uint64_t mapped_bytes;      /* anonymous mappings made by the program */
    uint64_t file_bytes;        /* file mappings: code, data of modules, mapped files */
    uint64_t shared_bytes;      /* shared memory */
    uint64_t stack_bytes;
    uint64_t self_bytes;        /* heapmark itself */
    int64_t unexplained_bytes;
    /* the heap */
    uint64_t heap_extent_bytes; /* address space of all heaps */
    uint64_t heap_resident_bytes;
    uint64_t heap_held_bytes;   /* sum of held_bytes, HMK_CAUSE_ARENA apart: that is not in the heap */
    uint64_t held_page_bytes;   /* pages wholly held */
    uint64_t live_block_count;
    uint64_t nonresident_live_bytes;
    uint32_t arena_count;       /* including the main one */
    uint32_t heap_count;
    uint64_t forecast_map_bytes;   /* malloc_trim(0) by the block map alone; with NO_CHUNKS an upper bound of any purge */
    uint64_t forecast_walk_bytes;  /* by the chunk walk */
    uint64_t would_map_bytes;   /* held bytes whose last owner was >= 128 KiB: not held with MALLOC_MMAP_THRESHOLD_=131072 */
    int64_t identity[6];        /* all to be 0, in bytes. 0: live blocks by the map against the recorder's counters; 1: causes
                                 * and metadata against the resident heap in no live block; 2: the columns of the ledger against
                                 * rss_bytes; 3: missed frees (blocks); 4: held bytes by site against the heap's; 5: live,
                                 * slack and held bytes against the heap's resident pages */
    /* rows, sorted by nothing */
    uint64_t row_first;         /* record of HMK_CENSUS_ROWS */
    uint64_t row_count;
    uint64_t row_capacity;      /* reserved from row_first on; a slot that is rewritten reuses it */
    uint64_t pin_first;         /* record of HMK_PINS */
    uint64_t pin_count;
    uint64_t pin_capacity;
    uint64_t live_before, live_after;   /* heap live bytes at the start and the end of the scan */
    uint64_t trim_threshold_bytes;      /* main top's size: what is kept although returnable */
    struct hmk_census_arena arena[HMK_CENSUS_ARENAS]; /* the first arena_count of them */
    /* CPython's arenas (pymalloc), as far as their pools' headers prove them to be some; blocks count with their slots */
    uint64_t python_live_bytes;         /* of the ledger: blocks in use, resident */
    uint64_t python_arena_bytes;        /* resident: python_live_bytes and held_bytes[HMK_CAUSE_ARENA] */
    uint64_t python_live_blocks;
    uint64_t python_slot_bytes;         /* free blocks in pools in use, resident or not */
    uint64_t python_free_pool_bytes;    /* resident bytes of pools without a block in use */
    uint32_t python_arena_count;
    uint32_t python_pool_count;         /* pools with a block in use */
    uint32_t python_free_pool_count;    /* without, never used ones included */
    uint32_t python_sparse_count;       /* arenas of which at most a quarter is in use */
    uint64_t python_sparse_bytes;       /* resident bytes of those */
    uint64_t python_sparse_live_bytes;  /* blocks in use in them; HMK_PIN_ARENA tells their types */
    uint64_t python_sparse_blocks;
    uint64_t python_seen_blocks;        /* of those, looked at */
    uint32_t python_fill_count[HMK_FILLS];      /* arenas of which up to 1, 5, 10, 25, 50, 75, 90, 100 % are in use */
    uint64_t python_fill_held[HMK_FILLS];       /* their resident bytes that no block in use covers */
    float live_spread;          /* since minor version 2.  Sampled mode: variance of live_bytes, which is estimated; else 0 */
    float slack_spread;         /* of slack_bytes.  With WALKED the sum of both is exact, so that the two are the same */
    uint8_t reserved[2048 - 1104];
};

struct hmk_census_row {
    uint32_t site;
    float pin_share_spread;     /* variance of pin_share_bytes; 0 in exact mode, and before minor version 2 */
    uint64_t live_bytes;        /* requested, resident or not */
    uint64_t live_blocks;
    uint64_t held_bytes;        /* R_S: resident bytes last owned by a freed block of this site */
    uint64_t held_page_bytes;   /* the part of it on pages without any live block */
    uint64_t pin_sole_bytes;    /* held bytes on pages whose live bytes are all of this site */
    uint64_t pin_share_bytes;   /* share by live bytes of held bytes on pages it shares */
    uint64_t mapped_bytes;      /* resident bytes of mappings made at this site */
};

enum hmk_pin_kind {
    HMK_PIN_TOP = 1,            /* holds the top of the main heap: rung of the ladder */
    HMK_PIN_TOP_CACHED = 2,     /* no live block, but a cached free chunk sits under the top */
    HMK_PIN_PAGES = 3,
    HMK_PIN_ARENA = 4           /* objects of one type in CPython's arenas of which at most a quarter is in use */
};
enum hmk_pin_flag {
    HMK_PIN_RETURNS_ITSELF = 1u << 0, /* freeing it returns the memory; else a trim is needed */
    HMK_PIN_RETURNABLE = 1u << 1,     /* malloc_trim(0) returns the gain even while the pin lives */
    HMK_PIN_UNSAMPLED = 1u << 2       /* since minor version 2: blocks that were not sampled are among them: of these the site
                                       * is unknown, and bytes counts their chunks; site 0: all of them are */
};
struct hmk_pin {
    uint32_t kind;              /* enum hmk_pin_kind */
    uint32_t flags;             /* enum hmk_pin_flag */
    uint32_t site;              /* of the pinning blocks; HMK_PIN_ARENA: that mapped most of those arenas */
    uint32_t arena;             /* 0 = main; HMK_PIN_ARENA: how many arenas these objects are in */
    uint64_t blocks;            /* HMK_PIN_ARENA: in the arenas that go with these sets; without a gain: in all */
    uint64_t bytes;             /* requested bytes of the pinning blocks; HMK_PIN_ARENA: their slots */
    uint64_t gain_bytes;        /* held bytes that could go if this set went */
    uint64_t cumulative_bytes;  /* with all sets of its kind before it in the list */
    uint64_t address;           /* of the highest block of the set; HMK_PIN_ARENA: string: the type, empty: no object */
    uint64_t largest_bytes;     /* chunk size of that block; HMK_PIN_ARENA: all that RSS would lose, objects included */
};

#ifdef __cplusplus
#define HMK_ASSERT_SIZE(type, bytes)
#else
#define HMK_ASSERT_SIZE(type, bytes) _Static_assert(sizeof(type) == (bytes), #type)
#endif
HMK_ASSERT_SIZE(struct hmk_header, 4096);
HMK_ASSERT_SIZE(struct hmk_heap, 56);
HMK_ASSERT_SIZE(struct hmk_half, 40);
HMK_ASSERT_SIZE(struct hmk_live, 4096);
HMK_ASSERT_SIZE(struct hmk_table, 256);
HMK_ASSERT_SIZE(struct hmk_module, 80);
HMK_ASSERT_SIZE(struct hmk_frame, 16);
HMK_ASSERT_SIZE(struct hmk_code, 32);
HMK_ASSERT_SIZE(struct hmk_site, 16);
HMK_ASSERT_SIZE(struct hmk_site_peak, 32);
HMK_ASSERT_SIZE(struct hmk_thread, 64);
HMK_ASSERT_SIZE(struct hmk_cell, 64);
HMK_ASSERT_SIZE(struct hmk_cell_page, 4096);
HMK_ASSERT_SIZE(struct hmk_cell_index, 8);
HMK_ASSERT_SIZE(struct hmk_histogram, 512);
HMK_ASSERT_SIZE(struct hmk_sample, 48);
HMK_ASSERT_SIZE(struct hmk_event, 72);
HMK_ASSERT_SIZE(struct hmk_census_arena, 56);
HMK_ASSERT_SIZE(struct hmk_census, 2048);
HMK_ASSERT_SIZE(struct hmk_census_row, 64);
HMK_ASSERT_SIZE(struct hmk_pin, 64);

#endif
