/* SPDX-License-Identifier: MIT */
#include "viewer/json.h"

#include <inttypes.h>

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

static void put_string(FILE *out, const char *value)
{
    fputc('"', out);
    for (const unsigned char *s = (const unsigned char *)value; *s; ) {
        unsigned length = utf8_length(s);
        if (length == 0) {
            fputs("\\ufffd", out);
            s++;
        } else if (*s == '"' || *s == '\\') {
            fprintf(out, "\\%c", *s++);
        } else if (*s == '\n') {
            fputs("\\n", out);
            s++;
        } else if (*s == '\t') {
            fputs("\\t", out);
            s++;
        } else if (*s < 0x20 || *s == 0x7f) {
            fprintf(out, "\\u%04x", *s++);
        } else {
            fwrite(s, 1, length, out);
            s += length;
        }
    }
    fputc('"', out);
}

static void begin(struct json *json, const char *key)
{
    if (!json->first)
        fputc(',', json->out);
    if (json->depth > 0 && json->line_depth == 0)
        fprintf(json->out, "\n%*s", (int)json->depth * 2, "");
    else if (!json->first)
        fputc(' ', json->out);
    json->first = false;
    if (key) {
        put_string(json->out, key);
        fputs(": ", json->out);
    }
}

void json_open(struct json *json, const char *key, char bracket)
{
    begin(json, key);
    fputc(bracket, json->out);
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
        fprintf(json->out, "\n%*s", (int)json->depth * 2, "");
    fputc(bracket, json->out);
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
    fprintf(json->out, "%" PRId64, value);
}

void json_uint(struct json *json, const char *key, uint64_t value)
{
    begin(json, key);
    fprintf(json->out, "%" PRIu64, value);
}

void json_bool(struct json *json, const char *key, bool value)
{
    begin(json, key);
    fputs(value ? "true" : "false", json->out);
}

void json_null(struct json *json, const char *key)
{
    begin(json, key);
    fputs("null", json->out);
}

void json_seconds(struct json *json, const char *key, uint64_t ns)
{
    begin(json, key);
    fprintf(json->out, "%" PRIu64 ".%09u", ns / 1000000000u, (unsigned)(ns % 1000000000u));
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
