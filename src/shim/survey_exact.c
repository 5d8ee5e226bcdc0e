/* SPDX-License-Identifier: MIT */
#include "shim/survey_exact.h"

#include "census/forked.h"
#include "freestanding/sys.h"
#include "freestanding/text.h"
#include "shim/mapping.h"
#include "shim/recording.h"

#include <errno.h>

#define PINS_MOST 128u
#define NAME_BYTES 96u

/* What the child hands over, in memory that both share.  The parent touches it only when the child has ended. */
struct exact_parcel {
    uint32_t done;
    uint32_t row_count, pin_count;
    struct hmk_census census;
    struct hmk_pin pin[PINS_MOST];
    char name[PINS_MOST][NAME_BYTES];   /* of the type, for HMK_PIN_ARENA */
    struct hmk_census_row row[CENSUS_ROWS_MOST];
};

struct job {
    struct census_request request;      /* the child's */
    struct forked_before before;
    struct exact_parcel *parcel;
    uint64_t (*live_bytes)(void *context);
    void *context;
    uint64_t live;                      /* at the fork */
};

static uint64_t live_at_fork(void *context)
{
    return ((const struct job *)context)->live;
}

/* The others stand still. */
static bool note(void *argument, uint32_t inside)
{
    struct job *job = argument;
    job->live = job->live_bytes(job->context);
    job->request.exact = inside == 0 && !job->request.sampled;
    return forked_note_status(&job->before);
}

static void put_pin(struct exact_parcel *parcel, uint32_t at, const struct hmk_pin *pin)
{
    parcel->pin[at] = *pin;
    if (pin->kind != HMK_PIN_ARENA)
        return;
    struct text name = text_over(parcel->name[at], NAME_BYTES);
    text_put(&name, (const char *)(uintptr_t)pin->address);
    parcel->pin[at].address = (uintptr_t)parcel->name[at];
}

/* In the child.  The kernel takes its memory. */
static void take(void *argument)
{
    struct job *job = argument;
    struct exact_parcel *parcel = job->parcel;
    struct census_result taken;
    forked_plug(&job->before);
    mapping_in_child();
    job->request.site_count = (uint32_t)recording_count(HMK_SITES);
    if (!census_take(&job->request, &taken))
        return;
    parcel->census = taken.census;
    parcel->row_count = taken.row_count;
    parcel->pin_count = taken.pin_count < PINS_MOST ? taken.pin_count : PINS_MOST;
    __builtin_memcpy(parcel->row, taken.rows, taken.row_count * sizeof *taken.rows);
    for (uint32_t i = 0; i < parcel->pin_count; i++)
        put_pin(parcel, i, &taken.pins[i]);
    __atomic_store_n(&parcel->done, 1, __ATOMIC_RELEASE);
}

bool exact_take(const struct thread *thread, const struct census_request *request, struct exact *exact)
{
    struct job job = { .request = *request, .live_bytes = request->live_bytes, .context = request->context };
    *exact = (struct exact){ .outcome.error = ENOMEM };
    job.request.alone = true;
    job.request.live_bytes = live_at_fork;
    job.request.context = &job;
    job.request.before = &job.before;
    job.parcel = sys_map_shared(sizeof *job.parcel);
    if (job.parcel == NULL)
        return false;
    if (forked_note_areas(&job.before)) {
        exact->outcome = apart_do(thread, &(struct apart_work){ note, take, &job });
        forked_release(&job.before);
    }
    exact->parcel = job.parcel;
    if (exact->outcome.error != 0 || !__atomic_load_n(&job.parcel->done, __ATOMIC_ACQUIRE)) {
        exact_release(exact);
        return false;
    }
    exact->taken = (struct census_result){ .census = job.parcel->census, .rows = job.parcel->row, .pins = job.parcel->pin,
                                           .row_count = job.parcel->row_count, .pin_count = job.parcel->pin_count };
    return true;
}

void exact_release(struct exact *exact)
{
    sys_unmap(exact->parcel, sizeof *exact->parcel);
    exact->parcel = NULL;
}
