/* SPDX-License-Identifier: MIT */
#ifndef HEAPMARK_FREESTANDING_TEXT_H
#define HEAPMARK_FREESTANDING_TEXT_H

/* Strings without libc: bounded building and parsing, no locale, no allocation. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct text {
    char *at;
    size_t used;            /* without the NUL */
    size_t capacity;        /* with the NUL */
    bool cut;               /* something did not fit */
};

struct text text_over(char *buffer, size_t capacity);           /* capacity >= 1; starts empty and terminated */
void text_char(struct text *text, char c);
void text_put(struct text *text, const char *string);
void text_put_n(struct text *text, const char *bytes, size_t n);
void text_u64(struct text *text, uint64_t value);
void text_hex(struct text *text, uint64_t value);

size_t text_length(const char *string);
bool text_equal(const char *a, const char *b);
bool text_starts(const char *string, const char *prefix);
/* Decimal with an optional suffix K, M or G (binary); *end is set to the first byte not used.  False: no digits or overflow. */
bool text_parse_size(const char *string, const char **end, uint64_t *value);
bool text_parse_hex(const char *string, const char **end, uint64_t *value);
/* The number behind `key` at the start of a line of a /proc file, in its own unit; false: no such line. */
bool text_field(const char *file, const char *key, uint64_t *value);
bool text_field_hex(const char *file, const char *key, uint64_t *value);

#endif
