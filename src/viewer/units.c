/* SPDX-License-Identifier: MIT */
#include "viewer/units.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

char *units_size(char *buffer, int64_t bytes)
{
    static const char *const names[] = { "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
    double value = (double)bytes;
    double magnitude = value < 0 ? -value : value;
    unsigned unit = 0;

    if (magnitude < 1024) {
        snprintf(buffer, UNITS_BYTES, "%" PRId64 " B", bytes);
        return buffer;
    }
    value /= 1024;
    magnitude /= 1024;
    /* 1023.95 would be printed as 1024.0 */
    while (magnitude >= 1023.95 && unit + 1 < sizeof names / sizeof *names) {
        value /= 1024;
        magnitude /= 1024;
        unit++;
    }
    snprintf(buffer, UNITS_BYTES, unit >= 2 && magnitude < 99.995 ? "%.2f %s" : "%.1f %s", value, names[unit]);
    return buffer;
}

char *units_count(char *buffer, int64_t count)
{
    char digits[UNITS_BYTES];
    uint64_t magnitude = count < 0 ? 0 - (uint64_t)count : (uint64_t)count;
    int length = snprintf(digits, sizeof digits, "%" PRIu64, magnitude);
    char *out = buffer;

    if (count < 0)
        *out++ = '-';
    for (int i = 0; i < length; i++) {
        if (i > 0 && (length - i) % 3 == 0)
            *out++ = ',';
        *out++ = digits[i];
    }
    *out = 0;
    return buffer;
}

char *units_counted(char *buffer, int64_t count, const char *noun)
{
    char digits[UNITS_BYTES];
    snprintf(buffer, UNITS_BYTES, "%.27s %.15s%s", units_count(digits, count), noun, count == 1 ? "" : "s");
    return buffer;
}

char *units_duration(char *buffer, uint64_t ns)
{
    uint64_t seconds = ns / 1000000000u + (ns % 1000000000u >= 500000000u);
    if (ns < 1000000)
        snprintf(buffer, UNITS_BYTES, "%" PRIu64 " us", ns / 1000);
    else if (ns < 999500000)
        snprintf(buffer, UNITS_BYTES, "%" PRIu64 " ms", (ns + 500000) / 1000000);
    else if (ns < 99950000000)
        snprintf(buffer, UNITS_BYTES, "%.1f s", (double)ns / 1e9);
    else if (seconds < 3600)
        snprintf(buffer, UNITS_BYTES, "%" PRIu64 " min %02u s", seconds / 60, (unsigned)(seconds % 60));
    else
        snprintf(buffer, UNITS_BYTES, "%" PRIu64 " h %02u min", seconds / 3600, (unsigned)(seconds / 60 % 60));
    return buffer;
}

char *units_elapsed(char *buffer, uint64_t ns)
{
    uint64_t seconds = ns / 1000000000u;
    unsigned minutes = (unsigned)(seconds / 60 % 60), rest = (unsigned)(seconds % 60);
    if (ns < 99950000000)
        return units_duration(buffer, ns);
    if (seconds < 3600)
        snprintf(buffer, UNITS_BYTES, "%u:%02u", minutes, rest);
    else
        snprintf(buffer, UNITS_BYTES, "%" PRIu64 ":%02u:%02u", seconds / 3600, minutes, rest);
    return buffer;
}

char *units_percent(char *buffer, int64_t part, int64_t whole)
{
    if (whole <= 0) {
        memcpy(buffer, "-", 2);
        return buffer;
    }
    double percent = 100.0 * (double)part / (double)whole;
    if (part == 0)
        memcpy(buffer, "0 %", 4);
    else if (percent > -0.1 && percent < 0.1)
        memcpy(buffer, "<0.1 %", 7);
    else
        snprintf(buffer, UNITS_BYTES, percent < 9.95 && percent > -9.95 ? "%.1f %%" : "%.0f %%", percent);
    return buffer;
}

static char *format_time(char *buffer, uint64_t realtime_ns, const char *format)
{
    time_t seconds = (time_t)(realtime_ns / 1000000000u);
    struct tm parts;
    if (!localtime_r(&seconds, &parts) || strftime(buffer, UNITS_BYTES, format, &parts) == 0)
        memcpy(buffer, "?", 2);
    return buffer;
}

char *units_clock(char *buffer, uint64_t realtime_ns)
{
    return format_time(buffer, realtime_ns, "%H:%M:%S");
}

char *units_date(char *buffer, uint64_t realtime_ns)
{
    return format_time(buffer, realtime_ns, "%Y-%m-%d %H:%M:%S");
}

char *units_error(char *buffer, double error, bool size)
{
    char text[UNITS_BYTES];
    int64_t rounded = error < 9e18 ? (int64_t)(error + 0.5) : INT64_MAX;
    if (size)
        units_size(text, rounded);
    else
        units_count(text, rounded);
    snprintf(buffer, UNITS_BYTES, "+-%.*s", UNITS_BYTES - 3, text);
    return buffer;
}
