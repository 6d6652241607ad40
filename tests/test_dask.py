"""A Dask cluster: results stay on it, and whatever happens to it, the graph comes out right."""

from __future__ import annotations

import asyncio
import copyreg
import gc
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import suppress
from functools import partial
from itertools import pairwise
from pathlib import Path
from queue import SimpleQueue
from types import SimpleNamespace
from typing import Any

import cloudpickle
import pytest

from checks import (
    LIMIT,
    Background,
    await_state,
    check_settled,
    keys_there,
    run,
    states,
    until,
)
from graphs import GRAPHS
from taskqueue_nb import CancellationError, Task, TaskQueue, make_now
from taskqueue_nb.executors import check_executor, is_dask_client
from taskqueue_nb.executors.dask import Dask, RemoteValue
from taskqueue_nb.executors.dask.call import _Calls
from taskqueue_nb.executors.dask.hub import Hub
from taskqueue_nb.executors.dask.trip import DaskTrip, cleaned, key_for
from taskqueue_nb.executors.trip import TravelError, WorkerError
from taskqueue_nb.fingerprint import fingerprint_of
from taskqueue_nb.task import LostValueError
from taskqueue_nb.widget.details import details_of

# What stands here travels by value, as what stands in a notebook does.
cloudpickle.register_pickle_by_value(sys.modules[__name__])


def make_value(value: Any = 1) -> Any:
    """Return what is given."""
    return value


def zeros(count: int) -> bytearray:
    """Return something large that is made there."""
    return bytearray(count)


def add(*numbers: float) -> float:
    """Sum up."""
    return sum(numbers)


def fail() -> None:
    """Fail."""
    raise ValueError("told to")


def process_id(*_: Any) -> int:
    """Say which process this is."""
    return os.getpid()


def wait_for_file(path: str, value: Any = None) -> Any:
    """Wait until a file is there, or until asked to stop."""
    current = Task.current()
    assert current is not None
    while not Path(path).exists():
        if current.runstate.sleep(0.01):
            Path(path + ".stopped").touch()
            current.runstate.raiseif()
    return value


def note(path: str, value: Any = None, *_: Any) -> Any:
    """Leave a line in a file for each call."""
    with Path(path).open("a", encoding="utf-8") as file:
        file.write(f"{value}\n")
    return value


def die(*_: Any) -> None:
    """End the worker."""
    os.kill(os.getpid(), signal.SIGKILL)


def future_of(task: Task) -> Any:
    """Return the future of a result that is on the cluster."""
    assert isinstance(task._value, RemoteValue)
    return task._value.future


def is_away(*tasks: Task) -> bool:
    """Say whether results are on the cluster, and were not brought."""
    return all(isinstance(t._value, RemoteValue) and t._value._load is not None for t in tasks)


# ------------------------------------------------------------------------------- where data stays
def test_results_stay_until_somebody_looks(client: Any) -> None:
    """A run brings nothing; `task.result()` brings one result, and leaves it there too."""
    load = Task("load", zeros, func_args=(1000,))
    size = Task("size", len, func_args=(load,))
    queue = TaskQueue(load, size)

    run(queue, executor=client)

    assert is_away(load, size)
    assert client.who_has([future_of(load)])[future_of(load).key]
    assert size.result() == 1000
    assert size.value == 1000
    assert is_away(load)
    assert client.gather(future_of(size)) == 1000


def test_waiting_for_a_result_brings_nothing(client: Any) -> None:
    """Who asked for the result before the run, or is to be notified, has not asked for the data."""
    load = Task("load", zeros, func_args=(1000,))
    told: list[Task] = []
    load.notify(told.append)
    waited = load.result

    run(TaskQueue(load), executor=client)

    assert told == [load]
    assert waited.done()
    assert is_away(load)
    assert len(waited()) == 1000


def test_result_can_be_awaited(client: Any) -> None:
    """`await task` brings the value without holding up the event loop."""
    load = Task("load", make_value, func_args=({"a": 1},))

    async def main() -> Any:
        queue = TaskQueue(load)
        await queue.arun(executor=client)
        return await load

    assert asyncio.run(main()) == {"a": 1}


def test_dependents_are_given_futures(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also in lists, tuples, dicts and named arguments; nothing passes through the notebook."""
    kind = type(client)
    for name in ("gather", "scatter"):
        monkeypatch.setattr(kind, name, lambda *_, **__: pytest.fail("data came or went"))
    one, two = (Task(f"t{n}", make_value, func_args=(n,)) for n in (1, 2))
    both = Task("both", make_value, func_args=([one, {"two": (two,)}],), func_kwargs={})
    named = Task("named", dict, func_kwargs={"one": one, "rest": [two, one]})
    same = Task("same", lambda a, b: a[0] is b, func_args=([one], one))

    run(TaskQueue(one, two, both, named, same), executor=client)

    monkeypatch.undo()
    assert both.result() == [1, {"two": (2,)}]
    assert named.result() == {"one": 1, "rest": [2, 1]}
    assert same.result() is True


def test_an_attempt_says_which_worker_made_it(client: Any) -> None:
    """By the address that the cluster knows it by, however short it was; and how short."""
    tasks = [Task(f"load {i}", time.sleep, func_args=(i * 0.03,)) for i in range(4)]

    run(TaskQueue(*tasks), executor=client)

    attempts = [task.attempts[0] for task in tasks]
    workers = set(client.scheduler_info(n_workers=-1)["workers"])
    assert {attempt.worker for attempt in attempts} <= workers
    lengths = [(attempt.ended or 0) - (attempt.started or 0) for attempt in attempts]
    assert all(0 < length < LIMIT for length in lengths)
    assert lengths[1] >= 0.02
    assert lengths[3] >= 0.08


def test_words_that_had_to_wait_tell_the_same_time(
    client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A busy notebook hears late of what a worker does, and knows when it was nonetheless."""
    clock = 1000.0  # of the notebook; that of the worker is 900 behind
    monkeypatch.setattr("taskqueue_nb.executors.dask.hub.monotonic", lambda: clock)
    monkeypatch.setattr("taskqueue_nb.executors.dask.hub.time", lambda: clock)
    hub = Hub(client)
    inbox: Any = SimpleQueue()
    hub.inboxes = {"one": inbox, "two": inbox}

    hub.hear((0.0, [["one", "began", "w", (99.0, 99.99)]]))
    clock = 1005.0
    hub.hear((0.0, [["two", "began", "w", (101.0, 101.0)], ["one", "said", b"", None]]))
    hub.hear((0.0, [["two", "ended", "w", (103.0, 103.5), 2.0, True]]))
    heard = [message for _ in range(3) for message in inbox.get_nowait()]

    assert [each[:3] for each in heard] == [
        ["one", "began", "w"], ["two", "began", "w"], ["one", "said", b""], ["two", "ended", "w"],
    ]  # fmt: skip
    assert heard[0][3] == pytest.approx(999.0, abs=0.1)
    assert heard[1][3] == pytest.approx(1001.0, abs=0.1)
    assert heard[3][3:] == [pytest.approx(1003.0, abs=0.1), 2.0, True]


def fail_late(seconds: float) -> None:
    """Fail after a while."""
    time.sleep(seconds)
    fail()


@pytest.mark.parametrize("ago", [-5.0, 5.0])
@pytest.mark.parametrize("func", [time.sleep, fail_late])
def test_words_that_come_late_make_no_attempt_longer_or_shorter(
    client: Any, monkeypatch: pytest.MonkeyPatch, func: Callable[[float], None], ago: float
) -> None:
    """A call that lasts is told of twice; how long it took is what its worker measured."""
    hear = Dask.hear

    def hear_late(self: Dask, key: str, what: str, *rest: Any) -> None:
        if what == "ended":
            rest = (rest[0], rest[1] + ago, *rest[2:])
        hear(self, key, what, *rest)

    monkeypatch.setattr(Dask, "hear", hear_late)
    lasting = Task("lasting", func, func_args=(0.2,))

    run(TaskQueue(lasting), executor=client)

    (attempt,) = lasting.attempts
    assert attempt.started is not None
    assert attempt.ended is not None
    assert 0.15 < attempt.ended - attempt.started < 2
    assert attempt.ended <= time.time()


def test_end_of_which_no_worker_tells_is_noticed(
    client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker may die before it has told; the scheduler knows what came of the call."""
    hear = Dask.hear
    monkeypatch.setattr(
        Dask, "hear", lambda self, *told: None if told[1] == "ended" else hear(self, *told)
    )
    one = Task("one", make_value, func_args=(1,))
    two = Task("two", make_value, func_args=(one,))
    bad = Task("bad", fail)

    run(TaskQueue(one, two, bad), executor=client)

    assert two.result() == 1
    assert bad.fsm_state == "FAILED"


@pytest.mark.parametrize("status", ["pending", "lost"])
def test_what_is_made_again_has_not_come(client: Any, status: str) -> None:
    """A result that was lost with its worker is "lost" for the client, until it is made again."""
    place = Dask(client)
    trip = DaskTrip(Task("one", make_value, state="QUEUED"), lambda *_: None, None, place)
    trip.key, trip.future = "one", SimpleNamespace(status=status)
    place.trips["one"] = trip

    place._look_at_futures()
    place._look_at_futures()
    trip.came(trip.future)

    assert place.inbox.empty()
    assert trip.task.fsm_state == "QUEUED"


def test_results_are_let_go_with_their_tasks(client: Any) -> None:
    """An invalidated result is released on the cluster, and so is that of a task that is gone."""
    first = Task("first", make_value)
    second = Task("second", make_value, func_args=(first,))
    queue = TaskQueue(first, second)
    run(queue, executor=client)
    kept, gone = future_of(first).key, future_of(second).key
    assert {kept, gone} <= keys_there(client)

    queue.invalidate(second)
    run(queue)  # here, so nothing of it is there; and what `undo` kept is let go
    until(lambda: gone not in keys_there(client), "the release of the old result")
    assert kept in keys_there(client)
    del queue, first, second
    gc.collect()  # tasks know each other in both directions

    until(lambda: kept not in keys_there(client), "the release of what nobody knows any more")


def test_preview_is_made_where_the_data_is(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The details of a task show its result, and bring nothing but that text."""
    load = Task("load", zeros, func_args=(5_000_000,))
    run(TaskQueue(load), executor=client)
    monkeypatch.setattr(type(client), "gather", lambda *_, **__: pytest.fail("data came"))

    details = details_of(load, "0", {})

    assert details["result"]["type"] == "bytearray"
    assert details["result"]["text"].startswith("bytearray(b'")
    assert load.look(len) == 5_000_000
    assert is_away(load)


def test_preview_does_not_wait_for_busy_workers(client: Any, tmp_path: Path) -> None:
    """A result can be looked at while each worker makes a call."""
    gate = str(tmp_path / "gate")
    load = Task("load", make_value, func_args=("here I am",))
    run(TaskQueue(load), executor=client)
    busy = [Task(f"busy{i}", wait_for_file, func_args=(gate,)) for i in range(2)]
    queue = TaskQueue(*busy).start(executor=client)
    for each in busy:
        await_state(each, "RUNNING")

    seen = Background(lambda: load.look(repr)).join()

    assert seen == "'here I am'"
    Path(gate).touch()
    assert queue.wait(LIMIT)


def test_local_result_is_sent_once(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was made here is sent once for all the tasks there that take it."""
    kind = type(client)
    sent: list[Any] = []
    scatter = kind.scatter

    def counting(self: Any, data: Any, **options: Any) -> Any:
        sent.append(data)
        return scatter(self, data, **options)

    monkeypatch.setattr(kind, "scatter", counting)
    here = Task("here", zeros, func_args=(300_000,))
    sizes = [Task(f"size{i}", len, func_args=(here,), executor=client) for i in range(6)]

    run(TaskQueue(here, *sizes))

    assert [size.result() for size in sizes] == [300_000] * 6
    assert len(sent) == 1


def test_result_is_brought_for_a_task_here(client: Any) -> None:
    """A dependent in this process, or in a worker process of ours, gets the value itself."""
    there = Task("there", make_value, func_args=([1, 2],), executor=client)
    here = Task("here", len, func_args=(there,))
    process = Task("process", sum, func_args=(there,), executor="processes:1")
    back = Task("back", add, func_args=(here, process), executor=client)

    run(TaskQueue(there, here, process, back))

    assert (here.result(), process.result(), back.result()) == (2, 3, 5)


def write_to(array: Any) -> int:
    """Change what is given."""
    array[0] = 7
    return len(array)


def test_large_argument_is_no_burden_to_the_graph(client: Any) -> None:
    """It goes as data, without Dask's warning, and the function may write to its own copy."""
    data = bytearray(12_000_000)
    tasks = [Task(f"t{i}", write_to, func_args=(data,)) for i in range(2)]

    run(TaskQueue(*tasks), executor=client)

    assert [task.result() for task in tasks] == [12_000_000] * 2
    assert data[0] == 0


def test_futures_of_the_user_are_passed_as_values(client: Any) -> None:
    """A Dask future among the arguments stands for its value, as in `client.submit`."""
    future = client.submit(make_value, 20, pure=False)
    total = Task("total", sum, func_args=([future, 1],))

    run(TaskQueue(total), executor=client)

    assert total.result() == 21


def test_store_keeps_what_the_cluster_made(client: Any, tmp_path: Path) -> None:
    """With a store the results are brought for it, and a new queue takes them back."""

    def build() -> TaskQueue:
        load = Task("load", make_value, func_args=([1, 2, 3],))
        return TaskQueue(load, Task("total", sum, func_args=(load,)), store=tmp_path / "s.db")

    first = build()
    run(first, executor=client)
    assert is_away(*first)
    assert first.store is not None
    first.store.close()

    again = build()

    assert [task.value for task in again] == [[1, 2, 3], 6]
    assert again.store is not None
    again.store.close()


# --------------------------------------------------------------------------------- which code runs
def test_edited_function_is_used(client: Any) -> None:
    """The same name, the same arguments, another function: never the old value."""
    task = Task("answer", lambda: 41)
    queue = TaskQueue(task)
    run(queue, executor=client)
    assert task.result() == 41

    queue.invalidate(task)
    queue.repair(task, func=lambda: 42)
    run(queue, executor=client)

    assert task.result() == 42


def test_function_edited_on_its_way_is_used(client: Any, tmp_path: Path) -> None:
    """A task that waits at the cluster makes the call that it has when its turn comes."""
    gate = str(tmp_path / "gate")
    busy = [Task(f"busy{i}", wait_for_file, func_args=(gate,)) for i in range(2)]
    late = [Task(f"late{i}", make_value, func_args=("old",)) for i in range(4)]
    queue = TaskQueue(*busy, *late).start(executor=client)
    for task in busy:
        await_state(task, "RUNNING")
    for task in late:
        await_state(task, "QUEUED")
        queue.repair(task, args=("new",))

    Path(gate).touch()
    assert queue.wait(LIMIT)

    assert [task.result() for task in late] == ["new"] * 4
    assert [attempt.args for task in late for attempt in task.attempts] == [("new",)] * 4
    check_settled(queue)


def test_retry_makes_the_call_again(client: Any, tmp_path: Path) -> None:
    """A failure is not remembered by its key."""
    path = tmp_path / "there"
    task = Task("read", lambda: path.read_text(encoding="utf-8"))
    after = Task("after", len, func_args=(task,))
    queue = TaskQueue(task, after)
    run(queue, executor=client)
    assert isinstance(task.exception, FileNotFoundError)

    path.write_text("hello", encoding="utf-8")
    queue.retry()
    run(queue, executor=client)

    assert after.result() == 5
    check_settled(queue)


def test_fingerprints_are_the_same_beside_dask(
    client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exception among the arguments is no other one because Dask can send its frames."""
    task = Task("t", make_value, func_args=(ValueError("a"),))
    beside = fingerprint_of(make_value, task.func_args, {}, None)
    assert ValueError in copyreg.dispatch_table, "Dask changes nothing any more: drop this test"
    monkeypatch.delitem(copyreg.dispatch_table, ValueError)

    assert fingerprint_of(make_value, task.func_args, {}, None).digest == beside.digest


# ------------------------------------------------------------------------------------ what is said
HOSTILE = ["", "a\nb\x1b[31m", "\ud800 lone", "x" * 100_000, "<script>", "('t', 1)", "a-1-b", "\0"]


def test_names_of_any_kind_run(client: Any) -> None:
    """Line breaks, lone surrogates, 100,000 characters, equal names: each task has its own key."""
    tasks = [Task(name, make_value, func_args=(i,)) for i, name in enumerate(HOSTILE * 2)]

    run(TaskQueue(*tasks), executor=client)

    assert [task.result() for task in tasks] == list(range(len(tasks)))
    keys = [future_of(task).key for task in tasks]
    assert len(set(keys)) == len(keys)
    assert max(map(len, keys)) < 200
    assert all(key.isprintable() for key in keys)


@pytest.mark.parametrize(
    ("name", "prefix"),
    [("load", "load"), ("double[3]", "double"), ("clean rows", "clean rows"), ("", "task")],
)
def test_dashboard_reads_well(name: str, prefix: str) -> None:
    """Dask's pages call a task by its name, and put the items of one `map` together."""
    from dask.utils import key_split

    assert key_split(key_for(cleaned(name))) == prefix


def test_lone_surrogates_can_be_printed(client: Any) -> None:
    """What is no Unicode harms no connection, neither in output nor in an exception."""

    def say() -> None:
        print("\ud800 printed")
        raise ValueError("\ud800 raised")

    task = Task("say", say)

    run(TaskQueue(task), executor=client)

    assert task.output == "\ud800 printed\n"
    assert str(task.exception) == "\ud800 raised"


def print_much() -> None:
    """Print 500 kB."""
    for i in range(5000):
        print(f"{i:05} {'x' * 93}")


def test_long_output_is_bounded(client: Any) -> None:
    """The beginning and the end are kept, and the cut is said."""
    task = Task("say", print_much)

    assert TaskQueue(task).start(executor=client).wait(LIMIT)

    assert task.is_done
    assert task.output.startswith("00000 xx")
    assert task.output.endswith("x\n")
    assert "04999 xx" in task.output
    assert "characters dropped" in task.output
    assert len(task.output) < 110_000


class StillWorker:
    """A worker whose loop does what is due when it is told to."""

    def __init__(self) -> None:
        self.due: list[Callable[[], object]] = []
        self.later: list[Callable[[], object]] = []
        self.told: list[tuple[str, list[Any]]] = []
        self.state = SimpleNamespace(tasks={})
        self.address = "tcp://w"

    @property
    def loop(self) -> Any:
        """Return itself."""
        return self

    def add_callback(self, func: Callable[..., Any], *args: Any) -> None:
        """Have the loop call a function."""
        self.due.append(partial(func, *args))

    def call_later(self, _: float, func: Callable[..., Any]) -> None:
        """Have the loop call a function later."""
        self.later.append(func)

    def log_event(self, topic: str, events: list[Any]) -> None:
        """Take note of an event."""
        self.told.append((topic, events))

    def turn(self) -> None:
        """Call what is due."""
        while self.due:
            self.due.pop(0)()

    def heard(self, *, later: bool) -> list[tuple[str, list[Any]]]:
        """Return what was told since, without times; if later, once some time has passed."""
        self.turn()
        if later:
            self.due, self.later = self.later, []
            self.turn()
        told, self.told = self.told, []
        return [(topic, [each[:3] for each in events]) for topic, events in told]


def test_beginnings_are_told_together() -> None:
    """What calls say comes after all that."""
    worker = StillWorker()
    calls = _Calls(worker)
    for key in ("one", "two", "other"):
        worker.state.tasks[key] = SimpleNamespace(state="executing")
        calls.begin(key)
        calls.begun("elsewhere" if key == "other" else "here", key)

    assert worker.heard(later=False) == []
    assert sorted(worker.heard(later=True)) == [
        ("elsewhere", [["other", "began", "tcp://w"]]),
        ("here", [["one", "began", "tcp://w"], ["two", "began", "tcp://w"]]),
    ]

    worker.state.tasks["last"] = SimpleNamespace(state="executing")
    calls.begin("last")
    calls.begun("here", "last")
    calls.tell("here", "one", "said", b"hello", None)

    assert worker.heard(later=False) == [
        ("here", [["last", "began", "tcp://w"]]),
        ("here", [["one", "said", b"hello"]]),
    ]
    for key in ("one", "two", "other", "last"):
        calls.end(key)
    assert worker.heard(later=True) == []
    assert worker.heard(later=True) == []
    assert not worker.due
    assert not worker.later


def test_ends_are_told_at_once_or_together() -> None:
    """The first at once, those just after it together; of a short call it is told once."""
    worker = StillWorker()
    calls = _Calls(worker)
    for key in ("one", "two", "three"):
        worker.state.tasks[key] = SimpleNamespace(state="executing")
        calls.begin(key)
        calls.begun("here", key)
        calls.ended("here", key, 0.5, is_well=key != "three")
        calls.end(key)

    assert worker.heard(later=False) == [("here", [["one", "ended", "tcp://w"]])]
    assert worker.heard(later=True) == [
        ("here", [["two", "ended", "tcp://w"], ["three", "ended", "tcp://w"]])
    ]


def test_an_end_overtakes_nothing() -> None:
    """What was told before, and waits for the loop, comes first; also if it is time to tell."""
    worker = StillWorker()
    calls = _Calls(worker)
    worker.state.tasks["one"] = SimpleNamespace(state="executing")
    calls.begin("one")
    calls.begun("here", "one")
    worker.turn()
    calls.tell("here", "one", "rest", b"much", 0)
    calls.ended("here", "one", 0.5, is_well=True)
    for timer in list(worker.later):
        timer()

    (_, first), (_, second), (_, third) = worker.heard(later=False)

    assert [each[1] for events in (first, second, third) for each in events] == [
        "began",
        "rest",
        "ended",
    ]


def test_calls_are_submitted_together(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the cluster has enough to do a call waits for others, as each graph has its price."""
    kind = type(client)
    sizes: list[int] = []
    submit = kind.map

    def counting(self: Any, func: Any, parcels: list[Any], *rest: Any, **options: Any) -> Any:
        sizes.append(len(parcels))
        return submit(self, func, parcels, *rest, **options)

    run(TaskQueue(Task("first", make_value)), executor=client)
    until(lambda: Hub.of(client).threads == 2, "the answer of how many threads there are")
    monkeypatch.setattr(kind, "map", counting)
    rows = [[Task(f"0,{i}", make_value) for i in range(50)]]
    for n in range(1, 4):
        rows.append(
            [Task(f"{n},{i}", make_value, func_args=(each,)) for i, each in enumerate(rows[-1])]
        )

    run(TaskQueue(*(task for row in rows for task in row)), executor=client)

    assert sum(sizes) == 200
    assert len(sizes) <= 30


# ---------------------------------------------------------------------------------- what is stopped
def test_cancel_is_heard_by_the_function(client: Any, tmp_path: Path) -> None:
    """The task is CANCELLED at once, and `runstate` tells the function on its worker."""
    gate = str(tmp_path / "gate")
    task = Task("slow", wait_for_file, func_args=(gate,))
    queue = TaskQueue(task).start(executor=client)
    await_state(task, "RUNNING")

    task.cancel()

    assert task.is_cancelled
    assert queue.wait(LIMIT)
    until(Path(gate + ".stopped").exists, "the function's hearing of it")
    with pytest.raises(CancellationError):
        task.result()
    check_settled(queue)


def test_late_answer_is_dropped(client: Any, tmp_path: Path) -> None:
    """A call that goes on after it was given up changes nothing, and can be made again."""
    gate, done = tmp_path / "gate", tmp_path / "done"

    def deaf() -> str:
        while not gate.exists():
            time.sleep(0.01)
        done.touch()
        return "late"

    task = Task("deaf", deaf)
    queue = TaskQueue(task).start(executor=client)
    await_state(task, "RUNNING")
    task.cancel()
    assert queue.wait(LIMIT)
    queue.repair(task, func=lambda: "in time")
    run(queue, executor=client)

    gate.touch()
    until(done.exists, "the late answer")

    assert task.result() == "in time"
    assert [attempt.outcome for attempt in task.attempts] == ["CANCELLED", "DONE"]


def test_waiting_task_is_cancelled_at_once(client: Any, tmp_path: Path) -> None:
    """What waits at the cluster is let go, and is never called."""
    gate, calls = str(tmp_path / "gate"), tmp_path / "calls"
    busy = [Task(f"busy{i}", wait_for_file, func_args=(gate,)) for i in range(2)]
    late = [Task(f"late{i}", note, func_args=(str(calls), i)) for i in range(4)]
    queue = TaskQueue(*busy, *late).start(executor=client)
    for task in (*busy, *late):
        await_state(task, "RUNNING" if task in busy else "QUEUED")

    queue.cancel(*late)

    assert {task.fsm_state for task in late} == {"CANCELLED"}
    queue.cancel(*busy)
    assert queue.wait(LIMIT)
    until(Path(gate + ".stopped").exists, "the end of the calls before")
    run(TaskQueue(Task("next", make_value), Task("and", make_value)), executor=client)
    assert not calls.exists()
    check_settled(queue)


def deaf(begun: str, gate: str) -> None:
    """Say that it has begun, and go on until a file is there, whoever asks it to stop."""
    Path(begun).touch()
    while not Path(gate).exists():
        time.sleep(0.01)


def threads_there(dask_worker: Any) -> tuple[int, int]:
    """Count the threads that a worker has for calls, and its places that calls take up."""
    names = [thread.name for thread in threading.enumerate()]
    count = sum("Dask-Default-Threads" in name for name in names)
    return count, dask_worker.state.executing_count


GIVE_UP: dict[str, Callable[[TaskQueue], object]] = {
    "timeout": lambda queue: None,
    "cancel": lambda queue: queue.cancel(*queue),
    "stop": lambda queue: queue.stop(cancel=True),
}


@pytest.mark.parametrize("how", GIVE_UP)
@pytest.mark.parametrize("count", [1, 2])
def test_given_up_calls_hold_up_no_others(
    client: Any, tmp_path: Path, how: str, count: int
) -> None:
    """Not even if each worker still makes one; and when they end the workers are as before."""
    gate, begun = tmp_path / "gate", [tmp_path / f"begun{i}" for i in range(count)]
    timeout = 0.2 if how == "timeout" else None
    slow = [
        Task(path.name, deaf, func_args=(str(path), str(gate)), timeout=timeout) for path in begun
    ]
    others = TaskQueue(*(Task(f"t{i}", make_value, func_args=(i,)) for i in range(30)))
    queue = TaskQueue(*slow).start(executor=client)
    for path in begun:
        until(path.exists, "the beginning of a call")

    GIVE_UP[how](queue)
    assert queue.wait(LIMIT)
    assert others.start(executor=client).wait(LIMIT)

    assert {task.fsm_state for task in slow} == {"FAILED" if timeout else "CANCELLED"}
    assert others.counts() == {"DONE": 30}
    assert not gate.exists()
    gate.touch()
    until(
        lambda: set(client.run(threads_there).values()) <= {(0, 0), (1, 0)},
        "the end of the calls and of their threads",
    )
    check_settled([*queue, *others])


def test_call_that_nobody_knows_to_have_begun_holds_up_no_others(
    client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was given up before the news of its beginning came, as happens on a busy machine."""
    hear = Dask.hear
    monkeypatch.setattr(
        Dask, "hear", lambda self, *told: None if told[1] == "began" else hear(self, *told)
    )
    gate, begun = tmp_path / "gate", [tmp_path / f"begun{i}" for i in range(2)]
    slow = [Task(path.name, deaf, func_args=(str(path), str(gate))) for path in begun]
    queue = TaskQueue(*slow).start(executor=client)
    for path in begun:
        until(path.exists, "the beginning of a call")
    queue.cancel(*queue)
    assert queue.wait(LIMIT)
    monkeypatch.undo()
    others = TaskQueue(*(Task(f"t{i}", make_value, func_args=(i,)) for i in range(10)))

    assert others.start(executor=client).wait(LIMIT)

    assert {task.fsm_state for task in slow} == {"CANCELLED"}
    assert others.counts() == {"DONE": 10}
    gate.touch()


def secede_then_wait(begun: str, gate: str) -> None:
    """Leave the worker's pool in the way that Dask offers, then be deaf."""
    from distributed import secede

    secede()
    deaf(begun, gate)


def test_call_that_has_seceded_by_itself_can_be_given_up(client: Any, tmp_path: Path) -> None:
    """Its place is given back once, not twice."""
    gate, begun = tmp_path / "gate", tmp_path / "begun"
    slow = Task("slow", secede_then_wait, func_args=(str(begun), str(gate)))
    queue = TaskQueue(slow).start(executor=client)
    until(begun.exists, "the beginning of the call")

    queue.cancel(*queue)
    assert queue.wait(LIMIT)
    run(TaskQueue(*(Task(f"t{i}", make_value) for i in range(10))), executor=client)

    assert slow.is_cancelled
    gate.touch()
    until(
        lambda: set(client.run(threads_there).values()) <= {(0, 0), (1, 0)},
        "the end of the call and of its thread",
    )


def test_interrupted_run_leaves_nothing_behind(client: Any, tmp_path: Path) -> None:
    """What was under way is cancelled, here and there."""
    gate = str(tmp_path / "gate")
    slow = Task("slow", wait_for_file, func_args=(gate,))
    queue = TaskQueue(slow, *(Task(f"t{i}", make_value) for i in range(3)))

    def interrupt() -> None:
        await_state(slow, "RUNNING")
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    interrupting = Background(interrupt)
    with pytest.raises(KeyboardInterrupt):
        run(queue, executor=client)
    interrupting.join()

    assert slow.is_cancelled
    check_settled(queue)
    until(Path(gate + ".stopped").exists, "the end of the call")
    Path(gate).touch()
    queue.retry()
    run(queue, executor=client)
    assert queue.counts() == {"DONE": 4}


# ------------------------------------------------------------------------------- what cannot travel
class Unreadable:
    """Can be pickled, and not be read again."""

    def __reduce__(self) -> tuple[Any, ...]:
        return int, ("no number",)


class TwoWordsError(Exception):
    """Needs two arguments, and hands on one."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(first)
        self.second = second


def raise_two_words() -> None:
    """Fail in a way that does not pickle by itself."""
    raise TwoWordsError("one", "two")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Task("t", make_value, func_args=(threading.Lock(),)),
         "argument 'value' of task 't' cannot be sent to the cluster"),
        (lambda: Task("t", threading.Lock().acquire),
         "the function of task 't' cannot be sent to the cluster"),
        (lambda: Task("t", make_value, func_args=(Unreadable(),)),
         "argument 'value' of task 't' cannot be read on its worker: ValueError"),
        (lambda: Task("t", threading.Lock),
         "the result of task 't', a lock, cannot be sent from its worker"),
        (lambda: Task("t", sys.exit, func_args=(3,)),
         "task 't' raised SystemExit: 3 on its worker"),
    ],
    ids=["argument", "function", "unreadable", "result", "exit"],
)  # fmt: skip
def test_what_cannot_travel_is_named(client: Any, make: Callable[[], Task], words: str) -> None:
    """The task fails with a sentence, and nothing else does."""
    bad, good = make(), Task("good", make_value)

    run(TaskQueue(bad, good), executor=client)

    assert isinstance(bad.exception, (TravelError, WorkerError))
    assert words in str(bad.exception)
    assert good.result() == 1
    check_settled([bad, good])


def test_exception_of_any_class_arrives(client: Any) -> None:
    """Also one whose `__init__` takes other arguments than it keeps."""
    task = Task("t", raise_two_words)

    run(TaskQueue(task), executor=client)

    assert task.exception is not None
    assert type(task.exception).__name__ == "TwoWordsError"
    assert task.exception.args == ("one",)
    assert "raise_two_words" in (task.attempts[0].error_text or "")


def test_result_that_cannot_be_read_here_stays(client: Any) -> None:
    """It is said by name as often as asked, and the task is still DONE."""
    task = Task("odd", Unreadable)
    after = Task("after", make_value)
    run(TaskQueue(task, after), executor=client)

    for _ in range(2):
        with pytest.raises(TravelError, match="the result of task 'odd' cannot be brought"):
            task.result()

    assert task.is_done


# --------------------------------------------------------------------------------- what goes wrong
def test_worker_that_dies_is_made_up_for(client: Any, tmp_path: Path) -> None:
    """A worker is killed in the middle of a run: the graph is complete, and its values right."""
    gate = str(tmp_path / "gate")
    graph = GRAPHS["penguins"]
    tasks = {name: Task(name, make_value, func_args=(name,)) for name in graph}
    for name, required in graph.items():
        tasks[name].func = lambda *parts: sum(parts, start=1)
        tasks[name].func_args = tuple(tasks[other] for other in required)
    held = Task("held", wait_for_file, func_args=(gate, 5))
    last = Task("last", add, func_args=(held, *tasks.values()))
    queue = TaskQueue(*tasks.values(), held, last).start(executor=client)
    await_state(held, "RUNNING")
    for task in tasks.values():
        await_state(task, "DONE")

    victims = client.run(os.getpid)
    owner = client.who_has([future_of(tasks[next(iter(graph))])])
    (address,) = next(iter(owner.values()))
    os.kill(victims[address], signal.SIGKILL)
    Path(gate).touch()

    assert queue.wait(LIMIT)
    expected: dict[str, int] = {}
    for name, required in graph.items():
        expected[name] = 1 + sum(expected[other] for other in required)
    assert {name: task.result() for name, task in tasks.items()} == expected
    assert last.result() == 5 + sum(expected.values())
    check_settled(queue)


def test_task_that_kills_workers_fails(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is given up, and the worker named; all others are done."""
    monkeypatch.setattr(client.cluster.scheduler, "allowed_failures", 1)
    others = [Task(f"t{i}", make_value, func_args=(i,), retries=1) for i in range(6)]
    deadly = Task("deadly", die, func_args=(*others,))

    run(TaskQueue(*others, deadly), executor=client)

    assert isinstance(deadly.exception, WorkerError)
    said = str(deadly.exception)
    assert said.startswith("task 'deadly' was given up: 2 workers died while they made its call")
    assert "tcp://127.0.0.1:" in said
    assert [task.result() for task in others] == list(range(6))


def test_lost_result_is_made_again(client: Any, tmp_path: Path) -> None:
    """What the cluster does not have any more is pending again, and what needs it waits for it."""
    calls = str(tmp_path / "calls")
    first = Task("first", note, func_args=(calls, 7))
    second = Task("second", make_value, func_args=(first,))
    queue = TaskQueue(first, second)
    first.cancel()
    queue.retry(first)
    next(queue.run(executor=client, once=True))
    client.cancel([future_of(first)])

    ran = run(queue, executor=client)

    assert ran == ["first", "second"]
    assert second.result() == 7
    assert Path(calls).read_text(encoding="utf-8") == "7\n7\n"
    check_settled(queue)


def test_lost_result_is_said(client: Any) -> None:
    """Who looks at it is told, and the task can be run again."""
    task = Task("gone", make_value)
    run(TaskQueue(task), executor=client)
    client.cancel([future_of(task)])

    with pytest.raises(LostValueError, match="task 'gone': its result on the cluster is lost"):
        task.result()

    assert task.is_pending


def test_local_result_that_is_lost_is_sent_again(client: Any) -> None:
    """What was sent lives on one worker alone; should that die, it goes once more."""
    here = Task("here", zeros, func_args=(300_000,))
    sizes = [Task(f"size{i}", len, func_args=(here,), executor=client) for i in range(3)]
    for before, after in pairwise(sizes):
        after.require(before)
    queue = TaskQueue(here, *sizes)

    for task in queue.run():
        if task is sizes[0]:
            for worker, process in client.run(os.getpid).items():
                if worker:
                    os.kill(process, signal.SIGKILL)

    assert [size.result() for size in sizes[1:]] == [300_000] * 2
    with suppress(LostValueError):  # it was where the data was, from which it could be made again
        sizes[0].result()
    run(queue)
    assert [size.result() for size in sizes] == [300_000] * 3


CLUSTER = """
import json, os, sys
from distributed import LocalCluster
if __name__ == "__main__":
    with LocalCluster(n_workers=1, threads_per_worker=1, processes=False, protocol="tcp",
                      host="127.0.0.1", dashboard_address=":0", memory_limit=0) as cluster:
        print(json.dumps(cluster.scheduler_address), flush=True)
        sys.stdin.read()
"""


@pytest.fixture
def lonely(tmp_path: Path) -> Iterator[tuple[Any, subprocess.Popen[str]]]:
    """Give a client, and the process of all its cluster, which may be killed."""
    from distributed import Client

    script = tmp_path / "cluster.py"
    script.write_text(CLUSTER, encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    process = subprocess.Popen(
        [sys.executable, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, text=True, env=environment,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    with process.stdin, process.stdout:
        address = json.loads(process.stdout.readline())
        client = Client(address, timeout=2)
        yield client, process
        client.close()
        process.kill()
        process.wait(LIMIT)


@pytest.mark.parametrize("how", ["killed", "closed"])
def test_cluster_that_is_gone_is_said(
    lonely: tuple[Any, subprocess.Popen[str]], how: str, tmp_path: Path
) -> None:
    """Whatever runs there fails within 30 s, with a sentence, and so does what comes later."""
    client, process = lonely
    first = Task("first", make_value)
    slow = first.then("slow", wait_for_file, func_args=(str(tmp_path / "gate"),))
    behind = [Task(f"behind{i}", make_value) for i in range(3)]
    after = Task("after", make_value, func_args=(slow,))
    queue = TaskQueue(first, slow, *behind, after).start(executor=client)
    await_state(slow, "RUNNING")
    first.join(LIMIT)

    if how == "killed":
        process.kill()
    else:
        client.close()

    assert queue.wait(30)
    assert slow.is_failed
    assert isinstance(slow.exception, WorkerError)
    said = (
        r"(scheduler of|connection to) the Dask cluster at tcp://127\.0\.0\.1:\d+ is (gone|closed)"
    )
    assert re.search(said, str(slow.exception))
    assert after.is_pending
    check_settled(queue)
    with pytest.raises(LostValueError):
        first.result()
    late = TaskQueue(Task("late", make_value)).start(executor=client)
    assert late.wait(30)
    assert [task.fsm_state for task in late] == ["FAILED"]


def test_cluster_without_workers_is_said() -> None:
    """Tasks that may wait there for ever say what for; once there is a worker all is done."""
    from distributed import Client, LocalCluster

    with (
        LocalCluster(
            n_workers=0, processes=False, protocol="tcp", host="127.0.0.1", dashboard_address=":0"
        ) as cluster,
        Client(cluster) as client,
    ):
        queue = TaskQueue(Task("a", make_value), Task("b", make_value)).start(executor=client)
        with pytest.warns(RuntimeWarning, match=r"has no workers: 2 tasks wait for one$") as told:
            until(lambda: len(told), "the warning")
        cluster.scale(1)

        assert queue.wait(LIMIT)
        assert queue.counts() == {"DONE": 2}


def test_nothing_of_a_run_stays(client: Any, no_threads_left: None) -> None:
    """The threads of a run end with it, and what it submitted is forgotten."""
    tasks = [Task(f"t{i}", make_value) for i in range(5)]

    run(TaskQueue(*tasks), executor=client)

    assert Hub.of(client).inboxes == {}


# ------------------------------------------------------------------------------- which executors
def test_client_is_known_without_an_import() -> None:
    """Neither the package nor a look at an executor brings Dask along."""
    code = (
        "import sys, taskqueue_nb\n"
        "from taskqueue_nb.executors import check_executor\n"
        "check_executor(print)\n"
        "assert not {'dask', 'distributed'} & set(sys.modules)"
    )

    subprocess.run([sys.executable, "-c", code], check=True, timeout=LIMIT)


def test_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who lacks Dask is told how to get it, before anything has run."""
    import importlib.util

    client = type("Client", (), {"__module__": "distributed.client"})()
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: None if name == "distributed" else find(name)
    )

    assert is_dask_client(client)
    with pytest.raises(ImportError, match=r"needs distributed: pip install 'taskqueue-nb\[dask\]'"):
        TaskQueue(executor=client)


def test_client_of_a_coroutine_is_refused() -> None:
    """It could not be waited for; the sentence says what can."""
    client = type("Client", (), {"__module__": "distributed.client", "_asynchronous": True})()

    with pytest.raises(TypeError, match=r"give distributed\.Client\(address\) without it"):
        check_executor(client)


class PlainFuturesShaped:
    """As `mpi4py.futures.MPIPoolExecutor` and Parsl's executor: `submit` gives a future."""

    def submit(self, func: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Make a call of pickles, in another process as far as anybody can see."""
        future: Future[Any] = Future()
        call = cloudpickle.dumps((func, args, kwargs))

        def work() -> None:
            future.set_running_or_notify_cancel()
            code = "import sys, cloudpickle as c; f, a, k = c.load(sys.stdin.buffer)\n"
            code += "sys.stdout.buffer.write(c.dumps(f(*a, **k)))"
            command = [sys.executable, "-c", code]
            try:
                made = subprocess.run(command, input=call, check=True, capture_output=True)
                future.set_result(cloudpickle.loads(made.stdout))
            except BaseException as error:
                future.set_exception(error)

        threading.Thread(target=work, daemon=True).start()
        return future


def loky_executor() -> Any:
    """Make one of loky's."""
    import loky

    return loky.ProcessPoolExecutor(max_workers=1)


EXECUTORS: dict[str, Callable[[Any], Any]] = {
    "client.get_executor()": lambda client: client.get_executor(),
    "a shape of mpi4py and Parsl": lambda client: PlainFuturesShaped(),
    "loky": lambda client: loky_executor(),
}


@pytest.mark.parametrize("kind", EXECUTORS)
def test_other_executors_run_graphs(kind: str, client: Any) -> None:
    """Whatever has `submit` and gives futures runs tasks, mends them, and keeps its edits."""
    executor = EXECUTORS[kind](client)
    first = Task("first", make_value, func_args=(20,))
    bad = Task("bad", fail)
    second = Task("second", add, func_args=(first, 1))
    pid = Task("pid", process_id, func_args=(second,))
    queue = TaskQueue(first, bad, second, pid)

    run(queue, executor=executor)
    assert states(queue) == {"first": "DONE", "bad": "FAILED", "second": "DONE", "pid": "DONE"}
    queue.repair(bad, func=lambda: "mended")
    queue.invalidate(first)
    queue.repair(first, args=(30,))
    run(queue, executor=executor)

    assert (bad.result(), second.result()) == ("mended", 31)
    assert pid.result() != os.getpid()
    check_settled(queue)
    if isinstance(executor, Executor):
        executor.shutdown()


@pytest.mark.parametrize("kind", EXECUTORS)
def test_other_executors_name_what_cannot_travel(kind: str, client: Any) -> None:
    """It fails its own task, whatever the executor does with it; the others go on."""
    executor = EXECUTORS[kind](client)
    locked = Task("locked", threading.Lock)
    unread = Task("unread", Unreadable)
    sent = Task("sent", make_value, func_kwargs={"value": threading.Lock()})
    good = Task("good", make_value, func_args=(1,))
    made = Task("made", lambda: lambda: 5)

    run(TaskQueue(locked, unread, sent, good, made), executor=executor)

    assert good.result() == 1
    assert made.result()() == 5
    for task, words in (
        (locked, r"the result of task 'locked', a lock, cannot be sent back: TypeError"),
        (unread, r"the result of task 'unread' cannot be read back: ValueError"),
        (sent, r"argument 'value' of task 'sent' cannot be sent: TypeError"),
    ):
        assert task.fsm_state == "FAILED"
        assert isinstance(task.exception, TravelError)
        assert re.match(words, str(task.exception))
    if isinstance(executor, Executor):
        executor.shutdown()


def test_queue_shaped_callable_makes_tasks() -> None:
    """A callable that takes a function, as a Celery task's `delay` behind a line of one's own."""
    sent: list[Callable[[], Any]] = []

    def delay(function: Callable[[], Any]) -> None:
        sent.append(function)
        threading.Thread(target=function).start()

    task = Task("task", make_value, func_args=(3,))
    after = Task("after", make_value, func_args=(task,))

    make_now(after, queue=delay)

    assert after.result() == 3
    assert len(sent) == 2
