"""A task taken one transition at a time: a press each for `dispatch`, the call and its outcome.

press -> PENDING: `dispatch`, and nothing is called -> RUNNING
press -> the function is called, in the thread of whoever pressed; what comes of it is kept
press -> `done`, `except` or `cancel`, as the outcome asks for

Between two presses nobody waits, no thread exists for it and no lock is held. So nothing can hang
here: a run or `make` that meets such a task goes on with it, and a cancel gives it up at once.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from taskqueue_nb.capture import capturing
from taskqueue_nb.fsm import CancellationError, TransitionError
from taskqueue_nb.leading import CaughtUp
from taskqueue_nb.task import (
    GRAPH_LOCK,
    LostValueError,
    TaskError,
    outcome_here,
    uninterrupted,
    words_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from taskqueue_nb.task import Attempt, Task


class Stepped:
    """An attempt in the middle of its steps.

    Parameters
    ----------
    attempt : Attempt
        One that has begun.

    Attributes
    ----------
    outcome : tuple or None
        What the call came to, value and error; None before that.
    is_calling : bool
        Whether its function is running right now.
    """

    __slots__ = ("_after", "_fired", "_is_over", "_is_wanted", "attempt", "is_calling", "outcome")

    def __init__(self, attempt: Attempt, after: Callable[[], object] | None = None) -> None:
        self.attempt = attempt
        self.outcome: tuple[Any, BaseException | None] | None = None
        self.is_calling = False
        self._is_wanted = False  # by somebody who waits for the end
        self._is_over = False  # or made by somebody else from here on
        self._fired = "call"  # what its last step was
        self._after = after  # called once it is over
        attempt.here = attempt.run = None  # no run makes it
        attempt.stepped = self
        attempt.kill = self.give_up

    @property
    def may_change(self) -> bool:
        """Whether a fault that is injected now still reaches its call."""
        return self.outcome is None and not self.is_calling and not self._is_over

    def take(self) -> str:
        """Take the next step; return "call", or the event that was fired."""
        try:
            return self._take()
        except KeyboardInterrupt:
            if not self._is_over:
                uninterrupted(self.attempt.task._abandon, is_on_its_way=True)
                self.abandon()
            raise

    def finish(self) -> bool:
        """Take all steps that are left, at once; False if another thread makes the call.

        Then that one fires the outcome as soon as it has it.
        """
        with GRAPH_LOCK:
            self._is_wanted = True
            if self.is_calling:
                return False
        with suppress(TaskError):  # somebody else was faster, and knows that it is wanted
            self.take()
        return self._is_over

    def give_up(self) -> None:
        """Fire `cancel` at once, unless the call is going on: then when that has ended."""
        with GRAPH_LOCK:
            if not self.is_calling:
                self._settle()
        self.attempt.task._fsm_after()

    def is_free(self) -> bool:
        """Say whether nobody makes the call; else its outcome is fired as soon as it is there."""
        self._is_wanted |= self.is_calling
        return not self.is_calling

    def hand_over(self) -> Attempt | None:
        """Give the attempt to a run that goes on with it; the lock of the graph is held.

        Returns
        -------
        Attempt or None
            The attempt, if its call is still to be made; else it is settled, or will be by the
            thread that makes the call.
        """
        if not self.is_free():
            return None
        if self.due is not None:
            self._settle()
            return None
        self._let_go(is_over=False)
        return self.attempt

    def says(self) -> str:
        """Return what the next step is, in words."""
        if self.is_calling:
            return "its function is running"
        if self._is_given_up:
            return "cancel: it was asked to stop"
        if self.outcome is None:
            return "call its function"
        _, error = self.outcome
        what = "has returned" if error is None else f"raised {words_of(error)}"
        return f"{self.due}: its function {what}"

    @property
    def due(self) -> str | None:
        """The event that comes next; None if the call comes before it."""
        if self._is_given_up:
            return "cancel"
        if self.outcome is None:
            return None
        _, error = self.outcome
        if error is None:
            return "done"
        is_left = isinstance(error, (KeyboardInterrupt, CancellationError, LostValueError))
        return "cancel" if is_left or self.attempt.task.cancel_on_exception else "except"

    def abandon(self) -> None:
        """Let go of an attempt that something else has settled."""
        with GRAPH_LOCK:
            self._let_go(is_over=True)

    def fire(self, event: str, **extra: Any) -> None:
        """Settle the attempt by an event that nothing has asked for, unless the call goes on.

        Raises
        ------
        TaskError
            If the function is running.
        FSMError
            If the state does not allow the event.
        """
        task = self.attempt.task
        with GRAPH_LOCK:
            if not self.is_free():
                raise TaskError(f"{task._fsm_called()}: its function is running", task)
            task._fsm_target(event)
            message = f"{task._fsm_called()} was given up in the middle of its steps"
            self.attempt._error = task._error = TaskError(message, task)
            task._fsm_move(event, extra)
            self._let_go(is_over=True)
        task._fsm_after()

    # -- parts -------------------------------------------------------------------------------

    @property
    def _is_given_up(self) -> bool:
        return self.attempt.asked_to_stop

    def _take(self) -> str:
        task = self.attempt.task
        with GRAPH_LOCK:
            if self.is_calling:
                message = f"{task._fsm_called()}: its function is running; its next step comes then"
                raise TaskError(message, task)
            if self.due is not None:
                self._settle()
            else:
                self.is_calling = True
        if self.is_calling:
            self._call()
        if self._is_over:
            task._fsm_after()
        return self._fired

    def _call(self) -> None:
        attempt = self.attempt
        task = attempt.task
        with capturing():
            outcome = outcome_here(attempt)
        interruption = (
            outcome[1] if isinstance(outcome[1], (KeyboardInterrupt, SystemExit)) else None
        )
        with GRAPH_LOCK:
            self.outcome, self.is_calling = outcome, False
            is_current = task._attempt is attempt and task.fsm_state == "RUNNING"
            if interruption or self._is_given_up or self._is_wanted or not is_current:
                self._settle()
            for queue in task._told_queues():
                queue._is_changed()
        if interruption is not None:
            task._fsm_after()
            raise interruption

    def _settle(self) -> None:
        """Fire what the outcome asks for; the lock of the graph is held."""
        if self._is_over:
            return
        value, error = self.outcome or (None, None)
        event = self.due
        if self.attempt.task._settle(self.attempt, value, error) and event is not None:
            self._fired = event
        if isinstance(error, TimeoutError):
            self.attempt.runstate.cancel()  # it may go on, in its thread
        self._let_go(is_over=True)

    def _let_go(self, *, is_over: bool) -> None:
        self._is_over = True
        self.attempt.stepped = self.attempt.kill = None
        after, self._after = self._after, None
        if is_over and after is not None:
            after()


def begin(attempt: Attempt, after: Callable[[], object] | None = None) -> Stepped:
    """Have an attempt that has just begun made step by step; the lock of the graph is held."""
    return Stepped(attempt, after)


def step(task: Task) -> str:
    """Take a task's next step; see `Task.step`."""
    before = task._attempt
    try:
        return _step(task)
    except KeyboardInterrupt:
        attempt = task._attempt
        if attempt is not None and attempt is not before:
            uninterrupted(task._abandon, is_on_its_way=True)
            if attempt.stepped is not None:
                attempt.stepped.abandon()
        raise


def _step(task: Task) -> str:
    stepped, refusal, event = None, None, "dispatch"
    with CaughtUp((task,)), task._fsm_lock:
        attempt = task._attempt
        if task.fsm_state == "RUNNING":
            stepped = stepped_of(task)
            if stepped is None:
                message = f"{task._fsm_called()} is RUNNING already, and not step by step"
                raise TaskError(message, task)
        elif attempt is not None and retries_by_itself(task):
            task._retry_by_itself(attempt)
            event = "retry"
        elif not task.fsm_event_is_allowed("dispatch"):
            allowed = tuple(task.fsm_events)
            raise TransitionError(task._fsm_called(), task.fsm_state, "step", allowed, task)
        elif (refusal := task._refusal()) is None:
            begin(task._begin())
    if stepped is not None:
        return stepped.take()
    task._fsm_after()
    if refusal is not None:
        raise refusal
    return event


def retries_by_itself(task: Task) -> bool:
    """Say whether a failed task is retried without being asked: the next step then."""
    attempt = task._attempt
    return (
        task.fsm_state == "FAILED"
        and attempt is not None
        and attempt.ended is not None
        and attempt.automatic < task._options.retries
    )


def stepped_of(task: Task) -> Stepped | None:
    """Return where a task stands that is in the middle of its steps; None if it is not."""
    attempt = task._attempt
    if task.fsm_state != "RUNNING" or attempt is None:
        return None
    return attempt.stepped
