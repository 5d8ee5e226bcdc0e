/* SPDX-License-Identifier: MIT */
/* The floor of interposition: a preload that does nothing but call the next allocator, whichever it is. */
#include <dlfcn.h>
#include <stddef.h>

void *malloc(size_t);
void *calloc(size_t, size_t);
void *realloc(void *, size_t);
void free(void *);

static struct {
    void *(*malloc)(size_t);
    void *(*calloc)(size_t, size_t);
    void *(*realloc)(void *, size_t);
    void (*free)(void *);
} next;

/* At the first call, which may come before any constructor.  dlsym itself may call calloc, before glibc 2.34 always in a program
 * with threads, and does without memory when it gets none. */
static volatile int looking;
__attribute__((noinline, cold)) static void look_up(void)
{
    looking = 1;
    next.free = (void (*)(void *))(size_t)dlsym(RTLD_NEXT, "free");
    next.calloc = (void *(*)(size_t, size_t))(size_t)dlsym(RTLD_NEXT, "calloc");
    next.realloc = (void *(*)(void *, size_t))(size_t)dlsym(RTLD_NEXT, "realloc");
    next.malloc = (void *(*)(size_t))(size_t)dlsym(RTLD_NEXT, "malloc");
    looking = 0;
}

void *malloc(size_t bytes)
{
    if (__builtin_expect(!next.malloc, 0))
        look_up();
    return next.malloc(bytes);
}

void *calloc(size_t n, size_t bytes)
{
    if (__builtin_expect(!next.malloc, 0)) {
        if (looking)
            return NULL;
        look_up();
    }
    return next.calloc(n, bytes);
}

void *realloc(void *block, size_t bytes)
{
    if (__builtin_expect(!next.malloc, 0))
        look_up();
    return next.realloc(block, bytes);
}

void free(void *block)
{
    if (__builtin_expect(!next.malloc, 0))
        look_up();
    next.free(block);
}
