/* SPDX-License-Identifier: MIT */
#ifndef HEAPMARK_ANALYSIS_PROFILE_H
#define HEAPMARK_ANALYSIS_PROFILE_H

/*
 * A recording as numbers: what each site allocated, has live, had live at the heap's peak and holds; and what
 * the process was.  No names of addresses, no text.
 *
 *     struct profile *profile = profile_new(file);
 *     for (size_t i = 0; i < profile->site_count; i++)
 *         use(&profile->sites[i]);
 *     profile_free(profile);
 *
 * Strings and modules belong to the read_file, which must stay open as long as the profile.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct joined;
struct read_file;

enum profile_state {
    PROFILE_RUNNING,            /* or killed: only the kernel knows */
    PROFILE_EXITED,
    PROFILE_EXITED_FAST,        /* by _exit or quick_exit */
    PROFILE_ABORTED,
    PROFILE_EXECED,
    PROFILE_STOPPED             /* recording was given up */
};

struct profile_process {
    const char *path;           /* of the recording */
    const char *exe, *name;     /* name: last part of exe */
    const char *command, *cwd, *host, *libc, *options, *unwinder, *tool_version;
    uint32_t pid, ppid, root_pid;
    bool forked;
    bool free_sites;            /* held bytes are charged to the site that freed them */
    uint64_t sample_bytes;      /* 0: every allocation was recorded */
    uint64_t sampled_from_ns;   /* exact until then; 0: one mode throughout */
    bool has_errors;            /* sampled, and by a writer that stored the variances */
    uint64_t spent_ns, cpu_ns;  /* CPU time in heapmark's hooks, estimated, and of the whole process; 0: not known */
    uint32_t depth_max;
    uint32_t page_bytes;
    uint64_t start_realtime_ns;
    uint64_t ran_ns;            /* until the end or the last that was recorded */
    enum profile_state state;
    int exit_status;            /* -1: unknown */
    const char *stop_reason;    /* NULL, or why new stacks were no longer recorded */
    uint64_t thread_count;      /* threads that ever allocated */
};

/* What could not be recorded. */
struct profile_losses {
    uint64_t sites, events, reentrant, unknown_frees, stale_live, cut_stacks, incomplete_stacks, foreign_forks;
    uint64_t abandoned;         /* hooks that a signal handler left by longjmp */
    uint64_t verify_checked, verify_wrong;
};

enum profile_kind {
    PROFILE_HEAP = 0,           /* malloc and its family */
    PROFILE_MAPPING = 1,        /* mmap by the program */
    PROFILE_BREAK = 2,          /* brk, sbrk by the program */
    PROFILE_KINDS = 3
};

/* Six numbers that sampled mode estimates, or their variances: those add up over sites, and are 0 where all was recorded. */
struct profile_estimates {
    double allocations, allocated_bytes, live_blocks, live_bytes, peak_blocks, peak_bytes;
};

/* Times here and below count from the start of the recording. */
struct profile_site {
    uint32_t id;
    uint32_t frame;             /* leaf, 0: no stack */
    enum profile_kind kind;
    bool cut, incomplete, guessed;      /* of the stack: root side missing; nobody could unwind on; rests on a guess */
    uint64_t first_ns;
    uint64_t allocations, allocated_bytes, frees, freed_bytes;
    uint64_t temporary;         /* blocks freed by the same thread before its next allocation */
    int64_t live_blocks, live_bytes;    /* negative in a forked child that freed its parent's blocks */
    int64_t slack_bytes;        /* usable - requested of live blocks */
    uint32_t threads;           /* at most that many have allocated there */
    uint32_t thread;            /* one of them, for profile_thread_name */
    int64_t peak_blocks, peak_bytes;    /* share of the heap's peak */
    int64_t own_peak_bytes;
    uint64_t own_peak_ns;
    struct profile_estimates variance;
    /* of the newest complete census; 0 without one */
    uint64_t held_bytes, held_page_bytes;
    uint64_t pin_sole_bytes;    /* held bytes on pages whose live blocks are all of this site */
    uint64_t pin_share_bytes;   /* those, and a share by live bytes on pages with other sites' blocks */
    double pin_share_variance;  /* in sampled mode, where pin_sole_bytes is not told */
    uint64_t mapped_bytes;
};

struct profile_sum {
    uint64_t sites;
    uint64_t allocations, allocated_bytes, frees, freed_bytes, temporary;
    int64_t live_blocks, live_bytes, slack_bytes, peak_blocks, peak_bytes;
    uint64_t held_bytes, mapped_bytes;
    struct profile_estimates variance;
};

struct profile_heap {
    int64_t peak_bytes, peak_blocks;
    uint64_t peak_ns;
    bool rising;                /* the peak is now */
    uint64_t error_bytes;       /* bound on how far the peak may be off, because threads report in steps; 0: exact */
    uint64_t inherited_blocks, inherited_bytes;     /* live at the fork that made this process */
};

struct profile_rss {
    uint64_t start_bytes, last_bytes, peak_bytes;
    uint64_t kernel_peak_bytes; /* VmHWM: above peak_bytes where ledgers of heapmark's own raised it for a moment */
    uint64_t last_ns, peak_ns;
    uint64_t self_bytes;        /* heapmark's share of last_bytes */
};

#define PROFILE_NO_MODULE UINT32_MAX
enum profile_frame_kind { PROFILE_NATIVE = 0, PROFILE_SIGNAL = 1, PROFILE_PYTHON = 2 };
struct profile_frame {
    uint32_t id, parent;        /* parent 0: outermost */
    enum profile_frame_kind kind;
    uint32_t module;            /* PROFILE_NO_MODULE: code outside all modules */
    uint64_t address;           /* in the module's file, or run-time address without a module */
    uint32_t code;              /* of PROFILE_PYTHON, whose address is the offset in bytes into the bytecode */
};

/* A function, module or comprehension of an interpreted program. */
struct profile_code {
    const char *name, *file;
    uint32_t first_line;
    uint32_t version;           /* of the interpreter: major << 8 | minor */
    const uint8_t *lines;       /* its line table as the interpreter keeps it */
    uint32_t line_bytes;
};

struct profile_module {
    const char *path;
    const uint8_t *build_id;
    uint32_t build_id_bytes;
    uint64_t base, start, end;
    bool unloaded;
};

#define PROFILE_SIZE_CLASSES 64
struct profile {
    const struct read_file *file;
    struct profile_process process;
    struct profile_losses losses;
    struct profile_heap heap;
    struct profile_rss rss;
    struct profile_site *sites;         /* index = id */
    size_t site_count;
    struct profile_sum sum[PROFILE_KINDS];
    bool pins_estimated;        /* pin_share_bytes, with its variance */
    struct profile_module *modules;
    size_t module_count;
    size_t code_count;
    struct joined *stacks;              /* see joined.h */
    size_t frame_count;                 /* ids of frames are below; a parent's is below that of its callee */
    uint64_t size_class[PROFILE_SIZE_CLASSES];  /* allocations by requested size */
};

struct profile *profile_new(const struct read_file *file);
void profile_free(struct profile *profile);

void profile_add(struct profile_sum *sum, const struct profile_site *site);

/* The standard error to state with an estimate.  The root of the variance, which has itself been estimated, is too small when few
 * samples happened to be taken; so one sample of the mean size is added. */
double profile_error(double variance, double estimate);

/* The frame; false for id 0 and ids out of range, which end a stack. */
bool profile_frame(const struct profile *profile, uint32_t id, struct profile_frame *frame);
/* The code object; number < code_count, as a frame's is. */
struct profile_code profile_code(const struct profile *profile, uint32_t number);
/* The smallest and the largest size of a class; the last class has no upper end (UINT64_MAX). */
/* "": not known. */
#define PROFILE_THREAD_NAME 17
void profile_thread_name(const struct profile *profile, uint32_t thread, char name[PROFILE_THREAD_NAME]);

void profile_size_class(unsigned size_class, uint64_t *from, uint64_t *to);
/* What stands for a stack that a site has not: "(before heapmark was ready)"; NULL for a site with a stack. */
const char *profile_site_meaning(const struct profile_site *site);

#endif
