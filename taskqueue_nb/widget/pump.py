"""Threads of the live view: one that flushes all widgets, and workers that end by themselves."""

from __future__ import annotations

import logging
import queue
import sys
import threading
import weakref
from collections import deque
from time import monotonic, thread_time
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

_LOG: Final = logging.getLogger("taskqueue_nb")

# Seconds between two messages of one widget: 18 a second, so that with a still picture now and
# then they are never more than 20.
GAP: Final = 1 / 18
# A flush of c seconds of CPU time is followed by 30 c of rest: a huge queue is shown less often.
_REST: Final = 30


class Flushed(Protocol):
    """What the pump knows of a widget."""

    def flush(self) -> float | None:
        """Send what is new; return after how many seconds to look again, unless marked before."""


class Mark:
    """A flag that a queue's listener sets: in any thread, under any lock, in a fraction of a µs.

    It holds no widget, so that a queue keeps none alive.
    """

    __slots__ = ("__weakref__", "_tell", "due")

    def __init__(self, tell: Callable[[], object]) -> None:
        self.due = False
        self._tell = tell

    def __call__(self) -> None:
        """Have the widget flushed soon."""
        if not self.due:
            self.due = True
            self._tell()


class _Client:
    """A widget's place in the pump."""

    __slots__ = ("look_at", "mark", "not_before", "widget")

    def __init__(self, widget: Flushed, mark: Mark) -> None:
        self.widget = weakref.ref(widget)
        self.mark = mark
        self.not_before = 0.0  # of the monotonic clock, as the next
        self.look_at: float | None = None

    def wants(self) -> float | None:
        """When to flush it; None: not before it is marked."""
        if self.mark.due:
            return self.not_before
        return None if self.look_at is None else max(self.look_at, self.not_before)

    def flush(self) -> bool:
        """Flush it; False once the widget is gone."""
        widget = self.widget()
        if widget is None:
            return False
        cpu = thread_time()
        self.mark.due = False  # before the truth is read: what changes meanwhile is due again
        try:
            again = widget.flush()
        except Exception:  # noqa: BLE001 - one view that fails must not end the others
            _LOG.exception("the live view of a queue could not be brought up to date")
            again = None
        now = monotonic()
        self.not_before = now + max(GAP, _REST * (thread_time() - cpu))
        self.look_at = None if again is None else now + again
        return True


class Pump:
    """One thread for all widgets. It sleeps while nothing changes and ends with the last widget."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._clients: dict[Mark, _Client] = {}
        # put() of a SimpleQueue takes no lock of ours and may interrupt itself
        self._woken: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def wake(self) -> None:
        """Have the thread look who is due."""
        self._woken.put(None)

    def add(self, widget: Flushed, mark: Mark) -> bool:
        """Flush a widget whenever its mark is due, until it is removed or gone.

        Returns
        -------
        bool
            False where no thread can be started; then nothing has been added.
        """
        with self._lock:
            self._clients[mark] = _Client(widget, mark)
            if self._thread is None:
                thread = threading.Thread(target=self._loop, name="taskqueue_nb view", daemon=True)
                try:
                    thread.start()
                except RuntimeError:  # Pyodide has no threads
                    del self._clients[mark]
                    return False
                self._thread = thread
        self.wake()
        return True

    def remove(self, mark: Mark) -> None:
        """Flush a widget no more."""
        if sys.is_finalizing():  # the thread has ended, perhaps with the lock in its hands
            return
        with self._lock:
            self._clients.pop(mark, None)
        self.wake()

    def _loop(self) -> None:
        while True:
            with self._lock:
                if not self._clients:
                    self._thread = None
                    return
                clients = list(self._clients.values())
            wanted = [when for client in clients if (when := client.wants()) is not None]
            wait = min(wanted) - monotonic() if wanted else None
            if wait is None or wait > 0:
                self._sleep(wait)
                continue
            now = monotonic()
            for client in clients:
                when = client.wants()
                if when is not None and when <= now and not client.flush():
                    self.remove(client.mark)
            del clients, client

    def _sleep(self, seconds: float | None) -> None:
        try:
            self._woken.get(timeout=seconds)
            while True:
                self._woken.get_nowait()
        except queue.Empty:
            return


PUMP: Final = Pump()


class Worker:
    """Does jobs one after another, in a thread that ends when none is left.

    Parameters
    ----------
    name : str
        What the thread is called.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._jobs: deque[Callable[[], object]] = deque()
        self._working = False
        self._since: float | None = None  # when the present job was begun

    def do(self, job: Callable[[], object]) -> None:
        """Have a job done soon; at once, by the caller, where no thread can be started."""
        with self._lock:
            self._jobs.append(job)
            if self._working:
                return
            self._working = True
        try:
            threading.Thread(target=self._work, name=self._name, daemon=True).start()
        except RuntimeError:  # Pyodide has no threads
            self._work()

    def busy_for(self) -> float:
        """Return for how many seconds the present job has been going on."""
        since = self._since
        return 0.0 if since is None else monotonic() - since

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._jobs:
                    self._working, self._since = False, None
                    return
                job = self._jobs.popleft()
            self._since = monotonic()
            try:
                job()
            except Exception:  # noqa: BLE001 - the next job is another matter
                _LOG.exception("%s: a job failed", self._name)
            del job  # or it would keep its widget alive
