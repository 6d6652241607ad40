"""Code as text: what is read of a function, what edited text becomes, and a call as a cell."""

# ruff: noqa: D102, D103 - a docstring would be part of the texts that are compared
# ruff: noqa: S102, S307 - cells are run

from __future__ import annotations

import asyncio
import functools
import gc
import inspect
import itertools
import linecache
import math
import os
import pdb  # noqa: T100 - it is what is opened
import pickle
import subprocess
import sys
import textwrap
import time
import traceback
import weakref
from ast import PyCF_ALLOW_TOP_LEVEL_AWAIT
from collections import OrderedDict
from collections.abc import Callable, Iterator
from types import FunctionType, MethodType
from typing import Any, Final

import cloudpickle
import pytest
from hypothesis import given
from hypothesis import strategies as st

from checks import LIMIT, at_once
from taskqueue_nb import Task, task
from taskqueue_nb import task as other_name
from taskqueue_nb.fingerprint import fingerprint_of
from taskqueue_nb.source import (
    LONGEST,
    Call,
    Comparison,
    compare,
    compiled,
    inputs,
    keep,
    post_mortem,
    snippet,
    source_of,
)
from taskqueue_nb.source import lines as edited_lines

_cells = itertools.count(1)


def cell(text: str, names: dict[str, Any] | None = None) -> dict[str, Any]:
    """Run a cell of a notebook, whose lines are found as IPython lets them be found."""
    names = {"__name__": "a notebook"} if names is None else names
    filename = f"<cell {next(_cells)}>"
    lines = [f"{line}\n" for line in text.split("\n")]
    linecache.cache[filename] = (len(text), None, lines, filename)
    code = compile(text, filename, "exec", PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    if code.co_flags & inspect.CO_COROUTINE:
        asyncio.run(eval(code, names))
    else:
        exec(code, names)
    return names


@pytest.fixture(autouse=True)
def cells_end_with_their_test() -> Iterator[None]:
    """Let the lines of no test reach another one."""
    yield
    for filename in [name for name in linecache.cache if name.startswith("<cell ")]:
        del linecache.cache[filename]


# -- the text of a function --------------------------------------------------------------------


def plain(number: int) -> int:
    """Add one."""
    return number + 1  # to be sure


@task
def ours(number: int) -> int:
    return number


@other_name(retries=2, group="numbers")
# a comment between
@functools.cache
def mixed(number: int) -> int:
    return number


def loud(func: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate with a wrapper that calls itself the same."""

    @functools.wraps(func)
    def wrapper(*args: Any) -> Any:
        return [func(*args)]

    return wrapper


@loud
def decorated(number: int) -> int:
    return number


rewrapped = loud(plain)


async def waits(number: int) -> int:
    await asyncio.sleep(0)
    return number


def counts(limit: int) -> Iterator[int]:
    yield from range(limit)


class Shop:
    """A class whose methods are looked at."""

    def __init__(self) -> None:
        self.__price = 3

    def price(
        self,
        times: int = 1,
    ) -> tuple[int, str]:
        bill = """one
        two
"""
        # dearer
        return self.__price * times, bill

    def who(self) -> str:
        return super().__repr__()

    def asker(self) -> Any:
        def ask() -> tuple[int, str]:
            return self.__price, __class__.__name__  # type: ignore[name-defined]  # in methods

        return ask

    @classmethod
    def name(cls) -> str:
        return cls.__name__

    @staticmethod
    def open() -> bool:
        return True


def make(factor: int) -> Any:
    """Return functions that close over a variable, and one that changes it."""

    def times(number: int) -> int:
        return number * factor

    def raise_factor(by: int) -> int:
        nonlocal factor
        factor += by
        return factor

    return times, raise_factor, lambda number: number * factor


first, second = (lambda x: x + 1), (lambda x: x + 2)
same_words = [lambda: 1, lambda: 1, lambda: 1]
inner = (lambda: lambda x=2: x)()  # noqa: PLC3002 - one in another
letters = [lambda ä: "ß" + ä, lambda ü: "€" + ü]  # noqa: PLC2401 - columns are bytes
long_one = [
    lambda rows, limit=3: [
        row  # a comment
        for row in rows
        if row > limit
    ]
][0]

TEXTS: Final[dict[str, tuple[Any, str | None]]] = {
    "function": (
        plain,
        'def plain(number: int) -> int:\n    """Add one."""\n    return number + 1  # to be sure',
    ),
    "task": (ours, "def ours(number: int) -> int:\n    return number"),
    "function of a task": (ours.func, "def ours(number: int) -> int:\n    return number"),
    "other decorators": (
        mixed,
        "# a comment between\n@functools.cache\ndef mixed(number: int) -> int:\n    return number",
    ),
    "wrapper": (decorated, "@loud\ndef decorated(number: int) -> int:\n    return number"),
    "wrapper by hand": (
        rewrapped,
        "@functools.wraps(func)\ndef wrapper(*args: Any) -> Any:\n    return [func(*args)]",
    ),
    "coroutine function": (
        waits,
        "async def waits(number: int) -> int:\n    await asyncio.sleep(0)\n    return number",
    ),
    "generator function": (
        counts,
        "def counts(limit: int) -> Iterator[int]:\n    yield from range(limit)",
    ),
    "method": (
        Shop.price,
        (
            "def price(\n    self,\n    times: int = 1,\n) -> tuple[int, str]:\n"
            '    bill = """one\n        two\n"""\n    # dearer\n'
            "    return self.__price * times, bill"
        ),
    ),
    "class method": (Shop.name, "@classmethod\ndef name(cls) -> str:\n    return cls.__name__"),
    "static method": (Shop.open, "@staticmethod\ndef open() -> bool:\n    return True"),
    "nested in a method": (
        Shop().asker(),
        (
            "def ask() -> tuple[int, str]:\n    return self.__price, __class__.__name__"
            "  # type: ignore[name-defined]  # in methods"
        ),
    ),
    "nested": (make(2)[0], "def times(number: int) -> int:\n    return number * factor"),
    "nested lambda": (make(2)[2], "lambda number: number * factor"),
    "first lambda of a line": (first, "lambda x: x + 1"),
    "second lambda of a line": (second, "lambda x: x + 2"),
    "lambda among equals": (same_words[1], "lambda: 1"),
    "lambda in a lambda": (inner, "lambda x=2: x"),
    "lambda after other letters": (letters[0], 'lambda ä: "ß" + ä'),
    "lambda after bytes": (letters[1], 'lambda ü: "€" + ü'),
    "lambda of several lines": (
        long_one,
        (
            "lambda rows, limit=3: [\n        row  # a comment\n        for row in rows\n"
            "        if row > limit\n    ]"
        ),
    ),
    "partial": (functools.partial(first, 3), "lambda x: x + 1"),
    "partial of a method": (
        functools.partial(Shop().who),
        "def who(self) -> str:\n    return super().__repr__()",
    ),
    "builtin": (len, None),
    "C function": (math.sqrt, None),
    "builtin method": ([].append, None),
    "partial of a builtin": (functools.partial(pow, 2), None),
    "class": (Shop, None),
    "no function": (5, None),
    "nothing": (None, None),
}


@pytest.mark.parametrize(("func", "text"), TEXTS.values(), ids=TEXTS)
def test_source_of(func: Any, text: str | None) -> None:
    """A function's text begins at the margin, has no `@task`, and is whole."""
    assert source_of(func) == text


def test_what_is_not_recognised_as_ours_stays() -> None:
    """Only dotted names are followed; anything else that decorates is kept, and does no harm."""
    names = cell("import taskqueue_nb\n@vars(taskqueue_nb)['task']\ndef f(x):\n    return x\n")

    text = source_of(names["f"])

    assert text == "@vars(taskqueue_nb)['task']\ndef f(x):\n    return x"
    assert compiled(text, names["f"])(3) == 3


OUR_DECORATORS: Final = {
    "@task": "from taskqueue_nb import task",
    "@task(retries=1)": "from taskqueue_nb import task",
    "@task(\n    retries=1,\n)": "from taskqueue_nb import task",
    "@t": "from taskqueue_nb import task as t",
    "@tq.task": "import taskqueue_nb as tq",
    "@taskqueue_nb.task()": "import taskqueue_nb",
    "@ task # ours": "from taskqueue_nb import task",
}


@pytest.mark.parametrize(("decorator", "brought"), OUR_DECORATORS.items())
def test_our_decorator_is_left_out(decorator: str, brought: str) -> None:
    """`@task` goes, however it is called; it is a matter of the cell, not of the function."""
    names = cell(f"{brought}\n{decorator}\ndef f(x):\n    return x\n")

    made = next(one for one in names.values() if type(one).__name__ == "TaskFunction")

    assert source_of(made) == source_of(made.func) == "def f(x):\n    return x"


def test_our_decorator_imported_in_a_function_is_left_out() -> None:
    """Where the name cannot be looked up, the word counts."""
    names = cell(
        "def outer():\n    from taskqueue_nb import task\n    @task\n    def f(x):\n"
        "        return x\n    return f\n"
    )

    assert source_of(names["outer"]()) == "def f(x):\n    return x"


def test_a_task_of_others_stays() -> None:
    """A decorator that is called `task` and is not ours is part of the function."""
    names = cell("def task(func):\n    return func\n@task\ndef f(x):\n    return x\n")

    assert source_of(names["f"]) == "@task\ndef f(x):\n    return x"


def test_lambdas_without_columns(tmp_path: Any) -> None:
    """Where Python keeps no columns, what was compiled tells lambdas apart, or nothing does."""
    path = tmp_path / "lambdas.py"
    path.write_text(
        "from __future__ import annotations\n"
        "from taskqueue_nb.source import source_of\n"
        "one, two = (lambda x: x + 1), (lambda x: x + 2)\n"
        "constants = [lambda: 1, lambda: True, lambda: 1.0]\n"
        "def make(y): return (lambda: y, lambda: [y])\n"
        "alone = make(1)\n"
        "for f in (one, two, *constants, *alone): print(source_of(f))\n"
    )

    said = subprocess.run(
        [sys.executable, "-X", "no_debug_ranges", str(path)],
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )

    assert said.stdout.split("\n") == [
        "lambda x: x + 1",
        "lambda x: x + 2",
        "lambda: 1",
        "lambda: True",
        "lambda: 1.0",
        "None",  # closures are compiled in another way than alone
        "None",
        "",
    ]


INDENTED: Final = {
    "tabs": ("if 1:\n\tdef f(x):\n\t\treturn x\n", "def f(x):\n\treturn x"),
    "a comment at the margin": (
        "if 1:\n    def f(x):\n# here\n        return x\n",
        "def f(x):\n# here\n    return x",
    ),
    "a line in brackets at the margin": (
        "if 1:\n    def f(x):\n        return [\nx]\n",
        "def f(x):\n    return [\nx]",
    ),
    "a backslash": (
        "if 1:\n    def f(x):\n        return x + \\\n  x\n",
        "def f(x):\n    return x + \\\nx",
    ),
    "a string": (
        'if 1:\n    def f(x):\n        return """a\n        b\n    c"""\n',
        'def f(x):\n    return """a\n        b\n    c"""',
    ),
    "a formatted string": (
        'if 1:\n    def f(x):\n        return f"""a\n        {x}\n    c"""\n',
        'def f(x):\n    return f"""a\n        {x}\n    c"""',
    ),
    "a continued string": (
        'if 1:\n    def f(x):\n        return "a\\\n        b"\n',
        'def f(x):\n    return "a\\\n        b"',
    ),
    "blank lines": (
        "if 1:\n    def f(x):\n\n  \n        return x\n\n\n",
        "def f(x):\n\n  \n    return x",
    ),
    "a comment at the end": (
        "if 1:\n    def f(x):\n        return x\n        # so\n    y = 2\n",
        "def f(x):\n    return x\n    # so",
    ),
    "one line": ("if 1:\n    def f(x): return x\n    y = 2", "def f(x): return x"),
}


@pytest.mark.parametrize(("text", "expected"), INDENTED.values(), ids=INDENTED)
def test_an_indented_function_moves_to_the_margin(text: str, expected: str) -> None:
    """The lines move, what a string holds does not, and the function does the same."""
    f = cell(text)["f"]

    found = source_of(f)

    assert found == expected
    assert compiled(found, f)("x") == f("x")


def test_no_text() -> None:
    """What `exec` made, and what was in a file that is gone, has none."""
    names: dict[str, Any] = {}
    exec("def f(): pass\ng = lambda: 1", names)

    assert source_of(names["f"]) is None
    assert source_of(names["g"]) is None


@pytest.mark.parametrize("after", ["", "x = 1\n", "def other():\n    pass\n", "lambda: (\n", "\0"])
def test_a_file_that_changed_gives_no_wrong_text(tmp_path: Any, after: str) -> None:
    """Where another function stands by now, or none, there is no text."""
    path = tmp_path / "steps.py"
    path.write_text("def step():\n    return 1\nother = lambda: 2\n")
    names: dict[str, Any] = {}
    exec(compile(path.read_text(), str(path), "exec"), names)
    assert source_of(names["step"]) == "def step():\n    return 1"
    assert source_of(names["other"]) == "lambda: 2"

    path.write_text(after)
    os.utime(path, (1, 1))

    assert source_of(names["step"]) is None
    assert source_of(names["other"]) is None
    path.write_text("\n\no = lambda x: 22222\n")
    os.utime(path, (2, 2))
    assert source_of(names["other"]) is None  # one stands there, with other parameters


def test_a_file_with_windows_line_ends(tmp_path: Any) -> None:
    """Its lines end as all others do."""
    path = tmp_path / "steps.py"
    path.write_bytes(b"class A:\r\n    def step(self):\r\n        return 1\r\n")
    names: dict[str, Any] = {}
    exec(compile(path.read_bytes(), str(path), "exec"), names)

    assert source_of(names["A"].step) == "def step(self):\n    return 1"


def test_a_loader_that_fails_gives_no_text() -> None:
    """Where lines come from is other people's code."""

    class Loader:
        def get_source(self, name: str) -> str:
            raise RuntimeError(name)

    names: dict[str, Any] = {"__name__": "lost", "__loader__": Loader()}
    exec(compile("def f(): pass", "lost.py", "exec"), names)

    assert source_of(names["f"]) is None


def test_a_very_long_function_has_no_text() -> None:
    """It is not cut: half a function is worse than none."""
    long = f"def f():\n    return '{'x' * LONGEST}'\n"

    assert source_of(cell(long)["f"]) is None
    assert source_of(cell(f"f = lambda: '{'x' * LONGEST}'\n")["f"]) is None


class Evil:
    """An object that answers every question in the worst way."""

    def __init__(self, mood: str) -> None:
        self.__dict__["mood"] = mood

    def __getattr__(self, name: str) -> Any:
        if self.mood == "raises":
            raise RuntimeError(name)
        if self.mood == "exits":
            raise SystemExit
        return {"itself": self, "lies": 5, "new": Evil("new")}[self.mood]

    def __call__(self) -> None:
        """Do nothing."""


@pytest.mark.parametrize("mood", ["raises", "exits", "itself", "lies", "new"])
def test_foreign_objects_have_no_text(mood: str) -> None:
    """Whatever an object claims to wrap, the look ends, and raises nothing."""
    evil = Evil(mood)

    assert source_of(evil) is None
    assert source_of(functools.partial(evil)) is None


@pytest.mark.parametrize(
    "name",
    [name for name, (func, text) in TEXTS.items() if text and "wrapper" not in name],
)
def test_unchanged_text_gives_the_same_code(name: str) -> None:
    """What is read, compiled and read again is the same, in text and in code."""
    func, text = TEXTS[name]

    again = compiled(text or "", func)

    assert source_of(again) == text
    old, new = inside(func), inside(again)
    for part in ("co_names", "co_varnames", "co_freevars", "co_flags"):
        assert getattr(new.__code__, part) == getattr(old.__code__, part), part
    assert new.__closure__ == old.__closure__
    if func is not waits:  # a name that is imported in the same file is called in another way
        then, now = fingerprint_of(old, (), {}).code, fingerprint_of(new, (), {}).code
        assert then.items() <= now.items()  # an edited method is not the one of its class
        assert name == "partial of a method" or then == now
    assert new.__code__.co_qualname == old.__code__.co_qualname
    assert new.__qualname__ == old.__qualname__
    assert new.__module__ == old.__module__
    assert new.__defaults__ == old.__defaults__
    assert new.__globals__ is old.__globals__


def inside(func: Any) -> Any:
    """Return the function that stands in some text."""
    while not inspect.isfunction(func) or hasattr(func, "__wrapped__"):
        func = (
            func.func if hasattr(func, "func") else inspect.unwrap(getattr(func, "__func__", func))
        )
    return func


# -- text to function --------------------------------------------------------------------------


def test_the_edited_function_stands_in_for_the_old_one() -> None:
    """It has the old one's names and the new one's code and defaults, and nobody else changes."""
    names = cell(
        "limit = 2\ndef keep_high(rows, by=0):\n    return [r for r in rows if r > limit]\n"
    )
    old = names["keep_high"]
    before = dict(names)

    new = compiled("def anything(rows, by=limit): return [r + by for r in rows if r > limit]", old)

    assert new([1, 2, 3]) == [5]
    assert old([1, 2, 3]) == [3]
    assert names == before
    assert (new.__name__, new.__qualname__) == ("keep_high", "keep_high")
    assert new.__module__ == old.__module__ == "a notebook"
    assert new.__defaults__ == (2,)
    names["limit"] = 0
    assert new([1]) == [3]  # its default was taken when it was made


def test_the_name_and_module_that_were_given_stay() -> None:
    """Also where they are others than the text and the namespace give."""
    old: Any = cell("def f(): pass")["f"]
    old.__module__, old.__name__, old.__qualname__ = "elsewhere", "name", "Whole.name"

    new = compiled("def g(): pass", old)

    assert (new.__module__, new.__name__, new.__qualname__) == ("elsewhere", "name", "Whole.name")


@pytest.mark.parametrize("text", ["  def f(x):\r      return x / 0\r", "(\r\nlambda x:\r\n x / 0)"])
def test_lines_count_as_in_the_text(text: str) -> None:
    """Whatever ends the lines, and wherever they begin."""
    new = compiled(text, plain)

    with pytest.raises(ZeroDivisionError) as caught:
        new(1)

    last = traceback.extract_tb(caught.value.__traceback__)[-1]
    lines = text.splitlines()
    assert (last.lineno, last.line) == (len(lines), lines[-1].strip())
    assert "\r" not in (source_of(new) or "\r")


def test_a_namespace_gains_no_name_at_all() -> None:
    """Not even the builtins, which `exec` would add."""
    names: dict[str, Any] = {"one": 1}
    old = FunctionType(plain.__code__, names)

    new = compiled("def f(x, y=(z := 3)): return x + len([one, y, z])", old)

    assert list(names) == ["one"]
    assert new(1) == 4  # what is bound on the way is the function's own


def test_without_a_model_it_runs_in_main() -> None:
    """A function of nothing else sees what the notebook sees."""
    new = compiled("def f(): return __name__")

    assert new() == "__main__"
    assert new.__module__ == "__main__"
    assert new.__qualname__ == new.__name__ == "f"
    assert compiled("lambda: __name__", len)() == "__main__"


def test_variables_are_shared() -> None:
    """The new function sees what others put into a variable, and they see what it puts there."""
    times, raise_factor, also = make(2)

    new = compiled(
        "def times(number):\n    nonlocal factor\n    factor += 1\n    return factor", times
    )

    assert raise_factor(10) == 12
    assert new(0) == 13
    assert times(1) == also(1) == 13
    assert new.__qualname__ == "make.<locals>.times"


def test_defaults_and_decorators_see_the_variables() -> None:
    """What is computed when the text runs may use what the old function closes over."""
    times, raise_factor, _ = make(2)
    raise_factor(3)

    new = compiled("@(lambda f: lambda: f() + factor)\ndef t(a=factor): return a", times)

    assert new() == 10


def test_a_variable_without_a_value_stays_without() -> None:
    """A new function may be made before its variable has been given."""

    def late() -> Any:
        def f() -> Any:
            return value

        new = compiled("def f(): return [value]", f)
        with pytest.raises(NameError):
            new()
        value = 3
        return new()

    assert late() == [3]


def test_a_new_free_name_is_a_global_one() -> None:
    """What the old function did not close over is looked up in the notebook."""
    names = cell("def outer(a, b):\n    def f():\n        return a\n    return f\nb = 'global'\n")
    old = names["outer"]("closed over", "gone")

    assert compiled("def f(): return a, b", old)() == ("closed over", "global")


def test_recursion_finds_the_notebooks_function() -> None:
    """A call by its own name goes where every other call of the name goes."""
    names = cell("def f(n):\n    return 'old'\n")

    new = compiled("def f(n): return f(n - 1) if n else 'new'", names["f"])

    assert new(0) == "new"
    assert new(1) == "old"
    names["f"] = new
    assert new(5) == "new"


def test_methods_keep_their_class() -> None:
    """`super()` and private names mean what they mean inside the class."""
    shop = Shop()

    price = compiled("def price(self): return self.__price + 1", Shop.price)
    ask = compiled("def ask(): return self.__price * 2, __class__", shop.asker())
    who: Any = compiled("def who(self): return super().__hash__() == hash(self)", shop.who)

    assert price(shop) == 4
    assert ask() == (6, Shop)
    assert who() is True
    assert type(who) is MethodType
    assert who.__self__ is shop
    assert who.__func__.__qualname__ == "Shop.who"


STAND_INS: Final[dict[str, tuple[Any, str, Any]]] = {
    "partial": (functools.partial(lambda a, b=0, c=0: 0, 1, c=3), "lambda a, b, c: [a, b, c]", 2),
    "partial of a partial": (
        functools.partial(functools.partial(lambda *a: 0, 1), 2),
        "lambda *a: list(a)",
        2,
    ),
    "class method": (Shop.name, "@classmethod\ndef name(cls, x): return [cls.__name__, x]", 2),
    "static method": (Shop.open, "@staticmethod\ndef open(x): return x", 2),
    "task": (ours, "@task\ndef ours(x): return x", 2),
    "task with options": (ours.func, "@task(retries=2)\ndef ours(x): return x", 2),
    "wrapped": (decorated, "@loud\ndef decorated(x): return x + 1", 2),
    "lambda for a function": (plain, "lambda x: x", 2),
    "function for a lambda": (first, "def first(x):\n    return x", 2),
    "parenthesised": (first, "(\n  lambda x:\n x\n)", 2),
    "lambda of several lines": (first, "lambda x: [\nx,\n]", 2),
    "windows line ends": (plain, "def f(x):\r\n    y = '''a\r\nb'''\r\n    return x, y\r\n", 2),
    "old line ends": (plain, "def f(x):\r    return x\r", 2),
    "no line end": (plain, "def f(x): return x", 2),
    "blank lines around": (plain, "\n\n\ndef f(x): return x\n\n", 2),
    "comments around": (plain, "# a\n    # b\ndef f(x):\n    return x\n# c", 2),
    "tabs": (plain, "\tdef f(x):\n\t\treturn x\n", 2),
    "margin": (plain, "   def f(x):\n     return '''\n    '''\n", 2),
    "margin before a lambda": (first, "    lambda x: (x,\n 1)", 2),
    "other letters": (plain, "def größe(ä):\n    return ä, 'ß€😀'", 2),
    "odd line breaks in a text": (plain, "def f(x):\n    return 'a\u2028b\x0cc\x85d', x", 2),
    "a mark of an editor": (plain, "\ufeffdef f(x): return x", 2),
    "form feed": (plain, "\x0cdef f(x):\n    return x", 2),
}
ANSWERS: Final[dict[str, Any]] = {
    "partial": [1, 2, 3],
    "partial of a partial": [1, 2, 2],
    "class method": ["Shop", 2],
    "wrapped": [3],
    "lambda of several lines": [2],
    "windows line ends": (2, "a\nb"),
    "margin": "\n    ",
    "margin before a lambda": (2, 1),
    "other letters": (2, "ß€😀"),
    "odd line breaks in a text": ("a\u2028b\x0cc\x85d", 2),
}


@pytest.mark.parametrize("name", STAND_INS)
def test_stand_ins(name: str) -> None:
    """Whatever the old function was in, and however the text is laid out, the call is the same."""
    like, text, argument = STAND_INS[name]

    new = compiled(text, like)

    assert new(argument) == ANSWERS.get(name, 2)


def test_coroutines_and_generators() -> None:
    """They stay what the text says."""
    assert asyncio.run(compiled("async def waits(x):\n    return x + 1", waits)(1)) == 2
    assert list(compiled("def counts(n):\n    yield from range(n)", counts)(2)) == [0, 1]


def test_annotations_as_the_old_function_had_them() -> None:
    """A `from __future__` of the old function's cell holds for the new text, ours does not."""
    postponed = cell("from __future__ import annotations\ndef f(x): pass\n")["f"]
    usual = cell("def f(x): pass\n")["f"]

    assert compiled("def f(x: unknown): pass", postponed).__annotations__ == {"x": "unknown"}
    assert compiled("def f(x: int): pass", usual).__annotations__ == {"x": int}


REFUSED: Final[dict[str, tuple[object, type[Exception], str]]] = {
    "nothing": ("", ValueError, "no function in the text; one function definition"),
    "blank": (" \n\t\n", ValueError, "no function in the text"),
    "a comment": ("# def f(): pass", ValueError, "no function in the text"),
    "an indented comment": ("    # nothing\n", ValueError, "no function in the text"),
    "a value": ("5", ValueError, "this is no function; one function definition"),
    "a call": ("print('x')", ValueError, "this is no function"),
    "a class": ("class A:\n    def f(self): pass", ValueError, "this is no function"),
    "an import before": ("import os\ndef f(): pass", ValueError, "line 1 stands outside.*import"),
    "a statement after": ("def f(): pass\nx = 1", ValueError, "line 2 stands outside"),
    "a statement beside": ("lambda: 1; x = 2", ValueError, "line 1 stands outside"),
    "two functions": ("def f(): pass\ndef g(): pass", ValueError, "there are 2 functions"),
    "two lambdas": ("lambda: 1\nlambda: 2", ValueError, "there are 2 functions"),
    "an assignment": ("f = lambda: 1", ValueError, "the lambda alone is wanted"),
    "a pair": ("lambda: 1, 2", ValueError, "this is no function"),
    "a way out of the brackets": ("lambda: 0)(lambda: 1", ValueError, "this is no function"),
    "no callable": ("@len\ndef f(): pass", TypeError, "has no len"),
    "a value by decorator": ("@id\ndef f(): pass", ValueError, "make a int of the function"),
    "too long": ("# " + "x" * 10**6, ValueError, "1,000,002 characters; 200,000 are allowed"),
    "nested too deeply": (f"def f(): return {'-' * 50_000}1", ValueError, "too deeply"),
    "a long chain": (f"def f(): return x{'.a' * 50_000}", ValueError, "too deeply"),
    "a long sum": (f"def f(): return 1{'+1' * 50_000}", ValueError, "too deeply"),
    "many lambdas": ("lambda: " * 20_000 + "1", ValueError, "too deeply"),
    "many branches": (
        "def f():\n if a: pass\n" + " elif a: pass\n" * 12_000,
        ValueError,
        "too deeply",
    ),
    "no text": (5, TypeError, "the text of a function is wanted, not a int"),
    "bytes": (b"def f(): pass", TypeError, "not a bytes"),
    "a function": (plain, TypeError, "not a function"),
}


@pytest.mark.parametrize(("text", "kind", "words"), REFUSED.values(), ids=REFUSED)
def test_what_is_refused(text: Any, kind: type[Exception], words: str) -> None:
    """Anything but one function is refused with a sentence, and leaves no lines behind."""
    kept = set(linecache.cache)

    with pytest.raises(kind, match=words):
        compiled(text, plain)

    gc.collect()
    added = {name for name in linecache.cache if "edited" in name} - kept
    assert not [name for name in added if linecache.getlines(name)]


WRONG: Final[dict[str, tuple[str, str, int, str]]] = {
    "a word": ("def f():\n    retrun 1", "invalid syntax", 2, "    retrun 1"),
    "at a margin": ("  def f():\n      retrun 1", "invalid syntax", 2, "      retrun 1"),
    "in a lambda": ("lambda x: (\n  x + * 2\n)", "invalid syntax", 2, "  x + * 2"),
    "open bracket": ("lambda: (", "never closed", 1, "lambda: ("),
    "open string": ("def f():\n    return '", "unterminated", 2, "    return '"),
    "no body": ("def f():", "expected an indented block", 1, "def f():"),
    "no function at all": ("1 +", "wanted", 1, "1 +"),
    "tabs and spaces": (
        "def f():\n\tif 1:\n        pass",
        "inconsistent use of tabs",
        3,
        "        pass",
    ),
    "no such variable": ("def f():\n    nonlocal zz", "no binding", 2, "    nonlocal zz"),
    "await outside": ("def f():\n    await x", "'await' outside async", 2, "    await x"),
    "a null byte": ("def f():\n    return '\0'", "null byte", 2, r"    return '\0'"),
    "half a letter": ("def f(): return '\ud800'", "surrogate", 1, r"def f(): return '\ud800'"),
    "too many brackets": (f"def f(): return {'(' * 900}", "too many nested", 1, "def f()"),
    "too many levels": (
        "".join(f"{' ' * i}def f():\n" for i in range(120)),
        "too many levels of indentation",
        101,
        " " * 100 + "def f():",
    ),
}


@pytest.mark.parametrize(("text", "words", "line", "shown"), WRONG.values(), ids=WRONG)
def test_what_is_no_python(text: str, words: str, line: int, shown: str) -> None:
    """A syntax error tells the line of the text, and shows it."""
    with pytest.raises(SyntaxError, match=words) as caught:
        compiled(text, plain)

    assert caught.value.lineno == line
    assert (caught.value.text or "").startswith(shown)
    assert "".join(traceback.format_exception_only(caught.value)).count("edited") == 1


@given(st.text(max_size=60) | st.text("def f(lambx:)'\"\n\t #@,=", max_size=40))
def test_any_text_is_refused_or_runs(text: str) -> None:
    """Whatever somebody types, it is a function or a sentence."""
    names: dict[str, Any] = {}
    like = FunctionType(plain.__code__, names)

    try:
        made = compiled(text, like)
    except (SyntaxError, ValueError, NameError):
        made = len
    assert callable(made)
    assert names == {}


def called(name: str) -> Any:
    """Return a function with a name of its own: by that its edits are numbered."""
    return FunctionType(plain.__code__, globals(), name)


def test_lines_in_tracebacks_and_inspection() -> None:
    """An edited function's lines are found by whoever looks for lines."""
    text = "# now with a check\ndef plain(number):\n    return number / 0  # here\n"

    new = compiled(text, called("clean\nrows"))

    assert new.__code__.co_filename == "<clean rows, edited 1>"
    assert inspect.getsource(new) == "def plain(number):\n    return number / 0  # here\n"
    linecache.checkcache()
    with pytest.raises(ZeroDivisionError) as caught:
        new(1)
    shown = "".join(traceback.format_exception(caught.value))
    assert 'File "<clean rows, edited 1>", line 3, in plain\n    return number / 0' in shown
    assert source_of(new) == text.strip()


def test_each_edit_has_its_own_lines() -> None:
    """Two edits of one name are told apart, in whatever threads they are made."""
    texts = [f"def plain(x):\n    return {i}\n" for i in range(8)]

    made = at_once(8, lambda place: compiled(texts[place], called("told apart")))

    assert [source_of(one) for one in made] == [text.strip() for text in texts]
    files = {one.__code__.co_filename for one in made}
    assert files == {f"<told apart, edited {i}>" for i in range(1, 9)}


def registered() -> int:
    """Count what is kept of edited functions."""
    gc.collect()
    edits = [name for name in linecache.cache if ", edited " in name]
    kept = [name for name in edits if linecache.getlines(name)]
    return len(kept) + len(edited_lines._edited) + len(weakref.finalize._registry)  # type: ignore[attr-defined]  # no other way to count


def test_a_thousand_edits_leave_nothing() -> None:
    """The lines go with the function."""
    before = registered()

    for number in range(1000):
        new = compiled(f"def plain(x, key=lambda y: y): return {number}", called("many"))
        assert new(1) == number
    del new

    assert registered() == before
    compiled("def plain(): pass", plain)  # takes what was emptied out
    assert not [name for name in linecache.cache if name.startswith("<many, edited")]


def test_lines_stay_while_any_part_is_there() -> None:
    """An inner function, and a traceback, still show their lines when the function is gone."""
    text = "def f():\n    def inner():\n        return 1 / 0\n    return inner\n"
    inside_one = compiled(text, plain)()
    gc.collect()

    with pytest.raises(ZeroDivisionError) as caught:
        inside_one()
    assert "return 1 / 0" in "".join(traceback.format_exception(caught.value))
    assert source_of(inside_one) == "def inner():\n    return 1 / 0"
    filename = inside_one.__code__.co_filename
    del inside_one
    gc.collect()
    assert linecache.getline(filename, 3) == "        return 1 / 0\n"
    caught.value.__traceback__ = None
    del caught
    gc.collect()
    assert linecache.getlines(filename) == []


def test_a_decorator_that_fails_shows_its_line() -> None:
    """What the text itself raises when it runs comes out, with its lines."""
    with pytest.raises(NameError) as caught:
        compiled("# mine\n@unknown\ndef f(): pass", plain)

    assert "@unknown" in "".join(traceback.format_exception(caught.value))


def test_edited_functions_travel() -> None:
    """They are carried by value, with their variables, also into another process."""
    times, _, _ = make(7)
    new = compiled("def times(number): return number * factor + 1", times)

    data = cloudpickle.dumps(new)

    assert pickle.loads(data)(3) == 22  # noqa: S301 - it is ours
    program = f"import pickle; print(pickle.loads({data!r})(3))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    said = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=True,
        env=environment,
    )
    assert said.stdout == "22\n"


def test_a_long_text_is_compiled_in_time() -> None:
    """The longest that is taken takes no longer than one waits."""
    lines = ["    x = (x + 1) * 3 - len('a text')"] * (LONGEST // 40)
    text = "\n".join(["def f(x):", *lines, "    return x"])
    started = time.monotonic()

    new = compiled(text, plain)

    assert source_of(new) == text
    assert time.monotonic() - started < LIMIT


def test_a_repaired_task_runs_the_edited_text() -> None:
    """The task runs it, and the notebook's own function stays."""
    names = cell("def share(total, parts):\n    return total / parts\n")
    one: Any = Task("share", names["share"], func_args=(10, 0))
    one.make()
    assert one.is_failed

    one.repair(func=compiled("def share(total, parts): return total / max(parts, 1)", one.func))

    assert one.make()
    assert one() == 10
    assert names["share"].__code__ is not one.func.__code__


# -- a call as a cell --------------------------------------------------------------------------


class Owner:
    """What keeps a call's inputs, as an attempt does."""


def again(text: str, names: dict[str, Any]) -> BaseException | None:
    """Run a cell in a notebook; return what it raised."""
    try:
        cell(text, names)
    except Exception as error:
        return error
    return None


class Table:
    """A value without a literal."""

    def __init__(self, *rows: int) -> None:
        self.rows = rows


NOTEBOOK: Final = '''
from functools import partial, cache
import math
from taskqueue_nb import task

limit = 3

def high(rows, *, limit=limit):
    if limit > 2:
        raise ValueError(f"limit {limit} is too high for {rows.rows}")

@task(retries=2)
def share(total, parts=0):
    """Share."""
    return total / parts

@cache
def cached(key, value=None):
    return {}[key]

async def waits(number):
    raise OSError(number)

def many(first, /, *rest, **options):
    raise LookupError(f"{first} {rest} {sorted(options.items())}")

def uses_inputs(table, inputs_=1):
    return inputs + function + table

text_of_lines = lambda table: (
    table,  # a comment
    {}[5],
)

def maker(factor, table):
    def times(number, plus=1):
        """Multiply."""
        text = """a
b"""
        if text != "a\\nb":
            raise AssertionError(text)
        return (number + plus) * factor / 0
    def count(n):
        if n == 0:
            return table.rows[5]
        return count(n - 1)
    def default(x=limit, y=factor):
        return {}[x, y, factor]
    hidden = 5
    def uses_hidden(x=hidden):
        return {}[x]
    return times, count, lambda number: [number][factor], default, uses_hidden

class Shop:
    def __init__(self):
        self.__price = 3
    def price(self, times):
        return self.__price / times

times, count, nth, default, uses_hidden = maker(2, None)
'''

CALLS: Final[dict[str, tuple[str, tuple[Any, ...], dict[str, Any], str]]] = {
    "by reference": ("high", (Table(1, 2),), {}, 'high(inputs["rows"])'),
    "some literals": (
        "high",
        (Table(1),),
        {"limit": 5},
        'high(inputs["rows"], limit=5)',
    ),
    "a task's function": ("share.func", (10,), {}, "share_again(10)"),
    "decorated": ("cached", ("no",), {}, "cached('no')"),
    "coroutine function": ("waits", (3,), {}, "await waits(3)"),
    "places": (
        "many",
        (Table(), 1, Table()),
        {},
        'many(inputs["first"], 1, inputs[2])',
    ),
    "odd names": ("many", (1,), {"a b": 2, "class": 3}, "many(1, **inputs.kwargs)"),
    "keywords": ("many", (1,), {"class": 3}, "many(1, **inputs.kwargs)"),
    "odder names": ("many", (1,), {"\n) import os #": 2}, "many(1, **inputs.kwargs)"),
    "ligatures": ("many", (1,), {"ﬁ": 2}, "many(1, **inputs.kwargs)"),
    "other letters": ("many", (1,), {"größe": 2}, "many(1, größe=2)"),
    "a parameter's name twice": (
        "many",
        (Table(),),
        {"first": Table()},
        'many(inputs[0], first=inputs["first"])',
    ),
    "wrong arguments": ("share.func", (1, 2, 3), {}, "share_again(1, 2, 3)"),
    "its own inputs": ("uses_inputs", (Table(),), {}, 'uses_inputs(inputs__["table"])'),
    "lambda": ("text_of_lines", (Table(),), {}, 'function(inputs["table"])'),
    "closure": ("times", (1,), {}, "times(1)"),
    "closure by that name": ("maker(3, 0)[0]", (1,), {}, "times_again(1)"),
    "recursive closure": ("maker(0, Table)[1]", (2,), {}, "count_again(2)"),
    "closed over lambda": ("maker(4, 0)[2]", (1,), {}, "function(1)"),
    "defaults from outside": ("default", (), {}, "default()"),
    "defaults that are gone": ("uses_hidden", (), {}, "inputs.func()"),
    "method": ("Shop().price", (0,), {}, "inputs.func(0)"),
    "function of a class": ("Shop.price", (Table(), 0), {}, 'inputs.func(inputs["self"], 0)'),
    "partial": ("partial(share.func, 3)", (0,), {}, "inputs.func(0)"),
    "builtin": ("divmod", (1, 0), {}, "builtins.divmod(1, 0)"),
    "C function": ("math.sqrt", (-1,), {}, "math.sqrt(-1)"),
    "builtin method": ("[].index", (3,), {}, "inputs.func(3)"),
    "class": ("Shop", (3,), {}, "inputs.func(3)"),
    "class of a module": ("range", (), {}, "builtins.range()"),
}


@pytest.mark.parametrize(("func", "args", "kwargs", "call"), CALLS.values(), ids=CALLS)
def test_a_cell_makes_the_call_again(
    func: str, args: tuple[Any, ...], kwargs: dict[str, Any], call: str
) -> None:
    """The cell runs as it is in the notebook and raises the same; no other name is changed."""
    names = cell(NOTEBOOK)
    called = eval(func, names, {"Table": Table(1)})
    owner = Owner()
    error = error_of(called, args, kwargs)
    before = dict(names)

    text = snippet("a task", 2, called, args, kwargs, error, keep(owner, args, kwargs, called))

    assert text.split("\n")[0].startswith("# task 'a task', attempt 2, raised ")
    assert text.split("\n")[-1] == call
    raised = again(text, names)
    assert type(raised) is type(error)
    assert str(raised).replace("share_again", "share") == str(error)
    changed = {one for one in before if names[one] is not before[one]}
    assert changed <= {call.partition("(")[0].removeprefix("await ")}


def error_of(func: Any, args: Any, kwargs: Any) -> BaseException:
    """Return what a call raises."""
    try:
        result = func(*args, **kwargs)
        if inspect.iscoroutine(result):
            asyncio.run(result)
    except Exception as error:
        return error
    raise AssertionError("it raises nothing")


def test_the_whole_cell() -> None:
    """It reads as a person would have written it."""
    names = cell(NOTEBOOK)
    owner = Owner()
    args, error = (Table(1, 2),), ValueError("limit 5\nis too high")
    key = keep(owner, args, {"limit": 5}, names["high"])

    text = snippet("find high", 3, names["high"], args, {"limit": 5}, error, key)

    assert text == (
        "# task 'find high', attempt 3, raised ValueError: limit 5 is too high\n"
        "import taskqueue_nb.source\n"
        "\n"
        f'inputs = taskqueue_nb.source.inputs("{key}")\n'
        "\n"
        "def high(rows, *, limit=limit):\n"
        "    if limit > 2:\n"
        '        raise ValueError(f"limit {limit} is too high for {rows.rows}")\n'
        "\n"
        'high(inputs["rows"], limit=5)'
    )


def test_a_cell_of_literals_needs_nothing() -> None:
    """Without a reference there is neither a key nor an import."""
    share = cell(NOTEBOOK)["share"].func

    assert snippet("share", 1, share, (10,), {"parts": 0}) == (
        "# task 'share', attempt 1\n"
        "\n"
        "def share_again(total, parts=0):\n"
        '    """Share."""\n'
        "    return total / parts\n"
        "\n"
        "share_again(10, parts=0)"
    )


def test_a_closure_is_made_again() -> None:
    """What it closes over comes with it, and its text can be edited."""
    times = cell(NOTEBOOK)["times"]
    owner = Owner()

    text = snippet("times", 1, times, (1,), {}, None, keep(owner, (1,), {}, times))

    assert text.split("\n\n", 2)[2] == (
        "def with_variables(factor):\n"
        "    def times(number, plus=1):\n"
        '        """Multiply."""\n'
        '        text = """a\n'
        'b"""\n'
        '        if text != "a\\nb":\n'
        "            raise AssertionError(text)\n"
        "        return (number + plus) * factor / 0\n"
        "    return times\n"
        "\n"
        "times = with_variables(**inputs.variables)\n"
        "\n"
        "times(1)"
    )


def test_a_cell_leaves_other_names_alone() -> None:
    """What the notebook uses already, other than for such cells, means the same afterwards."""
    names = cell(NOTEBOOK)
    mine = {
        "inputs": None,
        "inputs_": cell("def inputs_(): pass")["inputs_"],
        "share_again": 5,
        "with_variables": "text",
        "function": 3,
    }
    names |= mine
    owner, other = Owner(), Owner()
    lambda_ = names["nth"]
    key = keep(owner, (Table(),), {}, names["share"].func)

    text = snippet("n", 1, names["share"].func, (Table(),), {}, None, key)
    assert isinstance(again(text, names), TypeError)
    text = snippet("n", 1, lambda_, (7,), {}, None, keep(other, (7,), {}, lambda_))
    assert isinstance(again(text, names), IndexError)

    assert {name: names[name] for name in mine} == mine
    assert "function_(7)" in text
    assert "def with_variables_(factor):" in text
    text = snippet("n", 2, lambda_, (7,), {}, None, keep(other, (7,), {}, lambda_))
    assert "with_variables_(**inputs__." in text  # those of an earlier cell are taken again


def test_a_function_of_a_module_is_called_there() -> None:
    """Its text would not see the names of its module."""
    text = snippet("plain", 1, plain, ("a",), {})

    assert text == f"# task 'plain', attempt 1\nimport {__name__}\n\n{__name__}.plain('a')"
    with pytest.raises(TypeError):
        cell(text)


def test_an_edited_function_of_a_module_is_not_the_modules() -> None:
    """Its name finds the old one there, so it is taken from what was kept."""
    new = compiled("def plain(number): return number / 0", plain)
    owner = Owner()

    text = snippet("plain", 1, new, (1,), {}, None, keep(owner, (1,), {}, new))

    assert text.endswith("\n\ninputs.func(1)")
    assert isinstance(again(text, {}), ZeroDivisionError)


def test_an_edited_function_is_taken_with_its_text() -> None:
    """The cell holds the text as it was edited."""
    old = cell(NOTEBOOK)["share"].func
    new = compiled("# mine\ndef share(total, parts=0):\n    return total % parts", old)

    text = snippet("share", 2, new, (10, 0), {})

    assert "# mine\ndef share_again(total, parts=0):\n    return total % parts" in text


HOSTILE: Final = (
    "a\nimport os",
    "a\r\nimport os",
    "a\rimport os",
    "a\x0bimport os",
    "a\x0cimport os",
    "a\x1cb\x1db\x1eb",
    "a\x85import os",
    "a\u2028import os",
    "a\u2029import os",
    "'\"'''\"\"\"",
    "'\n#",
    "\\",
    "\\\n",
    "\0",
    "\x1b[31mred",
    "\ud800",
    "\u202eslaer ton",
    "x" * 100_000,
    "\n" * 100_000,
    "",
)


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_no_text_adds_a_line(text: str) -> None:
    """Names, errors and arguments stay where they were put."""
    bad = type(text.replace("\0", "") if "\ud800" not in text else "E", (Exception,), {})
    for name, error, argument in [
        (text, None, 1),
        ("name", text, 1),
        ("name", ValueError(text), 1),
        ("name", bad("words"), 1),
        ("name", None, text[:100]),
    ]:
        shown = snippet(name, 1, len, (argument,), {}, error)

        comment, imported, blank, call = shown.split("\n")
        assert shown.splitlines() == [comment, imported, blank, call]
        assert comment.startswith(("# task '", '# task "'))
        assert (imported, blank) == ("import builtins", "")
        assert call == f"builtins.len({argument!r})"
        assert len(comment) < 500
        assert shown.isprintable() or shown.replace("\n", "").isprintable()
        compile(shown, "<cell>", "exec")


def test_errors_without_words() -> None:
    """An exception whose text raises is told by its class."""

    class Mute(Exception):  # noqa: N818 - a class of others
        def __str__(self) -> str:
            raise SystemExit

    assert snippet("n", 1, len, (), {}, Mute()).startswith("# task 'n', attempt 1, raised Mute: (")
    assert snippet("n", 1, len, (), {}, KeyError()).startswith(
        "# task 'n', attempt 1, raised KeyError\n"
    )


class Text(str):
    """A text of another kind."""

    __slots__ = ()


circle: list[Any] = []
circle.append(circle)
shared: list[Any] = []
nested: list[Any] = []
for _ in range(300):
    nested = [nested]

LITERALS: Final[dict[str, tuple[Any, str | None]]] = {
    "none": (None, "None"),
    "true": (True, "True"),
    "number": (-3, "-3"),
    "float": (-0.5, "-0.5"),
    "minus nought": (-0.0, "-0.0"),
    "complex": (1 + 2j, "(1+2j)"),
    "infinity": (math.inf, None),
    "no number": (math.nan, None),
    "no number inside": ([math.nan], None),
    "text": ("it's \n", '"it\'s \\n"'),
    "bytes": (b"\0", "b'\\x00'"),
    "list": ([1, (2,), {"a": {3}}], "[1, (2,), {'a': {3}}]"),
    "empty set": (set(), "set()"),
    "frozen set": (frozenset({1}), None),
    "half a letter": ("\ud800", "'\\ud800'"),
    "long text": ("x" * 501, None),
    "long number": (10**400, None),
    "long list": (list(range(501)), None),
    "very long list": (list(range(10**6)), None),
    "many texts": (["x" * 100] * 6, None),
    "circle": (circle, None),
    "nested deeply": (nested, None),
    "own text": (Text("x"), None),
    "own text inside": ([Text("x")], None),
    "ordered": (OrderedDict(a=1), None),
    "the same twice": ([shared, shared], None),
    "range": (range(3), None),
    "dots": (..., None),
    "object": (Table(), None),
    "class": (int, None),
    "function": (len, None),
}


@pytest.mark.parametrize(("value", "text"), LITERALS.values(), ids=LITERALS)
def test_literals(value: Any, text: str | None) -> None:
    """An argument is written out only where the text means exactly this value."""
    owner = Owner()

    shown = snippet("n", 1, id, (value,), {}, None, keep(owner, (value,), {}, id))

    call = shown.split("\n")[-1]
    assert call == (f"builtins.id({text})" if text else 'builtins.id(inputs["obj"])')
    names: dict[str, Any] = {}
    exec(shown.replace("builtins.id(", "value = ("), names)
    assert repr(names["value"]) == repr(value)
    if text is None:
        assert names["value"] is value


def test_what_is_kept_goes_with_its_owner() -> None:
    """A cell of an attempt that is gone says so, also when the inputs hold the owner."""
    owner = Owner()
    value = Table()
    value.owner = owner  # type: ignore[attr-defined]  # a circle
    key = keep(owner, (value,), {}, plain)
    assert inputs(key)["number"] is value

    gone = weakref.ref(value)
    del owner, value
    gc.collect()

    assert gone() is None
    with pytest.raises(
        KeyError, match=r"is of an attempt that is gone; ask task\.snippet\(\) again"
    ):
        inputs(key)
    with pytest.raises(KeyError, match="attempt that is gone"):
        snippet("n", 1, plain, (Table(),), {}, None, key)


def test_inputs() -> None:
    """Arguments are found by name and by place, and a wrong name says which there are."""
    owner = Owner()
    kept = inputs(keep(owner, (1, 2), {"by": 3}, make))

    assert (kept["factor"], kept[0], kept[1], kept["by"]) == (1, 1, 2, 3)
    assert (kept.args, kept.kwargs, kept.func) == ((1, 2), {"by": 3}, make)
    assert repr(kept) == "<Inputs factor, by>"
    with pytest.raises(KeyError, match="no input 'other'; there are 'factor', 'by'"):
        kept["other"]
    with pytest.raises(IndexError):
        kept[5]


def test_an_owner_has_one_key() -> None:
    """Asking twice makes no cell invalid; other owners have other keys."""
    one, other = Owner(), Owner()

    first_key, second_key = keep(one, (1,), {}, plain), keep(one, (2,), {}, plain)

    assert first_key == second_key
    assert inputs(first_key)[0] == 2
    assert keep(other, (1,), {}, plain) != first_key


def test_an_attempt_can_be_an_owner() -> None:
    """Which is what it is for."""
    one = Task("one", Table, func_args=(1,))
    one.make()
    attempt = one.attempts[-1]

    key = keep(attempt, attempt.args, attempt.kwargs, attempt.func)

    assert inputs(key)[0] == 1


def test_what_is_missing_is_asked_for() -> None:
    """Without what it needs there is no half of a cell."""
    owner = Owner()
    with pytest.raises(ValueError, match="give the key of its inputs"):
        snippet("n", 1, len, (Table(),), {})
    with pytest.raises(ValueError, match="give the key of its inputs"):
        snippet("n", 1, [].index, (3,), {})
    with pytest.raises(ValueError, match="is of a call of something else"):
        snippet("n", 1, len, (Table(),), {}, None, keep(owner, (3,), {}, max))
    with pytest.raises(AttributeError):
        keep(object(), (), {}, plain)


# -- the debugger ------------------------------------------------------------------------------


def test_the_debugger_opens_where_it_was_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    """Outside IPython it is pdb, in the frame that raised; `pdb.pm()` finds it again."""
    seen: list[Any] = []
    monkeypatch.setattr(pdb.Pdb, "interaction", lambda self, frame, trace: seen.append(trace))
    monkeypatch.setitem(sys.modules, "IPython", None)
    for name in ("last_type", "last_value", "last_traceback", "last_exc"):
        monkeypatch.setattr(sys, name, None, raising=False)
    error = error_of(compiled("def f(x): return 1 / x", plain), (0,), {})

    post_mortem(error)

    assert len(seen) == 1
    assert sys.last_value is error
    assert sys.last_type is ZeroDivisionError
    assert sys.last_traceback is error.__traceback__


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (None, "nothing failed"),
        ("ValueError: x", "only the text of this error was kept; run the task again"),
        (ValueError("never raised"), "no frames to look at"),
    ],
)
def test_the_debugger_needs_frames(error: Any, words: str) -> None:
    """What has none says so in a sentence."""
    with pytest.raises(ValueError, match=words):
        post_mortem(error)


SESSION: Final = '''
import io, sys
from IPython.core.interactiveshell import InteractiveShell

shell = InteractiveShell.instance(colors="nocolor")

def run(text, typed=""):
    sys.stdin = io.StringIO(typed)
    result = shell.run_cell(text)
    print("=== end", flush=True)
    return result

run("""
from taskqueue_nb import task
from taskqueue_nb.source import *

rate = 3

@task(retries=1)
def clean(rows, by=2):
    # of the cell
    return [row / by for row in rows]

pair = (lambda x: x + 1, lambda x: x + 2)
print(source_of(clean))
print(source_of(pair[1]))
edited = compiled("# mine" + chr(10) + source_of(clean).replace("of the cell", "edited") .replace(
    "row / by", "row / (by - by) * rate"), clean.func)
""")
run("1 / 0")
run("edited([1])")
run("%pinfo2 edited")
run("""
try:
    edited([1])
except ZeroDivisionError as error:
    kept = error
post_mortem(kept)
""", "list" + chr(10) + "p rate + 4000" + chr(10) + "up" + chr(10) + "q" + chr(10))
run("""
class Owner: pass
owner = Owner()
call = (clean.func, ([1, object()],), dict(by=0))
cell = snippet("clean", 1, *call, kept, keep(owner, *call[1:], call[0]))
""")
run(shell.user_ns["cell"])
run("print(clean, edited.__module__)")
'''


def test_everything_in_ipython(tmp_path: Any) -> None:
    """A real shell shows the lines of edited functions, debugs them, and runs the cells."""
    path = os.pathsep.join(filter(None, sys.path))
    environment = {**os.environ, "PYTHONPATH": path, "IPYTHONDIR": str(tmp_path), "TERM": "dumb"}

    said = subprocess.run(
        [sys.executable, "-c", SESSION],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env=environment,
    )

    parts = said.stdout.split("=== end\n")
    assert len(parts) == 9, said.stderr
    read, _, failed, looked_at, debugged, _, ran, named, _ = parts
    assert read == (
        "def clean(rows, by=2):\n    # of the cell\n    return [row / by for row in rows]\n"
        "lambda x: x + 2\n"
    )
    assert "File <clean, edited 1>:4, in clean(rows, by)" in failed
    assert "----> 4     return [row / (by - by) * rate for row in rows]" in failed
    assert "    # edited\n    return [row / (by - by) * rate for row in rows]" in looked_at
    assert "> <clean, edited 1>(4)" in debugged
    assert "----> 4     return [row / (by - by) * rate for row in rows]" in debugged
    assert "4003" in debugged
    assert "def clean_again(rows, by=2):" in ran
    assert "ZeroDivisionError: division by zero" in ran
    assert named == "<task function clean> __main__\n"


# -- what changed ------------------------------------------------------------------------------


def high(rows: Any, threshold: int = 3, *more: Any, **options: Any) -> Any:
    return [row for row in rows if row > threshold]


class Loud:
    """A value whose repr and comparison raise."""

    def __init__(self, words: str = "") -> None:
        self.words = words

    def __repr__(self) -> str:
        raise SystemExit(self.words)

    def __eq__(self, other: object) -> bool:
        raise SystemExit

    def __reduce__(self) -> Any:
        raise SystemExit

    __hash__ = None  # type: ignore[assignment]  # it would be compared


class Huge:
    """A value with a long repr of many lines."""

    def __repr__(self) -> str:
        return "line\n" * 1_000_000


class Machine:
    """What counts as a task of other people's making."""

    fsm_state = "DONE"
    name = "load"


one_task, another_task = Task("load", plain, func_args=(1,)), Task("lo\nad", plain, func_args=(1,))
loud_value, table = Loud(), Table(1)

COMPARED: Final[dict[str, tuple[Any, Any, dict[str, tuple[str, str]]]]] = {
    "the same": (((1, 2), {}), ((1, 2), {}), {}),
    "the same, by name": (((1, 2), {}), ((1,), {"threshold": 2}), {}),
    "none": (((), None), ((), {}), {}),
    "a number": (((1, 3), {}), ((1, 5), {}), {"threshold": ("3", "5")}),
    "another kind": (((1, 1), {}), ((1, True), {}), {"threshold": ("1", "True")}),
    "another kind inside": (((1, [1]), {}), ((1, [1.0]), {}), {"threshold": ("[1]", "[1.0]")}),
    "no number": (((math.nan,), {}), ((float("nan"),), {}), {}),
    "missing": (((1, 3), {}), ((1,), {}), {"threshold": ("3", "not given")}),
    "come": (((), {}), ((), {"rows": "x"}), {"rows": ("not given", "'x'")}),
    "more": (
        ((1, 2, 3), {}),
        ((1, 2, 4, 5), {}),
        {"more[0]": ("3", "4"), "more[1]": ("not given", "5")},
    ),
    "an option": (((), {"a\nb": 1}), ((), {"a\nb": 2}), {"a b": ("1", "2")}),
    "an order": (((), {"a": 1, "b": 2}), ((), {"b": 2, "a": 1}), {}),
    "equal lists": ((([1, 2],), {}), (([1, 2],), {}), {}),
    "equal sets": ((({"a", "b"},), {}), (({"b", "a"},), {}), {}),
    "equal objects": (((OrderedDict(a=1),), {}), ((OrderedDict(a=1),), {}), {}),
    "equal when pickled": (((Table(1),), {}), ((Table(1),), {}), {}),
    "equal, and not to be pickled": ((([first],), {}), (([first],), {}), {}),
    "another class": (
        ((OrderedDict(a=1),), {}),
        (({"a": 1},), {}),
        {"rows": (repr(OrderedDict(a=1)), "{'a': 1}")},
    ),
    "tasks of one name": (
        ((Machine(),), {}),
        ((Machine(),), {}),
        {"rows": ("task 'load'", "task 'load' (another one, or not comparable)")},
    ),
    "one task": (((one_task,), {}), ((one_task,), {}), {}),
    "other tasks": (
        ((one_task,), {}),
        ((another_task,), {}),
        {"rows": ("task 'load'", "task 'lo\\nad'")},
    ),
    "tasks inside": (
        (([one_task],), {}),
        (([another_task],), {}),
        {"rows": ("[task 'load']", "[task 'lo\\nad']")},
    ),
    "one loud value": (((loud_value,), {}), ((loud_value,), {}), {}),
    "loud values": (
        ((loud_value,), {}),
        ((Loud("x"),), {}),
        {
            "rows": (
                "<Loud without a repr>",
                "<Loud without a repr> (another one, or not comparable)",
            )
        },
    ),
    "a long text": (
        (("x" * 1000,), {}),
        (("y" * 1000,), {}),
        {"rows": (f"'{'x' * 97}...{'x' * 98}'", f"'{'y' * 97}...{'y' * 98}'")},
    ),
}


@pytest.mark.parametrize(("before", "after", "expected"), COMPARED.values(), ids=COMPARED)
def test_arguments_are_compared(before: Any, after: Any, expected: Any) -> None:
    """What differs is told by the parameter's name, shortly, whatever the values do."""
    found = compare(Call("attempt 1", high, *before), Call("attempt 2", high, *after))

    assert dict(found.arguments) == expected
    assert found.code == ()
    assert bool(found) == bool(expected)
    if not expected:
        assert str(found) == "attempts 1 and 2 made the same call"


def test_long_reprs_are_cut() -> None:
    """A value of a million lines takes one, and not a long one."""
    found = compare(Call("a", high, (Huge(),)), Call("b", high, (3,)))

    shown, _ = found.arguments["rows"]
    assert shown.startswith("line line ")
    assert len(shown) <= 200
    assert len(str(found)) < 300


def test_a_comparison_as_text() -> None:
    """It reads well where it is displayed."""
    old = cell("def clean(rows, threshold):\n    return rows\n")["clean"]
    new = compiled("def clean(rows, threshold):\n    return sorted(rows)\n", old)

    found = compare(
        Call("attempt 2", old, ([1], 3)), Call("attempt 3", new, ([1], 5), {"strict": True})
    )

    assert (
        repr(found)
        == str(found)
        == textwrap.dedent("""\
        from attempt 2 to attempt 3
        code:
          --- attempt 2
          +++ attempt 3
          @@ -1,2 +1,2 @@
           def clean(rows, threshold):
          -    return rows
          +    return sorted(rows)
        arguments: threshold 3 -> 5
                   strict not given -> True""")
    )
    assert isinstance(found, Comparison)
    assert str(compare(Call("a", len), Call("b", len))) == "a and b made the same call"
    assert str(compare(Call("a\n\x1b", len), Call("b", max))).startswith("from a \\x1b to b\n")


by_default: tuple[Any, Any] = tuple(lambda x=i: x for i in range(2))  # type: ignore[assignment]  # of two

CODE: Final[dict[str, tuple[Any, Any, tuple[str, ...]]]] = {
    "one function": (plain, plain, ()),
    "the same text": (same_words[0], same_words[1], ()),
    "unchanged": (plain, compiled(source_of(plain) or "", plain), ()),
    "builtins": (max, min, ("max -> min; there is no text of max and of min",)),
    "one builtin": (
        max,
        first,
        ("max -> <lambda>; there is no text of max",),
    ),
    "another variable": (make(2)[0], make(3)[0], ("it closes over factor: 2 -> 3",)),
    "the same variable": (make(2)[0], make(2)[0], ()),
    "another default": (
        *by_default,
        ("its default of x: 0 -> 1",),
    ),
    "lambdas": (
        first,
        second,
        ("--- a", "+++ b", "@@ -1 +1 @@", "-lambda x: x + 1", "+lambda x: x + 2"),
    ),
    "nothing": (None, None, ()),
}


@pytest.mark.parametrize(("old", "new", "expected"), CODE.values(), ids=CODE)
def test_code_is_compared(old: Any, new: Any, expected: tuple[str, ...]) -> None:
    """Texts give a diff, what has none a sentence, the same code nothing."""
    assert compare(Call("a", old), Call("b", new)).code == expected


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("def f(x):\n    return [y for y in x]", True),
        ("def f(x):\n\n    # a comment\n    return [y for y in x]", True),
        ("def f(x):\n    return [z for z in x]", False),
        ("def f(x):\n    return [y for y in x], 1", False),
        ("def f(x):\n    return [y for y in x], True", False),
    ],
)
def test_code_without_text_is_compared(text: str, same: bool) -> None:
    """Where the text is gone, what was compiled counts, without where it stood."""
    old: dict[str, Any] = {}
    new: dict[str, Any] = {}
    exec("def f(x):\n    return [y for y in x]", old)
    exec(text, new)

    found = compare(Call("a", old["f"]), Call("b", new["f"]))

    assert found.code == (() if same else ("f -> f; there is no text of f",))


def test_partials_and_methods_are_taken_apart() -> None:
    """What a partial or a method brings along is an argument like any other."""
    found = compare(Call("a", functools.partial(high, [1], threshold=2)), Call("b", high, ([1], 3)))
    called = Call("c", functools.partial(high, threshold=2), ([1],), {"threshold": 3})
    shops = Shop(), Shop()
    vars(shops[1])["sold"] = True
    methods = compare(Call("a", shops[0].price), Call("b", shops[1].price))

    assert dict(found.arguments) == {"threshold": ("2", "3")}
    assert found.code == ()
    assert methods.code == ()
    assert list(methods.arguments) == ["self"]
    assert not compare(called, Call("d", high, ([1], 3)))
    assert compare(Call("a", shops[0].who), Call("b", shops[0].who)).arguments == {}


def test_a_diff_shows_no_control_characters() -> None:
    """A text is shown, not obeyed."""
    old = compiled("def f(): return '\x1b[31m'", plain)
    new = compiled("def f(): return '\u202e'", plain)

    text = str(compare(Call("a", old), Call("b", new)))

    assert "-def f(): return '\\x1b[31m'" in text
    assert "+def f(): return '\\u202e'" in text
    assert text.replace("\n", "").isprintable()
