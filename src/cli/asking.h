/* SPDX-License-Identifier: MIT */
#ifndef HEAPMARK_CLI_ASKING_H
#define HEAPMARK_CLI_ASKING_H

/* What trim, mark and snapshot have in common: their options, and one question to one process. */

#include "cli/ask.h"
#include "cli/live.h"
#include <stdbool.h>
#include <stdint.h>

struct json;
struct option;

struct asking {
    const char *verb;
    struct ask_options options;
    bool json, dry_run, exact;
    struct live live;
    struct ask ask;
};

/* Reads the options; optind is then at the first argument.  COMMAND_OK: go on; else *status is the verb's exit status. */
bool asking_begin(struct asking *asking, int argc, char **argv, const char *help, int *status);
/* Finds the process, asks, waits; false: a sentence was printed.  Call asking_end in any case. */
bool asking_do(struct asking *asking, const char *process, uint32_t kind, uint64_t argument, const char *label);
/* Of an answer to a question for an exact ledger: warns when it is not exact. */
void asking_check_exact(const struct asking *asking, uint64_t not_exact, uint64_t inside);
void asking_end(struct asking *asking);

/* "jq", or "unknown program"; kept until the next call. */
const char *asking_program(const struct asking *asking);
/* The members that every answer has: format, version, pid, exe, recording. */
void asking_put_json(const struct asking *asking, struct json *json);

#endif
