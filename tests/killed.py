"""What `test_store_kill.py` kills: a run with a store, some sixty tasks of several kinds.

    python tests/killed.py FOLDER HOW

Each function notes that it was called, in one write to a file, and gives a value that the next ones
check. Each task that the run tells of is acknowledged in another file.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from taskqueue_nb import Task, TaskQueue

CHAIN, FAN = 15, 20


class Life:
    """The functions of one folder, and the graph of their tasks."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def note(self, file: str, word: str) -> None:
        """Append a line at once, whatever else is killed."""
        descriptor = os.open(self.folder / file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.write(descriptor, f"{word}\n".encode())
        os.close(descriptor)


def work(folder: str, name: str, inputs: list[tuple[str, int]]) -> tuple[str, int]:
    """Note the call, check what came in, and give a value that depends on it."""
    Life(Path(folder)).note("effects", name)
    for value in inputs:
        if value != (value[0], expected()[value[0]]):
            raise ValueError(f"{name} got {value}")
    time.sleep(0.001)
    return name, sum(number for _, number in inputs) + len(name)


def fragile(folder: str, name: str, inputs: list[tuple[str, int]]) -> tuple[str, int]:
    """Fail until the world is repaired."""
    if not (Path(folder) / "repaired").exists():
        Life(Path(folder)).note("failures", name)
        raise RuntimeError("the world is broken")
    return work(folder, name, inputs)


def graph() -> dict[str, list[str]]:
    """Return the tasks with what they require: a chain, a fan, a failure in the middle, loners."""
    made: dict[str, list[str]] = {"start": []}
    for place in range(CHAIN):
        made[f"chain {place}"] = [f"chain {place - 1}" if place else "start"]
    made["fragile"] = ["chain 3"]
    for place in range(FAN):
        made[f"fan {place}"] = ["fragile"]
    made["join"] = [f"fan {place}" for place in range(FAN)]
    for place in range(20):
        made[f"alone {place}"] = []
    made["end"] = ["join", f"chain {CHAIN - 1}"]
    return made


_EXPECTED: dict[str, int] = {}


def expected() -> dict[str, int]:
    """Return the number that each task is to give."""
    if not _EXPECTED:
        for name, required in graph().items():
            _EXPECTED[name] = sum(_EXPECTED[other] for other in required) + len(name)
    return _EXPECTED


def build(folder: Path) -> list[Task]:
    """Make the tasks, the same in each life."""
    tasks: dict[str, Task] = {}
    for name, required in graph().items():
        func = fragile if name == "fragile" else work
        inputs = [tasks[other] for other in required]
        tasks[name] = Task(name, func, func_args=(str(folder), name, inputs))
    return list(tasks.values())


def main() -> None:
    """Run to the end, repairing what fails on the way."""
    folder, how = Path(sys.argv[1]), sys.argv[2]
    life = Life(folder)
    queue = TaskQueue(*build(folder), store=folder / "run.tq")
    if queue.store is None or queue.store.read_only:
        raise SystemExit("the store is held by a dead process")
    queue.retry()
    while queue.counts() != {"DONE": len(queue)}:
        if how == "start":
            queue.start(executor=2).wait()
            for task in queue:
                if task.is_done:
                    life.note("acknowledged", task.name)
        else:
            for task in queue.run(executor=3 if how == "threads" else None):
                if task.is_done:
                    life.note("acknowledged", task.name)
        if queue.counts().get("FAILED"):
            (folder / "repaired").touch()
            queue.retry()
    for task in queue:
        if task.value != (task.name, expected()[task.name]):
            raise SystemExit(f"{task.name} has {task.value}")
    queue.store.close()


if __name__ == "__main__":
    main()
