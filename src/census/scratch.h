/* SPDX-License-Identifier: MIT */
#ifndef HEAPMARK_CENSUS_SCRATCH_H
#define HEAPMARK_CENSUS_SCRATCH_H

#include <stddef.h>

/* Memory for the duration of one census: zeroed, from mmap, given back as a whole. */
struct scratch_chunk;
struct scratch {
    struct scratch_chunk *chunks;
};

void *scratch_alloc(struct scratch *scratch, size_t bytes);     /* aligned to 64; NULL: no memory */
void scratch_each(const struct scratch *scratch, void (*visit)(const void *memory, size_t bytes, void *context),
                  void *context);
void scratch_release(struct scratch *scratch);

#endif
