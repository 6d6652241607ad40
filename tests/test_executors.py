"""What every executor does alike: the same graphs, wherever the functions are called."""

from __future__ import annotations

import asyncio
import math
import multiprocessing
import operator
import os
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import cloudpickle
import pytest

from checks import LIMIT, Background, await_state, check_settled, run, states
from graphs import GRAPHS, Graph, chain, fan_in
from taskqueue_nb import CancellationError, FSMError, Task, TaskQueue, task
from taskqueue_nb.executors import check_executor, process_count

# What stands here travels by value, as what stands in a notebook does.
cloudpickle.register_pickle_by_value(sys.modules[__name__])


class Deferring:
    """An object with `defer`, which runs each call in a thread of its own."""

    def defer(self, function: Callable[..., Any]) -> None:
        """Run it soon."""
        threading.Thread(target=function).start()


def in_a_thread(function: Callable[..., Any]) -> None:
    """Run a function soon; a plain callable as an executor."""
    threading.Thread(target=function).start()


#: A name for the tests → what makes the executor.
EXECUTORS: Final[dict[str, Callable[[], Any]]] = {
    "caller": lambda: None,
    "threads": lambda: 2,
    "processes": lambda: "processes:2",
    "ThreadPoolExecutor": lambda: ThreadPoolExecutor(2),
    "defer": Deferring,
    "callable": lambda: in_a_thread,
}


def on_a_loop(queue: TaskQueue, **options: Any) -> Iterator[Task]:
    """Run a queue on an event loop, as `arun_iter` does in a coroutine; the same as `run`."""

    async def whole() -> list[Task]:
        return [each async for each in queue.arun_iter(**options)]

    yield from asyncio.run(whole())


@pytest.fixture(params=[*EXECUTORS, "dask", "asyncio"])
def executor(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Give one executor after the other; end it if it is one of ours to end."""
    if request.param == "dask":
        yield request.getfixturevalue("client")
        return
    if request.param == "asyncio":
        monkeypatch.setattr(TaskQueue, "run", on_a_loop)
        yield None
        return
    made = EXECUTORS[request.param]()
    yield made
    if isinstance(made, ThreadPoolExecutor):
        made.shutdown()


def make_value(value: Any = 1) -> Any:
    """Return what is given."""
    return value


def add(*numbers: float) -> float:
    """Sum up."""
    return sum(numbers)


def fail(words: str = "told to") -> None:
    """Fail."""
    raise ValueError(words, 7)


def say(words: str) -> str:
    """Print something to both streams, and return it."""
    print(words)
    print("aside", file=sys.stderr)
    return words


def name_of_current() -> str:
    """Say which task runs."""
    current = Task.current()
    assert current is not None
    assert not current.runstate.cancelled
    current.progress(3, 4)
    return current.name


def third_time_lucky() -> int:
    """Fail in the first two attempts."""
    current = Task.current()
    assert current is not None
    number = current.attempts[-1].number
    if number <= 2:
        raise ValueError(number)
    return number


def wait_at(gate: str) -> str:
    """Wait until somebody opens the other end of a named pipe."""
    with open(gate, encoding="utf-8") as pipe:  # noqa: PTH123 - it holds up this thread alone
        return pipe.read()


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[str]:
    """Give a named pipe that holds up whoever reads it, until the test ends."""
    path = tmp_path / "gate"
    os.mkfifo(path)
    yield str(path)
    os.close(os.open(path, os.O_RDWR | os.O_NONBLOCK))


# ------------------------------------------------------------------------------------- outcomes
def test_result_arrives(executor: Any) -> None:
    """A function's value is the task's result."""
    answer = Task("answer", make_value, func_args=(42,))

    assert run(TaskQueue(answer), executor=executor) == ["answer"]

    assert answer.result() == 42
    check_settled([answer])


def test_exception_arrives(executor: Any) -> None:
    """A function's exception arrives with its class and arguments, and with the failing line."""
    bad = Task("bad", fail, func_args=("broken",))

    run(TaskQueue(bad), executor=executor)

    assert bad.is_failed
    assert type(bad.exception) is ValueError
    assert bad.exception.args == ("broken", 7)
    (attempt,) = bad.attempts
    text = attempt.error_text or ""
    assert "raise ValueError(words, 7)" in text
    assert "in fail" in text
    assert "taskqueue_nb/" not in text.partition("ValueError")[0]
    with pytest.raises(ValueError, match="broken"):
        bad.result()
    check_settled([bad])


@pytest.mark.parametrize(
    "value",
    [None, math.nan, NotImplemented, Ellipsis, ValueError("no failure"), float, (), {1: [2]}],
    ids=repr,
)
def test_odd_values_are_values(executor: Any, value: Any) -> None:
    """Whatever a function returns is its result, an exception too."""
    odd = Task("odd", make_value, func_args=(value,))
    after = Task("after", type, func_args=(odd,))

    run(TaskQueue(odd, after), executor=executor)

    assert odd.is_done
    assert type(odd.result()) is type(value) is after.result()
    assert repr(odd.result()) == repr(value)


def test_exit_in_a_task_fails_it(executor: Any) -> None:
    """`sys.exit` in a function is a failure; only in the caller's own thread it is heard, too."""
    leaving = Task("leaving", sys.exit, func_args=(3,))
    other = Task("other", make_value)
    queue = TaskQueue(leaving, other)

    if executor is None and TaskQueue.run.__name__ == "run":
        with pytest.raises(SystemExit):
            run(queue)
        run(queue)
    else:
        run(queue, executor=executor)

    assert states(queue) == {"leaving": "FAILED", "other": "DONE"}
    assert "SystemExit" in (leaving.attempts[-1].error_text or "")
    check_settled(queue)


# ---------------------------------------------------------------------------------------- graphs
def test_results_are_passed_along_a_chain(executor: Any) -> None:
    """A task among the arguments stands for its result."""
    first = Task("first", make_value, func_args=(1,))
    second = Task("second", add, func_args=(first, 10))
    third = Task("third", add, func_args=(second, first, 100))

    run(TaskQueue(first, second, third), executor=executor)

    assert third.result() == 112


def test_tasks_in_lists_and_dicts_are_replaced(executor: Any) -> None:
    """Also inside containers and among keyword arguments."""
    one, two = (Task(f"t{n}", make_value, func_args=(n,)) for n in (1, 2))
    both = Task("both", make_value, func_args=([one, {"two": (two,)}],))
    named = Task("named", dict, func_kwargs={"one": one, "rest": [two]})

    run(TaskQueue(one, two, both, named), executor=executor)

    assert both.result() == [1, {"two": (2,)}]
    assert named.result() == {"one": 1, "rest": [2]}


@pytest.mark.parametrize(
    "graph",
    [GRAPHS["diamond"], GRAPHS["penguins"], chain(200), fan_in(50)],
    ids=["diamond", "penguins", "chain of 200", "50 into one"],
)
def test_order_is_kept(executor: Any, graph: Graph) -> None:
    """Each task runs once, after what it requires."""
    tasks = {name: Task(name, make_value, func_args=(name,)) for name in graph}
    for name, required in graph.items():
        for other in required:
            tasks[name].require(tasks[other])

    done = run(TaskQueue(*tasks.values()), executor=executor)

    assert sorted(done) == sorted(graph)
    assert {name: task.result() for name, task in tasks.items()} == {name: name for name in graph}
    check_settled(tasks.values())


def test_failure_leaves_the_independent_alone(executor: Any) -> None:
    """What does not require the failed task runs; what does stays pending."""
    bad = Task("bad", fail)
    victim = bad.then("victim", make_value)
    others = [Task(f"t{i}", make_value) for i in range(5)]
    queue = TaskQueue(bad, victim, *others)

    run(queue, executor=executor)

    assert queue.counts() == {"PENDING": 1, "DONE": 5, "FAILED": 1}
    check_settled(queue)


def test_second_run_runs_nothing_again(executor: Any) -> None:
    """What is DONE stays so."""
    queue = TaskQueue(*(Task(f"t{i}", make_value) for i in range(4)))
    run(queue, executor=executor)

    assert run(queue, executor=executor) == []

    assert [len(task.attempts) for task in queue] == [1] * 4


def test_map_makes_one_task_per_item(executor: Any) -> None:
    """The tasks of `map` run as any others, in one group."""
    doubles = task(lambda x: 2 * x).options(name="double").map(range(5))
    total = Task("total", sum, func_args=(doubles,))

    run(TaskQueue(*doubles, total), executor=executor)

    assert total.result() == 20
    assert {double.group for double in doubles} == {"double"}


def test_tasks_own_executor_wins(executor: Any) -> None:
    """Tasks of one graph may run in several places, and pass results between them."""
    there = Task("there", make_value, func_args=(20,), executor=executor)
    here = Task("here", add, func_args=(there, 1))
    back = Task("back", add, func_args=(here, 1), executor=executor)

    run(TaskQueue(there, here, back))

    assert back.result() == 22


# --------------------------------------------------------------------------------------- mending
def test_repaired_function_is_used(executor: Any) -> None:
    """After a repair only the cause and its victims run."""
    first = Task("first", make_value, func_args=(1,))
    bad = Task("bad", fail, func_args=(first,))
    last = Task("last", add, func_args=(bad, 1))
    queue = TaskQueue(first, bad, last)
    run(queue, executor=executor)

    queue.repair(bad, func=lambda x: x + 10)
    ran = run(queue, executor=executor)

    assert ran == ["bad", "last"]
    assert last.result() == 12
    assert [len(task.attempts) for task in queue] == [1, 2, 1]
    assert "ValueError" in (bad.attempts[0].error_text or "")
    check_settled(queue)


def test_repaired_arguments_are_used(executor: Any) -> None:
    """New arguments, the same function."""
    half = Task("half", lambda x: x / 2, func_args=("6",))
    queue = TaskQueue(half)
    run(queue, executor=executor)
    assert isinstance(half.exception, TypeError)

    queue.repair(half, args=(6,))
    run(queue, executor=executor)

    assert half.result() == 3.0


def test_retries_are_made(executor: Any) -> None:
    """`retries=2` makes a third attempt; each knows its number."""
    lucky = Task("lucky", third_time_lucky, retries=2)
    after = lucky.then("after", make_value)

    run(TaskQueue(lucky, after), executor=executor)

    assert lucky.result() == 3
    assert [attempt.outcome for attempt in lucky.attempts] == ["FAILED", "FAILED", "DONE"]
    assert after.is_done
    check_settled([lucky, after])


# ------------------------------------------------------------------------------------- stopping
def test_cancelled_before_the_start_never_runs(executor: Any) -> None:
    """A cancelled task is passed over, and its dependents with it."""
    given_up = Task("given up", make_value)
    victim = given_up.then("victim", make_value)
    queue = TaskQueue(given_up, victim, Task("other", make_value))
    given_up.cancel()

    assert run(queue, executor=executor) == ["other"]

    assert states(queue) == {"given up": "CANCELLED", "victim": "PENDING", "other": "DONE"}
    assert given_up.attempts == []


def test_cancelled_while_it_waits_for_room_keeps_no_other_waiting(
    executor: Any, tmp_path: Path
) -> None:
    """What stands behind cancelled tasks when all workers are busy runs all the same."""
    gates = [tmp_path / f"gate{i}" for i in range(2)]
    for each in gates:
        os.mkfifo(each)
    held = [Task(each.name, wait_at, func_args=(str(each),)) for each in gates]
    rest = [Task(f"t{i}", make_value) for i in range(8)]
    queue = TaskQueue(*held, *rest)

    def cancel_some() -> None:
        await_state(held[0], "RUNNING")
        for given_up in rest[:4]:
            with suppress(FSMError):  # where there is room for all, it has run
                given_up.cancel()
        for each in gates:
            each.write_text("go on", encoding="utf-8")

    cancelling = Background(cancel_some)
    run(queue, executor=executor)
    cancelling.join()

    assert {task.fsm_state for task in rest[:4]} <= {"CANCELLED", "DONE"}
    assert {task.fsm_state for task in (*held, *rest[4:])} == {"DONE"}
    check_settled(queue)


def test_fail_fast_starts_nothing_more(executor: Any) -> None:
    """What was under way ends, the rest stays pending."""
    row = [Task("bad", fail), *(Task(f"t{i}", make_value) for i in range(10))]
    late = [row[0].then("victim", make_value)]  # so that "bad" is not taken last
    late += [Task(f"late{i}", make_value) for i in range(9)]
    for one in late[1:]:
        for other in row[1:]:
            one.require(other)
    queue = TaskQueue(*row, *late)

    list(queue.run(executor=executor, fail_fast=True))

    assert row[0].is_failed
    assert {one.fsm_state for one in late} <= {"PENDING", "DONE"}
    if executor is None:
        assert queue.counts() == {"PENDING": 20, "FAILED": 1}
    check_settled(queue)


def test_stop_lets_what_runs_end(executor: Any, gate: str) -> None:
    """After `stop()` nothing more is started, and what runs is finished."""
    first = Task("first", make_value)
    held = first.then("held", wait_at, func_args=(gate,))
    last = held.then("last", make_value)
    queue = TaskQueue(first, held, last)

    def stop() -> None:
        await_state(held, "RUNNING")
        queue.stop()
        Path(gate).write_text("go on", encoding="utf-8")

    stopping = Background(stop)
    run(queue, executor=executor)
    stopping.join()

    assert states(queue) == {"first": "DONE", "held": "DONE", "last": "PENDING"}
    assert held.result() == "go on"
    check_settled(queue)
    assert run(queue, executor=executor) == ["last"]


def test_attempt_that_takes_too_long_fails(executor: Any, gate: str) -> None:
    """A timeout fails its attempt and nothing else; the error says how long was waited."""
    slow = Task("slow", wait_at, func_args=(gate,), timeout=0.2)
    others = [Task(f"t{i}", make_value) for i in range(4)]

    run(TaskQueue(slow, *others), executor=executor)

    assert slow.is_failed
    assert isinstance(slow.exception, TimeoutError)
    assert "0.2 s" in str(slow.exception)
    assert all(other.is_done for other in others)
    check_settled([slow, *others])


def test_result_may_ask_for_cancellation(executor: Any) -> None:
    """`cancel_on_result` looks at the result, `cancel_on_exception` turns a failure into one."""
    threshold = threading.Lock()  # what judges need not travel

    def is_small(value: int) -> bool:
        with threshold:
            return value < 5

    small = Task("small", make_value, func_args=(3,), cancel_on_result=is_small)
    large = Task("large", make_value, func_args=(7,), cancel_on_result=is_small)
    wrong = Task("wrong", make_value, cancel_on_result=fail)
    bad = Task("bad", fail, cancel_on_exception=True)
    queue = TaskQueue(small, large, wrong, bad)

    run(queue, executor=executor)

    assert states(queue) == {
        "small": "CANCELLED", "large": "DONE", "wrong": "FAILED", "bad": "CANCELLED",
    }  # fmt: skip
    with pytest.raises(CancellationError):
        small.result()
    check_settled(queue)


# --------------------------------------------------------------------- what a task says meanwhile
def test_output_belongs_to_its_task(executor: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """What a function prints is kept with its attempt, and shown as well."""
    tasks = [Task(f"t{i}", say, func_args=(f"words {i}",)) for i in range(4)]

    run(TaskQueue(*tasks), executor=executor)

    for i, each in enumerate(tasks):
        assert sorted(each.output.splitlines()) == ["aside", f"words {i}"]
    shown = "".join(capsys.readouterr())  # what comes from two workers may meet on one line
    assert all(shown.count(f"words {i}") == 1 for i in range(4))


def test_function_knows_its_task(executor: Any) -> None:
    """`Task.current()` gives the name, and takes reports of progress."""
    known = Task("known", name_of_current)

    run(TaskQueue(known), executor=executor)

    assert known.result() == "known"
    assert known.progressed == (3, 4)
    assert Task.current() is None


def test_callbacks_hear_each_step_in_order(executor: Any) -> None:
    """Listeners and `notify` hear of tasks elsewhere as of any others."""
    heard: list[tuple[str, str]] = []
    told: list[str] = []
    tasks = [Task(f"t{i}", fail if i == 2 else make_value) for i in range(4)]
    for each in tasks:
        each.fsm_callback(
            Task.FSM_ANY_STATE, lambda t, step: heard.append((t.name, step.new_state))
        )
        each.notify(lambda t: told.append(t.name))

    run(TaskQueue(*tasks), executor=executor)

    for each in tasks:
        walk = [state for name, state in heard if name == each.name and state != "QUEUED"]
        assert walk == ["RUNNING", "FAILED" if each is tasks[2] else "DONE"]
    assert sorted(told) == ["t0", "t1", "t2", "t3"]


def test_start_is_the_same_in_the_background(executor: Any) -> None:
    """`start(executor=…)` returns at once, and `wait` when all is done."""
    queue = TaskQueue(*(Task(f"t{i}", make_value, func_args=(i,)) for i in range(6)))

    assert queue.start(executor=executor).wait(LIMIT)

    assert [task.result() for task in queue] == list(range(6))
    check_settled(queue)


# ------------------------------------------------------------------------------------ in a kernel
CELLS: Final = (
    """
from taskqueue_nb import Task, TaskQueue
def halve(number):
    print("halving", number)
    return half_of(number)
""",
    """
def half_of(number):
    return number / 2  # the failing line
""",
    """
bad = Task("bad", halve, func_args=("6",))
queue = TaskQueue(bad, executor="processes:1")
list(queue.run())
text = bad.attempts[-1].error_text
assert "return number / 2  # the failing line" in text
assert "return half_of(number)" in text
""",
    """
queue.repair(bad, args=(6,))
list(queue.run())
assert bad.result() == 3.0
""",
)


def test_cells_of_a_notebook_run_in_processes() -> None:
    """What stands in cells works, prints under the cell that runs it, and fails with its line."""
    import nbclient
    import nbformat

    cells = [nbformat.v4.new_code_cell(cell) for cell in CELLS]
    notebook = nbformat.v4.new_notebook(cells=cells)

    nbclient.NotebookClient(notebook, timeout=60, kernel_name="python3").execute()

    shown = ["".join(output.get("text") for output in cell.outputs) for cell in notebook.cells]
    assert shown == ["", "", "halving 6\n", "halving 6\n"]


# --------------------------------------------------------------------------- what is no executor
@pytest.mark.parametrize(
    ("word", "count"), [("processes:1", 1), ("processes:16", 16), ("processes", None)]
)
def test_words_for_processes(word: str, count: int | None) -> None:
    """The word alone means one worker per usable processor; a number may follow."""
    assert process_count(word) == (count or len(os.sched_getaffinity(0)))


@pytest.mark.parametrize(
    "word",
    ["", "process", "processes:", "processes:0", "processes:-1", "processes:two", "threads",
     "processes:1.5", "processes:²", "Processes", "processes 4"],
)  # fmt: skip
def test_other_words_are_refused(word: str) -> None:
    """The error says what would have worked."""
    with pytest.raises(ValueError, match='"processes:4" for 4 worker processes'):
        check_executor(word)


@pytest.mark.parametrize(
    ("executor", "kind"),
    [("bogus", ValueError), ("processes:0", ValueError), (0, ValueError), (True, TypeError),
     (1.5, TypeError), (ThreadPoolExecutor, TypeError), (object(), TypeError)],
    ids=str,
)  # fmt: skip
def test_the_executor_of_a_task_is_checked_when_it_is_given(
    executor: Any, kind: type[Exception]
) -> None:
    """By a task, when it is set, and by a function that makes tasks, as by a queue."""
    one = Task("one", make_value)

    for give in (
        lambda: TaskQueue(executor=executor),
        lambda: Task("one", make_value, executor=executor),
        lambda: setattr(one, "executor", executor),
        lambda: task(executor=executor)(make_value),
        lambda: task(make_value).options(executor=executor),
    ):
        with pytest.raises(kind, match="executor is "):
            give()
    assert one.executor is None


@pytest.mark.parametrize("missing", ["pebble", "cloudpickle"])
def test_missing_package_is_named_with_its_extra(
    monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    """Who lacks what processes need is told how to get it, before anything has run."""
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: None if name == missing else find(name)
    )

    with pytest.raises(ImportError, match=rf"needs {missing}: pip install 'taskqueue-nb\[proc"):
        TaskQueue(executor="processes")
    with pytest.raises(ImportError, match=f"needs {missing}"):
        Task("one", make_value, executor="processes:117")  # not asked for before


# --------------------------------------------------------------- a process pool of the user's own
def test_process_pool_of_the_users_own() -> None:
    """Any `concurrent.futures` pool of processes runs tasks; an exit of a worker stays there."""
    good = Task("good", operator.add, func_args=(2, 3))
    after = Task("after", operator.neg, func_args=(good,))
    bad = Task("bad", math.sqrt, func_args=(-1,))
    leaving = Task("leaving", sys.exit, func_args=(3,))
    small = Task("small", abs, func_args=(-1,), cancel_on_result=lambda value: value < 5)
    queue = TaskQueue(good, after, bad, leaving, small)

    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        run(queue, executor=pool)

    assert after.result() == -5
    assert isinstance(bad.exception, ValueError)
    assert states(queue) == {
        "good": "DONE", "after": "DONE", "bad": "FAILED", "leaving": "FAILED", "small": "CANCELLED",
    }  # fmt: skip
    check_settled(queue)


def test_who_is_cancelled_just_before_it_is_sent_keeps_no_run_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By another thread, between being queued and being sent."""
    tasks = [Task(f"{i}", list) for i in range(3)]
    queue = TaskQueue(*tasks)
    take = queue._take

    def take_and_cancel(run: Any) -> Any:
        found = take(run)
        if tasks[0].is_queued:
            queue.cancel(tasks[0])
        return found

    monkeypatch.setattr(queue, "_take", take_and_cancel)
    with ThreadPoolExecutor(1) as pool:
        queue.start(executor=pool)
        assert queue.wait(LIMIT), "the run waits for what was never sent"
    assert [task.fsm_state for task in tasks] == ["CANCELLED", "DONE", "DONE"]
    check_settled(queue)
