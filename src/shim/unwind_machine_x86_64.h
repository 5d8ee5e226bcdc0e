/* SPDX-License-Identifier: MIT */
#ifndef HEAPMARK_SHIM_UNWIND_MACHINE_X86_64_H
#define HEAPMARK_SHIM_UNWIND_MACHINE_X86_64_H

#include <string.h>

#define MACHINE_DWARF_FP 6
#define MACHINE_DWARF_SP 7
#define MACHINE_DWARF_RA 16
#define MACHINE_DWARF_PC 16
#define MACHINE_PAIR_AT_BOTTOM 0

static inline uint64_t machine_code_address(uint64_t word)
{
    return word;
}

/*
 * Packed rule:  14 base is rbp, else rsp;  13:10 k: rbp is at CFA - 8 - 8k, 0 = kept;  9:0 CFA offset / 8.
 * The return address is always at CFA - 8.
 */
#define MACHINE_USES_FP 0x4000u

static inline uint32_t machine_pack(const struct unwind_rule *rule)
{
    uint32_t packed = 0;

    if (rule->cfa_base == UNWIND_BASE_FP)
        packed = MACHINE_USES_FP;
    else if (rule->cfa_base != UNWIND_BASE_SP)
        return MACHINE_NOT_PACKED;
    if (rule->cfa_offset < 0 || rule->cfa_offset % 8 != 0 || rule->cfa_offset / 8 > 0x3ff || rule->ra_offset != -8)
        return MACHINE_NOT_PACKED;
    packed |= (uint32_t)rule->cfa_offset / 8;
    if (rule->fp_base == UNWIND_BASE_KEPT)
        return packed;
    if (rule->fp_base != UNWIND_BASE_CFA || rule->fp_offset % 8 != 0 || rule->fp_offset > -16
        || rule->fp_offset < -128 || (!(packed & MACHINE_USES_FP) && rule->cfa_offset + rule->fp_offset < 0))
        return MACHINE_NOT_PACKED;
    return packed | (uint32_t)(-rule->fp_offset / 8 - 1) << 10;
}

static inline void machine_expand(uint32_t packed, struct unwind_rule *rule)
{
    int32_t k = (int32_t)(packed >> 10 & 15);

    rule->cfa_base = packed & MACHINE_USES_FP ? UNWIND_BASE_FP : UNWIND_BASE_SP;
    rule->cfa_offset = (int32_t)(packed & 0x3ff) * 8;
    rule->ra_base = UNWIND_BASE_CFA;
    rule->ra_offset = -8;
    rule->fp_base = k ? UNWIND_BASE_CFA : UNWIND_BASE_KEPT;
    rule->fp_offset = k ? -8 - 8 * k : 0;
}

static inline void machine_unpack(uint32_t packed, uint64_t sp, const uint64_t *fp_slot, struct machine_step *step)
{
    uint64_t base = packed & MACHINE_USES_FP ? unwind_stack_word(fp_slot) : sp;
    uint64_t cfa = base + (uint64_t)(packed & 0x3ff) * 8;
    uint32_t k = packed >> 10 & 15;

    step->cfa = cfa;
    step->ra_slot = (const uint64_t *)(cfa - 8);
    step->fp_slot = k ? (const uint64_t *)(cfa - 8 - 8 * (uint64_t)k) : fp_slot;
}

/* At the trampoline sp points at the ucontext; its general registers start 40 bytes in, in the order of
 * <sys/ucontext.h>. */
#define MACHINE_UCONTEXT_REGISTERS 40
static inline struct machine_registers machine_interrupted(uint64_t sp)
{
    const uint64_t *registers = (const uint64_t *)(sp + MACHINE_UCONTEXT_REGISTERS);
    return (struct machine_registers){
        .pc = unwind_stack_word(registers + 16), .sp = unwind_stack_word(registers + 15),
        .fp = unwind_stack_word(registers + 10)
    };
}
#define MACHINE_SIGNAL_FRAME_BYTES (MACHINE_UCONTEXT_REGISTERS + 17 * 8)

/* mov $15, %rax; syscall */
#define MACHINE_SIGNAL_CODE_BYTES 9
static inline bool machine_signal_code(const void *code)
{
    return memcmp(code, "\x48\xc7\xc0\x0f\x00\x00\x00\x0f\x05", MACHINE_SIGNAL_CODE_BYTES) == 0;
}

#define MACHINE_CALL_BYTES 7
/* A guess may lead anywhere; what is readable there is no concern of a sanitizer's. */
static inline __attribute__((no_sanitize_address)) bool machine_follows_call(const uint8_t *pc)
{
    if (pc[-5] == 0xe8)                                     /* call rel32 */
        return true;
    /* call r/m64 (ff /2): the register, or memory with a SIB byte or not and a displacement of 0, 1 or 4 bytes */
    for (int bytes = 2; bytes <= 7; bytes++) {
        if (pc[-bytes] != 0xff || (pc[1 - bytes] >> 3 & 7) != 2)
            continue;
        uint8_t mode = pc[1 - bytes] >> 6, operand = pc[1 - bytes] & 7;
        int length = 2 + (mode != 3 && operand == 4);
        if (mode == 1)
            length += 1;
        else if (mode == 2 || (mode == 0 && operand == 5))
            length += 4;
        if (length == bytes)
            return true;
    }
    return false;
}

#endif
