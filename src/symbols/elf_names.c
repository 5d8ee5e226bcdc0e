/* SPDX-License-Identifier: MIT */
#include "symbols/elf_names.h"

#include "base/array.h"
#include "symbols/module_file.h"
#include <stdbool.h>
#include <string.h>

struct elf_name {
    uint64_t start, end;        /* end == start: the table gives no size */
    uint64_t limit;             /* where such a name's section ends */
    uint64_t reach;             /* largest end of this entry and all before it */
    const char *name;
    uint32_t rank;              /* lower is better */
};

struct elf_names {
    ARRAY_OF(struct elf_name) table;
};

/* End of the code section `index`; 0 when it is none. */
static uint64_t code_end(Elf *elf, GElf_Word index)
{
    GElf_Shdr header;
    Elf_Scn *section = index < SHN_LORESERVE ? elf_getscn(elf, index) : NULL;
    if (!section || !gelf_getshdr(section, &header) || !(header.sh_flags & SHF_EXECINSTR))
        return 0;
    return header.sh_addr + header.sh_size;
}

static uint32_t rank_of(const char *name, const GElf_Sym *symbol)
{
    uint32_t underscores = (uint32_t)strspn(name, "_");
    uint32_t binding = GELF_ST_BIND(symbol->st_info);
    return underscores * 4 + (binding == STB_GLOBAL ? 0 : binding == STB_WEAK ? 1 : 2);
}

static bool is_function(const GElf_Sym *symbol, GElf_Word section, uint64_t limit)
{
    unsigned type = GELF_ST_TYPE(symbol->st_info);
    if (section == SHN_UNDEF || symbol->st_value == 0)
        return false;
    return type == STT_FUNC || type == STT_GNU_IFUNC || (type == STT_NOTYPE && limit > 0);
}

static int by_place(const void *a_pointer, const void *b_pointer)
{
    const struct elf_name *a = a_pointer, *b = b_pointer;
    if (a->start != b->start)
        return a->start < b->start ? -1 : 1;
    /* At one address, the best name comes last, where the search begins; a size is better than none. */
    bool a_sized = a->end > a->start, b_sized = b->end > b->start;
    if (a_sized != b_sized)
        return a_sized ? 1 : -1;
    if (a->rank != b->rank)
        return a->rank > b->rank ? -1 : 1;
    return strcmp(b->name, a->name);
}

struct elf_names *elf_names_read(struct module_file *file)
{
    struct elf_names *names = xcalloc(1, sizeof *names);
    int symbols = dwfl_module_getsymtab(file->module);
    for (int i = 1; i < symbols; i++) {
        GElf_Sym symbol;
        GElf_Addr address;
        GElf_Word section;
        Elf *elf;
        const char *name = dwfl_module_getsym_info(file->module, i, &symbol, &address, &section, &elf, NULL);
        if (!name || !*name || *name == '$')
            continue;
        uint64_t limit = code_end(elf, section);
        if (!is_function(&symbol, section, limit))
            continue;
        struct elf_name entry = { .start = address, .end = address + symbol.st_size,
                                  .limit = limit ? limit + (address - symbol.st_value) : 0,
                                  .name = name, .rank = rank_of(name, &symbol) };
        if (entry.end >= entry.start)
            array_push(&names->table, entry);
    }
    array_sort(&names->table, by_place);
    uint64_t reach = 0;
    for (size_t i = 0; i < names->table.count; i++) {
        struct elf_name *entry = &names->table.at[i];
        if (entry->end > reach)
            reach = entry->end;
        entry->reach = reach;
    }
    return names;
}

/* Number of entries that start at or before the address. */
static size_t entries_before(const struct elf_names *names, uint64_t address)
{
    size_t low = 0, high = names->table.count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (names->table.at[middle].start <= address)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

const char *elf_names_find(const struct elf_names *names, uint64_t address)
{
    size_t last = entries_before(names, address);
    for (size_t i = last; i > 0 && names->table.at[i - 1].reach > address; i--)
        if (names->table.at[i - 1].end > address)
            return names->table.at[i - 1].name;
    /* Hand-written assembly often gives no sizes: such a name holds until the next one. */
    if (last > 0 && names->table.at[last - 1].start == names->table.at[last - 1].end
        && address < names->table.at[last - 1].limit)
        return names->table.at[last - 1].name;
    return NULL;
}

void elf_names_free(struct elf_names *names)
{
    if (names)
        array_free(&names->table);
    free(names);
}
