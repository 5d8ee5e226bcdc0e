/* SPDX-License-Identifier: MIT */
#include "shim/overhead.h"

#include "freestanding/sys.h"
#include "shim/cycles.h"
#include "shim/recording.h"
#include "shim/sampled_peak.h"
#include "shim/sampling.h"
#include "shim/stack.h"
#include "shim/thread.h"

#define NOTE_NS 100000000u
#define FIRST_JUDGEMENT_NS 200000000u       /* of CPU time: a program's start is not typical */
#define DEFAULT_INTERVAL (512u * 1024)

static uint64_t budget;
static uint64_t interval;
static uint64_t first_cycles, first_ns;     /* the counter's rate is measured over the whole run */
static uint64_t last_note_ns;

void overhead_init(uint64_t budget_percent, uint64_t sample_bytes)
{
    budget = budget_percent;
    interval = sample_bytes != 0 ? sample_bytes : DEFAULT_INTERVAL;
    first_cycles = cycles_now();
    first_ns = sys_monotonic_ns();
}

static void add_spent(struct thread *thread, void *sum)
{
    *(uint64_t *)sum += thread->spent_cycles;
}

static void begin_sampling(uint64_t now_ns)
{
    sampled_peak_begin();
    if (!stack_begin_sampling(interval))
        return;         /* the next note tries again */
    HMK_SET(recording_header->sample_bytes, interval);
    HMK_SET(recording_header->flags, recording_header->flags | HMK_FLAG_SAMPLED);
    HMK_SET(recording_live->sampled_from_ns, now_ns);
    recording_event(HMK_EVENT_DEGRADED, 0, 0, 0, 0, "sampled from here on: heapmark's share of the CPU time was over the budget");
}

void overhead_note(uint64_t now_ns)
{
    if (now_ns - last_note_ns < NOTE_NS)
        return;
    last_note_ns = now_ns;
    uint64_t cycles = cycles_now() - first_cycles, ns = sys_monotonic_ns() - first_ns, spent = 0;
    if (cycles == 0)
        return;
    thread_each(add_spent, &spent);
    uint64_t spent_ns = (uint64_t)((double)spent * ((double)ns / (double)cycles));
    uint64_t cpu_ns = sys_process_cpu_ns();
    HMK_SET(recording_live->spent_ns, spent_ns);
    HMK_SET(recording_live->cpu_ns, cpu_ns);
    if (budget != 0 && sampling_interval == 0 && cpu_ns >= FIRST_JUDGEMENT_NS && spent_ns > cpu_ns / 100 * budget &&
        recording_header != NULL)
        begin_sampling(now_ns);
}

void overhead_after_fork(void)
{
    last_note_ns = 0;
    first_cycles = cycles_now();
    first_ns = sys_monotonic_ns();
}
