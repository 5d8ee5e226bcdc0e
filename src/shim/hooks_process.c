/* SPDX-License-Identifier: MIT */
/*
 * Ways in and out of a process: fork, exec, and the exits that run no destructor.  vfork cannot be wrapped (it
 * returns twice into a frame that must not have gone) and need not be: its child runs in the parent's memory, and every
 * function here asks start_is_owner before it says anything about the process.
 */
#include "shim/real.h"

#include "freestanding/sys.h"
#include "freestanding/text.h"
#include "shim/hook.h"
#include "shim/recording.h"
#include "shim/start.h"
#include "shim/thread.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

HOOK_EXPORT pid_t fork(void)
{
    if (UNLIKELY(!real_init())) {
        errno = EAGAIN;
        return -1;
    }
    pid_t child = real.fork();
    struct thread *thread;
    int kept = errno;
    if (child > 0 && (thread = thread_enter()) != NULL) {
        recording_event(HMK_EVENT_FORK, (uint64_t)child, 0, 0, 0, NULL);
        thread_leave(thread);
    }
    errno = kept;
    return child;
}

/* The image is about to be replaced: says so, and takes it back when the exec fails. */
static bool leaving(const char *path)
{
    if (!start_is_owner())
        return false;
    recording_event(HMK_EVENT_EXEC, 0, 0, 0, 0, path);
    start_finish(HMK_STATE_EXECED, 0);
    return true;
}

static int stayed(bool left)
{
    if (left) {
        recording_event(HMK_EVENT_EXEC_FAILED, (uint64_t)errno, 0, 0, 0, NULL);
        recording_reopen();
    }
    return -1;
}

HOOK_EXPORT int execve(const char *path, char *const arguments[], char *const environment[])
{
    if (UNLIKELY(!real_init())) {
        errno = EAGAIN;
        return -1;
    }
    bool left = leaving(path);
    real.execve(path, arguments, environment);
    return stayed(left);
}

HOOK_EXPORT int execv(const char *path, char *const arguments[])
{
    return execve(path, arguments, environ);
}

HOOK_EXPORT int execvp(const char *file, char *const arguments[])
{
    if (UNLIKELY(!real_init())) {
        errno = EAGAIN;
        return -1;
    }
    bool left = leaving(file);
    real.execvp(file, arguments);
    return stayed(left);
}

HOOK_EXPORT int execvpe(const char *file, char *const arguments[], char *const environment[])
{
    if (UNLIKELY(!real_init())) {
        errno = EAGAIN;
        return -1;
    }
    bool left = leaving(file);
    real.execvpe(file, arguments, environment);
    return stayed(left);
}

HOOK_EXPORT int fexecve(int fd, char *const arguments[], char *const environment[])
{
    if (UNLIKELY(!real_init())) {
        errno = EAGAIN;
        return -1;
    }
    bool left = leaving("(a descriptor)");
    real.fexecve(fd, arguments, environment);
    return stayed(left);
}

/*
 * The variadic ones build their vector on the stack, as libc does: a vfork child may call them, and must not allocate.
 * The first pass counts, the second fills.
 */
#define COLLECT(first, last)                                                                                           \
    size_t count = 1;                                                                                                  \
    va_list list;                                                                                                      \
    va_start(list, last);                                                                                              \
    while (va_arg(list, char *) != NULL)                                                                               \
        count++;                                                                                                       \
    va_end(list);                                                                                                      \
    char **vector = __builtin_alloca((count + 1) * sizeof *vector);                                                    \
    va_start(list, last);                                                                                              \
    vector[0] = (char *)(uintptr_t)(first);                                                                            \
    for (size_t i = 1; i <= count; i++)                                                                                \
        vector[i] = va_arg(list, char *)

HOOK_EXPORT int execl(const char *path, const char *argument, ...)
{
    COLLECT(argument, argument);
    va_end(list);
    return execve(path, vector, environ);
}

HOOK_EXPORT int execlp(const char *file, const char *argument, ...)
{
    COLLECT(argument, argument);
    va_end(list);
    return execvp(file, vector);
}

HOOK_EXPORT int execle(const char *path, const char *argument, ...)
{
    COLLECT(argument, argument);
    char *const *environment = va_arg(list, char *const *);
    va_end(list);
    return execve(path, vector, environment);
}

/* ---- exits -------------------------------------------------------------------------------------- */

static void leave_fast(int status)
{
    if (start_is_owner())
        start_finish(HMK_STATE_EXITED_FAST, status);
}

HOOK_EXPORT void _exit(int status)
{
    leave_fast(status);
    if (real_init())
        real._exit(status);
    for (;;)
        sys_exit_group(status);
}

HOOK_EXPORT void _Exit(int status)
{
    _exit(status);
}

HOOK_EXPORT void quick_exit(int status)
{
    leave_fast(status);
    if (real_init())
        real.quick_exit(status);
    for (;;)
        sys_exit_group(status);
}

/* The thread stays marked as busy, so that a SIGABRT handler that leaves by longjmp is noticed: then the program lives on. */
HOOK_EXPORT void abort(void)
{
    if (start_is_owner()) {
        recording_event(HMK_EVENT_ABORT, 0, 0, 0, 0, NULL);
        start_finish(HMK_STATE_ABORTED, -1);
        thread_enter();
    }
    if (real_init())
        real.abort();
    for (;;)
        sys_exit_group(127);
}
