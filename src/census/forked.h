/* SPDX-License-Identifier: MIT */
#ifndef HEAPMARK_CENSUS_FORKED_H
#define HEAPMARK_CENSUS_FORKED_H

/*
 * A census of a process that is taken in a child, forked for it: nothing moves under the scan.
 *
 * The fork copies the page tables of anonymous memory, heap and block map included, and those of private file mappings that
 * the process has written to.  It does not copy those of the other file mappings and of shared memory, nor anything
 * of areas under MADV_WIPEONFORK and MADV_DONTFORK.  What the kernel counts there is taken from the list that the
 * process read of itself just before; so are the process's totals.  Memory that the child maps for itself is taken out.
 */

#include "census/areas.h"
#include "census/scratch.h"
#include "contract/format.h"
#include <stdbool.h>

/* What the process knows of itself before the fork. */
struct forked_before {
    struct areas areas;
    struct hmk_census status;       /* the totals of ledger_read_status */
    struct scratch scratch;
};

/* In the process.  False: cannot be read; nothing is to be released then. */
bool forked_note_areas(struct forked_before *before);
bool forked_note_status(struct forked_before *before);
void forked_release(struct forked_before *before);

/* In the child, before it maps anything: it might get the place of an area that it does not have. */
void forked_plug(const struct forked_before *before);
/* In the child: its areas become those of its parent at the fork.  False: no memory. */
bool forked_join(struct areas *areas, const struct forked_before *before, struct scratch *own);

#endif
