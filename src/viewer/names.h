/* SPDX-License-Identifier: MIT */
#ifndef HEAPMARK_VIEWER_NAMES_H
#define HEAPMARK_VIEWER_NAMES_H

/*
 * The stacks of a profile with names.
 *
 *     struct names *names = names_new(profile, &options);
 *     for each site that will be shown:   names_want(names, site->frame, NAMES_ALL);
 *     names_resolve(names);
 *     struct names_stack stack = names_stack(names, site->frame, NAMES_ALL);
 *     names_free(names);
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct names;
struct profile;
struct symbolizer_options;

struct name {
    const char *function;       /* never NULL; "libfoo.so+0x1234" when nobody knows */
    const char *file;           /* NULL: unknown */
    const char *short_file;     /* its end; NULL: unknown */
    uint32_t line;              /* 0: unknown */
    uint32_t column;            /* from 1, in bytes; 0: unknown */
    const char *module;         /* short: "libc.so.6" */
    bool known;
    bool inlined;               /* into the next entry */
    bool python;                /* a frame of Python source; it has no module */
    bool own;                   /* such a frame of the program itself, not of a library */
    bool interrupted;           /* a signal arrived here */
    bool judged;                /* the next two are known; else they are found out when asked for */
    bool allocator, plumbing;
};

/* Leaf first; inlined calls are entries of their own.  The entries last until the next call of names_stack.  Native frames
 * are of the `frames` nearest to the leaf only; Python frames have their names at hand and are always there to the root. */
struct names_stack {
    const struct name *at;
    size_t count;
};

/* `symbols` NULL: no look-up at all, every frame is module and offset. */
#define NAMES_ALL SIZE_MAX
struct names *names_new(const struct profile *profile, const struct symbolizer_options *symbols);
void names_free(struct names *names);
void names_want(struct names *names, uint32_t leaf, size_t frames);    /* the `frames` nearest to the leaf; NAMES_ALL */
void names_resolve(struct names *names);
struct names_stack names_stack(struct names *names, uint32_t leaf, size_t frames);
/* A code object of the profile is of the program itself. */
bool names_own_code(struct names *names, uint32_t code);
/* The calls of one frame alone, inlined ones first. */
struct names_stack names_frame(struct names *names, uint32_t frame);

/* Frames of one instruction have one place, and one set of calls. */
#define NAMES_NO_PLACE UINT32_MAX
uint32_t names_place(struct names *names, uint32_t frame);      /* counted from 0; NAMES_NO_PLACE: no such frame */
uint32_t names_place_count(const struct names *names);          /* so far: numbers below it were given out */
/* As names_want and names_frame. */
void names_want_place(struct names *names, uint32_t place);
struct names_stack names_at_place(struct names *names, uint32_t place);

/* Which entry names the stack best: the first that is not an allocator's wrapper, or a named one close to it in the same
 * module when that one has no name. */
size_t names_headline(const struct names_stack *stack);
/* Frames between the program's own functions that say nothing: an interpreter's loop, the C start-up. */
bool names_plumbing(const struct name *name);
/* Asked for memory in somebody's name: malloc, operator new, xmalloc. */
bool names_allocator(const struct name *name);

#endif
