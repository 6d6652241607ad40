"""What each verb of mending does: one rule per verb, looked at before anything is changed.

a verb and its tasks -> a rule -> Change: the steps, the new code or arguments, or a refusal
Change -> make(): all of it under one lock -> Deed: how it was before -> every queue concerned
Change -> foresee(): what would run then, in order -> Plan, which makes exactly this Change
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from time import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from taskqueue_nb.fsm import shorten
from taskqueue_nb.graph import closure
from taskqueue_nb.leading import CaughtUp
from taskqueue_nb.task import (
    AHEAD,
    GRAPH_LOCK,
    INTERRUPTED,
    STOPPED,
    WITHDRAWN,
    Task,
    TaskError,
    check_call,
    defined_now,
    tasks_among,
)

if TYPE_CHECKING:
    from taskqueue_nb.fsm import Event, State

FELL: Final = frozenset({"FAILED", "CANCELLED"})
_LEFT: Final = frozenset({INTERRUPTED, STOPPED})  # what an attempt is cut off by that nobody meant


class Step(NamedTuple):
    """One event for one task, and what is said of it."""

    task: Task
    event: Event
    extra: dict[str, Any] | None = None


class Edit(NamedTuple):
    """The code and the arguments that a task is to have; None leaves as it is."""

    task: Task
    func: Callable[..., Any] | None = None
    args: tuple[Any, ...] | None = None
    kwargs: dict[str, Any] | None = None

    def inputs(self) -> dict[Task, None]:
        """Return the tasks among the new arguments; of those that stay, the present ones."""
        task = self.task
        if self.args is None and self.kwargs is None:
            return dict.fromkeys(task._inputs or ())
        args = task._args if self.args is None else self.args
        kwargs = (task._kwargs or {}) if self.kwargs is None else self.kwargs
        return tasks_among((args, kwargs))


class Change(NamedTuple):
    """All that a verb does, worked out and not yet done.

    Attributes
    ----------
    verb : str
        What it is called.
    targets : tuple of Task
        What was named, or chosen where nothing was.
    steps : tuple of Step
        In their order, causes first.
    edits : tuple of Edit
        New code and arguments.
    value : object
        What is supplied.
    asked : tuple of Task
        Running ones that are to be asked to stop.
    outdated : tuple of Task
        Running ones whose answer will be out of date when it comes.
    because : str or None
        What those that are asked to stop are cancelled by, if not by a wish of their own.
    """

    verb: str
    targets: tuple[Task, ...] = ()
    steps: tuple[Step, ...] = ()
    edits: tuple[Edit, ...] = ()
    value: Any = None
    asked: tuple[Task, ...] = ()
    outdated: tuple[Task, ...] = ()
    because: str | None = None

    @property
    def moved(self) -> tuple[Task, ...]:
        """The tasks that change their state or are asked to, causes first."""
        return (*(step.task for step in self.steps), *self.asked)


class Before(NamedTuple):
    """How a task was before a verb, and how long its log was before and is since."""

    task: Task
    state: State
    value: Any
    error: BaseException | None
    extra: dict[str, Any]
    func: Callable[..., Any] | None
    args: tuple[Any, ...]
    kwargs: dict[str, Any] | None
    start: int
    mark: int


class Deed:
    """A verb that was carried out: an entry of the journal, and what `undo` needs.

    Attributes
    ----------
    when : float
        In seconds since the epoch; the steps that it made are not older.
    verb : str
        What it is called.
    targets : tuple of Task
        What it was about.
    moved : int
        How many tasks changed their state.
    undone : bool
        Whether it was taken back.
    """

    def __init__(self, change: Change, when: float, before: tuple[Before, ...]) -> None:
        self.when = when
        self.verb = change.verb
        self.targets = change.targets
        self.moved = len(change.moved)
        self.undone = False
        self.before = before
        self.edited = change.edits
        self.final = change.asked or change.outdated

    def __repr__(self) -> str:
        return f"<{self}>"

    def __str__(self) -> str:
        names = ", ".join(shorten(task.name) for task in self.targets[:3])
        more = f" and {len(self.targets) - 3} more" if len(self.targets) > 3 else ""  # noqa: PLR2004 - as above
        undone = ", undone" if self.undone and self.verb != "undo" else ""
        return f"{self.verb} {names or 'nothing'}{more}{undone}"

    def forget(self) -> None:
        """Keep what the journal says alone: it can be taken back no more."""
        self.before = ()
        self.edited = ()


# -- the rules; always under the lock of the graph -----------------------------------------------


def change_of(verb: str, *targets: Any, **how: Any) -> Change:
    """Work out what a verb would do; the lock of the graph is held.

    Parameters
    ----------
    verb : str
        One of `VERBS`.
    *targets, **how
        What the verb's function takes.

    Raises
    ------
    ValueError
        If there is no such verb.
    FSMError, TypeError
        If it would be refused.
    """
    rule = VERBS.get(verb) if isinstance(verb, str) else None
    if rule is None:
        message = f"there is no verb {shorten(verb)}; there are {', '.join(VERBS)}"
        raise ValueError(message)
    return rule(*targets, **how)


def _run(*tasks: Task) -> Change:
    check_tasks(tasks)
    return Change("run", tasks)


def _retry(*tasks: Task) -> Change:
    check_tasks(tasks)
    for task in tasks:
        task._fsm_target("retry")
    fallen = victims(tasks)
    steps = tuple(Step(task, "retry") for task in fallen)
    return Change("retry", tuple(dict.fromkeys(tasks)), steps, _defined_anew(fallen))


def _defined_anew(tasks: Iterable[Task]) -> tuple[Edit, ...]:
    """Give tasks the functions that took the names of theirs since, if those can be called so."""
    edits = []
    for task in tasks:
        func = defined_now(task.func)
        if func is not task.func:
            edits.append(Edit(task, func))
            _check_edit(edits[-1])
    return tuple(edits)


def _repair(
    task: Task,
    func: Callable[..., Any] | None = None,
    args: Sequence[Any] | None = None,
    kwargs: Mapping[str, Any] | None = None,
) -> Change:
    check_tasks([task])
    if func is not None and not callable(func):
        message = f"a task's function must be callable, not {shorten(func)}"
        raise TypeError(message)
    if args is not None and (isinstance(args, (str, bytes)) or not isinstance(args, Sequence)):
        message = f"args is a sequence of arguments, not {shorten(args)}"
        raise TypeError(message)
    if kwargs is not None and not (
        isinstance(kwargs, Mapping) and all(isinstance(k, str) for k in kwargs)
    ):
        message = f"kwargs is a mapping from names to arguments, not {shorten(kwargs)}"
        raise TypeError(message)
    if task.fsm_state in ("DONE", "ABORT"):
        task._fsm_target("retry")
    if func is None and defined_now(task.func) is not task.func:
        func = defined_now(task.func)
    edit = Edit(
        task, func, None if args is None else tuple(args), None if kwargs is None else dict(kwargs)
    )
    _check_edit(edit)
    fallen = victims([task]) if task.fsm_state in FELL else []
    edits = (edit, *_defined_anew(fallen[1:]))
    return Change("repair", (task,), tuple(Step(t, "retry") for t in fallen), edits)


def _check_edit(edit: Edit) -> None:
    """Refuse what could not be called, and requirements that would close a circle."""
    task = edit.task
    check_circle(edit)
    func = task.func if edit.func is None else edit.func
    if func is not None:
        args = task._args if edit.args is None else edit.args
        kwargs = (task._kwargs or {}) if edit.kwargs is None else edit.kwargs
        check_call(func, args, kwargs)


def check_circle(edit: Edit) -> None:
    """Refuse arguments whose tasks require this one.

    Raises
    ------
    CycleError
        If requirements would form a circle.
    """
    task = edit.task
    new = [other for other in edit.inputs() if other not in task._required]
    if new:
        behind = set(closure([task], lambda t: t._blocking))
        for other in new:
            if other in behind:
                raise task._circle(other)


def _supply(task: Task, value: Any) -> Change:
    check_tasks([task])
    task._fsm_target("supply")
    _, *fallen = victims([task])
    steps = (Step(task, "supply"), *(Step(t, "retry") for t in fallen))
    return Change("supply", (task,), steps, value=value)


def _invalidate(*tasks: Task) -> Change:
    check_tasks(tasks)
    for task in tasks:
        task._fsm_target("invalidate")
    return _gone("invalidate", tasks, ())


def _gone(verb: str, done: Sequence[Task], fallen: Sequence[Task]) -> Change:
    """Work out how results are given up, with what was made of them, and failures retried."""
    stale = closure(done, lambda t: [d for d in t._blocking if d.fsm_state == "DONE"])
    steps = [Step(task, "invalidate") for task in stale]
    steps += [Step(task, "retry") for task in victims(fallen)]
    outdated = dict.fromkeys(
        dependent
        for task in stale
        for dependent in task._blocking
        if dependent.fsm_state == "RUNNING" and dependent._attempt is not None
    )
    targets = tuple(dict.fromkeys((*done, *fallen)))
    edits = _defined_anew(step.task for step in steps)
    return Change(verb, targets, tuple(steps), edits, outdated=tuple(outdated))


def _refresh(*tasks: Task) -> Change:
    check_tasks(tasks)
    done = [task for task in tasks if task.fsm_state == "DONE"]
    change = _gone("refresh", done, [task for task in tasks if task.fsm_state in FELL])
    pending = [task for task in tasks if task.fsm_state == "PENDING"]
    targets = (*change.targets, *pending)
    return change._replace(targets=targets, edits=(*change.edits, *_defined_anew(pending)))


def _cancel(*tasks: Task, because: str | None = None) -> Change:
    check_tasks(tasks)
    chosen = tuple(dict.fromkeys(tasks))
    for task in chosen:
        task._fsm_target("cancel")
    asked = tuple(t for t in chosen if t.fsm_state == "RUNNING" and t._attempt is not None)
    extra = None if because is None else {"because": because}
    steps = tuple(Step(task, "cancel", extra) for task in chosen if task not in asked)
    return Change("cancel", chosen, steps, asked=asked, because=because)


#: What can be asked for, and planned: the name of each verb with its rule. "run" changes nothing.
VERBS: Final[dict[str, Callable[..., Change]]] = {
    "run": _run,
    "retry": _retry,
    "repair": _repair,
    "supply": _supply,
    "invalidate": _invalidate,
    "cancel": _cancel,
    "refresh": _refresh,
}


for _verb, _rule in VERBS.items():
    _rule.__qualname__ = _verb  # so that a missing argument is said of the verb


# -- doing it -----------------------------------------------------------------------------------


def make(change: Change) -> Deed:
    """Do what was worked out; the lock of the graph is held, and callbacks hear of it later."""
    when = time()
    before = {step.task: _before(step.task) for step in change.steps}
    before |= {edit.task: _before(edit.task) for edit in change.edits if edit.task not in before}
    for edit in change.edits:
        _take(edit)
    for task, event, extra in change.steps:
        if event == "supply":
            task._value = change.value
        task._fsm_move(event, extra)
    for task in change.outdated:
        if task._attempt is not None:
            task._attempt.outdated = True
    for task in change.asked:
        if task._attempt is not None:
            task._attempt.asked_because = change.because
            task._attempt.runstate.cancel()
    marked = tuple(each._replace(mark=len(task._log)) for task, each in before.items())
    deed = Deed(change, when, marked)
    if before or change.asked:
        tasks = (*before, *change.asked)
        queues = {id(queue): queue for task in tasks for queue in task._told_queues()}
        for queue in queues.values():
            queue._has_done(deed)
    return deed


def _take(edit: Edit) -> None:
    """Give a task its new code and arguments."""
    task = edit.task
    if edit.args is not None or edit.kwargs is not None:
        args = task._args if edit.args is None else edit.args
        kwargs = (task._kwargs or {}) if edit.kwargs is None else edit.kwargs
        task._set_arguments(args, kwargs)
    if edit.func is not None:
        task.func = edit.func


def _before(task: Task) -> Before:
    extra = (task._log[-1] if task._log else None) or {}
    return Before(
        task, task.fsm_state, task._value, task._error, extra,
        task.func, task._args, task._kwargs, len(task._log), 0,
    )  # fmt: skip


def carry_out(work_out: Callable[[], Change]) -> tuple[Task, ...]:
    """Work a verb out and do it under one lock; then tell the callbacks and whoever waits.

    Parameters
    ----------
    work_out : callable
        Gives the change, or refuses.

    Returns
    -------
    tuple of Task
        Those that changed their state, causes first.
    """
    with CaughtUp(), GRAPH_LOCK:
        change = work_out()
        if recall(change):
            change = work_out()
        make(change)
    return follow_up(change)


def recall(change: Change) -> bool:
    """Take back from workers what is to be cancelled before it begins; the lock is held.

    Returns
    -------
    bool
        Whether something had begun there, so that the change has to be worked out anew.
    """
    if not AHEAD:
        return False
    waiting = [task for task, event, _ in change.steps if event == "cancel" and task in AHEAD]
    back = [task for task in waiting if task._recall()]
    if has_begun := len(back) < len(waiting):
        for task in back:
            task._queue_no_more(WITHDRAWN)
    return has_begun


def follow_up(change: Change) -> tuple[Task, ...]:
    """End what can be ended, tell callbacks and whoever waits; once the lock is free."""
    for task in change.asked:
        attempt = task._attempt
        kill = None if attempt is None else attempt.kill  # it may come to its end at any moment
        if attempt is not None and kill is not None and attempt.asked_to_stop:
            kill()
    for task in change.moved:
        task._fsm_after()
    return change.moved


# -- questions about tasks -----------------------------------------------------------------------


def victims(tasks: Iterable[Task]) -> list[Task]:
    """Return some tasks, and every dependent that failed or was cancelled because of them."""

    def fallen(task: Task) -> list[Task]:
        return [dependent for dependent in task._blocking if task in fell_with(dependent)]

    return closure(tasks, fallen)


def fell_with(task: Task) -> tuple[Task, ...]:
    """Return the prerequisites on whose account a task failed or was cancelled; () if by itself."""
    if task.fsm_state not in FELL or not task._log:
        return ()
    extra = task._log[-1] or {}
    return (*extra.get("failed", ()), *extra.get("cancelled", ()))


def has_failed(task: Task) -> bool:
    """Say whether a task failed, or was cut off by an interrupt or a stop that was not for it."""
    if task.fsm_state != "CANCELLED" or not task._log:
        return task.fsm_state == "FAILED"
    return (task._log[-1] or {}).get("because") in _LEFT


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
