/* SPDX-License-Identifier: MIT */
/*
 * usage: name-addresses [MODE] FILE <TRUTH       compares the symbolizer's answers for FILE with lines as of truth.h
 *
 * MODE: --inlines (default)  all frames and lines      --functions  the holding function only, no lines
 *       --dynamic            as --functions, and FILE+0xADDRESS is right too when at least one is named
 *       --none               all must be FILE+0xADDRESS
 * Prints what differs; exits 0 when nothing did and there was something to compare.
 */
#include "base/array.h"
#include "base/strbuf.h"
#include "symbols/symbolizer.h"

#include <inttypes.h>
#include <stdio.h>

enum mode { INLINES, FUNCTIONS, DYNAMIC, NONE };

struct truth {
    uint64_t address;
    struct {
        char *function;
        unsigned line;
    } frames[16];
    unsigned count;
};

static struct truth *parse(char *line)
{
    struct truth *truth = xcalloc(1, sizeof *truth);
    truth->address = strtoull(strtok(line, "\t\n"), NULL, 16);
    for (char *word; truth->count < 16 && (word = strtok(NULL, "\t\n")); truth->count++) {
        truth->frames[truth->count].function = xstrdup(word);
        word = strtok(NULL, "\t\n");
        truth->frames[truth->count].line = word ? (unsigned)strtoul(word, NULL, 10) : 0;
    }
    return truth;
}

static void describe(struct strbuf *text, const struct symbol *symbol, enum mode mode)
{
    for (uint32_t i = mode == INLINES ? 0 : symbol->count - 1; i < symbol->count; i++) {
        strbuf_printf(text, " %s", symbol->frames[i].function);
        if (mode == INLINES)
            strbuf_printf(text, ":%u", symbol->frames[i].line);
    }
}

static void expect(struct strbuf *text, const struct truth *truth, const struct symbol *symbol, enum mode mode)
{
    if (mode == NONE) {
        strbuf_printf(text, " %s+0x%" PRIx64, symbol->module, truth->address - 1);
        return;
    }
    for (unsigned i = mode == INLINES ? 0 : truth->count - 1; i < truth->count; i++) {
        /* Plain symbol tables know names as the linker does: without parameters when it is C. */
        strbuf_printf(text, " %s", truth->frames[i].function);
        if (mode == INLINES)
            strbuf_printf(text, ":%u", truth->frames[i].line ? truth->frames[i].line : symbol->frames[i].line);
    }
}

static void complain(void *context, const char *sentence)
{
    (void)context;
    printf("complaint: %s\n", sentence);
}

static size_t compare(struct symbolizer *names, unsigned module, const struct truth *truth, enum mode mode,
                      size_t *named)
{
    const struct symbol *symbol = symbolizer_look(names, module, truth->address, false);
    struct strbuf got = STRBUF_INIT, wanted = STRBUF_INIT;
    bool same = true;
    *named += symbol->known;
    if (mode == INLINES && symbol->count != truth->count)
        same = false;
    else if (mode != DYNAMIC || symbol->known) {
        describe(&got, symbol, mode);
        expect(&wanted, truth, symbol, mode);
        same = strcmp(got.text, wanted.text) == 0;
    }
    if (!same) {
        strbuf_clear(&got);
        describe(&got, symbol, INLINES);
        printf("%" PRIx64 ":%s\n    wanted%s\n", truth->address, got.text, wanted.text);
    }
    strbuf_free(&got);
    strbuf_free(&wanted);
    return !same;
}

int main(int argc, char **argv)
{
    static const char *const words[] = { "--inlines", "--functions", "--dynamic", "--none" };
    enum mode mode = INLINES;
    for (unsigned i = 0; argc > 2 && i < 4; i++)
        if (strcmp(argv[1], words[i]) == 0)
            mode = (enum mode)i;
    ARRAY_OF(struct truth *) truths = {0};
    char line[4096];
    while (fgets(line, sizeof line, stdin))
        array_push(&truths, parse(line));

    struct symbolizer *names = symbolizer_new(&(struct symbolizer_options){ .complain = complain });
    unsigned module = symbolizer_module(names, argv[argc - 1], NULL, 0);
    for (size_t i = 0; i < truths.count; i++)
        symbolizer_request(names, module, truths.at[i]->address, false);
    symbolizer_resolve(names);
    size_t wrong = 0, named = 0;
    for (size_t i = 0; i < truths.count; i++) {
        wrong += compare(names, module, truths.at[i], mode, &named);
        for (unsigned k = 0; k < truths.at[i]->count; k++)
            free(truths.at[i]->frames[k].function);
        free(truths.at[i]);
    }
    printf("%zu addresses, %zu named, %zu wrong\n", truths.count, named, wrong);
    bool enough = truths.count > 0 && (mode == NONE || named > 0);
    symbolizer_free(names);
    array_free(&truths);
    return wrong > 0 || !enough;
}
