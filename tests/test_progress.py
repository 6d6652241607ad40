"""How far a run is: the bar in a terminal, the line without tqdm, the view in a notebook."""

from __future__ import annotations

import io
import math
import subprocess
import sys
import threading
from collections.abc import Callable
from importlib import import_module
from typing import Any, Final

import pytest

from checks import LIMIT, Calls, build, run, wait_for
from graphs import GRAPHS, Graph, chain, fan_out
from taskqueue_nb import Task, TaskQueue, progress
from taskqueue_nb.progress import Bar
from taskqueue_nb.repair import seconds_left

pytestmark = pytest.mark.usefixtures("no_threads_left")


class Terminal(io.StringIO):
    """A text that says that it is a terminal."""

    def isatty(self) -> bool:
        """Say so."""
        return True


@pytest.fixture(params=[True, False], ids=["tqdm", "no tqdm"])
def has_tqdm(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Do with tqdm and without."""
    if not request.param:
        monkeypatch.setattr(progress, "find_spec", lambda _name: None)
    return bool(request.param)


# ------------------------------------------------------------------------------------------ the bar
@pytest.mark.parametrize("file", [io.StringIO, Terminal])
def test_run_with_progress_ends_with_how_far_it_came(
    has_tqdm: bool, file: type[io.StringIO], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Done, failed, and what brings a bar where there is none."""
    shown = file()
    monkeypatch.setattr(sys, "stderr", shown)
    calls = Calls(failing={"left"})
    queue = TaskQueue(*build(GRAPHS["diamond"], calls).values())

    assert len(list(queue.run(progress=True))) == 3

    last = shown.getvalue().rstrip().replace("\r", "\n").splitlines()[-1]
    assert "2 of 4 done, 1 failed" in last
    assert ("50%|" in last) == has_tqdm
    assert ("pip install 'taskqueue-nb[terminal]'" in last) == (
        not has_tqdm and file is not Terminal
    )
    assert not queue._watchers


def test_a_bar_watches_a_run_in_the_background_and_ends_with_it(has_tqdm: bool) -> None:
    """It looks when something has changed, in a thread of its own, which ends with the run."""
    gate, started = threading.Event(), threading.Event()
    shown = io.StringIO()

    def holds() -> None:
        started.set()
        gate.wait(LIMIT)

    queue = TaskQueue(Task(holds), Task("other", list))
    queue.start(executor=2)
    wait_for(started)
    bar = Bar(queue, shown)
    gate.set()
    assert queue.wait(LIMIT)
    bar._thread.join(LIMIT)

    assert bar.line == "2 of 2 done"
    assert not bar._thread.is_alive()
    assert not queue._watchers
    bar.close()
    assert shown.getvalue().count("2 of 2 done") >= 1


def finished(queue: TaskQueue) -> None:
    """Run a queue to its end."""
    run(queue)


def failed(queue: TaskQueue) -> None:
    """Have its first task fail, so that the others are blocked."""
    next(iter(queue)).func = math.sqrt
    run(queue)


@pytest.mark.parametrize("before", [finished, failed])
def test_a_bar_on_a_queue_with_nothing_left_to_run_ends(
    has_tqdm: bool, before: Callable[[TaskQueue], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It shows how far the queue came, and no thread waits for a run that will not come."""
    monkeypatch.setattr(sys, "stderr", shown := io.StringIO())
    queue = TaskQueue(*build(chain(2), Calls()).values())
    before(queue)

    bar = queue.progress()
    bar._thread.join(LIMIT)

    assert not bar._thread.is_alive()
    assert not queue._watchers
    assert "2 of 2 done" in shown.getvalue() or "0 of 2 done, 1 failed" in shown.getvalue()


def test_a_bar_ends_with_a_run_that_was_over_between_two_looks() -> None:
    """It need not have seen it."""
    queue = TaskQueue(Task("a", list))

    bar = Bar(queue, io.StringIO())
    run(queue)
    bar._thread.join(LIMIT)

    assert not bar._thread.is_alive()
    assert bar.line == "1 of 1 done"


def test_within_a_block_a_bar_stays_for_the_next_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Though nothing is left to run in between."""
    monkeypatch.setattr(progress, "_GAP", 0.001)
    looked = threading.Event()

    class Watched(Bar):
        """Says when it has seen that nothing is left to run."""

        def _is_idle(self) -> bool:
            if is_idle := super()._is_idle():
                looked.set()
            return is_idle

    queue = TaskQueue(Task("a", list))

    with Watched(queue, io.StringIO()) as bar:
        for _ in range(2):
            run(queue)
            wait_for(looked)
            queue.invalidate(*queue)
            looked.clear()
        assert bar._thread.is_alive()

    assert not bar._thread.is_alive()


def test_a_program_that_ends_closes_its_bar() -> None:
    """On a queue that never ran, too: the last line is whole."""
    program = (
        "from taskqueue_nb import Task, TaskQueue, progress\n"
        "progress.find_spec = lambda name: None\n"
        "bar = TaskQueue(Task('a', list)).progress()\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=LIMIT
    )

    assert done.stderr == f"0 of 1 done ({progress.HINT})\n"


def test_a_bar_shows_what_is_added_meanwhile() -> None:
    """The number of tasks is that of now."""
    queue = TaskQueue(Task("a", list))

    with Bar(queue, io.StringIO()) as bar:
        queue.add(Task("b", list))
        run(queue)

    assert bar.line == "2 of 2 done"


def test_a_transition_only_sets_a_flag() -> None:
    """However many there are, the queue is looked at now and then, not at each."""
    looks = 0

    class Counted(TaskQueue):
        """Counts how often its states are counted."""

        def counts(self) -> dict[str, int]:
            nonlocal looks
            looks += 1
            return super().counts()

    queue = Counted(*(Task(f"{i}", list) for i in range(5_000)))

    with Bar(queue, io.StringIO()):
        list(queue.run())

    assert looks < 100


def test_leaving_a_run_closes_its_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    """As an error in the body of the loop does."""
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    queue = TaskQueue(Task("a", list), Task("b", list))

    running = queue.run(progress=True)
    next(running)
    running.close()

    assert not queue._watchers
    assert not queue.running


def test_a_name_cannot_forge_a_line() -> None:
    """A queue's name goes through the same cleaning as everywhere."""
    shown = io.StringIO()

    with Bar(TaskQueue(Task("a", list), name="x\r\x1b[2Jforged\nline"), shown):
        pass

    assert "\x1b[2J" not in shown.getvalue()
    assert "\nline" not in shown.getvalue()


def test_in_a_notebook_it_is_the_live_view(monkeypatch: pytest.MonkeyPatch) -> None:
    """`progress()` returns it, and `run(progress=True)` displays the queue, without a bar."""
    displayed: list[Any] = []
    monkeypatch.setattr(progress, "_has_page", lambda: True)
    monkeypatch.setattr(TaskQueue, "_ipython_display_", lambda self: displayed.append(self))  # noqa: PLW0108 - it is bound
    queue = TaskQueue(Task("a", list))

    view = queue.progress()
    assert view is queue.widget()
    list(queue.run(progress=True))
    queue.widget().close()

    assert displayed == [queue]


def test_without_ipython_nothing_asks_for_a_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """A script does not pay for importing it."""
    monkeypatch.delitem(sys.modules, "IPython", raising=False)

    assert not progress._has_page()


# ------------------------------------------------------------------------------------ the time left
class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        """Tell the time."""
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Have every transition look at a clock that the test sets."""
    made = Clock()
    monkeypatch.setattr(import_module("taskqueue_nb.task"), "time", made)
    monkeypatch.setattr(import_module("taskqueue_nb.repair.durations"), "time", made)
    return made


def taking(clock: Clock, seconds: float) -> Any:
    """Return a function that takes some time by that clock."""

    def work(*_: object) -> None:
        clock.now += seconds

    return work


def test_nothing_is_known_before_anything_ran(clock: Clock) -> None:
    """And nothing is left once all is done."""
    queue = TaskQueue(*(Task(f"{i}", taking(clock, 2.0)) for i in range(3)))

    assert seconds_left(queue) is None
    run(queue)

    assert seconds_left(queue) == 0


def test_the_time_left_follows_from_the_same_function(clock: Clock) -> None:
    """What has run stands for what has not; an own earlier answer counts first."""
    work = taking(clock, 3.0)
    queue = TaskQueue(*(Task(f"{i}", work) for i in range(5)))

    seen = [seconds_left(queue) for _ in queue.run()]

    assert seen == [12.0, 9.0, 6.0, 3.0, 0.0]


def test_a_task_of_which_nothing_is_known_counts_as_the_mean(clock: Clock) -> None:
    """Rather than as nothing."""
    known, other = Task("known", taking(clock, 4.0)), Task("other", taking(clock, 1.0))
    queue = TaskQueue(known)
    run(queue)
    queue.invalidate(known)
    queue.add(other)

    assert seconds_left(queue) == 8.0


def test_what_runs_already_has_less_left(clock: Clock) -> None:
    """By the time since it was started."""
    task = Task("task", taking(clock, 10.0))
    queue = TaskQueue(task)
    run(queue)
    queue.invalidate(task)
    left: list[float | None] = []

    def again() -> None:
        clock.now += 4.0
        left.append(seconds_left(queue))

    task.func = again
    run(queue)

    assert left == [6.0]


SHAPES: Final[dict[str, tuple[Graph, float]]] = {
    "chain": (chain(4), 4.0),
    "blocked": ({"bad": [], "a": ["bad"], "b": []}, 1.0),
    "fan-out": (fan_out(4), 5.0),
}


@pytest.mark.parametrize(("graph", "seconds"), SHAPES.values(), ids=SHAPES)
def test_only_what_will_run_counts(clock: Clock, graph: Graph, seconds: float) -> None:
    """What is blocked by a failure does not."""
    tasks = {name: Task(name, taking(clock, 1.0)) for name in graph}
    for name, required in graph.items():
        for other in required:
            tasks[name].require(tasks[other])
    queue = TaskQueue(*tasks.values())
    run(queue)
    first = next(iter(tasks.values()))
    queue.invalidate(*(task for task in queue if task.is_done))
    if first.name == "bad":
        first.cancel()

    assert seconds_left(queue) == seconds
