/* SPDX-License-Identifier: MIT */
#include "analysis/trim_rule.h"

#define SECOND UINT64_C(1000000000)
#define QUIET_NS (SECOND / 2)
#define REGAIN_NS (5 * SECOND)
#define PAUSE_MAX_NS (600 * SECOND)
#define PAUSE_MIN_NS SECOND
#define HELD_MIN_BYTES (INT64_C(64) << 20)
#define COST_FACTOR 50
#define RETRY_NS (10 * SECOND)

void trim_rule_start(struct trim_rule *rule, uint64_t every_ns, uint64_t now_ns, uint64_t rss_start_bytes)
{
    *rule = (struct trim_rule){ .every_ns = every_ns, .next_ns = now_ns + every_ns, .pause_ns = PAUSE_MIN_NS,
                                .quiet_since_ns = now_ns, .floor_bytes = rss_start_bytes ? (int64_t)rss_start_bytes : INT64_MAX };
}

static int64_t beyond_live(uint64_t rss_bytes, int64_t live_bytes)
{
    return (int64_t)rss_bytes - live_bytes - live_bytes / 8;
}

/* Steady: within a MiB or a 64th of where it was. */
static void watch_live(struct trim_rule *rule, uint64_t now_ns, int64_t live_bytes)
{
    int64_t change = live_bytes - rule->quiet_live_bytes;
    int64_t slack = rule->quiet_live_bytes / 64 > 1 << 20 ? rule->quiet_live_bytes / 64 : 1 << 20;
    if (change > slack || change < -slack) {
        rule->quiet_since_ns = now_ns;
        rule->quiet_live_bytes = live_bytes;
    }
}

static void double_pause(struct trim_rule *rule)
{
    rule->pause_ns = rule->pause_ns > PAUSE_MAX_NS / 2 ? PAUSE_MAX_NS : rule->pause_ns * 2;
}

/* Was it worth it? */
static void judge_last(struct trim_rule *rule, uint64_t now_ns, uint64_t rss_bytes)
{
    if (rule->trimmed_ns == 0)
        return;
    bool regained = rss_bytes > rule->rss_after_bytes && rss_bytes - rule->rss_after_bytes > rule->returned_bytes / 2;
    if (regained && now_ns - rule->trimmed_ns <= REGAIN_NS) {
        double_pause(rule);
        if (rule->next_ns < rule->trimmed_ns + rule->pause_ns)
            rule->next_ns = rule->trimmed_ns + rule->pause_ns;
        rule->trimmed_ns = 0;
    } else if (now_ns - rule->trimmed_ns > REGAIN_NS) {
        rule->trimmed_ns = 0;
    }
}

bool trim_rule_look(struct trim_rule *rule, uint64_t now_ns, uint64_t rss_bytes, int64_t live_bytes)
{
    int64_t beyond = beyond_live(rss_bytes, live_bytes);
    if (rss_bytes > rule->peak_bytes) {
        if (rule->peak_bytes != 0 && rss_bytes > rule->peak_bytes + rule->peak_bytes / 8)
            rule->pause_ns = PAUSE_MIN_NS;
        rule->peak_bytes = rss_bytes;
    }
    if (beyond < rule->floor_bytes)
        rule->floor_bytes = beyond;
    watch_live(rule, now_ns, live_bytes);
    judge_last(rule, now_ns, rss_bytes);
    if (now_ns < rule->next_ns)
        return false;
    if (rule->every_ns != 0)
        return true;
    int64_t held = beyond - rule->floor_bytes;
    return held > HELD_MIN_BYTES && held > (int64_t)rss_bytes / 5 && now_ns - rule->quiet_since_ns >= QUIET_NS;
}

void trim_rule_trimmed(struct trim_rule *rule, uint64_t now_ns, uint64_t took_ns, uint64_t rss_before_bytes,
                       uint64_t rss_after_bytes, int64_t live_bytes)
{
    uint64_t pause = took_ns * COST_FACTOR;
    rule->returned_bytes = rss_before_bytes > rss_after_bytes ? rss_before_bytes - rss_after_bytes : 0;
    rule->rss_after_bytes = rss_after_bytes;
    rule->trimmed_ns = rule->returned_bytes > 0 ? now_ns : 0;
    if (pause < rule->pause_ns)
        pause = rule->pause_ns;
    if (pause < rule->every_ns)
        pause = rule->every_ns;
    rule->next_ns = now_ns + pause;
    rule->floor_bytes = beyond_live(rss_after_bytes, live_bytes);
}

void trim_rule_refused(struct trim_rule *rule, uint64_t now_ns)
{
    rule->next_ns = now_ns + (rule->every_ns > RETRY_NS ? rule->every_ns : RETRY_NS);
}
