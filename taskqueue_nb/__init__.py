"""Task graphs that you can watch, break, repair and finish inside a notebook."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from taskqueue_nb.fsm import FSM, CancellationError, FSMError, FSMTransitionEvent
from taskqueue_nb.graph import CycleError
from taskqueue_nb.making import make, make_later, make_now
from taskqueue_nb.repair import Plan, PlanError
from taskqueue_nb.result import Result
from taskqueue_nb.runstate import RunState
from taskqueue_nb.task import Attempt, BaseTask, BlockedError, Task, TaskError, task
from taskqueue_nb.taskqueue import TaskQueue

if TYPE_CHECKING:
    from taskqueue_nb.widget import TaskGraph

__version__ = "0.1.0"

__all__ = [
    "FSM",
    "Attempt",
    "BaseTask",
    "BlockedError",
    "CancellationError",
    "CycleError",
    "FSMError",
    "FSMTransitionEvent",
    "Plan",
    "PlanError",
    "Result",
    "RunState",
    "Task",
    "TaskError",
    "TaskGraph",
    "TaskQueue",
    "make",
    "make_later",
    "make_now",
    "task",
]


def __getattr__(name: str) -> Any:
    """Import the widget only when it is asked for: it brings ipywidgets and anywidget along."""
    if name == "TaskGraph":
        from taskqueue_nb.widget import TaskGraph  # noqa: PLC0415 - the reason stands above

        return TaskGraph
    message = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(message)
