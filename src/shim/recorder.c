/* SPDX-License-Identifier: MIT */
#include "shim/recorder.h"

#include "freestanding/sys.h"
#include "shim/control.h"
#include "shim/cycles.h"
#include "shim/recording.h"
#include "shim/sampling.h"
#include "shim/stack.h"
#include "shim/timeline.h"

/* Totals.  While one thread records, every event goes straight into live.heap and is exact.  Later each thread gathers
 * up to flush_bytes in its own record; see struct hmk_heap. */
static uint32_t shared;

#define SITE_FLUSH_BYTES 16384

static inline int64_t live_bytes(const struct hmk_cell *cell)
{
    return (int64_t)(cell->allocated_bytes - cell->freed_bytes);
}

static inline int64_t live_blocks(const struct hmk_cell *cell)
{
    return (int64_t)(cell->allocations - cell->frees);
}

/* Keeps what the cell had at the last peak, on the first event after it. */
static inline void keep_peak_share(struct hmk_cell *cell, uint32_t epoch)
{
    if (cell->epoch == epoch)
        return;
    cell->peak_bytes = live_bytes(cell);
    cell->peak_blocks = (int32_t)live_blocks(cell);
    cell->epoch = epoch;
}

static inline void total_alone(struct hmk_cell *cell, int64_t bytes, int64_t blocks)
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
    } else {
        if (heap->rising) {
            heap->epoch++;
            heap->rising = 0;
        }
        keep_peak_share(cell, heap->epoch);
    }
    heap->live_bytes = total;
    heap->live_blocks = total_blocks;
}

__attribute__((noinline)) static void flush_shared(struct hmk_thread *record)
{
    struct hmk_live *live = recording_live;
    struct hmk_heap *heap = &live->heap;
    int64_t bytes = record->pending_bytes, blocks = record->pending_blocks;
    HMK_SET(record->pending_bytes, 0);
    HMK_SET(record->pending_blocks, 0);
    int64_t total_blocks = __atomic_add_fetch(&heap->live_blocks, blocks, __ATOMIC_RELAXED);
    int64_t total = __atomic_add_fetch(&heap->live_bytes, bytes, __ATOMIC_ACQ_REL);
    int64_t peak = HMK_GET(heap->peak_bytes);
    if (total <= peak) {
        if (HMK_GET(heap->rising) && __atomic_exchange_n(&heap->rising, 0, __ATOMIC_ACQ_REL))
            __atomic_add_fetch(&heap->epoch, 1, __ATOMIC_RELEASE);
        return;
    }
    while (total > peak) {
        if (__atomic_compare_exchange_n(&heap->peak_bytes, &peak, total, true, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED)) {
            HMK_SET(heap->peak_blocks, total_blocks);
            HMK_SET(heap->peak_ns, HMK_GET(live->last_ns));
            if (!HMK_GET(heap->rising))
                HMK_SET(heap->rising, 1);
            break;
        }
    }
    /* The bound grows with the peak: 0.1 % of it over all threads, at most 64 KiB each. */
    int64_t bound = total / (1024 * (int64_t)thread_count());
    bound = bound < 1024 ? 1024 : bound > 65536 ? 65536 : bound;
    if ((uint32_t)bound != HMK_GET(heap->flush_bytes))
        HMK_SET(heap->flush_bytes, (uint32_t)bound);
}

static inline void total_shared(struct thread *thread, struct hmk_cell *cell, int64_t bytes, int64_t blocks)
{
    struct hmk_heap *heap = &recording_live->heap;
    struct hmk_thread *record = thread->record;
    int64_t pending = record->pending_bytes + bytes;
    HMK_SET(record->pending_bytes, pending);
    HMK_SET(record->pending_blocks, record->pending_blocks + blocks);
    int64_t bound = HMK_GET(heap->flush_bytes);
    if (__builtin_expect(pending >= bound || pending <= -bound, 0))
        flush_shared(record);
    if (!HMK_GET(heap->rising))
        keep_peak_share(cell, HMK_OBSERVE(heap->epoch));
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

static inline void own_peak(struct hmk_cell *cell, uint32_t site, int64_t bytes)
{
    struct hmk_site_peak *peak = recording_at(HMK_SITE_PEAKS, site);
    if (!shared) {
        int64_t live = peak->live_bytes + bytes;
        peak->live_bytes = live;
        if (live > peak->peak_bytes) {
            peak->peak_bytes = live;
            peak->peak_ns = recording_live->last_ns;
        }
        return;
    }
    int64_t pending = cell->pending_bytes + bytes;
    if (pending < SITE_FLUSH_BYTES && pending > -SITE_FLUSH_BYTES) {
        cell->pending_bytes = (int32_t)pending;
        return;
    }
    cell->pending_bytes = 0;
    raise_site_peak(peak, __atomic_add_fetch(&peak->live_bytes, pending, __ATOMIC_RELAXED));
}

static inline void add(struct thread *thread, struct hmk_cell *cell, uint32_t site, struct sampling_weight weight,
                       uint32_t slack)
{
    if (__builtin_expect(shared, 0))
        total_shared(thread, cell, (int64_t)weight.bytes, (int64_t)weight.count);
    else
        total_alone(cell, (int64_t)weight.bytes, (int64_t)weight.count);
    cell->allocations += weight.count;
    cell->allocated_bytes += weight.bytes;
    cell->slack_bytes = (int32_t)((uint32_t)cell->slack_bytes + slack);
    own_peak(cell, site, (int64_t)weight.bytes);
}

static inline void subtract(struct thread *thread, struct hmk_cell *cell, uint32_t site, struct sampling_weight weight,
                            uint32_t slack)
{
    if (__builtin_expect(shared, 0))
        total_shared(thread, cell, -(int64_t)weight.bytes, -(int64_t)weight.count);
    else
        total_alone(cell, -(int64_t)weight.bytes, -(int64_t)weight.count);
    cell->frees += weight.count;
    cell->freed_bytes += weight.bytes;
    cell->slack_bytes = (int32_t)((uint32_t)cell->slack_bytes - slack);
    own_peak(cell, site, -(int64_t)weight.bytes);
}

static inline uint32_t slack_of(const struct blockmap_block *block)
{
    return (uint32_t)(block->usable - block->requested);
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

/* Every 64th event is timed, and stands for 64. */
#define TICK_EVENTS 64
static inline uint64_t begin_event(const struct thread *thread)
{
    return __builtin_expect(thread->countdown == TICK_EVENTS, 0) ? cycles_now() : 0;
}

static inline void end_event(struct thread *thread, size_t bytes, uint64_t began)
{
    if (__builtin_expect(began != 0, 0))
        thread->spent_cycles += (cycles_now() - began) * TICK_EVENTS;
    if (__builtin_expect(--thread->countdown <= 0, 0)) {
        thread->countdown = TICK_EVENTS;
        timeline_tick(thread);
    } else if (__builtin_expect(bytes >= 65536 || sampling_interval != 0, 0)) {
        timeline_tick(thread);
    }
}

__attribute__((cold, noinline)) static void retire_stale(struct thread *thread, const void *block,
                                                         const struct blockmap_block *old)
{
    uint32_t site = old->site;
    struct hmk_cell *cell = cell_of(thread, &site);
    if (cell != NULL)
        subtract(thread, cell, site, sampling_weight(block, old->requested, old->site), slack_of(old));
    HMK_SET(recording_live->stale_live, recording_live->stale_live + 1);
}

void recorder_birth(struct thread *thread, const void *block, size_t requested, const struct unwind_start *start)
{
    uint64_t began = begin_event(thread);
    uint32_t site = stack_site(thread, start, HMK_KIND_HEAP);
    struct hmk_cell *cell = cell_of(thread, &site);
    if (__builtin_expect(cell == NULL, 0))
        return;
    struct blockmap_birth birth;
    blockmap_birth(block, requested, site, &birth);
    if (__builtin_expect(birth.stale, 0))
        retire_stale(thread, block, &birth.old);
    if (__builtin_expect(!birth.stored, 0))
        return;     /* its death will not be seen either: the totals stay consistent */
    if (__builtin_expect(sampling_interval != 0, 0))
        sampling_draw(thread);
    struct sampling_weight weight = sampling_weight(block, requested, site);
    add(thread, cell, site, weight, (uint32_t)(birth.usable - requested));
    thread->histogram->allocations[hmk_size_class(requested)] += weight.count;
    thread->last_block = block;
    end_event(thread, requested, began);
}

/* With free sites, what a block leaves behind is charged to the call that freed it. */
static bool by_free_site;

void recorder_charge_free_sites(void)
{
    by_free_site = true;
}

bool recorder_death(struct thread *thread, const void *block, const struct unwind_start *start,
                    struct blockmap_block *dead)
{
    uint64_t began = begin_event(thread);
    uint32_t painter = __builtin_expect(by_free_site, 0) ? stack_site(thread, start, HMK_KIND_HEAP) : 0;
    if (!blockmap_death(block, painter, dead)) {
        if (sampling_interval != 0)
            return false;
        HMK_SET(recording_live->unknown_frees, recording_live->unknown_frees + 1);
        return false;
    }
    uint32_t site = dead->site;
    struct hmk_cell *cell = cell_of(thread, &site);
    if (__builtin_expect(cell == NULL, 0))
        return true;
    struct sampling_weight weight = sampling_weight(block, dead->requested, dead->site);
    subtract(thread, cell, site, weight, slack_of(dead));
    if (thread->last_block == block) {
        cell->temporary += weight.count;
        thread->last_block = NULL;
    }
    end_event(thread, dead->requested, began);
    return true;
}

/* Takes back what recorder_death counted; a peak share kept meanwhile stays right, since nothing was freed. */
void recorder_revive(struct thread *thread, const void *block, const struct blockmap_block *dead)
{
    blockmap_revive(block, dead);
    uint32_t site = dead->site;
    struct hmk_cell *cell = cell_of(thread, &site);
    if (cell == NULL)
        return;
    struct sampling_weight weight = sampling_weight(block, dead->requested, dead->site);
    add(thread, cell, site, weight, slack_of(dead));
    cell->allocations -= weight.count;
    cell->allocated_bytes -= weight.bytes;
    cell->frees -= weight.count;
    cell->freed_bytes -= weight.bytes;
}

void recorder_death_nested(const void *block)
{
    struct thread *thread = thread_self;
    struct blockmap_block dead;
    if (thread == NULL || *thread_gate != 1 || !blockmap_death(block, 0, &dead))
        return;
    struct sampling_weight weight = sampling_weight(block, dead.requested, dead.site);
    uint32_t at = thread->deferred_count;
    if (at < THREAD_DEFERRED) {
        thread->deferred[at].site = dead.site;
        thread->deferred[at].weight_count = weight.count;
        thread->deferred[at].weight_bytes = weight.bytes;
        thread->deferred[at].slack = slack_of(&dead);
        thread->deferred_count = at + 1;
    } else {
        HMK_SET(recording_live->lost_reentrant, recording_live->lost_reentrant + 1);
    }
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

void recorder_thread_joined(uint32_t threads)
{
    struct hmk_heap *heap = &recording_live->heap;
    if (threads < 2 || shared)
        return;
    HMK_SET(heap->flush_bytes, 1024);
    HMK_SET(heap->threads_seen, 2);
    __atomic_store_n(&shared, 1, __ATOMIC_RELEASE);
}

void recorder_flush(struct thread *thread)
{
    if (shared)
        flush_shared(thread->record);
}

void recorder_leave_slow(struct thread *thread)
{
    while (thread->deferred_count > 0) {
        thread->busy = 1;
        __atomic_signal_fence(__ATOMIC_SEQ_CST);
        uint32_t at = --thread->deferred_count;
        uint32_t site = thread->deferred[at].site;
        struct hmk_cell *cell = cell_of(thread, &site);
        if (cell != NULL)
            subtract(thread, cell, site,
                     (struct sampling_weight){thread->deferred[at].weight_count, thread->deferred[at].weight_bytes},
                     thread->deferred[at].slack);
        __atomic_signal_fence(__ATOMIC_SEQ_CST);
        thread->busy = 0;
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
    recording_live->inherited_blocks += weight.count;
    recording_live->inherited_bytes += weight.bytes;
}

void recorder_inherit(struct thread *thread)
{
    shared = 0;
    blockmap_each_live(inherit_block, thread);
}
