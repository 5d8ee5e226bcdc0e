/* SPDX-License-Identifier: MIT */

/* write_recording NAME FILE: one of the synthetic recordings as a file; write_recording many FILE SITES: one of that many sites. */

#include "../unit/synthetic.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int write_to(const char *path, struct synthetic *s)
{
    size_t size;
    unsigned char *bytes = synthetic_finish(s, &size);
    FILE *file = fopen(path, "wb");
    if (!file || fwrite(bytes, 1, size, file) != size || fclose(file) != 0) {
        perror(path);
        return 2;
    }
    free(bytes);
    return 0;
}

int main(int argc, char **argv)
{
    struct synthetic s;
    for (const struct synthetic_kind *kind = synthetic_kinds; argc == 3 && kind->name; kind++) {
        if (strcmp(kind->name, argv[1]) != 0)
            continue;
        kind->make(&s);
        return write_to(argv[2], &s);
    }
    if (argc == 4 && strcmp(argv[1], "many") == 0 && atoi(argv[3]) > 0) {
        synthetic_many(&s, (uint32_t)atoi(argv[3]));
        return write_to(argv[2], &s);
    }
    fputs("usage: write_recording NAME FILE, or write_recording many FILE SITES\n", stderr);
    return 2;
}
