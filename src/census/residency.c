/* SPDX-License-Identifier: MIT */
#include "census/residency.h"

#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include "freestanding/sys.h"
#include "freestanding/banned.h"

#define STEP_PAGES 65536u
#define PAGEMAP_ENTRIES 128u
#define PAGEMAP_PRESENT (UINT64_C(1) << 63)
#define PAGEMAP_EXCLUSIVE (UINT64_C(1) << 56)

uint64_t residency_sum(const unsigned char *vector, size_t pages)
{
    uint64_t sum = 0;
    while (pages > 0) {
        size_t piece = pages < 4096 ? pages : 4096;
        uint32_t part = 0;
        for (size_t i = 0; i < piece; i++)
            part += vector[i];
        sum += part;
        vector += piece;
        pages -= piece;
    }
    return sum;
}

/* A hole makes mincore fail for the whole range: what remains is asked in halves. */
static void fill(uintptr_t start, size_t pages, unsigned char *vector)
{
    if (sys_mincore((const void *)start, pages * sys_page_bytes(), vector) >= 0)
        return;
    if (pages == 1) {
        vector[0] = 0;
        return;
    }
    fill(start, pages / 2, vector);
    fill(start + pages / 2 * sys_page_bytes(), pages - pages / 2, vector + pages / 2);
}

uint64_t residency_fill(uintptr_t start, size_t pages, unsigned char *vector)
{
    for (size_t at = 0; at < pages; at += STEP_PAGES)
        fill(start + at * sys_page_bytes(), pages - at < STEP_PAGES ? pages - at : STEP_PAGES, vector + at);
    for (size_t i = 0; i < pages; i++)
        vector[i] &= 1;
    return residency_sum(vector, pages);
}

enum look { LOOK_PRESENT, LOOK_EXCLUSIVE, LOOK_INTO, LOOKS };

static bool is_zero(uintptr_t page, uint64_t *buffer)
{
    size_t page_bytes = sys_page_bytes();
    if (sys_process_read(sys_getpid(), buffer, (const void *)page, page_bytes) != (long)page_bytes)
        return true;
    for (size_t i = 0; i < page_bytes / 8; i++)
        if (buffer[i])
            return false;
    return true;
}

/* Resident pages as the page map has them, into the vector; UINT64_MAX: it cannot be read. */
static uint64_t fill_from_pagemap(int fd, uintptr_t start, size_t pages, enum look look, unsigned char *vector,
                                  uint64_t *buffer)
{
    uint64_t entries[PAGEMAP_ENTRIES];
    size_t page_bytes = sys_page_bytes();
    uint64_t sum = 0;
    for (size_t at = 0; at < pages;) {
        size_t piece = pages - at < PAGEMAP_ENTRIES ? pages - at : PAGEMAP_ENTRIES;
        long got = sys_pread(fd, entries, piece * 8, (start / page_bytes + at) * 8);
        if (got < 8)
            return UINT64_MAX;
        for (size_t i = 0; i < (size_t)got / 8; i++) {
            bool resident = entries[i] & PAGEMAP_PRESENT;
            if (resident && look != LOOK_PRESENT && !(entries[i] & PAGEMAP_EXCLUSIVE))
                resident = look == LOOK_INTO && !is_zero(start + (at + i) * page_bytes, buffer);
            vector[at + i] = resident;
            sum += resident;
        }
        at += (size_t)got / 8;
    }
    return sum;
}

void residency_refine(uintptr_t start, size_t pages, unsigned char *vector, uint64_t rss_pages, uint64_t *buffer)
{
    if (residency_sum(vector, pages) == rss_pages)
        return;
    int fd = sys_open("/proc/thread-self/pagemap", O_RDONLY, 0);
    if (fd < 0)
        return;
    for (unsigned look = 0; look < LOOKS; look++) {
        uint64_t sum = fill_from_pagemap(fd, start, pages, look, vector, buffer);
        if (sum == UINT64_MAX)
            residency_fill(start, pages, vector);
        if (sum == UINT64_MAX || sum == rss_pages)
            break;
    }
    sys_close(fd);
}

uint64_t residency_count(uintptr_t start, uintptr_t end)
{
    unsigned char vector[1024];
    uint64_t sum = 0;
    size_t page_bytes = sys_page_bytes();
    while (start < end) {
        size_t pages = (size_t)(end - start) / page_bytes;
        if (pages > sizeof(vector))
            pages = sizeof(vector);
        sum += residency_fill(start, pages, vector);
        start += pages * page_bytes;
    }
    return sum * page_bytes;
}
