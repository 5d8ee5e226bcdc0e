/* SPDX-License-Identifier: MIT */
/*
 * A signal handler forks at any instant of the program's own allocations, but not inside libc's.  The child returns from the
 * handler into what was interrupted, allocates some blocks of its own and leaves; the parent waits for it and goes on.
 * Says what the parent made, which no child may change, and how long the slowest child took, in milliseconds.
 *
 * usage: split [FORKS [MAPPERS]]
 * Beside MAPPERS threads that map memory from one new stack after the other, and do not live on in the children.
 */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#include "say.h"

#define PATIENCE_MS 5000

static volatile sig_atomic_t in_storm, is_child, armed;
static volatile long forks, failures, slowest_ms;
static int mappers;
static uintptr_t libc_start, libc_end;

static uintptr_t pc_of(const ucontext_t *context)
{
#if defined(__x86_64__)
    return (uintptr_t)context->uc_mcontext.gregs[REG_RIP];
#else
    return (uintptr_t)context->uc_mcontext.pc;
#endif
}

static long now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* A new stack for each seed, of which the last steps differ. */
static void *step_left(unsigned seed, int steps);
static void *step_right(unsigned seed, int steps);

static inline __attribute__((always_inline)) void *take_step(unsigned seed, int steps)
{
    void *(*volatile next)(unsigned, int) = seed & 1 ? step_left : step_right;
    if (steps > 0)
        return next(seed >> 1, steps - 1);
    return mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

__attribute__((noinline)) static void *step_left(unsigned seed, int steps)
{
    void *volatile page = take_step(seed, steps);
    return page;
}

__attribute__((noinline)) static void *step_right(unsigned seed, int steps)
{
    void *volatile page = take_step(seed, steps);
    return page;
}

static void *mapper(void *number)
{
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, NULL);
    for (unsigned seed = 0; !is_child; seed++) {
        munmap(take_step(seed * 16 + (unsigned)(uintptr_t)number, 20), 4096);
        if (seed % 64 == 0)
            usleep(100);
    }
    return NULL;
}

static void handler(int signal, siginfo_t *info, void *context)
{
    int status = 0;

    (void)signal;
    (void)info;
    armed = 0;
    if (!in_storm || is_child || pc_of(context) - libc_start < libc_end - libc_start)
        return;
    long start = now_ms();
    pid_t child = fork();
    if (child == 0) {
        is_child = 1;
        return;
    }
    forks++;
    while (child > 0 && waitpid(child, &status, WNOHANG) == 0) {
        if (now_ms() - start > PATIENCE_MS)
            kill(child, SIGKILL);
        usleep(50);
    }
    if (child < 0 || !WIFEXITED(status) || WEXITSTATUS(status) != 33)
        failures++;
    long took = now_ms() - start;
    slowest_ms = took > slowest_ms ? took : slowest_ms;
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

    mappers = argc > 2 ? atoi(argv[2]) : 0;
    find_libc();
    for (int i = 0; i < mappers; i++) {
        pthread_t thread;
        pthread_create(&thread, NULL, mapper, (void *)(uintptr_t)(i + 1));
    }
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
        if (mappers)
            munmap(take_step(i * 16, 20), 4096);
        in_storm = 0;
        if (is_child) {
            for (int k = 0; k < 50; k++)
                free(child_block(100));
            if (mappers)
                munmap(take_step(i * 16 + 15, 20), 4096);
            _exit(33);
        }
    }
    say("forks", forks >= wanted);
    say("failures", failures);
    say("slowest_ms", slowest_ms);
    ledger_say(&ledger);
    return 0;
}
