"""How functions are run: interrupts, executors that die, forks, threads, captured output."""

from __future__ import annotations

import concurrent.futures
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final

import pytest

from checks import LIMIT, Background, Calls, at_once, build, check_settled, run, states, wait_for
from graphs import GRAPHS, Graph, layered
from taskqueue_nb import Task, TaskQueue, make_now

#: The ways to run tasks in the caller's own thread.
HERE: Final[dict[str, Callable[..., object]]] = {
    "dispatch": lambda *tasks: [task.dispatch() for task in tasks if not task.iscompleted()],
    "make": make_now,
    "run": lambda *tasks: run(TaskQueue(*tasks)),
    "step": lambda *tasks: list(iter(TaskQueue(*tasks).step, None)),
}


class Interrupted:
    """A function that is interrupted the first time, and works the second."""

    def __init__(self, how: Callable[[], object]) -> None:
        self.how = how
        self.calls = 0

    def __call__(self) -> int:
        """Be interrupted once."""
        self.calls += 1
        if self.calls == 1:
            self.how()
            raise AssertionError("was not interrupted")
        return self.calls


def raise_interrupt() -> None:
    """Raise what Ctrl-C raises."""
    raise KeyboardInterrupt


def press_ctrl_c() -> None:
    """Send this process what Ctrl-C sends; Python raises at the next instruction."""
    signal.raise_signal(signal.SIGINT)


# -------------------------------------------------------------------------------------- interrupts
@pytest.mark.parametrize("act", HERE.values(), ids=HERE)
@pytest.mark.parametrize("how", [raise_interrupt, press_ctrl_c])
def test_interrupt_comes_out_and_the_task_can_be_retried(
    act: Callable[..., object], how: Callable[[], object]
) -> None:
    """KeyboardInterrupt itself leaves; the task is CANCELLED and says why; a rerun completes."""
    calls = Calls()
    work = Interrupted(how)
    first = Task("first", calls["first"])
    middle = Task("middle", work)
    last = Task("last", calls["last"])

    with pytest.raises(KeyboardInterrupt):
        act(first, middle, last)

    assert states([first, middle, last]) == {
        "first": "DONE", "middle": "CANCELLED", "last": "PENDING",
    }  # fmt: skip
    assert middle.fsm_history[-1].extra.get("because") == "interrupted"
    check_settled([first, middle, last])
    middle.retry()
    act(first, middle, last)
    assert middle.result(0) == 2
    assert calls.names == ["first", "last"]
    check_settled([first, middle, last])


def test_interrupt_in_make_of_a_prerequisite_leaves_the_rest_pending() -> None:
    """What requires the interrupted task is neither failed nor cancelled."""
    work = Interrupted(raise_interrupt)
    middle = Task("middle", work)
    last = middle.then("last", list)

    with pytest.raises(KeyboardInterrupt):
        last.make()

    assert states([middle, last]) == {"middle": "CANCELLED", "last": "PENDING"}
    middle.retry()
    assert last.make()
    assert last.is_done


def test_interrupt_of_the_consumer_between_tasks_leaves_no_task_in_the_middle() -> None:
    """Ctrl-C in the body of the user's own loop ends the run as leaving it does."""
    calls = Calls()
    queue = TaskQueue(*build(GRAPHS["chain"], calls).values())

    def consume() -> None:
        for task in queue.run():
            if task.name == "b":
                press_ctrl_c()

    with pytest.raises(KeyboardInterrupt):
        consume()

    assert queue.counts() == {"PENDING": 3, "DONE": 2}
    assert run(queue) == ["c", "d", "e"]


@pytest.mark.parametrize("executor", [1, 2])
def test_interrupt_while_waiting_for_threads_leaves_nothing_running(executor: int) -> None:
    """Ctrl-C while the generator waits for its threads: it comes out, and the threads end."""
    began, go = threading.Event(), threading.Event()
    calls = Calls()
    main = threading.get_ident()

    def work() -> None:
        began.set()
        wait_for(go)

    def interrupt() -> None:
        wait_for(began)
        signal.pthread_kill(main, signal.SIGINT)
        opener.start()

    slow = Task("slow", work)
    queue = TaskQueue(slow, slow.then("after", calls["after"]))
    opener = threading.Timer(2.0, go.set)  # the worker must end although nobody asks it to
    helper = Background(interrupt)

    with pytest.raises(KeyboardInterrupt):
        list(queue.run(executor=executor))

    helper.join()
    go.set()
    opener.cancel()
    opener.join(LIMIT)
    assert queue.wait(LIMIT)
    assert not slow.is_running
    assert calls.names == []
    check_settled(queue)
    if slow.is_cancelled:
        slow.retry()
    run(queue)
    assert queue.counts() == {"DONE": 2}


INTERRUPTS: Final = """
import random, signal, threading
from collections import Counter
from taskqueue_nb import Task, TaskQueue, make

draw = random.Random(3)
hits = 0
signal.signal(signal.SIGALRM, signal.default_int_handler)
for round in range(200):
    done = Counter()
    tasks = []
    for i in range(60):
        task = Task(f"t{i}", lambda i=i: done.update([i]))
        if i:
            task.require(tasks[draw.randrange(i)])
        tasks.append(task)
    queue = TaskQueue(*tasks)
    try:
        try:
            signal.setitimer(signal.ITIMER_REAL, draw.uniform(0.00002, LONGEST))
            for _ in RUN:
                pass
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    except KeyboardInterrupt:
        hits += 1
    changed = threading.Event()  # threads that were begun may still be ending
    stop = queue.on_change(changed.set)
    while queue.running:
        assert changed.wait(20)
        changed.clear()
    stop()
    assert set(queue.counts()) <= {"DONE", "PENDING", "CANCELLED"}, queue.counts()
    assert queue.counts().get("CANCELLED", 0) <= 2, queue.counts()
    given_up = [task for task in tasks if task.is_cancelled]
    if given_up:
        queue.retry(*given_up)
    for _ in RUN:
        pass
    assert queue.counts() == {"DONE": 60}, queue.counts()
    for i, task in enumerate(tasks):
        assert task.attempts[-1].outcome == "DONE"
        assert done[i] <= len(task.attempts), (i, done[i], task.attempts)
        assert done[i] == 1 or task in given_up, (i, done[i], task.fsm_history)
assert hits > 20, hits
print("sound")
"""


@pytest.mark.parametrize(
    ("way", "longest"),
    [("queue.run()", "0.0008"), ("make(*tasks)", "0.0015"), ("queue.run(executor=2)", "0.002")],
)
def test_interrupt_at_any_moment_leaves_every_task_sound(way: str, longest: str) -> None:
    """200 signals at drawn moments: no task in the middle, each function once per attempt."""
    code = INTERRUPTS.replace("RUN", way).replace("LONGEST", longest)

    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )

    assert done.stdout == "sound\n", done.stderr[-3_000:]


# -------------------------------------------------------------------------------------- executors
class Counting(concurrent.futures.Executor):
    """An executor of the user's own: runs at once, in the thread that submits."""

    def __init__(self) -> None:
        self.submitted = 0
        self.shut = False

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Run it now."""
        self.submitted += 1
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except BaseException as error:
            future.set_exception(error)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Note it."""
        self.shut = True


@pytest.mark.parametrize("example", GRAPHS.values(), ids=GRAPHS)
@pytest.mark.parametrize("threads", [1, 4])
def test_any_executor_runs_any_graph(example: Graph, threads: int) -> None:
    """A pool of the user's own: each once, in order, and the pool is still usable afterwards."""
    calls = Calls()
    tasks = build(example, calls)

    with ThreadPoolExecutor(threads) as pool:
        done = run(TaskQueue(*tasks.values()), executor=pool)
        assert pool.submit(len, "abc").result(LIMIT) == 3

    assert sorted(done) == sorted(calls.names) == sorted(example)
    check_settled(tasks.values())


def test_executor_that_runs_at_once_is_fine_too() -> None:
    """An executor may call before `submit` returns; it is not shut down by us."""
    calls = Calls()
    own = Counting()
    queue = TaskQueue(*build(layered(5, 20), calls).values())

    run(queue, executor=own)

    assert queue.counts() == {"DONE": 100}
    assert own.submitted == 100
    assert not own.shut
    check_settled(queue)


def test_executor_that_runs_at_once_needs_no_deep_stack() -> None:
    """A chain of 5,000 in such an executor does not recurse."""
    queue = TaskQueue(*build({f"t{i}": [f"t{i - 1}"] if i else [] for i in range(5_000)},
                             Calls()).values())  # fmt: skip

    run(queue, executor=Counting())

    assert queue.counts() == {"DONE": 5_000}


class Deferring:
    """An object with `defer`, which runs each call in a thread of its own."""

    def defer(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        """Run it soon."""
        threading.Thread(target=function, args=args, kwargs=kwargs).start()


@pytest.mark.parametrize(
    "executor",
    [Deferring(), lambda function: threading.Thread(target=function).start()],
    ids=["defer", "callable"],
)
def test_defer_and_plain_callables_are_executors(executor: Any, no_threads_left: None) -> None:
    """An object with `defer`, or a callable that takes a function, runs the tasks."""
    calls = Calls()
    queue = TaskQueue(*build(GRAPHS["penguins"], calls).values())

    run(queue, executor=executor)

    assert queue.counts() == {"DONE": 10}
    check_settled(queue)


@pytest.mark.parametrize("cancel_futures", [False, True])
def test_executor_shut_down_in_mid_run(cancel_futures: bool) -> None:
    """RuntimeError or failed tasks, within seconds; nothing is left RUNNING or QUEUED."""
    calls = Calls()
    pool = ThreadPoolExecutor(1)

    def shut() -> None:
        pool.shutdown(wait=False, cancel_futures=cancel_futures)

    first = Task("shut", shut)
    queue = TaskQueue(first, *(first.then(f"t{i}", calls[f"t{i}"]) for i in range(20)))

    def act() -> object:
        return run(queue, executor=pool)

    (outcome,) = at_once(1, lambda _: act(), limit=15)

    assert isinstance(outcome, (RuntimeError, list))
    assert set(queue.counts()) <= {"DONE", "PENDING", "FAILED", "CANCELLED"}
    check_settled(queue)
    if fallen := [task for task in queue if task.is_failed or task.is_cancelled]:
        queue.retry(*fallen)
    run(queue)
    assert queue.counts() == {"DONE": 21}
    assert set(calls.counts.values()) == {1}


def test_executor_that_is_shut_before_the_run() -> None:
    """A dead executor fails what it is given, or is refused; the tasks run elsewhere later."""
    pool = ThreadPoolExecutor(1)
    pool.shutdown()
    calls = Calls()
    queue = TaskQueue(*(Task(f"t{i}", calls[f"t{i}"]) for i in range(5)))

    (outcome,) = at_once(1, lambda _: run(queue, executor=pool), limit=15)

    assert isinstance(outcome, (RuntimeError, list))
    check_settled(queue)
    if queue.counts().get("FAILED"):
        queue.retry()
    run(queue)
    assert queue.counts() == {"DONE": 5}


def test_future_cancelled_behind_our_back_cancels_or_fails_its_task() -> None:
    """Who cancels the executor's future ends the wait for it."""
    go = threading.Event()
    calls = Calls()

    class Keeping(ThreadPoolExecutor):
        futures: list[Future[Any]] = []  # noqa: RUF012 - one pool, one test

        def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
            self.futures.append(super().submit(fn, *args, **kwargs))
            return self.futures[-1]

    with Keeping(1) as pool:
        pool.submit(wait_for, go)
        queue = TaskQueue(Task("a", calls["a"])).start(executor=pool)
        while len(Keeping.futures) < 2:
            threading.Event().wait(0.001)
        assert Keeping.futures[1].cancel()
        ended = queue.wait(LIMIT)
        go.set()

    assert ended
    assert calls.names == []
    assert queue.tasks[0].fsm_state in {"CANCELLED", "FAILED"}
    check_settled(queue)


def test_results_travel_between_executors() -> None:
    """A task in a pool takes the result of one in the caller's thread, and the other way round."""
    with ThreadPoolExecutor(1) as pool:
        here = Task("here", lambda: 20)
        there = Task("there", lambda x: x + 1, func_args=(here,), executor=pool)
        back = Task("back", lambda x: x * 2, func_args=(there,))

        run(TaskQueue(here, there, back))

    assert back.result(0) == 42


def test_at_most_the_given_number_run_at_once() -> None:
    """`executor=3` runs three at a time, not more."""
    lock = threading.Lock()
    now: list[int] = []
    most = [0]
    full = threading.Barrier(3)

    def work(place: int) -> None:
        with lock:
            now.append(place)
            most[0] = max(most[0], len(now))
        if place < 3:
            full.wait(LIMIT)
        with lock:
            now.remove(place)

    queue = TaskQueue(*(Task(f"t{i}", work, func_args=(i,)) for i in range(30)))

    run(queue, executor=3)

    assert most[0] == 3
    assert queue.counts() == {"DONE": 30}


def test_two_threads_run_independent_tasks_side_by_side() -> None:
    """The two branches of a diamond need each other's presence, and meet."""
    barrier = threading.Barrier(2)
    top = Task("top", list)
    sides = [top.then(name, barrier.wait, func_args=(LIMIT,)) for name in ("left", "right")]
    bottom = Task("bottom", list)
    for side in sides:
        bottom.require(side)
    queue = TaskQueue(top, *sides, bottom)

    run(queue, executor=2)

    assert queue.counts() == {"DONE": 4}
    check_settled(queue)


def test_task_that_runs_another_queue_inside(no_threads_left: None) -> None:
    """A function may itself build and run tasks, in either kind of worker."""

    def inner(executor: int | None) -> int:
        calls = Calls()
        run(TaskQueue(*build(GRAPHS["penguins"], calls).values()), executor=executor)
        return len(calls.names)

    for outer in (None, 2):
        tasks = [Task("a", inner, func_args=(None,)), Task("b", inner, func_args=(2,))]
        run(TaskQueue(*tasks), executor=outer)
        assert [task.result(0) for task in tasks] == [10, 10]


def test_task_that_waits_for_its_prerequisites_result_inside() -> None:
    """Inside a task, the result of a done prerequisite is there at once."""
    first = Task("first", lambda: 5)
    after = first.then("after", lambda: first() + first.result() + first.value)

    run(TaskQueue(first, after), executor=2)

    assert after.result(0) == 15


# ------------------------------------------------------------------------------------------- forks
FORK_HERE = """
import os, sys
from taskqueue_nb import Task, TaskQueue, make_now

def forks():
    child = os.fork()
    if child == 0:
        {leave}
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

first = Task("forks", forks)
after = first.then("after", lambda: os.write(1, b"after;"))
{run}
os.write(1, f"{{first.result(0)}};".encode())
os._exit(0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.parametrize("leave", ["os._exit(3)", "sys.exit(3)"])
@pytest.mark.parametrize(
    "run_it",
    ["first.dispatch(); after.dispatch()", "make_now(after)", "list(TaskQueue(first, after).run())",
     "list(TaskQueue(first, after).run(executor=2))",
     "TaskQueue(first, after).start().wait(20)"],
    ids=["dispatch", "make", "run", "2 threads", "start"],
)  # fmt: skip
def test_function_that_forks_gives_one_result(leave: str, run_it: str) -> None:
    """The child's exit is its own: the rest of the graph runs once, in the parent."""
    code = FORK_HERE.format(leave=leave, run=run_it)

    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    assert done.stdout == "after;3;"


# --------------------------------------------------------------------------------------- recursion
def test_function_that_recurses_without_end_fails_its_task_only() -> None:
    """RecursionError is the task's, also when it comes from our side of the call."""

    def endless() -> None:
        endless()

    calls = Calls()
    queue = TaskQueue(Task("endless", endless), Task("other", calls["other"]))

    for executor in (None, 2):
        run(queue, executor=executor)

    assert states(queue) == {"endless": "FAILED", "other": "DONE"}
    assert isinstance(queue.tasks[0].exception, RecursionError)
    assert len(queue.tasks[0].attempts[-1].error_text or "") < 100_000


class RudeError(Exception):
    """An exception that cannot be shown."""

    def __str__(self) -> str:
        raise ValueError("no text for you")

    __repr__ = __str__


@pytest.mark.parametrize("executor", [None, 2])
def test_exception_that_cannot_be_shown_fails_its_task_all_the_same(executor: int | None) -> None:
    """A broken `__str__` harms neither the task nor the run."""

    def bad() -> None:
        raise RudeError

    queue = TaskQueue(Task("bad", bad), Task("other", list))

    run(queue, executor=executor)

    assert states(queue) == {"bad": "FAILED", "other": "DONE"}
    attempt = queue.tasks[0].attempts[-1]
    assert isinstance(attempt.error, RudeError)
    assert "RudeError" in (attempt.error_text or "")


class Hashless:
    """A value that cannot be hashed, compared, shown or asked whether it is true."""

    __hash__ = None  # type: ignore[assignment]  # that is the point

    def __eq__(self, other: object) -> bool:
        raise ValueError("no comparison")

    def __bool__(self) -> bool:
        raise ValueError("neither true nor false")

    def __repr__(self) -> str:
        raise ValueError("no text")

    def __getattr__(self, name: str) -> Any:
        raise ValueError(f"no {name}")


@pytest.mark.parametrize("executor", [None, 2])
def test_values_are_not_looked_at(executor: int | None) -> None:
    """A result is passed on as it is: never compared, hashed, shown or tested for truth."""
    value = Hashless()
    first = Task("first", lambda: value)
    after = Task("after", lambda *args, **kwargs: (args, kwargs),
                 func_args=(first, [first]), func_kwargs={"x": value})  # fmt: skip

    run(TaskQueue(first, after), executor=executor)

    args, kwargs = after.result(0)
    assert args[0] is value
    assert args[1][0] is value
    assert kwargs["x"] is value


def generator_function() -> Iterator[int]:
    """Yield a number."""
    yield 1


def test_generator_function_gives_its_generator() -> None:
    """A function with `yield` is not run to the end by us: its result is the generator."""
    one = Task("one", generator_function)

    one.dispatch()

    assert list(one.result(0)) == [1]
