/* SPDX-License-Identifier: MIT */
#ifndef HEAPMARK_BASE_ARRAY_H
#define HEAPMARK_BASE_ARRAY_H

/*
 * A growable array of any type.  All zero is the empty array:
 *
 *     ARRAY_OF(struct row) rows = {0};
 *     array_push(&rows, (struct row){ .site = 1 });
 *     array_add(&rows)->site = 2;                  (a zeroed new item at the end)
 *     for (size_t i = 0; i < rows.count; i++)
 *         use(&rows.at[i]);
 *     array_free(&rows);
 *
 * Growing moves the items: a pointer to one lasts until the next push, add or reserve.  To pass such an array to a
 * function, name its type: typedef ARRAY_OF(struct row) rows_array, or wrap it in a struct.
 */

#include "base/xalloc.h"
#include <stdlib.h>
#include <string.h>

#define ARRAY_OF(type)          \
    struct {                    \
        type *at;               \
        size_t count, capacity; \
    }

/* Room for `total` items in all; the count stays. */
#define array_reserve(array, total) \
    ((array)->at = array_grow((array)->at, &(array)->capacity, (total), sizeof *(array)->at))

#define array_add(array)                                                                       \
    (array_reserve((array), (array)->count + 1),                                               \
     memset(&(array)->at[(array)->count], 0, sizeof *(array)->at), &(array)->at[(array)->count++])

#define array_push(array, ...) \
    (array_reserve((array), (array)->count + 1), (void)((array)->at[(array)->count++] = __VA_ARGS__))

#define array_clear(array) ((void)((array)->count = 0))

#define array_free(array) \
    (free((array)->at), (void)((array)->at = NULL), (void)((array)->count = (array)->capacity = 0))

#define array_sort(array, compare) \
    ((array)->count ? qsort((array)->at, (array)->count, sizeof *(array)->at, (compare)) : (void)0)

static inline void *array_grow(void *items, size_t *capacity, size_t total, size_t item_bytes)
{
    if (total <= *capacity)
        return items;
    size_t grown = *capacity + *capacity / 2 + 8;
    *capacity = grown > total ? grown : total;
    return xreallocarray(items, *capacity, item_bytes);
}

#endif
