/* SPDX-License-Identifier: MIT */
#include "shim/control.h"

#include "freestanding/sys.h"
#include "freestanding/text.h"
#include "shim/real.h"
#include "shim/recorder.h"
#include "shim/recording.h"
#include "shim/spin.h"
#include "shim/survey.h"
#include "shim/thread.h"
#include "shim/timeline.h"

#include <errno.h>
#include <signal.h>

static struct sigaction host_action;
static struct spin serving;

/* ---- the work ----------------------------------------------------------------------------------- */

static void do_trim(struct thread *thread, bool forecast_only, struct control_answer *answer)
{
    uint64_t *value = answer->value;
    struct survey_result before = {0}, after = {0};
    survey_take(thread, HMK_CENSUS_TRIM_BEFORE, "", &before);
    value[HMK_TRIM_CENSUS_BEFORE] = before.record;
    value[HMK_TRIM_FORECAST] = before.forecast_bytes;
    value[HMK_TRIM_LEVERS] = survey_levers();
    value[HMK_TRIM_RSS_BEFORE] = value[HMK_TRIM_RSS_AFTER] = timeline_rss();
    if (forecast_only)
        return;
    uint64_t start = sys_monotonic_ns();
    value[HMK_TRIM_RSS_BEFORE] = timeline_rss();
    if (!survey_trim()) {
        answer->status = HMK_ANSWER_UNSUPPORTED;
        return;
    }
    value[HMK_TRIM_RSS_AFTER] = timeline_rss();
    value[HMK_TRIM_NS] = sys_monotonic_ns() - start;
    value[HMK_TRIM_RETURNED] = value[HMK_TRIM_RSS_BEFORE] > value[HMK_TRIM_RSS_AFTER]
                                   ? value[HMK_TRIM_RSS_BEFORE] - value[HMK_TRIM_RSS_AFTER]
                                   : 0;
    survey_take(thread, HMK_CENSUS_TRIM_AFTER, "", &after);
    value[HMK_TRIM_CENSUS_AFTER] = after.record;
    recording_event(HMK_EVENT_TRIM, value[HMK_TRIM_RSS_BEFORE], value[HMK_TRIM_RSS_AFTER], value[HMK_TRIM_FORECAST],
                    value[HMK_TRIM_NS], NULL);
}

void control_perform(struct thread *thread, uint32_t kind, uint64_t argument, const char *label,
                     struct control_answer *answer)
{
    *answer = (struct control_answer){.status = HMK_ANSWER_DONE};
    struct survey_result result = {0};
    recorder_flush(thread);
    timeline_now();
    switch (kind) {
    case HMK_REQUEST_MARK:
        recording_event(HMK_EVENT_MARK, 0, 0, 0, 0, label);
        survey_take(thread, HMK_CENSUS_MARK, label, &result);
        answer->value[0] = result.record;
        break;
    case HMK_REQUEST_SNAPSHOT:
        if (!survey_take(thread, HMK_CENSUS_REQUEST, label, &result))
            answer->status = HMK_ANSWER_FAILED;
        answer->value[0] = result.record;
        break;
    case HMK_REQUEST_AT_EXIT:
        survey_take(thread, HMK_CENSUS_EXIT, "", &result);
        break;
    case HMK_REQUEST_TRIM:
        do_trim(thread, argument == 1, answer);
        break;
    default:
        answer->status = HMK_ANSWER_UNSUPPORTED;
    }
}

/* ---- requests of another process ---------------------------------------------------------------- */

static bool is_waiting(void)
{
    return HMK_OBSERVE(recording_live->request_sequence) != HMK_GET(recording_live->answer_sequence);
}

/* The caller is outside the allocator and marked busy.  One thread serves, others that were woken leave. */
static void serve_request(struct thread *thread)
{
    struct hmk_live *live = recording_live;
    if (!is_waiting() || !spin_try(&serving))
        return;
    uint32_t sequence = HMK_OBSERVE(live->request_sequence);
    if (sequence != live->answer_sequence) {
        char label[sizeof live->request_label + 1];
        __builtin_memcpy(label, live->request_label, sizeof live->request_label);
        label[sizeof live->request_label] = 0;
        struct control_answer answer;
        control_perform(thread, HMK_GET(live->request_kind), HMK_GET(live->request_argument), label, &answer);
        for (unsigned i = 0; i < 8; i++)
            HMK_SET(live->answer[i], answer.value[i]);
        HMK_SET(live->answer_status, answer.status);
        HMK_PUBLISH(live->answer_sequence, sequence);
    }
    spin_unlock(&serving);
}

void control_serve(struct thread *thread)
{
    if (thread->no_serve || thread->busy)
        return;
    thread->pending = 0;
    thread->busy = 1;
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    int kept = errno;
    serve_request(thread);
    errno = kept;
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    thread->busy = 0;
}

void control_tick(struct thread *thread)
{
    if (__builtin_expect(is_waiting(), 0))
        thread->pending = 1;
}

static void chain(int number, siginfo_t *info, void *context)
{
    if (host_action.sa_flags & SA_SIGINFO)
        host_action.sa_sigaction(number, info, context);
    else if (host_action.sa_handler != SIG_DFL && host_action.sa_handler != SIG_IGN)
        host_action.sa_handler(number);
}

static void on_signal(int number, siginfo_t *info, void *context)
{
    int kept = errno;
    if (*thread_gate == 1 && is_waiting()) {
        struct thread *thread = thread_current();
        if (thread != NULL && (thread->busy || thread->no_serve))
            thread->pending = 1;
        else if (thread != NULL)
            control_serve(thread);
    }
    if (info->si_code != SI_QUEUE || info->si_value.sival_int != HMK_SIGNAL_MAGIC)
        chain(number, info, context);
    errno = kept;
}

void control_init(bool want_signal)
{
    if (!want_signal)
        return;
    struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_RESTART | SA_ONSTACK | SA_SIGINFO};
    sigemptyset(&action.sa_mask);
    if (sigaction(SIGURG, &action, &host_action) == 0)
        HMK_SET(recording_live->control_signal, SIGURG);
}

void control_after_fork(void)
{
    spin_reset(&serving);
    if (host_action.sa_flags != 0 || recording_live->control_signal == 0) {
        struct sigaction now;
        if (sigaction(SIGURG, NULL, &now) == 0 && (now.sa_flags & SA_SIGINFO) && now.sa_sigaction == on_signal)
            HMK_SET(recording_live->control_signal, SIGURG);
    }
}
