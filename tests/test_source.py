"""Code as text: what is read of a function, what edited text becomes, and a call as a cell."""

# ruff: noqa: D102, D103 - a docstring would be part of the texts that are compared
# ruff: noqa: S102, S307 - cells are run

from __future__ import annotations

import asyncio
import functools
import inspect
import itertools
import linecache
import math
import os
from ast import PyCF_ALLOW_TOP_LEVEL_AWAIT
from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest

from taskqueue_nb import task
from taskqueue_nb import task as other_name
from taskqueue_nb.fingerprint import fingerprint
from taskqueue_nb.source import (
    LONGEST,
    compiled,
    source_of,
)

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


def test_a_file_with_windows_line_ends(tmp_path: Any) -> None:
    """Its lines end as all others do."""
    path = tmp_path / "steps.py"
    path.write_bytes(b"class A:\r\n    def step(self):\r\n        return 1\r\n")
    names: dict[str, Any] = {}
    exec(compile(path.read_bytes(), str(path), "exec"), names)

    assert source_of(names["A"].step) == "def step(self):\n    return 1"


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
        return {"itself": self, "lies": 5, "new": Evil("new")}[self.mood]

    def __call__(self) -> None:
        """Do nothing."""


@pytest.mark.parametrize("mood", ["raises", "itself", "lies", "new"])
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
        assert fingerprint(new, (), {}) == fingerprint(old, (), {})
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
