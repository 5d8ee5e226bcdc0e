/* SPDX-License-Identifier: MIT */
#include "cli/command.h"

#include "analysis/profile.h"
#include "cli/launch.h"
#include "cli/preload.h"
#include "cli/reading.h"
#include "cli/recordings.h"
#include "cli/target.h"
#include "cli/trimmer.h"
#include "contract/read.h"
#include "symbols/symbolizer.h"
#include "viewer/plain.h"
#include "viewer/units.h"
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

static const char help[] =
    "Usage: heapmark run [OPTION]... [--] COMMAND [ARGUMENT]...\n"
    "Runs a program and records its memory, then says in a few lines on stderr what was recorded.\n\n"
    "  -o, --output PATTERN  where recordings go; %e program, %p process, %h host, %t time, %q{VAR};\n"
    "                        default heapmark.%e.%p.hmk here; a name that ends in / is a directory\n"
    "  --depth N             frames kept of a stack\n"
    "  --sample BYTES        record one allocation in about BYTES (512K); default: all of them\n"
    "  --children no|fork|all  which child processes are recorded too; default all\n"
    "  --free-sites          tell who freed what is still held, in place of who had allocated it\n"
    "  --option KEY=VALUE    any setting, see SETTINGS in heapmark-run(1)\n"
    "  --trim on-drop|every:S  make the program give freed memory back: when much of it is held and quiet, or\n"
    "                        every S seconds; default off\n"
    "  --gather              move recordings of small processes into one folder; done without it where no -o\n"
    "                        names them; --no-gather never does\n"
    "  --report              print the whole report at the end, on stderr\n"
    "  --force               run also a program that cannot be recorded\n"
    "  -q, --quiet           say nothing at the end\n"
    "  --help\n\n"
    "Example: heapmark run -- python3 report.py\n"
    "Exit status: that of COMMAND, 128 + signal when a signal ended it; 127 not found, 126 not executable,\n"
    "125 heapmark itself failed or COMMAND cannot be recorded.\n";

enum { EXIT_OWN = 125, EXIT_NOT_RUNNABLE = 126, EXIT_NOT_FOUND = 127 };

struct run {
    struct preload_request request;
    bool report, force, quiet;
    enum { GATHER_DEFAULT, GATHER, GATHER_NOT } gather;
    struct preload preload;
    struct trimmer *trimmer;
    uint64_t start_realtime_ns;
};

enum { OPTION_REPORT = PRELOAD_OPTIONS_END, OPTION_FORCE, OPTION_TRIM, OPTION_GATHER, OPTION_NO_GATHER, OPTION_HELP };

static const struct option options[] = {
    PRELOAD_LONG_OPTIONS,
    { "report", no_argument, NULL, OPTION_REPORT },
    { "force", no_argument, NULL, OPTION_FORCE },
    { "trim", required_argument, NULL, OPTION_TRIM },
    { "gather", no_argument, NULL, OPTION_GATHER },
    { "no-gather", no_argument, NULL, OPTION_NO_GATHER },
    { "quiet", no_argument, NULL, 'q' },
    { "help", no_argument, NULL, OPTION_HELP },
    { NULL, 0, NULL, 0 },
};

/* 0, or the option that ended the reading: OPTION_HELP or '?'. */
static int read_options(struct run *run, int argc, char **argv)
{
    /* The first word that is no option is the command, and what follows is its own. */
    for (int option; (option = command_option(argc, argv, "+:o:q", options)) != -1;) {
        if (preload_take_option(&run->request, option, optarg))
            continue;
        switch (option) {
        case 'q': run->quiet = true; break;
        case OPTION_REPORT: run->report = true; break;
        case OPTION_FORCE: run->force = true; break;
        case OPTION_GATHER: run->gather = GATHER; break;
        case OPTION_NO_GATHER: run->gather = GATHER_NOT; break;
        case OPTION_TRIM:
            trimmer_free(run->trimmer);
            run->trimmer = trimmer_new(optarg);
            if (run->trimmer)
                break;
            command_misused("run", "--trim wants on-drop or every:SECONDS, not '%s'", optarg);
            return '?';
        default: return option;
        }
    }
    return 0;
}

/* ---- the end ------------------------------------------------------------------------------------ */

/* As short as it can be typed here. */
static const char *short_path(const char *path)
{
    char directory[PATH_MAX];
    if (!getcwd(directory, sizeof directory))
        return path;
    size_t length = strlen(directory);
    return strncmp(path, directory, length) == 0 && path[length] == '/' ? path + length + 1 : path;
}

static void say_which(const struct reading *reading, size_t processes)
{
    const struct profile_process *process = &reading->profile->process;
    struct strbuf command = STRBUF_INIT;
    plain_cut_middle(&command, *process->command ? process->command : process->exe, 60);
    fprintf(stderr, "heapmark: %zu processes were recorded; the largest was %" PRIu32 ", %s\n", processes, process->pid,
            command.text);
    strbuf_free(&command);
}

static void say_recording(const struct recordings *recordings, const char *path)
{
    struct reading reading;
    struct read_error error;
    struct symbolizer_options symbols = {0};
    struct report_options summary = { .width = command_width(STDERR_FILENO), .symbols = &symbols,
                                      .color = command_color(STDERR_FILENO) };
    struct strbuf name = STRBUF_INIT;
    if (!reading_open(&reading, path, &error)) {
        command_bad("run", "%s", error.sentence);
        return;
    }
    size_t processes = recordings_processes(recordings);
    if (processes > 1)
        say_which(&reading, processes);
    fputs("heapmark: ", stderr);
    report_summary(&reading.report, &summary, stderr);
    plain_put(&name, short_path(path));
    fprintf(stderr, "recording: %s     heapmark report %s\n", name.text, name.text);
    strbuf_free(&name);
    reading_close(&reading);
}

static void say_gathered(size_t count, const char *folder)
{
    struct strbuf name = STRBUF_INIT;
    plain_put(&name, short_path(folder));
    fprintf(stderr, "heapmark: %zu recording%s of small processes %s moved into %s/\n", count, count == 1 ? "" : "s",
            count == 1 ? "was" : "were", name.text);
    strbuf_free(&name);
}

static void say_trims(const struct trimmer *trimmer)
{
    struct trimmer_sum sum = trimmer_sum(trimmer);
    char count[UNITS_BYTES], size[UNITS_BYTES], time[UNITS_BYTES];
    if (sum.trims == 0)
        fputs("heapmark: no trim was due\n", stderr);
    else
        fprintf(stderr, "heapmark: %s trim%s gave back %s in all and took %s\n", units_count(count, (int64_t)sum.trims),
                sum.trims == 1 ? "" : "s", units_size(size, (int64_t)sum.returned_bytes), units_duration(time, sum.took_ns));
}

/* The report goes where the summary goes: standard output is the program's. */
static void print_report(const char *path)
{
    char *arguments[] = { (char *)"report", (char *)"--", (char *)path, NULL };
    int output = dup(STDOUT_FILENO);
    fflush(stdout);
    optind = 0;             /* getopt starts anew */
    if (output >= 0 && dup2(STDERR_FILENO, STDOUT_FILENO) >= 0) {
        cmd_report(3, arguments);
        fflush(stdout);
        dup2(output, STDOUT_FILENO);
    }
    close(output);
}

static void finish(const struct run *run, const struct launch *launch)
{
    struct recordings recordings;
    recordings_find(&recordings, run->preload.pattern, launch->pid, run->start_realtime_ns);
    const struct recording_found *main = recordings_largest(&recordings);
    char *folder = NULL;
    size_t gathered = 0;
    if (main && (run->gather == GATHER || (run->gather == GATHER_DEFAULT && run->preload.by_default)))
        gathered = recordings_gather(&recordings, main, &folder);
    if (!main)
        fputs("heapmark: no recording was made\n", stderr);
    else if (run->report)
        print_report(main->path);
    else if (!run->quiet)
        say_recording(&recordings, main->path);
    if (main && run->trimmer && !run->quiet)
        say_trims(run->trimmer);
    if (gathered && !run->quiet)
        say_gathered(gathered, folder);
    free(folder);
    recordings_free(&recordings);
}

/* ---- the start ---------------------------------------------------------------------------------- */

static int say_failure(const char *sentence, int status)
{
    command_bad("run", "%s", sentence);
    return status;
}

static int status_of_verdict(enum target_verdict verdict)
{
    switch (verdict) {
    case TARGET_NOT_FOUND: return EXIT_NOT_FOUND;
    case TARGET_NOT_RUNNABLE: return EXIT_NOT_RUNNABLE;
    default: return EXIT_OWN;
    }
}

static uint64_t step_trimmer(void *trimmer, pid_t pid)
{
    return trimmer_step(trimmer, pid);
}

static int launch(struct run *run, const struct target *target, char **argv)
{
    struct launch child;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    run->start_realtime_ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
    const struct launch_company company = { .step = step_trimmer, .context = run->trimmer };
    launch_and_wait(&child, target->path, argv, target->verdict == TARGET_HOSTILE ? NULL : &run->preload,
                    run->trimmer ? &company : NULL);
    if (child.failed) {
        command_bad("run", "cannot run %s: %s", target->path, strerror(child.failed));
        return child.pid < 0 ? EXIT_OWN : child.failed == ENOENT ? EXIT_NOT_FOUND : EXIT_NOT_RUNNABLE;
    }
    if (target->verdict == TARGET_FINE)
        finish(run, &child);
    return child.status;
}

static int inspect_and_launch(struct run *run, char **argv)
{
    struct target target;
    struct fail why;
    int status;
    target_inspect(&target, argv[0]);
    bool unrecordable = target.verdict == TARGET_DEAF || target.verdict == TARGET_HOSTILE;
    if (target.verdict != TARGET_FINE && !(unrecordable && run->force))
        status = say_failure(target.why.text, status_of_verdict(target.verdict));
    else if (!preload_find(&run->preload, &run->request, &why))
        status = say_failure(why.text, EXIT_OWN);
    else
        status = launch(run, &target, argv);
    target_free(&target);
    return status;
}

int cmd_run(int argc, char **argv)
{
    struct run run = {0};
    int stopped = read_options(&run, argc, argv);
    int status = EXIT_OWN;
    if (stopped == OPTION_HELP)
        status = command_help(help);
    else if (!stopped && optind == argc)
        command_misused("run", "no command given");
    else if (!stopped)
        status = inspect_and_launch(&run, argv + optind);
    trimmer_free(run.trimmer);
    preload_free(&run.preload);
    preload_request_free(&run.request);
    return status;
}
