# SPDX-License-Identifier: MIT
"""Talk to heapmark from a profiled Python program.

One file, no build: copy it beside your script or put its folder on PYTHONPATH.  Every call does nothing and says so
(False, None) when the process does not run under heapmark.  Sizes are bytes.

    import heapmark
    with heapmark.phase("load"):
        df = pandas.read_csv(path)
    del df
    print(heapmark.trim())
"""

import contextlib
import ctypes
import functools

__all__ = ["active", "mark", "phase", "snapshot", "stats", "trim"]

_TRIM = ("rss_before", "rss_after", "returned", "forecast", "nanoseconds")
_STATS = ("live_bytes", "live_blocks", "peak_bytes", "rss_bytes", "rss_peak_bytes", "self_bytes")

try:
    _entry = ctypes.CDLL(None).heapmark_entry
    _entry.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_ulong]
    _entry.restype = ctypes.c_int
except (OSError, AttributeError):
    _entry = None


def _call(what, label="", fields=()):
    if _entry is None:
        return False, {}
    values = (ctypes.c_ulonglong * max(len(fields), 1))()
    done = _entry(what, label.encode("utf-8", "backslashreplace"), ctypes.cast(values, ctypes.c_void_p), 8 * len(fields))
    return bool(done), dict(zip(fields, values))


def active():
    """True when this process is being recorded."""
    return _call(0)[0]


def mark(label):
    """Name this instant in the recording."""
    return _call(1, label)[0]


class phase(contextlib.ContextDecorator):
    """Name a span of time: `with heapmark.phase("load"):` or `@heapmark.phase("load")` or `@heapmark.phase`."""

    def __new__(cls, label):
        if callable(label):
            function, self = label, super().__new__(cls)
            self.label = function.__qualname__
            return functools.wraps(function)(self(function))
        return super().__new__(cls)

    def __init__(self, label):
        self.label = label

    def _recreate_cm(self):
        return self

    def __enter__(self):
        _call(2, self.label)
        return self

    def __exit__(self, *_):
        _call(3, self.label)
        return False


def snapshot(label=""):
    """Take a census now and keep it in the recording."""
    return _call(4, label)[0]


def trim():
    """Give free memory back to the system; a dict of what happened, or None when that could not be done.

    Memory in Python's own arenas (objects of up to 512 bytes) is out of reach of a trim as long as one object in the arena lives.
    """
    done, values = _call(5, "", _TRIM)
    return values if done else None


def stats():
    """Live, peak and resident bytes now, or None."""
    done, values = _call(6, "", _STATS)
    return values if done else None
