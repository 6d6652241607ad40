"""The order of ready tasks: as they became ready, or those with the longest path behind first."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from importlib import import_module
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from checks import LIMIT, Background, Calls, build, check_settled, run, until, wait_for
from graphs import GRAPHS, Graph, chain
from taskqueue_nb import CycleError, RunState, Task, TaskQueue
from taskqueue_nb.graph import closure
from taskqueue_nb.order import ORDERS

ORDER_MODULE = import_module("taskqueue_nb.order")

#: Two that stand alone, a short path and a long one, in the worst order.
PATHS: Graph = {
    "alone": [], "also alone": [], "s1": [], "s2": ["s1"], "l1": [], "l2": ["l1"], "l3": ["l2"],
}  # fmt: skip
LONGEST: Final = ["l1", "s1", "l2", "alone", "also alone", "s2", "l3"]
AS_READY: Final = ["alone", "also alone", "s1", "l1", "s2", "l2", "l3"]


def in_a_pool(queue: TaskQueue) -> list[str]:
    """Run in a pool of one thread."""
    with ThreadPoolExecutor(1) as pool:
        return run(queue, executor=pool)


#: Runs that take one task after the other, though tasks could run beside each other elsewhere.
ONE_AT_A_TIME: Final[dict[str, Callable[[TaskQueue], list[str]]]] = {
    "a thread": lambda queue: run(queue, executor=1),
    "a process": lambda queue: run(queue, executor="processes:1"),
    "a pool": in_a_pool,
    "an event loop": lambda queue: [task.name for task in asyncio.run(queue.arun(limit=1))],
}


@pytest.mark.parametrize("way", ONE_AT_A_TIME)
def test_with_an_executor_the_longest_path_goes_first(way: str) -> None:
    """Also when what is behind becomes ready while others wait for the executor."""
    queue = TaskQueue(*build(PATHS, Calls()).values())

    assert ONE_AT_A_TIME[way](queue) == LONGEST
    queue.invalidate(*(task for task in queue if not task.required))
    assert run(queue) == AS_READY, "a run in the caller's thread gains nothing by it"


@pytest.mark.parametrize("way", ONE_AT_A_TIME)
def test_who_asks_for_first_come_has_it_everywhere(way: str) -> None:
    """`order="ready"`."""
    queue = TaskQueue(*build(PATHS, Calls()).values(), order="ready")

    assert ONE_AT_A_TIME[way](queue) == AS_READY


def test_the_executor_of_a_queue_counts() -> None:
    """For its plan, for a run, and for a step, which takes what the run would take first."""
    queue = TaskQueue(*build(PATHS, Calls()).values(), executor=1)
    assert [task.name for task in queue.plan().will_run] == LONGEST

    first, second = queue.step(), queue.step(transition=True)

    assert first is not None
    assert second is not None
    assert [first.name, second.name, *(t.name for t in queue.plan().will_run)][::2] == LONGEST[::2]
    assert run(queue) == LONGEST[1:]


def test_a_run_gets_what_was_ready_before_and_leaves_the_age_of_the_rest() -> None:
    """A serial run goes on with what has been ready for longest."""
    queue = TaskQueue(*build(PATHS, Calls()).values())

    assert run(queue, executor=1, once=True) == ["l1"]
    assert [task.name for task in queue.plan().will_run] == [
        "alone", "also alone", "s1", "l2", "s2", "l3",
    ]  # fmt: skip
    assert run(queue) == ["alone", "also alone", "s1", "l2", "s2", "l3"]


def test_what_was_parked_has_its_age_when_the_run_has_ended() -> None:
    """Also by the longest path in the next run, and as it became ready in one without executor."""
    queue = TaskQueue(*build(PATHS, Calls()).values())
    with ThreadPoolExecutor(1) as pool:
        for name in ("l1", "s1"):
            steps = queue.run(executor=pool)
            assert next(steps).name == name
            steps.close()

    assert run(queue) == ["alone", "also alone", "l2", "s2", "l3"]


@pytest.mark.parametrize("way", ["a thread", "a pool", "an event loop"])
def test_who_is_parked_again_keeps_its_age(way: str) -> None:
    """One that may be sent now, but is overtaken by what has become ready."""
    graph = {**{f"alone{i}": [] for i in range(3)}, **chain(4)}
    queue = TaskQueue(*build(graph, Calls()).values())

    names = ONE_AT_A_TIME[way](queue)

    assert names == ["t0", "t1", "t2", "alone0", "alone1", "alone2", "t3"]


@pytest.mark.parametrize("way", ["a thread", "a pool"])
def test_who_was_ready_once_is_as_old_as_when_it_became_so_again(way: str) -> None:
    """It stands among the ready ones, and then what it requires has to run again."""
    graph = {"a": [], "b": ["a"], "c": ["a"], "d": ["a"], "e": ["d"]}
    queue = TaskQueue(*build(graph, Calls()).values(), executor=1)
    run(queue)
    queue.invalidate(queue.tasks[-1])
    queue.step()
    queue.invalidate(queue.tasks[-1])
    queue.invalidate(queue.tasks[0])
    wanted = ["a", "d", "b", "c", "e"]

    assert [task.name for task in queue.plan().will_run] == wanted
    assert ONE_AT_A_TIME[way](queue) == wanted


def test_a_call_that_is_withdrawn_from_a_worker_is_the_first_again() -> None:
    """Though it became ready again after the others."""
    tasks = [Task(f"{i}", time.sleep, func_args=(0.003,)) for i in range(30)]  # short calls
    queue = TaskQueue(*tasks, executor="processes:1")
    names = []

    for task in queue.run():
        names.append(task.name)
        queue.hold()
        queue.resume()

    assert names == [task.name for task in queue]


def test_nothing_overtakes_those_that_are_parked_because_one_of_them_was_given_up() -> None:
    """It was let out as a place became free; so another one is, before what became ready."""
    graph = {
        "first": [], "low": ["first"], **chain(4), "t0": ["first"],
        "high": [], "high 1": ["high"], "high 2": ["high 1"],
        "also high": [], "also high 1": ["also high"],
    }  # fmt: skip
    tasks = build(graph, Calls())
    queue = TaskQueue(*tasks.values())
    tasks["first"].func = lambda: until(lambda: queue._idle, "that all others are parked")
    names = []

    with ThreadPoolExecutor(1) as pool:
        for task in queue.run(executor=pool):
            names.append(task.name)
            if task.name == "first":
                queue.cancel(tasks["t0"], tasks["high"])

    assert names == ["first", "also high", "low", "also high 1"]


@pytest.mark.parametrize("why", ["cancelled", "failed"])
@pytest.mark.parametrize(("places", "limits"), [(2, {}), (3, {"g": 1})], ids=["place", "room"])
def test_a_run_that_is_stopped_leaves_what_waits_in_it_to_others(
    why: str, places: int, limits: dict[str, int]
) -> None:
    """At once, not when it ends: by then the others would have ended."""
    may_end, may_fail = threading.Event(), threading.Event()
    runstate = RunState()

    def fail() -> None:
        wait_for(may_fail)
        raise RuntimeError("told to fail")

    long, failing = Task("long", lambda: wait_for(may_end), group="g"), Task("failing", fail)
    rest = [Task(f"{i}", list, group="g") for i in range(5)]
    queue = TaskQueue(long, failing, *rest)
    with ThreadPoolExecutor(places) as pool:
        queue.start(runstate, executor=pool, fail_fast=True, limits=limits)
        until(lambda: queue._idle, "that all others wait")
        other = Background(lambda: run(queue))
        until(lambda: queue._idle == 2, "that the other run has nothing to do")

        may_fail.set() if why == "failed" else runstate.cancel()
        until(lambda: all(task.is_done for task in rest), "that the other run has made the rest")
        may_end.set()
        may_fail.set()

        assert sorted(other.join()) == [task.name for task in rest]
        assert queue.wait(LIMIT)
    check_settled(queue)


def test_order_longest_is_strict_in_processes() -> None:
    """No call waits in a worker, as by default one may: it would be overtaken."""
    graph = {**{f"alone{i}": [] for i in range(10)}, **chain(10)}
    queue = TaskQueue(*build(graph, Calls()).values(), order="longest")

    names = run(queue, executor="processes:1")

    assert names[:9] == [f"t{i}" for i in range(9)]


def test_a_run_with_an_executor_beside_one_without() -> None:
    """As long as it lasts, both take the longest path first; then it is first come again."""
    queue = TaskQueue(*build(PATHS, Calls()).values())
    serial = queue.run()
    names = [next(serial).name]
    other = queue.run(executor=1, once=True)
    names += [each.name for each in other]

    names += [task.name for task in serial]

    assert names == ["alone", "l1", "also alone", "s1", "l2", "s2", "l3"]
    assert run(queue) == []


def test_a_run_with_an_executor_takes_over_what_one_without_has_left_parked() -> None:
    """What waits for a place or for room is in the order of the whole queue, too."""
    calls = Calls()
    tasks = build(PATHS, calls, executor=1, group="g")
    queue = TaskQueue(*tasks.values(), limits={"g": 1})
    serial = queue.run()
    first = next(serial).name

    rest = run(queue, executor=2)

    assert {first, *rest, *(task.name for task in serial)} == {*PATHS}
    assert calls.counts == dict.fromkeys(PATHS, 1)
    check_settled(queue)


def test_who_waits_for_room_is_in_this_order_too() -> None:
    """Three workers, and a limit of one: the highest that waits is next."""
    calls = Calls()
    queue = TaskQueue(*build(PATHS, calls, uses={"gpu": 1}).values(), limits={"gpu": 1})

    list(queue.run(executor=3))

    assert calls.names == LONGEST


def test_room_goes_to_the_highest_though_it_is_ready_only_now() -> None:
    """It became ready as the room was given back, for which others waited before."""
    calls = Calls()
    graph = {**{f"alone{i}": [] for i in range(20)}, **chain(20)}
    queue = TaskQueue(*build(graph, calls, uses={"gpu": 1}).values(), limits={"gpu": 1})

    list(queue.run(executor=2))

    assert calls.names[:19] == [f"t{i}" for i in range(19)]


def test_what_is_put_back_because_it_goes_elsewhere_holds_no_room() -> None:
    """A worker's thread finds that the next task that has room goes to another place."""
    tasks = [
        Task(f"{i}", list, executor="processes:1" if i % 2 else 1, uses={"ab"[i % 3 > 0]: 1})
        for i in range(12)
    ]
    queue = TaskQueue(*tasks, limits={"a": 1, "b": 1})

    list(queue.run())

    assert queue.counts() == {"DONE": 12}


def test_the_longest_path_goes_first_then_who_was_first() -> None:
    """Each step takes what has most behind it; among equals the one that was ready first."""
    queue = TaskQueue(*build(PATHS, Calls()).values(), order="longest")

    assert run(queue) == LONGEST


def test_by_default_they_go_as_they_became_ready() -> None:
    """The same graph, first come first served."""
    queue = TaskQueue(*build(PATHS, Calls()).values())

    assert run(queue) == AS_READY


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """Draw a graph without circles."""
    graph: dict[str, list[str]] = {}
    for i in range(draw(st.integers(1, 12))):
        graph[f"t{i}"] = sorted(draw(st.sets(st.sampled_from(sorted(graph))))) if graph else []
    return graph


def height(task: Task) -> int:
    """Return how many tasks stand behind it on the longest path, the slow way."""
    return max((1 + height(other) for other in task.blocking), default=0)


@given(graphs(), st.booleans(), st.sampled_from([{"order": "longest"}, {"executor": 1}]))
def test_it_is_what_a_slow_rule_gives(graph: Graph, again: bool, how: dict[str, Any]) -> None:
    """At each step the first of the highest that are ready; also when all is run again."""
    tasks = list(build(graph, Calls()).values())
    queue = TaskQueue(*tasks, **how)
    if again:
        run(queue)
        queue.invalidate(*(task for task in tasks if not task.required))
    ready = [task for task in tasks if not task.required]
    wanted = []
    done: set[Task] = set()
    while ready:
        first = max(ready, key=height)  # the first of several
        ready.remove(first)
        done.add(first)
        wanted.append(first.name)
        ready += [t for t in first.blocking if done.issuperset(t.required)]

    assert [task.name for task in queue.plan().will_run] == wanted
    assert run(queue) == wanted


def test_requirements_and_tasks_added_later_count() -> None:
    """Heights are worked out anew when they may have changed."""
    tasks = build({"a": [], "b": [], "c": []}, Calls())
    queue = TaskQueue(*tasks.values(), order="longest")
    assert [task.name for task in queue.plan().will_run] == ["a", "b", "c"]

    queue.add(tasks["c"].then("d", list))
    assert [task.name for task in queue.plan().will_run] == ["c", "a", "b", "d"]
    late = Task("late", list)
    queue.add(late)
    late.require(tasks["b"])

    assert run(queue) == ["b", "c", "a", "late", "d"]


@pytest.mark.parametrize("example", GRAPHS.values(), ids=GRAPHS)
@pytest.mark.parametrize("how", [{}, {"executor": 3}], ids=["here", "threads"])
def test_every_graph_runs_in_this_order_too(example: Graph, how: dict[str, Any]) -> None:
    """Each task once, all DONE, with limits as well."""
    calls = Calls()
    tasks = build(example, calls, group="g")
    queue = TaskQueue(*tasks.values(), order="longest", limits={"g": 2})

    list(queue.run(**how))

    assert calls.counts == dict.fromkeys(example, 1)
    check_settled(queue)


def test_dependents_that_join_as_they_become_ready_count_from_the_start() -> None:
    """With `run_dependent_tasks` the path behind is known before its tasks are members."""
    tasks = build(PATHS, Calls())
    first = [task for task in tasks.values() if not task.required]
    queue = TaskQueue(*first, run_dependent_tasks=True, order="longest")

    assert run(queue) == LONGEST
    assert closure(first, lambda task: task.blocking) != first


def test_a_long_chain_added_from_the_front_is_quick() -> None:
    """Heights are worked out once, not with every task that is added or joins."""
    tasks = build(chain(20_000), Calls())
    queue = TaskQueue(*tasks.values(), order="longest")
    joining = TaskQueue(Task("first", list), run_dependent_tasks=True, order="longest")
    last = joining.tasks[0]
    for i in range(2_000):
        last = last.then(f"{i}", list)

    assert queue.start().wait(LIMIT)
    assert joining.start().wait(LIMIT)

    assert queue.counts() == {"DONE": 20_000}
    assert joining.counts() == {"DONE": 2_001}


@pytest.mark.parametrize("looks", [128, 1])
@given(st.data())
def test_it_is_so_too_when_the_graph_changes_under_way(looks: int, data: st.DataObject) -> None:
    """Each call adds tasks, adds requirements and takes some away; the next is by that graph."""
    ready: list[Task] = []
    wrong: list[str] = []
    last: list[Task] = []
    tasks: list[Task] = []

    def grow() -> None:
        task = Task(f"t{len(tasks)}", lambda *_: work(task))
        for other in data.draw(st.sets(st.sampled_from(range(len(tasks))), max_size=3)):
            task.require(tasks[other])
        tasks.append(task)
        queue.add(task)
        if not task.isblocked():
            ready.append(task)

    def change() -> None:
        later, earlier = data.draw(st.sampled_from(tasks)), data.draw(st.sampled_from(tasks))
        if later not in ready and later.is_pending:
            with suppress(CycleError):
                later.func_args = (earlier,)  # and no more those of before
                if not later.isblocked():
                    ready.append(later)

    def work(task: Task) -> None:
        if last:
            freed = [t for t in last.pop().blocking if not t.isblocked() and t not in ready]
            ready.extend(t for t in freed if t.is_pending or t is task)
        wanted = max(ready, key=height)
        if task is not wanted:
            wrong.append(f"{task.name} instead of {wanted.name}")
        ready.remove(task)
        for step in data.draw(st.lists(st.sampled_from([grow, change]), max_size=4)):
            if len(tasks) < 25:
                step()
        last.append(task)

    queue = TaskQueue(order="longest")  # in this thread, where draws can be made
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ORDER_MODULE, "_RISE", looks)
        patch.setattr(ORDER_MODULE, "_SHARE", 1_000)  # never an old height
        tasks.append(Task("t0", lambda *_: work(tasks[0])))
        queue.add(tasks[0])
        ready.append(tasks[0])
        for _ in range(5):
            grow()
        run(queue)

    assert wrong == []
    assert {task.fsm_state for task in tasks} <= {"DONE", "PENDING"}
    check_settled(queue)


class Counted(Task):
    """A task that counts how often its neighbours are looked at."""

    looked = 0

    @property
    def _required(self) -> Any:
        Counted.looked += 1
        return self.__dict__.get("required", ())

    @_required.setter
    def _required(self, tasks: Any) -> None:
        self.__dict__["required"] = tasks

    @property
    def _blocking(self) -> Any:
        Counted.looked += 1
        return self.__dict__.get("blocking", ())

    @_blocking.setter
    def _blocking(self, tasks: Any) -> None:
        self.__dict__["blocking"] = tasks


class CountedTasks(list[Task]):
    """Tasks that count how often one of them is looked at."""

    looked = 0

    def __iter__(self) -> Iterator[Task]:
        for task in super().__iter__():
            self.looked += 1
            yield task


@pytest.mark.parametrize("held", [False, True], ids=["runs along", "waits at its beginning"])
def test_a_chain_that_grows_while_it_runs_is_quick(held: bool) -> None:
    """Each new requirement looks at few tasks, though each could raise all that stand before."""
    size = 2_000
    tasks: list[Task] = []
    beside: list[Task] = []

    def grow(grown: int) -> None:
        for _ in range(grown):
            if len(tasks) < size:
                tasks.append(Counted(f"t{len(tasks)}", lambda: grow(0 if held else 1)))
                tasks[-1].require(tasks[-2])
                queue.add(tasks[-1])
        if held and len(tasks) < size:  # the chain grows from here, before it can begin
            beside.append(Task("grows", lambda: grow(1)))
            tasks[0].require(beside[-1])
            queue.add(beside[-1])

    queue = TaskQueue(executor=1)
    tasks.append(Counted("t0", lambda: grow(0 if held else 1)))
    queue.add(tasks[0])
    if held:
        grow(1)
    Counted.looked = 0

    assert queue.start().wait(LIMIT)

    assert queue.counts() == {"DONE": size + len(beside)}
    assert Counted.looked < 400 * size


def test_what_stands_behind_many_is_looked_at_once() -> None:
    """A report on each step of a chain, which many wait for in their turn."""
    size = 300
    report = Task("report", list)
    steps: list[Task] = []
    for i in range(size):
        steps.append(Task(f"step {i}", list))
        report.require(steps[-1])  # before the next step, so that it is met again at each
        if i:
            steps[-1].require(steps[-2])
    readers = [report.then(Task(f"reader {i}", list)) for i in range(size)]
    queue = TaskQueue(*steps, report, *readers, executor=1)
    behind = CountedTasks(readers)
    report._blocking = behind

    assert queue.plan().will_run == (*steps, report, *readers)

    assert behind.looked < 10 * size


def test_heights_may_be_old_where_much_changes_and_tasks_run_all_the_same() -> None:
    """Between two times that they are worked out; the order is the same each time."""

    def once() -> list[str]:
        calls = Calls()
        tasks = build({**chain(400), **{f"alone{i}": [] for i in range(50)}}, calls)
        queue = TaskQueue(*tasks.values(), executor=1)
        more: list[Task] = []

        def grow() -> None:
            before = [*tasks.values(), *more]
            more.append(Task(f"more{len(more)}", calls[f"more{len(more)}"]))
            more[-1].require(tasks["t399"] if len(more) == 1 else more[-2])
            more[-1].require(before[len(more)])
            queue.add(more[-1])

        def grow_much() -> None:
            for _ in range(100):
                grow()

        tasks["t0"].func = grow_much
        list(queue.run())
        assert queue.counts() == {"DONE": 550}
        return calls.names

    assert once() == once()


def test_a_line_holds_each_task_once_where_it_was_added_last_or_has_risen_to() -> None:
    """What a run puts back keeps its age, what is added again is new, what rises is out once."""
    tasks = build({name: [] for name in "abcd"}, Calls())
    a, b, c, d = tasks.values()
    queue = TaskQueue(*tasks.values())
    queue._runs.append(None)  # type: ignore[arg-type]  # so that heights change at once
    order = ORDER_MODULE.Order(queue)
    line = ORDER_MODULE.LongestFirst(order, [a, b, c])
    assert line.popleft() is a
    line.append(b)
    line.append(a)
    line.appendleft(a)
    assert [*line] == [c, b, a]

    queue.add(behind := Task("behind c", list))
    behind.require(c)
    order.link(behind, c)
    line.append(d)
    line.append(c)

    assert [line.popleft() for _ in range(len(line))] == [c, b, a, d]
    line.append(c)
    line.appendleft(d)
    assert [*line] == [d, c], "c has been out"
    assert [line.popleft(), line.popleft()] == [c, d]
    with pytest.raises(IndexError):
        line.popleft()


@pytest.mark.parametrize("order", ["fifo", "", 5, ["ready"]])
def test_an_unknown_order_is_refused_with_those_that_there_are(order: Any) -> None:
    """At once."""
    with pytest.raises(ValueError, match="'ready', 'longest'"):
        TaskQueue(order=order)
    assert ORDERS == ("ready", "longest")
