/* SPDX-License-Identifier: MIT */
#ifndef HEAPMARK_CENSUS_RESIDENCY_H
#define HEAPMARK_CENSUS_RESIDENCY_H

#include <stddef.h>
#include <stdint.h>

/* Which pages of private anonymous memory are resident: one byte, 0 or 1, for each page of the system. */

/* Fills the vector for [start, start + pages * page size); how many are resident.  Pages that are no longer mapped
 * count as not resident. */
uint64_t residency_fill(uintptr_t start, size_t pages, unsigned char *vector);

/*
 * mincore also counts the shared page of zeros (where memory was read but never written) and swapped pages that are
 * still cached; the kernel's RSS does not.  Where the two disagree about a whole area, the page map decides, if
 * it can; a page that other processes share, as after a fork, is the page of zeros if all of it is 0.
 * `buffer` holds a page.
 */
void residency_refine(uintptr_t start, size_t pages, unsigned char *vector, uint64_t rss_pages, uint64_t *buffer);

/* Resident bytes of [start, end), without a vector. */
uint64_t residency_count(uintptr_t start, uintptr_t end);

/* Resident pages among vector[0 .. pages). */
uint64_t residency_sum(const unsigned char *vector, size_t pages);

#endif
