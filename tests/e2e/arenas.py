# SPDX-License-Identifier: MIT
"""Compares the arenas of a report with what the interpreter said of them (tests/programs/python/arenas.py).

usage: arenas.py TRUTH REPORT.json [TYPE]

Counts are those of sys._debugmallocstats, which ran just before and just after the census; the call that asks for the census has
some objects of its own.  TYPE must head the list of keepers, and RSS must have lost what was predicted, but for an arena
that the interpreter keeps in reserve.
"""
import json
import sys

OWN = 40                    # blocks of the call
MIB = 1 << 20


def main():
    with open(sys.argv[1]) as file:
        truth = json.load(file)
    with open(sys.argv[2]) as file:
        report = json.load(file)
    wrong = []

    def check(what, low, value, high):
        if not low <= value <= high:
            wrong.append("%s: %d is not in %d..%d" % (what, value, low, high))

    def between(what, value, own):
        ends = truth["before"][what], truth["after"][what]
        check(what, min(ends) - own, value, max(ends) + own)

    ledger = [ledger for ledger in report["ledgers"] if ledger["label"] == "kept"][-1]
    python = ledger["python"]
    for one in report["ledgers"]:
        check("sum of the ledger", one["rss_bytes"], one["sum_bytes"], one["rss_bytes"])
    between("arenas", python["arenas"], 0)
    between("pools", python["pools"], 2)
    between("free_pools", python["free_pools"], 2)
    between("live_blocks", python["live_blocks"], OWN)
    between("slot_bytes", python["slot_bytes"], OWN * 512)
    check("bytes of live blocks", truth["before"]["live_bytes"] * .99 - OWN * 512, ledger["parts"]["python_live"],
          truth["after"]["live_bytes"] + OWN * 512)
    check("resident arenas", python["arena_bytes"], ledger["parts"]["python_live"] + ledger["parts"]["held_arena"],
          python["arena_bytes"])
    check("arenas by fill", python["arenas"], sum(fill["arenas"] for fill in python["fill"]), python["arenas"])
    check("held by fill", ledger["parts"]["held_arena"] * .98, sum(fill["held_bytes"] for fill in python["fill"]),
          ledger["parts"]["held_arena"] * 1.02 + MIB)
    check("blocks looked at", python["sparse_blocks"], python["seen_blocks"], python["sparse_blocks"])
    if len(sys.argv) > 3:
        sparse = python["sparse_bytes"] - python["sparse_live_bytes"]
        most = max(keeper["cumulative_bytes"] for keeper in python["keepers"])
        named = []
        for keeper in python["keepers"]:
            named.append(keeper)
            if keeper["cumulative_bytes"] >= most * .9:
                break
        check("of what sparse arenas hold, theirs", sparse * .9 - 2 * MIB, named[-1]["cumulative_bytes"], sparse)
        blocks = {keeper["type"]: keeper["blocks"] for keeper in named}
        check("objects of its type", truth["kept"] * .9 - 20, blocks.get(sys.argv[3], 0), truth["kept"] * 1.2 + (40 if truth["case"] == "csv" else 20))     # pandas has some of that type there, too
        loss = sum(keeper["loss_bytes"] for keeper in named)
        # Others of the type stay, and so may their arenas.
        others = max(0, blocks.get(sys.argv[3], 0) - truth["kept"]) / max(1, blocks.get(sys.argv[3], 0))
        check("what RSS lost", loss * (.98 - others) - MIB, truth["lost"], loss * 1.02 + MIB)
        print("predicted %.1f, lost %.1f MiB (%+.1f %%); %d kept, seen %s" % (
            loss / MIB, truth["lost"] / MIB, 100 * (loss - truth["lost"]) / truth["lost"], truth["kept"], blocks))
    print("\n".join(wrong))
    return len(wrong) != 0


sys.exit(main())
