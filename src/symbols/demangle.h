/* SPDX-License-Identifier: MIT */
#ifndef HEAPMARK_SYMBOLS_DEMANGLE_H
#define HEAPMARK_SYMBOLS_DEMANGLE_H

/*
 * The readable name of a C++ or Rust (legacy and v0) linkage name, with parameters and without return type, to be
 * released by free(); NULL when it is neither.
 */
char *demangle(const char *linkage_name);

#endif
