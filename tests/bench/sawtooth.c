/* SPDX-License-Identifier: MIT */
/*
 * Waves: blocks of 1 KiB up to MEGABYTES, all freed but one in a thousand, then a pause.
 *
 * usage: sawtooth [WAVES [MEGABYTES [PAUSE-MS]]]
 */
#include <stdlib.h>
#include <string.h>
#include <time.h>

int main(int argc, char **argv)
{
    long waves = argc > 1 ? atol(argv[1]) : 5, megabytes = argc > 2 ? atol(argv[2]) : 400;
    long pause_ms = argc > 3 ? atol(argv[3]) : 2000, count = megabytes * 1024;
    char **blocks = malloc((size_t)count * sizeof *blocks), **kept = calloc((size_t)(waves * count / 1000 + 1), sizeof *kept);
    long keeping = 0;

    for (long wave = 0; wave < waves; wave++) {
        for (long i = 0; i < count; i++)
            memset(blocks[i] = malloc(1000), 1, 1000);
        for (long i = 0; i < count; i++)
            if (i % 1000)
                free(blocks[i]);
            else
                kept[keeping++ % (waves * count / 1000 + 1)] = blocks[i];
        struct timespec pause = {pause_ms / 1000, pause_ms % 1000 * 1000000};
        nanosleep(&pause, NULL);
    }
    free(kept);
    free(blocks);
    return 0;
}
