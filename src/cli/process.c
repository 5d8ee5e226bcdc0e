/* SPDX-License-Identifier: MIT */
#include "cli/process.h"

#include "contract/format.h"
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The first line of a small file; false: it cannot be read. */
static bool read_line(const char *path, char *line, int bytes)
{
    FILE *file = fopen(path, "re");
    if (!file)
        return false;
    bool read = fgets(line, bytes, file) != NULL;
    fclose(file);
    return read;
}

/* The boot id's 32 hexadecimal digits as two numbers. */
static bool boot_id(uint64_t id[2])
{
    char line[64], digits[33];
    unsigned count = 0;

    if (!read_line("/proc/sys/kernel/random/boot_id", line, sizeof line))
        return false;
    for (const char *c = line; *c && count < 32; c++)
        if (strchr("0123456789abcdef", *c))
            digits[count++] = *c;
    digits[count] = 0;
    if (count != 32)
        return false;
    id[1] = strtoull(digits + 16, NULL, 16);
    digits[16] = 0;
    id[0] = strtoull(digits, NULL, 16);
    return true;
}

/* Field 22 of /proc/PID/stat; the name in field 2 may hold anything, so count from its closing parenthesis. */
static bool start_ticks(uint32_t pid, uint64_t *ticks)
{
    char path[64], line[1024];
    snprintf(path, sizeof path, "/proc/%" PRIu32 "/stat", pid);
    if (!read_line(path, line, sizeof line))
        return false;
    const char *at = strrchr(line, ')');
    for (int field = 2; at && field < 22; field++)
        at = strchr(at + 1, ' ');
    /* The state stands right behind the name: a zombie has ended. */
    const char *name_end = strrchr(line, ')');
    if (!at || !name_end || name_end[1] == 0 || name_end[2] == 'Z' || name_end[2] == 'X')
        return false;
    *ticks = strtoull(at, NULL, 10);
    return true;
}

uint64_t process_rss(uint32_t pid)
{
    char path[64], line[256];
    unsigned long long kib = 0;
    snprintf(path, sizeof path, "/proc/%" PRIu32 "/status", pid);
    FILE *file = fopen(path, "re");
    while (file && fgets(line, sizeof line, file))
        if (sscanf(line, "VmRSS: %llu kB", &kib) == 1)
            break;
    if (file)
        fclose(file);
    return kib * 1024;
}

enum process_life process_life(const struct hmk_header *header)
{
    uint64_t here[2], ticks;
    bool recorded = header->boot_id[0] != 0 || header->boot_id[1] != 0;

    if (recorded && boot_id(here) && memcmp(here, header->boot_id, sizeof here) != 0)
        return PROCESS_UNKNOWN;
    if (!start_ticks(header->pid, &ticks) || ticks != header->process_start_ticks)
        return PROCESS_GONE;
    return PROCESS_ALIVE;
}
