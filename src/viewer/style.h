/* SPDX-License-Identifier: MIT */
#ifndef HEAPMARK_VIEWER_STYLE_H
#define HEAPMARK_VIEWER_STYLE_H

/* Emphasis on a terminal; without colour every call adds the text alone. */

#include <stdbool.h>
#include <stddef.h>

struct strbuf;

enum style_role {
    STYLE_PLAIN,
    STYLE_STRONG,       /* what to read first */
    STYLE_FAINT,        /* what may be skipped */
    STYLE_TITLE,
    STYLE_WARN
};

void style_begin(struct strbuf *out, bool color, enum style_role role);
void style_end(struct strbuf *out, bool color, enum style_role role);
/* Columns of the last line of a text, which may hold emphasis. */
size_t style_last_line_width(const char *text);
void style_put(struct strbuf *out, bool color, enum style_role role, const char *text);

#endif
