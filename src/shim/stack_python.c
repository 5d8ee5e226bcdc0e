/* SPDX-License-Identifier: MIT */
#include "shim/merge.h"
#include "shim/python.h"
#include "shim/python_code.h"
#include "shim/recording.h"
#include "shim/sampling.h"
#include "shim/stack.h"
#include "shim/stack_parts.h"

#include "freestanding/banned.h"

/*
 * A native path is told by its leaf's node with the flags of the stack above, in one word: the half.  Its frames of the
 * interpreter's loop are nodes of a kind of their own, with one address for all, since the Python frames that take their place
 * tell the instruction.  Which frames those are was seen by the anchors when the path was new; a later stack on the same path
 * has as many groups of Python frames, or else the frames are merged one by one (merge.h).
 */
#define HALF_FLAGS_SHIFT 29
#define HALF_NODE ((1u << HALF_FLAGS_SHIFT) - 1)
_Static_assert((HMK_SITE_CUT | HMK_SITE_INCOMPLETE | HMK_SITE_GUESSED) == 7u << 8, "three bits");

static inline uint32_t half_of(uint32_t node, uint32_t flags)
{
    return node | flags >> 8 << HALF_FLAGS_SHIFT;
}

static inline uint32_t flags_of_half(uint32_t half)
{
    return half >> HALF_FLAGS_SHIFT << 8;
}

/* Hashes of halves, of Python paths and of pairs are in domains of their own: their values are not sites. */
#define NATIVE_DOMAIN UINT64_C(0xa5a5a5a5a5a5a5a5)
#define PYTHON_DOMAIN UINT64_C(0x5a5a5a5a5a5a5a5a)
#define PAIR_DOMAIN UINT64_C(0x3c3c3c3c00000000)

struct recent {                 /* site 0: none */
    uint64_t python;
    uint32_t half, site;
};
#define RECENTS 256u

struct python_side {
    struct merge merge;
    struct recent recent[RECENTS];
    uint64_t python;            /* the last one that was looked up, and its leaf; 0: none */
    uint32_t python_leaf;
    uint64_t loops[UNWIND_DEPTH_LIMIT / 64];    /* the frames of the loop on the path whose nodes thread->node has */
    uint64_t fresh_loops[UNWIND_DEPTH_LIMIT / 64];
    struct python_chain chain;
};
_Static_assert(sizeof(struct python_side) <= THREAD_SCRATCH - THREAD_SCRATCH_MERGE, "the scratch space");

static inline struct python_side *side_of(struct thread *thread)
{
    return (struct python_side *)((unsigned char *)thread->scratch + THREAD_SCRATCH_MERGE);
}

static inline bool bit(const uint64_t *bits, uint32_t i)
{
    return bits[i / 64] >> (i % 64) & 1;
}

static inline uint64_t key(uint64_t hash)
{
    return hash + (hash == 0);
}

/* ---- native paths --------------------------------------------------------------------------------- */

static inline void mark(struct python_side *side, uint32_t i)
{
    side->fresh_loops[i / 64] |= UINT64_C(1) << (i % 64);
}

/* Marks the frames in which the anchors of the Python groups lie; how many, or SITE_TABLE_UNTOLD when that is not clear. */
static uint32_t mark_by_anchors(struct python_side *side, const struct unwind_result *stack)
{
    const uint64_t *anchor = side->merge.python.anchor, *sps = side->merge.sps;
    uint32_t groups = python_anchors(side->merge.python.anchor), i = 0;
    if (groups == UINT32_MAX)
        return SITE_TABLE_UNTOLD;
    for (uint32_t left = groups; left > 0; left--, i++) {
        while (i < stack->depth && sps[i] > anchor[left - 1])
            i++;
        bool beyond = i == stack->depth || (i == 0 && stack->flags & UNWIND_CUT);
        if (beyond || (left > 1 && anchor[left - 2] >= sps[i]))
            return SITE_TABLE_UNTOLD;
        mark(side, i);
    }
    return groups;
}

static uint32_t mark_loops(struct python_side *side, struct unwind_thread *unwind, const struct unwind_result *stack)
{
    uint32_t groups = SITE_TABLE_UNTOLD;
    __builtin_memset(side->fresh_loops, 0, sizeof side->fresh_loops);
    if (!python_is_anchored()) {
        groups = 0;
        for (uint32_t i = 0; i < stack->depth; i++)
            if (python_is_loop(stack->pcs[i] - 1)) {
                mark(side, i);
                groups++;
            }
    } else if (unwind_places(unwind, stack, side->merge.sps)) {
        groups = mark_by_anchors(side, stack);
    }
    if (groups == SITE_TABLE_UNTOLD)
        __builtin_memset(side->fresh_loops, 0, sizeof side->fresh_loops);
    return groups;
}

/* The first frame whose mark is another than on the path before; at most `most`. */
static uint32_t same_marks(const struct python_side *side, uint32_t most)
{
    for (uint32_t word = 0; word * 64 < most; word++) {
        uint64_t differ = side->loops[word] ^ side->fresh_loops[word];
        uint32_t i = word * 64 + (differ != 0 ? (uint32_t)__builtin_ctzll(differ) : 64);
        if (differ != 0 && i < most)
            return i;
    }
    return most;
}

static void fill_native(struct thread *thread, const struct python_side *side, const struct unwind_result *stack,
                        uint32_t first, struct hmk_frame *path)
{
    void *scratch = (unsigned char *)thread->scratch + STACK_SCRATCH_MODULE;
    for (uint32_t i = first; i < stack->depth; i++) {
        bool exact = unwind_is_exact(stack, i), loop = bit(side->fresh_loops, i);
        uint32_t kind = loop ? HMK_FRAME_LOOP : exact ? HMK_FRAME_SIGNAL : HMK_FRAME_NATIVE;
        path[i].code = loop && python_loop_address() != 0 ? python_loop_address() : stack->pcs[i];
        path[i].ref = module_find(path[i].code - !exact, scratch) | kind << HMK_FRAME_KIND_SHIFT;
    }
}

/* `known`: node[] has what the thread knows of the stack before, whose loops are side->loops. */
__attribute__((cold, noinline)) static uint32_t add_half(struct thread *thread, struct unwind_thread *unwind,
                                                         const struct unwind_result *stack, uint32_t *node, bool known,
                                                         uint64_t hash)
{
    struct python_side *side = side_of(thread);
    uint32_t generation = site_table_generation, groups = mark_loops(side, unwind, stack);
    uint32_t first = known ? stack->depth : 0;
    while (first > 0 && node[first] == 0)
        first--;
    if (known) {
        first = same_marks(side, first);
        __builtin_memset(node + first + 1, 0, (stack->depth - first) * sizeof *node);
        __builtin_memcpy(side->loops, side->fresh_loops, sizeof side->loops);
    }
    struct hmk_frame *path = thread->scratch;
    fill_native(thread, side, stack, first, path);
    uint32_t half = 0;
    shield_raise_light();
    if (spin_lock_patiently(&site_table_lock)) {
        uint32_t leaf = site_table_path(node[first], path + first, stack->depth - first, node + first + 1);
        if (leaf != 0 && leaf <= HALF_NODE) {
            half = half_of(leaf, stack_flags(stack, HMK_KIND_HEAP));
            if (groups != SITE_TABLE_UNTOLD)
                site_table_tell_groups(leaf, groups);
            if (site_table_find(hash) == 0)
                site_table_keep(hash, half, generation);
        }
        spin_unlock(&site_table_lock);
    }
    shield_lower();
    return half;
}

static uint32_t find_half(struct thread *thread, struct unwind_thread *unwind, const struct unwind_result *stack,
                          uint32_t *node, bool known, uint64_t hash)
{
    hash = key(site_table_mix(hash, NATIVE_DOMAIN ^ stack->flags));
    uint32_t half = site_table_find(hash);
    return half != 0 ? half : add_half(thread, unwind, stack, node, known, hash);
}

/* ---- Python paths --------------------------------------------------------------------------------- */

/* The chain is the calling thread's stack.  True: there is a record of each frame's code. */
static bool fill_python(const struct python_chain *chain, uint32_t first, struct hmk_frame *path)
{
    bool complete = true;
    for (uint32_t i = first; i < chain->count; i++) {
        const struct python_link *link = &chain->link[i];
        uint32_t record = link->kind != 0 ? python_code_find(link->code) : UINT32_MAX;
        path[i].code = python_instruction(link);
        path[i].ref = record == UINT32_MAX ? UINT32_MAX : record | link->kind << HMK_FRAME_KIND_SHIFT;
        complete = complete && (record != UINT32_MAX || link->kind == 0);
    }
    return complete;
}

/* The leaf's node; 0: no room. */
__attribute__((cold, noinline)) static uint32_t add_python(struct thread *thread, uint64_t hash)
{
    struct python_side *side = side_of(thread);
    struct python_chain *chain = &side->chain;
    struct hmk_frame *path = side->merge.path;
    uint32_t *node = side->merge.last_node, first = chain->count, leaf = 0;
    while (first > 0 && chain->link[first - 1].node == 0)
        first--;
    side->merge.last_count = 0;
    shield_raise_light();       /* one for the locks of the code objects and ours */
    bool complete = fill_python(chain, first, path);
    if (spin_lock_patiently(&site_table_lock)) {
        leaf = site_table_path(first > 0 ? chain->link[first - 1].node : 0, path + first, chain->count - first, node + first);
        if (leaf != 0) {
            uint32_t groups = complete ? python_chain_groups(chain) : UINT32_MAX;
            if (groups != UINT32_MAX)
                site_table_tell_groups(leaf, groups);
            if (site_table_find(hash) == 0)
                site_table_keep(hash, leaf, 0);
        }
        spin_unlock(&site_table_lock);
    }
    shield_lower();
    if (leaf == 0 || !complete)
        chain->count = first;
    for (uint32_t i = first; i < chain->count; i++)
        chain->link[i].node = node[i];
    return leaf;
}

/* One path of Python calls many native ones. */
static inline uint32_t find_python(struct thread *thread, uint64_t python_stack)
{
    struct python_side *side = side_of(thread);
    if (side->python == python_stack)
        return side->python_leaf;
    uint64_t hash = key(site_table_mix(python_stack, PYTHON_DOMAIN));
    uint32_t leaf = site_table_find(hash);
    if (leaf == 0)
        leaf = add_python(thread, hash);
    else if (site_table_groups(leaf) != SITE_TABLE_UNTOLD)      /* else frames may be missing on the path */
        side->chain.link[side->chain.count - 1].node = leaf;
    side->python = leaf != 0 ? python_stack : 0;
    side->python_leaf = leaf;
    return leaf;
}

/* ---- frames merged one by one ----------------------------------------------------------------------- */

/* The leaf's node; 0: no room.  Lock held. */
static uint32_t node_of_merged(struct merge *merge)
{
    uint32_t from = merge->common;
    merge->last_count = from;
    uint32_t leaf = site_table_path(from > 0 ? merge->last_node[from - 1] : 0, merge->path + from, merge->count - from,
                                    merge->last_node + from);
    if (leaf == 0)
        return 0;
    __builtin_memcpy(merge->last + from, merge->frame + from, (merge->count - from) * sizeof *merge->frame);
    merge->last_count = merge->count;
    return leaf;
}

__attribute__((cold, noinline)) static uint32_t add_merged(struct thread *thread, const struct unwind_start *start,
                                                           uint64_t hash, enum hmk_site_kind kind)
{
    struct merge *merge = &side_of(thread)->merge;
    struct unwind_result native;
    if (!stack_whole_state(thread))
        return HMK_SITE_BEFORE;
    uint32_t site = HMK_SITE_LOST;
    unwind_capture(thread->unwind_whole, start, &native);
    if (native.depth == 0)
        return HMK_SITE_BEFORE;
    bool places = unwind_places(thread->unwind_whole, &native, merge->sps);
    shield_raise_light();       /* one for all the locks below */
    merge_frames(merge, &native, places);
    merge_resolve(merge, (unsigned char *)thread->scratch + STACK_SCRATCH_MODULE);
    native.flags |= merge->flags;
    if (spin_lock_patiently(&site_table_lock)) {
        uint32_t node = node_of_merged(merge);
        site = node != 0 ? site_table_site(node, stack_flags(&native, kind)) : HMK_SITE_LOST;
        if (site != HMK_SITE_LOST && site_table_find(hash) == 0)
            site_table_keep(hash, site, 0);
        spin_unlock(&site_table_lock);
    }
    shield_lower();
    return site != HMK_SITE_LOST ? site : stack_lose_site();
}

/* ---- pairs ------------------------------------------------------------------------------------------ */

__attribute__((cold, noinline)) static uint32_t add_pair(struct thread *thread, const struct unwind_start *start,
                                                         uint32_t half, uint32_t python, uint64_t hash, enum hmk_site_kind kind)
{
    uint32_t leaf = half & HALF_NODE, site = HMK_SITE_LOST;
    shield_raise_light();
    if (!spin_lock_patiently(&site_table_lock)) {
        shield_lower();
        return stack_lose_site();
    }
    uint32_t groups = python != 0 ? site_table_groups(python) : 0;
    bool fits = python == 0 || (groups != SITE_TABLE_UNTOLD && groups == site_table_groups(leaf));
    uint32_t known = fits ? site_table_find(hash) : 0, flags = flags_of_half(half) | kind;
    if (known != 0) {
        site = known;
    } else if (fits && site_table_room()) {     /* one that could not be found again would be added each time */
        site = python == 0 ? site_table_site(leaf, flags) : site_table_joined(leaf, python, flags);
        if (site != HMK_SITE_LOST)
            site_table_keep(hash, site, 0);
    }
    spin_unlock(&site_table_lock);
    shield_lower();
    if (!fits)
        return add_merged(thread, start, hash, kind);
    return site != HMK_SITE_LOST ? site : stack_lose_site();
}

static uint64_t mode_of(enum hmk_site_kind kind)
{
    return (uint64_t)kind | (uint64_t)(sampling_interval != 0) << 8;
}

/* Of more Python frames than are kept. */
static uint32_t site_of_deep(struct thread *thread, const struct unwind_start *start, uint32_t half, uint64_t python_stack,
                             enum hmk_site_kind kind)
{
    uint64_t hash = key(site_table_mix(site_table_mix(half, mode_of(kind)), python_stack));
    uint32_t site = site_table_find(hash);
    return site != 0 ? site : add_merged(thread, start, hash, kind);
}

static uint32_t site_of_pair(struct thread *thread, const struct unwind_start *start, uint32_t half, uint64_t python_stack,
                             enum hmk_site_kind kind)
{
    uint32_t python = 0;
    if (python_stack != 0 && side_of(thread)->chain.count == 0)
        return site_of_deep(thread, start, half, python_stack, kind);
    if (python_stack != 0) {
        python = find_python(thread, python_stack);
        if (python == 0)
            return stack_lose_site();
    }
    uint64_t hash = key(site_table_mix(site_table_mix(half, mode_of(kind)), PAIR_DOMAIN ^ python));
    uint32_t site = site_table_find(hash);
    return site != 0 ? site : add_pair(thread, start, half, python, hash, kind);
}

__attribute__((noinline)) uint32_t stack_python_heap(struct thread *thread, const struct unwind_start *start,
                                                     const struct unwind_result *stack)
{
    uint32_t half = stack->memo;
    if (half == 0) {
        if (stack->depth == 0)
            return HMK_SITE_BEFORE;
        half = find_half(thread, thread->unwind, stack, thread->node, true, stack_hash(thread, stack));
        if (half == 0)
            return stack_lose_site();
        unwind_remember(thread->unwind, half);
    }
    uint64_t python = python_hash(&side_of(thread)->chain);
    struct recent *recent = &side_of(thread)->recent[(python >> 32 ^ half) % RECENTS];
    if (recent->python == python && recent->half == half && recent->site != 0)
        return recent->site;
    uint32_t site = site_of_pair(thread, start, half, python, HMK_KIND_HEAP);
    if (site >= HMK_SITE_FIRST)
        *recent = (struct recent){python, half, site};
    return site;
}

uint32_t stack_python_mapping(struct thread *thread, const struct unwind_start *start, const struct unwind_result *stack,
                              uint32_t *node, uint64_t hash, enum hmk_site_kind kind)
{
    uint32_t half = find_half(thread, thread->unwind_whole, stack, node, false, hash);
    return half != 0 ? site_of_pair(thread, start, half, python_hash(&side_of(thread)->chain), kind) : stack_lose_site();
}

/* Also what an event that did not come to its end has left half written. */
void stack_python_forget(struct thread *thread)
{
    struct python_side *side = side_of(thread);
    if (!python_active)
        return;
    __builtin_memset(side->recent, 0, sizeof side->recent);
    side->python = 0;
    side->merge.last_count = 0;
    side->chain.count = 0;
}
