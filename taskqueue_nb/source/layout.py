"""Lines and tokens of code: where it begins, at which margin, and moved to another one."""

from __future__ import annotations

import tokenize
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


def first_line(text: str) -> str:
    """Return the first line that says something."""
    lines = (
        line for line in text.split("\n") if line.strip() and not line.lstrip().startswith("#")
    )
    return next(lines, "")


def margin_of(line: str) -> str:
    """Return the blanks that a line begins with."""
    return line[: len(line) - len(line.lstrip(" \t"))]


def tokens_of(text: str) -> Iterator[tokenize.TokenInfo]:
    """Return the tokens of a text that may begin at a margin."""
    return tokenize.generate_tokens(iter(text.splitlines(keepends=True)).__next__)


def without_margin(text: str) -> str:
    """Move a text to the margin, and drop the empty lines around it."""
    return shifted(text, margin_of(first_line(text)), "").strip("\n")


def shifted(text: str, old: str, new: str) -> str:
    """Move the lines of a text from one margin to another; what is inside strings stays."""
    inside: set[int] = set()
    started: list[int] = []
    for token in tokens_of(text):
        kind = tokenize.tok_name[token.type]
        if kind == "STRING":
            inside.update(range(token.start[0] + 1, token.end[0] + 1))
        elif kind.endswith("STRING_START"):  # an f-string, since Python 3.12
            started.append(token.start[0])
        elif kind.endswith("STRING_END"):
            inside.update(range(started.pop() + 1, token.end[0] + 1))
    rows = text.split("\n")
    for number, row in enumerate(rows, 1):
        if number not in inside and row.strip():
            rows[number - 1] = new + row[_common(old, row) :]
    return "\n".join(rows)


def _common(margin: str, row: str) -> int:
    """Count how much of a margin a row has: a comment or a line in brackets may have less."""
    pairs = enumerate(zip(margin, row, strict=False))
    return next(
        (place for place, (one, other) in pairs if one != other), min(map(len, (margin, row)))
    )
