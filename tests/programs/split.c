/* SPDX-License-Identifier: MIT */
/*
 * A signal handler forks at any instant of the program's own allocations, but not inside libc's.  The child returns from the
 * handler into what was interrupted, allocates some blocks of its own and leaves; the parent waits for it and goes on.
 * Says what the parent made, which no child may change.
 *
 * usage: split [FORKS]
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <ucontext.h>

#include "say.h"

static volatile sig_atomic_t in_storm, is_child, armed;
static volatile long forks, failures;
static uintptr_t libc_start, libc_end;

static uintptr_t pc_of(const ucontext_t *context)
{
#if defined(__x86_64__)
    return (uintptr_t)context->uc_mcontext.gregs[REG_RIP];
#else
    return (uintptr_t)context->uc_mcontext.pc;
#endif
}

static void handler(int signal, siginfo_t *info, void *context)
{
    int status = 0;

    (void)signal;
    (void)info;
    armed = 0;
    if (!in_storm || is_child || pc_of(context) - libc_start < libc_end - libc_start)
        return;
    pid_t child = fork();
    if (child == 0) {
        is_child = 1;
        return;
    }
    forks++;
    if (child < 0 || waitpid(child, &status, 0) != child || !WIFEXITED(status) || WEXITSTATUS(status) != 33)
        failures++;
}

static void find_libc(void)
{
    char line[512];
    unsigned long start, end;
    FILE *maps = fopen("/proc/self/maps", "r");

    while (maps && fgets(line, sizeof line, maps))
        if (strstr(line, "/libc") && sscanf(line, "%lx-%lx", &start, &end) == 2) {
            if (!libc_start)
                libc_start = start;
            libc_end = end;
        }
    if (maps)
        fclose(maps);
}

__attribute__((noinline)) static void *parent_block(size_t bytes)
{
    void *block = malloc(bytes);
    touch(block, bytes);
    return block;
}

__attribute__((noinline)) static void *child_block(size_t bytes)
{
    void *block = malloc(bytes);
    touch(block, bytes);
    return block;
}

int main(int argc, char **argv)
{
    enum { KEPT = 512 };
    static void *kept[KEPT];
    static size_t bytes_of[KEPT];
    static struct ledger ledger;
    long wanted = argc > 1 ? strtol(argv[1], NULL, 10) : 100;
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO};

    find_libc();
    sigaction(SIGALRM, &action, NULL);
    for (unsigned i = 0; forks < wanted && i < 40000000; i++) {
        unsigned place = i * 2654435761u >> 23;
        if (!armed) {       /* once each time: the handler takes longer than the interval */
            struct itimerval soon = {.it_value = {0, 100 + i % 97}};
            armed = 1;
            setitimer(ITIMER_REAL, &soon, NULL);
        }
        in_storm = 1;
        if (kept[place]) {
            free(kept[place]);
            ledger_drop(&ledger, (long long)bytes_of[place]);
            kept[place] = NULL;
        } else {
            kept[place] = parent_block(bytes_of[place] = 16 + i % 900);
            ledger_add(&ledger, (long long)bytes_of[place]);
        }
        in_storm = 0;
        if (is_child) {
            for (int k = 0; k < 50; k++)
                free(child_block(100));
            _exit(33);
        }
    }
    say("forks", forks >= wanted);
    say("failures", failures);
    ledger_say(&ledger);
    return 0;
}
