/* SPDX-License-Identifier: MIT */
#include "shim/settings.h"

#include "freestanding/text.h"
#include <string.h>
#include "freestanding/banned.h"

#define DEFAULT_OUT "heapmark.%e.%p.hmk"

enum kind { NUMBER, SWITCH, WORD };

/* `meaning` of a WORD starts with its list: "no|fork|all: ...". */
static const struct setting {
    const char *key;
    enum kind kind;
    uint64_t default_value;
    const char *meaning;
    size_t offset;
} known[] = {
#define SETTING(field, key, kind, default_value, meaning) \
    { key, kind, default_value, meaning, offsetof(struct settings, field) },
#include "contract/settings.def"
#undef SETTING
};
#define KNOWN (sizeof(known) / sizeof(known[0]))

struct span {
    const char *at;
    size_t length;
};

static bool span_equals(struct span span, const char *string, size_t length)
{
    return span.length == length && memcmp(span.at, string, length) == 0;
}

static size_t length_until(const char *string, char stop)
{
    size_t length = 0;
    while (string[length] && string[length] != stop)
        length++;
    return length;
}

static bool parse_word(struct span value, const char *meaning, uint64_t *result)
{
    const char *word = meaning;
    for (uint64_t place = 0;; place++) {
        size_t length = 0;
        while (word[length] != '|' && word[length] != ':')
            length++;
        if (span_equals(value, word, length)) {
            *result = place;
            return true;
        }
        if (word[length] == ':')
            return false;
        word += length + 1;
    }
}

static bool parse_value(const struct setting *setting, struct span value, uint64_t *result)
{
    if (setting->kind == WORD)
        return parse_word(value, setting->meaning, result);
    const char *end;
    if (!text_parse_size(value.at, &end, result) || end != value.at + value.length)
        return false;
    return setting->kind != SWITCH || *result <= 1;
}

static const struct setting *find_setting(struct span key)
{
    for (size_t i = 0; i < KNOWN; i++)
        if (span_equals(key, known[i].key, text_length(known[i].key)))
            return &known[i];
    return NULL;
}

static void complain(struct text *complaint, const char *what, struct span item)
{
    if (complaint->used > 0)
        return;
    text_put(complaint, "HEAPMARK_OPTIONS: ");
    text_put(complaint, what);
    text_put(complaint, " \"");
    text_put_n(complaint, item.at, item.length);
    text_put(complaint, "\" was ignored");
}

static void read_item(struct settings *settings, struct span item, struct text *complaint)
{
    struct span key = { item.at, 0 };
    while (key.length < item.length && item.at[key.length] != '=')
        key.length++;
    const struct setting *setting = find_setting(key);
    if (!setting) {
        complain(complaint, "unknown setting", item);
        return;
    }
    struct span value = { key.at + key.length, item.length - key.length };
    if (value.length > 0) {
        value.at++;
        value.length--;
    }
    uint64_t result;
    if (parse_value(setting, value, &result))
        *(uint64_t *)((char *)settings + setting->offset) = result;
    else
        complain(complaint, "bad value in", item);
}

static const char *find_variable(char *const *environment, const char *name_and_equals)
{
    for (; *environment; environment++)
        if (text_starts(*environment, name_and_equals))
            return *environment + text_length(name_and_equals);
    return "";
}

void settings_read(struct settings *settings, char *const *environment, char *complaint, unsigned complaint_bytes)
{
    struct text sentence = text_over(complaint, complaint_bytes);
    for (size_t i = 0; i < KNOWN; i++)
        *(uint64_t *)((char *)settings + known[i].offset) = known[i].default_value;
    settings->out = find_variable(environment, "HEAPMARK_OUT=");
    if (!settings->out[0])
        settings->out = DEFAULT_OUT;
    settings->options = find_variable(environment, "HEAPMARK_OPTIONS=");
    for (const char *at = settings->options; *at;) {
        size_t length = length_until(at, ':');
        if (length > 0)
            read_item(settings, (struct span){ at, length }, &sentence);
        at += length;
        if (*at == ':')
            at++;
    }
}
