/* SPDX-License-Identifier: MIT */
#include "analysis/joined.h"

#include "base/xalloc.h"
#include <stdlib.h>

/*
 * Let S(n, p) be the stack of the native path to n with the Python path to p.  Its leaf is p's frame when n is a LOOP, else n's;
 * below it is S of what comes before on the one path, on the other one, or, at an ENTRY, on both.  So a pair of nodes is a node of the
 * whole trie, and each is made once.
 */
struct joined_state {
    uint32_t native, python;
    uint32_t made;              /* 0: free */
};

/* Stacks that no writer makes stay without their Python frames, so that a damaged file costs no more than a sound one. */
#define DEPTH_LIMIT 4096u
#define MADE_LIMIT (UINT32_C(1) << 25)

struct joined *joined_new(const struct read_file *file)
{
    struct joined *joined = xcalloc(1, sizeof *joined);
    uint64_t count = read_count(file, HMK_FRAMES);
    joined->file = file;
    joined->file_count = count < UINT32_MAX - MADE_LIMIT ? (uint32_t)count : UINT32_MAX - MADE_LIMIT;
    return joined;
}

void joined_done(struct joined *joined)
{
    free(joined->states);
    joined->states = NULL;
    joined->state_mask = 0;
}

void joined_free(struct joined *joined)
{
    if (joined == NULL)
        return;
    joined_done(joined);
    free(joined->made);
    free(joined);
}

static struct joined_state *place(const struct joined *joined, uint32_t native, uint32_t python)
{
    uint64_t hash = ((uint64_t)native << 32 | python) * UINT64_C(0x9e3779b97f4a7c15);
    size_t at = (size_t)(hash >> 20) & joined->state_mask;
    struct joined_state *states = joined->states;
    while (states[at].made != 0 && (states[at].native != native || states[at].python != python))
        at = (at + 1) & joined->state_mask;
    return &states[at];
}

static void make_room(struct joined *joined)
{
    struct joined_state *old = joined->states;
    size_t old_size = old != NULL ? joined->state_mask + 1 : 0;
    if ((joined->made_count + 1) * 2 <= old_size)
        return;
    size_t size = old_size != 0 ? old_size * 2 : 1024;
    joined->states = xcalloc(size, sizeof *joined->states);
    joined->state_mask = size - 1;
    for (size_t i = 0; i < old_size; i++)
        if (old[i].made != 0)
            *place(joined, old[i].native, old[i].python) = old[i];
    free(old);
}

static uint32_t add(struct joined *joined, uint32_t parent, const struct hmk_frame *frame)
{
    uint32_t id = joined_count(joined);
    if (joined->made_count == joined->made_size) {
        joined->made_size = joined->made_size != 0 ? joined->made_size * 2 : 1024;
        joined->made = xrealloc(joined->made, joined->made_size * sizeof *joined->made);
    }
    joined->made[joined->made_count++] = (struct hmk_frame){
        .code = frame->code, .parent = parent,
        .ref = joined_number(frame) | joined_kind(frame) << HMK_FRAME_KIND_SHIFT
    };
    return id;
}

struct pair {
    uint32_t native, python;
};

static uint32_t kind_of(const struct read_file *file, uint32_t node)
{
    return read_frame(file, node)->ref >> HMK_FRAME_KIND_SHIFT;
}

/* The pair below.  Parents have smaller numbers, so this comes to an end in any file. */
static struct pair below(const struct read_file *file, struct pair pair)
{
    if (kind_of(file, pair.native) != HMK_FRAME_LOOP)
        return (struct pair){ read_frame(file, pair.native)->parent, pair.python };
    bool entry = kind_of(file, pair.python) == HMK_FRAME_ENTRY;
    return (struct pair){ entry ? read_frame(file, pair.native)->parent : pair.native, read_frame(file, pair.python)->parent };
}

/* The node of a pair, which may be one of the file's; 0: it has to be made. */
static uint32_t known(const struct joined *joined, struct pair pair)
{
    if (pair.native == 0 || pair.python == 0)
        return pair.native + pair.python;
    return joined->states != NULL ? place(joined, pair.native, pair.python)->made : 0;
}

uint32_t joined_leaf(struct joined *joined, uint32_t leaf)
{
    const struct read_file *file = joined->file;
    if (leaf == 0 || leaf >= joined->file_count || kind_of(file, leaf) != HMK_FRAME_JOIN)
        return leaf;
    struct pair pair = { read_frame(file, leaf)->parent, (uint32_t)read_frame(file, leaf)->code };
    struct pair *open = NULL;
    size_t count = 0, size = 0;
    for (; known(joined, pair) == 0 && pair.native + pair.python != 0; pair = below(file, pair)) {
        if (count == DEPTH_LIMIT || joined->made_count + count >= MADE_LIMIT) {
            free(open);
            return read_frame(file, leaf)->parent;
        }
        if (count == size) {
            size = size != 0 ? size * 2 : 256;
            open = xrealloc(open, size * sizeof *open);
        }
        open[count++] = pair;
    }
    uint32_t node = known(joined, pair);
    while (count > 0) {
        pair = open[--count];
        bool loop = kind_of(file, pair.native) == HMK_FRAME_LOOP;
        make_room(joined);
        node = add(joined, node, read_frame(file, loop ? pair.python : pair.native));
        *place(joined, pair.native, pair.python) = (struct joined_state){ pair.native, pair.python, node };
    }
    free(open);
    return node;
}
