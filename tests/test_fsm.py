"""The machine: its table, its history, and callbacks that hear every transition in order."""

from __future__ import annotations

import contextlib
import copy
import logging
import pickle
import random
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import pytest

from checks import EVENTS, LIMIT, at_once, check_history, wait_for
from taskqueue_nb import FSM, BaseTask, FSMError, FSMTransitionEvent, Task
from taskqueue_nb.task import FSM_TRANSITIONS

STATES: Final = (
    "PREPARE", "PENDING", "QUEUED", "RUNNING", "CANCELLED", "FAILED", "DONE", "ABORT",
)  # fmt: skip
LAMP: Final = {"OFF": {"press": "ON"}, "ON": {"press": "OFF", "burn": "BROKEN"}, "BROKEN": {}}


class Recorder:
    """A callback that keeps what it heard."""

    def __init__(self) -> None:
        self.steps: list[FSMTransitionEvent] = []

    def __call__(self, _fsm: object, step: FSMTransitionEvent) -> None:
        """Keep the transition."""
        self.steps.append(step)

    @property
    def events(self) -> list[str]:
        """The events that were heard, in order."""
        return [step.event for step in self.steps]


def lamp(state: str | None = None, **options: Any) -> FSM:
    """Return a machine that has nothing to do with tasks."""
    return FSM(state, transitions=LAMP, **options)


def task(state: str = "PENDING", name: str = "load") -> Task:
    """Return a task in a state, whose function does nothing."""
    return Task(name, list, state=state)


# ------------------------------------------------------------------------------------- the table
def test_table_is_the_agreed_one() -> None:
    """The table of a task's machine, its states in the order a task lives through them."""
    agreed = {
        "PREPARE": {"prepared": "PENDING"},
        "PENDING": {
            "dispatch": "RUNNING", "queue": "QUEUED", "cancel": "CANCELLED", "error": "FAILED",
            "abort": "ABORT", "supply": "DONE",
        },
        "QUEUED": {"dispatch": "RUNNING", "cancel": "CANCELLED", "error": "FAILED"},
        "RUNNING": {"done": "DONE", "except": "FAILED", "error": "FAILED", "cancel": "CANCELLED"},
        "CANCELLED": {"retry": "PENDING", "abort": "ABORT", "supply": "DONE"},
        "FAILED": {"retry": "PENDING", "abort": "ABORT", "supply": "DONE"},
        "DONE": {"invalidate": "PENDING"},
        "ABORT": {},
    }  # fmt: skip

    assert {state: dict(row) for state, row in FSM_TRANSITIONS.items()} == agreed
    assert tuple(FSM_TRANSITIONS) == STATES
    assert [list(row) for row in FSM_TRANSITIONS.values()] == [list(r) for r in agreed.values()]


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("event", EVENTS)
def test_fsm_event_follows_the_table(state: str, event: str) -> None:
    """A task moves where the table says, and stays put where it says nothing."""
    load = task(state)
    heard = Recorder()
    load.fsm_callback(FSM.FSM_ANY_STATE, heard)

    if event in FSM_TRANSITIONS[state]:
        assert load.fsm_event(event) == load.fsm_state == FSM_TRANSITIONS[state][event]
        assert heard.events == [event]
    else:
        with pytest.raises(FSMError, match=f"is {state}, cannot {event}"):
            load.fsm_event(event)
        assert load.fsm_state == state
        assert heard.events == []
        assert not load.fsm_history


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("event", EVENTS)
def test_plain_machine_follows_the_same_table(state: str, event: str) -> None:
    """A machine without a task behaves as the table says too, by `fsm_event` and by method."""
    for fire in (FSM.fsm_event, lambda fsm, name: getattr(fsm, name)()):
        machine = FSM(state, transitions=FSM_TRANSITIONS)

        assert machine.fsm_event_is_allowed(event) == (event in FSM_TRANSITIONS[state])
        if event in FSM_TRANSITIONS[state]:
            assert fire(machine, event) == machine.fsm_state == FSM_TRANSITIONS[state][event]
        else:
            with pytest.raises(FSMError):
                fire(machine, event)
            assert machine.fsm_state == state


@pytest.mark.parametrize("state", STATES)
def test_allowed_events_are_the_row(state: str) -> None:
    """`fsm_events` lists what the state accepts, in the table's order."""
    assert list(task(state).fsm_events) == list(FSM_TRANSITIONS[state])


@pytest.mark.parametrize("event", ["", "nonsense", "__class__", "fsm_state", "PENDING", "Dispatch"])
@pytest.mark.parametrize("state", STATES)
def test_unknown_event_is_refused_and_names_what_is_accepted(state: str, event: str) -> None:
    """An event that no table knows changes nothing, and the error says what would work."""
    load = task(state)

    with pytest.raises(FSMError) as caught:
        load.fsm_event(event)

    assert load.fsm_state == state
    for allowed in FSM_TRANSITIONS[state]:
        assert allowed in str(caught.value)


@pytest.mark.parametrize("event", [None, 5, b"dispatch", ["dispatch"], {}])
def test_event_that_is_no_text_is_refused(event: Any) -> None:
    """Anything that is not an event's name is refused by FSMError or TypeError."""
    load = task()

    with pytest.raises((FSMError, TypeError)):
        load.fsm_event(event)

    assert load.fsm_state == "PENDING"


def test_error_names_the_task_and_keeps_its_facts() -> None:
    """The error of an event that is not allowed can be read, inspected and pickled."""
    load = task("DONE", name="load penguins")

    with pytest.raises(FSMError) as caught:
        load.fsm_event("retry")

    assert "load penguins" in str(caught.value)
    assert "invalidate" in str(caught.value)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)  # noqa: S301 - ours


@pytest.mark.parametrize("make", [task, lamp, lambda state: FSM(state, transitions=LAMP)])
def test_unknown_first_state_is_refused_at_once(make: Callable[[str], FSM]) -> None:
    """No machine starts in a state that its table does not have."""
    with pytest.raises((FSMError, ValueError), match="NOWHERE"):
        make("NOWHERE")


def test_unknown_state_of_a_callback_is_refused_at_once() -> None:
    """A callback on a state that does not exist would never be heard: refused."""
    with pytest.raises((FSMError, ValueError), match="NOWHERE"):
        task().fsm_callback("NOWHERE", Recorder())


# ----------------------------------------------------------------------------------- usable alone
def test_machine_alone_has_names_and_methods_of_its_table() -> None:
    """States are constants and truths, events are methods, whatever the table."""
    machine = lamp()

    assert machine.fsm_state == "OFF"
    assert machine.OFF == "OFF"
    assert machine.is_off
    assert not machine.is_on
    assert machine.press() == "ON" == machine.fsm_state
    assert machine.is_on
    assert machine.fsm_event("burn") == "BROKEN"
    assert list(machine.fsm_events) == []


def test_machine_subclass_has_its_own_table_and_default_state() -> None:
    """A class gives its table and first state once, for all its machines."""

    class Lamp(FSM):
        FSM_TRANSITIONS = LAMP
        FSM_DEFAULT_STATE = "ON"

    assert Lamp().fsm_state == "ON"
    assert Lamp("OFF").fsm_state == "OFF"
    assert Lamp().press() == "OFF"


@pytest.mark.parametrize("name", ["is_nonsense", "nonsense", "NOWHERE", "is_", "fsm_nonsense"])
def test_typo_is_an_attribute_error(name: str) -> None:
    """A misspelt name is an AttributeError, so that `hasattr` and completion work."""
    for machine in (lamp(), task()):
        assert not hasattr(machine, name)


@pytest.mark.parametrize("state", [s for s in STATES if "retry" not in FSM_TRANSITIONS[s]])
def test_verb_in_the_wrong_state_is_an_fsm_error(state: str) -> None:
    """`task.retry()` where the table has no retry says so, and is not an AttributeError."""
    load = task(state)

    with pytest.raises(FSMError, match="retry"):
        load.retry()

    assert load.fsm_state == state


def test_machines_copy_protocol_does_not_recurse() -> None:
    """Looking for an attribute on a machine without its fields ends in AttributeError."""
    bare = FSM.__new__(FSM)

    with pytest.raises(AttributeError):
        _ = bare.anything
    with pytest.raises((AttributeError, TypeError, copy.Error)):
        copy.copy(bare).fsm_event("press")


# ---------------------------------------------------------------------------------------- history
def test_transition_says_what_happened() -> None:
    """A transition has both states, the event, the time and what was said with it."""
    machine = lamp(history=[])
    before = time.time()

    machine.fsm_event("press", finger="left")

    (step,) = machine.fsm_history
    assert isinstance(step, FSMTransitionEvent)
    assert (step.old_state, step.new_state, step.event) == ("OFF", "ON", "press")
    assert step.extra == {"finger": "left"}
    assert before <= step.when <= time.time()


def test_history_is_kept_when_asked_for() -> None:
    """A plain machine keeps what it is given to keep it in; a task keeps it always."""
    kept: list[FSMTransitionEvent] = []
    machine = lamp(history=kept)
    machine.press()
    machine.press()
    load = task()
    load.dispatch()

    assert [step.event for step in kept] == ["press", "press"]
    assert list(machine.fsm_history) == kept
    assert not lamp().fsm_history
    assert [step.event for step in load.fsm_history] == ["dispatch", "done"]


def test_refused_event_is_not_in_the_history() -> None:
    """What did not happen is not recorded."""
    load = task("DONE")

    with pytest.raises(FSMError):
        load.fsm_event("dispatch")

    assert list(load.fsm_history) == []


# -------------------------------------------------------------------------------------- callbacks
def test_callbacks_of_any_state_come_first_each_in_registration_order() -> None:
    """Those of any state before those of the new state, each in the order they were registered."""
    machine = lamp()
    heard: list[str] = []

    def note(name: str, _fsm: FSM, _step: object) -> None:
        heard.append(name)

    for state, name in [("ON", "on 1"), (FSM.FSM_ANY_STATE, "any 1"), ("OFF", "off"),
                        ("ON", "on 2"), (FSM.FSM_ANY_STATE, "any 2")]:  # fmt: skip
        machine.fsm_callback(state, partial(note, name))

    machine.press()

    assert heard == ["any 1", "any 2", "on 1", "on 2"]


def test_callback_hears_the_machine_and_the_transition() -> None:
    """A callback is called with the machine and its transition, and the new state is in force."""
    machine = lamp()
    heard: list[tuple[FSM, FSMTransitionEvent, str]] = []
    machine.fsm_callback("ON", lambda fsm, step: heard.append((fsm, step, fsm.fsm_state)))

    machine.fsm_event("press", why="dark")

    ((fsm, step, state),) = heard
    assert fsm is machine
    assert state == step.new_state == "ON"
    assert step.extra == {"why": "dark"}


def test_discarded_callback_is_not_called() -> None:
    """After `fsm_callback_discard` a callback hears nothing; the others still do."""
    machine = lamp()
    gone, stays = Recorder(), Recorder()
    for callback in (gone, stays):
        machine.fsm_callback(FSM.FSM_ANY_STATE, callback)

    machine.fsm_callback_discard(FSM.FSM_ANY_STATE, gone)
    machine.press()

    assert gone.events == []
    assert stays.events == ["press"]


def test_discard_of_an_unknown_callback_does_nothing() -> None:
    """Discarding twice, or what was never registered, is no error."""
    machine = lamp()

    machine.fsm_callback_discard("ON", Recorder())

    assert machine.press() == "ON"


def test_callbacks_run_after_the_lock_is_free() -> None:
    """While a callback runs, another thread can ask and move the machine."""
    machine = lamp()
    moved = threading.Event()

    def press() -> None:
        machine.press()
        moved.set()

    def callback(_fsm: FSM, step: FSMTransitionEvent) -> None:
        if step.new_state == "ON":
            threading.Thread(target=press, daemon=True).start()
            wait_for(moved, "the other thread's event")

    machine.fsm_callback(FSM.FSM_ANY_STATE, callback)

    machine.press()

    assert machine.fsm_state == "OFF"


def test_raising_callback_is_logged_with_the_name_and_stops_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The state changes, later callbacks are called, and the task's function runs."""
    ran: list[str] = []
    load = Task("load penguins", lambda: ran.append("called"))
    heard = Recorder()

    def broken(_task: object, _step: object) -> None:
        raise ValueError("a broken callback")

    load.fsm_callback(FSM.FSM_ANY_STATE, broken)
    load.fsm_callback(FSM.FSM_ANY_STATE, heard)

    with caplog.at_level(logging.DEBUG):
        load.dispatch()

    assert load.is_done
    assert ran == ["called"]
    assert heard.events == ["dispatch", "done"]
    logged = [r for r in caplog.records if r.levelno >= logging.WARNING]
    assert len(logged) == 2
    assert all("load penguins" in record.getMessage() for record in logged)


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit, BaseException])
def test_callback_raising_base_exception_leaves_the_machine_usable(
    kind: type[BaseException],
) -> None:
    """It may pass through, but the state has changed, no lock is held, later events are heard."""
    machine = lamp()
    first = True

    def broken(_fsm: object, _step: object) -> None:
        nonlocal first
        if first:
            first = False
            raise kind("a very broken callback")

    heard = Recorder()
    machine.fsm_callback(FSM.FSM_ANY_STATE, broken)
    machine.fsm_callback(FSM.FSM_ANY_STATE, heard)

    with contextlib.suppress(kind):
        machine.press()

    assert machine.fsm_state == "ON"
    (state,) = at_once(1, lambda _: machine.press())
    assert state == "OFF"
    assert heard.events[-1] == "press"
    assert heard.steps[-1].new_state == "OFF"


def test_callback_that_fires_is_heard_in_order_by_all() -> None:
    """A callback that fires the next event: every callback sees the transitions in order."""
    machine = lamp()
    before, after = Recorder(), Recorder()

    def again(fsm: FSM, step: FSMTransitionEvent) -> None:
        if step.new_state == "ON":
            fsm.fsm_event("press")

    for callback in (before, again, after):
        machine.fsm_callback(FSM.FSM_ANY_STATE, callback)

    (outcome,) = at_once(1, lambda _: machine.press(), limit=5)

    assert outcome == "ON"
    assert machine.fsm_state == "OFF"
    for recorder in (before, after):
        assert [step.new_state for step in recorder.steps] == ["ON", "OFF"]


def test_long_chain_of_firing_callbacks_does_not_recurse() -> None:
    """A callback that fires 5,000 times in a row needs no deep stack."""
    machine = lamp(history=[])

    def again(fsm: FSM, _step: object) -> None:
        if len(fsm.fsm_history) < 5_000:
            fsm.fsm_event("press")

    machine.fsm_callback(FSM.FSM_ANY_STATE, again)

    machine.press()

    assert len(machine.fsm_history) == 5_000


def test_illegal_event_in_a_callback_fails_inside_it_only() -> None:
    """A callback that fires what is not allowed gets the FSMError; nobody else does."""
    machine = lamp()
    caught: list[FSMError] = []
    later = Recorder()

    def wrong(fsm: FSM, _step: object) -> None:
        try:
            fsm.fsm_event("explode")
        except FSMError as error:
            caught.append(error)

    machine.fsm_callback("ON", wrong)
    machine.fsm_callback("ON", later)

    assert machine.press() == "ON"
    assert len(caught) == 1
    assert later.events == ["press"]


def test_uncaught_illegal_event_in_a_callback_stays_there() -> None:
    """The same, when the callback does not catch it."""
    machine = lamp()
    later = Recorder()
    machine.fsm_callback("ON", lambda fsm, _step: fsm.fsm_event("explode"))
    machine.fsm_callback("ON", later)

    assert machine.press() == "ON"
    assert later.events == ["press"]


def test_callback_may_unregister_itself_and_register_others() -> None:
    """The others are called once each, and there is no endless loop."""
    machine = lamp()
    other, added = Recorder(), Recorder()

    def once(fsm: FSM, _step: object) -> None:
        fsm.fsm_callback_discard("ON", once)
        fsm.fsm_callback("ON", added)
        calls.append(1)

    calls: list[int] = []
    machine.fsm_callback("ON", once)
    machine.fsm_callback("ON", other)

    machine.press()
    assert len(added.events) <= 1, "heard the transition that it was registered in, at most once"
    machine.press()
    heard = len(added.events)
    machine.press()

    assert len(calls) == 1
    assert other.events == ["press", "press"]
    assert len(added.events) == heard + 1


# ---------------------------------------------------------------------------------------- threads
@pytest.mark.parametrize(
    ("state", "event"),
    [("PENDING", "cancel"), ("PENDING", "queue"), ("QUEUED", "error"), ("FAILED", "retry"),
     ("DONE", "invalidate")],
)  # fmt: skip
def test_of_16_threads_that_fire_one_event_one_succeeds(state: str, event: str) -> None:
    """Exactly one success, 15 refusals and one callback, 30 times over."""
    for _ in range(30):
        load = task(state)
        heard = Recorder()
        load.fsm_callback(FSM.FSM_ANY_STATE, heard)

        outcomes = at_once(16, lambda _, load=load: load.fsm_event(event))

        assert sum(isinstance(outcome, FSMError) for outcome in outcomes) == 15
        assert outcomes.count(FSM_TRANSITIONS[state][event]) == 1
        assert heard.events == [event]


def test_random_events_of_16_threads_are_one_unbroken_walk_per_task() -> None:
    """What the callbacks see is what was accepted, in order, for each of four tasks."""
    tasks = [task(name=f"t{i}") for i in range(4)]
    recorders = [Recorder() for _ in tasks]
    for each, recorder in zip(tasks, recorders, strict=True):
        each.fsm_callback(FSM.FSM_ANY_STATE, recorder)
    # the events that lead back, so that the walk goes on
    events = ["queue", "dispatch", "error", "cancel", "retry", "done", "invalidate", "except"]

    def fire(seed: int) -> list[int]:
        draw = random.Random(seed)
        accepted = [0] * len(tasks)
        for _ in range(300):
            which = draw.randrange(len(tasks))
            try:
                tasks[which].fsm_event(draw.choice(events))
            except FSMError:
                continue
            accepted[which] += 1
        return accepted

    outcomes = at_once(16, fire)

    totals = [sum(column) for column in zip(*outcomes, strict=True)]
    for each, recorder, total in zip(tasks, recorders, totals, strict=True):
        check_history(each)
        assert len(each.fsm_history) == total
        assert recorder.steps == list(each.fsm_history)
        assert total > 100


def test_callbacks_come_and_go_while_events_fire() -> None:
    """Registering and discarding in 4 threads while 4 fire loses no transition."""
    machine = FSM("A", transitions={"A": {"go": "B"}, "B": {"go": "A"}}, history=[])
    heard = Recorder()
    machine.fsm_callback(FSM.FSM_ANY_STATE, heard)

    def work(place: int) -> None:
        for _ in range(500):
            if place < 4:
                machine.go()
            else:
                visitor = Recorder()
                machine.fsm_callback(FSM.FSM_ANY_STATE, visitor)
                machine.fsm_callback_discard(FSM.FSM_ANY_STATE, visitor)

    outcomes = at_once(8, work)

    assert outcomes == [None] * 8
    assert len(machine.fsm_history) == 2_000
    assert heard.steps == list(machine.fsm_history)


def test_two_threads_that_fire_into_each_others_machines_do_not_deadlock() -> None:
    """A callback of one machine fires the other, and the other way round, from two threads."""
    table = {"A": {"go": "B"}, "B": {"go": "A"}}
    machines = [FSM("A", transitions=table), FSM("A", transitions=table)]

    def poke(other: FSM, _fsm: FSM, step: FSMTransitionEvent) -> None:
        if not step.extra:
            other.fsm_event("go", echo=True)

    for one, other in (machines, machines[::-1]):
        one.fsm_callback(FSM.FSM_ANY_STATE, partial(poke, other))

    outcomes = at_once(2, lambda place: [machines[place].go() for _ in range(300)] and None)

    assert outcomes == [None, None]


def test_machine_uses_the_lock_it_is_given() -> None:
    """An own lock is held while the state changes, and free when the callbacks run."""
    lock = threading.RLock()
    machine = lamp(lock=lock)
    free: list[bool] = []

    def callback(_fsm: FSM, _step: object) -> None:
        def try_lock(_place: int) -> bool:
            taken = lock.acquire(timeout=LIMIT)
            lock.release()
            return taken

        free.extend(at_once(1, try_lock))

    machine.fsm_callback("ON", callback)

    machine.press()

    assert free == [True]


# -------------------------------------------------------------------------- states kept elsewhere
class Row(BaseTask):
    """A task whose state is a field of a record, like that of a Django model."""

    def __init__(self, record: dict[str, str]) -> None:
        self.record = record
        super().__init__(state=None)

    @property
    def fsm_state(self) -> str:
        """The field."""
        return self.record["state"]

    @fsm_state.setter
    def fsm_state(self, state: str) -> None:
        self.record["state"] = state


def test_base_task_gives_no_default_state() -> None:
    """`BaseTask` leaves the state to its subclass, so that a record's field is not overwritten."""
    assert "FSM_DEFAULT_STATE" not in vars(BaseTask)
    assert not hasattr(BaseTask, "FSM_DEFAULT_STATE")

    row = Row({"state": "FAILED"})

    assert row.fsm_state == "FAILED"
    assert row.is_failed


def test_state_kept_elsewhere_is_read_and_written_there() -> None:
    """Events read the record's state, write the new one there, and are heard."""
    record = {"state": "FAILED"}
    row = Row(record)
    heard = Recorder()
    row.fsm_callback(FSM.FSM_ANY_STATE, heard)

    assert row.fsm_event("retry") == "PENDING"
    assert record == {"state": "PENDING"}
    record["state"] = "RUNNING"  # somebody else wrote the field

    assert row.fsm_event("done") == "DONE"
    assert record == {"state": "DONE"}
    assert heard.events == ["retry", "done"]
