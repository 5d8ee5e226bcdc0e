/* SPDX-License-Identifier: MIT */
#ifndef HEAPMARK_CENSUS_PYOBJECTS_H
#define HEAPMARK_CENSUS_PYOBJECTS_H

/*
 * Who keeps CPython's arenas: the types of the objects in those of which at most a quarter is in use.
 *
 * An object is known by its type, which stands in its second word, and that by its own type, which is `type` or a class
 * derived from it.  The object follows 16 bytes of the garbage collector, and 16 of its dict and weak references,
 * when the type's flags say so.  Blocks that begin otherwise are no objects: tables and buffers that objects own.
 *
 * An arena goes only when all its objects go.  So types are ranked as sets of pins are: each time the one that frees the most arenas
 * together with those before it.
 */

#include "contract/format.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct peek;
struct pymalloc;
struct scratch;

#define PYOBJECTS_PINS 16u

struct pyobjects {
    struct pymalloc *pymalloc;
    uintptr_t type_type;        /* the interpreter's `type` */
    uint32_t sites;
    /* results; the address of a pin is that of the type's name, NUL-terminated, in scratch memory */
    struct hmk_pin *pin;
    uint32_t pin_count;
    uint64_t seen_blocks;
    /* own */
    struct pyobjects_type *type;
    uint32_t type_count;
    struct pyobjects_known *known;
    struct pyobjects_arena *arena;
    uint32_t arena_count;
    unsigned char *copy, *freed;
    uint64_t *by_site;
    uint64_t freed_bytes, freed_held_bytes;     /* of the arenas that the chosen types free */
    uint64_t lost_bytes;                        /* of those, what RSS loses */
};

/* After pymalloc_find.  False: no memory. */
bool pyobjects_rank(struct pyobjects *objects, struct scratch *scratch);

#endif
