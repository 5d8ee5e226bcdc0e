/* SPDX-License-Identifier: MIT */
/*
 * Allocation at the end of threads: pthread key destructors that run in several rounds, C++ thread_local objects,
 * keys whose values hold blocks, threads that are detached or cancelled, 300 threads one after another.
 */
#include <pthread.h>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

extern "C" {
#include "say.h"
}

static pthread_key_t first_key, last_key;
static long ran, rounds, objects;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void count(long &number)
{
    pthread_mutex_lock(&lock);
    number++;
    pthread_mutex_unlock(&lock);
}

extern "C" void at_first(void *value)
{
    void *more = malloc(1234);
    touch(more, 1234);
    free(value);
    free(more);
    count(ran);
}

/* Sets itself again, with a block from a destructor that runs last. */
extern "C" void at_last(void *value)
{
    int round = *static_cast<int *>(value);
    free(value);
    count(rounds);
    if (round < 3) {
        int *next = static_cast<int *>(malloc(sizeof *next));
        *next = round + 1;
        pthread_setspecific(last_key, next);
    }
}

struct Local {
    std::vector<std::string> names;
    Local() { names.emplace_back(100, 'x'); }
    ~Local()
    {
        std::string more(500, 'y');
        names.push_back(more);
        count(objects);
    }
};
static thread_local Local local;

extern "C" void *worker(void *argument)
{
    int *round = static_cast<int *>(malloc(sizeof *round));
    *round = 0;
    pthread_setspecific(last_key, round);
    pthread_setspecific(first_key, malloc(77));
    local.names.emplace_back(200, 'z');
    if (argument)
        pthread_exit(nullptr);
    return nullptr;
}

int main()
{
    pthread_key_create(&first_key, at_first);
    pthread_key_create(&last_key, at_last);
    for (long i = 0; i < 300; i++) {
        pthread_t thread;
        if (pthread_create(&thread, nullptr, worker, reinterpret_cast<void *>(i % 2)))
            return 3;
        pthread_join(thread, nullptr);
    }
    say("first", ran);
    say("rounds", rounds);
    say("objects", objects);
    return ran == 300 && rounds == 1200 && objects == 300 ? 0 : 1;
}
