# SPDX-License-Identifier: MIT
"""Allocates through a C library at known places, and writes what sys._getframe said of the stack at each.

usage: stacks.py LIBRARY TRUTH [COUNT]

TRUTH gets one JSON line a block: [bytes, [[function, file, line], ...]] from the leaf; a function of the library that
called back into Python stands in the list as [name].
"""
import asyncio
import contextlib
import ctypes
import functools
import gc
import io
import json
import operator
import pickle
import re
import signal
import sys
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

library = ctypes.CDLL(sys.argv[1])          # gives up the GIL
holding = ctypes.PyDLL(sys.argv[1])         # keeps it
COUNT = int(sys.argv[3]) if len(sys.argv) > 3 else 300
CALLBACK = ctypes.CFUNCTYPE(None)
for functions in library, holding:
    functions.probe_leak.argtypes = [ctypes.c_size_t]
    functions.probe_deeper.argtypes = [ctypes.c_size_t, ctypes.c_int]
    functions.probe_call.argtypes = functions.probe_sort.argtypes = functions.probe_thread.argtypes = [CALLBACK]

truth = []
size_lock = threading.Lock()
local = threading.local()
next_size = 40000


def stack_of(frame, line=None):
    """Of this thread, with the calls of the library that are in progress between the frames that they lie between."""
    calls = list(getattr(local, "calls", ()))
    result = []
    while frame is not None:
        while calls and calls[-1][0] is frame:
            result.append([calls.pop()[1]])
        code = frame.f_code
        name = code.co_qualname if sys.version_info >= (3, 11) else code.co_name
        result.append([name, code.co_filename, line or frame.f_lineno])
        line, frame = None, frame.f_back
    return result


def probe(functions=library):
    global next_size
    with size_lock:
        size = next_size
        next_size += 1
    truth.append((size, stack_of(sys._getframe(), probe.__code__.co_firstlineno + 6)))
    functions.probe_leak(size)


def probe_deeper(depth):
    global next_size
    with size_lock:
        size = next_size
        next_size += 1
    truth.append((size, stack_of(sys._getframe(), probe_deeper.__code__.co_firstlineno + 6)))
    library.probe_deeper(size, depth)


def through(name, function, functions=library, thread=False):
    """function, called by the library's `name`."""
    if not hasattr(local, "calls"):
        local.calls = []
    if not thread:
        local.calls.append((sys._getframe(), name))
    getattr(functions, name)(CALLBACK(function))
    if not thread:
        local.calls.pop()


# ---- functions of every kind

def plain():
    probe()
    probe(holding)


def nested(depth):
    def inner(value):
        def innermost():
            probe()
        innermost()
        return (lambda: [probe(), value][1])()
    return inner(depth)


def comprehensions():
    [probe() for _ in range(3)]
    {probe() for _ in range(2)}
    {i: probe() for i in range(2)}
    list(probe() for _ in range(2))
    [[probe() for _ in range(2)]
     for _ in range(2)]
    any(probe(holding)
        for _ in range(2))


def over_lines():
    operator.itemgetter(
        0
    )([probe(
    ), 1,
       probe()])
    x = (probe() or
         probe() or
         probe(holding))
    return f"{probe()} and {x!r} {probe()}"


def generator(count):
    for _ in range(count):
        probe()
        yield
    probe()


def delegating():
    yield from generator(2)
    yield probe()


def generators():
    for _ in delegating():
        probe()
    stopped = generator(5)
    next(stopped)
    next(stopped)
    stopped.close()

    def finally_probes():
        try:
            yield
        finally:
            probe()
    closed = finally_probes()
    next(closed)
    closed.close()
    abandoned = finally_probes()
    next(abandoned)
    del abandoned
    thrown = finally_probes()
    next(thrown)
    with contextlib.suppress(ValueError):
        thrown.throw(ValueError)


async def leaf(count):
    probe()
    await asyncio.sleep(0)
    probe()
    return count


async def items():
    for i in range(2):
        probe()
        yield i
        await asyncio.sleep(0)


class Context:
    async def __aenter__(self):
        probe()

    async def __aexit__(self, *error):
        await asyncio.sleep(0)
        probe()


async def coroutines():
    await leaf(1)
    await asyncio.gather(leaf(2), leaf(3), *(leaf(i) for i in range(2)))
    async for _ in items():
        probe()
    [probe() async for _ in items()]
    async with Context():
        probe()
    asyncio.get_running_loop().call_soon(probe)
    await asyncio.sleep(0)
    await asyncio.get_running_loop().run_in_executor(None, probe)


def decorator(function):
    @functools.wraps(function)
    def wrapper(*arguments):
        probe()
        return function(*arguments)
    return wrapper


@decorator
@decorator
def decorated():
    probe()


class Meta(type):
    def __new__(cls, name, bases, members):
        probe()
        return super().__new__(cls, name, bases, members)

    def __call__(cls, *arguments):
        probe()
        return super().__call__(*arguments)


def classes():
    class Made(metaclass=Meta):
        probe()
        value = [probe() for _ in range(2)]

        def __init__(self):
            probe()
            super().__init__()

        @property
        def attribute(self):
            return probe()

        def __getitem__(self, key):
            return probe()

        def __lt__(self, other):
            probe()
            return False

        def __add__(self, other):
            return probe()

        def __iter__(self):
            return generator(1)

        def __enter__(self):
            probe()

        def __exit__(self, *error):
            probe()

        def __getattr__(self, name):
            probe()
            raise AttributeError(name)

        def __hash__(self):
            probe()
            return 1

        def __eq__(self, other):
            probe()
            return True

        def __reduce__(self):
            probe()
            return (int, ())

        def __repr__(self):
            probe()
            return "Made"

        @classmethod
        def of(cls):
            probe()

        @staticmethod
        def static():
            probe()

    made = Made()
    made.attribute, made["key"], made + made, list(made), hasattr(made, "missing")
    with made:
        probe()
    sorted([made, Made(), made])
    {made: 1}[made]
    pickle.dumps(made)
    str([made])
    print(made, file=io.StringIO())
    Made.of(), Made.static()


def callbacks():
    sorted(range(3), key=lambda x: probe() or 0)
    list(map(lambda x: probe(), range(2)))
    list(filter(lambda x: probe(), range(2)))
    functools.reduce(lambda a, b: probe(), range(3))
    functools.partial(probe, holding)()
    re.sub("a", lambda match: probe() or "b", "aXa")
    json.loads('{"a": {"b": 1}}', object_hook=lambda value: probe())
    through("probe_call", probe)
    through("probe_call", probe, holding)
    through("probe_sort", plain)
    through("probe_call", lambda: through("probe_call", lambda: through("probe_sort", nested_in_callback)))
    through("probe_thread", lambda: probe(), thread=True)


def nested_in_callback():
    nested(0)
    probe_deeper(3)
    probe_deeper(40)


class Dying:
    def __init__(self, after=probe):
        self.after = after

    def __del__(self):
        self.after()


def deaths():
    Dying()
    dying = Dying(lambda: [probe() for _ in range(2)])
    dying = None
    kept = [Dying()]
    kept.clear()
    gone = Dying(plain)
    weakref.finalize(gone, probe)
    reference = weakref.ref(gone, lambda _: probe())
    del gone
    cycle = Dying()
    cycle.self = cycle
    del cycle
    gc.collect()
    return dying, reference

def local_dies():
    dying = Dying()
    return 1 if dying else 2


def recursive(depth):
    if depth == 0:
        probe()
        return
    recursive(depth - 1)


def recursive_in_c(depth):
    if depth == 0:
        probe()
    else:
        list(map(recursive_in_c, [depth - 1]))


def recursions():
    for depth in 0, 1, 10, 100, 400:
        recursive(depth)
    for depth in 1, 10, 50:
        recursive_in_c(depth)
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(3000)
    recursive(900)
    sys.setrecursionlimit(limit)
    with contextlib.suppress(RecursionError):
        (lambda f: f(f))(lambda f: f(f))
    probe()


def executed(count):
    """Code objects that die: their addresses are used again."""
    for i in range(count):
        source = "%sdef made():\n%s    probe()\nmade()\n" % ("\n" * (i % 7), "    1\n" * (i % 3))
        exec(compile(source, "file%d.py" % i, "exec"), {"probe": probe})
    for i in range(20):
        eval("probe()", {"probe": probe})
        exec("for i in range(2):\n  probe(); 1\n", {"probe": probe})


def exceptions():
    try:
        probe()
        raise ValueError
    except ValueError:
        probe()
    finally:
        probe()
    for _ in range(2):
        try:
            continue
        finally:
            probe()
    with contextlib.ExitStack() as stack:
        stack.callback(probe)
        probe()


def signals():
    signal.signal(signal.SIGUSR1, lambda number, frame: probe())
    signal.raise_signal(signal.SIGUSR1)
    1 + 1
    signal.signal(signal.SIGUSR1, signal.SIG_DFL)


def traced():
    def tracer(frame, event, argument):
        if event == "call" and frame.f_code is plain.__code__:
            sys.settrace(None)
            probe()
    sys.settrace(tracer)
    plain()
    sys.settrace(None)


def в_потоке(count):
    for i in range(count):
        probe(holding if i % 3 else library)
        nested(i)
        next(generator(1))
        if i % 10 == 0:
            probe_deeper(i % 7)


def threads(count):
    workers = [threading.Thread(target=в_потоке, args=(count,)) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda i: nested(i), range(count)))


def main():
    plain()
    nested(1)
    comprehensions()
    over_lines()
    generators()
    asyncio.run(coroutines())
    decorated()
    classes()
    callbacks()
    deaths()
    local_dies()
    recursions()
    executed(COUNT)
    exceptions()
    signals()
    traced()
    threads(50)
    executed(COUNT)
    plain()


probe()
main()
with open(sys.argv[2], "w") as file:
    for size, stack in truth:
        file.write(json.dumps([size, stack]) + "\n")
print("%d blocks" % len(truth))
