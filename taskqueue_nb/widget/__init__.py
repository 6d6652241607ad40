"""`TaskGraph`, the live view of a queue: transitions become traits, clicks become verbs."""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import sys
import threading
import weakref
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from math import inf
from time import monotonic
from typing import Any, Final, NamedTuple
from zlib import crc32

import comm
import traitlets as t
from IPython.core.getipython import get_ipython
from IPython.display import HTML, display

from taskqueue_nb import palette, reprs
from taskqueue_nb.drawing import (
    Box,
    Drawing,
    NoEngine,
    error_name,
    forget_drawing,
    letters,
    look_of,
    name_of,
)
from taskqueue_nb.exports import Exports
from taskqueue_nb.fsm import FSMError
from taskqueue_nb.palette import PALETTE, URGENCY, VICTIM, look
from taskqueue_nb.repair import PlanError, check_tasks
from taskqueue_nb.source import compiled
from taskqueue_nb.task import Task, check_call, defined_now
from taskqueue_nb.taskqueue import TaskQueue
from taskqueue_nb.widget.details import (
    Previews,
    details_of,
    edited_arguments,
    given_up,
    link_to,
    one_line,
    progress_of,
    said,
)
from taskqueue_nb.widget.finding import found
from taskqueue_nb.widget.lens import PLAIN, Lens
from taskqueue_nb.widget.literals import parse
from taskqueue_nb.widget.mending import OF_QUEUE, Mending
from taskqueue_nb.widget.messages import (
    QUEUE_VERBS,
    VIEW_VERBS,
    Command,
    RefusedError,
    click_of,
    read,
)
from taskqueue_nb.widget.modules import linked, styles
from taskqueue_nb.widget.progress import FALLEN, WAITING, Clock, blocked_by
from taskqueue_nb.widget.pump import GAP, PUMP, Mark, Worker
from taskqueue_nb.widget.record import Recorder
from taskqueue_nb.widget.still import Still, plain_text
from taskqueue_nb.widget.table import Order, table
from taskqueue_nb.widget.view import View
from taskqueue_nb.widget.words import Places, called

__all__ = ["TaskGraph", "show", "shown_in_marimo", "widget_of"]

_LOG: Final = logging.getLogger("taskqueue_nb")

_LISTED: Final = 500  # tasks in the list that stands for a drawing, where there is no engine
_FIRST_LAYOUT: Final = 0.25  # seconds that the cell waits for the first layout at most
_LAYOUT_GAP: Final = 1.0  # seconds between two layouts
_UNFOLD_GAP: Final = 5.0  # the same, if it is only because a folded task runs: the boxes move
_TICK: Final = 1.0  # seconds between two looks at a run in which nothing happens
_LOOK_GAP: Final = 0.4  # seconds between two looks at a selected task that stays in its state
_MEND_GAP: Final = 0.2  # seconds between two looks at what is to be mended
_STALE_GAP: Final = 1.0  # the same, at what is out of date
_RUN_GAP: Final = 1.0  # the same while a run goes on
_TABLE_GAP: Final = 0.5  # seconds between two tables that nobody asked for
_MANY: Final = 5_000  # tasks from which on plans are shown after the rest of the details
_REST: Final = 10  # a look of s seconds is followed by so many times s without one
_STUCK: Final = 3.0  # seconds after which a look is given up: some foreign repr hangs
_ANSWERS: Final = 30  # the last ones, so that a late one is not lost
_CLICKS: Final = 4096  # ids of clicks that are known, so that a replay does nothing
_MEMBERS: Final = 100  # of a selected group that are listed
LONGEST_CELL: Final = 400_000  # characters of a call as a cell


class _Laid(NamedTuple):
    """The drawing of one structure, or why there is none."""

    structure: int
    lens: Lens
    tasks: tuple[Task, ...]
    places: Mapping[Task, int]
    drawing: Drawing | None
    boxes: tuple[Box, ...]
    fallen: frozenset[Task]
    note: str


class TaskGraph(Exports, View):
    """The live view of a queue: its graph, its run, and what can be done about a failure.

    Parameters
    ----------
    queue_or_tasks : TaskQueue, Task or iterable of Task
        What to show. Of a single task, all that it requires is shown too.
    **options
        Traits of an ipywidget, such as `layout`.

    Raises
    ------
    TypeError
        If it is none of these.

    Notes
    -----
    A view holds no truth of its own: it looks at the queue at most 20 times a second, however many
    transitions there were. What the page sends is checked, then handed to a thread; the cell never
    waits for the page, nor the page for the cell.
    """

    _css = palette.css() + styles("graph", "details", "record")

    core = t.Unicode(linked("graph")).tag(sync=True)  # the view itself, which the loader imports
    svg = t.Unicode().tag(sync=True)  # the drawing, without states: sent once per structure
    boxes = t.List(t.Dict()).tag(sync=True)
    states = t.Unicode().tag(sync=True)  # one letter per box: the whole picture, idempotent
    says = t.Dict().tag(sync=True)  # what stands in a box in place of its state's word
    counts = t.Dict().tag(sync=True)
    progress = t.Dict().tag(sync=True)
    details = t.Dict().tag(sync=True)
    mending = t.Dict().tag(sync=True)  # what can be undone, what Retry all failed would do, causes
    answers: t.List[list[Any]] = t.List().tag(sync=True)
    looks = t.List(t.Dict()).tag(sync=True)
    heading = t.Unicode().tag(sync=True)
    key = t.Unicode().tag(sync=True)  # how the alternative text of its still picture begins
    note = t.Unicode().tag(sync=True)
    selected = t.Unicode().tag(sync=True)
    lens = t.Dict().tag(sync=True)  # how much of the queue the drawing shows
    table = t.Dict().tag(sync=True)  # a page of the tasks as a table, while somebody looks at it
    finds = t.Dict().tag(sync=True)  # the tasks whose names match what somebody types
    parts = t.Dict().tag(sync=True)  # modules of the page that come after the first picture

    _numbers: Final = itertools.count(1)
    _parts: tuple[str, ...] = ()  # that a page wants
    _cell: tuple[Task | None, list[Any]] = (None, [0, ""])  # the last that was asked for, numbered
    _lens = PLAIN
    _at = ""  # what is selected
    _sought = ""
    _order: Order | None = None  # of the table that a page wants
    _table: dict[str, Any] = {}  # noqa: RUF012 - as below
    _table_seen: tuple[Any, ...] = ()
    _table_next = 0.0  # when to look again at the earliest
    _table_looks = False
    _named: tuple[Task, ...] = ()
    _names: Sequence[str] = ()  # of these
    _finds: dict[str, Any] = {"text": "", "hits": [], "total": 0}  # noqa: RUF012 - replaced, never changed
    _closed = True  # until it is open: one that could not be made has nothing to close

    def __init__(self, queue_or_tasks: TaskQueue | Task | Iterable[Task], **options: Any) -> None:
        self._queue = _queue_of(queue_or_tasks)
        self._mark = Mark(PUMP.wake)
        self._closing = threading.Lock()
        self._laid: _Laid | None = None
        self._laying = False
        self._laid_at = -_LAYOUT_GAP
        self._given: deque[list[Any]] = deque(maxlen=_ANSWERS)
        self._clicks: dict[str, None] = {}
        self._clicks_lock = threading.Lock()
        self._nameless = itertools.count(1)
        self._found: dict[str, Any] = {}
        self._seen: tuple[Any, ...] = ()
        self._seen_at = 0.0
        self._looking = False
        self._look_gap = _LOOK_GAP
        self._previews, self._mending = Previews(), Mending(self._queue)
        self._mended: dict[str, Any] = {
            "undo": "",
            "retry": {"says": "", "plan": ""},
            "refresh": {"says": "", "plan": ""},
            "causes": "",
            "at": [],
        }
        self._stale_seen: tuple[Any, ...] = ()
        self._stale_next = 0.0  # when to look again at the earliest
        self._stale_known = 0  # how often a look for what is out of date brought news
        self._stale_looks = False
        self._mend_seen: tuple[Any, ...] = ()
        self._mend_at = -_RUN_GAP  # when the last look began, and how long not to look after it
        self._mend_gap = 0.0
        self._mending_looks = False
        self._clock = Clock()
        self._recorder = Recorder(self._queue, self._mark, _CELLS.idle_since, _at_of)
        self._still = Still(self._queue)
        self._layouter = Worker("taskqueue_nb layout")
        self._obeyer = Worker("taskqueue_nb click")
        self._runner = Worker("taskqueue_nb start")
        self._looker = Worker("taskqueue_nb details")
        self._planner = Worker("taskqueue_nb plans")
        self._staler = Worker("taskqueue_nb stale")
        self._finder = Worker("taskqueue_nb find")
        self._tabler = Worker("taskqueue_nb table")

        first = threading.Event()
        self._layouter.do(partial(self._lay_out, first))
        first.wait(_FIRST_LAYOUT)
        number = next(TaskGraph._numbers)
        self._still.key = f"Task graph {number}"
        super().__init__(
            looks=_looks(),
            heading=_heading(self._queue),
            key=self._still.key,
            **self._news(),
            **options,
        )
        self._closed = False
        _CELLS.tell(self._mark)
        _let_clicks_through(self.comm)
        if PUMP.add(self, self._mark):
            self._stop_listening = self._queue.on_change(self._mark)
        else:
            self._stop_listening = self._queue.on_change(_Inline(self))
        self._mark()

    @property
    def queue(self) -> TaskQueue:
        """The queue that is shown."""
        return self._queue

    def _exported(self) -> TaskQueue:
        return self._queue

    def __repr__(self) -> str:
        name = "" if self._queue.name is None else f"{one_line(self._queue.name)!r}, "
        count = len(self._queue)
        closed = ", closed" if self._closed else ""
        return f"TaskGraph({name}{count} task{'' if count == 1 else 's'}{closed})"

    def _ipython_display_(self) -> None:
        _show(self)

    def close(self) -> None:
        """End the view: it stops listening, its pages are cleared, and nothing is done any more."""
        if self._closed or sys.is_finalizing():  # whose threads may have ended with a lock
            return
        with self._closing:  # only one thread does it
            if self._closed:
                return
            self._closed = True
        self._stop_listening()
        self._recorder.close()
        PUMP.remove(self._mark)
        with _WIDGETS_LOCK:
            if _WIDGETS.get(self._queue) is self:
                del _WIDGETS[self._queue]
        self._still.update(final=True)
        super().close()

    @property
    def _cut_off(self) -> bool:
        """Whether its page is gone for good: marimo closes the channel when a cell is run again."""
        return not self._closed and getattr(self.comm, "_closed", False)

    # -- what is new; only the pump's thread sets traits, so that no two of them meet ------------

    def flush(self) -> float | None:
        """Send what is new, in one message. The pump calls this, and nobody else.

        Returns
        -------
        float or None
            After how many seconds to look again even if nothing has changed.
        """
        if self._cut_off:
            self.close()
        if self._closed:
            return None
        again = [_TICK] if self._queue.running else []
        again += self._see_structure()
        again += self._see_selected()
        news = self._news()
        again += self._see_what_to_mend(news["counts"])
        again += self._see_stale(news["counts"])
        again += self._see_table(news["counts"])
        self._want("details")  # goes with the next message: not every kernel hears a click at once
        with self.hold_sync():
            for name, value in news.items():
                setattr(self, name, value)
        again += self._recorder.see(self._laid, self.send)
        again += self._still.see(running=self._queue.running)
        return min(again, default=None)

    def _news(self) -> dict[str, Any]:
        """Read the truth as it is now, without a lock."""
        queue, laid = self._queue, self._laid
        counts = queue.counts()
        news: dict[str, Any] = {
            "counts": counts,
            "progress": self._clock.progress(queue, counts),
            "details": self._found,
            "mending": self._mended,
            "answers": list(self._given),
            "selected": self._at,
            "parts": {name: linked(name) for name in self._parts},
            "finds": self._finds,
            "table": self._table,
        }
        if laid is None:
            return {**news, "note": f"Laying out {len(queue):,} tasks …"}
        return {**news, **_picture(laid, self._mending.is_stale)}

    def _want(self, part: str) -> None:
        """Have a module sent to the page, once."""
        if part not in self._parts:
            self._parts += (part,)
            self._mark()

    # -- layout ------------------------------------------------------------------------------------

    def _see_structure(self) -> list[float]:
        """Have the graph laid out if it has changed, at most once a second."""
        laid = self._laid
        if self._laying:
            return []
        gap = _LAYOUT_GAP
        if laid is not None and laid.lens != self._lens:
            gap = 0.0  # somebody waits for it
        elif laid is not None and laid.structure == self._queue.structure:
            if laid.drawing is None or not laid.drawing.outdated():
                return []
            if not _hides_failure(laid):
                gap = _UNFOLD_GAP
        wait = self._laid_at + gap - monotonic()
        if wait > 0:
            return [wait]
        self._laying = True
        self._layouter.do(self._lay_out)
        return []

    def _lay_out(self, done: threading.Event | None = None) -> None:
        """Make the drawing of the present structure."""
        try:
            before = self._laid
            keep = before.drawing.own if before is not None and before.drawing is not None else ()
            self._laid = _lay_out(self._queue, self._lens, keep)
        finally:
            self._laid_at = monotonic()
            self._laying = False
            if done is not None:
                done.set()
            self._mark()

    # -- the selected task -------------------------------------------------------------------------

    def _see_selected(self) -> list[float]:
        """Have the details of the selected task looked up if they may have changed."""
        laid, at = self._laid, self._at
        if not at or laid is None:
            return []
        stuck = self._looker.busy_for() > _STUCK
        if self._looking and not stuck:
            return [_STUCK]
        task = _task_at(at, laid)
        now = monotonic()
        seen: tuple[Any, ...] = (at, laid.structure)
        if task is not None:
            attempts = len(task.attempts)
            seen = (*seen, task.fsm_state, attempts, id(task.func_args), task.func)
        if stuck and seen == self._seen:
            self._found = given_up(self._found, at)  # one thread hangs there, and that is enough
            return []
        wait = self._seen_at + self._look_gap - now
        if seen == self._seen and wait > 0:
            return [wait]  # what has changed since is looked at then
        if stuck:
            self._looker = Worker("taskqueue_nb details")
        self._seen, self._seen_at, self._looking = seen, now, True
        self._looker.do(partial(self._look, at, laid))
        return []

    def _look(self, at: str, laid: _Laid) -> None:
        """Read everything about the selected task; in a thread of its own, for a repr may hang."""
        began = monotonic()
        try:
            task = _task_at(at, laid)
            if task is None:
                found = _group(at, laid)
            else:
                found = details_of(task, at, laid.places, result=False)
                if len(laid.tasks) > _MANY and self._found.get("at") != at:
                    self._publish(at, found)  # before the plans, which take a moment there
                found = self._mending.of_task(task, laid.places[task], found)
                found["cell"] = self._cell[1] if self._cell[0] is task else None
                found = self._previews.added(task, found, partial(self._publish, at))
        except Exception:  # noqa: BLE001 - foreign reprs are read here
            _LOG.exception("the details of a task could not be read")
            found = {"at": at, "label": "", "letter": "", "why": "Its details could not be read."}
        finally:
            self._look_gap = max(_LOOK_GAP, _REST * (monotonic() - began))
            self._looking = False
        self._publish(at, found)

    def _publish(self, at: str, found: dict[str, Any]) -> None:
        if at == self._at and found != self._found:
            self._found = found
            self._mark()

    # -- what is to be mended ----------------------------------------------------------------------

    def _see_what_to_mend(self, counts: Mapping[str, int]) -> list[float]:
        """Have plans and causes looked up if they may have changed."""
        queue, laid = self._queue, self._laid
        if laid is None or self._mending_looks:
            return []
        deeds = queue.deeds
        last = (len(deeds), sum(deed.undone for deed in deeds[-1:]), queue.undoable)
        seen = (laid.structure, tuple(counts.items()), queue.running, last, self._stale_known)
        if seen == self._mend_seen:
            return []
        gap = max(_RUN_GAP if queue.running else _MEND_GAP, self._mend_gap)
        wait = self._mend_at + gap - monotonic()
        if wait > 0:
            return [wait]
        self._mend_seen, self._mend_at, self._mending_looks = seen, monotonic(), True
        self._planner.do(partial(self._look_what_to_mend, laid))
        return []

    def _look_what_to_mend(self, laid: _Laid) -> None:
        began = monotonic()
        try:
            found = self._mending.toolbar(laid.places)
        finally:
            self._mend_gap = _REST * (monotonic() - began)
            self._mending_looks = False
        if found != self._mended:
            self._mended, self._seen = found, ()  # the details say the cause, too
            self._mark()

    # -- what is out of date -----------------------------------------------------------------------

    def _see_stale(self, counts: Mapping[str, int]) -> list[float]:
        """Have what is out of date looked up if it may have changed, and nothing runs."""
        queue = self._queue
        if self._stale_looks or queue.running or not counts.keys() & {"DONE", *FALLEN}:
            return []
        seen = (queue.structure, tuple(counts.items()), len(queue.deeds), self._at, _CELLS.run)
        if seen == self._stale_seen:
            return []
        wait = self._stale_next - monotonic()
        if wait > 0:
            return [wait]
        self._stale_seen, self._stale_looks = seen, True
        self._staler.do(partial(_look_for_stale, self._mending, weakref.ref(self)))
        return []

    def _stale_is_known(self, *, news: bool, took: float) -> None:
        self._stale_next = monotonic() + max(_STALE_GAP, _REST * took)
        self._stale_looks = False
        if news:
            self._stale_known += 1
            self._seen = ()  # the details say why
            self._mark()

    # -- the table ---------------------------------------------------------------------------------

    def _see_table(self, counts: Mapping[str, int]) -> list[float]:
        """Have a page of the table made if somebody looks at it and it may have changed."""
        order, laid = self._order, self._laid
        if order is None or laid is None or self._table_looks:
            return []
        seen = (order, laid.structure, tuple(counts.items()), self._queue.running)
        if seen == self._table_seen:
            return []
        wait = self._table_next - monotonic()
        if wait > 0:
            return [wait]
        self._table_seen, self._table_looks = seen, True
        self._tabler.do(partial(self._look_table, order, laid))
        return []

    def _look_table(self, order: Order, laid: _Laid) -> None:
        began = monotonic()
        try:
            self._table = table(laid.tasks, laid.places, order)
        finally:
            self._table_next = monotonic() + max(_TABLE_GAP, _REST * (monotonic() - began))
            self._table_looks = False
        self._mark()

    # -- messages from the page --------------------------------------------------------------------

    def _handle_msg(self, msg: Any) -> None:
        """Take a message from the page, whatever it is: nothing of it is believed."""
        data = _at_path(msg, "content", "data")
        if self._closed or type(data) is not dict:
            return
        method = data.get("method")
        if method == "custom":
            self._hear(data.get("content"))
        elif method == "update":
            self.set_state(data.get("state"))
        elif method == "request_state":
            self.send_state()

    def set_state(self, sync_data: Any) -> None:
        """Take what a page wants to set: which task is selected, and nothing else."""
        if self._closed or type(sync_data) is not dict:
            return
        if "selected" in sync_data:
            self._hear({"verb": "look", "at": sync_data["selected"]})

    def _hear(self, content: object) -> None:
        """Check a message, then hand it over: whatever thread this is, it must not wait."""
        try:
            command = read(content, len(self._queue))
        except RefusedError as refusal:
            self._answer(click_of(content), str(refusal), done=False)
            return
        if command.verb in VIEW_VERBS:
            self._show(command)
            return
        with self._clicks_lock:
            if command.click in self._clicks:
                return  # a replay
            self._clicks[command.click] = None
            if len(self._clicks) > _CLICKS:
                del self._clicks[next(iter(self._clicks))]
        self._obeyer.do(partial(self._obey, command))

    def _show(self, command: Command) -> None:
        """Show something else of the queue; nothing is done to its tasks."""
        verb, at, laid = command.verb, command.at, self._laid
        if verb == "part":
            self._want(at)
        elif verb == "record":
            self._recorder.hear(command)
        elif verb == "table":
            start = max(0, command.start)
            order = Order(at, command.down, start, command.value, command.states)
            self._order = order if at else None
            self._table_seen, self._table_next = (), 0.0
            self._mark()
        elif verb == "find":
            self._sought = command.value
            self._finder.do(partial(self._find, command.value))
        elif verb == "around" and not at:
            self._look_through(self._lens.around(()))
        elif verb == "fold" and not at:
            forget_drawing(self._queue)
            self._look_through(self._lens.reset())
        elif verb == "look" and not at:
            self._at, self._seen = "", ()
            self._mark()
        elif laid is not None and _is_place(at, laid):
            if verb == "look":
                self._at, self._seen = at, ()
                self._mark()
            self._look_through(_seen_through(self._lens, verb, at, laid))

    def _look_through(self, lens: Lens) -> None:
        if lens != self._lens:
            self._lens = lens
            self._mark()

    def _find(self, text: str) -> None:
        """Look for tasks by their names; only the last text counts."""
        laid = self._laid
        if text != self._sought or laid is None:
            return
        if self._named != laid.tasks:
            self._named = laid.tasks
            self._names = [called(task, laid.places) for task in laid.tasks]
        places, total = found(text, self._names)
        hits = [link_to(laid.tasks[place], laid.places) for place in places]
        self._finds = {"text": text, "hits": hits, "total": total}
        self._mark()

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
        except SyntaxError as error:
            self._answer(command.click, _where(error), done=False)
        except (FSMError, ValueError, TypeError) as refusal:
            self._answer(command.click, one_line(str(refusal), 600), done=False)
        except Exception as error:  # noqa: BLE001 - whoever clicked is told
            _LOG.exception("a click on %r failed", command.verb)
            self._answer(command.click, f"That failed: {said(error)}", done=False)
        else:
            self._answer(command.click, sentence, done=True)

    def _do(self, command: Command) -> str:
        if command.verb in QUEUE_VERBS:
            return self._do_to_queue(command)
        task = self._queue.tasks[command.task]
        if command.verb == "cell":
            return self._write_cell(task)
        # a run of the notebook's own takes up what is pending by itself
        run = command.run and not (self._queue.running and self._queue.wait(0))
        moved = self._do_to_task(command, task, run=run)
        if command.verb == "cancel":
            stops = "was asked to stop" if task.fsm_state == "RUNNING" else "is cancelled"
            return f"{one_line(task.name)} {stops}."
        if command.run:
            return ""  # the picture says the rest
        if command.verb == "repair" and not moved:
            return "The arguments are changed."
        return _pending_again(moved)

    def _write_cell(self, task: Task) -> str:
        """Have the last call of a task, as a cell, go with its details: an answer is a sentence."""
        text = task.snippet()
        if len(text) > LONGEST_CELL:
            raise RefusedError(f"The cell would have {len(text):,} characters, too many to copy.")
        self._cell = (task, [self._cell[1][0] + 1, text])
        self._seen = ()
        return ""

    def _do_to_task(self, command: Command, task: Task, *, run: bool) -> tuple[Task, ...]:  # noqa: PLR0911 - one for each verb
        queue = self._queue
        if command.plan:
            return self._apply(command, command.task, run=run)
        if command.verb == "cancel":
            return queue.cancel(task)
        if command.verb == "rerun":
            return queue.invalidate(task, then_run=run)
        if command.verb == "supply":
            return queue.supply(task, parse(command.value), then_run=run)
        if command.verb == "retry":
            return queue.retry(task, then_run=run)
        if command.verb == "retry_cause":
            found = self._mending.cause_of(task)
            return queue.retry(*([task] if found is None else found[1].tasks), then_run=run)
        return self._repair(command, task, run=run)

    def _apply(self, command: Command, number: int, *, run: bool) -> tuple[Task, ...]:
        """Do exactly what the button said that was clicked."""
        try:
            return self._mending.take(command.plan, command.verb, number).apply(then_run=run)
        except (PlanError, RefusedError):
            self._seen = self._mend_seen = ()  # a new plan is shown
            raise

    def _repair(self, command: Command, task: Task, *, run: bool) -> tuple[Task, ...]:
        """Give a task edited arguments or code: the one place where a text of the page is run."""
        source = None if command.source in (None, task.source) else command.source
        if source is None and not command.edits:
            raise RefusedError("Neither an argument nor the source was changed.")
        args = kwargs = None
        if command.edits:
            args, kwargs = edited_arguments(task, command.edits)
        if task.fsm_state == "DONE":
            return self._repair_done(task, source, args, kwargs, run=run)
        if source is None:
            return self._queue.repair(task, args=args, kwargs=kwargs, then_run=run)
        return self._queue.edit(task, source, args, kwargs, then_run=run)

    def _repair_done(
        self, task: Task, source: str | None, args: Any, kwargs: Any, *, run: bool
    ) -> tuple[Task, ...]:
        """Invalidate a task, then edit it; whatever speaks against the edit is found before."""
        queue = self._queue
        if queue.running:
            raise RefusedError("The queue is running, and would take the task before it is edited.")
        func = task.func if source is None else compiled(source, defined_now(task.func))
        if func is not None:
            check_call(
                func,
                task.func_args if args is None else args,
                task.func_kwargs if kwargs is None else kwargs,
            )
        queue.invalidate(task)
        try:
            return queue.repair(task, func, args, kwargs, then_run=run)
        except Exception:
            queue.undo()
            raise

    def _do_to_queue(self, command: Command) -> str:
        queue, verb = self._queue, command.verb
        if verb in ("run", "step"):
            if queue.running:
                raise RefusedError("The queue is running already.")
            self._refuse_if_stuck()
            self._runner.do(self._step if verb == "step" else queue.start)
        elif verb == "hold":
            queue.hold()
        elif verb == "resume":
            queue.resume()
        elif verb == "stop":
            queue.stop()
            if queue.running:
                return "What runs now is finished; nothing more is started."
        else:
            return self._mend_queue(command)
        return ""

    def _mend_queue(self, command: Command) -> str:
        queue = self._queue
        if command.verb == "undo":
            undone = queue.undoable
            queue.undo()
            return f"Undone: {one_line(undone, 200)}."
        run = command.verb == "refresh"
        if command.plan:
            moved = self._apply(command, OF_QUEUE, run=run)
        else:
            moved = queue.refresh().apply(then_run=run) if run else queue.retry()
        if not moved:
            raise RefusedError("Nothing is out of date." if run else "No task has failed.")
        return "" if run else _pending_again(moved)

    def _refuse_if_stuck(self) -> None:
        """Say why nothing would happen."""
        counts = self._queue.counts()
        if not any(counts.get(state) for state in WAITING):
            raise RefusedError("There is nothing to run: no task is pending.")
        blocked, causes = blocked_by(self._queue)
        if causes and blocked >= sum(counts.get(state, 0) for state in WAITING):
            first = causes[0]
            raise RefusedError(
                f"Nothing can run: {one_line(first.name)} is {look(first.fsm_state).word} and "
                f"blocks {'what is pending' if len(causes) == 1 else 'others'}. Repair it first."
            )

    def _step(self) -> None:
        try:
            if self._queue.step() is None:
                self._answer("", "No task is ready.", done=False)
        except Exception as error:  # noqa: BLE001 - whoever clicked is told
            _LOG.exception("a step failed")
            self._answer("", f"The step failed: {said(error)}", done=False)


# -- parts ----------------------------------------------------------------------------------------


def _where(error: SyntaxError) -> str:
    """Return what is wrong with an edited source, with its line."""
    line = one_line((error.text or "").strip(), 200)
    return f"Line {error.lineno}: {one_line(error.msg, 300)}: {line}. Nothing was changed."


def _look_for_stale(mending: Mending, view: weakref.ref[TaskGraph]) -> None:
    """Compare calls with what they were; it takes a while, and keeps no view that is closed."""
    began, news = monotonic(), False
    try:
        news = mending.look_for_stale()
    finally:
        widget = view()
        if widget is not None:
            widget._stale_is_known(news=news, took=monotonic() - began)


def _pending_again(moved: Iterable[Task]) -> str:
    again = sum(each.fsm_state == "PENDING" for each in moved)
    return f"{again} task{' is' if again == 1 else 's are'} pending again." if again else ""


class _Inline:
    """Flushes a view from its queue's own callbacks, where there are no threads (Pyodide)."""

    def __init__(self, widget: TaskGraph) -> None:
        self._widget = weakref.ref(widget)
        self._next = 0.0
        self._due = False
        self._flushing = False

    def __call__(self) -> None:
        widget = self._widget()
        if widget is None or self._due or self._flushing:
            return
        wait = self._next - monotonic()
        if wait <= 0 or not widget.queue.running:
            self._flush()
            return
        try:
            asyncio.get_running_loop().call_later(wait, self._flush)
        except RuntimeError:  # no loop: the next change after the gap, or the run's end, flushes
            return
        self._due = True

    def _flush(self) -> None:
        self._due = False
        widget = self._widget()
        if widget is None:
            return
        self._flushing = True  # setting a trait may call back
        try:
            widget.flush()
        except Exception:  # noqa: BLE001 - a picture that fails must not fail the run
            _LOG.exception("the live view of a queue could not be brought up to date")
        finally:
            self._flushing = False
            self._next = monotonic() + GAP


def _queue_of(queue_or_tasks: Any) -> TaskQueue:
    if isinstance(queue_or_tasks, TaskQueue):
        return queue_or_tasks
    if isinstance(queue_or_tasks, Task):
        return TaskQueue.of(queue_or_tasks)
    if isinstance(queue_or_tasks, Iterable) and not isinstance(queue_or_tasks, (str, bytes)):
        tasks = tuple(queue_or_tasks)
        check_tasks(tasks)
        return TaskQueue(*tasks)
    message = f"a TaskQueue, a task or tasks are wanted, not a {type(queue_or_tasks).__name__}"
    raise TypeError(message)


def _heading(queue: TaskQueue) -> str:
    return one_line(queue.name or f"{len(queue)} tasks")


def _looks() -> list[dict[str, Any]]:
    """Return how the states look: the trait of the same name."""
    known: list[dict[str, Any]] = [
        {"state": state, "letter": each.letter, "word": each.word, "glyph": each.glyph}
        for state, each in (*PALETTE.items(), ("unknown", look(None)), (VICTIM.state, VICTIM))
    ]
    known[-1]["victim"] = True
    return known


def _lay_out(queue: TaskQueue, lens: Lens = PLAIN, keep: Collection[Task] = ()) -> _Laid:
    """Make the drawing of a queue's present structure; `keep` had boxes of their own before."""
    structure = queue.structure  # before the rest: a later change is seen
    drawing, note = None, ""
    try:
        drawing = lens.drawing(queue, keep)
    except NoEngine as error:
        note = error.sentence
    except Exception as error:  # noqa: BLE001 - shown in its place; the run goes on
        _LOG.exception("the graph of a queue could not be laid out")
        note = f"The graph could not be laid out: {one_line(type(error).__name__)}."
    tasks = queue.tasks
    places = Places(tasks)
    fallen = frozenset(task for task in tasks if task.fsm_state in FALLEN)
    if drawing is None:  # the page lists the tasks then
        boxes = tuple(
            Box(f"t{i}", name_of(task), (task,), None) for i, task in enumerate(tasks[:_LISTED])
        )
    else:
        boxes = drawing.boxes
        note = "" if boxes else "There are no tasks yet."
    return _Laid(structure, lens, tasks, places, drawing, boxes, fallen, note)


def _picture(laid: _Laid, is_stale: Callable[[Task], bool]) -> dict[str, Any]:
    """Return the traits that a drawing is shown by, with the states as they are now."""
    news: dict[str, Any] = {"note": laid.note, "boxes": _boxes(laid), "lens": _through(laid)}
    if laid.drawing is None:
        news["states"] = "".join(look_of(box.tasks[0]).letter for box in laid.boxes)
    else:
        news["states"] = letters(laid.drawing)
        news["svg"] = laid.drawing.svg
        news["says"] = _says(laid, is_stale)
    return news


def _boxes(laid: _Laid) -> list[dict[str, Any]]:
    return [
        {
            "at": _at_of(box, laid),
            "label": one_line(box.label),
            "call": called(box.tasks[0], laid.places) if box.key is None else "",
            "size": len(box.tasks),
            "of": _group_at(box.of) if box.of else "",
        }
        for box in laid.boxes
    ]


def _through(laid: _Laid) -> dict[str, Any]:
    """Say how much of the queue a drawing shows."""
    seen = sum(len(box.tasks) for box in laid.boxes)
    around = one_line(laid.lens.centre[0].name) if laid.lens.centre else ""
    return {
        "around": around,
        "seen": seen,
        "total": len(laid.tasks),
        "plain": laid.lens.is_plain and not (laid.drawing and laid.drawing.is_kept),
        "turn": laid.lens.turn,
    }


def _seen_through(lens: Lens, verb: str, at: str, laid: _Laid) -> Lens:
    """Return what is wanted of the picture after a verb at a place."""
    task = _task_at(at, laid)
    box = next((box for box in laid.boxes if _at_of(box, laid) == at), None)
    if verb == "look":  # what is folded away comes out
        return lens.showing(task) if task is not None and box is None and laid.drawing else lens
    if verb == "around":
        return lens.around(box.tasks if box is not None else () if task is None else (task,))
    if box is None:
        return lens
    if verb == "unfold":
        return lens if box.key is None else lens.opened(box.key)
    beside = [other.tasks[0] for other in laid.boxes if other.of == box.of]
    return lens.shut(box.of, beside) if box.of else lens


def _says(laid: _Laid, is_stale: Callable[[Task], bool]) -> dict[str, str]:
    """Return what some boxes say beside their state: counts of a group, an error, a progress."""
    says = {}
    for i, box in enumerate(laid.boxes):
        if box.key is not None:
            counts = Counter(task.fsm_state for task in box.tasks)
            parts = [f"{counts[state]:,} {look(state).word}" for state in URGENCY if counts[state]]
            stale = sum(task.fsm_state == "DONE" and is_stale(task) for task in box.tasks)
            parts += [f"{stale:,} stale"] if stale else []
            says[str(i)] = " · ".join(parts)
            continue
        (task,) = box.tasks
        state = task.fsm_state
        if state == "FAILED" and (error := task.exception) is not None:
            says[str(i)] = f"{look(state).word}: {error_name(error)}"
        elif state == "DONE" and is_stale(task):
            says[str(i)] = f"{look(state).word}, stale"
        elif state == "RUNNING" and (progressed := progress_of(task)) is not None:
            done, total = progressed
            says[str(i)] = f"{look(state).word} {min(max(done / total, 0.0), 1.0):.0%}"
    return says


def _at_of(box: Box, laid: _Laid) -> str:
    """Return how the page calls what a box stands for; it stays so when the graph grows."""
    if box.key is None:
        return str(laid.places[box.tasks[0]])
    return _group_at(box.key)


def _group_at(key: str) -> str:
    return f"group {crc32(key.encode(errors='surrogatepass')):08x}"


def _hides_failure(laid: _Laid) -> bool:
    """Say whether a task has failed inside a group since that was folded."""
    return any(
        task.fsm_state == "FAILED" and task not in laid.fallen
        for box in laid.boxes
        if box.key is not None
        for task in box.tasks
    )


def _is_place(at: str, laid: _Laid | None) -> bool:
    if laid is None:
        return False
    return _task_at(at, laid) is not None or any(_at_of(box, laid) == at for box in laid.boxes)


def _task_at(at: str, laid: _Laid) -> Task | None:
    if at.isdecimal() and at.isascii() and len(at) < 10 and int(at) < len(laid.tasks):  # noqa: PLR2004 - no queue is so long
        return laid.tasks[int(at)]
    return None


def _group(at: str, laid: _Laid) -> dict[str, Any]:
    """Return the details of a group: its tasks, those that need a look first."""
    box = next((box for box in laid.boxes if _at_of(box, laid) == at), None)
    if box is None:
        return {"at": at, "label": "", "letter": "", "why": "This group is no longer there."}
    urgency = {state: number for number, state in enumerate(URGENCY)}
    tasks = sorted(box.tasks, key=lambda task: urgency.get(task.fsm_state, len(urgency)))
    return {
        "at": at,
        "label": one_line(box.label),
        "letter": look(tasks[0].fsm_state).letter,
        "members": [link_to(task, laid.places) for task in tasks[:_MEMBERS]],
        "more": max(0, len(tasks) - _MEMBERS),
    }


def _at_path(value: Any, *path: str) -> Any:
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _let_clicks_through(channel: Any) -> None:
    """Have clicks handled beside a running cell where the page asks for it.

    ipykernel 7.4 sends them to the thread that last spoke to the page: mostly the one of the cell.
    """
    if hasattr(channel, "_reply_subshell_for"):
        channel._reply_subshell_for = lambda _data, default: default


class _Cells:
    """How many cells were run: any of them may have replaced a function that a task calls."""

    def __init__(self) -> None:
        self.run = 0
        self._idle_since = 0.0
        self._marks: weakref.WeakSet[Mark] = weakref.WeakSet()
        self._listens = False

    def tell(self, mark: Mark) -> None:
        """Have a view flushed after each cell, as long as its mark lives."""
        self._marks.add(mark)
        shell = get_ipython()
        if shell is not None and not self._listens:
            self._listens = True
            shell.events.register("pre_run_cell", self._runs)
            shell.events.register("post_run_cell", self._ran)

    def idle_since(self) -> float:
        """Return when the last cell ended, on the monotonic clock; infinite while one runs."""
        return self._idle_since

    def _runs(self, *_: object) -> None:
        self._idle_since = inf

    def _ran(self, *_: object) -> None:
        self.run += 1
        self._idle_since = monotonic()
        for mark in tuple(self._marks):
            mark()


_CELLS: Final = _Cells()

# -- display ---------------------------------------------------------------------------------------

_WIDGETS: Final[weakref.WeakKeyDictionary[TaskQueue, TaskGraph]] = weakref.WeakKeyDictionary()
_WIDGETS_LOCK: Final = threading.RLock()


def widget_of(queue: TaskQueue) -> TaskGraph:
    """Return the live view of a queue: the same one until it is closed.

    Parameters
    ----------
    queue : TaskQueue
        Whose view.
    """
    with _WIDGETS_LOCK:
        widget = _WIDGETS.get(queue)
        if widget is not None and widget._cut_off:
            widget.close()
            widget = None
        if widget is None:
            widget = _WIDGETS[queue] = TaskGraph(queue)
        return widget


def show(queue: TaskQueue) -> None:
    """Display a queue: live, with a still picture behind it; outside a notebook as text.

    The picture is a second output of the same cell, for the times without a kernel: the view hides
    it while it lives. The environment variable `TASKQUEUE_NB_STATIC=1` leaves the live part out.

    Parameters
    ----------
    queue : TaskQueue
        What to show.
    """
    if not _has_page() or _is_static():
        _show_still(queue)
    else:
        _show(widget_of(queue))


def shown_in_marimo(queue: TaskQueue) -> TaskGraph | HTML:
    """Return what marimo shows of a queue that ends a cell.

    Parameters
    ----------
    queue : TaskQueue
        What to show.

    Returns
    -------
    TaskGraph or HTML
        A view for this cell alone, since it ends when the cell is run again; with
        `TASKQUEUE_NB_STATIC=1` the still picture.
    """
    if _is_static():
        return HTML(reprs.still_html(queue))  # type: ignore[no-untyped-call]  # IPython has no types here
    return TaskGraph(queue)


def _is_static() -> bool:
    return os.environ.get("TASKQUEUE_NB_STATIC", "0") not in ("", "0")


def _show(widget: TaskGraph) -> None:
    """Display a view and, as a second output, its still picture."""
    bundle = None if widget._closed else widget._repr_mimebundle_()
    if bundle is None or not _has_page():
        _show_still(widget.queue)
        return
    data, metadata = bundle if isinstance(bundle, tuple) else (bundle, {})
    display({**data, "text/plain": plain_text(widget.queue)}, metadata=metadata, raw=True)  # type: ignore[no-untyped-call]  # IPython has no types here
    widget._still.show()


def _show_still(queue: TaskQueue) -> None:
    shell = get_ipython()
    if shell is None:
        print(reprs.mimebundle(queue)["text/plain"])  # noqa: T201 - this is what is asked for
    else:
        display(reprs.mimebundle(queue), raw=True)  # type: ignore[no-untyped-call]  # as above


def _has_page() -> bool:
    """Say whether there is a page that shows widgets: a kernel has put its own comm in place."""
    return get_ipython() is not None and comm.create_comm.__module__ != comm.__name__
