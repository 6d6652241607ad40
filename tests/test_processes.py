"""Worker processes: stop means stop, a death costs one task, and nothing is left behind."""

from __future__ import annotations

import ctypes
import itertools
import multiprocessing
import os
import pickle
import random
import select
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Self

import cloudpickle
import numpy as np
import pytest

from checks import LIMIT, Background, await_state, check_settled, run, states, wait_for
from taskqueue_nb import FSMError, InjectedError, RunState, Task, TaskError, TaskQueue
from taskqueue_nb._worker import Wire, anonymous_file, withdrawn
from taskqueue_nb.capture import HEAD, TAIL
from taskqueue_nb.executors import TravelError, WorkerError
from taskqueue_nb.executors.processes import Processes, _ProcessTrip, _Worker
from taskqueue_nb.task import AHEAD, GRAPH_LOCK, Attempt

# What stands here travels by value, as what stands in a notebook does.
cloudpickle.register_pickle_by_value(sys.modules[__name__])

ROOT: Final = Path(__file__).resolve().parent.parent
PROMPT: Final = 2.0  # seconds within which a death is noticed
STOP: Final = 1.0  # seconds within which a cancelled task has ended


# -------------------------------------------------------------------------------------- helpers
def await_end(pid: int, limit: float = LIMIT) -> None:
    """Wait until a process has ended, whoever's child it is."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        ended, _, _ = select.select([descriptor], [], [], limit)
    finally:
        os.close(descriptor)
    assert ended, f"process {pid} lives on"


def children() -> set[int]:
    """Return the processes that this one has started, the dead and unburied with them."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if int(fields[1]) == os.getpid():
                found.add(int(entry.name))
    return found


@pytest.fixture(autouse=True)
def nothing_left(no_threads_left: None) -> Iterator[None]:
    """Check that no process and no open file outlives a test."""
    before, files = children(), len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - a count
    yield
    assert children() <= before, "a process is left over"
    assert len(os.listdir("/proc/self/fd")) <= files, "a file is left open"  # noqa: PTH208


class Telephone:
    """A named pipe by which a function in another process tells its numbers."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.path = str(path)
        self._descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        self._keep = os.open(path, os.O_WRONLY)  # so that no end is seen between two calls
        self._text = ""

    def hear(self) -> list[int]:
        """Wait for one line of numbers."""
        while "\n" not in self._text:
            ready, _, _ = select.select([self._descriptor], [], [], LIMIT)
            assert ready, "nobody calls"
            self._text += os.read(self._descriptor, 4096).decode()
        line, _, self._text = self._text.partition("\n")
        return [int(number) for number in line.split()]

    def close(self) -> None:
        """Hang up."""
        os.close(self._descriptor)
        os.close(self._keep)


@pytest.fixture
def telephone(tmp_path: Path, nothing_left: None) -> Iterator[Telephone]:
    """Give a way for tasks to tell their process numbers."""
    made = Telephone(tmp_path / "telephone")
    yield made
    made.close()


def tell(path: str, *numbers: int) -> None:
    """Tell numbers, in a process of a task."""
    with open(path, "w", encoding="utf-8") as pipe:  # noqa: PTH123 - a pipe
        pipe.write(" ".join(map(str, numbers)) + "\n")


def value_of(value: Any = None) -> Any:
    """Return what is given."""
    return value


def hang(path: str, how: str = "") -> None:
    """Tell the process number, and never end by itself."""
    child = subprocess.Popen(["sleep", "1000"])
    if how == "deaf":
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
    tell(path, os.getpid(), child.pid)
    if how == "in C":
        ctypes.PyDLL(None).sleep(1000)  # keeps the interpreter's lock
    while True:
        time.sleep(1000)


# ------------------------------------------------------------------------------ a user's own code
SCRIPT = """
from taskqueue_nb import Task, TaskQueue

factor = 2

class Box:
    def __init__(self, content):
        self.content = content * factor
    def __eq__(self, other):
        return type(other) is Box and other.content == self.content

def boxed(content):
    return Box(content)

def adder(more):
    return lambda content: content + more

first = Task("first", boxed, func_args=(3,))
second = Task("second", lambda box: box.content, func_args=(first,))
third = Task("third", adder(100), func_args=(second,))
queue = TaskQueue(first, second, third, executor="processes:2")
print([task.name for task in queue.run()], first.result() == Box(3), third.result())

def boxed(content):  # written again, as one does
    return "another"

factor = 5
queue.invalidate(first)
queue.repair(first, func=boxed)
queue.repair(second, func=len)
print([task.name for task in queue.run()], first.result(), second.result(), third.result())
"""


@pytest.mark.parametrize("way", ["-c", "file"])
def test_what_stands_in_main_works(tmp_path: Path, way: str) -> None:
    """Functions, classes, lambdas and closures of `__main__` run elsewhere; new ones replace old.

    The script has no `if __name__ == "__main__"`, and is not run again by the workers.
    """
    (tmp_path / "script.py").write_text(SCRIPT)
    command = ["script.py"] if way == "file" else ["-c", SCRIPT]

    done = subprocess.run(
        [sys.executable, *command], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip

    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "['first', 'second', 'third'] True 106",
        "['first', 'second', 'third'] another 7 107",
    ]


def test_each_run_has_workers_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module, a folder or a variable that changed between two runs is seen by the next."""
    module = tmp_path / "helper_of_mine.py"
    module.write_text("NUMBER = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")

    def look() -> tuple[int, int, str]:
        import helper_of_mine  # type: ignore[import-not-found]  # written just now

        return os.getpid(), helper_of_mine.NUMBER, os.getcwd()  # noqa: PTH109 - what it is about

    tasks = [Task(f"look{i}", look) for i in range(3)]
    queue = TaskQueue(*tasks, executor="processes:1")
    run(queue)
    first = {task.result() for task in tasks}
    module.write_text("NUMBER = 22\n")
    monkeypatch.chdir(tmp_path)
    queue.invalidate(*tasks)
    run(queue)
    second = {task.result() for task in tasks}

    assert len(first) == len(second) == 1  # one worker served the whole run
    ((pid, number, _),) = first
    ((other_pid, other_number, folder),) = second
    assert (number, other_number, folder) == (1, 22, str(tmp_path))
    assert pid != other_pid
    assert os.getpid() not in (pid, other_pid)


def test_worker_is_started_only_for_a_task() -> None:
    """A small queue starts few processes, a long one no more than asked."""
    few = TaskQueue(*(Task(f"t{i}", os.getpid) for i in range(2)), executor="processes:16")
    many = TaskQueue(*(Task(f"t{i}", os.getpid) for i in range(40)), executor="processes:3")

    run(few)
    run(many)

    assert len({task.result() for task in few}) <= 2
    assert len({task.result() for task in many}) <= 3


def test_task_may_use_processes_itself() -> None:
    """A worker may have children, and they end with it."""

    def nested() -> bool:
        from concurrent.futures import ProcessPoolExecutor

        with ProcessPoolExecutor(1) as pool:
            return pool.submit(os.getpid).result(LIMIT) != os.getpid()

    task = Task("nested", nested)

    run(TaskQueue(task), executor="processes:1")

    assert task.result() is True


def test_queue_inside_a_task(telephone: Telephone) -> None:
    """A task may run a queue in processes of its own; when it is ended, those end with it."""

    def inner(path: str) -> list[int]:
        from taskqueue_nb import Task, TaskQueue

        tasks = [Task(f"t{i}", value_of, func_args=(i,)) for i in range(3)]
        list(TaskQueue(*tasks).run(executor="processes:2"))
        stuck = Task("stuck", hang, func_args=(path,))
        list(TaskQueue(stuck).run(executor="processes:1"))
        return [task.result() for task in tasks]

    outer = Task("outer", inner, func_args=(telephone.path,))
    queue = TaskQueue(outer).start(executor="processes:1")
    pids = telephone.hear()

    outer.cancel()

    assert queue.wait(LIMIT)
    for pid in pids:
        await_end(pid, 5)


# ----------------------------------------------------------------------------------- stop is stop
@pytest.mark.parametrize(
    ("verb", "how"),
    [
        ("task.cancel", ""),
        ("task.cancel", "deaf"),
        ("task.cancel", "in C"),
        ("queue.cancel", ""),
        ("queue.stop", ""),
        ("timeout", ""),
        ("timeout", "in C"),
    ],
)
def test_stop_ends_the_process(telephone: Telephone, verb: str, how: str) -> None:
    """Cancel, stop and timeout end the process and what it has started; the others go on."""
    limit = 0.5 if verb == "timeout" else None
    stuck = Task("stuck", hang, func_args=(telephone.path, how), timeout=limit)
    others = [Task(f"t{i}", value_of, func_args=(i,)) for i in range(10)]
    queue = TaskQueue(stuck, *others).start(executor="processes:2")
    pids = telephone.hear()

    begin = time.monotonic()
    if verb == "task.cancel":
        stuck.cancel()
    elif verb == "queue.cancel":
        queue.cancel(stuck)
    elif verb == "queue.stop":
        queue.stop(cancel=True)
    await_state(stuck, "CANCELLED", "FAILED", limit=(limit or 0) + STOP)
    taken = time.monotonic() - begin
    for pid in pids:
        await_end(pid, STOP)

    assert queue.wait(LIMIT)
    assert taken < (limit or 0) + STOP
    assert stuck.fsm_state == ("FAILED" if limit else "CANCELLED")
    if limit:
        assert isinstance(stuck.exception, TimeoutError)
        assert "0.5 s; the process was ended" in str(stuck.exception)
    if verb != "queue.stop":
        assert all(other.is_done for other in others)
    check_settled(queue)
    queue.repair(stuck, func=value_of, args=(5,))
    run(queue, executor="processes:2")
    assert stuck.result() == 5


def test_stop_finishes_what_runs(telephone: Telephone, tmp_path: Path) -> None:
    """Without `cancel=True` a process may finish its call."""
    gate = tmp_path / "gate"
    os.mkfifo(gate)

    def work(path: str, gate: str) -> str:
        tell(path, os.getpid())
        return Path(gate).read_text(encoding="utf-8")

    working = Task("working", work, func_args=(telephone.path, str(gate)))
    queue = TaskQueue(working, working.then("after", value_of)).start(executor="processes:1")
    telephone.hear()

    queue.stop()
    assert not queue.wait(0.05)
    gate.write_text("finished")

    assert queue.wait(LIMIT)
    assert working.result() == "finished"
    assert states(queue) == {"working": "DONE", "after": "PENDING"}


def test_run_state_ends_a_run_of_processes(telephone: Telephone) -> None:
    """`runstate.cancel()` starts nothing more; what runs is ended by a cancel."""
    state = RunState()
    stuck = Task("stuck", hang, func_args=(telephone.path,))
    queue = TaskQueue(stuck, stuck.then("after", value_of))
    queue.start(runstate=state, executor="processes:1")
    telephone.hear()

    state.cancel()
    stuck.cancel()

    assert queue.wait(LIMIT)
    assert states(queue) == {"stuck": "CANCELLED", "after": "PENDING"}


def test_cancel_while_the_process_is_starting() -> None:
    """A task that is cancelled before its process is up never runs, or is ended."""
    for _ in range(5):
        tasks = [Task(f"t{i}", time.sleep, func_args=(1000,)) for i in range(2)]
        queue = TaskQueue(*tasks).start(executor="processes:2")
        await_state(tasks[0], "RUNNING")

        queue.stop(cancel=True)

        assert queue.wait(LIMIT)
        assert {task.fsm_state for task in tasks} <= {"CANCELLED", "PENDING"}
        check_settled(queue)


def test_interrupt_of_the_caller_ends_the_processes(telephone: Telephone) -> None:
    """Ctrl-C comes out of `run`, the task is CANCELLED, its process gone, a retry completes."""
    stuck = Task("stuck", hang, func_args=(telephone.path,))
    queue = TaskQueue(stuck, Task("other", value_of))
    pids: list[int] = []

    def press() -> None:
        pids.extend(telephone.hear())
        os.kill(os.getpid(), signal.SIGINT)

    pressing = Background(press)
    with pytest.raises(KeyboardInterrupt):
        run(queue, executor="processes:2")
    pressing.join()

    for pid in pids:
        await_end(pid, STOP)
    assert stuck.is_cancelled
    check_settled(queue)
    queue.repair(stuck, func=value_of, args=())
    queue.retry()
    run(queue, executor="processes:2")
    assert queue.counts() == {"DONE": 2}


def test_generator_that_is_left_finishes_what_runs() -> None:
    """Who leaves the loop early leaves no process."""
    queue = TaskQueue(*(Task(f"t{i}", value_of) for i in range(20)))

    for _ in queue.run(executor="processes:2"):
        break

    check_settled(queue)
    assert queue.counts()["DONE"] >= 1
    run(queue, executor="processes:2")
    assert queue.counts() == {"DONE": 20}


# ---------------------------------------------------------------------------------------- deaths
def kill_itself() -> None:
    """Die as if the system killed it."""
    print("last words")
    os.kill(os.getpid(), signal.SIGKILL)


def crash() -> None:
    """Read where nothing is."""
    print("last words")
    ctypes.string_at(0)


def leave(code: int) -> None:
    """End without a word to Python."""
    print("last words")
    os._exit(code)


def abort() -> None:
    """End as a C library does that has lost its head."""
    print("last words")
    os.abort()


def close_everything() -> None:
    """Cut every connection."""
    print("last words")
    os.closerange(3, 1000)
    time.sleep(1000)


DEATHS: Final[dict[str, tuple[Callable[..., None], tuple[Any, ...], str]]] = {
    "SIGKILL": (kill_itself, (), "was killed by SIGKILL (signal 9)"),
    "segfault": (crash, (), "was killed by SIGSEGV (signal 11)"),
    "abort": (abort, (), "was killed by SIGABRT (signal 6)"),
    "exit 3": (leave, (3,), "ended with exit code 3"),
    "exit 0": (leave, (0,), "ended with exit code 0"),
    "cut off": (close_everything, (), "was killed by SIGKILL"),  # by its own watch
}


@pytest.mark.parametrize(("func", "args", "words"), DEATHS.values(), ids=DEATHS)
def test_death_costs_one_task(
    telephone: Telephone, func: Callable[..., None], args: tuple[Any, ...], words: str
) -> None:
    """The task whose process dies is FAILED soon and says how; its neighbours are not touched."""

    def neighbour(path: str) -> int:
        tell(path, os.getpid())
        time.sleep(0.5)
        return os.getpid()

    innocent = Task("innocent", neighbour, func_args=(telephone.path,))
    bad = Task("bad", func, func_args=args)
    bad.require(starter := Task("starter", telephone.hear, executor=1))
    after = [Task(f"after{i}", value_of, func_args=(i,)) for i in range(3)]
    for each in after:
        bad.block(each)
    more = [Task(f"more{i}", value_of, func_args=(i,)) for i in range(3)]
    queue = TaskQueue(innocent, starter, bad, *after, *more)

    run(queue, executor="processes:2")

    assert bad.is_failed
    assert isinstance(bad.exception, WorkerError)
    assert str(bad.exception).startswith(f"the process of task 'bad' {words}")
    (attempt,) = bad.attempts
    assert attempt.started is not None
    assert attempt.ended is not None
    assert attempt.ended - attempt.started < PROMPT
    assert bad.output == "last words\n"
    assert innocent.is_done
    assert all(each.is_done for each in more)
    assert all(each.is_pending for each in after)
    check_settled(queue)
    queue.repair(bad, func=value_of, args=())
    run(queue, executor="processes:2")
    assert queue.counts() == {"DONE": len(queue)}


def test_crash_shows_the_line() -> None:
    """A crash of the interpreter names the user's line, as far as Python could say it."""
    bad = Task("bad", crash)

    run(TaskQueue(bad), executor="processes:1")

    text = bad.attempts[-1].error_text or ""
    assert "Segmentation fault" in text
    assert "in crash" in text
    assert "taskqueue_nb/_worker.py" not in text


def test_exit_code_is_a_field() -> None:
    """The code is there for programs, and survives pickling in words."""
    bad = Task("bad", leave, func_args=(7,))

    run(TaskQueue(bad), executor="processes:1")

    assert isinstance(bad.exception, WorkerError)
    assert bad.exception.exitcode == 7
    again = pickle.loads(pickle.dumps(bad.exception))  # noqa: S301 - our own bytes
    assert str(again) == str(bad.exception)


def test_memory_that_is_not_there_fails_its_task() -> None:
    """A function that asks for more memory than it may have fails alone."""

    def greedy() -> int:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (2**31, 2**31))
        return len(bytearray(2**33))

    bad, good = Task("bad", greedy), Task("good", value_of)

    run(TaskQueue(bad, good), executor="processes:1")

    assert isinstance(bad.exception, MemoryError)
    assert good.is_done


def test_idle_worker_that_dies_costs_nothing() -> None:
    """Workers that are killed between two tasks are replaced, and no task fails."""

    def kill_workers() -> None:
        for pid in children() - before:
            os.kill(pid, signal.SIGKILL)

    before = children()
    queue, last = TaskQueue(), None
    for i in range(8):
        pair = [Task(f"t{i}{side}", time.sleep, func_args=(0.01,)) for side in "ab"]
        kill = Task(f"kill{i}", kill_workers, executor=1)
        for task in pair:
            kill.require(task)
            if last is not None:
                task.require(last)
        queue.add(*pair, last := kill)

    run(queue, executor="processes:2")

    assert queue.counts() == {"DONE": 24}
    assert all(len(task.attempts) == 1 for task in queue)


def test_call_that_finds_dead_workers_is_made_by_a_living_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A worker that has served and died idle costs nothing, however many of them do."""
    workers = 3
    doomed: list[_Worker] = []
    submit = _Worker.submit

    def submit_to_a_dying_one(self: _Worker, trip: Any) -> None:
        if trip.task is last and len(doomed) < workers and self not in doomed:
            doomed.append(self)
            pid: Any = self._context.process.pid  # type: ignore[union-attr]  # it is up
            os.kill(pid, signal.SIGKILL)
            await_end(pid)
        submit(self, trip)

    last = Task("last", value_of, func_args=(5,))
    firsts = [Task(f"t{i}", time.sleep, func_args=(0.3,)) for i in range(workers)]
    for task in firsts:
        last.require(task)
    monkeypatch.setattr(_Worker, "submit", submit_to_a_dying_one)

    run(TaskQueue(*firsts, last), executor=f"processes:{workers}")

    assert len(doomed) == workers
    assert last.result() == 5
    assert len(last.attempts) == 1


# --------------------------------------------------------------------- one task after the other
def test_workers_go_on_while_nobody_takes_what_is_done() -> None:
    """Who is slow to take a task from `run` holds no worker up."""
    tasks = [Task(f"t{i}", value_of, func_args=(i,)) for i in range(20)]
    queue = TaskQueue(*tasks)
    complete = threading.Event()
    queue.on_change(lambda: complete.set() if all(task.is_done for task in tasks) else None)
    running = queue.run(executor="processes:1")

    first = next(running)
    wait_for(complete, "the tasks behind the first")

    assert first is tasks[0]
    assert [first, *running] == tasks


@pytest.mark.parametrize("verb", ["stop", "hold"])
def test_nothing_is_sent_after_a_stop(verb: str) -> None:
    """A worker that has just answered gets no further task once the run is stopped or held."""
    tasks = [Task(f"t{i}", value_of, func_args=(i,)) for i in range(5)]
    queue = TaskQueue(*tasks, executor="processes:1")
    tasks[1].fsm_callback("DONE", lambda *_: getattr(queue, verb)())

    run(queue)

    assert queue.counts() == {"PENDING": 3, "DONE": 2}
    queue.resume()
    run(queue)
    assert queue.counts() == {"DONE": 5}


def test_run_once_and_failing_fast_send_no_second_task() -> None:
    """`once=True` runs one task, `fail_fast=True` none behind a failure."""
    tasks = [Task(f"t{i}", value_of, func_args=(i,)) for i in range(3)]
    queue = TaskQueue(*tasks, executor="processes:1")

    assert list(queue.run(once=True)) == tasks[:1]
    queue.repair(tasks[1], func=threading.Lock, args=())
    assert list(queue.run(fail_fast=True)) == tasks[1:2]

    assert states(queue) == {"t0": "DONE", "t1": "FAILED", "t2": "PENDING"}


def test_tasks_for_other_places_take_their_turn() -> None:
    """A task that a worker's thread finds ready goes where it belongs, and so do the next."""
    home = os.getpid()
    tasks = [
        Task(
            f"t{i}",
            os.getpid,
            executor=1 if i % 3 == 1 else None,
            uses={"gpu": 1} if i % 2 else None,
        )
        for i in range(30)
    ]
    queue = TaskQueue(*tasks, executor="processes:2", limits={"gpu": 1})

    run(queue)

    assert queue.counts() == {"DONE": 30}
    assert all((task.result() == home) == (i % 3 == 1) for i, task in enumerate(tasks))


def test_tasks_of_the_caller_are_made_by_the_caller() -> None:
    """A worker's thread that finds a task for the caller's thread leaves it to that one."""
    threads: list[Any] = []

    def here() -> None:
        threads.append(threading.current_thread())

    tasks = []
    for i in range(20):
        tasks.append(Task(f"away{i}", os.getpid, executor="processes:2"))
        tasks.append(tasks[-1].then(f"here{i}", here))
    queue = TaskQueue(*tasks)

    run(queue)

    assert queue.counts() == {"DONE": 40}
    assert threads == [threading.main_thread()] * 20


def test_many_that_cannot_be_sent_end_one_after_the_other() -> None:
    """Each fails by itself; none is sent by the one before it, deeper and deeper."""
    lock = threading.Lock()
    tasks = [Task("bad", value_of, func_args=(lock,)) for _ in range(2 * sys.getrecursionlimit())]
    queue = TaskQueue(Task("good", value_of), *tasks, Task("last", value_of))

    run(queue, executor="processes:1")

    assert queue.counts() == {"DONE": 2, "FAILED": len(tasks)}


# ------------------------------------------------------------------- what waits behind another call
class Line:
    """A task that ends when it is told to, and one that waits in its worker to come next.

    They come after short ones, as nothing waits in a worker that has not proved quick.
    """

    def __init__(self, folder: Path, workers: int = 1, **options: Any) -> None:
        self.telephone, self._gate, self.calls = Telephone(folder / "line"), folder / "gate", 0
        self._record = folder / "record"
        os.mkfifo(self._gate)

        def wait(path: str, gate: str) -> str:
            tell(path, os.getpid())
            return Path(gate).read_text(encoding="utf-8")

        def note(record: str, value: Any = None) -> tuple[int, Any]:
            with open(record, "a", encoding="utf-8") as file:  # noqa: PTH123 - as above
                file.write("called\n")
            return os.getpid(), value

        paths = (self.telephone.path, str(self._gate))
        self.warm = [Task(f"warm{i}", value_of) for i in range(2 * workers)]
        self.first = Task("first", wait, func_args=paths, **options)
        self.second = Task("second", note, func_args=(str(self._record),))
        self.queue = TaskQueue(*self.warm, self.first, self.second)
        for task in self.warm:
            self.first.require(task)
            self.second.require(task)

    def start(self, workers: int = 1, **options: Any) -> int:
        """Run until the first is being made; return the number of its process."""
        self.queue.start(executor=f"processes:{workers}", **options)
        return self.telephone.hear()[0]

    def await_waiting(self) -> None:
        """Wait until the second waits in the worker of the first; with a callback it would not."""
        wait_until(self.is_sent)

    def is_sent(self) -> bool:
        """Say whether the second has been sent to the worker."""
        return self.second in AHEAD and AHEAD[self.second].is_sent

    def open(self) -> None:
        """Let the first end."""
        self._gate.write_text("opened", encoding="utf-8")

    def called(self) -> int:
        """Say how often the second was called."""
        return self._record.read_text().count("\n") if self._record.exists() else 0

    def close(self) -> None:
        """End whatever is left."""
        self.queue.stop(cancel=True)
        assert self.queue.wait(LIMIT)
        self.telephone.close()
        assert self.second not in AHEAD


def wait_until(is_so: Callable[[], bool]) -> None:
    """Look until something is so that nobody tells."""
    due = time.monotonic() + LIMIT
    while not is_so():
        assert time.monotonic() < due, "it never came to be"
        threading.Event().wait(0.001)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every call count as a short one, behind which another may wait."""
    monkeypatch.setattr("taskqueue_nb.executors.processes._QUICK", 1000.0)


@pytest.fixture
def line(tmp_path: Path, nothing_left: None, patient: None) -> Iterator[Line]:
    """Give a task that one worker makes, and one that waits there behind it."""
    made = Line(tmp_path)
    yield made
    made.close()


def test_waiting_call_is_queued_until_its_worker_begins_it(line: Line) -> None:
    """It begins where it waited, at the moment when the one before it has ended."""
    pid = line.start()
    line.await_waiting()

    assert line.second.is_queued
    assert line.second.attempts == []
    line.open()

    assert line.queue.wait(LIMIT)
    (before,), (after,) = line.first.attempts, line.second.attempts
    assert line.second.result() == (pid, None)
    assert line.called() == 1
    assert before.ended == after.started
    when = [step.when for step in line.second.fsm_history]
    assert when == sorted(when)


def test_cancel_of_a_waiting_call_is_at_once(line: Line) -> None:
    """It is CANCELLED while the one before it runs on, and is never called."""
    line.start()
    line.await_waiting()

    line.second.cancel()

    assert line.second.is_cancelled
    assert line.first.is_running
    line.open()
    assert line.queue.wait(LIMIT)
    assert (line.called(), line.second.attempts) == (0, [])
    line.second.retry()
    run(line.queue, executor="processes:1")
    assert line.called() == 1


def test_waiting_call_that_is_to_fail_instead_is_not_made(line: Line) -> None:
    """A fault that is injected while it waits is met by that attempt, as if it had come before."""
    line.start()
    line.await_waiting()

    line.second.inject(fail="on purpose")
    line.open()

    assert line.queue.wait(LIMIT)
    assert isinstance(line.second.exception, InjectedError)
    assert "was not called" in str(line.second.exception)
    assert line.called() == 0
    assert line.first.is_done


def test_call_that_was_withdrawn_can_wait_in_the_same_worker_again(line: Line) -> None:
    """It passes over what was withdrawn, not over what comes again; so calls go to and fro."""
    line.start()
    line.await_waiting()
    trip = AHEAD[line.second]
    worker = trip.worker
    assert worker is not None

    with GRAPH_LOCK:
        assert trip.place.withdraw(trip)
        with trip.place._lock:
            worker.takes(trip)
    worker.submit(trip)
    line.open()

    assert line.queue.wait(LIMIT)
    assert line.second.is_done
    assert line.called() == 1


def test_what_waits_while_a_worker_could_be_had_is_made(line: Line) -> None:
    """Nobody tells of a worker that is free since its call was withdrawn: it is looked for."""
    line.start()
    line.await_waiting()
    trip = AHEAD[line.second]

    with GRAPH_LOCK:
        assert trip.place.withdraw(trip)
        with trip.place._lock:
            trip.place._waiting.append(trip)
            trip.place._most = 2

    await_state(line.second, "DONE")
    assert line.first.is_running
    line.open()
    assert line.queue.wait(LIMIT)
    assert line.called() == 1


@pytest.mark.parametrize("how", ["cancel", "death", "timeout"])
def test_end_of_the_call_before_costs_that_one_alone(
    tmp_path: Path, patient: None, how: str
) -> None:
    """The waiting one is made elsewhere, once."""
    line = Line(tmp_path, timeout=2 if how == "timeout" else None)
    pid = line.start()
    line.await_waiting()

    if how == "cancel":
        line.first.cancel()
    elif how == "death":
        os.kill(pid, signal.SIGKILL)

    await_state(line.second, "DONE")
    assert line.first.fsm_state == ("CANCELLED" if how == "cancel" else "FAILED")
    assert line.second.result()[0] != pid
    assert len(line.second.attempts) == line.called() == 1
    line.close()


@pytest.mark.parametrize("verb", ["stop", "hold", "runstate"])
def test_waiting_call_is_withdrawn_where_nothing_more_may_begin(line: Line, verb: str) -> None:
    """It is PENDING again, the first in its turn, and the one before it is finished."""
    state = RunState()
    line.queue.add(Task("third", value_of))
    line.queue.tasks[-1].require(line.first)
    line.start(runstate=state)
    line.await_waiting()

    {"stop": line.queue.stop, "hold": line.queue.hold, "runstate": state.cancel}[verb]()

    await_state(line.second, "PENDING")
    assert line.second not in AHEAD
    line.open()
    await_state(line.first, "DONE")
    if verb == "hold":
        assert line.called() == 0
        line.queue.resume()
    assert line.queue.wait(LIMIT)
    if verb != "hold":
        assert line.called() == 0
        assert run(line.queue) == ["second", "third"]
    assert line.called() == 1
    assert line.queue.counts() == {"DONE": 5}


def test_leaving_the_generator_withdraws_what_waits(line: Line) -> None:
    """Who leaves `run` finishes what runs, and has nothing more begun."""
    ticking = threading.Event()
    line.queue.add(tick := Task("tick", ticking.wait, func_args=(LIMIT,), executor=1))
    running = line.queue.run(executor="processes:1")
    taking = Background(lambda: [next(running) for _ in range(3)])
    line.telephone.hear()
    line.await_waiting()
    ticking.set()
    taking.join()

    leaving = Background(running.close)
    await_state(line.second, "PENDING")
    line.open()
    leaving.join()

    assert states(line.queue) == {
        "warm0": "DONE", "warm1": "DONE", "first": "DONE", "second": "PENDING", "tick": "DONE",
    }  # fmt: skip
    assert tick.is_done
    assert line.called() == 0


def test_waiting_call_goes_to_a_worker_that_is_free(tmp_path: Path, patient: None) -> None:
    """No call is held up by a long one while another worker has nothing to do."""
    line = Line(tmp_path, workers=2)
    more = [Task(f"more{i}", value_of, func_args=(i,)) for i in range(20)]
    line.queue.add(*more)
    for task in more:
        task.require(line.warm[0])

    line.start(workers=2)

    for task in (line.second, *more):
        await_state(task, "DONE")
    assert line.first.is_running
    assert line.called() == 1
    line.open()
    line.close()


def test_nothing_waits_behind_a_call_that_takes_its_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind a long one no other is sent; what went there when it was thought short comes back."""
    line = Line(tmp_path, workers=2)
    monkeypatch.setattr("taskqueue_nb.executors.processes._QUICK", 0.0)

    line.start(workers=2)
    await_state(line.second, "DONE")

    assert line.first.is_running
    line.open()
    line.close()


def test_waiting_call_whose_prerequisite_is_invalidated_comes_back(line: Line) -> None:
    """It is PENDING again, and is called with the new value, once."""
    numbers = iter(range(10))
    number = Task("number", lambda: next(numbers), executor=1)
    number.dispatch()
    line.queue.add(number)
    line.second.func_args = (*line.second.func_args, number)
    line.start()
    line.await_waiting()

    number.invalidate()

    assert line.second.is_pending
    line.open()
    assert line.queue.wait(LIMIT)
    assert line.second.result()[1] == 1
    assert line.called() == 1


def test_repair_of_a_waiting_call_is_for_its_next_attempt(line: Line) -> None:
    """The attempt says what was called, not what the task has been given meanwhile."""
    line.start()
    line.await_waiting()

    func = line.second.func
    line.second.repair(func=value_of, args=(5,))
    line.open()

    assert line.queue.wait(LIMIT)
    (attempt,) = line.second.attempts
    assert attempt.func is func
    assert line.second.result()[1] is None
    assert line.second in line.queue.stale()


def test_waiting_call_may_be_made_here_instead(line: Line) -> None:
    """Who dispatches the task makes the call, and its worker does not."""
    line.start()
    line.await_waiting()

    line.second.dispatch()

    assert line.second.result()[0] == os.getpid()
    line.open()
    assert line.queue.wait(LIMIT)
    assert line.called() == 1
    assert line.queue.counts() == {"DONE": 4}


def test_plan_to_cancel_a_waiting_call_is_what_happens(line: Line) -> None:
    """Planning alone withdraws nothing; the plan does exactly what a cancel does."""
    line.start()
    line.await_waiting()

    plan = line.queue.plan("cancel", line.second)
    assert line.second.is_queued
    plan.apply()

    assert line.second.is_cancelled
    line.open()
    assert line.queue.wait(LIMIT)
    assert line.called() == 0


@pytest.mark.parametrize("why", ["fail_fast", "limits", "callback", "waiter", "judgement"])
def test_nothing_waits_where_something_may_forbid_it(
    tmp_path: Path, patient: None, why: str
) -> None:
    """A failure, a limit or a callback of the one before decides before the next is sent."""
    judges: dict[str, Any] = {"cancel_on_result": lambda _: False} if why == "judgement" else {}
    line = Line(tmp_path, **judges)
    options: dict[str, Any] = {"fail_fast": True} if why == "fail_fast" else {}
    if why == "limits":
        options["limits"] = {"gpu": 1}
    elif why == "callback":
        line.first.fsm_callback("DONE", lambda *_: line.queue.stop())
    elif why == "waiter":
        line.first.notify(lambda _: line.queue.stop())

    line.start(**options)
    threading.Event().wait(0.05)  # for what should not happen

    assert not line.is_sent()
    line.open()
    assert line.queue.wait(LIMIT)
    assert line.second.fsm_state == ("PENDING" if why in ("callback", "waiter") else "DONE")
    line.close()


@pytest.mark.parametrize("cancelled", ["second", "first"])
def test_cancel_that_comes_too_late_costs_that_task_alone(
    line: Line, monkeypatch: pytest.MonkeyPatch, cancelled: str
) -> None:
    """A worker has begun the next call, and nobody has heard yet that the one before is answered.

    To cancel the next one ends it as one that runs, and the one before keeps its answer; to cancel
    the one before drops its answer, and the next one goes on.
    """
    gate = Path(line.telephone.path).parent / "second gate"
    os.mkfifo(gate)
    line.second.func, line.second.func_args = line.first.func, (line.telephone.path, str(gate))
    pid = line.start()
    line.await_waiting()
    deaf, hearing = threading.Event(), threading.Event()
    hear = _Worker._hear

    def hear_later(self: _Worker) -> bool:
        deaf.set()
        wait_for(hearing, "the cancel")
        return hear(self)

    monkeypatch.setattr(_Worker, "_hear", hear_later)
    wait_for(deaf, "the thread of the worker")
    line.open()
    assert line.telephone.hear()[0] == pid  # the second tells it
    assert (line.first.fsm_state, line.second.fsm_state) == ("RUNNING", "QUEUED")

    getattr(line, cancelled).cancel()
    hearing.set()
    if cancelled == "first":
        await_state(line.first, "CANCELLED")
        gate.write_text("opened too", encoding="utf-8")

    assert line.queue.wait(LIMIT)
    if cancelled == "first":
        assert (line.first.fsm_state, line.second.result()) == ("CANCELLED", "opened too")
    else:
        assert (line.first.result(), line.second.fsm_state) == ("opened", "CANCELLED")
    assert len(line.second.attempts) == 1


def test_worker_and_parent_agree_about_who_has_a_call() -> None:
    """What is withdrawn is not taken up; what is taken up is not withdrawn; who waits gives up."""
    held, path = anonymous_file()
    code = f"""
import fcntl, os, sys
from taskqueue_nb._worker import NOTES, _Notes
file = os.open({path!r}, os.O_RDWR)
os.write(file, bytes(NOTES.size))
notes = _Notes(file)
for line in sys.stdin:
    if line == "hold\\n":
        fcntl.lockf(file, fcntl.LOCK_EX, NOTES.size)
    print(line if line == "hold\\n" else notes.take_up(int(line)), flush=True)
"""
    worker = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)}, bufsize=1,
    )  # fmt: skip

    def ask(words: str) -> str:
        assert worker.stdin is not None
        assert worker.stdout is not None
        worker.stdin.write(f"{words}\n")
        return worker.stdout.readline().strip()

    try:
        assert ask("1") == "True"
        assert withdrawn(held.descriptor, 1, 1) is False
        assert withdrawn(held.descriptor, 2, 1) is True
        assert ask("2") == "False"
        assert ask("3") == "True"
        assert withdrawn(held.descriptor, 3, 1) is False
        ask("hold")
        assert withdrawn(held.descriptor, 4, 0.01) is None
    finally:
        worker.communicate(timeout=LIMIT)
        held.close()


@pytest.mark.parametrize(
    "seed", [1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 12))]
)
def test_each_call_is_made_once_whatever_happens_to_its_neighbours(
    tmp_path: Path, seed: int
) -> None:
    """Stops, holds, cancels and deaths at drawn moments among many short calls."""
    draw = random.Random(seed)
    record = tmp_path / "record"
    record.touch()

    def note(number: int) -> int:
        file = os.open(record, os.O_WRONLY | os.O_APPEND)
        os.write(file, b"%d\n" % number)
        os.close(file)
        return number

    tasks = [Task(f"t{i}", note, func_args=(i,)) for i in range(1500)]
    for i in draw.sample(range(1500), 4):
        tasks[i].repair(func=kill_itself, args=())
    queue = TaskQueue(*tasks)
    before = children()
    queue.start(executor="processes:3")
    for _ in range(40):
        threading.Event().wait(draw.random() * 0.01)
        what = draw.choice(["stop", "hold", "cancel", "cancel", "kill"])
        if what == "stop":
            queue.stop()
            with suppress(TaskError):  # it goes on
                queue.start(executor="processes:3")
        elif what == "hold":
            queue.hold()
            assert not AHEAD
            queue.resume()
        elif what == "kill":
            for pid in list(children() - before)[:1]:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        else:
            for task in [t for t in tasks if t.is_queued or t.is_running][:2]:
                with suppress(FSMError):
                    task.cancel()

    assert queue.wait(LIMIT)
    while queue.counts().get("PENDING"):
        run(queue, executor="processes:3")
    check_settled(queue)
    assert not AHEAD
    called = Counter(int(line) for line in record.read_text().split())
    for number, task in enumerate(tasks):
        if task.func is not kill_itself:
            count = len(task.attempts)
            assert count <= 1
            assert called[number] <= count, (number, task.fsm_history)
            assert not task.is_done or called[number] == 1


# ------------------------------------------------------------------------- functions by their name
def test_function_that_lost_its_name_is_the_one_that_was_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A function of a module goes by its name as long as that is its name."""
    (tmp_path / "named_here.py").write_text("def tell(word='first'):\n    return word\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    import named_here  # type: ignore[import-not-found]  # written just now

    given = named_here.tell

    def patch() -> None:
        given.__defaults__ = ("second",)  # which no worker finds in the module
        named_here.tell = value_of

    before, between = Task("before", given), Task("between", patch, executor=1)
    after = Task("after", given)
    between.require(before)
    after.require(between)

    run(TaskQueue(before, between, after), executor="processes:1")

    assert (before.result(), after.result()) == ("first", "second")


def test_globals_of_a_function_are_those_of_the_moment() -> None:
    """What travels by value is packed for each call: nothing of an earlier one is kept."""
    space = {"number": 1}
    exec("def look():\n    return number\n", space)  # noqa: S102 - globals of its own
    look: Any = space["look"]

    def change() -> None:
        space["number"] = 2

    before, between = Task("before", look), Task("between", change, executor=1)
    after = Task("after", look)
    between.require(before)
    after.require(between)

    run(TaskQueue(before, between, after), executor="processes:1")

    assert (before.result(), after.result()) == (1, 2)


# -------------------------------------------------------------------------------------- the wire
@pytest.fixture(params=["timed", "polled", "connection"])
def wires(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Give both ends of a wire, in each of the ways in which it can be laid."""
    ours, theirs = multiprocessing.Pipe()
    if request.param == "polled":
        monkeypatch.setattr("taskqueue_nb._worker._has_patience", lambda *_: False)
    near, far = Wire(ours, 0.01), Wire(theirs)
    if request.param == "connection":
        near._is_file = far._is_file = False
    yield near, far, theirs
    ours.close()
    theirs.close()


def test_wire_brings_messages_whole_and_in_order(wires: Any) -> None:
    """Several that arrive together are several, one that is longer than the pipe is one."""
    near, far, _ = wires
    messages = [(0,), (1, "text", None), (2, b"x" * 10_000_000), (3, (1.5, 2.5))]

    sending = Background(lambda: [far.send(*message) for message in messages])
    received: list[Any] = []
    while len(received) < len(messages):
        if (message := near.receive()) is not None:
            received.append(message)
    sending.join()

    assert received == messages
    assert near.receive() is None


def test_wire_says_when_the_other_end_has_gone(wires: Any) -> None:
    """What was sent before is received first."""
    near, far, theirs = wires
    far.send(1)
    far.send(2)
    theirs.close()

    assert (near.receive(), near.receive()) == ((1,), (2,))
    with pytest.raises((EOFError, OSError)):
        near.receive()
    with pytest.raises(OSError, match=r"Broken pipe|closed"):
        near.send(3)


@pytest.mark.parametrize("program", ["/bin/false", "/nonexistent"])
def test_processes_that_do_not_start_fail_their_tasks(
    monkeypatch: pytest.MonkeyPatch, program: str
) -> None:
    """Where no process can be had, the tasks say so instead of waiting for ever."""
    monkeypatch.setattr("multiprocessing.spawn.get_executable", lambda: os.fsencode(program))
    queue = TaskQueue(*(Task(f"t{i}", value_of) for i in range(3)))

    run(queue, executor="processes:2")

    assert queue.counts() == {"FAILED": 3}
    for task in queue:
        assert "ended with exit code" in str(task.exception)
    check_settled(queue)
    queue.retry()
    run(queue)
    assert queue.counts() == {"DONE": 3}


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit])
def test_exits_stay_in_their_process(kind: type[BaseException]) -> None:
    """What would end or interrupt the notebook fails its task, and is not raised here."""

    def leave_by_raising() -> None:
        raise kind("over")

    bad, good = Task("bad", leave_by_raising), Task("good", value_of)

    run(TaskQueue(bad, good), executor="processes:1")

    assert states([bad, good]) == {"bad": "FAILED", "good": "DONE"}
    with pytest.raises(WorkerError, match=f"'bad' raised {kind.__name__}: over in its process"):
        bad.result()
    assert "leave_by_raising" in (bad.attempts[-1].error_text or "")


def test_function_that_forks_gives_one_result(telephone: Telephone) -> None:
    """The process that a function forks ends where the function does."""

    def fork(path: str) -> str:
        pid = os.fork()
        if pid == 0:
            return "the child's"
        tell(path, pid)
        return "the parent's"

    forking = Task("forking", fork, func_args=(telephone.path,))
    after = forking.then("after", value_of)

    run(TaskQueue(forking, after), executor="processes:1")

    await_end(*telephone.hear())
    assert forking.result() == "the parent's"
    assert after.is_done


# ------------------------------------------------------------------------------ what cannot travel
class TwoArgumentsError(Exception):
    """An exception that Python cannot unpickle."""

    def __init__(self, first: int, second: int) -> None:
        super().__init__(f"{first} and {second}")
        self.first = first


class RudeError(Exception):
    """An exception that cannot be shown."""

    def __str__(self) -> str:
        raise ValueError("no text for you")


class HomelessError(Exception):
    """An exception that cannot be built in the notebook."""

    def __new__(cls, *args: object) -> Self:
        """Make it anywhere else."""
        if os.environ.get("PYTEST_CURRENT_TEST_HOME") == str(os.getpid()):
            raise RuntimeError("not here")
        return super().__new__(cls, *args)


def fail_at_home(home: int) -> str:
    """Fail in one process alone."""
    if os.getpid() == home:
        raise ValueError("not at home")
    return "elsewhere"


class Homeless:
    """A value that can be unpickled anywhere but in the notebook."""

    def __init__(self, home: int) -> None:
        self.home = home

    def __reduce__(self) -> tuple[Any, ...]:
        return fail_at_home, (self.home,)


class Leaving:
    """A value whose unpickling wants to end the interpreter."""

    def __reduce__(self) -> tuple[Any, ...]:
        return sys.exit, (5,)


def test_exception_with_two_arguments_arrives_as_itself() -> None:
    """Its class, words and fields are there, though `__init__` cannot be called again."""

    def bad() -> None:
        raise TwoArgumentsError(1, 2)

    task = Task("bad", bad)

    run(TaskQueue(task), executor="processes:1")

    assert isinstance(task.exception, TwoArgumentsError)
    assert (str(task.exception), task.exception.first) == ("1 and 2", 1)


def test_exception_with_a_field_that_cannot_travel_arrives_without_it() -> None:
    """The class and the words are worth more than a lock."""

    def bad() -> None:
        error = KeyError("locked")
        error.add_note("look here")
        error.lock = threading.Lock()  # type: ignore[attr-defined]  # as users do
        raise error

    task = Task("bad", bad)

    run(TaskQueue(task), executor="processes:1")

    assert isinstance(task.exception, KeyError)
    assert task.exception.args == ("locked",)
    assert task.exception.__notes__ == ["look here"]
    assert not hasattr(task.exception, "lock")


def test_exception_that_cannot_be_shown_arrives() -> None:
    """A broken `__str__` harms neither the task nor the run."""

    def bad() -> None:
        raise RudeError

    task = Task("bad", bad)

    run(TaskQueue(task), executor="processes:1")

    assert isinstance(task.exception, RudeError)
    assert "RudeError" in (task.attempts[-1].error_text or "")


def test_chain_of_exceptions_is_kept_as_text() -> None:
    """`raise … from …` is shown in full, and above what `result()` raises here."""

    def bad() -> None:
        try:
            os.environ["MISSING"]
        except KeyError as error:
            raise ValueError("wrong") from error

    task = Task("bad", bad)

    run(TaskQueue(task), executor="processes:1")

    text = task.attempts[-1].error_text or ""
    assert text.index("KeyError: 'MISSING'") < text.index("ValueError: wrong")
    assert str(task.exception.__cause__).strip() == text.strip()  # type: ignore[union-attr]
    task.retry()
    run(TaskQueue(task), executor="processes:1")
    assert task.attempts[0].error_text == text


def test_exception_that_cannot_travel_says_what_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its class is named, its words are kept, and its traceback."""
    monkeypatch.setenv("PYTEST_CURRENT_TEST_HOME", str(os.getpid()))

    def bad() -> None:
        raise HomelessError("far away")

    def wrapped() -> None:
        error = ValueError(threading.Lock())
        raise error

    tasks = [Task("bad", bad), Task("wrapped", wrapped)]

    run(TaskQueue(*tasks), executor="processes:1")

    assert isinstance(tasks[0].exception, TravelError)
    assert str(tasks[0].exception) == (
        "the exception of task 'bad', a HomelessError, cannot be sent back from its process "
        "(RuntimeError: not here); it said: far away"
    )
    assert str(tasks[1].exception).startswith("the exception of task 'wrapped', a ValueError, ")
    assert "it said: <unlocked _thread.lock" in str(tasks[1].exception)
    assert "raise HomelessError" in (tasks[0].attempts[-1].error_text or "")


SENT: Final = "cannot be sent back from its process"
RESULTS: Final[dict[str, tuple[Callable[[], Any], str]]] = {
    "generator": (
        lambda: (i for i in "ab"),
        f"a generator, {SENT}: TypeError: cannot pickle 'generator' object",
    ),
    "lock": (threading.Lock, f"a lock, {SENT}: TypeError"),
    "inside": (lambda: {"deep": [1, threading.Lock()]}, f"a dict, {SENT}: TypeError"),
    "exit": (Leaving, "a Leaving, cannot be read back from its process: SystemExit: 5"),
}


@pytest.mark.parametrize(("func", "words"), RESULTS.values(), ids=RESULTS)
def test_result_that_cannot_travel_is_named(func: Callable[[], Any], words: str) -> None:
    """The task is FAILED with a sentence, and the worker takes the next one."""
    bad, good = Task("bad", func), Task("good", value_of, func_args=("fine",))

    run(TaskQueue(bad, good), executor="processes:1")

    assert isinstance(bad.exception, TravelError)
    assert str(bad.exception).startswith(f"the result of task 'bad', {words}")
    assert good.result() == "fine"
    check_settled([bad, good])


def test_result_that_cannot_be_read_here_is_named() -> None:
    """What fails to unpickle fails its task only."""
    home = os.getpid()
    bad, good = Task("bad", lambda: Homeless(home)), Task("good", value_of)

    run(TaskQueue(bad, good), executor="processes:1")

    assert str(bad.exception) == (
        "the result of task 'bad', a Homeless, cannot be read back from its process: "
        "ValueError: not at home"
    )
    assert good.is_done


def test_lambda_as_a_result_is_fine() -> None:
    """Functions travel both ways."""
    task = Task("make", lambda: lambda x: x + 1)

    run(TaskQueue(task), executor="processes:1")

    assert task.result()(1) == 2


def test_argument_that_cannot_travel_is_named() -> None:
    """By its parameter, its keyword or its number; and nothing was sent."""
    lock = threading.Lock()

    def three(first: Any, lock_of_mine: Any = None, *rest: Any, **more: Any) -> None:
        pass

    def closure() -> object:
        return lock

    cases = {
        "argument 'first'": Task("t", three, func_args=(lock,)),
        "argument 'lock_of_mine'": Task("t", three, func_args=(1, [lock])),
        "argument 'number 4'": Task("t", three, func_args=(1, 2, 3, lock)),
        "argument 'other'": Task("t", three, func_kwargs={"other": lock}),
        "the function": Task("t", closure),
    }
    good = Task("good", value_of)

    run(TaskQueue(*cases.values(), good), executor="processes:1")

    for what, task in cases.items():
        assert isinstance(task.exception, TravelError)
        assert str(task.exception) == (
            f"{what} of task 't' cannot be sent to another process: "
            "TypeError: cannot pickle '_thread.lock' object"
        )
    assert good.is_done


def test_argument_that_cannot_be_read_there_is_named() -> None:
    """Unpickling is foreign code too: it fails its task, and the worker goes on."""
    good = Task("good", os.getpid)
    tasks = [
        Task("bad", value_of, func_args=(Leaving(),)),
        Task("worse", dict, func_kwargs={"fine": 1, "box": Leaving()}),
    ]

    run(TaskQueue(*tasks, good), executor="processes:1")

    assert str(tasks[0].exception) == (
        "argument 'value' of task 'bad' cannot be read in its process: SystemExit: 5"
    )
    assert str(tasks[1].exception).startswith("argument 'box' of task 'worse' cannot be read")
    assert good.is_done


def test_hostile_names_forge_no_line() -> None:
    """Names of tasks and arguments are cleaned in every sentence."""
    name = "x\n\x1b[31mforged" + "y" * 100_000
    tasks = [
        Task(name, threading.Lock),
        Task(name, os._exit, func_args=(1,)),
        Task(name, dict, func_kwargs={"a\nb": threading.Lock()}),
        Task(name, sys.exit),
    ]

    run(TaskQueue(*tasks), executor="processes:1")

    for task in tasks:
        assert task.is_failed
        assert "\n" not in str(task.exception)
        assert "\x1b" not in str(task.exception)
        assert len(str(task.exception)) < 500


# ----------------------------------------------------------------------------------- large things
class Counted:
    """Counts how often it is pickled."""

    count = itertools.count()

    def __init__(self) -> None:
        self.times = 0

    def __reduce__(self) -> tuple[Any, ...]:
        self.times += 1
        return int, ("7",)


def test_arguments_are_pickled_once() -> None:
    """Whatever is sent is pickled a single time."""
    counted = Counted()
    task = Task("task", value_of, func_args=(counted,))

    run(TaskQueue(task), executor="processes:1")

    assert task.result() == 7
    assert counted.times == 1


@pytest.mark.parametrize("size", [10, 20_000, 3_000_000])
def test_arrays_of_any_size_travel_both_ways(size: int) -> None:
    """An array arrives equal and writable on either side; what was sent is unchanged."""
    array = np.arange(float(size))

    def change(values: Any, again: Any) -> Any:
        assert values is again  # one object stays one
        assert values.flags.writeable
        values[0] = -1.0
        return values

    first = Task("first", change, func_args=(array, array))
    second = Task("second", np.sum, func_args=(first,))

    run(TaskQueue(first, second), executor="processes:2")

    assert array[0] == 0.0
    result = first.result()
    assert result.flags.writeable
    assert result[0] == -1.0
    assert np.array_equal(result[1:], array[1:])
    assert second.result() == array.sum() - 1


def test_results_hold_no_files_open() -> None:
    """Many large results do not use up the file descriptors."""
    tasks = [Task(f"t{i}", np.zeros, func_args=(10_000,)) for i in range(50)]
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - a count

    run(TaskQueue(*tasks), executor="processes:2")

    assert all(task.result().nbytes == 80_000 for task in tasks)
    assert len(os.listdir("/proc/self/fd")) <= before  # noqa: PTH208 - as above


def test_large_things_go_by_a_temporary_file_elsewhere(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Without anonymous files a named one does it, and is removed."""
    monkeypatch.delattr(os, "memfd_create")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    task = Task("task", np.sum, func_args=(np.ones(100_000),))

    run(TaskQueue(task), executor="processes:1")

    assert task.result() == 100_000
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------------------------ what is said
def test_long_output_keeps_its_head_and_tail() -> None:
    """Millions of characters arrive as a beginning and an end; the cut is said once, exactly."""
    lines = 200_000

    def talk(lines: int) -> None:
        for i in range(lines):
            print(f"line {i:6}")

    task = Task("talk", talk, func_args=(lines,))

    queue = TaskQueue(task).start(executor="processes:1")

    assert queue.wait(LIMIT)
    dropped = lines * 12 - HEAD - TAIL
    assert task.output.startswith("line      0\n")
    assert task.output.endswith(f"line {lines - 1:6}\n")
    assert f"\n… {dropped:,} characters dropped …\n" in task.output
    assert task.output.count("dropped") == 1
    assert len(task.output) < HEAD + TAIL + 100


def test_output_and_progress_are_seen_meanwhile(telephone: Telephone) -> None:
    """What a task says is there while it runs, also what it says last before it is silent."""

    def work(path: str) -> None:
        current = Task.current()
        assert current is not None
        for i in range(50):
            print(f"step {i}")
            current.progress(i + 1, 50)
        tell(path, os.getpid())
        time.sleep(1000)

    task = Task("task", work, func_args=(telephone.path,))
    queue = TaskQueue(task)
    complete = threading.Event()
    queue.on_change(lambda: complete.set() if task.progressed == (50, 50) else None)
    queue.start(executor="processes:1")
    telephone.hear()

    wait_for(complete, "the last report")

    assert task.is_running
    assert task.output == "".join(f"step {i}\n" for i in range(50))
    task.cancel()
    assert queue.wait(LIMIT)
    assert task.output.endswith("step 49\n")


def test_lines_are_shown_whole(capsys: pytest.CaptureFixture[str], telephone: Telephone) -> None:
    """What another task prints in the middle of a line does not stand in the middle of it."""

    def slow(path: str, gate: str) -> None:
        print("first half, ", end="", flush=True)
        tell(path, os.getpid())
        Path(gate).read_text(encoding="utf-8")
        print("second half\nprogress\rno end", end="", flush=True)

    gate = Path(telephone.path).parent / "gate"
    os.mkfifo(gate)
    halves = Task("halves", slow, func_args=(telephone.path, str(gate)))
    other = Task("other", print, func_args=("a line",))
    queue = TaskQueue(halves, other).start(executor="processes:2", echo=True)
    telephone.hear()
    await_state(other, "DONE")
    wait_until(lambda: halves.output == "first half, ")
    before = capsys.readouterr().out

    gate.write_text("opened", encoding="utf-8")

    assert queue.wait(LIMIT)
    assert before == "a line\n"
    assert capsys.readouterr().out == "first half, second half\nprogress\rno end"
    assert halves.output == "first half, second half\nprogress\rno end"


def test_beginning_of_a_very_long_line_is_shown(
    capsys: pytest.CaptureFixture[str], telephone: Telephone
) -> None:
    """Nothing is held back without bounds."""
    shown: list[str] = []

    def long(path: str) -> None:
        print("x" * 15_000, end="", flush=True)
        hang(path)

    def is_shown() -> bool:
        shown.append(capsys.readouterr().out)
        return len("".join(shown)) == 15_000

    task = Task("long", long, func_args=(telephone.path,))
    queue = TaskQueue(task).start(executor="processes:1", echo=True)

    wait_until(is_shown)

    assert task.is_running
    telephone.hear()
    task.cancel()
    assert queue.wait(LIMIT)


def test_warnings_and_logs_of_a_task_are_kept() -> None:
    """What goes to standard error is part of the output: warnings, and logs from WARNING on."""

    def work() -> None:
        import logging
        import warnings

        warnings.warn("take care", stacklevel=1)
        logging.getLogger("mine").warning("logged")
        thread = threading.Thread(target=print, args=("from a thread",))
        thread.start()
        thread.join()

    task = Task("task", work)

    run(TaskQueue(task), executor="processes:1")

    assert "UserWarning: take care" in task.output
    assert "logged\n" in task.output
    assert "from a thread\n" in task.output


# ------------------------------------------------------------------------- the end of the notebook
ENDS: Final[dict[str, str]] = {
    "normal exit": "",
    "exception": "raise RuntimeError('over')",
    "sys.exit": "sys.exit(3)",
    "os._exit": "os._exit(0)",
    "SIGTERM": "os.kill(os.getpid(), signal.SIGTERM)",
    "SIGKILL": "os.kill(os.getpid(), signal.SIGKILL)",
    "segfault": "import ctypes; ctypes.string_at(0)",
}


@pytest.mark.parametrize(
    ("end", "how"),
    [
        *((end, "") for end in ENDS),
        ("normal exit", "deaf"),
        ("normal exit", "in C"),
        ("SIGKILL", "deaf"),
        ("SIGKILL", "in C"),
    ],
)
def test_workers_end_with_the_notebook(telephone: Telephone, end: str, how: str) -> None:
    """However the interpreter ends, its workers and what they have started are gone."""
    code = f"""
import os, signal, subprocess, sys, ctypes, time
from taskqueue_nb import Task, TaskQueue

def tell(path, *numbers):
    with open(path, "w") as pipe:
        pipe.write(" ".join(map(str, numbers)) + "\\n")

def hang(path, how):
    child = subprocess.Popen(["sleep", "1000"])
    if how == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    tell(path, os.getpid(), child.pid)
    if how == "in C":
        ctypes.PyDLL(None).sleep(1000)
    time.sleep(1000)

tasks = [Task(f"t{{i}}", hang, func_args=({telephone.path!r}, {how!r})) for i in range(2)]
queue = TaskQueue(*tasks).start(executor="processes:2")
sys.stdin.readline()
{ENDS[end]}
"""
    notebook = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, text=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    try:
        pids = telephone.hear() + telephone.hear()
        assert len(set(pids)) == 4
        notebook.communicate("go\n", timeout=LIMIT)
    finally:
        notebook.kill()
        notebook.wait(LIMIT)

    for pid in pids:
        await_end(pid, 5)


def test_two_queues_side_by_side_do_not_share_their_fate(telephone: Telephone) -> None:
    """Stopping one run leaves the workers of another alone."""
    stuck = TaskQueue(Task("stuck", hang, func_args=(telephone.path,)))
    stuck.start(executor="processes:1")
    telephone.hear()
    other = TaskQueue(*(Task(f"t{i}", value_of) for i in range(5)))

    run(other, executor="processes:2")
    assert stuck.tasks[0].is_running
    stuck.stop(cancel=True)

    assert stuck.wait(LIMIT)
    assert other.counts() == {"DONE": 5}


@pytest.mark.parametrize(
    "seed", [1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 12))]
)
def test_any_mixture_ends_soundly(seed: int) -> None:
    """Deaths, timeouts and cancels at drawn moments: each task has its own fate, nothing hangs."""
    draw = random.Random(seed)
    tasks = []
    for i in range(30):
        kind = draw.choice(["fine", "fine", "fine", "dies", "slow", "edge"])
        if kind == "dies":
            tasks.append(Task(kind, kill_itself))
        elif kind == "slow":
            tasks.append(Task(kind, time.sleep, func_args=(1000,), timeout=0.05))
        elif kind == "edge":  # ends about when its time is up
            tasks.append(Task(kind, time.sleep, func_args=(0.05,), timeout=0.05))
        else:
            tasks.append(Task(kind, value_of, func_args=(i,)))
    queue = TaskQueue(*tasks).start(executor="processes:3")

    threading.Event().wait(draw.random() * 0.4)
    cancelled = [task for task in draw.sample(tasks, 5) if not task.iscompleted()]
    for task in cancelled:
        with suppress(FSMError):  # it has completed just now
            task.cancel()

    assert queue.wait(LIMIT)
    check_settled(queue)
    expected = {"fine": "DONE", "dies": "FAILED", "slow": "FAILED"}
    for task in tasks:
        if task not in cancelled and task.name in expected:
            assert task.fsm_state == expected[task.name], task.exception
        if task.is_failed and task.name != "dies":
            assert isinstance(task.exception, TimeoutError)
        if task.is_failed and task.name == "dies":
            assert "SIGKILL" in str(task.exception)


def test_a_call_goes_on_elsewhere_that_was_on_its_way_to_a_process_as_that_died(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """That it was sent is noted after the process was cleared away: it is sent to the next one."""
    send = Wire.send
    sent: list[int] = []

    def send_to_one_that_dies(wire: Wire, *message: Any) -> None:
        send(wire, *message)
        if not sent:
            sent.append(message[0])
            (pid,) = children() - before
            os.kill(pid, signal.SIGKILL)
            cleared.wait(1.0)  # in vain, where that waits for who sends

    def left_by(place: Any, worker: _Worker) -> list[Any]:
        left = whole(place, worker)
        cleared.set()
        return left

    cleared = threading.Event()
    whole = Processes._left_by
    before = children()
    monkeypatch.setattr(Wire, "send", send_to_one_that_dies)
    monkeypatch.setattr(Processes, "_left_by", left_by)
    task = Task("t", list)
    queue = TaskQueue(task).start(executor="processes:1")

    assert queue.wait(LIMIT)
    assert task.is_done


def test_an_answer_is_taken_that_came_just_before_the_process_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Between the last look for messages and the one at the process."""
    receive = Wire.receive

    def receive_late(wire: Wire) -> Any:
        if not wire.has_more():
            time.sleep(0.5)  # all comes meanwhile
            return None
        return receive(wire)

    monkeypatch.setattr(Wire, "receive", receive_late)
    task = Task("t", lambda: threading.Timer(0.05, os._exit, (0,)).start())

    run(TaskQueue(task), executor="processes:1")

    assert task.is_done


def test_no_call_waits_behind_one_that_may_still_be_withdrawn() -> None:
    """Else both may be taken up before that is asked for, and the former taken for not begun."""
    place = Processes(1)
    worker = _Worker(place)
    waiting = Task("waiting", list)
    trip = _ProcessTrip(waiting, lambda *_: None, None, place, 1)
    worker.trip, trip.worker, trip.is_sent, trip.began = trip, worker, True, time.time()
    worker.is_quick = True

    assert not worker.has_slot()
    trip.attempt = Attempt(waiting, None)
    assert worker.has_slot()
    worker.bury()
