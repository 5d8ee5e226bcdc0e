/* SPDX-License-Identifier: MIT */
/*
 * Allocation and nothing else, at a chosen depth of the stack and number of threads.
 *
 * usage: stress KIND THREADS PAIRS [DEPTH]
 *   replace   each thread keeps 1,000 blocks of 8..1000 bytes and replaces random ones
 *   loop      malloc, free, malloc, free of 16..256 bytes: the thread cache's best case
 *   remote    every block is freed by the next thread
 *   transfer  batches of small blocks with a few large ones; half of each is swapped with what any thread has left
 * Prints the pairs done and the thread-nanoseconds of one pair.
 */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { SLOTS = 1000, THREADS_MAX = 64, RING = 4096, BATCH = 500 };
static long threads, pairs, depth;
static char kind;
static struct ring {
    _Alignas(64) _Atomic unsigned long head;
    _Alignas(64) _Atomic unsigned long tail;
    void *block[RING];
} rings[THREADS_MAX];

static _Atomic(void *) left[SLOTS];

static uint32_t next_random(uint64_t *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return (uint32_t)(*seed >> 32);
}

static void *allocate(size_t bytes)
{
    char *block = malloc(bytes);
    block[0] = 1;
    return block;
}

static void replace(long me)
{
    uint64_t seed = 88172645463325252u * (uint64_t)(me + 1);
    void *slot[SLOTS] = {0};

    for (long i = 0; i < pairs; i++) {
        uint32_t random = next_random(&seed);
        free(slot[random % SLOTS]);
        slot[random % SLOTS] = allocate(8 + (random >> 12) % 993);
    }
    for (int i = 0; i < SLOTS; i++)
        free(slot[i]);
}

static void loop(void)
{
    for (long i = 0; i < pairs; i++)
        free(allocate(16 + (size_t)i % 16 * 16));
}

/* Bounded: a full ring makes the producer free what others gave it meanwhile. */
static void remote(long me)
{
    struct ring *to = &rings[(me + 1) % threads], *from = &rings[me];
    uint64_t seed = 88172645463325252u * (uint64_t)(me + 1);
    long sent = 0, got = 0;

    while (sent < pairs || got < pairs) {
        unsigned long head = atomic_load_explicit(&to->head, memory_order_relaxed);
        if (sent < pairs && head - atomic_load_explicit(&to->tail, memory_order_acquire) < RING) {
            to->block[head % RING] = allocate(8 + next_random(&seed) % 500);
            atomic_store_explicit(&to->head, head + 1, memory_order_release);
            sent++;
        }
        unsigned long tail = atomic_load_explicit(&from->tail, memory_order_relaxed);
        if (tail != atomic_load_explicit(&from->head, memory_order_acquire)) {
            free(from->block[tail % RING]);
            atomic_store_explicit(&from->tail, tail + 1, memory_order_release);
            got++;
        } else if (sent == pairs) {
            sched_yield();
        }
    }
}

static size_t mixed_size(uint32_t random)
{
    if (random % 256 == 0)
        return 4096 + (random >> 8) % 60000;
    return (random % 16 == 0 ? 500 : 8) + (random >> 8) % (random % 16 == 0 ? 3500 : 120);
}

static void transfer(long me)
{
    uint64_t seed = 88172645463325252u * (uint64_t)(me + 1);
    void *batch[BATCH];

    for (long done = 0; done < pairs; done += BATCH) {
        for (int i = 0; i < BATCH; i++)
            batch[i] = allocate(mixed_size(next_random(&seed)));
        for (int i = 0; i < BATCH; i++)
            free(i % 2 ? batch[i] : atomic_exchange(&left[next_random(&seed) % SLOTS], batch[i]));
    }
}

__attribute__((noinline)) static void at_depth(long more, long me)
{
    if (more > 1)
        at_depth(more - 1, me);
    else if (kind == 'r')
        replace(me);
    else if (kind == 'l')
        loop();
    else if (kind == 't')
        transfer(me);
    else
        remote(me);
    __asm__ volatile("");
}

static void *worker(void *argument)
{
    at_depth(depth, (long)argument);
    return NULL;
}

int main(int argc, char **argv)
{
    pthread_t thread[THREADS_MAX];
    struct timespec cpu;

    if (argc < 4)
        return 2;
    kind = !strcmp(argv[1], "replace") ? 'r' : !strcmp(argv[1], "loop") ? 'l'
        : !strcmp(argv[1], "transfer") ? 't' : 'x';
    threads = strtol(argv[2], NULL, 10);
    pairs = strtol(argv[3], NULL, 10);
    depth = argc > 4 ? strtol(argv[4], NULL, 10) : 5;
    if (threads < 1 || threads > THREADS_MAX)
        return 2;
    for (long i = 1; i < threads; i++)
        if (pthread_create(&thread[i], NULL, worker, (void *)i))
            return 3;
    worker(NULL);
    for (long i = 1; i < threads; i++)
        pthread_join(thread[i], NULL);
    for (int i = 0; i < SLOTS; i++)
        free(left[i]);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu);
    printf("pairs %ld\nthread_ns_per_pair %.1f\n", pairs * threads,
           ((double)cpu.tv_sec * 1e9 + (double)cpu.tv_nsec) / (double)(pairs * threads));
    return 0;
}
