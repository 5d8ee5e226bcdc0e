/* SPDX-License-Identifier: MIT */
/* mmap and its family: the program's own anonymous memory, by the site that mapped it. */
#include "shim/real.h"

#include "freestanding/sys.h"
#include "shim/hook.h"
#include "shim/mapping.h"
#include "shim/recorder.h"
#include "shim/stack.h"
#include "shim/start.h"
#include "shim/thread.h"

#include <errno.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <unistd.h>

static inline __attribute__((always_inline)) struct thread *enter(void)
{
    return start_settings.mappings ? thread_enter() : NULL;
}

static size_t whole_pages(size_t bytes)
{
    size_t page = sys_page_bytes();
    return (bytes + page - 1) & ~(page - 1);
}

/* A fixed mapping replaces what was there; a file's pages are the ledger's business, not a site's. */
static void mapped(struct thread *thread, void *address, size_t bytes, int flags, const struct unwind_start *start)
{
    bytes = whole_pages(bytes);
    if (flags & MAP_ANONYMOUS) {
        mapping_add(thread, (uintptr_t)address, bytes, stack_site(thread, start, HMK_KIND_MAPPING));
    } else if (flags & (MAP_FIXED)) {
        struct mapping_removed removed;
        mapping_remove(thread, (uintptr_t)address, bytes, &removed);
    }
}

HOOK_EXPORT void *mmap(void *address, size_t bytes, int protection, int flags, int fd, off_t offset)
{
    if (UNLIKELY(!real_init())) {
        void *early = sys_map_raw(address, bytes, protection, flags, fd, (uint64_t)offset);
        return early;
    }
    struct thread *thread = enter();
    void *result = real.mmap(address, bytes, protection, flags, fd, offset);
    if (thread == NULL)
        return result;
    if (result != MAP_FAILED) {
        struct unwind_start start = unwind_start_here();
        mapped(thread, result, bytes, flags, &start);
    }
    thread_leave(thread);
    return result;
}

HOOK_EXPORT void *mmap64(void *address, size_t bytes, int protection, int flags, int fd, off64_t offset)
{
    if (UNLIKELY(!real_init())) {
        void *early = sys_map_raw(address, bytes, protection, flags, fd, (uint64_t)offset);
        return early;
    }
    struct thread *thread = enter();
    void *result = real.mmap64(address, bytes, protection, flags, fd, offset);
    if (thread == NULL)
        return result;
    if (result != MAP_FAILED) {
        struct unwind_start start = unwind_start_here();
        mapped(thread, result, bytes, flags, &start);
    }
    thread_leave(thread);
    return result;
}

HOOK_EXPORT int munmap(void *address, size_t bytes)
{
    if (UNLIKELY(!real_init()))
        return sys_unmap(address, bytes) == 0 ? 0 : -1;
    struct thread *thread = enter();
    if (thread == NULL)
        return real.munmap(address, bytes);
    struct mapping_removed removed;
    mapping_remove(thread, (uintptr_t)address, whole_pages(bytes), &removed);
    int status = real.munmap(address, bytes);
    if (UNLIKELY(status != 0))
        mapping_put_back(thread, &removed);
    thread_leave(thread);
    return status;
}

HOOK_EXPORT void *mremap(void *address, size_t old_bytes, size_t bytes, int flags, ...)
{
    void *wanted = NULL;
    if (flags & MREMAP_FIXED) {
        va_list arguments;
        va_start(arguments, flags);
        wanted = va_arg(arguments, void *);
        va_end(arguments);
    }
    if (UNLIKELY(!real_init()))
        return MAP_FAILED;
    struct thread *thread = enter();
    if (thread == NULL)
        return real.mremap(address, old_bytes, bytes, flags, wanted);
    struct mapping_removed removed;
    mapping_remove(thread, (uintptr_t)address, whole_pages(old_bytes), &removed);
    void *result = real.mremap(address, old_bytes, bytes, flags, wanted);
    if (result == MAP_FAILED)
        mapping_put_back(thread, &removed);
    else if (removed.count > 0)     /* the mapping keeps the site that made it */
        mapping_add(thread, (uintptr_t)result, whole_pages(bytes), removed.piece[0].site);
    thread_leave(thread);
    return result;
}

HOOK_EXPORT int madvise(void *address, size_t bytes, int advice)
{
    if (UNLIKELY(!real_init()))
        return sys_advise(address, bytes, advice) == 0 ? 0 : -1;
    int status = real.madvise(address, bytes, advice);
    bool gives_back = advice == MADV_DONTNEED || advice == MADV_FREE || advice == MADV_COLD || advice == MADV_PAGEOUT ||
                      advice == MADV_REMOVE;
    if (status != 0 || !gives_back)
        return status;
    struct thread *thread = enter();
    if (thread == NULL)
        return status;
    struct unwind_start start = unwind_start_here();
    uint32_t site = stack_site(thread, &start, HMK_KIND_ADVICE);
    recorder_count(thread, site, (int64_t)whole_pages(bytes), true);
    recorder_count(thread, site, (int64_t)whole_pages(bytes), false);
    thread_leave(thread);
    return status;
}

static void moved_break(intptr_t change, const struct unwind_start *start)
{
    struct thread *thread = change != 0 ? enter() : NULL;
    if (thread == NULL)
        return;
    uint32_t site = stack_site(thread, start, HMK_KIND_BREAK);
    recorder_count(thread, site, change > 0 ? change : -change, change > 0);
    thread_leave(thread);
}

HOOK_EXPORT int brk(void *end)
{
    if (UNLIKELY(!real_init())) {
        errno = ENOMEM;
        return -1;
    }
    char *before = real.sbrk(0);
    int status = real.brk(end);
    if (status == 0) {
        struct unwind_start start = unwind_start_here();
        moved_break((char *)end - before, &start);
    }
    return status;
}

HOOK_EXPORT void *sbrk(intptr_t change)
{
    if (UNLIKELY(!real_init())) {
        errno = ENOMEM;
        return (void *)-1;
    }
    void *before = real.sbrk(change);
    if (before != (void *)-1) {
        struct unwind_start start = unwind_start_here();
        moved_break(change, &start);
    }
    return before;
}
