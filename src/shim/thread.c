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
#include <sys/mman.h>

THREAD_LOCAL struct thread *thread_self;

#define SLOT_LIMIT 65536u
static struct thread **slots;       /* SLOT_LIMIT pointers, lazily touched */
static uint32_t slot_count;
static uint32_t slot_scan;          /* where the search for a dead thread's slot goes on */
static struct spin slot_lock;
/* Before glibc 2.34 these are in a library of their own, which a preload must not bring into a program without threads. */
#pragma weak pthread_key_create
#pragma weak pthread_setspecific
static pthread_key_t key;
static bool have_key;
static int owner_pid;
/* Of a thread that got no slot: events until it asks again. */
static _Thread_local uint32_t refused __attribute__((tls_model("initial-exec")));
#define REFUSED_EVENTS 4096

/* What an event leaves behind that did not come to its end. */
static void forget_event(struct thread *thread)
{
    thread->busy = 0;
    thread->last_block = NULL;
    thread->stack_generation = 0;       /* the unwinder's state, too, may be half of one stack and half of another */
    if (thread->unwind_whole != NULL)
        unwind_thread_reset(thread->unwind_whole);
}

void thread_give_up_event(void)
{
    struct thread *thread = thread_self;
    if (thread == NULL || thread->busy == 0 || thread->busy == THREAD_OWN_WORK)
        return;
    stack_abandon(thread);
    forget_event(thread);
    sampling_line.passing = 0;
    __atomic_add_fetch(&recording_live->abandoned_events, 1, __ATOMIC_RELAXED);
}

/* The thread's cache goes after its last TSD destructor, under the allocator's locks: no request may be served then. */
static void tear_down(void *state)
{
    struct thread *thread = state;
    thread->no_serve = 1;
    /* A handler left an event, and the thread ends without another, in which that would be noticed. */
    if (thread == thread_self)
        thread_give_up_event();
}

/* Around the locks that libc's fork takes on all arenas.  The hook of fork alone would miss daemon and forkpty.  In the
 * child the state is made anew before anything is served. */
static void before_fork(void)
{
    struct thread *thread = *thread_gate != THREAD_GATE_SHUT ? thread_current() : NULL;
    if (thread != NULL)
        thread->no_serve++;
}

/* A signal handler may have forked within a hook.  That hook will go on when the handler returns, and what it writes must not
 * reach the parent's recording. */
static void after_fork_in_child(void)
{
    if (thread_self != NULL && thread_self->busy)
        recording_make_private();
}

static void after_fork_in_parent(void)
{
    if (thread_self != NULL && thread_self->no_serve > 0)
        thread_self->no_serve--;
}

bool thread_init(void)
{
    owner_pid = sys_getpid();
    slots = sys_map_anonymous(SLOT_LIMIT * sizeof *slots);
    have_key = pthread_key_create != NULL && pthread_key_create(&key, tear_down) == 0;
    return slots != NULL;
}

void thread_guard_forks(void)
{
    pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
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
#define ARRAY_BYTES(type) (((UNWIND_DEPTH_LIMIT + 1) * sizeof(type) + 63) & ~(size_t)63)
#define STATE_BYTES (sizeof(struct thread) + ARRAY_BYTES(uint64_t) + ARRAY_BYTES(uint32_t) + THREAD_SCRATCH)
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
    unsigned char *arrays = (unsigned char *)(thread + 1);
    thread->hash = (uint64_t *)arrays;
    thread->node = (uint32_t *)(arrays + ARRAY_BYTES(uint64_t));
    thread->scratch = arrays + ARRAY_BYTES(uint64_t) + ARRAY_BYTES(uint32_t);
    return thread;
}

/* A slot must be able to count at least what cannot be told apart: the cells of the fixed sites come with it. */
static bool make_records(struct thread *thread)
{
    static const struct hmk_histogram no_histogram;
    struct hmk_thread record = {.tid = (uint32_t)thread->tid, .start_ns = sys_monotonic_ns()};
    if (thread->unwind == NULL)
        return false;
    uint64_t index = recording_append_pair(HMK_THREADS, &record, HMK_HISTOGRAMS, &no_histogram);
    if (index == RECORDING_NONE)
        return false;
    thread->slot = (uint32_t)index;
    thread->record = recording_at(HMK_THREADS, index);
    thread->histogram = recording_at(HMK_HISTOGRAMS, index);
    return thread_cell_slow(thread, HMK_SITE_LOST) != NULL;
}

static struct thread *new_slot(int32_t tid)
{
    struct thread *thread = new_state();
    if (thread == NULL)
        return NULL;
    thread->tid = tid;
    bool complete = make_records(thread);
    spin_lock(&slot_lock);
    bool kept = complete && slot_count < SLOT_LIMIT;
    if (kept) {
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
    forget_event(thread);
    thread->no_serve = 0;
    thread->deferred_done = thread->deferred_made;
    thread->pending = 0;
    thread->countdown = 1;
    sampling_draw(thread);
    HMK_SET(thread->record->tid, (uint32_t)tid);
    HMK_SET(thread->record->served, thread->record->served + 1);
    sys_thread_name(thread->record->name);
    thread->verify_countdown = stack_verify_every();
}

bool thread_is_owner(void)
{
    return owner_pid == sys_getpid();
}

/* All signals are blocked: a handler that allocates meanwhile comes later. */
static void attach(void)
{
    /* A vfork child's tid is gone in a moment, and the slot would then look free while its parent uses it. */
    if (!thread_is_owner())
        return;
    int32_t tid = sys_gettid();
    struct thread *thread = take_over_slot(tid);
    if (thread == NULL)
        thread = new_slot(tid);
    if (thread == NULL) {
        refused = REFUSED_EVENTS;
        return;
    }
    settle(thread, tid);
    if (thread_count() > 1)
        shield_note_threads();
    recorder_thread_joined(thread, thread_count());
    thread_self = thread;
    if (!have_key)
        thread->no_serve = tid != owner_pid;    /* nobody would say when the thread is torn down */
    else
        pthread_setspecific(key, thread);   /* allocates nothing: an early key lies in the thread's own block */
}

__attribute__((cold, noinline)) struct thread *thread_current(void)
{
    if (thread_self == NULL && (refused == 0 || --refused == 0)) {
        uint64_t signals;
        sys_block_signals(&signals);
        if (thread_self == NULL)
            attach();
        sys_restore_signals(&signals);
    }
    return thread_self;
}

struct thread *thread_of_handler(void)
{
    return refused ? thread_self : thread_current();
}

/* Does the hook that made the thread busy still stand on the stack, below the one whose frame this is? */
static bool is_nested(const struct thread *thread, uintptr_t frame)
{
    uintptr_t held = thread->busy, low, high;
    bool on_signal_stack = sys_signal_stack(&low, &high);
    if (!on_signal_stack && (frame >= held || (held >= low && held < high)))
        return false;
    const uint64_t *slot = (const uint64_t *)held + 1;
    return sys_readable(slot) && *slot == thread->busy_return;
}

/* The child's own recording; of several threads that come first, one makes it. */
static bool settle_child(uint32_t *gate)
{
    static int settling_pid;
    int pid = sys_getpid(), other = __atomic_load_n(&settling_pid, __ATOMIC_ACQUIRE);
    uint64_t signals;
    sys_block_signals(&signals);
    bool mine = other != pid && __atomic_compare_exchange_n(&settling_pid, &other, pid, false, __ATOMIC_ACQ_REL,
                                                            __ATOMIC_ACQUIRE);
    if (mine && fork_settle_child())
        __atomic_store_n(gate, 1, __ATOMIC_RELEASE);
    for (unsigned round = 0; !mine && round < 10000 && *(volatile uint32_t *)gate != 1; round++) {
        if (gate_is_closed())
            break;
        sys_nap(50);
    }
    sys_restore_signals(&signals);
    return __atomic_load_n(&thread_gate, __ATOMIC_ACQUIRE) == gate && __atomic_load_n(gate, __ATOMIC_ACQUIRE) == 1;
}

/* The longest hold is a fork of a very large process.  Nobody who holds the others can end without ending all. */
#define HELD_ROUNDS 1000000u
#define HELD_NAP_US 30u

static void await_gate(const uint32_t *gate)
{
    for (unsigned round = 0; round < HELD_ROUNDS && *(const volatile uint32_t *)gate == THREAD_GATE_HELD; round++)
        sys_nap(HELD_NAP_US);
}

/* In a hook, or in own work, that has not come to its end. */
static bool is_inside(const struct thread *thread, uintptr_t frame)
{
    return thread->busy == THREAD_OWN_WORK || is_nested(thread, frame);
}

__attribute__((cold, noinline)) struct thread *thread_enter_slow(uintptr_t frame, uint64_t returns_to)
{
    if (gate_is_closed() && !start_early())
        return NULL;
    uint32_t *gate = thread_gate;
    struct thread *thread = thread_self;
    bool abandoned = thread != NULL && thread->busy != 0;
    if (abandoned && is_inside(thread, frame)) {
        /* In the child of a fork that a handler made within a hook the gate is wiped: it settles at its next event. */
        if (thread->busy != THREAD_OWN_WORK && *gate != THREAD_GATE_SHUT)
            __atomic_add_fetch(&recording_live->lost_reentrant, 1, __ATOMIC_RELAXED);
        return NULL;
    }
    await_gate(gate);
    if (*gate == THREAD_GATE_SHUT && !settle_child(gate))
        return NULL;
    thread = thread_current();
    if (thread == NULL)
        return NULL;
    if (abandoned) {
        stack_abandon(thread);
        forget_event(thread);
        sampling_line.passing = 0;
        recording_reopen();     /* had it called abort(), it was saved */
        __atomic_add_fetch(&recording_live->abandoned_events, 1, __ATOMIC_RELAXED);
    }
    thread->busy_return = returns_to;
    for (unsigned attempt = 0; attempt < 3; attempt++) {
        await_gate(gate);
        __atomic_signal_fence(__ATOMIC_SEQ_CST);
        thread->busy = frame;
        __atomic_signal_fence(__ATOMIC_SEQ_CST);
        if (*(volatile uint32_t *)gate != THREAD_GATE_HELD)
            break;
        if (attempt < 2)
            thread->busy = 0;
    }
    return thread;
}

/* ---- holding the others ------------------------------------------------------------------------- */

#define LEAVE_ROUNDS 1000u
#define LEAVE_NAP_US 50u

struct leaving {
    const struct thread *self;
    uint32_t inside;
    bool sure;              /* asks the kernel whether a thread that seems to be inside lives */
    bool all;               /* anyone may be inside */
};

static void count_inside(struct thread *thread, void *context)
{
    struct leaving *leaving = context;
    bool inside = leaving->all || __atomic_load_n(&thread->busy, __ATOMIC_ACQUIRE) != 0;
    if (thread != leaving->self && inside && !(leaving->sure && is_gone(thread)))
        leaving->inside++;
}

uint32_t thread_hold_others(const struct thread *self)
{
    struct leaving leaving = { .self = self };
    __atomic_store_n(thread_gate, THREAD_GATE_HELD, __ATOMIC_SEQ_CST);
    sys_barrier();          /* a thread that saw the gate open has been seen to be busy from here on */
    for (unsigned round = 0; round < LEAVE_ROUNDS; round++) {
        leaving.inside = 0;
        leaving.sure = round % 64 == 63 || round + 1 == LEAVE_ROUNDS;
        thread_each(count_inside, &leaving);
        if (leaving.inside == 0)
            break;
        sys_nap(LEAVE_NAP_US);
    }
    if (sampling_interval != 0) {       /* calls that are passed over do not come to the door */
        leaving = (struct leaving){ .self = self, .sure = true, .all = true };
        thread_each(count_inside, &leaving);
    }
    return leaving.inside;
}

void thread_let_go(void)
{
    __atomic_store_n(thread_gate, THREAD_GATE_OPEN, __ATOMIC_RELEASE);
}

__attribute__((cold, noinline)) void thread_leave_slow(struct thread *thread)
{
    recorder_leave_slow(thread);
}

/* The other threads do not exist here: all states, the caller's too, become spares. */
void thread_after_fork(void)
{
    spin_reset(&slot_lock);
    shield_note_alone();
    for (uint32_t i = 0; i < slot_count && spare_count < SPARE_LIMIT; i++)
        spares[spare_count++] = slots[i];
    slot_count = 0;
    slot_scan = 0;
    thread_self = NULL;
    refused = 0;
    owner_pid = sys_getpid();
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
    if (HMK_GET(recording_tables[HMK_CELLS].full) || HMK_GET(recording_tables[HMK_CELL_INDEX].full))
        return NULL;    /* without the lock, which every event of that site would take */
    struct hmk_cell_index index = {.thread = thread->slot, .first_site = page * HMK_CELLS_PER_PAGE};
    uint64_t record = recording_append_pair(HMK_CELL_INDEX, &index, HMK_CELLS, &empty);
    if (record == RECORDING_NONE)
        return NULL;
    thread->cells[page] = recording_at(HMK_CELLS, record);
    return &thread->cells[page]->cell[site % HMK_CELLS_PER_PAGE];
}
