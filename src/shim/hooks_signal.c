/* SPDX-License-Identifier: MIT */
/*
 * Calls by which the host would see, replace or receive our SIGURG.  For any other signal they pass the call on; for SIGURG
 * libc does its own work on the host's own action, which is put back for the time of the call.
 *
 * All of them may be called from signal handlers, and from a child of vfork, whose actions are not ours to care for.
 */
#include "shim/control.h"

#include "freestanding/sys.h"
#include "shim/hook.h"
#include "shim/real.h"
#include "shim/shield.h"
#include "shim/start.h"

#include <errno.h>
#include <time.h>

sighandler_t bsd_signal(int number, sighandler_t handler);
sighandler_t ssignal(int number, sighandler_t handler);
sighandler_t __sysv_signal(int number, sighandler_t handler);

static bool lend(int number, uint64_t *mask)
{
    return UNLIKELY(number == SIGURG) && start_is_owner() && control_lend(mask);
}

static bool is_handler(sighandler_t handler)
{
    return handler != SIG_DFL && handler != SIG_IGN && handler != SIG_HOLD;
}

HOOK_EXPORT int sigaction(int number, const struct sigaction *restrict action, struct sigaction *restrict old)
{
    uint64_t mask;
    if (UNLIKELY(!real_init())) {
        errno = EAGAIN;
        return -1;
    }
    if (action != NULL && is_handler(action->sa_handler))
        shield_note_handler(number);
    bool lent = lend(number, &mask);
    int status = real.sigaction(number, action, old);
    if (lent)
        control_reclaim(&mask);
    return status;
}

/* Names that libc keeps for old programs only are not to be found by dlsym; the usual one does the same. */
static sighandler_t set(sighandler_t (*setter)(int, sighandler_t), sighandler_t (*usual)(int, sighandler_t), int number,
                        sighandler_t handler)
{
    uint64_t mask;
    if (setter == NULL)
        setter = usual;
    if (UNLIKELY(setter == NULL)) {
        errno = EAGAIN;
        return SIG_ERR;
    }
    if (is_handler(handler))
        shield_note_handler(number);
    bool lent = lend(number, &mask);
    sighandler_t old = setter(number, handler);
    if (lent)
        control_reclaim(&mask);
    return old;
}

HOOK_EXPORT sighandler_t signal(int number, sighandler_t handler)
{
    real_init();
    return set(real.signal, NULL, number, handler);
}

HOOK_EXPORT sighandler_t bsd_signal(int number, sighandler_t handler)
{
    real_init();
    return set(real.bsd_signal, real.signal, number, handler);
}

HOOK_EXPORT sighandler_t ssignal(int number, sighandler_t handler)
{
    real_init();
    return set(real.ssignal, real.signal, number, handler);
}

HOOK_EXPORT sighandler_t sysv_signal(int number, sighandler_t handler)
{
    real_init();
    return set(real.sysv_signal, real.__sysv_signal, number, handler);
}

HOOK_EXPORT sighandler_t __sysv_signal(int number, sighandler_t handler)
{
    real_init();
    return set(real.__sysv_signal, real.sysv_signal, number, handler);
}

HOOK_EXPORT sighandler_t sigset(int number, sighandler_t handler)
{
    real_init();
    return set(real.sigset, NULL, number, handler);
}

HOOK_EXPORT int sigignore(int number)
{
    uint64_t mask;
    if (UNLIKELY(!real_init())) {
        errno = EAGAIN;
        return -1;
    }
    bool lent = lend(number, &mask);
    int status = real.sigignore(number);
    if (lent)
        control_reclaim(&mask);
    return status;
}

HOOK_EXPORT int siginterrupt(int number, int interrupt)
{
    uint64_t mask;
    if (UNLIKELY(!real_init())) {
        errno = EAGAIN;
        return -1;
    }
    bool lent = lend(number, &mask);
    int status = real.siginterrupt(number, interrupt);
    if (lent)
        control_reclaim(&mask);
    return status;
}

/* ---- waiting for signals ------------------------------------------------------------------------ */

/* A thread that waits for all signals has SIGURG unblocked meanwhile, so a request may come to it. */

static bool awaits_ours(const sigset_t *set)
{
    return sigismember(set, SIGURG) == 1;
}

static uint64_t nanoseconds(const struct timespec *time)
{
    return (uint64_t)time->tv_sec * 1000000000u + (uint64_t)time->tv_nsec;
}

HOOK_EXPORT int sigtimedwait(const sigset_t *restrict set, siginfo_t *restrict info,
                             const struct timespec *restrict timeout)
{
    siginfo_t got;
    if (UNLIKELY(!real_init())) {
        errno = EAGAIN;
        return -1;
    }
    if (LIKELY(!awaits_ours(set)))
        return real.sigtimedwait(set, info, timeout);
    uint64_t start = timeout != NULL ? sys_monotonic_ns() : 0;
    struct timespec rest;
    const struct timespec *wait = timeout;
    for (;;) {
        int number = real.sigtimedwait(set, &got, wait);
        if (number != SIGURG || !control_take(&got)) {
            if (number > 0 && info != NULL)
                *info = got;
            return number;
        }
        if (timeout != NULL) {
            uint64_t passed = sys_monotonic_ns() - start, whole = nanoseconds(timeout);
            uint64_t left = whole > passed ? whole - passed : 0;
            rest = (struct timespec){.tv_sec = (time_t)(left / 1000000000u), .tv_nsec = (long)(left % 1000000000u)};
            wait = &rest;
        }
    }
}

HOOK_EXPORT int sigwaitinfo(const sigset_t *restrict set, siginfo_t *restrict info)
{
    if (UNLIKELY(!real_init())) {
        errno = EAGAIN;
        return -1;
    }
    return LIKELY(!awaits_ours(set)) ? real.sigwaitinfo(set, info) : sigtimedwait(set, info, NULL);
}

HOOK_EXPORT int sigwait(const sigset_t *restrict set, int *restrict number)
{
    if (UNLIKELY(!real_init()))
        return EAGAIN;
    if (LIKELY(!awaits_ours(set)))
        return real.sigwait(set, number);
    int got;
    do
        got = sigtimedwait(set, NULL, NULL);
    while (got < 0 && errno == EINTR);
    if (got < 0)
        return errno;
    *number = got;
    return 0;
}
