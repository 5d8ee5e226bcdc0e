/* SPDX-License-Identifier: MIT */
#ifndef HEAPMARK_VIEWER_PYTHON_H
#define HEAPMARK_VIEWER_PYTHON_H

/* What is worth showing of stacks that go through a Python interpreter. */

#include <stdbool.h>
#include <stddef.h>

struct names_stack;

/* The end of `file` that tells a reader where to look: "pandas/io/parsers/readers.py", "json/decoder.py", "app/models.py"
 * of a program that ran above app, "report.py". */
const char *python_short_file(const char *file, const char *cwd);
/* Not of the interpreter's library, and not of an installed package. */
bool python_own(const char *file);
/* The import system, the start of a thread, the loop of an event loop. */
bool python_plumbing(const char *function, const char *file);
/* The interpreter itself, by the short name of its program or library. */
bool python_module(const char *module);

/* The leafmost Python frame that says something; stack->count: there is none. */
size_t python_first(const struct names_stack *stack);
/* As names_headline, of a stack with the Python frame `first`: the function of an extension module that was called from
 * there, when it has a name. */
size_t python_headline(const struct names_stack *stack, size_t first);
/* Who asked the entry `headline`, in the program's own words: the nearest frame of its source, or without one the nearest
 * line of Python; stack->count: nobody, or the headline says it already. */
size_t python_caller(const struct names_stack *stack, size_t headline);
/* The module of the native code that allocated for the Python frame `first` and has no name; NULL: the interpreter. */
const char *python_extension(const struct names_stack *stack, size_t first);
/* Entries after `headline` that say something, at most `limit`; the last one is of the program's own source, if there is
 * such a frame and none was shown, and *skipped tells that others are left out before it. */
size_t python_shown(const struct names_stack *stack, size_t headline, size_t limit, size_t *shown, bool *skipped);

#endif
