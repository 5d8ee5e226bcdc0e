/* SPDX-License-Identifier: MIT */
#include "shim/unwind.h"

#include "freestanding/arena.h"
#include "shim/settings.h"
#include "shim/unwind_libunwind.h"

/* Which sibling takes the stacks is fixed at the start. */

struct unwind_thread {
    struct unwind_libunwind *libunwind;
};

bool unwind_init(const struct settings *settings)
{
    uint32_t depth_max = settings->depth < UNWIND_DEPTH_LIMIT ? (uint32_t)settings->depth : UNWIND_DEPTH_LIMIT;
    unwind_libunwind_set_depth(depth_max > 0 ? depth_max : 1);
    return unwind_libunwind_ready();
}

const char *unwind_name(void)
{
    return "libunwind";
}

struct unwind_thread *unwind_thread_new(void)
{
    struct unwind_thread *thread = arena_alloc(sizeof *thread, sizeof(void *));
    if (!thread)
        return NULL;
    thread->libunwind = unwind_libunwind_new();
    return thread->libunwind ? thread : NULL;
}

void unwind_thread_reset(struct unwind_thread *thread)
{
    unwind_libunwind_reset(thread->libunwind);
}

void unwind_capture(struct unwind_thread *thread, const struct unwind_start *start, struct unwind_result *result)
{
    unwind_libunwind_capture(thread->libunwind, start, result);
}

void unwind_remember(struct unwind_thread *thread, uint32_t memo)
{
    unwind_libunwind_remember(thread->libunwind, memo);
}

void unwind_forget(void)
{
    unwind_libunwind_forget();
}

bool unwind_verify(struct unwind_thread *thread, const struct unwind_start *start, struct unwind_result *reference)
{
    return unwind_libunwind_walk(thread->libunwind, start, reference);
}
