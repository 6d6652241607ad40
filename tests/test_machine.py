"""The live state machine without a browser: what it sends, what its buttons do, how it ends."""

from __future__ import annotations

import gc
import itertools
import json
import random
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from checks import LIMIT, check_settled, run, wait_for
from taskqueue_nb import FSM, InjectedError, Task, TaskQueue
from taskqueue_nb.drawing import NoEngine, diagram_of, path_of, traced_as_svg
from taskqueue_nb.stepping import stepped_of
from taskqueue_nb.task import FSM_TRANSITIONS
from taskqueue_nb.widget import machine as machines
from taskqueue_nb.widget.details import details_of
from taskqueue_nb.widget.machine import TaskMachine, machine_of, told
from taskqueue_nb.widget.messages import (
    MACHINE_VERBS,
    QUEUE_VERBS,
    TASK_VERBS,
    RefusedError,
    read,
)
from test_widget import Page as GraphPage
from test_widget import until

ROOT: Final = Path(__file__).parent.parent
EVENTS: Final = list(dict.fromkeys(event for row in FSM_TRANSITIONS.values() for event in row))


def fail() -> None:
    """Fail as every failure here does."""
    raise ValueError("it was told to")


class Page:
    """The other end of a machine: a way to click, and what it was answered."""

    def __init__(self, fsm: Any) -> None:
        self.fsm = fsm
        self.widget = TaskMachine(fsm)
        self.sent: list[dict[str, Any]] = []
        self._ids = itertools.count(1)
        self.widget.comm.publish_msg = self._publish

    def _publish(self, _kind: str, data: Any = None, **_more: Any) -> None:
        if isinstance(data, dict) and data.get("method") == "update":
            self.sent.append(data["state"])

    def message(self, data: Any) -> None:
        """Send anything at all."""
        self.widget._handle_msg({"content": {"data": data}, "buffers": []})

    def custom(self, content: Any) -> None:
        """Send what a view sends."""
        self.message({"method": "custom", "content": content})

    def click(self, verb: str, **more: Any) -> tuple[bool, str]:
        """Click, and return the answer: whether it was done, and the sentence."""
        click = f"c{next(self._ids)}"
        self.custom({"id": click, "verb": verb, **more})
        return self.answer(click)

    def answer(self, click: str) -> tuple[bool, str]:
        """Return the answer to a click."""

        def found() -> list[list[Any]]:
            return [given for given in self.widget.answers if given[0] == click]

        until(found, f"an answer to {click}")
        ((_, done, sentence),) = found()
        return done, sentence

    def fire(self, event: str, **more: Any) -> tuple[bool, str]:
        """Press the button of an event."""
        return self.click("fire", event=event, **more)

    def state(self, wanted: str) -> None:
        """Wait until the view shows a state."""
        until(lambda: self.widget.trace["name"] == wanted, f"the state {wanted}")

    def button(self, event: str) -> tuple[bool, str]:
        """Return whether an event's button is on, and its title."""
        self.widget.flush()
        (found,) = [each for each in self.widget.events if each["event"] == event]
        return found["on"], found["why"]

    def step(self) -> dict[str, Any]:
        """Return what the next step is said to be."""
        self.widget.flush()
        return dict(self.widget.teach["step"])


@pytest.fixture
def show() -> Iterator[Callable[[Any], Page]]:
    """Show machines; close them when the test ends, whatever it left them in."""
    made: list[Page] = []

    def shown(fsm: Any) -> Page:
        made.append(Page(fsm))
        return made[-1]

    yield shown
    for page in made:
        page.widget.close()


Show = Callable[[Any], Page]

# -- what it shows ---------------------------------------------------------------------------------


def test_the_first_message_holds_everything() -> None:
    """A page that opens later sees the diagram, the state, the way there, the log, the buttons."""
    load = Task("load", lambda: 3)
    load.dispatch()
    widget = TaskMachine(load)

    assert widget.heading == "load"
    assert [state["name"] for state in widget.diagram["states"]] == list(FSM_TRANSITIONS)
    assert widget.diagram["states"][6] == {"name": "DONE", "sign": "✓ DONE", "mark": "done"}
    assert len(widget.diagram["boxes"]) == len(FSM_TRANSITIONS)
    assert (widget.trace["name"], widget.trace["last"]) == ("DONE", [3, 6])
    assert widget.trace["taken"] == [[1, 3, 1], [3, 6, 1]]
    assert [row["says"] for row in widget.log] == [
        "load: running → done, its function has returned",
        "load: pending → running, dispatched: attempt 1",
    ]
    json.dumps({name: getattr(widget, name) for name in widget.trait_names(sync=True)}, default=str)
    widget.close()


def test_it_follows_the_task(show: Show) -> None:
    """Each transition is shown, whoever made it; the diagram is not sent again."""
    work = Task("work", fail)
    page = show(work)

    for _ in range(2):
        work.dispatch()
        work.retry()
    page.state("PENDING")
    until(lambda: len(page.widget.log) == 6, "six rows")

    assert sorted(page.widget.trace["taken"]) == [[1, 3, 2], [3, 5, 2], [5, 1, 2]]
    assert page.widget.trace["last"] == [5, 1]
    assert not any("diagram" in state for state in page.sent)


def test_the_log_says_why() -> None:
    """What is known of a step stands beside it, and names of others forge no line."""
    evil = Task("evil\nname\x1b[31m", fail, retries=1)
    evil.inject(fail="no\nluck", slow=0.001)
    evil.make()
    other = Task("other", list)
    other.require(evil)
    other.make()

    name = r"evil\nname\x1b[31m"
    injected = "will take 0.001 s longer and fail: injected"
    why = "InjectedError: no luck (injected: its function was not called)"
    assert told(evil) == [
        f"State machine of {name}: failed",
        f"{name}: pending → running, dispatched: attempt 1, {injected}",
        f"{name}: running → failed, its function has raised: {why}",
        f"{name}: failed → pending, retried, because: retries",
        f"{name}: pending → running, dispatched: attempt 2",
        f"{name}: running → failed, its function has raised: ValueError: it was told to",
    ]
    assert told(other)[-1] == (
        "other: pending → failed, given up as an error, because: failed prerequisites"
    )


def test_the_log_is_bounded() -> None:
    """The newest rows are kept, newest first."""
    work = Task("work", fail)
    for _ in range(60):
        work.dispatch()
        work.retry()
    widget = TaskMachine(work)

    assert len(widget.log) == 60
    assert "retried" in widget.log[0]["says"]
    assert "attempt 41" in widget.log[-1]["says"]
    assert max(count for *_, count in widget.trace["taken"]) == 60
    widget.close()


@pytest.mark.parametrize("state", FSM_TRANSITIONS)
def test_the_buttons_follow_the_table(state: str, show: Show) -> None:
    """Every event has its place; those that the state does not allow say what it would accept."""
    work = Task("work", list, state=state)
    page = show(work)

    assert [each["event"] for each in page.widget.events] == EVENTS
    for each in page.widget.events:
        event, row = each["event"], FSM_TRANSITIONS[state]
        if event not in row:
            accepts = ", ".join(row) or "nothing (the state is final)"
            assert not each["on"]
            assert each["why"] == f"task 'work' is {state}, cannot {event}; it accepts {accepts}"
        elif state == "RUNNING" and event != "cancel":
            assert not each["on"]
            assert "Its function is running" in each["why"]
        else:
            assert each["on"]
            assert "→" in each["why"]


def test_a_blocked_task_says_by_what(show: Show) -> None:
    """Its button comes on when the prerequisite is done, without a transition of its own."""
    load = Task("load", list)
    page = show(load.then("clean", list))

    assert page.button("dispatch") == (False, "It is blocked by load, which is pending.")
    assert page.step() == {"on": False, "says": "It is blocked by load, which is pending."}
    load.dispatch()
    until(
        lambda: any(each["on"] for each in page.widget.events if each["event"] == "dispatch"),
        "the button",
    )


def test_without_an_engine_the_states_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sentence says what to install, and the buttons are there."""

    def missing(_fsm: Any) -> Any:
        raise NoEngine("There is no picture.")

    monkeypatch.setattr(machines, "diagram_of", missing)
    widget = TaskMachine(Task("work", list))

    assert widget.note == "There is no picture."
    assert [state["name"] for state in widget.diagram["states"]] == list(FSM_TRANSITIONS)
    assert widget.events
    widget.close()


def test_a_plain_machine_has_events_alone(show: Show) -> None:
    """Any `FSM` is shown, also one that keeps no history; its events fire as they are."""
    door = FSM("shut", transitions={"shut": {"push": "open"}, "open": {"pull": "shut"}})
    page = show(door)

    assert page.fire("push") == (True, "")
    assert page.fire("pull") == (True, "")
    assert page.fire("push") == (True, "")
    page.state("open")

    assert sorted(page.widget.trace["taken"]) == [[0, 1, 2], [1, 0, 1]]
    assert page.widget.log[0]["says"] == "FSM: shut → open, push"
    assert page.widget.trace["look"]["glyph"] == "●"  # not a question mark: the state is known
    assert page.widget.teach == {}
    assert page.button("push") == (False, "FSM is open, cannot push; it accepts pull")
    assert page.fire("push") == (False, "FSM is open, cannot push; it accepts pull")
    assert page.click("step")[0] is False
    assert page.click("inject", fail=True)[0] is False


def test_what_is_no_machine_is_refused() -> None:
    """In a sentence that says what is wanted."""
    with pytest.raises(TypeError, match="a task or another FSM is wanted, not a list"):
        TaskMachine([])


def test_a_task_has_one_machine_until_it_is_closed() -> None:
    """The same view each time; after closing a new one."""
    load = Task("load", list)
    first = load.machine()

    assert load.machine() is load.fsm_machine() is machine_of(load) is first
    assert repr(first) == "TaskMachine(load)"
    first.close()
    assert repr(first) == "TaskMachine(load, closed)"
    second = load.machine()
    assert second is not first
    second.close()


# -- what its buttons do ---------------------------------------------------------------------------


def test_dispatch_calls_the_function_in_a_thread(show: Show) -> None:
    """The handler does not wait for it, and a cancel is heard meanwhile."""
    has_begun = threading.Event()
    threads: list[threading.Thread] = []

    def work() -> None:
        threads.append(threading.current_thread())
        has_begun.set()
        current = Task.current()
        assert current is not None
        current.runstate.sleep(LIMIT)
        current.runstate.raiseif()

    task = Task("work", work)
    page = show(task)

    assert page.fire("dispatch") == (True, "")
    wait_for(has_begun)
    assert threads[0] is not threading.main_thread()
    for event in ("done", "except", "error"):
        done, why = page.fire(event)
        assert not done
        assert "Its function is running" in why
    assert page.step() == {"on": False, "says": "its function is running, and not step by step"}
    done, why = page.click("step")
    assert (done, why) == (False, "task 'work' is RUNNING already, and not step by step")
    page.fire("cancel")
    page.state("CANCELLED")


#: A state → an event → what comes of pressing it.
PRESSED: Final = {
    ("PENDING", "queue"): "DONE",
    ("PENDING", "cancel"): "CANCELLED",
    ("PENDING", "error"): "FAILED",
    ("PENDING", "abort"): "ABORT",
    ("PENDING", "supply"): "DONE",
    ("PENDING", "dispatch"): "DONE",
    ("PREPARE", "prepared"): "PENDING",
    ("QUEUED", "dispatch"): "DONE",
    ("QUEUED", "cancel"): "CANCELLED",
    ("QUEUED", "error"): "FAILED",
    ("CANCELLED", "retry"): "PENDING",
    ("CANCELLED", "abort"): "ABORT",
    ("CANCELLED", "supply"): "DONE",
    ("FAILED", "retry"): "PENDING",
    ("FAILED", "abort"): "ABORT",
    ("FAILED", "supply"): "DONE",
    ("DONE", "invalidate"): "PENDING",
}


@pytest.mark.parametrize(("state", "event"), PRESSED)
def test_each_event_leads_where_it_says(state: str, event: str, show: Show) -> None:
    """A button does what fires its event: the function is called where that is meant."""
    task = Task("work", lambda: 3, state=state)
    page = show(task)

    assert page.fire(event, value="[5]")[0]
    until(lambda: task.fsm_state == PRESSED[state, event], PRESSED[state, event])
    page.state(PRESSED[state, event])

    if event == "supply":
        assert task.value == [5]
    if event in ("dispatch", "queue"):
        assert task.value == 3


def test_every_allowed_event_is_pressed_above() -> None:
    """The table of this test has a row for each that can be fired by hand."""
    allowed = {(state, event) for state, row in FSM_TRANSITIONS.items() for event in row}

    assert set(PRESSED) == {pair for pair in allowed if pair[0] != "RUNNING"}


@pytest.mark.parametrize(
    ("text", "why"), [("__import__('os')", "is no Python literal"), ("", "empty"), ("  ", "empty")]
)
def test_a_wrong_value_is_refused(text: str, why: str, show: Show) -> None:
    """Only literals are supplied: nothing that the page sends is run, and nothing is no value."""
    task = Task("work", list)
    page = show(task)

    done, said = page.fire("supply", value=text)

    assert not done
    assert said.startswith("The value: ")
    assert why in said
    assert task.fsm_state == "PENDING"


def test_the_details_of_a_graph_refuse_no_value_in_the_same_words(show: Show) -> None:
    """An empty field is asked about wherever a value can be given."""
    task = Task("work", list)
    graph = GraphPage(TaskQueue(task))

    refused = graph.click("supply", task=0, value="")

    assert tuple(refused) == show(task).fire("supply", value="")
    assert task.fsm_state == "PENDING"
    graph.widget.close()


def test_none_is_supplied_by_its_name(show: Show) -> None:
    """As in the details of a graph."""
    task = Task("work", list)
    page = show(task)

    assert page.fire("supply", value="None")[0]

    assert task.fsm_state == "DONE"
    assert task.value is None


def test_mending_moves_the_dependents_too(show: Show) -> None:
    """It is the task's own verb, not the bare event."""
    load = Task("load", fail)
    queue = TaskQueue(load, load.then("clean", list))
    load.make()
    queue.tasks[1].make()
    page = show(load)

    assert page.fire("retry") == (True, "2 tasks are pending again.")
    assert queue.undoable == "retry 'load'"


@pytest.mark.parametrize(
    ("func", "event", "other"), [(list, "done", "except"), (fail, "except", "done")]
)
def test_a_task_is_taken_step_by_step(
    func: Callable[[], Any], event: str, other: str, show: Show
) -> None:
    """Each press takes one transition, and the outcome is fired by the event that it asks for."""
    task = Task("work", func)
    page = show(task)
    assert page.step() == {"on": True, "says": "dispatch, without calling its function yet"}

    assert page.click("step") == (True, "")
    assert task.fsm_state == "RUNNING"
    assert page.step() == {"on": True, "says": "call its function"}
    assert page.button(event) == (False, "Its function has not been called yet: step once more.")
    page.click("step")
    until(lambda: page.step()["says"].startswith(event), "the outcome")
    assert task.fsm_state == "RUNNING"
    assert page.button(event)[0]
    on, why = page.button(other)
    assert not on
    assert why.startswith(f"Its function has come to something else: {event}: ")
    assert page.fire(other)[0] is False
    assert page.fire(event) == (True, "")

    assert [step.event for step in task.fsm_history] == ["dispatch", event]
    assert page.step()["on"] is False
    check_settled([task])


def test_a_call_that_goes_on_is_not_called_again(show: Show) -> None:
    """A second press during the call is refused; a cancel is heard."""
    has_begun = threading.Event()

    def work() -> None:
        has_begun.set()
        current = Task.current()
        assert current is not None
        current.runstate.sleep(LIMIT)

    task = Task("work", work)
    page = show(task)
    page.click("step")
    page.click("step")
    wait_for(has_begun)

    assert page.click("step") == (False, "Its function is running; its next step comes then.")
    assert page.fire("error")[0] is False
    assert page.fire("cancel") == (True, "It was asked to stop.")
    page.state("CANCELLED")
    check_settled([task])


@pytest.mark.parametrize("presses", [1, 2])
@pytest.mark.parametrize("event", ["cancel", "error"])
def test_a_task_in_the_middle_can_be_ended(presses: int, event: str, show: Show) -> None:
    """By events that its outcome has not asked for; it can be retried."""
    task = Task("work", list)
    queue = TaskQueue(task)
    page = show(task)
    for _ in range(presses):
        page.click("step")
    if presses == 2:
        until(lambda: page.step()["says"].startswith("done"), "the outcome")

    page.fire(event)

    assert task.fsm_state == {"cancel": "CANCELLED", "error": "FAILED"}[event]
    assert stepped_of(task) is None
    queue.retry(task)
    assert run(queue) == ["work"]
    check_settled(queue)


def test_faults_are_injected_and_taken_back(show: Show) -> None:
    """One message says both; what was asked for is shown until the attempt that it is for."""
    task = Task("work", list)
    page = show(task)

    assert page.click("inject", fail=True, slow=0.5) == (
        True,
        "The next attempt will take 0.5 s longer and fail: injected.",
    )
    assert page.widget.teach["says"] == "will take 0.5 s longer and fail: injected"
    assert (page.widget.teach["fail"], page.widget.teach["slow"]) == (True, 0.5)
    assert page.click("inject") == (True, "Nothing is injected any more.")
    assert task.injected is None
    page.click("inject", fail=True)
    page.fire("dispatch")
    page.state("FAILED")

    assert isinstance(task.exception, InjectedError)
    assert page.widget.teach["says"] == ""


def test_a_replay_does_nothing(show: Show) -> None:
    """A click acts once, however often its message comes."""
    task = Task("work", list)
    page = show(task)

    for _ in range(3):
        page.custom({"id": "same", "verb": "step"})
    page.answer("same")
    assert page.click("inject", fail=False)[0]

    assert [step.event for step in task.fsm_history] == ["dispatch"]
    assert [given[0] for given in page.widget.answers].count("same") == 1


# -- messages are not believed ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "message",
    [
        {"verb": "step"},
        {"id": "", "verb": "step"},
        {"id": 5, "verb": "step"},
        {"id": "a", "verb": "run"},
        {"id": "a", "verb": "retry", "task": 0},
        {"id": "a", "verb": "look", "at": "0"},
        {"id": "a", "verb": "step", "task": 0},
        {"id": "a", "verb": "fire"},
        {"id": "a", "verb": "fire", "event": 5},
        {"id": "a", "verb": "fire", "event": "fsm_event"},
        {"id": "a", "verb": "fire", "event": "x" * 101},
        {"id": "a", "verb": "fire", "event": "dispatch", "source": "x"},
        {"id": "a", "verb": "inject", "fail": 1},
        {"id": "a", "verb": "inject", "fail": "yes"},
        {"id": "a", "verb": "inject", "slow": True},
        {"id": "a", "verb": "inject", "slow": "2"},
        {"id": "a", "verb": "inject", "slow": -1},
        {"id": "a", "verb": "inject", "slow": float("nan")},
        {"id": "a", "verb": "inject", "slow": 1e9},
        {"id": "a", "verb": "__init__"},
        None,
        5,
        [],
        "step",
    ],
)
def test_malformed_messages_do_nothing(message: Any, show: Show) -> None:
    """Nothing runs and nothing changes; whoever clicked is told why."""
    task = Task("work", list)
    page = show(task)

    page.custom(message)
    until(lambda: page.widget.answers, "an answer")

    ((_, done, sentence),) = page.widget.answers
    assert not done
    assert sentence.endswith(".")
    assert (task.fsm_state, task.fsm_history, task.injected) == ("PENDING", [], None)


@pytest.mark.parametrize(
    "name", ["_esm", "core", "_css", "diagram", "trace", "events", "log", "heading"]
)
def test_a_page_sets_no_trait(name: str, show: Show) -> None:
    """Not the code, not the picture, nothing."""
    page = show(Task("work", list))
    before = getattr(page.widget, name)

    page.message({"method": "update", "state": {name: "alert(1)"}})
    page.widget.set_state({name: "alert(1)"})

    assert getattr(page.widget, name) == before


def test_two_thousand_drawn_messages_do_nothing_wrong(show: Show) -> None:
    """Whatever comes, the task is sound and the view answers."""
    draw = random.Random(5)
    task = Task("work", list)
    page = show(task)
    texts: list[Any] = [
        *MACHINE_VERBS,
        *QUEUE_VERBS,
        *TASK_VERBS,
        *EVENTS,
        "",
        "x",
        None,
        0,
        -1,
        2.5,
        [],
        {},
    ]

    for i in range(2_000):
        keys = draw.sample(["id", "verb", "event", "value", "fail", "slow", "task", "run"], 3)
        page.custom({key: draw.choice(texts) for key in keys} | {"id": f"d{i}"})
    page.click("inject")

    task.fsm_history  # noqa: B018 - it can be read
    assert page.widget._closed is False


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(), st.lists, max_leaves=5))
def test_any_content_is_a_command_or_refused(content: Any) -> None:
    """Nothing else than a refusal comes out of reading a message."""
    for message in (
        content,
        {"id": "a", "verb": content},
        {"id": "a", "verb": "fire", "event": content},
    ):
        try:
            command = read(message, 0, MACHINE_VERBS)
        except RefusedError:
            continue
        assert command.verb in MACHINE_VERBS


def test_the_graph_does_not_take_the_machines_verbs() -> None:
    """Each view has its own list."""
    for verb in MACHINE_VERBS - QUEUE_VERBS:
        with pytest.raises(RefusedError, match="cannot"):
            read({"id": "a", "verb": verb}, 3)


def test_the_details_of_a_queue_say_it_too() -> None:
    """What is injected, and where a task stands that is in the middle of its steps."""
    task = Task("work", list)

    task.inject(fail=True)
    assert details_of(task, "0", {task: 0})["why"] == (
        "Ready to run. The next attempt will fail: injected."
    )
    task.step()
    assert details_of(task, "0", {task: 0})["why"] == (
        "In the middle of its steps; the next is: call its function. "
        "The next attempt will fail: injected."
    )
    task.step()
    why = details_of(task, "0", {task: 0})["why"]
    assert why.startswith("In the middle of its steps; the next is: except: its function raised")
    task.step()
    assert details_of(task, "0", {task: 0})["why"] == ""


# -- how it ends -----------------------------------------------------------------------------------


def test_a_closed_view_is_freed_and_hears_nothing() -> None:
    """No pump, no listener, no registry keeps it; the task goes on."""
    task = Task("work", list)
    page = Page(task)
    widget = page.widget
    widget.close()
    widget.close()
    page.custom({"id": "late", "verb": "step"})
    page.message({"method": "request_state"})
    task.dispatch()
    assert widget.flush() is None
    listeners = task._fsm_listeners
    assert listeners is not None
    assert not any(listeners.by_state.values())
    assert task.fsm_state == "DONE"

    gone = weakref.ref(widget)
    del page, widget

    def is_gone() -> bool:
        gc.collect()
        return gone() is None

    until(is_gone, "the view")


@pytest.mark.parametrize("presses", [1, 2])
def test_closing_gives_up_what_it_left_in_the_middle(presses: int) -> None:
    """Nobody could press on, so the task is CANCELLED, and can be retried."""
    task = Task("work", list)
    page = Page(task)
    for _ in range(presses):
        page.click("step")

    page.widget.close()

    until(lambda: task.fsm_state == "CANCELLED", "the cancel")
    assert stepped_of(task) is None


def test_closing_leaves_what_others_do() -> None:
    """A step that was taken elsewhere is none of its business."""
    task = Task("work", list)
    page = Page(task)
    task.step()

    page.widget.close()

    assert task.fsm_state == "RUNNING"
    task.cancel()


def test_opened_and_closed_by_threads_during_a_run() -> None:
    """Nothing is raised, and the run ends well."""
    tasks = [Task(f"t{i}", list) for i in range(30)]
    queue = TaskQueue(*tasks).start()

    for task in tasks:
        task.machine().close()

    assert queue.wait(LIMIT)
    assert {task.fsm_state for task in tasks} == {"DONE"}


# -- still -----------------------------------------------------------------------------------------


def test_the_still_picture_traces_the_way() -> None:
    """The state is lit, what was taken is broad and counted, and hostile names stay text."""
    task = Task("<b>load</b>", fail)
    for _ in range(2):
        task.dispatch()
        task.retry()
    task.dispatch()
    page = Page(task)
    html = page.widget._still.bundle()["text/html"]
    svg = traced_as_svg(task, task.fsm_history)
    page.widget.close()

    assert "<b>load" not in html
    assert "&lt;b&gt;load&lt;/b&gt;" in html
    assert svg.count('stroke-width="3.6"') == 1
    assert svg.count('stroke-width="2.4"') == 2
    assert "\N{MULTIPLICATION SIGN}3</text>" in svg
    assert 'data-state="failed"' in svg


def test_the_same_table_is_laid_out_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two tasks share the layout of their machine."""
    from taskqueue_nb.drawing import engine

    first = diagram_of(Task("a", list))
    monkeypatch.setattr(engine, "run", lambda *_: pytest.fail("laid out again"))

    assert diagram_of(Task("b", fail)) == first
    assert path_of(Task("c", list), []).last is None


def run_python(code: str, **env: str) -> str:
    """Run a program in a process of its own; return what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        cwd=ROOT,
        env={"PATH": "", "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8", **env},
    )
    return done.stdout


def test_outside_a_kernel_it_is_shown_as_text() -> None:
    """A terminal gets the state and the log, without times."""
    code = """
from taskqueue_nb import Task
load = Task("load", lambda: 3)
load.dispatch()
load.machine()._ipython_display_()
"""
    assert run_python(code) == (
        "State machine of load: done\n"
        "load: pending → running, dispatched: attempt 1\n"
        "load: running → done, its function has returned\n"
    )


def test_the_core_does_not_import_the_machine() -> None:
    """Stepping and faults need the standard library alone."""
    code = """
import sys
from taskqueue_nb import Task
load = Task("load", lambda: 3)
load.inject(slow=0.001)
[load.step() for _ in range(3)]
print(load.value, "anywidget" in sys.modules, "asyncio" in sys.modules)
"""
    assert run_python(code) == "3 False False\n"
