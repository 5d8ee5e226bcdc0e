/* SPDX-License-Identifier: MIT */
#include "census/forked.h"

#include "census/ledger.h"
#include "census/residency.h"
#include <string.h>
#include <sys/mman.h>
#include "freestanding/sys.h"
#include "freestanding/banned.h"

bool forked_note_areas(struct forked_before *before)
{
    memset(before, 0, sizeof(*before));
    if (areas_read(&before->areas, &before->scratch))
        return true;
    scratch_release(&before->scratch);
    return false;
}

bool forked_note_status(struct forked_before *before)
{
    return ledger_read_status(&before->status, &before->scratch);
}

void forked_release(struct forked_before *before)
{
    scratch_release(&before->scratch);
}

void forked_plug(const struct forked_before *before)
{
    for (size_t i = 0; i < before->areas.count; i++) {
        const struct area *area = &before->areas.list[i];
        if (area->flags & AREA_LEFT_OUT)
            sys_map_raw((void *)area->start, area->end - area->start, PROT_READ,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
    }
}

/* Touched before the list was read, and by nobody since. */
static void take_out(const void *memory, size_t bytes, void *context)
{
    struct areas *areas = context;
    uintptr_t start = (uintptr_t)memory;
    struct area *area = areas_from(areas, start);
    if (!area || area->start > start)
        return;
    uint64_t resident = residency_count(start, start + bytes);
    area->rss_bytes -= resident < area->rss_bytes ? resident : area->rss_bytes;
    area->anonymous_bytes -= resident < area->anonymous_bytes ? resident : area->anonymous_bytes;
}

static bool was_copied(const struct area *area)
{
    if (area->flags & (AREA_WIPED | AREA_SHARED | AREA_SHMEM | AREA_KERNEL))
        return false;
    return !(area->flags & AREA_FILE) || area->anonymous_bytes;
}

static void take_over(struct area *area, const struct area *parent)
{
    area->rss_bytes = parent->rss_bytes;
    area->anonymous_bytes = parent->anonymous_bytes;
    area->huge_bytes = parent->huge_bytes;
    area->swap_bytes = parent->swap_bytes;
}

/* Both lists are sorted.  An area of which the child has no copy, and the parent's list no twin, was made or changed
 * within the last moments, and holds what the child's own count says: nothing. */
bool forked_join(struct areas *areas, const struct forked_before *before, struct scratch *own)
{
    scratch_each(own, take_out, areas);
    struct area *joined = scratch_alloc(own, (areas->count + before->areas.count) * sizeof(*joined));
    const struct area *parent = before->areas.list, *parents_end = parent + before->areas.count;
    size_t count = 0;
    if (!joined)
        return false;
    for (size_t i = 0; i < areas->count; i++) {
        struct area area = areas->list[i];
        for (; parent < parents_end && parent->start < area.start; parent++)
            if (parent->flags & AREA_LEFT_OUT)
                joined[count++] = *parent;
        bool has_twin = parent < parents_end && parent->start == area.start && parent->end == area.end;
        if (has_twin && (parent->flags & AREA_LEFT_OUT))
            continue;           /* its plug; it is taken itself in the next round */
        bool copied = was_copied(&area);
        if (!copied)
            area.rss_bytes = area.anonymous_bytes = 0;
        if (!copied && has_twin)
            take_over(&area, parent);
        joined[count++] = area;
    }
    for (; parent < parents_end; parent++)
        if (parent->flags & AREA_LEFT_OUT)
            joined[count++] = *parent;
    areas->list = joined;
    areas->count = count;
    return true;
}
