/* SPDX-License-Identifier: MIT */
/*
 * Makes many blocks in every way there is, lets other threads and a forked child free them, and frees all.
 *
 * usage: freeall THREADS BLOCKS      BLOCKS for each thread, live at once
 */
#include <malloc.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/wait.h>

#include "say.h"

enum { THREADS_MAX = 16 };
static long threads, blocks;
static void **made[THREADS_MAX];
static pthread_barrier_t all_made;

static size_t size_of(long i)
{
    return i % 997 == 0 ? 200000 : i % 31 == 0 ? 3000 : 8 + (size_t)(i * 7919 % 500);
}

__attribute__((noinline)) static void *make_one(long i)
{
    size_t bytes = size_of(i);
    void *block = NULL;

    switch (i % 8) {
    case 0:
        block = calloc(1, bytes);
        break;
    case 1:
        block = realloc(NULL, bytes);
        break;
    case 2:
        block = aligned_alloc(64, (bytes + 63) / 64 * 64);
        break;
    case 3:
        if (posix_memalign(&block, 32, bytes))
            block = NULL;
        break;
    case 4:
        block = memalign(128, bytes);
        break;
    case 5:
        block = reallocarray(malloc(bytes / 2), 2, bytes);
        break;
    default:
        block = malloc(bytes);
    }
    for (int times = 0; times < 3 && i % 5 == 0; times++) {
        void *moved = realloc(block, bytes = bytes * 3 / 2 + 1);
        block = moved ? moved : block;
    }
    touch(block, bytes < 16 ? bytes : 16);
    return block;
}

static void free_all_of(long owner)
{
    for (long i = 0; i < blocks; i++) {
        free(NULL);
        free(made[owner][i]);
    }
}

static void *work(void *argument)
{
    long me = (long)(intptr_t)argument;

    for (long i = 0; i < blocks; i++)
        made[me][i] = make_one(i + me * 13);
    pthread_barrier_wait(&all_made);
    if (me != 0)        /* of the next thread; the first one waits, and does its own and the child's */
        free_all_of(me + 1 < threads ? me + 1 : 1);
    return NULL;
}

int main(int argc, char **argv)
{
    pthread_t thread[THREADS_MAX];
    int status = 0;

    threads = argc > 1 ? strtol(argv[1], NULL, 10) : 0;
    blocks = argc > 2 ? strtol(argv[2], NULL, 10) : 0;
    if (threads < 1 || threads > THREADS_MAX || blocks < 1)
        return 2;
    pthread_barrier_init(&all_made, NULL, (unsigned)threads);
    for (long i = 0; i < threads; i++)
        made[i] = calloc((size_t)blocks, sizeof(void *));
    for (long i = 1; i < threads; i++)
        if (pthread_create(&thread[i], NULL, work, (void *)(intptr_t)i))
            return 3;
    work(NULL);
    for (long i = 1; i < threads; i++)
        pthread_join(thread[i], NULL);
    pid_t child = fork();
    if (child == 0) {
        free_all_of(0);
        for (long i = 0; i < blocks; i++)
            free(make_one(i));
        exit(0);
    }
    if (waitpid(child, &status, 0) != child || status != 0)
        return 4;
    free_all_of(0);
    say("made", threads * blocks);
    return 0;
}
