/* SPDX-License-Identifier: MIT */
/*
 * Kills a process that writes a recording, at a random instant, and looks at what it leaves.
 *
 * usage: kill_recording [ROUNDS [SEED]]
 *
 * Each round forks a child that opens a recording and appends everything that there is to append, from two threads
 * and, in some rounds, from a forked child of its own; then all are killed with SIGKILL.  Every file must keep the rules of
 * format.h, be read by contract/read.c, hold no torn record, and hold everything whose append had returned.
 * A record's fields follow from one another, so that a torn or foreign one shows.
 */
#include "../unit/recording_rules.h"
#include "contract/read.h"
#include "shim/recording.h"
#include "shim/settings.h"

#include <dirent.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static uint64_t mix(uint64_t x)
{
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

/* ---- the writer ---------------------------------------------------------------------------------- */

#define SAMPLE_STEP_NS 10000000u
#define SAMPLE_FIRST_NS (SAMPLE_STEP_NS + 1u)

/* Shared with the judge: what the child knows to be in its file. */
static struct progress {
    uint64_t sites, strings, modules, cells, events, censuses;
    uint64_t last_sample_ns;
} *progress;

static uint64_t cells_base;     /* thread slots that exist */

static void done(uint64_t *counter)
{
    __atomic_fetch_add(counter, 1, __ATOMIC_RELAXED);
}

static void write_site(uint64_t random)
{
    struct hmk_frame frame = { .parent = (uint32_t)(random % recording_count(HMK_FRAMES)) };
    frame.code = mix(frame.parent);
    uint64_t node = recording_append(HMK_FRAMES, &frame);
    struct hmk_site site = { .frame = (uint32_t)node, .flags = HMK_KIND_HEAP, .first_ns = mix(node) };
    struct hmk_site_peak peak = { .peak_ns = site.first_ns };
    if (node != RECORDING_NONE && recording_append_pair(HMK_SITES, &site, HMK_SITE_PEAKS, &peak) != RECORDING_NONE)
        done(&progress->sites);
}

static void write_event(uint64_t random)
{
    static _Thread_local char text[8300];
    size_t length = random % 16 == 0 ? random / 16 % 8200 : 1 + random / 16 % 100;
    memset(text, 'a' + (int)(length % 26), length);
    text[length] = 0;
    recording_event(HMK_EVENT_MARK, length, mix(length), mix(length + 1), mix(length + 2), text);
    done(&progress->events);
}

static void write_module(uint64_t random)
{
    struct hmk_module module = { .base = random, .start = mix(random), .end = mix(random + 1), .build_id_bytes = 32 };
    memset(module.build_id, (int)random, sizeof(module.build_id));
    if (recording_append(HMK_MODULES, &module) != RECORDING_NONE)
        done(&progress->modules);
}

static void write_cells(uint64_t random)
{
    static const struct hmk_cell_page page;
    struct hmk_cell_index index = {
        .thread = (uint32_t)(random % cells_base), .first_site = (uint32_t)(random >> 32) % 1000 * HMK_CELLS_PER_PAGE,
    };
    if (recording_append_pair(HMK_CELL_INDEX, &index, HMK_CELLS, &page) != RECORDING_NONE)
        done(&progress->cells);
}

static void write_census(uint64_t random)
{
    uint64_t rows = random % 200, first = rows ? recording_append_zeroed(HMK_CENSUS_ROWS, rows) : 0;
    uint64_t index = recording_append_zeroed(HMK_CENSUSES, 1);
    if (index == RECORDING_NONE || first == RECORDING_NONE)
        return;
    for (uint64_t row = first; row < first + rows; row++)
        ((struct hmk_census_row *)recording_at(HMK_CENSUS_ROWS, row))->live_bytes = mix(index);
    struct hmk_census *census = recording_at(HMK_CENSUSES, index);
    HMK_PUBLISH(census->sequence, 1u);
    census->kind = HMK_CENSUS_REQUEST;
    census->row_first = first;
    census->row_count = rows;
    census->row_capacity = rows;
    census->rss_bytes = mix(index);
    census->live_bytes = mix(index);
    HMK_PUBLISH(census->sequence, 2u);
    done(&progress->censuses);
}

static void write_sample(uint64_t *time_ns)
{
    *time_ns += SAMPLE_STEP_NS;
    struct hmk_sample sample = { .time_ns = *time_ns, .rss_bytes = mix(*time_ns) >> 1, .mapped_bytes = mix(*time_ns) };
    sample.live_bytes = (int64_t)sample.rss_bytes;
    recording_sample(&sample);
    __atomic_store_n(&progress->last_sample_ns, *time_ns, __ATOMIC_RELAXED);
}

static void write_for_ever(uint64_t random, bool samples)
{
    uint64_t time_ns = SAMPLE_FIRST_NS - SAMPLE_STEP_NS;
    for (;;) {
        random = mix(random);
        switch (random % 32) {
        case 0: write_event(random >> 8); break;
        case 1: write_module(random >> 8); break;
        case 2: write_cells(random >> 8); break;
        case 3: write_census(random >> 8); break;
        default: samples && random % 2 ? write_sample(&time_ns) : write_site(random >> 8); break;
        }
    }
}

static void *second_writer(void *seed)
{
    write_for_ever((uintptr_t)seed, false);
    return NULL;
}

static _Noreturn void writer(uint64_t seed)
{
    static struct hmk_thread slot;
    static struct hmk_histogram histogram;
    char complaint[100];
    char *environment[] = { "HEAPMARK_OUT=%p.hmk", NULL };
    struct settings settings;
    pthread_t thread;
    settings_read(&settings, environment, complaint, sizeof(complaint));
    recording_open(&settings, environment);
    for (cells_base = 0; cells_base < 20; cells_base++)
        recording_append_pair(HMK_THREADS, &slot, HMK_HISTOGRAMS, &histogram);
    pthread_create(&thread, NULL, second_writer, (void *)(uintptr_t)mix(seed));
    if (seed % 4 == 0) {
        while (recording_count(HMK_SITES) < seed / 4 % 3000)
            ;
        if (fork() == 0) {
            /* Its own progress is not judged, its file is. */
            progress = mmap(NULL, sizeof(*progress), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            recording_fork_child();
            for (cells_base = 0; cells_base < 5; cells_base++)
                recording_append_pair(HMK_THREADS, &slot, HMK_HISTOGRAMS, &histogram);
            write_for_ever(seed + 1, true);
        }
    }
    write_for_ever(seed, true);
    _exit(0);
}

/* ---- the judge ----------------------------------------------------------------------------------- */

static char complaint[300];

__attribute__((format(printf, 1, 2))) static bool wrong(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(complaint, sizeof(complaint), format, arguments);
    va_end(arguments);
    return false;
}

static bool records_hold(const struct rules_file *file)
{
    for (uint64_t i = 1; i < rules_count(file, HMK_FRAMES); i++) {
        const struct hmk_frame *frame = rules_record(file, HMK_FRAMES, i);
        if (frame->code != mix(frame->parent))
            return wrong("frame %llu is torn", (unsigned long long)i);
    }
    for (uint64_t i = HMK_SITE_FIRST; i < rules_count(file, HMK_SITES); i++) {
        const struct hmk_site *site = rules_record(file, HMK_SITES, i);
        const struct hmk_site_peak *peak = rules_record(file, HMK_SITE_PEAKS, i);
        bool inherited = (rules_header(file)->flags & HMK_FLAG_FORKED) && peak->peak_ns == 0;
        if (site->first_ns != mix(site->frame) || (peak->peak_ns != site->first_ns && !inherited))
            return wrong("site %llu is torn", (unsigned long long)i);
    }
    for (uint64_t i = 0; i < rules_count(file, HMK_MODULES); i++) {
        const struct hmk_module *module = rules_record(file, HMK_MODULES, i);
        if (module->start != mix(module->base) || module->end != mix(module->base + 1) ||
            module->build_id[31] != (uint8_t)module->base)
            return wrong("module %llu is torn", (unsigned long long)i);
    }
    for (uint64_t i = 0; i < rules_count(file, HMK_EVENTS); i++) {
        const struct hmk_event *event = rules_record(file, HMK_EVENTS, i);
        const char *text = rules_string(file, event->text);
        if (event->b != mix(event->a) || event->c != mix(event->a + 1) || event->d != mix(event->a + 2))
            return wrong("event %llu is torn", (unsigned long long)i);
        if (strlen(text) != (event->a < 8191 ? event->a : 8191) || strspn(text, (char[]){ text[0], 0 }) != strlen(text) ||
            (text[0] && text[0] != 'a' + (int)(event->a % 26)))
            return wrong("the text of event %llu is another one", (unsigned long long)i);
    }
    return true;
}

static bool censuses_hold(const struct rules_file *file)
{
    for (uint64_t i = 0; i < rules_count(file, HMK_CENSUSES); i++) {
        const struct hmk_census *census = rules_record(file, HMK_CENSUSES, i);
        if (census->sequence == 0 || census->sequence % 2)
            continue;
        if (census->rss_bytes != mix(i) || census->live_bytes != mix(i))
            return wrong("census %llu is torn", (unsigned long long)i);
        for (uint64_t row = 0; row < census->row_count; row++)
            if (((const struct hmk_census_row *)rules_record(file, HMK_CENSUS_ROWS, census->row_first + row))->live_bytes
                != mix(i))
                return wrong("row %llu of census %llu is not its own", (unsigned long long)row, (unsigned long long)i);
    }
    return true;
}

static bool timeline_holds(const struct rules_file *file)
{
    enum hmk_table_id id = rules_live(file)->timeline_active ? HMK_TIMELINE_1 : HMK_TIMELINE_0;
    uint64_t count = rules_count(file, id);
    for (uint64_t i = 0; i + 1 < count; i++) {      /* the last one may be changing */
        const struct hmk_sample *sample = rules_record(file, id, i);
        if (sample->mapped_bytes != mix(sample->time_ns) || sample->rss_bytes != mix(sample->time_ns) >> 1)
            return wrong("point %llu of the timeline is torn", (unsigned long long)i);
    }
    return true;
}

/* No sample that was taken has left the timeline: the last one is there, and the highest one is in some point's maximum. */
static bool timeline_complete(const struct rules_file *file)
{
    enum hmk_table_id id = rules_live(file)->timeline_active ? HMK_TIMELINE_1 : HMK_TIMELINE_0;
    uint64_t count = rules_count(file, id), highest = 0;
    for (uint64_t i = 0; i < count; i++) {
        const struct hmk_sample *sample = rules_record(file, id, i);
        highest = sample->rss_bytes_max > highest ? sample->rss_bytes_max : highest;
    }
    if (progress->last_sample_ns == 0)
        return true;
    if (count == 0 || ((const struct hmk_sample *)rules_record(file, id, count - 1))->time_ns < progress->last_sample_ns)
        return false;
    for (uint64_t time_ns = SAMPLE_FIRST_NS; time_ns <= progress->last_sample_ns; time_ns += SAMPLE_STEP_NS)
        if (mix(time_ns) >> 1 > highest)
            return false;
    return true;
}

/* What the killed process knew to be written is there. */
static bool nothing_lost(const struct rules_file *file)
{
    const struct hmk_live *live = rules_live(file);
    uint64_t complete = 0;
    for (uint64_t i = 0; i < rules_count(file, HMK_CENSUSES); i++)
        complete += ((const struct hmk_census *)rules_record(file, HMK_CENSUSES, i))->sequence == 2;
    if (rules_count(file, HMK_SITES) < HMK_SITE_FIRST + progress->sites)
        return wrong("sites were lost");
    if (rules_count(file, HMK_MODULES) < progress->modules || rules_count(file, HMK_CELLS) < progress->cells)
        return wrong("modules or cells were lost");
    if (rules_count(file, HMK_EVENTS) + live->lost_events < progress->events || complete < progress->censuses)
        return wrong("events or censuses were lost");
    if (live->last_ns < progress->last_sample_ns || !timeline_complete(file))
        return wrong("samples were lost");
    return true;
}

/* The other opinion: the reader that users have. */
static bool reader_agrees(const char *path, bool unborn)
{
    struct read_error error;
    struct read_file *file = read_open(path, &error);
    if (unborn)
        return file == NULL || wrong("the reader took an unborn file");
    if (!file)
        return wrong("the reader says: %.250s", error.sentence);
    read_close(file);
    return true;
}

static bool judge(const char *path, bool main_child, bool *unborn)
{
    struct rules_file file = rules_load(path);
    *unborn = rules_unborn(&file);
    const char *broken = *unborn ? NULL : rules_broken(&file);
    bool good = broken ? wrong("%s", broken) : true;
    if (good && !*unborn && rules_header(&file)->pid != strtoul(path, NULL, 10))
        good = wrong("it is the recording of process %u", rules_header(&file)->pid);
    if (good && !*unborn)
        good = records_hold(&file) && censuses_hold(&file) && timeline_holds(&file) &&
               (!main_child || nothing_lost(&file));
    if (good && *unborn && main_child && progress->sites > 0)
        good = wrong("sites were lost: no magic");
    good = good && reader_agrees(path, *unborn);
    rules_unload(&file);
    return good;
}

struct tally {
    unsigned files, unborn, forked;
    uint64_t bytes;
};

/* Judges every recording in the working directory and removes it. */
static bool judge_all(pid_t child, struct tally *tally)
{
    char main_name[32];
    snprintf(main_name, sizeof(main_name), "%d.hmk", child);
    DIR *directory = opendir(".");
    bool good = true;
    for (struct dirent *entry; good && (entry = readdir(directory));) {
        if (!strstr(entry->d_name, ".hmk"))
            continue;
        bool unborn, main_child = strcmp(entry->d_name, main_name) == 0;
        good = judge(entry->d_name, main_child, &unborn);
        if (!good) {
            fprintf(stderr, "%s: %s\n", entry->d_name, complaint);
            break;
        }
        tally->files++;
        tally->unborn += unborn;
        tally->forked += !main_child;
        unlink(entry->d_name);
    }
    closedir(directory);
    return good;
}

static void wait_ns(uint64_t ns)
{
    struct timespec span = { (time_t)(ns / 1000000000), (long)(ns % 1000000000) };
    nanosleep(&span, NULL);
}

static pid_t start_and_kill(uint64_t random)
{
    memset(progress, 0, sizeof(*progress));
    pid_t child = fork();
    if (child == 0) {
        setpgid(0, 0);
        writer(random >> 32);
    }
    setpgid(child, child);
    /* Every fourth one dies while it sets up its recording. */
    wait_ns(random % 4 == 0 ? random / 4 % 400000 : random / 4 % 8000000);
    kill(-child, SIGKILL);
    while (wait(NULL) > 0)
        ;
    return child;
}

int main(int count, char **arguments)
{
    unsigned long rounds = count > 1 ? strtoul(arguments[1], NULL, 10) : 200;
    uint64_t seed = count > 2 ? strtoull(arguments[2], NULL, 10) : (uint64_t)time(NULL);
    char directory[] = "/tmp/heapmark-kill-XXXXXX";
    struct tally tally = { 0 };
    progress = mmap(NULL, sizeof(*progress), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (progress == MAP_FAILED || !mkdtemp(directory) || chdir(directory) != 0)
        return 99;
    prctl(PR_SET_CHILD_SUBREAPER, 1);       /* so that wait() also sees the child's children die */
    for (unsigned long round = 0; round < rounds; round++) {
        pid_t child = start_and_kill(mix(seed + round));
        if (!judge_all(child, &tally)) {
            fprintf(stderr, "round %lu of seed %llu; the file stays in %s\n", round, (unsigned long long)seed, directory);
            return 1;
        }
    }
    printf("%lu kills, %u recordings, %u of forked children, %u killed before they were set up; seed %llu\n", rounds,
           tally.files, tally.forked, tally.unborn, (unsigned long long)seed);
    return chdir("/") != 0 || rmdir(directory) != 0;
}
