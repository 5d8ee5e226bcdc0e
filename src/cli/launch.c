/* SPDX-License-Identifier: MIT */
#include "cli/launch.h"

#include "base/xalloc.h"
#include "cli/preload.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Blocked while the program runs, and taken by sigwaitinfo: no handler, so no race with the fork or the wait. */
static const int watched[] = { SIGCHLD, SIGINT, SIGQUIT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2, SIGWINCH,
                               SIGCONT, SIGTSTP, SIGTTIN, SIGTTOU, SIGALRM, SIGPIPE };

struct signals {
    sigset_t watched, mask_before;
    struct sigaction child_before;
};

static void signals_hold(struct signals *signals)
{
    /* When whoever started us ignores SIGCHLD, the kernel would throw the exit status away. */
    sigaction(SIGCHLD, &(struct sigaction){ .sa_handler = SIG_DFL }, &signals->child_before);
    sigemptyset(&signals->watched);
    for (size_t i = 0; i < sizeof watched / sizeof *watched; i++)
        sigaddset(&signals->watched, watched[i]);
    sigprocmask(SIG_BLOCK, &signals->watched, &signals->mask_before);
}

static void signals_restore(const struct signals *signals)
{
    sigaction(SIGCHLD, &signals->child_before, NULL);
    sigprocmask(SIG_SETMASK, &signals->mask_before, NULL);
}

/* The Ctrl-C that ended the program must not end us before we have said what was recorded. */
static void signals_drop_pending(const struct signals *signals)
{
    while (sigtimedwait(&signals->watched, NULL, &(struct timespec){0}) > 0)
        continue;
}

/* ---- the program -------------------------------------------------------------------------------- */

static void exec_by_shell(const char *path, char *const *argv)
{
    size_t count = 0;
    while (argv[count])
        count++;
    const char **arguments = xcalloc(count + 2, sizeof *arguments);
    arguments[0] = "sh";
    arguments[1] = path;
    for (size_t i = 1; i < count; i++)
        arguments[i + 1] = argv[i];
    execv("/bin/sh", (char *const *)arguments);
}

/* In the child.  The parent learns why an exec failed through the pipe. */
_Noreturn static void become(const char *path, char *const *argv, const struct preload *preload,
                             const struct signals *signals, int report)
{
    if (preload)
        preload_export(preload);
    signals_restore(signals);
    execv(path, argv);
    if (errno == ENOEXEC)       /* no #! line: a script for sh, as shells take it */
        exec_by_shell(path, argv);
    int reason = errno;
    _exit(write(report, &reason, sizeof reason) == sizeof reason ? 125 : 126);
}

static bool at_terminal(void)
{
    int terminal = open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY);
    bool foreground = terminal >= 0 && tcgetpgrp(terminal) == getpgrp();
    if (terminal >= 0)
        close(terminal);
    return foreground;
}

/* SIGSTOP away from a terminal comes from someone who means the program alone, and who will continue it alone. */
static void stop_likewise(pid_t pid, int signal)
{
    if (signal == SIGSTOP && !at_terminal())
        return;
    raise(SIGSTOP);
    kill(pid, SIGCONT);
}

/* False when the program has ended; *launch says how. */
static bool still_runs(struct launch *launch)
{
    int status;
    pid_t found;
    while ((found = waitpid(launch->pid, &status, WNOHANG | WUNTRACED)) > 0) {
        if (WIFSTOPPED(status)) {
            stop_likewise(launch->pid, WSTOPSIG(status));
            continue;
        }
        launch->signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
        launch->status = launch->signal ? 128 + launch->signal : WEXITSTATUS(status);
        return false;
    }
    return found == 0 || errno == EINTR;
}

static int next_signal(const struct launch *launch, const struct launch_company *company, const sigset_t *set,
                       siginfo_t *info)
{
    *info = (siginfo_t){0};
    if (!company)
        return sigwaitinfo(set, info);
    uint64_t ns = company->step(company->context, launch->pid);
    return sigtimedwait(set, info, &(struct timespec){ .tv_sec = (time_t)(ns / 1000000000u),
                                                       .tv_nsec = (long)(ns % 1000000000u) });
}

static void wait_for_end(struct launch *launch, const struct launch_company *company, const sigset_t *set)
{
    while (still_runs(launch)) {
        siginfo_t info;
        int signal = next_signal(launch, company, set, &info);
        bool by_process = info.si_code <= 0 && info.si_pid != launch->pid;
        if (signal > 0 && signal != SIGCHLD && by_process)
            kill(launch->pid, signal);
    }
}

void launch_and_wait(struct launch *launch, const char *path, char *const *argv, const struct preload *preload,
                     const struct launch_company *company)
{
    struct signals signals;
    int report[2], reason;
    *launch = (struct launch){0};
    if (pipe2(report, O_CLOEXEC) != 0) {
        launch->failed = errno;
        return;
    }
    signals_hold(&signals);
    launch->pid = fork();
    if (launch->pid == 0)
        become(path, argv, preload, &signals, report[1]);
    if (launch->pid < 0)
        launch->failed = errno;
    close(report[1]);
    if (launch->pid > 0) {
        if (read(report[0], &reason, sizeof reason) == (ssize_t)sizeof reason)
            launch->failed = reason;
        wait_for_end(launch, company, &signals.watched);
        signals_drop_pending(&signals);
    }
    close(report[0]);
    signals_restore(&signals);
}
