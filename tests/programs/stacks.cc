// SPDX-License-Identifier: MIT
// Allocates on stacks of every kind, so that each can be compared with what the reference unwinder says.
//
// usage: stacks [DIRECTORY]     with plugin_small.so and plugin_large.so in DIRECTORY
#include <alloca.h>
#include <csetjmp>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <dlfcn.h>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <ucontext.h>
#include <vector>

extern "C" {
#include "say.h"
}

static void allocate()
{
    void *block = malloc(100);
    touch(block, 8);
    free(block);
}

static unsigned next_random(unsigned &seed)
{
    seed = seed * 1103515245u + 12345u;
    return seed >> 16;
}

// A tree of nodes whose making is interrupted by exceptions, at any depth.
struct node {
    std::string name;
    std::map<std::string, std::unique_ptr<node>> children;
};

static void grow(node &parent, int depth, unsigned &seed)
{
    if (depth == 0 || next_random(seed) % 9 == 0) {
        if (next_random(seed) % 3 == 0)
            throw std::runtime_error("leaf " + std::to_string(seed));
        allocate();
        return;
    }
    auto *block = static_cast<char *>(alloca(next_random(seed) % 500 + 1));
    block[0] = 1;
    for (int i = 0; i < 3; i++) {
        auto child = std::make_unique<node>();
        child->name = "a name that is too long for the short form " + std::to_string(i) + block[0];
        try {
            grow(*child, depth - 1, seed);
        } catch (const std::exception &error) {
            child->name += error.what();
        }
        parent.children.emplace(child->name, std::move(child));
    }
}

static void grow_many(unsigned seed)
{
    for (int i = 0; i < 5; i++) {
        node root;
        try {
            grow(root, 6, seed);
        } catch (const std::exception &) {
        }
    }
}

static void throw_in_threads()
{
    std::vector<std::thread> threads;
    for (unsigned i = 0; i < 8; i++)
        threads.emplace_back(grow_many, i);
    for (auto &thread : threads)
        thread.join();
}

static ucontext_t scheduler, routine;

static void deep(int depth)
{
    char block[64];
    touch(block, sizeof block);
    if (depth > 0)
        deep(depth - 1);
    else
        allocate();
    if (depth % 5 == 0)
        swapcontext(&routine, &scheduler);
    touch(block, sizeof block);
}

static void run_routine()
{
    deep(30);
    deep(10);
}

static void switch_stacks()
{
    for (int i = 0; i < 20; i++) {
        getcontext(&routine);
        routine.uc_stack.ss_size = 64 * 1024;
        routine.uc_stack.ss_sp = malloc(routine.uc_stack.ss_size);
        routine.uc_link = &scheduler;
        makecontext(&routine, run_routine, 0);
        for (int j = 0; j < 11; j++) {
            swapcontext(&scheduler, &routine);
            allocate();
        }
        free(routine.uc_stack.ss_sp);
    }
}

static void handler(int)
{
    allocate();
}

static void raise_at(int depth)
{
    char block[32];
    touch(block, sizeof block);
    if (depth > 0)
        raise_at(depth - 1);
    else
        raise(SIGUSR1);
    touch(block, sizeof block);
}

static void interrupt()
{
    stack_t alternate = {};
    alternate.ss_size = 256 * 1024;
    alternate.ss_sp = malloc(alternate.ss_size);
    sigaltstack(&alternate, nullptr);
    for (int flags : {0, SA_ONSTACK}) {
        struct sigaction action = {};
        action.sa_handler = handler;
        action.sa_flags = flags;
        sigaction(SIGUSR1, &action, nullptr);
        for (int i = 0; i < 20; i++)
            raise_at(i);
    }
    alternate.ss_flags = SS_DISABLE;
    sigaltstack(&alternate, nullptr);
    free(alternate.ss_sp);
}

static std::jmp_buf back;
static volatile bool back_is_set;

static int jump_from(int depth)
{
    allocate();
    if (depth == 0 && back_is_set)
        std::longjmp(back, 1);
    return depth > 0 ? jump_from(depth - 1) + 1 : 0;
}

static void jump()
{
    for (volatile int i = 0; i < 50; i = i + 1) {
        if (setjmp(back) == 0) {
            back_is_set = true;
            jump_from(i % 20);
        }
    }
}

static int recurse(int depth)
{
    allocate();
    return depth > 0 ? recurse(depth - 1) + 1 : 0;
}

// Opens and closes libraries that land at the same address with frames of different sizes.
static int reload(const std::string &directory)
{
    void *last = nullptr;
    int same = 0;

    for (int i = 0; i < 80; i++) {
        void *library = dlopen((directory + (i % 2 ? "/plugin_large.so" : "/plugin_small.so")).c_str(), RTLD_NOW);
        if (!library)
            return -1;
        void *enter = dlsym(library, "plugin_enter");
        reinterpret_cast<void (*)(void (*)())>(enter)(allocate);
        same += enter == last;
        last = enter;
        dlclose(library);
    }
    return same;
}

int main(int argc, char **argv)
{
    throw_in_threads();
    switch_stacks();
    interrupt();
    jump();
    recurse(5000);
    say("same_address", argc > 1 ? reload(argv[1]) : 0);
    return 0;
}
