"""What the buttons would do, and what is to be mended: looked up beside the run, never in it."""

from __future__ import annotations

import itertools
import threading
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from taskqueue_nb.fingerprint import is_unknown
from taskqueue_nb.fsm import FSMError
from taskqueue_nb.repair import Cause, Causes, blame, fell_with
from taskqueue_nb.widget.details import one_line
from taskqueue_nb.widget.messages import RefusedError
from taskqueue_nb.widget.progress import FALLEN, blocked_by

if TYPE_CHECKING:
    from collections.abc import Mapping

    from taskqueue_nb.repair import Plan
    from taskqueue_nb.task import Task
    from taskqueue_nb.taskqueue import TaskQueue

OF_QUEUE: Final = -1  # in place of a task's number, for the buttons above the graph
_KEPT: Final = 4  # plans of a button that a click may bring back; those of a huge queue are large
_TIMED: Final = 1_000_000  # tasks that will run, times tasks: beyond it no time is worked out
_GROUPED: Final = 200_000  # causes, times tasks: beyond it what they block is counted together
_CAUSES: Final = 200  # places that "next cause" goes through
_REFRESHED: Final = frozenset({"DONE", "FAILED", "CANCELLED"})  # what a refresh runs again
_RUNNING: Final = "not foreseen while the queue runs"

#: What each button of a task asks to be planned.
_PLANNED: Final = {"retry": "retry", "rerun": "invalidate", "cancel": "cancel"}


class _Shown(NamedTuple):
    """A plan that a page was told of, and by which button."""

    verb: str
    number: int
    says: str
    plan: Plan


class Mending:
    """Plans that pages were shown, by the ids that their clicks bring back; causes of failures.

    Parameters
    ----------
    queue : TaskQueue
        What is shown.
    """

    def __init__(self, queue: TaskQueue) -> None:
        self._queue = queue
        self._lock = threading.Lock()
        self._shown: dict[str, _Shown] = {}
        self._ids = itertools.count(1)
        self._causes = Causes()
        self._stale: dict[Task, tuple[str, int]] = {}  # why, and after how many attempts

    # -- clicks ------------------------------------------------------------------------------

    def take(self, key: str, verb: str, number: int) -> Plan:
        """Return the plan that a click brings back; it is known no more then.

        Parameters
        ----------
        key : str
            Its id.
        verb : str
            The verb of the button that showed it.
        number : int
            The place of its task, or `OF_QUEUE`.

        Raises
        ------
        RefusedError
            If no such plan was shown by that button, or it is long ago.
        """
        with self._lock:
            shown = self._shown.get(key)
            if shown is None or (shown.verb, shown.number) != (verb, number):
                raise RefusedError(
                    "The plan of this button is out of date, so nothing was done. Look at the "
                    "new one, and press again."
                )
            del self._shown[key]
            return shown.plan

    def cause_of(self, task: Task) -> tuple[int, Cause] | None:
        """Return the cause that a fallen task belongs to, and its place among the causes."""
        for i, cause in enumerate(self._causes.groups):
            if task in cause.tasks and task.fsm_state in FALLEN:
                return i, cause
        return None

    # -- what is out of date -----------------------------------------------------------------

    def look_for_stale(self) -> bool:
        """Look which tasks are out of date; return whether that is news."""
        found = {task: (why, len(task.attempts)) for task, why in self._queue.stale().items()}
        before, self._stale = self._stale, found
        return found != before

    def why_stale(self, task: Task) -> str:
        """Return why a task is out of date; "" if it is not, or has run since that was seen."""
        why, attempts = self._stale.get(task, ("", 0))
        return why if why and len(task.attempts) == attempts else ""

    def is_stale(self, task: Task) -> bool:
        """Say whether a task is known to be out of date, and not about to run anyway."""
        why = self.why_stale(task) if task.fsm_state in _REFRESHED else ""
        return bool(why) and not is_unknown(why)

    # -- what is shown -----------------------------------------------------------------------

    def toolbar(self, places: Mapping[Task, int]) -> dict[str, Any]:
        """Return what stands above the graph: the `Mending` of `static/types.d.ts`."""
        queue = self._queue
        says, key = "", ""
        if any(task.fsm_state == "FAILED" for task in queue.tasks):
            says, key = self._foresee("retry_failed", OF_QUEUE, "retry", run=False)
        stale = [task for task in tuple(self._stale) if self.is_stale(task)]
        refresh, its_key = "", ""
        if stale:
            refresh, its_key = self._foresee("refresh", OF_QUEUE, "refresh", *stale, run=True)
        causes = self._look_for_causes()
        firsts = [places.get(cause.tasks[0]) for cause in self._causes.groups[:_CAUSES]]
        return {
            "undo": one_line(queue.undoable, 200),
            "retry": {"says": says, "plan": key},
            "refresh": {"says": refresh, "plan": its_key},
            "causes": causes,
            "at": [str(place) for place in firsts if place is not None],
        }

    def of_task(self, task: Task, number: int, details: Mapping[str, Any]) -> dict[str, Any]:
        """Return the details of a task with what each of its buttons would do."""
        found = self.cause_of(task)
        actions = []
        for action in details["actions"]:
            verb, run = action["verb"], action["run"]
            if verb == "retry_cause":
                if found is None or len(found[1].tasks) < 2:  # noqa: PLR2004 - else it is a retry
                    continue
                says, key = self._foresee(verb, number, "retry", *found[1].tasks, run=run)
            elif verb == "repair":  # planned at the click: nobody knows yet what is edited
                says, key = self._foresee_repair(task), ""
            else:
                says, key = self._foresee(verb, number, _PLANNED[verb], task, run=run)
            actions.append({**action, "says": says, "plan": key})
        supplies = ""
        if details["suppliable"]:
            supplies = self._sentence("supply", task, None)[0]
        cause = ""
        if found is not None:
            place, group = found
            cause = one_line(f"Cause {place + 1} of {len(self._causes.groups)}: {group}", 300)
        return {
            **details,
            "actions": actions,
            "supplies": supplies,
            "cause": cause,
            "stale": one_line(self.why_stale(task), 500),
        }

    # -- parts -------------------------------------------------------------------------------

    def _foresee(
        self, button: str, number: int, verb: str, *tasks: Task, run: bool
    ) -> tuple[str, str]:
        """Plan what a button would do: return what it says, and the id of the plan."""
        says, plan = self._sentence(verb, *tasks)
        if plan is None:
            return says, ""
        says = says if run else f"next run: {says}"
        with self._lock:
            for key, old in self._shown.items():
                if old[:3] == (button, number, says) and old.plan.will_run == plan.will_run:
                    self._shown[key] = old._replace(plan=plan)  # the same, made anew
                    return says, key
            key = f"p{next(self._ids)}"
            self._shown[key] = _Shown(button, number, says, plan)
            alike = [known for known, shown in self._shown.items() if shown.verb == button]
            for known in alike[:-_KEPT]:
                del self._shown[known]
        return says, key

    def _foresee_repair(self, task: Task) -> str:
        state = task.fsm_state
        verb = "invalidate" if state == "DONE" else "retry" if state in FALLEN else "repair"
        return self._sentence(verb, task)[0]

    def _sentence(self, verb: str, *args: Any) -> tuple[str, Plan | None]:
        """Plan, and say it; without a plan where that would hold at no time."""
        queue = self._queue
        if queue.running:
            return _RUNNING, None
        try:
            plan = queue.plan(verb, *args)
        except FSMError:  # it has moved on: its buttons will be other ones
            return "", None
        return _said(plan, len(queue)), plan

    def _look_for_causes(self) -> str:
        """Look for what fell by itself, and what that blocks; return it as a sentence."""
        queue = self._queue
        tasks = queue.tasks
        fallen = [task for task in tasks if task.fsm_state in FALLEN]
        if len(fallen) * len(tasks) <= _GROUPED:
            self._causes = queue.causes()
            return str(self._causes) if self._causes else ""
        self._causes = Causes({task: () for task in fallen if not fell_with(task)})
        return blame(len(self._causes.groups), blocked_by(queue)[0]) if self._causes else ""


def _said(plan: Plan, tasks: int) -> str:
    """Return what a plan says, without the time where that would take long to work out."""
    if len(plan.will_run) * tasks <= _TIMED:
        return plan.sentence
    runs, reused, blocked = len(plan.will_run), len(plan.reused), len(plan.blocked)
    parts = [f"{runs:,} will run"]
    parts += [f"{reused:,} {'is' if reused == 1 else 'are'} reused"] if reused else []
    parts += [f"{blocked:,} {'stays' if blocked == 1 else 'stay'} blocked"] if blocked else []
    return ", ".join(parts)
