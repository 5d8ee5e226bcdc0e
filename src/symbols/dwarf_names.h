/* SPDX-License-Identifier: MIT */
#ifndef HEAPMARK_SYMBOLS_DWARF_NAMES_H
#define HEAPMARK_SYMBOLS_DWARF_NAMES_H

/*
 * Names of functions in DWARF.  A function without a linkage name (C, but also members of local classes in C++) is
 * named by the namespaces, classes and functions around it, which libdw finds only by walking the unit from its
 * start; here each unit is walked once, when it is first needed.
 */

#include <elfutils/libdw.h>
#include <stdbool.h>

struct pool;
struct dwarf_names;

struct dwarf_names *dwarf_names_new(struct pool *pool);
void dwarf_names_free(struct dwarf_names *names);

/* Of a subprogram or an inlined one.  *linkage_name is NULL when it has none; the result is NULL when it has no name.
 * With `qualified`, what is around the function is put in front when there is no linkage name.  Interned. */
const char *dwarf_names_function(struct dwarf_names *names, Dwarf_Die *die, bool qualified, const char **linkage_name);

/* Does the unit's language put functions into namespaces or classes? */
bool dwarf_names_has_spaces(Dwarf_Die *unit);
/* Is this tag a namespace or, with `types`, a class? */
bool dwarf_names_is_space(int tag, bool types);

#endif
