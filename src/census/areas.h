/* SPDX-License-Identifier: MIT */
#ifndef HEAPMARK_CENSUS_AREAS_H
#define HEAPMARK_CENSUS_AREAS_H

/* The process's address space as the kernel lists it in /proc/thread-self/smaps (self is empty once the main thread has ended): one area for each mapping. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct scratch;

enum area_flag {
    AREA_READ = 1u << 0,
    AREA_WRITE = 1u << 1,
    AREA_EXEC = 1u << 2,
    AREA_SHARED = 1u << 3,      /* MAP_SHARED */
    AREA_FILE = 1u << 4,        /* of a file with a name in the file system */
    AREA_SHMEM = 1u << 5,       /* of memory with a file's face: memfd, System V, /dev/shm, shared anonymous */
    AREA_HEAP = 1u << 6,        /* [heap]: what brk gave */
    AREA_STACK = 1u << 7,       /* [stack] */
    AREA_KERNEL = 1u << 8,      /* [vdso] and its like */
    AREA_OWN_LIBRARY = 1u << 9, /* libheapmark*.so */
    AREA_WIPED = 1u << 10,      /* empty in a child: MADV_WIPEONFORK */
    AREA_LEFT_OUT = 1u << 11    /* not there in a child: MADV_DONTFORK */
};

struct area {
    uintptr_t start, end;
    uint64_t rss_bytes, anonymous_bytes, huge_bytes, swap_bytes;
    uint32_t flags;             /* enum area_flag */
};

struct areas {
    struct area *list;          /* by address; none overlap, even where the list changed while it was read */
    size_t count;
};

/* False: the list cannot be read. */
bool areas_read(struct areas *areas, struct scratch *scratch);
/* The same at a third of the price where the kernel can say what is in the page tables: but not anonymous_bytes, AREA_WIPED and
 * AREA_LEFT_OUT, which only a forked census needs. */
bool areas_read_sums(struct areas *areas, struct scratch *scratch);
bool areas_read_file(struct areas *areas, const char *path, struct scratch *scratch);   /* of a file that reads so */

/* The first area that ends above an address; NULL when there is none. */
struct area *areas_from(const struct areas *areas, uintptr_t address);

static inline bool area_is_private_anonymous(const struct area *area)
{
    return !(area->flags & (AREA_SHARED | AREA_FILE | AREA_SHMEM | AREA_KERNEL));
}

#endif
