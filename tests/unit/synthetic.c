/* SPDX-License-Identifier: MIT */
#include "synthetic.h"

#include "contract/publish.h"
#include <stdlib.h>
#include <string.h>

#define SECOND UINT64_C(1000000000)
#define START_NS (1000 * SECOND)
#define PAGE 4096u

static const struct {
    uint32_t record_bytes, first_records;
} shapes[HMK_TABLE_SLOTS] = {
    [HMK_STRINGS] = { 1, 128 },
    [HMK_MODULES] = { sizeof(struct hmk_module), 2 },
    [HMK_FRAMES] = { sizeof(struct hmk_frame), 4 },
    [HMK_SITES] = { sizeof(struct hmk_site), 4 },
    [HMK_SITE_PEAKS] = { sizeof(struct hmk_site_peak), 4 },
    [HMK_THREADS] = { sizeof(struct hmk_thread), 1 },
    [HMK_CELL_INDEX] = { sizeof(struct hmk_cell_index), 2 },
    [HMK_CELLS] = { sizeof(struct hmk_cell_page), 1 },
    [HMK_TIMELINE_0] = { sizeof(struct hmk_sample), 16 },
    [HMK_TIMELINE_1] = { sizeof(struct hmk_sample), 16 },
    [HMK_EVENTS] = { sizeof(struct hmk_event), 4 },
    [HMK_CENSUSES] = { sizeof(struct hmk_census), 2 },
    [HMK_CENSUS_ROWS] = { sizeof(struct hmk_census_row), 4 },
    [HMK_HISTOGRAMS] = { sizeof(struct hmk_histogram), 1 },
    [HMK_CODES] = { sizeof(struct hmk_code), 2 },
    [HMK_PINS] = { sizeof(struct hmk_pin), 2 },
};

static void *checked(void *memory)
{
    if (!memory)
        abort();
    return memory;
}

static void *push(struct synthetic_table *table, uint64_t count)
{
    if (table->count + count > table->capacity) {
        table->capacity = (table->count + count) * 2;
        table->bytes = checked(realloc(table->bytes, table->capacity * table->record_bytes));
    }
    unsigned char *at = table->bytes + table->count * table->record_bytes;
    memset(at, 0, count * table->record_bytes);
    table->count += count;
    return at;
}

uint64_t synthetic_add(struct synthetic *s, enum hmk_table_id id, const void *record)
{
    memcpy(push(&s->table[id], 1), record, s->table[id].record_bytes);
    return s->table[id].count - 1;
}

void *synthetic_record(struct synthetic *s, enum hmk_table_id id, uint64_t index)
{
    return s->table[id].bytes + index * s->table[id].record_bytes;
}

uint32_t synthetic_string(struct synthetic *s, const char *text)
{
    struct synthetic_table *table = &s->table[HMK_STRINGS];
    size_t length = strlen(text) + 1;

    if (length == 1)
        return 0;
    /* A string does not cross the end of a chunk. */
    for (;;) {
        unsigned chunk = hmk_chunk_of(table->count, table->first_records);
        uint64_t end = hmk_chunk_first(chunk + 1, table->first_records);
        if (table->count + length <= end)
            break;
        push(table, end - table->count);
    }
    uint32_t offset = (uint32_t)table->count;
    memcpy(push(table, length), text, length);
    return offset;
}

uint32_t synthetic_module(struct synthetic *s, const char *path, uint64_t base)
{
    struct hmk_module module = { .base = base, .start = base, .end = base + 0x100000, .load_ns = START_NS,
                                 .path = synthetic_string(s, path), .build_id_bytes = 4,
                                 .build_id = { 0xde, 0xad, 0xbe, 0xef } };
    return (uint32_t)synthetic_add(s, HMK_MODULES, &module) + 1;
}

uint32_t synthetic_frame(struct synthetic *s, uint32_t parent, uint32_t module, uint64_t code)
{
    struct hmk_frame frame = { .code = code, .parent = parent, .ref = module };
    return (uint32_t)synthetic_add(s, HMK_FRAMES, &frame);
}

uint32_t synthetic_site(struct synthetic *s, uint32_t frame, uint32_t flags)
{
    struct hmk_site site = { .frame = frame, .flags = flags, .first_ns = START_NS };
    struct hmk_site_peak peak = { 0 };
    synthetic_add(s, HMK_SITE_PEAKS, &peak);
    return (uint32_t)synthetic_add(s, HMK_SITES, &site);
}

uint32_t synthetic_thread(struct synthetic *s, const char *name)
{
    struct hmk_thread thread = { .tid = 4194304 + (uint32_t)s->table[HMK_THREADS].count, .served = 1,
                                 .start_ns = START_NS };
    struct hmk_histogram histogram = { { 0 } };
    strncpy(thread.name, name, sizeof thread.name - 1);
    synthetic_add(s, HMK_HISTOGRAMS, &histogram);
    return (uint32_t)synthetic_add(s, HMK_THREADS, &thread);
}

struct hmk_cell *synthetic_cell(struct synthetic *s, uint32_t thread, uint32_t site)
{
    uint32_t first_site = site - site % HMK_CELLS_PER_PAGE;
    uint64_t page = s->table[HMK_CELL_INDEX].count;

    /* The newest first: sites are mostly counted in the order in which they were made. */
    for (uint64_t left = page; left-- > 0 && page == s->table[HMK_CELL_INDEX].count; ) {
        const struct hmk_cell_index *index = synthetic_record(s, HMK_CELL_INDEX, left);
        if (index->thread == thread && index->first_site == first_site)
            page = left;
    }
    if (page == s->table[HMK_CELL_INDEX].count) {
        struct hmk_cell_index index = { thread, first_site };
        synthetic_add(s, HMK_CELL_INDEX, &index);
        push(&s->table[HMK_CELLS], 1);
    }
    return &((struct hmk_cell_page *)synthetic_record(s, HMK_CELLS, page))->cell[site - first_site];
}

void synthetic_event(struct synthetic *s, uint64_t at_ms, uint32_t kind, const char *text, uint64_t a, uint64_t b)
{
    struct hmk_event event = { .time_ns = START_NS + at_ms * 1000000, .kind = kind, .tid = 4194304, .a = a, .b = b,
                               .text = synthetic_string(s, text) };
    synthetic_add(s, HMK_EVENTS, &event);
}

void synthetic_sample(struct synthetic *s, uint64_t at_ms, int64_t live_bytes, uint64_t rss_bytes)
{
    struct hmk_sample sample = { .time_ns = START_NS + at_ms * 1000000, .live_bytes = live_bytes,
                                 .live_bytes_max = live_bytes + 4096, .rss_bytes = rss_bytes,
                                 .rss_bytes_max = rss_bytes + 4096 };
    synthetic_add(s, HMK_TIMELINE_0, &sample);
}

void synthetic_start(struct synthetic *s)
{
    memset(s, 0, sizeof *s);
    for (unsigned id = 0; id < HMK_TABLE_SLOTS; id++) {
        s->table[id].record_bytes = shapes[id].record_bytes;
        s->table[id].first_records = shapes[id].first_records;
    }
    push(&s->table[HMK_STRINGS], 1);
    push(&s->table[HMK_FRAMES], 1);
    for (unsigned site = 0; site < HMK_SITE_FIRST; site++)
        synthetic_site(s, 0, HMK_KIND_HEAP);
    synthetic_thread(s, "tool");
    s->header = (struct hmk_header){
        .version = HMK_VERSION, .minor = HMK_MINOR, .byte_order = HMK_BYTE_ORDER, .header_bytes = HMK_HEADER_BYTES,
        .page_bytes = PAGE, .pid = 4194304, .ppid = 1, .root_pid = 4194304, .machine = 62,
        .start_realtime_ns = UINT64_C(1700000000) * SECOND, .start_ns = START_NS, .process_start_ticks = 7,
        .depth_max = 256, .exe = synthetic_string(s, "/usr/bin/tool"),
        .command = synthetic_string(s, "tool --work input.json"), .cwd = synthetic_string(s, "/home/user"),
        .host = synthetic_string(s, "host"), .libc = synthetic_string(s, "glibc 2.36"),
        .unwinder = synthetic_string(s, "fast"), .tool_version = "0.1.0",
    };
    memcpy(s->header.magic, HMK_MAGIC, sizeof s->header.magic);
    s->live = (struct hmk_live){ .state = HMK_STATE_EXITED, .timeline_interval_ns = SECOND / 10,
                                 .last_ns = START_NS + 10 * SECOND, .end_ns = START_NS + 10 * SECOND };
}

unsigned char *synthetic_finish(struct synthetic *s, size_t *size)
{
    size_t capacity = 1 << 16, used = HMK_HEADER_BYTES;
    unsigned char *file = checked(calloc(1, capacity));
    struct hmk_table directory[HMK_TABLE_SLOTS] = { { 0 } };

    for (unsigned id = 0; id < HMK_TABLE_SLOTS; id++) {
        struct synthetic_table *table = &s->table[id];
        directory[id].record_bytes = table->record_bytes;
        directory[id].first_records = table->first_records;
        directory[id].count = table->count;
        for (unsigned chunk = 0; table->count > 0 && hmk_chunk_first(chunk, table->first_records) < table->count; chunk++) {
            uint64_t first = hmk_chunk_first(chunk, table->first_records);
            uint64_t records = hmk_chunk_records(chunk, table->first_records), left = table->count - first;
            size_t bytes = records * table->record_bytes, whole = (bytes + PAGE - 1) / PAGE * PAGE;
            while (used + whole > capacity) {
                file = checked(realloc(file, capacity * 2));
                memset(file + capacity, 0, capacity);
                capacity *= 2;
            }
            memcpy(file + used, table->bytes + first * table->record_bytes,
                   (left < records ? left : records) * table->record_bytes);
            directory[id].chunk_offset[chunk] = used;
            used += whole;
        }
        free(table->bytes);
    }
    s->live.file_bytes = used;
    memcpy(file, &s->header, sizeof s->header);
    memcpy(file + HMK_LIVE_OFFSET, &s->live, sizeof s->live);
    memcpy(file + HMK_TABLES_OFFSET, directory, sizeof directory);
    memset(s, 0, sizeof *s);
    *size = used;
    return file;
}

/* ---- whole recordings --------------------------------------------------------------------------- */

#define MIB(n) ((uint64_t)(n) << 20)

static void count(struct synthetic *s, uint32_t site, uint64_t allocations, uint64_t bytes, uint64_t frees,
                  uint64_t freed_bytes, int64_t peak_blocks, int64_t peak_bytes)
{
    struct hmk_site_peak *peak = synthetic_record(s, HMK_SITE_PEAKS, site);
    *synthetic_cell(s, 0, site) = (struct hmk_cell){
        .allocations = allocations, .allocated_bytes = bytes, .frees = frees, .freed_bytes = freed_bytes,
        .peak_blocks = (int32_t)peak_blocks, .peak_bytes = peak_bytes, .epoch = s->live.heap.epoch,
    };
    peak->peak_bytes = peak_bytes;
    peak->live_bytes = (int64_t)(bytes - freed_bytes);
    peak->peak_ns = START_NS + 4 * SECOND;
}

static void add_row(struct synthetic *s, struct hmk_census *census, uint32_t site, uint64_t held, uint64_t mapped)
{
    struct hmk_census_row row = { .site = site, .held_bytes = held, .held_page_bytes = held / 2,
                                  .pin_share_bytes = held / 8, .mapped_bytes = mapped };
    uint64_t index = synthetic_add(s, HMK_CENSUS_ROWS, &row);
    if (census->row_count++ == 0)
        census->row_first = index;
}

void synthetic_pinned(struct synthetic *s)
{
    synthetic_start(s);
    uint32_t tool = synthetic_module(s, "/usr/bin/tool", 0x555500000000), lib = synthetic_module(s, "/usr/lib/libjson.so.1",
                                                                                             0x7f0000000000);
    uint32_t start = synthetic_frame(s, 0, tool, 0x555500001100), parse = synthetic_frame(s, start, lib, 0x7f0000002200);
    uint32_t big = synthetic_site(s, synthetic_frame(s, parse, lib, 0x7f0000003300), HMK_KIND_HEAP);
    uint32_t small = synthetic_site(s, synthetic_frame(s, parse, lib, 0x7f0000004400), HMK_KIND_HEAP);

    s->live.heap = (struct hmk_heap){ .live_bytes = 624, .live_blocks = 1, .peak_bytes = (int64_t)MIB(800) + 624,
                                      .peak_blocks = 1000001, .peak_ns = START_NS + 4 * SECOND, .epoch = 3 };
    count(s, big, 1000000, MIB(800), 1000000, MIB(800), 1000000, (int64_t)MIB(800));
    count(s, small, 1, 624, 0, 0, 1, 624);
    synthetic_cell(s, 0, big)->temporary = 12;
    ((struct hmk_histogram *)synthetic_record(s, HMK_HISTOGRAMS, 0))->allocations[hmk_size_class(838)] = 1000000;
    ((struct hmk_histogram *)synthetic_record(s, HMK_HISTOGRAMS, 0))->allocations[hmk_size_class(624)] = 1;
    s->live.rss_start_bytes = MIB(2);
    s->live.rss_last_bytes = MIB(900);
    s->live.rss_peak_bytes = MIB(905);
    s->live.rss_peak_ns = START_NS + 4 * SECOND;
    s->live.self_bytes = MIB(20);
    for (uint64_t at = 0; at < 40; at++)
        synthetic_sample(s, at * 250, at < 16 ? (int64_t)MIB(at * 50) : 624, at < 16 ? MIB(20 + at * 50) : MIB(900));
    synthetic_event(s, 5000, HMK_EVENT_MARK, "parsed", 0, 0);
    synthetic_event(s, 6000, HMK_EVENT_TRIM, "", MIB(901), MIB(900));
    ((struct hmk_event *)synthetic_record(s, HMK_EVENTS, 1))->c = MIB(1);
    ((struct hmk_event *)synthetic_record(s, HMK_EVENTS, 1))->d = 2000000;

    struct hmk_census census = { .sequence = 2, .kind = HMK_CENSUS_EXIT, .flags = HMK_CENSUS_WALKED,
                                 .time_ns = START_NS + 10 * SECOND, .cost_ns = 12000000, .rss_bytes = MIB(900),
                                 .rss_anon_bytes = MIB(890), .rss_file_bytes = MIB(10), .rss_hwm_bytes = MIB(905),
                                 .vm_bytes = MIB(1000), .live_bytes = 624, .slack_bytes = 1424, .metadata_bytes = 0,
                                 .file_bytes = MIB(10), .stack_bytes = MIB(1), .self_bytes = MIB(20),
                                 .heap_extent_bytes = MIB(869), .heap_resident_bytes = MIB(869), .arena_count = 1,
                                 .heap_count = 1, .live_block_count = 1, .forecast_map_bytes = MIB(868),
                                 .forecast_walk_bytes = MIB(868) - 4096, .would_map_bytes = 0 };
    census.held_bytes[HMK_CAUSE_RETURNABLE] = MIB(868) - 4096;
    census.held_bytes[HMK_CAUSE_PARTIAL] = 4096 - 2048;
    census.held_bytes[HMK_CAUSE_UNKNOWN] = MIB(1);
    census.heap_held_bytes = MIB(869) - 2048;
    add_row(s, &census, big, MIB(868) - 2048, 0);
    struct hmk_pin pin = { .kind = HMK_PIN_TOP, .flags = HMK_PIN_RETURNABLE, .site = small, .blocks = 1, .bytes = 624,
                           .gain_bytes = MIB(868) - 8192, .cumulative_bytes = MIB(868) - 8192,
                           .address = 0x555540000010, .largest_bytes = 640 };
    census.pin_first = synthetic_add(s, HMK_PINS, &pin);
    census.pin_count = 1;
    synthetic_add(s, HMK_CENSUSES, &census);
    census.sequence = 5;    /* was being rewritten at the end */
    census.time_ns++;
    synthetic_add(s, HMK_CENSUSES, &census);
}

void synthetic_leak(struct synthetic *s)
{
    synthetic_start(s);
    uint32_t tool = synthetic_module(s, "/usr/bin/tool", 0x555500000000);
    uint32_t start = synthetic_frame(s, 0, tool, 0x555500001100);
    uint32_t leak = synthetic_site(s, synthetic_frame(s, start, tool, 0x555500002200), HMK_KIND_HEAP);
    uint32_t work = synthetic_site(s, synthetic_frame(s, start, tool, 0x555500003300), HMK_KIND_HEAP);

    s->live.heap = (struct hmk_heap){ .live_bytes = (int64_t)MIB(64), .live_blocks = 65536,
                                      .peak_bytes = (int64_t)MIB(64), .peak_blocks = 65536,
                                      .peak_ns = START_NS + 100 * SECOND, .epoch = 9, .rising = 1 };
    count(s, leak, 65536, MIB(64), 0, 0, 0, 0);
    count(s, work, 500000, MIB(500), 500000, MIB(500), 0, 0);
    s->live.state = HMK_STATE_RUNNING;
    s->live.end_ns = 0;
    s->live.last_ns = START_NS + 100 * SECOND;
    s->live.exit_status = -1;
    s->live.rss_last_bytes = s->live.rss_peak_bytes = MIB(80);
    s->live.rss_peak_ns = START_NS + 100 * SECOND;
    s->live.self_bytes = MIB(10);
    for (uint64_t at = 0; at < 64; at++)
        synthetic_sample(s, at * 1500, (int64_t)MIB(at + 1), MIB(at + 17));
}

/* A block's life seen by two threads: the first allocates, the second frees most. */
static void share_between_threads(struct synthetic *s, uint32_t site)
{
    *synthetic_cell(s, 0, site) = (struct hmk_cell){ .allocations = 1000, .allocated_bytes = MIB(100),
                                                     .peak_bytes = (int64_t)MIB(100), .peak_blocks = 1000, .epoch = 7,
                                                     .slack_bytes = 16000 };
    *synthetic_cell(s, 1, site) = (struct hmk_cell){ .frees = 900, .freed_bytes = MIB(90), .epoch = 7,
                                                     .peak_bytes = -(int64_t)MIB(20), .peak_blocks = -200,
                                                     .slack_bytes = -14400, .temporary = 3 };
}

void synthetic_threads(struct synthetic *s)
{
    synthetic_start(s);
    synthetic_thread(s, "worker\033[31m");
    uint32_t tool = synthetic_module(s, "/opt/app/bin/server", 0x400000);
    uint32_t start = synthetic_frame(s, 0, tool, 0x401100);
    uint32_t queue = synthetic_site(s, synthetic_frame(s, start, tool, 0x402200), HMK_KIND_HEAP | HMK_SITE_CUT);
    uint32_t jit = synthetic_site(s, synthetic_frame(s, start, 0, 0x7fff00001000), HMK_KIND_HEAP | HMK_SITE_INCOMPLETE);
    uint32_t map = synthetic_site(s, synthetic_frame(s, start, tool, 0x403300), HMK_KIND_MAPPING);

    s->live.heap = (struct hmk_heap){ .live_bytes = (int64_t)MIB(11), .live_blocks = 356,
                                      .peak_bytes = (int64_t)MIB(81), .peak_blocks = 900,
                                      .peak_ns = START_NS + 3 * SECOND, .epoch = 7, .flush_bytes = 65536,
                                      .threads_seen = 2 };
    share_between_threads(s, queue);
    *synthetic_cell(s, 0, jit) = (struct hmk_cell){ .allocations = 300, .allocated_bytes = MIB(3), .frees = 44,
                                                    .freed_bytes = MIB(2), .epoch = 2 };
    *synthetic_cell(s, 0, map) = (struct hmk_cell){ .allocations = 2, .allocated_bytes = MIB(32), .epoch = 2 };
    s->live.rss_last_bytes = MIB(150);
    s->live.rss_peak_bytes = MIB(190);
    s->live.rss_peak_ns = START_NS + 3 * SECOND;
    s->live.self_bytes = MIB(12);
    s->live.exit_status = 3;
    s->live.lost_sites = 17;
    s->live.cut_stacks = 1;
    s->live.stop_reason = HMK_STOP_DISK_FULL;
    for (uint64_t at = 0; at < 20; at++)
        synthetic_sample(s, at * 500, (int64_t)MIB(at == 6 ? 80 : 10), at == 6 ? MIB(188) : MIB(150));
    synthetic_event(s, 1000, HMK_EVENT_PHASE_BEGIN, "load", 0, 0);
    synthetic_event(s, 2000, HMK_EVENT_PHASE_BEGIN, "parse", 0, 0);
    synthetic_event(s, 4000, HMK_EVENT_PHASE_END, "parse", 0, 0);
    synthetic_event(s, 5000, HMK_EVENT_PHASE_END, "load", 0, 0);
    synthetic_event(s, 6000, HMK_EVENT_PHASE_BEGIN, "serve", 0, 0);
    synthetic_event(s, 7000, HMK_EVENT_FORK, "", 4711, 0);
    synthetic_event(s, 8000, HMK_EVENT_DEGRADED, "stacks: depth lowered to 64", 0, 0);

    struct hmk_census peak = { .sequence = 2, .kind = HMK_CENSUS_RSS_PEAK, .time_ns = START_NS + 3 * SECOND,
                               .cost_ns = 3000000, .rss_bytes = MIB(190), .rss_hwm_bytes = MIB(190),
                               .live_bytes = MIB(80), .slack_bytes = MIB(1), .file_bytes = MIB(20),
                               .mapped_bytes = MIB(30), .self_bytes = MIB(12), .stack_bytes = MIB(1),
                               .unexplained_bytes = (int64_t)MIB(1), .arena_count = 9, .heap_count = 9 };
    peak.held_bytes[HMK_CAUSE_STUCK_TOP] = MIB(45);
    synthetic_add(s, HMK_CENSUSES, &peak);
    struct hmk_census census = { .sequence = 4, .kind = HMK_CENSUS_EXIT, .flags = HMK_CENSUS_MOVING,
                                 .time_ns = START_NS + 9 * SECOND, .cost_ns = 4000000, .rss_bytes = MIB(150),
                                 .rss_hwm_bytes = MIB(190), .live_bytes = MIB(10), .slack_bytes = MIB(1),
                                 .file_bytes = MIB(20), .mapped_bytes = MIB(30), .self_bytes = MIB(12),
                                 .stack_bytes = MIB(1), .metadata_bytes = MIB(1), .huge_bytes = MIB(2),
                                 .arena_count = 9, .heap_count = 9, .forecast_map_bytes = MIB(1) };
    census.held_bytes[HMK_CAUSE_STUCK_TOP] = MIB(70);
    census.held_bytes[HMK_CAUSE_CACHED] = MIB(5);
    for (unsigned i = 0; i < HMK_CENSUS_ARENAS; i++)
        census.arena[i] = (struct hmk_census_arena){ .resident_bytes = MIB(10 + i), .live_bytes = MIB(1),
                                                     .held_bytes = MIB(9 + i), .stuck_bytes = i ? MIB(8) : 0,
                                                     .heaps = i == HMK_CENSUS_ARENAS - 1 ? 2 : 1 };
    s->live.spent_ns = SECOND / 2;
    s->live.cpu_ns = 8 * SECOND;
    add_row(s, &census, queue, MIB(74), 0);
    add_row(s, &census, map, 0, MIB(30));
    synthetic_add(s, HMK_CENSUSES, &census);
}

/* Of 60 MiB, what the chunk walk tells, and what of it is estimated. */
static void add_sampled_census(struct synthetic *s, uint32_t small, uint32_t large)
{
    struct hmk_census census = { .sequence = 2, .kind = HMK_CENSUS_EXIT,
                                 .flags = HMK_CENSUS_WALKED | HMK_CENSUS_SAMPLED | HMK_CENSUS_ESTIMATED,
                                 .time_ns = START_NS + 9 * SECOND, .cost_ns = 5000000, .rss_bytes = MIB(60),
                                 .rss_anon_bytes = MIB(56), .rss_file_bytes = MIB(4), .rss_hwm_bytes = MIB(90),
                                 .live_bytes = MIB(38), .slack_bytes = MIB(3) / 2, .file_bytes = MIB(4),
                                 .stack_bytes = MIB(1) / 2, .self_bytes = MIB(1), .metadata_bytes = MIB(1),
                                 .heap_resident_bytes = MIB(54), .heap_held_bytes = MIB(14), .live_block_count = 25001,
                                 .arena_count = 1, .heap_count = 1, .forecast_map_bytes = MIB(8), .forecast_walk_bytes = MIB(8),
                                 .live_spread = (float)MIB(1) * (float)MIB(1) / 16,
                                 .slack_spread = (float)MIB(1) * (float)MIB(1) / 16 };
    census.held_bytes[HMK_CAUSE_RETURNABLE] = MIB(8);
    census.held_bytes[HMK_CAUSE_PARTIAL] = MIB(6);
    struct hmk_census_row rows[2] = {
        { .site = small, .live_bytes = MIB(25), .live_blocks = 25000, .pin_share_bytes = MIB(5),
          .pin_share_spread = (float)MIB(1) * (float)MIB(1) },
        { .site = large, .live_bytes = MIB(15), .live_blocks = 1, .pin_share_bytes = 2000 } };
    struct hmk_pin pins[2] = {
        { .kind = HMK_PIN_TOP, .flags = HMK_PIN_RETURNABLE | HMK_PIN_UNSAMPLED, .blocks = 1, .bytes = 640, .gain_bytes = MIB(5),
          .cumulative_bytes = MIB(5), .address = 0x555540000010, .largest_bytes = 640 },
        { .kind = HMK_PIN_TOP, .flags = HMK_PIN_RETURNABLE | HMK_PIN_UNSAMPLED, .site = small, .blocks = 300, .bytes = MIB(1),
          .gain_bytes = MIB(3), .cumulative_bytes = MIB(8), .address = 0x555530000010, .largest_bytes = 640 } };
    census.row_first = synthetic_add(s, HMK_CENSUS_ROWS, &rows[0]);
    synthetic_add(s, HMK_CENSUS_ROWS, &rows[1]);
    census.pin_first = synthetic_add(s, HMK_PINS, &pins[0]);
    synthetic_add(s, HMK_PINS, &pins[1]);
    census.row_count = census.pin_count = 2;
    synthetic_add(s, HMK_CENSUSES, &census);
}

void synthetic_sampled(struct synthetic *s)
{
    synthetic_start(s);
    uint32_t tool = synthetic_module(s, "/usr/bin/tool", 0x555500000000);
    uint32_t start = synthetic_frame(s, 0, tool, 0x555500001100);
    uint32_t small = synthetic_site(s, synthetic_frame(s, start, tool, 0x555500002200), HMK_KIND_HEAP | HMK_SITE_SAMPLED);
    uint32_t large = synthetic_site(s, synthetic_frame(s, start, tool, 0x555500003300), HMK_KIND_HEAP | HMK_SITE_SAMPLED);

    s->header.flags |= HMK_FLAG_SAMPLED;
    s->header.sample_bytes = 512 * 1024;
    s->live.heap = (struct hmk_heap){ .live_bytes = (int64_t)MIB(40), .live_blocks = 25001, .peak_bytes = (int64_t)MIB(80),
                                      .peak_blocks = 65001, .peak_ns = START_NS + 3 * SECOND, .epoch = 7 };
    count(s, small, 100000, MIB(100), 75000, MIB(75), 65000, (int64_t)MIB(65));
    count(s, large, 1, MIB(15), 0, 0, 1, (int64_t)MIB(15));
    struct hmk_site_peak *spread = synthetic_record(s, HMK_SITE_PEAKS, small);
    spread->spread_bytes = (float)MIB(100) * (float)MIB(1) / 4;     /* 400 samples of 256 KiB */
    spread->spread_blocks = 100000.0f * 250;
    s->live.half[0] = (struct hmk_half){ .live_bytes = (int64_t)MIB(38), .live_blocks = 24000, .peak_bytes = (int64_t)MIB(90),
                                         .other_bytes = (int64_t)MIB(66), .other_blocks = 52000 };
    s->live.half[1] = (struct hmk_half){ .live_bytes = (int64_t)MIB(42), .live_blocks = 26002, .peak_bytes = (int64_t)MIB(88),
                                         .other_bytes = (int64_t)MIB(62), .other_blocks = 51998 };
    s->live.rss_last_bytes = MIB(60);
    s->live.rss_peak_bytes = MIB(90);
    s->live.rss_peak_ns = START_NS + 3 * SECOND;
    s->live.self_bytes = MIB(1);
    for (uint64_t at = 0; at < 20; at++)
        synthetic_sample(s, at * 500, (int64_t)MIB(at == 6 ? 80 : 40), at == 6 ? MIB(90) : MIB(60));
    add_sampled_census(s, small, large);
}

/* A trunk for 1,000 sites, a branch for ten, and for each a leaf; of instructions there are far fewer than of frames. */
void synthetic_many(struct synthetic *s, uint32_t sites)
{
    enum { TRUNK = 14, BRANCH = 12, CODES = 5000 };
    uint32_t trunk = 0, branch = 0;

    synthetic_start(s);
    uint32_t tool = synthetic_module(s, "/usr/bin/tool", 0x400000), parser = synthetic_module(s, "/usr/lib/libparse.so.1", 0x7f0000000000);
    for (uint32_t i = 0; i < sites; i++) {
        for (uint32_t depth = 0; i % 1000 == 0 && depth < TRUNK; depth++)
            trunk = synthetic_frame(s, depth == 0 ? 0 : trunk, tool, 0x401000 + (i / 1000 * 31 + depth * 7) % CODES * 16);
        for (uint32_t depth = 0; i % 10 == 0 && depth < BRANCH; depth++)
            branch = synthetic_frame(s, depth == 0 ? trunk : branch, parser, 0x7f0000001000 + (i / 10 * 13 + depth * 101) % CODES * 16);
        uint32_t kind = i % 100 == 1 ? HMK_KIND_MAPPING : i % 100 == 2 ? HMK_KIND_BREAK : HMK_KIND_HEAP;
        uint32_t site = synthetic_site(s, synthetic_frame(s, branch, parser, 0x7f0000100000 + i * 16), kind);
        uint64_t bytes = UINT64_C(16) * (1 + (uint64_t)i * 7919 % (10 * (uint64_t)sites + 9)), calls = 1 + i * 31 % 1009;
        count(s, site, calls, bytes * calls, calls - 1, bytes * (calls - 1), 1, (int64_t)bytes);
        if (kind == HMK_KIND_HEAP) {
            s->live.heap.live_bytes += (int64_t)bytes;
            s->live.heap.live_blocks++;
        }
    }
    s->live.heap.peak_bytes = s->live.heap.live_bytes;
    s->live.heap.peak_blocks = s->live.heap.live_blocks;
    s->live.heap.peak_ns = START_NS + 9 * SECOND;
    s->live.rss_last_bytes = s->live.rss_peak_bytes = (uint64_t)s->live.heap.live_bytes + MIB(20);
    s->live.rss_peak_ns = START_NS + 9 * SECOND;
    s->live.self_bytes = MIB(10);
}

static uint32_t python_frame(struct synthetic *s, enum hmk_frame_kind kind, uint32_t parent, uint32_t code, uint64_t offset)
{
    return synthetic_frame(s, parent, (uint32_t)kind << HMK_FRAME_KIND_SHIFT | code, offset);
}

void synthetic_python(struct synthetic *s)
{
    synthetic_start(s);
    uint32_t python = synthetic_module(s, "/usr/bin/python3", 0x555500000000);
    static const char *const names[] = { "<module>", "load", "rows.<locals>.<lambda>" };
    for (unsigned i = 0; i < 3; i++)
        synthetic_add(s, HMK_CODES, &(struct hmk_code){ .file = synthetic_string(s, "/home/user/load.py"),
                                                        .name = synthetic_string(s, names[i]), .first_line = 1 + i * 10,
                                                        .version = 0x30b });
    uint32_t start = synthetic_frame(s, 0, python, 0x555500001100);
    uint32_t loop = python_frame(s, HMK_FRAME_LOOP, start, python, 0x555500005501);
    uint32_t map = synthetic_frame(s, loop, python, 0x555500002200);
    uint32_t inner = python_frame(s, HMK_FRAME_LOOP, map, python, 0x555500005501);
    uint32_t one = synthetic_frame(s, loop, python, 0x555500003300), two = synthetic_frame(s, inner, python, 0x555500003300);
    uint32_t module = python_frame(s, HMK_FRAME_ENTRY, 0, 0, 4), load = python_frame(s, HMK_FRAME_PYTHON, module, 1, 8);
    uint32_t lambda = python_frame(s, HMK_FRAME_ENTRY, load, 2, 2);
    uint32_t outer = synthetic_site(s, python_frame(s, HMK_FRAME_JOIN, one, 0, load), HMK_KIND_HEAP);
    uint32_t deep = synthetic_site(s, python_frame(s, HMK_FRAME_JOIN, two, 0, lambda), HMK_KIND_HEAP);
    s->live.heap = (struct hmk_heap){ .live_bytes = (int64_t)MIB(40), .live_blocks = 2, .peak_bytes = (int64_t)MIB(40),
                                      .peak_blocks = 2, .peak_ns = START_NS + 3 * SECOND, .rising = 1 };
    count(s, outer, 1, MIB(10), 0, 0, 1, (int64_t)MIB(10));
    count(s, deep, 1, MIB(30), 0, 0, 1, (int64_t)MIB(30));
    s->live.rss_last_bytes = s->live.rss_peak_bytes = MIB(50);
    s->live.own_peak_bytes = MIB(60);
    s->live.rss_peak_ns = START_NS + 3 * SECOND;
}

const struct synthetic_kind synthetic_kinds[] = {
    { "start", synthetic_start },
    { "pinned", synthetic_pinned },
    { "leak", synthetic_leak },
    { "threads", synthetic_threads },
    { "sampled", synthetic_sampled },
    { "python", synthetic_python },
    { NULL, NULL },
};
