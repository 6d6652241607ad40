"""What goes wrong with a store, and how errors of an earlier kernel come back."""

from __future__ import annotations

import re
from typing import Any, Final

from taskqueue_nb.fingerprint.code import is_foreign_file
from taskqueue_nb.task import TaskError


class StoreError(RuntimeError):
    """A store cannot be used; nothing in it was changed.

    Parameters
    ----------
    path : str
        The file.
    reason : str
        What is the matter, and what would help.
    """

    def __init__(self, path: str = "", reason: str = "") -> None:
        super().__init__(path, reason)
        self.path, self.reason = path, reason

    def __str__(self) -> str:
        return f"store {self.path!r}: {self.reason}"


class StoreWarning(UserWarning):
    """Something is not stored, or not as usual; the run goes on."""


class EarlierError(TaskError):
    """What a task raised in an earlier kernel, in words: the exception itself is gone.

    Its class is not looked up by name, so that a store cannot have anything imported.

    Parameters
    ----------
    message : str
        The class and the words, such as "ValueError: no such day".
    task : Task, optional
        The task that raised it.
    trace : str, optional
        The traceback, as text.

    Attributes
    ----------
    kind : str
        The name of the class of what was raised; "EarlierError" if that is not known.
    words : str
        What it said.
    place : str
        The innermost line of the user's code, as "function(), line 3"; "" if not known.
    file : str
        Where that is; "" if not known.

    Examples
    --------
    >>> error = EarlierError("ValueError: no such day")
    >>> error.kind, error.words, error.place
    ('ValueError', 'no such day', '')
    """

    def __init__(self, message: str = "", task: object = None, trace: str = "") -> None:
        super().__init__(message, task)
        kind, _, words = message.partition(": ")
        is_said = kind.isidentifier()
        self.kind = kind if is_said else type(self).__name__
        self.words = words if is_said else message
        self.place, self.file = _place_in(trace)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the words and the place; the task cannot travel."""
        facts = {"place": self.place, "file": self.file, "kind": self.kind, "words": self.words}
        return (type(self), self.args, facts)


def _place_in(trace: str) -> tuple[str, str]:
    """Return the innermost line of the user's code in a traceback's text, and its file."""
    place = file = function = ""
    for line in trace[trace.rfind(_BEGIN) + len(_BEGIN) :].splitlines():
        if not line.startswith(" "):
            break  # what was said, which may look like anything
        found = _FRAME.fullmatch(line)
        if found is None or (place and is_foreign_file(found[1])):
            continue
        if found[3] not in _INNER or not function:
            function = found[3]
        place, file = f"{function}(), line {found[2]}", found[1]
    return "".join(letter if letter.isprintable() else "?" for letter in place[:_SHOWN]), file


_BEGIN: Final = "Traceback (most recent call last):\n"
_FRAME: Final = re.compile(r'  File "(.+)", line (\d+), in (.+)')
_INNER: Final = ("<genexpr>", "<listcomp>", "<setcomp>", "<dictcomp>")
_SHOWN: Final = 200  # characters of a place
