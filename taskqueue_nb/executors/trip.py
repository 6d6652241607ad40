"""A task's way to an executor and back.

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
from time import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from taskqueue_nb.fsm import CancellationError, shorten
from taskqueue_nb.loops import awaited
from taskqueue_nb.task import (
    GRAPH_LOCK,
    INTERRUPTED,
    Attempt,
    LostValueError,
    Task,
    TaskError,
    attempt_here,
    signature_of,
    with_results,
    words_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from taskqueue_nb.faults import Fault

_LONG_LINE: Final = 10_000  # characters; more are shown even if the line goes on
_KEYS: Final = itertools.count()
_HERE: Final[dict[int, Callable[[], None]]] = {}  # what awaits its call in this very process


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


class Outcome(NamedTuple):
    """What a call in another process came to, as data that no executor can stumble over."""

    pickled: bytes = b""  # the value
    error: BaseException | None = None
    refused: tuple[str, str] | None = None  # the type of a value that cannot travel, and why


def anywhere(
    home: int, key: int, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Outcome | None:
    """Make the call: as the task itself at home, else plainly, with its outcome as data."""
    if os.getpid() == home:
        if (call := _HERE.pop(key, None)) is not None:  # else nobody wants it any more
            call()
        return None
    try:
        value = awaited(func(*args, **kwargs))
    except BaseException as error:  # noqa: BLE001 - a worker's SystemExit must not end the caller
        return Outcome(error=_portable(error))
    try:
        return Outcome(_pickled(value))
    except BaseException as error:  # noqa: BLE001 - pickling runs foreign code
        return Outcome(refused=(type(value).__name__, words_of(error)))


def _pickled(value: object) -> bytes:
    """Pickle by reference if that can be done, as the other side then has the same classes."""
    try:
        return pickle.dumps(value, protocol=5)
    except Exception as error:  # noqa: BLE001 - pickling runs foreign code
        try:
            import cloudpickle  # noqa: PLC0415 - of an extra
        except ImportError:
            raise error from None
        return cast("bytes", cloudpickle.dumps(value, protocol=5))


def _portable(error: BaseException) -> BaseException:
    """Return the error if it survives the journey, else one that says the same."""
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    except Exception:  # noqa: BLE001 - pickling runs foreign code
        return RuntimeError(words_of(error))
    return error


class Place:
    """An executor as one run uses it.

    Attributes
    ----------
    limit : int or None
        How many tasks it may hold at once; None when it keeps a queue of its own.
    in_flight : int
        How many it holds.
    is_here : bool
        Whether its calls are made in this process, as the tasks themselves.
    parked : deque of Task, or what has as much of one as is used
        Ready tasks that wait for room, in the order in which the run takes them.
    send_more : callable or None
        Sends a further ready task, if there is one: for the thread that has just heard of one.
    tell : callable or None
        Wakes the run for what has come back; for whoever called `send_more`, soon after.
    give_back : callable or None
        Takes account of a queued task that was withdrawn; the lock of the graph is held.
    may_wait : bool
        Whether tasks may be sent that wait there behind others, if the place can withdraw them.
    leads : callable or None
        Says whether a pending task would be sent there for sure once its prerequisites are done;
        the lock of the graph is held.
    send_now : callable or None
        Sends a certain ready task, as of a time; False if it may not be sent now.
    """

    def __init__(self, submit: Callable[..., Any], limit: int | None, *, is_here: bool) -> None:
        self._submit = submit
        self.limit = limit
        self.is_here = is_here
        self.in_flight = 0
        self.parked: Any = deque()
        self.send_more: Callable[[], object] | None = None
        self.tell: Callable[[], object] | None = None
        self.give_back: Callable[[Task], object] | None = None
        self.may_wait = False
        self.leads: Callable[[Task], bool] | None = None
        self.send_now: Callable[[Task, float], bool] | None = None
        self._let_out: Task | None = None

    @property
    def is_full(self) -> bool:
        """Whether a further task has to wait."""
        return self.limit is not None and self.in_flight >= self.limit

    def takes(self, task: Task) -> bool:  # noqa: ARG002 - for places that take some and not others
        """Say whether a ready task may be sent now; the lock of the graph is held."""
        return not self.is_full

    def let_out(self) -> Task | None:
        """Return the first of those that are parked, if it may be sent now; the lock is held."""
        if not self.parked:
            return None
        self._let_out = self.parked[0]
        return self.parked.popleft() if self.takes(self._let_out) else None

    def recall(self) -> list[Task]:
        """Return what waits there behind others, withdrawn and still QUEUED; the lock is held."""
        return []

    def send(
        self, task: Task, done: Callable[[Task, Attempt | None, bool], None], run: Any
    ) -> None:
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
        trip = Trip(task, done, run)
        if not self.is_here and not trip.begin():
            return
        key = next(_KEYS)
        _HERE[key] = trip.make
        try:
            args, kwargs = with_results((task.func_args, task.func_kwargs))
            future = self._submit(anywhere, os.getpid(), key, task.func, args, kwargs)
        except BaseException as error:
            _HERE.pop(key, None)
            trip.end(None, error if self.is_here else trip.named(error))
            if not isinstance(error, Exception):
                raise
            return
        if isinstance(future, Future):
            trip.watch(task.timeout)
            future.add_done_callback(lambda ended: trip.arrive(key, ended, is_here=self.is_here))


class Trip:
    """One task's way to an executor and back."""

    kill: Callable[[], object] | None = None  # ends the call itself, where that can be done
    sends_more = False  # whether whoever ends it calls `Place.send_more` and `Place.tell`

    def __init__(
        self, task: Task, done: Callable[[Task, Attempt | None, bool], None], run: Any
    ) -> None:
        self.task, self._done, self._run = task, done, run
        self.attempt: Attempt | None = None
        self._ended = False
        self._line = ""  # the beginning of one that has yet to be shown
        self._is_slowed = False
        self._clock: threading.Timer | None = None

    def begin(self) -> bool:
        """Start the attempt, unless the task was cancelled on the way."""
        with GRAPH_LOCK:
            if self.task._may_begin():
                self._start()
        if self.attempt is None:
            self._close()
            return False
        self.task._fsm_after()
        return True

    def _start(self, when: float | None = None) -> None:
        """Start the attempt; the lock is held."""
        self.attempt = self.task._begin(None, self._run, when)
        if self.kill is not None:
            self.attempt.kill = self.kill
            self.attempt.here = self._run.queue  # woken once more has been sent

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

    def arrive(self, key: int, future: Future[Any], *, is_here: bool) -> None:
        """Take what the executor says at the end."""
        _HERE.pop(key, None)
        if future.cancelled():
            self.end(None, TaskError(f"the executor dropped task {shorten(self.task.name)}"))
            return
        error = future.exception()  # never `result()`: it would raise a worker's SystemExit here
        if error is not None:
            self.end(None, error if is_here else self.named(error))
        elif (outcome := future.result()) is not None:
            self.end(*self._opened(outcome))
        else:
            self._close()

    def _opened(self, outcome: Outcome) -> tuple[Any, BaseException | None]:
        """Return the value of a call in another process, or why there is none."""
        called = self.task._fsm_called()
        if outcome.refused is not None:
            kind, words = outcome.refused
            message = f"the result of {called}, {with_article(kind)}, cannot be sent back: {words}"
            return None, TravelError(message, self.task)
        if outcome.error is not None:
            return None, outcome.error
        try:
            value = pickle.loads(outcome.pickled)  # noqa: S301 - of our own function
        except BaseException as error:  # noqa: BLE001 - unpickling runs foreign code
            message = f"the result of {called} cannot be read back: {words_of(error)}"
            return None, TravelError(message, self.task)
        return value, self.judge(value)

    def named(self, error: BaseException) -> BaseException:
        """Return the error of an executor, or one that names what cannot travel if that is why."""
        func = self.task.func
        if self.attempt is None or func is None:
            return error
        try:
            import cloudpickle  # noqa: PLC0415 - of an extra

            args, kwargs = with_results((self.task.func_args, self.task.func_kwargs))
        except Exception:  # noqa: BLE001 - then there is nothing to be found out
            return error
        words = [*(None for _ in args), *kwargs]
        for place, value in enumerate((func, *args, *kwargs.values()), -1):
            try:
                cloudpickle.dumps(value)
            except Exception as refusal:  # noqa: BLE001 - pickling runs foreign code
                what = f"{name_of(place, func, words)} of {self.task._fsm_called()}"
                message = f"{what} cannot be sent: {words_of(refusal)}"
                named = TravelError(message, self.task)
                named.__cause__ = error
                return named
        return error

    def show(self, text: str) -> None:
        """Show what the task prints elsewhere in whole lines, so that no other stands in between.

        A line that has no end yet is shown with what ends it, or with the attempt.
        """
        text = self._line + text
        end = max(text.rfind("\n"), text.rfind("\r")) + 1
        if len(text) - end > _LONG_LINE:
            end = len(text)
        self._line = text[end:]
        if end and self.attempt is not None and self.attempt.echo:
            self.attempt.show(text[:end])

    def show_rest(self) -> None:
        """Show what has no end of line; called before the attempt is settled."""
        rest, self._line = self._line, ""
        if rest and self.attempt is not None and self.attempt.echo:
            self.attempt.show(rest)

    def judge(self, value: Any) -> BaseException | None:
        """Ask `cancel_on_result` about a result that came from elsewhere: here, where it is known.

        A call that is made in this process has asked already.
        """
        judgement = self.task.cancel_on_result
        try:
            if judgement is None or not judgement(value):
                return None
        except BaseException as error:  # noqa: BLE001 - a user's function; it fails the task
            return error
        message = f"{self.task._fsm_called()}: its result asks for cancellation"
        return CancellationError(message, self.task)

    def end(self, value: Any, error: BaseException | None, when: float | None = None) -> None:
        """Settle the attempt, or fail a task that never came to one."""
        self.show_rest()
        attempt = self.attempt
        if error is None and attempt is not None and (fault := attempt.fault) is not None:
            self._meet(fault, attempt, value)
            return
        self._end(value, error, when)

    def fail_without_call(self) -> None:
        """Make an attempt that is to fail instead of its call; it goes nowhere."""
        if not self.begin() or self.attempt is None:
            return
        if self.attempt.fault is None or not self.attempt.fault.is_instead:  # changed meanwhile
            attempt_here(self.attempt)
            self._close()
            return
        self.watch(self.task.timeout)
        self._meet(self.attempt.fault, self.attempt, None, was_called=False)

    def _meet(self, fault: Fault, attempt: Attempt, value: Any, *, was_called: bool = True) -> None:
        """Let what comes of a call meet the fault that was injected."""
        error: Exception | None = fault.error(was_called=was_called) if fault.fail else None
        if not fault.slow:
            self._end(value, error)
            return
        if self._is_slowed:
            return  # it was answered already
        self._is_slowed = True
        self.sends_more = False  # whoever brought the answer does not wait
        attempt.kill = None  # nothing is left to be ended

        def later() -> None:
            attempt.runstate.sleep(fault.slow)
            self._end(value, error)

        seconds, started = self.task.timeout, attempt.started
        if seconds is not None and started is not None:
            left = seconds - (time() - started)
            if left < fault.slow:
                fault = fault._replace(slow=max(0.0, left))
                error = TimeoutError(f"no answer within {seconds:g} s; the attempt is given up")
        threading.Thread(target=later, name="taskqueue_nb slowed", daemon=True).start()

    def _end(self, value: Any, error: BaseException | None, when: float | None = None) -> None:
        with GRAPH_LOCK:
            if self._ended:
                return
            if self.attempt is not None:
                self.task._settle(self.attempt, value, error, when)
            elif self.task.fsm_state == "QUEUED" and isinstance(error, LostValueError):
                self.task._send_back()
            elif self.task.fsm_state == "QUEUED" and isinstance(error, KeyboardInterrupt):
                self.task._fsm_move("cancel", {"because": INTERRUPTED})  # on its way there
            elif self.task.fsm_state == "QUEUED":
                self.task._error = error
                self.task._fsm_move("error", {"because": "the executor did not take it"})
            self._is_settled()
        self._close()

    def _is_settled(self) -> None:
        """Hear that the task is settled; the lock is held."""

    def _close(self) -> None:
        with GRAPH_LOCK:
            first, self._ended = not self._ended, True
            if self.attempt is not None and self.kill is not None:
                self.attempt.kill = None
        if self._clock is not None:
            self._clock.cancel()
        if first:
            self._done(self.task, self.attempt, self.sends_more)


def argument_names(func: Callable[..., Any], count: int) -> list[str]:
    """Name the positional arguments of a call as the function does, or else by number."""
    names = [f"number {place + 1}" for place in range(count)]
    signature = signature_of(func)
    known = [] if signature is None else list(signature.parameters.values())
    for place, parameter in enumerate(known[:count]):
        if parameter.kind not in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            break
        names[place] = parameter.name
    return names


def name_of(place: int, func: Any, words: list[str | None]) -> str:
    """Say what an argument of a call is called, or the function, which is before the first."""
    if place < 0:
        return "the function"
    if (name := words[place]) is None:
        name = argument_names(func, words.count(None))[place]
    return f"argument {shorten(name)}"


def with_article(kind: str) -> str:
    """Put an article before the name of a type."""
    return f"{'an' if kind[:1].lower() in 'aeiou' else 'a'} {kind}"
