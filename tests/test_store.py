"""A run survives its kernel: results, states and history come back from a file."""

from __future__ import annotations

import gc
import json
import logging
import os
import pickle
import signal
import sqlite3
import stat
import sys
import threading
import types
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import taskqueue_nb.store.pack
import taskqueue_nb.store.writer
from checks import LIMIT, Background, Calls, at_once, build, check_settled, states, wait_for
from graphs import DIAMOND, GRAPHS, PENGUINS, Graph
from stores import change, kernel, killed, query, run_all, said, script, started, store_of
from taskqueue_nb import (
    EarlierError,
    StoreError,
    Task,
    TaskQueue,
    make_now,
)
from taskqueue_nb.store.file import connect
from taskqueue_nb.task import GRAPH_LOCK, LazyValue, LostValueError

IS_ROOT = hasattr(os, "getuid") and os.getuid() == 0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return where a store may lie."""
    return tmp_path / "run.tq"


def one() -> int:
    """Return 1."""
    return 1


def double(value: int) -> int:
    """Return twice the value."""
    return 2 * value


def fail() -> None:
    """Fail."""
    raise ValueError("no such day: 30 February")


def tasks_of(graph: Graph, calls: Calls) -> list[Task]:
    """Build a graph whose functions are the same in each kernel."""
    return list(build(graph, calls).values())


# -- what comes back ---------------------------------------------------------------------------


@pytest.mark.parametrize("graph", GRAPHS.values(), ids=GRAPHS)
def test_results_come_back(graph: Graph, path: Path, calls: Calls) -> None:
    """The same graph in a new kernel is DONE with its results, and nothing runs again."""
    with kernel(*tasks_of(graph, calls), store=path) as queue:
        run_all(queue)
    calls.names.clear()

    with kernel(*tasks_of(graph, calls), store=path) as queue:
        assert run_all(queue) == []
        assert {task.name: task.value for task in queue} == {name: name for name in graph}
        check_settled(queue)
    assert not calls.names


def test_history_reaches_back(path: Path) -> None:
    """Steps, attempts, their times, what they raised and what they printed come back."""
    said_once = []

    def stubborn() -> str:
        print("trying")
        said_once.append(1)
        if len(said_once) == 1:
            raise ValueError("not yet")
        return "done"

    with kernel(Task("one", stubborn, retries=1), store=path) as queue:
        run_all(queue)
        before = queue.tasks[0]

    with kernel(Task("one", stubborn, retries=1), store=path) as queue:
        task = queue.tasks[0]
        assert task.fsm_history == before.fsm_history
        assert [(a.number, a.outcome) for a in task.attempts] == [(1, "FAILED"), (2, "DONE")]
        for now, then in zip(task.attempts, before.attempts, strict=True):
            assert (now.started, now.ended, now.output) == (then.started, then.ended, then.output)
            assert (now.error, now.error_text) == (then.error, then.error_text)
        assert "trying" in task.output
        assert "not yet" in str(task.attempts[0].error_text)


def test_a_failure_comes_back_in_words(path: Path) -> None:
    """A failed task is FAILED with what was said, and can be retried; nothing is imported."""
    with kernel(Task("bad", fail), store=path) as queue:
        run_all(queue)

    with kernel(Task("bad", fail), store=path) as queue:
        task = queue.tasks[0]
        assert task.is_failed
        assert isinstance(task.exception, EarlierError)
        assert str(task.exception) == "ValueError: no such day: 30 February"
        assert "in fail" in str(task.attempts[-1].error_text)
        with pytest.raises(EarlierError, match="30 February"):
            task.result()
        assert queue.retry() == (task,)
        assert run_all(queue) == ["bad"]
        assert [attempt.number for attempt in task.attempts] == [1, 2]
        assert isinstance(task.exception, ValueError)


def test_victims_are_retried_with_their_cause(path: Path) -> None:
    """What failed because of a prerequisite is pending again with it, also in a new kernel."""

    def chain() -> list[Task]:
        bad = Task("bad", fail)
        return [bad, bad.then("later", one)]

    with kernel(*chain(), store=path) as queue:
        make_now(queue.tasks[1])
        assert states(queue) == {"bad": "FAILED", "later": "FAILED"}

    with kernel(*chain(), store=path) as queue:
        assert states(queue) == {"bad": "FAILED", "later": "FAILED"}
        assert "blocked by 'bad'" in str(queue.tasks[1].exception)
        assert queue.retry(queue.tasks[0]) == queue.tasks


def test_cancelled_and_aborted_come_back(path: Path) -> None:
    """A task that was given up stays so."""

    def pair() -> list[Task]:
        return [Task("cancelled", one), Task("aborted", one), Task("waits", one)]

    with kernel(*pair(), store=path) as queue:
        queue.tasks[0].cancel()
        queue.tasks[1].abort()

    with kernel(*pair(), store=path) as queue:
        expected = {"cancelled": "CANCELLED", "aborted": "ABORT", "waits": "PENDING"}
        assert states(queue) == expected
        check_settled(queue)


@pytest.mark.parametrize("event", ["dispatch", "queue"])
def test_what_ran_at_the_death_is_interrupted(event: str, path: Path, tmp_path: Path) -> None:
    """A task that was running or queued is CANCELLED because interrupted, and retry takes it."""
    with kernel(Task("first", one), Task("long", one), store=path) as queue:
        list(queue.run(once=True))
        queue.tasks[1].fsm_event(event)
        store_of(queue).flush()
        left = killed(path, tmp_path / "left" / "run.tq")
        queue.tasks[1].fsm_event("cancel")

    for _ in range(2):
        with kernel(Task("first", one), Task("long", one), store=left) as queue:
            assert states(queue) == {"first": "DONE", "long": "CANCELLED"}
            assert queue.tasks[1].fsm_history[-1].extra == {"because": "interrupted"}
            assert len(queue.tasks[1].fsm_history) == 2
            check_settled(queue)
    with kernel(Task("first", one), Task("long", one), store=left) as queue:
        assert queue.retry() == (queue.tasks[1],)
        assert run_all(queue) == ["long"]


def test_states_between_come_back(path: Path) -> None:
    """What was invalidated or retried before the end is pending in the next kernel, too."""

    def three() -> list[Task]:
        return [Task("again", one), Task("bad", fail), Task("good", one)]

    with kernel(*three(), store=path) as queue:
        run_all(queue)
        queue.invalidate(queue.tasks[0])
        queue.retry()

    with kernel(*three(), store=path) as queue:
        assert states(queue) == {"again": "PENDING", "bad": "PENDING", "good": "DONE"}
        assert not store_of(queue).changed
        assert run_all(queue) == ["again", "bad"]


def test_tasks_may_be_added_one_by_one(path: Path, calls: Calls) -> None:
    """Results come back whenever a task is added, and in whatever order."""
    with kernel(*tasks_of(DIAMOND, calls), store=path) as queue:
        run_all(queue)

    with kernel(store=path) as queue:
        for task in reversed(tasks_of(DIAMOND, calls)):
            queue.add(task)
        assert queue.counts() == {"DONE": 4}


def test_dependents_that_join_by_themselves_come_back(path: Path) -> None:
    """With run_dependent_tasks, a result that comes back brings the dependents in."""

    def chain() -> Task:
        first = Task("first", one)
        first.then("second", one).then("third", one)
        return first

    with kernel(chain(), store=path, run_dependent_tasks=True) as queue:
        assert run_all(queue) == ["first", "second", "third"]

    with kernel(chain(), store=path, run_dependent_tasks=True) as queue:
        assert states(queue) == {"first": "DONE", "second": "DONE", "third": "DONE"}


def test_other_queues_hear_of_what_comes_back(path: Path) -> None:
    """A queue without a store runs on from what a store gave a task that it shares."""
    with kernel(Task("first", one), store=path) as queue:
        run_all(queue)

    first = Task("first", one)
    later = first.then("later", one)
    plain = TaskQueue(later)
    with kernel(first, store=path):
        assert run_all(plain) == ["later"]


def test_what_ran_before_it_was_added_is_stored(path: Path) -> None:
    """A task that is done already brings its result into the store, in place of an older one."""
    with kernel(Task("one", one), store=path) as queue:
        run_all(queue)
    task = Task("one", fail)
    task.dispatch()
    task.supply("better")

    with kernel(task, store=path) as queue:
        assert task.value == "better"
    again = Task("one", fail)
    with kernel(again, store=path):
        assert again.value == "better"
        assert [step.event for step in again.fsm_history] == ["dispatch", "except", "supply"]


def test_whoever_waits_is_told(path: Path) -> None:
    """A result that was asked for before the task was added arrives with it."""
    with kernel(Task("one", one), store=path) as queue:
        run_all(queue)
    task = Task("one", one)
    waiter = Background(task.result)

    with kernel(task, store=path):
        assert waiter.join() == 1


def test_a_queue_of_targets_and_tasks_in_preparation_come_back(path: Path) -> None:
    """`TaskQueue.of` takes a store, too, and a task may begin in PREPARE."""

    def pair() -> Task:
        first = Task("first", one, state="PREPARE")
        return first.then("second", one)

    def run(expected: list[str]) -> None:
        queue = TaskQueue.of(pair(), store=path)
        if queue.tasks[0].is_prepare:
            queue.tasks[0].prepared()
        assert run_all(queue) == expected
        store_of(queue).close()

    run(["first", "second"])
    run([])


def test_the_same_tasks_in_another_queue_keep_what_they_have(path: Path) -> None:
    """A queue that is made again of the same objects stores their lives as they are."""
    with kernel(Task("one", one), Task("bad", fail), store=path) as queue:
        run_all(queue)
    with kernel(Task("one", one), Task("bad", fail), store=path) as queue:
        tasks = queue.tasks
        history = [task.fsm_history for task in tasks]

    other = path.with_name("other.tq")
    for place in (path, other):
        with kernel(*tasks, store=place):
            pass
        with kernel(Task("one", one), Task("bad", fail), store=place) as queue:
            assert [task.fsm_history for task in queue] == history
            assert queue.tasks[0].value == 1
            assert str(queue.tasks[1].exception).endswith("no such day: 30 February")


# -- values given by hand ----------------------------------------------------------------------


def test_supplied_values_come_back(path: Path) -> None:
    """A value given by hand comes back, with what was made of it."""

    def pair() -> list[Task]:
        bad = Task("bad", fail)
        return [bad, Task("twice", double, func_args=(bad,))]

    with kernel(*pair(), store=path) as queue:
        run_all(queue)
        queue.supply(queue.tasks[0], 21)
        run_all(queue)

    with kernel(*pair(), store=path) as queue:
        assert [task.value for task in queue] == [21, 42]
        assert not store_of(queue).changed
        queue.invalidate(queue.tasks[0])
        queue.tasks[0].supply(4)
    with kernel(*pair(), store=path) as queue:
        assert queue.tasks[0].value == 4
        assert run_all(queue) == ["twice"]
    with kernel(*pair(), store=path) as queue:
        assert queue.tasks[1].value == 8


def test_what_was_made_of_another_value_is_stale(path: Path, tmp_path: Path) -> None:
    """A result that was made of one value by hand does not count for another."""

    def pair() -> list[Task]:
        base = Task("base", one)
        return [base, Task("twice", double, func_args=(base,))]

    with kernel(*pair(), store=path) as queue:
        run_all(queue)
    with kernel(pair()[0], store=path) as queue:
        queue.invalidate(queue.tasks[0])
        queue.supply(queue.tasks[0], 5)

    with kernel(*pair(), store=path) as queue:
        assert states(queue) == {"base": "DONE", "twice": "PENDING"}
        assert store_of(queue).changed == {queue.tasks[1]: "upstream changed: 'base'"}


def test_a_supplied_task_that_runs_again_counts_as_its_call(path: Path) -> None:
    """Once it ran, what was given by hand before is no matter any more."""

    def pair() -> list[Task]:
        base = Task("base", one)
        return [base, Task("twice", double, func_args=(base,))]

    with kernel(*pair(), store=path) as queue:
        queue.supply(queue.tasks[0], 5)
        run_all(queue)
    with kernel(*pair(), store=path) as queue:
        assert [task.value for task in queue] == [5, 10]
        queue.invalidate(queue.tasks[0])
        assert run_all(queue) == ["base", "twice"]
    with kernel(*pair(), store=path) as queue:
        assert [task.value for task in queue] == [1, 2]


@pytest.mark.parametrize("is_loaded", [False, True])
@pytest.mark.parametrize("is_supplied", [False, True])
def test_what_is_undone_is_stored_as_it_was(is_loaded: bool, is_supplied: bool, path: Path) -> None:
    """A result that undo brings back is there in the next kernel, loaded or not."""

    def pair() -> list[Task]:
        base = Task("base", one)
        return [base, Task("twice", double, func_args=(base,))]

    with kernel(*pair(), store=path) as queue:
        if is_supplied:
            queue.supply(queue.tasks[0], 5)
        run_all(queue)
    expected = [5, 10] if is_supplied else [1, 2]
    with kernel(*pair(), store=path) as queue:
        if is_loaded:
            assert [task.value for task in queue] == expected
        queue.invalidate(queue.tasks[0])
        queue.undo()
        assert queue.counts() == {"DONE": 2}

    with kernel(*pair(), store=path) as queue:
        assert not store_of(queue).changed
        assert [task.value for task in queue] == expected


@pytest.mark.parametrize("event", ["cancel", "abort"])
@pytest.mark.parametrize("is_supplied_first", [True, False])
def test_what_was_given_up_behind_a_supplied_value_stays_so(
    event: str, is_supplied_first: bool, path: Path
) -> None:
    """Nobody asked for it, so it does not run, whatever became of what it requires."""

    def graph() -> list[Task]:
        first = Task("first", fail)
        second = Task("second", double, func_args=(first,))
        return [first, second, Task("third", double, func_args=(second,))]

    with kernel(*graph(), store=path) as queue:
        first, _, third = queue.tasks
        if is_supplied_first:
            queue.supply(first, 5)
        third.fsm_event(event)
        if not is_supplied_first:
            queue.supply(first, 5)

    with kernel(*graph(), store=path) as queue:
        first, second, third = queue.tasks
        assert [first.value, second.fsm_state] == [5, "PENDING"]
        assert third.fsm_state == {"cancel": "CANCELLED", "abort": "ABORT"}[event]
        assert not store_of(queue).changed
        assert run_all(queue) == ["second"]


def test_failures_of_an_earlier_kernel_are_told_apart(path: Path) -> None:
    """What was raised where comes back in words, so that causes are the same groups as before."""

    def add() -> int:
        return sum(1 // each for each in (1, 0))

    def graph() -> list[Task]:
        tasks = [Task(name, fail) for name in ("one", "two")]
        return [*tasks, Task("json", json.loads, func_args=("{",)), Task("add", add)]

    def groups(queue: TaskQueue) -> list[tuple[str, str, int]]:
        return [(cause.error, cause.place, len(cause.tasks)) for cause in queue.causes().groups]

    with kernel(*graph(), store=path) as queue:
        run_all(queue)
        before = groups(queue)

    with kernel(*graph(), store=path) as queue:
        line = fail.__code__.co_firstlineno + 2
        assert groups(queue)[0] == before[0] == ("ValueError", f"fail(), line {line}", 2)
        assert [(kind, count) for kind, _, count in groups(queue)] == [
            (kind, count) for kind, _, count in before
        ]
        add_line = add.__code__.co_firstlineno + 1
        assert [place for kind, place, _ in groups(queue) if kind == "ZeroDivisionError"] == [
            f"add(), line {add_line}"
        ]
        error = queue.tasks[0].exception
        assert isinstance(error, EarlierError)
        assert (error.kind, error.words) == ("ValueError", "no such day: 30 February")
        copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
        assert (copy.kind, copy.words, copy.place) == (error.kind, error.words, error.place)


FRAME = 'Traceback (most recent call last):\n  File "a.py", line 3, in f\n    g()\n'
TRACES = {
    "one": (FRAME + "ValueError: 1\n", "f(), line 3"),
    "none": ("", ""),
    "no traceback": ("ValueError: 1\n", ""),
    "forged": (FRAME + 'ValueError: 1\n  File "b.py", line 9, in evil\n', "f(), line 3"),
    "of a package": (FRAME + '  File "/x/site-packages/b.py", line 9, in g\nKeyError\n',
                     "f(), line 3"),
    "two": ('Traceback (most recent call last):\n  File "b.py", line 1, in g\nKeyError\n\n'
            "During handling of the above exception, another exception occurred:\n\n"
            + FRAME + "ValueError: 1\n", "f(), line 3"),
    "escape": (FRAME.replace("in f", "in f\x1b[0m") + "ValueError: 1\n", "f?[0m(), line 3"),
}  # fmt: skip


@pytest.mark.parametrize(("trace", "place"), TRACES.values(), ids=TRACES)
def test_a_place_is_read_off_the_text_of_a_traceback(trace: str, place: str) -> None:
    """The innermost line of the user's, as far as frames reach; what was said forges none."""
    assert EarlierError("ValueError: 1", None, trace).place == place


@pytest.mark.parametrize(
    ("message", "kind", "words"),
    [
        ("ValueError: a: b", "ValueError", "a: b"),
        ("KeyboardInterrupt", "KeyboardInterrupt", ""),
        ("it failed in an earlier kernel", "EarlierError", "it failed in an earlier kernel"),
        ("", "EarlierError", ""),
    ],
)
def test_an_earlier_error_says_what_it_was(message: str, kind: str, words: str) -> None:
    """Its class and words are told apart, if they are there."""
    error = EarlierError(message)
    assert (error.kind, error.words, str(error)) == (kind, words, message)


# -- what has changed --------------------------------------------------------------------------

SOURCE = """
LIMIT = 3
def helper(x):
    return x + 1
def func(a, b=2):
    return helper(a) * b + LIMIT
"""


def compiled(source: str) -> Callable[..., Any]:
    """Make a function of source, as a cell of a notebook does."""
    module = types.ModuleType("__main__")
    exec(compile(source, "<cell>", "exec"), module.__dict__)  # noqa: S102 - our own source
    func: Callable[..., Any] = module.func
    return func


CHANGES = {
    "comment": (SOURCE.replace("    return x", "    # one more\n    return x"), (1,), None),
    "blank line": (SOURCE.replace("def func", "\n\n\ndef func"), (1,), None),
    "keyword": (SOURCE, {"a": 1}, None),
    "code": (SOURCE.replace("* b", "- b"), (1,), "code changed: its code changed"),
    "helper": (SOURCE.replace("x + 1", "x + 2"), (1,),
               "code changed: helper(), which it calls, changed"),
    "constant": (SOURCE.replace("= 3", "= 4"), (1,),
                 "code changed: LIMIT, which it reads, changed"),
    "argument": (SOURCE, (2,), "arguments changed: argument 'a' changed"),
    "new argument": (SOURCE, (1, 5), "arguments changed: argument 'b' is new"),
    "generator": (SOURCE, (iter([]),),
                  "unknown: argument 'a' (a list_iterator) cannot be compared"),
}  # fmt: skip


@pytest.mark.parametrize("case", CHANGES)
def test_what_changed_runs_again(case: str, path: Path) -> None:
    """A result counts for the same code and arguments alone; else the reason is given."""
    source, arguments, reason = CHANGES[case]
    args, kwargs = ((), arguments) if isinstance(arguments, dict) else (arguments, {})
    with kernel(Task("t", compiled(SOURCE), func_args=(1,)), store=path) as queue:
        run_all(queue)

    task = Task("t", compiled(source), func_args=args, func_kwargs=kwargs)
    with kernel(task, store=path) as queue:
        if reason is None:
            assert task.value == 7
            assert not store_of(queue).changed
        else:
            assert task.is_pending
            assert store_of(queue).changed[task] == reason
            assert task.fsm_history[-1].extra["because"] == reason
            assert queue.stale()[task] == reason


@pytest.mark.parametrize("state", ["FAILED", "CANCELLED", "ABORT", "RUNNING"])
def test_a_changed_call_starts_anew_from_any_state(state: str, path: Path, tmp_path: Path) -> None:
    """Whatever became of other code is no matter for the new one."""
    with kernel(Task("t", one), store=path) as queue:
        task = queue.tasks[0]
        if state == "FAILED":
            task.dispatch()
            queue.invalidate(task)
        if state == "RUNNING":
            task.fsm_event("dispatch")
        else:
            task.fsm_event({"FAILED": "error", "CANCELLED": "cancel", "ABORT": "abort"}[state])
        store_of(queue).flush()
        left = killed(path, tmp_path / "left" / "run.tq")
        if state == "RUNNING":
            task.fsm_event("cancel")

    with kernel(Task("t", double, func_args=(1,)), store=left) as queue:
        task = queue.tasks[0]
        assert task.is_pending
        assert "its code changed" in store_of(queue).changed[task]
        assert run_all(queue) == ["t"]
        check_settled(queue)
    with kernel(Task("t", double, func_args=(1,)), store=left) as queue:
        assert queue.tasks[0].value == 2


def test_what_is_found_at_run_time_runs_again_and_says_why(path: Path) -> None:
    """Nobody can say that `eval` reaches the same: neither in this kernel nor in a new one."""
    reason = "unknown: what eval() reaches cannot be compared"
    source = "LIMIT = 3\ndef func(): return eval('LIMIT')"
    with kernel(Task("t", compiled(source)), store=path) as queue:
        run_all(queue)
        assert queue.stale() == {queue.tasks[0]: reason}

    with kernel(Task("t", compiled(source.replace("3", "4"))), store=path) as queue:
        assert store_of(queue).changed == {queue.tasks[0]: reason}
        assert run_all(queue) == ["t"]
        assert queue.tasks[0].value == 4


IN_PLACE = {
    "global": ("K = {'a': [1]}\ndef func(): return sum(K['a'])", "K['a'].append(5)", 6),
    "large": ("K = list(range(1000))\ndef func(): return K[0]", "K[0] = 7", 7),
    "object": ("class C: pass\nK = C()\nK.n = 1\ndef func(): return K.n", "K.n = 2", 2),
    "argument": ("K = [1]\ndef func(k): return sum(k)", "K.append(5)", 6),
    "object as argument": ("class C: n = 1\nK = C()\ndef func(k): return k.n", "K.n = 2", 2),
}


@pytest.mark.parametrize(("source", "change", "after"), IN_PLACE.values(), ids=IN_PLACE)
def test_what_was_changed_in_place_runs_again(
    source: str, change: str, after: int, path: Path
) -> None:
    """A second queue of the same kernel does not take back what was made of other contents."""
    func = compiled(source)
    space = func.__globals__
    args = (space["K"],) if func.__code__.co_argcount else ()
    with kernel(Task("t", func, func_args=args), store=path) as queue:
        run_all(queue)

    exec(change, space)  # noqa: S102 - the next cell

    with kernel(Task("t", func, func_args=args), store=path) as queue:
        assert "changed" in store_of(queue).changed[queue.tasks[0]]
        run_all(queue)
        assert queue.tasks[0].value == after
    with kernel(Task("t", func, func_args=args), store=path) as queue:
        assert not store_of(queue).changed
        assert queue.tasks[0].value == after


@pytest.mark.parametrize(("source", "change", "after"), IN_PLACE.values(), ids=IN_PLACE)
def test_what_is_changed_in_place_before_the_run_counts_as_it_was_read(
    source: str, change: str, after: int, path: Path
) -> None:
    """A result belongs to what was there when it ran, not when the task was added."""
    func = compiled(source)
    space = func.__globals__
    args = (space["K"],) if func.__code__.co_argcount else ()
    with kernel(Task("t", func, func_args=args), store=path) as queue:
        exec(change, space)  # noqa: S102 - the next cell
        run_all(queue)

    with kernel(Task("t", func, func_args=args), store=path) as queue:
        assert not store_of(queue).changed
        assert queue.tasks[0].value == after
    fresh = compiled(source)
    args = (fresh.__globals__["K"],) if fresh.__code__.co_argcount else ()
    with kernel(Task("t", fresh, func_args=args), store=path) as queue:
        assert "changed" in store_of(queue).changed[queue.tasks[0]]


def test_what_requires_something_changed_is_stale(path: Path, calls: Calls) -> None:
    """A change reaches all that is behind it, and nothing else."""
    with kernel(*tasks_of(PENGUINS, calls), store=path) as queue:
        run_all(queue)

    tasks = build(PENGUINS, calls)
    tasks["adelie"].func = one
    with kernel(*tasks.values(), store=path) as queue:
        changed = {task.name: reason for task, reason in store_of(queue).changed.items()}
        assert "code" in changed.pop("adelie")
        assert changed == {
            "fit adelie": "upstream changed: 'adelie'",
            "plot": "upstream changed: 'fit adelie'",
            "report": "upstream changed: 'plot'",
        }
        assert run_all(queue) == ["adelie", "fit adelie", "plot", "report"]


def test_new_and_lost_requirements_are_a_change(path: Path) -> None:
    """A task that requires something else is another one, and says what."""
    first, second = Task("first", one), Task("second", one)
    second.require(first)
    with kernel(first, second, store=path) as queue:
        run_all(queue)

    first, second, third = Task("first", one), Task("second", one), Task("third", fail)
    second.require(third)
    with kernel(first, second, third, store=path) as queue:
        reason = store_of(queue).changed[second]
        assert reason == "upstream changed: 'third' is new, 'first' is gone"


def test_a_change_taken_back_finds_the_old_result(path: Path) -> None:
    """As long as the new code has not run, the old result waits for the old code."""
    with kernel(Task("t", one), store=path) as queue:
        run_all(queue)
    with kernel(Task("t", fail), store=path) as queue:
        assert queue.tasks[0].is_pending

    with kernel(Task("t", one), store=path) as queue:
        assert queue.tasks[0].value == 1
    with kernel(Task("t", double, func_args=(4,)), store=path) as queue:
        run_all(queue)
    with kernel(Task("t", double, func_args=(4,)), store=path) as queue:
        assert queue.tasks[0].value == 8
        events = [step.event for step in queue.tasks[0].fsm_history]
        assert events == ["dispatch", "done", "invalidate", "dispatch", "done"]
    assert query(path, "SELECT count(*) FROM results") == [(1,)]


def test_a_repaired_call_counts_as_what_it_was(path: Path) -> None:
    """A result of repaired arguments belongs to those, not to the ones before."""
    with kernel(Task("t", double, func_args=(None,)), store=path) as queue:
        run_all(queue)
        queue.repair(queue.tasks[0], args=(3,))
        run_all(queue)

    with kernel(Task("t", double, func_args=(None,)), store=path) as queue:
        assert store_of(queue).changed == {
            queue.tasks[0]: "arguments changed: argument 'value' changed"
        }
    with kernel(Task("t", double, func_args=(3,)), store=path) as queue:
        assert queue.tasks[0].value == 6


def test_a_helper_changed_between_adding_and_running_counts_as_it_ran(path: Path) -> None:
    """What ran is what counts, not what the function referred to when the queue was made."""
    func = compiled(SOURCE)
    with kernel(Task("t", func, func_args=(1,)), store=path) as queue:
        func.__globals__["LIMIT"] = 10
        run_all(queue)

    with kernel(Task("t", compiled(SOURCE), func_args=(1,)), store=path) as queue:
        assert queue.tasks[0].is_pending
    with kernel(
        Task("t", compiled(SOURCE.replace("= 3", "= 10")), func_args=(1,)), store=path
    ) as q:
        assert q.tasks[0].value == 14


# -- values ------------------------------------------------------------------------------------


LOADS: list[int] = []


class Counted:
    """A value that notes when it is unpickled."""

    def __setstate__(self, state: object) -> None:
        LOADS.append(1)

    def __getstate__(self) -> object:
        return (1,)


def test_values_are_loaded_when_asked_for(path: Path) -> None:
    """Nothing is unpickled that nobody asks for, and nothing twice."""
    with kernel(Task("c", Counted), Task("other", Counted), store=path) as queue:
        run_all(queue)
    LOADS.clear()

    with kernel(Task("c", Counted), Task("other", Counted), store=path) as queue:
        task = queue.tasks[0]
        assert not LOADS
        repr((queue, task, store_of(queue), task._repr_mimebundle_()))
        assert not LOADS
        value = task.value
        assert len(LOADS) == 1
        assert task.value is value is task.result() is task()
        assert len(LOADS) == 1


def test_values_can_be_loaded_after_the_store_was_closed(path: Path) -> None:
    """What came back stays at hand as long as the file does."""
    with kernel(Task("c", one), Task("d", one), store=path) as queue:
        run_all(queue)
    with kernel(Task("c", one), Task("d", one), store=path) as queue:
        pass
    assert queue.tasks[0].value == 1

    path.unlink()
    change(path, "CREATE TABLE results(id, lengths, checksum, data)")
    store_of(queue).close()
    with pytest.raises(LostValueError, match=r"'d': its stored result cannot be read: .*replaced"):
        queue.tasks[1].value  # noqa: B018 - asking is what is tested


def test_one_value_is_loaded_once_by_many(path: Path) -> None:
    """Threads that ask at once get the same object."""
    with kernel(Task("c", Counted), store=path) as queue:
        run_all(queue)
    LOADS.clear()

    with kernel(Task("c", Counted), store=path) as queue:
        with ThreadPoolExecutor(8) as pool:
            values = set(pool.map(lambda _: id(queue.tasks[0].value), range(64)))
        assert len(values) == 1
        assert len(LOADS) == 1


BROKEN = threading.Event()


class Fragile:
    """A value that cannot be unpickled when told so."""

    def __reduce__(self) -> Any:
        return (Fragile.made, ())

    @staticmethod
    def made() -> Fragile:
        """Return one, or refuse."""
        if BROKEN.is_set():
            raise SystemExit("not today")
        return Fragile()


@pytest.fixture
def fragile() -> Iterator[Callable[[], list[Task]]]:
    """Return a graph with a value that does not survive."""
    BROKEN.clear()

    def made() -> list[Task]:
        lost = Task("lost", Fragile)
        reused = Task("reused", one)
        reused.require(lost)
        return [lost, reused, Task("wants", _kind, func_args=(lost, reused))]

    yield made
    BROKEN.clear()


def _kind(value: object, _other: object) -> str:
    return type(value).__name__


def _foreground(queue: TaskQueue) -> None:
    list(queue.run())


def _threads(queue: TaskQueue) -> None:
    list(queue.run(executor=3))


def _pool(queue: TaskQueue) -> None:
    with ThreadPoolExecutor(2) as pool:
        list(queue.run(executor=pool))


def _background(queue: TaskQueue) -> None:
    assert queue.start().wait(LIMIT)


def _steps(queue: TaskQueue) -> None:
    assert queue.step() is queue.tasks[0]
    assert queue.step() is queue.tasks[2]
    assert queue.step() is None


def _make(queue: TaskQueue) -> None:
    make_now(queue.tasks[2])


def _processes(queue: TaskQueue) -> None:
    # what comes back from a process is unpickled, too: that has to go well
    queue.tasks[0].fsm_callback("PENDING", lambda *_: BROKEN.clear())
    list(queue.run(executor="processes"))


WAYS = [_foreground, _threads, _pool, _background, _steps, _make, _processes]


@pytest.mark.parametrize("way", WAYS)
def test_a_value_that_cannot_be_loaded_is_made_again(
    way: Callable[[TaskQueue], None], path: Path, fragile: Callable[[], list[Task]]
) -> None:
    """That task runs again, what started on it waits for it, and all the rest is reused."""
    with kernel(*fragile(), store=path) as queue:
        list(queue.run(once=True))
        list(queue.run(once=True))
    BROKEN.set()

    with kernel(*fragile(), store=path) as queue:
        lost, reused, wants = queue.tasks
        assert states(queue) == {"lost": "DONE", "reused": "DONE", "wants": "PENDING"}
        way(queue)
        assert queue.counts() == {"DONE": 3}
        assert len(lost.attempts) == 2
        because = lost.fsm_history[2].extra["because"]
        assert because == "its stored result cannot be read: SystemExit: not today"
        assert len(reused.attempts) == 1
        assert wants.value == "Fragile"
        sent_back = [step for step in wants.fsm_history if step.event == "retry"]
        assert [step.extra["because"] for step in sent_back] == [
            "the stored result of a prerequisite is lost"
        ]
        assert [attempt.outcome for attempt in wants.attempts][-1:] == ["DONE"]


def test_whoever_asks_for_a_lost_value_is_told(
    path: Path, fragile: Callable[[], list[Task]]
) -> None:
    """`value`, `result()` and `dispatch` raise; nobody waits for ever; the next result is new."""
    with kernel(*fragile(), store=path) as queue:
        list(queue.run(once=True))
        list(queue.run(once=True))
    BROKEN.set()

    with kernel(*fragile(), store=path) as queue:
        with pytest.raises(LostValueError, match=r"cannot be read: SystemExit.*pending again"):
            queue.tasks[0].result()
        assert queue.tasks[0].is_pending
        queue.tasks[0].dispatch()
        assert isinstance(queue.tasks[0].result(), Fragile)
    with kernel(*fragile(), store=path) as queue:
        with pytest.raises(LostValueError):
            queue.tasks[0].value  # noqa: B018 - asking is what is tested
        assert queue.tasks[1].is_done
    BROKEN.clear()
    with kernel(*fragile(), store=path) as queue:
        run_all(queue)
        queue.invalidate(queue.tasks[2])
    BROKEN.set()
    with kernel(*fragile(), store=path) as queue:
        with pytest.raises(Exception, match="blocked by 'lost', PENDING"):
            queue.tasks[2].dispatch()
        assert states(queue) == {"lost": "PENDING", "reused": "DONE", "wants": "PENDING"}


def test_a_class_that_is_gone_costs_its_task_alone(path: Path) -> None:
    """A pickle names its class; if that is gone, the task runs again and the rest is reused."""
    module = types.ModuleType("fleeting")
    exec("class Point: pass", module.__dict__)  # noqa: S102 - our own source
    sys.modules["fleeting"] = module
    try:
        with kernel(Task("p", fleeting), Task("n", one), store=path) as queue:
            run_all(queue)
            assert type(queue.tasks[0].value).__name__ == "Point"
        kept = vars(module).pop("Point")
        with kernel(Task("p", fleeting), Task("n", one), store=path) as queue:
            assert queue.counts() == {"DONE": 2}
            with pytest.raises(LostValueError, match="AttributeError"):
                queue.tasks[0].value  # noqa: B018 - asking is what is tested
            vars(module)["Point"] = kept
            assert run_all(queue) == ["p"]
    finally:
        del sys.modules["fleeting"]


def fleeting() -> Any:
    """Return an object whose class may go."""
    return sys.modules["fleeting"].Point()


def test_large_values_stand_in_bounded_rows(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Arrays, long texts and nested ones come back equal and writable, in rows of bounded size."""
    monkeypatch.setattr(taskqueue_nb.store.pack, "PIECE", 10_000)
    array = np.arange(40_000.0).reshape(200, 200)
    value = {
        "array": array,
        "turned": array.T,
        "strided": array[::2, ::3],
        "text": "ä" * 70_000,
        "bytes": b"x" * 30_001,
        "small": np.arange(3),
        "many": [np.full(1000, i) for i in range(5)],
        "frozen": np.arange(2000),
    }
    value["frozen"].setflags(write=False)  # type: ignore[attr-defined]
    with kernel(Task("v", lambda: value), store=path) as queue:
        run_all(queue)
    assert query(path, "SELECT max(length(bytes)) FROM pieces") == [(10_000,)]

    with kernel(Task("v", lambda: value), store=path) as queue:
        found = queue.tasks[0].value
    for name in ("array", "turned", "strided", "small", "frozen"):
        assert np.array_equal(found[name], value[name])  # type: ignore[arg-type]
    assert found["text"] == value["text"]
    assert found["bytes"] == value["bytes"]
    assert [int(each[0]) for each in found["many"]] == [0, 1, 2, 3, 4]
    found["array"][0, 0] = 7.0
    found["small"][0] = 7


def test_a_large_array_takes_no_second_copy(path: Path) -> None:
    """Storing and loading 200 MB takes little more memory than the array itself."""
    program = """
import resource, sys
import numpy as np
from taskqueue_nb import Task, TaskQueue
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
queue = TaskQueue(Task("a", np.ones, func_args=(25 * 2**20,)), store=sys.argv[1])
before = peak()
list(queue.run())
value = queue.tasks[0].value
assert value[-1] == 1.0 and value.flags.writeable
print(peak() - before)
"""
    for _ in range(2):
        done = script("-c", program, str(path))
        assert done.returncode == 0, done.stderr
        assert int(done.stdout) < 200 + 100


def test_lambdas_and_local_classes_are_stored(path: Path) -> None:
    """What pickle cannot carry, cloudpickle does."""
    with kernel(Task("f", lambda: lambda x: x + 1), store=path) as queue:
        run_all(queue)

    with kernel(Task("f", lambda: lambda x: x + 1), store=path) as queue:
        assert queue.tasks[0].value(1) == 2


UNSTORABLE: dict[str, Callable[[], Any]] = {
    "generator": lambda: (letter for letter in "ab"),
    "lock": threading.Lock,
    "evil": lambda: Evil(),  # noqa: PLW0108 - it stands below
    "deep": lambda: deep(100_000),
}


class Evil:
    """Refuses to be pickled in the worst way."""

    def __reduce__(self) -> Any:
        raise SystemExit(3)


def deep(levels: int) -> list[Any]:
    """Return a list in a list in a list."""
    found: list[Any] = []
    for _ in range(levels):
        found = [found]
    return found


@pytest.mark.parametrize("kind", UNSTORABLE)
def test_what_cannot_be_stored_is_said_once(kind: str, path: Path) -> None:
    """It is kept in memory, the warning names the task, the run goes on; later it runs again."""

    def trio() -> list[Task]:
        return [Task("odd one", UNSTORABLE[kind]), Task("next", one)]

    with said() as messages, kernel(*trio(), store=path) as queue:
        assert run_all(queue) == ["odd one", "next"]
        assert queue.tasks[0].value is not None
        assert not store_of(queue).read_only
    assert len(messages) == 1
    assert "the result of task 'odd one' is not stored: it cannot be pickled" in messages[0]

    with kernel(*trio(), store=path) as queue:
        assert states(queue) == {"odd one": "PENDING", "next": "DONE"}
        assert "its result was not stored: it cannot" in store_of(queue).changed[queue.tasks[0]]


def test_what_requires_an_unstored_result_is_reused(path: Path) -> None:
    """A result counts, whether or not what it was made of could be stored."""

    def pair() -> list[Task]:
        odd = Task("odd", threading.Lock)
        return [odd, odd.then("next", one)]

    with said(), kernel(*pair(), store=path) as queue:
        run_all(queue)

    with said(), kernel(*pair(), store=path) as queue:
        assert states(queue) == {"odd": "PENDING", "next": "DONE"}
        assert run_all(queue) == ["odd"]


@pytest.mark.parametrize(
    "value", [b"x" * 3000, "x" * 3000, np.ones(1000), [b"x" * 500] * 2 + ["y" * 2000]]
)
def test_results_above_the_limit_are_said_once(value: Any, path: Path) -> None:
    """They are noticed while they are written, kept in memory, and leave nothing in the file."""
    with (
        said() as messages,
        kernel(Task("big", lambda: value), store=path, store_limit=1000) as queue,
    ):
        run_all(queue)
    assert len(messages) == 1
    assert "'big' is not stored: it takes more than store_limit, 1,000 bytes" in messages[0]
    assert query(path, "SELECT count(*) FROM pieces UNION ALL SELECT count(*) FROM results") == [
        (0,),
        (0,),
    ]


def test_a_large_result_is_given_up_early(path: Path) -> None:
    """Pickling ends at the limit, not after what is beyond it."""
    seen = []

    class Part:
        def __reduce__(self) -> Any:
            seen.append(1)
            return (bytes, (b"x" * 100_000,))

    with said(), kernel(Task("big", lambda: [Part() for _ in range(1000)]), store=path,
                        store_limit=500_000) as queue:  # fmt: skip
        run_all(queue)
    assert len(seen) < 50


def test_a_warning_that_is_an_error_kills_nothing(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """With filters that raise, it is logged, and what comes next is stored."""
    with (
        caplog.at_level(logging.WARNING, "taskqueue_nb"),
        kernel(Task("odd", threading.Lock), Task("next", one), store=path) as queue,
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("error")
        assert run_all(queue) == ["odd", "next"]
        store_of(queue).flush()
    assert [record.getMessage().count("'odd'") for record in caplog.records] == [1]
    assert query(path, "SELECT count(*) FROM results") == [(1,)]


# -- names -------------------------------------------------------------------------------------

NAMES = {
    "path": "../../x",
    "device": "CON",
    "long": "x" * 100_000,
    "nul": "a\0b",
    "surrogate": "\ud800\udc00 \udcff",
    "lines": "a\nb\x1b[31m",
    "empty": "",
    "quotes": "'; DROP TABLE tasks; --",
    "emoji": "🐧",
}


def test_any_name_is_found_again(path: Path) -> None:
    """Names are keys, whatever is in them, and nothing but the store's own files appears."""

    def all_of_them() -> list[Task]:
        return [Task(name, _length, func_args=(i,)) for i, name in enumerate(NAMES.values())]

    before = set(path.parent.iterdir())
    with kernel(*all_of_them(), store=path) as queue:
        run_all(queue)

    with kernel(*all_of_them(), store=path) as queue:
        assert [task.value for task in queue] == list(range(len(NAMES)))
    assert set(path.parent.iterdir()) - before == {path}


def _length(value: int) -> int:
    return value


def test_equal_names_are_told_apart(path: Path) -> None:
    """Tasks of one name are found again by their order."""

    def four() -> list[Task]:
        return [Task("same", _length, func_args=(i,)) for i in range(4)]

    with kernel(*four(), store=path) as queue:
        run_all(queue)

    with kernel(*four(), store=path) as queue:
        assert [task.value for task in queue] == [0, 1, 2, 3]


def test_without_cloudpickle_it_is_said_what_pickle_said(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The package cloudpickle is a guest; without it a lambda stays in memory."""
    monkeypatch.setitem(sys.modules, "cloudpickle", None)
    with said() as messages, kernel(Task("f", lambda: lambda x: x + 1), store=path) as queue:
        run_all(queue)
        assert queue.tasks[0].value(1) == 2
    assert len(messages) == 1
    assert "'f' is not stored: it cannot be pickled" in messages[0]


# -- when it is written ------------------------------------------------------------------------


@pytest.mark.parametrize("executor", [None, 2])
def test_what_a_run_told_is_in_the_file(executor: int | None, path: Path, calls: Calls) -> None:
    """When a task is yielded, its state and its result are committed."""
    with kernel(*tasks_of(PENGUINS, calls), store=path) as queue:
        for task in queue.run(executor=executor):
            found = query(
                path,
                "SELECT CAST(name AS TEXT), state, result IS NOT NULL FROM tasks",
            )
            assert (task.name, "DONE", 1) in found


def test_wait_and_stop_and_flush_return_when_it_is_written(path: Path) -> None:
    """After `wait`, all that the run did is committed."""
    with kernel(*[Task(f"t{i}", _length, func_args=(i,)) for i in range(50)], store=path) as queue:
        queue.start(executor=2).wait()
        assert query(path, "SELECT count(*) FROM tasks WHERE state = 'DONE'") == [(50,)]
        queue.invalidate(queue.tasks[0])
        queue.stop()
        assert query(path, "SELECT count(*) FROM tasks WHERE state = 'DONE'") == [(49,)]
        queue.tasks[0].dispatch()
        assert store_of(queue).flush()
        assert query(path, "SELECT count(*) FROM tasks WHERE state = 'DONE'") == [(50,)]


def test_a_result_and_its_state_are_one_transaction(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between any two statements, no task is DONE in the file without its result."""
    seen: list[tuple[int, int]] = []

    def look(_statement: str) -> None:
        wrong = query(
            path,
            "SELECT count(*) FROM tasks WHERE state = 'DONE' AND (result IS NULL OR "
            "result NOT IN (SELECT id FROM results))",
        )
        done = query(path, "SELECT count(*) FROM tasks WHERE state = 'DONE'")
        seen.append((wrong[0][0], done[0][0]))

    def watched(path: Path, **options: Any) -> sqlite3.Connection:
        connection = connect(path, **options)
        connection.set_trace_callback(look)
        return connection

    monkeypatch.setattr(taskqueue_nb.store.writer, "connect", watched)
    with kernel(*[Task(f"t{i}", _length, func_args=(i,)) for i in range(9)], store=path) as queue:
        queue.start(executor=2).wait()
        queue.invalidate(*queue.tasks)
        queue.start(executor=2).wait()
    assert {wrong for wrong, _ in seen} == {0}
    assert {done for _, done in seen} >= {0, 9}


def test_the_lock_of_the_graph_is_never_waited_under(path: Path) -> None:
    """Flushing under the lock returns at once; it would keep the writer from what it may need."""
    with kernel(Task("one", one), store=path) as queue, GRAPH_LOCK:
        queue.tasks[0].fsm_event("dispatch")
        assert store_of(queue).flush() is False
        queue.tasks[0].fsm_event("done")


def test_verbs_are_noted(path: Path) -> None:
    """What somebody asked for is kept in words, and found again in the next kernel."""
    with kernel(Task("one", one), Task("gone", one), store=path) as queue:
        first, second = queue.tasks
        queue.supply(first, 5)
        queue.invalidate(first)
        store_of(queue).note({"verb": "own", "tasks": [first, second], "deep": {"why": "\ud800"}})
        before = store_of(queue).verbs()
        assert [words["verb"] for _, words in before] == ["supply", "invalidate", "own"]

    with kernel(Task("one", one), store=path) as queue:
        found = store_of(queue).verbs()
        assert [at for at, _ in found] == [at for at, _ in before]
        assert found[0][1] == {"verb": "supply", "tasks": [queue.tasks[0]], "moved": 1}
        expected = {"verb": "own", "tasks": [queue.tasks[0]], "deep": {"why": "\ud800"}}
        assert found[2][1] == expected


def test_a_value_from_elsewhere_is_brought_to_be_stored(path: Path) -> None:
    """A lazy value of another kind is loaded by the writer, even where an older result lies."""
    with kernel(Task("one", one), store=path) as queue:
        run_all(queue)
    with kernel(Task("one", fail), store=path) as queue:
        queue.supply(queue.tasks[0], LazyValue(lambda: "from the cluster"))
        assert queue.tasks[0].value == "from the cluster"
    with kernel(Task("one", fail), store=path) as queue:
        assert queue.tasks[0].value == "from the cluster"


def test_what_is_written_at_exit(path: Path) -> None:
    """A kernel that ends as it should leaves everything in the file, and one file only."""
    program = """
import sys
from taskqueue_nb import Task, TaskQueue
queue = TaskQueue(*[Task(f"t{i}", int) for i in range(500)], store=sys.argv[1])
for task in queue:
    task.dispatch()
"""
    assert script("-c", program, str(path)).returncode == 0

    assert list(path.parent.iterdir()) == [path]
    assert query(path, "SELECT count(*) FROM tasks WHERE state = 'DONE'") == [(500,)]


def test_a_forgotten_queue_lets_go_of_the_file(path: Path, no_threads_left: None) -> None:
    """When a queue is garbage, what happened is written and the thread ends."""
    queue = TaskQueue(Task("one", one), store=path)
    queue.tasks[0].dispatch()
    before = [thread for thread in threading.enumerate() if "store" in thread.name]
    assert len(before) == 1
    del queue
    gc.collect()

    before[0].join(LIMIT)
    assert not before[0].is_alive()
    assert query(path, "SELECT state FROM tasks") == [("DONE",)]


def test_a_closed_store_leaves_nothing_behind(path: Path, no_threads_left: None) -> None:
    """After close() there is no thread, no lock and no log; the queue goes on in memory."""
    with kernel(Task("one", one), Task("two", one), store=path) as queue:
        list(queue.run(once=True))
    store_of(queue).close()

    assert list(path.parent.iterdir()) == [path]
    assert run_all(queue) == ["two"]
    assert store_of(queue).read_only
    assert "read only" in repr(queue.store)


def test_an_interrupt_while_it_is_written_comes_out(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C ends the wait for the writer, loses nothing, and the run can go on."""
    waiting, go = threading.Event(), threading.Event()
    pack = taskqueue_nb.store.pack.pack

    def slow(*arguments: Any) -> Any:
        waiting.set()
        wait_for(go)
        return pack(*arguments)

    monkeypatch.setattr(taskqueue_nb.store.writer, "pack", slow)

    def press() -> None:
        wait_for(waiting)
        signal.raise_signal(signal.SIGINT)

    with kernel(Task("one", one), Task("two", one), store=path) as queue:
        presser = Background(press)
        with pytest.raises(KeyboardInterrupt):
            run_all(queue)
        presser.join()
        go.set()
        assert states(queue) == {"one": "DONE", "two": "PENDING"}
        assert run_all(queue) == ["two"]
    with kernel(Task("one", one), Task("two", one), store=path) as queue:
        assert queue.counts() == {"DONE": 2}


def test_a_file_that_is_removed_is_said(path: Path) -> None:
    """Writing into a file that nobody will find again is no storing: one warning, in memory on."""
    with said() as messages, kernel(Task("one", one), Task("two", one), store=path) as queue:
        list(queue.run(once=True))
        path.unlink()
        assert run_all(queue) == ["two"]
        assert store_of(queue).read_only
    assert len(messages) == 1
    assert "the file was removed, or replaced by another one" in messages[0]


def test_where_threads_or_locks_are_missing_it_is_said(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A system that cannot do what a store needs: one clear error, nothing left behind."""

    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        with pytest.raises(StoreError, match="no thread can be started here"):
            TaskQueue(store=path)
    assert [each.name for each in path.parent.iterdir()] == ["run.tq"]
    path.unlink()
    monkeypatch.setitem(sys.modules, "fcntl", None)
    with pytest.raises(StoreError, match="files cannot be locked there"):
        TaskQueue(store=path)
    assert not list(path.parent.iterdir())


def test_many_threads_add_at_once(path: Path) -> None:
    """Each task gets a place of its own in the file, whoever adds it."""
    with kernel(store=path) as queue:
        at_once(8, lambda i: queue.add(*[Task("same", _length, func_args=(i,)) for _ in range(20)]))
        assert len(run_all(queue)) == 160
        assert not store_of(queue).read_only
    assert query(path, "SELECT count(*), count(DISTINCT ordinal) FROM tasks") == [(160, 160)]


# -- who may write -----------------------------------------------------------------------------

HOLDER = """
import sys
from taskqueue_nb import Task, TaskQueue
queue = TaskQueue(Task("one", int), Task("two", int), store=sys.argv[1])
list(queue.run(once=True))
print("ready", flush=True)
for line in sys.stdin:
    list(queue.run(once=True))
    print("ran", flush=True)
"""


def test_a_second_process_reads_only(path: Path) -> None:
    """It is told in a sentence with the number of the first, takes results back, writes nothing."""
    holder = started("-c", HOLDER, str(path))
    assert holder.stdin is not None
    assert holder.stdout is not None
    with holder:
        assert holder.stdout.readline() == "ready\n"
        with said() as messages:
            queue = TaskQueue(Task("one", int), Task("two", int), store=path)
        assert len(messages) == 1
        assert f"run.tq' is open in process {holder.pid}: it is read only here" in messages[0]
        assert store_of(queue).read_only
        assert states(queue) == {"one": "DONE", "two": "PENDING"}
        assert queue.tasks[0].value == 0
        before = query(path, "SELECT * FROM journal")
        assert run_all(queue) == ["two"]
        assert store_of(queue).flush()
        assert query(path, "SELECT * FROM journal") == before
        holder.stdin.write("go\n")
        holder.stdin.flush()
        assert holder.stdout.readline() == "ran\n"
        holder.stdin.close()
    assert holder.returncode == 0

    with kernel(Task("one", int), Task("two", int), store=path) as again:
        assert again.counts() == {"DONE": 2}
        assert not store_of(again).read_only
    store_of(queue).close()


def test_a_killed_process_holds_nothing(path: Path) -> None:
    """The lock ends with its process; the next one writes."""
    holder = started("-c", HOLDER, str(path))
    assert holder.stdout is not None
    with holder:
        holder.stdout.readline()
        holder.kill()
        holder.wait(LIMIT)

    with kernel(Task("one", int), Task("two", int), store=path) as queue:
        assert not store_of(queue).read_only
        assert states(queue) == {"one": "DONE", "two": "PENDING"}


def test_a_queue_made_again_takes_the_store_over(path: Path, no_threads_left: None) -> None:
    """A cell that is run again goes on with the file; the queue before says that it does not."""
    before = TaskQueue(Task("one", one), Task("two", one), store=path)
    list(before.run(once=True))

    with kernel(Task("one", one), Task("two", one), store=path) as queue:
        assert not store_of(queue).read_only
        assert states(queue) == {"one": "DONE", "two": "PENDING"}
        with said() as messages:
            run_all(before)
        assert len(messages) == 1
        assert "another queue has taken it over" in messages[0]
        assert query(path, "SELECT count(*) FROM tasks") == [(1,)]
    assert store_of(before).read_only


def test_a_running_queue_keeps_its_store(path: Path) -> None:
    """While one queue of this kernel runs, another one on the same file reads only."""
    go, started_it = threading.Event(), threading.Event()

    def wait() -> None:
        started_it.set()
        wait_for(go)

    with kernel(Task("long", wait), store=path) as first:
        first.start()
        wait_for(started_it)
        with said() as messages:
            second = TaskQueue(Task("long", wait), store=path)
        go.set()
        first.wait()
        assert store_of(second).read_only
        assert second.tasks[0].is_pending
        assert "another queue of this kernel, which is running" in messages[0]
        assert not store_of(first).read_only
    assert query(path, "SELECT state FROM tasks") == [("DONE",)]


def test_a_forked_child_neither_writes_nor_holds_the_lock(path: Path) -> None:
    """What a child does is its own; the parent's store goes on, and ends with the parent."""
    program = """
import os, sys
from taskqueue_nb import Task, TaskQueue
path = sys.argv[1]
queue = TaskQueue(Task("one", int), Task("two", int), store=path)
list(queue.run(once=True))
again, wait = os.pipe(), os.pipe()
child = os.fork()
if not child:
    os.close(wait[1])
    assert queue.store.read_only
    list(queue.run())
    queue.store.flush()
    del queue
    os.read(wait[0], 1)
    sys.exit(0)
queue.store.flush()
queue.store.close()
next_one = TaskQueue(Task("one", int), Task("two", int), store=path)
assert not next_one.store.read_only, "the child holds the lock"
assert next_one.counts() == {"PENDING": 1, "DONE": 1}, next_one
os.close(wait[1])
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
list(next_one.run())
next_one.store.close()
third = TaskQueue(Task("one", int), Task("two", int), store=path)
assert third.counts() == {"DONE": 2}
"""
    done = script("-W", "error", "-W", "ignore::DeprecationWarning", "-c", program, str(path))
    assert done.returncode == 0, done.stderr


def test_a_task_that_forks_leaves_the_store_alone(path: Path) -> None:
    """The run goes on in the parent, and so does its store."""

    def fork() -> int:
        child = os.fork()
        if not child:
            return 0
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        with kernel(Task("fork", fork), Task("next", one), store=path) as queue:
            assert run_all(queue) == ["fork", "next"]
    with kernel(Task("fork", fork), Task("next", one), store=path) as queue:
        assert [task.value for task in queue] == [0, 1]


# -- where it may lie --------------------------------------------------------------------------


def test_the_file_is_ours_alone(path: Path) -> None:
    """Whatever the mask, nobody else may read or write what is stored."""
    before = os.umask(0)
    try:
        with kernel(Task("one", one), store=path) as queue:
            run_all(queue)
            modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in path.parent.iterdir()}
    finally:
        os.umask(before)
    assert set(modes.values()) == {0o600}
    assert set(modes) == {"run.tq", "run.tq-wal", "run.tq-shm", "run.tq-lock"}


def test_paths_of_any_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Texts, path objects, `~` and odd paths will do; a relative one stays where it was."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for where in ("~/a.tq", "b?mode=memory#%41.tq", Path("c d.tq"), "./é.tq"):
        with kernel(Task("one", one), store=where) as queue:
            monkeypatch.chdir("/")
            run_all(queue)
            assert store_of(queue).path.parent == tmp_path
            assert query(store_of(queue).path, "SELECT state FROM tasks") == [("DONE",)]
            monkeypatch.chdir(tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {
        "a.tq",
        "b?mode=memory#%41.tq",
        "c d.tq",
        "é.tq",
    }


def _writable_file(path: Path) -> None:
    path.touch()
    path.chmod(0o622)


def _others_folder(path: Path) -> None:
    path.parent.chmod(0o777)


def _group_folder(path: Path) -> None:
    path.parent.chmod(0o770)
    os.chown(path.parent, -1, 12345) if IS_ROOT else None


def _linked(path: Path) -> None:
    path.symlink_to(path.with_name("elsewhere"))


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _read_only(path: Path) -> None:
    with kernel(store=path):
        pass
    path.chmod(0o400)


def _read_only_folder(path: Path) -> None:
    path.parent.chmod(0o500)


def _owned(path: Path) -> None:
    with kernel(store=path):
        pass
    os.chown(path, 12345, -1)


def _owned_log(path: Path) -> None:
    path.with_name("run.tq-wal").touch(0o600)
    os.chown(path.with_name("run.tq-wal"), 12345, -1)


def _owned_folder(path: Path) -> None:
    os.chown(path.parent, 12345, -1)


def _folder(path: Path) -> None:
    path.mkdir()


REFUSED = {
    "file that others may write": (_writable_file, "others may write to it.*chmod 600"),
    "folder that others may write": (_others_folder, "others may write in .*chmod go-w"),
    "folder that a group may write": (_group_folder, "others may write in "),
    "link": (_linked, "it is a link"),
    "pipe": (_fifo, "no regular file"),
    "read-only file": (_read_only, "it is read-only; chmod 600"),
    "read-only folder": (_read_only_folder, "folder .* is read-only"),
    "file of another user": (_owned, "belongs to another user"),
    "log of another user": (_owned_log, "'run.tq-wal' belongs to another user"),
    "folder of another user": (_owned_folder, "folder .* belongs to another user"),
    "folder": (_folder, "that is a folder"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_place_that_is_not_ours_is_refused(case: str, tmp_path: Path) -> None:
    """One clear error names the file; nothing is changed, nothing is left behind."""
    prepare, message = REFUSED[case]
    if "another user" in case and not IS_ROOT:
        pytest.skip("only root gives files away")
    path = tmp_path / "own" / "run.tq"
    path.parent.mkdir(mode=0o700)
    prepare(path)
    before = sorted(path.parent.iterdir())

    try:
        with pytest.raises(StoreError, match=f"run.tq': .*{message}"):
            TaskQueue(Task("one", one), store=path)
        assert sorted(path.parent.iterdir()) == before
    finally:
        path.parent.chmod(0o700)


@pytest.mark.parametrize("given", ["", ":memory:", "a\0b", 5, b"run.tq", "no/such/folder/run.tq"])
def test_what_is_no_place_is_refused(given: Any, tmp_path: Path, monkeypatch: Any) -> None:
    """What names no file in a folder that is there gives one clear error."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StoreError, match=r"a store is a file|does not exist"):
        TaskQueue(store=given)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("limit", [0, -1, 1.5, True, "1 GB"])
def test_an_impossible_limit_is_refused(limit: Any, path: Path) -> None:
    """The limit is a number of bytes."""
    with pytest.raises(ValueError, match="store_limit is a number of bytes"):
        TaskQueue(store=path, store_limit=limit)


def test_store_errors_travel() -> None:
    """They keep their facts, and survive pickling."""
    import pickle

    error = pickle.loads(pickle.dumps(StoreError("/a/b", "it is full")))  # noqa: S301 - our own

    assert (error.path, error.reason) == ("/a/b", "it is full")
    assert str(error) == "store '/a/b': it is full"


def test_a_store_shows_what_is_in_it(path: Path) -> None:
    """Its repr names the file, the results and the size; a queue without a store has none."""
    assert TaskQueue().store is None
    with kernel(Task("one", one), store=path) as queue:
        run_all(queue)
        assert repr(queue.store).startswith(f"<Store {str(path)!r}: 1 result, 0.")
    path.unlink()
    assert repr(queue.store) == f"<Store {str(path)!r}: read only>"


def test_who_has_no_store_pays_nothing_for_it() -> None:
    """The package is imported and runs without SQLite."""
    program = (
        "import sys; from taskqueue_nb import Task, TaskQueue; list(TaskQueue(Task(int)).run())\n"
        "print(sorted({'sqlite3', 'taskqueue_nb.store'} & set(sys.modules)))"
    )

    assert script("-c", program).stdout == "[]\n"


# -- when the disk is full ---------------------------------------------------------------------

FULL = """
import resource, sys, warnings
from taskqueue_nb import Task, TaskQueue
def made(i): return bytes([i % 256]) * 10_000
tasks = [Task(f"t{i}", made, func_args=(i,)) for i in range(100)]
queue = TaskQueue(*tasks, store=sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    ran = sum(1 for task in queue.run(executor=2 if "threads" in sys.argv else None))
assert ran == 100 and queue.counts() == {"DONE": 100}
assert queue.store.read_only
messages = [str(each.message) for each in caught]
assert len(messages) == 1, messages
assert "it cannot be written any more" in messages[0], messages
assert "in memory only" in messages[0], messages
assert all(task.value == made(i) for i, task in enumerate(tasks))
"""


@pytest.mark.parametrize("how", ["caller", "threads"])
def test_a_full_disk_ends_the_store_and_not_the_run(how: str, path: Path) -> None:
    """One warning, the run ends in memory, and what was stored before is sound."""
    done = script("-c", FULL, str(path), how)
    assert done.returncode == 0, done.stderr

    assert query(path, "PRAGMA integrity_check") == [("ok",)]

    def made(i: int) -> bytes:
        return bytes([i % 256]) * 10_000

    with kernel(*[Task(f"t{i}", made, func_args=(i,)) for i in range(100)], store=path) as queue:
        done_before = queue.counts().get("DONE", 0)
        assert (5 if how == "caller" else 0) <= done_before < 40
        assert len(run_all(queue)) == 100 - done_before
        assert all(task.value == made(i) for i, task in enumerate(queue))


def test_a_disk_that_is_full_from_the_start_is_said(path: Path) -> None:
    """A store that cannot even be made is one clear error, and leaves nothing behind."""
    program = """
import resource, sys
from taskqueue_nb import StoreError, TaskQueue
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    TaskQueue(store=sys.argv[1])
except StoreError as error:
    print(error)
"""
    done = script("-c", program, str(path))

    assert "it cannot be made there" in done.stdout
    assert done.stderr == ""
    assert not list(path.parent.iterdir())


# -- whatever happens --------------------------------------------------------------------------


@given(data=st.data())
def test_any_run_comes_back_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Whatever is run, failed, mended, cut off: the next kernel stands where this one stood."""
    graph = GRAPHS[data.draw(st.sampled_from(sorted(GRAPHS)), "graph")]
    failing = data.draw(st.sets(st.sampled_from(sorted(graph))), "failing")
    path = tmp_path_factory.mktemp("store") / "run.tq"
    calls = Calls(failing=set(failing))
    before: dict[str, Any] = {}
    for _ in range(data.draw(st.integers(1, 3), "kernels")):
        with kernel(*tasks_of(graph, calls), store=path) as queue:
            if before:
                assert {task.name: task.fsm_history for task in queue} == before
                assert not store_of(queue).changed
            for _ in range(data.draw(st.integers(0, 3), "verbs")):
                verb = data.draw(st.sampled_from(["run", "step", "retry", "invalidate", "supply"]))
                done = [task for task in queue if task.is_done]
                failed = [task for task in queue if task.is_failed]
                if verb == "run":
                    run_all(queue)
                elif verb == "step":
                    queue.step()
                elif verb == "retry":
                    queue.retry()
                elif verb == "invalidate" and done:
                    queue.invalidate(done[0])
                elif verb == "supply" and failed:
                    queue.supply(failed[0], failed[0].name)
            before = {task.name: task.fsm_history for task in queue}
            check_settled(task for task in queue if not task.is_done or not task.isblocked())
