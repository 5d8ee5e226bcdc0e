/* SPDX-License-Identifier: MIT */
#include "viewer/names.h"

#include "analysis/profile.h"
#include "base/array.h"
#include "base/xalloc.h"
#include "symbols/symbolizer.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEPTH_LIMIT 4096

struct names {
    const struct profile *profile;
    struct symbolizer *symbolizer;      /* NULL: no look-up */
    unsigned *module;                   /* symbolizer's number of each module */
    unsigned char *wanted;              /* bit per frame: requested already */
    size_t wanted_bytes;
    ARRAY_OF(struct name) stack;
    char **plain;                       /* without look-up: text by frame, made when first shown */
    size_t plain_count;
};

struct names *names_new(const struct profile *profile, const struct symbolizer_options *symbols)
{
    struct names *names = xcalloc(1, sizeof *names);
    names->profile = profile;
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

static void add_frame(struct names *names, const struct profile_frame *frame)
{
    bool interrupted = frame->kind == PROFILE_SIGNAL;
    if (!names->symbolizer || frame->kind == PROFILE_PYTHON) {
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
            .module = symbol->module, .known = symbol->known, .inlined = symbol->frames[i].inlined,
            .interrupted = interrupted && i == 0, .frame = frame->id });
}

struct names_stack names_stack(struct names *names, uint32_t leaf, size_t frames)
{
    struct profile_frame frame;
    array_clear(&names->stack);
    for (uint32_t id = leaf; frames > 0 && names->stack.count < DEPTH_LIMIT
         && profile_frame(names->profile, id, &frame); id = frame.parent, frames--)
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
