"""`Task`: a function call with a state, which may require other tasks."""

from __future__ import annotations

import _thread
import itertools
import os
import sys
import threading
from contextvars import copy_context
from functools import partial
from time import sleep, time
from types import CoroutineType
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    Final,
    Generic,
    NamedTuple,
    NoReturn,
    TypeVar,
    cast,
    overload,
)

from taskqueue_nb.capture import Displayed, Output, capturing, show
from taskqueue_nb.faults import fault_of
from taskqueue_nb.fingerprint import fingerprint_of, version_of
from taskqueue_nb.fsm import (
    FSM,
    CancellationError,
    Event,
    FSMError,
    FSMTransitionEvent,
    State,
    Table,
    shorten,
)
from taskqueue_nb.graph import CycleError, closure, path
from taskqueue_nb.leading import LEADERS, CaughtUp, forget_leaders
from taskqueue_nb.loops import Awaiting, Loop, awaited, is_coroutine_function
from taskqueue_nb.result import Result
from taskqueue_nb.runstate import CURRENT, RunState

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
    from weakref import ref

    from taskqueue_nb.faults import Fault
    from taskqueue_nb.fingerprint import Fingerprint, Version
    from taskqueue_nb.repair import Plan
    from taskqueue_nb.source import Comparison
    from taskqueue_nb.stepping import Stepped
    from taskqueue_nb.widget.machine import TaskMachine

R = TypeVar("R")

#: State → event → state, in the order in which a task lives through them.
FSM_TRANSITIONS: Final[Table] = {
    "PREPARE": {"prepared": "PENDING"},
    "PENDING": {
        "dispatch": "RUNNING",
        "queue": "QUEUED",
        "cancel": "CANCELLED",
        "error": "FAILED",
        "abort": "ABORT",
        "supply": "DONE",
    },
    "QUEUED": {"dispatch": "RUNNING", "cancel": "CANCELLED", "error": "FAILED"},
    "RUNNING": {"done": "DONE", "except": "FAILED", "error": "FAILED", "cancel": "CANCELLED"},
    "CANCELLED": {"retry": "PENDING", "abort": "ABORT", "supply": "DONE"},
    "FAILED": {"retry": "PENDING", "abort": "ABORT", "supply": "DONE"},
    "DONE": {"invalidate": "PENDING"},
    "ABORT": {},
}
COMPLETED: Final = frozenset({"DONE", "FAILED", "ABORT"})
SETTLED: Final = COMPLETED | {"CANCELLED"}
ACTIVE: Final = frozenset({"QUEUED", "RUNNING"})

#: Why attempts are cancelled that nobody gave up: `retry()` without names takes them too.
INTERRUPTED: Final = "interrupted"
STOPPED: Final = "the run was stopped"

#: Why queued tasks become pending again without having been called.
OUTDATED: Final = "a prerequisite was invalidated"
WITHDRAWN: Final = "withdrawn before it began"

#: Held for every step of every task and every change of a graph; never while a user's code runs.
#: One lock for all: several tasks change together, and no order of locks can be got wrong.
GRAPH_LOCK: Final = threading.RLock()

#: Queued tasks whose calls wait in a worker process behind another one, and what takes each back.
AHEAD: Final[dict[Any, Any]] = {}
_forks = [0]  # how many forks lie between the first process and this one


def _after_fork() -> None:
    GRAPH_LOCK._at_fork_reinit()  # type: ignore[attr-defined]  # nobody is left to free it
    AHEAD.clear()  # the workers are the parent's
    forget_leaders()  # and so are the clusters
    _forks[0] += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)

_NO_STEPS: Final[list[Any]] = []  # never filled: what all tasks share before their first step
_NAME_SHOWN: Final = 500  # characters of a name that a repr repeats
_LOOK_AGAIN: Final = 0.05  # seconds, should an interrupt come between a lock and who takes it
_PATIENCE: Final = 100  # looks at the lock before a worker queues up for it after all


def let_holder_finish() -> None:
    """Let whoever holds the graph's lock go on first, instead of queueing up for it.

    A thread that sleeps on a lock is handed it when it cannot run yet, so that the one that runs
    must sleep in its turn: two workers would change places at every step, at 10 µs each.
    """
    for _ in range(_PATIENCE):
        if GRAPH_LOCK.acquire(blocking=False):
            GRAPH_LOCK.release()
            return
        sleep(0)


_later_ranks = itertools.count(1)
_earlier_ranks = itertools.count(-1, -1)
_LEVEL_SEARCH: Final = 256  # tasks of a level that one new requirement looks at
_next_rank = _later_ranks.__next__


class TaskError(FSMError):
    """A task was asked for something that it cannot do.

    Parameters
    ----------
    message : str
        The sentence for the user.
    task : Task, optional
        The task concerned; it does not travel with a pickled error.
    """

    def __init__(self, message: str = "", task: object = None) -> None:
        super().__init__(message, task)
        self.task = task


class BlockedError(TaskError):
    """A task was asked to run before what it requires is done.

    Parameters
    ----------
    message : str
        The sentence for the user.
    task, blocking_task : Task, optional
        The task, and the first of its prerequisites that is not done.
    """

    def __init__(
        self, message: str = "", task: object = None, blocking_task: object = None
    ) -> None:
        super().__init__(message, task)
        self.blocking_task = blocking_task


class LostValueError(TaskError):
    """A task's value is elsewhere, and cannot be had from there; the task is pending again."""


class LazyValue:
    """A task's value that is elsewhere until somebody asks for it.

    Parameters
    ----------
    load : callable
        Brings it, or raises if it cannot be had.
    key : object, optional
        What it is known by there.

    Attributes
    ----------
    stays : bool
        Whether it goes on being there once it was brought, for those who want it there.
    loss : str
        What is said when it cannot be had.
    """

    __slots__ = ("_load", "_lock", "_value", "key")

    stays: ClassVar[bool] = False
    loss: ClassVar[str] = "its stored result cannot be read"

    def __init__(self, load: Callable[[], Any], key: object = None) -> None:
        self.key = key
        self._load: Callable[[], Any] | None = load
        self._lock = threading.RLock()
        self._value: Any = None

    def get(self) -> Any:
        """Return the value, bringing it the first time; never under the lock of the graph."""
        with self._lock:
            if self._load is not None:
                self._value = self._load()
                self._load = None
            return self._value

    def bring(self) -> Any:
        """Return the value without keeping it."""
        load = self._load
        return self._value if load is None else load()

    def show(self, render: Callable[[Any], R]) -> R:
        """Return what a function makes of the value, called where that is cheapest."""
        return render(self.get())


class _Options(NamedTuple):
    """What few tasks set; shared by all the others."""

    cancel_on_exception: bool = False
    cancel_on_result: Callable[[Any], object] | None = None
    group: str | None = None
    retries: int = 0
    retry_delay: float | Callable[[int], float] = 0.0
    timeout: float | None = None
    executor: Any = None
    uses: Mapping[str, float] | None = None
    fault: Fault | None = None  # for the next attempt; no parameter of a task


PLAIN: Final = _Options()


class _Option:
    """One of a task's options, as an attribute."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, task: Task | None, owner: type) -> Any:
        return self if task is None else getattr(task._options, self._name)

    def __set__(self, task: Task, value: object) -> None:
        changed: dict[str, Any] = {self._name: value}
        with CaughtUp((task,)):
            task._options = _checked(task._options._replace(**changed))


def _checked(options: _Options) -> _Options:
    """Refuse options that could only fail later."""
    retries, delay, timeout = options.retries, options.retry_delay, options.timeout
    is_count = isinstance(retries, int) and not isinstance(retries, bool)
    if not (is_count and retries >= 0):
        message = f"retries is a number of times, 0 or more, not {retries!r:.80}"
        raise (ValueError if is_count else TypeError)(message)
    if not callable(delay):
        seconds = _number(delay)
        if seconds is None or not seconds >= 0:
            message = (
                "retry_delay is a time in seconds, 0 or more, or a function that returns one, "
                f"not {delay!r:.80}"
            )
            raise (TypeError if seconds is None else ValueError)(message)
    if timeout is not None:
        seconds = _number(timeout)
        if seconds is None or not seconds > 0:
            message = f"timeout is a time in seconds, more than 0, not {timeout!r:.80}"
            raise (TypeError if seconds is None else ValueError)(message)
    if options.executor is not None:
        _check_executor(options.executor)
    if options.uses is not None:
        return options._replace(uses=_checked_uses(options.uses))
    return options


def _check_executor(executor: Any) -> None:
    """Refuse what could run nothing; what a text asks for is looked for on disk once only."""
    from taskqueue_nb.executors import check_executor  # noqa: PLC0415 - a layer above

    if isinstance(executor, str):
        if executor not in _known_executors:
            check_executor(executor)
            _known_executors.add(executor)
    else:
        check_executor(executor)


_known_executors: Final[set[str]] = set()


def _number(value: Any) -> float | None:
    """Return a number of whatever kind as a float, which may be NaN; None for anything else."""
    if isinstance(value, (bool, str, bytes, bytearray)):
        return None
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return None


def _checked_uses(uses: Any) -> dict[str, float] | None:
    """Return what a task uses as a dict of our own; None if that is nothing."""
    try:
        found = dict(uses)
        is_sound = all(
            isinstance(name, str)
            and isinstance(number, (int, float))
            and not isinstance(number, bool)
            for name, number in found.items()
        )
    except (TypeError, ValueError):
        is_sound = False
    if not is_sound or not all(number >= 0 for number in found.values()):
        message = f"uses is a mapping from names to numbers, such as {{'gpu': 1}}, not {uses!r:.80}"
        raise (ValueError if is_sound else TypeError)(message)
    return {name: number for name, number in found.items() if number} or None


class Attempt:
    """One numbered call of a task's function.

    Attributes
    ----------
    number : int
        From 1.
    func, args, kwargs
        What was called; a task among the arguments stands for its result.
    echo : bool
        Whether what it prints is shown as usual besides being kept.
    progressed : tuple of float or None
        What the function last reported: how much is done, of how much.
    late : str or None
        The answer that came after the attempt was given up, in words. It was dropped.
    fault : Fault or None
        What was made to go wrong with it by `Task.inject`.
    worker : str or None
        Who made the call, where that was not a thread of this process: "process 4711", or the
        address of a worker of a cluster.
    """

    # What few attempts set stands here; an instance has an attribute of its own once it differs.
    number = 1
    echo = True
    automatic = 0  # of the task's own retries, how many led here
    retried = False  # whether its failure was followed by such a one
    run: Any = None  # the run of a queue that started it
    here: Any = None  # the queue whose loop makes it
    crowded = False  # whether other threads make attempts at the same time
    progressed: tuple[float, float] | None = None
    late: str | None = None
    worker: str | None = None
    outdated = False  # whether a prerequisite was invalidated while it ran
    coroutine: Any = None  # what its function returned for the queue to await, and its context
    awaiting: Awaiting | None = None  # that coroutine on its way through an event loop
    version: Version | None = None  # what the function referred to, if that can change
    _call: Fingerprint | None = None
    asked_because: str | None = None  # why it was asked to stop, if not for its own sake
    lost: LostValueError | None = None  # the prerequisite's value for want of which it ended
    kill: Callable[[], object] | None = None  # ends the call, where that can be done at all
    fault: Fault | None = None
    stepped: Stepped | None = None  # where it stands, if it is made one transition at a time
    _runstate: RunState | None = None
    _output: Output | None = None
    _shown: Displayed | None = None
    _error: BaseException | str | None = None
    _error_text: str | None = None

    def __init__(self, task: Task, previous: Attempt | None) -> None:
        self.task = task
        self.func = task.func
        self.args = task._args
        self.kwargs = task._kwargs
        if self.func is not None and (version := version_of(self.func)) is not None:
            self.version = version
        self._at = len(task._log)
        self._previous = previous
        if previous is not None:
            self.number = previous.number + 1
            if previous.retried:
                self.automatic = previous.automatic + 1
            previous._keep_text_alone()

    def __repr__(self) -> str:
        return f"<Attempt {self.number} of {self.task.name!r}: {self.outcome or 'running'}>"

    # -- when --------------------------------------------------------------------------------

    @property
    def ready(self) -> float | None:
        """When nothing blocked it any more, in seconds since the epoch; None if not known."""
        log, started = self.task._log, self.started
        times = [log[self._at - 2]] if self._at else []
        for prerequisite in self.task.required:
            done = [s.when for s in prerequisite.fsm_history if s.new_state == "DONE"]
            times += [when for when in done if started is None or when <= started][-1:]
        return max(times, default=started)

    @property
    def started(self) -> float | None:
        """When the function was called, in seconds since the epoch."""
        log = self.task._log
        return log[self._at + 2] if len(log) > self._at else None

    @property
    def ended(self) -> float | None:
        """When the attempt was settled, in seconds since the epoch; None while it runs."""
        log = self.task._log
        return log[self._at + 6] if len(log) > self._at + 4 else None

    @property
    def outcome(self) -> State | None:
        """The state in which it ended; None while it runs."""
        log = self.task._log
        return log[self._at + 5] if len(log) > self._at + 4 else None

    @property
    def because(self) -> str | None:
        """Why it ended so, such as "interrupted" or "asked to stop"; None if nothing was said."""
        log = self.task._log
        extra = log[self._at + 7] if len(log) > self._at + 4 else None
        because = (extra or {}).get("because")
        return because if isinstance(because, str) else None

    # -- what came of it ---------------------------------------------------------------------

    @property
    def error(self) -> BaseException | str | None:
        """What it raised: the exception for the last attempt, a line of text for earlier ones."""
        return self._error

    @property
    def error_text(self) -> str | None:
        """The traceback of what it raised, as text."""
        if self._error_text is None and isinstance(self._error, BaseException):
            return _traceback_text(self._error)
        return self._error_text

    def _keep_text_alone(self) -> None:
        """Let the frames go, and with them all that the function held."""
        if isinstance(self._error, BaseException):
            self._error_text = self.error_text
            self._error = words_of(self._error)

    @property
    def call(self) -> Fingerprint:
        """The fingerprint of its code and arguments, by parts; taken when it is first asked for."""
        if self._call is None:
            func: Any = self.func
            self._call = fingerprint_of(func, self.args, self.kwargs or {}, self.version)
        return self._call

    @property
    def fingerprint(self) -> str | None:
        """The same text for the same code and arguments; None if they cannot be looked at."""
        return self.call.digest

    @property
    def output(self) -> str:
        """What the function printed, logged and warned of; of a lot, the beginning and the end.

        What it displayed stands there as text, and whole in `displayed`. What is written past
        Python's own streams (`os.write`, child processes, `sys.stdout.buffer`) is not kept, nor
        what threads print that the function has started itself; worker processes keep that, too.
        Python says a warning once for each place, so the first task that comes there has it.
        """
        return "" if self._output is None else str(self._output)

    def write(self, text: str) -> None:
        """Keep something that the function printed."""
        if self._output is None:
            with GRAPH_LOCK:
                self._output = self._output or Output()
        self._output.write(text)

    def show(self, text: str) -> None:
        """Show something that it printed elsewhere, where its run was started."""
        run = self.run
        if run is None:
            show(text)
        else:
            run.context.copy().run(show, text)  # a copy, as several threads may be at it

    @property
    def displayed(self) -> list[dict[str, Any]]:
        """What the function displayed, as MIME bundles; of many, the first and the last ones.

        There is none from other processes, whose objects stand in `output` as text.
        """
        return [] if self._shown is None else self._shown.bundles()

    @property
    def _displays(self) -> Displayed:
        """Where what it displays goes."""
        if self._shown is None:
            with GRAPH_LOCK:
                self._shown = self._shown or Displayed()
        return self._shown

    @property
    def runstate(self) -> RunState:
        """The request to stop that concerns this attempt."""
        if self._runstate is None:
            with GRAPH_LOCK:
                self._runstate = self._runstate or RunState(self.task.name)
        return self._runstate

    def interrupt(self) -> None:
        """Ask it to stop because its run is cut off, not for its own sake."""
        self.asked_because = INTERRUPTED
        self.runstate.cancel()

    def come_too_late(self, error: BaseException | None) -> None:
        """Note that it answered after it had been given up."""
        self.late = "it returned" if error is None else f"it raised {words_of(error)}"

    @staticmethod
    def end_child(error: BaseException | None) -> NoReturn:
        """End a process that a coroutine forked."""
        _end_child(error)

    @property
    def asked_to_stop(self) -> bool:
        """Whether somebody cancelled it while it ran."""
        return self._runstate is not None and self._runstate.cancelled


#: The id of a function that `@task` was on → the one that took its name since, in a cell run again.
_LATER: Final[dict[int, Callable[..., Any]]] = {}
#: Namespace (its id) and name → the last function with `@task` there, and whether there are more
#: with the same code, as a loop makes them: of those none can be told to be the newer one.
_DEFINED: Final[dict[tuple[int, str], tuple[Callable[[], Any], bool]]] = {}


def defined_now(func: Any) -> Any:
    """Return what a function that `@task` was put on is by now; any other as it is."""
    while (later := _LATER.get(id(func))) is not None:
        func = later
    return func


def _note_definition(func: Any) -> None:
    """Have a function replace the one that `@task` was put on under the same name before."""
    from weakref import finalize, ref  # noqa: PLC0415 - kept beside its one use

    name, space = getattr(func, "__name__", None), getattr(func, "__globals__", None)
    if space is None or not isinstance(name, str) or name != getattr(func, "__qualname__", None):
        return
    key = (id(space), name)

    def forget(gone: Any) -> None:
        if key in _DEFINED and _DEFINED[key][0] is gone:
            del _DEFINED[key]

    known, are_many = _DEFINED.get(key, (lambda: None, False))
    old: Any = known()
    is_alike = old is not None and old.__code__ is func.__code__
    _DEFINED[key] = (ref(func, forget), is_alike)
    if old is not None and not is_alike and not are_many and not _stand_together(old, func):
        finalize(old, _LATER.pop, id(old), None).atexit = False
        _LATER[id(old)] = func


def _stand_together(old: Any, new: Any) -> bool:
    """Say whether two functions of one name stand in one text, so that none replaces the other."""
    old_code, new_code = old.__code__, new.__code__
    file, line = old_code.co_filename, old_code.co_firstlineno
    if file != new_code.co_filename or line == new_code.co_firstlineno:
        return False
    import linecache  # noqa: PLC0415 - hardly ever needed
    import re  # noqa: PLC0415 - as above

    linecache.checkcache(file)
    lines = linecache.getlines(file, new.__globals__)
    head = "".join(lines[line - 1 : line + _DECORATORS])
    return not lines or bool(re.search(rf"(?m)^\s*(async\s+)?def\s+{old.__name__}\b", head))


_DECORATORS: Final = 10  # lines of decorators above a function that are looked through


def _traceback_text(error: BaseException) -> str:
    import traceback  # noqa: PLC0415 - only failures need it

    try:
        return "".join(traceback.format_exception(error))
    except Exception:  # noqa: BLE001 - the exception's own words may raise anything
        return words_of(error)


def words_of(error: BaseException) -> str:
    """Return an exception's class and words, whatever its `__str__` does."""
    try:
        words = str(error)
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - as above, and SystemExit too
        words = "(its text cannot be had)"
    return f"{type(error).__name__}: {words[:2000]}" if words else type(error).__name__


class BaseTask(FSM):
    """What tasks and subclasses with a state from elsewhere share.

    Parameters
    ----------
    state : str, optional
        The first state. None leaves `fsm_state` alone, so that a subclass may take it from
        elsewhere, such as a field of a Django model; hence no `FSM_DEFAULT_STATE` here.
    runstate : RunState, optional
        The request to stop.
    lock : context manager, optional
        Held while an event is fired, besides the lock of the graph.
    """

    __slots__ = ()

    FSM_TRANSITIONS = FSM_TRANSITIONS

    def __init__(
        self, state: State | None = None, *, runstate: RunState | None = None, lock: Any = None
    ) -> None:
        super().__init__(state, lock=lock)
        self._runstate = runstate

    def _fsm_default_state(self) -> State | None:
        return getattr(type(self), "FSM_DEFAULT_STATE", None)

    @property
    def runstate(self) -> RunState:
        """The request to stop that concerns this task."""
        if self._runstate is None:
            self._runstate = RunState(type(self).__name__)
        return self._runstate

    @staticmethod
    def tasks_as_dot(tasks: Iterable[Task], name: str | None = None, **options: Any) -> str:
        """Return the DOT of some tasks, coloured by state.

        Parameters
        ----------
        tasks : iterable of Task
            What to draw.
        name : str, optional
            The name of the graph.
        **options
            `follow_blocking` draws the dependents too, and theirs; `sep` stands between lines;
            `max_nodes` is the number of boxes above which groups are folded.
        """
        from taskqueue_nb.drawing import tasks_as_dot  # noqa: PLC0415 - drawing is a layer above

        return tasks_as_dot(tasks, name, **options)

    @staticmethod
    def tasks_as_svg(tasks: Iterable[Task], name: str | None = None, **options: Any) -> str:
        """Return a picture of some tasks as SVG; the parameters are those of `tasks_as_dot`."""
        from taskqueue_nb.drawing import tasks_as_svg  # noqa: PLC0415 - drawing is a layer above

        return tasks_as_svg(tasks, name, **options)


class _Locks:
    """A lock of the user's own around the one of the graph."""

    __slots__ = ("_own",)

    def __init__(self, own: Any) -> None:
        self._own = own

    def __enter__(self) -> None:
        self._own.__enter__()
        GRAPH_LOCK.acquire()

    def __exit__(self, *exc: object) -> None:
        GRAPH_LOCK.release()
        self._own.__exit__(*exc)


class Task(BaseTask):
    """A call of a function with a state, which may require other tasks.

    Parameters
    ----------
    name : str, optional
        By default the function's. `Task(func)`, `Task("name", func)`, `Task(name="name")` will do.
    func : callable, optional
        What to call. A task without one can be given one by `call`, `bg` or `repair`.
    func_args, func_kwargs
        Its arguments. A task among them, also inside lists, tuples and dicts, becomes a
        prerequisite, and the function gets its result.
    state : str, optional
        The first state, by default PENDING.
    cancel_on_exception : bool
        Whether a function that raises leaves the task CANCELLED instead of FAILED.
    cancel_on_result : callable, optional
        Says of a result whether the task is to be CANCELLED on account of it.
    track : bool or callable
        True prints each transition; a callable is called as `track(task, transition)`.
    lock : context manager, optional
        Held while you fire an event of this task, besides the lock of the graph.
    group : str, optional
        Tasks of one group fold into one box in a large picture.
    retries : int
        How often a failed attempt is made again without being asked.
    retry_delay : float or callable
        The time before that, in seconds, or a function from the attempt's number to it.
    timeout : float, optional
        The time in seconds after which an attempt has failed.
    executor : optional
        Where this task runs, whatever its queue uses; see `TaskQueue`.
    uses : mapping, optional
        What it takes up while it runs, such as `{"gpu": 1}`; the queue's `limits` say how much of
        each there is.

    Raises
    ------
    TypeError
        If `func` cannot be called, `name` is no text, or an option nothing of its kind.
    ValueError
        If there is no such state, or an option is out of its bounds.
    ImportError
        If `executor` is a text that asks for processes, and their extra is not installed.

    Examples
    --------
    >>> load = Task("load", lambda: [3, 4])
    >>> total = Task("total", sum, func_args=(load,))
    >>> total.make()
    True
    >>> total()
    7
    """

    __slots__ = (
        "_args",
        "_attempt",
        "_blocking",
        "_error",
        "_first_state",
        "_inputs",
        "_kwargs",
        "_level",
        "_log",
        "_missing",
        "_options",
        "_queues",
        "_rank",
        "_required",
        "_result",
        "_value",
        "fsm_state",
        "func",
        "name",
    )

    FSM_DEFAULT_STATE: ClassVar[State] = "PENDING"

    cancel_on_exception = _Option()
    cancel_on_result = _Option()
    group = _Option()
    retries = _Option()
    retry_delay = _Option()
    timeout = _Option()
    executor = _Option()
    uses = _Option()

    def __init__(  # noqa: PLR0913 - the family's interface, by keyword
        self,
        name: str | Callable[..., Any] | None = None,
        func: Callable[..., Any] | None = None,
        *,
        func_args: Iterable[Any] = (),
        func_kwargs: Mapping[str, Any] | None = None,
        state: State | None = None,
        cancel_on_exception: bool = False,
        cancel_on_result: Callable[[Any], object] | None = None,
        track: bool | Callable[[Task, FSMTransitionEvent], object] = False,
        lock: Any = None,
        group: str | None = None,
        retries: int = PLAIN.retries,
        retry_delay: float | Callable[[int], float] = PLAIN.retry_delay,
        timeout: float | None = None,
        executor: Any = None,
        uses: Mapping[str, float] | None = None,
    ) -> None:
        if name.__class__ is not str:
            name, func = _named(name, func)
        if func is not None and not callable(func):
            message = f"a task's function must be callable, not {shorten(func)}"
            raise TypeError(message)
        if state is None:
            state = self.FSM_DEFAULT_STATE
        else:
            self._fsm_check_state(state)
        self.name = name  # _named leaves nothing but texts
        self.func = func
        self.fsm_state = self._first_state = state
        self._fsm_history = None
        self._fsm_listeners = None
        self._fsm_lock = cast("Any", GRAPH_LOCK if lock is None else _Locks(lock))
        self._log: list[Any] = _NO_STEPS  # event, new state, when, extra; and so on for each step
        self._required: list[Task] | tuple[()] = ()
        self._blocking: list[Task] | tuple[()] = ()
        self._missing = 0  # of `required`, how many are not DONE
        self._level = 0  # with `_rank`, smaller than that of every dependent
        self._rank = _next_rank()
        self._queues: tuple[ref[Any], ...] = ()  # who is told of each step
        self._attempt: Attempt | None = None
        self._value: Any = None
        self._error: BaseException | None = None
        self._result: Result | None = None
        self._options = PLAIN
        self._inputs: dict[Task, bool] | None = None  # tasks among the arguments; also required?
        self._args: tuple[Any, ...] = ()
        self._kwargs: dict[str, Any] | None = None
        if func_args or func_kwargs:
            self._set_arguments(tuple(func_args), dict(func_kwargs or {}))
        if (
            cancel_on_exception
            or cancel_on_result
            or group is not None
            or retries is not PLAIN.retries
            or retry_delay is not PLAIN.retry_delay
            or timeout is not None
            or executor is not None
            or uses is not None
        ):
            self._options = _checked(
                _Options(
                    bool(cancel_on_exception),
                    cancel_on_result,
                    group,
                    retries,
                    retry_delay,
                    timeout,
                    executor,
                    uses,
                )
            )
        if track:
            self.fsm_callback(FSM.FSM_ANY_STATE, _print_step if track is True else track)

    # -- identity ----------------------------------------------------------------------------

    def __str__(self) -> str:
        name = _cut(self.name)
        shown = name if name.isprintable() else repr(name)
        return f"{type(self).__name__}:{shown}:{self.fsm_state}"

    def __repr__(self) -> str:
        func = self.func
        shown = repr(func) if _plain_repr(func) else f"<{type(func).__name__}>"
        name = repr(_cut(self.name))
        return f"{type(self).__name__}({name},{_cut(shown)},state={self.fsm_state!r})"

    def _fsm_called(self) -> str:
        return f"task {shorten(self.name)}"

    @classmethod
    def current(cls) -> Task | None:
        """Return the task that this thread or coroutine runs; None outside of any."""
        attempt: Attempt | None = CURRENT.get()
        return None if attempt is None else attempt.task

    @classmethod
    def default(cls) -> Task | None:
        """Return the task that this thread or coroutine runs; another name of `current`."""
        return cls.current()

    # -- the machine -------------------------------------------------------------------------

    @property
    def fsm_history(self) -> list[FSMTransitionEvent]:
        """Every step since the task was made, oldest first."""
        log, old = list(self._log), self._first_state
        steps = []
        for event, new, when, extra in zip(log[::4], log[1::4], log[2::4], log[3::4], strict=True):
            steps.append(FSMTransitionEvent(old, new, event, when, extra or {}))
            old = new
        return steps

    def _fsm_move(  # noqa: C901, PLR0912 - one call per step, and every further one would be paid
        self,
        event: Event,
        extra: dict[str, Any] | None = None,
        here: Any = None,
        when: float | None = None,
    ) -> State:
        """Make one step, tell the dependents and the queues; the lock of the graph is held.

        What a transition costs is decided here: no object but the time is made. `here` is the
        queue whose own loop moves the task; most tasks are in that one alone. `when` it was is told
        by who hears of it later.
        """
        if AHEAD and self in AHEAD:
            self._recall()
        old = self.fsm_state
        try:
            new = self.FSM_TRANSITIONS[old][event]
        except (KeyError, TypeError):
            new = self._fsm_target(event)  # raises, and says what would be accepted
        now = time() if when is None else when
        self.fsm_state = new
        if self._log is _NO_STEPS:
            self._log = [event, new, now, extra]
        else:
            self._log += event, new, now, extra
        if new == "DONE":
            for dependent in self._blocking:
                dependent._missing -= 1
                if not dependent._missing and dependent.fsm_state == "PENDING":
                    if here is not None and dependent._queues is here._mine:
                        here._ready.append(dependent)
                    else:
                        for queue in dependent._told_queues():
                            queue._is_ready(dependent)
        elif new == "PENDING":
            if old == "DONE":
                for dependent in self._blocking:
                    dependent._missing += 1
                    if AHEAD and dependent in AHEAD:
                        dependent._outrun()
            self._value = self._error = None
            if self._result is not None and self._result.claimed:
                self._result = None  # what comes now has a result of its own
        elif new != "RUNNING" and new != "QUEUED":  # noqa: PLR1714 - a set would cost twice as much
            for queue in self._told_queues():
                queue._has_fallen(self)
        if self._fsm_listeners is not None:
            step = FSMTransitionEvent(old, new, event, now, extra or {})
            self._fsm_listeners.pending.append(step)
        if here is not None and self._queues is here._mine:
            here._active += 1 if new == "RUNNING" else -1
            if here._watchers or here.run_dependent_tasks:
                here._has_moved_here(self, new)
        else:
            for queue in self._told_queues():
                queue._has_moved(self, old, new)
        return new

    def _told_queues(self) -> list[Any]:
        """Return the queues that are told of each step; a task keeps none of them alive."""
        return [queue for reference in self._queues if (queue := reference()) is not None]

    def fsm_event(self, event: Event, **extra: Any) -> State:
        """Make the step that the table gives for an event; see `FSM.fsm_event`."""
        with CaughtUp((self,)):
            return super().fsm_event(event, **extra)

    def _fsm_after(self) -> None:
        if self._result is not None:
            self._settle_result()
        if self._fsm_listeners is not None:
            self._fsm_deliver(self._fsm_listeners)

    def iscompleted(self) -> bool:
        """Say whether it has run, well or not: DONE, FAILED or ABORT."""
        return self.fsm_state in COMPLETED

    # -- requirements ------------------------------------------------------------------------

    @property
    def required(self) -> tuple[Task, ...]:
        """The tasks that must be done first, in the order in which they were added."""
        return tuple(self._required)

    @property
    def blocking(self) -> tuple[Task, ...]:
        """The tasks that require this one, in the order in which they were added."""
        return tuple(self._blocking)

    def require(self, task: Task) -> None:
        """Let this task wait until another one is done.

        Parameters
        ----------
        task : Task
            The prerequisite. Adding it again changes nothing.

        Raises
        ------
        TypeError
            If it is no task.
        CycleError
            If it requires this task, itself or through others; `CycleError.path` names the circle.
        TaskError
            If this task has already been started, or given up for good.
        """
        if not isinstance(task, Task):
            message = f"a task can require tasks only, not {shorten(task)}"
            raise TypeError(message)
        with GRAPH_LOCK:
            if not LEADERS:
                self._require_itself(task)
                return
        with CaughtUp((self,)), GRAPH_LOCK:
            self._require_itself(task)

    def _require_itself(self, task: Task) -> None:
        self._require(task)
        if self._inputs and task in self._inputs:
            self._inputs[task] = True  # wanted for its own sake from now on

    def _require(self, task: Task) -> None:
        state = self.fsm_state
        if state != "PENDING" and (state in ACTIVE or state in ("DONE", "ABORT")):
            called = self._fsm_called()
            message = f"{called} is {state}: a requirement added now would come too late"
            raise TaskError(message, self)
        required, blocking = self._required, task._blocking
        if self in blocking if len(blocking) < len(required) else task in required:
            return
        if self._level < task._level or (self._level == task._level and self._rank <= task._rank):
            self._rank_after(task)
        if required:
            required.append(task)  # only an empty one is a tuple
        else:
            self._required = [task]
        if blocking:
            blocking.append(self)
        else:
            task._blocking = [self]
        if task.fsm_state != "DONE":
            self._missing += 1
        if self._queues:
            for queue in self._told_queues():
                queue._is_linked(self, task)

    def _rank_after(self, task: Task) -> None:
        """Renumber so that `task` comes before this one, or refuse the circle.

        Tasks are ordered by level and, within a level, by rank, in agreement with the requirements;
        so a prerequisite that comes before already cannot close a circle. Else this task and what
        stands behind it may have to rise to the level of `task`, or, where much of that level
        stands before `task`, to the next one: that bounds what is ever searched. The method, and
        a proof that all of m requirements together take some m √m steps, is by Bender, Fineman,
        Gilbert and Tarjan (2016, https://doi.org/10.1145/2756553, section 2).
        """
        if self is task:
            raise CycleError((self.name, self.name), self)
        if not self._blocking:
            self._level, self._rank = max(self._level, task._level), next(_later_ranks)
            return
        if not task._required:
            task._level, task._rank = min(self._level, task._level), next(_earlier_ranks)
            return
        before, is_whole = self._level_before(task)
        level = task._level if is_whole else task._level + 1
        moved = before if is_whole else []
        if level > self._level:
            moved = [*moved, *self._risen(task, level, {task, *before})]
        elif self in before:
            raise self._circle(task)
        for member in reversed(moved):
            member._rank = next(_earlier_ranks)

    def _level_before(self, task: Task) -> tuple[list[Task], bool]:
        """Collect what stands before `task` on its level, in order; say whether that is all."""
        level = task._level
        seen = {task}
        due = [task]
        for member in due:
            for prerequisite in member._required:
                if prerequisite._level == level and prerequisite not in seen:
                    seen.add(prerequisite)
                    due.append(prerequisite)
            if len(due) > _LEVEL_SEARCH:
                return [], False
        due.sort(key=lambda member: member._rank)
        return due, True

    def _risen(self, task: Task, level: int, before: set[Task]) -> list[Task]:
        """Raise this task and what stands behind it to a level, unless that leads to `before`."""
        behind = closure([self], lambda t: [d for d in t._blocking if d._level < level])
        if any(not before.isdisjoint((member, *member._blocking)) for member in behind):
            raise self._circle(task)
        behind.sort(key=lambda member: (member._level, member._rank))
        for member in behind:
            member._level = level
        return behind

    def _circle(self, task: Task) -> CycleError:
        way = path(task, self, lambda t: t._required) or [task]
        return CycleError((self.name, *(member.name for member in way)), self)

    def _release(self, task: Task) -> None:
        """Require a task no longer; the lock of the graph is held."""
        self._required = [other for other in self._required if other is not task] or ()
        task._blocking = [other for other in task._blocking if other is not self] or ()
        if task.fsm_state != "DONE":
            self._missing -= 1
            if not self._missing and self.fsm_state == "PENDING":
                for queue in self._told_queues():
                    queue._is_ready(self)
        for queue in self._told_queues():
            queue._is_linked(self, None)

    def block(self, task: Task) -> None:
        """Let another task wait until this one is done; the converse of `require`."""
        if not isinstance(task, Task):
            message = f"a task can block tasks only, not {shorten(task)}"
            raise TypeError(message)
        task.require(self)

    def then(self, *task_or_func: Any, **options: Any) -> Task:
        """Have something done after this task.

        Parameters
        ----------
        *task_or_func
            A task, or `[name,] func` to make one of.
        **options
            Further parameters of the new task.

        Returns
        -------
        Task
            The later task, so that chains read from left to right.

        Examples
        --------
        >>> last = Task("first", lambda: 1).then("second", lambda: 2).then(lambda: 3)
        >>> last.make(), last()
        (True, 3)
        """
        first, *rest = task_or_func or (None,)
        if not rest and first is None:
            message = "then() takes a task, or a function to make one of"
            raise TypeError(message)
        if isinstance(first, Task):
            if rest or options:
                message = "then(task) takes no further arguments: the task has its own"
                raise TypeError(message)
            later = first
        else:
            later = type(self)(*task_or_func, **options)
        later.require(self)
        return later

    def isblocked(self) -> bool:
        """Say whether some prerequisite is not DONE; a failed one blocks until it is repaired."""
        return self._missing > 0

    def blockers(self) -> Iterator[Task]:
        """Yield the prerequisites that are not DONE."""
        for task in self.required:
            if task.fsm_state != "DONE":
                yield task

    # -- arguments ---------------------------------------------------------------------------

    @property
    def func_args(self) -> tuple[Any, ...]:
        """The positional arguments; setting them changes the prerequisites with them."""
        return self._args

    @func_args.setter
    def func_args(self, args: Iterable[Any]) -> None:
        self._change_arguments(tuple(args), self._kwargs or {})

    @property
    def func_kwargs(self) -> dict[str, Any]:
        """The keyword arguments; setting them changes the prerequisites with them."""
        if self._kwargs is None:
            self._kwargs = {}
        return self._kwargs

    @func_kwargs.setter
    def func_kwargs(self, kwargs: Mapping[str, Any]) -> None:
        self._change_arguments(self._args, dict(kwargs))

    def _change_arguments(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        with CaughtUp((self,)):
            self._set_arguments(args, kwargs)

    def _set_arguments(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Take new arguments; the tasks among them become prerequisites, those gone no longer."""
        found = tasks_among((args, kwargs))
        if found or self._inputs:
            with GRAPH_LOCK:
                before = self._inputs or {}
                lasting = {task: before.get(task, task in self._required) for task in found}
                linked: list[Task] = []
                try:
                    for task in found:
                        if task not in self._required:
                            self._require(task)
                            linked.append(task)
                except FSMError:
                    for task in linked:
                        self._release(task)
                    raise
                for task, is_lasting in before.items():
                    if task not in found and not is_lasting:
                        self._release(task)
                self._inputs = lasting or None
        self._args, self._kwargs = args, kwargs or None

    def _invoke(self) -> Any:
        """Call the function with its arguments."""
        func, args, kwargs = self.func, self._args, self._kwargs
        if func is None:
            message = f"{self._fsm_called()} has no function: give it one by repair(), or call()"
            raise TaskError(message, self)
        if self._inputs:
            args, kwargs = with_results((args, kwargs or {}))
        if kwargs:
            value = func(*args, **kwargs)
        elif args:
            value = func(*args)
        else:
            value = func()
        if self._options is not PLAIN and type(value) is not CoroutineType:
            return self._judged(value)
        return value

    def _judged(self, value: Any) -> Any:
        """Return a result, unless `cancel_on_result` cancels the task on account of it."""
        judgement = self._options.cancel_on_result
        if judgement is not None and judgement(value):
            message = f"{self._fsm_called()}: its result asks for cancellation"
            raise CancellationError(message, self)
        return value

    # -- running -----------------------------------------------------------------------------

    def _begin(self, here: Any = None, run: Any = None, when: float | None = None) -> Attempt:
        """Start an attempt, in a run of a queue if one is given; the lock of the graph is held."""
        self._attempt = attempt = Attempt(self, self._attempt)
        if self._options is not PLAIN and self._options.fault is not None:
            attempt.fault = self._options.fault
            self._options = self._options._replace(fault=None)  # it is for one attempt alone
        if run is not None:
            attempt.here = here
            attempt.run = run
            if not run.echo:
                attempt.echo = False
            if run.threads:
                attempt.crowded = True
        self._fsm_move("dispatch", None, here, when)
        return attempt

    def _may_begin(self) -> bool:
        """Say whether a queued task is still to run; the lock is held.

        One that has become blocked while it was queued is pending again.
        """
        if self.fsm_state == "QUEUED" and self._missing:
            self._queue_no_more(OUTDATED)
        return self.fsm_state == "QUEUED"

    def _queue_no_more(self, because: str) -> None:
        """Make a queued task pending again; the lock is held."""
        self._fsm_move("cancel", {"because": because})
        self._fsm_move("retry")

    def _recall(self) -> bool:
        """Take a call back that waits in a worker; the lock is held.

        False if it has begun there: then the task is RUNNING.
        """
        ahead = AHEAD.get(self)
        return ahead is None or bool(ahead.recall())

    def _outrun(self) -> None:
        """Have a call that waits in a worker not made, as its arguments are out of date."""
        if self._recall():
            self._queue_no_more(OUTDATED)

    def _settle(
        self,
        attempt: Attempt,
        value: Any,
        error: BaseException | None,
        when: float | None = None,
    ) -> bool:
        """Record an answer; the lock of the graph is held. Say whether it was still wanted."""
        if attempt is not self._attempt or self.fsm_state != "RUNNING":
            attempt.come_too_late(error)
            return False
        here = attempt.here
        if attempt._runstate is not None and attempt._runstate.cancelled:
            self._fsm_move("cancel", {"because": attempt.asked_because or "asked to stop"}, here)
        elif error is None:
            self._value = value
            self._fsm_move("done", None, here, when)
            if attempt.outdated:
                self._fsm_move("invalidate", {"because": OUTDATED})
        elif isinstance(error, KeyboardInterrupt):
            self._fsm_move("cancel", {"because": INTERRUPTED}, here)
        elif isinstance(error, LostValueError) and error.task in self._required:
            attempt.lost = error
            self._send_back(here)
        else:
            attempt._error = self._error = error
            if isinstance(error, CancellationError) or self._options.cancel_on_exception:
                self._fsm_move("cancel", {"because": words_of(error)}, here)
            else:
                self._fsm_move("except", None, here, when)
        attempt.here = attempt.run = None  # no queue lives by its attempts
        return True

    def _send_back(self, here: Any = None) -> None:
        """Have it wait for a prerequisite whose value turned out to be lost; the lock is held."""
        extra = {"because": "the stored result of a prerequisite is lost"}
        self._fsm_move("cancel", extra, here)
        self._fsm_move("retry", extra)

    def _retry_seconds(self, attempt: Attempt) -> float | None:
        """Say how long to wait before a failed task is retried by itself; None if it is not."""
        options = self._options
        if self.fsm_state != "FAILED" or attempt.automatic >= options.retries:
            return None
        delay = options.retry_delay
        try:
            return max(0.0, float(delay(attempt.number) if callable(delay) else delay))
        except Exception as error:  # noqa: BLE001 - a user's function; it ends the retries
            attempt.write(f"retry_delay failed: {words_of(error)}\n")
            return None

    def _retry_by_itself(self, attempt: Attempt) -> bool:
        """Make a failed task pending again, unless it has moved on; the lock is held."""
        if attempt is not self._attempt or self.fsm_state != "FAILED":
            return False
        attempt.retried = True
        self._fsm_move("retry", {"because": "retries"})
        return True

    def dispatch(self) -> None:
        """Run the task now, in this thread.

        What the function raises leaves the task FAILED and is kept; only `KeyboardInterrupt` and
        `SystemExit` go on to the caller, once the task is settled.

        Raises
        ------
        BlockedError
            If a prerequisite is not done. An aborted one aborts this task.
        FSMError
            If the state does not allow it.
        """
        self._run_now()

    def _run_now(
        self, func: Callable[..., Any] | None = None, args: Any = (), kwargs: Any = None
    ) -> None:
        """Run the task if nothing forbids it, with another function if one is given."""
        before = self._attempt
        try:
            with CaughtUp((self,)), self._fsm_lock:
                refusal = self._refusal()
                if refusal is None:
                    self._fsm_target("dispatch")
                    if func is not None:
                        self._give(func, args, kwargs)
                    if not self._recall():
                        self._fsm_target("dispatch")  # it runs, and says so
                    attempt = self._begin()
            if refusal is not None:
                self._fsm_after()  # it may have been aborted
                raise refusal
            self._perform(attempt)
            if attempt.lost is not None:
                raise _blocked(self, cast("Task", attempt.lost.task)) from attempt.lost
        except KeyboardInterrupt:
            if self._attempt is not before:
                uninterrupted(self._abandon, is_on_its_way=True)
            raise

    def _abandon(self) -> None:
        """Leave a sound graph behind after an interrupt at any point of a run."""
        with GRAPH_LOCK:
            if self.fsm_state == "RUNNING":
                self._fsm_move("cancel", {"because": INTERRUPTED})
            self._drop_unborn()
            for task in (self, *self._blocking):
                task._recount()
            for queue in self._told_queues():
                queue._recount()
        self._fsm_after()

    def _drop_unborn(self) -> None:
        """Forget an attempt that an interrupt kept from its first step; the lock is held."""
        if self._attempt is not None and self._attempt.started is None:
            self._attempt = self._attempt._previous

    def _recount(self) -> None:
        """Count anew what an interrupt may have left half counted; the lock is held."""
        self._missing = sum(task.fsm_state != "DONE" for task in self._required)

    def _refusal(self) -> BlockedError | None:
        """Say what blocks a task that could start otherwise; an aborted prerequisite aborts it."""
        if not self._missing or not self.fsm_event_is_allowed("dispatch"):
            return None
        blockers = list(self.blockers())
        aborted = [task for task in blockers if task.fsm_state == "ABORT"]
        if aborted and self.fsm_event_is_allowed("abort"):
            self._fsm_move("abort", {"because": "a prerequisite is aborted"})
        return _blocked(self, (aborted or blockers)[0])

    def _perform(self, attempt: Attempt) -> None:
        """Make an attempt in this thread, and those that `retries` asks for."""
        with capturing():
            while True:
                self._fsm_after()
                interruption = attempt_here(attempt)
                delay = self._retry_seconds(attempt)
                with GRAPH_LOCK:
                    again = delay is not None and self._retry_by_itself(attempt)
                self._fsm_after()
                if interruption is not None:
                    raise interruption
                if not again:
                    return
                if delay:
                    RunState().sleep(delay)
                with GRAPH_LOCK:
                    if self.fsm_state != "PENDING" or self._missing:
                        return  # somebody cancelled, took or changed it meanwhile
                    attempt = self._begin()

    def bg(
        self, func: Callable[..., Any] | None = None, *args: Any, **kwargs: Any
    ) -> threading.Thread:
        """Run the task now, in a thread of its own.

        Parameters
        ----------
        func : callable, optional
            Becomes the task's function, with the further arguments as its own.

        Returns
        -------
        threading.Thread
            Already started.

        Raises
        ------
        BlockedError
            If a prerequisite is not done.
        FSMError
            If the state does not allow it.
        """
        with CaughtUp((self,)), self._fsm_lock:
            refusal = self._refusal()
            if refusal is None:
                self._fsm_target("queue")
                if func is not None:
                    self._give(func, args, kwargs)
                self._fsm_move("queue")
        self._fsm_after()
        if refusal is not None:
            raise refusal
        context = copy_context()
        context.run(CURRENT.set, None)  # it runs beside the task that asked for it, not inside
        name = f"task {self.name}"
        thread = threading.Thread(
            target=context.run, args=(self._run_queued,), name=name, daemon=True
        )
        try:
            thread.start()
        except RuntimeError as error:  # no more threads, or none at all (Pyodide)
            with self._fsm_lock:
                self._error = error
                self._fsm_move("error")
            self._fsm_after()
            raise
        return thread

    def _run_queued(self) -> None:
        """Run a task that was queued for this thread, unless it was cancelled meanwhile."""
        with GRAPH_LOCK:
            if not self._may_begin():
                return
            attempt = self._begin()
        try:
            self._perform(attempt)
        except (KeyboardInterrupt, SystemExit):
            return  # settled; a thread has no caller to tell

    def call(self, func: Callable[..., Any] | None = None, *args: Any, **kwargs: Any) -> Any:
        """Run a function as this task, now, and return what it returns.

        Raises
        ------
        BlockedError
            If a prerequisite is not done.
        FSMError
            If the state does not allow it.
        Exception
            What the function raised.
        """
        self._run_now(func, args, kwargs)
        return self.result()

    def _give(
        self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        if not callable(func):
            message = f"a task's function must be callable, not {shorten(func)}"
            raise TypeError(message)
        self.func = func
        self._set_arguments(args, kwargs)

    def callif(self) -> Any:
        """Run the task unless it is completed, and return its result or raise its error."""
        if not self.iscompleted():
            self.dispatch()
        return self.result()

    def run(self) -> Any:
        """Call the function whatever the state and whatever blocks the task.

        Returns
        -------
        object
            What the function returned, or None if it raised.

        Notes
        -----
        You usually want `dispatch` or `make`. A task that is RUNNING, ABORT or in PREPARE is
        called without a step of its machine: then what the function raises is raised.
        """
        with CaughtUp((self,)), self._fsm_lock:
            self._recall()
            for event in ("retry", "invalidate"):
                if self.fsm_event_is_allowed(event):
                    self._fsm_move(event)
            attempt = self._begin() if self.fsm_event_is_allowed("dispatch") else None
        if attempt is None:
            return awaited(self._invoke())
        self._perform(attempt)
        return self._value if self.fsm_state == "DONE" else None

    def make(self, *, fail_fast: bool = False) -> bool:
        """Complete this task and all that it requires; say whether it is completed."""
        from taskqueue_nb.making import make_now  # noqa: PLC0415 - making is a layer above

        make_now(self, fail_fast=fail_fast)
        return self.iscompleted()

    # -- the outcome -------------------------------------------------------------------------

    @property
    def result(self) -> Result:
        """The result of the current attempt, or of the one to come: `task.result()` waits."""
        with GRAPH_LOCK:
            result = self._result
            if result is None:
                result = self._result = Result(self.name)
                result._on_cancel = self.cancel
        self._settle_result()
        return result

    def _settle_result(self) -> None:
        """Tell whoever waits, once the task has come to rest."""
        with GRAPH_LOCK:
            result, state = self._result, self.fsm_state
            if state == "RUNNING" and self._attempt is not None and self._attempt.asked_to_stop:
                state = "CANCELLED"  # whatever it answers will be dropped
            if result is None or state not in SETTLED or not result.claim():
                return
            value, error = self._value, self._error
        if state == "DONE":
            if isinstance(value, LazyValue) and value.stays:
                result.deliver_later(lambda: self._brought(value))
                return
            try:
                value = self._brought(value)
            except LostValueError as lost:
                result.deliver(None, lost)
            else:
                result.deliver(value)
        elif state == "FAILED":
            result.deliver(None, error or TaskError(f"{self._fsm_called()} failed", self))
        elif state == "CANCELLED":
            result.deliver(None, CancellationError(f"{self._fsm_called()} was cancelled", self))
        else:
            result.deliver(None, TaskError(f"{self._fsm_called()} was aborted", self))

    def __call__(self) -> Any:
        """Wait for the result, or raise what the function raised."""
        return self.result()

    def __await__(self) -> Generator[Any, None, Any]:
        """Wait for the result in a coroutine."""
        return self.result.__await__()

    def join(self, timeout: float | None = None) -> bool:
        """Wait until the task is complete, however it ends; say whether it is."""
        return self.result.join(timeout)

    def notify(self, callback: Callable[..., object], *args: Any, **kwargs: Any) -> None:
        """Call something once the task is complete, at once if it is already.

        Parameters
        ----------
        callback : callable
            Called as `callback(task)`, or, with further arguments, as `callback(*args, **kwargs)`.
        *args, **kwargs
            Its arguments.
        """
        if args or kwargs:
            self.result.notify(callback, *args, **kwargs)
        else:
            self.result.notify(callback, self)

    @property
    def value(self) -> Any:
        """What the function returned, without waiting.

        Raises
        ------
        TaskError
            If the task is not DONE, or its stored result cannot be read: then it is pending again.
        """
        return self._brought(self._done_value())

    def look(self, render: Callable[[Any], R]) -> R:
        """Return what a function makes of the result, called where the result is.

        Parameters
        ----------
        render : callable
            Takes the value. For a result that stays on a cluster it is called there, and only what
            it returns comes here.

        Raises
        ------
        TaskError
            If the task is not DONE, or its result is lost: then it is pending again.

        Examples
        --------
        >>> load = Task("load", range, func_args=(10**9,))
        >>> load.dispatch()
        >>> load.look(len)
        1000000000
        """
        value = self._done_value()
        if not isinstance(value, LazyValue):
            return render(value)
        return self._unless_lost(value, lambda: value.show(render))

    def _done_value(self) -> Any:
        value = self._value
        if self.fsm_state != "DONE":
            message = f"{self._fsm_called()} is {self.fsm_state}: it has no value"
            raise TaskError(message, self)
        return value

    def _brought(self, value: Any) -> Any:
        """Return a value, brought from where it is; one that is lost makes the task pending."""
        if not isinstance(value, LazyValue):
            return value
        brought = self._unless_lost(value, value.get)
        if not value.stays:
            with GRAPH_LOCK:
                if self._value is value:
                    self._value = brought
        return brought

    def _unless_lost(self, value: LazyValue, ask: Callable[[], R]) -> R:
        """Ask something of a value that is elsewhere; one that is lost makes the task pending."""
        try:
            return ask()
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            if isinstance(error, TaskError) and not isinstance(error, LostValueError):
                raise  # it is there, and cannot be had
            raise self._lose(value, error) from error

    def _lose(self, value: LazyValue, error: BaseException) -> LostValueError:
        """Have it run again, its value being lost; return what is to be raised."""
        because = f"{value.loss}: {words_of(error)}"
        with GRAPH_LOCK:
            if self._value is value and self.fsm_state == "DONE":
                self._fsm_move("invalidate", {"because": because})
        self._fsm_after()
        message = f"{self._fsm_called()}: {because}; it is pending again, so run it once more"
        return LostValueError(message, self)

    @property
    def exception(self) -> BaseException | None:
        """Why the task is FAILED, without waiting; None in any other state."""
        return self._error if self.fsm_state == "FAILED" else None

    @property
    def attempts(self) -> list[Attempt]:
        """Every call of the function, oldest first."""
        attempts = []
        attempt = self._attempt
        while attempt is not None:
            attempts.append(attempt)
            attempt = attempt._previous
        return attempts[::-1]

    @property
    def output(self) -> str:
        """What the last attempt printed, logged and warned of; see `Attempt.output`."""
        return "" if self._attempt is None else self._attempt.output

    @property
    def displayed(self) -> list[dict[str, Any]]:
        """What the last attempt displayed, as MIME bundles; see `Attempt.displayed`."""
        return [] if self._attempt is None else self._attempt.displayed

    @property
    def runstate(self) -> RunState:
        """The request to stop that concerns the present attempt."""
        attempt: Attempt | None = CURRENT.get()
        if attempt is None or attempt.task is not self:
            attempt = self._attempt
        return RunState(self.name) if attempt is None else attempt.runstate

    def progress(self, done: float, total: float) -> None:
        """Report from inside the function how much is done, of how much."""
        attempt: Attempt | None = CURRENT.get()
        if attempt is None or attempt.task is not self:
            message = f"{self._fsm_called()} does not run here: progress is reported from inside"
            raise TaskError(message, self)
        attempt.progressed = (done, total)
        with GRAPH_LOCK:
            for queue in self._told_queues():
                queue._is_changed()

    @property
    def progressed(self) -> tuple[float, float] | None:
        """What the present attempt last reported: how much is done, of how much."""
        return None if self._attempt is None else self._attempt.progressed

    # -- for teaching ------------------------------------------------------------------------

    def machine(self) -> TaskMachine:
        """Return the live state machine of this task, for a notebook.

        It shows the state diagram with the way that was taken, the events that the state allows as
        buttons, and a log in words; there the task can be taken one transition at a time, and its
        next attempt be made to fail or to take longer.

        Returns
        -------
        TaskMachine
            Always the same one, until it is closed. It is shown where it ends a cell; elsewhere
            than in a notebook it is shown as text.
        """
        return self.fsm_machine()

    def inject(
        self, *, fail: bool | str = False, slow: float = 0.0, after: bool = False
    ) -> Fault | None:
        """Make something go wrong with the next attempt, to show what comes of it.

        Parameters
        ----------
        fail : bool or str
            Whether it fails with an `InjectedError`; a text is what that says.
        slow : float
            How many seconds it takes longer. A cancel ends the wait, and a timeout counts it.
        after : bool
            Whether the failure comes once the function has returned, instead of calling it.

        Returns
        -------
        Fault or None
            What will go wrong; None if nothing will.

        Raises
        ------
        TypeError, ValueError
            If something makes no sense.
        TaskError
            If the task is aborted: it has no further attempt.

        Notes
        -----
        The fault is for one attempt. Each call replaces what the one before it asked for, so
        `inject()` takes it back. It works with every executor; where the function is called in
        another process, the wait comes once that has answered, and a failure instead of the call
        sends nothing. A task that is stepped through and whose function has not been called yet
        takes the fault into the present attempt. Arguments, code and fingerprints stay as they are.

        Examples
        --------
        >>> load = Task("load", lambda: 3)
        >>> print(load.inject(fail=True))
        will fail: injected
        >>> load.dispatch()
        >>> load.exception
        InjectedError('this failure was injected by inject(): its function was not called')
        >>> _ = load.retry(), load.dispatch()
        >>> load.value
        3
        """
        fault = fault_of(fail=fail, slow=slow, after=after)
        with CaughtUp((self,)), GRAPH_LOCK:
            if self.fsm_state == "ABORT":
                message = f"{self._fsm_called()} is ABORT: it has no further attempt to fail"
                raise TaskError(message, self)
            if fault is not None and fault.is_instead and self in AHEAD and self._recall():
                self._queue_no_more("it is to fail instead of being called")
            if fault is not None or self._options is not PLAIN:
                self._options = self._options._replace(fault=fault)
            if (attempt := self._uncalled()) is not None:
                attempt.fault = fault
                self._options = self._options._replace(fault=None)
            for queue in self._told_queues():
                queue._is_changed()
        return fault

    @property
    def injected(self) -> Fault | None:
        """What will go wrong with the attempt to come; None if nothing was asked for."""
        attempt = self._uncalled()
        return self._options.fault if attempt is None else attempt.fault

    def _uncalled(self) -> Attempt | None:
        """Return the attempt that is stepped through, if its function is yet to be called."""
        attempt = self._attempt
        stepped = None if attempt is None or self.fsm_state != "RUNNING" else attempt.stepped
        return attempt if stepped is not None and stepped.may_change else None

    def step(self) -> str:
        """Take one step of an attempt in this thread: `dispatch`, then the call, then its outcome.

        Between two steps nobody waits and no lock is held: the task is RUNNING, and its function
        has been called or not.

        Returns
        -------
        str
            "call" once the function has been called, else the event that was fired.

        Raises
        ------
        BlockedError
            If a prerequisite is not done.
        TaskError
            If it runs elsewhere, or another thread takes a step of it.
        FSMError
            If the state does not allow `dispatch`.

        Notes
        -----
        The function is called here whatever the executor is, and a failed attempt is retried by a
        step of its own where `retries` says so, without `retry_delay`. What is in the middle goes
        on in the next `run`, `start` or `step` of its queue and in `make`; `cancel`, `stop` and a
        keyboard interrupt give it up.

        Examples
        --------
        >>> load = Task("load", lambda: 3)
        >>> load.step(), load.fsm_state
        ('dispatch', 'RUNNING')
        >>> load.step(), load.fsm_state
        ('call', 'RUNNING')
        >>> load.step(), load.fsm_state
        ('done', 'DONE')
        """
        from taskqueue_nb.stepping import step  # noqa: PLC0415 - a layer above

        return step(self)

    # -- mending -----------------------------------------------------------------------------

    def cancel(self) -> None:
        """Give the task up; it can be retried.

        One that has not started is CANCELLED at once. One that runs is asked to stop: it is
        CANCELLED when its function ends, and what that returns is dropped. In a worker process the
        function is ended.

        Raises
        ------
        FSMError
            If it is completed.
        """
        self._mend("cancel")

    def retry(self, *, then_run: bool = False) -> tuple[Task, ...]:
        """Make a failed or cancelled task pending again, with the dependents that fell with it.

        Parameters
        ----------
        then_run : bool
            Whether the queues that hold the task go on in the background.

        Returns
        -------
        tuple of Task
            All that are pending again.

        Raises
        ------
        FSMError
            If it is neither failed nor cancelled; then nothing has changed.
        """
        return self._mend("retry", then_run=then_run)

    def repair(
        self,
        func: Callable[..., Any] | None = None,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        *,
        then_run: bool = False,
    ) -> tuple[Task, ...]:
        """Give the task new code or arguments, then retry it; see `TaskQueue.repair`."""
        return self._mend("repair", then_run=then_run, func=func, args=args, kwargs=kwargs)

    def supply(self, value: Any, *, then_run: bool = False) -> tuple[Task, ...]:
        """Use a value as the result: the task is DONE with it; see `TaskQueue.supply`."""
        return self._mend("supply", value, then_run=then_run)

    def invalidate(self, *, then_run: bool = False) -> tuple[Task, ...]:
        """Have a DONE task, and all DONE tasks behind it, run again; see `TaskQueue.invalidate`."""
        return self._mend("invalidate", then_run=then_run)

    def _mend(self, verb: str, *args: Any, then_run: bool = False, **how: Any) -> tuple[Task, ...]:
        from taskqueue_nb.repair import carry_out, change_of  # noqa: PLC0415 - a layer above

        moved = carry_out(lambda: change_of(verb, self, *args, **how))
        if then_run:
            for queue in self._told_queues():
                if self in queue:
                    queue._then(moved, then_run=True)
        return moved

    def edit(
        self,
        source: str,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        *,
        then_run: bool = False,
    ) -> tuple[Task, ...]:
        """Give the task the function of an edited text, then retry it; see `TaskQueue.edit`."""
        func = self._edited(source)
        return self._mend("repair", then_run=then_run, func=func, args=args, kwargs=kwargs)

    def _edited(self, source: str) -> Callable[..., Any]:
        from taskqueue_nb.source import compiled  # noqa: PLC0415 - brings ast and inspect along

        made: Callable[..., Any] = compiled(source, defined_now(self.func))
        return made

    def plan(self, verb: str = "retry", *args: Any, **how: Any) -> Plan:
        """Say what a verb would do to this task and to what is behind it; see `TaskQueue.plan`."""
        from taskqueue_nb.repair import Plan, change_of  # noqa: PLC0415 - a layer above

        return Plan(lambda: change_of(verb, self, *args, **how))

    # -- looking into it ---------------------------------------------------------------------

    @property
    def source(self) -> str | None:
        """The text of the function, as one would edit it; None where there is none."""
        from taskqueue_nb.source import source_of  # noqa: PLC0415 - brings ast and inspect along

        return source_of(defined_now(self.func))

    def debug(self) -> None:
        """Open the debugger where the last attempt failed: IPython's own in IPython, else pdb.

        Raises
        ------
        TaskError
            If the task has not failed, or only the text of its error was kept.
        """
        from taskqueue_nb.source import post_mortem  # noqa: PLC0415 - brings ast and inspect along

        if self._error is None:
            message = f"{self._fsm_called()} is {self.fsm_state}: there is no failure to look at"
            raise TaskError(message, self)
        try:
            post_mortem(self._error)
        except ValueError as refusal:
            message = f"{self._fsm_called()}: {refusal}"
            raise TaskError(message, self) from None

    def snippet(self, number: int | None = None) -> str:
        r"""Return a call of the function as a cell that makes it again.

        Parameters
        ----------
        number : int, optional
            Of the attempt; by default the last.

        Returns
        -------
        str
            A comment, the function, and the call with its arguments: literals where they have one,
            else a reference to what the attempt was given.

        Raises
        ------
        TaskError
            If there is no such attempt, or a prerequisite has no result now.

        Examples
        --------
        >>> from math import sqrt
        >>> root = Task("root", sqrt, func_args=(-1,))
        >>> root.dispatch()
        >>> print(root.snippet())
        # task 'root', attempt 1, raised ValueError: math domain error
        import math
        <BLANKLINE>
        math.sqrt(-1)
        """
        from taskqueue_nb.source import keep, snippet  # noqa: PLC0415 - brings ast and inspect

        attempt = self._attempt_number(number)
        args, kwargs = with_results((attempt.args, attempt.kwargs or {}))
        key = keep(attempt, args, kwargs, attempt.func)
        error = attempt.error
        return snippet(self.name, attempt.number, attempt.func, args, kwargs, error, key)

    def diff(self, before: int = -2, after: int = -1) -> Comparison:
        """Say what changed in code and arguments from one attempt to another.

        Parameters
        ----------
        before, after : int
            Their numbers, from 1; negative ones count from the last.

        Returns
        -------
        Comparison
            `code` is a unified diff, `arguments` each one's text before and after; it is false if
            both made the same call, and prints as a text.

        Raises
        ------
        TaskError
            If there are no such attempts.

        Examples
        --------
        >>> half = Task("half", lambda number: number / 2, func_args=("6",))
        >>> half.dispatch()
        >>> _ = half.repair(args=(6,)), half.dispatch()
        >>> half.diff()
        from attempt 1 to attempt 2
        arguments: number '6' -> 6
        """
        from taskqueue_nb.source import Call, compare  # noqa: PLC0415 - brings ast and inspect

        calls = [
            Call(f"attempt {a.number}", a.func, a.args, a.kwargs)
            for a in (self._attempt_number(before), self._attempt_number(after))
        ]
        return compare(*calls)

    def _attempt_number(self, number: int | None) -> Attempt:
        attempts = self.attempts
        if number is None:
            number = -1
        for place, attempt in enumerate(attempts, -len(attempts)):
            if number in (attempt.number, place):
                return attempt
        numbers = f"1 to {len(attempts)}" if attempts else "none"
        message = f"{self._fsm_called()} has no attempt {number!r:.20}; there are {numbers}"
        raise TaskError(message, self)

    # -- the picture -------------------------------------------------------------------------

    def as_dot(self, name: str | None = None, **options: Any) -> str:
        """Return the DOT of this task; the options are those of `tasks_as_dot`."""
        return self.tasks_as_dot([self], name, **options)

    def as_svg(self, name: str | None = None, **options: Any) -> str:
        """Return a picture of this task as SVG; the options are those of `tasks_as_dot`."""
        return self.tasks_as_svg([self], name, **options)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        from taskqueue_nb.reprs import mimebundle  # noqa: PLC0415 - reprs is a layer above

        return mimebundle(self, include, exclude)


def _named(name: Any, func: Any) -> tuple[str, Callable[..., Any] | None]:
    """Sort out the ways to give a name and a function."""
    if name is not None and not isinstance(name, str):
        if func is not None or not callable(name):
            message = f"a task's name is a text, not {shorten(name)}"
            raise TypeError(message)
        name, func = None, name
    if name is None:
        name = "task" if func is None else func_name(func)
    return name, func


def func_name(func: Any) -> str:
    """Return what a function is called, whatever kind of callable it is."""
    while type(func).__name__ == "partial" and hasattr(func, "func"):
        func = func.func
    try:
        name = func.__name__
    except Exception:  # noqa: BLE001 - a foreign `__getattr__` may raise anything
        name = None
    return name if isinstance(name, str) else type(func).__name__


def _cut(text: str) -> str:
    """Return a text, or of a very long one the beginning."""
    return text if len(text) <= _NAME_SHOWN else f"{text[:_NAME_SHOWN]}…"


def _plain_repr(func: object) -> bool:
    """Say whether a repr is Python's own, so that it neither raises nor fills the page."""
    return func is None or type(func).__repr__ in _PLAIN_REPRS


_PLAIN_REPRS: Final = frozenset(
    {type(len).__repr__, type(func_name).__repr__, type.__repr__, object.__repr__}
)


def _print_step(task: Task, step: FSMTransitionEvent) -> None:
    name = _cut(task.name)
    name = name if name.isprintable() else repr(name)
    print(f"{name} {step.old_state}->{step.event}->{step.new_state}")  # noqa: T201 - asked for


def _blocked(task: Task, blocker: Task) -> BlockedError:
    message = f"{task._fsm_called()} is blocked by {shorten(blocker.name)}, {blocker.fsm_state}"
    return BlockedError(message, task, blocker)


def attempt_here(attempt: Attempt) -> BaseException | None:
    """Make an attempt in this thread and settle it; return an interruption that must go on.

    A coroutine that its function returns is awaited here too; but where a queue's own loop makes
    the attempt, it is left as the attempt's `coroutine`, and nothing is settled.
    """
    task, run, forks = attempt.task, attempt.run, _forks[0]
    context = copy_context() if run is None else run.context.copy()
    value = error = None
    try:
        value = context.run(_called, attempt)
        if type(value) is CoroutineType:
            if attempt.here is not None:
                attempt.coroutine = value, context
                return None
            value = _awaited_here(attempt, value, context)
    except BaseException as raised:  # noqa: BLE001 - any failure is the task's, not ours
        error = without_our_frames(raised)
    if forks != _forks[0]:
        _end_child(error)
    if attempt.crowded:
        let_holder_finish()
    with GRAPH_LOCK:
        task._settle(attempt, value, error)
    if isinstance(error, TimeoutError):
        attempt.runstate.cancel()  # it may go on, in its thread
    return error if isinstance(error, (KeyboardInterrupt, SystemExit)) else None


def outcome_here(attempt: Attempt) -> tuple[Any, BaseException | None]:
    """Make an attempt in this thread, its coroutine too, and leave it to others to settle it."""
    forks, context = _forks[0], copy_context()
    value = error = None
    try:
        value = context.run(_called, attempt)
        if type(value) is CoroutineType:
            value = _awaited_here(attempt, value, context)
    except BaseException as raised:  # noqa: BLE001 - any failure is the task's, not ours
        error = without_our_frames(raised)
    if forks != _forks[0]:
        _end_child(error)
    return value, error


def _called(attempt: Attempt) -> Any:
    """Call an attempt's function, in the context of its own."""
    CURRENT.set(attempt)
    task = attempt.task
    options = task._options
    if options is PLAIN:
        return task._invoke()
    call = task._invoke
    if (fault := attempt.fault) is not None:  # then the options are no longer the plain ones
        call = partial(fault.around, attempt.func, task._invoke, attempt.runstate)
    if options.timeout is None or is_coroutine_function(attempt.func):
        return call()
    return _invoke_within(attempt, options.timeout, call)


def _awaited_here(attempt: Attempt, coroutine: Any, context: Any) -> Any:
    """Wait for a coroutine, on the loop of the run or on one that is made for it."""
    shared: Loop | None = None if attempt.run is None else attempt.run.loop
    if shared is not None and shared.is_here:
        shared = None  # who waits for it cannot run it
    outcome: list[tuple[Any, BaseException | None]] = []
    over = threading.Event()

    def ended(value: Any, error: BaseException | None) -> None:
        outcome.append((value, error))
        over.set()

    awaiting = Awaiting(attempt, coroutine, context, attempt.task.timeout, ended)
    try:
        loop = shared or Loop()
    except RuntimeError:
        coroutine.close()
        raise
    try:
        loop.spawn(awaiting)
        over.wait()
    except KeyboardInterrupt:
        attempt.interrupt()
        raise
    finally:
        if loop is not shared:
            loop.close()
    value, error = outcome[0]
    if error is not None:
        raise error
    return value


def _end_child(error: BaseException | None) -> NoReturn:
    """End a process that a task's function forked: the run goes on in its parent alone."""
    code = 0 if error is None else 1
    if isinstance(error, SystemExit):
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    elif error is not None:
        sys.stderr.write(_traceback_text(error))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def uninterrupted(work: Callable[[], object], *, is_on_its_way: bool) -> None:
    """Do something that a keyboard interrupt must not cut in two: only main threads get those.

    The work is done in another thread, so the lock of the graph must be free.

    Parameters
    ----------
    work : callable
        What to do; what it raises is raised here.
    is_on_its_way : bool
        Whether the user hears of an interrupt anyway, so that a further one need not be raised.
    """
    if threading.current_thread() is not threading.main_thread():
        work()
        return
    ended: list[BaseException | None] = []
    at_work = _thread.allocate_lock()  # the classes of `threading` can be cut in two themselves
    at_work.acquire()
    interrupted = False

    def whole() -> None:
        error: BaseException | None = None
        try:
            work()
        except BaseException as raised:  # noqa: BLE001 - handed to the thread that waits
            error = raised
        ended.append(error)
        at_work.release()

    try:
        _thread.start_new_thread(whole, ())  # `Thread.start` waits, and could be interrupted
    except RuntimeError:  # no threads here, so no better way
        whole()
    while not ended:
        try:
            at_work.acquire(timeout=_LOOK_AGAIN)
        except KeyboardInterrupt:
            interrupted = not is_on_its_way
    if ended[0] is not None:
        raise ended[0]
    if interrupted:
        raise KeyboardInterrupt


def without_our_frames(error: BaseException) -> BaseException:
    """Let a traceback begin where the user's code does."""
    trace = error.__traceback__
    while trace is not None:
        module = str(trace.tb_frame.f_globals.get("__name__"))
        if module.partition(".")[0] != __package__:
            break
        trace = trace.tb_next
    return error.with_traceback(trace)


def _invoke_within(attempt: Attempt, seconds: float, call: Callable[[], Any]) -> Any:
    """Call the function in a thread, and give it up after a time.

    A thread cannot be killed: a function that is given up goes on, is asked to stop, and its
    answer is dropped.
    """
    outcome = Result(attempt.task.name)
    context, forks = copy_context(), _forks[0]

    def work() -> None:
        try:
            value = context.run(call)
        except BaseException as error:  # noqa: BLE001 - handed to the thread that waits
            outcome.settle(error=error)
        else:
            outcome.settle(value)
        if forks != _forks[0]:
            _end_child(outcome.exception())
        if attempt.asked_to_stop:
            attempt.come_too_late(outcome.exception())

    threading.Thread(target=work, name=f"task {attempt.task.name}", daemon=True).start()
    if not outcome.join(seconds):
        message = f"no answer within {seconds:g} s; the function was asked to stop"
        raise TimeoutError(message)
    return outcome.result()


# -- tasks among arguments ---------------------------------------------------------------------

_CONTAINERS: Final = (list, tuple, dict)


def _parts(container: Any) -> Iterable[Any]:
    return container.values() if isinstance(container, dict) else container


def _is_container(kind: type) -> bool:
    return kind in _CONTAINERS or (issubclass(kind, tuple) and hasattr(kind, "_make"))


def tasks_among(arguments: Any) -> dict[Task, None]:
    """Find the tasks in nested lists, tuples and dicts, in the order of their appearance."""
    found: dict[Task, None] = {}
    seen: set[int] = set()
    due = [arguments]
    while due:
        value = due.pop()
        if isinstance(value, Task):
            found[value] = None
        elif _is_container(type(value)) and id(value) not in seen:
            seen.add(id(value))
            parts = list(_parts(value))
            if any(issubclass(kind, (Task, *_CONTAINERS)) for kind in set(map(type, parts))):
                due.extend(reversed(parts))
    return found


def _value_of(task: Task) -> Any:
    return task.value


def with_results(
    arguments: Any, instead: Callable[[Any], Any] = _value_of, kinds: tuple[type, ...] = (Task,)
) -> Any:
    """Copy nested lists, tuples and dicts with each task replaced by its result.

    Parameters
    ----------
    arguments : list, tuple or dict
        What to copy.
    instead : callable
        Gives what stands for a task, or for whatever is of one of the kinds.
    kinds : tuple of type
        What is replaced.

    Raises
    ------
    ValueError
        If a container that holds tasks contains itself.
    """
    ready: dict[int, Any] = {}
    open_ones: set[int] = set()
    due = [arguments]
    while due:
        container = due[-1]
        parts = _parts(container)
        nested = {kind for kind in set(map(type, parts)) if _is_container(kind)}
        inner = nested and [p for p in parts if type(p) in nested and id(p) not in ready]
        if inner:
            if any(id(part) in open_ones for part in inner):
                message = "an argument contains itself: tasks in it cannot be replaced"
                raise ValueError(message)
            open_ones.add(id(container))
            due.extend(inner)
            continue
        values = [
            instead(part)
            if isinstance(part, kinds)
            else ready[id(part)]
            if type(part) in nested
            else part
            for part in parts
        ]
        ready[id(container)] = _rebuilt(container, values)
        due.pop()
    return ready[id(arguments)]


def _rebuilt(container: Any, values: list[Any]) -> Any:
    """Return a container of the same kind with other values."""
    if isinstance(container, dict):
        return dict(zip(container, values, strict=True))
    kind = type(container)
    if kind in (list, tuple):
        return kind(values)
    return kind._make(values)


# -- functions that build tasks ----------------------------------------------------------------


class TaskFunction(Generic[R]):
    """A function that, when called, gives a task that will call the plain one.

    Attributes
    ----------
    func : callable
        The plain function.
    """

    __name__: str

    def __init__(self, func: Callable[..., R], options: Mapping[str, Any]) -> None:
        from functools import update_wrapper  # noqa: PLC0415 - kept beside its one use

        update_wrapper(self, func)
        _checked(PLAIN._replace(**{n: options[n] for n in _Options._fields if n in options}))
        self.func = func
        self._options = dict(options)
        self._name = self._options.pop("name", None)
        self._signature: Any = None

    def __repr__(self) -> str:
        return f"<task function {func_name(self.func)}>"

    def __call__(self, *args: Any, **kwargs: Any) -> Task:
        """Make a task; arguments that do not fit the function raise TypeError here already."""
        return self._make(self._name, args, kwargs, {})

    def _make(
        self, name: str | None, args: tuple[Any, ...], kwargs: dict[str, Any], more: dict[str, Any]
    ) -> Task:
        self._check(args, kwargs)
        options = {**self._options, **more}
        return Task(name, self.func, func_args=args, func_kwargs=kwargs, **options)

    def _check(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self._signature is None:
            self._signature = signature_of(self.func) or False
        if self._signature:
            check_call(self.func, args, kwargs, self._signature)

    def options(self, **options: Any) -> TaskFunction[R]:
        """Return a variant whose tasks have other options: `name`, `group`, `retries`, ...

        Raises
        ------
        TypeError, ValueError, ImportError
            If there is no such option, or `Task` would refuse it.
        """
        unknown = set(options) - _TASK_OPTIONS
        if unknown:
            known_ones = ", ".join(sorted(_TASK_OPTIONS))
            message = f"no such option: {', '.join(sorted(unknown))}; there are {known_ones}"
            raise TypeError(message)
        known = {"name": self._name, **self._options} if self._name else self._options
        return type(self)(self.func, {**known, **options})

    def map(self, *items: Iterable[Any], **kwargs: Any) -> list[Task]:
        """Make one task per item, all in one group.

        Parameters
        ----------
        *items : iterables
            Each gives one positional argument, as with the builtin `map`; the shortest decides.
        **kwargs
            The same for every task.

        Returns
        -------
        list of Task
            In the order of the items, named after the function and the item.

        Examples
        --------
        >>> @task
        ... def double(number):
        ...     return 2 * number
        >>> [one.name for one in double.map([3, 4])]
        ['double[3]', 'double[4]']
        """
        stem = self._name or func_name(self.func)
        more = {"group": self._options.get("group") or stem}
        return [
            self._make(f"{stem}[{_item_name(args[0], index)}]", args, kwargs, more)
            for index, args in enumerate(zip(*items, strict=False))
        ]


_ITEM_NAME: Final = 30  # characters of an item that become part of a name


def _item_name(item: object, index: int) -> str:
    """Return a short word for one of the items that a function is mapped over."""
    if isinstance(item, Task):
        return item.name
    if isinstance(item, (str, int, float, bool)) and len(word := str(item)) <= _ITEM_NAME:
        return word
    return str(index)


_TASK_OPTIONS: Final = frozenset({"name", "state", "track", "lock", *_Options._fields}) - {"fault"}


@overload
def task(func: Callable[..., R]) -> TaskFunction[R]: ...


@overload
def task(**options: Any) -> Callable[[Callable[..., R]], TaskFunction[R]]: ...


def task(func: Callable[..., Any] | None = None, **options: Any) -> Any:
    """Turn a function into one that builds tasks.

    Parameters
    ----------
    func : callable
        The function.
    **options
        Parameters of each of its tasks: `@task(retries=2)`.

    Returns
    -------
    TaskFunction
        `f(…)` makes a task; `f.func` is the plain function, `f.options(…)` a variant, and
        `f.map(items)` makes one task per item.

    Raises
    ------
    TypeError, ValueError, ImportError
        If there is no such option, or `Task` would refuse it.

    Notes
    -----
    A cell that is run again defines its function anew. The tasks that were made of the old one are
    out of date then, see `TaskQueue.stale`, and nothing runs by itself; `retry`, `invalidate` and
    `refresh` give what they make pending the function of now. A function that an edit or a
    `repair` gave to a task stays until then.

    Examples
    --------
    >>> @task
    ... def add(a, b):
    ...     return a + b
    >>> total = add(add(1, 2), 3)
    >>> total.make(), total()
    (True, 6)
    """
    unknown = set(options) - _TASK_OPTIONS
    if unknown:
        message = f"@task has no option {', '.join(sorted(unknown))}"
        raise TypeError(message)
    if func is None:
        return lambda function: _task_function(function, options)
    return _task_function(func, options)


def _task_function(func: Callable[..., Any], options: dict[str, Any]) -> TaskFunction[Any]:
    if not callable(func):
        message = f"@task is put on a function, not on {shorten(func)}"
        raise TypeError(message)
    _note_definition(func)
    return TaskFunction(func, options)


def signature_of(func: Callable[..., Any]) -> Any:
    """Return a function's signature; None for a builtin that does not tell."""
    import inspect  # noqa: PLC0415 - costs a fifth of our import time

    try:
        return inspect.signature(func)
    except (TypeError, ValueError):
        return None


def check_call(
    func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], signature: Any = None
) -> None:
    """Refuse arguments that do not fit a function's signature.

    Raises
    ------
    TypeError
        With a sentence that names the function and shows its signature.
    """
    signature = signature or signature_of(func)
    if signature is not None:
        try:
            signature.bind(*args, **kwargs)
        except TypeError as error:
            message = f"{func_name(func)}{signature} cannot be called so: {error}"
            raise TypeError(message) from None
