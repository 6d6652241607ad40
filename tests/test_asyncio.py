"""Coroutine functions as tasks: on the running loop, on a private one, cancelled, awaited."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import ProcessPoolExecutor
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
from jupyter_client.manager import start_new_kernel

from checks import LIMIT, Background, at_once, await_state, check_settled, states, wait_for
from graphs import GRAPHS, Graph
from taskqueue_nb import (
    CancellationError,
    FSMError,
    FSMTransitionEvent,
    RunState,
    Task,
    TaskError,
    TaskQueue,
    make_now,
)

if TYPE_CHECKING:
    from conftest import MakeQueue

pytestmark = pytest.mark.usefixtures("no_threads_left")


def on_loop(work: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine on an event loop of the test's, which it may not outlive."""

    async def bounded() -> Any:
        async with asyncio.timeout(LIMIT):
            return await work

    return asyncio.run(bounded())


def in_a_process(code: str) -> str:
    """Run a program and return what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


async def turns_until(is_so: Callable[[], object]) -> None:
    """Let the loop turn until something is so."""
    while not is_so():  # noqa: ASYNC110 - whatever may be so, it has no event
        await asyncio.sleep(0.001)


def by_arun(queue: TaskQueue) -> object:
    """Run on an event loop."""
    return on_loop(queue.arun())


def inside_a_loop(queue: TaskQueue) -> object:
    """Run as a notebook's cell does: in a thread whose event loop is running already."""

    async def cell() -> list[Task]:
        return list(queue.run())

    return on_loop(cell())


#: The ways to run a queue of coroutine functions to its end.
WAYS: Final[dict[str, Callable[[TaskQueue], object]]] = {
    "run": lambda queue: list(queue.run()),
    "run, 3 threads": lambda queue: list(queue.run(executor=3)),
    "run in a running loop": inside_a_loop,
    "start": lambda queue: queue.start().wait(LIMIT),
    "start, 3 threads": lambda queue: queue.start(executor=3).wait(LIMIT),
    "step": lambda queue: list(iter(queue.step, None)),
    "arun": by_arun,
    "arun, limit": lambda queue: on_loop(queue.arun(limit=2)),
    "make": lambda queue: make_now(*queue),
}


class Later:
    """Coroutine functions for the `queue` fixture, which note their calls."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.failing: set[str] = set()

    def __getitem__(self, name: str) -> Callable[..., Any]:
        async def work(*_: object) -> str:
            await asyncio.sleep(0)
            self.names.append(name)
            if name in self.failing:
                raise RuntimeError(f"{name} was told to fail")
            return name

        return work


# ------------------------------------------------------------------------------- running to the end
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("example", GRAPHS.values(), ids=GRAPHS)
def test_every_way_awaits_every_graph(
    queue: MakeQueue, example: Graph, way: Callable[[TaskQueue], object]
) -> None:
    """Each coroutine once, all DONE with what it returned, requirements first (see the fixture)."""
    later = Later()
    q = queue(example, later)  # type: ignore[arg-type]  # it gives functions by name, as Calls does

    way(q)

    assert q.counts() == {"DONE": len(example)}
    assert sorted(later.names) == sorted(example)
    assert {task.name: task.value for task in q} == {name: name for name in example}


class Callee:
    """An object whose call gives a coroutine."""

    async def __call__(self, number: int) -> int:
        """Return the number, a turn later."""
        await asyncio.sleep(0)
        return number

    async def method(self, number: int) -> int:
        """Return the number."""
        return await self(number)


async def given(number: int) -> int:
    """Return the number, a turn later."""
    return await Callee()(number)


COROUTINE_FUNCTIONS: Final[dict[str, Callable[..., Any]]] = {
    "async def": given,
    "partial": functools.partial(given),
    "bound method": Callee().method,
    "callable object": Callee(),
    "lambda": lambda number: given(number),  # noqa: PLW0108 - a plain function is what is tested
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("func", COROUTINE_FUNCTIONS.values(), ids=COROUTINE_FUNCTIONS)
def test_whatever_returns_a_coroutine_is_awaited(
    func: Callable[..., Any], way: Callable[[TaskQueue], object]
) -> None:
    """Nobody wants the coroutine object for a result; any other awaitable is the value itself."""
    task = Task("given", func, func_args=(7,))

    way(TaskQueue(task))

    assert task.value == 7


def test_a_coroutine_function_may_run_in_another_process() -> None:
    """A task's own executor wins; there it is awaited on a loop of that process."""
    with ProcessPoolExecutor(1) as pool:
        task = Task(os_loop, func_args=(os.getpid(),), executor=pool)
        plain = Task(given, func_args=(7,))
        list(TaskQueue(task, plain).run())

    assert task.value == (True, False)
    assert plain.value == 7


def test_a_coroutine_function_may_run_in_a_worker_process() -> None:
    """The same with processes of our own; with the queue's executor it stays here, on the loop."""
    task, here = (Task(os_loop, func_args=(os.getpid(),)) for _ in range(2))
    task.executor = "processes:1"

    list(TaskQueue(task, here, executor="processes:1").run())

    assert task.value == (True, False)
    assert here.value == (True, True)


async def os_loop(home: int) -> tuple[bool, bool]:
    """Say whether a loop runs, and whether that is in the process of the tests."""
    await asyncio.sleep(0)
    return asyncio.get_running_loop().is_running(), os.getpid() == home


@pytest.mark.parametrize("call", [Task.dispatch, Task.callif, Task.make, Task.call, Task.run])
def test_a_single_task_is_awaited_too(call: Callable[[Task], object]) -> None:
    """Whatever runs a task in this thread waits for its coroutine, in a running loop as well."""
    first, second = (Task("given", given, func_args=(7,)) for _ in range(2))

    async def cell() -> None:
        call(second)

    call(first)
    on_loop(cell())

    assert first.value == second.value == 7


def test_bg_and_a_running_task_that_is_run_again_are_awaited() -> None:
    """`bg` in its thread; `run` of an aborted task gives the value without a step."""
    task, aborted = Task(given, func_args=(7,)), Task(given, func_args=(8,), state="ABORT")

    task.bg().join(LIMIT)

    assert task.value == 7
    assert aborted.run() == 8
    assert aborted.fsm_history == []


def test_arun_returns_the_tasks_in_the_order_in_which_they_completed() -> None:
    """The quicker first, whatever the order in the queue; `arun_iter` yields them as they come."""

    def both() -> TaskQueue:
        gate = asyncio.Event()

        async def quick() -> None:
            gate.set()

        return TaskQueue(Task("slow", gate.wait), Task(quick))

    async def names() -> list[str]:
        return [task.name async for task in both().arun_iter()]

    assert [task.name for task in on_loop(both().arun())] == ["quick", "slow"]
    assert on_loop(names()) == ["quick", "slow"]


@pytest.mark.parametrize("way", ["run", "start", "run, 3 threads", "arun"])
def test_coroutines_run_concurrently(way: str) -> None:
    """Twenty that wait for each other all meet, on one loop."""
    met: list[object] = []
    everybody = asyncio.Event()

    async def meet() -> None:
        met.append(asyncio.get_running_loop())
        if len(met) == 20:
            everybody.set()
        async with asyncio.timeout(LIMIT):
            await everybody.wait()

    queue = TaskQueue(*(Task(f"meet {i}", meet) for i in range(20)))

    WAYS[way](queue)

    assert queue.counts() == {"DONE": 20}
    assert len(set(met)) == 1


@pytest.mark.parametrize("limit", [1, 3])
def test_arun_runs_no_more_than_its_limit_at_a_time(limit: int) -> None:
    """Coroutines and plain functions together."""
    lock, now, most = threading.Lock(), 0, 0

    def count(change: int) -> None:
        nonlocal now, most
        with lock:
            now += change
            most = max(most, now)

    async def work() -> None:
        count(1)
        for _ in range(3):
            await asyncio.sleep(0)
        count(-1)

    def plain() -> None:
        count(1)
        count(-1)

    queue = TaskQueue(*(Task(f"{i}", work if i % 2 else plain) for i in range(12)))

    on_loop(queue.arun(limit=limit))

    assert queue.counts() == {"DONE": 12}
    assert 1 <= most <= limit


@pytest.mark.parametrize("limit", [0, -1, 1.5, "3"])
def test_a_limit_is_a_number_of_tasks(limit: Any) -> None:
    """Anything else is refused at once, before anything is awaited."""
    with pytest.raises(ValueError, match="at least 1"):
        TaskQueue().arun_iter(limit=limit)


def test_plain_functions_go_to_threads_so_that_the_loop_stays_alive() -> None:
    """A plain function may even wait for what a coroutine of the same loop does."""
    beaten = threading.Event()

    def plain() -> tuple[bool, bool]:
        return beaten.wait(LIMIT), threading.current_thread() is threading.main_thread()

    async def beat() -> None:
        beaten.set()

    waits = Task(plain)

    on_loop(TaskQueue(waits, Task(beat)).arun())

    assert waits.value == (True, False)


def test_results_pass_between_coroutines_and_plain_functions() -> None:
    """A task as an argument is a prerequisite, whatever kind of function it has."""
    first = Task("first", given, func_args=(3,))
    second = Task("second", lambda number: number + 1, func_args=(first,))
    third = Task("third", given, func_args=(second,))

    on_loop(TaskQueue(third, second, first).arun())

    assert third.value == 4


def test_many_coroutines_leave_the_loop_its_turns() -> None:
    """Beginning a thousand takes several turns, and somebody else's timer is not kept waiting."""
    turns = 0
    running = True

    async def count() -> None:
        nonlocal turns
        while running:
            turns += 1
            await asyncio.sleep(0)

    async def both() -> None:
        nonlocal running
        counting = asyncio.create_task(count())
        await TaskQueue(*(Task(f"{i}", asyncio.sleep, func_args=(0,)) for i in range(1000))).arun()
        running = False
        await counting

    on_loop(both())

    assert turns > 10


# ---------------------------------------------------------------------------------- what goes wrong
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_a_failed_coroutine_blocks_its_dependents_alone(
    queue: MakeQueue, way: Callable[[TaskQueue], object]
) -> None:
    """The error is kept; repaired and retried, only what has to run runs again."""
    later = Later()
    later.failing.add("left")
    q = queue(GRAPHS["diamond"], later)  # type: ignore[arg-type]  # as above
    top, left, right, bottom = q

    way(q)
    assert states(q)["left"] == "FAILED"
    assert "left was told to fail" in str(left.exception)
    assert left.attempts[0].error_text is not None
    assert 'raise RuntimeError(f"{name} was told' in left.attempts[0].error_text
    assert "taskqueue_nb/loops.py" not in left.attempts[0].error_text
    assert (top.fsm_state, right.fsm_state) == ("DONE", "DONE")
    later.failing.clear()
    if bottom.fsm_state == "PENDING":
        q.retry(left)
    else:
        q.retry(left, bottom)  # `make` fails what is blocked
    way(q)

    assert q.counts() == {"DONE": 4}
    assert sorted(later.names) == ["bottom", "left", "left", "right", "top"]


ERRORS: Final = [
    BaseException("base"),
    GeneratorExit("exit"),
    StopIteration("stop"),
    MemoryError("memory"),
    RecursionError("deep"),
    ValueError("value"),
]


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_whatever_a_coroutine_raises_fails_it(
    error: BaseException, way: Callable[[TaskQueue], object]
) -> None:
    """It is FAILED, others run, and the loop lives."""

    async def broken() -> None:
        await asyncio.sleep(0)
        raise error

    task, other = Task(broken), Task(given, func_args=(1,))

    way(TaskQueue(task, other))

    assert (task.fsm_state, other.fsm_state) == ("FAILED", "DONE")


@pytest.mark.parametrize("way", ["run", "run, 3 threads", "start", "make"])
def test_an_exit_in_a_private_loop_fails_the_task(way: str) -> None:
    """As in a worker's thread: nobody's kernel ends."""

    async def leaves() -> None:
        raise SystemExit(3)

    task, other = Task(leaves), Task(given, func_args=(1,))

    if way == "make":  # it waits in the caller's thread, so the caller hears of it
        with pytest.raises(SystemExit):
            make_now(task)
        make_now(other)
    else:
        WAYS[way](TaskQueue(task, other))

    assert (task.fsm_state, other.fsm_state) == ("FAILED", "DONE")


@pytest.mark.parametrize(
    ("error", "state"), [(KeyboardInterrupt(), "CANCELLED"), (SystemExit(3), "FAILED")], ids=repr
)
def test_an_exit_in_the_callers_loop_settles_the_task_and_goes_on(
    error: BaseException, state: str
) -> None:
    """What else runs is cut off as by an interrupt; a retry completes all."""
    stopped: list[str] = []
    good = False

    async def leaves() -> None:
        await asyncio.sleep(0)
        if not good:
            raise error

    async def waits() -> None:
        if not good:
            try:
                await asyncio.sleep(LIMIT)
            finally:
                stopped.append("cleaned up")

    task, other = Task(leaves), Task(waits)
    queue = TaskQueue(task, other)

    with pytest.raises(type(error)):
        on_loop(queue.arun())

    assert (task.fsm_state, other.fsm_state) == (state, "CANCELLED")
    assert stopped == ["cleaned up"]
    assert not queue.running
    good = True
    queue.retry()
    on_loop(queue.arun())
    assert queue.counts() == {"DONE": 2}


def test_cancel_on_result_judges_what_was_awaited() -> None:
    """Not the coroutine; and a judgement that raises fails the task."""
    seen: list[object] = []

    def judge(value: object) -> bool:
        seen.append(value)
        return value == 7

    gives_up = Task("gives up", given, func_args=(7,), cancel_on_result=judge)
    good = Task("good", given, func_args=(8,), cancel_on_result=judge)
    broken = Task("broken", given, func_args=(0,), cancel_on_result=lambda value: 1 / value)

    on_loop(TaskQueue(gives_up, good, broken).arun())

    assert seen == [7, 8]
    assert [t.fsm_state for t in (gives_up, good, broken)] == ["CANCELLED", "DONE", "FAILED"]


def test_fail_fast_starts_nothing_more() -> None:
    """What runs already is finished."""

    async def broken() -> None:
        raise ValueError

    first = Task(broken)
    queue = TaskQueue(first, *(Task(f"{i}", given, func_args=(i,)) for i in range(5)))

    on_loop(queue.arun(fail_fast=True, limit=1))

    assert queue.counts() == {"PENDING": 5, "FAILED": 1}


@pytest.mark.parametrize("way", ["run", "arun", "start"])
def test_retries_and_their_delay_do_not_hold_others_up(way: str) -> None:
    """While one waits for its next attempt, the other goes on."""
    order: list[str] = []

    async def flaky() -> None:
        order.append("flaky")
        if len(task.attempts) < 3:
            raise ValueError

    async def steady() -> None:
        order.append("steady")

    task = Task(flaky, retries=2, retry_delay=0.05)
    queue = TaskQueue(task, Task("steady 1", steady), Task("steady 2", steady))

    WAYS[way](queue)

    assert order == ["flaky", "steady", "steady", "flaky", "flaky"]
    assert [attempt.outcome for attempt in task.attempts] == ["FAILED", "FAILED", "DONE"]


FORKS: Final = """
import asyncio, os, sys
from taskqueue_nb import Task, TaskQueue

async def forks(code):
    await asyncio.sleep(0)
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code:
        sys.exit(code)
    return "unwanted"

tasks = [Task(f"{code}", forks, func_args=(code,)) for code in (0, 7)]
WAY
print([task.value for task in tasks])
"""


@pytest.mark.parametrize(
    "way", ["list(TaskQueue(*tasks).run())", "asyncio.run(TaskQueue(*tasks).arun())"]
)
def test_a_child_that_a_coroutine_forks_ends_by_itself(way: str) -> None:
    """One result, printed once; the child's exit is its own."""
    assert in_a_process(FORKS.replace("WAY", way)) == "[0, 7]\n"


def test_a_coroutine_is_dispatched_once_by_sixteen_threads() -> None:
    """One run, fifteen refusals."""
    calls: list[int] = []

    async def work() -> None:
        calls.append(1)

    task = Task(work)

    outcomes = at_once(16, lambda _: task.dispatch())

    assert calls == [1]
    assert sum(isinstance(outcome, FSMError) for outcome in outcomes) == 15


OUTCOMES: Final[dict[str, tuple[Callable[[], object], type[BaseException] | None]]] = {
    "done": (lambda: None, None),
    "failed": (lambda: 1 / 0, ZeroDivisionError),
    "cancelled": (lambda: Task.current().cancel(), CancellationError),  # type: ignore[union-attr]  # it runs as a task
}


@pytest.mark.parametrize(("act", "error"), OUTCOMES.values(), ids=OUTCOMES)
def test_all_who_wait_for_a_coroutine_are_woken(
    act: Callable[[], object], error: type[BaseException] | None
) -> None:
    """Five threads in `result()`, and one coroutine in `await`."""
    gate = threading.Event()

    async def work() -> None:
        await asyncio.to_thread(gate.wait, LIMIT)
        act()

    async def waits() -> None:
        await task

    task = Task(work)
    queue = TaskQueue(task).start()
    waiting = [Background(task.result) for _ in range(5)]
    waiting.append(Background(lambda: on_loop(waits())))
    gate.set()

    for one in waiting:
        if error is None:
            one.join()
        else:
            with pytest.raises(error):
                one.join()
    assert queue.wait(LIMIT)


@pytest.mark.slow
@pytest.mark.parametrize("is_async", [False, True], ids=["16 threads", "a loop"])
def test_a_hundred_thousand_transitions_are_all_heard_in_order(is_async: bool) -> None:
    """Every callback in the order of its task's steps, every function called once."""
    count = 50_000
    calls = [0] * count
    heard: list[list[str]] = [[] for _ in range(count)]

    def plain(number: int) -> None:
        calls[number] += 1

    async def later(number: int) -> None:
        calls[number] += 1

    def listener(number: int) -> Callable[[Task, FSMTransitionEvent], None]:
        return lambda _task, step: heard[number].append(f"{step.old_state}>{step.new_state}")

    tasks = [
        Task(f"{i}", later if is_async else plain, func_args=(i,), track=listener(i))
        for i in range(count)
    ]
    for i, task in enumerate(tasks[1:], start=1):
        task.require(tasks[(i * 7_919) % i])
    queue = TaskQueue(*tasks)

    if is_async:
        asyncio.run(queue.arun())
    else:
        list(queue.run(executor=16))

    assert calls == [1] * count
    assert heard == [["PENDING>RUNNING", "RUNNING>DONE"]] * count


# ---------------------------------------------------------------------------------- cancel, timeout
class Patient:
    """A coroutine function that waits until it is cancelled, and notes that it was."""

    def __init__(self) -> None:
        self.started = threading.Event()
        self.cancelled = threading.Event()

    async def __call__(self) -> None:
        """Wait."""
        self.started.set()
        try:
            await asyncio.sleep(LIMIT)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise


@pytest.mark.parametrize("way", ["run", "start", "start, 3 threads", "arun", "make"])
def test_a_cancel_from_another_thread_ends_the_coroutine(way: str) -> None:
    """It is really cancelled, the task CANCELLED, and the run goes on with the others."""
    patient = Patient()
    task, other = Task("patient", patient), Task("other", given, func_args=(1,))
    running = Background(lambda: WAYS[way](TaskQueue(task, other)))
    wait_for(patient.started)

    task.cancel()
    await_state(task, "CANCELLED")
    running.join()

    assert patient.cancelled.is_set()
    assert task.fsm_history[-1].extra["because"] == "asked to stop"
    assert other.fsm_state == "DONE"
    with pytest.raises(CancellationError):
        task.result()


def test_a_cancel_on_the_loop_itself_works_within_a_turn() -> None:
    """`task.cancel()` in a coroutine; the next turn finds it CANCELLED."""
    patient = Patient()
    task = Task(patient)

    async def cell() -> None:
        running = asyncio.create_task(TaskQueue(task).arun())
        await turns_until(patient.started.is_set)
        task.cancel()
        await asyncio.sleep(0)
        assert task.fsm_state == "CANCELLED"
        await running

    on_loop(cell())


def test_a_coroutine_may_cancel_itself_and_be_deaf_to_a_cancel() -> None:
    """Its answer is dropped either way: what was asked to stop is CANCELLED."""

    async def itself() -> str:
        Task.current().cancel()  # type: ignore[union-attr]  # it runs as a task
        return "unwanted"

    async def deaf() -> str:
        try:
            await asyncio.sleep(LIMIT)
        except asyncio.CancelledError:
            return "still here"
        return "never"

    one, two = Task(itself), Task(deaf)

    async def cell() -> None:
        running = asyncio.create_task(TaskQueue(one, two).arun())
        await turns_until(lambda: two.fsm_state == "RUNNING")
        await asyncio.sleep(0)
        two.cancel()
        await running

    on_loop(cell())

    assert (one.fsm_state, two.fsm_state) == ("CANCELLED", "CANCELLED")


def test_a_task_that_is_cancelled_before_its_first_turn_never_runs() -> None:
    """Neither a warning about a coroutine never awaited, nor a hang."""
    ran: list[str] = []

    async def never() -> None:
        ran.append("never")

    async def cell() -> None:
        running = asyncio.create_task(queue.arun())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        if task.fsm_state == "RUNNING":
            task.cancel()
        await running

    def cancel(task: Task, _: object) -> None:
        task.cancel()

    task = Task(never)
    task.fsm_callback("RUNNING", cancel)
    queue = TaskQueue(task)
    on_loop(cell())

    assert task.fsm_state == "CANCELLED"
    assert ran == []


@pytest.mark.parametrize("way", ["run", "start", "arun", "make"])
def test_a_timeout_cancels_the_coroutine(way: str) -> None:
    """The attempt has failed, and the coroutine hears of it."""
    patient = Patient()
    task = Task("patient", patient, timeout=0.05)

    WAYS[way](TaskQueue(task))

    assert task.fsm_state == "FAILED"
    assert isinstance(task.exception, TimeoutError)
    assert "0.05 s" in str(task.exception)
    wait_for(patient.cancelled)
    assert task.attempts[0].late is None


def test_the_late_answer_of_a_deaf_coroutine_is_dropped_and_noted() -> None:
    """It goes on after its timeout; the run does not wait for it."""
    gate = asyncio.Event()

    async def deaf() -> str:
        try:
            await asyncio.sleep(LIMIT)
        except asyncio.CancelledError:
            await gate.wait()
        return "late"

    task = Task(deaf, timeout=0.02)

    async def cell() -> None:
        await TaskQueue(task).arun()
        assert task.fsm_state == "FAILED"
        gate.set()
        for _ in range(5):
            await asyncio.sleep(0)

    on_loop(cell())

    assert task.attempts[0].late == "it returned"
    assert task.fsm_state == "FAILED"


def test_a_deaf_coroutine_does_not_hold_a_private_loop_for_ever() -> None:
    """The run ends within its second of grace; nothing is RUNNING."""

    async def deaf() -> None:
        for _ in range(3):
            try:
                await asyncio.sleep(0.6)
            except asyncio.CancelledError:
                continue

    task = Task(deaf, timeout=0.02)

    assert TaskQueue(task).start().wait(LIMIT)
    assert task.fsm_state == "FAILED"


def test_cancelling_the_awaiting_task_cancels_what_it_runs() -> None:
    """All that ran is CANCELLED, interrupted; the rest is PENDING; a retry completes everything."""
    patient = Patient()
    release, entered = threading.Event(), threading.Event()

    def blocks() -> None:
        entered.set()
        release.wait(LIMIT)

    tasks = [Task("patient", patient), Task("blocks", blocks), Task("done", given, func_args=(1,))]
    behind = tasks[0].then("behind", given, func_args=(2,))
    queue = TaskQueue(*tasks, behind)

    async def cell() -> None:
        running = asyncio.create_task(queue.arun())
        await turns_until(
            lambda: patient.started.is_set() and entered.is_set() and tasks[2].is_done
        )
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert states(queue) == {
            "patient": "CANCELLED", "blocks": "CANCELLED", "done": "DONE", "behind": "PENDING",
        }  # fmt: skip
        release.set()

    on_loop(cell())

    assert patient.cancelled.is_set()
    assert [t.fsm_history[-1].extra["because"] for t in tasks[:2]] == ["interrupted"] * 2
    assert not queue.running
    queue.repair(tasks[0], func=list)
    queue.retry()
    on_loop(queue.arun())
    assert queue.counts() == {"DONE": 4}
    check_settled(queue)


def test_the_end_of_the_loop_cancels_what_runs_on_it() -> None:
    """As `asyncio.run` does to what is left when its coroutine returns."""
    patient = Patient()
    task = Task(patient)

    async def cell() -> None:
        running = asyncio.create_task(TaskQueue(task).arun())
        await turns_until(patient.started.is_set)
        assert not running.done()

    on_loop(cell())

    assert task.fsm_state == "CANCELLED"
    assert task.fsm_history[-1].extra["because"] == "interrupted"


def test_a_coroutine_that_gives_itself_up_is_cancelled() -> None:
    """A CancelledError of its own making is no failure, and no interrupt."""

    async def gives_up() -> None:
        raise asyncio.CancelledError

    task = Task(gives_up)

    on_loop(TaskQueue(task, Task(given, func_args=(1,))).arun())

    assert task.fsm_state == "CANCELLED"
    assert task.fsm_history[-1].extra["because"] != "interrupted"


INTERRUPTS: Final = """
import asyncio, random, signal
from collections import Counter
from taskqueue_nb import Task, TaskQueue

draw = random.Random(3)
hits = 0
signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(signal.SIGINT))
for round in range(100):
    done = Counter()
    tasks = []
    for i in range(60):
        async def work(i=i):
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            done.update([i])
        task = Task(f"t{i}", work if i % 3 else lambda i=i: done.update([i]))
        if i:
            task.require(tasks[draw.randrange(i)])
        tasks.append(task)
    queue = TaskQueue(*tasks)

    async def main():
        signal.setitimer(signal.ITIMER_REAL, draw.uniform(0.00002, 0.006))
        try:
            await queue.arun()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)

    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        hits += 1
    assert not queue.running
    assert set(queue.counts()) <= {"DONE", "PENDING", "CANCELLED"}, queue.counts()
    given_up = [task for task in tasks if task.is_cancelled]
    for task in given_up:
        assert task.fsm_history[-1].extra["because"] == "interrupted", task.fsm_history
    if given_up:
        queue.retry()
    asyncio.run(queue.arun())
    assert queue.counts() == {"DONE": 60}, queue.counts()
    for i, task in enumerate(tasks):
        assert done[i] <= len(task.attempts), (i, done[i], task.attempts)
        assert done[i] == 1 or task in given_up, (i, done[i], task.fsm_history)
assert hits > 10, hits
print("sound")
"""
TWICE: Final = """
import asyncio, signal
from taskqueue_nb import Task, TaskQueue

deaf_to = []

async def deaf():
    if deaf_to:
        return
    signal.raise_signal(signal.SIGINT)
    for _ in range(3):
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            deaf_to.append(1)
            if len(deaf_to) == 1:
                signal.raise_signal(signal.SIGINT)

def good():
    return 1

tasks = [Task(good), Task(deaf)]
tasks[1].require(tasks[0])
behind = tasks[1].then("behind", good)
queue = TaskQueue(*tasks, behind)
try:
    asyncio.run(queue.arun(limit=1))
except KeyboardInterrupt:
    print("interrupted")
print([task.fsm_state for task in queue], queue.running)
queue.retry()
asyncio.run(queue.arun())
print(queue.counts())
"""


def test_ctrl_c_at_any_moment_of_arun_leaves_every_task_sound() -> None:
    """A hundred interrupts: what ran is CANCELLED, nothing else has changed, a rerun completes."""
    assert in_a_process(INTERRUPTS) == "sound\n"


def test_a_second_ctrl_c_does_not_wait_for_who_is_deaf_to_the_first() -> None:
    """What is RUNNING becomes CANCELLED, and nothing else changes."""
    lines = in_a_process(TWICE).splitlines()

    assert lines == [
        "interrupted",
        "['DONE', 'CANCELLED', 'PENDING'] False",
        "{'DONE': 3}",
    ]


def test_the_stop_button_of_a_kernel_is_heard_at_once() -> None:
    """Ipykernel only cancels the cell's future; a loop that sleeps on would hear it too late."""
    manager, client = start_new_kernel(kernel_name="python3")
    cells = [
        (
            "import asyncio; from taskqueue_nb import Task, TaskQueue\n"
            "queue = TaskQueue(Task('long', asyncio.sleep, func_args=(50,)))\n"
            "queue.tasks[0].fsm_callback('RUNNING', lambda *_: print('started', flush=True))\n"
            "await queue.arun()"
        ),
        "print(queue.tasks[0].fsm_history[-1].extra, queue.running)",
    ]
    try:
        printed = ""
        for cell in cells:
            asked = client.execute(cell)
            while True:
                message = client.get_iopub_msg(timeout=LIMIT)
                if message["parent_header"].get("msg_id") != asked:
                    continue
                content = message["content"]
                if message["msg_type"] == "stream":
                    printed += content["text"]
                    if "started" in content["text"]:
                        manager.interrupt_kernel()
                if message["msg_type"] == "status" and content["execution_state"] == "idle":
                    break
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)

    assert printed == "started\n{'because': 'interrupted'} False\n"


# -------------------------------------------------------------------------------- stop, hold, leave
def test_leaving_arun_iter_finishes_what_runs_and_starts_nothing() -> None:
    """No task is in the middle; the next run completes the rest, each once."""
    later = Later()
    tasks = [Task(name, later[name]) for name in "abcde"]
    queue = TaskQueue(*tasks)

    async def cell() -> None:
        async with aclosing(queue.arun_iter(limit=2)) as running:  # type: ignore[type-var]  # it is a generator
            async for _ in running:
                break
        assert not queue.running
        assert set(states(queue).values()) <= {"DONE", "PENDING"}
        assert queue.counts()["PENDING"] >= 2
        await queue.arun()

    on_loop(cell())

    assert sorted(later.names) == list("abcde")


def test_stop_finishes_what_runs_and_stop_with_cancel_cancels_it() -> None:
    """Both from inside a coroutine."""
    patient = Patient()
    first, behind = Task("patient", patient), Task("behind", given, func_args=(1,))
    queue = TaskQueue(first, behind)
    gate = asyncio.Event()
    waits = Task("waits", gate.wait)
    other = TaskQueue(waits, Task("more", given, func_args=(1,)))

    async def stop() -> None:
        running = asyncio.create_task(other.arun(limit=1))
        await turns_until(lambda: waits.fsm_state == "RUNNING")
        other.stop()
        gate.set()
        await running

    async def stop_and_cancel() -> None:
        running = asyncio.create_task(queue.arun(limit=1))
        await turns_until(patient.started.is_set)
        queue.stop(cancel=True)
        await running

    on_loop(stop())
    on_loop(stop_and_cancel())

    assert states(other) == {"waits": "DONE", "more": "PENDING"}
    assert states(queue) == {"patient": "CANCELLED", "behind": "PENDING"}
    assert queue.retry() == (first,)


def test_a_held_queue_waits_for_resume_on_the_loop() -> None:
    """`hold` does not end an `arun`: the loop is free to call `resume`, or `step`."""
    tasks = [Task(name, given, func_args=(1,)) for name in "abc"]
    queue = TaskQueue(*tasks)

    async def cell() -> None:
        queue.hold()
        running = asyncio.create_task(queue.arun())
        for _ in range(5):
            await asyncio.sleep(0)
        assert queue.counts() == {"PENDING": 3}
        assert queue.step() is tasks[0]
        assert not running.done()
        queue.resume()
        assert await running == tasks[1:]

    on_loop(cell())


def test_a_runstate_ends_arun() -> None:
    """What runs is finished."""
    state = RunState("mine")

    async def ends() -> None:
        state.cancel()

    queue = TaskQueue(Task(ends), Task("behind", given, func_args=(1,)))

    on_loop(queue.arun(state, limit=1))

    assert queue.counts() == {"PENDING": 1, "DONE": 1}


def test_leaving_run_waits_for_the_coroutines() -> None:
    """A generator that is closed leaves no task in the middle."""
    later = Later()
    queue = TaskQueue(*(Task(name, later[name]) for name in "abc"))

    running = queue.run()
    next(running)
    running.close()

    assert set(queue.counts()) <= {"DONE", "PENDING"}
    assert not queue.running


# ------------------------------------------------------------------------------------ where it runs
@pytest.mark.parametrize("way", ["run", "start", "start, 3 threads", "arun"])
def test_current_and_output_belong_to_each_coroutine(way: str) -> None:
    """Also in what it awaits; two that print in turns do not bleed into each other."""
    names: dict[str, list[str]] = {}

    async def deeper() -> None:
        task = Task.current()
        assert task is not None
        names.setdefault(task.name, []).append(task.name)
        print(task.name)
        await asyncio.sleep(0)

    async def work() -> None:
        for _ in range(5):
            await deeper()
        await asyncio.gather(deeper(), deeper())

    queue = TaskQueue(*(Task(name, work) for name in "abcd"))

    WAYS[way](queue)

    assert Task.current() is None
    for task in queue:
        assert task.output == f"{task.name}\n" * 7
        assert names[task.name] == [task.name] * 7


VAR: Final[contextvars.ContextVar[str]] = contextvars.ContextVar("var", default="unset")
CONTEXT_WAYS: Final[dict[str, Callable[[TaskQueue], object]]] = {
    **WAYS,
    "run, 2 threads": lambda queue: list(queue.run(executor=2)),
    "bg": lambda queue: [task.join(LIMIT) for task in queue if task.bg()],
}


@pytest.mark.parametrize("way", CONTEXT_WAYS.values(), ids=CONTEXT_WAYS)
@pytest.mark.parametrize("is_async", [False, True], ids=["plain", "coroutine"])
def test_context_variables_are_carried_into_tasks(
    is_async: bool, way: Callable[[TaskQueue], object]
) -> None:
    """Each task has a copy of its own: what it sets, neither the next nor the caller sees."""
    seen: list[str] = []

    def plain() -> None:
        seen.append(VAR.get())
        VAR.set("set by a task")

    async def work() -> None:
        plain()

    queue = TaskQueue(*(Task(f"{i}", work if is_async else plain) for i in range(3)))
    token = VAR.set("the caller's")
    try:
        way(queue)
        assert VAR.get() == "the caller's"
    finally:
        VAR.reset(token)

    assert seen == ["the caller's"] * 3


def test_the_context_is_that_of_whoever_called_run_with_a_pool() -> None:
    """In a thread of an executor, and in the thread that a timeout needs."""
    seen: list[str] = []

    def plain() -> None:
        seen.append(VAR.get())

    queue = TaskQueue(Task("pool", plain, executor=2), Task("limited", plain, timeout=LIMIT))
    contextvars.copy_context().run(lambda: (VAR.set("mine"), list(queue.run())))

    assert seen == ["mine", "mine"]


def test_a_run_inside_a_task_does_not_take_the_tasks_identity_along() -> None:
    """What another queue runs in threads is not the task that started it."""
    seen: list[Task | None] = []
    inner_task = Task("inner", lambda: seen.append(Task.current()) or print("in"))  # type: ignore[func-returns-value]  # it appends

    def outer() -> None:
        TaskQueue(inner_task).start().wait(LIMIT)
        seen.append(Task.current())

    outer_task = Task(outer)

    list(TaskQueue(outer_task).run())

    assert seen == [inner_task, outer_task]
    assert (inner_task.output, outer_task.output) == ("in\n", "")


# ----------------------------------------------------------------------------------------- awaiting
def test_await_task_gives_its_value_or_raises_its_error() -> None:
    """Of one that is done, and of one that runs beside the coroutine."""

    async def broken() -> None:
        await asyncio.sleep(0)
        raise ValueError("no")

    done, fails = Task("done", given, func_args=(7,)), Task(broken)
    done.dispatch()

    async def waits() -> tuple[int, str]:
        value = await done
        try:
            await fails
        except ValueError as error:
            return value, str(error)
        return value, "?"

    task = Task(waits)

    on_loop(TaskQueue(done, fails, task).arun())

    assert task.value == (7, "no")


def test_await_from_outside_a_run_in_the_background() -> None:
    """A cell that started the queue awaits one task of it."""
    task = Task(given, func_args=(7,))
    queue = TaskQueue(task)

    async def cell() -> int:
        queue.start()
        return await task  # type: ignore[no-any-return]  # what the function gives

    assert on_loop(cell()) == 7
    assert queue.wait(LIMIT)


def test_a_task_that_completes_after_its_waiters_loop_has_ended_logs_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Who gave up waiting does not get in the way."""
    gate = threading.Event()
    task = Task(lambda: gate.wait(LIMIT))

    async def cell() -> None:
        task.bg()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.ensure_future(wait_for_it()), 0.01)

    async def wait_for_it() -> None:
        await task

    on_loop(cell())
    gate.set()

    assert task.join(LIMIT)
    assert not caplog.records


def test_a_queue_runs_inside_a_coroutine_of_another() -> None:
    """`await inner.arun()` in a task, and a plain `list(inner.run())`."""
    inner = [TaskQueue(*(Task(f"{i}", given, func_args=(i,)) for i in range(3))) for _ in range(2)]

    async def awaits() -> int:
        return len(await inner[0].arun())

    async def runs() -> int:
        return len(list(inner[1].run()))

    tasks = [Task(awaits), Task(runs)]

    on_loop(TaskQueue(*tasks).arun())

    assert [task.value for task in tasks] == [3, 3]


def test_two_arun_of_one_queue_share_the_work() -> None:
    """Each coroutine runs once."""
    later = Later()
    queue = TaskQueue(*(Task(f"{i}", later[f"{i}"]) for i in range(50)))

    async def both() -> list[list[Task]]:
        return list(await asyncio.gather(queue.arun(limit=3), queue.arun(limit=3)))

    done = on_loop(both())

    assert sorted(later.names) == sorted(task.name for task in queue)
    assert sorted(len(tasks) for tasks in done) != [0, 0]
    assert sum(len(tasks) for tasks in done) == 50


def test_an_executor_that_calls_at_once_on_the_loop_does_not_hang() -> None:
    """A plain function that returns a coroutine, called in the loop's own thread."""
    task = Task("lambda", lambda: given(7), executor=lambda work: work())

    on_loop(TaskQueue(task).arun())

    assert task.value == 7


def test_what_arun_did_is_in_the_store_when_it_returns(tmp_path: Path) -> None:
    """The same tasks in a new queue take their values back."""
    calls: list[int] = []

    async def work(number: int) -> int:
        calls.append(number)
        return await given(number)

    def build() -> TaskQueue:
        tasks = [Task(f"{i}", work, func_args=(i,)) for i in range(3)]
        return TaskQueue(*tasks, store=tmp_path / "run.db")

    first = build()
    on_loop(first.arun())
    assert first.store is not None
    first.store.close()
    second = build()
    assert on_loop(second.arun()) == []
    assert second.store is not None
    second.store.close()

    assert [task.value for task in second] == [0, 1, 2]
    assert sorted(calls) == [0, 1, 2]


def test_async_generators_and_futures_are_values() -> None:
    """Only a coroutine is awaited."""

    async def numbers() -> AsyncIterator[int]:
        yield 1

    task = Task(numbers)

    on_loop(TaskQueue(task).arun())

    assert hasattr(task.value, "__anext__")


# ---------------------------------------------------------------------------------- without threads
@pytest.fixture
def without_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse every thread, as a kernel in a web page does."""

    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("_thread.start_new_thread", refuse)
    monkeypatch.setattr("threading._start_new_thread", refuse)


@pytest.mark.usefixtures("without_threads")
def test_start_without_threads_runs_one_task_per_turn_of_the_loop() -> None:
    """The cell returns before anything ran, and the loop lives between two tasks."""
    order: list[str] = []

    def work(name: str) -> str:
        order.append(name)
        return name

    tasks = [Task(name, work, func_args=(name,)) for name in "abc"]
    behind = Task("d", given, func_args=(4,))
    behind.require(tasks[2])
    queue = TaskQueue(*tasks, behind)

    async def page() -> None:
        assert queue.start() is queue
        assert order == []
        assert queue.running
        while queue.running:
            order.append(".")
            await asyncio.sleep(0)

    on_loop(page())

    assert queue.counts() == {"DONE": 4}
    assert [name for name in order if name != "."] == ["a", "b", "c"]
    assert "".join(order).strip(".").count(".") >= 2
    assert behind.value == 4


@pytest.mark.usefixtures("without_threads")
def test_without_threads_waiting_says_what_would_work() -> None:
    """`wait` would stop the run that it waits for; `await arun()` waits; `stop` stops."""
    queue = TaskQueue(*(Task(f"{i}", list) for i in range(5)))

    async def page() -> None:
        queue.start()
        with pytest.raises(TaskError, match=r"await queue\.arun"):
            queue.wait()
        with pytest.raises(TaskError, match="running already"):
            queue.start()
        await asyncio.sleep(0)
        queue.stop()
        await turns_until(lambda: not queue.running)
        assert 0 < queue.counts()["PENDING"] < 5
        await queue.start().arun()

    on_loop(page())

    assert queue.counts() == {"DONE": 5}
    with pytest.raises(TaskError, match=r"use run\(\)"):
        queue.start()
    assert not queue.running


@pytest.mark.usefixtures("without_threads")
def test_without_threads_a_coroutine_in_run_fails_with_a_sentence() -> None:
    """It cannot be waited for there; nothing is left in the middle."""
    task = Task(given, func_args=(1,))
    single = Task(given, func_args=(1,))

    list(TaskQueue(task).run())
    single.dispatch()

    assert (task.fsm_state, single.fsm_state) == ("FAILED", "FAILED")
    assert "thread" in str(task.exception)


@pytest.mark.usefixtures("without_threads")
def test_without_threads_arun_runs_everything() -> None:
    """Plain functions one per turn, coroutines on the loop."""
    queue = TaskQueue(*(Task(f"{i}", given if i % 2 else int, func_args=(i,)) for i in range(6)))

    on_loop(queue.arun())

    assert [task.value for task in queue] == list(range(6))
