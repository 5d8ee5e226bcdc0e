/* SPDX-License-Identifier: MIT */
#ifndef HEAPMARK_SHIM_MODULE_H
#define HEAPMARK_SHIM_MODULE_H

/*
 * Which module an address belongs to, and when modules go away.
 *
 * Modules are noticed lazily, when a new stack has an address that no known module covers; then dl_iterate_phdr is asked, which
 * takes the loader's lock for reading its list: no lock of ours may be held around these calls.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MODULE_SCRATCH (48u * 1024)

bool module_init(void *scratch);    /* scratch: MODULE_SCRATCH bytes, as below */
/* Number in HMK_MODULES + 1; 0: no module covers the address (JIT code, vdso on some kernels, a wild value). */
uint32_t module_find(uint64_t address, void *scratch);
/* Call when the loader itself frees memory: notices unloaded modules, and starts a new generation of stacks. */
void module_check_unload(void *scratch);
extern uint64_t module_loader_start __attribute__((visibility("hidden"))), module_loader_bytes __attribute__((visibility("hidden")));
static inline bool module_is_loader(uint64_t pc)
{
    return pc - module_loader_start < module_loader_bytes;
}
void module_after_fork(void);

#endif
