/* SPDX-License-Identifier: MIT */
/*
 * A library that stands between the profiler and libc: its malloc raises a signal whose handler allocates,
 * so that the handler's call comes while the profiler is inside its own hook, every time.
 */
#include <dlfcn.h>
#include <signal.h>
#include <stddef.h>

void *malloc(size_t bytes);

void *malloc(size_t bytes)
{
    static void *(*real)(size_t);
    static int inside;

    if (!real)
        real = (void *(*)(size_t))(size_t)dlsym(RTLD_NEXT, "malloc");
    if (bytes == 4704 && !inside) {
        inside = 1;
        raise(SIGUSR1);
        inside = 0;
    }
    return real(bytes);
}
