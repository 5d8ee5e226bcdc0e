/* SPDX-License-Identifier: MIT */
#include "census/pyobjects.h"

#include "census/allocator_pymalloc.h"
#include "census/areas.h"
#include "census/peek.h"
#include "census/scratch.h"
#include <string.h>
#include "freestanding/banned.h"

#define TYPES_MOST 256u
/* Types that are none. */
#define NO_OBJECT 0u            /* blocks that begin like no object: tables and buffers, which go with the objects that own them */
#define SPARE 1u                /* freed objects that the interpreter keeps for the next one of their type */
#define OTHER 2u                /* objects for whose type there was no room */
#define NO_TYPE UINT32_MAX
#define KNOWN 4096u             /* a power of two */
#define POOLS_MOST 32768u       /* looked into; 512 MiB of arenas at most */
#define NAME_BYTES 80u
#define BLOCKS_MOST 1024u       /* of a pool */
#define FLOAT_BYTES 32u         /* a block for one */
#define WORTH_BYTES 65536u      /* smaller gains are not told */

/* Of PyTypeObject, since 3.8. */
#define TYPE_BYTES 176u
#define TYPE_TYPE 1u            /* words */
#define TYPE_NAME 3u
#define TYPE_FLAGS 21u
#define FLAG_MANAGED (3u << 3)  /* since 3.11: 16 bytes before the object */
#define FLAG_READY (1u << 12)
#define FLAG_COLLECTED (1u << 14)
#define FLAG_OF_TYPES (1u << 31)

struct pyobjects_type {
    uintptr_t address;
    uint32_t offset;            /* of the object in its block */
    uint64_t blocks;
    bool chosen;
    char name[NAME_BYTES];
};

/* What a word was found to point at. */
struct pyobjects_known {
    uintptr_t address;
    uint32_t type;
};

struct pyobjects_arena {
    const struct pymalloc_arena *arena;
    bool looked;
    bool has_objects;           /* not only tables and buffers */
    bool freed;                 /* by the types that were chosen */
    uint32_t missing;           /* types in it that are not chosen yet */
    struct {
        uint32_t blocks, bytes;
    } of[TYPES_MOST];           /* each type */
};

/* ---- types ---------------------------------------------------------------------------------------- */

static bool read_at(const struct pyobjects *objects, void *to, uintptr_t from, size_t bytes)
{
    const struct area *area = areas_from(objects->pymalloc->areas, from);
    return area && from >= area->start && bytes <= area->end - from && area->flags & AREA_READ &&
           !(area->flags & AREA_KERNEL) && peek_copy(objects->pymalloc->peek, to, from, bytes);
}

/* The name up to its end or that of the area; printable, or it is none. */
static bool read_name(const struct pyobjects *objects, uintptr_t from, char name[NAME_BYTES])
{
    const struct area *area = areas_from(objects->pymalloc->areas, from);
    if (!area || from < area->start)
        return false;
    size_t room = area->end - from < NAME_BYTES - 1 ? area->end - from : NAME_BYTES - 1, length = 0;
    if (!read_at(objects, name, from, room))
        return false;
    while (length < room && (unsigned char)name[length] > ' ' && name[length] != 0x7f)
        length++;
    if (length < room && name[length] != 0)
        return false;
    memset(name + length, 0, NAME_BYTES - length);
    return length > 0;
}

static bool is_type_of_types(const struct pyobjects *objects, uintptr_t address)
{
    uint64_t word[TYPE_BYTES / 8];
    return address == objects->type_type ||
           (read_at(objects, word, address, TYPE_BYTES) && word[TYPE_TYPE] == objects->type_type &&
            word[TYPE_FLAGS] & FLAG_OF_TYPES);
}

static uint32_t new_type(struct pyobjects *objects, uintptr_t address)
{
    uint64_t word[TYPE_BYTES / 8];
    char name[NAME_BYTES];
    if (!read_at(objects, word, address, TYPE_BYTES) || !(word[TYPE_FLAGS] & FLAG_READY) ||
        !is_type_of_types(objects, word[TYPE_TYPE]) || !read_name(objects, word[TYPE_NAME], name))
        return NO_TYPE;
    if (objects->type_count == TYPES_MOST)
        return OTHER;
    struct pyobjects_type *type = &objects->type[objects->type_count];
    type->address = address;
    if (word[TYPE_FLAGS] & FLAG_COLLECTED)
        type->offset += 16;
    if (objects->pymalloc->minor >= 11 && word[TYPE_FLAGS] & FLAG_MANAGED)
        type->offset += 16;
    memcpy(type->name, name, NAME_BYTES);
    return objects->type_count++;
}

static uint32_t type_at(struct pyobjects *objects, uintptr_t address)
{
    if (address < 4096 || address % 8 != 0)
        return NO_TYPE;
    struct pyobjects_known *known = &objects->known[(address * UINT64_C(0x9e3779b97f4a7c15)) >> 52 & (KNOWN - 1)];
    if (known->address == address)
        return known->type;
    uint32_t type = NO_TYPE;
    for (uint32_t i = OTHER + 1; i < objects->type_count && type == NO_TYPE; i++)
        if (objects->type[i].address == address)
            type = i;
    if (type == NO_TYPE)
        type = new_type(objects, address);
    *known = (struct pyobjects_known){ address, type };
    return type;
}

/* ---- blocks --------------------------------------------------------------------------------------- */

/* A debug build, and PYTHONMALLOC=debug, put the size, a letter and seven such bytes before what they hand out. */
static bool has_debug_head(const unsigned char *block)
{
    for (unsigned i = 9; i < 16; i++)
        if (block[i] != 0xfd)
            return false;
    return true;
}

/* The number of references fits into 32 bits; what later versions keep above is in the uppermost 16. */
static bool is_count(uint64_t word)
{
    return (uint32_t)word != 0 && (word >> 32 & 0xffff) == 0;
}

static bool is_in_arena(const struct pyobjects *objects, uint64_t address)
{
    const struct pymalloc_arena *arena = pymalloc_from(objects->pymalloc, address);
    return arena && address >= arena->start && address % PYMALLOC_UNIT_BYTES == 0;
}

/* A list of freed objects runs through their first words or, in older versions, through the second ones of those of float. */
static bool is_link(const struct pyobjects *objects, uint64_t word)
{
    return word == 0 || is_in_arena(objects, word);
}

static uint32_t type_of_block(struct pyobjects *objects, const unsigned char *block, uint32_t bytes)
{
    uint32_t head = has_debug_head(block) ? 16 : 0;
    uint64_t word[2];
    for (uint32_t offset = 0; offset <= 32 && head + offset + 16 <= bytes; offset += 16) {
        memcpy(word, block + head + offset, sizeof(word));
        if (!is_count(word[0]) && !is_link(objects, word[0]))
            continue;
        uint32_t type = type_at(objects, word[1]);
        if (type != NO_TYPE && (type == OTHER || objects->type[type].offset == offset))
            return is_count(word[0]) ? type : SPARE;
    }
    memcpy(word, block + head, sizeof(word));
    return bytes - head == FLOAT_BYTES && word[0] == 0 && is_link(objects, word[1]) ? SPARE : NO_OBJECT;
}

/* Marks the blocks of the list of freed ones; false: it changed while it was copied. */
static bool mark_freed(struct pyobjects *objects, const struct pymalloc_pool *pool, uintptr_t address, uint32_t begun)
{
    uint32_t each = pymalloc_block_bytes(pool), freed = 0;
    uint64_t at = pool->free_block;
    memset(objects->freed, 0, begun);
    while (at != 0) {
        uint64_t offset = at - address - PYMALLOC_HEADER_BYTES;
        if (at < address + PYMALLOC_HEADER_BYTES || offset % each != 0 || offset / each >= begun ||
            objects->freed[offset / each])
            return false;
        objects->freed[offset / each] = 1;
        freed++;
        memcpy(&at, objects->copy + PYMALLOC_HEADER_BYTES + offset, sizeof(at));
    }
    return freed + pool->blocks == begun;
}

static void add_block(struct pyobjects *objects, struct pyobjects_arena *arena, uint32_t type, uint32_t bytes)
{
    objects->type[type].blocks++;
    objects->seen_blocks++;
    arena->missing += arena->of[type].blocks == 0 && type != NO_OBJECT;
    arena->of[type].blocks++;
    arena->of[type].bytes += bytes;
}

/* False: what keeps the arena cannot be told. */
static bool look_into_pool(struct pyobjects *objects, struct pyobjects_arena *arena, uintptr_t address,
                           uint32_t next_offset)
{
    struct pymalloc_pool pool;
    if (!peek_copy(objects->pymalloc->peek, objects->copy, address, next_offset))
        return false;
    memcpy(&pool, objects->copy, sizeof(pool));
    if (!pymalloc_is_pool(objects->pymalloc, &pool, address) || pool.next_offset > next_offset)
        return false;
    uint32_t each = pymalloc_block_bytes(&pool), begun = (pool.next_offset - PYMALLOC_HEADER_BYTES) / each;
    if (!mark_freed(objects, &pool, address, begun))
        return false;
    for (uint32_t i = 0; i < begun; i++) {
        const unsigned char *block = objects->copy + PYMALLOC_HEADER_BYTES + i * each;
        if (!objects->freed[i])
            add_block(objects, arena, type_of_block(objects, block, each), each);
    }
    return true;
}

/* The emptiest first. */
static void look_into_arenas(struct pyobjects *objects)
{
    struct pymalloc *pymalloc = objects->pymalloc;
    uint32_t left = POOLS_MOST;
    for (uint64_t part = 256; part >= 4; part /= 4)
        for (uint32_t i = 0; i < objects->arena_count; i++) {
            struct pyobjects_arena *at = &objects->arena[i];
            if (at->looked || at->arena->live_bytes * part > pymalloc->arena_bytes || at->arena->pools > left)
                continue;
            at->looked = !at->arena->opaque;
            uintptr_t pool = pymalloc_first_pool(pymalloc, at->arena->start);
            for (unsigned k = 0; at->arena->begun && k < PYMALLOC_POOLS; k++, pool += pymalloc->pool_bytes)
                if (at->arena->begun[k] && !look_into_pool(objects, at, pool, at->arena->begun[k]))
                    at->looked = false;
            at->has_objects = at->missing > 0;
            at->missing += !at->has_objects;
            left -= at->arena->pools;
        }
}

/* ---- ranking -------------------------------------------------------------------------------------- */

static bool is_present(const struct pyobjects_arena *arena, uint32_t type)
{
    return arena->of[type].blocks > 0;
}

/* Tables and buffers count only where there is nothing else. */
static bool counts(const struct pyobjects_arena *arena, uint32_t type)
{
    return is_present(arena, type) && (type != NO_OBJECT || !arena->has_objects);
}

/* The type to choose next: arenas that lack only it count fully, others by the number that they lack, squared. */
static uint32_t best_type(const struct pyobjects *objects)
{
    uint64_t score[TYPES_MOST] = { 0 };
    uint32_t best = NO_TYPE;
    for (uint32_t i = 0; i < objects->arena_count; i++) {
        const struct pyobjects_arena *at = &objects->arena[i];
        for (uint32_t type = 0; at->looked && at->missing && type < objects->type_count; type++)
            if (counts(at, type) && !objects->type[type].chosen)
                score[type] += pymalloc_held_bytes(at->arena) / ((uint64_t)at->missing * at->missing);
    }
    for (uint32_t type = 0; type < objects->type_count; type++)
        if (score[type] >= WORTH_BYTES && (best == NO_TYPE || score[type] > score[best]))
            best = type;
    return best;
}

/* Where most of the arenas with such objects were mapped. */
static uint32_t site_of(struct pyobjects *objects, uint32_t type)
{
    uint32_t best = 0;
    for (uint32_t i = 0; i < objects->arena_count; i++) {
        uint32_t site = objects->arena[i].arena->site;
        if (!is_present(&objects->arena[i], type) || site >= objects->sites)
            continue;
        objects->by_site[site] += objects->arena[i].arena->resident_bytes;
        if (objects->by_site[site] > objects->by_site[best])
            best = site;
    }
    for (uint32_t i = 0; i < objects->arena_count; i++)
        if (objects->arena[i].arena->site < objects->sites)
            objects->by_site[objects->arena[i].arena->site] = 0;
    return best;
}

static struct hmk_pin *add_pin(struct pyobjects *objects, uint32_t chosen)
{
    struct pyobjects_type *type = &objects->type[chosen];
    struct hmk_pin *pin = &objects->pin[objects->pin_count++];
    type->chosen = true;
    *pin = (struct hmk_pin){
        .kind = HMK_PIN_ARENA, .flags = HMK_PIN_RETURNS_ITSELF, .site = site_of(objects, chosen),
        .address = (uintptr_t)type->name, .cumulative_bytes = objects->pin_count > 1 ? pin[-1].cumulative_bytes : 0,
    };
    return pin;
}

/* Since 3.9 the last arena of the list, which is ordered by free pools, stays mapped when it gets empty.  So one of those
 * that are freed stays, most likely the one that has the most free pools now, unless one that is not freed follows it in
 * the list: that has all pools free but one. */
static const struct pymalloc_arena *reserve(const struct pyobjects *objects)
{
    const struct pymalloc *pymalloc = objects->pymalloc;
    const struct pymalloc_arena *last = NULL;
    uint32_t sparse = 0, most_left = 0, largest = 0;
    for (uint32_t i = 0; pymalloc->minor >= 9 && i < pymalloc->count; i++) {
        const struct pymalloc_arena *arena = &pymalloc->arena[i];
        bool is_sparse = sparse < objects->arena_count && objects->arena[sparse].arena == arena;
        bool freed = is_sparse && objects->arena[sparse].freed;
        sparse += is_sparse;
        if (!freed && arena->free_pools > most_left)
            most_left = arena->free_pools;
        if (freed && arena->pools + arena->free_pools > largest)
            largest = arena->pools + arena->free_pools;
        if (freed && (!last || arena->free_pools > last->free_pools))
            last = arena;
    }
    return largest > most_left + 1 ? last : NULL;
}

static void choose(struct pyobjects *objects, uint32_t type)
{
    struct hmk_pin *pin = add_pin(objects, type);
    for (uint32_t i = 0; i < objects->arena_count; i++) {
        struct pyobjects_arena *at = &objects->arena[i];
        if (!counts(at, type) || --at->missing > 0 || !at->looked)
            continue;
        at->freed = true;
        objects->freed_held_bytes += pymalloc_held_bytes(at->arena);
        objects->freed_bytes += at->arena->resident_bytes;
    }
    const struct pymalloc_arena *stays = reserve(objects);
    uint64_t held = objects->freed_held_bytes - (stays ? pymalloc_held_bytes(stays) : 0);
    uint64_t lost = objects->freed_bytes - (stays ? stays->resident_bytes : 0);
    pin->gain_bytes = held - pin->cumulative_bytes;
    pin->cumulative_bytes = held;
    pin->largest_bytes = lost - objects->lost_bytes;
    objects->lost_bytes = lost;
}

/* How many objects of its type there are, in the arenas that go, or in all. */
static void count_objects(struct pyobjects *objects, struct hmk_pin *pin, uint32_t type, bool all)
{
    for (uint32_t i = 0; i < objects->arena_count; i++) {
        const struct pyobjects_arena *at = &objects->arena[i];
        if (!is_present(at, type) || !(all || at->freed))
            continue;
        pin->arena++;
        pin->blocks += at->of[type].blocks;
        pin->bytes += at->of[type].bytes;
    }
}

/* First the steps that free arenas, then, without a gain of their own, the most frequent of the other types. */
static void rank(struct pyobjects *objects)
{
    while (objects->pin_count < PYOBJECTS_PINS) {
        uint32_t type = best_type(objects);
        if (type == NO_TYPE)
            break;
        choose(objects, type);
    }
    while (objects->pin_count > 0 && objects->pin[objects->pin_count - 1].gain_bytes == 0)
        objects->pin_count--;
    for (uint32_t type = 0; type < objects->type_count; type++) {
        objects->type[type].chosen = objects->type[type].blocks == 0;
        for (uint32_t i = 0; i < objects->pin_count; i++) {
            if (objects->pin[i].address != (uintptr_t)objects->type[type].name)
                continue;
            objects->type[type].chosen = true;
            count_objects(objects, &objects->pin[i], type, false);
        }
    }
    while (objects->pin_count < PYOBJECTS_PINS) {
        uint32_t most = NO_TYPE;
        for (uint32_t type = 0; type < objects->type_count; type++)
            if (!objects->type[type].chosen && (most == NO_TYPE || objects->type[type].blocks > objects->type[most].blocks))
                most = type;
        if (most == NO_TYPE)
            break;
        count_objects(objects, add_pin(objects, most), most, true);
    }
}

bool pyobjects_rank(struct pyobjects *objects, struct scratch *scratch)
{
    struct pymalloc *pymalloc = objects->pymalloc;
    if (objects->type_type == 0 || pymalloc->count == 0)
        return true;
    objects->arena = scratch_alloc(scratch, pymalloc->count * sizeof(*objects->arena));
    objects->type = scratch_alloc(scratch, TYPES_MOST * sizeof(*objects->type));
    objects->known = scratch_alloc(scratch, KNOWN * sizeof(*objects->known));
    objects->by_site = scratch_alloc(scratch, objects->sites * sizeof(*objects->by_site));
    objects->pin = scratch_alloc(scratch, PYOBJECTS_PINS * sizeof(*objects->pin));
    objects->copy = scratch_alloc(scratch, pymalloc->pool_bytes);
    objects->freed = scratch_alloc(scratch, BLOCKS_MOST);
    if (!objects->arena || !objects->type || !objects->known || !objects->by_site || !objects->pin || !objects->copy ||
        !objects->freed)
        return false;
    objects->type_count = OTHER + 1;
    memcpy(objects->type[SPARE].name, "(spare)", sizeof("(spare)"));
    memcpy(objects->type[OTHER].name, "(other)", sizeof("(other)"));
    for (uint32_t i = 0; i < pymalloc->count; i++)
        if (pymalloc_is_sparse(&pymalloc->arena[i]))
            objects->arena[objects->arena_count++].arena = &pymalloc->arena[i];
    look_into_arenas(objects);
    rank(objects);
    return true;
}
