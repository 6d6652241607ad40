"""Fingerprints: the same in every process for the same call, and in words what differs."""

from __future__ import annotations

import collections
import copy
import dataclasses
import enum
import functools
import gc
import io
import json
import logging
import os
import pickle
import random
import socket
import sqlite3
import subprocess
import sys
import textwrap
import threading
import tracemalloc
import types
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from time import perf_counter
from typing import Any, Final

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from checks import LIMIT, at_once
from taskqueue_nb import RunState, Task, TaskQueue, task
from taskqueue_nb.fingerprint import (
    Fingerprint,
    UnseenError,
    Version,
    digest,
    fingerprint,
    fingerprint_of,
    version_of,
    whole,
)

ROOT: Final = Path(__file__).parent.parent


def cell(source: str, *, file: str = "<cell 1>", line: int = 1, **names: Any) -> dict[str, Any]:
    """Run a cell of a notebook, as if it were compiled from this file and line on."""
    namespace: dict[str, Any] = {"__name__": "__main__", **names}
    text = "\n" * (line - 1) + textwrap.dedent(source)
    exec(compile(text, file, "exec", dont_inherit=True), namespace)  # noqa: S102 - as a kernel does
    return namespace


def of(source: str, **names: Any) -> Fingerprint:
    """Return the fingerprint of `f()` as a cell defines it."""
    return fingerprint_of(cell(source, **names)["f"], (), {})


# ------------------------------------------------------------------------------- what is the same
SAME: Final = {
    "comment": ("def f(): return 1", "def f():\n    # why\n    return 1  # one"),
    "blank line": ("def f():\n    a = 1\n    return a", "def f():\n\n    a = 1\n\n    return a"),
    "docstring": ("def f():\n    return 1", 'def f():\n    "Return it."\n    return 1'),
    "another docstring": (
        'def f():\n    "One."\n    return 1',
        'def f():\n    """Two,\n    three."""\n    return 1',
    ),
    "docstring of a class": (
        "class C:\n    def m(self): return 1\ndef f(): return C()",
        (
            'class C:\n    "A class."\n    def m(self):\n        "M."\n        return 1\n'
            "def f(): return C()"
        ),
    ),
    "docstring of a class inside": (
        "def f():\n    class C:\n        x = 1\n    return C",
        'def f():\n    class C:\n        "Doc."\n        x = 1\n    return C',
    ),
    "spaces": ("def f(): return [1,2]", "def f( ):\n        return [ 1, 2 ]"),
    "quotes": ("def f(): return 'a'", 'def f(): return "a"'),
    "comment in a try": (
        "def f():\n    try:\n        return int('1')\n    except ValueError:\n        pass",
        (
            "def f():\n    try:\n        # a comment\n\n        return int('1')\n"
            "    except ValueError:\n        # nothing\n        pass"
        ),
    ),
    "order of methods": (
        "class C:\n    def a(self): return 1\n    def b(self): return 2\ndef f(): return C",
        "class C:\n    def b(self): return 2\n    def a(self): return 1\ndef f(): return C",
    ),
    "annotation": ("def f(a=1): return a", "def f(a: int = 1) -> int: return a"),
    "global that is not read": ("x = 1\ndef f(): return 1", "x = 2\ndef f(): return 1"),
    "function that is not called": (
        "def g(): return 1\ndef f(): return 1",
        "def g(): return 2\ndef f(): return 1",
    ),
    "set in another order": (
        "x = {'a', 'b', 'c'}\ndef f(): return x",
        "x = {'c', 'b', 'a'}\ndef f(): return x",
    ),
    "lambdas in one line": (
        "g, f = lambda: 1, lambda: 2",
        "# moved\nf, g = lambda: 2, lambda: 1",
    ),
    "keyword-only defaults": ("def f(*, a=1, b=2): return a", "def f(*,a=1,b=2):\n    return a"),
}


@pytest.mark.parametrize(("before", "after"), SAME.values(), ids=SAME)
def test_what_does_not_change_what_runs_does_not_count(before: str, after: str) -> None:
    """Comments, layout, docstrings, where the text stands: the same digest, nothing to say."""
    was, now = of(before), of(after, file="elsewhere/other.py", line=40)

    assert was.digest is not None
    assert was.digest == now.digest
    assert was.differences(now) == ()


# ------------------------------------------------------------------------------ what is different
HELPERS: Final = "def h(x): return x + {}\n"
CHANGED: Final = {
    "constant": ("def f(): return 1", "def f(): return 2", ["its code changed"]),
    "type of a constant": ("def f(): return 1", "def f(): return 1.0", ["its code changed"]),
    "truth": ("def f(): return 1", "def f(): return True", ["its code changed"]),
    "sign of zero": ("def f(): return 0.0", "def f(): return -0.0", ["its code changed"]),
    "long constant": (
        f"def f(): return 0x1{'0' * 6000}",
        f"def f(): return 0x2{'0' * 6000}",
        ["its code changed"],
    ),
    "operator": ("def f(a=1): return a + 1", "def f(a=1): return a - 1", ["its code changed"]),
    "comparison": ("def f(a=1): return a < 1", "def f(a=1): return a <= 1", ["its code changed"]),
    "attribute": ("def f(a=''): return a.upper()", "def f(a=''): return a.lower()",
                  ["its code changed"]),
    "default": ("def f(a=1): return a", "def f(a=2): return a", ["its code changed"]),
    "keyword-only default": ("def f(*, a=1): return a", "def f(*, a=2): return a",
                             ["its code changed"]),
    "default in a list": ("def f(a=[1]): return a", "def f(a=[2]): return a", ["its code changed"]),
    "parameter": ("def f(a=1): return 1", "def f(b=1): return 1", ["its code changed"]),
    "generator": ("def f(): return 1", "async def f(): return 1", ["its code changed"]),
    "reach of a try": (
        "def f():\n    try:\n        int('a')\n        int('b')\n    except ValueError: pass",
        "def f():\n    int('a')\n    try:\n        int('b')\n    except ValueError: pass",
        ["its code changed"],
    ),
    "inner function": (
        "def f():\n    def g(): return 1\n    return g()",
        "def f():\n    def g(): return 2\n    return g()",
        ["its code changed"],
    ),
    "inner lambda": ("def f(): return lambda: 1", "def f(): return lambda: 2",
                     ["its code changed"]),
    "builtin": ("def f(a=()): return max(a)", "def f(a=()): return min(a)", ["its code changed"]),
    "called function": (
        HELPERS.format(1) + "def f(): return h(1)",
        HELPERS.format(2) + "def f(): return h(1)",
        ["h(), which it calls, changed"],
    ),
    "function called by a called one": (
        HELPERS.format(1) + "def g(x): return h(x)\ndef f(): return g(1)",
        HELPERS.format(2) + "def g(x): return h(x)\ndef f(): return g(1)",
        ["h(), which it calls, changed"],
    ),
    "function called in a comprehension": (
        HELPERS.format(1) + "def f(): return [h(i) for i in (1, 2)]",
        HELPERS.format(2) + "def f(): return [h(i) for i in (1, 2)]",
        ["h(), which it calls, changed"],
    ),
    "function called in an inner function": (
        HELPERS.format(1) + "def f():\n    def g(): return lambda: h(1)\n    return g",
        HELPERS.format(2) + "def f():\n    def g(): return lambda: h(1)\n    return g",
        ["h(), which it calls, changed"],
    ),
    "recursion": (
        "def f(n=3): return 1 if n < 1 else n * f(n - 1)",
        "def f(n=3): return 1 if n < 2 else n * f(n - 1)",
        ["its code changed"],
    ),
    "recursive helper": (
        "def h(n): return 1 if n < 1 else n * h(n - 1)\ndef f(): return h(3)",
        "def h(n): return 1 if n < 2 else n * h(n - 1)\ndef f(): return h(3)",
        ["h(), which it calls, changed"],
    ),
    "mutual recursion": (
        "def a(n): return n and b(n - 1)\ndef b(n): return n and a(n - 1)\ndef f(): return a(3)",
        "def a(n): return n and b(n - 1)\ndef b(n): return n and a(n - 2)\ndef f(): return a(3)",
        ["b(), which it calls, changed"],
    ),
    "mutual recursion with itself": (
        "def f(n=3): return n and g(n - 1)\ndef g(n): return n and f(n - 1)",
        "def f(n=3): return n and g(n - 1)\ndef g(n): return n and f(n - 2)",
        ["g(), which it calls, changed"],
    ),
    "plain global": ("x = 1\ndef f(): return x", "x = 2\ndef f(): return x",
                     ["x, which it reads, changed"]),
    "global read by a helper": (
        "x = 1\ndef h(): return x\ndef f(): return h()",
        "x = 2\ndef h(): return x\ndef f(): return h()",
        ["x, which it reads, changed"],
    ),
    "global in a dict": ("x = {'a': [1]}\ndef f(): return x", "x = {'a': [2]}\ndef f(): return x",
                         ["x, which it reads, changed"]),
    "closed-over value": (
        "def make(n): return lambda: n\nf = make(1)",
        "def make(n): return lambda: n\nf = make(2)",
        ["n, which it reads, changed"],
    ),
    "closed-over function": (
        "def make(g): return lambda: g()\nf = make(lambda: 1)",
        "def make(g): return lambda: g()\nf = make(lambda: 2)",
        ["g(), which it calls, changed"],
    ),
    "method": (
        "class C:\n    def m(self): return 1\ndef f(): return C().m()",
        "class C:\n    def m(self): return 2\ndef f(): return C().m()",
        ["C.m(), which it calls, changed"],
    ),
    "method of a base": (
        "class B:\n    def m(self): return 1\nclass C(B): pass\ndef f(): return C().m()",
        "class B:\n    def m(self): return 2\nclass C(B): pass\ndef f(): return C().m()",
        ["B.m(), which it calls, changed"],
    ),
    "function that a method which is called itself calls": (
        HELPERS.format(1) + "class C:\n    def m(self): return h(1)\nf = C().m",
        HELPERS.format(2) + "class C:\n    def m(self): return h(1)\nf = C().m",
        ["h(), which it calls, changed"],
    ),
    "static method": (
        "class C:\n    @staticmethod\n    def m(): return 1\ndef f(): return C.m()",
        "class C:\n    @staticmethod\n    def m(): return 2\ndef f(): return C.m()",
        ["C.m(), which it calls, changed"],
    ),
    "attribute of a class": (
        "class C:\n    size = 1\ndef f(): return C.size",
        "class C:\n    size = 2\ndef f(): return C.size",
        ["class C, which it uses, changed"],
    ),
    "function that a method calls": (
        HELPERS.format(1) + "class C:\n    def m(self): return h(1)\ndef f(): return C().m()",
        HELPERS.format(2) + "class C:\n    def m(self): return h(1)\ndef f(): return C().m()",
        ["h(), which it calls, changed"],
    ),
    "function in a table": (
        HELPERS.format(1) + "table = {'h': h}\ndef f(): return table['h'](1)",
        HELPERS.format(2) + "table = {'h': h}\ndef f(): return table['h'](1)",
        ["h(), which it calls, changed", "table, which it reads, changed"],
    ),
    "function that a partial calls": (
        "import functools\n" + HELPERS.format(1) + "f = functools.partial(h, 1)",
        "import functools\n" + HELPERS.format(2) + "f = functools.partial(h, 1)",
        ["its code changed", "h(), which it calls, changed"],
    ),
    "cached function": (
        "import functools\n@functools.cache\ndef h(): return 1\ndef f(): return h()",
        "import functools\n@functools.cache\ndef h(): return 2\ndef f(): return h()",
        ["h(), which it calls, changed"],
    ),
    "case of a single dispatch": (
        ("import functools\n@functools.singledispatch\ndef h(x): return 0\n@h.register\n"
        "def _(x: int): return 1\ndef f(): return h(3)"),
        ("import functools\n@functools.singledispatch\ndef h(x): return 0\n@h.register\n"
        "def _(x: int): return 2\ndef f(): return h(3)"),
        ["h(), which it calls, changed", "_(), which it calls, changed"],
    ),
    "wrapped by a package": (
        ("import contextlib\n@contextlib.contextmanager\ndef h(): yield 1\n"
        "def f():\n    with h() as x: return x"),
        ("import contextlib\n@contextlib.contextmanager\ndef h(): yield 2\n"
        "def f():\n    with h() as x: return x"),
        ["h(), which it calls, changed"],
    ),
    "task function": (
        "from taskqueue_nb import task\n@task\ndef h(): return 1\ndef f(): return h.func()",
        "from taskqueue_nb import task\n@task\ndef h(): return 2\ndef f(): return h.func()",
        ["h(), which it calls, changed"],
    ),
    "value of an object": (
        "class C:\n    def __init__(self, n): self.n = n\nx = C(1)\ndef f(): return x.n",
        "class C:\n    def __init__(self, n): self.n = n\nx = C(2)\ndef f(): return x.n",
        ["x, which it reads, changed"],
    ),
    "method of a metaclass": (
        ("class M(type):\n    def __call__(cls): return 1\nclass C(metaclass=M): pass\n"
        "def f(): return C()"),
        ("class M(type):\n    def __call__(cls): return 2\nclass C(metaclass=M): pass\n"
        "def f(): return C()"),
        ["M.__call__(), which it calls, changed"],
    ),
    "attribute of a metaclass": (
        "class M(type):\n    n = 1\nclass C(metaclass=M): pass\ndef f(): return C.n",
        "class M(type):\n    n = 2\nclass C(metaclass=M): pass\ndef f(): return C.n",
        ["class M, which it uses, changed"],
    ),
    "metaclass": (
        ("class M(type): pass\nclass N(type): pass\nclass C(metaclass=M): pass\n"
        "def f(): return C()"),
        ("class M(type): pass\nclass N(type): pass\nclass C(metaclass=N): pass\n"
        "def f(): return C()"),
        ["class C, which it uses, changed", "class N, which it uses, is new"],
    ),
    "dataclass": (
        ("from dataclasses import dataclass\n@dataclass\nclass C:\n    n: int = 1\n"
        "x = C(5)\ndef f(): return x.n"),
        ("from dataclasses import dataclass\n@dataclass\nclass C:\n    n: int = 1\n"
        "x = C(6)\ndef f(): return x.n"),
        ["x, which it reads, changed"],
    ),
    "enum": (
        "from enum import Enum\nclass E(Enum):\n    A = 1\n    B = 2\nx = E.A\ndef f(): return x",
        "from enum import Enum\nclass E(Enum):\n    A = 1\n    B = 2\nx = E.B\ndef f(): return x",
        ["x, which it reads, changed"],
    ),
    "global that was not there": ("def f(): return h()", "def h(): return 1\ndef f(): return h()",
                                  ["h(), which it calls, is new"]),
    "shadowed builtin": ("def f(): return max(1, 2)", ("def max(*a): return 1\n"
                         "def f(): return max(1, 2)"), ["max(), which it calls, is new"]),
    "name of the function": ("def f(): return 1", "def g(): return 1\nf = g",
                             ["it is called g() now"]),
}  # fmt: skip


@pytest.mark.parametrize(("before", "after", "words"), CHANGED.values(), ids=CHANGED)
def test_what_changes_what_runs_counts_and_is_named(
    before: str, after: str, words: list[str]
) -> None:
    """The digest differs, and the words name what changed, the most telling first."""
    was, now = of(before), of(after)

    assert was.digest is not None
    assert was.digest != now.digest
    said = was.differences(now)
    assert set(words) <= set(said)
    assert said[0] == words[0]
    assert was.differences(was) == ()


def test_nothing_else_is_blamed() -> None:
    """Of three functions that are called, the one that changed is named alone."""
    cells = [
        f"def a(): return 1\ndef b(): return a() + {number}\ndef c(): return b()\n"
        "limit = 3\ndef f(): return a() + b() + c() + limit"
        for number in (1, 2)
    ]

    was, now = map(of, cells)

    assert was.differences(now) == ("b(), which it calls, changed",)
    assert list(was.code) == ["f()", "limit", "a()", "b()", "c()"]


# --------------------------------------------------------------------------- what a call changes
OWN_CHANGES: Final = {
    "append": ("x = []", "x.append(1)"),
    "add": ("x = set()", "x.add(1)"),
    "update": ("x = {}", "x.update(a=1)"),
    "subscript": ("x = {}", "x['a'] = 1"),
    "counted by subscript": ("x = {'a': 0}", "x['a'] += 1"),
    "nested subscript": ("x = {'a': {}}", "x['a']['b'] = 1"),
    "method after a subscript": ("x = {'a': []}", "x['a'].append(1)"),
    "deleted": ("x = {'a': 1}", "del x['a']"),
    "global": ("x = 0", "global x; x += 1"),
    "attribute": ("class C:\n    n = 0\nx = C()", "x.n += 1"),
    "attribute of an attribute": ("class C:\n    n = []\nx = C()", "x.n.append(1)"),
    "under another name": ("x = []", "y = x; y.append(1)"),
    "in an inner function": ("x = []", "(lambda: x.append(1))()"),
    "in a comprehension": ("x = []", "[x.append(i) for i in (1, 2)]"),
    "on a branch": ("x = []", "x.append(1) if True else None"),
    "written": ("import io\nx = io.StringIO()", "x.write('a')"),
    "deque": ("from collections import deque\nx = deque()", "x.appendleft(1)"),
    "array": ("import numpy\nx = numpy.zeros(3)", "x[1:] += 1"),
    "iterator": ("import itertools\nx = itertools.count()", "next(x)"),
    "own method": (
        "class C:\n    def __init__(self): self.n = 0\n    def tick(self): self.n += 1\nx = C()",
        "x.tick()",
    ),
    "method called by a method": (
        (
            "class C:\n    def __init__(self): self.n = []\n    def tick(self): self.more()\n"
            "    def more(self): self.n.append(1)\nx = C()"
        ),
        "x.tick()",
    ),
    "random numbers": ("import random\nx = random.Random(1)", "x.random()"),
    "random arrays": ("import numpy\nx = numpy.random.default_rng(1)", "x.random()"),
    "class attribute": ("class x:\n    n = 0", "x.n += 1"),
    "list of a class": ("class x:\n    n = []", "x.n.append(1)"),
    "class method": (
        "class x:\n    n = 0\n    @classmethod\n    def tick(cls): cls.n += 1",
        "x.tick()",
    ),
}


@pytest.mark.parametrize(("made", "used"), OWN_CHANGES.values(), ids=OWN_CHANGES)
def test_what_the_function_itself_changes_is_no_input(made: str, used: str) -> None:
    """A counter of calls does not make every call a changed one, as a global or closed over."""
    names = cell(f"{made}\ndef f():\n    {used}\n    return 1")
    before = fingerprint_of(names["f"], (), {})
    version = version_of(names["f"])

    names["f"]()

    assert version is not None
    assert version.is_current
    assert before.differences(fingerprint_of(names["f"], (), {})) == ()
    assert before.digest == fingerprint(names["f"], (), {})


BOUND = {
    "new global": "def f():\n    global x\n    x = 1\n    return x",
    "lazy global": "x = None\ndef f():\n    global x\n    x = x or [1]\n    return x",
    "deleted global": "x = 1\ndef f():\n    global x\n    y = x\n    del x\n    return y",
    "lazy closure": ("def make():\n    x = None\n    def f():\n        nonlocal x\n"
                     "        x = x or {1}\n        return x\n    return f\nf = make()"),
    "function": "def f():\n    global x\n    def x(): return 1\n    return x()",
    "class": "def f():\n    global x\n    class x: pass\n    return x()",
    "attribute of a module": ("import types\nx = types.ModuleType('x')\n"
                              "def f():\n    x.y = 1\n    return x.y"),
    "single dispatch": ("import functools\n@functools.singledispatch\ndef h(x): return 0\n"
                        "@h.register\ndef _(x: int): return 1\ndef f(): return h(3)"),
}  # fmt: skip


@pytest.mark.parametrize("source", BOUND.values(), ids=BOUND)
def test_a_call_is_the_same_right_after_it_ran(source: str) -> None:
    """What a function binds itself, or a cache of Python's own, is no input, not even its class."""
    names = cell(source)
    was = fingerprint_of(names["f"], (), {}, version_of(names["f"]))

    names["f"]()

    assert was.differences(fingerprint_of(names["f"], (), {})) == ()
    assert was.differences(of(source)) == ()


@pytest.mark.parametrize("used", ["x.append(1)", "x[0] += 1", "nonlocal y; y += 1; x.append(y)"])
def test_what_the_function_changes_in_its_closure_is_no_input(used: str) -> None:
    """Closed-over values are treated as globals are."""
    source = (
        f"def make():\n    x, y = [0], 0\n    def f():\n        {used}\n    return f\nf = make()"
    )
    func = cell(source)["f"]
    before = fingerprint_of(func, (), {})

    func()

    assert fingerprint_of(func, (), {}) == before
    assert before.known


@pytest.mark.parametrize("read", ["len(x)", "x[0]", "sum(x)", "[i for i in x]", "x.copy()"])
def test_what_the_function_only_reads_is_an_input(read: str) -> None:
    """Reading in any way is no change."""
    was, now = (of(f"x = {value}\ndef f(): return {read}") for value in ([1], [2]))

    assert was.differences(now) == ("x, which it reads, changed",)


def test_methods_of_a_class_whose_attribute_is_counted_still_count() -> None:
    """Only what changes with each call is left out."""
    source = (
        "class C:\n    n = 0\n    def m(self): return {}\n"
        "def f():\n    C.n += 1\n    return C().m()"
    )

    assert of(source.format(1)).digest != of(source.format(2)).digest
    assert of(source.format(1)).digest == of(source.format(1).replace("n = 0", "n = 7")).digest


# ------------------------------------------------------------------------------- opaque things
def opened() -> dict[str, Callable[[], Any]]:
    """Return makers of things that stand for something of the machine."""
    return {
        "lock": threading.Lock,
        "rlock": threading.RLock,
        "event": threading.Event,
        "condition": threading.Condition,
        "thread": threading.Thread,
        "socket": socket.socket,
        "database": lambda: sqlite3.connect(":memory:"),
        "file": lambda: open(os.devnull, encoding="utf-8"),  # noqa: PTH123 - closed below
        "logger": lambda: logging.getLogger("taskqueue_nb.test"),
        "module": lambda: json,
        "client": Client,
        "queue": lambda: TaskQueue(Task("one", list)),
        "request to stop": RunState,
        "shell": type("Shell", (), {"__module__": "IPython.core.interactiveshell"}),
    }


class Client:
    """Something that can be closed and cannot be pickled."""

    def __init__(self) -> None:
        self.handle = object()

    def close(self) -> None:
        """Do nothing."""

    def __reduce__(self) -> Any:
        raise TypeError("cannot be pickled")


@pytest.mark.parametrize("make", opened().values(), ids=opened())
def test_opaque_things_count_by_their_kind(make: Callable[[], Any]) -> None:
    """Another lock, file or connection of the kind is the same, as an argument and as a global."""
    things = [make(), make()]
    try:
        one, two = (fingerprint_of(max, (thing,), {}) for thing in things)
        read = [of("def f(): return x", x=thing) for thing in things]
    finally:
        for thing in things:
            getattr(thing, "close", int)()

    assert one == two
    assert one.known
    assert one.digest != fingerprint(max, (object,), {})
    assert read[0] == read[1]
    assert read[0].known


def test_a_queue_is_the_same_after_it_ran() -> None:
    """What a task reads of its own queue is no input."""
    queue = TaskQueue(Task("one", list))
    before = digest(queue)

    list(queue.run())

    assert digest(queue) == before


def test_errors_of_resources_are_data() -> None:
    """An exception of a module of the machine's counts by what it says."""
    assert digest(sqlite3.Error("a")) != digest(sqlite3.Error("b"))


def test_an_event_is_the_same_when_it_is_set() -> None:
    """What a resource is at the moment is no content."""
    event = threading.Event()
    before = digest(event)

    event.set()

    assert digest(event) == before


class Stubborn:
    """An object that does not let itself be taken apart."""

    def __reduce__(self) -> Any:
        raise RuntimeError("no")


class Evil:
    """An object that raises whatever is asked of it."""

    def __getattribute__(self, name: str) -> Any:
        raise ZeroDivisionError(name)

    def __eq__(self, other: object) -> bool:
        raise ZeroDivisionError

    def __hash__(self) -> int:
        raise ZeroDivisionError


class Endless:
    """An object that has a new one inside."""

    def __reduce__(self) -> Any:
        return Endless, (), {"inside": Endless()}


UNSEEN: Final[dict[str, Callable[[], Any]]] = {
    "a generator": lambda: (i for i in ""),
    "a list_iterator": lambda: iter([1]),
    "a map": lambda: map(int, "12"),
    "a Stubborn": Stubborn,
    "an Evil": Evil,
}


@pytest.mark.parametrize(("what", "make"), UNSEEN.items(), ids=UNSEEN)
def test_an_argument_that_cannot_be_seen_is_said(what: str, make: Callable[[], Any]) -> None:
    """The call is unknown, wherever the thing stands; as a global it counts by its kind."""
    for value in (make(), [1, {"deep": make()}]):
        took = fingerprint_of(max, (), {"key": value})

        assert took.arguments == {"key": None}
        assert not took.known
        assert took.digest is None
        assert took.unseen == {"key": what}
        assert took.differences(took) == (f"argument 'key' ({what}) cannot be compared",)
        with pytest.raises(UnseenError, match=f"no fingerprint can be taken of {what}"):
            digest(value)

    assert of("def f(): return x", x=make()) == of("def f(): return x", x=make())
    assert of("def f(): return x", x=make()).known


HIDDEN = {
    "eval": ("def f(): return eval('x')", "eval()"),
    "exec": ("def f(): exec('x = 1')", "exec()"),
    "globals": ("def f(): return globals()['x']", "globals()"),
    "import": ("def f(): return __import__('x')", "__import__()"),
    "import_module": (
        "import importlib\ndef f(): return importlib.import_module('x')",
        "importlib.import_module()",
    ),
    "imported import_module": (
        "from importlib import import_module\ndef f(): return import_module('x')",
        "import_module()",
    ),
    "of builtins": ("import builtins\ndef f(): return builtins.eval('x')", "builtins.eval()"),
    "in a helper": ("def h(): return eval('x')\ndef f(): return h()", "eval()"),
    "in an inner function": ("def f(): return [eval(y) for y in 'x']", "eval()"),
    "in a closure": ("def make(y):\n    return lambda: eval(y)\nf = make('x')", "eval()"),
    "in a method": ("class C:\n    def m(self): return eval('x')\nf = C().m", "eval()"),
    "in a class": ("class f:\n    def m(self): return eval('x')", "eval()"),
}


@pytest.mark.parametrize(("source", "called"), HIDDEN.values(), ids=HIDDEN)
def test_what_is_found_at_run_time_cannot_be_compared(source: str, called: str) -> None:
    """It is said what calls for it, and the call is never the same."""
    was, now = of(source), of(source)
    assert was.unseen == {called: "code that is found at run time"}
    assert (was.known, was.digest) == (False, None)
    assert was.differences(now) == (f"what {called} reaches cannot be compared",)
    assert Fingerprint.from_json(was.as_json()) == was
    without = was._replace(arguments={})
    assert without.differences(now._replace(arguments={})) == ()


@pytest.mark.parametrize(
    "source",
    [
        "def eval(x): return x\ndef f(): return eval('x')",
        "class C:\n    def eval(self, x): return x\nc = C()\ndef f(): return c.eval('x')",
        "import types\nm = types.ModuleType('m')\nm.eval = len\ndef f(): return m.eval('x')",
        "def f(frame): return frame.eval('a + b')",
        "def f(x): return getattr(x, 'y'), vars(x), locals()",
        "import json\ndef f(): return json.loads('1')",
        "def f():\n    import json\n    return json",
    ],
)
def test_what_is_only_called_alike_can_be_compared(source: str) -> None:
    """Methods and functions of the user's own that have such names hide nothing."""
    assert of(source).known
    assert not of(source).unseen


def test_work_on_one_value_is_bounded() -> None:
    """An object that has ever new ones inside is given up, and said to be large."""
    began = perf_counter()

    with pytest.raises(UnseenError, match="something very large"):
        digest(Endless())

    assert perf_counter() - began < LIMIT


def test_an_interrupt_goes_through() -> None:
    """Ctrl-C in foreign code is no property of the value."""

    class Interrupted:
        def __reduce__(self) -> Any:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        digest([Interrupted()])


def test_an_unseen_error_travels() -> None:
    """It can be pickled, with its fact."""
    error = pickle.loads(pickle.dumps(UnseenError("a generator")))  # noqa: S301 - our own

    assert error.what == "a generator"
    assert str(error) == "no fingerprint can be taken of a generator"


# ---------------------------------------------------------------------------------------- values
ATOMS: Final = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.complex_numbers(allow_nan=False),
    st.text(),
    st.binary(),
)
PLAIN: Final = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.lists(inner),
        st.lists(inner).map(tuple),
        st.dictionaries(st.text(), inner),
        st.sets(st.one_of(st.text(), st.integers())),
        st.frozensets(st.one_of(st.text(), st.none(), st.tuples(st.text(), st.integers()))),
    ),
    max_leaves=30,
)


def rebuilt(value: Any) -> Any:
    """Return equal data that shares nothing, its sets filled in another order."""
    if isinstance(value, (list, tuple)):
        return type(value)(map(rebuilt, value))
    if isinstance(value, dict):
        return {rebuilt(key): rebuilt(inner) for key, inner in value.items()}
    if isinstance(value, (set, frozenset)):
        members = [rebuilt(member) for member in value]
        return type(value)(sorted(members, key=repr, reverse=True))
    if isinstance(value, str):
        return "".join(list(value))  # not the interned one
    return pickle.loads(pickle.dumps(value))  # noqa: S301 - our own


def leaves(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Give the way to every leaf in lists and dicts."""
    if isinstance(value, (list, dict)) and value:
        for key in range(len(value)) if isinstance(value, list) else value:
            yield from leaves(value[key], (*at, key))
    else:
        yield at


@given(PLAIN)
def test_equal_data_has_one_digest(value: Any) -> None:
    """Neither identity, sharing, interning nor the order of a set counts."""
    assert digest(value) == digest(rebuilt(value))


@given(PLAIN, PLAIN)
def test_different_data_has_different_digests(one: Any, two: Any) -> None:
    """What repr tells apart (types, order of dicts) has two digests."""

    def told(value: Any) -> str:
        if isinstance(value, (set, frozenset)):
            return f"{type(value)}{sorted(map(told, value))}"
        if isinstance(value, (list, tuple)):
            return f"{type(value)}{[*map(told, value)]}"
        if isinstance(value, dict):
            return f"dict{[(told(key), told(inner)) for key, inner in value.items()]}"
        return repr(value)

    assert (digest(one) == digest(two)) == (told(one) == told(two))


@given(st.one_of(st.lists(PLAIN), st.dictionaries(st.text(), PLAIN)), st.data())
def test_a_changed_leaf_changes_the_digest(value: Any, data: st.DataObject) -> None:
    """However deep it stands."""
    way = data.draw(st.sampled_from(list(leaves(value))))
    changed = copy.deepcopy({"root": value})
    holder: Any = changed
    for key in ("root", *way)[:-1]:
        holder = holder[key]
    holder[("root", *way)[-1]] = object  # a leaf that no other equals

    assert digest(changed) != digest({"root": value})


DIFFERENT: Final = [
    None, False, True, 0, 1, -1, 2**40, 0.0, -0.0, 1.0, 1j, "", "1", b"", b"1", ..., NotImplemented,
    [], (), {}, set(), frozenset(), [1], (1,), {1}, frozenset({1}), {1: 1}, [[1]], [(1,)], ([1],),
    [1, 2], [2, 1], {1: 1, 2: 2}, {2: 2, 1: 1}, [{1: 1}], [None], [[]], "a" * 500, "a" * 501,
    b"a" * 500, bytearray(b"1"), memoryview(b"1"), range(3), range(4), slice(1), slice(2),
    collections.OrderedDict(a=1), collections.Counter("a"), collections.deque([1]),
    collections.defaultdict(list), int, float, len, max, str.upper, [].append, [1].append,
    functools.partial(max, 1), functools.partial(max, 2), object(), json, os,
    np.zeros(3), np.zeros(4), np.zeros((3, 1)), np.zeros(3, "f4"), np.ones(3), np.float64(1),
    np.dtype("f8"), np.array(["a", None], object), np.array([], int), np.mean, np.add,
    io.StringIO("a"), io.StringIO("b"), ValueError("a"), ValueError("b"), KeyError("a"),
    random.Random(1), random.Random(2), np.random.default_rng(1), np.random.default_rng(2),
    types.SimpleNamespace(a=1), types.SimpleNamespace(a=2), {}.keys(), {}.values(),
    types.MappingProxyType({1: 1}), Path("a"), Path("b"),
]  # fmt: skip


def test_values_of_all_kinds_are_told_apart() -> None:
    """Each of a table of values has a digest of its own, and each has one."""
    digests = [digest(value) for value in DIFFERENT]

    seen = collections.Counter(digests)
    assert [v for v, d in zip(DIFFERENT, digests, strict=True) if seen[d] > 1] == []
    assert digests == [digest(value) for value in DIFFERENT]


class Colour(enum.Enum):
    """An enumeration."""

    RED = 1
    BLUE = 2


@dataclasses.dataclass
class Point:
    """A point."""

    x: float
    tags: set[str] = dataclasses.field(default_factory=set)


class Slotted:
    """An object without a dict."""

    __slots__ = ("a", "b")

    def __init__(self, a: Any, b: Any) -> None:
        self.a, self.b = a, b


class Tags(set[str]):
    """A set of another class."""


class Adder:
    """An object that can be called."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __call__(self, other: int) -> int:
        """Add it."""
        return self.number + other


class Frame:
    """A table that hands its memory out, as pandas does."""

    def __init__(self, memory: bytearray) -> None:
        self.memory = memory

    def __reduce_ex__(self, protocol: Any) -> Any:
        assert protocol == 5
        return Frame, (pickle.PickleBuffer(self.memory),)


MADE: Final[dict[str, Callable[[int], Any]]] = {
    "enum": Colour,
    "dataclass": lambda n: Point(n, {"a", "b", str(n)}),
    "slots": lambda n: Slotted(n, [n]),
    "subclass of set": lambda n: Tags({"a", "b", str(n)}),
    "object in a list": lambda n: [Point(n), Point(n)],
    "array": lambda n: np.arange(5) + n,
    "array of strings": lambda n: np.array(["a", str(n)]),
    "columns": lambda n: {"a": np.arange(3), "b": np.arange(3) + n},
    "memory": lambda n: Frame(bytearray([n, 1, 2])),
    "bound method": lambda n: Point(n).__repr__,
    "callable object": Adder,
    "lambda": lambda n: lambda: n,
    "exception": ValueError,
}


@pytest.mark.parametrize("make", MADE.values(), ids=MADE)
def test_objects_count_by_content(make: Callable[[int], Any]) -> None:
    """Two that were made alike have one digest; another content, another one."""
    assert digest(make(1)) == digest(make(1))
    assert digest(make(1)) != digest(make(2))


def test_the_order_of_attributes_says_nothing() -> None:
    """An object's attributes count by name."""
    one, two = types.SimpleNamespace(), types.SimpleNamespace()
    one.a, one.b = 1, 2
    two.b, two.a = 2, 1

    assert digest(one) == digest(two)


def test_how_an_array_lies_in_memory_says_nothing() -> None:
    """Rows first, columns first, every second number: the same numbers are the same array."""
    numbers = np.arange(12.0).reshape(3, 4)

    assert digest(numbers) == digest(np.asfortranarray(numbers))
    assert digest(numbers[:, ::2]) == digest(numbers[:, ::2].copy())
    assert digest(numbers) != digest(numbers.T)


def test_100_megabytes_of_an_array_are_not_copied() -> None:
    """The memory itself is digested."""
    rows = np.arange(12_500_000, dtype="f8")
    digest(rows[:3])  # what is imported on the way
    tracemalloc.start()
    try:
        before = digest(rows)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    rows[-1] = 0

    assert peak < 1_000_000
    assert digest(rows) != before


@pytest.mark.parametrize(
    ("wrap", "levels"),
    [
        (lambda inner: [inner], 100_000),
        (lambda inner: (inner,), 20_000),
        (lambda inner: {1: inner}, 20_000),
        (lambda inner: frozenset([inner]), 20_000),
        (lambda inner: Slotted(1, inner), 5_000),
        (lambda inner: functools.partial(max, inner), 5_000),
    ],
    ids=["list", "tuple", "dict", "frozenset", "object", "partial"],
)
def test_data_may_be_nested_deeply(wrap: Callable[[Any], Any], levels: int) -> None:
    """Far deeper than Python's stack: taking it apart needs no recursion."""

    def deep(inner: Any) -> Any:
        value = inner
        for _ in range(levels):
            value = wrap(value)
        return value

    assert digest(deep("a")) != digest(deep("b"))


def ring(*names: str) -> Any:
    """Return dicts that lead to each other in a circle."""
    parts: list[dict[str, Any]] = [{"name": name} for name in names]
    for part, after in zip(parts, [*parts[1:], parts[0]], strict=True):
        part["next"] = after
    return parts[0]


def test_data_may_contain_itself() -> None:
    """Circles are told apart by what can be seen on the way round."""
    assert digest(ring("a", "b")) == digest(ring("a", "b"))
    assert digest(ring("a", "b")) == digest(ring("a", "b", "a", "b"))  # nobody sees a difference
    assert len({digest(ring(*names)) for names in ("a", "ab", "ba", "abc", "acb", "aab")}) == 6

    one: list[Any] = [1]
    two: list[Any] = [2, one]
    one.append(two)
    other: list[Any] = [2]
    other.append(other)
    assert digest(one) != digest([1, other])


class Node:
    """A node of a graph whose neighbours are a set."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.near: set[Node] = set()


def graph(names: str, edges: str) -> dict[str, Node]:
    """Return nodes by name, with edges both ways."""
    nodes = {name: Node(name) for name in names}
    for edge in edges.split():
        nodes[edge[0]].near.add(nodes[edge[1]])
        nodes[edge[1]].near.add(nodes[edge[0]])
    return {name: nodes[name] for name in sorted(nodes)}


def test_sets_in_circles_have_no_order() -> None:
    """Nodes that were made in another order give the same digest; one edge more, another."""
    edges = "ab bc cd da ac"

    assert digest(graph("abcd", edges)) == digest(graph("dbca", edges))
    assert digest(graph("abcd", edges)) != digest(graph("abcd", edges + " bd"))


def test_shared_parts_cost_nothing() -> None:
    """A list that is in itself 2^60 times is looked at once per level."""

    def doubled() -> list[Any]:
        value: list[Any] = [1]
        for _ in range(60):
            value = [value, value]
        return value

    assert digest(doubled()) == digest(doubled())


# -------------------------------------------------------------------------------- two processes
SCRIPT: Final = '''
import collections, dataclasses, enum, functools, json, sys
from decimal import Decimal
import helpers
from taskqueue_nb import RunState, Task, TaskQueue, task
from taskqueue_nb.fingerprint import digest, fingerprint_of, version_of, whole

LIMIT = {"a", "b", "c", "d"}
class Colour(enum.Enum):
    RED = 1
    BLUE = 2
@dataclasses.dataclass
class Point:
    x: int
    y: int = 2
    tags: set = dataclasses.field(default_factory=set)
    def norm(self): return small(self.x) + small(self.y)
def first(): return {"a", "b"}
def second(): return first()
TABLE = {first, second, even_later := (lambda: small(1))}
def table(): return TABLE
Pair = collections.namedtuple("Pair", "one two")
class Node:
    def __init__(self): self.near = set()
class Meta(type): pass
class Base(metaclass=Meta):
    seen = []
    def add(self): Base.seen.append(self)
class Derived(Base):
    """With a word about it."""
    @property
    def size(self): return 1
    @functools.cached_property
    def area(self): return super().size
class Slotted:
    __slots__ = ("a", "b")
    def __init__(self): self.a, self.b = {"q", "r"}, 1
def small(x): return x < 3 and x in {"a", "b", "c"}
def even(n): return n == 0 or odd(n - 1)
def odd(n): return n != 0 and even(n - 1)
def closing(n):
    data = {"k": {n, "x", "y"}}
    return lambda: data
@task
def tidy(x): return small(x)
def everything(a, b=frozenset("pqrs"), *rest, c={"z", "y"}, **more):
    return small(a), LIMIT, Point(1, 2), even(3), tidy, Colour.RED, Derived, helpers.compute(a)
async def waiting(): return await small(1)
def yielding(): yield from LIMIT
nodes = [Node() for _ in range(6)]
for at, node in enumerate(nodes):
    node.near |= {nodes[at - 1], nodes[(at + 2) % 6]}
import numpy as np
values = dict(
    words={"one", "two", "three", "four"}, mixed={1, "a", None, (1, "b"), frozenset("xyz")},
    nested=[{"a": {"x", "y"}}, (1.5, 2j, b"b", True)], enum=Colour.BLUE, klass=Point,
    point=Point(1, 2, {"m", "n", "o"}), pair=Pair(1, {"s", "t"}), graph=nodes, derived=Derived,
    decimal=Decimal("1.10"), counter=collections.Counter("hello"), slotted=Slotted(),
    array=np.arange(10).reshape(2, 5),
    objects=np.array([{"u", "v"}, None], object), function=everything, closure=closing("n"),
    partial=functools.partial(everything, 1), method=Point(1, 2).norm, task=Task("load", list),
    default=collections.defaultdict(set, a={"f", "g"}), strings=np.array(["a", "bc"]),
    bound=tidy, metaclass=Meta, colours=Colour,
)
found = {name: digest(value) for name, value in values.items()}
for func in (everything, waiting, yielding, closing("n"), functools.partial(even, 3), even,
             Point, table, Point(1, 2).norm, max, Derived):
    took = fingerprint_of(func, ({"k", "l"},), {"more": {"i", "j"}, "also": 1})
    found["call of " + next(iter(took.code))] = [took.digest, dict(took.code), dict(took.arguments)]
found["whole"] = whole(took, [took.digest, found["words"]])
print(json.dumps(found))
'''


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Return what one script finds in two processes, which differ in all that must not count."""
    found = []
    for seed, name, above in (
        ("1", "cell_1.py", ""),
        ("2", "a/long/way/other.py", "\n# moved\n\n"),
    ):
        file = tmp_path_factory.mktemp("kernel") / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(above + SCRIPT, encoding="utf-8")
        (file.parent / "helpers.py").write_text(
            above + "LIMITS = {'x', 'y', 'z'}\ndef compute(a): return a in LIMITS\n",
            encoding="utf-8",
        )
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)}
        said = subprocess.run(
            [sys.executable, "-W", "error", str(file)], env=environment, capture_output=True,
            text=True, timeout=LIMIT * 3, check=False,
        )  # fmt: skip
        assert said.returncode == 0, said.stderr
        found.append(json.loads(said.stdout))
    return found


def test_another_process_finds_the_same(two: list[dict[str, Any]]) -> None:
    """Neither the hash seed nor the file, the line or an address counts, for any kind of value."""
    one, other = two

    assert len(one) > 30
    assert [name for name in one if one[name] != other[name]] == []
    alone = [found for found in one.values() if isinstance(found, str)]
    assert len(set(alone)) == len(alone), "all are different values"


def test_a_call_in_another_process_has_all_its_parts(two: list[dict[str, Any]]) -> None:
    """What a function refers to is followed there too, into a module of the user's own."""
    code = two[0]["call of everything()"][1]

    expected = {
        "everything()", "small()", "LIMIT", "class Point", "Point.norm()", "even()", "odd()",
        "tidy()", "class Colour", "class Derived", "class Base", "helpers.compute()",
        "LIMITS",
    }  # fmt: skip
    assert expected <= set(code)
    assert next(iter(code)) == "everything()"
    assert two[0]["call of everything()"][0] is not None


def test_the_same_script_run_again_after_a_change_is_told(tmp_path: Path) -> None:
    """A helper in a module that was edited is named, from what the last process stored."""
    (tmp_path / "run.py").write_text(
        "import sys, helpers\nfrom taskqueue_nb.fingerprint import Fingerprint, fingerprint_of\n"
        "def clean(x): return helpers.deep.compute(x)\n"
        "now = fingerprint_of(clean, (1,), {})\n"
        "stored = sys.stdin.read()\n"
        "print(Fingerprint.from_json(stored).differences(now) if stored else now.as_json())\n",
        encoding="utf-8",
    )
    (tmp_path / "helpers").mkdir()
    (tmp_path / "helpers" / "__init__.py").write_text("from helpers import deep\n")
    said = ""
    for constant in (1, 2):
        (tmp_path / "helpers" / "deep.py").write_text(
            f"def inner(x): return x + {constant}\ndef compute(x): return inner(x)\n"
        )
        said = subprocess.run(
            [sys.executable, "-B", "run.py"], cwd=tmp_path, input=said, check=True, text=True,
            stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=LIMIT,
        ).stdout  # fmt: skip

    assert said.strip() == "('inner(), which it calls, changed',)"


# ------------------------------------------------------------------------------------ arguments
def area(width: float, height: float = 1, *more: float, unit: str = "m", **options: Any) -> None:
    """Take arguments of all kinds."""


CALLS: Final = [
    (((1, 2), {}), ((1,), {"height": 2})),
    (((1, 2), {}), ((), {"width": 1, "height": 2})),
    (((1,), {"unit": "m", "deep": 1}), ((1,), {"deep": 1, "unit": "m"})),
]


@pytest.mark.parametrize(("one", "two"), CALLS)
def test_arguments_are_told_by_their_parameters(one: Any, two: Any) -> None:
    """Positional or by keyword, in whatever order: the same call."""
    assert fingerprint_of(area, *one) == fingerprint_of(area, *two)


def test_labels_are_those_of_the_signature() -> None:
    """Parameters by name, more of them by number; builtins without a signature by number."""

    class Thing:
        def work(self, rows: Any) -> None: ...

        def __call__(self, rows: Any) -> None: ...

    def only(a: int, /, **kw: int) -> None: ...

    def labels(func: Any, *args: Any, **kwargs: Any) -> list[str]:
        return list(fingerprint_of(func, args, kwargs).arguments)

    assert labels(area, 1, 2, 3, 4, unit="x", deep=1) == [
        "width", "height", "more[0]", "more[1]", "unit", "deep"
    ]  # fmt: skip
    assert labels(max, 1, 2) == ["args[0]", "args[1]"]
    assert labels(only, 1, a=2) == ["a", "**a"]
    assert labels(Thing().work, 1) == ["self", "rows"]
    assert labels(Thing(), 1) == ["rows"]
    assert labels(functools.partial(area, 1), 2) == ["height"]
    assert labels(Point, 2) == ["x"]


def test_a_task_among_the_arguments_stands_for_its_result() -> None:
    """It counts by its name, also inside a list."""
    took = [fingerprint(area, ([Task(name, list)],), {}) for name in ("a", "a", "b")]

    assert took[0] == took[1] != took[2]
    assert took[0] is not None


def test_differences_of_arguments_are_said() -> None:
    """Changed, new, gone, and what cannot be compared, on one line each."""
    was = fingerprint_of(area, (1, 2), {"deep": iter(()), "old": 1})
    now = fingerprint_of(area, (3, 2), {"deep": iter(()), "new\n": 1})

    assert was.differences(now) == (
        "argument 'width' changed",
        "argument 'old' is gone",
        "argument 'new\\n' is new",
        "argument 'deep' (a tuple_iterator) cannot be compared",
    )


def test_the_code_comes_before_the_arguments() -> None:
    """The most telling first."""
    was, now = cell("def f(x): return 1")["f"], cell("def f(x): return 2")["f"]

    said = fingerprint_of(was, (1,), {}).differences(fingerprint_of(now, (2,), {}))

    assert said == ("its code changed", "argument 'x' changed")


def test_names_cannot_forge_a_line() -> None:
    """A label with a line break or of great length stays one short line."""
    was = Fingerprint({"f()": "1", "a\nb()": "2", "x" * 500: "3"}, {})
    now = Fingerprint({"f()": "1", "a\nb()": "4", "x" * 500: "5"}, {})

    said = was.differences(now)

    assert all(words.isprintable() and len(words) < 130 for words in said)
    assert said[0] == "a?b(), which it calls, changed"


def test_a_fingerprint_is_stored_as_text() -> None:
    """It comes back equal, with the order of its parts."""
    took = fingerprint_of(area, (1, iter(())), {})

    back = Fingerprint.from_json(took.as_json())

    assert back == took
    assert list(back.code) == list(took.code)
    assert back.differences(took) == took.differences(took)


@pytest.mark.parametrize("text", ["", "[]", "{", "null", '{"code": 1}', "[" * 100_000,
                                  '{"code": {"f": 1}, "arguments": {}, "unseen": {}}',
                                  '{"code": {}, "arguments": [], "unseen": {}}'])  # fmt: skip
def test_text_that_is_no_fingerprint_is_refused(text: str) -> None:
    """With one kind of error, which says what makes one."""
    with pytest.raises(ValueError, match="not a stored fingerprint; as_json"):
        Fingerprint.from_json(text)


def test_whole_counts_prerequisites_in_any_order() -> None:
    """Their order does not matter, their number does, and one unknown makes it unknown."""
    own = fingerprint_of(area, (1,), {})
    blind = fingerprint_of(area, (iter(()),), {})

    assert whole(own, ["a", "b"]) == whole(own, iter(["b", "a"]))
    assert len({whole(own, each) for each in ([], ["a"], ["a", "a"], ["a", "b"], ["ab"])}) == 5
    assert whole(own, []) != whole(fingerprint_of(area, (2,), {}), [])
    assert whole(own, ["a", None]) is None
    assert whole(blind, ["a"]) is None


FUNCTIONS: Final[dict[str, Callable[[], Any]]] = {
    "lambda": lambda: lambda: 1,
    "partial": lambda: functools.partial(area, 1),
    "partial of a partial": lambda: functools.partial(functools.partial(max, 1), 2),
    "bound method": lambda: Point(1).__repr__,
    "method of a builtin": lambda: [1].append,
    "object": lambda: Adder(1),
    "class": lambda: Adder,
    "class of Python's": lambda: dict,
    "builtin": lambda: max,
    "method descriptor": lambda: str.upper,
    "coroutine function": lambda: cell("async def f(): pass")["f"],
    "generator function": lambda: cell("def f(): yield 1")["f"],
    "task function": lambda: task(area),
    "ufunc": lambda: np.add,
    "cached": lambda: functools.lru_cache(area),
    "single dispatch": lambda: functools.singledispatch(area),
    "evil": Evil,
}


@pytest.mark.parametrize("make", FUNCTIONS.values(), ids=FUNCTIONS)
def test_whatever_can_be_called_has_a_fingerprint(make: Callable[[], Any]) -> None:
    """The same for one that was made alike, with and without a version."""
    one, two = make(), make()

    took = fingerprint_of(one, (), {})

    assert took == fingerprint_of(two, (), {}, version_of(two))
    assert took.digest is not None
    assert len(took.code) >= 1


def test_what_cannot_even_be_asked_for_its_class_never_counts_as_the_same() -> None:
    """As argument it is said to be unseen, as a global the call is another one each time."""

    class Meta(type):
        def __getattribute__(cls, name: str) -> Any:
            raise ZeroDivisionError(name)

        def __hash__(cls) -> int:
            raise ZeroDivisionError

    class Hostile(metaclass=Meta):
        pass

    hostile: Any = object.__new__(Hostile)
    names = cell("def f(): return x", x=hostile)

    version = version_of(names["f"])
    took = fingerprint_of(names["f"], (hostile,), {})

    assert version is not None
    assert not version.is_current
    assert took.unseen == {"args[0]": "a Hostile"}
    assert took.differences(fingerprint_of(names["f"], (), {}))[0] == (
        "something that cannot be looked at, which it reads, changed"
    )
    assert fingerprint_of(hostile, (), {}).differences(fingerprint_of(hostile, (), {}))


# ------------------------------------------------------------------------------------- versions
def test_a_function_that_reads_nothing_has_no_version() -> None:
    """There is nothing to watch: builtins, constants, plain closed-over values."""
    names = cell("def f(a, b=1): return max(a, b)\ndef make(n): return lambda: n\ng = make(1)")

    assert version_of(names["f"]) is None
    assert version_of(names["g"]) is None
    assert version_of(max) is None
    assert version_of(dict) is None


def test_functions_of_one_code_have_their_own_defaults() -> None:
    """What they refer to is shared, what they were given is not."""
    names = cell("x = 1\nfs = [lambda i=i: x for i in (1, 2)]\nfs[1].__defaults__ = None")

    versions = [version_of(func) for func in names["fs"]]

    one, two = (version.parts for version in versions if version is not None)
    assert one["<listcomp>.<lambda>()"] != two["<listcomp>.<lambda>()"]
    assert one["x"] == two["x"]


def test_code_that_cannot_be_read_equals_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """A new Python whose instructions are not understood makes calls changed, never the same."""
    import dis

    def fail(code: object) -> None:
        raise IndexError

    monkeypatch.setattr(dis, "Bytecode", fail)
    one, two = of("def f(): return 1"), of("def f(): return 1")

    assert one.differences(two) == ("its code changed",)


def test_one_version_serves_many_functions() -> None:
    """Functions of one code without closure share it as long as nothing changes."""
    names = cell("x = 1\nfs = [lambda: x for _ in range(100)]")

    versions = [version_of(func) for func in names["fs"]]

    assert len(set(map(id, versions))) == 1


REDEFINED: Final = {
    "value": ("x = 1", "x = 2"),
    "equal value": ("x = 1000.0", "x = float('1e3')"),
    "function": ("def x(): return 1", "def x(): return 2"),
    "class": ("class x: pass", "class x: pass"),
    "method put into a class": ("class x:\n    def m(self): pass", "x.m = lambda self: 1"),
    "code put into a function": ("def x(): return 1", "x.__code__ = (lambda: 2).__code__"),
    "what a helper reads": ("y = 1\ndef x(): return y", "y = 2"),
    "what a method calls": ("def y(): return 1\nclass x:\n    def m(self): return y()",
                            "def y(): return 2"),
    "deleted": ("x = 1", "del x"),
    "what was not there": ("", "x = 1"),
    "large array": ("import numpy\nx = numpy.zeros(1_000_000)", "x = numpy.ones(1_000_000)"),
    "function in a table": ("def y(): return 1\ndef z(): return y()\nx = [z]",
                            "def y(): return 2"),
    "task function": (("from taskqueue_nb import task\ndef y(): return 1\n@task\n"
                      "def x(): return y()"), "def y(): return 2"),
    "helper of a wrapped one": (("import functools\ndef y(): return 1\n@functools.cache\n"
                                "def x(): return y()"), "def y(): return 2"),
    "attribute of a module": ("import types\nx = types.ModuleType('x')\nx.y = 1", "x.y = 2"),
}  # fmt: skip


@pytest.mark.parametrize(("before", "after"), REDEFINED.values(), ids=REDEFINED)
def test_a_version_says_when_anything_was_redefined(before: str, after: str) -> None:
    """It is current until then; a new one is given after, and the old one keeps what was."""
    names = cell(before + "\ndef f(): return x, x.y")
    was = version_of(names["f"])
    assert was is not None
    assert was.is_current
    assert version_of(names["f"]) is was

    exec(after, names)  # noqa: S102 - the next cell

    assert not was.is_current
    now = version_of(names["f"])
    assert now is not None
    assert now is not was
    assert now.is_current


def test_a_version_keeps_what_an_attempt_ran_with() -> None:
    """The digests of an old version are those of then, though nobody asked for them then."""
    names = cell("x = 1\ndef h(): return x\ndef f(): return h()")
    was = version_of(names["f"])
    then = fingerprint_of(names["f"], (), {}).as_json()

    exec("x = 2\ndef h(): return -x", names)  # noqa: S102 - the next cell

    took = fingerprint_of(names["f"], (), {}, was)
    assert took == Fingerprint.from_json(then)
    assert took.differences(fingerprint_of(names["f"], (), {})) == (
        "h(), which it calls, changed",
        "x, which it reads, changed",
    )


CONTENTS = {
    "dict": ("x = {'a': 1}", "x['a'] = 2"),
    "new key": ("x = {}", "x['a'] = 2"),
    "list": ("x = [1, 2]", "x[0] = 9"),
    "longer list": ("x = [1, 2]", "x.append(3)"),
    "other type": ("x = [1, 2]", "x[0] = True"),
    "nested": ("x = {'a': [1]}", "x['a'].append(2)"),
    "in a tuple": ("x = (1, [2])", "x[1].append(2)"),
    "set": ("x = {1}", "x.add(2)"),
    "of a class": ("class x:\n    y = [1]", "x.y.append(2)"),
    "new attribute of a class": ("class x: pass", "x.y = 1"),
    "of a helper": ("y = [1]\ndef x(): return y", "y.append(2)"),
}
LARGER = {
    "long list": ("x = list(range(1000))", "x[0] = 9"),
    "long text": ("x = ['a' * 100_000]", "x[0] += 'b'"),
    "bytearray": ("x = bytearray(b'a')", "x[0] = 1"),
    "array": ("import numpy\nx = numpy.zeros(3)", "x[0] = 1"),
    "object": ("class C: pass\nx = C()\nx.y = 1", "x.y = 2"),
    "object in a list": ("class C: pass\nx = [C()]\nx[0].y = 1", "x[0].y = 2"),
    "objects of a partial": (
        "import functools\nx = functools.partial(print, [object()])",
        "x.args[0].append(1)",
    ),
    "single dispatch": (
        "import functools\n@functools.singledispatch\ndef x(y): return 0",
        "@x.register\ndef _(y: int): return 1",
    ),
    "a function's table": ("def h(): return 1\nx = {'h': h}", "x['g'] = lambda: 2"),
    "class with a list of objects": ("class x:\n    y = [object()]", "x.y.append(2)"),
}


@pytest.mark.parametrize("is_closed_over", [False, True], ids=["global", "closed over"])
@pytest.mark.parametrize(("before", "after"), CONTENTS.values(), ids=CONTENTS)
def test_a_small_container_that_is_changed_in_place_is_noticed(
    before: str, after: str, is_closed_over: bool
) -> None:
    """Also if nobody had asked before: the version keeps what was in it at the attempt."""
    read = "def f(): return x"
    if is_closed_over:
        read = "def make(x):\n    def f(): return x\n    return f\nf = make(x)"
    names = cell(f"{before}\n{read}")
    was = version_of(names["f"])
    assert was is not None
    assert version_of(names["f"]).parts == was.parts  # type: ignore[union-attr]
    then = fingerprint_of(names["f"], (), {})

    exec(after, names)  # noqa: S102 - the next cell

    assert fingerprint_of(names["f"], (), {}, was) == then
    now = fingerprint_of(names["f"], (), {})
    assert now.digest != then.digest
    assert then.differences(now)
    assert version_of(names["f"]).parts == now.code  # type: ignore[union-attr]
    again = fingerprint_of(names["f"], (), {}, version_of(names["f"]))
    assert again == fingerprint_of(names["f"], (), {}) == now


@pytest.mark.parametrize("is_closed_over", [False, True], ids=["global", "closed over"])
@pytest.mark.parametrize(("before", "after"), LARGER.values(), ids=LARGER)
def test_what_is_changed_in_place_is_noticed_once_digests_were_taken(
    before: str, after: str, is_closed_over: bool
) -> None:
    """What is now is always looked at anew, and so is what the next attempt reads."""
    read = "def f(): return x"
    if is_closed_over:
        read = "def make(x):\n    def f(): return x\n    return f\nf = make(x)"
    names = cell(f"{before}\n{read}")
    was = version_of(names["f"])
    then = fingerprint_of(names["f"], (), {}, was)
    assert fingerprint_of(names["f"], (), {}) == then

    exec(after, names)  # noqa: S102 - the next cell

    now = fingerprint_of(names["f"], (), {})
    assert fingerprint_of(names["f"], (), {}, was) == then
    assert then.differences(now)
    following = version_of(names["f"])
    assert following is not was
    assert fingerprint_of(names["f"], (), {}, following) == now


@pytest.mark.parametrize(
    "source",
    [
        "x = 1",
        "x = (1, ('a', None))",
        "import json as x",
        "import json\nx = json.dumps",
        "import logging\nx = logging.getLogger('a')",
        "import threading\nx = threading.Lock()",
        "import pathlib\nx = pathlib.Path('a')",
        "import re\nx = re.compile('a')",
        "import functools\n@functools.cache\ndef x(): return 1",
        "import contextlib\n@contextlib.contextmanager\ndef x(): yield 1",
        "from enum import Enum\nclass E(Enum):\n    A = 1\nx = E.A",
        "from dataclasses import dataclass\n@dataclass\nclass x:\n    y: int = 1",
        "class B:\n    __slots__ = ('y',)\nclass x(B):\n    @property\n    def z(self): return 1",
        "import numpy\nx = numpy.float64(1)",
        "x = [1, 2]",
    ],
)
def test_digests_of_what_stays_are_taken_once(source: str) -> None:
    """The next attempt shares the version, and with it the digests."""
    names = cell(f"{source}\ndef f(): return x")
    was = version_of(names["f"])
    assert was is not None
    parts = was.parts

    now = version_of(names["f"])

    assert now is was
    assert now.parts is parts


def test_attempts_share_a_version_until_its_digests_are_taken() -> None:
    """Of a large list no digest is taken before somebody asks, and none is kept after."""
    names = cell("x = list(range(1000))\ndef f(): return x")
    first = version_of(names["f"])
    assert version_of(names["f"]) is first
    assert first is not None

    assert first.parts

    second = version_of(names["f"])
    assert second is not first
    assert version_of(names["f"]) is second


def test_an_old_version_keeps_old_functions_but_no_large_array() -> None:
    """A large array goes when the notebook lets it go; then nothing equals it any more."""
    names = cell(
        "import numpy\ndef h(): return 1\nx = numpy.zeros(1_000_000)\ndef f(): return h(), x"
    )
    was = version_of(names["f"])
    assert was is not None
    gone, kept = weakref.ref(names["x"]), weakref.ref(names["h"])

    names["x"], names["h"] = np.zeros(1_000_000), None
    gc.collect()

    assert gone() is None
    assert kept() is not None
    now = fingerprint_of(names["f"], (), {})
    assert "x, which it reads, changed" in fingerprint_of(names["f"], (), {}, was).differences(now)


@pytest.mark.parametrize(
    "source",
    [
        "x = 1\ndef f(): return x",
        "def f(): return f",
        "def h(): return f\ndef f(): return h",
        "def make(g): return lambda: g()\nf = make(lambda: 1)",
        "class f:\n    def m(self): return f",
        "import functools\ndef h(): return f\nf = functools.partial(h)",
    ],
)
def test_nothing_is_kept_alive(source: str) -> None:
    """Once nobody holds a function or a version of it, both go."""
    names = cell(source)
    version = version_of(names["f"])
    assert version is not None
    assert version.parts
    gone = weakref.ref(names["f"])

    del version
    names.clear()
    gc.collect()

    assert gone() is None


def test_functions_whose_code_has_gone_are_forgotten() -> None:
    """Many cells that were run once leave nothing behind."""
    from taskqueue_nb.fingerprint.code import NOTES
    from taskqueue_nb.fingerprint.version import _seen

    gc.collect()
    before = len(NOTES), len(_seen)
    for number in range(200):
        names = cell(
            f"x = {number}\ndef make(x): return lambda: x\nf = make([x])\ndef g(): return x"
        )
        version_of(names["f"])
        version_of(names["g"])
        fingerprint_of(names["f"], (1,), {})
        names.clear()
    del names
    gc.collect()

    assert len(NOTES) <= before[0] + 5
    assert len(_seen) <= before[1] + 5


def test_a_package_counts_by_name() -> None:
    """What is installed is not followed: only its name stands in the parts."""
    source = "import json\nfrom statistics import mean\ndef f(a=()): return json.dumps(mean(a))"

    took = of(source)

    assert list(took.code) == ["f()", "json", "mean()"]


def test_versions_may_be_asked_for_in_many_threads() -> None:
    """All get a right one while another thread redefines what is read."""
    names = cell("x = 0\ndef h(): return x\ndef f(): return h()")

    def work(place: int) -> None:
        for number in range(200):
            if place == 0:
                names["x"] = number
            else:
                version = version_of(names["f"])
                assert version is not None
                assert set(version.parts) == {"f()", "h()", "x"}

    assert at_once(8, work) == [None] * 8
    assert fingerprint_of(names["f"], (), {}) == of(
        "x = 199\ndef h(): return x\ndef f(): return h()"
    )


def test_code_that_was_put_into_the_function_itself_is_noticed() -> None:
    """As reloading does; the version keeps the code that ran."""
    names = cell("x = 1\ndef f(): return x\ndef g(): return -x")
    was = version_of(names["f"])
    assert was is not None

    names["f"].__code__ = names["g"].__code__

    assert not was.is_current
    took = fingerprint_of(names["f"], (), {}, was)
    assert took.differences(fingerprint_of(names["f"], (), {})) == ("its code changed",)


def test_a_closure_that_is_filled_later_is_noticed() -> None:
    """What was not there yet is another version."""
    names = cell(
        "def make():\n    def f(): return late\n"
        "    first = see(f)\n    late = [1]\n    return f, first",
        see=version_of,
    )

    func, first = names["make"]()

    assert not first.is_current
    assert version_of(func).is_current  # type: ignore[union-attr]


def test_a_version_can_be_shown() -> None:
    """Its repr says whose it is."""
    version = version_of(cell("x = 1\ndef clean(): return x")["clean"])

    assert isinstance(version, Version)
    assert repr(version) == "<Version of clean()>"


def test_asking_every_time_is_cheap() -> None:
    """10,000 functions made in one loop cost no more than looking each of them up."""
    names = cell("x = 1\nfs = [lambda i=i: x + i for i in range(10_000)]")
    keep = version_of(names["fs"][0])
    began = perf_counter()

    versions = [version_of(func) for func in names["fs"]]

    assert perf_counter() - began < 0.5  # 50 µs each would be that much
    assert keep is not None
    assert len({version.parts["x"] for version in versions[:10] if version}) == 1


def test_looking_at_a_class_does_not_change_it() -> None:
    """A class without annotations has an empty mapping of them once somebody asked for it."""

    class Plain:
        def get(self) -> int:
            return 1

    before = digest(Plain)

    assert Plain.__annotations__ == {}
    assert digest(Plain) == before


def test_every_code_can_be_read() -> None:
    """No instruction that a compiler makes of real modules is left out: it would never compare."""
    from taskqueue_nb.fingerprint.code import _digest_of_one

    folder = Path(os.__file__).parent
    unread: list[str] = []
    count = 0
    for file in sorted(folder.glob("*.py")) + sorted(folder.glob("asyncio/*.py")):
        codes = [compile(file.read_bytes(), str(file), "exec", dont_inherit=True)]
        for code in codes:
            codes += [const for const in code.co_consts if isinstance(const, types.CodeType)]
            count += 1
            try:
                _digest_of_one(code)
            except Exception as error:
                unread.append(f"{code.co_qualname}: {error!r}")

    assert not unread
    assert count > 5_000
