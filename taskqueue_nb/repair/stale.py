"""What is out of date: tasks whose code, arguments or prerequisites are not what they ran with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from taskqueue_nb.fingerprint import fingerprint_of, is_unknown
from taskqueue_nb.fsm import shorten
from taskqueue_nb.repair.changes import FELL
from taskqueue_nb.task import Task, defined_now

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from taskqueue_nb.fingerprint import Fingerprint


def stale_among(tasks: Iterable[Task], known: Mapping[Task, str] | None = None) -> dict[Task, str]:
    """Say which tasks are out of date, and why.

    Parameters
    ----------
    tasks : iterable of Task
        Where to look. Foreign code may run (an argument's `__reduce__`), so no lock is held.
    known : mapping of Task to str, optional
        What is known to be out of date already, such as what a store could not take back.

    Returns
    -------
    dict
        Each task that is DONE or FAILED with other code, arguments or prerequisites than there
        are now, or is to run with a function that was replaced, in the order of requirement. The
        reason is "code changed: …", "arguments changed: …", "upstream changed: …", or "unknown: …"
        where nobody can say.
    """
    found: dict[Task, str] = {}
    for task in sorted(tasks, key=lambda task: (task._level, task._rank)):
        reason = (known or {}).get(task) or _reason(task, found)
        if reason:
            found[task] = reason
    return found


def _reason(task: Task, found: Mapping[Task, str]) -> str:
    """Return why a task is out of date; "" if it is not."""
    if task.fsm_state == "PENDING":
        return _pending_reason(task)
    if task.fsm_state not in ("DONE", *FELL) or not task._log:
        return ""
    attempt = task._attempt
    by_hand = task._log[-4] == "supply" and not (task._log[-1] or {}).get("undo")
    own = ""
    if attempt is not None and not by_hand:
        own = attempt.call.reason(call_now(task, defined_now(task.func)))
    if own and not is_unknown(own):
        return own
    if task.fsm_state == "DONE" and not by_hand:
        for other in task._required:
            if other in found and not is_unknown(found[other]) and other.fsm_state == "DONE":
                return f"upstream changed: {shorten(other.name)}"
    return own


def _pending_reason(task: Task) -> str:
    """Return how a task that has yet to run would run with a function that was replaced."""
    func = defined_now(task.func)
    if func is task.func or task.func is None:
        return ""
    was, now = call_now(task, task.func), call_now(task, func)
    return was._replace(arguments={}).reason(now._replace(arguments={}))


def call_now(task: Task, func: Any) -> Fingerprint:
    """Return the fingerprint of a call as it would be made now."""
    return fingerprint_of(func, task._args, task._kwargs or {})
