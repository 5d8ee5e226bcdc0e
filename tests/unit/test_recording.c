/* SPDX-License-Identifier: MIT */
#include "shim/recording.h"
#include "shim/recording_parts.h"
#include "shim/settings.h"
#include "recording_rules.h"

#include <check.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

static char directory[64];

static void set_up(void)
{
    strcpy(directory, "/tmp/heapmark-test-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(directory));
    ck_assert_int_eq(chdir(directory), 0);
    recording_detach();     /* what a test before this one left, when all run in one process */
}

static void tear_down(void)
{
    char command[128];
    recording_file_leave(&recording_file);
    ck_assert_int_eq(chdir("/"), 0);
    snprintf(command, sizeof(command), "rm -rf %s", directory);
    ck_assert_int_eq(system(command), 0);
}

static struct settings settings_of(const char *out, const char *options)
{
    char complaint[200], out_variable[512], options_variable[512];
    struct settings settings;
    snprintf(out_variable, sizeof(out_variable), "HEAPMARK_OUT=%s", out);
    snprintf(options_variable, sizeof(options_variable), "HEAPMARK_OPTIONS=%s", options);
    char *environment[] = { out_variable, options_variable, NULL };
    settings_read(&settings, environment, complaint, sizeof(complaint));
    ck_assert_str_eq(complaint, "");
    settings.out = out;
    settings.options = options;
    return settings;
}

static char *test_environment[] = { "HOME=/nowhere", "WHERE=sub/100%p", "WHEREVER=x", NULL };

static void open_named(const char *out)
{
    struct settings settings = settings_of(out, "");
    ck_assert_msg(recording_open(&settings, test_environment), "%s", recording_problem());
}

static struct rules_file load_good(const char *path)
{
    struct rules_file file = rules_load(path);
    ck_assert_msg(file.bytes != NULL, "cannot read %s", path);
    const char *broken = rules_broken(&file);
    ck_assert_msg(broken == NULL, "%s: %s", path, broken);
    return file;
}

/* libcheck's assertions are not for threads, children or the inside of long loops: each writes to a file. */
static bool add_sites(uint32_t first, uint32_t count)
{
    bool good = true;
    for (uint32_t i = first; i < first + count; i++) {
        struct hmk_frame frame = { .code = 0x400000u + i, .parent = i / 2 };
        uint64_t node = recording_append(HMK_FRAMES, &frame);
        struct hmk_site site = { .frame = (uint32_t)node, .first_ns = i };
        struct hmk_site_peak peak = { .peak_bytes = i };
        uint64_t id = recording_append_pair(HMK_SITES, &site, HMK_SITE_PEAKS, &peak);
        good = good && node != RECORDING_NONE && id != RECORDING_NONE;
    }
    return good;
}

static void append_sites(uint32_t first, uint32_t count)
{
    ck_assert(add_sites(first, count));
}

/* ---- the file ------------------------------------------------------------------------------------ */

START_TEST(new_file_is_small_private_and_true)
{
    struct settings settings = settings_of("run.hmk", "depth=99:sample=64K");
    ck_assert(recording_open(&settings, test_environment));
    char path[200], text[4096];
    snprintf(path, sizeof(path), "%s/run.hmk", directory);
    ck_assert_str_eq(recording_path(), path);
    struct stat status;
    ck_assert_int_eq(stat(path, &status), 0);
    ck_assert_int_lt(status.st_size, 200 << 10);
    ck_assert_int_ge(status.st_blocks * 512, status.st_size);
    ck_assert_uint_eq(status.st_mode & 07777, 0600);
    ck_assert_int_ge(recording_file.fd, 256);
    ck_assert_int_eq(fcntl(recording_file.fd, F_GETFD), FD_CLOEXEC);

    struct rules_file file = load_good(path);
    const struct hmk_header *header = rules_header(&file);
    ck_assert_uint_eq(header->pid, (uint32_t)getpid());
    ck_assert_uint_eq(header->ppid, (uint32_t)getppid());
    ck_assert_uint_eq(header->depth_max, 99);
    ck_assert_uint_eq(header->sample_bytes, 64 << 10);
    ck_assert_uint_eq(header->flags, HMK_FLAG_SAMPLED);
    ck_assert_uint_eq(header->page_bytes, (uint32_t)getpagesize());
    ck_assert_str_eq(rules_string(&file, header->cwd), directory);
    ck_assert_str_eq(rules_string(&file, header->options), "depth=99:sample=64K");
    text[readlink("/proc/self/exe", text, sizeof(text) - 1)] = 0;
    ck_assert_str_eq(rules_string(&file, header->exe), text);
    gethostname(text, sizeof(text));
    ck_assert_str_eq(rules_string(&file, header->host), text);
    ck_assert_int_eq(strncmp(rules_string(&file, header->libc), "glibc 2.", 8), 0);
    ck_assert_ptr_nonnull(strstr(rules_string(&file, header->command), "test_recording"));
    ck_assert_int_eq(rules_live(&file)->exit_status, -1);
    ck_assert_uint_eq(rules_live(&file)->file_bytes, (uint64_t)status.st_size);
    ck_assert_uint_eq(rules_live(&file)->timeline_interval_ns, 10000000);
    rules_unload(&file);
    ck_assert_uint_gt(recording_self_bytes(), 3 * 4096);
    ck_assert_uint_le(recording_self_bytes(), (uint64_t)status.st_size);
}
END_TEST

START_TEST(header_names_the_process)
{
    open_named("run.hmk");
    char text[1024], name[64];
    FILE *stat = fopen("/proc/self/stat", "r");
    unsigned long long ticks;
    ck_assert_ptr_nonnull(fgets(text, sizeof(text), stat));
    fclose(stat);
    ck_assert_int_eq(sscanf(strrchr(text, ')') + 1, " %63s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s"
                            " %*s %*s %*s %llu", name, &ticks), 2);
    ck_assert_uint_eq(recording_header->process_start_ticks, ticks);
    FILE *boot = fopen("/proc/sys/kernel/random/boot_id", "r");
    ck_assert_ptr_nonnull(fgets(text, sizeof(text), boot));
    fclose(boot);
    snprintf(name, sizeof(name), "%08llx-%04llx-%04llx-%04llx-%012llx\n",
             (unsigned long long)recording_header->boot_id[0] >> 32,
             (unsigned long long)recording_header->boot_id[0] >> 16 & 0xffff,
             (unsigned long long)recording_header->boot_id[0] & 0xffff,
             (unsigned long long)recording_header->boot_id[1] >> 48,
             (unsigned long long)recording_header->boot_id[1] & 0xffffffffffff);
    ck_assert_str_eq(text, name);
}
END_TEST

START_TEST(names_take_the_letters)
{
    char expected[512], host[64], exe[200];
    gethostname(host, sizeof(host));
    exe[readlink("/proc/self/exe", exe, sizeof(exe) - 1)] = 0;
    ck_assert_int_eq(mkdir("sub", 0700), 0);
    open_named("%q{WHERE}-%e-%p-%h-%u-%%-%x-%q{NONE}-%q{UNCLOSED.hmk");
    snprintf(expected, sizeof(expected), "%s/sub/100%%p-%s-%d-%s-%u-%%-%%x--%%q{UNCLOSED.hmk", directory,
             strrchr(exe, '/') + 1, getpid(), host, getuid());
    ck_assert_str_eq(recording_path(), expected);
    ck_assert_int_eq(access(expected, F_OK), 0);
}
END_TEST

START_TEST(names_that_clash_get_numbers)
{
    static const char *const names[] = { "a.hmk", "a.1.hmk", "a.2.hmk" };
    char expected[200];
    for (size_t i = 0; i < 3; i++) {
        open_named("a.hmk");
        snprintf(expected, sizeof(expected), "%s/%s", directory, names[i]);
        ck_assert_str_eq(recording_path(), expected);
        recording_file_leave(&recording_file);
    }
    ck_assert_int_eq(symlink("/etc/passwd", "b"), 0);
    open_named("b");
    snprintf(expected, sizeof(expected), "%s/b.1", directory);
    ck_assert_str_eq(recording_path(), expected);
}
END_TEST

START_TEST(without_a_file_it_is_a_memfd)
{
    struct settings settings = settings_of("missing/a.hmk", "");
    ck_assert(recording_open(&settings, test_environment));
    ck_assert_str_eq(recording_path(), "");
    ck_assert_ptr_nonnull(strstr(recording_problem(), "missing/a.hmk: no such directory"));
    ck_assert_uint_eq(recording_header->flags, HMK_FLAG_MEMFD);
    append_sites(1, 3000);
    char path[64];
    snprintf(path, sizeof(path), "/proc/self/fd/%d", recording_file.fd);
    struct rules_file file = load_good(path);
    ck_assert_uint_eq(rules_count(&file, HMK_SITES), 3000 + HMK_SITE_FIRST);
    rules_unload(&file);
}
END_TEST

START_TEST(without_descriptors_it_is_private)
{
    struct settings settings = settings_of("a.hmk", "");
    struct rlimit old, none;
    getrlimit(RLIMIT_NOFILE, &old);
    none = old;
    none.rlim_cur = 0;
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
    bool opened = recording_open(&settings, test_environment);
    setrlimit(RLIMIT_NOFILE, &old);
    ck_assert(!opened);
    ck_assert_ptr_nonnull(strstr(recording_problem(), "too many open files"));
    ck_assert_uint_eq(recording_live->stop_reason, HMK_STOP_NO_FILE);
    append_sites(1, 3000);
    ck_assert_uint_eq(recording_count(HMK_SITES), 3000 + HMK_SITE_FIRST);
}
END_TEST

/* ---- tables -------------------------------------------------------------------------------------- */

START_TEST(tables_grow_over_many_chunks)
{
    enum { SITES = 60000 };
    open_named("a.hmk");
    append_sites(1, SITES);
    for (uint32_t i = 1; i <= SITES; i++)
        if (((struct hmk_site *)recording_at(HMK_SITES, i + HMK_SITE_FIRST - 1))->first_ns != i)
            ck_abort_msg("site %u is another one in memory", i);
    struct rules_file file = load_good("a.hmk");
    ck_assert_uint_eq(rules_count(&file, HMK_FRAMES), SITES + 1);
    ck_assert_uint_eq(rules_count(&file, HMK_SITE_PEAKS), SITES + HMK_SITE_FIRST);
    for (uint32_t i = 1; i <= SITES; i++) {
        const struct hmk_site *site = rules_record(&file, HMK_SITES, i + HMK_SITE_FIRST - 1);
        const struct hmk_site_peak *peak = rules_record(&file, HMK_SITE_PEAKS, i + HMK_SITE_FIRST - 1);
        const struct hmk_frame *frame = rules_record(&file, HMK_FRAMES, site->frame);
        if (frame->code != 0x400000u + i || peak->peak_bytes != i)
            ck_abort_msg("site %u is another one in the file", i);
    }
    ck_assert_uint_eq(rules_live(&file)->file_bytes, file.size);
    ck_assert_uint_ge(recording_self_bytes(), SITES * (16 + 16 + 32));
    ck_assert_uint_le(recording_self_bytes(), file.size);
    rules_unload(&file);
}
END_TEST

START_TEST(strings_stay_within_a_chunk)
{
    enum { STRINGS = 400 };
    static uint32_t offsets[STRINGS];
    static char letters[10000];
    memset(letters, 'x', sizeof(letters));
    open_named("a.hmk");
    ck_assert_uint_eq(recording_string("", 0), 0);
    for (unsigned i = 0; i < STRINGS; i++) {
        size_t length = 1 + (i * 2654435761u >> 8) % 9000;     /* up to more than there may be */
        letters[0] = (char)('a' + i % 26);
        offsets[i] = recording_string(letters, length);
        ck_assert_uint_ne(offsets[i], 0);
    }
    struct rules_file file = load_good("a.hmk");
    for (unsigned i = 0; i < STRINGS; i++) {
        size_t length = 1 + (i * 2654435761u >> 8) % 9000;
        const char *string = rules_string(&file, offsets[i]);
        ck_assert_uint_eq(strlen(string), length < 8191 ? length : 8191);
        ck_assert_int_eq(string[0], 'a' + (int)(i % 26));
    }
    rules_unload(&file);
}
END_TEST

START_TEST(zeroed_records_lie_together)
{
    static const uint64_t counts[] = { 1, 100, 128, 3, 5000, 1, 129 };
    open_named("a.hmk");
    uint64_t last = 0;
    for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
        uint64_t first = recording_append_zeroed(HMK_CENSUS_ROWS, counts[i]);
        ck_assert_uint_ne(first, RECORDING_NONE);
        ck_assert_uint_ge(first, last);
        last = first + counts[i];
        struct hmk_census_row *rows = recording_at(HMK_CENSUS_ROWS, first);
        ck_assert_ptr_eq(&rows[counts[i] - 1], recording_at(HMK_CENSUS_ROWS, last - 1));
        for (uint64_t row = 0; row < counts[i]; row++) {
            if (rows[row].live_bytes != 0)
                ck_abort_msg("a row was given out twice");
            rows[row].live_bytes = 1;
        }
        ck_assert_uint_eq(recording_count(HMK_CENSUS_ROWS), last);
    }
    ck_assert_uint_eq(recording_append_zeroed(HMK_CENSUS_ROWS, UINT64_C(1) << 40), RECORDING_NONE);
    struct rules_file file = load_good("a.hmk");
    rules_unload(&file);
}
END_TEST

START_TEST(events_are_bounded)
{
    open_named("a.hmk");
    recording_live->heap.live_bytes = 5 << 20;
    recording_event(HMK_EVENT_MARK, 1, 2, 3, 4, "halfway");
    for (unsigned i = 1; i < HMK_EVENT_LIMIT + 5; i++)
        recording_event(HMK_EVENT_PHASE_BEGIN, i, 0, 0, 0, i % 1000 ? NULL : "phase");
    ck_assert_uint_eq(recording_live->lost_events, 5);
    struct rules_file file = load_good("a.hmk");
    ck_assert_uint_eq(rules_count(&file, HMK_EVENTS), HMK_EVENT_LIMIT);
    const struct hmk_event *event = rules_record(&file, HMK_EVENTS, 0);
    ck_assert_str_eq(rules_string(&file, event->text), "halfway");
    ck_assert_uint_eq(event->a + event->b * 10 + event->c * 100 + event->d * 1000, 4321);
    ck_assert_uint_eq(event->tid, (uint32_t)gettid());
    ck_assert_uint_eq(event->live_kib, 5 << 10);
    rules_unload(&file);
}
END_TEST

START_TEST(end_keeps_the_first_state)
{
    open_named("a.hmk");
    recording_reopen();
    ck_assert_uint_eq(recording_live->state, HMK_STATE_RUNNING);
    recording_end(HMK_STATE_EXECED, -1);
    ck_assert_uint_eq(recording_live->state, HMK_STATE_EXECED);
    ck_assert_uint_ne(recording_live->end_ns, 0);
    recording_reopen();
    ck_assert_uint_eq(recording_live->state, HMK_STATE_RUNNING);
    ck_assert_uint_eq(recording_live->end_ns, 0);
    recording_end(HMK_STATE_EXITED, 7);
    recording_end(HMK_STATE_ABORTED, 9);
    recording_reopen();
    ck_assert_uint_eq(recording_live->state, HMK_STATE_EXITED);
    ck_assert_int_eq(recording_live->exit_status, 7);
}
END_TEST

/* ---- timeline ------------------------------------------------------------------------------------ */

/* A wave whose maxima lie between the points that a coarser timeline keeps. */
static struct hmk_sample wave(uint64_t i)
{
    return (struct hmk_sample){
        .time_ns = i * 10000000 + 1, .live_bytes = (int64_t)(i * 7919 % 10007), .rss_bytes = i * 104729 % 100003,
        .mapped_bytes = i,
    };
}

START_TEST(timeline_merges_pairs)
{
    enum { SAMPLES = 20000 };
    open_named("a.hmk");
    int64_t live_max = 0;
    uint64_t rss_max = 0;
    for (uint64_t i = 0; i < SAMPLES; i++) {
        struct hmk_sample sample = wave(i);
        recording_sample(&sample);
        live_max = sample.live_bytes > live_max ? sample.live_bytes : live_max;
        rss_max = sample.rss_bytes > rss_max ? sample.rss_bytes : rss_max;
        if (i % 777 == 0) {
            struct rules_file now = load_good("a.hmk");
            rules_unload(&now);
        }
    }
    struct rules_file file = load_good("a.hmk");
    const struct hmk_live *live = rules_live(&file);
    enum hmk_table_id id = live->timeline_active ? HMK_TIMELINE_1 : HMK_TIMELINE_0;
    uint64_t count = rules_count(&file, id);
    ck_assert_uint_ge(count, HMK_TIMELINE_LIMIT / 2 - 64);
    ck_assert_uint_eq(live->timeline_interval_ns, 16 * 10000000);
    int64_t kept_live_max = 0;
    uint64_t kept_rss_max = 0;
    for (uint64_t i = 0; i < count; i++) {
        const struct hmk_sample *kept = rules_record(&file, id, i);
        struct hmk_sample original = wave(kept->mapped_bytes);
        if (kept->time_ns != original.time_ns || kept->live_bytes != original.live_bytes
            || kept->rss_bytes != original.rss_bytes)
            ck_abort_msg("point %llu is not one that was sampled", (unsigned long long)i);
        kept_live_max = kept->live_bytes_max > kept_live_max ? kept->live_bytes_max : kept_live_max;
        kept_rss_max = kept->rss_bytes_max > kept_rss_max ? kept->rss_bytes_max : kept_rss_max;
    }
    ck_assert_int_eq(kept_live_max, live_max);
    ck_assert_uint_eq(kept_rss_max, rss_max);
    ck_assert_uint_eq(live->rss_peak_bytes, rss_max);
    ck_assert_uint_eq(live->last_ns, wave(SAMPLES - 1).time_ns);
    ck_assert_uint_eq(live->rss_last_bytes, wave(SAMPLES - 1).rss_bytes);
    rules_unload(&file);
}
END_TEST

/* ---- refusals ------------------------------------------------------------------------------------ */

static volatile sig_atomic_t signals_seen;

static void count_signal(int signal)
{
    (void)signal;
    signals_seen++;
}

/* Appends until nothing grows any more, then proves that the file is whole and the timeline goes on. */
static void use_up_the_disk(void)
{
    struct hmk_frame frame = { .parent = 0 };
    uint64_t frames = 1;
    while (recording_append(HMK_FRAMES, &frame) != RECORDING_NONE && frames < 10000000)
        frames++;
    ck_assert_uint_eq(recording_live->stop_reason, HMK_STOP_DISK_FULL);
    ck_assert_uint_eq(recording_count(HMK_FRAMES), frames);
    while (recording_append_zeroed(HMK_CENSUS_ROWS, 10) != RECORDING_NONE)
        ;
    while (recording_append_zeroed(HMK_CENSUSES, 1) != RECORDING_NONE)
        ;
    for (uint64_t i = 0; i < 5000; i++) {
        struct hmk_sample sample = wave(i);
        recording_sample(&sample);
    }
    for (unsigned i = 0; i < 1000; i++)
        recording_event(HMK_EVENT_MARK, i, 0, 0, 0, NULL);
    ck_assert_uint_eq(recording_count(HMK_EVENTS) + recording_live->lost_events, 1000);
    struct rules_file file = load_good(recording_path());
    enum hmk_table_id id = rules_live(&file)->timeline_active ? HMK_TIMELINE_1 : HMK_TIMELINE_0;
    ck_assert_uint_ge(rules_count(&file, id), 32);
    const struct hmk_sample *last = rules_record(&file, id, rules_count(&file, id) - 1);
    ck_assert_uint_eq(last->mapped_bytes, 4999);
    rules_unload(&file);
}

START_TEST(file_size_limit_is_a_refusal_not_a_signal)
{
    struct rlimit old, small;
    getrlimit(RLIMIT_FSIZE, &old);
    small = old;
    small.rlim_cur = 600 << 10;
    signal(SIGXFSZ, count_signal);
    open_named("a.hmk");
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &small), 0);
    use_up_the_disk();
    setrlimit(RLIMIT_FSIZE, &old);
    ck_assert_int_eq(signals_seen, 0);
}
END_TEST

START_TEST(file_size_limit_below_the_first_chunks_leaves_nothing)
{
    struct settings settings = settings_of("a.hmk", "");
    struct rlimit old, small;
    getrlimit(RLIMIT_FSIZE, &old);
    small = old;
    small.rlim_cur = 10 << 10;
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &small), 0);
    bool opened = recording_open(&settings, test_environment);
    setrlimit(RLIMIT_FSIZE, &old);
    ck_assert(!opened);
    ck_assert_ptr_nonnull(strstr(recording_problem(), "/a.hmk: larger than the file size limit"));
    ck_assert_int_ne(access("a.hmk", F_OK), 0);
}
END_TEST

/* In a namespace of this test's own, so that nothing stays mounted when it fails. */
static bool mount_at(const char *path, const char *type, const char *options)
{
    ck_assert_int_eq(mkdir(path, 0700), 0);
    if (unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
        mount("heapmark-test", path, type, 0, options) == 0)
        return true;
    printf("SKIP a test on %s: no permission to mount\n", type);
    return false;
}

START_TEST(full_disk_is_a_refusal)
{
    if (!mount_at("small", "tmpfs", "size=400k"))
        return;
    open_named("small/a.hmk");
    use_up_the_disk();
    recording_file_leave(&recording_file);
    ck_assert_int_eq(umount2("small", MNT_DETACH), 0);
}
END_TEST

START_TEST(full_disk_at_the_start_leaves_nothing)
{
    if (!mount_at("small", "tmpfs", "size=40k"))
        return;
    open_named("small/a.hmk");
    bool left = access("small/a.hmk", F_OK) == 0;
    ck_assert_int_eq(umount2("small", MNT_DETACH), 0);
    ck_assert(!left);
    ck_assert_uint_eq(recording_header->flags, HMK_FLAG_MEMFD);
    ck_assert_ptr_nonnull(strstr(recording_problem(), "the disk is full"));
}
END_TEST

/* ramfs has no fallocate(2). */
START_TEST(file_system_without_fallocate_gets_zeros)
{
    if (!mount_at("plain", "ramfs", ""))
        return;
    open_named("plain/a.hmk");
    append_sites(1, 20000);
    struct stat status;
    ck_assert_int_eq(stat(recording_path(), &status), 0);
    ck_assert_int_eq(status.st_size, (off_t)recording_live->file_bytes);
    struct rules_file file = load_good(recording_path());
    ck_assert_uint_eq(rules_count(&file, HMK_SITES), 20000 + HMK_SITE_FIRST);
    rules_unload(&file);
    recording_file_leave(&recording_file);
    ck_assert_int_eq(umount2("plain", MNT_DETACH), 0);
}
END_TEST

/* ---- hosts --------------------------------------------------------------------------------------- */

START_TEST(host_may_close_the_descriptor)
{
    open_named("a.hmk");
    append_sites(1, 1000);
    close(recording_file.fd);
    append_sites(1001, 4000);
    ck_assert_int_eq(fcntl(recording_file.fd, F_GETFD), FD_CLOEXEC);
    struct rules_file file = load_good("a.hmk");
    ck_assert_uint_eq(rules_count(&file, HMK_SITES), 5000 + HMK_SITE_FIRST);
    rules_unload(&file);
}
END_TEST

START_TEST(host_may_reuse_the_number)
{
    open_named("a.hmk");
    int number = recording_file.fd;
    int own = open("own", O_RDWR | O_CREAT, 0600);
    ck_assert_int_eq(write(own, "mine", 4), 4);
    ck_assert_int_eq(dup2(own, number), number);
    append_sites(1, 5000);
    struct stat status;
    ck_assert_int_eq(fstat(number, &status), 0);
    ck_assert_int_eq(status.st_size, 4);
    ck_assert_int_ne(recording_file.fd, number);
    close(own);
    close(number);
    struct rules_file file = load_good("a.hmk");
    ck_assert_uint_eq(rules_count(&file, HMK_SITES), 5000 + HMK_SITE_FIRST);
    rules_unload(&file);
}
END_TEST

START_TEST(another_file_of_the_name_is_left_alone)
{
    open_named("a.hmk");
    close(recording_file.fd);
    ck_assert_int_eq(rename("a.hmk", "b.hmk"), 0);
    close(open("a.hmk", O_RDWR | O_CREAT, 0600));
    struct hmk_frame frame = { .parent = 0 };
    while (recording_append(HMK_FRAMES, &frame) != RECORDING_NONE)
        ;
    ck_assert_uint_eq(recording_live->stop_reason, HMK_STOP_DISK_FULL);
    struct stat status;
    ck_assert_int_eq(stat("a.hmk", &status), 0);
    ck_assert_int_eq(status.st_size, 0);
    struct rules_file file = load_good("b.hmk");
    rules_unload(&file);
}
END_TEST

static volatile sig_atomic_t handler_refused, handler_appended;

static void append_in_handler(int signal)
{
    (void)signal;
    struct hmk_module module = { .base = 1 };
    if (recording_append(HMK_MODULES, &module) == RECORDING_NONE)
        handler_refused++;
    else
        handler_appended++;
}

START_TEST(handler_does_not_wait_for_its_own_thread)
{
    open_named("a.hmk");
    signal(SIGALRM, append_in_handler);
    struct itimerval often = { { 0, 200 }, { 0, 200 } }, never = { { 0, 0 }, { 0, 0 } };
    setitimer(ITIMER_REAL, &often, NULL);
    unsigned rounds = 0;
    while (handler_appended + handler_refused < 300) {
        recording_string("padding", 7);
        rounds++;
    }
    setitimer(ITIMER_REAL, &never, NULL);
    ck_assert_uint_eq(recording_count(HMK_MODULES), (uint64_t)handler_appended);
    ck_assert_uint_ge(recording_count(HMK_STRINGS), 8 * (uint64_t)rounds);
    struct rules_file file = load_good("a.hmk");
    rules_unload(&file);
}
END_TEST

static void *append_module(void *unused)
{
    (void)unused;
    struct hmk_module module = { .base = 2 };
    return recording_append(HMK_MODULES, &module) == RECORDING_NONE ? "refused" : NULL;
}

static sigjmp_buf way_out;

static void leave_by_jump(int signal)
{
    (void)signal;
    siglongjmp(way_out, 1);
}

/* A host may leave its handlers by siglongjmp: not while the lock is held, for then no handler runs. */
START_TEST(no_handler_runs_under_the_lock)
{
    open_named("a.hmk");
    struct hmk_module module = { .base = 1 };
    volatile int jumps = 0;
    signal(SIGALRM, leave_by_jump);
    while (jumps < 300) {
        struct itimerval once = { { 0, 0 }, { 0, 20 + jumps % 50 } };
        if (sigsetjmp(way_out, 1) == 0) {
            setitimer(ITIMER_REAL, &once, NULL);
            for (;;)
                recording_string("a string that takes some time to be copied, as far as that is possible", 70);
        }
        jumps++;
        ck_assert_uint_ne(recording_append(HMK_MODULES, &module), RECORDING_NONE);
    }
    struct rules_file file = load_good("a.hmk");
    rules_unload(&file);
}
END_TEST

/* Signals that a fault raises are never blocked.  Should such a handler leave by siglongjmp, the host must not hang for that. */
START_TEST(lock_that_nobody_releases_is_given_up)
{
    open_named("a.hmk");
    struct sigevent event = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGTRAP };
    struct itimerspec once = { { 0, 0 }, { 0, 300000 } };
    struct hmk_module module = { .base = 1 };
    static timer_t timer;
    signal(SIGTRAP, leave_by_jump);
    ck_assert_int_eq(timer_create(CLOCK_MONOTONIC, &event, &timer), 0);
    for (;;) {
        if (sigsetjmp(way_out, 1) == 0) {
            timer_settime(timer, 0, &once, NULL);
            for (;;)
                recording_string("a string that takes some time to be copied, as far as that is possible", 70);
        }
        if (recording_append(HMK_MODULES, &module) == RECORDING_NONE)
            break;
    }
    pthread_t thread;
    void *refused;
    for (int i = 0; i < 3; i++) {
        ck_assert_int_eq(pthread_create(&thread, NULL, append_module, NULL), 0);
        pthread_join(thread, &refused);
        ck_assert_ptr_nonnull(refused);
    }
    recording_event(HMK_EVENT_MARK, 0, 0, 0, 0, NULL);
    ck_assert_uint_eq(recording_live->lost_events, 1);
    struct rules_file file = load_good("a.hmk");
    rules_unload(&file);
    recording_reset_lock();
    timer_delete(timer);
}
END_TEST

/* ---- threads and forks --------------------------------------------------------------------------- */

enum { APPEND_THREADS = 4, APPENDS = 20000 };

static void *append_worker(void *argument)
{
    uint64_t tag = (uintptr_t)argument;
    for (uint64_t i = 0; i < APPENDS; i++) {
        struct hmk_frame frame = { .code = tag << 32 | i };
        struct hmk_site site = { .first_ns = tag << 32 | i };
        struct hmk_site_peak peak = { .peak_ns = tag << 32 | i };
        uint64_t index = recording_append(HMK_FRAMES, &frame);
        if (index == RECORDING_NONE)
            return "no frame";
        if (((struct hmk_frame *)recording_at(HMK_FRAMES, index))->code != frame.code)
            return "another thread's frame";
        if (recording_append_pair(HMK_SITES, &site, HMK_SITE_PEAKS, &peak) == RECORDING_NONE)
            return "no site";
    }
    return NULL;
}

START_TEST(threads_append_at_once)
{
    pthread_t threads[APPEND_THREADS];
    static unsigned char seen[APPEND_THREADS][APPENDS];
    memset(seen, 0, sizeof(seen));
    open_named("a.hmk");
    for (uintptr_t t = 0; t < APPEND_THREADS; t++)
        ck_assert_int_eq(pthread_create(&threads[t], NULL, append_worker, (void *)t), 0);
    for (uintptr_t t = 0; t < APPEND_THREADS; t++) {
        void *failure;
        pthread_join(threads[t], &failure);
        ck_assert_msg(failure == NULL, "%s", failure ? (char *)failure : "");
    }
    struct rules_file file = load_good("a.hmk");
    ck_assert_uint_eq(rules_count(&file, HMK_FRAMES), 1 + APPEND_THREADS * APPENDS);
    ck_assert_uint_eq(rules_count(&file, HMK_SITES), HMK_SITE_FIRST + APPEND_THREADS * APPENDS);
    for (uint64_t i = 1; i < rules_count(&file, HMK_FRAMES); i++) {
        const struct hmk_frame *frame = rules_record(&file, HMK_FRAMES, i);
        unsigned char *place = &seen[frame->code >> 32][(uint32_t)frame->code];
        if (*place)
            ck_abort_msg("frame %llu is there twice", (unsigned long long)i);
        *place = 1;
    }
    for (uint64_t i = HMK_SITE_FIRST; i < rules_count(&file, HMK_SITES); i++) {
        const struct hmk_site *site = rules_record(&file, HMK_SITES, i);
        const struct hmk_site_peak *peak = rules_record(&file, HMK_SITE_PEAKS, i);
        if (site->first_ns != peak->peak_ns)
            ck_abort_msg("site %llu has the peak of another", (unsigned long long)i);
    }
    rules_unload(&file);
}
END_TEST

/* In the child; the parent's file must not change by it. */
static int child_of_fork(uint64_t sites)
{
    if (!recording_fork_child())
        return 1;
    struct rules_file file = rules_load(recording_path());
    if (!file.bytes || rules_broken(&file))
        return 2;
    if (recording_count(HMK_SITES) != sites || rules_count(&file, HMK_SITES) != sites)
        return 3;
    for (uint64_t i = HMK_SITE_FIRST; i < sites; i++) {
        const struct hmk_site *site = recording_at(HMK_SITES, i);
        const struct hmk_site_peak *peak = recording_at(HMK_SITE_PEAKS, i);
        if (((struct hmk_frame *)recording_at(HMK_FRAMES, site->frame))->code != 0x400000u + site->first_ns)
            return 4;
        if (peak->peak_bytes != 0)
            return 5;
    }
    struct hmk_frame frame = { .code = 1 };
    struct hmk_site site = { .frame = (uint32_t)recording_append(HMK_FRAMES, &frame) };
    struct hmk_site_peak peak = { .peak_bytes = 0 };
    if (recording_append_pair(HMK_SITES, &site, HMK_SITE_PEAKS, &peak) != sites)
        return 6;
    recording_end(HMK_STATE_EXITED, 0);
    return 0;
}

static int wait_for(pid_t child)
{
    int status;
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 100 + WTERMSIG(status);
}

START_TEST(child_of_fork_goes_on_in_its_own_file)
{
    struct settings settings = settings_of("%p.hmk", "");
    char parent_path[200], path[64];
    ck_assert(recording_open(&settings, test_environment));
    strcpy(parent_path, recording_path());
    uint32_t text = recording_string("module.so", 9);
    struct hmk_module module = { .base = 0x1000, .path = text };
    recording_append(HMK_MODULES, &module);
    recording_header->unwinder = recording_string("fast", 4);
    recording_live->control_signal = 23;
    recording_live->heap.live_bytes = 77;
    append_sites(1, 5000);
    recording_event(HMK_EVENT_MARK, 0, 0, 0, 0, NULL);
    pid_t child = fork();
    if (child == 0) {
        if (chdir("/") != 0)
            _exit(99);
        int status = child_of_fork(5000 + HMK_SITE_FIRST);
        if (recording_live->control_signal != 23 || recording_live->heap.live_bytes != 0)
            status = 50;
        if (recording_count(HMK_EVENTS) != 0 || recording_live->timeline_interval_ns != 10000000)
            status = 51;
        _exit(status);
    }
    append_sites(5001, 100);
    ck_assert_int_eq(wait_for(child), 0);
    snprintf(path, sizeof(path), "%d.hmk", child);
    struct rules_file file = load_good(path);
    const struct hmk_header *header = rules_header(&file);
    ck_assert_uint_eq(header->flags, HMK_FLAG_FORKED);
    ck_assert_uint_eq(header->pid, (uint32_t)child);
    ck_assert_uint_eq(header->ppid, (uint32_t)getpid());
    ck_assert_uint_eq(header->root_pid, (uint32_t)getpid());
    ck_assert_uint_eq(header->parent_start_ticks, recording_header->process_start_ticks);
    ck_assert_str_eq(rules_string(&file, header->unwinder), "fast");
    const struct hmk_module *copied = rules_record(&file, HMK_MODULES, 0);
    ck_assert_uint_eq(copied->base, 0x1000);
    ck_assert_str_eq(rules_string(&file, copied->path), "module.so");
    ck_assert_uint_eq(rules_live(&file)->state, HMK_STATE_EXITED);
    rules_unload(&file);
    file = load_good(parent_path);
    ck_assert_uint_eq(rules_count(&file, HMK_SITES), 5100 + HMK_SITE_FIRST);
    ck_assert_uint_eq(rules_live(&file)->state, HMK_STATE_RUNNING);
    ck_assert_int_eq(rules_live(&file)->heap.live_bytes, 77);
    rules_unload(&file);
}
END_TEST

/* The thread appends up to a mark that the test moves on, lest a test that waits for a processor fill the table. */
static uint64_t append_up_to;

static void *append_when_told(void *argument)
{
    uint64_t *appended = argument, mark;
    while ((mark = __atomic_load_n(&append_up_to, __ATOMIC_ACQUIRE)) != UINT64_MAX) {
        if (*appended >= mark) {
            sched_yield();
            continue;
        }
        if (!add_sites((uint32_t)*appended + 1, 1))
            return "a site was refused";
        __atomic_store_n(appended, *appended + 1, __ATOMIC_RELAXED);
    }
    return NULL;
}

/* Whatever the parent's other thread is in the midst of, its lock held or not. */
START_TEST(fork_while_another_thread_appends)
{
    struct settings settings = settings_of("%p.hmk", "");
    uint64_t appended = 0;
    pthread_t thread;
    ck_assert(recording_open(&settings, test_environment));
    append_up_to = 0;
    ck_assert_int_eq(pthread_create(&thread, NULL, append_when_told, &appended), 0);
    for (int i = 0; i < 60; i++) {
        uint64_t before = __atomic_load_n(&appended, __ATOMIC_RELAXED);
        __atomic_store_n(&append_up_to, before + 4000, __ATOMIC_RELEASE);
        while (__atomic_load_n(&appended, __ATOMIC_RELAXED) < before + 20)
            sched_yield();
        pid_t child = fork();
        if (child == 0)
            _exit(child_of_fork(recording_count(HMK_SITES)));
        ck_assert_int_eq(wait_for(child), 0);
        char path[64];
        snprintf(path, sizeof(path), "%d.hmk", child);
        ck_assert_int_eq(unlink(path), 0);
    }
    __atomic_store_n(&append_up_to, UINT64_MAX, __ATOMIC_RELEASE);
    void *failure;
    pthread_join(thread, &failure);
    ck_assert_msg(failure == NULL, "%s", failure ? (char *)failure : "");
    struct rules_file file = load_good(recording_path());
    ck_assert_uint_eq(rules_count(&file, HMK_SITES), appended + HMK_SITE_FIRST);
    rules_unload(&file);
}
END_TEST

/* What was interrupted goes on in the child, and may need more room. */
START_TEST(child_made_within_a_hook_grows_apart)
{
    struct settings settings = settings_of("%p.hmk", "");
    ck_assert(recording_open(&settings, test_environment));
    append_sites(1, 5000);
    uint64_t bytes = recording_live->file_bytes;
    pid_t child = fork();
    if (child == 0) {
        recording_make_private();
        if (!add_sites(5001, 50000) || recording_live->file_bytes <= bytes)
            _exit(1);
        _exit(child_of_fork(recording_count(HMK_SITES)));
    }
    ck_assert_int_eq(wait_for(child), 0);
    struct stat status;
    ck_assert_int_eq(stat(recording_path(), &status), 0);
    ck_assert_uint_eq((uint64_t)status.st_size, bytes);
    append_sites(5001, 50000);
    struct rules_file file = load_good(recording_path());
    ck_assert_uint_eq(rules_count(&file, HMK_SITES), 55000 + HMK_SITE_FIRST);
    rules_unload(&file);
}
END_TEST

START_TEST(child_without_room_still_counts)
{
    struct settings settings = settings_of("%p.hmk", "");
    ck_assert(recording_open(&settings, test_environment));
    append_sites(1, 5000);
    pid_t child = fork();
    if (child == 0) {
        struct rlimit small = { 64 << 10, 64 << 10 };
        signal(SIGXFSZ, SIG_DFL);
        setrlimit(RLIMIT_FSIZE, &small);
        bool has_file = recording_fork_child();
        char path[64];
        snprintf(path, sizeof(path), "%d.hmk", getpid());
        if (has_file || access(path, F_OK) == 0)
            _exit(1);
        _exit(recording_count(HMK_SITES) == 5000 + HMK_SITE_FIRST ? 0 : 2);
    }
    ck_assert_int_eq(wait_for(child), 0);
}
END_TEST

static bool append_frames(uint64_t count)
{
    const struct hmk_frame frame = { .code = 77 };
    for (uint64_t i = 0; i < count; i++)
        if (recording_append(HMK_FRAMES, &frame) == RECORDING_NONE)
            return false;
    return true;
}

/* A chunk of 8192 frames is 128 KiB, of which half is ready at first.  The child gets beyond when the parent has filled it. */
START_TEST(child_within_a_hook_writes_nothing_into_the_file)
{
    int go[2];
    char byte = 0;
    open_named("r.hmk");
    ck_assert(pipe(go) == 0 && append_frames(1024 + 2048 + 4096 + 100));
    pid_t child = fork();
    if (child == 0) {
        recording_make_private();
        _exit(read(go[0], &byte, 1) == 1 && append_frames(7000) ? 0 : 1);
    }
    ck_assert(append_frames(8000) && write(go[1], &byte, 1) == 1);
    ck_assert_int_eq(wait_for(child), 0);
    struct rules_file file = load_good(recording_path());
    for (uint64_t i = 1; i < rules_count(&file, HMK_FRAMES); i++)
        ck_assert_uint_eq(((const struct hmk_frame *)rules_record(&file, HMK_FRAMES, i))->code, 77);
    rules_unload(&file);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        new_file_is_small_private_and_true, header_names_the_process, names_take_the_letters,
        names_that_clash_get_numbers, without_a_file_it_is_a_memfd, without_descriptors_it_is_private,
        tables_grow_over_many_chunks, strings_stay_within_a_chunk, zeroed_records_lie_together, events_are_bounded,
        end_keeps_the_first_state, timeline_merges_pairs, file_size_limit_is_a_refusal_not_a_signal,
        file_size_limit_below_the_first_chunks_leaves_nothing, full_disk_is_a_refusal,
        full_disk_at_the_start_leaves_nothing, host_may_close_the_descriptor, host_may_reuse_the_number,
        another_file_of_the_name_is_left_alone, file_system_without_fallocate_gets_zeros,
        no_handler_runs_under_the_lock, lock_that_nobody_releases_is_given_up,
        handler_does_not_wait_for_its_own_thread, threads_append_at_once,
        child_of_fork_goes_on_in_its_own_file, fork_while_another_thread_appends, child_made_within_a_hook_grows_apart,
        child_within_a_hook_writes_nothing_into_the_file, child_without_room_still_counts,
    };
    Suite *suite = suite_create("recording");
    TCase *all = tcase_create("all");
    tcase_add_checked_fixture(all, set_up, tear_down);
    tcase_set_timeout(all, 60);
    for (size_t i = 0; i < sizeof(tests) / sizeof(tests[0]); i++)
        tcase_add_test(all, tests[i]);
    suite_add_tcase(suite, all);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failures = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failures ? 1 : 0;
}
