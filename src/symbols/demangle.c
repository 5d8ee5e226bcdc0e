/* SPDX-License-Identifier: MIT */
#include "symbols/demangle.h"

#include <stddef.h>
#include <string.h>

/* Without this, libiberty.h declares its own basename(), which clashes with the one of string.h. */
#define HAVE_DECL_BASENAME 1
#include <libiberty/demangle.h>

/* The demangler's time and output can grow much faster than its input. */
#define LENGTH_LIMIT 16384u

char *demangle(const char *linkage_name)
{
    if (linkage_name[0] != '_' || (linkage_name[1] != 'Z' && linkage_name[1] != 'R'))
        return NULL;
    if (strnlen(linkage_name, LENGTH_LIMIT) == LENGTH_LIMIT)
        return NULL;
    return cplus_demangle(linkage_name, DMGL_AUTO | DMGL_PARAMS | DMGL_ANSI | DMGL_RET_DROP);
}
