/* SPDX-License-Identifier: MIT */
/* What loader.c opens and closes: PLUGIN_NAME is the name of the function that allocates. */
#include <stdlib.h>

#include "say.h"

void *PLUGIN_NAME(size_t bytes);

__attribute__((noinline)) void *PLUGIN_NAME(size_t bytes)
{
    void *block = malloc(bytes);
    touch(block, bytes);
    return block;
}
