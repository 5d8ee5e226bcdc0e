/* SPDX-License-Identifier: MIT */
#include "shim/unwind_careful.h"

#include "freestanding/sys.h"
#include <elf.h>
#include "freestanding/banned.h"

/* Frames of code without unwind data are taken to be chained by frame pointers: such a frame is not larger than
 * this. */
#define GUESSED_FRAME_BYTES UINT64_C(0x4000)
/* Code made at run time lies in one region of at most this size. */
#define GENERATED_CODE_BYTES (UINT64_C(1) << 29)
#define BELIEVED 1024u
#define ENTRY_BYTES 64u

struct walk {
    struct unwind_rules *rules;
    struct unwind_stacks *stacks;
    struct machine_registers now;
    bool exact;                 /* now.pc is an interrupted instruction */
    bool sp_lost;               /* now.sp is only a lower bound */
};

enum outcome { STEPPED, ENDED, STUCK, TOO_COMPLEX, GUESSED };

static bool read_word(const struct walk *walk, uint64_t address, uint64_t *value)
{
    if (address % 8 != 0)
        return false;
    if (!unwind_stack_holds(&walk->stacks->known[walk->stacks->current], address)
        && !unwind_stack_extend(walk->stacks, address) && !sys_readable((const void *)address))
        return false;
    *value = unwind_stack_word((const uint64_t *)address);
    return true;
}

/* The rule at now.pc. */
static void rule_at(const struct walk *walk, struct unwind_rule *rule)
{
    if (walk->exact) {
        unwind_rules_exact(walk->now.pc, rule);
        return;
    }
    unwind_rules_expand(unwind_rules_code(walk->rules, walk->now.pc), rule);
}

static enum outcome step_by_rule(struct walk *walk, const struct unwind_rule *rule)
{
    struct machine_registers now = walk->now;

    /* Where the frame pointer points at the pair that the frame saved, it tells sp as well.  From a lower bound of sp a word would
     * be read that is no return address. */
    if (walk->sp_lost && rule->cfa_base == UNWIND_BASE_SP) {
        if (rule->fp_base != UNWIND_BASE_CFA)
            return STUCK;
        now.sp = now.fp - (uint64_t)(int64_t)(rule->cfa_offset + rule->fp_offset);
    }
    uint64_t cfa = rule->cfa_base == UNWIND_BASE_SP ? now.sp : now.fp;
    if (rule->cfa_base == UNWIND_BASE_FP_WORD
        && !read_word(walk, now.fp + (uint64_t)(int64_t)rule->inner_offset, &cfa))
        return STUCK;
    cfa += (uint64_t)(int64_t)rule->cfa_offset;
    uint64_t ra = now.lr, fp = now.fp;
    if (rule->ra_base != UNWIND_BASE_KEPT && !read_word(walk, cfa + (uint64_t)(int64_t)rule->ra_offset, &ra))
        return STUCK;
    if (rule->fp_base != UNWIND_BASE_KEPT) {
        uint64_t base = rule->fp_base == UNWIND_BASE_FP ? now.fp : cfa;
        if (!read_word(walk, base + (uint64_t)(int64_t)rule->fp_offset, &fp))
            return STUCK;
    }
    /* A frame further out can lie lower only on another stack. */
    if (cfa < now.sp ? unwind_stack_holds(&walk->stacks->known[walk->stacks->current], cfa)
                     : cfa == now.sp && ra == now.pc)
        return STUCK;
    walk->now = (struct machine_registers){ .pc = machine_code_address(ra), .sp = cfa, .fp = fp };
    walk->exact = walk->sp_lost = false;
    return walk->now.pc ? STEPPED : ENDED;
}

static enum outcome step_over_signal(struct walk *walk)
{
    uint64_t word;
    uint64_t first = walk->now.sp & ~UINT64_C(7);

    for (uint64_t at = first; at < first + MACHINE_SIGNAL_FRAME_BYTES + 8; at += 8)
        if (!read_word(walk, at, &word))
            return STUCK;
    walk->now = machine_interrupted(walk->now.sp);
    walk->exact = true;
    return walk->now.pc ? STEPPED : ENDED;
}

/* Does a call instruction end at `pc`?  Its pages need not be readable. */
static bool follows_call(uint64_t pc)
{
    uint64_t first = pc - MACHINE_CALL_BYTES;
    return sys_readable((const void *)(first & ~UINT64_C(7))) && sys_readable((const void *)((pc - 1) & ~UINT64_C(7)))
        && machine_follows_call((const uint8_t *)pc);
}

/* Could the frame at `from`, in code without unwind data, have been called from `pc`?  Interpreters push return
 * addresses that follow no call, so nearness to generated code counts too. */
static bool may_call(uint64_t pc, uint64_t from)
{
    struct unwind_object object;
    struct unwind_rule rule;

    if (unwind_object_find(pc - 1, &object)) {
        unwind_cfi_rule(&object, pc - 1, &rule);
        return rule.kind != UNWIND_RULE_UNKNOWN || follows_call(pc);
    }
    return follows_call(pc)
        || (pc - from + GENERATED_CODE_BYTES < 2 * GENERATED_CODE_BYTES && !unwind_object_find(from, &object));
}

/* May `pc`, found by a guess in the frame of `from`, be a return address?  Words on a stack that are none are
 * mostly data or addresses of data; they must not enter the table of rules. */
static bool plausible(uint64_t pc, uint64_t from)
{
    static uint64_t believed[BELIEVED];     /* of all threads; a word that another thread replaces is only asked again */
    uint64_t *word = &believed[pc * UINT64_C(0x9e3779b97f4a7c15) >> 32 & (BELIEVED - 1)];

    if (__atomic_load_n(word, __ATOMIC_RELAXED) == pc)
        return true;
    if (!may_call(pc, from))
        return false;
    __atomic_store_n(word, pc, __ATOMIC_RELAXED);
    return true;
}

/* The program's first instructions, which call main's caller: older C libraries have no unwind data for them, and the ABIs say that
 * the frame pointer is 0 there. */
static bool is_entry(const struct machine_registers *now)
{
    static uint64_t entry;
    if (now->fp != 0)
        return false;
    if (__atomic_load_n(&entry, __ATOMIC_RELAXED) == 0)
        __atomic_store_n(&entry, sys_auxv(AT_ENTRY), __ATOMIC_RELAXED);
    return now->pc - entry < ENTRY_BYTES;
}

static enum outcome guess(struct walk *walk)
{
    struct machine_registers now = walk->now;
    uint64_t fp, ra;

    if (is_entry(&now))
        return ENDED;
    if (now.fp < now.sp || now.fp - now.sp > GUESSED_FRAME_BYTES || !read_word(walk, now.fp, &fp)
        || !read_word(walk, now.fp + 8, &ra))
        return STUCK;
    ra = machine_code_address(ra);
    if (!plausible(ra, now.pc))
        return STUCK;
    walk->now = (struct machine_registers){ .pc = ra, .sp = now.fp + 16, .fp = fp };
    walk->exact = false;
    walk->sp_lost = MACHINE_PAIR_AT_BOTTOM;
    return GUESSED;
}

static enum outcome step(struct walk *walk)
{
    struct unwind_rule rule;

    rule_at(walk, &rule);
    switch (rule.kind) {
    case UNWIND_RULE_STEP: return step_by_rule(walk, &rule);
    case UNWIND_RULE_SIGNAL: return step_over_signal(walk);
    case UNWIND_RULE_END: return ENDED;
    case UNWIND_RULE_COMPLEX: return TOO_COMPLEX;
    default: return guess(walk);
    }
}

bool unwind_careful_walk(struct unwind_rules *rules, struct unwind_stacks *stacks, const struct unwind_start *start,
                         uint32_t depth_max, struct unwind_raw *raw)
{
    struct walk walk = { .rules = rules, .stacks = stacks, .now = { start->pc, start->sp, start->fp, 0 } };

    unwind_raw_start(raw);
    unwind_stack_enter(stacks, start->sp);
    while (raw->depth < depth_max) {
        unwind_raw_add(raw, walk.now.pc, walk.exact);
        switch (step(&walk)) {
        case STEPPED:
            break;
        case GUESSED:
            raw->flags |= UNWIND_GUESSED;
            break;
        case ENDED:
            return true;
        case STUCK:
            raw->flags |= UNWIND_INCOMPLETE;
            return true;
        case TOO_COMPLEX:
            raw->flags |= UNWIND_INCOMPLETE;
            return false;
        }
    }
    raw->flags |= UNWIND_CUT;
    return true;
}
