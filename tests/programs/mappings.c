/* SPDX-License-Identifier: MIT */
/* Mappings of the program's own: mmap, partial munmap, mremap, sbrk, a mapped file.  Prints what stays mapped. */
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "say.h"

enum { MIB = 1 << 20 };

__attribute__((noinline)) static char *map_pages(size_t bytes)
{
    char *pages = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED)
        _exit(3);
    touch(pages, bytes);
    return pages;
}

int main(void)
{
    long long live = 0;
    char *whole = map_pages(8 * MIB);
    live += 8 * MIB;
    char *cut = map_pages(8 * MIB);
    live += 8 * MIB;
    if (munmap(cut + 2 * MIB, 4 * MIB))         /* a hole in the middle */
        return 4;
    live -= 4 * MIB;
    char *grown = map_pages(MIB);
    grown = mremap(grown, MIB, 6 * MIB, MREMAP_MAYMOVE);
    if (grown == MAP_FAILED)
        return 5;
    touch(grown, 6 * MIB);
    live += 6 * MIB;
    char *gone = map_pages(4 * MIB);
    if (munmap(gone, 4 * MIB))
        return 6;
    if (madvise(whole, MIB, MADV_DONTNEED))
        return 7;
    errno = 4711;
    if (mmap(NULL, 0, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED || errno != EINVAL)
        return 8;
    errno = 4711;
    char *before = sbrk(0), *at = sbrk(MIB);
    if (before != at || errno != 4711 || (char *)sbrk(0) != before + MIB)
        return 9;
    touch(at, MIB);
    if (brk(before) || (char *)sbrk(0) != before)
        return 10;
    say("mapped_live_bytes", live);
    return 0;
}
