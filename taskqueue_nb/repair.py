"""What mending does: retry, repair, supply, invalidate, cancel.

Each verb looks at the whole first and refuses before anything has changed; then all its steps are
made under one lock, and the callbacks hear of them afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from taskqueue_nb.fsm import shorten
from taskqueue_nb.graph import closure
from taskqueue_nb.task import GRAPH_LOCK, Task, TaskError, check_call


def victims(tasks: Iterable[Task]) -> list[Task]:
    """Return some tasks, and every dependent that failed or was cancelled because of them."""

    def fallen(task: Task) -> list[Task]:
        return [dependent for dependent in task._blocking if task in fell_with(dependent)]

    return closure(tasks, fallen)


def retry(*tasks: Task) -> tuple[Task, ...]:
    """Make failed or cancelled tasks pending again, with the dependents that fell with them.

    Returns
    -------
    tuple of Task
        All that are pending again, causes first.

    Raises
    ------
    FSMError
        If one of them is neither failed nor cancelled; then nothing has changed.
    """
    with GRAPH_LOCK:
        for task in tasks:
            task._fsm_target("retry")
        moved = victims(tasks)
        for task in moved:
            task._fsm_move("retry")
    return _told(moved)


def repair(
    task: Task,
    func: Callable[..., Any] | None = None,
    args: Sequence[Any] | None = None,
    kwargs: Mapping[str, Any] | None = None,
) -> tuple[Task, ...]:
    """Give a task new code or arguments, and retry it if it failed or was cancelled.

    Parameters
    ----------
    task : Task
        A running one goes on as it is; the change is for its next attempt.
    func, args, kwargs
        What to replace; None leaves as it is.

    Returns
    -------
    tuple of Task
        All that are pending again.

    Raises
    ------
    TypeError
        If the arguments do not fit the function.
    CycleError
        If a task among the arguments requires this one.
    FSMError
        If the task is DONE (invalidate it first) or ABORT. In each case nothing has changed.
    """
    if func is not None and not callable(func):
        message = f"a task's function must be callable, not {shorten(func)}"
        raise TypeError(message)
    if args is not None and (isinstance(args, str) or not isinstance(args, Sequence)):
        message = f"args is a sequence of arguments, not {shorten(args)}"
        raise TypeError(message)
    if kwargs is not None and not (
        isinstance(kwargs, Mapping) and all(isinstance(k, str) for k in kwargs)
    ):
        message = f"kwargs is a mapping from names to arguments, not {shorten(kwargs)}"
        raise TypeError(message)
    with GRAPH_LOCK:
        state = task.fsm_state
        if state in ("DONE", "ABORT"):
            task._fsm_target("retry")
        new_func = task.func if func is None else func
        new_args = task._args if args is None else tuple(args)
        new_kwargs = (task._kwargs or {}) if kwargs is None else dict(kwargs)
        if new_func is not None:
            check_call(new_func, new_args, new_kwargs)
        if args is not None or kwargs is not None:
            task._set_arguments(new_args, new_kwargs)
        task.func = new_func
        moved = victims([task]) if state in ("FAILED", "CANCELLED") else []
        for member in moved:
            member._fsm_move("retry")
        for queue in task._told_queues():
            queue._is_changed()
    return _told(moved)


def supply(task: Task, value: Any) -> tuple[Task, ...]:
    """Use a value as a task's result.

    Returns
    -------
    tuple of Task
        The task, and the dependents that fell because of it and are pending again.

    Raises
    ------
    FSMError
        If it runs or is completed well; then nothing has changed.
    """
    with GRAPH_LOCK:
        task._fsm_target("supply")
        _, *fallen = moved = victims([task])
        task._value = value
        task._fsm_move("supply")
        for dependent in fallen:
            dependent._fsm_move("retry")
    return _told(moved)


def invalidate(*tasks: Task) -> tuple[Task, ...]:
    """Have DONE tasks, and every DONE dependent of theirs, run again.

    A dependent that runs meanwhile finishes, and is then invalidated in its turn.

    Returns
    -------
    tuple of Task
        All that are pending again.

    Raises
    ------
    FSMError
        If one of them is not DONE; then nothing has changed.
    """
    with GRAPH_LOCK:
        for task in tasks:
            task._fsm_target("invalidate")
        moved = closure(tasks, lambda t: [d for d in t._blocking if d.fsm_state == "DONE"])
        for task in reversed(moved):
            task._fsm_move("invalidate")
            for dependent in task._blocking:
                if dependent.fsm_state == "RUNNING" and dependent._attempt is not None:
                    dependent._attempt.outdated = True
    return _told(moved)


def cancel(*tasks: Task) -> tuple[Task, ...]:
    """Give tasks up: at once where they have not started, else by asking them to stop.

    A worker process does not have to be asked: it is ended.

    Returns
    -------
    tuple of Task
        The tasks, each once.

    Raises
    ------
    FSMError
        If one of them is completed; then nothing has changed.
    """
    chosen = tuple(dict.fromkeys(tasks))
    kills: list[Callable[[], object]] = []
    with GRAPH_LOCK:
        for task in chosen:
            task._fsm_target("cancel")
        for task in chosen:
            if task.fsm_state == "RUNNING" and task._attempt is not None:
                task._attempt.runstate.cancel()
                if task._attempt.kill is not None:
                    kills.append(task._attempt.kill)
                for queue in task._told_queues():
                    queue._is_changed()
            else:
                task._fsm_move("cancel")
    for kill in kills:
        kill()
    return _told(chosen)


def _told(moved: Sequence[Task]) -> tuple[Task, ...]:
    """Tell the callbacks and whoever waits, now that the lock is free."""
    for task in moved:
        task._fsm_after()
    return tuple(moved)


def fell_with(task: Task) -> tuple[Task, ...]:
    """Return the prerequisites on whose account a task failed or was cancelled; () if by itself."""
    if task.fsm_state not in ("FAILED", "CANCELLED") or not task._log:
        return ()
    extra = task._log[-1] or {}
    return (*extra.get("failed", ()), *extra.get("cancelled", ()))


def has_failed(task: Task) -> bool:
    """Say whether a task failed, or was cut off by an interrupt that nobody meant for it."""
    if task.fsm_state != "CANCELLED" or not task._log:
        return task.fsm_state == "FAILED"
    return (task._log[-1] or {}).get("because") == "interrupted"


def check_tasks(tasks: Iterable[Any]) -> None:
    """Refuse what is no task.

    Raises
    ------
    TypeError
        If something is no task.
    """
    for task in tasks:
        if not isinstance(task, Task):
            message = f"a task is wanted, not {shorten(task)}"
            raise TypeError(message)


def check_member(tasks: Iterable[Any], members: Mapping[Task, Any]) -> None:
    """Refuse what is no task, or none of a queue.

    Raises
    ------
    TypeError
        If something is no task.
    TaskError
        If a task is not in the queue.
    """
    check_tasks(tasks)
    for task in tasks:
        if task not in members:
            message = f"task {shorten(task.name)} is not in this queue"
            raise TaskError(message, task)
