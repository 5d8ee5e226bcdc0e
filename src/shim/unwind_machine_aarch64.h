/* SPDX-License-Identifier: MIT */
#ifndef HEAPMARK_SHIM_UNWIND_MACHINE_AARCH64_H
#define HEAPMARK_SHIM_UNWIND_MACHINE_AARCH64_H

#include <string.h>

#define MACHINE_DWARF_FP 29
#define MACHINE_DWARF_SP 31
#define MACHINE_DWARF_RA 30
#define MACHINE_DWARF_PC (-1)
#define MACHINE_PAIR_AT_BOTTOM 1

/* Removes a pointer authentication code; xpaclri, a hint that does nothing on processors without it. */
static inline uint64_t machine_code_address(uint64_t word)
{
    register uint64_t lr __asm__("x30") = word;
    __asm__("hint #7" : "+r"(lr));
    return lr;
}

/*
 * Packed rule:  14 base is x29, else sp;  13:6 CFA offset / 16;  5:0 r: the pair (x29, lr) is at base + 8r.
 * Functions save the two together, mostly at the bottom of their frame.
 */
#define MACHINE_USES_FP 0x4000u

static inline uint32_t machine_pack(const struct unwind_rule *rule)
{
    uint32_t packed = 0;

    if (rule->cfa_base == UNWIND_BASE_FP)
        packed = MACHINE_USES_FP;
    else if (rule->cfa_base != UNWIND_BASE_SP)
        return MACHINE_NOT_PACKED;
    int32_t pair = rule->cfa_offset + rule->fp_offset;
    if (rule->cfa_offset < 0 || rule->cfa_offset % 16 != 0 || rule->cfa_offset / 16 > 0xff
        || rule->fp_base != UNWIND_BASE_CFA || rule->ra_base != UNWIND_BASE_CFA
        || rule->ra_offset != rule->fp_offset + 8 || pair < 0 || pair % 8 != 0 || pair / 8 > 0x3f)
        return MACHINE_NOT_PACKED;
    return packed | (uint32_t)rule->cfa_offset / 16 << 6 | (uint32_t)pair / 8;
}

static inline void machine_expand(uint32_t packed, struct unwind_rule *rule)
{
    int32_t pair = (int32_t)(packed & 0x3f) * 8;

    rule->cfa_base = packed & MACHINE_USES_FP ? UNWIND_BASE_FP : UNWIND_BASE_SP;
    rule->cfa_offset = (int32_t)(packed >> 6 & 0xff) * 16;
    rule->fp_base = rule->ra_base = UNWIND_BASE_CFA;
    rule->fp_offset = pair - rule->cfa_offset;
    rule->ra_offset = rule->fp_offset + 8;
}

static inline void machine_unpack(uint32_t packed, uint64_t sp, const uint64_t *fp_slot, struct machine_step *step)
{
    uint64_t base = packed & MACHINE_USES_FP ? unwind_stack_word(fp_slot) : sp;

    step->cfa = base + (uint64_t)(packed >> 6 & 0xff) * 16;
    step->fp_slot = (const uint64_t *)(base + (uint64_t)(packed & 0x3f) * 8);
    step->ra_slot = step->fp_slot + 1;
}

/* At the trampoline sp points at siginfo and ucontext; the general registers lie 312 bytes in, then sp and pc. */
#define MACHINE_SIGNAL_REGISTERS 312
static inline struct machine_registers machine_interrupted(uint64_t sp)
{
    const uint64_t *registers = (const uint64_t *)(sp + MACHINE_SIGNAL_REGISTERS);
    return (struct machine_registers){
        .pc = unwind_stack_word(registers + 32), .sp = unwind_stack_word(registers + 31),
        .fp = unwind_stack_word(registers + 29), .lr = machine_code_address(unwind_stack_word(registers + 30))
    };
}
#define MACHINE_SIGNAL_FRAME_BYTES (MACHINE_SIGNAL_REGISTERS + 33 * 8)

/* mov x8, #139; svc #0 */
#define MACHINE_SIGNAL_CODE_BYTES 8
static inline bool machine_signal_code(const void *code)
{
    return memcmp(code, "\x68\x11\x80\xd2\x01\x00\x00\xd4", MACHINE_SIGNAL_CODE_BYTES) == 0;
}

#define MACHINE_CALL_BYTES 4
/* A guess may lead anywhere; what is readable there is no concern of a sanitizer's. */
static inline __attribute__((no_sanitize_address)) bool machine_follows_call(const uint8_t *pc)
{
    uint32_t instruction;
    memcpy(&instruction, pc - 4, sizeof instruction);
    return (instruction & 0xfc000000) == 0x94000000         /* bl */
        || (instruction & 0xfefff000) == 0xd63f0000;        /* blr, and with pointer authentication */
}

#endif
