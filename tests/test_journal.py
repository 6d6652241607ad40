"""The journal: every transition and every verb, the states of any moment, and undo."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from checks import Calls, build, check_settled, run, states, wait_for
from graphs import GRAPHS
from taskqueue_nb import FSMError, Task, TaskQueue, make_now
from taskqueue_nb.task import TaskError


def fails(*_: object) -> None:
    """Raise."""
    raise ValueError("on purpose")


def everything(queue: TaskQueue) -> list[Any]:
    """Return all that a verb may change of the tasks."""
    return [
        (t.fsm_state, t._value, t._error, t.func, t.func_args, dict(t.func_kwargs), t.required,
         t.isblocked(), [r.name for r in t.blockers()])
        for t in queue
    ]  # fmt: skip


VERBS: Final[dict[str, Callable[[TaskQueue, dict[str, Task]], object]]] = {
    "retry": lambda q, t: q.retry(),
    "retry of a victim's cause": lambda q, t: t["bad"].retry(),
    "repair of code": lambda q, t: q.repair(t["bad"], func=lambda *_: 1),
    "repair of arguments": lambda q, t: q.repair(t["bad"], args=(5,), kwargs={}),
    "repair with other tasks": lambda q, t: q.repair(t["bad"], args=([t["d"]],)),
    "repair of a pending task": lambda q, t: t["late"].repair(func=len, args=("abc",)),
    "supply": lambda q, t: q.supply(t["bad"], "by hand"),
    "supply of a pending task": lambda q, t: t["late"].supply(None),
    "invalidate": lambda q, t: q.invalidate(t["a"]),
    "invalidate two": lambda q, t: q.invalidate(t["b"], t["d"]),
    "cancel": lambda q, t: q.cancel(t["late"]),
}


@pytest.mark.parametrize("verb", VERBS)
def test_undo_takes_the_last_verb_back(verb: str) -> None:
    """Code, arguments, states, results, victims and requirements are what they were."""
    calls = Calls()
    tasks = build({"a": [], "b": ["a"], "c": ["b"], "d": []}, calls)
    tasks["bad"] = Task("bad", fails, func_args=(tasks["c"], 2), func_kwargs={})
    tasks["victim"] = tasks["bad"].then("victim", calls["victim"])
    tasks["victim 2"] = tasks["victim"].then("victim 2", calls["victim 2"])
    tasks["late"] = tasks["bad"].then("late", calls["late"])
    queue = TaskQueue(*tasks.values())
    run(queue)
    make_now(tasks["victim 2"])
    before = everything(queue)
    VERBS[verb](queue, tasks)
    assert everything(queue) != before

    queue.undo()

    assert everything(queue) == before
    check_settled(queue)
    assert tasks["victim 2"] in queue.retry() or tasks["victim 2"].is_pending
    run(queue)
    with pytest.raises(ValueError, match="on purpose"):
        tasks["bad"].result()


def test_undoable_says_what_undo_would_take_back() -> None:
    """The last verb that was not taken back; nothing once something ran since."""
    one, two = Task("one", list), Task("two", list)
    queue = TaskQueue(one, two)
    assert queue.undoable == ""
    queue.cancel(one)
    queue.cancel(two)
    assert queue.undoable == "cancel 'two'"

    queue.undo()
    assert queue.undoable == "cancel 'one'"
    queue.retry(one)
    for _ in queue.run():
        pass

    assert queue.undoable == ""


def test_undo_goes_back_verb_by_verb() -> None:
    """Each undo takes back the last verb that was not taken back yet; then there is nothing."""
    tasks = build(GRAPHS["chain"], Calls())
    queue = TaskQueue(*tasks.values())
    run(queue)
    before = everything(queue)
    queue.invalidate(tasks["d"])
    between = everything(queue)
    queue.invalidate(tasks["b"])

    queue.undo()
    assert everything(queue) == between
    queue.undo()
    assert everything(queue) == before
    with pytest.raises(TaskError, match="there is nothing to undo"):
        queue.undo()
    assert [str(deed) for deed in queue.deeds] == [
        "invalidate 'd', undone", "invalidate 'b', undone", "undo 'b'", "undo 'd'",
    ]  # fmt: skip


@pytest.mark.parametrize("first", ["invalidate", "supply", "repair", "cancel", "retry"])
@pytest.mark.parametrize("second", ["supply", "repair", "cancel"])
def test_undo_goes_back_through_verbs_on_one_task(first: str, second: str) -> None:
    """What an undo did is no reason against the next one."""
    verbs: dict[str, Callable[[], object]] = {
        "invalidate": lambda: queue.invalidate(one),
        "retry": lambda: queue.retry(one),
        "supply": lambda: queue.supply(one, 5),
        "repair": lambda: queue.repair(one, args=([7],)),
        "cancel": lambda: queue.cancel(one),
    }
    one = Task("one", fails if first == "retry" else list, func_args=([1],))
    queue = TaskQueue(one, one.then("two", list))
    if first not in {"cancel", "repair"}:
        run(queue)
    if first == "supply":
        one.invalidate()
    before = everything(queue)
    verbs[first]()
    between = everything(queue)
    try:
        verbs[second]()
    except FSMError:
        return  # not both are possible in a row

    queue.undo()
    assert everything(queue) == between
    queue.undo()
    assert everything(queue) == before


def test_undone_result_is_the_old_object() -> None:
    """Results are not made again; whoever waited meanwhile gets the old one."""
    value = object()
    one = Task("one", lambda: value)
    queue = TaskQueue(one)
    run(queue)
    queue.invalidate(one)
    waited: list[Any] = []
    one.notify(lambda task: waited.append(task.result()))

    queue.undo()

    assert one.result(0) is value
    assert waited == [value]


HOWS: Final[dict[str, Callable[[TaskQueue, Task], object]]] = {
    "run": lambda queue, two: run(queue),
    "step": lambda queue, two: queue.step(),
    "dispatch": lambda queue, two: two.dispatch(),
    "make": lambda queue, two: two.make(),
    "start": lambda queue, two: queue.start().wait(),
}


@pytest.mark.parametrize("how", HOWS)
def test_undo_after_something_ran_is_refused(how: str) -> None:
    """Even if it was another task: one cannot take back a verb from the middle of a story."""
    one, two = Task("one", fails), Task("two", list)
    queue = TaskQueue(one)
    run(queue)
    queue.retry()
    queue.add(two)
    HOWS[how](queue, two)
    before = [task.fsm_history for task in queue]

    with pytest.raises(TaskError, match="retry 'one' cannot be undone: "):
        queue.undo()

    assert [task.fsm_history for task in queue] == before


MOVES: Final[dict[str, Callable[[Task], object]]] = {
    "aborted": lambda task: task.abort(),
    "cancelled by its event": lambda task: task.fsm_event("cancel"),
    "given other code": lambda task: setattr(task, "func", list),
    "given other arguments": lambda task: setattr(task, "func_args", (1,)),
}


@pytest.mark.parametrize("move", MOVES)
def test_undo_of_what_has_moved_since_is_refused(move: str) -> None:
    """Nothing of the later change is lost."""
    one = Task("one", fails)
    queue = TaskQueue(one)
    run(queue)
    queue.retry(one)
    MOVES[move](one)
    before = everything(queue)

    with pytest.raises(TaskError, match="cannot be undone: 'one' "):
        queue.undo()

    assert everything(queue) == before


def test_undo_of_a_request_to_stop_is_refused() -> None:
    """A function that was asked to stop has heard it."""
    started, go = threading.Event(), threading.Event()

    def work() -> None:
        started.set()
        wait_for(go)

    one = Task("one", work)
    queue = TaskQueue(one).start()
    wait_for(started)
    queue.cancel(one)

    with pytest.raises(TaskError, match="was running"):
        queue.undo()

    go.set()
    assert queue.wait(10)
    assert one.is_cancelled


def test_undo_knows_the_verbs_of_tasks_and_of_other_queues() -> None:
    """Whatever way a verb came, the queue that holds the task can take it back."""
    one = Task("one", fails)
    queue, other = TaskQueue(one), TaskQueue(one)
    run(queue)
    one.supply(3)

    assert other.undo() == (one,)

    assert one.is_failed
    with pytest.raises(TaskError, match="nothing to undo"):
        queue.undo()


def test_verb_that_changed_nothing_is_not_undone_in_place_of_another() -> None:
    """A retry with nothing to retry is no deed, nor is one that was refused."""
    one = Task("one", list)
    queue = TaskQueue(one)
    run(queue)
    queue.invalidate(one)
    assert queue.retry() == ()
    with pytest.raises(FSMError):
        queue.invalidate(one)

    queue.undo()

    assert one.is_done


# ------------------------------------------------------------------------------------ the journal
def test_journal_holds_every_transition_and_every_verb_in_order() -> None:
    """A failure, its repair and the second run read as one story."""
    one = Task("one", fails)
    two = one.then("two", list)
    queue = TaskQueue(one, two)
    run(queue)
    queue.repair(one, func=list)
    run(queue)

    journal = queue.journal()

    assert [entry.says for entry in journal] == [
        "'one' PENDING -> RUNNING (dispatch)",
        "'one' RUNNING -> FAILED (except)",
        "repair 'one'",
        "'one' FAILED -> PENDING (retry)",
        "'one' PENDING -> RUNNING (dispatch)",
        "'one' RUNNING -> DONE (done)",
        "'two' PENDING -> RUNNING (dispatch)",
        "'two' RUNNING -> DONE (done)",
    ]
    assert [entry.when for entry in journal] == sorted(entry.when for entry in journal)
    assert [entry.task for entry in journal][:3] == [one, one, None]


def test_history_at_any_moment_gives_the_states_of_then() -> None:
    """Replaying the journal entry by entry gives what the history says of each moment."""
    calls = Calls(failing={"left"})
    queue = TaskQueue(*build(GRAPHS["diamond"], calls).values())
    run(queue)
    calls.failing.clear()
    queue.retry()
    run(queue)
    replayed = dict.fromkeys(queue, "PENDING")

    for entry in queue.journal():
        if entry.task is not None:
            assert entry.new_state is not None
            replayed[entry.task] = entry.new_state
            later = [e for e in queue.journal() if e.when == entry.when]
            if later[-1] is entry or later[-1] == entry:
                assert queue.history(entry.when) == replayed

    assert queue.history(0.0) == dict.fromkeys(queue, "PENDING")
    assert queue.history() == dict.fromkeys(queue, "DONE")


def test_journal_of_a_store_goes_back_to_earlier_kernels(tmp_path: Path) -> None:
    """Transitions and verbs of the kernel before stand first, an undo among them."""

    def queue_of() -> TaskQueue:
        return TaskQueue(Task("one", fails), store=tmp_path / "run.tq")

    first = queue_of()
    run(first)
    first.retry()
    first.undo()
    said = [entry.says for entry in first.journal()]
    assert first.store is not None
    first.store.close()

    second = queue_of()
    second.retry()

    assert [entry.says for entry in second.journal()][: len(said)] == [
        says.replace(", undone", "") for says in said
    ]
    assert "undo 'one'" in said
    assert second.journal()[-2].says == "retry 'one'"
    assert second.store is not None
    second.store.close()


def test_names_cannot_forge_a_line_of_the_journal() -> None:
    """A name with line breaks and escapes stays within its quotes."""
    one = Task("a\n'b' PENDING -> DONE\x1b[31m", fails)
    queue = TaskQueue(one)
    run(queue)
    queue.retry()

    assert all("\n" not in e.says and "\x1b" not in e.says for e in queue.journal())


def test_attempt_says_why_it_ended() -> None:
    """Interrupted, asked to stop, or for no reason that anybody gave."""

    def interrupted() -> None:
        raise KeyboardInterrupt

    good, bad = Task("good", list), Task("bad", interrupted)
    good.dispatch()
    with pytest.raises(KeyboardInterrupt):
        bad.dispatch()

    assert good.attempts[-1].because is None
    assert bad.attempts[-1].because == "interrupted"


def test_verbs_of_tasks_can_go_on_in_their_queues(no_threads_left: None) -> None:
    """As those of the queue can."""
    one = Task("one", fails)
    two = one.then("two", lambda: 2)
    queue = TaskQueue(one, two)
    run(queue)

    one.repair(func=lambda: 1, then_run=True)

    assert queue.wait(10)
    assert (one.result(0), two.result(0)) == (1, 2)
    two.invalidate(then_run=True)
    assert queue.wait(10)
    assert two.is_done


# ------------------------------------------------------------------------ a run that was stopped
def test_stopped_run_can_be_retried_as_a_whole() -> None:
    """What a stop gave up comes back by `retry()`; what was cancelled for its own sake does not."""
    started, go = threading.Barrier(3), threading.Event()
    meant = Task("meant", list)

    def work() -> int:
        started.wait(10)
        wait_for(go)
        return 1

    tasks = [Task("one", work), Task("two", work)]
    queue = TaskQueue(*tasks, meant, tasks[0].then("after", list))
    meant.cancel()
    queue.start(executor=2)
    started.wait(10)
    queue.stop(cancel=True)
    go.set()
    assert queue.wait(10)
    assert states(queue) == {
        "one": "CANCELLED", "two": "CANCELLED", "meant": "CANCELLED", "after": "PENDING",
    }  # fmt: skip

    moved = queue.retry()

    assert {*moved} == {*tasks}
    started.abort()
    for task in tasks:
        task.repair(func=list)
    assert {t.name for t in queue.run()} == {"one", "two", "after"}
