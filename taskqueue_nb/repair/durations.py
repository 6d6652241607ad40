"""How long tasks are expected to take: from their own last answer, or that of others alike."""

from __future__ import annotations

from time import time
from typing import TYPE_CHECKING, Any

from taskqueue_nb.task import ACTIVE, GRAPH_LOCK

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from taskqueue_nb.task import Task


def last_duration(task: Task) -> float | None:
    """Return how long the last attempt took that came to an end, if possible to a good one."""
    found = None
    attempt = task._attempt
    while attempt is not None:
        started, ended, outcome = attempt.started, attempt.ended, attempt.outcome
        is_usual = attempt.fault is None and outcome != "CANCELLED"
        if is_usual and started is not None and ended is not None:
            if outcome == "DONE":
                return ended - started
            found = found or ended - started
        attempt = attempt._previous
    return found


def expected(tasks: Iterable[Task], among: Iterable[Task]) -> dict[Task, float]:
    """Return how long each task is expected to take, in seconds, where that is known.

    Parameters
    ----------
    tasks : iterable of Task
        What is to run.
    among : iterable of Task
        Where to look for tasks with the same function: the mean of their last answers stands for
        a task that has not run yet.
    """
    own: dict[Task, float] = {}
    by_function: dict[Any, list[float]] = {}
    for task in among:
        seconds = last_duration(task)
        if seconds is not None:
            own[task] = seconds
            by_function.setdefault(id(task.func), []).append(seconds)
    means = {function: sum(alike) / len(alike) for function, alike in by_function.items()}
    found = {}
    for task in tasks:
        seconds = own.get(task, means.get(id(task.func)))
        if seconds is not None:
            found[task] = seconds
    return found


def elapsed(tasks: Iterable[Task], known: Mapping[Task, float], workers: int) -> float:
    """Return how long tasks take together, in seconds: shared out, but no less than a chain.

    Parameters
    ----------
    tasks : iterable of Task
        In an order in which they could run.
    known : mapping
        How long each takes; one that is missing takes no time.
    workers : int
        Among how many they are shared out.
    """
    longest: dict[Task, float] = {}
    for task in tasks:
        before = max((longest.get(other, 0.0) for other in task._required), default=0.0)
        longest[task] = before + known.get(task, 0.0)
    return max(sum(known.values()) / workers, max(longest.values(), default=0.0))


def seconds_left(queue: Any) -> float | None:
    """Return how long the run that is under way will take still, in seconds.

    It follows from earlier answers of the same tasks, or of tasks with the same function, from what
    has run for how long, and from how many run at once. A task of which nothing is known counts as
    long as the mean of the others; None if nothing is known of any.

    Parameters
    ----------
    queue : TaskQueue
        Whose tasks.

    Examples
    --------
    >>> from taskqueue_nb import Task, TaskQueue
    >>> queue = TaskQueue(*(Task(f"load {number}", list) for number in range(3)))
    >>> seconds_left(queue) is None
    True
    >>> _ = [*queue.run()], queue.invalidate(*queue)
    >>> 0 < seconds_left(queue) < 1
    True
    """
    from taskqueue_nb.repair.changes import Change  # noqa: PLC0415 - plans builds on this module
    from taskqueue_nb.repair.plans import foresee  # noqa: PLC0415 - likewise

    with GRAPH_LOCK:
        now = time()
        ahead = foresee(Change("run"), queue)
        active = [task for task in queue._tasks if task.fsm_state in ACTIVE]
    rest = [*active, *ahead]
    known = expected(rest, queue.tasks)
    if not known:
        return None if rest else 0.0
    mean = sum(known.values()) / len(known)
    for task in rest:
        known.setdefault(task, mean)
    for task in active:
        started = None if task._attempt is None else task._attempt.started
        if task.fsm_state == "RUNNING" and started is not None:
            known[task] = max(0.0, known[task] - (now - started))
    return elapsed(rest, known, max(1, len(active)))
