/* SPDX-License-Identifier: MIT */
#ifndef HEAPMARK_CONTRACT_CONTROL_H
#define HEAPMARK_CONTRACT_CONTROL_H

/*
 * Requests to a live process.  The asker maps the recording, waits until request_sequence ==
 * answer_sequence, writes kind, argument and label, stores (release) request_sequence + 1 and sends
 * live.control_signal to a thread of the process that does not block it.  The process does the work, writes answer[]
 * and answer_status and stores (release) answer_sequence = request_sequence.  No answer: the asker says why.
 */

#include "format.h"

enum hmk_request_kind {
    HMK_REQUEST_MARK = 1,       /* label */
    HMK_REQUEST_SNAPSHOT = 2,   /* label; census of kind REQUEST. answer[0]: record of HMK_CENSUSES */
    HMK_REQUEST_TRIM = 3,       /* argument 1: forecast only. answer: see enum hmk_trim_answer */
    HMK_REQUEST_EXACT = 4       /* argument: as SNAPSHOT, from a forked child */
};

enum hmk_trim_answer {
    HMK_TRIM_RSS_BEFORE = 0, HMK_TRIM_RSS_AFTER = 1, HMK_TRIM_FORECAST = 2, HMK_TRIM_RETURNED = 3,
    HMK_TRIM_NS = 4, HMK_TRIM_CENSUS_BEFORE = 5, HMK_TRIM_CENSUS_AFTER = 6, HMK_TRIM_LEVERS = 7
};

enum hmk_answer_status {
    HMK_ANSWER_DONE = 0,
    HMK_ANSWER_UNSUPPORTED = 1,
    HMK_ANSWER_FAILED = 2
};

#endif
