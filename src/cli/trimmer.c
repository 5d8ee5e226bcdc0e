/* SPDX-License-Identifier: MIT */
#include "cli/trimmer.h"

#include "analysis/trim_rule.h"
#include "base/array.h"
#include "base/fail.h"
#include "cli/ask.h"
#include "cli/command.h"
#include "cli/live.h"
#include "cli/process.h"
#include "contract/control.h"
#include "contract/publish.h"
#include <inttypes.h>
#include <stdio.h>

#define LOOK_NS UINT64_C(100000000)
#define ANSWER_NS UINT64_C(5000000)     /* between two looks for an answer */
#define SEARCH_NS UINT64_C(1000000000)  /* for new processes */
#define PROCESSES_MAX 256

struct watched {
    struct live live;
    struct trim_rule rule;
    struct ask ask;
    bool asking;
};

struct trimmer {
    uint64_t every_ns;          /* 0: on drop */
    uint64_t looked_ns, searched_ns;
    ARRAY_OF(struct watched *) processes;
    ARRAY_OF(pid_t) family;
    struct trimmer_sum sum;
};

struct trimmer *trimmer_new(const char *policy)
{
    static const char every[] = "every:";
    uint64_t every_ns = 0;
    bool periodic = strncmp(policy, every, sizeof every - 1) == 0;
    if (periodic && (!command_seconds(policy + sizeof every - 1, &every_ns) || every_ns == 0))
        return NULL;
    if (!periodic && strcmp(policy, "on-drop") != 0)
        return NULL;
    struct trimmer *trimmer = xcalloc(1, sizeof *trimmer);
    trimmer->every_ns = every_ns;
    return trimmer;
}

static void watched_free(struct watched *watched)
{
    if (watched->asking)
        ask_end(&watched->ask);
    live_close(&watched->live);
    free(watched);
}

void trimmer_free(struct trimmer *trimmer)
{
    if (!trimmer)
        return;
    for (size_t i = 0; i < trimmer->processes.count; i++)
        watched_free(trimmer->processes.at[i]);
    array_free(&trimmer->processes);
    array_free(&trimmer->family);
    free(trimmer);
}

struct trimmer_sum trimmer_sum(const struct trimmer *trimmer)
{
    return trimmer->sum;
}

/* ---- whom --------------------------------------------------------------------------------------- */

/* A thread's directory is found below /proc as a process's is, only not listed there. */
static bool add_children(pid_t tid, void *context)
{
    struct trimmer *trimmer = context;
    char path[64];
    int child;
    snprintf(path, sizeof path, "/proc/%d/task/%d/children", (int)tid, (int)tid);
    FILE *file = fopen(path, "re");
    while (file && trimmer->family.count < PROCESSES_MAX && fscanf(file, "%d", &child) == 1)
        array_push(&trimmer->family, (pid_t)child);
    if (file)
        fclose(file);
    return true;
}

static void find_family(struct trimmer *trimmer, pid_t root)
{
    array_clear(&trimmer->family);
    array_push(&trimmer->family, root);
    for (size_t i = 0; i < trimmer->family.count; i++)
        process_each_thread(trimmer->family.at[i], add_children, trimmer);
}

static struct watched *watched_of(const struct trimmer *trimmer, pid_t pid)
{
    for (size_t i = 0; i < trimmer->processes.count; i++)
        if (trimmer->processes.at[i]->live.pid == pid)
            return trimmer->processes.at[i];
    return NULL;
}

static void watch(struct trimmer *trimmer, pid_t pid, uint64_t now_ns)
{
    struct fail unused;
    struct live live;
    if (!live_open_pid(&live, pid, &unused))
        return;
    struct watched *fresh = xcalloc(1, sizeof *fresh);
    fresh->live = live;
    trim_rule_start(&fresh->rule, trimmer->every_ns, now_ns, HMK_GET(live.totals->rss_start_bytes));
    array_push(&trimmer->processes, fresh);
}

/* Ended processes and replaced images go, new ones come. */
static void search(struct trimmer *trimmer, pid_t root, uint64_t now_ns)
{
    struct fail unused;
    size_t kept = 0;
    for (size_t i = 0; i < trimmer->processes.count; i++) {
        struct watched *watched = trimmer->processes.at[i];
        if (live_still(&watched->live, &unused))
            trimmer->processes.at[kept++] = watched;
        else
            watched_free(watched);
    }
    trimmer->processes.count = kept;
    find_family(trimmer, root);
    for (size_t i = 0; i < trimmer->family.count; i++)
        if (!watched_of(trimmer, trimmer->family.at[i]))
            watch(trimmer, trimmer->family.at[i], now_ns);
}

/* ---- when --------------------------------------------------------------------------------------- */

static void look(struct watched *watched, uint64_t now_ns)
{
    struct fail unused;
    uint64_t rss = process_rss_bytes(watched->live.pid);
    if (rss == 0 || !trim_rule_look(&watched->rule, now_ns, rss, HMK_GET(watched->live.totals->heap.live_bytes)))
        return;
    watched->asking = ask_begin(&watched->ask, &watched->live, HMK_REQUEST_TRIM, HMK_TRIM_PLAIN, "", &unused);
    if (!watched->asking) {
        ask_end(&watched->ask);
        trim_rule_refused(&watched->rule, now_ns);
    }
}

static void take_answer(struct trimmer *trimmer, struct watched *watched, uint64_t now_ns)
{
    const uint64_t *answer = watched->ask.answer;
    uint64_t took = now_ns - watched->ask.begun_ns;
    if (watched->ask.status == HMK_ANSWER_DONE) {
        trim_rule_trimmed(&watched->rule, now_ns, took, answer[HMK_TRIM_RSS_BEFORE], answer[HMK_TRIM_RSS_AFTER],
                          HMK_GET(watched->live.totals->heap.live_bytes));
        trimmer->sum.trims++;
        trimmer->sum.returned_bytes += answer[HMK_TRIM_RETURNED];
        trimmer->sum.took_ns += answer[HMK_TRIM_NS];
    } else {
        trim_rule_refused(&watched->rule, now_ns);
    }
    ask_end(&watched->ask);
    watched->asking = false;
}

static void await(struct trimmer *trimmer, struct watched *watched, uint64_t now_ns)
{
    if (ask_step(&watched->ask, now_ns) == ASK_ANSWERED) {
        take_answer(trimmer, watched, now_ns);
    } else if (now_ns - watched->ask.begun_ns > ASK_TIMEOUT_NS && ask_withdraw(&watched->ask)) {
        ask_end(&watched->ask);
        watched->asking = false;
        trim_rule_refused(&watched->rule, now_ns);
    }
}

uint64_t trimmer_step(struct trimmer *trimmer, pid_t root)
{
    uint64_t now = ask_now_ns();
    bool due = now - trimmer->looked_ns >= LOOK_NS, asking = false;
    if (now - trimmer->searched_ns >= SEARCH_NS) {
        search(trimmer, root, now);
        trimmer->searched_ns = now;
    }
    for (size_t i = 0; i < trimmer->processes.count; i++) {
        struct watched *watched = trimmer->processes.at[i];
        if (watched->asking)
            await(trimmer, watched, now);
        else if (due)
            look(watched, now);
        asking = asking || watched->asking;
    }
    if (due)
        trimmer->looked_ns = now;
    return asking ? ANSWER_NS : LOOK_NS;
}
