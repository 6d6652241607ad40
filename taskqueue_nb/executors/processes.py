"""Worker processes that can be ended one by one: `executor="processes"`.

Each worker is a pebble pool of one, so that the notebook knows which process makes which call: a
cancel or a timeout ends exactly that one, whatever dies takes nothing with it, and no lock is
shared by processes of which one may be killed while it holds it. Workers are started when there is
a task for them, and end with the run: none of them can know an older version of anything.
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
from functools import partial
from multiprocessing.connection import wait
from multiprocessing.context import set_spawning_popen
from multiprocessing.process import BaseProcess
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any, Final, cast

import pebble

from taskqueue_nb._worker import (
    KEY_BYTES,
    Held,
    Packer,
    Parcel,
    anonymous_file,
    call,
    end_group,
    start,
    unpacked,
)
from taskqueue_nb.executors.trip import Place, Trip
from taskqueue_nb.fsm import CancellationError, shorten
from taskqueue_nb.runstate import CURRENT
from taskqueue_nb.task import (
    GRAPH_LOCK,
    Attempt,
    Task,
    TaskError,
    _said,
    signature_of,
    with_results,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future
    from multiprocessing.connection import Connection

_LOOK: Final = 0.1  # seconds between looks at processes whose end nobody tells
_SOON: Final = 0.005  # the same for what must come at any moment
_PATIENCE: Final = 1.0  # seconds within which the system says how a process ended
_LAST_WORDS: Final = 20_000  # characters kept of what a dying interpreter says


class WorkerError(TaskError):
    """A task's process died, or raised what must not end the notebook.

    Parameters
    ----------
    message : str
        The sentence for the user.
    task : Task, optional
        The task; it does not travel with a pickled error.
    exitcode : int, optional
        How the process ended, as in `multiprocessing`: negative is the number of a signal.
    """

    def __init__(self, message: str = "", task: object = None, exitcode: int | None = None) -> None:
        super().__init__(message, task)
        self.exitcode = exitcode


class TravelError(TaskError):
    """Something cannot be sent to another process, or back from it; the message names it."""


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


# -- one worker --------------------------------------------------------------------------------
class _Worker:
    """One process, and the call that it makes."""

    def __init__(self) -> None:
        self.connection, report = multiprocessing.Pipe(duplex=False)
        lifeline, self._lifeline = multiprocessing.Pipe(duplex=False)
        self._notes, path = anonymous_file()
        self._context = _Context()
        self.pool: Any = pebble.ProcessPool(
            1,
            initializer=start,
            initargs=(report, lifeline, path),
            context=cast("Any", self._context),
        )
        self._theirs: tuple[Connection, ...] = (report, lifeline)
        self.trip: _ProcessTrip | None = None
        self.is_gone = False
        self._hearing = threading.Lock()
        self.is_killed = self._is_up = False

    def submit(self, trip: _ProcessTrip) -> Future[Any]:
        """Have the call made; the first one starts the process."""
        number = 1 if trip.attempt is None else trip.attempt.number
        future: Future[Any] = self.pool.schedule(call, (trip.key, number, trip.parcel))
        for connection in self._theirs:  # the process has its own by now
            connection.close()
        self._theirs = ()
        with self._hearing:
            if self._is_up:
                trip.start_clock()
        return future

    def has_ended(self, seconds: float) -> bool:
        """Wait until the system says how the process ended; False if it lives on."""
        due = monotonic() + seconds
        while self.exitcode is None and monotonic() < due:
            sleep(_SOON)
        return self.exitcode is not None

    def has_begun(self, trip: _ProcessTrip) -> bool:
        """Say whether the process, which has ended, has taken up a call."""
        return int.from_bytes(self._noted(0, KEY_BYTES), "little") == trip.key

    def _noted(self, start: int, count: int) -> bytes:
        """Read what the process noted; it has ended."""
        os.lseek(self._notes.descriptor, start, os.SEEK_SET)
        return os.read(self._notes.descriptor, count)

    @property
    def exitcode(self) -> int | None:
        """How the process ended; None while it lives."""
        process = self._context.process
        return None if process is None else process.exitcode

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

    def hear(self) -> None:
        """Take what the process reports."""
        with self._hearing:
            try:
                while not self.connection.closed and self.connection.poll(0):
                    key, text, progress = self.connection.recv()
                    trip = self.trip
                    if not key:
                        self._is_up = True
                        if trip is not None:
                            trip.start_clock()
                    elif trip is not None and trip.key == key:
                        trip.reported(text, progress)
            except (EOFError, OSError):
                self.is_gone = True

    def last_words(self) -> str:
        """Return what the interpreter said when it crashed."""
        text = self._noted(KEY_BYTES, _LAST_WORDS).decode("utf-8", "replace")
        cause, _, threads = text.partition("\n")
        _, current, frames = threads.partition("Current thread")  # the one that makes the call
        _, *users = frames.splitlines() or [""]
        users = list(itertools.takewhile(lambda line: "_worker.py" not in line, users))
        return "\n".join([cause, *users]) if current else text.strip()

    def bury(self) -> None:
        """End whatever is left; takes pebble some tenths of a second."""
        self.pool.stop()
        self.kill()
        self.pool.join()
        with self._hearing:
            for connection in (self.connection, self._lifeline, *self._theirs):
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
        done: Callable[[Task, Attempt | None], None],
        run: Any,
        place: Processes,
        key: int,
    ) -> None:
        super().__init__(task, done, run)
        self.place, self.key = place, key
        self.given_up = ""  # why its process is ended: cancelled, timeout, closed
        self.moved = False  # whether a first process ended before it began
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
        """Count the time from now on."""
        seconds = self.task.timeout
        if seconds is not None and self._clock is None:
            self._clock = threading.Timer(seconds, self.overdue)
            self._clock.daemon = True
            self._clock.start()

    def finish(self, answer: Iterator[Any]) -> None:
        """Settle the task with what its process answered."""
        value, error = self.unpack(answer)
        self.end(value, error or self.judge(value))

    def reported(self, text: str, progress: tuple[float, float] | None) -> None:
        """Take what the task printed in its process, and how far it is."""
        attempt = self.attempt
        if attempt is None:
            return
        if text:
            outer = CURRENT.set(attempt)  # so that the stream keeps it, and shows it if it should
            try:
                sys.stdout.write(text)
            except Exception as error:  # noqa: BLE001 - a stream of the notebook's
                attempt.write(f"(could not be shown: {_said(error)})\n")
            finally:
                CURRENT.reset(outer)
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
        args, kwargs = with_results((task.func_args, task.func_kwargs))
        names = _argument_names(func, len(args)) if args else []
        places = [
            *((name, None, value) for name, value in zip(names, args, strict=True)),
            *((word, word, value) for word, value in kwargs.items()),
        ]
        packer = Packer()
        what = f"the function of {called}"
        try:
            packer.add((task.name, [place[:2] for place in places]))
            packer.add(func)
            for word, _, value in places:
                what = f"argument {shorten(word)} of {called}"
                packer.add(value)
            packer.add(packer.sources())
            what = f"the call of {called}"
            parcel, self.held = packer.parcel()
        except Exception as error:
            message = f"{what} cannot be sent to another process: {_said(error)}"
            raise TravelError(message, task) from error
        return parcel

    def unpack(self, answer: Iterator[Any]) -> tuple[Any, BaseException | None]:
        """Read what the worker made of the call."""
        called = self.task._fsm_called()
        kind, words, rest, dropped, *more = next(answer)
        if self.attempt is not None and rest:
            self.reported(rest, None)
            if dropped and self.attempt._output is not None:
                self.attempt._output.dropped += dropped
        if kind == "done":
            try:
                return next(answer), None
            except BaseException as error:  # noqa: BLE001 - unpickling runs foreign code
                what = f"the result of {called}, {_a(words)}, cannot be read back from its process"
                return None, TravelError(f"{what}: {_said(error)}", self.task)
        if kind == "unsent":
            what = f"the result of {called}, {_a(more[0])}, cannot be sent back from its process"
            return None, TravelError(f"{what}: {words}", self.task)
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
            reason = _said(error)
        name, _, rest = words.partition(": ")
        message = f"the exception of {called}, {_a(name)}, cannot be sent back from its process"
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
        code = None if worker is None else worker.exitcode
        how = f"the process of {called} {_ended(code)}"
        if worker is not None and self.attempt is not None and (words := worker.last_words()):
            self.attempt._error_text = f"{how}\n\n{words}\n"
        return WorkerError(how, self.task, code)

    def _close(self) -> None:
        if self.held is not None:
            self.held.close()
        super()._close()


def _argument_names(func: Callable[..., Any], count: int) -> list[str]:
    """Name the positional arguments of a call as the function does, or else by number."""
    names = [f"number {place + 1}" for place in range(count)]
    signature = signature_of(func)
    known = [] if signature is None else list(signature.parameters.values())
    for place, parameter in enumerate(known[:count]):
        if parameter.kind not in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            break
        names[place] = parameter.name
    return names


def _a(kind: str) -> str:
    """Put an article before the name of a type."""
    return f"{'an' if kind[:1].lower() in 'aeiou' else 'a'} {kind}"


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
        self._lock = threading.Lock()  # never held while anybody else's code runs
        self._workers: list[_Worker] = []
        self._idle: list[_Worker] = []
        self._keys = itertools.count(1)
        self._bell, self._rope = multiprocessing.Pipe(duplex=False)
        self._is_ringing = False
        self._supervisor: threading.Thread | None = None
        self._graves: list[threading.Thread] = []
        self._is_closed = self._is_exit = False
        _OPEN.add(self)

    @staticmethod
    def _refuse(*_: object) -> None:
        raise NotImplementedError  # `send` does it all

    def send(self, task: Task, done: Callable[[Task, Attempt | None], None], run: Any) -> None:
        """Have a queued task run in a process; the parameters are those of `Place.send`."""
        if self._is_exit:
            return  # the interpreter ends: the task stays as it is
        trip = _ProcessTrip(task, done, run, self, next(self._keys))
        if not trip.begin():
            return
        try:
            trip.parcel = trip.packed()
            self._hand_over(trip)
        except BaseException as error:
            trip.end(None, error)
            if not isinstance(error, Exception):
                raise

    def _hand_over(self, trip: _ProcessTrip) -> None:
        with self._lock:
            if self._is_closed:
                trip.given_up = trip.given_up or "closed"
            if not trip.given_up:
                worker = self._free_worker()
                worker.trip, trip.worker = trip, worker
        if trip.given_up and trip.worker is None:
            trip.end(None, trip.died(None))
            return
        future = worker.submit(trip)
        future.add_done_callback(partial(self._arrived, worker, trip))
        if trip.given_up:  # meanwhile, when there was no process yet
            worker.kill()

    def _free_worker(self) -> _Worker:
        """Return a worker that lives and has nothing to do; the lock is held."""
        while self._idle:
            worker = self._idle.pop()
            if worker.exitcode is None and not (worker.is_gone or worker.is_killed):
                return worker
        self._workers.append(_Worker())
        self._ring()
        if self._supervisor is None:
            name = "taskqueue_nb processes"
            self._supervisor = threading.Thread(target=self._supervise, name=name, daemon=True)
            self._supervisor.start()
        return self._workers[-1]

    def _arrived(self, worker: _Worker, trip: _ProcessTrip, future: Future[Any]) -> None:
        """Take an answer, in a thread of pebble's."""
        error = future.exception()
        if error is None:
            parcel, has_reported = future.result()
            if has_reported:
                worker.hear()
            answer = unpacked(parcel)
            try:
                next(answer)
            except Exception as lost:  # noqa: BLE001 - the file has gone with its process
                error = lost
        with self._lock:
            if worker.trip is not trip:
                return  # it was given up, and its process ended
            if error is None:
                worker.trip = None
                if not (self._is_closed or worker.is_killed):
                    self._idle.append(worker)
            else:
                worker.is_gone = True
                worker.kill()
                self._ring()
        if error is None:
            trip.finish(answer)

    def kill(self, trip: _ProcessTrip, why: str) -> None:
        """End a call with its process, unless it has been answered."""
        with self._lock:
            trip.given_up = trip.given_up or why
            worker = trip.worker
            if worker is not None and worker.trip is trip:
                worker.kill()
                self._ring()

    # -- supervision -------------------------------------------------------------------------

    def _ring(self) -> None:
        """Have the supervisor look; the lock is held."""
        if not self._is_ringing and not self._rope.closed:
            self._is_ringing = True
            self._rope.send_bytes(b"!")

    def _supervise(self) -> None:
        """Hear what workers report, and take away those that have ended."""
        while not self._is_exit:
            with self._lock:
                workers = list(self._workers)
                if self._is_closed and not workers:
                    return
            ready = wait([self._bell, *(worker.connection for worker in workers)], _LOOK)
            if self._bell in ready:
                self._bell.recv_bytes()
                self._is_ringing = False
            for worker in workers:
                if worker.connection in ready:
                    worker.hear()
                if self._is_closed or worker.is_gone or worker.exitcode is not None:
                    self._take_away(worker)

    def _take_away(self, worker: _Worker) -> None:
        with self._lock:
            self._workers.remove(worker)
            if worker in self._idle:
                self._idle.remove(worker)
        grave = threading.Thread(target=self._bury, args=(worker,), daemon=True)
        self._graves = [known for known in self._graves if known.is_alive()]
        self._graves.append(grave)
        grave.start()

    def _bury(self, worker: _Worker) -> None:
        """Settle what a process leaves behind, then clear up."""
        try:
            if worker.trip is not None:
                self._settle(worker)
        finally:
            worker.bury()

    def _settle(self, worker: _Worker) -> None:
        """Settle the call of a process that is gone, or make it elsewhere if it never began."""
        if not worker.has_ended(_PATIENCE):
            with self._lock:
                worker.kill()  # alive, and out of reach
            worker.has_ended(_PATIENCE)
        worker.hear()
        with self._lock:
            trip, worker.trip = worker.trip, None
            if trip is None:
                return  # its answer came after all
            trip.worker = None
            if self._is_closed:
                trip.given_up = trip.given_up or "closed"
            again = not worker.has_begun(trip) and not trip.given_up and not trip.moved
            trip.moved = trip.moved or again
        if not again:
            trip.end(None, trip.died(worker))
            return
        try:
            self._hand_over(trip)
        except Exception as error:  # noqa: BLE001 - no further process to be had
            trip.end(None, error)

    def close(self) -> None:
        """End all processes, and the calls that they make; return when they are gone."""
        with self._lock:
            self._is_closed = True
            for worker in self._workers:
                worker.kill()
            self._ring()
        mine = threading.current_thread()
        if self._supervisor is not None and self._supervisor is not mine:
            self._supervisor.join()
        for grave in self._graves:
            if grave is not mine:
                grave.join()
        with self._lock:
            self._bell.close()
            self._rope.close()

    def leave(self) -> None:
        """End all processes because the interpreter ends; their tasks stay as they are."""
        if os.getpid() != self._home:
            return  # a fork of the notebook: they are not ours
        self._is_closed = self._is_exit = True
        for worker in self._workers:
            worker.pool.stop()
            worker.kill()


@atexit.register
def _leave_all() -> None:
    for place in list(_OPEN):
        place.leave()
