/* SPDX-License-Identifier: MIT */
/* Usage: bench-symbols FILE [COUNT [show]]   Names COUNT return addresses spread evenly over the code of an ELF file. */
#include "base/array.h"
#include "symbols/symbolizer.h"

#include <fcntl.h>
#include <gelf.h>
#include <stdio.h>
#include <time.h>

struct range {
    uint64_t start, bytes;
};
typedef ARRAY_OF(struct range) range_array;

static bool code_ranges(const char *path, range_array *ranges)
{
    elf_version(EV_CURRENT);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    Elf *elf = fd < 0 ? NULL : elf_begin(fd, ELF_C_READ_MMAP, NULL);
    size_t headers;
    if (!elf || elf_getphdrnum(elf, &headers) != 0)
        return false;
    for (size_t i = 0; i < headers; i++) {
        GElf_Phdr header;
        if (gelf_getphdr(elf, (int)i, &header) && header.p_type == PT_LOAD && (header.p_flags & PF_X))
            array_push(ranges, (struct range){ header.p_vaddr, header.p_memsz });
    }
    elf_end(elf);
    return ranges->count > 0;
}

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void complain(void *context, const char *sentence)
{
    (void)context;
    fprintf(stderr, "%s\n", sentence);
}

int main(int argc, char **argv)
{
    size_t wanted = argc > 2 ? strtoull(argv[2], NULL, 0) : 5000;
    range_array ranges = {0};
    if (argc < 2 || !code_ranges(argv[1], &ranges) || wanted == 0) {
        fprintf(stderr, "usage: bench-symbols FILE [COUNT [show]]\n");
        return 2;
    }
    uint64_t bytes = 0;
    for (size_t i = 0; i < ranges.count; i++)
        bytes += ranges.at[i].bytes;

    double start = seconds();
    struct symbolizer *names = symbolizer_new(&(struct symbolizer_options){ .complain = complain });
    unsigned module = symbolizer_module(names, argv[1], NULL, 0);
    ARRAY_OF(uint64_t) addresses = {0};
    uint64_t step = bytes / wanted + 1, next = 0;
    for (size_t i = 0; i < ranges.count; next -= ranges.at[i].bytes, i++)
        for (; next < ranges.at[i].bytes; next += step)
            array_push(&addresses, ranges.at[i].start + next);
    for (size_t i = 0; i < addresses.count; i++)
        symbolizer_request(names, module, addresses.at[i], false);
    symbolizer_resolve(names);
    double end = seconds();

    size_t known = 0, frames = 0, lines = 0;
    for (size_t i = 0; i < addresses.count; i++) {
        const struct symbol *symbol = symbolizer_look(names, module, addresses.at[i], false);
        known += symbol->known;
        frames += symbol->count;
        lines += symbol->frames[0].line > 0;
        for (uint32_t k = 0; argc > 3 && k < symbol->count; k++)
            printf("%#lx %s %s:%u:%u%s\n", (unsigned long)addresses.at[i] - 1, symbol->frames[k].function,
                   symbol->frames[k].file ? symbol->frames[k].file : "?", symbol->frames[k].line,
                   symbol->frames[k].column, symbol->frames[k].inlined ? " (inlined)" : "");
    }
    fprintf(stderr, "%zu addresses, %zu named, %zu frames, %zu with lines, %.3f s\n", addresses.count, known, frames,
            lines, end - start);
    symbolizer_free(names);
    array_free(&addresses);
    array_free(&ranges);
    return 0;
}
