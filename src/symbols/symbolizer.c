/* SPDX-License-Identifier: MIT */
#include "symbols/symbolizer.h"

#include "base/array.h"
#include "base/fail.h"
#include "base/pool.h"
#include "base/strbuf.h"
#include "symbols/demangle.h"
#include "symbols/dwarf_scopes.h"
#include "symbols/elf_names.h"
#include "symbols/module_file.h"
#include <inttypes.h>
#include <string.h>

#define PROGRESS_STEP 512u

struct answer {
    uint64_t address;           /* as looked up: one byte before a return address */
    struct symbol symbol;
};

struct module {
    const char *path;
    const char *name;           /* last component of the path */
    const uint8_t *build_id;
    size_t build_id_bytes;
    bool complained;
    ARRAY_OF(uint64_t) requests;
    ARRAY_OF(struct answer *) answers;  /* by address; they themselves never move */
};

/* The module that is open now.  One at a time: the debug information of all of a large program would not fit in
 * memory. */
struct opened {
    struct module *module;      /* NULL: none */
    bool readable;
    struct module_file file;
    struct elf_names *names;
    struct dwarf_scopes *scopes;
};

struct demangled {
    const char *linkage_name;   /* interned */
    const char *name;
};

struct symbolizer {
    struct symbolizer_options options;
    struct pool pool;
    ARRAY_OF(struct module *) modules;  /* [0]: SYMBOLIZER_NO_MODULE */
    struct opened opened;
    struct demangled recent[256];
    size_t done, total;
};

static struct module *add_module(struct symbolizer *symbolizer, const char *path)
{
    struct module *module = pool_alloc(&symbolizer->pool, sizeof *module);
    const char *slash = strrchr(path, '/');
    module->path = pool_intern(&symbolizer->pool, path);
    module->name = pool_intern(&symbolizer->pool, slash && slash[1] ? slash + 1 : path);
    array_push(&symbolizer->modules, module);
    return module;
}

struct symbolizer *symbolizer_new(const struct symbolizer_options *options)
{
    struct symbolizer *symbolizer = xcalloc(1, sizeof *symbolizer);
    if (options)
        symbolizer->options = *options;
    /* libdwfl asks the servers by itself whenever the variable is there. */
    if (!symbolizer->options.debuginfod)
        unsetenv("DEBUGINFOD_URLS");
    add_module(symbolizer, "[anonymous]");
    return symbolizer;
}

static void close_module(struct opened *opened)
{
    if (opened->readable) {
        dwarf_scopes_close(opened->scopes);
        elf_names_free(opened->names);
        module_file_close(&opened->file);
    }
    *opened = (struct opened){0};
}

void symbolizer_free(struct symbolizer *symbolizer)
{
    if (!symbolizer)
        return;
    close_module(&symbolizer->opened);
    for (size_t i = 0; i < symbolizer->modules.count; i++) {
        array_free(&symbolizer->modules.at[i]->requests);
        array_free(&symbolizer->modules.at[i]->answers);
    }
    array_free(&symbolizer->modules);
    pool_free(&symbolizer->pool);
    free(symbolizer);
}

unsigned symbolizer_module(struct symbolizer *symbolizer, const char *path, const uint8_t *build_id,
                           size_t build_id_bytes)
{
    if (!*path)
        return SYMBOLIZER_NO_MODULE;
    for (size_t i = 1; i < symbolizer->modules.count; i++) {
        const struct module *known = symbolizer->modules.at[i];
        if (strcmp(known->path, path) == 0 && known->build_id_bytes == build_id_bytes
            && (build_id_bytes == 0 || memcmp(known->build_id, build_id, build_id_bytes) == 0))
            return (unsigned)i;
    }
    struct module *module = add_module(symbolizer, path);
    if (build_id_bytes > 0) {
        uint8_t *copy = pool_alloc(&symbolizer->pool, build_id_bytes);
        memcpy(copy, build_id, build_id_bytes);
        module->build_id = copy;
        module->build_id_bytes = build_id_bytes;
    }
    return (unsigned)symbolizer->modules.count - 1;
}

/* ---- one address -------------------------------------------------------------------------------- */

static void open_module(struct symbolizer *symbolizer, struct module *module)
{
    struct opened *opened = &symbolizer->opened;
    if (opened->module == module)
        return;
    close_module(opened);
    opened->module = module;
    if (module == symbolizer->modules.at[SYMBOLIZER_NO_MODULE])
        return;
    struct fail why;
    opened->readable = module_file_open(&opened->file, module->path, module->build_id, module->build_id_bytes, &why);
    if (opened->readable) {
        opened->names = elf_names_read(&opened->file);
        opened->scopes = dwarf_scopes_open(&opened->file, &symbolizer->pool);
    } else if (!module->complained && symbolizer->options.complain) {
        struct strbuf sentence = STRBUF_INIT;
        strbuf_printf(&sentence, "%s; its functions are shown as addresses", why.text);
        symbolizer->options.complain(symbolizer->options.context, sentence.text);
        strbuf_free(&sentence);
    }
    module->complained = !opened->readable;
}

/* Demangling is slow, and the same few names come again and again. */
static const char *readable_name(struct symbolizer *symbolizer, const char *linkage_name)
{
    size_t place = ((uintptr_t)linkage_name >> 4) * 0x9e3779b97f4a7c15u >> 56;
    struct demangled *recent = &symbolizer->recent[place];
    if (recent->linkage_name != linkage_name) {
        char *name = demangle(linkage_name);
        recent->linkage_name = linkage_name;
        recent->name = name ? pool_intern(&symbolizer->pool, name) : NULL;
        free(name);
    }
    return recent->name;
}

static void fill_frame(struct symbolizer *symbolizer, const struct dwarf_frame *from, struct source_frame *frame)
{
    const char *readable = from->linkage_name ? readable_name(symbolizer, from->linkage_name) : NULL;
    frame->function = readable ? readable : from->name ? from->name : from->linkage_name;
    frame->linkage_name = from->linkage_name;
    frame->file = from->file;
    frame->line = from->line;
    frame->column = from->column;
}

/* C libraries define `textdomain` as __textdomain and the like; users know the former.  A dot is a compiler's clone. */
static bool more_public(const char *elf_name, const char *dwarf_name)
{
    return strspn(elf_name, "_") < strspn(dwarf_name, "_") && !strchr(elf_name, '.');
}

static void resolve_one(struct symbolizer *symbolizer, struct module *module, struct answer *answer)
{
    const struct opened *opened = &symbolizer->opened;
    struct dwarf_frame found[DWARF_FRAMES_MAX];
    unsigned count = opened->scopes ? dwarf_scopes_find(opened->scopes, answer->address, found) : 0;
    if (count == 0) {
        count = 1;
        found[0] = (struct dwarf_frame){0};
    }
    const char *elf_name = opened->names ? elf_names_find(opened->names, answer->address) : NULL;
    struct dwarf_frame *outer = &found[count - 1];
    if (elf_name)
        elf_name = pool_intern(&symbolizer->pool, elf_name);
    if (!outer->linkage_name) {
        outer->linkage_name = elf_name;
        if (outer->name && elf_name && more_public(elf_name, outer->name))
            outer->name = elf_name;
    }

    struct source_frame *frames = pool_alloc(&symbolizer->pool, count * sizeof *frames);
    for (unsigned i = 0; i < count; i++) {
        fill_frame(symbolizer, &found[i], &frames[i]);
        frames[i].inlined = i + 1 < count;
    }
    answer->symbol = (struct symbol){ .frames = frames, .count = count, .known = frames[count - 1].function != NULL,
                                      .module = module->name };
    for (unsigned i = 0; i < count; i++)
        if (!frames[i].function) {
            char *text = xprintf("%s+0x%" PRIx64, module->name, answer->address);
            frames[i].function = pool_intern(&symbolizer->pool, text);
            free(text);
        }
}

/* ---- many addresses ----------------------------------------------------------------------------- */

static uint64_t address_to_look_up(uint64_t address, bool exact)
{
    return exact || address == 0 ? address : address - 1;
}

/* Place of the first of the first `count` answers, which are sorted, that is not below the address. */
static size_t answer_place(const struct module *module, size_t count, uint64_t address)
{
    size_t low = 0, high = count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (module->answers.at[middle]->address < address)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static const struct answer *known_answer(const struct module *module, size_t count, uint64_t address)
{
    size_t place = answer_place(module, count, address);
    if (place < count && module->answers.at[place]->address == address)
        return module->answers.at[place];
    return NULL;
}

static struct module *module_at(struct symbolizer *symbolizer, unsigned number)
{
    return symbolizer->modules.at[number < symbolizer->modules.count ? number : SYMBOLIZER_NO_MODULE];
}

void symbolizer_request(struct symbolizer *symbolizer, unsigned module, uint64_t address, bool exact)
{
    array_push(&module_at(symbolizer, module)->requests, address_to_look_up(address, exact));
}

static int by_number(const void *a, const void *b)
{
    uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;
    return left < right ? -1 : left > right;
}

static int by_address(const void *a, const void *b)
{
    return by_number(&(*(struct answer *const *)a)->address, &(*(struct answer *const *)b)->address);
}

static struct answer *new_answer(struct symbolizer *symbolizer, struct module *module, uint64_t address)
{
    struct answer *answer = pool_alloc(&symbolizer->pool, sizeof *answer);
    answer->address = address;
    open_module(symbolizer, module);
    resolve_one(symbolizer, module, answer);
    return answer;
}

static void resolve_module(struct symbolizer *symbolizer, struct module *module)
{
    array_sort(&module->requests, by_number);
    size_t known = module->answers.count;   /* those of earlier calls are sorted */
    for (size_t i = 0; i < module->requests.count; i++) {
        uint64_t address = module->requests.at[i];
        if (++symbolizer->done % PROGRESS_STEP == 0 && symbolizer->options.progress)
            symbolizer->options.progress(symbolizer->options.context, symbolizer->done, symbolizer->total);
        if (i > 0 && address == module->requests.at[i - 1])
            continue;
        if (!known_answer(module, known, address))
            array_push(&module->answers, new_answer(symbolizer, module, address));
    }
    array_sort(&module->answers, by_address);
    array_clear(&module->requests);
}

void symbolizer_resolve(struct symbolizer *symbolizer)
{
    symbolizer->done = symbolizer->total = 0;
    for (size_t i = 0; i < symbolizer->modules.count; i++)
        symbolizer->total += symbolizer->modules.at[i]->requests.count;
    for (size_t i = 0; i < symbolizer->modules.count; i++)
        if (symbolizer->modules.at[i]->requests.count > 0)
            resolve_module(symbolizer, symbolizer->modules.at[i]);
    if (symbolizer->total > 0 && symbolizer->options.progress)
        symbolizer->options.progress(symbolizer->options.context, symbolizer->total, symbolizer->total);
    close_module(&symbolizer->opened);
}

const struct symbol *symbolizer_look(struct symbolizer *symbolizer, unsigned number, uint64_t address, bool exact)
{
    struct module *module = module_at(symbolizer, number);
    address = address_to_look_up(address, exact);
    const struct answer *known = known_answer(module, module->answers.count, address);
    if (!known) {
        struct answer *answer = new_answer(symbolizer, module, address);
        size_t place = answer_place(module, module->answers.count, address);
        array_push(&module->answers, answer);
        memmove(&module->answers.at[place + 1], &module->answers.at[place],
                (module->answers.count - 1 - place) * sizeof(struct answer *));
        module->answers.at[place] = answer;
        known = answer;
    }
    return &known->symbol;
}
