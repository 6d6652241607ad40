"""How the states stay true where a cluster begins calls by itself.

A cluster may have a call before its prerequisites are done, and then begins it without us:

the cluster begins it -> its word comes a moment later -> only then the task is RUNNING here

Whoever changes tasks must not do so in that moment, or a call would have been made of which no
state ever tells. So each change is made within `CaughtUp`: first, what has not begun is taken
back, and it is waited until the states tell of what has.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Container


class Leader(Protocol):
    """Calls that may begin before the states tell of it."""

    def catch_up(self, about: Container[Any] | None = None) -> None:
        """Take back what has not begun, and wait until the states tell of what has.

        Nothing need be done if none of these calls, nor what they wait for, is of certain tasks.
        """


#: Those that there are at present; who holds the lock of the graph sees each one.
LEADERS: Final[set[Any]] = set()

_lock = threading.Lock()  # held for a moment only
_changes = [0]  # how many are being made


def admit(leader: Leader) -> bool:
    """Say whether there may be such calls now, and take note of whose."""
    with _lock:
        if not _changes[0]:
            LEADERS.add(leader)
        return not _changes[0]


def forget_leaders() -> None:
    """Start anew, in the child of a fork: the clusters are the parent's."""
    global _lock
    _lock, _changes[0] = threading.Lock(), 0
    LEADERS.clear()


class CaughtUp:
    """Within it no cluster is given a call before its prerequisites are done. It may be nested.

    Parameters
    ----------
    about : container of Task, optional
        What is changed within it; calls that have nothing to do with these are left alone.
    """

    __slots__ = ("_about",)

    def __init__(self, about: Container[Any] | None = None) -> None:
        self._about = about

    def __enter__(self) -> None:
        with _lock:
            _changes[0] += 1
        try:
            for leader in tuple(LEADERS):
                leader.catch_up(self._about)
        except BaseException:
            self.__exit__()
            raise

    def __exit__(self, *_: object) -> None:
        with _lock:
            _changes[0] -= 1
