# SPDX-License-Identifier: MIT
"""docs/performance.md and the table of README.md from the figures of tests/bench/run."""
import os
import re

import goals

MIB = 2**20
HERE = os.path.dirname(os.path.abspath(__file__))


def mib(size):
    return f"{size / MIB:.1f}"


def times(summary):
    return f"{summary['median']:.2f} ({summary['min']:.2f}-{summary['max']:.2f})"


def count(number):
    return f"{number:,}" if number else "few"


def put_head(page, results):
    page.write("# Performance\n\nWritten by `tests/bench/run --markdown docs/performance.md`; not to be edited by hand.\n\n")
    page.write(f"Measured on {results['date']} with {results['machine']}: {results['rounds']} rounds, "
               f"{results['seconds'] / 60:.0f} minutes.\n\n")
    page.write("""- *CPU* is user + system time of the whole process tree.  Every round runs every mode once, in an order that rotates;
  a ratio is taken within a round, so that a slow minute of the machine falls on all modes.  Shown: median (min-max).
- *ns* is what an allocation with its free costs more than bare, in thread time: added CPU / allocations.
- *RSS* is the largest process's peak.  *file* is what the profiler left on disk.
- Goals are those that the project set itself against heaptrack 1.4's figures before it was written.

""")
    page.write("| mode | what |\n|---|---|\n")
    for name, what in results["modes"].items():
        page.write(f"| {name} | {what} |\n")
    for name, why in results["absent"].items():
        page.write(f"| ({name}) | absent: {why} |\n")


def put_goals(page, results):
    page.write("\n## Goals\n\n| goal | what | measured | |\n|---|---|---|---|\n")
    missed = []
    for verdict in goals.judge(results):
        met = verdict.met()
        page.write(f"| {verdict.goal} | {verdict.text} | {verdict.measured()} | "
                   f"{'met' if met else '**missed**' if met is False else '-'} |\n")
        if met is False:
            missed.append(verdict.goal)
    put_reasons(page, missed)


def put_reasons(page, missed):
    """The reasons, found by profile, are the one part of the page that people write: tests/bench/reasons.md."""
    path = os.path.join(HERE, "reasons.md")
    if not missed or not os.path.exists(path):
        return
    with open(path) as text:
        sections = dict(re.findall(r"^## (\S+)\n\n?(.*?)(?=^## |\Z)", text.read(), re.M | re.S))
    known = [goal for goal in missed if goal in sections]
    if known:
        page.write("\n### What falls short, and why\n\n")
        for goal in known:
            page.write(f"**{goal}.** {sections[goal].strip()}\n\n")


def put_rows(page, table, note=""):
    page.write("| workload | mode | CPU x bare | ns | wall x bare | peak RSS, MiB | file, MiB |\n|---|---|---|---|---|---|---|\n")
    for name, workload in table.items():
        for mode, row in workload["rows"].items():
            bare = mode == "bare"
            cost = f"{row['cpu']['median']:.2f} s" if bare else times(row["ratio"])
            ns = "" if row["ns"] is None or bare else f"{row['ns']:.0f}"
            wall = f"{row['wall']['median']:.2f} s" if bare else f"{row['wall_ratio']['median']:.2f}"
            page.write(f"| {name if bare else ''} | {mode} | {cost} | {ns} | {wall} | {mib(row['rss']['median'])} | "
                       f"{mib(row['file']) if row['file'] else ''} |\n")


def put_workloads(page, results):
    page.write("\n## The workloads\n\n| name | what | allocations | live blocks at the peak | distinct stacks | "
               "report after exit, s |\n|---|---|---|---|---|---|\n")
    for name, workload in results["workloads"].items():
        seconds = workload.get("report_seconds")
        page.write(f"| {name} | {workload['what']} | {count(workload['pairs'])} | {count(workload['peak_blocks'])} | "
                   f"{count(workload['sites'])} | {'' if seconds is None else '%.2f' % seconds} |\n")
    for name, need in results["skipped"].items():
        page.write(f"| ({name}) | not run: needs {need} | | | | |\n")


def put_instructions(page, results):
    if not results["instructions"]:
        return
    modes = [mode for mode in results["modes"] if any(mode in counted["ratio"] for counted in results["instructions"].values())]
    page.write("\n## Instructions\n\nUnder callgrind, which repeats where a clock does not.  What a larger run of the "
               "program takes more than a smaller one,\nso that the start is not in it: per allocation with its free, and over "
               "bare.\n\n")
    page.write(f"| program | bare | {' | '.join(modes)} |\n|---|---|{'---|' * len(modes)}\n")
    for name, counted in results["instructions"].items():
        cells = []
        for mode in modes:
            per_pair, ratio = (counted.get("per_pair") or {}).get(mode), counted["ratio"].get(mode)
            cells.append("" if ratio is None else f"x {ratio:.3f}" if per_pair is None else f"{per_pair:+.1f} (x {ratio:.3f})")
        bare = f"{counted['bare_per_pair']:.0f} a pair" if counted.get("bare_per_pair") else f"{counted['bare'] / 1e6:.0f} M"
        page.write(f"| {name} | {bare} | {' | '.join(cells)} |\n")


def put_paired(page, results):
    if not results["paired"]:
        return
    page.write("\n## Small differences: runs in pairs\n\nEach beside a bare run, in alternating order; the interval holds the "
               "median with 95 % certainty.\n\n| workload | mode | pairs | CPU x bare | 95 % | user x bare | wall, ms more |\n"
               "|---|---|---|---|---|---|---|\n")
    for name, paired in results["paired"].items():
        for mode, row in paired["rows"].items():
            page.write(f"| {name} | {mode} | {paired['rounds']} | {row['ratio']['median']:.3f} | {row['ratio']['low']:.3f}-"
                       f"{row['ratio']['high']:.3f} | {row['user_ratio']['median']:.3f} | {row['added_wall'] * 1e3:+.2f} |\n")


def markdown(path, results):
    with open(path + ".part", "w") as page:
        put_head(page, results)
        put_goals(page, results)
        put_workloads(page, results)
        page.write("\n## Costs\n\n")
        put_rows(page, results["workloads"])
        if results["small"]:
            page.write("\n## Exact profilers that are much slower\n\nOn inputs of a tenth, beside bare and heapmark on the same: "
                       "start-up weighs more here.\n\n")
            put_rows(page, results["small"])
        put_instructions(page, results)
        put_paired(page, results)
    os.replace(path + ".part", path)


# ---- README.md -------------------------------------------------------------------------------------

README = [("jq", "jq on JSON"), ("sqlite3", "sqlite3, in memory"), ("redis", "redis under load"), ("stl", "C++ containers"),
          ("cc1plus", "g++ -O1"), ("git-log", "git log -p"), ("replace-2t", "malloc stress, 2 threads"), ("pandas", "pandas"),
          ("pandas-malloc", "pandas, PYTHONMALLOC=malloc")]


def readme(results):
    """The rows of README's table of costs."""
    lines = ["| program | heapmark | heapmark, sampled | heaptrack, in-process part | heaptrack as shipped |", "|---|---|---|---|---|"]
    for name, what in README:
        rows = results["workloads"].get(name, {}).get("rows")
        if not rows:
            continue
        cells = []
        for mode in ("heapmark", "heapmark-sampled", "heaptrack-in", "heaptrack"):
            row = rows.get(mode)
            sampled = mode == "heapmark-sampled"
            cells.append("-" if not row else f"{row['ratio']['median']:.2f} x CPU" + ("" if sampled else f", {row['ns']:.0f} ns"))
        lines.append(f"| {what} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def rewrite_readme(path, results):
    """Puts the rows in the place of the table that begins with `| program | heapmark`."""
    with open(path) as text:
        before = text.read()
    after, count = re.subn(r"^\| program \| heapmark.*\n(?:\|.*\n)+", lambda _: readme(results), before, flags=re.M)
    if count != 1:
        raise RuntimeError(f"{path} has no table of costs")
    with open(path, "w") as text:
        text.write(after)
