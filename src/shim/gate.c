/* SPDX-License-Identifier: MIT */
#include "shim/gate.h"

#include "freestanding/sys.h"

#include <stdalign.h>
#include <sys/mman.h>

/* 64 KiB: a whole page on every machine, so that nothing else is wiped with it. */
static alignas(65536) uint32_t gate_page[65536 / sizeof(uint32_t)];
static uint32_t closed_gate;
uint32_t *thread_gate = &closed_gate;

void thread_open_gate(void)
{
    sys_advise(gate_page, sizeof gate_page, MADV_WIPEONFORK);
    gate_page[0] = THREAD_GATE_OPEN;
    __atomic_store_n(&thread_gate, gate_page, __ATOMIC_RELEASE);
}

void thread_shut_gate(void)
{
    __atomic_store_n(&thread_gate, &closed_gate, __ATOMIC_RELEASE);
}

bool gate_is_closed(void)
{
    return __atomic_load_n(&thread_gate, __ATOMIC_ACQUIRE) == &closed_gate;
}

bool gate_is_wiped(void)
{
    return !gate_is_closed() && __atomic_load_n(gate_page, __ATOMIC_ACQUIRE) == THREAD_GATE_SHUT;
}
