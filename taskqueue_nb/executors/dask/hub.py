"""What the workers of a Dask cluster tell, as one client hears it."""

from __future__ import annotations

import contextlib
import math
import threading
import weakref
from time import monotonic, time
from typing import TYPE_CHECKING, Any, ClassVar, Final

if TYPE_CHECKING:
    from queue import SimpleQueue

_AGAIN: Final = 5.0  # seconds until it is asked again how many threads a cluster has
_DRIFT: Final = 1e-4  # seconds by which two clocks may part in a second
DATED: Final = frozenset({"began", "ended"})  # what is told with its time


class Hub:
    """Hears the events of a client, and passes each on to the run that it belongs to."""

    _known: ClassVar[weakref.WeakKeyDictionary[Any, Hub]] = weakref.WeakKeyDictionary()
    _lock: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self, client: Any) -> None:
        self.topic = f"taskqueue_nb-{client.id}"
        self.address = str(getattr(client.scheduler, "address", None) or "an unknown address")
        self.inboxes: dict[str, SimpleQueue[Any]] = {}  # by key
        self.threads: float = math.inf  # of all workers; it is not known at first
        self.workers: int | None = None  # how many there are; likewise
        self._asked = -math.inf  # when it was asked for
        self._clocks: dict[str, tuple[float, float]] = {}  # by worker: ours less its, told when

    @classmethod
    def of(cls, client: Any) -> Hub:
        """Return the one of a client; it listens from then on."""
        with cls._lock:
            hub = cls._known.get(client)
            if hub is None:
                hub = cls._known[client] = cls(client)
                if client.status == "running":
                    client.subscribe_topic(hub.topic, hub.hear)
        return hub

    def hear(self, event: tuple[float, Any]) -> None:
        """Take what calls tell, on the client's loop: nothing here may wait."""
        _, messages = event
        told: dict[SimpleQueue[Any], list[Any]] = {}
        for message in messages:
            if (inbox := self.inboxes.get(message[0])) is not None:
                if message[1] in DATED:
                    key, what, worker, (at, sent), *rest = message
                    message = [key, what, worker, self._when(worker, at, sent), *rest]  # noqa: PLW2901 - the same, with a time
                told.setdefault(inbox, []).append(message)
        for inbox, its in told.items():
            inbox.put(its)  # once, as each wakes a thread

    def _when(self, worker: str, at: float, sent: float) -> float:
        """Return when something was on a worker, of which it told later; both by its own clock.

        How far that is from ours is known best from the words that took the shortest way, as those
        that had to wait for a busy notebook took longer.
        """
        now = monotonic()
        ahead = now - sent
        if worker in self._clocks:
            least, then = self._clocks[worker]
            ahead = min(ahead, least + (now - then) * _DRIFT)
        self._clocks[worker] = ahead, now
        return time() - (now - (at + ahead))

    def ask(self, client: Any) -> None:
        """Ask now and then how many calls the cluster makes at once; waits for nothing."""
        now = monotonic()
        if now - self._asked > _AGAIN:
            self._asked = now
            client.loop.add_callback(self._count_threads, client)

    async def _count_threads(self, client: Any) -> None:
        if client.status == "running":
            with contextlib.suppress(OSError):  # the cluster is gone, which others find
                counts = await client.scheduler.ncores(workers=None)
                self.threads, self.workers = max(1, sum(counts.values())), len(counts)


def gone(client: Any) -> str:
    """Say that a cluster cannot be reached any more."""
    address = Hub.of(client).address
    if client.status in ("closing", "closed"):
        return f"the connection to the Dask cluster at {address} is closed"
    return f"the scheduler of the Dask cluster at {address} is gone"
