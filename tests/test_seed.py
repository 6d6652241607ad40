"""The examples of the library that this one grew from, word for word."""

from __future__ import annotations

import doctest
import threading
from types import SimpleNamespace
from typing import Final

import pytest

from checks import LIMIT, states, wait_for
from taskqueue_nb import (
    BlockedError,
    FSMError,
    Task,
    TaskError,
    TaskQueue,
    make,
    make_later,
    make_now,
)

MAKE: Final = """
>>> t1 = Task('t1', lambda: print('doing t1'), track=True)
>>> t2 = t1.then('t2', lambda: print('doing t2'), track=True)
>>> list(make(t2))    # doctest: +ELLIPSIS
t1 PENDING->dispatch->RUNNING
doing t1
t1 RUNNING->done->DONE
t2 PENDING->dispatch->RUNNING
doing t2
t2 RUNNING->done->DONE
[Task('t2',<function <lambda> at ...>,state='DONE')]
"""

TWO_DEPENDENT_TASKS: Final = """
 >>> t1 = Task("t1", lambda: print("t1"))
 >>> t2 = t1.then("t2", lambda: print("t2"))
 >>> q = TaskQueue(t1, t2)
 >>> for _ in q.run(): pass
 ...
 t1
 t2
"""

ONLY_THE_SPECIFIED_TASKS: Final = """
 >>> t1 = Task("t1", lambda: print("t1"))
 >>> t2 = t1.then("t2", lambda: print("t2"))
 >>> q = TaskQueue(t1)
 >>> for _ in q.run(): pass
 ...
 t1
"""

RUN_DEPENDENT_TASKS: Final = """
 >>> t1 = Task("t1", lambda: print("t1"))
 >>> t2 = t1.then("t2", lambda: print("t2"))
 >>> q = TaskQueue(t1, run_dependent_tasks=True)
 >>> for _ in q.run(): pass
 ...
 t1
 t2
"""

DOCTESTS: Final = {
    "make": MAKE,
    "two dependent tasks": TWO_DEPENDENT_TASKS,
    "only the specified tasks": ONLY_THE_SPECIFIED_TASKS,
    "run_dependent_tasks": RUN_DEPENDENT_TASKS,
}

# The class's text has this example twice: for how a task works, and for the `cancel_on_` options.
SLEEPERS: Final = {
    "how it works": """
t1 = Task(name="task1")
t1.bg(time.sleep, 10)
t2 = Task(name="task2")
# prevent t2 from running until t1 completes
t2.require(t1)
# try to run sleep(5) for t2 immediately after t1 completes
t1.notify(t2.call, sleep, 5)
""",
    "immediate semantics": """
t1 = Task(name="task1")
t1.bg(time.sleep, 2)
t2 = Task(name="task2")
# prevent t2 from running until t1 completes
t2.require(t1)
# try to run sleep(5) for t2 immediately after t1 completes
t1.notify(t2.call, sleep, 5)
""",
}


@pytest.mark.parametrize("example", DOCTESTS.values(), ids=DOCTESTS)
def test_example_prints_what_it_says(example: str) -> None:
    """Each example, run as a doctest with the names that it uses, gives its output."""
    names = {"Task": Task, "TaskQueue": TaskQueue, "make": make}
    test = doctest.DocTestParser().get_doctest(example, names, "seed", None, None)
    assert len(test.examples) >= 3
    said: list[str] = []

    results = doctest.DocTestRunner(verbose=False).run(test, out=said.append)

    assert results.failed == 0, "".join(said)


@pytest.mark.parametrize("example", SLEEPERS.values(), ids=SLEEPERS)
def test_sleepers_run_one_after_the_other(example: str, no_threads_left: None) -> None:
    """The second task sleeps once the first has slept; Events stand for the sleeping."""
    slept: list[float] = []
    first, second = threading.Event(), threading.Event()

    def long_sleep(seconds: float) -> None:
        wait_for(first)
        slept.append(seconds)

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        second.set()

    names = {"Task": Task, "time": SimpleNamespace(sleep=long_sleep), "sleep": sleep}

    exec(compile(example, "seed", "exec"), names)  # noqa: S102 - the example is the point

    t1, t2 = names["t1"], names["t2"]
    assert isinstance(t1, Task)
    assert isinstance(t2, Task)
    assert not t1.is_done
    assert t2.is_pending
    first.set()
    wait_for(second, "the second sleep")
    t2.result(LIMIT)
    assert slept in ([10, 5], [2, 5])
    assert states([t1, t2]) == {"task1": "DONE", "task2": "DONE"}


def test_errors_are_one_family() -> None:
    """`BlockedError` is a `TaskError`, which is an `FSMError`, which is an `Exception`."""
    assert issubclass(BlockedError, TaskError)
    assert issubclass(TaskError, FSMError)
    assert issubclass(FSMError, Exception)


def test_a_failed_task_still_blocks_and_a_good_one_does_not() -> None:
    """An exception blocks the dependents, so that it can be repaired; a return does not."""
    bad = Task("bad", lambda: 1 / 0)
    good = Task("good", list)
    after_bad, after_good = bad.then("after bad", list), good.then("after good", list)
    bad.dispatch()
    good.dispatch()

    with pytest.raises(BlockedError):
        after_bad.dispatch()
    after_good.dispatch()

    assert states([after_bad, after_good]) == {"after bad": "PENDING", "after good": "DONE"}


def test_names_of_the_seed_are_there() -> None:
    """What its page documents can be called with what it documents."""
    one, two = Task("one", list), Task("two", list)

    assert make_now(one, fail_fast=False, queue=None) == [one]
    make_later(SimpleNamespace(defer=lambda function, *args: function(*args)), two)
    assert two.result(LIMIT) == []
    assert Task(name="x", func=list, func_args=(), func_kwargs={}, lock=threading.RLock(),
                state="PENDING", track=False, cancel_on_exception=False,
                cancel_on_result=None).make()  # fmt: skip
