/* SPDX-License-Identifier: MIT */
/*
 * Allocates and frees until it is killed, or for ROUNDS rounds.  At any instant at most SLOTS blocks of 1..1024 bytes
 * live in each thread, one more than it frees at a time.
 *
 * usage: churn [THREADS [ROUNDS]]
 */
#include <pthread.h>
#include <stdlib.h>

#include "say.h"

enum { SLOTS = 500 };
static long rounds;

__attribute__((noinline)) static void *churn_block(size_t bytes)
{
    void *block = malloc(bytes);
    touch(block, 1);
    return block;
}

static void *churn(void *argument)
{
    uint64_t seed = 88172645463325252u + (uint64_t)(uintptr_t)argument;
    void *slots[SLOTS] = {0};

    for (long i = 0; !rounds || i < rounds; i++) {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        unsigned slot = (unsigned)(seed >> 40) % SLOTS;
        free(slots[slot]);
        slots[slot] = churn_block(1 + (seed >> 20) % 1024);
    }
    return NULL;
}

int main(int argc, char **argv)
{
    long threads = argc > 1 ? strtol(argv[1], NULL, 10) : 1;
    pthread_t thread[16];

    rounds = argc > 2 ? strtol(argv[2], NULL, 10) : 0;
    say("slots", SLOTS * threads);
    for (long i = 1; i < threads && i < 16; i++)
        pthread_create(&thread[i], NULL, churn, (void *)i);
    churn(NULL);
    for (long i = 1; i < threads && i < 16; i++)
        pthread_join(thread[i], NULL);
    return 0;
}
