/* SPDX-License-Identifier: MIT */
#include "shim/python_layout.h"

#include "freestanding/text.h"
#include <stddef.h>
#include "freestanding/banned.h"

/*
 * Read off the interpreters' headers and checked on running ones: 3.8.18, 3.9.13, 3.10.13, 3.11.2 and .7, 3.12.1, 3.13.0 to .18,
 * 3.14.10, 3.15.2.  A new minor version gets a row when its layout was checked the same way.
 *
 *   thread state: frame cframe interp thread | cframe: current previous | frame: code previous instruction owner entry |
 *   code: file name qualname first_line lines code | str: state ascii compact | runtime: interpreters.head
 */
static const struct python_layout layouts[] = {
    {8, 24, 0, 16, 176, 0, 0, 32, 24, 104, 0, 0, 104, 112, 0, 40, 120, 0, 32, 48, 72, 32},
    {9, 24, 0, 16, 176, 0, 0, 32, 24, 104, 0, 0, 104, 112, 0, 40, 120, 0, 32, 48, 72, 32},
    {10, 24, 48, 16, 176, 0, 8, 32, 24, 96, 0, 0, 104, 112, 0, 40, 120, 0, 32, 48, 72, 32},
    {11, 0, 56, 16, 152, 8, 16, 32, 48, 56, 69, 68, 112, 120, 128, 72, 136, 184, 32, 48, 72, 40},
    {12, 0, 56, 16, 136, 0, 8, 0, 8, 56, 70, 0, 112, 120, 128, 68, 136, 192, 32, 40, 56, 0},
    {13, 72, 0, 16, 152, 0, 0, 0, 8, 56, 70, 0, 112, 120, 128, 68, 136, 200, 32, 40, 56, 0},
    {14, 72, 0, 16, 152, 0, 0, 0, 8, 56, 74, 0, 112, 120, 128, 68, 136, 208, 32, 40, 56, 0},
    {15, 72, 0, 16, 176, 0, 0, 0, 8, 56, 74, 0, 112, 120, 128, 68, 136, 208, 32, 40, 56, 0},
};

const struct python_layout *python_layout_of(unsigned minor)
{
    for (unsigned i = 0; i < sizeof layouts / sizeof *layouts; i++)
        if (layouts[i].minor == minor)
            return &layouts[i];
    return NULL;
}

/* PyMemberDef: name, type, offset. */
struct member {
    const char *name;
    int type;
    intptr_t offset;
    int flags;
    const char *doc;
};

static bool member_is(const struct member *members, const char *name, uint16_t offset)
{
    for (; members->name != NULL; members++)
        if (text_equal(members->name, name))
            return members->offset == offset;
    return true;    /* this version computes the attribute */
}

bool python_layout_agrees(const struct python_layout *layout, const void *code_type)
{
    const char *type = code_type;
    const struct member *members = *(const struct member *const *)(type + PYTHON_TYPE_MEMBERS);
    intptr_t size = *(const intptr_t *)(type + PYTHON_TYPE_BASICSIZE);
    if (members == NULL || (layout->co_code != 0 && size != layout->co_code))
        return false;
    return member_is(members, "co_filename", layout->co_file) && member_is(members, "co_name", layout->co_name) &&
           (layout->co_qualname == 0 || member_is(members, "co_qualname", layout->co_qualname)) &&
           member_is(members, "co_firstlineno", layout->co_first_line) &&
           member_is(members, "co_linetable", layout->co_lines) && member_is(members, "co_lnotab", layout->co_lines);
}
