"""Worker processes that can be ended one by one: `executor="processes"`.

Each worker is a pebble pool of one, so that the notebook knows which process makes which call: a
cancel or a timeout ends exactly that one, whatever dies takes nothing with it, and no lock is
shared by processes of which one may be killed while it holds it. Workers are started when there is
a task for them, and end with the run: none of them can know an older version of anything.

A call may wait in a worker behind a short one. `AHEAD` knows such tasks, which are QUEUED: whoever
moves one withdraws its call first, or learns that its worker was faster.
"""

from __future__ import annotations

import atexit
import contextlib
import io
import itertools
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import weakref
from collections import deque
from multiprocessing.context import set_spawning_popen
from multiprocessing.process import BaseProcess
from operator import is_
from time import monotonic, sleep, time
from types import FunctionType
from typing import TYPE_CHECKING, Any, Final, cast

import pebble

from taskqueue_nb._worker import (
    KEY,
    NOTES,
    Held,
    Packer,
    Parcel,
    Wire,
    anonymous_file,
    end_group,
    serve,
    start,
    unpacked,
    withdrawn,
)
from taskqueue_nb.executors.trip import (
    Place,
    TravelError,
    Trip,
    WorkerError,
    argument_names,
    with_article,
)
from taskqueue_nb.fsm import CancellationError, shorten
from taskqueue_nb.task import (
    AHEAD,
    GRAPH_LOCK,
    Attempt,
    Task,
    TaskError,
    with_results,
    words_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.connection import Connection

_LOOK: Final = 0.1  # seconds between looks at processes whose end nobody tells
_SOON: Final = 0.005  # the same for what must come at any moment
_PATIENCE: Final = 1.0  # seconds within which the system says how a process ended
_FAREWELL: Final = 5.0  # seconds; a user's callback may hold a thread up, its process is gone
_QUICK: Final = 0.01  # seconds; behind a call that takes longer no other one should wait
_AT_ONCE: Final = 10  # answers that are heard in a row before the run is woken for them
_STANDSTILL: Final = 0.1  # seconds that a living worker needs at most to put a word down
_SHORT: Final = 1000  # characters
_CAN_WITHDRAW: Final = os.name == "posix"
_LAST_WORDS: Final = 20_000  # characters kept of what a dying interpreter says


class WorkerTraceback(Exception):  # noqa: N818 - a text that stands above an error, none of its own
    """Where in the worker an error was raised, as text: frames do not travel."""

    def __str__(self) -> str:
        return f"\n\n{self.args[0]}" if self.args else ""


# -- starting a process ------------------------------------------------------------------------
class _NoLock:
    """Stands where pebble guards a pipe that several workers share: ours has one."""

    def acquire(self, block: bool = True, timeout: float | None = None) -> bool:  # noqa: ARG002, FBT001, FBT002 - a lock's
        """Have it."""
        return True

    def release(self) -> None:
        """Have it no longer."""


class _Context:
    """What pebble asks for pipes, locks and a process; remembers the process."""

    def __init__(self) -> None:
        self._spawn = multiprocessing.get_context("spawn")
        self.Pipe = self._spawn.Pipe
        self.RLock = _NoLock
        self.process: BaseProcess | None = None  # the first; there is to be no other

    def Process(self, **options: Any) -> BaseProcess:  # noqa: N802 - the name is multiprocessing's
        """Make a process; it is not started yet."""
        kind = _Process if os.name == "posix" else self._spawn.Process
        process = kind(**options)
        self.process = self.process or process
        return process


class _Process(BaseProcess):
    """A spawned process that does not run the user's script again.

    What is defined in `__main__` travels by value, so no worker needs that module; and a script
    without an `if __name__ == "__main__"` would start itself again and again.
    """

    _start_method = "spawn"

    @staticmethod
    def _Popen(process: Any) -> Any:  # noqa: N802 - the name is multiprocessing's
        from multiprocessing.popen_spawn_posix import Popen as SpawnPopen  # noqa: PLC0415 - POSIX

        class Popen(SpawnPopen):
            """Starts an interpreter, and no resource tracker, which would outlive every run."""

            def _launch(self, process_obj: Any) -> None:
                _launch(cast("Any", self), process_obj)

        return Popen(process)


def _launch(popen: Any, process: Any) -> None:
    """Start the interpreter as `popen_spawn_posix` does, with less luggage."""
    from multiprocessing import reduction, spawn, util  # noqa: PLC0415 - kept beside its one use

    luggage = spawn.get_preparation_data(process.name)
    for main in ("init_main_from_name", "init_main_from_path"):
        luggage.pop(main, None)
    whole = io.BytesIO()
    set_spawning_popen(popen)
    try:
        reduction.dump(luggage, whole)
        reduction.dump(process, whole)
    finally:
        set_spawning_popen(None)
    ours: list[int] = []
    theirs: list[int] = []
    try:
        popen.sentinel, their_end = os.pipe()
        ours.append(popen.sentinel)
        theirs.append(their_end)
        their_start, our_start = os.pipe()
        ours.append(our_start)
        theirs.append(their_start)
        command = spawn.get_command_line(pipe_handle=their_start)
        executable: Any = spawn.get_executable()  # text or bytes, whatever typeshed says
        popen.pid = util.spawnv_passfds(executable, command, [*popen._fds, *theirs])
        with open(our_start, "wb", closefd=False) as file:
            file.write(whole.getbuffer())
    finally:
        popen.finalizer = util.Finalize(popen, util.close_fds, ours)  # type: ignore[attr-defined]  # as above
        for descriptor in theirs:
            os.close(descriptor)


# -- what goes by name --------------------------------------------------------------------------
class _Names:
    """The functions of a run that a worker imports: each is pickled once.

    All others are pickled for each call, as what they refer to may change between two.
    """

    def __init__(self) -> None:
        self._known: dict[FunctionType, bytes | None] = {}

    def of(self, func: Callable[..., Any]) -> bytes | None:
        """Return a function's pickle if that is its name; None if it travels by value."""
        if type(func) is not FunctionType or func.__module__ == "__main__":
            return None
        if getattr(sys.modules.get(func.__module__), func.__qualname__, None) is not func:
            return None  # another one has taken its name, or it never had one that can be found
        if func not in self._known:
            packer = Packer()
            packer.add(func)
            self._known[func] = None if packer.has_code else packer.parcel()[0].data
        return self._known[func]


# -- one worker --------------------------------------------------------------------------------
class _Worker:
    """One process, the call that it makes, the one that waits, and the thread that hears of it."""

    def __init__(self, place: Processes) -> None:
        self._place = place
        self._connection, report = multiprocessing.Pipe()
        lifeline, self._lifeline = multiprocessing.Pipe(duplex=False)
        self._notes, path = anonymous_file()
        self._wire = Wire(self._connection, _LOOK)
        self._context = _Context()
        self._pool: Any = pebble.ProcessPool(
            1,
            initializer=start,
            initargs=(report, lifeline, path),
            context=cast("Any", self._context),
        )
        self._theirs: tuple[Connection, ...] = (report, lifeline)
        self.trip: _ProcessTrip | None = None
        self.ahead: _ProcessTrip | None = None  # to be made next
        self.heard = 0  # answers
        self._unsaid = 0  # how many of them the run has not been woken for
        self.is_quick = False  # whether the last call took a short time
        self.is_killed = self._is_up = self.has_served = False
        self._is_skipping = False  # whether a withdrawn call may not have been passed over yet
        self.sending = threading.Lock()  # behind all others
        self.thread = threading.Thread(
            target=self._listen, name="taskqueue_nb process", daemon=True
        )

    def launch(self) -> None:
        """Start the process, which takes calls from then on, and the thread."""
        self._pool.schedule(serve)
        for connection in self._theirs:  # the process has its own by now; pebble starts no other
            connection.close()
        self.thread.start()

    def submit(self, trip: _ProcessTrip) -> None:
        """Have a call made."""
        with self.sending:
            if trip.worker is self and not (trip.is_sent or trip.is_back) and trip.parcel:
                with contextlib.suppress(OSError):  # it has ended, and the thread will see that
                    self._wire.send(trip.key, trip.number, self.heard, *trip.parcel)
                trip.is_sent = True
        if self._is_up and trip.attempt is not None:
            trip.start_clock()

    def has_slot(self) -> bool:
        """Say whether a call may wait here behind the one that is made.

        Not as long as the latter may still be withdrawn: the process notes the last one only that
        it has taken up, so of one before that nobody could tell whether it has been made.
        """
        trip = self.trip
        if (
            trip is None
            or trip.attempt is None
            or not trip.is_sent
            or self.ahead is not None
            or not self.is_quick
            or self.is_killed
            or time() - trip.began > _QUICK
            or _is_watched(trip.task)
        ):
            return False
        if self._is_skipping:
            self._is_skipping = self.taken_up() != trip.key
        return not self._is_skipping

    def takes(self, trip: _ProcessTrip) -> None:
        """Let a call wait here; the lock of the place is held."""
        self.ahead, trip.worker, trip.began = trip, self, time()

    def holds_up(self, since: float) -> bool:
        """Say whether a call waits behind one that has been made since before a moment."""
        trip = self.trip
        return self.ahead is not None and trip is not None and trip.began < since

    def withdraw(self, trip: _ProcessTrip) -> bool | None:
        """Have a call that was sent not made, as `_worker.withdrawn` does."""
        with self.sending:
            if not (trip.is_sent or trip.is_back):
                trip.is_back = True
            if trip.is_back:
                return True
            is_back = withdrawn(self._notes.descriptor, trip.key, _STANDSTILL)
            trip.is_back = bool(is_back)
            self._is_skipping = self._is_skipping or trip.is_back
            return is_back

    def _listen(self) -> None:
        """Hear the process until it has ended, then clear up.

        Who takes the tasks from `run` is woken when there is nothing more to hear for the moment:
        it would want the interpreter, and while it has that, the worker would wait.
        """
        try:
            while self._hear():
                if self._unsaid and (self._unsaid >= _AT_ONCE or not self._wire.has_more()):
                    self._tell()
        finally:
            self._tell()
            try:
                self._place.settle(self)
            finally:
                self.bury()

    def _tell(self) -> None:
        """Say that tasks have come back."""
        tell, self._unsaid = self._place.tell, 0
        if tell is not None:
            tell()

    def _hear(self) -> bool:
        """Take one message; say whether further ones may come."""
        try:
            message = self._wire.receive()
        except (EOFError, OSError):
            return False
        if message is None:
            return self._lives_on()
        key, text, progress, *answered = message
        trip = self.trip
        if not key:
            self._is_up = True
            if trip is not None:
                trip.start_clock()
        elif trip is None or trip.key != key:
            return True
        elif not answered:
            trip.reported(text, progress)
        else:
            when, *parcel = answered
            answer = unpacked(Parcel(*parcel))
            try:
                next(answer)
            except Exception:  # noqa: BLE001 - the file has gone with its process
                return False
            if self._unsaid and (parcel[1] or _is_watched(trip.task)):
                self._tell()  # first: this may take a while
            if self._place.has_answered(self, trip, when):
                self._go_on(trip, answer, when)
        return True

    def _lives_on(self) -> bool:
        """Say whether the process lives, and if so look at what nobody tells."""
        if self.exitcode is not None:
            return self._wire.has_more()  # it may have answered just before
        self._place.look_around()
        return True

    def _go_on(self, trip: _ProcessTrip, answer: Iterator[Any], when: float) -> None:
        """Settle a call that is answered, and have the next one sent: by this thread, at once."""
        trip.sends_more = self._place.tell is not None
        self._unsaid += 1
        try:
            trip.finish(answer, when)
        finally:
            self._place.go_on(self)

    @property
    def name(self) -> str:
        """What the worker is called."""
        process = self._context.process
        return "process" if process is None else f"process {process.pid}"

    @property
    def exitcode(self) -> int | None:
        """How the process ended; None while it lives."""
        process = self._context.process
        return None if process is None else process.exitcode

    def has_ended(self) -> bool:
        """Wait until the system says how the process ended; False if it lives on."""
        due = monotonic() + _PATIENCE
        while self.exitcode is None and monotonic() < due:
            sleep(_SOON)
        return self.exitcode is not None

    def taken_up(self) -> int:
        """Return the key of the call that the process has taken up last; 0 if none."""
        noted = self._noted(0, KEY.size)
        key: int = KEY.unpack(noted)[0] if len(noted) == KEY.size else 0  # it did not come so far
        return key

    def last_words(self) -> str:
        """Return what the interpreter said when it crashed."""
        text = self._noted(NOTES.size, _LAST_WORDS).decode("utf-8", "replace")
        cause, _, threads = text.partition("\n")
        _, current, frames = threads.partition("Current thread")  # the one that makes the call
        _, *users = frames.splitlines() or [""]
        users = list(itertools.takewhile(lambda line: "_worker.py" not in line, users))
        return "\n".join([cause, *users]) if current else text.strip()

    def _noted(self, begin: int, count: int) -> bytes:
        """Read what the process noted; the lock of the place is held, or it has ended."""
        os.lseek(self._notes.descriptor, begin, os.SEEK_SET)
        return os.read(self._notes.descriptor, count)

    def kill(self) -> None:
        """End the process, with what it has started."""
        process = self._context.process
        if process is None or process.pid is None or self.is_killed:
            return
        self.is_killed = True
        if process.exitcode is None:
            with contextlib.suppress(OSError):  # it has ended just now
                process.kill()
        end_group(process.pid)  # no other group can have that number so soon

    def leave(self) -> None:
        """End the process because the interpreter ends."""
        self._pool.stop()
        self.kill()

    def bury(self) -> None:
        """Close what is left; takes pebble some tenths of a second."""
        self.leave()
        self._pool.join()
        for connection in (self._connection, self._lifeline, *self._theirs):
            connection.close()
        self._notes.close()
        if self._context.process is not None:
            self._context.process.join(_PATIENCE)
            with contextlib.suppress(ValueError):  # it cannot be ended: the system has it
                self._context.process.close()


# -- one task ----------------------------------------------------------------------------------
class _ProcessTrip(Trip):
    """One task's way to a worker process and back."""

    def __init__(
        self,
        task: Task,
        done: Callable[[Task, Attempt | None, bool], None],
        run: Any,
        place: Processes,
        key: int,
    ) -> None:
        super().__init__(task, done, run)
        self.place, self.age = place, key
        self.key = key  # another one each time it is sent: a worker passes over what was withdrawn
        self.given_up = ""  # why its process is ended: cancelled, timeout, closed
        self.moved = False  # whether a new process ended before it made any call
        self.number = 1  # of the attempt
        self.began = 0.0  # when it was sent, or the call before it was answered
        self.is_sent = False
        self.is_back = False  # whether it was withdrawn from its worker
        self.is_lost = False  # whether its process had taken it up when it ended
        self.called: tuple[Any, ...] = ()  # the function and its arguments
        self.worker: _Worker | None = None
        self.parcel: Parcel | None = None
        self.held: Held | None = None

    def kill(self) -> None:
        """End the call with its process; the supervisor settles the task once that is gone."""
        self.place.kill(self, "cancelled")

    def overdue(self) -> None:
        """End a call that takes too long."""
        self.place.kill(self, "timeout")

    def start_clock(self) -> None:
        """Count the time from now on: the process makes the call."""
        if self.attempt is not None and self.worker is not None:
            self.attempt.worker = self.worker.name
        seconds = self.task.timeout
        if seconds is not None and self._clock is None:
            self._clock = threading.Timer(seconds, self.overdue)
            self._clock.daemon = True
            self._clock.start()

    def start_now(self, when: float | None = None) -> None:
        """Start the attempt as its process has taken the call up, or will; the lock is held."""
        if AHEAD.get(self.task) is self:
            del AHEAD[self.task]
        if self.attempt is not None or self.is_over or self.task.fsm_state != "QUEUED":
            return
        self.began = time() if when is None else when
        self._start(self.began)
        if self.attempt is not None:
            self.attempt.func, self.attempt.args, self.attempt.kwargs = self.called
            self.attempt.outdated = self.task._missing > 0

    def recall(self) -> bool:
        """Take the call back, so that its task can be moved on; the lock of the graph is held.

        False if it has begun: then the task is RUNNING.
        """
        if self.place.withdraw(self):
            AHEAD.pop(self.task, None)
            self._ended = True
            if self.held is not None:
                self.held.close()
            if self.place.give_back is not None:
                self.place.give_back(self.task)
            return True
        self.start_now()
        self.start_clock()
        return False

    def is_current(self) -> bool:
        """Say whether what was packed is what the task calls now; the lock is held."""
        task = self.task
        now = (task.func, task._args, task._kwargs)
        return all(map(is_, self.called, now))

    @property
    def is_over(self) -> bool:
        """Whether it is settled, or withdrawn."""
        return self._ended

    def finish(self, answer: Iterator[Any], when: float) -> None:
        """Settle the task with what its process answered, and start the next one there."""
        value, error = self.unpack(answer)
        error = error or self.judge(value)
        self.end(value, error, max(when, self.began))

    def _is_settled(self) -> None:
        """Start the call that waited behind this one: its worker has begun it by itself."""
        self.place.start_next(self.worker)

    def reported(self, text: str, progress: tuple[float, float] | None) -> None:
        """Take what the task printed in its process, and how far it is."""
        attempt = self.attempt
        if attempt is None:
            return
        if text:
            attempt.write(text)
            self.show(text)
        if progress is not None:
            attempt.progressed = progress
            with GRAPH_LOCK:
                for queue in self.task._told_queues():
                    queue._is_changed()

    def packed(self) -> Parcel:
        """Pickle the call.

        Raises
        ------
        TravelError
            If something cannot travel; it is named.
        """
        task = self.task
        called = task._fsm_called()
        func = task.func
        if func is None:
            message = f"{called} has no function: give it one by repair(), or call()"
            raise TaskError(message, task)
        args, kwargs = task._args, task._kwargs
        self.called = (func, args, kwargs)
        if (attempt := self.attempt or task._attempt) is not None:
            self.number = attempt.number + (self.attempt is None)
        kwargs = kwargs or {}
        if args or kwargs:
            args, kwargs = with_results((args, kwargs))
        names = argument_names(func, len(args)) if args else []
        places = [
            *((name, None, value) for name, value in zip(names, args, strict=True)),
            *((word, word, value) for word, value in kwargs.items()),
        ]
        what = f"the function of {called}"
        try:
            by_name = self.place.names.of(func)
            if by_name is not None and not places and _is_short(task.name):
                return Parcel(pickle.dumps((task.name, (), by_name), protocol=5))
            packer = Packer()
            packer.add((task.name, [place[:2] for place in places], by_name))
            if by_name is None:
                packer.add(func)
            for word, _, value in places:
                what = f"argument {shorten(word)} of {called}"
                packer.add(value)
            if places or by_name is None:
                packer.add(packer.sources())
            what = f"the call of {called}"
            parcel, self.held = packer.parcel()
        except Exception as error:
            message = f"{what} cannot be sent to another process: {words_of(error)}"
            raise TravelError(message, task) from error
        return parcel

    def unpack(self, answer: Iterator[Any]) -> tuple[Any, BaseException | None]:
        """Read what the worker made of the call."""
        kind, words, rest, dropped, *more = next(answer)
        if self.attempt is not None and rest:
            self.reported(rest, None)
            if dropped and self.attempt._output is not None:
                self.attempt._output.dropped += dropped
        if kind == "done":
            try:
                return next(answer), None
            except BaseException as error:  # noqa: BLE001 - unpickling runs foreign code
                what = f"the result of {self.task._fsm_called()}, {with_article(words)}"
                message = f"{what}, cannot be read back from its process: {words_of(error)}"
                return None, TravelError(message, self.task)
        called = self.task._fsm_called()
        if kind == "unsent":
            what = f"the result of {called}, {with_article(more[0])}, cannot be sent back"
            return None, TravelError(f"{what} from its process: {words}", self.task)
        text, last = more
        if self.attempt is not None:
            self.attempt._error_text = text
        if kind == "unread":
            message = f"{last} of {called} cannot be read in its process: {words}"
            return None, _with_traceback(TravelError(message, self.task), text)
        return None, _with_traceback(self._error(words, answer, is_exit=last), text)

    def _error(self, words: str, answer: Iterator[Any], *, is_exit: bool) -> BaseException:
        called = self.task._fsm_called()
        if is_exit:
            return WorkerError(f"{called} raised {words} in its process", self.task)
        reason = "it does not survive the way"
        try:
            if (pickled := next(answer)) is not None:
                return cast("BaseException", pickle.loads(pickled))  # noqa: S301 - of our worker
        except BaseException as error:  # noqa: BLE001 - unpickling runs foreign code
            reason = words_of(error)
        name, _, rest = words.partition(": ")
        message = (
            f"the exception of {called}, {with_article(name)}, cannot be sent back from its process"
        )
        return TravelError(f"{message} ({reason}); it said: {rest}", self.task)

    def died(self, worker: _Worker | None) -> BaseException | None:
        """Return why a call has no answer, its process being gone; None if that was wanted."""
        called = self.task._fsm_called()
        if self.given_up == "timeout":
            seconds = self.task.timeout or 0.0
            return TimeoutError(f"no answer within {seconds:g} s; the process was ended")
        if self.given_up == "cancelled":
            return None
        if self.given_up == "closed":
            return CancellationError(f"{called} was cancelled: the run ended", self.task)
        code = None if worker is None or worker.is_killed else worker.exitcode
        how = f"the process of {called} {_ended(code)}"
        if worker is not None and self.attempt is not None and (words := worker.last_words()):
            self.attempt._error_text = f"{how}\n\n{words}\n"
        return WorkerError(how, self.task, code)

    def _close(self) -> None:
        if self.held is not None:
            self.held.close()
        super()._close()


def _is_watched(task: Task) -> bool:
    """Say whether anybody is called when a task moves, who may want nothing more to begin."""
    return (
        task._fsm_listeners is not None
        or task._result is not None
        or task.cancel_on_result is not None
        or task._options.fault is not None
    )


def _is_short(name: str) -> bool:
    """Say whether a name needs neither cloudpickle, as its class is known, nor a file."""
    return type(name) is str and len(name) <= _SHORT


def _ended(code: int | None) -> str:
    """Say how a process ended."""
    if code is None:
        return "cut its connection to the notebook"
    if code >= 0:
        return f"ended with exit code {code} before it answered"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = "a signal"
    hint = "; the system does that when memory runs out" if name == "SIGKILL" else ""
    return f"was killed by {name} (signal {-code}){hint}"


def _with_traceback(error: BaseException, text: str) -> BaseException:
    """Have a traceback of the worker shown above an error that is raised here."""
    with contextlib.suppress(Exception):  # a class that forbids it; the attempt keeps the text
        error.__cause__ = error.__cause__ or WorkerTraceback(text)
    return error


# -- all of them -------------------------------------------------------------------------------
_OPEN: Final[weakref.WeakSet[Processes]] = weakref.WeakSet()


class Processes(Place):
    """The worker processes of one run.

    Parameters
    ----------
    workers : int
        How many there may be; each is started when a task finds the others busy.
    """

    def __init__(self, workers: int) -> None:
        super().__init__(self._refuse, workers, is_here=False)
        self._home = os.getpid()
        self._most = workers
        self._lock = threading.Lock()  # behind that of the graph; never while foreign code runs
        self._workers: list[_Worker] = []
        self._idle: list[_Worker] = []
        self._booked = 0  # of those that are idle, or could be started, how many are spoken for
        self._waiting: deque[_ProcessTrip] = deque()  # packed, and in no worker yet
        self._quick = 0  # workers whose last call took a short time
        self._ended: list[_Worker] = []  # which are being cleared away
        self._keys = itertools.count(1)
        self.names = _Names()
        self._is_closed = self._is_exit = False
        _OPEN.add(self)

    @staticmethod
    def _refuse(*_: object) -> None:
        raise NotImplementedError  # `send` does it all

    # -- sending -----------------------------------------------------------------------------
    def takes(self, task: Task) -> bool:
        """Say whether a ready task may be sent now: to be made, or to wait behind a short call.

        Those that are parked are older than any that are ready, and come first.
        """
        if not self.is_full:
            return True
        return (
            self.may_wait
            and _CAN_WITHDRAW
            and self.in_flight < self._most + self._quick
            and (not self.parked or task is self._let_out)
            and not _is_watched(task)
        )

    def send(
        self, task: Task, done: Callable[[Task, Attempt | None, bool], None], run: Any
    ) -> None:
        """Have a queued task run in a process; the parameters are those of `Place.send`."""
        if self._is_exit:
            return  # the interpreter ends: the task stays as it is
        trip = _ProcessTrip(task, done, run, self, next(self._keys))
        is_booked = self._books()
        try:
            if is_booked and not trip.begin():
                return
            if is_booked:
                trip.parcel = trip.packed()
                is_booked = False
                self._hand_over(trip)
            else:
                self._line_up(trip)
        except BaseException as error:
            if trip.attempt is None and isinstance(error, Exception):
                trip.begin()
            trip.end(None, error)
            if not isinstance(error, Exception):
                raise
        finally:
            if is_booked:
                self._unbook()

    def _free(self) -> int:
        """Return how many workers are free, or could be started; the lock is held."""
        return len(self._idle) + self._most - len(self._workers) - self._booked

    def _books(self) -> bool:
        """Speak for a free worker, if there is one."""
        with self._lock:
            if self._free() <= 0 and not self._is_closed:
                return False
            self._booked += 1
            return True

    def _unbook(self) -> None:
        with self._lock:
            self._booked -= 1
        self._rebalance()

    def _hand_over(self, trip: _ProcessTrip) -> None:
        """Give a call to the worker that was spoken for, which may have to be started."""
        with self._lock:
            self._booked -= 1
            if self._is_closed:
                trip.given_up = trip.given_up or "closed"
            worker, is_new = (None, False) if trip.given_up else self._free_worker()
            if worker is not None:
                worker.trip, trip.worker, trip.began = trip, worker, time()
        if worker is None:
            trip.end(None, trip.died(None))
            return
        self._set_off(trip, worker, is_new=is_new)

    def _set_off(self, trip: _ProcessTrip, worker: _Worker, *, is_new: bool) -> None:
        if is_new:
            try:
                worker.launch()
            except BaseException:
                with self._lock:
                    worker.trip = None
                    self._workers.remove(worker)
                worker.bury()
                raise
        worker.submit(trip)
        if self._waiting:
            self._relieve(worker, 0.0)
        if trip.given_up:  # meanwhile, when there was no process yet
            self.kill(trip, trip.given_up)

    def _free_worker(self) -> tuple[_Worker, bool]:
        """Return a worker, and whether it has yet to be launched; the lock is held."""
        while self._idle:
            worker = self._idle.pop()
            if not worker.is_killed:
                return worker, False
        self._workers.append(_Worker(self))
        return self._workers[-1], True

    # -- waiting in a worker -----------------------------------------------------------------
    def _line_up(self, trip: _ProcessTrip) -> None:
        """Have a call wait in a worker behind one that takes a short time, or else here."""
        worker = None
        while True:
            trip.parcel = trip.packed()
            with GRAPH_LOCK:
                if not trip.task._may_begin():
                    break
                if not trip.is_current():
                    continue
                AHEAD[trip.task] = trip
                with self._lock:
                    if not self._waiting:
                        worker = next((w for w in self._workers if w.has_slot()), None)
                    if worker is None:
                        self._waiting.append(trip)
                    else:
                        worker.takes(trip)
            if worker is not None:
                worker.submit(trip)
            self._rebalance()
            return
        trip.begin()  # to no purpose: it is settled

    def withdraw(self, trip: _ProcessTrip) -> bool:
        """Take back a call that waits; False if it has begun. The lock of the graph is held."""
        with self._lock:
            if trip in self._waiting:
                self._waiting.remove(trip)
                return True
            worker = trip.worker
            if worker is None or not worker.withdraw(trip):
                return False
            self._detach(trip, worker)
            return True

    def _detach(self, trip: _ProcessTrip, worker: _Worker) -> None:
        """Let a worker go that has not taken a call up, and never will; the lock is held."""
        trip.worker, trip.is_sent, trip.is_back = None, False, False
        trip.key = next(self._keys)
        if worker.ahead is trip:
            worker.ahead = None
        elif worker.trip is trip:
            worker.trip = None
            if not (self._is_closed or worker.is_killed):
                self._idle.append(worker)

    def recall(self) -> list[Task]:
        """Return what waits, withdrawn and still QUEUED; the lock of the graph is held."""
        if not AHEAD:
            return []
        mine = sorted((t for t in AHEAD.values() if t.place is self), key=lambda trip: trip.age)
        return [trip.task for trip in mine if trip.recall()]

    def start_next(self, worker: _Worker | None) -> None:
        """Start the call that a worker has taken up by itself; the lock of the graph is held."""
        trip = None if worker is None else worker.trip
        if trip is not None:
            trip.start_now(trip.began)

    def go_on(self, worker: _Worker) -> None:
        """See to it that a worker that has answered has something to do, and all others."""
        if (trip := worker.trip) is not None:
            if trip.attempt is None:  # whoever settled the one before it was interrupted
                with GRAPH_LOCK:
                    self.start_next(worker)
            trip.start_clock()
            trip.task._fsm_after()
        if self._waiting:
            self._rebalance()
        since = time() - _QUICK
        if self._waiting or any(other.holds_up(since) for other in self._workers):
            self._relieve(worker, since)
        if self.send_more is not None:
            self.send_more()
        self._rebalance()

    def _relieve(self, worker: _Worker, since: float) -> None:
        """Let the next one wait in a worker: the first of those here, or behind a long call."""
        with GRAPH_LOCK, self._lock:
            if not worker.has_slot():
                return
            if not self._waiting:
                trip = self._oldest_ahead(since)
            elif self._waiting[0].attempt is None:
                trip = self._waiting.popleft()
            else:
                return
            if trip is None:
                return
            worker.takes(trip)
        worker.submit(trip)

    def _oldest_ahead(self, since: float | None = None) -> _ProcessTrip | None:
        """Withdraw what waits in a worker; with a moment, behind a call older than that.

        Both locks are held.
        """
        waiting = [
            worker.ahead
            for worker in self._workers
            if worker.ahead is not None
            and worker.ahead.attempt is None
            and not worker.is_killed
            and (since is None or worker.holds_up(since))
        ]
        trip = min(waiting, key=lambda trip: trip.age, default=None)
        if trip is None or trip.worker is None or not trip.worker.withdraw(trip):
            return None
        self._detach(trip, trip.worker)
        return trip

    def look_around(self) -> None:
        """See to what waits while a worker is free, as one is whose call was withdrawn."""
        if self._waiting:
            self._rebalance()

    def _rebalance(self) -> None:
        """Give what waits to workers that are free."""
        while self._free() > 0:
            with GRAPH_LOCK, self._lock:
                if self._free() <= 0:
                    return
                trip = self._waiting.popleft() if self._waiting else self._oldest_ahead()
                if trip is None:
                    return
                if self._is_closed:
                    trip.given_up = trip.given_up or "closed"
                trip.start_now()
                if not trip.given_up and trip.attempt is not None:
                    worker, is_new = self._free_worker()
                    worker.trip, trip.worker, trip.began = trip, worker, time()
            trip.task._fsm_after()
            if trip.worker is None:
                trip.end(None, trip.died(None))
                continue
            try:
                self._set_off(trip, worker, is_new=is_new)
            except Exception as error:  # noqa: BLE001 - no further process to be had
                trip.end(None, error)

    # -- what becomes of it ------------------------------------------------------------------
    def has_answered(self, worker: _Worker, trip: _ProcessTrip, when: float) -> bool:
        """Note that a call is answered; say whether the answer is still wanted."""
        with self._lock:
            worker.heard += 1
            if worker.trip is not trip:
                return False
            worker.has_served = True
            is_quick = when - trip.began < _QUICK
            self._quick += is_quick - worker.is_quick
            worker.is_quick = is_quick
            worker.trip, ahead = None, worker.ahead
            if ahead is not None and not ahead.is_back:
                worker.trip, worker.ahead = ahead, None
                ahead.began = max(ahead.began, when)
            elif not (self._is_closed or worker.is_killed):
                self._idle.append(worker)
        return True

    def kill(self, trip: _ProcessTrip, why: str) -> None:
        """End a call with its process, unless it has been answered."""
        with self._lock:
            trip.given_up = trip.given_up or why
            worker = trip.worker
            if worker is None:
                return
            if worker.trip is trip:
                ahead = worker.ahead
                if ahead is not None and worker.withdraw(ahead) is False:
                    return  # it has been taken up, so this one is answered
                worker.kill()
            elif worker.ahead is trip:  # taken up; the answer of the one before is on its way
                worker.kill()

    def settle(self, worker: _Worker) -> None:
        """Settle the call of a process that has ended; what was never begun is made elsewhere."""
        if self._is_exit:
            return
        if not worker.has_ended():
            with self._lock:
                worker.kill()  # alive, and out of reach
            worker.has_ended()
        with GRAPH_LOCK, self._lock:
            self._workers.remove(worker)
            self._quick -= worker.is_quick
            if worker in self._idle:
                self._idle.remove(worker)
            self._ended = [other for other in self._ended if other.thread.is_alive()]
            self._ended.append(worker)
            dead = [trip for trip in self._left_by(worker) if not self._is_to_be_made(trip, worker)]
        for trip in dead:
            trip.end(None, trip.died(worker))
        self._rebalance()

    def _left_by(self, worker: _Worker) -> list[_ProcessTrip]:
        """Take from a dead worker the call that it made and the one that waited."""
        left = [trip for trip in (worker.trip, worker.ahead) if trip is not None]
        worker.trip = worker.ahead = None
        begun = worker.taken_up()
        keys = [trip.key for trip in left]
        with worker.sending:  # or whoever sends it at this moment would note that afterwards
            for trip in left:
                trip.worker, trip.is_sent, trip.is_back = None, False, False
                trip.is_lost = begun in keys[keys.index(trip.key) :]
        return left

    def _is_to_be_made(self, trip: _ProcessTrip, worker: _Worker) -> bool:
        """Line a call up that its worker has not begun; False if that is its end."""
        if self._is_closed:
            trip.given_up = trip.given_up or "closed"
        if trip.given_up or trip.moved or trip.is_lost:
            trip.start_now()
            return False
        trip.moved = not worker.has_served
        self._waiting.appendleft(trip)
        return True

    def close(self) -> None:
        """End all processes, and the calls that they make; return when they are gone."""
        with self._lock:
            self._is_closed = True
            leaving = [*self._workers, *self._ended]
            for worker in self._workers:
                worker.kill()
        for worker in leaving:
            if worker.thread.ident is not None and worker.thread is not threading.current_thread():
                worker.thread.join(_FAREWELL)

    def leave(self) -> None:
        """End all processes because the interpreter ends; their tasks stay as they are."""
        if os.getpid() != self._home:
            return  # a fork of the notebook: they are not ours
        self._is_closed = self._is_exit = True
        for worker in self._workers:
            worker.leave()


@atexit.register
def _leave_all() -> None:
    for place in list(_OPEN):
        place.leave()
