/* SPDX-License-Identifier: MIT */
#include "census/fastbins.h"

#include "census/areas.h"
#include "census/peek.h"
#include "census/scratch.h"
#include <string.h>
#include "freestanding/sys.h"
#include "freestanding/banned.h"

/* In words, from the pointer to the top chunk on. */
#define BINS 127u
#define FIRST_BIN 2u
#define STATE_WORDS (FIRST_BIN + 2 * BINS)
#define HEADS 10u               /* they end where that pointer is; the first is of chunks of 32 bytes */
#define ARENA_REACH 64u         /* that far into an arena's structure, in words, its top may be */

#define BUFFER_WORDS 8192u
#define STEPS_DIRECT (UINT64_C(1) << 26)
#define STEPS_BY_KERNEL (UINT64_C(1) << 19)     /* each is a call */

struct search {
    const struct extents *extents;
    struct peek *peek;
    struct scratch *scratch;
    uint64_t *buffer;
    uint64_t steps;             /* left */
    bool main_found, all, no_memory;
};

static struct extent *extent_of(const struct search *search, uint64_t chunk, uint32_t arena)
{
    struct extent *extent = chunk % 16 ? NULL : extents_at(search->extents, chunk);
    return extent && extent->arena == arena ? extent : NULL;
}

/* Whether the words are of a malloc_state, from its top on, at `address` in the process.  glibc never uses the last bin; a
 * program's own table may well lead into heaps, but not to itself. */
static bool is_state(const struct search *search, const uint64_t *word, uintptr_t address, uint32_t arena)
{
    if (!extent_of(search, word[0], arena))
        return false;
    bool empty = false;
    for (uint32_t i = 0; i < BINS; i++) {
        uint64_t self = address + 16 * (uint64_t)i, next = word[FIRST_BIN + 2 * i], previous = word[FIRST_BIN + 2 * i + 1];
        empty = next == self && previous == self;
        if (!empty && (!extent_of(search, next, arena) || !extent_of(search, previous, arena)))
            return false;
    }
    return empty;
}

/* ---- lists ---------------------------------------------------------------------------------------- */

static bool mark(struct search *search, struct extent *extent, uintptr_t chunk)
{
    size_t units = (extent->end - extent->start) / 16, unit = (chunk - extent->start) / 16;
    if (!extent->fast)
        extent->fast = scratch_alloc(search->scratch, units / 8 + 8);
    if (!extent->fast) {
        search->no_memory = true;
        return false;
    }
    uint64_t bit = UINT64_C(1) << unit % 64;
    bool fresh = !(extent->fast[unit / 64] & bit);
    extent->fast[unit / 64] |= bit;
    return fresh;
}

/* Since 2.32 the pointer to the next chunk is stored with the number of its own page mixed in. */
static uint64_t next_of(const struct search *search, uintptr_t chunk, uint64_t word, uint32_t arena)
{
    uint64_t mixed = word ^ (chunk + 16) >> 12;
    return mixed == 0 || extent_of(search, mixed, arena) ? mixed : word;
}

static void follow(struct search *search, uintptr_t chunk, uint64_t bytes, uint32_t arena)
{
    while (chunk) {
        struct extent *extent = extent_of(search, chunk, arena);
        if (search->steps == 0 || !extent || extent->end - chunk < bytes) {
            search->all = false;
            return;
        }
        search->steps--;
        search->peek->failed = false;
        uint64_t size = peek_word(search->peek, chunk + 8, extent->end) & ~UINT64_C(7);
        uint64_t word = peek_word(search->peek, chunk + 16, extent->end);
        if (search->peek->failed || size != bytes || !mark(search, extent, chunk)) {
            search->all = false;
            return;
        }
        chunk = next_of(search, chunk, word, arena);
    }
}

/* Words that are no heads are of a glibc without fastbins. */
static void follow_heads(struct search *search, const uint64_t *heads, uint32_t arena)
{
    for (uint32_t i = 0; i < HEADS; i++)
        if (extent_of(search, heads[i], arena))
            follow(search, heads[i], 32 + 16 * (uint64_t)i, arena);
}

/* ---- arenas --------------------------------------------------------------------------------------- */

/* Looks for a malloc_state whose top has its place in the first `places` words behind the heads. */
static bool look_in(struct search *search, uintptr_t start, size_t words, size_t places, uint32_t arena)
{
    uint64_t heads[HEADS];
    for (size_t at = HEADS; at < HEADS + places && at + STATE_WORDS <= words; at++) {
        if (!is_state(search, search->buffer + at, start + at * 8, arena))
            continue;
        memcpy(heads, search->buffer + at - HEADS, sizeof(heads));
        follow_heads(search, heads, arena);
        return true;
    }
    return false;
}

/* A file may be shorter than its mapping: only the kernel may read there. */
static size_t read_words(struct search *search, uintptr_t start, uintptr_t end)
{
    size_t bytes = end - start < BUFFER_WORDS * 8 ? end - start : BUFFER_WORDS * 8;
    long got = sys_process_read(search->peek->pid, search->buffer, (const void *)start, bytes);
    return got > 0 ? (size_t)got / 8 : 0;
}

/* The main arena's is among libc's data. */
static void look_in_data(struct search *search, const struct area *area)
{
    uintptr_t at = area->start;
    while (at < area->end && !search->main_found) {
        size_t words = read_words(search, at, area->end);
        if (words < HEADS + STATE_WORDS)
            return;
        size_t places = words - HEADS - STATE_WORDS + 1;
        search->main_found = look_in(search, at, words, places, 0);
        at += places * 8;
    }
}

static void look_in_heap(struct search *search, const struct extent *extent)
{
    size_t words = read_words(search, extent->head_end, extent->end);
    if (!look_in(search, extent->head_end, words, ARENA_REACH, extent->arena))
        search->all = false;
}

bool fastbins_mark(const struct extents *extents, const struct areas *areas, uintptr_t code, struct peek *peek,
                   struct scratch *scratch, bool *all)
{
    struct search search = { .extents = extents, .peek = peek, .scratch = scratch, .all = true,
                             .steps = peek->direct ? STEPS_DIRECT : STEPS_BY_KERNEL };
    bool has_main = false;
    search.buffer = scratch_alloc(scratch, BUFFER_WORDS * 8);
    if (!search.buffer)
        return false;
    for (size_t i = 0; i < extents->count; i++) {
        const struct extent *extent = &extents->list[i];
        has_main = has_main || extent->arena == 0;
        if (extent->arena && extent->holds_arena)
            look_in_heap(&search, extent);
    }
    const struct area *first = areas_from(areas, code);
    size_t begin = first ? (size_t)(first - areas->list) : 0;
    for (size_t i = 0; has_main && i < areas->count && !search.main_found; i++) {
        const struct area *area = &areas->list[(begin + i) % areas->count];
        if (area->flags & AREA_FILE && area->flags & AREA_WRITE && !(area->flags & (AREA_SHARED | AREA_OWN_LIBRARY)))
            look_in_data(&search, area);
    }
    *all = search.all && search.main_found == has_main;
    return !search.no_memory;
}
