/* SPDX-License-Identifier: MIT */
#include "shim/recording_parts.h"

#include "freestanding/text.h"
#include <errno.h>
#include <fcntl.h>
#include "freestanding/banned.h"

#define CLASHES 10000u          /* names tried; in a container every run may have the same pid */

struct recording_file recording_file;

static char pattern[sizeof(recording_file.path)];   /* absolute; %p, %t, %u and %% are left in it */
static char problem[sizeof(recording_file.path) + 64];

const char *recording_path(void)
{
    return recording_file.path;
}

const char *recording_problem(void)
{
    return problem;
}

/* ---- names --------------------------------------------------------------------------------------- */

/* Text that the second expansion shall not touch. */
static void put_literal(struct text *text, const char *string)
{
    for (; *string; string++) {
        if (*string == '%')
            text_char(text, '%');
        text_char(text, *string);
    }
}

static void put_variable(struct text *text, char *const *environment, const char *name, size_t length)
{
    for (; *environment; environment++) {
        size_t same = 0;
        while (same < length && (*environment)[same] == name[same])
            same++;
        if (same == length && (*environment)[same] == '=') {
            put_literal(text, *environment + same + 1);
            return;
        }
    }
}

/* "{NAME}" at `at`; the address behind it, or NULL. */
static const char *put_braced(struct text *text, const char *at, char *const *environment)
{
    size_t length = 1;
    while (at[length] && at[length] != '}')
        length++;
    if (at[0] != '{' || at[length] != '}')
        return NULL;
    put_variable(text, environment, at + 1, length - 1);
    return at + length + 1;
}

static void expand_early(struct text *text, const char *at, char *const *environment, const char *exe, const char *host)
{
    while (*at) {
        if (*at != '%') {
            text_char(text, *at++);
            continue;
        }
        const char *rest = at[1] == 'q' ? put_braced(text, at + 2, environment) : NULL;
        if (rest) {
            at = rest;
        } else if (at[1] == 'e' || at[1] == 'h') {
            put_literal(text, at[1] == 'e' ? exe : host);
            at += 2;
        } else if (at[1] == 'p' || at[1] == 't' || at[1] == 'u' || at[1] == '%') {
            text_put_n(text, at, 2);
            at += 2;
        } else {
            text_put(text, "%%");
            at++;
        }
    }
}

void recording_file_set_pattern(const char *wanted, char *const *environment, const char *exe, const char *host)
{
    struct text text = text_over(pattern, sizeof(pattern));
    expand_early(&text, wanted, environment, exe, host);
    if (pattern[0] != '/') {
        char *directory = recording_file.path;      /* not in use before the first create */
        long length = sys_getcwd(directory, sizeof(recording_file.path));
        text = text_over(pattern, sizeof(pattern));
        /* An unreachable directory is not named by an absolute path; then the relative name has to do. */
        if (length > 0 && directory[0] == '/') {
            put_literal(&text, directory);
            text_char(&text, '/');
        }
        directory[0] = 0;
        expand_early(&text, wanted, environment, exe, host);
    }
    if (text.cut)
        pattern[0] = 0;
}

static void expand_late(struct text *text)
{
    for (const char *at = pattern; *at; at++) {
        if (*at != '%') {
            text_char(text, *at);
            continue;
        }
        switch (*++at) {
        case 'p': text_u64(text, (uint64_t)sys_getpid()); break;
        case 't': text_u64(text, sys_realtime_ns() / 1000000000); break;
        case 'u': text_u64(text, sys_getuid()); break;
        default: text_char(text, '%'); break;
        }
    }
}

/* Makes recording_file.path the pattern's name, or that with .1, .2 ... before a final ".hmk". */
static int open_fresh(void)
{
    struct text text = text_over(recording_file.path, sizeof(recording_file.path));
    expand_late(&text);
    size_t stem = text.used;
    bool ours = stem >= 4 && text_equal(recording_file.path + stem - 4, ".hmk");
    if (ours)
        stem -= 4;
    int fd = -ENAMETOOLONG;
    for (unsigned number = 0; number < CLASHES && !text.cut; number++) {
        if (number > 0) {
            text.used = stem;
            text_char(&text, '.');
            text_u64(&text, number);
            text_put(&text, ours ? ".hmk" : "");
        }
        fd = sys_open(recording_file.path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0600);
        if (fd != -EEXIST)
            break;
    }
    return text.cut ? -ENAMETOOLONG : fd;
}

static void describe(int error)
{
    static const struct {
        int error;
        const char *words;
    } known[] = {
        { -EACCES, "permission denied" },
        { -EPERM, "permission denied" },
        { -ENOENT, "no such directory" },
        { -ENOTDIR, "no such directory" },
        { -EROFS, "read-only file system" },
        { -ENOSPC, "the disk is full" },
        { -EDQUOT, "the disk quota is used up" },
        { -EFBIG, "larger than the file size limit (ulimit -f)" },
        { -EMFILE, "too many open files" },
        { -ENAMETOOLONG, "the name is too long" },
        { -EEXIST, "too many files of that name" },
    };
    struct text text = text_over(problem, sizeof(problem));
    text_put(&text, "cannot make ");
    text_put(&text, recording_file.path[0] ? recording_file.path : "the recording");
    text_put(&text, ": ");
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
        if (known[i].error == error) {
            text_put(&text, known[i].words);
            return;
        }
    text_put(&text, "error ");
    text_u64(&text, (uint64_t)-error);
}

/* ---- the file ------------------------------------------------------------------------------------ */

static bool refers_to(int fd, const struct sys_identity *identity)
{
    struct sys_identity now;
    return sys_identify(fd, &now) == 0 && now.device == identity->device && now.inode == identity->inode;
}

bool recording_file_create(enum recording_backing backing)
{
    int fd = -1;
    recording_file.bytes = 0;
    recording_file.backing = RECORDING_NOWHERE;
    recording_file.path[0] = 0;
    problem[0] = backing == RECORDING_FILE ? 0 : problem[0];
    if (backing == RECORDING_FILE) {
        fd = open_fresh();
        if (fd < 0) {
            describe(fd);
            recording_file.path[0] = 0;
            return false;
        }
        sys_overwrite_in_place(fd);
    } else if (backing == RECORDING_MEMFD) {
        fd = sys_memfd("heapmark");
        if (fd < 0)
            return false;
    }
    if (fd >= 0) {
        fd = sys_move_fd(fd);
        sys_identify(fd, &recording_file.identity);
    }
    recording_file.fd = fd;
    recording_file.backing = backing;
    return true;
}

void recording_file_discard(void)
{
    if (recording_file.backing == RECORDING_FILE)
        sys_unlink(recording_file.path);
    recording_file_leave(&recording_file);
    recording_file.backing = RECORDING_NOWHERE;
    recording_file.path[0] = 0;
}

void recording_file_leave(const struct recording_file *file)
{
    if (file->backing >= RECORDING_MEMFD && refers_to(file->fd, &file->identity))
        sys_close(file->fd);
}

/* The host may have closed our number, and opened a file of its own under it: that one is left alone. */
static bool regain_descriptor(void)
{
    if (refers_to(recording_file.fd, &recording_file.identity))
        return true;
    if (recording_file.backing != RECORDING_FILE)
        return false;
    int fd = sys_open(recording_file.path, O_RDWR | O_NOFOLLOW, 0);
    if (fd < 0)
        return false;
    if (!refers_to(fd, &recording_file.identity)) {
        sys_close(fd);
        return false;
    }
    recording_file.fd = sys_move_fd(fd);
    return true;
}

void recording_file_touch(uint64_t offset, uint64_t bytes)
{
    if (recording_file.backing == RECORDING_FILE && regain_descriptor())
        sys_write_zeros(recording_file.fd, offset, bytes);
}

void *recording_file_extend(uint64_t bytes, uint64_t *offset, enum hmk_stop_reason *refusal)
{
    void *address = NULL;
    *offset = recording_file.bytes;
    *refusal = HMK_STOP_NO_MEMORY;
    if (recording_file.backing == RECORDING_PRIVATE) {
        address = sys_map_anonymous(bytes);
    } else if (recording_file.backing >= RECORDING_MEMFD) {
        int error = regain_descriptor() ? sys_allocate(recording_file.fd, *offset, bytes) : -EBADF;
        if (error < 0) {
            if (*offset == 0 && recording_file.backing == RECORDING_FILE)
                describe(error);
            *refusal = HMK_STOP_DISK_FULL;
            return NULL;
        }
        address = sys_map_file(recording_file.fd, *offset, bytes, true);
    }
    if (address)
        recording_file.bytes += bytes;
    return address;
}
