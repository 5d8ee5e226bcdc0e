/* SPDX-License-Identifier: MIT */
/*
 * Threads that allocate by operator new alone, which some allocators bring along beside malloc, until standard input ends.
 *
 * usage: news [THREADS]
 */
#include <atomic>
#include <csignal>
#include <cstdlib>
#include <new>
#include <thread>
#include <vector>

#include "say.h"

static std::atomic<bool> stop;

static void churn(unsigned long seed)
{
    std::vector<char *> slots(300);
    while (!stop) {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        char *&slot = slots[(seed >> 40) % slots.size()];
        ::operator delete(slot);
        slot = static_cast<char *>(::operator new(1 + (seed >> 20) % 5000));
        touch(slot, 1);
    }
    for (char *slot : slots)
        ::operator delete(slot);
}

int main(int argc, char **argv)
{
    std::vector<std::thread> threads;
    for (int i = 0; i < (argc > 1 ? std::atoi(argv[1]) : 2); i++)
        threads.emplace_back(churn, 88172645463325252ul + static_cast<unsigned long>(i));
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, nullptr);    /* requests go to the others */
    say("ready", getpid());
    char byte;
    while (read(0, &byte, 1) > 0)
        ;
    stop = true;
    for (std::thread &thread : threads)
        thread.join();
    say("ended", 1);
}
