/* SPDX-License-Identifier: MIT */
#include "viewer/filter.h"

#include "analysis/profile.h"
#include "base/xalloc.h"
#include "viewer/names.h"
#include <stdlib.h>

static bool matches(const struct names_stack *stack, const regex_t *pattern)
{
    for (size_t i = 0; i < stack->count; i++) {
        const struct name *name = &stack->at[i];
        if (regexec(pattern, name->function, 0, NULL, 0) == 0 || regexec(pattern, name->module, 0, NULL, 0) == 0
            || (name->file && regexec(pattern, name->file, 0, NULL, 0) == 0))
            return true;
    }
    return false;
}

/* By frame: it or a caller of it matches.  Each place is matched once; a parent comes before its callees. */
static bool *match_frames(const struct profile *profile, struct names *names, const regex_t *pattern)
{
    uint32_t *place = xcalloc(profile->frame_count, sizeof *place);
    bool *matching = xcalloc(profile->frame_count, sizeof *matching);
    struct profile_frame frame;

    for (uint32_t id = 1; id < profile->frame_count; id++)
        place[id] = names_place(names, id);
    uint32_t place_count = names_place_count(names);
    bool *of_place = xcalloc(place_count, sizeof *of_place);
    for (uint32_t i = 0; i < place_count; i++)
        names_want_place(names, i);
    names_resolve(names);
    for (uint32_t i = 0; i < place_count; i++) {
        struct names_stack calls = names_at_place(names, i);
        of_place[i] = matches(&calls, pattern);
    }
    for (uint32_t id = 1; id < profile->frame_count && profile_frame(profile, id, &frame); id++)
        matching[id] = of_place[place[id]] || matching[frame.parent];
    free(of_place);
    free(place);
    return matching;
}

bool *filter_sites(const struct profile *profile, struct names *names, const regex_t *pattern)
{
    if (!pattern)
        return NULL;
    bool *matching = match_frames(profile, names, pattern);
    bool *hidden = xcalloc(profile->site_count, sizeof *hidden);
    for (size_t i = 0; i < profile->site_count; i++)
        hidden[i] = profile->sites[i].frame == 0 || !matching[profile->sites[i].frame];
    free(matching);
    return hidden;
}
