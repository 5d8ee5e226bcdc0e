# SPDX-License-Identifier: MIT
"""Prints line tables of the standard library with what the interpreter itself makes of them.

One line a code object: version, first line, the table in hex, and for runs of instructions
count:line:end_line:column:end_column (columns from 1, 0 for unknown).
"""
import ctypes
import os
import sys
import types

line_of = ctypes.pythonapi.PyCode_Addr2Line
line_of.argtypes = [ctypes.py_object, ctypes.c_int]
line_of.restype = ctypes.c_int

# Shapes that the library may lack: long lines, many lines, lines far apart, nothing but a docstring.
MADE = [
    "x = [" + ", ".join("f(%d)" % i for i in range(300)) + "]\n",
    "x = 1" + "\n" * 40000 + "y = g(x)\n" + "\n" * 200 + "z = (x +\n" + "\n" * 300 + " h(y))\n",
    "def f():\n    '''doc'''\n",
    "class C:\n  def f(self): return [i for i in self if i] or {k: v for k, v in self.items()}\n  async def g(self):\n"
    "    async for i in self:\n      yield i\n    async with self as x, x as y:\n      await y\n",
    "try:\n  f()\nexcept (A, B) as e:\n  g()\nelse:\n  h()\nfinally:\n  i()\nwhile 1:\n  if a: continue\n  if b: break\n",
    "f(" + "\n".join("a%d=%s," % (i, "é" * (i % 70)) if i % 2 else "a%d='%s'," % (i, "é" * (i % 70)) for i in range(0, 400, 2)) + ")\n",
]


def sources():
    library = os.path.dirname(os.__file__)
    names = sorted(name for name in os.listdir(library) if name.endswith(".py"))
    for name in names[::5] + ["typing.py", "argparse.py", "dataclasses.py"]:
        with open(os.path.join(library, name), "rb") as file:
            yield name, file.read()
    for number, text in enumerate(MADE):
        yield "made%d" % number, text


def codes(code):
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from codes(constant)


def places(code):
    units = len(code.co_code) // 2
    if sys.version_info < (3, 11):
        for unit in range(units):
            line = line_of(code, unit * 2)
            yield (line, line, 0, 0) if line > 0 else (0, 0, 0, 0)
        return
    for unit, (line, end_line, column, end_column) in enumerate(code.co_positions()):
        assert (-1 if line is None else line) == line_of(code, unit * 2)
        if not line:
            yield (0, 0, 0, 0)
        else:
            yield (line, end_line, 0 if column is None else column + 1, 0 if end_column is None else end_column + 1)


def runs(all_places):
    last, count = None, 0
    for place in all_places:
        if place != last:
            if count:
                yield "%d:%d:%d:%d:%d" % ((count,) + last)
            last, count = place, 0
        count += 1
    if count:
        yield "%d:%d:%d:%d:%d" % ((count,) + last)


for name, text in sources():
    for code in codes(compile(text, name, "exec", dont_inherit=True)):
        table = code.co_lnotab if sys.version_info < (3, 10) else code.co_linetable
        print(sys.version_info[0] << 8 | sys.version_info[1], code.co_firstlineno, table.hex() or "-", *runs(places(code)))
