/* SPDX-License-Identifier: MIT */
/*
 * A deterministic program of one thread that uses every allocating function and keeps its own books.
 *
 * usage: counts [ROUNDS [FILE]]     prints the ledger; with FILE, prints it there
 */
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <stdlib.h>

#include "say.h"

enum { SLOTS = 4096 };
static struct { void *block; size_t bytes; } slots[SLOTS];
static struct ledger ledger;
static uint64_t seed = 0x9e3779b97f4a7c15u;

static uint32_t next_random(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (uint32_t)(seed >> 32);
}

static size_t next_size(void)
{
    uint32_t kind = next_random() % 100;
    if (kind < 70)
        return next_random() % 256;
    if (kind < 95)
        return next_random() % 8192;
    if (kind < 99)
        return next_random() % 100000;
    return 130000 + next_random() % 400000;     /* mmapped by glibc */
}

__attribute__((noinline)) static void *by_malloc(size_t bytes)
{
    return malloc(bytes);
}

__attribute__((noinline)) static void *by_calloc(size_t bytes)
{
    return calloc(1, bytes);
}

__attribute__((noinline)) static void *by_alignment(size_t bytes, uint32_t which)
{
    size_t alignment = (size_t)16 << which % 9;
    void *block = NULL;

    switch (which % 4) {
    case 0: return aligned_alloc(alignment, bytes);
    case 1: return posix_memalign(&block, alignment, bytes) ? NULL : block;
    case 2: return memalign(alignment, bytes);
    default: return valloc(bytes);
    }
}

static void make(unsigned slot)
{
    size_t bytes = next_size();
    uint32_t how = next_random();
    void *block;

    if (how % 10 < 6)
        block = by_malloc(bytes);
    else if (how % 10 < 8)
        block = by_calloc(bytes);
    else
        block = by_alignment(bytes, how / 16);
    if (!block)
        _exit(3);
    touch(block, bytes < 64 ? bytes : 64);
    slots[slot].block = block;
    slots[slot].bytes = bytes;
    ledger_add(&ledger, (long long)bytes);
}

static void drop(unsigned slot)
{
    free(slots[slot].block);
    slots[slot].block = NULL;
    ledger_drop(&ledger, (long long)slots[slot].bytes);
}

/* A realloc counts as the death of the old block and the birth of a new one. */
__attribute__((noinline)) static void resize(unsigned slot)
{
    size_t bytes = next_size() + 1;
    void *block = next_random() % 2 ? realloc(slots[slot].block, bytes) : reallocarray(slots[slot].block, 1, bytes);

    if (!block)
        _exit(4);
    ledger_drop(&ledger, (long long)slots[slot].bytes);
    slots[slot].block = block;
    slots[slot].bytes = bytes;
    ledger_add(&ledger, (long long)bytes);
}

/* What is refused leaves no trace in the books, nor may it in the recording. */
static void ask_too_much(void)
{
    static volatile size_t too_much = PTRDIFF_MAX;
    void *kept = by_malloc(100);

    ledger_add(&ledger, 100);
    for (int i = 0; i < 5; i++)
        if (malloc(too_much) || calloc(1, too_much) || realloc(kept, too_much) || memalign(64, too_much))
            _exit(5);
    if (malloc(too_much))
        _exit(6);
    free(kept);
    ledger_drop(&ledger, 100);
}

int main(int argc, char **argv)
{
    long rounds = argc > 1 ? strtol(argv[1], NULL, 10) : 100000;
    int out = argc > 2 ? open(argv[2], O_WRONLY | O_CREAT | O_TRUNC, 0600) : -1;

    if (out >= 0)
        dup2(out, 1);
    ask_too_much();
    for (long i = 0; i < rounds; i++) {
        unsigned slot = next_random() % SLOTS;
        if (!slots[slot].block)
            make(slot);
        else if (next_random() % 4 == 0)
            resize(slot);
        else
            drop(slot);
    }
    ledger_say(&ledger);
    return 0;
}
