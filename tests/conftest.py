"""Fixtures that every test may use."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest
from hypothesis import HealthCheck, settings

pytest.register_assert_rewrite("checks")

from checks import LIMIT, Calls, build, check_settled  # noqa: E402 - after the rewrite is asked for
from graphs import Graph  # noqa: E402 - likewise
from taskqueue_nb import TaskQueue  # noqa: E402 - likewise

# On a loaded machine a slow example is no fault; in CI the same examples are drawn each time.
settings.register_profile("here", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("here"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "here")

BROWSER_TESTS = Path(__file__).parent / "browser"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what drives a browser, so that `make check` can leave it out, and run it last."""
    for item in items:
        if BROWSER_TESTS in item.path.parents:
            item.add_marker("browser")
    items.sort(key=lambda item: BROWSER_TESTS in item.path.parents)


class MakeQueue(Protocol):
    """How the `queue` fixture is called."""

    def __call__(self, graph: Graph, own: Calls | None = None, **options: Any) -> TaskQueue:
        """Build the graph's tasks, with `own` functions or those of `calls`, and queue them."""


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


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    """Give the client of a Dask cluster of two worker processes, on this machine alone."""
    from distributed import Client, LocalCluster

    with (
        LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            dashboard_address=":0",
            memory_limit=0,
            silence_logs=logging.CRITICAL,  # it logs each failure, and failures are what is tested
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


@pytest.fixture
def no_threads_left() -> Iterator[None]:
    """Check that every thread that the test brought has ended."""
    before = set(threading.enumerate())
    yield
    for thread in set(threading.enumerate()) - before:
        thread.join(LIMIT)
        assert not thread.is_alive(), f"{thread.name} is left over"
