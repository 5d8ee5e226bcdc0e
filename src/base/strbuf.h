/* SPDX-License-Identifier: MIT */
#ifndef HEAPMARK_BASE_STRBUF_H
#define HEAPMARK_BASE_STRBUF_H

/*
 * A string that grows.  `text` is never NULL and always ends with a NUL, which `length` does not count; bytes in it
 * may be NUL.  Start with STRBUF_INIT, end with strbuf_free or strbuf_take.
 */

#include <stdarg.h>
#include <stddef.h>

struct strbuf {
    char *text;
    size_t length, capacity;
};

extern char strbuf_empty[1];
#define STRBUF_INIT { strbuf_empty, 0, 0 }

void strbuf_free(struct strbuf *buffer);            /* leaves it empty and usable */
void strbuf_clear(struct strbuf *buffer);           /* empty, memory kept */
void strbuf_truncate(struct strbuf *buffer, size_t length);     /* length <= buffer->length */
char *strbuf_take(struct strbuf *buffer);           /* the text, now the caller's to free(); the buffer is empty */

void strbuf_char(struct strbuf *buffer, char c);
void strbuf_put(struct strbuf *buffer, const char *string);
void strbuf_put_n(struct strbuf *buffer, const void *bytes, size_t n);
void strbuf_fill(struct strbuf *buffer, char c, size_t n);
void strbuf_printf(struct strbuf *buffer, const char *format, ...) __attribute__((format(printf, 2, 3)));
void strbuf_vprintf(struct strbuf *buffer, const char *format, va_list arguments) __attribute__((format(printf, 2, 0)));

#endif
