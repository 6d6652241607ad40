"""Which boxes a picture has: a box per task, or groups of tasks folded into one box each."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar

from taskqueue_nb.drawing.words import attribute, clean, name_of
from taskqueue_nb.repair import fell_with
from taskqueue_nb.task import Task, func_name

K = TypeVar("K", bound=Hashable)
Tasks: TypeAlias = Sequence[Any]
Edges: TypeAlias = list[tuple[int, int]]

EDGES: Final = 2000  # more of them are a black picture, and minutes of layout
_NEIGHBOURS: Final = 8  # that are unfolded with a failed or running task, on each side
_BANDS: Final = 24  # boxes of a graph that has nothing to fold by but its depth
_SMALL: Final = 12  # tasks of a group that is not worth folding
_LONGEST: Final = 120  # characters of a name that are looked at for its stem


class Fold(NamedTuple):
    """What belongs to one box.

    Attributes
    ----------
    tasks : tuple of Task
        One, or several for a folded box.
    key : str or None
        What a folded box was folded by; None for a task of its own.
    group : str or None
        The group, where the user named one.
    """

    tasks: tuple[Any, ...]
    key: str | None
    group: str | None

    @property
    def label(self) -> str:
        """What the box is called, on one clean line."""
        return name_of(self.tasks[0]) if self.key is None else f"{self.key}{self.times}"

    @property
    def times(self) -> str:
        """How many tasks a folded box holds, as its label says it."""
        return f" \N{MULTIPLICATION SIGN} {len(self.tasks):,}"


class Folding(NamedTuple):
    """The boxes of a picture in the order of the tasks, and the requirements between them.

    Attributes
    ----------
    folds : list of Fold
        What the boxes hold.
    edges : list of tuple of int
        Pairs of indices of boxes, prerequisite first.
    room : int
        How many boxes more the picture could have.
    """

    folds: list[Fold]
    edges: Edges
    room: int


def folded(tasks: Iterable[Any], max_nodes: int, keep: Collection[Any] = ()) -> Folding:
    """Decide which tasks have a box of their own.

    Parameters
    ----------
    tasks : iterable of Task
        In the order of their queue; one that comes twice counts once.
    max_nodes : int
        The largest number of boxes.
    keep : collection of Task
        Tasks that had a box of their own: they keep it if there is room.

    Returns
    -------
    Folding
        With a box for each task where that fits. Otherwise groups are folded, first the largest;
        what failed, what runs and what stands beside it has a box of its own as far as there is
        room, causes first.
    """
    unique = tuple(dict.fromkeys(tasks))
    budget = max(1, max_nodes)
    if len(unique) <= budget:
        folds = [Fold((task,), None, _group(task)) for task in unique]
        edges = _edges(folds)
        if len(edges) <= EDGES:
            return Folding(folds, edges, 0)
        budget = len(unique) // 2
    while True:
        folds, room = _fold(unique, budget, keep)
        edges = _edges(folds)
        if len(edges) <= EDGES or budget <= 1:
            return Folding(folds, edges, room)
        budget //= 2


def _edges(folds: list[Fold]) -> Edges:
    """Find the requirements between boxes, each pair once, in the order of the boxes."""
    at = {task: i for i, fold in enumerate(folds) for task in fold.tasks}
    pairs = {
        (at[prerequisite], i): None
        for i, fold in enumerate(folds)
        for task in fold.tasks
        for prerequisite in task.required
        if prerequisite in at
    }
    return [pair for pair in pairs if pair[0] != pair[1]]


# -- folding -----------------------------------------------------------------------------------


def _fold(tasks: Tasks, budget: int, keep: Collection[Any]) -> tuple[list[Fold], int]:
    groups = _groups(tasks, max(1, budget // 2))
    room = budget - len(groups)
    own: set[Any] = set()
    key_of = {task: key for key, members in groups.items() for task in members}
    left = {key: len(members) for key, members in groups.items()}

    def show(task: Any) -> None:
        """Give a task its own box, if there is room; the last of a group leaves no box behind."""
        nonlocal room
        key = key_of[task]
        cost = 0 if left[key] == 1 else 1
        if task not in own and room >= cost:
            own.add(task)
            left[key] -= 1
            room -= cost

    urgent = _urgent(tasks)
    for task in urgent:
        show(task)
        if not room:
            break
    if room:
        for task in chain(_beside(urgent, key_of), (task for task in keep if task in key_of)):
            show(task)
    # a quarter is kept for what fails or starts later, so that the picture need not change much
    for key, members in sorted(groups.items(), key=lambda item: len(item[1])):
        if left[key] > _SMALL or (left[key] > 1 and room - left[key] < budget // 4):
            break
        for task in members:
            show(task)
    return _boxes(tasks, groups, key_of, own), room


def _boxes(
    tasks: Tasks, groups: dict[str, list[Any]], key_of: dict[Any, str], own: set[Any]
) -> list[Fold]:
    folds: dict[Any, Fold] = {}
    for task in tasks:
        key = key_of[task]
        if task in own:
            folds[task] = Fold((task,), None, _group(task))
        elif key not in folds:
            members = tuple(member for member in groups[key] if member not in own)
            if len(members) == 1:
                folds[key] = Fold(members, None, _group(task))
            else:
                folds[key] = Fold(members, key, _group(task))
    return list(folds.values())


def _urgent(tasks: Tasks) -> list[Any]:
    """Return what a user looks for: causes, running tasks, and what fell with the causes."""
    causes: list[Any] = []
    running: list[Any] = []
    fallen: list[Any] = []
    for task in tasks:
        state = task.fsm_state
        if state == "RUNNING":
            running.append(task)
        elif state == "FAILED":
            victim = is_victim(task)
            (fallen if victim else causes).append(task)
        elif state == "CANCELLED":
            fallen.append(task)
    return [*causes, *running, *fallen]


def is_victim(task: Any) -> bool:
    """Say whether a task failed only because a prerequisite did: mending starts elsewhere."""
    return isinstance(task, Task) and bool(fell_with(task))


def _beside(urgent: Sequence[Any], known: Collection[Any]) -> Iterable[Any]:
    for task in urgent:
        for side in (task.required, task.blocking):
            yield from [other for other in side[:_NEIGHBOURS] if other in known]


# -- what to fold by ---------------------------------------------------------------------------


def _groups(tasks: Tasks, at_most: int) -> dict[str, list[Any]]:
    """Sort tasks into at most so many groups, each under the text that names it."""
    groups = _by(tasks, _key)
    by_name = [_fine_key, _coarse_key, _coarsest_key]
    if len(groups) > at_most or max(map(len, groups.values())) > len(tasks) // 2:
        for key in by_name:  # one function does most of it, or each its own: the names tell more
            named = _by(tasks, key)
            if 1 < len(named) <= at_most:
                return named
    return groups if len(groups) <= at_most else _bands(tasks, min(at_most, _BANDS))


def _by(tasks: Tasks, key: Callable[[Any], str]) -> dict[str, list[Any]]:
    groups: dict[str, list[Any]] = {}
    for task in tasks:
        groups.setdefault(key(task), []).append(task)
    return groups


def _group(task: Any) -> str | None:
    group = attribute(task, "group")
    return clean(group) if isinstance(group, str) else None


def _key(task: Any) -> str:
    group = attribute(task, "group")
    if isinstance(group, str):
        return clean(group)
    func = attribute(task, "func")
    name = None if func is None else func_name(func)
    return clean(name) if name and name != "<lambda>" else _stem(task)


def _fine_key(task: Any) -> str:
    return _group(task) or _stem(task)


_ITEM = re.compile(r"[\[(].*[\])]$", re.DOTALL)
_NUMBER = re.compile(r"[\W_]*(?:ID)?\d+[\W_]*$")
_DIGITS = re.compile(r"\d+")


def _stem(task: Any) -> str:
    """Return a name without the item or the number at its end."""
    name = name_of(task)[:_LONGEST]
    return _NUMBER.sub("", _ITEM.sub("", name)) or name


def _coarse_key(task: Any) -> str:
    return _group(task) or _DIGITS.sub("#", _stem(task))


def _coarsest_key(task: Any) -> str:
    return _group(task) or re.split(r"[\W_\d]+", _stem(task), maxsplit=1)[0] or "others"


def _bands(tasks: Tasks, count: int) -> dict[str, list[Any]]:
    """Sort tasks by how many requirements lead up to them, into bands of levels."""
    level = levels(
        {task: [other for other in task.required] for task in tasks}  # noqa: C416 - a copy each
    )
    deepest = max(level.values())
    if deepest < count:  # flat: cut by position instead
        size = -(-len(tasks) // count)
        return {
            f"tasks {start + 1} to {min(start + size, len(tasks))}": list(
                tasks[start : start + size]
            )
            for start in range(0, len(tasks), size)
        }
    groups: dict[str, list[Any]] = {}
    high = -(-(deepest + 1) // count)
    for task in tasks:
        start = level[task] // high * high
        groups.setdefault(f"levels {start + 1} to {start + high}", []).append(task)
    return groups


def levels(required: Mapping[K, Collection[K]]) -> dict[K, int]:
    """Count for each key the longest way of requirements that leads up to it.

    Members of circles, which folding can make, stand on the level where they were reached.
    """
    missing = dict.fromkeys(required, 0)
    behind: dict[K, list[K]] = {key: [] for key in required}
    for key, prerequisites in required.items():
        for prerequisite in prerequisites:
            if prerequisite in behind and prerequisite is not key:
                behind[prerequisite].append(key)
                missing[key] += 1
    level = dict.fromkeys(required, 0)
    ready = deque(key for key, count in missing.items() if not count)
    while ready:
        key = ready.popleft()
        for dependent in behind[key]:
            level[dependent] = max(level[dependent], level[key] + 1)
            missing[dependent] -= 1
            if not missing[dependent]:
                ready.append(dependent)
    return level
