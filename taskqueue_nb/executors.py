"""Where tasks run: the caller's thread, threads, any `concurrent.futures.Executor`, a callable.

A task that goes elsewhere takes one road, whatever the executor: `Place.send` submits `anywhere`,
which runs in this process as the task itself (current task, output, cancellation), and in another
one as a plain call whose outcome comes back as data.
"""

from __future__ import annotations

import itertools
import os
import pickle
import threading
from collections import deque
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from taskqueue_nb.fsm import shorten
from taskqueue_nb.task import (
    GRAPH_LOCK,
    Attempt,
    LostValueError,
    Task,
    TaskError,
    attempt_here,
    with_results,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import ThreadPoolExecutor

_KEYS: Final = itertools.count()
_HERE: Final[dict[int, Callable[[], None]]] = {}  # what awaits its call in this very process


class Outcome(NamedTuple):
    """What a call in another process came to."""

    value: Any
    error: BaseException | None


def anywhere(
    home: int, key: int, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Outcome | None:
    """Make the call: as the task itself at home, else plainly, with its outcome as data."""
    if os.getpid() == home and (call := _HERE.pop(key, None)) is not None:
        call()
        return None
    try:
        return Outcome(func(*args, **kwargs), None)
    except BaseException as error:  # noqa: BLE001 - a worker's SystemExit must not end the caller
        return Outcome(None, _portable(error))


def _portable(error: BaseException) -> BaseException:
    """Return the error if it survives the journey, else one that says the same."""
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    except Exception:  # noqa: BLE001 - pickling runs foreign code
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


class Place:
    """An executor as one run uses it.

    Attributes
    ----------
    limit : int or None
        How many tasks it may hold at once; None when it keeps a queue of its own.
    in_flight : int
        How many it holds.
    parked : deque of Task
        Ready tasks that wait for room.
    """

    def __init__(self, submit: Callable[..., Any], limit: int | None, *, is_here: bool) -> None:
        self._submit = submit
        self.limit = limit
        self._is_here = is_here
        self.in_flight = 0
        self.parked: deque[Task] = deque()

    @property
    def is_full(self) -> bool:
        """Whether a further task has to wait."""
        return self.limit is not None and self.in_flight >= self.limit

    def send(self, task: Task, done: Callable[[Task, Attempt | None], None], run: Any) -> None:
        """Have a queued task run, and `done(task, attempt)` called when it is settled.

        Parameters
        ----------
        task : Task
            In the state QUEUED.
        done : callable
            Called in any thread, exactly once, without the lock.
        run : object
            The run of a queue that it belongs to.
        """
        trip = _Trip(task, done, run)
        if not self._is_here and not trip.begin():
            return
        key = next(_KEYS)
        _HERE[key] = trip.make
        try:
            args, kwargs = with_results((task.func_args, task.func_kwargs))
            future = self._submit(anywhere, os.getpid(), key, task.func, args, kwargs)
        except BaseException as error:
            _HERE.pop(key, None)
            trip.end(None, error)
            if not isinstance(error, Exception):
                raise
            return
        if isinstance(future, Future):
            trip.watch(task.timeout)
            future.add_done_callback(lambda ended: trip.arrive(key, ended))


class _Trip:
    """One task's way to an executor and back."""

    def __init__(self, task: Task, done: Callable[[Task, Attempt | None], None], run: Any) -> None:
        self.task, self._done, self._run = task, done, run
        self.attempt: Attempt | None = None
        self._ended = False
        self._clock: threading.Timer | None = None

    def begin(self) -> bool:
        """Start the attempt, unless the task was cancelled on the way."""
        with GRAPH_LOCK:
            if self.task._may_begin():
                self.attempt = self.task._begin(None, self._run)
        if self.attempt is None:
            self._close()
            return False
        self.task._fsm_after()
        return True

    def make(self) -> None:
        """Run the task in this process."""
        if self.attempt is None and not self.begin():
            return
        if self.attempt is not None:
            attempt_here(self.attempt)
        self._close()

    def watch(self, seconds: float | None) -> None:
        """Give the attempt up after a time; one that is made here looks after itself."""
        if seconds is not None and self.attempt is not None:
            message = f"no answer within {seconds:g} s; the attempt is given up"
            error = TimeoutError(message)
            self._clock = threading.Timer(seconds, self.end, (None, error))
            self._clock.daemon = True
            self._clock.start()

    def arrive(self, key: int, future: Future[Any]) -> None:
        """Take what the executor says at the end."""
        _HERE.pop(key, None)
        if future.cancelled():
            self.end(None, TaskError(f"the executor dropped task {shorten(self.task.name)}"))
            return
        error = future.exception()  # never `result()`: it would raise a worker's SystemExit here
        if error is not None:
            self.end(None, error)
        elif (outcome := future.result()) is not None:
            self.end(outcome.value, outcome.error)
        else:
            self._close()

    def end(self, value: Any, error: BaseException | None) -> None:
        """Settle the attempt, or fail a task that never came to one."""
        with GRAPH_LOCK:
            if self._ended:
                return
            if self.attempt is not None:
                self.task._settle(self.attempt, value, error)
            elif self.task.fsm_state == "QUEUED" and isinstance(error, LostValueError):
                self.task._send_back()
            elif self.task.fsm_state == "QUEUED":
                self.task._error = error
                self.task._fsm_move("error", {"because": "the executor did not take it"})
        self._close()

    def _close(self) -> None:
        with GRAPH_LOCK:
            first, self._ended = not self._ended, True
        if self._clock is not None:
            self._clock.cancel()
        if first:
            self._done(self.task, self.attempt)


class Places:
    """The executors of one run, each known by what the user gave."""

    def __init__(self) -> None:
        self._known: dict[Any, Place] = {}
        self._own: list[ThreadPoolExecutor] = []

    def of(self, executor: Any) -> Place:
        """Return the place for an executor; the same one for the same executor.

        Raises
        ------
        TypeError
            If it is nothing that could run a function.
        """
        key = executor if isinstance(executor, int) else id(executor)
        if key not in self._known:
            self._known[key] = self._made(executor)
        return self._known[key]

    def _made(self, executor: Any) -> Place:
        from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415 - rarely needed

        check_executor(executor)
        if isinstance(executor, int):
            executor = ThreadPoolExecutor(executor, thread_name_prefix="taskqueue_nb")
            self._own.append(executor)
        if callable(submit := getattr(executor, "submit", None)):
            workers = getattr(executor, "_max_workers", None) or (os.cpu_count() or 1)
            return Place(submit, workers, is_here=isinstance(executor, ThreadPoolExecutor))
        submit = executor.defer if callable(getattr(executor, "defer", None)) else executor
        return Place(lambda func, *args: submit(lambda: func(*args)), None, is_here=True)

    def close(self) -> None:
        """End the pools that the run made itself."""
        for pool in self._own:
            pool.shutdown(wait=False)

    def __iter__(self) -> Any:
        return iter(self._known.values())


def check_executor(executor: Any) -> None:
    """Refuse what could run nothing.

    Raises
    ------
    ValueError
        If it is a number below one.
    TypeError
        If it is nothing that runs functions.
    """
    if isinstance(executor, int) and not isinstance(executor, bool):
        if executor < 1:
            message = f"executor is a number of threads, at least 1, not {executor}"
            raise ValueError(message)
        return
    if executor is None or isinstance(executor, type):
        runs = executor is None
    else:
        runs = any(
            callable(getattr(executor, name, None)) for name in ("submit", "defer", "__call__")
        )
    if not runs:
        message = (
            "executor is None, a number of threads, a concurrent.futures.Executor, an object with "
            f"defer(), or a callable that takes a function, not {shorten(executor)}"
        )
        raise TypeError(message)
