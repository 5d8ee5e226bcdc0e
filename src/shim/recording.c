/* SPDX-License-Identifier: MIT */
#include "shim/recording.h"

/*
 * Everything here may run inside any malloc of the host, in any number of threads, and the process may be killed
 * between any two instructions.  So every record is written before the count that shows it, every chunk is
 * allocated on the disk before the offset that shows it, and nothing that was shown is written again but for the
 * words that format.h marks "in place".
 *
 * Each count stands twice: in the shared file, for readers, and in recording_tables, in private memory.  A fork
 * freezes the private one, so that the child copies exactly what its own copy of the hash tables knows, while
 * the parent's threads go on appending to the file that both still have mapped.
 */

#include "freestanding/sys.h"
#include "freestanding/text.h"
#include "shim/gate.h"
#include "shim/recording_parts.h"
#include "shim/shield.h"
#include <fcntl.h>
#include <string.h>
#include "freestanding/banned.h"

#define STRING_LONGEST RECORDING_STRING_LONGEST
/* The sum of whole chunks below HMK_TIMELINE_LIMIT, so that none is half used. */
#define TIMELINE_FIRST 64u
#define TIMELINE_RECORDS (TIMELINE_FIRST * 31u)
_Static_assert(TIMELINE_RECORDS <= HMK_TIMELINE_LIMIT, "timeline");

/* The first chunks are small: with 4 KiB pages a process that does little leaves 112 KiB. */
#define TABLE(type, first, most) { .record_bytes = sizeof(type), .first_records = (first), .limit = (most) }
struct recording_table recording_tables[HMK_TABLE_SLOTS] = {
    [HMK_STRINGS] = TABLE(char, STRING_LONGEST + 1, UINT32_MAX),
    [HMK_MODULES] = TABLE(struct hmk_module, 32, 1u << HMK_FRAME_KIND_SHIFT),
    [HMK_FRAMES] = TABLE(struct hmk_frame, 1024, UINT32_MAX),
    [HMK_SITES] = TABLE(struct hmk_site, RECORDING_SITES_FIRST, HMK_SITE_LIMIT),
    [HMK_SITE_PEAKS] = TABLE(struct hmk_site_peak, RECORDING_SITES_FIRST, HMK_SITE_LIMIT),
    [HMK_THREADS] = TABLE(struct hmk_thread, 16, UINT32_MAX),
    [HMK_CELL_INDEX] = TABLE(struct hmk_cell_index, 512, UINT32_MAX),
    [HMK_CELLS] = TABLE(struct hmk_cell_page, 4, UINT32_MAX),
    [HMK_TIMELINE_0] = TABLE(struct hmk_sample, TIMELINE_FIRST, TIMELINE_RECORDS),
    [HMK_TIMELINE_1] = TABLE(struct hmk_sample, TIMELINE_FIRST, TIMELINE_RECORDS),
    [HMK_EVENTS] = TABLE(struct hmk_event, 32, HMK_EVENT_LIMIT),
    [HMK_CENSUSES] = TABLE(struct hmk_census, 4, UINT32_MAX),
    [HMK_CENSUS_ROWS] = TABLE(struct hmk_census_row, 128, UINT32_MAX),
    [HMK_HISTOGRAMS] = TABLE(struct hmk_histogram, 16, UINT32_MAX),
    [HMK_CODES] = TABLE(struct hmk_code, 128, 1u << HMK_FRAME_KIND_SHIFT),
    [HMK_PINS] = TABLE(struct hmk_pin, 64, UINT32_MAX),
};

/* Every process needs these; their first chunks come with the head, in one mapping. */
static const unsigned char first_tables[] = {
    HMK_STRINGS, HMK_MODULES, HMK_FRAMES, HMK_SITES, HMK_SITE_PEAKS, HMK_THREADS, HMK_HISTOGRAMS, HMK_CELL_INDEX,
    HMK_CELLS, HMK_TIMELINE_0, HMK_TIMELINE_1, HMK_EVENTS,
};

static struct recording_head stand_in;
static struct recording_head *head = &stand_in;
struct hmk_header *recording_header = &stand_in.header;
struct hmk_live *recording_live = &stand_in.live;
struct recording_extent recording_first_extent;
static bool pages_left;                 /* since a fork within a hook the file is the parent's */

/* ---- lock ---------------------------------------------------------------------------------------- */

/*
 * As shim/spin.h, the holder under a shield, but with an end to patience: whoever appends may be anywhere in the
 * host, and must not hang it whatever went wrong.
 */
#define LOCK_PATIENCE_NS UINT64_C(1000000000)

static _Thread_local char thread_mark;  /* its address names the thread */
static uintptr_t lock_owner;            /* 0: free */
static bool lock_lost;

static void pause_briefly(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#else
    __asm__ volatile("yield");
#endif
}

/* The holder did not survive the fork that made this process. */
static bool lock_inherit(uintptr_t owner, uintptr_t self)
{
    return owner != self && gate_is_wiped() &&
        __atomic_compare_exchange_n(&lock_owner, &owner, self, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED);
}

/* False: this thread holds it already, or nobody will ever release it; the caller then drops its record. */
static bool lock_acquire(void)
{
    uintptr_t self = (uintptr_t)&thread_mark;
    uint64_t deadline = 0;
    for (unsigned spin = 1;; spin++) {
        uintptr_t owner = 0;
        if (__atomic_compare_exchange_n(&lock_owner, &owner, self, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED) ||
            lock_inherit(owner, self)) {
            HMK_SET(lock_lost, false);
            return true;
        }
        if (owner == self || HMK_GET(lock_lost))
            return false;
        if (spin < 64) {
            pause_briefly();
            continue;
        }
        /* Yielding alone would never let an owner of lower priority run. */
        if (spin < 256)
            sys_yield();
        else
            sys_nap(20);
        if (spin % 64 != 0)
            continue;
        uint64_t now = sys_monotonic_ns();
        if (deadline == 0) {
            deadline = now + LOCK_PATIENCE_NS;
        } else if (now > deadline) {
            HMK_SET(lock_lost, true);
            return false;
        }
    }
}

static bool lock_take(void)
{
    shield_raise();
    if (lock_acquire())
        return true;
    shield_lower();
    return false;
}

static void lock_release(void)
{
    __atomic_store_n(&lock_owner, 0, __ATOMIC_RELEASE);
    shield_lower();
}

void recording_abandon_lock(void)
{
    if (HMK_GET(lock_owner) == (uintptr_t)&thread_mark)
        __atomic_store_n(&lock_owner, 0, __ATOMIC_RELEASE);
}

void recording_reset_lock(void)
{
    lock_owner = 0;
    lock_lost = false;
}

/* ---- growth -------------------------------------------------------------------------------------- */

size_t recording_chunk_bytes(enum hmk_table_id id, unsigned chunk)
{
    const struct recording_table *table = &recording_tables[id];
    size_t page = sys_page_bytes();
    uint64_t bytes = hmk_chunk_records(chunk, table->first_records) * table->record_bytes;
    return (bytes + page - 1) & ~(page - 1);
}

static void reset_table(enum hmk_table_id id, bool full)
{
    struct recording_table *table = &recording_tables[id];
    memset(table->chunk, 0, sizeof(table->chunk));
    table->count = 0;
    table->ready = 0;
    table->full = full;
}

struct recording_head *recording_lay_out(void)
{
    uint64_t offset;
    enum hmk_stop_reason refusal;
    size_t page = sys_page_bytes();
    size_t head_bytes = (sizeof(*head) + page - 1) & ~(page - 1);
    size_t bytes = head_bytes;
    for (size_t i = 0; i < sizeof(first_tables); i++)
        bytes += recording_chunk_bytes(first_tables[i], 0);
    unsigned char *base = recording_file_extend(bytes, &offset, &refusal);
    if (!base)
        return NULL;
    pages_left = false;
    recording_first_extent = (struct recording_extent){ base, bytes };
    head = (struct recording_head *)base;
    head->header.header_bytes = HMK_HEADER_BYTES;       /* tells an unfinished recording from a foreign file */
    head->live.file_bytes = bytes;
    for (unsigned id = 0; id < HMK_TABLE_SLOTS; id++) {
        const struct recording_table *table = &recording_tables[id];
        reset_table(id, table->record_bytes == 0);
        head->tables[id].record_bytes = table->record_bytes;
        head->tables[id].first_records = table->record_bytes ? table->first_records : 0;
    }
    offset = head_bytes;
    for (size_t i = 0; i < sizeof(first_tables); i++) {
        recording_tables[first_tables[i]].chunk[0] = base + offset;
        head->tables[first_tables[i]].chunk_offset[0] = offset;
        recording_tables[first_tables[i]].ready = recording_tables[first_tables[i]].first_records;
        offset += recording_chunk_bytes(first_tables[i], 0);
    }
    return head;
}

void recording_show(struct recording_head *shown)
{
    recording_header = &shown->header;
    recording_live = &shown->live;
}

void recording_detach(void)
{
    for (unsigned id = 0; id < HMK_TABLE_SLOTS; id++)
        reset_table(id, true);
    memset(&stand_in, 0, sizeof(stand_in));
    stand_in.live.stop_reason = HMK_STOP_NO_MEMORY;
    head = &stand_in;
    recording_show(head);
}

static bool grow(enum hmk_table_id id, unsigned chunk)
{
    struct recording_table *table = &recording_tables[id];
    uint64_t offset;
    enum hmk_stop_reason refusal;
    if (table->full || chunk >= HMK_TABLE_CHUNKS)
        return false;
    /* Between being mapped and being known a chunk must meet no fork: the child would go on writing into it. */
    shield_raise_hard();
    unsigned char *address = recording_file_extend(recording_chunk_bytes(id, chunk), &offset, &refusal);
    if (address) {
        HMK_PUBLISH(table->chunk[chunk], address);
        HMK_PUBLISH(head->tables[id].chunk_offset[chunk], offset);
        HMK_SET(head->live.file_bytes, offset + recording_chunk_bytes(id, chunk));
    } else {
        table->full = true;
        if (head->live.stop_reason == HMK_STOP_NONE)
            HMK_SET(head->live.stop_reason, refusal);
    }
    shield_lower();
    return address != NULL;
}

static unsigned chunks_of(const struct recording_table *table)
{
    unsigned chunks = 0;
    while (chunks < HMK_TABLE_CHUNKS && table->chunk[chunks])
        chunks++;
    return chunks;
}

#define STEP_BYTES 65536u

/*
 * The first store into each page of a mapped file is a fault, for which the file system is asked: 2.7 us on ext4.  Pages that were
 * written before by a call, many at once, are mapped as many at once: 0.9 us each, and the call is in that.  So the pages
 * below the next records are written, as the zeros that they are: whole pages that no record handed out so far reaches into.
 */
static void prepare(enum hmk_table_id id, uint64_t count)
{
    struct recording_table *table = &recording_tables[id];
    unsigned chunk = hmk_chunk_of(count - 1, table->first_records);
    uint64_t first = hmk_chunk_first(chunk, table->first_records), next = hmk_chunk_first(chunk + 1, table->first_records);
    uint64_t size = recording_chunk_bytes(id, chunk), page = sys_page_bytes();
    uint64_t from = table->ready > first ? (table->ready - first) * table->record_bytes : 0, to;
    from = (from + page - 1) & ~(page - 1);
    for (to = from; to < size && to < (count - first) * table->record_bytes;)
        to += size - to < STEP_BYTES ? size - to : STEP_BYTES;
    /* Another thread could close our descriptor and give its number to a file of the host's just before the write; and where a
     * handler forked in a way that tells nobody, the parent may have records there by now. */
    if (!pages_left && HMK_GET(head->live.heap.threads_seen) < 2 && !gate_is_wiped())
        recording_file_touch(head->tables[id].chunk_offset[chunk] + from, to - from);
    uint64_t ready = to == size ? next : first + to / table->record_bytes;
    table->ready = ready < table->limit ? ready : table->limit;
}

void recording_leave_pages(void)
{
    pages_left = true;
}

bool recording_reserve(enum hmk_table_id id, uint64_t count)
{
    struct recording_table *table = &recording_tables[id];
    if (count <= table->ready)
        return true;
    if (count > table->limit)
        return false;
    /* Chunks are made in order. */
    if (!table->chunk[hmk_chunk_of(count - 1, table->first_records)])
        for (unsigned chunk = 0; hmk_chunk_first(chunk, table->first_records) < count; chunk++)
            if (!table->chunk[chunk] && !grow(id, chunk))
                return false;
    prepare(id, count);
    return true;
}

void recording_publish(enum hmk_table_id id, uint64_t count)
{
    HMK_PUBLISH(recording_tables[id].count, count);
    HMK_PUBLISH(head->tables[id].count, count);
}

uint64_t recording_count(enum hmk_table_id id)
{
    return HMK_OBSERVE(recording_tables[id].count);
}

/* ---- append -------------------------------------------------------------------------------------- */

/* The next index from which `count` records lie in one chunk, with room for them; RECORDING_NONE: refused. */
static uint64_t place(enum hmk_table_id id, uint64_t count)
{
    const struct recording_table *table = &recording_tables[id];
    uint64_t index = table->count;
    if (__builtin_expect(count == 1 && index < table->ready, 1))
        return index;
    if (count > table->limit)
        return RECORDING_NONE;
    for (;;) {
        uint64_t next = hmk_chunk_first(hmk_chunk_of(index, table->first_records) + 1, table->first_records);
        if (index + count <= next)
            break;
        index = next;
    }
    return recording_reserve(id, index + count) ? index : RECORDING_NONE;
}

static uint64_t append(enum hmk_table_id id, const void *record)
{
    uint64_t index = place(id, 1);
    if (index == RECORDING_NONE)
        return RECORDING_NONE;
    memcpy(recording_at(id, index), record, recording_tables[id].record_bytes);
    recording_publish(id, index + 1);
    return index;
}

uint64_t recording_append(enum hmk_table_id id, const void *record)
{
    if (!lock_take())
        return RECORDING_NONE;
    uint64_t index = append(id, record);
    lock_release();
    return index;
}

uint64_t recording_append_many(enum hmk_table_id id, const void *records, uint64_t count)
{
    const struct recording_table *table = &recording_tables[id];
    const unsigned char *from = records;
    if (!lock_take())
        return RECORDING_NONE;
    uint64_t first = table->count, end = first + count, index = first;
    if (!recording_reserve(id, end)) {
        lock_release();
        return RECORDING_NONE;
    }
    while (index < end) {
        uint64_t next = hmk_chunk_first(hmk_chunk_of(index, table->first_records) + 1, table->first_records);
        size_t bytes = (size_t)((next < end ? next : end) - index) * table->record_bytes;
        memcpy(recording_at(id, index), from, bytes);
        from += bytes;
        index = next < end ? next : end;
    }
    recording_publish(id, end);
    lock_release();
    return first;
}

uint64_t recording_append_pair(enum hmk_table_id id, const void *record, enum hmk_table_id twin,
                               const void *twin_record)
{
    if (!lock_take())
        return RECORDING_NONE;
    uint64_t index = place(id, 1);
    if (index != RECORDING_NONE && recording_reserve(twin, index + 1)) {
        memcpy(recording_at(twin, index), twin_record, recording_tables[twin].record_bytes);
        memcpy(recording_at(id, index), record, recording_tables[id].record_bytes);
        recording_publish(twin, index + 1);
        recording_publish(id, index + 1);
    } else {
        index = RECORDING_NONE;
    }
    lock_release();
    return index;
}

uint64_t recording_append_site(const struct hmk_frame *leaf, struct hmk_site *site)
{
    if (!lock_take())
        return RECORDING_NONE;
    uint64_t frame = place(HMK_FRAMES, 1), index = place(HMK_SITES, 1);
    if (frame < UINT32_MAX && index != RECORDING_NONE && recording_reserve(HMK_SITE_PEAKS, index + 1)) {
        site->frame = (uint32_t)frame;
        memcpy(recording_at(HMK_FRAMES, frame), leaf, sizeof *leaf);
        memset(recording_at(HMK_SITE_PEAKS, index), 0, sizeof(struct hmk_site_peak));
        memcpy(recording_at(HMK_SITES, index), site, sizeof *site);
        recording_publish(HMK_FRAMES, frame + 1);
        recording_publish(HMK_SITE_PEAKS, index + 1);
        recording_publish(HMK_SITES, index + 1);
    } else {
        index = RECORDING_NONE;
    }
    lock_release();
    return index;
}

uint64_t recording_append_zeroed(enum hmk_table_id id, uint64_t count)
{
    if (!lock_take())
        return RECORDING_NONE;
    uint64_t index = place(id, count);
    if (index != RECORDING_NONE)
        recording_publish(id, index + count);
    lock_release();
    return index;
}

uint32_t recording_string(const char *string, size_t length)
{
    if (length == 0 || !lock_take())
        return 0;
    if (length > STRING_LONGEST)
        length = STRING_LONGEST;
    uint64_t offset = place(HMK_STRINGS, length + 1);
    if (offset != RECORDING_NONE) {
        memcpy(recording_at(HMK_STRINGS, offset), string, length);
        recording_publish(HMK_STRINGS, offset + length + 1);
    }
    lock_release();
    return offset == RECORDING_NONE ? 0 : (uint32_t)offset;
}

void recording_event(uint32_t kind, uint64_t a, uint64_t b, uint64_t c, uint64_t d, const char *text)
{
    struct hmk_event event = {
        .time_ns = sys_monotonic_ns(), .kind = kind, .tid = (uint32_t)sys_gettid(), .a = a, .b = b, .c = c, .d = d,
        .live_bytes = HMK_GET(recording_live->heap.live_bytes),
    };
    event.live_kib = event.live_bytes > 0 ? (uint32_t)(event.live_bytes >> 10) : 0;
    uint64_t index = RECORDING_NONE;
    if (recording_count(HMK_EVENTS) < HMK_EVENT_LIMIT) {
        event.text = text ? recording_string(text, text_length(text)) : 0;
        index = recording_append(HMK_EVENTS, &event);
    }
    if (index == RECORDING_NONE)
        __atomic_fetch_add(&recording_live->lost_events, 1, __ATOMIC_RELAXED);
}

/* ---- timeline ------------------------------------------------------------------------------------ */

static uint64_t point_start_ns;         /* first sample of the last point */

static struct hmk_sample *sample_at(enum hmk_table_id id, uint64_t index)
{
    return recording_at(id, index);
}

static void absorb(struct hmk_sample *sum, const struct hmk_sample *later)
{
    int64_t live_bytes_max = sum->live_bytes_max;
    uint64_t rss_bytes_max = sum->rss_bytes_max;
    *sum = *later;
    if (sum->live_bytes_max < live_bytes_max)
        sum->live_bytes_max = live_bytes_max;
    if (sum->rss_bytes_max < rss_bytes_max)
        sum->rss_bytes_max = rss_bytes_max;
}

/* Every `group` points of the one table become one of the other, which is shown when it is whole. */
static void fold(enum hmk_table_id from, enum hmk_table_id to, unsigned group)
{
    uint64_t count = recording_tables[from].count;
    uint64_t folded = 0;
    recording_publish(to, 0);
    for (uint64_t first = 0; first < count; first += group) {
        struct hmk_sample sum = *sample_at(from, first);
        for (uint64_t i = first + 1; i < first + group && i < count; i++)
            absorb(&sum, sample_at(from, i));
        *sample_at(to, folded++) = sum;
    }
    recording_publish(to, folded);
    HMK_PUBLISH(head->live.timeline_active, to == HMK_TIMELINE_1 ? 1u : 0u);
    HMK_SET(head->live.timeline_interval_ns, head->live.timeline_interval_ns * group);
}

/* The table to append to; HMK_TABLE_SLOTS: no room.  On a full disk the other table may be much smaller than this one. */
static enum hmk_table_id timeline_with_room(void)
{
    enum hmk_table_id active = head->live.timeline_active ? HMK_TIMELINE_1 : HMK_TIMELINE_0;
    enum hmk_table_id other = active == HMK_TIMELINE_0 ? HMK_TIMELINE_1 : HMK_TIMELINE_0;
    uint64_t count = recording_tables[active].count;
    if (recording_reserve(active, count + 1))
        return active;
    recording_reserve(other, count / 2 + 1);
    uint64_t capacity = hmk_chunk_first(chunks_of(&recording_tables[other]), TIMELINE_FIRST);
    unsigned group = 2;
    if (capacity == 0)
        return HMK_TABLE_SLOTS;
    while ((count + group - 1) / group >= capacity)
        group *= 2;
    fold(active, other, group);
    return other;
}

static void note_sample(const struct hmk_sample *point)
{
    HMK_SET(head->live.last_ns, point->time_ns);
    HMK_SET(head->live.rss_last_bytes, point->rss_bytes);
    if (head->live.rss_peak_bytes < point->rss_bytes_max) {
        HMK_SET(head->live.rss_peak_bytes, point->rss_bytes_max);
        HMK_SET(head->live.rss_peak_ns, point->time_ns);
    }
}

/* Brings the last point up to date, in place; a maximum never stands below its value. */
static void renew(struct hmk_sample *last, const struct hmk_sample *later)
{
    struct hmk_sample sum = *last;
    absorb(&sum, later);
    HMK_SET(last->live_bytes_max, sum.live_bytes_max);
    HMK_SET(last->rss_bytes_max, sum.rss_bytes_max);
    HMK_SET(last->live_bytes, sum.live_bytes);
    HMK_SET(last->rss_bytes, sum.rss_bytes);
    HMK_SET(last->mapped_bytes, sum.mapped_bytes);
    HMK_SET(last->time_ns, sum.time_ns);
}

void recording_sample(const struct hmk_sample *sample)
{
    struct hmk_sample point = *sample;
    if (point.live_bytes_max < point.live_bytes)
        point.live_bytes_max = point.live_bytes;
    if (point.rss_bytes_max < point.rss_bytes)
        point.rss_bytes_max = point.rss_bytes;
    if (!lock_take())
        return;
    enum hmk_table_id id = head->live.timeline_active ? HMK_TIMELINE_1 : HMK_TIMELINE_0;
    uint64_t count = recording_tables[id].count;
    if (count > 0 && point.time_ns - point_start_ns < head->live.timeline_interval_ns) {
        renew(sample_at(id, count - 1), &point);
    } else if ((id = timeline_with_room()) != HMK_TABLE_SLOTS) {
        append(id, &point);
        point_start_ns = point.time_ns;
    }
    note_sample(&point);
    lock_release();
}

/* ---- end ----------------------------------------------------------------------------------------- */

/* A handler of the host may end the process, or its image, in the midst of a record of this very thread: the state is told
 * all the same. */
static bool lock_take_for_state(bool *taken)
{
    *taken = lock_take();
    return *taken || HMK_GET(lock_owner) == (uintptr_t)&thread_mark;
}

void recording_end(enum hmk_state state, int status)
{
    bool taken;
    if (!lock_take_for_state(&taken))
        return;
    uint32_t before = head->live.state;
    if (before == HMK_STATE_RUNNING || before == HMK_STATE_EXECED || before == HMK_STATE_ABORTED) {
        HMK_SET(head->live.exit_status, status);
        HMK_SET(head->live.end_ns, sys_monotonic_ns());
        HMK_PUBLISH(head->live.state, (uint32_t)state);
    }
    if (taken)
        lock_release();
}

void recording_reopen(void)
{
    bool taken;
    if (!lock_take_for_state(&taken))
        return;
    if (head->live.state == HMK_STATE_EXECED || head->live.state == HMK_STATE_ABORTED) {
        HMK_PUBLISH(head->live.state, (uint32_t)HMK_STATE_RUNNING);
        HMK_SET(head->live.end_ns, 0);
        HMK_SET(head->live.exit_status, -1);
    }
    if (taken)
        lock_release();
}

/* ---- own memory ---------------------------------------------------------------------------------- */

/* Of a shared file mapping mincore tells what the page cache holds; what counts into RSS is in the page table. */
static uint64_t mapped_pages(int pagemap, const void *address, size_t bytes)
{
    size_t page = sys_page_bytes();
    uint64_t entries[128], pages = 0;
    uint64_t at = (uintptr_t)address / page, end = at + bytes / page;
    while (at < end) {
        uint64_t wanted = end - at < 128 ? end - at : 128;
        long got = sys_pread(pagemap, entries, wanted * sizeof(entries[0]), at * sizeof(entries[0]));
        if (got < (long)sizeof(entries[0]))
            return pages + (end - at);
        uint64_t count = (uint64_t)got / sizeof(entries[0]);
        for (uint64_t i = 0; i < count; i++)
            pages += entries[i] >> 63;
        at += count;
    }
    return pages;
}

uint64_t recording_self_bytes(void)
{
    const unsigned char *first = recording_first_extent.address;
    int pagemap = sys_open("/proc/self/pagemap", O_RDONLY, 0);
    uint64_t pages = mapped_pages(pagemap, first, recording_first_extent.bytes);
    for (unsigned id = 0; id < HMK_TABLE_SLOTS; id++)
        for (unsigned chunk = 0; chunk < HMK_TABLE_CHUNKS; chunk++) {
            const unsigned char *address = HMK_OBSERVE(recording_tables[id].chunk[chunk]);
            if (address && !(address >= first && address < first + recording_first_extent.bytes))
                pages += mapped_pages(pagemap, address, recording_chunk_bytes(id, chunk));
        }
    if (pagemap >= 0)
        sys_close(pagemap);
    return pages * sys_page_bytes();
}
