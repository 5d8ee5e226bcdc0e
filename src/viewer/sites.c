/* SPDX-License-Identifier: MIT */
#include "viewer/sites.h"

#include "analysis/alike.h"
#include "base/array.h"
#include "base/select.h"
#include "base/strbuf.h"
#include "base/xalloc.h"
#include "viewer/frames.h"
#include "viewer/names.h"
#include "viewer/plain.h"
#include "viewer/python.h"
#include "viewer/report.h"
#include "viewer/style.h"
#include "viewer/units.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NUMBERS_WIDTH 34        /* of the columns in front of a stack */
#define COLUMNS_MIN 24
#define REACH 20                /* frames beyond the shown lines that are looked at: wrappers and plumbing are skipped */
#define NAMED_GROUPS 400        /* the largest, among which rows that read the same are looked for */

/* Sites whose stacks agree as far as they are looked at. */
struct group {
    const struct profile_site *site;    /* the largest of them */
    int64_t value;
    int64_t extra;                      /* the number of the third column */
    double variance;                    /* of value, in sampled mode */
    size_t sites;
    char *text;                         /* the stack as shown; made when its names are known */
};

struct sites_table {
    const struct sites_view *view;
    enum rank_key key;
    size_t limit;
    bool cut;                           /* see sites_table_cut */
    bool alone;                         /* each site is a group */
    int64_t least, total;               /* total: of hidden ones, too */
    unsigned lines;
    size_t frames;                      /* of each stack that are looked at */
    ARRAY_OF(struct group) groups;      /* the largest, which may come among the rows, by value */
    int64_t rest_value;                 /* of the other groups */
    size_t rest_sites;
};

/* ---- a stack ------------------------------------------------------------------------------------ */

static void new_line(struct strbuf *out, unsigned indent)
{
    strbuf_char(out, '\n');
    strbuf_fill(out, ' ', indent);
}

static void put_full_stack(struct strbuf *out, const struct sites_view *view, const struct profile_site *site)
{
    const struct report_options *options = view->options;
    struct names_stack stack = names_stack(view->names, site->frame, NAMES_ALL);
    size_t limit = options->depth ? options->depth : SIZE_MAX;

    for (size_t i = 0; i < stack.count && i < limit; i++) {
        if (i > 0)
            new_line(out, NUMBERS_WIDTH);
        frames_put(out, options, &stack.at[i], SIZE_MAX / 2, false);
    }
    if (stack.count > limit) {
        new_line(out, NUMBERS_WIDTH);
        strbuf_printf(out, "... %zu more", stack.count - limit);
    }
    if (site->cut || site->incomplete) {
        new_line(out, NUMBERS_WIDTH);
        style_put(out, options->color, STYLE_FAINT,
                  site->cut ? "(deeper: the depth limit cut it here)" : "(nobody could unwind further)");
    }
}

/* How many frames from `i` on are as good as one line: an interpreter's way from call to call, or several in a row that
 * nobody can name. */
static size_t dull_run(const struct names_stack *stack, size_t i, size_t end)
{
    const char *module = stack->at[i].module;
    size_t run = i;
    while (run < end && strcmp(stack->at[run].module, module) == 0
           && (!stack->at[run].known || names_plumbing(&stack->at[run])))
        run++;
    return run == i + 1 && !names_plumbing(&stack->at[i]) ? 0 : run - i;
}

/* "[parsers.so]" behind the line of Python whose call allocated in a nameless function, when there is room. */
static void put_extension(struct strbuf *out, const struct report_options *options, const struct names_stack *stack,
                          size_t headline, size_t columns)
{
    const char *module = stack->at[headline].python ? python_extension(stack, headline) : NULL;
    struct strbuf text = STRBUF_INIT;
    if (!module)
        return;
    strbuf_put(&text, "  [");
    frames_put_module(&text, module);
    strbuf_char(&text, ']');
    if (style_last_line_width(out->text) + plain_width(text.text) <= columns)
        style_put(out, options->color, STYLE_FAINT, text.text);
    strbuf_free(&text);
}

/* Lines of Python, and functions of extension modules; what the interpreter did in between is for options->full. */
static void put_python_stack(struct strbuf *out, const struct sites_table *table, const struct names_stack *stack,
                             size_t columns)
{
    const struct report_options *options = table->view->options;
    size_t headline = names_headline(stack), limit = table->lines - 1;
    size_t *shown = xcalloc(limit + 1, sizeof *shown);
    bool skipped;

    frames_put(out, options, &stack->at[headline], columns, true);
    put_extension(out, options, stack, headline, columns);
    size_t count = python_shown(stack, headline, limit, shown, &skipped);
    for (size_t i = 0; i < count; i++) {
        bool gap = skipped && i == count - 1;
        new_line(out, NUMBERS_WIDTH + 2);
        strbuf_put(out, gap ? "... " : "");
        frames_put(out, options, &stack->at[shown[i]], columns - (gap ? 6 : 2), false);
    }
    free(shown);
}

static void put_cut_stack(struct strbuf *out, const struct sites_table *table, const struct names_stack *stack,
                          size_t columns)
{
    const struct report_options *options = table->view->options;
    if (python_first(stack) < stack->count) {
        put_python_stack(out, table, stack, columns);
        return;
    }
    size_t headline = names_headline(stack), end = stack->count, shown = 1;

    while (end > headline + 1 && names_plumbing(&stack->at[end - 1]))
        end--;
    frames_put(out, options, &stack->at[headline], columns, true);
    for (size_t i = headline + 1; i < end && shown < table->lines; shown++) {
        size_t run = dull_run(stack, i, end);
        new_line(out, NUMBERS_WIDTH + 2);
        if (run == 0) {
            frames_put(out, options, &stack->at[i++], columns - 2, false);
            continue;
        }
        style_begin(out, options->color, STYLE_FAINT);
        bool bare = stack->at[i].module[0] != '[';
        strbuf_put(out, bare ? "[" : "");
        frames_put_module(out, stack->at[i].module);
        strbuf_put(out, bare ? "]" : "");
        style_end(out, options->color, STYLE_FAINT);
        i += run;
    }
}

static char *stack_text(const struct sites_table *table, const struct profile_site *site)
{
    const struct sites_view *view = table->view;
    const char *meaning = profile_site_meaning(site);
    size_t width = view->options->width;
    size_t columns = width > NUMBERS_WIDTH + COLUMNS_MIN ? width - NUMBERS_WIDTH : COLUMNS_MIN;
    struct strbuf out = STRBUF_INIT;

    if (meaning) {
        strbuf_put(&out, meaning);
    } else if (view->options->full) {
        put_full_stack(&out, view, site);
    } else {
        struct names_stack stack = names_stack(view->names, site->frame, table->frames);
        if (stack.count > 0)
            put_cut_stack(&out, table, &stack, columns);
    }
    return strbuf_take(&out);
}

/* "jv_parser_new (jv_parse.c:92)", "load report.py:3". */
static void put_place(struct strbuf *out, const struct name *name, size_t columns)
{
    struct strbuf location = STRBUF_INIT;
    frames_put_location(&location, name, false);
    size_t taken = location.length ? plain_width(location.text) + 3 : 0;
    frames_put_function(out, name, false, columns > taken + COLUMNS_MIN ? columns - taken : COLUMNS_MIN);
    if (location.length)
        strbuf_printf(out, name->python ? " %s" : " (%s)", location.text);
    strbuf_free(&location);
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
    struct names_stack stack = names_stack(view->names, site->frame, NAMES_ALL);
    if (stack.count == 0)
        return;
    size_t headline = names_headline(&stack), caller = python_caller(&stack, headline);
    struct strbuf from = STRBUF_INIT;
    if (caller < stack.count) {
        strbuf_put(&from, " <- ");
        put_place(&from, &stack.at[caller], columns / 2);
    }
    size_t taken = plain_width(from.text);
    put_place(out, &stack.at[headline], columns > taken ? columns - taken : 0);
    strbuf_put(out, from.text);
    strbuf_free(&from);
}

bool sites_of_python(const struct sites_view *view, uint32_t id)
{
    struct names_stack stack = id < view->profile->site_count
        ? names_stack(view->names, view->profile->sites[id].frame, NAMES_ALL) : (struct names_stack){ NULL, 0 };
    return stack.count > 0 && stack.at[names_headline(&stack)].python;
}

/* ---- groups ------------------------------------------------------------------------------------- */

struct alike sites_alike(const struct profile *profile, struct names *names, unsigned lines)
{
    bool *own = xcalloc(profile->code_count, sizeof *own);
    for (size_t i = 0; i < profile->code_count; i++)
        own[i] = names_own_code(names, (uint32_t)i);
    struct alike alike = alike_find(profile, (size_t)lines + REACH, own);
    free(own);
    return alike;
}

static void absorb(struct group *into, const struct group *other)
{
    into->value += other->value;
    into->extra += other->extra;
    into->variance += other->variance;
    into->sites += other->sites;
}

static int value_compare(const void *a, const void *b)
{
    const struct group *x = a, *y = b;
    if (x->value != y->value)
        return x->value > y->value ? -1 : 1;
    return x->site->id < y->site->id ? -1 : x->site->id > y->site->id;
}

/* Of the number that the table is about; where it has none, 0. */
static double variance_of(const struct profile_site *site, enum rank_key key)
{
    switch (key) {
    case RANK_LIVE: return site->variance.live_bytes;
    case RANK_PEAK: return site->variance.peak_bytes;
    case RANK_TOTAL: return site->variance.allocated_bytes;
    case RANK_COUNT: return site->variance.allocations;
    case RANK_PINNED: return site->pin_share_variance;
    default: return 0;
    }
}

static int64_t extra_of(const struct profile_site *site, enum rank_key key)
{
    switch (key) {
    case RANK_LIVE: return site->live_blocks;
    case RANK_PEAK: return site->peak_blocks;
    case RANK_HELD: return (int64_t)site->held_page_bytes;
    case RANK_PINNED: return (int64_t)site->pin_sole_bytes;
    case RANK_TOTAL:
    case RANK_TEMPORARY: return (int64_t)site->allocations;
    case RANK_COUNT: return (int64_t)site->allocated_bytes;
    default: return site->live_bytes;
    }
}

static void add_site(struct sites_table *table, const struct profile_site *site, int64_t value, uint32_t *place)
{
    struct group alone = { .site = site, .value = value, .extra = extra_of(site, table->key), .sites = 1,
                           .variance = variance_of(site, table->key) };
    if (place && *place != 0) {
        struct group *group = &table->groups.at[*place - 1];
        if (value > rank_value(group->site, table->key))
            group->site = site;         /* it stands for the others */
        absorb(group, &alone);
        return;
    }
    array_push(&table->groups, alone);
    if (place)
        *place = (uint32_t)table->groups.count;
}

static void make_groups(struct sites_table *table, enum profile_kind kind)
{
    const struct profile *profile = table->view->profile;
    uint32_t *place = table->alone ? NULL : xcalloc(table->view->alike->count, sizeof *place);   /* by set: 1 + that of its group */

    for (size_t i = 0; i < profile->site_count; i++) {
        const struct profile_site *site = &profile->sites[i];
        int64_t value = rank_value(site, table->key);
        if (value <= 0 || (kind != PROFILE_KINDS && site->kind != kind))
            continue;
        table->total += value;
        if (!table->view->hidden || !table->view->hidden[i])
            add_site(table, site, value, place ? &place[table->view->alike->set[i]] : NULL);
    }
    free(place);
}

/* Only groups that can come among the rows need an order. */
static void keep_largest(struct sites_table *table, size_t count)
{
    select_first(table->groups.at, table->groups.count, sizeof *table->groups.at, count, value_compare);
    for (size_t i = count; i < table->groups.count; i++) {
        table->rest_value += table->groups.at[i].value;
        table->rest_sites += table->groups.at[i].sites;
    }
    if (count < table->groups.count)
        table->groups.count = count;
}

/* Stacks that differ in address but read the same become one row. */
static void merge_alike(struct sites_table *table)
{
    size_t named = table->groups.count < NAMED_GROUPS ? table->groups.count : NAMED_GROUPS, kept = 0;

    for (size_t i = 0; i < table->groups.count; i++) {
        struct group *group = &table->groups.at[i];
        size_t same = kept;
        if (i < named && !group->text) {
            group->text = stack_text(table, group->site);
            for (same = 0; same < kept && strcmp(table->groups.at[same].text, group->text) != 0; same++)
                ;
        }
        if (same < kept) {
            absorb(&table->groups.at[same], group);
            free(group->text);
        } else {
            table->groups.at[kept++] = *group;
        }
    }
    table->groups.count = kept;
    array_sort(&table->groups, value_compare);
}

struct sites_table *sites_table_new(const struct sites_view *view, enum rank_key key, enum profile_kind kind,
                                    size_t limit, unsigned lines)
{
    struct sites_table *table = xcalloc(1, sizeof *table);
    table->view = view;
    table->key = key;
    table->limit = limit;
    table->alone = view->options->full || key == RANK_OWN_PEAK;
    table->lines = lines;
    table->frames = view->options->full ? NAMES_ALL : (size_t)lines + REACH;
    make_groups(table, kind);
    keep_largest(table, table->alone ? limit : limit < SIZE_MAX - NAMED_GROUPS ? limit + NAMED_GROUPS : limit);
    for (size_t i = 0; i < table->groups.count; i++)
        names_want(view->names, table->groups.at[i].site->frame, table->frames);
    return table;
}

void sites_table_cut(struct sites_table *table, int64_t least)
{
    table->cut = true;
    table->least = least;
}

static bool is_noise(const struct sites_table *table, int64_t value)
{
    return value < table->total / 200 && value < table->groups.at[0].value / 20;
}

void sites_table_free(struct sites_table *table)
{
    if (!table)
        return;
    for (size_t i = 0; i < table->groups.count; i++)
        free(table->groups.at[i].text);
    array_free(&table->groups);
    free(table);
}

/* ---- rows --------------------------------------------------------------------------------------- */

static const char *const heads[RANK_KEYS][3] = {
    [RANK_LIVE] = { "LIVE", "SHARE", "BLOCKS" },
    [RANK_PEAK] = { "AT PEAK", "SHARE", "BLOCKS" },
    [RANK_OWN_PEAK] = { "OWN PEAK", "WHEN", "LIVE NOW" },
    [RANK_HELD] = { "HELD", "SHARE", "FREE PAGES" },
    [RANK_TOTAL] = { "TOTAL", "SHARE", "CALLS" },
    [RANK_COUNT] = { "CALLS", "SHARE", "BYTES" },
    [RANK_TEMPORARY] = { "TEMPORARY", "SHARE", "OF CALLS" },
    [RANK_MAPPED] = { "RESIDENT", "SHARE", "MAPPED" },
    [RANK_PINNED] = { "PINNED", "SHARE", "ALONE" },
};

/* A table of estimates has their standard errors in its third column. */
static bool shows_errors(const struct sites_table *table)
{
    if (table->key == RANK_PINNED)
        return table->view->profile->pins_estimated;
    return table->view->profile->process.has_errors
        && (table->key == RANK_LIVE || table->key == RANK_PEAK || table->key == RANK_TOTAL || table->key == RANK_COUNT);
}

static bool counts_blocks(enum rank_key key)
{
    return key == RANK_COUNT || key == RANK_TEMPORARY;
}

static void put_numbers(struct strbuf *out, const struct sites_table *table, const struct group *group)
{
    char value[UNITS_BYTES], part[UNITS_BYTES], extra[UNITS_BYTES];

    if (counts_blocks(table->key))
        units_count(value, group->value);
    else
        units_size(value, group->value);
    units_percent(part, group->value, table->total);
    if (table->key == RANK_OWN_PEAK)
        units_elapsed(part, group->site->own_peak_ns);
    if (table->key == RANK_LIVE || table->key == RANK_PEAK || table->key == RANK_TOTAL || table->key == RANK_TEMPORARY)
        units_count(extra, group->extra);
    else
        units_size(extra, group->extra);
    if (shows_errors(table))
        units_error(extra, profile_error(group->variance, (double)group->value), !counts_blocks(table->key));
    strbuf_printf(out, "%11s %8s %11s  ", value, part, extra);
}

static void put_row(struct strbuf *out, const struct sites_table *table, const struct group *group)
{
    const struct report_options *options = table->view->options;
    char count[UNITS_BYTES];
    put_numbers(out, table, group);
    strbuf_put(out, group->text);
    if (group->sites > 1) {
        units_counted(count, (int64_t)group->sites, "stack");
        if (style_last_line_width(out->text) + strlen(count) + 4 > options->width)
            new_line(out, NUMBERS_WIDTH);
        strbuf_put(out, "  [");
        style_put(out, options->color, STYLE_FAINT, count);
        strbuf_char(out, ']');
    }
    strbuf_char(out, '\n');
}

static void put_rest(struct strbuf *out, const struct sites_table *table, size_t from)
{
    char value[UNITS_BYTES] = "", part[UNITS_BYTES] = "", count[UNITS_BYTES];
    int64_t rest = table->rest_value;
    size_t sites = table->rest_sites;

    for (size_t i = from; i < table->groups.count; i++) {
        rest += table->groups.at[i].value;
        sites += table->groups.at[i].sites;
    }
    if (sites == 0)
        return;
    /* Peaks of different moments do not add up. */
    if (table->key != RANK_OWN_PEAK) {
        units_percent(part, rest, table->total);
        if (counts_blocks(table->key))
            units_count(value, rest);
        else
            units_size(value, rest);
    }
    style_begin(out, table->view->options->color, STYLE_FAINT);
    strbuf_printf(out, "%11s %8s %11s  %s", value, part, "", units_counted(count, (int64_t)sites, "more stack"));
    style_end(out, table->view->options->color, STYLE_FAINT);
    strbuf_char(out, '\n');
}

void sites_table_put(struct strbuf *out, struct sites_table *table, const char *title)
{
    bool color = table->view->options->color;
    size_t rows;

    if (table->groups.count == 0 || (table->cut && table->total < table->least))
        return;
    if (!table->alone)
        merge_alike(table);
    strbuf_char(out, '\n');
    style_put(out, color, STYLE_TITLE, title);
    strbuf_char(out, '\n');
    style_begin(out, color, STYLE_FAINT);
    strbuf_printf(out, "%11s %8s %11s  %s", heads[table->key][0], heads[table->key][1],
                  shows_errors(table) ? "STD ERROR" : heads[table->key][2], "WHERE");
    style_end(out, color, STYLE_FAINT);
    strbuf_char(out, '\n');
    for (rows = 0; rows < table->groups.count && rows < table->limit; rows++) {
        struct group *group = &table->groups.at[rows];
        if (table->cut && is_noise(table, group->value))
            break;
        if (!group->text)
            group->text = stack_text(table, group->site);
        put_row(out, table, group);
    }
    put_rest(out, table, rows);
}
