/* SPDX-License-Identifier: MIT */
/*
 * Calls that hold the allocator's locks without allocating.  They are guarded, so that a request that arrives meanwhile
 * (a signal handler that trims) waits until they are over; the program's own malloc_trim is also recorded.
 */
#include "shim/real.h"

#include "freestanding/sys.h"
#include "shim/hook.h"
#include "shim/recording.h"
#include "shim/thread.h"
#include "shim/timeline.h"

HOOK_EXPORT int malloc_trim(size_t pad)
{
    if (UNLIKELY(!real_init()))
        return 0;
    struct thread *thread = thread_enter();
    if (UNLIKELY(thread == NULL))
        return real.malloc_trim(pad);
    uint64_t before = timeline_rss(), start = sys_monotonic_ns();
    int result = real.malloc_trim(pad);
    uint64_t took = sys_monotonic_ns() - start;
    recording_event(HMK_EVENT_TRIM, before, timeline_rss(), 0, took, "by the program");
    thread_leave(thread);
    return result;
}

static struct thread *guard(void)
{
    struct thread *thread = thread_enter();
    if (thread != NULL) {
        thread->no_serve++;
        thread_leave(thread);
    }
    return thread;
}

static void unguard(struct thread *thread)
{
    if (thread == NULL)
        return;
    thread->no_serve--;
    if (thread->pending && (thread = thread_enter()) != NULL)
        thread_leave(thread);
}

HOOK_EXPORT struct mallinfo mallinfo(void)
{
    struct mallinfo result = {0};
    if (UNLIKELY(!real_init()))
        return result;
    struct thread *thread = guard();
    result = real.mallinfo();
    unguard(thread);
    return result;
}

HOOK_EXPORT struct mallinfo2 mallinfo2(void)
{
    struct mallinfo2 result = {0};
    if (UNLIKELY(!real_init() || real.mallinfo2 == NULL))
        return result;
    struct thread *thread = guard();
    result = real.mallinfo2();
    unguard(thread);
    return result;
}

HOOK_EXPORT int malloc_info(int options, FILE *stream)
{
    if (UNLIKELY(!real_init()))
        return -1;
    struct thread *thread = guard();
    int result = real.malloc_info(options, stream);
    unguard(thread);
    return result;
}

HOOK_EXPORT void malloc_stats(void)
{
    if (UNLIKELY(!real_init()))
        return;
    struct thread *thread = guard();
    real.malloc_stats();
    unguard(thread);
}

HOOK_EXPORT int mallopt(int parameter, int value)
{
    if (UNLIKELY(!real_init()))
        return 0;
    struct thread *thread = guard();
    int result = real.mallopt(parameter, value);
    unguard(thread);
    return result;
}
