/* SPDX-License-Identifier: MIT */
/*
 * A family of processes.  Every kind of child allocates (or, sharing our memory, must not be counted) and leaves in
 * its own way; prints each child's way of ending and the parent's ledger.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/wait.h>

#include "say.h"

extern char **environ;
static struct ledger ledger;

__attribute__((noinline)) static void *parent_block(size_t bytes)
{
    void *block = malloc(bytes);
    touch(block, bytes);
    ledger_add(&ledger, (long long)bytes);
    return block;
}

__attribute__((noinline)) static void *child_block(size_t bytes)
{
    void *block = malloc(bytes);
    touch(block, bytes);
    return block;
}

enum ending { BY_RETURN_CODE, BY_EXIT, BY_QUICK_EXIT, BY_ABORT, BY_KILL, BY_EXEC, BY_GRANDCHILD, ENDINGS };

static void child_ends(enum ending how)
{
    static char *const arguments[] = {"true", NULL};

    switch (how) {
    case BY_RETURN_CODE: _exit(7);
    case BY_EXIT: exit(8);
    case BY_QUICK_EXIT: quick_exit(9);
    case BY_ABORT: abort();
    case BY_KILL: raise(SIGKILL); break;
    case BY_EXEC:
        execve("/nonexistent/program", arguments, environ);
        if (errno != ENOENT)
            _exit(90);
        free(child_block(64));
        execv("/bin/true", arguments);
        _exit(91);
    case BY_GRANDCHILD: {
        pid_t pid = fork();
        int status = 0;
        if (pid == 0) {
            free(child_block(4096));
            _exit(21);
        }
        waitpid(pid, &status, 0);
        _exit(WEXITSTATUS(status) + 1);
    }
    default: break;
    }
    _exit(92);
}

static void wait_and_say(const char *what, pid_t pid)
{
    int status = 0;

    if (pid < 0 || waitpid(pid, &status, 0) != pid)
        _exit(93);
    say(what, WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status));
}

static void forked(void **blocks, long count)
{
    static const char *const names[ENDINGS] = {"_exit", "exit", "quick_exit", "abort", "kill", "exec", "grandchild"};

    for (int how = 0; how < ENDINGS; how++) {
        pid_t pid = fork();
        if (pid == 0) {
            for (long i = 0; i < count; i += 2)         /* inherited ones */
                free(blocks[i]);
            for (int i = 0; i < 500; i++) {
                void *own = child_block(300);
                if (i % 2)
                    free(own);
            }
            child_ends((enum ending)how);
        }
        wait_and_say(names[how], pid);
    }
}

static void shared(void)
{
    char *const arguments[] = {"sh", "-c", "exit 5", NULL};
    pid_t pid = vfork();

    if (pid == 0) {
        execv("/bin/sh", arguments);
        _exit(94);
    }
    wait_and_say("vfork", pid);
    pid = vfork();
    if (pid == 0) {
        execv("/nonexistent/program", arguments);
        _exit(6);
    }
    wait_and_say("vfork_failed", pid);
    if (posix_spawn(&pid, "/bin/sh", NULL, NULL, arguments, environ))
        _exit(95);
    wait_and_say("posix_spawn", pid);
    say("posix_spawn_failed", posix_spawn(&pid, "/nonexistent/program", NULL, NULL, arguments, environ));
    say("system", WEXITSTATUS(system("exit 11")));
}

int main(void)
{
    enum { COUNT = 1000 };
    static void *blocks[COUNT];

    for (long i = 0; i < COUNT; i++)
        blocks[i] = parent_block(100);
    forked(blocks, COUNT);
    shared();
    for (long i = 0; i < COUNT; i += 4) {
        free(blocks[i]);
        ledger_drop(&ledger, 100);
    }
    say("parent_blocks", ledger.blocks);
    say("parent_bytes", ledger.bytes);
    say("parent_frees", ledger.frees);
    say("parent_live_blocks", ledger.live_blocks);
    say("parent_live_bytes", ledger.live_bytes);
    return 0;
}
