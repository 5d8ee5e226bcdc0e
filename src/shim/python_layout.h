/* SPDX-License-Identifier: MIT */
#ifndef HEAPMARK_SHIM_PYTHON_LAYOUT_H
#define HEAPMARK_SHIM_PYTHON_LAYOUT_H

/* Where CPython keeps what python.c reads: byte offsets by minor version, 64-bit, builds with a GIL. */

#include <stdbool.h>
#include <stdint.h>

struct python_layout {
    uint16_t minor;
    /* thread state */
    uint16_t ts_frame, ts_cframe, ts_interpreter, ts_thread;    /* 0: not in this version */
    uint16_t cframe_current, cframe_previous;
    /* frame */
    uint16_t f_code, f_previous, f_instruction, f_owner, f_entry;
    /* code object */
    uint16_t co_file, co_name, co_qualname, co_first_line, co_lines, co_code;
    /* str */
    uint16_t str_state, str_ascii, str_compact;
    /* _PyRuntime */
    uint16_t runtime_interpreters;
};

/* NULL: not a version that is known. */
const struct python_layout *python_layout_of(unsigned minor);

/* Compares with the interpreter's own words: tp_members of the type of code objects, and its size. */
bool python_layout_agrees(const struct python_layout *layout, const void *code_type);

enum {
    PYTHON_OB_TYPE = 8,
    PYTHON_BYTES_SIZE = 16,
    PYTHON_BYTES_DATA = 32,
    PYTHON_STR_LENGTH = 16,
    PYTHON_TYPE_BASICSIZE = 32,
    PYTHON_TYPE_DEALLOC = 48,
    PYTHON_TYPE_MEMBERS = 240
};

#endif
