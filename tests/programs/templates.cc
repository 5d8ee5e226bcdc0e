// SPDX-License-Identifier: MIT
// Templates, namespaces, inlined members and a lambda, in C++; prints the truth about them (see truth.h).
#include "truth.h"

#define NOINLINE __attribute__((noinline, noclone))
#define INLINE inline __attribute__((always_inline))

#ifdef __clang__
#define STEP "main::local::step(int)"
#else   // gcc gives it no linkage name
#define STEP "main::local::step"
#endif

namespace {
NOINLINE void hidden(int)
{
    truth("(anonymous namespace)::hidden(int)", __LINE__, nullptr);
    TRUTH_STAY;
}
}

namespace shelf {

template <typename T> struct box {
    T value;
    NOINLINE box(T v) : value(v)
    {
        truth(sizeof(T) == 1 ? "shelf::box<char>::box(char)" : "shelf::box<int>::box(int)", __LINE__, nullptr);
        TRUTH_STAY;
    }
    NOINLINE void put(const T &v)
    {
        fill(__LINE__);
        value = v;
    }
    INLINE void fill(int line)
    {
        const char *inner = sizeof(T) == 1 ? "shelf::box<char>::fill(int)" : "shelf::box<int>::fill(int)";
        const char *outer = sizeof(T) == 1 ? "shelf::box<char>::put(char const&)" : "shelf::box<int>::put(int const&)";
        truth(inner, __LINE__, outer, line, nullptr);
        TRUTH_STAY;
    }
    NOINLINE box &operator+=(int) noexcept
    {
        const char *name = sizeof(T) == 1 ? "shelf::box<char>::operator+=(int)" : "shelf::box<int>::operator+=(int)";
        truth(name, __LINE__, nullptr);
        TRUTH_STAY;
        return *this;
    }
};

template <typename... Ts> NOINLINE void several(Ts...)
{
    truth("shelf::several<int, char, double>(int, char, double)", __LINE__, nullptr);
    TRUTH_STAY;
}

}

int main()
{
    hidden(1);
    shelf::box<int> number(1);
    shelf::box<char> letter('a');
    number.put(2);
    letter.put('b');
    number += 1;
    shelf::several(1, 'c', 2.0);
    auto lambda = [](int) NOINLINE {
        truth("main::{lambda(int)#1}::operator()(int) const", __LINE__, nullptr);
        TRUTH_STAY;
    };
    lambda(3);
    // Described within main, though its code lies elsewhere.
    struct local {
        INLINE void step(int line)
        {
            truth(STEP, __LINE__, "main::local::act()", line, nullptr);
            TRUTH_STAY;
        }
        NOINLINE void act()
        {
            step(__LINE__);
        }
    };
    local().act();
    return 0;
}
