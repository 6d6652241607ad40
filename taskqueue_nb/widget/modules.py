"""The front end's ES modules as texts that a page can import by themselves."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from typing import Final

__all__ = ["PARTS", "linked", "styles"]

PARTS: Final = ("details", "record", "table")
"""The modules that a page imports after the first picture."""

_EMPTY: Final = re.compile(r"\n[ \t]*(?=\n)")
_STATIC: Final = files("taskqueue_nb") / "static"
_COMMENT: Final = re.compile(r"^[ \t]*/\*\*.*?\*/", flags=re.MULTILINE | re.DOTALL)
_IMPORT: Final = re.compile(
    r'^import \{[^}]*\} from "\./(?P<name>[a-z]+)\.js";\n', flags=re.MULTILINE
)


@cache
def linked(name: str) -> str:
    """Return a module with all that it imports, as one text that imports nothing.

    The modules stand after one another, each once and behind what it imports; so no two of them may
    give the same name to something of their own. Their documentation stays behind.

    Parameters
    ----------
    name : str
        Of a module in `static/`, without its ending.

    Examples
    --------
    >>> text = linked("graph")
    >>> text.count("export function make("), 'from "./' in text
    (1, False)
    """
    texts: dict[str, str] = {}
    _gather(name, texts)
    return "\n".join(texts.values())


def _gather(name: str, texts: dict[str, str]) -> None:
    """Add a module behind those that it imports."""
    if name in texts:
        return
    text = (_STATIC / f"{name}.js").read_text(encoding="utf-8")
    for found in _IMPORT.finditer(text):
        _gather(found["name"], texts)
    texts[name] = _EMPTY.sub("\n", _COMMENT.sub("", _IMPORT.sub("", text)))


@cache
def styles(*names: str) -> str:
    """Return style sheets of `static/`, named without their ending, as one."""
    return "\n".join((_STATIC / f"{name}.css").read_text(encoding="utf-8") for name in names)
