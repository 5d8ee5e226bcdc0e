/* SPDX-License-Identifier: MIT */
#include "viewer/python.h"

#include "viewer/names.h"
#include <string.h>

/* ---- source files ------------------------------------------------------------------------------- */

static const char *last_of(const char *file, const char *part)
{
    const char *found = NULL;
    for (const char *at = file; (at = strstr(at, part)) != NULL; at++)
        found = at;
    return found ? found + strlen(part) : NULL;
}

/* Of "/usr/lib/python3.11/json/decoder.py": "json/decoder.py". */
static const char *in_library(const char *file)
{
    const char *version = last_of(file, "/lib/python3"), *slash = version ? strchr(version, '/') : NULL;
    return slash ? slash + 1 : NULL;
}

static const char *in_package(const char *file)
{
    const char *site = last_of(file, "/site-packages/");
    return site ? site : last_of(file, "/dist-packages/");
}

const char *python_short_file(const char *file, const char *cwd)
{
    const char *part = in_package(file);
    size_t length = strlen(cwd);

    if (!part)
        part = in_library(file);
    if (part)
        return part;
    if (length > 1 && strncmp(file, cwd, length) == 0 && file[length] == '/' && file[length + 1])
        return file + length + 1;
    const char *slash = strrchr(file, '/');
    if (file[0] != '/' || !slash || !slash[1])
        return file;
    /* Every package has one of these. */
    if (strcmp(slash, "/__init__.py") == 0 || strcmp(slash, "/__main__.py") == 0)
        while (slash > file && slash[-1] != '/')
            slash--;
    return *slash == '/' ? slash + 1 : slash;
}

bool python_own(const char *file)
{
    return !in_package(file) && !in_library(file) && strncmp(file, "<frozen ", 8) != 0
           && strcmp(file, "<__array_function__ internals>") != 0;
}

static bool ends_with(const char *file, const char *end)
{
    size_t length = strlen(file), end_length = strlen(end);
    return length >= end_length && strcmp(file + length - end_length, end) == 0;
}

/* Up to 3.10 without the class's name. */
static bool is_method(const char *function, const char *const *methods)
{
    const char *dot = strrchr(function, '.'), *name = dot ? dot + 1 : function;
    for (; *methods; methods++)
        if (strcmp(name, *methods) == 0)
            return true;
    return false;
}

bool python_plumbing(const char *function, const char *file)
{
    static const char *const threads[] = { "_bootstrap", "_bootstrap_inner", NULL };
    static const char *const loops[] = { "run", "_run", "_run_once", "run_forever", "run_until_complete", NULL };

    if (strncmp(file, "<frozen importlib.", 18) == 0 || strcmp(file, "<frozen runpy>") == 0
        || strcmp(file, "<frozen zipimport>") == 0 || strcmp(file, "<__array_function__ internals>") == 0)
        return true;
    const char *library = in_library(file);
    if (!library || in_package(file))
        return false;
    return strncmp(library, "importlib/", 10) == 0 || strcmp(library, "runpy.py") == 0
           || (strcmp(library, "threading.py") == 0 && is_method(function, threads))
           || (strncmp(library, "asyncio/", 8) == 0 && is_method(function, loops) && !ends_with(library, "tasks.py"));
}

/* "python3.11", "python3.13d", "libpython3.12.so.1.0". */
bool python_module(const char *module)
{
    if (strncmp(module, "lib", 3) == 0)
        module += 3;
    return strncmp(module, "python3", 7) == 0 && (module[7] == 0 || module[7] == '.');
}

/* ---- stacks ------------------------------------------------------------------------------------- */

size_t python_first(const struct names_stack *stack)
{
    size_t any = stack->count;
    for (size_t i = 0; i < stack->count; i++) {
        if (!stack->at[i].python)
            continue;
        if (!names_plumbing(&stack->at[i]))
            return i;
        if (any == stack->count)
            any = i;
    }
    return any;
}

/* A function that its author named, and that is not the interpreter's. */
static bool is_telling(const struct name *name)
{
    return name->known && !python_module(name->module) && !names_plumbing(name) && !names_allocator(name);
}

size_t python_headline(const struct names_stack *stack, size_t first)
{
    for (size_t i = 0; i < first; i++)
        if (!stack->at[i].python && is_telling(&stack->at[i]))
            return i;
    return first;
}

static size_t own_frame(const struct names_stack *stack, size_t from)
{
    while (from < stack->count && !stack->at[from].own)
        from++;
    return from;
}

size_t python_caller(const struct names_stack *stack, size_t headline)
{
    size_t own = own_frame(stack, headline), first = python_first(stack);
    if (own == headline || first == stack->count)
        return stack->count;
    return own < stack->count || first == headline ? own : first;
}

const char *python_extension(const struct names_stack *stack, size_t first)
{
    for (size_t i = first; i > 0 && !stack->at[i - 1].python; i--)
        if (!stack->at[i - 1].known && !python_module(stack->at[i - 1].module) && stack->at[i - 1].module[0] != '[')
            return stack->at[i - 1].module;
    return NULL;
}

size_t python_shown(const struct names_stack *stack, size_t headline, size_t limit, size_t *shown, bool *skipped)
{
    size_t count = 0, own = own_frame(stack, headline);
    bool seen = own == stack->count || own == headline;

    for (size_t i = headline + 1; i < stack->count && count < limit; i++) {
        const struct name *name = &stack->at[i];
        if (name->python ? names_plumbing(name) : !is_telling(name))
            continue;
        seen |= i == own;
        shown[count++] = i;
    }
    if (!seen && count > 0)
        shown[count - 1] = own;
    *skipped = !seen && count > 0;
    return count;
}
