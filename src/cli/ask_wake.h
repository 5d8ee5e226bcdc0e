/* SPDX-License-Identifier: MIT */
#ifndef HEAPMARK_CLI_ASK_WAKE_H
#define HEAPMARK_CLI_ASK_WAKE_H

/* Waking a process that has a request waiting, by the signal of contract/control.h. */

#include <stdbool.h>

struct fail;
struct live;

/* Sends the signal to one of the threads that do not block it; `attempt` turns through them, the one that is disturbed least first.
 * Sends nothing when the process does not handle it, so that no host ever finds a signal it did not expect. */
void ask_wake(const struct live *live, unsigned attempt);
/* Every thread blocks the signal: opens the mask of one by ptrace(2) and sends it there; the handler closes the mask again.
 * False: it may not be done, or would not help. */
bool ask_wake_by_force(const struct live *live, struct fail *why);
/* Why a process that still runs did not answer. */
void ask_wake_explain(const struct live *live, struct fail *why);

#endif
