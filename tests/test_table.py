"""The table of a view: sorted by any column, filtered, a page at a time."""

from __future__ import annotations

from typing import Any

import pytest

from taskqueue_nb import Task, TaskQueue
from taskqueue_nb.widget.table import COLUMNS, PAGE, Order, table


def fails() -> None:
    """Fail."""
    raise LookupError("no such thing")


@pytest.fixture
def queue() -> TaskQueue:
    """Return three tasks that ran, one of which failed, and one that waits for it."""
    first, bad, last = Task("Beta", list), Task("alpha", fails), Task("gamma", str)
    after = Task("delta", str, func_args=(bad,))
    queue = TaskQueue(first, bad, last, after)
    for _ in queue.run():
        pass
    return queue


def shown(queue: TaskQueue, **order: Any) -> dict[str, Any]:
    """Return a page of its table."""
    return table(queue.tasks, {task: i for i, task in enumerate(queue)}, Order(**order))


def names(queue: TaskQueue, **order: Any) -> list[str]:
    """Return the names in the order of the rows."""
    return [row[1] for row in shown(queue, **order)["rows"]]


@pytest.mark.parametrize(
    ("column", "up", "down"),
    [
        ("order", ["Beta", "alpha", "gamma", "delta"], ["delta", "gamma", "alpha", "Beta"]),
        ("name", ["alpha", "Beta", "delta", "gamma"], ["gamma", "delta", "Beta", "alpha"]),
        ("state", ["alpha", "delta", "Beta", "gamma"], ["Beta", "gamma", "delta", "alpha"]),
        ("attempts", ["delta", "Beta", "alpha", "gamma"], ["Beta", "alpha", "gamma", "delta"]),
        ("started", ["Beta", "alpha", "gamma", "delta"], ["gamma", "alpha", "Beta", "delta"]),
        ("error", ["alpha", "Beta", "gamma", "delta"], ["alpha", "Beta", "gamma", "delta"]),
        ("required", ["Beta", "alpha", "gamma", "delta"], ["delta", "Beta", "alpha", "gamma"]),
    ],
)
def test_equal_ones_keep_their_order_and_what_has_no_value_is_last(
    queue: TaskQueue, column: str, up: list[str], down: list[str]
) -> None:
    """Either way; the most urgent states come first."""
    assert names(queue, column=column) == up
    assert names(queue, column=column, down=True) == down


def test_every_column_has_its_place_in_a_row(queue: TaskQueue) -> None:
    """What is sorted by is what is shown."""
    (row,) = shown(queue, text="alpha")["rows"]
    assert len(row) == len(COLUMNS)
    at, name, letter, attempts, started, took, error, required = row
    assert (at, name, letter, attempts, error, required) == ("1", "alpha", "f", 1, "LookupError", 0)
    assert started > 0
    assert took >= 0


def test_only_some_states_or_names(queue: TaskQueue) -> None:
    """Both together, too."""
    assert names(queue, states="f") == ["alpha"]
    assert names(queue, states="fd", text="a") == ["Beta", "alpha", "gamma"]
    assert names(queue, text="zzz") == []


def test_a_page_at_a_time() -> None:
    """A page beyond the end is the last one; what is named like markup is text."""
    queue = TaskQueue(*(Task(f"<b>{i}</b>", list) for i in range(120)))
    first, last, beyond = (shown(queue, start=start) for start in (0, 100, 5000))

    assert [len(page["rows"]) for page in (first, last, beyond)] == [PAGE, 20, 20]
    assert (first["total"], beyond["start"]) == (120, 100)
    assert first["rows"][0][1] == "<b>0</b>"
    assert shown(TaskQueue())["rows"] == []
