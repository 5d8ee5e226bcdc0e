/* SPDX-License-Identifier: MIT */
#include "cli/ask.h"

#include "base/array.h"
#include "base/fail.h"
#include "cli/ask_wake.h"
#include "cli/live.h"
#include "contract/control.h"
#include "contract/publish.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>

#define WAKE_EVERY_NS UINT64_C(20000000)
#define LOOK_EVERY_NS UINT64_C(100000000)

uint64_t ask_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static bool exchange_kind(const struct live *live, uint32_t from, uint32_t to)
{
    return __atomic_compare_exchange_n(&live->totals->request_kind, &from, to, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
}

/* When nobody answered the last request and it was taken back, its number is still open; see contract/control.h. */
static void post(struct ask *ask)
{
    struct hmk_live *totals = ask->live->totals;
    uint32_t newest = HMK_GET(totals->request_sequence), kind = HMK_GET(totals->request_kind);
    bool reopen = newest != HMK_OBSERVE(totals->answer_sequence);
    if (reopen && kind != HMK_REQUEST_NONE && kind != HMK_REQUEST_TAKEN)
        exchange_kind(ask->live, kind, HMK_REQUEST_NONE);       /* its asker was killed */
    if (reopen && HMK_GET(totals->request_kind) != HMK_REQUEST_NONE)
        return;
    memcpy(totals->request_label, ask->label, sizeof totals->request_label);
    HMK_SET(totals->request_argument, ask->argument);
    ask->sequence = reopen ? newest : newest + 1;
    if (reopen) {
        if (!exchange_kind(ask->live, HMK_REQUEST_NONE, ask->kind))
            return;
    } else {
        HMK_PUBLISH(totals->request_kind, ask->kind);
        HMK_PUBLISH(totals->request_sequence, ask->sequence);
    }
    ask->stage = ASK_POSTED;
}

bool ask_begin(struct ask *ask, const struct live *live, uint32_t kind, uint64_t argument, const char *label,
               struct fail *why)
{
    *ask = (struct ask){ .live = live, .kind = kind, .argument = argument, .begun_ns = ask_now_ns() };
    snprintf(ask->label, sizeof ask->label, "%s", label);
    if (!live->writable)
        return fail_say(why, "%s may not be written: only the owner of process %d and root may ask it", live->path,
                        (int)live->pid);
    if (flock(live->fd, LOCK_EX | LOCK_NB) != 0) {
        ask->crowded = errno == EWOULDBLOCK;
        return ask->crowded ? fail_say(why, "another heapmark is asking process %d", (int)live->pid)
                            : fail_errno(why, "cannot lock %s", live->path);
    }
    ask->locked = true;
    post(ask);
    return true;
}

static void read_answer(struct ask *ask)
{
    const struct hmk_live *totals = ask->live->totals;
    ask->status = HMK_GET(totals->answer_status);
    for (size_t i = 0; i < sizeof ask->answer / sizeof *ask->answer; i++)
        ask->answer[i] = HMK_GET(totals->answer[i]);
    ask->stage = ASK_ANSWERED;
}

enum ask_stage ask_step(struct ask *ask, uint64_t now_ns)
{
    if (ask->stage == ASK_QUEUED)
        post(ask);
    if (ask->stage != ASK_POSTED)
        return ask->stage;
    if (HMK_OBSERVE(ask->live->totals->answer_sequence) == ask->sequence) {
        read_answer(ask);
    } else if (now_ns >= ask->wake_ns && !ask_is_taken(ask)) {
        ask_wake(ask->live, ask->wakes++);
        ask->wake_ns = now_ns + WAKE_EVERY_NS;
    }
    return ask->stage;
}

bool ask_is_taken(const struct ask *ask)
{
    return ask->stage == ASK_POSTED && HMK_GET(ask->live->totals->request_kind) == HMK_REQUEST_TAKEN;
}

bool ask_withdraw(struct ask *ask)
{
    return ask->stage == ASK_QUEUED || (ask->stage == ASK_POSTED && exchange_kind(ask->live, ask->kind, HMK_REQUEST_NONE));
}

void ask_end(struct ask *ask)
{
    if (ask->stage == ASK_POSTED)
        ask_withdraw(ask);
    if (ask->locked)
        flock(ask->live->fd, LOCK_UN);
    ask->locked = false;
}

/* ---- waiting ------------------------------------------------------------------------------------ */

static void rest(uint64_t waited_ns)
{
    uint64_t ns = waited_ns / 8;
    ns = ns < 50000 ? 50000 : ns > 20000000 ? 20000000 : ns;
    nanosleep(&(struct timespec){ .tv_nsec = (long)ns }, NULL);
}

static bool begin_in_time(struct ask *ask, const struct live *live, uint32_t kind, uint64_t argument, const char *label,
                          uint64_t timeout_ns, struct fail *why)
{
    uint64_t start = ask_now_ns();
    while (!ask_begin(ask, live, kind, argument, label, why)) {
        if (!ask->crowded || ask_now_ns() - start > timeout_ns)
            return false;
        rest(ask_now_ns() - start);
    }
    return true;
}

enum outcome { OUTCOME_ANSWERED, OUTCOME_SILENT, OUTCOME_LOST };

/* A process that works on a request is waited for as long as it lives. */
static enum outcome await(struct ask *ask, uint64_t timeout_ns, struct fail *why)
{
    uint64_t start = ask_now_ns(), looked_ns = start;
    for (;;) {
        uint64_t now = ask_now_ns();
        if (ask_step(ask, now) == ASK_ANSWERED)
            return OUTCOME_ANSWERED;
        if (now - looked_ns > LOOK_EVERY_NS) {
            /* Its last act may have been the answer. */
            if (!live_still(ask->live, why))
                return ask_step(ask, now) == ASK_ANSWERED ? OUTCOME_ANSWERED : OUTCOME_LOST;
            looked_ns = now;
        }
        if (now - start > timeout_ns && !ask_is_taken(ask))
            return OUTCOME_SILENT;
        rest(now - start);
    }
}

bool ask_wait(struct ask *ask, const struct live *live, uint32_t kind, uint64_t argument, const char *label,
              const struct ask_options *options, struct fail *why)
{
    bool begun = begin_in_time(ask, live, kind, argument, label, options->timeout_ns, why);
    enum outcome outcome = begun ? await(ask, options->timeout_ns, why) : OUTCOME_LOST;
    if (outcome == OUTCOME_SILENT && options->ptrace && ask_wake_by_force(live, why))
        outcome = await(ask, options->timeout_ns, why);
    else if (outcome == OUTCOME_SILENT && options->ptrace)
        outcome = OUTCOME_LOST;
    if (outcome == OUTCOME_SILENT && !ask_withdraw(ask))
        outcome = await(ask, options->timeout_ns, why);     /* it was taken at the last moment */
    if (outcome == OUTCOME_SILENT)
        ask_wake_explain(live, why);
    ask_end(ask);
    return outcome == OUTCOME_ANSWERED;
}

/* ---- what was answered -------------------------------------------------------------------------- */

static bool say_ordinary(const struct ask *ask, const char *reason, struct fail *why)
{
    fail_say(why, "process %d could not be forked (%s): this ledger was taken beside its running threads",
             (int)ask->live->pid, reason);
    return true;
}

bool ask_exact_doubt(const struct ask *ask, uint64_t not_exact, uint64_t inside, struct fail *why)
{
    if (not_exact == HMK_EXACT_SANDBOX)
        return say_ordinary(ask, "it runs under a seccomp filter of its own, which might kill it for that", why);
    if (not_exact == EAGAIN)
        return say_ordinary(ask, "its limit on the number of processes is reached", why);
    if (not_exact == ECHILD)
        return say_ordinary(ask, "the child ended too early", why);
    if (not_exact != 0)
        return say_ordinary(ask, strerror((int)not_exact), why);
    if (inside > 0)
        fail_say(why, "%u of the threads of process %d did not leave the allocator in time: a block of each may be wrong",
                 (unsigned)inside, (int)ask->live->pid);
    return inside > 0;
}
