"""`RunState`: a request to stop, which the work itself looks at."""

from __future__ import annotations

import threading

import pytest

from checks import LIMIT, Background, at_once
from taskqueue_nb import CancellationError, RunState


def test_runs_inside_its_block_only() -> None:
    """`with state:` is what running means, nested too, and an error ends it as well."""
    state = RunState("survey")
    seen = [state.running]

    with state:
        with state:
            seen.append(state.running)
        seen.append(state.running)
    seen.append(state.running)
    with pytest.raises(ValueError, match="broken"), state:
        raise ValueError("broken")

    assert seen == [False, True, True, False]
    assert not state.running


def test_cancel_is_seen_by_those_who_look() -> None:
    """`cancelled` is true from then on, `raiseif` raises, with a message that names the work."""
    state = RunState("survey")
    state.raiseif()
    assert not state.cancelled

    state.cancel()
    state.cancel()

    assert state.cancelled
    with pytest.raises(CancellationError, match="survey"):
        state.raiseif()
    with pytest.raises(CancellationError, match="no more boats"):
        state.raiseif("no more boats")


def test_cancel_does_not_end_the_block() -> None:
    """Whether and when the work stops is its own affair."""
    state = RunState("survey")

    with state:
        state.cancel()
        assert state.running

    assert state.cancelled


def test_sleep_ends_early_when_cancelled() -> None:
    """A sleeping loop wakes at once and knows why."""
    state = RunState("survey")
    sleeper = Background(lambda: state.sleep(LIMIT * 10))

    state.cancel()

    assert sleeper.join() is True
    assert RunState().sleep(0.001) is False


def test_all_threads_see_the_cancel() -> None:
    """One cancels, seven poll, all end."""
    state = RunState("survey")
    polling = threading.Barrier(8)

    def work(place: int) -> None:
        polling.wait(LIMIT)
        if place == 0:
            state.cancel()
        while True:
            state.raiseif()

    outcomes = at_once(8, work)

    assert all(isinstance(outcome, CancellationError) for outcome in outcomes)


def test_text_says_how_it_stands() -> None:
    """Name, running, cancelled."""
    state = RunState("survey")
    with state:
        state.cancel()
        text = repr(state)

    assert all(word in text for word in ("survey", "running", "cancelled"))
