/* SPDX-License-Identifier: MIT */
#include "census/areas.h"

#include "census/residency.h"
#include "census/scratch.h"
#include <fcntl.h>
#include <linux/ioctl.h>
#include <string.h>
#include "freestanding/sys.h"
#include "freestanding/text.h"
#include "freestanding/banned.h"

#define BUFFER_BYTES 8192u      /* the kernel writes no more than a page at once */
#define FIRST_CAPACITY 1024u
#define LINE_BYTES 512u         /* longer lines are long paths, whose ends do not matter */

/* ioctl PAGEMAP_SCAN of Linux 6.7, which headers do not have yet: what the page tables hold, as runs of pages of one kind. */
struct scan_run {
    uint64_t start, end, kind;
};
struct scan_request {
    uint64_t bytes, flags, start, end, walk_end, to, room, most, inverted, all_of, any_of, told;
};
#define SCAN _IOWR('f', 16, struct scan_request)
#define SCAN_PRESENT (UINT64_C(1) << 3)
#define SCAN_SWAPPED (UINT64_C(1) << 4)
#define SCAN_ZEROS (UINT64_C(1) << 5)
#define SCAN_HUGE (UINT64_C(1) << 6)
#define SCAN_RUNS 1024

struct reader {
    struct areas *areas;
    size_t capacity;
    char *line;
    size_t line_used;
    bool full;
};

static bool has_suffix_name(const char *path, const char *prefix)
{
    const char *name = path;
    for (const char *at = path; *at; at++)
        if (*at == '/')
            name = at + 1;
    return text_starts(name, prefix);
}

static uint32_t flags_of_path(const char *path, bool has_inode)
{
    if (path[0] == 0 || text_starts(path, "[anon:"))
        return 0;
    if (path[0] == '[') {
        if (text_equal(path, "[heap]"))
            return AREA_HEAP;
        if (text_starts(path, "[stack"))
            return AREA_STACK;
        if (text_starts(path, "[anon_shmem"))
            return AREA_SHMEM;
        return AREA_KERNEL;
    }
    if (text_starts(path, "/memfd:") || text_starts(path, "/SYSV") || text_starts(path, "/dev/zero") ||
        text_starts(path, "/dev/shm/"))
        return AREA_SHMEM;
    if (has_suffix_name(path, "libheapmark"))
        return AREA_FILE | AREA_OWN_LIBRARY;
    return has_inode ? AREA_FILE : 0;
}

static const char *skip_field(const char *at)
{
    while (*at && *at != ' ')
        at++;
    while (*at == ' ')
        at++;
    return at;
}

/* 7f12a000-7f12b000 rw-p 00000000 fe:00 247134    /path */
static bool parse_head(const char *line, struct area *area)
{
    const char *at;
    uint64_t start, end;
    if (!text_parse_hex(line, &at, &start) || *at != '-' || !text_parse_hex(at + 1, &at, &end) || *at != ' ')
        return false;
    memset(area, 0, sizeof(*area));
    area->start = start;
    area->end = end;
    at++;
    if (text_length(at) < 5)
        return false;
    area->flags = (at[0] == 'r' ? AREA_READ : 0u) | (at[1] == 'w' ? AREA_WRITE : 0u) | (at[2] == 'x' ? AREA_EXEC : 0u) |
        (at[3] == 's' ? AREA_SHARED : 0u);
    at = skip_field(skip_field(skip_field(at)));
    bool has_inode = *at != '0';
    area->flags |= flags_of_path(skip_field(at), has_inode);
    return true;
}

static bool field_kib(const char *line, const char *name, uint64_t *bytes)
{
    if (!text_starts(line, name))
        return false;
    const char *at = line + text_length(name), *end;
    while (*at == ' ')
        at++;
    uint64_t kib;
    if (text_parse_size(at, &end, &kib))
        *bytes = kib * 1024;
    return true;
}

/* VmFlags: rd wr mr mw me dc ac wf */
static uint32_t flags_of_kernel(const char *line)
{
    uint32_t flags = 0;
    for (const char *at = skip_field(line); *at; at = skip_field(at))
        flags |= text_starts(at, "wf") ? AREA_WIPED : text_starts(at, "dc") ? AREA_LEFT_OUT : 0;
    return flags;
}

static void lower(uint64_t *bytes, uint64_t limit)
{
    if (*bytes > limit)
        *bytes = limit;
}

/* The kernel goes on from the address at which the last piece of the list ended.  What grew or was joined with its
 * neighbour in between is listed again, from its start: the later line is right, and the areas in it go. */
static void make_way(struct areas *areas, uintptr_t start)
{
    while (areas->count && areas->list[areas->count - 1].start >= start)
        areas->count--;
    struct area *last = areas->count ? &areas->list[areas->count - 1] : NULL;
    if (!last || last->end <= start)
        return;
    last->end = start;
    lower(&last->rss_bytes, residency_count(last->start, start));
    lower(&last->anonymous_bytes, last->rss_bytes);
    lower(&last->huge_bytes, last->rss_bytes);
}

static void take_head(struct reader *reader)
{
    struct areas *areas = reader->areas;
    struct area area;
    if (!parse_head(reader->line, &area))
        return;
    make_way(areas, area.start);
    if (areas->count == reader->capacity)
        reader->full = true;
    else
        areas->list[areas->count++] = area;
}

static void take_line(struct reader *reader)
{
    const char *line = reader->line;
    struct areas *areas = reader->areas;
    bool is_field = line[0] >= 'A' && line[0] <= 'Z';
    if (!is_field) {
        take_head(reader);
        return;
    }
    if (areas->count == 0 || reader->full)
        return;
    struct area *area = &areas->list[areas->count - 1];
    if (text_starts(line, "VmFlags:"))
        area->flags |= flags_of_kernel(line);
    else if (!field_kib(line, "Rss:", &area->rss_bytes) && !field_kib(line, "Anonymous:", &area->anonymous_bytes) &&
        !field_kib(line, "AnonHugePages:", &area->huge_bytes))
        field_kib(line, "Swap:", &area->swap_bytes);
}

static void take_bytes(struct reader *reader, const char *bytes, size_t count)
{
    while (count > 0) {
        size_t piece = 0;
        while (piece < count && bytes[piece] != '\n')
            piece++;
        size_t room = LINE_BYTES - 1 - reader->line_used;
        size_t kept = piece < room ? piece : room;
        memcpy(reader->line + reader->line_used, bytes, kept);
        reader->line_used += kept;
        if (piece == count)
            return;
        reader->line[reader->line_used] = 0;
        take_line(reader);
        reader->line_used = 0;
        bytes += piece + 1;
        count -= piece + 1;
    }
}

static bool read_once(struct areas *areas, const char *path, size_t capacity, char *buffer, bool *full)
{
    struct reader reader = { .areas = areas, .capacity = capacity, .line = buffer + BUFFER_BYTES };
    areas->count = 0;
    int fd = sys_open(path, O_RDONLY, 0);
    if (fd < 0)
        return false;
    long got;
    while ((got = sys_read(fd, buffer, BUFFER_BYTES)) > 0 && !reader.full)
        take_bytes(&reader, buffer, (size_t)got);
    sys_close(fd);
    *full = reader.full;
    return got >= 0;
}

bool areas_read_file(struct areas *areas, const char *path, struct scratch *scratch)
{
    char *buffer = scratch_alloc(scratch, BUFFER_BYTES + LINE_BYTES);
    if (!buffer)
        return false;
    /* All memory is touched before the list is read, so that reading it does not change what it says. */
    memset(buffer, 1, BUFFER_BYTES + LINE_BYTES);
    for (size_t capacity = FIRST_CAPACITY; capacity <= 1u << 20; capacity *= 4) {
        bool full;
        areas->list = scratch_alloc(scratch, capacity * sizeof(struct area));
        if (!areas->list)
            return false;
        memset(areas->list, 1, capacity * sizeof(struct area));
        if (!read_once(areas, path, capacity, buffer, &full))
            return false;
        if (!full)
            return areas->count > 0;
    }
    return false;
}

bool areas_read(struct areas *areas, struct scratch *scratch)
{
    return areas_read_file(areas, "/proc/thread-self/smaps", scratch);
}

/* ---- by the page tables --------------------------------------------------------------------------- */

/* Runs come in order of their addresses; *next is the first area that does not end below them. */
static void count_run(struct areas *areas, size_t *next, const struct scan_run *run)
{
    while (*next < areas->count && areas->list[*next].end <= run->start)
        ++*next;
    for (size_t i = *next; i < areas->count && areas->list[i].start < run->end; i++) {
        struct area *area = &areas->list[i];
        uintptr_t from = run->start > area->start ? run->start : area->start;
        uintptr_t to = run->end < area->end ? run->end : area->end;
        if (run->kind & SCAN_PRESENT)
            area->rss_bytes += to - from;
        else
            area->swap_bytes += to - from;
    }
}

/* Of [from, to); how many runs were found, negative: there is no such call.  With fewer than there is room for, that is all.  What
 * the kernel says about where it stopped is wrong when it needed more than one of its own buffers. */
static long ask(int pagemap, uintptr_t from, uintptr_t to, struct scan_run *runs)
{
    struct scan_request request = {
        .bytes = sizeof(request), .start = from, .end = to, .to = (uintptr_t)runs, .room = SCAN_RUNS,
        .any_of = SCAN_PRESENT | SCAN_SWAPPED, .told = SCAN_PRESENT | SCAN_SWAPPED | SCAN_ZEROS | SCAN_HUGE,
    };
    return sys_ioctl(pagemap, SCAN, &request);
}

/* False where there are huge pages: the kernel's RSS counts some of them and some not. */
static bool scan(struct areas *areas, int pagemap, struct scan_run *runs)
{
    uintptr_t at = 0, end = 0;
    size_t next = 0;
    for (size_t i = 0; i < areas->count; i++)
        if (areas->list[i].end <= INTPTR_MAX)       /* [vsyscall] is the kernel's */
            end = areas->list[i].end;
    while (at < end) {
        long count = ask(pagemap, at, end, runs);
        if (count < 0)
            return false;
        for (long i = 0; i < count; i++) {
            if (runs[i].kind & SCAN_HUGE)
                return false;
            if (!(runs[i].kind & SCAN_ZEROS))
                count_run(areas, &next, &runs[i]);
        }
        at = count < SCAN_RUNS ? end : runs[count - 1].end;
    }
    return true;
}

bool areas_read_sums(struct areas *areas, struct scratch *scratch)
{
    struct scan_run *runs = scratch_alloc(scratch, SCAN_RUNS * sizeof(*runs));
    int pagemap = sys_open("/proc/thread-self/pagemap", O_RDONLY, 0);
    bool done = false;
    if (runs && pagemap >= 0) {
        memset(runs, 1, SCAN_RUNS * sizeof(*runs));
        done = ask(pagemap, 0, sys_page_bytes(), runs) >= 0 &&
            areas_read_file(areas, "/proc/thread-self/maps", scratch) && scan(areas, pagemap, runs);
    }
    if (pagemap >= 0)
        sys_close(pagemap);
    return done || areas_read(areas, scratch);
}

struct area *areas_from(const struct areas *areas, uintptr_t address)
{
    size_t low = 0, high = areas->count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (areas->list[middle].end <= address)
            low = middle + 1;
        else
            high = middle;
    }
    return low < areas->count ? &areas->list[low] : NULL;
}
