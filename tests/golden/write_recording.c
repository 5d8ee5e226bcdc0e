/* SPDX-License-Identifier: MIT */

/* write_recording NAME FILE: one of the synthetic recordings as a file. */

#include "../unit/synthetic.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int argc, char **argv)
{
    for (const struct synthetic_kind *kind = synthetic_kinds; argc == 3 && kind->name; kind++) {
        struct synthetic s;
        size_t size;
        if (strcmp(kind->name, argv[1]) != 0)
            continue;
        kind->make(&s);
        unsigned char *bytes = synthetic_finish(&s, &size);
        FILE *file = fopen(argv[2], "wb");
        if (!file || fwrite(bytes, 1, size, file) != size || fclose(file) != 0) {
            perror(argv[2]);
            return 2;
        }
        free(bytes);
        return 0;
    }
    fputs("usage: write_recording NAME FILE\n", stderr);
    return 2;
}
