/* SPDX-License-Identifier: MIT */
#include "cli/reading.h"

#include "analysis/profile.h"
#include "cli/process.h"
#include "contract/read.h"
#include <time.h>

static enum report_life life_of(const struct read_file *file)
{
    if (read_live(file)->state != HMK_STATE_RUNNING)
        return REPORT_ENDED;
    switch (process_life(read_header(file))) {
    case PROCESS_ALIVE: return REPORT_RUNNING;
    case PROCESS_GONE: return REPORT_KILLED;
    default: return REPORT_LIFE_UNKNOWN;
    }
}

/* Of a running process the kernel knows more than the last sample. */
static void ask_kernel(struct reading *reading)
{
    const struct hmk_header *header = read_header(reading->file);
    struct timespec now;
    uint64_t rss_bytes = process_rss(header->pid);

    clock_gettime(CLOCK_MONOTONIC, &now);
    uint64_t now_ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
    if (rss_bytes == 0 || now_ns < header->start_ns)
        return;
    reading->profile->rss.last_bytes = rss_bytes;
    reading->profile->rss.last_ns = reading->profile->process.ran_ns = now_ns - header->start_ns;
    if (rss_bytes > reading->profile->rss.peak_bytes) {
        reading->profile->rss.peak_bytes = rss_bytes;
        reading->profile->rss.peak_ns = reading->profile->rss.last_ns;
    }
}

bool reading_open(struct reading *reading, const char *path, struct read_error *error)
{
    reading->file = read_open(path, error);
    if (!reading->file)
        return false;
    reading->profile = profile_new(reading->file);
    reading->ledgers = ledgers_read(reading->file);
    reading->history = history_read(reading->file);
    enum report_life life = life_of(reading->file);
    if (life == REPORT_RUNNING)
        ask_kernel(reading);
    int64_t live = reading->profile->sum[PROFILE_HEAP].live_bytes;
    const struct ledger *current = ledgers_current(&reading->ledgers, reading->profile->rss.last_bytes,
                                                   live > 0 ? (uint64_t)live : 0);
    reading->verdict = verdict_find(reading->profile, current, &reading->history);
    reading->report = (struct report){ .profile = reading->profile, .ledgers = &reading->ledgers, .current = current,
                                       .history = &reading->history, .verdict = &reading->verdict, .life = life };
    return true;
}

void reading_close(struct reading *reading)
{
    history_free(&reading->history);
    ledgers_free(&reading->ledgers);
    profile_free(reading->profile);
    read_close(reading->file);
}
