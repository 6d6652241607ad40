"""Arguments as text that a user edits: Python literals, and nothing that is ever run."""

from __future__ import annotations

import ast
import math
from typing import Any, Final

LONGEST: Final = 10_000  # characters of a text that is parsed
_DEEPEST: Final = 20  # brackets within brackets
_SHOWN: Final = 2_000  # characters of a literal in the form
_ITEMS: Final = 300  # values in it
_SCALARS: Final = (bool, int, str, bytes, type(None))
_DIGITS: Final = 10**300  # an int below it has fewer digits than Python refuses to print


class NotALiteralError(ValueError):
    """A text is no Python literal; its words say what to write."""


def literal_of(value: object) -> str | None:
    """Return the literal that stands for a value; None if there is none, or it is very long.

    Only what is exactly of a builtin type has one, so no foreign code runs.

    Examples
    --------
    >>> literal_of({"rows": [1, 2.5, None]})
    "{'rows': [1, 2.5, None]}"
    >>> literal_of(object()) is None
    True
    """
    left = [_ITEMS]
    if not _has_literal(value, left, 0):
        return None
    text = repr(value)
    return text if len(text) <= _SHOWN else None


def _has_literal(value: Any, left: list[int], depth: int) -> bool:  # noqa: PLR0911 - one for each kind
    left[0] -= 1
    if left[0] < 0 or depth > _DEEPEST:
        return False
    kind = type(value)
    if kind in _SCALARS:
        if kind is int:
            return bool(-_DIGITS < value < _DIGITS)
        return kind not in (str, bytes) or len(value) <= _SHOWN
    if kind is float:
        return math.isfinite(value)
    if kind in (list, tuple, set):
        return all(_has_literal(item, left, depth + 1) for item in tuple(value))
    if kind is dict:
        pairs = tuple(value.items())
        return all(_has_literal(pair, left, depth + 1) for pair in pairs)
    return False


def parse(text: str, called: str = "The value") -> Any:
    """Return the value of a Python literal.

    Parameters
    ----------
    text : str
        What the user wrote.
    called : str
        What it is, for the error.

    Raises
    ------
    NotALiteralError
        In a sentence that says what to write instead.

    Examples
    --------
    >>> parse(" [1, 'two'] ")
    [1, 'two']
    >>> parse("two")
    Traceback (most recent call last):
    ...
    taskqueue_nb.widget.literals.NotALiteralError: The value: two is no Python literal. ...
    """
    text = text.strip()
    if not text:
        message = f"{called}: it is empty. Write a Python literal, such as 0, '' or None."
        raise NotALiteralError(message)
    if len(text) > LONGEST:
        message = f"{called}: {len(text):,} characters are too many; {LONGEST:,} are allowed."
        raise NotALiteralError(message)
    if not _is_shallow(text):
        message = f"{called}: it is nested too deeply."
        raise NotALiteralError(message)
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        cut = text if len(text) <= 60 else f"{text[:57]}..."  # noqa: PLR2004 - fits a line
        cut = " ".join(cut.split())
        if text.isidentifier():
            hint = f"For a text, put it in quotes: {text[:60]!r}."
        else:
            hint = "Write a number, a text in quotes, True, None, or a list, tuple or dict of them."
        message = f"{called}: {cut} is no Python literal. {hint}"
        raise NotALiteralError(message) from None


def _is_shallow(text: str) -> bool:
    """Say whether a text can be parsed without a deep stack, which not every thread has."""
    depth = deepest = signs = most_signs = 0
    for character in text:
        if character in "([{":
            depth += 1
            deepest = max(deepest, depth)
        elif character in ")]}":
            depth -= 1
        # unary signs nest, and so does a chain of additions
        signs = signs + 1 if character in "+-~" else signs if character.isspace() else 0
        most_signs = max(most_signs, signs)
    chains = text.count("+") + text.count("not ") + text.count("lambda") + text.count("**")
    return deepest <= _DEEPEST * 2 and most_signs <= _DEEPEST and chains <= 10 * _DEEPEST
