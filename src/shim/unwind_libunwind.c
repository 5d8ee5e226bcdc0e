/* SPDX-License-Identifier: MIT */
#include "shim/unwind_libunwind.h"

#include "freestanding/arena.h"
#include "freestanding/text.h"
#include "shim/unwind_helper.h"
#include "shim/unwind_rules.h"
#include <dlfcn.h>
#include <errno.h>
#include <string.h>

/* The helper's own read and write come before libc's.  The address sanitizer, in tests, refuses that. */
#ifdef __SANITIZE_ADDRESS__
#define DEEPBIND 0
#else
#define DEEPBIND RTLD_DEEPBIND
#endif

#define OWN_FRAMES 32u          /* of the shim and the helper, between libunwind and the hook's caller */

struct unwind_libunwind {
    uint64_t found[UNWIND_DEPTH_LIMIT + OWN_FRAMES + 1];        /* leaf first, as libunwind writes it */
    struct unwind_helper_frame frames[UNWIND_DEPTH_LIMIT + 1];  /* of the full walk */
    struct unwind_raw raw;
    struct unwind_list list;        /* of captures */
    struct unwind_list reference;   /* of the oracle */
};

static const struct unwind_helper *helper;
static uint32_t depth_limit = UNWIND_DEPTH_LIMIT;
static uint32_t unloads;        /* > 0: unw_backtrace is no longer to be trusted */

/* AddressSanitizer ends a process that uses it; the shim is never built with that, its tests are. */
#if defined(__SANITIZE_ADDRESS__)
#define DEEPBIND 0
#else
#define DEEPBIND RTLD_DEEPBIND
#endif

bool unwind_libunwind_open(const char *directory)
{
    char path[4096];
    struct text text = text_over(path, sizeof path);

    text_put(&text, directory);
    text_put(&text, "/" UNWIND_HELPER_FILE);
    if (text.cut)
        return false;
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL | DEEPBIND);
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
    thread->list.depth = 0;
    thread->list.memo = 0;
}

bool unwind_libunwind_walk(struct unwind_libunwind *thread, const struct unwind_start *start, struct unwind_raw *raw)
{
    static uint32_t flushed;    /* the value of `unloads` that libunwind's cache is good for */
    uint32_t now = __atomic_load_n(&unloads, __ATOMIC_RELAXED);
    uint32_t complete;
    int saved_errno = errno;

    if (!helper)
        return false;
    if (__atomic_exchange_n(&flushed, now, __ATOMIC_RELAXED) != now)
        helper->flush();
    uint32_t depth = helper->walk(start->sp, thread->frames, depth_limit + 1, &complete);
    errno = saved_errno;
    if (depth == 0 || thread->frames[0].pc != start->pc)
        return false;
    unwind_raw_start(raw);
    for (uint32_t i = 0; i < depth && i < depth_limit; i++)
        unwind_raw_add(raw, thread->frames[i].pc, thread->frames[i].exact);
    if (depth > depth_limit)
        raw->flags = UNWIND_CUT;
    else if (!complete)
        raw->flags = UNWIND_INCOMPLETE;
    return true;
}

/* unw_backtrace: ten times as fast, but it neither tells interrupted instructions nor why it stopped. */
static bool backtrace_raw(struct unwind_libunwind *thread, const struct unwind_start *start, struct unwind_raw *raw)
{
    struct unwind_rules *rules = unwind_rules_current();
    int saved_errno = errno;
    uint32_t count = helper->backtrace(thread->found, depth_limit + OWN_FRAMES + 1);
    uint32_t first = 0, code = UNWIND_CODE_UNKNOWN;

    errno = saved_errno;
    while (first < count && start->pc - thread->found[first] > 1)
        first++;
    if (first == count)
        return false;
    uint64_t less = start->pc - thread->found[first];   /* 1: libunwind 1.3 gives the last byte of the call */
    unwind_raw_start(raw);
    for (uint32_t i = first; i < count && raw->depth < depth_limit; i++) {
        bool exact = code == UNWIND_CODE_SIGNAL;
        uint64_t pc = thread->found[i] + (exact ? 0 : less);
        unwind_raw_add(raw, pc, exact);
        code = unwind_rules_code(rules, pc);
    }
    if (count - first > depth_limit)
        raw->flags = UNWIND_CUT;
    else if (code != UNWIND_CODE_END)
        raw->flags = UNWIND_INCOMPLETE;
    return true;
}

void unwind_libunwind_capture(struct unwind_libunwind *thread, const struct unwind_start *start,
                              struct unwind_result *result)
{
    bool stale = __atomic_load_n(&unloads, __ATOMIC_RELAXED) > 0;

    if (stale ? !unwind_libunwind_walk(thread, start, &thread->raw) : !backtrace_raw(thread, start, &thread->raw)) {
        unwind_raw_start(&thread->raw);
        unwind_raw_add(&thread->raw, start->pc, false);
        thread->raw.flags = UNWIND_INCOMPLETE;
    }
    if (unwind_list_set(&thread->list, &thread->raw, result))
        result->memo = thread->list.memo;
}

void unwind_libunwind_remember(struct unwind_libunwind *thread, uint32_t memo)
{
    thread->list.memo = memo;
}

void unwind_libunwind_forget(void)
{
    __atomic_add_fetch(&unloads, 1, __ATOMIC_RELAXED);
}

/* Leaves of a reference what rests on unwind data: beyond the first frame that has none, libunwind guesses too. */
static void drop_guessed(struct unwind_raw *raw)
{
    struct unwind_rules *rules = unwind_rules_current();

    for (uint32_t i = 0; i + 1 < raw->depth; i++) {
        bool exact = raw->exact[i / 64] >> i % 64 & 1;
        if (exact || unwind_rules_code(rules, raw->pcs[i]) != UNWIND_CODE_UNKNOWN || helper->described(raw->pcs[i] - 1))
            continue;
        raw->depth = i + 1;
        raw->flags = UNWIND_INCOMPLETE;
    }
    for (uint32_t i = raw->depth; i < UNWIND_DEPTH_LIMIT; i++)
        raw->exact[i / 64] &= ~(UINT64_C(1) << i % 64);
}

bool unwind_libunwind_reference(struct unwind_libunwind *thread, const struct unwind_start *start,
                                struct unwind_result *reference)
{
    if (!unwind_libunwind_walk(thread, start, &thread->raw))
        return false;
    drop_guessed(&thread->raw);
    unwind_list_set(&thread->reference, &thread->raw, reference);
    reference->common = 0;
    return true;
}
