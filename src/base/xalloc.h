/* SPDX-License-Identifier: MIT */
#ifndef HEAPMARK_BASE_XALLOC_H
#define HEAPMARK_BASE_XALLOC_H

/*
 * Memory for the reader.  No call returns NULL: running out of memory ends the program with one line on stderr
 * and exit status 2.  Not for the shim.  Memory is released by free().
 *
 * libiberty has functions of these names and allocates by them; ours, linked first, take their place (which is why
 * xrealloc must be among them).
 */

#include <stdarg.h>
#include <stddef.h>

void *xmalloc(size_t bytes) __attribute__((malloc, returns_nonnull));
void *xcalloc(size_t count, size_t bytes) __attribute__((malloc, returns_nonnull));
void *xrealloc(void *old, size_t bytes) __attribute__((returns_nonnull, warn_unused_result));
void *xreallocarray(void *old, size_t count, size_t bytes) __attribute__((returns_nonnull, warn_unused_result));
char *xstrdup(const char *string) __attribute__((malloc, returns_nonnull));
char *xstrndup(const char *string, size_t length) __attribute__((malloc, returns_nonnull));
char *xprintf(const char *format, ...) __attribute__((format(printf, 1, 2), malloc, returns_nonnull));
char *xvprintf(const char *format, va_list arguments) __attribute__((format(printf, 1, 0), malloc, returns_nonnull));

_Noreturn void xalloc_exhausted(void);

#endif
