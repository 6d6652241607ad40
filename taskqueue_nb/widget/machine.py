"""`TaskMachine`, the state machine of one task, shown: where it stands, and what may come next."""

from __future__ import annotations

import itertools
import logging
import os
import sys
import threading
import weakref
from base64 import b64encode
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final

import traitlets as t
from IPython.core.getipython import get_ipython
from IPython.display import display

from taskqueue_nb import palette
from taskqueue_nb.drawing import (
    NoEngine,
    Path,
    diagram_of,
    path_of,
    signed,
    states_of,
    traced_as_svg,
    xml,
)
from taskqueue_nb.fsm import FSM, FSMError, FSMTransitionEvent, TransitionError
from taskqueue_nb.palette import PALETTE, look
from taskqueue_nb.stepping import Stepped, retries_by_itself, stepped_of
from taskqueue_nb.task import Attempt, Task, words_of
from taskqueue_nb.widget import _CELLS, _has_page, _let_clicks_through
from taskqueue_nb.widget.details import one_line, said
from taskqueue_nb.widget.literals import parse
from taskqueue_nb.widget.messages import MACHINE_VERBS, Command, RefusedError, click_of, read
from taskqueue_nb.widget.modules import linked, styles
from taskqueue_nb.widget.pump import PUMP, Mark, Worker
from taskqueue_nb.widget.still import Still
from taskqueue_nb.widget.view import View

__all__ = ["TaskMachine", "machine_of"]

_LOG: Final = logging.getLogger("taskqueue_nb")
_TICK: Final = 0.5  # seconds between two looks at what no transition tells: a blocker, a call
_ROWS: Final = 60  # of the log that are shown
_KEPT: Final = 1_000  # steps of a machine that keeps no history
_ANSWERS: Final = 30
_CLICKS: Final = 4096  # ids of clicks that are known, so that a replay does nothing
_EVENTS: Final = 60  # buttons
_NAME: Final = 60
_STILL_ROWS: Final = 8  # of the log under a still picture
_BY_HAND: Final = "fired by hand"

#: What an event was, for people, where a task has fired it; any other is called by its name.
_SAID: Final[Mapping[str, str]] = {
    "prepared": "prepared",
    "dispatch": "dispatched",
    "queue": "queued",
    "done": "its function has returned",
    "except": "its function has raised",
    "error": "given up as an error",
    "cancel": "cancelled",
    "retry": "retried",
    "abort": "aborted",
    "supply": "a value was supplied",
    "invalidate": "invalidated",
}
#: What a press does, beyond leading to another state.
_DOES: Final[Mapping[str, str]] = {
    "dispatch": "calls its function, in a thread",
    "queue": "hands it to a thread, which dispatches it",
    "retry": "with the dependents that fell with it",
    "invalidate": "with every dependent that is done",
    "supply": "with the value beside this button",
    "abort": "for good: no event leads out of it",
    "error": "as if it could not be run",
}


class _Steps:
    """The steps of a machine: its own history, or, where it keeps none, those that were heard."""

    def __init__(self, fsm: Any, mark: Mark) -> None:
        self._heard: deque[FSMTransitionEvent] | None = None
        if not isinstance(fsm, Task) and not isinstance(fsm.fsm_history, Sequence):
            self._heard = deque(maxlen=_KEPT)
        self._mark = mark

    def __call__(self, _fsm: Any, step: FSMTransitionEvent) -> None:
        """Hear of a step."""
        if self._heard is not None:
            self._heard.append(step)
        self._mark()

    def of(self, fsm: Any) -> list[FSMTransitionEvent]:
        """Return them, oldest first."""
        found: Iterable[Any] = self._heard if self._heard is not None else fsm.fsm_history
        return [step for step in tuple(found) if isinstance(step, FSMTransitionEvent)]


class TaskMachine(View):
    """The live state machine of a task, or of any `FSM`.

    It shows the state diagram with the way that was taken, the events that the state allows as
    buttons that fire them, and a log in words. A task can be taken one transition at a time here,
    and its next attempt be made to fail or to take longer.

    Parameters
    ----------
    fsm : Task or FSM
        What to show.
    **options
        Traits of an ipywidget, such as `layout`.

    Raises
    ------
    TypeError
        If it is no machine.

    Notes
    -----
    As with `TaskGraph`, a view holds no truth of its own, and what the page sends is checked, then
    handed to a thread. Closing it gives up a task that it has left in the middle of its steps.
    """

    _css = palette.css() + styles("graph", "machine")

    core = t.Unicode(linked("machine")).tag(sync=True)  # the view itself, which the loader imports
    heading = t.Unicode().tag(sync=True)
    key = t.Unicode().tag(sync=True)  # how the alternative text of its still picture begins
    note = t.Unicode().tag(sync=True)  # why there is no diagram
    diagram = t.Dict().tag(sync=True)  # numbers and names: sent once
    trace = t.Dict().tag(sync=True)
    events = t.List(t.Dict()).tag(sync=True)
    teach = t.Dict().tag(sync=True)  # the next step, and what was injected; {} for a plain machine
    log = t.List(t.Dict()).tag(sync=True)  # newest first
    answers: t.List[list[Any]] = t.List().tag(sync=True)

    _numbers: Final = itertools.count(1)
    _closed = True  # until it is open: one that could not be made has nothing to close

    def __init__(self, fsm: Any, **options: Any) -> None:
        if not isinstance(fsm, FSM) or not hasattr(fsm, "fsm_state"):
            message = f"a task or another FSM is wanted, not a {type(fsm).__name__}"
            raise TypeError(message)
        self._fsm: Any = fsm
        self._task = fsm if isinstance(fsm, Task) else None
        self._mark = Mark(PUMP.wake)
        self._steps = _Steps(fsm, self._mark)
        self._closing = threading.Lock()
        self._given: deque[list[Any]] = deque(maxlen=_ANSWERS)
        self._clicks: dict[str, None] = {}
        self._clicks_lock = threading.Lock()
        self._nameless = itertools.count(1)
        self._stepping: Attempt | None = None  # what was left in the middle from here
        self._obeyer = Worker("taskqueue_nb click")
        self._caller = Worker("taskqueue_nb step")
        number = next(TaskMachine._numbers)
        key = f"State machine {number}"
        self._still = _Still(fsm, key, self._steps)
        diagram, note = _diagram(fsm)
        super().__init__(
            heading=_title(fsm), key=key, diagram=diagram, note=note, **self._news(), **options
        )
        self._closed = False
        fsm.fsm_callback(FSM.FSM_ANY_STATE, self._steps)
        _CELLS.tell(self._mark)
        _let_clicks_through(self.comm)
        self._inline: Callable[..., object] | None = None
        if not PUMP.add(self, self._mark):  # no threads: each step is shown as it is made
            self._inline = _Inline(self)
            fsm.fsm_callback(FSM.FSM_ANY_STATE, self._inline)
        self._mark()

    @property
    def fsm(self) -> Any:
        """The machine that is shown."""
        return self._fsm

    def __repr__(self) -> str:
        closed = ", closed" if self._closed else ""
        return f"TaskMachine({_title(self._fsm)}{closed})"

    def _ipython_display_(self) -> None:
        _show(self)

    def close(self) -> None:
        """End the view: it hears nothing more, and a task that it has left halfway is cancelled."""
        if self._closed or sys.is_finalizing():  # whose threads may have ended with a lock
            return
        with self._closing:  # only one thread does it
            if self._closed:
                return
            self._closed = True
        fsm = self._fsm
        fsm.fsm_callback_discard(FSM.FSM_ANY_STATE, self._steps)
        if self._inline is not None:
            fsm.fsm_callback_discard(FSM.FSM_ANY_STATE, self._inline)
        PUMP.remove(self._mark)
        with _MACHINES_LOCK:
            if _MACHINES.get(fsm) is self:
                del _MACHINES[fsm]
        self._free()
        self._still.update(final=True)
        super().close()

    def _free(self) -> None:
        """Give up what was left in the middle of its steps from here."""
        attempt, self._stepping = self._stepping, None
        if self._task is not None and attempt is not None and attempt is self._task._attempt:
            with suppress(FSMError):  # it has come to an end meanwhile
                if stepped_of(self._task) is not None:
                    self._task.cancel()

    # -- what is new; only the pump's thread sets traits -------------------------------------------

    def flush(self) -> float | None:
        """Send what is new, in one message. The pump calls this, and nobody else.

        Returns
        -------
        float or None
            After how many seconds to look again even if nothing has changed.
        """
        if self._closed:
            return None
        news = self._news()
        with self.hold_sync():
            for name, value in news.items():
                setattr(self, name, value)
        again = list(self._still.see(running=False))
        if self._task is not None and self._task.fsm_state in ("PENDING", "QUEUED", "RUNNING"):
            again.append(_TICK)
        return min(again, default=None)

    def _news(self) -> dict[str, Any]:
        """Read the truth as it is now, without a lock."""
        fsm, task = self._fsm, self._task
        steps = self._steps.of(fsm)
        return {
            "trace": _trace(path_of(fsm, steps), fsm),
            "events": _buttons(fsm, task),
            "teach": {} if task is None else _teaching(task),
            "log": [_row(fsm, step) for step in _recent(fsm, steps)],
            "answers": list(self._given),
        }

    # -- messages from the page --------------------------------------------------------------------

    def _handle_msg(self, msg: Any) -> None:
        """Take a message from the page, whatever it is: nothing of it is believed."""
        data = msg
        for name in ("content", "data"):
            data = data.get(name) if isinstance(data, dict) else None
        if self._closed or type(data) is not dict:
            return
        if data.get("method") == "custom":
            self._hear(data.get("content"))
        elif data.get("method") == "request_state":
            self.send_state()

    def set_state(self, sync_data: Any) -> None:
        """Take nothing: a page sets no trait of this view."""

    def _hear(self, content: object) -> None:
        """Check a message, then hand it over: whatever thread this is, it must not wait."""
        try:
            command = read(content, 0, MACHINE_VERBS)
        except RefusedError as refusal:
            self._answer(click_of(content), str(refusal), done=False)
            return
        with self._clicks_lock:
            if command.click in self._clicks:
                return  # a replay
            self._clicks[command.click] = None
            if len(self._clicks) > _CLICKS:
                del self._clicks[next(iter(self._clicks))]
        self._obeyer.do(partial(self._obey, command))

    def _answer(self, click: str, sentence: str, *, done: bool) -> None:
        if not click:
            click = f"?{next(self._nameless)}"  # shown by every page: somebody should know
        self._given.append([click, done, sentence])
        self._mark()

    def _obey(self, command: Command) -> None:
        """Do what was clicked, and answer with a sentence."""
        if self._closed:
            return
        try:
            sentence = self._do(command)
        except (FSMError, ValueError, TypeError) as refusal:
            self._answer(command.click, one_line(str(refusal), 600), done=False)
        except Exception as error:  # noqa: BLE001 - whoever clicked is told
            _LOG.exception("a click on %r failed", command.verb)
            self._answer(command.click, f"That failed: {said(error)}", done=False)
        else:
            self._answer(command.click, sentence, done=True)

    def _do(self, command: Command) -> str:
        task = self._task
        if command.verb == "fire":
            if command.event not in _events_of(self._fsm):
                raise RefusedError(f"The machine has no event {one_line(command.event, 40)!r}.")
            if task is None:
                self._fsm.fsm_event(command.event)
                return ""
            return self._fire(task, command)
        if task is None:
            raise RefusedError("This is a machine without a function: it has events alone.")
        if command.verb == "step":
            return self._step(task)
        fault = task.inject(fail=command.fail, slow=command.slow)
        return (
            f"The next attempt {fault}." if fault is not None else "Nothing is injected any more."
        )

    def _fire(self, task: Task, command: Command) -> str:
        """Have a task do what fires an event; the bare event would leave its function out."""
        event = command.event
        if not task.fsm_event_is_allowed(event):
            task.fsm_event(event)  # raises, in the table's own words
        refused = _refused(task, event)
        if refused:
            raise RefusedError(refused)
        stepped = stepped_of(task)
        if event == "dispatch":
            Worker("taskqueue_nb dispatch").do(partial(self._alone, task.dispatch))
        elif event == "queue":
            task.bg()
        elif event in ("done", "except"):
            return self._step(task)
        elif event == "error" and stepped is not None:
            stepped.fire(event, because=_BY_HAND)
        elif event == "cancel":
            task.cancel()
            return "It was asked to stop." if task.fsm_state == "RUNNING" else ""
        elif event == "supply":
            task.supply(parse(command.value, "The value"))
        elif event in ("retry", "invalidate"):
            moved = task.retry() if event == "retry" else task.invalidate()
            return "" if len(moved) == 1 else f"{len(moved)} tasks are pending again."
        else:
            task.fsm_event(event, because=_BY_HAND)
        return ""

    def _step(self, task: Task) -> str:
        """Take a step; the call itself in a thread of its own, so that a cancel can be heard."""
        stepped = stepped_of(task)
        if stepped is None or stepped.due is not None:
            task.step()
            self._stepping = task._attempt
            if self._closed:
                self._free()
        elif stepped.is_calling:
            raise RefusedError("Its function is running; its next step comes then.")
        else:
            self._caller.do(partial(self._alone, task.step))
        return ""

    def _alone(self, work: Callable[[], object]) -> None:
        """Do something that may take long, in a thread that nobody waits for."""
        try:
            work()
        except (KeyboardInterrupt, SystemExit):
            return  # settled; a thread has no caller to tell
        except Exception as refusal:  # noqa: BLE001 - whoever clicked is told
            self._answer("", one_line(str(refusal), 600), done=False)
        finally:
            self._mark()


class _Inline:
    """Flushes a view at each step, where there are no threads (Pyodide)."""

    def __init__(self, widget: TaskMachine) -> None:
        self._widget = weakref.ref(widget)

    def __call__(self, *_: object) -> None:
        widget = self._widget()
        if widget is not None:
            widget.flush()


# -- what the page is told -------------------------------------------------------------------------


def _title(fsm: Any) -> str:
    return one_line(fsm.name, _NAME) if isinstance(fsm, Task) else type(fsm).__name__


def _diagram(fsm: Any) -> tuple[dict[str, Any], str]:
    """Return the diagram as numbers and names, or why there is none."""
    shown = [
        {"name": one_line(state, 40), "sign": signed(one_line(state, 40)), "mark": look(state).mark}
        for state in states_of(fsm)
    ]
    try:
        found = diagram_of(fsm)
    except NoEngine as problem:
        return {"states": shown, "size": [0, 0], "boxes": [], "ways": []}, problem.sentence
    return {
        "states": shown,
        "size": [round(side) for side in found.size],
        "boxes": [[round(number, 1) for number in box] for box in found.boxes],
        "ways": [
            {
                "from": way.start,
                "to": way.end,
                "says": way.says,
                "path": way.curve.path,
                "heads": list(way.curve.heads),
                "at": way.curve.label and [round(number, 1) for number in way.curve.label],
            }
            for way in found.ways
        ],
    }, ""


def _trace(path: Path, fsm: Any) -> dict[str, Any]:
    state = look(fsm.fsm_state)
    glyph = "●" if state.mark == "unknown" else state.glyph  # it is the user's own, and known
    return {
        "current": -1 if path.current is None else path.current,
        "taken": [[*way, count] for way, count in path.taken.items()],
        "last": None if path.last is None else [*path.last],
        "look": {"state": state.state, "word": state.word, "glyph": glyph, "letter": ""},
        "name": one_line(str(fsm.fsm_state), 40),
    }


def _events_of(fsm: Any) -> list[str]:
    """Return all events of a machine, in the order in which its table names them."""
    rows = fsm.FSM_TRANSITIONS.values()
    return list(dict.fromkeys(event for row in rows for event in row))[:_EVENTS]


def _buttons(fsm: Any, task: Task | None) -> list[dict[str, Any]]:
    """Return each event with whether it can be fired now, and what it would do or why it cannot."""
    state = fsm.fsm_state
    row: Mapping[str, str] = fsm.FSM_TRANSITIONS.get(state, {})
    found = []
    for event in _events_of(fsm):
        allowed = event in row
        refused = _refused(task, event) if allowed and task is not None else ""
        if not allowed:
            why = str(TransitionError(fsm._fsm_called(), state, event, tuple(row), fsm))
        elif refused:
            why = refused
        else:
            why = f"{look(state).word} → {look(row[event]).word}"
            more = _does(task, event) if task is not None else ""
            why += f": {more}" if more else ""
        on = allowed and not refused
        found.append({"event": one_line(event, 40), "on": on, "why": one_line(why, 300)})
    return found


def _does(task: Task, event: str) -> str:
    if event == "cancel" and task.fsm_state == "RUNNING":
        return "asks its function to stop" if stepped_of(task) is None else "ends this attempt"
    return "its function has come to that" if event in ("done", "except") else _DOES.get(event, "")


def _refused(task: Task, event: str) -> str:
    """Return why an event that the table allows cannot be fired by hand now; "" if it can."""
    if task.fsm_state == "RUNNING" and event in ("done", "except", "error"):
        return _refused_of_running(stepped_of(task), event)
    if event in ("dispatch", "queue"):
        blocker = next(task.blockers(), None)
        if blocker is not None:
            name, word = one_line(blocker.name, 40), look(blocker.fsm_state).word
            return f"It is blocked by {name}, which is {word}."
    return ""


def _refused_of_running(stepped: Stepped | None, event: str) -> str:
    if stepped is None or stepped.is_calling:
        if event == "error":
            return "Its function is running, and this would not stop it; cancel asks it to stop."
        return "Its function is running: what comes of that fires done or except."
    if event in ("error", stepped.due):
        return ""
    if stepped.outcome is None:
        return "Its function has not been called yet: step once more."
    return f"Its function has come to something else: {one_line(stepped.says(), 200)}."


def _teaching(task: Task) -> dict[str, Any]:
    """Return what the next step is, and what is injected."""
    says, on = _next_step(task)
    fault = task.injected
    return {
        "step": {"on": on, "says": one_line(says, 200)},
        "fail": bool(fault is not None and fault.fail),
        "slow": 0.0 if fault is None else fault.slow,
        "says": "" if fault is None else one_line(str(fault), 100),
        "on": task.fsm_state != "ABORT",
    }


def _next_step(task: Task) -> tuple[str, bool]:
    """Return what a step would do, or why there is none; and whether there is one."""
    stepped = stepped_of(task)
    if stepped is not None:
        return stepped.says(), not stepped.is_calling
    if retries_by_itself(task):
        return "retry: its retries say so", True
    if task.fsm_event_is_allowed("dispatch"):
        refused = _refused(task, "dispatch")
        return refused or "dispatch, without calling its function yet", not refused
    if task.fsm_state == "RUNNING":
        return "its function is running, and not step by step", False
    events = task.fsm_events
    return (f"no step is left; {events[0]} makes it pending" if events else "none is left"), False


def _recent(fsm: Any, steps: list[FSMTransitionEvent]) -> list[tuple[FSMTransitionEvent, str]]:
    """Return the last steps, newest first, each with what an attempt adds to it."""
    recent = steps[-_ROWS:][::-1]
    ends: dict[float, str] = {}
    starts: dict[float, str] = {}
    attempt = fsm._attempt if isinstance(fsm, Task) else None
    for _ in recent:
        if attempt is None:
            break
        if attempt.started is not None:
            injected = "" if attempt.fault is None else f", {attempt.fault}"
            starts[attempt.started] = f"attempt {attempt.number}{injected}"
        if attempt.ended is not None and attempt.error is not None:
            error = attempt.error
            ends[attempt.ended] = error if isinstance(error, str) else words_of(error)
        attempt = attempt._previous
    kinds = {"dispatch": starts, "except": ends}
    return [(step, kinds.get(step.event, {}).get(step.when, "")) for step in recent]


def _row(fsm: Any, told: tuple[FSMTransitionEvent, str]) -> dict[str, Any]:
    """Return one line of the log."""
    step, more = told
    old, new = look(step.old_state), look(step.new_state)
    event = _SAID.get(step.event) if isinstance(fsm, Task) else None
    words = event or one_line(str(step.event), 40)
    because = step.extra.get("because") if isinstance(step.extra, dict) else None
    if isinstance(because, str) and because:
        words += f", because: {because}"
    if more:
        words += f": {more}"
    return {
        "when": step.when,
        "says": one_line(f"{_title(fsm)}: {old.word} → {new.word}, {words}", 300),
        "state": new.mark,
        "glyph": new.glyph if step.new_state in PALETTE else "",
    }


def told(fsm: Any) -> list[str]:
    """Return where a machine stands and its log, oldest first, as lines of text without times.

    Parameters
    ----------
    fsm : Task or FSM
        The machine.

    Examples
    --------
    >>> from taskqueue_nb import Task
    >>> load = Task("load", lambda: 3)
    >>> load.dispatch()
    >>> for line in told(load): print(line)
    State machine of load: done
    load: pending → running, dispatched: attempt 1
    load: running → done, its function has returned
    """
    steps = _Steps(fsm, Mark(int)).of(fsm)
    rows = [_row(fsm, each)["says"] for each in _recent(fsm, steps)]
    return [f"State machine of {_title(fsm)}: {look(fsm.fsm_state).word}", *rows[::-1]]


class _Still(Still):
    """The still picture of a machine, and the end of its log."""

    def __init__(self, fsm: Any, key: str, steps: _Steps) -> None:
        super().__init__(fsm)
        self.key = key
        self._fsm = fsm
        self._steps = steps

    def bundle(self) -> dict[str, str]:
        """Return it, as far as its text alone stays the same."""
        steps = self._steps.of(self._fsm)
        title = f"State machine of {_title(self._fsm)}"
        state = look(self._fsm.fsm_state).word
        svg = traced_as_svg(self._fsm, steps)
        data = b64encode(svg.encode()).decode("ascii")
        rows = [_row(self._fsm, each) for each in _recent(self._fsm, steps)[:_STILL_ROWS]]
        items = "".join(f"<li>{xml(row['says'])}</li>" for row in rows)  # a clock never compares
        html = (
            f'<div class="taskqueue-nb"><p><b>{xml(title)}</b>: {xml(state)}</p>'
            f'<img alt="{xml(f"{self.key}: {title}, {state}")}" '
            'style="max-width: 100%; height: auto" '
            f'src="data:image/svg+xml;base64,{data}"><ol reversed>{items}</ol></div>'
        )
        return {"text/plain": title, "text/html": html}

    def _bundle(self) -> dict[str, str]:
        return self.bundle()


# -- display ---------------------------------------------------------------------------------------

_MACHINES: Final[weakref.WeakKeyDictionary[Any, TaskMachine]] = weakref.WeakKeyDictionary()
_MACHINES_LOCK: Final = threading.RLock()


def machine_of(fsm: Any) -> TaskMachine:
    """Return the live state machine of a task: the same one until it is closed.

    Parameters
    ----------
    fsm : Task or FSM
        Whose.
    """
    with _MACHINES_LOCK:
        widget = _MACHINES.get(fsm)
        if widget is None:
            widget = _MACHINES[fsm] = TaskMachine(fsm)
        return widget


def _show(widget: TaskMachine) -> None:
    """Display a view and, as a second output, its still picture; without a page that alone."""
    is_static = os.environ.get("TASKQUEUE_NB_STATIC", "0") not in ("", "0")
    bundle = None if widget._closed or is_static else widget._repr_mimebundle_()
    if bundle is None or not _has_page():
        if get_ipython() is None:
            print("\n".join(told(widget.fsm)))  # noqa: T201 - this is what is asked for
        else:
            still = {**widget._still.bundle(), "text/plain": "\n".join(told(widget.fsm))}
            display(still, raw=True)  # type: ignore[no-untyped-call]  # IPython has no types here
        return
    data, metadata = bundle if isinstance(bundle, tuple) else (bundle, {})
    display({**data, "text/plain": repr(widget)}, metadata=metadata, raw=True)  # type: ignore[no-untyped-call]  # as above
    widget._still.show()
