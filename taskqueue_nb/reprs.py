"""What a task or a queue looks like where it is displayed and nothing moves.

A MIME bundle holds a tree for the terminal, a table with the picture for the notebook, and the
picture alone. Nothing here changes, fires or runs anything, or holds a lock while it reads.
"""

from __future__ import annotations

import reprlib
from base64 import b64encode
from collections import Counter, deque
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from taskqueue_nb.drawing import (
    MAX_NODES,
    Box,
    NoEngine,
    clean,
    draw_plan,
    drawing_of,
    error_name,
    name_of,
    summary,
    xml,
)
from taskqueue_nb.drawing.fold import Fold, folded, is_victim
from taskqueue_nb.drawing.picture import most_urgent
from taskqueue_nb.drawing.plans import SOON, Roles
from taskqueue_nb.drawing.words import attribute, cut
from taskqueue_nb.palette import ROLES, look
from taskqueue_nb.repair import Causes
from taskqueue_nb.task import BaseTask

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from taskqueue_nb.repair import Plan

LINES: Final = 60  # of a tree
ROWS: Final = 100  # of a table without a picture; else it has a row per box
_LARGEST: Final = 300_000  # characters of a picture before more of it is folded
_BESIDE: Final = 12  # tasks on either side that are shown with a task
_NAMED: Final = 3  # prerequisites that a line of a tree names
_DEEP: Final = 16  # levels of a tree that are drawn; further ones are counted
_CAUSES: Final = 10  # that are told in full
_ORDER: Final = 40  # tasks of a plan that are listed one by one
_WORDS: Final = 200  # characters of an exception's text
_PARTS: Final = 40  # of a list or dict whose repr is shown
_HIGH: Final = 640  # px of a picture before it scrolls
_PAGE: Final = 700  # px that every page has
_SMALLEST: Final = 0.6  # of its size, to which a wide picture shrinks before it scrolls

_FELL: Final = frozenset({"FAILED", "CANCELLED", "ABORT"})


def mimebundle(
    shown: Any,
    include: Collection[str] | None = None,
    exclude: Collection[str] | None = None,
) -> dict[str, str]:
    """Return what a front end may show of a task, a queue or some tasks.

    Parameters
    ----------
    shown : Task, TaskQueue or iterable of Task
        What is displayed.
    include, exclude : collection of str, optional
        The MIME types that are wanted, and those that are not. The text is always there.

    Returns
    -------
    dict
        `text/plain`, `text/html` and `image/svg+xml`; the last only where there is a picture.
    """
    wanted = _wanted(include, exclude)
    bundle = {"text/plain": tree(shown)}
    if len(wanted) > 1:
        picture, note = _picture(_still_of(shown))
        if "text/html" in wanted:
            bundle["text/html"] = _html(shown, picture, note)
        if "image/svg+xml" in wanted and picture is not None:
            bundle["image/svg+xml"] = picture.svg
    return bundle


def plan_mimebundle(
    plan: Plan,
    include: Collection[str] | None = None,
    exclude: Collection[str] | None = None,
) -> dict[str, str]:
    """Return what a front end may show of a plan.

    Parameters
    ----------
    plan : Plan
        What is displayed. What was planned is shown, also when the graph has moved since.
    include, exclude : collection of str, optional
        The MIME types that are wanted, and those that are not. The text is always there.

    Returns
    -------
    dict
        `text/plain`: the plan's sentence, and below it what will run, in order, and why;
        `text/html`: the picture, the sentence, and a table of who does what; and the picture as
        `image/svg+xml`, where there is one.

    Examples
    --------
    >>> from taskqueue_nb import Task, TaskQueue
    >>> load = Task("load", print, state="FAILED")
    >>> plan = TaskQueue(load, load.then("fit", print)).plan("retry")
    >>> print(plan_mimebundle(plan, include=["text/plain"])["text/plain"])
    2 will run
    1. load  it failed
    2. fit  it waited for 'load'
    """
    wanted, roles = _wanted(include, exclude), Roles(plan)
    bundle = {"text/plain": _plan_text(plan, roles)}
    if len(wanted) > 1:
        picture, note = _picture(
            lambda max_nodes: _Picture(*draw_plan(plan, None, max_nodes=max_nodes, roles=roles))
        )
        if "text/html" in wanted:
            bundle["text/html"] = _plan_html(plan, roles, picture, note)
        if "image/svg+xml" in wanted and picture is not None:
            bundle["image/svg+xml"] = picture.svg
    return bundle


def _wanted(include: Collection[str] | None, exclude: Collection[str] | None) -> set[str]:
    wanted = {"text/plain", "text/html", "image/svg+xml"}
    if include is not None:
        wanted &= {*include}
    return wanted - {*(exclude or ())} | {"text/plain"}


def still_html(shown: Any, key: str | None = None) -> str:
    """Return the picture and the table of a queue, for a page without a kernel.

    Parameters
    ----------
    shown : TaskQueue, Task or iterable of Task
        What to show.
    key : str, optional
        What the picture's `alt` begins with, so that a live view finds it.
    """
    picture, note = _picture(_still_of(shown))
    return _html(shown, picture, note, key)


# -- what belongs to it ------------------------------------------------------------------------


def _members(shown: Any) -> tuple[Any, ...]:
    """Return the tasks to show: a queue's, or a task with what stands beside it."""
    if isinstance(shown, BaseTask):
        required = attribute(shown, "required") or ()
        blocking = attribute(shown, "blocking") or ()
        return (*required[:_BESIDE], shown, *blocking[:_BESIDE])
    found = attribute(shown, "tasks")
    return found if isinstance(found, tuple) else tuple(shown)


def _state(task: Any) -> Any:
    return attribute(task, "fsm_state")


def _title(shown: Any, members: Sequence[Any]) -> str:
    """Say what it is, and how its tasks stand: "TaskQueue 'a': 3 done, 1 failed"."""
    if isinstance(shown, BaseTask):
        return f"Task {name_of(shown)!r}: {_word(shown)}"
    name = attribute(shown, "name")
    named = f" {clean(name, 80)!r}" if isinstance(name, str) else ""
    kind = clean(type(shown).__name__, 40) if attribute(shown, "structure") is not None else "Tasks"
    return f"{kind}{named}: {summary(Counter(map(str, map(_state, members))))}"


def _word(task: Any) -> str:
    """Return a task's state in words, with the name of what it raised."""
    state = _state(task)
    word = look(state).word
    if state == "FAILED":
        error = attribute(task, "exception")
        if error is not None:
            return f"{word}: {error_name(error)}"
    return word


def _causes(members: Sequence[Any]) -> dict[Any, Any]:
    """Return each task that waits in vain, with the task that it waits for; nearest cause first."""
    blocked: dict[Any, Any] = {}
    if not _FELL & set(map(_state, members)):
        return blocked
    known = set(members)
    due = deque((task, task) for task in members if _fell_alone(task))
    while due:
        task, cause = due.popleft()
        for dependent in task.blocking:
            if dependent in known and dependent not in blocked and _state(dependent) != "DONE":
                blocked[dependent] = cause
                due.append((dependent, cause))
    return blocked


def _fell_alone(task: Any) -> bool:
    return _state(task) in _FELL and not is_victim(task)


def _blame(shown: Any, members: Sequence[Any], blocked: Mapping[Any, Any]) -> str:
    """Say how many causes block how many tasks; "" if none is blocked, or of a task alone."""
    if not blocked or isinstance(shown, BaseTask):
        return ""
    found: dict[Any, list[Any]] = {task: [] for task in members if _fell_alone(task)}
    for task, cause in blocked.items():
        found[cause] += [] if _state(task) == "RUNNING" else [task]
    grouped = {cause: tuple(tasks) for cause, tasks in found.items()}
    if not any(grouped.values()):
        return ""
    return _guarded(lambda causes: str(Causes(causes)), grouped) or ""


# -- a tree for the terminal -------------------------------------------------------------------


def tree(shown: Any, lines: int = LINES) -> str:
    """Return tasks as a tree of text, each below the last of those that it requires.

    Parameters
    ----------
    shown : TaskQueue, Task or iterable of Task
        What to show.
    lines : int
        The largest number of tasks or groups; more tasks are folded into groups.

    Returns
    -------
    str
        A line per task, with its state's glyph and word; at its end, how many causes block how
        many tasks, if any. It holds no times and no addresses, so that the same queue gives the
        same text.

    Examples
    --------
    >>> from taskqueue_nb import Task
    >>> load = Task("load")
    >>> plot = load.then("plot", print)
    >>> print(tree([load, plot]))
    Tasks: 2 pending
    ○ load  pending
    └─ ○ plot  pending
    """
    members = _members(shown)
    folding = folded(members, lines)
    labels = [fold.label for fold in folding.folds]
    lead, before = _forest(len(folding.folds), folding.edges)
    text = [_title(shown, members)]
    for i, prefix in lead:
        others = [clean(labels[j], 40) for j in before[i][:-1]]
        also = ", ".join(others[:_NAMED]) + (", …" if len(others) > _NAMED else "")
        text.append(f"{prefix}{_line(folding.folds[i])}{f'  (also after {also})' if also else ''}")
    if blame := _blame(shown, members, _causes(members)):
        text.append(blame)
    return "\n".join(text)


def _line(fold: Fold) -> str:
    if fold.key is None:
        task = fold.tasks[0]
        return f"{look(_state(task)).glyph} {name_of(task)}  {_word(task)}"
    counts = Counter(map(_state, fold.tasks))
    return f"{look(most_urgent(counts)).glyph} {fold.label}  {summary(counts)}"


def _forest(
    count: int, edges: Sequence[tuple[int, int]]
) -> tuple[list[tuple[int, str]], dict[int, list[int]]]:
    """Arrange a graph as trees, each node once, below the last of its prerequisites.

    Returns
    -------
    list, dict
        The nodes from top to bottom with the branches before them, and the prerequisites of each
        in the order in which they were shown.
    """
    behind: dict[int, list[int]] = {i: [] for i in range(count)}
    missing = dict.fromkeys(range(count), 0)
    for start, end in edges:
        behind[start].append(end)
        missing[end] += 1
    before: dict[int, list[int]] = {i: [] for i in range(count)}
    shown: list[tuple[int, int]] = []  # node, depth
    seen: set[int] = set()
    roots = [i for i in range(count) if not missing[i]]
    # what is left in circles, which folding can make, starts a tree of its own
    for root in (*roots, *range(count)):
        due = [(root, 0)] if root not in seen else []
        while due:
            i, depth = due.pop()
            seen.add(i)
            shown.append((i, depth))
            ready = []
            for dependent in behind[i]:
                missing[dependent] -= 1
                before[dependent].append(i)
                if not missing[dependent] and dependent not in seen:
                    ready.append((dependent, depth + 1))
            due.extend(reversed(ready))
    return _branches(shown), before


def _branches(shown: Sequence[tuple[int, int]]) -> list[tuple[int, str]]:
    """Draw the branches, from the bottom up: a line goes on where a sibling follows below."""
    going_on: set[int] = set()  # depths at which a sibling follows
    found = []
    for i, depth in reversed(shown):
        going_on = {other for other in going_on if other <= depth}
        if depth:
            first = max(1, depth - _DEEP + 1)
            marks = ["│  " if other in going_on else "   " for other in range(first, depth)]
            start = f"{depth - _DEEP} … " if first > 1 else ""
            prefix = start + "".join(marks) + ("├─ " if depth in going_on else "└─ ")
        else:
            prefix = ""
        found.append((i, prefix))
        going_on.add(depth)
    return found[::-1]


# -- a table and a picture for the page --------------------------------------------------------


class _Picture(NamedTuple):
    """A still picture, its width in px, and the boxes of tasks that it shows."""

    svg: str
    width: float
    boxes: tuple[Box, ...] = ()


def _picture(make: Callable[[int], _Picture]) -> tuple[_Picture | None, str]:
    """Return a picture with as many boxes as make a reasonable size, or why there is none."""
    max_nodes = MAX_NODES
    while True:
        try:
            made = make(max_nodes)
        except NoEngine as problem:
            return None, problem.sentence
        if len(made.svg) <= _LARGEST or max_nodes == 1:
            return made, ""
        max_nodes //= 2


def _still_of(shown: Any) -> Callable[[int], _Picture]:
    """Return what makes the picture of a queue, a task or some tasks."""
    drawn = _members(shown) if isinstance(shown, BaseTask) else shown
    if attribute(drawn, "structure") is None:
        drawn = tuple(drawn)
    name = attribute(shown, "name")

    def make(max_nodes: int) -> _Picture:
        drawing = drawing_of(drawn, max_nodes)
        svg = drawing.stamp(name if isinstance(name, str) else None)
        return _Picture(svg, drawing.width, drawing.boxes)

    return make


def _html(shown: Any, picture: _Picture | None, note: str, key: str | None = None) -> str:
    members = _members(shown)
    title = _title(shown, members)
    blocked = _causes(members)
    if picture is not None:
        above = _image(picture, title if key is None else f"{key} {title}")
    else:
        above = f"<p>{xml(clean(note, 600))}</p>"
    rows = picture.boxes if picture is not None else folded(members, ROWS).folds
    table = _table(rows, blocked)
    opened = "" if picture is not None else " open"
    below = f"<details{opened}><summary>{xml(title)}</summary>{table}</details>"
    return f'<div class="taskqueue-nb">{above}{_trouble(shown, members, blocked)}{below}</div>'


def _trouble(shown: Any, members: Sequence[Any], blocked: Mapping[Any, Any]) -> str:
    """Say what has failed, and what that blocks."""
    blame = _blame(shown, members, blocked)
    return (f"<p>{xml(blame)}</p>" if blame else "") + _told(members, blocked)


def below_html(shown: Any, boxes: Sequence[Box] | None) -> str:
    """Return what a page has below a picture of a queue: what failed and why, and a table.

    Parameters
    ----------
    shown : TaskQueue
        What is shown.
    boxes : sequence of Box, optional
        Those of the picture, which the table has a row for; None if there is none.
    """
    members = _members(shown)
    blocked = _causes(members)
    rows = folded(members, ROWS).folds if boxes is None else boxes
    return _trouble(shown, members, blocked) + _table(rows, blocked)


def _image(picture: _Picture, alt: str) -> str:
    data = b64encode(picture.svg.encode()).decode("ascii")
    least = round(picture.width * _SMALLEST) if picture.width > _PAGE else 0
    return (
        f'<div style="overflow: auto; max-height: {_HIGH}px">'
        f'<img alt="{xml(alt)}" width="{picture.width:.0f}" '
        f'style="max-width: 100%; min-width: {least}px; height: auto" '
        f'src="data:image/svg+xml;base64,{data}"></div>'
    )


def _told(members: Sequence[Any], blocked: Mapping[Any, Any]) -> str:
    """Name the causes of what does not move, with what they block."""
    waiting = Counter(blocked.values())
    causes = [task for task in members if _state(task) == "FAILED" and task not in blocked]
    rows = []
    for task in causes[:_CAUSES]:
        shown = look(_state(task))
        blocks = f", blocks {_number(waiting[task], 'task')}" if waiting[task] else ""
        error = attribute(task, "exception")
        words = f": {said(error)}" if error is not None else ""
        rows.append(
            f"<li>{shown.glyph} <strong>{xml(name_of(task))}</strong> "
            f"{xml(shown.word + words)}{blocks}</li>"
        )
    if len(causes) > _CAUSES:
        rows.append(f"<li>and {len(causes) - _CAUSES:,} more</li>")
    if not rows:
        return ""
    return f'<ul style="list-style: none; padding-left: 0">{"".join(rows)}</ul>'


def _number(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def _table(folds: Sequence[Box | Fold], blocked: Mapping[Any, Any]) -> str:
    rows = "".join(_row(fold, blocked) for fold in folds)
    return _framed("Tasks", ("Task", "State", "Time", "Attempts", "Why"), rows)


def _framed(caption: str, heads: Sequence[str], rows: str) -> str:
    head = "".join(f'<th scope="col" style="text-align: left">{each}</th>' for each in heads)
    return (
        f"<table><caption>{caption}</caption>"
        f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
    )


def _row(fold: Box | Fold, blocked: Mapping[Any, Any]) -> str:
    if fold.key is not None:
        counts = Counter(map(_state, fold.tasks))
        glyph, word = look(most_urgent(counts)).glyph, summary(counts)
        cells = ["", "", ""]
    else:
        task = fold.tasks[0]
        glyph, word = look(_state(task)).glyph, look(_state(task)).word
        cells = [_time(task), _attempts(task), _why(task, blocked)]
    return f"<tr>{_named(fold.label)}{_cell(_signed(glyph, word))}{_cells(*cells)}</tr>"


def _named(label: str) -> str:
    return f'<th scope="row" style="text-align: left">{xml(label)}</th>'


def _signed(glyph: str, word: str) -> str:
    return f'<span aria-hidden="true">{glyph}</span> {xml(word)}'


def _cells(*texts: str) -> str:
    return "".join(_cell(xml(text)) for text in texts)


def _cell(html: str) -> str:
    return f'<td style="text-align: left">{html}</td>'


def _last(task: Any) -> Any:
    attempts = attribute(task, "attempts")
    return attempts[-1] if isinstance(attempts, list) and attempts else None


def _attempts(task: Any) -> str:
    number = attribute(_last(task), "number")
    return str(number) if isinstance(number, int) else ""


def _time(task: Any) -> str:
    attempt = _last(task)
    started, ended = attribute(attempt, "started"), attribute(attempt, "ended")
    if not isinstance(started, float) or not isinstance(ended, float):
        return ""
    return f"{max(0.0, ended - started):.2f} s"


def _why(task: Any, blocked: Mapping[Any, Any]) -> str:
    state = _state(task)
    error = attribute(task, "exception")
    if state == "FAILED" and error is not None:
        return said(error)
    if task in blocked:
        return f"blocked by {name_of(blocked[task])}"
    if state == "CANCELLED":
        history = attribute(task, "fsm_history") or ()
        because = history[-1].extra.get("because") if history else None
        return clean(because) if isinstance(because, str) else ""
    return ""


# -- a plan ------------------------------------------------------------------------------------

#: What is said of tasks with a role besides those that run, of one and of several.
_BESIDES: Final = {
    "stale": ("is stale", "are stale"),
    "supplied": ("is supplied", "are supplied"),
    "given-up": ("is given up", "are given up"),
    "blocked": ("stays blocked", "stay blocked"),
}


def _plan_text(plan: Plan, roles: Roles) -> str:
    """Return a plan for the terminal: what will run and why, then who else is concerned."""
    listed = plan.will_run[:_ORDER]
    digits = len(str(len(listed)))
    times = list(map(roles.time, listed))
    if set(times) <= {"", SOON}:  # the sentence has said so
        times = [""] * len(times)
    rows = [plan.sentence]
    for number, (task, time) in enumerate(zip(listed, times, strict=True), 1):
        stale = f"{ROLES['stale'].word}: " if roles.of[task] == "stale" else ""
        name, took = cut(name_of(task), _NAME), f" ({time})" if time else ""
        rows.append(f"{number:{digits}}. {name}  {stale}{roles.reason(task)}{took}")
    if len(plan.will_run) > _ORDER:
        rows.append(f"and {len(plan.will_run) - _ORDER:,} more")
    rows += [_besides(role, roles) for role in _BESIDES if role in roles.of.values()]
    return "\n".join(rows)


_NAME: Final = 60  # characters of a name in a plan's lines


def _besides(role: str, roles: Roles) -> str:
    """Count the tasks of a role, and name a few of those that do not run with their reasons."""
    tasks = [task for task, its in roles.of.items() if its == role]
    row = f"{len(tasks):,} {_BESIDES[role][len(tasks) > 1]}"
    rest = [task for task in tasks if task not in roles.numbers]
    if not rest:
        return row
    named = [f"{cut(name_of(task), _NAME)} ({roles.reason(task)})" for task in rest[:_NAMED]]
    more = f" and {len(rest) - _NAMED:,} more" if len(rest) > _NAMED else ""
    return f"{row}: {', '.join(named)}{more}"


def _plan_html(plan: Plan, roles: Roles, picture: _Picture | None, note: str) -> str:
    parts = []
    if picture is None:
        parts.append(f"<p>{xml(clean(note, 600))}</p>")
    else:
        parts.append(_image(picture, f"Plan of {plan.verb}: {plan.sentence}"))
    parts.append(f"<p><strong>{xml(plan.sentence)}</strong></p>")
    heads = ("", "Task", "State now", "Plan", "Why", "Expected")
    table = _framed("What the plan does", heads, "".join(_plan_rows(plan, roles)))
    opened = "" if picture is not None else " open"
    parts.append(f"<details{opened}><summary>Task by task</summary>{table}</details>")
    return f'<div class="taskqueue-nb">{"".join(parts)}</div>'


def _plan_rows(plan: Plan, roles: Roles) -> Iterator[str]:
    """Yield a row for each task, what runs first; of each role as many as one reads."""
    by_role: dict[str, list[Any]] = {role: [] for role in ROLES}
    by_role["run"] = [*plan.will_run]
    for task, role in roles.of.items():
        if task not in roles.numbers:
            by_role[role].append(task)
    for role, tasks in by_role.items():
        yield from (_plan_row(task, roles) for task in tasks[:ROWS])
        if len(tasks) > ROWS:
            more = f"and {len(tasks) - ROWS:,} more"
            yield f"<tr>{_cells('')}{_named(more)}{_cells('', ROLES[role].word, '', '')}</tr>"


def _plan_row(task: Any, roles: Roles) -> str:
    state, shown = look(_state(task)), ROLES[roles.of[task]]
    number = roles.numbers.get(task)
    return (
        f"<tr>{_cells('' if number is None else str(number))}{_named(name_of(task))}"
        f"{_cell(_signed(state.glyph, state.word))}{_cell(_signed(shown.glyph, roles.word(task)))}"
        f"{_cells(roles.reason(task), roles.time(task))}</tr>"
    )


# -- other people's objects --------------------------------------------------------------------


def said(error: object, limit: int = _WORDS) -> str:
    """Return an exception's class and words on one clean line, whatever its `__str__` does."""
    if isinstance(error, str):
        return clean(error, limit)
    name = error_name(error)
    words = _guarded(str, error)
    return clean(f"{name}: {words}" if words else name, limit)


def preview(value: object, limit: int = _WORDS) -> str:
    """Return the repr of anything, cut; of what has none, the name of its type.

    This is the one place where the repr of a foreign object is asked for. It may raise, recurse, or
    return what is no text or a hundred megabytes of it; it is never called under a lock.

    Parameters
    ----------
    value : object
        Anything.
    limit : int
        The largest number of characters.

    Examples
    --------
    >>> preview(list(range(1000)), 30)
    '[0, 1, 2, 3, 4, 5, 6… 39, ...]'
    """
    short = reprlib.Repr()
    short.maxlevel = 3
    short.maxlist = short.maxtuple = short.maxset = short.maxfrozenset = short.maxdeque = _PARTS
    short.maxdict = short.maxarray = _PARTS
    short.maxstring = short.maxother = short.maxlong = limit
    text = _guarded(short.repr, value)
    if text is None:
        return f"<{error_name(value)} without a repr>"
    return cut(text, limit)


def described(value: object, limit: int = _WORDS) -> tuple[str, str]:
    """Return the name of a value's type and its preview: all that is shown of a result."""
    return type(value).__name__, preview(value, limit)


def _guarded(render: Any, value: object) -> str | None:
    try:
        text = render(value)
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - a foreign `__repr__` may raise anything, SystemExit too
        return None
    return str.__str__(text) if isinstance(text, str) else None
