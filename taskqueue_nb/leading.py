"""How the states stay true where a cluster begins calls by itself.

A cluster may have a call before its prerequisites are done, and then begins it without us:

the cluster begins it -> its word comes a moment later -> only then the task is RUNNING here

Whoever changes tasks must not do so in that moment, or a call would have been made of which no
state ever tells. So each change is made within `CAUGHT_UP`: first, what has not begun is taken
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


class _CaughtUp:
    """Within it no cluster is given a call before its prerequisites are done. It may be nested."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # held for a moment only
        self._count = 0

    def admit(self, leader: Leader) -> bool:
        """Say whether there may be such calls now, and take note of whose."""
        with self._lock:
            if not self._count:
                LEADERS.add(leader)
            return not self._count

    def about(self, tasks: Container[Any]) -> _CaughtUpAbout:
        """Return the same, where nothing but certain tasks is changed."""
        return _CaughtUpAbout(self, tasks)

    def forget(self) -> None:
        """Start anew, in the child of a fork: the clusters are the parent's."""
        self._lock, self._count = threading.Lock(), 0
        LEADERS.clear()

    def enter(self, about: Container[Any] | None = None) -> None:
        """Do what `with` does at its beginning."""
        with self._lock:
            self._count += 1
        try:
            for leader in tuple(LEADERS):
                leader.catch_up(about)
        except BaseException:
            self.__exit__()
            raise

    def __enter__(self) -> None:
        self.enter()

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._count -= 1


class _CaughtUpAbout:
    """`CAUGHT_UP`, as far as it concerns certain tasks."""

    __slots__ = ("_about", "_whole")

    def __init__(self, whole: _CaughtUp, about: Container[Any]) -> None:
        self._whole, self._about = whole, about

    def __enter__(self) -> None:
        self._whole.enter(self._about)

    def __exit__(self, *_: object) -> None:
        self._whole.__exit__()


CAUGHT_UP: Final = _CaughtUp()
