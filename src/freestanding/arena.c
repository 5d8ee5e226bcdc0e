/* SPDX-License-Identifier: MIT */
#include "freestanding/arena.h"

#include "freestanding/sys.h"
#include <stdbool.h>
#include "freestanding/banned.h"

#define CHUNK_BYTES ((size_t)1 << 20)
/* A request above this gets a mapping of its own, so that at most a quarter of a chunk is wasted. */
#define LARGE_BYTES (CHUNK_BYTES / 4)

struct chunk {
    size_t used;                /* bytes from the chunk's start, this header included */
};

static struct chunk *current;
static uint64_t mapped_bytes;

static size_t round_up(size_t value, size_t alignment)
{
    return (value + alignment - 1) & ~(alignment - 1);
}

static void *map(size_t bytes)
{
    void *memory = sys_map_anonymous(bytes);
    if (memory)
        __atomic_fetch_add(&mapped_bytes, bytes, __ATOMIC_RELAXED);
    return memory;
}

static void *carve(struct chunk *chunk, size_t bytes, size_t alignment)
{
    size_t used = __atomic_load_n(&chunk->used, __ATOMIC_RELAXED);
    size_t start;
    do {
        start = round_up(used, alignment);
        if (start + bytes > CHUNK_BYTES)
            return NULL;
    } while (!__atomic_compare_exchange_n(&chunk->used, &used, start + bytes, true, __ATOMIC_RELAXED,
                                          __ATOMIC_RELAXED));
    return (char *)chunk + start;
}

/* Replaces the exhausted chunk, unless another thread has done so.  False: the system has no memory. */
static bool refill(struct chunk *exhausted)
{
    struct chunk *fresh = map(CHUNK_BYTES);
    if (!fresh)
        return false;
    fresh->used = sizeof(*fresh);
    if (!__atomic_compare_exchange_n(&current, &exhausted, fresh, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED)) {
        __atomic_fetch_sub(&mapped_bytes, CHUNK_BYTES, __ATOMIC_RELAXED);
        sys_unmap(fresh, CHUNK_BYTES);
    }
    return true;
}

void *arena_alloc(size_t bytes, size_t alignment)
{
    if (bytes > SIZE_MAX / 2)
        return NULL;
    if (bytes > LARGE_BYTES)
        return map(round_up(bytes, sys_page_bytes()));
    for (;;) {
        struct chunk *chunk = __atomic_load_n(&current, __ATOMIC_ACQUIRE);
        void *memory = chunk ? carve(chunk, bytes, alignment) : NULL;
        if (memory)
            return memory;
        if (!refill(chunk))
            return NULL;
    }
}

uint64_t arena_bytes(void)
{
    return __atomic_load_n(&mapped_bytes, __ATOMIC_RELAXED);
}
