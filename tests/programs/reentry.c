/* SPDX-License-Identifier: MIT */
/*
 * With middle.c's library: allocates from within an allocation, 1,000 times.
 *
 * usage: reentry [exit|_exit]     whereupon the handler ends the process in the middle
 */
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "say.h"

static volatile long handled;
static const char *ending = "";

static void handler(int signal)
{
    void *block = malloc(99);

    (void)signal;
    touch(block, 99);
    free(block);
    handled++;
    if (handled == 500 && !strcmp(ending, "exit"))
        exit(51);
    if (handled == 500 && !strcmp(ending, "_exit"))
        _exit(52);
}

int main(int argc, char **argv)
{
    struct ledger ledger = {0};

    ending = argc > 1 ? argv[1] : "";

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
