/* SPDX-License-Identifier: MIT */
#ifndef HEAPMARK_ANALYSIS_ALIKE_H
#define HEAPMARK_ANALYSIS_ALIKE_H

/* Sites whose stacks agree in the frames nearest to the leaf, by address: no names are needed. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct profile;

struct alike {
    uint32_t *set;              /* by site: the number of the set it is in */
    size_t count;               /* of sets */
};

/* The `frames` nearest to the leaf count, and of Python's the first that is `own`, by code object, wherever it is. */
struct alike alike_find(const struct profile *profile, size_t frames, const bool *own);
void alike_free(struct alike *alike);

#endif
