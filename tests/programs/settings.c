/* SPDX-License-Identifier: MIT */
/*
 * Frees all it allocated but for a few small blocks, in ways that leave much held under glibc's default settings and little
 * under others.
 *
 * usage: settings large|top|tops|both|arenas|cached|cached-raised
 *   large    blocks of 5 MB with a small one behind each; one of 30 MB was freed before
 *   top      small blocks; one of 30 MB was freed before
 *   tops     the same in four threads at once
 *   both     the second, while the blocks of the first live
 *   arenas   a hundred threads at once, each of which frees 100 KiB at the top of its arena
 *   cached   small blocks, the topmost freed first; cached-raised: one of 30 MB was freed before
 */
#include <pthread.h>
#include <stdlib.h>

#include "say.h"

enum { LARGE = 5000000, LARGES = 12, SMALL = 1000, SMALLS = 40000, THREADS = 100 };
static pthread_barrier_t all_filled;
static long per_thread;

static void raise_thresholds(void)
{
    void *block = malloc(30 << 20);
    touch(block, 1);
    free(block);
}

static void small(long count, int topmost_first)
{
    void **block = malloc((size_t)count * sizeof *block);
    for (long i = 0; i < count; i++)
        touch(block[i] = malloc(SMALL), SMALL);
    for (long i = 0; i < count; i++)
        free(block[topmost_first ? count - 1 - i : i]);
    free(block);
}

static void large(long smalls)
{
    void *block[LARGES];
    for (int i = 0; i < LARGES; i++) {
        touch(block[i] = malloc(LARGE), LARGE);
        touch(malloc(SMALL), SMALL);
    }
    if (smalls)
        small(smalls, 0);
    for (int i = 0; i < LARGES; i++)
        free(block[i]);
}

static void *in_thread(void *unused)
{
    void **block = malloc((size_t)per_thread * sizeof *block);
    for (long i = 0; i < per_thread; i++)
        touch(block[i] = malloc(SMALL), SMALL);
    pthread_barrier_wait(&all_filled);
    for (long i = 0; i < per_thread; i++)
        free(block[i]);
    pthread_barrier_wait(&all_filled);
    free(block);
    return unused;
}

static void in_threads(unsigned count, long each)
{
    pthread_t thread[THREADS];
    per_thread = each;
    pthread_barrier_init(&all_filled, NULL, count);
    for (unsigned i = 0; i < count; i++)
        if (pthread_create(&thread[i], NULL, in_thread, NULL) != 0)
            _exit(98);
    for (unsigned i = 0; i < count; i++)
        pthread_join(thread[i], NULL);
}

int main(int argc, char **argv)
{
    const char *mode = argc > 1 ? argv[1] : "";
    if (strcmp(mode, "large") == 0) {
        raise_thresholds();
        large(0);
    } else if (strcmp(mode, "top") == 0) {
        raise_thresholds();
        small(SMALLS, 0);
    } else if (strcmp(mode, "tops") == 0) {
        raise_thresholds();
        in_threads(4, SMALLS / 4);
    } else if (strcmp(mode, "both") == 0) {
        raise_thresholds();
        large(SMALLS);
    } else if (strcmp(mode, "arenas") == 0) {
        in_threads(THREADS, 100);
    } else if (strncmp(mode, "cached", 6) == 0) {
        if (mode[6])
            raise_thresholds();
        small(SMALLS, 1);
    } else {
        return 2;
    }
    return 0;
}
