/* SPDX-License-Identifier: MIT */
#include "shim/unwind_rules.h"

#include "freestanding/arena.h"
#include "freestanding/sys.h"
#include "shim/module.h"
#include "shim/unwind_objects.h"
#include <string.h>
#include "freestanding/banned.h"

#define FIRST_BITS 12u
#define LAST_BITS 24u
#define GROWTH_BITS 1u
#define ADDRESS_LIMIT (UINT64_C(1) << 48)

uint64_t unwind_rules_generation = 1;

static struct unwind_rules *table;
static bool table_busy;         /* one thread clears or grows; the others go on without */

static struct unwind_rule rare[UNWIND_CODE_RARE_LIMIT];
static bool rare_ready[UNWIND_CODE_RARE_LIMIT];
static uint32_t rare_count;

static struct unwind_rules *new_table(uint32_t bits)
{
    struct unwind_rules *rules = arena_alloc(sizeof *rules + (sizeof(uint64_t) << bits), 64);
    if (rules)
        rules->bits = bits;
    return rules;
}

bool unwind_rules_init(void)
{
    unwind_objects_init();
    struct unwind_rules *rules = new_table(FIRST_BITS);
    if (!rules)
        return false;
    rules->generation = unwind_rules_generation;
    __atomic_store_n(&table, rules, __ATOMIC_RELEASE);
    return true;
}

static __attribute__((cold, noinline)) struct unwind_rules *clear_table(struct unwind_rules *rules, uint64_t generation)
{
    if (__atomic_exchange_n(&table_busy, true, __ATOMIC_ACQUIRE))
        return NULL;
    if (rules == __atomic_load_n(&table, __ATOMIC_RELAXED) && rules->generation != generation) {
        for (size_t i = 0; i < (size_t)1 << rules->bits; i++)
            __atomic_store_n(&rules->words[i], 0, __ATOMIC_RELAXED);
        __atomic_store_n(&rules->used, 0, __ATOMIC_RELAXED);
        __atomic_store_n(&rules->generation, generation, __ATOMIC_RELEASE);
    }
    rules = __atomic_load_n(&table, __ATOMIC_RELAXED);
    __atomic_store_n(&table_busy, false, __ATOMIC_RELEASE);
    return rules->generation == generation ? rules : NULL;
}

struct unwind_rules *unwind_rules_current(void)
{
    uint64_t generation = __atomic_load_n(&unwind_rules_generation, __ATOMIC_ACQUIRE);
    struct unwind_rules *rules = __atomic_load_n(&table, __ATOMIC_ACQUIRE);

    if (__builtin_expect(__atomic_load_n(&rules->generation, __ATOMIC_ACQUIRE) == generation, 1))
        return rules;
    return clear_table(rules, generation);
}

void unwind_rules_forget(void)
{
    __atomic_add_fetch(&unwind_rules_generation, 1, __ATOMIC_ACQ_REL);
}

/* Returns false when the table is too full to take it. */
static bool insert(struct unwind_rules *rules, uint64_t pc, uint32_t code)
{
    uint32_t words = 1u << rules->bits;
    size_t place = unwind_rules_place(rules, pc);

    if (__atomic_load_n(&rules->used, __ATOMIC_RELAXED) > words / 2)
        return false;
    for (;;) {
        uint64_t expected = 0;
        if (__atomic_compare_exchange_n(&rules->words[place], &expected, pc << 16 | code, false, __ATOMIC_RELEASE,
                                        __ATOMIC_RELAXED)) {
            __atomic_fetch_add(&rules->used, 1, __ATOMIC_RELAXED);
            return true;
        }
        if (expected >> 16 == pc)
            return true;
        place = (place + 1) & (words - 1);
    }
}

/* The full table stays mapped: other threads may be reading it. */
static void grow(struct unwind_rules *full)
{
    if (full->bits + GROWTH_BITS > LAST_BITS || __atomic_exchange_n(&table_busy, true, __ATOMIC_ACQUIRE))
        return;
    if (full == __atomic_load_n(&table, __ATOMIC_RELAXED)) {
        struct unwind_rules *rules = new_table(full->bits + GROWTH_BITS);
        if (rules) {
            rules->generation = full->generation;
            for (size_t i = 0; i < (size_t)1 << full->bits; i++) {
                uint64_t word = __atomic_load_n(&full->words[i], __ATOMIC_RELAXED);
                if (word)
                    insert(rules, word >> 16, (uint32_t)(word & 0xffff));
            }
            __atomic_store_n(&table, rules, __ATOMIC_RELEASE);
        }
    }
    __atomic_store_n(&table_busy, false, __ATOMIC_RELEASE);
}

static uint32_t rare_code(const struct unwind_rule *rule)
{
    uint32_t count = __atomic_load_n(&rare_count, __ATOMIC_RELAXED);

    for (uint32_t i = 0; i < count && i < UNWIND_CODE_RARE_LIMIT; i++)
        if (__atomic_load_n(&rare_ready[i], __ATOMIC_ACQUIRE) && memcmp(&rare[i], rule, sizeof *rule) == 0)
            return UNWIND_CODE_RARE | i;
    if (count >= UNWIND_CODE_RARE_LIMIT)
        return UNWIND_CODE_COMPLEX;
    uint32_t index = __atomic_fetch_add(&rare_count, 1, __ATOMIC_RELAXED);
    if (index >= UNWIND_CODE_RARE_LIMIT)
        return UNWIND_CODE_COMPLEX;
    rare[index] = *rule;
    __atomic_store_n(&rare_ready[index], true, __ATOMIC_RELEASE);
    return UNWIND_CODE_RARE | index;
}

const struct unwind_rule *unwind_rules_rare(uint32_t code)
{
    return &rare[code & (UNWIND_CODE_RARE_LIMIT - 1)];
}

void unwind_rules_expand(uint32_t code, struct unwind_rule *rule)
{
    *rule = (struct unwind_rule){ .kind = UNWIND_RULE_STEP };
    if (code < UNWIND_CODE_SPECIAL)
        machine_expand(code, rule);
    else if (code >= UNWIND_CODE_RARE)
        *rule = *unwind_rules_rare(code);
    else
        rule->kind = (uint8_t)(UNWIND_RULE_END + (code - UNWIND_CODE_END));
}

/* Is there a signal trampoline at pc?  Its page need not be readable. */
static bool trampoline_at(uint64_t pc)
{
    uint64_t last = pc + MACHINE_SIGNAL_CODE_BYTES - 1;
    return sys_readable((const void *)(pc & ~UINT64_C(7))) && sys_readable((const void *)(last & ~UINT64_C(7)))
        && machine_signal_code((const void *)pc);
}

static uint32_t code_of(uint64_t pc, const struct unwind_rule *rule)
{
    switch (rule->kind) {
    case UNWIND_RULE_STEP: {
        uint32_t packed = machine_pack(rule);
        return packed == MACHINE_NOT_PACKED ? rare_code(rule) : packed;
    }
    case UNWIND_RULE_END:
        return UNWIND_CODE_END;
    case UNWIND_RULE_SIGNAL:
        return trampoline_at(pc) ? UNWIND_CODE_SIGNAL : UNWIND_CODE_COMPLEX;
    case UNWIND_RULE_COMPLEX:
        return UNWIND_CODE_COMPLEX;
    default:
        return trampoline_at(pc) ? UNWIND_CODE_SIGNAL : UNWIND_CODE_UNKNOWN;
    }
}

static void look_up(uint64_t pc, struct unwind_rule *rule)
{
    struct unwind_object object;
    if (unwind_object_find(pc, &object))
        unwind_cfi_rule(&object, pc, rule);
    else
        *rule = (struct unwind_rule){ .kind = UNWIND_RULE_UNKNOWN };
}

/* A frame without unwind data that has no caller: the loader's own start, from which it runs the constructors of
 * libraries, or an address that nothing called, at the start of a function: the made-up root of a coroutine. */
static bool is_root(uint64_t pc)
{
    struct unwind_rule rule;

    if (module_is_loader(pc))
        return true;
    look_up(pc, &rule);
    return rule.kind != UNWIND_RULE_UNKNOWN;
}

uint32_t unwind_rules_resolve(struct unwind_rules *rules, uint64_t pc)
{
    struct unwind_rule rule;

    look_up(pc - 1, &rule);
    uint32_t code = code_of(pc, &rule);
    if (code == UNWIND_CODE_UNKNOWN && is_root(pc))
        code = UNWIND_CODE_END;
    if (rules && pc < ADDRESS_LIMIT && !insert(rules, pc, code))
        grow(rules);
    return code;
}

void unwind_rules_exact(uint64_t pc, struct unwind_rule *rule)
{
    look_up(pc, rule);
    if ((rule->kind == UNWIND_RULE_SIGNAL || rule->kind == UNWIND_RULE_UNKNOWN) && trampoline_at(pc))
        rule->kind = UNWIND_RULE_SIGNAL;
    else if (rule->kind == UNWIND_RULE_SIGNAL)
        rule->kind = UNWIND_RULE_COMPLEX;
}
