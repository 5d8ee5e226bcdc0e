/* SPDX-License-Identifier: MIT */
/* The one symbol that heapmark.h and heapmark.py look up.  Numbers and structs are those of src/api/heapmark.h. */
#include "freestanding/text.h"
#include "shim/control.h"
#include "shim/hook.h"
#include "shim/recorder.h"
#include "shim/recording.h"
#include "shim/thread.h"
#include "shim/timeline.h"

#include <errno.h>

enum { CALL_ACTIVE, CALL_MARK, CALL_PUSH, CALL_POP, CALL_SNAPSHOT, CALL_TRIM, CALL_STATS };

HOOK_EXPORT int heapmark_entry(int what, const char *text, void *data, unsigned long bytes);

static void copy_out(void *data, unsigned long bytes, const unsigned long *values, size_t count)
{
    size_t known = count * sizeof *values;
    if (data != NULL)
        __builtin_memcpy(data, values, bytes < known ? bytes : known);
}

static int stats(void *data, unsigned long bytes)
{
    const struct hmk_live *live = recording_live;
    timeline_read_peak();
    unsigned long values[] = {(unsigned long)live->heap.live_bytes, (unsigned long)live->heap.live_blocks,
                              (unsigned long)live->heap.peak_bytes, timeline_rss(), live->rss_peak_bytes,
                              live->self_bytes};
    copy_out(data, bytes, values, sizeof values / sizeof *values);
    return 1;
}

static int trim(struct thread *thread, void *data, unsigned long bytes)
{
    struct control_answer answer;
    control_perform(thread, HMK_REQUEST_TRIM, 0, "", &answer);
    unsigned long values[] = {answer.value[HMK_TRIM_RSS_BEFORE], answer.value[HMK_TRIM_RSS_AFTER],
                              answer.value[HMK_TRIM_RETURNED], answer.value[HMK_TRIM_FORECAST],
                              answer.value[HMK_TRIM_NS]};
    copy_out(data, bytes, values, sizeof values / sizeof *values);
    return answer.status == HMK_ANSWER_DONE;
}

static int serve(struct thread *thread, int what, const char *label, void *data, unsigned long bytes)
{
    struct control_answer answer = {.status = HMK_ANSWER_DONE};
    switch (what) {
    case CALL_ACTIVE:
        return 1;
    case CALL_MARK:
        control_perform(thread, HMK_REQUEST_MARK, 0, label, &answer);
        return 1;
    case CALL_PUSH:
    case CALL_POP:
        timeline_now();
        recording_event(what == CALL_PUSH ? HMK_EVENT_PHASE_BEGIN : HMK_EVENT_PHASE_END, 0, 0, 0, 0, label);
        return 1;
    case CALL_SNAPSHOT:
        control_perform(thread, HMK_REQUEST_SNAPSHOT, 0, label, &answer);
        return answer.status == HMK_ANSWER_DONE;
    case CALL_TRIM:
        return trim(thread, data, bytes);
    case CALL_STATS:
        return stats(data, bytes);
    default:
        return 0;
    }
}

int heapmark_entry(int what, const char *text, void *data, unsigned long bytes)
{
    struct thread *thread = thread_enter();
    if (thread == NULL)
        return 0;
    int kept = errno;
    char label[201];
    struct text kept_label = text_over(label, sizeof label);
    text_put(&kept_label, text != NULL ? text : "");
    recorder_flush(thread);
    int result = serve(thread, what, label, data, bytes);
    errno = kept;
    thread_leave(thread);
    return result;
}
