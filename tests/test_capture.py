"""What a task prints: kept with its attempt, and shown as usual where it runs in the cell."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import threading
from collections.abc import Callable
from typing import Any, Final

import pytest

from checks import LIMIT, Calls, build, run, wait_for
from taskqueue_nb import Task, TaskQueue, make_now

FOREGROUND: Final[dict[str, Callable[[Task], object]]] = {
    "dispatch": lambda task: task.dispatch(),
    "make": lambda task: task.make(),
    "run": lambda task: run(TaskQueue(task)),
    "bg": lambda task: task.bg().join(LIMIT),
}


def say(text: str) -> None:
    """Print on both streams."""
    print(text)
    print(f"warning: {text}", file=sys.stderr)


@pytest.mark.parametrize("act", FOREGROUND.values(), ids=FOREGROUND)
def test_output_is_kept_and_shown(
    act: Callable[[Task], object], capsys: pytest.CaptureFixture[str]
) -> None:
    """In the caller's thread and in `bg` it passes through as usual, and is kept as well."""
    one = Task("one", say, func_args=("hello",))

    act(one)

    assert one.output == "hello\nwarning: hello\n"
    assert one.attempts[-1].output == one.output
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("hello\n", "warning: hello\n")


def test_output_of_a_background_run_is_kept_and_not_shown(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """`start` leaves the cells alone: by then another one may be running."""
    tasks = [Task(f"t{i}", say, func_args=(str(i),)) for i in range(20)]
    queue = TaskQueue(*tasks)

    queue.start(executor=3)

    assert queue.wait(LIMIT)
    assert [task.output for task in tasks] == [f"{i}\nwarning: {i}\n" for i in range(20)]
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("", "")


def test_what_others_print_meanwhile_is_theirs(capsys: pytest.CaptureFixture[str]) -> None:
    """A cell that prints while a background run goes on shows its own lines only."""
    began, go = threading.Event(), threading.Event()

    def work() -> None:
        print("from the task")
        began.set()
        wait_for(go)
        print("again")

    queue = TaskQueue(Task("one", work)).start()
    wait_for(began)

    print("from the cell")
    go.set()

    assert queue.wait(LIMIT)
    assert capsys.readouterr().out == "from the cell\n"
    assert queue.tasks[0].output == "from the task\nagain\n"


def test_tasks_side_by_side_keep_their_own_output() -> None:
    """Two threads that print in turn do not mix."""
    turns = threading.Barrier(2)

    def work(name: str) -> None:
        for i in range(50):
            turns.wait(LIMIT)
            print(name, i)

    tasks = [Task(name, work, func_args=(name,)) for name in ("a", "b")]
    queue = TaskQueue(*tasks).start(executor=2)

    assert queue.wait(LIMIT)

    for task in tasks:
        assert task.output == "".join(f"{task.name} {i}\n" for i in range(50))


def test_each_attempt_has_its_own_output() -> None:
    """A retried task shows what its last attempt printed; the earlier texts can be read."""
    numbers = iter(["first", "second"])

    def work() -> None:
        word = next(numbers)
        print(word)
        if word == "first":
            raise ValueError(word)

    one = Task("one", work)
    one.dispatch()
    one.retry()
    one.dispatch()

    assert [attempt.output for attempt in one.attempts] == ["first\n", "second\n"]
    assert one.output == "second\n"


def test_inner_task_keeps_its_own_output() -> None:
    """A task dispatched by another: each has what it printed."""

    def outer_work() -> None:
        print("before")
        inner.dispatch()
        print("after")

    inner = Task("inner", print, func_args=("inside",))
    outer = Task("outer", outer_work)

    outer.dispatch()

    assert inner.output == "inside\n"
    assert outer.output == "before\nafter\n"


def test_task_that_has_not_run_has_no_output() -> None:
    """The empty text."""
    one = Task("one", list)
    assert one.output == ""

    one.dispatch()

    assert one.output == ""
    assert one.attempts[-1].output == ""


@pytest.mark.parametrize("background", [False, True])
def test_streams_are_the_same_after_a_run(background: bool) -> None:
    """`sys.stdout` and `sys.stderr` are put back, also after failures."""
    before = sys.stdout, sys.stderr
    queue = TaskQueue(Task("good", say, func_args=("x",)), Task("bad", lambda: 1 / 0))

    if background:
        assert queue.start(executor=2).wait(LIMIT)
    else:
        run(queue)

    assert (sys.stdout, sys.stderr) == before


def test_streams_are_the_same_after_two_runs_that_overlap() -> None:
    """Whichever of two background runs ends first."""
    before = sys.stdout, sys.stderr
    gates = [threading.Event(), threading.Event()]
    queues = [TaskQueue(Task("gate", wait_for, func_args=(gate,))).start() for gate in gates]

    for gate, queue in zip(gates, queues, strict=True):
        gate.set()
        assert queue.wait(LIMIT)

    assert (sys.stdout, sys.stderr) == before


def test_task_may_redirect_its_output() -> None:
    """`redirect_stdout` inside a task does what it says."""
    caught = io.StringIO()

    def work() -> None:
        print("kept")
        with contextlib.redirect_stdout(caught):
            print("redirected")
        print("kept too")

    one = Task("one", work)

    one.dispatch()

    assert caught.getvalue() == "redirected\n"
    assert one.output == "kept\nkept too\n"


def test_redirected_cell_gets_what_its_tasks_print() -> None:
    """A caller who redirects before running gets the text, as without tasks."""
    caught = io.StringIO()

    with contextlib.redirect_stdout(caught):
        make_now(Task("one", print, func_args=("hello",)))

    assert caught.getvalue() == "hello\n"


def test_stream_still_looks_like_a_stream_to_the_task() -> None:
    """What a task asks of `sys.stdout` is answered: flush, encoding, isatty, fileno where any."""

    def work() -> list[Any]:
        sys.stdout.flush()
        sys.stdout.writelines(["a", "b"])
        return [sys.stdout.encoding, sys.stdout.isatty(), sys.stdout.writable(),
                sys.stdout.write("c")]  # fmt: skip

    one = Task("one", work)

    one.dispatch()

    assert one.is_done, one.exception
    assert one.result()[1:] == [False, True, 1]
    assert one.output == "abc"


def test_endless_output_is_cut_and_says_so() -> None:
    """Beginning and end are kept, the middle is not, and memory is bounded."""

    def work() -> None:
        print("the beginning")
        for _ in range(200):
            print("x" * 10_000)
        print("the end")

    one = Task("one", work)

    TaskQueue(one).start().wait(LIMIT)

    assert one.output.startswith("the beginning")
    assert one.output.endswith("the end\n")
    assert "dropped" in one.output
    assert len(one.output) < 200_000


def test_no_standard_streams_is_no_trouble(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without `sys.stdout` and `sys.stderr` (pythonw) tasks run all the same."""
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    tasks = build({"a": [], "b": ["a"]}, calls := Calls())

    run(TaskQueue(*tasks.values()))

    assert calls.names == ["a", "b"]


def test_writing_to_the_descriptor_is_not_ours(capfd: pytest.CaptureFixture[str]) -> None:
    """What bypasses Python's streams is shown as ever and not kept."""
    one = Task("one", lambda: os.write(1, b"raw\n"))

    one.dispatch()

    assert one.result() == 4
    assert one.output == ""
    assert capfd.readouterr().out == "raw\n"
