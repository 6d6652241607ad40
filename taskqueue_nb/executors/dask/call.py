"""What happens on a Dask worker: a packed call is made, and tells of itself by events.

Neither the scheduler nor a worker unpickles anything of the user's outside of `call`, so that what
cannot be read fails its own task, by name.
"""

from __future__ import annotations

import io
import linecache
import math
import pickle
import threading
import weakref
from collections import OrderedDict
from contextvars import ContextVar
from time import monotonic
from typing import TYPE_CHECKING, Any, ClassVar, Final, NamedTuple, TypeVar, cast

import cloudpickle

from taskqueue_nb._worker import Packer, _Line, _portable
from taskqueue_nb.capture import capturing
from taskqueue_nb.executors.trip import name_of
from taskqueue_nb.loops import awaited
from taskqueue_nb.runstate import CURRENT, RunState
from taskqueue_nb.task import (
    Attempt,
    Task,
    _end_child,
    _forks,
    _traceback_text,
    without_our_frames,
    words_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

R = TypeVar("R")

_LOOK: Final = 0.1  # seconds between looks at whether a call is given up
_SOON: Final = 0.005  # seconds between two tellings of what calls have begun, and ended
_TRIED: Final = 1_000_000  # bytes up to which a result is pickled to see whether it can travel
_KEPT: Final = 10_000  # calls that came ahead of which is known whether they have begun


class Parcel:
    """A packed call: its name, a pickle, and the large buffers beside it."""

    __slots__ = ("buffers", "data", "name")

    def __init__(self, name: str, data: Any, *buffers: Any) -> None:
        self.name, self.data, self.buffers = name, data, buffers

    def __repr__(self) -> str:
        return f"<call of {self.name}>"  # Dask's logs show it

    @property
    def nbytes(self) -> int:
        """How large it is, in bytes."""
        return sum(memoryview(part).nbytes for part in (self.data, *self.buffers))

    def __sizeof__(self) -> int:
        return self.nbytes

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        parts = (self.data, *self.buffers)
        if protocol >= 5:  # noqa: PLR2004 - the first that carries buffers beside the pickle
            return Parcel, (self.name, *map(pickle.PickleBuffer, parts))
        return Parcel, (self.name, *map(bytes, parts))

    def items(self) -> Iterator[Any]:
        """Unpickle one object after the other; each call has buffers of its own to write to."""
        buffers = [bytearray(buffer) for buffer in self.buffers]
        unpickler = pickle.Unpickler(io.BytesIO(self.data), buffers=buffers)  # noqa: S301 - made by `DaskTrip`
        while True:
            yield unpickler.load()


class ParcelPacker(Packer):
    """Packs into parcels that travel by Dask's own ways."""

    def packed(self, name: str) -> Parcel:
        """Return what was packed, under a name for those who look."""
        return Parcel(name, self._file.getvalue(), *self._buffers)


class Failed(Exception):  # noqa: N818 - data on its way, raised by nobody else
    """What a call came to that has no value, as data that survives every way.

    Its arguments are the kind ("raised", "exit", "unread", "unsent", "withdrawn"), the exception's
    words, its traceback as text, a further word, and the pickled exception or None.
    """

    def __str__(self) -> str:
        words = str(self.args[1]) if len(self.args) > 1 else ""
        return words.encode("ascii", "backslashreplace").decode("ascii")  # Dask's messages hold it

    def __repr__(self) -> str:
        return f"<{self}>"  # and its logs show it


_INPUTS: Final[ContextVar[list[Any]]] = ContextVar("taskqueue_nb_inputs")


class Input:
    """Stands in a packed call for a result that is on the cluster."""

    def __init__(self, place: int) -> None:
        self._place = place

    def __reduce__(self) -> tuple[Any, ...]:
        return _input, (self._place,)


def _input(place: int) -> Any:
    return _INPUTS.get()[place]


class _Wire:
    """Takes what a call reports, and passes it on to the notebook as events."""

    def __init__(self, calls: _Calls, topic: str, key: str) -> None:
        self._calls, self._topic, self._key = calls, topic, key

    def tell(self, *what: Any) -> None:
        """Report something; a text as bytes, as it may hold what is no Unicode."""
        self._calls.tell(self._topic, self._key, *what)

    def send(self, _: int, text: str, progress: Any) -> None:
        """Report what was printed, or how far the task is: a message of `_Line`."""
        self.tell("said", _bytes(text), None if progress is None else list(map(float, progress)))


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _is_given_up(worker: Any, key: str) -> bool:
    """Say whether Dask has told a worker that nobody wants a call any more."""
    state = worker.state.tasks.get(key)
    return state is None or state.state == "cancelled"


class _Stopping(RunState):
    """Asks to stop as soon as the notebook has given the call up: Dask tells its worker."""

    __slots__ = ("_key", "_worker")

    def __init__(self, name: str, worker: Any, key: str) -> None:
        super().__init__(name)
        self._worker, self._key = worker, key

    @property
    def cancelled(self) -> bool:
        """Whether stopping was asked for."""
        return super().cancelled or _is_given_up(self._worker, self._key)

    def sleep(self, seconds: float) -> bool:
        """Sleep, but wake soon once stopping is asked for; say whether it was."""
        end = monotonic() + seconds
        while not self.cancelled and (left := end - monotonic()) > 0:
            super().sleep(min(left, _LOOK))
        return self.cancelled


class _Made(NamedTuple):
    """A call that is being made: its thread, and the pool that this is of."""

    key: str
    thread: threading.Thread
    pool: Any


class _Ended(NamedTuple):
    """What there is to tell of a call that has ended."""

    key: str
    at: float
    seconds: float  # that it took
    is_well: bool


class _Calls:
    """The calls that a worker makes, of which one that is given up holds up no other.

    A scheduler takes a worker for free once its call was given up, and sends it the next. The
    worker knows better: its thread still runs the function, and as no thread can be ended, what
    came next would wait for ever. So what the function could have done itself is done for it, it
    secedes: its thread leaves the pool, another takes its place, and what the scheduler believes
    is true. This is looked at again and again on the worker's loop while there are calls, so that
    nobody has to tell, and nothing told can be missed.

    A call that was sent ahead, before its prerequisites were done, begins without the notebook. To
    be withdrawn it is named on each worker, which either has begun it, and says so, or never will.

    They tell of themselves together, too: that they have begun and that they have ended, in one
    event for those of a few milliseconds. Of a call that has ended by then it is told once. A Dask
    client could say that as well, but makes a coroutine and a job for a thread of each call.
    """

    _known: ClassVar[weakref.WeakKeyDictionary[Any, _Calls]] = weakref.WeakKeyDictionary()
    _all: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self, worker: Any) -> None:
        self._worker = weakref.proxy(worker)
        self._lock = threading.Lock()  # held for a moment only, also while an event is handed over
        self._made: dict[str, _Made] = {}
        self._seceded: set[str] = set()
        self._met: OrderedDict[str, bool] = OrderedDict()  # by key, sent ahead: has it begun?
        self._begun: dict[str, tuple[str, float]] = {}  # of which that is to be told: topic, when
        self._ended: dict[str, list[_Ended]] = {}  # likewise, by topic
        self._told = -math.inf  # when it was told last
        self._is_looking = self._is_to_tell = False

    @classmethod
    def of(cls, worker: Any) -> _Calls:
        """Return those of a worker."""
        with cls._all:
            if (calls := cls._known.get(worker)) is None:
                calls = cls._known[worker] = cls(worker)
            return calls

    def begin(self, key: str, *, is_ahead: bool = False) -> bool:
        """Take note of a call, in its thread; False if it was withdrawn before it began."""
        from distributed.threadpoolexecutor import thread_state  # noqa: PLC0415 - a worker's alone

        pool = getattr(thread_state, "executor", None)  # None: of a pool that cannot do this
        with self._lock:
            if is_ahead and not self._meet(key, has_begun=True):
                return False
            self._made[key] = _Made(key, threading.current_thread(), pool)
            starts, self._is_looking = not self._is_looking, True
        if starts:
            self._look_again()
        return True

    def withdraw(self, keys: Iterable[str]) -> list[str]:
        """Let calls that were sent ahead not begin any more; return those that have begun."""
        with self._lock:
            return [key for key in keys if self._meet(key, has_begun=False)]

    def allow(self, keys: Iterable[str]) -> None:
        """Let calls be made here that have begun on another worker, should that one die."""
        with self._lock:
            for key in keys:
                if self._met.get(key) is False:
                    del self._met[key]

    def _meet(self, key: str, *, has_begun: bool) -> bool:
        """Take note of what happens to a call first, and return that; the lock is held."""
        if len(self._met) >= _KEPT:
            self._met.popitem(last=False)
        return self._met.setdefault(key, has_begun)

    def end(self, key: str) -> None:
        """Forget a call, in its thread, which ends if it is not of the pool any more."""
        from distributed.threadpoolexecutor import thread_state  # noqa: PLC0415 - likewise

        with self._lock:
            del self._made[key]
            self._begun.pop(key, None)
            has_seceded = key in self._seceded
            self._seceded.discard(key)
        if has_seceded:
            thread_state.proceed = False

    def begun(self, topic: str, key: str) -> None:
        """Have it told soon that a call has begun."""
        with self._lock:
            self._begun[key] = (topic, monotonic())
            self._tell_within(_SOON)

    def ended(self, topic: str, key: str, seconds: float, *, is_well: bool) -> None:
        """Have it told that a call has ended: at once, unless something was told just now."""
        with self._lock:
            now = monotonic()
            self._begun.pop(key, None)
            self._ended.setdefault(topic, []).append(_Ended(key, now, seconds, is_well))
            wait = self._told + _SOON - now
            if wait > 0:
                self._tell_within(wait)
            else:
                self._send()

    def tell(self, topic: str, key: str, *what: Any) -> None:
        """Tell something of a call at once, after what there is to tell from before."""
        with self._lock:
            self._send()
            self._pass_on(topic, [[key, *what]])

    def _tell_within(self, seconds: float) -> None:
        """Have all be told in a moment; the lock is held."""
        if not self._is_to_tell:
            self._is_to_tell = True
            self._worker.loop.add_callback(self._worker.loop.call_later, seconds, self._tell)

    def _tell(self) -> None:
        with self._lock:
            self._is_to_tell = False
            self._send()

    def _send(self) -> None:
        """Tell all there is; the lock is held, or one event could overtake another."""
        begun, self._begun = self._begun, {}
        ended, self._ended = self._ended, {}
        self._told = now = monotonic()
        where = self._worker.address
        for topic in {topic for topic, _ in begun.values()} | ended.keys():
            events: list[list[Any]] = [
                [key, "began", where, (at, now)] for key, (its, at) in begun.items() if its == topic
            ]
            events += [
                [each.key, "ended", where, (each.at, now), each.seconds, each.is_well]
                for each in ended.get(topic, ())
            ]
            self._pass_on(topic, events)

    def _pass_on(self, topic: str, events: list[list[Any]]) -> None:
        """Have an event sent, from whatever thread: behind all that wait for the loop already."""
        self._worker.loop.add_callback(self._worker.log_event, topic, events)

    def _look(self) -> None:
        """Have each call secede that is given up, and look again while there are any."""
        with self._lock:
            self._is_looking = bool(self._made)
            given_up = [made for key, made in self._made.items() if _is_given_up(self._worker, key)]
        if self._is_looking:
            self._look_again()
        for made in given_up:
            self._secede(made)

    def _look_again(self) -> None:
        """Have the calls be looked at in a while; most will have ended by then."""
        self._worker.loop.add_callback(self._worker.loop.call_later, _LOOK, self._look)

    def _secede(self, made: _Made) -> None:
        from distributed.threadpoolexecutor import threads_lock  # noqa: PLC0415 - a worker's alone
        from distributed.worker_state_machine import SecedeEvent  # noqa: PLC0415 - likewise

        if made.pool is None or not threads_lock.acquire(blocking=False):  # the next look will
            return
        try:
            with self._lock:
                if made.key not in self._made or made.thread not in made.pool._threads:
                    return  # it has ended, or seceded
                made.pool._threads.remove(made.thread)
                self._seceded.add(made.key)
            made.pool._adjust_thread_count()
        finally:
            threads_lock.release()
        stimulus = f"secede-{made.key}"
        self._worker.handle_stimulus(
            SecedeEvent(key=made.key, compute_duration=0.0, stimulus_id=stimulus)
        )


class _RemoteAttempt(Attempt):
    """The attempt as its worker sees it: what it reports is passed on."""

    echo = False
    line: _Line | None = None
    _progressed: tuple[float, float] | None = None

    @property
    def progressed(self) -> tuple[float, float] | None:
        return self._progressed

    @progressed.setter
    def progressed(self, value: tuple[float, float] | None) -> None:
        self._progressed = value
        if self.line is not None and value is not None:
            self.line.progress(*value)

    def write(self, text: str) -> None:
        if self.line is not None:
            self.line.write(text)


def call(parcel: Parcel, inputs: list[Any], is_ahead: bool = False) -> Any:  # noqa: FBT001, FBT002 - Dask maps by place
    """Make a packed call on a worker.

    Parameters
    ----------
    parcel : Parcel
        The topic of the events, the task's name, the number of the attempt and the places of the
        arguments; the function; each argument; the text of the cells that these come from.
    inputs : list
        The results that the arguments refer to, and those of further prerequisites.
    is_ahead : bool
        Whether it was sent before its prerequisites were done.

    Raises
    ------
    Failed
        Whatever happened.
    """
    from distributed import get_worker  # noqa: PLC0415 - only a worker needs it

    worker = get_worker()
    key = cast("str", worker.get_current_task())
    calls = _Calls.of(worker)
    if not calls.begin(key, is_ahead=is_ahead):
        raise Failed("withdrawn", "it was withdrawn before it began", "", "", None)
    try:
        if _is_given_up(worker, key):  # on its way from the loop to this thread
            return None
        return _reported(parcel, inputs, calls, worker, key)
    finally:
        calls.end(key)


def _reported(parcel: Parcel, inputs: list[Any], calls: _Calls, worker: Any, key: str) -> Any:
    """Make a call, and tell the notebook that it has begun and what it says."""
    forks = _forks[0]
    items = parcel.items()
    topic, name, number, words = next(items)
    wire = _Wire(calls, topic, key)
    calls.begun(topic, key)
    task = Task(name, state="RUNNING")
    task._attempt = attempt = _RemoteAttempt(task, None)
    attempt.number = number
    attempt._runstate = _Stopping(name, worker, key)
    attempt.line = line = _Line(wire)
    line.begin(1)
    began = monotonic()
    value, failed = _made(items, words, inputs, attempt)
    seconds = monotonic() - began
    if forks != _forks[0]:
        _end_child(failed)
    rest, dropped = line.end()
    if rest or dropped:
        wire.tell("rest", _bytes(rest), dropped)
    calls.ended(topic, key, seconds, is_well=failed is None)
    if failed is not None:
        raise failed from None
    return value


def _made(
    items: Iterator[Any], words: list[str | None], inputs: list[Any], attempt: _RemoteAttempt
) -> tuple[Any, Failed | None]:
    """Make a call: its value, or what it came to instead."""
    func: Any = None
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    place = -1  # of the argument that is read; that of the function is before them
    token, given = CURRENT.set(None), _INPUTS.set(inputs)
    try:
        func = next(items)
        for word in words:
            place += 1
            if word is None:
                args.append(next(items))
            else:
                kwargs[word] = next(items)
        place = len(words)
        for file, text in next(items).items():
            linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
        attempt.task.func = func
        CURRENT.set(attempt)
        with capturing():
            value = awaited(func(*args, **kwargs))
    except BaseException as raised:  # noqa: BLE001 - a worker's SystemExit must not end it
        error = without_our_frames(raised)
        return None, _failed(error, "" if place == len(words) else name_of(place, func, words))
    finally:
        CURRENT.reset(token)
        _INPUTS.reset(given)
    return value, _refusal(value)


def _failed(error: BaseException, stage: str) -> Failed:
    words, text = words_of(error), _traceback_text(error)
    if stage:
        return Failed("unread", words, text, stage, None)
    kind = "raised" if isinstance(error, Exception) else "exit"
    return Failed(kind, words, text, "", _portable(error))


def _refusal(value: object) -> Failed | None:
    """Say why a result cannot leave its worker, as far as that is quickly seen."""
    from dask.sizeof import sizeof  # noqa: PLC0415 - only a worker needs it

    try:
        if sizeof(value) <= _TRIED:
            cloudpickle.dumps(value, protocol=5, buffer_callback=lambda _: None)
    except BaseException as error:  # noqa: BLE001 - pickling runs foreign code
        return Failed("unsent", words_of(error), "", type(value).__name__, None)
    return None


def withdraw(keys: list[str], dask_worker: Any = None) -> list[str]:
    """Let calls that were sent ahead not begin on a worker; return those that have begun there."""
    return _Calls.of(dask_worker).withdraw(keys)


def allow(keys: list[str], dask_worker: Any = None) -> None:
    """Let calls be made on a worker, too, that have begun on another one."""
    _Calls.of(dask_worker).allow(keys)


async def shown_there(key: str, render: Callable[[Any], R], dask_worker: Any = None) -> R:
    """Call something with a value on the worker that has it, beside what that computes."""
    import asyncio  # noqa: PLC0415 - heavy, and only a worker needs it

    value = dask_worker.data[key]
    return await asyncio.get_running_loop().run_in_executor(None, render, value)
