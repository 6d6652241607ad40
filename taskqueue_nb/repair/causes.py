"""Root causes: what failed by itself, and how much of the graph waits for it."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from taskqueue_nb.graph import closure
from taskqueue_nb.repair.changes import fell_with
from taskqueue_nb.task import Task, TaskError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_DOWN = frozenset({"FAILED", "CANCELLED", "ABORT"})


class Cause(NamedTuple):
    """Tasks that fell in the same way at the same place.

    Attributes
    ----------
    tasks : tuple of Task
        Those that fell: `queue.retry(cause)`.
    error : str
        The class of what they raised; "cancelled" or "aborted" if they raised nothing.
    place : str
        The innermost line of the user's code, as "function(), line 3"; "" if not known.
    blocked : tuple of Task
        What waits for one of them, directly or through others.
    """

    tasks: tuple[Task, ...]
    error: str
    place: str
    blocked: tuple[Task, ...]

    def __str__(self) -> str:
        where = f" in {self.place}" if self.place else ""
        fell = f"{len(self.tasks)} task{'' if len(self.tasks) == 1 else 's'}"
        blocked = f", {len(self.blocked)} blocked" if self.blocked else ""
        return f"{self.error}{where}: {fell}{blocked}"


class Causes(dict[Task, tuple[Task, ...]]):
    """Each task that fell by itself, with the tasks that wait for it.

    Attributes
    ----------
    groups : tuple of Cause
        The same, those together that fell by the same exception at the same place; what blocks
        most comes first.

    Examples
    --------
    >>> from taskqueue_nb import TaskQueue
    >>> load = Task("load", lambda: 1 / 0)
    >>> clean, fit = load.then("clean", print), load.then("fit", print)
    >>> queue = TaskQueue(load, clean, fit)
    >>> for _ in queue.run(): pass
    >>> print(queue.causes())
    1 cause blocks 2 tasks
    >>> [(cause.error, len(cause.blocked)) for cause in queue.causes().groups]
    [('ZeroDivisionError', 2)]
    """

    def __init__(self, found: Mapping[Task, tuple[Task, ...]] = {}) -> None:
        super().__init__(found)
        alike: dict[tuple[str, str, str], list[Task]] = {}
        for task in found:
            alike.setdefault(_kind(task), []).append(task)
        groups = [
            Cause(tuple(tasks), error, place, tuple({b: None for t in tasks for b in found[t]}))
            for (error, place, _), tasks in alike.items()
        ]
        groups.sort(key=lambda cause: (-len(cause.blocked), -len(cause.tasks)))
        self.groups = tuple(groups)

    def __str__(self) -> str:
        return blame(len(self.groups), len({task for waiting in self.values() for task in waiting}))

    def __repr__(self) -> str:
        return "\n  ".join([str(self), *map(str, self.groups)])


def blame(causes: int, blocked: int) -> str:
    """Say how many causes block how many tasks, or how many there are if they block none."""
    counted = f"{causes or 'no'} cause{'' if causes == 1 else 's'}"
    if not blocked:
        return counted
    blocks = "blocks" if causes == 1 else "block"
    return f"{counted} {blocks} {blocked} task{'' if blocked == 1 else 's'}"


def tasks_named(named: Iterable[Any]) -> tuple[Any, ...]:
    """Return what was named, with the tasks of a cause in its place."""
    return tuple(t for each in named for t in (each.tasks if isinstance(each, Cause) else (each,)))


def causes_among(fallen: Iterable[Task], members: Mapping[Task, Any]) -> Causes:
    """Tell what is blocked by what; the lock of the graph is held.

    Parameters
    ----------
    fallen : iterable of Task
        Where to look for causes.
    members : mapping with a key per task
        What may be blocked.
    """

    def waiting(task: Task) -> list[Task]:
        return [other for other in task._blocking if other.fsm_state not in ("DONE", "RUNNING")]

    causes = [task for task in fallen if task.fsm_state in _DOWN and not fell_with(task)]
    return Causes(
        {
            cause: tuple(t for t in closure(waiting(cause), waiting) if t in members)
            for cause in causes
        }
    )


def _kind(task: Task) -> tuple[str, str, str]:
    """Return how and where a task fell: class, place in words, file."""
    error = task._error
    if error is None:
        return ("aborted" if task.fsm_state == "ABORT" else task.fsm_state.lower()), "", ""
    if isinstance(error, TaskError) and hasattr(error, "kind"):  # of an earlier kernel, in words
        earlier: Any = error
        return earlier.kind, earlier.place, earlier.file
    place = file = ""
    trace = error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        if not place or _is_users(code.co_filename):
            place = f"{_INNER.sub('', code.co_qualname)}(), line {trace.tb_lineno}"
            file = code.co_filename
        trace = trace.tb_next
    return type(error).__name__, place, file


def _is_users(file: str) -> bool:
    """Say whether code is of the notebook or of the user's own files, not of a library."""
    return not file.startswith((_LIBRARY, "<frozen")) and "site-packages" not in file


_INNER: Final = re.compile(r"(\.<locals>\.<(list|set|dict)comp>|\.<locals>\.<genexpr>)+$")
_LIBRARY: Final = os.__file__.removesuffix("os.py")
