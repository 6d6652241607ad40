"""The text that means exactly a value."""

from __future__ import annotations

import ast
from typing import Any, Final

ATOMS: Final = (type(None), bool, int, float, complex, str, bytes)
_LONGEST: Final = 500  # characters, or parts, of a value that is written out


def literal(value: Any) -> str | None:
    """Return the text that means exactly this value; None if there is none, or a long one."""
    due: list[Any] = [value]
    containers: set[int] = set()
    for part in due:
        kind = type(part)
        if kind in (list, dict, set):
            if id(part) in containers:
                return None  # what is one thing in two places, or contains itself
            containers.add(id(part))
        if kind in (list, tuple, set, dict):
            due += part if len(part) < _LONGEST else [part] * _LONGEST
            due += part.values() if kind is dict else ()
        elif kind not in ATOMS or (kind in (str, bytes) and len(part) > _LONGEST):
            return None
        if len(due) > _LONGEST or (kind is int and part.bit_length() > _LONGEST):
            return None
    try:
        text = repr(value)
        exact = len(text) <= _LONGEST and bool(ast.literal_eval(text) == value)
    except (ValueError, SyntaxError, RecursionError, MemoryError):  # inf, nan; nested deeply
        return None
    return text if exact else None
