/* SPDX-License-Identifier: MIT */
#include "shim/unwind_list.h"

#include <string.h>
#include "freestanding/banned.h"

uint32_t unwind_common(const uint64_t *a, uint32_t a_depth, const uint64_t *b, uint32_t b_depth)
{
    uint32_t common = 0;
    while (common < a_depth && common < b_depth && a[common] == b[common])
        common++;
    return common;
}

/* Leaf-first bits to root-first bits.  True: any is set. */
static bool reverse_bits(const uint64_t *from, uint64_t *to, uint32_t depth)
{
    bool any = false;

    memset(to, 0, UNWIND_DEPTH_LIMIT / 8);
    for (uint32_t word = 0; word < UNWIND_DEPTH_LIMIT / 64; word++) {
        for (uint64_t bits = from[word]; bits; bits &= bits - 1) {
            uint32_t index = depth - 1 - (word * 64 + (uint32_t)__builtin_ctzll(bits));
            to[index / 64] |= UINT64_C(1) << index % 64;
            any = true;
        }
    }
    return any;
}

bool unwind_list_set(struct unwind_list *list, const struct unwind_raw *raw, struct unwind_result *result)
{
    uint32_t next = list->current ^ 1, depth = raw->depth;
    uint64_t *pcs = list->pcs[next], *exact = list->exact[next];

    for (uint32_t i = 0; i < depth; i++)
        pcs[i] = raw->pcs[depth - 1 - i];
    bool any_exact = reverse_bits(raw->exact, exact, depth);
    uint32_t common = unwind_common(pcs, depth, list->pcs[list->current], list->depth);
    bool same = common == depth && depth == list->depth && raw->flags == list->flags
        && memcmp(exact, list->exact[list->current], sizeof list->exact[0]) == 0;
    /* The same address may be an interrupted instruction in one stack and a return address in the other. */
    for (uint32_t i = 0; i < UNWIND_DEPTH_LIMIT / 64 && !same; i++) {
        uint64_t differ = exact[i] ^ list->exact[list->current][i];
        if (differ) {
            uint32_t first = i * 64 + (uint32_t)__builtin_ctzll(differ);
            common = first < common ? first : common;
            break;
        }
    }
    list->current = next;
    list->depth = depth;
    list->flags = raw->flags;
    if (!same)
        list->memo = 0;
    *result = (struct unwind_result){
        .pcs = pcs, .exact = any_exact ? exact : NULL, .depth = depth, .common = common, .flags = raw->flags
    };
    return same;
}
