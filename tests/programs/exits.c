/* SPDX-License-Identifier: MIT */
/*
 * Ends in the way it is told, after allocating; handlers that run on the way out allocate too.
 *
 * usage: exits return|exit|_exit|_Exit|quick_exit|abort|saved|term|kill|exec|exec-fails|thread
 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>

#include "say.h"

static void *volatile kept;

__attribute__((noinline)) static void *made_before(size_t bytes)
{
    kept = malloc(bytes);
    touch(kept, bytes);
    return kept;
}

__attribute__((noinline)) static void made_at_exit(void)
{
    kept = malloc(2222);
    touch(kept, 2222);
    say("atexit", 2222);
}

static void made_at_quick_exit(void)
{
    kept = malloc(3333);
    touch(kept, 3333);
    say("at_quick_exit", 3333);
}

__attribute__((destructor)) static void made_in_destructor(void)
{
    kept = malloc(4444);
    touch(kept, 4444);
    free(kept);
    say("destructor", 4444);
}

static void *from_thread(void *argument)
{
    made_before(5555);
    exit(*(int *)argument);
}

static sigjmp_buf way_out;

static void save(int signal)
{
    siglongjmp(way_out, signal);
}

int main(int argc, char **argv)
{
    const char *how = argc > 1 ? argv[1] : "return";
    char *const next[] = {"sh", "-c", "exit 44", NULL};

    for (int i = 0; i < 100; i++)
        made_before(1000);
    atexit(made_at_exit);
    at_quick_exit(made_at_quick_exit);
    if (!strcmp(how, "exit"))
        exit(41);
    if (!strcmp(how, "_exit"))
        _exit(42);
    if (!strcmp(how, "_Exit"))
        _Exit(43);
    if (!strcmp(how, "quick_exit"))
        quick_exit(45);
    if (!strcmp(how, "abort"))
        abort();
    if (!strcmp(how, "saved")) {        /* a handler that keeps the program alive, as language runtimes do */
        signal(SIGABRT, save);
        if (!sigsetjmp(way_out, 1))
            abort();
        for (int i = 0; i < 100; i++)
            free(made_before(6666));
        return 48;
    }
    if (!strcmp(how, "term"))
        raise(SIGTERM);
    if (!strcmp(how, "kill"))
        raise(SIGKILL);
    if (!strcmp(how, "exec"))
        execv("/bin/sh", next);
    if (!strcmp(how, "exec-fails")) {
        say("execv", execv("/nonexistent/program", next));
        say("errno", errno);
        made_before(1000);
        return 46;
    }
    if (!strcmp(how, "thread")) {
        pthread_t thread;
        int status = 47;
        pthread_create(&thread, NULL, from_thread, &status);
        pthread_join(thread, NULL);
    }
    return 40;
}
