/* SPDX-License-Identifier: MIT */
#include "shim/lever.h"

#include "shim/real.h"
#include "shim/start.h"

#include <dlfcn.h>

static int (*jemalloc_control)(const char *, void *, size_t *, void *, size_t);
static void (*tcmalloc_release)(void);
static void (*mimalloc_collect)(bool);

static void *find(const char *name)
{
    return dlsym(RTLD_DEFAULT, name);
}

void lever_init(void)
{
    void *found = find("mallctl");
    __builtin_memcpy(&jemalloc_control, &found, sizeof found);
    found = find("MallocExtension_ReleaseFreeMemory");
    __builtin_memcpy(&tcmalloc_release, &found, sizeof found);
    found = find("mi_collect");
    __builtin_memcpy(&mimalloc_collect, &found, sizeof found);
}

uint32_t lever_found(void)
{
    return (start_is_glibc && real.malloc_trim != NULL ? HMK_LEVER_GLIBC : 0) |
           (jemalloc_control != NULL ? HMK_LEVER_JEMALLOC : 0) | (tcmalloc_release != NULL ? HMK_LEVER_TCMALLOC : 0) |
           (mimalloc_collect != NULL ? HMK_LEVER_MIMALLOC : 0);
}

bool lever_pull(void)
{
    if (jemalloc_control != NULL) {
        jemalloc_control("thread.tcache.flush", NULL, NULL, NULL, 0);
        jemalloc_control("arena.4096.purge", NULL, NULL, NULL, 0);     /* 4096: all arenas */
    }
    if (tcmalloc_release != NULL)
        tcmalloc_release();
    if (mimalloc_collect != NULL)
        mimalloc_collect(true);
    if (start_is_glibc && real.malloc_trim != NULL)
        real.malloc_trim(0);
    return lever_found() != 0;
}

bool lever_is_guarded(void)
{
    return start_is_glibc && (lever_found() & ~HMK_LEVER_GLIBC) == 0;
}
