/* SPDX-License-Identifier: MIT */

/*
 * The reader against hostile files: whatever the bytes, a recording is refused in one sentence or read, analysed and
 * reported without an access out of range (the sanitizers judge that).
 *
 * Alone it mutates recordings of its own, the same way each time:   read_fuzz [COUNT [FIRST_SEED]]
 * or replays files:                                                read_fuzz FILE...
 * With libFuzzer (clang -fsanitize=fuzzer -DLIBFUZZER) it takes its inputs.
 */

#include "analysis/history.h"
#include "analysis/ledger.h"
#include "analysis/profile.h"
#include "analysis/verdict.h"
#include "contract/read.h"
#include "viewer/report.h"
#include "../unit/synthetic.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static FILE *nowhere(void)
{
    static FILE *out;
    if (!out)
        out = fopen("/dev/null", "w");
    if (!out)
        abort();
    return out;
}

static void report_all(const struct read_file *file)
{
    struct profile *profile = profile_new(file);
    struct ledgers ledgers = ledgers_read(file);
    struct history history = history_read(file);
    struct verdict verdict = verdict_find(profile, ledgers_newest(&ledgers), &history);
    struct report report = { .profile = profile, .ledgers = &ledgers, .current = ledgers_newest(&ledgers),
                             .history = &history, .verdict = &verdict, .life = REPORT_KILLED };
    struct report_options options = { .sort = RANK_KEYS, .width = 100 };
    report_text(&report, &options, nowhere());
    report_json(&report, &options, nowhere());
    options.sort = RANK_LIVE;
    options.full = true;
    report_text(&report, &options, nowhere());
    history_free(&history);
    ledgers_free(&ledgers);
    profile_free(profile);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    struct read_error error;
    struct read_file *file = read_memory(bytes, size, "fuzz", &error);
    if (!file) {
        if (error.fault == READ_FINE || error.sentence[0] == 0 || strchr(error.sentence, '\n'))
            abort();
        return 0;
    }
    for (uint64_t i = 0; i < read_count(file, HMK_STRINGS); i++)
        if (strlen(read_string(file, (uint32_t)i)) > size)
            abort();
    report_all(file);
    read_close(file);
    return 0;
}

#ifndef LIBFUZZER

static uint64_t state;

static uint64_t draw(uint64_t below)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state % below;
}

static uint64_t odd_value(const uint8_t *bytes, size_t size)
{
    static const uint64_t values[] = { 0, 1, 2, 3, 63, 64, 4095, 4096, 12288, 0x7fffffff, 0x80000000, 0xffffffff,
                                       UINT64_C(1) << 32, INT64_MAX, UINT64_C(1) << 63, UINT64_MAX - 1, UINT64_MAX };
    uint64_t word;
    switch (draw(4)) {
    case 0:
        return values[draw(sizeof values / sizeof *values)];
    case 1:
        return draw(size * 2);
    case 2:
        return draw(size / 4096 + 2) * 4096;
    default:
        memcpy(&word, bytes + draw(size / 8) * 8, sizeof word);
        return word + draw(3) - 1;
    }
}

/* The directory, or any word that is in use: most of a file is unused space. */
static size_t draw_place(const uint8_t *bytes, size_t size)
{
    size_t at = HMK_TABLES_OFFSET + draw(HMK_TABLE_SLOTS * sizeof(struct hmk_table) / 8) * 8;
    uint64_t word = 0;

    if (size > HMK_HEADER_BYTES && draw(4) == 0)
        return at;
    for (int tries = 0; tries < 32 && word == 0; tries++) {
        at = draw(size / 8) * 8;
        memcpy(&word, bytes + at, sizeof word);
    }
    return at;
}

static void mutate(uint8_t *bytes, size_t *size)
{
    for (uint64_t changes = 1 + draw(8); changes > 0; changes--) {
        size_t at = draw_place(bytes, *size);
        uint64_t value = odd_value(bytes, *size);
        switch (draw(5)) {
        case 0:
            bytes[at + draw(8)] ^= (uint8_t)(1u << draw(8));
            break;
        case 1:
            memcpy(bytes + at + draw(2) * 4, &value, 4);
            break;
        case 2:
            if (draw(16) == 0)
                *size = 8 + draw(*size - 8);
            break;
        default:
            memcpy(bytes + at, &value, 8);
        }
        if (*size < 64)
            return;
    }
}

static void mutate_many(uint64_t count, uint64_t seed)
{
    size_t kinds = 0;
    while (synthetic_kinds[kinds].name)
        kinds++;
    for (uint64_t i = 0; i < count; i++) {
        struct synthetic s;
        size_t size;
        state = (seed + i) * UINT64_C(0x9e3779b97f4a7c15) | 1;
        synthetic_kinds[i % kinds].make(&s);
        uint8_t *bytes = synthetic_finish(&s, &size);
        mutate(bytes, &size);
        /* An allocation of just that size, so that the sanitizer sees the end. */
        uint8_t *exact = malloc(size);
        if (!exact)
            abort();
        memcpy(exact, bytes, size);
        free(bytes);
        LLVMFuzzerTestOneInput(exact, size);
        free(exact);
    }
    printf("%llu mutated recordings read or refused\n", (unsigned long long)count);
}

static void replay(const char *path)
{
    FILE *file = fopen(path, "rb");
    if (!file) {
        perror(path);
        exit(2);
    }
    fseek(file, 0, SEEK_END);
    size_t size = (size_t)ftell(file);
    rewind(file);
    uint8_t *bytes = malloc(size + 1);
    if (!bytes || fread(bytes, 1, size, file) != size)
        exit(2);
    fclose(file);
    LLVMFuzzerTestOneInput(bytes, size);
    free(bytes);
}

int main(int argc, char **argv)
{
    if (argc > 1 && (argv[1][0] < '0' || argv[1][0] > '9')) {
        for (int i = 1; i < argc; i++)
            replay(argv[i]);
        return 0;
    }
    mutate_many(argc > 1 ? strtoull(argv[1], NULL, 10) : 4000, argc > 2 ? strtoull(argv[2], NULL, 10) : 1);
    return 0;
}

#endif
