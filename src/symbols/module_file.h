/* SPDX-License-Identifier: MIT */
#ifndef HEAPMARK_SYMBOLS_MODULE_FILE_H
#define HEAPMARK_SYMBOLS_MODULE_FILE_H

/*
 * A module's file on disk, opened by libdwfl as if loaded at its own addresses (load bias 0), after checking that it is
 * the very file that was recorded.
 */

#include <elfutils/libdwfl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct fail;

struct module_file {
    Dwfl *dwfl;
    Dwfl_Module *module;
    uint64_t start, end;        /* of its addresses */
};

/*
 * Opens `path`, or when that is no longer the recorded file, the debug file installed for the build-id.
 * "linux-vdso.so.1" and "[vdso]" mean the kernel's page in this very process, when its build-id agrees.  No build-id:
 * whatever is at the path is taken.
 */
bool module_file_open(struct module_file *file, const char *path, const uint8_t *build_id, size_t build_id_bytes,
                      struct fail *why);
void module_file_close(struct module_file *file);       /* of an opened one */

#endif
