# SPDX-License-Identifier: MIT
"""The demo's subject: a pandas script whose memory does not come back after `del`.

usage: demo.py KERNEL-FILE [ROWS]

Makes a CSV with two string columns, reads it, groups it, keeps a few strings, drops the rest.  What the kernel
says of the process is written to KERNEL-FILE, a line `phase VmRSS-bytes VmHWM-bytes` for each phase.
"""
import random
import sys


def kernel_says(phase, out):
    fields = dict(line.split(":", 1) for line in open("/proc/self/status") if line.startswith(("VmRSS", "VmHWM")))
    rss, peak = (int(fields[key].split()[0]) * 1024 for key in ("VmRSS", "VmHWM"))
    out.write(f"{phase} {rss} {peak}\n")
    out.flush()


def write_csv(path, rows):
    rng = random.Random(4711)
    cities = [f"city-{n:03d}" for n in range(200)]
    with open(path, "w") as csv:
        csv.write("customer,city,amount\n")
        for row in range(rows):
            csv.write(f"customer-{row:08d},{rng.choice(cities)},{rng.randrange(100000) / 100}\n")


def load(path):
    import pandas
    return pandas.read_csv(path)


def main():
    rows = int(sys.argv[2]) if len(sys.argv) > 2 else 400_000
    with open(sys.argv[1], "w") as kernel:
        kernel_says("start", kernel)
        write_csv("demo.csv", rows)
        frame = load("demo.csv")
        kernel_says("loaded", kernel)
        totals = frame.groupby("city")["amount"].sum()
        best = list(frame["customer"][:: max(1, rows // 100)])
        del frame
        kernel_says("after-del", kernel)
        print(f"{len(totals)} cities, {totals.sum():.2f} in all; kept {len(best)} customer names")
        kernel_says("end", kernel)


main()
