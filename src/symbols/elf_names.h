/* SPDX-License-Identifier: MIT */
#ifndef HEAPMARK_SYMBOLS_ELF_NAMES_H
#define HEAPMARK_SYMBOLS_ELF_NAMES_H

/*
 * The functions of a module as its symbol tables name them (of the file, its debug file, its .gnu_debugdata, and the
 * dynamic one), sorted by address: libdwfl's own look-up walks the whole table each time.
 */

#include <stdint.h>

struct module_file;
struct elf_names;

/* The names lie in the file: it must stay open. */
struct elf_names *elf_names_read(struct module_file *file);
/* The linkage name of the function that holds `address`, or NULL.  Of several names for one address, the one that
 * users know: with the fewest leading underscores, then global before weak before local. */
const char *elf_names_find(const struct elf_names *names, uint64_t address);
void elf_names_free(struct elf_names *names);

#endif
