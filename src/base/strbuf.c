/* SPDX-License-Identifier: MIT */
#include "base/strbuf.h"

#include "base/xalloc.h"
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

char strbuf_empty[1];

static void reserve(struct strbuf *buffer, size_t extra)
{
    if (extra >= SIZE_MAX / 4 - buffer->length)
        xalloc_exhausted();
    size_t needed = buffer->length + extra + 1;
    if (needed <= buffer->capacity)
        return;
    size_t capacity = buffer->capacity + buffer->capacity / 2 + 32;
    if (capacity < needed)
        capacity = needed;
    buffer->text = xreallocarray(buffer->capacity ? buffer->text : NULL, 1, capacity);
    buffer->capacity = capacity;
}

void strbuf_free(struct strbuf *buffer)
{
    if (buffer->capacity)
        free(buffer->text);
    *buffer = (struct strbuf)STRBUF_INIT;
}

void strbuf_truncate(struct strbuf *buffer, size_t length)
{
    if (length < buffer->length) {
        buffer->length = length;
        buffer->text[length] = 0;
    }
}

void strbuf_clear(struct strbuf *buffer)
{
    strbuf_truncate(buffer, 0);
}

char *strbuf_take(struct strbuf *buffer)
{
    char *text = buffer->capacity ? buffer->text : xstrdup("");
    *buffer = (struct strbuf)STRBUF_INIT;
    return text;
}

void strbuf_put_n(struct strbuf *buffer, const void *bytes, size_t n)
{
    reserve(buffer, n);
    if (n)
        memcpy(buffer->text + buffer->length, bytes, n);
    buffer->length += n;
    buffer->text[buffer->length] = 0;
}

void strbuf_put(struct strbuf *buffer, const char *string)
{
    strbuf_put_n(buffer, string, strlen(string));
}

void strbuf_char(struct strbuf *buffer, char c)
{
    strbuf_put_n(buffer, &c, 1);
}

void strbuf_fill(struct strbuf *buffer, char c, size_t n)
{
    reserve(buffer, n);
    memset(buffer->text + buffer->length, c, n);
    buffer->length += n;
    buffer->text[buffer->length] = 0;
}

void strbuf_vprintf(struct strbuf *buffer, const char *format, va_list arguments)
{
    va_list again;
    va_copy(again, arguments);
    int length = vsnprintf(NULL, 0, format, arguments);
    if (length < 0)
        xalloc_exhausted();
    reserve(buffer, (size_t)length);
    vsnprintf(buffer->text + buffer->length, (size_t)length + 1, format, again);
    buffer->length += (size_t)length;
    va_end(again);
}

void strbuf_printf(struct strbuf *buffer, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    strbuf_vprintf(buffer, format, arguments);
    va_end(arguments);
}
