"""The record of a queue: every transition of every task, in order, for timeline and history.

`Record` gathers what the tasks have kept; `Recorder` sends it to the pages that show it, in
messages of plain columns, and does nothing at all while none does.
"""

from __future__ import annotations

import sys
import threading
import weakref
from array import array
from collections import deque
from functools import partial
from operator import itemgetter
from time import monotonic, time
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from taskqueue_nb.palette import URGENCY, VICTIM, look
from taskqueue_nb.widget.pump import Worker
from taskqueue_nb.widget.words import called, one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from taskqueue_nb.drawing import Box
    from taskqueue_nb.task import Attempt, Task
    from taskqueue_nb.taskqueue import TaskQueue
    from taskqueue_nb.widget.messages import Command

__all__ = ["Critical", "Record", "Recorder"]

_NAME: Final = 60  # characters of a task's or a worker's name
_NAMED: Final = 2_000  # tasks whose names every page gets; those of others it asks for
_WORKERS: Final = 2_000  # with a name; whatever comes later counts as having none
_SETTLING: Final = 0.05  # seconds until a step is taken in: what others did before it is there then
_AHEAD: Final = 1.0  # seconds; a step that lies further ahead was before the clock was set back

# A Jupyter server lets 1 MB/s through, taken over 3 seconds, and drops what is more.
CHUNK: Final = 15_000  # rows of one message, 15 bytes each
_CHUNK_GAP: Final = 0.5  # seconds between two such messages
_BURST: Final = 2  # further ones that may go at once after a while without any
_GATHER_GAP: Final = 0.5  # seconds between two looks at all tasks
_REST: Final = 10  # a look of s seconds is followed by so many times s without one
_LEASE: Final = 150.0  # seconds for which a page that says nothing more counts as there
_PAGES: Final = 64

_RUNNING: Final = look("RUNNING").letter
_BEGINS: Final = ord(_RUNNING)


class Critical(NamedTuple):
    """The chain of attempts that determined when the last one ended.

    Attributes
    ----------
    path : tuple of tuple of int
        The number of each task in the queue with that of its attempt, first one first.
    seconds : float
        For how long they ran, one after another.
    of : float
        For how long anything ran at all.
    """

    path: tuple[tuple[int, int], ...]
    seconds: float
    of: float


class Record:
    """Every transition of a queue's tasks as columns, in the order in which they were taken in.

    That is the order of time, but for what a thread tells late: whoever shows the rows sorts them
    by time and keeps equal ones as they are. The rows of one task are always in its own order.

    Parameters
    ----------
    queue : TaskQueue
        Whose tasks.

    Attributes
    ----------
    when : array of float
        Seconds since the epoch.
    task : array of int
        The task's place in the queue.
    letter : bytearray
        The state it went to, as in the palette.
    worker : array of int
        Who made the attempt that begins or ends there: a place in `workers`, of which the first
        stands for nobody in particular.
    workers : list of str
        The names.
    patches : deque of tuple of int
        Rows of which the worker became known later, with that worker.
    is_settled : bool
        Whether everything that has happened up to now is in it.

    Examples
    --------
    >>> from taskqueue_nb import Task, TaskQueue
    >>> queue = TaskQueue(Task("load", lambda: 1))
    >>> _ = [*queue.run()]
    >>> record = Record(queue)
    >>> record.gather(0.0)
    2
    >>> record.letter.decode(), [*record.task]
    ('rd', [0, 0])
    """

    def __init__(self, queue: TaskQueue) -> None:
        self._queue = queue
        self.when = array("d")
        self.task = array("I")
        self.letter = bytearray()
        self.worker = array("H")
        self.workers = [""]
        self.patches: deque[tuple[int, int]] = deque(maxlen=CHUNK)
        self.is_settled = True
        self._count = 0
        self._read: list[int] = []  # of each task, how much of its log is taken in
        self._last: list[float] = []  # of each task, the time of its last row
        self._places = {"": 0}
        self._letters: dict[Any, int] = {}
        self._nobodys: dict[int, Attempt] = {}  # rows of attempts that run, and by whom is unknown

    def __len__(self) -> int:
        return self._count

    def gather(self, settling: float = _SETTLING) -> int:
        """Take in what has happened since the last time; one thread at a time may.

        Parameters
        ----------
        settling : float
            Seconds that a step must be old, so that nothing earlier comes after it.

        Returns
        -------
        int
            The number of new rows.
        """
        now = time()
        young = (now - settling, now + _AHEAD)
        tasks = self._queue.tasks
        missing = len(tasks) - len(self._read)
        self._read += [0] * missing
        self._last += [0.0] * missing
        found: list[tuple[float, int, int, int, Attempt | None]] = []
        is_settled = True
        for number, (task, read) in enumerate(zip(tasks, self._read, strict=True)):
            if len(task._log) > read and not self._take(number, task, young, found):
                is_settled = False
        found.sort(key=itemgetter(0))  # stable: equal times keep the order of a task
        for row, (_, _, _, worker, attempt) in enumerate(found, self._count):
            if attempt is not None and not worker:
                self._nobodys[row] = attempt
        self.when.extend([each[0] for each in found])
        self.task.extend([each[1] for each in found])
        self.letter.extend([each[2] for each in found])
        self.worker.extend([each[3] for each in found])
        self._count += len(found)  # from here on they are seen
        self._look_for_workers()
        self.is_settled = is_settled
        return len(found)

    def _take(
        self,
        number: int,
        task: Task,
        young: tuple[float, float],
        found: list[tuple[float, int, int, int, Attempt | None]],
    ) -> bool:
        """Take in the steps of one task; False if some are too young."""
        log = task._log
        for place in range(self._read[number], len(log) - 3, 4):
            state, when, extra = log[place + 1 : place + 4]
            if young[0] < when < young[1]:
                return False
            when = max(when, self._last[number])  # the clock was set back; the order counts
            attempt = _attempt_at(task, place)
            worker = self._worker(attempt)
            letter = self._letter(state, extra)
            running = attempt if letter == _BEGINS and _ended(attempt) is None else None
            found.append((when, number, letter, worker, running))
            self._read[number], self._last[number] = place + 4, when
        return True

    def _letter(self, state: Any, extra: Mapping[str, Any] | None) -> int:
        if state == "FAILED" and extra and (extra.get("failed") or extra.get("cancelled")):
            return ord(VICTIM.letter)  # it fell with a prerequisite
        letter = self._letters.get(state)
        if letter is None:
            letter = self._letters[state] = ord(look(state).letter)
        return letter

    def _worker(self, attempt: Attempt | None) -> int:
        name = None if attempt is None else attempt.worker
        if name is None:
            return 0
        place = self._places.get(name)
        if place is None:
            if len(self.workers) > _WORKERS:
                return 0
            place = self._places[name] = len(self.workers)
            self.workers.append(one_line(name, _NAME))
        return place

    def _look_for_workers(self) -> None:
        """Note who makes the attempts of which that was not known when they began."""
        for row, attempt in [*self._nobodys.items()]:
            if worker := self._worker(attempt):
                self.worker[row] = worker
                self.patches.append((row, worker))
            if worker or _ended(attempt) is not None:
                del self._nobodys[row]

    def columns(self, begin: int, end: int) -> list[bytes]:
        """Return rows as a page reads them: f64, u32, u8 and u16, little-endian."""
        return [
            _little(self.when[begin:end]),
            _little(self.task[begin:end]),
            bytes(self.letter[begin:end]),
            _little(self.worker[begin:end]),
        ]

    def critical(self) -> Critical | None:
        """Return the chain of attempts that determined when the last one ended.

        Of what a task requires, the one whose attempt was the last to end before its own began
        decided when it could begin; and so on back to a task that waited for none.
        """
        count = self._count
        ends, of = _intervals(self.when[:count], self.task[:count], bytes(self.letter[:count]))
        if not ends:
            return None
        tasks = self._queue.tasks
        places = {task: number for number, task in enumerate(tasks)}
        number = max(ends, key=lambda each: ends[each][-1][1])
        at: tuple[float, float, int, int] | None = ends[number][-1]
        path, seconds = [], 0.0
        while at is not None:
            began, ended, attempt, _ = at
            path.append((number, attempt))
            seconds += ended - began
            at = None
            for required in tasks[number].required:
                before = _last_done(ends.get(places.get(required, -1), ()), began)
                if before is not None and (at is None or before[1] > at[1]):
                    at, number = before, places[required]
        return Critical(tuple(reversed(path)), seconds, of)


_Interval = tuple[float, float, int, int]  # began, ended, number of the attempt, letter at its end


def _intervals(
    when: Sequence[float], tasks: Sequence[int], letters: bytes
) -> tuple[dict[int, list[_Interval]], float]:
    """Return the attempts of each task that have ended, and for how long anything ran."""
    began: dict[int, float] = {}
    found: dict[int, list[_Interval]] = {}
    numbers: dict[int, int] = {}
    for moment, task, letter in zip(when, tasks, letters, strict=True):
        if (start := began.pop(task, None)) is not None:
            numbers[task] = number = numbers.get(task, 0) + 1
            found.setdefault(task, []).append((start, moment, number, letter))
        if letter == _BEGINS:
            began[task] = moment
    busy, until = 0.0, 0.0
    for start, end, _, _ in sorted(each for attempts in found.values() for each in attempts):
        busy += max(0.0, end - max(start, until))
        until = max(until, end)
    return found, busy


def _last_done(attempts: Sequence[_Interval], before: float) -> _Interval | None:
    done = ord(look("DONE").letter)
    return next(
        (each for each in reversed(attempts) if each[1] <= before and each[3] == done), None
    )


def _attempt_at(task: Task, place: int) -> Attempt | None:
    """Return the attempt that begins or ends with the step at a place of the log."""
    attempt = task._attempt
    while attempt is not None and attempt._at > place:
        attempt = attempt._previous
    return attempt if attempt is not None and place - attempt._at in (0, 4) else None


def _ended(attempt: Attempt | None) -> float | None:
    return None if attempt is None else attempt.ended


def _little(column: array[Any]) -> bytes:
    if sys.byteorder == "big":
        column.byteswap()
    return column.tobytes()


# -- to the pages ----------------------------------------------------------------------------------


class _Laid(Protocol):
    """What is looked at of a drawing."""

    @property
    def tasks(self) -> tuple[Task, ...]: ...

    @property
    def places(self) -> Mapping[Task, int]: ...

    @property
    def boxes(self) -> tuple[Box, ...]: ...


class _Changed:
    """A flag that a queue's listener sets; it holds no view."""

    __slots__ = ("__weakref__", "yes")

    def __init__(self) -> None:
        self.yes = True

    def __call__(self) -> None:
        self.yes = True


class Recorder:
    """Sends the record of a queue to the pages that show it.

    Parameters
    ----------
    queue : TaskQueue
        Whose record.
    mark : callable
        Has the view flushed soon, and so `see` called.
    hears_since : callable
        Since when messages of the pages come through, on the monotonic clock: while an ordinary
        cell runs they may not, and that is infinite.
    at_of : callable
        How the page calls a box of a drawing.

    Notes
    -----
    Every page gets every message, and takes of it what it lacks. A page asks for the rows from the
    number that it has on; that winds the sender back. It asks again from time to time, so that one
    that vanished without a word is noticed, and so is a message that was lost.
    """

    def __init__(
        self,
        queue: TaskQueue,
        mark: Callable[[], object],
        hears_since: Callable[[], float],
        at_of: Callable[[Box, Any], str],
    ) -> None:
        self._queue, self._mark = queue, mark
        self._hears_since, self._at_of = hears_since, at_of
        self.record = Record(queue)
        self._lock = threading.Lock()
        self._pages: dict[str, float] = {}  # the name of each, and when it was last heard of
        self._sent = 0
        self._answers = False  # a page waits for an answer, if only that there is nothing
        self._names: dict[int, None] = {}  # asked for
        self._workers_sent = 0
        self._laid: _Laid | None = None  # what the structure below was read from
        self._structure: tuple[dict[str, Any], list[bytes]] | None = None
        self._critical: Critical | None = None
        self._critical_of = -1  # how many rows there were
        self._due: set[str] = set()  # of "structure" and "critical"
        self._changed = _Changed()
        self._stop_listening: Callable[[], None] | None = None
        self._gathering = False
        self._gather_at = self._send_at = 0.0  # not before
        self._soon = False  # whether what the last look left out is looked at soon
        self._gatherer = Worker("taskqueue_nb record")

    def hear(self, command: Command) -> None:
        """Take what a page wants: rows from a number on, or nothing any more."""
        with self._lock:
            if command.start < 0:
                self._pages.pop(command.view, None)
                return
            is_new = command.view not in self._pages
            self._pages[command.view] = monotonic()
            while len(self._pages) > _PAGES:
                del self._pages[next(iter(self._pages))]
            if is_new or command.start == 0:
                self._due |= {"structure", "critical"}
                self._workers_sent = 0
            self._answers = True
            self._sent = min(self._sent, command.start)
            if len(self._names) < _NAMED:  # a page asks again for what it does not get
                self._names.update(dict.fromkeys(command.names))
        self._mark()

    def close(self) -> None:
        """Send nothing any more."""
        with self._lock:
            self._pages.clear()
        self._listen(wanted=False)

    def see(
        self, laid: _Laid | None, send: Callable[[dict[str, Any], list[bytes]], object]
    ) -> list[float]:
        """Have the record gathered, and send what is new; the thread that flushes calls this.

        Returns
        -------
        list of float
            After how many seconds to look again at the latest.
        """
        wanted = self._is_wanted()
        self._listen(wanted=wanted)
        if not wanted:
            return []
        again = self._gather(laid)
        with self._lock:
            due, self._due = self._due, set()
            names, self._names = list(self._names), {}
        if "structure" in due and self._structure is not None:  # else it is due once there is one
            send(*self._structure)
        again += self._send_rows(send)
        if "critical" in due:
            send(*_critical_message(self._critical))
        if names:
            places = {} if laid is None else laid.places
            send({"part": "record", "names": _names(self._queue.tasks, names, places)}, [])
        return again

    def _is_wanted(self) -> bool:
        with self._lock:
            latest = monotonic() - _LEASE
            if self._pages and self._hears_since() < latest:
                self._pages = {view: at for view, at in self._pages.items() if at > latest}
            return bool(self._pages)

    def _listen(self, *, wanted: bool) -> None:
        if wanted and self._stop_listening is None:
            self._changed.yes = True
            self._stop_listening = self._queue.on_change(self._changed)
        elif not wanted:
            stop, self._stop_listening = self._stop_listening, None
            if stop is not None:
                stop()

    # -- gathering, in a thread of its own ---------------------------------------------------------

    def _gather(self, laid: _Laid | None) -> list[float]:
        if self._gathering or (
            not self._changed.yes and self.record.is_settled and laid is self._laid
        ):
            return []
        wait = self._gather_at - monotonic()
        if wait > 0:
            return [wait]
        self._gathering, self._changed.yes = True, False
        self._gatherer.do(partial(_look, weakref.ref(self), laid))
        return []

    def look(self, laid: _Laid | None) -> None:
        """Take in what is new."""
        began = monotonic()
        try:
            new = self.record.gather()
            if laid is not self._laid and laid is not None:
                self._structure = _structure(laid, self._at_of)
                self._laid = laid
                self._is_due("structure")
            rests = self.record.is_settled and not self._queue.running
            if rests and self._critical_of != len(self.record):
                self._critical_of = len(self.record)
                self._critical = self.record.critical()
                self._is_due("critical")
            elif new and self._critical is not None and not rests:
                self._critical = None
                self._is_due("critical")
        finally:
            took = monotonic() - began
            # what was too young is looked at soon, but not again and again while much happens
            self._soon = not self.record.is_settled and not self._soon
            gap = 2 * _SETTLING if self._soon else _GATHER_GAP
            self._gather_at = monotonic() + max(gap, _REST * took)
            self._gathering = False
        if new or self._due or self.record.patches or not self.record.is_settled:
            self._mark()

    def _is_due(self, what: str) -> None:
        with self._lock:
            self._due.add(what)

    # -- sending -----------------------------------------------------------------------------------

    def _send_rows(self, send: Callable[[dict[str, Any], list[bytes]], object]) -> list[float]:
        """Send what the pages lack, as fast as a server lets it through."""
        record = self.record
        while True:
            with self._lock:
                total = len(record)
                if self._sent >= total and not self._answers and not record.patches:
                    return []
                now = monotonic()
                if self._send_at > now:
                    return [self._send_at - now]
                self._send_at = max(self._send_at, now - _BURST * _CHUNK_GAP) + _CHUNK_GAP
                begin = min(self._sent, total)
                self._sent = end = min(total, begin + CHUNK)
                self._answers = False
            patch = [record.patches.popleft() for _ in range(len(record.patches))]
            content: dict[str, Any] = {"part": "record", "from": begin, "count": end - begin}
            content |= {"total": total, "now": time()}
            content["patch"] = [part for pair in patch for part in pair]
            if len(record.workers) > self._workers_sent:
                content["workers"] = record.workers[:]
                self._workers_sent = len(content["workers"])
            send(content, record.columns(begin, end))


def _look(of: weakref.ref[Recorder], laid: _Laid | None) -> None:
    recorder = of()
    if recorder is not None:
        recorder.look(laid)


def _structure(laid: _Laid, at_of: Callable[[Box, Any], str]) -> tuple[dict[str, Any], list[bytes]]:
    """Say in which box each task is, in what state each began, and what the first are called."""
    nowhere = 0xFFFFFFFF
    boxes = array("I", [nowhere]) * len(laid.tasks)
    for number, box in enumerate(laid.boxes):
        for task in box.tasks:
            boxes[laid.places[task]] = number
    first = "".join([look(task._first_state).letter for task in laid.tasks])
    content = {
        "part": "record",
        "boxes": [at_of(box, laid) for box in laid.boxes],
        "tasks": len(laid.tasks),
        "urgency": "".join(look(state).letter for state in URGENCY),
        "names": _names(laid.tasks, range(min(_NAMED, len(laid.tasks))), laid.places),
    }
    return content, [_little(boxes), first.encode("ascii")]


def _names(
    tasks: Sequence[Task], numbers: Sequence[int], places: Mapping[Task, int]
) -> dict[str, str]:
    return {
        str(number): called(tasks[number], places, _NAME)
        for number in numbers
        if number < len(tasks)
    }


def _critical_message(critical: Critical | None) -> tuple[dict[str, Any], list[bytes]]:
    if critical is None:
        return {"part": "record", "critical": None}, []
    path = array("I", [part for pair in critical.path for part in pair])
    said = {"tasks": len(critical.path), "seconds": critical.seconds, "of": critical.of}
    return {"part": "record", "critical": said}, [_little(path)]
