/* SPDX-License-Identifier: MIT */
#ifndef HEAPMARK_SYMBOLS_DWARF_SCOPES_H
#define HEAPMARK_SYMBOLS_DWARF_SCOPES_H

/*
 * What DWARF says about an address: the function, the calls inlined there, files and lines.  Made for addresses asked
 * in ascending order: one compilation unit and one function at a time are kept unfolded.
 */

#include <stdbool.h>
#include <stdint.h>

struct module_file;
struct pool;
struct dwarf_scopes;

struct dwarf_frame {
    const char *name;           /* DW_AT_name, with its namespaces when there is no linkage name; NULL = none */
    const char *linkage_name;   /* NULL = none */
    const char *file;           /* absolute where the compiler said enough; NULL = unknown */
    uint32_t line, column;      /* 0 = unknown */
};

#define DWARF_FRAMES_MAX 64u

/* NULL: the module has no DWARF.  Strings are interned in `pool`.  The module must outlive the scopes. */
struct dwarf_scopes *dwarf_scopes_open(struct module_file *file, struct pool *pool);
/* Innermost inlined call first, the function that holds the code last; the number of frames, 0 when DWARF does not
 * know the address. */
unsigned dwarf_scopes_find(struct dwarf_scopes *scopes, uint64_t address, struct dwarf_frame frames[DWARF_FRAMES_MAX]);
void dwarf_scopes_close(struct dwarf_scopes *scopes);

#endif
