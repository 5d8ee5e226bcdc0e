/* SPDX-License-Identifier: MIT */
#ifndef HEAPMARK_VIEWER_FRAMES_H
#define HEAPMARK_VIEWER_FRAMES_H

/* One call of a stack as text. */

#include <stdbool.h>
#include <stddef.h>

struct name;
struct report_options;
struct strbuf;

/* "jv_parse.c:92", or the module when the line is unknown; nothing when the function's text says it already. */
void frames_put_location(struct strbuf *out, const struct name *name, bool full);
/* Template arguments and then parameters go before anything else is cut. */
void frames_put_function(struct strbuf *out, const struct name *name, bool full, size_t columns);
/* Without the tag of an interpreter's version and machine. */
void frames_put_module(struct strbuf *out, const char *module);
/* Function and location, at most `columns` wide unless options->full. */
void frames_put(struct strbuf *out, const struct report_options *options, const struct name *name, size_t columns,
                bool strong);

#endif
