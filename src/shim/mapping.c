/* SPDX-License-Identifier: MIT */
#include "shim/mapping.h"

#include "freestanding/sys.h"
#include "shim/recorder.h"
#include "shim/recording.h"
#include "shim/spin.h"
#include "shim/timeline.h"

/* Sorted, without overlap.  The kernel allows 65530 mappings by default; more are not kept. */
#define LIMIT 131072u
static struct mapping_interval *intervals;
static uint32_t count;
static uint32_t capacity;
static struct spin lock;

static uint32_t first_ending_after(uintptr_t address)
{
    uint32_t low = 0, high = count;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (intervals[middle].end <= address)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static void lock_list(void)
{
    if (spin_lock(&lock))
        count = 0;      /* another thread was changing the list at the fork */
}

static bool make_room(void)
{
    if (count + 2 <= capacity)
        return true;
    uint32_t larger = capacity ? capacity * 2 : 1024;
    if (larger > LIMIT)
        return false;
    struct mapping_interval *fresh = sys_map_anonymous(larger * sizeof *fresh), *old = intervals;
    if (fresh == NULL)
        return false;
    if (old != NULL)
        __builtin_memcpy(fresh, old, count * sizeof *fresh);
    /* Another thread may fork here: its child must not be left with the address of what is unmapped below. */
    __atomic_store_n(&intervals, fresh, __ATOMIC_RELEASE);
    if (old != NULL)
        sys_unmap(old, capacity * sizeof *fresh);
    capacity = larger;
    return true;
}

static void insert_at(uint32_t at, uintptr_t start, uintptr_t end, uint32_t site)
{
    __builtin_memmove(&intervals[at + 1], &intervals[at], (count - at) * sizeof *intervals);
    intervals[at] = (struct mapping_interval){start, end, site};
    count++;
}

static void remove_at(uint32_t at)
{
    count--;
    __builtin_memmove(&intervals[at], &intervals[at + 1], (count - at) * sizeof *intervals);
}

static void keep_piece(struct mapping_removed *removed, uintptr_t start, uintptr_t end, uint32_t site)
{
    if (removed->count >= MAPPING_PIECES)
        return;
    removed->piece[removed->count].start = start;
    removed->piece[removed->count].bytes = end - start;
    removed->piece[removed->count].site = site;
    removed->count++;
}

/* Lock held; counts happen in the caller's thread cells. */
static void cut(struct thread *thread, uintptr_t start, uintptr_t end, struct mapping_removed *removed)
{
    uint32_t at = first_ending_after(start);
    while (at < count && intervals[at].start < end) {
        struct mapping_interval *interval = &intervals[at];
        uintptr_t from = interval->start > start ? interval->start : start;
        uintptr_t to = interval->end < end ? interval->end : end;
        uint32_t site = interval->site;
        recorder_count(thread, site, (int64_t)(to - from), false);
        timeline_map(-(int64_t)(to - from));
        keep_piece(removed, from, to, site);
        if (from > interval->start && to < interval->end) {
            uintptr_t tail = interval->end;
            interval->end = from;
            if (make_room())
                insert_at(at + 1, to, tail, site);
            return;
        }
        if (from > interval->start) {
            interval->end = from;
            at++;
        } else if (to < interval->end) {
            interval->start = to;
            return;
        } else {
            remove_at(at);
        }
    }
}

void mapping_add(struct thread *thread, uintptr_t start, size_t bytes, uint32_t site)
{
    struct mapping_removed ignored = {0};
    lock_list();
    cut(thread, start, start + bytes, &ignored);
    uint32_t at = first_ending_after(start);
    recorder_count(thread, site, (int64_t)bytes, true);
    timeline_map((int64_t)bytes);
    if (at > 0 && intervals[at - 1].end == start && intervals[at - 1].site == site)
        intervals[at - 1].end = start + bytes;
    else if (make_room())
        insert_at(at, start, start + bytes, site);
    spin_unlock(&lock);
}

void mapping_remove(struct thread *thread, uintptr_t start, size_t bytes, struct mapping_removed *removed)
{
    removed->count = 0;
    lock_list();
    if (bytes != 0 && start + bytes > start)
        cut(thread, start, start + bytes, removed);
    spin_unlock(&lock);
}

void mapping_put_back(struct thread *thread, const struct mapping_removed *removed)
{
    for (uint32_t i = 0; i < removed->count; i++)
        mapping_add(thread, removed->piece[i].start, removed->piece[i].bytes, removed->piece[i].site);
}

uint32_t mapping_copy(struct mapping_interval *to, uint32_t room)
{
    lock_list();
    uint32_t total = count, copied = total < room ? total : room;
    if (copied > 0)
        __builtin_memcpy(to, intervals, copied * sizeof *to);
    spin_unlock(&lock);
    return total;
}

void mapping_in_child(void)
{
    if (lock.owner)
        count = 0;      /* another thread was changing the list at the fork */
    spin_reset(&lock);
}

void mapping_after_fork(struct thread *thread)
{
    mapping_in_child();
    for (uint32_t i = 0; i < count; i++)
        recorder_count(thread, intervals[i].site, (int64_t)(intervals[i].end - intervals[i].start), true);
}
