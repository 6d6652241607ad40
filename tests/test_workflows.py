"""Workflows that somebody really ran: they fail at drawn places, are mended, and finish."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path
from typing import Final

import pytest

from checks import Calls, build, check_settled, run
from graphs import Graph, victims
from taskqueue_nb import TaskQueue, make_now

HERE: Final = Path(__file__).parent / "workflows"
FURTHER: Final = os.environ.get("TASKQUEUE_NB_WORKFLOWS")
FILES: Final = [
    path
    for folder in [HERE, *([Path(FURTHER)] if FURTHER else [])]
    for path in sorted(folder.glob("*.json"))
]


def read(path: Path) -> Graph:
    """Return a workflow's graph, from either form."""
    tasks = json.loads(path.read_text(encoding="utf-8"))["tasks"]
    if isinstance(tasks, list):
        return {task["id"]: task["parents"] for task in tasks}
    graph: Graph = tasks
    return graph


workflow = pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
workers = pytest.mark.parametrize("executor", [None, 4], ids=["serial", "4 threads"])


def test_there_are_workflows() -> None:
    """Three come with the tests; each names where it is from; a folder that is named has some."""
    assert {path.stem for path in HERE.glob("*.json")} == {"forkjoin", "srasearch", "1000genome"}
    for path in HERE.glob("*.json"):
        assert "WfInstances" in json.loads(path.read_text(encoding="utf-8"))["source"]
    if FURTHER:
        assert list(Path(FURTHER).glob("*.json")), f"no workflows in {FURTHER}"


def check_called_in_order(graph: Graph, names: list[str]) -> None:
    """Check that each last call came after the last calls of all that it requires."""
    last = {name: place for place, name in enumerate(names)}
    for name, required in graph.items():
        for other in required:
            assert last[other] < last[name], f"{name} was called before {other}"


@workflow
@workers
def test_workflow_runs(path: Path, executor: int | None) -> None:
    """Each function once, in an order that respects the requirements."""
    graph, calls = read(path), Calls()
    queue = TaskQueue(*build(graph, calls).values())

    run(queue, executor=executor)

    assert queue.counts() == {"DONE": len(graph)}
    assert calls.counts == dict.fromkeys(graph, 1)
    check_called_in_order(graph, calls.names)
    check_settled(queue)


@workflow
@workers
@pytest.mark.parametrize("seed", range(5))
def test_workflow_fails_is_retried_and_finishes(
    path: Path, executor: int | None, seed: int
) -> None:
    """Each function is called once, those that failed twice; after each round one look at all."""
    graph = read(path)
    draw = random.Random(seed)
    failing = {name for name in graph if draw.random() < 0.1} or {draw.choice(list(graph))}
    calls = Calls(failing)
    queue = TaskQueue(*build(graph, calls).values())
    failed: set[str] = set()

    for _ in range(len(failing) + 1):
        run(queue, executor=executor)
        now = {task.name for task in queue if task.is_failed}
        lost = victims(graph, now)
        assert now <= failing
        assert {task.name for task in queue if task.is_pending} == lost
        assert {task.name for task in queue.causes()} == now
        check_settled(queue)
        if not now:
            break
        failed |= now
        calls.failing -= now
        assert {task.name for task in queue.retry()} == now

    assert failed == failing
    assert queue.counts() == {"DONE": len(graph)}
    assert calls.counts == {name: 1 + (name in failing) for name in graph}
    check_called_in_order(graph, calls.names)


@workflow
@pytest.mark.parametrize("seed", range(3))
def test_workflow_made_from_its_ends(path: Path, seed: int) -> None:
    """The same by `make`, which fails the victims: the retry of the causes brings them back."""
    graph = read(path)
    draw = random.Random(seed)
    failing = set(draw.sample(list(graph), max(1, len(graph) // 10)))
    calls = Calls(failing)
    tasks = build(graph, calls)
    ends = [task for task in tasks.values() if not task.blocking]

    for _ in range(len(failing) + 1):
        make_now(*ends)
        check_settled(tasks.values())
        causes = TaskQueue(*tasks.values()).causes()
        if not causes:
            break
        for cause, blocked in causes.items():
            assert all(task.is_failed or task.is_pending for task in blocked)
            assert all(task.is_failed for task in blocked if task in ends)
            calls.failing.discard(cause.name)
        for cause in causes:
            cause.retry()

    assert all(task.is_done for task in tasks.values())
    assert calls.counts == {name: 1 + (name in failing) for name in graph}
    check_called_in_order(graph, calls.names)
