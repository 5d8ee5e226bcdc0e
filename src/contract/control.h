/* SPDX-License-Identifier: MIT */
#ifndef HEAPMARK_CONTRACT_CONTROL_H
#define HEAPMARK_CONTRACT_CONTROL_H

/*
 * Requests to a live process.  The asker maps the recording and keeps other askers out (flock on the file).
 *
 *   asker    waits until request_sequence == answer_sequence; writes argument and label, stores request_kind (release),
 *            then request_sequence + 1 (release), and wakes the process: HMK_SIGNAL_MAGIC by live.control_signal, to a
 *            thread that does not block it.  Without the signal the process sees the request at its next sample.
 *   process  takes the request by exchanging request_kind for HMK_REQUEST_TAKEN, does the work, writes answer[] and
 *            answer_status and stores (release) answer_sequence = request_sequence.
 *   asker    who waited long enough takes the request back: kind for HMK_REQUEST_NONE by compare-and-exchange, which fails
 *            when the process is at work.  The process will some day answer HMK_ANSWER_WITHDRAWN; until then the
 *            sequences differ, and the next request goes in as argument, label, and compare-and-exchange of
 *            HMK_REQUEST_NONE for its kind.
 */

#include "format.h"

enum hmk_request_kind {
    HMK_REQUEST_NONE = 0,       /* taken back */
    HMK_REQUEST_MARK = 1,       /* label */
    HMK_REQUEST_SNAPSHOT = 2,   /* label; census of kind REQUEST. answer[0]: record of HMK_CENSUSES */
    HMK_REQUEST_TRIM = 3,       /* argument: enum hmk_trim_argument. answer: see enum hmk_trim_answer */
    HMK_REQUEST_EXACT = 4,      /* as SNAPSHOT, from a forked child where that can be. answer: see enum hmk_exact_answer */
    HMK_REQUEST_AT_EXIT = 5,    /* the process's own census on its way out */
    HMK_REQUEST_TAKEN = 255     /* the process is at work on it, or has answered */
};

/* si_value of the waking signal (SI_QUEUE): tells it from one that is meant for the host. */
#define HMK_SIGNAL_MAGIC 0x686d6b21
/* The same to a thread whose signal mask was opened for it from outside (ptrace): the handler closes it again. */
#define HMK_SIGNAL_MAGIC_UNMASKED 0x686d6b22

/* Ways to give memory back that the process has. */
enum hmk_lever {
    HMK_LEVER_GLIBC = 1u << 0,      /* malloc_trim */
    HMK_LEVER_JEMALLOC = 1u << 1,
    HMK_LEVER_TCMALLOC = 1u << 2,
    HMK_LEVER_MIMALLOC = 1u << 3
};

enum hmk_trim_argument {
    HMK_TRIM_FULL = 0,          /* a census before and after */
    HMK_TRIM_DRY = 1,           /* the forecast only */
    HMK_TRIM_PLAIN = 2,         /* no census: for those who trim often */
    HMK_TRIM_DRY_EXACT = 3      /* the forecast only, from a forked child where that can be */
};

enum hmk_trim_answer {
    HMK_TRIM_RSS_BEFORE = 0, HMK_TRIM_RSS_AFTER = 1, HMK_TRIM_FORECAST = 2, HMK_TRIM_RETURNED = 3,
    HMK_TRIM_NS = 4, HMK_TRIM_CENSUS_BEFORE = 5, HMK_TRIM_CENSUS_AFTER = 6, HMK_TRIM_LEVERS = 7,
    /* of DRY_EXACT: as in enum hmk_exact_answer */
    HMK_TRIM_NOT_EXACT = HMK_TRIM_RETURNED, HMK_TRIM_INSIDE = HMK_TRIM_NS
};

enum hmk_exact_answer {
    HMK_EXACT_RECORD = 0,       /* of HMK_CENSUSES */
    HMK_EXACT_NOT = 1,          /* 0: it is exact; else why there is an ordinary one: errno of the fork, ECHILD: the child came to
                                 * no end, HMK_EXACT_SANDBOX: a seccomp filter might kill for it */
    HMK_EXACT_INSIDE = 2        /* threads that did not leave the allocator for it: a block of each may be wrong */
};
#define HMK_EXACT_SANDBOX UINT64_MAX

enum hmk_answer_status {
    HMK_ANSWER_DONE = 0,
    HMK_ANSWER_UNSUPPORTED = 1,
    HMK_ANSWER_FAILED = 2,
    HMK_ANSWER_WITHDRAWN = 3    /* the request had been taken back */
};

#endif
