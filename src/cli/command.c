/* SPDX-License-Identifier: MIT */
#include "cli/command.h"

#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

static void complain(const char *verb, const char *format, va_list arguments)
{
    fflush(stdout);
    fprintf(stderr, "heapmark %s: ", verb);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
}

int command_bad(const char *verb, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    complain(verb, format, arguments);
    va_end(arguments);
    return COMMAND_BAD;
}

int command_misused(const char *verb, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    complain(verb, format, arguments);
    va_end(arguments);
    fprintf(stderr, "Try 'heapmark %s --help'.\n", verb);
    return COMMAND_BAD;
}

int command_option(int argc, char **argv, const char *shorts, const struct option *options)
{
    opterr = 0;
    int option = getopt_long(argc, argv, shorts, options, NULL);
    if (option == ':') {
        command_misused(argv[0], "option '%s' needs a value", argv[optind - 1]);
        return '?';
    }
    if (option == '?' && optopt > 0 && optopt < 128 && argv[optind - 1][1] != '-')
        command_misused(argv[0], "there is no option '-%c'", optopt);
    else if (option == '?')
        command_misused(argv[0], "there is no option '%s', or it takes no value", argv[optind - 1]);
    return option;
}

int command_help(const char *text)
{
    fputs(text, stdout);
    return COMMAND_OK;
}

bool command_number(const char *text, uint64_t limit, uint64_t *value)
{
    char *end;
    errno = 0;
    if (*text < '0' || *text > '9')
        return false;
    unsigned long long number = strtoull(text, &end, 10);
    if (errno != 0 || *end != 0 || number > limit)
        return false;
    *value = number;
    return true;
}
