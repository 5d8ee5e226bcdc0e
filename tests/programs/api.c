/* SPDX-License-Identifier: MIT */
/*
 * The C API from a program's side; compiled as C89 and as C++98.  It does the same with and without heapmark, and says what the
 * calls returned.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "heapmark.h"

#define BLOCKS 20000
static char *blocks[BLOCKS];

static void work(void)
{
    char *pin;
    int i;

    for (i = 0; i < BLOCKS; i++) {
        blocks[i] = (char *)malloc(1000);
        memset(blocks[i], 1, 1000);
    }
    pin = (char *)malloc(40);
    pin[0] = 1;
    for (i = 0; i < BLOCKS; i++)
        free(blocks[i]);
}

int main(void)
{
    struct heapmark_trim_result trim;
    struct heapmark_stats before, after, none;
    unsigned long first_only[2];
    char *block;

    memset(&none, 0, sizeof none);
    printf("active %d\n", heapmark_active());
    printf("push %d\n", heapmark_push("work"));
    work();
    printf("pop %d\n", heapmark_pop("work"));
    printf("mark %d\n", heapmark_mark("worked"));
    printf("trim %d\n", heapmark_trim(&trim));
    printf("returned %lu\n", trim.returned);
    printf("forecast %lu\n", trim.forecast);
    printf("difference %ld\n", (long)(trim.rss_before - trim.rss_after) - (long)trim.returned);
    printf("trim_again %d\n", heapmark_trim(NULL));
    printf("stats %d\n", heapmark_stats(&before, sizeof before));
    block = (char *)malloc(123456);
    printf("stats_after %d\n", heapmark_stats(&after, sizeof after));
    printf("grown %ld\n", (long)(after.live_bytes - before.live_bytes));
    printf("grown_blocks %ld\n", (long)(after.live_blocks - before.live_blocks));
    printf("peak_is_higher %d\n", after.peak_bytes >= 1000ul * BLOCKS && after.rss_peak_bytes >= after.rss_bytes);
    printf("zeroed %d\n", memcmp(&after, &none, sizeof none) == 0);
    /* An older program knows fewer fields. */
    first_only[1] = 4711;
    heapmark_stats((struct heapmark_stats *)first_only, sizeof first_only[0]);
    printf("untouched %d\n", first_only[1] == 4711);
    free(block);
    printf("snapshot %d\n", heapmark_snapshot("at the end"));
    printf("null_label %d\n", heapmark_mark(NULL));
    return 0;
}
