/* SPDX-License-Identifier: MIT */
#include "shim/timeline.h"

#include "freestanding/sys.h"
#include "freestanding/text.h"
#include "shim/control.h"
#include "shim/overhead.h"
#include "shim/recording.h"
#include "shim/spin.h"
#include "shim/start.h"
#include "shim/thread.h"

#include <fcntl.h>
#include <time.h>

static struct spin sampling;
static uint64_t due_ns;
static uint64_t first_interval_ns;
static int64_t mapped_bytes;

void timeline_init(uint64_t interval_ns)
{
    first_interval_ns = interval_ns;
    recording_live->timeline_interval_ns = interval_ns;
    due_ns = 0;
}

/* The coarse clock is a read of the vdso's page: no system call, and no lock that could be held by the interrupted code. */
static uint64_t coarse_ns(void)
{
    struct timespec now;
    if (clock_gettime(CLOCK_MONOTONIC_COARSE, &now) != 0)
        return 0;
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static size_t read_proc(const char *path, char *buffer, size_t bytes)
{
    int fd = sys_open(path, O_RDONLY | O_CLOEXEC, 0);
    if (fd < 0)
        return 0;
    long length = sys_read(fd, buffer, bytes - 1);
    sys_close(fd);
    buffer[length > 0 ? length : 0] = 0;
    return length > 0 ? (size_t)length : 0;
}

uint64_t timeline_rss(void)
{
    char statm[128];
    const char *at = statm;
    uint64_t pages = 0;
    if (read_proc("/proc/self/statm", statm, sizeof statm) == 0 || !text_parse_size(at, &at, &pages) || *at != ' ' ||
        !text_parse_size(at + 1, &at, &pages))
        return 0;
    return pages * sys_page_bytes();
}

/* 0: it cannot be read. */
static uint64_t read_high_water(void)
{
    char status[4096];
    uint64_t kib;
    if (read_proc("/proc/self/status", status, sizeof status) == 0 || !text_field(status, "VmHWM:", &kib))
        return 0;
    return kib * 1024;
}

void timeline_read_peak(void)
{
    uint64_t high = read_high_water();
    if (high > recording_live->rss_peak_bytes && high > HMK_GET(recording_live->own_peak_bytes)) {
        recording_live->rss_peak_bytes = high;
        recording_live->rss_peak_ns = recording_live->last_ns;
    }
}

void timeline_own_peak_begin(void)
{
    timeline_read_peak();
}

void timeline_own_peak_end(void)
{
    uint64_t high = read_high_water();
    if (high > recording_live->rss_peak_bytes)
        HMK_SET(recording_live->own_peak_bytes, high);
}

/* Holds the sampling flag. */
static void sample(uint64_t now)
{
    struct hmk_live *live = recording_live;
    uint64_t rss = timeline_rss();
    HMK_SET(live->last_ns, now);
    if (rss != 0) {
        HMK_SET(live->rss_last_bytes, rss);
        if (live->rss_start_bytes == 0)
            live->rss_start_bytes = rss;
        if (rss > live->rss_peak_bytes) {
            live->rss_peak_bytes = rss;
            live->rss_peak_ns = now;
        }
    }
    struct hmk_sample point = {
        .time_ns = now,
        .live_bytes = HMK_GET(live->heap.live_bytes),
        .live_bytes_max = HMK_GET(live->heap.live_bytes),
        .rss_bytes = rss,
        .rss_bytes_max = rss,
        .mapped_bytes = (uint64_t)(mapped_bytes > 0 ? mapped_bytes : 0),
    };
    recording_sample(&point);
    HMK_SET(due_ns, now + HMK_GET(live->timeline_interval_ns));
    overhead_note(now);
}

void timeline_tick(struct thread *thread)
{
    uint64_t now = coarse_ns();
    if (now < __atomic_load_n(&due_ns, __ATOMIC_RELAXED) || !spin_try(&sampling))
        return;
    sample(now);
    spin_unlock(&sampling);
    control_tick(thread);
    if (start_settings.census)
        thread->pending |= THREAD_PENDING_WATCH;
}

void timeline_now(void)
{
    if (!spin_try(&sampling))
        return;
    sample(sys_monotonic_ns());
    spin_unlock(&sampling);
}

void timeline_map(int64_t bytes)
{
    __atomic_add_fetch(&mapped_bytes, bytes, __ATOMIC_RELAXED);
}

void timeline_after_fork(void)
{
    spin_reset(&sampling);
    recording_live->timeline_interval_ns = first_interval_ns;
    due_ns = 0;
}
