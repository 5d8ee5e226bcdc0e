/* SPDX-License-Identifier: MIT */
#include "shim/recording_parts.h"

#include "config.h"
#include "freestanding/text.h"
#include "shim/settings.h"
#include <elf.h>
#include <string.h>
#include "freestanding/banned.h"

#if defined(__x86_64__)
#define MACHINE EM_X86_64
#else
#define MACHINE EM_AARCH64
#endif

#define COMMAND_LONGEST 4000

/* Returns a constant; missing under other C libraries. */
extern const char *gnu_get_libc_version(void) __attribute__((weak));

/* For one path or file at a time; there is one start per process image and thread stacks may be small. */
static char scratch[4096];
static uint64_t first_interval_ns;

/* ---- facts --------------------------------------------------------------------------------------- */

static void read_exe(void)
{
    long length = sys_readlink("/proc/self/exe", scratch, sizeof(scratch) - 1);
    scratch[length > 0 ? length : 0] = 0;
}

static void read_host(void)
{
    long length = sys_read_file("/proc/sys/kernel/hostname", scratch, sizeof(scratch));
    if (length > 0 && scratch[length - 1] == '\n')
        scratch[length - 1] = 0;
}

/* Arguments joined by a space. */
static void read_command(void)
{
    long length = sys_read_file("/proc/self/cmdline", scratch, COMMAND_LONGEST + 1);
    while (length > 0 && scratch[length - 1] == 0)
        length--;
    for (long i = 0; i < length; i++)
        if (scratch[i] == 0)
            scratch[i] = ' ';
}

/* Field 22 of /proc/self/stat; the name in field 2 may hold blanks and brackets. */
static uint64_t start_ticks(void)
{
    char stat[1024];
    long length = sys_read_file("/proc/self/stat", stat, sizeof(stat));
    long at = length > 0 ? length - 1 : 0;
    while (at > 0 && stat[at] != ')')
        at--;
    for (int field = 2; field < 22 && stat[at]; at++)
        if (stat[at] == ' ')
            field++;
    uint64_t ticks = 0;
    text_parse_size(stat + at, NULL, &ticks);
    return ticks;
}

static void read_boot_id(uint64_t boot_id[2])
{
    char id[64];
    if (sys_read_file("/proc/sys/kernel/random/boot_id", id, sizeof(id)) < 36)
        return;
    char digits[33];
    struct text text = text_over(digits, sizeof(digits));
    for (const char *at = id; *at && *at != '\n'; at++)
        if (*at != '-')
            text_char(&text, *at);
    text_parse_hex(digits + 16, NULL, &boot_id[1]);
    digits[16] = 0;
    text_parse_hex(digits, NULL, &boot_id[0]);
}

/* The base name of the executable that scratch holds, in place. */
static const char *exe_name(void)
{
    static const char deleted[] = " (deleted)";
    size_t length = text_length(scratch);
    if (length > sizeof(deleted) && text_equal(scratch + length - (sizeof(deleted) - 1), deleted))
        scratch[length - (sizeof(deleted) - 1)] = 0;
    const char *name = scratch;
    for (const char *at = scratch; *at; at++)
        if (*at == '/')
            name = at + 1;
    return *name ? name : "unknown";
}

static uint32_t scratch_string(void)
{
    return recording_string(scratch, text_length(scratch));
}

/* ---- the header ---------------------------------------------------------------------------------- */

static void fill_instant(struct hmk_header *header)
{
    header->pid = (uint32_t)sys_getpid();
    header->start_realtime_ns = sys_realtime_ns();
    header->start_ns = sys_monotonic_ns();
    header->process_start_ticks = start_ticks();
    if (recording_file.backing == RECORDING_MEMFD)
        header->flags |= HMK_FLAG_MEMFD;
    else
        header->flags &= ~(uint32_t)HMK_FLAG_MEMFD;
}

static void fill_strings(struct hmk_header *header, const struct settings *settings)
{
    read_exe();
    header->exe = scratch_string();
    read_command();
    header->command = scratch_string();
    long length = sys_getcwd(scratch, sizeof(scratch));
    header->cwd = length > 0 ? scratch_string() : 0;
    read_host();
    header->host = scratch_string();
    struct text libc = text_over(scratch, sizeof(scratch));
    if (gnu_get_libc_version) {
        text_put(&libc, "glibc ");
        text_put(&libc, gnu_get_libc_version());
    }
    header->libc = scratch_string();
    header->options = recording_string(settings->options, text_length(settings->options));
}

static void fill_header(struct hmk_header *header, const struct settings *settings)
{
    header->version = HMK_VERSION;
    header->minor = HMK_MINOR;
    header->byte_order = HMK_BYTE_ORDER;
    header->page_bytes = (uint32_t)sys_page_bytes();
    header->machine = MACHINE;
    header->depth_max = (uint32_t)settings->depth;
    header->sample_bytes = settings->sample_bytes;
    if (settings->sample_bytes > 0)
        header->flags |= HMK_FLAG_SAMPLED;
    if (settings->free_sites)
        header->flags |= HMK_FLAG_FREE_SITES;
    struct text version = text_over(header->tool_version, sizeof(header->tool_version));
    text_put(&version, PACKAGE_VERSION);
    read_boot_id(header->boot_id);
    fill_instant(header);
    header->ppid = (uint32_t)sys_getppid();
    header->root_pid = header->pid;
    fill_strings(header, settings);
}

static void publish(struct recording_head *head)
{
    uint64_t magic;
    memcpy(&magic, HMK_MAGIC, sizeof(magic));
    recording_show(head);
    HMK_PUBLISH(*(uint64_t *)head->header.magic, magic);
}

/* ---- start --------------------------------------------------------------------------------------- */

static void unmap(const struct recording_extent *first, const struct recording_table *tables)
{
    const unsigned char *start = first->address;
    for (unsigned id = 0; id < HMK_TABLE_SLOTS; id++)
        for (unsigned chunk = 0; chunk < HMK_TABLE_CHUNKS && tables[id].chunk[chunk]; chunk++) {
            unsigned char *address = tables[id].chunk[chunk];
            if (!(address >= start && address < start + first->bytes))
                sys_unmap(address, recording_chunk_bytes(id, chunk));
        }
    sys_unmap(first->address, first->bytes);
}

/* What the records 0 .. of some tables mean is fixed. */
static bool append_fixed(uint64_t start_ns)
{
    const struct hmk_frame root = { 0 };
    const struct hmk_site site = { .first_ns = start_ns };
    const struct hmk_site_peak peak = { 0 };
    bool good = recording_append_zeroed(HMK_STRINGS, 1) == 0 && recording_append(HMK_FRAMES, &root) == 0;
    for (uint64_t id = 0; id < HMK_SITE_FIRST; id++)
        good = good && recording_append_pair(HMK_SITES, &site, HMK_SITE_PEAKS, &peak) == id;
    return good;
}

static bool fill_first(struct recording_head *head, const void *argument)
{
    const struct settings *settings = argument;
    head->live = *recording_live;       /* what was counted before */
    head->live.stop_reason = HMK_STOP_NONE;
    head->live.file_bytes = recording_file.bytes;
    head->live.exit_status = -1;
    first_interval_ns = settings->timeline_ms * 1000000;
    head->live.timeline_interval_ns = first_interval_ns;
    if (!append_fixed(sys_monotonic_ns()))
        return false;
    fill_header(&head->header, settings);
    return true;
}

/* The best backing that can be had, filled by `fill`.  False: none. */
static bool start(bool (*fill)(struct recording_head *head, const void *argument), const void *argument)
{
    for (enum recording_backing backing = RECORDING_FILE; backing > RECORDING_NOWHERE; backing--) {
        if (!recording_file_create(backing))
            continue;
        struct recording_head *head = recording_lay_out();
        if (head && fill(head, argument)) {
            if (backing == RECORDING_PRIVATE)
                head->live.stop_reason = HMK_STOP_NO_FILE;
            publish(head);
            return true;
        }
        if (head)
            unmap(&recording_first_extent, recording_tables);
        recording_file_discard();
    }
    recording_detach();
    return false;
}

bool recording_open(const struct settings *settings, char *const *environment)
{
    char host[256];
    read_host();
    struct text text = text_over(host, sizeof(host));
    text_put(&text, scratch);
    read_exe();
    recording_file_set_pattern(settings->out, environment, exe_name(), host);
    return start(fill_first, settings) && recording_file.backing >= RECORDING_MEMFD;
}

/* ---- fork ---------------------------------------------------------------------------------------- */

struct parent {
    const struct hmk_header *header;
    const struct hmk_live *live;
    struct recording_extent first;
    struct recording_table tables[HMK_TABLE_SLOTS];
};

/* Up to the count that the fork froze.  The parent's threads may append meanwhile, above it. */
static bool copy_table(const struct recording_table *from, enum hmk_table_id id)
{
    if (!recording_reserve(id, from->count))
        return false;
    for (unsigned chunk = 0; hmk_chunk_first(chunk, from->first_records) < from->count; chunk++) {
        uint64_t records = from->count - hmk_chunk_first(chunk, from->first_records);
        if (records > hmk_chunk_records(chunk, from->first_records))
            records = hmk_chunk_records(chunk, from->first_records);
        memcpy(recording_tables[id].chunk[chunk], from->chunk[chunk], records * from->record_bytes);
    }
    recording_publish(id, from->count);
    return true;
}

static bool fill_child(struct recording_head *head, const void *argument)
{
    static const unsigned char inherited[] = { HMK_STRINGS, HMK_MODULES, HMK_CODES, HMK_FRAMES, HMK_SITES };
    const struct parent *parent = argument;
    const struct recording_table *sites = &parent->tables[HMK_SITES];
    if (!recording_reserve(HMK_SITE_PEAKS, sites->count))
        return false;
    recording_publish(HMK_SITE_PEAKS, sites->count);
    for (size_t i = 0; i < sizeof(inherited); i++)
        if (!copy_table(&parent->tables[inherited[i]], inherited[i]))
            return false;
    head->live.exit_status = -1;
    head->live.control_signal = parent->live->control_signal;
    head->live.module_generation = parent->live->module_generation;
    head->live.timeline_interval_ns = first_interval_ns;
    struct hmk_header *header = &head->header;
    /* All but the magic, which is for the end. */
    memcpy(&header->version, &parent->header->version, sizeof(*header) - offsetof(struct hmk_header, version));
    header->flags |= HMK_FLAG_FORKED;
    header->ppid = parent->header->pid;
    header->parent_start_ticks = parent->header->process_start_ticks;
    fill_instant(header);
    return true;
}

void recording_make_private(void)
{
    const unsigned char *start = recording_first_extent.address;
    if (recording_file.backing < RECORDING_MEMFD)
        return;
    recording_leave_pages();
    sys_make_private(recording_first_extent.address, recording_first_extent.bytes);
    for (unsigned id = 0; id < HMK_TABLE_SLOTS; id++)
        for (unsigned chunk = 0; chunk < HMK_TABLE_CHUNKS && recording_tables[id].chunk[chunk]; chunk++) {
            unsigned char *address = recording_tables[id].chunk[chunk];
            if (!(address >= start && address < start + recording_first_extent.bytes))
                sys_make_private(address, recording_chunk_bytes(id, chunk));
        }
    /* The next chunk, too, must not be the parent's, who would make one at the same place. */
    recording_file_leave(&recording_file);
    recording_file.backing = RECORDING_PRIVATE;
}

bool recording_fork_child(void)
{
    static struct parent parent;
    static struct recording_file parent_file;
    recording_reset_lock();
    if (recording_file.backing == RECORDING_NOWHERE)
        return false;
    parent.header = recording_header;
    parent.live = recording_live;
    parent.first = recording_first_extent;
    memcpy(parent.tables, recording_tables, sizeof(parent.tables));
    parent_file = recording_file;
    start(fill_child, &parent);
    unmap(&parent.first, parent.tables);
    recording_file_leave(&parent_file);
    return recording_file.backing >= RECORDING_MEMFD;
}
