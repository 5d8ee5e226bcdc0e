/* SPDX-License-Identifier: MIT */
#ifndef HEAPMARK_VIEWER_SITES_H
#define HEAPMARK_VIEWER_SITES_H

/* Tables of sites as text, and short names of sites for sentences. */

#include "analysis/rank.h"
#include <stdbool.h>
#include <stddef.h>

struct names;
struct report_options;
struct strbuf;

struct sites_view {
    const struct profile *profile;
    struct names *names;
    const struct report_options *options;
    const bool *hidden;         /* by site id: the filter does not match; NULL: nothing is hidden */
};

/* Title, head and rows of the sites by `key`, at most `limit`; nothing when there is none. */
void sites_table(struct strbuf *out, const struct sites_view *view, const char *title, enum rank_key key,
                 enum profile_kind kind, size_t limit);
/* Requests the names that sites_table will show. */
void sites_want(const struct sites_view *view, enum rank_key key, enum profile_kind kind, size_t limit);

/* "jv_parser_new (jv_parse.c:92)". */
void sites_where(struct strbuf *out, const struct sites_view *view, uint32_t site, size_t columns);
/* The stack of a site, leaf first, each line after `indent` blanks and at most `columns` wide beyond them.  The first line
 * starts where the caller stands. */
void sites_stack(struct strbuf *out, const struct sites_view *view, const struct profile_site *site, unsigned indent,
                 unsigned columns);

#endif
