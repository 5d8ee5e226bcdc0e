/* SPDX-License-Identifier: MIT */
#ifndef HEAPMARK_BASE_POOL_H
#define HEAPMARK_BASE_POOL_H

/*
 * Memory that is released all at once, and strings stored once each.  All zero is the empty pool.
 * What a pool handed out neither moves nor goes before pool_free.
 */

#include <stddef.h>

struct pool {
    struct pool_chunk *chunks;
    struct pool_string *strings;
    size_t used, capacity;          /* of the newest chunk */
};

void *pool_alloc(struct pool *pool, size_t bytes);                          /* zeroed, aligned for any type */
/* The same pointer for the same bytes, so that interned strings compare by address. */
const char *pool_intern(struct pool *pool, const char *string);
const char *pool_intern_n(struct pool *pool, const char *string, size_t length);
void pool_free(struct pool *pool);                                          /* leaves it empty and usable */

#endif
