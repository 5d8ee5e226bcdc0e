/* SPDX-License-Identifier: MIT */
#ifndef HEAPMARK_SYMBOLS_SYMBOLIZER_H
#define HEAPMARK_SYMBOLS_SYMBOLIZER_H

/*
 * From addresses to functions, files and lines: the seam in front of ELF, DWARF and demangling.
 *
 *     struct symbolizer *names = symbolizer_new(&options);
 *     unsigned libc = symbolizer_module(names, path, build_id, build_id_bytes);
 *     for each frame:   symbolizer_request(names, libc, code - module_base, exact);
 *     symbolizer_resolve(names);
 *     for each frame:   use(symbolizer_look(names, libc, code - module_base, exact));
 *     symbolizer_free(names);
 *
 * Addresses are addresses in the module's file: run-time address - load bias (hmk_module.base).  `exact` is false for
 * a return address as found on the stack, which is looked up one byte before, inside the call; it is true for an
 * interrupted instruction.  Pass the address itself in both cases.
 *
 * Asking is cheap; the work is done by symbolizer_resolve, module by module in address order.  symbolizer_look on an
 * address that was not requested before resolves it alone, which is slow for many.  Every answer names something: an
 * address nobody knows reads "libfoo.so+0x1234".
 *
 * Names come from the file at the recorded path, only when its build-id is the recorded one; then from its separate
 * debug file (build-id directory, .gnu_debuglink, dwz), its symbol table, its .gnu_debugdata, its dynamic symbols.
 * The network is never asked, unless `debuginfod` is set and DEBUGINFOD_URLS is in the environment.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct symbolizer;

struct symbolizer_options {
    bool debuginfod;                /* may fetch debug files from the servers in DEBUGINFOD_URLS */
    void (*complain)(void *context, const char *sentence);  /* "FILE changed since ...", once a file; or NULL */
    void (*progress)(void *context, size_t done, size_t total);     /* during resolve, now and then; or NULL */
    void *context;
};

/* One call in the source.  Strings belong to the symbolizer. */
struct source_frame {
    const char *function;           /* demangled; never NULL */
    const char *linkage_name;       /* as the linker knows it; NULL when unknown */
    const char *file;               /* NULL when unknown */
    uint32_t line;                  /* 0 = unknown */
    uint32_t column;                /* 0 = unknown */
    bool inlined;                   /* into the next frame of the list */
};

/* What one address stands for: the function that holds the instruction last, the calls inlined into it before it,
 * innermost first. */
struct symbol {
    const struct source_frame *frames;
    uint32_t count;                 /* at least 1 */
    bool known;                     /* false: frames[0].function is only "module+0xaddress" */
    const char *module;             /* short name: "libc.so.6", "[anonymous]" */
};

/* Options are copied; NULL: none. */
struct symbolizer *symbolizer_new(const struct symbolizer_options *options);
void symbolizer_free(struct symbolizer *symbolizer);

/* Code that lies in no module (JIT code, unknown): addresses are then run-time addresses, shown as
 * "[anonymous]+0x...". */
#define SYMBOLIZER_NO_MODULE 0u

/* The number of a module; the same path and build-id give the same number.  build_id_bytes 0: the file has none, and
 * is trusted. Empty path: SYMBOLIZER_NO_MODULE. */
unsigned symbolizer_module(struct symbolizer *symbolizer, const char *path, const uint8_t *build_id,
                           size_t build_id_bytes);

void symbolizer_request(struct symbolizer *symbolizer, unsigned module, uint64_t address, bool exact);
void symbolizer_resolve(struct symbolizer *symbolizer);
/* Never NULL; valid until symbolizer_free. */
const struct symbol *symbolizer_look(struct symbolizer *symbolizer, unsigned module, uint64_t address, bool exact);

#endif
