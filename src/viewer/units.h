/* SPDX-License-Identifier: MIT */
#ifndef HEAPMARK_VIEWER_UNITS_H
#define HEAPMARK_VIEWER_UNITS_H

/* Numbers for people: at most three or four significant digits and a unit.  Machine formats print plain bytes. */

#include <stdbool.h>
#include <stdint.h>

#define UNITS_BYTES 48

/* Each fills `buffer`, of UNITS_BYTES bytes, and returns it. */
char *units_size(char *buffer, int64_t bytes);          /* "512 B", "9.6 KiB", "91.7 MiB", "1.21 GiB" */
char *units_count(char *buffer, int64_t count);         /* "1,234,567" */
char *units_counted(char *buffer, int64_t count, const char *noun);     /* "1 block", "3 blocks"; the noun is short */
char *units_duration(char *buffer, uint64_t ns);        /* "12 us", "450 ms", "38.2 s", "12 min 03 s", "3 h 12 min" */
char *units_elapsed(char *buffer, uint64_t ns);         /* for columns: "38.2 s", "12:03", "3:12:05" */
char *units_percent(char *buffer, int64_t part, int64_t whole);     /* "12 %", "0.4 %", "<0.1 %"; "-" of nothing */
char *units_error(char *buffer, double error, bool size);  /* a standard error: "+-1.2 MiB", "+-1,234" */
char *units_clock(char *buffer, uint64_t realtime_ns);  /* local time of day, "09:14:03" */
char *units_date(char *buffer, uint64_t realtime_ns);   /* "2026-11-22 09:14:03" */

#endif
