"""`Plan`: what a verb would do, said before it is done, and then done exactly so."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from itertools import islice
from operator import is_
from time import time
from typing import TYPE_CHECKING, Any, Final

from taskqueue_nb.fsm import FSMError, shorten
from taskqueue_nb.graph import closure
from taskqueue_nb.leading import CaughtUp
from taskqueue_nb.repair.changes import FELL, Change, Edit, fell_with, follow_up, make, recall
from taskqueue_nb.repair.durations import elapsed, expected
from taskqueue_nb.task import (
    ACTIVE,
    FSM_TRANSITIONS,
    GRAPH_LOCK,
    Task,
    TaskError,
    words_of,
)

if TYPE_CHECKING:
    from taskqueue_nb.fsm import Event, State

_NAMED: Final = 3  # tasks that a refusal names
_SAYS: Final = {
    "supply": "its value is given by hand",
    "cancel": "it is given up",
    "invalidate": "it is to run again",
}
_WORD: Final = {"ABORT": "aborted"}  # the others are their state's name
_WORDS: Final = 120  # characters of an exception's words in a reason


class PlanError(TaskError):
    """The graph has moved since a plan was made; nothing has changed."""


class Plan:
    """What a verb would do to some tasks, and to what is behind them.

    Plans come from `TaskQueue.plan`, `Task.plan` and `TaskQueue.refresh`.

    Attributes
    ----------
    verb : str
        What it plans: retry, repair, supply, invalidate, cancel, refresh, or run.
    targets : tuple of Task
        What was named, or chosen where nothing was.
    will_run : tuple of Task
        What the next `run()` calls if this is done first: what the verb sets in motion, and what
        would run anyway; in the order in which one worker would take it.
    stale : tuple of Task
        Whose result is given up: DONE tasks that are to run again.

    Examples
    --------
    >>> from taskqueue_nb import TaskQueue
    >>> load = Task("load", lambda: [3, 4])
    >>> total = Task("total", sum, func_args=(load,))
    >>> queue = TaskQueue(load, total)
    >>> [task.name for task in queue.run()]
    ['load', 'total']
    >>> plan = queue.plan("invalidate", total)
    >>> plan.sentence
    '1 will run, 1 is reused, under 1 s'
    >>> [plan.reasons[task] for task in plan.will_run]
    ['it is to run again']
    >>> [task.name for task in plan.apply()]
    ['total']
    """

    def __init__(
        self,
        work_out: Callable[[], Change],
        queue: Any = None,
        because: Mapping[Task, str] | None = None,
    ) -> None:
        self._work_out = work_out
        self._queue = queue
        with GRAPH_LOCK:
            self._when = time()
            self._change = change = work_out()
            self._members = len(queue._tasks) if queue is not None else 0
            self.verb = change.verb
            self.targets = change.targets
            self.will_run = tuple(foresee(change, queue))
            self._marks = {
                task: _mark(task) for task in (*change.moved, *(edit.task for edit in change.edits))
            }
        steps = change.steps
        self.stale = tuple(step.task for step in steps if step.event == "invalidate")
        self._because = dict(because or {})
        self._edits = {edit.task: edit for edit in change.edits}
        self._events = {step.task: step.event for step in steps}
        self._after = {step.task: _AFTER[step.event] for step in steps}

    # -- what it says --------------------------------------------------------------------------

    @cached_property
    def reused(self) -> tuple[Task, ...]:
        """The tasks that are DONE and stay so: of the queue, or all that the plan builds on."""
        gone = {*self.stale, *self.will_run}
        return tuple(t for t in self._scope() if self._was(t) == "DONE" and t not in gone)

    @cached_property
    def blocked(self) -> tuple[Task, ...]:
        """The pending tasks that do not run even so: what they require does not become DONE."""
        runs = {*self.will_run}
        return tuple(
            task
            for task in self._scope()
            if self._after.get(task, self._was(task)) == "PENDING" and task not in runs
        )

    @cached_property
    def reasons(self) -> Mapping[Task, str]:
        """Why each task runs, is stale, is reused or stays blocked: a sentence each."""
        return _Reasons(self)

    @cached_property
    def seconds(self) -> float | None:
        """What the run is expected to take; None if not every task of it has run before.

        The work of all tasks is shared among the queue's workers, but no chain of them takes less
        than its members one after the other.
        """
        known = self._durations
        return self._elapsed(known) if len(known) == len(self.will_run) else None

    def seconds_of(self, task: Task) -> float | None:
        """Return what a task is expected to take, in seconds.

        Its own last answer decides, else the mean of the queue's tasks with the same function;
        None if neither has run yet.
        """
        return self._durations.get(task)

    @cached_property
    def sentence(self) -> str:
        """The plan in a line: "3 will run, 41 are reused, about 12 s"."""
        count, reused, blocked = len(self.will_run), len(self.reused), len(self.blocked)
        parts = [f"{count or 'nothing'} will run"]
        if reused:
            parts.append(f"{reused} {'is' if reused == 1 else 'are'} reused")
        if blocked:
            parts.append(f"{blocked} {'stays' if blocked == 1 else 'stay'} blocked")
        if count:
            known = self._durations
            seconds = self._elapsed(known)
            if len(known) < count:
                parts += [f"at least {_spoken(seconds)}"] if seconds >= 1 else []
            else:
                parts.append(f"about {_spoken(seconds)}" if seconds >= 1 else "under 1 s")
        return ", ".join(parts)

    def __repr__(self) -> str:
        return self.sentence

    def as_svg(self, name: str | None = None, **options: Any) -> str:
        """Return the graph as a picture with what the plan does with each task, as SVG.

        Parameters
        ----------
        name : str, optional
            What stands before the sentence, above the graph.
        **options
            `max_nodes` is the number of boxes above which groups are folded.
        """
        from taskqueue_nb.drawing import plan_as_svg  # noqa: PLC0415 - drawing is a layer above

        return plan_as_svg(self, name, **options)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        from taskqueue_nb.reprs import plan_mimebundle  # noqa: PLC0415 - reprs is a layer above

        return plan_mimebundle(self, include, exclude)

    # -- doing it ------------------------------------------------------------------------------

    def apply(self, *, then_run: bool = False) -> tuple[Task, ...]:
        """Do exactly what was planned.

        Parameters
        ----------
        then_run : bool
            Whether to go on in the background; for plans of a queue.

        Returns
        -------
        tuple of Task
            Those that changed their state.

        Raises
        ------
        PlanError
            If the graph has moved since in a way that matters; then nothing has changed.
        """
        with CaughtUp(), GRAPH_LOCK:
            self._refuse_if_moved()
            if recall(self._change):
                self._refuse_if_moved()
            make(self._change)
        follow_up(self._change)
        if self._queue is not None:
            self._queue._then(self._change.moved, then_run=then_run)
        return self._change.moved

    def _refuse_if_moved(self) -> None:
        moved = [
            f"{shorten(task.name)} {self._moved_how(task)}"
            for task, mark in self._marks.items()
            if not all(map(is_, mark[1:], _mark(task)[1:])) or mark[0] != len(task._log)
        ]
        if not moved:
            try:
                now = self._work_out()
                runs = tuple(foresee(now, self._queue))
            except (FSMError, TypeError, ValueError) as refusal:
                moved = [f"it would be refused now: {refusal}"]
            else:
                if runs == self.will_run and _same(now, self._change):
                    return
                moved = self._differences(runs, now)
        more = len(moved) - _NAMED
        listed = "; ".join(moved[:_NAMED]) + (f"; and {more} more" if more > 0 else "")
        message = f"the graph has moved since this plan was made: {listed}. Make a new plan"
        raise PlanError(message)

    def _moved_how(self, task: Task) -> str:
        log = self._marks[task][0]
        if len(task._log) != log:
            return f"went from {self._was(task)} to {task.fsm_state}"
        return "has other code or arguments"

    def _differences(self, runs: tuple[Task, ...], change: Change) -> list[str]:
        moved = change.moved
        before, now = {*self.will_run, *self._change.moved}, {*runs, *moved}
        said = [
            f"{shorten(task.name)} would {'now' if task in now else 'no longer'} run or change"
            for task in dict.fromkeys((*runs, *moved, *self.will_run, *self._change.moved))
            if (task in before) != (task in now)
        ]
        edits = {edit.task: edit.func for edit in self._change.edits}
        said += [
            f"{shorten(edit.task.name)} was defined anew"
            for edit in change.edits
            if edit.task not in edits or edits[edit.task] is not edit.func
        ]
        return said or ["the order of what runs is another one"]

    # -- looking at it -------------------------------------------------------------------------

    def _scope(self) -> Iterator[Task]:
        """Yield what belongs to it: the members that the queue had, or what stands around it."""
        if self._queue is not None:
            return iter(tuple(islice(self._queue._tasks, self._members)))
        behind = closure(self.targets, lambda task: task._blocking)
        return iter(closure(behind, lambda task: task._required))

    def _was(self, task: Task) -> State:
        """Return the state in which a task was when the plan was made."""
        return state_at(task, self._when)

    @cached_property
    def _durations(self) -> dict[Task, float]:
        """Return how long each task of the plan is expected to take, where that is known."""
        return expected(self.will_run, self._scope())

    def _elapsed(self, known: Mapping[Task, float]) -> float:
        executor = getattr(self._queue, "executor", None)
        workers = executor if isinstance(executor, int) else 1
        return elapsed(self.will_run, known, workers)

    def _reason(self, task: Task) -> str:
        """Return why a task has its place in the plan."""
        if task in self._because:
            return self._because[task]
        edit = self._edits.get(task)
        if edit is not None and self.verb == "repair" and task in self.targets:
            return _edited(edit)
        reason = self._reason_of_place(task)
        return reason if edit is None else f"{reason}; its function was defined anew"

    def _reason_of_place(self, task: Task) -> str:
        if task in self._events:
            return self._reason_to_move(task, self._events[task])
        if task in self._runs:
            return self._reason_to_run(task)
        if task in self._change.asked:
            return "it is asked to stop"
        return self._reason_to_stay(task)

    def _reason_to_stay(self, task: Task) -> str:
        state = self._after.get(task, self._was(task))
        if state == "PENDING":
            return self._reason_to_wait(task)
        if state == "DONE":
            return "it is done, and nothing that it was made from changes"
        return f"it stays {_WORD.get(state, state.lower())}"

    def _reason_to_run(self, task: Task) -> str:
        """Return why a task runs that was pending before."""
        moved = [other for other in task._required if other in self._runs or other in self._after]
        return f"it waited for {shorten(moved[0].name)}" if moved else "it is ready anyway"

    @cached_property
    def _runs(self) -> frozenset[Task]:
        return frozenset(self.will_run)

    def _reason_to_move(self, task: Task, event: str) -> str:
        """Return why a verb changes the state of a task."""
        if event == "retry":
            return self._reason_to_retry(task)
        if event == "invalidate" and task not in self.targets:
            first = next((other for other in task._required if other in self._after), None)
            if first is None:  # the requirement has gone since
                return "something that it required runs again"
            return f"{shorten(first.name)}, which it requires, runs again"
        return _SAYS[event]

    def _reason_to_retry(self, task: Task) -> str:
        if fallen := [other for other in fell_with(task) if other in self._after]:
            return f"it fell with {shorten(fallen[0].name)}"
        if self._was(task) == "CANCELLED":
            return "it was cancelled"
        error = task._error
        return "it failed" if error is None else f"it failed: {_line(words_of(error))}"

    def _reason_to_wait(self, task: Task) -> str:
        for other in task._required:
            state = self._after.get(other, self._was(other))
            if state in FELL or state == "ABORT":
                word = _WORD.get(state, state.lower())
                return f"blocked by {shorten(other.name)}, which is {word}"
        for other in task._required:
            if self._after.get(other, self._was(other)) != "DONE" and other not in self._runs:
                inside = self._queue is None or other in self._queue._tasks
                outside = "" if inside else " and not in this queue"
                return f"it requires {shorten(other.name)}, which is not done{outside}"
        return "nothing runs it: it is asked for by no queue"


class _Reasons(Mapping[Task, str]):
    """The reasons of a plan, put into words when they are asked for."""

    def __init__(self, plan: Plan) -> None:
        self._reason = plan._reason
        known = (*plan.will_run, *plan._change.moved, *plan._because, *plan._edits)
        self._tasks = dict.fromkeys((*known, *plan._scope()))

    def __getitem__(self, task: Task) -> str:
        if task not in self._tasks:
            raise KeyError(task)
        return self._reason(task)

    def __iter__(self) -> Iterator[Task]:
        return iter(self._tasks)

    def __len__(self) -> int:
        return len(self._tasks)

    def __repr__(self) -> str:
        return repr({task.name: reason for task, reason in self.items()})


# -- looking ahead -------------------------------------------------------------------------------

#: Where each event of a verb leads, whatever the state before.
_AFTER: Final[Mapping[Event, State]] = {
    event: FSM_TRANSITIONS[state][event]
    for state, event in (
        ("FAILED", "retry"),
        ("DONE", "invalidate"),
        ("PENDING", "supply"),
        ("PENDING", "cancel"),
    )
}


def foresee(change: Change, queue: Any = None) -> list[Task]:
    """Return what the next run would call after a change, in order; the lock is held.

    Parameters
    ----------
    change : Change
        What is done first; of it, nothing is.
    queue : TaskQueue, optional
        Whose run; without one, what the change sets in motion, whatever queue it is in.
    """
    ahead = _Ahead(change)
    due: Any = deque() if queue is None else queue._line_of_run(_ready_now(queue))
    moved = dict.fromkeys((*ahead.freed, *change.targets))
    due.extend(t for t in moved if not ahead.missing(t) and (queue is None or not _is_ready(t)))
    if queue is not None and queue._active:
        due.extend(ahead.let_finish(t for t in (*queue._tasks, *queue._outside)))
    runs: dict[Task, None] = {}
    while due:
        task = due.popleft()
        if task in runs or ahead.state(task) != "PENDING" or ahead.missing(task):
            continue
        if queue is None or task in queue._tasks or queue.run_dependent_tasks:
            runs[task] = None
            due.extend(ahead.done(task))
    return list(runs)


def _is_ready(task: Task) -> bool:
    return task.fsm_state == "PENDING" and not task._missing


def _ready_now(queue: Any) -> Iterator[Task]:
    yield from queue._room
    for run in queue._runs:
        for place in run.places:
            yield from place.parked
    yield from queue._ready
    for _, _, task in queue._delayed:
        yield task


class _Ahead:
    """States and counts as they will be, kept beside those that are."""

    def __init__(self, change: Change) -> None:
        self._states: dict[Task, State] = {}
        self._missing: dict[Task, int] = {}
        self._joined: dict[Task, list[Task]] = {}  # prerequisite -> who requires it from then on
        self._left: set[tuple[Task, Task]] = set()  # prerequisite, who requires it no longer
        self._asked = set(change.asked)
        self.freed: list[Task] = []  # what the steps may make ready, in order
        for edit in change.edits:
            self._rewire(edit)
        for task, event, _ in change.steps:
            if self.state(task) == "DONE":
                self._count(task, 1)
            self._states[task] = _AFTER[event]
            freed = self._count(task, -1) if event == "supply" else [task]
            self.freed += [other for other in freed if not self.missing(other)]
        for task in change.outdated:
            self._states[task] = "PENDING"

    def state(self, task: Task) -> State:
        """Return the state that it will be in."""
        return self._states.get(task) or task.fsm_state

    def missing(self, task: Task) -> int:
        """Return of how many prerequisites the result will be missing."""
        return self._missing.get(task, task._missing)

    def done(self, task: Task) -> list[Task]:
        """Let a task be DONE; return what is ready then."""
        self._states[task] = "DONE"
        return [d for d in self._count(task, -1) if not self.missing(d)]

    def let_finish(self, tasks: Iterator[Task]) -> list[Task]:
        """Let all be DONE that run or are queued, unless they are given up."""
        freed: list[Task] = []
        for task in tasks:
            attempt = task._attempt
            gives_up = task in self._asked or (attempt is not None and attempt.asked_to_stop)
            if self.state(task) in ACTIVE and not gives_up:
                freed += self.done(task)
        return freed

    def _count(self, task: Task, change: int) -> list[Task]:
        behind = [d for d in task._blocking if (task, d) not in self._left]
        behind += self._joined.get(task, ())
        for dependent in behind:
            self._missing[dependent] = self.missing(dependent) + change
        return behind

    def _rewire(self, edit: Edit) -> None:
        """Take account of the prerequisites that come and go with new arguments."""
        task, inputs = edit.task, edit.inputs()
        gone = [o for o, lasting in (task._inputs or {}).items() if not lasting and o not in inputs]
        come = [other for other in inputs if other not in task._required]
        self._left |= {(other, task) for other in gone}
        for other in come:
            self._joined.setdefault(other, []).append(task)
        undone = sum(o.fsm_state != "DONE" for o in come) - sum(o.fsm_state != "DONE" for o in gone)
        self._missing[task] = task._missing + undone


# -- small parts ---------------------------------------------------------------------------------


def state_at(task: Task, when: float) -> State:
    """Return the state that a task was in at a moment, in seconds since the epoch."""
    log = task._log
    at = len(log) - 4
    while at >= 0 and log[at + 2] > when:
        at -= 4
    return str(log[at + 1]) if at >= 0 else task._first_state


def _mark(task: Task) -> tuple[int, Any, Any, Any]:
    """Return what shows that a task has moved: the arguments may be arrays, so by identity."""
    return len(task._log), task.func, task._args, task._kwargs or None


def _same(one: Change, other: Change) -> bool:
    """Say whether two changes take the same steps, with the same functions."""
    steps = [step.task for step in one.steps] == [step.task for step in other.steps]
    funcs = {edit.task: edit.func for edit in other.edits}
    same = {edit.task for edit in one.edits} == funcs.keys()
    return steps and same and all(funcs[edit.task] is edit.func for edit in one.edits)


def _edited(edit: Edit) -> str:
    """Return what is new about a task, in words."""
    code, arguments = edit.func is not None, edit.args is not None or edit.kwargs is not None
    if code and arguments:
        return "its code and arguments are new"
    if code:
        return "its code is new"
    return "its arguments are new" if arguments else "it is tried again"


def _line(text: str) -> str:
    """Return an exception's words as a part of a sentence on one line."""
    line = " ".join(text.split())
    line = line if len(line) <= _WORDS else f"{line[: _WORDS - 1]}…"
    return line if line.isprintable() else repr(line)


def _spoken(seconds: float) -> str:
    """Return a length of time as one says it.

    Examples
    --------
    >>> _spoken(12.3), _spoken(200.0), _spoken(9000.0)
    ('12 s', '3 min', '2.5 h')
    """
    if seconds < 100:  # noqa: PLR2004 - people count seconds up to there
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"  # noqa: PLR2004 - and minutes
