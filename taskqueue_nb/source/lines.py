"""The lines of edited text: where tracebacks and debuggers find them, as long as its code lives."""

from __future__ import annotations

import itertools
import linecache
from typing import TYPE_CHECKING, Final
from weakref import finalize

from taskqueue_nb.source.foreign import one_line
from taskqueue_nb.source.functions import all_codes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import CodeType

_edited: Final[dict[str, tuple[int, str]]] = {}  # file → which code is the whole of its text
# Code goes at any moment, also while `linecache.checkcache` walks through its entries, and
# before Python 3.13 trips over a missing one. So an entry is emptied at once, and taken out at the
# next edit.
_gone: Final[list[str]] = []
_edits: Final[dict[str, Iterator[int]]] = {}  # what an edited function is called → its numbers


def next_filename(called: str) -> str:
    """Return what the file of the next edited text of a function is called."""
    called = one_line(called, 60).strip("<>") or "function"
    return f"<{called}, edited {next(_edits.setdefault(called, itertools.count(1)))}>"


def text_given_for(code: CodeType) -> str | None:
    """Return the edited text that some code is the whole of."""
    whole, text = _edited.get(code.co_filename, (0, None))
    return text if whole == id(code) else None


def keep_lines(text: str, code: CodeType, whole: CodeType) -> None:
    """Let the lines be found for as long as any of some code is there.

    All of it is made of the text, and `whole`, somewhere inside, stands for the whole text.
    """
    filename = code.co_filename
    while _gone:
        linecache.cache.pop(_gone.pop(), None)
    lines = [f"{line}\n" for line in text.split("\n")[:-1]]
    linecache.cache[filename] = (len(text), None, lines, filename)  # None: not to be looked for
    codes = all_codes(code)
    left = list(map(id, codes))
    _edited[filename] = (id(whole), text)

    def is_gone() -> None:
        left.pop()
        if not left and filename in linecache.cache:
            linecache.cache[filename] = (0, None, [], filename)
            _edited.pop(filename, None)
            _gone.append(filename)

    for one in codes:
        finalize(one, is_gone).atexit = False
