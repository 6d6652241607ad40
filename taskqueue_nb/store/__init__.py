"""Results and journal in an SQLite file, so that a run survives its kernel.

```
a step of a task   -> Store.put: noted in memory                              under the graph's lock
writer             -> gathers for some ms, pickles, writes one transaction    a thread of its own
run, wait          -> before a task is yielded, what it did is in the file
a new kernel       -> Store.look_up: fingerprints and rows of new tasks
                   -> Store.take_back: the same call gets state, history and a value to be loaded
```
"""

from __future__ import annotations

import gc
import sqlite3
import weakref
from collections import Counter
from contextlib import contextmanager, suppress
from time import sleep, time
from typing import TYPE_CHECKING, Any, Final
from warnings import warn

from taskqueue_nb.store import file
from taskqueue_nb.store.entries import Entry, read_extra
from taskqueue_nb.store.errors import EarlierError, StoreError, StoreWarning
from taskqueue_nb.store.lock import FileLock, HeldError
from taskqueue_nb.store.reader import Reader
from taskqueue_nb.store.resume import Earlier, Kernel, earlier_of, take_back
from taskqueue_nb.store.writer import Writer, end_those_of
from taskqueue_nb.task import GRAPH_LOCK

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from taskqueue_nb.task import Task

__all__ = ["LIMIT", "EarlierError", "Store", "StoreError", "StoreWarning"]

#: Bytes of one result at most, unless a queue says otherwise.
LIMIT: Final = 1_000_000_000

_LOOKS: Final = 40  # at a file that another process is making
_LOOK_AGAIN: Final = 0.05  # seconds between them
_MANY: Final = 1000  # tasks from which the garbage collector would cost more than it brings

_OWNERS: Final[weakref.WeakValueDictionary[Path, Store]] = weakref.WeakValueDictionary()


@contextmanager
def _adding(count: int) -> Iterator[None]:
    """Leave the garbage collector out while many tasks are added: all that is made stays.

    It would go through the growing graph again and again, for a third of the time.
    """
    is_left_out = count > _MANY and gc.isenabled()
    if is_left_out:
        gc.disable()
    try:
        yield
    finally:
        if is_left_out:
            gc.enable()


class Store:
    """The file that a queue writes, and takes results back from.

    Parameters
    ----------
    path : str or path-like
        Where it is, or is to be. Values are pickles, so it must be yours alone.
    limit : int, optional
        Bytes of one result at most; a larger one is kept in memory, and said.
    queue : TaskQueue, optional
        Whose it is.

    Attributes
    ----------
    path : Path
        The file.
    read_only : bool
        Whether somebody else writes it: then results are taken back, and nothing is written.
    changed : dict of Task to str
        Why a task that the file knows was not taken back, until it runs.

    Raises
    ------
    StoreError
        If the file is damaged, not ours, or cannot be there; then nothing in it was changed.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> from taskqueue_nb import Task, TaskQueue
    >>> folder = TemporaryDirectory()
    >>> queue = TaskQueue(Task("dice", lambda: print("thrown") or 4), store=f"{folder.name}/run.tq")
    >>> [task.value for task in queue.run()]
    thrown
    [4]
    >>> queue.store.close()

    In the next kernel:

    >>> queue = TaskQueue(Task("dice", lambda: print("thrown") or 4), store=f"{folder.name}/run.tq")
    >>> list(queue.run()), queue.tasks[0].value
    ([], 4)
    >>> queue.store.close()
    >>> folder.cleanup()
    """

    def __init__(self, path: Any, limit: int | None = None, queue: Any = None) -> None:
        limit = LIMIT if limit is None else limit
        if not isinstance(limit, int) or isinstance(limit, bool) or limit < 1:
            message = f"store_limit is a number of bytes, at least 1, not {limit!r:.80}"
            raise ValueError(message)
        self.path = file.placed(path)
        self.changed: dict[Task, str] = {}
        self._queue = None if queue is None else weakref.ref(queue)
        self._known: dict[Task, Entry] = {}
        self._tasks: dict[tuple[str, int], Task] = {}
        self._counts: Counter[str] = Counter()
        self._earlier: dict[Task, Earlier] = {}
        self._last_sign = 0.0  # when the file was last written by an earlier kernel
        self._writer = self._opened(limit)
        self._reader = Reader(self.path)
        if self._writer is not None:
            weakref.finalize(self, self._writer.end_soon).atexit = False
            _OWNERS[self.path] = self
        with suppress(sqlite3.Error):
            last = self._reader.all("SELECT max(at) FROM journal")[0][0]
            self._last_sign = last if isinstance(last, float) else 0.0

    def _opened(self, limit: int) -> Writer | None:
        """Take the lock and open the file; None if somebody else writes it."""
        owner = _OWNERS.get(self.path)
        if owner is not None:
            owner._hand_over()
        else:
            end_those_of(self.path)
        try:
            lock = FileLock(file.beside(self.path, "-lock"))
        except HeldError as held:
            self._check()
            self._say_read_only(held.pid)
            return None
        try:
            if self.path.exists():
                file.check(self.path)
            else:
                file.make(self.path)
            return Writer(self.path, lock, limit, self._known)
        except BaseException:
            lock.release()
            raise

    def _check(self) -> None:
        """Check a file that another process writes, or makes just now."""
        for _ in range(_LOOKS):
            if self.path.exists():
                break
            sleep(_LOOK_AGAIN)
        try:
            file.check(self.path, is_ours=False)
        except FileNotFoundError:
            reason = "another process is making it just now; try again"
            raise StoreError(str(self.path), reason) from None

    def _say_read_only(self, pid: int | None) -> None:
        import os  # noqa: PLC0415 - for this sentence alone

        if pid == os.getpid():
            who = "another queue of this kernel, which is running"
            cure = "wait() for that one, or queue.store.close() it, and make this queue again"
        else:
            who = "another process" if pid is None else f"process {pid}"
            cure = "end that one, and make this queue again, to have this run stored too"
        message = (
            f"store {str(self.path)!r} is open in {who}: it is read only here. Results are taken "
            f"back, and nothing is written; {cure}"
        )
        warn(message, StoreWarning, stacklevel=5)

    def _hand_over(self) -> None:
        """Let another queue of this kernel write the file, unless our own is running."""
        queue = None if self._queue is None else self._queue()
        writer = self._writer
        is_at_rest = queue is None or not (queue.running or queue._active)
        if writer is not None and writer.accepts and is_at_rest:
            self._reader.close()
            writer.end()
            writer.is_taken_over = queue is not None

    def __repr__(self) -> str:
        facts = []
        with suppress(Exception):  # a repr never fails
            count = self._reader.all("SELECT count(*) FROM tasks WHERE result IS NOT NULL")[0][0]
            size = sum(
                path.stat().st_size
                for path in (self.path, file.beside(self.path, "-wal"))
                if path.exists()
            )
            facts.append(f"{count:,} result{'s' * (count != 1)}, {size / 1e6:.1f} MB")
        if self.read_only:
            facts.append("read only")
        return f"<Store {str(self.path)!r}: {', '.join(facts) or 'cannot be read'}>"

    @property
    def read_only(self) -> bool:
        """Whether nothing is written: somebody else does, it was closed, or the disk is full."""
        return self._writer is None or not self._writer.accepts

    # -- writing -----------------------------------------------------------------------------

    def put(self, task: Task, state: str) -> None:
        """Note a step that a task has just made; the lock of the graph is held."""
        if self._writer is not None:
            self._writer.put(task, state)
        if self.changed and state in ("RUNNING", "DONE"):
            self.changed.pop(task, None)

    def note(self, words: Mapping[str, Any], when: float | None = None) -> None:
        """Keep what somebody asked for, such as `{"verb": "retry", "tasks": [task]}`, and when."""
        if self._writer is not None:
            self._writer.note(time() if when is None else when, dict(words))

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until what has happened so far is in the file.

        Parameters
        ----------
        timeout : float, optional
            How long to wait at most, in seconds.

        Returns
        -------
        bool
            Whether it is; a store that is read only has nothing to wait for.
        """
        return self._writer is None or self._writer.flush(timeout)

    def close(self) -> None:
        """Write what has happened, let go of the file, and write no more.

        Values that were not loaded yet can still be.
        """
        self._reader.close()
        if self._writer is not None:
            self._writer.end()

    def verbs(self) -> list[tuple[float, dict[str, Any]]]:
        """Return what was asked for, in this kernel and before, with its time, oldest first.

        Returns
        -------
        list of (float, dict)
            Seconds since the epoch, and the words of `note`; a task in them is the one of this
            queue, and one that is there no more is left out.
        """
        self.flush()
        found = self._reader.all("SELECT at, words FROM verbs ORDER BY id")
        return [(at, read_extra(words, self._tasks) or {}) for at, words in found]

    # -- reading -----------------------------------------------------------------------------

    @contextmanager
    def looking_up(self, tasks: Sequence[Task]) -> Iterator[None]:
        """Find out what the file knows of new tasks, before the lock is taken to add them."""
        with _adding(len(tasks)):
            self.look_up(tasks)
            yield

    def look_up(self, tasks: Iterable[Task]) -> None:
        """Take the fingerprints of new tasks, and find out what the file knows of them."""
        with GRAPH_LOCK:  # two threads may add at once
            new = [task for task in dict.fromkeys(tasks) if not self._is_member(task)]
            for task in new:
                ordinal = self._counts[task.name]
                self._counts[task.name] += 1
                self._known[task] = Entry(task.name, ordinal)
                self._tasks[task.name, ordinal] = task
        if not new:
            return
        try:
            found = earlier_of(new, self._known, self._reader)
        except sqlite3.Error as error:
            raise StoreError(str(self.path), file.damaged(self.path, str(error))) from None
        self._earlier.update(found)

    def _is_member(self, task: Task) -> bool:
        entry = self._known.get(task)
        return entry is not None and entry.is_member

    def take_back(self, task: Task) -> bool:
        """Give a new task what an earlier kernel had of it; the lock of the graph is held.

        Returns
        -------
        bool
            Whether its state is another one now.
        """
        if not self._is_member(task):
            self.look_up([task])
        earlier = self._earlier.pop(task, None)
        entry = self._known[task]
        moved = False
        if earlier is not None:
            kernel = Kernel(
                self._tasks, self._reader, self._last_sign, is_writer=self._writer is not None
            )
            moved = take_back(task, entry, earlier, kernel)
            if earlier.reason is not None and task.fsm_state == "PENDING":
                self.changed[task] = earlier.reason
        is_told = earlier is None or entry.is_new_life or earlier.reason is None
        if is_told and len(task._log) > entry.written:
            self.put(task, task.fsm_state)
        return moved
