/* SPDX-License-Identifier: MIT */
#ifndef HEAPMARK_SHIM_MAPPING_H
#define HEAPMARK_SHIM_MAPPING_H

/*
 * The program's own anonymous mappings: intervals of addresses with the site that mapped them.  What libc maps for malloc does
 * not come through here.  Cold: every call stands beside a system call of the host.
 */

#include <stddef.h>
#include <stdint.h>

struct thread;

void mapping_add(struct thread *thread, uintptr_t start, size_t bytes, uint32_t site);

/* Takes the range out, splitting intervals; what was taken can be put back when the real call failed. */
#define MAPPING_PIECES 16
struct mapping_removed {
    uint32_t count;         /* pieces beyond MAPPING_PIECES are not kept */
    struct {
        uintptr_t start;
        size_t bytes;
        uint32_t site;
    } piece[MAPPING_PIECES];
};
void mapping_remove(struct thread *thread, uintptr_t start, size_t bytes, struct mapping_removed *removed);
void mapping_put_back(struct thread *thread, const struct mapping_removed *removed);

/* For the census. */
struct mapping_interval {
    uintptr_t start, end;
    uint32_t site;
};
uint32_t mapping_copy(struct mapping_interval *to, uint32_t capacity); /* sorted; returns how many there are */
void mapping_in_child(void);             /* of any fork: nobody holds the list's lock there */
void mapping_after_fork(struct thread *thread);  /* the child's counters start with what it inherited */

#endif
