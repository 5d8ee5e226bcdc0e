/* SPDX-License-Identifier: MIT */
#include "shim/site_table.h"

#include "contract/format.h"
#include "freestanding/sys.h"
#include "shim/recording.h"
#include "shim/sampling.h"

#include <sys/mman.h>
#include "freestanding/banned.h"

struct site_table *site_table_by_hash;
static uint64_t by_hash_used;
struct spin site_table_lock;
uint32_t site_table_generation = 1;

/* Node ids by (parent, code, ref).  The place is that of the tag, the upper half of the hash, so that the table grows without a
 * look at the frames, which are far away.  Only for the holder of the lock. */
struct node_slot {
    uint32_t id;                /* 0: free */
    uint32_t tag;
};
struct node_table {
    uint64_t mask;
    uint64_t padding[7];
    struct node_slot slot[];
};
static struct node_table *nodes;
static uint64_t node_used;

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
    return sizeof(struct node_table) + slots * sizeof(struct node_slot);
}

static struct node_table *new_node_table(uint64_t slots)
{
    struct node_table *table = map_table(node_table_bytes(slots));
    if (table != NULL)
        table->mask = slots - 1;
    return table;
}

static size_t table_bytes(uint64_t entries)
{
    return sizeof(struct site_table) + entries * sizeof(struct site_table_entry);
}

static struct site_table *new_table(uint64_t entries)
{
    struct site_table *table = map_table(table_bytes(entries));
    if (table != NULL)
        table->mask = entries - SITE_TABLE_LINE;
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
struct array {
    void *at;
    uint64_t size;
};
static struct array site_of_node;       /* uint32_t: newest site whose leaf is this node; 0 = none */
static struct array site_chain;         /* uint32_t: next older site with the same leaf (another kind or flag) */
static struct array groups_of_node;     /* uint16_t: groups on the path to this node, plus 1; 0 = untold */

static bool grow_array_slow(struct array *array, uint64_t needed, size_t each)
{
    uint64_t larger = array->size * 2 > needed ? array->size * 2 : needed * 2, smaller = array->size;
    void *fresh = sys_map_anonymous(larger * each), *old = array->at;
    if (fresh == NULL)
        return false;
    if (old != NULL)
        __builtin_memcpy(fresh, old, smaller * each);
    __atomic_store_n(&array->at, fresh, __ATOMIC_RELEASE);
    __atomic_store_n(&array->size, larger, __ATOMIC_RELEASE);
    if (old != NULL)
        retire(old, smaller * each);
    return true;
}

static bool grow_array(struct array *array, uint64_t needed, size_t each)
{
    if (needed < array->size)
        return true;
    shield_raise_hard();
    bool grown = grow_array_slow(array, needed, each);
    shield_lower();
    return grown;
}

bool site_table_init(void)
{
    site_table_by_hash = new_table(4096);
    nodes = new_node_table(4096);
    return site_table_by_hash != NULL && nodes != NULL && grow_array(&site_of_node, 2048, sizeof(uint32_t)) &&
           grow_array(&site_chain, 2048, sizeof(uint32_t));
}

static void put(struct site_table *table, const struct site_table_entry *entry)
{
    uint64_t i = entry->hash & table->mask, all = table->mask | (SITE_TABLE_LINE - 1);
    while (table->entry[i].value != 0)
        i = (i + 1) & all;
    table->entry[i].hash = entry->hash;
    table->entry[i].generation = entry->generation;
    HMK_PUBLISH(table->entry[i].value, entry->value);
}

/* Entries of older generations can never be found again; a new table leaves them out.  Whoever still looks into the old one finds
 * nothing there, and looks again with the lock. */
static bool grow_by_hash(void)
{
    struct site_table *old = site_table_by_hash;
    uint64_t size = old->mask + SITE_TABLE_LINE, used = 0;
    struct site_table *larger = new_table(size * (size < 65536 ? 4 : 2));
    if (larger == NULL)
        return false;
    for (uint64_t i = 0; i < size; i++) {
        const struct site_table_entry *entry = &old->entry[i];
        if (entry->value != 0 && (entry->generation == 0 || entry->generation == site_table_generation)) {
            put(larger, entry);
            used++;
        }
    }
    __atomic_store_n(&site_table_by_hash, larger, __ATOMIC_RELEASE);
    by_hash_used = used;
    retire(old, table_bytes(size));
    return true;
}

bool site_table_room(void)
{
    uint64_t size = site_table_by_hash->mask + SITE_TABLE_LINE;
    if ((by_hash_used + 1) * 4 <= size * 3)
        return true;
    shield_raise_hard();
    bool grown = grow_by_hash();
    shield_lower();
    return grown || (by_hash_used + 1) * 8 <= size * 7;
}

void site_table_keep(uint64_t hash, uint32_t value, uint32_t generation)
{
    if (!site_table_room())
        return;
    by_hash_used++;     /* first: whoever leaves in between leaves one counted too many */
    put(site_table_by_hash, &(struct site_table_entry){.hash = hash, .value = value, .generation = generation});
}

static inline uint32_t node_tag(uint32_t parent, const struct hmk_frame *frame)
{
    return (uint32_t)(site_table_mix(frame->code + frame->ref, (uint64_t)parent << 20) >> 32);
}

/* 0: there is none. */
static uint32_t find_node(uint32_t parent, const struct hmk_frame *wanted)
{
    const struct node_table *table = nodes;
    uint32_t tag = node_tag(parent, wanted);
    for (uint64_t at = tag & table->mask; table->slot[at].id != 0; at = (at + 1) & table->mask) {
        if (table->slot[at].tag != tag)
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
    while (table->slot[at].id != 0)
        at = (at + 1) & table->mask;
    table->slot[at].tag = tag;
    __atomic_store_n(&table->slot[at].id, id, __ATOMIC_RELEASE);     /* last: a handler may leave for ever */
}

static bool grow_nodes(uint64_t more)
{
    struct node_table *old = nodes, *larger = new_node_table((old->mask + 1) * (old->mask < 65536 ? 4 : 2));
    if (larger == NULL)
        return node_used + more < old->mask;
    for (uint64_t i = 0; i <= old->mask; i++)
        if (old->slot[i].id != 0)
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
        __builtin_prefetch(&nodes->slot[tag[i] & nodes->mask], 1);
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

uint32_t site_table_path(uint32_t parent, const struct hmk_frame *path, uint32_t count, uint32_t *node)
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

/* Ids of heap sites from sampling_first_site on are weighted, whatever the hook saw. */
static uint32_t flags_now(uint32_t flags)
{
    return flags | (sampling_interval != 0 && (flags & 0xff) == HMK_KIND_HEAP ? HMK_SITE_SAMPLED : 0);
}

static uint32_t add_site(uint32_t leaf, uint32_t flags)
{
    static const struct hmk_site_peak no_peak;
    struct hmk_site record = {.frame = leaf, .flags = flags, .first_ns = recording_live->last_ns};
    if (recording_count(HMK_SITES) >= HMK_SITE_LIMIT)
        return HMK_SITE_LOST;
    uint64_t site = recording_append_pair(HMK_SITES, &record, HMK_SITE_PEAKS, &no_peak);
    if (site == RECORDING_NONE)
        return HMK_SITE_LOST;
    count_flags(flags);
    return (uint32_t)site;
}

uint32_t site_table_site(uint32_t leaf, uint32_t flags)
{
    flags = flags_now(flags);
    if (!grow_array(&site_of_node, leaf, sizeof(uint32_t)) ||
        !grow_array(&site_chain, recording_count(HMK_SITES), sizeof(uint32_t)))
        return HMK_SITE_LOST;
    uint32_t *newest = (uint32_t *)site_of_node.at + leaf, *older = site_chain.at;
    for (uint32_t site = *newest; site != 0; site = older[site]) {
        const struct hmk_site *known = recording_at(HMK_SITES, site);
        if (known->flags == flags)
            return site;
    }
    uint32_t site = add_site(leaf, flags);
    if (site != HMK_SITE_LOST) {
        older[site] = *newest;
        *newest = site;
    }
    return site;
}

uint32_t site_table_joined(uint32_t leaf, uint32_t python_leaf, uint32_t flags)
{
    struct hmk_frame join = {
        .code = python_leaf, .parent = leaf, .ref = (uint32_t)HMK_FRAME_JOIN << HMK_FRAME_KIND_SHIFT
    };
    struct hmk_site record = {.flags = flags_now(flags), .first_ns = recording_live->last_ns};
    if (recording_count(HMK_SITES) >= HMK_SITE_LIMIT)
        return HMK_SITE_LOST;
    uint64_t site = recording_append_site(&join, &record);
    if (site == RECORDING_NONE)
        return HMK_SITE_LOST;
    count_flags(flags);
    return (uint32_t)site;
}

/* ---- activations of an interpreter's loop -------------------------------------------------------- */

uint32_t site_table_groups(uint32_t node)
{
    /* Without the lock: the size first, which is stored behind the array that has it. */
    uint64_t size = __atomic_load_n(&groups_of_node.size, __ATOMIC_ACQUIRE);
    const uint16_t *groups = __atomic_load_n(&groups_of_node.at, __ATOMIC_ACQUIRE);
    uint32_t stored = node < size ? HMK_OBSERVE(groups[node]) : 0;
    return stored != 0 ? stored - 1 : SITE_TABLE_UNTOLD;
}

bool site_table_tell_groups(uint32_t node, uint32_t groups)
{
    if (groups >= UINT16_MAX || !grow_array(&groups_of_node, node, sizeof(uint16_t)))
        return false;
    HMK_SET(((uint16_t *)groups_of_node.at)[node], (uint16_t)(groups + 1));
    return true;
}
