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

#define PYTHON_FRAMES 512u

/*
 * The calling thread's frames, root first, as they were at its last event.  A frame that is where it was, with the same code at the
 * same instruction, and all whose callers are so too, is not read again.
 */
struct python_link {
    uint64_t frame, previous, code, instruction;    /* previous: 0 at the root */
    uint64_t hash;                  /* of the frames from the root to here */
    uint32_t kind;                  /* enum hmk_frame_kind; 0: the interpreter's own, between two activations */
    uint32_t groups;                /* activations of the interpreter's loop from the root to here */
    uint32_t node;                  /* for the caller; 0 when the link is new */
};
#define PYTHON_CHAIN_SLOTS 256u
struct python_chain {
    uint32_t count;                 /* to be set to 0 by who does not trust it any more */
    uint32_t deaths;
    uint16_t slot[PYTHON_CHAIN_SLOTS];
    struct python_link link[PYTHON_FRAMES];
    uint64_t fresh[PYTHON_FRAMES];
};

/* A hash of the calling thread's Python stack; 0: it has none.  The chain is that stack, or empty when it has too many frames. */
uint64_t python_hash(struct python_chain *chain);
/* Of a chain that is not empty; UINT32_MAX: its outermost frame is not the first of an activation. */
uint32_t python_chain_groups(const struct python_chain *chain);
uint32_t python_instruction(const struct python_link *link);    /* as struct python_frame's */

struct python_frame {               /* leaf first */
    uint64_t code;                  /* address of the code object */
    uint32_t instruction;           /* offset in bytes into its bytecode */
    uint32_t group;                 /* activations of the interpreter's loop, counted from the leaf */
};
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
/* For interpreters without anchors: is this return address in the loop? */
bool python_is_loop(uint64_t pc);
/* As a return address in the loop; 0: not known. */
uint64_t python_loop_address(void);

void python_abandon(void);          /* see stack_abandon */
void python_after_fork(void);

#endif
