/* SPDX-License-Identifier: MIT */
#include "shim/recorder.h"

#include "freestanding/sys.h"
#include "shim/control.h"
#include "shim/cycles.h"
#include "shim/marks.h"
#include "shim/recording.h"
#include "shim/sampled_peak.h"
#include "shim/sampling.h"
#include "shim/stack.h"
#include "shim/timeline.h"

/* Totals.  While one thread records, every event goes straight into live.heap and is exact.  Later each thread gathers
 * up to flush_bytes in its own record; see struct hmk_heap. */
static uint32_t shared;
static uint32_t all_know;           /* no thread is any more in an event that it began alone */

/* A site's own peak: each cell gathers, so that most events leave the site's record alone.  One thread alone gathers nothing
 * above what it has flushed, so that every peak is flushed as it comes. */
#define SITE_FLUSH_BYTES 16384
static uint64_t site_gather_most = SITE_FLUSH_BYTES;    /* and once more as much above, when there are more threads */

static inline int64_t live_bytes(const struct hmk_cell *cell)
{
    return (int64_t)(cell->allocated_bytes - cell->freed_bytes);
}

static inline int64_t live_blocks(const struct hmk_cell *cell)
{
    return (int64_t)(cell->allocations - cell->frees);
}

/* Keeps what the cell had at the last peak, on the first event after it, which is in the cell already. */
static inline void keep_peak_share(struct hmk_cell *cell, uint32_t epoch, int64_t bytes, int64_t blocks)
{
    if (cell->epoch == epoch)
        return;
    cell->peak_bytes = live_bytes(cell) - bytes;
    cell->peak_blocks = (int32_t)(live_blocks(cell) - blocks);
    cell->epoch = epoch;
}

/* Epoch and rising as one word, so that they change together. */
union phase {
    uint64_t word;
    struct {
        uint32_t epoch, rising;
    };
};
_Static_assert(offsetof(struct hmk_heap, rising) == offsetof(struct hmk_heap, epoch) + 4 &&
               offsetof(struct hmk_heap, epoch) % 8 == 0, "phase");

static inline uint64_t *phase_of(struct hmk_heap *heap)
{
    return (uint64_t *)(void *)&heap->epoch;
}

static inline union phase load_phase(struct hmk_heap *heap)
{
    return (union phase){.word = HMK_OBSERVE(*phase_of(heap))};
}

/* What ends a peak, or comes after one has ended. */
static inline __attribute__((always_inline)) void after_peak(struct hmk_cell *cell, int64_t bytes, int64_t blocks)
{
    struct hmk_heap *heap = &recording_live->heap;
    if (heap->rising) {
        heap->epoch++;
        heap->rising = 0;
    }
    keep_peak_share(cell, heap->epoch, bytes, blocks);
}

static inline __attribute__((always_inline)) void total_alone(struct hmk_cell *cell, int64_t bytes, int64_t blocks)
{
    struct hmk_live *live = recording_live;
    struct hmk_heap *heap = &live->heap;
    int64_t total = heap->live_bytes + bytes;
    int64_t total_blocks = heap->live_blocks + blocks;
    if (total > heap->peak_bytes) {
        heap->peak_bytes = total;
        heap->peak_blocks = total_blocks;
        heap->peak_ns = live->last_ns;
        heap->rising = 1;
    } else if (__builtin_expect(load_phase(heap).word != cell->epoch, 0)) {     /* rising, or another epoch */
        after_peak(cell, bytes, blocks);
    }
    heap->live_bytes = total;
    heap->live_blocks = total_blocks;
}

static bool change_phase(struct hmk_heap *heap, union phase from, uint32_t epoch, uint32_t rising)
{
    union phase to = {.epoch = epoch, .rising = rising};
    return from.word == to.word || __atomic_compare_exchange_n(phase_of(heap), &from.word, to.word, false,
                                                               __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
}

/* A total that this thread has just made: is it the new peak?  The phase is read before the peak and set to rising before the
 * peak is raised, so that a thread whose event ends the peak finds it rising, and keeps what its cell had. */
static bool note_total(struct hmk_live *live, int64_t total, int64_t total_blocks)
{
    struct hmk_heap *heap = &live->heap;
    for (;;) {
        union phase phase = load_phase(heap);
        int64_t peak = __atomic_load_n(&heap->peak_bytes, __ATOMIC_ACQUIRE);
        if (total <= peak) {
            if (phase.rising == 0 || change_phase(heap, phase, phase.epoch + 1, 0))
                return false;
        } else if (change_phase(heap, phase, phase.epoch, 1) &&
                   __atomic_compare_exchange_n(&heap->peak_bytes, &peak, total, false, __ATOMIC_ACQ_REL,
                                               __ATOMIC_RELAXED)) {
            HMK_SET(heap->peak_blocks, total_blocks);
            HMK_SET(heap->peak_ns, HMK_GET(live->last_ns));
            return true;
        }
    }
}

/* True: the total that includes all of the thread's events is the new peak. */
__attribute__((noinline)) static bool flush_shared(struct hmk_thread *record)
{
    struct hmk_live *live = recording_live;
    struct hmk_heap *heap = &live->heap;
    int64_t bytes = record->pending_bytes, blocks = record->pending_blocks;
    HMK_SET(record->pending_bytes, 0);
    HMK_SET(record->pending_blocks, 0);
    int64_t total_blocks = __atomic_add_fetch(&heap->live_blocks, blocks, __ATOMIC_RELAXED);
    int64_t total = __atomic_add_fetch(&heap->live_bytes, bytes, __ATOMIC_ACQ_REL);
    if (!note_total(live, total, total_blocks))
        return false;
    /* The bound grows with the peak: 0.1 % of it over all threads, at most 64 KiB each. */
    int64_t bound = total / (1024 * (int64_t)thread_count());
    bound = bound < 1024 ? 1024 : bound > 65536 ? 65536 : bound;
    if ((uint32_t)bound != HMK_GET(heap->flush_bytes))
        HMK_SET(heap->flush_bytes, (uint32_t)bound);
    return true;
}

/* The cell has the event already: a peak that it makes is composed of what the cells have then. */
static void total_shared(struct thread *thread, struct hmk_cell *cell, int64_t bytes, int64_t blocks)
{
    struct hmk_heap *heap = &recording_live->heap;
    struct hmk_thread *record = thread->record;
    int64_t pending = record->pending_bytes + bytes;
    HMK_SET(record->pending_bytes, pending);
    HMK_SET(record->pending_blocks, record->pending_blocks + blocks);
    int64_t bound = HMK_GET(heap->flush_bytes);
    if (__builtin_expect(pending >= bound || pending <= -bound, 0) && flush_shared(record))
        return;
    union phase phase = load_phase(heap);
    if (!phase.rising)
        keep_peak_share(cell, phase.epoch, bytes, blocks);
}

static void raise_site_peak(struct hmk_site_peak *site, int64_t live)
{
    int64_t peak = HMK_GET(site->peak_bytes);
    while (live > peak) {
        if (__atomic_compare_exchange_n(&site->peak_bytes, &peak, live, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
            HMK_SET(site->peak_ns, HMK_GET(recording_live->last_ns));
            return;
        }
    }
}

__attribute__((noinline)) static bool flush_site(struct hmk_cell *cell, uint32_t site, int64_t pending)
{
    struct hmk_site_peak *peak = recording_site_peak(site);
    cell->pending_bytes = 0;
    if (HMK_GET(shared)) {
        raise_site_peak(peak, __atomic_add_fetch(&peak->live_bytes, pending, __ATOMIC_RELAXED));
        return true;
    }
    int64_t live = peak->live_bytes + pending;
    peak->live_bytes = live;
    if (live > peak->peak_bytes) {
        peak->peak_bytes = live;
        peak->peak_ns = recording_live->last_ns;
    }
    return true;
}

/* True, so that a caller can end with it. */
static inline __attribute__((always_inline)) bool own_peak(struct hmk_cell *cell, uint32_t site, int64_t bytes)
{
    int64_t pending = cell->pending_bytes + bytes;
    if (__builtin_expect((uint64_t)(pending + SITE_FLUSH_BYTES) > HMK_GET(site_gather_most), 0))
        return flush_site(cell, site, pending);
    cell->pending_bytes = (int32_t)pending;
    return true;
}

/* The event in the counters that have it at once. */
static inline __attribute__((always_inline)) void add_to_cell(struct hmk_cell *cell, struct sampling_weight weight, uint32_t slack)
{
    cell->allocations += weight.count;
    cell->allocated_bytes += weight.bytes;
    cell->slack_bytes = (int32_t)((uint32_t)cell->slack_bytes + slack);
}

static inline __attribute__((always_inline)) void subtract_from_cell(struct hmk_cell *cell, struct sampling_weight weight,
                                                                     uint32_t slack)
{
    cell->frees += weight.count;
    cell->freed_bytes += weight.bytes;
    cell->slack_bytes = (int32_t)((uint32_t)cell->slack_bytes - slack);
}

/* And in the totals and the site's own peak. */
static void count(struct thread *thread, struct hmk_cell *cell, uint32_t site, int64_t bytes, int64_t blocks)
{
    if (HMK_GET(shared))
        total_shared(thread, cell, bytes, blocks);
    else
        total_alone(cell, bytes, blocks);
    own_peak(cell, site, bytes);
}

static void add(struct thread *thread, struct hmk_cell *cell, uint32_t site, struct sampling_weight weight, uint32_t slack)
{
    add_to_cell(cell, weight, slack);
    count(thread, cell, site, (int64_t)weight.bytes, (int64_t)weight.count);
}

static void subtract(struct thread *thread, struct hmk_cell *cell, uint32_t site, struct sampling_weight weight, uint32_t slack)
{
    subtract_from_cell(cell, weight, slack);
    count(thread, cell, site, -(int64_t)weight.bytes, -(int64_t)weight.count);
}

static inline uint32_t slack_of(const struct blockmap_block *block)
{
    return (uint32_t)(block->usable - block->requested);
}

static inline __attribute__((always_inline)) struct hmk_cell *cell_in(struct hmk_cell_page *page, uint32_t site)
{
    struct hmk_cell *cell = &page->cell[site % HMK_CELLS_PER_PAGE];
    __asm__("" : "+r"(cell));   /* one register, rather than a sum each time */
    return cell;
}

/* The cell to count in: without room for the site's own, the one of HMK_SITE_LOST, which every thread made first. */
static inline struct hmk_cell *cell_of(struct thread *thread, uint32_t *site)
{
    struct hmk_cell *cell = thread_cell(thread, *site);
    if (__builtin_expect(cell == NULL, 0)) {
        *site = HMK_SITE_LOST;
        cell = thread_cell(thread, HMK_SITE_LOST);
    }
    return cell;
}

/* Every 64th event is timed, and stands for 64.  One that took so long was not at work all the time: the system had given the
 * processor to somebody else, for milliseconds that would count 64 times. */
#define TICK_EVENTS 64
#define TIMED_MOST UINT64_C(65536)
#define LARGE_BYTES 65536           /* the clock is looked at, too */

static inline bool is_timed(struct thread *thread)
{
    return __builtin_expect(--thread->countdown == 0, 0);
}

/* The event comes between the two; it is not timed once more. */
static uint64_t begin_timed(struct thread *thread)
{
    thread->countdown = TICK_EVENTS + 1;
    return cycles_now();
}

static void end_timed(struct thread *thread, uint64_t began)
{
    uint64_t spent = cycles_now() - began;
    thread->spent_cycles += (spent < TIMED_MOST ? spent : TIMED_MOST) * TICK_EVENTS;
    timeline_tick(thread);
}

__attribute__((cold, noinline)) static void retire_stale(struct thread *thread, const void *block,
                                                         const struct blockmap_block *old)
{
    uint32_t site = old->site;
    struct hmk_cell *cell = cell_of(thread, &site);
    struct sampling_weight weight = sampling_weight(block, old->requested, old->site);
    if (cell != NULL)
        subtract(thread, cell, site, weight, slack_of(old));
    marks_remove(block);
    sampled_peak_count(block, old->site, old->requested, false);
    __atomic_add_fetch(&recording_live->stale_live, 1, __ATOMIC_RELAXED);
}

/* Sampled mode.  False: there is no sampling point in the block.  The hook found none to count down, for the thread was new or
 * exact mode has just ended under it. */
static bool holds_point(struct thread *thread, size_t requested)
{
    if (!thread->drawn)
        sampling_draw(thread);
    if (sampling_passes_over(requested))
        return false;
    sampling_draw(thread);
    return true;
}

/* Two floats in one word, so that a reader finds both sums at the same event. */
__attribute__((noinline)) static void add_spread(uint32_t site, size_t requested)
{
    union spread {
        uint64_t word;
        struct sampling_spread sum;
    };
    struct hmk_site_peak *peak = recording_at(HMK_SITE_PEAKS, site);
    uint64_t *place = (uint64_t *)(void *)&peak->spread_bytes;
    struct sampling_spread more = sampling_spread(requested);
    union spread old = {.word = __atomic_load_n(place, __ATOMIC_RELAXED)}, sum;
    do {
        sum.sum = (struct sampling_spread){old.sum.bytes + more.bytes, old.sum.blocks + more.blocks};
    } while (!__atomic_compare_exchange_n(place, &old.word, sum.word, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
}

static inline __attribute__((always_inline)) void note_birth(struct thread *thread, const void *block, size_t requested,
                                                             uint64_t count)
{
    thread->histogram->allocations[hmk_size_class(requested)] += count;
    thread->last_block = block;
}

/* In the map.  False: its death will not be seen either, so that the totals stay consistent without it. */
static inline bool enter(struct thread *thread, const void *block, size_t requested, uint32_t site, size_t *usable)
{
    struct blockmap_birth birth;
    blockmap_birth(block, requested, site, &birth);
    if (__builtin_expect(birth.stale, 0))
        retire_stale(thread, block, &birth.old);
    *usable = birth.usable;
    return birth.stored;
}

static void record_sampled(struct thread *thread, const void *block, size_t requested, const struct unwind_start *start)
{
    size_t usable;
    uint32_t site = stack_site_heap(thread, start);
    struct hmk_cell *cell = cell_of(thread, &site);
    if (cell == NULL || (site < sampling_first_site && site >= HMK_SITE_FIRST))
        return;
    marks_add(block);
    if (!enter(thread, block, requested, site, &usable)) {
        marks_remove(block);
        return;
    }
    struct sampling_weight weight = sampling_weight(block, requested, site);
    add(thread, cell, site, weight, (uint32_t)(usable - requested));
    note_birth(thread, block, requested, weight.count);
    if (site >= sampling_first_site)
        add_spread(site, requested);
    sampled_peak_count_slow(block, site, requested, true);
    thread->last_left = sampling_line.sample_left;
}

__attribute__((noinline)) static void birth_sampled(struct thread *thread, const void *block, size_t requested,
                                                    const struct unwind_start *start)
{
    if (!holds_point(thread, requested))
        return;
    if (is_timed(thread)) {
        uint64_t began = begin_timed(thread);
        record_sampled(thread, block, requested, start);
        end_timed(thread, began);
        return;
    }
    record_sampled(thread, block, requested, start);
    timeline_tick(thread);
}

__attribute__((noinline)) static void birth_timed(struct thread *thread, const void *block, size_t requested,
                                                  const struct unwind_start *start)
{
    uint64_t began = begin_timed(thread);
    recorder_birth(thread, block, requested, start);
    end_timed(thread, began);
}

/* Of a block that is not like most, or a site that has no cell yet. */
__attribute__((noinline)) static void birth_slow(struct thread *thread, const void *block, size_t requested, uint32_t site)
{
    size_t usable;
    struct hmk_cell *cell = cell_of(thread, &site);
    /* The weight goes by the site: where modes change under the event, it would have the other mode's. */
    if (cell == NULL || site >= sampling_first_site || !enter(thread, block, requested, site, &usable))
        return;
    add(thread, cell, site, (struct sampling_weight){1, requested}, (uint32_t)(usable - requested));
    note_birth(thread, block, requested, 1);
    if (requested >= LARGE_BYTES)
        timeline_tick(thread);
}

__attribute__((noinline)) static bool count_and_flush(struct thread *thread, struct hmk_cell *cell, uint32_t site, int64_t bytes,
                                                      int64_t blocks)
{
    total_shared(thread, cell, bytes, blocks);
    return own_peak(cell, site, bytes);
}

/* `count` with more threads than one, for the events that flush nothing: they call nothing.  True, so that a caller can end with
 * it. */
__attribute__((noinline)) static bool count_shared(struct thread *thread, struct hmk_cell *cell, uint32_t site, int64_t bytes,
                                                   int64_t blocks)
{
    struct hmk_heap *heap = &recording_live->heap;
    struct hmk_thread *record = thread->record;
    int64_t total = record->pending_bytes + bytes, own = cell->pending_bytes + bytes, bound = HMK_GET(heap->flush_bytes);
    if (__builtin_expect(total >= bound || total <= -bound, 0) || __builtin_expect(own >= SITE_FLUSH_BYTES, 0) ||
        __builtin_expect(own <= -SITE_FLUSH_BYTES, 0))
        return count_and_flush(thread, cell, site, bytes, blocks);
    HMK_SET(record->pending_bytes, total);
    HMK_SET(record->pending_blocks, record->pending_blocks + blocks);
    union phase phase = load_phase(heap);
    if (!phase.rising)
        keep_peak_share(cell, phase.epoch, bytes, blocks);
    cell->pending_bytes = (int32_t)own;
    return true;
}

/* Nothing but stack_site_heap is called on the way, and what may be called at its end is jumped to: so hardly a register has to be
 * saved.  The same holds for recorder_free. */
void recorder_birth(struct thread *thread, const void *block, size_t requested, const struct unwind_start *start)
{
    if (__builtin_expect(sampling_interval != 0, 0)) {
        birth_sampled(thread, block, requested, start);
        return;
    }
    if (is_timed(thread)) {
        birth_timed(thread, block, requested, start);
        return;
    }
    struct blockmap_place place = blockmap_look(block);
    uint32_t site = stack_site_heap(thread, start);
    struct hmk_cell_page *page = thread->cells[site / HMK_CELLS_PER_PAGE];
    size_t usable = 0;
    if (__builtin_expect(page != NULL, 1))
        if (__builtin_expect(site < sampling_first_site, 1))
            usable = blockmap_birth_quick(place, block, requested, site);
    if (__builtin_expect(usable == 0, 0)) {
        birth_slow(thread, block, requested, site);
        return;
    }
    struct hmk_cell *cell = cell_in(page, site);
    add_to_cell(cell, (struct sampling_weight){1, requested}, (uint32_t)(usable - requested));
    note_birth(thread, block, requested, 1);
    if (__builtin_expect(HMK_GET(shared), 0)) {
        count_shared(thread, cell, site, (int64_t)requested, 1);
        return;
    }
    total_alone(cell, (int64_t)requested, 1);
    own_peak(cell, site, (int64_t)requested);
}

/* With free sites, what a block leaves behind is charged to the call that freed it. */
static bool by_free_site;

void recorder_charge_free_sites(void)
{
    by_free_site = true;
}

static inline __attribute__((always_inline)) void note_death(struct thread *thread, const void *block, struct hmk_cell *cell,
                                                             uint64_t count, bool sampled)
{
    if (thread->last_block != block)
        return;
    /* In sampled mode other blocks may have come since, and passed; each took something off sample_left. */
    if (!sampled || sampling_line.sample_left == thread->last_left)
        cell->temporary += count;
    thread->last_block = NULL;
}

/* Of a block that is dead in the map. */
static void death_sampled(struct thread *thread, const void *block, const struct blockmap_block *dead)
{
    uint32_t site = dead->site;
    struct hmk_cell *cell = cell_of(thread, &site);
    marks_remove(block);
    if (cell == NULL)
        return;
    struct sampling_weight weight = sampling_weight(block, dead->requested, dead->site);
    subtract(thread, cell, site, weight, slack_of(dead));
    note_death(thread, block, cell, weight.count, true);
    sampled_peak_count(block, dead->site, dead->requested, false);
    timeline_tick(thread);
}

/* `dead` is what blockmap_death_quick said. */
static bool death(struct thread *thread, const void *block, uint32_t painter, struct blockmap_block *dead)
{
    if (dead->usable == 0 && !blockmap_death_slow((uintptr_t)block, painter, dead)) {
        if (sampling_interval == 0)
            __atomic_add_fetch(&recording_live->unknown_frees, 1, __ATOMIC_RELAXED);
        return false;
    }
    /* Who frees a block of sampled mode knows that it has begun: the block came from one who knew. */
    if (sampling_interval != 0) {
        death_sampled(thread, block, dead);
        return true;
    }
    uint32_t site = dead->site;
    struct hmk_cell *cell = cell_of(thread, &site);
    if (cell != NULL) {
        subtract(thread, cell, site, (struct sampling_weight){1, dead->requested}, slack_of(dead));
        note_death(thread, block, cell, 1, false);
    }
    if (dead->requested >= LARGE_BYTES)
        timeline_tick(thread);
    return true;
}

static inline uint32_t painter_of(struct thread *thread, const struct unwind_start *start)
{
    return __builtin_expect(by_free_site, 0) ? stack_site_heap(thread, start) : 0;
}

bool recorder_death(struct thread *thread, const void *block, const struct unwind_start *start,
                    struct blockmap_block *dead)
{
    uint64_t began = is_timed(thread) ? begin_timed(thread) : 0;
    uint32_t painter = painter_of(thread, start);
    *dead = blockmap_death_quick(block, painter);
    bool known = death(thread, block, painter, dead);
    if (began != 0)
        end_timed(thread, began);
    return known;
}

__attribute__((noinline)) static bool free_timed(struct thread *thread, const void *block, const struct unwind_start *start)
{
    uint64_t began = begin_timed(thread);
    bool known = recorder_free(thread, block, start);
    end_timed(thread, began);
    return known;
}

__attribute__((noinline)) static bool free_slow(struct thread *thread, const void *block, const struct unwind_start *start)
{
    uint32_t painter = painter_of(thread, start);
    struct blockmap_block dead = blockmap_death_quick(block, painter);
    return death(thread, block, painter, &dead);
}

/* Values rather than a struct, which its caller would have to put on its stack. */
__attribute__((noinline)) static bool free_odd(struct thread *thread, const void *block, uint32_t site, size_t requested,
                                               size_t usable)
{
    struct blockmap_block dead = {site, requested, usable};
    return death(thread, block, 0, &dead);
}

bool recorder_free(struct thread *thread, const void *block, const struct unwind_start *start)
{
    if (is_timed(thread))
        return free_timed(thread, block, start);
    if (__builtin_expect(by_free_site || sampling_interval != 0, 0))
        return free_slow(thread, block, start);
    struct blockmap_block dead = blockmap_death_quick(block, 0);
    struct hmk_cell_page *page = thread->cells[dead.site / HMK_CELLS_PER_PAGE];
    if (__builtin_expect(dead.usable == 0, 0))
        return free_odd(thread, block, 0, 0, 0);
    if (__builtin_expect(page == NULL, 0))
        return free_odd(thread, block, dead.site, dead.requested, dead.usable);
    struct hmk_cell *cell = cell_in(page, dead.site);
    subtract_from_cell(cell, (struct sampling_weight){1, dead.requested}, slack_of(&dead));
    note_death(thread, block, cell, 1, false);
    if (__builtin_expect(HMK_GET(shared), 0))
        return count_shared(thread, cell, dead.site, -(int64_t)dead.requested, -1);
    total_alone(cell, -(int64_t)dead.requested, -1);
    return own_peak(cell, dead.site, -(int64_t)dead.requested);
}

/* Takes back what recorder_death counted; a peak share kept meanwhile stays right, since nothing was freed. */
void recorder_revive(struct thread *thread, const void *block, const struct blockmap_block *dead)
{
    marks_add(block);
    blockmap_revive(block, dead);
    uint32_t site = dead->site;
    struct hmk_cell *cell = cell_of(thread, &site);
    if (cell == NULL)
        return;
    struct sampling_weight weight = sampling_weight(block, dead->requested, dead->site);
    add(thread, cell, site, weight, slack_of(dead));
    sampled_peak_count(block, dead->site, dead->requested, true);
    cell->allocations -= weight.count;
    cell->allocated_bytes -= weight.bytes;
    cell->frees -= weight.count;
    cell->freed_bytes -= weight.bytes;
}

void recorder_death_nested(const void *block)
{
    struct thread *thread = thread_self;
    struct blockmap_block dead;
    if (thread == NULL || *thread_gate == THREAD_GATE_SHUT || !blockmap_death(block, 0, &dead))
        return;
    marks_remove(block);
    struct sampling_weight weight = sampling_weight(block, dead.requested, dead.site);
    sampled_peak_count(block, dead.site, dead.requested, false);
    /* Another handler may come in between, and defer a free of its own. */
    uint32_t at = __atomic_fetch_add(&thread->deferred_made, 1, __ATOMIC_RELAXED);
    if (at - thread->deferred_done < THREAD_DEFERRED)
        thread->deferred[at % THREAD_DEFERRED] =
            (struct thread_deferred){dead.site, slack_of(&dead), weight.count, weight.bytes};
    else
        __atomic_add_fetch(&recording_live->lost_reentrant, 1, __ATOMIC_RELAXED);
    thread->pending |= THREAD_PENDING_DEATHS;
}

void recorder_count(struct thread *thread, uint32_t site, int64_t bytes, bool birth)
{
    struct hmk_cell *cell = cell_of(thread, &site);
    if (cell == NULL)
        return;
    if (birth) {
        cell->allocations++;
        cell->allocated_bytes += (uint64_t)bytes;
    } else {
        cell->frees++;
        cell->freed_bytes += (uint64_t)bytes;
    }
    own_peak(cell, site, birth ? bytes : -bytes);
}

/* Until the other thread's event, if it is in one, is over; not for ever, since it may be waiting for this thread. */
static void await_event_end(struct thread *other, void *self)
{
    if (other == self)
        return;
    int32_t countdown = HMK_GET(other->countdown);
    for (unsigned round = 0; round < 1000; round++) {
        if (__atomic_load_n(&other->busy, __ATOMIC_ACQUIRE) == 0 || HMK_GET(other->countdown) != countdown)
            return;
        if (round < 32)
            sys_yield();
        else
            sys_nap(20);
    }
}

/* An event that another thread began alone ends with plain stores to the totals, which would undo what this one adds. */
void recorder_thread_joined(struct thread *thread, uint32_t threads)
{
    struct hmk_heap *heap = &recording_live->heap;
    if (threads < 2 || __atomic_load_n(&all_know, __ATOMIC_ACQUIRE))
        return;
    if (!__atomic_exchange_n(&shared, 1, __ATOMIC_SEQ_CST)) {
        HMK_SET(heap->flush_bytes, 1024);
        HMK_SET(heap->threads_seen, 2);
        HMK_SET(site_gather_most, 2 * SITE_FLUSH_BYTES);
    }
    sys_yield();        /* long enough for another processor's stores to arrive */
    thread_each(await_event_end, thread);
    __atomic_store_n(&all_know, 1, __ATOMIC_RELEASE);
}

void recorder_flush(struct thread *thread)
{
    if (shared)
        flush_shared(thread->record);
}

static void count_deferred(struct thread *thread)
{
    thread_hold(thread);
    while (*thread_gate != THREAD_GATE_SHUT && thread->deferred_done != HMK_GET(thread->deferred_made)) {
        struct thread_deferred *slot = &thread->deferred[thread->deferred_done % THREAD_DEFERRED];
        struct thread_deferred death = *slot;
        *slot = (struct thread_deferred){0};    /* what a handler that was left by longjmp never wrote weighs nothing */
        __atomic_signal_fence(__ATOMIC_SEQ_CST);
        thread->deferred_done++;
        struct hmk_cell *cell = death.weight_count != 0 ? cell_of(thread, &death.site) : NULL;
        if (cell != NULL)
            subtract(thread, cell, death.site, (struct sampling_weight){death.weight_count, death.weight_bytes},
                     death.slack);
    }
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    thread->busy = 0;
}

void recorder_leave_slow(struct thread *thread)
{
    if (thread->pending & THREAD_PENDING_DEATHS) {
        thread->pending &= ~(uint32_t)THREAD_PENDING_DEATHS;
        __atomic_signal_fence(__ATOMIC_SEQ_CST);
        count_deferred(thread);
    }
    if (thread->pending)
        control_serve(thread);
}

static void inherit_block(uintptr_t address, const struct blockmap_block *block, void *context)
{
    struct thread *thread = context;
    uint32_t site = block->site;
    struct hmk_cell *cell = cell_of(thread, &site);
    if (cell == NULL)
        return;
    struct sampling_weight weight = sampling_weight((const void *)address, block->requested, block->site);
    add(thread, cell, site, weight, slack_of(block));
    sampled_peak_count((const void *)address, block->site, block->requested, true);
    recording_live->inherited_blocks += weight.count;
    recording_live->inherited_bytes += weight.bytes;
}

void recorder_inherit(struct thread *thread)
{
    shared = 0;
    site_gather_most = SITE_FLUSH_BYTES;
    all_know = 0;
    blockmap_each_live(inherit_block, thread);
}
