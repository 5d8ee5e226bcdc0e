/* SPDX-License-Identifier: MIT */
/*
 * Opens one library, allocates through it, closes it and opens another, which often lands at the same addresses.
 *
 * usage: loader DIRECTORY [ROUNDS]      with plugin_red.so and plugin_blue.so in DIRECTORY
 */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

#include "say.h"

static int use(const char *directory, const char *name, int count, size_t bytes)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/plugin_%s.so", directory, name);
    void *library = dlopen(path, RTLD_NOW);
    if (!library)
        return 1;
    snprintf(path, sizeof path, "plugin_%s", name);
    void *(*allocate)(size_t) = (void *(*)(size_t))(size_t)dlsym(library, path);
    if (!allocate)
        return 1;
    for (int i = 0; i < count; i++)
        (void)!allocate(bytes);
    return dlclose(library);
}

int main(int argc, char **argv)
{
    long rounds = argc > 2 ? strtol(argv[2], NULL, 10) : 20;

    if (argc < 2)
        return 2;
    for (long i = 0; i < rounds; i++)
        if (use(argv[1], "red", 10, 1000) || use(argv[1], "blue", 20, 100))
            return 3;
    say("red_blocks", rounds * 10);
    say("red_bytes", rounds * 10000);
    say("blue_blocks", rounds * 20);
    say("blue_bytes", rounds * 2000);
    return 0;
}
