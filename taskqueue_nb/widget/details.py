"""What the details panel says of a task: plain data of bounded size, read without a lock."""

from __future__ import annotations

import inspect
import weakref
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from taskqueue_nb.drawing import look_of
from taskqueue_nb.palette import look
from taskqueue_nb.previews import Rich, chosen, described_richly, is_plain
from taskqueue_nb.reprs import preview
from taskqueue_nb.source.foreign import attribute
from taskqueue_nb.stepping import stepped_of
from taskqueue_nb.task import (
    FSM_TRANSITIONS,
    Attempt,
    LazyValue,
    Task,
    defined_now,
    func_name,
    tasks_among,
)
from taskqueue_nb.widget.literals import LONGEST, literal_of, parse
from taskqueue_nb.widget.messages import LONGEST_SOURCE
from taskqueue_nb.widget.shapes import shape_of
from taskqueue_nb.widget.traces import failing_line, trace_of
from taskqueue_nb.widget.words import called, clean, one_line, said

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

__all__ = [
    "Action",
    "Previews",
    "actions_of",
    "details_of",
    "edited_arguments",
    "given_up",
    "link_to",
    "one_line",
    "progress_of",
    "said",
]

_PREVIEW: Final = 4_000  # of a result
_KEPT: Final = 120  # of an argument that has no literal
_LINKS: Final = 24  # to other tasks, in one row
_FIELDS: Final = 40
_LONG_TEXT: Final = LONGEST // 2  # characters of a text that is edited: it may become longer
_LONG_TEXTS: Final = 3 * _LONG_TEXT  # of those in one form together
_ATTEMPTS: Final = 20
_SHOWN: Final = 8  # pictures and tables that an attempt displayed
_SHOWN_SIZE: Final = 600_000  # characters of them together


class Action(NamedTuple):
    """A button: what it is called, and the event of the machine that must be allowed for it.

    One without an event edits a task.
    """

    event: str
    verb: str
    label: str
    run: bool
    hint: str


# In the order of the buttons. Which of them a task shows follows from FSM_TRANSITIONS.
_ACTIONS: Final = (
    Action(
        "retry",
        "retry",
        "Retry and continue",
        run=True,
        hint="Try it again, and run what waits for it",
    ),
    Action("retry", "retry", "Retry", run=False, hint="Make it pending again, and start nothing"),
    Action(
        "retry",
        "retry_cause",
        "Retry this cause",
        run=True,
        hint="Try every task again that failed in the same way at the same place",
    ),
    Action(
        "invalidate",
        "rerun",
        "Run again from here",
        run=True,
        hint="Run it again, and everything done that was made from its result",
    ),
    Action(
        "",
        "repair",
        "Repair and rerun",
        run=True,
        hint="Use the edited arguments and source, and run it with what waits for it",
    ),
    Action("cancel", "cancel", "Cancel", run=False, hint="Give it up; it can be retried later"),
)
# States in which a task can have other code and arguments: a running attempt would keep its own,
# and a queued one has been handed over. A DONE task is invalidated first.
_EDITABLE: Final = frozenset(
    state
    for state, events in FSM_TRANSITIONS.items()
    if not events.keys().isdisjoint({"retry", "supply", "invalidate"})
)


def actions_of(state: str) -> tuple[Action, ...]:
    """Return what a task in this state may be asked to do, as the machine's table says."""
    events = FSM_TRANSITIONS[state]
    return tuple(
        action
        for action in _ACTIONS
        if (action.event in events if action.event else state in _EDITABLE)
    )


# -- a task ---------------------------------------------------------------------------------------

Link: TypeAlias = tuple[str, str, str]
Index: TypeAlias = "Mapping[Task, int]"


def link_to(task: Task, index: Index) -> Link:
    """Return how to find a task: its place in the queue, its name, its state's letter."""
    number = index.get(task)
    at = "" if number is None else str(number)
    return at, called(task, index), look_of(task).letter


def _links(tasks: Iterable[Task], index: Index) -> list[Link]:
    chosen = list(tasks)
    links = [link_to(task, index) for task in chosen[:_LINKS]]
    if len(chosen) > _LINKS:
        links.append(("", f"and {len(chosen) - _LINKS} more", look("PREPARE").letter))
    return links


def details_of(task: Task, at: str, index: Index, *, result: bool = True) -> dict[str, Any]:
    """Return everything that the panel shows of a task.

    Parameters
    ----------
    task : Task
        The selected one.
    at : str
        How the page calls it.
    index : mapping of Task to int
        The place of each task in its queue.
    result : bool
        Whether with its result, whose class may take its time to show it.

    Returns
    -------
    dict
        The `Details` of `static/types.d.ts`: texts, numbers, lists and dicts, less than 300 kB;
        with pictures and tables, less than 1.2 MB.
    """
    state = task.fsm_state
    attempts = task.attempts
    last = attempts[-1] if attempts else None
    events = FSM_TRANSITIONS[state]
    failed = state == "FAILED" and last is not None
    fallen = None if state == "DONE" else _last_fallen(attempts)
    fields = fields_of(task, index)
    editable = state in _EDITABLE
    source = _source(task)
    can_edit = source is not None or any(field["kind"] != "task" for field in fields)
    return {
        "at": at,
        "label": called(task, index),
        "letter": look_of(task).letter,
        "calls": _call(task.func),
        "why": " ".join(part for part in (_why(task, index), _injected(task)) if part),
        "error": said(last.error) if failed and last is not None and last.error is not None else "",
        **_trace(fallen, last),
        "output": clean(last.output) if last is not None else "",
        "displayed": [] if last is None else _displayed(last.displayed),
        "result": _result(task) if result else None,
        "progressed": progress_of(task) if state == "RUNNING" else None,
        "attempts": [_row(attempt) for attempt in attempts[-_ATTEMPTS:]],
        "fields": fields,
        "editable": editable,
        "source": source,
        "ran": _ran(last, task, source),
        "failing": None
        if source is None or fallen is None or fallen is not last
        else failing_line(defined_now(task.func), source, fallen.error),
        "actions": [
            {"verb": verb, "label": label, "run": run, "hint": hint}
            for _, verb, label, run, hint in actions_of(state)
            if verb != "repair" or can_edit
        ],
        "suppliable": "supply" in events,
        "required": _links(task.required, index),
        "blocking": _links(task.blocking, index),
    }


def _last_fallen(attempts: Sequence[Attempt]) -> Attempt | None:
    """Return the last attempt that raised something."""
    return next((each for each in reversed(attempts) if each.error is not None), None)


def _trace(fallen: Attempt | None, last: Attempt | None) -> dict[str, Any]:
    """Return how an attempt failed, as text and taken apart, and which it was if not the last."""
    if fallen is None:
        return {"traceback": "", "trace": [], "of_attempt": 0}
    try:
        trace = trace_of(fallen.error, fallen._error_text or "")
    except Exception:  # noqa: BLE001 - frames and classes of others; the text is shown instead
        trace = []
    return {
        "traceback": clean(fallen.error_text or ""),
        "trace": trace,
        "of_attempt": 0 if fallen is last else fallen.number,
    }


def _call(func: object) -> str:
    if func is None:
        return ""
    names = [parameter.name for parameter in _parameters(func)]
    return one_line(f"{func_name(func)}({', '.join(names)})")


def _source(task: Task) -> str | None:
    """Return the text of a task's function; None if there is none that could come back edited."""
    text = task.source
    if text is None or len(text) > LONGEST_SOURCE // 2 or clean(text, LONGEST_SOURCE) != text:
        return None
    return text


def _ran(last: Attempt | None, task: Task, source: str | None) -> dict[str, Any] | None:
    """Return the text that an attempt ran; None in its place if it is the present one."""
    if last is None or source is None:
        return None
    if last.func is task.func:
        return {"number": last.number, "source": None}
    from taskqueue_nb.source import source_of  # noqa: PLC0415 - brings ast and inspect along

    text = source_of(last.func)
    if text is None or len(text) > LONGEST_SOURCE // 2:
        return None
    return {"number": last.number, "source": None if text == source else clean(text, len(text))}


def _parameters(func: object) -> tuple[inspect.Parameter, ...]:
    """Return a function's parameters; () if it does not tell."""
    if not callable(func):
        return ()
    try:
        return tuple(inspect.signature(func).parameters.values())
    except Exception:  # noqa: BLE001 - a foreign `__signature__` may raise anything
        return ()


def _why(task: Task, index: Index) -> str:
    """Return why a task is not further, in a sentence."""
    if task.fsm_state == "PENDING":
        blockers = []
        for blocker in task.blockers():
            blockers.append(blocker)
            if len(blockers) > _LINKS:
                break
        fallen = [
            blocker for blocker in blockers if blocker.fsm_state in ("FAILED", "CANCELLED", "ABORT")
        ]
        if fallen:
            first = fallen[0]
            return f"Blocked by {called(first, index)}, which is {look(first.fsm_state).word}."
        if blockers:
            names = ", ".join(called(blocker, index, 40) for blocker in blockers[:3])
            more = f" and {len(blockers) - 3} more" if len(blockers) > 3 else ""  # noqa: PLR2004 - as above
            return f"Waits for {names}{more}."
        return "Ready to run."
    if task.fsm_state == "RUNNING":
        return _why_running(task)
    if task.fsm_state == "CANCELLED":
        history = task.fsm_history
        because = history[-1].extra.get("because") if history else None
        return f"Cancelled: {one_line(because)}." if isinstance(because, str) else ""
    return ""


def _why_running(task: Task) -> str:
    if task.runstate.cancelled:
        return "Asked to stop."
    stepped = stepped_of(task)
    if stepped is None:
        return ""
    return f"In the middle of its steps; the next is: {one_line(stepped.says(), 500)}."


def _injected(task: Task) -> str:
    """Return what will go wrong with the next attempt, in a sentence; "" if nothing will."""
    fault = task.injected
    return "" if fault is None else f"The next attempt {one_line(str(fault))}."


def progress_of(task: Task) -> tuple[float, float] | None:
    """Return how much of a task is done, of how much; None if it told nothing of the kind."""
    reported = task.progressed
    if reported is None:
        return None
    try:
        done, total = (float(number) for number in reported)
    except (TypeError, ValueError, OverflowError):
        return None
    return (done, total) if abs(done) < float("inf") and 0 < total < float("inf") else None


def _result(task: Task) -> dict[str, Any] | None:
    if task.fsm_state != "DONE":
        return None
    try:
        (kind, text), shown = task.look(partial(described_richly, limit=_PREVIEW))
    except Exception:  # noqa: BLE001 - it was invalidated since we looked, or does not come back
        return None
    result = {"type": one_line(kind), "text": clean(text, 2 * _PREVIEW)}
    return result if shown is None else {**result, "rich": _cleaned(shown)}


def _displayed(bundles: Sequence[Mapping[str, Any]]) -> list[Rich]:
    """Return what was displayed besides text, of a lot the last."""
    found: list[Rich] = []
    left = _SHOWN_SIZE
    for bundle in reversed(bundles):
        shown = chosen(bundle)
        if shown is None:
            continue
        left -= len(shown["data"])
        if left < 0 or len(found) == _SHOWN:
            found.append({**_NOTHING, "note": "What was displayed before is left out."})
            break
        found.append(_cleaned(shown))
    return found[::-1]


def _cleaned(shown: Rich) -> Rich:
    data = shown["data"]
    return {**shown, "data": data if shown["kind"] == "image" else clean(data, len(data))}


_NOTHING: Final[Rich] = {"kind": "", "called": "", "data": "", "note": ""}
_WAITING: Final[Rich] = {**_NOTHING, "note": "Its preview is being made …"}
_GIVEN_UP: Final[Rich] = {
    **_NOTHING,
    "note": "Its preview takes too long, and is waited for no more. Display it in a cell.",
}


class Previews:
    """What the result that was looked at last is shown as, until there may be another one."""

    def __init__(self) -> None:
        self._seen: tuple[Any, ...] = ()
        self._found: dict[str, Any] | None = None

    def added(
        self, task: Task, found: dict[str, Any], publish: Callable[[dict[str, Any]], object]
    ) -> dict[str, Any]:
        """Return the details of a task with its result.

        Parameters
        ----------
        task : Task
            Whose details.
        found : dict
            The details without it.
        publish : callable
            Is given the details as far as they are known, if the result may take its time.
        """
        if task.fsm_state != "DONE":
            return found
        key = (weakref.ref(task), len(task._log))
        if key != self._seen:
            value = task._value
            if not is_plain(value):
                kind = "" if isinstance(value, LazyValue) else one_line(type(value).__name__)
                publish({**found, "result": {"type": kind, "text": "", "rich": _WAITING}})
            result = _result(task)
            self._seen, self._found = key, result
        return {**found, "result": self._found}


def given_up(found: dict[str, Any], at: str) -> dict[str, Any]:
    """Return details for a task of which some repr does not come back."""
    if found.get("at") != at:
        why = "Its details take too long: a repr of its arguments does not come back."
        return {"at": at, "label": "", "letter": "", "why": why}
    result = found.get("result")
    if result and result.get("rich") == _WAITING:
        return {**found, "result": {**result, "rich": _GIVEN_UP}}
    return found


def _row(attempt: Attempt) -> dict[str, Any]:
    outcome = attempt.outcome
    started, ended = attempt.started, attempt.ended
    return {
        "number": attempt.number,
        "letter": look(outcome or "RUNNING").letter,
        "started": started,
        "took": None if started is None or ended is None else max(0.0, ended - started),
        "error": "" if attempt.error is None else said(attempt.error),
    }


# -- arguments ------------------------------------------------------------------------------------


def fields_of(task: Task, index: Index) -> list[dict[str, Any]]:
    """Return the form of a task's arguments: those given, then those left at their default."""
    args, kwargs = task.func_args, task.func_kwargs
    parameters = _parameters(task.func)
    places = _places(parameters, len(args))
    hints = _Hints(
        {each.name: each.annotation for each in parameters if each.kind not in _VARIABLE},
        attribute(task.func, "__globals__") or {},
        [_LONG_TEXTS if task.fsm_state in _EDITABLE else 0],
    )
    fields = [
        _field(f"a{i}", name, value, index, hints)
        for i, (name, value) in enumerate(zip(places, args, strict=True))
    ]
    fields += [_field(f"k{name}", name, value, index, hints) for name, value in kwargs.items()]
    fields += [
        {**_field(f"k{name}", name, default, index, hints), "kind": "default"}
        for name, default in _left_out(parameters, args, kwargs)
        if literal_of(default) is not None
    ]
    return fields[:_FIELDS]


def _places(parameters: Sequence[inspect.Parameter], count: int) -> list[str]:
    """Name so many positional arguments after a function's parameters."""
    names: list[str] = []
    for parameter in parameters:
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            names.append(parameter.name)
        elif parameter.kind is parameter.VAR_POSITIONAL:
            names += [f"{parameter.name}[{i}]" for i in range(max(0, count - len(names)))]
    names += [f"[{i}]" for i in range(len(names), count)]
    return names[:count]


def _left_out(
    parameters: Sequence[inspect.Parameter], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> list[tuple[str, Any]]:
    """Return the parameters that could be given by name and are left at their default."""
    named = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)][
        len(args) :
    ]
    named += [p for p in parameters if p.kind is p.KEYWORD_ONLY]
    return [
        (p.name, p.default)
        for p in named
        if p.kind is not p.POSITIONAL_ONLY and p.default is not p.empty and p.name not in kwargs
    ]


class _Hints(NamedTuple):
    """What is written behind the names of parameters, and what names mean there."""

    annotations: Mapping[str, Any]
    names: Mapping[str, Any]
    left: list[int]  # characters that long texts may have in the form


_VARIABLE: Final = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def _field(key: str, name: str, value: object, index: Index, hints: _Hints) -> dict[str, Any]:
    tasks = tasks_among([value])
    field = {"key": key, "name": one_line(name, 60), "text": "", "links": _links(tasks, index)}
    if tasks:
        return {**field, "kind": "task"}
    text = literal_of(value)
    if text is None and type(value) is str and len(value) <= min(_LONG_TEXT, hints.left[0]):
        hints.left[0] -= len(value)
        text = repr(value)
    if text is None or len(text) > LONGEST:
        kept = f"{type(value).__name__} {one_line(preview(value, _KEPT), _KEPT)}"
        return {**field, "kind": "kept", "text": one_line(kept, _KEPT)}
    annotation = hints.annotations.get(name, inspect.Parameter.empty)
    shape = shape_of(annotation, value, hints.names)
    return {**field, "kind": "literal", "text": text, **shape}


def edited_arguments(
    task: Task, edits: Mapping[str, str]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return a task's arguments with some of them replaced by literals that the user wrote.

    Parameters
    ----------
    task : Task
        Whose arguments; they are not changed.
    edits : mapping of str to str
        The key of each edited field of the form, and its text.

    Raises
    ------
    ValueError
        If a text is no literal, or there is no such argument, or a task stands in its place.
    """
    args, kwargs = list(task.func_args), dict(task.func_kwargs)
    by_name = dict(_left_out(_parameters(task.func), args, kwargs))
    places = _places(_parameters(task.func), len(args))
    for key, text in edits.items():
        place, name = key[:1], key[1:]
        if place == "a" and name.isdecimal() and len(name) < 6 and int(name) < len(args):  # noqa: PLR2004 - no list is so long
            number = int(name)
            args[number] = _replaced(args[number], text, places[number])
        elif place == "k" and (name in kwargs or name in by_name):
            kwargs[name] = _replaced(kwargs.get(name), text, name)
        else:
            message = (
                f"{one_line(task.name)} has no argument {one_line(key, 40)!r}; nothing was changed."
            )
            raise ValueError(message)
    return tuple(args), kwargs


def _replaced(old: object, text: str, name: str) -> Any:
    if tasks_among([old]):
        message = f"{one_line(name, 40)}: the result of a task is passed there, and is kept."
        raise ValueError(message)
    return parse(text, one_line(name, 40))
