/* SPDX-License-Identifier: MIT */
#include "base/pool.h"

#include "base/xalloc.h"
#include <stdalign.h>
#include <stdlib.h>
#include <string.h>

#define uthash_fatal(message) xalloc_exhausted()
#include <uthash.h>

#define CHUNK_BYTES 65536u

struct pool_chunk {
    struct pool_chunk *next;
    alignas(max_align_t) char bytes[];
};

struct pool_string {
    UT_hash_handle hh;
    char text[];
};

void *pool_alloc(struct pool *pool, size_t bytes)
{
    size_t rounded = (bytes + alignof(max_align_t) - 1) / alignof(max_align_t) * alignof(max_align_t);
    if (rounded < bytes)
        xalloc_exhausted();
    if (rounded > pool->capacity - pool->used) {
        size_t capacity = rounded > CHUNK_BYTES ? rounded : CHUNK_BYTES;
        struct pool_chunk *chunk = xcalloc(1, sizeof *chunk + capacity);
        chunk->next = pool->chunks;
        pool->chunks = chunk;
        pool->capacity = capacity;
        pool->used = 0;
    }
    void *fresh = pool->chunks->bytes + pool->used;
    pool->used += rounded;
    return fresh;
}

const char *pool_intern_n(struct pool *pool, const char *string, size_t length)
{
    struct pool_string *known;
    HASH_FIND(hh, pool->strings, string, length, known);
    if (!known) {
        known = pool_alloc(pool, sizeof *known + length + 1);
        memcpy(known->text, string, length);
        HASH_ADD_KEYPTR(hh, pool->strings, known->text, length, known);
    }
    return known->text;
}

const char *pool_intern(struct pool *pool, const char *string)
{
    return pool_intern_n(pool, string, strlen(string));
}

void pool_free(struct pool *pool)
{
    HASH_CLEAR(hh, pool->strings);
    for (struct pool_chunk *next, *chunk = pool->chunks; chunk; chunk = next) {
        next = chunk->next;
        free(chunk);
    }
    *pool = (struct pool){0};
}
