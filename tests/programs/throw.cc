/* SPDX-License-Identifier: MIT */
/* Throws through a few frames, again and again; prints the nanoseconds of one throw.  usage: throw [COUNT] */
#include <cstdlib>
#include <ctime>
#include <stdexcept>

extern "C" {
#include "say.h"
}

__attribute__((noinline)) static void deeper(int depth)
{
    if (depth == 0)
        throw std::runtime_error("x");
    deeper(depth - 1);
    __asm__ volatile("");
}

int main(int argc, char **argv)
{
    long count = argc > 1 ? std::strtol(argv[1], nullptr, 10) : 1000000, caught = 0;
    timespec from, to;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &from);
    for (long i = 0; i < count; i++) {
        try {
            deeper(5);
        } catch (const std::runtime_error &) {
            caught++;
        }
    }
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &to);
    say("caught", caught);
    say("ns_per_throw", ((to.tv_sec - from.tv_sec) * 1000000000LL + to.tv_nsec - from.tv_nsec) / count);
    return caught != count;
}
