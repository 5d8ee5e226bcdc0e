/* SPDX-License-Identifier: MIT */
#ifndef HEAPMARK_CONTRACT_PUBLISH_H
#define HEAPMARK_CONTRACT_PUBLISH_H

/* Where record i of a table lives, and the loads and stores that publish it.  Shared by writer and reader so
 * that the rule stands once; format.h states it in words. */

#include "format.h"

static inline unsigned hmk_chunk_of(uint64_t index, uint32_t first_records)
{
    return 63u - (unsigned)__builtin_clzll(index / first_records + 1);
}

static inline uint64_t hmk_chunk_first(unsigned chunk, uint32_t first_records)
{
    return (uint64_t)first_records * ((UINT64_C(1) << chunk) - 1);
}

static inline uint64_t hmk_chunk_records(unsigned chunk, uint32_t first_records)
{
    return (uint64_t)first_records << chunk;
}

#define HMK_PUBLISH(word, value) __atomic_store_n(&(word), (value), __ATOMIC_RELEASE)
#define HMK_OBSERVE(word) __atomic_load_n(&(word), __ATOMIC_ACQUIRE)
/* In-place words: no tearing, no ordering. */
#define HMK_SET(word, value) __atomic_store_n(&(word), (value), __ATOMIC_RELAXED)
#define HMK_GET(word) __atomic_load_n(&(word), __ATOMIC_RELAXED)

static inline unsigned hmk_size_class(uint64_t bytes)
{
    if (bytes <= 512)
        return (unsigned)((bytes + 15) / 16);
    unsigned size_class = 33u + (63u - (unsigned)__builtin_clzll(bytes - 1)) - 9u;
    return size_class < HMK_SIZE_CLASSES ? size_class : HMK_SIZE_CLASSES - 1;
}

#endif
