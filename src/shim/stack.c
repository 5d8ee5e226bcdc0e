/* SPDX-License-Identifier: MIT */
#include "shim/stack.h"

#include "freestanding/arena.h"
#include "freestanding/sys.h"
#include "shim/merge.h"
#include "shim/module.h"
#include "shim/python.h"
#include "shim/recording.h"
#include "shim/sampling.h"
#include "shim/shield.h"
#include "shim/spin.h"
#include "shim/thread.h"
#include "shim/unwind.h"

#include <sys/mman.h>

/*
 * Two tables, by open addressing, one object each so that the child of a fork never sees a part of one.  A byte for each
 * place, 0 where it is free, else some bits of the hash, is looked at first: half of all looks are for what is not there, and the
 * bytes fit the caches when the places do not.
 *
 * Site ids by the hash of the stack: at most half full, replaced by a larger one under the lock; old ones stay mapped for readers
 * that still hold them.  The byte is stored last: a reader that sees it sees the entry.
 */
struct entry {
    uint64_t hash;
    uint32_t site;
    uint32_t generation;
};
struct table {
    uint64_t mask;
    struct entry *entry;        /* behind the bytes */
    uint64_t padding[6];
    uint8_t byte[];
};

static struct table *by_hash;
static uint64_t by_hash_used;
/* Node ids by (parent, code, ref).  The place is that of the tag, the upper half of the hash, so that the table grows without a
 * look at the frames, which are far away.  Only for the holder of the lock. */
struct node_slot {
    uint32_t id;
    uint32_t tag;
};
struct node_table {
    uint64_t mask;
    struct node_slot *slot;
    uint64_t padding[6];
    uint8_t byte[];
};
static struct node_table *nodes;
static uint64_t node_used;
static uint32_t *site_of_node;      /* newest site whose leaf is this node; 0 = none */
static uint64_t site_of_node_size;
static uint32_t *site_chain;        /* next older site with the same leaf (another kind or flag) */
static uint64_t site_chain_size;
static struct spin intern_lock;
static uint32_t generation = 1;
static uint32_t verify_every;       /* 0: never */

static inline uint64_t mix(uint64_t a, uint64_t b)
{
    unsigned __int128 product = (unsigned __int128)(a ^ UINT64_C(0x9e3779b97f4a7c15)) * (b ^ UINT64_C(0xd6e8feb86659fd93));
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

/* Large tables are read at random, and soon everywhere: in small pages most looks would miss the TLB too. */
#define HUGE_FROM ((size_t)4 << 20)
static void *map_table(size_t bytes)
{
    void *table = sys_map_anonymous(bytes);
    if (table != NULL && bytes >= HUGE_FROM)
        sys_advise(table, bytes, MADV_HUGEPAGE);
    return table;
}

static size_t node_table_bytes(uint64_t slots)
{
    return sizeof(struct node_table) + slots * (1 + sizeof(struct node_slot));
}

static struct node_table *new_node_table(uint64_t slots)
{
    struct node_table *table = map_table(node_table_bytes(slots));
    if (table != NULL) {
        table->mask = slots - 1;
        table->slot = (struct node_slot *)(void *)(table->byte + slots);
    }
    return table;
}

static struct table *new_table(uint64_t entries)
{
    struct table *table = map_table(sizeof *table + entries * (1 + sizeof(struct entry)));
    if (table != NULL) {
        table->mask = entries - 1;
        table->entry = (struct entry *)(void *)(table->byte + entries);
    }
    return table;
}

/* All tables grow under a hard shield: one that a handler's longjmp left half-grown would be counted as emptier than it is, and
 * a look into a full one has no end.  Another thread may fork between any two lines all the same: its child must never be left
 * with the address of what was unmapped. */

/* What a larger table has replaced.  Only holders of the lock read it, but one of them may have been taken for gone, and come
 * back, by a handler that switches stacks: the addresses stay, and so does the head of the table. */
static void retire(void *table, size_t bytes)
{
    size_t page = sys_page_bytes(), rest = bytes > page ? bytes - page : 0;
    if (rest > 0)
        sys_advise((unsigned char *)table + page, rest, MADV_DONTNEED);
}

/* Arrays that grow by doubling. */
static bool grow_array_slow(uint32_t **array, uint64_t *size, uint64_t needed)
{
    uint64_t larger = *size * 2 > needed ? *size * 2 : needed * 2, smaller = *size;
    uint32_t *fresh = sys_map_anonymous(larger * sizeof **array), *old = *array;
    if (fresh == NULL)
        return false;
    if (old != NULL)
        __builtin_memcpy(fresh, old, smaller * sizeof *old);
    __atomic_store_n(array, fresh, __ATOMIC_RELEASE);
    __atomic_store_n(size, larger, __ATOMIC_RELEASE);
    if (old != NULL)
        retire(old, smaller * sizeof *old);
    return true;
}

static bool grow_array(uint32_t **array, uint64_t *size, uint64_t needed)
{
    if (needed < *size)
        return true;
    shield_raise_hard();
    bool grown = grow_array_slow(array, size, needed);
    shield_lower();
    return grown;
}

bool stack_init(uint32_t verify)
{
    verify_every = verify;
    by_hash = new_table(4096);
    nodes = new_node_table(4096);
    if (by_hash == NULL || nodes == NULL || !grow_array(&site_of_node, &site_of_node_size, 2048) ||
        !grow_array(&site_chain, &site_chain_size, 2048))
        return false;
    return true;
}

/* The place comes from the low bits, so these tell places apart that collide. */
static inline uint8_t byte_of(uint64_t hash)
{
    return (uint8_t)(hash >> 56 | 1);
}

static inline uint32_t find(uint64_t hash)
{
    const struct table *table = __atomic_load_n(&by_hash, __ATOMIC_ACQUIRE);
    uint8_t wanted = byte_of(hash), byte;
    for (uint64_t i = hash & table->mask; (byte = HMK_OBSERVE(table->byte[i])) != 0; i = (i + 1) & table->mask)
        if (byte == wanted && table->entry[i].hash == hash)
            return table->entry[i].site;
    return 0;
}

static void put(struct table *table, uint64_t hash, uint32_t site)
{
    uint64_t i = hash & table->mask;
    while (table->byte[i] != 0)
        i = (i + 1) & table->mask;
    table->entry[i] = (struct entry){.hash = hash, .site = site, .generation = generation};
    HMK_PUBLISH(table->byte[i], byte_of(hash));
}

/* Entries of older generations can never be found again; a new table leaves them out. */
static bool grow_by_hash(void)
{
    struct table *larger = new_table((by_hash->mask + 1) * (by_hash->mask < 16384 ? 4 : 2));
    if (larger == NULL)
        return false;
    uint64_t used = 0;
    for (uint64_t i = 0; i <= by_hash->mask; i++) {
        const struct entry *entry = &by_hash->entry[i];
        if (by_hash->byte[i] != 0 && entry->generation == generation) {
            put(larger, entry->hash, entry->site);
            used++;
        }
    }
    __atomic_store_n(&by_hash, larger, __ATOMIC_RELEASE);
    by_hash_used = used;
    return true;
}

static void insert(uint64_t hash, uint32_t site)
{
    if ((by_hash_used + 1) * 2 > by_hash->mask + 1) {
        shield_raise_hard();
        bool grown = grow_by_hash();
        shield_lower();
        if (!grown)
            return;
    }
    by_hash_used++;     /* first: whoever leaves in between leaves one counted too many */
    put(by_hash, hash, site);
}

static inline uint32_t node_tag(uint32_t parent, const struct hmk_frame *frame)
{
    return (uint32_t)(mix(frame->code + frame->ref, (uint64_t)parent << 20) >> 32);
}

static inline uint8_t node_byte(uint32_t tag)
{
    return (uint8_t)(tag >> 24 | 1);
}

/* 0: there is none. */
static uint32_t find_node(uint32_t parent, const struct hmk_frame *wanted)
{
    const struct node_table *table = nodes;
    uint32_t tag = node_tag(parent, wanted);
    uint8_t byte;
    for (uint64_t at = tag & table->mask; (byte = table->byte[at]) != 0; at = (at + 1) & table->mask) {
        if (byte != node_byte(tag) || table->slot[at].tag != tag)
            continue;
        const struct hmk_frame *frame = recording_at(HMK_FRAMES, table->slot[at].id);
        if (frame->code == wanted->code && frame->parent == parent && frame->ref == wanted->ref)
            return table->slot[at].id;
    }
    return 0;
}

static void put_node(struct node_table *table, uint32_t id, uint32_t tag)
{
    uint64_t at = tag & table->mask;
    while (table->byte[at] != 0)
        at = (at + 1) & table->mask;
    table->slot[at] = (struct node_slot){id, tag};
    __atomic_store_n(&table->byte[at], node_byte(tag), __ATOMIC_RELEASE);     /* last: a handler may leave for ever */
}

static bool grow_nodes(uint64_t more)
{
    struct node_table *old = nodes, *larger = new_node_table((old->mask + 1) * (old->mask < 65536 ? 4 : 2));
    if (larger == NULL)
        return node_used + more < old->mask;
    for (uint64_t i = 0; i <= old->mask; i++)
        if (old->byte[i] != 0)
            put_node(larger, old->slot[i].id, old->slot[i].tag);
    __atomic_store_n(&nodes, larger, __ATOMIC_RELEASE);
    retire(old, node_table_bytes(old->mask + 1));
    return true;
}

static bool make_node_room(uint64_t more)
{
    if ((node_used + more) * 3 <= nodes->mask * 2)
        return true;
    shield_raise_hard();
    bool room = grow_nodes(more);
    shield_lower();
    return room;
}

/* Frames below a node that is new, or has no such child: none of them is in the table.  At most NODE_BATCH; the last one's node,
 * or 0.  Only the holder of the lock appends frames, so their ids are known beforehand. */
#define NODE_BATCH 32u
static uint32_t add_nodes(uint32_t parent, const struct hmk_frame *path, uint32_t count, uint32_t *node)
{
    struct hmk_frame fresh[NODE_BATCH];
    uint32_t tag[NODE_BATCH];
    uint64_t first = recording_count(HMK_FRAMES);
    if (!make_node_room(count) || first + count > UINT32_MAX)
        return 0;
    for (uint32_t i = 0; i < count; i++) {
        fresh[i] = (struct hmk_frame){.code = path[i].code, .ref = path[i].ref, .parent = parent};
        tag[i] = node_tag(parent, &path[i]);
        __builtin_prefetch(&nodes->byte[tag[i] & nodes->mask], 1);
        node[i] = parent = (uint32_t)first + i;
    }
    if (recording_append_many(HMK_FRAMES, fresh, count) != first) {
        __builtin_memset(node, 0, count * sizeof *node);    /* no promise stays behind */
        return 0;
    }
    node_used += count;
    for (uint32_t i = 0; i < count; i++)
        put_node(nodes, node[i], tag[i]);
    return parent;
}

/* The nodes of `count` frames below `parent`, root first; the last one's, or 0 when there is no room.  Frames with the ref
 * UINT32_MAX are left out.  Lock held. */
static uint32_t nodes_of_path(uint32_t parent, const struct hmk_frame *path, uint32_t count, uint32_t *node)
{
    uint32_t i = 0;
    for (uint32_t found; i < count; node[i++] = parent = found) {
        found = path[i].ref == UINT32_MAX ? parent : find_node(parent, &path[i]);
        if (found == 0)
            break;
    }
    while (i < count) {
        uint32_t run = 0;
        while (run < NODE_BATCH && i + run < count && path[i + run].ref != UINT32_MAX)
            run++;
        if (run == 0) {
            node[i++] = parent;
            continue;
        }
        parent = add_nodes(parent, path + i, run, node + i);
        if (parent == 0)
            return 0;
        i += run;
    }
    return parent;
}

static void count_flags(uint32_t flags)
{
    if (flags & HMK_SITE_CUT)
        HMK_SET(recording_live->cut_stacks, recording_live->cut_stacks + 1);
    if (flags & HMK_SITE_INCOMPLETE)
        HMK_SET(recording_live->incomplete_stacks, recording_live->incomplete_stacks + 1);
}

static uint32_t site_of(uint32_t leaf, uint32_t flags)
{
    /* Ids of heap sites from sampling_first_site on are weighted, whatever the hook saw. */
    if (sampling_interval != 0 && (flags & 0xff) == HMK_KIND_HEAP)
        flags |= HMK_SITE_SAMPLED;
    if (!grow_array(&site_of_node, &site_of_node_size, leaf))
        return HMK_SITE_LOST;
    for (uint32_t site = site_of_node[leaf]; site != 0; site = site_chain[site]) {
        const struct hmk_site *known = recording_at(HMK_SITES, site);
        if (known->flags == flags)
            return site;
    }
    static const struct hmk_site_peak no_peak;
    struct hmk_site record = {.frame = leaf, .flags = flags, .first_ns = recording_live->last_ns};
    if (recording_count(HMK_SITES) >= HMK_SITE_LIMIT ||
        !grow_array(&site_chain, &site_chain_size, recording_count(HMK_SITES)))
        return HMK_SITE_LOST;
    uint64_t site = recording_append_pair(HMK_SITES, &record, HMK_SITE_PEAKS, &no_peak);
    if (site == RECORDING_NONE)
        return HMK_SITE_LOST;
    count_flags(flags);
    site_chain[site] = site_of_node[leaf];
    site_of_node[leaf] = (uint32_t)site;
    return (uint32_t)site;
}

static inline bool is_exact(const struct unwind_result *stack, uint32_t i)
{
    return stack->exact != NULL && (stack->exact[i / 64] >> (i % 64) & 1);
}

static uint32_t lose_site(void)
{
    __atomic_add_fetch(&recording_live->lost_sites, 1, __ATOMIC_RELAXED);
    return HMK_SITE_LOST;
}

/* What of thread->scratch is whose: frames of a new stack, then module.c's, then the nodes of a mapping's stack. */
#define SCRATCH_MODULE (UNWIND_DEPTH_LIMIT * sizeof(struct hmk_frame))
#define SCRATCH_NODES (SCRATCH_MODULE + MODULE_SCRATCH)
_Static_assert(SCRATCH_NODES + (UNWIND_DEPTH_LIMIT + 1) * sizeof(uint32_t) <= THREAD_SCRATCH_MERGE, "scratch");

__attribute__((cold, noinline)) static uint32_t intern(struct thread *thread, uint32_t *node,
                                                       const struct unwind_result *stack, uint64_t hash, uint32_t flags)
{
    uint32_t first = stack->depth;
    while (first > 0 && node[first] == 0)
        first--;
    /* Modules first: finding one may take the loader's lock, so no lock of ours may be held. */
    struct hmk_frame *path = thread->scratch;
    uint32_t before = generation;
    for (uint32_t i = first; i < stack->depth; i++) {
        bool exact = is_exact(stack, i);
        uint32_t module = module_find(stack->pcs[i] - (exact ? 0 : 1), (unsigned char *)thread->scratch + SCRATCH_MODULE);
        path[i].code = stack->pcs[i];
        path[i].ref = module | (uint32_t)(exact ? HMK_FRAME_SIGNAL : HMK_FRAME_NATIVE) << HMK_FRAME_KIND_SHIFT;
    }
    shield_raise_light();
    uint32_t site = HMK_SITE_LOST;
    if (spin_lock_patiently(&intern_lock)) {
        site = before == generation ? find(hash) : 0;
        if (site == 0) {
            uint32_t leaf = nodes_of_path(node[first], path + first, stack->depth - first, node + first + 1);
            site = leaf != 0 ? site_of(leaf, flags) : HMK_SITE_LOST;
            if (site != HMK_SITE_LOST)
                insert(hash, site);
        }
        spin_unlock(&intern_lock);
    }
    shield_lower();
    return site != HMK_SITE_LOST ? site : lose_site();
}

static uint32_t flags_of(const struct unwind_result *stack, enum hmk_site_kind kind)
{
    return (uint32_t)kind | (stack->flags & UNWIND_CUT ? HMK_SITE_CUT : 0) |
           (stack->flags & UNWIND_INCOMPLETE ? HMK_SITE_INCOMPLETE : 0) |
           (stack->flags & UNWIND_GUESSED ? HMK_SITE_GUESSED : 0);
}

/* For stacks that are wanted whole: nothing is remembered there, and what is remembered of the heap's stacks stays. */
static bool have_second_state(struct thread *thread)
{
    if (thread->unwind_whole == NULL)
        thread->unwind_whole = unwind_thread_new();
    return thread->unwind_whole != NULL;
}

_Static_assert(sizeof(struct merge) <= THREAD_SCRATCH - THREAD_SCRATCH_MERGE, "the scratch space");

/* ---- stacks with Python frames ------------------------------------------------------------------ */

/* Without Python the memo is a site.  With it, one native stack has many Python stacks above it, so the memo is a number for the
 * native part, and the site is found by that number and the hash of the Python frames. */
static uint32_t native_parts;

/* 0: it cannot be told now. */
static uint32_t native_part(uint64_t hash)
{
    uint32_t part = find(hash);
    if (part != 0)
        return part;
    shield_raise_light();
    if (spin_lock_patiently(&intern_lock)) {
        part = find(hash);
        if (part == 0) {
            part = ++native_parts;
            insert(hash, part);
        }
        spin_unlock(&intern_lock);
    }
    shield_lower();
    return part;
}

/* The leaf's node; 0: no room.  Lock held. */
static uint32_t node_of_merged(struct merge *merge)
{
    uint32_t from = merge->common;
    merge->last_count = from;
    uint32_t leaf = nodes_of_path(from > 0 ? merge->last_node[from - 1] : 0, merge->path + from, merge->count - from,
                                  merge->last_node + from);
    if (leaf == 0)
        return 0;
    __builtin_memcpy(merge->last + from, merge->frame + from, (merge->count - from) * sizeof *merge->frame);
    merge->last_count = merge->count;
    return leaf;
}

static uint32_t intern_merged(struct merge *merge, uint64_t hash, uint32_t before, uint32_t flags)
{
    if (!spin_lock_patiently(&intern_lock))
        return HMK_SITE_LOST;
    uint32_t site = before == generation ? find(hash) : 0;
    if (site == 0) {
        uint32_t node = node_of_merged(merge);
        site = node != 0 ? site_of(node, flags) : HMK_SITE_LOST;
        if (site != HMK_SITE_LOST)
            insert(hash, site);
    }
    spin_unlock(&intern_lock);
    return site;
}

__attribute__((cold, noinline)) static uint32_t intern_python(struct thread *thread,
                                                              const struct unwind_start *start, uint64_t hash,
                                                              uint32_t now, enum hmk_site_kind kind)
{
    struct merge *merge = (struct merge *)((unsigned char *)thread->scratch + THREAD_SCRATCH_MERGE);
    struct unwind_result native;
    if (!have_second_state(thread))
        return HMK_SITE_BEFORE;
    bool places = unwind_capture_places(thread->unwind_whole, start, &native, merge->sps);
    if (native.depth == 0)
        return HMK_SITE_BEFORE;
    shield_raise_light();       /* one for all the locks below */
    merge_frames(merge, &native, places);
    merge_resolve(merge, (unsigned char *)thread->scratch + SCRATCH_MODULE);
    native.flags |= merge->flags;
    uint32_t site = intern_merged(merge, hash, now, flags_of(&native, kind));
    shield_lower();
    return site != HMK_SITE_LOST ? site : lose_site();
}

/* The hash of a native part is in a domain of its own: its value in the table is not a site. */
#define NATIVE_DOMAIN UINT64_C(0xa5a5a5a5a5a5a5a5)

static uint32_t site_above(struct thread *thread, const struct unwind_start *start, uint32_t now, uint32_t part,
                           enum hmk_site_kind kind)
{
    uint64_t hash = mix(mix(now, (uint64_t)part << 8 | kind), python_hash());
    hash += hash == 0;
    uint32_t site = find(hash);
    return site != 0 ? site : intern_python(thread, start, hash, now, kind);
}

/* ---- the heap's stacks -------------------------------------------------------------------------- */

/* Nothing that was learned about the thread's stacks is valid any more. */
__attribute__((cold, noinline)) static void begin_generation(struct thread *thread, uint32_t now)
{
    unwind_thread_reset(thread->unwind);
    thread->stack_generation = now;
    thread->hash[0] = mix(now, HMK_KIND_HEAP);
    thread->node[0] = 0;
}

/* Brings the thread's prefix hashes up to date; the hash of the whole stack. */
static inline uint64_t hash_stack(struct thread *thread, const struct unwind_result *stack)
{
    uint64_t hash = thread->hash[stack->common];
    for (uint32_t i = stack->common; i < stack->depth; i++) {
        hash = mix(hash, stack->pcs[i]);
        thread->hash[i + 1] = hash;
        thread->node[i + 1] = 0;
    }
    return hash;
}

__attribute__((noinline)) static uint32_t site_of_python_stack(struct thread *thread, const struct unwind_start *start,
                                     const struct unwind_result *stack, uint32_t now)
{
    uint32_t part = stack->memo;
    if (part == 0) {
        if (stack->depth == 0)
            return HMK_SITE_BEFORE;
        uint64_t hash = mix(hash_stack(thread, stack), NATIVE_DOMAIN);
        part = native_part(hash + (hash == 0));
        if (part == 0)
            return lose_site();
        unwind_remember(thread->unwind, part);
    }
    return site_above(thread, start, now, part, HMK_KIND_HEAP);
}

__attribute__((noinline)) static uint32_t site_of_walked(struct thread *thread, const struct unwind_result *stack)
{
    if (stack->depth == 0)
        return HMK_SITE_BEFORE;
    uint64_t hash = hash_stack(thread, stack);
    uint32_t flags = HMK_KIND_HEAP;
    if (__builtin_expect(stack->flags != 0, 0)) {
        flags = flags_of(stack, HMK_KIND_HEAP);
        hash = mix(hash, flags);
    }
    hash += hash == 0;
    uint32_t site = find(hash);
    if (__builtin_expect(site == 0, 0))
        site = intern(thread, thread->node, stack, hash, flags);
    unwind_remember(thread->unwind, site);
    return site;
}

static inline uint32_t site_of_stack(struct thread *thread, const struct unwind_start *start)
{
    struct unwind_result stack;
    uint32_t now = __atomic_load_n(&generation, __ATOMIC_ACQUIRE);
    if (__builtin_expect(thread->stack_generation != now, 0))
        begin_generation(thread, now);
    uint32_t memo = unwind_capture(thread->unwind, start, &stack);
    if (__builtin_expect(python_active, 0))
        return site_of_python_stack(thread, start, &stack, now);
    return memo != 0 ? memo : site_of_walked(thread, &stack);
}

/* Mappings are rare and come from other places; their hashes and nodes are computed from the root. */
static uint32_t stack_site_mapping(struct thread *thread, const struct unwind_start *start, enum hmk_site_kind kind)
{
    if (!have_second_state(thread))
        return HMK_SITE_BEFORE;
    struct unwind_result stack;
    uint32_t now = __atomic_load_n(&generation, __ATOMIC_ACQUIRE);
    unwind_thread_reset(thread->unwind_whole);
    unwind_capture(thread->unwind_whole, start, &stack);
    if (stack.depth == 0)
        return HMK_SITE_BEFORE;
    uint32_t flags = flags_of(&stack, kind);
    uint32_t *node = (uint32_t *)((unsigned char *)thread->scratch + SCRATCH_NODES);
    __builtin_memset(node, 0, (stack.depth + 1) * sizeof *node);
    uint64_t hash = mix(now, flags);
    for (uint32_t i = 0; i < stack.depth; i++)
        hash = mix(hash, stack.pcs[i]);
    if (python_active) {
        hash = mix(hash, NATIVE_DOMAIN);
        uint32_t part = native_part(hash + (hash == 0));
        return part != 0 ? site_above(thread, start, now, part, kind) : lose_site();
    }
    hash += hash == 0;
    uint32_t site = find(hash);
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
    __atomic_add_fetch(&generation, 1, __ATOMIC_ACQ_REL);
    unwind_forget();
}

/* The generation ends with exact mode, so that no stack is found under the id that it had then. */
bool stack_begin_sampling(uint64_t interval)
{
    if (!spin_lock_patiently(&intern_lock))
        return false;
    sampling_start(interval, (uint32_t)recording_count(HMK_SITES));
    stack_forget();
    spin_unlock(&intern_lock);
    return true;
}

void stack_abandon(struct thread *thread)
{
    struct merge *merge = (struct merge *)((unsigned char *)thread->scratch + THREAD_SCRATCH_MERGE);
    merge->last_count = 0;
    spin_abandon(&intern_lock);
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
    spin_reset(&intern_lock);
    python_after_fork();
}
