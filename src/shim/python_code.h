/* SPDX-License-Identifier: MIT */
#ifndef HEAPMARK_SHIM_PYTHON_CODE_H
#define HEAPMARK_SHIM_PYTHON_CODE_H

/* Code objects: what is kept of them in HMK_CODES, and when they die. */

#include <stdint.h>

struct python_layout;

void python_code_init(const struct python_layout *layout, void *code_type);

/* Changes when a recorded code object near this address was freed. */
extern uint32_t python_code_deaths;     /* of recorded ones */
#define PYTHON_SALTS 1024u
extern uint32_t python_code_salts[PYTHON_SALTS];
#define PYTHON_CODE_ADDRESS ((UINT64_C(1) << 48) - 1)
static inline uint64_t python_code_salt(uint64_t code)
{
    return (uint64_t)python_code_salts[code >> 4 & (PYTHON_SALTS - 1)] << 48;
}

/* The record of a code object in HMK_CODES; the first time, its names and line table are copied.  UINT32_MAX: no room.
 * Cold; takes a lock of its own. */
uint32_t python_code_find(uint64_t code);
void python_code_abandon(void);
void python_code_after_fork(void);

#endif
