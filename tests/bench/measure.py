# SPDX-License-Identifier: MIT
"""Runs a command in one of several ways, under one of several profilers, and says what it cost."""
import copy
import json
import os
import platform
import re
import shutil
import subprocess

LIBRARIES = ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib"]
SAMPLE = 512 * 1024


def library(name):
    return next((os.path.join(folder, name) for folder in LIBRARIES if os.path.exists(os.path.join(folder, name))), None)


class Mode:
    """A way to run a command: a prefix, an environment, and the files it leaves in the directory `out`.

    share: the mode takes part in every share-th round.  slow: it runs on inputs of a tenth, beside bare runs of those.
    only: a predicate on workloads."""

    def __init__(self, name, what, prefix=(), environment=None, share=1, slow=False, only=None):
        self.name, self.what, self.prefix, self.environment = name, what, list(prefix), environment or {}
        self.share, self.slow, self.only = share, slow, only

    def run(self, workload, out, options, command_prefix=()):
        shutil.rmtree(out, ignore_errors=True)
        os.makedirs(out)
        place = lambda text: text.replace("OUT", out)
        variables = dict(workload.environment)
        variables.update({key: place(value) for key, value in self.environment.items()})
        prefix = [place(word) for word in self.prefix]
        command = prefix + (workload.command[1:] if prefix[:1] == workload.command[:1] else workload.command)
        if command_prefix:                              # the variables are for the command, not for the prefix
            command = list(command_prefix) + ["env"] + [f"{key}={value}" for key, value in variables.items()] + command
            variables = {}
        return measure(command, variables, workload, options, out)


def measure(command, variables, workload, options, out):
    """One run through the launcher, which alone sets `variables`: the costs of the command's whole process tree."""
    figures, errors = out + ".figures", out + ".stderr"
    lines = "\n".join(f"{key}={value}" for key, value in variables.items())
    with open(errors, "w") as err:
        process = subprocess.Popen([os.path.join(options.build, "tests/bench/launch"), figures] + command,
                                   env=dict(os.environ, LAUNCH_ENV=lines), cwd=workload.directory,
                                   stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=err)
        try:
            if workload.drive:
                workload.drive(workload)
        except BaseException:
            process.terminate()
            raise
        process.wait()
    with open(figures) as text:
        cpu, wall, rss, status, user = text.read().split()
    if int(status) != workload.status:
        with open(errors) as text:
            raise RuntimeError(f"{command[:6]}: exit {status}: {text.read()[-500:]}")
    return {"cpu": float(cpu), "user": float(user), "wall": float(wall), "rss": int(rss)}


def size_of(directory):
    return sum(os.stat(os.path.join(root, name)).st_blocks * 512
               for root, _, names in os.walk(directory) for name in names)


# ---- the ways --------------------------------------------------------------------------------------

def heapmark(build, options, name="heapmark", what="heapmark, exact", **rest):
    environment = {"LD_PRELOAD": os.path.join(build, ".libs/libheapmark.so"), "HEAPMARK_OUT": "OUT/%e.%p.hmk"}
    if options:
        environment["HEAPMARK_OPTIONS"] = options
    return Mode(name, what, environment=environment, **rest)


def has_memray(python):
    return os.path.exists(python) and subprocess.run([python, "-c", "import memray"], capture_output=True).returncode == 0


def jemalloc_can_profile(path):
    answer = subprocess.run(["/bin/true"], env={"LD_PRELOAD": path, "MALLOC_CONF": "prof:true,prof_final:false"},
                            capture_output=True, text=True)
    return "Invalid conf" not in answer.stderr


def all_modes(build, python="/usr/bin/python3"):
    """The modes that this machine has, and {name: why} of those that it has not."""
    modes, absent = [Mode("bare", "the program alone")], {}

    def offer(name, what, present, reason, **rest):
        if present:
            modes.append(Mode(name, what, **rest))
        else:
            absent[name] = reason

    forward = os.path.join(build, "tests/bench/.libs/libforward.so")
    offer("forward", "a preload that only calls the next allocator", os.path.exists(forward), "make check TESTS= builds it",
          environment={"LD_PRELOAD": forward})
    modes.append(heapmark(build, ""))
    modes.append(heapmark(build, f"sample={SAMPLE}", "heapmark-sampled", "heapmark, sample=512K"))
    preload = library("heaptrack/libheaptrack_preload.so")
    offer("heaptrack-in", "heaptrack's part in the process, writing to a file", preload, "heaptrack is not installed",
          environment={"LD_PRELOAD": preload, "DUMP_HEAPTRACK_OUTPUT": "OUT/raw"}, share=2)
    offer("heaptrack", "heaptrack as shipped, with its interpreter process", shutil.which("heaptrack"), "heaptrack is not installed",
          prefix=["heaptrack", "-o", "OUT/shipped"], share=4)
    tcmalloc = library("libtcmalloc.so.4")
    reason = "Debian's libgoogle-perftools4 is not installed"
    offer("tcmalloc", "gperftools' allocator alone", tcmalloc, reason, environment={"LD_PRELOAD": tcmalloc}, share=3)
    offer("gperftools-sampled", "gperftools, TCMALLOC_SAMPLE_PARAMETER=524288", tcmalloc, reason,
          environment={"LD_PRELOAD": tcmalloc, "TCMALLOC_SAMPLE_PARAMETER": str(SAMPLE)}, share=3)
    offer("gperftools-exact", "gperftools, HEAPPROFILE", tcmalloc, reason,
          environment={"LD_PRELOAD": tcmalloc, "HEAPPROFILE": "OUT/gperftools"}, slow=True)
    jemalloc = library("libjemalloc.so.2")
    reason = "Debian's libjemalloc2 is not installed"
    offer("jemalloc", "jemalloc alone", jemalloc, reason, environment={"LD_PRELOAD": jemalloc}, share=3)
    profiles = bool(jemalloc) and jemalloc_can_profile(jemalloc)
    if jemalloc and not profiles:
        reason = "the installed jemalloc is built without --enable-prof"
    offer("jemalloc-sampled", "jemalloc, prof:true,lg_prof_sample:19", profiles, reason,
          environment={"LD_PRELOAD": jemalloc, "MALLOC_CONF": "prof:true,lg_prof_sample:19,prof_final:true,prof_prefix:OUT/je"}, share=3)
    offer("jemalloc-exact", "jemalloc, prof:true,lg_prof_sample:0", profiles, reason,
          environment={"LD_PRELOAD": jemalloc, "MALLOC_CONF": "prof:true,lg_prof_sample:0,prof_final:true,prof_prefix:OUT/je"}, slow=True)
    offer("memray", "memray run", has_memray(python), "memray is not installed (Debian 12 has no package of it)",
          prefix=[python, "-m", "memray", "run", "-q", "-o", "OUT/memray.bin"], share=2,
          only=lambda workload: workload.command[0] == python and "-c" not in workload.command)
    return modes, absent


# ---- what a recording says -------------------------------------------------------------------------

def report(build, path, *words):
    answer = subprocess.run([os.path.join(build, "heapmark"), "report", "--json", *words, path], capture_output=True, text=True)
    return json.loads(answer.stdout) if answer.returncode == 0 else None


def largest(build, out):
    """(file name, report) of the recording with the most allocations: a run may leave several."""
    best, found = None, None
    for name in os.listdir(out):
        said = report(build, os.path.join(out, name), "--sort", "total", "-n", "1") if name.endswith(".hmk") else None
        if said and (found is None or said["heap"]["allocations"] > found["heap"]["allocations"]):
            best, found = name, said
    return best, found


# ---- instructions ----------------------------------------------------------------------------------

def instructions(mode, workload, out, options):
    """Of the whole tree, user space: they repeat where times do not."""
    log = out + ".callgrind"
    for name in os.listdir(os.path.dirname(log)):
        if name.startswith(os.path.basename(log)):
            os.unlink(os.path.join(os.path.dirname(log), name))
    valgrind = ["valgrind", "--tool=callgrind", "--trace-children=yes", "--callgrind-out-file=/dev/null",
                f"--log-file={log}.%p"]
    if "HEAPMARK_OUT" in mode.environment:
        # Valgrind is some 50 times slower, and the clock is not: the timeline's ticks would weigh 50 times what they do.
        mode = copy.copy(mode)
        settings = [mode.environment.get("HEAPMARK_OPTIONS"), "timeline_ms=500"]
        mode.environment = dict(mode.environment, HEAPMARK_OPTIONS=":".join(filter(None, settings)))
    mode.run(workload, out, options, valgrind)
    total = 0
    for name in os.listdir(os.path.dirname(log)):
        if name.startswith(os.path.basename(log)):
            with open(os.path.join(os.path.dirname(log), name)) as lines:
                found = re.findall(r"Collected : (\d+)", lines.read())
            total += int(found[-1]) if found else 0
    return total


def machine():
    model = "unknown processor"
    with open("/proc/cpuinfo") as lines:
        for line in lines:
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    with open("/proc/meminfo") as lines:
        memory = int(lines.readline().split()[1]) / 2**20
    with open("/etc/os-release") as lines:
        release = dict(line.rstrip().replace('"', "").split("=", 1) for line in lines if "=" in line)
    return (f"{os.cpu_count()} x {model}, {memory:.0f} GiB, {release.get('PRETTY_NAME', 'Linux')}, kernel {platform.release()}, "
            f"{platform.libc_ver()[0]} {platform.libc_ver()[1]}")
