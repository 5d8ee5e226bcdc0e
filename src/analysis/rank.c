/* SPDX-License-Identifier: MIT */
#include "analysis/rank.h"

#include "base/select.h"
#include "base/xalloc.h"
#include <stdlib.h>
#include <string.h>

static const char *const names[RANK_KEYS] = {
    [RANK_LIVE] = "live", [RANK_PEAK] = "peak", [RANK_OWN_PEAK] = "own-peak", [RANK_HELD] = "held",
    [RANK_TOTAL] = "total", [RANK_COUNT] = "count", [RANK_TEMPORARY] = "temporary", [RANK_MAPPED] = "mapped",
    [RANK_PINNED] = "pinned",
};

enum rank_key rank_key_named(const char *name)
{
    for (unsigned key = 0; key < RANK_KEYS; key++)
        if (strcmp(names[key], name) == 0)
            return (enum rank_key)key;
    return RANK_KEYS;
}

const char *rank_key_name(enum rank_key key)
{
    return names[key];
}

int64_t rank_value(const struct profile_site *site, enum rank_key key)
{
    switch (key) {
    case RANK_LIVE: return site->live_bytes;
    case RANK_PEAK: return site->peak_bytes;
    case RANK_OWN_PEAK: return site->own_peak_bytes;
    case RANK_HELD: return (int64_t)site->held_bytes;
    case RANK_TOTAL: return (int64_t)site->allocated_bytes;
    case RANK_COUNT: return (int64_t)site->allocations;
    case RANK_TEMPORARY: return (int64_t)site->temporary;
    case RANK_MAPPED: return (int64_t)site->mapped_bytes;
    case RANK_PINNED: return (int64_t)site->pin_share_bytes;
    default: return 0;
    }
}

struct item {
    int64_t value;
    const struct profile_site *site;
};

static int item_compare(const void *a, const void *b)
{
    const struct item *x = a, *y = b;
    if (x->value != y->value)
        return x->value > y->value ? -1 : 1;
    return x->site->id < y->site->id ? -1 : x->site->id > y->site->id;
}

struct rank rank_first(const struct profile *profile, enum rank_key key, enum profile_kind kind, const bool *hidden, size_t count)
{
    struct rank rank = { 0 };
    struct item *items = xcalloc(profile->site_count, sizeof *items);

    for (size_t i = 0; i < profile->site_count; i++) {
        const struct profile_site *site = &profile->sites[i];
        int64_t value = rank_value(site, key);
        if (value <= 0 || (kind != PROFILE_KINDS && site->kind != kind))
            continue;
        rank.total += value;
        if (!hidden || !hidden[i])
            items[rank.count++] = (struct item){ value, site };
    }
    select_first(items, rank.count, sizeof *items, count, item_compare);
    if (count < rank.count)
        rank.count = count;
    rank.sites = xcalloc(rank.count, sizeof *rank.sites);
    for (size_t i = 0; i < rank.count; i++)
        rank.sites[i] = items[i].site;
    free(items);
    return rank;
}

struct rank rank_sites(const struct profile *profile, enum rank_key key, enum profile_kind kind)
{
    return rank_first(profile, key, kind, NULL, SIZE_MAX);
}

struct rank_sum rank_sum(const struct profile *profile, enum rank_key key, enum profile_kind kind)
{
    struct rank_sum sum = { 0 };
    for (size_t i = 0; i < profile->site_count; i++) {
        const struct profile_site *site = &profile->sites[i];
        int64_t value = rank_value(site, key);
        if (value <= 0 || (kind != PROFILE_KINDS && site->kind != kind))
            continue;
        sum.count++;
        sum.total += value;
        if (!sum.largest || value > rank_value(sum.largest, key))
            sum.largest = site;
    }
    return sum;
}

void rank_free(struct rank *rank)
{
    free(rank->sites);
    *rank = (struct rank){ 0 };
}
