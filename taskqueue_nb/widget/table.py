"""The tasks of a queue as a table: what the picture shows, for those who would rather read it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from taskqueue_nb.drawing import error_name, look_of
from taskqueue_nb.palette import URGENCY
from taskqueue_nb.widget.finding import found
from taskqueue_nb.widget.words import called

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from taskqueue_nb.task import Task

__all__ = ["COLUMNS", "PAGE", "Order", "table"]

PAGE: Final = 50
"""Rows that are sent at once."""

_URGENT: Final = {state: number for number, state in enumerate(URGENCY)}


class Order(NamedTuple):
    """Which rows are wanted.

    Attributes
    ----------
    column : str
        One of `COLUMNS`: what they are sorted by.
    down : bool
        Whether the largest comes first.
    start : int
        The number of the first row that is seen.
    text : str
        What their names hold; "" for all.
    states : str
        The letters of the states in which they are; "" for all.
    """

    column: str = "order"
    down: bool = False
    start: int = 0
    text: str = ""
    states: str = ""


def table(tasks: Sequence[Task], places: Mapping[Task, int], order: Order) -> dict[str, Any]:
    """Return a page of the table.

    Parameters
    ----------
    tasks : sequence of Task
        In the order of their queue.
    places : mapping of Task to int
        The place of each in its queue.
    order : Order
        Which rows, and how they are sorted: equal ones stay in the order of the queue, and what
        has no value, such as the time of a task that never ran, stands last either way.

    Returns
    -------
    dict
        The `Table` of `static/types.d.ts`.
    """
    chosen = _chosen(tasks, places, order)
    value = COLUMNS[order.column]
    keyed = [(value(task, places), task) for task in chosen]
    with_value = [pair for pair in keyed if pair[0] is not None]
    without = [task for key, task in keyed if key is None]
    with_value.sort(key=lambda pair: pair[0], reverse=order.down)  # equal ones are not turned round
    rows = [task for _, task in with_value] + without
    start = min(order.start, max(0, len(rows) - 1) // PAGE * PAGE)
    return {
        "column": order.column,
        "down": order.down,
        "start": start,
        "total": len(rows),
        "text": order.text,
        "rows": [_row(task, places) for task in rows[start : start + PAGE]],
    }


def _chosen(tasks: Sequence[Task], places: Mapping[Task, int], order: Order) -> Sequence[Task]:
    """Return the tasks in the wanted states that have the wanted name."""
    chosen: Sequence[Task] = tasks
    if order.states:
        chosen = [task for task in tasks if look_of(task).letter in order.states]
    if order.text:
        names = [called(task, places) for task in chosen]
        hits = found(order.text, names, limit=len(names))
        chosen = [chosen[place] for place in sorted(hits.places)]
    return chosen


def _started(task: Task) -> float | None:
    attempts = task.attempts
    return attempts[-1].started if attempts else None


def _took(task: Task) -> float | None:
    attempts = task.attempts
    last = attempts[-1] if attempts else None
    if last is None or last.started is None or last.ended is None:
        return None
    return max(0.0, last.ended - last.started)


def _error(task: Task) -> str | None:
    error = task.exception if task.fsm_state == "FAILED" else None
    return None if error is None else error_name(error)


#: What a table can be sorted by, and the value of each task: None if it has none.
COLUMNS: Final[Mapping[str, Callable[[Task, Mapping[Task, int]], Any]]] = {
    "order": lambda task, places: places[task],
    "name": lambda task, places: called(task, places).casefold(),
    "state": lambda task, _: _URGENT.get(task.fsm_state, len(_URGENT)),
    "attempts": lambda task, _: len(task.attempts),
    "started": lambda task, _: _started(task),
    "took": lambda task, _: _took(task),
    "error": lambda task, _: _error(task),
    "required": lambda task, _: len(task.required),
}


def _row(task: Task, places: Mapping[Task, int]) -> list[Any]:
    return [
        str(places[task]),
        called(task, places),
        look_of(task).letter,
        len(task.attempts),
        _started(task),
        _took(task),
        _error(task) or "",
        len(task.required),
    ]
