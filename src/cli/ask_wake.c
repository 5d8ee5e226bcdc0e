/* SPDX-License-Identifier: MIT */
#include "cli/ask_wake.h"

#include "base/array.h"
#include "base/fail.h"
#include "cli/live.h"
#include "cli/process.h"
#include "contract/control.h"
#include "contract/publish.h"
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define BIT(number) (UINT64_C(1) << ((number) - 1))

/* What a handled signal does to a thread, by where it waits in the kernel; see signal(7). */
enum disturbance {
    DISTURBS_NOTHING,           /* it runs, or its system call is restarted */
    DISTURBS_EINTR,             /* its system call fails with EINTR whatever the flags of the handler */
    DISTURBS_ENDS_PAUSE         /* it waits for any signal at all */
};

static enum disturbance disturbance(pid_t pid, pid_t tid)
{
    static const char *const interrupted[] = { "ep_poll", "poll_schedule_timeout", "do_poll", "do_select", "do_sys_poll",
                                               "hrtimer_nanosleep", "do_nanosleep", "do_semtimedop", "do_msgrcv" };
    static const char *const paused[] = { "pause", "sigsuspend", "do_sigtimedwait" };
    char function[128];
    process_waits_in(pid, tid, function, sizeof function);
    for (size_t i = 0; i < sizeof paused / sizeof *paused; i++)
        if (strstr(function, paused[i]))
            return DISTURBS_ENDS_PAUSE;
    for (size_t i = 0; i < sizeof interrupted / sizeof *interrupted; i++)
        if (strstr(function, interrupted[i]))
            return DISTURBS_EINTR;
    return DISTURBS_NOTHING;
}

struct candidate {
    pid_t tid;
    bool open;                      /* does not block the signal */
    enum disturbance disturbance;
};

struct scan {
    pid_t pid;
    ARRAY_OF(struct candidate) threads;     /* open ones first, those least disturbed before others */
    unsigned open, stopped;
    bool handled;                   /* the process has a handler for the signal */
    pid_t tracer;
};

static bool scan_thread(pid_t tid, void *context)
{
    struct scan *scan = context;
    struct process_facts facts;
    if (!process_facts(scan->pid, tid, &facts) || facts.state == 'Z' || facts.state == 'X')
        return true;
    bool open = !(facts.blocked & BIT(SIGURG));
    scan->open += open;
    scan->stopped += facts.state == 'T' || facts.state == 't';
    scan->handled = (facts.caught & BIT(SIGURG)) != 0;
    if (facts.tracer)
        scan->tracer = facts.tracer;
    array_push(&scan->threads, (struct candidate){ tid, open, disturbance(scan->pid, tid) });
    return true;
}

static int by_disturbance(const void *a, const void *b)
{
    const struct candidate *first = a, *second = b;
    if (first->open != second->open)
        return first->open ? -1 : 1;
    if (first->disturbance != second->disturbance)
        return first->disturbance < second->disturbance ? -1 : 1;
    return (first->tid > second->tid) - (first->tid < second->tid);
}

static struct scan scan_threads(const struct live *live)
{
    struct scan scan = { .pid = live->pid };
    process_each_thread(live->pid, scan_thread, &scan);
    array_sort(&scan.threads, by_disturbance);
    return scan;
}

static bool listens(const struct live *live, const struct scan *scan)
{
    return scan->handled && HMK_GET(live->totals->control_signal) == SIGURG;
}

static bool send(pid_t pid, pid_t tid, int magic)
{
    siginfo_t info;
    memset(&info, 0, sizeof info);
    info.si_signo = SIGURG;
    info.si_code = SI_QUEUE;
    info.si_pid = getpid();
    info.si_uid = getuid();
    info.si_value.sival_int = magic;
    return syscall(SYS_rt_tgsigqueueinfo, pid, tid, SIGURG, &info) == 0;
}

/* For half a second only those that are disturbed as little as the first. */
static unsigned candidates(const struct scan *scan, unsigned attempt)
{
    unsigned count = 1;
    while (count < scan->open && (attempt > 25 || scan->threads.at[count].disturbance == scan->threads.at[0].disturbance))
        count++;
    return count;
}

void ask_wake(const struct live *live, unsigned attempt)
{
    struct fail unused;
    struct scan scan = scan_threads(live);
    if (listens(live, &scan) && scan.open > 0 && live_still(live, &unused))
        send(live->pid, scan.threads.at[attempt % candidates(&scan, attempt)].tid, HMK_SIGNAL_MAGIC);
    array_free(&scan.threads);
}

/* ---- by force ----------------------------------------------------------------------------------- */

/* A thread in an uninterruptible wait (vfork, a dead file server) does not stop. */
static bool wait_for_stop(pid_t tid, int *status)
{
    for (unsigned tries = 0; tries < 1000; tries++) {
        pid_t found = waitpid(tid, status, __WALL | WNOHANG);
        if (found == tid)
            return WIFSTOPPED(*status);
        if (found < 0 && errno != EINTR)
            return false;
        nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
    }
    errno = ETIMEDOUT;
    return false;
}

/* The thread is stopped by us.  Its signal is queued before the mask is opened, so that it goes before any that the host may be
 * keeping back for a signalfd or sigwait; when the thread already has one of those, ours would be dropped and that one
 * delivered in its place, so nothing is done.  Should we be killed anywhere in between, the thread goes on unharmed. */
static bool send_and_open_mask(const struct live *live, pid_t tid)
{
    struct process_facts facts;
    uint64_t mask;
    if (!process_facts(live->pid, tid, &facts) || (facts.pending & BIT(SIGURG))) {
        errno = EBUSY;
        return false;
    }
    if (ptrace(PTRACE_GETSIGMASK, tid, (void *)sizeof mask, &mask) != 0)
        return false;
    bool blocked = (mask & BIT(SIGURG)) != 0;
    uint64_t open = mask & ~BIT(SIGURG);
    return send(live->pid, tid, blocked ? HMK_SIGNAL_MAGIC_UNMASKED : HMK_SIGNAL_MAGIC) &&
           (!blocked || ptrace(PTRACE_SETSIGMASK, tid, (void *)sizeof open, &open) == 0);
}

static bool force_thread(const struct live *live, pid_t tid)
{
    int status;
    if (ptrace(PTRACE_SEIZE, tid, NULL, NULL) != 0)
        return false;
    bool stopped = ptrace(PTRACE_INTERRUPT, tid, NULL, NULL) == 0 && wait_for_stop(tid, &status);
    bool sent = stopped && send_and_open_mask(live, tid);
    int kept = errno;
    if (stopped) {
        /* A signal of its own that arrived meanwhile is passed on. */
        int arrived = status >> 16 == 0 ? WSTOPSIG(status) : 0;
        ptrace(PTRACE_DETACH, tid, NULL, (void *)(intptr_t)arrived);
    }
    errno = kept;
    return sent;
}

bool ask_wake_by_force(const struct live *live, struct fail *why)
{
    struct scan scan = scan_threads(live);
    bool sent = false;
    ask_wake_explain(live, why);
    if (!listens(live, &scan) || scan.stopped > 0) {
        fail_say(why, "%s; --ptrace cannot help there", why->text);
    } else {
        for (size_t i = 0; i < scan.threads.count && !sent; i++)
            sent = force_thread(live, scan.threads.at[i].tid);
        if (!sent)
            fail_errno(why, "cannot trace process %d", (int)live->pid);
    }
    array_free(&scan.threads);
    return sent;
}

/* ---- why not ------------------------------------------------------------------------------------ */

void ask_wake_explain(const struct live *live, struct fail *why)
{
    struct scan scan = scan_threads(live);
    int pid = (int)live->pid;
    static const char retry[] = "the request was taken back";
    if (scan.threads.count == 0)
        fail_say(why, "process %d has ended", pid);
    else if (scan.tracer != 0 && scan.stopped > 0)
        fail_say(why, "process %d is held by a debugger (process %d)", pid, (int)scan.tracer);
    else if (scan.stopped == scan.threads.count)
        fail_say(why, "process %d is stopped; continue it (kill -CONT %d) and ask again", pid, pid);
    else if (!listens(live, &scan))
        fail_say(why, "process %d does not listen to SIGURG (it was started with signal=0, or took the signal for itself) and "
                      "allocated too little meanwhile to notice the request; %s", pid, retry);
    else if (scan.open == 0)
        fail_say(why, "every thread of process %d blocks SIGURG, and none allocated enough meanwhile to notice the request; %s; "
                      "--ptrace can reach it", pid, retry);
    else
        fail_say(why, "process %d did not come to a safe point in time: its threads are inside the allocator, fork, or a system "
                      "call that no signal interrupts; %s; --timeout waits longer", pid, retry);
    array_free(&scan.threads);
}
