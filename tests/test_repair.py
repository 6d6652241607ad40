"""Mending: retry, repair, supply, invalidate, cancel; what runs again, and what never does."""

from __future__ import annotations

import contextlib
import gc
import itertools
import random
import threading
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from checks import LIMIT, Background, Calls, at_once, build, check_settled, run, states, wait_for
from graphs import GRAPHS, apart, chain, layered, victims
from taskqueue_nb import CancellationError, FSMError, Task, TaskQueue, make_now
from taskqueue_nb.task import FSM_TRANSITIONS, Attempt

if TYPE_CHECKING:
    from conftest import MakeQueue

#: Each verb with what it needs beside the task.
VERBS: Final[dict[str, Callable[[Any], object]]] = {
    "retry": lambda task: task.retry(),
    "repair": lambda task: task.repair(args=()),
    "supply": lambda task: task.supply("given"),
    "invalidate": lambda task: task.invalidate(),
    "cancel": lambda task: task.cancel(),
}
EVENT_OF: Final = {"repair": "retry"}
QUEUE_VERBS: Final[dict[str, Callable[[TaskQueue, Any], object]]] = {
    "retry": lambda queue, task: queue.retry(task),
    "repair": lambda queue, task: queue.repair(task, args=()),
    "supply": lambda queue, task: queue.supply(task, "given"),
    "invalidate": lambda queue, task: queue.invalidate(task),
    "cancel": lambda queue, task: queue.cancel(task),
}


def fails() -> None:
    """Raise."""
    raise ValueError("on purpose")


def scale(a: float, b: float = 2.0, *, shift: float = 0.0) -> float:
    """Return a * b + shift, for numbers."""
    return a / 1 * b + shift


# -------------------------------------------------------------------------- where verbs are allowed
@pytest.mark.parametrize("state", FSM_TRANSITIONS)
@pytest.mark.parametrize("verb", VERBS)
def test_verb_is_allowed_where_the_table_says(state: str, verb: str) -> None:
    """In every other state it is refused, and nothing has changed."""
    event = EVENT_OF.get(verb, verb)
    calls = Calls()
    one = Task("one", calls["one"], state=state)
    before = (one.func, one.func_args, one.func_kwargs)

    if event in FSM_TRANSITIONS[state]:
        VERBS[verb](one)
        if state != "RUNNING":
            assert one.fsm_state == FSM_TRANSITIONS[state][event]
    elif verb == "repair" and state not in {"DONE", "ABORT"}:
        return  # a new function for a task that has yet to run needs no event
    else:
        with pytest.raises(FSMError):
            VERBS[verb](one)
        assert one.fsm_state == state
        assert not one.fsm_history
    assert (one.func, one.func_args, one.func_kwargs) == before
    assert calls.names == []


@pytest.mark.parametrize("state", ["PREPARE", "PENDING", "QUEUED", "RUNNING", "DONE", "ABORT"])
def test_retry_of_what_did_not_fall_changes_nothing(state: str) -> None:
    """FSMError from the task and from the queue; no member has moved."""
    one = Task("one", list, state=state)
    fallen = Task("fallen", list, state="FAILED")
    queue = TaskQueue(fallen, one)

    with pytest.raises(FSMError, match="one"):
        queue.retry(fallen, one)

    assert states(queue) == {"fallen": "FAILED", "one": state}
    assert not one.fsm_history
    assert not fallen.fsm_history


def test_retry_of_a_done_task_keeps_its_value() -> None:
    """A refused retry leaves the result where it was."""
    one = Task("one", lambda: 42)
    one.dispatch()

    with pytest.raises(FSMError):
        one.retry()

    assert one.result(0) == 42
    assert len(one.attempts) == 1


@pytest.mark.parametrize("verb", QUEUE_VERBS)
@pytest.mark.parametrize("wrong", [None, 5, "one", list], ids=repr)
def test_verb_on_what_is_no_task_is_refused(verb: str, wrong: Any) -> None:
    """A name, a number, None: a sentence, and nothing has changed."""
    queue = TaskQueue(Task("one", fails, state="FAILED"))

    with pytest.raises((TypeError, ValueError, FSMError)):
        QUEUE_VERBS[verb](queue, wrong)

    assert states(queue) == {"one": "FAILED"}


@pytest.mark.parametrize("verb", QUEUE_VERBS)
def test_verb_on_a_stranger_is_refused(verb: str) -> None:
    """A task of another queue is not this queue's to mend."""
    stranger = Task("stranger", list, state="DONE" if verb == "invalidate" else "FAILED")
    queue = TaskQueue(Task("one", list))

    with pytest.raises((ValueError, FSMError), match="stranger"):
        QUEUE_VERBS[verb](queue, stranger)

    assert not stranger.fsm_history


# -------------------------------------------------------------------------------------------- retry
@pytest.mark.parametrize("executor", [None, 2])
def test_fail_mend_retry_run(queue: MakeQueue, calls: Calls, executor: int | None) -> None:
    """The cause and its victims run; what was DONE does not run again."""
    calls.failing.add("clean")
    q = queue(GRAPHS["penguins"])
    run(q, executor=executor)
    assert q.counts() == {"PENDING": 8, "FAILED": 1, "DONE": 1}
    calls.failing.clear()

    changed = q.retry()
    run(q, executor=executor)

    assert [task.name for task in changed] == ["clean"]
    assert q.counts() == {"DONE": 10}
    assert calls.counts == dict.fromkeys(GRAPHS["penguins"], 1) | {"clean": 2}


def test_retry_after_make_takes_the_victims_along(calls: Calls) -> None:
    """Dependents that failed because of the task are PENDING again; the function says which."""
    calls.failing.add("clean")
    tasks = build(GRAPHS["penguins"], calls)
    queue = TaskQueue(*tasks.values())
    make_now(*tasks.values())
    assert queue.counts() == {"FAILED": 9, "DONE": 1}
    calls.failing.clear()

    changed = queue.retry(tasks["clean"])

    assert {task.name for task in changed} == set(tasks) - {"load"}
    assert queue.counts() == {"PENDING": 9, "DONE": 1}
    run(queue)
    assert calls.counts == dict.fromkeys(tasks, 1) | {"clean": 2}
    check_settled(queue)


def test_retry_method_takes_the_victims_along_too(calls: Calls) -> None:
    """`task.retry()` follows the same rule, across any queue."""
    calls.failing.add("b")
    tasks = build(GRAPHS["chain"], calls)
    tasks["e"].make()
    calls.failing.clear()

    tasks["b"].retry()

    assert states(tasks) == dict.fromkeys("bcde", "PENDING") | {"a": "DONE"}
    assert tasks["e"].make()
    assert calls.names == ["a", "b", "b", "c", "d", "e"]


def test_retry_of_a_cancelled_task_takes_its_victims_along(calls: Calls) -> None:
    """Dependents that were cancelled because of it come back as well."""
    tasks = build(GRAPHS["chain"], calls)
    tasks["b"].cancel()
    tasks["e"].make()
    assert states(tasks) == dict.fromkeys("bcde", "CANCELLED") | {"a": "PENDING"}

    tasks["b"].retry()
    tasks["e"].make()

    assert calls.names == list("abcde")


def test_retry_leaves_alone_what_fell_for_another_reason(calls: Calls) -> None:
    """A dependent that failed by itself, or was cancelled by hand, is not retried."""
    cause, own, by_hand = (Task(name, calls[name]) for name in ("cause", "own", "by hand"))
    for task in (own, by_hand):
        task.require(cause)
    cause.dispatch()
    calls.failing |= {"own", "cause"}
    own.dispatch()
    by_hand.cancel()
    cause.invalidate()
    cause.dispatch()
    assert states([cause, own, by_hand]) == {
        "cause": "FAILED", "own": "FAILED", "by hand": "CANCELLED",
    }  # fmt: skip

    changed = TaskQueue(cause, own, by_hand).retry(cause)

    assert changed == (cause,)
    assert states([cause, own, by_hand]) == {
        "cause": "PENDING", "own": "FAILED", "by hand": "CANCELLED",
    }  # fmt: skip


def test_retry_of_nothing_is_all_that_failed(queue: MakeQueue, calls: Calls) -> None:
    """Without names, every failed task; without failures, nothing and no error."""
    graph = layered(20, 4)
    calls.failing |= apart(graph, "t0.0", "t1.5")
    q = queue(graph)
    assert q.retry() == ()
    run(q)

    changed = q.retry()

    assert {task.name for task in changed} == calls.failing
    calls.failing.clear()
    run(q)
    assert q.counts() == {"DONE": 80}


def test_two_causes_of_one_victim() -> None:
    """The victim runs once, when both are mended; one alone does not free it."""
    calls = Calls(failing={"x", "z"})
    tasks = build(GRAPHS["join"], calls)
    queue = TaskQueue(*tasks.values())
    for way in (run, lambda queue: make_now(*queue)):
        calls.failing |= {"x", "z"}
        way(queue)
        calls.failing.clear()
        queue.retry(tasks["x"])
        way(queue)
        assert tasks["x"].is_done
        assert not tasks["report"].is_done
        assert "report" not in calls.names
        if way is run:
            queue.invalidate(*(task for task in queue if task.is_done))
            queue.retry(tasks["z"])

    queue.retry(tasks["z"])
    run(queue)

    assert queue.counts() == {"DONE": 4}
    assert calls.counts["report"] == 1
    check_settled(queue)


def test_retry_thrice_then_good() -> None:
    """`result()` is the last outcome; a waiter of the retried attempt gets the new one."""
    answers: Iterator[Any] = iter([ValueError("1"), ValueError("2"), ValueError("3"), "good"])

    def work() -> Any:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    one = Task("one", work)
    for number in ("1", "2", "3"):
        one.dispatch()
        with pytest.raises(ValueError, match=number):
            one.result(0)
        one.retry()
    waiter = Background(lambda: one.result(LIMIT))

    one.dispatch()

    assert waiter.join() == "good"
    assert one.result(0) == "good"
    assert [attempt.outcome for attempt in one.attempts] == ["FAILED"] * 3 + ["DONE"]
    assert one.exception is None
    check_settled([one])


def test_waiters_of_dependents_get_the_mended_outcome() -> None:
    """Who waits for a victim's result after the retry sees what the rerun gives."""
    broken = [True]

    def work() -> int:
        if broken:
            raise ValueError
        return 1

    cause = Task("cause", work)
    victim = cause.then("victim", lambda: 2)
    victim.make()
    broken.clear()
    cause.retry()
    waiter = Background(lambda: victim.result(LIMIT))

    victim.make()

    assert waiter.join() == 2


def test_500_retries_keep_text_and_no_frames() -> None:
    """The counts are exact; earlier attempts keep text alone, so their exceptions are freed."""
    alive: list[weakref.ref[BaseException]] = []

    class HeavyError(Exception):
        """An exception that can be watched."""

    def work() -> None:
        error = HeavyError(f"failure {len(alive) + 1}")
        alive.append(weakref.ref(error))
        raise error

    one = Task("one", work)
    for _ in range(500):
        one.dispatch()
        one.retry()
    one.dispatch()
    gc.collect()

    assert len(one.attempts) == 501 == len(alive)
    assert sum(ref() is not None for ref in alive) <= 50
    assert alive[-1]() is one.exception
    for number, attempt in enumerate(one.attempts, start=1):
        assert attempt.number == number
        assert f"failure {number}" in str(attempt.error_text)
    check_settled([one])


def test_60_tasks_a_third_fail_once_or_twice(queue: MakeQueue, calls: Calls) -> None:
    """Run, mend, run, until done: each succeeds exactly once."""
    graph = layered(6, 10)
    left = {name: 1 + place % 2 for place, name in enumerate(graph) if place % 3 == 0}
    succeeded: list[str] = []
    q = queue(graph)
    for task in q:

        def work(name: str = task.name) -> None:
            if left.get(name):
                left[name] -= 1
                raise ValueError(name)
            succeeded.append(name)

        task.func = work

    for _ in range(40):
        run(q, executor=2)
        if q.counts() == {"DONE": 60}:
            break
        q.retry()

    assert sorted(succeeded) == sorted(graph)
    assert sum(len(task.attempts) for task in q) == 60 + 10 * 1 + 10 * 2


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_whatever_fails_mend_and_rerun_leave_everything_done(data: st.DataObject) -> None:
    """Any drawn failures, by `run` or `make`, here or in threads: each task succeeds once."""
    names = [f"t{i}" for i in range(data.draw(st.integers(1, 12)))]
    graph = {
        name: data.draw(st.lists(st.sampled_from(names[:place]), unique=True)) if place else []
        for place, name in enumerate(names)
    }
    left = {name: data.draw(st.integers(0, 2)) for name in names}
    calls = Calls()
    tasks = build(graph, calls)
    queue = TaskQueue(*tasks.values())
    rounds = sum(left.values()) + 1
    for _ in range(rounds):
        calls.failing = {name for name, count in left.items() if count}
        before = calls.counts
        if data.draw(st.booleans()):
            run(queue, executor=data.draw(st.sampled_from([None, 2])))
        else:
            make_now(*queue)
        for name, count in (calls.counts - before).items():
            left[name] = max(0, left[name] - count)
        queue.retry()
        check_settled(queue)
    calls.failing = set()
    run(queue)

    assert queue.counts() == {"DONE": len(names)}
    assert all(task.attempts[-1].outcome == "DONE" for task in queue)
    assert all([a.outcome for a in t.attempts].count("DONE") == 1 for t in queue)


# ------------------------------------------------------------------------------------------- repair
def test_repair_gives_new_arguments() -> None:
    """Positional, keyword, or both; what is not named stays."""
    one = Task("one", scale, func_args=("three",), func_kwargs={"shift": 1})
    one.dispatch()
    assert one.is_failed

    one.repair(args=(3,))
    one.dispatch()

    assert one.result(0) == 7
    assert one.func_kwargs == {"shift": 1}
    assert one.attempts[0].args == ("three",)
    assert one.attempts[1].args == (3,)
    check_settled([one])


def test_repair_gives_new_code() -> None:
    """A new function with the arguments of old, and its victims run too."""
    calls = Calls()
    one = Task("one", fails)
    after = Task("after", lambda value: value * 2, func_args=(one,))
    queue = TaskQueue(one, after)
    make_now(after)

    changed = queue.repair(one, func=lambda: 21)
    run(queue)

    assert changed == (one, after)
    assert after.result(0) == 42
    assert calls.names == []


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"args": ()}, "too few"),
        ({"args": (1, 2, 3)}, "too many"),
        ({"kwargs": {"shft": 1}}, "misspelt"),
        ({"args": (1,), "kwargs": {"a": 1}}, "twice"),
        ({"func": lambda: 0}, "takes none"),
        ({"func": 5}, "no function"),
        ({"func": "scale"}, "a name"),
        ({"args": 5}, "no sequence"),
        ({"kwargs": 5}, "no mapping"),
        ({"kwargs": {5: 1}}, "no names"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_repair_that_could_not_be_called_is_refused(changes: dict[str, Any], reason: str) -> None:
    """The signature is checked first: refused, nothing has changed, and it can still be mended."""
    one = Task("one", scale, func_args=("three",))
    one.dispatch()

    with pytest.raises((TypeError, ValueError)):
        one.repair(**changes)

    assert (one.func, one.func_args, one.func_kwargs) == (scale, ("three",), {})
    assert one.is_failed, reason
    assert len(one.fsm_history) == 2
    one.repair(args=(1,))
    one.dispatch()
    assert one.result(0) == 2


def test_repair_with_a_value_that_fails_again_can_be_repaired_again() -> None:
    """A wrong value of the right shape is one more failure."""
    one = Task("one", scale, func_args=("three",))
    one.dispatch()

    one.repair(args=(None,))
    one.dispatch()
    assert one.is_failed
    one.repair(args=(1,))
    one.dispatch()

    assert one.is_done
    assert [attempt.outcome for attempt in one.attempts] == ["FAILED", "FAILED", "DONE"]


def test_repair_of_a_function_without_signature_is_accepted() -> None:
    """What cannot be checked is tried."""
    one = Task("one", fails)
    one.dispatch()

    one.repair(func=max, args=(1, 2))
    one.dispatch()

    assert one.result(0) == 2


def test_repair_may_give_tasks_as_arguments() -> None:
    """A task among the new arguments is a prerequisite, and its result is passed."""
    source = Task("source", lambda: 5)
    one = Task("one", scale, func_args=("three",))
    one.dispatch()

    one.repair(args=(source,))

    assert source in one.required
    assert one.make()
    assert one.result(0) == 10


def test_repair_that_would_close_a_circle_is_refused() -> None:
    """Arguments that make a task require itself are refused, and nothing has changed."""
    one = Task("one", scale, func_args=("three",))
    after = Task("after", scale, func_args=(one,))
    one.dispatch()

    with pytest.raises(FSMError, match="after"):
        one.repair(args=(after,))

    assert one.is_failed
    assert one.func_args == ("three",)
    assert one.required == ()


def test_repair_while_running_leaves_the_running_attempt_its_function() -> None:
    """What runs is not changed under its feet: its answer is that of the code it began with."""
    began, go = threading.Event(), threading.Event()

    def work(number: int) -> tuple[str, int]:
        began.set()
        wait_for(go)
        return "old", number

    one = Task("one", work, func_args=(1,))
    thread = one.bg()
    wait_for(began)

    try:
        one.repair(func=lambda number: ("new", number), args=(2,))
    except FSMError:
        assert (one.func, one.func_args) == (work, (1,))

    assert one.is_running
    go.set()
    thread.join(LIMIT)
    assert one.result(0) == ("old", 1)
    assert one.attempts[0].args == (1,)
    check_settled([one])


# ------------------------------------------------------------------------------------------- supply
@pytest.mark.parametrize("state", ["PENDING", "FAILED", "CANCELLED"])
def test_supply_makes_the_task_done_with_the_value(state: str) -> None:
    """The function is not called; dependents get the value; the failure stays readable."""
    calls = Calls(failing={"one"})
    one = Task("one", calls["one"])
    after = Task("after", lambda value: (value,), func_args=(one,))
    if state == "FAILED":
        one.dispatch()
    elif state == "CANCELLED":
        one.cancel()
    called = list(calls.names)
    value = object()

    one.supply(value)

    assert one.is_done
    assert one.result(0) is value
    assert one.value is value
    assert one.exception is None
    after.dispatch()
    assert after.result(0) == (value,)
    assert calls.names == called
    assert one.fsm_history[-1].event == "supply"


def test_supply_of_odd_values() -> None:
    """None and exceptions are values too."""
    error = ValueError("a value")
    for value in (None, error, NotImplemented):
        one = Task("one", fails)

        one.supply(value)

        assert one.result(0) is value


def test_supply_frees_the_victims_of_make(calls: Calls) -> None:
    """Dependents that failed because of the task can run: they are PENDING again."""
    calls.failing.add("b")
    tasks = build(GRAPHS["chain"], calls)
    queue = TaskQueue(*tasks.values())
    tasks["e"].make()

    changed = queue.supply(tasks["b"], "by hand")
    run(queue)

    assert {task.name for task in changed} == set("bcde")
    assert queue.counts() == {"DONE": 5}
    assert calls.names == list("abcde")
    check_settled(queue)


# --------------------------------------------------------------------------------------- invalidate
def test_invalidate_takes_the_done_dependents_along(queue: MakeQueue, calls: Calls) -> None:
    """DONE → PENDING for the task and every DONE dependent; the others are reused."""
    graph = GRAPHS["penguins"]
    q = queue(graph)
    run(q)
    by_name = {task.name: task for task in q}

    changed = q.invalidate(by_name["adelie"])

    stale = victims(graph, ["adelie"]) | {"adelie"}
    assert {task.name for task in changed} == stale
    assert {task.name for task in q if task.is_pending} == stale
    run(q)
    assert calls.counts == {name: 1 + (name in stale) for name in graph}


def test_invalidated_task_has_no_result_until_it_ran() -> None:
    """The old value is gone from `result`; the new one arrives there."""
    numbers = iter([1, 2])
    one = Task("one", lambda: next(numbers))
    one.dispatch()

    one.invalidate()

    with pytest.raises(TimeoutError):
        one.result(0.01)
    one.dispatch()
    assert one.result(0) == 2
    assert [attempt.number for attempt in one.attempts] == [1, 2]


def test_invalidate_passes_over_a_dependent_that_failed(calls: Calls) -> None:
    """A dependent that is not DONE keeps its state; what is DONE behind it is stale as well."""
    tasks = build(GRAPHS["chain"], calls)
    tasks["b"].make()
    calls.failing.add("c")
    tasks["c"].dispatch()
    tasks["d"].supply("by hand")
    queue = TaskQueue(*tasks.values())

    queue.invalidate(tasks["a"])

    assert states(tasks)["a"] == states(tasks)["b"] == "PENDING"
    assert states(tasks)["c"] == "FAILED"


@pytest.mark.parametrize("how", ["queue", "bg"])
def test_dependent_that_runs_on_a_stale_value_is_not_left_done_with_it(how: str) -> None:
    """Invalidated while a dependent runs: refused, or the dependent must run again as well."""
    began, go = threading.Event(), threading.Event()
    numbers = itertools.count(1)

    def work(number: int) -> int:
        began.set()
        wait_for(go)
        return number * 10

    source = Task("source", lambda: next(numbers))
    after = Task("after", work, func_args=(source,))
    queue = TaskQueue(source, after)
    thread = None
    if how == "queue":
        queue.start(executor=1)
    else:
        source.dispatch()
        thread = after.bg()
    wait_for(began)

    try:
        queue.invalidate(source)
    except FSMError:
        assert source.is_done
    go.set()
    assert queue.wait(LIMIT)
    if thread is not None:
        thread.join(LIMIT)
    run(queue)
    if after.is_cancelled:
        queue.retry(after)
        run(queue)

    assert after.result(0) == source.result(0) * 10
    check_settled(queue)


def test_done_tasks_never_run_again_unless_invalidated(queue: MakeQueue, calls: Calls) -> None:
    """Any number of runs by any means: one call each."""
    q = queue(layered(4, 4))

    for _ in range(3):
        run(q)
        run(q, executor=2)
        make_now(*q)
        assert q.start().wait(LIMIT)
        q.retry()

    assert set(calls.counts.values()) == {1}


# ------------------------------------------------------------------------------------------- cancel
def test_queue_cancels_what_it_is_told_to(queue: MakeQueue, calls: Calls) -> None:
    """Cancelled tasks do not run, and block their dependents until they are retried."""
    q = queue(GRAPHS["fork"])
    load, x, y, _ = q.tasks

    assert q.cancel(x, y) == (x, y)
    run(q)

    assert calls.names == ["load", "z"]
    assert q.causes() == {x: (), y: ()}
    q.retry(x, y)
    run(q)
    assert q.counts() == {"DONE": 4}
    assert load.is_done


def test_cancel_refuses_as_a_whole() -> None:
    """One task that cannot be cancelled, and none is."""
    pending, done = Task("pending", list), Task("done", list, state="DONE")

    with pytest.raises(FSMError, match="done"):
        TaskQueue(pending, done).cancel(pending, done)

    assert states([pending, done]) == {"pending": "PENDING", "done": "DONE"}


def test_given_up_attempt_drops_its_late_answer_after_a_retry() -> None:
    """Cancelled, retried and done again while the old function still runs: the new answer stays."""
    began, go = threading.Event(), threading.Event()

    def slow() -> str:
        began.set()
        wait_for(go)
        return "late"

    one = Task("one", slow)
    thread = one.bg()
    wait_for(began)
    one.cancel()
    go.set()
    thread.join(LIMIT)
    assert one.is_cancelled
    with pytest.raises(CancellationError):
        one.result(0)

    one.repair(func=lambda: "new")
    one.dispatch()

    assert one.result(0) == "new"
    check_settled([one])


# ----------------------------------------------------------------------------------------- then_run
@pytest.mark.parametrize("verb", ["retry", "repair", "supply", "invalidate"])
def test_then_run_starts_in_the_background(verb: str, no_threads_left: None) -> None:
    """None of the verbs starts anything by itself; `then_run=True` does."""
    for then_run in (False, True):
        calls = Calls()
        good, bad = Task("good", calls["good"]), Task("bad", fails)
        after = bad.then("after", calls["after"])
        queue = TaskQueue(good, bad, after)
        run(queue)
        act: dict[str, Callable[..., object]] = {
            "retry": lambda q=queue, t=bad, **o: q.retry(t, **o),
            "repair": lambda q=queue, t=bad, c=calls, **o: q.repair(t, func=c["bad"], **o),
            "supply": lambda q=queue, t=bad, **o: q.supply(t, 1, **o),
            "invalidate": lambda q=queue, t=good, **o: q.invalidate(t, **o),
        }

        act[verb](then_run=then_run)

        assert queue.wait(LIMIT)
        expected = {
            "retry": {"PENDING": 1, "FAILED": 1, "DONE": 1},
            "repair": {"DONE": 3}, "supply": {"DONE": 3},
            "invalidate": {"PENDING": 1, "FAILED": 1, "DONE": 1},
        }  # fmt: skip
        if then_run:
            assert queue.counts() == expected[verb]
        else:
            assert calls.names == ["good"]
        check_settled(queue)


def test_then_run_during_a_run_joins_it() -> None:
    """Mending while other tasks run: the run that is under way takes the task up."""
    began, go = threading.Event(), threading.Event()
    calls = Calls(failing={"weak"})

    def slow() -> None:
        began.set()
        wait_for(go)

    weak = Task("weak", calls["weak"])
    queue = TaskQueue(Task("slow", slow), weak).start(executor=2)
    wait_for(began)
    failed = threading.Event()
    weak.fsm_callback("FAILED", lambda _task, _step: failed.set())
    if not weak.is_failed:
        wait_for(failed)
    calls.failing.clear()

    queue.retry(weak, then_run=True)
    go.set()

    assert queue.wait(LIMIT)
    assert queue.counts() == {"DONE": 2}
    check_settled(queue)


# ------------------------------------------------------------------------------------------ at once
def test_16_threads_retry_one_task() -> None:
    """One of them retries it, the others are refused."""
    for _ in range(10):
        one = Task("one", fails)
        after = one.then("after", list)
        make_now(after)
        queue = TaskQueue(one, after)

        outcomes = at_once(16, lambda _, queue=queue, one=one: queue.retry(one))

        assert outcomes.count((one, after)) == 1
        assert sum(isinstance(outcome, FSMError) for outcome in outcomes) == 15
        check_settled(queue)


@pytest.mark.parametrize("seed", range(4))
def test_verbs_from_many_threads_during_a_run_leave_a_sound_graph(seed: int) -> None:
    """Retry, cancel, invalidate, supply, add, require, hold: drawn, from four threads, at once."""
    graph = layered(8, 8, seed)
    lock = threading.Lock()
    draw = random.Random(seed)
    rest: list[Task] = []

    def work() -> None:
        with lock:
            outcome = draw.random()
        if outcome < 0.2:
            raise ValueError("drawn")
        if outcome < 0.25:
            raise CancellationError("drawn")

    tasks = {name: Task(name, work) for name in graph}
    for name, required in graph.items():
        for other in required:
            tasks[name].require(tasks[other])
    queue = TaskQueue(*tasks.values())
    members = list(tasks.values())

    def act(place: int) -> list[BaseException]:
        own = random.Random(seed * 10 + place)
        wrong: list[BaseException] = []
        for count in range(150):
            task = own.choice(members)
            verbs: list[Callable[[], object]] = [
                partial(queue.retry, task),
                queue.retry,
                partial(queue.cancel, task),
                partial(queue.invalidate, task),
                partial(queue.supply, task, "given"),
                partial(queue.repair, task, func=work, then_run=True),
                partial(task.require, own.choice(members)),
                partial(add, f"new {place} {count}", task),
                queue.causes,
                queue.counts,
                queue.hold,
                queue.resume,
                partial(run, queue, once=True),
                partial(queue.start, executor=2),
            ]
            try:
                own.choice(verbs)()
            except FSMError:
                continue
            except BaseException as error:
                wrong.append(error)
            finally:
                queue.resume()
        return wrong

    def add(name: str, after: Task) -> None:
        task = Task(name, work)
        task.require(after)
        queue.add(task)
        rest.append(task)

    outcomes = at_once(4, act, limit=60)

    assert outcomes == [[]] * 4
    queue.resume()
    assert queue.wait(LIMIT)
    check_settled(queue)
    assert set(queue) == {*members, *rest}
    assert queue.counts() == Counter(task.fsm_state for task in queue)
    for task in queue:
        task.func = list
        if task.is_failed or task.is_cancelled:
            with contextlib.suppress(FSMError):  # it came back with an earlier one
                queue.retry(task)
    assert queue.start(executor=2).wait(LIMIT)
    assert queue.counts() == {"DONE": len(queue)}
    check_settled(queue)


def test_mending_one_of_many_is_quick(calls: Calls) -> None:
    """One failure in a chain of 20,000 near its end: the retry touches the few behind it."""
    calls.failing.add("t19990")
    queue = TaskQueue(*build(chain(20_000), calls).values())
    make_now(*queue)
    assert queue.counts() == {"FAILED": 10, "DONE": 19_990}
    calls.failing.clear()

    changed = queue.retry()

    assert len(changed) == 10
    del calls.names[:]
    run(queue)
    assert len(calls.names) == 10


def test_retry_without_names_takes_what_an_interrupt_cut_off() -> None:
    """Nobody meant to give up an interrupted task; one that was cancelled stays so."""

    def interrupted() -> None:
        if len(one.attempts) == 1:
            raise KeyboardInterrupt

    one = Task("one", interrupted)
    given_up = Task("given up", list)
    queue = TaskQueue(one, given_up)
    given_up.cancel()
    with pytest.raises(KeyboardInterrupt):
        list(queue.run())

    assert queue.retry() == (one,)

    assert list(queue.run()) == [one]
    assert [one.fsm_state, given_up.fsm_state] == ["DONE", "CANCELLED"]


def test_a_call_may_come_to_its_end_in_the_moment_it_is_cancelled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Another thread takes its answer between two looks: there is nothing to be ended any more."""
    started, gate = threading.Event(), threading.Event()

    def work() -> None:
        started.set()
        gate.wait(LIMIT)

    task = Task("t", work)
    queue = TaskQueue(task).start()
    wait_for(started)
    attempt = task.attempts[-1]
    ended: list[str] = []
    attempt.kill = lambda: ended.append("killed")

    def asked_to_stop(attempt: Attempt) -> bool:
        attempt.kill = None
        return attempt.runstate.cancelled

    monkeypatch.setattr(Attempt, "asked_to_stop", property(asked_to_stop))
    task.cancel()
    gate.set()

    assert queue.wait(LIMIT)
    assert ended == ["killed"]
    assert task.is_cancelled
