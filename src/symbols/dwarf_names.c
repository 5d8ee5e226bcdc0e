/* SPDX-License-Identifier: MIT */
#include "symbols/dwarf_names.h"

#include "base/array.h"
#include "base/pool.h"
#include "base/strbuf.h"
#include <dwarf.h>
#include <string.h>

/* Deeper nesting than any compiler writes. */
#define DEPTH_LIMIT 200u

struct declaration {
    const void *address;        /* Dwarf_Die.addr */
    const char *prefix;         /* "std::vector<int>::"; interned */
};

/* The functions of one unit, in the order of their addresses, which is that of the walk. */
struct unit_declarations {
    const Dwarf_CU *cu;
    ARRAY_OF(struct declaration) functions;
};

struct dwarf_names {
    struct pool *pool;
    ARRAY_OF(struct unit_declarations) units;
};

struct dwarf_names *dwarf_names_new(struct pool *pool)
{
    struct dwarf_names *names = xcalloc(1, sizeof *names);
    names->pool = pool;
    return names;
}

void dwarf_names_free(struct dwarf_names *names)
{
    for (size_t i = 0; i < names->units.count; i++)
        array_free(&names->units.at[i].functions);
    array_free(&names->units);
    free(names);
}

bool dwarf_names_has_spaces(Dwarf_Die *unit)
{
    switch (dwarf_srclang(unit)) {
    case -1:
    case DW_LANG_C:
    case DW_LANG_C89:
    case DW_LANG_C99:
    case DW_LANG_C11:
    case DW_LANG_Mips_Assembler:
        return false;
    default:
        return true;
    }
}

bool dwarf_names_is_space(int tag, bool types)
{
    switch (tag) {
    case DW_TAG_namespace:
    case DW_TAG_module:
        return true;
    case DW_TAG_class_type:
    case DW_TAG_structure_type:
    case DW_TAG_union_type:
    case DW_TAG_enumeration_type:
        return types;
    default:
        return false;
    }
}

static const char *string_attribute(Dwarf_Die *die, unsigned name)
{
    Dwarf_Attribute attribute;
    return dwarf_formstring(dwarf_attr_integrate(die, name, &attribute));
}

/* ---- what is around a function ------------------------------------------------------------------ */

static void walk(struct dwarf_names *names, struct unit_declarations *unit, Dwarf_Die *parent, struct strbuf *prefix,
                 unsigned depth)
{
    Dwarf_Die child;
    if (depth > DEPTH_LIMIT || dwarf_child(parent, &child) != 0)
        return;
    const char *interned = NULL;
    size_t length = prefix->length;
    do {
        int tag = dwarf_tag(&child);
        if (tag == DW_TAG_subprogram) {
            if (!interned)
                interned = pool_intern_n(names->pool, prefix->text, length);
            array_push(&unit->functions, (struct declaration){ child.addr, interned });
        }
        if (tag != DW_TAG_subprogram && tag != DW_TAG_lexical_block && !dwarf_names_is_space(tag, true))
            continue;
        if (tag != DW_TAG_lexical_block) {
            const char *name = string_attribute(&child, DW_AT_name);
            strbuf_printf(prefix, "%s::", name ? name : "(anonymous)");
        }
        walk(names, unit, &child, prefix, depth + 1);
        strbuf_truncate(prefix, length);
    } while (dwarf_siblingof(&child, &child) == 0);
}

static const struct unit_declarations *unit_of(struct dwarf_names *names, Dwarf_Die *die)
{
    for (size_t i = 0; i < names->units.count; i++)
        if (names->units.at[i].cu == die->cu)
            return &names->units.at[i];
    Dwarf_Die root;
    struct unit_declarations *unit = array_add(&names->units);
    unit->cu = die->cu;
    if (dwarf_cu_die(die->cu, &root, NULL, NULL, NULL, NULL, NULL, NULL)) {
        struct strbuf prefix = STRBUF_INIT;
        walk(names, unit, &root, &prefix, 0);
        strbuf_free(&prefix);
    }
    return unit;
}

/* The entry that stands among its namespaces: what a concrete or inlined one was made from. */
static Dwarf_Die declaration_of(Dwarf_Die *die)
{
    Dwarf_Die at = *die;
    Dwarf_Attribute attribute;
    for (int step = 0; step < 8; step++) {
        Dwarf_Die origin;
        if (!dwarf_attr(&at, DW_AT_abstract_origin, &attribute) && !dwarf_attr(&at, DW_AT_specification, &attribute))
            break;
        if (!dwarf_formref_die(&attribute, &origin))
            break;
        at = origin;
    }
    return at;
}

static const char *prefix_of(struct dwarf_names *names, Dwarf_Die *die)
{
    Dwarf_Die declaration = declaration_of(die);
    const struct unit_declarations *unit = unit_of(names, &declaration);
    size_t low = 0, high = unit->functions.count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if ((uintptr_t)unit->functions.at[middle].address < (uintptr_t)declaration.addr)
            low = middle + 1;
        else
            high = middle;
    }
    bool found = low < unit->functions.count && unit->functions.at[low].address == declaration.addr;
    return found ? unit->functions.at[low].prefix : "";
}

const char *dwarf_names_function(struct dwarf_names *names, Dwarf_Die *die, bool qualified, const char **linkage_name)
{
    const char *name = string_attribute(die, DW_AT_name);
    const char *linkage = string_attribute(die, DW_AT_linkage_name);
    if (!linkage)
        linkage = string_attribute(die, DW_AT_MIPS_linkage_name);
    *linkage_name = linkage ? pool_intern(names->pool, linkage) : NULL;
    if (!name || linkage || !qualified)
        return name ? pool_intern(names->pool, name) : NULL;
    struct strbuf text = STRBUF_INIT;
    strbuf_put(&text, prefix_of(names, die));
    strbuf_put(&text, name);
    const char *interned = pool_intern_n(names->pool, text.text, text.length);
    strbuf_free(&text);
    return interned;
}
