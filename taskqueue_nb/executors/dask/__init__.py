"""Tasks on a Dask cluster: `executor=client`, a `distributed.Client`.

A result stays on the cluster as a future until somebody looks, and a dependent is given that
future. A call is packed here, so that no scheduler and no worker unpickles anything outside of it,
and what comes of it is the value itself, or one exception of ours that carries the failure as data.
What a task says meanwhile comes as events, in the order in which things happen:

DaskTrip.packed -> Client.map -> call() on a worker -> "began", what it prints -> the future

`call` is what happens on a worker, `hub` what a client hears of it, `trip` one task's way there and
back, `ahead` which calls a cluster has before their prerequisites are done.
"""

from __future__ import annotations

import contextlib
import math
import threading
import warnings
from functools import partial
from queue import Empty, SimpleQueue
from time import monotonic, sleep, time
from typing import TYPE_CHECKING, Any, Final

from taskqueue_nb.executors.dask.ahead import MORE, Ahead
from taskqueue_nb.executors.dask.call import call
from taskqueue_nb.executors.dask.hub import Hub, gone
from taskqueue_nb.executors.dask.trip import COME, LARGE, PATIENCE, DaskTrip, RemoteValue
from taskqueue_nb.executors.trip import Place, TravelError, WorkerError
from taskqueue_nb.fsm import CancellationError
from taskqueue_nb.task import GRAPH_LOCK, Attempt, Task, TaskError, words_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["Dask", "RemoteValue"]

_LOOK: Final = 0.1  # seconds between looks at what nobody tells
_RECONNECTING: Final = 15.0  # seconds that a client may look for its scheduler
_PAUSE: Final = 0.01  # seconds that a client of Dask lets pass between two messages to a scheduler
_WAIT: Final = 0.04  # seconds that calls wait for others, while the cluster has enough to do
_AT_ONCE: Final = 500  # calls that are submitted in one graph
_GRAPH: Final = 4_000_000  # bytes that one graph may have; Dask warns of 10 MB
_SHARED: Final = 100_000  # bytes from which a local result is sent once for all dependents
_RESENT: Final = 3  # how often a call is sent again whose data was lost on the way
_LOST: Final = COME - {"finished"}
_HEARD: Final = frozenset({"began", "said", "rest", "ended"})  # what a worker may tell of a call


class Dask(Place):
    """A Dask cluster as one run uses it.

    Parameters
    ----------
    client : distributed.Client
        It stays open after the run, and so do the results.

    Notes
    -----
    Two threads of ours do all that waits: one packs and submits, several calls in one graph when
    there are several; one takes what comes back. The loop of the client is never held up.
    """

    def __init__(self, client: Any) -> None:
        super().__init__(self._refuse, None, is_here=False)
        self.client = client
        self.topic = ""
        self.future_class: type = Task  # of the futures of Dask, once there is need to know
        self.hub: Hub | None = None
        self._lock = threading.Lock()  # never held while anybody else's code runs
        self.trips: dict[str, DaskTrip] = {}
        self._shared: dict[Task, tuple[Any, Any]] = {}  # local results that were sent
        self.outbox: SimpleQueue[Any] = SimpleQueue()  # trips, or `MORE`; None at the end
        self.inbox: SimpleQueue[Any] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self.is_closed = False
        self._unconnected: float | None = None
        self._silent: set[DaskTrip] = set()  # those that had come to an end at the last look
        self._next = 0.0  # when a graph is submitted at the earliest
        self._few: float = math.inf  # with as many calls there, or less, the next are submitted
        self.ahead = Ahead(self)
        self._has_warned = False  # that there are no workers
        self._has_room = threading.Event()  # there are no more
        self._has_room.set()

    @staticmethod
    def _refuse(*_: object) -> None:
        raise NotImplementedError  # `send` does it all

    # -- from any thread ---------------------------------------------------------------------

    def send(
        self, task: Task, done: Callable[[Task, Attempt | None, bool], None], run: Any
    ) -> None:
        """Have a queued task run on the cluster; the parameters are those of `Place.send`."""
        if (ahead := self.ahead.of(task)) is not None:
            self.inbox.put(partial(self.ahead.take_over, ahead, done, run))
            return
        trip = DaskTrip(task, done, run, self)
        try:
            self._start()
        except RuntimeError as error:  # no more threads to be had
            trip.end(None, error)
            return
        self.outbox.put(trip)

    def _start(self) -> None:
        with self._lock:
            if self._threads:
                return
            for name, work in (("out", self._send_all), ("in", self._take_all)):
                thread = threading.Thread(
                    target=work, name=f"taskqueue_nb dask {name}", daemon=True
                )
                thread.start()
                self._threads.append(thread)

    def resend(self, trip: DaskTrip) -> None:
        """Submit a call again, as it is now; what comes of the former is not wanted."""
        self._drop(trip)
        self.outbox.put(trip)

    def forget(self, trip: DaskTrip) -> None:
        """Keep nothing of a call that is settled; of one that is given up tell the cluster."""
        self._drop(trip)
        trip.let_go()

    def _drop(self, trip: DaskTrip) -> None:
        with self._lock:
            self.trips.pop(trip.key, None)
            future, trip.future = trip.future, None
            if len(self.trips) <= self._few:
                self._has_room.set()
        if self.hub is not None:
            self.hub.inboxes.pop(trip.key, None)
        if future is not None and future.status == "pending":
            future.release()  # the worker will hear of it; this waits for nothing

    def all_trips(self) -> list[DaskTrip]:
        """Return what is there, also what is there ahead."""
        with self._lock:
            return list(self.trips.values())

    def is_taking(self) -> bool:
        """Say whether this is the thread that takes what comes back."""
        return bool(self._threads) and threading.current_thread() is self._threads[-1]

    def close(self) -> None:
        """Have the cluster give up what it still does for this run, and end our threads."""
        self.is_closed = True
        self.ahead.catch_up()
        for trip in self.all_trips():
            called = trip.task._fsm_called()
            trip.end(None, CancellationError(f"{called} was cancelled: the run ended", trip.task))
        self.outbox.put(None)
        self.inbox.put(None)
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(PATIENCE)
        self._shared.clear()

    # -- in the thread that submits ----------------------------------------------------------

    def _send_all(self) -> None:
        """Submit what there is to submit, until told to end."""
        while (first := self.outbox.get()) is not None:
            self._await_more()
            trips: list[DaskTrip] = [] if first is MORE else [first]
            goes_on = True
            with contextlib.suppress(Empty):
                while len(trips) < _AT_ONCE:
                    if (trip := self.outbox.get_nowait()) is None:
                        goes_on = False
                        break
                    if trip is not MORE:
                        trips.append(trip)
            try:
                self._send_some(trips)
            except BaseException as error:  # noqa: BLE001 - no task may wait for ever
                for trip in trips:
                    trip.end(None, error)
            if not goes_on:
                return
            self._next = monotonic() + _PAUSE
            threads = math.inf if self.hub is None else self.hub.threads
            with self._lock:
                self._few = max(len(self.trips) / 3, 8 * threads)
                if len(self.trips) > self._few:
                    self._has_room.clear()

    def _await_more(self) -> None:
        """Wait a moment for calls that can go in the same graph, of which each one has its price.

        While a cluster has more calls than it can make at once, and a third of those that it had
        after the last graph, a further one comes early enough when these have become fewer.
        """
        if (early := self._next - monotonic()) > 0:
            sleep(early)
        self._has_room.wait(_WAIT)

    def _send_some(self, trips: Iterable[DaskTrip]) -> None:
        """Submit calls in as few graphs as Dask takes without a warning."""
        batch: list[tuple[DaskTrip, Any]] = []
        size = 0
        for trip in trips:
            packed = self._packed(trip)
            if packed is None:
                continue
            parcel, nbytes = packed
            if size + nbytes > _GRAPH:
                self._submit_all(batch)
                batch, size = [], 0
            batch.append((trip, parcel))
            size += nbytes
        with self.ahead.sending:
            for trip, parcel in self.ahead.packed([trip for trip, _ in batch]):
                if size + parcel.nbytes > _GRAPH:
                    self._submit_all(batch)
                    batch, size = [], 0
                batch.append((trip, parcel))
                size += parcel.nbytes
            self._submit_all(batch)

    def _packed(self, trip: DaskTrip) -> tuple[Any, int] | None:
        """Return a call for the cluster and its size; None if there is nothing to submit."""
        with GRAPH_LOCK:
            is_wanted = not trip.is_over and trip.task._may_begin()
        if not is_wanted:
            trip.drop()
            return None
        try:
            self._meet()
            parcel = trip.packed()
            nbytes = parcel.nbytes
            if nbytes > LARGE:
                trip.load = self.client.scatter([parcel], hash=False)[0]
                return trip.load, 0
        except BaseException as error:  # noqa: BLE001 - the task's failure, whatever it is
            trip.end(None, self._named(error))
            return None
        return parcel, nbytes

    def _meet(self) -> None:
        """Listen to the client from now on."""
        if self.hub is None:
            from distributed import Future  # noqa: PLC0415 - whoever has a client has it

            self.future_class = Future
            self.hub = Hub.of(self.client)
            self.topic = self.hub.topic
            self.hub.ask(self.client)

    def _submit_all(self, batch: list[tuple[DaskTrip, Any]]) -> None:
        if not batch or self.hub is None:
            return
        keys = []
        for trip, _ in batch:
            trip.sent = time()
            keys.append(trip.key)
            with self._lock:
                self.trips[trip.key] = trip
            self.hub.inboxes[trip.key] = self.inbox
        try:
            futures = self.client.map(
                call,
                [parcel for _, parcel in batch],
                [[future for _, future in trip.inputs] for trip, _ in batch],
                [trip.is_ahead for trip, _ in batch],
                key=keys,
                pure=False,
                retries=0,
            )
        except BaseException as error:  # noqa: BLE001 - the tasks' failure, whatever it is
            for trip, _ in batch:
                if trip.is_ahead:
                    self.ahead.give_up(trip)
                else:
                    trip.end(None, self._named(error))
            return
        for key, (trip, _), future in zip(keys, batch, futures, strict=True):
            with self._lock:
                is_wanted = self.trips.get(key) is trip
                if is_wanted:
                    trip.future = future
                early, trip.early = trip.early, []
            if early:
                self.inbox.put(early)
            if not is_wanted:  # dropped since it was handed over
                future.release()

    def came(self, trip: DaskTrip, future: Any) -> None:
        """Have what came of a call be taken, in the thread for that."""
        self.inbox.put(partial(self._do, trip, partial(trip.came, future)))

    def _named(self, error: BaseException) -> BaseException:
        """Return an error that says so when the client or its scheduler is gone."""
        if isinstance(error, TaskError) or self.client.status == "running":
            return error
        return WorkerError(f"{gone(self.client)} ({words_of(error)})")

    def shared(self, task: Task, value: Any) -> Any:
        """Return the future of a large result that was made elsewhere; it is sent once."""
        from dask.sizeof import sizeof  # noqa: PLC0415 - whoever has a client has it

        known = self._shared.get(task)
        if known is not None and known[0] is value and known[1].status != "cancelled":
            return known[1]
        if sizeof(value) < _SHARED:
            return None
        try:
            (future,) = self.client.scatter([value], hash=False)
        except Exception as error:
            if self.client.status != "running":
                raise
            message = f"the result of {task._fsm_called()} cannot be sent to the cluster: "
            raise TravelError(message + words_of(error), task) from error
        self._shared[task] = (value, future)
        return future

    # -- in the thread that takes what comes back --------------------------------------------

    def _take_all(self) -> None:
        """Take what comes, and look at what nobody tells, until told to end."""
        next_look = monotonic() + _LOOK
        while True:
            with contextlib.suppress(Empty):
                item = self.inbox.get(timeout=max(0.0, next_look - monotonic()))
                if item is None:
                    return
                self.take(item)
            if monotonic() >= next_look:
                self._look()
                next_look = monotonic() + _LOOK

    def take(self, item: Callable[[], object] | list[Any]) -> None:
        """Do what is to be done in this thread, or take what was told."""
        if isinstance(item, list):
            for told in item:
                self.hear(*told)
        else:
            item()
        self.ahead.have_queued()

    def hear(self, key: str, what: str, *rest: Any) -> None:
        """Take what was told of a call."""
        with self._lock:
            trip = self.trips.get(key)
            if trip is not None and trip.is_ahead:
                self.ahead.keep(trip, key, what, *rest)
                return
            if trip is not None and trip.future is None and what == "ended":
                trip.early.append([key, what, *rest])  # the graph is still being submitted
                return
        if trip is not None and what in _HEARD:
            self._do(trip, partial(getattr(trip, what), *rest))

    @staticmethod
    def _do(trip: DaskTrip, what: Callable[[], object]) -> None:
        try:
            what()
        except BaseException as error:  # noqa: BLE001 - no task may wait for ever
            trip.end(None, error)

    def _look(self) -> None:
        """Look at what nobody tells; all has failed if the cluster is gone."""
        if self._is_gone():
            for trip in self.all_trips():
                if trip.is_ahead:
                    self.ahead.give_up(trip)
                    continue
                error = WorkerError(f"{trip.task._fsm_called()} has no answer: {gone(self.client)}")
                error.task = trip.task
                if trip.attempt is not None or trip.begin():
                    trip.end(None, error)
            return
        self.let_go()
        self._look_at_futures()
        if self.hub is not None:
            self.hub.ask(self.client)
            self._warn_of_no_workers(self.hub)

    def _warn_of_no_workers(self, hub: Hub) -> None:
        """Say once why nothing goes on where nobody works."""
        if hub.workers:
            self._has_warned = False
        elif hub.workers == 0 and self.trips and not self._has_warned:
            self._has_warned = True
            waiting = len(self.trips) - len(self.ahead)
            tasks = f"{waiting} task{'s' * (waiting != 1)}"
            message = f"the Dask cluster at {hub.address} has no workers: {tasks} wait for one"
            with contextlib.suppress(RuntimeWarning):  # made an error: nobody could take it here
                warnings.warn(message, RuntimeWarning, stacklevel=1)

    def _look_at_futures(self) -> None:
        """Take what has come to an end of which no worker tells any more: it died, say."""
        trips = [trip for trip in self.all_trips() if trip.future and not trip.is_ahead]
        silent = {trip for trip in trips if trip.future.status in COME}
        for trip in silent & self._silent:  # a word of its worker may be on its way
            self.came(trip, trip.future)
        self._silent = silent

    def let_go(self) -> None:
        """Let go of what was cancelled while it was queued, or will not be: nobody tells."""
        for trip in self.all_trips():
            if trip.is_ahead:
                if trip.future is not None and trip.future.status in _LOST:
                    self.ahead.give_up(trip)  # a prerequisite has failed
            elif trip.attempt is None and trip.task.fsm_state != "QUEUED":
                trip.drop()

    def _is_gone(self) -> bool:
        if self.client.status == "running":
            self._unconnected = None
            return False
        if self.client.status in ("closing", "closed"):
            return True
        now = monotonic()
        self._unconnected = self._unconnected or now
        return now - self._unconnected > _RECONNECTING

    def may_be_sent_again(self, trip: DaskTrip) -> bool:
        """Say whether a call was dropped for want of data that can be sent once more."""
        futures = {id(future) for _, future in self._shared.values() if future.status != "finished"}
        lost = trip.load is not None and trip.load.status == "cancelled"
        lost = lost or any(id(future) in futures for _, future in trip.inputs)
        if not lost or self.client.status != "running" or trip.resent >= _RESENT:
            return False
        trip.resent += 1
        return True
