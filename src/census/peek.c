/* SPDX-License-Identifier: MIT */
#include "census/peek.h"

#include "census/scratch.h"
#include <string.h>
#include <sys/uio.h>
#include "freestanding/sys.h"
#include "freestanding/banned.h"

#define WINDOW_BYTES 262144u
#define PAGE 4096u
#define GATHERED 64u            /* pieces for one call of the kernel */

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
    struct iovec piece = { (void *)start, end - start };
    /* The kernel copies page by page, and each time waits anew for memory.  This faults nowhere. */
    for (uintptr_t at = start; at < end; at += 64)
        __builtin_prefetch((const void *)at, 0, 2);
    long got = sys_gather(peek->window + kept, end - start, &piece, 1);
    peek->start = start - kept;
    peek->end = start + (got > 0 ? (size_t)got : 0);
    if (address + 8 > peek->end) {
        peek->failed = true;
        return 0;
    }
    return *(const uint64_t *)(peek->window + (address - peek->start));
}

bool peek_copy(const struct peek *peek, void *to, uintptr_t from, size_t bytes)
{
    if (!peek->direct)
        return sys_process_read(peek->pid, to, (const void *)from, bytes) == (long)bytes;
    memcpy(to, (const void *)from, bytes);
    return true;
}

size_t peek_gather(const struct peek *peek, void *to, const uintptr_t *from, size_t count, size_t each)
{
    unsigned char *at = to;
    struct iovec piece[GATHERED];
    for (size_t done = 0; done < count;) {
        size_t some = count - done < GATHERED ? count - done : GATHERED;
        for (size_t i = 0; i < some; i++) {
            piece[i] = (struct iovec){ (void *)from[done + i], each };
            if (peek->direct)
                memcpy(at + i * each, piece[i].iov_base, each);
        }
        long got = peek->direct ? (long)(some * each) : sys_gather(at, some * each, piece, some);
        if (got < (long)(some * each))
            return done + (got > 0 ? (size_t)got / each : 0);
        done += some;
        at += some * each;
    }
    return count;
}
