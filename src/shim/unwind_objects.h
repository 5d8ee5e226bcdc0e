/* SPDX-License-Identifier: MIT */
#ifndef HEAPMARK_SHIM_UNWIND_OBJECTS_H
#define HEAPMARK_SHIM_UNWIND_OBJECTS_H

/* The loaded objects, as far as unwinding needs them. */

#include <stdbool.h>
#include <stdint.h>

struct unwind_object {
    uint64_t start, end;            /* its mapping, as far as it is known: bounds for reading the frame data */
    const uint8_t *frame_header;    /* .eh_frame_hdr; NULL: none */
};

/* Once, from the constructor: calls the loader. */
void unwind_objects_init(void);
/* Which object holds `pc`.  Takes no lock with glibc 2.35 and newer; before that the loader's, for the time of the
 * search. */
bool unwind_object_find(uint64_t pc, struct unwind_object *object);

#endif
