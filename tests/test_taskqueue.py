"""The queue: what it holds, its ways to run, hold, stop, and who is told."""

from __future__ import annotations

import itertools
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

import pytest

from checks import (
    LIMIT,
    Background,
    Calls,
    at_once,
    await_state,
    build,
    check_settled,
    run,
    states,
    wait_for,
)
from graphs import GRAPHS, Graph, apart, chain, fan_out, layered, victims
from taskqueue_nb import FSMError, RunState, Task, TaskError, TaskQueue
from taskqueue_nb.task import FSM_TRANSITIONS

if TYPE_CHECKING:
    from conftest import MakeQueue

#: The ways to run a queue to its end.
WAYS: Final[dict[str, Callable[[TaskQueue], object]]] = {
    "run": lambda queue: list(queue.run()),
    "run, 1 thread": lambda queue: list(queue.run(executor=1)),
    "run, 4 threads": lambda queue: list(queue.run(executor=4)),
    "start": lambda queue: queue.start().wait(LIMIT),
    "start, 4 threads": lambda queue: queue.start(executor=4).wait(LIMIT),
    "step": lambda queue: list(iter(queue.step, None)),
    "once": lambda queue: list(iter(lambda: list(queue.run(once=True)), [])),
}


# ---------------------------------------------------------------------------------------- members
def test_queue_is_a_collection_of_its_tasks() -> None:
    """Length, membership, iteration in the order added, name, and the tasks as a tuple."""
    a, b, c = (Task(name, list) for name in "abc")
    queue = TaskQueue(b, a, name="penguins")

    queue.add(c)

    assert queue.tasks == tuple(queue) == (b, a, c)
    assert len(queue) == 3
    assert c in queue
    assert Task("other", list) not in queue
    assert "a" not in queue
    assert queue.name == "penguins"
    assert "3" in repr(queue)


def test_empty_queue_is_true_and_runs() -> None:
    """An empty queue is still a queue: nothing to run, no error."""
    queue = TaskQueue()

    assert bool(queue)
    assert run(queue) == []
    assert queue.counts() == {}
    assert queue.step() is None
    assert queue.start().wait(LIMIT)


@pytest.mark.parametrize("wrong", [None, 5, "task", list, [Task("a", list)]], ids=repr)
def test_only_tasks_are_added(wrong: Any) -> None:
    """Anything else is refused at once, and nothing of that call is added."""
    queue = TaskQueue()

    with pytest.raises(TypeError):
        queue.add(Task("good", list), wrong)

    assert len(queue) == 0
    with pytest.raises(TypeError):
        TaskQueue(wrong)


def test_adding_a_task_does_not_add_what_it_requires() -> None:
    """Members are those that were named."""
    tasks = build(GRAPHS["pair"], Calls())

    assert tuple(TaskQueue(tasks["clean"])) == (tasks["clean"],)


def test_tasks_stay_after_they_ran(queue: MakeQueue) -> None:
    """So that they can be drawn."""
    q = queue(GRAPHS["diamond"])

    run(q)

    assert [task.name for task in q] == list(GRAPHS["diamond"])
    assert q.counts() == {"DONE": 4}


def test_counts_are_in_the_tables_order() -> None:
    """Only the states that are there, in the order a task lives through them."""
    queue = TaskQueue(*(Task(state, list, state=state) for state in [*FSM_TRANSITIONS][::-1]))

    assert list(queue.counts()) == list(FSM_TRANSITIONS)
    assert set(queue.counts().values()) == {1}


def test_structure_grows_with_tasks_and_links_only(queue: MakeQueue) -> None:
    """The same number means the same layout; running changes nothing."""
    q = queue(GRAPHS["diamond"])
    seen = [q.structure]

    run(q)
    assert q.structure == seen[0]
    added = Task("added", list)
    q.add(added)
    seen.append(q.structure)
    q.add(added)
    assert q.structure == seen[1]
    added.require(q.tasks[0])
    seen.append(q.structure)
    added.require(q.tasks[0])
    Task("stranger", list).require(Task("other", list))

    assert q.structure == seen[2]
    assert seen[0] < seen[1] < seen[2]


# ---------------------------------------------------------------------------------------- running
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("example", GRAPHS.values(), ids=GRAPHS)
def test_every_way_runs_every_graph(
    queue: MakeQueue, calls: Calls, example: Graph, way: Callable[[TaskQueue], object]
) -> None:
    """Each function once, all DONE, requirements first (the fixture checks that)."""
    q = queue(example)

    way(q)

    assert q.counts() == {"DONE": len(example)}
    assert calls.counts == dict.fromkeys(example, 1)


@pytest.mark.parametrize("executor", [None, 1, 3])
def test_run_yields_each_task_as_it_completes(
    queue: MakeQueue, calls: Calls, executor: int | None
) -> None:
    """The generator gives every completed task once; a failed one is given, a blocked one not."""
    calls.failing.add("left")
    q = queue(GRAPHS["diamond"])

    done = []
    for task in q.run(executor=executor):
        assert task.iscompleted()
        done.append(task.name)

    assert sorted(done) == ["left", "right", "top"]
    assert states(q)["bottom"] == "PENDING"


def test_run_is_in_the_callers_thread_one_task_per_step_of_the_generator() -> None:
    """By default the next task runs when the consumer asks for it, in its thread."""
    seen: list[threading.Thread] = []
    calls = Calls()

    def work() -> None:
        calls.names.append("x")
        seen.append(threading.current_thread())

    queue = TaskQueue(*(Task(f"t{i}", work) for i in range(3)))

    for count, _ in enumerate(queue.run(), start=1):
        assert len(calls.names) == count

    assert set(seen) == {threading.current_thread()}


def test_nothing_runs_before_the_generator_is_asked(queue: MakeQueue, calls: Calls) -> None:
    """`run()` alone does nothing yet."""
    q = queue(GRAPHS["pair"])

    generator = q.run()
    assert calls.names == []
    assert not q.running
    next(iter(generator))

    assert calls.names == ["load"]
    generator.close()


@pytest.mark.parametrize("executor", [None, 2])
def test_consumer_may_leave_after_one_task(
    queue: MakeQueue, calls: Calls, executor: int | None
) -> None:
    """No task is in the middle afterwards; the next run completes the rest, each once."""
    q = queue(layered(5, 6))

    for _ in q.run(executor=executor):
        break

    assert q.wait(LIMIT)
    assert not q.running
    assert set(q.counts()) <= {"DONE", "PENDING"}
    run(q)
    assert q.counts() == {"DONE": 30}
    assert set(calls.counts.values()) == {1}


def test_abandoned_generator_that_is_still_referenced_does_not_block(calls: Calls) -> None:
    """Another run may begin while an unfinished generator is lying about."""
    q = TaskQueue(*build(GRAPHS["chain"], calls).values())
    unfinished = q.run()
    next(iter(unfinished))

    (rest,) = at_once(1, lambda _: run(q))

    assert isinstance(rest, list)
    assert q.counts() == {"DONE": 5}
    assert list(unfinished) == []
    assert calls.names == list("abcde")


def test_run_dependent_tasks_pulls_in_what_completed_tasks_block(calls: Calls) -> None:
    """With `run_dependent_tasks` the dependents join the queue as their prerequisites complete."""
    tasks = build(GRAPHS["penguins"], calls)
    queue = TaskQueue(tasks["load"], run_dependent_tasks=True)

    run(queue)

    assert set(queue) == set(tasks.values())
    assert all(task.is_done for task in queue)
    assert set(calls.counts.values()) == {1}


def test_run_dependent_tasks_with_a_task_that_is_done_already(calls: Calls) -> None:
    """A member that was completed before pulls in its dependents as well."""
    tasks = build(GRAPHS["pair"], calls)
    tasks["load"].dispatch()
    queue = TaskQueue(tasks["load"], run_dependent_tasks=True)

    run(queue)

    assert calls.names == ["load", "clean"]


@pytest.mark.parametrize("executor", [None, 3])
def test_independent_tasks_run_when_one_fails(
    queue: MakeQueue, calls: Calls, executor: int | None
) -> None:
    """Only what requires the failed tasks does not run; it stays PENDING."""
    graph = layered(20, 5)
    calls.failing |= apart(graph, "t1.3", "t2.6")
    q = queue(graph)

    run(q, executor=executor)

    lost = victims(graph, calls.failing)
    assert {task.name for task in q if task.is_pending} == lost
    assert {task.name for task in q if task.is_failed} == calls.failing
    assert set(calls.names) == set(graph) - lost


def test_fail_fast_begins_nothing_new(queue: MakeQueue, calls: Calls) -> None:
    """After the first failure no further task is begun; they stay PENDING and can be run."""
    calls.failing.add("t2")
    q = queue({f"t{i}": [] for i in range(6)})

    run(q, fail_fast=True)

    assert calls.names == ["t0", "t1", "t2"]
    assert q.counts() == {"PENDING": 3, "FAILED": 1, "DONE": 2}
    run(q)
    assert calls.names == [f"t{i}" for i in range(6)]


def test_fail_fast_lets_running_tasks_end() -> None:
    """With threads, what runs beside the failure is completed."""
    began, failed = threading.Event(), threading.Event()
    calls = Calls()

    def slow() -> str:
        began.set()
        wait_for(failed)
        return "slow"

    def bad() -> None:
        wait_for(began)
        raise ValueError("on purpose")

    slow_task, bad_task = Task("slow", slow), Task("bad", bad)
    bad_task.fsm_callback("FAILED", lambda _task, _step: failed.set())
    queue = TaskQueue(slow_task, bad_task, *(Task(f"t{i}", calls[f"t{i}"]) for i in range(50)))

    list(queue.run(executor=2, fail_fast=True))

    assert slow_task.is_done
    assert bad_task.is_failed
    assert calls.names == []
    check_settled(queue)


def test_run_state_ends_a_run(queue: MakeQueue, calls: Calls) -> None:
    """A cancelled `runstate` begins nothing new; the tasks can be run later."""
    q = queue(GRAPHS["chain"])
    state = RunState("mine")

    for task in q.run(runstate=state):
        if task.name == "b":
            state.cancel()

    assert calls.names == ["a", "b"]
    assert run(q, runstate=state) == []
    assert run(q) == ["c", "d", "e"]


def test_once_runs_one_task(queue: MakeQueue, calls: Calls) -> None:
    """`run(once=True)` yields one task and ends."""
    q = queue(GRAPHS["chain"])

    assert run(q, once=True) == ["a"]
    assert run(q, once=True) == ["b"]

    assert calls.names == ["a", "b"]


def test_step_runs_exactly_one_task_and_returns_it(queue: MakeQueue, calls: Calls) -> None:
    """`step()` returns the task, whatever became of it, and None when nothing is ready."""
    calls.failing.add("b")
    q = queue(GRAPHS["chain"])

    assert [q.step() for _ in range(4)] == [*q.tasks[:2], None, None]

    assert calls.names == ["a", "b"]
    assert q.counts() == {"PENDING": 3, "FAILED": 1, "DONE": 1}


def test_tasks_own_executor_wins() -> None:
    """A task with its own `executor` runs there, the others in the caller's thread."""
    seen: dict[str, threading.Thread] = {}

    def where(name: str) -> None:
        seen[name] = threading.current_thread()

    here = Task("here", where, func_args=("here",))
    there = Task("there", where, func_args=("there",), executor=1)
    queue = TaskQueue(there, here)

    list(queue.run())

    assert seen["here"] is threading.current_thread()
    assert seen["there"] is not threading.current_thread()
    check_settled(queue)


def test_queues_executor_is_the_default(no_threads_left: None) -> None:
    """`TaskQueue(executor=2)` is what `run()` and `start()` use."""
    barrier = threading.Barrier(2)
    tasks = [Task(name, barrier.wait, func_args=(LIMIT,)) for name in "ab"]
    queue = TaskQueue(*tasks, executor=2)

    list(queue.run())

    assert queue.counts() == {"DONE": 2}


@pytest.mark.parametrize("wrong", [0, -1, 2.5, "threads", object(), [], True])
def test_impossible_executor_is_refused(wrong: Any) -> None:
    """What cannot run anything is refused by name, before anything has run."""
    calls = Calls()
    queue = TaskQueue(Task("a", calls["a"]))

    with pytest.raises((TypeError, ValueError)):
        list(queue.run(executor=wrong))
    with pytest.raises((TypeError, ValueError)):
        queue.start(executor=wrong)

    assert calls.names == []
    assert not queue.running
    assert queue.counts() == {"PENDING": 1}


# -------------------------------------------------------------------------------- in the background
class Gate:
    """A function that says when it began and waits to be let through."""

    def __init__(self) -> None:
        self.began, self.go = threading.Event(), threading.Event()

    def __call__(self) -> None:
        """Wait."""
        self.began.set()
        wait_for(self.go)


@pytest.fixture
def gate() -> Iterator[Gate]:
    """Return a gate that is open at the end, whatever the test did."""
    made = Gate()
    yield made
    made.go.set()


def test_start_returns_at_once_and_wait_says_whether_it_ended(
    gate: Gate, no_threads_left: None
) -> None:
    """`running` is true meanwhile; `wait(timeout)` gives up when asked to."""
    queue = TaskQueue(Task("gate", gate), Task("after", list))

    assert queue.start() is queue

    wait_for(gate.began)
    assert queue.running
    assert queue.wait(0.01) is False
    gate.go.set()
    assert queue.wait(LIMIT) is True
    assert not queue.running
    assert queue.counts() == {"DONE": 2}
    check_settled(queue)


def test_wait_without_a_run_returns_at_once() -> None:
    """Nothing runs, so nothing is waited for."""
    assert TaskQueue(Task("a", list)).wait() is True


def test_second_start_is_refused_while_running(gate: Gate) -> None:
    """One run at a time in the background; after it another may start."""
    queue = TaskQueue(Task("gate", gate))
    queue.start()
    wait_for(gate.began)

    with pytest.raises(TaskError):
        queue.start()
    gate.go.set()

    assert queue.wait(LIMIT)
    assert queue.start().wait(LIMIT)


def test_of_16_threads_that_start_one_is_accepted() -> None:
    """The same under pressure: each function once."""
    for _ in range(10):
        calls = Calls()
        queue = TaskQueue(*build(layered(4, 4), calls).values())

        at_once(16, lambda _, queue=queue: queue.start(executor=2))

        assert queue.wait(LIMIT)
        assert set(calls.counts.values()) == {1}
        assert queue.counts() == {"DONE": 16}


def test_start_with_a_task_that_waits_for_the_queue_does_not_swallow_errors() -> None:
    """What goes wrong in a background run is the task's, and the queue can run again."""
    calls = Calls(failing={"a"})
    queue = TaskQueue(Task("a", calls["a"]), Task("b", calls["b"]))

    assert queue.start(executor=2).wait(LIMIT)
    calls.failing.clear()
    queue.retry()

    assert queue.start(executor=2).wait(LIMIT)
    assert queue.counts() == {"DONE": 2}
    check_settled(queue)


def test_stop_begins_nothing_new_and_lets_the_running_end(gate: Gate) -> None:
    """`stop()` leaves the rest PENDING; `start()` carries on."""
    calls = Calls()
    first = Task("gate", gate)
    queue = TaskQueue(first, first.then("after", calls["after"]))
    queue.start()
    wait_for(gate.began)

    queue.stop()
    gate.go.set()

    assert queue.wait(LIMIT)
    assert states(queue) == {"gate": "DONE", "after": "PENDING"}
    queue.start()
    assert queue.wait(LIMIT)
    assert calls.names == ["after"]
    check_settled(queue)


def test_stop_and_cancel_asks_the_running_tasks_to_end() -> None:
    """`stop(cancel=True)` cancels what runs; a loop that polls ends at once."""
    began = threading.Event()

    def work() -> None:
        current = Task.current()
        assert current is not None
        began.set()
        assert current.runstate.sleep(LIMIT)
        current.runstate.raiseif()

    queue = TaskQueue(Task("loop", work), Task("other", work)).start(executor=2)
    wait_for(began)

    queue.stop(cancel=True)

    assert queue.wait(LIMIT)
    assert "CANCELLED" in queue.counts()
    assert set(queue.counts()) <= {"CANCELLED", "PENDING"}
    check_settled(queue)


def test_stop_without_a_run_does_nothing() -> None:
    """Stopping what does not run is no error, and later runs are not stopped."""
    queue = TaskQueue(Task("a", list))

    queue.stop()

    assert run(queue) == ["a"]


def test_hold_begins_nothing_new_until_resume(gate: Gate) -> None:
    """A held queue keeps its run alive; resumed it carries on."""
    calls = Calls()
    queue = TaskQueue(Task("gate", gate), Task("other", calls["other"])).start(executor=1)
    wait_for(gate.began)

    queue.hold()
    gate.go.set()
    await_state(queue.tasks[0], "DONE")

    assert queue.held
    assert queue.wait(0.05) is False
    assert calls.names == []
    queue.resume()
    assert queue.wait(LIMIT)
    assert not queue.held
    assert calls.names == ["other"]
    check_settled(queue)


def test_held_queue_can_be_stopped(gate: Gate) -> None:
    """Stop ends a run that is on hold."""
    queue = TaskQueue(Task("a", list), Task("b", list))
    queue.hold()
    queue.start()

    queue.stop()

    assert queue.wait(LIMIT)
    assert queue.counts() == {"PENDING": 2}


def test_task_added_while_running_is_run(gate: Gate) -> None:
    """A background run takes what is added to its queue meanwhile."""
    calls = Calls()
    queue = TaskQueue(Task("gate", gate)).start(executor=2)
    wait_for(gate.began)

    added = Task("added", calls["added"])
    queue.add(added)
    await_state(added, "DONE")
    gate.go.set()

    assert queue.wait(LIMIT)
    assert calls.names == ["added"]


def test_task_retried_while_running_is_run_again(gate: Gate) -> None:
    """The repair of one task does not wait for the end of the others."""
    counts: list[int] = []

    def fails_once() -> int:
        counts.append(1)
        if len(counts) == 1:
            raise ValueError("the first time")
        return len(counts)

    weak = Task("weak", fails_once)
    queue = TaskQueue(Task("gate", gate), weak).start(executor=2)
    await_state(weak, "FAILED")

    queue.retry(weak)
    await_state(weak, "DONE")
    gate.go.set()

    assert queue.wait(LIMIT)
    assert weak.result() == 2
    check_settled(queue)


def test_no_thread_is_left_after_any_run(no_threads_left: None) -> None:
    """Every way to run ends with as many threads as before."""
    for way in WAYS.values():
        queue = TaskQueue(*build(layered(5, 5), Calls()).values())
        way(queue)
        assert queue.counts() == {"DONE": 25}


def test_run_of_a_started_queue_waits_or_shares(gate: Gate) -> None:
    """A `run` beside a `start`: each task once, both end."""
    calls = Calls()
    tasks = [Task("gate", gate), *build(layered(4, 5), calls).values()]
    queue = TaskQueue(*tasks).start(executor=2)
    wait_for(gate.began)

    beside = Background(lambda: self_contained(queue))
    gate.go.set()

    beside.join()
    assert queue.wait(LIMIT)
    assert queue.counts() == {"DONE": 21}
    assert set(calls.counts.values()) == {1}


def self_contained(queue: TaskQueue) -> list[str]:
    """Run, taking a refusal (a run is under way) for an answer."""
    try:
        return run(queue)
    except TaskError:
        return []


def test_16_threads_run_one_queue_of_210() -> None:
    """Each function once, nothing raised, all DONE."""
    graph = layered(14, 15)
    for _ in range(3):
        calls = Calls()
        queue = TaskQueue(*build(graph, calls).values())

        outcomes = at_once(16, lambda _, queue=queue: run(queue))

        assert [o for o in outcomes if isinstance(o, BaseException)] == []
        assert queue.counts() == {"DONE": 210}
        assert set(calls.counts.values()) == {1}
        assert sorted(itertools.chain(*outcomes)) == sorted(graph), "each is yielded to one of them"
        check_settled(queue)


def test_exit_does_not_wait_for_a_hanging_background_run() -> None:
    """A program that ends while a started task hangs does end."""
    code = (
        "import threading\nfrom taskqueue_nb import Task, TaskQueue\n"
        "began = threading.Event()\n"
        "def hang():\n    began.set()\n    threading.Event().wait()\n"
        "TaskQueue(Task('hang', hang)).start(executor=2)\n"
        "assert began.wait(20)\nprint('leaving', flush=True)\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True
    )

    assert done.stdout == "leaving\n"


# ---------------------------------------------------------------------------------------- listeners
def test_on_change_is_told_of_everything_until_it_ends(queue: MakeQueue) -> None:
    """Transitions, additions, links, holds and runs; the returned function ends it."""
    q = queue(GRAPHS["pair"])
    heard: list[int] = []
    stop = q.on_change(lambda: heard.append(1))

    def told(act: Callable[[], object]) -> bool:
        del heard[:]
        act()
        return bool(heard)

    added = Task("added", list)
    assert told(lambda: q.add(added))
    assert told(lambda: added.require(q.tasks[0]))
    assert told(q.hold)
    assert told(q.resume)
    assert told(lambda: run(q))
    assert told(lambda: q.invalidate(q.tasks[0]))
    stop()
    assert not told(lambda: run(q))
    stop()


def test_on_change_hears_at_least_once_after_the_last_transition(calls: Calls) -> None:
    """Whoever reads the truth when told sees the end of the run."""
    q = TaskQueue(*build(layered(6, 6), calls).values())
    seen: list[dict[str, int]] = []
    flag = threading.Event()
    stop = q.on_change(flag.set)
    reader = Background(lambda: follow(q, flag, seen))

    assert q.start(executor=3).wait(LIMIT)

    reader.join()
    stop()
    assert seen[-1] == {"DONE": 36}


def follow(queue: TaskQueue, flag: threading.Event, seen: list[dict[str, int]]) -> None:
    """Read the counts whenever told, until everything is done and the run has ended."""
    while not seen or seen[-1] != {"DONE": len(queue)} or queue.running:
        wait_for(flag)
        flag.clear()
        seen.append(queue.counts())


# ------------------------------------------------------------------------------------------ causes
def test_causes_group_what_is_blocked_by_what_blocks_it(queue: MakeQueue, calls: Calls) -> None:
    """Each failed or cancelled task with all that it blocks, however far; no healthy ones."""
    graph = layered(20, 4)
    calls.failing |= apart(graph, "t1.1", "t2.4")
    q = queue(graph)
    by_name = {task.name: task for task in q}
    run(q)

    causes = q.causes()

    assert set(causes) == {by_name[name] for name in calls.failing}
    for cause, blocked in causes.items():
        assert {task.name for task in blocked} == victims(graph, [cause.name])
        assert len(set(blocked)) == len(blocked)


def test_causes_of_a_healthy_queue_are_none(queue: MakeQueue) -> None:
    """Before the run, and after one without failures, nothing is blocked by a failure."""
    q = queue(GRAPHS["chain"])
    assert q.causes() == {}

    run(q)

    assert q.causes() == {}


def test_cause_without_victims_is_named_too() -> None:
    """A failed or cancelled task that blocks nothing is still there to be mended."""
    calls = Calls(failing={"a"})
    a, b, c = (Task(name, calls[name]) for name in "abc")
    b.cancel()
    queue = TaskQueue(a, b, c)

    run(queue)

    assert queue.causes() == {a: (), b: ()}


def test_victims_of_make_are_no_causes() -> None:
    """Tasks that `make` failed because of another are blocked, not causes."""
    calls = Calls(failing={"a"})
    tasks = build(GRAPHS["chain"], calls)
    tasks["e"].make()

    causes = TaskQueue(*tasks.values()).causes()

    assert causes == {tasks["a"]: (tasks["b"], tasks["c"], tasks["d"], tasks["e"])}


# ------------------------------------------------------------------------------------------- misc
def test_queue_is_freed_with_its_tasks() -> None:
    """A queue that nobody holds is collected, though its tasks live on."""
    import gc
    import weakref

    one = Task("one", list)
    queue = TaskQueue(one)
    run(queue)
    ref = weakref.ref(queue)

    del queue
    gc.collect()

    assert ref() is None
    assert one.is_done


def test_dispatch_by_hand_is_seen_by_the_queue(queue: MakeQueue, calls: Calls) -> None:
    """A member that somebody dispatches, cancels or supplies is not run again."""
    q = queue({"a": [], "b": [], "c": [], "d": ["a", "b"]})
    a, b, c, d = q.tasks
    a.dispatch()
    b.supply("given")
    c.cancel()

    assert run(q) == ["d"]

    assert calls.names == ["a", "d"]
    assert d.is_done


@pytest.mark.parametrize("executor", [None, 2])
def test_task_that_is_prepared_during_the_run_runs(executor: int | None) -> None:
    """PREPARE tasks are left alone until they are prepared."""
    calls = Calls()
    later = Task("later", calls["later"], state="PREPARE")
    first = Task("first", lambda: later.fsm_event("prepared"))
    queue = TaskQueue(later, first)

    run(queue, executor=executor)

    assert calls.names == ["later"]
    assert later.is_done


def test_prepare_tasks_do_not_keep_a_run_alive() -> None:
    """A run with nothing else to do ends, and says nothing about the PREPARE task."""
    queue = TaskQueue(Task("later", list, state="PREPARE"))

    assert run(queue) == []

    assert states(queue) == {"later": "PREPARE"}
    with pytest.raises(FSMError):
        queue.tasks[0].dispatch()


def test_one_failure_of_many_wide(queue: MakeQueue, calls: Calls) -> None:
    """The hub of a fan fails: one call; retried, all run."""
    calls.failing.add("one")
    q = queue(fan_out(500))
    run(q)
    assert calls.names == ["one"]
    calls.failing.clear()

    q.retry()
    run(q, executor=2)

    assert q.counts() == {"DONE": 501}
    assert calls.counts["one"] == 2


def test_deep_chain_with_threads(queue: MakeQueue, calls: Calls) -> None:
    """A worker goes on with what it just unblocked: a long chain in order, with two threads."""
    q = queue(chain(5_000))

    run(q, executor=2)

    assert calls.names == list(chain(5_000))
