/* SPDX-License-Identifier: MIT */
#ifndef HEAPMARK_VIEWER_FINDINGS_H
#define HEAPMARK_VIEWER_FINDINGS_H

/* The verdict in sentences. */

#include <stddef.h>

struct report;
struct sites_view;
struct strbuf;
struct verdict_finding;

/* What it is, without a full stop: "1 block of 624 B made in jv_parser_new lies on top of 868.4 MiB of freed memory". */
void findings_sentence(struct strbuf *out, const struct report *report, const struct sites_view *view,
                       const struct verdict_finding *finding);
/* What to do: "malloc_trim(0): heapmark trim 4711 (predicted 868.4 MiB)"; nothing when there is nothing to do. */
void findings_step(struct strbuf *out, const struct report *report, const struct sites_view *view,
                   const struct verdict_finding *finding);

#endif
