/* SPDX-License-Identifier: MIT */
#ifndef HEAPMARK_FREESTANDING_SYS_H
#define HEAPMARK_FREESTANDING_SYS_H

/*
 * The kernel, as the shim sees it: raw system calls that bypass libc (and so our own hooks on mmap), never
 * touch errno and are async-signal-safe.  Calls that can fail return a negative errno value.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct iovec;

/* Any call, for who stands in for libc's syscall(). */
long sys_call(long number, long a, long b, long c, long d, long e, long f);

/* Anonymous private memory, zeroed, no swap reserved; NULL on failure.  Kept out of core dumps. */
void *sys_map_anonymous(size_t bytes);
/* MAP_SHARED mapping of a file range; NULL on failure.  Kept out of core dumps. */
void *sys_map_file(int fd, uint64_t offset, size_t bytes, bool writable);
int sys_unmap(void *address, size_t bytes);         /* whole mappings only */
/* Zeroed memory that stays shared with children; NULL on failure.  Kept out of core dumps. */
void *sys_map_shared(size_t bytes);
/* Makes a mapping private in place: same address, same bytes, no file behind it any more. */
int sys_make_private(void *address, size_t bytes);
/* Calls visit for what the functions above have mapped and not unmapped since: heapmark's own memory. */
void sys_each_own(void (*visit)(uintptr_t start, size_t bytes, void *context), void *context);
/* mmap(2) for the host, with its own meaning: MAP_FAILED on failure. */
void *sys_map_raw(void *address, size_t bytes, int protection, int flags, int fd, uint64_t offset);
int sys_advise(void *address, size_t bytes, int advice);
int sys_mincore(const void *address, size_t bytes, unsigned char *vector);

int sys_open(const char *path, int flags, unsigned mode);       /* always close-on-exec */
int sys_close(int fd);
/* Moves a descriptor to a high number that hosts do not stumble over (they close or count low ones), CLOEXEC.
 * Stays below RLIMIT_NOFILE, and below 1024 so that the kernel's table stays small.  Returns the new number, or
 * fd itself when there is no higher one. */
int sys_move_fd(int fd);
long sys_read(int fd, void *buffer, size_t bytes);
long sys_ioctl(int fd, unsigned long request, void *argument);
long sys_pread(int fd, void *buffer, size_t bytes, uint64_t offset);
/* For a sentence to the user on a descriptor that is the host's: neither blocks nor lets SIGPIPE or SIGXFSZ reach the
 * host, whose end either would be.  What cannot be written at once is dropped. */
void sys_say(int fd, const void *buffer, size_t bytes);
/* Gives a range of a file its blocks on the disk: fallocate(2), or writing zeros where unsupported (so the range must
 * hold no data).  -EFBIG instead of the SIGXFSZ that RLIMIT_FSIZE would send to the host. */
int sys_allocate(int fd, uint64_t offset, uint64_t bytes);
int sys_write_zeros(int fd, uint64_t offset, uint64_t bytes);       /* the latter, and the same answer */
/* Asks the file system to overwrite the (still empty) file in place.  Where writes go to new blocks (btrfs), allocated
 * space does not keep a full disk from failing a later store with SIGBUS; measured. */
void sys_overwrite_in_place(int fd);
int sys_memfd(const char *name);
int sys_unlink(const char *path);
long sys_readlink(const char *path, char *buffer, size_t bytes);    /* not terminated; the length */
long sys_getcwd(char *buffer, size_t bytes);                        /* terminated; the length with the NUL */
/* Opens a small file, reads it into buffer, terminates it; the length, or negative. */
long sys_read_file(const char *path, char *buffer, size_t bytes);

/* Which file a descriptor refers to: a host may close our number and open its own file under it. */
struct sys_identity {
    uint64_t device, inode;
};
int sys_identify(int fd, struct sys_identity *identity);

int sys_getpid(void);
int sys_getppid(void);
int sys_gettid(void);
unsigned sys_getuid(void);
int sys_tgkill(int pid, int tid, int signal);                   /* signal 0: does the thread exist? */
/*
 * Forks without libc (no handler of its runs) and without the host's knowledge: no SIGCHLD, none of its waits sees the child
 * but one with __WALL or __WCLONE, no tracer follows.  Descriptors are shared rather than copied: nothing that the host
 * closes stays open.  0 in the child, which has one thread and must do with system calls and its own memory; negative: no child.
 */
int sys_fork_apart(void);
/* In such a child: a fault ends it and is nobody else's matter, and it does not outlive its parent. */
void sys_live_apart(const char *name);
/* Waits for such a child; past the limit, kills it. */
void sys_await_child(int pid, uint64_t limit_ns);
/* Every store that any thread of the process made before is visible to the caller now. */
void sys_barrier(void);
void sys_yield(void);
void sys_nap(unsigned microseconds);                            /* lets threads of lower priority run, too */
/* Blocks all signals of the calling thread, libc's internal ones too, but for those that a fault raises. */
void sys_block_signals(uint64_t *before);
void sys_restore_signals(const uint64_t *before);
/* The thread's alternate signal stack (0, 0: none).  True: the caller runs on it. */
bool sys_signal_stack(uintptr_t *low, uintptr_t *high);
void sys_thread_name(char name[16]);                            /* the calling thread's; terminated */
unsigned long sys_auxv(unsigned long type);                     /* 0: not there */
_Noreturn void sys_exit_group(int status);
long sys_process_read(int pid, void *to, const void *from, size_t bytes); /* process_vm_readv, one range */
/* Copies ranges of this process, one behind the other, to `to`, which has room for `bytes`.  Never faults: ends where memory
 * cannot be read, and returns the bytes copied.  Many small ranges cost a tenth of what sys_process_read asks for them. */
long sys_gather(void *to, size_t bytes, const struct iovec *from, size_t count);
/* May the aligned 8 bytes at `word` be read?  Never faults, needs no permission and passes every seccomp filter. */
bool sys_readable(const void *word);
uint64_t sys_monotonic_ns(void);                                /* a system call; see clock.h for a cheap clock */
uint64_t sys_realtime_ns(void);
uint64_t sys_process_cpu_ns(void);
size_t sys_page_bytes(void);                                    /* cached; from auxv */

#endif
