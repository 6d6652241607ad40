"""A drawn life of a graph, beside a model that is simple enough to be right.

The model keeps a dictionary of states and knows the rules of the design: what runs when everything
ready is run, whom a retry takes along, what becomes stale. After every step both must agree.
"""

from __future__ import annotations

from typing import Any, Final

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
)

from checks import check_history, check_links, check_settled
from taskqueue_nb import CancellationError, CycleError, FSMError, Task, TaskQueue, make_now

FELL: Final = {"FAILED", "CANCELLED"}


class Record:
    """What the model knows of one task."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.state = "PENDING"
        self.required: dict[str, None] = {}  # a set that keeps its order
        self.because: set[str] = set()  # it fell because these had fallen; empty: by itself
        self.outcome = "good"  # what its function does next: good, bad, gives up
        self.calls = 0
        self.value: object = None


class Model:
    """All tasks by name, and the rules."""

    def __init__(self) -> None:
        self.records: dict[str, Record] = {}

    def dependents(self, name: str) -> list[Record]:
        """Return those that require it."""
        return [record for record in self.records.values() if name in record.required]

    def closure(self, name: str) -> set[str]:
        """Return all that it requires, however far, and itself."""
        found: set[str] = set()
        due = [name]
        while due:
            found.add(due[-1])
            due += [name for name in self.records[due.pop()].required if name not in found]
        return found

    def is_ready(self, record: Record) -> bool:
        """Say whether it would run."""
        done = all(self.records[other].state == "DONE" for other in record.required)
        return record.state == "PENDING" and done

    def call(self, record: Record) -> None:
        """Do what its function does."""
        record.calls += 1
        record.state = {"good": "DONE", "bad": "FAILED", "gives up": "CANCELLED"}[record.outcome]
        record.because = set()
        record.value = (record.name, record.calls)

    def run(self) -> None:
        """Run what is ready until nothing is."""
        while ready := [r for r in self.records.values() if self.is_ready(r)]:
            for record in ready:
                self.call(record)

    def make(self, name: str) -> None:
        """Complete one task and what it requires, by the seed's rules."""
        record = self.records[name]
        while record.state == "PENDING":
            others = [self.records[other] for other in record.required]
            failed = {other.name for other in others if other.state in {"FAILED", "ABORT"}}
            gone = {other.name for other in others if other.state == "CANCELLED"}
            pending = [other for other in others if other.state == "PENDING"]
            if failed or gone:
                record.state = "FAILED" if failed else "CANCELLED"
                record.because = failed or gone
            elif pending:
                for other in pending:
                    self.make(other.name)
            else:
                self.call(record)

    def free(self, name: str) -> set[str]:
        """Bring back those that fell because of it, however far; return their names."""
        freed: set[str] = set()
        for record in self.dependents(name):
            if record.state in FELL and name in record.because:
                record.state, record.because = "PENDING", set()
                freed |= {record.name} | self.free(record.name)
        return freed

    def retry(self, name: str) -> set[str]:
        """Failed or cancelled → pending, with its victims; return the names."""
        record = self.records[name]
        record.state, record.because = "PENDING", set()
        return {name} | self.free(name)

    def supply(self, name: str, value: object) -> set[str]:
        """Use this value; return the names that have moved."""
        record = self.records[name]
        record.state, record.value, record.because = "DONE", value, set()
        return {name} | self.free(name)

    def invalidate(self, name: str) -> set[str]:
        """Done → pending, with every done dependent; return the names."""
        self.records[name].state = "PENDING"
        stale = {name}
        for record in self.dependents(name):
            if record.state == "DONE":
                stale |= self.invalidate(record.name)
        return stale


class Life(RuleBasedStateMachine):
    """What can happen to a queue and its tasks."""

    names = Bundle("names")

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()
        self.tasks: dict[str, Task] = {}
        self.queue = TaskQueue()
        self.deeds: list[dict[str, Any]] = []  # what each verb changed, as it was before

    def remember(self, moved: Any, before: dict[str, Any]) -> None:
        """Note a verb that worked, with how its tasks were before."""
        after = {task.name: len(task.fsm_history) for task in moved}
        runs = sum(record.calls for record in self.model.records.values())
        self.deeds.append({"before": before, "after": after, "runs": runs})

    def known(self) -> dict[str, Any]:
        """Return all that the model knows of states and values."""
        return {n: (r.state, r.value, set(r.because)) for n, r in self.model.records.items()}

    # ----------------------------------------------------------------------- what both are told
    def function(self, name: str) -> Any:
        """Return the function of a task, which does what the model says."""
        calls = 0

        def work() -> object:
            nonlocal calls
            calls += 1
            outcome = self.model.records[name].outcome
            if outcome == "bad":
                raise ValueError(name)
            if outcome == "gives up":
                raise CancellationError(name)
            return (name, calls)

        return work

    def refuses(self, name: str, act: Any, kind: type[Exception] = FSMError) -> None:
        """Check that it is refused, and that nothing has changed."""
        before = {n: list(task.fsm_history) for n, task in self.tasks.items()}
        with pytest.raises(kind):
            act(self.tasks[name])
        assert {n: list(task.fsm_history) for n, task in self.tasks.items()} == before

    @initialize(target=names, count=st.integers(1, 4))
    def begin(self, count: int) -> Any:
        """Begin with some tasks."""
        return multiple(*(self.add([]) for _ in range(count)))

    @precondition(lambda self: len(self.tasks) < 12)
    @rule(target=names, required=st.lists(names, max_size=3))
    def grow(self, required: list[str]) -> str:
        """Add a task that requires others, whatever has become of them."""
        return self.add(required)

    def add(self, required: list[str]) -> str:
        """Add a task to both."""
        name = f"t{len(self.tasks)}"
        task = Task(name, self.function(name))
        for other in required:
            task.require(self.tasks[other])
        self.tasks[name] = task
        self.model.records[name] = Record(name)
        self.model.records[name].required = dict.fromkeys(required)
        self.queue.add(task)
        return name

    @rule(later=names, earlier=names)
    def require(self, later: str, earlier: str) -> None:
        """Add a requirement; a circle is refused, and so may be one of a task that has run."""
        if later in self.model.closure(earlier):
            kind = CycleError if self.model.records[later].state == "PENDING" else FSMError
            self.refuses(later, lambda task: task.require(self.tasks[earlier]), kind)
            return
        try:
            self.tasks[later].require(self.tasks[earlier])
        except FSMError:
            assert self.model.records[later].state not in {"PENDING", "PREPARE"}
        else:
            self.model.records[later].required[earlier] = None

    @rule(name=names, outcome=st.sampled_from(["good", "bad", "gives up"]))
    def decide(self, name: str, outcome: str) -> None:
        """Change what the task's function will do."""
        self.model.records[name].outcome = outcome

    # --------------------------------------------------------------------------------- running
    @rule(executor=st.sampled_from([None, 2]))
    def run(self, executor: int | None) -> None:
        """Run the queue to its end: what was planned, and in that order if nothing fails."""
        planned = self.queue.plan().will_run
        good = all(self.model.records[task.name].outcome == "good" for task in planned)

        ran = [*self.queue.run(executor=executor)]

        assert all(task.fsm_state in {"DONE", "FAILED", "CANCELLED"} for task in ran)
        assert {*ran} <= {*planned}
        if good:
            assert sorted(t.name for t in ran) == sorted(t.name for t in planned)
            assert executor or tuple(ran) == planned
        self.model.run()

    @rule()
    def start(self) -> None:
        """Do the same in the background."""
        assert self.queue.start(executor=2).wait(20)
        self.model.run()

    @rule()
    def step(self) -> None:
        """Run exactly one task: one that is ready."""
        ready = {
            record.name for record in self.model.records.values() if self.model.is_ready(record)
        }

        task = self.queue.step()

        if task is None:
            assert ready == set()
        else:
            assert task.name in ready
            self.model.call(self.model.records[task.name])

    @rule(presses=st.integers(1, 3))
    def step_by_transitions(self, presses: int) -> None:
        """Take some steps of one ready task by themselves; a plain step does the rest."""
        ready = {
            record.name for record in self.model.records.values() if self.model.is_ready(record)
        }

        task = self.queue.step(transition=True)

        if task is None:
            assert ready == set()
            return
        assert task.name in ready
        assert task.is_running
        for _ in range(presses - 1):
            assert self.queue.step(transition=True) is task
        if presses < 3:
            assert self.queue.step() is task
        self.model.call(self.model.records[task.name])

    @rule(name=names)
    def make(self, name: str) -> None:
        """Make one task."""
        assert make_now(self.tasks[name]) == [self.tasks[name]]
        self.model.make(name)

    @rule(name=names)
    def dispatch(self, name: str) -> None:
        """Dispatch one task, which works when it is ready and is refused otherwise."""
        record = self.model.records[name]
        if self.model.is_ready(record):
            self.tasks[name].dispatch()
            self.model.call(record)
        elif any(self.model.records[other].state == "ABORT" for other in record.required):
            with pytest.raises(FSMError):
                self.tasks[name].dispatch()
            if record.state == "PENDING":
                record.state = self.tasks[name].fsm_state
                assert record.state in {"ABORT", "PENDING"}  # which blocker is met first is free
        else:
            self.refuses(name, lambda task: task.dispatch())

    # --------------------------------------------------------------------------------- mending
    @rule(name=names)
    def retry(self, name: str) -> None:
        """Retry one task, with its victims."""
        if self.model.records[name].state in FELL:
            before = self.known()
            moved = self.queue.plan("retry", self.tasks[name]).apply()
            self.remember(moved, before)
            assert {task.name for task in moved} == self.model.retry(name)
        else:
            self.refuses(name, self.queue.retry)
            self.refuses(name, lambda task: self.queue.plan("retry", task))

    @rule()
    def retry_all(self) -> None:
        """Retry all that failed."""
        failed = [r.name for r in self.model.records.values() if r.state == "FAILED"]

        before = self.known()
        moved = self.queue.retry()
        if moved:
            self.remember(moved, before)

        expected: set[str] = set()
        for name in failed:
            expected |= self.model.retry(name)
        assert {task.name for task in moved} == expected

    @rule(name=names)
    def repair(self, name: str) -> None:
        """Give new code, then as retry."""
        record = self.model.records[name]
        if record.state in FELL:
            before = self.known()
            moved = self.queue.repair(self.tasks[name], func=self.tasks[name].func)
            self.remember(moved, before)
            assert {task.name for task in moved} == self.model.retry(name)

    @rule(name=names, value=st.integers())
    def supply(self, name: str, value: int) -> None:
        """Give a value by hand, with which its victims can go on."""
        if self.model.records[name].state in {*FELL, "PENDING"}:
            before = self.known()
            moved = self.queue.supply(self.tasks[name], value)
            self.remember(moved, before)
            assert {task.name for task in moved} == self.model.supply(name, value)
        else:
            self.refuses(name, lambda task: self.queue.supply(task, value))

    @rule(name=names)
    def invalidate(self, name: str) -> None:
        """Make one task stale, with its done dependents."""
        if self.model.records[name].state == "DONE":
            before = self.known()
            plan = self.queue.plan("invalidate", self.tasks[name])
            moved = self.queue.invalidate(self.tasks[name])
            self.remember(moved, before)
            assert {*plan.stale} == {*moved}
            assert {task.name for task in moved} == self.model.invalidate(name)
        else:
            self.refuses(name, self.queue.invalidate)

    @rule(name=names)
    def cancel(self, name: str) -> None:
        """Give one task up."""
        record = self.model.records[name]
        if record.state == "PENDING":
            before = self.known()
            assert self.queue.cancel(self.tasks[name]) == (self.tasks[name],)
            self.remember([self.tasks[name]], before)
            record.state, record.because = "CANCELLED", set()
        else:
            self.refuses(name, self.queue.cancel)

    @rule()
    def undo(self) -> None:
        """Take the last verb back, if that is exact; else nothing has changed."""
        before = {n: list(task.fsm_history) for n, task in self.tasks.items()}
        try:
            self.queue.undo()
        except FSMError:
            assert {n: list(task.fsm_history) for n, task in self.tasks.items()} == before
            if self.deeds:
                deed = self.deeds[-1]
                lengths = {n: len(self.tasks[n].fsm_history) for n in deed["after"]}
                runs = sum(record.calls for record in self.model.records.values())
                assert runs > deed["runs"] or lengths != deed["after"]
            return
        deed = self.deeds.pop()
        for name in deed["after"]:
            record = self.model.records[name]
            record.state, record.value, record.because = deed["before"][name]

    @rule(name=consumes(names))
    def abort(self, name: str) -> None:
        """Give one task up for good."""
        record = self.model.records[name]
        if record.state in {*FELL, "PENDING"}:
            self.tasks[name].abort()
            record.state, record.because = "ABORT", set()
        else:
            self.refuses(name, lambda task: task.abort())

    # ------------------------------------------------------------------------------- agreement
    @invariant()
    def states_agree(self) -> None:
        """Both know the same states."""
        found = {name: task.fsm_state for name, task in self.tasks.items()}
        assert found == {name: record.state for name, record in self.model.records.items()}
        for state, count in self.queue.counts().items():
            assert count == list(found.values()).count(state)
        assert sum(self.queue.counts().values()) == len(found)

    @invariant()
    def links_agree(self) -> None:
        """Both know the same requirements, and what they block."""
        for name, task in self.tasks.items():
            record = self.model.records[name]
            assert [other.name for other in task.required] == list(record.required)
            waiting = {o for o in record.required if self.model.records[o].state != "DONE"}
            assert {other.name for other in task.blockers()} == waiting
            assert task.isblocked() == bool(waiting)
            check_links(task)

    @invariant()
    def values_and_calls_agree(self) -> None:
        """Each function was called as often as the model says, and the results are its values."""
        for name, task in self.tasks.items():
            record = self.model.records[name]
            assert len(task.attempts) == record.calls
            if record.state == "DONE":
                assert task.value == task.result(0) == record.value
            check_history(task)

    @invariant()
    def causes_agree(self) -> None:
        """Each cause has fallen, and what it blocks requires it and is not done."""
        for cause, blocked in self.queue.causes().items():
            assert self.model.records[cause.name].state in {*FELL, "ABORT"}
            for task in blocked:
                assert cause.name in self.model.closure(task.name)
                assert not task.is_done

    def teardown(self) -> None:
        """Nothing is in the middle at the end, and what is not aborted can be finished."""
        doomed = {
            name for name in self.tasks
            if any(self.model.records[o].state == "ABORT" for o in self.model.closure(name))
        }  # fmt: skip
        for name, task in self.tasks.items():
            self.model.records[name].outcome = "good"
            if task.fsm_state in FELL:
                self.queue.retry(task)
        for _ in self.queue.run():
            pass
        assert {name for name, task in self.tasks.items() if not task.is_done} <= doomed
        check_settled(task for name, task in self.tasks.items() if name not in doomed)


Life.TestCase.settings = settings(max_examples=120, stateful_step_count=40, deadline=None)


#: Whatever happens in whatever order, the queue and the model agree.
TestLife = Life.TestCase
