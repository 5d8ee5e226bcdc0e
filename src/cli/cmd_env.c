/* SPDX-License-Identifier: MIT */
#include "cli/command.h"

#include "cli/preload.h"
#include <libgen.h>
#include <stdio.h>

static const char help[] =
    "Usage: heapmark env [--shell|--docker|--systemd|--k8s] [OPTION]...\n"
    "Prints the lines that make programs be recorded without 'heapmark run'.\n\n"
    "  --shell               for sh (default)\n"
    "  --docker              for a Dockerfile\n"
    "  --systemd             for a drop-in of a unit\n"
    "  --k8s                 for a pod\n"
    "  -o, --output PATTERN  where recordings go; see heapmark run --help\n"
    "  --depth N, --sample BYTES, --children no|fork|all, --free-sites, --option KEY=VALUE   as for run\n"
    "  --help\n\n"
    "Example: (eval \"$(heapmark env)\"; exec ./server)\n"
    "Exit status: 0 fine, 2 not.\n";

enum style { STYLE_SHELL, STYLE_DOCKER, STYLE_SYSTEMD, STYLE_K8S };
enum { OPTION_HELP = PRELOAD_OPTIONS_END, OPTION_STYLE };

static const struct option options[] = {
    PRELOAD_LONG_OPTIONS,
    { "shell", no_argument, NULL, OPTION_STYLE + STYLE_SHELL },
    { "docker", no_argument, NULL, OPTION_STYLE + STYLE_DOCKER },
    { "systemd", no_argument, NULL, OPTION_STYLE + STYLE_SYSTEMD },
    { "k8s", no_argument, NULL, OPTION_STYLE + STYLE_K8S },
    { "help", no_argument, NULL, OPTION_HELP },
    { NULL, 0, NULL, 0 },
};

/* Where the library and the recordings are in a container; a volume outlives it. */
#define INSIDE "/opt/heapmark"
#define VOLUME "/var/lib/heapmark"

struct env {
    enum style style;
    struct preload_request request;
    struct preload preload;
};

static void put_single_quoted(const char *text)
{
    putchar('\'');
    for (; *text; text++)
        fputs(*text == '\'' ? "'\\''" : (char[]){ *text, 0 }, stdout);
    putchar('\'');
}

/* `special` gets a backslash in front; systemd wants percent signs doubled, for its own letters have them too. */
static void put_escaped(const char *text, const char *special, bool double_percent)
{
    for (; *text; text++) {
        if (strchr(special, *text))
            putchar('\\');
        putchar(*text);
        if (*text == '%' && double_percent)
            putchar('%');
    }
}

static const char *pattern_in_volume(const struct env *env)
{
    return env->request.pattern ? env->request.pattern : VOLUME "/%h.%e.%p.hmk";
}

static void print_shell(const struct env *env)
{
    fputs("LD_PRELOAD=", stdout);
    put_single_quoted(env->preload.library);
    puts("\"${LD_PRELOAD:+:$LD_PRELOAD}\"; export LD_PRELOAD");
    fputs("HEAPMARK_OUT=", stdout);
    put_single_quoted(env->preload.pattern);
    puts("; export HEAPMARK_OUT");
    if (env->preload.options.length > 0) {
        fputs("HEAPMARK_OPTIONS=", stdout);
        put_single_quoted(env->preload.options.text);
        puts("; export HEAPMARK_OPTIONS");
    }
}

static void print_docker(const struct env *env)
{
    char *library = xstrdup(env->preload.library);
    printf("# Put the two libraries of %s beside the Dockerfile.\n"
           "# They are made for glibc: not for Alpine's musl.\n", dirname(library));
    free(library);
    puts("COPY " PRELOAD_LIBRARY " " PRELOAD_HELPER " " INSIDE "/");
    puts("ENV LD_PRELOAD=\"" INSIDE "/" PRELOAD_LIBRARY "\"");
    fputs("ENV HEAPMARK_OUT=\"", stdout);
    put_escaped(pattern_in_volume(env), "\"\\$", false);
    puts("\"");
    if (env->preload.options.length > 0) {
        fputs("ENV HEAPMARK_OPTIONS=\"", stdout);
        put_escaped(env->preload.options.text, "\"\\$", false);
        puts("\"");
    }
    if (!env->request.pattern)
        puts("RUN mkdir -p -m 1777 " VOLUME "\nVOLUME " VOLUME);
}

static void print_systemd(const struct env *env)
{
    puts("# For systemctl edit UNIT.  A program that is setuid or has file capabilities ignores the preload.\n"
         "[Service]");
    fputs("Environment=\"LD_PRELOAD=", stdout);
    put_escaped(env->preload.library, "\"\\", true);
    puts("\"");
    fputs("Environment=\"HEAPMARK_OUT=", stdout);
    if (env->request.pattern)
        put_escaped(env->request.pattern, "\"\\", true);
    else
        fputs("%S/heapmark/%N.%%e.%%p.hmk", stdout);    /* %S and %N are systemd's: state directory, unit */
    puts("\"");
    if (env->preload.options.length > 0) {
        fputs("Environment=\"HEAPMARK_OPTIONS=", stdout);
        put_escaped(env->preload.options.text, "\"\\", true);
        puts("\"");
    }
    if (!env->request.pattern)
        puts("StateDirectory=heapmark");
}

static void print_k8s(const struct env *env)
{
    puts("# Replace IMAGE by an image that has heapmark installed, and APP by your container's name.\n"
         "# The recordings live as long as the pod: copy them by kubectl cp, or mount a claim instead.\n"
         "spec:\n"
         "  volumes:\n"
         "    - name: heapmark\n"
         "      emptyDir: {}\n"
         "    - name: heapmark-recordings\n"
         "      emptyDir: {}\n"
         "  initContainers:\n"
         "    - name: heapmark\n"
         "      image: IMAGE\n"
         "      command:\n"
         "        - sh\n"
         "        - -c");
    char *library = xstrdup(env->preload.library), *directory = dirname(library);
    fputs("        - \"cp ", stdout);
    put_escaped(directory, "\"\\", false);
    fputs("/" PRELOAD_LIBRARY " ", stdout);
    put_escaped(directory, "\"\\", false);
    puts("/" PRELOAD_HELPER " " INSIDE "/ && chmod 1777 " VOLUME "\"");
    free(library);
    puts("      volumeMounts:\n"
         "        - {name: heapmark, mountPath: " INSIDE "}\n"
         "        - {name: heapmark-recordings, mountPath: " VOLUME "}\n"
         "  containers:\n"
         "    - name: APP\n"
         "      env:\n"
         "        - name: LD_PRELOAD\n"
         "          value: " INSIDE "/" PRELOAD_LIBRARY "\n"
         "        - name: HEAPMARK_OUT");
    fputs("          value: \"", stdout);
    put_escaped(pattern_in_volume(env), "\"\\", false);
    puts("\"");
    if (env->preload.options.length > 0) {
        fputs("        - name: HEAPMARK_OPTIONS\n          value: \"", stdout);
        put_escaped(env->preload.options.text, "\"\\", false);
        puts("\"");
    }
    puts("      volumeMounts:\n"
         "        - {name: heapmark, mountPath: " INSIDE ", readOnly: true}\n"
         "        - {name: heapmark-recordings, mountPath: " VOLUME "}");
}

static int print(struct env *env)
{
    static void (*const printers[])(const struct env *) = { print_shell, print_docker, print_systemd, print_k8s };
    struct fail why;
    if (!preload_find(&env->preload, &env->request, &why))
        return command_bad("env", "%s", why.text);
    printers[env->style](env);
    return COMMAND_OK;
}

int cmd_env(int argc, char **argv)
{
    struct env env = { .preload = { .options = STRBUF_INIT } };
    int status = COMMAND_OK, option;
    bool print_lines = true;
    while (print_lines && (option = command_option(argc, argv, ":o:", options)) != -1) {
        if (preload_take_option(&env.request, option, optarg))
            continue;
        if (option >= OPTION_STYLE && option <= OPTION_STYLE + STYLE_K8S) {
            env.style = (enum style)(option - OPTION_STYLE);
            continue;
        }
        print_lines = false;
        status = option == OPTION_HELP ? command_help(help) : COMMAND_BAD;
    }
    if (print_lines && optind < argc)
        status = command_misused("env", "unexpected argument '%s'", argv[optind]);
    else if (print_lines)
        status = print(&env);
    preload_free(&env.preload);
    preload_request_free(&env.request);
    return status;
}
