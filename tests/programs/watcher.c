/* SPDX-License-Identifier: MIT */
/*
 * A process that would notice a child: counts what it can see of one, while threads fill and empty their part of the heap
 * again and again.  Says `ready`, runs until standard input ends, then says
 *     waited      waits that found anything but no child at all
 *     signals     SIGCHLDs
 *     handlers    calls of the functions that pthread_atfork registers
 *     held_open   pipes that still had a writer after the only one was closed
 *
 * usage: watcher tide [THREADS [BLOCKS]] | quiet | brim | limited | sandboxed
 * quiet: one thread, memory of every kind; brim: heaps of threads so full that the next ones begin; limited: can have no child; sandboxed: a filter kills for a fork.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "say.h"

static volatile int stop;
static volatile sig_atomic_t signals;
static long handlers, blocks = 20000;

static void on_child(int number)
{
    (void)number;
    signals++;
}

static void on_fork(void)
{
    handlers++;
}

static void *tide(void *argument)
{
    uint64_t seed = 88172645463325252u + (uint64_t)(uintptr_t)argument;
    void **slot = calloc((size_t)blocks, sizeof *slot);
    while (!stop) {
        for (long i = 0; i < blocks; i++) {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            touch(slot[i] = malloc(1 + (seed >> 20) % 1024), 1);
        }
        for (long i = 0; i < blocks; i++)
            free(slot[i]);
    }
    free(slot);
    return NULL;
}

static void *watch_input(void *unused)
{
    char byte;
    while (read(0, &byte, 1) > 0 || errno == EINTR)
        ;
    stop = 1;
    return unused;
}

static int pipe_stays_open(void)
{
    int end[2];
    if (pipe2(end, O_CLOEXEC) != 0)
        return 0;
    usleep(200);
    close(end[1]);
    struct pollfd reader = { .fd = end[0], .events = POLLIN };
    int hung_up = poll(&reader, 1, 0) == 1 && (reader.revents & POLLHUP);
    close(end[0]);
    return !hung_up;
}

static void watch(void)
{
    long waited = 0, held_open = 0;
    while (!stop) {
        int status;
        if (waitpid(-1, &status, WNOHANG) != -1 || errno != ECHILD)
            waited++;
        held_open += pipe_stays_open();
    }
    say("waited", waited);
    say("signals", signals);
    say("handlers", handlers);
    say("held_open", held_open);
}

static void with_threads(int threads)
{
    pthread_t thread[16], watcher;
    for (int i = 0; i < threads && i < 16; i++)
        pthread_create(&thread[i], NULL, tide, (void *)(uintptr_t)(i + 1));
    pthread_create(&watcher, NULL, watch_input, NULL);
    say("ready", getpid());
    watch();
    for (int i = 0; i < threads && i < 16; i++)
        pthread_join(thread[i], NULL);
}

static void *mapped(size_t bytes, int flags, int advice)
{
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_ANONYMOUS | flags, -1, 0);
    if (memory == MAP_FAILED)
        return NULL;
    if (advice)
        madvise(memory, bytes, advice);
    touch(memory, bytes);
    return memory;
}

/* A child would lack the first two and have no page of the third. */
static void be_quiet(void)
{
    void *kept[512];
    mapped(3 << 20, MAP_PRIVATE, MADV_DONTFORK);
    mapped(2 << 20, MAP_PRIVATE, MADV_WIPEONFORK);
    mapped(5 << 20, MAP_SHARED, 0);
    mapped(1 << 20, MAP_PRIVATE, 0);
    for (size_t i = 0; i < 512; i++)
        touch(kept[i] = malloc(2000 + i % 7 * 900), 2000);
    for (size_t i = 0; i < 511; i++)
        free(kept[i]);
    say("ready", getpid());
    watch_input(NULL);
}

/* A heap of an arena is 64 MiB.  The smallest blocks leave no room for a free chunk at its end, and 16 bytes more or less,
 * as the first block wants it. */
static void *fill_to_the_brim(void *filled)
{
    static int first_bytes = 24;
    void *block = malloc((size_t)__atomic_fetch_add(&first_bytes, 16, __ATOMIC_SEQ_CST));
    for (uintptr_t heap = (uintptr_t)block >> 26; (uintptr_t)block >> 26 == heap; block = malloc(24))
        touch(block, 1);
    touch(block, 1);
    if (pthread_barrier_wait(filled) == PTHREAD_BARRIER_SERIAL_THREAD)
        say("ready", getpid());
    watch_input(NULL);
    return NULL;
}

static void be_full(void)
{
    pthread_t thread[2];
    pthread_barrier_t filled;
    pthread_barrier_init(&filled, NULL, 2);
    for (int i = 0; i < 2; i++)
        pthread_create(&thread[i], NULL, fill_to_the_brim, &filled);
    for (int i = 0; i < 2; i++)
        pthread_join(thread[i], NULL);
}

static int be_limited(void)
{
    const struct rlimit none = { 0, 0 };
    if (geteuid() == 0 && setresuid(65534, 65534, 65534) != 0)
        return 1;
    prctl(PR_SET_DUMPABLE, 1);
    if (setrlimit(RLIMIT_NPROC, &none) != 0)
        return 1;
    say("ready", getpid());
    watch_input(NULL);
    return 0;
}

/* Threads are allowed, processes are deadly. */
static int be_sandboxed(void)
{
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[0])),
        BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, CLONE_THREAD, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const struct sock_fprog program = { sizeof filter / sizeof *filter, filter };
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)
        return 1;
    say("ready", getpid());
    watch_input(NULL);
    return 0;
}

int main(int argc, char **argv)
{
    const char *mode = argc > 1 ? argv[1] : "";
    signal(SIGCHLD, on_child);
    pthread_atfork(on_fork, on_fork, NULL);
    if (argc > 3)
        blocks = atol(argv[3]);
    if (strcmp(mode, "tide") == 0)
        with_threads(argc > 2 ? atoi(argv[2]) : 4);
    else if (strcmp(mode, "quiet") == 0)
        be_quiet();
    else if (strcmp(mode, "brim") == 0)
        be_full();
    else if (strcmp(mode, "limited") == 0)
        return be_limited();
    else if (strcmp(mode, "sandboxed") == 0)
        return be_sandboxed();
    else
        return 2;
    return 0;
}
