/* SPDX-License-Identifier: MIT */
/*
 * malloc and its family.  A hook calls the real function and the recorder, nothing else.
 *
 * Rules: a death is recorded before the real call, a birth after it; errno is libc's own, since nothing here or below
 * touches it; before the table of real functions is filled, blocks come from the early arena; when thread_enter says NULL, the
 * call is passed on and not recorded.
 */
#include "shim/real.h"

#include "shim/hook.h"
#include "shim/module.h"
#include "shim/recorder.h"
#include "shim/sampling.h"
#include "shim/start.h"
#include "shim/thread.h"

#include <errno.h>
#include <malloc.h>
#include <stdlib.h>

void free_sized(void *block, size_t bytes);
void free_aligned_sized(void *block, size_t alignment, size_t bytes);

static inline bool is_ready(void)
{
    return LIKELY(real_ready) || real_init();
}

/* Another allocator than glibc's may place two blocks in 16 bytes; the block map cannot tell them apart. */
static inline size_t rounded(size_t bytes)
{
    if (LIKELY(start_is_glibc) || bytes > SIZE_MAX - 15)
        return bytes;
    return bytes == 0 ? 16 : (bytes + 15) & ~(size_t)15;
}

static inline bool is_passed_over(size_t bytes)
{
    struct thread *thread = thread_self;
    return thread != NULL && sampling_passes_over(thread, bytes);
}

/* A call that is passed over is marked all the same: no request may be served while the allocator's locks are held.  (One
 * that thread_enter refused is inside a hook that is marked, or of a thread that serves nothing.) */
static inline struct thread *pass_begin(struct thread *thread)
{
    thread->passing++;
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    return thread;
}

static inline void pass_end(struct thread *thread)
{
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    thread->passing--;
}

struct call {
    struct thread *thread;      /* NULL: not recorded */
    struct thread *passing;
};

static inline __attribute__((always_inline)) struct call begin(size_t bytes)
{
    if (is_passed_over(bytes))
        return (struct call){NULL, pass_begin(thread_self)};
    return (struct call){thread_enter(), NULL};
}

static inline void *finish(struct call call, void *block, size_t bytes, const struct unwind_start *start)
{
    struct thread *thread = call.thread;
    if (call.passing != NULL)
        pass_end(call.passing);
    if (UNLIKELY(thread == NULL))
        return block;
    if (LIKELY(block != NULL))
        recorder_birth(thread, block, bytes, start);
    else
        sampling_draw(thread);
    thread_leave(thread);
    return block;
}

/* The hooks that a program calls most have their sampled mode's path, a call that is passed over, to themselves: it saves one
 * register and needs no frame.  All else is in a function that they jump to, whose caller is the host's code as well. */
static __attribute__((noinline)) void *malloc_recorded(size_t bytes)
{
    if (UNLIKELY(!is_ready()))
        return real_malloc_early(bytes, 16);
    struct thread *thread = thread_enter();
    if (UNLIKELY(thread == NULL))
        return real.malloc(rounded(bytes));
    struct unwind_start start = unwind_start_here();
    return finish((struct call){thread, NULL}, real.malloc(rounded(bytes)), bytes, &start);
}

HOOK_EXPORT void *malloc(size_t bytes)
{
    struct thread *thread = thread_self;        /* not NULL: the table of real functions is filled */
    if (UNLIKELY(thread == NULL) || !sampling_passes_over(thread, bytes))
        return malloc_recorded(bytes);
    pass_begin(thread);
    void *block = real.malloc(rounded(bytes));
    pass_end(thread);
    return block;
}

HOOK_EXPORT void *calloc(size_t count, size_t each)
{
    size_t bytes;
    if (UNLIKELY(__builtin_mul_overflow(count, each, &bytes)))
        return is_ready() ? real.calloc(count, each) : NULL;
    if (UNLIKELY(!is_ready()))
        return real_malloc_early(bytes, 16);
    struct call call = begin(bytes);
    struct unwind_start start = unwind_start_here();
    return finish(call, real.calloc(1, rounded(bytes)), bytes, &start);
}

/* A block of the early arena moves to the heap when it is resized; its memory is not used again. */
static void *leave_early(void *block, size_t bytes)
{
    size_t old = real_size_early(block);
    void *moved = is_ready() ? real.malloc(rounded(bytes)) : real_malloc_early(bytes, 16);
    if (moved != NULL)
        __builtin_memcpy(moved, block, old < bytes ? old : bytes);
    return moved;
}

static void *resize_recorded(struct thread *thread, void *block, size_t bytes, bool record,
                             const struct unwind_start *start)
{
    struct blockmap_block dead;
    bool known = block != NULL && recorder_death(thread, block, start, &dead);
    void *moved = real.realloc(block, block != NULL && bytes == 0 ? 0 : rounded(bytes));
    if (moved != NULL) {
        if (record)
            recorder_birth(thread, moved, bytes, start);
    } else {
        if (known && bytes != 0)
            recorder_revive(thread, block, &dead);  /* realloc(p, 0) that returns NULL did free p */
        sampling_draw(thread);
    }
    return moved;
}

static inline void *resize(void *block, size_t bytes, const struct unwind_start *start)
{
    bool record = !is_passed_over(bytes);
    bool known = block != NULL && (sampling_interval == 0 || blockmap_may_live(block));
    struct thread *thread = record || known ? thread_enter() : NULL;
    if (UNLIKELY(thread == NULL)) {
        /* Passed over; or a handler that interrupts a hook: the old block leaves the map, the new one stays unknown. */
        if (known)
            recorder_death_nested(block);
        struct thread *passing = record || thread_self == NULL ? NULL : pass_begin(thread_self);
        void *moved = real.realloc(block, block != NULL && bytes == 0 ? 0 : rounded(bytes));
        if (passing != NULL)
            pass_end(passing);
        return moved;
    }
    void *moved = resize_recorded(thread, block, bytes, record, start);
    thread_leave(thread);
    return moved;
}

HOOK_EXPORT void *realloc(void *block, size_t bytes)
{
    if (UNLIKELY(!is_ready() || real_is_early(block)))
        return block == NULL ? real_malloc_early(bytes, 16) : leave_early(block, bytes);
    struct unwind_start start = unwind_start_here();
    return resize(block, bytes, &start);
}

HOOK_EXPORT void *reallocarray(void *block, size_t count, size_t each)
{
    size_t bytes;
    if (UNLIKELY(__builtin_mul_overflow(count, each, &bytes))) {
        errno = ENOMEM;     /* as libc's own */
        return NULL;
    }
    if (UNLIKELY(!is_ready() || real_is_early(block)))
        return block == NULL ? real_malloc_early(bytes, 16) : leave_early(block, bytes);
    struct unwind_start start = unwind_start_here();
    return resize(block, bytes, &start);
}

static __attribute__((noinline)) void free_recorded(void *block)
{
    struct unwind_start start = unwind_start_here();
    if (block == NULL || UNLIKELY(real_is_early(block)) || UNLIKELY(!is_ready()))
        return;
    struct thread *thread = thread_enter();
    if (UNLIKELY(thread == NULL)) {
        recorder_death_nested(block);
        real.free(block);
        return;
    }
    recorder_free(thread, block, &start);
    real.free(block);
    if (UNLIKELY(module_is_loader(start.pc)))
        module_check_unload(thread->scratch);   /* dlclose frees its link map last */
    thread_leave(thread);
}

HOOK_EXPORT void free(void *block)
{
    struct thread *thread = thread_self;
    if (LIKELY(sampling_interval == 0) || thread == NULL || block == NULL || real_is_early(block) ||
        blockmap_may_live(block) || module_is_loader((uint64_t)__builtin_return_address(0))) {
        free_recorded(block);
        return;
    }
    pass_begin(thread);
    real.free(block);
    pass_end(thread);
}

HOOK_EXPORT void free_sized(void *block, size_t bytes)
{
    (void)bytes;
    free_recorded(block);
}

HOOK_EXPORT void free_aligned_sized(void *block, size_t alignment, size_t bytes)
{
    (void)alignment;
    (void)bytes;
    free_recorded(block);
}

HOOK_EXPORT int posix_memalign(void **result, size_t alignment, size_t bytes)
{
    if (UNLIKELY(!is_ready())) {
        *result = real_malloc_early(bytes, alignment);
        return *result == NULL ? ENOMEM : 0;
    }
    struct call call = begin(bytes);
    int status = real.posix_memalign(result, alignment, rounded(bytes));
    struct unwind_start start = unwind_start_here();
    finish(call, status == 0 ? *result : NULL, bytes, &start);
    return status;
}

HOOK_EXPORT void *aligned_alloc(size_t alignment, size_t bytes)
{
    if (UNLIKELY(!is_ready()))
        return real_malloc_early(bytes, alignment);
    struct call call = begin(bytes);
    struct unwind_start start = unwind_start_here();
    return finish(call, real.aligned_alloc(alignment, rounded(bytes)), bytes, &start);
}

HOOK_EXPORT void *memalign(size_t alignment, size_t bytes)
{
    if (UNLIKELY(!is_ready()))
        return real_malloc_early(bytes, alignment);
    struct call call = begin(bytes);
    struct unwind_start start = unwind_start_here();
    return finish(call, real.memalign(alignment, rounded(bytes)), bytes, &start);
}

HOOK_EXPORT void *valloc(size_t bytes)
{
    if (UNLIKELY(!is_ready()))
        return real_malloc_early(bytes, 4096);
    struct call call = begin(bytes);
    struct unwind_start start = unwind_start_here();
    return finish(call, real.valloc(bytes), bytes, &start);
}

HOOK_EXPORT void *pvalloc(size_t bytes)
{
    if (UNLIKELY(!is_ready()))
        return real_malloc_early(bytes, 4096);
    struct call call = begin(bytes);
    struct unwind_start start = unwind_start_here();
    return finish(call, real.pvalloc(bytes), bytes, &start);
}

HOOK_EXPORT size_t malloc_usable_size(void *block)
{
    if (block == NULL)
        return 0;
    if (UNLIKELY(real_is_early(block)))
        return real_size_early(block);
    return is_ready() ? real.malloc_usable_size(block) : 0;
}
