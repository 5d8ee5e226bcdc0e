/* SPDX-License-Identifier: MIT */
#ifndef HEAPMARK_BASE_SELECT_H
#define HEAPMARK_BASE_SELECT_H

#include <stddef.h>

/* As qsort, but only the `wanted` items that come first are brought to the front, and sorted; the others follow in no order.
 * `compare` never says 0 of two items. */
void select_first(void *items, size_t count, size_t item_bytes, size_t wanted, int (*compare)(const void *, const void *));

#endif
