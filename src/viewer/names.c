/* SPDX-License-Identifier: MIT */
#include "viewer/names.h"

#include "analysis/profile.h"
#include "base/array.h"
#include "base/xalloc.h"
#include "symbols/python_lines.h"
#include "symbols/symbolizer.h"
#include "viewer/python.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEPTH_LIMIT 4096

/* Of a code object. */
struct source {
    bool known, own;
    const char *function, *file, *short_file;
    struct python_lines lines;
};

struct names {
    const struct profile *profile;
    struct symbolizer *symbolizer;      /* NULL: no look-up */
    unsigned *module;                   /* symbolizer's number of each module */
    unsigned char *wanted;              /* bit per frame: requested already */
    size_t wanted_bytes;
    ARRAY_OF(struct name) stack;
    char **plain;                       /* without look-up: text by frame, made when first shown */
    size_t plain_count;
    struct source *sources;             /* by code object, made when first asked for */
};

struct names *names_new(const struct profile *profile, const struct symbolizer_options *symbols)
{
    struct names *names = xcalloc(1, sizeof *names);
    names->profile = profile;
    names->sources = xcalloc(profile->code_count, sizeof *names->sources);
    if (!symbols)
        return names;
    names->symbolizer = symbolizer_new(symbols);
    names->module = xcalloc(profile->module_count, sizeof *names->module);
    for (size_t i = 0; i < profile->module_count; i++) {
        const struct profile_module *module = &profile->modules[i];
        names->module[i] = symbolizer_module(names->symbolizer, module->path, module->build_id,
                                             module->build_id_bytes);
    }
    return names;
}

void names_free(struct names *names)
{
    if (!names)
        return;
    if (names->symbolizer)
        symbolizer_free(names->symbolizer);
    for (size_t i = 0; i < names->plain_count; i++)
        free(names->plain[i]);
    free(names->plain);
    free(names->sources);
    free(names->module);
    free(names->wanted);
    array_free(&names->stack);
    free(names);
}

static unsigned module_of(const struct names *names, const struct profile_frame *frame)
{
    return frame->module == PROFILE_NO_MODULE ? SYMBOLIZER_NO_MODULE : names->module[frame->module];
}

/* Sets the frame's bit; false when it was set before. */
static bool want_once(struct names *names, uint32_t frame)
{
    size_t byte = frame / 8;
    if (byte >= names->wanted_bytes) {
        size_t bytes = byte + byte / 2 + 64;
        names->wanted = xreallocarray(names->wanted, bytes, 1);
        memset(names->wanted + names->wanted_bytes, 0, bytes - names->wanted_bytes);
        names->wanted_bytes = bytes;
    }
    unsigned char bit = (unsigned char)(1u << frame % 8);
    bool fresh = (names->wanted[byte] & bit) == 0;
    names->wanted[byte] |= bit;
    return fresh;
}

void names_want(struct names *names, uint32_t leaf, size_t frames)
{
    struct profile_frame frame;
    if (!names->symbolizer)
        return;
    for (uint32_t id = leaf; frames > 0 && profile_frame(names->profile, id, &frame); id = frame.parent, frames--)
        if (want_once(names, id) && frame.kind != PROFILE_PYTHON)
            symbolizer_request(names->symbolizer, module_of(names, &frame), frame.address,
                               frame.kind == PROFILE_SIGNAL);
}

void names_resolve(struct names *names)
{
    if (names->symbolizer)
        symbolizer_resolve(names->symbolizer);
}

static const char *module_name(const struct names *names, const struct profile_frame *frame)
{
    if (frame->module == PROFILE_NO_MODULE)
        return "[anonymous]";
    const char *path = names->profile->modules[frame->module].path;
    const char *slash = strrchr(path, '/');
    const char *name = slash && slash[1] ? slash + 1 : path;
    return *name ? name : "[anonymous]";
}

static const char *plain_function(struct names *names, const struct profile_frame *frame)
{
    if (frame->id >= names->plain_count) {
        size_t count = frame->id + frame->id / 2 + 64;
        names->plain = xreallocarray(names->plain, count, sizeof *names->plain);
        memset(names->plain + names->plain_count, 0, (count - names->plain_count) * sizeof *names->plain);
        names->plain_count = count;
    }
    if (!names->plain[frame->id])
        /* As the symbolizer words it: of a return address, the last byte of the call. */
        names->plain[frame->id] = xprintf("%s+0x%" PRIx64, module_name(names, frame),
                                          frame->address - (frame->kind == PROFILE_NATIVE && frame->address != 0));
    return names->plain[frame->id];
}

static const struct source *source_of(struct names *names, uint32_t number)
{
    struct source *source = &names->sources[number];
    if (source->known)
        return source;
    struct profile_code code = profile_code(names->profile, number);
    *source = (struct source){
        .known = true, .function = code.name, .file = code.file, .own = python_own(code.file),
        .short_file = python_short_file(code.file, names->profile->process.cwd),
        .lines = { .version = code.version, .first_line = code.first_line, .table = code.lines, .bytes = code.line_bytes },
    };
    return source;
}

bool names_own_code(struct names *names, uint32_t code)
{
    return source_of(names, code)->own;
}

/* An instruction without a line is one before the function's own: it has begun, and no more. */
static void add_python_frame(struct names *names, const struct profile_frame *frame)
{
    const struct source *source = source_of(names, frame->code);
    struct python_place place;
    bool found = python_lines_find(&source->lines, (uint32_t)frame->address, &place);
    array_push(&names->stack, (struct name){
        .function = source->function, .file = source->file, .short_file = source->short_file,
        .line = found ? place.line : source->lines.first_line, .column = found ? place.column : 0, .module = "",
        .known = true, .python = true, .own = source->own, .frame = frame->id });
}

static const char *last_part(const char *path)
{
    const char *slash = path ? strrchr(path, '/') : NULL;
    return slash && slash[1] ? slash + 1 : path;
}

static void add_frame(struct names *names, const struct profile_frame *frame)
{
    bool interrupted = frame->kind == PROFILE_SIGNAL;
    if (frame->kind == PROFILE_PYTHON) {
        add_python_frame(names, frame);
        return;
    }
    if (!names->symbolizer) {
        array_push(&names->stack, (struct name){
            .function = plain_function(names, frame), .module = module_name(names, frame),
            .interrupted = interrupted, .frame = frame->id });
        return;
    }
    const struct symbol *symbol = symbolizer_look(names->symbolizer, module_of(names, frame), frame->address,
                                                  interrupted);
    for (uint32_t i = 0; i < symbol->count; i++)
        array_push(&names->stack, (struct name){
            .function = symbol->frames[i].function, .file = symbol->frames[i].file, .line = symbol->frames[i].line,
            .short_file = last_part(symbol->frames[i].file), .column = symbol->frames[i].column,
            .module = symbol->module, .known = symbol->known, .inlined = symbol->frames[i].inlined,
            .interrupted = interrupted && i == 0, .frame = frame->id });
}

struct names_stack names_stack(struct names *names, uint32_t leaf, size_t frames)
{
    struct profile_frame frame;
    array_clear(&names->stack);
    bool python = names->profile->code_count > 0;
    for (uint32_t id = leaf; (frames > 0 || python) && names->stack.count < DEPTH_LIMIT
         && profile_frame(names->profile, id, &frame); id = frame.parent, frames -= frames > 0)
        if (frames > 0 || frame.kind == PROFILE_PYTHON)
            add_frame(names, &frame);
    return (struct names_stack){ names->stack.at, names->stack.count };
}

struct names_stack names_frame(struct names *names, uint32_t id)
{
    struct profile_frame frame;
    array_clear(&names->stack);
    if (profile_frame(names->profile, id, &frame))
        add_frame(names, &frame);
    return (struct names_stack){ names->stack.at, names->stack.count };
}
