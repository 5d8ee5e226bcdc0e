/* SPDX-License-Identifier: MIT */
/*
 * unwind-bench: nanoseconds per captured stack, for both unwinders.
 *
 *   same    the same stack again and again, remembered
 *   first   the same stack, not remembered: its frames are verified and handed out
 *   walk    random call trees of that depth whose last five calls branch: two new frames a capture
 *   cold    one walk with nothing known of the previous one (a reset before each)
 *
 * The cost of the program itself, run with an empty capture, is taken off; each figure is the least of five rounds.
 */

#include "shim/settings.h"
#include "shim/unwind.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum mode { MODE_EMPTY, MODE_MEMO, MODE_FIRST, MODE_COLD };

static struct unwind_thread *thread;
static enum mode mode;
static unsigned long captures, frames;
static unsigned seed;

static __attribute__((noinline)) void capture(void)
{
    struct unwind_start start = unwind_start_here();
    struct unwind_result result;

    captures++;
    if (mode == MODE_EMPTY)
        return;
    if (mode == MODE_COLD)
        unwind_thread_reset(thread);
    unwind_capture(thread, &start, &result);
    if (result.memo)
        return;
    frames = result.depth;
    if (mode == MODE_MEMO)
        unwind_remember(thread, result.depth);
}

static unsigned next_random(void)
{
    seed = seed * 1103515245u + 12345u;
    return seed >> 16;
}

static void call(int kind, int depth, int wanted);

#define KEEP(frame) __asm__ volatile("" : : "r"(frame) : "memory")

/* Distinct functions of different frame sizes; none keeps a frame pointer. */
#define FUNCTION(number) \
    static __attribute__((noinline)) void function_##number(int depth, int wanted) \
    { \
        char frame[16 + 24 * number]; \
        KEEP(frame); \
        if (depth == wanted) { \
            capture(); \
        } else { \
            call((int)(next_random() % 16), depth + 1, wanted); \
            if (wanted - depth <= 5) \
                call((int)(next_random() % 16), depth + 1, wanted); \
        } \
        KEEP(frame); \
    }
FUNCTION(0) FUNCTION(1) FUNCTION(2) FUNCTION(3) FUNCTION(4) FUNCTION(5) FUNCTION(6) FUNCTION(7)
FUNCTION(8) FUNCTION(9) FUNCTION(10) FUNCTION(11) FUNCTION(12) FUNCTION(13) FUNCTION(14) FUNCTION(15)

static void (*const functions[16])(int, int) = {
    function_0, function_1, function_2, function_3, function_4, function_5, function_6, function_7,
    function_8, function_9, function_10, function_11, function_12, function_13, function_14, function_15
};

static void call(int kind, int depth, int wanted)
{
    functions[kind](depth, wanted);
}

static __attribute__((noinline)) void repeat(int depth, long times)
{
    char frame[40];
    KEEP(frame);
    if (depth > 0)
        repeat(depth - 1, times);
    else
        while (times-- > 0)
            capture();
    KEEP(frame);
}

static double now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

static void tree(int depth, long times)
{
    seed = 1;
    for (long i = 0; i < times; i += 32)
        call((int)(next_random() % 16), 0, depth);
}

/* ns per capture. */
static double measure(enum mode wanted, void (*run)(int, long), int depth, long times)
{
    double least = 1e18;

    for (int round = 0; round < 5; round++) {
        mode = wanted;
        captures = 0;
        double start = now_ns();
        run(depth, times);
        double spent = (now_ns() - start) / (double)captures;
        if (spent < least)
            least = spent;
    }
    return least;
}

static void measure_sibling(uint64_t unwinder, long times)
{
    static const int depths[] = { 5, 10, 20, 40, 100, 200 };
    struct settings settings = { .depth = 256, .unwinder = unwinder };

    if (!unwind_init(&settings) || !(thread = unwind_thread_new())) {
        fputs("unwind-bench: no unwinder\n", stderr);
        exit(1);
    }
    printf("%-10s %6s %8s %8s %8s %8s\n", unwind_name(), "frames", "same", "first", "walk", "cold");
    for (unsigned i = 0; i < sizeof depths / sizeof *depths; i++) {
        int depth = depths[i];
        double empty = measure(MODE_EMPTY, repeat, depth, times);
        double empty_tree = measure(MODE_EMPTY, tree, depth, times / 10);
        double cold = measure(MODE_COLD, repeat, depth, times / 100) - empty;
        unsigned long depth_seen = frames;
        double first = measure(MODE_FIRST, repeat, depth, times / 10) - empty;
        double same = measure(MODE_MEMO, repeat, depth, times) - empty;
        double walk = measure(MODE_MEMO, tree, depth, times / 10) - empty_tree;
        printf("%-10s %6lu %8.1f %8.1f %8.1f %8.1f\n", "", depth_seen, same, first, walk, cold);
    }
}

int main(int argc, char **argv)
{
    long times = argc > 1 && strcmp(argv[1], "--quick") == 0 ? 20000 : 1000000;

    if (!unwind_libunwind_open(HELPER_DIRECTORY)) {
        fputs("unwind-bench: no libunwind\n", stderr);
        return 1;
    }
    measure_sibling(SETTINGS_UNWINDER_FAST, times);
    measure_sibling(SETTINGS_UNWINDER_LIBUNWIND, times);
    return 0;
}
