"""Circles are refused, and nothing else is, in whatever order requirements are added."""

from __future__ import annotations

from contextlib import suppress
from importlib import import_module
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskqueue_nb import CycleError, Task
from taskqueue_nb.graph import closure

TASK_MODULE = import_module("taskqueue_nb.task")  # the package's `task` is the decorator
EDGES = st.lists(st.tuples(st.integers(0, 14), st.integers(0, 14)), max_size=60)


@pytest.mark.parametrize("limit", [1, 3, 256])
@given(edges=EDGES)
def test_exactly_the_circles_are_refused(limit: int, edges: list[tuple[int, int]]) -> None:
    """A requirement is refused if and only if its prerequisite stands behind the task already."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TASK_MODULE, "_LEVEL_SEARCH", limit)
        tasks = [Task(str(number), list) for number in range(15)]

        for later, earlier in edges:
            task, prerequisite = tasks[later], tasks[earlier]
            is_circle = task in closure([prerequisite], lambda t: t.required)
            before = [(t.required, t.blocking, t.isblocked()) for t in tasks]

            if is_circle:
                with pytest.raises(CycleError) as caught:
                    task.require(prerequisite)
                assert before == [(t.required, t.blocking, t.isblocked()) for t in tasks]
                check_path(caught.value.path, task, prerequisite, tasks)
            else:
                task.require(prerequisite)

        check_order(tasks)


def check_path(path: tuple[str, ...], task: Task, prerequisite: Task, tasks: list[Task]) -> None:
    """Check that a path leads by the new prerequisite along requirements back to the task."""
    assert path[0] == path[-1] == task.name
    assert path[1] == prerequisite.name
    by_name = {one.name: one for one in tasks}
    for name, following in pairwise(path[1:]):
        assert by_name[following] in by_name[name].required


def check_order(tasks: list[Task]) -> None:
    """Check that every prerequisite comes before its dependents."""
    for task in tasks:
        for prerequisite in task.required:
            assert (prerequisite._level, prerequisite._rank) < (task._level, task._rank)


def test_any_order_of_building_is_quick() -> None:
    """Requirements in random order among tasks made in random order look at few tasks each."""
    looked_at = 0
    size, width = 3_000, 50

    class Counted(Task):
        """A task that counts how often its requirements are looked at."""

        @property
        def _level(self) -> int:
            nonlocal looked_at
            looked_at += 1
            return self.__dict__["level"]  # type: ignore[no-any-return]  # set below

        @_level.setter
        def _level(self, level: int) -> None:
            self.__dict__["level"] = level

    place = {(number * 1_237) % size: Counted(str(number), list) for number in range(size)}
    edges = [(i, i - width + shift) for i in range(width, size) for shift in (0, 7)]
    edges = [(later, earlier) for later, earlier in edges if earlier // width < later // width]

    for step in range(len(edges)):
        later, earlier = edges[(step * 7_919) % len(edges)]
        with suppress(CycleError):
            place[later].require(place[earlier])

    assert looked_at < 200 * len(edges)
