/* SPDX-License-Identifier: MIT */
#include "viewer/sites.h"

#include "base/strbuf.h"
#include "viewer/names.h"
#include "viewer/plain.h"
#include "viewer/report.h"
#include "viewer/style.h"
#include "viewer/units.h"
#include <stdio.h>
#include <string.h>

#define DEPTH_DEFAULT 4
#define NUMBERS_WIDTH 34    /* of the columns in front of a stack */
#define NAME_COLUMNS_MIN 24

/* ---- one frame ---------------------------------------------------------------------------------- */

static const char *last_part(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash && slash[1] ? slash + 1 : path;
}

/* "jv_parse.c:92", or the module when the line is unknown; "" when the function's text says it already. */
static void put_location(struct strbuf *out, const struct name *name, bool full)
{
    struct strbuf raw = STRBUF_INIT;
    if (name->file && name->line)
        strbuf_printf(&raw, "%s:%u", full ? name->file : last_part(name->file), name->line);
    else if (name->file)
        strbuf_put(&raw, full ? name->file : last_part(name->file));
    if (name->known && (full || !name->file))
        strbuf_printf(&raw, "%s%s", raw.length ? "  " : "", name->module);
    plain_put(out, raw.text);
    strbuf_free(&raw);
}

/* Arguments of C++ functions are long and seldom told apart by: "f(int, char)" becomes "f()". */
static void put_function(struct strbuf *out, const struct name *name, bool full, size_t columns)
{
    const char *function = name->function;
    size_t length = strlen(function);
    struct strbuf shorter = STRBUF_INIT;
    int depth = 0;

    if (full) {
        plain_put(out, function);
        return;
    }
    for (size_t i = 0; i < length; i++) {
        char c = function[i];
        if (c == '>' && (i == 0 || function[i - 1] != '-') && depth > 0)
            depth--;
        if (depth == 0)
            strbuf_char(&shorter, c);
        if (c == '<' && (i < 8 || strncmp(function + i - 8, "operator", 8) != 0) && i > 0)
            depth++;
    }
    /* What did not nest as we thought is left alone. */
    const char *text = depth == 0 && plain_width(function) > columns ? shorter.text : function;
    if (plain_width(text) > columns && strchr(text, '(') && text[strlen(text) - 1] == ')') {
        char *open = strrchr(shorter.text, '(');
        if (text == shorter.text && open && open != shorter.text) {
            strbuf_truncate(&shorter, (size_t)(open - shorter.text));
            text = shorter.text;
        }
    }
    plain_cut_middle(out, text, columns);
    strbuf_free(&shorter);
}

static void put_frame(struct strbuf *out, const struct sites_view *view, const struct name *name, size_t columns,
                      enum style_role role)
{
    const struct report_options *options = view->options;
    struct strbuf location = STRBUF_INIT;
    put_location(&location, name, options->full);
    size_t location_columns = location.length ? plain_width(location.text) + 2 : 0;
    size_t left = columns > location_columns + NAME_COLUMNS_MIN ? columns - location_columns : NAME_COLUMNS_MIN;

    style_begin(out, options->color, role);
    put_function(out, name, options->full, left);
    style_end(out, options->color, role);
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

/* ---- a stack ------------------------------------------------------------------------------------ */

static void new_line(struct strbuf *out, unsigned indent)
{
    strbuf_char(out, '\n');
    strbuf_fill(out, ' ', indent);
}

static void put_full_stack(struct strbuf *out, const struct sites_view *view, const struct names_stack *stack,
                           size_t limit, unsigned indent)
{
    for (size_t i = 0; i < stack->count && i < limit; i++) {
        if (i > 0)
            new_line(out, indent);
        put_frame(out, view, &stack->at[i], SIZE_MAX / 2, STYLE_PLAIN);
    }
    if (stack->count > limit) {
        new_line(out, indent);
        strbuf_printf(out, "... %zu more", stack->count - limit);
    }
}

/* The headline, then callers; runs of plumbing become one line, and so does what is left out. */
static void put_cut_stack(struct strbuf *out, const struct sites_view *view, const struct names_stack *stack,
                          size_t lines, unsigned indent, unsigned columns)
{
    size_t headline = names_headline(stack), end = stack->count, shown = 1;
    bool color = view->options->color;
    char text[64];

    while (end > headline + 1 && names_plumbing(&stack->at[end - 1]))
        end--;
    put_frame(out, view, &stack->at[headline], columns, STYLE_STRONG);
    for (size_t i = headline + 1; i < end; ) {
        size_t run = i;
        while (run < end && names_plumbing(&stack->at[run]))
            run++;
        if (shown == lines) {
            snprintf(text, sizeof text, "  ... %zu more", end - i);
            style_put(out, color, STYLE_FAINT, text);
            return;
        }
        shown++;
        new_line(out, indent + 2);
        if (run > i + 1) {
            snprintf(text, sizeof text, "[%zu frames of ", run - i);
            style_begin(out, color, STYLE_FAINT);
            strbuf_put(out, text);
            plain_cut_middle(out, stack->at[i].module, 40);
            strbuf_char(out, ']');
            style_end(out, color, STYLE_FAINT);
            i = run;
            continue;
        }
        put_frame(out, view, &stack->at[i], columns - 2, STYLE_PLAIN);
        i++;
    }
}

void sites_stack(struct strbuf *out, const struct sites_view *view, const struct profile_site *site, unsigned indent,
                 unsigned columns)
{
    const struct report_options *options = view->options;
    const char *meaning = profile_site_meaning(site);
    if (meaning) {
        strbuf_put(out, meaning);
        strbuf_char(out, '\n');
        return;
    }
    struct names_stack stack = names_stack(view->names, site->frame);
    if (options->full)
        put_full_stack(out, view, &stack, options->depth ? options->depth : SIZE_MAX, indent);
    else if (stack.count > 0)
        put_cut_stack(out, view, &stack, options->depth ? options->depth : DEPTH_DEFAULT, indent, columns);
    if (options->full && (site->cut || site->incomplete)) {
        new_line(out, indent);
        style_put(out, options->color, STYLE_FAINT,
                  site->cut ? "(deeper: the depth limit cut it here)" : "(nobody could unwind further)");
    }
    strbuf_char(out, '\n');
}

void sites_where(struct strbuf *out, const struct sites_view *view, uint32_t id, size_t columns)
{
    if (id >= view->profile->site_count)
        return;
    const struct profile_site *site = &view->profile->sites[id];
    const char *meaning = profile_site_meaning(site);
    if (meaning) {
        strbuf_put(out, meaning);
        return;
    }
    struct names_stack stack = names_stack(view->names, site->frame);
    if (stack.count == 0)
        return;
    const struct name *name = &stack.at[names_headline(&stack)];
    struct strbuf location = STRBUF_INIT;
    put_location(&location, name, false);
    size_t taken = location.length ? plain_width(location.text) + 3 : 0;
    put_function(out, name, false, columns > taken + NAME_COLUMNS_MIN ? columns - taken : NAME_COLUMNS_MIN);
    if (location.length)
        strbuf_printf(out, " (%s)", location.text);
    strbuf_free(&location);
}

/* ---- a table ------------------------------------------------------------------------------------ */

struct column_text {
    char value[UNITS_BYTES], part[UNITS_BYTES], extra[UNITS_BYTES];
};

static const char *const heads[RANK_KEYS][3] = {
    [RANK_LIVE] = { "LIVE", "SHARE", "BLOCKS" },
    [RANK_PEAK] = { "AT PEAK", "SHARE", "BLOCKS" },
    [RANK_OWN_PEAK] = { "OWN PEAK", "WHEN", "LIVE NOW" },
    [RANK_HELD] = { "HELD", "SHARE", "FREE PAGES" },
    [RANK_TOTAL] = { "TOTAL", "SHARE", "CALLS" },
    [RANK_COUNT] = { "CALLS", "SHARE", "BYTES" },
    [RANK_TEMPORARY] = { "TEMPORARY", "SHARE", "OF CALLS" },
    [RANK_MAPPED] = { "RESIDENT", "SHARE", "MAPPED" },
    [RANK_PINNED] = { "PINNED", "SHARE", "LIVE" },
};

static void fill_columns(struct column_text *text, const struct profile_site *site, enum rank_key key, int64_t total)
{
    int64_t value = rank_value(site, key);
    bool counts = key == RANK_COUNT || key == RANK_TEMPORARY;

    if (counts)
        units_count(text->value, value);
    else
        units_size(text->value, value);
    units_percent(text->part, value, total);
    switch (key) {
    case RANK_LIVE: units_count(text->extra, site->live_blocks); break;
    case RANK_PEAK: units_count(text->extra, site->peak_blocks); break;
    case RANK_OWN_PEAK:
        units_duration(text->part, site->own_peak_ns);
        units_size(text->extra, site->live_bytes);
        break;
    case RANK_HELD: units_size(text->extra, (int64_t)site->held_page_bytes); break;
    case RANK_TOTAL: units_count(text->extra, (int64_t)site->allocations); break;
    case RANK_COUNT: units_size(text->extra, (int64_t)site->allocated_bytes); break;
    case RANK_TEMPORARY: units_count(text->extra, (int64_t)site->allocations); break;
    case RANK_MAPPED:
    case RANK_PINNED:
    default: units_size(text->extra, site->live_bytes); break;
    }
}

static bool is_hidden(const struct sites_view *view, const struct profile_site *site)
{
    return view->hidden && view->hidden[site->id];
}

void sites_want(const struct sites_view *view, enum rank_key key, enum profile_kind kind, size_t limit)
{
    struct rank rank = rank_sites(view->profile, key, kind);
    for (size_t i = 0, shown = 0; i < rank.count && shown < limit; i++) {
        if (is_hidden(view, rank.sites[i]))
            continue;
        names_want(view->names, rank.sites[i]->frame);
        shown++;
    }
    rank_free(&rank);
}

static void put_rest(struct strbuf *out, const struct sites_view *view, const struct rank *rank, enum rank_key key,
                     size_t from)
{
    int64_t rest = 0;
    size_t sites = 0;
    char value[UNITS_BYTES], count[UNITS_BYTES], part[UNITS_BYTES];

    for (size_t i = from; i < rank->count; i++) {
        if (is_hidden(view, rank->sites[i]))
            continue;
        rest += rank_value(rank->sites[i], key);
        sites++;
    }
    if (sites == 0)
        return;
    if (key == RANK_COUNT || key == RANK_TEMPORARY)
        units_count(value, rest);
    else
        units_size(value, rest);
    style_begin(out, view->options->color, STYLE_FAINT);
    strbuf_printf(out, "%11s %8s %11s  ", value, key == RANK_OWN_PEAK ? "" : units_percent(part, rest, rank->total), "");
    strbuf_printf(out, "%s other site%s", units_count(count, (int64_t)sites), sites == 1 ? "" : "s");
    style_end(out, view->options->color, STYLE_FAINT);
    strbuf_char(out, '\n');
}

void sites_table(struct strbuf *out, const struct sites_view *view, const char *title, enum rank_key key,
                 enum profile_kind kind, size_t limit)
{
    const struct report_options *options = view->options;
    struct rank rank = rank_sites(view->profile, key, kind);
    struct column_text text;
    unsigned columns = options->width > NUMBERS_WIDTH + NAME_COLUMNS_MIN ? options->width - NUMBERS_WIDTH
                                                                         : NAME_COLUMNS_MIN;
    size_t next = 0;

    for (size_t shown = 0; next < rank.count && shown < limit; next++) {
        const struct profile_site *site = rank.sites[next];
        if (is_hidden(view, site))
            continue;
        if (shown++ == 0) {
            strbuf_char(out, '\n');
            style_put(out, options->color, STYLE_TITLE, title);
            strbuf_char(out, '\n');
            style_begin(out, options->color, STYLE_FAINT);
            strbuf_printf(out, "%11s %8s %11s  %s", heads[key][0], heads[key][1], heads[key][2], "WHERE");
            style_end(out, options->color, STYLE_FAINT);
            strbuf_char(out, '\n');
        }
        fill_columns(&text, site, key, rank.total);
        strbuf_printf(out, "%11s %8s %11s  ", text.value, text.part, text.extra);
        sites_stack(out, view, site, NUMBERS_WIDTH, columns);
    }
    put_rest(out, view, &rank, key, next);
    rank_free(&rank);
}
