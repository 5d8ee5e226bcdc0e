/* SPDX-License-Identifier: MIT */
/*
 * What glibc promises of its allocator, corner by corner, as lines without addresses.  The same lines must come
 * with and without heapmark.  Every call starts with errno = 4711, so that a success that touches it shows.
 */
#include <errno.h>
#include <malloc.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(__GNUC__)
#pragma GCC diagnostic ignored "-Walloc-size-larger-than="
#pragma GCC diagnostic ignored "-Wuse-after-free"
#endif

enum { UNTOUCHED = 4711 };
/* The compiler must not know the sizes: it would warn, or answer by itself. */
static volatile size_t huge = SIZE_MAX, half = SIZE_MAX / 2, none, one = 1, big = (size_t)PTRDIFF_MAX;

/* The usable size itself depends on what the heap's past left over; that it is enough, and can be written, does not. */
static const char *judged(void *block, size_t bytes)
{
    size_t usable = malloc_usable_size(block);

    if (!block)
        return usable ? "usable without a block" : "none";
    memset(block, 0xa5, usable);
    return usable < bytes ? "too small" : usable > bytes + 4200 ? "too large" : "usable";
}

static void line(const char *what, void *block, size_t bytes)
{
    int error = errno;
    printf("%-44s %s errno %d %s\n", what, block ? "block" : "NULL", error, judged(block, bytes));
}

static void show(const char *what, void *block, size_t bytes)
{
    line(what, block, bytes);
    free(block);
}

#define SHOW(call) (errno = UNTOUCHED, show(#call, call, 0))

static void sizes(void)
{
    static const size_t list[] = {0, 1, 8, 16, 23, 24, 25, 32, 40, 64, 100, 128, 1000, 1032, 1033, 4096, 65536, 131000, 200000, 1 << 20};

    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        char what[64];
        snprintf(what, sizeof what, "malloc(%zu)", list[i]);
        errno = UNTOUCHED;
        show(what, malloc(list[i]), list[i]);
        snprintf(what, sizeof what, "calloc(1, %zu)", list[i]);
        errno = UNTOUCHED;
        char *zeroed = calloc(one, list[i]);
        for (size_t k = 0; k < list[i]; k++)
            if (zeroed[k])
                puts("calloc: not zero");
        show(what, zeroed, list[i]);
    }
}

static void zeros(void)
{
    SHOW(malloc(none));
    SHOW(calloc(none, one));
    SHOW(calloc(one, none));
    SHOW(realloc(NULL, none));
    SHOW(realloc(NULL, one));
    SHOW(reallocarray(NULL, none, one));
    SHOW(memalign(64, none));
    SHOW(aligned_alloc(64, none));
    SHOW(valloc(none));
    SHOW(pvalloc(none));
    SHOW(pvalloc(one));
    SHOW(realloc(malloc(one), none));                   /* frees, NULL */
    SHOW(reallocarray(malloc(one), none, one));
    errno = UNTOUCHED;
    free(NULL);
    printf("free(NULL) errno %d\n", errno);
    errno = UNTOUCHED;
    free(malloc(300000));                               /* munmap */
    printf("free(mmapped) errno %d\n", errno);
}

static void overflows(void)
{
    SHOW(malloc(huge));
    SHOW(malloc(big));
    SHOW(malloc(huge - 4096));
    SHOW(calloc(huge, huge));
    SHOW(calloc(half, 3));
    SHOW(calloc(big, one));
    SHOW(realloc(NULL, huge));
    SHOW(reallocarray(NULL, half, 4));
    SHOW(memalign(64, huge));
    SHOW(memalign(half, 8));
    SHOW(aligned_alloc(64, huge));
    SHOW(valloc(huge));
    SHOW(pvalloc(huge));

    char *kept = malloc(100);
    memset(kept, 'k', 100);
    errno = UNTOUCHED;
    void *failed = realloc(kept, huge);
    line("realloc(kept, SIZE_MAX)", failed, 0);
    errno = UNTOUCHED;
    failed = reallocarray(kept, half, 4);
    line("reallocarray(kept, overflow)", failed, 0);
    for (int i = 0; i < 100; i++)
        if (kept[i] != 'k')
            puts("realloc: a failed one changed the block");
    free(kept);
}

static void alignments(void)
{
    static const size_t list[] = {0, 1, 2, 3, 4, 7, 8, 12, 16, 24, 32, 48, 64, 128, 4096, 65536, (size_t)1 << 21};

    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        char what[64];
        void *block = (void *)(uintptr_t)0x5a5a;

        errno = UNTOUCHED;
        int status = posix_memalign(&block, list[i], 100);
        printf("posix_memalign(%zu) %d errno %d pointer %s aligned %d\n", list[i], status, errno,
               status ? (uintptr_t)block == 0x5a5a ? "kept" : "changed" : "set", !status && (uintptr_t)block % list[i] == 0);
        if (!status)
            free(block);
        snprintf(what, sizeof what, "aligned_alloc(%zu, 100)", list[i]);
        errno = UNTOUCHED;
        block = aligned_alloc(list[i], 100);
        if (block && list[i] && !(list[i] & (list[i] - 1)) && (uintptr_t)block % list[i])
            puts("aligned_alloc: not aligned");
        line(what, block, 100);
        free(block);
        errno = UNTOUCHED;
        block = memalign(list[i], 100);
        if (block && list[i] && !(list[i] & (list[i] - 1)) && (uintptr_t)block % list[i])
            puts("memalign: not aligned");
        snprintf(what, sizeof what, "memalign(%zu, 100)", list[i]);
        printf("%s %s errno %d\n", what, block ? "block" : "NULL", errno);
        free(block);
    }
    void *block = (void *)(uintptr_t)0x5a5a;
    errno = UNTOUCHED;
    int status = posix_memalign(&block, 64, huge);
    printf("posix_memalign(64, SIZE_MAX) %d errno %d\n", status, errno);
    for (size_t bytes = 1; bytes < 3000; bytes += 7) {
        void *plain = malloc(bytes);
        if ((uintptr_t)plain % 16)
            puts("malloc: not 16-aligned");
        free(plain);
    }
}

static void resizing(void)
{
    unsigned char *block = malloc(10);
    size_t bytes = 10;

    memset(block, 1, bytes);
    for (int step = 0; step < 60; step++) {
        size_t next = step % 3 ? bytes * 2 % 500000 + 1 : bytes / 3 + 1;
        errno = UNTOUCHED;
        block = realloc(block, next);
        for (size_t i = 0; i < (bytes < next ? bytes : next); i++)
            if (block[i] != 1)
                puts("realloc: bytes lost");
        memset(block, 1, next);
        int error = errno;
        printf("realloc %zu -> %zu errno %d %s\n", bytes, next, error, malloc_usable_size(block) < next ? "too small" : "usable");
        bytes = next;
    }
    free(block);
    /* All of the usable size may be used. */
    for (size_t n = 0; n < 2000; n += 13) {
        void *each = malloc(n);
        memset(each, 0xff, malloc_usable_size(each));
        free(each);
    }
    printf("malloc_usable_size(NULL) %zu\n", malloc_usable_size(NULL));
}

int main(void)
{
    setvbuf(stdout, NULL, _IOFBF, 1 << 16);
    sizes();
    zeros();
    overflows();
    alignments();
    resizing();
    printf("mallopt %d\n", mallopt(M_MMAP_THRESHOLD, 256 * 1024));
    return 0;
}
