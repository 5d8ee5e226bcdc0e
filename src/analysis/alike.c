/* SPDX-License-Identifier: MIT */
#include "analysis/alike.h"

#include "analysis/joined.h"
#include "analysis/profile.h"
#include "base/xalloc.h"
#include <stdlib.h>

static uint64_t mix(uint64_t hash, uint64_t word)
{
    hash ^= word;
    hash *= UINT64_C(0x9e3779b97f4a7c15);
    return hash ^ hash >> 29;
}

static uint64_t mix_frame(uint64_t hash, const struct hmk_frame *frame)
{
    return mix(mix(hash, (uint64_t)joined_kind(frame) << 32 | joined_number(frame)), frame->code);
}

/* By frame: the nearest that is the program's own, itself or a caller; 0: none.  A parent has the smaller number. */
static uint32_t *find_own(const struct profile *profile, const bool *own)
{
    size_t count = profile->frame_count;
    if (profile->code_count == 0 || count == 0)
        return NULL;
    uint32_t *nearest = xcalloc(count, sizeof *nearest);
    for (size_t i = 1; i < count; i++) {
        const struct hmk_frame *frame = joined_frame(profile->stacks, (uint32_t)i);
        bool is_own = joined_kind(frame) == HMK_FRAME_PYTHON && own[joined_number(frame)];
        nearest[i] = is_own ? (uint32_t)i : nearest[frame->parent];
    }
    return nearest;
}

static uint64_t hash_stack(const struct profile *profile, const struct profile_site *site, size_t frames,
                           const uint32_t *nearest_own)
{
    uint64_t hash = 1;
    uint32_t id = site->frame;

    if (profile_site_meaning(site))
        return mix(mix(0, site->id), site->id);
    if (nearest_own && nearest_own[id] != 0)
        hash = mix_frame(hash, joined_frame(profile->stacks, nearest_own[id]));
    for (; frames > 0 && id != 0; frames--) {
        const struct hmk_frame *frame = joined_frame(profile->stacks, id);
        hash = mix_frame(hash, frame);
        id = frame->parent;
    }
    return hash;
}

struct alike alike_find(const struct profile *profile, size_t frames, const bool *own)
{
    struct slot {
        uint64_t hash;
        uint32_t set;           /* 1 + its number, 0: free */
    };
    struct alike alike = { .set = xcalloc(profile->site_count, sizeof *alike.set) };
    uint32_t *nearest_own = find_own(profile, own);
    size_t slot_count = 16;
    while (slot_count < profile->site_count * 2)
        slot_count *= 2;
    struct slot *slots = xcalloc(slot_count, sizeof *slots);

    for (size_t i = 0; i < profile->site_count; i++) {
        uint64_t hash = hash_stack(profile, &profile->sites[i], frames, nearest_own);
        size_t at = (hash ^ hash >> 32) & (slot_count - 1);
        while (slots[at].set != 0 && slots[at].hash != hash)
            at = (at + 1) & (slot_count - 1);
        if (slots[at].set == 0)
            slots[at] = (struct slot){ hash, (uint32_t)++alike.count };
        alike.set[i] = slots[at].set - 1;
    }
    free(slots);
    free(nearest_own);
    return alike;
}

void alike_free(struct alike *alike)
{
    free(alike->set);
    *alike = (struct alike){ 0 };
}
