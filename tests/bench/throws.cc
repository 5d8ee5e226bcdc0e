// SPDX-License-Identifier: MIT
// Exceptions thrown and caught, through a few frames that have something to destroy.  usage: throws COUNT
#include <cstdio>
#include <cstdlib>
#include <stdexcept>

struct Guard {
    long &count;
    explicit Guard(long &counter) : count(counter) {}
    Guard(const Guard &) = delete;
    Guard &operator=(const Guard &) = delete;
    ~Guard() { count++; }
};

__attribute__((noinline)) static long descend(int depth, long n, long &destroyed)
{
    Guard guard(destroyed);
    if (depth == 0)
        throw std::out_of_range("far too large a number, said at some length");
    return descend(depth - 1, n, destroyed) + n;
}

int main(int argc, char **argv)
{
    long count = argc > 1 ? std::strtol(argv[1], nullptr, 10) : 1000, caught = 0, destroyed = 0;

    for (long i = 0; i < count; i++) {
        try {
            caught += descend(4, i, destroyed);
        } catch (const std::out_of_range &) {
            caught++;
        }
    }
    std::printf("%ld caught, %ld destroyed\n", caught, destroyed);
    return caught == count && destroyed == 5 * count ? 0 : 1;
}
