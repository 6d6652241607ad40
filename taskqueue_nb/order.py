"""In what order ready tasks are started: as they became ready, or the longest path first."""

from __future__ import annotations

import itertools
from bisect import insort
from collections import deque
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakSet

from taskqueue_nb.fsm import shorten

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from taskqueue_nb.task import Task

ORDERS: Final = ("ready", "longest")
_RISE: Final = 128  # tasks that one new requirement looks at
_SHARE: Final = 8  # heights are worked out anew when one in so many tasks has an old one


def check_order(order: Any) -> None:
    """Refuse what is no order.

    Raises
    ------
    ValueError
        With the orders that there are.
    """
    if order is not None and order not in ORDERS:
        known = ", ".join(repr(each) for each in ORDERS)
        message = f"there is no order {shorten(order)}; there are {known}, or None for either"
        raise ValueError(message)


class Order:
    """The longest path first, then who was ready first: what the lines of a queue share.

    The height of a task is the number of tasks behind it on the longest path, whatever their state.
    It is worked out when it is first asked for, with those of all that stand behind. What changes
    the graph meanwhile changes the heights with it, as far as that is little work; else they are
    forgotten after a share of the graph has changed, so that a change costs no more in a large
    graph than in a small one.

    Parameters
    ----------
    queue : TaskQueue
        Whose tasks; with `run_dependent_tasks`, the dependents that are still to come count, too.
    known : Order, optional
        One of the same queue whose heights are as good, for a line that is only looked at.

    Attributes
    ----------
    tickets : dict
        When each task became ready that has not been started since, as a number that grows.
    version : int
        Grows when heights are forgotten.
    """

    def __init__(self, queue: Any, known: Order | None = None) -> None:
        self._tasks, self._runs = queue._tasks, queue._runs  # the very ones of the queue
        self._all_count = bool(queue.run_dependent_tasks)
        self._heights: dict[Task, int] = {} if known is None else known._heights
        self._old = 0  # how often a change was not followed up
        self.version = 0
        self.lines: WeakSet[LongestFirst] = WeakSet()
        self.tickets: dict[Task, int] = {}
        self.later, self.earlier = itertools.count().__next__, itertools.count(-1, -1).__next__

    def height(self, task: Task) -> int:
        """Return how many tasks stand behind a task on the longest path."""
        heights = self._heights
        if (height := heights.get(task)) is not None:
            return height
        due = [task]
        while due:
            one = due[-1]
            if one in heights:  # it stands behind several
                due.pop()
                continue
            highest = -1
            for other in one._blocking:
                if (height := heights.get(other)) is not None:
                    highest = max(highest, height)
                elif self._all_count or other in self._tasks:
                    due.append(other)
            if due[-1] is one:
                heights[one] = 1 + highest
                due.pop()
        return heights[task]

    def add(self, task: Task) -> None:
        """Hear of a task that was added; the lock of the graph is held."""
        if self._heights:
            self._heights.pop(task, None)  # nobody told what came behind it before
            for prerequisite in task._required:
                self.link(task, prerequisite)

    def link(self, task: Task, prerequisite: Task | None) -> None:
        """Hear of a requirement of a member, with None of one that was taken away."""
        if not self._runs:
            self._forget()  # the next run is soon enough
        elif prerequisite is None:
            self._leave_old()
        elif prerequisite in self._heights:
            self._raise(prerequisite, 1 + self.height(task))

    def start(self, task: Task) -> None:
        """Hear that a task is started: it needs neither age nor height, until it is ready again.

        Nor do those before it, which are done; so what it adds behind itself is little work.
        """
        self.tickets.pop(task, None)
        self._heights.pop(task, None)

    def make_oldest(self, task: Task) -> None:
        """Hear that a ready task is put back next, and is to be older than all others."""
        if (ticket := self.tickets.pop(task, None)) is not None:
            for line in self.lines:
                line.leave(ticket)

    def rest(self) -> None:
        """Hear that a run has ended: the next one has heights that are not old."""
        if self._old and not self._runs:
            self._forget()

    def _raise(self, task: Task, height: int) -> None:
        """Raise a task to a height, and what stands before it as far as it rises."""
        heights = self._heights
        risen = []
        due = [(task, height)]
        for one, least in due:
            if heights.get(one, least) >= least:
                continue
            heights[one] = least
            risen.append(one)
            if len(due) + len(one._required) > _RISE:
                self._leave_old()
                break
            due += [(other, least + 1) for other in one._required]
        for line in self.lines:
            line.rise(risen)

    def _leave_old(self) -> None:
        """Put up with heights as they were before a change, unless it is one too many."""
        self._old += 1
        if self._old * _SHARE >= len(self._heights):
            self._forget()

    def _forget(self) -> None:
        if self._heights:
            self._heights, self._old = {}, 0
            self.version += 1


class LongestFirst:
    """Ready tasks, those with the longest path behind them first, then those that came first.

    It has what a deque has, as far as a queue of tasks uses that. Tasks of one height stand in one
    row by their age, so that to add one and to take one out looks at no other.
    """

    def __init__(self, order: Order, tasks: Iterable[Task] = ()) -> None:
        self._order = order
        self._version = -1  # of the heights in the rows, which are made when first wanted
        self._rows: dict[int, deque[int]] = {}  # tickets, by height below zero; some may be left
        self._highest: list[int] = []  # a heap of the heights below zero
        self._tasks: dict[int, Task] = {}  # by ticket
        order.lines.add(self)
        self.extend(tasks)

    def __len__(self) -> int:
        return len(self._tasks)

    def __iter__(self) -> Iterator[Task]:
        """Yield those that have been ready for longest first, so that another line can be made."""
        return iter([self._tasks[ticket] for ticket in sorted(self._tasks)])

    def __getitem__(self, place: int) -> Task:
        """Return the first; others are not to be had."""
        return self._tasks[self._first_row()[place]]

    def append(self, task: Task) -> None:
        """Add one that has become ready; from before it was not it may stand here still."""
        order = self._order
        if (old := order.tickets.get(task)) is not None:
            self.leave(old)
        ticket = order.tickets[task] = order.later()
        self._put(task, ticket)

    def appendleft(self, task: Task) -> None:
        """Put one back that was ready before; it keeps its age, or is older than all others."""
        ticket = self._order.tickets.get(task)
        if ticket is None:
            ticket = self._order.tickets[task] = self._order.earlier()
        self._put(task, ticket)

    def extend(self, tasks: Iterable[Task]) -> None:
        """Add some, in their order."""
        for task in tasks:
            self.append(task)

    def extendleft(self, tasks: Iterable[Task]) -> None:
        """Put some back."""
        for task in tasks:
            self.appendleft(task)

    def popleft(self) -> Task:
        """Take out the first."""
        return self._tasks.pop(self._first_row().popleft())

    def leave(self, ticket: int) -> None:
        """Take out whoever has a ticket, if somebody here has; its row is told when it is met."""
        self._tasks.pop(ticket, None)

    def rise(self, tasks: Iterable[Task]) -> None:
        """Hear that tasks have become higher, which may stand here or not."""
        for task in tasks:
            if (ticket := self._order.tickets.get(task)) in self._tasks:
                self._put(task, ticket)  # what it leaves in a lower row is met when it is out

    def _put(self, task: Task, ticket: int) -> None:
        self._tasks[ticket] = task
        if self._version != self._order.version:
            return
        place = -self._order.height(task)
        if (row := self._rows.get(place)) is None:
            row = self._rows[place] = deque()
            heappush(self._highest, place)
        if not row or row[-1] < ticket:
            row.append(ticket)
        else:
            insort(row, ticket)

    def _first_row(self) -> deque[int]:
        """Return the row of the first task, which begins with that one."""
        if self._version != self._order.version:
            self._make_rows()
        while True:
            row = self._rows[self._highest[0]]
            while row and row[0] not in self._tasks:
                row.popleft()
            if row:
                return row
            del self._rows[heappop(self._highest)]

    def _make_rows(self) -> None:
        self._version, self._rows = self._order.version, {}
        for ticket in sorted(self._tasks):
            place = -self._order.height(self._tasks[ticket])
            self._rows.setdefault(place, deque()).append(ticket)
        self._highest = sorted(self._rows)


class Aside(LongestFirst):
    """Those that were ready, and wait for something else: all keep their age."""

    def append(self, task: Task) -> None:
        """Add one."""
        self._put(task, self._order.tickets.setdefault(task, self._order.later()))
