/* SPDX-License-Identifier: MIT */
/* With middle.c's library: allocates from within an allocation, 1,000 times. */
#include <signal.h>
#include <stdlib.h>

#include "say.h"

static volatile long handled;

static void handler(int signal)
{
    void *block = malloc(99);

    (void)signal;
    touch(block, 99);
    free(block);
    handled++;
}

int main(void)
{
    struct ledger ledger = {0};

    signal(SIGUSR1, handler);
    for (int i = 0; i < 1000; i++) {
        void *block = malloc(4704);
        touch(block, 4704);
        ledger_add(&ledger, 4704);
        if (i % 2) {
            free(block);
            ledger_drop(&ledger, 4704);
        }
    }
    say("handled", handled);
    say("outer_blocks", ledger.blocks);
    say("outer_live_bytes", ledger.live_bytes);
    return 0;
}
