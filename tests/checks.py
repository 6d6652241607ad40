"""What is always true of tasks, and how a test starts threads that cannot outlive it."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, Final

from graphs import Graph
from taskqueue_nb import FSMTransitionEvent, Task, TaskQueue
from taskqueue_nb.task import FSM_TRANSITIONS

#: Seconds that anything waited for may take before the test says that it hangs.
LIMIT: Final = 20.0

EVENTS: Final = tuple(sorted({event for row in FSM_TRANSITIONS.values() for event in row}))


class Calls:
    """Functions for tasks, which note that they were called, in order, and fail when told to.

    Examples
    --------
    >>> calls = Calls(failing={"b"})
    >>> calls["a"]()
    'a'
    >>> calls.names
    ['a']
    """

    def __init__(self, failing: Iterable[str] = ()) -> None:
        self.names: list[str] = []
        self.failing = set(failing)

    def __getitem__(self, name: str) -> Callable[..., str]:
        """Return the function of the task of this name, which returns the name."""

        def work(*_args: object) -> str:
            self.names.append(name)
            if name in self.failing:
                raise RuntimeError(f"{name} was told to fail")
            return name

        return work

    @property
    def counts(self) -> Counter[str]:
        """How often each was called."""
        return Counter(self.names)


def build(graph: Graph, calls: Calls, **options: Any) -> dict[str, Task]:
    """Return the tasks of a graph by name, in its order; requirements may come later in it."""
    tasks = {name: Task(name, calls[name], **options) for name in graph}
    for name, required in graph.items():
        for other in required:
            tasks[name].require(tasks[other])
    return tasks


def states(tasks: Iterable[Task] | dict[str, Task]) -> dict[str, str]:
    """Return the tasks' states by name."""
    members = tasks.values() if isinstance(tasks, dict) else tasks
    return {task.name: task.fsm_state for task in members}


def run(queue: TaskQueue, **options: Any) -> list[str]:
    """Run to the end in the caller's thread; return the names in the order they completed."""
    return [task.name for task in queue.run(**options)]


def at_once(count: int, work: Callable[..., Any], limit: float = LIMIT) -> list[Any]:
    """Call `work(i)` in `count` threads that start together; return what each returned or raised.

    A thread that does not end within `limit` seconds fails the test.
    """
    outcomes: list[Any] = [None] * count
    start = threading.Barrier(count)

    def body(place: int) -> None:
        start.wait(limit)
        try:
            outcomes[place] = work(place)
        except BaseException as error:
            outcomes[place] = error

    threads = [threading.Thread(target=body, args=(i,), daemon=True) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(limit)
    assert not [thread.name for thread in threads if thread.is_alive()], "a thread hangs"
    return outcomes


class Background:
    """One call in a thread of its own, whose outcome can be asked for."""

    def __init__(self, work: Callable[[], Any]) -> None:
        self._work = work
        self._outcome: Any = None
        self._error: BaseException | None = None
        self.thread = threading.Thread(target=self._body, daemon=True)
        self.thread.start()

    def _body(self) -> None:
        try:
            self._outcome = self._work()
        except BaseException as error:
            self._error = error

    def join(self, limit: float = LIMIT) -> Any:
        """Wait for the end; return what it returned, or raise what it raised."""
        self.thread.join(limit)
        assert not self.thread.is_alive(), "the call hangs"
        if self._error is not None:
            raise self._error
        return self._outcome


def wait_for(event: threading.Event, what: str = "an event", limit: float = LIMIT) -> None:
    """Wait until the event is set; fail the test when it is not in time."""
    assert event.wait(limit), f"{what} did not happen within {limit} s"


def until(is_so: Callable[[], Any], what: str, limit: float = LIMIT) -> Any:
    """Look again and again, as nobody tells what another process has done; return what is true."""
    end = time.monotonic() + limit
    while not (found := is_so()):
        assert time.monotonic() < end, f"{what} did not happen within {limit} s"
        time.sleep(0.01)
    return found


def keys_there(client: Any) -> set[str]:
    """Return the keys that the scheduler of a Dask cluster knows."""
    return set(client.run_on_scheduler(lambda dask_scheduler: list(dask_scheduler.tasks)))


def await_state(task: Task, *wanted: str, limit: float = LIMIT) -> None:
    """Wait until the task is in one of the states, or has been since it was made."""
    reached = threading.Event()

    def look(_task: Task, step: FSMTransitionEvent) -> None:
        if step.new_state in wanted:
            reached.set()

    task.fsm_callback(Task.FSM_ANY_STATE, look)
    try:
        if not any(step.new_state in wanted for step in list(task.fsm_history)):
            wait_for(reached, f"{task} in {wanted}", limit)
    finally:
        task.fsm_callback_discard(Task.FSM_ANY_STATE, look)


def check_history(task: Task, initial: str = "PENDING") -> None:
    """Check that the history is one unbroken walk through the table, up to the state now."""
    state = initial
    for step in task.fsm_history:
        assert step.old_state == state, f"{task}: {step} does not follow {state}"
        assert FSM_TRANSITIONS[state].get(step.event) == step.new_state, f"{task}: {step}"
        state = step.new_state
    assert state == task.fsm_state


def check_attempts(task: Task) -> None:
    """Check that attempts are numbered from 1, follow each other, and have ended."""
    assert [attempt.number for attempt in task.attempts] == list(range(1, len(task.attempts) + 1))
    before = 0.0
    for attempt in task.attempts:
        assert attempt.outcome in {"DONE", "FAILED", "CANCELLED"}, f"{task}: {attempt}"
        assert attempt.started is not None, f"{task}: {attempt}"
        assert attempt.ended is not None, f"{task}: {attempt}"
        assert before <= attempt.started <= attempt.ended, f"{task}: {attempt}"
        assert (attempt.error_text is not None) >= (attempt.outcome == "FAILED"), f"{task}"
        before = attempt.ended


def check_links(task: Task) -> None:
    """Check that a requirement is known on both sides, once."""
    assert len(set(task.required)) == len(task.required)
    assert len(set(task.blocking)) == len(task.blocking)
    for other in task.required:
        assert task in other.blocking, f"{other} does not know that {task} requires it"
    for other in task.blocking:
        assert task in other.required, f"{other} does not know that it requires {task}"


def check_order(task: Task) -> None:
    """Check that what a done task requires was done before the task started."""
    last = task.fsm_history[-1] if task.fsm_history else None
    if last is None or last.event != "done":
        return  # not run, or its value was given by hand
    started = next(s.when for s in reversed(task.fsm_history) if s.event == "dispatch")
    for other in task.required:
        assert other.is_done, f"{task} is done, and {other} is not"
        if other.fsm_history:
            assert other.fsm_history[-1].when <= started, f"{task} started before {other} ended"


def check_settled(tasks: Iterable[Task]) -> None:
    """Check that nothing is in the middle, and that every invariant of a task holds."""
    for task in tasks:
        assert not task.is_running, f"{task} is running after the run"
        assert not task.is_queued, f"{task} is queued after the run"
        initial = task.fsm_history[0].old_state if task.fsm_history else task.fsm_state
        check_history(task, initial)
        check_attempts(task)
        check_links(task)
        check_order(task)
