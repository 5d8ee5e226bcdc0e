/* SPDX-License-Identifier: MIT */
#include "viewer/names.h"

/*
 * Functions that do not explain an allocation: the reader of a report wants to know who asked, not that
 * operator new called malloc.  Matched against demangled names.  The full stack is always in the JSON and
 * with --full.
 */

#include "viewer/python.h"
#include <string.h>

/* A name that ends in '*' is a prefix. */
static const char *const allocators[] = {
    "malloc", "calloc", "realloc", "reallocarray", "posix_memalign", "aligned_alloc", "memalign", "valloc", "pvalloc",
    "strdup", "strndup", "__strdup", "__strndup", "asprintf", "vasprintf", "__asprintf", "___asprintf", "__vasprintf*",
    "__libc_alloc_buffer*", "__libc_dynarray*", "getdelim", "__getdelim", "mmap", "mmap64", "__mmap", "__mmap64",
    "mremap", "brk", "sbrk", "__sbrk", "__brk",
    /* C++ */
    "operator new*", "std::*", "__gnu_cxx::*", "__cxxabiv1::*", "__cxa_allocate_exception",
    /* Rust */
    "__rust_alloc*", "__rust_realloc*", "__rg_*", "__rdl_*", "alloc::*", "<alloc::*", "hashbrown::raw::*",
    "<hashbrown::raw::*", "core::ops::function::*",
    /* wrappers by habit */
    "xmalloc*", "xcalloc*", "xrealloc*", "xzalloc*", "xstrdup*", "xstrndup*", "xnmalloc*", "xnrealloc*", "x2realloc*",
    "x2nrealloc*", "xcharalloc*", "xmemdup*", "xpalloc*", "xicalloc", "xinmalloc", "xireallocarray", "ximalloc",
    "xasprintf*", "xvasprintf*", "emalloc", "ecalloc", "erealloc", "estrdup", "safe_malloc*", "safe_realloc*",
    "imalloc*", "irealloc*", "icalloc*", "ireallocarray*", "do_xmalloc*", "sh_xmalloc*", "sh_xrealloc*",
    /* GLib, OpenSSL, SQLite, jq, redis, zlib, LLVM, Qt, APR, git, curl */
    "g_malloc*", "g_realloc*", "g_try_malloc*", "g_try_realloc*", "g_strdup*", "g_strndup*", "g_memdup*",
    "g_slice_alloc*", "g_slice_copy", "thread_memory_magazine*", "allocator_memalign", "allocator_add_slab",
    "magazine_*", "slab_allocator_*",
    "CRYPTO_malloc*", "CRYPTO_zalloc*", "CRYPTO_realloc*", "CRYPTO_clear_realloc*", "CRYPTO_strdup*",
    "CRYPTO_strndup*", "CRYPTO_memdup*",
    "sqlite3MemMalloc", "sqlite3MemRealloc", "sqlite3Malloc*", "sqlite3Realloc*", "sqlite3DbMalloc*",
    "sqlite3DbRealloc*", "sqlite3_malloc*", "sqlite3_realloc*", "sqlite3DbStrDup*", "sqlite3DbStrNDup*",
    "mallocWithAlarm", "pcache1Alloc", "pcache1AllocPage", "dbMallocRawFinish", "dbReallocFinish", "pageMalloc",
    "sqlite3PageMalloc",
    "jv_mem_*", "zmalloc*", "zcalloc*", "zrealloc*", "ztrymalloc*", "ztrycalloc*", "ztryrealloc*", "zstrdup*",
    "zcalloc", "llvm::safe_malloc*", "llvm::safe_calloc*", "llvm::safe_realloc*", "llvm::allocate_buffer*",
    "llvm::SmallVectorBase*", "QArrayData::*", "QListData::*", "apr_palloc*", "apr_pcalloc*", "do_xrealloc*",
    "strbuf_grow", "Curl_saferealloc", "Curl_cstrdup",
    /* CPython and NumPy */
    "PyMem_*", "_PyMem_*", "PyObject_Malloc", "PyObject_Calloc", "PyObject_Realloc", "_PyObject_Malloc*",
    "_PyObject_Calloc*", "_PyObject_Realloc*", "pymalloc_alloc", "allocate_from_new_pool", "new_arena",
    "_PyObject_Arena*", "_PyObject_GC_*", "PyObject_GC_*", "gc_alloc", "_PyObject_New*", "PyType_GenericAlloc",
    "_PyType_AllocNoTrack", "_PyDebugAllocatorStats", "PyDataMem_*", "default_malloc", "default_calloc",
    "default_realloc", "traced_malloc", "traced_calloc", "traced_realloc", "npy_alloc_cache*", "_npy_alloc_cache*", "traceback_alloc*",
};

static const char *const plumbing[] = {
    "_start", "__libc_start_main*", "__libc_start_call_main", "start_thread", "clone", "clone3", "__clone*",
    "std::rt::*", "std::sys::*", "std::panicking::*", "core::ops::function::*", "__rust_begin_short_backtrace",
    "std::sys_common::*", "std::thread::*", "std::__invoke*", "execute_native_thread_routine",
    /* CPython's way from one Python function to the next */
    "_PyEval_*", "PyEval_*", "_PyFunction_*", "PyObject_Call*", "_PyObject_Call*", "PyObject_Vectorcall*",
    "_PyObject_Vectorcall*", "_PyObject_MakeTpCall", "_PyObject_FastCall*", "_PyVectorcall_*", "PyVectorcall_*",
    "cfunction_*", "method_vectorcall*", "method_descriptor_vectorcall*", "classmethoddescr_call", "wrapper_call",
    "wrapperdescr_*", "object_vacall", "vectorcall_*", "_vectorcall*", "slot_tp_*", "slot_mp_*", "slot_nb_*",
    "slot_sq_*", "type_call", "type_vectorcall", "builtin_exec*", "run_mod", "run_eval_code_obj", "pyrun_file",
    "_PyRun_*", "pymain_*", "Py_RunMain", "Py_BytesMain", "Py_Main", "gen_send_ex*", "gen_iternext",
    "partial_vectorcall*", "partial_call*", "PyCFunction_Call", "PyImport_*", "import_find_and_load", "import_name",
    "do_call_core", "call_function", "trace_call_function", "property_descr_get*", "PyObject_GetAttr*",
    "_PyObject_GenericGetAttr*", "_PyObject_GetMethod", "func_descr_get", "PyCell_*", "bounded_lru_cache_wrapper",
    "infinite_lru_cache_wrapper", "lru_cache_call", "PyObject_GetItem", "PyObject_SetItem", "PyObject_GetIter",
    "PyIter_Next", "_PyObject_CallMethod*", "PyObject_CallMethod*", "builtin___build_class__", "exec_code_in_module",
    "_PyObject_VectorcallTstate", "__Pyx_PyObject_*", "__Pyx_PyFunction_*", "__Pyx_PyVectorcall*",
    "__Pyx_CyFunction_*", "__Pyx_Function_*", "__pyx_FusedFunction_*",
};

/* "std::pair<int, char> std::f<int>(int)" -> "std::f<int>(int)": demangled templates begin with their result's type. */
static const char *without_result(const char *function)
{
    const char *name = function;
    int depth = 0;

    for (const char *c = function; *c && !(*c == '(' && depth == 0 && c != function); c++) {
        if (strncmp(c, "operator", 8) == 0)
            break;
        if (*c == '<' || *c == '(' || *c == '{')
            depth++;
        else if (*c == '>' || *c == ')' || *c == '}')
            depth--;
        else if (*c == ' ' && depth == 0)
            name = c + 1;
    }
    return name;
}

static bool listed(const char *const *patterns, size_t count, const char *function)
{
    const char *name = without_result(function);
    for (size_t i = 0; i < count; i++) {
        size_t length = strlen(patterns[i]);
        if (patterns[i][length - 1] == '*' ? strncmp(patterns[i], name, length - 1) == 0
                                           : strcmp(patterns[i], name) == 0)
            return true;
    }
    return false;
}

bool names_allocator(const struct name *name)
{
    if (name->judged)
        return name->allocator;
    return !name->python && listed(allocators, sizeof allocators / sizeof *allocators, name->function);
}

#define NAMED_REACH 8

/* A static function of a stripped library has no name: the exported one that called it says more. */
static size_t named_near(const struct names_stack *stack, size_t unnamed)
{
    const char *module = stack->at[unnamed].module;
    for (size_t i = unnamed; i < stack->count && i <= unnamed + NAMED_REACH; i++) {
        if (strcmp(stack->at[i].module, module) != 0)
            break;
        if (stack->at[i].known && !names_plumbing(&stack->at[i]) && !names_allocator(&stack->at[i]))
            return i;
    }
    return unnamed;
}

/* The first entry beyond the allocator: nameless functions that a wrapper called belong to it. */
static size_t beyond_allocator(const struct names_stack *stack)
{
    size_t beyond = 0;
    for (size_t i = 0; i < stack->count && i <= beyond + NAMED_REACH; i++) {
        if (names_allocator(&stack->at[i]))
            beyond = i + 1;
        else if (stack->at[i].known)
            break;
    }
    return beyond;
}

size_t names_headline(const struct names_stack *stack)
{
    size_t python = python_first(stack);
    if (python < stack->count)
        return python_headline(stack, python);
    for (size_t i = beyond_allocator(stack); i < stack->count; i++)
        if (!names_allocator(&stack->at[i]) && !names_plumbing(&stack->at[i]))
            return named_near(stack, i);
    /* Wrappers all the way: the nearest to the program's own code that is no start-up code. */
    for (size_t i = stack->count; i-- > 0; )
        if (!names_plumbing(&stack->at[i]))
            return i;
    return 0;
}

bool names_plumbing(const struct name *name)
{
    if (name->judged)
        return name->plumbing;
    if (name->python)
        return python_plumbing(name->function, name->file);
    return listed(plumbing, sizeof plumbing / sizeof *plumbing, name->function);
}
