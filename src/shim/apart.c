/* SPDX-License-Identifier: MIT */
#include "shim/apart.h"

#include "freestanding/sys.h"
#include "freestanding/text.h"
#include "shim/thread.h"

#include <errno.h>

#define LIMIT_NS UINT64_C(60000000000)

/* The number of seccomp filters; UINT64_MAX: not known. */
static uint64_t filters(const char *path)
{
    char status[4096];
    uint64_t mode, count;
    if (sys_read_file(path, status, sizeof status) <= 0 || !text_field(status, "Seccomp:", &mode))
        return UINT64_MAX;
    if (mode == 0)
        return 0;
    return text_field(status, "Seccomp_filters:", &count) ? count : UINT64_MAX;
}

/* What a filter does cannot be asked, and some kill for a fork.  One that the first process of a container has as well lets
 * programs start others. */
static bool is_sandboxed(void)
{
    uint64_t own = filters("/proc/thread-self/status");
    return own == UINT64_MAX || (own != 0 && own != filters("/proc/1/status"));
}

struct apart_outcome apart_do(const struct thread *thread, const struct apart_work *work)
{
    struct apart_outcome outcome = { .error = APART_SANDBOX };
    if (is_sandboxed())
        return outcome;
    sys_barrier();      /* makes ready what the next one needs; that may take long, and nobody is held yet */
    outcome.inside = thread_hold_others(thread);
    int child = work->before(work->argument, outcome.inside) ? sys_fork_apart() : -ECANCELED;
    if (child == 0) {
        sys_live_apart("heapmark-census");
        work->work(work->argument);
        sys_exit_group(0);
    }
    thread_let_go();
    outcome.error = child < 0 ? -child : 0;
    if (child > 0)
        sys_await_child(child, LIMIT_NS);
    return outcome;
}
