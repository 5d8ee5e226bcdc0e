/* SPDX-License-Identifier: MIT */
#include "shim/unwind_cfi.h"

#include "shim/unwind_expression.h"
#include "shim/unwind_machine.h"
#include "shim/unwind_reader.h"
#include <stddef.h>
#include "freestanding/banned.h"

/*
 * Finds the FDE of an instruction by the search table of .eh_frame_hdr and runs its program up to there.  The data is
 * the host's: every access stays inside the entry and the object, whatever the data says, and what is not understood
 * makes the rule COMPLEX.
 */

enum column { COLUMN_FP, COLUMN_RA, COLUMN_SP, COLUMNS, COLUMN_NONE };

enum where { WHERE_SAME, WHERE_CFA, WHERE_EXPRESSION, WHERE_UNDEFINED, WHERE_OTHER };

struct place {
    enum where where;
    int64_t offset;             /* CFA */
    struct reader expression;   /* EXPRESSION: its bytes */
};

struct row {
    bool cfa_by_expression;
    uint64_t cfa_register;
    int64_t cfa_offset;
    struct reader cfa_expression;
    struct place places[COLUMNS];
};

#define REMEMBERED_ROWS 8

struct program {
    uint64_t pc;                /* where to stop */
    uint64_t code_align;
    int64_t data_align;
    uint8_t pointer_encoding;
    bool signal;
    struct row row, initial;
    struct row remembered[REMEMBERED_ROWS];
    unsigned remembered_rows;
    uint64_t location;
};

static enum column column_of(uint64_t dwarf_register)
{
    switch (dwarf_register) {
    case MACHINE_DWARF_FP: return COLUMN_FP;
    case MACHINE_DWARF_RA: return COLUMN_RA;
    case MACHINE_DWARF_SP: return COLUMN_SP;
    default: return COLUMN_NONE;
    }
}

static void set_place(struct program *program, uint64_t dwarf_register, enum where where, int64_t offset)
{
    enum column column = column_of(dwarf_register);
    if (column != COLUMN_NONE)
        program->row.places[column] = (struct place){ .where = where, .offset = offset };
}

static void set_expression(struct program *program, uint64_t dwarf_register, enum where where, struct reader expression)
{
    enum column column = column_of(dwarf_register);
    if (column != COLUMN_NONE)
        program->row.places[column] = (struct place){ .where = where, .expression = expression };
}

static void restore(struct program *program, uint64_t dwarf_register)
{
    enum column column = column_of(dwarf_register);
    if (column != COLUMN_NONE)
        program->row.places[column] = program->initial.places[column];
}

static void define_cfa(struct program *program, uint64_t dwarf_register, int64_t offset)
{
    program->row.cfa_by_expression = false;
    program->row.cfa_register = dwarf_register;
    program->row.cfa_offset = offset;
}

static struct reader take_block(struct reader *reader)
{
    uint64_t bytes = reader_uleb(reader);
    return reader_part(reader, bytes);
}

/* Operations without operands in the opcode itself.  False: unknown. */
static bool run_extended(struct program *program, struct reader *code, uint8_t opcode)
{
    uint64_t number;

    switch (opcode) {
    case 0x00:                                      /* nop */
        return true;
    case 0x05: number = reader_uleb(code);          /* offset_extended */
        set_place(program, number, WHERE_CFA, (int64_t)reader_uleb(code) * program->data_align);
        return true;
    case 0x11: number = reader_uleb(code);          /* offset_extended_sf */
        set_place(program, number, WHERE_CFA, reader_sleb(code) * program->data_align);
        return true;
    case 0x2f: number = reader_uleb(code);          /* GNU_negative_offset_extended */
        set_place(program, number, WHERE_CFA, -(int64_t)reader_uleb(code) * program->data_align);
        return true;
    case 0x06: restore(program, reader_uleb(code));                             /* restore_extended */
        return true;
    case 0x07: set_place(program, reader_uleb(code), WHERE_UNDEFINED, 0);       /* undefined */
        return true;
    case 0x08: set_place(program, reader_uleb(code), WHERE_SAME, 0);            /* same_value */
        return true;
    case 0x09:                                      /* register */
    case 0x14:                                      /* val_offset */
    case 0x15: number = reader_uleb(code);          /* val_offset_sf */
        reader_uleb(code);
        set_place(program, number, WHERE_OTHER, 0);
        return true;
    case 0x10: number = reader_uleb(code);          /* expression */
        set_expression(program, number, WHERE_EXPRESSION, take_block(code));
        return true;
    case 0x16: number = reader_uleb(code);          /* val_expression */
        set_expression(program, number, WHERE_OTHER, take_block(code));
        return true;
    case 0x0c: number = reader_uleb(code);          /* def_cfa */
        define_cfa(program, number, (int64_t)reader_uleb(code));
        return true;
    case 0x12: number = reader_uleb(code);          /* def_cfa_sf */
        define_cfa(program, number, reader_sleb(code) * program->data_align);
        return true;
    case 0x0d: define_cfa(program, reader_uleb(code), program->row.cfa_offset); /* def_cfa_register */
        return true;
    case 0x0e: program->row.cfa_offset = (int64_t)reader_uleb(code);            /* def_cfa_offset */
        return true;
    case 0x13: program->row.cfa_offset = reader_sleb(code) * program->data_align;   /* def_cfa_offset_sf */
        return true;
    case 0x0f:                                      /* def_cfa_expression */
        program->row.cfa_by_expression = true;
        program->row.cfa_expression = take_block(code);
        return true;
    case 0x0a:                                      /* remember_state */
        if (program->remembered_rows == REMEMBERED_ROWS)
            return false;
        program->remembered[program->remembered_rows++] = program->row;
        return true;
    case 0x0b:                                      /* restore_state */
        if (program->remembered_rows == 0)
            return false;
        program->row = program->remembered[--program->remembered_rows];
        return true;
    case 0x2d:                                      /* AARCH64_negate_ra_state: the address is stripped anyway */
        return MACHINE_DWARF_PC < 0;
    case 0x2e: reader_uleb(code);                   /* GNU_args_size */
        return true;
    default:
        return false;
    }
}

/* Runs until the location passes program->pc.  False: not understood. */
static bool run(struct program *program, struct reader *code)
{
    while (code->at < code->end && !code->bad) {
        uint8_t opcode = (uint8_t)reader_fixed(code, 1);
        uint64_t location = program->location;

        switch (opcode >> 6) {
        case 1: location += (opcode & 0x3f) * program->code_align;
            break;
        case 2: set_place(program, opcode & 0x3f, WHERE_CFA, (int64_t)reader_uleb(code) * program->data_align);
            break;
        case 3: restore(program, opcode & 0x3f);
            break;
        default:
            if (opcode == 0x01)
                location = reader_encoded(code, program->pointer_encoding, 0);
            else if (opcode >= 0x02 && opcode <= 0x04)
                location += reader_fixed(code, 1u << (opcode - 2)) * program->code_align;
            else if (!run_extended(program, code, opcode))
                return false;
        }
        if (location > program->pc)
            break;
        program->location = location;
    }
    return !code->bad;
}

/* An expression relative to the CFA becomes relative to what the CFA itself is based on, or stays. */
static bool rule_of_fp(const struct program *program, struct unwind_rule *rule)
{
    const struct place *place = &program->row.places[COLUMN_FP];
    struct expression_value value;

    switch (place->where) {
    case WHERE_SAME:
        rule->fp_base = UNWIND_BASE_KEPT;
        return true;
    case WHERE_CFA:
        rule->fp_base = UNWIND_BASE_CFA;
        rule->fp_offset = (int32_t)place->offset;
        return place->offset == rule->fp_offset;
    case WHERE_EXPRESSION:
        if (!expression_evaluate(place->expression, true, program->pc, &value)
            || (value.base != UNWIND_BASE_FP && value.base != UNWIND_BASE_CFA))
            return false;
        rule->fp_base = (uint8_t)value.base;
        rule->fp_offset = (int32_t)value.offset;
        return value.offset == rule->fp_offset;
    default:
        return false;
    }
}

static bool rule_of_cfa(const struct program *program, struct unwind_rule *rule)
{
    const struct row *row = &program->row;
    struct expression_value value = { .offset = row->cfa_offset };

    if (row->cfa_by_expression) {
        if (!expression_evaluate(row->cfa_expression, false, program->pc, &value))
            return false;
    } else if (row->cfa_register == MACHINE_DWARF_SP) {
        value.base = UNWIND_BASE_SP;
    } else if (row->cfa_register == MACHINE_DWARF_FP) {
        value.base = UNWIND_BASE_FP;
    } else {
        return false;
    }
    if (value.base > UNWIND_BASE_FP_WORD)
        return false;
    rule->cfa_base = (uint8_t)value.base;
    rule->cfa_offset = (int32_t)value.offset;
    rule->inner_offset = (int32_t)value.inner_offset;
    return value.offset == rule->cfa_offset && value.inner_offset == rule->inner_offset;
}

static bool rule_of_row(const struct program *program, struct unwind_rule *rule)
{
    const struct place *ra = &program->row.places[COLUMN_RA];

    if (program->row.places[COLUMN_SP].where != WHERE_SAME)
        return false;
    if (ra->where == WHERE_CFA) {
        rule->ra_base = UNWIND_BASE_CFA;
        rule->ra_offset = (int32_t)ra->offset;
        if (ra->offset != rule->ra_offset)
            return false;
    } else if (ra->where == WHERE_SAME && MACHINE_DWARF_PC < 0) {
        rule->ra_base = UNWIND_BASE_KEPT;
    } else {
        return false;
    }
    return rule_of_cfa(program, rule) && rule_of_fp(program, rule);
}

/* The CIE at `cie`.  False: not understood. */
static bool start_program(struct program *program, struct reader cie)
{
    uint8_t version = (uint8_t)reader_fixed(&cie, 1);
    struct reader augmentation = cie;

    while (reader_fixed(&cie, 1) != 0 && !cie.bad)
        ;
    augmentation.end = cie.at;
    program->code_align = reader_uleb(&cie);
    program->data_align = reader_sleb(&cie);
    uint64_t ra = version == 1 ? reader_fixed(&cie, 1) : reader_uleb(&cie);
    if ((version != 1 && version != 3) || ra != MACHINE_DWARF_RA || cie.bad)
        return false;
    uint8_t letter = (uint8_t)reader_fixed(&augmentation, 1);
    if (letter != 0 && letter != 'z')
        return false;
    if (letter == 'z') {
        uint64_t bytes = reader_uleb(&cie);
        struct reader data = reader_part(&cie, bytes);
        while ((letter = (uint8_t)reader_fixed(&augmentation, 1)) != 0) {
            if (letter == 'R') {
                program->pointer_encoding = (uint8_t)reader_fixed(&data, 1);
            } else if (letter == 'P') {
                uint8_t encoding = (uint8_t)reader_fixed(&data, 1);
                reader_encoded(&data, encoding & 0x7f, 0);
            } else if (letter == 'L') {
                reader_fixed(&data, 1);
            } else if (letter == 'S') {
                program->signal = true;
            } else if (letter != 'B' && letter != 'G') {
                return false;
            }
        }
        if (data.bad)
            return false;
    }
    program->location = 0;
    if (!run(program, &cie))
        return false;
    program->initial = program->row;
    return true;
}

/* A length-prefixed entry of .eh_frame: its bytes after the length. */
static struct reader entry_at(const struct unwind_object *object, const uint8_t *at)
{
    bool outside = (uint64_t)at < object->start || (uint64_t)at >= object->end;
    struct reader all = { at, (const uint8_t *)object->end, outside };
    uint64_t bytes = reader_fixed(&all, 4);
    if (bytes == 0xffffffff)
        bytes = reader_fixed(&all, 8);
    return reader_part(&all, bytes);
}

/* Runs the FDE at `at` for pc.  UNKNOWN: it does not cover pc. */
static void rule_of_fde(const struct unwind_object *object, const uint8_t *at, uint64_t pc, struct unwind_rule *rule)
{
    struct reader fde = entry_at(object, at);
    const uint8_t *cie_field = fde.at;
    uint64_t cie_distance = reader_fixed(&fde, 4);
    struct reader cie = entry_at(object, cie_field - cie_distance);
    struct program program = { .pc = UINT64_MAX };

    rule->kind = UNWIND_RULE_COMPLEX;
    if (fde.bad || cie_distance == 0 || cie.bad || reader_fixed(&cie, 4) != 0 || !start_program(&program, cie))
        return;
    uint64_t start = reader_encoded(&fde, program.pointer_encoding, 0);
    uint64_t bytes = reader_encoded(&fde, program.pointer_encoding & 0x0f, 0);
    if (fde.bad)
        return;
    if (pc - start >= bytes) {
        rule->kind = UNWIND_RULE_UNKNOWN;
        return;
    }
    if (program.signal) {
        rule->kind = UNWIND_RULE_SIGNAL;
        return;
    }
    uint64_t augmentation_bytes = reader_uleb(&fde);
    reader_part(&fde, augmentation_bytes);
    program.pc = pc;
    program.location = start;
    if (!run(&program, &fde))
        return;
    if (program.row.places[COLUMN_RA].where == WHERE_UNDEFINED)
        rule->kind = UNWIND_RULE_END;
    else if (rule_of_row(&program, rule))
        rule->kind = UNWIND_RULE_STEP;
}

/* A row of the search table; both relative to the start of .eh_frame_hdr. */
struct search_row {
    int32_t start;
    int32_t fde;
};

static const uint8_t *search(const uint8_t *header, const struct search_row *rows, uint64_t count, uint64_t pc)
{
    int64_t target = (int64_t)(pc - (uint64_t)header);
    uint64_t low = 0, high = count;

    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        if (rows[middle].start <= target)
            low = middle + 1;
        else
            high = middle;
    }
    return low > 0 ? header + rows[low - 1].fde : NULL;
}

/* No search table: entry by entry.  NULL: none covers pc. */
static void search_linearly(const struct unwind_object *object, const uint8_t *at, uint64_t pc,
                            struct unwind_rule *rule)
{
    for (;;) {
        struct reader entry = entry_at(object, at);
        if (entry.bad || entry.at == entry.end)
            break;
        struct reader look = entry;
        if (reader_fixed(&look, 4) != 0) {
            rule_of_fde(object, at, pc, rule);
            if (rule->kind != UNWIND_RULE_UNKNOWN)
                return;
        }
        at = entry.end;
    }
    rule->kind = UNWIND_RULE_UNKNOWN;
}

void unwind_cfi_rule(const struct unwind_object *object, uint64_t pc, struct unwind_rule *rule)
{
    const uint8_t *header = object->frame_header;

    *rule = (struct unwind_rule){ .kind = UNWIND_RULE_UNKNOWN };
    if (!header || (uint64_t)header < object->start || (uint64_t)header >= object->end)
        return;
    struct reader reader = { header, (const uint8_t *)object->end, false };
    uint64_t version = reader_fixed(&reader, 1);
    uint8_t frames_encoding = (uint8_t)reader_fixed(&reader, 1);
    uint8_t count_encoding = (uint8_t)reader_fixed(&reader, 1);
    uint8_t table_encoding = (uint8_t)reader_fixed(&reader, 1);
    uint64_t frames = reader_encoded(&reader, frames_encoding, (uint64_t)header);
    if (reader.bad || version != 1)
        return;
    if (table_encoding == 0x3b && count_encoding != READER_OMITTED) {
        uint64_t count = reader_encoded(&reader, count_encoding, (uint64_t)header);
        if (reader.bad || count > (uint64_t)(reader.end - reader.at) / sizeof(struct search_row))
            return;
        const uint8_t *fde = search(header, (const struct search_row *)(const void *)reader.at, count, pc);
        if (fde)
            rule_of_fde(object, fde, pc, rule);
    } else if (frames_encoding != READER_OMITTED) {
        search_linearly(object, (const uint8_t *)frames, pc, rule);
    }
}
