# SPDX-License-Identifier: MIT
"""heapmark.py from a script's side; says what the calls returned, with and without heapmark."""
import heapmark


@heapmark.phase
def load():
    return [bytes(1000) for _ in range(20000)]


@heapmark.phase("count")
def count(blocks):
    """Its name stays."""
    return len(blocks)


print("active", heapmark.active())
with heapmark.phase("outer"):
    blocks = load()
    print("count", count(blocks), count.__name__, load.__name__)
print("mark", heapmark.mark("loaded \u2713"))
print("odd label", heapmark.mark("\udcff"))
before = heapmark.stats()
del blocks
result = heapmark.trim()
after = heapmark.stats()
print("snapshot", heapmark.snapshot("end"))
if result is None:
    print("trim None", before, after)
else:
    print("trim", sorted(result), result["rss_before"] - result["rss_after"] == result["returned"])
    print("returned", result["returned"])
    print("forecast", result["forecast"])
    print("stats", sorted(after), after["live_bytes"] < before["live_bytes"] - 19000 * 1000)
try:
    with heapmark.phase("fails"):
        raise KeyError("passes through")
except KeyError as error:
    print("raised", error)
