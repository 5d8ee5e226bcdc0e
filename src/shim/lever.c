/* SPDX-License-Identifier: MIT */
#include "shim/lever.h"

#include "shim/real.h"
#include "shim/start.h"
#include "shim/unwind.h"

#include <dlfcn.h>
#include <link.h>

static enum hmk_lever lever;    /* 0: none */
static int (*jemalloc_control)(const char *, void *, size_t *, void *, size_t);
static void (*tcmalloc_release)(void);
static void (*mimalloc_collect)(bool);

/* Of another allocator than glibc's. */
static uint64_t code_start, code_bytes;
static struct unwind_thread *walker;

static const void *object_of(const void *address)
{
    Dl_info info;
    return dladdr(address, &info) != 0 ? info.dli_fbase : NULL;
}

struct search {
    uint64_t address, start, end;
};

static int note_code(struct dl_phdr_info *info, size_t bytes, void *context)
{
    struct search *search = context;
    (void)bytes;
    for (unsigned i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *part = &info->dlpi_phdr[i];
        uint64_t start = info->dlpi_addr + part->p_vaddr;
        if (part->p_type == PT_LOAD && search->address - start < part->p_memsz) {
            search->start = start;
            search->end = start + part->p_memsz;
            return 1;
        }
    }
    return 0;
}

static void *address_of_malloc(void)
{
    void *address;
    __builtin_memcpy(&address, &real.malloc, sizeof address);
    return address;
}

/* A function of the very object that serves malloc. */
static bool find(const char *name, void *pointer)
{
    void *found = dlsym(RTLD_DEFAULT, name);
    if (found == NULL || object_of(found) != object_of(address_of_malloc()))
        return false;
    __builtin_memcpy(pointer, &found, sizeof found);
    return true;
}

/* The program's calls of malloc reach us.  A program that is not position-independent and takes the address of malloc
 * has a symbol of that name itself, undefined and at its own jump slot: it tells nothing, another name does. */
static bool serves_program(void)
{
    static const char *const names[] = { "malloc", "calloc", "memalign", "aligned_alloc", "malloc_usable_size" };
    for (unsigned i = 0; i < sizeof names / sizeof *names; i++) {
        void *found = dlsym(RTLD_DEFAULT, names[i]);
        const ElfW(Sym) *symbol = NULL;
        Dl_info info;
        if (found == NULL || dladdr1(found, &info, (void **)&symbol, RTLD_DL_SYMENT) == 0)
            return false;
        if (symbol == NULL || symbol->st_shndx != SHN_UNDEF)
            return info.dli_fbase == object_of((void *)serves_program);
    }
    return true;
}

void lever_init(void)
{
    if (!serves_program())
        return;
    if (start_is_glibc)
        lever = real.malloc_trim != NULL ? HMK_LEVER_GLIBC : 0;
    else if (find("mallctl", &jemalloc_control))
        lever = HMK_LEVER_JEMALLOC;
    else if (find("MallocExtension_ReleaseFreeMemory", &tcmalloc_release))
        lever = HMK_LEVER_TCMALLOC;
    else if (find("mi_collect", &mimalloc_collect))
        lever = HMK_LEVER_MIMALLOC;
    if (start_is_glibc || lever == 0)
        return;
    struct search search = {.address = (uint64_t)address_of_malloc()};
    dl_iterate_phdr(note_code, &search);
    code_start = search.start;
    code_bytes = search.end - search.start;
    walker = unwind_thread_new();
}

uint32_t lever_found(void)
{
    return lever;
}

bool lever_pull(void)
{
    switch (lever) {
    case HMK_LEVER_GLIBC:
        real.malloc_trim(0);
        return true;
    case HMK_LEVER_JEMALLOC:
        jemalloc_control("thread.tcache.flush", NULL, NULL, NULL, 0);
        jemalloc_control("arena.4096.purge", NULL, NULL, NULL, 0);     /* 4096: all arenas */
        return true;
    case HMK_LEVER_TCMALLOC:
        tcmalloc_release();
        return true;
    case HMK_LEVER_MIMALLOC:
        mimalloc_collect(true);
        return true;
    default:
        return false;
    }
}

bool lever_is_clear(const struct unwind_start *start)
{
    if (start_is_glibc || lever == 0)
        return true;
    if (walker == NULL || code_bytes == 0)
        return false;
    struct unwind_result stack;
    unwind_capture(walker, start, &stack);
    if (stack.memo != 0 || (stack.flags & (UNWIND_INCOMPLETE | UNWIND_GUESSED)))
        return false;
    for (uint32_t i = 0; i < stack.depth; i++)
        if (stack.pcs[i] - code_start < code_bytes)
            return false;
    return true;
}
