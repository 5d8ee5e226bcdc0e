/* SPDX-License-Identifier: MIT */
#include "shim/unwind_stack.h"

#include "freestanding/sys.h"
#include "freestanding/banned.h"

#define STRETCH_BYTES (UINT64_C(16) << 20)      /* largest gap that is probed page by page */

static bool probe(uint64_t from, uint64_t to)
{
    uint64_t page = sys_page_bytes();
    for (; from < to; from += page)
        if (!sys_readable((const void *)from))
            return false;
    return true;
}

void unwind_stack_enter(struct unwind_stacks *stacks, uint64_t sp)
{
    uint64_t page = sys_page_bytes();
    uint64_t low = sp & ~(page - 1);

    for (uint32_t i = 0; i < UNWIND_STACKS; i++) {
        struct unwind_stack *stack = &stacks->known[i];
        if (!unwind_stack_holds(stack, sp)) {
            if (sp >= stack->low || stack->low - low > STRETCH_BYTES / 16 || !probe(low, stack->low))
                continue;
            stack->low = low;
        }
        stacks->current = i;
        return;
    }
    stacks->current = stacks->replaced++ % UNWIND_STACKS;
    stacks->known[stacks->current] = (struct unwind_stack){ low, low + page };
}

bool unwind_stack_extend(struct unwind_stacks *stacks, uint64_t address)
{
    struct unwind_stack *stack = &stacks->known[stacks->current];

    if (address % 8 != 0 || address < stack->low || address - stack->low > STRETCH_BYTES)
        return false;
    if (unwind_stack_holds(stack, address))
        return true;
    uint64_t page = sys_page_bytes();
    uint64_t high = (address & ~(page - 1)) + page;
    if (!probe(stack->high, high))
        return false;
    stack->high = high;
    return true;
}
