/* SPDX-License-Identifier: MIT */
#include "shim/shield.h"

#include "freestanding/text.h"
#include <signal.h>
#include "freestanding/banned.h"

_Thread_local struct shield shield_self;
bool shield_light_blocks;
static bool many_threads, slow_handlers;

#define BIT(number) (UINT64_C(1) << ((number) - 1))
/* Their handlers set a flag and return, end the process, or run where the program itself faulted, which is never here.  Others
 * stop the thread for a collector of garbage, or leave by longjmp when a time is up.  32 and 33 are libc's own. */
static const uint64_t brief = BIT(SIGHUP) | BIT(SIGINT) | BIT(SIGQUIT) | BIT(SIGTERM) | BIT(SIGPIPE) | BIT(SIGCHLD) |
    BIT(SIGCONT) | BIT(SIGTSTP) | BIT(SIGTTIN) | BIT(SIGTTOU) | BIT(SIGWINCH) | BIT(SIGURG) | BIT(SIGXFSZ) |
    BIT(SIGILL) | BIT(SIGTRAP) | BIT(SIGABRT) | BIT(SIGBUS) | BIT(SIGFPE) | BIT(SIGSEGV) | BIT(SIGSYS) |
    BIT(32) | BIT(33);

static void judge(void)
{
    bool blocks = __atomic_load_n(&many_threads, __ATOMIC_SEQ_CST) && __atomic_load_n(&slow_handlers, __ATOMIC_SEQ_CST);
    __atomic_store_n(&shield_light_blocks, blocks, __ATOMIC_SEQ_CST);
}

void shield_note_handler(int number)
{
    if (number < 1 || number > 64 || (brief & BIT(number)) || __atomic_load_n(&slow_handlers, __ATOMIC_RELAXED))
        return;
    __atomic_store_n(&slow_handlers, true, __ATOMIC_SEQ_CST);
    judge();
}

/* Handlers that were installed past libc show in the kernel's list. */
void shield_note_threads(void)
{
    char status[4096];
    uint64_t caught;
    if (__atomic_load_n(&many_threads, __ATOMIC_RELAXED))
        return;
    if (sys_read_file("/proc/self/status", status, sizeof status) <= 0 || !text_field_hex(status, "SigCgt:", &caught) ||
        (caught & ~brief) != 0)
        __atomic_store_n(&slow_handlers, true, __ATOMIC_SEQ_CST);
    __atomic_store_n(&many_threads, true, __ATOMIC_SEQ_CST);
    judge();
}

void shield_note_alone(void)
{
    __atomic_store_n(&many_threads, false, __ATOMIC_SEQ_CST);
    judge();
}
