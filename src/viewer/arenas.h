/* SPDX-License-Identifier: MIT */
#ifndef HEAPMARK_VIEWER_ARENAS_H
#define HEAPMARK_VIEWER_ARENAS_H

/* The arenas of CPython's small objects: how full they are, and which objects keep them. */

struct ledger;
struct report;
struct sites_view;
struct strbuf;
struct verdict_finding;

/* "91.7 MiB in 93 pymalloc arenas, 99 % empty, mapped at load report.py:41, kept by 299 live objects (299 float);
 * malloc_trim cannot reach them" */
void arenas_sentence(struct strbuf *out, const struct sites_view *view, const struct ledger *ledger,
                     const struct verdict_finding *finding);
void arenas_advice(struct strbuf *out, const struct ledger *ledger, const struct verdict_finding *finding);

/* Of the newest ledger: who keeps them; with options->full also how many are how full.  Nothing when little is held there. */
void arenas_section(struct strbuf *out, const struct report *report, const struct sites_view *view);

#endif
