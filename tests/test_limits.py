"""Limits: what may run together, who waits, that nobody starves, and what is refused."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Callable
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from checks import LIMIT, Background, check_settled, wait_for
from taskqueue_nb import Task, TaskError, TaskQueue
from taskqueue_nb.limits import Room, needs_of

pytestmark = pytest.mark.usefixtures("no_threads_left")

#: The ways to run several tasks at once.
WAYS: Final[dict[str, Callable[..., object]]] = {
    "run, 8 threads": lambda queue, **how: list(queue.run(executor=8, **how)),
    "start, 8 threads": lambda queue, **how: queue.start(executor=8, **how).wait(LIMIT),
    "arun": lambda queue, **how: asyncio.run(queue.arun(**how)),
    "arun, own pools": lambda queue, **how: asyncio.run(queue.arun(executor=12, **how)),
    "run": lambda queue, **how: list(queue.run(**how)),
}


class Meter:
    """Counts how much of each thing is in use while functions run."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.now: dict[str, float] = {}
        self.most: dict[str, float] = {}

    def change(self, needs: dict[str, float], sign: int) -> None:
        """Add what a function uses, or take it away."""
        with self._lock:
            for name, need in needs.items():
                self.now[name] = self.now.get(name, 0) + sign * need
                self.most[name] = max(self.most.get(name, 0), self.now[name])

    def plain(self, **needs: float) -> Callable[..., None]:
        """Return a function that uses something, for two looks at the clock."""

        def work(*_: object) -> None:
            self.change(needs, 1)
            threading.Event().wait(0.001)
            self.change(needs, -1)

        return work

    def later(self, **needs: float) -> Callable[..., Any]:
        """Return a coroutine function that uses something, for some turns of the loop."""

        async def work(*_: object) -> None:
            self.change(needs, 1)
            for _turn in range(3):
                await asyncio.sleep(0)
            self.change(needs, -1)

        return work


# ---------------------------------------------------------------------------------------- they hold
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("kind", ["plain", "later"])
def test_groups_and_uses_are_kept_to_their_limits(kind: str, way: Callable[..., object]) -> None:
    """Never more at once than there is; each task once, all DONE."""
    meter = Meter()
    make = getattr(meter, kind)
    tasks = [Task(f"fit {i}", make(gpu=1 + i % 2), uses={"gpu": 1 + i % 2}) for i in range(12)] + [
        Task(f"get {i}", make(downloads=1), group="downloads") for i in range(12)
    ]
    queue = TaskQueue(*tasks, limits={"gpu": 2, "downloads": 3})

    way(queue)

    assert queue.counts() == {"DONE": 24}
    assert meter.most["gpu"] <= 2
    assert meter.most["downloads"] <= 3
    assert all(len(task.attempts) == 1 for task in tasks)
    assert not queue._room._used
    assert not queue._room._held
    check_settled(tasks)


def test_coroutines_meet_up_to_the_limit() -> None:
    """A limit is no lower than it says: as many as it allows do run together."""
    meter = Meter()
    queue = TaskQueue(
        *(Task(f"{i}", meter.later(gpu=1), uses={"gpu": 1}) for i in range(10)), limits={"gpu": 4}
    )

    asyncio.run(queue.arun())

    assert meter.most["gpu"] == 4


def test_a_group_that_is_used_too_counts_both() -> None:
    """A name stands for one thing, however a task comes to take it up."""
    meter = Meter()
    tasks = [Task(f"{i}", meter.later(x=2), group="x", uses={"x": 1}) for i in range(6)]

    asyncio.run(TaskQueue(*tasks, limits={"x": 4}).arun())

    assert meter.most["x"] == 4


def test_a_run_may_have_limits_of_its_own() -> None:
    """Besides the queue's, or instead of them; the next run has the queue's again."""
    meter = Meter()
    tasks = [
        Task(f"{i}", meter.later(gpu=1, net=1), uses={"gpu": 1}, group="net") for i in range(8)
    ]
    queue = TaskQueue(*tasks, limits={"gpu": 4})

    asyncio.run(queue.arun(limits={"gpu": 2}))
    assert meter.most == {"gpu": 2, "net": 2}
    queue.invalidate(*tasks)
    asyncio.run(queue.arun(limits={"net": 3}))
    assert meter.most == {"gpu": 3, "net": 3}
    queue.invalidate(*tasks)
    asyncio.run(queue.arun())

    assert meter.most == {"gpu": 4, "net": 4}
    assert queue.limits == {"gpu": 4}


def test_start_again_by_a_verb_keeps_the_limits_of_the_start() -> None:
    """`then_run` goes on in the way of the last start."""
    meter = Meter()
    queue = TaskQueue(*(Task(f"{i}", meter.later(gpu=1), uses={"gpu": 1}) for i in range(6)))
    assert queue.start(limits={"gpu": 2}).wait(LIMIT)

    queue.invalidate(*queue, then_run=True)
    assert queue.wait(LIMIT)

    assert queue.counts() == {"DONE": 6}
    assert meter.most == {"gpu": 2}


@pytest.mark.parametrize("executor", [None, 4])
def test_failures_retries_and_cancels_give_back_what_they_took(executor: int | None) -> None:
    """Room is given back however an attempt ends, or the last would hang."""
    tries: list[int] = []
    gate = threading.Event()

    def flaky() -> None:
        tries.append(1)
        if len(tries) < 3:
            raise ValueError

    def broken() -> None:
        raise ValueError

    def gives_up() -> None:
        Task.current().cancel()  # type: ignore[union-attr]  # it runs as a task

    uses = {"gpu": 1}
    tasks = [
        Task(flaky, retries=2, uses=uses),
        Task(broken, uses=uses),
        Task(gives_up, uses=uses),
        Task("timed", lambda: gate.wait(LIMIT), timeout=0.01, uses=uses),
        Task("last", list, uses=uses),
    ]
    queue = TaskQueue(*tasks, limits={"gpu": 1})

    list(queue.run(executor=executor))

    assert [t.fsm_state for t in tasks] == ["DONE", "FAILED", "CANCELLED", "FAILED", "DONE"]
    assert not queue._room._used
    gate.set()  # the one that was given up ends


def test_an_interrupt_gives_back_what_was_taken() -> None:
    """A rerun finds all the room."""
    good = False

    def interrupted() -> None:
        if not good:
            raise KeyboardInterrupt

    tasks = [Task(f"{i}", interrupted, uses={"gpu": 1}) for i in range(3)]
    queue = TaskQueue(*tasks, limits={"gpu": 1})
    with pytest.raises(KeyboardInterrupt):
        list(queue.run())
    good = True

    queue.retry()
    list(queue.run())

    assert queue.counts() == {"DONE": 3}


def test_a_waiting_task_that_is_cancelled_is_passed_over() -> None:
    """It waits for nothing any more, and those behind it go on; retried, it runs."""
    gate, started = threading.Event(), threading.Event()

    def holds() -> None:
        started.set()
        gate.wait(LIMIT)

    first, second, third = (
        Task(name, func, uses={"gpu": 1})
        for name, func in (("first", holds), ("second", list), ("third", list))
    )
    queue = TaskQueue(first, second, third, limits={"gpu": 1})
    queue.start(executor=3)
    wait_for(started)

    second.cancel()
    gate.set()
    assert queue.wait(LIMIT)
    assert third.is_done
    assert second.is_cancelled
    second.retry()
    list(queue.run())

    assert queue.counts() == {"DONE": 3}


def test_a_held_queue_keeps_those_that_wait_for_room() -> None:
    """They go on after `resume`."""
    gate, started = threading.Event(), threading.Event()

    def holds() -> None:
        started.set()
        gate.wait(LIMIT)

    first, second = Task(holds, uses={"gpu": 1}), Task("second", list, uses={"gpu": 1})
    queue = TaskQueue(first, second, limits={"gpu": 1})
    queue.start(executor=2)
    wait_for(started)
    queue.hold()
    gate.set()
    assert first.join(LIMIT)

    assert queue.running
    assert second.is_pending
    queue.resume()
    assert queue.wait(LIMIT)

    assert second.is_done


def test_what_waits_for_room_is_part_of_a_plan() -> None:
    """Half-way through a run, too."""
    gate, started = threading.Event(), threading.Event()

    def holds() -> None:
        started.set()
        gate.wait(LIMIT)

    first, second = Task(holds, uses={"gpu": 1}), Task("second", list, uses={"gpu": 1})
    pooled = [Task(f"{i}", holds, executor=1) for i in range(2)]
    queue = TaskQueue(first, second, *pooled, limits={"gpu": 1})
    running = Background(lambda: list(queue.run(executor=4)))
    wait_for(started)
    while pooled[0].is_pending or not (queue._room or second.is_done):
        threading.Event().wait(0.001)

    assert {*queue.plan().will_run} >= {second, pooled[1]}
    gate.set()
    running.join()


# ----------------------------------------------------------------------------------- nobody starves
def test_a_task_that_uses_much_is_not_overtaken_for_ever() -> None:
    """The big one runs before the small ones that became ready after it."""
    order: list[str] = []
    room = Room()
    limits = {"gpu": 2.0}
    one, two = (("gpu", 1),), (("gpu", 2),)
    tasks = {name: Task(name, list) for name in ("a", "b", "big", "c", "d")}

    assert room.enter(tasks["a"], one, limits)
    assert room.enter(tasks["b"], one, limits)
    assert not room.enter(tasks["big"], two, limits)
    assert not room.enter(tasks["c"], one, limits)
    room.leave(tasks["a"], room.hold_of(tasks["a"]))
    assert room.let_out(limits, lambda _: True) is None, "c would overtake the big one"
    assert not room.enter(tasks["d"], one, limits)
    room.leave(tasks["b"], room.hold_of(tasks["b"]))
    while (task := room.let_out(limits, lambda _: True)) is not None:
        assert room.enter(task, two if task.name == "big" else one, limits)
        order.append(task.name)
        room.leave(task, room.hold_of(task))

    assert order == ["big", "c", "d"]


def test_the_highest_that_wait_get_room_first() -> None:
    """Then by age; nobody behind the first takes what that one waits for, higher ones may."""
    room = Room()
    limits = {"gpu": 2.0, "net": 1.0}
    one, two, net = (("gpu", 1),), (("gpu", 2),), (("net", 1),)
    names = ("a", "b", "low", "high", "top", "old", "net", "next")
    tasks = {name: Task(name, list) for name in names}
    assert room.enter(tasks["a"], one, limits)
    assert room.enter(tasks["b"], one, limits)
    assert not room.enter(tasks["old"], one, limits, 1)
    assert not room.enter(tasks["high"], two, limits, 7)
    assert not room.enter(tasks["low"], one, limits, 1)
    room.leave(tasks["a"], room.hold_of(tasks["a"]))

    assert room.let_out(limits, lambda _: True) is None, "the first wants both"
    assert not room.enter(tasks["next"], one, limits, 6)
    assert room.enter(tasks["net"], net, limits, 0), "it wants something else"
    assert room.enter(tasks["top"], one, limits, 8)
    room.leave(tasks["b"], room.hold_of(tasks["b"]))
    room.leave(tasks["top"], room.hold_of(tasks["top"]))
    first = room.let_out(limits, lambda _: True)

    assert first is tasks["high"]
    assert room.enter(first, two, limits, 7)
    assert room.let_out(limits, lambda _: True) is None
    room.leave(first, room.hold_of(first))
    order = [room.let_out(limits, lambda _: True) for _ in range(4)]
    assert order == [tasks["next"], tasks["old"], tasks["low"], None]


def test_those_who_want_more_or_less_of_the_same_stand_in_one_line() -> None:
    """A start looks at its head, however many amounts are wanted; the order is the same."""
    room, limits = Room(), {"mem": 64.0}
    first = Task("first", list)
    tasks = [Task(f"t{i}", list) for i in range(50)]
    needs = [(("mem", 1 + (i * 37) % 50),) for i in range(50)]
    looked: list[Task] = []

    def is_ready(task: Task) -> bool:
        looked.append(task)
        return True

    assert room.enter(first, (("mem", 64),), limits)
    assert not any(room.enter(*each, limits) for each in zip(tasks, needs, strict=True))
    room.leave(first, room.hold_of(first))
    order: list[Task] = []
    inside: list[Task] = []
    while len(order) < len(tasks):
        task = room.let_out(limits, is_ready)
        if task is None:
            room.leave(inside[0], room.hold_of(inside.pop(0)))
        else:
            assert room.enter(task, needs[tasks.index(task)], limits)
            order.append(task)
            inside.append(task)

    assert order == tasks
    assert len(looked) <= 2 * len(tasks)


def test_who_is_let_out_keeps_its_age_when_it_has_to_wait_again() -> None:
    """Somebody higher took the room meanwhile; it is served before those that came later."""
    room, limits, one = Room(), {"gpu": 1.0}, (("gpu", 1),)
    a, old, high, late = (Task(name, list) for name in ("a", "old", "high", "late"))
    assert room.enter(a, one, limits)
    assert not room.enter(old, one, limits)
    room.leave(a, room.hold_of(a))
    assert room.let_out(limits, lambda _: True) is old

    assert room.enter(high, one, limits, 1)
    assert not room.enter(late, one, limits)
    assert not room.enter(old, one, limits)
    room.leave(high, room.hold_of(high))

    assert room.let_out(limits, lambda _: True) is old


def test_who_waits_for_one_thing_does_not_hold_up_others() -> None:
    """A free thing is used, though older ones wait for another."""
    gate, started = threading.Event(), threading.Event()

    def holds() -> None:
        started.set()
        assert gate.wait(LIMIT)

    tasks = [Task(f"gpu {i}", holds, uses={"gpu": 1}) for i in range(3)]
    net = Task("net", gate.set, uses={"net": 1})

    list(TaskQueue(*tasks, net, limits={"gpu": 1, "net": 1}).run(executor=2))

    assert net.is_done
    assert all(task.is_done for task in tasks)


NAMES: Final = ("a", "b", "c")


@given(
    st.lists(st.dictionaries(st.sampled_from(NAMES), st.integers(1, 3)), max_size=25),
    st.randoms(use_true_random=False),
)
def test_whatever_is_used_everybody_gets_room_in_the_end(
    uses: list[dict[str, int]], draw: Any
) -> None:
    """No more is ever taken than there is, and no two wait for each other."""
    limits = dict.fromkeys(NAMES, 3.0)
    room = Room()
    tasks = [Task(f"{i}", list, uses=use or None) for i, use in enumerate(uses)]
    inside: list[Task] = []
    waiting = list(tasks)
    done: list[Task] = []
    parked: set[Task] = set()

    while len(done) < len(tasks):
        if (first := room.let_out(limits, lambda _: True)) is not None:
            assert room.enter(first, needs_of(first, limits), limits)
            parked.discard(first)
            inside.append(first)
        elif waiting and draw.random() < 0.6:
            task = waiting.pop(0)
            if room.enter(task, needs_of(task, limits), limits):
                inside.append(task)
            else:
                parked.add(task)
        else:
            assert inside or waiting, f"all wait: {parked}"
            if inside:
                task = inside.pop(draw.randrange(len(inside)))
                room.leave(task, room.hold_of(task))
                done.append(task)
        for name in NAMES:
            assert sum((t.uses or {}).get(name, 0) for t in inside) <= 3

    assert not room
    assert not room._used


def test_many_that_wait_cost_little_each() -> None:
    """Twenty thousand behind a limit of two: linear, not each looking at all."""
    queue = TaskQueue(
        *(Task(f"{i}", list, group="ab"[i % 2]) for i in range(20_000)), limits={"a": 2, "b": 2}
    )
    looked = 0

    class Counted(Room):
        """Counts how many tasks are looked at."""

        def _pop(self, needs: Any) -> Task:
            nonlocal looked
            looked += 1
            return super()._pop(needs)

    queue._room = Counted()

    assert queue.start(executor=4).wait(LIMIT)

    assert queue.counts() == {"DONE": 20_000}
    assert looked <= 20_000


# ---------------------------------------------------------------------------------- what is refused
@pytest.mark.parametrize(
    ("limits", "kind"),
    [
        (5, TypeError),
        ("gpu", TypeError),
        ({3: 1}, TypeError),
        ({"gpu": "2"}, TypeError),
        ({"gpu": True}, TypeError),
        ({"gpu": 0}, ValueError),
        ({"gpu": -1}, ValueError),
        ({"gpu": float("nan")}, ValueError),
    ],
)
def test_limits_that_make_no_sense_are_refused_at_once(limits: Any, kind: type[Exception]) -> None:
    """By the queue, and by each way to run it."""
    queue = TaskQueue(Task("a", list))

    with pytest.raises(kind, match="limit"):
        TaskQueue(limits=limits)
    with pytest.raises(kind, match="limit"):
        queue.run(limits=limits)
    with pytest.raises(kind, match="limit"):
        queue.start(limits=limits)
    with pytest.raises(kind, match="limit"):
        queue.arun_iter(limits=limits)
    assert not queue.running


@pytest.mark.parametrize(
    ("uses", "kind"),
    [(5, TypeError), ("gpu", TypeError), (["gpu"], TypeError), ({3: 1}, TypeError),
     ({"gpu": "2"}, TypeError), ({"gpu": None}, TypeError), ({"gpu": True}, TypeError),
     ({"gpu": False}, TypeError), ({"gpu": -1}, ValueError), ({"gpu": math.nan}, ValueError)],
)  # fmt: skip
def test_uses_that_make_no_sense_are_refused_at_once(uses: Any, kind: type[Exception]) -> None:
    """When the task is made, and when they are set."""
    task = Task("a", list)

    with pytest.raises(kind, match="uses is a mapping"):
        Task("a", list, uses=uses)
    with pytest.raises(kind, match="uses is a mapping"):
        task.uses = uses
    assert task.uses is None


def test_a_task_that_uses_more_than_there_is_is_refused_by_add() -> None:
    """Nothing of that call is added, and it does not hang later."""
    queue = TaskQueue(limits={"gpu": 2, "net": 1})

    with pytest.raises(TaskError, match="uses 3 of 'gpu', and there is no more than 2"):
        queue.add(Task("good", list), Task("fit", list, uses={"gpu": 3}))
    with pytest.raises(TaskError, match=r"uses 'gpuu', .* there are limits for 'gpu', 'net'"):
        queue.add(Task("fit", list, uses={"gpuu": 1}))
    with pytest.raises(TaskError, match="no more than 1"):
        TaskQueue(Task("fit", list, uses={"net": 1}, group="net"), limits={"net": 1})

    assert len(queue) == 0


def test_a_run_is_refused_if_nothing_says_how_much_there_is() -> None:
    """A use that nobody limits would be no limit at all, said by nobody."""
    queue = TaskQueue(Task("fit", list, uses={"gpu": 1}))

    with pytest.raises(TaskError, match="uses 'gpu', and nothing says how much"):
        queue.run()
    list(queue.run(limits={"gpu": 1}))

    assert queue.counts() == {"DONE": 1}


def test_a_task_that_would_wait_for_ever_fails_with_a_sentence() -> None:
    """One whose uses were set later, or that came by itself; the others run."""
    late, other = Task("late", list), Task("other", list)
    queue = TaskQueue(late, other, limits={"gpu": 1})
    late.uses = {"gpu": 2}

    done = list(queue.run(executor=2))

    assert late in done
    assert late.is_failed
    assert "there is no more than 1" in str(late.exception)
    assert other.is_done


def test_uses_are_an_option_like_the_others() -> None:
    """Readable, settable, and part of `@task`; nothing used is None."""
    from taskqueue_nb import task

    @task(uses={"gpu": 1})
    def fit() -> None:
        pass

    made = fit()
    assert made.uses == {"gpu": 1}
    made.uses = {"gpu": 0}
    assert made.uses is None
    assert fit.options(uses={"gpu": 2})().uses == {"gpu": 2}
