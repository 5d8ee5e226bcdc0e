/* SPDX-License-Identifier: MIT */
#include "shim/marks.h"

uint8_t marks[MARKS_COUNT] __attribute__((aligned(64)));

static uint8_t *mark_of(const void *block)
{
    return &marks[((uintptr_t)block >> MARKS_SHIFT) % MARKS_COUNT];
}

void marks_pin(const void *block)
{
    __atomic_store_n(mark_of(block), MARKS_PINNED, __ATOMIC_RELAXED);
}

/* Pinned before: those bytes stay.  (A pin that another thread sets meanwhile may be lost: an unload is then noticed later.) */
void marks_begin(void)
{
    marks_pin(NULL);
    for (size_t i = 0; i < MARKS_COUNT; i += 8) {
        uint64_t eight, none = UINT64_MAX;
        __builtin_memcpy(&eight, marks + i, 8);
        if (eight == 0)
            __builtin_memcpy(marks + i, &none, 8);
        for (size_t k = i; eight != 0 && k < i + 8; k++)
            if (marks[k] == 0)
                marks[k] = MARKS_NONE;
    }
}

void marks_add(const void *block)
{
    uint8_t *mark = mark_of(block), old = __atomic_load_n(mark, __ATOMIC_RELAXED);
    while (old > MARKS_PINNED &&
           !__atomic_compare_exchange_n(mark, &old, old - 1, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
    }
}

void marks_remove(const void *block)
{
    uint8_t *mark = mark_of(block), old = __atomic_load_n(mark, __ATOMIC_RELAXED);
    while (old > MARKS_PINNED && old < MARKS_NONE &&
           !__atomic_compare_exchange_n(mark, &old, old + 1, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
    }
}
