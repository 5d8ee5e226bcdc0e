/* SPDX-License-Identifier: MIT */
#ifndef HEAPMARK_SHIM_RECORDING_PARTS_H
#define HEAPMARK_SHIM_RECORDING_PARTS_H

/*
 * The seams inside the recording writer; for recording*.c only.
 *
 *   recording_file.c    where the bytes are: naming and making the file, making it longer
 *   recording.c         the tables in it: growth, append, events, timeline
 *   recording_start.c   what stands in it at first: identity, and what a forked child inherits
 */

#include "shim/recording.h"
#include "freestanding/sys.h"

enum recording_backing {
    RECORDING_NOWHERE,          /* not even memory: nothing is kept but the counters of the static block */
    RECORDING_PRIVATE,          /* anonymous memory: counting goes on, nobody will read it */
    RECORDING_MEMFD,
    RECORDING_FILE
};

struct recording_file {
    enum recording_backing backing;
    int fd;                             /* of FILE and MEMFD; the number may meanwhile be the host's own file */
    struct sys_identity identity;       /* tells */
    uint64_t bytes;                     /* allocated so far; the next range starts here */
    char path[4096];                    /* of FILE, else "" */
};
extern struct recording_file recording_file;

/* Keeps the file name pattern with all but %p, %t and %u filled in, so that a child needs neither the
 * environment, which setproctitle() may have overwritten, nor the working directory. */
void recording_file_set_pattern(const char *pattern, char *const *environment, const char *exe, const char *host);
/* Starts a new, empty recording_file.  False: this backing cannot be had; recording_problem() says why for FILE. */
bool recording_file_create(enum recording_backing backing);
/* Undoes create: nothing of it stays on the disk.  Mappings are the caller's. */
void recording_file_discard(void);
/* Allocates and maps the next `bytes` (a multiple of the page size).  NULL: *refusal says why. */
void *recording_file_extend(uint64_t bytes, uint64_t *offset, enum hmk_stop_reason *refusal);
/* Brings pages that were allocated and never stored into to where a store costs little; see prepare() in recording.c. */
void recording_file_touch(uint64_t offset, uint64_t bytes);
/* Closes a file that was inherited over a fork, unless the host has closed it. */
void recording_file_leave(const struct recording_file *file);

/* The first three pages of a recording.  With pages above 4 KiB the first chunk starts later. */
struct recording_head {
    struct hmk_header header;
    struct hmk_live live;
    struct hmk_table tables[HMK_TABLE_SLOTS];
};
_Static_assert(sizeof(struct recording_head) == HMK_HEADER_BYTES, "head");

struct recording_extent {
    void *address;
    size_t bytes;
};
/* The mapping of the head and the first chunks; the other mappings are the chunks outside it. */
extern struct recording_extent recording_first_extent;

/* Empties the tables, allocates and maps the first extent, writes the directory into it.  Does not yet show it as
 * recording_header and recording_live: recording_show does.  NULL: refused. */
struct recording_head *recording_lay_out(void);
void recording_show(struct recording_head *head);
/* Back to the static block: tables without chunks, all growth refused. */
void recording_detach(void);
/* Makes the table hold at least `count` records; the caller holds the lock or is alone.  False: refused. */
bool recording_reserve(enum hmk_table_id id, uint64_t count);
/* Publishes records that the caller, who is alone, has written below `count`. */
void recording_publish(enum hmk_table_id id, uint64_t count);
size_t recording_chunk_bytes(enum hmk_table_id id, unsigned chunk);
void recording_reset_lock(void);
/* The mappings are no longer the file's: its pages are written no more. */
void recording_leave_pages(void);

#endif
