/* SPDX-License-Identifier: MIT */
#include "viewer/plain.h"

#include "base/strbuf.h"
#include <stdbool.h>
#include <string.h>

static bool continues(char c)
{
    return ((unsigned char)c & 0xc0) == 0x80;
}

void plain_put(struct strbuf *out, const char *string)
{
    for (const unsigned char *s = (const unsigned char *)string; *s; s++) {
        /* C1 controls arrive as the two bytes c2 80 .. c2 9f. */
        bool c1 = s[0] == 0xc2 && s[1] >= 0x80 && s[1] < 0xa0;
        if (*s < 0x20 || *s == 0x7f || c1)
            strbuf_printf(out, "\\x%02x", c1 ? *++s : *s);
        else
            strbuf_char(out, (char)*s);
    }
}

size_t plain_width(const char *string)
{
    size_t width = 0;
    for (; *string; string++)
        width += !continues(*string);
    return width;
}

static const char *skip_columns(const char *string, size_t columns)
{
    while (columns > 0 && *string) {
        string++;
        while (continues(*string))
            string++;
        columns--;
    }
    return string;
}

static void put_parts(struct strbuf *out, const char *string, size_t head, size_t tail)
{
    size_t width = plain_width(string);
    const char *head_end = skip_columns(string, head);
    strbuf_put_n(out, string, (size_t)(head_end - string));
    strbuf_put(out, "...");
    strbuf_put(out, skip_columns(string, width - tail));
}

void plain_cut_middle(struct strbuf *out, const char *string, size_t columns)
{
    struct strbuf plain = STRBUF_INIT;
    plain_put(&plain, string);
    if (plain_width(plain.text) <= columns || columns < 4)
        strbuf_put_n(out, plain.text, (size_t)(skip_columns(plain.text, columns) - plain.text));
    else
        put_parts(out, plain.text, (columns - 3) * 2 / 3, columns - 3 - (columns - 3) * 2 / 3);
    strbuf_free(&plain);
}

void plain_cut_start(struct strbuf *out, const char *string, size_t columns)
{
    struct strbuf plain = STRBUF_INIT;
    plain_put(&plain, string);
    if (plain_width(plain.text) <= columns || columns < 4)
        strbuf_put_n(out, plain.text, (size_t)(skip_columns(plain.text, columns) - plain.text));
    else
        put_parts(out, plain.text, 0, columns - 3);
    strbuf_free(&plain);
}
