# SPDX-License-Identifier: MIT
"""Compares the stacks of a report with what a program knew of itself (tests/programs/python/stacks.py).

usage: python_stacks.py TRUTH REPORT.json

Every stack of the truth must be in the report with just the blocks and bytes that were made there, and no other stack
may have the library's functions on it.
"""
import collections
import json
import sys

LEAVES = {"probe_leak", "probe_deeper"}
PYTHON_FRAMES = 512         # that a stack has at most; src/shim/python.h
BETWEEN = {"probe_call", "probe_sort", "probe_thread"}


def wanted():
    stacks = collections.Counter(), collections.Counter()
    with open(sys.argv[1]) as file:
        for line in file:
            size, stack = json.loads(line)
            key = tuple(tuple(entry) for entry in stack)
            stacks[0][key] += 1
            stacks[1][key] += size
    return stacks


def reported():
    blocks, bytes_, cut = collections.Counter(), collections.Counter(), {}
    with open(sys.argv[2]) as file:
        report = json.load(file)
    for site in report["sites"]:
        frames = [report["frames"][number] for number in site["stack"]]
        calls = [(frame["kind"], call) for frame in frames for call in frame["calls"]]
        leaf = [i for i, (kind, call) in enumerate(calls[:60]) if kind == "native" and call["function"] == "probe_leak"]
        if not leaf:
            continue
        key = []
        for kind, call in calls[leaf[0]:]:
            if kind == "python":
                key.append((call["function"], call.get("file"), call.get("line")))
            elif call["function"] in BETWEEN:
                key.append((call["function"],))
        key = tuple(key)
        if site.get("cut"):
            cut[key] = site["live_blocks"], site["live_bytes"]
        else:
            blocks[key] += site["live_blocks"]
            bytes_[key] += site["live_bytes"]
    return blocks, bytes_, cut


def show(key):
    return " <- ".join(":".join(str(part) for part in entry) for entry in key[:12])


def main():
    (want_blocks, want_bytes), (blocks, bytes_, cut) = wanted(), reported()
    wrong = cut_right = 0
    for key, count in list(want_blocks.items()):
        for prefix, (cut_blocks, cut_bytes) in list(cut.items()):
            deep = len(prefix) >= min(len(key), PYTHON_FRAMES - 12)
            if deep and key[:len(prefix)] == prefix and (cut_blocks, cut_bytes) == (count, want_bytes[key]):
                del want_blocks[key], cut[prefix]
                cut_right += 1
                break
    for key in set(want_blocks) | set(blocks):
        if (want_blocks[key], want_bytes[key]) != (blocks[key], bytes_[key]):
            wrong += 1
            if wrong <= 5:
                print("%d blocks of %d bytes, not %d of %d: %s" % (blocks[key], bytes_[key], want_blocks[key],
                                                                   want_bytes[key], show(key)))
    for key in cut:
        print("cut, and no such stack: %s" % show(key))
    total = len(want_blocks) + cut_right
    print("%d stacks (%d cut), %d wrong" % (total, cut_right, wrong + len(cut)))
    return wrong + len(cut) != 0 or total < 150


sys.exit(main())
