/* SPDX-License-Identifier: MIT */
#ifndef HEAPMARK_SHIM_SITE_TABLE_H
#define HEAPMARK_SHIM_SITE_TABLE_H

/*
 * From hashes of stacks to what the recording has of them: nodes of the trie of frames, and sites.
 *
 * The look-up by hash takes no lock.  All that adds is for the holder of site_table_lock, and a look-up that found nothing is repeated
 * under it.  Two tables, by open addressing, one object each so that the child of a fork never sees a part of one.
 */

#include "contract/publish.h"
#include "shim/spin.h"
#include <stdbool.h>
#include <stdint.h>

struct hmk_frame;

/* By hash.  The look-up starts at a cache line of four entries, which is nearly always the only one that it touches: a table of
 * a million stacks is in no cache.  At most three quarters full, replaced by a larger one under the lock; old ones stay mapped for
 * readers that still hold them.  The value is stored last: a reader that sees it sees the entry. */
struct site_table_entry {
    uint64_t hash;
    uint32_t generation;        /* 0: kept for ever */
    uint32_t value;             /* 0: free, and so are those behind it in the line */
};
#define SITE_TABLE_LINE 4u
struct site_table {
    uint64_t mask;              /* of the number of an entry that starts a line */
    uint64_t padding[7];
    struct site_table_entry entry[];
};

extern struct site_table *site_table_by_hash;
extern struct spin site_table_lock;
extern uint32_t site_table_generation;

bool site_table_init(void);

static inline uint64_t site_table_mix(uint64_t a, uint64_t b)
{
    unsigned __int128 product = (unsigned __int128)(a ^ UINT64_C(0x9e3779b97f4a7c15)) * (b ^ UINT64_C(0xd6e8feb86659fd93));
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

/* What was kept for this hash; 0: nothing. */
static inline uint32_t site_table_find(uint64_t hash)
{
    const struct site_table *table = __atomic_load_n(&site_table_by_hash, __ATOMIC_ACQUIRE);
    for (uint64_t line = hash & table->mask;; line = (line + SITE_TABLE_LINE) & table->mask) {
        const struct site_table_entry *entry = &table->entry[line];
        for (uint32_t i = 0; i < SITE_TABLE_LINE; i++) {
            uint32_t value = HMK_OBSERVE(entry[i].value);
            if (value == 0 || entry[i].hash == hash)
                return value;
        }
    }
}

/* ---- lock held --------------------------------------------------------------------------------- */

/* False: no memory for another entry. */
bool site_table_room(void);
/* generation: the current one, or 0 for what holds whatever is loaded and unloaded.  Without room nothing is kept. */
void site_table_keep(uint64_t hash, uint32_t value, uint32_t generation);

/* The nodes of `count` frames below `parent`, root first; the last one's, or 0 when there is no room.  Frames with the ref
 * UINT32_MAX are left out.  node: as many as frames. */
uint32_t site_table_path(uint32_t parent, const struct hmk_frame *path, uint32_t count, uint32_t *node);

/* How many activations of an interpreter's loop there are on the path to this node, if that was told.  Needs no lock. */
#define SITE_TABLE_UNTOLD UINT32_MAX
uint32_t site_table_groups(uint32_t node);
bool site_table_tell_groups(uint32_t node, uint32_t groups);

/* The site with this leaf and these flags, new or not; HMK_SITE_LOST: no room. */
uint32_t site_table_site(uint32_t leaf, uint32_t flags);
/* A new site of two paths; see HMK_FRAME_JOIN.  That there is none yet is the caller's knowledge. */
uint32_t site_table_joined(uint32_t leaf, uint32_t python_leaf, uint32_t flags);

#endif
