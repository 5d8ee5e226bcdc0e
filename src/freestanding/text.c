/* SPDX-License-Identifier: MIT */
#include "freestanding/text.h"

#include <string.h>
#include "freestanding/banned.h"

struct text text_over(char *buffer, size_t capacity)
{
    buffer[0] = 0;
    return (struct text){ .at = buffer, .capacity = capacity };
}

void text_put_n(struct text *text, const char *bytes, size_t n)
{
    size_t room = text->capacity - 1 - text->used;
    if (n > room) {
        n = room;
        text->cut = true;
    }
    memcpy(text->at + text->used, bytes, n);
    text->used += n;
    text->at[text->used] = 0;
}

void text_char(struct text *text, char c)
{
    text_put_n(text, &c, 1);
}

void text_put(struct text *text, const char *string)
{
    text_put_n(text, string, text_length(string));
}

static void put_digits(struct text *text, uint64_t value, unsigned base)
{
    char digits[20];
    size_t at = sizeof(digits);
    do {
        digits[--at] = "0123456789abcdef"[value % base];
        value /= base;
    } while (value > 0);
    text_put_n(text, digits + at, sizeof(digits) - at);
}

void text_u64(struct text *text, uint64_t value)
{
    put_digits(text, value, 10);
}

void text_hex(struct text *text, uint64_t value)
{
    put_digits(text, value, 16);
}

size_t text_length(const char *string)
{
    return strlen(string);
}

bool text_equal(const char *a, const char *b)
{
    return strcmp(a, b) == 0;
}

bool text_starts(const char *string, const char *prefix)
{
    while (*prefix && *string == *prefix) {
        string++;
        prefix++;
    }
    return *prefix == 0;
}

static unsigned digit_of(char c)
{
    if (c >= '0' && c <= '9')
        return (unsigned)(c - '0');
    if (c >= 'a' && c <= 'f')
        return (unsigned)(c - 'a') + 10;
    if (c >= 'A' && c <= 'F')
        return (unsigned)(c - 'A') + 10;
    return 16;
}

static bool parse(const char *string, const char **end, unsigned base, uint64_t *value)
{
    const char *at = string;
    uint64_t sum = 0;
    for (unsigned digit; (digit = digit_of(*at)) < base; at++)
        if (__builtin_mul_overflow(sum, (uint64_t)base, &sum) || __builtin_add_overflow(sum, (uint64_t)digit, &sum))
            return false;
    if (end)
        *end = at;
    *value = sum;
    return at != string;
}

static unsigned suffix_shift(char c)
{
    switch (c) {
    case 'K': case 'k': return 10;
    case 'M': case 'm': return 20;
    case 'G': case 'g': return 30;
    default: return 0;
    }
}

bool text_parse_size(const char *string, const char **end, uint64_t *value)
{
    const char *at;
    uint64_t number;
    if (!parse(string, &at, 10, &number))
        return false;
    unsigned shift = suffix_shift(*at);
    if (number > UINT64_MAX >> shift)
        return false;
    if (end)
        *end = shift ? at + 1 : at;
    *value = number << shift;
    return true;
}

bool text_parse_hex(const char *string, const char **end, uint64_t *value)
{
    return parse(string, end, 16, value);
}

static bool field(const char *file, const char *key, unsigned base, uint64_t *value)
{
    for (const char *line = file; *line;) {
        if (text_starts(line, key)) {
            const char *at = line + text_length(key);
            while (*at == ' ' || *at == '\t' || *at == ':')
                at++;
            if (parse(at, NULL, base, value))
                return true;
        }
        while (*line && *line != '\n')
            line++;
        if (*line == '\n')
            line++;
    }
    return false;
}

bool text_field(const char *file, const char *key, uint64_t *value)
{
    return field(file, key, 10, value);
}

bool text_field_hex(const char *file, const char *key, uint64_t *value)
{
    return field(file, key, 16, value);
}
