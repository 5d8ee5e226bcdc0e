/* SPDX-License-Identifier: MIT */
#ifndef HEAPMARK_TESTS_RECORDING_RULES_H
#define HEAPMARK_TESTS_RECORDING_RULES_H

/* The rules of format.h once more, in the plainest way and without the code of writer and reader, so that the tests of the
 * writer have a second opinion. */

#include "contract/format.h"
#include <stdbool.h>
#include <stddef.h>

struct rules_file {
    unsigned char *bytes;
    size_t size;
};

/* A private copy of the file; bytes == NULL when it cannot be read. */
struct rules_file rules_load(const char *path);
void rules_unload(struct rules_file *file);

/* NULL: every rule holds.  Else the first one that does not. */
const char *rules_broken(const struct rules_file *file);
/* A file that was killed before its magic: nothing but an empty head. */
bool rules_unborn(const struct rules_file *file);

/* Of a file that keeps the rules. */
const struct hmk_header *rules_header(const struct rules_file *file);
const struct hmk_live *rules_live(const struct rules_file *file);
uint64_t rules_count(const struct rules_file *file, enum hmk_table_id id);
const void *rules_record(const struct rules_file *file, enum hmk_table_id id, uint64_t index);
const char *rules_string(const struct rules_file *file, uint32_t offset);

#endif
