/* SPDX-License-Identifier: MIT */
#ifndef HEAPMARK_TESTS_PROGRAMS_TRUTH_H
#define HEAPMARK_TESTS_PROGRAMS_TRUTH_H

/*
 * For programs that know their own source: truth() prints what a symbolizer must say about the address it was called
 * from,
 *
 *     ADDRESS <tab> FUNCTION <tab> LINE <tab> FUNCTION <tab> LINE ...
 *
 * ADDRESS: return address in hexadecimal, less the load bias; then the frames, innermost inlined call first, as given
 * by the caller: name and line pairs, ended by NULL.
 */

#include <link.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>

static int truth_bias(struct dl_phdr_info *info, size_t size, void *bias)
{
    (void)size;
    *(uintptr_t *)bias = info->dlpi_addr;
    return 1;                   /* the program itself comes first */
}

__attribute__((noinline)) static void truth(const char *function, ...)
{
    uintptr_t bias = 0;
    va_list rest;
    dl_iterate_phdr(truth_bias, &bias);
    printf("%lx", (unsigned long)((uintptr_t)__builtin_return_address(0) - bias));
    va_start(rest, function);
    for (; function; function = va_arg(rest, const char *))
        printf("\t%s\t%d", function, va_arg(rest, int));
    va_end(rest);
    putchar('\n');
    __asm__ volatile("");       /* not a tail call */
}

/* Keeps a call in the middle of its function. */
#define TRUTH_STAY __asm__ volatile("" : : : "memory")

#endif
