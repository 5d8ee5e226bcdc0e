/* SPDX-License-Identifier: MIT */
#include "shim/unwind_reuse.h"

#include "freestanding/arena.h"
#include "shim/unwind_libunwind.h"
#include "shim/unwind_list.h"
#include "shim/unwind_careful.h"
#include "shim/unwind_rules.h"
#include "shim/unwind_stack.h"
#include <string.h>
#include "freestanding/banned.h"

/*
 * Stacks by table, with reuse of what the thread's previous walk found.
 *
 * A walk is a pure function of the registers it starts with and of the words it reads: return addresses, saved
 * frame pointers that some outer frame needs ("live" ones), and the CFA words of realigned frames.  The thread
 * remembers the frames of its last walk, its spine, together with those words in the order of reading.  When a new
 * walk arrives at a remembered frame (same pc, sp and, if live, fp) and every remembered word from there outwards
 * still holds its value, the rest of the stack is what it was.  That holds whatever the program did in between:
 * exceptions, longjmp, coroutines.  The same proof serves segments: the few words between a stack's leaf and the
 * spine, kept by leaf, with what the caller stored for that stack.
 *
 *  I1  The frames of the spine are linked by words: frame m is what the step from frame m + 1 gives when those
 *      words hold.
 *  I2  No remembered word is read before all those nearer to the leaf were found unchanged.  So nothing is read
 *      that the real walk would not read, and nothing can fault: not on a foreign stack, nor on one that was
 *      unmapped.
 *  I3  Rules do not change within a generation of loaded code; a new one empties the spine and the segments.
 *  I4  No lock, no libc call, no memory but what the thread got at its start.
 *  I5  A stack with a guessed or a signal frame never enters the spine: unwind_careful.c walks it whole.
 *
 * Budget: 8 ns when the whole stack is as before or its segment is known, 4 to 5 ns for each new frame.
 */

#define SPINE_FRAMES 1024u
#define SPINE_WORDS (3 * SPINE_FRAMES)
#define SPINE_SLACK (SPINE_FRAMES - UNWIND_DEPTH_LIMIT)     /* of it half is kept free when frames are dropped */
#define SEGMENT_BITS 7u         /* log2 of the number of sets */
#define SEGMENT_WAYS 4u
#define SEGMENT_WORDS 7u
#define NO_JOIN UINT32_MAX

struct word {
    const uint64_t *address;
    uint64_t value;
};

struct frame {
    uint64_t sp;
    uint64_t fp;                /* if live */
    uint64_t hash;              /* of the pcs from the root to here */
    uint16_t words;             /* words[0 .. words - 1] lead from here to the root */
    bool live;                  /* fp matters to a frame further out */
    uint32_t memo;              /* of the stack that ends here */
};
_Static_assert(SPINE_WORDS <= UINT16_MAX, "in 16 bits");

struct segment {                /* two cache lines; pc == 0: unused */
    uint64_t pc, sp, fp;        /* of the leaf */
    uint64_t base_hash, base_fp;
    uint32_t base_distance;     /* (sp of the base - sp of the leaf) / 8 */
    uint32_t memo;
    uint16_t base;              /* where the segment joins the spine */
    uint8_t count;
    bool live;
    uint16_t distance[SEGMENT_WORDS];   /* (address of the word - sp of the leaf) / 8, in the order of reading */
    uint64_t value[SEGMENT_WORDS];
};
_Static_assert(sizeof(struct segment) == 128, "two cache lines");

struct new_frame {
    uint64_t pc, sp;
    const uint64_t *fp_slot;    /* where its fp is found */
    const uint64_t *ra_slot;    /* where its pc was found; of the leaf: unused */
    uint32_t code;              /* how to step on from it */
};

enum origin { ORIGIN_NONE, ORIGIN_SPINE, ORIGIN_LIST };

struct unwind_reuse {
    uint64_t generation;
    uint32_t count;             /* frames of the spine */
    bool rooted;                /* frame 0 is the outermost of the stack */
    uint32_t join;              /* where the last walk met the spine */
    enum origin last_origin;    /* of the last result whose memo was 0 */
    uint32_t last_first;        /* SPINE: its first frame */
    uint32_t segments_stored;
    struct unwind_stacks stacks;
    struct unwind_libunwind *fallback;
    uint64_t pcs[SPINE_FRAMES]; /* root first, as in a result */
    struct frame frames[SPINE_FRAMES];
    struct word words[SPINE_WORDS];
    struct new_frame fresh[SPINE_FRAMES + 1];
    struct unwind_raw raw;
    struct unwind_list list;
    struct segment segments[SEGMENT_WAYS << SEGMENT_BITS] __attribute__((aligned(64)));
};

static uint32_t depth_limit;

void unwind_reuse_init(uint32_t depth_max)
{
    depth_limit = depth_max;
}

struct unwind_reuse *unwind_reuse_new(struct unwind_libunwind *fallback)
{
    struct unwind_reuse *thread = arena_alloc(sizeof *thread, 64);
    if (thread)
        thread->fallback = fallback;
    return thread;
}

void unwind_reuse_reset(struct unwind_reuse *thread)
{
    thread->count = 0;
    thread->last_origin = ORIGIN_NONE;
    thread->list.depth = 0;
    thread->list.memo = 0;
    if (thread->segments_stored > 0)
        memset(thread->segments, 0, sizeof thread->segments);
    thread->segments_stored = 0;
}

static inline uint64_t mix(uint64_t hash, uint64_t pc)
{
    hash = (hash ^ pc) * UINT64_C(0x9e3779b97f4a7c15);
    return hash ^ hash >> 29;
}

/* The first frame of the result whose leaf is frame `leaf`. */
static inline uint32_t first_of(uint32_t leaf)
{
    return leaf + 1 > depth_limit ? leaf + 1 - depth_limit : 0;
}

/* Do the remembered words lead from frame `from` to frame `to`?  If not, *held is the outermost frame that may
 * still be joined. */
static inline bool verify(const struct unwind_reuse *thread, uint32_t from, uint32_t to, uint32_t *held)
{
    const struct word *first = thread->words + thread->frames[to].words;
    const struct word *word = thread->words + thread->frames[from].words;

    while (word > first) {
        word--;
        if (__builtin_expect(unwind_stack_word(word->address) != word->value, 0)) {
            while (thread->frames[from].words > word - thread->words)
                from--;
            *held = from;
            return false;
        }
    }
    return true;
}

/* ---- segments ------------------------------------------------------------------------------------ */

static inline struct segment *segments_of(struct unwind_reuse *thread, uint64_t pc, uint64_t sp)
{
    uint64_t set = (pc ^ sp << 20) * UINT64_C(0x9e3779b97f4a7c15) >> (64 - SEGMENT_BITS);
    return &thread->segments[set * SEGMENT_WAYS];
}

static inline bool segment_holds(const struct unwind_reuse *thread, const struct segment *segment,
                                 const struct unwind_start *start)
{
    uint32_t held;

    if (segment->pc != start->pc || segment->sp != start->sp || (segment->live && segment->fp != start->fp)
        || segment->base >= thread->count)
        return false;
    const struct frame *base = &thread->frames[segment->base];
    if (base->hash != segment->base_hash || base->sp != segment->sp + (uint64_t)segment->base_distance * 8
        || (base->live && base->fp != segment->base_fp))
        return false;
    for (uint32_t i = 0; i < segment->count; i++)
        if (unwind_stack_word((const uint64_t *)start->sp + segment->distance[i]) != segment->value[i])
            return false;
    return verify(thread, segment->base, 0, &held);
}

/* The memo of the stack, if its segment is known and still leads to the spine. */
static inline uint32_t segment_find(struct unwind_reuse *thread, const struct unwind_start *start)
{
    const struct segment *segment = segments_of(thread, start->pc, start->sp);

    for (uint32_t way = 0; way < SEGMENT_WAYS; way++)
        if (segment_holds(thread, &segment[way], start))
            return thread->rooted ? segment[way].memo : 0;
    return 0;
}

static void segment_store(struct unwind_reuse *thread, uint32_t memo)
{
    uint32_t leaf = thread->count - 1, base = thread->join;
    const struct frame *top = &thread->frames[leaf];
    uint32_t count = top->words - thread->frames[base].words;

    if (count == 0 || count > SEGMENT_WORDS || !thread->rooted || leaf >= depth_limit)
        return;
    struct segment segment = {
        .pc = thread->pcs[leaf], .sp = top->sp, .fp = top->fp, .live = top->live,
        .base_hash = thread->frames[base].hash, .base_fp = thread->frames[base].fp, .base = (uint16_t)base,
        .base_distance = (uint32_t)((thread->frames[base].sp - top->sp) / 8), .memo = memo, .count = (uint8_t)count
    };
    for (uint32_t i = 0; i < count; i++) {
        const struct word *word = &thread->words[top->words - 1 - i];
        uint64_t distance = ((uint64_t)word->address - top->sp) / 8;
        if ((uint64_t)word->address < top->sp || distance > UINT16_MAX)
            return;
        segment.distance[i] = (uint16_t)distance;
        segment.value[i] = word->value;
    }
    struct segment *set = segments_of(thread, segment.pc, segment.sp);
    uint32_t victim = thread->segments_stored++ % SEGMENT_WAYS;
    for (uint32_t way = 0; way < SEGMENT_WAYS; way++)
        if (set[way].memo == memo && set[way].sp == segment.sp)
            victim = way;           /* the same stack, joined elsewhere */
    set[victim] = segment;
}

/* ---- the spine ----------------------------------------------------------------------------------- */

static inline bool uses_fp(uint32_t code)
{
    if (code < UNWIND_CODE_SPECIAL)
        return code & MACHINE_USES_FP;
    if (code < UNWIND_CODE_RARE)
        return false;
    const struct unwind_rule *rule = unwind_rules_rare(code);
    return rule->cfa_base != UNWIND_BASE_SP || rule->fp_base == UNWIND_BASE_FP;
}

static inline void add_word(struct unwind_reuse *thread, uint32_t *count, const uint64_t *address)
{
    thread->words[(*count)++] = (struct word){ address, unwind_stack_word(address) };
}

/* Puts fresh[0 .. fresh_count - 1], leaf first, on top of frame `join`, whose state fresh[fresh_count] is
 * (NO_JOIN: they are all). Returns how many pcs at the root end are as they were. */
static uint32_t append(struct unwind_reuse *thread, uint32_t join, uint32_t fresh_count)
{
    uint32_t n = join + 1;      /* NO_JOIN + 1 == 0 */
    uint32_t common = n;
    uint32_t words = n > 0 ? thread->frames[join].words : 0;
    uint64_t hash = n > 0 ? thread->frames[join].hash : 0;
    bool below_live = n > 0 ? thread->frames[join].live : !thread->rooted;

    for (uint32_t i = fresh_count; i-- > 0; n++) {
        const struct new_frame *frame = &thread->fresh[i];
        bool live = uses_fp(frame->code);
        if (n > 0) {
            const struct new_frame *outer = frame + 1;
            bool kept = outer->fp_slot == frame->fp_slot;
            live |= kept && below_live;
            if (!kept && below_live)
                add_word(thread, &words, outer->fp_slot);
            add_word(thread, &words, outer->ra_slot);
            if (frame->code >= UNWIND_CODE_RARE && unwind_rules_rare(frame->code)->cfa_base == UNWIND_BASE_FP_WORD)
                add_word(thread, &words, (const uint64_t *)(unwind_stack_word(frame->fp_slot)
                         + (uint64_t)(int64_t)unwind_rules_rare(frame->code)->inner_offset));
        } else {
            live |= below_live;
        }
        hash = mix(hash, frame->pc);
        if (common == n && n < thread->count && thread->pcs[n] == frame->pc)
            common++;
        thread->pcs[n] = frame->pc;
        thread->frames[n] = (struct frame){
            .sp = frame->sp, .fp = live ? unwind_stack_word(frame->fp_slot) : 0, .hash = hash, .words = (uint16_t)words,
            .live = live
        };
        below_live = live;
    }
    thread->count = n;
    return common;
}

/* Drops the outermost frames of a deep stack, so that more fit at the leaf: depth_limit frames up to `join` stay. */
static uint32_t drop_outermost(struct unwind_reuse *thread, uint32_t join)
{
    uint32_t kept = depth_limit;
    uint32_t drop = join + 1 - kept;
    uint32_t words = thread->frames[drop].words;

    memmove(thread->pcs, thread->pcs + drop, kept * sizeof *thread->pcs);
    memmove(thread->frames, thread->frames + drop, kept * sizeof *thread->frames);
    memmove(thread->words, thread->words + words,
            (thread->frames[kept - 1].words - words) * sizeof *thread->words);
    for (uint32_t i = 0; i < kept; i++)
        thread->frames[i].words -= words;
    thread->count = kept;
    thread->rooted = false;
    thread->last_origin = ORIGIN_NONE;
    return kept - 1;
}

/* `same`: pcs at the root end of the spine that are as they were at the last result. */
static void result_of_spine(struct unwind_reuse *thread, uint32_t same, struct unwind_result *result)
{
    uint32_t first = first_of(thread->count - 1);
    uint32_t depth = thread->count - first;
    uint32_t common = 0;

    if (thread->last_origin == ORIGIN_SPINE && first == thread->last_first)
        common = same > first ? same - first : 0;
    else if (thread->last_origin == ORIGIN_LIST)
        common = unwind_common(thread->pcs + first, depth, thread->list.pcs[thread->list.current], thread->list.depth);
    thread->last_origin = ORIGIN_SPINE;
    thread->last_first = first;
    *result = (struct unwind_result){
        .pcs = thread->pcs + first, .depth = depth, .common = common,
        .flags = first > 0 || !thread->rooted ? UNWIND_CUT : 0
    };
}

/* ---- walking --------------------------------------------------------------------------------------- */

enum outcome { JOINED, ROOTED, FULL, CAREFUL };

struct walk {
    struct unwind_rules *rules;
    const struct unwind_stack *stack;
    uint64_t pc, sp;
    const uint64_t *fp_slot, *ra_slot;
    uint32_t fresh_count;
    uint32_t candidate;         /* + 1: outermost frame of the spine that may be met next */
};

/* The addresses of a step by a rule that cannot be packed.  False: it reads what is not known to be stack. */
static bool unpack_rare(const struct walk *walk, uint32_t code, struct unwind_stacks *stacks, struct machine_step *step)
{
    const struct unwind_rule *rule = unwind_rules_rare(code);
    uint64_t cfa = rule->cfa_base == UNWIND_BASE_SP ? walk->sp : unwind_stack_word(walk->fp_slot);

    if (rule->ra_base == UNWIND_BASE_KEPT)
        return false;
    if (rule->cfa_base == UNWIND_BASE_FP_WORD) {
        cfa += (uint64_t)(int64_t)rule->inner_offset;
        if (cfa < walk->sp || !unwind_stack_extend(stacks, cfa) || cfa % 8 != 0)
            return false;
        cfa = unwind_stack_word((const uint64_t *)cfa);
    }
    cfa += (uint64_t)(int64_t)rule->cfa_offset;
    step->cfa = cfa;
    step->ra_slot = (const uint64_t *)(cfa + (uint64_t)(int64_t)rule->ra_offset);
    step->fp_slot = walk->fp_slot;
    if (rule->fp_base != UNWIND_BASE_KEPT) {
        uint64_t slot = (rule->fp_base == UNWIND_BASE_FP ? unwind_stack_word(walk->fp_slot) : cfa)
            + (uint64_t)(int64_t)rule->fp_offset;
        if (slot < walk->sp || slot % 8 != 0 || !unwind_stack_extend(stacks, slot))
            return false;
        step->fp_slot = (const uint64_t *)slot;
    }
    return true;
}

/* Is the state of the walk that of a remembered frame from which the spine still holds? */
static inline bool joins(struct unwind_reuse *thread, struct walk *walk)
{
    uint32_t i = walk->candidate;

    while (i > 0 && thread->frames[i - 1].sp < walk->sp)
        i--;
    walk->candidate = i;
    if (i == 0)
        return false;
    const struct frame *frame = &thread->frames[i - 1];
    if (frame->sp != walk->sp || thread->pcs[i - 1] != walk->pc
        || (frame->live && frame->fp != unwind_stack_word(walk->fp_slot)))
        return false;
    uint32_t depth = i + walk->fresh_count, held;
    if (verify(thread, i - 1, depth > depth_limit ? depth - depth_limit : 0, &held))
        return true;
    walk->candidate = held + 1;
    return false;
}

/* Walks from the walk's state until it meets the spine or ends. */
static enum outcome run(struct unwind_reuse *thread, struct walk *walk)
{
    uint32_t limit = depth_limit + SPINE_SLACK / 2;

    for (;; walk->fresh_count++) {
        struct new_frame *frame = &thread->fresh[walk->fresh_count];
        *frame = (struct new_frame){ walk->pc, walk->sp, walk->fp_slot, walk->ra_slot, 0 };
        if (walk->fresh_count < depth_limit && joins(thread, walk))
            return JOINED;
        if (walk->fresh_count == limit)
            return FULL;
        uint32_t code = frame->code = unwind_rules_code(walk->rules, walk->pc);
        struct machine_step step;
        if (__builtin_expect(code < UNWIND_CODE_SPECIAL, 1)) {
            machine_unpack(code, walk->sp, walk->fp_slot, &step);
        } else if (code == UNWIND_CODE_END) {
            walk->fresh_count++;
            return ROOTED;
        } else if (code < UNWIND_CODE_RARE || !unpack_rare(walk, code, &thread->stacks, &step)) {
            return CAREFUL;
        }
        /* Aligned, above sp, and inside of what is known to be stack, in one comparison. */
        uint64_t above = (uint64_t)step.ra_slot - walk->sp;
        if (__builtin_expect((above >> 3 | above << 61) >= (walk->stack->high - walk->sp) >> 3, 0)
            && ((int64_t)above < 0 || !unwind_stack_extend(&thread->stacks, (uint64_t)step.ra_slot)))
            return CAREFUL;
        if (__builtin_expect(step.cfa <= walk->sp, 0))
            return CAREFUL;
        /* Nor may sp leave what is known, or the comparison above would let anything pass.  Packed rules of machines whose return
         * address lies right below the CFA cannot do that. */
        if ((MACHINE_PAIR_AT_BOTTOM || code >= UNWIND_CODE_SPECIAL) && __builtin_expect(step.cfa > walk->stack->high, 0)
            && !unwind_stack_extend(&thread->stacks, step.cfa - 8))
            return CAREFUL;
        walk->pc = machine_code_address(unwind_stack_word(step.ra_slot));
        walk->sp = step.cfa;
        walk->fp_slot = step.fp_slot;
        walk->ra_slot = step.ra_slot;
        if (__builtin_expect(walk->pc == 0, 0)) {
            walk->fresh_count++;
            return ROOTED;
        }
    }
}

/* The whole stack, by the careful walk or by libunwind. */
static __attribute__((noinline)) void capture_whole(struct unwind_reuse *thread, const struct unwind_start *start,
                                                    struct unwind_rules *rules, struct unwind_result *result)
{
    struct unwind_list *list = &thread->list;
    uint64_t spine_first = thread->last_first;
    uint32_t spine_depth = thread->last_origin == ORIGIN_SPINE ? thread->count - thread->last_first : 0;

    if (!unwind_careful_walk(rules, &thread->stacks, start, depth_limit, &thread->raw))
        unwind_libunwind_walk(thread->fallback, start, &thread->raw);
    bool same = unwind_list_set(list, &thread->raw, result);
    result->memo = same ? list->memo : 0;
    if (result->memo)
        return;
    if (thread->last_origin == ORIGIN_SPINE)
        result->common = unwind_common(result->pcs, result->depth, thread->pcs + spine_first, spine_depth);
    else if (thread->last_origin == ORIGIN_NONE)
        result->common = 0;
    thread->last_origin = ORIGIN_LIST;
}

static __attribute__((cold, noinline)) void begin_generation(struct unwind_reuse *thread, uint64_t generation)
{
    unwind_reuse_reset(thread);
    thread->generation = generation;
}

/* The spine ends where the last deep walk was cut, and the stack has become too short to do without what lies
 * beyond. */
static inline bool too_short(const struct unwind_reuse *thread, uint32_t depth)
{
    return !thread->rooted && depth < depth_limit;
}

static enum outcome walk_from(struct unwind_reuse *thread, const struct unwind_start *start, struct unwind_rules *rules,
                              uint32_t candidate, struct walk *walk)
{
    *walk = (struct walk){
        .rules = rules, .stack = &thread->stacks.known[thread->stacks.current], .pc = start->pc, .sp = start->sp,
        .fp_slot = &start->fp, .candidate = candidate
    };
    return run(thread, walk);
}

/* The stack as such, when no memo is at hand.  Frames of the spine below `candidate` may still hold. */
static __attribute__((noinline)) void capture_by_walk(struct unwind_reuse *thread, const struct unwind_start *start,
                                                      uint32_t candidate, struct unwind_result *result)
{
    struct walk walk;

    result->memo = 0;
    if (!unwind_stack_holds(&thread->stacks.known[thread->stacks.current], start->sp))
        unwind_stack_enter(&thread->stacks, start->sp);
    struct unwind_rules *rules = unwind_rules_current();
    enum outcome outcome = walk_from(thread, start, rules, candidate, &walk);
    if (outcome == JOINED && too_short(thread, walk.candidate + walk.fresh_count))
        outcome = walk_from(thread, start, rules, 0, &walk);
    if (outcome == CAREFUL) {
        capture_whole(thread, start, rules, result);
        return;
    }
    uint32_t join = outcome == JOINED ? walk.candidate - 1 : NO_JOIN;
    if (outcome == JOINED && walk.fresh_count == 0 && thread->frames[join].memo) {
        result->memo = thread->frames[join].memo;
        return;
    }
    if (outcome != JOINED)
        thread->rooted = outcome == ROOTED;
    else if (join + 1 + walk.fresh_count > SPINE_FRAMES)
        join = drop_outermost(thread, join);
    thread->join = join;
    result_of_spine(thread, append(thread, join, walk.fresh_count), result);
}

/* Not the stack of the last walk, or not one with a memo. */
static __attribute__((noinline)) uint32_t capture_other(struct unwind_reuse *thread, const struct unwind_start *start,
                                                        uint32_t candidate, struct unwind_result *result)
{
    result->memo = segment_find(thread, start);
    if (result->memo == 0)
        capture_by_walk(thread, start, candidate, result);
    return result->memo;
}

static __attribute__((cold, noinline)) uint32_t capture_first(struct unwind_reuse *thread, const struct unwind_start *start,
                                                              uint64_t generation, struct unwind_result *result)
{
    begin_generation(thread, generation);
    capture_by_walk(thread, start, 0, result);
    return result->memo;
}

/* The stack of the last walk again is all that happens here, so that no register needs saving. */
uint32_t unwind_reuse_capture(struct unwind_reuse *thread, const struct unwind_start *start, struct unwind_result *result)
{
    uint64_t generation = __atomic_load_n(&unwind_rules_generation, __ATOMIC_ACQUIRE);
    uint32_t candidate = thread->count, held;

    if (__builtin_expect(thread->generation != generation, 0))
        return capture_first(thread, start, generation, result);
    if (__builtin_expect(candidate == 0, 0))
        return capture_other(thread, start, 0, result);
    const struct frame *top = &thread->frames[candidate - 1];
    if (top->sp == start->sp && thread->pcs[candidate - 1] == start->pc && (!top->live || top->fp == start->fp)) {
        if (!verify(thread, candidate - 1, first_of(candidate - 1), &held)) {
            candidate = held + 1;
        } else if (top->memo) {
            result->memo = top->memo;
            return top->memo;
        }
    }
    return capture_other(thread, start, candidate, result);
}

void unwind_reuse_remember(struct unwind_reuse *thread, uint32_t memo)
{
    if (thread->last_origin == ORIGIN_LIST) {
        thread->list.memo = memo;
    } else if (thread->last_origin == ORIGIN_SPINE) {
        thread->frames[thread->count - 1].memo = memo;
        if (thread->join != NO_JOIN)
            segment_store(thread, memo);
    }
}

bool unwind_reuse_places(const struct unwind_reuse *thread, const struct unwind_result *result, uint64_t *sps)
{
    if (thread->last_origin != ORIGIN_SPINE)
        return false;
    for (uint32_t i = 0; i < result->depth; i++)
        sps[i] = thread->frames[thread->last_first + i].sp;
    return true;
}
