/* SPDX-License-Identifier: MIT */
#ifndef HEAPMARK_SHIM_UNWIND_READER_H
#define HEAPMARK_SHIM_UNWIND_READER_H

/* Bounded reading of DWARF data in memory.  After a read past the end `bad` is set and everything reads as 0. */

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

struct reader {
    const uint8_t *at, *end;
    bool bad;
};

#define READER_OMITTED 0xffu    /* a pointer encoding: there is none */

static inline uint64_t reader_fixed(struct reader *reader, unsigned bytes)
{
    uint64_t value = 0;
    if (reader->bad || (uint64_t)(reader->end - reader->at) < bytes) {
        reader->bad = true;
        return 0;
    }
    memcpy(&value, reader->at, bytes);      /* both machines are little-endian */
    reader->at += bytes;
    return value;
}

/* The next `bytes` as a reader of their own. */
static inline struct reader reader_part(struct reader *reader, uint64_t bytes)
{
    if (reader->bad || (uint64_t)(reader->end - reader->at) < bytes) {
        reader->bad = true;
        return (struct reader){ reader->end, reader->end, true };
    }
    struct reader part = { reader->at, reader->at + bytes, false };
    reader->at += bytes;
    return part;
}

static inline uint64_t reader_leb(struct reader *reader, bool is_signed)
{
    uint64_t value = 0;
    unsigned shift = 0;
    uint8_t byte;

    do {
        byte = (uint8_t)reader_fixed(reader, 1);
        if (shift < 64)
            value |= (uint64_t)(byte & 0x7f) << shift;
        shift += 7;
    } while (byte & 0x80);
    if (is_signed && byte & 0x40 && shift < 64)
        value |= UINT64_MAX << shift;
    return value;
}

static inline uint64_t reader_uleb(struct reader *reader)
{
    return reader_leb(reader, false);
}

static inline int64_t reader_sleb(struct reader *reader)
{
    return (int64_t)reader_leb(reader, true);
}

/* A pointer in one of the encodings DW_EH_PE_*; data_base is what data-relative ones are relative to. */
static inline uint64_t reader_encoded(struct reader *reader, uint8_t encoding, uint64_t data_base)
{
    uint64_t place = (uint64_t)reader->at;
    uint64_t value;

    if (encoding == READER_OMITTED)
        return 0;
    switch (encoding & 0x0f) {
    case 0x00: case 0x04: case 0x0c: value = reader_fixed(reader, 8); break;
    case 0x01: value = reader_uleb(reader); break;
    case 0x02: value = reader_fixed(reader, 2); break;
    case 0x03: value = reader_fixed(reader, 4); break;
    case 0x09: value = (uint64_t)reader_sleb(reader); break;
    case 0x0a: value = (uint64_t)(int16_t)reader_fixed(reader, 2); break;
    case 0x0b: value = (uint64_t)(int32_t)reader_fixed(reader, 4); break;
    default: reader->bad = true; return 0;
    }
    switch (encoding & 0xf0) {
    case 0x00: return value;
    case 0x10: return value + place;
    case 0x30: return value + data_base;
    default: reader->bad = true; return 0;
    }
}

#endif
