/* SPDX-License-Identifier: MIT */
#include "shim/unwind_objects.h"

#include <dlfcn.h>
#include <elf.h>
#include <link.h>
#include <stddef.h>
#include <sys/auxv.h>
#include "freestanding/banned.h"

/* struct dl_find_object of glibc 2.35, which older headers lack.  The rest is reserved. */
struct found_object {
    uint64_t flags;
    void *map_start, *map_end;
    void *link_map;
    void *frame_header;
    uint64_t reserved[16];
};

static int (*find_object)(void *pc, struct found_object *found);
static struct unwind_object vdso;

static void describe(const ElfW(Phdr) *headers, unsigned count, uint64_t base, struct unwind_object *object)
{
    *object = (struct unwind_object){ .start = UINT64_MAX };
    for (unsigned i = 0; i < count; i++) {
        uint64_t start = base + headers[i].p_vaddr;
        if (headers[i].p_type == PT_GNU_EH_FRAME)
            object->frame_header = (const uint8_t *)start;
        if (headers[i].p_type != PT_LOAD)
            continue;
        if (start < object->start)
            object->start = start;
        if (start + headers[i].p_memsz > object->end)
            object->end = start + headers[i].p_memsz;
    }
}

struct search {
    uint64_t pc;
    struct unwind_object *object;
};

static int holds_pc(struct dl_phdr_info *info, size_t size, void *context)
{
    struct search *search = context;
    (void)size;
    describe(info->dlpi_phdr, info->dlpi_phnum, info->dlpi_addr, search->object);
    return search->pc >= search->object->start && search->pc < search->object->end;
}

static void find_vdso(void)
{
    const ElfW(Ehdr) *elf = (const ElfW(Ehdr) *)getauxval(AT_SYSINFO_EHDR);
    if (!elf)
        return;
    const ElfW(Phdr) *headers = (const ElfW(Phdr) *)((const char *)elf + elf->e_phoff);
    uint64_t base = (uint64_t)elf;
    for (unsigned i = 0; i < elf->e_phnum; i++) {
        if (headers[i].p_type == PT_LOAD) {
            base -= headers[i].p_vaddr;
            break;
        }
    }
    describe(headers, elf->e_phnum, base, &vdso);
}

void unwind_objects_init(void)
{
    *(void **)&find_object = dlsym(RTLD_DEFAULT, "_dl_find_object");
    find_vdso();
}

bool unwind_object_find(uint64_t pc, struct unwind_object *object)
{
    struct found_object found;

    if (pc - vdso.start < vdso.end - vdso.start) {
        *object = vdso;
        return true;
    }
    if (!find_object) {
        struct search search = { pc, object };
        return dl_iterate_phdr(holds_pc, &search) == 1;
    }
    if (find_object((void *)pc, &found) != 0)
        return false;
    *object = (struct unwind_object){ (uint64_t)found.map_start, (uint64_t)found.map_end, found.frame_header };
    /* An object with gaps is described by the one segment that holds pc, and its frame data lies in another. */
    if ((uint64_t)found.frame_header - object->start >= object->end - object->start)
        *object = (struct unwind_object){ 0, INT64_MAX, found.frame_header };
    return true;
}
