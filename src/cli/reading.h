/* SPDX-License-Identifier: MIT */
#ifndef HEAPMARK_CLI_READING_H
#define HEAPMARK_CLI_READING_H

/* A recording and all that was found in it, as the viewer wants it. */

#include "analysis/history.h"
#include "analysis/ledger.h"
#include "analysis/verdict.h"
#include "viewer/report.h"
#include <stdbool.h>

struct read_error;
struct read_file;

struct reading {
    struct read_file *file;
    struct profile *profile;
    struct ledgers ledgers;
    struct history history;
    struct verdict verdict;
    struct report report;       /* points into the others: a reading is not copied */
};

/* False and *error set when the file cannot be read; then there is nothing to close. */
bool reading_open(struct reading *reading, const char *path, struct read_error *error);
void reading_close(struct reading *reading);

#endif
