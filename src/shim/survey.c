/* SPDX-License-Identifier: MIT */
#include "shim/survey.h"

#include "contract/control.h"
#include "shim/real.h"
#include "shim/recording.h"
#include "shim/thread.h"

bool survey_take(struct thread *thread, enum hmk_census_kind kind, const char *label, struct survey_result *result)
{
    (void)thread;
    (void)kind;
    (void)label;
    (void)result;
    return false;
}

bool survey_trim(void)
{
    return real.malloc_trim != NULL && (real.malloc_trim(0), true);
}

uint64_t survey_levers(void)
{
    return real.malloc_trim != NULL ? HMK_LEVER_GLIBC : 0;
}

void survey_after_fork(void)
{
}
