"""Staleness: what ran with other code, arguments or prerequisites than there are now, and why."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable
from typing import Any, Final

import pytest

from checks import run
from taskqueue_nb import Task, TaskQueue, task
from taskqueue_nb.task import TaskError

CELL: Final = """
LIMIT = 3
CALLS = []

class Scale:
    def by(self, number):
        return number * 2

def helper(number):
    return number + LIMIT

@task
def load(number):
    CALLS.append(number)
    return helper(number)

@task
def scale(number):
    return Scale().by(number)

@task
def total(*numbers):
    return sum(numbers)
"""


class Notebook:
    """A namespace in which cells are run, and a queue of what they define."""

    def __init__(self) -> None:
        self.space: dict[str, Any] = {"__name__": "__main__", "task": task}
        self.cell(CELL)
        self.load = self.space["load"](1)
        self.scaled = self.space["scale"](self.load)
        self.other = self.space["load"].options(name="other")(2)
        self.total = self.space["total"](self.scaled, self.other)
        self.queue = TaskQueue.of(self.total)
        run(self.queue)
        assert self.queue.counts() == {"DONE": 4}

    def cell(self, source: str) -> None:
        """Run a cell."""
        exec(source, self.space)  # noqa: S102 - this is what a notebook does

    def stale(self) -> dict[str, str]:
        """Return what is stale, by name."""
        return {one.name: why for one, why in self.queue.stale().items()}


def changed(old: str, new: str) -> str:
    """Return the cell with one thing changed."""
    assert old in CELL
    return CELL.replace(old, new)


#: What is changed in the cell, and the reason of each task that is stale for it.
CHANGES: Final[dict[str, tuple[str, dict[str, str]]]] = {
    "nothing": (CELL, {}),
    "a comment and blank lines": (changed("    return sum", "    # all\n\n    return sum"), {}),
    "the code itself": (
        changed("sum(numbers)", "sum(numbers) + 1"), {"total": "code changed: its code changed"},
    ),
    "a helper": (
        changed("number + LIMIT", "number - LIMIT"),
        {"load": "code changed: helper()", "other": "code changed: helper()",
         "scale": "upstream changed: 'load'", "total": "upstream changed: 'scale'"},
    ),
    "a value": (
        changed("LIMIT = 3", "LIMIT = 4"),
        {"load": "code changed: LIMIT", "other": "code changed: LIMIT",
         "scale": "upstream changed: 'load'", "total": "upstream changed: 'scale'"},
    ),
    "a class": (
        changed("number * 2", "number * 3"),
        {"scale": "code changed: Scale.by(), which it calls", "total": "upstream changed: 'scale'"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", CHANGES)
def test_cell_run_again_marks_what_it_changed(what: str) -> None:
    """The reason names what changed; those behind are stale for what is before them."""
    notebook = Notebook()
    source, expected = CHANGES[what]

    notebook.cell(source)

    found = notebook.stale()
    assert {*found} == {*expected}
    order = [one.name for one in notebook.queue if one.name in found]
    assert list(found) == order
    for name, why in found.items():
        assert why.startswith(expected[name]), why
    assert notebook.queue.counts() == {"DONE": 4}


def test_refresh_plans_the_rerun_and_runs_nothing_by_itself() -> None:
    """Only what is stale runs again, with the code of now; then nothing is stale."""
    notebook = Notebook()
    notebook.cell(changed("number * 2", "number * 3"))

    plan = notebook.queue.refresh()

    assert [one.name for one in plan.will_run] == ["scale", "total"]
    assert plan.reasons[notebook.scaled].startswith("code changed: Scale.by(), which it calls")
    assert plan.reasons[notebook.total] == "upstream changed: 'scale'"
    assert notebook.queue.counts() == {"DONE": 4}
    plan.apply()
    assert run(notebook.queue) == ["scale", "total"]
    assert notebook.scaled.result() == 12
    assert notebook.stale() == {}
    assert repr(notebook.queue.refresh()) == "nothing will run, 4 are reused"


def test_refresh_can_be_undone() -> None:
    """The old results come back."""
    notebook = Notebook()
    notebook.cell(changed("number * 2", "number * 3"))
    notebook.queue.plan("refresh").apply()

    notebook.queue.undo()

    assert notebook.scaled.value == 8
    assert list(notebook.stale()) == ["scale", "total"]


def test_changed_arguments_are_stale_and_named() -> None:
    """Arguments set anew on a done task, the same ones not."""
    notebook = Notebook()
    notebook.load.func_args = (1,)
    assert notebook.stale() == {}

    notebook.load.func_args = (5,)

    assert notebook.stale()["load"] == "arguments changed: argument 'number' changed"
    assert notebook.stale()["total"] == "upstream changed: 'scale'"


def test_argument_changed_in_place_is_seen_after_the_first_look() -> None:
    """What an argument held is known from when somebody asked."""
    rows = [1, 2]
    queue = TaskQueue(Task("sum", sum, func_args=(rows,)))
    run(queue)
    assert queue.stale() == {}

    rows.append(3)

    assert [*queue.stale().values()] == ["arguments changed: argument 'iterable' changed"]


def test_failed_task_whose_code_was_mended_is_stale_too() -> None:
    """What failed with other code would be tried with the code of now."""
    space: dict[str, Any] = {"__name__": "__main__", "task": task}
    exec("@task\ndef load():\n    return 1 / 0\n", space)  # noqa: S102 - a cell
    load = space["load"]()
    queue = TaskQueue(load, load.then("after", list))
    run(queue)
    assert queue.stale() == {}
    exec("@task\ndef load():\n    return 1\n", space)  # noqa: S102 - a cell

    plan = queue.refresh()

    assert [*queue.stale().values()] == ["code changed: its code changed"]
    assert [one.name for one in plan.will_run] == ["load", "after"]


UNKNOWN: Final[dict[str, Callable[[], Any]]] = {
    "a generator": lambda: (number for number in [1]),
    "an object that cannot be taken apart": lambda: Secret(),  # noqa: PLW0108 - it stands below
}


class Secret:
    """Refuses to say what it is made of."""

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise RuntimeError("no")


@pytest.mark.parametrize("what", UNKNOWN)
def test_argument_that_cannot_be_compared_is_said(what: str) -> None:
    """It is unknown, never silently unchanged; a refresh leaves it alone unless asked."""
    one = Task("one", id, func_args=(UNKNOWN[what](),))
    queue = TaskQueue(one, one.then("after", list))
    run(queue)

    (why,) = queue.stale().values()

    assert why.startswith("unknown: argument 'obj'"), why
    assert queue.refresh().will_run == ()
    assert [t.name for t in queue.refresh(unknown=True).will_run] == ["one", "after"]


@pytest.mark.parametrize(
    "value", [threading.Lock(), threading.Event(), open, inspect, print], ids=lambda v: repr(v)[:30]
)
def test_opaque_arguments_count_by_type_and_name(value: Any) -> None:
    """A lock or a module is no reason for doubt."""
    queue = TaskQueue(Task("one", id, func_args=(value,)))
    run(queue)

    assert queue.stale() == {}


def test_supplied_value_is_not_stale_by_code_that_never_ran() -> None:
    """What the user gave by hand stands until the user says otherwise."""
    notebook = Notebook()
    queue = notebook.queue
    queue.invalidate(notebook.load)
    queue.supply(notebook.load, 10)
    run(queue)

    notebook.cell(changed("number + LIMIT", "number - LIMIT"))

    assert list(notebook.stale()) == ["other", "total"]


# --------------------------------------------------------------------------------- code as text
def test_edit_repairs_with_a_text() -> None:
    """The task's source is the text to begin with; the traceback shows the edited line."""

    def half(number: float) -> float:
        return number / 0

    one = Task("one", half, func_args=(6,))
    queue = TaskQueue(one)
    run(queue)
    source = one.source
    assert source is not None

    queue.edit(one, source.replace("/ 0", "/ missing"))
    run(queue)

    text = one.attempts[-1].error_text
    assert text is not None
    assert "return number / missing" in text
    assert one.source == source.replace("/ 0", "/ missing")
    one.edit(source.replace("/ 0", "/ 2"))
    run(queue)
    assert one.result() == 3
    assert half.__code__.co_consts[1] == 0


@pytest.mark.parametrize(
    ("source", "error"),
    [
        ("def half(:", SyntaxError),
        ("half = 3", ValueError),
        ("def half(): return 1", TypeError),
        ("", ValueError),
    ],
)
def test_edit_that_could_not_be_called_is_refused(source: str, error: type[Exception]) -> None:
    """Nothing has changed."""
    one = Task("one", lambda number: number / 0, func_args=(6,))
    queue = TaskQueue(one)
    run(queue)
    func, history = one.func, one.fsm_history

    with pytest.raises(error):
        queue.edit(one, source)
    with pytest.raises(error):
        queue.plan("edit", one, source)

    assert (one.func, one.fsm_history) == (func, history)
    assert queue.deeds == ()


def test_edit_can_be_planned_and_undone() -> None:
    """As any other repair."""
    one = Task("one", lambda number: number / 0, func_args=(6,))
    two = one.then("two", list)
    queue = TaskQueue(one, two)
    run(queue)
    func = one.func

    plan = queue.plan("edit", one, "lambda number: number / 2")
    assert plan.will_run == (one, two)
    assert plan.reasons[one] == "its code is new"
    plan.apply()
    queue.undo()

    assert one.func is func
    assert one.is_failed


def test_diff_shows_what_changed_between_attempts() -> None:
    """In code as a diff, in arguments before and after."""
    one = Task("one", lambda number, by: number / by, func_args=(6, 0))
    queue = TaskQueue(one)
    run(queue)
    queue.repair(one, args=(6, 2))
    run(queue)
    queue.invalidate(one)
    one.func = lambda number, by: number * by
    run(queue)

    assert dict(one.diff(1, 2).arguments) == {"by": ("0", "2")}
    assert one.diff(1, 2).code == ()
    assert any(line.startswith("+") and "number * by" in line for line in one.diff(2, 3).code)
    assert not one.diff(2, 2)
    for number in (0, 4, -4, 10**30):
        with pytest.raises(TaskError, match="there are 1 to 3"):
            one.diff(1, number)


def test_snippet_is_a_cell_that_fails_in_the_same_way() -> None:
    """With the results of prerequisites in the place of tasks."""
    rows = Task("rows", lambda: [3, 0])
    part = Task("part", lambda rows, of: of / rows[1], func_args=(rows,), func_kwargs={"of": 6})
    queue = TaskQueue(rows, part)
    run(queue)

    cell = part.snippet()

    assert cell.startswith("# task 'part', attempt 1, raised ZeroDivisionError: division by zero\n")
    with pytest.raises(ZeroDivisionError):
        exec(cell, {})  # noqa: S102 - a cell
    queue.invalidate(rows)
    with pytest.raises(TaskError, match="'rows' is PENDING"):
        part.snippet()


def test_debug_of_what_did_not_fail_says_so() -> None:
    """There is nothing to look at."""
    one = Task("one", list)
    one.dispatch()

    with pytest.raises(TaskError, match="'one' is DONE: there is no failure to look at"):
        one.debug()


def test_debug_opens_where_it_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Outside IPython it is pdb, at the frames of the last attempt."""
    import pdb  # noqa: T100 - it is replaced

    opened: list[Any] = []
    monkeypatch.setattr(pdb, "post_mortem", opened.append)
    monkeypatch.setattr("taskqueue_nb.source.debugger._shell", lambda: None)

    def fails() -> None:
        here = 42
        raise ValueError(here)

    one = Task("one", fails)
    one.dispatch()

    one.debug()

    (trace,) = opened
    assert trace.tb_frame.f_locals["here"] == 42
