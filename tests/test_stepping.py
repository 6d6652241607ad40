"""A task taken one transition at a time: what each press does, and that nothing waits for it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any, Final

import pytest

from checks import LIMIT, Background, Calls, at_once, build, check_settled, run, states
from conftest import MakeQueue
from graphs import CHAIN, GRAPHS, PAIR
from taskqueue_nb import BlockedError, CancellationError, FSMError, Task, TaskError, TaskQueue
from taskqueue_nb.stepping import stepped_of


def fail() -> None:
    """Raise what every failure here raises."""
    raise RuntimeError("it was told to fail")


def give_up() -> None:
    """Give up in the middle of its work."""
    raise CancellationError("enough")


def interrupt() -> None:
    """Do what a press of the kernel's stop button does."""
    raise KeyboardInterrupt


async def later() -> int:
    """Take its turns."""
    await asyncio.sleep(0)
    return 3


def presses(task: Task, count: int) -> list[tuple[str, str]]:
    """Take some steps; return what each was called and where it led to."""
    return [(task.step(), task.fsm_state) for _ in range(count)]


LIVES: Final[dict[str, tuple[Callable[[], Any], dict[str, Any], list[tuple[str, str]]]]] = {
    "done": (lambda: 3, {}, [("dispatch", "RUNNING"), ("call", "RUNNING"), ("done", "DONE")]),
    "fails": (fail, {}, [("dispatch", "RUNNING"), ("call", "RUNNING"), ("except", "FAILED")]),
    "gives up": (
        give_up,
        {},
        [("dispatch", "RUNNING"), ("call", "RUNNING"), ("cancel", "CANCELLED")],
    ),
    "cancelled on exception": (
        fail,
        {"cancel_on_exception": True},
        [("dispatch", "RUNNING"), ("call", "RUNNING"), ("cancel", "CANCELLED")],
    ),
    "cancelled on result": (
        lambda: 3,
        {"cancel_on_result": lambda value: value == 3},
        [("dispatch", "RUNNING"), ("call", "RUNNING"), ("cancel", "CANCELLED")],
    ),
    "coroutine": (later, {}, [("dispatch", "RUNNING"), ("call", "RUNNING"), ("done", "DONE")]),
    "late": (
        threading.Event().wait,
        {"timeout": 0.01},
        [("dispatch", "RUNNING"), ("call", "RUNNING"), ("except", "FAILED")],
    ),
    "retried": (
        fail,
        {"retries": 1, "retry_delay": 1000.0},
        [
            ("dispatch", "RUNNING"),
            ("call", "RUNNING"),
            ("except", "FAILED"),
            ("retry", "PENDING"),
            ("dispatch", "RUNNING"),
            ("call", "RUNNING"),
            ("except", "FAILED"),
        ],
    ),
}


@pytest.mark.parametrize("life", LIVES)
def test_each_press_takes_one_transition(life: str) -> None:
    """The steps are `dispatch`, the call, and the event that the outcome asks for."""
    func, options, expected = LIVES[life]
    task = Task("work", func, **options)

    assert presses(task, len(expected)) == expected
    assert [step.event for step in task.fsm_history] == [e for e, _ in expected if e != "call"]
    with pytest.raises(FSMError, match="cannot step; it accepts"):
        task.step()


@pytest.mark.parametrize("name", GRAPHS)
def test_a_queue_taken_by_transitions_ends_as_a_run_does(name: str, queue: MakeQueue) -> None:
    """Three presses for each task, in the order of a run, and all is DONE."""
    stepped, ran = queue(GRAPHS[name]), queue(GRAPHS[name])
    pressed = []

    while (task := stepped.step(transition=True)) is not None:
        pressed.append(task.name)

    assert pressed == [name for name in run(ran) for _ in range(3)]
    assert states(stepped) == states(ran)


def test_nothing_is_called_before_the_second_press(queue: MakeQueue, calls: Calls) -> None:
    """After the first press a task is RUNNING and its function has not been called."""
    made = queue(PAIR)
    load = made.tasks[0]

    assert made.stepped is None
    assert made.step(transition=True) is load
    assert made.stepped is load
    assert not calls.names
    assert load.is_running
    assert not made.running
    made.step(transition=True)
    assert (calls.names, load.fsm_state, load.attempts[0].ended) == (["load"], "RUNNING", None)
    made.step(transition=True)
    assert (load.value, made.stepped) == ("load", None)


def test_what_the_next_step_is_can_be_read() -> None:
    """It is said before it is taken."""
    task = Task("work", fail)
    said = []

    for _ in range(2):
        task.step()
        stepped = stepped_of(task)
        assert stepped is not None
        said.append(stepped.says())

    assert said[0] == "call its function"
    assert said[1] == "except: its function raised RuntimeError: it was told to fail"


#: How to go on with a task in the middle of its steps, other than by a press.
GO_ON: Final[dict[str, Callable[[TaskQueue], object]]] = {
    "run": run,
    "step": lambda queue: [*iter(queue.step, None)],
    "threads": lambda queue: run(queue, executor=2),
    "start": lambda queue: queue.start().wait(LIMIT),
    "arun": lambda queue: asyncio.run(queue.arun()),
    "make": lambda queue: queue.tasks[-1].make(),
}


@pytest.mark.parametrize("how", GO_ON)
@pytest.mark.parametrize("taken", [1, 2])
@pytest.mark.parametrize("failing", [False, True])
def test_a_run_goes_on_in_the_middle(
    how: str, taken: int, failing: bool, queue: MakeQueue, calls: Calls
) -> None:
    """A run that meets a task in the middle of its steps finishes it; its function runs once."""
    made = queue(CHAIN)
    calls.failing = {"a"} if failing else set()
    for _ in range(taken):
        made.step(transition=True)

    Background(lambda: GO_ON[how](made)).join()

    first = made.tasks[0]
    assert calls.counts["a"] == 1
    assert [step.event for step in first.fsm_history] == [
        "dispatch",
        "except" if failing else "done",
    ]
    if not failing:
        assert set(states(made).values()) == {"DONE"}


def test_retries_go_on_in_a_run(queue: MakeQueue) -> None:
    """What failed in the middle is retried by the run as any other task is."""
    outcomes = iter([RuntimeError("first"), None])

    def work() -> int:
        if (error := next(outcomes)) is not None:
            raise error
        return 3

    task = Task("work", work, retries=1)
    made = TaskQueue(task)
    for _ in range(2):
        made.step(transition=True)

    assert run(made) == ["work"]
    assert (task.value, len(task.attempts)) == (3, 2)
    check_settled(made)


def test_once_takes_up_one_alone() -> None:
    """A run of one task goes on with one of those in the middle."""
    tasks = [Task(f"t{i}", int) for i in range(3)]
    made = TaskQueue(*tasks)
    for task in tasks[:2]:
        task.step()

    assert run(made, once=True) == ["t0"]
    assert states(made) == {"t0": "DONE", "t1": "RUNNING", "t2": "PENDING"}
    assert run(made) == ["t1", "t2"]


@pytest.mark.parametrize("taken", [1, 2])
@pytest.mark.parametrize("how", ["cancel", "stop", "stop and cancel"])
def test_what_is_in_the_middle_is_given_up_at_once(how: str, taken: int, calls: Calls) -> None:
    """A cancel and a stop settle it: nobody else would."""
    tasks = build(PAIR, calls)
    made = TaskQueue(*tasks.values())
    for _ in range(taken):
        made.step(transition=True)

    if how == "cancel":
        tasks["load"].cancel()
    else:
        made.stop(cancel="cancel" in how)

    assert states(made) == {"load": "CANCELLED", "clean": "PENDING"}
    assert made.stepped is None
    made.retry(tasks["load"])
    assert run(made) == ["load", "clean"]
    check_settled(made)


def test_a_stop_lets_a_call_finish() -> None:
    """A stop during the call fires the outcome as soon as the function returns."""
    may_go, has_begun = threading.Event(), threading.Event()

    def work() -> int:
        has_begun.set()
        return int(may_go.wait(LIMIT))

    task = Task("work", work)
    made = TaskQueue(task)
    made.step(transition=True)
    press = Background(lambda: made.step(transition=True))
    assert has_begun.wait(LIMIT)

    with pytest.raises(TaskError, match="its function is running"):
        task.step()
    made.stop()
    assert task.fsm_state == "RUNNING"
    may_go.set()
    press.join()

    assert (task.fsm_state, task.value) == ("DONE", 1)


def test_a_cancel_during_the_call_counts_when_it_returns() -> None:
    """The function can look at its request to stop; what it returns is dropped."""
    has_begun = threading.Event()

    def work() -> bool:
        has_begun.set()
        current = Task.current()
        assert current is not None
        return current.runstate.sleep(LIMIT)

    task = Task("work", work)
    task.step()
    press = Background(task.step)
    assert has_begun.wait(LIMIT)
    task.cancel()

    assert press.join() == "cancel"
    assert task.fsm_state == "CANCELLED"


def test_an_interrupt_in_the_call_frees_it() -> None:
    """It comes out, the task is CANCELLED and can be retried."""
    task = Task("work", interrupt)
    made = TaskQueue(task)
    made.step(transition=True)

    with pytest.raises(KeyboardInterrupt):
        made.step(transition=True)

    assert (task.fsm_state, task.attempts[-1].because) == ("CANCELLED", "interrupted")
    check_settled(made)
    assert made.retry() == (task,)


def test_many_hands_press_at_once() -> None:
    """Whatever threads press together, each function is called once and each step is made once."""
    called: list[int] = []
    tasks = [Task(f"t{i}", called.append, func_args=(i,)) for i in range(4)]
    made = TaskQueue(*tasks)

    def press(_: int) -> None:
        for _ in range(40):
            try:
                made.step(transition=True)
            except FSMError:
                continue

    outcomes = at_once(6, press)
    for _ in made.run():
        pass

    assert outcomes == [None] * 6
    assert sorted(called) == [0, 1, 2, 3]
    assert set(states(made).values()) == {"DONE"}
    check_settled(made)


def test_no_lock_is_held_between_presses() -> None:
    """Another thread may use the graph at any time."""
    task = Task("work", int)
    other = Task("other", lambda: 2)

    for _ in range(2):
        task.step()
        assert Background(other.make).join() is True
        other.invalidate()


def test_a_blocked_task_says_by_what(calls: Calls) -> None:
    """It is refused as `dispatch` is."""
    tasks = build(PAIR, calls)

    with pytest.raises(BlockedError, match="task 'clean' is blocked by 'load', PENDING"):
        tasks["clean"].step()


def test_what_runs_elsewhere_is_not_stepped() -> None:
    """A task that another thread runs is refused in a sentence."""
    may_go, has_begun = threading.Event(), threading.Event()

    def work() -> None:
        has_begun.set()
        may_go.wait(LIMIT)

    task = Task("work", work)
    thread = task.bg()
    assert has_begun.wait(LIMIT)

    with pytest.raises(TaskError, match="is RUNNING already, and not step by step"):
        task.step()
    may_go.set()
    thread.join(LIMIT)
    assert task.fsm_state == "DONE"


def test_a_queue_says_when_nothing_is_ready() -> None:
    """None, as `step()` says it; a failed prerequisite blocks."""
    load = Task("load", fail)
    made = TaskQueue(load, load.then("clean", int))
    pressed = [made.step(transition=True) for _ in range(4)]

    assert pressed == [load, load, load, None]
    assert TaskQueue().step(transition=True) is None


def test_limits_hold_between_presses() -> None:
    """What a task in the middle of its steps takes up is taken up, and given back in the end."""
    first, second = (Task(name, int, uses={"gpu": 1}) for name in ("first", "second"))
    made = TaskQueue(first, second, limits={"gpu": 1})
    made.step(transition=True)

    assert made._room.hold_of(first) is not None
    for _ in range(2):
        made.step(transition=True)
    assert made._room.hold_of(first) is None
    assert run(made) == ["second"]


def test_the_executor_of_a_task_is_left_out() -> None:
    """Its function is called by whoever presses."""
    task = Task("work", threading.get_ident, executor=2)
    made = TaskQueue(task)

    for _ in range(3):
        made.step(transition=True)

    assert task.value == threading.get_ident()


def test_a_prerequisite_that_is_invalidated_meanwhile_counts() -> None:
    """What was called with a value that is gone is DONE, and pending again."""
    load = Task("load", lambda: 1)
    double = Task("double", lambda number: 2 * number, func_args=(load,))
    made = TaskQueue(load, double)
    load.make()
    for _ in range(2):
        double.step()

    made.invalidate(load)

    assert double.step() == "done"
    assert states(made) == {"load": "PENDING", "double": "PENDING"}
    check_settled(made)


def test_output_is_kept_and_shown_where_the_button_was_pressed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What the function prints stays with its attempt, and shows in the cell of the call."""
    task = Task("work", print, func_args=("hello",))
    task.step()
    assert capsys.readouterr().out == ""

    task.step()

    assert task.output == capsys.readouterr().out == "hello\n"
