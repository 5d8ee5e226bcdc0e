/* SPDX-License-Identifier: MIT */
#ifndef HEAPMARK_CLI_PROCESS_H
#define HEAPMARK_CLI_PROCESS_H

/* What the kernel says about the process that wrote a recording. */

#include <stdint.h>

struct hmk_header;

enum process_life {
    PROCESS_ALIVE,
    PROCESS_GONE,           /* no such process, or its number was given to another */
    PROCESS_UNKNOWN         /* recorded on another machine or before its last boot */
};
enum process_life process_life(const struct hmk_header *header);
uint64_t process_rss(uint32_t pid);     /* VmRSS in bytes; 0: unknown */

#endif
