/* SPDX-License-Identifier: MIT */
#include "shim/control.h"

#include "freestanding/on_stack.h"
#include "freestanding/sys.h"
#include "shim/lever.h"
#include "shim/real.h"
#include "shim/recorder.h"
#include "shim/recording.h"
#include "shim/sampling.h"
#include "shim/spin.h"
#include "shim/survey.h"
#include "shim/thread.h"
#include "shim/timeline.h"
#include "shim/unwind.h"

#include <errno.h>
#include <signal.h>

#define STACK_BYTES (256u * 1024)
static unsigned char *stack;            /* NULL: the work has to do with the stack it is called on */
static struct spin serving;

/* ---- the work ----------------------------------------------------------------------------------- */

static void do_trim(struct thread *thread, uint64_t how, struct control_answer *answer)
{
    uint64_t *value = answer->value;
    struct survey_result before = {0}, after = {0};
    if (how == HMK_TRIM_DRY_EXACT)
        survey_take_exact(thread, HMK_CENSUS_TRIM_BEFORE, "", &before);
    else if (how != HMK_TRIM_PLAIN)
        survey_take(thread, HMK_CENSUS_TRIM_BEFORE, "", &before);
    value[HMK_TRIM_CENSUS_BEFORE] = before.record;
    value[HMK_TRIM_FORECAST] = before.forecast_bytes;
    value[HMK_TRIM_LEVERS] = lever_found();
    value[HMK_TRIM_RSS_BEFORE] = value[HMK_TRIM_RSS_AFTER] = timeline_rss();
    if (how == HMK_TRIM_DRY_EXACT) {
        value[HMK_TRIM_NOT_EXACT] = (uint64_t)before.exact_error;
        value[HMK_TRIM_INSIDE] = before.exact_inside;
    }
    if (how == HMK_TRIM_DRY || how == HMK_TRIM_DRY_EXACT)
        return;
    uint64_t start = sys_monotonic_ns();
    value[HMK_TRIM_RSS_BEFORE] = timeline_rss();
    if (!lever_pull()) {
        answer->status = HMK_ANSWER_UNSUPPORTED;
        return;
    }
    value[HMK_TRIM_RSS_AFTER] = timeline_rss();
    value[HMK_TRIM_NS] = sys_monotonic_ns() - start;
    value[HMK_TRIM_RETURNED] = value[HMK_TRIM_RSS_BEFORE] > value[HMK_TRIM_RSS_AFTER]
                                   ? value[HMK_TRIM_RSS_BEFORE] - value[HMK_TRIM_RSS_AFTER]
                                   : 0;
    if (how != HMK_TRIM_PLAIN)
        survey_take(thread, HMK_CENSUS_TRIM_AFTER, "", &after);
    value[HMK_TRIM_CENSUS_AFTER] = after.record;
    recording_event(HMK_EVENT_TRIM, value[HMK_TRIM_RSS_BEFORE], value[HMK_TRIM_RSS_AFTER], value[HMK_TRIM_FORECAST],
                    value[HMK_TRIM_NS], NULL);
}

#define JOB_WATCH UINT32_MAX    /* our own: looks whether a census is due */
struct job {
    struct thread *thread;
    uint32_t kind;
    uint64_t argument;
    const char *label;
    struct control_answer *answer;
};

static void perform(void *argument)
{
    const struct job *job = argument;
    struct control_answer *answer = job->answer;
    struct survey_result result = {0};
    recorder_flush(job->thread);
    if (job->kind == JOB_WATCH) {
        survey_watch();
        return;
    }
    timeline_now();
    switch (job->kind) {
    case HMK_REQUEST_MARK:
        recording_event(HMK_EVENT_MARK, 0, 0, 0, 0, job->label);
        survey_take(job->thread, HMK_CENSUS_MARK, job->label, &result);
        answer->value[0] = result.record;
        break;
    case HMK_REQUEST_SNAPSHOT:
        if (!survey_take(job->thread, HMK_CENSUS_REQUEST, job->label, &result))
            answer->status = HMK_ANSWER_FAILED;
        answer->value[0] = result.record;
        break;
    case HMK_REQUEST_EXACT:
        if (!survey_take_exact(job->thread, HMK_CENSUS_REQUEST, job->label, &result))
            answer->status = HMK_ANSWER_FAILED;
        answer->value[HMK_EXACT_RECORD] = result.record;
        answer->value[HMK_EXACT_NOT] = (uint64_t)result.exact_error;
        answer->value[HMK_EXACT_INSIDE] = result.exact_inside;
        break;
    case HMK_REQUEST_AT_EXIT:
        survey_take(job->thread, HMK_CENSUS_EXIT, "", &result);
        break;
    case HMK_REQUEST_TRIM:
        do_trim(job->thread, job->argument, answer);
        timeline_now();     /* an idle process would show the old value until its next event */
        break;
    default:
        answer->status = HMK_ANSWER_UNSUPPORTED;
    }
}

/* Holds `serving`; signals are blocked. */
static void run_apart(void (*work)(void *argument), void *argument)
{
    if (stack != NULL)
        on_stack(stack + STACK_BYTES, work, argument);
    else
        work(argument);
}

static void perform_apart(struct job *job)
{
    *job->answer = (struct control_answer){.status = HMK_ANSWER_DONE};
    run_apart(perform, job);
}

void control_perform(struct thread *thread, uint32_t kind, uint64_t argument, const char *label,
                     struct control_answer *answer)
{
    struct job job = {thread, kind, argument, label, answer};
    uintptr_t held = thread->busy;
    spin_lock(&serving);
    thread->busy = THREAD_OWN_WORK;
    perform_apart(&job);
    thread->busy = held;
    spin_unlock(&serving);
}

/* ---- requests of another process ---------------------------------------------------------------- */

static bool is_waiting(void)
{
    return HMK_OBSERVE(recording_live->request_sequence) != HMK_GET(recording_live->answer_sequence);
}

static bool asks_for_trim(void)
{
    const struct hmk_live *live = recording_live;
    uint64_t how = HMK_GET(live->request_argument);
    return HMK_OBSERVE(live->request_kind) == HMK_REQUEST_TRIM && how != HMK_TRIM_DRY && how != HMK_TRIM_DRY_EXACT;
}

struct look {
    struct unwind_start start;
    bool clear;
};

static void look_at_lever(void *argument)
{
    struct look *look = argument;
    look->clear = lever_is_clear(&look->start);
}

/* Holds `serving`. */
static bool may_serve(const struct unwind_start *here)
{
    struct look look = {*here, false};
    if (!asks_for_trim())
        return true;
    run_apart(look_at_lever, &look);
    return look.clear;
}

static void serve_one(struct thread *thread, uint32_t sequence)
{
    struct hmk_live *live = recording_live;
    struct control_answer answer = {.status = HMK_ANSWER_WITHDRAWN};
    uint32_t kind = __atomic_exchange_n(&live->request_kind, HMK_REQUEST_TAKEN, __ATOMIC_ACQ_REL);
    if (kind != HMK_REQUEST_NONE) {
        char label[sizeof live->request_label + 1];
        __builtin_memcpy(label, live->request_label, sizeof live->request_label);
        label[sizeof live->request_label] = 0;
        perform_apart(&(struct job){thread, kind, HMK_GET(live->request_argument), label, &answer});
    }
    for (unsigned i = 0; i < 8; i++)
        HMK_SET(live->answer[i], answer.value[i]);
    HMK_SET(live->answer_status, answer.status);
    HMK_PUBLISH(live->answer_sequence, sequence);
}

__attribute__((noinline)) void control_serve(struct thread *thread)
{
    if (thread->no_serve || thread->busy || sampling_line.passing || *thread_gate != 1)
        return;
    int kept = errno;
    uint64_t mask;
    sys_block_signals(&mask);
    uint32_t pending = thread->pending;
    thread->pending = 0;
    thread->busy = THREAD_OWN_WORK;
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    /* One thread serves, others that were woken leave; it looks again in case the next request found it still serving. */
    struct unwind_start here = unwind_start_here();
    bool clear = true;
    while (clear && is_waiting() && spin_try(&serving)) {
        uint32_t sequence = HMK_OBSERVE(recording_live->request_sequence);
        clear = may_serve(&here);
        if (!clear)
            thread->pending |= THREAD_PENDING_REQUEST;
        else if (sequence != recording_live->answer_sequence)
            serve_one(thread, sequence);
        spin_unlock(&serving);
    }
    if ((pending & THREAD_PENDING_WATCH) && spin_try(&serving)) {
        struct control_answer unused;
        perform_apart(&(struct job){thread, JOB_WATCH, 0, "", &unused});
        spin_unlock(&serving);
    }
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    thread->busy = 0;
    sys_restore_signals(&mask);
    errno = kept;
}

/* Of a signal handler, or of a thread that waits for signals.  A child of vfork runs in our memory, but is not us. */
static void serve_interrupted(void)
{
    if (*thread_gate != 1 || !is_waiting() || (uint32_t)sys_getpid() != recording_header->pid)
        return;
    struct thread *thread = thread_of_handler();
    /* A thread that was made by clone without a place for thread-local variables would use its maker's. */
    if (thread == NULL || thread->tid != sys_gettid())
        return;
    if (thread->busy || thread->no_serve || sampling_line.passing)
        thread->pending |= THREAD_PENDING_REQUEST;
    else
        control_serve(thread);
}

/* ---- the signal --------------------------------------------------------------------------------- */

/* Held with all signals blocked, so a handler may wait for it. */
static struct spin lending;
static struct sigaction host_action;    /* what the host believes to have installed */
static bool installed;

static bool is_request(const siginfo_t *info)
{
    return info->si_signo == SIGURG && info->si_code == SI_QUEUE &&
           (info->si_value.sival_int == HMK_SIGNAL_MAGIC || info->si_value.sival_int == HMK_SIGNAL_MAGIC_UNMASKED);
}

static bool is_handler(const struct sigaction *action)
{
    return (action->sa_flags & SA_SIGINFO) || (action->sa_handler != SIG_DFL && action->sa_handler != SIG_IGN);
}

static void chain(int number, siginfo_t *info, void *context)
{
    uint64_t mask;
    sys_block_signals(&mask);
    spin_lock(&lending);
    struct sigaction host = host_action;
    if (host.sa_flags & (int)SA_RESETHAND)
        host_action = (struct sigaction){.sa_handler = SIG_DFL};
    spin_unlock(&lending);
    sys_restore_signals(&mask);
    if (host.sa_flags & SA_SIGINFO)
        host.sa_sigaction(number, info, context);
    else if (is_handler(&host))
        host.sa_handler(number);
}

static void on_signal(int number, siginfo_t *info, void *context)
{
    int kept = errno;
    if (!is_request(info)) {
        chain(number, info, context);
        errno = kept;
        return;
    }
    serve_interrupted();
    if (info->si_value.sival_int == HMK_SIGNAL_MAGIC_UNMASKED)
        sigaddset(&((ucontext_t *)context)->uc_sigmask, number);
    errno = kept;
}

bool control_take(const siginfo_t *info)
{
    if (!is_request(info))
        return false;
    int kept = errno;
    serve_interrupted();
    errno = kept;
    return true;
}

static bool is_ours(const struct sigaction *action)
{
    return (action->sa_flags & SA_SIGINFO) && action->sa_sigaction == on_signal;
}

/* In front of whatever the host has now, with the flags that its handler counts on. */
static void install(void)
{
    struct sigaction now, ours = {.sa_sigaction = on_signal, .sa_flags = SA_RESTART | SA_ONSTACK | SA_SIGINFO};
    if (real.sigaction(SIGURG, NULL, &now) != 0)
        return;
    if (!is_ours(&now))
        host_action = now;
    sigemptyset(&ours.sa_mask);
    if (is_handler(&host_action)) {
        ours.sa_mask = host_action.sa_mask;
        ours.sa_flags = SA_SIGINFO | (host_action.sa_flags & (SA_RESTART | SA_ONSTACK | SA_NODEFER));
    }
    installed = real.sigaction(SIGURG, &ours, NULL) == 0;
    HMK_SET(recording_live->control_signal, installed ? SIGURG : 0);
}

bool control_lend(uint64_t *mask)
{
    struct sigaction now;
    if (!installed)
        return false;
    sys_block_signals(mask);
    spin_lock(&lending);
    if (real.sigaction(SIGURG, NULL, &now) == 0 && is_ours(&now))
        real.sigaction(SIGURG, &host_action, NULL);
    return true;
}

void control_reclaim(const uint64_t *mask)
{
    int kept = errno;
    install();
    errno = kept;
    spin_unlock(&lending);
    sys_restore_signals(mask);
}

void control_tick(struct thread *thread)
{
    struct sigaction now;
    if (__builtin_expect(is_waiting(), 0))
        thread->pending |= THREAD_PENDING_REQUEST;
    if (installed)
        HMK_SET(recording_live->control_signal, real.sigaction(SIGURG, NULL, &now) == 0 && is_ours(&now) ? SIGURG : 0);
}

void control_init(bool want_signal)
{
    stack = sys_map_anonymous(STACK_BYTES);
    thread_guard_forks();
    if (want_signal)
        install();
}

void control_after_fork(void)
{
    spin_reset(&serving);
    spin_reset(&lending);
    if (installed)
        install();
}
