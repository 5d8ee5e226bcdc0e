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

/* Sites share most of their frames, so each frame is matched once: a stack matches when its leaf or its callers do. */
struct known {
    unsigned char *verdict;     /* by frame: 0 unknown, 1 matches, 2 does not */
    size_t count;
};

static void grow(struct known *known, uint32_t frame)
{
    if (frame < known->count)
        return;
    size_t count = frame + frame / 2 + 64;
    known->verdict = xreallocarray(known->verdict, count, 1);
    for (size_t i = known->count; i < count; i++)
        known->verdict[i] = 0;
    known->count = count;
}

static bool frame_matches(struct known *known, struct names *names, uint32_t frame, const regex_t *pattern)
{
    grow(known, frame);
    if (known->verdict[frame] == 0) {
        struct names_stack calls = names_frame(names, frame);
        known->verdict[frame] = matches(&calls, pattern) ? 1 : 2;
    }
    return known->verdict[frame] == 1;
}

bool *filter_sites(const struct profile *profile, struct names *names, const regex_t *pattern)
{
    struct known known = { 0 };
    struct profile_frame frame;

    if (!pattern)
        return NULL;
    bool *hidden = xcalloc(profile->site_count, sizeof *hidden);
    for (size_t i = 0; i < profile->site_count; i++)
        names_want(names, profile->sites[i].frame, NAMES_ALL);
    names_resolve(names);
    for (size_t i = 0; i < profile->site_count; i++) {
        bool found = false;
        for (uint32_t id = profile->sites[i].frame; !found && profile_frame(profile, id, &frame); id = frame.parent)
            found = frame_matches(&known, names, id, pattern);
        hidden[i] = !found;
    }
    free(known.verdict);
    return hidden;
}
