# SPDX-License-Identifier: MIT
"""The demo's subject: a pandas script whose memory does not come back after `del`.

usage: demo.py KERNEL-FILE [ROWS]

Makes a CSV with two string columns, reads it, groups it, keeps a few strings and drops the rest.  What the kernel says
of the process at each of its instants is written to KERNEL-FILE, as `label VmRSS-bytes VmHWM-bytes`; the same instants
are snapshots of the recording.  Without heapmark it runs as well.
"""
import random
import sys

import heapmark


def instant(label, kernel):
    with open("/proc/self/status") as status:
        fields = dict(line.split(":", 1) for line in status if line.startswith(("VmRSS", "VmHWM")))
    heapmark.snapshot(label)
    rss, peak = (int(fields[key].split()[0]) * 1024 for key in ("VmRSS", "VmHWM"))
    kernel.write(f"{label} {rss} {peak}\n")


def write_csv(path, rows):
    rng = random.Random(4711)
    cities = [f"city-{n:03d}" for n in range(200)]
    with open(path, "w") as csv:
        csv.write("customer,city,amount\n")
        for row in range(rows):
            csv.write(f"customer-{row:08d},{rng.choice(cities)},{rng.randrange(100000) / 100}\n")


def analyse(path):
    import pandas

    frame = pandas.read_csv(path)
    totals = frame.groupby("city")["amount"].sum()
    kept = list(frame["customer"][:: max(1, len(frame) // 100)])
    return frame, totals, kept


def main():
    rows = int(sys.argv[2]) if len(sys.argv) > 2 else 400_000
    write_csv("demo.csv", rows)
    with open(sys.argv[1], "w") as kernel:
        instant("start", kernel)
        frame, totals, kept = analyse("demo.csv")
        instant("loaded", kernel)
        del frame
        instant("after-del", kernel)
        print(f"{len(totals)} cities, {totals.sum():.2f} in all; {len(kept)} of {rows} customer names kept")
        given_back = heapmark.trim()
        instant("trimmed", kernel)
    if given_back:
        print(f"malloc_trim(0) returned {given_back['returned'] / 2**20:.1f} MiB; "
              f"the forecast was {given_back['forecast'] / 2**20:.1f} MiB")


main()
