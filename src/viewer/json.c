/* SPDX-License-Identifier: MIT */
#include "viewer/json.h"

#include <inttypes.h>
#include <string.h>

struct json json_start(FILE *out)
{
    return (struct json){ .out = out, .first = true };
}

void json_end(struct json *json)
{
    fputc('\n', json->out);
}

/* Length of the valid UTF-8 sequence at `s`, 0 if there is none.  Refuses overlong forms and surrogates. */
static unsigned utf8_length(const unsigned char *s)
{
    unsigned length = s[0] < 0x80 ? 1 : s[0] >= 0xc2 && s[0] < 0xe0 ? 2 : s[0] >= 0xe0 && s[0] < 0xf0 ? 3
                      : s[0] >= 0xf0 && s[0] < 0xf5 ? 4 : 0;
    for (unsigned i = 1; i < length; i++)
        if ((s[i] & 0xc0) != 0x80)
            return 0;
    if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] >= 0xa0) || (s[0] == 0xf0 && s[1] < 0x90)
        || (s[0] == 0xf4 && s[1] >= 0x90))
        return 0;
    return length;
}

/* A document can have tens of millions of numbers: no printf for them. */
static void put_number(FILE *out, uint64_t value, unsigned digits_least)
{
    char digits[20];
    unsigned first = sizeof digits;
    while (value > 0 || sizeof digits - first < digits_least) {
        digits[--first] = (char)('0' + value % 10);
        value /= 10;
    }
    fwrite_unlocked(digits + first, 1, sizeof digits - first, out);
}

static void put_text(FILE *out, const char *text)
{
    fwrite_unlocked(text, 1, strlen(text), out);
}

/* Length of what needs no escape. */
static size_t plain_length(const unsigned char *s)
{
    const unsigned char *start = s;
    while (*s >= 0x20 && *s < 0x7f && *s != '"' && *s != '\\')
        s++;
    return (size_t)(s - start);
}

static void put_string(FILE *out, const char *value)
{
    putc_unlocked('"', out);
    for (const unsigned char *s = (const unsigned char *)value; *s; ) {
        size_t plain = plain_length(s);
        if (plain > 0) {
            fwrite_unlocked(s, 1, plain, out);
            s += plain;
            continue;
        }
        unsigned length = utf8_length(s);
        if (length == 0) {
            put_text(out, "\\ufffd");
            s++;
        } else if (*s == '"' || *s == '\\') {
            fprintf(out, "\\%c", *s++);
        } else if (*s == '\n') {
            put_text(out, "\\n");
            s++;
        } else if (*s == '\t') {
            put_text(out, "\\t");
            s++;
        } else if (*s < 0x20 || *s == 0x7f) {
            fprintf(out, "\\u%04x", *s++);
        } else {
            fwrite_unlocked(s, 1, length, out);
            s += length;
        }
    }
    putc_unlocked('"', out);
}

static void new_line(struct json *json)
{
    putc_unlocked('\n', json->out);
    for (unsigned i = 0; i < json->depth; i++)
        put_text(json->out, "  ");
}

static void begin(struct json *json, const char *key)
{
    if (!json->first)
        putc_unlocked(',', json->out);
    if (json->depth > 0 && json->line_depth == 0)
        new_line(json);
    else if (!json->first)
        putc_unlocked(' ', json->out);
    json->first = false;
    if (key) {
        put_string(json->out, key);
        put_text(json->out, ": ");
    }
}

void json_open(struct json *json, const char *key, char bracket)
{
    begin(json, key);
    putc_unlocked(bracket, json->out);
    json->depth++;
    json->first = true;
}

void json_open_line(struct json *json, const char *key, char bracket)
{
    json_open(json, key, bracket);
    if (json->line_depth == 0)
        json->line_depth = json->depth;
}

void json_close(struct json *json, char bracket)
{
    bool inside_line = json->line_depth != 0;
    if (json->line_depth == json->depth)
        json->line_depth = 0;
    json->depth--;
    if (!json->first && !inside_line)
        new_line(json);
    putc_unlocked(bracket, json->out);
    json->first = false;
}

void json_string(struct json *json, const char *key, const char *value)
{
    if (!value) {
        json_null(json, key);
        return;
    }
    begin(json, key);
    put_string(json->out, value);
}

void json_int(struct json *json, const char *key, int64_t value)
{
    begin(json, key);
    if (value < 0)
        putc_unlocked('-', json->out);
    put_number(json->out, value < 0 ? -(uint64_t)value : (uint64_t)value, 1);
}

void json_uint(struct json *json, const char *key, uint64_t value)
{
    begin(json, key);
    put_number(json->out, value, 1);
}

void json_bool(struct json *json, const char *key, bool value)
{
    begin(json, key);
    put_text(json->out, value ? "true" : "false");
}

void json_null(struct json *json, const char *key)
{
    begin(json, key);
    put_text(json->out, "null");
}

void json_seconds(struct json *json, const char *key, uint64_t ns)
{
    begin(json, key);
    put_number(json->out, ns / 1000000000u, 1);
    putc_unlocked('.', json->out);
    put_number(json->out, ns % 1000000000u, 9);
}

void json_hex(struct json *json, const char *key, const uint8_t *bytes, size_t count)
{
    begin(json, key);
    fputc('"', json->out);
    for (size_t i = 0; i < count; i++)
        fprintf(json->out, "%02x", bytes[i]);
    fputc('"', json->out);
}

void json_address(struct json *json, const char *key, uint64_t address)
{
    begin(json, key);
    fprintf(json->out, "\"0x%" PRIx64 "\"", address);
}
