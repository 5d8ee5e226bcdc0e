/* SPDX-License-Identifier: MIT */
#include "symbols/module_file.h"

#include "base/fail.h"
#include "base/strbuf.h"
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static int no_elf_elsewhere(Dwfl_Module *module, void **userdata, const char *name, Dwarf_Addr base, char **file_name,
                            Elf **elf)
{
    (void)module, (void)userdata, (void)name, (void)base, (void)file_name, (void)elf;
    return -1;
}

static const Dwfl_Callbacks callbacks = {
    .find_elf = no_elf_elsewhere,
    .find_debuginfo = dwfl_standard_find_debuginfo,
    .section_address = dwfl_offline_section_address,
};

static bool same_build_id(struct module_file *file, const uint8_t *build_id, size_t build_id_bytes)
{
    const unsigned char *found;
    GElf_Addr found_at;
    int found_bytes = dwfl_module_build_id(file->module, &found, &found_at);
    return found_bytes == (int)build_id_bytes && memcmp(found, build_id, build_id_bytes) == 0;
}

/* Takes fd in any case. */
static bool report(struct module_file *file, const char *path, int fd, struct fail *why)
{
    *file = (struct module_file){ .dwfl = dwfl_begin(&callbacks) };
    if (!file->dwfl) {
        close(fd);
        return fail_say(why, "cannot read %s: %s", path, dwfl_errmsg(-1));
    }
    dwfl_report_begin(file->dwfl);
    file->module = dwfl_report_elf(file->dwfl, path, path, fd, 0, true);
    GElf_Addr bias;
    bool opened = file->module && dwfl_report_end(file->dwfl, NULL, NULL) == 0
                  && dwfl_module_getelf(file->module, &bias);
    if (!opened) {
        fail_say(why, "cannot read %s: %s", path, dwfl_errmsg(-1));
        if (!file->module)
            close(fd);
        dwfl_end(file->dwfl);
        return false;
    }
    dwfl_module_info(file->module, NULL, &file->start, &file->end, NULL, NULL, NULL, NULL);
    return true;
}

static bool open_path(struct module_file *file, const char *path, struct fail *why)
{
    /* Non-blocking: a path from a recording may by now be a pipe. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return fail_errno(why, "cannot open %s", path);
    struct stat status;
    if (fstat(fd, &status) < 0 || !S_ISREG(status.st_mode)) {
        close(fd);
        return fail_say(why, "%s is not a file", path);
    }
    return report(file, path, fd, why);
}

/* The vdso has no file; what the kernel mapped into this process stands for it. */
static bool open_vdso(struct module_file *file, struct fail *why)
{
    const Elf64_Ehdr *image = (const Elf64_Ehdr *)getauxval(AT_SYSINFO_EHDR);
    if (!image)
        return fail_say(why, "this kernel has no vdso");
    size_t bytes = image->e_shoff + (size_t)image->e_shnum * image->e_shentsize;
    int fd = memfd_create("vdso", MFD_CLOEXEC);
    if (fd < 0 || write(fd, image, bytes) != (ssize_t)bytes) {
        fail_errno(why, "cannot copy the vdso");
        if (fd >= 0)
            close(fd);
        return false;
    }
    return report(file, "[vdso]", fd, why);
}

static bool open_debug_file(struct module_file *file, const uint8_t *build_id, size_t build_id_bytes)
{
    struct strbuf path = STRBUF_INIT;
    strbuf_put(&path, "/usr/lib/debug/.build-id/");
    for (size_t i = 0; i < build_id_bytes; i++)
        strbuf_printf(&path, i == 0 ? "%02x/" : "%02x", build_id[i]);
    strbuf_put(&path, ".debug");
    bool opened = open_path(file, path.text, NULL);
    strbuf_free(&path);
    return opened;
}

bool module_file_open(struct module_file *file, const char *path, const uint8_t *build_id, size_t build_id_bytes,
                      struct fail *why)
{
    bool vdso = strcmp(path, "[vdso]") == 0 || strcmp(path, "linux-vdso.so.1") == 0;
    if (vdso ? open_vdso(file, why) : open_path(file, path, why)) {
        if (build_id_bytes == 0 || same_build_id(file, build_id, build_id_bytes))
            return true;
        module_file_close(file);
        fail_say(why, "%s changed since the recording", path);
    }
    if (build_id_bytes > 0 && open_debug_file(file, build_id, build_id_bytes)) {
        if (same_build_id(file, build_id, build_id_bytes))
            return true;
        module_file_close(file);
    }
    return false;
}

void module_file_close(struct module_file *file)
{
    dwfl_end(file->dwfl);
    *file = (struct module_file){0};
}
