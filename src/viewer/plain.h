/* SPDX-License-Identifier: MIT */
#ifndef HEAPMARK_VIEWER_PLAIN_H
#define HEAPMARK_VIEWER_PLAIN_H

/* Strings from a recording on a terminal: control characters are shown as \xNN, so that a file name cannot
 * move the cursor or set the title. */

#include <stddef.h>

struct strbuf;

void plain_put(struct strbuf *out, const char *string);
/* Columns the text takes: bytes that start a UTF-8 sequence. */
size_t plain_width(const char *string);
/* At most `columns` wide; a longer text loses its middle or, for paths, its start, to "...". */
void plain_cut_middle(struct strbuf *out, const char *string, size_t columns);
void plain_cut_start(struct strbuf *out, const char *string, size_t columns);

#endif
