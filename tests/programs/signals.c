/* SPDX-License-Identifier: MIT */
/*
 * A signal handler that allocates, by mistake, at any instant of the program's own allocations.
 *
 * That is undefined with every allocator; with glibc it is harmless as long as both sides are served by the
 * thread cache from different size classes that are already filled.  So what the program does here is safe without
 * a profiler, and a profiler must keep it so.  The handler changes no errno that the program would see.
 *
 * usage: signals [SECONDS/10]
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>

#include "say.h"

static volatile long handled;

static void handler(int signal)
{
    int error = errno;
    void *block = malloc(700);

    (void)signal;
    touch(block, 8);
    free(block);
    handled++;
    errno = error;
}

int main(int argc, char **argv)
{
    long tenths = argc > 1 ? strtol(argv[1], NULL, 10) : 10, rounds = 0, wrong = 0;
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART};
    struct itimerval often = {.it_interval = {0, 200}, .it_value = {0, 200}};
    struct timespec now, end;
    void *warm[6];

    for (int i = 0; i < 6; i++)
        warm[i] = malloc(i % 2 ? 700 : 40);
    for (int i = 0; i < 6; i++)
        free(warm[i]);
    sigaction(SIGALRM, &action, NULL);
    clock_gettime(CLOCK_MONOTONIC, &end);
    end.tv_nsec += tenths % 10 * 100000000L;
    end.tv_sec += tenths / 10 + end.tv_nsec / 1000000000L;
    end.tv_nsec %= 1000000000L;
    setitimer(ITIMER_REAL, &often, NULL);
    do {
        for (int i = 0; i < 1000; i++) {
            errno = 4711;
            void *block = malloc(40);
            touch(block, 8);
            free(block);
            wrong += errno != 4711;
            rounds++;
        }
        clock_gettime(CLOCK_MONOTONIC, &now);
    } while (now.tv_sec < end.tv_sec || (now.tv_sec == end.tv_sec && now.tv_nsec < end.tv_nsec));
    often.it_value.tv_usec = 0;
    often.it_interval.tv_usec = 0;
    setitimer(ITIMER_REAL, &often, NULL);
    say("rounds", rounds);
    say("handled", handled);
    say("errno_wrong", wrong);
    return wrong || !handled;
}
