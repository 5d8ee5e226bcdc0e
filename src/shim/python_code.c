/* SPDX-License-Identifier: MIT */
#include "shim/python_code.h"

#include "freestanding/sys.h"
#include "freestanding/text.h"
#include "shim/python_layout.h"
#include "shim/recording.h"
#include "shim/spin.h"
#include "freestanding/banned.h"

uint32_t python_code_salts[PYTHON_SALTS];
uint32_t python_code_deaths;

static const struct python_layout *layout;
static void (*original_dealloc)(void *code);

/* Open addressing by address; 0: free, 1: the object is gone.  Under the lock, but for the destructor's first look. */
struct known {
    uint64_t code;
    uint32_t record;
};
static struct known *table;
static uint64_t mask, used;
static struct spin lock;
#define GONE 1u

static uint64_t place(uint64_t code)
{
    return code * UINT64_C(0x9e3779b97f4a7c15) >> 20;
}

static struct known *look_up(uint64_t code)
{
    if (table == NULL)
        return NULL;
    for (uint64_t at = place(code) & mask; table[at].code != 0; at = (at + 1) & mask)
        if (table[at].code == code)
            return &table[at];
    return NULL;
}

static void forget(uint64_t code)
{
    if (!spin_lock_patiently(&lock))
        return;
    struct known *known = look_up(code);
    if (known != NULL) {
        known->code = GONE;
        __atomic_add_fetch(&python_code_deaths, 1, __ATOMIC_RELAXED);
        __atomic_add_fetch(&python_code_salts[code >> 4 & (PYTHON_SALTS - 1)], 1, __ATOMIC_RELAXED);
    }
    spin_unlock(&lock);
}

/* Most code objects die without ever having been on a recorded stack.  A bit for each hash that was: never cleared, so a look
 * needs no lock. */
#define RECORDED_BITS 65536u
static uint64_t recorded[RECORDED_BITS / 64];

static uint64_t *recorded_word(uint64_t code, uint64_t *bit)
{
    uint64_t at = place(code) % RECORDED_BITS;
    *bit = UINT64_C(1) << (at % 64);
    return &recorded[at / 64];
}

/* Runs in place of the type's destructor, with the GIL. */
static void on_dealloc(void *code)
{
    uint64_t bit, *word = recorded_word((uint64_t)code, &bit);
    if (__atomic_load_n(word, __ATOMIC_ACQUIRE) & bit)
        forget((uint64_t)code);
    original_dealloc(code);
}

void python_code_init(const struct python_layout *of, void *code_type)
{
    layout = of;
    void **slot = (void **)((char *)code_type + PYTHON_TYPE_DEALLOC);
    void (*ours)(void *) = on_dealloc;
    __builtin_memcpy(&original_dealloc, slot, sizeof original_dealloc);
    __builtin_memcpy(slot, &ours, sizeof ours);
}

/* Under a hard shield, and in an order that a fork may meet anywhere: nobody is left with the address of what was unmapped. */
static bool grow(void)
{
    uint64_t size = table == NULL ? 1024 : (mask + 1) * 2;
    struct known *fresh = sys_map_anonymous(size * sizeof *fresh), *old = table;
    uint64_t old_mask = mask;
    if (fresh == NULL)
        return false;
    uint64_t kept = 0;
    for (uint64_t i = 0; table != NULL && i <= mask; i++) {
        if (table[i].code <= GONE)
            continue;
        uint64_t at = place(table[i].code) & (size - 1);
        while (fresh[at].code != 0)
            at = (at + 1) & (size - 1);
        fresh[at] = table[i];
        kept++;
    }
    __atomic_store_n(&table, fresh, __ATOMIC_RELEASE);
    __atomic_store_n(&mask, size - 1, __ATOMIC_RELEASE);
    used = kept;
    if (old != NULL)
        sys_unmap(old, (old_mask + 1) * sizeof *old);
    return true;
}

static bool make_room(void)
{
    if ((used + 1) * 2 <= mask)
        return true;
    shield_raise_hard();
    bool room = grow();
    shield_lower();
    return room;
}

/* ---- copying what the reader needs -------------------------------------------------------------- */

static void put_utf8(struct text *text, uint32_t c)
{
    if (c < 0x80) {
        text_char(text, (char)(c == 0 ? '?' : c));
    } else if (c < 0x800) {
        text_char(text, (char)(0xc0 | c >> 6));
        text_char(text, (char)(0x80 | (c & 0x3f)));
    } else if (c < 0x10000) {
        text_char(text, (char)(0xe0 | c >> 12));
        text_char(text, (char)(0x80 | (c >> 6 & 0x3f)));
        text_char(text, (char)(0x80 | (c & 0x3f)));
    } else {
        text_char(text, (char)(0xf0 | c >> 18));
        text_char(text, (char)(0x80 | (c >> 12 & 0x3f)));
        text_char(text, (char)(0x80 | (c >> 6 & 0x3f)));
        text_char(text, (char)(0x80 | (c & 0x3f)));
    }
}

/* A str in its compact form: 1, 2 or 4 bytes a character. */
static uint32_t copy_string(uint64_t object, char *buffer, size_t bytes)
{
    struct text text = text_over(buffer, bytes);
    if (object == 0)
        return 0;
    uint32_t state = *(const uint32_t *)(object + layout->str_state);
    uint32_t kind = state >> 2 & 7;
    uint64_t length = *(const uint64_t *)(object + PYTHON_STR_LENGTH);
    if (!(state & 0x20) || (kind != 1 && kind != 2 && kind != 4))
        return recording_string("?", 1);
    const char *data = (const char *)object + (state & 0x40 ? layout->str_ascii : layout->str_compact);
    for (uint64_t i = 0; i < length && text.used + 5 < bytes; i++)
        put_utf8(&text, kind == 1   ? ((const uint8_t *)data)[i]
                        : kind == 2 ? ((const uint16_t *)data)[i]
                                    : ((const uint32_t *)data)[i]);
    return recording_string(buffer, text.used);
}

static uint64_t write_record(uint64_t code)
{
    char buffer[1024];
    const char *object = (const char *)code;
    uint16_t name = layout->co_qualname != 0 ? layout->co_qualname : layout->co_name;
    struct hmk_code record = {
        .first_line = *(const uint32_t *)(object + layout->co_first_line),
        .version = 3u << 8 | layout->minor,
        .file = copy_string(*(const uint64_t *)(object + layout->co_file), buffer, sizeof buffer),
        .name = copy_string(*(const uint64_t *)(object + name), buffer, sizeof buffer),
    };
    uint64_t lines = *(const uint64_t *)(object + layout->co_lines);
    if (lines != 0) {
        uint64_t bytes = *(const uint64_t *)(lines + PYTHON_BYTES_SIZE);
        record.line_bytes = bytes < RECORDING_STRING_LONGEST ? (uint32_t)bytes : RECORDING_STRING_LONGEST;
        record.lines = recording_string((const char *)lines + PYTHON_BYTES_DATA, record.line_bytes);
        if (record.lines == 0)
            record.line_bytes = 0;
    }
    return recording_append(HMK_CODES, &record);
}

uint32_t python_code_find(uint64_t code)
{
    if (!spin_lock_patiently(&lock))
        return UINT32_MAX;
    struct known *known = look_up(code);
    uint64_t record = known != NULL ? known->record : RECORDING_NONE;
    if (known == NULL && make_room()) {
        record = write_record(code);
        if (record < UINT32_MAX) {
            uint64_t at = place(code) & mask;
            while (table[at].code != 0)
                at = (at + 1) & mask;
            table[at] = (struct known){code, (uint32_t)record};
            used++;
            uint64_t bit, *word = recorded_word(code, &bit);
            __atomic_fetch_or(word, bit, __ATOMIC_RELEASE);
        }
    }
    spin_unlock(&lock);
    return record < UINT32_MAX ? (uint32_t)record : UINT32_MAX;
}

void python_code_abandon(void)
{
    spin_abandon(&lock);
}

void python_code_after_fork(void)
{
    spin_reset(&lock);
}
