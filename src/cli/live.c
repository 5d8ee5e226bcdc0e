/* SPDX-License-Identifier: MIT */
#include "cli/live.h"

#include "base/fail.h"
#include "base/strbuf.h"
#include "base/xalloc.h"
#include "cli/command.h"
#include "cli/process.h"
#include "contract/format.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- one file ----------------------------------------------------------------------------------- */

/* Devices and pipes are not opened: that alone can have effects. */
static int open_regular(const char *path)
{
    struct stat status;
    if (stat(path, &status) != 0)
        return -1;
    if (!S_ISREG(status.st_mode)) {
        errno = EINVAL;
        return -1;
    }
    int fd = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK);
    return fd >= 0 || errno == ENOENT ? fd : open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
}

/* Any recording; errno is EINVAL when the file is none. */
static bool map_recording(struct live *live, const char *path)
{
    struct stat status;
    *live = (struct live){ .fd = open_regular(path) };
    live->writable = live->fd >= 0 && (fcntl(live->fd, F_GETFL) & O_ACCMODE) == O_RDWR;
    if (live->fd < 0)
        return false;
    void *head = MAP_FAILED;
    errno = EINVAL;
    if (fstat(live->fd, &status) == 0 && status.st_size >= (off_t)HMK_HEADER_BYTES)
        head = mmap(NULL, HMK_HEADER_BYTES, live->writable ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED, live->fd, 0);
    if (head != MAP_FAILED) {
        live->header = head;
        live->totals = (struct hmk_live *)((char *)head + HMK_LIVE_OFFSET);
        live->path = xstrdup(path);
        if (memcmp(live->header->magic, HMK_MAGIC, sizeof live->header->magic) == 0 &&
            live->header->version == HMK_VERSION && live->header->byte_order == HMK_BYTE_ORDER)
            return true;
        errno = EINVAL;
    }
    int kept = errno;
    live_close(live);
    errno = kept;
    return false;
}

void live_close(struct live *live)
{
    if (live->header)
        munmap((void *)(uintptr_t)live->header, HMK_HEADER_BYTES);
    if (live->fd >= 0)
        close(live->fd);
    free(live->path);
    *live = (struct live){ .fd = -1 };
}

/* ---- what a process has mapped ------------------------------------------------------------------ */

/* A shared writable mapping of the beginning of a file. */
struct mapped_file {
    unsigned long start, end;
    unsigned long long inode;
    char *path;                 /* into the line; "" for none; " (deleted)" may end it */
};

static bool parse_mapping(char *line, struct mapped_file *file)
{
    char permissions[5];
    unsigned long long offset;
    unsigned major, minor;
    int path_at = 0;
    if (sscanf(line, "%lx-%lx %4s %llx %x:%x %llu %n", &file->start, &file->end, permissions, &offset, &major, &minor,
               &file->inode, &path_at) < 7)
        return false;
    file->path = line + path_at;
    file->path[strcspn(file->path, "\n")] = 0;
    return permissions[3] == 's' && permissions[1] == 'w' && offset == 0 && file->inode != 0;
}

/* The kernel writes a newline in a name as \012. */
static void unescape(char *path)
{
    char *to = path;
    for (const char *from = path; *from; to++) {
        if (strncmp(from, "\\012", 4) == 0) {
            *to = '\n';
            from += 4;
        } else {
            *to = *from++;
        }
    }
    *to = 0;
}

static bool opens_as_own(struct live *live, pid_t pid, const char *path)
{
    if (!map_recording(live, path))
        return false;
    if (process_wrote(pid, live->header)) {
        live->pid = pid;
        return true;
    }
    live_close(live);
    errno = ESRCH;
    return false;
}

/* Deleted, in memory only, or behind another mount: through a descriptor of the process that has the same file. */
static bool open_through_descriptor(struct live *live, pid_t pid, unsigned long long inode)
{
    struct strbuf path = STRBUF_INIT;
    struct stat status;
    bool found = false;
    for (int fd = 1023; fd >= 3 && !found; fd--) {      /* the recording's is a high one */
        strbuf_clear(&path);
        strbuf_printf(&path, "/proc/%d/fd/%d", (int)pid, fd);
        found = stat(path.text, &status) == 0 && status.st_ino == inode && opens_as_own(live, pid, path.text);
    }
    strbuf_free(&path);
    return found;
}

static bool open_mapped(struct live *live, pid_t pid, const struct mapped_file *file)
{
    struct strbuf path = STRBUF_INIT;
    bool found = *file->path == '/' && opens_as_own(live, pid, file->path);
    int first = errno;
    if (!found && *file->path == '/') {
        strbuf_printf(&path, "/proc/%d/root%s", (int)pid, file->path);
        found = opens_as_own(live, pid, path.text);
    }
    if (!found)
        found = open_through_descriptor(live, pid, file->inode);
    if (!found) {
        strbuf_clear(&path);
        strbuf_printf(&path, "/proc/%d/map_files/%lx-%lx", (int)pid, file->start, file->end);
        found = opens_as_own(live, pid, path.text);
    }
    strbuf_free(&path);
    errno = first;
    return found;
}

/* ---- why not ------------------------------------------------------------------------------------ */

static void put_user(char *name, size_t bytes, uid_t uid)
{
    const struct passwd *entry = getpwuid(uid);
    if (entry)
        snprintf(name, bytes, "%s", entry->pw_name);
    else
        snprintf(name, bytes, "user %lu", (unsigned long)uid);
}

static bool say_no_access(pid_t pid, struct fail *why)
{
    struct process_facts facts;
    char user[64];
    if (!process_facts(pid, 0, &facts))
        return fail_say(why, "there is no process %d", (int)pid);
    put_user(user, sizeof user, facts.uid);
    if (facts.uid != geteuid())
        return fail_say(why, "process %d belongs to %s: only its owner and root may ask it", (int)pid, user);
    return fail_say(why, "the kernel lets nobody look into process %d (it changed its user, or forbade it by prctl)", (int)pid);
}

/* It has no recording of its own.  `other`: it has one of its parent's, or of a process that had the same memory. */
static bool say_unrecorded(pid_t pid, bool shim, bool other, int error, struct fail *why)
{
    struct strbuf exe = STRBUF_INIT;
    process_exe(pid, &exe);
    const char *name = exe.length ? exe.text : "unknown program";
    if (other)
        fail_say(why, "process %d (%s) was forked by a recorded process, and gets a recording at its first allocation, "
                      "or never (children=no)", (int)pid, name);
    else if (error)
        fail_say(why, "the recording of process %d (%s) cannot be opened: %s", (int)pid, name, strerror(error));
    else if (shim)
        fail_say(why, "process %d (%s) has heapmark loaded, but makes no recording", (int)pid, name);
    else
        fail_say(why, "process %d (%s) is not recorded: it has to be started with 'heapmark run' or 'heapmark env'", (int)pid,
                 name);
    strbuf_free(&exe);
    return false;
}

bool live_open_pid(struct live *live, pid_t pid, struct fail *why)
{
    char path[64], *line = NULL;
    size_t capacity = 0;
    bool found = false, shim = false, other = false;
    int error = 0;
    *live = (struct live){ .fd = -1 };
    snprintf(path, sizeof path, "/proc/%d/maps", (int)pid);
    FILE *maps = fopen(path, "re");
    if (!maps)
        return errno == ENOENT ? fail_say(why, "there is no process %d", (int)pid) : say_no_access(pid, why);
    while (!found && getline(&line, &capacity, maps) > 0) {
        struct mapped_file file;
        shim = shim || strstr(line, "/libheapmark.so");
        if (!parse_mapping(line, &file))
            continue;
        unescape(file.path);
        found = open_mapped(live, pid, &file);
        other = other || (!found && errno == ESRCH);
        if (!found && errno != EINVAL && errno != ESRCH && strstr(file.path, ".hmk"))
            error = errno;
    }
    bool refused = !found && ferror(maps);
    free(line);
    fclose(maps);
    if (refused)
        return say_no_access(pid, why);
    return found || say_unrecorded(pid, shim, other, error, why);
}

/* ---- by file ------------------------------------------------------------------------------------ */

struct search {
    const struct hmk_header *header;
    pid_t found;
};

static bool is_writer(pid_t pid, void *context)
{
    struct search *search = context;
    if (process_wrote(pid, search->header))
        search->found = pid;
    return search->found == 0;
}

/* Its number in our namespace, which the file cannot know; 0: it is not here. */
static pid_t find_writer(const struct hmk_header *header)
{
    struct search search = { .header = header };
    if (is_writer((pid_t)header->pid, &search))
        process_each(is_writer, &search);
    return search.found;
}

static bool has_ended(const struct live *live, struct fail *why)
{
    switch (live->totals->state) {
    case HMK_STATE_RUNNING:
    case HMK_STATE_STOPPED:
        return false;
    case HMK_STATE_EXECED:
        fail_say(why, "process %" PRIu32 " has become another program by exec; that one has a recording of its own, if any",
                 live->header->pid);
        return true;
    default:
        fail_say(why, "process %" PRIu32 " has ended", live->header->pid);
        return true;
    }
}

/* An exec that bypassed libc leaves no word in the file. */
static bool maps_it_still(const struct live *live, struct fail *why)
{
    struct live now;
    if (!live_open_pid(&now, live->pid, why))
        return false;
    bool same = now.header->start_ns == live->header->start_ns;
    live_close(&now);
    return same || fail_say(why, "process %d has become another program, with another recording", (int)live->pid);
}

bool live_still(const struct live *live, struct fail *why)
{
    if (has_ended(live, why))
        return false;
    if (!process_wrote(live->pid, live->header))
        return fail_say(why, "process %d has ended", (int)live->pid);
    return maps_it_still(live, why);
}

bool live_open(struct live *live, const char *name, struct fail *why)
{
    uint64_t number;
    if (command_number(name, INT32_MAX, &number))
        return live_open_pid(live, (pid_t)number, why);
    if (!map_recording(live, name))
        return errno == EINVAL ? fail_say(why, "%s is not a recording of this version of heapmark", name)
                               : fail_errno(why, "cannot open %s", name);
    bool open = !has_ended(live, why);
    if (open) {
        live->pid = find_writer(live->header);
        if (live->pid == 0)
            open = fail_say(why, "process %" PRIu32 " of %s has ended, or runs on another machine", live->header->pid, name);
        else
            open = maps_it_still(live, why);
    }
    if (!open)
        live_close(live);
    return open;
}
