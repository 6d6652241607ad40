"""How the states stay true where a cluster begins calls by itself.

A cluster may have a call before its prerequisites are done, and then begins it without us:

the cluster begins it -> its word comes a moment later -> only then the task is RUNNING here

Whoever changes tasks must not do so in that moment, or a call would have been made of which no
state ever tells. So each change is made within `CAUGHT_UP`: first, what has not begun is taken
back, and it is waited until the states tell of what has.
"""

from __future__ import annotations

import threading
from typing import Any, Final, Protocol


class Leader(Protocol):
    """An executor whose calls may begin before the states tell of it."""

    def catch_up(self) -> None:
        """Take back what has not begun, and wait until the states tell of what has."""


#: Those that have such calls at present; who holds the lock of the graph sees each one that does.
LEADERS: Final[set[Any]] = set()


class _CaughtUp:
    """Within it no cluster has a call before its prerequisites are done. It may be nested."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # held for a moment only
        self._count = 0

    def admit(self, leader: Leader) -> bool:
        """Say whether an executor may have such calls now, and take note of it."""
        with self._lock:
            if not self._count:
                LEADERS.add(leader)
            return not self._count

    def forget(self) -> None:
        """Start anew, in the child of a fork: the clusters are the parent's."""
        self._lock, self._count = threading.Lock(), 0
        LEADERS.clear()

    def __enter__(self) -> None:
        with self._lock:
            self._count += 1
        try:
            for leader in tuple(LEADERS):
                leader.catch_up()
        except BaseException:
            self.__exit__()
            raise

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._count -= 1


CAUGHT_UP: Final = _CaughtUp()
