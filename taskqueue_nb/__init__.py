"""Task graphs that you can watch, break, repair and finish inside a notebook."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from taskqueue_nb.executors import TravelError, WorkerError
from taskqueue_nb.faults import InjectedError
from taskqueue_nb.fsm import FSM, CancellationError, FSMError, FSMTransitionEvent
from taskqueue_nb.graph import CycleError
from taskqueue_nb.making import make, make_later, make_now
from taskqueue_nb.repair import Plan, PlanError
from taskqueue_nb.result import Result
from taskqueue_nb.runstate import RunState
from taskqueue_nb.task import Attempt, BaseTask, BlockedError, Task, TaskError, task
from taskqueue_nb.taskqueue import TaskQueue

if TYPE_CHECKING:
    from taskqueue_nb.store import EarlierError, StoreError, StoreWarning
    from taskqueue_nb.widget import TaskGraph
    from taskqueue_nb.widget.machine import TaskMachine

__version__ = "0.1.0"

__all__ = [
    "FSM",
    "Attempt",
    "BaseTask",
    "BlockedError",
    "CancellationError",
    "CycleError",
    "EarlierError",
    "FSMError",
    "FSMTransitionEvent",
    "InjectedError",
    "Plan",
    "PlanError",
    "Result",
    "RunState",
    "StoreError",
    "StoreWarning",
    "Task",
    "TaskError",
    "TaskGraph",
    "TaskMachine",
    "TaskQueue",
    "TravelError",
    "WorkerError",
    "make",
    "make_later",
    "make_now",
    "task",
]


def __getattr__(name: str) -> Any:
    """Import late what brings much along: the widget ipywidgets and anywidget, a store sqlite3."""
    if name == "TaskGraph":
        from taskqueue_nb.widget import TaskGraph  # noqa: PLC0415 - the reason stands above

        return TaskGraph
    if name == "TaskMachine":
        from taskqueue_nb.widget.machine import TaskMachine  # noqa: PLC0415 - likewise

        return TaskMachine
    if name in ("EarlierError", "StoreError", "StoreWarning"):
        from taskqueue_nb import store  # noqa: PLC0415 - likewise

        return getattr(store, name)
    message = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(message)
