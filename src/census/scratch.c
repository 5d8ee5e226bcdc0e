/* SPDX-License-Identifier: MIT */
#include "census/scratch.h"

#include <stdint.h>
#include "freestanding/sys.h"
#include "freestanding/banned.h"

#define CHUNK_BYTES (256u * 1024)
#define ALIGNMENT 64u

struct scratch_chunk {
    struct scratch_chunk *next;
    size_t bytes;
    size_t used;
};

static struct scratch_chunk *chunk_new(size_t bytes)
{
    struct scratch_chunk *chunk = sys_map_anonymous(bytes);
    if (chunk) {
        chunk->bytes = bytes;
        chunk->used = ALIGNMENT;
    }
    return chunk;
}

void *scratch_alloc(struct scratch *scratch, size_t bytes)
{
    bytes = (bytes + ALIGNMENT - 1) & ~(size_t)(ALIGNMENT - 1);
    struct scratch_chunk *chunk = scratch->chunks;
    if (!chunk || bytes > chunk->bytes - chunk->used) {
        size_t wanted = bytes > CHUNK_BYTES / 4 ? bytes + ALIGNMENT : CHUNK_BYTES;
        struct scratch_chunk *fresh = chunk_new((wanted + 65535) & ~(size_t)65535);
        if (!fresh)
            return NULL;
        /* A chunk for one large request stands behind the current one, which may have room yet. */
        if (chunk && wanted != CHUNK_BYTES) {
            fresh->next = chunk->next;
            chunk->next = fresh;
        } else {
            fresh->next = chunk;
            scratch->chunks = fresh;
        }
        chunk = fresh;
    }
    unsigned char *memory = (unsigned char *)chunk + chunk->used;
    chunk->used += bytes;
    return memory;
}

void scratch_each(const struct scratch *scratch, void (*visit)(const void *memory, size_t bytes, void *context),
                  void *context)
{
    for (const struct scratch_chunk *chunk = scratch->chunks; chunk; chunk = chunk->next)
        visit(chunk, chunk->bytes, context);
}

void scratch_release(struct scratch *scratch)
{
    while (scratch->chunks) {
        struct scratch_chunk *next = scratch->chunks->next;
        sys_unmap(scratch->chunks, scratch->chunks->bytes);
        scratch->chunks = next;
    }
}
