/* SPDX-License-Identifier: MIT */
#include "cli/preload.h"

#include "base/xalloc.h"
#include <stdint.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- the library -------------------------------------------------------------------------------- */

static char *absolute(const char *directory, const char *name)
{
    char *path = xprintf("%s/%s", directory, name);
    char *real = realpath(path, NULL);
    free(path);
    return real;
}

/* Beside this program: in the build tree, in a prefix that was moved; else where it was installed. */
static char *find_library(void)
{
    static const char *const places[] = { "/.libs", "/../lib/heapmark", "/../lib64/heapmark", "" };
    char *self = realpath("/proc/self/exe", NULL);
    char *found = NULL;
    if (self) {
        *strrchr(self, '/') = 0;
        for (size_t i = 0; i < sizeof places / sizeof *places && !found; i++) {
            char *directory = xprintf("%s%s", self, places[i]);
            found = absolute(directory, PRELOAD_LIBRARY);
            free(directory);
        }
        free(self);
    }
    return found ? found : absolute(PKGLIBDIR, PRELOAD_LIBRARY);
}

static bool set_library(struct preload *preload, struct fail *why)
{
    const char *given = getenv("HEAPMARK_LIB");
    preload->library = given && *given ? realpath(given, NULL) : find_library();
    if (!preload->library && given && *given)
        return fail_errno(why, "HEAPMARK_LIB: cannot find %s", given);
    if (!preload->library)
        return fail_say(why, PRELOAD_LIBRARY " is neither in " PKGLIBDIR " nor beside this program: "
                        "set HEAPMARK_LIB to its path");
    if (access(preload->library, R_OK) != 0)
        return fail_errno(why, "cannot read %s", preload->library);
    if (strpbrk(preload->library, " :$"))
        return fail_say(why, "the loader cannot preload %s, because its path has a blank, a colon or a dollar sign: "
                        "copy it elsewhere and set HEAPMARK_LIB", preload->library);
    return true;
}

/* ---- the pattern -------------------------------------------------------------------------------- */

static bool set_pattern(struct preload *preload, const char *pattern, struct fail *why)
{
    struct strbuf text = STRBUF_INIT;
    if (!pattern || !*pattern)
        pattern = getenv("HEAPMARK_OUT");
    preload->by_default = !pattern || !*pattern;
    if (preload->by_default)
        pattern = PRELOAD_PATTERN;
    if (pattern[0] != '/') {
        char directory[PATH_MAX];
        if (!getcwd(directory, sizeof directory))
            return fail_errno(why, "cannot tell the working directory");
        /* A percent sign in the directory's name is not a letter of the pattern. */
        for (const char *at = directory; *at; at++)
            strbuf_put(&text, *at == '%' ? "%%" : (char[]){ *at, 0 });
        strbuf_char(&text, '/');
    }
    strbuf_put(&text, pattern);
    if (text.text[text.length - 1] == '/')
        strbuf_put(&text, PRELOAD_PATTERN);
    preload->pattern = strbuf_take(&text);
    return true;
}

/* ---- options ------------------------------------------------------------------------------------ */

enum kind { NUMBER, SWITCH, WORD };

static const struct setting {
    const char *key;
    enum kind kind;
    const char *meaning;        /* of a WORD: starts with its words, "no|fork|all: ..." */
} settings[] = {
#define SETTING(field, key, kind, default_value, meaning) { key, kind, meaning },
#include "contract/settings.def"
#undef SETTING
};

static bool is_number(const char *text)
{
    char *end;
    if (*text < '0' || *text > '9')
        return false;
    strtoull(text, &end, 10);
    return !*end || (strchr("KMGkmg", *end) && !end[1]);
}

static bool is_word_of(const char *text, const char *words)
{
    size_t length = strlen(text), all = strcspn(words, ":");
    for (const char *at = words; length > 0 && at < words + all;) {
        size_t here = strcspn(at, "|:");
        if (here == length && strncmp(at, text, length) == 0)
            return true;
        at += here + 1;
    }
    return false;
}

static bool check_value(const struct setting *setting, const char *value, struct fail *why)
{
    switch (setting->kind) {
    case NUMBER:
        return is_number(value)
               || fail_say(why, "%s is a number, with K, M or G if you like, not '%s'", setting->key, value);
    case SWITCH:
        return strcmp(value, "0") == 0 || strcmp(value, "1") == 0
               || fail_say(why, "%s is 0 or 1, not '%s'", setting->key, value);
    case WORD:
        break;
    }
    return is_word_of(value, setting->meaning)
           || fail_say(why, "%s is one of %.*s, not '%s'", setting->key, (int)strcspn(setting->meaning, ":"),
                       setting->meaning, value);
}

static bool add_setting(struct preload *preload, const char *key, const char *value, struct fail *why)
{
    struct strbuf keys = STRBUF_INIT;
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++) {
        strbuf_printf(&keys, "%s%s", i ? ", " : "", settings[i].key);
        if (strcmp(settings[i].key, key) != 0)
            continue;
        strbuf_free(&keys);
        if (!check_value(&settings[i], value, why))
            return false;
        strbuf_printf(&preload->options, "%s%s=%s", preload->options.length ? ":" : "", key, value);
        return true;
    }
    fail_say(why, "there is no setting '%s'; there are %s", key, keys.text);
    strbuf_free(&keys);
    return false;
}

static bool add_pair(struct preload *preload, const char *pair, struct fail *why)
{
    const char *equals = strchr(pair, '=');
    if (!equals)
        return fail_say(why, "a setting is KEY=VALUE, not '%s'", pair);
    char *key = xstrndup(pair, (size_t)(equals - pair));
    bool good = add_setting(preload, key, equals + 1, why);
    free(key);
    return good;
}

static bool set_options(struct preload *preload, const struct preload_request *request, struct fail *why)
{
    const char *before = getenv("HEAPMARK_OPTIONS");
    strbuf_put(&preload->options, before ? before : "");
    for (size_t i = 0; i < request->settings.count; i++) {
        const struct preload_setting *setting = &request->settings.at[i];
        bool good = setting->key ? add_setting(preload, setting->key, setting->value, why)
                                 : add_pair(preload, setting->value, why);
        if (!good)
            return false;
    }
    return true;
}

bool preload_find(struct preload *preload, const struct preload_request *request, struct fail *why)
{
    *preload = (struct preload){ .options = STRBUF_INIT };
    return set_options(preload, request, why) && set_pattern(preload, request->pattern, why)
           && set_library(preload, why);
}

bool preload_take_option(struct preload_request *request, int option, const char *value)
{
    static const char *const keys[] = { "depth", "sample", "children", "free_sites", NULL };
    if (option == PRELOAD_OUTPUT)
        request->pattern = value;
    else if (option >= PRELOAD_DEPTH && option <= PRELOAD_SETTING)
        array_push(&request->settings, (struct preload_setting){ keys[option - PRELOAD_DEPTH], value ? value : "1" });
    else
        return false;
    return true;
}

void preload_request_free(struct preload_request *request)
{
    array_free(&request->settings);
}

/* ---- the environment ---------------------------------------------------------------------------- */

static bool is_our_library(const char *entry, size_t length)
{
    size_t name = strlen(PRELOAD_LIBRARY);
    return length >= name && strncmp(entry + length - name, PRELOAD_LIBRARY, name) == 0
           && (length == name || entry[length - name - 1] == '/');
}

char *preload_list(const struct preload *preload)
{
    struct strbuf list = STRBUF_INIT;
    const char *before = getenv("LD_PRELOAD");
    strbuf_put(&list, preload->library);
    while (before && *before) {
        size_t length = strcspn(before, " :");
        /* A run within a run: once is enough. */
        if (length > 0 && !is_our_library(before, length)) {
            strbuf_char(&list, ':');
            strbuf_put_n(&list, before, length);
        }
        before += length + (before[length] != 0);
    }
    return strbuf_take(&list);
}

void preload_export(const struct preload *preload)
{
    char *list = preload_list(preload);
    setenv("LD_PRELOAD", list, 1);
    setenv("HEAPMARK_OUT", preload->pattern, 1);
    if (preload->options.length > 0)
        setenv("HEAPMARK_OPTIONS", preload->options.text, 1);
    free(list);
}

void preload_free(struct preload *preload)
{
    free(preload->library);
    free(preload->pattern);
    strbuf_free(&preload->options);
}
