"""A plan as a picture: the graph of its queue, with what the plan does in place of the states."""

from __future__ import annotations

from collections import Counter
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from taskqueue_nb.drawing.dot import LISTED, MAX_NODES, drawing_of, listed
from taskqueue_nb.drawing.engine import NoEngine
from taskqueue_nb.drawing.fold import Wish
from taskqueue_nb.drawing.picture import Captioned, Face, counted, face_of, facts_of, most_urgent
from taskqueue_nb.drawing.words import clean, name_of
from taskqueue_nb.palette import ROLES, URGENCY, Look, look
from taskqueue_nb.repair.plans import _spoken

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from taskqueue_nb.drawing.picture import Box
    from taskqueue_nb.repair import Plan

_BESIDE: Final = 12  # tasks on either side that are drawn with one of a plan without a queue
_REASON: Final = 240  # characters
_ROLE_OF_EVENT: Final = {"supply": "supplied", "cancel": "given-up", "invalidate": "stale"}


class Roles:
    """What a plan does with each task, by role, number, reason and time.

    Parameters
    ----------
    plan : Plan
        What is planned. Its graph may have moved since: what was planned is told all the same.

    Attributes
    ----------
    numbers : dict
        Each task that runs, with its place in the order, from 1.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self.numbers: dict[Any, int] = {task: i for i, task in enumerate(plan.will_run, 1)}

    @cached_property
    def of(self) -> Mapping[Any, str]:
        """Each task that the plan has something to say of, with its role."""
        plan = self._plan
        roles = {
            **dict.fromkeys(plan.will_run, "run"),
            **dict.fromkeys(plan.blocked, "blocked"),
            **dict.fromkeys(plan.reused, "reused"),
            **dict.fromkeys(plan._change.asked, "given-up"),
        }
        for task in plan._change.moved:
            if role := _ROLE_OF_EVENT.get(plan._events.get(task, "")):
                roles[task] = role
        return roles

    def reason(self, task: Any) -> str:
        """Return why, on one clean line; "" if the plan has nothing to say of the task."""
        try:
            return clean(self._plan.reasons.get(task, ""), _REASON)
        except KeyboardInterrupt:
            raise
        except BaseException:  # noqa: BLE001 - the words of a foreign exception may raise anything
            return "its reason cannot be put into words"

    def word(self, task: Any) -> str:
        """Return what the plan does with a task, in words; "" if nothing."""
        role = self.of.get(task, "")
        if role == "stale" and task in self.numbers:
            return "stale, runs again"
        if role == "blocked":
            return "stays blocked"
        return ROLES[role].word if role else ""

    def time(self, task: Any) -> str:
        """Return how long a task that runs is expected to take, as the plan's sentence says it."""
        seconds = self._plan.seconds_of(task) if task in self.numbers else None
        if seconds is None:
            return ""
        return SOON if seconds < 1 else _spoken(seconds)

    def face(self, box: Box) -> Face:
        """Return what a box shows."""
        if box.key is not None:
            return self._face_of_many(box)
        (task,) = box.tasks
        role = self.of.get(task)
        if role is None:
            return face_of(facts_of(task))
        shown, number, word = ROLES[role], self.numbers.get(task), self.word(task)
        time = self.time(task)
        says: tuple[str, ...] = (f"{word}, {time}", word) if time and time != SOON else (word,)
        if role == "stale":
            says += (shown.word,)
        title = f"{word}{'' if number is None else f' as number {number:,}'}"
        return Face(
            shown,
            shown.glyph if number is None else str(number),
            says,
            ": ".join(filter(None, (title, self.reason(task)))),
            role,
        )

    def _face_of_many(self, box: Box) -> Face:
        """Return the counts by role, and by state where a task has none."""
        roles: Counter[str] = Counter()
        states: Counter[str] = Counter()
        stale = 0
        for task in box.tasks:
            role = self.of.get(task)
            if role is None:
                states[task.fsm_state] += 1
            else:
                roles["run" if task in self.numbers else role] += 1
                stale += role == "stale"
        counts = [(shown, roles[role]) for role, shown in ROLES.items() if roles[role]]
        counts += [(look(state), states[state]) for state in _in_order(states)]
        says = counted(counts)
        of_these = f", of these {stale:,} stale" if stale and roles["run"] else ""
        if roles:
            shown = counts[0][0]
            return Face(shown, shown.glyph, says, says[0] + of_these, shown.state)
        shown = look(most_urgent(states))
        return Face(shown, shown.glyph, says, says[0])

    def legend(self) -> list[Look]:
        """Return the roles that occur, in their order."""
        found = {*self.of.values()}
        return [shown for role, shown in ROLES.items() if role in found]


def _in_order(states: Mapping[str, int]) -> Iterator[str]:
    yield from (state for state in URGENCY if state in states)
    yield from (state for state in states if state not in URGENCY)


SOON: Final = "under 1 s"


def drawn_with(plan: Plan) -> Any:
    """Return what a plan's picture shows: its queue, or the tasks that it touches and their sides.

    What has come into the queue since is left out.
    """
    touched = dict.fromkeys((*plan.targets, *plan._change.moved, *plan.will_run))
    queue = plan._queue
    if queue is None:
        return tuple(
            dict.fromkeys(
                other
                for task in touched
                for other in (*task.required[:_BESIDE], task, *task.blocking[:_BESIDE])
            )
        )
    members = tuple(plan._scope())
    shown = tuple(dict.fromkeys((*members, *touched)))
    return queue if len(shown) == len(members) == len(queue.tasks) else shown


def _first(plan: Plan, max_nodes: int) -> tuple[Any, ...]:
    """Return which of the tasks that run are to have a box of their own.

    All of them if they leave room for others; else how it begins. A long row of boxes between two
    ends in the same fold is a circle, which takes the engine longer than anybody waits.
    """
    runs = plan.will_run
    return runs if len(runs) <= max_nodes * 3 // 4 else runs[: max_nodes * 3 // 10]


def draw_plan(
    plan: Plan, name: str | None = None, *, max_nodes: int = MAX_NODES, roles: Roles | None = None
) -> Captioned:
    """Return a plan as a picture.

    Parameters
    ----------
    plan : Plan
        What to show.
    name : str, optional
        What stands before the plan's sentence, above the graph.
    max_nodes : int
        The largest number of boxes; tasks that run have one of their own before others.
    roles : Roles, optional
        What is known of the plan already.

    Raises
    ------
    NoEngine
        If nothing on this machine can lay it out.
    """
    roles = Roles(plan) if roles is None else roles
    drawing = drawing_of(drawn_with(plan), max_nodes, Wish(_first(plan, max_nodes)))
    heading = plan.sentence if name is None else f"{clean(name)}: {plan.sentence}"
    said = f"Plan of {plan.verb}: {plan.sentence}" if name is None else heading
    return drawing.filled(map(roles.face, drawing.boxes), heading, roles.legend(), said)


def plan_as_svg(plan: Plan, name: str | None = None, *, max_nodes: int = MAX_NODES) -> str:
    """Return a plan as a picture; without a layout engine, as a list of what runs.

    The parameters are those of `draw_plan`.
    """
    try:
        return draw_plan(plan, name, max_nodes=max_nodes).svg
    except NoEngine as problem:
        roles = Roles(plan)
        some = (*plan.will_run, *(t for t in roles.of if t not in roles.numbers))[: LISTED + 1]
        rows = [(ROLES[roles.of[task]], name_of(task)) for task in some]
        return listed(rows, f"{plan.sentence}. {problem.sentence}")
