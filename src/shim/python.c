/* SPDX-License-Identifier: MIT */
#include "shim/python.h"

#include "freestanding/sys.h"
#include "freestanding/text.h"
#include "shim/python_layout.h"
#include "shim/python_code.h"
#include "contract/format.h"
#include "contract/publish.h"
#include "shim/recording.h"
#include "shim/stack.h"

#include <dlfcn.h>
#include <elf.h>
#include <link.h>
#include <pthread.h>
#include <sys/uio.h>

bool python_active;

static const struct python_layout *layout;
static struct {
    void *(*own_state)(void);           /* PyGILState_GetThisThreadState: of this thread, holder or not */
    void *(*holder_state)(void);        /* up to 3.11 of whoever holds the GIL; later of this thread, when attached */
    int (*is_finalizing)(void);
    const char *runtime;
    const char *code_type;
    const char *type_type;
} interpreter;
static uint64_t loop_start, loop_bytes;
static uint32_t checked_walks;          /* the first ones cannot fault and look at everything */
#define CHECKED_WALKS 8
static bool looked_without_success;

/* ---- finding the interpreter -------------------------------------------------------------------- */

/* Once stacks are told apart by their Python frames that stays so; they merely have none any more. */
static bool given_up;

static void give_up(const char *why)
{
    given_up = true;
    recording_event(HMK_EVENT_DEGRADED, 0, 0, 0, 0, why);
}

static void *symbol(const char *name)
{
    return dlsym(RTLD_DEFAULT, name);
}

/* Py_Version since 3.11; before, Py_GetVersion gives a static text, "3.9.2 (default, ...". */
static bool read_version(unsigned *minor, bool *final)
{
    const unsigned long *hex = symbol("Py_Version");
    if (hex != NULL) {
        *minor = *hex >> 16 & 0xff;
        *final = *hex >> 24 == 3 && (*hex >> 4 & 0xf) >= 0xc;
        return true;
    }
    const char *(*text)(void);
    void *found = symbol("Py_GetVersion");
    __builtin_memcpy(&text, &found, sizeof text);
    if (found == NULL)
        return false;
    const char *version = text();
    uint64_t number;
    if (!text_starts(version, "3.") || !text_parse_size(version + 2, &version, &number) || *version != '.')
        return false;
    *minor = (unsigned)number;
    *final = true;
    return true;
}

static bool find_symbols(void)
{
    static const char *const own[] = {"PyGILState_GetThisThreadState", NULL};
    static const char *const holder[] = {"PyThreadState_GetUnchecked", "_PyThreadState_UncheckedGet", NULL};
    static const char *const finalizing[] = {"Py_IsFinalizing", "_Py_IsFinalizing", NULL};
    void *found[3] = {NULL, NULL, NULL};
    for (unsigned i = 0; own[i] != NULL && found[0] == NULL; i++)
        found[0] = symbol(own[i]);
    for (unsigned i = 0; holder[i] != NULL && found[1] == NULL; i++)
        found[1] = symbol(holder[i]);
    for (unsigned i = 0; finalizing[i] != NULL && found[2] == NULL; i++)
        found[2] = symbol(finalizing[i]);
    __builtin_memcpy(&interpreter.own_state, &found[0], sizeof(void *));
    __builtin_memcpy(&interpreter.holder_state, &found[1], sizeof(void *));
    __builtin_memcpy(&interpreter.is_finalizing, &found[2], sizeof(void *));
    interpreter.runtime = symbol("_PyRuntime");
    interpreter.code_type = symbol("PyCode_Type");
    interpreter.type_type = symbol("PyType_Type");
    void *loop = symbol("_PyEval_EvalFrameDefault");
    Dl_info info;
    ElfW(Sym) *entry = NULL;
    if (loop != NULL && dladdr1(loop, &info, (void **)&entry, RTLD_DL_SYMENT) != 0 && entry != NULL) {
        loop_start = (uint64_t)loop;
        loop_bytes = entry->st_size;
    }
    return found[0] != NULL && found[1] != NULL && interpreter.code_type != NULL;
}

__attribute__((cold)) void python_look(void)
{
    unsigned minor;
    bool final;
    if (python_active || looked_without_success || symbol("PyCode_Type") == NULL)
        return;
    looked_without_success = true;
    if (!read_version(&minor, &final) || !find_symbols())
        return;
    layout = final ? python_layout_of(minor) : NULL;
    if (layout == NULL) {
        give_up("no Python frames: this version of CPython is not known");
        return;
    }
    /* A build without a GIL has larger object headers; its type would not agree either. */
    if (!python_layout_agrees(layout, interpreter.code_type)) {
        give_up("no Python frames: the interpreter's structures are not those of its version");
        return;
    }
    if ((minor == 8 || minor == 9) && loop_bytes == 0) {
        give_up("no Python frames: the interpreter's loop was not found");
        return;
    }
    python_code_init(layout, (void *)(uintptr_t)interpreter.code_type);
    python_active = true;
    stack_begin_python();
}

unsigned python_minor(void)
{
    return python_active ? layout->minor : 0;
}

uintptr_t python_type_type(void)
{
    return python_active ? (uintptr_t)interpreter.type_type : 0;
}

bool python_is_loop(uint64_t pc)
{
    return pc - loop_start < loop_bytes;
}

uint64_t python_loop_address(void)
{
    return loop_start != 0 ? loop_start + 1 : 0;
}

/* ---- the thread's state ------------------------------------------------------------------------- */

static inline uint64_t load(uint64_t address)
{
    return *(const uint64_t *)address;
}

/* Up to 3.11 the own state is that of the main interpreter; with more interpreters it may be the wrong one. */
static bool has_one_interpreter(uint64_t state)
{
    if (interpreter.runtime == NULL)
        return false;
    return load((uint64_t)interpreter.runtime + layout->runtime_interpreters) == load(state + layout->ts_interpreter);
}

static inline uint64_t thread_state(void)
{
    uint64_t own, holder = (uint64_t)interpreter.holder_state();
    if (layout->minor >= 12) {
        if (holder != 0)
            return holder;
        own = (uint64_t)interpreter.own_state();
    } else {
        own = (uint64_t)interpreter.own_state();
        if (holder != 0 && holder == own)
            return own;
        if (holder != 0 && load(holder + layout->ts_thread) == (uint64_t)pthread_self())
            return holder;      /* attached to a subinterpreter */
        if (own != 0 && !has_one_interpreter(own))
            return 0;
    }
    /* Detached: while the interpreter ends, such states may be freed under us. */
    if (own == 0 || (interpreter.is_finalizing != NULL && interpreter.is_finalizing()))
        return 0;
    return own;
}

/* ---- frames ------------------------------------------------------------------------------------- */

struct cursor {
    uint64_t frame;
    uint64_t cframe;            /* 3.10, 3.11: of the current activation */
};

static inline struct cursor leaf_of(uint64_t state)
{
    struct cursor cursor = {0, 0};
    if (layout->ts_cframe != 0)
        cursor.cframe = load(state + layout->ts_cframe);
    if (layout->ts_frame != 0)
        cursor.frame = load(state + layout->ts_frame);
    else if (cursor.cframe != 0)
        cursor.frame = load(cursor.cframe + layout->cframe_current);
    return cursor;
}

static inline uint64_t code_of(uint64_t frame)
{
    return load(frame + layout->f_code) & ~(uint64_t)7;     /* tagged since 3.14, aligned always */
}

/* A frame of the C stack that stands between the interpreter's activations (3.12 and newer). */
static inline bool is_shim(uint64_t frame)
{
    return layout->minor >= 12 && *(const uint8_t *)(frame + layout->f_owner) >= 3;
}

static inline uint64_t instruction_of(uint64_t frame)
{
    return layout->co_code != 0 ? load(frame + layout->f_instruction)
                                : (uint64_t)*(const int32_t *)(frame + layout->f_instruction);
}

static inline uint64_t mix(uint64_t word, uint64_t with)
{
    unsigned __int128 product = (unsigned __int128)(word ^ UINT64_C(0x5851f42d4c957f2d)) * (with | 1);
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

/* ---- the first walks ---------------------------------------------------------------------------- */

static bool peek(uint64_t address, void *to, size_t bytes)
{
    const struct iovec piece = {(void *)address, bytes};
    return sys_gather(to, bytes, &piece, 1) == (long)bytes;
}

static bool code_is_sound(uint64_t code)
{
    const struct iovec piece[] = {{(void *)(code + PYTHON_OB_TYPE), 8}, {(void *)(code + layout->co_name), 8}};
    uint64_t word[2], name_type_fields[2];      /* type, name */
    return code != 0 && sys_gather(word, sizeof word, piece, 2) == sizeof word && word[0] == (uint64_t)interpreter.code_type &&
           word[1] != 0 && peek(word[1] + PYTHON_STR_LENGTH, name_type_fields, 8) && name_type_fields[0] < (1u << 20);
}

struct peeked_frame {
    uint64_t code, instruction, previous;
    uint8_t owner;
};

/* In one call: there may be a hundred frames. */
static bool peek_frame(uint64_t frame, struct peeked_frame *to)
{
    const struct iovec piece[] = {{(void *)(frame + layout->f_code), 8}, {(void *)(frame + layout->f_instruction), 8},
                                  {(void *)(frame + layout->f_previous), 8}, {(void *)(frame + layout->f_owner), 1}};
    size_t bytes = layout->f_owner != 0 ? 25 : 24;
    to->owner = 0;
    return sys_gather(to, bytes, piece, layout->f_owner != 0 ? 4 : 3) == (long)bytes && to->owner <= 5;
}

/* Everything that a plain walk relies on, read through the kernel. */
static bool walk_is_sound(uint64_t state)
{
    uint64_t thread, frame = 0, cframe = 0;
    if (!peek(state + layout->ts_thread, &thread, 8) || thread != (uint64_t)pthread_self())
        return false;
    if (layout->ts_cframe != 0 && (!peek(state + layout->ts_cframe, &cframe, 8) || (cframe & 7) != 0))
        return false;
    if (layout->ts_frame != 0 ? !peek(state + layout->ts_frame, &frame, 8)
                              : cframe == 0 || !peek(cframe + layout->cframe_current, &frame, 8))
        return false;
    for (uint32_t count = 0; frame != 0; count++) {
        struct peeked_frame at;
        if ((frame & 7) != 0 || count > 100000 || !peek_frame(frame, &at))
            return false;
        if (!(layout->minor >= 12 && at.owner >= 3)) {
            uint64_t code = at.code & ~(uint64_t)7;
            if (!code_is_sound(code) || (layout->co_code != 0 && at.instruction - code > (16u << 20)))
                return false;
        }
        frame = at.previous;
    }
    return true;
}

/* errno is kept: process_vm_readv goes past libc. */
__attribute__((cold, noinline)) static bool check(uint64_t state)
{
    if (!walk_is_sound(state)) {
        give_up("no Python frames: a first walk met what it did not expect");
        return false;
    }
    if (leaf_of(state).frame != 0)      /* an empty stack proves nothing */
        __atomic_add_fetch(&checked_walks, 1, __ATOMIC_RELAXED);
    return true;
}

/* ---- the chain of frames, with what the last walk knew ------------------------------------------- */

/* enum hmk_frame_kind; 0: one that is not Python's. */
static inline uint32_t kind_of(uint64_t frame)
{
    if (layout->minor >= 12)
        return is_shim(frame) ? 0 : HMK_FRAME_PYTHON;
    return layout->f_entry == 0 || *(const uint8_t *)(frame + layout->f_entry) ? HMK_FRAME_ENTRY : HMK_FRAME_PYTHON;
}

/* Do the links from number `i` to the root still stand?  If not, *changed is the outermost that does not.  Compiled for what differs
 * between versions: this is what most events do most.  Since 3.12 an ENTRY is one by the shim before it, which is looked at next. */
static inline __attribute__((always_inline)) bool holds_as(const struct python_chain *chain, uint32_t i, uint32_t *changed,
                                                           bool shims, bool entries, bool short_instruction)
{
    const uint32_t in_previous = layout->f_previous, in_code = layout->f_code, in_instruction = layout->f_instruction;
    const uint32_t in_entry = layout->f_entry;
    const struct python_link *link = &chain->link[i];
    for (uint64_t frame = link->frame;; link--) {
        uint64_t instruction = short_instruction ? (uint64_t)*(const int32_t *)(frame + in_instruction)
                                                 : load(frame + in_instruction);
        uint64_t code = load(frame + in_code) & ~(uint64_t)7, previous = load(frame + in_previous);
        bool same = code == link->code && instruction == link->instruction;
        if (shims)
            same = is_shim(frame) ? link->kind == 0 : same && link->kind != 0;
        if (entries)
            same = same && (*(const uint8_t *)(frame + in_entry) != 0) == (link->kind == HMK_FRAME_ENTRY);
        if (!same || previous != link->previous) {
            *changed = (uint32_t)(link - chain->link);
            return false;
        }
        if (previous == 0)
            return true;
        frame = previous;
    }
}

static bool holds(const struct python_chain *chain, uint32_t i, uint32_t *changed)
{
    if (layout->minor >= 12)
        return holds_as(chain, i, changed, true, false, false);
    if (layout->f_entry != 0)
        return holds_as(chain, i, changed, false, true, false);
    return layout->co_code != 0 ? holds_as(chain, i, changed, false, false, false)
                                : holds_as(chain, i, changed, false, false, true);
}

#define SLOT(frame) ((frame) >> 4 & (PYTHON_CHAIN_SLOTS - 1))

static void add_link(struct python_chain *chain, uint64_t frame)
{
    uint32_t i = chain->count;
    struct python_link *link = &chain->link[i];
    const struct python_link *outer = i > 0 ? link - 1 : NULL;
    *link = (struct python_link){.frame = frame, .previous = load(frame + layout->f_previous), .kind = kind_of(frame), .groups = outer != NULL ? outer->groups : 0};
    uint64_t hash = outer != NULL ? outer->hash : UINT64_C(0x6a09e667f3bcc908);
    if (link->kind != 0) {
        link->code = code_of(frame);
        link->instruction = instruction_of(frame);
        if (layout->minor >= 12 && (outer == NULL || outer->kind == 0))
            link->kind = HMK_FRAME_ENTRY;
        link->groups += link->kind == HMK_FRAME_ENTRY;
        link->hash = mix(hash ^ (link->code + python_code_salt(link->code)), link->instruction << 8 | link->kind);
    } else {
        link->hash = mix(hash, 1);
    }
    chain->slot[SLOT(frame)] = (uint16_t)i;
    chain->count = i + 1;
}

/* Reads the frames from the leaf up to the first from which all stands as it did.  False: there are more than fit. */
static bool renew(struct python_chain *chain, uint64_t leaf)
{
    uint32_t deaths = HMK_GET(python_code_deaths), fresh = 0, changed = chain->count;
    if (chain->deaths != deaths) {      /* an object's address may have become another's */
        chain->deaths = deaths;
        changed = 0;
    }
    uint64_t frame = leaf;
    for (; frame != 0; frame = load(frame + layout->f_previous)) {
        uint32_t i = chain->slot[SLOT(frame)];
        if (i < changed && chain->link[i].frame == frame && holds(chain, i, &changed)) {
            changed = i + 1;
            break;
        }
        if (fresh == PYTHON_FRAMES)
            return false;
        chain->fresh[fresh++] = frame;
    }
    chain->count = frame != 0 ? changed : 0;
    if (chain->count + fresh > PYTHON_FRAMES) {
        chain->count = 0;
        return false;
    }
    while (fresh > 0)
        add_link(chain, chain->fresh[--fresh]);
    return true;
}

/* Of more frames than a chain holds: those nearest to the leaf. */
__attribute__((cold, noinline)) static uint64_t hash_deep(uint64_t frame)
{
    uint64_t hash = UINT64_C(0xbb67ae8584caa73b);
    for (uint32_t count = 0; frame != 0 && count < PYTHON_FRAMES; frame = load(frame + layout->f_previous)) {
        uint32_t kind = kind_of(frame);
        if (kind == 0) {
            hash = mix(hash, 1);
            continue;
        }
        uint64_t code = code_of(frame);
        hash = mix(hash ^ (code + python_code_salt(code)), instruction_of(frame) << 8 | kind);
        count++;
    }
    return hash | 1;
}

uint64_t python_hash(struct python_chain *chain)
{
    uint64_t state = given_up ? 0 : thread_state();
    if (state == 0 || (__builtin_expect(checked_walks < CHECKED_WALKS, 0) && !check(state)))
        return 0;
    struct cursor cursor = leaf_of(state);
    if (cursor.frame == 0)
        return 0;
    if (!renew(chain, cursor.frame)) {
        chain->count = 0;
        return hash_deep(cursor.frame);
    }
    return chain->link[chain->count - 1].hash | 1;
}

uint32_t python_chain_groups(const struct python_chain *chain)
{
    const struct python_link *root = &chain->link[0];
    bool whole = layout->minor >= 12 ? root->kind == 0 : root->kind == HMK_FRAME_ENTRY;
    return whole ? chain->link[chain->count - 1].groups : UINT32_MAX;
}

uint32_t python_instruction(const struct python_link *link)
{
    return (uint32_t)(layout->co_code != 0 ? link->instruction - (link->code + layout->co_code) : link->instruction);
}

/* ---- the whole walk, for a new stack ------------------------------------------------------------ */

static void end_group(struct python_stack *stack, uint64_t anchor)
{
    if (stack->group_count < PYTHON_FRAMES)
        stack->anchor[stack->group_count++] = anchor;
}

void python_walk(struct python_stack *stack)
{
    stack->count = stack->group_count = 0;
    stack->cut = false;
    stack->anchored = layout->minor >= 10;
    uint64_t state = given_up ? 0 : thread_state();
    if (state == 0)
        return;
    struct cursor cursor = leaf_of(state);
    bool fresh = false;     /* the newest group ended; another shim in a row (3.15's sentinel) ends nothing */
    for (; cursor.frame != 0 && stack->count < PYTHON_FRAMES; cursor.frame = load(cursor.frame + layout->f_previous)) {
        if (is_shim(cursor.frame)) {
            if (fresh)
                end_group(stack, cursor.frame);
            fresh = false;
            continue;
        }
        struct python_frame *frame = &stack->frame[stack->count++];
        frame->code = code_of(cursor.frame);
        uint64_t instruction = instruction_of(cursor.frame);
        frame->instruction = (uint32_t)(layout->co_code != 0 ? instruction - (frame->code + layout->co_code) : instruction);
        frame->group = stack->group_count;
        fresh = true;
        if (layout->minor <= 9) {
            end_group(stack, 0);
        } else if (layout->minor <= 11 && (layout->f_entry == 0 || *(const uint8_t *)(cursor.frame + layout->f_entry))) {
            end_group(stack, cursor.cframe);
            cursor.cframe = cursor.cframe != 0 ? load(cursor.cframe + layout->cframe_previous) : 0;
        }
    }
    stack->cut = cursor.frame != 0;
}

bool python_is_anchored(void)
{
    return layout->minor >= 10;
}

uint32_t python_anchors(uint64_t *anchor)
{
    uint64_t state = given_up ? 0 : thread_state();
    if (state == 0)
        return 0;
    struct cursor cursor = leaf_of(state);
    uint32_t count = 0, frames = 0;
    bool fresh = false;
    for (; cursor.frame != 0 && frames < PYTHON_FRAMES; cursor.frame = load(cursor.frame + layout->f_previous)) {
        if (is_shim(cursor.frame)) {
            if (fresh && count < PYTHON_FRAMES)
                anchor[count++] = cursor.frame;
            fresh = false;
            continue;
        }
        frames++;
        fresh = true;
        if (layout->minor <= 11 && (layout->f_entry == 0 || *(const uint8_t *)(cursor.frame + layout->f_entry))) {
            anchor[count++] = cursor.cframe;
            cursor.cframe = cursor.cframe != 0 ? load(cursor.cframe + layout->cframe_previous) : 0;
            fresh = false;
        }
    }
    return fresh || cursor.frame != 0 ? UINT32_MAX : count;
}

void python_abandon(void)
{
    python_code_abandon();
}

void python_after_fork(void)
{
    python_code_after_fork();
}
