/* SPDX-License-Identifier: MIT */

/* Loaded by tests/programs/python/stacks.py through ctypes: allocations that are never freed, at depths of its choosing. */

#include <pthread.h>
#include <stdlib.h>

typedef void callback(void);

void probe_leak(size_t bytes);
void probe_deeper(size_t bytes, int depth);
void probe_call(callback *function);
void probe_sort(callback *function);
void probe_thread(callback *function);

static void *volatile kept;

/* One block; every caller's frame stays on the stack. */
__attribute__((noinline)) void probe_leak(size_t bytes)
{
    kept = malloc(bytes);
}

__attribute__((noinline)) void probe_deeper(size_t bytes, int depth)
{
    if (depth > 0)
        probe_deeper(bytes, depth - 1);
    else
        probe_leak(bytes);
    __asm__ volatile("");
}

/* Back into Python. */
__attribute__((noinline)) void probe_call(callback *function)
{
    function();
    __asm__ volatile("");
}

static int compare(const void *a, const void *b)
{
    (void)a;
    (void)b;
    return 0;
}

static callback *in_sort;

static int compare_and_call(const void *a, const void *b)
{
    callback *function = in_sort;
    in_sort = NULL;
    if (function)
        function();
    return compare(a, b);
}

/* Through libc: there is a frame of another module between. */
__attribute__((noinline)) void probe_sort(callback *function)
{
    int numbers[2] = { 1, 2 };
    in_sort = function;
    qsort(numbers, 2, sizeof *numbers, compare_and_call);
    __asm__ volatile("");
}

static void *run(void *function)
{
    ((callback *)function)();
    return NULL;
}

/* In a thread that Python did not start. */
__attribute__((noinline)) void probe_thread(callback *function)
{
    pthread_t thread;
    if (pthread_create(&thread, NULL, run, (void *)function) == 0)
        pthread_join(thread, NULL);
}
