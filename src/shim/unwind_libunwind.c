/* SPDX-License-Identifier: MIT */
#include "shim/unwind_libunwind.h"

#include "freestanding/arena.h"
#include "freestanding/text.h"
#include "shim/unwind_helper.h"
#include <dlfcn.h>
#include <errno.h>
#include <string.h>

#define OWN_FRAMES 32u          /* of the shim and the helper, between libunwind and the hook's caller */
#define RAW_FRAMES (UNWIND_DEPTH_LIMIT + OWN_FRAMES + 1)

struct unwind_libunwind {
    uint64_t raw[RAW_FRAMES];                   /* leaf first, as libunwind writes it */
    uint64_t pcs[2][UNWIND_DEPTH_LIMIT];        /* the last result and the one before, root first */
    uint32_t depth, flags;                      /* of the last result */
    uint32_t current;                           /* which of pcs holds it */
    uint32_t memo;
    struct unwind_helper_frame frames[UNWIND_DEPTH_LIMIT + 1];  /* of the full walk */
    uint64_t walk_pcs[UNWIND_DEPTH_LIMIT];
    uint64_t walk_exact[UNWIND_DEPTH_LIMIT / 64];
};

static const struct unwind_helper *helper;
static uint32_t depth_limit = UNWIND_DEPTH_LIMIT;
static uint32_t unloads;        /* > 0: unw_backtrace is no longer to be trusted */

bool unwind_libunwind_open(const char *directory)
{
    char path[4096];
    struct text text = text_over(path, sizeof path);

    text_put(&text, directory);
    text_put(&text, "/" UNWIND_HELPER_FILE);
    if (text.cut)
        return false;
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    const struct unwind_helper *table = library ? dlsym(library, UNWIND_HELPER_SYMBOL) : NULL;
    if (!table || table->version != UNWIND_HELPER_VERSION)
        return false;
    helper = table;
    return true;
}

bool unwind_libunwind_ready(void)
{
    return helper != NULL;
}

void unwind_libunwind_set_depth(uint32_t depth_max)
{
    depth_limit = depth_max;
}

struct unwind_libunwind *unwind_libunwind_new(void)
{
    return arena_alloc(sizeof(struct unwind_libunwind), 64);
}

void unwind_libunwind_reset(struct unwind_libunwind *thread)
{
    thread->depth = 0;
    thread->memo = 0;
}

/* Copies leaf-first frames root first behind the previous result and compares the two. */
static void publish(struct unwind_libunwind *thread, const uint64_t *leaf_first, uint32_t depth, uint32_t flags,
                    struct unwind_result *result)
{
    const uint64_t *previous = thread->pcs[thread->current];
    uint64_t *pcs = thread->pcs[thread->current ^ 1];
    uint32_t common = 0;

    for (uint32_t i = 0; i < depth; i++)
        pcs[i] = leaf_first[depth - 1 - i];
    while (common < depth && common < thread->depth && pcs[common] == previous[common])
        common++;
    if (common == depth && depth == thread->depth && flags == thread->flags) {
        result->memo = thread->memo;
        if (result->memo)
            return;
    }
    thread->current ^= 1;
    thread->depth = depth;
    thread->flags = flags;
    thread->memo = 0;
    *result = (struct unwind_result){ .pcs = pcs, .depth = depth, .common = common, .flags = flags };
}

/* Step by step, where unw_backtrace is not to be trusted.  The frames land in thread->raw from 0 on. */
static uint32_t walk_raw(struct unwind_libunwind *thread, const struct unwind_start *start, uint32_t *flags)
{
    uint32_t complete;
    uint32_t depth = helper->walk(start->sp, thread->frames, depth_limit + 1, &complete);

    for (uint32_t i = 0; i < depth; i++)
        thread->raw[i] = thread->frames[i].pc;
    if (!complete && depth <= depth_limit)
        *flags |= UNWIND_INCOMPLETE;
    return depth;
}

void unwind_libunwind_capture(struct unwind_libunwind *thread, const struct unwind_start *start,
                              struct unwind_result *result)
{
    int saved_errno = errno;
    uint32_t flags = 0, first = 0, count;

    result->memo = 0;
    if (__atomic_load_n(&unloads, __ATOMIC_RELAXED) > 0) {
        count = walk_raw(thread, start, &flags);
    } else {
        count = helper->backtrace(thread->raw, depth_limit + OWN_FRAMES + 1);
        while (first < count && thread->raw[first] != start->pc)
            first++;
    }
    errno = saved_errno;
    if (first >= count || thread->raw[first] != start->pc) {
        thread->raw[0] = start->pc;
        first = 0;
        count = 1;
        flags = UNWIND_INCOMPLETE;
    }
    uint32_t depth = count - first;
    if (depth > depth_limit) {
        depth = depth_limit;
        flags |= UNWIND_CUT;
    }
    publish(thread, thread->raw + first, depth, flags, result);
}

void unwind_libunwind_remember(struct unwind_libunwind *thread, uint32_t memo)
{
    thread->memo = memo;
}

void unwind_libunwind_forget(void)
{
    __atomic_add_fetch(&unloads, 1, __ATOMIC_RELAXED);
}

bool unwind_libunwind_walk(struct unwind_libunwind *thread, const struct unwind_start *start,
                           struct unwind_result *reference)
{
    static uint32_t flushed;    /* the value of `unloads` that the walk's cache is good for */
    int saved_errno = errno;
    uint32_t now = __atomic_load_n(&unloads, __ATOMIC_RELAXED);
    uint32_t complete;

    if (!helper)
        return false;
    if (__atomic_exchange_n(&flushed, now, __ATOMIC_RELAXED) != now)
        helper->flush();
    uint32_t depth = helper->walk(start->sp, thread->frames, depth_limit + 1, &complete);
    errno = saved_errno;
    if (depth == 0 || thread->frames[0].pc != start->pc)
        return false;
    uint32_t flags = depth > depth_limit ? UNWIND_CUT : complete ? 0 : UNWIND_INCOMPLETE;
    if (depth > depth_limit)
        depth = depth_limit;
    memset(thread->walk_exact, 0, sizeof thread->walk_exact);
    for (uint32_t i = 0; i < depth; i++) {
        const struct unwind_helper_frame *frame = &thread->frames[depth - 1 - i];
        thread->walk_pcs[i] = frame->pc;
        if (frame->exact)
            thread->walk_exact[i / 64] |= UINT64_C(1) << i % 64;
    }
    *reference = (struct unwind_result){
        .pcs = thread->walk_pcs, .exact = thread->walk_exact, .depth = depth, .flags = flags
    };
    return true;
}
