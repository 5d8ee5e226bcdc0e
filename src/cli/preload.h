/* SPDX-License-Identifier: MIT */
#ifndef HEAPMARK_CLI_PRELOAD_H
#define HEAPMARK_CLI_PRELOAD_H

/* What a program's environment needs so that it is recorded; `run` sets it, `env` prints it. */

#include "base/array.h"
#include "base/fail.h"
#include "base/strbuf.h"
#include <getopt.h>
#include <stdbool.h>

#define PRELOAD_LIBRARY "libheapmark.so"
#define PRELOAD_HELPER "libheapmark-unwind.so"
#define PRELOAD_PATTERN "heapmark.%e.%p.hmk"

/* What the command line asks for; the options that `run` and `env` share. */
struct preload_setting {
    const char *key;            /* NULL: value is KEY=VALUE */
    const char *value;
};
struct preload_request {
    const char *pattern;        /* NULL: not given */
    ARRAY_OF(struct preload_setting) settings;
};

enum { PRELOAD_OUTPUT = 'o', PRELOAD_DEPTH = 256, PRELOAD_SAMPLE, PRELOAD_CHILDREN, PRELOAD_FREE_SITES, PRELOAD_SETTING,
       PRELOAD_OPTIONS_END };
#define PRELOAD_LONG_OPTIONS                                        \
    { "output", required_argument, NULL, PRELOAD_OUTPUT },          \
    { "depth", required_argument, NULL, PRELOAD_DEPTH },            \
    { "sample", required_argument, NULL, PRELOAD_SAMPLE },          \
    { "children", required_argument, NULL, PRELOAD_CHILDREN },      \
    { "free-sites", no_argument, NULL, PRELOAD_FREE_SITES },        \
    { "option", required_argument, NULL, PRELOAD_SETTING }

/* False: `option` is none of the shared ones. */
bool preload_take_option(struct preload_request *request, int option, const char *value);
void preload_request_free(struct preload_request *request);

struct preload {
    char *library;              /* absolute path of the shim */
    char *pattern;              /* HEAPMARK_OUT: absolute, whatever directory the program goes to */
    bool by_default;            /* nobody asked for that pattern */
    struct strbuf options;      /* HEAPMARK_OPTIONS */
};

/*
 * The library: HEAPMARK_LIB, or beside this program in the build tree, or where it is installed.  The pattern: the
 * one asked for, or HEAPMARK_OUT, or PRELOAD_PATTERN; a directory (ends in "/") gets the default name.  The options:
 * HEAPMARK_OPTIONS, then those asked for, checked against contract/settings.def; the last of a key wins.
 */
bool preload_find(struct preload *preload, const struct preload_request *request, struct fail *why);
/* LD_PRELOAD with our library first and what was there before behind it, to be freed. */
char *preload_list(const struct preload *preload);
/* Sets the three variables in this process. */
void preload_export(const struct preload *preload);
void preload_free(struct preload *preload);

#endif
