"""`make`: the seed's rules, one by one, without recursion and from many threads at once."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from checks import LIMIT, Background, Calls, at_once, build, check_settled, states, wait_for
from graphs import GRAPHS, Graph, layered, victims
from taskqueue_nb import CancellationError, FSMError, Task, make, make_later, make_now


def fails() -> None:
    """Raise."""
    raise ValueError("on purpose")


@pytest.mark.parametrize("example", GRAPHS.values(), ids=GRAPHS)
def test_make_completes_the_graph_in_order(example: Graph) -> None:
    """All tasks of any graph are DONE, each called once, requirements first."""
    calls = Calls()
    tasks = build(example, calls)

    made = make_now(*tasks.values())

    assert set(made) == set(tasks.values())
    assert sorted(calls.names) == sorted(example)
    assert all(task.is_done for task in made)
    check_settled(made)


def test_make_yields_the_named_tasks_only_as_they_complete() -> None:
    """What is required is made but not yielded; each named task is yielded once."""
    calls = Calls()
    tasks = build(GRAPHS["penguins"], calls)
    wanted = [tasks["plot"], tasks["adelie"], tasks["plot"]]

    made = []
    for task in make(*wanted):
        assert task.is_done
        made.append(task.name)

    assert sorted(made) == ["adelie", "plot"]
    assert tasks["report"].is_pending
    assert len(calls.names) == 9


def test_make_is_lazy() -> None:
    """Nothing runs before the generator is asked; leaving it leaves the rest unrun."""
    calls = Calls()
    tasks = [Task(name, calls[name]) for name in "abc"]
    making = make(*tasks)
    assert calls.names == []

    next(iter(making))
    making.close()  # type: ignore[attr-defined]  # an iterator is promised, a generator is given

    assert calls.names == ["a"]
    assert states(tasks) == {"a": "DONE", "b": "PENDING", "c": "PENDING"}
    make_now(*tasks)
    assert calls.names == ["a", "b", "c"]
    check_settled(tasks)


def test_make_of_nothing_is_nothing() -> None:
    """No tasks, no work."""
    assert make_now() == []


@pytest.mark.parametrize("wrong", [None, 5, "task", list])
def test_make_refuses_what_is_no_task(wrong: Any) -> None:
    """A wrong argument is an error that names it, and nothing was run."""
    calls = Calls()
    one = Task("one", calls["one"])

    with pytest.raises(TypeError):
        make_now(one, wrong)

    assert calls.names == []


# -------------------------------------------------------------------------------- the seed's rules
def test_task_being_prepared_is_an_error() -> None:
    """If a task is being prepared, raise an FSMError."""
    one = Task("one", list, state="PREPARE")

    with pytest.raises(FSMError, match=r"one.*prepared"):
        make_now(one)

    assert one.is_prepare


def test_running_task_is_waited_for() -> None:
    """If a task is already running, wait for its completion; it is not run again."""
    began, go = threading.Event(), threading.Event()
    count: list[int] = []

    def work() -> int:
        count.append(1)
        began.set()
        wait_for(go)
        return 5

    one = Task("one", work)
    after = one.then("after", list)
    thread = one.bg()
    wait_for(began)
    waiter = Background(lambda: make_now(one, after))
    assert waiter.thread.is_alive()
    assert after.is_pending

    go.set()

    assert waiter.join() == [one, after]
    thread.join(LIMIT)
    assert count == [1]
    check_settled([one, after])


def test_queued_task_is_waited_for() -> None:
    """If a task is queued elsewhere, wait until somebody has run it."""
    calls = Calls()
    one = Task("one", calls["one"])
    after = one.then("after", calls["after"])
    one.fsm_event("queue")
    waiter = Background(lambda: make_now(after))

    one.dispatch()

    assert waiter.join() == [after]
    assert calls.names == ["one", "after"]
    check_settled([one, after])


def test_failed_prerequisite_fails_the_task() -> None:
    """If any prerequisite has failed, fail this task, by `error`, and say because of which."""
    calls = Calls()
    bad = Task("bad", fails)
    after = bad.then("after", calls["after"])
    last = after.then("last", calls["last"])

    assert make_now(last) == [last]

    assert states([bad, after, last]) == {"bad": "FAILED", "after": "FAILED", "last": "FAILED"}
    (step,) = after.fsm_history
    assert step.event == "error"
    assert "bad" in str(after.exception) or "bad" in str(step.extra)
    assert calls.names == []
    with pytest.raises(FSMError, match=r"bad|after"):
        last.result(0)
    check_settled([bad, after, last])


def test_cancelled_prerequisite_cancels_the_task() -> None:
    """If any prerequisite is cancelled, cancel this task; it is still yielded."""
    calls = Calls()
    gone = Task("gone", calls["gone"])
    after = gone.then("after", calls["after"])
    gone.cancel()

    assert make_now(after) == [after]

    assert after.is_cancelled
    assert calls.names == []
    with pytest.raises(CancellationError):
        after.result(0)


def test_prerequisite_cancelled_by_itself_cancels_the_task() -> None:
    """The same when the prerequisite gives up while it is made."""
    gone = Task("gone", lambda: (_ for _ in ()).throw(CancellationError("enough")))
    after = gone.then("after", list)

    make_now(after)

    assert states([gone, after]) == {"gone": "CANCELLED", "after": "CANCELLED"}


def test_pending_prerequisite_is_made_first() -> None:
    """If any prerequisite is pending, make it first, however deep."""
    calls = Calls()
    tasks = build(GRAPHS["chain"], calls)

    make_now(tasks["e"])

    assert calls.names == list("abcde")


def test_aborted_prerequisite_never_lets_the_task_run() -> None:
    """If any prerequisite is not done and cannot become so, the task does not run."""
    calls = Calls()
    gone = Task("gone", calls["gone"])
    after = gone.then("after", calls["after"])
    gone.abort()

    assert make_now(after) == [after]

    assert after.fsm_state in {"ABORT", "FAILED"}
    assert calls.names == []
    with pytest.raises(FSMError):
        after.result(0)


def test_prerequisite_being_prepared_is_an_error() -> None:
    """A prerequisite in PREPARE is no task to make: the error names it, and nothing hangs."""
    calls = Calls()
    first = Task("first", calls["first"], state="PREPARE")
    after = first.then("after", calls["after"])

    try:
        make_now(after)
    except FSMError as error:
        assert "first" in str(error)  # noqa: PT017 - refusing and failing are both right
    else:
        assert after.is_failed

    assert calls.names == []


def test_completed_tasks_are_yielded_and_not_run_again() -> None:
    """DONE, FAILED, CANCELLED and ABORT tasks come out as they are."""
    calls = Calls()
    tasks = [Task(s, calls[s], state=s) for s in ("DONE", "FAILED", "CANCELLED", "ABORT")]

    assert make_now(*tasks) == tasks

    assert calls.names == []
    assert all(task.fsm_state == task.name for task in tasks)


def test_failure_does_not_stop_the_independent_tasks() -> None:
    """Everything that can be done is done; the victims are exactly those that require it."""
    graph = layered(10, 10)
    failing = {"t3.1", "t5.5"}
    calls = Calls(failing)
    tasks = build(graph, calls)

    make_now(*tasks.values())

    lost = victims(graph, failing)
    assert {name for name, task in tasks.items() if task.is_failed} == failing | lost
    assert {name for name, task in tasks.items() if task.is_done} == set(graph) - failing - lost
    assert set(calls.names) == set(graph) - lost
    check_settled(tasks.values())


def test_fail_fast_returns_at_the_first_failure() -> None:
    """With `fail_fast` nothing is begun after a task that is not DONE."""
    calls = Calls(failing={"b"})
    tasks = [Task(name, calls[name]) for name in "abcd"]

    made = make_now(*tasks, fail_fast=True)

    assert made == tasks[:2]
    assert calls.names == ["a", "b"]
    assert states(tasks[2:]) == {"c": "PENDING", "d": "PENDING"}


def test_make_method_says_whether_it_is_completed() -> None:
    """FAILED is completed, CANCELLED is not."""
    good, bad, gone = Task("good", list), Task("bad", fails), Task("gone", list)
    gone.cancel()

    assert good.make() is True
    assert bad.make() is True
    assert gone.make() is False


def test_failed_make_can_be_repaired_and_made_again() -> None:
    """The cause and its victims are retried; each victim runs once in the end."""
    calls = Calls(failing={"clean"})
    tasks = build(GRAPHS["penguins"], calls)
    make_now(tasks["report"])
    assert calls.names == ["load", "clean"]
    calls.failing.clear()

    tasks["clean"].retry()
    make_now(tasks["report"])

    assert tasks["report"].is_done
    assert calls.counts.pop("clean") == 2
    assert set(calls.counts.values()) - {2} == {1}
    check_settled(tasks.values())


# ---------------------------------------------------------------------------------- from elsewhere
@pytest.mark.parametrize("fail_fast", [False, True])
def test_queue_submits_what_is_to_run(fail_fast: bool) -> None:
    """`queue=` is called with a function per task, QUEUED by then; the order is respected."""
    calls = Calls()
    tasks = build(GRAPHS["penguins"], calls)
    seen: list[int] = []

    with ThreadPoolExecutor(3) as pool:

        def submit(function: Callable[[], Any]) -> None:
            seen.append(1)
            pool.submit(function)

        made = make_now(tasks["report"], tasks["load"], queue=submit, fail_fast=fail_fast)

    assert set(made) == {tasks["report"], tasks["load"]}
    assert all(task.is_done for task in tasks.values())
    assert len(seen) == len(tasks) == len(calls.names)
    assert [step.event for step in tasks["plot"].fsm_history] == ["queue", "dispatch", "done"]
    check_settled(tasks.values())


def test_queue_runs_independent_tasks_side_by_side() -> None:
    """Two tasks that need each other's presence are both submitted before either is waited for."""
    barrier = threading.Barrier(2)
    tasks = [Task(name, barrier.wait, func_args=(LIMIT,)) for name in "ab"]

    with ThreadPoolExecutor(2) as pool:
        (made,) = at_once(1, lambda _: make_now(*tasks, queue=pool.submit))

    assert set(made) == set(tasks)
    assert all(task.is_done for task in tasks)


def test_queue_that_refuses_leaves_nothing_queued() -> None:
    """A `queue=` that raises: its task is not left QUEUED, and the error is seen."""

    def refuse(_function: object) -> None:
        raise RuntimeError("cannot schedule new futures after shutdown")

    one = Task("one", list)

    try:
        make_now(one, queue=refuse)
    except RuntimeError as error:
        assert "shutdown" in str(error)  # noqa: PT017 - raising and failing are both right
    else:
        assert one.is_failed

    assert not one.is_queued


class Later:
    """An object with `defer`, like those of the seed's family."""

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        self.pool = pool

    def defer(self, function: Callable[..., Any], *args: Any) -> Any:
        """Run it later."""
        return self.pool.submit(function, *args)


@pytest.mark.parametrize("wrap", [Later, lambda pool: pool], ids=["defer", "submit"])
def test_make_later_returns_at_once(wrap: Any, no_threads_left: None) -> None:
    """`make_later` takes an object with `defer` or `submit`; the results can be waited for."""
    go = threading.Event()
    first = Task("first", wait_for, func_args=(go,))
    after = first.then("after", lambda: 7)

    with ThreadPoolExecutor(2) as pool:
        make_later(wrap(pool), after)
        assert not after.is_done
        go.set()
        assert after.result(LIMIT) == 7

    check_settled([first, after])


@pytest.mark.parametrize("wrong", [None, 5, object()])
def test_make_later_refuses_what_cannot_defer(wrong: Any) -> None:
    """Without `defer` or `submit` there is no later: said at once."""
    one = Task("one", list)

    with pytest.raises(TypeError, match="defer"):
        make_later(wrong, one)

    assert one.is_pending


# ----------------------------------------------------------------------------------------- threads
@pytest.mark.parametrize("graph", [GRAPHS["diamond"], layered(8, 5)], ids=["diamond", "40 tasks"])
def test_16_threads_make_one_graph(graph: Graph, caplog: pytest.LogCaptureFixture) -> None:
    """Each function exactly once, all DONE, and no thread raises."""
    for _ in range(10):
        calls = Calls()
        tasks = build(graph, calls)

        with caplog.at_level(logging.WARNING):
            outcomes = at_once(16, lambda _, tasks=tasks: make_now(*tasks.values()))

        assert [o for o in outcomes if isinstance(o, BaseException)] == []
        assert all(set(outcome) == set(tasks.values()) for outcome in outcomes)
        assert set(calls.counts.values()) == {1}
        assert all(task.is_done for task in tasks.values())
        assert caplog.records == []
        check_settled(tasks.values())


def test_16_threads_make_a_graph_that_fails() -> None:
    """The failure and its victims are FAILED once, and everybody returns."""
    for _ in range(10):
        calls = Calls(failing={"left"})
        tasks = build(GRAPHS["diamond"], calls)

        outcomes = at_once(16, lambda _, tasks=tasks: make_now(tasks["bottom"]))

        assert outcomes == [[tasks["bottom"]]] * 16
        assert states(tasks) == {
            "top": "DONE", "left": "FAILED", "right": "DONE", "bottom": "FAILED",
        }  # fmt: skip
        assert set(calls.counts.values()) == {1}
        check_settled(tasks.values())


def test_many_threads_make_chains_from_different_ends() -> None:
    """One makes what another is in the middle of: nobody waits for ever."""
    graph = layered(5, 30)
    calls = Calls()
    tasks = build(graph, calls)
    members = list(tasks.values())

    outcomes = at_once(8, lambda place: make_now(*members[place::8]))

    assert [o for o in outcomes if isinstance(o, BaseException)] == []
    assert set(calls.counts.values()) == {1}
    assert all(task.is_done for task in members)


def test_cancelled_while_others_wait_for_it() -> None:
    """A make that waits for a running task goes on when that one is given up."""
    began, go = threading.Event(), threading.Event()

    def work() -> None:
        began.set()
        wait_for(go)

    one = Task("one", work)
    after = one.then("after", list)
    thread = one.bg()
    wait_for(began)
    waiter = Background(lambda: make_now(after))

    one.cancel()
    go.set()

    assert waiter.join() == [after]
    thread.join(LIMIT)
    assert states([one, after]) == {"one": "CANCELLED", "after": "CANCELLED"}
