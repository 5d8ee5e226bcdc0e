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
#include "shim/marks.h"
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

#define THREAD_VECTOR_ENTRY 16      /* bytes; the loader makes a vector of these for every thread, too */

static inline bool is_ready(void)
{
    return LIKELY(real_ready) || real_init();
}

/* A call that is passed over is marked all the same: no request may be served while the allocator's locks are held.  (One
 * that thread_enter refused is inside a hook that is marked, or of a thread that serves nothing.) */
static inline __attribute__((always_inline)) void pass_begin(void)
{
    sampling_line.passing++;
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
}

static inline __attribute__((always_inline)) void pass_end(void)
{
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    sampling_line.passing--;
}

static inline void *finish(struct thread *thread, void *block, size_t bytes, const struct unwind_start *start)
{
    if (UNLIKELY(thread == NULL))
        return block;
    if (LIKELY(block != NULL))
        recorder_birth(thread, block, bytes, start);
    thread_leave(thread);
    return block;
}

/* The hooks that a program calls most have their sampled mode's path, a call that is passed over, to themselves: it needs one
 * register and no frame.  All else is in a function that they jump to, whose caller is the host's code as well.  Where something is
 * passed over, the table of real functions is filled. */
static __attribute__((noinline)) void *malloc_recorded(size_t bytes)
{
    struct thread *thread = thread_enter();
    if (UNLIKELY(thread == NULL))
        return is_ready() ? real.malloc(start_rounded(bytes)) : real_malloc_early(bytes, 16);
    struct unwind_start start = unwind_start_here();
    return finish(thread, real.malloc(start_rounded(bytes)), bytes, &start);
}

HOOK_EXPORT void *malloc(size_t bytes)
{
    if (!sampling_passes_over(bytes))
        return malloc_recorded(bytes);
    pass_begin();
    void *block = real_passed.malloc(bytes);
    pass_end();
    return block;
}

/* A link map: dlclose frees it last, and free must not overlook that. */
static inline void note_loaders(const void *block, const void *caller)
{
    if (UNLIKELY(module_is_loader((uint64_t)caller)) && block != NULL)
        marks_pin(block);
}

static __attribute__((noinline)) void *calloc_recorded(size_t count, size_t each)
{
    size_t bytes;
    if (UNLIKELY(__builtin_mul_overflow(count, each, &bytes)))
        return is_ready() ? real.calloc(count, each) : NULL;
    struct thread *thread = thread_enter();
    struct unwind_start start = unwind_start_here();
    if (UNLIKELY(thread == NULL) && !is_ready())
        return real_malloc_early(bytes, 16);
    void *block = real.calloc(1, start_rounded(bytes));
    if (UNLIKELY(thread == NULL))
        note_loaders(block, __builtin_return_address(0));
    return finish(thread, block, bytes, &start);
}

HOOK_EXPORT void *calloc(size_t count, size_t each)
{
    size_t bytes;
    if (UNLIKELY(__builtin_mul_overflow(count, each, &bytes)) || !sampling_passes_over(bytes))
        return calloc_recorded(count, each);
    pass_begin();
    void *block = real_passed.calloc(count, each);
    pass_end();
    if (each != THREAD_VECTOR_ENTRY)
        note_loaders(block, __builtin_return_address(0));
    return block;
}

/* A block of the early arena moves to the heap when it is resized; its memory is not used again. */
static void *leave_early(void *block, size_t bytes)
{
    size_t old = real_size_early(block);
    void *moved = is_ready() ? real.malloc(start_rounded(bytes)) : real_malloc_early(bytes, 16);
    if (moved != NULL)
        __builtin_memcpy(moved, block, old < bytes ? old : bytes);
    return moved;
}

static void *resize_recorded(struct thread *thread, void *block, size_t bytes, bool record,
                             const struct unwind_start *start)
{
    struct blockmap_block dead;
    bool known = block != NULL && recorder_death(thread, block, start, &dead);
    void *moved = real.realloc(block, block != NULL && bytes == 0 ? 0 : start_rounded(bytes));
    if (moved != NULL && record)
        recorder_birth(thread, moved, bytes, start);
    if (moved == NULL && known && bytes != 0)
        recorder_revive(thread, block, &dead);      /* realloc(p, 0) that returns NULL did free p */
    return moved;
}

static inline void *resize(void *block, size_t bytes, const struct unwind_start *start)
{
    bool record = !sampling_passes_over(bytes);
    bool known = block != NULL && (sampling_interval == 0 || blockmap_may_live(block));
    struct thread *thread = record || known ? thread_enter() : NULL;
    if (UNLIKELY(thread == NULL)) {
        /* Passed over; or a handler that interrupts a hook: the old block leaves the map, the new one stays unknown. */
        if (known)
            recorder_death_nested(block);
        pass_begin();
        void *moved = real.realloc(block, block != NULL && bytes == 0 ? 0 : start_rounded(bytes));
        pass_end();
        return moved;
    }
    void *moved = resize_recorded(thread, block, bytes, record, start);
    thread_leave(thread);
    return moved;
}

static __attribute__((noinline)) void *realloc_recorded(void *block, size_t bytes)
{
    if (UNLIKELY(!is_ready() || real_is_early(block)))
        return block == NULL ? real_malloc_early(bytes, 16) : leave_early(block, bytes);
    struct unwind_start start = unwind_start_here();
    return resize(block, bytes, &start);
}

HOOK_EXPORT void *realloc(void *block, size_t bytes)
{
    if (!marks_clear(block) || !sampling_passes_over(bytes))
        return realloc_recorded(block, bytes);
    pass_begin();
    void *moved = real_passed.realloc(block, bytes);
    pass_end();
    return moved;
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

/* Not of a block that was recorded, as far as is known, or of one that is not for the allocator at all. */
static __attribute__((noinline)) void free_unrecorded(void *block, bool known)
{
    if (real_is_early(block) || !is_ready())
        return;
    if (known)
        recorder_death_nested(block);
    pass_begin();
    real.free(block);
    pass_end();
}

static __attribute__((noinline)) void free_recorded(void *block)
{
    struct unwind_start start = unwind_start_here();
    if (block == NULL)
        return;
    /* A mark, but maybe a neighbour's. */
    if (UNLIKELY(sampling_interval != 0) && !blockmap_may_live(block) && !module_is_loader(start.pc)) {
        free_unrecorded(block, false);
        return;
    }
    struct thread *thread = real_is_early(block) ? NULL : thread_enter();
    if (UNLIKELY(thread == NULL)) {
        free_unrecorded(block, true);
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
    if (!marks_clear(block)) {
        free_recorded(block);
        return;
    }
    pass_begin();
    real.free(block);
    pass_end();
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

/* The rarer ones: passed over or recorded, on one path. */
static inline __attribute__((always_inline)) struct thread *begin(size_t bytes, bool *passed)
{
    *passed = sampling_passes_over(bytes);
    if (!*passed)
        return thread_enter();
    pass_begin();
    return NULL;
}

static inline __attribute__((always_inline)) void *end(struct thread *thread, bool passed, void *block, size_t bytes,
                                                       const struct unwind_start *start)
{
    if (passed)
        pass_end();
    return finish(thread, block, bytes, start);
}

HOOK_EXPORT int posix_memalign(void **result, size_t alignment, size_t bytes)
{
    if (UNLIKELY(!is_ready())) {
        *result = real_malloc_early(bytes, alignment);
        return *result == NULL ? ENOMEM : 0;
    }
    bool passed;
    struct thread *thread = begin(bytes, &passed);
    int status = real.posix_memalign(result, alignment, start_rounded(bytes));
    struct unwind_start start = unwind_start_here();
    end(thread, passed, status == 0 ? *result : NULL, bytes, &start);
    return status;
}

HOOK_EXPORT void *aligned_alloc(size_t alignment, size_t bytes)
{
    if (UNLIKELY(!is_ready()))
        return real_malloc_early(bytes, alignment);
    bool passed;
    struct thread *thread = begin(bytes, &passed);
    struct unwind_start start = unwind_start_here();
    return end(thread, passed, real.aligned_alloc(alignment, start_rounded(bytes)), bytes, &start);
}

HOOK_EXPORT void *memalign(size_t alignment, size_t bytes)
{
    if (UNLIKELY(!is_ready()))
        return real_malloc_early(bytes, alignment);
    bool passed;
    struct thread *thread = begin(bytes, &passed);
    struct unwind_start start = unwind_start_here();
    return end(thread, passed, real.memalign(alignment, start_rounded(bytes)), bytes, &start);
}

HOOK_EXPORT void *valloc(size_t bytes)
{
    if (UNLIKELY(!is_ready()))
        return real_malloc_early(bytes, 4096);
    bool passed;
    struct thread *thread = begin(bytes, &passed);
    struct unwind_start start = unwind_start_here();
    return end(thread, passed, real.valloc(bytes), bytes, &start);
}

HOOK_EXPORT void *pvalloc(size_t bytes)
{
    if (UNLIKELY(!is_ready()))
        return real_malloc_early(bytes, 4096);
    bool passed;
    struct thread *thread = begin(bytes, &passed);
    struct unwind_start start = unwind_start_here();
    return end(thread, passed, real.pvalloc(bytes), bytes, &start);
}

HOOK_EXPORT size_t malloc_usable_size(void *block)
{
    if (block == NULL)
        return 0;
    if (UNLIKELY(real_is_early(block)))
        return real_size_early(block);
    return is_ready() ? real.malloc_usable_size(block) : 0;
}
