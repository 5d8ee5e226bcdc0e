/* SPDX-License-Identifier: MIT */
#include "base/fail.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static void put(struct fail *why, const char *format, va_list arguments, const char *reason)
{
    struct fail fresh;      /* the arguments may point into *why */
    int used = vsnprintf(fresh.text, sizeof fresh.text, format, arguments);
    if (reason && used >= 0 && (size_t)used < sizeof fresh.text)
        snprintf(fresh.text + used, sizeof fresh.text - (size_t)used, ": %s", reason);
    *why = fresh;
}

bool fail_say(struct fail *why, const char *format, ...)
{
    if (why) {
        va_list arguments;
        va_start(arguments, format);
        put(why, format, arguments, NULL);
        va_end(arguments);
    }
    return false;
}

bool fail_errno(struct fail *why, const char *format, ...)
{
    int code = errno;
    if (why) {
        va_list arguments;
        va_start(arguments, format);
        put(why, format, arguments, strerror(code));
        va_end(arguments);
    }
    return false;
}
