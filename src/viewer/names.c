/* SPDX-License-Identifier: MIT */
#include "viewer/names.h"

#include "analysis/profile.h"
#include "base/array.h"
#include "base/pool.h"
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

/* An instruction, of which a recording can have very many frames: one for each way to it. */
struct place {
    struct profile_frame frame;         /* without id and parent */
    bool wanted;                        /* requested already */
    uint32_t call_count;                /* 0: its names were not asked for yet */
    size_t first_call;
};

struct names {
    const struct profile *profile;
    struct symbolizer *symbolizer;      /* NULL: no look-up */
    unsigned *module;                   /* symbolizer's number of each module */
    ARRAY_OF(struct place) places;
    uint32_t *slots;                    /* hash table: 1 + number of a place, 0 = free; slot_count is a power of two */
    size_t slot_count;
    ARRAY_OF(struct name) calls;        /* of places, each place's in a row */
    ARRAY_OF(struct name) stack;
    struct pool plain;                  /* without look-up: the texts */
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
    pool_free(&names->plain);
    free(names->sources);
    free(names->module);
    free(names->slots);
    array_free(&names->places);
    array_free(&names->calls);
    array_free(&names->stack);
    free(names);
}

static unsigned module_of(const struct names *names, const struct profile_frame *frame)
{
    return frame->module == PROFILE_NO_MODULE ? SYMBOLIZER_NO_MODULE : names->module[frame->module];
}

/* ---- places ------------------------------------------------------------------------------------- */

static uint64_t hash_place(const struct profile_frame *frame)
{
    uint64_t where = (uint64_t)(frame->kind == PROFILE_PYTHON ? frame->code : frame->module) << 2 | frame->kind;
    uint64_t hash = (frame->address ^ where << 32 ^ where) * UINT64_C(0x9e3779b97f4a7c15);
    return hash ^ hash >> 32;
}

static bool same_place(const struct profile_frame *a, const struct profile_frame *b)
{
    return a->address == b->address && a->kind == b->kind && a->module == b->module && a->code == b->code;
}

/* Where the place is, or would be. */
static size_t find_slot(const struct names *names, const struct profile_frame *frame)
{
    size_t slot = hash_place(frame) & (names->slot_count - 1);
    while (names->slots[slot] != 0 && !same_place(&names->places.at[names->slots[slot] - 1].frame, frame))
        slot = (slot + 1) & (names->slot_count - 1);
    return slot;
}

static void grow_slots(struct names *names)
{
    free(names->slots);
    names->slot_count = names->slot_count ? names->slot_count * 2 : 1024;
    names->slots = xcalloc(names->slot_count, sizeof *names->slots);
    for (size_t i = 0; i < names->places.count; i++)
        names->slots[find_slot(names, &names->places.at[i].frame)] = (uint32_t)i + 1;
}

static uint32_t place_of(struct names *names, const struct profile_frame *frame)
{
    if (names->places.count >= names->slot_count / 2)
        grow_slots(names);
    size_t slot = find_slot(names, frame);
    if (names->slots[slot] == 0) {
        array_push(&names->places, (struct place){ .frame = *frame });
        names->slots[slot] = (uint32_t)names->places.count;
    }
    return names->slots[slot] - 1;
}

uint32_t names_place(struct names *names, uint32_t id)
{
    struct profile_frame frame;
    return profile_frame(names->profile, id, &frame) ? place_of(names, &frame) : NAMES_NO_PLACE;
}

uint32_t names_place_count(const struct names *names)
{
    return (uint32_t)names->places.count;
}

void names_want_place(struct names *names, uint32_t number)
{
    struct place *place = &names->places.at[number];
    const struct profile_frame *frame = &place->frame;
    if (names->symbolizer && !place->wanted && frame->kind != PROFILE_PYTHON)
        symbolizer_request(names->symbolizer, module_of(names, frame), frame->address, frame->kind == PROFILE_SIGNAL);
    place->wanted = true;
}

void names_want(struct names *names, uint32_t leaf, size_t frames)
{
    struct profile_frame frame;
    if (!names->symbolizer)
        return;
    for (uint32_t id = leaf; frames > 0 && profile_frame(names->profile, id, &frame); id = frame.parent, frames--)
        names_want_place(names, place_of(names, &frame));
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
    /* As the symbolizer words it: of a return address, the last byte of the call. */
    char *text = xprintf("%s+0x%" PRIx64, module_name(names, frame),
                         frame->address - (frame->kind == PROFILE_NATIVE && frame->address != 0));
    const char *kept = pool_intern(&names->plain, text);
    free(text);
    return kept;
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
static void add_python_call(struct names *names, const struct profile_frame *frame)
{
    const struct source *source = source_of(names, frame->code);
    struct python_place place;
    bool found = python_lines_find(&source->lines, (uint32_t)frame->address, &place);
    array_push(&names->calls, (struct name){
        .function = source->function, .file = source->file, .short_file = source->short_file,
        .line = found ? place.line : source->lines.first_line, .column = found ? place.column : 0, .module = "",
        .known = true, .python = true, .own = source->own });
}

static const char *last_part(const char *path)
{
    const char *slash = path ? strrchr(path, '/') : NULL;
    return slash && slash[1] ? slash + 1 : path;
}

static void add_calls(struct names *names, const struct profile_frame *frame)
{
    bool interrupted = frame->kind == PROFILE_SIGNAL;
    if (frame->kind == PROFILE_PYTHON) {
        add_python_call(names, frame);
        return;
    }
    if (!names->symbolizer) {
        array_push(&names->calls, (struct name){
            .function = plain_function(names, frame), .module = module_name(names, frame),
            .interrupted = interrupted });
        return;
    }
    const struct symbol *symbol = symbolizer_look(names->symbolizer, module_of(names, frame), frame->address,
                                                  interrupted);
    for (uint32_t i = 0; i < symbol->count; i++)
        array_push(&names->calls, (struct name){
            .function = symbol->frames[i].function, .file = symbol->frames[i].file, .line = symbol->frames[i].line,
            .short_file = last_part(symbol->frames[i].file), .column = symbol->frames[i].column,
            .module = symbol->module, .known = symbol->known, .inlined = symbol->frames[i].inlined,
            .interrupted = interrupted && i == 0 });
}

/* The place with its calls made. */
static const struct place *named_place(struct names *names, uint32_t number)
{
    struct place *place = &names->places.at[number];
    if (place->call_count > 0)
        return place;
    place->first_call = names->calls.count;
    add_calls(names, &place->frame);
    place->call_count = (uint32_t)(names->calls.count - place->first_call);
    for (size_t i = place->first_call; i < names->calls.count; i++) {
        struct name *name = &names->calls.at[i];
        name->allocator = names_allocator(name);
        name->plumbing = names_plumbing(name);
        name->judged = true;
    }
    return place;
}

static void add_frame(struct names *names, const struct profile_frame *frame)
{
    const struct place *place = named_place(names, place_of(names, frame));
    for (uint32_t i = 0; i < place->call_count; i++)
        array_push(&names->stack, names->calls.at[place->first_call + i]);
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

struct names_stack names_at_place(struct names *names, uint32_t number)
{
    const struct place *place = named_place(names, number);
    return (struct names_stack){ &names->calls.at[place->first_call], place->call_count };
}
