/* SPDX-License-Identifier: MIT */
/* libheapmark-unwind.so: see unwind_helper.h.  Runs inside the host's malloc, under the shim's busy flag. */

#include "shim/unwind_helper.h"

#include "freestanding/sys.h"

#define UNW_LOCAL_ONLY
#include <errno.h>
#include <libunwind.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <unistd.h>

/*
 * libunwind learns whether an address can be read by writing a byte from there into a pipe of its own, which it keeps.
 * Hosts count descriptors and close those that they did not open; once the host has the number, libunwind would read and
 * write the host's file.  This library is opened with RTLD_DEEPBIND, so libunwind finds these functions in place of
 * libc's: there is no pipe, and the question goes to the kernel directly.
 */
#define NO_PIPE (-4711)
#define FOR_LIBUNWIND __attribute__((visibility("default")))

static long answer(long result)
{
    if (result >= 0 || result < -4095)
        return result;
    errno = (int)-result;
    return -1;
}

static long readable(const void *address)
{
    char byte;
    return sys_process_read(sys_getpid(), &byte, address, 1) == 1 ? 1 : answer(-EFAULT);
}

FOR_LIBUNWIND int pipe2(int fds[2], int flags)
{
    (void)flags;
    fds[0] = NO_PIPE;
    fds[1] = NO_PIPE;
    return 0;
}

FOR_LIBUNWIND ssize_t read(int fd, void *buffer, size_t bytes)
{
    return fd == NO_PIPE ? 1 : answer(sys_read(fd, buffer, bytes));   /* 1: the byte that was written before */
}

FOR_LIBUNWIND ssize_t write(int fd, const void *from, size_t bytes)
{
    return fd == NO_PIPE ? readable(from) : answer(sys_call(SYS_write, fd, (long)from, (long)bytes, 0, 0, 0));
}

/* libunwind 1.6 writes by this one. */
FOR_LIBUNWIND long syscall(long number, ...)
{
    long a[6];
    va_list arguments;

    va_start(arguments, number);
    for (int i = 0; i < 6; i++)
        a[i] = va_arg(arguments, long);
    va_end(arguments);
    if (number == SYS_write && (int)a[0] == NO_PIPE)
        return readable((const void *)a[1]);
    return answer(sys_call(number, a[0], a[1], a[2], a[3], a[4], a[5]));
}

/* Where unw_is_signal_frame says yes: at the frame of the trampoline, or at the one that it interrupted. */
#if defined(__x86_64__)
#define TELLS_AT_TRAMPOLINE 0
#else
#define TELLS_AT_TRAMPOLINE 1
#endif

static uint32_t helper_backtrace(uint64_t *pcs, uint32_t capacity)
{
    int depth = unw_backtrace((void **)pcs, (int)capacity);
    return depth > 0 ? (uint32_t)depth : 0;
}

static uint32_t helper_walk(uint64_t sp, struct unwind_helper_frame *frames, uint32_t capacity, uint32_t *complete)
{
    unw_context_t context;
    unw_cursor_t cursor;
    uint32_t depth = 0, exact = 0;
    int more = 1;

    *complete = 0;
    if (unw_getcontext(&context) < 0 || unw_init_local(&cursor, &context) < 0)
        return 0;
    while (depth < capacity) {
        unw_word_t frame_pc = 0, frame_sp = 0;
        unw_get_reg(&cursor, UNW_REG_IP, &frame_pc);
        unw_get_reg(&cursor, UNW_REG_SP, &frame_sp);
        if (frame_pc == 0) {
            more = 0;
            break;
        }
        if (depth > 0 || frame_sp == sp)
            frames[depth++] = (struct unwind_helper_frame){ .pc = frame_pc, .sp = frame_sp, .exact = exact };
        exact = TELLS_AT_TRAMPOLINE && unw_is_signal_frame(&cursor) > 0;
        more = unw_step(&cursor);
        if (more <= 0)
            break;
        exact |= !TELLS_AT_TRAMPOLINE && unw_is_signal_frame(&cursor) > 0;
    }
    *complete = more == 0;
    return depth;
}

static uint32_t helper_described(uint64_t pc)
{
    unw_proc_info_t info;
    return unw_get_proc_info_by_ip(unw_local_addr_space, pc, &info, NULL) == 0;
}

static void helper_flush(void)
{
    unw_flush_cache(unw_local_addr_space, 0, 0);
}

extern const struct unwind_helper heapmark_unwind_helper;
__attribute__((visibility("default"))) const struct unwind_helper heapmark_unwind_helper = {
    .version = UNWIND_HELPER_VERSION,
    .backtrace = helper_backtrace,
    .walk = helper_walk,
    .described = helper_described,
    .flush = helper_flush
};
