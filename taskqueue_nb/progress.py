"""How far a run is, where there is no page: a bar of tqdm, or a line of text without it."""

from __future__ import annotations

import atexit
import sys
import threading
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from taskqueue_nb.capture import Tee
from taskqueue_nb.fsm import shorten
from taskqueue_nb.repair import seconds_left
from taskqueue_nb.repair.plans import _spoken
from taskqueue_nb.task import ACTIVE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType
    from typing import Self

    from taskqueue_nb.taskqueue import TaskQueue
    from taskqueue_nb.widget import TaskGraph

_GAP: Final = 0.1  # seconds between two looks at the queue, at least
_LOOK_AHEAD: Final = 1.0  # seconds between two estimates of the time left, at least
_SHARE: Final = 20  # and they and drawing may each take a twentieth of the time
_FALLEN: Final = ("FAILED", "CANCELLED", "ABORT")
HINT: Final = "pip install 'taskqueue-nb[terminal]' brings a bar"


class Bar:
    """How far a queue is, shown in a terminal until its run has ended or nothing is left to run.

    Parameters
    ----------
    queue : TaskQueue
        What to watch. A transition sets a flag, and no more: another thread looks and draws, at
        most ten times a second.
    file : text stream, optional
        Where to show it, by default on the standard error.

    Notes
    -----
    Without the package tqdm it is a line of text, written anew in a terminal, and written once, at
    the end, in a file. A run in the background can be watched by the bar alone. With `with` it
    stays until its block is left, however many runs there are; otherwise it is closed by itself,
    by `close()`, or when the program ends.

    Examples
    --------
    >>> import io
    >>> from taskqueue_nb import Task, TaskQueue
    >>> queue, shown = TaskQueue(*(Task(f"{number}", list) for number in range(3))), io.StringIO()
    >>> with Bar(queue, shown) as bar:
    ...     _ = [*queue.run()]
    >>> bar.line
    '3 of 3 done'
    """

    def __init__(self, queue: TaskQueue, file: Any = None) -> None:
        stream = sys.stderr if file is None else file
        self._queue = queue
        self._file = stream._real if isinstance(stream, Tee) else stream
        self._seen: list[bool] = []  # emptied by every transition, at the cost of one call
        self._over = threading.Event()
        self._closed = False
        self._stays = False  # until a block is left
        self._drawing = threading.Lock()
        self._left: float | None = None
        self._left_at, self._left_cost = monotonic(), 0.0
        self._seen_running = queue.running
        self._bar = self._made()
        self.line = ""
        self._stop = queue.on_change(self._seen.clear)
        self._draw()
        atexit.register(self.close)
        self._thread = threading.Thread(target=self._watch, name="taskqueue_nb bar", daemon=True)
        with suppress(RuntimeError):  # no threads here: it is drawn at the beginning and the end
            self._thread.start()

    def _made(self) -> Any:
        if find_spec("tqdm") is None:
            return None
        from tqdm import tqdm  # noqa: PLC0415 - an extra

        class Drawn(tqdm):  # type: ignore[misc,unused-ignore]  # it brings no types
            """A bar that we draw ourselves: it needs no thread that watches over it."""

            monitor_interval = 0

        name = self._queue.name
        return Drawn(
            total=len(self._queue),
            file=self._file,
            desc=None if name is None else shorten(name),
            bar_format="{desc}{percentage:3.0f}%|{bar}| {postfix}",
            mininterval=0,
        )

    def _watch(self) -> None:
        cost, is_idle = 0.0, False
        while not self._over.wait(max(_GAP, _SHARE * cost)):
            began = monotonic()
            is_running = self._queue.running
            if not self._seen:
                self._seen.append(True)
                self._draw()
                is_idle = not is_running and self._is_idle()
                cost = monotonic() - began
            if not self._stays and not is_running and (is_idle or self._seen_running):
                self.close()
                return
            self._seen_running = is_running

    def _is_idle(self) -> bool:
        """Say whether there are tasks, and none of them that runs or that a run would start."""
        tasks = self._queue.tasks
        return bool(tasks) and not any(
            task.fsm_state in ACTIVE or (task.fsm_state == "PENDING" and not task.isblocked())
            for task in tasks
        )

    def _draw(self) -> None:
        """Show how far the queue is now."""
        with self._drawing:
            if self._closed:
                return
            counts = self._queue.counts()
            done, total = counts.get("DONE", 0), sum(counts.values())
            self.line = ", ".join(self._parts(counts, done, total))
            if self._bar is not None:
                self._bar.total, self._bar.n = total, done
                self._bar.set_postfix_str(self.line, refresh=False)
                self._bar.refresh()
            elif self._is_terminal:
                self._file.write(f"\r\x1b[K{self.line}")
                self._file.flush()

    def _parts(self, counts: dict[str, int], done: int, total: int) -> list[str]:
        parts = [f"{done} of {total} done"]
        if running := counts.get("RUNNING", 0):
            parts.append(f"{running} running")
        parts += [f"{counts[state]} {state.lower()}" for state in _FALLEN if counts.get(state)]
        if self._queue.running and (left := self._time_left()) is not None:
            parts.append(f"about {_spoken(left)} left" if left >= 1 else "under 1 s left")
        return parts

    def _time_left(self) -> float | None:
        """Look ahead, unless that was done a moment ago or costs too much for now."""
        now = monotonic()
        if now - self._left_at >= max(_LOOK_AHEAD, _SHARE * self._left_cost):
            self._left = seconds_left(self._queue)
            self._left_at = monotonic()
            self._left_cost = self._left_at - now
        return self._left

    @property
    def _is_terminal(self) -> bool:
        isatty = getattr(self._file, "isatty", None)
        return bool(isatty is not None and isatty())

    def close(self) -> None:
        """Show how far the queue is, for the last time."""
        self._stop()
        self._draw()
        with self._drawing:
            first, self._closed = not self._closed, True
        self._over.set()
        if not first:
            return
        atexit.unregister(self.close)
        if self._bar is not None:
            self._bar.close()
        else:
            end = "\n" if self._is_terminal else f"{self.line} ({HINT})\n"
            self._file.write(end)
            self._file.flush()
        if self._thread.ident is not None and threading.current_thread() is not self._thread:
            self._thread.join(2 * _GAP + 1)

    def __enter__(self) -> Self:
        self._stays = True
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def progress_of(queue: TaskQueue) -> TaskGraph | Bar:
    """Return what shows how far a queue is: the live view where there is a page, else a bar."""
    return queue.widget() if _has_page() else Bar(queue)


@contextmanager
def showing(queue: TaskQueue) -> Iterator[None]:
    """Show how far a queue is, for as long as its run takes."""
    if _has_page():
        queue._ipython_display_()
        yield
    else:
        with Bar(queue):
            yield


def _has_page() -> bool:
    """Say whether there is a page that shows widgets, without importing what would make one."""
    if "IPython" not in sys.modules:
        return False
    from taskqueue_nb import widget  # noqa: PLC0415 - costs as much as IPython

    return widget._has_page()
