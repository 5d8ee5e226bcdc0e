/* SPDX-License-Identifier: MIT */
#ifndef HEAPMARK_VIEWER_REPORT_H
#define HEAPMARK_VIEWER_REPORT_H

/* The report of one recording, for people and for machines. */

#include "analysis/rank.h"
#include <regex.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

struct history;
struct ledger;
struct ledgers;
struct names;
struct profile;
struct strbuf;
struct symbolizer_options;
struct verdict;

enum report_life {
    REPORT_RUNNING,
    REPORT_ENDED,               /* by itself; profile->process.state says how */
    REPORT_KILLED,              /* it is gone and never said so */
    REPORT_LIFE_UNKNOWN
};

struct report {
    const struct profile *profile;
    const struct ledgers *ledgers;
    const struct ledger *current;       /* the one of them that tells the present state; NULL: none does */
    const struct history *history;
    const struct verdict *verdict;
    enum report_life life;
};

#define REPORT_ALL SIZE_MAX
struct report_options {
    enum rank_key sort;         /* RANK_KEYS: the tables that matter, shortened; else one table by this key */
    size_t limit;               /* sites in a table or by each key; 0: as fits, REPORT_ALL: all */
    unsigned depth;             /* lines of a stack; 0: as fits */
    bool full;                  /* whole stacks, whole names, whole paths */
    bool color;
    unsigned width;             /* columns */
    const regex_t *filter;      /* only sites with a frame whose function, file or module matches; NULL: all */
    const struct symbolizer_options *symbols;   /* NULL: no look-up of names */
};

void report_text(const struct report *report, const struct report_options *options, FILE *out);

/* RSS, what it is made of, why, what to do: the first lines of report_text alone. */
void report_summary(const struct report *report, const struct report_options *options, FILE *out);

/* Only what is held by the newest ledger, why, and what stands in the way. */
void report_held(const struct report *report, const struct report_options *options, FILE *out);

/* The same as one JSON document, "heapmark-report", version 1. */
void report_json(const struct report *report, const struct report_options *options, FILE *out);

/* Words that both use: "running", "exited", ... */
const char *report_state_name(const struct report *report);

#endif
