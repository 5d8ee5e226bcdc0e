/* SPDX-License-Identifier: MIT */
/*
 * Runs a command and writes `cpu-seconds wall-seconds peak-rss-bytes exit-status user-seconds` of its whole tree to a file.
 * A small parent, because a child inherits its parent's peak RSS until it has exec'ed and the kernel keeps the maximum.
 *
 * usage: launch FILE COMMAND [ARG...]      environment LAUNCH_ENV: variables for the command alone, NAME=VALUE by line
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double seconds(struct timeval time)
{
    return (double)time.tv_sec + (double)time.tv_usec / 1e6;
}

static void become(char **command)
{
    const char *variables = getenv("LAUNCH_ENV");
    char *lines = variables ? strdup(variables) : NULL;

    unsetenv("LAUNCH_ENV");
    for (char *line = lines ? strtok(lines, "\n") : NULL; line; line = strtok(NULL, "\n"))
        putenv(line);
    execvp(command[0], command);
    _exit(127);
}

int main(int argc, char **argv)
{
    struct timespec from, to;
    struct rusage usage;
    int status = 0;

    if (argc < 3)
        return 2;
    FILE *out = fopen(argv[1], "we");
    if (!out)
        return 2;
    clock_gettime(CLOCK_MONOTONIC, &from);
    pid_t pid = fork();
    if (pid == 0)
        become(argv + 2);
    if (pid < 0 || waitpid(pid, &status, 0) != pid)
        return 2;
    clock_gettime(CLOCK_MONOTONIC, &to);
    getrusage(RUSAGE_CHILDREN, &usage);
    fprintf(out, "%.6f %.6f %ld %d %.6f\n", seconds(usage.ru_utime) + seconds(usage.ru_stime),
            (double)(to.tv_sec - from.tv_sec) + (double)(to.tv_nsec - from.tv_nsec) / 1e9, usage.ru_maxrss * 1024,
            WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), seconds(usage.ru_utime));
    return fclose(out) ? 2 : 0;
}
