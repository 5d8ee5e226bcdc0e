/* SPDX-License-Identifier: MIT */
#include "symbols/dwarf_scopes.h"

#include "base/array.h"
#include "base/pool.h"
#include "base/strbuf.h"
#include "symbols/dwarf_names.h"
#include "symbols/module_file.h"
#include <dwarf.h>
#include <elfutils/libdw.h>
#include <string.h>

/*
 * libdw's own way (dwarf_getscopes) walks a whole compilation unit for every address.  Here three sorted levels are
 * unfolded once each: the units of the module; the functions of the current unit; the inlined calls of the current
 * function.
 *
 * The unit's own ranges are used, not .debug_aranges, which clang does not write.  All ranges are in the module's
 * addresses; those of libdw differ by `bias` when the DWARF lies in a separate, moved debug file.
 */

struct unit {
    uint64_t start, end;
    Dwarf_Die die;              /* with the line table */
    Dwarf_Die code;             /* with the functions: the same, or that of the split .dwo file */
};

struct function {
    uint64_t start, end;
    Dwarf_Die die;
};

struct inlined {
    uint64_t start, end;
    unsigned depth;             /* 1: inlined into the function itself */
    Dwarf_Die die;
};

struct dwarf_scopes {
    struct pool *pool;
    struct dwarf_names *names;
    Dwarf_Addr bias;
    ARRAY_OF(struct unit) units;
    /* of the current unit */
    const struct unit *unit;
    ARRAY_OF(struct function) functions;
    Dwarf_Files *files;
    size_t file_count;
    const char *directory;
    bool qualified;             /* the language has namespaces */
    bool deep;                  /* `functions` has those within other functions too */
    /* of the current function */
    const void *function;       /* Dwarf_Die.addr */
    ARRAY_OF(struct inlined) inlined;
};

static int by_unit_start(const void *a, const void *b)
{
    uint64_t left = ((const struct unit *)a)->start, right = ((const struct unit *)b)->start;
    return left < right ? -1 : left > right;
}

static int by_function_start(const void *a, const void *b)
{
    uint64_t left = ((const struct function *)a)->start, right = ((const struct function *)b)->start;
    return left < right ? -1 : left > right;
}

static void add_unit(struct dwarf_scopes *scopes, Dwarf_CU *cu)
{
    struct unit unit = {0};
    uint8_t unit_type;
    if (dwarf_cu_info(cu, NULL, &unit_type, &unit.die, &unit.code, NULL, NULL, NULL) != 0)
        return;
    if (unit_type != DW_UT_compile && unit_type != DW_UT_skeleton)
        return;
    if (!unit.code.addr)
        unit.code = unit.die;
    Dwarf_Addr base, start, end;
    for (ptrdiff_t next = 0; (next = dwarf_ranges(&unit.die, next, &base, &start, &end)) > 0;) {
        unit.start = start + scopes->bias;
        unit.end = end + scopes->bias;
        if (start < end)
            array_push(&scopes->units, unit);
    }
}

struct dwarf_scopes *dwarf_scopes_open(struct module_file *file, struct pool *pool)
{
    Dwarf_Addr bias;
    Dwarf *dwarf = dwfl_module_getdwarf(file->module, &bias);
    if (!dwarf)
        return NULL;
    struct dwarf_scopes *scopes = xcalloc(1, sizeof *scopes);
    scopes->pool = pool;
    scopes->names = dwarf_names_new(pool);
    scopes->bias = bias;
    Dwarf_CU *cu = NULL;
    while (dwarf_get_units(dwarf, cu, &cu, NULL, NULL, NULL, NULL) == 0)
        add_unit(scopes, cu);
    array_sort(&scopes->units, by_unit_start);
    return scopes;
}

void dwarf_scopes_close(struct dwarf_scopes *scopes)
{
    if (!scopes)
        return;
    dwarf_names_free(scopes->names);
    array_free(&scopes->units);
    array_free(&scopes->functions);
    array_free(&scopes->inlined);
    free(scopes);
}

/* ---- the unit and its functions ----------------------------------------------------------------- */

static void add_function(struct dwarf_scopes *scopes, Dwarf_Die *die)
{
    Dwarf_Addr base, start, end;
    for (ptrdiff_t next = 0; (next = dwarf_ranges(die, next, &base, &start, &end)) > 0;) {
        struct function function = { .start = start + scopes->bias, .end = end + scopes->bias, .die = *die };
        if (start < end)
            array_push(&scopes->functions, function);
    }
}

static void collect_functions(struct dwarf_scopes *scopes, Dwarf_Die *parent)
{
    Dwarf_Die child;
    if (dwarf_child(parent, &child) != 0)
        return;
    do {
        int tag = dwarf_tag(&child);
        if (tag == DW_TAG_subprogram)
            add_function(scopes, &child);
        bool body = tag == DW_TAG_subprogram || tag == DW_TAG_lexical_block;
        if (dwarf_names_is_space(tag, scopes->qualified) || (body && scopes->deep))
            collect_functions(scopes, &child);
    } while (dwarf_siblingof(&child, &child) == 0);
}

static void enter_unit(struct dwarf_scopes *scopes, const struct unit *unit)
{
    if (scopes->unit && scopes->unit->die.addr == unit->die.addr)
        return;
    Dwarf_Attribute attribute;
    Dwarf_Die die = unit->die, code = unit->code;
    scopes->unit = unit;
    scopes->function = NULL;
    if (dwarf_getsrcfiles(&die, &scopes->files, &scopes->file_count) != 0)
        scopes->file_count = 0;
    scopes->directory = dwarf_formstring(dwarf_attr(&die, DW_AT_comp_dir, &attribute));
    scopes->qualified = dwarf_names_has_spaces(&code);
    scopes->deep = false;
    array_clear(&scopes->functions);
    collect_functions(scopes, &code);
    array_sort(&scopes->functions, by_function_start);
}

static const struct unit *find_unit(const struct dwarf_scopes *scopes, uint64_t address)
{
    size_t low = 0, high = scopes->units.count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (scopes->units.at[middle].start <= address)
            low = middle + 1;
        else
            high = middle;
    }
    /* Ranges of units do not nest; a few wrong ones may overlap. */
    for (size_t i = low, tries = 0; i > 0 && tries < 4; i--, tries++)
        if (address < scopes->units.at[i - 1].end)
            return &scopes->units.at[i - 1];
    return NULL;
}

static bool find_listed_function(const struct dwarf_scopes *scopes, uint64_t address, Dwarf_Die *found)
{
    size_t low = 0, high = scopes->functions.count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (scopes->functions.at[middle].start <= address)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == 0 || address >= scopes->functions.at[low - 1].end)
        return false;
    *found = scopes->functions.at[low - 1].die;
    return true;
}

/* Functions described within other functions (lambdas, members of local classes, GNU C's nested ones) are few, and
 * looking for them means walking all of the unit: only when an address is in no other. */
static bool find_function(struct dwarf_scopes *scopes, uint64_t address, Dwarf_Die *found)
{
    if (find_listed_function(scopes, address, found))
        return true;
    if (scopes->deep)
        return false;
    Dwarf_Die code = scopes->unit->code;
    scopes->deep = true;
    array_clear(&scopes->functions);
    collect_functions(scopes, &code);
    array_sort(&scopes->functions, by_function_start);
    return find_listed_function(scopes, address, found);
}

/* ---- the inlined calls of a function ------------------------------------------------------------ */

static void collect_inlined(struct dwarf_scopes *scopes, Dwarf_Die *parent, unsigned depth)
{
    Dwarf_Die child;
    if (depth > DWARF_FRAMES_MAX || dwarf_child(parent, &child) != 0)
        return;
    do {
        int tag = dwarf_tag(&child);
        if (tag == DW_TAG_inlined_subroutine) {
            Dwarf_Addr base, start, end;
            for (ptrdiff_t next = 0; (next = dwarf_ranges(&child, next, &base, &start, &end)) > 0;) {
                struct inlined call = { .start = start + scopes->bias, .end = end + scopes->bias,
                                        .depth = depth + 1, .die = child };
                if (start < end)
                    array_push(&scopes->inlined, call);
            }
            collect_inlined(scopes, &child, depth + 1);
        } else if (tag == DW_TAG_lexical_block || tag == DW_TAG_try_block || tag == DW_TAG_catch_block) {
            collect_inlined(scopes, &child, depth);
        }
    } while (dwarf_siblingof(&child, &child) == 0);
}

static void enter_function(struct dwarf_scopes *scopes, Dwarf_Die *die)
{
    if (scopes->function == die->addr)
        return;
    scopes->function = die->addr;
    array_clear(&scopes->inlined);
    collect_inlined(scopes, die, 0);
}

/* ---- files -------------------------------------------------------------------------------------- */

/* Appends path's components to an absolute path, dropping "." and resolving "..". */
static void append_normalised(struct strbuf *text, const char *path)
{
    while (*path) {
        size_t length = strcspn(path, "/");
        if (length == 2 && path[0] == '.' && path[1] == '.') {
            const char *slash = strrchr(text->text, '/');
            strbuf_truncate(text, slash ? (size_t)(slash - text->text) : 0);
        } else if (length > 0 && !(length == 1 && path[0] == '.')) {
            strbuf_char(text, '/');
            strbuf_put_n(text, path, length);
        }
        path += length;
        path += *path == '/';
    }
}

static const char *source_path(struct dwarf_scopes *scopes, const char *path)
{
    if (!path || strcmp(path, "???") == 0)      /* libdw's word for DWARF 4's file 0 */
        return NULL;
    const char *directory = path[0] == '/' ? "" : scopes->directory;
    if (!directory || (*directory && directory[0] != '/'))
        return pool_intern(scopes->pool, path);
    struct strbuf text = STRBUF_INIT;
    append_normalised(&text, directory);
    append_normalised(&text, path);
    const char *interned = pool_intern_n(scopes->pool, text.text, text.length);
    strbuf_free(&text);
    return interned;
}

static uint32_t number_attribute(Dwarf_Die *die, unsigned name)
{
    Dwarf_Attribute attribute;
    Dwarf_Word value;
    if (!dwarf_attr(die, name, &attribute) || dwarf_formudata(&attribute, &value) != 0)
        return 0;
    return (uint32_t)value;
}

/* Where the inlined function was called. */
static void place_at_call(struct dwarf_scopes *scopes, Dwarf_Die *call, struct dwarf_frame *frame)
{
    uint32_t file = number_attribute(call, DW_AT_call_file);
    const char *path = file < scopes->file_count ? dwarf_filesrc(scopes->files, file, NULL, NULL) : NULL;
    frame->file = source_path(scopes, path);
    frame->line = number_attribute(call, DW_AT_call_line);
    frame->column = number_attribute(call, DW_AT_call_column);
}

/* Where the instruction is, by the line table. */
static void place_at_line(struct dwarf_scopes *scopes, uint64_t address, struct dwarf_frame *frame)
{
    Dwarf_Die die = scopes->unit->die;
    Dwarf_Line *line = dwarf_getsrc_die(&die, address - scopes->bias);
    const char *path = line ? dwarf_linesrc(line, NULL, NULL) : NULL;
    int number;
    frame->file = source_path(scopes, path);
    if (line && dwarf_lineno(line, &number) == 0)
        frame->line = (uint32_t)number;
    if (line && dwarf_linecol(line, &number) == 0)
        frame->column = (uint32_t)number;
}

unsigned dwarf_scopes_find(struct dwarf_scopes *scopes, uint64_t address, struct dwarf_frame frames[DWARF_FRAMES_MAX])
{
    const struct unit *unit = find_unit(scopes, address);
    if (!unit)
        return 0;
    enter_unit(scopes, unit);
    memset(frames, 0, DWARF_FRAMES_MAX * sizeof *frames);
    Dwarf_Die chain[DWARF_FRAMES_MAX];      /* [0]: the function; then inwards */
    unsigned count = 0;
    if (find_function(scopes, address, &chain[0])) {
        count = 1;
        enter_function(scopes, &chain[0]);
        for (size_t i = 0; i < scopes->inlined.count; i++) {
            const struct inlined *call = &scopes->inlined.at[i];
            if (call->start <= address && address < call->end && call->depth == count && count < DWARF_FRAMES_MAX)
                chain[count++] = call->die;
        }
    }
    place_at_line(scopes, address, &frames[0]);
    for (unsigned i = 0; i < count; i++) {
        struct dwarf_frame *frame = &frames[count - 1 - i];
        frame->name = dwarf_names_function(scopes->names, &chain[i], scopes->qualified, &frame->linkage_name);
        if (i + 1 < count)
            place_at_call(scopes, &chain[i + 1], frame);
    }
    return count > 0 ? count : 1;
}
