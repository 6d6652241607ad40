"""The one way by which a text gets into a picture, a table, a tree or DOT.

Names, function names and the names of exceptions are other people's texts. Each goes through
`clean`, which makes one printable line of it and cuts it, and then through the escaping of the
place where it is put: `xml` or `quoted`.
"""

from __future__ import annotations

import unicodedata
from html import escape as xml
from typing import Any, Final

import graphviz

__all__ = ["attribute", "clean", "error_name", "lines", "name_of", "quoted", "width", "xml"]

NAME: Final = 200  # characters of a name that a picture or a table repeats in full
_JOINERS: Final = "\u200c\u200d"  # not printable to Python, but part of scripts and of emoji
_MARKS: Final = 3  # accents on one letter: no script has more, and towers of them leave the box


def clean(text: object, limit: int = NAME) -> str:
    r"""Make one printable line of a text.

    Parameters
    ----------
    text : str
        Anything else gives its type's name.
    limit : int
        The largest number of characters; the middle of a longer text is left out.

    Returns
    -------
    str
        Control characters, line breaks, lone surrogates and marks that turn the direction of the
        text stand as Python escapes.

    Examples
    --------
    >>> clean("a\nb\x1b[31m")
    'a\\nb\\x1b[31m'
    >>> clean("x" * 50, 10)
    'xxxxxx…xxx'
    """
    if not isinstance(text, str):
        return f"<{_type_name(text)}>"
    line = cut(str.__str__(text), limit)
    if line.isascii() and line.isprintable():
        return line
    shown: list[str] = []
    marks = 0
    for character in line:
        marks = marks + 1 if unicodedata.category(character) in ("Mn", "Me") else 0
        if marks > _MARKS:
            continue
        if character.isprintable() or character in _JOINERS:
            shown.append(character)
        elif character.isspace() and unicodedata.category(character) == "Zs":
            shown.append(" ")
        else:
            shown.append(character.encode("unicode_escape", "backslashreplace").decode("ascii"))
    return cut("".join(shown), limit)


def cut(text: str, limit: int) -> str:
    """Leave out the middle of a long text: names of mapped tasks differ at their end."""
    if len(text) <= limit:
        return text
    tail = max(0, (limit - 1) // 3)
    return f"{text[: limit - 1 - tail]}…{text[len(text) - tail :]}"


def quoted(text: str) -> str:
    """Escape a clean text for a label of DOT, which would decode entities and expand `\\N`."""  # noqa: D301 - one backslash is meant, and written
    escaped: str = graphviz.escape(text.replace("&", "&amp;"))
    return escaped  # of the library's own kind: a plain text in <> would be taken for HTML


def attribute(thing: object, name: str, default: Any = None) -> Any:
    """Return an attribute of a foreign object, whatever looking it up raises."""
    try:
        return getattr(thing, name, default)
    except Exception:  # noqa: BLE001 - a foreign `__getattr__` may raise anything
        return default


def _type_name(thing: object) -> str:
    name = attribute(type(thing), "__name__")
    return clean(name, 60) if isinstance(name, str) else "object"


def error_name(error: object) -> str:
    """Return the class of an exception, or the first word of one of which only text was kept."""
    if isinstance(error, str):
        return clean(error.partition(":")[0], 60)
    return _type_name(error)


def name_of(task: object) -> str:
    """Return a task's name, clean; of a subclass without one, its class."""
    name = attribute(task, "name")
    return clean(name if isinstance(name, str) else _type_name(task))


# -- how wide, and on how many lines -----------------------------------------------------------

_EM: Final = {
    **dict.fromkeys("ijl.,:;'|! ", 0.33),
    **dict.fromkeys('frtI()[]{}/\\-"`', 0.42),
    **dict.fromkeys("mwMW@%—…", 0.95),
    **dict.fromkeys("ABCDEFGHKLNOPQRSTUVXYZ&#+=<>~", 0.74),
}


def width(text: str, size: float) -> float:
    """Estimate the width of a text in px, for the widest of the usual sans-serif fonts.

    The fonts of the page that will show the picture are not known here, so this errs on the wide
    side, and a box never cuts its text.
    """
    total = 0.0
    for character in text:
        em = _EM.get(character)
        if em is None:
            em = 0.62 if character.isascii() else _foreign_em(character)
        total += em
    return total * size


def _foreign_em(character: str) -> float:
    if (
        unicodedata.combining(character)
        or character in _JOINERS
        or "\ufe00" <= character <= "\ufe0f"
    ):
        return 0.0
    if unicodedata.east_asian_width(character) in "WF":
        return 1.3 if character >= "\U0001f000" else 1.05  # emoji are the widest of all
    return 0.78


def lines(text: str, size: float, room: float, at_most: int = 2) -> tuple[str, ...]:
    """Set a clean text on lines that fit a width, and leave out its middle if it has to be.

    Parameters
    ----------
    text : str
        One clean line.
    size, room : float
        Of the font and of each line, in px.
    at_most : int
        The number of lines.
    """
    rows = _wrapped(text, size, room)
    need = width(text, size)
    limit = min(len(text), int(len(text) * room * at_most / need) + 2) if need else 0
    while len(rows) > at_most and limit > 1:
        limit -= 1
        rows = _wrapped(cut(text, limit), size, room)
    return tuple(rows)


def _wrapped(text: str, size: float, room: float) -> list[str]:
    rows = []
    while width(text, size) > room and len(text) > 1:
        at = _break_at(text, size, room)
        rows.append(text[:at].rstrip())
        text = text[at:].lstrip()
    return [*rows, text]


def _break_at(text: str, size: float, room: float) -> int:
    """Find the last good place to end a line of some width: after a space or a separator."""
    so_far, fits, good = 0.0, 1, 0
    for at, character in enumerate(text, 1):
        so_far += width(character, size)
        if so_far > room:
            break
        fits = at
        if character in " _-./,:;)]([" and at >= 3:  # noqa: PLR2004 - no line of one letter
            good = at - 1 if character in "([" else at
    return max(good, 1) if good > fits // 2 else fits
