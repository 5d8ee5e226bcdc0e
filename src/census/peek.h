/* SPDX-License-Identifier: MIT */
#ifndef HEAPMARK_CENSUS_PEEK_H
#define HEAPMARK_CENSUS_PEEK_H

/*
 * Reading words of the host's memory.  When no other thread runs, memory that the kernel listed as readable stays so
 * and is simply read.  Else it may go at any moment, and the kernel reads it for us, which fails instead of
 * faulting; pages are then read ahead as far as the reads turn out to be sequential.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct scratch;

struct peek {
    bool direct;
    bool failed;            /* a read failed; set by peek_word, cleared by the caller */
    int pid;
    uintptr_t start, end;   /* what the window holds */
    size_t ahead;           /* bytes to read next time */
    unsigned char *window;
};

bool peek_init(struct peek *peek, bool direct, struct scratch *scratch);

/* May read up to `limit`, no further; address is a multiple of 8 below it. */
uint64_t peek_word_slow(struct peek *peek, uintptr_t address, uintptr_t limit);

static inline uint64_t peek_word(struct peek *peek, uintptr_t address, uintptr_t limit)
{
    if (peek->direct)
        return *(const uint64_t *)address;
    if (address >= peek->start && address + 8 <= peek->end)
        return *(const uint64_t *)(peek->window + (address - peek->start));
    return peek_word_slow(peek, address, limit);
}

/* Whole pieces; false: cannot be read.  What may be read directly was listed as readable. */
bool peek_copy(const struct peek *peek, void *to, uintptr_t from, size_t bytes);

/* `count` pieces of `each` bytes, one behind the other in `to`; how many could be read before the first that could not. */
size_t peek_gather(const struct peek *peek, void *to, const uintptr_t *from, size_t count, size_t each);

#endif
