/* SPDX-License-Identifier: MIT */
#include "shim/real.h"

#include "shim/marks.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdalign.h>

/* A size that no allocator grants may be passed over before the table is filled; see sampling_passes_over. */
static void *refuse(size_t bytes)
{
    (void)bytes;
    errno = ENOMEM;
    return NULL;
}

static void *refuse_cleared(size_t count, size_t each)
{
    return refuse(count * each);
}

struct real_functions real = {.malloc = refuse, .calloc = refuse_cleared};
bool real_ready;

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
