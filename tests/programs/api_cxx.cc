/* SPDX-License-Identifier: MIT */
/* The C API is C++98 too, in more than one translation unit's worth of functions. */
#include "heapmark.h"

namespace {
struct phase {
    explicit phase(const char *name) : label(name) { heapmark_push(label); }
    ~phase() { heapmark_pop(label); }
    const char *label;
};
}

int main()
{
    phase whole("whole");
    return heapmark_active() ? 10 : 20;
}
