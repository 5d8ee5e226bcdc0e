/* SPDX-License-Identifier: MIT */
#ifndef HEAPMARK_SYMBOLS_PYTHON_LINES_H
#define HEAPMARK_SYMBOLS_PYTHON_LINES_H

/* The line tables of CPython's code objects, as the interpreter keeps them: co_lnotab up to 3.9, co_linetable of 3.10, location
 * table since 3.11.  Pure: a table of any bytes gives some answer. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct python_lines {
    uint32_t version;           /* major << 8 | minor of the interpreter */
    uint32_t first_line;
    const uint8_t *table;
    size_t bytes;
};

/* Lines count from 1, columns from 1 and in bytes of UTF-8; 0: not known. */
struct python_place {
    uint32_t line, end_line;
    uint32_t column, end_column;    /* the end is the first column after the expression */
};

/* The place of the instruction at byte `offset` of the bytecode.  False: the table has no line for it, because the
 * instruction is no part of the source (a frame that has not begun) or the table is cut. */
bool python_lines_find(const struct python_lines *lines, uint32_t offset, struct python_place *place);

#endif
