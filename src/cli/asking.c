/* SPDX-License-Identifier: MIT */
#include "cli/asking.h"

#include "base/fail.h"
#include "base/strbuf.h"
#include "cli/command.h"
#include "cli/process.h"
#include "viewer/json.h"
#include <getopt.h>
#include <stdio.h>
#include <string.h>

bool asking_begin(struct asking *asking, int argc, char **argv, const char *help, int *status)
{
    static const struct option options[] = {
        { "dry-run", no_argument, NULL, 'n' }, { "exact", no_argument, NULL, 'x' }, { "timeout", required_argument, NULL, 't' },
        { "ptrace", no_argument, NULL, 'p' },  { "json", no_argument, NULL, 'j' },
        { "help", no_argument, NULL, 'h' },    { 0 },
    };
    /* The first is for trim alone, the second not for mark. */
    int left_out = strcmp(argv[0], "trim") == 0 ? 0 : strcmp(argv[0], "mark") == 0 ? 2 : 1;
    *asking = (struct asking){ .verb = argv[0], .options.timeout_ns = ASK_TIMEOUT_NS, .live.fd = -1 };
    *status = COMMAND_BAD;
    for (int option; (option = command_option(argc, argv, ":", options + left_out)) != -1;) {
        switch (option) {
        case 'n': asking->dry_run = true; break;
        case 'x': asking->exact = true; break;
        case 'p': asking->options.ptrace = true; break;
        case 'j': asking->json = true; break;
        case 'h':
            *status = command_help(help);
            return false;
        case 't':
            if (command_seconds(optarg, &asking->options.timeout_ns))
                break;
            command_misused(asking->verb, "'%s' is not a number of seconds", optarg);
            return false;
        default:
            return false;
        }
    }
    return true;
}

bool asking_do(struct asking *asking, const char *process, uint32_t kind, uint64_t argument, const char *label)
{
    struct fail why;
    if (live_open(&asking->live, process, &why) &&
        ask_wait(&asking->ask, &asking->live, kind, argument, label, &asking->options, &why))
        return true;
    command_bad(asking->verb, "%s", why.text);
    return false;
}

void asking_check_exact(const struct asking *asking, uint64_t not_exact, uint64_t inside)
{
    struct fail why;
    if (asking->exact && ask_exact_doubt(&asking->ask, not_exact, inside, &why))
        command_bad(asking->verb, "%s", why.text);
}

void asking_end(struct asking *asking)
{
    live_close(&asking->live);
}

const char *asking_program(const struct asking *asking)
{
    static struct strbuf name = STRBUF_INIT;
    strbuf_clear(&name);
    process_name(asking->live.pid, &name);
    return name.length ? name.text : "unknown program";
}

void asking_put_json(const struct asking *asking, struct json *json)
{
    char format[32];
    snprintf(format, sizeof format, "heapmark-%s", asking->verb);
    json_string(json, "format", format);
    json_uint(json, "version", 1);
    json_int(json, "pid", asking->live.pid);
    json_string(json, "program", asking_program(asking));
    json_string(json, "recording", asking->live.path);
}
