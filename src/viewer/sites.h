/* SPDX-License-Identifier: MIT */
#ifndef HEAPMARK_VIEWER_SITES_H
#define HEAPMARK_VIEWER_SITES_H

/*
 * Tables of sites as text, and short names of sites for sentences.
 *
 * A row stands for all sites that look the same as far as their stacks are shown, so that an interpreter's
 * thousand ways to one function are one row; with options->full each site is a row of its own.
 *
 *     struct sites_table *table = sites_table_new(&view, key, kind, limit, lines);     (requests names)
 *     names_resolve(names);
 *     sites_table_put(out, table, title);
 *     sites_table_free(table);
 */

#include "analysis/rank.h"
#include <stdbool.h>
#include <stddef.h>

struct alike;
struct names;
struct report_options;
struct strbuf;

struct sites_view {
    const struct profile *profile;
    struct names *names;
    const struct report_options *options;
    const bool *hidden;         /* by site id: the filter does not match; NULL: nothing is hidden */
    const struct alike *alike;  /* sites_alike; only tables need it */
};

/* What may become one row of a table of `lines` lines of a stack; all tables of a report can share it. */
struct alike sites_alike(const struct profile *profile, struct names *names, unsigned lines);

struct sites_table;
/* At most `limit` rows, each stack at most `lines` lines (options->full: all). */
struct sites_table *sites_table_new(const struct sites_view *view, enum rank_key key, enum profile_kind kind,
                                    size_t limit, unsigned lines);
/* For an overview: rows that are small beside the whole and beside the first go with the rest, and below `least` in all
 * there is no table. */
void sites_table_cut(struct sites_table *table, int64_t least);
void sites_table_free(struct sites_table *table);
/* Title, head and rows; nothing when no site has a value. */
void sites_table_put(struct strbuf *out, struct sites_table *table, const char *title);

/* "jv_parser_new (jv_parse.c:92)", "load report.py:3", "parser_init (parsers.so) <- load report.py:3". */
void sites_where(struct strbuf *out, const struct sites_view *view, uint32_t site, size_t columns);
/* It begins with a line of Python: blocks are made at it, not in it. */
bool sites_of_python(const struct sites_view *view, uint32_t site);

#endif
