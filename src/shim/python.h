/* SPDX-License-Identifier: MIT */
#ifndef HEAPMARK_SHIM_PYTHON_H
#define HEAPMARK_SHIM_PYTHON_H

/*
 * The Python stack of the calling thread, read from CPython's own structures: no call into the interpreter that
 * allocates or locks, no profile hook.  CPython 3.8 to 3.15, builds with a GIL.
 *
 * A thread's frames are written by that thread alone, so its own chain may be read whether or not it holds the GIL.  The offsets
 * stand in one table by minor version (python_layout.c) and are checked against what the interpreter says of itself;
 * the first walks are made without a possible fault and verified frame by frame, later ones are plain loads.  One failed check, and
 * Python frames are off for the process, with a line in the event log.
 *
 * A code object's address is reused after it is freed, so the interpreter's destructor of code objects is wrapped:
 * it changes the salt that goes into the hashes, and closes the object's record.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

extern bool python_active;          /* stacks have Python frames */

void python_look(void);             /* from the constructor, and when a module was loaded: is there an interpreter? */

/* Which one, 3.minor, and its `type`; 0 while there is none that is understood. */
unsigned python_minor(void);
uintptr_t python_type_type(void);

/* A hash of the calling thread's Python stack; 0: it has none. */
uint64_t python_hash(void);

struct python_frame {               /* leaf first */
    uint64_t code;                  /* address of the code object */
    uint32_t instruction;           /* offset in bytes into its bytecode */
    uint32_t group;                 /* activations of the interpreter's loop, counted from the leaf */
};
#define PYTHON_FRAMES 512u
struct python_stack {
    uint32_t count;
    uint32_t group_count;           /* complete groups; a cut stack may have frames of one more */
    bool anchored;                  /* anchor[] is known: 3.10 and newer */
    bool cut;
    struct python_frame frame[PYTHON_FRAMES];
    uint64_t anchor[PYTHON_FRAMES]; /* an address on the C stack, within the frame of that group's loop */
};
void python_walk(struct python_stack *stack);
/* Only the anchors, PYTHON_FRAMES at most: how many groups; UINT32_MAX: the stack is cut, or its last group has no anchor. */
uint32_t python_anchors(uint64_t *anchor);
bool python_is_anchored(void);
static inline bool python_is_entry(const struct python_stack *stack, uint32_t i)    /* the outermost frame of its group */
{
    return i + 1 == stack->count || stack->frame[i + 1].group != stack->frame[i].group;
}
/* For interpreters without anchors: is this return address in the loop? */
bool python_is_loop(uint64_t pc);
/* As a return address in the loop; 0: not known. */
uint64_t python_loop_address(void);

/* The record of a code object in HMK_CODES; the first time, its names and line table are copied.  UINT32_MAX: no room.
 * Cold; takes a lock of its own. */
uint32_t python_code_record(uint64_t code);

void python_abandon(void);          /* see stack_abandon */
void python_after_fork(void);

#endif
