/* SPDX-License-Identifier: MIT */
#include "base/select.h"

#include <stdlib.h>
#include <string.h>

#define PATIENCE 64u            /* rounds; bad luck with that many is no luck any more */

static void swap(char *a, char *b, size_t bytes)
{
    char kept[64];
    for (size_t done = 0; done < bytes; ) {
        size_t part = bytes - done < sizeof kept ? bytes - done : sizeof kept;
        memcpy(kept, a + done, part);
        memmove(a + done, b + done, part);
        memcpy(b + done, kept, part);
        done += part;
    }
}

/* Puts the items that come before one in the middle in front of it, the others behind: where it is then. */
static size_t divide(char *at, size_t count, size_t bytes, int (*compare)(const void *, const void *))
{
    char *last = at + (count - 1) * bytes, *to = at;

    swap(at + count / 2 * bytes, last, bytes);
    for (char *item = at; item < last; item += bytes)
        if (compare(item, last) < 0) {
            swap(item, to, bytes);
            to += bytes;
        }
    swap(to, last, bytes);
    return (size_t)(to - at) / bytes;
}

void select_first(void *items, size_t count, size_t bytes, size_t wanted, int (*compare)(const void *, const void *))
{
    char *at = items;
    size_t left = count, want = wanted;

    for (unsigned round = 0; want < left; round++) {
        if (round == PATIENCE) {
            qsort(at, left, bytes, compare);
            break;
        }
        size_t middle = divide(at, left, bytes, compare);
        if (want <= middle) {
            left = middle;
        } else {
            at += (middle + 1) * bytes;
            want -= middle + 1;
            left -= middle + 1;
        }
    }
    if (count > 0)
        qsort(items, wanted < count ? wanted : count, bytes, compare);
}
