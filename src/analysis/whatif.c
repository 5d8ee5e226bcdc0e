/* SPDX-License-Identifier: MIT */
#include "analysis/whatif.h"

#include "analysis/ledger.h"
#include "analysis/profile.h"
#include <stdlib.h>

#define KIB UINT64_C(1024)
#define THRESHOLD (128 * KIB)       /* for mapping, for trimming, and the padding that stays: glibc's defaults */
#define MAPPED_MOST (32 * KIB * KIB)        /* no larger block raises a threshold */
#define WORTH_BYTES (1024 * KIB)
#define WORTH_PART 20

static uint64_t positive(int64_t bytes)
{
    return bytes > 0 ? (uint64_t)bytes : 0;
}

static uint64_t above(uint64_t bytes, uint64_t least)
{
    return bytes > least ? bytes - least : 0;
}

/* The last place may stand for many arenas. */
static uint64_t arenas_at(const struct ledger *ledger, unsigned place)
{
    bool many = place == LEDGER_ARENAS - 1 && ledger->arena_count > LEDGER_ARENAS;
    return many ? ledger->arena_count - place : 1;
}

static unsigned places(const struct ledger *ledger)
{
    return ledger->arena_count < LEDGER_ARENAS ? ledger->arena_count : LEDGER_ARENAS;
}

static struct whatif thresholds(const struct ledger *ledger)
{
    uint64_t tops = above(positive(ledger->part[LEDGER_TOP]), THRESHOLD), large = ledger->would_map_bytes;
    for (unsigned i = 1; i < places(ledger); i++)
        tops += above(positive(ledger->arena[i].stuck_bytes), arenas_at(ledger, i) * THRESHOLD);
    uint64_t more = tops > large ? tops : large, less = tops > large ? large : tops;
    return (struct whatif){ WHATIF_THRESHOLDS, less > more / 16 ? WHATIF_AT_LEAST : WHATIF_ABOUT, more };
}

static struct whatif arenas(const struct ledger *ledger)
{
    return (struct whatif){ WHATIF_ARENAS, WHATIF_AFTER_TRIM, positive(ledger->part[LEDGER_STUCK_TOP]) };
}

/* How far frees can have raised the threshold for trimming. */
static uint64_t highest_threshold(const struct profile *profile)
{
    uint64_t largest = THRESHOLD / 2;
    for (unsigned i = 0; i < PROFILE_SIZE_CLASSES; i++) {
        uint64_t from, to;
        profile_size_class(i, &from, &to);
        if (profile->size_class[i] > 0 && to > THRESHOLD && from <= MAPPED_MOST)
            largest = to < MAPPED_MOST ? to : MAPPED_MOST;
    }
    return largest * 2;
}

static struct whatif tcache(const struct profile *profile, const struct ledger *ledger)
{
    struct whatif whatif = { WHATIF_TCACHE, WHATIF_ABOUT, 0 };
    for (size_t i = 0; i < ledger->pin_count; i++)
        if (ledger->pins[i].kind == LEDGER_PIN_TOP_CACHED)
            whatif.bytes += ledger->pins[i].gain_bytes;
    if (whatif.bytes < highest_threshold(profile))
        whatif.bound = WHATIF_UP_TO;
    return whatif;
}

struct whatif whatif_of(const struct profile *profile, const struct ledger *ledger, enum whatif_setting setting)
{
    struct whatif none = { setting, WHATIF_ABOUT, 0 };
    if (ledger->chunks_unknown)
        return none;
    switch (setting) {
    case WHATIF_THRESHOLDS: return thresholds(ledger);
    case WHATIF_ARENAS: return arenas(ledger);
    case WHATIF_TCACHE: return tcache(profile, ledger);
    case WHATIF_SETTINGS: break;
    }
    return none;
}

static int what_helps_most(const void *a, const void *b)
{
    const struct whatif *x = a, *y = b;
    int x_late = x->bound == WHATIF_AFTER_TRIM, y_late = y->bound == WHATIF_AFTER_TRIM;
    if (x_late != y_late)
        return x_late - y_late;
    if (x->bytes != y->bytes)
        return x->bytes > y->bytes ? -1 : 1;
    return (int)x->setting - (int)y->setting;
}

struct whatifs whatifs_find(const struct profile *profile, const struct ledger *ledger)
{
    struct whatifs all = { .count = 0 };
    for (unsigned setting = 0; setting < WHATIF_SETTINGS; setting++) {
        struct whatif one = whatif_of(profile, ledger, setting);
        if (one.bytes >= WORTH_BYTES && one.bytes >= ledger->rss_bytes / WORTH_PART)
            all.at[all.count++] = one;
    }
    qsort(all.at, all.count, sizeof *all.at, what_helps_most);
    return all;
}

const char *whatif_name(enum whatif_setting setting)
{
    static const char *const names[WHATIF_SETTINGS] = {
        [WHATIF_THRESHOLDS] = "thresholds", [WHATIF_ARENAS] = "arenas", [WHATIF_TCACHE] = "tcache",
    };
    return names[setting];
}

const char *whatif_environment(enum whatif_setting setting)
{
    static const char *const settings[WHATIF_SETTINGS] = {
        [WHATIF_THRESHOLDS] = "MALLOC_MMAP_THRESHOLD_=131072", [WHATIF_ARENAS] = "MALLOC_ARENA_MAX=1",
        [WHATIF_TCACHE] = "GLIBC_TUNABLES=glibc.malloc.tcache_count=0",
    };
    return settings[setting];
}
