/* SPDX-License-Identifier: MIT */
#ifndef HEAPMARK_SHIM_THREAD_H
#define HEAPMARK_SHIM_THREAD_H

/*
 * What the shim keeps for each thread, and the door that every hook goes through.
 *
 * thread_enter is the off switch, the fork check and the re-entry guard in one: NULL means "pass the call on and
 * record nothing".  The gate is one word on a page that the kernel wipes in every child of fork or clone
 * (MADV_WIPEONFORK), so a child that shares no memory with us notices before its first write into the parent's file,
 * while a vfork child, which runs in the parent's memory, is rightly taken for the parent.
 *
 * A slot outlives its thread: when a new thread comes, slots whose thread is gone (tgkill says ESRCH) are taken over,
 * counters and all, so the recording is bounded by the number of threads that live at once.  No destructor is needed,
 * and a thread that allocates in its very last TSD destructor is still recorded.
 *
 * The guard is the hook's frame address and what that frame returns to, for a hook may never come to its end: a signal
 * handler of the host can leave it by longjmp.  The next event from an outer frame, or one that finds the old frame
 * overwritten, takes the guard over.
 */

#include "contract/format.h"
#include "shim/gate.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct unwind_thread;

enum thread_pending {
    THREAD_PENDING_REQUEST = 1u << 0,   /* see control.h */
    THREAD_PENDING_WATCH = 1u << 1,     /* see survey.h */
    THREAD_PENDING_DEATHS = 1u << 2     /* deferred ones, of a signal handler */
};

#define THREAD_CELL_PAGES (HMK_SITE_LIMIT / HMK_CELLS_PER_PAGE)
#define THREAD_DEFERRED 16u
struct thread_deferred {
    uint32_t site;
    uint32_t slack;
    uint64_t weight_count, weight_bytes;
};

#define THREAD_OWN_WORK 1u              /* for busy: own work, which nobody leaves; hooks within it are not the host's */

struct thread {
    uintptr_t busy;                     /* frame address of the hook that this thread is in; 0: in none */
    uint64_t busy_return;               /* what that frame returns to */
    const void *last_block;             /* newest block, NULL once another event came */
    uint64_t last_left;                 /* sampling_line.sample_left when it was made */
    int32_t countdown;                  /* events until the clock is looked at */
    uint32_t pending;                   /* enum thread_pending: work for the outermost exit */
    struct unwind_thread *unwind;
    struct hmk_thread *record;
    struct hmk_histogram *histogram;
    uint64_t *hash;                     /* prefix hashes and nodes of the last captured stack, root first */
    uint32_t *node;
    uint32_t stack_generation;
    bool drawn;                         /* the next sampling point was */
    uint32_t verify_countdown;          /* captures until one is verified; 0: never */
    uint32_t no_serve;                  /* inside fork or a libc call that holds arena locks, or being torn down */
    uint64_t spent_cycles;              /* in our hooks, estimated from one event in 64; see overhead.h */
    uint64_t random;
    uint32_t slot;
    int32_t tid;                        /* 0: the slot is free */
    struct unwind_thread *unwind_whole; /* for stacks that are wanted whole; made when first needed */
    void *scratch;                      /* THREAD_SCRATCH bytes for cold work that must not use the host's stack */
    uint32_t deferred_made, deferred_done;  /* frees that signal handlers made while this thread was in a hook */
    struct thread_deferred deferred[THREAD_DEFERRED];
    struct hmk_cell_page *cells[THREAD_CELL_PAGES];
};
#define THREAD_SCRATCH (192u * 1024)
#define THREAD_SCRATCH_MERGE (64u * 1024)   /* offset of the part for merging Python and native frames */

#define THREAD_LOCAL _Thread_local __attribute__((tls_model("initial-exec"), visibility("hidden")))
extern THREAD_LOCAL struct thread *thread_self;

struct thread *thread_enter_slow(uintptr_t frame, uint64_t returns_to);
void thread_leave_slow(struct thread *thread);

/* Marks the thread as busy in the function that this is used in, whose frame must stand until the thread is left. */
static inline __attribute__((always_inline)) void thread_hold(struct thread *thread)
{
    thread->busy_return = (uint64_t)__builtin_return_address(0);
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    thread->busy = (uintptr_t)__builtin_frame_address(0);
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
}

static inline __attribute__((always_inline)) struct thread *thread_enter(void)
{
    struct thread *thread = thread_self;
    if (__builtin_expect(thread != NULL && thread->busy == 0, 1)) {
        /* First busy, then the gate: a handler that forks in between sees that it does so within a hook. */
        thread_hold(thread);
        if (__builtin_expect(*thread_gate == 1, 1))
            return thread;
        thread->busy = 0;
    }
    return thread_enter_slow((uintptr_t)__builtin_frame_address(0), (uint64_t)__builtin_return_address(0));
}

static inline void thread_leave(struct thread *thread)
{
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    /* A second thread that begins waits for this, and then counts on what the event has stored. */
    __atomic_store_n(&thread->busy, 0, __ATOMIC_RELEASE);
    if (__builtin_expect(thread->pending != 0, 0))
        thread_leave_slow(thread);
}

/* Of the process whose memory this is: not a vfork child that runs in it. */
bool thread_is_owner(void);
bool thread_init(void);                 /* once, before the gate opens */
void thread_guard_forks(void);           /* nothing is served inside libc's fork from now on; takes a lock of libc's */
/* Lets no other thread into a hook until thread_let_go, and waits, not for long, until those that are in one have left it: the
 * heap, the block map and the counters then stand still.  Returns the number of threads that did not leave.  The caller is
 * busy with THREAD_OWN_WORK and has all signals blocked. */
uint32_t thread_hold_others(const struct thread *self);
void thread_let_go(void);
/* In the child of a fork: drops all slots but makes the calling thread's anew.  The new recording is open. */
void thread_after_fork(void);
/* What a handler of the host's interrupted in this thread will not go on, since the process ends. */
void thread_give_up_event(void);
/* The calling thread's state without the gate and the guard (start, exit, control); NULL: none could be made. */
struct thread *thread_current(void);
/* The same for a signal handler.  NULL also when the thread was refused a state before: then nobody knows whether it is
 * inside the allocator. */
struct thread *thread_of_handler(void);
/* Calls visit for all slots ever used. */
void thread_each(void (*visit)(struct thread *thread, void *context), void *context);
uint32_t thread_count(void);

/* The cell of a site; NULL when the disk is full and the cell's page does not exist yet. */
struct hmk_cell *thread_cell_slow(struct thread *thread, uint32_t site);
static inline struct hmk_cell *thread_cell(struct thread *thread, uint32_t site)
{
    struct hmk_cell_page *page = thread->cells[site / HMK_CELLS_PER_PAGE];
    if (__builtin_expect(page == NULL, 0))
        return thread_cell_slow(thread, site);
    return &page->cell[site % HMK_CELLS_PER_PAGE];
}

#endif
