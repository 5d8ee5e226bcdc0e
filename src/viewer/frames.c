/* SPDX-License-Identifier: MIT */
#include "viewer/frames.h"

#include "base/strbuf.h"
#include "viewer/names.h"
#include "viewer/plain.h"
#include "viewer/report.h"
#include "viewer/style.h"
#include <string.h>

#define NAME_COLUMNS_MIN 24

/* "parsers.cpython-311-x86_64-linux-gnu.so" -> "parsers.so". */
void frames_put_module(struct strbuf *out, const char *module)
{
    const char *tag = strstr(module, ".cpython-"), *end = tag ? strstr(tag, ".so") : NULL;
    struct strbuf text = STRBUF_INIT;
    strbuf_put_n(&text, module, tag && end ? (size_t)(tag - module) : strlen(module));
    strbuf_put(&text, end ? end : "");
    plain_put(out, text.text);
    strbuf_free(&text);
}

void frames_put_location(struct strbuf *out, const struct name *name, bool full)
{
    struct strbuf raw = STRBUF_INIT;
    const char *file = name->file && name->short_file && !full ? name->short_file : name->file;
    if (file && name->line)
        strbuf_printf(&raw, "%s:%u", file, name->line);
    else if (file)
        strbuf_put(&raw, file);
    if (name->known && full && !name->python)
        strbuf_printf(&raw, "%s%s", raw.length ? "  " : "", name->module);
    plain_put(out, raw.text);
    if (name->known && !full && !name->file)
        frames_put_module(out, name->module);
    strbuf_free(&raw);
}

/* "std::vector<int, A<int>>::push_back(int&&)" -> "std::vector<>::push_back(int&&)"; what does not nest as it should
 * is left alone. */
static void drop_template_arguments(struct strbuf *out, const char *function)
{
    size_t start = out->length;
    int depth = 0;

    for (const char *c = function; *c; c++) {
        bool operator_name = c - function >= 8 && strncmp(c - 8, "operator", 8) == 0;
        bool arrow = c > function && c[-1] == '-';
        if (*c == '>' && depth > 0 && !arrow)
            depth--;
        if (depth == 0)
            strbuf_char(out, *c);
        if (*c == '<' && c > function && !operator_name)
            depth++;
    }
    if (depth != 0) {
        strbuf_truncate(out, start);
        strbuf_put(out, function);
    }
}

/* "f(int, char) const" -> "f". */
static void drop_parameters(struct strbuf *function)
{
    char *open = strrchr(function->text, '(');
    if (open && open != function->text && strncmp(open, "(anonymous", 10) != 0)
        strbuf_truncate(function, (size_t)(open - function->text));
}

void frames_put_function(struct strbuf *out, const struct name *name, bool full, size_t columns)
{
    struct strbuf text = STRBUF_INIT;
    if (full) {
        plain_put(out, name->function);
        return;
    }
    if (name->known)
        strbuf_put(&text, name->function);
    else
        frames_put_module(&text, name->function);
    /* "outer.<locals>.inner" has none. */
    if (plain_width(text.text) > columns && !name->python) {
        strbuf_clear(&text);
        drop_template_arguments(&text, name->function);
    }
    if (plain_width(text.text) > columns && !name->python)
        drop_parameters(&text);
    plain_cut_middle(out, text.text, columns);
    strbuf_free(&text);
}

/* What a function's name may take from its location: all of it when it is short. */
static size_t columns_for_function(const struct name *name, size_t columns)
{
    size_t width = plain_width(name->function);
    size_t most = columns / 2 > NAME_COLUMNS_MIN ? columns / 2 : NAME_COLUMNS_MIN;
    return width < most ? width : most;
}

/* "pandas/core/algorithms.py:578" -> "core/algorithms.py:578": the end of a path says most. */
static void fit_location(struct strbuf *location, size_t columns)
{
    const char *rest = location->text;
    while (plain_width(rest) > columns && strchr(rest, '/'))
        rest = strchr(rest, '/') + 1;
    struct strbuf fitted = STRBUF_INIT;
    if (plain_width(rest) > columns)
        plain_cut_start(&fitted, rest, columns);
    else
        strbuf_put(&fitted, rest);
    strbuf_free(location);
    *location = fitted;
}

void frames_put(struct strbuf *out, const struct report_options *options, const struct name *name, size_t columns,
                bool strong)
{
    struct strbuf location = STRBUF_INIT;
    frames_put_location(&location, name, options->full);
    if (!options->full)
        fit_location(&location, columns - columns_for_function(name, columns) - 2);
    size_t location_columns = location.length ? plain_width(location.text) + 2 : 0;
    size_t left = columns > location_columns + NAME_COLUMNS_MIN ? columns - location_columns : NAME_COLUMNS_MIN;

    style_begin(out, options->color, strong ? STYLE_STRONG : STYLE_PLAIN);
    frames_put_function(out, name, options->full, left);
    style_end(out, options->color, strong ? STYLE_STRONG : STYLE_PLAIN);
    if (name->inlined && options->full)
        style_put(out, options->color, STYLE_FAINT, " (inlined)");
    if (name->interrupted)
        style_put(out, options->color, STYLE_FAINT, " (signal)");
    if (location.length) {
        strbuf_put(out, "  ");
        style_put(out, options->color, STYLE_FAINT, location.text);
    }
    strbuf_free(&location);
}
