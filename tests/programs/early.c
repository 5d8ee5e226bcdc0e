/* SPDX-License-Identifier: MIT */
/*
 * A library that allocates from a constructor that runs before the profiler's, and from a destructor that runs
 * after it; early_main.c is linked with it, so that the loader initialises it first.
 */
#include <stdlib.h>

#include "say.h"

void *early_block(void);

static void *early;

__attribute__((constructor)) static void made_in_constructor(void)
{
    for (int i = 0; i < 100; i++) {
        void *each = malloc(100);
        touch(each, 100);
        if (i % 2)
            free(each);
    }
    early = calloc(3, 100);
    early = realloc(early, 5000);
    touch(early, 5000);
}

__attribute__((destructor)) static void made_in_destructor(void)
{
    void *late = malloc(777);
    touch(late, 777);
    free(late);
    free(early);
    say("late", 777);
}

void *early_block(void)
{
    return early;
}
