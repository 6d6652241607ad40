"""The graph: links on both sides, circles refused, and sizes that no recursion would survive."""

from __future__ import annotations

import gc
import graphlib
import itertools
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Mapping
from typing import Any, Final, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from checks import LIMIT, Calls, at_once, build, check_links, check_settled, run, states, wait_for
from graphs import GRAPHS, Graph, chain, fan_in, fan_out, ladder, shuffled
from taskqueue_nb import CycleError, FSMError, Task, TaskQueue, graph, make_now
from taskqueue_nb.task import FSM_TRANSITIONS

K = TypeVar("K")

SEVERAL: Final = [2, 3, 1_000]


@st.composite
def drawn_graphs(draw: st.DrawFn, circles: bool = False) -> Graph:
    """Draw a small graph; with `circles` the requirements may lead anywhere."""
    names = [f"n{i}" for i in range(draw(st.integers(0, 8)))]
    found: dict[str, list[str]] = {}
    for place, name in enumerate(names):
        others = names if circles else names[:place]
        found[name] = draw(st.lists(st.sampled_from(others), unique=True)) if others else []
    listed = draw(st.permutations(names))
    return {name: found[name] for name in listed}


def reached(start: K, neighbours: Mapping[K, Iterable[K]]) -> set[K]:
    """Return what can be reached, by the simplest way to say so."""
    found = {start}
    while more := {near for name in found for near in neighbours[name]} - found:
        found |= more
    return found


# ------------------------------------------------------------------------------- plain functions
@pytest.mark.parametrize("example", GRAPHS.values(), ids=GRAPHS)
def test_order_puts_requirements_first(example: Graph) -> None:
    """Every task once, after what it requires, and in the graph's own order where it may."""
    found = graph.order(example)

    assert sorted(found) == sorted(example)
    places = {name: place for place, name in enumerate(found)}
    assert all(places[r] < places[name] for name in example for r in example[name])


@given(drawn_graphs())
def test_order_of_any_graph(drawn: Graph) -> None:
    """The same of drawn graphs, listed in any order; the order is always the same."""
    found = graph.order(drawn)

    places = {name: place for place, name in enumerate(found)}
    assert sorted(found) == sorted(drawn)
    assert all(places[r] < places[name] for name in drawn for r in drawn[name])
    assert graph.order(drawn) == found


@given(drawn_graphs(circles=True))
def test_circle_is_named_exactly_when_there_is_one(drawn: Graph) -> None:
    """`order` raises for the graphs for which the standard library raises, and names a circle."""
    try:
        list(graphlib.TopologicalSorter(drawn).static_order())
    except graphlib.CycleError:
        with pytest.raises(CycleError) as caught:
            graph.order(drawn)
        path = caught.value.path
        assert path[0] == path[-1]
        assert len(set(path)) == len(path) - 1
        assert all(later in drawn[name] for name, later in itertools.pairwise(path))
    else:
        assert sorted(graph.order(drawn)) == sorted(drawn)


@given(drawn_graphs(circles=True))
def test_dependents_turn_the_graph_round(drawn: Graph) -> None:
    """Each requirement is there from the other side, once, and turned twice it is the same."""
    turned = graph.dependents(drawn)

    pairs = {(name, other) for name in drawn for other in drawn[name]}
    assert {(name, other) for other in turned for name in turned[other]} == pairs
    assert sum(map(len, turned.values())) == len(pairs)


@given(drawn_graphs(circles=True), st.data())
def test_closure_is_all_that_can_be_reached(drawn: Graph, data: st.DataObject) -> None:
    """Each node once, those that it begins with among them."""
    if not drawn:
        assert list(graph.closure([], drawn.__getitem__)) == []
        return
    start = data.draw(st.sampled_from(list(drawn)))

    found = list(graph.closure([start], drawn.__getitem__))

    assert len(found) == len(set(found))
    assert set(found) == reached(start, drawn)


@given(drawn_graphs(circles=True), st.data())
def test_path_leads_from_start_to_goal_and_is_shortest(drawn: Graph, data: st.DataObject) -> None:
    """A way is found exactly when there is one, and every step of it is a requirement."""
    if not drawn:
        return
    start = data.draw(st.sampled_from(list(drawn)))
    goal = data.draw(st.sampled_from(list(drawn)))

    way = graph.path(start, goal, drawn.__getitem__)

    if way is None:
        assert goal not in reached(start, drawn)
    else:
        assert (way[0], way[-1]) == (start, goal)
        assert all(after in drawn[before] for before, after in itertools.pairwise(way))
        assert len(set(way)) == len(way)


# ------------------------------------------------------------------------------ impossible links
def test_task_cannot_require_itself() -> None:
    """Refused, and both sides are as before."""
    one = Task("one", list)

    with pytest.raises(CycleError, match="one"):
        one.require(one)

    assert one.required == one.blocking == ()


def test_task_cannot_require_itself_under_optimisation() -> None:
    """The refusal is no `assert`: it stands under `python -O`."""
    code = (
        "from taskqueue_nb import CycleError, Task\n"
        "one = Task('one', list)\n"
        "try:\n    one.require(one)\n"
        "except CycleError:\n    print('refused', one.required, one.blocking)\n"
    )

    done = subprocess.run(
        [sys.executable, "-O", "-c", code], capture_output=True, text=True, timeout=60, check=True
    )

    assert done.stdout == "refused () ()\n"


@pytest.mark.parametrize("size", SEVERAL)
def test_circle_is_refused_when_it_is_closed_and_named(size: int) -> None:
    """The link that would close a circle is refused by an error that names the circle."""
    tasks = list(build(chain(size), Calls()).values())

    with pytest.raises(CycleError) as caught:
        tasks[0].require(tasks[-1])

    assert set(caught.value.path) == {task.name for task in tasks}
    assert tasks[0].required == ()
    assert tasks[-1].blocking == ()
    if size <= 3:
        assert all(task.name in str(caught.value) for task in tasks)
    assert len(str(caught.value)) < 2_000
    assert make_now(tasks[-1])[0].is_done


def test_circle_through_block_and_then_is_refused_too() -> None:
    """`block`, `then` and arguments close no circle either."""
    a = Task("a", list)
    b = a.then("b", list)
    c = b.then("c", list)

    for close in (lambda: c.block(a), lambda: c.then(a), lambda: a.require(b)):
        with pytest.raises(CycleError):
            close()

    assert [task.required for task in (a, b, c)] == [(), (a,), (b,)]
    assert [task.blocking for task in (a, b, c)] == [(b,), (c,), ()]


@pytest.mark.parametrize("size", SEVERAL)
def test_two_threads_cannot_close_a_circle_from_both_ends(size: int) -> None:
    """Of two links that together make a circle one is refused, whoever is first."""
    for _ in range(20 if size < 100 else 2):
        half = size // 2
        left = list(build(chain(half), Calls()).values())
        right = list(build(chain(size - half), Calls()).values())
        ends = [(left[0], right[-1]), (right[0], left[-1])]

        outcomes = at_once(2, lambda place, ends=ends: ends[place][0].require(ends[place][1]))

        refused = [isinstance(outcome, CycleError) for outcome in outcomes]
        assert sorted(refused) == [False, True]
        for task in [*left, *right]:
            check_links(task)
        make_now(*left, *right)
        assert all(task.is_done for task in [*left, *right])


@given(
    st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11)), max_size=60),
    st.sampled_from(["tasks first", "as they come"]),
)
def test_any_sequence_of_links_is_accepted_or_refused_rightly(
    links: list[tuple[int, int]], how: str
) -> None:
    """In whatever order links come: refused are those that close a circle, and no others."""
    tasks: dict[int, Task] = {}
    if how == "tasks first":
        tasks = {number: Task(f"t{number}", list) for number in range(12)}
    model: dict[int, set[int]] = {number: set() for number in range(12)}

    for later, earlier in links:
        for number in (later, earlier):
            tasks.setdefault(number, Task(f"t{number}", list))
        if later in reached(earlier, model):
            with pytest.raises(CycleError) as caught:
                tasks[later].require(tasks[earlier])
            path = [int(name[1:]) for name in caught.value.path]
            named = itertools.pairwise(path)
            assert path[0] == path[-1]
            assert all(b in model[a] or (a, b) == (later, earlier) for a, b in named)
        else:
            tasks[later].require(tasks[earlier])
            model[later].add(earlier)

    for number, task in tasks.items():
        assert {int(other.name[1:]) for other in task.required} == model[number]
        check_links(task)
    queue = TaskQueue(*tasks.values())
    assert len(run(queue)) == len(tasks)
    check_settled(queue)


def test_20_000_tasks_linked_in_any_order_are_built_quickly() -> None:
    """A chain whose tasks and links come in drawn orders: seconds, and closing it is refused."""
    draw = random.Random(5)
    tasks = [Task(f"t{i}", int) for i in draw.sample(range(20_000), 20_000)]
    places = draw.sample(range(1, 20_000), 19_999)
    began = time.process_time()

    for place in places:
        tasks[place].require(tasks[place - 1])

    assert time.process_time() - began < 10
    with pytest.raises(CycleError):
        tasks[0].require(tasks[-1])
    assert [task.name for task in make_now(tasks[-1])] == [tasks[-1].name]


@pytest.mark.parametrize("wrong", [None, 5, "name", ["list"], {}, list], ids=repr)
@pytest.mark.parametrize("how", ["require", "block", "then"])
def test_only_tasks_can_be_linked(how: str, wrong: Any) -> None:
    """None, a number, a name, a list: an error, and the graph is as before."""
    one = Task("one", list)
    if how == "then" and (callable(wrong) or isinstance(wrong, str)):
        return  # a function, or a name to which a function belongs: tested with the tasks

    with pytest.raises((TypeError, ValueError, FSMError)):
        getattr(one, how)(wrong)

    assert one.required == one.blocking == ()


@pytest.mark.parametrize("state", FSM_TRANSITIONS)
@pytest.mark.parametrize("which", ["the later", "the earlier"])
def test_link_in_any_state_is_refused_or_on_both_sides(state: str, which: str) -> None:
    """A requirement on or of a task in any state is never half there."""
    later = Task("later", list, state=state if which == "the later" else "PENDING")
    earlier = Task("earlier", list, state=state if which == "the earlier" else "PENDING")

    try:
        later.require(earlier)
    except FSMError:
        assert later.required == earlier.blocking == ()
    else:
        assert later.required == (earlier,)
        assert earlier.blocking == (later,)


def test_link_added_three_times_is_there_once() -> None:
    """The same requirement, and the same task in a queue, count once."""
    calls = Calls()
    a, b = Task("a", calls["a"]), Task("b", calls["b"])
    for _ in range(3):
        b.require(a)
    queue = TaskQueue(a, b, a)
    for _ in range(3):
        queue.add(a, b)

    assert run(queue) == ["a", "b"]

    assert b.required == (a,)
    assert a.blocking == (b,)
    assert len(queue) == 2
    assert calls.names == ["a", "b"]


def test_four_tasks_of_one_name_are_four_tasks() -> None:
    """Names need not differ: four runs, four members."""
    calls = Calls()
    tasks = [Task("same", calls["same"]) for _ in range(4)]
    for one, other in itertools.pairwise(tasks):
        other.require(one)
    queue = TaskQueue(*tasks)

    assert list(queue.run()) == tasks

    assert len(queue) == 4
    assert calls.counts == {"same": 4}


def test_links_may_be_added_while_others_ask() -> None:
    """Two threads add requirements while four ask what blocks: nothing raises, nothing is lost."""
    hub = Task("hub", list)
    others = [Task(f"t{i}", list) for i in range(400)]
    linked = [threading.Event(), threading.Event()]

    def work(place: int) -> None:
        if place < 2:
            for other in others[place::2]:
                hub.require(other)
                other.require(Task("deeper", list))
            linked[place].set()
        else:
            while not all(event.is_set() for event in linked):
                hub.isblocked()
                list(hub.blockers())
                seen = hub.required
                assert len(set(seen)) == len(seen)

    outcomes = at_once(6, work)

    assert outcomes == [None] * 6
    assert set(hub.required) == set(others)
    check_links(hub)


def test_task_may_add_tasks_and_links_while_it_runs() -> None:
    """A function that adds a task to the queue that runs it: the new one runs too."""
    calls = Calls()

    def grow() -> None:
        added = Task("added", calls["added"])
        last.require(added)
        queue.add(added)

    first = Task("first", grow)
    last = first.then("last", calls["last"])
    queue = TaskQueue(first, last)

    assert run(queue) == ["first", "added", "last"]

    assert calls.names == ["added", "last"]
    check_settled(queue)


# ------------------------------------------------------------------------------------------ sizes
def test_chain_of_100_000_is_made_without_recursion() -> None:
    """Built and made in a few seconds; the promise is below thirty."""
    began = time.monotonic()
    previous = None
    tasks = []
    for i in range(100_000):
        task = Task(f"t{i}", int)
        if previous is not None:
            task.require(previous)
        tasks.append(task)
        previous = task

    assert tasks[-1].make()

    assert all(task.is_done for task in tasks[::1_000])
    assert time.monotonic() - began < 30


def test_chain_of_100_000_in_a_queue_runs() -> None:
    """The same by a queue, and its texts are short."""
    queue = TaskQueue(*build(chain(100_000), Calls()).values())

    assert sum(1 for _ in queue.run()) == 100_000

    assert queue.counts() == {"DONE": 100_000}
    assert len(repr(queue)) < 1_000
    assert len(repr(queue.tasks[0])) < 1_000


def test_long_chain_is_freed_without_recursion() -> None:
    """Dropping a chain of 100,000 tasks does not overflow the stack; a child process shows it."""
    code = (
        "import gc\nfrom taskqueue_nb import Task\n"
        "task = Task('t', int)\n"
        "for i in range(100_000):\n    task = task.then(f't{i}', int)\n"
        "task.make()\ndel task\ngc.collect()\nprint('freed')\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True
    )

    assert done.stdout == "freed\n"


def test_shuffled_chain_of_20_000_runs_in_order() -> None:
    """The order in which tasks are added does not matter; the promise is below a minute."""
    calls = Calls()
    queue = TaskQueue(*build(shuffled(chain(20_000)), calls).values())
    began = time.process_time()

    done = run(queue)

    assert done == calls.names == list(chain(20_000))
    assert time.process_time() - began < 60


@pytest.mark.parametrize("shape", [chain, fan_in, fan_out])
def test_work_of_a_run_is_linear(shape: Any) -> None:
    """Four times the tasks, added in any order, are at most some four times the calls."""
    counts = []
    for size in (500, 2_000):
        queue = TaskQueue(*build(shuffled(shape(size)), Calls()).values())
        called = 0

        def count(_frame: object, event: str, _argument: object) -> None:
            nonlocal called
            called += event in {"call", "c_call"}

        before = sys.getprofile()
        gc.collect()
        gc.disable()  # what other tests left behind would be counted with it
        sys.setprofile(count)
        try:
            run(queue)
        finally:
            sys.setprofile(before)
            gc.enable()
        counts.append(called)

    assert counts[0] > 500
    assert counts[1] < 4.5 * counts[0]


def test_failed_head_of_20_000_stops_the_rest_until_it_is_repaired() -> None:
    """Nothing else runs; repaired, each runs once."""
    calls = Calls(failing={"t0"})
    queue = TaskQueue(*build(chain(20_000), calls).values())

    run(queue)
    assert calls.names == ["t0"]
    assert queue.counts() == {"PENDING": 19_999, "FAILED": 1}
    calls.failing.clear()
    queue.retry()
    run(queue)

    assert queue.counts() == {"DONE": 20_000}
    assert calls.names[1:] == list(chain(20_000))


def test_ladder_of_40_diamonds_runs_each_task_once() -> None:
    """2 ** 40 ways lead through it; 82 tasks, 82 calls."""
    for how in ("make", "run", "threads"):
        calls = Calls()
        tasks = build(ladder(40), calls)
        assert len(tasks) == 82

        if how == "make":
            make_now(tasks["end"])
        else:
            run(TaskQueue(*tasks.values()), executor=2 if how == "threads" else None)

        assert len(calls.names) == 82
        assert set(calls.counts.values()) == {1}
        check_settled(tasks.values())


@pytest.mark.parametrize("shape", [fan_in, fan_out])
@pytest.mark.parametrize("executor", [None, 2])
def test_3_000_into_one_and_one_into_3_000(shape: Any, executor: int | None) -> None:
    """Each runs once, in seconds, also when the one comes first in the queue."""
    calls = Calls()
    queue = TaskQueue(*build(shuffled(shape(3_000)), calls).values())

    run(queue, executor=executor)

    assert queue.counts() == {"DONE": 3_001}
    assert set(calls.counts.values()) == {1}
    check_settled(queue)


# -------------------------------------------------------------------------------- between queues
def test_prerequisite_completed_outside_frees_its_dependent() -> None:
    """A task of the queue whose prerequisite is no member runs once somebody completes that."""
    calls = Calls()
    outside = Task("outside", calls["outside"])
    inside = outside.then("inside", calls["inside"])
    helper = Task("helper", outside.dispatch)
    queue = TaskQueue(inside, helper)

    assert run(queue) == ["helper", "inside"]

    assert calls.names == ["outside", "inside"]


def test_prerequisite_outside_that_nobody_runs_keeps_its_dependent_pending() -> None:
    """The run ends; the dependent is blocked; later it runs."""
    calls = Calls()
    outside = Task("outside", calls["outside"])
    queue = TaskQueue(outside.then("inside", calls["inside"]))

    assert run(queue) == []
    assert states(queue) == {"inside": "PENDING"}
    outside.dispatch()

    assert run(queue) == ["inside"]


def test_prerequisite_running_elsewhere_is_waited_for() -> None:
    """What another thread is just running becomes done by itself: the run goes on then."""
    began, go = threading.Event(), threading.Event()
    calls = Calls()

    def work() -> None:
        began.set()
        wait_for(go)

    outside = Task("outside", work)
    queue = TaskQueue(outside.then("inside", calls["inside"]))
    thread = outside.bg()
    wait_for(began)

    queue.start()
    assert not queue.wait(0.05)
    go.set()

    assert queue.wait(LIMIT)
    thread.join(LIMIT)
    assert calls.names == ["inside"]
    check_settled([*queue, outside])


@pytest.mark.parametrize("executor", [None, 2])
def test_task_in_two_queues_runs_once(executor: int | None) -> None:
    """100 shared tasks, two queues, two threads: each function once, nothing raised."""
    calls = Calls()
    tasks = list(build(chain(50), calls).values()) + list(build(fan_out(49), calls).values())
    queues = [TaskQueue(*tasks), TaskQueue(*tasks[::-1])]

    outcomes = at_once(2, lambda place: run(queues[place], executor=executor))

    assert [o for o in outcomes if isinstance(o, BaseException)] == []
    assert len(calls.names) == 100
    assert all(task.is_done for task in tasks)
    check_settled(tasks)


def test_of_adds_all_that_the_targets_require() -> None:
    """`TaskQueue.of(*targets)` has every prerequisite, once; what requires them stays out."""
    tasks = build(GRAPHS["penguins"], Calls())

    queue = TaskQueue.of(tasks["fit adelie"], tasks["fit gentoo"], name="two fits")

    assert queue.name == "two fits"
    assert {task.name for task in queue} == {
        "load", "clean", "adelie", "gentoo", "fit adelie", "fit gentoo",
    }  # fmt: skip
    assert len(queue) == 6
    run(queue)
    assert tasks["plot"].is_pending
