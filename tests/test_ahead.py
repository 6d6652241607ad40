"""Calls that a Dask cluster has ahead of their prerequisites: nothing that anybody sees differs."""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cloudpickle
import pytest

from checks import LIMIT, Background, check_settled, keys_there, run, states, until
from taskqueue_nb import FSMError, Task, TaskError, TaskQueue
from taskqueue_nb.executors.dask import Dask
from taskqueue_nb.executors.dask.ahead import Ahead
from taskqueue_nb.executors.dask.call import _Calls
from taskqueue_nb.executors.dask.trip import DaskTrip
from taskqueue_nb.leading import LEADERS, CaughtUp, admit

# What stands here travels by value, as what stands in a notebook does.
cloudpickle.register_pickle_by_value(sys.modules[__name__])


def note(path: str, name: str, value: Any = 0, *_: Any, gate: str = "", pause: float = 0.0) -> Any:
    """Leave a line in a file for each call; wait for another file if one is named."""
    with Path(path).open("a", encoding="utf-8") as file:
        file.write(f"{name}\n")
    while gate and not Path(gate).exists():
        time.sleep(0.005)
    time.sleep(pause)
    return value


def fail_once(path: str, name: str, *_: Any) -> str:
    """Fail when called for the first time."""
    note(path, name)
    if Path(path).read_text(encoding="utf-8").split().count(name) == 1:
        raise ValueError("told to")
    return name


class Chain:
    """Tasks of which each needs the last, and what was called of them.

    The first waits for the file `gate`, so that the others can be looked at on the cluster.
    """

    def __init__(self, client: Any, path: Path, length: int = 6) -> None:
        self.client, self.path, self.gate = client, str(path / "calls"), path / "gate"
        self.tasks: list[Task] = []
        for i in range(length):
            before = self.tasks[-1:]
            gate = {"gate": str(self.gate)} if not i else {}
            args = (self.path, f"t{i}", i, *before)
            self.tasks.append(Task(f"t{i}", note, func_args=args, func_kwargs=gate))
        self.queue = TaskQueue(*self.tasks)
        self.others = keys_there(client)  # of earlier tests, as long as anybody holds their tasks

    def start(self, **options: Any) -> Chain:
        """Start it, and wait until the first is called, and the second is there, too."""
        self.queue.start(executor=self.client, **options)
        until(lambda: self.tasks[0].is_running, "the first call")
        until(lambda: self.there("t1"), "a call that is sent ahead")
        return self

    def there(self, name: str) -> list[str]:
        """Return the keys that the scheduler has of a task."""
        new = keys_there(self.client) - self.others
        return [key for key in new if key.startswith(f"{name}-")]

    def calls(self) -> list[str]:
        """Return whose functions were called, in their order."""
        return Path(self.path).read_text(encoding="utf-8").split() if self.has_begun() else []

    def has_begun(self) -> bool:
        """Say whether anything was called."""
        return Path(self.path).exists()

    def go_on(self) -> None:
        """Let the first task end, and wait for the run."""
        self.gate.touch()
        assert self.queue.wait(LIMIT), "the run does not end"

    def names(self, first: int = 0) -> list[str]:
        """Return the names of the tasks from one on."""
        return [task.name for task in self.tasks[first:]]


@pytest.fixture
def chain(client: Any, tmp_path: Path) -> Iterator[Chain]:
    """Give six tasks in a row, and have their run end."""
    made = Chain(client, tmp_path)
    yield made
    made.gate.touch()
    made.queue.stop()
    assert made.queue.wait(LIMIT), "the run does not end"
    check_settled(made.queue)
    assert not LEADERS


# ------------------------------------------------------------------------------ that it is done
def test_a_chain_is_sent_in_few_graphs(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A chain needs no word from the notebook between two tasks, and each is called once."""
    graphs: list[int] = []
    submit = client.map

    def counted(func: Any, parcels: Any, *rest: Any, **options: Any) -> Any:
        graphs.append(len(parcels))
        return submit(func, parcels, *rest, **options)

    monkeypatch.setattr(client, "map", counted)
    tasks: list[Task] = [Task("t0", int)]
    for i in range(1, 40):
        tasks.append(Task(f"t{i}", int.__add__, func_args=(1, tasks[-1])))
    queue = TaskQueue(*tasks)

    assert run(queue, executor=client) == [task.name for task in tasks]

    assert tasks[-1].result() == 39
    assert sum(graphs) == 40
    assert len(graphs) < 20
    check_settled(queue)


def test_prerequisites_without_a_value_are_waited_for(client: Any, tmp_path: Path) -> None:
    """Tasks that only require each other keep their order, and are sent ahead, too."""
    calls = str(tmp_path / "calls")
    tasks = [Task(f"t{i}", note, func_args=(calls, f"t{i}")) for i in range(12)]
    for task, before in zip(tasks[1:], tasks, strict=False):
        task.require(before)

    run(TaskQueue(*reversed(tasks)), executor=client)

    assert Path(calls).read_text(encoding="utf-8").split() == [task.name for task in tasks]


def test_states_of_a_call_ahead_are_those_of_any_other(chain: Chain) -> None:
    """It is pending until the cluster begins it, and starts after what it needs has ended."""
    chain.start()

    assert states(chain.tasks) == {"t0": "RUNNING"} | dict.fromkeys(chain.names(1), "PENDING")
    chain.go_on()

    assert chain.calls() == chain.names()
    for task in chain.tasks:
        assert [step.event for step in task.fsm_history] == ["queue", "dispatch", "done"]
        assert "tcp://127.0.0.1:" in str(task.attempts[0].worker)


# -------------------------------------------------------------------------- who changes something
def held(chain: Chain) -> None:
    """Hold the queue; what comes is to be seen while it is held."""
    chain.queue.hold()
    chain.gate.touch()
    until(lambda: chain.tasks[0].is_done, "the end of the first task")


def stopped(chain: Chain) -> None:
    """Stop the run; what is running is finished."""
    chain.queue.stop()
    chain.gate.touch()
    assert chain.queue.wait(LIMIT)
    assert chain.tasks[0].is_done


def cancelled(chain: Chain) -> None:
    """Stop it, and what is running with it."""
    chain.queue.stop(cancel=True)
    assert chain.queue.wait(LIMIT)
    chain.gate.touch()
    assert chain.tasks[0].is_cancelled


@pytest.mark.parametrize("end", [held, stopped, cancelled])
def test_nothing_begins_once_the_run_is_ended(chain: Chain, end: Callable[[Chain], None]) -> None:
    """The cluster had the calls already, and makes none of them; later each is made once."""
    end(chain.start())

    until(lambda: not chain.there("t1"), "the end of what was sent ahead")
    assert chain.calls() == ["t0"]
    assert set(states(chain.tasks[1:]).values()) == {"PENDING"}

    chain.queue.resume()
    chain.queue.wait(LIMIT)
    chain.queue.retry()
    run(chain.queue, executor=chain.client)
    again = ["t0"] if end is cancelled else []
    assert chain.calls() == ["t0", *again, *chain.names(1)]


def test_nothing_begins_once_the_consumer_has_left(client: Any, tmp_path: Path) -> None:
    """Who leaves a `for` over the run ends it; what had begun meanwhile is finished, and told."""
    chain = Chain(client, tmp_path, 30)
    chain.gate.touch()

    for _ in chain.queue.run(executor=client):
        break

    check_settled(chain.queue)
    done = [task.name for task in chain.tasks if task.attempts]
    assert chain.calls() == done == chain.names()[: len(done)]
    run(chain.queue, executor=client)
    assert chain.calls() == chain.names()


CHANGES: dict[str, Callable[[Chain], object]] = {
    "cancel": lambda chain: chain.tasks[2].cancel(),
    "event": lambda chain: chain.tasks[2].fsm_event("cancel"),
    "inject": lambda chain: chain.tasks[2].inject(fail=True),
    "supply": lambda chain: chain.queue.supply(chain.tasks[2], 20),
    "repair": lambda chain: chain.queue.repair(chain.tasks[2], args=(chain.path, "new", 7)),
    "arguments": lambda chain: setattr(chain.tasks[2], "func_args", (chain.path, "new", 7)),
    "requirement": lambda chain: chain.tasks[2].require(Task("never run", int)),
    "option": lambda chain: setattr(chain.tasks[2], "executor", 1),
    "fault": lambda chain: chain.tasks[1].inject(fail=True, after=True),
    "request": lambda chain: chain.tasks[0].runstate.cancel(),
    "plan": lambda chain: chain.queue.plan("supply", chain.tasks[2], 20).apply(),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_what_is_changed_is_not_called_as_it_was(chain: Chain, change: str) -> None:
    """Whatever the cluster had already, the states tell all calls, and none is out of date."""
    chain.start()

    CHANGES[change](chain)
    chain.go_on()

    calls = chain.calls()
    third = chain.tasks[2]
    expected = {
        "cancel": ["t0", "t1"],
        "event": ["t0", "t1"],
        "inject": ["t0", "t1"],
        "supply": ["t0", "t1", "t3", "t4", "t5"],
        "repair": ["t0", "new", "t1", "t3", "t4", "t5"],
        "arguments": ["t0", "new", "t1", "t3", "t4", "t5"],
        "requirement": ["t0", "t1"],
        "option": chain.names(),
        "fault": ["t0", "t1"],
        "request": ["t0"],
        "plan": ["t0", "t1", "t3", "t4", "t5"],
    }[change]
    assert sorted(calls) == sorted(expected)
    made = Counter(task.name for task in chain.tasks for each in task.attempts if each.worker)
    assert sum(made.values()) + (change == "option") == len(calls)
    assert third.fsm_state == {
        "cancel": "CANCELLED", "event": "CANCELLED", "inject": "FAILED", "requirement": "PENDING",
        "fault": "PENDING", "request": "PENDING",
    }.get(change, "DONE")  # fmt: skip


def test_who_changes_other_tasks_takes_nothing_back(chain: Chain) -> None:
    """A graph that is made, mended and run meanwhile has nothing to do with what is there."""
    chain.start()
    before = keys_there(chain.client)

    others = [Task(f"other {i}", int) for i in range(3)]
    others[1].require(others[0])
    others[2].func_args = ("7",)
    others[2].timeout = 60.0
    others[2].dispatch()
    run(TaskQueue(*others))

    assert others[1].is_done
    assert keys_there(chain.client) == before
    chain.go_on()
    assert chain.calls() == chain.names()


def test_a_task_is_not_run_here_and_there(chain: Chain) -> None:
    """Whoever dispatches a task by hand while its call is there is told what blocks it."""
    chain.start()

    with pytest.raises(TaskError, match="t0"):
        chain.tasks[1].dispatch()
    chain.go_on()

    assert chain.calls() == chain.names()


def test_a_second_run_is_told_all(chain: Chain) -> None:
    """A run that begins while another one has calls there takes none of these over."""
    chain.start()

    second = Background(lambda: run(chain.queue))
    until(lambda: len(chain.queue._runs) == 2, "the second run")
    chain.go_on()
    second.join()

    assert chain.calls() == chain.names()


def test_what_has_begun_is_told_before_anything_is_changed(
    client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Words that are late are waited for: who holds the queue finds running what is running."""
    late = threading.Event()
    hear = Dask.hear

    def heard_late(place: Dask, key: str, what: str, *told: Any) -> None:
        if key.startswith("t0-") and what == "ended":
            late.wait(LIMIT)
        hear(place, key, what, *told)

    monkeypatch.setattr(Dask, "hear", heard_late)
    chain = Chain(client, tmp_path)
    chain.tasks[0].func_kwargs = {}
    chain.tasks[1].func_kwargs = {"gate": str(chain.gate)}
    chain.queue.start(executor=client)
    until(lambda: chain.calls() == ["t0", "t1"], "the call of the second task")

    holding = Background(chain.queue.hold)
    until(lambda: not chain.there("t2"), "the withdrawal of the third")
    assert chain.tasks[1].is_pending
    assert not chain.queue.held
    late.set()
    holding.join()

    assert chain.tasks[1].is_running
    chain.gate.touch()
    until(lambda: chain.tasks[1].is_done, "the end of the second task")
    assert chain.calls() == ["t0", "t1"]
    chain.queue.resume()
    assert chain.queue.wait(LIMIT)
    assert chain.calls() == chain.names()
    check_settled(chain.queue)


def test_callbacks_may_change_tasks(client: Any, tmp_path: Path) -> None:
    """A callback is called by the thread that takes what the cluster says, and holds the queue."""
    chain = Chain(client, tmp_path, 12)
    chain.gate.touch()
    beside = Task("beside", note, func_args=(chain.path, "beside"), func_kwargs={"pause": 0.02})
    beside.fsm_callback("DONE", lambda *_: chain.queue.hold())
    chain.queue.add(beside)

    run(chain.queue, executor=client)

    assert chain.queue.held
    done = [task.name for task in chain.tasks if task.is_done]
    assert [name for name in chain.calls() if name != "beside"] == done
    chain.queue.resume()
    run(chain.queue, executor=client)
    assert Counter(chain.calls()) == Counter([*chain.names(), "beside"])


# ----------------------------------------------------------------- what is not sent ahead
@pytest.mark.parametrize(
    ("options", "how"),
    [
        ({"timeout": 60.0}, {}),
        ({"cancel_on_result": bool}, {}),
        ({}, {"fail_fast": True}),
    ],
    ids=["timeout", "cancel_on_result", "fail_fast"],
)
def test_what_may_end_otherwise_is_not_followed(
    client: Any, tmp_path: Path, options: dict[str, Any], how: dict[str, Any]
) -> None:
    """Where more than the call decides whether dependents run, they wait for the word."""
    chain = Chain(client, tmp_path, 3)
    for name, value in options.items():
        setattr(chain.tasks[0], name, value)

    chain.queue.start(executor=client, **how)
    until(lambda: chain.calls() == ["t0"], "the first call")
    time.sleep(0.1)

    assert not chain.there("t1")
    chain.go_on()
    assert chain.calls() == chain.names()


def test_limits_are_kept(client: Any, tmp_path: Path) -> None:
    """With limits nothing is sent before there is room for it."""
    chain = Chain(client, tmp_path, 3)
    queue = TaskQueue(*chain.tasks, limits={"gpu": 1}).start(executor=client)
    until(lambda: chain.calls() == ["t0"], "the first call")
    time.sleep(0.1)

    assert not chain.there("t1")
    chain.gate.touch()
    assert queue.wait(LIMIT)
    assert chain.calls() == chain.names()


def test_a_call_that_cannot_be_packed_fails_when_it_is_ready(client: Any, tmp_path: Path) -> None:
    """Its argument is named as ever, and what comes before it is done."""
    chain = Chain(client, tmp_path)
    chain.tasks[3].func_args = (*chain.tasks[3].func_args, threading.Lock())

    chain.start().go_on()

    assert chain.calls() == chain.names()[:3]
    assert "of task 't3' cannot be sent to the cluster" in str(chain.tasks[3].exception)
    assert states(chain.tasks[4:]) == {"t4": "PENDING", "t5": "PENDING"}


# --------------------------------------------------------------------------------------- mishaps
def test_nothing_is_called_behind_a_failure(chain: Chain) -> None:
    """What stands behind it was there already; once it is repaired only the rest is called."""
    chain.tasks[2].func = fail_once
    chain.start().go_on()

    assert chain.calls() == ["t0", "t1", "t2"]
    assert chain.tasks[2].is_failed
    assert set(states(chain.tasks[3:]).values()) == {"PENDING"}

    chain.queue.retry()
    run(chain.queue, executor=chain.client)
    assert chain.calls() == ["t0", "t1", "t2", *chain.names(2)]


def test_what_is_retried_by_itself_is_followed_anew(chain: Chain) -> None:
    """The calls behind the first attempt are not those behind the second."""
    chain.tasks[2].func = fail_once
    chain.tasks[2].retries = 1

    chain.start().go_on()

    assert chain.calls() == ["t0", "t1", "t2", *chain.names(2)]
    assert set(states(chain.tasks).values()) == {"DONE"}


def test_a_worker_that_dies_is_made_up_for(client: Any, tmp_path: Path) -> None:
    """Its calls are made by another worker, those that were sent ahead among them."""
    chain = Chain(client, tmp_path).start()
    processing = client.processing()
    (address,) = [each for each, keys in processing.items() if any("t0-" in str(k) for k in keys)]

    os.kill(client.run(os.getpid)[address], signal.SIGKILL)
    chain.go_on()

    assert chain.calls() == ["t0", *chain.names()]
    assert [task.value for task in chain.tasks] == list(range(6))
    check_settled(chain.queue)


def test_a_call_that_is_wanted_while_it_is_packed_is_made_once(
    client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run finds a task ready that was chosen a moment before: it is submitted once."""
    chain = Chain(client, tmp_path)
    choose = Ahead._choose

    def chosen_late(ahead: Ahead, *given: Any) -> list[DaskTrip]:
        trips = choose(ahead, *given)
        if chain.tasks[1] in [trip.task for trip in trips]:
            chain.gate.touch()
            until(lambda: not chain.tasks[1].is_pending, "the run that wants it")
            time.sleep(0.05)
        return trips

    chain.tasks[1].func_kwargs = {"pause": 0.3}  # it is there still when it comes again
    beside = Task("beside", note, func_args=(chain.path, "beside"))
    monkeypatch.setattr(Ahead, "_choose", lambda *_: [])
    chain.queue.start(executor=client)
    until(lambda: chain.tasks[0].is_running, "the first call")
    monkeypatch.setattr(Ahead, "_choose", chosen_late)
    chain.queue.add(beside)  # brings the thread that submits to choose

    assert chain.queue.wait(LIMIT)
    assert Counter(chain.calls()) == Counter([*chain.names(), "beside"])
    check_settled(chain.queue)


def test_a_cluster_that_does_not_answer_is_not_waited_for(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who changes something goes on; the calls there are given up."""
    chain.start()

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError("no connection")

    monkeypatch.setattr(chain.client, "run", refuse)
    chain.queue.hold()
    monkeypatch.undo()

    until(lambda: not chain.there("t1"), "the end of what was sent ahead")
    chain.queue.resume()
    chain.go_on()
    assert chain.calls() == chain.names()


# ---------------------------------------------------------------------------- whatever comes
VERBS = (
    "hold", "stop", "cancel all", "cancel", "supply", "fail", "require", "invalidate", "leave",
)  # fmt: skip


def do(verb: str, chain: Chain, dice: random.Random) -> None:
    """Do something with the run, or with a task."""
    queue, task = chain.queue, dice.choice(chain.tasks)
    if verb == "hold":
        queue.hold()
        until(lambda: not queue.counts().keys() & {"RUNNING", "QUEUED"}, "a quiet queue")
        check_told(chain)
        queue.resume()
    elif verb in ("stop", "cancel all", "leave"):
        queue.stop(cancel=verb == "cancel all")
        assert queue.wait(LIMIT)
        if verb == "leave":
            next(queue.run(executor=chain.client), None)
        check_told(chain)
        queue.retry()
        queue.start(executor=chain.client)
    elif verb == "fail":
        task.inject(fail=True)
    elif verb == "require":
        task.require(chain.tasks[dice.randrange(chain.tasks.index(task) or 1)])
    elif verb == "supply":
        queue.supply(task, -1)
    else:
        getattr(queue, verb)(task)


def check_told(chain: Chain) -> None:
    """Check that no call was made of which the task does not know."""
    calls = Counter(chain.calls())
    for task in chain.tasks:
        queued = sum(step.event == "queue" for step in task.fsm_history)
        assert calls[task.name] <= queued, (
            f"{task}: {calls[task.name]} calls, queued {queued} times"
        )


@pytest.mark.parametrize("seed", range(12))
def test_whatever_is_done_meanwhile(client: Any, tmp_path: Path, seed: int) -> None:
    """Whatever is done in whichever moment, no call is made in secret, and all comes to its end."""
    dice = random.Random(seed)
    chain = Chain(client, tmp_path, 20)
    chain.gate.touch()
    for place, task in enumerate(chain.tasks):
        if place > 1 and dice.random() < 0.3:
            task.func_args = (*task.func_args, chain.tasks[dice.randrange(place)])
        task.func_kwargs |= {"pause": dice.choice([0, 0, 0.004, 0.01])}
        task.retries = dice.randrange(2)
    chain.queue.start(executor=client)
    for _ in range(dice.randint(1, 4)):
        time.sleep(dice.random() * 0.06)
        try:
            do(dice.choice(VERBS), chain, dice)
        except FSMError:
            continue  # it came too late for that task
    assert chain.queue.wait(LIMIT)

    for _ in range(3):
        chain.queue.retry(*(task for task in chain.tasks if task.is_failed or task.is_cancelled))
        run(chain.queue, executor=client)

    assert chain.queue.counts() == {"DONE": 20}
    check_told(chain)
    check_settled(chain.queue)


# ------------------------------------------------------------------------------------------ parts
class Loop:
    """The loop of a worker that is none."""

    def add_callback(self, *_: Any) -> None:
        """Forget it."""

    call_later = add_callback


class Worker:
    """What a worker needs to know of itself."""

    address = "tcp://nowhere"

    def __init__(self) -> None:
        self.loop = Loop()


def test_a_call_has_begun_or_never_will() -> None:
    """Of a call and its withdrawal the first one counts; another worker may be allowed it."""
    worker = Worker()
    calls = _Calls(worker)

    assert calls.begin("begun", is_ahead=True)
    assert calls.withdraw(["begun", "waits"]) == ["begun"]
    assert not calls.begin("waits", is_ahead=True)
    assert calls.withdraw(["begun", "waits"]) == ["begun"]

    calls.allow(["waits", "begun"])
    assert calls.begin("waits", is_ahead=True)
    calls.end("begun")
    assert calls.begin("begun", is_ahead=True)


class Broken:
    """An executor that cannot say what has begun."""

    def catch_up(self, about: Any = None) -> None:
        """Fail."""
        raise OSError("no connection")


def test_nothing_is_ahead_while_something_is_changed() -> None:
    """Nobody is admitted meanwhile, also in a nested change; a failure leaves nothing behind."""
    leader = Broken()
    with CaughtUp():
        with CaughtUp():
            assert not admit(leader)
        assert not admit(leader)
    assert admit(leader)
    try:
        with pytest.raises(OSError, match="no connection"), CaughtUp():
            raise AssertionError("nobody may be here")
    finally:
        LEADERS.discard(leader)
    assert admit(leader)
    LEADERS.discard(leader)
