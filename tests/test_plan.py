"""Plans: what a verb would do is what it does, in that order, or it is refused."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from checks import Calls, build, run, states
from graphs import GRAPHS, PENGUINS, Graph, chain, fan_out, layered
from taskqueue_nb import FSMError, Plan, PlanError, Task, TaskQueue, make_now, task
from taskqueue_nb.order import ORDERS
from taskqueue_nb.task import TaskError

if TYPE_CHECKING:
    from conftest import MakeQueue


def names(tasks: Any) -> list[str]:
    """Return the names of tasks, in their order."""
    return [one.name for one in tasks]


def fails() -> None:
    """Raise."""
    raise ValueError("on purpose")


@st.composite
def broken(draw: st.DrawFn) -> tuple[Graph, set[str]]:
    """Draw a graph, and which of its tasks fail."""
    count = draw(st.integers(1, 9))
    graph: dict[str, list[str]] = {}
    for i in range(count):
        graph[f"t{i}"] = sorted(draw(st.sets(st.sampled_from(sorted(graph))))) if graph else []
    return graph, draw(st.sets(st.sampled_from(sorted(graph))))


# ----------------------------------------------------------------------- what it says is done
def test_a_plan_tells_the_order_of_what_is_not_ready_yet() -> None:
    """What a verb frees in part comes when the rest is done, not when the verb is."""
    calls = Calls()
    tasks = build({"a": [], "b": [], "both": ["a", "b"], "one": ["a"]}, calls)
    supplied = TaskQueue(*tasks.values())
    plan = supplied.plan("supply", tasks["a"], "given")
    plan.apply()
    run(supplied)

    assert calls.names == names(plan.will_run) == ["b", "one", "both"]

    again = Calls(failing={"cause"})
    tasks = build({"cause": [], "ready": [], "victim": ["cause"], "last": ["ready"]}, again)
    make_now(tasks["victim"])
    retried = TaskQueue(*tasks.values())
    again.failing.clear()
    again.names.clear()
    plan = retried.plan("retry", tasks["cause"])
    plan.apply()
    run(retried)

    assert again.names == names(plan.will_run) == ["ready", "cause", "last", "victim"]


@given(
    broken(),
    st.integers(0, 9),
    st.sampled_from(["retry", "invalidate", "supply", "run"]),
    st.sampled_from([*({"order": order} for order in ORDERS), {"executor": 1}]),
    st.data(),
)
def test_plan_is_what_happens(
    drawn: tuple[Graph, set[str]],
    steps: int,
    verb: str,
    how: dict[str, Any],
    data: st.DataObject,
) -> None:
    """Whatever stands where, the next run calls what the plan says, in that order, and no more."""
    graph, failing = drawn
    calls = Calls(failing)
    tasks = build(graph, calls)
    queue = TaskQueue(*tasks.values(), **how)
    for _ in range(steps):
        list(queue.run(once=True))
    calls.failing.clear()
    calls.names.clear()
    wanted = {"retry": "FAILED", "invalidate": "DONE", "supply": "PENDING"}
    possible = [one for one in queue if one.fsm_state == wanted.get(verb)]
    if not possible and verb != "run":
        return
    args: list[Any] = [data.draw(st.sampled_from(possible))] if possible else []
    if verb == "supply":
        args.append("given")
    done = {one for one in queue if one.is_done}

    plan = queue.plan(verb, *args)
    reused, blocked = plan.reused, plan.blocked
    plan.apply()
    run(queue)

    assert calls.names == names(plan.will_run)
    assert {*reused} == {one for one in done if one not in {*plan.will_run}}
    assert {*blocked} == {one for one in queue if one.is_pending}
    assert {*plan.reasons} >= {*plan.will_run, *reused, *blocked}
    assert all(plan.reasons[one] for one in plan.reasons)


@pytest.mark.parametrize("verb", ["retry", "repair", "supply", "invalidate", "cancel", "run"])
def test_planning_changes_nothing(verb: str) -> None:
    """No step, no argument, no call: neither for the plan nor for looking at all of it."""
    calls = Calls(failing={"b"})
    queue = TaskQueue(*build({"a": [], "b": ["a"], "c": ["b"], "d": []}, calls).values())
    run(queue)
    a, b, c, d = queue
    called = list(calls.names)
    how: dict[str, tuple[Any, ...]] = {
        "retry": (b,), "repair": (b, len), "supply": (b, 1), "invalidate": (a,), "cancel": (c,),
    }  # fmt: skip
    before = [(t.fsm_history, t.func, t.func_args, t.func_kwargs, t.required) for t in queue]
    args = how.get(verb, ())
    options = {"args": ([1],)} if verb == "repair" else {}

    plan = queue.plan(verb, *args, **options)
    looked = (plan.reused, plan.blocked, dict(plan.reasons), plan.seconds, plan.sentence)

    assert looked
    assert before == [
        (t.fsm_history, t.func, t.func_args, t.func_kwargs, t.required) for t in queue
    ]
    assert calls.names == called
    assert d.is_done
    assert queue.deeds == ()


def test_plan_says_what_runs_what_is_reused_and_why(queue: MakeQueue, calls: Calls) -> None:
    """One failure of ten tasks: it and what waited for it run; what is done is reused."""
    calls.failing.add("fit gentoo")
    q = queue(PENGUINS)
    run(q)

    plan = q.plan("retry")

    assert isinstance(plan, Plan)
    assert names(plan.will_run) == ["fit gentoo", "plot", "report"]
    assert len(plan.reused) == 7
    assert plan.stale == plan.blocked == ()
    assert repr(plan) == plan.sentence == "3 will run, 7 are reused"
    reasons = {one.name: plan.reasons[one] for one in plan.reasons}
    assert reasons["fit gentoo"] == "it failed: RuntimeError: fit gentoo was told to fail"
    assert reasons["plot"] == "it waited for 'fit gentoo'"
    assert reasons["report"] == "it waited for 'plot'"
    assert reasons["load"] == "it is done, and nothing that it was made from changes"


def test_plan_of_invalidate_names_what_becomes_stale(queue: MakeQueue) -> None:
    """The results that are given up are stale, and made anew in the run."""
    q = queue(GRAPHS["diamond"])
    run(q)
    top, left, right, bottom = q

    plan = q.plan("invalidate", left)

    assert plan.stale == (left, bottom)
    assert plan.will_run == (left, bottom)
    assert plan.reused == (top, right)
    assert plan.reasons[left] == "it is to run again"
    assert plan.reasons[bottom] == "'left', which it requires, runs again"
    assert repr(plan) == "2 will run, 2 are reused, under 1 s"


def test_plan_says_what_stays_blocked_and_by_what(queue: MakeQueue, calls: Calls) -> None:
    """Of two causes one is retried: what needs the other stays where it is."""
    calls.failing |= {"x", "y"}
    q = queue(GRAPHS["join"])
    run(q)
    x, y, z, report = q

    plan = q.plan("retry", x)

    assert plan.will_run == (x,)
    assert plan.blocked == (report,)
    assert plan.reused == (z,)
    assert plan.reasons[report] == "blocked by 'y', which is failed"
    assert plan.sentence == "1 will run, 1 is reused, 1 stays blocked, under 1 s"
    assert y.is_failed


def test_plan_of_a_prerequisite_outside_says_so() -> None:
    """What the queue does not run stays undone, and so does what requires it."""
    outside = Task("outside", list)
    inside = outside.then("inside", list)

    plan = TaskQueue(inside).plan()

    assert plan.will_run == ()
    assert plan.blocked == (inside,)
    assert plan.reasons[inside] == "it requires 'outside', which is not done and not in this queue"
    assert plan.sentence == "nothing will run, 1 stays blocked"


def test_plan_of_repair_knows_the_new_prerequisites() -> None:
    """Arguments that bring a task along wait for it; what leaves them is waited for no more."""
    a, b = Task("a", lambda: 1), Task("b", lambda: 2)
    bad = Task("bad", fails)
    user = Task("user", lambda value: value, func_args=(bad,))
    late = TaskQueue(a, b, bad, user)
    [*itertools.islice(late.run(), 1)]

    plan = late.plan("repair", user, args=[[b]])

    assert names(plan.will_run) == ["b", "bad", "user"]
    assert plan.reasons[user] == "its arguments are new"
    plan.apply()
    assert [*late.run()] == [b, bad, user]
    assert user.result() == [2]


def test_plan_of_repair_that_would_be_refused_is_refused() -> None:
    """A signature that does not fit, a circle, a done task: at once, in the verb's own words."""
    one = Task("one", lambda a: a, func_args=(1,))
    two = one.then("two", list)
    queue = TaskQueue(one, two)

    with pytest.raises(TypeError, match="cannot be called so"):
        queue.plan("repair", one, args=())
    with pytest.raises(FSMError, match="circle"):
        queue.plan("repair", one, args=(two,))
    with pytest.raises(FSMError, match="is PENDING, cannot invalidate"):
        queue.plan("invalidate", one)


@pytest.mark.parametrize("verb", ["", "nonsense", "__class__", "undo", None, 5])
def test_plan_of_no_verb_names_the_verbs(verb: Any) -> None:
    """A typing error is told with what would have worked."""
    queue = TaskQueue(Task("one", list))

    with pytest.raises(ValueError, match=r"there is no verb .*retry, repair, supply, invalidate"):
        queue.plan(verb)


@pytest.mark.parametrize("wrong", [None, 5, "one", Task("stranger", list)], ids=str)
def test_plan_of_what_is_no_member_is_refused(wrong: Any) -> None:
    """As the verb itself refuses it."""
    queue = TaskQueue(Task("one", fails, state="FAILED"))

    with pytest.raises((TypeError, TaskError)):
        queue.plan("retry", wrong)


def test_plan_of_one_task_needs_no_queue() -> None:
    """A task tells what a verb would set in motion, in whatever queue it is."""
    load = Task("load", fails)
    clean = load.then("clean", list)
    make_now(clean)

    plan = load.plan("retry")

    assert plan.will_run == (load, clean)
    assert plan.reasons[clean] == "it fell with 'load'"
    assert plan.apply() == (load, clean)
    assert states([load, clean]) == {"load": "PENDING", "clean": "PENDING"}


# ----------------------------------------------------------------------------------- a moved graph
MOVES: Final[dict[str, Callable[[TaskQueue, dict[str, Task]], object]]] = {
    "retried": lambda q, t: q.retry(t["b"]),
    "retried and failed again": lambda q, t: [q.retry(t["b"]), run(q)],
    "given up": lambda q, t: t["b"].abort(),
    "supplied": lambda q, t: q.supply(t["b"], 1),
    "repaired": lambda q, t: setattr(t["b"], "func", list),
    "other arguments": lambda q, t: setattr(t["b"], "func_args", (1,)),
    "a dependent cancelled": lambda q, t: t["c"].cancel(),
    "a requirement more": lambda q, t: t["c"].require(Task("late", list)),
    "a task more": lambda q, t: q.add(t["b"].then("e", list)),
    "a prerequisite invalidated": lambda q, t: q.invalidate(t["a"]),
}


@pytest.mark.parametrize("move", MOVES)
def test_plan_of_a_graph_that_has_moved_is_refused(move: str) -> None:
    """What was planned is not what would happen: the error says what moved; nothing changes."""
    calls = Calls(failing={"b"})
    tasks = build({"a": [], "b": ["a"], "c": ["b"], "d": []}, calls)
    queue = TaskQueue(*tasks.values())
    run(queue)
    plan = queue.plan("retry")
    MOVES[move](queue, tasks)
    before = [one.fsm_history for one in queue]

    with pytest.raises(PlanError, match="the graph has moved since this plan was made: '"):
        plan.apply()

    assert [one.fsm_history for one in queue] == before


def test_plan_of_arguments_that_do_not_compare_is_applied_or_refused() -> None:
    """Arrays are compared by what they are, not by their members."""
    import numpy as np

    one = Task("one", fails, func_args=(), func_kwargs={})
    queue = TaskQueue(one)
    run(queue)
    one.func = lambda rows: rows.sum()
    one.func_args = (np.arange(3),)
    plan = queue.plan("retry")
    one.func_args = (np.arange(4),)

    with pytest.raises(PlanError, match="'one' has other code or arguments"):
        plan.apply()
    queue.plan("repair", one, args=[np.arange(5)]).apply()
    run(queue)
    assert one.result() == 10


def test_plan_applied_twice_is_refused() -> None:
    """The button pressed twice acts once."""
    one = Task("one", fails)
    queue = TaskQueue(one)
    run(queue)
    plan = queue.plan("retry")
    plan.apply()

    with pytest.raises(PlanError, match="'one' went from FAILED to PENDING"):
        plan.apply()


def test_plan_outlives_what_does_not_concern_it() -> None:
    """A task elsewhere that is added, and done, does not make the plan wrong."""
    calls = Calls(failing={"b"})
    queue = TaskQueue(*build({"b": [], "c": ["b"]}, calls).values())
    run(queue)
    plan = queue.plan("retry")
    far = Task("far", calls["far"])
    far.dispatch()
    queue.add(far)

    moved = plan.apply()

    assert names(moved) == ["b"]


def test_what_a_value_does_not_make_ready_yet_runs_later() -> None:
    """A dependent that waits for another task too does not come before one that is ready."""
    given, other = Task("given", list), Task("other", list)
    queue = TaskQueue(given, other)
    for number in range(20):  # in whatever order the dependents of a task are kept
        both = Task(f"both {number}", list)
        both.require(given)
        both.require(other)
        queue.add(both, given.then(f"one {number}", list))
    plan = queue.plan("supply", given, 1)

    plan.apply()

    assert names([*queue.run()]) == names(plan.will_run)


def test_looking_at_a_task_moves_nothing() -> None:
    """A plan is good after somebody read the code, the arguments and the attempts."""
    one = Task("one", list)
    queue = TaskQueue(one)
    queue.cancel(one)
    plan = queue.plan("retry", one)

    assert (one.func, one.func_args, one.func_kwargs, one.attempts) == (list, (), {}, [])

    assert plan.apply() == (one,)


def test_plan_that_has_moved_still_says_what_it_said(queue: MakeQueue, calls: Calls) -> None:
    """The lists are those of the moment when it was made, though looked at later."""
    calls.failing.add("b")
    q = queue(GRAPHS["chain"])
    run(q)
    plan = q.plan("retry")
    calls.failing.clear()
    q.retry()
    run(q)

    assert names(plan.reused) == ["a"]
    assert plan.blocked == ()
    assert plan.sentence.startswith("4 will run, 1 is reused")


# -------------------------------------------------------------------------------- the expected time
class Clock:
    """A clock that moves when told."""

    now = 1_000.0

    def __call__(self) -> float:
        """Return the time, which never stands still."""
        self.now += 1e-6
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Give tasks and plans a clock of the test's own."""
    found = Clock()
    for module in ("task", "repair.changes", "repair.plans"):
        monkeypatch.setattr(sys.modules[f"taskqueue_nb.{module}"], "time", found)
    return found


def test_plan_expects_what_it_took_before(clock: Clock) -> None:
    """Each task as long as its last good attempt; those without one as others of their function."""

    def slow(seconds: float) -> None:
        clock.now += seconds

    first, second = Task("first", slow, func_args=(8,)), Task("second", slow, func_args=(4,))
    new = second.then("new", slow, func_args=(9,))
    queue = TaskQueue(first, second)
    run(queue)
    queue.add(new)

    plan = queue.plan("invalidate", first, second)

    assert [round(plan.seconds_of(one) or 0) for one in plan.will_run] == [8, 4, 6]
    assert round(plan.seconds or 0) == 18
    assert plan.sentence == "3 will run, about 18 s"
    queue.executor = 2
    assert queue.plan("invalidate", first, second).sentence == "3 will run, about 10 s"


def test_plan_without_earlier_attempts_names_no_time(clock: Clock) -> None:
    """Nothing is invented: of what is known in part it says that it is the least."""

    def slow() -> None:
        clock.now += 160

    one = Task("one", slow)
    queue = TaskQueue(one)
    assert queue.plan().seconds is None
    assert repr(queue.plan()) == "1 will run"
    run(queue)
    queue.add(one.then("two", list))

    plan = queue.plan("invalidate", one)

    assert plan.seconds is None
    assert plan.sentence == "2 will run, at least 3 min"


# ------------------------------------------------------------------------------------------- causes
def test_cause_can_be_retried_and_planned_as_it_is() -> None:
    """It stands for its tasks."""
    tasks = [Task(name, fails) for name in "ab"]
    queue = TaskQueue(*tasks)
    run(queue)
    (cause,) = queue.causes().groups

    assert queue.plan("retry", cause).will_run == tuple(tasks)
    assert queue.retry(cause) == tuple(tasks)


def test_plan_has_a_reason_for_every_member() -> None:
    """What stays failed or aborted is said too, and a missing argument by the verb's own name."""
    calls = Calls(failing={"x", "y"})
    queue = TaskQueue(*build(GRAPHS["join"], calls).values())
    run(queue)
    x, y, z, report = queue
    z.func = fails

    plan = queue.plan("retry", x)

    assert [*plan.reasons] == [x, y, z, report]
    assert plan.reasons[y] == "it stays failed"
    y.abort()
    assert queue.plan("retry", x).reasons[report] == "blocked by 'y', which is aborted"
    with pytest.raises(TypeError, match=r"^supply\(\) missing"):
        queue.plan("supply", y)


@pytest.mark.parametrize(
    ("graph", "sentence"),
    [({"good": []}, "no causes"), ({"bad": []}, "1 cause"), ({"bad": [], "worse": []}, "2 causes"),
     ({"bad": [], "after": ["bad"]}, "1 cause blocks 1 task"),
     ({"bad": [], "worse": [], "after": ["bad", "worse"]}, "2 causes block 1 task")],
    ids=str,
)  # fmt: skip
def test_causes_say_what_they_block_if_anything(graph: Graph, sentence: str) -> None:
    """Nobody wants to read of no tasks."""
    tasks = build(graph, Calls())
    for name in ("bad", "worse"):
        if name in tasks:
            tasks[name].cancel()
    if "worse" in tasks:
        tasks["worse"].abort()

    causes = TaskQueue(*tasks.values()).causes()

    assert str(causes) == sentence
    assert all(str(each).endswith("1 task") for each in causes.groups if not each.blocked)


def test_causes_are_grouped_by_exception_and_place() -> None:
    """Six tasks that fell at one line are one cause; another line is another one."""

    def parse(text: str) -> float:
        if not text:
            raise KeyError("nothing there")
        return float(text)

    parsed = task(parse).map(["1", "x", "y", "z", ""])
    total = Task("total", sum, func_args=(parsed,))
    queue = TaskQueue(*parsed, total, Task("other", list))
    run(queue)

    causes = queue.causes()

    assert names(causes) == ["parse[x]", "parse[y]", "parse[z]", "parse[]"]
    assert [(names(c.tasks), c.error, names(c.blocked)) for c in causes.groups] == [
        (["parse[x]", "parse[y]", "parse[z]"], "ValueError", ["total"]),
        (["parse[]"], "KeyError", ["total"]),
    ]
    assert str(causes) == "2 causes block 1 task"
    first = causes.groups[0]
    assert "parse(), line" in first.place
    assert str(first) == f"ValueError in {first.place}: 3 tasks, 1 blocked"
    assert {*queue.retry(*first.tasks)} == {*first.tasks}


def test_place_of_a_cause_is_in_the_users_code() -> None:
    """Two calls of one library function that raises are told apart by where they stand."""
    import json

    def one() -> Any:
        return json.loads("{")

    def two() -> Any:
        return json.loads("{")

    queue = TaskQueue(Task("one", one), Task("two", two))
    run(queue)

    places = [cause.place for cause in queue.causes().groups]

    assert ["one()" in places[0], "two()" in places[1]] == [True, True]


# -------------------------------------------------------------------- a definition that is replaced
def define(source: str, space: dict[str, Any]) -> None:
    """Run a cell in a namespace."""
    exec(source, space)  # noqa: S102 - this is what a notebook does


LOAD = "@task\ndef load(x):\n    return {}\n"


def test_retry_takes_the_function_as_it_is_defined_now() -> None:
    """A cell run again mends what it defines: the button after the fix runs the fix."""
    space: dict[str, Any] = {"task": task}
    define(LOAD.format("1 / 0"), space)
    loaded = space["load"](1)
    plain = Task("plain", loaded.func, func_args=(2,))
    queue = TaskQueue(loaded, plain)
    run(queue)
    old = loaded.func
    define(LOAD.format("x + 40"), space)

    plan = queue.plan("retry")
    assert plan.reasons[loaded].endswith("division by zero; its function was defined anew")
    plan.apply()
    run(queue)

    assert [loaded.result(), plain.result()] == [41, 42]
    assert loaded.func is space["load"].func
    queue.invalidate(loaded)
    queue.undo()
    assert loaded.result() == 41
    assert old is not loaded.func


def test_pending_task_keeps_its_function_until_it_is_refreshed() -> None:
    """A task is a call of what it was built with: a later function of the name changes nothing."""
    space: dict[str, Any] = {"task": task}
    define(LOAD.format("'old'"), space)
    first = space["load"](1)
    define(LOAD.format("'new'"), space)
    second = space["load"](1)
    queue = TaskQueue(first, second)

    assert [*queue.stale().values()] == ["code changed: its code changed"]
    run(queue)

    assert [first.result(), second.result()] == ["old", "new"]
    queue.refresh().apply()
    run(queue)
    assert first.result() == "new"


def test_refresh_gives_pending_tasks_the_function_of_now() -> None:
    """And takes it back when it is undone."""
    space: dict[str, Any] = {"task": task}
    define(LOAD.format("'old'"), space)
    first = space["load"](1)
    queue = TaskQueue(first)
    old = first.func
    define(LOAD.format("'new'"), space)

    queue.refresh().apply()
    assert first.func is space["load"].func
    queue.undo()
    assert first.func is old
    queue.refresh().apply()
    run(queue)

    assert first.result() == "new"


ANEW: Final[dict[str, tuple[str, str]]] = {
    "built under its own name": (LOAD.format("1") + "load = load(3)\n", LOAD.format("2")),
    "the name meant something else for a while": (
        LOAD.format("1") + "made = load(3)\nload = None\n", LOAD.format("2"),
    ),
    "made by a call of task": (
        "def load(x):\n    return 1\nload = task(load)\n",
        "def load(x):\n    return 2\nload = task(load)\n",
    ),
}  # fmt: skip


@pytest.mark.parametrize("how", ANEW)
def test_definition_is_replaced_however_it_is_written(how: str) -> None:
    """What counts is that `@task` meets the name again in the same namespace."""
    space: dict[str, Any] = {"task": task}
    before, after = ANEW[how]
    define(before, space)
    made = next((one for one in space.values() if isinstance(one, Task)), None)
    made = made or space["load"](3)
    queue = TaskQueue(made)
    run(queue)

    define(after, space)

    assert [*queue.stale().values()] == ["code changed: its code changed"]
    queue.refresh().apply()
    run(queue)
    assert made.result() == 2


def test_functions_of_a_loop_or_of_one_text_replace_none(tmp_path: Path) -> None:
    """Three of one name stay three; and so they do when the file is run again."""
    file = tmp_path / "notebook.py"
    file.write_text(
        "made = []\nfor i in range(3):\n    @task\n    def f(i=i):\n        return i\n"
        "    made.append(f())\n@task\ndef g():\n    return 'a'\nmade.append(g())\n"
        "@task\ndef g():\n    return 'b'\nmade.append(g())\n"
    )
    space: dict[str, Any] = {"task": task}
    for _ in range(2):
        exec(compile(file.read_text(), str(file), "exec"), space)  # noqa: S102 - a script
        queue = TaskQueue(*space["made"])
        run(queue)

        assert [one.result() for one in queue] == [0, 1, 2, "a", "b"]
        assert queue.stale() == {}


def test_function_that_no_longer_fits_is_refused_before_anything_changes() -> None:
    """By retry and by refresh alike: the good value stays."""
    space: dict[str, Any] = {"task": task}
    define(LOAD.format("x"), space)
    good, bad = space["load"](1), space["load"](2)
    queue = TaskQueue(good, bad)
    run(queue)
    bad.invalidate()
    bad.fsm_event("error")
    define("@task\ndef load():\n    return 0\n", space)

    with pytest.raises(TypeError, match="cannot be called so"):
        queue.refresh()
    with pytest.raises(TypeError, match="cannot be called so"):
        queue.retry(bad)

    assert good.value == 1
    assert bad.is_failed


def test_plan_made_before_a_new_definition_is_refused() -> None:
    """It would run other code than it said."""
    space: dict[str, Any] = {"task": task}
    define(LOAD.format("1 / 0"), space)
    one = space["load"](1)
    queue = TaskQueue(one)
    run(queue)
    plan = queue.plan("retry")
    define(LOAD.format("1"), space)

    with pytest.raises(PlanError, match="'load' was defined anew"):
        plan.apply()


def test_done_tasks_stay_done_when_their_function_is_defined_anew() -> None:
    """Nothing runs again unasked."""
    space: dict[str, Any] = {"task": task}
    define("@task(retries=1)\ndef load():\n    return 1\n", space)
    loaded = space["load"]()
    queue = TaskQueue(loaded)
    run(queue)

    define("@task(retries=1)\ndef load():\n    return 2\n", space)

    assert run(queue) == []
    assert loaded.result() == 1
    queue.invalidate(loaded)
    assert [*queue.run()] == [loaded]
    assert loaded.result() == 2


def test_functions_of_one_name_in_different_places_stay_apart() -> None:
    """What is local to a function, or not made by @task, replaces nothing."""

    def local(value: int) -> Task:
        @task
        def load() -> int:
            return value

        return load()

    space: dict[str, Any] = {}
    define("def work():\n    return 'old'\n", space)
    old = Task("old", space["work"])
    define("def work():\n    return 'new'\n", space)
    first, second = local(1), local(2)

    run(TaskQueue(old, first, second))

    assert [old.result(), first.result(), second.result()] == ["old", 1, 2]


def test_replaced_functions_are_freed() -> None:
    """A hundred versions of a cell keep no function alive but the last."""
    import gc
    import weakref

    space: dict[str, Any] = {"task": task}
    seen = []
    for version in range(100):
        define(f"@task\ndef load():\n    return {version}\n", space)
        seen.append(weakref.ref(space["load"].func))

    gc.collect()

    assert sum(each() is not None for each in seen) == 1


# ----------------------------------------------------------------------------------------- the cost
@pytest.mark.parametrize("size", [200, 2_000])
def test_planning_a_mend_does_not_look_at_the_whole(size: int) -> None:
    """One failure among many done tasks: a plan and its doing read the states of a few alone."""

    class Counted(Task):
        looked: list[str] = []  # noqa: RUF012 - one for all of them

        @property
        def fsm_state(self) -> str:
            self.looked.append(self.name)
            return str(self.__dict__["state"])

        @fsm_state.setter
        def fsm_state(self, state: str) -> None:
            self.__dict__["state"] = state

    calls = Calls(failing={"t7"})
    tasks = {name: Counted(name, calls[name]) for name in fan_out(size)}
    for name, required in fan_out(size).items():
        for other in required:
            tasks[name].require(tasks[other])
    queue = TaskQueue(*tasks.values())
    run(queue)
    Counted.looked.clear()

    queue.plan("retry").apply()

    assert len(Counted.looked) < 100


def test_mending_in_a_large_graph_is_exact(calls: Calls) -> None:
    """In 1,000 layered tasks and in a chain only the cause and what waited for it run again."""
    for graph, bad in ((layered(50, 20), "t10.3"), (chain(1_000), "t500")):
        own = Calls(failing={bad})
        queue = TaskQueue(*build(graph, own).values())
        run(queue)
        waited = {one.name for one in queue if one.is_pending} | {bad}
        own.failing.clear()
        own.names.clear()

        plan = queue.plan("retry")
        plan.apply()
        run(queue)

        assert {*own.names} == waited
        assert own.names == names(plan.will_run)
        assert len(own.names) == len(waited)
