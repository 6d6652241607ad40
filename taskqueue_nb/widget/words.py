"""Texts of others, of bounded length and without what is no text."""

from __future__ import annotations

import re
from typing import Final

from taskqueue_nb.drawing import clean as clean_line

__all__ = ["LONG_TEXT", "clean", "one_line", "said"]

LONG_TEXT: Final = 20_000  # characters of output and traceback, head and tail
_LABEL: Final = 120  # of a task's name
_LINE: Final = 500  # of an exception's words

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
