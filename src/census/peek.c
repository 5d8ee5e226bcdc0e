/* SPDX-License-Identifier: MIT */
#include "census/peek.h"

#include "census/scratch.h"
#include <string.h>
#include "freestanding/sys.h"
#include "freestanding/banned.h"

#define WINDOW_BYTES 65536u
#define PAGE 4096u

bool peek_init(struct peek *peek, bool direct, struct scratch *scratch)
{
    *peek = (struct peek){ .direct = direct, .pid = sys_getpid(), .ahead = PAGE };
    if (!direct)
        peek->window = scratch_alloc(scratch, PAGE + WINDOW_BYTES);
    return direct || peek->window;
}

uint64_t peek_word_slow(struct peek *peek, uintptr_t address, uintptr_t limit)
{
    uintptr_t start = address & ~(uintptr_t)(PAGE - 1);
    size_t kept = 0;
    if (start == peek->end && peek->end - peek->start >= PAGE) {
        /* A reader that goes on may look back a little. */
        kept = PAGE;
        memcpy(peek->window, peek->window + (peek->end - peek->start) - PAGE, PAGE);
        peek->ahead = peek->ahead < WINDOW_BYTES ? peek->ahead * 2 : WINDOW_BYTES;
    } else {
        peek->ahead = PAGE;
    }
    uintptr_t end = start + peek->ahead;
    if (end > limit)
        end = limit;
    long got = sys_process_read(peek->pid, peek->window + kept, (const void *)start, end - start);
    peek->start = start - kept;
    peek->end = start + (got > 0 ? (size_t)got : 0);
    if (address + 8 > peek->end) {
        peek->failed = true;
        return 0;
    }
    return *(const uint64_t *)(peek->window + (address - peek->start));
}
