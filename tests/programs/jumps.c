/* SPDX-License-Identifier: MIT */
/*
 * Signal handlers that leave by siglongjmp in the middle of an allocation, at any instant that is not inside libc's
 * own code (there it would break libc without any profiler).  A second thread allocates from ever new stacks
 * meanwhile.  Afterwards the program says how many blocks it then makes in peace, and they must all be recorded.
 *
 * usage: jumps [MILLISECONDS]
 */
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/time.h>
#include <sys/mman.h>
#include <time.h>
#include <ucontext.h>

#include "say.h"

static sigjmp_buf way_out;
static volatile sig_atomic_t may_jump;
static volatile long jumps, passed;
static uintptr_t libc_start, libc_end;
static _Atomic int stop;

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
    uintptr_t pc = pc_of(context);

    (void)signal;
    (void)info;
    passed++;
    if (!may_jump || pc - libc_start < libc_end - libc_start)
        return;
    may_jump = 0;
    jumps++;
    siglongjmp(way_out, 1);
}

/* All mappings of libc and the loader lie together; the first and last line of libc are enough. */
static void find_libc(void)
{
    char line[512];
    unsigned long start, end;
    FILE *maps = fopen("/proc/self/maps", "r");

    while (maps && fgets(line, sizeof line, maps))
        if (strstr(line, "/libc") && !strstr(line, "/libcheck") && sscanf(line, "%lx-%lx", &start, &end) == 2) {
            if (!libc_start)
                libc_start = start;
            libc_end = end;
        }
    if (maps)
        fclose(maps);
}

/* A stack of its own for each pattern of 24 bits. */
__attribute__((noinline)) static void *by_pattern(unsigned pattern, int depth, size_t bytes);
__attribute__((noinline)) static void *left(unsigned pattern, int depth, size_t bytes)
{
    void *block = by_pattern(pattern, depth, bytes);
    __asm__ volatile("" : : "g"(block) : "memory");
    return block;
}
__attribute__((noinline)) static void *right(unsigned pattern, int depth, size_t bytes)
{
    void *block = by_pattern(pattern, depth, bytes);
    __asm__ volatile("" : : "g"(block), "g"(depth) : "memory");
    return block;
}
static void *by_pattern(unsigned pattern, int depth, size_t bytes)
{
    void *block;
    if (depth == 0)
        block = malloc(bytes);
    else if (pattern & 1)
        block = left(pattern >> 1, depth - 1, bytes);
    else
        block = right(pattern >> 1, depth - 1, bytes);
    __asm__ volatile("" : : "g"(block) : "memory");
    return block;
}

static void *other_thread(void *unused)
{
    sigset_t all;

    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, NULL);
    for (unsigned i = 1; !stop; i++) {
        free(by_pattern(i * 2654435761u, 14, 48));
        struct timespec nap = {0, 20000};
        if (i % 64 == 0)
            nanosleep(&nap, NULL);
    }
    return unused;
}

__attribute__((noinline)) static void storm(unsigned *seed)
{
    for (;;) {
        may_jump = 1;
        void *block = by_pattern(*seed, 12, 40);
        free(block);
        if (*seed % 16 == 0) {
            void *pages = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            munmap(pages, 8192);
        }
        may_jump = 0;
        *seed = *seed * 1664525u + 1013904223u;
        if (stop)
            return;
    }
}

__attribute__((noinline)) static void *after_block(size_t bytes)
{
    void *block = malloc(bytes);
    touch(block, bytes);
    return block;
}

int main(int argc, char **argv)
{
    long milliseconds = argc > 1 ? strtol(argv[1], NULL, 10) : 1000;
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO};
    struct itimerval often = {.it_interval = {0, 150}, .it_value = {0, 150}}, never = {.it_value = {0, 0}};
    static volatile struct timespec now, end;
    static unsigned seed = 1;
    static struct ledger ledger;
    pthread_t thread;

    find_libc();
    sigaction(SIGALRM, &action, NULL);
    pthread_create(&thread, NULL, other_thread, NULL);
    clock_gettime(CLOCK_MONOTONIC, (struct timespec *)&end);
    end.tv_sec += milliseconds / 1000;
    end.tv_nsec += milliseconds % 1000 * 1000000;
    setitimer(ITIMER_REAL, &often, NULL);
    sigsetjmp(way_out, 1);
    clock_gettime(CLOCK_MONOTONIC, (struct timespec *)&now);
    if (now.tv_sec < end.tv_sec || (now.tv_sec == end.tv_sec && now.tv_nsec < end.tv_nsec)) {
        seed = seed * 1664525u + 1013904223u;
        storm(&seed);
    }
    setitimer(ITIMER_REAL, &never, NULL);
    stop = 1;
    pthread_join(thread, NULL);
    for (int i = 0; i < 1000; i++) {
        void *block = after_block(100);
        ledger_add(&ledger, 100);
        if (i % 2) {
            free(block);
            ledger_drop(&ledger, 100);
        }
    }
    say("jumped", jumps > 0);
    ledger_say(&ledger);
    return 0;
}
