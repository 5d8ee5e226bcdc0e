/* SPDX-License-Identifier: MIT */
#include "cli/reading.h"

#include "analysis/profile.h"
#include "cli/process.h"
#include "contract/read.h"

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

bool reading_open(struct reading *reading, const char *path, struct read_error *error)
{
    reading->file = read_open(path, error);
    if (!reading->file)
        return false;
    reading->profile = profile_new(reading->file);
    reading->ledgers = ledgers_read(reading->file);
    reading->history = history_read(reading->file);
    reading->verdict = verdict_find(reading->profile, ledgers_newest(&reading->ledgers), &reading->history);
    reading->report = (struct report){ .profile = reading->profile, .ledgers = &reading->ledgers,
                                       .history = &reading->history, .verdict = &reading->verdict,
                                       .life = life_of(reading->file) };
    return true;
}

void reading_close(struct reading *reading)
{
    history_free(&reading->history);
    ledgers_free(&reading->ledgers);
    profile_free(reading->profile);
    read_close(reading->file);
}
