/* SPDX-License-Identifier: MIT */
#include "cli/command.h"

#include "config.h"
#include <errno.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* In the order in which --help lists them. */
static const struct command commands[] = {
    { "run", cmd_run, "run a program and record its memory" },
    { "env", cmd_env, "the lines that do so without run: shell, Docker, systemd, Kubernetes" },
    { "report", cmd_report, "why memory is what it is: verdict, ledger, top sites" },
    { "ps", cmd_ps, "the processes that are being recorded" },
    { "trim", cmd_trim, "make a running process give back what it freed; what came, what stayed and why" },
    { "mark", cmd_mark, "name this instant in a running process's recording" },
    { "snapshot", cmd_snapshot, "take the ledger of a running process now" },
    { "info", cmd_info, "what a recording is, whether it is complete, what was lost" },
    { "dump", cmd_dump, "every record of a recording, plainly" },
};
#define COMMAND_COUNT (sizeof commands / sizeof *commands)

static int help(void)
{
    puts("heapmark: where the memory of a program is, who made its high-water mark, and why freed memory stays\n\n"
         "Usage: heapmark VERB [OPTION]... [ARGUMENT]...\n");
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        printf("  %-9s %s\n", commands[i].name, commands[i].summary);
    puts("\nExamples:\n"
         "  heapmark run -- python3 report.py         record a program, then print its report\n"
         "  heapmark report heapmark.python3.4711.hmk what it used, and what it still holds\n"
         "  heapmark report --sort peak -n 5 FILE     the five call sites that made the peak\n"
         "  heapmark info FILE                        is this recording complete?\n\n"
         "'heapmark VERB --help' shows a verb's options; heapmark(1) has everything.\n"
         "Exit status: 0 fine, 2 bad usage or input; 'run' passes on its program's.");
    return COMMAND_OK;
}

/* Edits that turn a into b: insert, remove, replace, swap neighbours. */
static unsigned edit_distance(const char *a, const char *b)
{
    enum { LONGEST = 24 };
    unsigned row[3][LONGEST + 1];
    size_t a_length = strlen(a), b_length = strlen(b);

    if (a_length > LONGEST || b_length > LONGEST)
        return LONGEST;
    for (unsigned j = 0; j <= b_length; j++)
        row[0][j] = j;
    for (unsigned i = 1; i <= a_length; i++) {
        unsigned *now = row[i % 3], *last = row[(i + 2) % 3], *before = row[(i + 1) % 3];
        now[0] = i;
        for (unsigned j = 1; j <= b_length; j++) {
            unsigned best = last[j - 1] + (a[i - 1] != b[j - 1]);
            if (last[j] + 1 < best)
                best = last[j] + 1;
            if (now[j - 1] + 1 < best)
                best = now[j - 1] + 1;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && before[j - 2] + 1 < best)
                best = before[j - 2] + 1;
            now[j] = best;
        }
    }
    return row[a_length % 3][b_length];
}

static int unknown(const char *word)
{
    const char *nearest = NULL;
    unsigned best = 3;

    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        unsigned distance = edit_distance(word, commands[i].name);
        /* "rep" for report: what was typed begins the verb. */
        if (strlen(word) >= 2 && strncmp(word, commands[i].name, strlen(word)) == 0)
            distance = 0;
        if (distance < best && distance < strlen(commands[i].name)) {
            best = distance;
            nearest = commands[i].name;
        }
    }
    if (nearest)
        fprintf(stderr, "heapmark: there is no verb '%s'. Did you mean '%s'?\n", word, nearest);
    else
        fprintf(stderr, "heapmark: there is no verb '%s'. 'heapmark --help' lists them.\n", word);
    return COMMAND_BAD;
}

/* A report that could not be written in full must not look like success. */
static int finish(int status)
{
    if (ferror(stdout) || fflush(stdout) != 0) {
        if (errno != EPIPE)
            fprintf(stderr, "heapmark: cannot write to standard output: %s\n", strerror(errno));
        return COMMAND_BAD;
    }
    return status;
}

static const struct command *find(const char *name)
{
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        if (strcmp(commands[i].name, name) == 0)
            return &commands[i];
    return NULL;
}

int main(int argc, char **argv)
{
    setlocale(LC_CTYPE, "");
    if (argc < 2) {
        fputs("heapmark: no verb given. 'heapmark --help' lists them.\n", stderr);
        return COMMAND_BAD;
    }
    const char *word = argv[1];
    if (strcmp(word, "--version") == 0 || strcmp(word, "-V") == 0) {
        puts(PACKAGE_STRING);
        return finish(COMMAND_OK);
    }
    bool asks_help = strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0 || strcmp(word, "help") == 0;
    if (asks_help && argc == 2)
        return finish(help());
    /* "heapmark help VERB" is "heapmark VERB --help". */
    const struct command *command = find(asks_help ? argv[2] : word);
    if (!command)
        return unknown(asks_help ? argv[2] : word);
    if (asks_help)
        return finish(command->run(2, (char *[]){ argv[2], (char *)"--help", NULL }));
    return finish(command->run(argc - 1, argv + 1));
}
