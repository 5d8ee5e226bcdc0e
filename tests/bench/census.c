/* SPDX-License-Identifier: MIT */
/* What a census costs: CPU ms per GiB of resident heap, for heaps of several shapes, least of several runs. */
#include "census/blockmap.h"
#include "census/census.h"

#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct shape {
    const char *name;
    size_t least, most;
    unsigned keep;          /* one block of so many stays live */
};

static const struct shape shapes[] = {
    { "64 bytes, all live", 48, 48, 1 },
    { "64 bytes, every other", 48, 48, 2 },
    { "64 bytes, every 16th", 48, 48, 16 },
    { "16-1024, all live", 16, 1024, 1 },
    { "16-1024, every other", 16, 1024, 2 },
    { "16-1024, every 16th", 16, 1024, 16 },
    { "1000, every 256th", 1000, 1000, 256 },
    { "4 KiB-64 KiB, every 4th", 4096, 65536, 4 },
};

static uint64_t state = 1;

static uint32_t next(void)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(state >> 33);
}

static double cpu_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

static double census_ms(bool alone, struct hmk_census *census)
{
    double best = 1e18;
    for (int i = 0; i < 3; i++) {
        struct census_request request = { .kind = HMK_CENSUS_REQUEST, .site_count = 1024, .alone = alone };
        struct census_result result;
        double start = cpu_ns();
        if (!census_take(&request, &result))
            exit(1);
        double spent = cpu_ns() - start;
        *census = result.census;
        if (spent < best)
            best = spent;
        census_release(&result);
    }
    return best / 1e6;
}

int main(int argc, char **argv)
{
    size_t total = (size_t)(argc > 1 ? atoi(argv[1]) : 512) << 20;
    blockmap_init(true);
    mallopt(M_MMAP_THRESHOLD, 1 << 30);
    mallopt(M_TRIM_THRESHOLD, 2000 << 20);
    void **slots = malloc(total / 32 * sizeof(void *));
    if (!slots)
        return 1;
    for (size_t s = 0; s < sizeof(shapes) / sizeof(shapes[0]); s++) {
        const struct shape *shape = &shapes[s];
        size_t count = 0;
        for (size_t bytes = 0; bytes < total; count++) {
            size_t size = shape->least + next() % (shape->most - shape->least + 1);
            struct blockmap_birth birth;
            if (!(slots[count] = malloc(size)))
                return 1;
            memset(slots[count], 1, size);
            blockmap_birth(slots[count], size, 4 + next() % 1000, &birth);
            bytes += birth.usable + 8;
        }
        struct blockmap_block dead;
        for (size_t i = 0; i < count; i++)
            if (shape->keep > 1 && i % shape->keep && blockmap_death(slots[i], 0, &dead))
                free(slots[i]);
        struct hmk_census census;
        double alone = census_ms(true, &census);
        double beside = census_ms(false, &census);
        double gib = (double)census.heap_resident_bytes / (1 << 30);
        printf("%-26s %5.0f MiB  alone %6.1f ms/GiB  beside threads %6.1f ms/GiB  %s\n", shape->name, gib * 1024,
               alone / gib, beside / gib, census.flags & HMK_CENSUS_WALKED ? "walked" : "not walked");
        for (size_t i = 0; i < count; i++)
            if ((shape->keep <= 1 || i % shape->keep == 0) && blockmap_death(slots[i], 0, &dead))
                free(slots[i]);
        malloc_trim(0);
    }
    free(slots);
    return 0;
}
