/* SPDX-License-Identifier: MIT */
/*
 * Hosts that close every descriptor they did not open, as daemons and launchers do, and that count on getting the
 * lowest free number.  Allocates before, between and after.  usage: closeall LOWEST-FILE
 */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "say.h"

#ifndef SYS_close_range         /* glibc before 2.34 with old kernel headers */
#define SYS_close_range 436
#endif

static struct ledger ledger;

__attribute__((noinline)) static void allocate(void)
{
    for (int i = 0; i < 30000; i++) {
        void *block = malloc(48);
        touch(block, 48);
        ledger_add(&ledger, 48);
        if (i % 3) {
            free(block);
            ledger_drop(&ledger, 48);
        }
    }
}

int main(int argc, char **argv)
{
    struct rlimit limit;

    allocate();
    say("lowest", open(argc > 1 ? argv[1] : "/dev/null", O_RDWR | O_CREAT, 0600));
    getrlimit(RLIMIT_NOFILE, &limit);
    for (rlim_t fd = 3; fd < limit.rlim_cur && fd < 65536; fd++)
        close((int)fd);
    allocate();
    say("lowest_after_close", open(argc > 1 ? argv[1] : "/dev/null", O_RDWR));
    syscall(SYS_close_range, 3u, ~0u, 0u);
    allocate();
    int fd = open(argc > 1 ? argv[1] : "/dev/null", O_RDWR);
    say("lowest_after_close_range", fd);
    for (int i = 4; i < 200; i++)       /* take every number that a profiler might still believe its own */
        dup2(fd, i);
    allocate();
    if (argc > 1) {
        struct stat status;
        stat(argv[1], &status);
        say("own_file_bytes", (long long)status.st_size);
    }
    say("allocate_blocks", ledger.blocks);
    say("allocate_bytes", ledger.bytes);
    say("allocate_live_bytes", ledger.live_bytes);
    return 0;
}
