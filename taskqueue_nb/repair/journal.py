"""What has happened to some tasks: transitions and verbs, and how to take the last verb back."""

from __future__ import annotations

from time import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from taskqueue_nb.fsm import shorten
from taskqueue_nb.graph import CycleError
from taskqueue_nb.leading import CaughtUp
from taskqueue_nb.repair.changes import Before, Change, Deed, Edit, check_circle
from taskqueue_nb.task import ACTIVE, GRAPH_LOCK, Task, TaskError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from taskqueue_nb.fsm import Event, State


class Entry(NamedTuple):
    """One line of the journal.

    Attributes
    ----------
    when : float
        In seconds since the epoch.
    task : Task or None
        Whose transition it is; None for a verb.
    event : str
        The event of the machine, or the verb.
    old_state, new_state : str or None
        Of the transition.
    says : str
        The same in words.
    """

    when: float
    task: Task | None
    event: Event
    old_state: State | None
    new_state: State | None
    says: str


def journal_of(
    tasks: Iterable[Task],
    deeds: Iterable[Deed],
    earlier: Iterable[tuple[float, Mapping[str, Any]]] = (),
) -> list[Entry]:
    """Return every transition of some tasks and every verb, oldest first.

    Parameters
    ----------
    tasks, deeds
        Whose transitions, and the verbs of this kernel.
    earlier : iterable of (float, mapping)
        The verbs of kernels before: when, and its "verb" and "tasks".
    """
    entries = [Entry(deed.when, None, deed.verb, None, None, str(deed)) for deed in deeds]
    for when, words in earlier:
        verb, targets = str(words.get("verb")), tuple(words.get("tasks") or ())
        says = str(Deed(Change(verb, targets), when, ()))
        entries.append(Entry(when, None, verb, None, None, says))
    for task in tasks:
        for step in task.fsm_history:
            because = step.extra.get("because")
            why = f", {because}" if isinstance(because, str) else ""
            says = f"{shorten(task.name)} {step.old_state} -> {step.new_state} ({step.event}{why})"
            entries.append(Entry(step.when, task, step.event, step.old_state, step.new_state, says))
    entries.sort(key=lambda entry: entry.when)  # stable: a verb stands before what it did
    return entries


# -- undo ----------------------------------------------------------------------------------------

#: From each state the event that leads back to PENDING, and from there to each state.
_BACK: Final = {"DONE": "invalidate", "FAILED": "retry", "CANCELLED": "retry"}
_FORTH: Final = {"DONE": "supply", "FAILED": "error", "CANCELLED": "cancel"}


def undo(deeds: Iterable[Deed], members: Iterable[Task]) -> tuple[Task, ...]:
    """Take back the last verb that was not: code, arguments, states and results.

    Parameters
    ----------
    deeds : iterable of Deed
        What was done, oldest first.
    members : iterable of Task
        None of which may have run since.

    Returns
    -------
    tuple of Task
        Those that are as they were.

    Raises
    ------
    TaskError
        If there is nothing to take back, or that would not be exact any more; then nothing has
        changed.
    """
    with CaughtUp(), GRAPH_LOCK:
        deeds = tuple(deeds)
        deed = next((deed for deed in reversed(deeds) if not deed.undone), None)
        if deed is None:
            raise TaskError("there is nothing to undo")
        obstacle = _obstacle(deed, members)
        if obstacle:
            message = f"{deed} cannot be undone: {obstacle}"
            raise TaskError(message)
        tasks = tuple(each.task for each in deed.before)
        note = Deed(Change("undo", deed.targets), time(), ())
        note.undone = True  # there is nothing in it to take back
        _give_back(deed)
        _catch_up(deed, (each for each in deeds if each is not deed))
        deed.undone = True
        deed.forget()
        for queue in {id(q): q for task in tasks for q in task._told_queues()}.values():
            queue._has_done(note)
    for task in tasks:
        task._fsm_after()
    return tasks


def _obstacle(deed: Deed, members: Iterable[Task]) -> str:
    """Say what stands in the way of taking a deed back; "" if nothing does."""
    if deed.final:
        return f"{shorten(deed.final[0].name)} was running, and cannot be made not to have heard"
    if not deed.before:
        return "something ran since"
    return _has_moved(deed) or _is_edited(deed) or _has_run(deed, members)


def _has_moved(deed: Deed) -> str:
    for each in deed.before:
        if len(each.task._log) != each.mark:
            return f"{shorten(each.task.name)} has moved since, and is {each.task.fsm_state}"
    return ""


def _is_edited(deed: Deed) -> str:
    edits = {edit.task: edit for edit in deed.edited}
    for each in deed.before:
        task, edit = each.task, edits.get(each.task)
        func = each.func if edit is None or edit.func is None else edit.func
        if task.func is not func or (edit is None and task._args is not each.args):
            return f"{shorten(task.name)} has other code or arguments since"
        if edit is not None and task.fsm_state in ACTIVE:
            return f"{shorten(task.name)} runs"
        if edit is not None:
            try:
                check_circle(Edit(task, None, each.args, each.kwargs or {}))
            except CycleError as circle:
                return str(circle)
    return ""


def _has_run(deed: Deed, members: Iterable[Task]) -> str:
    for task in members:
        attempt = task._attempt
        started = None if attempt is None else attempt.started
        if started is not None and started >= deed.when:
            return f"{shorten(task.name)} ran since"
    return ""


def _give_back(deed: Deed) -> None:
    """Bring each task back to where it was, by steps that its machine allows."""
    edited = {edit.task for edit in deed.edited}
    for each in reversed(deed.before):
        _to_pending(each.task)
    for each in reversed(deed.before):
        task = each.task
        if task in edited:
            task._set_arguments(each.args, each.kwargs or {})
            task.func = each.func
    for each in deed.before:  # causes first: what is DONE rests on what is DONE
        _to_state(each)


def _catch_up(deed: Deed, others: Iterable[Deed]) -> None:
    """Let earlier verbs on the same tasks see the steps of an undo as their own last ones."""
    starts = {each.task: each.start for each in deed.before}
    for other in others:
        other.before = tuple(
            each._replace(mark=len(each.task._log)) if starts.get(each.task) == each.mark else each
            for each in other.before
        )


def _to_pending(task: Task) -> None:
    if task.fsm_state in _BACK:
        task._fsm_move(_BACK[task.fsm_state], {"because": "undo"})


def _to_state(before: Before) -> None:
    task, event = before.task, _FORTH.get(before.state)
    if event is None or task.fsm_state != "PENDING":
        return  # it was pending or on its way to an executor, or runs still
    extra: dict[str, Any] = {"because": "undo", **before.extra, "undo": True}
    task._value, task._error = before.value, before.error
    task._fsm_move(event, extra)
