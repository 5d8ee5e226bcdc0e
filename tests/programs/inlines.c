/* SPDX-License-Identifier: MIT */
/* Calls inlined into each other, in C; prints the truth about them (see truth.h). */
#include "truth.h"

static inline __attribute__((always_inline)) void inner(int middle_line, int outer_line, const char *outer)
{
    truth("inner", __LINE__, "middle", middle_line, outer, outer_line, NULL);
    TRUTH_STAY;
}

static inline __attribute__((always_inline)) void middle(int outer_line, const char *outer)
{
    for (volatile int i = 0; i < 1; i++) {
        inner(__LINE__, outer_line, outer);
    }
}

__attribute__((noinline)) static void hidden(void)
{
    middle(__LINE__, "hidden");
    truth("hidden", __LINE__, NULL);
    middle(__LINE__, "hidden");
    TRUTH_STAY;
}

__attribute__((noinline)) void exported(void);

__attribute__((noinline)) void exported(void)
{
    {
        int block_local = 1;
        if (block_local)
            middle(__LINE__, "exported");
    }
    truth("exported", __LINE__, NULL);
    TRUTH_STAY;
}

/* Not in any header, and written without a DW_AT_linkage_name. */
extern void after_all(void) __asm__("assembler_name");
__attribute__((noinline)) void after_all(void)
{
    truth("after_all", __LINE__, NULL);
    TRUTH_STAY;
}

int main(void)
{
    hidden();
    exported();
    after_all();
    truth("main", __LINE__, NULL);
    return 0;
}
