/* SPDX-License-Identifier: MIT */
#include "shim/thread.h"

#include "freestanding/arena.h"
#include "freestanding/sys.h"
#include "shim/fork.h"
#include "shim/recorder.h"
#include "shim/recording.h"
#include "shim/sampling.h"
#include "shim/spin.h"
#include "shim/stack.h"
#include "shim/start.h"
#include "shim/unwind.h"

#include <errno.h>
#include <pthread.h>
#include <stdalign.h>
#include <sys/mman.h>

_Thread_local struct thread *thread_self;

/* 64 KiB: a whole page on every machine, so that nothing else is wiped with it. */
static alignas(65536) uint32_t gate_page[65536 / sizeof(uint32_t)];
static uint32_t closed_gate;
uint32_t *thread_gate = &closed_gate;

#define SLOT_LIMIT 65536u
static struct thread **slots;       /* SLOT_LIMIT pointers, lazily touched */
static uint32_t slot_count;
static uint32_t slot_scan;          /* where the search for a dead thread's slot goes on */
static struct spin slot_lock;
static pthread_key_t key;
static bool have_key;
static _Thread_local uint32_t attaching __attribute__((tls_model("initial-exec")));
static _Thread_local uint32_t refused __attribute__((tls_model("initial-exec")));

/* The thread's cache goes after its last TSD destructor, under the allocator's locks: no request may be served then. */
static void tear_down(void *state)
{
    struct thread *thread = state;
    thread->no_serve = 1;
}

/* Around the locks that libc's fork takes on all arenas.  The hook of fork alone would miss daemon and forkpty.  In the
 * child the state is made anew before anything is served. */
static void before_fork(void)
{
    struct thread *thread = *thread_gate == 1 ? thread_current() : NULL;
    if (thread != NULL)
        thread->no_serve++;
}

static void after_fork_in_parent(void)
{
    if (thread_self != NULL && thread_self->no_serve > 0)
        thread_self->no_serve--;
}

bool thread_init(void)
{
    slots = sys_map_anonymous(SLOT_LIMIT * sizeof *slots);
    have_key = pthread_key_create(&key, tear_down) == 0;
    return slots != NULL;
}

void thread_guard_forks(void)
{
    pthread_atfork(before_fork, after_fork_in_parent, NULL);
}

void thread_open_gate(void)
{
    sys_advise(gate_page, sizeof gate_page, MADV_WIPEONFORK);
    gate_page[0] = 1;
    __atomic_store_n(&thread_gate, gate_page, __ATOMIC_RELEASE);
}

void thread_shut_gate(void)
{
    __atomic_store_n(&thread_gate, &closed_gate, __ATOMIC_RELEASE);
}

static bool is_gone(const struct thread *thread)
{
    return thread->tid == 0 || sys_tgkill(sys_getpid(), thread->tid, 0) == -ESRCH;
}

/* A free slot whose thread is gone; looks at a few, so that thread creation stays cheap with many alive. */
static struct thread *take_over_slot(int32_t tid)
{
    struct thread *found = NULL;
    spin_lock(&slot_lock);
    uint32_t looks = slot_count < 16 ? slot_count : 16;
    for (uint32_t i = 0; i < looks && found == NULL; i++) {
        struct thread *thread = slots[slot_scan++ % slot_count];
        if (thread->tid == tid || is_gone(thread))
            found = thread;
    }
    if (found != NULL)
        found->tid = tid;
    spin_unlock(&slot_lock);
    return found;
}

/* One mapping holds the struct, the arrays of the last stack and the scratch space. */
#define STATE_BYTES (sizeof(struct thread) + (UNWIND_DEPTH_LIMIT + 1) * 12 + THREAD_SCRATCH)
#define SPARE_LIMIT 64u
static struct thread *spares[SPARE_LIMIT];      /* of threads that did not survive a fork; guarded by slot_lock */
static uint32_t spare_count;

static struct thread *new_state(void)
{
    struct thread *thread = NULL;
    spin_lock(&slot_lock);
    if (spare_count > 0)
        thread = spares[--spare_count];
    spin_unlock(&slot_lock);
    if (thread == NULL) {
        thread = sys_map_anonymous(STATE_BYTES);
        if (thread == NULL)
            return NULL;
        thread->unwind = unwind_thread_new();
    } else {
        struct unwind_thread *unwind = thread->unwind, *mapping = thread->unwind_whole;
        sys_advise(thread, STATE_BYTES, MADV_DONTNEED);
        thread->unwind = unwind;
        thread->unwind_whole = mapping;
    }
    thread->hash = (uint64_t *)(thread + 1);
    thread->node = (uint32_t *)(thread->hash + UNWIND_DEPTH_LIMIT + 1);
    thread->scratch = thread->node + UNWIND_DEPTH_LIMIT + 1;
    return thread;
}

static struct thread *new_slot(int32_t tid)
{
    struct thread *thread = new_state();
    if (thread == NULL)
        return NULL;
    thread->tid = tid;
    struct hmk_thread record = {.tid = (uint32_t)tid, .served = 0, .start_ns = sys_monotonic_ns()};
    static const struct hmk_histogram no_histogram;
    uint64_t index = thread->unwind == NULL
                         ? RECORDING_NONE
                         : recording_append_pair(HMK_THREADS, &record, HMK_HISTOGRAMS, &no_histogram);
    spin_lock(&slot_lock);
    bool kept = index != RECORDING_NONE && slot_count < SLOT_LIMIT;
    if (kept) {
        thread->slot = (uint32_t)index;
        thread->record = recording_at(HMK_THREADS, index);
        thread->histogram = recording_at(HMK_HISTOGRAMS, index);
        slots[slot_count] = thread;
        __atomic_store_n(&slot_count, slot_count + 1, __ATOMIC_RELEASE);
    } else if (spare_count < SPARE_LIMIT) {
        spares[spare_count++] = thread;
    }
    spin_unlock(&slot_lock);
    return kept ? thread : NULL;
}

static void settle(struct thread *thread, int32_t tid)
{
    thread->busy = 0;
    thread->passing = 0;
    thread->no_serve = 0;
    thread->deferred_count = 0;
    thread->pending = 0;
    thread->last_block = NULL;
    thread->countdown = 1;
    sampling_draw(thread);
    HMK_SET(thread->record->tid, (uint32_t)tid);
    HMK_SET(thread->record->served, thread->record->served + 1);
    sys_thread_name(thread->record->name);
    unwind_thread_reset(thread->unwind);
    if (thread->unwind_whole != NULL)
        unwind_thread_reset(thread->unwind_whole);
    thread->stack_generation = 0;
    thread->verify_countdown = stack_verify_every();
}

/* Called with signals possible: a handler that allocates meanwhile finds `attaching` set and is passed on. */
__attribute__((cold, noinline)) struct thread *thread_current(void)
{
    if (thread_self != NULL || attaching)
        return thread_self;
    attaching = 1;
    int32_t tid = sys_gettid();
    struct thread *thread = take_over_slot(tid);
    if (thread == NULL)
        thread = new_slot(tid);
    if (thread != NULL) {
        settle(thread, tid);
        recorder_thread_joined(thread_count());
        thread_self = thread;
        if (have_key)
            pthread_setspecific(key, thread);   /* allocates nothing: an early key lies in the thread's own block */
    }
    refused = thread == NULL;
    attaching = 0;
    return thread;
}

struct thread *thread_of_handler(void)
{
    return refused ? thread_self : thread_current();
}

__attribute__((cold, noinline)) struct thread *thread_enter_slow(void)
{
    uint32_t *gate = thread_gate;
    if (gate == &closed_gate) {
        if (!start_early())
            return NULL;
        gate = thread_gate;
    }
    if (*gate != 1) {
        if (thread_self != NULL && thread_self->busy)
            return NULL;    /* forked from a signal handler inside a hook: settle at the next event */
        if (!fork_settle_child())
            return NULL;
        gate_page[0] = 1;
    }
    struct thread *thread = thread_current();
    if (thread == NULL)
        return NULL;
    if (thread->busy) {
        if (thread->busy != THREAD_OWN_WORK)
            HMK_SET(recording_live->lost_reentrant, recording_live->lost_reentrant + 1);
        return NULL;
    }
    thread->busy = 1;
    return thread;
}

__attribute__((cold, noinline)) void thread_leave_slow(struct thread *thread)
{
    recorder_leave_slow(thread);
}

/* The other threads do not exist here: all states, the caller's too, become spares. */
void thread_after_fork(void)
{
    spin_reset(&slot_lock);
    for (uint32_t i = 0; i < slot_count && spare_count < SPARE_LIMIT; i++)
        spares[spare_count++] = slots[i];
    slot_count = 0;
    slot_scan = 0;
    thread_self = NULL;
    attaching = 0;
    refused = 0;
}

void thread_each(void (*visit)(struct thread *, void *), void *context)
{
    uint32_t count = thread_count();
    for (uint32_t i = 0; i < count; i++)
        visit(slots[i], context);
}

uint32_t thread_count(void)
{
    return __atomic_load_n(&slot_count, __ATOMIC_ACQUIRE);
}

__attribute__((cold, noinline)) struct hmk_cell *thread_cell_slow(struct thread *thread, uint32_t site)
{
    uint32_t page = site / HMK_CELLS_PER_PAGE;
    static const struct hmk_cell_page empty;
    struct hmk_cell_index index = {.thread = thread->slot, .first_site = page * HMK_CELLS_PER_PAGE};
    uint64_t record = recording_append_pair(HMK_CELL_INDEX, &index, HMK_CELLS, &empty);
    if (record == RECORDING_NONE)
        return NULL;
    thread->cells[page] = recording_at(HMK_CELLS, record);
    return &thread->cells[page]->cell[site % HMK_CELLS_PER_PAGE];
}
