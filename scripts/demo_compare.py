# SPDX-License-Identifier: MIT
"""Compares a report's RSS figures with what the kernel told the profiled script itself.

usage: heapmark report --json FILE | demo_compare.py KERNEL-FILE      exit status 1 when they disagree
"""
import json
import sys

# The kernel rounds: it adds up per-processor counters of pages lazily.  And a few pages go by between the two readings.
BOUND_SHARE = 0.01
BOUND_BYTES = 512 * 1024


def main():
    report = json.load(sys.stdin)
    censuses = {ledger["label"]: ledger for ledger in report["ledgers"] if ledger["kind"] == "request"}
    rows = []
    peak = 0
    with open(sys.argv[1]) as kernel:
        for line in kernel:
            label, rss, peak = line.split()
            if label in censuses:
                rows.append((label, int(rss), censuses[label]["rss_bytes"]))
    # heapmark leaves out what its own ledgers took for a moment; the kernel does not.
    rss = report["rss"]
    rows.append(("peak", int(peak), min(max(int(peak), rss["peak_bytes"]), rss["kernel_peak_bytes"])))
    print("RSS by the kernel (the script's own /proc/self/status) and by heapmark, MiB")
    worst, agreed = 0, len(rows) > 1
    for label, kernel_bytes, report_bytes in rows:
        apart = abs(report_bytes - kernel_bytes)
        worst = max(worst, apart)
        agreed = agreed and apart <= max(BOUND_BYTES, kernel_bytes * BOUND_SHARE)
        print(f"  {label:12} {kernel_bytes / 2**20:8.1f} {report_bytes / 2**20:8.1f}")
    open_sums = [ledger for ledger in report["ledgers"] if ledger["sum_bytes"] != ledger["rss_bytes"]]
    print(f"{'they agree' if agreed else 'THEY DISAGREE'}: at most {worst / 2**20:.2f} MiB apart at {len(rows)} instants; "
          f"{len(open_sums) or 'no'} of {len(report['ledgers'])} ledgers differ in sum from VmRSS of their instant")
    return not agreed or bool(open_sums)


sys.exit(main())
