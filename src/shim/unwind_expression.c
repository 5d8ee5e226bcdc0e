/* SPDX-License-Identifier: MIT */
#include "shim/unwind_expression.h"

#include "shim/unwind_machine.h"
#include "freestanding/banned.h"

#define STACK_VALUES 8
#define BASE_CONSTANT (-1)

struct stack {
    struct expression_value values[STACK_VALUES];
    unsigned depth;
    bool bad;
};

static void push(struct stack *stack, int base, int64_t offset)
{
    if (stack->depth == STACK_VALUES)
        stack->bad = true;
    else
        stack->values[stack->depth++] = (struct expression_value){ .base = base, .offset = offset };
}

static struct expression_value pop(struct stack *stack)
{
    if (stack->depth == 0) {
        stack->bad = true;
        return (struct expression_value){ .base = BASE_CONSTANT };
    }
    return stack->values[--stack->depth];
}

static void push_register(struct stack *stack, uint64_t dwarf_register, int64_t offset, uint64_t pc)
{
    if (dwarf_register == MACHINE_DWARF_SP)
        push(stack, UNWIND_BASE_SP, offset);
    else if (dwarf_register == MACHINE_DWARF_FP)
        push(stack, UNWIND_BASE_FP, offset);
    else if ((int64_t)dwarf_register == MACHINE_DWARF_PC)
        push(stack, BASE_CONSTANT, (int64_t)pc + offset);
    else
        stack->bad = true;
}

static void add(struct stack *stack, int64_t constant)
{
    struct expression_value value = pop(stack);
    if (stack->bad)
        return;
    value.offset += constant;
    stack->values[stack->depth++] = value;
}

static void dereference(struct stack *stack)
{
    struct expression_value value = pop(stack);
    if (value.base != UNWIND_BASE_FP)
        stack->bad = true;
    push(stack, UNWIND_BASE_FP_WORD, 0);
    if (!stack->bad)
        stack->values[stack->depth - 1].inner_offset = value.offset;
}

static void combine(struct stack *stack, uint8_t opcode)
{
    struct expression_value b = pop(stack), a = pop(stack);

    if (opcode == 0x22 && a.base == BASE_CONSTANT) {        /* plus commutes */
        struct expression_value swapped = a;
        a = b;
        b = swapped;
    }
    if (b.base != BASE_CONSTANT || (a.base != BASE_CONSTANT && opcode != 0x22 && opcode != 0x1c))
        stack->bad = true;
    if (stack->bad)
        return;
    switch (opcode) {
    case 0x1a: a.offset &= b.offset; break;
    case 0x1c: a.offset -= b.offset; break;
    case 0x21: a.offset |= b.offset; break;
    case 0x22: a.offset += b.offset; break;
    case 0x24: a.offset = b.offset >= 0 && b.offset < 64 ? (int64_t)((uint64_t)a.offset << b.offset) : 0; break;
    case 0x2a: a.offset = a.offset >= b.offset; break;
    default: stack->bad = true; return;
    }
    stack->values[stack->depth++] = a;
}

static void run_operation(struct stack *stack, struct reader *code, uint8_t opcode, uint64_t pc)
{
    if (opcode >= 0x30 && opcode <= 0x4f) {                 /* lit0.. */
        push(stack, BASE_CONSTANT, opcode - 0x30);
        return;
    }
    if (opcode >= 0x70 && opcode <= 0x8f) {                 /* breg0.. */
        push_register(stack, opcode - 0x70u, reader_sleb(code), pc);
        return;
    }
    switch (opcode) {
    case 0x06: dereference(stack); break;
    case 0x08: push(stack, BASE_CONSTANT, (int64_t)reader_fixed(code, 1)); break;
    case 0x09: push(stack, BASE_CONSTANT, (int8_t)reader_fixed(code, 1)); break;
    case 0x0a: push(stack, BASE_CONSTANT, (int64_t)reader_fixed(code, 2)); break;
    case 0x0b: push(stack, BASE_CONSTANT, (int16_t)reader_fixed(code, 2)); break;
    case 0x0c: push(stack, BASE_CONSTANT, (int64_t)reader_fixed(code, 4)); break;
    case 0x0d: push(stack, BASE_CONSTANT, (int32_t)reader_fixed(code, 4)); break;
    case 0x10: push(stack, BASE_CONSTANT, (int64_t)reader_uleb(code)); break;
    case 0x11: push(stack, BASE_CONSTANT, reader_sleb(code)); break;
    case 0x23: add(stack, (int64_t)reader_uleb(code)); break;
    default: combine(stack, opcode); break;
    }
}

bool expression_evaluate(struct reader code, bool with_cfa, uint64_t pc, struct expression_value *value)
{
    struct stack stack = { .depth = 0 };

    if (with_cfa)
        push(&stack, UNWIND_BASE_CFA, 0);
    while (code.at < code.end && !code.bad && !stack.bad)
        run_operation(&stack, &code, (uint8_t)reader_fixed(&code, 1), pc);
    *value = pop(&stack);
    return !code.bad && !stack.bad && value->base != BASE_CONSTANT;
}
