/* SPDX-License-Identifier: MIT */
#ifndef HEAPMARK_ANALYSIS_TRIM_RULE_H
#define HEAPMARK_ANALYSIS_TRIM_RULE_H

/*
 * When a running process should be made to give memory back, judged from outside by what costs nothing to know: its RSS and its
 * live bytes, some ten times a second.
 *
 * A trim pays when the memory stays unused for longer than it takes to return it and to fault it in again.  So the
 * rule is conservative.  What a process holds back is estimated as RSS - 9/8 live - the least value of that seen; a
 * trim is due when that is above 64 MiB and a fifth of RSS, live bytes have been steady for half a second, and at least
 * fifty times the duration of the last trim has passed.  What a trim could not return is not held back in the sense of the
 * rule, so it is not tried again.  Memory that comes back within five seconds doubles the time to the next trim, up to
 * ten minutes, until the process reaches a new peak.
 */

#include <stdbool.h>
#include <stdint.h>

struct trim_rule {
    uint64_t every_ns;              /* not 0: whatever is held back, once in so long */
    uint64_t next_ns;               /* not before */
    uint64_t pause_ns;              /* between two trims, at least */
    uint64_t quiet_since_ns;
    int64_t quiet_live_bytes;       /* live bytes then */
    int64_t floor_bytes;            /* least value of RSS - 9/8 live */
    uint64_t peak_bytes;            /* of RSS */
    uint64_t trimmed_ns;            /* end of the last trim; 0: none, or its outcome was judged */
    uint64_t rss_after_bytes, returned_bytes;   /* of the last trim */
};

/* every_ns 0: on drop.  rss_start_bytes: when the process began, since much may be held already; 0: unknown. */
void trim_rule_start(struct trim_rule *rule, uint64_t every_ns, uint64_t now_ns, uint64_t rss_start_bytes);
/* Takes a look; true: trim now. */
bool trim_rule_look(struct trim_rule *rule, uint64_t now_ns, uint64_t rss_bytes, int64_t live_bytes);
/* A trim was made; took_ns: from the wish to the answer. */
void trim_rule_trimmed(struct trim_rule *rule, uint64_t now_ns, uint64_t took_ns, uint64_t rss_before_bytes,
                       uint64_t rss_after_bytes, int64_t live_bytes);
/* The process did not answer. */
void trim_rule_refused(struct trim_rule *rule, uint64_t now_ns);

#endif
