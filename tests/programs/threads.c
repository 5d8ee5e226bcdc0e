/* SPDX-License-Identifier: MIT */
/*
 * Threads that allocate, free their own blocks and each other's, and end while their blocks live.
 *
 * usage: threads [THREADS [BLOCKS]]     prints the exact totals of what the workers allocated
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "say.h"

enum { THREADS_MAX = 64 };
static long threads, blocks;
static void **handed[THREADS_MAX];              /* blocks that the next thread frees */
static pthread_barrier_t all_made;
static _Atomic long long made, made_bytes, freed, freed_bytes;

static size_t size_of(long thread, long i)
{
    return (size_t)(16 + (thread * 31 + i * 7) % 500);
}

__attribute__((noinline)) static void *worker_block(size_t bytes)
{
    void *block = malloc(bytes);
    touch(block, bytes);
    return block;
}

static void *worker(void *argument)
{
    long me = (long)argument, next = (me + 1) % threads;

    for (long i = 0; i < blocks; i++) {
        handed[me][i] = worker_block(size_of(me, i));
        made_bytes += (long long)size_of(me, i);
        if (i % 4 == 3) {                       /* its own, at once: a temporary */
            free(handed[me][i]);
            handed[me][i] = NULL;
            freed++;
            freed_bytes += (long long)size_of(me, i);
        }
    }
    made += blocks;
    pthread_barrier_wait(&all_made);
    for (long i = 0; i < blocks; i++) {
        if (i % 4 == 0) {                       /* another thread's */
            free(handed[next][i]);
            freed++;
            freed_bytes += (long long)size_of(next, i);
        }
    }
    return NULL;
}

int main(int argc, char **argv)
{
    pthread_t thread[THREADS_MAX];

    threads = argc > 1 ? strtol(argv[1], NULL, 10) : 8;
    blocks = argc > 2 ? strtol(argv[2], NULL, 10) : 20000;
    if (threads < 1 || threads > THREADS_MAX)
        return 2;
    pthread_barrier_init(&all_made, NULL, (unsigned)threads);
    for (long i = 0; i < threads; i++)
        handed[i] = calloc((size_t)blocks, sizeof **handed);
    for (long i = 0; i < threads; i++)
        if (pthread_create(&thread[i], NULL, worker, (void *)i))
            return 3;
    for (long i = 0; i < threads; i++)
        pthread_join(thread[i], NULL);
    say("worker_blocks", made);
    say("worker_bytes", made_bytes);
    say("worker_frees", freed);
    say("worker_live_blocks", made - freed);
    say("worker_live_bytes", made_bytes - freed_bytes);
    return 0;
}
