/* SPDX-License-Identifier: MIT */
#include "shim/stack.h"

#include "shim/module.h"
#include "shim/python.h"
#include "shim/recording.h"
#include "shim/sampling.h"
#include "shim/site_table.h"
#include "shim/stack_parts.h"
#include "shim/thread.h"
#include "shim/unwind.h"

static uint32_t verify_every;       /* 0: never */
/* What the unwinders remember of a stack is its site, and from this generation on the half that stack_python.c knows.  By the number,
 * since threads learn of it at different times. */
static uint32_t python_from = UINT32_MAX;

bool stack_init(uint32_t verify)
{
    verify_every = verify;
    return site_table_init();
}

uint32_t stack_lose_site(void)
{
    __atomic_add_fetch(&recording_live->lost_sites, 1, __ATOMIC_RELAXED);
    return HMK_SITE_LOST;
}

_Static_assert(STACK_SCRATCH_NODES + (UNWIND_DEPTH_LIMIT + 1) * sizeof(uint32_t) <= THREAD_SCRATCH_MERGE, "scratch");

__attribute__((cold, noinline)) static uint32_t intern(struct thread *thread, uint32_t *node,
                                                       const struct unwind_result *stack, uint64_t hash, uint32_t flags)
{
    uint32_t first = stack->depth;
    while (first > 0 && node[first] == 0)
        first--;
    /* Modules first: finding one may take the loader's lock, so no lock of ours may be held. */
    struct hmk_frame *path = thread->scratch;
    uint32_t before = site_table_generation;
    for (uint32_t i = first; i < stack->depth; i++) {
        bool exact = unwind_is_exact(stack, i);
        uint32_t module = module_find(stack->pcs[i] - !exact, (unsigned char *)thread->scratch + STACK_SCRATCH_MODULE);
        path[i].code = stack->pcs[i];
        path[i].ref = module | (uint32_t)(exact ? HMK_FRAME_SIGNAL : HMK_FRAME_NATIVE) << HMK_FRAME_KIND_SHIFT;
    }
    shield_raise_light();
    uint32_t site = HMK_SITE_LOST;
    if (spin_lock_patiently(&site_table_lock)) {
        site = before == site_table_generation ? site_table_find(hash) : 0;
        if (site == 0) {
            uint32_t leaf = site_table_path(node[first], path + first, stack->depth - first, node + first + 1);
            site = leaf != 0 ? site_table_site(leaf, flags) : HMK_SITE_LOST;
            if (site != HMK_SITE_LOST)
                site_table_keep(hash, site, site_table_generation);
        }
        spin_unlock(&site_table_lock);
    }
    shield_lower();
    return site != HMK_SITE_LOST ? site : stack_lose_site();
}

bool stack_whole_state(struct thread *thread)
{
    if (thread->unwind_whole == NULL)
        thread->unwind_whole = unwind_thread_new();
    return thread->unwind_whole != NULL;
}

/* ---- the heap's stacks -------------------------------------------------------------------------- */

/* Nothing that was learned about the thread's stacks is valid any more. */
__attribute__((cold, noinline)) static void begin_generation(struct thread *thread, uint32_t now)
{
    unwind_thread_reset(thread->unwind);
    stack_python_forget(thread);
    thread->stack_generation = now;
    thread->hash[0] = site_table_mix(now, HMK_KIND_HEAP);
    thread->node[0] = 0;
}

__attribute__((noinline)) static uint32_t site_of_walked(struct thread *thread, const struct unwind_result *stack)
{
    if (stack->depth == 0)
        return HMK_SITE_BEFORE;
    uint64_t hash = stack_hash(thread, stack);
    uint32_t flags = HMK_KIND_HEAP;
    if (__builtin_expect(stack->flags != 0, 0)) {
        flags = stack_flags(stack, HMK_KIND_HEAP);
        hash = site_table_mix(hash, flags);
    }
    hash += hash == 0;
    uint32_t site = site_table_find(hash);
    if (__builtin_expect(site == 0, 0))
        site = intern(thread, thread->node, stack, hash, flags);
    unwind_remember(thread->unwind, site);
    return site;
}

static inline uint32_t site_of_stack(struct thread *thread, const struct unwind_start *start)
{
    struct unwind_result stack;
    uint32_t now = __atomic_load_n(&site_table_generation, __ATOMIC_ACQUIRE);
    if (__builtin_expect(thread->stack_generation != now, 0))
        begin_generation(thread, now);
    uint32_t memo = unwind_capture(thread->unwind, start, &stack);
    if (__builtin_expect(now >= python_from, 0))
        return stack_python_heap(thread, start, &stack);
    return memo != 0 ? memo : site_of_walked(thread, &stack);
}

/* Mappings are rare and come from other places; their hashes and nodes are computed from the root. */
static uint32_t stack_site_mapping(struct thread *thread, const struct unwind_start *start, enum hmk_site_kind kind)
{
    if (!stack_whole_state(thread))
        return HMK_SITE_BEFORE;
    struct unwind_result stack;
    uint32_t now = __atomic_load_n(&site_table_generation, __ATOMIC_ACQUIRE);
    unwind_thread_reset(thread->unwind_whole);
    unwind_capture(thread->unwind_whole, start, &stack);
    if (stack.depth == 0)
        return HMK_SITE_BEFORE;
    uint32_t flags = stack_flags(&stack, kind);
    uint32_t *node = (uint32_t *)((unsigned char *)thread->scratch + STACK_SCRATCH_NODES);
    __builtin_memset(node, 0, (stack.depth + 1) * sizeof *node);
    uint64_t hash = site_table_mix(now, flags);
    for (uint32_t i = 0; i < stack.depth; i++)
        hash = site_table_mix(hash, stack.pcs[i]);
    if (now >= python_from)
        return stack_python_mapping(thread, start, &stack, node, hash, kind);
    hash += hash == 0;
    uint32_t site = site_table_find(hash);
    return site != 0 ? site : intern(thread, node, &stack, hash, flags);
}

/* The whole path from registers to site, against the reference unwinder's walk. */
__attribute__((cold, noinline)) static void verify(struct thread *thread, const struct unwind_start *start,
                                                   uint32_t site)
{
    thread->verify_countdown = verify_every;
    struct unwind_result reference;
    if (site < HMK_SITE_FIRST || !unwind_verify(thread->unwind, start, &reference))
        return;
    const struct hmk_site *record = recording_at(HMK_SITES, site);
    uint32_t node = record->frame, left = reference.depth;
    while (left > 0 && node != 0) {
        const struct hmk_frame *frame = recording_at(HMK_FRAMES, node);
        if (frame->code != reference.pcs[left - 1])
            break;
        node = frame->parent;
        left--;
    }
    __atomic_add_fetch(&recording_live->verify_checked, 1, __ATOMIC_RELAXED);
    /* Beyond code without unwind data the reference knows no more. */
    if (left != 0 || (node != 0 && !(reference.flags & UNWIND_INCOMPLETE)))
        __atomic_add_fetch(&recording_live->verify_wrong, 1, __ATOMIC_RELAXED);
}

uint32_t stack_site_heap(struct thread *thread, const struct unwind_start *start)
{
    uint32_t site = site_of_stack(thread, start);
    if (__builtin_expect(thread->verify_countdown != 0, 0) && --thread->verify_countdown == 0)
        verify(thread, start, site);
    return site;
}

uint32_t stack_site(struct thread *thread, const struct unwind_start *start, enum hmk_site_kind kind)
{
    return kind == HMK_KIND_HEAP ? stack_site_heap(thread, start) : stack_site_mapping(thread, start, kind);
}

void stack_forget(void)
{
    __atomic_add_fetch(&site_table_generation, 1, __ATOMIC_ACQ_REL);
    unwind_forget();
}

void stack_begin_python(void)
{
    __atomic_store_n(&python_from, site_table_generation + 1, __ATOMIC_RELEASE);
    stack_forget();
}

/* The generation ends with exact mode, so that no stack is found under the id that it had then. */
bool stack_begin_sampling(uint64_t interval)
{
    if (!spin_lock_patiently(&site_table_lock))
        return false;
    sampling_start(interval, (uint32_t)recording_count(HMK_SITES));
    stack_forget();
    spin_unlock(&site_table_lock);
    return true;
}

void stack_abandon(struct thread *thread)
{
    stack_python_forget(thread);
    spin_abandon(&site_table_lock);
    python_abandon();
    recording_abandon_lock();
    shield_abandon();
}

uint32_t stack_verify_every(void)
{
    return verify_every;
}

void stack_after_fork(void)
{
    spin_reset(&site_table_lock);
    python_after_fork();
}
