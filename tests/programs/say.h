/* SPDX-License-Identifier: MIT */
#ifndef HEAPMARK_TESTS_PROGRAMS_SAY_H
#define HEAPMARK_TESTS_PROGRAMS_SAY_H

/* Lines `key value` on standard output without stdio, whose buffer would be an allocation of its own. */

#include <stdint.h>
#include <string.h>
#include <unistd.h>

static inline void say(const char *key, long long value)
{
    char line[256], digits[24];
    size_t used = strlen(key) < 200 ? strlen(key) : 200;
    int n = 0;
    unsigned long long rest = value < 0 ? 0 - (unsigned long long)value : (unsigned long long)value;

    memcpy(line, key, used);
    line[used++] = ' ';
    if (value < 0)
        line[used++] = '-';
    do
        digits[n++] = (char)('0' + rest % 10);
    while (rest /= 10);
    while (n)
        line[used++] = digits[--n];
    line[used++] = '\n';
    if (write(1, line, used) != (ssize_t)used)
        _exit(99);
}

/* A block's bytes must not be optimised away, nor the call that made it. */
static inline void touch(void *block, size_t bytes)
{
    if (block && bytes)
        memset(block, 0x5a, bytes);
    __asm__ volatile("" : : "g"(block) : "memory");
}

/* What the program did, as the report must show it. */
struct ledger {
    long long blocks, bytes, frees, live_blocks, live_bytes, peak_bytes, peak_blocks;
};

static inline void ledger_add(struct ledger *ledger, long long bytes)
{
    ledger->blocks++;
    ledger->bytes += bytes;
    ledger->live_blocks++;
    ledger->live_bytes += bytes;
    if (ledger->live_bytes > ledger->peak_bytes) {
        ledger->peak_bytes = ledger->live_bytes;
        ledger->peak_blocks = ledger->live_blocks;
    }
}

static inline void ledger_drop(struct ledger *ledger, long long bytes)
{
    ledger->frees++;
    ledger->live_blocks--;
    ledger->live_bytes -= bytes;
}

static inline void ledger_say(const struct ledger *ledger)
{
    say("blocks", ledger->blocks);
    say("bytes", ledger->bytes);
    say("frees", ledger->frees);
    say("live_blocks", ledger->live_blocks);
    say("live_bytes", ledger->live_bytes);
    say("peak_bytes", ledger->peak_bytes);
    say("peak_blocks", ledger->peak_blocks);
}

#endif
