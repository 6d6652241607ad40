"""One task's way to a Dask cluster and back, and what stays there of it."""

from __future__ import annotations

import contextlib
import pickle
import threading
from functools import partial
from time import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar, cast
from uuid import uuid4

from taskqueue_nb.executors.dask.call import Failed, Input, Parcel, ParcelPacker, shown_there
from taskqueue_nb.executors.dask.hub import gone
from taskqueue_nb.executors.trip import TravelError, Trip, WorkerError, name_of, with_article
from taskqueue_nb.fingerprint import version_of
from taskqueue_nb.fsm import CancellationError
from taskqueue_nb.task import (
    GRAPH_LOCK,
    Attempt,
    LazyValue,
    Task,
    TaskError,
    with_results,
    words_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from taskqueue_nb.executors.dask import Dask

R = TypeVar("R")

PATIENCE: Final = 5.0  # seconds that others have to answer, and our threads to end
LARGE: Final = 1_000_000  # bytes from which a call goes to a worker as data, not with the graph
COME: Final = frozenset({"finished", "error", "cancelled"})  # not "pending", nor "lost" for now
_NAME: Final = 60  # characters of a task's name in a key


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
                wait([self.future], timeout=PATIENCE)


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
        return cast("BaseException", future.exception(timeout=PATIENCE))
    if future.status == "cancelled" or client.status == "closed":
        return ConnectionError(_what_happened(client, future))
    return None


def _what_happened(client: Any, future: Any) -> str:
    """Say why Dask has dropped a future."""
    error = getattr(getattr(future, "_state", None), "exception", None)  # `exception()` would wait
    reason = getattr(error, "reason", None)
    if client.status != "running" or reason == "scheduler-connection-lost":
        return gone(client)
    said = str(getattr(error, "msg", None) or reason or "no reason given")
    return f"the Dask cluster dropped it: {said[:300]}"


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


class DaskTrip(Trip):
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
        self.kept: list[list[Any]] | None = None  # what was told of it as long as no run has it
        self.handles: list[Any] = []  # futures of ours for the results of such prerequisites

    def kill(self) -> None:
        """Give the call up; Dask cannot end it, but its function can see that it is to stop."""
        self.place.let_go()  # first, so that none of those begins in its stead
        self.end(None, CancellationError(f"{self.task._fsm_called()} was cancelled", self.task))

    @classmethod
    def ahead(cls, task: Task, place: Dask) -> DaskTrip:
        """Return the trip of a task that no run has queued yet."""
        trip = cls(task, lambda *_: None, None, place)
        trip.kept = []
        return trip

    @property
    def is_ahead(self) -> bool:
        """Whether no run has it yet, as its prerequisites are not done."""
        return self.kept is not None

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

    def packed(self, under_way: Mapping[Task, DaskTrip] | None = None) -> Parcel:
        """Pickle the call under a new key, with references to what is on the cluster or will be.

        Parameters
        ----------
        under_way : mapping of Task to DaskTrip, optional
            The trips of prerequisites that are not done yet.

        Raises
        ------
        TravelError
            If something cannot travel; it is named.
        LostValueError
            If the result of a prerequisite is lost.
        """
        task = self.task
        name = cleaned(task.name)
        self.key = key_for(name)
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
        return packer.packed(name)

    def _reference(self, under_way: Mapping[Task, DaskTrip], value: Any) -> Any:
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

    def _handle(self, trip: DaskTrip) -> Any:
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
        if self.is_over or future is not self.future or future.status not in COME:
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
        error = cast("BaseException", future.exception(timeout=PATIENCE))
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


def cleaned(name: str) -> str:
    """Return a name that a key may hold: one short line, without what is no Unicode."""
    shown = "".join(c if c.isprintable() else "\ufffd" for c in name[:_NAME])
    return shown if len(name) <= _NAME else f"{shown}…"


def key_for(name: str) -> str:
    """Return a key of its own that begins with a task's name.

    Dask's pages put keys together that have their beginning in common, up to a hyphen that no
    letter follows; so the tasks of one `map` share a colour and an estimate of their time.
    """
    stem, bracket, item = name.partition("[")
    if bracket and stem and item.endswith("]"):
        name = f"{stem}-[{item}"
    return f"{name or 'task'}-{uuid4().hex}"
