/* SPDX-License-Identifier: MIT */
#ifndef HEAPMARK_CLI_PROCESS_H
#define HEAPMARK_CLI_PROCESS_H

/* What the kernel says about processes: /proc, for the one that wrote a recording and for any other. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <stdint.h>

struct hmk_header;
struct strbuf;

enum process_life {
    PROCESS_ALIVE,
    PROCESS_GONE,           /* no such process, or its number was given to another */
    PROCESS_UNKNOWN         /* recorded on another machine or before its last boot */
};
enum process_life process_life(const struct hmk_header *header);
uint64_t process_rss(uint32_t pid);     /* VmRSS in bytes; 0: unknown */

/* Process `pid` is the one that wrote the header; header->pid is its number in its own PID namespace. */
bool process_wrote(pid_t pid, const struct hmk_header *header);

struct process_facts {
    uid_t uid;
    char state;             /* of the thread: R S D T t Z X I */
    pid_t tracer;           /* 0: none */
    pid_t own_pid;          /* in the innermost PID namespace */
    uint64_t pending, blocked, caught;  /* signal masks: bit N - 1 is signal N */
};
/* Of one thread; tid 0: the first.  False: there is none. */
bool process_facts(pid_t pid, pid_t tid, struct process_facts *facts);

/* Where in the kernel a thread waits; "" when it runs, or nobody may know. */
void process_waits_in(pid_t pid, pid_t tid, char *function, size_t bytes);
uint64_t process_rss_bytes(pid_t pid);          /* 0: unknown */
void process_exe(pid_t pid, struct strbuf *exe);    /* appends nothing when it cannot be known */
void process_name(pid_t pid, struct strbuf *name);  /* as ps(1) shows it: one executable may have many names */
/* Calls visit for each until it says false. */
void process_each(bool (*visit)(pid_t pid, void *context), void *context);
void process_each_thread(pid_t pid, bool (*visit)(pid_t tid, void *context), void *context);

#endif
