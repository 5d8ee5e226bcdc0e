/* SPDX-License-Identifier: MIT */
#ifndef HEAPMARK_VIEWER_FILTER_H
#define HEAPMARK_VIEWER_FILTER_H

#include <regex.h>
#include <stdbool.h>

struct names;
struct profile;

/* For each site: no frame of it has a function, file or module that matches.  The caller frees it; NULL without a pattern.
 * Looks up the names of all frames. */
bool *filter_sites(const struct profile *profile, struct names *names, const regex_t *pattern);

#endif
