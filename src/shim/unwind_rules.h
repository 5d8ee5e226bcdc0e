/* SPDX-License-Identifier: MIT */
#ifndef HEAPMARK_SHIM_UNWIND_RULES_H
#define HEAPMARK_SHIM_UNWIND_RULES_H

/*
 * The rule of each return address that was ever met: one table for all threads, filled lazily, without locks.
 *
 * A word of the table is pc << 16 | code, written once, so a reader sees a whole word or none.  The code is a
 * packed rule (unwind_machine.h) below UNWIND_CODE_SPECIAL, or one of the values below.  A table belongs to one
 * generation of loaded code; unwind_rules_forget begins the next one, in which nothing learned before is used.
 */

#include "shim/unwind_machine.h"
#include <stddef.h>

enum unwind_code {
    UNWIND_CODE_SPECIAL = 0x8000,       /* and above: not packed */
    UNWIND_CODE_END = 0x8000,
    UNWIND_CODE_SIGNAL = 0x8001,
    UNWIND_CODE_COMPLEX = 0x8002,
    UNWIND_CODE_UNKNOWN = 0x8003,
    UNWIND_CODE_RARE = 0x9000,          /* | index: a rule that cannot be packed */
    UNWIND_CODE_MISSING = 0x10000       /* not in the table */
};
#define UNWIND_CODE_RARE_LIMIT 0x1000u

struct unwind_rules {
    uint64_t generation;
    uint32_t bits;                      /* log2 of the number of words */
    uint32_t used;
    uint64_t words[];
};

extern uint64_t unwind_rules_generation;

bool unwind_rules_init(void);
/* The table of the present generation.  NULL: not at hand just now; resolve works all the same. */
struct unwind_rules *unwind_rules_current(void);
/* The code for the return address `pc`, looked up in the object's tables and entered into `rules` (may be NULL). */
uint32_t unwind_rules_resolve(struct unwind_rules *rules, uint64_t pc);
/* The rule for the interrupted instruction `pc`. */
void unwind_rules_exact(uint64_t pc, struct unwind_rule *rule);
const struct unwind_rule *unwind_rules_rare(uint32_t code);
/* Any code as a rule. */
void unwind_rules_expand(uint32_t code, struct unwind_rule *rule);
void unwind_rules_forget(void);

/* Addresses of the same 128 bytes of code begin in the same cache line: they are used together. */
static inline size_t unwind_rules_place(const struct unwind_rules *rules, uint64_t pc)
{
    size_t line = (size_t)((pc >> 7) * UINT64_C(0x9e3779b97f4a7c15) >> (64 - rules->bits));
    return (line & ~(size_t)7) | (pc >> 4 & 7);
}

static inline uint32_t unwind_rules_find(struct unwind_rules *rules, uint64_t pc)
{
    size_t place = unwind_rules_place(rules, pc);
    for (;;) {
        uint64_t word = __atomic_load_n(&rules->words[place], __ATOMIC_RELAXED);
        if (word >> 16 == pc)
            return (uint32_t)(word & 0xffff);
        if (word == 0)
            return UNWIND_CODE_MISSING;
        place = (place + 1) & (((size_t)1 << rules->bits) - 1);
    }
}

/* The code for the return address `pc`, found or resolved; `rules` may be NULL. */
static inline uint32_t unwind_rules_code(struct unwind_rules *rules, uint64_t pc)
{
    uint32_t code = rules ? unwind_rules_find(rules, pc) : UNWIND_CODE_MISSING;
    return __builtin_expect(code == UNWIND_CODE_MISSING, 0) ? unwind_rules_resolve(rules, pc) : code;
}

#endif
