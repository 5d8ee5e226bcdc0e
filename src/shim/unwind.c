/* SPDX-License-Identifier: MIT */
#include "shim/unwind.h"

#include "freestanding/arena.h"
#include "shim/settings.h"
#include "shim/unwind_libunwind.h"
#include "shim/unwind_reuse.h"
#include "shim/unwind_rules.h"
#include <string.h>
#include "freestanding/banned.h"

/* Which sibling takes the stacks is fixed at the start. */

struct unwind_thread {
    struct unwind_reuse *reuse;             /* NULL: all by libunwind */
    struct unwind_libunwind *libunwind;     /* else fallback and oracle */
};

static bool use_libunwind;

bool unwind_init(const struct settings *settings)
{
    uint32_t depth_max = settings->depth < UNWIND_DEPTH_LIMIT ? (uint32_t)settings->depth : UNWIND_DEPTH_LIMIT;

    use_libunwind = settings->unwinder == SETTINGS_UNWINDER_LIBUNWIND && unwind_libunwind_ready();
    if (depth_max == 0)
        depth_max = 1;
    unwind_libunwind_set_depth(depth_max);
    unwind_reuse_init(depth_max);
    return unwind_rules_init();
}

const char *unwind_name(void)
{
    return use_libunwind ? "libunwind" : "fast";
}

struct unwind_thread *unwind_thread_new(void)
{
    struct unwind_thread *thread = arena_alloc(sizeof *thread, sizeof(void *));
    if (!thread)
        return NULL;
    thread->libunwind = unwind_libunwind_new();
    if (!use_libunwind)
        thread->reuse = unwind_reuse_new(thread->libunwind);
    return thread->libunwind && (use_libunwind || thread->reuse) ? thread : NULL;
}

void unwind_thread_reset(struct unwind_thread *thread)
{
    if (thread->reuse)
        unwind_reuse_reset(thread->reuse);
    unwind_libunwind_reset(thread->libunwind);
}

uint32_t unwind_capture(struct unwind_thread *thread, const struct unwind_start *start, struct unwind_result *result)
{
    if (__builtin_expect(thread->reuse != NULL, 1))
        return unwind_reuse_capture(thread->reuse, start, result);
    unwind_libunwind_capture(thread->libunwind, start, result);
    return result->memo;
}

bool unwind_places(const struct unwind_thread *thread, const struct unwind_result *result, uint64_t *sps)
{
    return thread->reuse != NULL && unwind_reuse_places(thread->reuse, result, sps);
}

void unwind_remember(struct unwind_thread *thread, uint32_t memo)
{
    if (thread->reuse)
        unwind_reuse_remember(thread->reuse, memo);
    else
        unwind_libunwind_remember(thread->libunwind, memo);
}

void unwind_forget(void)
{
    unwind_rules_forget();
    unwind_libunwind_forget();
}

bool unwind_verify(struct unwind_thread *thread, const struct unwind_start *start, struct unwind_result *reference)
{
    return unwind_libunwind_reference(thread->libunwind, start, reference);
}

bool unwind_agrees(const struct unwind_result *result, const struct unwind_result *reference)
{
    bool whole = !(reference->flags & UNWIND_INCOMPLETE);

    if (result->depth < reference->depth || (whole && result->depth != reference->depth)
        || (whole && result->flags != reference->flags))
        return false;
    return memcmp(result->pcs + result->depth - reference->depth, reference->pcs,
                  reference->depth * sizeof *reference->pcs) == 0;
}
