# SPDX-License-Identifier: MIT
"""Makes small objects, keeps a few, and says what the interpreter and the kernel know of it.

usage: arenas.py CASE COUNT KEEP-ONE-IN [REPORT]     with src/api on PYTHONPATH

Prints JSON: what sys._debugmallocstats said just before and after the census "kept", how many objects were kept, and
what RSS lost when they were dropped.  The census "dropped" follows.
"""
import contextlib
import gc
import json
import os
import re
import sys
import tempfile

import heapmark


class Point:
    __slots__ = ("x", "y")

    def __init__(self, i):
        self.x, self.y = i + 1000.5, self


class Record:
    def __init__(self, i):
        self.number = i


def read_csv(count):
    import io
    import pandas
    text = "\n".join("name of %d,%d" % (i, i) for i in range(count))
    return list(pandas.read_csv(io.StringIO("a,b\n" + text))["a"])


MAKE = {
    "float": lambda count: [float(i) for i in range(count)],
    "str": lambda count: ["a string of number %d" % i for i in range(count)],
    "dict": lambda count: [{"a": i, "b": 0} for i in range(count)],
    "Point": lambda count: [Point(i) for i in range(count)],
    "Record": lambda count: [Record(i) for i in range(count)],
    "complex": lambda count: [complex(i, 1) for i in range(count)],
    "csv": read_csv,
}

FACTS = {
    "arenas": r"# arenas allocated current *= *([\d,]+)",
    "live_bytes": r"# bytes in allocated blocks *= *([\d,]+)",
    "slot_bytes": r"# bytes in available blocks *= *([\d,]+)",
    "free_pools": r"([\d,]+) unused pools",
    "header_bytes": r"# bytes lost to pool headers *= *([\d,]+)",
}


@contextlib.contextmanager
def errors_into(file):
    kept = os.dup(2)
    os.dup2(file.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def allocator(file):
    """The text of sys._debugmallocstats, which makes next to no objects."""
    file.seek(0)
    file.truncate()
    with errors_into(file):
        sys._debugmallocstats()


def facts(file):
    file.seek(0)
    text = file.read().decode()
    known = {key: int(re.search(pattern, text).group(1).replace(",", "")) for key, pattern in FACTS.items()}
    rows = re.findall(r"^ +\d+ +(\d+) +(\d+) +(\d+) +\d+$", text, re.M)
    known["pools"] = sum(int(row[1]) for row in rows)
    known["live_blocks"] = sum(int(row[2]) for row in rows)
    return known


def rss():
    with open("/proc/self/smaps_rollup") as file:
        return int(re.search(r"Rss: *(\d+)", file.read()).group(1)) * 1024


def main():
    case, count, step = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    before, after = tempfile.TemporaryFile(), tempfile.TemporaryFile()
    allocator(before)
    allocator(after)
    made = MAKE[case](count)
    kept = made[step // 2::step]
    del made
    gc.collect()
    heapmark.snapshot("first")
    allocator(before)
    heapmark.snapshot("kept")
    allocator(after)
    resident = rss()
    number = len(kept)
    kept.clear()
    gc.collect()
    lost = resident - rss()
    heapmark.snapshot("dropped")
    print(json.dumps({"case": case, "kept": number, "lost": lost, "before": facts(before), "after": facts(after)}))


main()
