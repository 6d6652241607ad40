"""The thread that writes: what happened goes into the file in the order in which it happened."""

from __future__ import annotations

import _thread
import atexit
import os
import sqlite3
import threading
import warnings
from contextlib import suppress
from queue import Empty, SimpleQueue
from time import monotonic
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakSet

from taskqueue_nb.fsm import shorten
from taskqueue_nb.store.entries import Entry, written_extra
from taskqueue_nb.store.errors import StoreError, StoreWarning
from taskqueue_nb.store.file import bytes_of, connect
from taskqueue_nb.store.pack import NotStorableError, pack
from taskqueue_nb.store.reader import close_all
from taskqueue_nb.task import GRAPH_LOCK, SETTLED, Attempt, LazyValue, Task, words_of

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from taskqueue_nb.store.lock import FileLock

_PAUSE: Final = 0.005  # seconds in which what happens is gathered into one transaction
_BATCH: Final = 2000  # steps of one transaction
_LARGE: Final = 64 * 2**20  # bytes of results after which a transaction ends
_LOOK_AGAIN: Final = 0.5  # seconds between looks at whether the writer still lives
_PATIENCE: Final = 60.0  # seconds to wait for it when the interpreter ends

_OPEN: Final[WeakSet[Writer]] = WeakSet()


class _Note:
    """What somebody asked for."""

    __slots__ = ("at", "words")

    def __init__(self, at: float, words: dict[str, Any]) -> None:
        self.at, self.words = at, words


class Writer:
    """Takes steps from any thread, and writes them in a thread of its own.

    It keeps neither the queue nor the store alive, and ends with them.

    Parameters
    ----------
    path : Path
        The file.
    lock : FileLock
        Given back at the end.
    limit : int
        Bytes of one result at most.
    known : dict of Task to Entry
        Shared with the store.

    Attributes
    ----------
    accepts : bool
        Whether it still writes.
    """

    def __init__(self, path: Path, lock: FileLock, limit: int, known: dict[Task, Entry]) -> None:
        self.path, self.limit, self.known = path, limit, known
        self.lock = lock
        self.accepts = True
        self.is_taken_over = False
        self._inbox: SimpleQueue[Any] = SimpleQueue()
        self._hurry = threading.Event()
        self._is_ready = threading.Event()
        self._failure: Exception | None = None
        self._rows = self._results = 0
        self._thread = threading.Thread(
            target=self._serve, name=f"taskqueue_nb store {path.name}"[:80], daemon=True
        )
        try:
            self._thread.start()
        except RuntimeError:
            reason = "no thread can be started here, and a store writes in one; leave store= out"
            raise StoreError(str(path), reason) from None
        self._is_ready.wait()
        if self._failure is not None:
            raise self._failure
        _OPEN.add(self)

    # -- from any thread -----------------------------------------------------------------------

    def put(self, task: Task, state: str) -> None:
        """Note a step that was just made; the lock of the graph is held."""
        if self.accepts:
            outcome = task._value if state == "DONE" else task._error
            self._inbox.put((task, state, len(task._log), outcome, task._attempt))
        elif self.is_taken_over:
            self.is_taken_over = False
            self.warn("another queue has taken it over: this one is kept in memory only")

    def note(self, at: float, words: dict[str, Any]) -> None:
        """Note what somebody asked for; as text it becomes in our thread."""
        if self.accepts:
            self._inbox.put(_Note(at, words))

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until what has happened so far is in the file; say whether it is."""
        if not self.accepts or GRAPH_LOCK._is_owned():  # type: ignore[attr-defined]
            return not self.accepts  # under the lock waiting could last for ever
        ticket = _thread.allocate_lock()
        ticket.acquire()
        self._inbox.put(ticket)
        self._hurry.set()
        end = None if timeout is None else monotonic() + timeout
        while True:
            wait = _LOOK_AGAIN if end is None else min(_LOOK_AGAIN, max(0.0, end - monotonic()))
            if ticket.acquire(timeout=wait):
                return True
            if not self._thread.is_alive() or (end is not None and monotonic() >= end):
                return False

    def end_soon(self) -> None:
        """Have it write what has happened, and end; waits for nothing."""
        if self.accepts:
            self._inbox.put(None)
            self._hurry.set()

    def end(self, timeout: float | None = None) -> bool:
        """Have it end, and wait until it has; say whether it has."""
        self.end_soon()
        if self._thread is not threading.current_thread():
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def forsake(self) -> None:
        """Write nothing in a forked child: the thread, the file and the lock are the parent's."""
        self.accepts = False
        self.lock.abandon()

    def warn(self, what: str) -> None:
        """Say something, whatever the filters make of a warning: nothing ends by it."""
        message = f"store {str(self.path)!r}: {what}"
        try:
            warnings.warn(message, StoreWarning, stacklevel=3)
        except Exception:  # noqa: BLE001 - a filter turns it into an error, which nobody would see
            import logging  # noqa: PLC0415 - costs import time, and is rarely needed

            logging.getLogger("taskqueue_nb").warning("%s", message)

    # -- in its own ------------------------------------------------------------------------------

    def _serve(self) -> None:
        """Open the file, write until told to end, close it.

        The connection stands in this frame alone: a forked child has no such frame, and so never
        closes what is its parent's.
        """
        try:
            self._file = self.path.stat()
            connection = connect(self.path, writing=True)
            self._rows = _highest(connection, "SELECT max(id) FROM tasks")
            self._results = _highest(
                connection, "SELECT seq FROM sqlite_sequence WHERE name = 'results'"
            )
        except (sqlite3.Error, OSError) as error:
            self._failure = StoreError(str(self.path), f"it cannot be written ({error})")
            self._is_ready.set()
            return
        self._is_ready.set()
        try:
            while self._served(connection):
                pass
        except Exception as error:  # noqa: BLE001 - whatever it is, the run goes on without us
            self.accepts = False
            with suppress(sqlite3.Error):
                connection.rollback()
            self.warn(
                f"it cannot be written any more ({words_of(error)[:300]}); what happens from now "
                f"on is kept in memory only"
            )
        finally:
            self.accepts = False
            self._release_waiting()
            with suppress(sqlite3.Error):
                connection.close()
            self.lock.release()

    def _served(self, connection: sqlite3.Connection) -> bool:
        """Write what is there, waiting for something; say whether to go on."""
        first = self._inbox.get()
        if type(first) is tuple and not self._hurry.is_set():
            self._hurry.wait(_PAUSE)
        self._hurry.clear()
        batch = [first]
        with suppress(Empty):
            while batch[-1] is not None and len(batch) < _BATCH:
                batch.append(self._inbox.get_nowait())
        goes_on = batch[-1] is not None
        tickets = [item for item in batch if type(item) is _thread.LockType]
        if not self._is_there():
            raise StoreError(str(self.path), "the file was removed, or replaced by another one")
        try:
            self._write(connection, [item for item in batch if type(item) in (tuple, _Note)])
        finally:
            for ticket in tickets:
                ticket.release()
        return goes_on

    def _is_there(self) -> bool:
        """Say whether the file that is open is the one that the next kernel will find."""
        try:
            return os.path.samestat(self._file, self.path.stat())
        except OSError:
            return False

    def _release_waiting(self) -> None:
        with suppress(Empty):
            while True:
                if type(item := self._inbox.get_nowait()) is _thread.LockType:
                    item.release()

    def _write(self, connection: sqlite3.Connection, items: list[Any]) -> None:
        """Write steps, in one transaction unless their results are large.

        All steps of a task go into one, with the result: it is there as a whole, or not at all.
        """
        moved: dict[Task, list[Any]] = {}
        for item in items:
            if type(item) is tuple:
                moved.setdefault(item[0], []).append(item)
        if not items:
            return
        rows = _Rows(connection)
        rows.verbs = [
            (item.at, written_extra(item.words, self.known) or "{}")
            for item in items
            if type(item) is _Note
        ]
        for task, steps in moved.items():
            self._write_task(rows, task, steps)
            if rows.size > _LARGE:
                rows.write()
                rows = _Rows(connection)
        rows.write()

    def _write_task(self, rows: _Rows, task: Task, steps: list[Any]) -> None:
        entry = self.known[task]
        is_new = not entry.row
        if is_new:
            self._rows += 1
            entry.row = self._rows
        if entry.is_new_life:
            entry.is_new_life = False
            entry.written = entry.attempts = 0
            rows.void(entry.row)
        self._write_steps(rows, task, entry, steps)
        _, state, upto, outcome, attempt = steps[-1]
        if state != "PENDING" or is_new:
            call = attempt if state in ("RUNNING", "DONE", "FAILED") and attempt else task
            entry.look_at(call, task, self.known)
        if state == "DONE":
            event, _, _, extra = task._log[upto - 4 : upto]
            if not (extra or {}).get("undo"):  # which supplies what was there before
                entry.supplied = event == "supply"
            self._write_result(rows, task, entry, outcome)
        digests = (entry.own_digest, entry.digest)
        facts = (state, int(entry.supplied), entry.result, entry.lost)
        if is_new or digests != entry.stored:
            entry.stored = digests
            prints = (*digests, entry.own.as_json(), entry.requires(task, self.known))
            if is_new:
                key = (bytes_of(entry.name), entry.ordinal)
                rows.new.append((entry.row, *key, *prints, *facts))
                return
            rows.prints.append((*prints, entry.row))
        rows.facts.append((*facts, entry.row))

    def _write_steps(self, rows: _Rows, task: Task, entry: Entry, steps: list[Any]) -> None:
        """Write the part of a task's log that is not yet in the file."""
        said: dict[int, bytes] = {}
        for _, state, upto, outcome, attempt in steps:
            if state == "FAILED" and isinstance(outcome, BaseException):
                said[upto] = bytes_of(words_of(outcome))
            if state in SETTLED and attempt is not None:
                _write_attempt(rows, entry.row, attempt)
        start, end = entry.written, max(entry.written, steps[-1][2])
        log = task._log[start:end]
        for place in range(0, len(log), 4):
            event, state, at, extra = log[place : place + 4]
            entry.attempts += event == "dispatch"
            step = start + place
            rows.journal.append(
                (
                    entry.row,
                    step // 4,
                    event,
                    state,
                    at,
                    entry.attempts,
                    written_extra(extra, self.known),
                    said.get(step + 4),
                )
            )
        entry.written = end

    def _write_result(self, rows: _Rows, task: Task, entry: Entry, value: Any) -> None:
        if isinstance(value, LazyValue):
            if value.key == (self.path, entry.result) and entry.stored is not None:
                if entry.supplied:
                    entry.use(entry.stored[1])
                return  # it is there already
            value = _brought(entry, value)
            if value is _GONE:
                return
        self._results += 1
        number = self._results
        checksum: bytes | None = None
        if entry.result is not None:
            rows.gone.append((entry.result,))
        try:
            packed = pack(
                value,
                self.limit,
                lambda part, place, data: rows.piece(number, part, place, data),
                lambda: rows.forget(number),
            )
        except NotStorableError as error:
            entry.result, entry.lost = None, str(error)
            rows.forget(number)
            self.warn(
                f"the result of task {shorten(task.name)} is not stored: {error}. It is kept in "
                f"memory, and the task will run again in a new kernel"
            )
        else:
            checksum = packed.checksum
            entry.result, entry.lost = number, None
            rows.size += packed.size
            lengths = str(packed.lengths)  # JSON, too
            rows.results.append((number, entry.row, packed.size, lengths, checksum, packed.data))
        if entry.supplied:
            entry.give(checksum)


_GONE: Final = object()


def _brought(entry: Entry, value: LazyValue) -> Any:
    """Bring a value that is elsewhere, to be stored; `_GONE` if it cannot be had."""
    is_stored = type(value) is LazyValue
    try:
        return value.get() if is_stored else value.bring()  # which lets it go: it stays there
    except Exception as error:  # noqa: BLE001 - it may be gone, and unpickling runs foreign code
        entry.lost = f"it cannot be had ({words_of(error)[:300]})"
        if not is_stored:
            entry.result = None
        return _GONE


def _write_attempt(rows: _Rows, row: int, attempt: Attempt) -> None:
    error = attempt._error
    said = words_of(error) if isinstance(error, BaseException) else error
    trace = attempt.error_text
    output = attempt.output
    if said or trace or output:
        texts = (bytes_of(text) if text else None for text in (said, trace, output))
        rows.attempts.append((row, attempt.number, *texts))


def _highest(connection: sqlite3.Connection, query: str) -> int:
    found = connection.execute(query).fetchone()
    return (found and found[0]) or 0


class _Rows:
    """The rows of one transaction, by table: many at once cost half as much as one by one."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.size = 0  # bytes of results
        connection.execute("BEGIN IMMEDIATE")
        self.new: list[Any] = []
        self.prints: list[Any] = []
        self.facts: list[Any] = []
        self.journal: list[Any] = []
        self.attempts: list[Any] = []
        self.results: list[Any] = []
        self.gone: list[Any] = []
        self.verbs: list[Any] = []

    def void(self, row: int) -> None:
        """Take back what is told of a task."""
        for table in ("journal", "attempts"):
            self._connection.execute(f"DELETE FROM {table} WHERE task = ?", (row,))  # noqa: S608

    def piece(self, result: int, part: int, number: int, data: Any) -> None:
        """Write a piece of a large result at once: nothing is gathered that is large."""
        self._connection.execute(_PIECE, (result, part, number, data))

    def forget(self, result: int) -> None:
        """Take back the pieces of a result that came to nothing."""
        self._connection.execute("DELETE FROM pieces WHERE result = ?", (result,))

    def write(self) -> None:
        """Write all the rest, and end the transaction."""
        many: Iterable[tuple[str, list[Any]]] = (
            (_NEW, self.new),
            (_PRINTS, self.prints),
            (_FACTS, self.facts),
            (_JOURNAL, self.journal),
            (_ATTEMPT, self.attempts),
            ("DELETE FROM pieces WHERE result = ?", self.gone),
            ("DELETE FROM results WHERE id = ?", self.gone),
            (_RESULT, self.results),
            ("INSERT INTO verbs(at, words) VALUES(?, ?)", self.verbs),
        )
        for statement, rows in many:
            if rows:
                self._connection.executemany(statement, rows)
        self._connection.execute("COMMIT")


_NEW: Final = (
    "INSERT OR REPLACE INTO tasks(id, name, ordinal, own, digest, parts, requires, state, "
    "supplied, result, lost) VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_PRINTS: Final = "UPDATE tasks SET own = ?, digest = ?, parts = ?, requires = ? WHERE id = ?"
_FACTS: Final = "UPDATE tasks SET state = ?, supplied = ?, result = ?, lost = ? WHERE id = ?"
_JOURNAL: Final = "INSERT INTO journal VALUES(?, ?, ?, ?, ?, ?, ?, ?)"
_ATTEMPT: Final = "INSERT OR REPLACE INTO attempts VALUES(?, ?, ?, ?, ?)"
_RESULT: Final = (
    "INSERT INTO results(id, task, size, lengths, checksum, data) VALUES(?, ?, ?, ?, ?, ?)"
)
_PIECE: Final = "INSERT INTO pieces(result, part, number, bytes) VALUES(?, ?, ?, ?)"


def end_those_of(path: Path) -> None:
    """Wait for writers whose stores are gone already."""
    for writer in list(_OPEN):
        if writer.path == path:
            writer.end(_PATIENCE)


def _end_all() -> None:
    """Write what has happened before the interpreter goes."""
    close_all()
    for writer in list(_OPEN):
        writer.end(_PATIENCE)


def _forsake_all() -> None:
    for writer in list(_OPEN):
        writer.forsake()


atexit.register(_end_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forsake_all)
