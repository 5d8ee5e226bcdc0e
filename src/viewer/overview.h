/* SPDX-License-Identifier: MIT */
#ifndef HEAPMARK_VIEWER_OVERVIEW_H
#define HEAPMARK_VIEWER_OVERVIEW_H

/* The parts of the text report that are about the process as a whole. */

struct report;
struct sites_view;
struct strbuf;

/* Which process: its command, how and when it ended. */
void overview_process(struct strbuf *out, const struct report *report, const struct sites_view *view);
/* RSS and what it is made of, why, and what to do. */
void overview_verdict(struct strbuf *out, const struct report *report, const struct sites_view *view);
/* Every part of VmRSS, with its sum. */
void overview_ledger(struct strbuf *out, const struct report *report, const struct sites_view *view);
/* What is held by the newest ledger, by cause. */
void overview_held(struct strbuf *out, const struct report *report, const struct sites_view *view);
/* The allocator's arenas, when there are several and they hold something. */
void overview_arenas(struct strbuf *out, const struct report *report, const struct sites_view *view);
/* What stands in the way of freed memory. */
void overview_settings(struct strbuf *out, const struct report *report, const struct sites_view *view);
void overview_pins(struct strbuf *out, const struct report *report, const struct sites_view *view);
/* Phases, marks and trims. */
void overview_history(struct strbuf *out, const struct report *report, const struct sites_view *view);
/* What was lost, and what makes numbers uncertain. */
void overview_doubts(struct strbuf *out, const struct report *report, const struct sites_view *view);

#endif
