"""The record of a queue: what is gathered, and what is sent to the pages that show it."""

from __future__ import annotations

import gc
import itertools
import math
import random
import struct
import threading
import time
import weakref
from array import array
from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from checks import LIMIT
from taskqueue_nb import Task, TaskQueue
from taskqueue_nb.drawing import drawing_of, letters
from taskqueue_nb.palette import URGENCY, look
from taskqueue_nb.task import Attempt
from taskqueue_nb.widget import TaskGraph, _at_of
from taskqueue_nb.widget import record as recording
from taskqueue_nb.widget.messages import Command, RefusedError, read
from taskqueue_nb.widget.record import CHUNK, Record, Recorder

NOWHERE: Final = 0xFFFFFFFF
CHUNK_GAP: Final = recording._CHUNK_GAP


def work(*_: object) -> int:
    """Do little."""
    return 1


def fail(*_: object) -> None:
    """Fail."""
    raise RuntimeError("no")


def diamond() -> TaskQueue:
    """Return a queue whose right side fails."""
    top = Task("top", work)
    left, right = (Task(name, f, func_args=(top,)) for name, f in (("left", work), ("right", fail)))
    return TaskQueue(top, left, right, Task("last", work, func_args=(left, right)))


def run(queue: TaskQueue) -> None:
    """Run what is ready."""
    for _ in queue.run():
        pass


def rows(record: Record) -> list[tuple[float, int, str]]:
    """Return the rows of a record as a page would sort them."""
    found = zip(record.when, record.task, record.letter.decode(), strict=True)
    return sorted(found, key=lambda row: row[0])


def truth(queue: TaskQueue) -> list[tuple[float, int, str]]:
    """Return the same from what the tasks say."""
    steps = [
        (step.when, number, look(step.new_state).letter)
        for number, task in enumerate(queue)
        for step in task.fsm_history
    ]
    return sorted(steps, key=lambda row: row[0])


# -- gathering -----------------------------------------------------------------------------------


def test_every_transition_is_gathered_once() -> None:
    """At first all of them, then those that are new; and nothing when nothing has happened."""
    queue = diamond()
    record = Record(queue)
    assert record.gather(0) == 0
    run(queue)

    assert record.gather(0) == len(truth(queue))
    assert record.gather(0) == 0
    queue.tasks[2].func = work
    queue.retry()
    run(queue)
    record.gather(0)

    assert rows(record) == truth(queue)
    assert len(record) == len(record.when) == len(record.worker)


def test_tasks_that_come_later_are_gathered() -> None:
    """They have the numbers that follow."""
    queue = diamond()
    run(queue)
    record = Record(queue)
    record.gather(0)

    queue.add(Task("more", work))
    run(queue)

    assert record.gather(0) == 2
    assert record.task[-2:] == array("I", [4, 4])


def test_what_fell_with_another_is_told_apart() -> None:
    """It has the letter of a victim, as on the picture."""
    first = Task("first", fail)
    second = Task("second", work, func_args=(first,))
    record = Record(TaskQueue(first, second))
    second.make()

    record.gather(0)

    assert rows(record)[-1][2] == letters(drawing_of(record._queue, 200))[1]


def test_what_is_young_waits_until_it_is_in_order() -> None:
    """A step that another thread made before it may not be noted yet."""
    queue = diamond()
    record = Record(queue)
    run(queue)

    assert record.gather(60) == 0
    assert not record.is_settled
    assert record.gather(0) == len(truth(queue))
    assert record.is_settled


def test_a_clock_that_is_set_back_changes_no_order() -> None:
    """The rows of a task stand in its own order, and a step of the future is not waited for."""
    task = Task("load", work)
    queue = TaskQueue(task)
    run(queue)
    task._log[2] = task._log[6] + 3600  # it began an hour after it ended
    record = Record(queue)

    record.gather()
    time.sleep(0)
    record.gather(0)

    assert record.letter == b"rd"
    assert record.when[0] == record.when[1]


def test_rows_are_those_of_threads(no_threads_left: None) -> None:
    """However many work at once, every transition is there, in each task's order."""
    tasks = [Task(f"load {i}", work) for i in range(300)]
    tasks += [Task(f"fit {i}", fail if i % 3 else work, func_args=(tasks[i],)) for i in range(300)]
    queue = TaskQueue(*tasks)
    record = Record(queue)
    queue.start(executor=4)

    while queue.running:
        record.gather()
    record.gather(0)

    assert rows(record) == truth(queue)
    for number, task in enumerate(queue):
        own = [letter for _, at, letter in rows(record) if at == number]
        assert own == [look(step.new_state).letter for step in task.fsm_history]


def test_a_look_at_many_tasks_is_quick() -> None:
    """One that finds nothing new among 100,000 tasks takes less than a tenth of a second."""
    queue = TaskQueue(*(Task("load", work) for _ in range(100_000)))
    record = Record(queue)
    record.gather()

    began = time.perf_counter()
    record.gather()

    assert time.perf_counter() - began < 0.1


# -- workers -------------------------------------------------------------------------------------


def test_a_worker_is_named_as_soon_as_it_is_known() -> None:
    """In the row of an attempt's beginning, later if it must be, and in that of its end."""
    go = threading.Event()
    queue = TaskQueue(Task("load", go.wait, func_args=(LIMIT,)))
    record = Record(queue)
    queue.start()
    try:
        while not record.gather(0):
            pass
        (attempt,) = queue.tasks[0].attempts
        assert record.worker == array("H", [0])
        attempt.worker = "process 7\n"
        record.gather(0)
    finally:
        go.set()
    assert queue.wait(LIMIT)
    record.gather(0)

    assert record.workers == ["", "process 7\\n"]
    assert record.worker == array("H", [1, 1])
    assert list(record.patches) == [(0, 1)]


def test_each_attempt_has_its_own_worker() -> None:
    """Also when all of them are gathered at once."""
    task = Task("load", fail, retries=2)
    queue = TaskQueue(task)
    run(queue)
    for attempt in task.attempts:
        attempt.worker = f"worker {attempt.number}"
    record = Record(queue)
    record.gather(0)

    names = [record.workers[place] for place in record.worker]
    assert [name for name in names if name] == [f"worker {i}" for i in (1, 1, 2, 2, 3, 3)]
    assert [row[2] for row, name in zip(rows(record), names, strict=True) if not name] == ["p", "p"]


def test_threads_have_no_worker() -> None:
    """An attempt that is made here says nothing of a worker."""
    queue = diamond()
    run(queue)
    assert Attempt.worker is None
    assert {attempt.worker for task in queue for attempt in task.attempts} == {None}


def test_processes_say_who_they_are() -> None:
    """By the number of the process that made the call."""
    pytest.importorskip("pebble")
    pytest.importorskip("cloudpickle")
    import os

    queue = TaskQueue(*(Task(f"pid {i}", os.getpid) for i in range(3)))
    record = Record(queue)
    for _ in queue.run(executor="processes"):
        pass
    record.gather(0)

    assert [task.attempts[0].worker for task in queue] == [f"process {task()}" for task in queue]
    places = [
        place
        for place, letter in zip(record.worker, record.letter, strict=True)
        if letter == ord("d")
    ]
    assert {record.workers[place] for place in places} == {f"process {task()}" for task in queue}


# -- the critical path ---------------------------------------------------------------------------


def timed(*tasks: tuple[Task, float, float, str]) -> Record:
    """Return the record of tasks that began and ended when it is said."""
    queue = TaskQueue(*dict.fromkeys(task for task, *_ in tasks))
    for task, begin, end, state in tasks:
        if task._log:
            task._log += ["retry", "PENDING", begin, None]
        else:
            task._log = []
        event = "done" if state == "DONE" else "except"
        task._log += ["dispatch", "RUNNING", begin, None, event, state, end, None]
        task.fsm_state = state
    record = Record(queue)
    record.gather(0)
    return record


def test_the_critical_path_is_what_the_end_waited_for() -> None:
    """Of two prerequisites, the one that was done last decided."""
    a, b = Task("a", work), Task("b", work)
    c = Task("c", work, func_args=(a, b))
    critical = timed((a, 0, 4, "DONE"), (b, 0, 3, "DONE"), (c, 4.5, 6, "DONE")).critical()

    assert critical is not None
    assert critical.path == ((0, 1), (2, 1))
    assert (critical.seconds, critical.of) == (5.5, 5.5)


def test_the_critical_path_takes_the_attempts_that_counted() -> None:
    """A failed attempt is not waited for; what ran again later was not either."""
    a, b = Task("a", work), Task("b", work)
    c = Task("c", work, func_args=(a, b))
    critical = timed(
        (a, 0, 1, "FAILED"), (a, 2, 3, "DONE"), (b, 0, 2, "DONE"), (b, 3.5, 3.8, "DONE"),
        (c, 3, 5, "FAILED"), (c, 10, 11, "DONE"),
    ).critical()  # fmt: skip

    assert critical is not None
    assert critical.path == ((1, 2), (2, 2))
    assert critical.seconds == pytest.approx(1.3)
    assert critical.of == pytest.approx(6.0)


def test_without_an_attempt_there_is_no_critical_path() -> None:
    """Nothing has run, or nothing has ended."""
    record = Record(diamond())
    record.gather(0)
    assert record.critical() is None


@given(st.data())
def test_a_critical_path_is_a_chain_of_prerequisites(data: st.DataObject) -> None:
    """Each begins when the one before it is done; together they take no more than the whole."""
    drawn = random.Random(data.draw(st.integers(0, 10**6)))
    tasks: list[Task] = []
    for i in range(data.draw(st.integers(1, 12))):
        before = drawn.sample(tasks, k=drawn.randint(0, min(3, len(tasks))))
        tasks.append(Task(f"t{i}", work, func_args=tuple(before)))
    queue = TaskQueue(*tasks)
    run(queue)
    record = Record(queue)
    record.gather(0)

    critical = record.critical()

    assert critical is not None
    path = [queue.tasks[number] for number, _ in critical.path]
    for one, other in itertools.pairwise(path):
        assert one in other.required
        assert one.attempts[0].ended <= other.attempts[0].started  # type: ignore[operator]
    assert not path[0].required
    assert path[-1].attempts[0].ended == max(task.attempts[0].ended or 0 for task in tasks)
    assert critical.seconds <= critical.of + 1e-9


def test_the_critical_path_of_a_long_chain_needs_no_recursion() -> None:
    """20,000 tasks after one another."""
    tasks = [Task("t0", work)]
    for i in range(1, 20_000):
        tasks.append(Task(f"t{i}", work))
        tasks[-1].require(tasks[-2])
    queue = TaskQueue(*tasks)
    run(queue)
    record = Record(queue)
    record.gather(0)

    critical = record.critical()

    assert critical is not None
    assert len(critical.path) == 20_000


# -- messages ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        {"from": -2}, {"from": 1 << 32}, {"from": True}, {"from": "0"}, {"from": 0.0},
        {"from": None}, {"view": 3}, {"view": "x" * 81}, {"names": [4]}, {"names": [-1]},
        {"names": ["0"]}, {"names": {}}, {"names": [0] * 501}, {"task": 0}, {"run": True},
    ],
)  # fmt: skip
def test_a_wrong_request_is_refused(wrong: dict[str, Any]) -> None:
    """In a sentence; the record is the page's business only as far as it has rows and tasks."""
    with pytest.raises(RefusedError, match=r"^.{10,200}\.$"):
        read({"verb": "record", "from": 0, "view": "a", **wrong}, tasks=4)


def test_a_request_is_understood() -> None:
    """A page says from which row on it wants them, who it is, and which names it lacks."""
    command = read({"verb": "record", "from": 7, "view": "a", "names": [3, 0]}, tasks=4)
    assert (command.start, command.view, command.names) == (7, "a", (3, 0))
    assert read({"verb": "record", "from": -1}, tasks=4).start == -1


class Wire:
    """A recorder, and a page at the other end that puts together what it is sent."""

    def __init__(self, queue: TaskQueue, *, idle_since: float = 0.0) -> None:
        self.queue, self.idle_since = queue, idle_since
        self.marks = 0
        self.recorder = Recorder(queue, self._mark, lambda: self.idle_since, _at_of)
        self.sent: list[tuple[dict[str, Any], list[bytes]]] = []
        self.laid: Any = None

    def _mark(self) -> None:
        self.marks += 1

    def send(self, content: dict[str, Any], buffers: list[bytes]) -> None:
        """Take a message."""
        self.sent.append((content, buffers))

    def ask(self, start: int, view: str = "a", *names: int) -> None:
        """Say what a page wants."""
        self.recorder.hear(Command("", "record", start=start, view=view, names=names))

    def see(self) -> list[float]:
        """Flush once."""
        return self.recorder.see(self.laid, self.send)

    def rest(self) -> None:
        """Flush as the pump would, until nothing is left to be done."""
        end = time.monotonic() + LIMIT
        pause = threading.Event()
        quiet = 0
        while quiet < 3:  # a look that has just ended is heard of by the next flush
            again, busy = self.see(), self.recorder._gathering or self.recorder._changed.yes
            quiet = 0 if again or busy else quiet + 1
            assert time.monotonic() < end, "the recorder does not come to rest"
            pause.wait(0.002)

    def of(self, key: str) -> list[tuple[dict[str, Any], list[bytes]]]:
        """Return the messages that say something."""
        return [message for message in self.sent if key in message[0]]

    def rows(self) -> list[tuple[float, int, str, int]]:
        """Return the rows that were sent, each once."""
        found: dict[int, tuple[float, int, str, int]] = {}
        for content, (when, task, letter, worker) in self.of("count"):
            count = content["count"]
            assert [len(part) for part in (when, task, letter, worker)] == [
                8 * count, 4 * count, count, 2 * count
            ]  # fmt: skip
            each = zip(
                struct.unpack(f"<{count}d", when), struct.unpack(f"<{count}I", task),
                letter.decode(), struct.unpack(f"<{count}H", worker), strict=True,
            )  # fmt: skip
            found.update(enumerate(each, content["from"]))
        assert list(found) == sorted(found)
        return list(found.values())


@pytest.fixture(autouse=True)
def in_a_hurry(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Leave out the waits, but where they are what is tested."""
    if "patient" not in request.fixturenames:
        for name in ("_CHUNK_GAP", "_GATHER_GAP", "_SETTLING"):
            monkeypatch.setattr(recording, name, 0.001)
        monkeypatch.setattr(Record.gather, "__defaults__", (0.0,))


@pytest.fixture
def patient() -> None:
    """Keep the waits."""


def test_nothing_is_done_for_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as no page shows the record, nothing is gathered, and the queue has no listener."""
    gathered: list[object] = []
    monkeypatch.setattr(Record, "gather", gathered.append)
    queue = diamond()
    wire = Wire(queue)
    run(queue)

    assert wire.see() == []
    assert (wire.sent, gathered, queue._watchers) == ([], [], ())


def test_a_page_gets_what_it_lacks() -> None:
    """From the row on that it asks for, in messages of plain columns."""
    queue = diamond()
    run(queue)
    wire = Wire(queue)
    wire.ask(0)
    wire.rest()
    assert [row[:3] for row in wire.rows()] == truth(queue)
    assert wire.of("count")[-1][0]["total"] == len(truth(queue))

    wire.sent.clear()
    wire.ask(3)
    wire.rest()

    assert [content["from"] for content, _ in wire.of("count")] == [3]
    assert [row[:3] for row in wire.rows()] == truth(queue)[3:]


def test_a_page_that_has_everything_is_told_so() -> None:
    """It may be the first one of a queue that has not run."""
    wire = Wire(diamond())
    wire.ask(0)
    wire.rest()
    assert [(c["from"], c["count"], c["total"]) for c, _ in wire.of("count")][-1] == (0, 0, 0)


def test_new_rows_follow_by_themselves() -> None:
    """As long as the page is there; then no more."""
    queue = diamond()
    wire = Wire(queue)
    wire.ask(0)
    wire.rest()
    run(queue)
    wire.rest()
    assert [row[:3] for row in wire.rows()] == truth(queue)

    wire.ask(-1)
    wire.sent.clear()
    queue.retry()

    assert wire.see() == []
    assert (wire.sent, queue._watchers) == ([], ())


def test_two_pages_are_served_until_the_last_one_leaves() -> None:
    """The second gets all rows, the first goes on."""
    queue = diamond()
    run(queue)
    wire = Wire(queue)
    wire.ask(0, "a")
    wire.rest()
    wire.ask(0, "b")
    wire.rest()
    assert [content["from"] for content, _ in wire.of("count")].count(0) >= 2
    wire.ask(-1, "a")

    queue.retry()
    wire.rest()

    assert wire.of("count")[-1][0]["total"] == len(truth(queue))
    wire.ask(-1, "b")
    assert wire.see() == []


def test_a_page_that_vanishes_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """When it has said nothing for a while in which it could have been heard."""
    wire = Wire(diamond())
    wire.ask(0)
    wire.rest()
    later = time.monotonic() + 1000
    monkeypatch.setattr(recording, "monotonic", lambda: later)

    wire.idle_since = math.inf  # a cell runs: it cannot be heard
    assert wire.recorder._is_wanted()
    wire.idle_since = later - 10  # it has just ended
    assert wire.recorder._is_wanted()
    wire.idle_since = later - 500
    assert not wire.recorder._is_wanted()


def test_many_rows_travel_in_many_messages(patient: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of a bounded size, and no faster than a server lets them through."""
    monkeypatch.setattr(recording, "CHUNK", 7)
    monkeypatch.setattr(recording, "_CHUNK_GAP", 0.05)
    queue = TaskQueue(*(Task(f"t{i}", work) for i in range(20)))
    run(queue)
    wire = Wire(queue)
    wire.ask(0)
    began = time.monotonic()
    wire.rest()

    assert [content["count"] for content, _ in wire.of("count") if content["count"]] == [7] * 5 + [
        5
    ]
    assert time.monotonic() - began > 0.15 - 0.01  # three at once, the others one by one


def test_a_server_lets_the_rows_through() -> None:
    """Within 3 seconds they are less than the 3 MB that it drops what is more than."""
    at_once = 1 + recording._BURST
    assert CHUNK * 15 * (at_once + 3 / CHUNK_GAP) < 2_100_000


def test_the_structure_says_where_each_task_is() -> None:
    """In which box, how it began, what it is called; again whenever the drawing is another one."""
    queue = diamond()
    queue.add(Task("given\n", work, state="DONE"))
    wire = Wire(queue)
    widget = TaskGraph(queue)
    try:
        wire.laid = widget._laid
        wire.ask(0)
        wire.rest()
        (content, (boxes, first)) = wire.of("boxes")[-1]
        assert content["boxes"] == [box["at"] for box in widget.boxes] == [*"01234"]
        assert content["tasks"] == 5
        assert content["names"]["4"] == "given\\n"
        assert content["urgency"] == "".join(look(state).letter for state in URGENCY)
        assert struct.unpack("<5I", boxes) == (0, 1, 2, 3, 4)
        assert first == b"ppppd"

        assert wire.laid is not None
        wire.laid = wire.laid._replace(boxes=wire.laid.boxes[:2])
        wire.rest()
        assert struct.unpack("<5I", wire.of("boxes")[-1][1][0]) == (0, 1, *[NOWHERE] * 3)
    finally:
        widget.close()


def test_names_are_given_on_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """On one line, cut; those of the first tasks come by themselves."""
    monkeypatch.setattr(recording, "_NAMED", 1)
    queue = TaskQueue(Task("a", work), Task("b\x1b" + "x" * 1000, work), Task("c", work))
    wire = Wire(queue)
    wire.ask(0, "a", 1)
    wire.rest()

    names = [content["names"] for content, _ in wire.of("names")]
    assert names[-1].keys() == {"1"}
    assert len(names[-1]["1"]) == 60
    assert "\x1b" not in names[-1]["1"]


def test_the_critical_path_comes_when_the_run_rests() -> None:
    """And goes when something runs again."""
    queue = diamond()
    wire = Wire(queue)
    wire.ask(0)
    wire.rest()
    assert wire.of("critical")[-1][0]["critical"] is None
    run(queue)
    wire.rest()
    content, (path,) = wire.of("critical")[-1]
    assert content["critical"]["tasks"] == 2
    assert struct.unpack("<4I", path) == (0, 1, 2, 1)

    go = threading.Event()
    queue.repair(queue.tasks[2], lambda _: go.wait(LIMIT))
    queue.start()
    try:
        while queue.tasks[2].fsm_state != "RUNNING" or wire.of("critical")[-1][0]["critical"]:
            wire.see()
    finally:
        go.set()
    assert queue.wait(LIMIT)
    wire.rest()
    assert wire.of("critical")[-1][0]["critical"]["tasks"] == 3


def test_a_worker_that_becomes_known_is_sent_on() -> None:
    """As a pair of row and worker, with the names of all."""
    go = threading.Event()
    queue = TaskQueue(Task("load", go.wait, func_args=(LIMIT,)))
    wire = Wire(queue)
    queue.start()
    try:
        wire.ask(0)
        while not wire.rows():
            wire.see()
        queue.tasks[0].attempts[0].worker = "process 9"
        queue._is_changed()
        while not any(content["patch"] for content, _ in wire.of("count")):
            wire.see()
    finally:
        go.set()
    assert queue.wait(LIMIT)
    patched = next(content for content, _ in wire.of("count") if content["patch"])
    assert patched["patch"] == [0, 1]
    assert wire.of("workers")[-1][0]["workers"] == ["", "process 9"]


# -- with the widget -----------------------------------------------------------------------------


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[TaskGraph], list[Any]]]:
    """Return a way to hear what a widget sends besides its traits."""
    made: list[TaskGraph] = []

    def listen(widget: TaskGraph) -> list[Any]:
        made.append(widget)
        found: list[Any] = []

        def publish(_kind: str, data: Any = None, buffers: Any = None, **_more: Any) -> None:
            if isinstance(data, dict) and data.get("method") == "custom":
                found.append((data["content"], buffers))

        widget.comm.publish_msg = publish
        return found

    yield listen
    for widget in made:
        widget.close()


def custom(widget: TaskGraph, content: Any) -> None:
    """Send a widget what a page sends."""
    widget._handle_msg({"content": {"data": {"method": "custom", "content": content}}})


def until(condition: Callable[[], object]) -> None:
    """Wait for what no event tells."""
    end = time.monotonic() + LIMIT
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < end
        pause.wait(0.005)


def test_a_page_asks_the_widget(sent: Callable[[TaskGraph], list[Any]]) -> None:
    """And gets rows, boxes and the critical path, while the queue runs and after it."""
    queue = diamond()
    widget = TaskGraph(queue)
    heard = sent(widget)
    custom(widget, {"verb": "record", "from": 0, "view": "a"})
    queue.start()
    assert queue.wait(LIMIT)

    until(lambda: any(c.get("total") == len(truth(queue)) for c, _ in heard))
    until(lambda: any(c.get("critical") for c, _ in heard))
    assert any("boxes" in content for content, _ in heard)
    custom(widget, {"verb": "record", "from": -1, "view": "a"})
    until(lambda: len(queue._watchers) == 1)


def test_a_widget_whose_record_was_shown_is_freed(sent: Callable[[TaskGraph], list[Any]]) -> None:
    """Once it is closed, neither the queue nor a thread keeps it."""
    queue = diamond()
    widget = TaskGraph(queue)
    custom(widget, {"verb": "record", "from": 0, "view": "a"})
    until(lambda: len(queue._watchers) == 2)
    gone = weakref.ref(widget)

    widget.close()
    del widget

    until(lambda: gc.collect() >= 0 and gone() is None)
    assert queue._watchers == ()
