"""Foreign values and texts, whatever their classes do: looked at, and shown on one line."""

from __future__ import annotations

import reprlib
from typing import TYPE_CHECKING, Any, Final

from taskqueue_nb.fsm import shorten

if TYPE_CHECKING:
    from collections.abc import Callable

SHOWN: Final = 200  # characters of a foreign text on one line


def guarded(look: Callable[[], Any]) -> Any:
    """Run code of other people's classes, which may raise anything, SystemExit too; None then."""
    try:
        return look()
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - as said
        return None


def attribute(thing: object, name: str) -> Any:
    """Return an attribute; None if there is none to be had."""
    return guarded(lambda: getattr(thing, name, None))


def is_task(value: object) -> bool:
    """Say whether something is a task: they stand in a layer above."""
    return hasattr(type(value), "fsm_state")


class _Short(reprlib.Repr):
    """Short reprs, in which tasks have their names."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 3
        self.maxlist = self.maxtuple = self.maxset = self.maxfrozenset = self.maxdeque = 20
        self.maxdict = self.maxarray = 20
        self.maxstring = self.maxother = self.maxlong = SHOWN

    def repr1(self, x: Any, level: int) -> str:
        if is_task(x):
            name = attribute(x, "name")
            return f"task {shorten(name)}" if isinstance(name, str) else type(x).__name__
        return super().repr1(x, level)


def short(value: object) -> str:
    """Return the repr of anything on one line, cut, whatever its `__repr__` does."""
    text = guarded(lambda: one_line(_Short().repr(value), SHOWN))
    return text or f"<{one_line(type(value).__name__, 60)} without a repr>"


def said(error: BaseException | str) -> str:
    """Return an exception's class and words on one line."""
    if isinstance(error, str):
        return one_line(error, SHOWN)
    words = guarded(lambda: str(error))
    words = words if isinstance(words, str) else "(its text cannot be had)"
    name = type(error).__name__
    return one_line(f"{name}: {words}" if words else name, SHOWN)


def one_line(text: object, limit: int) -> str:
    """Return a text on one line of printable characters, cut."""
    if not isinstance(text, str):
        return shorten(text)
    line = " ".join(str.__str__(text)[: 4 * limit].split("\n"))
    shown = printable(line)
    return shown if len(shown) <= limit and len(text) <= 4 * limit else f"{shown[: limit - 1]}…"


def printable(line: str) -> str:
    """Write control characters, odd line breaks and lone surrogates as Python would."""
    if line.isprintable():
        return line
    return "".join(
        one if one.isprintable() else one.encode("unicode_escape", "backslashreplace").decode()
        for one in line
    )
