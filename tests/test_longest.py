"""The order of ready tasks: as they became ready, or those with the longest path behind first."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from checks import LIMIT, Calls, build, check_settled, run
from graphs import GRAPHS, Graph, chain
from taskqueue_nb import Task, TaskQueue
from taskqueue_nb.graph import closure
from taskqueue_nb.order import ORDERS

#: Two that stand alone, a short path and a long one, in the worst order.
PATHS: Graph = {
    "alone": [], "also alone": [], "s1": [], "s2": ["s1"], "l1": [], "l2": ["l1"], "l3": ["l2"],
}  # fmt: skip


def test_the_longest_path_goes_first_then_who_was_first() -> None:
    """Each step takes what has most behind it; among equals the one that was ready first."""
    queue = TaskQueue(*build(PATHS, Calls()).values(), order="longest")

    assert run(queue) == ["l1", "s1", "l2", "alone", "also alone", "s2", "l3"]


def test_by_default_they_go_as_they_became_ready() -> None:
    """The same graph, first come first served."""
    queue = TaskQueue(*build(PATHS, Calls()).values())

    assert run(queue) == ["alone", "also alone", "s1", "l1", "s2", "l2", "l3"]


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


@given(graphs(), st.booleans())
def test_it_is_what_a_slow_rule_gives(graph: Graph, again: bool) -> None:
    """At each step the first of the highest that are ready; also when all is run again."""
    tasks = list(build(graph, Calls()).values())
    queue = TaskQueue(*tasks, order="longest")
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

    assert run(queue) == ["l1", "s1", "l2", "alone", "also alone", "s2", "l3"]
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


@pytest.mark.parametrize("order", ["fifo", None, 5])
def test_an_unknown_order_is_refused_with_those_that_there_are(order: Any) -> None:
    """At once."""
    with pytest.raises(ValueError, match="'ready', 'longest'"):
        TaskQueue(order=order)
    assert ORDERS == ("ready", "longest")
