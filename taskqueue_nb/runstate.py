"""Cooperative cancellation, and which attempt this thread or coroutine is making."""

from __future__ import annotations

import threading
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final

from taskqueue_nb.fsm import CancellationError
from taskqueue_nb.leading import CaughtUp

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

#: The `Attempt` that this context is making; None outside of any task.
CURRENT: Final[ContextVar[Any]] = ContextVar("taskqueue_nb_current", default=None)


class RunState:
    """A request to stop, which the work itself looks at.

    Parameters
    ----------
    name : str, optional
        What it is the state of; used in messages.

    Examples
    --------
    >>> state = RunState("survey")
    >>> with state:
    ...     state.cancel()
    ...     state.raiseif()
    Traceback (most recent call last):
        ...
    taskqueue_nb.fsm.CancellationError: survey was cancelled
    >>> state.running, state.cancelled
    (False, True)
    """

    __slots__ = ("_cancelled", "_hears", "_running", "name")

    def __init__(self, name: str | None = None) -> None:
        self.name = name
        self._cancelled = threading.Event()
        self._running = 0
        self._hears: Callable[[], object] | None = None

    def __repr__(self) -> str:
        words = [word for word in ("running", "cancelled") if getattr(self, word)]
        return f"<{type(self).__name__} {self.name!r}: {' and '.join(words) or 'idle'}>"

    @property
    def running(self) -> bool:
        """Whether somebody is inside the `with` block."""
        return self._running > 0

    @property
    def cancelled(self) -> bool:
        """Whether stopping was asked for; what a long loop polls."""
        return self._cancelled.is_set()

    def cancel(self) -> None:
        """Ask the work to stop. Whether and when it does is the work's own affair."""
        with CaughtUp():  # what stands behind the work is begun no more
            self._cancelled.set()
        if (hears := self._hears) is not None:
            hears()

    def on_cancel(self, callback: Callable[[], object] | None) -> None:
        """Have something called when stopping is asked for, at once if it has been already.

        Parameters
        ----------
        callback : callable or None
            Called in whatever thread asks, perhaps more than once, so it must return at once. It
            takes the place of the one before; None ends that.
        """
        self._hears = callback
        if callback is not None and self.cancelled:
            callback()

    def raiseif(self, message: str | None = None) -> None:
        """Raise `CancellationError` if stopping was asked for.

        Raises
        ------
        CancellationError
            With `message`, or a sentence that names the work.
        """
        if self.cancelled:
            raise CancellationError(message or f"{self.name or 'the work'} was cancelled")

    def sleep(self, seconds: float) -> bool:
        """Sleep, but wake as soon as stopping is asked for; say whether it was."""
        return self._cancelled.wait(seconds)

    def __enter__(self) -> Self:
        self._running += 1
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._running -= 1
