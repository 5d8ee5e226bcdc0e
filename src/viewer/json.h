/* SPDX-License-Identifier: MIT */
#ifndef HEAPMARK_VIEWER_JSON_H
#define HEAPMARK_VIEWER_JSON_H

/*
 * A JSON emitter.  Commas, indentation and escapes are its business; the caller opens and closes in pairs:
 *
 *     struct json json = json_start(stdout);
 *     json_open(&json, NULL, '{');
 *     json_string(&json, "format", "heapmark-report");
 *     json_open(&json, "sites", '[');
 *     ...
 *     json_close(&json, ']');
 *     json_close(&json, '}');
 *     json_end(&json);
 *
 * `key` is NULL inside an array.  Bytes that are no valid UTF-8 become U+FFFD.  An object or array opened with
 * json_open_line is written on one line.
 */

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct json {
    FILE *out;
    unsigned depth;
    unsigned line_depth;        /* depth at which one-line mode started; 0 = not in it */
    bool first;                 /* nothing was written in the innermost object or array yet */
};

struct json json_start(FILE *out);
void json_end(struct json *json);
void json_open(struct json *json, const char *key, char bracket);
void json_open_line(struct json *json, const char *key, char bracket);
void json_close(struct json *json, char bracket);

void json_string(struct json *json, const char *key, const char *value);    /* NULL: null */
void json_int(struct json *json, const char *key, int64_t value);
void json_uint(struct json *json, const char *key, uint64_t value);
void json_bool(struct json *json, const char *key, bool value);
void json_null(struct json *json, const char *key);
void json_seconds(struct json *json, const char *key, uint64_t ns);         /* a decimal number, nanosecond digits */
void json_hex(struct json *json, const char *key, const uint8_t *bytes, size_t count);
void json_address(struct json *json, const char *key, uint64_t address);    /* "0x7f12..." */

#endif
