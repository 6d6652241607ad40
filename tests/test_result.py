"""`Result`: a future that can be called, joined and notified."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from typing import Any

import pytest

from checks import LIMIT, at_once
from taskqueue_nb import CancellationError, Result


def test_result_is_a_future() -> None:
    """What takes futures takes results."""
    assert isinstance(Result(), concurrent.futures.Future)


def test_value_can_be_asked_for_in_every_way() -> None:
    """Called, `result()`, joined: the value itself, as often as asked."""
    value = object()
    answer = Result("answer")
    assert not answer.done()

    answer.set_result(value)

    assert answer() is answer.result() is answer.result(0) is value
    assert answer.exception() is None
    assert answer.join()
    assert answer.done()
    assert not answer.cancelled()


def test_error_is_raised_as_it_is() -> None:
    """That very object, each time; `join` only says that it is over."""
    error = KeyError("penguin")
    answer = Result("answer")

    answer.set_exception(error)

    for _ in range(2):
        with pytest.raises(KeyError) as caught:
            answer()
        assert caught.value is error
    assert answer.exception() is error
    assert answer.join()


@pytest.mark.parametrize(
    "error", [TimeoutError("the work's own"), concurrent.futures.TimeoutError()]
)
def test_join_of_work_that_timed_out_says_that_it_is_over(error: Exception) -> None:
    """A TimeoutError of the work is not mistaken for one of the waiting."""
    answer = Result()
    answer.set_exception(error)

    assert answer.join(0.01)


def test_waiting_gives_up_after_a_time() -> None:
    """`result` raises TimeoutError, `join` returns False; both can be tried again."""
    answer = Result("answer")

    with pytest.raises(TimeoutError):
        answer(0.01)
    assert answer.join(0.01) is False
    answer.set_result(1)

    assert answer(0) == 1


def test_notify_without_arguments_gets_what_is_complete() -> None:
    """`callback(result)` once, before or after completion."""
    answer = Result("answer")
    heard: list[Any] = []
    answer.notify(heard.append)

    answer.set_result(1)
    answer.notify(heard.append)

    assert heard == [answer, answer]


def test_notify_with_arguments_gets_those() -> None:
    """`notify(callback, *args)` calls `callback(*args)`, keywords too."""
    answer = Result("answer")
    heard: list[Any] = []
    answer.notify(lambda *args, **kwargs: heard.append((args, kwargs)), 1, 2, three=3)

    answer.set_result(None)

    assert heard == [((1, 2), {"three": 3})]


def test_raising_callback_stops_nobody() -> None:
    """The other callbacks are called and the value is there."""
    answer = Result("answer")
    heard: list[Any] = []
    answer.notify(lambda _: 1 / 0)
    answer.notify(heard.append)

    answer.set_result(1)

    assert heard == [answer]


def test_cancelled_result_wakes_its_waiters() -> None:
    """`cancel()` of what nobody works on: CancellationError for all who wait."""
    answer = Result("answer")

    def work(place: int) -> Any:
        return answer.cancel() if place == 0 else answer(LIMIT)

    outcomes = at_once(4, work)

    assert outcomes[0] is True
    assert all(isinstance(outcome, CancellationError) for outcome in outcomes[1:])
    assert answer.cancelled()
    assert answer.done()


def test_cancel_of_a_complete_result_is_refused() -> None:
    """The value stays."""
    answer = Result("answer")
    answer.set_result(1)

    assert answer.cancel() is False

    assert answer() == 1


def test_first_outcome_wins() -> None:
    """Of many threads that settle one result, one does; the others learn that they did not."""
    for _ in range(20):
        answer = Result("answer")

        outcomes = at_once(8, lambda place, answer=answer: answer.settle(place))

        assert outcomes.count(True) == 1
        assert answer(0) == outcomes.index(True)


def test_results_can_be_waited_for_together() -> None:
    """`wait` and `as_completed` of the standard library."""
    answers = [Result(str(i)) for i in range(3)]
    threads = [
        threading.Thread(target=answer.set_result, args=(i,)) for i, answer in enumerate(answers)
    ]
    for thread in threads:
        thread.start()

    done, pending = concurrent.futures.wait(answers, LIMIT)

    assert (len(done), len(pending)) == (3, 0)
    assert sorted(f.result() for f in concurrent.futures.as_completed(answers, LIMIT)) == [0, 1, 2]
    for thread in threads:
        thread.join(LIMIT)


def test_result_can_be_awaited_by_several() -> None:
    """In a coroutine; giving up one wait does not give up the work."""
    answer = Result("answer")

    async def wait_for_it() -> Any:
        return await answer

    async def main() -> tuple[Any, Any]:
        impatient = asyncio.ensure_future(wait_for_it())
        patient = asyncio.ensure_future(wait_for_it())
        await asyncio.sleep(0)
        impatient.cancel()
        await asyncio.gather(impatient, return_exceptions=True)
        threading.Thread(target=answer.set_result, args=(5,)).start()
        return await asyncio.wait_for(patient, LIMIT), await asyncio.wait_for(wait_for_it(), LIMIT)

    assert asyncio.run(main()) == (5, 5)


def test_text_says_how_it_stands() -> None:
    """The name, and whether it is there."""
    answer = Result("answer")
    before = repr(answer)

    answer.set_result(1)

    assert "answer" in before
    assert "answer" in repr(answer)
    assert repr(answer) != before
