"""Tasks on a Dask cluster: `executor=client`, a `distributed.Client`.

A result stays on the cluster as a future until somebody looks, and a dependent is given that
future. A call is packed here, so that no scheduler and no worker unpickles anything outside of it,
and what comes of it is the value itself, or one exception of ours that carries the failure as data.
What a task says meanwhile comes as events, in the order in which things happen:

_DaskTrip.packed -> Client.map -> call() on a worker -> "began", what it prints -> the future

While a cluster has little to do it is given calls ahead, whose prerequisites are not done yet:

Dask._choose -> a trip without a run -> the cluster begins it -> its words are kept -> the run
queues the task, by itself or on account of the word -> the trip is that task's
"""

from __future__ import annotations

import contextlib
import math
import pickle
import threading
import warnings
import weakref
from collections import deque
from functools import partial
from queue import Empty, SimpleQueue
from time import monotonic, sleep, time
from typing import TYPE_CHECKING, Any, ClassVar, Final, NamedTuple, TypeVar, cast
from uuid import uuid4

from taskqueue_nb.executors.dask_call import (
    Failed,
    Input,
    Parcel,
    ParcelPacker,
    allow,
    call,
    shown_there,
    withdraw,
)
from taskqueue_nb.executors.trip import (
    Place,
    TravelError,
    Trip,
    WorkerError,
    name_of,
    with_article,
)
from taskqueue_nb.fingerprint import version_of
from taskqueue_nb.fsm import CancellationError
from taskqueue_nb.leading import CAUGHT_UP, LEADERS
from taskqueue_nb.task import (
    ACTIVE,
    GRAPH_LOCK,
    Attempt,
    LazyValue,
    Task,
    TaskError,
    with_results,
    words_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

R = TypeVar("R")

_LOOK: Final = 0.1  # seconds between looks at what nobody tells
_RECONNECTING: Final = 15.0  # seconds that a client may look for its scheduler
_PATIENCE: Final = 5.0  # seconds that our threads have to end
_PAUSE: Final = 0.01  # seconds that a client of Dask lets pass between two messages to a scheduler
_WAIT: Final = 0.04  # seconds that calls wait for others, while the cluster has enough to do
_AGAIN: Final = 5.0  # seconds until it is asked again how many threads a cluster has
_AT_ONCE: Final = 500  # calls that are submitted in one graph
_GRAPH: Final = 4_000_000  # bytes that one graph may have; Dask warns of 10 MB
_LARGE: Final = 1_000_000  # bytes from which a call goes to a worker as data, not with the graph
_SHARED: Final = 100_000  # bytes from which a local result is sent once for all dependents
_TRIED: Final = 1_000_000  # bytes up to which a result is pickled to see whether it can travel
_RESENT: Final = 3  # how often a call is sent again whose data was lost on the way
_BUSY: Final = 16  # calls on a cluster, or eight for each thread, with which none is sent ahead
_MANY: Final = 100  # dependents of one task beyond which there will be enough to do anyway
_NAME: Final = 60  # characters of a task's name in a key
_COME: Final = frozenset({"finished", "error", "cancelled"})  # not "pending", nor "lost" for now
_LOST: Final = _COME - {"finished"}
_MORE: Final = object()  # asks for calls to be sent ahead
_DRIFT: Final = 1e-4  # seconds by which two clocks may part in a second
_DATED: Final = frozenset({"began", "ended"})  # what is told with its time
_HEARD: Final = frozenset({"began", "said", "rest", "ended"})  # what a worker may tell of a call


# -- a value on the cluster --------------------------------------------------------------------
class RemoteValue(LazyValue):
    """A result that is on a Dask cluster, and stays there when it has been brought.

    Parameters
    ----------
    client : distributed.Client
        The way to it.
    future : distributed.Future
        Keeps it there for as long as this object lives.
    called : str
        What messages call the task.
    """

    __slots__ = ("_called", "client", "future")

    stays = True
    loss = "its result on the cluster is lost"

    def __init__(self, client: Any, future: Any, called: str) -> None:
        super().__init__(partial(_gathered, client, future, called))  # not of us: no circle
        self.client, self.future, self._called = client, future, called

    def __repr__(self) -> str:
        return f"<result of {self._called} on the cluster>"

    def why_lost(self) -> BaseException | None:
        """Return why the cluster does not have it any more; None if it has, or will again."""
        return _why_lost(self.client, self.future)

    def show(self, render: Callable[[Any], R]) -> R:
        """Return what a function makes of the value, called on the worker that has it."""
        if self._load is None:
            return render(self._value)
        self._await_word()
        if (lost := self.why_lost()) is not None:
            raise lost
        owners = next(iter(self.client.who_has([self.future]).values()), ())
        if not owners:
            message = f"the result of {self._called} is being made again"
            raise TaskError(message)
        owner = min(owners)
        shown = self.client.run(partial(shown_there, self.future.key, render), workers=[owner])
        return cast("R", shown[owner])

    def _await_word(self) -> None:
        """Wait until the scheduler knows what its worker has told us already."""
        from distributed import TimeoutError as TooLate  # noqa: PLC0415 - whoever has a client has it
        from distributed import wait  # noqa: PLC0415 - likewise

        if self.future.status == "pending":
            with contextlib.suppress(TooLate):
                wait([self.future], timeout=_PATIENCE)


def _gathered(client: Any, future: Any, called: str) -> Any:
    """Bring a result from the cluster."""
    try:
        return client.gather(future)
    except Exception as error:
        if future.status != "finished" or client.status != "running":
            raise _why_lost(client, future) or error from error
        message = f"the result of {called} cannot be brought from the cluster: "
        raise TravelError(message + words_of(error)) from error


def _why_lost(client: Any, future: Any) -> BaseException | None:
    if future.status == "error":
        return cast("BaseException", future.exception(timeout=_PATIENCE))
    if future.status == "cancelled" or client.status == "closed":
        return ConnectionError(_what_happened(client, future))
    return None


def _what_happened(client: Any, future: Any) -> str:
    """Say why Dask has dropped a future."""
    error = getattr(getattr(future, "_state", None), "exception", None)  # `exception()` would wait
    reason = getattr(error, "reason", None)
    if client.status != "running" or reason == "scheduler-connection-lost":
        return _gone(client)
    said = str(getattr(error, "msg", None) or reason or "no reason given")
    return f"the Dask cluster dropped it: {said[:300]}"


def _gone(client: Any) -> str:
    """Say that a cluster cannot be reached any more."""
    address = _Hub.of(client).address
    if client.status in ("closing", "closed"):
        return f"the connection to the Dask cluster at {address} is closed"
    return f"the scheduler of the Dask cluster at {address} is gone"


# -- one task ----------------------------------------------------------------------------------
class _Call(NamedTuple):
    """What a task was when its call was packed."""

    func: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any] | None
    version: Any

    def is_of(self, task: Task) -> bool:
        """Say whether the task would make the same call now."""
        return task.func is self.func and task._args is self.args and task._kwargs is self.kwargs


class _DaskTrip(Trip):
    """One task's way to the cluster and back."""

    def __init__(
        self, task: Task, done: Callable[[Task, Attempt | None, bool], None], run: Any, place: Dask
    ) -> None:
        super().__init__(task, done, run)
        self.place = place
        self.key = ""
        self.future: Any = None
        self.call: _Call | None = None
        self.inputs: list[tuple[Task | None, Any]] = []  # each with its future
        self.load: Any = None  # the future of a large parcel
        self.sent = 0.0  # when it was submitted
        self.made = 0.0  # since when its worker makes the call, as far as was told
        self.over: float | None = None  # when the call ended, likewise
        self.early: list[list[Any]] = []  # what was told before there was a future
        self.resent = 0
        self.is_ahead = False  # whether it is sent before its prerequisites are done
        self.kept: list[list[Any]] | None = None  # what was told of it as long as no run has it
        self.handles: list[Any] = []  # futures of ours for the results of such prerequisites

    def kill(self) -> None:
        """Give the call up; Dask cannot end it, but its function can see that it is to stop."""
        self.place.let_go()  # first, so that none of those begins in its stead
        self.end(None, CancellationError(f"{self.task._fsm_called()} was cancelled", self.task))

    @classmethod
    def ahead(cls, task: Task, place: Dask) -> _DaskTrip:
        """Return the trip of a task that no run has queued yet."""
        trip = cls(task, lambda *_: None, None, place)
        trip.is_ahead, trip.kept = True, []
        return trip

    def taken(self, done: Callable[[Task, Attempt | None, bool], None], run: Any) -> bool:
        """Belong to the run that has queued the task; say whether the call is still right."""
        self._done, self._run = done, run
        self.sent = max(self.sent, self.task._log[-2])  # not before it was queued
        if self.call is None or not self.call.is_of(self.task):
            return False
        return all(task is None or self._is_of(task, given.key) for task, given in self.inputs)

    @staticmethod
    def _is_of(task: Task, key: str) -> bool:
        """Say whether the result of a task is the one of a key on the cluster."""
        return isinstance(task._value, RemoteValue) and task._value.future.key == key

    @property
    def is_over(self) -> bool:
        """Whether it is settled."""
        return self._ended

    def drop(self) -> None:
        """Let go of a task that was cancelled, or has become blocked, before it began."""
        with GRAPH_LOCK:
            self.task._may_begin()
        self._close()

    def packed(self, under_way: Mapping[Task, _DaskTrip] | None = None) -> Parcel:
        """Pickle the call, with references to what is on the cluster already, or will be.

        Parameters
        ----------
        under_way : mapping of Task to _DaskTrip, optional
            The trips of prerequisites that are not done yet.

        Raises
        ------
        TravelError
            If something cannot travel; it is named.
        LostValueError
            If the result of a prerequisite is lost.
        """
        task = self.task
        with GRAPH_LOCK:
            func = task.func
            self.call = _Call(func, task._args, task._kwargs, None)
            number = 1 if task._attempt is None else task._attempt.number + 1
        called = task._fsm_called()
        if func is None:
            message = f"{called} has no function: give it one by repair(), or call()"
            raise TaskError(message, task)
        self.call = self.call._replace(version=version_of(func))
        self.inputs, self.handles = [], []
        kinds = (Task, self.place.future_class)
        args, kwargs = with_results(
            (self.call.args, self.call.kwargs or {}),
            partial(self._reference, under_way or {}),
            kinds,
        )
        if under_way:
            known = {task for task, _ in self.inputs}
            for each in task.required:
                if each.fsm_state != "DONE" and each not in known:
                    self._to_input(each, self._handle(under_way[each]))
        words = [*(None for _ in args), *kwargs]
        packer = ParcelPacker()
        place = -1  # of the argument that is packed; that of the function is before them
        try:
            packer.add((self.place.topic, task.name, number, words))
            packer.add(func)
            for value in (*args, *kwargs.values()):
                place += 1
                packer.add(value)
            packer.add(packer.sources())
        except Exception as error:
            what = name_of(place, func, words)
            message = f"{what} of {called} cannot be sent to the cluster: {words_of(error)}"
            raise TravelError(message, task) from error
        return packer.packed(_cleaned(task.name))

    def _reference(self, under_way: Mapping[Task, _DaskTrip], value: Any) -> Any:
        """Return what stands in the pickle for a task, or for a future of the user's."""
        place = self.place
        if not isinstance(value, Task):
            return self._to_input(None, value) if value.client is place.client else value
        if value in under_way and value.fsm_state != "DONE":
            return self._to_input(value, self._handle(under_way[value]))
        held = value._done_value()
        if isinstance(held, RemoteValue) and held.client is place.client:
            if (lost := held.why_lost()) is not None:
                raise value._lose(held, lost) from lost
            return self._to_input(value, held.future)
        held = value._brought(held)
        shared = place.shared(value, held)
        return held if shared is None else self._to_input(None, shared)

    def _handle(self, trip: _DaskTrip) -> Any:
        """Return a future of our own for a call whose graph may be yet to be submitted."""
        handle = self.place.future_class(trip.key, self.place.client)
        self.handles.append(handle)
        return handle

    def let_go(self) -> None:
        """Need no results on the cluster any more."""
        handles, self.handles = self.handles, []
        self.inputs, self.load = [], None
        for handle in handles:
            handle.release()

    def _to_input(self, task: Task | None, future: Any) -> Input:
        self.inputs.append((task, future))
        return Input(len(self.inputs) - 1)

    def begin(self, when: float | None = None) -> bool:
        """Start the attempt with the call as it was packed, unless there is no need any more."""
        with GRAPH_LOCK:
            if self.task._may_begin() and self.call is not None:
                self.attempt = attempt = self.task._begin(None, self._run, when)
                attempt.func, attempt.args, attempt.kwargs, attempt.version = self.call
                attempt.kill = self.kill
        if self.attempt is None:
            self._close()
            return False
        self.task._fsm_after()
        self.watch(self.task.timeout)
        return True

    def began(self, worker: str, when: float) -> None:
        """Hear which worker makes the call; that of another function is not wanted any more."""
        when = max(when, self.sent)
        if self._has_begun(when) and self.attempt is not None:
            self.attempt.worker, self.made = worker, when

    def _has_begun(self, when: float | None = None) -> bool:
        """Start the attempt if need be; say whether it is the call's, and goes on."""
        if self.is_over:
            return False
        if self.attempt is not None:
            return True  # made a second time perhaps, as a worker had died
        if self.call is not None and not self.call.is_of(self.task):
            self.place.resend(self)
            return False
        return self.begin(None if when is None else max(when, self.sent))

    def ended(self, worker: str, when: float, seconds: float, is_well: bool) -> None:  # noqa: FBT001 - of an event
        """Hear that the call has ended on its worker; if not well, the future will say how."""
        if not self._has_begun(when - seconds) or self.attempt is None:
            return
        if self.attempt.worker == worker:  # words may come late, so their distance is no length
            when = min(time(), self.made + seconds)
        self.attempt.worker = worker
        self.over = max(when, self.sent, self.attempt.started or 0.0)
        if (future := self.future) is None:
            return  # it is being given up
        if is_well:
            self._is_done(future, self.over)
        else:
            future.add_done_callback(partial(self.place.came, self))

    def said(self, printed: bytes, progress: list[float] | None) -> None:
        """Take what the task printed on its worker, and how far it is."""
        attempt = self.attempt
        if attempt is None or self.is_over:
            return
        text = printed.decode("utf-8", "surrogatepass")
        if text:
            attempt.write(text)
            self.show(text)
        if progress is not None:
            done, total = progress
            attempt.progressed = (done, total)
            with GRAPH_LOCK:
                for queue in self.task._told_queues():
                    queue._is_changed()

    def rest(self, printed: bytes, dropped: int) -> None:
        """Take what the task printed beyond what was reported at once."""
        self.said(printed, None)
        if dropped and self.attempt is not None and self.attempt._output is not None:
            self.attempt._output.dropped += dropped

    def came(self, future: Any) -> None:
        """Take what came of the call, unless its worker has told all there is to know."""
        if self.is_over or future is not self.future or future.status not in _COME:
            return
        if future.status == "cancelled" and self.place.may_be_sent_again(self):
            self.place.resend(self)
        elif not self._has_begun():
            return
        elif future.status == "finished":
            self._is_done(future, None)
        else:
            self.end(None, self._error(future), self.over)

    def _is_done(self, future: Any, when: float | None) -> None:
        """Take the result, which stays where it is; the scheduler may yet have to hear of it."""
        self.future = None  # so that it is not given up
        value = RemoteValue(self.place.client, future, self.task._fsm_called())
        if self.task.cancel_on_result is None:
            self.end(value, None, when)
        else:  # it takes the value to judge it, and its time
            threading.Thread(target=self._judged, args=(value,), daemon=True).start()

    def _judged(self, value: RemoteValue) -> None:
        try:
            error = self.judge(value.get())
        except BaseException as raised:  # noqa: BLE001 - the task's failure, whatever it is
            error = raised
        self.end(value, error)

    def _error(self, future: Any) -> BaseException:
        """Return why there is no value."""
        for task, given in self.inputs:
            if task is not None and given.status in ("error", "cancelled"):
                held = task._value
                if isinstance(held, RemoteValue) and held.future is given:
                    return task._lose(held, held.why_lost() or ConnectionError("it is gone"))
        called = self.task._fsm_called()
        if future.status == "cancelled":
            what = _what_happened(self.place.client, future)
            return WorkerError(f"{called} has no answer: {what}", self.task)
        error = cast("BaseException", future.exception(timeout=_PATIENCE))
        if isinstance(error, Failed):
            return self._unpacked(*error.args)
        if type(error).__name__ == "KilledWorker":
            _, worker, allowed = error.args
            message = (
                f"{called} was given up: {allowed + 1} workers died while they made its call, the "
                f"last of them {worker.address}"
            )
            return WorkerError(message, self.task)
        return error

    def _unpacked(
        self, kind: str, words: str, text: str, what: str, pickled: bytes | None
    ) -> BaseException:
        called = self.task._fsm_called()
        if self.attempt is not None and text:
            self.attempt._error_text = text
        if kind == "unsent":
            message = (
                f"the result of {called}, {with_article(what)}, cannot be sent from its worker"
            )
            return TravelError(f"{message}: {words}", self.task)
        if kind == "unread":
            message = f"{what} of {called} cannot be read on its worker: {words}"
            return TravelError(message, self.task)
        if kind == "exit":
            return WorkerError(f"{called} raised {words} on its worker", self.task)
        reason = "it does not survive the way"
        if pickled is not None:
            try:
                return cast("BaseException", pickle.loads(pickled))  # noqa: S301 - of our worker
            except BaseException as error:  # noqa: BLE001 - unpickling runs foreign code
                reason = words_of(error)
        name, _, rest = words.partition(": ")
        message = f"the exception of {called}, {with_article(name)}, cannot be sent from its worker"
        return TravelError(f"{message} ({reason}); it said: {rest}", self.task)

    def _close(self) -> None:
        self.place.forget(self)
        super()._close()


def _cleaned(name: str) -> str:
    """Return a name that a key may hold: one short line, without what is no Unicode."""
    shown = "".join(c if c.isprintable() else "\ufffd" for c in name[:_NAME])
    return shown if len(name) <= _NAME else f"{shown}…"


def _key_for(name: str) -> str:
    """Return a key of its own that begins with a task's name.

    Dask's pages put keys together that have their beginning in common, up to a hyphen that no
    letter follows; so the tasks of one `map` share a colour and an estimate of their time.
    """
    stem, bracket, item = name.partition("[")
    if bracket and stem and item.endswith("]"):
        name = f"{stem}-[{item}"
    return f"{name or 'task'}-{uuid4().hex}"


def _may_be_followed(trip: _DaskTrip) -> bool:
    """Say whether tasks may be sent ahead of this one: whether it is done as soon as its call is.

    The lock of the graph is held.
    """
    task, attempt, options = trip.task, trip.attempt, trip.task._options
    if not (trip.kept is not None or task.fsm_state in ACTIVE) or len(task._blocking) > _MANY:
        return False
    if task.fsm_state == "QUEUED" and (task._missing or not (trip.call and trip.call.is_of(task))):
        return False  # it will be sent anew
    if attempt is not None and (attempt.fault or attempt.outdated or attempt.asked_to_stop):
        return False
    return (
        task._fsm_listeners is None
        and options.timeout is None
        and options.cancel_on_result is None
        and options.fault is None
    )


def _may_follow(task: Task) -> bool:
    """Say whether a task may be sent ahead as far as it is concerned; the lock is held.

    A prerequisite whose result it does not take is brought to its worker nevertheless, as Dask
    knows no other way to wait for it; so there may be one only, where the task goes itself.
    """
    return (
        task.func is not None
        and task._fsm_listeners is None
        and task._options.fault is None
        and (
            len(task._required) == 1
            or all(
                each.fsm_state == "DONE" or each in (task._inputs or ()) for each in task._required
            )
        )
    )


# -- all of them -------------------------------------------------------------------------------
class _Hub:
    """Hears the events of a client, and passes each on to the run that it belongs to."""

    _known: ClassVar[weakref.WeakKeyDictionary[Any, _Hub]] = weakref.WeakKeyDictionary()
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
    def of(cls, client: Any) -> _Hub:
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
                if message[1] in _DATED:
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
        self._hub: _Hub | None = None
        self._lock = threading.Lock()  # never held while anybody else's code runs
        self._trips: dict[str, _DaskTrip] = {}
        self._shared: dict[Task, tuple[Any, Any]] = {}  # local results that were sent
        self._outbox: SimpleQueue[Any] = SimpleQueue()  # trips, or `_MORE`; None at the end
        self._inbox: SimpleQueue[Any] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._is_closed = False
        self._unconnected: float | None = None
        self._silent: set[_DaskTrip] = set()  # those that had come to an end at the last look
        self._next = 0.0  # when a graph is submitted at the earliest
        self._few: float = math.inf  # with as many calls there, or less, the next are submitted
        self._ahead: dict[Task, _DaskTrip] = {}  # calls that no run has yet
        self._begun: dict[_DaskTrip, float] = {}  # of these, what has begun there, and when
        self._sending_ahead = threading.RLock()  # held while they are chosen, packed and submitted
        self._has_taken = threading.Condition()  # one of them was taken, or is given up
        self._wants_more = False  # whether the thread that submits is asked for further ones
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
        with self._lock:
            ahead = self._ahead.get(task)
        if ahead is not None:
            self._inbox.put(partial(self._take_over, ahead, done, run))
            return
        trip = _DaskTrip(task, done, run, self)
        try:
            self._start()
        except RuntimeError as error:  # no more threads to be had
            trip.end(None, error)
            return
        self._outbox.put(trip)

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

    def resend(self, trip: _DaskTrip) -> None:
        """Submit a call again, as it is now; what comes of the former is not wanted."""
        trip.is_ahead = False
        self._drop(trip)
        self._outbox.put(trip)

    def forget(self, trip: _DaskTrip) -> None:
        """Keep nothing of a call that is settled; of one that is given up tell the cluster."""
        self._drop(trip)
        trip.let_go()

    def _drop(self, trip: _DaskTrip) -> None:
        with self._lock:
            self._trips.pop(trip.key, None)
            future, trip.future = trip.future, None
            if len(self._trips) <= self._few:
                self._has_room.set()
        if self._hub is not None:
            self._hub.inboxes.pop(trip.key, None)
        if future is not None and future.status == "pending":
            future.release()  # the worker will hear of it; this waits for nothing

    def close(self) -> None:
        """Have the cluster give up what it still does for this run, and end our threads."""
        with CAUGHT_UP, self._lock:
            self._is_closed = True
            trips = list(self._trips.values())
        for trip in trips:
            called = trip.task._fsm_called()
            trip.end(None, CancellationError(f"{called} was cancelled: the run ended", trip.task))
        LEADERS.discard(self)
        self._outbox.put(None)
        self._inbox.put(None)
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(_PATIENCE)
        self._shared.clear()

    # -- in the thread that submits ----------------------------------------------------------

    def _send_all(self) -> None:
        """Submit what there is to submit, until told to end."""
        while (first := self._outbox.get()) is not None:
            self._await_more()
            trips: list[_DaskTrip] = [] if first is _MORE else [first]
            goes_on = True
            with contextlib.suppress(Empty):
                while len(trips) < _AT_ONCE:
                    if (trip := self._outbox.get_nowait()) is None:
                        goes_on = False
                        break
                    if trip is not _MORE:
                        trips.append(trip)
            try:
                self._send_some(trips)
            except BaseException as error:  # noqa: BLE001 - no task may wait for ever
                for trip in trips:
                    trip.end(None, error)
            if not goes_on:
                return
            self._next = monotonic() + _PAUSE
            threads = math.inf if self._hub is None else self._hub.threads
            with self._lock:
                self._few = max(len(self._trips) / 2, 8 * threads)
                if len(self._trips) > self._few:
                    self._has_room.clear()

    def _await_more(self) -> None:
        """Wait a moment for calls that can go in the same graph, of which each one has its price.

        While a cluster has more calls than it can make at once, and half as many as after the last
        graph, a further one comes early enough when these have become fewer.
        """
        if (early := self._next - monotonic()) > 0:
            sleep(early)
        self._has_room.wait(_WAIT)

    def _send_some(self, trips: Iterable[_DaskTrip]) -> None:
        """Submit calls in as few graphs as Dask takes without a warning."""
        batch: list[tuple[_DaskTrip, Any]] = []
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
        with self._sending_ahead:
            for trip, parcel in self._packed_ahead([trip for trip, _ in batch]):
                if size + parcel.nbytes > _GRAPH:
                    self._submit_all(batch)
                    batch, size = [], 0
                batch.append((trip, parcel))
                size += parcel.nbytes
            self._submit_all(batch)

    def _packed(self, trip: _DaskTrip) -> tuple[Any, int] | None:
        """Return a call for the cluster and its size; None if there is nothing to submit."""
        with GRAPH_LOCK:
            is_wanted = not trip.is_over and trip.task._may_begin()
        if not is_wanted:
            trip.drop()
            return None
        try:
            self._meet()
            trip.key = _key_for(_cleaned(trip.task.name))
            parcel = trip.packed()
            nbytes = parcel.nbytes
            if nbytes > _LARGE:
                trip.load = self.client.scatter([parcel], hash=False)[0]
                return trip.load, 0
        except BaseException as error:  # noqa: BLE001 - the task's failure, whatever it is
            trip.end(None, self._named(error))
            return None
        return parcel, nbytes

    def _meet(self) -> None:
        """Listen to the client from now on."""
        if self._hub is None:
            from distributed import Future  # noqa: PLC0415 - whoever has a client has it

            self.future_class = Future
            self._hub = _Hub.of(self.client)
            self.topic = self._hub.topic
            self._hub.ask(self.client)

    def _submit_all(self, batch: list[tuple[_DaskTrip, Any]]) -> None:
        if not batch or self._hub is None:
            return
        keys = []
        for trip, _ in batch:
            trip.sent = time()
            keys.append(trip.key)
            with self._lock:
                self._trips[trip.key] = trip
            self._hub.inboxes[trip.key] = self._inbox
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
                if trip.kept is None:
                    trip.end(None, self._named(error))
                else:
                    self._give_up(trip)
            return
        for key, (trip, _), future in zip(keys, batch, futures, strict=True):
            with self._lock:
                is_wanted = self._trips.get(key) is trip
                if is_wanted:
                    trip.future = future
                early, trip.early = trip.early, []
            if early:
                self._inbox.put(early)
            if not is_wanted:  # dropped since it was handed over
                future.release()

    def came(self, trip: _DaskTrip, future: Any) -> None:
        """Have what came of a call be taken, in the thread for that."""
        self._inbox.put(partial(self._do, trip, partial(trip.came, future)))

    def _named(self, error: BaseException) -> BaseException:
        """Return an error that says so when the client or its scheduler is gone."""
        if isinstance(error, TaskError) or self.client.status == "running":
            return error
        return WorkerError(f"{_gone(self.client)} ({words_of(error)})")

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

    # -- ahead of the states -----------------------------------------------------------------

    def _packed_ahead(self, sent: Collection[_DaskTrip]) -> list[tuple[_DaskTrip, Parcel]]:
        """Return calls to be sent ahead, beside those of some trips.

        What cannot be packed, or is large, is left to the time when its task is ready.
        """
        self._wants_more = False
        if self._hub is None or self.leads is None or self._is_closed:
            return []
        most = _BUSY if self._hub.threads == math.inf else max(_BUSY, 8 * self._hub.threads)
        with self._lock:
            under_way = {trip.task: trip for trip in self._trips.values()}
        under_way |= {trip.task: trip for trip in sent}
        if len(under_way) >= most or not CAUGHT_UP.admit(self):
            return []
        packed = []
        for trip in self._choose(under_way, int(most)):
            try:
                trip.key = _key_for(_cleaned(trip.task.name))
                parcel = trip.packed(under_way)
                is_small = parcel.nbytes <= _LARGE
            except BaseException:  # noqa: BLE001 - it fails its task when that is ready, and says so there
                is_small = False
            if is_small:
                packed.append((trip, parcel))
            else:
                del under_way[trip.task]
                self._give_up(trip)
        return packed

    def _choose(self, under_way: dict[Task, _DaskTrip], most: int) -> list[_DaskTrip]:
        """Return trips for tasks whose prerequisites are all done or under way, and add them there.

        What stands behind them follows, until there are enough.
        """
        chosen: list[_DaskTrip] = []
        with GRAPH_LOCK:
            line = deque(trip for trip in under_way.values() if _may_be_followed(trip))
            awaited: dict[Task, int] = {}  # how many of its prerequisites are under way
            while line and len(under_way) < most:
                for task in line.popleft().task._blocking:
                    awaited[task] = awaited.get(task, 0) + 1
                    if awaited[task] < task._missing or task in under_way:
                        continue
                    if not (_may_follow(task) and self.leads is not None and self.leads(task)):
                        continue
                    trip = under_way[task] = _DaskTrip.ahead(task, self)
                    chosen.append(trip)
                    if _may_be_followed(trip):
                        line.append(trip)
                    if len(under_way) >= most:
                        break
            with self._lock:
                self._ahead |= {trip.task: trip for trip in chosen}
        return chosen

    def _is_no_longer_ahead(self, trip: _DaskTrip) -> bool:
        """Take note that a call is a run's or given up; False if somebody else was faster."""
        with self._lock:
            was_ahead = self._ahead.get(trip.task) is trip
            if was_ahead:
                del self._ahead[trip.task]
                self._begun.pop(trip, None)
        with self._has_taken:
            self._has_taken.notify_all()
        return was_ahead

    def _give_up(self, trip: _DaskTrip) -> None:
        """Have a call that no run has be made no more."""
        if self._is_no_longer_ahead(trip):
            self.forget(trip)

    def _have_queued(self, trip: _DaskTrip, when: float) -> None:
        """Have the run queue the task of a call that the cluster has begun, or has made."""
        ended = [task._attempt.ended or 0.0 for task in trip.task.required if task._attempt]
        if self.send_now is not None and self.send_now(trip.task, max(when, *ended, trip.sent)):
            with self._lock:
                self._begun.pop(trip, None)  # `send` has put it into our inbox

    def _take_over(
        self, trip: _DaskTrip, done: Callable[[Task, Attempt | None, bool], None], run: Any
    ) -> None:
        """Make a call that was sent ahead the one of its task, which a run has queued."""
        is_there = self._is_no_longer_ahead(trip)
        with self._lock:
            told, trip.kept = trip.kept or [], None
        if trip.taken(done, run) and is_there:
            for each in told:
                self._hear(*each)
        else:
            self.resend(trip)
        if not self._wants_more and len(self._ahead) < _BUSY / 2:
            self._wants_more = True
            self._outbox.put(_MORE)

    def catch_up(self) -> None:
        """Withdraw the calls that were sent ahead, and have those be taken that have begun.

        Nothing is done for who holds the lock of the graph, as the states could not follow.
        """
        if GRAPH_LOCK._is_owned():  # type: ignore[attr-defined]
            return
        with self._sending_ahead:
            with self._lock:
                trips = {trip.key: trip for trip in self._ahead.values()}
            begun = self._withdrawn(list(trips)) if trips else set()
            for key, trip in trips.items():
                if key not in begun:
                    self._give_up(trip)
                    self._inbox.put(partial(self._send_if_withdrawn, trip, key))
        self._await_taken([trips[key] for key in begun])
        LEADERS.discard(self)

    def _send_if_withdrawn(self, trip: _DaskTrip, key: str) -> None:
        """Send a call anew that was withdrawn in the very moment in which a run has taken it."""
        if trip.kept is None and trip.key == key and trip.future is not None and not trip.is_over:
            self.resend(trip)

    def _withdrawn(self, keys: list[str]) -> set[str]:
        """Have no worker begin some calls any more; return the keys of those that have begun."""
        try:
            begun = set().union(*self._on_workers(withdraw, keys).values())
            if begun:
                self._on_workers(allow, list(begun))
        except Exception:  # noqa: BLE001 - the cluster is gone, so nothing begins there
            return set()
        return begun

    def _on_workers(self, what: Callable[[list[str]], Any], keys: list[str]) -> dict[str, Any]:
        """Call something on all workers; those that do not answer in time have nothing to say."""

        async def asked() -> Any:
            return await self.client.run(what, keys, on_error="ignore")

        return cast("dict[str, Any]", self.client.sync(asked, callback_timeout=_PATIENCE))

    def _await_taken(self, trips: list[_DaskTrip]) -> None:
        """Wait until a run has all of these; what takes too long is given up."""
        until = monotonic() + _PATIENCE
        is_ours = self._threads and threading.current_thread() is self._threads[-1]
        while left := [trip for trip in trips if self._ahead.get(trip.task) is trip]:
            if monotonic() > until:
                for trip in left:
                    self._give_up(trip)
            elif is_ours:  # nobody else would take it
                with contextlib.suppress(Empty):
                    self._take(self._inbox.get(timeout=_LOOK))
            else:
                with self._has_taken:
                    self._has_taken.wait(_PAUSE)

    # -- in the thread that takes what comes back --------------------------------------------

    def _take_all(self) -> None:
        """Take what comes, and look at what nobody tells, until told to end."""
        next_look = monotonic() + _LOOK
        while True:
            with contextlib.suppress(Empty):
                item = self._inbox.get(timeout=max(0.0, next_look - monotonic()))
                if item is None:
                    return
                self._take(item)
            if monotonic() >= next_look:
                self._look()
                next_look = monotonic() + _LOOK

    def _take(self, item: Callable[[], object] | list[Any]) -> None:
        """Do what is to be done in this thread, or take what was told."""
        if isinstance(item, list):
            for told in item:
                self._hear(*told)
        else:
            item()
        for trip, when in tuple(self._begun.items()):
            self._have_queued(trip, when)

    def _hear(self, key: str, what: str, *rest: Any) -> None:
        """Take what was told of a call."""
        with self._lock:
            trip = self._trips.get(key)
            if trip is not None and trip.kept is not None:
                trip.kept.append([key, what, *rest])
                if what in _DATED:
                    _, when, *seconds = rest
                    self._begun.setdefault(trip, when - sum(seconds[:1]))
                return
            if trip is not None and trip.future is None and what == "ended":
                trip.early.append([key, what, *rest])  # the graph is still being submitted
                return
        if trip is not None and what in _HEARD:
            self._do(trip, partial(getattr(trip, what), *rest))

    @staticmethod
    def _do(trip: _DaskTrip, what: Callable[[], object]) -> None:
        try:
            what()
        except BaseException as error:  # noqa: BLE001 - no task may wait for ever
            trip.end(None, error)

    def _look(self) -> None:
        """Look at what nobody tells; all has failed if the cluster is gone."""
        if self._is_gone():
            with self._lock:
                trips = list(self._trips.values())
            for trip in trips:
                if trip.kept is not None:
                    self._give_up(trip)
                    continue
                error = WorkerError(
                    f"{trip.task._fsm_called()} has no answer: {_gone(self.client)}"
                )
                error.task = trip.task
                if trip.attempt is not None or trip.begin():
                    trip.end(None, error)
            return
        self.let_go()
        self._look_at_futures()
        if self._hub is not None:
            self._hub.ask(self.client)
            self._warn_of_no_workers(self._hub)

    def _warn_of_no_workers(self, hub: _Hub) -> None:
        """Say once why nothing goes on where nobody works."""
        if hub.workers:
            self._has_warned = False
        elif hub.workers == 0 and self._trips and not self._has_warned:
            self._has_warned = True
            waiting = len(self._trips) - len(self._ahead)
            tasks = f"{waiting} task{'s' * (waiting != 1)}"
            message = f"the Dask cluster at {hub.address} has no workers: {tasks} wait for one"
            with contextlib.suppress(RuntimeWarning):  # made an error: nobody could take it here
                warnings.warn(message, RuntimeWarning, stacklevel=1)

    def _look_at_futures(self) -> None:
        """Take what has come to an end of which no worker tells any more: it died, say."""
        with self._lock:
            trips = [trip for trip in self._trips.values() if trip.future and trip.kept is None]
        silent = {trip for trip in trips if trip.future.status in _COME}
        for trip in silent & self._silent:  # a word of its worker may be on its way
            self.came(trip, trip.future)
        self._silent = silent

    def let_go(self) -> None:
        """Let go of what was cancelled while it was queued, or will not be: nobody tells."""
        with self._lock:
            trips = list(self._trips.values())
        for trip in trips:
            if trip.kept is not None:
                if trip.future is not None and trip.future.status in _LOST:
                    self._give_up(trip)  # a prerequisite has failed
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

    def may_be_sent_again(self, trip: _DaskTrip) -> bool:
        """Say whether a call was dropped for want of data that can be sent once more."""
        futures = {id(future) for _, future in self._shared.values() if future.status != "finished"}
        lost = trip.load is not None and trip.load.status == "cancelled"
        lost = lost or any(id(future) in futures for _, future in trip.inputs)
        if not lost or self.client.status != "running" or trip.resent >= _RESENT:
            return False
        trip.resent += 1
        return True
