"""What may run together: how much there is of each thing, who uses it, who waits for some."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any, Final

from taskqueue_nb.fsm import shorten
from taskqueue_nb.task import PLAIN, TaskError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from taskqueue_nb.task import Task

Needs = tuple[tuple[str, float], ...]
_Place = tuple[int, int]  # by height, the highest first, and by ticket

_ROUNDING: Final = 1e-9  # ten tenths may be a little more than one


def checked_limits(limits: Any) -> dict[str, float]:
    """Return limits as a dict of our own.

    Raises
    ------
    TypeError
        If it is no mapping from names to numbers.
    ValueError
        If a number is not above 0.
    """
    if limits is None:
        return {}
    if not isinstance(limits, Mapping) or not all(isinstance(name, str) for name in limits):
        message = (
            "limits is a mapping from the names of groups and of what tasks use to numbers, such "
            f"as {{'gpu': 2}}, not {shorten(limits)}"
        )
        raise TypeError(message)
    for name, number in limits.items():
        if isinstance(number, bool) or not isinstance(number, (int, float)):
            message = f"the limit of {shorten(name)} is a number, not {shorten(number)}"
            raise TypeError(message)
        if not number > 0:
            message = f"the limit of {shorten(name)} is a number above 0, not {number}"
            raise ValueError(message)
    return dict(limits)


def needs_of(task: Task, limits: Mapping[str, float]) -> Needs:
    """Return what a task takes up while it runs: what it uses, and a place in its group."""
    options = task._options
    if options is PLAIN:
        return ()
    needs: dict[str, float] = dict(options.uses or ())
    if options.group is not None and options.group in limits:
        needs[options.group] = needs.get(options.group, 0) + 1
    return tuple(sorted(needs.items()))


def refusal(task: Task, limits: Mapping[str, float]) -> TaskError | None:
    """Say why a task could never run under some limits; None if it could."""
    for name, need in needs_of(task, limits):
        if name not in limits:
            known = ", ".join(shorten(each) for each in limits) or "nothing"
            message = (
                f"task {shorten(task.name)} uses {shorten(name)}, and nothing says how much of it "
                f"there is; there are limits for {known}"
            )
            return TaskError(message, task)
        if need > limits[name] + _ROUNDING:
            message = (
                f"task {shorten(task.name)} uses {need:g} of {shorten(name)}, and there is no more "
                f"than {limits[name]:g}"
            )
            return TaskError(message, task)
    return None


class Hold:
    """What one attempt takes up; the same needs twice are two of them."""

    __slots__ = ("needs",)

    def __init__(self, needs: Needs) -> None:
        self.needs = needs


class Room:
    """How much is taken up, and the ready tasks that wait for room: the highest first, then by age.

    Whoever waits for something is served before those who come behind it for the same, so that a
    task that uses much is not overtaken for ever by those that use little. None of them holds
    anything while it waits, so that no two wait for each other. Without an order all are of height
    0; a task that waits keeps the height that it had when it began to. Those who want the same
    things stand in one line, however much they want of each. The lock of the graph is held
    throughout.
    """

    def __init__(self) -> None:
        self._used: dict[str, float] = {}
        self._held: dict[Task, Hold] = {}
        self._waiting: dict[tuple[str, ...], list[tuple[_Place, Task, Needs]]] = {}  # heaps
        self._wanted: dict[str, int] = {}  # of each thing, how many wait for it
        self._tickets = itertools.count()
        self._since: dict[Task, int] = {}  # the tickets of those that wait, or have been let out

    def __bool__(self) -> bool:
        """Say whether anybody waits."""
        return bool(self._waiting)

    def __iter__(self) -> Iterator[Task]:
        """Yield those that wait, oldest first."""
        waiting = itertools.chain(*self._waiting.values())
        for _, task, _ in sorted(waiting, key=lambda entry: entry[0][1]):
            yield task

    def enter(self, task: Task, needs: Needs, limits: Mapping[str, float], height: int = 0) -> bool:
        """Take up what a task needs; if there is no room, or others come first, let it wait."""
        ticket = self._since.pop(task, None)
        place = (-height, next(self._tickets) if ticket is None else ticket)
        if self._fits(needs, limits) and not self._comes_after_others(place, needs):
            self._take(task, needs)
            return True
        self._since[task] = place[1]
        names = tuple(name for name, _ in needs)
        heappush(self._waiting.setdefault(names, []), (place, task, needs))
        for name in names:
            self._wanted[name] = self._wanted.get(name, 0) + 1
        return False

    def _comes_after_others(self, place: _Place, needs: Needs) -> bool:
        """Say whether anybody waits for some of the same who is to be served first."""
        names = {name for name, _ in needs if name in self._wanted}
        return bool(names) and any(
            waiting[0][0] < place
            for others, waiting in self._waiting.items()
            if not names.isdisjoint(others)
        )

    def let_out(self, limits: Mapping[str, float], is_ready: Callable[[Task], bool]) -> Task | None:
        """Return the first of those that fit in; it has to `enter`, and others may do so before."""
        for names in [*self._waiting]:
            self._drop_heads(names, is_ready)
        blocked: set[str] = set()
        for names in sorted(self._waiting, key=lambda each: self._waiting[each][0][0]):
            _, _, needs = self._waiting[names][0]
            if blocked.isdisjoint(names) and self._fits(needs, limits):
                return self._pop(names)
            blocked.update(names)
        return None

    def _drop_heads(self, names: tuple[str, ...], is_ready: Callable[[Task], bool]) -> None:
        """Forget those that have moved on while they waited, as far as they come first."""
        while names in self._waiting and not is_ready(self._waiting[names][0][1]):
            self._since.pop(self._pop(names), None)

    def _pop(self, names: tuple[str, ...]) -> Task:
        waiting = self._waiting[names]
        _, task, _ = heappop(waiting)
        if not waiting:
            del self._waiting[names]
        for name in names:
            self._wanted[name] -= 1
            if not self._wanted[name]:
                del self._wanted[name]
        return task

    def _fits(self, needs: Needs, limits: Mapping[str, float]) -> bool:
        used = self._used
        return all(
            name not in limits or used.get(name, 0) + need <= limits[name] + _ROUNDING
            for name, need in needs
        )

    def _take(self, task: Task, needs: Needs) -> None:
        if (stale := self._held.get(task)) is not None:
            self.leave(task, stale)  # its last attempt is over, and has not said so yet
        self._held[task] = Hold(needs)
        for name, need in needs:
            self._used[name] = self._used.get(name, 0) + need

    def hold_of(self, task: Task) -> Hold | None:
        """Return what a task takes up at present."""
        return self._held.get(task)

    def leave(self, task: Task, hold: Hold | None) -> None:
        """Give back what an attempt has taken up, unless that was done already."""
        if hold is None or self._held.get(task) is not hold:
            return
        del self._held[task]
        for name, need in hold.needs:
            self._used[name] -= need
            if self._used[name] <= _ROUNDING:
                del self._used[name]

    def clear(self) -> list[Task]:
        """Let nobody wait any longer; return who did, oldest first."""
        waiting = list(self)
        self._waiting, self._wanted, self._since = {}, {}, {}
        return waiting

    def forget(self, is_active: Callable[[Task], bool]) -> None:
        """Give back what is held by tasks that no longer run, as after an interrupt."""
        for task, hold in list(self._held.items()):
            if not is_active(task):
                self.leave(task, hold)
