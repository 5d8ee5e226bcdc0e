/* SPDX-License-Identifier: MIT */
#include "shim/sampling.h"

#include "freestanding/sys.h"
#include "shim/cycles.h"
#include "shim/thread.h"

THREAD_LOCAL struct sampling_line sampling_line;
uint64_t sampling_interval;
uint32_t sampling_first_site = UINT32_MAX;

void sampling_start(uint64_t interval, uint32_t first_site)
{
    sampling_first_site = first_site;
    __atomic_store_n(&sampling_interval, interval, __ATOMIC_RELEASE);
}

/* exp(-x) for 0 <= x < 700, to 1e-8: 2^whole times a short series for the rest, which is at most half a power of two. */
static double exponential(double x)
{
    double y = -x * 1.4426950408889634;
    int whole = (int)(y - 0.5);
    double f = (y - whole) * 0.6931471805599453;
    double sum = 1 + f * (1 + f * (1.0 / 2 + f * (1.0 / 6 + f * (1.0 / 24 + f * (1.0 / 120 + f * (1.0 / 720 + f / 5040))))));
    union {
        uint64_t bits;
        double value;
    } scale = {.bits = (uint64_t)(whole + 1023) << 52};
    return sum * scale.value;
}

/* ln(x) for 0 < x <= 1: the exponent, and a series in (m - 1) / (m + 1) for the mantissa in [0.7, 1.4). */
static double logarithm(double x)
{
    union {
        double value;
        uint64_t bits;
    } parts = {.value = x};
    int exponent = (int)(parts.bits >> 52 & 0x7ff) - 1023;
    parts.bits = (parts.bits & ~(UINT64_C(0x7ff) << 52)) | UINT64_C(1023) << 52;
    if (parts.value > 1.4142135623730951) {
        parts.value /= 2;
        exponent++;
    }
    double s = (parts.value - 1) / (parts.value + 1), q = s * s;
    double series = 2 * s * (1 + q * (1.0 / 3 + q * (1.0 / 5 + q * (1.0 / 7 + q * (1.0 / 9 + q / 11)))));
    return series + exponent * 0.6931471805599453;
}

static uint64_t next_random(struct thread *thread)
{
    uint64_t x = thread->random;
    if (x == 0)
        x = cycles_now() ^ ((uint64_t)(uint32_t)thread->tid << 32) ^ UINT64_C(0x9e3779b97f4a7c15);
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    thread->random = x;
    return x * UINT64_C(0x2545f4914f6cdd1d);
}

void sampling_draw(struct thread *thread)
{
    uint64_t interval = __atomic_load_n(&sampling_interval, __ATOMIC_ACQUIRE);
    thread->drawn = interval != 0;
    if (interval == 0) {
        sampling_line.sample_left = 0;
        return;
    }
    double uniform = ((double)(next_random(thread) >> 11) + 1) / 9007199254740992.0;
    sampling_line.sample_left = (uint64_t)(-logarithm(uniform) * (double)interval);
}

/* 1 / (1 - exp(-x)).  For small x the series of the whole, since the subtraction would lose the digits that matter. */
static double inverse_chance(double x)
{
    if (x < 0.25)
        return 1 / x + 0.5 + x * (1.0 / 12 - x * x * (1.0 / 720 - x * x / 30240));
    if (x > 40)
        return 1;
    return 1 / (1 - exponential(x));
}

static double points_in(size_t requested)
{
    return ((double)requested + SAMPLING_OVERHEAD) / (double)sampling_interval;
}

static double weight_of(size_t requested)
{
    return inverse_chance(points_in(requested));
}

double sampling_stands_for(size_t requested, uint32_t site)
{
    return site < sampling_first_site ? 1 : weight_of(requested);
}

/* Uniform in [0, 1), and the same when the block dies. */
static double dither_of(const void *block, uint64_t multiplier)
{
    return (double)(((uint64_t)(uintptr_t)block >> 4) * multiplier >> 11) / 9007199254740992.0;
}

static struct sampling_weight rounded(double weight, size_t requested, double dither)
{
    return (struct sampling_weight){.count = (uint64_t)(weight + dither), .bytes = (uint64_t)(weight * (double)requested + dither)};
}

/* The count is rounded up or down by a hash of the address: right on average, and the same when the block dies. */
struct sampling_weight sampling_weight_slow(const void *block, size_t requested)
{
    return rounded(weight_of(requested), requested, dither_of(block, UINT64_C(0x9e3779b97f4a7c15)));
}

struct sampling_spread sampling_spread(size_t requested)
{
    double weight = weight_of(requested), blocks = weight * (weight - 1), bytes = (double)requested;
    return (struct sampling_spread){.bytes = (float)(bytes * bytes * blocks), .blocks = (float)blocks};
}

/* Given that the block holds a point, the chance that it holds one of the first kind alone is (1 - p) / (2 - p), where p is the
 * chance that it holds one of a kind. */
struct sampling_weight sampling_half(const void *block, size_t requested, bool in[2])
{
    double weight = inverse_chance(points_in(requested) / 2), alone = (weight - 1) / (2 * weight - 1);
    double kind = dither_of(block, UINT64_C(0xd6e8feb86659fd93));
    in[0] = kind < alone || kind >= 2 * alone;
    in[1] = kind >= alone;
    return rounded(weight, requested, dither_of(block, UINT64_C(0x9e3779b97f4a7c15)));
}
