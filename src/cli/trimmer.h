/* SPDX-License-Identifier: MIT */
#ifndef HEAPMARK_CLI_TRIMMER_H
#define HEAPMARK_CLI_TRIMMER_H

/*
 * Automatic trimming of a program that was started here, and of its recorded descendants: run --trim.  analysis/trim_rule.h says
 * when.  Nothing here waits: a step takes a look, or looks for an answer, and says when the next one is due.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct trimmer;

/* "on-drop" or "every:SECONDS"; NULL: it is neither. */
struct trimmer *trimmer_new(const char *policy);
void trimmer_free(struct trimmer *trimmer);
/* The program is process `root`; returns the nanoseconds until the next step. */
uint64_t trimmer_step(struct trimmer *trimmer, pid_t root);
/* What it did: trims that were answered, bytes that came back, time the processes spent on it. */
struct trimmer_sum {
    uint64_t trims, returned_bytes, took_ns;
};
struct trimmer_sum trimmer_sum(const struct trimmer *trimmer);

#endif
