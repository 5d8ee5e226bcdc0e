/* SPDX-License-Identifier: MIT */
#include "shim/real.h"

#include "shim/marks.h"
#include "shim/start.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdalign.h>

struct real_functions real;
bool real_ready;

/* A size that no allocator grants may be passed over before the table is filled; see sampling_passes_over. */
static void *refuse(void)
{
    errno = ENOMEM;
    return NULL;
}

static void *malloc_rounded(size_t bytes)
{
    return real_ready ? real.malloc(start_rounded(bytes)) : refuse();
}

static void *calloc_rounded(size_t count, size_t each)
{
    return real_ready ? real.calloc(1, start_rounded(count * each)) : refuse();
}

static void *realloc_rounded(void *block, size_t bytes)
{
    return real.realloc(block, block != NULL && bytes == 0 ? 0 : start_rounded(bytes));
}

struct real_passed real_passed = {malloc_rounded, calloc_rounded, realloc_rounded};

void real_pass_directly(void)
{
    real_passed = (struct real_passed){real.malloc, real.calloc, real.realloc};
}

alignas(64) unsigned char real_early_arena[REAL_EARLY_BYTES];
static size_t early_used;

/* Each early block has its size in the 16 bytes before it. */
void *real_malloc_early(size_t bytes, size_t alignment)
{
    if (alignment < 16)
        alignment = 16;
    if (bytes > REAL_EARLY_BYTES || alignment > 4096)
        return NULL;
    size_t old = __atomic_load_n(&early_used, __ATOMIC_RELAXED), start, end;
    do {
        start = (old + 16 + alignment - 1) & ~(alignment - 1);
        end = start + ((bytes + 15) & ~(size_t)15);
        if (end > REAL_EARLY_BYTES)
            return NULL;
    } while (!__atomic_compare_exchange_n(&early_used, &old, end, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
    *(size_t *)(real_early_arena + start - 16) = bytes;
    marks_pin(real_early_arena + start);
    return real_early_arena + start;
}

size_t real_size_early(const void *block)
{
    return *(const size_t *)((const unsigned char *)block - 16);
}

enum { UNTRIED, RUNNING, READY, FAILED };
/* Volatile: libc declares dlsym a leaf, which never comes back into this file, and a compiler that believes it drops the
 * store before the look-ups.  But dlsym allocates when a name is not found. */
static volatile int stage;

__attribute__((cold, noinline)) static bool look_up(void)
{
    stage = RUNNING;
    bool complete = true;
#define HOOK(type, name, parameters)                                                                                   \
    {                                                                                                                  \
        void *found = dlsym(RTLD_NEXT, #name);                                                                         \
        __builtin_memcpy(&real.name, &found, sizeof found);                                                            \
        complete = complete && found != NULL;                                                                          \
    }
#define HOOK_OPTIONAL(type, name, parameters)                                                                          \
    {                                                                                                                  \
        void *found = dlsym(RTLD_NEXT, #name);                                                                         \
        __builtin_memcpy(&real.name, &found, sizeof found);                                                            \
    }
#include "shim/hooks.def"
#undef HOOK
#undef HOOK_OPTIONAL
    stage = complete ? READY : FAILED;
    __atomic_store_n(&real_ready, complete, __ATOMIC_RELEASE);
    return complete;
}

bool real_init(void)
{
    if (__builtin_expect(stage == READY, 1))
        return true;
    return stage == UNTRIED && look_up();
}

/* glibc's malloc and a function that no replacement allocator brings along come from the same object. */
bool real_is_glibc(void)
{
    Dl_info of_malloc, of_libc;
    void *version = dlsym(RTLD_NEXT, "gnu_get_libc_version");
    void *malloc_address;
    __builtin_memcpy(&malloc_address, &real.malloc, sizeof malloc_address);
    return version != NULL && dladdr(malloc_address, &of_malloc) != 0 && dladdr(version, &of_libc) != 0 &&
           of_malloc.dli_fbase == of_libc.dli_fbase;
}
