"""`TaskQueue`: tasks and the loop that runs those that are ready."""

from __future__ import annotations

import heapq
import itertools
import threading
import weakref
from collections import Counter, deque
from contextlib import ExitStack, closing, suppress
from contextvars import copy_context
from functools import partial
from queue import SimpleQueue
from time import monotonic, time
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from taskqueue_nb import repair
from taskqueue_nb.capture import capturing
from taskqueue_nb.executors import Places, check_executor
from taskqueue_nb.executors.trip import Trip
from taskqueue_nb.exports import Exports
from taskqueue_nb.fingerprint import is_unknown
from taskqueue_nb.fsm import shorten
from taskqueue_nb.graph import closure
from taskqueue_nb.leading import CaughtUp
from taskqueue_nb.limits import Room, checked_limits, needs_of, refusal
from taskqueue_nb.loops import (
    Awaiting,
    Bell,
    Loop,
    has_threads,
    is_coroutine_function,
    running_loop,
)
from taskqueue_nb.order import Aside, LongestFirst, Order, check_order
from taskqueue_nb.runstate import CURRENT, RunState
from taskqueue_nb.stepping import begin, retries_by_itself, stepped_of
from taskqueue_nb.task import (
    ACTIVE,
    FSM_TRANSITIONS,
    GRAPH_LOCK,
    INTERRUPTED,
    PLAIN,
    SETTLED,
    STOPPED,
    WITHDRAWN,
    Attempt,
    Task,
    TaskError,
    attempt_here,
    let_holder_finish,
    uninterrupted,
    without_our_frames,
)

if TYPE_CHECKING:
    import asyncio
    from collections.abc import (
        AsyncGenerator,
        AsyncIterator,
        Callable,
        Generator,
        Iterable,
        Iterator,
        Mapping,
        Sequence,
    )

    from taskqueue_nb.executors.trip import Place
    from taskqueue_nb.limits import Hold
    from taskqueue_nb.progress import Bar
    from taskqueue_nb.repair import Cause, Causes, Change, Deed, Entry, Plan
    from taskqueue_nb.store import Store
    from taskqueue_nb.widget import TaskGraph

_LATER: Final = Task("later")  # stands for: nothing to do now, but a bell will ring
_UNTOLD: Final = Task("untold")  # for: callbacks have yet to hear of tasks that were withdrawn
_POLL: Final = 0.05  # seconds between looks at a `RunState`, which cannot wake us
_POOL: Final = 8  # threads for the plain functions of a run on an event loop
_HEARTBEAT: Final = 0.2  # seconds: a kernel whose loop sleeps does not hear its stop button
_CLEANING: Final = 5.0  # seconds that coroutines have to clean up when their run is cut off
_BREATH: Final = 64  # coroutines that are begun before the event loop has its turn


class _Sending(NamedTuple):
    """What is counted as away, and has yet to be sent there, whatever befalls it meanwhile."""

    task: Task


def _heard() -> None:
    """Watch a queue that has a store, so that its loop tells of its own steps, too."""


class _Run:
    """One pass of the loop: what it may do, and what came back from elsewhere."""

    def __init__(  # noqa: PLR0913 - all but two by keyword
        self,
        executor: Any = None,
        runstate: RunState | None = None,
        *,
        once: bool = False,
        fail_fast: bool = False,
        background: bool = False,
        stepping: bool = False,
        in_steps: bool = False,
        on_loop: bool = False,
        limit: int | None = None,
        limits: Mapping[str, float] | None = None,
        echo: bool | None = None,
    ) -> None:
        check_executor(executor)
        if echo is not None and not isinstance(echo, bool):
            message = f"echo is True, False or None, not {echo!r:.80}"
            raise TypeError(message)
        self.echo = not background if echo is None else echo
        self.threads = executor if isinstance(executor, int) and not on_loop else 0
        self.executor = None if self.threads else executor
        self.is_parallel = executor is not None or on_loop  # tasks can run beside each other
        self.limit = limit  # how many tasks may be away at once
        self.limits = limits or None  # of groups and of what tasks use
        self.context = copy_context()  # each attempt has a copy of its own
        self.context.run(CURRENT.set, None)
        self.bell: Bell | None = None  # of a run on an event loop
        self.loop: Loop | None = None  # where coroutines are awaited; made at need
        self.begun = 0  # coroutines
        self.waits_when_held = background or on_loop  # else `resume` could not be called
        self.runstate = runstate
        self.most = 1 if once else -1  # how many tasks it may start; negative: any number
        self.left = self.most  # how many it may still start
        self.fail_fast = fail_fast
        self.background = background
        self.stepping = stepping
        self.in_steps = in_steps  # whether it only starts an attempt, which others go on with
        self.stopped = False
        self.in_flight = 0  # tasks that are at an executor
        self.sent: set[Task] = set()  # the same; as a set, without what is being settled
        self.finished: deque[Task | Attempt] = deque()  # what came back, or was stepped into
        self.untold: deque[Task] = deque()  # those that were withdrawn
        self.places = Places()
        self.queue: TaskQueue | None = None
        self.ended = threading.Event()
        self.failure: BaseException | None = None
        self.driver: asyncio.Task[None] | None = None  # where a background run has no thread


class _Changed(threading.Condition):
    """What idle workers wait for, and those that sleep on an event loop until a bell rings."""

    def __init__(self, lock: Any) -> None:
        super().__init__(lock)
        self.bells: dict[Bell, None] = {}

    def notify(self, n: int = 1) -> None:
        """Wake `n` of the workers, and every event loop."""
        super().notify(n)
        if self.bells:
            bells, self.bells = self.bells, {}
            for bell in bells:
                bell.ring()


class TaskQueue(Exports):
    """Tasks, and the loop that runs those that are ready.

    Parameters
    ----------
    *tasks : Task
        What to run. What they require is not added; see `TaskQueue.of`.
    run_dependent_tasks : bool
        Whether the dependents of a task that is done are added as it completes.
    name : str, optional
        A title for the picture.
    executor : optional
        Where tasks run unless `run` or `start` says otherwise; a task's own executor wins.

        - None is the caller's thread, a number is that many threads.
        - `"processes"` is one worker process per usable processor, `"processes:4"` up to four; see
          the notes.
        - Else a `concurrent.futures.Executor`, an object with `defer`, or a callable that takes a
          function.

        Coroutine functions are awaited on an event loop wherever the others run, many at a time: in
        `arun` on the running one, else on one in a thread of its own, which lives as long as the
        run. So is any coroutine that a plain function returns. Only a task's own executor takes a
        coroutine function elsewhere.
    limits : mapping, optional
        How much there is of each thing that tasks use (`Task(uses={"gpu": 1})`), or how many tasks
        of a group run together: `limits={"gpu": 2, "downloads": 4}`. A task that waits for room is
        not overtaken by those that come after it in the order and want the same.
    order : str, optional
        In what order ready tasks are started. By default, in a run that has an executor and in
        `arun`, first those with the most tasks behind them on a path, then those that were ready
        first: so workers are sooner done with paths of different length. In a run in the caller's
        thread it would change nothing about the time: there they go as they became ready. "longest"
        and "ready" ask for the one or the other in every run. The order is the same each time, as
        far as answers come so; see the notes.
    store : str or path-like, optional
        A file into which results and every step go as they happen. The same tasks built again in a
        new kernel take back what is there; see `store`.
    store_limit : int, optional
        Bytes that a stored result may have, by default 1 GB. A larger one is kept in memory, and
        said once.

    Raises
    ------
    TypeError
        If something is no task, or the executor nothing that could run one.
    TaskError
        If a task uses more than there ever is, or something that the limits do not name.
    StoreError
        If the store is damaged, not yours alone, or cannot be made.
    ValueError
        If the executor is a text that asks for no processes, or a number below one, or there is no
        such order.
    ImportError
        If it asks for processes, and their extra is not installed.

    Notes
    -----
    In worker processes stop means stop: a cancel, a timeout or `stop(cancel=True)` ends the process
    of the task with everything that it has started, and a process that dies fails its own task
    only. Functions of the notebook, lambdas and closures travel by value, so the workers know what
    the notebook knew when the task was sent. A script needs no `if __name__ == "__main__"`. Workers
    are started as tasks need them and end with the run: the next run has new ones, which import
    everything anew. In a worker `Task.current()` is a stand-in that knows its name, its attempt's
    number and its `runstate`, prints into the attempt and passes `progress` on; other tasks, the
    queue and context variables stay in the notebook. `cancel_on_result` is asked in the notebook. A
    timeout counts from when the worker is up. What cannot travel fails its task, by name; frames
    do not, so a post-mortem of the last attempt has its text alone.

    By the longest path, a task that becomes ready goes before those that wait for a worker, for
    their executor or for room if more stands behind it. Where runs with an executor and without one
    go on at once, all go by it. What changes the graph meanwhile counts at once if that is little
    work; where much changes, the paths may for a while count as they were. A worker process that
    makes short calls has its next one at hand, which is not overtaken, unless `order="longest"` was
    asked for; a Dask cluster is handed all that is ready, and goes its own way.

    Examples
    --------
    >>> load = Task("load", lambda: [3, 4])
    >>> total = Task("total", sum, func_args=(load,))
    >>> queue = TaskQueue(load, total)
    >>> [task.name for task in queue.run()]
    ['load', 'total']
    >>> total()
    7
    """

    def __init__(  # noqa: PLR0913 - all by keyword
        self,
        *tasks: Task,
        run_dependent_tasks: bool = False,
        name: str | None = None,
        executor: Any = None,
        limits: Mapping[str, float] | None = None,
        order: str | None = None,
        store: Any = None,
        store_limit: int | None = None,
    ) -> None:
        check_executor(executor)
        self._limits = checked_limits(limits)
        self._room = Room()
        self._uses: set[str] = set()  # what the tasks use
        self.name = name
        self.run_dependent_tasks = run_dependent_tasks
        self.executor = executor
        self._tasks: dict[Task, None] = {}
        self._runs: list[_Run] = []
        self._outside: set[Task] = set()  # prerequisites of ours that are not ours
        check_order(order)
        self._wished = order
        self._order: Order | None = None  # of the lines; without one, who was ready first is first
        self._ready: Any = deque()  # or the line of an order; may hold tasks that are ready no more
        self._fallen: dict[Task, None] = {}  # may hold tasks that are mended
        self._made = time()
        self._deeds: list[Deed] = []  # the verbs that were carried out
        self._delays: dict[Task, float] = {}  # not before this moment of the monotonic clock
        self._delayed: list[tuple[float, int, Task]] = []  # the same as a heap
        self._ticket = itertools.count()
        self._active = 0  # of ours and of `_outside`, how many are queued or running
        self._changed = _Changed(GRAPH_LOCK)
        self._idle = 0  # workers that wait for it
        self._mine = (weakref.ref(self),)  # shared by all tasks that are in no other queue
        self._watchers: tuple[Callable[[], object], ...] = ()
        self._structure = 0
        self._held = False
        self._background: _Run | None = None
        self._stepping: Task | None = None  # whose steps were taken last
        self._last_options: dict[str, Any] = {}
        self._store: Store | None = None
        if store is not None:
            from taskqueue_nb.store import Store  # noqa: PLC0415 - brings sqlite3 along

            repair.check_tasks(tasks)
            self._store = Store(store, store_limit, self)
            self._watchers = (_heard,)
        self.add(*tasks)

    @classmethod
    def of(cls, *targets: Task, **options: Any) -> TaskQueue:
        """Make a queue of tasks and of all that they require, those first, older ones before newer.

        Parameters
        ----------
        *targets : Task
            What is to be had in the end.
        **options
            Those of `TaskQueue`.
        """
        repair.check_tasks(targets)
        with GRAPH_LOCK:
            needed = closure(targets, lambda task: task._required)
            ordered = sorted(needed, key=lambda task: (task._level, task._rank))
        return cls(*ordered, **options)

    # -- what is in it -----------------------------------------------------------------------

    def add(self, *tasks: Task) -> None:
        """Add tasks; one that is there already stays where it is.

        Raises
        ------
        TypeError
            If something is no task; then none is added.
        TaskError
            If one uses more than the queue's limits ever allow; then none is added.
        """
        repair.check_tasks(tasks)
        if self._limits:
            for task in tasks:
                if (refused := refusal(task, self._limits)) is not None:
                    raise refused
        if self._store is not None:
            with self._store.looking_up(tasks):
                self._add_all(tasks)
        else:
            self._add_all(tasks)

    def _add_all(self, tasks: tuple[Task, ...]) -> None:
        taken_back: list[Task] = []
        with GRAPH_LOCK:
            due = deque(tasks)
            while due:
                task = due.popleft()
                if task not in self._tasks:
                    if self._store is not None and self._store.take_back(task):
                        taken_back.append(task)
                    self._add(task)
                    if self.run_dependent_tasks and task.fsm_state == "DONE":
                        due.extend(task._blocking)
            self._is_changed()
            self._wake()
        for task in taken_back:
            task._fsm_after()

    def _add(self, task: Task) -> None:
        self._tasks[task] = None
        self._structure += 1
        if self._order is not None:
            self._order.add(task)
        if task._options is not PLAIN and task._options.uses:
            self._uses.update(task._options.uses)
        if task in self._outside:
            self._outside.discard(task)
            known = tuple(queue for queue in task._queues if queue() is not self)
            task._queues = (*known, *self._mine) if known else self._mine
        else:
            self._hear(task, self._mine)
        for prerequisite in task._required:
            if prerequisite not in self._tasks and prerequisite not in self._outside:
                self._add_outside(prerequisite)
        if not task._missing and task.fsm_state == "PENDING":
            self._ready.append(task)
        elif task.fsm_state in SETTLED and task.fsm_state != "DONE":
            self._fallen[task] = None

    def _add_outside(self, prerequisite: Task) -> None:
        """Hear of a prerequisite of ours that is not ours: it may be running elsewhere."""
        self._outside.add(prerequisite)
        self._hear(prerequisite, (weakref.ref(self),))  # a tuple of its own: it is not ours

    def _hear(self, task: Task, us: tuple[weakref.ref[TaskQueue]]) -> None:
        """Have a task tell this queue of its steps."""
        others = tuple(known for known in task._queues if known() is not None)
        task._queues = (*others, *us) if others else us
        if task.fsm_state in ACTIVE:
            self._active += 1

    @property
    def tasks(self) -> tuple[Task, ...]:
        """The tasks, in the order in which they were added."""
        return tuple(self._tasks)

    def __len__(self) -> int:
        return len(self._tasks)

    def __iter__(self) -> Iterator[Task]:
        return iter(self.tasks)

    def __contains__(self, task: object) -> bool:
        return task in self._tasks

    def __bool__(self) -> bool:
        """Be true, empty or not: a queue is a thing, not a number of tasks."""
        return True

    def __repr__(self) -> str:
        name = "" if self.name is None else f"{self.name!r}: "
        states = ", ".join(f"{count} {state}" for state, count in self.counts().items())
        return f"<{type(self).__name__} {name}{states or 'empty'}>"

    @property
    def limits(self) -> dict[str, float]:
        """How much there is of what tasks use, and how many of a group run together."""
        return dict(self._limits)

    @property
    def store(self) -> Store | None:
        """The file that keeps what happens; None without one.

        `path`, `read_only`, `changed` (task → why what was stored of it does not count any more),
        `flush()` and `close()`.
        """
        return self._store

    @property
    def structure(self) -> int:
        """A number that grows when tasks are added or requirements among them change."""
        return self._structure

    def counts(self) -> dict[str, int]:
        """Count the tasks by state, in the order of the states' lives."""
        found = Counter(task.fsm_state for task in self.tasks)
        return {state: found[state] for state in FSM_TRANSITIONS if found[state]}

    def causes(self) -> Causes:
        """Tell what is blocked by what.

        Returns
        -------
        Causes
            A dict: each task that failed, was cancelled or aborted by itself, with the tasks of
            this queue that wait for it, directly or through others. Its `groups` puts those
            together that fell in the same way at the same place: `queue.retry(group)`.
        """
        with GRAPH_LOCK:
            return repair.causes_among(self._down(), self._tasks)

    # -- what tasks tell us; always under the lock of the graph ------------------------------

    def _has_moved(self, task: Task, old: str, new: str) -> None:
        if self._store is not None and task in self._tasks:
            self._store.put(task, new)
        if new in ACTIVE:
            if old not in ACTIVE:
                self._active += 1
        else:
            if old in ACTIVE:
                self._active -= 1
            if new == "PENDING":
                if not task._missing and task in self._tasks:
                    self._ready.append(task)
            elif new == "DONE" and self.run_dependent_tasks and task in self._tasks:
                self.add(*task._blocking)
            if self._idle:
                self._changed.notify_all()
        for watcher in self._watchers:
            watcher()

    def _has_moved_here(self, task: Task, new: str) -> None:
        """Hear of a step that our own loop made; what is ready and active is counted already."""
        if self._store is not None:
            self._store.put(task, new)
        if new == "DONE" and self.run_dependent_tasks:
            self.add(*task._blocking)
        for watcher in self._watchers:
            watcher()

    def _has_fallen(self, task: Task) -> None:
        """Hear that a task failed, or was cancelled or aborted."""
        if task in self._tasks:
            self._fallen[task] = None

    def _has_done(self, deed: Deed) -> None:
        """Hear of a verb that was carried out on tasks of ours."""
        self._deeds.append(deed)
        if self._store is not None:
            words = {"verb": deed.verb, "tasks": deed.targets, "moved": deed.moved}
            self._store.note(words, deed.when)
        self._is_changed()
        self._wake()

    def _is_ready(self, task: Task) -> None:
        if task in self._tasks:
            self._ready.append(task)

    def _is_linked(self, task: Task, prerequisite: Task | None) -> None:
        if task in self._tasks:
            self._structure += 1
            if self._order is not None:
                self._order.link(task, prerequisite)
            if prerequisite is not None and not (
                prerequisite in self._tasks or prerequisite in self._outside
            ):
                self._add_outside(prerequisite)
            self._is_changed()

    def _is_changed(self) -> None:
        for watcher in self._watchers:
            watcher()

    def _wake(self) -> None:
        if self._idle:
            self._changed.notify_all()

    def on_change(self, callback: Callable[[], object]) -> Callable[[], None]:
        """Have something called after every change of the tasks, their graph or a run.

        Parameters
        ----------
        callback : callable
            Called as `callback()` in whatever thread, under the lock of the graph: it must return
            at once, take no lock and raise nothing. Set a flag, and look at the queue later.

        Returns
        -------
        callable
            Ends it.
        """
        with GRAPH_LOCK:
            self._watchers = (*self._watchers, callback)

        def stop() -> None:
            with GRAPH_LOCK:
                self._watchers = tuple(w for w in self._watchers if w is not callback)

        return stop

    # -- running -----------------------------------------------------------------------------

    def run(  # noqa: PLR0913 - what the family has, and what is by keyword
        self,
        runstate: RunState | None = None,
        once: bool = False,  # noqa: FBT001, FBT002 - the parameters of `run`
        executor: Any = None,
        fail_fast: bool = False,  # noqa: FBT001, FBT002 - as above
        limits: Mapping[str, float] | None = None,
        *,
        progress: bool = False,
        echo: bool | None = None,
    ) -> Generator[Task, None, None]:
        """Run what is ready until nothing is, and yield each task as it completes.

        Parameters
        ----------
        runstate : RunState, optional
            Ends the run early: `runstate.cancel()`.
        once : bool
            Whether to end after one task.
        executor : optional
            Where tasks run; by default the queue's. See `TaskQueue`.
        fail_fast : bool
            Whether to start nothing more once a task ends in a state that is not DONE.
        limits : mapping, optional
            Limits for this run alone, besides or instead of the queue's; see `TaskQueue`.
        progress : bool
            Whether to show how far it is: the live view in a notebook, a bar in a terminal.
        echo : bool, optional
            Whether what tasks print, log, warn of and display is shown in the cell that started the
            run, besides being kept as `task.output` and `task.displayed`. By default it is, except
            in the background. Your own handlers of `logging` show what they show in any case.

        Raises
        ------
        TaskError
            If tasks use something, and no limits say how much of it there is.
        TypeError
            If `echo` is something else.

        Yields
        ------
        Task
            Each task that ran: DONE, FAILED or CANCELLED.

        Notes
        -----
        A task whose prerequisite failed stays PENDING until that is repaired; all others run. On a
        held queue a foreground run ends. The generator may be left at any time: what runs is
        finished, nothing more is started. A keyboard interrupt cancels what runs.
        """
        run = self._new_run(executor, runstate, limits, once=once, fail_fast=fail_fast, echo=echo)
        if progress:
            return self._showing_progress(run)
        return self._foreground(run)

    def _showing_progress(self, run: _Run) -> Generator[Task, None, None]:
        from taskqueue_nb.progress import showing  # noqa: PLC0415 - progress is a layer above

        with showing(self):
            yield from self._foreground(run)

    def _new_run(
        self,
        executor: Any = None,
        runstate: RunState | None = None,
        limits: Mapping[str, float] | None = None,
        **options: Any,
    ) -> _Run:
        """Prepare a run with the queue's executor and limits, unless it has its own."""
        chosen = self.executor if executor is None else executor
        allowed = {**self._limits, **checked_limits(limits)}
        if unknown := self._uses - allowed.keys():
            name = min(unknown)
            known = ", ".join(shorten(each) for each in allowed) or "nothing"
            message = (
                f"a task uses {shorten(name)}, and nothing says how much of it there is; there are "
                f"limits for {known}: give the run limits={{{shorten(name)}: ...}}"
            )
            raise TaskError(message)
        return _Run(chosen, runstate, limits=allowed, **options)

    def start(  # noqa: PLR0913 - what the family has, and what is by keyword
        self,
        runstate: RunState | None = None,
        once: bool = False,  # noqa: FBT001, FBT002 - positional in the seed family
        executor: Any = None,
        fail_fast: bool = False,  # noqa: FBT001, FBT002 - beside the one above
        limits: Mapping[str, float] | None = None,
        *,
        echo: bool | None = None,
    ) -> TaskQueue:
        """Run what is ready in the background, and return at once.

        The parameters are those of `run`. What tasks print is kept with them and shown nowhere
        else, unless `echo` is True: then also in the cell that called this, even when others have
        run since. Where there are no threads, as in a web page, the run goes on in the turns of
        this thread's event loop, one task in each, so that the page stays alive between tasks.

        Returns
        -------
        TaskQueue
            This queue: `queue.start().wait()`.

        Raises
        ------
        TaskError
            If it is running in the background already, or there is neither a thread nor an event
            loop to run it.
        """
        options = {"executor": executor, "fail_fast": fail_fast, "limits": limits, "echo": echo}
        how = {"once": once, "fail_fast": fail_fast, "echo": echo}
        run = self._new_run(executor, runstate, limits, background=True, **how)
        with GRAPH_LOCK:
            if self._background is not None and self._background.stopped:
                self._background.stopped = False  # it was about to end, and goes on
                self._wake()
                return self
            if self._background is not None:
                message = "the queue is running already; wait() for it or stop() it first"
                raise TaskError(message)
            self._background = run
            self._last_options = options
        try:
            if has_threads():
                uninterrupted(lambda: self._start_workers(run, lambda _: None), is_on_its_way=False)
            else:
                self._start_between_turns(run)
        except BaseException:
            with GRAPH_LOCK:
                self._background = None
            raise
        return self

    def _start_between_turns(self, run: _Run) -> None:
        """Have a background run go on in the turns of this thread's event loop, a task in each.

        So runs what `start` begins where there are no threads, as in a web page.
        """
        loop = running_loop()
        if loop is None:
            message = (
                "there are no threads here, and no event loop runs: nothing can run in the "
                "background; use run()"
            )
            raise TaskError(message)
        run.threads = 0
        self._enter(run)

        async def whole() -> None:
            try:
                async for _ in self._on_loop(run):
                    pass
            except BaseException as error:
                run.failure = error
                raise
            finally:
                run.ended.set()

        run.driver = loop.create_task(whole(), name="taskqueue_nb run")

    async def arun(  # noqa: PLR0913 - as for `run`
        self,
        runstate: RunState | None = None,
        executor: Any = None,
        fail_fast: bool = False,  # noqa: FBT001, FBT002 - as for `run`
        limit: int | None = None,
        limits: Mapping[str, float] | None = None,
        *,
        echo: bool | None = None,
    ) -> list[Task]:
        """Run what is ready on the running event loop, until nothing is.

        Coroutine functions are awaited on the loop, many at a time; plain ones go to threads, so
        that the loop stays alive. Where there are no threads they are called one per turn.

        Parameters
        ----------
        runstate : RunState, optional
            Ends the run early: `runstate.cancel()`.
        executor : optional
            Where plain functions run; by default the queue's executor, else a few threads.
        fail_fast : bool
            Whether to start nothing more once a task ends in a state that is not DONE.
        limit : int, optional
            How many tasks run at a time, at most; by default as many as are ready.
        limits : mapping, optional
            Limits for this run alone, besides or instead of the queue's; see `TaskQueue`.
        echo : bool, optional
            Whether what tasks print is shown besides being kept, by default it is; see `run`.

        Returns
        -------
        list of Task
            Each task that ran, in the order in which they completed.

        Notes
        -----
        Cancelling whoever awaits this cancels the coroutines; all that ran is then CANCELLED,
        `because="interrupted"`, and can be retried. On a held queue the run waits for `resume`.

        In a coroutine, `await task` waits for another task and gives its result; that one should
        be done, running or certain to run: a task whose turn comes only after the one that waits
        is waited for in vain, so pass it as an argument instead.

        Examples
        --------
        >>> import asyncio
        >>> async def load(number):
        ...     await asyncio.sleep(0)
        ...     return number
        >>> tasks = [Task(f"load {number}", load, func_args=(number,)) for number in (3, 4)]
        >>> total = Task("total", sum, func_args=(tasks,))
        >>> done = asyncio.run(TaskQueue(*tasks, total).arun())
        >>> total.value
        7
        """
        tasks = self.arun_iter(runstate, executor, fail_fast, limit, limits, echo=echo)
        return [task async for task in tasks]

    def arun_iter(  # noqa: PLR0913 - as for `run`
        self,
        runstate: RunState | None = None,
        executor: Any = None,
        fail_fast: bool = False,  # noqa: FBT001, FBT002 - as for `run`
        limit: int | None = None,
        limits: Mapping[str, float] | None = None,
        *,
        echo: bool | None = None,
    ) -> AsyncIterator[Task]:
        """Run as `arun` does, and yield each task as it completes: `async for task in ...`.

        The parameters are those of `arun`. Leaving the loop finishes what runs and starts nothing
        more; use `contextlib.aclosing` to have that done before you go on.
        """
        if limit is not None and (not isinstance(limit, int) or limit < 1):
            message = f"limit is a number of tasks, at least 1, not {limit!r:.80}"
            raise ValueError(message)
        how = {"fail_fast": fail_fast, "limit": limit, "echo": echo}
        return self._on_loop(self._new_run(executor, runstate, limits, on_loop=True, **how))

    async def _on_loop(self, run: _Run) -> AsyncGenerator[Task, None]:  # noqa: C901 - read in one piece
        """Run on the running event loop: the same loop as everywhere, asleep instead of waiting."""
        import asyncio  # noqa: PLC0415 - heavy, and only coroutines need it

        loop = asyncio.get_running_loop()
        run.loop, run.bell = Loop(loop), Bell(loop)
        between_turns = not has_threads()
        if run.executor is None and not between_turns:
            run.executor = _POOL
        with capturing(apart=True):
            try:
                self._enter(run)
                with closing(self._work(run)) as work:
                    for task in work:
                        if task is not None:
                            yield task
                        elif run.bell.armed:
                            await self._sleep(run, run.bell)
                        if between_turns or task is None:
                            await asyncio.sleep(0)
                        self._raise_failure(run)
                self._raise_failure(run)
                if self._store is not None:
                    await asyncio.to_thread(self._store.flush)  # it would hold the loop up
            except GeneratorExit:
                if run.loop.is_here:  # else the loop is gone, and nothing can be waited for
                    await self._finish(run, run.bell)
                raise
            except BaseException:
                await self._cut_off(run)
                raise
            finally:
                if run.in_flight:
                    self._interrupt(run)
                self._leave(run)

    def _raise_failure(self, run: _Run) -> None:
        """Let a keyboard interrupt or an exit in a coroutine go on to whoever runs the queue."""
        if run.failure is not None:
            raise run.failure

    async def _sleep(self, run: _Run, bell: Bell) -> None:
        """Wait until a bell rings for which the run has lain down."""
        try:
            patience = self._patience(run)
            await bell.wait(_HEARTBEAT if patience is None else min(patience, _HEARTBEAT))
        finally:
            with GRAPH_LOCK:
                self._idle -= 1

    def _lie_down(self, bell: Bell) -> None:
        """Have a bell rung when something changes; the lock is held."""
        bell.arm()
        self._idle += 1
        self._changed.bells[bell] = None

    async def _finish(self, run: _Run, bell: Bell) -> None:
        """Start nothing more, and wait for what is away."""
        self._end(run)
        while True:
            with GRAPH_LOCK:
                if not run.in_flight:
                    return
                self._lie_down(bell)
            await self._sleep(run, bell)

    async def _cut_off(self, run: _Run) -> None:
        """Cancel all that a run on an event loop has under way, and wait for its coroutines."""
        import asyncio  # noqa: PLC0415 - heavy, and only coroutines need it

        with GRAPH_LOCK:
            run.stopped = True
            self._withdraw(run)
            attempts = [task._attempt for task in self._tasks if task.fsm_state == "RUNNING"]
        cut = []
        for attempt in attempts:
            if attempt is not None and attempt.run is run and attempt.awaiting is not None:
                attempt.interrupt()
                cut.append(attempt.awaiting.task)
        try:
            if cut:
                await asyncio.wait(cut, timeout=_CLEANING)
        finally:
            self._interrupt(run)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the background run has ended.

        Parameters
        ----------
        timeout : float, optional
            How long to wait at most, in seconds.

        Returns
        -------
        bool
            Whether it has.

        Raises
        ------
        TaskError
            If there are no threads here (in a web page), so that waiting would stop the run.
        """
        run = self._background
        if run is not None and run.driver is not None and running_loop() is not None:
            message = (
                "there are no threads here: the run goes on between cells, and waiting would stop "
                "it; `await queue.arun()` waits for it"
            )
            raise TaskError(message)
        has_ended = run is None or run.ended.wait(timeout)
        if has_ended and self._store is not None:
            self._store.flush()
        return has_ended

    def stop(self, *, cancel: bool = False) -> None:
        """Start nothing more; what runs is finished.

        Parameters
        ----------
        cancel : bool
            Whether to ask what runs to stop, too.
        """
        with CaughtUp(self._tasks):
            with GRAPH_LOCK:
                for run in self._runs:
                    run.stopped = True
                    self._withdraw(run)
                self._wake()
                self._is_changed()
            repair.carry_out(self._giving_up if cancel else self._giving_up_steps)
        if self._store is not None:
            self._store.flush()

    def _giving_up(self) -> Change:
        """Work out how to cancel all that is under way; the lock is held."""
        active = [task for task in self._tasks if task.fsm_state in ACTIVE]
        return repair.change_of("cancel", *active, because=STOPPED)

    def _giving_up_steps(self) -> Change:
        """Work out how to cancel what is in the middle of its steps; the lock is held.

        A call that is going on is finished.
        """
        open_ones = {task: stepped_of(task) for task in self._tasks} if self._active else {}
        idle = [task for task, at in open_ones.items() if at is not None and at.is_free()]
        return repair.change_of("cancel", *idle, because=STOPPED)

    def step(self, *, transition: bool = False) -> Task | None:
        """Run exactly one task in the caller's thread, also on a held queue.

        Parameters
        ----------
        transition : bool
            Whether to take one transition of it only: first `dispatch`, then the call of its
            function, then `done` or what else comes of it; see `Task.step`. In between nothing
            waits, and the next `run`, `start` or `step()` goes on from there.

        Returns
        -------
        Task or None
            The task; None if none is ready.

        Raises
        ------
        TaskError
            If another thread is in the call of the task that is stepped through.

        Examples
        --------
        >>> load = Task("load", lambda: 3)
        >>> queue = TaskQueue(load)
        >>> [queue.step(transition=True).fsm_state for _ in range(3)]
        ['RUNNING', 'RUNNING', 'DONE']
        >>> [step.event for step in load.fsm_history]
        ['dispatch', 'done']
        """
        if transition:
            return self._step_on()
        run = _Run(once=True, stepping=True, limits=self._limits)
        run.is_parallel = self.executor is not None  # it takes what `run()` would take first
        return next(self._foreground(run), None)

    @property
    def stepped(self) -> Task | None:
        """The task whose next transition `step(transition=True)` takes; None: a new one begins."""
        with GRAPH_LOCK:
            task = self._stepping
            if task is not None and (stepped_of(task) is not None or retries_by_itself(task)):
                return task
            tasks = self._tasks if self._active else ()
            self._stepping = next((task for task in tasks if stepped_of(task) is not None), None)
            return self._stepping

    def _step_on(self) -> Task | None:
        task = self.stepped
        if task is None:
            return self._step_into()
        task.step()
        return task

    def _step_into(self) -> Task | None:
        """Start an attempt, and leave it to further steps."""
        run = _Run(once=True, stepping=True, in_steps=True, limits=self._limits)
        run.is_parallel = self.executor is not None
        try:
            self._enter(run)
            with GRAPH_LOCK:
                found = self._pick(run) if self._may_pick(run) else None
                task = found if found is None or isinstance(found, Task) else found.task
                if isinstance(found, Attempt) and task is not None:
                    begin(found, partial(self._leave_room, task, self._room.hold_of(task)))
                    self._stepping = task
        except BaseException:
            uninterrupted(lambda: self._interrupt(run), is_on_its_way=True)
            raise
        finally:
            uninterrupted(lambda: self._leave(run), is_on_its_way=False)
        if task is not None:
            task._fsm_after()
        return task

    def hold(self) -> None:
        """Start nothing new until `resume`; a foreground run ends."""
        with CaughtUp(self._tasks), GRAPH_LOCK:
            self._held = True
            for run in self._runs:
                self._withdraw(run)
            self._wake()
            self._is_changed()

    def resume(self) -> None:
        """Carry on after `hold`."""
        with GRAPH_LOCK:
            self._held = False
            self._wake()
            self._is_changed()

    @property
    def held(self) -> bool:
        """Whether nothing new is started for the time being."""
        return self._held

    @property
    def running(self) -> bool:
        """Whether a run is under way."""
        return bool(self._runs)

    def _foreground(self, run: _Run) -> Generator[Task, None, None]:
        if run.threads:
            yield from self._with_workers(run)
            return
        try:
            self._enter(run)
            with capturing():
                yield from self._work(run)
        finally:
            try:
                self._leave(run)
            except KeyboardInterrupt:
                uninterrupted(lambda: self._leave(run), is_on_its_way=True)
                raise

    def _with_workers(self, run: _Run) -> Generator[Task, None, None]:
        """Yield what a number of threads complete."""
        completed: SimpleQueue[Task | None] = SimpleQueue()
        try:
            uninterrupted(lambda: self._start_workers(run, completed.put), is_on_its_way=False)
            while (task := completed.get()) is not None:
                if self._store is not None:
                    self._store.flush()
                yield task
        except GeneratorExit:
            self._end(run)
            run.ended.wait()
            raise
        except BaseException:
            uninterrupted(lambda: self._interrupt(run), is_on_its_way=True)
            raise
        if run.failure is not None:
            raise run.failure

    def _start_workers(self, run: _Run, tell: Callable[[Task | None], object]) -> None:
        """Start the threads of a run; `tell` hears each completed task, and None at the end."""
        count = max(1, run.threads)
        left = itertools.count(count - 1, -1)
        stack = ExitStack()
        stack.enter_context(capturing(apart=True))
        self._enter(run)

        def work() -> None:
            try:
                for task in self._work(run):
                    tell(task)
            except BaseException as error:  # noqa: BLE001 - handed to whoever consumes the run
                run.failure = error
                self._end(run)
            if next(left) == 0:
                stack.close()
                self._leave(run)
                run.ended.set()
                tell(None)

        started = 0
        try:
            for number in range(count):
                name = f"taskqueue_nb worker {number + 1}"
                threading.Thread(target=work, name=name, daemon=True).start()
                started += 1
        except RuntimeError:  # no more threads to be had
            if not started:
                stack.close()
                self._leave(run)
                run.ended.set()
                raise
            for _ in range(count - started):
                next(left)

    def _enter(self, run: _Run) -> None:
        run.queue = self
        with CaughtUp(self._tasks), GRAPH_LOCK:
            if run not in self._runs:
                self._runs.append(run)
            self._put_in_order()
            run.places.stand_in(self._aside)
            self._is_changed()
        if self._active and not run.in_steps:
            self._take_up_steps(run)

    def _takes_longest(self, *, is_parallel: bool) -> bool:
        return self._wished == "longest" or (self._wished is None and is_parallel)

    def _put_in_order(self) -> None:
        """Have ready tasks stand as the runs under way take them; the lock is held."""
        is_parallel = any(run.is_parallel for run in self._runs)
        if self._takes_longest(is_parallel=is_parallel) is (self._order is not None):
            return
        self._order = Order(self) if self._order is None else None
        for run in self._runs:
            run.places.stand_in(self._aside)  # first: these have been ready for longest
        self._ready.extendleft(reversed(self._room.clear()))
        self._ready = self._line(self._ready)

    def _line(self, tasks: Iterable[Task] = ()) -> Any:
        return deque(tasks) if self._order is None else LongestFirst(self._order, tasks)

    def _aside(self, tasks: Iterable[Task] = ()) -> Any:
        return deque(tasks) if self._order is None else Aside(self._order, tasks)

    def _line_of_run(self, tasks: Iterable[Task]) -> Any:
        """Return tasks in the line in which a plain `run()` takes them; the lock is held."""
        if not self._takes_longest(is_parallel=self.executor is not None):
            return deque(tasks)
        return LongestFirst(Order(self, self._order), tasks)

    def _take_up_steps(self, run: _Run) -> None:
        """Go on with tasks that are in the middle of their steps: nobody else would."""
        settled = []
        with GRAPH_LOCK:
            for task in self._tasks:
                stepped = stepped_of(task)
                if stepped is None or run.left == 0:
                    continue
                run.left -= 1
                hold = self._room.hold_of(task)
                attempt = stepped.hand_over()
                if attempt is not None:
                    attempt.here, attempt.run, attempt.echo = self, run, run.echo
                    run.finished.append(attempt)
                elif task.fsm_state != "RUNNING":
                    run.in_flight += 1
                    settled.append((task, stepped.attempt, hold))
        for task, attempt, hold in settled:
            self._has_come_back(run, task, attempt, None, hold)

    def _leave(self, run: _Run) -> None:
        run.places.close()  # first: who waits for the run waits for its processes, too
        if run.loop is not None:
            run.loop.close()
        with GRAPH_LOCK:
            if run in self._runs:
                self._runs.remove(run)
            if self._background is run:
                self._background = None
            self._let_go(run)
            if self._runs:
                self._put_in_order()
            elif self._order is not None:
                self._order.rest()
            if run.left != run.most:
                self._forget_befores()
            self._wake()
            self._is_changed()

    def _let_go(self, run: _Run) -> None:
        """Make ready again what waits in a run that starts nothing more; the lock is held.

        At once: another run that finds nothing to do might end before this one does.
        """
        self._ready.extendleft(reversed(run.places.clear()))
        self._ready.extendleft(reversed(self._room.clear()))
        self._wake()

    def _forget_befores(self) -> None:
        """Let go of what `undo` would need: something has run since."""
        for deed in reversed(self._deeds):
            if not deed.before:
                break
            deed.forget()

    def _end(self, run: _Run) -> None:
        with CaughtUp(self._tasks), GRAPH_LOCK:
            run.stopped = True
            self._withdraw(run)
            self._wake()

    def _work(self, run: _Run) -> Generator[Any, None, None]:  # noqa: C901, PLR0912, PLR0915 - read in one piece
        """Take, call, settle: the loop of one worker.

        It yields tasks; on an event loop also None, when that is to have a turn.
        """
        interruption: BaseException | None = None
        is_worker = bool(run.threads or run.background)
        is_limited = run.limits is not None
        take = self._take
        try:
            while interruption is None and (found := take(run)) is not None:
                if isinstance(found, Attempt):
                    task = found.task
                    if task._fsm_listeners is not None or task._result is not None:
                        task._fsm_after()
                    hold = self._room.hold_of(task) if is_limited else None
                    interruption = attempt_here(found)
                    if is_limited and found.coroutine is None:
                        self._leave_room(task, hold)
                    if task.fsm_state != "DONE":
                        if found.coroutine is not None:
                            self._await(run, found)
                            if run.bell is not None and not run.begun % _BREATH:
                                yield None
                            continue
                        self._look_after(run, found)
                    if task._fsm_listeners is not None or task._result is not None:
                        task._fsm_after()
                    if is_worker:
                        interruption = None  # settled; a thread has no caller to tell
                    elif self._idle:  # the consumer may take its time: let others go on
                        with GRAPH_LOCK:
                            self._wake()
                    if interruption is None and task.fsm_state in SETTLED:
                        if self._store is not None and not is_worker:
                            self._store.flush()
                        yield task
                elif found is _LATER:
                    yield None
                elif found is _UNTOLD:
                    while run.untold:
                        run.untold.popleft()._fsm_after()
                elif isinstance(found, _Sending):
                    self._send(run, found.task)
                else:
                    found._fsm_after()
                    if self._store is not None and not is_worker and run.bell is None:
                        self._store.flush()
                    yield found
        except GeneratorExit:
            if run.bell is None:
                self._end(run)
                self._await_return(run)
            raise
        except BaseException:
            uninterrupted(lambda: self._interrupt(run), is_on_its_way=True)
            raise
        if interruption is not None:
            self._end(run)
            raise interruption

    def _take(self, run: _Run) -> Attempt | _Sending | Task | None:
        """Find something to do: an attempt to make, a task to send away, one that has come back.

        Waits as long as something may come; None once nothing will.
        """
        if run.threads:
            let_holder_finish()
        with GRAPH_LOCK:
            while True:
                if run.untold:
                    return _UNTOLD
                if run.finished:
                    return run.finished.popleft()
                if self._may_pick(run) and (found := self._pick(run)) is not None:
                    return found
                if not self._may_come(run, is_open=not run.stopped and run.left != 0):
                    self._wake()
                    return None
                if run.bell is not None:
                    self._lie_down(run.bell)
                    return _LATER
                self._idle += 1
                try:
                    self._changed.wait(self._patience(run))
                finally:
                    self._idle -= 1

    def _may_pick(self, run: _Run) -> bool:
        """Say whether a run may start a task now; the lock is held."""
        if not run.stopped and run.runstate is not None and run.runstate.cancelled:
            run.stopped = True
            self._withdraw(run)
        return (
            not run.stopped
            and run.left != 0
            and (run.stepping or not self._held)
            and (run.limit is None or run.in_flight < run.limit)
        )

    def _pick(  # noqa: C901 - read in one piece
        self, run: _Run, only: Place | None = None
    ) -> Attempt | _Sending | Task | None:
        """Start a ready task, or queue it for its executor; the lock is held.

        With `only`, the next task is left alone if it goes anywhere else.
        """
        if self._delayed:
            self._recall()
        ready = self._ready
        if (limits := run.limits) is not None:
            self._admit(limits)
        while ready or run.places.unpark(ready) or (limits is not None and self._admit(limits)):
            task: Task = ready.popleft()
            if (
                task.fsm_state != "PENDING"
                or task._missing
                or (self._delays and task in self._delays)
            ):
                run.places.unpark(ready)  # a place may have let it out instead of another
                continue  # it has moved on since it was ready
            own = None if task._options is PLAIN else task._options.executor
            place = None if own is run.executor is None else self._place_of(run, task, own)
            if only is not None and place is not only:
                ready.appendleft(task)
                return None
            if place is not None and not place.takes(task):
                place.parked.append(task)
                continue
            if limits is not None and not self._enter_room(run, task, limits):
                if task.fsm_state == "FAILED":
                    return task
                continue
            run.left -= 1
            if self._order is not None:
                self._order.start(task)
            if place is None:
                if self._idle and (ready or self._room):
                    self._changed.notify()
                return task._begin(self, run)
            self._queue(run, place, task)
            return _Sending(task)
        return None

    def _queue(self, run: _Run, place: Place, task: Task, when: float | None = None) -> None:
        """Queue a task for its executor; the lock is held."""
        run.in_flight += 1
        run.sent.add(task)
        place.in_flight += 1
        task._fsm_move("queue", None, None, when)

    def _place_of(self, run: _Run, task: Task, own: Any) -> Place | None:
        """Return where a task is to be sent; None for here, and the loop for a coroutine."""
        if run.in_steps:
            return None  # called by whoever takes the steps
        if own is not None:
            return run.places.of(own)
        if is_coroutine_function(task.func):
            return None  # awaited on the loop of the run, wherever plain ones go
        return run.places.of(run.executor)

    def _admit(self, limits: Mapping[str, float]) -> bool:
        """Make the first ready again of those that there is room for now; the lock is held."""
        task = self._room.let_out(limits, self._may_start) if self._room else None
        if task is not None:
            self._ready.appendleft(task)
        return task is not None

    def _may_start(self, task: Task) -> bool:
        """Say whether a task that was ready is so still; the lock is held."""
        return task.fsm_state == "PENDING" and not task._missing and task not in self._delays

    def _enter_room(self, run: _Run, task: Task, limits: Mapping[str, float]) -> bool:
        """Take up what a task uses; else it waits, or fails if it would wait for ever."""
        if (refused := refusal(task, limits)) is not None:
            task._error = refused
            task._fsm_move("error", {"because": "there is not as much as it uses"})
            if run.fail_fast:
                run.stopped = True
                self._let_go(run)
            return False
        needs = needs_of(task, limits)
        height = self._order.height(task) if needs and self._order is not None else 0
        return not needs or self._room.enter(task, needs, limits, height)

    def _leave_room(self, task: Task, hold: Hold | None) -> None:
        """Give back what an attempt took up, and wake those that may wait for it."""
        if hold is not None:
            with GRAPH_LOCK:
                self._room.leave(task, hold)
                if self._room:
                    self._wake()

    def _may_come(self, run: _Run, *, is_open: bool) -> bool:
        """Say whether waiting makes sense."""
        if run.in_flight or not is_open:
            return run.in_flight > 0
        if self._held and not run.stepping:
            # a run in the foreground could not be resumed by the one thread that it occupies
            return run.waits_when_held and bool(
                self._ready or self._delayed or self._room or self._others()
            )
        return bool(self._delayed) or self._others()

    def _others(self) -> bool:
        """Say whether tasks run that this thread does not run itself."""
        mine = CURRENT.get()
        return self._active > (mine is not None and mine.task in self._tasks)

    def _patience(self, run: _Run) -> float | None:
        times = [_POLL] if run.runstate is not None else []
        if self._delayed:
            times.append(max(0.0, self._delayed[0][0] - monotonic()))
        return min(times, default=None)

    def _recall(self) -> None:
        """Make ready what has waited long enough for its retry."""
        while self._delayed and self._delayed[0][0] <= monotonic():
            _, _, task = heapq.heappop(self._delayed)
            if self._delays.pop(task, None) is not None:
                self._ready.append(task)

    def _look_after(self, run: _Run, attempt: Attempt) -> None:
        """Retry what asks for it by itself; end a run that must not survive a failure."""
        task = attempt.task
        delay = task._retry_seconds(attempt)
        with GRAPH_LOCK:
            if delay is not None and task._retry_by_itself(attempt):
                if delay:
                    due = monotonic() + delay
                    self._delays[task] = due
                    heapq.heappush(self._delayed, (due, next(self._ticket), task))
                if run.left >= 0:
                    run.left += 1  # the same task still
            elif attempt.lost is not None and run.left >= 0:
                run.left += 1
            elif run.fail_fast and task.fsm_state in ("FAILED", "CANCELLED", "ABORT"):
                run.stopped = True
                self._let_go(run)

    def _send(self, run: _Run, task: Task) -> None:
        """Hand a queued task to its executor."""
        task._fsm_after()
        executor = task._options.executor
        place = run.places.of(run.executor if executor is None else executor)
        hold = self._room.hold_of(task) if run.limits is not None else None

        def returned(task: Task, attempt: Attempt | None, sends_more: bool) -> None:  # noqa: FBT001 - of a trip
            self._has_come_back(run, task, attempt, place, hold)
            if not sends_more:
                with GRAPH_LOCK:
                    self._wake()

        if place.send_more is None:
            place.give_back = partial(self._has_been_withdrawn, run, place)
            is_strict = run.limits is not None or run.fail_fast or self._wished == "longest"
            place.may_wait = not is_strict
            place.send_more, place.tell = partial(self._send_more, run, place), self._tell
            place.leads = partial(self._leads, run, place)
            place.send_now = partial(self._send_now, run, place)
        fault = task._options.fault
        if fault is not None and fault.is_instead and not place.is_here:
            Trip(task, returned, run).fail_without_call()
            return
        place.send(task, returned, run)

    def _send_more(self, run: _Run, place: Place) -> None:
        """Send the next task from the thread that heard of the last one, if it goes there, too.

        The loop is not woken before that one calls `_tell`, unless there is more for it to do than
        to yield the last one: else the two threads would get in each other's way.
        """
        with GRAPH_LOCK:
            found = self._pick(run, place) if self._may_pick(run) else None
            if isinstance(found, Task):  # it failed: the loop yields it
                run.finished.append(found)
            if self._ready:
                self._wake()
        if isinstance(found, _Sending):
            self._send(run, found.task)

    def _leads(self, run: _Run, place: Place, task: Task) -> bool:
        """Say whether a run sends a pending task there for sure once its prerequisites are done.

        The lock is held.
        """
        if run.left >= 0 or run.stopped or run.stepping or run.fail_fast or self._held:
            return False
        if run.limit is not None or run.limits is not None or run.runstate is not None:
            return False
        return (
            task in self._tasks
            and task.fsm_state == "PENDING"
            and all(
                queue._runs == ([run] if queue is self else []) for queue in task._told_queues()
            )
            and self._place_of(run, task, task._options.executor) is place
        )

    def _send_now(self, run: _Run, place: Place, task: Task, when: float) -> bool:
        """Send a ready task before its turn, as its call has begun there already."""
        with GRAPH_LOCK:
            if not self._may_pick(run) or not self._may_start(task):
                return False
            run.left -= 1
            if self._order is not None:
                self._order.start(task)
            self._queue(run, place, task, when)
        self._send(run, task)
        return True

    def _tell(self) -> None:
        with GRAPH_LOCK:
            self._wake()

    def _has_been_withdrawn(self, run: _Run, place: Place, task: Task) -> None:
        """Take account of a queued task whose call waited elsewhere; the lock is held."""
        run.sent.discard(task)
        run.untold.append(task)
        run.in_flight -= 1
        place.in_flight -= 1
        if run.left >= 0:
            run.left += 1
        if (parked := place.let_out()) is not None:
            self._ready.appendleft(parked)
        self._wake()

    def _withdraw(self, run: _Run) -> None:
        """Make pending again what waits behind other calls of a run; the lock is held."""
        self._let_go(run)
        for task in reversed(run.places.recall()):
            task._queue_no_more(WITHDRAWN)
            if self._order is not None:
                self._order.make_oldest(task)
            self._ready.appendleft(task)  # it was among the first

    def _await(self, run: _Run, attempt: Attempt) -> None:
        """Have the coroutine awaited that an attempt's function has returned."""
        task = attempt.task
        coroutine, context = attempt.coroutine
        with GRAPH_LOCK:
            run.in_flight += 1
            run.begun += 1
            hold = self._room.hold_of(task)

        def ended(value: Any, error: BaseException | None) -> None:
            with GRAPH_LOCK:
                task._settle(attempt, value, None if error is None else without_our_frames(error))
            if isinstance(error, TimeoutError):
                attempt.runstate.cancel()  # it may go on, if it will not be cancelled
            if run.bell is not None and isinstance(error, (KeyboardInterrupt, SystemExit)):
                run.failure = error  # goes on to the caller, whose thread this is
                self._end(run)
            self._has_come_back(run, task, attempt, None, hold)
            with GRAPH_LOCK:
                self._wake()

        attempt.awaiting = awaiting = Awaiting(attempt, coroutine, context, task.timeout, ended)
        attempt.coroutine = None
        try:
            with GRAPH_LOCK:
                run.loop = loop = run.loop or Loop()
        except RuntimeError as error:  # no thread to be had for it
            awaiting.refuse(error)
        else:
            loop.spawn(awaiting)

    def _has_come_back(
        self,
        run: _Run,
        task: Task,
        attempt: Attempt | None,
        place: Place | None,
        hold: Hold | None,
    ) -> None:
        """Take account of a task that was away, and is settled."""
        with GRAPH_LOCK:
            run.sent.discard(task)
            self._room.leave(task, hold)
        if attempt is not None:
            self._look_after(run, attempt)
        task._fsm_after()
        with GRAPH_LOCK:
            run.in_flight -= 1
            if place is not None:
                place.in_flight -= 1
                if (parked := place.let_out()) is not None:
                    self._ready.appendleft(parked)
            if task.fsm_state in SETTLED:
                run.finished.append(task)

    def _await_return(self, run: _Run) -> None:
        """Wait for what is at an executor."""
        with GRAPH_LOCK:
            while run.in_flight:
                self._idle += 1
                try:
                    self._changed.wait()
                finally:
                    self._idle -= 1

    def _interrupt(self, run: _Run) -> None:
        """Leave a sound graph behind after an interrupt at any point of the loop.

        What this run started and is still RUNNING becomes CANCELLED.
        """
        with CaughtUp(self._tasks), GRAPH_LOCK:
            run.stopped = True
            for task in self._tasks:
                attempt = task._attempt
                mine = attempt is None or attempt.run is run
                if task.fsm_state == "RUNNING" and mine:
                    if attempt is not None:
                        attempt.runstate.cancel()
                    task._fsm_move("cancel", {"because": INTERRUPTED})
                elif task.fsm_state == "QUEUED" and task in run.sent:
                    task._fsm_move("cancel", {"because": INTERRUPTED})
                task._drop_unborn()
            self._recount()
        for task in self.tasks:
            task._fsm_after()

    def _recount(self) -> None:
        """Count anew what an interrupt may have left half counted; the lock is held."""
        for task in self._tasks:
            task._recount()
        self._active = sum(task.fsm_state in ACTIVE for task in (*self._tasks, *self._outside))
        self._ready = self._line(
            task for task in self._tasks if task.fsm_state == "PENDING" and not task._missing
        )
        self._room.clear()
        self._room.forget(lambda task: task.fsm_state in ACTIVE)
        self._wake()

    # -- mending -----------------------------------------------------------------------------

    def retry(self, *tasks: Task | Cause, then_run: bool = False) -> tuple[Task, ...]:
        """Make failed or cancelled tasks pending again, with the dependents that fell with them.

        Parameters
        ----------
        *tasks : Task or Cause
            By default all that failed, or were cut off by an interrupt or a stop of the run. A
            cause, of `causes().groups`, stands for its tasks.
        then_run : bool
            Whether to go on in the background.

        Returns
        -------
        tuple of Task
            All that are pending again. What is DONE stays so, and is not run again.

        Raises
        ------
        FSMError
            If one of them is neither failed nor cancelled; then nothing has changed.
        """
        return self._mend("retry", *tasks, then_run=then_run)

    def repair(
        self,
        task: Task,
        func: Callable[..., Any] | None = None,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        *,
        then_run: bool = False,
    ) -> tuple[Task, ...]:
        """Give a task new code or arguments, then retry it.

        Parameters
        ----------
        task : Task
            One that runs goes on as it is; the change is for its next attempt.
        func, args, kwargs
            What to replace; None leaves as it is. They are checked against the signature first.
        then_run : bool
            Whether to go on in the background.

        Returns
        -------
        tuple of Task
            All that are pending again: the task, and the dependents that fell with it.

        Raises
        ------
        TypeError
            If the arguments do not fit the function.
        FSMError
            If the task is DONE (invalidate it first) or ABORT, or a circle would be closed. In
            each case nothing has changed.

        Examples
        --------
        >>> half = Task("half", lambda number: number / 2, func_args=("6",))
        >>> queue = TaskQueue(half)
        >>> [task.fsm_state for task in queue.run()]
        ['FAILED']
        >>> queue.repair(half, args=(6,)) == (half,)
        True
        >>> [task.result() for task in queue.run()]
        [3.0]
        """
        how = {"func": func, "args": args, "kwargs": kwargs}
        return self._mend("repair", task, then_run=then_run, **how)

    def edit(
        self,
        task: Task,
        source: str,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        *,
        then_run: bool = False,
    ) -> tuple[Task, ...]:
        """Give a task the function of an edited text, then retry it.

        Parameters
        ----------
        task : Task
            Its `source` is the text to begin with.
        source : str
            One function definition, or one lambda. It sees the global names and the variables of
            the function that it replaces, binds none, and shows in tracebacks and the debugger.
        args, kwargs, then_run
            As for `repair`.

        Returns
        -------
        tuple of Task
            All that are pending again.

        Raises
        ------
        SyntaxError, ValueError
            If the text is no Python, or not one function.
        TypeError, FSMError
            As for `repair`. In each case nothing has changed.

        Examples
        --------
        >>> half = Task("half", lambda number: number / 0, func_args=(6,))
        >>> queue = TaskQueue(half)
        >>> [task.fsm_state for task in queue.run()]
        ['FAILED']
        >>> queue.edit(half, "lambda number: number / 2") == (half,)
        True
        >>> [task.result() for task in queue.run()]
        [3.0]
        """
        repair.check_member([task], self._tasks)
        return self.repair(task, task._edited(source), args, kwargs, then_run=then_run)

    def supply(self, task: Task, value: Any, *, then_run: bool = False) -> tuple[Task, ...]:
        """Use a value as a task's result: the task is DONE with it.

        Returns
        -------
        tuple of Task
            The task, and the dependents that fell because of it and are pending again.

        Raises
        ------
        FSMError
            If it runs or is completed well; then nothing has changed.
        """
        return self._mend("supply", task, value, then_run=then_run)

    def invalidate(self, *tasks: Task, then_run: bool = False) -> tuple[Task, ...]:
        """Have DONE tasks, and every DONE dependent of theirs, run again.

        A dependent that runs meanwhile finishes, and is then invalidated in its turn.

        Returns
        -------
        tuple of Task
            All that are pending again.

        Raises
        ------
        FSMError
            If one of them is not DONE; then nothing has changed.
        """
        return self._mend("invalidate", *tasks, then_run=then_run)

    def cancel(self, *tasks: Task) -> tuple[Task, ...]:
        """Give tasks up: at once where they have not started, else by asking them to stop.

        Returns
        -------
        tuple of Task
            The tasks, each once.

        Raises
        ------
        FSMError
            If one of them is completed; then nothing has changed.
        """
        return self._mend("cancel", *tasks)

    def undo(self) -> tuple[Task, ...]:
        """Take back the last verb: code, arguments, states and results are as they were.

        Returns
        -------
        tuple of Task
            Those that were concerned.

        Raises
        ------
        TaskError
            If nothing was done, or something ran since; then nothing has changed.

        Examples
        --------
        >>> load = Task("load", lambda: 1)
        >>> queue = TaskQueue(load)
        >>> _ = [*queue.run()], queue.invalidate(load)
        >>> queue.undo() == (load,), load.value
        (True, 1)
        """
        return repair.undo(self._deeds, self._tasks)

    @property
    def undoable(self) -> str:
        """The verb that `undo` would take back, such as "retry 'load'"; "" if there is none."""
        deed = next((deed for deed in reversed(self._deeds) if not deed.undone), None)
        return str(deed) if deed is not None and deed.before and not deed.final else ""

    def plan(self, verb: str = "run", *args: Any, **how: Any) -> Plan:
        """Say what a verb would do, without doing it.

        Parameters
        ----------
        verb : str
            "retry", "repair", "edit", "supply", "invalidate", "cancel" or "refresh"; or "run",
            which plans the next run as things stand.
        *args, **how
            Those of the method of that name.

        Returns
        -------
        Plan
            What will run, what is reused, and why; `apply()` does exactly that.

        Raises
        ------
        ValueError
            If there is no such verb.
        FSMError, TypeError
            If the verb would be refused.

        Examples
        --------
        >>> load = Task("load", lambda: 1 / 0)
        >>> clean, plot = load.then("clean", list), Task("plot", list)
        >>> queue = TaskQueue(load, clean, plot)
        >>> for _ in queue.run(): pass
        >>> plan = queue.plan("retry")
        >>> [task.name for task in plan.will_run], [task.name for task in plan.reused]
        (['load', 'clean'], ['plot'])
        >>> plan.reasons[clean]
        "it waited for 'load'"
        """
        if verb == "refresh" and not args:
            return self.refresh(**how)
        if verb == "edit":
            return self._plan_of_edit(*args, **how)
        return repair.Plan(lambda: self._change(verb, *args, **how), self, self._not_taken_back())

    def _plan_of_edit(self, task: Task, source: str, *args: Any, **how: Any) -> Plan:
        repair.check_member([task], self._tasks)
        return self.plan("repair", task, task._edited(source), *args, **how)

    def stale(self) -> dict[Task, str]:
        """Say which tasks are out of date, and why. Nothing is run again unasked.

        Returns
        -------
        dict
            Each task that ran with other code, arguments or prerequisites than there are now, in
            the order of requirement, with the reason: "code changed: …", "arguments changed: …",
            "upstream changed: …", or "unknown: …" for a call that cannot be compared. Of a queue
            with a store, also what that could not give back.

        Notes
        -----
        Code is the function's own, of the functions and classes of the notebook that it calls,
        and the plain values that it reads there. What an argument held is looked at when the
        first question comes; a list that was changed in place before that looks as it does now.

        Examples
        --------
        >>> load = Task("load", lambda rows: rows, func_args=(3,))
        >>> total = Task("total", abs, func_args=(load,))
        >>> queue = TaskQueue(load, total)
        >>> [*queue.run()] and queue.stale()
        {}
        >>> load.func_args = (4,)
        >>> list(queue.stale().values())
        ["arguments changed: argument 'rows' changed", "upstream changed: 'load'"]
        """
        return repair.stale_among(self.tasks, self._not_taken_back())

    def _not_taken_back(self) -> dict[Task, str]:
        """Return the pending tasks whose stored results do not count any more, and why."""
        changed = {} if self._store is None else self._store.changed
        return {task: why for task, why in changed.items() if task.fsm_state == "PENDING"}

    def refresh(self, *, unknown: bool = False) -> Plan:
        """Plan to run again what is out of date.

        Parameters
        ----------
        unknown : bool
            Whether to run those too of which nobody can say.

        Returns
        -------
        Plan
            Nothing has changed until `apply()`.
        """
        found = self.stale()
        chosen = [task for task, why in found.items() if unknown or not is_unknown(why)]
        return repair.Plan(lambda: repair.change_of("refresh", *chosen), self, found)

    def _change(self, verb: str, *args: Any, **how: Any) -> Change:
        """Work out what a verb would do here: to members only, and to all that fell if to none."""
        if verb in ("repair", "supply"):
            repair.check_member(args[:1], self._tasks)
            return repair.change_of(verb, *args, **how)
        args = repair.tasks_named(args)
        repair.check_member(args, self._tasks)
        if verb == "retry" and not args:
            args = tuple(task for task in self._down() if repair.has_failed(task))
        return repair.change_of(verb, *args, **how)

    def _mend(self, verb: str, *args: Any, then_run: bool = False, **how: Any) -> tuple[Task, ...]:
        moved = repair.carry_out(lambda: self._change(verb, *args, **how))
        return self._then(moved, then_run=then_run)

    def _down(self) -> list[Task]:
        """Return the members that are failed, cancelled or aborted, in the order they fell."""
        self._fallen = {task: None for task in self._fallen if task.fsm_state in SETTLED - {"DONE"}}
        return list(self._fallen)

    @property
    def deeds(self) -> tuple[Deed, ...]:
        """The verbs that were carried out on tasks of this queue, oldest first."""
        return tuple(self._deeds)

    def journal(self) -> list[Entry]:
        """Return every transition of the tasks and every verb, oldest first.

        Those of earlier kernels are in it if the queue has a store.
        """
        verbs = [] if self._store is None else self._store.verbs()
        earlier = [verb for verb in verbs if verb[0] < self._made]
        return repair.journal_of(self.tasks, self._deeds, earlier)

    def history(self, when: float | None = None) -> dict[Task, str]:
        """Return the states of the tasks at a moment.

        Parameters
        ----------
        when : float, optional
            In seconds since the epoch, as in the journal; by default now.

        Returns
        -------
        dict
            Each task with its state then; one that came later, with its first state.

        Examples
        --------
        >>> load = Task("load", lambda: 1)
        >>> queue = TaskQueue(load)
        >>> _ = [*queue.run()]
        >>> [queue.history(entry.when)[load] for entry in queue.journal()]
        ['RUNNING', 'DONE']
        """
        if when is None:
            return {task: task.fsm_state for task in self.tasks}
        if not isinstance(when, (int, float)):
            message = f"a moment is a number of seconds since the epoch, not {shorten(when)}"
            raise TypeError(message)
        return {task: repair.state_at(task, when) for task in self.tasks}

    def _then(self, moved: tuple[Task, ...], *, then_run: bool) -> tuple[Task, ...]:
        """Go on in the background, in the way of the last start, unless that is still going on."""
        with GRAPH_LOCK:
            self._wake()
            run = self._background
            is_going_on = run is not None and not run.stopped
        if then_run and not is_going_on:
            with suppress(TaskError):  # somebody else started it meanwhile, which is as good
                self.start(**self._last_options)
        return moved

    # -- the picture -------------------------------------------------------------------------

    def as_dot(self, name: str | None = None, **options: Any) -> str:
        """Return the DOT of the tasks; the options are those of `Task.tasks_as_dot`."""
        return Task.tasks_as_dot(self, name or self.name, **options)

    def as_svg(self, name: str | None = None, **options: Any) -> str:
        """Return a picture of the tasks as SVG; the options are those of `Task.tasks_as_dot`."""
        return Task.tasks_as_svg(self, name or self.name, **options)

    def _exported(self) -> TaskQueue:
        return self

    def widget(self) -> TaskGraph:
        """Return the live view of this queue; always the same one, until it is closed."""
        from taskqueue_nb.widget import widget_of  # noqa: PLC0415 - the widget is a layer above

        return widget_of(self)

    def progress(self) -> TaskGraph | Bar:
        """Show how far the queue is, until its run has ended or nothing is left to run.

        Returns
        -------
        TaskGraph or Bar
            In a notebook the live view, which is shown where it ends a cell; elsewhere a bar, which
            is there already: `queue.start().progress()`, or `with queue.progress(): ...`.
        """
        from taskqueue_nb.progress import progress_of  # noqa: PLC0415 - progress is a layer above

        return progress_of(self)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        from taskqueue_nb.reprs import mimebundle  # noqa: PLC0415 - reprs is a layer above

        return mimebundle(self, include, exclude)

    def _ipython_display_(self) -> None:
        from taskqueue_nb.widget import show  # noqa: PLC0415 - the widget is a layer above

        show(self)

    def _display_(self) -> object:  # marimo asks for this
        from taskqueue_nb.widget import shown_in_marimo  # noqa: PLC0415 - the widget is a layer above

        return shown_in_marimo(self)
