/* SPDX-License-Identifier: MIT */
/*
 * Frees much and keeps little, in the ways that a program's RSS stays high.
 *
 * usage: held pins|comb|below|stdio|thread|leak [trim|wait]
 *
 * With `trim` it calls malloc_trim(0) itself and prints what the kernel says came back, in bytes: the truth for the
 * forecast of a profiled run without it, whose heap is the same.  With `wait` it says so and waits to be killed.
 */
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include "say.h"

enum { BUFFERS = 20000, BUFFER = 5000, PIN = 24, SMALLS = 100000, SMALL = 1000 };
static void *buffer[BUFFERS], *pin[BUFFERS], *small[SMALLS];

__attribute__((noinline)) static void *make_buffer(void)
{
    void *block = malloc(BUFFER);
    touch(block, BUFFER);
    return block;
}

__attribute__((noinline)) static void *make_pin(size_t bytes)
{
    void *block = malloc(bytes);
    touch(block, bytes);
    return block;
}

__attribute__((noinline)) static void *make_small(void)
{
    void *block = malloc(SMALL);
    touch(block, SMALL);
    return block;
}

/* A block of 24 bytes behind each buffer, then the buffers go. */
static void pins(void)
{
    for (int i = 0; i < BUFFERS; i++) {
        buffer[i] = make_buffer();
        pin[i] = make_pin(PIN);
    }
    for (int i = 0; i < BUFFERS; i++)
        free(buffer[i]);
}

/* Three of four blocks go. */
static void comb(void)
{
    for (int i = 0; i < SMALLS; i++)
        small[i] = make_small();
    for (int i = 0; i < SMALLS; i++)
        if (i % 4 != 0)
            free(small[i]);
}

/* Everything goes but one block at the top of the heap. */
static void below(void)
{
    for (int i = 0; i < BUFFERS; i++)
        buffer[i] = make_buffer();
    pin[0] = make_pin(9000);
    for (int i = 0; i < BUFFERS; i++)
        free(buffer[i]);
}

/* The same, but the block is the buffer of a stream that was first used when the heap was full. */
static void stdio(void)
{
    FILE *stream = fopen("/dev/null", "w");
    for (int i = 0; i < BUFFERS; i++)
        buffer[i] = make_buffer();
    if (!stream || fputs("so far", stream) < 0)
        _exit(96);
    for (int i = 0; i < BUFFERS; i++)
        free(buffer[i]);
}

static void *fill_and_free(void *unused)
{
    for (int i = 0; i < SMALLS / 2; i++)
        small[i] = make_small();
    for (int i = 0; i < SMALLS / 2; i++)
        free(small[i]);
    return unused;
}

/* A thread frees its whole arena; one large free before raised the trim threshold. */
static void thread(void)
{
    pthread_t worker;
    void *large = malloc(30 << 20);
    __asm__ volatile("" : : "g"(large) : "memory");
    free(large);
    if (pthread_create(&worker, NULL, fill_and_free, NULL) != 0)
        _exit(98);
    pthread_join(worker, NULL);
}

static void leak(void)
{
    /* One call, one stack. */
#pragma GCC unroll 1
    for (int i = 0; i < SMALLS / 10; i++)
        make_small();
}

static long long resident(void)
{
    char text[128] = "";
    int fd = open("/proc/self/statm", O_RDONLY);
    if (fd < 0 || read(fd, text, sizeof text - 1) <= 0)
        _exit(97);
    close(fd);
    const char *space = strchr(text, ' ');
    return space ? strtoll(space, NULL, 10) * sysconf(_SC_PAGESIZE) : 0;
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*run)(void);
    } cases[] = { { "pins", pins }, { "comb", comb }, { "below", below }, { "stdio", stdio },
                  { "thread", thread }, { "leak", leak } };
    bool found = false;

    /* The code of both is resident before it counts, in every run alike. */
    malloc_trim(0);
    resident();
    for (size_t i = 0; argc > 1 && i < sizeof cases / sizeof *cases; i++)
        if (strcmp(argv[1], cases[i].name) == 0) {
            cases[i].run();
            found = true;
        }
    if (found && argc > 2 && strcmp(argv[2], "wait") == 0) {
        say("ready", getpid());
        for (;;)
            pause();
    }
    if (found && argc > 2) {
        long long before = resident();
        malloc_trim(0);
        say("returned", before - resident());
    }
    return found ? 0 : 2;
}
