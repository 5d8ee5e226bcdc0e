/* SPDX-License-Identifier: MIT */
#include "viewer/style.h"

#include "base/strbuf.h"
#include <string.h>

void style_begin(struct strbuf *out, bool color, enum style_role role)
{
    static const char *const codes[] = {
        [STYLE_PLAIN] = "", [STYLE_STRONG] = "\033[1m", [STYLE_FAINT] = "\033[2m", [STYLE_TITLE] = "\033[1;36m",
        [STYLE_WARN] = "\033[33m",
    };
    if (color)
        strbuf_put(out, codes[role]);
}

void style_end(struct strbuf *out, bool color, enum style_role role)
{
    if (color && role != STYLE_PLAIN)
        strbuf_put(out, "\033[0m");
}

size_t style_last_line_width(const char *text)
{
    const char *newline = strrchr(text, '\n');
    size_t width = 0;
    for (const char *c = newline ? newline + 1 : text; *c; c++) {
        if (*c == '\033')
            c += strcspn(c, "m");
        else
            width += ((unsigned char)*c & 0xc0) != 0x80;
        if (!*c)
            break;
    }
    return width;
}

void style_put(struct strbuf *out, bool color, enum style_role role, const char *text)
{
    style_begin(out, color, role);
    strbuf_put(out, text);
    style_end(out, color, role);
}
