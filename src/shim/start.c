/* SPDX-License-Identifier: MIT */
#include "shim/start.h"

#include "census/blockmap.h"
#include "freestanding/sys.h"
#include "freestanding/text.h"
#include "shim/control.h"
#include "shim/fork.h"
#include "shim/lever.h"
#include "shim/mapping.h"
#include "shim/marks.h"
#include "shim/module.h"
#include "shim/overhead.h"
#include "shim/python.h"
#include "shim/real.h"
#include "shim/recorder.h"
#include "shim/recording.h"
#include "shim/sampling.h"
#include "shim/stack.h"
#include "shim/survey.h"
#include "shim/thread.h"
#include "shim/timeline.h"
#include "shim/unwind.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

struct settings start_settings;
bool start_is_glibc = true;
static bool finished;

/* ---- begin -------------------------------------------------------------------------------------- */

/* The folder this library was loaded from; "" when the loader cannot say. */
static void own_directory(char *path, size_t bytes)
{
    Dl_info info;
    path[0] = 0;
    if (dladdr((void *)own_directory, &info) == 0 || info.dli_fname == NULL)
        return;
    size_t length = text_length(info.dli_fname);
    while (length > 0 && info.dli_fname[length - 1] != '/')
        length--;
    if (length == 0 || length >= bytes)
        return;
    __builtin_memcpy(path, info.dli_fname, length - (length > 1));
    path[length - (length > 1)] = 0;
}

/* A child image is one whose parent has this library mapped; asked only when children are not wanted. */
static bool parent_is_profiled(void)
{
    char path[64], maps[8192];
    struct text name = text_over(path, sizeof path);
    text_put(&name, "/proc/");
    text_u64(&name, (uint64_t)sys_getppid());
    text_put(&name, "/maps");
    int fd = sys_open(path, O_RDONLY, 0);
    if (fd < 0)
        return false;
    static const char wanted[] = "/libheapmark.so";
    size_t matched = 0;
    bool found = false;
    for (long got; !found && (got = sys_read(fd, maps, sizeof maps)) > 0;)
        for (long i = 0; i < got && !found; i++) {
            matched = maps[i] == wanted[matched] ? matched + 1 : maps[i] == wanted[0];
            found = wanted[matched] == 0;
        }
    sys_close(fd);
    return found;
}

/* On stderr, by the first process of a family alone: its children would say the same, into output that their parents read. */
static void complain(const char *sentence)
{
    char line[4300];
    if (sentence[0] == 0 || parent_is_profiled())
        return;
    struct text text = text_over(line, sizeof line);
    text_put(&text, "heapmark: ");
    text_put(&text, sentence);
    text_char(&text, '\n');
    sys_say(2, line, text.used);
}

static void note_status(int status, void *unused)
{
    (void)unused;
    if (start_is_owner() && recording_live->state == HMK_STATE_EXITED)
        HMK_SET(recording_live->exit_status, status);
}

/*
 * In two steps.  The recording begins with the first event of the process, which may come from another library's
 * constructor before ours runs; so that step calls nothing that takes a lock of libc's.  Our constructor does the rest:
 * the helper library, the signal handler, on_exit.
 */
static enum { NOT_BEGUN, BEGINNING, BEGUN, REFUSED } stage;

static bool set_up(void)
{
    static unsigned char scratch[MODULE_SCRATCH];
    bool stacks = unwind_init(&start_settings);
    start_is_glibc = real_is_glibc();
    blockmap_init(start_is_glibc);
    if (start_is_glibc)
        real_pass_directly();
    if (!recording_open(&start_settings, environ) || !thread_init() || !stack_init((uint32_t)start_settings.verify) || !module_init(scratch))
        return false;
    if (start_settings.sample_bytes != 0) {
        marks_begin();
        sampling_start(start_settings.sample_bytes, HMK_SITE_FIRST);
    }
    if (start_settings.free_sites)
        recorder_charge_free_sites();
    if (start_settings.python && start_settings.verify == 0)     /* the oracle knows native frames only */
        python_look();
    const char *name = unwind_name();
    recording_header->unwinder = recording_string(name, text_length(name));
    if (!stacks)
        recording_event(HMK_EVENT_DEGRADED, 0, 0, 0, 0, "no stacks: no memory for the unwinder");
    return true;
}

static void begin(const char *complaint)
{
    stage = REFUSED;
    complain(complaint);
    if (start_settings.disabled || (start_settings.children != SETTINGS_CHILDREN_ALL && parent_is_profiled()))
        return;
    stage = BEGINNING;
    bool ready = set_up();
    complain(recording_problem());
    if (!ready) {
        stage = REFUSED;
        return;
    }
    if (complaint[0] != 0)
        recording_event(HMK_EVENT_DEGRADED, 0, 0, 0, 0, complaint);
    if (recording_problem()[0] != 0)
        recording_event(HMK_EVENT_DEGRADED, 0, 0, 0, 0, recording_problem());
    recording_event(HMK_EVENT_START, 0, 0, 0, 0, NULL);
    timeline_init(start_settings.timeline_ms * 1000000u);
    overhead_init(start_settings.budget, start_settings.sample_bytes);
    timeline_now();
    survey_init(environ);
    stage = BEGUN;
    thread_open_gate();
}

bool start_early(void)
{
    char complaint[512];
    if (stage != NOT_BEGUN || environ == NULL || !real_init())
        return false;
    settings_read(&start_settings, environ, complaint, sizeof complaint);
    if (start_settings.unwinder == SETTINGS_UNWINDER_LIBUNWIND)
        return false;       /* it needs the helper library, which only our constructor may open */
    begin(complaint);
    return stage == BEGUN;
}

/* What the loader allocates for us is not the host's. */
static bool ask_loader(void)
{
    char directory[4096];
    struct thread *thread = stage == BEGUN ? thread_current() : NULL;
    own_directory(directory, sizeof directory);
    if (thread != NULL)
        thread->busy = THREAD_OWN_WORK;
    bool opened = directory[0] != 0 && unwind_libunwind_open(directory);
    lever_init();
    if (thread != NULL)
        thread->busy = 0;
    return opened;
}

__attribute__((constructor)) static void complete(void)
{
    char complaint[512];
    if (!real_init())
        return;
    if (stage == NOT_BEGUN) {
        settings_read(&start_settings, environ, complaint, sizeof complaint);
        if (start_settings.unwinder != SETTINGS_UNWINDER_LIBUNWIND)
            begin(complaint);
    }
    bool helper = stage != REFUSED && ask_loader();
    if (stage == NOT_BEGUN)
        begin(complaint);
    if (stage != BEGUN)
        return;
    if (!helper)
        recording_event(HMK_EVENT_DEGRADED, 0, 0, 0, 0, "no help with odd stacks: libheapmark-unwind.so could not be opened");
    on_exit(note_status, NULL);
    control_init(start_settings.signal != 0);
}

/* ---- end ---------------------------------------------------------------------------------------- */

bool start_is_owner(void)
{
    return *thread_gate != THREAD_GATE_SHUT && thread_is_owner();
}

/* A program that calls abort() may yet be saved by its SIGABRT handler, and one whose exec fails goes on. */
static bool is_for_good(enum hmk_state state)
{
    return state != HMK_STATE_EXECED && state != HMK_STATE_ABORTED;
}

__attribute__((cold, noinline)) void start_finish(enum hmk_state state, int status)
{
    if (is_for_good(state) ? __atomic_exchange_n(&finished, true, __ATOMIC_ACQ_REL) : finished) {
        recording_end(state, status);   /* another thread is at it, and this one will not let it come to its end */
        return;
    }
    if (is_for_good(state))
        thread_give_up_event();
    struct thread *thread = thread_enter();
    if (thread_self != NULL)
        recorder_flush(thread_self);
    timeline_now();
    timeline_read_peak();
    if (thread != NULL && state != HMK_STATE_EXECED && start_settings.census) {
        struct control_answer ignored;
        control_perform(thread, HMK_REQUEST_AT_EXIT, 0, "", &ignored);
    }
    if (is_for_good(state))
        recording_event(HMK_EVENT_EXIT, (uint64_t)status, 0, 0, 0, NULL);
    recording_end(state, status);
    if (thread != NULL)
        thread_leave(thread);
}

__attribute__((destructor)) static void end(void)
{
    if (start_is_owner())
        start_finish(HMK_STATE_EXITED, -1);
}

/* ---- fork --------------------------------------------------------------------------------------- */

bool fork_settle_child(void)
{
    if (start_settings.children == SETTINGS_CHILDREN_NO) {
        thread_shut_gate();
        return false;
    }
    finished = false;
    if (!recording_fork_child()) {
        thread_shut_gate();
        return false;
    }
    blockmap_fork_child();
    stack_after_fork();
    module_after_fork();
    timeline_after_fork();
    overhead_after_fork();
    control_after_fork();
    survey_after_fork();
    thread_after_fork();
    struct thread *thread = thread_current();
    if (thread == NULL) {
        thread_shut_gate();
        return false;
    }
    thread->busy = THREAD_OWN_WORK;
    recorder_inherit(thread);
    mapping_after_fork(thread);
    recording_event(HMK_EVENT_START, 0, 0, 0, 0, NULL);
    timeline_now();
    thread->busy = 0;
    return true;
}
