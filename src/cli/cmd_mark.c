/* SPDX-License-Identifier: MIT */
#include "cli/asking.h"
#include "cli/command.h"
#include "contract/control.h"
#include "viewer/json.h"
#include <getopt.h>
#include <stdio.h>
#include <string.h>

static const char help[] =
    "Usage: heapmark mark [OPTION]... PID|FILE LABEL\n"
    "Names this instant in the recording of a running process, and takes its ledger.  The label shows up in reports;\n"
    "at most 63 bytes of it are kept.\n\n"
    "  --timeout S    seconds until the process must have taken the request (2)\n"
    "  --ptrace       when every thread blocks the waking signal, open one's signal mask by ptrace(2)\n"
    "  --json         for machines: \"format\": \"heapmark-mark\", \"version\": 1\n"
    "  --help\n\n"
    "Example: heapmark mark $(pidof redis-server) \"after the import\"\n"
    "Exit status: 0 marked, 2 no answer: a sentence says why.\n";

static void print(const struct asking *asking)
{
    struct json json = json_start(stdout);
    json_open(&json, NULL, '{');
    asking_put_json(asking, &json);
    json_string(&json, "label", asking->ask.label);
    json_close(&json, '}');
    json_end(&json);
}

int cmd_mark(int argc, char **argv)
{
    struct asking asking;
    int status;
    if (!asking_begin(&asking, argc, argv, help, &status))
        return status;
    if (argc - optind != 2)
        return command_misused("mark", "a process (or its recording) and a label are needed");
    status = COMMAND_BAD;
    if (asking_do(&asking, argv[optind], HMK_REQUEST_MARK, 0, argv[optind + 1])) {
        status = COMMAND_OK;
        if (asking.json)
            print(&asking);
    }
    asking_end(&asking);
    return status;
}
