# SPDX-License-Identifier: MIT
"""The programs that tests/bench/run measures.  Inputs are made on the spot, in a scratch directory."""
import os
import shutil
import subprocess
import time

HERE = os.path.dirname(os.path.abspath(__file__))
PYTHON = "/usr/bin/python3"
COUNTED = 50_000                        # pairs that one part is under callgrind


class Workload:
    """A program to run.  `pairs`: its allocations, where it knows them.  `countable`: for callgrind, (directory, part) to the
    same program doing part * COUNTED pairs.  `shipped` False: heaptrack's interpreter needs 18 GB for it."""

    def __init__(self, name, what, command, directory, needs=(), environment=None, pairs=0, make=None, drive=None,
                 status=0, countable=None, shipped=True, application=False):
        self.name, self.what, self.command, self.directory = name, what, [str(word) for word in command], directory
        self.needs, self.environment, self.pairs = needs, environment or {}, pairs
        self.make, self.drive, self.status, self.countable = make, drive, status, countable
        self.shipped, self.application = shipped, application

    def missing(self):
        needs = list(self.needs) + self.command[:1]
        return ", ".join(need for need in needs if not shutil.which(need) and not os.path.exists(need))

    def prepare(self):
        if self.make:
            self.make()


def program(build, name):
    return os.path.join(build, "tests/bench", name)


def stress(kind, threads, pairs, depth, what):
    def make(build, scratch, scale):
        each = max(500, int(pairs * scale) // 500 * 500)

        def counted(directory, part):
            return Workload(f"{kind}-{threads}t", what, [program(build, "stress"), kind, threads, COUNTED * part, depth],
                            directory, pairs=COUNTED * part * threads)
        return Workload(f"{kind}-{threads}t", f"{what}, depth {depth + 3}",
                        [program(build, "stress"), kind, threads, each, depth], scratch, pairs=each * threads,
                        countable=counted if threads == 1 else None)
    return make


def bignum(build, scratch, scale):
    pairs_a_round = 2932                # of 40 digits; the program prints it

    def of(rounds, directory):
        return Workload("bignum", "digits of pi with every intermediate number a tiny block of its own",
                        [program(build, "bignum"), 40, rounds], directory, pairs=pairs_a_round * rounds, countable=counted)

    def counted(directory, part):
        return of(COUNTED * part // pairs_a_round, directory)
    return of(int(4000 * scale), scratch)


def jq(build, scratch, scale):
    rows = int(45_000 * scale)
    path = os.path.join(scratch, f"numbers-{rows}.json")

    def write():
        with open(path, "w") as out:
            out.write("[" + ",\n".join(
                f'{{"id": {i}, "name": "name-{i * 7919 % 10007}", "tags": ["a{i % 13}", "b{i % 7}"], "v": {i * 37 % 1000 / 8}}}'
                for i in range(rows)) + "]\n")
    script = "group_by(.tags[0]) | map({k: .[0].tags[0], n: length, s: (map(.v) | add), t: (map(.name) | unique | length)}), (.. | tostring | length)"
    return Workload("jq", f"group, unique, recurse over {rows} JSON objects", ["jq", "-c", script, path], scratch, make=write,
                    application=True)


def sqlite(build, scratch, scale):
    rows = int(120_000 * scale)
    path = os.path.join(scratch, f"script-{rows}.sql")

    def write():
        with open(path, "w") as out:
            out.write(f"""
create table t(id integer primary key, name text, v real);
with recursive n(i) as (select 1 union all select i + 1 from n where i < {rows})
  insert into t select i, 'name-' || (i * 7919 % 10007), i * 37 % 1000 / 8.0 from n;
create index by_name on t(name);
select count(*), sum(length(g)) from (select name, group_concat(id) g, avg(v) from t group by name);
select count(*) from t a join t b on a.name = b.name where a.id < 3000;
update t set name = upper(name) || '-x' where id % 3 = 0;
select sum(length(printf('%d-%s', id, name))) from t;
""")
    return Workload("sqlite3", f"in-memory tables of {rows} rows", ["sqlite3", ":memory:", f".read {path}"], scratch, make=write,
                    application=True)


def pandas(allocator):
    def make(build, scratch, scale):
        rows = int(250_000 * scale)
        path = os.path.join(scratch, f"rows-{rows}.csv")
        command = [PYTHON, os.path.join(HERE, "pandas_csv.py"), path, rows]

        def write():
            if not os.path.exists(path):
                subprocess.run([str(word) for word in command], check=True)
        environment = {"PYTHONMALLOC": allocator} if allocator else {}
        return Workload("pandas-malloc" if allocator else "pandas",
                        f"read_csv, str.split, groupby, del over {rows} rows", command, scratch,
                        needs=["/usr/lib/python3/dist-packages/pandas"], environment=environment, make=write,
                        application=True)
    return make


def objects(build, scratch, scale):
    script = f"import numpy as n\nfor i in range(3):\n a = n.arange({int(1_500_000 * scale)}).astype(object)\n del a"
    return Workload("objarray", "numpy object arrays made and deleted", [PYTHON, "-c", script], scratch,
                    needs=["/usr/lib/python3/dist-packages/numpy"], application=True)


def stl(build, scratch, scale):
    return Workload("stl", "C++ containers, shared_ptr, exceptions", [program(build, "stl"), int(160 * scale)], scratch,
                    application=True)


def compiler(build, scratch, scale):
    source = os.path.join(HERE, "stl.cc")
    preprocessed = os.path.join(scratch, "stl.ii")
    cc1plus = subprocess.run(["g++", "-print-prog-name=cc1plus"], capture_output=True, text=True).stdout.strip() \
        if shutil.which("g++") else "cc1plus"

    def write():
        subprocess.run(["g++", "-E", source, "-o", preprocessed], check=True)
    return Workload("cc1plus", "g++'s compiler proper on a file with the standard library",
                    [cc1plus, "-quiet", "-fpreprocessed", "-O1", preprocessed, "-o", "/dev/null"], scratch, make=write, shipped=False,
                    application=True)


def git_log(build, scratch, scale):
    commits = int(1500 * scale)
    repository = os.path.join(scratch, f"repository-{commits}")

    def write():
        if os.path.exists(repository):
            return
        stream = []
        for i in range(commits):
            text = "".join(f"line {n} {(n * 31 + i // (n % 17 + 1)) % 997}\n" for n in range(300))
            message = f"change {i}"
            stream.append(f"commit refs/heads/main\ncommitter A <a@example.org> {1700000000 + i} +0000\n"
                          f"data {len(message)}\n{message}\nM 100644 inline dir{i % 5}/file{i % 23}\ndata {len(text)}\n{text}\n")
        subprocess.run(["git", "init", "-q", repository], check=True)
        subprocess.run(["git", "-C", repository, "fast-import", "--quiet"], input="".join(stream).encode(), check=True)
    return Workload("git-log", f"git log --stat -p of {commits} commits",
                    ["git", "--no-pager", "-C", repository, "log", "--stat", "-p", "main"], scratch, make=write,
                    application=True)


def redis(build, scratch, scale):
    socket = os.path.join(scratch, "redis.socket")
    requests = str(int(200_000 * scale))

    def drive(workload):
        for _ in range(200):
            if subprocess.run(["redis-cli", "-s", socket, "ping"], capture_output=True).returncode == 0:
                break
            time.sleep(0.05)
        else:
            raise RuntimeError("redis-server does not answer")
        subprocess.run(["redis-benchmark", "-s", socket, "-q", "-n", requests, "-P", "16", "-r", "50000", "-d", "100",
                        "-t", "set,lpush,hset,lpop"], check=True, capture_output=True)
        subprocess.run(["redis-cli", "-s", socket, "shutdown", "nosave"], capture_output=True)
    return Workload("redis", "redis-server under a pipelined benchmark; the server's cost alone",
                    ["redis-server", "--port", 0, "--unixsocket", socket, "--save", "", "--loglevel", "warning"],
                    scratch, needs=["redis-cli", "redis-benchmark"], drive=drive, application=True)


def throws(build, scratch, scale):
    def of(count, directory):
        return Workload("throws", f"{count} C++ exceptions through 5 frames", [program(build, "throws"), count], directory,
                        pairs=count, countable=counted)

    def counted(directory, part):
        return of(10_000 * part, directory)
    return of(int(1_000_000 * scale), scratch)


def node(build, scratch, scale):
    return Workload("node", "buffers, JSON, compression, a worker",
                    ["node", os.path.join(HERE, "buffers.js"), int(1000 * scale)], scratch)


def java(build, scratch, scale):
    return Workload("java", "deflaters, direct buffers and threads of a JVM",
                    ["java", "-Xmx64m", os.path.join(HERE, "Churn.java"), int(20_000 * scale)], scratch, needs=["javac"])


def nothing(build, scratch, scale):
    return Workload("true", "a program that allocates nothing: start and end", ["/bin/true"], scratch)


ALL = [
    bignum,
    stress("loop", 1, 6_000_000, 5, "malloc, free from the thread cache"),
    stress("replace", 1, 4_000_000, 5, "random replacement of 8..1000 bytes"),
    stress("replace", 2, 3_000_000, 5, "the same in two threads"),
    stress("remote", 2, 2_000_000, 3, "every block is freed by another thread"),
    stress("transfer", 2, 2_500_000, 4, "batches, half of them swapped between threads"),
    jq, sqlite, pandas(""), pandas("malloc"), objects, stl, compiler, git_log, redis, throws, nothing,
]
PART_OF_ROUNDS = {throws: 0.2}          # of the whole input: it is measured in pairs of runs
