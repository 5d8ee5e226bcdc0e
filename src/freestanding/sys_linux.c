/* SPDX-License-Identifier: MIT */
#include "freestanding/sys.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/membarrier.h>
#include <linux/memfd.h>
#include <linux/prctl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include "freestanding/banned.h"

#ifndef PR_SET_VMA
#define PR_SET_VMA 0x53564d41
#define PR_SET_VMA_ANON_NAME 0
#endif

/* struct stat, struct timespec and struct rlimit of glibc are the kernel's own on these two machines. */
#if defined(__x86_64__)
long sys_call(long number, long a, long b, long c, long d, long e, long f)
{
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    long result;
    __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
}
#elif defined(__aarch64__)
long sys_call(long number, long a, long b, long c, long d, long e, long f)
{
    register long x8 __asm__("x8") = number;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;
    register long x4 __asm__("x4") = e;
    register long x5 __asm__("x5") = f;
    __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
    return x0;
}
#else
#error "heapmark supports x86-64 and aarch64"
#endif

static bool failed(long result)
{
    return result < 0 && result >= -4095;
}

/* Beyond the limit (the block map of 256 GiB of heap) ranges are no longer known as our own. */
static struct {
    uintptr_t start;        /* 0: free */
    size_t bytes;           /* 0: being entered or taken out */
} own[4096];
static size_t own_used;     /* entries from here on were never used */

static void note_own(uintptr_t start, size_t bytes)
{
    for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++) {
        uintptr_t none = 0;
        if (__atomic_load_n(&own[i].start, __ATOMIC_RELAXED) == 0 &&
            __atomic_compare_exchange_n(&own[i].start, &none, start, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)) {
            __atomic_store_n(&own[i].bytes, bytes, __ATOMIC_RELEASE);
            size_t used = __atomic_load_n(&own_used, __ATOMIC_RELAXED);
            while (used <= i && !__atomic_compare_exchange_n(&own_used, &used, i + 1, false, __ATOMIC_RELEASE,
                                                             __ATOMIC_RELAXED))
                ;
            return;
        }
    }
}

static void forget_own(uintptr_t start)
{
    size_t used = __atomic_load_n(&own_used, __ATOMIC_ACQUIRE);
    for (size_t i = 0; i < used; i++)
        if (__atomic_load_n(&own[i].start, __ATOMIC_RELAXED) == start) {
            __atomic_store_n(&own[i].bytes, 0, __ATOMIC_RELAXED);
            __atomic_store_n(&own[i].start, 0, __ATOMIC_RELEASE);
            return;
        }
}

void sys_each_own(void (*visit)(uintptr_t start, size_t bytes, void *context), void *context)
{
    size_t used = __atomic_load_n(&own_used, __ATOMIC_ACQUIRE);
    for (size_t i = 0; i < used; i++) {
        size_t bytes = __atomic_load_n(&own[i].bytes, __ATOMIC_ACQUIRE);
        if (bytes != 0)
            visit(__atomic_load_n(&own[i].start, __ATOMIC_RELAXED), bytes, context);
    }
}

static void *map(size_t bytes, int protection, int flags, int fd, uint64_t offset)
{
    long result = sys_call(SYS_mmap, 0, (long)bytes, protection, flags, fd, (long)offset);
    if (failed(result))
        return NULL;
    sys_call(SYS_madvise, result, (long)bytes, MADV_DONTDUMP, 0, 0, 0);
    note_own((uintptr_t)result, bytes);
    return (void *)result;
}

void *sys_map_anonymous(size_t bytes)
{
    void *memory = map(bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory)
        sys_call(SYS_prctl, PR_SET_VMA, PR_SET_VMA_ANON_NAME, (long)memory, (long)bytes, (long)"heapmark", 0);
    return memory;
}

void *sys_map_shared(size_t bytes)
{
    return map(bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
}

void *sys_map_file(int fd, uint64_t offset, size_t bytes, bool writable)
{
    return map(bytes, writable ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED, fd, offset);
}

int sys_make_private(void *address, size_t bytes)
{
    void *copy = sys_map_anonymous(bytes);
    if (!copy)
        return -ENOMEM;
    memcpy(copy, address, bytes);
    long moved = sys_call(SYS_mremap, (long)copy, (long)bytes, (long)bytes, MREMAP_MAYMOVE | MREMAP_FIXED, (long)address, 0);
    forget_own((uintptr_t)copy);        /* the range at `address` is known as our own already */
    return failed(moved) ? (int)moved : 0;
}

void *sys_map_raw(void *address, size_t bytes, int protection, int flags, int fd, uint64_t offset)
{
    long result = sys_call(SYS_mmap, (long)address, (long)bytes, protection, flags, fd, (long)offset);
    return failed(result) ? MAP_FAILED : (void *)result;
}

int sys_unmap(void *address, size_t bytes)
{
    forget_own((uintptr_t)address);
    return (int)sys_call(SYS_munmap, (long)address, (long)bytes, 0, 0, 0, 0);
}

int sys_advise(void *address, size_t bytes, int advice)
{
    return (int)sys_call(SYS_madvise, (long)address, (long)bytes, advice, 0, 0, 0);
}

int sys_mincore(const void *address, size_t bytes, unsigned char *vector)
{
    return (int)sys_call(SYS_mincore, (long)address, (long)bytes, (long)vector, 0, 0, 0);
}

int sys_open(const char *path, int flags, unsigned mode)
{
    return (int)sys_call(SYS_openat, AT_FDCWD, (long)path, flags | O_CLOEXEC, mode, 0, 0);
}

int sys_close(int fd)
{
    return (int)sys_call(SYS_close, fd, 0, 0, 0, 0, 0);
}

static uint64_t soft_limit(int resource)
{
    struct rlimit limit;
    if (sys_call(SYS_prlimit64, 0, resource, 0, (long)&limit, 0, 0) < 0)
        return RLIM_INFINITY;
    return limit.rlim_cur;
}

int sys_move_fd(int fd)
{
    uint64_t limit = soft_limit(RLIMIT_NOFILE);
    if (limit > 1024)
        limit = 1024;
    for (long lowest = (long)limit - (long)limit / 32; lowest > fd; lowest /= 2) {
        long moved = sys_call(SYS_fcntl, fd, F_DUPFD_CLOEXEC, lowest, 0, 0, 0);
        if (moved >= 0) {
            sys_close(fd);
            return (int)moved;
        }
    }
    sys_call(SYS_fcntl, fd, F_SETFD, FD_CLOEXEC, 0, 0, 0);
    return fd;
}

long sys_read(int fd, void *buffer, size_t bytes)
{
    return sys_call(SYS_read, fd, (long)buffer, (long)bytes, 0, 0, 0);
}

long sys_ioctl(int fd, unsigned long request, void *argument)
{
    return sys_call(SYS_ioctl, fd, (long)request, (long)argument, 0, 0, 0);
}

long sys_pread(int fd, void *buffer, size_t bytes, uint64_t offset)
{
    return sys_call(SYS_pread64, fd, (long)buffer, (long)bytes, (long)offset, 0, 0);
}

/* Both signals are sent to the calling thread, so it can block them, take its own back and leave older ones pending. */
void sys_say(int fd, const void *buffer, size_t bytes)
{
    const uint64_t deadly = UINT64_C(1) << (SIGPIPE - 1) | UINT64_C(1) << (SIGXFSZ - 1);
    uint64_t before, pending;
    struct timespec now = {0, 0};
    struct pollfd ready = {.fd = fd, .events = POLLOUT};

    if (sys_call(SYS_ppoll, (long)&ready, 1, (long)&now, 0, 0, 0) != 1 || !(ready.revents & POLLOUT))
        return;
    if (sys_call(SYS_rt_sigprocmask, SIG_BLOCK, (long)&deadly, (long)&before, sizeof before, 0, 0) < 0)
        return;
    sys_call(SYS_rt_sigpending, (long)&pending, sizeof pending, 0, 0, 0, 0);
    sys_call(SYS_write, fd, (long)buffer, (long)bytes, 0, 0, 0);
    uint64_t own_signals = deadly & ~pending;
    while (sys_call(SYS_rt_sigtimedwait, (long)&own_signals, 0, (long)&now, sizeof own_signals, 0, 0) > 0)
        ;
    sys_call(SYS_rt_sigprocmask, SIG_SETMASK, (long)&before, 0, sizeof before, 0, 0);
}

static int write_zeros(int fd, uint64_t offset, uint64_t bytes)
{
    static char zeros[65536];       /* never written, so it costs no memory */
    while (bytes > 0) {
        size_t piece = bytes < sizeof(zeros) ? (size_t)bytes : sizeof(zeros);
        long written = sys_call(SYS_pwrite64, fd, (long)zeros, (long)piece, (long)offset, 0, 0);
        if (written == -EINTR)
            continue;
        if (written <= 0)
            return written < 0 ? (int)written : -ENOSPC;
        offset += (uint64_t)written;
        bytes -= (uint64_t)written;
    }
    return 0;
}

int sys_allocate(int fd, uint64_t offset, uint64_t bytes)
{
    if (offset + bytes > soft_limit(RLIMIT_FSIZE))
        return -EFBIG;
    /* A host with a fast interval timer can interrupt a long fallocate for ever; a write is not interrupted. */
    int result = -EINTR;
    for (int attempt = 0; result == -EINTR && attempt < 8; attempt++)
        result = (int)sys_call(SYS_fallocate, fd, 0, (long)offset, (long)bytes, 0, 0);
    if (result == -EOPNOTSUPP || result == -ENOSYS || result == -EINTR)
        return write_zeros(fd, offset, bytes);
    return result;
}

int sys_write_zeros(int fd, uint64_t offset, uint64_t bytes)
{
    return offset + bytes > soft_limit(RLIMIT_FSIZE) ? -EFBIG : write_zeros(fd, offset, bytes);
}

void sys_overwrite_in_place(int fd)
{
    int flags = 0;
    if (sys_call(SYS_ioctl, fd, (long)FS_IOC_GETFLAGS, (long)&flags, 0, 0, 0) < 0 || (flags & FS_NOCOW_FL))
        return;
    flags |= FS_NOCOW_FL;
    sys_call(SYS_ioctl, fd, (long)FS_IOC_SETFLAGS, (long)&flags, 0, 0, 0);
}

int sys_memfd(const char *name)
{
    return (int)sys_call(SYS_memfd_create, (long)name, MFD_CLOEXEC, 0, 0, 0, 0);
}

int sys_unlink(const char *path)
{
    return (int)sys_call(SYS_unlinkat, AT_FDCWD, (long)path, 0, 0, 0, 0);
}

long sys_readlink(const char *path, char *buffer, size_t bytes)
{
    return sys_call(SYS_readlinkat, AT_FDCWD, (long)path, (long)buffer, (long)bytes, 0, 0);
}

long sys_getcwd(char *buffer, size_t bytes)
{
    return sys_call(SYS_getcwd, (long)buffer, (long)bytes, 0, 0, 0, 0);
}

long sys_read_file(const char *path, char *buffer, size_t bytes)
{
    buffer[0] = 0;
    int fd = sys_open(path, O_RDONLY, 0);
    if (fd < 0)
        return fd;
    size_t used = 0;
    while (used + 1 < bytes) {
        long got = sys_read(fd, buffer + used, bytes - 1 - used);
        if (got == -EINTR)
            continue;
        if (got <= 0)
            break;
        used += (size_t)got;
    }
    buffer[used] = 0;
    sys_close(fd);
    return (long)used;
}

int sys_identify(int fd, struct sys_identity *identity)
{
    struct stat status;
    int result = (int)sys_call(SYS_fstat, fd, (long)&status, 0, 0, 0, 0);
    if (result < 0)
        return result;
    identity->device = status.st_dev;
    identity->inode = status.st_ino;
    return 0;
}

int sys_getpid(void)
{
    return (int)sys_call(SYS_getpid, 0, 0, 0, 0, 0, 0);
}

int sys_getppid(void)
{
    return (int)sys_call(SYS_getppid, 0, 0, 0, 0, 0, 0);
}

int sys_gettid(void)
{
    return (int)sys_call(SYS_gettid, 0, 0, 0, 0, 0, 0);
}

unsigned sys_getuid(void)
{
    return (unsigned)sys_call(SYS_getuid, 0, 0, 0, 0, 0, 0);
}

int sys_tgkill(int pid, int tid, int signal)
{
    return (int)sys_call(SYS_tgkill, pid, tid, signal, 0, 0, 0);
}

#define SIGNAL_BIT(number) (UINT64_C(1) << ((number) - 1))
#define FAULT_SIGNALS \
    (SIGNAL_BIT(SIGSEGV) | SIGNAL_BIT(SIGBUS) | SIGNAL_BIT(SIGFPE) | SIGNAL_BIT(SIGILL) | SIGNAL_BIT(SIGTRAP))

void sys_block_signals(uint64_t *before)
{
    uint64_t blocked = ~FAULT_SIGNALS;
    sys_call(SYS_rt_sigprocmask, SIG_BLOCK, (long)&blocked, (long)before, sizeof(blocked), 0, 0);
}

void sys_restore_signals(const uint64_t *before)
{
    sys_call(SYS_rt_sigprocmask, SIG_SETMASK, (long)before, 0, sizeof(*before), 0, 0);
}

/* ---- children ------------------------------------------------------------------------------------- */

int sys_fork_apart(void)
{
    /* The low byte is the signal of the child's end: none. */
    return (int)sys_call(SYS_clone, CLONE_FILES | CLONE_UNTRACED, 0, 0, 0, 0, 0);
}

/* The kernel's struct sigaction, of which glibc's differs. */
struct kernel_action {
    uint64_t handler, flags, restorer, mask;
};

void sys_live_apart(const char *name)
{
    static const unsigned char faults[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP };
    const struct kernel_action by_default = { 0 };
    const struct rlimit no_core = { 1, 1 };     /* 1: not even a handler of core dumps is called */
    sys_call(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0, 0);
    sys_call(SYS_prctl, PR_SET_NAME, (long)name, 0, 0, 0, 0);
    sys_call(SYS_prlimit64, 0, RLIMIT_CORE, (long)&no_core, 0, 0, 0);
    for (size_t i = 0; i < sizeof(faults); i++)
        sys_call(SYS_rt_sigaction, faults[i], (long)&by_default, 0, 8, 0, 0);
}

void sys_await_child(int pid, uint64_t limit_ns)
{
    uint64_t start = sys_monotonic_ns();
    for (unsigned nap = 20;; nap += nap < 1000 ? nap / 4 : 0) {
        long ended = sys_call(SYS_wait4, pid, 0, WNOHANG | __WALL, 0, 0, 0);
        if (ended != 0 && ended != -EINTR)      /* ECHILD: the host waits for everything, and was first */
            return;
        if (sys_monotonic_ns() - start > limit_ns)
            sys_call(SYS_kill, pid, SIGKILL, 0, 0, 0, 0);
        sys_nap(nap);
    }
}

void sys_barrier(void)
{
    static uint32_t registered;
    if (!__atomic_load_n(&registered, __ATOMIC_RELAXED) &&
        sys_call(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0, 0, 0, 0) == 0)
        __atomic_store_n(&registered, 1, __ATOMIC_RELAXED);
    if (!__atomic_load_n(&registered, __ATOMIC_RELAXED) ||
        sys_call(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0, 0, 0, 0) != 0)
        sys_nap(1000);      /* stores leave a processor within that, and at once when it changes threads */
}

void sys_yield(void)
{
    sys_call(SYS_sched_yield, 0, 0, 0, 0, 0, 0);
}

void sys_nap(unsigned microseconds)
{
    struct timespec nap = { 0, (long)microseconds * 1000 };
    sys_call(SYS_nanosleep, (long)&nap, 0, 0, 0, 0, 0);
}

bool sys_signal_stack(uintptr_t *low, uintptr_t *high)
{
    stack_t now = { .ss_flags = SS_DISABLE };
    *low = *high = 0;
    if (sys_call(SYS_sigaltstack, 0, (long)&now, 0, 0, 0, 0) < 0 || (now.ss_flags & SS_DISABLE))
        return false;
    *low = (uintptr_t)now.ss_sp;
    *high = *low + now.ss_size;
    return now.ss_flags & SS_ONSTACK;
}

long sys_process_read(int pid, void *to, const void *from, size_t bytes)
{
    struct iovec local = { to, bytes };
    struct iovec remote = { (void *)from, bytes };
    return sys_call(SYS_process_vm_readv, pid, (long)&local, 1, (long)&remote, 1, 0);
}

/* The kernel pins the pages of the other side of such a copy, one by one, and only copies from the caller's own.  So
 * what is read is taken for the own side, and the buffer for that of "another" process. */
long sys_gather(void *to, size_t bytes, const struct iovec *from, size_t count)
{
    struct iovec remote = { to, bytes };
    return sys_call(SYS_process_vm_writev, sys_getpid(), (long)from, (long)count, (long)&remote, 1, 0);
}

bool sys_readable(const void *word)
{
    /* The kernel copies the new mask in before it looks at the unknown `how`: EFAULT or EINVAL, never a change. */
    return word && sys_call(SYS_rt_sigprocmask, ~0L, (long)word, 0, 8, 0, 0) != -EFAULT;
}

static uint64_t clock_ns(clockid_t clock)
{
    struct timespec now = { 0, 0 };
    sys_call(SYS_clock_gettime, clock, (long)&now, 0, 0, 0, 0);
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

uint64_t sys_monotonic_ns(void)
{
    return clock_ns(CLOCK_MONOTONIC);
}

uint64_t sys_realtime_ns(void)
{
    return clock_ns(CLOCK_REALTIME);
}

uint64_t sys_process_cpu_ns(void)
{
    return clock_ns(CLOCK_PROCESS_CPUTIME_ID);
}

size_t sys_page_bytes(void)
{
    static size_t page_bytes;
    size_t bytes = __atomic_load_n(&page_bytes, __ATOMIC_RELAXED);
    if (bytes == 0) {
        bytes = getauxval(AT_PAGESZ);
        __atomic_store_n(&page_bytes, bytes, __ATOMIC_RELAXED);
    }
    return bytes;
}

void sys_thread_name(char name[16])
{
    if (failed(sys_call(SYS_prctl, PR_GET_NAME, (long)name, 0, 0, 0, 0)))
        name[0] = 0;
}

/* getauxval only reads libc's copy of the vector. */
unsigned long sys_auxv(unsigned long type)
{
    return getauxval(type);
}

_Noreturn void sys_exit_group(int status)
{
    for (;;)
        sys_call(SYS_exit_group, status, 0, 0, 0, 0, 0);
}
