// SPDX-License-Identifier: MIT
// A C++ program as people write them: words into maps, sets, vectors and shared pointers, with a few exceptions.
// usage: stl [ROUNDS]
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <set>
#include <sstream>
#include <stdexcept>
#include <string>
#include <unordered_map>
#include <vector>

struct Node {
    std::string name;
    std::vector<std::shared_ptr<Node>> children;
};

static std::string word(unsigned n)
{
    std::string text = "word-";
    do
        text += static_cast<char>('a' + n % 26);
    while (n /= 26);
    return text + "-with-a-tail-that-does-not-fit-in-the-object";
}

static std::shared_ptr<Node> tree(unsigned depth, unsigned &count)
{
    auto node = std::make_shared<Node>();
    node->name = word(count++);
    if (depth)
        for (int i = 0; i < 3; i++)
            node->children.push_back(tree(depth - 1, count));
    return node;
}

static std::size_t walk(const Node &node, const std::function<std::size_t(const Node &)> &weigh)
{
    std::size_t sum = weigh(node);
    for (const auto &child : node.children)
        sum += walk(*child, weigh);
    return sum;
}

static long parse(const std::string &text)
{
    std::istringstream in(text);
    long number;
    if (!(in >> number))
        throw std::invalid_argument("not a number: " + text);
    return number;
}

int main(int argc, char **argv)
{
    long rounds = argc > 1 ? std::strtol(argv[1], nullptr, 10) : 20;
    std::size_t sum = 0;

    for (long round = 0; round < rounds; round++) {
        std::map<std::string, std::list<unsigned>> index;
        std::unordered_map<std::string, unsigned> counts;
        std::set<std::string> seen;
        for (unsigned i = 0; i < 6000; i++) {
            index[word(i % 1500)].push_back(i);
            counts[word(i % 700)]++;
            seen.insert(word(i % 3000).substr(0, 30 + i % 12));
        }
        std::vector<std::string> sorted(seen.begin(), seen.end());
        std::sort(sorted.rbegin(), sorted.rend());
        unsigned count = 0;
        auto root = tree(7, count);
        sum += walk(*root, [](const Node &node) { return node.name.size(); }) + sorted.size() + index.size() + counts.size();
        for (int i = 0; i < 300; i++) {
            try {
                sum += static_cast<std::size_t>(parse(i % 3 ? std::to_string(i) : word(static_cast<unsigned>(i))));
            } catch (const std::invalid_argument &error) {
                sum += std::string(error.what()).size();
            }
        }
    }
    std::printf("%zu\n", sum);
    return 0;
}
