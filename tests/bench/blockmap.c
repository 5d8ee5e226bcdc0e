/* SPDX-License-Identifier: MIT */
/* What the block map adds to a malloc+free pair: CPU ns per pair, bare and with the map, least of several runs. */
#include "census/blockmap.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct shape {
    const char *name;
    size_t slots, pairs, least, most;
};

static const struct shape shapes[] = {
    { "hot 1k 16-128", 1000, 10000000, 16, 128 },
    { "mid 100k 16-1024", 100000, 4000000, 16, 1024 },
    { "cold 3M 16-256", 3000000, 6000000, 16, 256 },
    { "big 2k 4-64k", 2000, 1000000, 4096, 65536 },
};

static double cpu_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

static inline uint32_t next(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*state >> 33);
}

static inline void *born(size_t bytes, uint32_t site, bool mapped)
{
    struct blockmap_birth birth;
    char *block = malloc(bytes);
    if (!block)
        exit(1);
    *block = 1;
    if (mapped)
        blockmap_birth(block, bytes, site, &birth);
    return block;
}

static inline void die(void *block, bool mapped)
{
    struct blockmap_block dead;
    if (mapped && !blockmap_death(block, 0, &dead))
        exit(1);
    free(block);
}

static double run(const struct shape *shape, void **slots, bool mapped)
{
    uint64_t random = 1;
    size_t range = shape->most - shape->least + 1;
    for (size_t i = 0; i < shape->slots; i++)
        slots[i] = born(shape->least + next(&random) % range, 4, mapped);
    double start = cpu_ns();
    for (size_t i = 0; i < shape->pairs; i++) {
        void **slot = &slots[next(&random) % shape->slots];
        die(*slot, mapped);
        *slot = born(shape->least + next(&random) % range, 4 + (uint32_t)(i & 1023), mapped);
    }
    double ns = (cpu_ns() - start) / (double)shape->pairs;
    for (size_t i = 0; i < shape->slots; i++)
        die(slots[i], mapped);
    return ns;
}

int main(int argc, char **argv)
{
    int runs = argc > 1 ? atoi(argv[1]) : 3;
    void **slots = calloc(3000000, sizeof(void *));
    if (!slots)
        return 1;
    blockmap_init(true);
    for (size_t s = 0; s < sizeof(shapes) / sizeof(shapes[0]); s++) {
        double best[2] = { 1e18, 1e18 };
        for (int i = 0; i < 2 * runs; i++) {
            double ns = run(&shapes[s], slots, i % 2);
            if (ns < best[i % 2])
                best[i % 2] = ns;
        }
        printf("%-18s bare %6.1f ns  with the map %6.1f ns  added %6.1f ns\n", shapes[s].name, best[0], best[1],
               best[1] - best[0]);
    }
    printf("map: %.1f MiB\n", (double)blockmap_bytes() / 1048576);
    return 0;
}
