/* SPDX-License-Identifier: MIT */
#include "cli/command.h"

#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define WIDTH_DEFAULT 100
#define WIDTH_MIN 80
#define WIDTH_MAX 160

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

bool command_seconds(const char *text, uint64_t *ns)
{
    uint64_t whole = 0, fraction = 0, unit = 1000000000;
    bool digits = false;
    for (; *text >= '0' && *text <= '9' && whole <= 86400; text++, digits = true)
        whole = whole * 10 + (uint64_t)(*text - '0');
    if (*text == '.')
        for (text++; *text >= '0' && *text <= '9'; text++, digits = true)
            fraction += (uint64_t)(*text - '0') * (unit /= 10);
    *ns = whole * 1000000000 + fraction;
    return digits && *text == 0 && *ns <= UINT64_C(86400) * 1000000000;
}

unsigned command_width(int fd)
{
    struct winsize size;
    uint64_t columns = 0;
    const char *variable = getenv("COLUMNS");
    if (isatty(fd) && ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_col != 0)
        columns = size.ws_col;
    else if (!variable || !command_number(variable, 10000, &columns))
        columns = WIDTH_DEFAULT;
    return columns < WIDTH_MIN ? WIDTH_MIN : columns > WIDTH_MAX ? WIDTH_MAX : (unsigned)columns;
}

bool command_color(int fd)
{
    const char *none = getenv("NO_COLOR"), *terminal = getenv("TERM");
    return isatty(fd) && (!none || !*none) && (!terminal || strcmp(terminal, "dumb") != 0);
}
