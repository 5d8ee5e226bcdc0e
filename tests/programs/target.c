/* SPDX-License-Identifier: MIT */
/*
 * Processes that are asked things from outside while they do what makes asking hard.  Each says `ready` when it is, runs until
 * standard input ends (or SIGTERM, where a mode cannot read), then says what it noticed and returns 0.
 *
 * usage: target read [BLOCKS] | epoll | futex | busy [THREADS] | blocked | one-open | sigwait | own-handler | past-libc |
 *               altstack | small-stack | parent | exec PROGRAM [ARGUMENT]...
 */
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "say.h"

static volatile sig_atomic_t urgent;    /* SIGURGs that our handler got */
static sem_t ended;

static void on_urgent(int number)
{
    (void)number;
    urgent++;
}

static void on_term(int number)
{
    (void)number;
    sem_post(&ended);
}

static void ready(void)
{
    say("ready", getpid());
}

/* Freed, but kept by the heap until someone trims: one small block lies above. */
static long garbage_blocks = 4000;
static void leave_garbage(void)
{
    static void *pin;
    void **blocks = malloc((size_t)garbage_blocks * sizeof *blocks);
    for (long i = 0; i < garbage_blocks; i++)
        touch(blocks[i] = malloc(4000), 4000);
    pin = malloc(40);
    touch(pin, 40);
    for (long i = 0; i < garbage_blocks; i++)
        free(blocks[i]);
    free(blocks);
}

static void block_all(void)
{
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, NULL);
}

/* Until standard input ends.  How often the call failed with EINTR. */
static long wait_in_read(void)
{
    char byte;
    long interrupted = 0, got;
    while ((got = read(0, &byte, 1)) != 0) {
        interrupted += got < 0 && errno == EINTR;
        if (got < 0 && errno != EINTR)
            break;
    }
    return interrupted;
}

static void *sleeper(void *unused)
{
    sem_wait(&ended);
    return unused;
}

static int idle_in_read(void)
{
    leave_garbage();
    ready();
    say("interrupted", wait_in_read());
    return 0;
}

static int idle_in_epoll(void)
{
    struct epoll_event event = {.events = EPOLLIN};
    int set = epoll_create1(0), found;
    epoll_ctl(set, EPOLL_CTL_ADD, 0, &event);
    leave_garbage();
    ready();
    do
        found = epoll_wait(set, &event, 1, -1);
    while (found < 0 && errno == EINTR);
    say("found", found);
    return found != 1;
}

static int idle_in_futex(void)
{
    leave_garbage();
    signal(SIGTERM, on_term);
    ready();
    while (sem_wait(&ended) != 0)
        ;
    return 0;
}

/* ---- busy --------------------------------------------------------------------------------------- */

static volatile int stop;

static void *churn(void *argument)
{
    uint64_t seed = 88172645463325252u + (uint64_t)(uintptr_t)argument;
    void *slots[500] = {0};
    while (!stop) {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        unsigned slot = (unsigned)(seed >> 40) % 500;
        free(slots[slot]);
        slots[slot] = malloc(1 + (seed >> 20) % 2048);
        touch(slots[slot], 1);
    }
    for (int i = 0; i < 500; i++)
        free(slots[i]);
    return NULL;
}

static void *watch_input(void *unused)
{
    wait_in_read();
    stop = 1;
    return unused;
}

/* A thread that comes, allocates, and goes: its last frees are libc's own. */
static void *visitor(void *unused)
{
    for (int i = 0; i < 50; i++)
        free(malloc(100));
    return unused;
}

static int busy(int threads)
{
    pthread_t thread[16], watcher, guest;
    long forks = 0, wrong = 0;
    for (int i = 0; i < threads && i < 16; i++)
        pthread_create(&thread[i], NULL, churn, (void *)(uintptr_t)(i + 1));
    pthread_create(&watcher, NULL, watch_input, NULL);
    ready();
    while (!stop) {
        pid_t child = fork();
        if (child == 0) {
            touch(malloc(1000), 1000);
            _exit(7);
        }
        int status = 0;
        while (waitpid(child, &status, 0) < 0 && errno == EINTR)
            ;
        wrong += !WIFEXITED(status) || WEXITSTATUS(status) != 7;
        forks++;
        if (pthread_create(&guest, NULL, visitor, NULL) == 0)
            pthread_join(guest, NULL);
    }
    for (int i = 0; i < threads && i < 16; i++)
        pthread_join(thread[i], NULL);
    pthread_join(watcher, NULL);
    say("forks", forks);
    say("wrong", wrong);
    return wrong != 0;
}

/* ---- signals ------------------------------------------------------------------------------------ */

/* Every thread blocks all signals, but for one when `open`. */
static int blocked(int open)
{
    pthread_t thread[4];
    leave_garbage();
    if (open)
        pthread_create(&thread[3], NULL, sleeper, NULL);
    block_all();
    for (int i = 0; i < 3; i++)
        pthread_create(&thread[i], NULL, sleeper, NULL);
    ready();
    say("interrupted", wait_in_read());
    sigset_t now;
    pthread_sigmask(SIG_SETMASK, NULL, &now);
    say("still_blocked", sigismember(&now, SIGURG));
    for (int i = 0; i < 3 + open; i++)
        sem_post(&ended);
    for (int i = 0; i < 3 + open; i++)
        pthread_join(thread[i], NULL);
    return 0;
}

/* As daemons do: all signals blocked, one thread takes what comes. */
static int wait_for_signals(void)
{
    sigset_t all;
    int number, strange = 0;
    leave_garbage();
    block_all();
    sigfillset(&all);
    ready();
    while (sigwait(&all, &number) == 0 && number != SIGTERM)
        strange++;
    say("strange", strange);
    return strange != 0;
}

static long wait_for(pid_t child)
{
    int status = 0;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        ;
    return !WIFEXITED(status) || WEXITSTATUS(status) != 9;
}

/* As programs that start others do: in our memory, but with dispositions of its own. */
static pid_t vfork_and_reset(void)
{
    pid_t child = vfork();
    if (child == 0) {
        signal(SIGURG, SIG_DFL);
        _exit(9);
    }
    return child;
}

static int own_handler(void)
{
    long wrong = 0;
    struct sigaction old, action = {.sa_handler = on_urgent, .sa_flags = SA_RESTART};
    sigaction(SIGURG, &action, &old);
    say("was_default", old.sa_handler == SIG_DFL);
    raise(SIGURG);
    say("raised", urgent);
    wrong += wait_for(vfork_and_reset());
    say("child_wrong", wrong);
    sigaction(SIGURG, NULL, &old);
    say("is_ours", old.sa_handler == on_urgent);
    leave_garbage();
    ready();
    wait_in_read();
    say("urgent", urgent);
    say("was_ours", signal(SIGURG, SIG_DFL) == on_urgent);
    return 0;
}

#if defined(__x86_64__)
#define RESTORER 0x04000000ul
__asm__(".text\n"
        "return_from_signal: mov $15, %eax\n"
        "    syscall\n");
#else
#define RESTORER 0ul
__asm__(".text\n"
        "return_from_signal: ret\n");
#endif
void return_from_signal(void);

/* Past libc, as some language runtimes do. */
static int handler_past_libc(void)
{
    struct {
        void (*handler)(int);
        unsigned long flags;
        void (*restorer)(void);
        uint64_t mask;
    } action = {on_urgent, RESTORER | SA_RESTART, return_from_signal, 0};
    syscall(SYS_rt_sigaction, SIGURG, &action, NULL, 8);
    leave_garbage();        /* enough for a sample of the timeline, by which the profiler learns of it */
    usleep(50000);
    leave_garbage();
    ready();
    wait_in_read();
    say("urgent", urgent);
    return 0;
}

/* 8 KiB between pages that may not be touched. */
static int small_alternate_stack(void)
{
    size_t bytes = 8192, page = (size_t)sysconf(_SC_PAGESIZE);
    char *pages = mmap(NULL, bytes + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    mprotect(pages + page, bytes, PROT_READ | PROT_WRITE);
    stack_t stack = {.ss_sp = pages + page, .ss_size = bytes};
    say("set", sigaltstack(&stack, NULL) == 0);
    return idle_in_read();
}

static void *small_thread(void *unused)
{
    wait_in_read();
    sem_post(&ended);
    return unused;
}

/* Only a thread with the smallest stack there is can be woken. */
static int small_stack(void)
{
    pthread_t thread;
    pthread_attr_t attributes;
    leave_garbage();
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, (size_t)sysconf(_SC_THREAD_STACK_MIN));
    if (pthread_create(&thread, &attributes, small_thread, NULL) != 0)
        return 1;
    block_all();
    ready();
    while (sem_wait(&ended) != 0)
        ;
    return pthread_join(thread, NULL);
}

static int become(char **argv)
{
    leave_garbage();
    ready();
    execve(argv[0], argv, (char *[]){NULL});
    return 1;
}

/* ---- children ----------------------------------------------------------------------------------- */

static void *inherited[200];

_Noreturn static void be_a_child(int close_all)
{
    for (int fd = 3; close_all && fd < 1100; fd++)
        close(fd);
    for (int i = 0; i < 200; i++)
        free(inherited[i]);
    for (int i = 0; i < 20000; i++)
        touch(malloc((size_t)(1 + i % 3000)), 1);
    _exit(9);
}

static pid_t vfork_and_exec(void)
{
    static char *const arguments[] = {(char *)"sh", (char *)"-c", (char *)"exit 9", NULL};
    pid_t child = vfork();
    if (child == 0) {
        execve("/bin/sh", arguments, environ);
        _exit(1);
    }
    return child;
}

static pid_t vfork_and_exit(void)
{
    pid_t child = vfork();
    if (child == 0)
        _exit(9);
    return child;
}

/* Allocates, says ready; after a line of input makes children of every kind, allocates nothing, says so. */
static int parent(void)
{
    char byte;
    long wrong = 0;
    for (int i = 0; i < 200; i++)
        touch(inherited[i] = malloc((size_t)(i * 37 % 5000 + 1)), 1);
    ready();
    if (read(0, &byte, 1) != 1)
        return 1;
    for (int close_all = 0; close_all < 2; close_all++) {
        pid_t child = fork();
        if (child == 0)
            be_a_child(close_all);
        wrong += wait_for(child);
        child = (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);
        if (child == 0)
            be_a_child(close_all);
        wrong += wait_for(child);
    }
    wrong += wait_for(vfork_and_exec()) + wait_for(vfork_and_exit());
    say("children_done", wrong);
    wait_in_read();
    return wrong != 0;
}

int main(int argc, char **argv)
{
    const char *mode = argc > 1 ? argv[1] : "";
    sem_init(&ended, 0, 0);
    if (strcmp(mode, "read") == 0 && argc > 2)
        garbage_blocks = atol(argv[2]);
    if (strcmp(mode, "read") == 0)
        return idle_in_read();
    if (strcmp(mode, "epoll") == 0)
        return idle_in_epoll();
    if (strcmp(mode, "futex") == 0)
        return idle_in_futex();
    if (strcmp(mode, "busy") == 0)
        return busy(argc > 2 ? atoi(argv[2]) : 4);
    if (strcmp(mode, "blocked") == 0)
        return blocked(0);
    if (strcmp(mode, "one-open") == 0)
        return blocked(1);
    if (strcmp(mode, "sigwait") == 0)
        return wait_for_signals();
    if (strcmp(mode, "own-handler") == 0)
        return own_handler();
    if (strcmp(mode, "past-libc") == 0)
        return handler_past_libc();
    if (strcmp(mode, "altstack") == 0)
        return small_alternate_stack();
    if (strcmp(mode, "small-stack") == 0)
        return small_stack();
    if (strcmp(mode, "parent") == 0)
        return parent();
    if (strcmp(mode, "exec") == 0 && argc > 2)
        return become(argv + 2);
    say("no such mode", 0);
    return 2;
}
