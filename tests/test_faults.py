"""Failures and delays that are injected: once each, everywhere alike, and never lasting."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import cloudpickle
import pytest

from checks import LIMIT, Background, await_state, check_settled, run, states
from taskqueue_nb import FSMError, InjectedError, Task, TaskQueue, task
from taskqueue_nb.task import FSM_TRANSITIONS, PLAIN
from test_executors import EXECUTORS

# What stands here travels by value, as what stands in a notebook does.
cloudpickle.register_pickle_by_value(sys.modules[__name__])

SLOW: Final = 0.3  # seconds
LONG: Final = 60.0  # seconds that no test waits for


def answer(value: int = 3) -> int:
    """Return what is given."""
    return value


async def answer_later(value: int = 3) -> int:
    """Return what is given, after a turn of the loop."""
    await asyncio.sleep(0)
    return value


@pytest.fixture(params=[*EXECUTORS, "ProcessPoolExecutor", "dask"])
def executor(request: pytest.FixtureRequest) -> Iterator[Any]:
    """Give one executor after the other; end it if it is one of ours to end."""
    if request.param == "dask":
        yield request.getfixturevalue("client")
        return
    made = (
        ProcessPoolExecutor(1)
        if request.param == "ProcessPoolExecutor"
        else EXECUTORS[request.param]()
    )
    yield made
    if isinstance(made, (ThreadPoolExecutor, ProcessPoolExecutor)):
        made.shutdown()


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_failure_is_injected_once(executor: Any) -> None:
    """The attempt fails with words that say so, wherever it is made; the next one is as usual."""
    work = Task("work", abs, func_args=(-3,))
    other = Task("other", abs, func_args=(-4,))
    queue = TaskQueue(work, other)
    work.inject(fail=True)

    run(queue, executor=executor)

    assert states(queue) == {"work": "FAILED", "other": "DONE"}
    assert isinstance(work.exception, InjectedError)
    assert "injected by inject(): its function was not called" in str(work.exception)
    assert work.injected is None
    queue.retry()
    run(queue, executor=executor)
    assert work.value == 3
    assert [str(each.fault) for each in work.attempts] == ["will fail: injected", "None"]
    check_settled(queue)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_task_is_slowed_and_then_fails(executor: Any) -> None:
    """It takes as many seconds longer, and fails once its function has returned."""
    work = Task("work", abs, func_args=(-3,))
    queue = TaskQueue(work)
    work.inject(fail="the disk is full", slow=SLOW, after=True)

    run(queue, executor=executor)

    (attempt,) = work.attempts
    assert str(work.exception) == "the disk is full (injected: its function had returned)"
    assert attempt.started is not None
    assert attempt.ended is not None
    assert attempt.ended - attempt.started >= SLOW
    check_settled(queue)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("fail", [False, True])
def test_a_slowed_task_is_cancelled_at_once(executor: Any, fail: bool) -> None:
    """A cancel ends the wait, and the value of the function is dropped."""
    work = Task("work", abs, func_args=(-3,))
    queue = TaskQueue(work)
    work.inject(slow=LONG, fail=fail)
    running = Background(lambda: run(queue, executor=executor))
    await_state(work, "RUNNING")

    work.cancel()

    running.join()
    assert work.fsm_state == "CANCELLED"
    assert work.exception is None
    check_settled(queue)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_timeout_counts_the_delay(executor: Any) -> None:
    """A slowed attempt that takes too long fails by its timeout."""
    work = Task("work", abs, func_args=(-3,), timeout=4.0)
    queue = TaskQueue(work)
    work.inject(slow=LONG)

    run(queue, executor=executor)

    assert isinstance(work.exception, TimeoutError)
    check_settled(queue)


@pytest.mark.parametrize("how", ["arun", "run", "dispatch", "step"])
def test_coroutines_meet_faults_too(how: str) -> None:
    """A coroutine is slowed on its loop, which others go on with; a failure comes out of it."""
    order: list[str] = []

    async def work(name: str) -> None:
        order.append(name)
        await asyncio.sleep(0)

    slow, quick = Task("slow", work, func_args=("slow",)), Task("quick", work, func_args=("quick",))
    slow.inject(slow=SLOW, fail=True, after=True)
    queue = TaskQueue(slow, quick)

    if how == "arun":
        asyncio.run(queue.arun())
        assert order == ["quick", "slow"]
    elif how == "run":
        run(queue)
        assert order == ["quick", "slow"]
    elif how == "dispatch":
        slow.dispatch()
    else:
        assert [slow.step() for _ in range(3)] == ["dispatch", "call", "except"]

    assert str(slow.exception).endswith("its function had returned")
    check_settled(queue)


def test_a_slowed_coroutine_is_cancelled_at_once() -> None:
    """The loop cancels it as any coroutine."""
    work = Task("work", answer_later)
    queue = TaskQueue(work)
    work.inject(slow=LONG)
    running = Background(lambda: asyncio.run(queue.arun()))
    await_state(work, "RUNNING")

    work.cancel()

    running.join()
    assert work.fsm_state == "CANCELLED"


def test_each_call_replaces_the_one_before() -> None:
    """What is injected can be read and taken back, and a fresh task has nothing of it."""
    work = Task("work", answer)
    assert work.injected is None

    work.inject(fail=True)
    assert str(work.injected) == "will fail: injected"
    work.inject(slow=2)
    assert str(work.injected) == "will take 2 s longer: injected"
    work.inject(slow=2, fail="boom", after=True)
    assert str(work.injected) == (
        "will take 2 s longer and fail once its function has returned: injected"
    )
    assert work.inject() is None
    assert work.injected is None
    work.dispatch()

    assert work.value == 3


def test_retries_count_an_injected_failure() -> None:
    """A task that retries by itself survives one failure."""
    work = Task("work", answer, retries=1)
    work.inject(fail=True)

    assert work.make()
    assert [attempt.outcome for attempt in work.attempts] == ["FAILED", "DONE"]


@pytest.mark.parametrize(
    ("wrong", "error", "words"),
    [
        ({"fail": 1}, TypeError, "fail is True, False or what the failure says"),
        ({"fail": ValueError("x")}, TypeError, "not a ValueError"),
        ({"slow": "2"}, TypeError, "slow is a time in seconds"),
        ({"slow": True}, TypeError, "slow is a time in seconds"),
        ({"slow": -1}, ValueError, "from 0 to 86400"),
        ({"slow": float("nan")}, ValueError, "from 0 to 86400"),
        ({"slow": float("inf")}, ValueError, "from 0 to 86400"),
        ({"after": 1}, TypeError, "after is True or False"),
    ],
)
def test_what_makes_no_sense_is_refused(
    wrong: dict[str, Any], error: type[Exception], words: str
) -> None:
    """With a sentence, and what was asked for before stays."""
    work = Task("work", answer)
    work.inject(fail=True)

    with pytest.raises(error, match=words):
        work.inject(**wrong)

    assert str(work.injected) == "will fail: injected"


@pytest.mark.parametrize("state", [state for state in FSM_TRANSITIONS if state != "RUNNING"])
def test_a_fault_waits_for_the_next_attempt_in_any_state(state: str) -> None:
    """It can be asked for before there is anything to run; not where nothing will run again."""
    work = Task("work", answer, state=state)

    if state == "ABORT":
        with pytest.raises(FSMError, match="has no further attempt"):
            work.inject(fail=True)
    else:
        work.inject(fail=True)
        assert work.injected is not None
        assert work.fsm_state == state


def test_one_that_runs_is_left_alone() -> None:
    """A fault that comes while the function runs is for the attempt after it."""
    may_go, has_begun = threading.Event(), threading.Event()

    def wait() -> bool:
        has_begun.set()
        return may_go.wait(LIMIT)

    work = Task("work", wait)
    thread = work.bg()
    assert has_begun.wait(LIMIT)
    work.inject(fail=True)
    may_go.set()
    thread.join(LIMIT)

    assert work.value is True
    work.invalidate()
    work.dispatch()
    assert isinstance(work.exception, InjectedError)


def test_a_step_that_has_not_called_yet_takes_the_fault() -> None:
    """Between `dispatch` and the call, the present attempt is the one that fails."""
    work = Task("work", answer)
    work.step()
    work.inject(fail=True)
    assert str(work.injected) == "will fail: injected"

    assert [work.step(), work.step()] == ["call", "except"]
    work.inject(fail=True)
    work.retry()
    work.step()
    work.inject()
    assert work.injected is None
    assert [work.step(), work.step(), work.value] == ["call", "done", 3]


def test_a_tasks_own_failure_comes_first() -> None:
    """A function that raises anyway is not covered up by a failure after it."""
    work = Task("work", answer, func_args=(1, 2))
    work.inject(fail=True, after=True)

    work.dispatch()

    assert isinstance(work.exception, TypeError)


def test_the_fingerprint_and_the_plan_know_nothing_of_it() -> None:
    """Code and arguments are the same; a slowed attempt does not count for the time expected."""
    work = Task("work", answer)
    queue = TaskQueue(work)
    run(queue)
    before = work.attempts[-1].fingerprint
    queue.invalidate(work)
    work.inject(slow=SLOW)
    run(queue)

    assert work.attempts[-1].fingerprint == before
    assert queue.stale() == {}
    queue.invalidate(work)
    seconds = queue.plan("run").seconds
    assert seconds is not None
    assert seconds < SLOW


def test_a_store_keeps_an_injected_failure_as_an_attempt(tmp_path: Path) -> None:
    """The result of the attempt after it is stored like any other, and taken back."""

    def graph() -> TaskQueue:
        return TaskQueue(Task("work", answer, func_args=(5,)), store=tmp_path / "run.db")

    queue = graph()
    queue.tasks[0].inject(fail=True)
    run(queue)
    assert states(queue) == {"work": "FAILED"}
    queue.retry()
    queue.tasks[0].inject(slow=0.01)
    run(queue)
    assert queue.store is not None
    queue.store.close()

    again = graph()
    assert states(again) == {"work": "DONE"}
    assert again.tasks[0].value == 5
    assert again.tasks[0].injected is None
    assert again.store is not None
    again.store.close()


def test_a_task_without_a_fault_has_the_plain_options() -> None:
    """Nothing is paid for what nobody asked for: the shared options, no fault on the attempt."""
    work = Task("work", answer)
    work.inject()
    work.dispatch()

    assert work._options is PLAIN
    assert "fault" not in vars(work.attempts[0])
    assert "stepped" not in vars(work.attempts[0])


def test_a_fault_is_no_option_of_a_task() -> None:
    """It is injected into a task, not given to all that a function builds."""
    with pytest.raises(TypeError, match="no option fault"):
        task(fault=True)


def test_queues_hear_of_it() -> None:
    """A view is told, so that it shows what will fail."""
    work = Task("work", answer)
    queue = TaskQueue(work)
    heard: list[float] = []
    stop = queue.on_change(lambda: heard.append(time.monotonic()))

    work.inject(fail=True)
    work.inject()

    stop()
    assert len(heard) == 2
