/* SPDX-License-Identifier: MIT */
#ifndef HEAPMARK_CLI_COMMAND_H
#define HEAPMARK_CLI_COMMAND_H

/*
 * The verbs.  Each stands in the table of main.c and has one file, cmd_VERB.c, with one function:
 * argv[0] is the verb; the result is the exit status.  stdout carries the answer only.
 */

#include <stdbool.h>
#include <stdint.h>

/* Exit statuses of every verb but `run`, which passes its program's through. */
enum {
    COMMAND_OK = 0,
    COMMAND_NEGATIVE = 1,       /* check: over budget; trim: nothing came back; diff: above the limit */
    COMMAND_BAD = 2             /* bad usage or bad input: one sentence on stderr */
};

struct command {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *summary;        /* for the list of verbs; starts small, no full stop */
};

int cmd_dump(int argc, char **argv);
int cmd_env(int argc, char **argv);
int cmd_info(int argc, char **argv);
int cmd_mark(int argc, char **argv);
int cmd_ps(int argc, char **argv);
int cmd_report(int argc, char **argv);
int cmd_run(int argc, char **argv);
int cmd_snapshot(int argc, char **argv);
int cmd_trim(int argc, char **argv);

/* "heapmark VERB: SENTENCE" on stderr; COMMAND_BAD. */
int command_bad(const char *verb, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The same, for a wrong command line: adds where help is. */
int command_misused(const char *verb, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* getopt_long that complains in our words: '?' once it has; `shorts` begins with ':'. */
struct option;
int command_option(int argc, char **argv, const char *shorts, const struct option *options);
/* Prints a verb's help on stdout; COMMAND_OK. */
int command_help(const char *text);
/* A whole decimal number; false: it is none, or above `limit`. */
bool command_number(const char *text, uint64_t limit, uint64_t *value);
/* Seconds with an optional fraction, at most a day, in nanoseconds; false: it is no such number. */
bool command_seconds(const char *text, uint64_t *ns);
/* Columns to use and whether to use colour on a descriptor: of its terminal, else by COLUMNS and without. */
unsigned command_width(int fd);
bool command_color(int fd);

#endif
