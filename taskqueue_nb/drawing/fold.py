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
_URGENT: Final = frozenset({"FAILED", "RUNNING", "CANCELLED"})
_LONGEST: Final = 120  # characters of a name that are looked at for its stem
_PARTS: Final = 20  # that a group is cut into when it is opened and does not fit


class Wish(NamedTuple):
    """What somebody who looks at a picture wants to see of it.

    Attributes
    ----------
    first : tuple of Task
        Tasks that are wanted before all others: they get a box of their own as far as there is
        room.
    opened : tuple of str
        What was folded by these keys has boxes of its own, the last opened before the others. A
        group that does not fit is cut into parts, each with a key of its own.
    shut : frozenset of str
        What belongs to these keys is folded, even if there were room. Not so what failed or runs.
    """

    first: tuple[Any, ...] = ()
    opened: tuple[str, ...] = ()
    shut: frozenset[str] = frozenset()


NO_WISH: Final = Wish()


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
    of : str
        What a task with a box of its own can be folded by, with others; "" if there are none.
    """

    tasks: tuple[Any, ...]
    key: str | None
    group: str | None
    of: str = ""

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
    kept : bool
        Whether some task of a folded group has a box of its own only because it had one before.
    """

    folds: list[Fold]
    edges: Edges
    room: int
    kept: bool = False


def folded(
    tasks: Iterable[Any],
    max_nodes: int,
    keep: Collection[Any] = (),
    wish: Wish = NO_WISH,
) -> Folding:
    """Decide which tasks have a box of their own.

    Parameters
    ----------
    tasks : iterable of Task
        In the order of their queue; one that comes twice counts once.
    max_nodes : int
        The largest number of boxes.
    keep : collection of Task
        Tasks that had a box of their own: they keep it if there is room.
    wish : Wish
        What is to be seen before all else.

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
        folds = _unfolded(unique, wish.shut)
        edges = _edges(folds)
        if len(edges) <= EDGES:
            return Folding(folds, edges, 0)
        budget = len(unique) // 2
    while True:
        folds, room, is_kept = _fold(unique, budget, keep, wish)
        edges = _edges(folds)
        if len(edges) <= EDGES or budget <= 1:
            return Folding(folds, edges, room, is_kept)
        budget //= 2


def _edges(folds: list[Fold]) -> Edges:
    """Find the requirements between boxes, each pair once, in the order of the boxes."""
    at: dict[Any, int] = {}
    for i, fold in enumerate(folds):
        at.update(dict.fromkeys(fold.tasks, i))
    edges = []
    for i, fold in enumerate(folds):
        found = {at.get(required, i) for task in fold.tasks for required in task.required}
        edges += [(start, i) for start in sorted(found) if start != i]
    return edges


# -- folding -----------------------------------------------------------------------------------


def _unfolded(tasks: Tasks, shut: Collection[str]) -> list[Fold]:
    """Give every task a box of its own, except where that is not wanted."""
    if not tasks:
        return []
    groups = _groups(tasks, max(1, len(tasks) // 2))
    hidden = {task for key, members in groups.items() if key.text in shut for task in members}
    hidden.difference_update(_urgent(tasks) if hidden else ())
    return _boxes(tasks, groups, [task for task in tasks if task not in hidden])


def _fold(
    tasks: Tasks, budget: int, keep: Collection[Any], wish: Wish
) -> tuple[list[Fold], int, bool]:
    """Fold into groups, then give tasks boxes of their own while there is room."""
    groups = _cut(_groups(tasks, max(1, budget // 2)), wish.opened, budget)
    key_of: dict[Any, _Key] = {}
    for key, members in groups.items():
        key_of.update(dict.fromkeys(members, key))
    left = {key: len(members) for key, members in groups.items()}
    room = budget - len(groups)
    own: set[Any] = set()

    def show(task: Any) -> None:
        """Give a task its own box, if there is room; the last of a group leaves no box behind."""
        nonlocal room
        key = key_of[task]
        cost = 0 if left[key] == 1 else 1
        if task not in own and room >= cost:
            own.add(task)
            left[key] -= 1
            room -= cost

    urgent = list(dict.fromkeys((*wish.first, *_urgent(tasks))))[:budget]
    opened = [
        task
        for text in reversed(wish.opened)
        for key, members in groups.items()
        if key.text == text
        for task in members
    ]
    kept = [task for task in keep if task in key_of and key_of[task].text not in wish.shut]
    for task in filter(key_of.__contains__, chain(urgent, opened, _beside(urgent, key_of))):
        show(task)
    others = [task for task in kept if task not in own]
    for task in others:
        show(task)
    # a quarter is kept for what fails or starts later, so that the picture need not change much
    for key in sorted(groups, key=left.__getitem__):
        if left[key] > _SMALL or (left[key] > 1 and room - left[key] < budget // 4):
            break
        if key.text in wish.shut:
            continue
        for task in groups[key]:
            show(task)
    is_kept = any(task in own and left[key_of[task]] > 0 for task in others)
    return _boxes(tasks, groups, own), room, is_kept


def _cut(
    groups: dict[_Key, list[Any]], opened: Iterable[str], budget: int
) -> dict[_Key, list[Any]]:
    """Cut what is opened and too large for boxes of its own into parts that can be opened."""
    for text in opened:
        for key in [key for key in groups if key.text == text]:
            if len(groups[key]) > max(_SMALL, budget - len(groups)):
                groups = _with_parts(groups, key)
    return groups


def _with_parts(groups: dict[_Key, list[Any]], whole: _Key) -> dict[_Key, list[Any]]:
    """Put the parts of a group where it stood."""
    cut: dict[_Key, list[Any]] = {}
    for key, members in groups.items():
        if key is not whole:
            cut[key] = members
            continue
        size = -(-len(members) // _PARTS)
        for start in range(0, len(members), size):
            part = members[start : start + size]
            text = f"{key.text} {start + 1:,}\N{EN DASH}{start + len(part):,}"
            cut[_Key("part", text)] = part
    return cut


def _boxes(tasks: Tasks, groups: Mapping[_Key, list[Any]], own: Collection[Any]) -> list[Fold]:
    """Put the boxes in the order of the first task in each."""
    folds: dict[Any, Fold] = {}  # by that first task
    chosen = frozenset(own)
    for (_, text), members in groups.items():
        of = text if len(members) > 1 else ""
        if not chosen:
            rest = tuple(members)
        else:
            rest = tuple(task for task in members if task not in chosen)
            for task in members:
                if task in chosen:
                    folds[task] = Fold((task,), None, _group(task), of)
        if len(rest) > 1:
            folds[rest[0]] = Fold(rest, text, _group(rest[0]))
        elif rest:
            folds[rest[0]] = Fold(rest, None, _group(rest[0]), of)
    return [folds[task] for task in tasks if task in folds]


def _urgent(tasks: Tasks) -> list[Any]:
    """Return what a user looks for: causes, running tasks, and what fell with the causes."""
    states = [task.fsm_state for task in tasks]
    if not _URGENT & set(states):
        return []
    running = [task for task, state in zip(tasks, states, strict=True) if state == "RUNNING"]
    failed = [task for task, state in zip(tasks, states, strict=True) if state == "FAILED"]
    cancelled = [task for task, state in zip(tasks, states, strict=True) if state == "CANCELLED"]
    victims = {task for task in failed if is_victim(task)}
    causes = [task for task in failed if task not in victims]
    return [*causes, *running, *(task for task in failed if task in victims), *cancelled]


def is_victim(task: Any) -> bool:
    """Say whether a task failed only because a prerequisite did: mending starts elsewhere."""
    return isinstance(task, Task) and bool(fell_with(task))


def _beside(urgent: Sequence[Any], known: Collection[Any]) -> Iterable[Any]:
    for task in urgent:
        for side in (task.required, task.blocking):
            yield from [other for other in side[:_NEIGHBOURS] if other in known]


# -- what to fold by ---------------------------------------------------------------------------


class _Key(NamedTuple):
    """What tasks are folded by: a group that the user named, their function or their names."""

    kind: str
    text: str


def _groups(tasks: Tasks, at_most: int) -> dict[_Key, list[Any]]:
    """Sort tasks into at most so many groups, in the order of the first task in each."""
    groups = _by_function(tasks)
    if len(groups) <= at_most and max(map(len, groups.values())) <= len(tasks) // 2:
        return groups
    # one function does most of it, or each has its own: the names tell more
    named = _by_name(tasks)
    for coarser in (None, _without_numbers, _first_word):
        if coarser is not None:
            named = _merged(named, coarser)
        if len(named) == 1:
            break
        if len(named) <= at_most:
            return named
    return groups if len(groups) <= at_most else _bands(tasks, min(at_most, _BANDS))


def _by_function(tasks: Tasks) -> dict[_Key, list[Any]]:
    raw: dict[tuple[Any, int], list[Any]] = {}
    for task in tasks:
        raw.setdefault((attribute(task, "group"), id(task.func)), []).append(task)
    groups: dict[_Key, list[Any]] = {}
    for members in raw.values():
        groups.setdefault(_function_key(members[0]), []).extend(members)
    return groups


def _function_key(task: Any) -> _Key:
    group = _group(task)
    if group is not None:
        return _Key("group", group)
    name = None if task.func is None else func_name(task.func)
    if name is None or name == "<lambda>":
        return _Key("name", clean(_stem(name_of(task))))
    return _Key("function", clean(name))


def _by_name(tasks: Tasks) -> dict[_Key, list[Any]]:
    raw: dict[tuple[Any, str], list[Any]] = {}
    for task in tasks:
        name = task.name
        if type(name) is not str or len(name) > _LONGEST:
            name = name_of(task)[:_LONGEST]
        raw.setdefault((attribute(task, "group"), _stem(name)), []).append(task)
    groups: dict[_Key, list[Any]] = {}
    for (_, stem), members in raw.items():
        group = _group(members[0])
        key = _Key("name", clean(stem)) if group is None else _Key("group", group)
        groups.setdefault(key, []).extend(members)
    return groups


def _merged(
    groups: Mapping[_Key, list[Any]], coarser: Callable[[str], str]
) -> dict[_Key, list[Any]]:
    merged: dict[_Key, list[Any]] = {}
    for key, members in groups.items():
        kind, text = key
        merged.setdefault(_Key(kind, coarser(text)) if kind == "name" else key, []).extend(members)
    return merged


def _group(task: Any) -> str | None:
    group = attribute(task, "group")
    return clean(group) if isinstance(group, str) else None


_OPENING: Final = {"]": "[", ")": "("}
_SEPARATORS: Final = " _-.:#/"


def _stem(name: str) -> str:
    """Return a name without the item or the number at its end.

    >>> _stem("fit[Adelie]"), _stem("part-0001"), _stem("mAdd_ID0000102"), _stem("2026")
    ('fit', 'part', 'mAdd', '2026')
    """
    opening = _OPENING.get(name[-1:])
    if opening is not None:
        return name.partition(opening)[0].rstrip(_SEPARATORS) or name
    stem = name.rstrip("0123456789")
    if stem != name:
        stem = stem.removesuffix("ID").rstrip(_SEPARATORS)
    return stem or name


def _without_numbers(text: str) -> str:
    return _DIGITS.sub("#", text)


def _first_word(text: str) -> str:
    return next(filter(None, _NO_LETTERS.split(text)), "others")


_DIGITS = re.compile(r"\d+")
_NO_LETTERS = re.compile(r"[\W_\d]+")


def _bands(tasks: Tasks, count: int) -> dict[_Key, list[Any]]:
    """Sort tasks by how many requirements lead up to them, into bands of levels."""
    level = levels({task: task.required for task in tasks})
    deepest = max(level.values())
    groups: dict[_Key, list[Any]] = {}
    if deepest < count:  # flat: cut by position instead
        size = -(-len(tasks) // count)
        for start in range(0, len(tasks), size):
            part = tasks[start : start + size]
            groups[_Key("band", f"tasks {start + 1} to {start + len(part)}")] = list(part)
        return groups
    high = -(-(deepest + 1) // count)
    for task in tasks:
        start = level[task] // high * high
        key = _Key("band", f"levels {start + 1} to {start + high}")
        groups.setdefault(key, []).append(task)
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
