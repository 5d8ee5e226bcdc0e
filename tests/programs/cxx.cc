/* SPDX-License-Identifier: MIT */
/*
 * C++: new, new[], aligned and nothrow forms, exceptions, the standard containers.  Prints the ledger of what it
 * allocated by operator new itself.  usage: cxx [modest]    modest: asks for nothing that cannot be had
 */
#include <cstdint>
#include <cstdlib>
#include <map>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <vector>

extern "C" {
#include "say.h"
}

namespace {

ledger books;

struct alignas(64) Wide { unsigned char bytes[192]; };
struct Plain { long a, b, c; };

template <typename T> __attribute__((noinline)) T *single()
{
    T *object = new T();
    touch(object, sizeof *object);
    ledger_add(&books, sizeof *object);
    return object;
}

__attribute__((noinline)) char *array_of(std::size_t n)
{
    char *array = new char[n];
    touch(array, n);
    ledger_add(&books, static_cast<long long>(n));
    return array;
}

__attribute__((noinline)) void thrower(int depth)
{
    auto guard = std::make_unique<Plain>();
    touch(guard.get(), sizeof(Plain));
    if (depth == 0)
        throw std::runtime_error("thrown on purpose");
    thrower(depth - 1);
}

}   /* namespace */

/* Valgrind ends a program whose operator new would throw. */
static int ask_too_much()
{
    try {
        void *volatile none = ::operator new(static_cast<std::size_t>(PTRDIFF_MAX));
        (void)none;
        return 4;
    } catch (const std::bad_alloc &) {
    }
    return ::operator new(static_cast<std::size_t>(PTRDIFF_MAX), std::nothrow) ? 5 : 0;
}

int main(int argc, char **)
{
    std::vector<Plain *> plain;
    std::vector<Wide *> wide;
    std::vector<char *> arrays;

    plain.reserve(1000);
    wide.reserve(1000);
    arrays.reserve(1000);
    for (int i = 0; i < 1000; i++) {
        plain.push_back(single<Plain>());
        wide.push_back(single<Wide>());
        arrays.push_back(array_of(static_cast<std::size_t>(i)));
        if (reinterpret_cast<std::uintptr_t>(wide.back()) % 64)
            return 3;
    }
    for (int i = 0; i < 1000; i += 2) {
        delete plain[i];
        ledger_drop(&books, sizeof(Plain));
        delete wide[i];
        ledger_drop(&books, sizeof(Wide));
        delete[] arrays[i];
        ledger_drop(&books, i);
    }
    int caught = 0;
    for (int i = 0; i < 2000; i++) {
        try {
            thrower(i % 10);
        } catch (const std::exception &e) {
            caught += std::string(e.what()) == "thrown on purpose";
        }
    }
    std::map<std::string, std::vector<int>> words;
    for (int i = 0; i < 5000; i++)
        words["a key that is longer than any small string buffer " + std::to_string(i % 700)].push_back(i);
    std::size_t entries = 0;
    for (const auto &word : words)
        entries += word.second.size();
    if (argc < 2 && ask_too_much())
        return 4;
    say("caught", caught);
    say("entries", static_cast<long long>(entries));
    ledger_say(&books);
    return caught == 2000 && entries == 5000 ? 0 : 1;
}
