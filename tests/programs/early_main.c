/* SPDX-License-Identifier: MIT */
/* Uses early.c's library: frees and resizes blocks that are older than the profiler. */
#include <stdlib.h>

#include "say.h"

void *early_block(void);

int main(void)
{
    unsigned char *block = early_block();
    struct ledger ledger = {0};

    for (int i = 0; i < 5000; i++)
        if (block[i] != 0x5a)
            return 3;
    for (int i = 0; i < 1000; i++) {
        void *each = malloc(64);
        touch(each, 64);
        ledger_add(&ledger, 64);
        if (i % 2) {
            free(each);
            ledger_drop(&ledger, 64);
        }
    }
    say("main_blocks", ledger.blocks);
    return 0;
}
