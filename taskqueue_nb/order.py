"""In what order ready tasks are started: as they became ready, or the longest path first."""

from __future__ import annotations

import itertools
import sys
from collections import deque
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING, Any, Final

from taskqueue_nb.fsm import shorten
from taskqueue_nb.graph import closure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from taskqueue_nb.task import Task

ORDERS: Final = ("ready", "longest")
_FIRST: Final = -sys.maxsize


def check_order(order: Any) -> None:
    """Refuse what is no order.

    Raises
    ------
    ValueError
        With the orders that there are.
    """
    if order not in ORDERS:
        known = ", ".join(repr(each) for each in ORDERS)
        message = f"there is no order {shorten(order)}; there are {known}"
        raise ValueError(message)


class Heights:
    """How many tasks stand behind each task on the longest path, worked out at need.

    Parameters
    ----------
    queue : TaskQueue
        Whose tasks; with `run_dependent_tasks`, the dependents that are still to come count, too.
    """

    def __init__(self, queue: Any) -> None:
        self._queue = queue
        self._known: dict[Task, int] = {}
        self.version = 0  # grows when heights may have changed

    def forget(self) -> None:
        """Work them out anew when they are wanted next: a requirement has changed."""
        self._known = {}
        self.version += 1

    def note(self, task: Task) -> None:
        """Hear of a task that was added; the lock of the graph is held."""
        if self._known and task not in self._known:
            self.forget()

    @property
    def are_known(self) -> bool:
        """Whether they have been worked out."""
        return bool(self._known)

    def of(self, task: Task) -> int:
        """Return how many tasks stand behind a task on the longest path."""
        if not self._known:
            self._work_out()
        return self._known.get(task, 0)

    def _work_out(self) -> None:
        tasks: Iterable[Task] = self._queue._tasks
        if self._queue.run_dependent_tasks:
            tasks = closure(tasks, lambda task: task._blocking)
        known: dict[Task, int] = {}
        members = dict.fromkeys(tasks)
        for task in sorted(members, key=lambda task: (task._level, task._rank), reverse=True):
            behind = [known[each] for each in task._blocking if each in known]
            known[task] = 1 + max(behind) if behind else 0
        self._known = known


class LongestFirst:
    """Ready tasks, those with the longest path behind them first, then those that came first.

    It has what a deque has, as far as a queue of tasks uses that.
    """

    def __init__(self, heights: Heights, tasks: Iterable[Task] = ()) -> None:
        self._heights = heights
        self._version = heights.version
        self._heap: list[tuple[int, int, Task]] = []
        self._later, self._earlier = itertools.count().__next__, itertools.count(-1, -1).__next__
        self.extend(tasks)

    def __len__(self) -> int:
        return len(self._heap)

    def __iter__(self) -> Iterator[Task]:
        self._renew()
        for _, _, task in sorted(self._heap):
            yield task

    def append(self, task: Task) -> None:
        """Add one, behind those that are as high."""
        heappush(self._heap, (self._depth(task), self._later(), task))

    def appendleft(self, task: Task) -> None:
        """Put one back that is to be taken out next."""
        self._renew()
        heappush(self._heap, (_FIRST, self._earlier(), task))

    def extend(self, tasks: Iterable[Task]) -> None:
        """Add some, in their order."""
        for task in tasks:
            self.append(task)

    def extendleft(self, tasks: Iterable[Task]) -> None:
        """Put some back, each before the last and those that are as high."""
        for task in tasks:
            heappush(self._heap, (self._depth(task), self._earlier(), task))

    def popleft(self) -> Task:
        """Take out the first."""
        self._renew()
        return heappop(self._heap)[2]

    def _depth(self, task: Task) -> int:
        """Return what to sort by; before heights are wanted, anything: it is sorted later."""
        if self._version == self._heights.version and self._heights.are_known:
            return -self._heights.of(task)
        self._version = -1
        return 0

    def _renew(self) -> None:
        """Sort anew if heights have changed since."""
        if self._version != self._heights.version:
            self._version = self._heights.version
            of = self._heights.of
            self._heap = [(-of(task), ticket, task) for _, ticket, task in self._heap]
            heapify(self._heap)


def line_maker(heights: Heights | None) -> Callable[..., Any]:
    """Return what makes the line in which ready tasks stand: with heights, the longest first."""
    if heights is None:
        return deque
    return lambda tasks=(): LongestFirst(heights, tasks)
