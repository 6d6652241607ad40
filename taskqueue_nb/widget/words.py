"""Texts of others, of bounded length and without what is no text."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from taskqueue_nb.drawing import clean as clean_line
from taskqueue_nb.task import Task, func_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["LONG_TEXT", "Places", "called", "clean", "one_line", "said"]

LONG_TEXT: Final = 20_000  # characters of output and traceback, head and tail
_LABEL: Final = 120  # of a task's name
_LINE: Final = 500  # of an exception's words
_WORD: Final = 30  # of an argument
_WORDS: Final = 3  # arguments
_DEEPEST: Final = 2  # calls within calls
_LARGE: Final = 10**15

_ESCAPES: Final = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])"
)
# what is no character of a text, and what would turn the direction of the text around it
_UNSHOWN: Final = re.compile(
    "[^\t\n\x20-\x7e\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]|[\u202a-\u202e\u2066-\u2069]"
)


def clean(text: object, limit: int = LONG_TEXT) -> str:
    """Return a text of bounded length: without terminal escapes, of a long one head and tail."""
    shown = text if isinstance(text, str) else str(text)
    if len(shown) > limit:
        head = limit // 3
        tail = limit - head
        left_out = f"\n… {len(shown) - limit:,} characters left out …\n"
        shown = f"{shown[:head]}{left_out}{shown[-tail:]}"
    shown = _ESCAPES.sub("", shown).replace("\r\n", "\n").replace("\r", "\n")
    return _UNSHOWN.sub("\ufffd", shown)


def one_line(text: str, limit: int = _LABEL) -> str:
    """Return a text of others on one line, cut in its middle."""
    return clean_line(text, limit)


class Places(dict[Task, int]):
    """Where each task of a queue stands in it, and which names several of them have."""

    def __init__(self, tasks: Sequence[Task]) -> None:
        super().__init__((task, place) for place, task in enumerate(tasks))
        counts = Counter(task.name for task in tasks)
        self.shared = frozenset(name for name, count in counts.items() if count > 1)


def called(task: Task, places: Mapping[Task, int], limit: int = _LABEL) -> str:
    """Return what tells a task from the others in a list: its name, or a call of its function.

    Tasks that were made by calling a function all have its name. Only plain arguments are shown, so
    that no foreign code runs.

    Examples
    --------
    >>> from taskqueue_nb import task
    >>> @task
    ... def load(year, part="a"): ...
    >>> tasks = [load(2001), load(2002, part="b"), *load.map([2003])]
    >>> [called(each, Places(tasks)) for each in tasks]
    ['load(2001)', "load(2002, part='b')", 'load[2003]']
    """
    is_shared = isinstance(places, Places) and task.name in places.shared
    return _call(task, limit, 0) if is_shared else one_line(task.name, limit)


def _call(task: Task, limit: int, depth: int) -> str:
    """Return a call with its arguments; the name alone if it is not that of its function."""
    name = one_line(task.name, limit)
    if task.func is None or task.name != func_name(task.func):
        return name
    given = [("", value) for value in task._args[: _WORDS + 1]]
    given += [(f"{key}=", value) for key, value in task.func_kwargs.items()]
    words = [key + _word(value, depth) for key, value in given[:_WORDS]]
    words += ["…"] if len(given) > _WORDS else []
    if all(word.endswith("…") for word in words):
        return name
    return one_line(f"{task.name}({', '.join(words)})", limit)


def _word(value: Any, depth: int) -> str:
    """Return a plain argument in a word; "…" for any other, and for a task that is like others."""
    if isinstance(value, Task):
        word = _call(value, _WORD, depth + 1) if depth < _DEEPEST else "…"
        return "…" if value.func is not None and word == func_name(value.func) else word
    kind = type(value)
    if kind is str:
        return repr(value if len(value) <= _WORD else f"{value[: _WORD - 1]}…")
    is_plain = kind in (bool, float, type(None)) or (kind is int and abs(value) < _LARGE)
    return repr(value) if is_plain else "…"


def said(error: object) -> str:
    """Return what an exception says, whatever its `__str__` does."""
    if isinstance(error, str):
        return one_line(error, _LINE)
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - a foreign `__str__` may raise anything
        text = "(its text cannot be had)"
    name = type(error).__name__
    return one_line(f"{name}: {text}" if text else name, _LINE)
