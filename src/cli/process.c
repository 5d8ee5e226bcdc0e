/* SPDX-License-Identifier: MIT */
#include "cli/process.h"

#include "base/strbuf.h"
#include "contract/format.h"
#include "viewer/plain.h"
#include <dirent.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

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

bool process_wrote(pid_t pid, const struct hmk_header *header)
{
    struct process_facts facts;
    uint64_t ticks;
    return start_ticks((uint32_t)pid, &ticks) && ticks == header->process_start_ticks && process_facts(pid, 0, &facts) &&
           (uint32_t)facts.own_pid == header->pid;
}

/* "NSpid:  4711  12" lists the numbers from our namespace inwards. */
static pid_t last_number(const char *line)
{
    const char *last = line;
    for (const char *at = line; *at; at++)
        if ((*at == ' ' || *at == '\t') && at[1] >= '0' && at[1] <= '9')
            last = at + 1;
    return (pid_t)strtol(last, NULL, 10);
}

bool process_facts(pid_t pid, pid_t tid, struct process_facts *facts)
{
    char path[64], line[1024];
    *facts = (struct process_facts){ .own_pid = pid };
    snprintf(path, sizeof path, "/proc/%d/task/%d/status", (int)pid, (int)(tid ? tid : pid));
    FILE *file = fopen(path, "re");
    if (!file)
        return false;
    while (fgets(line, sizeof line, file)) {
        const char *value = strchr(line, ':');
        if (!value)
            continue;
        value++;
        if (strncmp(line, "State:", 6) == 0)
            facts->state = value[strspn(value, " \t")];
        else if (strncmp(line, "TracerPid:", 10) == 0)
            facts->tracer = (pid_t)strtol(value, NULL, 10);
        else if (strncmp(line, "Uid:", 4) == 0)
            facts->uid = (uid_t)strtoul(value, NULL, 10);
        else if (strncmp(line, "NStgid:", 7) == 0)
            facts->own_pid = last_number(value);
        else if (strncmp(line, "SigPnd:", 7) == 0)
            facts->pending = strtoull(value, NULL, 16);
        else if (strncmp(line, "SigBlk:", 7) == 0)
            facts->blocked = strtoull(value, NULL, 16);
        else if (strncmp(line, "SigCgt:", 7) == 0)
            facts->caught = strtoull(value, NULL, 16);
    }
    fclose(file);
    return facts->state != 0;
}

void process_waits_in(pid_t pid, pid_t tid, char *function, size_t bytes)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/task/%d/wchan", (int)pid, (int)tid);
    if (!read_line(path, function, (int)bytes) || strcmp(function, "0") == 0)
        function[0] = 0;
}

uint64_t process_rss_bytes(pid_t pid)
{
    char path[64], line[256];
    snprintf(path, sizeof path, "/proc/%d/statm", (int)pid);
    const char *second = read_line(path, line, sizeof line) ? strchr(line, ' ') : NULL;
    return second ? strtoull(second, NULL, 10) * (uint64_t)sysconf(_SC_PAGESIZE) : 0;
}

void process_exe(pid_t pid, struct strbuf *exe)
{
    char path[64], name[PATH_MAX];
    snprintf(path, sizeof path, "/proc/%d/exe", (int)pid);
    ssize_t length = readlink(path, name, sizeof name);
    if (length > 0)
        strbuf_put_n(exe, name, (size_t)length);
}

void process_name(pid_t pid, struct strbuf *name)
{
    char path[64], line[64];
    snprintf(path, sizeof path, "/proc/%d/comm", (int)pid);
    if (!read_line(path, line, sizeof line))
        return;
    line[strcspn(line, "\n")] = 0;
    plain_put(name, line);
}

static void each_number(const char *path, bool (*visit)(pid_t number, void *context), void *context)
{
    DIR *directory = opendir(path);
    if (!directory)
        return;
    for (struct dirent *entry; (entry = readdir(directory)) != NULL;)
        if (entry->d_name[0] >= '1' && entry->d_name[0] <= '9' &&
            !visit((pid_t)strtol(entry->d_name, NULL, 10), context))
            break;
    closedir(directory);
}

void process_each(bool (*visit)(pid_t pid, void *context), void *context)
{
    each_number("/proc", visit, context);
}

void process_each_thread(pid_t pid, bool (*visit)(pid_t tid, void *context), void *context)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/task", (int)pid);
    each_number(path, visit, context);
}
