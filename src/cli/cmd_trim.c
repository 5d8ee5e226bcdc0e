/* SPDX-License-Identifier: MIT */
#include "cli/asking.h"
#include "cli/command.h"
#include "cli/reading.h"
#include "contract/control.h"
#include "contract/read.h"
#include "symbols/symbolizer.h"
#include "viewer/json.h"
#include "viewer/report.h"
#include "viewer/units.h"
#include <getopt.h>
#include <stdio.h>
#include <unistd.h>

static const char help[] =
    "Usage: heapmark trim [OPTION]... PID|FILE\n"
    "Makes a running process give back to the system what it has freed: prints RSS before and after, the forecast beside\n"
    "the result, and what stayed and why.\n\n"
    "  --dry-run      the forecast alone; nothing is given back\n"
    "  --exact        with --dry-run: taken in a forked child, so that nothing moves under it\n"
    "  --timeout S    seconds until the process must have taken the request (2)\n"
    "  --ptrace       when every thread blocks the waking signal, open one's signal mask by ptrace(2)\n"
    "  --json         for machines: \"format\": \"heapmark-trim\", \"version\": 1\n"
    "  --help\n\n"
    "Example: heapmark trim $(pidof redis-server)\n"
    "Exit status: 0 memory came back (would come back), 1 none did, 2 no answer: a sentence says why.\n";

static const struct {
    uint64_t bit;
    const char *name, *key;
} levers[] = {
    { HMK_LEVER_GLIBC, "malloc_trim(0)", "malloc_trim" },
    { HMK_LEVER_JEMALLOC, "jemalloc's purge", "jemalloc" },
    { HMK_LEVER_TCMALLOC, "tcmalloc's release", "tcmalloc" },
    { HMK_LEVER_MIMALLOC, "mimalloc's collect", "mimalloc" },
};
#define LEVER_COUNT (sizeof levers / sizeof *levers)

static const char *lever_name(uint64_t lever)
{
    for (size_t i = 0; i < LEVER_COUNT; i++)
        if (lever & levers[i].bit)
            return levers[i].name;
    return "nothing";
}

/* Only glibc's chunks can be walked. */
static bool is_forecast(const uint64_t *answer, const struct ledger *ledger)
{
    return ledger && (answer[HMK_TRIM_LEVERS] & HMK_LEVER_GLIBC);
}

/* ---- for people --------------------------------------------------------------------------------- */

#define ROW "  %-20s %11s"

static void print_forecast(const char *label, const uint64_t *answer, bool known)
{
    char a[UNITS_BYTES];
    if (known)
        printf(ROW "\n", label, units_size(a, (int64_t)answer[HMK_TRIM_FORECAST]));
    else
        printf(ROW "   only what glibc's malloc holds can be forecast\n", label, "unknown");
}

static void print_numbers(const struct asking *asking, bool known)
{
    const uint64_t *answer = asking->ask.answer;
    char a[UNITS_BYTES], b[UNITS_BYTES];
    printf("%s, process %d\n", asking_program(asking), (int)asking->live.pid);
    if (asking->dry_run) {
        printf(ROW "\n", "RSS", units_size(a, (int64_t)answer[HMK_TRIM_RSS_BEFORE]));
        print_forecast("would come back", answer, known);
        return;
    }
    printf(ROW "\n", "RSS before", units_size(a, (int64_t)answer[HMK_TRIM_RSS_BEFORE]));
    printf(ROW "\n", "RSS after", units_size(a, (int64_t)answer[HMK_TRIM_RSS_AFTER]));
    printf(ROW "   by %s, in %s\n", "returned", units_size(a, (int64_t)answer[HMK_TRIM_RETURNED]),
           lever_name(answer[HMK_TRIM_LEVERS]), units_duration(b, answer[HMK_TRIM_NS]));
    print_forecast("forecast", answer, known);
}

static void print_held(const struct report *report)
{
    struct symbolizer_options symbols = {0};
    struct report_options options = { .width = command_width(STDOUT_FILENO), .color = command_color(STDOUT_FILENO),
                                      .symbols = &symbols };
    report_held(report, &options, stdout);
}

/* ---- for machines ------------------------------------------------------------------------------- */

static void print_json(const struct asking *asking, const struct ledger *ledger, bool known)
{
    const uint64_t *answer = asking->ask.answer;
    struct json json = json_start(stdout);
    json_open(&json, NULL, '{');
    asking_put_json(asking, &json);
    json_bool(&json, "dry_run", asking->dry_run);
    json_uint(&json, "rss_before", answer[HMK_TRIM_RSS_BEFORE]);
    if (known)
        json_uint(&json, "forecast", answer[HMK_TRIM_FORECAST]);
    else
        json_null(&json, "forecast");
    if (!asking->dry_run) {
        json_uint(&json, "rss_after", answer[HMK_TRIM_RSS_AFTER]);
        json_uint(&json, "returned", answer[HMK_TRIM_RETURNED]);
        json_seconds(&json, "seconds", answer[HMK_TRIM_NS]);
    }
    for (size_t i = 0; i < LEVER_COUNT; i++)
        if (answer[HMK_TRIM_LEVERS] & levers[i].bit)
            json_string(&json, "lever", levers[i].key);
    if (ledger)
        json_int(&json, "held", ledger->held_bytes);
    else
        json_null(&json, "held");
    json_close(&json, '}');
    json_end(&json);
}

/* ---- both --------------------------------------------------------------------------------------- */

static int print(const struct asking *asking)
{
    const uint64_t *answer = asking->ask.answer;
    struct reading reading;
    struct read_error error;
    bool read = reading_open(&reading, asking->live.path, &error);
    const struct ledger *ledger = read ? ledgers_newest(&reading.ledgers) : NULL;
    bool known = is_forecast(answer, ledger);
    if (asking->json) {
        print_json(asking, ledger, known);
    } else {
        print_numbers(asking, known);
        if (ledger)
            print_held(&reading.report);
    }
    if (read)
        reading_close(&reading);
    if (asking->dry_run && !known)
        return COMMAND_BAD;
    return answer[asking->dry_run ? HMK_TRIM_FORECAST : HMK_TRIM_RETURNED] > 0 ? COMMAND_OK : COMMAND_NEGATIVE;
}

int cmd_trim(int argc, char **argv)
{
    struct asking asking;
    int status;
    if (!asking_begin(&asking, argc, argv, help, &status))
        return status;
    if (argc - optind != 1)
        return command_misused("trim", argc == optind ? "no process given" : "one process at a time");
    if (asking.exact && !asking.dry_run)
        return command_misused("trim", "--exact is for a forecast: it needs --dry-run");
    status = COMMAND_BAD;
    uint64_t how = asking.exact ? HMK_TRIM_DRY_EXACT : asking.dry_run ? HMK_TRIM_DRY : HMK_TRIM_FULL;
    if (asking_do(&asking, argv[optind], HMK_REQUEST_TRIM, how, "")) {
        asking_check_exact(&asking, asking.ask.answer[HMK_TRIM_NOT_EXACT], asking.ask.answer[HMK_TRIM_INSIDE]);
        if (asking.ask.status == HMK_ANSWER_DONE)
            status = print(&asking);
        else
            command_bad("trim", "process %d uses an allocator that heapmark cannot make give memory back",
                        (int)asking.live.pid);
    }
    asking_end(&asking);
    return status;
}
