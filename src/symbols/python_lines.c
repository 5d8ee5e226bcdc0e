/* SPDX-License-Identifier: MIT */
#include "symbols/python_lines.h"

#include <limits.h>

struct reader {
    const uint8_t *at, *end;
};

/* An interpreter's line is an int; what a damaged table adds up to stays in range. */
static bool put_line(struct python_place *place, int64_t line)
{
    if (line <= 0 || line > INT32_MAX)
        return false;
    place->line = place->end_line = (uint32_t)line;
    return true;
}

/* ---- 3.8, 3.9: pairs of (bytes to the next entry, lines) ---------------------------------------- */

static bool find_in_lnotab(const struct python_lines *lines, uint32_t offset, struct python_place *place)
{
    uint64_t address = 0;
    int64_t line = lines->first_line;

    for (size_t i = 0; i + 1 < lines->bytes; i += 2) {
        address += lines->table[i];
        if (address > offset)
            break;
        line += (int8_t)lines->table[i + 1];
    }
    return put_line(place, line);
}

/* ---- 3.10: pairs of (bytes of this entry, lines) ------------------------------------------------ */

#define NO_LINE (-128)

static bool find_in_ranges(const struct python_lines *lines, uint32_t offset, struct python_place *place)
{
    uint64_t end = 0;
    int64_t line = lines->first_line;

    for (size_t i = 0; i + 1 < lines->bytes; i += 2) {
        int8_t delta = (int8_t)lines->table[i + 1];
        end += lines->table[i];
        if (delta != NO_LINE)
            line += delta;
        if (end > offset)
            return delta != NO_LINE && put_line(place, line);
    }
    return false;
}

/* ---- since 3.11 --------------------------------------------------------------------------------- */

/*
 * An entry starts with a byte that has bit 7 set, and no other byte has:
 *
 *     1 kkkk lll      k: kind, l: instructions of two bytes, less one
 *
 * Then by kind: 0-9 one byte, columns below 80; 10-12 two bytes, columns below 128, and a line 0, 1 or 2 further;
 * 13 a line without columns; 14 everything in full; 15 no place at all.  Numbers are 6 bits a byte, lowest first,
 * bit 6: more follows; a signed one has its sign in bit 0.
 */
enum { SHORT_LAST = 9, ONE_LINE_FIRST = 10, ONE_LINE_LAST = 12, NO_COLUMNS = 13, LONG = 14, NONE = 15 };

static uint32_t read_byte(struct reader *reader)
{
    return reader->at < reader->end && *reader->at < 0x80 ? *reader->at++ : 0;
}

static uint32_t read_number(struct reader *reader)
{
    uint32_t value = 0, byte = 0x40;
    for (unsigned shift = 0; byte & 0x40; shift += 6) {
        byte = read_byte(reader);
        if (shift < 32)
            value |= (byte & 0x3f) << shift;
    }
    return value;
}

static int64_t read_signed(struct reader *reader)
{
    uint32_t value = read_number(reader);
    return value & 1 ? -(int64_t)(value >> 1) : (int64_t)(value >> 1);
}

/* The rest of an entry; *line moves on. */
static struct python_place read_entry(struct reader *reader, unsigned kind, int64_t *line)
{
    struct python_place place = { 0 };
    uint32_t end_lines = 0;

    if (kind == NONE)
        return place;
    if (kind <= SHORT_LAST) {
        uint32_t columns = read_byte(reader);
        place.column = (kind << 3 | columns >> 4) + 1;
        place.end_column = place.column + (columns & 15);
    } else if (kind <= ONE_LINE_LAST) {
        *line += kind - ONE_LINE_FIRST;
        place.column = read_byte(reader) + 1;
        place.end_column = read_byte(reader) + 1;
    } else {
        *line += read_signed(reader);
        if (kind == LONG) {
            end_lines = read_number(reader);
            place.column = read_number(reader);
            place.end_column = read_number(reader);
        }
    }
    if (put_line(&place, *line) && *line + end_lines <= INT32_MAX)
        place.end_line += end_lines;
    return place;
}

static bool find_in_locations(const struct python_lines *lines, uint32_t offset, struct python_place *place)
{
    struct reader reader = { lines->table, lines->table + lines->bytes };
    int64_t line = lines->first_line;
    uint64_t end = 0;

    while (reader.at < reader.end) {
        unsigned head = *reader.at++;
        struct python_place here = read_entry(&reader, head >> 3 & 15, &line);
        while (reader.at < reader.end && *reader.at < 0x80)
            reader.at++;
        end += ((head & 7u) + 1) * 2;
        if (end > offset) {
            if (here.line != 0)
                *place = here;
            return here.line != 0;
        }
    }
    return false;
}

bool python_lines_find(const struct python_lines *lines, uint32_t offset, struct python_place *place)
{
    *place = (struct python_place){ 0 };
    if (offset > INT32_MAX)
        return false;
    if (lines->version < 0x30a)
        return find_in_lnotab(lines, offset, place);
    if (lines->version == 0x30a)
        return find_in_ranges(lines, offset, place);
    return find_in_locations(lines, offset, place);
}
