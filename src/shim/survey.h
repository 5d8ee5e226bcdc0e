/* SPDX-License-Identifier: MIT */
#ifndef HEAPMARK_SHIM_SURVEY_H
#define HEAPMARK_SHIM_SURVEY_H

/* A census written into the recording: joins src/census with the recorder, the mappings and the modules. */

#include "contract/format.h"
#include <stdbool.h>
#include <stdint.h>

struct thread;

struct survey_result {
    uint64_t record;            /* of HMK_CENSUSES */
    uint64_t forecast_bytes;    /* the best forecast of malloc_trim(0) there is */
};

/* The calling thread is marked busy and outside the allocator.  False: no census could be taken or stored. */
bool survey_take(struct thread *thread, enum hmk_census_kind kind, const char *label, struct survey_result *result);
/* Gives free memory back: malloc_trim(0) and the levers of other allocators in the process.  False: there is none. */
bool survey_trim(void);
uint64_t survey_levers(void);   /* enum hmk_lever bits found in the process */
void survey_after_fork(void);

#endif
