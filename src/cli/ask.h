/* SPDX-License-Identifier: MIT */
#ifndef HEAPMARK_CLI_ASK_H
#define HEAPMARK_CLI_ASK_H

/*
 * Asking a live process to do something (contract/control.h), without ever waiting inside these functions but for
 * ask_wait and a few microseconds of system calls:
 *
 *     if (ask_begin(&ask, &live, HMK_REQUEST_TRIM, 0, "", &why))
 *         while (ask_step(&ask, now) != ASK_ANSWERED) ...
 *     ask_end(&ask);
 *
 * The process is woken by a signal to the thread that it disturbs least, and again, at another thread, fifty times a
 * second: a thread may be met inside the allocator again and again.  One asker at a time: the lock on the file is held from ask_begin to ask_end.
 */

#include <stdbool.h>
#include <stdint.h>

struct fail;
struct live;

enum ask_stage {
    ASK_QUEUED,             /* the process is still at work on what another asker wanted */
    ASK_POSTED,
    ASK_ANSWERED
};

struct ask {
    const struct live *live;
    enum ask_stage stage;
    uint32_t kind, sequence;
    uint64_t argument;
    char label[64];
    uint64_t begun_ns, wake_ns;     /* wake_ns: when the process is to be woken next */
    unsigned wakes;
    bool locked, crowded;           /* crowded: another asker has the lock */
    uint32_t status;                /* enum hmk_answer_status, once answered */
    uint64_t answer[8];
};

/* False: nothing was asked, since another asker has the lock or the file may not be written; call ask_end in any case. */
bool ask_begin(struct ask *ask, const struct live *live, uint32_t kind, uint64_t argument, const char *label,
               struct fail *why);
enum ask_stage ask_step(struct ask *ask, uint64_t now_ns);
/* The process is at work on it. */
bool ask_is_taken(const struct ask *ask);
/* Takes the request back, so that it is not served hours later; false: the process is at work on it. */
bool ask_withdraw(struct ask *ask);
void ask_end(struct ask *ask);

struct ask_options {
    uint64_t timeout_ns;            /* until the process takes the request; the work itself may take longer */
    bool ptrace;                    /* a thread that blocks the signal may be made to take it */
};
#define ASK_TIMEOUT_NS UINT64_C(2000000000)

/* The whole of it.  False: no answer; *why says why and, when --ptrace could help, so. */
bool ask_wait(struct ask *ask, const struct live *live, uint32_t kind, uint64_t argument, const char *label,
              const struct ask_options *options, struct fail *why);

/* What a process answers that was asked for an exact ledger (enum hmk_exact_answer).  True: it is not wholly exact, and *why says
 * why. */
bool ask_exact_doubt(const struct ask *ask, uint64_t not_exact, uint64_t inside, struct fail *why);

uint64_t ask_now_ns(void);          /* CLOCK_MONOTONIC */

#endif
