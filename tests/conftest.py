"""Fixtures that every test may use."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any, Protocol

import pytest

pytest.register_assert_rewrite("checks")

from checks import LIMIT, Calls, build, check_settled  # noqa: E402 - after the rewrite is asked for
from graphs import Graph  # noqa: E402 - likewise
from taskqueue_nb import TaskQueue  # noqa: E402 - likewise


class MakeQueue(Protocol):
    """How the `queue` fixture is called."""

    def __call__(self, graph: Graph, own: Calls | None = None, **options: Any) -> TaskQueue: ...


@pytest.fixture
def calls() -> Calls:
    """Return functions that note that they were called."""
    return Calls()


@pytest.fixture
def queue(calls: Calls) -> Iterator[MakeQueue]:
    """Build queues from graphs; check what is always true of their tasks when the test ends."""
    made: list[TaskQueue] = []

    def make(graph: Graph, own: Calls | None = None, **options: Any) -> TaskQueue:
        made.append(TaskQueue(*build(graph, own or calls).values(), **options))
        return made[-1]

    yield make
    for each in made:
        assert each.wait(LIMIT), "a run does not end"
        check_settled(each)


@pytest.fixture
def no_threads_left() -> Iterator[None]:
    """Check that every thread that the test brought has ended."""
    before = set(threading.enumerate())
    yield
    for thread in set(threading.enumerate()) - before:
        thread.join(LIMIT)
        assert not thread.is_alive(), f"{thread.name} is left over"
