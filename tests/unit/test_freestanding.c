/* SPDX-License-Identifier: MIT */
#include "freestanding/arena.h"
#include "freestanding/on_stack.h"
#include "freestanding/sys.h"
#include "freestanding/text.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- text ---------------------------------------------------------------------------------------- */

START_TEST(text_builds_and_cuts)
{
    char buffer[16];
    struct text text = text_over(buffer, sizeof(buffer));
    ck_assert_str_eq(buffer, "");
    text_put(&text, "a");
    text_char(&text, '=');
    text_u64(&text, 0);
    text_char(&text, ' ');
    text_hex(&text, 0xBEEF);
    ck_assert_str_eq(buffer, "a=0 beef");
    ck_assert(!text.cut);
    text_u64(&text, UINT64_MAX);
    ck_assert_str_eq(buffer, "a=0 beef1844674");
    ck_assert(text.cut);
    ck_assert_uint_eq(text.used, 15);
}
END_TEST

START_TEST(text_parses_sizes)
{
    static const struct {
        const char *string;
        uint64_t value;
        size_t used;
        bool good;
    } cases[] = {
        { "0", 0, 1, true },
        { "512K,", 512 << 10, 4, true },
        { "3M", 3 << 20, 2, true },
        { "2Gx", UINT64_C(2) << 30, 2, true },
        { "18446744073709551615", UINT64_MAX, 20, true },
        { "18446744073709551616", 0, 0, false },
        { "17179869184G", 0, 0, false },
        { "K", 0, 0, false },
        { "", 0, 0, false },
        { "-1", 0, 0, false },
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const char *end;
        uint64_t value;
        bool good = text_parse_size(cases[i].string, &end, &value);
        ck_assert_msg(good == cases[i].good, "%s", cases[i].string);
        if (good) {
            ck_assert_uint_eq(value, cases[i].value);
            ck_assert_uint_eq((size_t)(end - cases[i].string), cases[i].used);
        }
    }
}
END_TEST

START_TEST(text_parses_hex)
{
    const char *end;
    uint64_t value;
    ck_assert(text_parse_hex("7fFf0000-8", &end, &value));
    ck_assert_uint_eq(value, 0x7fff0000);
    ck_assert_int_eq(*end, '-');
    ck_assert(!text_parse_hex("xyz", &end, &value));
    ck_assert(!text_parse_hex("11112222333344445", &end, &value));
}
END_TEST

START_TEST(text_finds_fields)
{
    static const char status[] = "Name:\tVmRSS: 7\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\nThreads:\t3";
    uint64_t value;
    ck_assert(text_field(status, "VmRSS:", &value));
    ck_assert_uint_eq(value, 1024);
    ck_assert(text_field(status, "Threads:", &value));
    ck_assert_uint_eq(value, 3);
    ck_assert(!text_field(status, "VmSwap:", &value));
    ck_assert(!text_field(status, "Name:", &value));
}
END_TEST

START_TEST(text_compares)
{
    ck_assert(text_starts("heapmark", "heap"));
    ck_assert(text_starts("heapmark", ""));
    ck_assert(!text_starts("heap", "heapmark"));
    ck_assert(text_equal("a", "a"));
    ck_assert(!text_equal("a", "ab"));
    ck_assert_uint_eq(text_length("four"), 4);
}
END_TEST

/* ---- arena --------------------------------------------------------------------------------------- */

static bool is_zero(const unsigned char *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (bytes[i] != 0)
            return false;
    return true;
}

START_TEST(arena_aligns_and_zeroes)
{
    for (size_t alignment = 1; alignment <= 4096; alignment *= 2) {
        unsigned char *block = arena_alloc(100, alignment);
        ck_assert_ptr_nonnull(block);
        ck_assert_uint_eq((uintptr_t)block % alignment, 0);
        ck_assert(is_zero(block, 100));
        memset(block, 0xff, 100);
    }
    unsigned char *large = arena_alloc(5 << 20, 4096);
    ck_assert_ptr_nonnull(large);
    ck_assert(is_zero(large, 5 << 20));
    ck_assert_uint_ge(arena_bytes(), 6 << 20);
    ck_assert_ptr_null(arena_alloc(SIZE_MAX - 10, 16));
    ck_assert_ptr_null(arena_alloc(SIZE_MAX / 4, 16));
}
END_TEST

enum { ARENA_THREADS = 4, ARENA_BLOCKS = 20000 };

static size_t words_of(int i)
{
    return 1 + (size_t)i % 40;
}

static void *arena_worker(void *argument)
{
    uint64_t **blocks = argument;
    for (int i = 0; i < ARENA_BLOCKS; i++) {
        blocks[i] = arena_alloc(8 * words_of(i), 8);
        if (!blocks[i])
            return "no memory";
        for (size_t word = 0; word < words_of(i); word++) {
            if (blocks[i][word] != 0)
                return "a block was handed out twice";
            blocks[i][word] = (uintptr_t)argument + (uint64_t)i + 1;
        }
    }
    return NULL;
}

START_TEST(arena_threads_share_nothing)
{
    static uint64_t *blocks[ARENA_THREADS][ARENA_BLOCKS];
    pthread_t threads[ARENA_THREADS];
    for (int t = 0; t < ARENA_THREADS; t++)
        ck_assert_int_eq(pthread_create(&threads[t], NULL, arena_worker, blocks[t]), 0);
    for (int t = 0; t < ARENA_THREADS; t++) {
        void *failure;
        pthread_join(threads[t], &failure);
        ck_assert_msg(failure == NULL, "%s", failure ? (char *)failure : "");
    }
    for (int t = 0; t < ARENA_THREADS; t++)
        for (int i = 0; i < ARENA_BLOCKS; i++)
            for (size_t word = 0; word < words_of(i); word++)
                if (blocks[t][i][word] != (uintptr_t)blocks[t] + (uint64_t)i + 1)
                    ck_abort_msg("block %d of thread %d was overwritten", i, t);
}
END_TEST

/* ---- sys ----------------------------------------------------------------------------------------- */

static int temporary_file(void)
{
    char path[] = "/tmp/heapmark-test-XXXXXX";
    int fd = mkstemp(path);
    ck_assert_int_ge(fd, 0);
    unlink(path);
    return fd;
}

START_TEST(sys_keeps_errno)
{
    errno = 12345;
    ck_assert_int_eq(sys_open("/nonexistent/file", O_RDONLY, 0), -ENOENT);
    ck_assert_int_eq(sys_close(-1), -EBADF);
    ck_assert_ptr_null(sys_map_file(-1, 0, 4096, true));
    ck_assert_int_eq(errno, 12345);
}
END_TEST

struct own_search {
    uintptr_t start;
    size_t bytes, found;
};

static void search_own(uintptr_t start, size_t bytes, void *context)
{
    struct own_search *search = context;
    search->found += start == search->start && bytes == search->bytes;
}

START_TEST(sys_knows_its_own_mappings)
{
    struct own_search search[100] = { 0 };
    for (int round = 0; round < 2; round++) {
        for (size_t i = 0; i < 100; i++) {
            search[i] = (struct own_search){ .bytes = 4096 * (i + 1) };
            search[i].start = (uintptr_t)sys_map_anonymous(search[i].bytes);
            ck_assert_uint_ne(search[i].start, 0);
        }
        for (size_t i = 0; i < 100; i++) {
            sys_each_own(search_own, &search[i]);
            ck_assert_uint_eq(search[i].found, 1);
        }
        for (size_t i = 0; i < 100; i++) {
            ck_assert_int_eq(sys_unmap((void *)search[i].start, search[i].bytes), 0);
            search[i].found = 0;
            sys_each_own(search_own, &search[i]);
            ck_assert_uint_eq(search[i].found, 0);
        }
    }
}
END_TEST

START_TEST(sys_agrees_with_libc)
{
    ck_assert_int_eq(sys_getpid(), getpid());
    ck_assert_int_eq(sys_getppid(), getppid());
    ck_assert_int_eq(sys_gettid(), gettid());
    ck_assert_uint_eq(sys_getuid(), getuid());
    ck_assert_uint_eq(sys_page_bytes(), (size_t)sysconf(_SC_PAGESIZE));
    char ours[4096], theirs[4096];
    ck_assert_int_gt(sys_getcwd(ours, sizeof(ours)), 0);
    ck_assert_ptr_nonnull(getcwd(theirs, sizeof(theirs)));
    ck_assert_str_eq(ours, theirs);
    ssize_t length = readlink("/proc/self/exe", theirs, sizeof(theirs));
    ck_assert_int_eq(sys_readlink("/proc/self/exe", ours, sizeof(ours)), length);
    ck_assert_mem_eq(ours, theirs, (size_t)length);
    uint64_t before = sys_monotonic_ns();
    ck_assert_uint_ge(sys_monotonic_ns(), before);
    ck_assert_uint_gt(sys_realtime_ns(), UINT64_C(1600000000) * 1000000000);
    ck_assert_int_eq(sys_tgkill(sys_getpid(), sys_gettid(), 0), 0);
}
END_TEST

START_TEST(sys_moves_descriptors_high)
{
    int fd = open("/dev/null", O_RDONLY);
    struct sys_identity before, after;
    ck_assert_int_eq(sys_identify(fd, &before), 0);
    int moved = sys_move_fd(fd);
    ck_assert_int_gt(moved, 100);
    ck_assert_int_lt(moved, 1024);
    ck_assert_int_eq(sys_identify(moved, &after), 0);
    ck_assert_uint_eq(before.device, after.device);
    ck_assert_uint_eq(before.inode, after.inode);
    ck_assert_int_eq(fcntl(fd, F_GETFD), -1);
    ck_assert_int_eq(fcntl(moved, F_GETFD), FD_CLOEXEC);
    ck_assert_int_eq(sys_close(moved), 0);
    ck_assert_int_eq(sys_identify(moved, &after), -EBADF);
}
END_TEST

START_TEST(sys_moves_descriptors_below_the_limit)
{
    int fd = open("/dev/null", O_RDONLY);
    struct rlimit old, small;
    getrlimit(RLIMIT_NOFILE, &old);
    small = old;
    small.rlim_cur = (rlim_t)fd + 2;
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &small), 0);
    int moved = sys_move_fd(fd);
    setrlimit(RLIMIT_NOFILE, &old);
    ck_assert_int_ge(moved, fd);
    ck_assert_int_le(moved, fd + 1);
    ck_assert_int_eq(fcntl(moved, F_GETFD), FD_CLOEXEC);
    close(moved);
}
END_TEST

START_TEST(sys_allocates_blocks)
{
    int fd = temporary_file();
    ck_assert_int_eq(sys_allocate(fd, 4096, 200000), 0);
    struct stat status;
    ck_assert_int_eq(fstat(fd, &status), 0);
    ck_assert_int_eq(status.st_size, 204096);
    ck_assert_int_ge(status.st_blocks * 512, 200000);
    unsigned char *mapped = sys_map_file(fd, 0, 8192, true);
    ck_assert_ptr_nonnull(mapped);
    mapped[4096 + 5] = 7;
    unsigned char byte;
    ck_assert_int_eq(sys_pread(fd, &byte, 1, 4096 + 5), 1);
    ck_assert_uint_eq(byte, 7);
    ck_assert_int_eq(sys_unmap(mapped, 8192), 0);
    close(fd);
}
END_TEST

static volatile sig_atomic_t signals_seen;

static void count_signal(int signal)
{
    (void)signal;
    signals_seen++;
}

START_TEST(sys_allocate_spares_the_host_sigxfsz)
{
    int fd = temporary_file();
    struct rlimit old, small;
    getrlimit(RLIMIT_FSIZE, &old);
    small = old;
    small.rlim_cur = 65536;
    signal(SIGXFSZ, count_signal);
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &small), 0);
    int fits = sys_allocate(fd, 0, 65536);
    int beyond = sys_allocate(fd, 65536, 4096);
    setrlimit(RLIMIT_FSIZE, &old);
    ck_assert_int_eq(fits, 0);
    ck_assert_int_eq(beyond, -EFBIG);
    ck_assert_int_eq(signals_seen, 0);
    close(fd);
}
END_TEST

START_TEST(sys_reads_files_and_memory)
{
    char buffer[64];
    ck_assert_int_gt(sys_read_file("/proc/self/stat", buffer, sizeof(buffer)), 0);
    ck_assert_uint_lt(strlen(buffer), sizeof(buffer));
    ck_assert_int_eq(atoi(buffer), getpid());
    ck_assert_int_eq(sys_read_file("/nonexistent", buffer, sizeof(buffer)), -ENOENT);
    ck_assert_str_eq(buffer, "");
    static const char source[] = "across";
    ck_assert_int_eq(sys_process_read(getpid(), buffer, source, sizeof(source)), sizeof(source));
    ck_assert_str_eq(buffer, "across");
    ck_assert_int_eq(sys_process_read(getpid(), buffer, (void *)8, 1), -EFAULT);
    size_t page = sys_page_bytes();
    unsigned char *memory = sys_map_anonymous(3 * page);
    ck_assert_ptr_nonnull(memory);
    memory[page] = 1;
    unsigned char resident[3];
    ck_assert_int_eq(sys_mincore(memory, 3 * page, resident), 0);
    ck_assert_int_eq(resident[1] & 1, 1);
    ck_assert_int_eq(sys_unmap(memory, 3 * page), 0);
}
END_TEST

static _Alignas(16) unsigned char other_stack[256 * 1024];
static volatile int depth_reached;

static void work_apart(void *argument)
{
    /* Not the address of a variable, which the address sanitizer may keep elsewhere. */
    const unsigned char *here = __builtin_frame_address(0);
    int left = *(int *)argument;
    double part = left / 4.0;       /* spilled with aligned stores when the stack is */
    ck_assert(here >= other_stack && here < other_stack + sizeof other_stack);
    depth_reached++;
    if (left-- > 0)
        on_stack((void *)(((uintptr_t)here - 16384) & ~(uintptr_t)15), work_apart, &left);
    ck_assert(part >= 0);
}

START_TEST(on_stack_goes_and_comes_back)
{
    int left = 3;
    volatile int kept = 4711;
    for (int i = 0; i < 3; i++) {
        depth_reached = 0;
        on_stack(other_stack + sizeof other_stack, work_apart, &left);
        ck_assert_int_eq(depth_reached, 4);
        left = 3;
    }
    ck_assert_int_eq(kept, 4711);
}
END_TEST

static volatile int signals_seen;

static void note_signal(int number)
{
    (void)number;
    signals_seen++;
}

START_TEST(sys_blocks_signals_but_faults)
{
    uint64_t before;
    sigset_t now;
    signal(SIGUSR1, note_signal);
    sys_block_signals(&before);
    pthread_sigmask(SIG_SETMASK, NULL, &now);
    ck_assert_int_eq(sigismember(&now, SIGUSR1), 1);
    ck_assert_int_eq(sigismember(&now, SIGURG), 1);
    ck_assert_int_eq(sigismember(&now, SIGSEGV), 0);
    raise(SIGUSR1);
    ck_assert_int_eq(signals_seen, 0);
    sys_restore_signals(&before);
    ck_assert_int_eq(signals_seen, 1);
    pthread_sigmask(SIG_SETMASK, NULL, &now);
    ck_assert_int_eq(sigismember(&now, SIGURG), 0);
}
END_TEST

static int *shared;

static void on_fault(int number)
{
    shared[3] = number;
    _exit(0);
}

/* Written, shared and private memory; a fault that the host handles; a child that does not end. */
START_TEST(sys_forks_unseen)
{
    static volatile int private;
    int status;
    shared = sys_map_shared((size_t)sysconf(_SC_PAGESIZE));
    ck_assert_ptr_nonnull(shared);
    signal(SIGCHLD, note_signal);
    signal(SIGILL, on_fault);
    signal(SIGTRAP, on_fault);
    signals_seen = 0;
    for (int way = 0; way < 3; way++) {
        int child = sys_fork_apart();
        if (child == 0) {
            sys_live_apart("unseen");
            private = shared[way] = way + 1;
            if (way == 1)
                __builtin_trap();
            while (way == 2)
                sys_nap(1000);
            sys_exit_group(0);
        }
        ck_assert_int_gt(child, 0);
        ck_assert_int_eq(waitpid(-1, &status, WNOHANG), -1);
        ck_assert_int_eq(errno, ECHILD);
        sys_await_child(child, way == 2 ? 50000000 : 10000000000);
        ck_assert_int_eq(kill(child, 0), -1);
        ck_assert_int_eq(shared[way], way + 1);
    }
    ck_assert_int_eq(private, 0);
    ck_assert_int_eq(signals_seen, 0);
    ck_assert_int_eq(shared[3], 0);
    sys_unmap(shared, (size_t)sysconf(_SC_PAGESIZE));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("freestanding");
    TCase *text = tcase_create("text");
    tcase_add_test(text, text_builds_and_cuts);
    tcase_add_test(text, text_parses_sizes);
    tcase_add_test(text, text_parses_hex);
    tcase_add_test(text, text_finds_fields);
    tcase_add_test(text, text_compares);
    suite_add_tcase(suite, text);
    TCase *arena = tcase_create("arena");
    tcase_add_test(arena, arena_aligns_and_zeroes);
    tcase_add_test(arena, arena_threads_share_nothing);
    suite_add_tcase(suite, arena);
    TCase *sys = tcase_create("sys");
    tcase_add_test(sys, sys_keeps_errno);
    tcase_add_test(sys, sys_agrees_with_libc);
    tcase_add_test(sys, sys_knows_its_own_mappings);
    tcase_add_test(sys, sys_moves_descriptors_high);
    tcase_add_test(sys, sys_moves_descriptors_below_the_limit);
    tcase_add_test(sys, sys_allocates_blocks);
    tcase_add_test(sys, sys_allocate_spares_the_host_sigxfsz);
    tcase_add_test(sys, sys_reads_files_and_memory);
    tcase_add_test(sys, sys_blocks_signals_but_faults);
    tcase_add_test(sys, sys_forks_unseen);
    tcase_add_test(sys, on_stack_goes_and_comes_back);
    suite_add_tcase(suite, sys);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failures = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failures ? 1 : 0;
}
