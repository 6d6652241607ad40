"""One task: how it is made, run, waited for, given up, and what it remembers."""

from __future__ import annotations

import asyncio
import concurrent.futures
import math
import re
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final

import pytest

from checks import (
    LIMIT,
    Background,
    Calls,
    at_once,
    await_state,
    check_settled,
    states,
    wait_for,
)
from taskqueue_nb import (
    Attempt,
    BlockedError,
    CancellationError,
    FSMError,
    Task,
    TaskError,
    TaskQueue,
    make_now,
    task,
)

ODD_VALUES: Final = {
    "None": None,
    "NotImplemented": NotImplemented,
    "Ellipsis": ...,
    "exception": ValueError("returned, not raised"),
    "cancellation": CancellationError("returned, not raised"),
    "exception class": KeyError,
    "NaN": math.nan,
    "iterator": iter([1, 2]),
    "generator": (x for x in "ab"),
    "task": Task("inner", list),
    "false": False,
    "empty": (),
}


class Custom(BaseException):
    """A BaseException of the user's own."""


def add(a: float, b: float = 0.0) -> float:
    """Return the sum."""
    return a + b


# ------------------------------------------------------------------------------------- making one
def test_task_takes_a_function_a_name_or_both() -> None:
    """`Task(func)`, `Task("name", func)`, `Task(name="name")` and keywords are all accepted."""
    assert Task(add).name == "add"
    assert Task(add).func is add
    assert Task("sum", add).name == "sum"
    assert Task("sum", add).func is add
    assert Task(name="later").name == "later"
    assert Task("later").name == "later"
    assert Task(name="sum", func=add).func is add
    assert Task(func=add).name == "add"


@pytest.mark.parametrize(
    ("option", "value", "kind"),
    [("retries", "x", TypeError), ("retries", "", TypeError), ("retries", None, TypeError),
     ("retries", 1.5, TypeError), ("retries", True, TypeError), ("retries", False, TypeError),
     ("retries", -1, ValueError), ("retry_delay", "x", TypeError),
     ("retry_delay", "2", TypeError), ("retry_delay", [], TypeError),
     ("retry_delay", None, TypeError), ("retry_delay", False, TypeError),
     ("retry_delay", -0.1, ValueError), ("retry_delay", math.nan, ValueError),
     ("timeout", "x", TypeError), ("timeout", b"2", TypeError), ("timeout", 1j, TypeError),
     ("timeout", timedelta(1), TypeError), ("timeout", True, TypeError),
     ("timeout", 0, ValueError), ("timeout", -1, ValueError), ("timeout", math.nan, ValueError)],
)  # fmt: skip
def test_a_number_that_makes_no_sense_is_refused_at_once(
    option: str, value: Any, kind: type[Exception]
) -> None:
    """When the task is made, and when it is set; the sentence says what is wanted."""
    one = Task("one", list)
    wanted = f"{option} is a (time in seconds|number of times), .*not {re.escape(repr(value))}"

    with pytest.raises(kind, match=wanted):
        Task("one", list, **{option: value})
    with pytest.raises(kind, match=wanted):
        setattr(one, option, value)
    assert getattr(one, option) == getattr(Task("one", list), option)


@pytest.mark.parametrize("seconds", [1, 0.5, math.inf, Fraction(1, 2), Decimal("0.5")])
def test_a_time_is_a_number_of_any_kind(seconds: Any) -> None:
    """Numbers of other kinds than Python's own are numbers."""
    one = Task("one", list, timeout=seconds, retry_delay=seconds)

    one.dispatch()

    assert one.is_done


def test_new_task_is_pending_and_empty() -> None:
    """A task is PENDING unless told otherwise; nothing has been tried."""
    one = Task("one", add, func_args=(1,), func_kwargs={"b": 2}, group="sums")

    assert one.fsm_state == "PENDING"
    assert one.is_pending
    assert one.func_args == (1,)
    assert one.func_kwargs == {"b": 2}
    assert one.required == one.blocking == ()
    assert one.attempts == []
    assert one.group == "sums"
    assert (one.retries, one.retry_delay, one.timeout, one.executor) == (0, 0.0, None, None)
    assert Task("two", add, state="PREPARE").fsm_state == "PREPARE"
    assert Task("two", add).group is None


def test_text_forms_are_the_seeds() -> None:
    """A task shows its name, function and state."""
    one = Task("t1", add)

    assert str(one) == "Task:t1:PENDING"
    assert repr(one) == f"Task('t1',{add!r},state='PENDING')"


def test_tasks_are_compared_by_identity() -> None:
    """Two tasks of one name and function are two tasks."""
    one, two = Task("same", add), Task("same", add)

    assert one != two
    assert len({one, two, one}) == 2


@pytest.mark.parametrize(
    "arguments",
    [(5,), ("name", 5), (None, 5), ("name", "function")],
    ids=["number", "number as function", "no function", "text as function"],
)
def test_what_cannot_be_called_is_refused_when_built(arguments: tuple[Any, ...]) -> None:
    """A task whose function cannot be called is no task."""
    with pytest.raises((TypeError, ValueError)):
        Task(*arguments)


@pytest.mark.parametrize("options", [{"func_args": 5}, {"nonsense": 1}], ids=str)
def test_impossible_options_are_refused_when_built(options: dict[str, Any]) -> None:
    """What could only go wrong later is said at once."""
    with pytest.raises((TypeError, ValueError)):
        Task("one", add, **options)


def test_task_without_function_fails_when_dispatched_and_can_be_called() -> None:
    """A name alone can be given a function later, by `call`, `bg` or `repair`."""
    bare = Task(name="bare")

    assert bare.call(add, 1, 2) == 3
    assert bare.is_done
    assert bare.result() == 3


# ------------------------------------------------------------------------------------ running one
def test_dispatch_runs_now_in_this_thread() -> None:
    """`dispatch` calls the function with its arguments, here and now."""
    seen: list[threading.Thread] = []

    def where(a: int, *, b: int) -> int:
        seen.append(threading.current_thread())
        return a + b

    one = Task("sum", where, func_args=(1,), func_kwargs={"b": 2})

    one.dispatch()

    assert one.is_done
    assert one.result() == one() == one.value == 3
    assert seen == [threading.current_thread()]
    check_settled([one])


@pytest.mark.parametrize("value", ODD_VALUES.values(), ids=ODD_VALUES)
def test_odd_values_are_kept_as_they_are(value: Any) -> None:
    """None, NotImplemented, an exception instance, NaN, an iterator: the value itself."""
    one = Task("odd", lambda: value)
    after = Task("after", lambda given: given, func_args=(one,))

    make_now(after)

    assert one.is_done
    assert one.result() is value
    assert one.value is value
    assert after.result() is value


def test_raising_function_fails_its_task_and_is_not_raised_by_dispatch() -> None:
    """FAILED; `result()` raises that very object, as often as asked."""
    error = ValueError("no such penguin")

    def broken() -> None:
        raise error

    one = Task("broken", broken)

    one.dispatch()

    assert one.is_failed
    assert one.exception is error
    for _ in range(3):
        with pytest.raises(ValueError, match="no such penguin") as caught:
            one.result()
        assert caught.value is error
    with pytest.raises(ValueError, match="no such penguin"):
        one()
    with pytest.raises(TaskError):
        _ = one.value
    check_settled([one])


def test_value_never_waits() -> None:
    """`value` of a task that has not run is an error at once, and `exception` is None."""
    one = Task("one", add)

    with pytest.raises(TaskError, match="PENDING"):
        _ = one.value
    assert one.exception is None


BASE_EXCEPTIONS: Final = (
    BaseException, Custom, GeneratorExit, StopIteration, StopAsyncIteration, MemoryError,
    RecursionError, asyncio.CancelledError,
)  # fmt: skip


def raising(kind: type[BaseException]) -> Callable[[], None]:
    """Return a function that raises it."""

    def broken() -> None:
        raise kind("on purpose")

    return broken


@pytest.mark.parametrize("kind", BASE_EXCEPTIONS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("how", ["dispatch", "make", "queue", "bg", "threads", "pool"])
def test_base_exception_fails_the_task_and_blocks_its_dependents(
    kind: type[BaseException], how: str
) -> None:
    """Whatever a function raises, its task is FAILED, what requires it does not run, others do."""
    calls = Calls()
    bad = Task("bad", raising(kind))
    after = bad.then("after", calls["after"])
    other = Task("other", calls["other"])

    def act() -> None:
        if how == "dispatch":
            bad.dispatch()
            other.dispatch()
        elif how == "bg":
            bad.bg().join(LIMIT)
            other.bg().join(LIMIT)
        elif how == "make":
            assert make_now(bad, other) == [bad, other]
        elif how == "pool":
            with concurrent.futures.ThreadPoolExecutor(2) as pool:
                list(TaskQueue(bad, after, other).run(executor=pool))
        else:
            list(TaskQueue(bad, after, other).run(executor=2 if how == "threads" else None))

    (outcome,) = at_once(1, lambda _: act())

    assert outcome is None
    assert bad.is_failed
    assert type(bad.exception) is kind
    assert other.is_done
    assert calls.names == ["other"]
    assert after.is_pending
    check_settled([bad, after, other])


@pytest.mark.parametrize("how", ["dispatch", "make", "run", "make method", "call"])
def test_system_exit_in_the_callers_thread_fails_the_task_and_goes_on(how: str) -> None:
    """`sys.exit()` in a task in the caller's own thread is the caller's wish to leave."""
    bad = Task("bad", raising(SystemExit))
    acts: dict[str, Callable[[], object]] = {
        "dispatch": bad.dispatch,
        "make": lambda: make_now(bad),
        "make method": bad.make,
        "run": lambda: list(TaskQueue(bad).run()),
        "call": lambda: bad.call(raising(SystemExit)),
    }

    with pytest.raises(SystemExit):
        acts[how]()

    assert bad.is_failed
    assert isinstance(bad.exception, SystemExit)
    check_settled([bad])


def test_system_exit_in_a_worker_fails_its_task_only(no_threads_left: None) -> None:
    """`sys.exit()` in a thread does not reach the kernel, and the other tasks run."""
    calls = Calls()
    bad = Task("bad", raising(SystemExit))
    others = [Task(f"t{i}", calls[f"t{i}"]) for i in range(5)]
    queue = TaskQueue(bad, *others)

    list(queue.run(executor=2))

    assert bad.is_failed
    assert all(other.is_done for other in others)
    lone = Task("lone", raising(SystemExit))
    lone.bg().join(LIMIT)
    assert lone.is_failed
    check_settled([*queue, lone])


def test_cancel_on_exception_cancels_instead_of_failing() -> None:
    """With `cancel_on_exception` an exception leaves the task CANCELLED, ready to be retried."""
    one = Task("one", raising(ValueError), cancel_on_exception=True)

    one.dispatch()

    assert one.is_cancelled
    one.retry()
    assert one.is_pending
    check_settled([one])


@pytest.mark.parametrize(("verdict", "state"), [(True, "CANCELLED"), (False, "DONE")])
def test_cancel_on_result_looks_at_the_value(verdict: bool, state: str) -> None:
    """A result that `cancel_on_result` is true of cancels the task."""
    looked: list[object] = []

    def look(value: object) -> bool:
        looked.append(value)
        return verdict

    one = Task("one", lambda: 42, cancel_on_result=look)

    one.dispatch()

    assert looked == [42]
    assert one.fsm_state == state
    check_settled([one])


def test_cancel_on_result_that_raises_does_not_leave_the_task_running() -> None:
    """A broken test of the result fails the task, with its error."""

    def look(_value: object) -> bool:
        raise ValueError("cannot tell")

    one = Task("one", lambda: 42, cancel_on_result=look)

    one.dispatch()

    assert one.is_failed
    assert isinstance(one.exception, ValueError)
    check_settled([one])


def test_track_prints_each_transition(capsys: pytest.CaptureFixture[str]) -> None:
    """`track=True` prints a line per transition; a callable is a callback of any state."""
    heard: list[str] = []
    Task("t1", lambda: print("doing t1"), track=True).dispatch()
    Task("t2", list, track=lambda _task, step: heard.append(step.event)).dispatch()

    assert capsys.readouterr().out == (
        "t1 PENDING->dispatch->RUNNING\ndoing t1\nt1 RUNNING->done->DONE\n"
    )
    assert heard == ["dispatch", "done"]


def test_name_with_line_breaks_and_escapes_forges_no_line(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """A hostile name stays on its line in `track` output, logs and errors."""
    bad = Task("x\n\x1b[2Jroot PENDING", raising(ValueError), track=True)
    bad.fsm_callback(Task.FSM_ANY_STATE, lambda _task, _step: raising(ValueError)())

    bad.dispatch()

    out = capsys.readouterr().out
    assert len(out.splitlines()) == 2
    assert "\x1b" not in out
    with pytest.raises(FSMError) as caught:
        bad.fsm_event("done")
    for text in [str(caught.value), *(r.getMessage().splitlines()[0] for r in caplog.records)]:
        assert "\x1b" not in text
        assert "\nroot" not in text


# ----------------------------------------------------------------------- call, callif, run, make
def test_call_runs_another_function_as_the_task() -> None:
    """`call(func, *args)` completes the task with that function's value."""
    one = Task("one", add)

    assert one.call(add, 2, b=3) == 5

    assert one.is_done
    assert one.result() == 5


def test_callif_runs_the_task_unless_completed() -> None:
    """`callif` dispatches a pending task and leaves a completed one alone."""
    calls = Calls()
    one = Task("one", calls["one"])

    one.callif()
    one.callif()

    assert one.is_done
    assert calls.names == ["one"]


def test_make_completes_what_is_required_first() -> None:
    """`make` says whether the task is completed, and calls each function once."""
    calls = Calls()
    a = Task("a", calls["a"])
    c = a.then("b", calls["b"]).then("c", calls["c"])

    assert c.make() is True
    assert c.make() is True

    assert calls.names == ["a", "b", "c"]


def test_run_calls_the_function_whatever_the_state() -> None:
    """`run` ignores requirements and state, and leaves the state's rules unbroken."""
    calls = Calls()
    first = Task("first", calls["first"])
    second = first.then("second", calls["second"])

    second.run()

    assert calls.names == ["second"]
    assert first.is_pending
    done = Task("done", calls["again"])
    done.dispatch()
    done.run()
    assert calls.names == ["second", "again", "again"]


def test_bg_returns_its_thread(no_threads_left: None) -> None:
    """`bg` runs the task in a thread and returns it at once."""
    go, began = threading.Event(), threading.Event()

    def work() -> str:
        began.set()
        wait_for(go)
        return "done"

    one = Task("one", work)

    thread = one.bg()

    wait_for(began)
    assert one.is_running
    go.set()
    thread.join(LIMIT)
    assert one.result(0) == "done"
    check_settled([one])


def test_bg_takes_another_function_first() -> None:
    """`bg(func, *args)` gives the function first, as in the seed's example."""
    one = Task(name="one")

    one.bg(add, 1, 2).join(LIMIT)

    assert one.is_done
    assert one.result() == 3


def test_bg_twice_runs_once() -> None:
    """The second `bg` is refused, or its thread is: one run."""
    calls = Calls()
    go = threading.Event()

    def work() -> None:
        calls.names.append("one")
        wait_for(go)

    one = Task("one", work)
    threads = []
    for _ in range(2):
        try:
            threads.append(one.bg())
        except FSMError:
            assert len(threads) == 1
    go.set()
    for thread in threads:
        thread.join(LIMIT)

    assert one.is_done
    assert calls.names == ["one"]
    check_settled([one])


def test_of_16_threads_that_dispatch_one_task_one_runs_it() -> None:
    """One run and 15 FSMErrors, 20 times over."""
    for _ in range(20):
        calls = Calls()
        one = Task("one", calls["one"])

        outcomes = at_once(16, lambda _, one=one: one.dispatch())

        assert calls.names == ["one"]
        assert sum(isinstance(outcome, FSMError) for outcome in outcomes) == 15
        check_settled([one])


def test_seeds_two_sleepers_run_one_after_the_other() -> None:
    """The seed's example of `bg` and `notify`, with Events for the sleeping."""
    go, done = threading.Event(), threading.Event()
    t1 = Task(name="task1")
    t1.bg(go.wait, LIMIT)
    t2 = Task(name="task2")
    t2.require(t1)
    t1.notify(t2.call, done.set)
    assert not done.is_set()

    go.set()

    wait_for(done, "task2")
    assert t2.result(LIMIT) is None
    assert states([t1, t2]) == {"task1": "DONE", "task2": "DONE"}


# --------------------------------------------------------------------------------------- requiring
def test_then_returns_the_later_task() -> None:
    """`then` takes a task, a function, or a name and a function, so that chains read on."""
    a, given = Task("a", list), Task("given", list)

    assert a.then(given) is given
    assert a.then(dict).name == "dict"
    named = a.then("named", add, func_args=(1,), func_kwargs={"b": 1}, group="sums")

    assert (named.name, named.func_args, named.group) == ("named", (1,), "sums")
    assert [task.name for task in a.blocking] == ["given", "dict", "named"]
    assert named.required == (a,)


def test_require_and_block_are_two_sides_of_one_thing() -> None:
    """`a.block(b)` is `b.require(a)`; both sides list the other in the order added."""
    a, b, c = (Task(name, list) for name in "abc")

    c.require(b)
    a.block(c)

    assert c.required == (b, a)
    assert a.blocking == b.blocking == (c,)


def test_tasks_as_arguments_are_prerequisites_and_pass_their_results() -> None:
    """Also inside lists, tuples and dicts, and as keywords; other arguments stay as they are."""
    one, two, three = (Task(f"t{n}", lambda n=n: n) for n in (1, 2, 3))
    plain = object()

    def gather(*args: Any, **kwargs: Any) -> tuple[Any, ...]:
        return (*args, kwargs)

    nested = Task(
        "gather",
        gather,
        func_args=(one, [two, (three, {"deep": one})], plain),
        func_kwargs={"named": two, "listed": [three]},
    )

    make_now(nested)

    assert set(nested.required) == {one, two, three}
    first, second, third, named = nested.result()
    assert (first, second) == (1, [2, (3, {"deep": 1})])
    assert third is plain
    assert named == {"named": 2, "listed": [3]}


def test_task_given_as_argument_twice_is_required_once() -> None:
    """The same task as two arguments is one requirement."""
    one = Task("one", lambda: 1)
    double = Task("double", add, func_args=(one, one))

    assert double.required == (one,)
    assert one.blocking == (double,)
    assert make_now(double)[0].result() == 2


@pytest.mark.parametrize("how", ["dispatch", "bg", "call"])
@pytest.mark.parametrize("state", ["PENDING", "FAILED", "CANCELLED", "RUNNING", "QUEUED"])
def test_blocked_task_is_not_run(how: str, state: str) -> None:
    """A prerequisite that is not DONE blocks: BlockedError that names it, nothing changed."""
    calls = Calls()
    first = Task("first", calls["first"], state=state)
    second = Task("second", calls["second"])
    second.require(first)
    acts: dict[str, Callable[[], object]] = {
        "dispatch": second.dispatch,
        "bg": second.bg,
        "call": lambda: second.call(calls["second"]),
    }

    assert second.isblocked()
    assert list(second.blockers()) == [first]
    with pytest.raises(BlockedError, match="first") as caught:
        acts[how]()

    assert caught.value.blocking_task is first
    assert isinstance(caught.value, (TaskError, FSMError))
    assert second.is_pending
    assert calls.names == []


def test_done_prerequisites_do_not_block() -> None:
    """A task whose prerequisites are DONE runs; `blockers()` yields only those that are not."""
    done, failed = Task("done", list, state="DONE"), Task("failed", list, state="FAILED")
    after = Task("after", list)
    after.require(done)
    assert not after.isblocked()

    after.require(failed)

    assert after.isblocked()
    assert list(after.blockers()) == [failed]


def test_aborted_prerequisite_aborts_what_is_dispatched() -> None:
    """A task that can never run is aborted when somebody tries, and its function is not called."""
    calls = Calls()
    first = Task("first", calls["first"])
    second = first.then("second", calls["second"])
    first.abort()

    with pytest.raises(FSMError):
        second.dispatch()

    assert second.is_abort
    assert calls.names == []


@pytest.mark.parametrize(
    ("state", "completed"),
    [("PREPARE", False), ("PENDING", False), ("QUEUED", False), ("RUNNING", False),
     ("CANCELLED", False), ("FAILED", True), ("DONE", True), ("ABORT", True)],
)  # fmt: skip
def test_completed_is_done_failed_or_aborted(state: str, completed: bool) -> None:
    """`iscompleted()` is about the task alone; CANCELLED waits for a retry."""
    assert Task("one", list, state=state).iscompleted() is completed


# ---------------------------------------------------------------------------------------- waiting
def test_notify_calls_back_when_complete_and_at_once_if_it_is() -> None:
    """`notify(callback)` gets the task, `notify(callback, *args)` gets its arguments."""
    one = Task("one", list)
    heard: list[Any] = []
    one.notify(heard.append)
    one.notify(heard.append, "given")
    assert heard == []

    one.dispatch()
    one.notify(heard.append)

    assert heard == [one, "given", one]


def test_notify_is_called_for_a_failure_too() -> None:
    """Complete means however it ended; a callback that raises harms nobody."""
    one = Task("one", raising(ValueError))
    heard: list[Task] = []
    one.notify(raising(TypeError), "broken")
    one.notify(heard.append)

    one.dispatch()

    assert heard == [one]
    assert one.is_failed


@pytest.mark.parametrize(
    ("how", "kind"),
    [("done", None), ("fails", ValueError), ("cancelled", CancellationError),
     ("prerequisite", TaskError), ("supplied", None)],
)  # fmt: skip
def test_five_waiters_are_woken_however_it_ends(how: str, kind: type[Exception] | None) -> None:
    """Done, failed, cancelled, failed by its prerequisite: all five return within seconds."""
    first = Task("first", raising(ValueError) if how == "prerequisite" else list)
    one = Task("one", raising(ValueError) if how == "fails" else lambda: 7)
    if how == "prerequisite":
        one.require(first)

    def work(place: int) -> Any:
        if place < 5:
            return one.result(5)
        if how == "cancelled":
            one.cancel()
        elif how == "supplied":
            one.supply(7)
        else:
            one.make()
        return None

    outcomes = at_once(6, work, limit=10)[:5]

    if kind is None:
        assert outcomes == [7] * 5
    else:
        assert [isinstance(outcome, kind) for outcome in outcomes] == [True] * 5, outcomes


def test_result_works_with_concurrent_futures_wait() -> None:
    """`concurrent.futures.wait` and `as_completed` take the results of tasks."""
    tasks = [Task(f"t{i}", lambda i=i: i) for i in range(3)]
    bad = Task("bad", raising(ValueError))
    results = [each.result for each in [*tasks, bad]]
    threads = [each.bg() for each in [*tasks, bad]]

    done, pending = concurrent.futures.wait(results, timeout=LIMIT)

    assert not pending
    assert len(done) == 4
    assert {f.result() for f in concurrent.futures.as_completed(results[:3], LIMIT)} == {0, 1, 2}
    assert isinstance(results[3].exception(0), ValueError)
    for thread in threads:
        thread.join(LIMIT)


def test_result_with_a_time_limit_gives_up() -> None:
    """`result(timeout)` of a task that nobody runs raises TimeoutError, and so waits no more."""
    with pytest.raises(TimeoutError):
        Task("one", list).result(0.01)


def test_task_can_be_awaited() -> None:
    """`await task` in a coroutine gives the value, or raises what the task raised."""
    good, bad = Task("good", lambda: 5), Task("bad", raising(ValueError))

    async def main() -> int:
        threads = [good.bg(), bad.bg()]
        value: int = await asyncio.wait_for(good, LIMIT)
        with pytest.raises(ValueError, match="on purpose"):
            await bad
        for thread in threads:
            thread.join(LIMIT)
        return value

    assert asyncio.run(main()) == 5


# ---------------------------------------------------------------------------------------- current
def test_current_task_is_known_inside_it_and_only_there() -> None:
    """`Task.current()` and its alias name the task that this thread runs; None outside."""
    seen: list[Task | None] = []

    def inner() -> None:
        seen.append(Task.current())

    def outer() -> None:
        seen.append(Task.current())
        inner_task.dispatch()
        seen.append(Task.default())

    inner_task, outer_task = Task("inner", inner), Task("outer", outer)
    assert Task.current() is None

    outer_task.dispatch()

    assert seen == [outer_task, inner_task, outer_task]
    assert Task.current() is None


def test_current_task_is_each_threads_own() -> None:
    """Two tasks at once in two threads each see themselves."""
    barrier = threading.Barrier(2)

    def look() -> Task | None:
        barrier.wait(LIMIT)
        return Task.current()

    tasks = [Task("a", look), Task("b", look)]

    list(TaskQueue(*tasks).run(executor=2))

    assert [each.result() for each in tasks] == tasks


def test_progress_is_reported_from_inside() -> None:
    """`progress(done, total)` is kept where a display finds it; None before."""
    seen: list[Any] = []

    def work() -> None:
        current = Task.current()
        assert current is not None
        current.progress(3, 10)
        seen.append(current.progressed)

    one = Task("one", work)
    assert one.progressed is None

    one.dispatch()

    assert seen == [(3, 10)]


# ------------------------------------------------------------------------------------- cancelling
@pytest.mark.parametrize("state", ["PENDING", "QUEUED"])
def test_cancel_of_a_waiting_task_is_at_once(state: str) -> None:
    """Pending or queued → CANCELLED, and its waiters know."""
    one = Task("one", list, state=state)
    result = one.result

    one.cancel()

    assert one.is_cancelled
    with pytest.raises(CancellationError):
        result(0)


class Stubborn:
    """A function that says when it began, and ends when told."""

    def __init__(self, value: object = "late") -> None:
        self.began, self.go = threading.Event(), threading.Event()
        self.value = value

    def __call__(self) -> object:
        """Wait to be told, however often it is cancelled."""
        self.began.set()
        wait_for(self.go)
        return self.value


def test_cancel_of_a_running_task_asks_and_does_not_wait() -> None:
    """It returns at once; state, text and result do not wait for the function."""
    stubborn = Stubborn()
    one = Task("one", stubborn)
    result = one.result
    thread = one.bg()
    wait_for(stubborn.began)

    before = time.monotonic()
    one.cancel()
    assert one.runstate.cancelled
    assert one.is_running
    assert "RUNNING" in repr(one)
    assert "RUNNING" in str(one)
    with pytest.raises(CancellationError):
        result(5)
    assert time.monotonic() - before < 1.0

    stubborn.go.set()
    thread.join(LIMIT)
    assert one.is_cancelled
    with pytest.raises(CancellationError):
        one.result(0)
    with pytest.raises(TaskError):
        _ = one.value
    check_settled([one])


def test_cancelled_function_that_raises_ends_cancelled() -> None:
    """A late failure of a given-up attempt is dropped as a late answer is."""
    began, go = threading.Event(), threading.Event()

    def work() -> None:
        began.set()
        wait_for(go)
        raise ValueError("too late to matter")

    one = Task("one", work)
    thread = one.bg()
    wait_for(began)

    one.cancel()
    go.set()
    thread.join(LIMIT)

    assert one.is_cancelled
    check_settled([one])


def test_long_loop_polls_its_runstate() -> None:
    """`Task.current().runstate.raiseif()` in a loop ends a cancelled task as CANCELLED."""
    began = threading.Event()

    def work() -> None:
        current = Task.current()
        assert current is not None
        while True:
            began.set()
            current.runstate.raiseif()

    one = Task("one", work)
    thread = one.bg()
    wait_for(began)

    one.cancel()
    thread.join(LIMIT)

    assert not thread.is_alive()
    assert one.is_cancelled
    check_settled([one])


def test_raising_cancellation_cancels_without_being_asked() -> None:
    """A function may give up by itself."""
    one = Task("one", raising(CancellationError))

    one.dispatch()

    assert one.is_cancelled
    one.retry()
    assert one.is_pending


def test_retried_task_is_not_cancelled_any_more() -> None:
    """A cancelled task that is retried runs with a fresh runstate."""
    seen: list[bool] = []

    def work() -> str:
        current = Task.current()
        assert current is not None
        seen.append(current.runstate.cancelled)
        current.runstate.raiseif()
        return "fine"

    one = Task("one", work)
    one.cancel()
    one.retry()

    one.dispatch()

    assert seen == [False]
    assert one.result() == "fine"


@pytest.mark.parametrize("state", ["CANCELLED", "FAILED", "DONE", "ABORT"])
def test_cancel_of_what_has_ended_is_refused(state: str) -> None:
    """What is over cannot be given up."""
    one = Task("one", list, state=state)

    with pytest.raises(FSMError):
        one.cancel()

    assert one.fsm_state == state


@pytest.mark.parametrize("event", ["done", "except", "cancel", "error", "retry", "supply", "queue"])
def test_no_event_leaves_abort(event: str) -> None:
    """ABORT is final: no event, no verb leads out of it."""
    one = Task("one", list)
    one.abort()

    with pytest.raises(FSMError):
        one.fsm_event(event)
    for verb in (one.retry, one.cancel, one.invalidate, one.abort, one.dispatch, one.repair):
        with pytest.raises(FSMError):
            verb()
    with pytest.raises(FSMError):
        one.supply(1)

    assert one.is_abort


# --------------------------------------------------------------------------------------- attempts
def test_attempt_tells_what_happened() -> None:
    """An attempt keeps its number, times, outcome, output and arguments."""
    before = time.time()

    def work(a: int, *, b: int) -> int:
        print("working")
        return a + b

    one = Task("one", work, func_args=(1,), func_kwargs={"b": 2})

    one.dispatch()

    (attempt,) = one.attempts
    assert isinstance(attempt, Attempt)
    assert attempt.number == 1
    assert attempt.outcome == "DONE"
    assert attempt.error is None
    assert attempt.error_text is None
    assert attempt.output == "working\n" == one.output
    assert tuple(attempt.args) == (1,)
    assert attempt.kwargs == {"b": 2}
    assert attempt.ready is not None
    assert attempt.started is not None
    assert attempt.ended is not None
    assert before <= attempt.ready <= attempt.started <= attempt.ended <= time.time()


def test_running_attempt_is_there_and_has_no_outcome() -> None:
    """While the function runs its attempt is the last one, without end or outcome."""
    seen: list[Attempt] = []

    def work() -> None:
        current = Task.current()
        assert current is not None
        seen.append(current.attempts[-1])
        assert current.attempts[-1].outcome is None
        assert current.attempts[-1].ended is None

    one = Task("one", work)

    one.dispatch()

    assert one.is_done, one.exception
    assert [attempt.number for attempt in seen] == [1]
    assert seen[0].outcome == "DONE"


def test_failed_attempt_keeps_error_frames_and_text() -> None:
    """The last failure keeps its frames for post-mortem, and its text names the line."""
    one = Task("one", raising(ValueError))

    one.dispatch()

    attempt = one.attempts[-1]
    assert attempt.outcome == "FAILED"
    assert attempt.error is one.exception
    assert attempt.error is not None
    assert attempt.error.__traceback__ is not None
    assert attempt.error_text is not None
    assert "ValueError: on purpose" in attempt.error_text
    assert "raise kind" in attempt.error_text


def test_fingerprint_changes_with_code_and_arguments() -> None:
    """Two attempts of the same code with the same arguments have one fingerprint."""

    def tried(func: Callable[..., Any], *args: Any) -> str:
        one = Task("one", func, func_args=args)
        one.dispatch()
        fingerprint = one.attempts[-1].fingerprint
        assert fingerprint is not None
        return fingerprint

    assert tried(add, 1) == tried(add, 1)
    assert len({tried(add, 1), tried(add, 2), tried(max, 1, 2)}) == 3
    assert tried(lambda: 1) != tried(lambda: 2)


# ----------------------------------------------------------------------------- automatic retrying
def failing_times(count: int, counts: list[int]) -> Callable[[], str]:
    """Return a function that fails `count` times before it works."""

    def work() -> str:
        counts.append(len(counts) + 1)
        if len(counts) <= count:
            raise ValueError(f"failure {len(counts)}")
        return f"good at {len(counts)}"

    return work


@pytest.mark.parametrize("how", ["dispatch", "make", "run", "threads", "bg"])
def test_retries_are_made_by_themselves(how: str) -> None:
    """A task with `retries` is tried that often again; all its attempts can be read."""
    counts: list[int] = []
    one = Task("one", failing_times(2, counts), retries=2)
    after = one.then("after", list)

    if how == "dispatch":
        one.dispatch()
    elif how == "bg":
        one.bg().join(LIMIT)
    elif how == "make":
        after.make()
    else:
        list(TaskQueue(one, after).run(executor=2 if how == "threads" else None))

    assert one.is_done
    assert one.result() == "good at 3"
    assert [attempt.outcome for attempt in one.attempts] == ["FAILED", "FAILED", "DONE"]
    assert counts == [1, 2, 3]
    assert after.is_done == (how not in {"dispatch", "bg"})
    check_settled([one, after])


def test_retries_run_out() -> None:
    """A task that fails once more than its retries is FAILED with the last error."""
    counts: list[int] = []
    one = Task("one", failing_times(9, counts), retries=2)

    list(TaskQueue(one).run())

    assert one.is_failed
    assert counts == [1, 2, 3]
    assert str(one.exception) == "failure 3"
    check_settled([one])


def test_waiter_of_a_task_with_retries_gets_the_last_outcome() -> None:
    """Who waits does not see the failures in between."""
    counts: list[int] = []
    one = Task("one", failing_times(2, counts), retries=2)
    waiter = Background(lambda: one.result(LIMIT))

    list(TaskQueue(one).run())

    assert waiter.join() == "good at 3"


@pytest.mark.parametrize("executor", [None, 2])
def test_retry_delay_may_depend_on_the_attempt(executor: int | None) -> None:
    """A function of the attempt's number gives the seconds to wait."""
    counts: list[int] = []
    asked: list[int] = []

    def delay(number: int) -> float:
        asked.append(number)
        return 0.001

    one = Task("one", failing_times(3, counts), retries=3, retry_delay=delay)

    list(TaskQueue(one).run(executor=executor))

    assert one.is_done
    assert asked == [1, 2, 3]


def test_retry_delay_that_raises_leaves_the_task_failed() -> None:
    """A broken `retry_delay` ends the retrying; nothing hangs."""
    one = Task("one", raising(ValueError), retries=3, retry_delay=lambda _: 1 / 0)

    list(TaskQueue(one).run())

    assert one.is_failed
    check_settled([one])


def test_cancelled_task_is_not_retried_by_itself() -> None:
    """`retries` are for failures; giving up is meant."""
    calls = Calls()

    def work() -> None:
        calls.names.append("one")
        raise CancellationError("enough")

    one = Task("one", work, retries=5)

    list(TaskQueue(one).run())

    assert one.is_cancelled
    assert calls.names == ["one"]


def test_waiting_for_a_retry_can_be_cancelled() -> None:
    """A long `retry_delay` does not keep a task or a run from being stopped."""
    one = Task("one", raising(ValueError), retries=1, retry_delay=10_000.0)
    queue = TaskQueue(one).start(executor=1)
    await_state(one, "FAILED")

    queue.stop(cancel=True)

    assert queue.wait(LIMIT)
    assert len(one.attempts) == 1
    check_settled([one])


# ---------------------------------------------------------------------------------------- timeout
def test_timeout_in_a_thread_gives_the_attempt_up() -> None:
    """FAILED after the timeout while the function still hangs; its late answer is dropped."""
    stubborn = Stubborn()
    calls = Calls()
    one = Task("one", stubborn, timeout=0.05)
    after = one.then("after", calls["after"])
    other = Task("other", calls["other"])
    queue = TaskQueue(one, after, other).start(executor=2)
    wait_for(stubborn.began)

    await_state(one, "FAILED", limit=5)
    assert queue.wait(LIMIT)
    assert isinstance(one.exception, TimeoutError)
    assert "0.05" in str(one.exception)
    assert one.runstate.cancelled, "the function is asked to end"
    stubborn.go.set()

    assert other.is_done
    assert calls.names == ["other"]
    with pytest.raises(TimeoutError):
        one.result(0)
    check_settled([one, after, other])


def test_late_answer_does_not_reach_the_next_attempt() -> None:
    """A retried task takes the answer of its newest attempt only."""
    first, second = Stubborn("late"), Stubborn("right")
    functions = iter([first, second])

    def work() -> object:
        return next(functions)()

    one = Task("one", work, timeout=0.05)
    thread = one.bg()
    wait_for(first.began)
    await_state(one, "FAILED", limit=5)
    one.timeout = None
    one.retry()
    again = one.bg()
    wait_for(second.began)

    first.go.set()
    thread.join(LIMIT)
    assert one.is_running
    second.go.set()
    again.join(LIMIT)

    assert one.result(LIMIT) == "right"
    assert one.is_done
    check_settled([one])


def test_timeout_in_the_callers_thread_fails_the_attempt() -> None:
    """Where nobody interrupts the function, an attempt that took longer is FAILED as well."""
    one = Task("one", lambda: threading.Event().wait(0.1), timeout=0.02)

    one.dispatch()

    assert one.is_failed
    assert isinstance(one.exception, TimeoutError)
    check_settled([one])


def test_timeout_that_is_kept_changes_nothing() -> None:
    """An attempt that ends in time is as if there were no limit; no thread is left."""
    tasks = [Task(f"t{i}", lambda i=i: i, timeout=60.0) for i in range(5)]
    before = threading.active_count()

    list(TaskQueue(*tasks).run(executor=2))
    tasks.append(Task("own", lambda: 5, timeout=60.0))
    tasks[-1].dispatch()

    assert [each.result(0) for each in tasks] == [0, 1, 2, 3, 4, 5]
    assert threading.active_count() <= before


# ------------------------------------------------------------------------------------- decorator
@task
def load(name: str) -> str:
    """Load a table."""
    return f"table {name}"


@task(group="cleaning", retries=1)
def tidy(table: str, *, strict: bool = False) -> str:
    """Tidy a table."""
    return f"tidy {table}{' strictly' if strict else ''}"


def test_decorated_function_builds_tasks() -> None:
    """`clean = tidy(load("x.csv"))` is two tasks, the second requiring the first."""
    clean = tidy(load("x.csv"), strict=True)

    assert isinstance(clean, Task)
    assert clean.name == "tidy"
    assert (clean.group, clean.retries) == ("cleaning", 1)
    (loaded,) = clean.required
    assert loaded.name == "load"
    assert clean.make()
    assert clean.result() == "tidy table x.csv strictly"


def test_decorated_function_is_still_there() -> None:
    """`tidy.func` is the plain function; name and doc string are its own."""
    assert tidy.func("x") == "tidy x"
    assert tidy.__name__ == "tidy"
    assert tidy.__doc__ == "Tidy a table."


def test_options_give_a_variant() -> None:
    """`options` changes what is named, keeps the rest, and leaves the original alone."""
    variant = tidy.options(name="tidy penguins", retries=3)

    assert variant("x").name == "tidy penguins"
    assert (variant("x").group, variant("x").retries) == ("cleaning", 3)
    assert (tidy("x").name, tidy("x").retries) == ("tidy", 1)
    with pytest.raises(TypeError):
        tidy.options(nonsense=1)


def test_map_gives_one_task_per_item_in_one_group() -> None:
    """`map` builds a task for each item; tasks among the items are prerequisites."""
    source = load("x.csv")

    mapped = tidy.map(["a", "b", source])

    assert [each.func_args for each in mapped] == [("a",), ("b",), (source,)]
    assert len({each.group for each in mapped}) == 1
    assert mapped[0].group is not None
    assert mapped[2].required == (source,)
    make_now(*mapped)
    assert [each.result() for each in mapped] == ["tidy a", "tidy b", "tidy table x.csv"]


def test_map_of_nothing_is_nothing() -> None:
    """No items, no tasks."""
    assert list(load.map([])) == []


def test_decorated_call_checks_its_arguments_at_once() -> None:
    """A call that could not work is refused where it is written, as for a plain function."""
    with pytest.raises(TypeError):
        load("x", "too many")
    with pytest.raises(TypeError):
        tidy("x", strikt=True)
