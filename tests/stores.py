"""Helpers for the tests of stores."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from taskqueue_nb import StoreWarning, Task, TaskQueue
from taskqueue_nb.store import Store

ROOT = Path(__file__).parent.parent


def store_of(queue: TaskQueue) -> Store:
    """Return the store of a queue that has one."""
    assert queue.store is not None
    return queue.store


@contextmanager
def kernel(*tasks: Task, store: Any, **options: Any) -> Iterator[TaskQueue]:
    """Have a queue with a store, as one kernel after another has; it ends with the block."""
    queue = TaskQueue(*tasks, store=store, **options)
    try:
        yield queue
    finally:
        store_of(queue).close()


def run_all(queue: TaskQueue) -> list[str]:
    """Run to the end; return the names of what ran."""
    return [task.name for task in queue.run()]


def killed(path: Path, to: Path) -> Path:
    """Copy the files as they are now: what a kernel leaves behind that is killed now."""
    to.parent.mkdir(exist_ok=True, mode=0o700)
    for suffix in ("", "-wal"):
        source = path.with_name(path.name + suffix)
        if source.exists():
            shutil.copy(source, to.with_name(to.name + suffix))
    return to


def query(path: Path, statement: str) -> list[Any]:
    """Ask the database itself, over a connection of our own."""
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
        return connection.execute(statement).fetchall()


def change(path: Path, *statements: str) -> None:
    """Change the database behind the store's back."""
    with closing(sqlite3.connect(path)) as connection, connection:
        for statement in statements:
            connection.execute(statement)


@contextmanager
def said() -> Iterator[list[str]]:
    """Collect what is warned of, in any thread."""
    messages: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield messages
        messages += [str(w.message) for w in caught if issubclass(w.category, StoreWarning)]


def script(*command: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run Python in a process of its own, with the package at hand."""
    return subprocess.run(
        [sys.executable, *command],
        env=environment(),
        text=True,
        capture_output=True,
        check=False,
        timeout=120,
        **options,
    )


def environment() -> dict[str, str]:
    """Return the environment in which a child finds the package and the helpers."""
    return {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}


def started(*command: str) -> subprocess.Popen[str]:
    """Start Python in a process of its own, and talk to it over its pipes."""
    return subprocess.Popen(
        [sys.executable, *command],
        env=environment(),
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )


def names(tasks: Sequence[Task]) -> list[str]:
    """Return the names of tasks."""
    return [task.name for task in tasks]
