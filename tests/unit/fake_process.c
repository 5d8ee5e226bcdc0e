/* SPDX-License-Identifier: MIT */
#include "fake_process.h"

#include "census/blockmap.h"
#include "freestanding/arena.h"
#include "shim/control.h"
#include "shim/fork.h"
#include "shim/lever.h"
#include "shim/marks.h"
#include "shim/module.h"
#include "shim/overhead.h"
#include "shim/real.h"
#include "shim/recorder.h"
#include "shim/recording.h"
#include "shim/sampling.h"
#include "shim/start.h"
#include "shim/survey.h"
#include "shim/timeline.h"
#include "shim/unwind.h"
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- what the hooks' side would offer ------------------------------------------------------------ */

struct settings start_settings;
bool start_is_glibc;
struct real_functions real;

bool start_early(void)
{
    return false;
}

bool fork_settle_child(void)
{
    thread_shut_gate();
    return false;
}

bool survey_take(struct thread *thread, enum hmk_census_kind kind, const char *label, struct survey_result *result)
{
    (void)thread;
    (void)kind;
    (void)label;
    (void)result;
    return false;
}

bool survey_take_exact(struct thread *thread, enum hmk_census_kind kind, const char *label, struct survey_result *result)
{
    return survey_take(thread, kind, label, result);
}

void survey_watch(void)
{
}

uint32_t lever_found(void)
{
    return 0;
}

bool lever_pull(void)
{
    return false;
}

bool lever_is_clear(const struct unwind_start *start)
{
    (void)start;
    return false;
}

/* ---- an unwinder that is told -------------------------------------------------------------------- */

struct unwind_thread {
    uint64_t pcs[UNWIND_DEPTH_LIMIT];
    uint32_t depth, flags, memo;
};

uint64_t fake_captures, fake_memos;
static _Thread_local uint64_t told[UNWIND_DEPTH_LIMIT];
static _Thread_local uint32_t told_depth, told_flags;
static uint64_t forgotten;

void fake_stack(const uint64_t *pcs, uint32_t depth, uint32_t flags)
{
    memcpy(told, pcs, depth * sizeof *pcs);
    told_depth = depth;
    told_flags = flags;
}

bool unwind_init(const struct settings *settings)
{
    (void)settings;
    return true;
}

const char *unwind_name(void)
{
    return "told";
}

struct unwind_thread *unwind_thread_new(void)
{
    return arena_alloc(sizeof(struct unwind_thread), 8);
}

void unwind_thread_reset(struct unwind_thread *thread)
{
    thread->depth = 0;
    thread->memo = 0;
}

uint32_t unwind_capture(struct unwind_thread *thread, const struct unwind_start *start, struct unwind_result *result)
{
    (void)start;
    uint32_t common = 0;
    while (common < told_depth && common < thread->depth && told[common] == thread->pcs[common])
        common++;
    __atomic_add_fetch(&fake_captures, 1, __ATOMIC_RELAXED);
    result->memo = 0;
    if (common == told_depth && told_depth == thread->depth && told_flags == thread->flags && thread->memo != 0) {
        __atomic_add_fetch(&fake_memos, 1, __ATOMIC_RELAXED);
        result->memo = thread->memo;
        return result->memo;
    }
    memcpy(thread->pcs, told, told_depth * sizeof *told);
    thread->depth = told_depth;
    thread->flags = told_flags;
    thread->memo = 0;
    *result = (struct unwind_result){.pcs = thread->pcs, .depth = told_depth, .common = common, .flags = told_flags};
    return 0;
}

bool unwind_places(const struct unwind_thread *thread, const struct unwind_result *result, uint64_t *sps)
{
    (void)thread;
    (void)result;
    (void)sps;
    return false;
}

void unwind_remember(struct unwind_thread *thread, uint32_t memo)
{
    thread->memo = memo;
}

/* Not of threads that remember something: that stack.c resets them is what a test looks at. */
void unwind_forget(void)
{
    forgotten++;
}

bool unwind_verify(struct unwind_thread *thread, const struct unwind_start *start, struct unwind_result *reference)
{
    (void)thread;
    (void)start;
    (void)reference;
    return false;
}

/* ---- the process --------------------------------------------------------------------------------- */

char fake_file[256];
static char directory[128];

void fake_begin(void)
{
    static char out[200];
    static char *const environment[] = {NULL};
    static _Alignas(16) unsigned char scratch[MODULE_SCRATCH];
    char complaint[100];
    snprintf(directory, sizeof directory, "%s/heapmark-unit.XXXXXX", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
    ck_assert_ptr_nonnull(mkdtemp(directory));
    snprintf(fake_file, sizeof fake_file, "%s/a.hmk", directory);
    snprintf(out, sizeof out, "HEAPMARK_OUT=%s/a.hmk", directory);
    char *const settings[] = {out, NULL};
    settings_read(&start_settings, settings, complaint, sizeof complaint);
    start_settings.census = 0;
    start_settings.mappings = 1;
    ck_assert(recording_open(&start_settings, environment));
    ck_assert(thread_init());
    ck_assert(stack_init(0));
    ck_assert(module_init(scratch));
    blockmap_init(false);
    timeline_init(10000000);
    overhead_init(0, 0);
    thread_open_gate();
}

void fake_end(void)
{
    unlink(fake_file);
    rmdir(directory);
}

static void tell(uint64_t number)
{
    /* Few roots, more leaves: as programs have it. */
    uint64_t pcs[6] = {0x1000, 0x2000 + number % 3, 0x3000 + number % 7, 0x4000 + number % 31, 0x5000 + number % 127,
                       UINT64_C(0x100000) + number};
    fake_stack(pcs, 4 + number % 2, 0);
    told[told_depth - 1] = UINT64_C(0x100000) + number;
}

uint32_t fake_site(uint64_t number)
{
    static const struct unwind_start nowhere;
    struct thread *thread = thread_enter();
    if (thread == NULL)
        return 0;
    tell(number);
    uint32_t site = stack_site(thread, &nowhere, HMK_KIND_HEAP);
    thread_leave(thread);
    return site;
}

uint32_t fake_malloc(uintptr_t block, size_t bytes, uint64_t stack)
{
    static const struct unwind_start nowhere;
    struct blockmap_block found = {0};
    if (sampling_passes_over(bytes))
        return 0;
    struct thread *thread = thread_enter();
    if (thread == NULL)
        return 0;
    tell(stack);
    recorder_birth(thread, (void *)block, bytes, &nowhere);
    thread_leave(thread);
    return blockmap_find((void *)block, &found) ? found.site : 0;
}

bool fake_free(uintptr_t block)
{
    static const struct unwind_start nowhere;
    struct blockmap_block dead;
    if (marks_clear((void *)block) || (sampling_interval != 0 && !blockmap_may_live((void *)block)))
        return false;
    struct thread *thread = thread_enter();
    if (thread == NULL)
        return false;
    bool known = recorder_death(thread, (void *)block, &nowhere, &dead);
    thread_leave(thread);
    return known;
}

/* ---- sums ---------------------------------------------------------------------------------------- */

static void add_cell(struct fake_sum *sum, const struct hmk_cell *cell)
{
    const struct hmk_heap *heap = &recording_live->heap;
    int64_t bytes = (int64_t)(cell->allocated_bytes - cell->freed_bytes);
    int64_t blocks = (int64_t)(cell->allocations - cell->frees);
    bool kept = !heap->rising && cell->epoch == heap->epoch;
    sum->live_bytes += bytes;
    sum->live_blocks += blocks;
    sum->peak_bytes += kept ? cell->peak_bytes : bytes;
    sum->peak_blocks += kept ? cell->peak_blocks : blocks;
    sum->allocations += (int64_t)cell->allocations;
    sum->frees += (int64_t)cell->frees;
    sum->temporary += (int64_t)cell->temporary;
    sum->slack = (int32_t)((uint32_t)sum->slack + (uint32_t)cell->slack_bytes);
}

void fake_sums(struct fake_sum *sum, uint32_t sites)
{
    memset(sum, 0, sites * sizeof *sum);
    for (uint64_t page = 0; page < recording_count(HMK_CELLS); page++) {
        const struct hmk_cell_index *index = recording_at(HMK_CELL_INDEX, page);
        const struct hmk_cell_page *cells = recording_at(HMK_CELLS, page);
        for (uint32_t i = 0; i < HMK_CELLS_PER_PAGE && index->first_site + i < sites; i++)
            add_cell(&sum[index->first_site + i], &cells->cell[i]);
    }
}

struct fake_sum fake_sum_of(uint32_t site)
{
    struct fake_sum *sum = calloc(site + 1, sizeof *sum);
    fake_sums(sum, site + 1);
    struct fake_sum result = sum[site];
    free(sum);
    return result;
}

struct fake_sum fake_sum_of_all(void)
{
    uint32_t sites = (uint32_t)recording_count(HMK_SITES);
    struct fake_sum *sum = calloc(sites, sizeof *sum), all = {0};
    fake_sums(sum, sites);
    for (uint32_t i = 0; i < sites; i++) {
        const struct hmk_site *site = recording_at(HMK_SITES, i);
        if ((site->flags & 0xff) != HMK_KIND_HEAP)
            continue;
        all.live_bytes += sum[i].live_bytes;
        all.live_blocks += sum[i].live_blocks;
        all.peak_bytes += sum[i].peak_bytes;
        all.peak_blocks += sum[i].peak_blocks;
        all.allocations += sum[i].allocations;
        all.frees += sum[i].frees;
        all.temporary += sum[i].temporary;
        all.slack = (int32_t)((uint32_t)all.slack + (uint32_t)sum[i].slack);
    }
    free(sum);
    return all;
}
