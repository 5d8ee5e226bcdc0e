/* SPDX-License-Identifier: MIT */
#include "cli/asking.h"
#include "cli/command.h"
#include "cli/reading.h"
#include "contract/control.h"
#include "contract/read.h"
#include "viewer/json.h"
#include "viewer/units.h"
#include <getopt.h>
#include <stdio.h>

static const char help[] =
    "Usage: heapmark snapshot [OPTION]... PID|FILE [LABEL]\n"
    "Takes the ledger of a running process now: every resident page explained.  It is kept in the recording, where\n"
    "'heapmark report' finds it.\n\n"
    "  --exact        of one instant: taken in a forked child, while the process is held for the fork alone\n"
    "  --timeout S    seconds until the process must have taken the request (2)\n"
    "  --ptrace       when every thread blocks the waking signal, open one's signal mask by ptrace(2)\n"
    "  --json         for machines: \"format\": \"heapmark-snapshot\", \"version\": 1\n"
    "  --help\n\n"
    "Example: heapmark snapshot 4711 && heapmark report heapmark.python3.4711.hmk\n"
    "Exit status: 0 taken, 2 no answer or no ledger: a sentence says why.\n";

static void print_json(const struct asking *asking, const struct ledger *ledger)
{
    struct json json = json_start(stdout);
    json_open(&json, NULL, '{');
    asking_put_json(asking, &json);
    json_string(&json, "label", asking->ask.label);
    json_bool(&json, "exact", ledger->exact);
    json_uint(&json, "rss", ledger->rss_bytes);
    json_int(&json, "held", ledger->held_bytes);
    json_uint(&json, "forecast", ledger->forecast_bytes);
    json_seconds(&json, "seconds", ledger->cost_ns);
    json_close(&json, '}');
    json_end(&json);
}

static void print_text(const struct asking *asking, const struct ledger *ledger)
{
    char a[UNITS_BYTES], b[UNITS_BYTES], c[UNITS_BYTES], d[UNITS_BYTES];
    printf("%s, process %d: RSS %s, of it %s freed but still held; ", asking_program(asking), (int)asking->live.pid,
           units_size(a, (int64_t)ledger->rss_bytes), units_size(b, ledger->held_bytes));
    if (ledger->chunks_unknown)
        printf("not by glibc's malloc, so malloc_trim(0) cannot return it");
    else
        printf("malloc_trim(0) would return %s", units_size(c, (int64_t)ledger->forecast_bytes));
    printf(" (the %sledger took %s)\n", ledger->exact ? "exact " : "", units_duration(d, ledger->cost_ns));
    printf("recording: %s\n", asking->live.path);
}

static int print(const struct asking *asking)
{
    struct reading reading;
    struct read_error error;
    int status = COMMAND_OK;
    if (!reading_open(&reading, asking->live.path, &error))
        return command_bad("snapshot", "%s", error.sentence);
    const struct ledger *ledger = ledgers_newest(&reading.ledgers);
    if (!ledger)
        status = command_bad("snapshot", "the ledger was taken, and another has replaced it since");
    else if (asking->json)
        print_json(asking, ledger);
    else
        print_text(asking, ledger);
    reading_close(&reading);
    return status;
}

int cmd_snapshot(int argc, char **argv)
{
    struct asking asking;
    int status;
    if (!asking_begin(&asking, argc, argv, help, &status))
        return status;
    if (argc - optind < 1 || argc - optind > 2)
        return command_misused("snapshot", "one process (or its recording) and at most a label are needed");
    status = COMMAND_BAD;
    if (asking_do(&asking, argv[optind], asking.exact ? HMK_REQUEST_EXACT : HMK_REQUEST_SNAPSHOT, 0, argc - optind > 1 ? argv[optind + 1] : "")) {
        asking_check_exact(&asking, asking.ask.answer[HMK_EXACT_NOT], asking.ask.answer[HMK_EXACT_INSIDE]);
        if (asking.ask.status == HMK_ANSWER_DONE)
            status = print(&asking);
        else if (asking.ask.status == HMK_ANSWER_UNSUPPORTED)
            command_bad("snapshot", "process %d was started with an older heapmark, which cannot do that",
                        (int)asking.live.pid);
        else
            command_bad("snapshot", "process %d could not take a ledger", (int)asking.live.pid);
    }
    asking_end(&asking);
    return status;
}
