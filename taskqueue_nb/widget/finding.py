"""Finding a task by a part of its name."""

from __future__ import annotations

import re
from heapq import nsmallest
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Found", "found"]

_LONGEST: Final = 300  # characters of a name that are looked at


class Found(NamedTuple):
    """The places of names that match, best first, and how many match in all."""

    places: list[int]
    total: int


def found(text: str, names: Sequence[str], limit: int = 12) -> Found:
    """Find names that hold the characters of a text in their order, not necessarily in a row.

    Best is a name that is the text, then one that begins with it, one in which it begins a word,
    one that holds it, and last those with other characters in between, the fewer the better.
    Case does not count, and spaces stand for anything. Among equals the shorter name comes first,
    then the earlier one.

    Parameters
    ----------
    text : str
        What was typed; nothing matches an empty one.
    names : sequence of str
        Where to look.
    limit : int
        How many are returned at most.

    Examples
    --------
    >>> names = ["load penguins", "fit[Adelie]", "fit[Gentoo]", "report", "unfit"]
    >>> [names[place] for place in found("fit", names).places]
    ['fit[Adelie]', 'fit[Gentoo]', 'unfit']
    >>> [names[place] for place in found("fgt", names).places]
    ['fit[Gentoo]']
    """
    wanted = " ".join(text.lower().split())
    characters = wanted.replace(" ", "")
    if not characters:
        return Found([], 0)
    ranked = []
    for place, name in enumerate(names):
        lower = name[:_LONGEST].lower()
        span = _span(characters, lower)
        if span:
            ranked.append((*_rank(wanted, lower, span), len(lower), place))
    best = nsmallest(limit, ranked)
    return Found([place for *_, place in best], len(ranked))


def _span(characters: str, name: str) -> int:
    """Return over how much of a name the characters are spread; 0 if it does not hold them all."""
    at = start = name.find(characters[0])
    for character in characters[1:]:
        if at < 0:
            return 0
        at = name.find(character, at + 1)
    return at + 1 - start if at >= 0 else 0


def _rank(wanted: str, name: str, span: int) -> tuple[int, int]:
    """Say how well a name matches: the smaller, the better."""
    at = name.find(wanted)
    if at < 0:
        return 4, span
    if name == wanted:
        return 0, 0
    if at == 0:
        return 1, 0
    if re.search(rf"(?:\b|_){re.escape(wanted)}", name):
        return 2, 0
    return 3, 0
