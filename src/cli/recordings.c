/* SPDX-License-Identifier: MIT */
#include "cli/recordings.h"

#include "base/strbuf.h"
#include "contract/format.h"
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

/* What the pattern may have become: any text for its letters, and on a clash ".1", ".2" behind it or before its
 * ".hmk". */
static char *glob_of(const char *pattern)
{
    struct strbuf text = STRBUF_INIT;
    size_t length = strlen(pattern);
    if (length > 4 && strcmp(pattern + length - 4, ".hmk") == 0)
        length -= 4;
    for (const char *at = pattern; at < pattern + length; at++) {
        if (at[0] == '%' && at[1] && at[1] != '%') {
            strbuf_char(&text, '*');
            const char *brace = at[1] == 'q' && at[2] == '{' ? strchr(at, '}') : NULL;
            at = brace ? brace : at + 1;
            continue;
        }
        at += at[0] == '%' && at[1] == '%';
        if (strchr("*?[\\", *at))
            strbuf_char(&text, '\\');
        strbuf_char(&text, *at);
    }
    strbuf_char(&text, '*');
    return strbuf_take(&text);
}

static bool read_pages(const char *path, struct hmk_header *header, struct hmk_live *live, uint64_t *file_bytes)
{
    struct stat status;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return false;
    bool good = fstat(fd, &status) == 0 && S_ISREG(status.st_mode)
                && pread(fd, header, sizeof *header, 0) == (ssize_t)sizeof *header
                && pread(fd, live, sizeof *live, HMK_LIVE_OFFSET) == (ssize_t)sizeof *live
                && memcmp(header->magic, HMK_MAGIC, sizeof header->magic) == 0;
    *file_bytes = good ? (uint64_t)status.st_size : 0;
    close(fd);
    return good;
}

/* As of a shell, of what it starts to find something out, or of a launcher. */
#define SMALL_HEAP_BYTES (1 << 20)
#define SMALL_RSS_BYTES (16u << 20)
static bool is_small(const struct hmk_live *live)
{
    bool ended = live->state == HMK_STATE_EXITED || live->state == HMK_STATE_EXITED_FAST || live->state == HMK_STATE_EXECED;
    return ended && live->heap.peak_bytes < SMALL_HEAP_BYTES && live->rss_peak_bytes < SMALL_RSS_BYTES;
}

struct candidate {
    struct recording_found recording;
    uint32_t root_pid;
    bool taken;
};
typedef ARRAY_OF(struct candidate) candidate_array;

static void read_candidates(candidate_array *candidates, const char *pattern, uint64_t since_realtime_ns)
{
    char *wanted = glob_of(pattern);
    glob_t names;
    if (glob(wanted, GLOB_NOSORT, NULL, &names) == 0) {
        for (size_t i = 0; i < names.gl_pathc; i++) {
            struct hmk_header header;
            struct hmk_live live;
            uint64_t file_bytes;
            if (!read_pages(names.gl_pathv[i], &header, &live, &file_bytes)
                || header.start_realtime_ns < since_realtime_ns)
                continue;
            struct candidate *fresh = array_add(candidates);
            fresh->root_pid = header.root_pid;
            fresh->recording = (struct recording_found){
                .path = xstrdup(names.gl_pathv[i]), .pid = header.pid, .ppid = header.ppid,
                .start_realtime_ns = header.start_realtime_ns, .rss_peak_bytes = live.rss_peak_bytes,
                .heap_peak_bytes = live.heap.peak_bytes, .file_bytes = file_bytes, .small = is_small(&live) };
        }
        globfree(&names);
    }
    free(wanted);
}

static bool belongs(const struct recordings *recordings, const struct candidate *candidate, pid_t pid)
{
    if (candidate->recording.pid == (uint32_t)pid || candidate->recording.ppid == (uint32_t)pid
        || candidate->root_pid == (uint32_t)pid)
        return true;
    for (size_t i = 0; i < recordings->found.count; i++)
        if (candidate->recording.ppid == recordings->found.at[i].pid)
            return true;
    return false;
}

static int by_start(const void *a, const void *b)
{
    uint64_t left = ((const struct recording_found *)a)->start_realtime_ns;
    uint64_t right = ((const struct recording_found *)b)->start_realtime_ns;
    return left < right ? -1 : left > right;
}

void recordings_find(struct recordings *recordings, const char *pattern, pid_t pid, uint64_t since_realtime_ns)
{
    candidate_array candidates = {0};
    bool grown = true;
    *recordings = (struct recordings){0};
    read_candidates(&candidates, pattern, since_realtime_ns);
    /* A grandchild is known once its parent is. */
    while (grown) {
        grown = false;
        for (size_t i = 0; i < candidates.count; i++) {
            struct candidate *candidate = &candidates.at[i];
            if (candidate->taken || !belongs(recordings, candidate, pid))
                continue;
            candidate->taken = grown = true;
            array_push(&recordings->found, candidate->recording);
        }
    }
    for (size_t i = 0; i < candidates.count; i++)
        if (!candidates.at[i].taken)
            free(candidates.at[i].recording.path);
    array_free(&candidates);
    array_sort(&recordings->found, by_start);
}

size_t recordings_processes(const struct recordings *recordings)
{
    size_t processes = 0;
    for (size_t i = 0; i < recordings->found.count; i++) {
        bool seen = false;
        for (size_t k = 0; k < i && !seen; k++)
            seen = recordings->found.at[k].pid == recordings->found.at[i].pid;
        processes += !seen;
    }
    return processes;
}

const struct recording_found *recordings_largest(const struct recordings *recordings)
{
    const struct recording_found *largest = NULL;
    for (size_t i = 0; i < recordings->found.count; i++)
        if (!largest || recordings->found.at[i].rss_peak_bytes > largest->rss_peak_bytes)
            largest = &recordings->found.at[i];
    return largest;
}

/* "heapmark.python3.4711.small" for heapmark.python3.4711.hmk. */
static char *folder_of(const char *path)
{
    struct strbuf name = STRBUF_INIT;
    size_t length = strlen(path);
    if (length > 4 && strcmp(path + length - 4, ".hmk") == 0)
        length -= 4;
    strbuf_put_n(&name, path, length);
    strbuf_put(&name, ".small");
    return strbuf_take(&name);
}

static bool make_folder(const char *path)
{
    struct stat status;
    return mkdir(path, 0700) == 0 || (errno == EEXIST && lstat(path, &status) == 0 && S_ISDIR(status.st_mode));
}

static bool move_into(const char *folder, struct recording_found *recording)
{
    struct strbuf name = STRBUF_INIT;
    const char *slash = strrchr(recording->path, '/');
    strbuf_put(&name, folder);
    strbuf_char(&name, '/');
    strbuf_put(&name, slash ? slash + 1 : recording->path);
    bool moved = renameat2(AT_FDCWD, recording->path, AT_FDCWD, name.text, RENAME_NOREPLACE) == 0;
    if (moved) {
        free(recording->path);
        recording->path = xstrdup(name.text);
    }
    strbuf_free(&name);
    return moved;
}

size_t recordings_gather(struct recordings *recordings, const struct recording_found *kept, char **folder)
{
    size_t moved = 0;
    *folder = folder_of(kept->path);
    for (size_t i = 0; i < recordings->found.count && !kept->small; i++) {
        struct recording_found *recording = &recordings->found.at[i];
        if (recording == kept || !recording->small)
            continue;
        if (moved == 0 && !make_folder(*folder))
            break;
        moved += move_into(*folder, recording);
    }
    if (moved == 0) {
        free(*folder);
        *folder = NULL;
    }
    return moved;
}

void recordings_free(struct recordings *recordings)
{
    for (size_t i = 0; i < recordings->found.count; i++)
        free(recordings->found.at[i].path);
    array_free(&recordings->found);
}
