"""The still picture behind a live view."""

from __future__ import annotations

import threading
from time import monotonic
from typing import TYPE_CHECKING, Final

from IPython.display import display, update_display

from taskqueue_nb import reprs
from taskqueue_nb.widget.details import one_line
from taskqueue_nb.widget.pump import Worker

if TYPE_CHECKING:
    from collections.abc import Mapping

    from taskqueue_nb.taskqueue import TaskQueue

_GAP: Final = 1.0  # seconds between two pictures at least while a run goes on
_SETTLED: Final = 0.2  # the same between runs, so that the end of a run is seen soon
_RATE: Final = 100_000  # bytes of pictures a second, at most


class Still:
    """The still picture of a queue in the notebook's outputs, kept up to date by its display id."""

    def __init__(self, queue: TaskQueue) -> None:
        self.key = ""
        self._queue = queue
        self._shown = False
        self._sent = ""
        self._last = 0.0  # when it was drawn last; of the monotonic clock, as the next
        self._next = 0.0  # when it may be drawn again while a run goes on
        self._lock = threading.Lock()
        self._painter = Worker("taskqueue_nb still")

    def show(self) -> None:
        """Display it as an output of the present cell."""
        bundle = self._bundle()
        display(bundle, raw=True, display_id=self._id)  # type: ignore[no-untyped-call]  # IPython has no types here
        self._sent, self._shown = bundle["text/html"], True
        self._next = monotonic() + self._rest(bundle)

    def see(self, *, running: bool) -> list[float]:
        """Have it drawn again if it may be out of date; return when to look again."""
        if not self._shown:
            return []
        # between runs nothing is in a hurry, and what the last one left is to be seen
        wait = (self._next if running else min(self._next, self._last + _SETTLED)) - monotonic()
        if wait > 0:
            return [wait]
        self._last = monotonic()
        self._next = self._last + _GAP
        self._painter.do(self.update)
        return []

    def update(self, *, final: bool = False) -> None:
        """Draw it again in every output that shows it."""
        if not self._shown:
            return
        with self._lock:
            bundle = self._bundle()
            if bundle["text/html"] != self._sent:
                self._sent = bundle["text/html"]
                update_display(bundle, raw=True, display_id=self._id)  # type: ignore[no-untyped-call]  # as above
            self._next = monotonic() + self._rest(bundle)
            self._shown = not final

    @property
    def _id(self) -> str:
        return f"taskqueue_nb {self.key} {id(self._queue):x}"

    def _bundle(self) -> dict[str, str]:
        return {
            # without states: it stays as it is when the picture is brought up to date
            "text/plain": plain_text(self._queue),
            "text/html": reprs.still_html(self._queue, self.key),
        }

    def _rest(self, bundle: Mapping[str, str]) -> float:
        return max(_GAP, len(bundle["text/html"]) / _RATE)


def plain_text(queue: TaskQueue) -> str:
    """Return a text that stays the same while the queue runs, so that stored outputs compare."""
    name = "" if queue.name is None else f" {one_line(queue.name)!r}"
    return f"TaskQueue{name}: {len(queue)} task{'' if len(queue) == 1 else 's'}"
