# SPDX-License-Identifier: MIT
"""The goals of the project's performance, each judged on the figures that tests/bench/run measured."""
import statistics

MIB = 2**20


class Verdict:
    """Figures of one goal, each beside its limit.  A goal is met when all are; without figures it is not judged."""

    def __init__(self, goal, text):
        self.goal, self.text, self.figures = goal, text, []

    def figure(self, name, value, limit, form="{:.2f}", note=""):
        if value is not None:
            self.figures.append((name, value, limit, form, note))

    def met(self):
        return all(value <= limit for _, value, limit, _, _ in self.figures) if self.figures else None

    def measured(self):
        words = []
        for name, value, limit, form, note in self.figures:
            over = value > limit
            text = f"{name + ' ' if name else ''}{form.format(value)} (<= {form.format(limit)}{note})"
            words.append(f"**{text}**" if over else text)
        return ", ".join(words) or "not measured"


def row(results, workload, mode, stage="workloads"):
    return results[stage].get(workload, {}).get("rows", {}).get(mode)


def value(results, workload, mode, *keys, stage="workloads"):
    found = row(results, workload, mode, stage)
    for key in keys:
        found = found.get(key) if found is not None else None
    return found


def shares(results, other, least=0.02):
    """heapmark's added CPU over another's, by workload, where the other's can be told from noise."""
    found = {}
    for name, workload in results["workloads"].items():
        rows = workload["rows"]
        if name != "true" and "heapmark" in rows and other in rows:
            added = rows[other]["added_cpu"]
            if added > max(least, 0.05 * rows["bare"]["cpu"]["median"]):
                found[name] = rows["heapmark"]["added_cpu"] / added
    return found


def exact_cpu(results):
    verdict = Verdict("E1", "exact: added CPU over heaptrack's: median <= 0.30 of its in-process part, <= 0.12 as shipped, "
                            "no workload above 0.5")
    for other, limit, word in (("heaptrack-in", 0.30, "in-process"), ("heaptrack", 0.12, "shipped")):
        found = shares(results, other)
        if found:
            verdict.figure(f"{word}: median of {len(found)}", statistics.median(found.values()), limit)
    found = shares(results, "heaptrack-in")
    for name in sorted(found, key=found.get, reverse=True)[:1]:
        verdict.figure(f"worst, {name},", found[name], 0.5)
    above = [f"{name} {share:.2f}" for name, share in sorted(found.items()) if share > 0.5]
    if len(above) > 1:
        verdict.figure(f"workloads above 0.5 ({', '.join(above)}):", len(above), 0, "{:.0f}")
    return verdict


def exact_one_thread(results):
    verdict = Verdict("E2", "exact, one thread: ns per malloc and free")
    for name, limit in (("bignum", 70), ("loop-1t", 65), ("replace-1t", 67), ("jq", 150), ("redis", 110), ("cc1plus", 200),
                        ("pandas-malloc", 280)):
        verdict.figure(name, value(results, name, "heapmark", "ns"), limit, "{:.0f}")
    return verdict


def exact_two_threads(results):
    verdict = Verdict("E3", "exact, two threads: thread-ns per pair, and over one thread's")
    one, two = (value(results, f"replace-{n}t", "heapmark", "ns") for n in (1, 2))
    if one and two:
        verdict.figure("replace, 2 threads over 1,", two / one, 1.3)
    for name, limit in (("replace-2t", 150), ("remote-2t", 125)):
        verdict.figure(name, value(results, name, "heapmark", "ns"), limit, "{:.0f}")
    return verdict


def exact_wall(results):
    verdict = Verdict("E4", "exact: wall time of applications over bare")
    for name, limit in (("jq", 1.15), ("git-log", 1.15), ("cc1plus", 1.3), ("redis", 1.35)):
        verdict.figure(name, value(results, name, "heapmark", "wall_ratio", "median"), limit)
    return verdict


def python_cpu(results):
    verdict = Verdict("E5", "exact, Python frames included, pymalloc: CPU over bare")
    for name in ("pandas", "objarray"):
        verdict.figure(name, value(results, name, "heapmark", "ratio", "median"), 1.05)
    return verdict


def memory(results):
    verdict = Verdict("E6", "memory added, all processes: <= 16 MiB + 32 bytes per live block, never above heaptrack's")
    worst = {"limit": None, "heaptrack": None}
    for name, workload in results["workloads"].items():
        rows = workload["rows"]
        if "heapmark" not in rows:
            continue
        added = rows["heapmark"]["added_rss"]
        limit = 16 * MIB + 32 * (workload["peak_blocks"] or 0)
        if worst["limit"] is None or added / limit > worst["limit"][1] / worst["limit"][2]:
            worst["limit"] = (name, added, limit)
        if "heaptrack-in" in rows:
            other = max(rows[mode]["added_rss"] for mode in ("heaptrack-in", "heaptrack") if mode in rows)
            if worst["heaptrack"] is None or added - other > worst["heaptrack"][1] - worst["heaptrack"][2]:
                worst["heaptrack"] = (name, added, other)
    for key, word in (("limit", "MiB of the limit, nearest:"), ("heaptrack", "MiB beside heaptrack's, nearest:")):
        if worst[key]:
            name, added, limit = worst[key]
            verdict.figure(f"{word} {name}", added / MIB, limit / MIB, "{:+.1f}")
    return verdict


def recordings(results):
    verdict = Verdict("E7", "recording: bounded by distinct stacks; seconds to the first report, pandas 2, others 0.5")
    slowest = {}
    for name, workload in results["workloads"].items():
        if workload.get("report_seconds") is not None:
            limit = 2.0 if name.startswith("pandas") else 0.5
            seconds = workload["report_seconds"]
            if limit not in slowest or seconds > slowest[limit][1]:
                slowest[limit] = (name, seconds)
    for limit, (name, seconds) in sorted(slowest.items()):
        verdict.figure(f"slowest: {name}", seconds, limit, "{:.2f} s")
    return verdict


def sampled_instructions(results):
    verdict = Verdict("S1", "sampled at 512 KiB: instructions per pair over forward-only's; instructions of applications over bare")
    for name, counted in results["instructions"].items():
        if counted.get("per_pair") and name != "throws":
            per_pair = counted["per_pair"]
            if "forward" in per_pair and "heapmark-sampled" in per_pair:
                verdict.figure(f"{name} forward", per_pair["heapmark-sampled"] - per_pair["forward"], 20, "+{:.1f}")
    for name, counted in results["instructions"].items():
        limit = 1.09 if name == "bignum" else 1.02 if counted["application"] else None
        if limit and "heapmark-sampled" in counted["ratio"]:
            verdict.figure(name, counted["ratio"]["heapmark-sampled"], limit, "{:.3f}")
    return verdict


def sampled_cpu(results):
    verdict = Verdict("S2", "sampled at 512 KiB: CPU over bare, median of pairs of runs")
    for name, paired in results["paired"].items():
        if "heapmark-sampled" in paired["rows"]:
            ratio = paired["rows"]["heapmark-sampled"]["ratio"]
            verdict.figure(name, ratio["median"], 1.05 if name == "replace-2t" else 1.02, "{:.3f}",
                           f"; 95 % within {ratio['low']:.3f}-{ratio['high']:.3f}, {paired['rounds']} pairs")
    return verdict


def start_up(results):
    verdict = Verdict("C1", "a program that allocates nothing: start-up <= +5 ms, <= +3 MiB")
    found = results["paired"].get("true", {}).get("rows", {}).get("heapmark")
    if found:
        verdict.figure("wall", found["added_wall"] * 1e3, 5, "{:+.2f} ms")
        verdict.figure("CPU", found["added_cpu"] * 1e3, 5, "{:+.2f} ms")
        verdict.figure("RSS", found["added_rss"] / MIB, 3, "{:+.1f} MiB")
    return verdict


def exceptions(results):
    verdict = Verdict("throws", "a million C++ exceptions, exact: user time and instructions over bare")
    found = results["paired"].get("throws", {})
    if found.get("rows", {}).get("heapmark"):
        ratio = found["rows"]["heapmark"]["user_ratio"]
        verdict.figure("user, median", ratio["median"], 1.10, "{:.3f}", f"; least {ratio['min']:.3f}, {found['rounds']} pairs")
    counted = results["instructions"].get("throws")
    if counted and "heapmark" in counted["ratio"]:
        verdict.figure("instructions", counted["ratio"]["heapmark"], 1.10, "{:.3f}")
    return verdict


def judge(results):
    return [goal(results) for goal in (exact_cpu, exact_one_thread, exact_two_threads, exact_wall, python_cpu, memory, recordings,
                                       sampled_instructions, sampled_cpu, start_up, exceptions)]
