/* SPDX-License-Identifier: MIT */
#include "base/xalloc.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

_Noreturn void xalloc_exhausted(void)
{
    static const char text[] = "heapmark: out of memory\n";
    if (write(STDERR_FILENO, text, sizeof text - 1) < 0)
        _exit(2);
    exit(2);
}

void *xreallocarray(void *old, size_t count, size_t bytes)
{
    if (bytes && count > SIZE_MAX / bytes)
        xalloc_exhausted();
    size_t total = count * bytes;
    void *fresh = realloc(old, total ? total : 1);
    if (!fresh)
        xalloc_exhausted();
    return fresh;
}

void *xrealloc(void *old, size_t bytes)
{
    return xreallocarray(old, 1, bytes);
}

void *xmalloc(size_t bytes)
{
    return xrealloc(NULL, bytes);
}

void *xcalloc(size_t count, size_t bytes)
{
    void *fresh = calloc(count ? count : 1, bytes ? bytes : 1);
    if (!fresh)
        xalloc_exhausted();
    return fresh;
}

char *xstrndup(const char *string, size_t length)
{
    size_t used = strnlen(string, length);
    char *copy = xmalloc(used + 1);
    memcpy(copy, string, used);
    copy[used] = 0;
    return copy;
}

char *xstrdup(const char *string)
{
    return xstrndup(string, strlen(string));
}

char *xvprintf(const char *format, va_list arguments)
{
    char *text;
    if (vasprintf(&text, format, arguments) < 0)
        xalloc_exhausted();
    return text;
}

char *xprintf(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    char *text = xvprintf(format, arguments);
    va_end(arguments);
    return text;
}
