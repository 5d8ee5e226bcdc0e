/* SPDX-License-Identifier: MIT */
#include "shim/module.h"

#include "freestanding/sys.h"
#include "freestanding/text.h"
#include "shim/gate.h"
#include "shim/recording.h"
#include "shim/spin.h"
#include "shim/stack.h"

#include <elf.h>
#include <link.h>

uint64_t module_loader_start, module_loader_bytes;

struct range {
    uint64_t start, end;
    uint32_t number;        /* in HMK_MODULES */
    uint32_t gone;
};

/* Sorted by start; replaced as a whole under the lock, read without it.  Old lists stay mapped (a reader may hold one). */
struct list {
    uint32_t count;
    uint32_t capacity;
    struct range range[];
};
static struct list *known;
static struct spin module_lock;
static uint64_t unloads_seen;

static uint32_t look_up(uint64_t address)
{
    const struct list *list = __atomic_load_n(&known, __ATOMIC_ACQUIRE);
    if (list == NULL)
        return 0;
    uint32_t low = 0, high = list->count;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (list->range[middle].end <= address)
            low = middle + 1;
        else
            high = middle;
    }
    return low < list->count && list->range[low].start <= address ? list->range[low].number + 1 : 0;
}

/* ---- asking the loader -------------------------------------------------------------------------- */

struct found {
    struct hmk_module module;
    const char *name;
};
struct question {
    struct found *found;            /* unknown modules, at most `capacity` */
    uint32_t count, capacity;
    uint64_t loads, unloads;
    uint32_t seen_count;            /* starts of all modules, for the unload check */
    uint32_t seen_capacity;
    uint64_t *seen;
};

static void take_build_id(struct hmk_module *module, const ElfW(Phdr) *header, uint64_t base)
{
    const unsigned char *at = (const unsigned char *)(base + header->p_vaddr), *end = at + header->p_memsz;
    while (at + sizeof(ElfW(Nhdr)) <= end) {
        const ElfW(Nhdr) *note = (const ElfW(Nhdr) *)at;
        const unsigned char *name = at + sizeof *note, *data = name + ((note->n_namesz + 3u) & ~3u);
        const unsigned char *next = data + ((note->n_descsz + 3u) & ~3u);
        if (next > end || next <= at)
            return;
        if (note->n_type == NT_GNU_BUILD_ID && note->n_namesz == 4 && __builtin_memcmp(name, "GNU", 4) == 0 &&
            note->n_descsz <= sizeof module->build_id) {
            __builtin_memcpy(module->build_id, data, note->n_descsz);
            module->build_id_bytes = note->n_descsz;
            return;
        }
        at = next;
    }
}

static int answer(struct dl_phdr_info *info, size_t bytes, void *context)
{
    (void)bytes;
    struct question *question = context;
    question->loads = info->dlpi_adds;
    question->unloads = info->dlpi_subs;
    struct hmk_module module = {.base = info->dlpi_addr, .start = UINT64_MAX};
    for (unsigned i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *header = &info->dlpi_phdr[i];
        if (header->p_type != PT_LOAD)
            continue;
        uint64_t start = info->dlpi_addr + header->p_vaddr, end = start + header->p_memsz;
        module.start = start < module.start ? start : module.start;
        module.end = end > module.end ? end : module.end;
    }
    if (module.start >= module.end)
        return 0;
    if (question->seen_count < question->seen_capacity)
        question->seen[question->seen_count] = module.start;
    question->seen_count++;
    if (look_up(module.start) != 0 || question->count >= question->capacity)
        return 0;
    for (unsigned i = 0; i < info->dlpi_phnum; i++)
        if (info->dlpi_phdr[i].p_type == PT_NOTE && module.build_id_bytes == 0)
            take_build_id(&module, &info->dlpi_phdr[i], info->dlpi_addr);
    question->found[question->count].module = module;
    question->found[question->count].name = info->dlpi_name;
    question->count++;
    return 0;
}

/* A handler that left by longjmp would keep the loader's lock for ever. */
static struct question ask(void *scratch, bool want_seen)
{
    struct question question = {.found = scratch};
    size_t for_seen = want_seen ? MODULE_SCRATCH / 2 : 0;
    question.capacity = (uint32_t)((MODULE_SCRATCH - for_seen) / sizeof *question.found);
    question.seen = (uint64_t *)((unsigned char *)scratch + MODULE_SCRATCH - for_seen);
    question.seen_capacity = (uint32_t)(for_seen / sizeof *question.seen);
    shield_raise_hard();
    dl_iterate_phdr(answer, &question);
    shield_lower();
    return question;
}

/* ---- the list ----------------------------------------------------------------------------------- */

static struct list *copy_list(uint32_t extra)
{
    uint32_t count = known != NULL ? known->count : 0, capacity = (count + extra) * 2 + 64;
    struct list *fresh = sys_map_anonymous(sizeof *fresh + capacity * sizeof fresh->range[0]);
    if (fresh == NULL)
        return NULL;
    fresh->capacity = capacity;
    fresh->count = count;
    if (count > 0)
        __builtin_memcpy(fresh->range, known->range, count * sizeof fresh->range[0]);
    return fresh;
}

static void insert(struct list *list, const struct found *found)
{
    char path[4096];
    const char *name = found->name;
    if (name == NULL || name[0] == 0) {
        long length = sys_readlink("/proc/self/exe", path, sizeof path - 1);
        path[length > 0 ? length : 0] = 0;
        name = path;
    }
    struct hmk_module module = found->module;
    module.load_ns = recording_live->last_ns;
    module.path = recording_string(name, text_length(name));
    uint64_t number = recording_append(HMK_MODULES, &module);
    if (number == RECORDING_NONE)
        return;
    recording_event(HMK_EVENT_MODULE_LOAD, number, 0, 0, 0, NULL);
    uint32_t at = list->count;
    while (at > 0 && list->range[at - 1].start > module.start) {
        list->range[at] = list->range[at - 1];
        at--;
    }
    list->range[at] = (struct range){.start = module.start, .end = module.end, .number = (uint32_t)number};
    list->count++;
}

/* The names in `found` belong to the loader and may vanish with a concurrent dlclose; the window is the same as for any
 * caller of dl_iterate_phdr that prints them afterwards, and the copy happens at once. */
static void add_all(const struct question *question)
{
    if (question->count == 0)
        return;
    shield_raise_hard();        /* stacks of Python come here under a light one, and this lock is never given back for them */
    spin_lock(&module_lock);
    struct list *fresh = copy_list(question->count);
    if (fresh != NULL) {
        for (uint32_t i = 0; i < question->count; i++)
            if (look_up(question->found[i].module.start) == 0)
                insert(fresh, &question->found[i]);
        __atomic_store_n(&known, fresh, __ATOMIC_RELEASE);
    }
    spin_unlock(&module_lock);
    shield_lower();
}

__attribute__((cold, noinline)) static uint32_t find_slow(uint64_t address, void *scratch)
{
    /* What a handler's fork interrupted goes on in the child: nobody will read it, and old loaders do not free their lock. */
    if (gate_is_wiped())
        return 0;
    struct question question = ask(scratch, false);
    if (question.unloads != __atomic_load_n(&unloads_seen, __ATOMIC_RELAXED)) {
        module_check_unload(scratch);
        question = ask(scratch, false);
    }
    add_all(&question);
    return look_up(address);
}

uint32_t module_find(uint64_t address, void *scratch)
{
    uint32_t number = look_up(address);
    return number != 0 ? number : find_slow(address, scratch);
}

static bool was_seen(const struct question *question, uint64_t start)
{
    for (uint32_t i = 0; i < question->seen_count; i++)
        if (question->seen[i] == start)
            return true;
    return false;
}

__attribute__((cold, noinline)) void module_check_unload(void *scratch)
{
    struct question question = ask(scratch, true);
    if (question.unloads == __atomic_load_n(&unloads_seen, __ATOMIC_RELAXED) ||
        question.seen_count > question.seen_capacity)
        return;
    shield_raise_hard();
    spin_lock(&module_lock);
    struct list *fresh = copy_list(0);
    if (fresh != NULL) {
        fresh->count = 0;
        for (uint32_t i = 0; known != NULL && i < known->count; i++) {
            if (was_seen(&question, known->range[i].start)) {
                fresh->range[fresh->count++] = known->range[i];
                continue;
            }
            struct hmk_module *module = recording_at(HMK_MODULES, known->range[i].number);
            HMK_SET(module->unload_ns, sys_monotonic_ns());
            recording_event(HMK_EVENT_MODULE_UNLOAD, known->range[i].number, 0, 0, 0, NULL);
        }
        __atomic_store_n(&known, fresh, __ATOMIC_RELEASE);
        __atomic_store_n(&unloads_seen, question.unloads, __ATOMIC_RELAXED);
    }
    spin_unlock(&module_lock);
    shield_lower();
    HMK_SET(recording_live->module_generation, recording_live->module_generation + 1);
    stack_forget();
}

static int find_loader(struct dl_phdr_info *info, size_t bytes, void *context)
{
    (void)bytes;
    unsigned long base = *(unsigned long *)context;
    if (info->dlpi_addr != base)
        return 0;
    for (unsigned i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *header = &info->dlpi_phdr[i];
        if (header->p_type == PT_LOAD && (header->p_flags & PF_X)) {
            module_loader_start = base + header->p_vaddr;
            module_loader_bytes = header->p_memsz;
        }
    }
    return 1;
}

bool module_init(void *scratch)
{
    unsigned long loader = sys_auxv(AT_BASE);
    if (loader != 0)
        dl_iterate_phdr(find_loader, &loader);
    struct question question = ask(scratch, false);
    unloads_seen = question.unloads;
    add_all(&question);
    return known != NULL;
}

void module_after_fork(void)
{
    spin_reset(&module_lock);
}
