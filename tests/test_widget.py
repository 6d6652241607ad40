"""The live view without a browser: what it sends, what it does with messages, how it ends."""

from __future__ import annotations

import ast
import gc
import itertools
import json
import os
import random
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from IPython.display import HTML

from checks import LIMIT, wait_for
from taskqueue_nb import Task, TaskQueue
from taskqueue_nb.drawing import NoEngine, drawing_of
from taskqueue_nb.palette import look
from taskqueue_nb.reprs import preview
from taskqueue_nb.task import FSM_TRANSITIONS
from taskqueue_nb.widget import _CELLS, TaskGraph, _Inline, widget_of
from taskqueue_nb.widget.details import actions_of, details_of, edited_arguments
from taskqueue_nb.widget.literals import NotALiteralError, literal_of, parse
from taskqueue_nb.widget.messages import QUEUE_VERBS, TASK_VERBS, VIEW_VERBS, RefusedError, read
from taskqueue_nb.widget.modules import linked
from taskqueue_nb.widget.pump import PUMP, Mark, Pump, Worker

ROOT: Final = Path(__file__).parent.parent


def fit(rows: list[int], degree: int, *, strict: bool = True) -> int:
    """Fail when the degree is high."""
    if degree > 3:
        raise ValueError(f"degree {degree} is too high for {len(rows)} rows, strict={strict}")
    return degree


def repairable() -> TaskQueue:
    """Return a queue whose second task fails until its degree is low."""
    load = Task("load", lambda: [1, 2, 3])
    middle = Task("fit", fit, func_args=(load, 9))
    return TaskQueue(load, middle, Task("report", str, func_args=(middle,)), name="fits")


def until(condition: Callable[[], object], what: str) -> None:
    """Wait until something that no event tells is so; fail the test when it is not in time."""
    end = time.monotonic() + LIMIT
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < end, f"{what}: not within {LIMIT} s"
        pause.wait(0.005)


class Page:
    """The other end of a view: what it was sent, and a way to click."""

    def __init__(self, queue: TaskQueue) -> None:
        self.queue = queue
        self.widget = TaskGraph(queue)
        self.sent: list[dict[str, Any]] = []
        self.when: list[float] = []
        self._ids = itertools.count(1)
        self.widget.comm.publish_msg = self._publish
        self.is_shown()
        until(lambda: "details" in self.widget.parts, "the details' module")

    def _publish(self, _kind: str, data: Any = None, **_more: Any) -> None:
        if isinstance(data, dict) and data.get("method") == "update":
            self.sent.append(data["state"])
            self.when.append(time.monotonic())

    def message(self, data: Any) -> None:
        """Send anything at all."""
        self.widget._handle_msg({"content": {"data": data}, "buffers": []})

    def custom(self, content: Any) -> None:
        """Send what a view sends."""
        self.message({"method": "custom", "content": content})

    def click(self, verb: str, **more: Any) -> list[Any]:
        """Click, and return the answer: whether it was done, and the sentence."""
        click = f"c{next(self._ids)}"
        self.custom({"id": click, "verb": verb, **more})
        return self.answer(click)

    def answer(self, click: str) -> list[Any]:
        """Return the answer to a click."""

        def found() -> list[list[Any]]:
            return [said for said in self.widget.answers if said[0] == click]

        until(found, f"an answer to {click}")
        (answer,) = found()
        return answer[1:]

    def look(self, at: str) -> dict[str, Any]:
        """Select something, and return its details."""
        self.custom({"verb": "look", "at": at})
        until(lambda: self.widget.details.get("at") == at, f"the details of {at}")
        return self.widget.details

    def is_shown(self) -> None:
        """Wait until the view shows the truth."""

        def truth() -> bool:
            letters = "".join(look(task.fsm_state).letter for task in self.queue)
            folded = any(box["size"] > 1 for box in self.widget.boxes)
            shown = folded or self.widget.states == letters
            return shown and self.widget.counts == self.queue.counts()

        until(truth, "the states")

    def traits(self) -> dict[str, Any]:
        """Return what no message may change."""
        names = ("svg", "states", "boxes", "counts", "looks", "heading", "key", "core", "_css")
        return {name: getattr(self.widget, name) for name in names}


@pytest.fixture
def page() -> Iterator[Page]:
    """Return the view of a queue that has run up to its failure."""
    shown = Page(repairable())
    for _ in shown.queue.run():
        pass
    shown.is_shown()
    yield shown
    shown.widget.close()
    assert shown.queue.wait(LIMIT)


# -- what is shown -------------------------------------------------------------------------------


def test_the_first_message_holds_the_whole_picture() -> None:
    """A small queue is laid out before the view is sent, so that nothing flashes."""
    widget = TaskGraph(repairable())

    assert widget.svg.count('class="node"') == 3
    assert widget.states == "ppp"
    assert [box["label"] for box in widget.boxes] == ["load", "fit", "report"]
    assert widget.counts == {"PENDING": 3}
    widget.close()


def test_states_follow_the_run(page: Page) -> None:
    """The states are the queue's, and boxes say what failed."""
    assert page.widget.states == "dfp"
    assert page.widget.says == {"1": "failed: ValueError"}
    assert page.widget.progress["blocked"] == 1
    assert page.widget.progress["causes"] == 1


def test_tasks_can_be_shown_without_a_queue() -> None:
    """A task is shown with all that it requires, tasks as they are."""
    last = repairable().tasks[-1]
    of_one, of_some = TaskGraph(last), TaskGraph([last])

    assert len(of_one.queue) == 3
    assert len(of_some.queue) == 1
    of_one.close()
    of_some.close()


@pytest.mark.parametrize("wrong", [None, 5, "tasks", [1], object()])
def test_what_is_no_task_is_refused(wrong: Any) -> None:
    """A view of something else is a TypeError with a sentence."""
    with pytest.raises(TypeError, match="wanted"):
        TaskGraph(wrong)


def test_a_queue_has_one_widget_until_it_is_closed() -> None:
    """`queue.widget()` is the same one in every cell; after close() there is a new one."""
    queue = repairable()
    first = queue.widget()

    assert queue.widget() is first is widget_of(queue)
    first.close()
    second = queue.widget()
    assert second is not first
    second.close()


def test_a_view_whose_channel_was_closed_ends() -> None:
    """So does marimo when a cell is run again: the next `queue.widget()` is a new one."""
    queue = repairable()
    shown, alone = queue.widget(), TaskGraph(queue)
    for widget in (shown, alone):
        widget.comm.close()
    again = queue.widget()
    for _ in queue.run():
        pass

    assert again is not shown
    assert repr(shown).endswith(", closed)")
    until(lambda: repr(alone).endswith(", closed)"), "the end of a view that nobody asks for")
    assert queue.widget() is again
    again.close()


def test_marimo_gets_a_view_for_each_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each ends with its own cell; the still picture where that is asked for."""
    queue = repairable()
    first, second = queue._display_(), queue._display_()
    assert isinstance(first, TaskGraph)
    assert isinstance(second, TaskGraph)
    assert first is not second
    first.close()
    second.close()

    monkeypatch.setenv("TASKQUEUE_NB_STATIC", "1")
    still = queue._display_()
    assert isinstance(still, HTML)
    assert "data:image/svg+xml;base64," in str(still.data)


def test_its_repr_is_the_same_in_every_kernel() -> None:
    """It holds no address, so that stored outputs compare."""
    widget = TaskGraph(repairable())
    assert repr(widget) == "TaskGraph('fits', 3 tasks)"
    widget.close()
    assert repr(widget) == "TaskGraph('fits', 3 tasks, closed)"


def test_one_layout_per_structure(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run asks for no layout; a new task for one more; the names of boxes stay."""
    seen: list[int] = []

    def counting(tasks: Any, nodes: int) -> Any:
        seen.append(len(tasks))
        return drawing_of(tasks, nodes)

    monkeypatch.setattr("taskqueue_nb.widget.lens.drawing_of", counting)
    monkeypatch.setattr("taskqueue_nb.widget._LAYOUT_GAP", 0.0)
    page = Page(repairable())
    for _ in page.queue.run():
        pass
    page.is_shown()
    assert seen == [3]

    page.queue.add(Task("more", list))
    page.is_shown()
    assert seen == [3, 4]
    assert [box["at"] for box in page.widget.boxes] == ["0", "1", "2", "3"]
    page.widget.close()


def test_without_an_engine_the_tasks_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The view says what to install, and still shows every task and its state."""

    def missing(*_: Any) -> Any:
        raise NoEngine("There is no engine: pip install graphviz-pure.")

    monkeypatch.setattr("taskqueue_nb.widget.lens.drawing_of", missing)
    page = Page(repairable())
    for _ in page.queue.run():
        pass
    page.is_shown()

    assert "pip install" in page.widget.note
    assert page.widget.svg == ""
    assert page.widget.states == "dfp"
    page.widget.close()


def test_many_tasks_are_folded() -> None:
    """Beyond 200 boxes tasks fold into groups, which can be looked into."""
    tasks = [Task(f"step {i}", str, group="first" if i < 300 else "then") for i in range(600)]
    widget = TaskGraph(TaskQueue(*tasks))
    until(lambda: widget.svg, "the drawing")

    assert len(widget.boxes) <= 200
    group = next(box for box in widget.boxes if box["size"] > 1)
    assert widget.says[str(widget.boxes.index(group))] == f"{group['size']} pending"
    widget._handle_msg(
        {"content": {"data": {"method": "custom", "content": {"verb": "look", "at": group["at"]}}}}
    )
    until(lambda: widget.details.get("at") == group["at"], "the group's details")
    assert len(widget.details["members"]) == 100
    assert widget.details["more"] == group["size"] - 100
    widget.close()


# -- how much is sent -----------------------------------------------------------------------------


def test_at_most_twenty_messages_a_second() -> None:
    """However many transitions there are; and the last one shows the truth."""
    tasks = [Task(f"t{i}", str) for i in range(60)]
    page = Page(TaskQueue(*tasks))
    page.sent.clear()
    page.when.clear()

    for _ in range(150):  # 18,000 transitions and more
        for _ in page.queue.run():
            pass
        page.queue.invalidate(*tasks)
    page.is_shown()

    for first, later in zip(page.when, page.when[20:], strict=False):
        assert later - first > 0.95
    assert all(len(json.dumps(state)) < 1000 for state in page.sent)
    assert all({"svg", "_esm", "core"}.isdisjoint(state) for state in page.sent)
    page.widget.close()


def test_a_mark_costs_next_to_nothing_and_takes_no_widget_along() -> None:
    """The listener of a queue only sets a flag, and tells once until it is heard."""
    told: list[None] = []
    mark = Mark(lambda: told.append(None))
    for _ in range(1000):
        mark()
    assert len(told) == 1


def test_idle_views_are_not_flushed(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing runs and nothing changes: nothing is sent, and nobody wakes."""
    until(lambda: PUMP._clients[page.widget._mark].wants() is None, "the last flush")
    flushed = threading.Event()
    real = page.widget.flush

    def flush() -> float | None:
        flushed.set()
        return real()

    monkeypatch.setattr(page.widget, "flush", flush)
    assert not flushed.wait(0.5)


def test_a_view_that_fails_to_flush_does_not_end_the_others(
    page: Page, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged; the pump goes on."""

    class Broken:
        def flush(self) -> float | None:
            raise RuntimeError("no")

    broken, mark = Broken(), Mark(PUMP.wake)
    PUMP.add(broken, mark)
    mark()
    page.queue.retry()
    page.is_shown()
    until(lambda: "could not be brought up to date" in caplog.text, "the log")
    PUMP.remove(mark)


def test_the_pump_ends_with_the_last_widget() -> None:
    """No thread is left when nothing is shown."""

    class Quiet:
        def flush(self) -> float | None:
            return None

    pump, quiet = Pump(), Quiet()
    mark = Mark(pump.wake)
    assert pump.add(quiet, mark)
    thread = pump._thread
    assert thread is not None

    pump.remove(mark)
    thread.join(LIMIT)

    assert not thread.is_alive()


def test_a_worker_does_one_job_after_another_and_ends() -> None:
    """In order, in one thread, which ends by itself; a job that fails is logged."""
    done: list[int] = []
    over = threading.Event()
    worker = Worker("test worker")
    for i in range(50):
        worker.do(lambda i=i: done.append(i))  # type: ignore[misc]  # mypy does not infer the default
    worker.do(lambda: 1 / 0)
    worker.do(over.set)

    wait_for(over)
    until(lambda: not any(t.name == "test worker" for t in threading.enumerate()), "its end")
    assert done == list(range(50))


def test_without_threads_the_callbacks_flush() -> None:
    """Where no thread can be started, a view is brought up to date in line, and at the end."""
    page = Page(repairable())
    PUMP.remove(page.widget._mark)
    page.queue.on_change(_Inline(page.widget))
    page.sent.clear()

    for _ in page.queue.run():
        pass

    assert page.widget.states == "dfp"
    assert page.widget.progress["running"] is False
    page.widget.close()


def test_the_still_picture_follows_at_its_own_pace(
    page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is sent when it has changed: once a second in a run, and when the view is closed."""
    shown: list[dict[str, str]] = []
    for name in ("display", "update_display"):
        monkeypatch.setattr(
            f"taskqueue_nb.widget.still.{name}", lambda bundle, **_: shown.append(bundle)
        )
    page.widget._still.show()
    assert "1 pending, 1 failed, 1 done" in shown[0]["text/html"]

    page.click("retry", task=1)
    until(lambda: len(shown) == 2, "a new picture")
    assert page.widget._still.see(running=True) != []  # not yet
    page.widget.close()

    assert "2 pending, 1 done" in shown[-1]["text/html"]
    assert {bundle["text/plain"] for bundle in shown} == {"TaskQueue 'fits': 3 tasks"}
    assert len(shown) == 2  # nothing has changed since


# -- the end --------------------------------------------------------------------------------------


def test_a_closed_view_is_freed_and_hears_nothing() -> None:
    """Nobody holds it: no queue, no thread, no registry; the run goes on."""
    queue = repairable()
    page = Page(queue)
    page.look("1")
    page.click("retry", task=0)
    page.widget.close()
    page.sent.clear()

    page.custom({"id": "late", "verb": "run"})
    page.message({"method": "update", "state": {"selected": "2"}})
    page.message({"method": "request_state"})
    page.widget.close()
    for _ in queue.run():
        pass

    assert page.sent == []
    assert queue.counts() == {"DONE": 1, "FAILED": 1, "PENDING": 1}
    gone = weakref.ref(page.widget)
    del page
    gc.collect()
    until(lambda: gc.collect() is not None and gone() is None, "the widget's end")


def test_opened_and_closed_by_threads_during_a_run(no_threads_left: None) -> None:
    """No error, no view left, each task run once."""
    ran: list[int] = []
    tasks = [Task(f"t{i}", ran.append, func_args=(i,)) for i in range(2000)]
    queue = TaskQueue(*tasks)
    gone: list[weakref.ref[TaskGraph]] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(5):
                widget = TaskGraph(queue)
                gone.append(weakref.ref(widget))
                widget.close()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in queue.run():
        pass
    for thread in threads:
        thread.join(LIMIT)

    assert errors == []
    assert len(ran) == 2000
    until(lambda: gc.collect() is not None and not any(w() for w in gone), "the widgets' end")


# -- clicks ---------------------------------------------------------------------------------------


def test_repair_and_rerun_with_an_edited_argument(page: Page) -> None:
    """The literal is parsed, the task repaired, and what waits for it runs in the background."""
    assert page.click("repair", task=1, run=True, edits={"a1": "2"}) == [True, ""]

    assert page.queue.wait(LIMIT)
    page.is_shown()
    assert page.widget.states == "ddd"
    assert page.queue.tasks[1].func_args[1] == 2
    assert [len(task.attempts) for task in page.queue] == [1, 2, 1]


def test_a_default_can_be_edited_too(page: Page) -> None:
    """A parameter that was left at its default becomes a keyword argument."""
    page.click("repair", task=1, edits={"kstrict": "False", "a1": "8"})
    assert page.queue.tasks[1].func_kwargs == {"strict": False}
    assert page.queue.tasks[1].func_args[0] is page.queue.tasks[0]


def test_retry_alone_starts_nothing(page: Page) -> None:
    """It says what is pending again."""
    assert page.click("retry", task=1) == [True, "1 task is pending again."]
    assert not page.queue.running
    assert page.queue.tasks[1].fsm_state == "PENDING"


def test_a_replay_does_nothing(page: Page) -> None:
    """The same click, however often it comes, is one."""
    for _ in range(20):
        page.custom({"id": "same", "verb": "retry", "task": 1})
    page.answer("same")

    page.click("hold")
    assert [step.event for step in page.queue.tasks[1].fsm_history].count("retry") == 1


def test_a_click_on_a_state_that_has_moved_on_says_why(page: Page) -> None:
    """It changes nothing."""
    done, sentence = page.click("retry", task=0)
    assert not done
    assert "'load' is DONE, cannot retry" in sentence


@pytest.mark.parametrize(
    ("edits", "sentence"),
    [
        ({"a1": "two"}, "degree: two is no Python literal. For a text, put it in quotes: 'two'."),
        ({"a1": "__import__('os')"}, "is no Python literal"),
        ({"a1": ""}, "it is empty"),
        ({"a1": "[" * 5000}, "nested too deeply"),
        ({"a1": "1" * 10_001}, "too many"),
        ({"a0": "[1]"}, "the result of a task is passed"),
        ({"a7": "1"}, "has no argument 'a7'"),
        ({"kother": "1"}, "has no argument 'kother'"),
        ({"k__class__": "1"}, "has no argument"),
        ({"a-1": "1"}, "has no argument"),
    ],
)
def test_an_edit_is_refused_in_a_sentence(page: Page, edits: dict[str, str], sentence: str) -> None:
    """And nothing has changed then."""
    before = page.queue.tasks[1].func_args

    done, said = page.click("repair", task=1, run=True, edits=edits)

    assert not done
    assert sentence in said
    assert page.queue.tasks[1].func_args == before
    assert page.queue.tasks[1].fsm_state == "FAILED"


def test_a_value_can_be_supplied(page: Page) -> None:
    """The task is done with it, and its dependents run."""
    assert page.click("supply", task=1, value="{'slope': 3}", run=True)[0]
    assert page.queue.wait(LIMIT)
    assert page.queue.tasks[2].value == "{'slope': 3}"


def test_run_again_from_here(page: Page) -> None:
    """A done task and what was made from it run again."""
    page.click("repair", task=1, run=True, edits={"a1": "1"})
    assert page.queue.wait(LIMIT)
    page.is_shown()
    assert page.click("rerun", task=1, run=True)[0]
    assert page.queue.wait(LIMIT)
    assert [len(task.attempts) for task in page.queue] == [1, 3, 2]


def test_cancel(page: Page) -> None:
    """A pending task is cancelled at once."""
    assert page.click("cancel", task=2) == [True, "report is cancelled."]


def test_arguments_of_a_pending_task_can_be_changed(page: Page) -> None:
    """Before it runs; without a change the button is refused."""
    page.click("retry", task=1)
    assert page.click("repair", task=1) == [
        False, "Neither an argument nor the source was changed.",
    ]  # fmt: skip

    assert page.click("repair", task=1, edits={"a1": "2"}) == [True, "The arguments are changed."]
    assert page.queue.tasks[1].func_args[1] == 2


def test_run_says_why_nothing_would_happen(page: Page) -> None:
    """What blocks is named; where nothing is pending, that is said."""
    done, sentence = page.click("run")
    assert not done
    assert sentence == "Nothing can run: fit is failed and blocks what is pending. Repair it first."

    page.click("repair", task=1, run=True, edits={"a1": "1"})
    assert page.queue.wait(LIMIT)
    assert page.click("run") == [False, "There is nothing to run: no task is pending."]


def test_the_toolbar_runs_holds_steps_and_stops() -> None:
    """Each verb does what the method of its name does."""
    gate, begun = threading.Event(), threading.Event()

    def slow() -> None:
        begun.set()
        wait_for(gate)

    tasks = [Task("slow", slow), Task("next", str), Task("last", str)]
    tasks[1].require(tasks[0])
    tasks[2].require(tasks[1])
    page = Page(TaskQueue(*tasks))
    assert page.click("run") == [True, ""]
    wait_for(begun)
    assert page.click("run") == [False, "The queue is running already."]
    assert page.click("hold") == [True, ""]
    assert page.queue.held
    assert page.click("resume") == [True, ""]
    assert not page.queue.held
    assert page.click("stop") == [True, "What runs now is finished; nothing more is started."]
    gate.set()
    assert page.queue.wait(LIMIT)
    until(lambda: not page.queue.running, "the run's end")
    assert page.click("step") == [True, ""]
    until(lambda: tasks[1].fsm_state == "DONE", "the step")
    assert tasks[2].fsm_state == "PENDING"
    assert page.click("retry_failed") == [False, "No task has failed."]
    page.widget.close()


# -- plans, undo and causes ---------------------------------------------------------------------


def action(page: Page, at: str, label: str) -> dict[str, Any]:
    """Return a button of a task, with what it says that it will do."""

    def found() -> list[dict[str, Any]]:
        if page.widget.details.get("at") != at:
            return []
        return [
            each
            for each in page.widget.details.get("actions", [])
            if each["label"] == label and each.get("says")
        ]

    page.custom({"verb": "look", "at": at})
    until(found, f"the plan of {label}")
    return found()[0]


def threefold() -> TaskQueue:
    """Return a queue in which two tasks fail in one way, one in another; each blocks two."""

    def fetch(number: int) -> int:
        raise OSError(number)

    tasks = [Task(f"fetch {i}", fetch, func_args=(i,)) for i in range(2)]
    tasks.append(Task("divide", lambda: 1 / 0))
    for task in tuple(tasks):
        first = task.then(f"after {task.name}", str)
        tasks += [first, first.then(f"end of {task.name}", str)]
    return TaskQueue(*tasks, Task("fine", str))


@pytest.mark.parametrize(
    ("at", "label", "says"),
    [
        ("1", "Retry and continue", "2 will run, 1 is reused"),
        ("1", "Retry", "next run: 2 will run, 1 is reused"),
        ("1", "Repair and rerun", "2 will run, 1 is reused"),
        ("0", "Run again from here", "1 will run, 1 stays blocked"),
        ("2", "Cancel", "next run: nothing will run, 1 is reused"),
    ],
)
def test_each_button_says_what_it_will_do(page: Page, at: str, label: str, says: str) -> None:
    """In the words of the plan, before it is pressed."""
    assert action(page, at, label)["says"].startswith(says)


def test_what_a_value_sets_in_motion_is_said(page: Page) -> None:
    """The plan does not depend on the value."""
    action(page, "1", "Retry")
    assert page.widget.details["supplies"] == "1 will run, 1 is reused"


@pytest.mark.parametrize("label", ["Retry", "Retry and continue"])
def test_a_click_does_the_plan_that_it_showed(page: Page, label: str) -> None:
    """It comes back with the id of the plan, which is good for one click."""
    shown = action(page, "1", label)

    done, _ = page.click("retry", task=1, run=shown["run"], plan=shown["plan"])

    assert done
    assert page.queue.wait(LIMIT)
    assert len(page.queue.tasks[1].attempts) == 1 + shown["run"]
    assert page.click("retry", task=1, plan=shown["plan"])[0] is False


def test_a_plan_of_a_graph_that_has_moved_is_refused(page: Page) -> None:
    """In the sentence of the plan; nothing changes, and the new plan is shown."""
    shown = action(page, "1", "Retry and continue")
    page.queue.add(page.queue.tasks[1].then("more", str))

    said = page.click("retry", task=1, run=True, plan=shown["plan"])

    moved = "the graph has moved since this plan was made: 'more' would now run or change"
    assert said == [False, f"{moved}. Make a new plan"]
    assert page.queue.tasks[1].fsm_state == "FAILED"
    until(
        lambda: action(page, "1", "Retry and continue")["says"].startswith("3 will run"),
        "the new plan",
    )


def test_a_plan_is_good_for_its_own_button_alone(page: Page) -> None:
    """With another verb or task, or an id that nobody was shown, nothing happens."""
    shown = action(page, "1", "Retry and continue")["plan"]
    before = [list(task.fsm_history) for task in page.queue]

    for wrong in (
        {"verb": "cancel", "task": 1, "plan": shown},
        {"verb": "retry", "task": 2, "plan": shown},
        {"verb": "retry", "task": 1, "plan": "p999"},
        {"verb": "retry", "task": 1, "plan": shown + " "},
        {"verb": "retry_failed", "plan": shown},
    ):
        done, said = page.click(**wrong)
        assert not done
        assert "out of date" in said

    assert [list(task.fsm_history) for task in page.queue] == before
    assert page.click("retry", task=1, run=True, plan=shown)[0]


def test_the_same_plan_keeps_its_id(page: Page) -> None:
    """Looking again sends nothing new, and a click between two looks is good."""
    first = action(page, "1", "Retry")
    page.look("0")

    assert action(page, "1", "Retry") == first


def test_retry_all_failed_says_and_does_its_plan(page: Page) -> None:
    """The plan is shown above the graph."""
    until(lambda: page.widget.mending["retry"]["plan"], "the plan")
    shown = page.widget.mending["retry"]
    assert shown["says"].startswith("next run: 2 will run, 1 is reused")

    assert page.click("retry_failed", plan=shown["plan"]) == [True, "1 task is pending again."]
    until(lambda: page.widget.mending["retry"] == {"says": "", "plan": ""}, "its end")


def test_nothing_is_foreseen_while_the_queue_runs() -> None:
    """What will run then changes with each step; verbs still work, without a plan."""
    gate, begun = threading.Event(), threading.Event()

    def slow() -> None:
        begun.set()
        wait_for(gate)

    page = Page(TaskQueue(Task("slow", slow), Task("wrong", lambda: 1 / 0), executor=2))
    page.queue.start()
    wait_for(begun)
    until(lambda: page.queue.tasks[1].fsm_state == "FAILED", "the failure")

    shown = action(page, "1", "Retry")
    assert (shown["says"], shown["plan"]) == ("not foreseen while the queue runs", "")
    assert page.click("cancel", task=0) == [True, "slow was asked to stop."]
    gate.set()
    assert page.queue.wait(LIMIT)
    until(lambda: action(page, "1", "Retry")["says"].startswith("next run: 1 will"), "a plan")
    page.widget.close()


def test_undo_takes_the_last_verb_back(page: Page) -> None:
    """The view says which; then there is none, and a refusal is a sentence."""
    assert page.widget.mending["undo"] == ""
    page.click("repair", task=1, edits={"a1": "2"})
    until(lambda: page.widget.mending["undo"] == "repair 'fit'", "something to undo")

    assert page.click("undo") == [True, "Undone: repair 'fit'."]

    assert page.queue.tasks[1].fsm_state == "FAILED"
    assert page.queue.tasks[1].func_args[1] == 9
    until(lambda: page.widget.mending["undo"] == "", "nothing to undo")
    assert page.click("undo") == [False, "there is nothing to undo"]


def test_causes_are_named_and_retried_together() -> None:
    """Two tasks that failed in one way are one cause, with one button for both."""
    page = Page(threefold())
    for _ in page.queue.run():
        pass
    until(lambda: page.widget.mending["causes"] == "2 causes block 6 tasks", "the causes")
    assert page.widget.mending["at"] == ["0", "2"]

    shown = action(page, "1", "Retry this cause")
    cause = page.widget.details["cause"]
    assert cause.startswith("Cause 1 of 2: OSError in threefold.<locals>.fetch(), line ")
    assert cause.endswith(": 2 tasks, 4 blocked")
    assert shown["says"].startswith("6 will run, 1 is reused")
    action(page, "2", "Retry")
    labels = [each["label"] for each in page.widget.details["actions"]]
    assert "Retry this cause" not in labels

    assert page.click("retry_cause", task=1, plan=shown["plan"])[0]
    assert [task.fsm_state for task in page.queue.tasks[:3]] == ["PENDING", "PENDING", "FAILED"]
    page.widget.close()


def test_causes_of_many_failures_are_counted_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where going from each cause would take long, the sentence is the same."""
    monkeypatch.setattr("taskqueue_nb.widget.mending._GROUPED", 0)
    monkeypatch.setattr("taskqueue_nb.widget.mending._TIMED", 0)
    page = Page(threefold())
    for _ in page.queue.run():
        pass

    until(lambda: page.widget.mending["causes"] == "2 causes block 6 tasks", "the causes")
    says = page.widget.mending["retry"]["says"]
    assert says == "next run: 9 will run, 1 is reused"
    page.widget.close()


def test_tasks_of_one_function_are_told_apart() -> None:
    """Boxes keep the function's name and say the call when pointed at; it is what is found."""
    page = Page(TaskQueue(*(Task(abs, func_args=(number,)) for number in (2001, 2002))))

    assert [box["label"] for box in page.widget.boxes] == ["abs", "abs"]
    assert [box["call"] for box in page.widget.boxes] == ["abs(2001)", "abs(2002)"]
    page.custom({"verb": "find", "value": "2002"})
    until(lambda: page.widget.finds["total"] == 1, "the finds")
    assert page.widget.finds["hits"] == [("1", "abs(2002)", "p")]
    page.queue.repair(page.queue.tasks[0], args=(1999,))
    until(lambda: page.widget.boxes[0]["call"] == "abs(1999)", "the new argument")
    page.widget.close()


@pytest.mark.parametrize("grouped", [200_000, 0], ids=["grouped", "counted together"])
def test_causes_that_block_nothing_are_counted_alone(
    monkeypatch: pytest.MonkeyPatch, grouped: int
) -> None:
    """Above the graph and in the details nothing is said of blocking when nothing is blocked."""
    monkeypatch.setattr("taskqueue_nb.widget.mending._GROUPED", grouped)
    page = Page(
        TaskQueue(Task("bad", int, func_args=("x",)), Task("worse", {}.__getitem__, func_args=(1,)))
    )
    for _ in page.queue.run():
        pass

    until(lambda: page.widget.mending["causes"] == "2 causes", "the causes")
    action(page, "1", "Retry")
    assert page.widget.details["cause"].startswith("Cause 2 of 2: KeyError")
    assert page.widget.details["cause"].endswith(": 1 task")
    page.widget.close()


# -- source ---------------------------------------------------------------------------------------

LOWER: Final = "def fit(rows, degree, *, strict=True):\n    return degree - 7"


def test_an_edited_source_is_run(page: Page) -> None:
    """With edited arguments too; what waits for it runs, and Undo brings the old function back."""
    old = page.queue.tasks[1].func
    assert page.look("1")["source"].startswith("def fit(rows: list[int], degree: int")

    assert page.click("repair", task=1, run=True, edits={"a1": "8"}, source=LOWER) == [True, ""]

    assert page.queue.wait(LIMIT)
    assert [task.value for task in page.queue] == [[1, 2, 3], 1, "1"]
    until(lambda: page.widget.details.get("source") == LOWER, "the new source")
    page.click("rerun", task=1)
    page.click("repair", task=1, source="lambda rows, degree: 5")
    page.click("undo")
    assert page.queue.tasks[1].func is not old
    assert page.queue.tasks[1].source == LOWER


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("def fit(rows, degree):\n    retrun 1", "Line 2: invalid syntax: retrun 1. Nothing was"),
        ("def fit(rows, degree:\n    pass", "Line 1: '(' was never closed: def fit(rows, degree:"),
        ("def fit(rows):\n    return 1", "fit(rows) cannot be called so: too many positional"),
        ("import os", "this is no function"),
        ("", "there is no function in the text"),
        ("x" * 100_001, "100,001 characters are too many; 100,000 are allowed."),
    ],
)
@pytest.mark.parametrize("state", ["FAILED", "DONE"])
def test_a_wrong_source_is_refused_with_its_line(
    page: Page, source: str, sentence: str, state: str
) -> None:
    """And nothing has changed then, whatever the state of the task."""
    middle = page.queue.tasks[1]
    if state == "DONE":
        page.click("supply", task=1, value="3")
    before = middle.func, middle.func_args, list(middle.fsm_history), page.queue.deeds

    done, said = page.click("repair", task=1, run=True, edits={}, source=source)

    assert not done
    assert sentence in said
    after = middle.func, middle.func_args, list(middle.fsm_history), page.queue.deeds
    assert after == before


def test_a_done_task_is_repaired_too(page: Page) -> None:
    """It is invalidated and edited, and what was made from it runs again."""
    page.click("repair", task=1, run=True, edits={"a1": "2"})
    assert page.queue.wait(LIMIT)
    page.is_shown()
    assert action(page, "1", "Repair and rerun")["says"].startswith("2 will run, 1 is reused")

    assert page.click("repair", task=1, run=True, source=LOWER) == [True, ""]

    assert page.queue.wait(LIMIT)
    assert [task.value for task in page.queue] == [[1, 2, 3], -5, "-5"]
    assert [str(deed) for deed in page.queue.deeds][-2:] == ["invalidate 'fit'", "repair 'fit'"]


def test_a_done_task_is_not_repaired_while_the_queue_runs(page: Page) -> None:
    """The run could take it between the two."""
    gate, begun = threading.Event(), threading.Event()

    def slow() -> None:
        begun.set()
        wait_for(gate)

    page.queue.add(Task("slow", slow))
    page.queue.start()
    wait_for(begun)

    done, said = page.click("repair", task=0, run=True, source="lambda: [1]")

    gate.set()
    assert page.queue.wait(LIMIT)
    assert not done
    assert said.startswith("The queue is running")
    assert page.queue.tasks[0].fsm_state == "DONE"


def test_what_has_no_source_says_so(page: Page) -> None:
    """A builtin's cannot be edited; nor can what would not come back as it is."""
    page.queue.add(Task("builtin", sorted, func_args=([],)))
    page.is_shown()
    assert page.look("3")["source"] is None
    assert page.look("2")["source"] is None  # str


# -- stale -----------------------------------------------------------------------------------------


def test_what_is_out_of_date_is_said_and_refreshed(page: Page) -> None:
    """The box, the details and the toolbar say it; nothing runs before Refresh stale is pressed."""
    page.click("repair", task=1, run=True, edits={"a1": "2"})
    assert page.queue.wait(LIMIT)
    page.is_shown()
    assert page.widget.mending["refresh"] == {"says": "", "plan": ""}

    page.queue.tasks[1].func = lambda rows, degree: degree + len(rows)
    _CELLS._ran()

    until(
        lambda: page.widget.says == {"1": "done, stale", "2": "done, stale"}, "what the boxes say"
    )
    until(lambda: page.widget.mending["refresh"]["says"], "the plan")
    assert page.look("1")["stale"].startswith("code changed: ")
    until(lambda: page.look("2")["stale"] == "upstream changed: 'fit'", "the reason")
    shown = page.widget.mending["refresh"]
    assert shown["says"].startswith("2 will run, 1 is reused")
    assert len(page.queue.tasks[1].attempts) == 2

    assert page.click("refresh", plan=shown["plan"]) == [True, ""]
    assert page.queue.wait(LIMIT)
    assert [task.value for task in page.queue] == [[1, 2, 3], 5, "5"]
    page.is_shown()
    assert page.widget.says == {}
    until(lambda: not page.widget.mending["refresh"]["says"], "the end of the button")
    assert page.click("refresh") == [False, "Nothing is out of date."]


def test_a_failed_task_with_new_code_is_refreshed_as_from_python(page: Page) -> None:
    """Its box says that it failed; the plan is that of `queue.refresh()`."""
    page.queue.tasks[1].func = lambda rows, degree: degree
    _CELLS._ran()

    until(lambda: page.widget.mending["refresh"]["says"], "the plan")
    shown = page.widget.mending["refresh"]
    assert shown["says"] == page.queue.refresh().sentence
    assert page.widget.says == {"1": "failed: ValueError"}
    assert page.click("refresh", plan=shown["plan"]) == [True, ""]
    assert page.queue.wait(LIMIT)
    assert page.queue.counts() == {"DONE": 3}


def test_nothing_is_looked_for_while_nothing_may_have_changed(
    page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A look for what is out of date costs; selecting a task or running a cell asks for one."""
    until(lambda: page.widget._stale_seen and not page.widget._stale_looks, "the first look")
    looked = threading.Event()
    monkeypatch.setattr(page.widget._mending, "look_for_stale", looked.set)
    page.widget._mark()
    assert not looked.wait(1.5)

    page.look("1")

    wait_for(looked)


# -- messages that no view sends -------------------------------------------------------------------

JSON: Final = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)
VERBS: Final = [
    *sorted(QUEUE_VERBS | TASK_VERBS | VIEW_VERBS), "eval", "exec", "delete", "__class__",
    "close", "", "RUN", "retry ", "dispatch", "edit", "plan", "source", "repair_and_rerun", "add",
]  # fmt: skip
IMPOSSIBLE: Final = [
    None, -1, 3, 10**30, 0.0, 1.0, float("nan"), float("inf"), "1", "", True, False, [], [1], {},
    {"a": 1},
]  # fmt: skip


def envelopes(verb: str, task: Any) -> Iterator[Any]:
    """Put a verb and a task into messages that are wrong in some way."""
    right = {"id": f"e{verb}", "verb": verb, "task": task}
    yield right
    yield {**right, "id": None}
    yield {**right, "id": "x" * 1000}
    yield {**right, "id": "\n"}
    yield {**right, "run": 1}
    yield {**right, "edits": [["a1", "2"]]}
    yield {**right, "edits": {"a1": 2}}
    yield {**right, "source": ["import os"]}
    yield {**right, "plan": 7}
    yield {**right, "plan": "p" * 100}
    yield {**right, "verb": [verb]}
    yield {**right, "value": {"a": 1}}
    yield [right]
    yield {"content": right}


def test_verbs_on_impossible_tasks_change_nothing(page: Page) -> None:
    """26 verbs, 16 tasks that are none, 14 envelopes: refused, all of them."""
    before = page.traits(), [list(task.fsm_history) for task in page.queue]
    calls = 0
    for verb in VERBS:
        if verb in QUEUE_VERBS:
            continue  # they take no task: with one they are refused, as the envelopes below show
        for task in IMPOSSIBLE:
            for content in envelopes(verb, task):
                with pytest.raises(RefusedError):
                    read(content, 3)
                page.custom(content)
                calls += 1
    for verb in QUEUE_VERBS:
        for content in envelopes(verb, 1):
            page.custom(content)
            page.custom(
                {"id": f"u{verb}", "verb": verb, "plan": "p0" if verb != "retry_failed" else 1}
            )

    until(lambda: not page.widget._obeyer._working, "the last command")
    page.is_shown()
    assert calls > 3000
    assert (page.traits(), [list(task.fsm_history) for task in page.queue]) == before


@pytest.mark.parametrize(
    "message",
    [
        None, 5, [], "x", {}, {"content": None}, {"content": {}}, {"content": {"data": None}},
        {"content": {"data": []}}, {"content": {"data": {}}}, {"content": {"data": {"method": []}}},
        {"content": {"data": {"method": "update"}}},
        {"content": {"data": {"method": "update", "state": None}}},
        {"content": {"data": {"method": "update", "state": ["svg"]}}},
        {"content": {"data": {"method": "update", "state": {"selected": 5}}}},
        {"content": {"data": {"method": "update", "state": {"selected": "x" * 10**7}}}},
        {"content": {"data": {"method": "custom"}}},
        {"content": {"data": {"method": "custom", "content": "x" * 10**7}}},
        {"content": {"data": {"method": "custom", "content": {"id": "a", "verb": "x" * 10**7}}}},
        {"content": {"data": {"method": "echo_update", "state": {"svg": ""}}}},
    ],
)  # fmt: skip
def test_malformed_messages_do_nothing(page: Page, message: Any) -> None:
    """Whatever comes through the door of page messages: nothing raises, nothing changes."""
    before = page.traits()
    page.widget._handle_msg(message)
    page.is_shown()
    assert page.traits() == before


def test_five_thousand_drawn_messages_do_nothing() -> None:
    """Random JSON is refused; it takes no time, and the answers do not pile up."""
    page = Page(repairable())
    before = page.traits()
    drawn = random.Random(7)

    def value(depth: int = 0) -> Any:
        kind = drawn.randrange(8 if depth < 3 else 5)
        if kind == 5:
            return [value(depth + 1) for _ in range(drawn.randrange(4))]
        if kind > 5:
            names = ["id", "verb", "task", "edits", "method", "state", "svg", "core", "run"]
            return {drawn.choice(names): value(depth + 1) for _ in range(drawn.randrange(5))}
        return [None, drawn.randrange(-9, 9), drawn.random(), drawn.choice(VERBS), bool(kind)][kind]

    for _ in range(5000):
        page.message(
            {"method": drawn.choice(["custom", "update"]), "content": value(), "state": value()}
        )

    page.is_shown()
    assert page.traits() == before
    assert len(page.widget.answers) <= 30
    page.widget.close()


@given(JSON)
def test_any_content_is_a_command_or_refused(content: Any) -> None:
    """The reader of messages raises nothing but its own refusal, in a short sentence."""
    try:
        command = read(content, 3)
    except RefusedError as refusal:
        said = str(refusal)
    else:
        assert command.verb in VIEW_VERBS | QUEUE_VERBS | TASK_VERBS
        return
    assert 10 < len(said) < 300


def test_what_ran_once_is_folded_again_when_somebody_wants_it() -> None:
    """A task that ran keeps its box, so that nothing jumps; resetting the folding takes it away."""
    running = threading.Event()

    def load(number: int) -> None:
        if number in {7, 8}:
            running.wait(LIMIT)

    tasks = [Task(f"load-{i}", load, func_args=(i,)) for i in range(300)]
    queue = TaskQueue(*tasks)
    page = Page(queue)

    def sizes() -> list[int]:
        return sorted(box["size"] for box in page.widget.boxes)

    assert (sizes(), page.widget.lens["plain"]) == ([300], True)
    for task in tasks[7:9]:
        task.bg()
    until(lambda: sizes() == [1, 1, 298], "boxes for what runs")
    running.set()
    tasks[100].fsm_event("error")
    until(lambda: sizes() == [1, 1, 1, 297], "a box for what failed")
    assert not page.widget.lens["plain"]

    page.custom({"verb": "fold", "at": ""})

    until(lambda: sizes() == [1, 299], "one box for what is done")
    assert page.widget.lens["plain"]
    assert {box["label"] for box in page.widget.boxes if box["size"] == 1} == {"load-100"}


def test_a_page_folds_finds_and_looks_around() -> None:
    """What it asks to see changes the picture, and neither a task nor its state."""
    tasks = [Task(f"load-{i}", list) for i in range(300)]
    page = Page(
        TaskQueue(*tasks, *(Task(f"fit-{i}", str, func_args=(t,)) for i, t in enumerate(tasks)))
    )

    def ats() -> list[str]:
        return [box["at"] for box in page.widget.boxes]

    group = ats()[0]

    page.custom({"verb": "unfold", "at": group})
    until(lambda: len(ats()) > 2, "the parts")
    assert group not in ats()
    page.custom({"verb": "fold", "at": ""})
    until(lambda: len(ats()) == 2, "the groups")
    page.custom({"verb": "find", "value": "fit 29"})
    until(lambda: page.widget.finds["text"] == "fit 29", "what is found")
    assert page.widget.finds["hits"][0][:2] == ("329", "fit-29")
    page.custom({"verb": "look", "at": "329"})
    until(lambda: "329" in ats(), "a box of its own")
    page.custom({"verb": "around", "at": "329"})
    until(lambda: sorted(ats()) == ["29", "329"], "what stands around it")
    lens = {"around": "fit-29", "seen": 2, "total": 600, "plain": False, "turn": 4}
    assert page.widget.lens == lens
    page.custom({"verb": "around", "at": ""})
    until(lambda: page.widget.lens["seen"] == 600, "all")

    assert not page.widget.answers
    assert page.queue.counts() == {"PENDING": 600}
    page.widget.close()


def test_the_table_is_made_while_somebody_looks_at_it() -> None:
    """It follows the run, and what is no column of it is refused."""
    page = Page(repairable())
    page.custom(
        {"verb": "table", "at": "state", "down": False, "from": 0, "value": "", "states": ""}
    )
    until(lambda: page.widget.table.get("total") == len(page.queue), "the table")

    for _ in page.queue.run():
        pass
    until(lambda: page.widget.table["rows"][0][2] == look("FAILED").letter, "the failure on top")
    page.custom({"verb": "table", "at": "__class__"})
    until(lambda: len(page.widget.answers) == 1, "the refusal")
    page.custom({"verb": "table", "at": ""})
    until(lambda: page.widget._order is None, "the end of it")
    page.widget.close()


def test_a_part_is_sent_when_a_page_asks_for_it() -> None:
    """The page gets a module by its name, once; anything else is refused and sends nothing."""
    page = Page(TaskQueue(Task("one", list)))
    assert page.widget.parts["details"] == linked("details")
    for name in ("graph", "../graph", "", None, ["details"]):
        page.custom({"verb": "part", "at": name})
    until(lambda: len(page.widget.answers) == 5, "five answers")
    assert set(page.widget.parts) == {"details"}


@pytest.mark.parametrize("verb", sorted(VIEW_VERBS))
@pytest.mark.parametrize("value", IMPOSSIBLE, ids=repr)
def test_what_is_to_be_seen_is_checked_as_well(verb: str, value: Any) -> None:
    """Whatever stands in the place of anything: understood, or refused in a sentence."""
    for name in ("at", "from", "down", "value", "states", "view", "names"):
        with suppress(RefusedError):
            read({"verb": verb, "at": "order", name: value}, 3)
        with suppress(RefusedError):
            read({"verb": verb, name: value}, 3)


@pytest.mark.parametrize(
    "name", ["_esm", "core", "_css", "svg", "states", "boxes", "layout", "answers"]
)
def test_a_page_sets_no_trait_but_its_own(page: Page, name: str) -> None:
    """`update` of the code, the drawing or the states leaves them as they are."""
    before = getattr(page.widget, name)
    page.message({"method": "update", "state": {name: "<svg onload=alert(1)>"}})
    page.is_shown()
    assert getattr(page.widget, name) == before


def test_a_page_may_select(page: Page) -> None:
    """That is the trait of its own."""
    page.message({"method": "update", "state": {"selected": "1"}})
    until(lambda: page.widget.selected == "1", "the selection")
    until(lambda: page.widget.details.get("at") == "1", "its details")


def test_a_refusal_without_a_click_is_told_to_every_page(page: Page) -> None:
    """Somebody should know."""
    page.custom({"verb": "explode"})
    until(lambda: page.widget.answers, "an answer")
    (answer,) = page.widget.answers
    assert answer == ["?1", False, "The view cannot 'explode'."]


def test_no_message_compiles_anything(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    """Texts in messages are parsed as literals, and nothing is run."""
    ran: list[str] = []
    monkeypatch.setitem(vars(sys.modules["builtins"]), "pwned", lambda: ran.append("pwned"))

    compiled: list[object] = []
    monkeypatch.setattr("taskqueue_nb.source.edited.compile", compiled.append, raising=False)
    monkeypatch.setattr("taskqueue_nb.source.edited._checked", compiled.append)
    evil = "def fit(rows, degree=pwned()):\n    pwned()"

    for verb in sorted(TASK_VERBS | QUEUE_VERBS | {"look", "part", "record", "edit", "exec"}):
        where = {"task": 1} if verb in TASK_VERBS else {}
        page.custom({"id": verb, "verb": verb, "value": evil, "edits": {"a1": evil}, **where})
        if verb != "repair":
            content = {"id": f"{verb} 2", "verb": verb, "source": evil, **where}
            with pytest.raises(RefusedError):
                read(content, 3)
            page.custom(content)
    for number, wrong in enumerate([[evil], {"source": evil}, None, 5, "x" * 100_001]):
        page.custom({"id": f"w{number}", "verb": "repair", "task": 1, "source": wrong})
    page.click("supply", task=1, value="pwned()")

    assert ran == compiled == []
    assert page.queue.tasks[1].func is fit


# -- details --------------------------------------------------------------------------------------


def test_what_fell_with_another_task_is_no_cause_to_the_page() -> None:
    """A victim has a letter of its own, in the picture and in its details, and quieter colours."""
    cause = Task("cause", fit, func_args=([], 9))
    victim = cause.then("victim", print)
    victim.make()
    widget = TaskGraph(TaskQueue(cause, victim))
    try:
        until(lambda: widget.states == "fv", "the letters")
        assert widget.counts["FAILED"] == 2
        places = {cause: 0, victim: 1}
        assert [details_of(t, "0", places)["letter"] for t in (cause, victim)] == ["f", "v"]
        quiet = [each for each in widget.looks if each.get("victim")]
        assert [(each["state"], each["letter"]) for each in quiet] == [("FAILED", "v")]
        assert '[data-victim="true"]' in widget._css
    finally:
        widget.close()


def test_the_details_of_a_failed_task(page: Page) -> None:
    """Everything that is needed to repair it."""
    found = page.look("1")

    assert found["calls"] == "fit(rows, degree, strict)"
    assert found["error"] == "ValueError: degree 9 is too high for 3 rows, strict=True"
    assert found["traceback"].startswith("Traceback (most recent call last)")
    kinds = {field["name"]: (field["kind"], field["text"]) for field in found["fields"]}
    assert kinds == {
        "rows": ("task", ""),
        "degree": ("literal", "9"),
        "strict": ("default", "True"),
    }
    labels = [action["label"] for action in found["actions"]]
    assert labels == ["Retry and continue", "Retry", "Repair and rerun"]
    assert found["required"] == [("0", "load", "d")]
    assert found["blocking"] == [("2", "report", "p")]


def test_details_follow_the_task(page: Page) -> None:
    """They are looked up anew when it moves on."""
    page.look("1")
    page.click("repair", task=1, run=True, edits={"a1": "2"})
    until(lambda: page.widget.details.get("result") == {"type": "int", "text": "2"}, "its result")
    assert page.widget.details["letter"] == "d"
    assert len(page.widget.details["attempts"]) == 2


def test_a_blocked_task_says_by_what(page: Page) -> None:
    """In a sentence."""
    assert page.look("2")["why"] == "Blocked by fit, which is failed."


@pytest.mark.parametrize("state", FSM_TRANSITIONS)
def test_buttons_follow_the_table(state: str) -> None:
    """A button is offered exactly where the machine allows its event."""
    offered = {action.event for action in actions_of(state) if action.event}
    verbs = {action.verb for action in actions_of(state)}
    assert offered <= set(FSM_TRANSITIONS[state])
    assert ("repair" in verbs) == (state in {"PENDING", "FAILED", "CANCELLED", "DONE"})
    assert ("retry" in offered) == ("retry" in FSM_TRANSITIONS[state])
    assert ("cancel" in offered) == ("cancel" in FSM_TRANSITIONS[state])
    assert ("invalidate" in offered) == ("invalidate" in FSM_TRANSITIONS[state])


class Evil:
    """A value whose every look raises."""

    def __repr__(self) -> str:
        raise RuntimeError("repr")

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("eq")

    def __hash__(self) -> int:
        raise RuntimeError("hash")

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(name)


def test_evil_values_are_shown_as_what_they_are() -> None:
    """A repr that raises, an exception without words, a long output: all bounded, all there."""

    class WordlessError(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no words")

    def fail(*_: Any) -> None:
        print("\x1b[31mred\x1b[0m\x00" + "x" * 10**6)
        raise WordlessError

    task = Task("evil\x1b[31m\n</script>", fail, func_args=(Evil(), "y" * 10**6, [Evil()]))
    for _ in TaskQueue(task).run():
        pass

    found = details_of(task, "0", {task: 0})

    text = json.dumps(found)
    assert len(text) < 200_000
    assert "\\u001b" not in text
    assert "\\u0000" not in text
    assert found["output"].startswith("red")
    assert [field["kind"] for field in found["fields"]] == ["kept", "kept", "kept"]
    assert "WordlessError" in found["error"]


def test_a_repr_that_hangs_holds_nothing_up(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    """The picture goes on, buttons work, and another task can be looked at."""
    monkeypatch.setattr("taskqueue_nb.widget._STUCK", 0.2)
    gate = threading.Event()

    def hanging(value: object, limit: int = 100) -> str:
        if value == [1, 2, 3]:
            wait_for(gate)
        return preview(value, limit)

    monkeypatch.setattr("taskqueue_nb.reprs.preview", hanging)
    page.custom({"verb": "look", "at": "0"})
    until(lambda: page.widget._looker.busy_for() > 0.25, "the hanging look")

    assert page.click("retry", task=1) == [True, "1 task is pending again."]
    page.is_shown()
    assert page.look("2")["label"] == "report"
    gate.set()


def test_the_last_call_is_written_as_a_cell(page: Page) -> None:
    """It goes with the details of its task, numbered; without an attempt there is no cell."""
    page.look("1")
    before = [list(task.fsm_history) for task in page.queue]
    assert page.click("cell", task=1) == [True, ""]
    until(lambda: page.widget.details.get("cell"), "the cell")
    number, text = page.widget.details["cell"]
    assert number == 1
    assert text == page.queue.tasks[1].snippet()
    assert text.endswith("test_widget.fit([1, 2, 3], 9)")

    done, sentence = page.click("cell", task=2)
    assert not done
    assert "has no attempt" in sentence
    assert page.look("0")["cell"] is None
    assert [list(task.fsm_history) for task in page.queue] == before


class Slow:
    """A value whose table takes as long as a test wants."""

    gate: threading.Event
    asked = 0

    def _repr_html_(self) -> str:
        type(self).asked += 1
        wait_for(self.gate)
        return "<table></table>"


def test_a_table_that_does_not_come_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest is shown meanwhile; one thread waits for it, and shows it when it comes."""
    monkeypatch.setattr("taskqueue_nb.widget._STUCK", 0.2)
    Slow.gate, Slow.asked = threading.Event(), 0
    slow = Task("slow", Slow)
    shown = Page(TaskQueue(slow, Task("other", list)))
    try:
        for _ in shown.queue.run():
            pass
        assert Slow.asked == 0  # nobody has looked

        shown.custom({"verb": "look", "at": "0"})
        until(lambda: "too long" in str(shown.widget.details.get("result")), "that it is given up")
        assert shown.widget.details["calls"] == "Slow()"
        assert shown.widget.details["actions"]
        for _ in range(3):
            shown.widget._mark()
        until(lambda: shown.widget._looker.busy_for() > 0.5, "some time")
        assert Slow.asked == 1

        Slow.gate.set()
        until(lambda: "<table>" in str(shown.widget.details.get("result")), "the table")
        shown.look("1")
        assert Slow.asked == 1
    finally:
        Slow.gate.set()
        shown.widget.close()


def test_a_result_is_asked_for_its_table_once(page: Page) -> None:
    """Not at every look, but when it may be another one."""
    Slow.gate, Slow.asked = threading.Event(), 0
    Slow.gate.set()
    page.queue.supply(page.queue.tasks[1], Slow())
    page.look("1")
    until(lambda: "<table>" in str(page.widget.details.get("result")), "the table")
    for _ in range(3):
        page.widget._seen_at = -1.0
        page.widget._mark()
        before = page.widget._seen_at
        until(partial(lambda then: page.widget._seen_at != then, before), "another look")

    assert Slow.asked == 1


# -- literals -------------------------------------------------------------------------------------

LITERALS: Final = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20)
    | st.binary(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=5), inner, max_size=4)
    ),
    max_leaves=10,
)


@given(LITERALS)
def test_what_has_a_literal_comes_back_as_it_was(value: Any) -> None:
    """The form shows a value, and unchanged it is that value again."""
    text = literal_of(value)
    if text is not None:
        again = parse(text)
        assert again == value
        assert type(again) is type(value)


class Text(str):
    """A str that is not one."""

    __slots__ = ()


@pytest.mark.parametrize(
    "value", [object(), float("nan"), float("inf"), Text("a"), [Text("a")], {1: Evil()}, range(3),
              10**400, "x" * 5000, list(range(1000))]
)  # fmt: skip
def test_what_has_no_literal_is_kept(value: Any) -> None:
    """So is what would be too long to edit."""
    assert literal_of(value) is None


@pytest.mark.parametrize(
    "text",
    ["x", "f()", "1 +", "(" * 9000, "-" * 9000, "[" * 9000, "{1:" * 3000, "1+" * 4999 + "1",
     "not " * 2000, "lambda: " * 1000, "\x00", "9" * 9999, "'\ud800", "a.b", "[x for x in ()]",
     "f'{1}'", "1 if 1 else 2"],
)  # fmt: skip
def test_what_is_no_literal_is_refused(text: str) -> None:
    """In a sentence, and without a deep stack."""
    with pytest.raises(NotALiteralError):
        parse(text)


@given(st.text(max_size=200))
def test_any_text_is_a_literal_or_refused(text: str) -> None:
    """Nothing else is raised."""
    try:
        value = parse(text)
    except NotALiteralError as refusal:
        said = str(refusal)
    else:
        assert value == ast.literal_eval(text.strip())
        return
    assert len(said) < 300


def test_edits_leave_the_other_arguments_alone() -> None:
    """Tasks and values without a literal stay the objects that they are."""
    kept = object()
    load = Task("load", list)
    task = Task(
        "t", lambda a, b, *rest, c=1, **more: None, func_args=(load, kept, 1), func_kwargs={"z": 2}
    )

    args, kwargs = edited_arguments(task, {"a2": "5", "kc": "7", "kz": "[3]"})

    assert args == (load, kept, 5)
    assert args[1] is kept
    assert kwargs == {"z": [3], "c": 7}


# -- outside a notebook ----------------------------------------------------------------------------


def run_python(code: str, **env: str) -> str:
    """Run code in a Python of its own and return what it printed."""
    made = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True, text=True, timeout=60, cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **env}, check=True,
    )  # fmt: skip
    return made.stdout


def test_outside_a_kernel_a_queue_is_shown_as_text() -> None:
    """`show` prints the tree."""
    out = run_python(
        "from taskqueue_nb import Task, TaskQueue\nfrom taskqueue_nb.widget import show\n"
        "show(TaskQueue(Task('load', list), name='q'))"
    )
    assert "load" in out
    assert "pending" in out


def test_the_core_does_not_import_the_widget() -> None:
    """It comes with the first view, and not before."""
    out = run_python(
        "import sys, taskqueue_nb\nprint('ipywidgets' in sys.modules)\n"
        "taskqueue_nb.TaskGraph\nprint('ipywidgets' in sys.modules)"
    )
    assert out.split() == ["False", "True"]
