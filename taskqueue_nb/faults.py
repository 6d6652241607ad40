"""Failures and delays that are put into a task's next attempt on purpose, to show what they do."""

from __future__ import annotations

from types import CoroutineType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from taskqueue_nb.fsm import CancellationError, shorten
from taskqueue_nb.loops import is_coroutine_function

if TYPE_CHECKING:
    from collections.abc import Callable

    from taskqueue_nb.runstate import RunState

LONGEST: Final = 86_400.0  # seconds; a longer delay is a slip of the pen
_WORDS: Final = 200  # characters of a failure's own words


class InjectedError(RuntimeError):
    """A failure that somebody asked for by `Task.inject`, and that no function has raised."""


class Fault(NamedTuple):
    """What is to go wrong with one attempt.

    Attributes
    ----------
    fail : bool or str
        Whether it fails; a text is what the failure says.
    slow : float
        The seconds that it takes longer.
    after : bool
        Whether it fails once the function has returned, instead of calling it.

    Examples
    --------
    >>> str(Fault(fail=True, slow=2.0))
    'will take 2 s longer and fail: injected'
    """

    fail: bool | str = False
    slow: float = 0.0
    after: bool = False

    def __str__(self) -> str:
        parts = [f"take {self.slow:g} s longer"] if self.slow else []
        parts += ["fail"] if self.fail else []
        late = " once its function has returned" if self.fail and self.after else ""
        return f"will {' and '.join(parts)}{late}: injected"

    @property
    def is_instead(self) -> bool:
        """Whether the function is not called at all."""
        return bool(self.fail) and not self.after

    def error(self, *, was_called: bool) -> InjectedError:
        """Return the failure."""
        what = "its function had returned" if was_called else "its function was not called"
        if isinstance(self.fail, str):
            return InjectedError(f"{self.fail} (injected: {what})")
        return InjectedError(f"this failure was injected by inject(): {what}")

    def around(self, func: object, call: Callable[[], Any], runstate: RunState) -> Any:
        """Make a call with the fault in it, in the place of the plain call.

        Parameters
        ----------
        func : object
            What `call` calls; for a coroutine function a coroutine is returned.
        call : callable
            The plain call.
        runstate : RunState
            What wakes a delay before its time.

        Raises
        ------
        InjectedError
            If the attempt is to fail.
        CancellationError
            If it was asked to stop during the delay.
        """
        if is_coroutine_function(func):
            return self._around_coroutine(call)
        if self.slow and runstate.sleep(self.slow):
            raise CancellationError("cancelled while it was slowed down")
        if self.is_instead:
            raise self.error(was_called=False)
        value = call()
        if not self.fail:
            return value
        if type(value) is CoroutineType:
            value.close()
        raise self.error(was_called=True)

    async def _around_coroutine(self, call: Callable[[], Any]) -> Any:
        import asyncio  # noqa: PLC0415 - heavy, and only coroutines need it

        await asyncio.sleep(self.slow)  # ends early by cancellation, as any coroutine does
        if self.is_instead:
            raise self.error(was_called=False)
        value = await call()
        if self.fail:
            raise self.error(was_called=True)
        return value


def fault_of(*, fail: object = False, slow: object = 0.0, after: object = False) -> Fault | None:
    """Return a checked fault; None if nothing is to go wrong.

    Raises
    ------
    TypeError, ValueError
        If something makes no sense.
    """
    if not isinstance(fail, (bool, str)):
        message = f"fail is True, False or what the failure says, not {shorten(fail)}"
        raise TypeError(message)
    if isinstance(slow, bool) or not isinstance(slow, (int, float)):
        message = f"slow is a time in seconds, not {shorten(slow)}"
        raise TypeError(message)
    if not 0 <= slow <= LONGEST:
        message = f"slow is a time in seconds, from 0 to {LONGEST:g}, not {slow!r:.20}"
        raise ValueError(message)
    if not isinstance(after, bool):
        message = f"after is True or False, not {shorten(after)}"
        raise TypeError(message)
    if isinstance(fail, str):
        fail = " ".join(fail.split())[:_WORDS] or True
    if not fail and not slow:
        return None
    return Fault(fail, float(slow), after and bool(fail))
