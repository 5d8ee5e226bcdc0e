# SPDX-License-Identifier: MIT
"""Adds up a plain dump for the sites whose stack has a function, named by nm, not by the reader under test.

usage: heapmark dump FILE | by_function.py FUNCTION [heap|mapping|break]
"""
import bisect
import re
import subprocess
import sys

FIELD = re.compile(r'(\S+?)=("[^"]*"|\S*)')


def symbols_of(path):
    """Sorted (offset, end, name) of a module's functions; empty when it has none."""
    found = {}
    for option in ([], ["-D"]):
        lines = subprocess.run(["nm", "-S", "--defined-only", *option, path], capture_output=True, text=True).stdout
        for line in lines.splitlines():
            words = line.split()
            if len(words) == 4 and words[2] in "tTwWiu":
                found[int(words[0], 16)] = (int(words[0], 16) + int(words[1], 16), re.split(r"[@.]", words[3])[0])
    return sorted((start, end, name) for start, (end, name) in found.items())


def read_dump():
    tables = {}
    for line in sys.stdin:
        words = line.split(None, 2)
        if len(words) == 3 and re.fullmatch(r"[0-9.]+:", words[1]):
            tables.setdefault(words[0], {})[words[1][:-1]] = dict(FIELD.findall(line))
    return tables


def mangled(symbol, name):
    """C++ names are compared by their unqualified part."""
    return symbol == name or re.search(rf"{len(name)}{re.escape(name)}(?![a-z0-9_])", symbol) is not None \
        if symbol.startswith("_Z") else symbol == name


def main():
    wanted, kind = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "heap"
    tables = read_dump()
    modules, symbols = tables.get("modules", {}), {}

    def matches(frame):
        module = int(frame["ref"]) - 1
        if module < 0 or frame["kind"] != "native":
            return False
        path = modules[str(module)]["path"].strip('"')
        if path not in symbols:
            symbols[path] = symbols_of(path)
        at = int(frame["code"], 16) - 1 - int(modules[str(module)]["base"], 16)
        place = bisect.bisect_right(symbols[path], (at, 1 << 62, "")) - 1
        return place >= 0 and symbols[path][place][0] <= at < symbols[path][place][1] and \
            mangled(symbols[path][place][2], wanted)

    frames, sites = tables.get("frames", {}), set()
    has = {"0": False}
    for number in sorted(frames, key=int):
        if number != "0":
            has[number] = has[frames[number]["parent"]] or matches(frames[number])
    for number, site in tables.get("sites", {}).items():
        if site["kind"] == kind and has.get(site["frame"], False):
            sites.add(number)
    total = {"blocks": 0, "bytes": 0, "frees": 0, "freed": 0, "temporary": 0}
    for cell in tables.get("cells", {}).values():
        if cell["site"] in sites:
            for key, field in zip(total, ("allocations", "allocated_bytes", "frees", "freed_bytes", "temporary")):
                total[key] += int(cell[field])
    print(f"sites {len(sites)}\nblocks {total['blocks']}\nbytes {total['bytes']}\nfrees {total['frees']}\n"
          f"live_blocks {total['blocks'] - total['frees']}\nlive_bytes {total['bytes'] - total['freed']}\n"
          f"temporary {total['temporary']}")


main()
