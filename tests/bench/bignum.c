/* SPDX-License-Identifier: MIT */
/*
 * Large numbers as a naive library has them: every result a tiny block of its own, made and freed within microseconds, some
 * calls deep.  Computes digits of pi by Gibbons' spigot.   usage: bignum DIGITS [ROUNDS]
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

struct number {
    int sign;                       /* -1, 0, 1 */
    uint32_t digits;
    uint32_t digit[];               /* least first, base 2^32 */
};

static unsigned long pairs;

static struct number *new_number(uint32_t digits)
{
    struct number *number = malloc(sizeof *number + digits * sizeof *number->digit);
    if (!number)
        abort();
    number->digits = digits;
    pairs++;
    return number;
}

static struct number *trimmed(struct number *number)
{
    while (number->digits > 0 && number->digit[number->digits - 1] == 0)
        number->digits--;
    if (number->digits == 0)
        number->sign = 0;
    return number;
}

static struct number *from_long(long value)
{
    struct number *number = new_number(2);
    uint64_t magnitude = value < 0 ? (uint64_t)-value : (uint64_t)value;
    number->sign = value < 0 ? -1 : 1;
    number->digit[0] = (uint32_t)magnitude;
    number->digit[1] = (uint32_t)(magnitude >> 32);
    return trimmed(number);
}

static int compare(const struct number *a, const struct number *b)
{
    if (a->digits != b->digits)
        return a->digits < b->digits ? -1 : 1;
    for (uint32_t i = a->digits; i-- > 0;)
        if (a->digit[i] != b->digit[i])
            return a->digit[i] < b->digit[i] ? -1 : 1;
    return 0;
}

static struct number *add_magnitudes(const struct number *a, const struct number *b)
{
    uint32_t digits = (a->digits > b->digits ? a->digits : b->digits) + 1;
    struct number *sum = new_number(digits);
    uint64_t carry = 0;
    for (uint32_t i = 0; i < digits; i++) {
        carry += (i < a->digits ? (uint64_t)a->digit[i] : 0) + (i < b->digits ? b->digit[i] : 0);
        sum->digit[i] = (uint32_t)carry;
        carry >>= 32;
    }
    return sum;
}

static struct number *subtract_magnitudes(const struct number *a, const struct number *b)    /* a >= b */
{
    struct number *difference = new_number(a->digits);
    int64_t borrow = 0;
    for (uint32_t i = 0; i < a->digits; i++) {
        borrow += (int64_t)a->digit[i] - (i < b->digits ? b->digit[i] : 0);
        difference->digit[i] = (uint32_t)borrow;
        borrow >>= 32;
    }
    return difference;
}

static struct number *sum(const struct number *a, const struct number *b, int sign)
{
    struct number *result;
    int other = b->sign * sign;
    if (a->sign * other >= 0) {
        result = add_magnitudes(a, b);
        result->sign = a->sign ? a->sign : other;
    } else if (compare(a, b) >= 0) {
        result = subtract_magnitudes(a, b);
        result->sign = a->sign;
    } else {
        result = subtract_magnitudes(b, a);
        result->sign = other;
    }
    return trimmed(result);
}

static struct number *times(const struct number *a, uint32_t factor)
{
    struct number *product = new_number(a->digits + 1);
    uint64_t carry = 0;
    for (uint32_t i = 0; i < a->digits; i++) {
        carry += (uint64_t)a->digit[i] * factor;
        product->digit[i] = (uint32_t)carry;
        carry >>= 32;
    }
    product->digit[a->digits] = (uint32_t)carry;
    product->sign = a->sign;
    return trimmed(product);
}

static void replace(struct number **old, struct number *value)
{
    free(*old);
    *old = value;
}

/* a * x + b * y */
static struct number *combine(const struct number *a, uint32_t x, const struct number *b, uint32_t y, int sign)
{
    struct number *ax = times(a, x), *by = times(b, y), *result = sum(ax, by, sign);
    free(ax);
    free(by);
    return result;
}

/* floor((a * x + b) / c), which is a digit: by doubling and subtracting. */
static unsigned quotient(const struct number *a, uint32_t x, const struct number *b, const struct number *c)
{
    struct number *rest = combine(a, x, b, 1, 1);
    unsigned result = 0;
    for (int bit = 3; bit >= 0; bit--) {
        struct number *part = times(c, 1u << bit);
        if (rest->sign > 0 && compare(rest, part) >= 0) {
            replace(&rest, sum(rest, part, -1));
            result |= 1u << bit;
        }
        free(part);
    }
    free(rest);
    return result;
}

struct state {
    struct number *q, *r, *t;
    uint32_t k;
};

static void step(struct state *s)
{
    uint32_t l = 2 * s->k + 1;
    replace(&s->r, combine(s->q, 2 * l, s->r, l, 1));
    replace(&s->t, times(s->t, l));
    replace(&s->q, times(s->q, s->k));
    s->k++;
}

static void take(struct state *s, unsigned digit)
{
    replace(&s->r, combine(s->r, 10, s->t, 10 * digit, -1));
    replace(&s->q, times(s->q, 10));
}

__attribute__((noinline)) static unsigned spigot(struct state *s)
{
    for (;;) {
        unsigned digit = quotient(s->q, 3, s->r, s->t);
        if (compare(s->q, s->t) <= 0 && digit == quotient(s->q, 4, s->r, s->t)) {
            take(s, digit);
            return digit;
        }
        step(s);
    }
}

static void run(long digits, unsigned check[10])
{
    struct state s = {from_long(1), from_long(0), from_long(1), 1};
    for (long i = 0; i < digits; i++)
        check[spigot(&s)]++;
    free(s.q);
    free(s.r);
    free(s.t);
}

int main(int argc, char **argv)
{
    long digits = argc > 1 ? strtol(argv[1], NULL, 10) : 100, rounds = argc > 2 ? strtol(argv[2], NULL, 10) : 1;
    unsigned check[10] = {0};

    for (long i = 0; i < rounds; i++)
        run(digits, check);
    printf("pairs %lu\n", pairs);
    for (int i = 0; i < 10; i++)
        printf("%d: %u\n", i, check[i]);
    return 0;
}
