/* SPDX-License-Identifier: MIT */
#include "base/xalloc.h"
#include "symbols/demangle.h"
#include "symbols/symbolizer.h"

#include <check.h>
#include <fcntl.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <unistd.h>

static const char self[] = "/proc/self/exe";

static int first_bias(struct dl_phdr_info *info, size_t size, void *bias)
{
    (void)size;
    *(uintptr_t *)bias = info->dlpi_addr;
    return 1;
}

/* Address in this program's file. */
static uint64_t in_file(const void *address)
{
    uintptr_t bias = 0;
    dl_iterate_phdr(first_bias, &bias);
    return (uintptr_t)address - bias;
}

struct heard {
    unsigned complaints;
    char last[1200];
    size_t done, total;
};

static void complain(void *context, const char *sentence)
{
    struct heard *heard = context;
    heard->complaints++;
    snprintf(heard->last, sizeof heard->last, "%s", sentence);
}

static void progress(void *context, size_t done, size_t total)
{
    struct heard *heard = context;
    heard->done = done;
    heard->total = total;
}

static struct symbolizer *listening(struct heard *heard)
{
    *heard = (struct heard){0};
    return symbolizer_new(&(struct symbolizer_options){ .complain = complain, .progress = progress, .context = heard });
}

static __attribute__((noinline)) const void *where_am_i(void)
{
    return __builtin_return_address(0);
}

static const struct {
    const char *linkage_name, *name;
} demangled[] = {
    { "_ZN5shelf3boxIiE3putERKi", "shelf::box<int>::put(int const&)" },
    { "_ZNSt6vectorIiSaIiEE9push_backEOi", "std::vector<int, std::allocator<int> >::push_back(int&&)" },
    { "_Z3fooIiEvT_", "foo<int>(int)" },
    { "_ZN4core3fmt5write17h0123456789abcdefE", "core::fmt::write" },
    { "_ZN72_$LT$alloc..vec..Vec$LT$T$GT$$u20$as$u20$core..iter..Extend$LT$T$GT$$GT$6extend17h0123456789abcdefE",
      "<alloc::vec::Vec<T> as core::iter::Extend<T>>::extend" },
    { "_RNvNtCs1234_7mycrate3foo3bar", "mycrate::foo::bar" },
    { "_RINvCsd2kh1_7mycrate3mapmE", "mycrate::map::<u32>" },
    { "malloc", NULL },
    { "_Zero", NULL },
    { "_Run", NULL },
    { "_", NULL },
    { "", NULL },
};

START_TEST(demangle_names)
{
    char *name = demangle(demangled[_i].linkage_name);
    if (demangled[_i].name)
        ck_assert_str_eq(name, demangled[_i].name);
    else
        ck_assert_ptr_null(name);
    free(name);
}
END_TEST

START_TEST(own_function_and_line)
{
    struct symbolizer *names = symbolizer_new(NULL);
    unsigned module = symbolizer_module(names, self, NULL, 0);
    unsigned line = __LINE__ + 1;
    uint64_t address = in_file(where_am_i());
    const struct symbol *symbol = symbolizer_look(names, module, address, false);
    ck_assert(symbol->known);
    ck_assert_str_eq(symbol->module, "exe");
    ck_assert_uint_eq(symbol->count, 1);
    ck_assert_ptr_nonnull(strstr(symbol->frames[0].function, "own_function_and_line"));
    ck_assert_ptr_nonnull(strstr(symbol->frames[0].file, "test_symbols.c"));
    ck_assert_uint_eq(symbol->frames[0].line, line);
    symbol = symbolizer_look(names, module, in_file((void *)where_am_i), true);
    ck_assert_str_eq(symbol->frames[0].function, "where_am_i");
    symbolizer_free(names);
}
END_TEST

START_TEST(a_batch_answers_as_single_looks_do)
{
    struct heard heard;
    struct symbolizer *single = symbolizer_new(NULL), *batch = listening(&heard);
    unsigned module = symbolizer_module(batch, self, NULL, 0);
    ck_assert_uint_eq(symbolizer_module(single, self, NULL, 0), module);
    uint64_t start = in_file((void *)where_am_i) - 2000;
    for (unsigned i = 0; i < 4000; i++)
        symbolizer_request(batch, module, start + (i * 1237u) % 4000, i % 2);
    symbolizer_resolve(batch);
    ck_assert_uint_eq(heard.done, 4000);
    ck_assert_uint_eq(heard.total, 4000);
    for (unsigned i = 0; i < 4000; i += 7) {
        uint64_t address = start + (i * 1237u) % 4000;
        const struct symbol *a = symbolizer_look(batch, module, address, i % 2);
        const struct symbol *b = symbolizer_look(single, module, address, i % 2);
        ck_assert_uint_eq(a->count, b->count);
        ck_assert_str_eq(a->frames[0].function, b->frames[0].function);
        ck_assert_uint_eq(a->frames[0].line, b->frames[0].line);
        ck_assert_ptr_eq(a, symbolizer_look(batch, module, address, i % 2));
    }
    ck_assert_uint_eq(heard.complaints, 0);
    symbolizer_free(single);
    symbolizer_free(batch);
}
END_TEST

START_TEST(modules_are_told_apart_by_path_and_build_id)
{
    struct symbolizer *names = symbolizer_new(NULL);
    const uint8_t one[] = { 1, 2, 3 }, other[] = { 1, 2, 4 };
    unsigned module = symbolizer_module(names, "/lib/a.so", one, sizeof one);
    ck_assert_uint_ne(module, SYMBOLIZER_NO_MODULE);
    ck_assert_uint_eq(symbolizer_module(names, "/lib/a.so", one, sizeof one), module);
    ck_assert_uint_ne(symbolizer_module(names, "/lib/a.so", other, sizeof other), module);
    ck_assert_uint_ne(symbolizer_module(names, "/lib/a.so", NULL, 0), module);
    ck_assert_uint_ne(symbolizer_module(names, "/lib/b.so", one, sizeof one), module);
    ck_assert_uint_eq(symbolizer_module(names, "", NULL, 0), SYMBOLIZER_NO_MODULE);
    symbolizer_free(names);
}
END_TEST

START_TEST(a_changed_file_is_told_once_and_not_believed)
{
    struct heard heard;
    struct symbolizer *names = listening(&heard);
    const uint8_t wrong[20] = { 0xde, 0xad };
    unsigned module = symbolizer_module(names, self, wrong, sizeof wrong);
    for (unsigned i = 0; i < 10; i++)
        symbolizer_request(names, module, 0x1000 + 16 * i, true);
    symbolizer_resolve(names);
    const struct symbol *symbol = symbolizer_look(names, module, 0x1010, true);
    ck_assert(!symbol->known);
    ck_assert_uint_eq(symbol->count, 1);
    ck_assert_str_eq(symbol->frames[0].function, "exe+0x1010");
    ck_assert_ptr_null(symbol->frames[0].file);
    symbolizer_look(names, module, 0x9999, true);
    ck_assert_uint_eq(heard.complaints, 1);
    ck_assert_str_eq(heard.last, "/proc/self/exe changed since the recording; its functions are shown as addresses");
    symbolizer_free(names);
}
END_TEST

START_TEST(a_missing_file_is_told_once)
{
    struct heard heard;
    struct symbolizer *names = listening(&heard);
    unsigned module = symbolizer_module(names, "/nowhere/libgone.so.1", NULL, 0);
    ck_assert_str_eq(symbolizer_look(names, module, 0x124, false)->frames[0].function, "libgone.so.1+0x123");
    ck_assert_str_eq(symbolizer_look(names, module, 0x124, true)->frames[0].function, "libgone.so.1+0x124");
    ck_assert_uint_eq(heard.complaints, 1);
    ck_assert_str_eq(heard.last, "cannot open /nowhere/libgone.so.1: No such file or directory; "
                                 "its functions are shown as addresses");
    symbolizer_free(names);
}
END_TEST

START_TEST(code_of_no_module)
{
    struct heard heard;
    struct symbolizer *names = listening(&heard);
    const struct symbol *symbol = symbolizer_look(names, SYMBOLIZER_NO_MODULE, 0x7f0000001000, true);
    ck_assert(!symbol->known);
    ck_assert_str_eq(symbol->module, "[anonymous]");
    ck_assert_str_eq(symbol->frames[0].function, "[anonymous]+0x7f0000001000");
    ck_assert_str_eq(symbolizer_look(names, 77, 0, false)->frames[0].function, "[anonymous]+0x0");
    ck_assert_uint_eq(heard.complaints, 0);
    symbolizer_free(names);
}
END_TEST

START_TEST(the_vdso_is_named)
{
    const ElfW(Ehdr) *image = (const ElfW(Ehdr) *)getauxval(AT_SYSINFO_EHDR);
    if (!image)
        return;
    struct symbolizer *names = symbolizer_new(NULL);
    unsigned module = symbolizer_module(names, "linux-vdso.so.1", NULL, 0);
    unsigned known = 0;
    for (uint64_t address = 0x400; address < 0x2000; address += 16)
        known += strstr(symbolizer_look(names, module, address, true)->frames[0].function, "clock_gettime") != NULL;
    ck_assert_uint_gt(known, 0);
    symbolizer_free(names);
}
END_TEST

START_TEST(the_network_is_asked_only_with_consent)
{
    setenv("DEBUGINFOD_URLS", "http://127.0.0.1:1/", 1);
    symbolizer_free(symbolizer_new(&(struct symbolizer_options){ .debuginfod = true }));
    ck_assert_ptr_nonnull(getenv("DEBUGINFOD_URLS"));
    symbolizer_free(symbolizer_new(NULL));
    ck_assert_ptr_null(getenv("DEBUGINFOD_URLS"));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("symbols");
    TCase *tests = tcase_create("symbols");
    tcase_set_timeout(tests, 60);
    tcase_add_loop_test(tests, demangle_names, 0, (int)(sizeof demangled / sizeof *demangled));
    tcase_add_test(tests, own_function_and_line);
    tcase_add_test(tests, a_batch_answers_as_single_looks_do);
    tcase_add_test(tests, modules_are_told_apart_by_path_and_build_id);
    tcase_add_test(tests, a_changed_file_is_told_once_and_not_believed);
    tcase_add_test(tests, a_missing_file_is_told_once);
    tcase_add_test(tests, code_of_no_module);
    tcase_add_test(tests, the_vdso_is_named);
    tcase_add_test(tests, the_network_is_asked_only_with_consent);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
