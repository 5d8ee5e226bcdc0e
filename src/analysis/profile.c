/* SPDX-License-Identifier: MIT */
#include "analysis/profile.h"

#include "analysis/joined.h"
#include "base/xalloc.h"
#include "contract/publish.h"
#include "contract/read.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

static uint64_t since_start(const struct read_file *file, uint64_t ns)
{
    uint64_t start = read_header(file)->start_ns;
    return ns > start ? ns - start : 0;
}

/* ---- the process -------------------------------------------------------------------------------- */

static enum profile_state state_of(const struct hmk_live *live)
{
    switch (live->state) {
    case HMK_STATE_EXITED: return PROFILE_EXITED;
    case HMK_STATE_EXITED_FAST: return PROFILE_EXITED_FAST;
    case HMK_STATE_ABORTED: return PROFILE_ABORTED;
    case HMK_STATE_EXECED: return PROFILE_EXECED;
    case HMK_STATE_STOPPED: return PROFILE_STOPPED;
    default: return PROFILE_RUNNING;
    }
}

static const char *stop_reason(const struct hmk_live *live)
{
    switch (live->stop_reason) {
    case HMK_STOP_NONE: return NULL;
    case HMK_STOP_DISK_FULL: return "the disk was full";
    case HMK_STOP_NO_MEMORY: return "there was no memory";
    case HMK_STOP_NO_FILE: return "no file could be made";
    default: return "the reason is unknown to this version";
    }
}

static void describe_process(struct profile *profile)
{
    const struct read_file *file = profile->file;
    const struct hmk_header *header = read_header(file);
    const struct hmk_live *live = read_live(file);
    struct profile_process *process = &profile->process;
    uint64_t end_ns = live->end_ns > live->last_ns ? live->end_ns : live->last_ns;
    const char *exe = read_string(file, header->exe);
    const char *slash = strrchr(exe, '/');

    *process = (struct profile_process){
        .path = read_path(file), .exe = exe, .name = slash && slash[1] ? slash + 1 : exe,
        .command = read_string(file, header->command), .cwd = read_string(file, header->cwd),
        .host = read_string(file, header->host), .libc = read_string(file, header->libc),
        .options = read_string(file, header->options), .unwinder = read_string(file, header->unwinder),
        .tool_version = header->tool_version,
        .pid = header->pid, .ppid = header->ppid, .root_pid = header->root_pid,
        .forked = (header->flags & HMK_FLAG_FORKED) != 0,
        .free_sites = (header->flags & HMK_FLAG_FREE_SITES) != 0,
        .sample_bytes = header->flags & HMK_FLAG_SAMPLED ? header->sample_bytes : 0,
        .sampled_from_ns = live->sampled_from_ns ? since_start(file, live->sampled_from_ns) : 0,
        .has_errors = (header->flags & HMK_FLAG_SAMPLED) != 0 && header->minor >= 1,
        .spent_ns = live->spent_ns, .cpu_ns = live->cpu_ns,
        .depth_max = header->depth_max, .page_bytes = header->page_bytes,
        .start_realtime_ns = header->start_realtime_ns, .ran_ns = since_start(file, end_ns),
        .state = state_of(live), .exit_status = live->exit_status, .stop_reason = stop_reason(live),
    };
    for (uint64_t i = 0; i < read_count(file, HMK_THREADS); i++)
        process->thread_count += read_thread(file, i)->served;

    profile->losses = (struct profile_losses){
        .sites = live->lost_sites, .events = live->lost_events, .reentrant = live->lost_reentrant,
        .unknown_frees = live->unknown_frees, .stale_live = live->stale_live, .cut_stacks = live->cut_stacks,
        .incomplete_stacks = live->incomplete_stacks, .foreign_forks = live->foreign_forks,
        .abandoned = live->abandoned_events,
        .verify_checked = live->verify_checked, .verify_wrong = live->verify_wrong,
    };
    profile->rss = (struct profile_rss){
        .start_bytes = live->rss_start_bytes, .last_bytes = live->rss_last_bytes, .peak_bytes = live->rss_peak_bytes,
        .kernel_peak_bytes = live->own_peak_bytes > live->rss_peak_bytes ? live->own_peak_bytes : live->rss_peak_bytes,
        .last_ns = since_start(file, live->last_ns), .peak_ns = since_start(file, live->rss_peak_ns),
        .self_bytes = live->self_bytes,
    };
}

static void list_modules(struct profile *profile)
{
    const struct read_file *file = profile->file;
    profile->module_count = read_count(file, HMK_MODULES);
    profile->modules = xcalloc(profile->module_count, sizeof *profile->modules);
    for (size_t i = 0; i < profile->module_count; i++) {
        const struct hmk_module *module = read_module(file, i);
        uint32_t build_id_bytes = module->build_id_bytes;
        profile->modules[i] = (struct profile_module){
            .path = read_string(file, module->path), .build_id = module->build_id,
            .build_id_bytes = build_id_bytes <= sizeof module->build_id ? build_id_bytes : 0,
            .base = module->base, .start = module->start, .end = module->end, .unloaded = module->unload_ns != 0,
        };
    }
}

/* ---- sites -------------------------------------------------------------------------------------- */

static void list_sites(struct profile *profile)
{
    const struct read_file *file = profile->file;
    profile->site_count = read_count(file, HMK_SITES);
    profile->sites = xcalloc(profile->site_count, sizeof *profile->sites);
    for (size_t i = 0; i < profile->site_count; i++) {
        const struct hmk_site *site = read_site(file, i);
        uint32_t kind = site->flags & 0xff;
        profile->sites[i] = (struct profile_site){
            .id = (uint32_t)i, .frame = joined_leaf(profile->stacks, site->frame), .kind = kind < PROFILE_KINDS ? kind : PROFILE_HEAP,
            .cut = (site->flags & HMK_SITE_CUT) != 0, .incomplete = (site->flags & HMK_SITE_INCOMPLETE) != 0,
            .guessed = (site->flags & HMK_SITE_GUESSED) != 0, .first_ns = since_start(file, site->first_ns),
        };
    }
    joined_done(profile->stacks);
    profile->frame_count = joined_count(profile->stacks);
}

static void add_cell(struct profile_site *site, const struct hmk_cell *cell, const struct hmk_heap *heap, bool rising)
{
    int64_t live_bytes = (int64_t)(cell->allocated_bytes - cell->freed_bytes);
    int64_t live_blocks = (int64_t)(cell->allocations - cell->frees);
    bool stored = !rising && cell->epoch == heap->epoch;

    site->allocations += cell->allocations;
    site->allocated_bytes += cell->allocated_bytes;
    site->frees += cell->frees;
    site->freed_bytes += cell->freed_bytes;
    site->temporary += cell->temporary;
    site->live_bytes += live_bytes;
    site->live_blocks += live_blocks;
    site->peak_bytes += stored ? cell->peak_bytes : live_bytes;
    site->peak_blocks += stored ? cell->peak_blocks : live_blocks;
    /* Modulo 2^32, as the format says: only the sum over all threads means something. */
    site->slack_bytes = (int32_t)((uint32_t)site->slack_bytes + (uint32_t)cell->slack_bytes);
}

static bool touched(const struct hmk_cell *cell)
{
    return cell->allocations != 0 || cell->frees != 0;
}

static uint64_t cell_pages(const struct read_file *file)
{
    uint64_t pages = read_count(file, HMK_CELLS), indexes = read_count(file, HMK_CELL_INDEX);
    return pages < indexes ? pages : indexes;
}

static void add_thread(struct profile_site *site, const struct read_file *file, uint32_t slot)
{
    if (slot >= read_count(file, HMK_THREADS))
        return;
    site->threads += read_thread(file, slot)->served;
    site->thread = slot;
}

static void add_cells(struct profile *profile, bool rising)
{
    const struct read_file *file = profile->file;
    const struct hmk_heap *heap = &read_live(file)->heap;

    for (uint64_t page = 0; page < cell_pages(file); page++) {
        const struct hmk_cell_page *cells = read_cell_page(file, page);
        size_t first_site = read_cell_index(file, page)->first_site;
        for (size_t i = 0; i < HMK_CELLS_PER_PAGE && first_site + i < profile->site_count; i++) {
            if (touched(&cells->cell[i]))
                add_cell(&profile->sites[first_site + i], &cells->cell[i], heap, rising);
            if (cells->cell[i].allocations != 0)
                add_thread(&profile->sites[first_site + i], file, read_cell_index(file, page)->thread);
        }
    }
}

/* Live bytes of the heap as the cells have them, which is ahead of heap.live_bytes by what threads have pending. */
static int64_t cells_live(const struct profile *profile, int64_t *blocks)
{
    const struct read_file *file = profile->file;
    int64_t bytes = 0;

    *blocks = 0;
    for (uint64_t page = 0; page < cell_pages(file); page++) {
        const struct hmk_cell_page *cells = read_cell_page(file, page);
        size_t first_site = read_cell_index(file, page)->first_site;
        for (size_t i = 0; i < HMK_CELLS_PER_PAGE && first_site + i < profile->site_count; i++) {
            const struct hmk_cell *cell = &cells->cell[i];
            if (profile->sites[first_site + i].kind != PROFILE_HEAP)
                continue;
            bytes += (int64_t)(cell->allocated_bytes - cell->freed_bytes);
            *blocks += (int64_t)(cell->allocations - cell->frees);
        }
    }
    return bytes;
}

static void find_peak(struct profile *profile)
{
    const struct hmk_heap *heap = &read_live(profile->file)->heap;
    struct profile_heap *result = &profile->heap;
    int64_t blocks, live = cells_live(profile, &blocks);

    *result = (struct profile_heap){
        .peak_bytes = heap->peak_bytes, .peak_blocks = heap->peak_blocks,
        .peak_ns = since_start(profile->file, heap->peak_ns), .rising = heap->rising != 0,
        .error_bytes = heap->threads_seen > 1 ? read_count(profile->file, HMK_THREADS) * (uint64_t)heap->flush_bytes : 0,
        .inherited_blocks = read_live(profile->file)->inherited_blocks,
        .inherited_bytes = read_live(profile->file)->inherited_bytes,
    };
    /* Pending bytes of several threads can lie above the recorded peak: then now is the peak. */
    if (live > result->peak_bytes) {
        result->peak_bytes = live;
        result->peak_blocks = blocks;
        result->peak_ns = profile->process.ran_ns;
        result->rising = true;
    }
}

static void find_own_peaks(struct profile *profile)
{
    const struct read_file *file = profile->file;
    for (size_t i = 0; i < profile->site_count; i++) {
        struct profile_site *site = &profile->sites[i];
        const struct hmk_site_peak *peak = read_site_peak(file, i);
        if (peak) {
            site->own_peak_bytes = peak->peak_bytes;
            site->own_peak_ns = since_start(file, peak->peak_ns);
        }
        /* What threads have not flushed yet. */
        if (site->peak_bytes > site->own_peak_bytes) {
            site->own_peak_bytes = site->peak_bytes;
            site->own_peak_ns = profile->heap.peak_ns;
        }
        if (site->live_bytes > site->own_peak_bytes) {
            site->own_peak_bytes = site->live_bytes;
            site->own_peak_ns = profile->process.ran_ns;
        }
    }
}

/* ---- errors of estimates ------------------------------------------------------------------------ */

double profile_error(double variance, double estimate)
{
    double samples = variance > 0 ? estimate * estimate / variance : 0;     /* were they of one size */
    return samples > 0 ? sqrt(variance * (1 + 1 / samples)) : sqrt(variance);
}

/* The recording has the variance of what a site allocated.  What it has live, or had at the peak, is of the same blocks: it
 * has its share of it. */
static double share_of(double variance, int64_t part, uint64_t whole)
{
    return part > 0 && whole > 0 ? variance * ((double)part / (double)whole) : 0;
}

static void find_variances(struct profile *profile)
{
    for (size_t i = 0; i < profile->site_count; i++) {
        struct profile_site *site = &profile->sites[i];
        const struct hmk_site_peak *peak = read_site_peak(profile->file, i);
        if (!peak || !(peak->spread_bytes >= 0 && peak->spread_blocks >= 0))
            continue;       /* no numbers: a damaged file */
        double bytes = (double)peak->spread_bytes, blocks = (double)peak->spread_blocks;
        site->variance = (struct profile_estimates){
            .allocations = blocks, .allocated_bytes = bytes,
            .live_blocks = share_of(blocks, site->live_blocks, site->allocations),
            .live_bytes = share_of(bytes, site->live_bytes, site->allocated_bytes),
            .peak_blocks = share_of(blocks, site->peak_blocks, site->allocations),
            .peak_bytes = share_of(bytes, site->peak_bytes, site->allocated_bytes),
        };
    }
}

static void add_variance(struct profile_estimates *sum, const struct profile_estimates *more)
{
    sum->allocations += more->allocations;
    sum->allocated_bytes += more->allocated_bytes;
    sum->live_blocks += more->live_blocks;
    sum->live_bytes += more->live_bytes;
    sum->peak_blocks += more->peak_blocks;
    sum->peak_bytes += more->peak_bytes;
}

/* Sampled mode: the two half samples' word on the peak, which is not biased as the largest of many estimates is.  What the shares
 * of the sites have too much in all is taken off them by their variances: it is noise, and a site of large blocks has none. */
static void correct_peak(struct profile *profile)
{
    const struct hmk_half *half = read_live(profile->file)->half;
    struct profile_heap *heap = &profile->heap;
    struct profile_sum sum = { 0 };
    int64_t live_blocks, live = cells_live(profile, &live_blocks);
    int64_t peak = (half[0].other_bytes + half[1].other_bytes) / 2;
    int64_t peak_blocks = (half[0].other_blocks + half[1].other_blocks) / 2;

    for (size_t i = 0; i < profile->site_count; i++)
        if (profile->sites[i].kind == PROFILE_HEAP) {
            sum.peak_bytes += profile->sites[i].peak_bytes;
            sum.peak_blocks += profile->sites[i].peak_blocks;
            add_variance(&sum.variance, &profile->sites[i].variance);
        }
    if ((heap->rising && heap->peak_ns == profile->process.ran_ns) || sum.variance.peak_bytes <= 0 ||
        sum.variance.peak_blocks <= 0 || peak <= 0)
        return;
    heap->peak_bytes = peak > live ? peak : live;
    heap->peak_blocks = peak > live ? peak_blocks : live_blocks;
    for (size_t i = 0; i < profile->site_count; i++) {
        struct profile_site *site = &profile->sites[i];
        if (site->kind != PROFILE_HEAP)
            continue;
        site->peak_bytes += (int64_t)((double)(heap->peak_bytes - sum.peak_bytes) * (site->variance.peak_bytes / sum.variance.peak_bytes));
        site->peak_blocks +=
            (int64_t)((double)(heap->peak_blocks - sum.peak_blocks) * (site->variance.peak_blocks / sum.variance.peak_blocks));
        if (site->peak_bytes < 0)
            site->peak_bytes = 0;
        if (site->peak_blocks < 0)
            site->peak_blocks = 0;
    }
}

/* ---- the newest census -------------------------------------------------------------------------- */

static void add_census_rows(struct profile *profile)
{
    const struct read_file *file = profile->file;
    const struct hmk_census *newest = NULL;

    for (uint64_t i = 0; i < read_count(file, HMK_CENSUSES); i++) {
        const struct hmk_census *census = read_census(file, i);
        if (census && (!newest || census->time_ns >= newest->time_ns))
            newest = census;
    }
    profile->pins_estimated = newest && newest->flags & HMK_CENSUS_ESTIMATED;
    for (uint64_t i = 0; newest && i < newest->row_count; i++) {
        const struct hmk_census_row *row = read_census_row(file, newest->row_first + i);
        struct profile_site *site = &profile->sites[row->site];
        site->held_bytes += row->held_bytes;
        site->held_page_bytes += row->held_page_bytes;
        site->pin_sole_bytes += row->pin_sole_bytes;
        site->pin_share_bytes += row->pin_share_bytes;
        if (profile->pins_estimated && row->pin_share_spread >= 0)
            site->pin_share_variance += (double)row->pin_share_spread;
        site->mapped_bytes += row->mapped_bytes;
    }
}

/* ---- sums --------------------------------------------------------------------------------------- */

void profile_add(struct profile_sum *sum, const struct profile_site *site)
{
    sum->sites += site->allocations != 0 || site->frees != 0;
    sum->allocations += site->allocations;
    sum->allocated_bytes += site->allocated_bytes;
    sum->frees += site->frees;
    sum->freed_bytes += site->freed_bytes;
    sum->temporary += site->temporary;
    sum->live_blocks += site->live_blocks;
    sum->live_bytes += site->live_bytes;
    sum->slack_bytes += site->slack_bytes;
    sum->peak_blocks += site->peak_blocks;
    sum->peak_bytes += site->peak_bytes;
    sum->held_bytes += site->held_bytes;
    sum->mapped_bytes += site->mapped_bytes;
    add_variance(&sum->variance, &site->variance);
}

static void sum_sites(struct profile *profile)
{
    for (size_t i = 0; i < profile->site_count; i++)
        profile_add(&profile->sum[profile->sites[i].kind], &profile->sites[i]);
    for (uint64_t i = 0; i < read_count(profile->file, HMK_HISTOGRAMS); i++)
        for (unsigned c = 0; c < PROFILE_SIZE_CLASSES; c++)
            profile->size_class[c] += read_histogram(profile->file, i)->allocations[c];
}

struct profile *profile_new(const struct read_file *file)
{
    struct profile *profile = xcalloc(1, sizeof *profile);
    profile->file = file;
    profile->code_count = read_count(file, HMK_CODES);
    profile->stacks = joined_new(file);
    describe_process(profile);
    list_modules(profile);
    list_sites(profile);
    find_peak(profile);
    add_cells(profile, profile->heap.rising);
    if (profile->process.has_errors) {
        find_variances(profile);
        correct_peak(profile);
        find_variances(profile);        /* of the corrected shares */
    }
    find_own_peaks(profile);
    add_census_rows(profile);
    sum_sites(profile);
    return profile;
}

void profile_free(struct profile *profile)
{
    if (!profile)
        return;
    joined_free(profile->stacks);
    free(profile->sites);
    free(profile->modules);
    free(profile);
}

/* ---- look-ups ----------------------------------------------------------------------------------- */

bool profile_frame(const struct profile *profile, uint32_t id, struct profile_frame *frame)
{
    const struct hmk_frame *record = joined_frame(profile->stacks, id);
    if (!record)
        return false;
    uint32_t kind = joined_kind(record), number = joined_number(record);
    *frame = (struct profile_frame){
        .id = id, .parent = record->parent,
        .kind = kind == HMK_FRAME_SIGNAL ? PROFILE_SIGNAL : kind == HMK_FRAME_PYTHON ? PROFILE_PYTHON : PROFILE_NATIVE,
        .module = PROFILE_NO_MODULE, .address = record->code,
    };
    /* The reader checked the modules of these two kinds; one that a later minor version adds has none for us. */
    if ((kind == HMK_FRAME_NATIVE || kind == HMK_FRAME_SIGNAL) && number != 0) {
        frame->module = number - 1;
        frame->address = record->code - profile->modules[frame->module].base;
    }
    if (kind == HMK_FRAME_PYTHON) {
        frame->code = number;
        /* 3.10 counts instructions of two bytes; -1 is a frame that has not begun. */
        frame->address = (uint32_t)(read_code(profile->file, number)->version == 0x30a ? record->code * 2 : record->code);
    }
    return true;
}

struct profile_code profile_code(const struct profile *profile, uint32_t number)
{
    const struct hmk_code *record = read_code(profile->file, number);
    const uint8_t *lines = read_bytes(profile->file, record->lines, record->line_bytes);
    return (struct profile_code){
        .name = read_string(profile->file, record->name), .file = read_string(profile->file, record->file),
        .first_line = record->first_line, .version = record->version,
        .lines = lines, .line_bytes = lines ? record->line_bytes : 0,
    };
}

void profile_thread_name(const struct profile *profile, uint32_t thread, char name[PROFILE_THREAD_NAME])
{
    _Static_assert(sizeof ((struct hmk_thread *)0)->name == PROFILE_THREAD_NAME - 1, "all of it");
    name[0] = name[PROFILE_THREAD_NAME - 1] = 0;
    if (thread < read_count(profile->file, HMK_THREADS))
        memcpy(name, read_thread(profile->file, thread)->name, PROFILE_THREAD_NAME - 1);
}

void profile_size_class(unsigned size_class, uint64_t *from, uint64_t *to)
{
    if (size_class <= 32) {
        *from = size_class == 0 ? 0 : size_class * 16u - 15;
        *to = size_class * 16u;
    } else {
        unsigned shift = size_class - 33 + 9;
        *from = (UINT64_C(1) << shift) + 1;
        *to = size_class == HMK_SIZE_CLASSES - 1 ? UINT64_MAX : UINT64_C(1) << (shift + 1);
    }
}

const char *profile_site_meaning(const struct profile_site *site)
{
    switch (site->id) {
    case HMK_SITE_NONE: return "(no owner known)";
    case HMK_SITE_BEFORE: return "(before heapmark was ready)";
    case HMK_SITE_LOST: return "(stack not recorded: no room)";
    case HMK_SITE_INHERITED: return "(inherited from the parent process)";
    default: return site->frame == 0 ? "(no stack)" : NULL;
    }
}
