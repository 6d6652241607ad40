"""`make`: complete tasks and all that they require, wherever those stand."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from queue import SimpleQueue
from typing import Any

from taskqueue_nb.fsm import FSMError, TransitionError, shorten
from taskqueue_nb.leading import CaughtUp
from taskqueue_nb.runstate import CURRENT
from taskqueue_nb.stepping import stepped_of
from taskqueue_nb.task import ACTIVE, GRAPH_LOCK, SETTLED, BlockedError, Task, TaskError

Submit = Callable[[Callable[[], Any]], object]


def make(*tasks: Task, fail_fast: bool = False, queue: Submit | None = None) -> Iterator[Task]:
    """Complete tasks, making first what they require, and yield each as it completes.

    Parameters
    ----------
    *tasks : Task
        What to complete.
    fail_fast : bool
        Whether to cease as soon as a task completes in a state that is not DONE.
    queue : callable, optional
        Takes a function of no arguments and has it called sooner or later, as `Later.defer` and
        Celery do; by default every task runs in the caller's thread.

    Yields
    ------
    Task
        Each of `tasks`, when it is completed or cancelled.

    Raises
    ------
    FSMError
        If a task is still being prepared, or is asked for by its own function.

    Notes
    -----
    - A task that is being prepared raises `FSMError`.
    - One that is running or queued elsewhere is waited for; meanwhile others are made.
    - A pending one is FAILED if a prerequisite failed, CANCELLED if one was cancelled, waits for
      those that are pending or under way, is FAILED if one is not done and cannot become so, and
      is dispatched otherwise.

    Examples
    --------
    >>> t1 = Task("t1", lambda: print("doing t1"), track=True)
    >>> t2 = t1.then("t2", lambda: print("doing t2"), track=True)
    >>> list(make(t2))    # doctest: +ELLIPSIS
    t1 PENDING->dispatch->RUNNING
    doing t1
    t1 RUNNING->done->DONE
    t2 PENDING->dispatch->RUNNING
    doing t2
    t2 RUNNING->done->DONE
    [Task('t2',<function <lambda> at ...>,state='DONE')]
    """
    for task in tasks:
        if not isinstance(task, Task):
            message = f"only tasks can be made, not {shorten(task)}"
            raise TypeError(message)
    return _make(tasks, fail_fast=fail_fast, queue=queue)


def _make(tasks: tuple[Task, ...], *, fail_fast: bool, queue: Submit | None) -> Iterator[Task]:
    due = deque(tasks)  # from the left: what to look at next
    wanted = dict.fromkeys(tasks)
    waiting: dict[Task, list[Task]] = {}  # under way elsewhere -> what is to be looked at then
    settled: SimpleQueue[Task] = SimpleQueue()
    while due or waiting:
        if not due:
            due.extend(waiting.pop(settled.get(), ()))
            continue
        task = due.popleft()
        verdict = _look_at(task)
        if isinstance(verdict, Task):  # under way
            stepped = stepped_of(verdict)
            if stepped is not None and stepped.finish():
                due.appendleft(task)
                continue
            if verdict not in waiting:
                waiting[verdict] = []
                verdict.notify(settled.put, verdict)
            waiting[verdict].append(task)
        elif verdict:  # to be made first
            due.appendleft(task)
            due.extendleft(reversed(verdict))
        elif task.fsm_state == "PENDING":
            _dispatch(task, queue)
            due.appendleft(task)
        else:
            if task in wanted:
                del wanted[task]
                yield task
            if fail_fast and task.fsm_state != "DONE":
                return


def _look_at(task: Task) -> Task | list[Task] | None:
    """Apply the rules: what is to be waited for, what is to be made first, or neither."""
    with GRAPH_LOCK:
        state = task.fsm_state
        if state == "PREPARE":
            message = f"task {shorten(task.name)} is being prepared, and cannot be made yet"
            raise FSMError(message, task)
        if state in ACTIVE:
            return None if _asked_to_stop(task) else _under_way(task)
        if state in SETTLED or not task._missing:
            return None
        undone = [r for r in task._required if r.fsm_state != "DONE"]
        failed = [r for r in undone if r.fsm_state in ("FAILED", "ABORT")]
        cancelled = [r for r in undone if r.fsm_state == "CANCELLED" or _asked_to_stop(r)]
        pending = [r for r in undone if r.fsm_state == "PENDING"]
        if failed:
            _fail(task, "failed prerequisites", failed=failed)
        elif cancelled:
            extra = {"because": "cancelled prerequisites", "cancelled": cancelled}
            task._fsm_move("cancel", extra)
        elif pending:
            return pending
        elif under_way := [r for r in undone if r.fsm_state in ACTIVE]:
            return _under_way(under_way[0])
        else:
            _fail(task, "some prerequisites are not done", failed=undone)
    task._fsm_after()
    return None


def _asked_to_stop(task: Task) -> bool:
    attempt = task._attempt
    return task.fsm_state == "RUNNING" and attempt is not None and attempt.asked_to_stop


def _under_way(task: Task) -> Task:
    attempt = CURRENT.get()
    if attempt is not None and attempt.task is task:
        message = f"task {shorten(task.name)} cannot wait for itself"
        raise TaskError(message, task)
    return task


def _fail(task: Task, because: str, *, failed: list[Task]) -> None:
    cause = failed[0]
    message = f"task {shorten(task.name)} is blocked by {shorten(cause.name)}, {cause.fsm_state}"
    error = BlockedError(message, task, cause)
    error.__cause__ = cause.exception
    task._error = error
    task._fsm_move("error", {"because": because, "failed": failed})


def _dispatch(task: Task, queue: Submit | None) -> None:
    """Start a task here or by way of `queue`, unless somebody else was faster."""
    if queue is None:
        with suppress(TransitionError, BlockedError):  # somebody was faster: look again
            task._run_now()
        return
    with CaughtUp((task,)), GRAPH_LOCK:
        if task.fsm_state != "PENDING" or task._missing:
            return
        task._fsm_move("queue")
    task._fsm_after()
    try:
        queue(task._run_queued)
    except Exception as error:  # noqa: BLE001 - whatever refuses it fails it
        with GRAPH_LOCK:
            if task.fsm_state == "QUEUED":
                task._error = error
                task._fsm_move("error", {"because": "it could not be queued"})
        task._fsm_after()


def make_now(*tasks: Task, fail_fast: bool = False, queue: Submit | None = None) -> list[Task]:
    """Run `make` to its end and return the list of completed tasks."""
    return list(make(*tasks, fail_fast=fail_fast, queue=queue))


def make_later(later: Any, *tasks: Task, fail_fast: bool = False) -> None:
    """Have tasks made by something that runs functions, and return at once.

    Parameters
    ----------
    later : object with `defer` or `submit`
        Has a function called sooner or later.
    *tasks : Task
        What to complete. Wait for them with `task.result()`.
    fail_fast : bool
        As for `make`.

    Raises
    ------
    TypeError
        If `later` has neither `defer` nor `submit`.
    """
    submit = getattr(later, "defer", None) or getattr(later, "submit", None)
    if not callable(submit):
        message = f"make_later needs an object with defer() or submit(), not {shorten(later)}"
        raise TypeError(message)
    threading.Thread(
        target=make_now,
        name=f"make {', '.join(task.name for task in tasks)}"[:80],
        args=tasks,
        kwargs={"fail_fast": fail_fast, "queue": submit},
        daemon=True,
    ).start()
