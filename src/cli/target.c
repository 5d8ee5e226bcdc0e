/* SPDX-License-Identifier: MIT */
#include "cli/target.h"

#include "base/strbuf.h"
#include "base/xalloc.h"
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <gelf.h>
#include <libelf.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#if defined __x86_64__
#define OWN_MACHINE EM_X86_64
#define OWN_MACHINE_NAME "x86-64"
#elif defined __aarch64__
#define OWN_MACHINE EM_AARCH64
#define OWN_MACHINE_NAME "aarch64"
#endif

/* The kernel reads so much of a #! line, and follows so many. */
#define SCRIPT_LINE_BYTES 256
#define SCRIPT_DEPTH 5

/* ---- finding ------------------------------------------------------------------------------------ */

static bool runnable(const char *path)
{
    struct stat status;
    if (stat(path, &status) != 0)
        return false;
    if (!S_ISREG(status.st_mode)) {
        errno = EACCES;
        return false;
    }
    return access(path, X_OK) == 0;
}

/* As execvp: the first runnable one; else errno is EACCES when one was there that could not be run. */
static char *find_in_path(const char *name)
{
    const char *directories = getenv("PATH");
    int reason = ENOENT;
    if (!directories)
        directories = "/bin:/usr/bin";
    for (;;) {
        size_t length = strcspn(directories, ":");
        char *path = length ? xprintf("%.*s/%s", (int)length, directories, name) : xprintf("./%s", name);
        if (runnable(path))
            return path;
        if (errno == EACCES)
            reason = EACCES;
        free(path);
        if (!directories[length])
            break;
        directories += length + 1;
    }
    errno = reason;
    return NULL;
}

static char *find_command(const char *command)
{
    if (!*command) {
        errno = ENOENT;
        return NULL;
    }
    if (!strchr(command, '/'))
        return find_in_path(command);
    return runnable(command) ? xstrdup(command) : NULL;
}

/* ---- ELF ---------------------------------------------------------------------------------------- */

static enum target_verdict set(struct target *target, enum target_verdict verdict)
{
    target->verdict = verdict;
    return verdict;
}

static const char *machine_name(unsigned machine)
{
    switch (machine) {
    case EM_386: return "32-bit x86";
    case EM_X86_64: return "x86-64";
    case EM_ARM: return "32-bit ARM";
    case EM_AARCH64: return "aarch64";
    case EM_RISCV: return "RISC-V";
    case EM_PPC64: return "PowerPC";
    case EM_S390: return "S/390";
    default: return "another machine";
    }
}

static enum target_verdict inspect_machine(struct target *target, const char *path, const GElf_Ehdr *header)
{
    if (header->e_type != ET_EXEC && header->e_type != ET_DYN) {
        fail_say(&target->why, "%s is not a program", path);
        return set(target, TARGET_NOT_RUNNABLE);
    }
    if (header->e_machine == OWN_MACHINE && header->e_ident[EI_CLASS] == ELFCLASS64)
        return TARGET_FINE;
    fail_say(&target->why, "%s is a program for %s, and this heapmark records %s programs only: use a build for %s",
             path, header->e_machine == OWN_MACHINE ? "a 32-bit ABI" : machine_name(header->e_machine),
             OWN_MACHINE_NAME, OWN_MACHINE_NAME);
    return set(target, TARGET_DEAF);
}

static bool has_go_section(Elf *elf)
{
    size_t names;
    if (elf_getshdrstrndx(elf, &names) != 0)
        return false;
    for (Elf_Scn *section = NULL; (section = elf_nextscn(elf, section));) {
        GElf_Shdr header;
        const char *name = gelf_getshdr(section, &header) ? elf_strptr(elf, names, header.sh_name) : NULL;
        if (name && (strcmp(name, ".go.buildinfo") == 0 || strcmp(name, ".note.go.buildid") == 0))
            return true;
    }
    return false;
}

/* The loader that the program asks for; false: none, it is static. */
static bool read_loader(Elf *elf, char *loader, size_t bytes)
{
    size_t count, file_bytes;
    const char *file = elf_rawfile(elf, &file_bytes);
    if (!file || elf_getphdrnum(elf, &count) != 0)
        return false;
    for (size_t i = 0; i < count; i++) {
        GElf_Phdr header;
        if (!gelf_getphdr(elf, (int)i, &header) || header.p_type != PT_INTERP)
            continue;
        if (header.p_filesz == 0 || header.p_filesz > bytes || header.p_offset > file_bytes - header.p_filesz)
            return false;
        memcpy(loader, file + header.p_offset, header.p_filesz);
        loader[header.p_filesz - 1] = 0;
        return true;
    }
    return false;
}

static enum target_verdict inspect_loader(struct target *target, const char *path, Elf *elf)
{
    char loader[4096];
    if (!read_loader(elf, loader, sizeof loader)) {
        bool go = has_go_section(elf);
        fail_say(&target->why, "%s is statically linked%s, so nothing can be preloaded into it: link it dynamically%s",
                 path, go ? " (Go)" : "",
                 go ? " (go build -linkmode=external); Go's own heap would not be seen even then" : "");
        return set(target, TARGET_DEAF);
    }
    if (strstr(loader, "/ld-musl-")) {
        fail_say(&target->why, "%s is a program of musl libc (its loader is %s), and heapmark's library is made for "
                 "glibc: it would not start; use a build for glibc", path, loader);
        return set(target, TARGET_HOSTILE);
    }
    if (strcmp(loader, "/system/bin/linker64") == 0) {
        fail_say(&target->why, "%s is a program of Android's libc: use a build for glibc", path);
        return set(target, TARGET_HOSTILE);
    }
    if (access(loader, F_OK) != 0) {
        fail_say(&target->why, "%s needs the loader %s, which is not there", path, loader);
        return set(target, TARGET_NOT_FOUND);
    }
    return TARGET_FINE;
}

/* ---- sanitizers --------------------------------------------------------------------------------- */

static const struct sanitizer {
    const char *library;        /* in the names of its shared runtimes, gcc's and clang's */
    const char *function;       /* in every program that has it linked in */
    const char *name;
} sanitizers[] = {
    { "asan", "__asan_init", "AddressSanitizer" },
    { "tsan", "__tsan_init", "ThreadSanitizer" },
    { "lsan", "__lsan_init", "LeakSanitizer" },
    { "msan", "__msan_init", "MemorySanitizer" },
};
#define SANITIZERS (sizeof sanitizers / sizeof *sanitizers)

/* "libasan.so.8", "libclang_rt.hwasan-x86_64.so" */
static const struct sanitizer *sanitizer_library(const char *needed)
{
    for (size_t i = 0; i < SANITIZERS; i++) {
        const char *at = strstr(needed, sanitizers[i].library);
        if (at && (strncmp(needed, "libclang_rt.", 12) == 0
                   || (at - needed <= 5 && strncmp(at + 4, ".so", 3) == 0 && strncmp(needed, "lib", 3) == 0)))
            return &sanitizers[i];
    }
    return NULL;
}

static const struct sanitizer *sanitizer_function(const char *symbol)
{
    for (size_t i = 0; i < SANITIZERS; i++)
        if (strcmp(symbol, sanitizers[i].function) == 0)
            return &sanitizers[i];
    return NULL;
}

static const struct sanitizer *sanitizer_in_section(Elf *elf, Elf_Scn *section, const GElf_Shdr *header)
{
    Elf_Data *data = elf_getdata(section, NULL);
    size_t count = data && header->sh_entsize ? header->sh_size / header->sh_entsize : 0;
    const struct sanitizer *found = NULL;
    for (size_t i = 0; i < count && !found; i++) {
        GElf_Dyn entry;
        GElf_Sym symbol;
        const char *name;
        if (header->sh_type == SHT_DYNAMIC) {
            bool needed = gelf_getdyn(data, (int)i, &entry) && entry.d_tag == DT_NEEDED;
            name = needed ? elf_strptr(elf, header->sh_link, entry.d_un.d_val) : NULL;
            found = name ? sanitizer_library(name) : NULL;
        } else {
            bool defined = gelf_getsym(data, (int)i, &symbol) && symbol.st_shndx != SHN_UNDEF;
            name = defined ? elf_strptr(elf, header->sh_link, symbol.st_name) : NULL;
            found = name ? sanitizer_function(name) : NULL;
        }
    }
    return found;
}

static enum target_verdict inspect_sanitizers(struct target *target, const char *path, Elf *elf)
{
    const struct sanitizer *found = NULL;
    for (Elf_Scn *section = NULL; !found && (section = elf_nextscn(elf, section));) {
        GElf_Shdr header;
        if (gelf_getshdr(section, &header)
            && (header.sh_type == SHT_DYNAMIC || header.sh_type == SHT_DYNSYM || header.sh_type == SHT_SYMTAB))
            found = sanitizer_in_section(elf, section, &header);
    }
    if (!found)
        return TARGET_FINE;
    fail_say(&target->why, "%s was built with %s, which replaces malloc itself: use a build without -fsanitize", path,
             found->name);
    return set(target, TARGET_HOSTILE);
}

/* ---- other identities --------------------------------------------------------------------------- */

static enum target_verdict inspect_identity(struct target *target, const char *path, const struct stat *status)
{
    struct statvfs mount;
    if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1 || (statvfs(path, &mount) == 0 && (mount.f_flag & ST_NOSUID)))
        return TARGET_FINE;
    bool other_user = (status->st_mode & S_ISUID) && status->st_uid != getuid();
    bool other_group = (status->st_mode & (S_ISGID | S_IXGRP)) == (S_ISGID | S_IXGRP) && status->st_gid != getgid();
    bool capabilities = getuid() != 0 && getxattr(path, "security.capability", NULL, 0) > 0;
    if (!other_user && !other_group && !capabilities)
        return TARGET_FINE;
    if (other_user) {
        const struct passwd *owner = getpwuid(status->st_uid);
        fail_say(&target->why, "%s is setuid, so the loader ignores preloaded libraries: run it as its owner%s%s, or a "
                 "copy without the setuid bit", path, owner ? " " : "", owner ? owner->pw_name : "");
    } else {
        fail_say(&target->why, "%s %s, so the loader ignores preloaded libraries: run a copy without %s", path,
                 other_group ? "is setgid" : "has file capabilities", other_group ? "the setgid bit" : "them");
    }
    return set(target, TARGET_DEAF);
}

static enum target_verdict inspect_elf(struct target *target, const char *path, int fd)
{
    GElf_Ehdr header;
    struct stat status;
    elf_version(EV_CURRENT);
    Elf *elf = elf_begin(fd, ELF_C_READ_MMAP, NULL);
    enum target_verdict verdict = TARGET_FINE;
    GElf_Phdr segment;
    if (!elf || elf_kind(elf) != ELF_K_ELF || !gelf_getehdr(elf, &header) || !gelf_getphdr(elf, 0, &segment)) {
        fail_say(&target->why, "%s is not a program: its ELF header is damaged", path);
        verdict = set(target, TARGET_NOT_RUNNABLE);
    }
    if (verdict == TARGET_FINE)
        verdict = inspect_machine(target, path, &header);
    if (verdict == TARGET_FINE)
        verdict = inspect_loader(target, path, elf);
    if (verdict == TARGET_FINE && fstat(fd, &status) == 0)
        verdict = inspect_identity(target, path, &status);
    if (verdict == TARGET_FINE)
        verdict = inspect_sanitizers(target, path, elf);
    elf_end(elf);
    return verdict;
}

/* ---- scripts ------------------------------------------------------------------------------------ */

/* The command that `env ARGUMENTS` starts, to be freed: skips -S, options and NAME=VALUE.  NULL: none, or not to be
 * told. */
static char *env_command(const char *arguments)
{
    while (arguments && *(arguments += strspn(arguments, " \t"))) {
        size_t length = strcspn(arguments, " \t");
        if (strncmp(arguments, "-S", 2) == 0 && length > 2) {
            arguments += 2;
            continue;
        }
        if (arguments[0] != '-' && !memchr(arguments, '=', length))
            return xstrndup(arguments, length);
        if (arguments[0] == '-' && length == 2 && strchr("uC", arguments[1])) {
            arguments += length;
            arguments += strspn(arguments, " \t");
            length = strcspn(arguments, " \t");
        }
        arguments += length;
    }
    return NULL;
}

/* The program that a #! line names, to be freed.  `line` is changed. */
static char *script_interpreter(char *line)
{
    line[strcspn(line, "\n")] = 0;
    char *path = line + 2 + strspn(line + 2, " \t");
    size_t length = strcspn(path, " \t");
    const char *arguments = path[length] ? path + length + 1 : "";
    path[length] = 0;
    const char *slash = strrchr(path, '/');
    if (strcmp(slash ? slash + 1 : path, "env") == 0 && runnable(path)) {
        char *command = env_command(arguments);
        char *found = command ? find_command(command) : NULL;
        free(command);
        if (found)
            return found;
    }
    return xstrdup(path);
}

/* `path` was found; what it is decides. */
static void inspect_file(struct target *target, const char *path, unsigned depth)
{
    char start[SCRIPT_LINE_BYTES + 1] = "";
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return;         /* may be executed without being readable: nothing to be said against it */
    ssize_t got = read(fd, start, SCRIPT_LINE_BYTES);
    if (got >= SELFMAG && memcmp(start, ELFMAG, SELFMAG) == 0) {
        inspect_elf(target, path, fd);
    } else if (got >= 2 && start[0] == '#' && start[1] == '!' && depth < SCRIPT_DEPTH) {
        char *interpreter = script_interpreter(start);
        if (access(interpreter, F_OK) != 0) {
            fail_say(&target->why, "%s: its interpreter %s is not there", path, interpreter);
            set(target, TARGET_NOT_FOUND);
        } else {
            inspect_file(target, interpreter, depth + 1);
        }
        free(interpreter);
    }
    close(fd);
}

void target_inspect(struct target *target, const char *command)
{
    *target = (struct target){ .verdict = TARGET_FINE };
    target->path = find_command(command);
    if (target->path) {
        inspect_file(target, target->path, 0);
        return;
    }
    int reason = errno;
    struct stat status;
    if (reason == ENOENT && !strchr(command, '/'))
        fail_say(&target->why, "%s: command not found", command);
    else if (strchr(command, '/') && stat(command, &status) == 0 && S_ISDIR(status.st_mode))
        fail_say(&target->why, "%s is a directory", command);
    else
        fail_say(&target->why, "cannot run %s: %s", command, strerror(reason));
    target->verdict = reason == ENOENT || reason == ENOTDIR ? TARGET_NOT_FOUND : TARGET_NOT_RUNNABLE;
}

void target_free(struct target *target)
{
    free(target->path);
    target->path = NULL;
}
