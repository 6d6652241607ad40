"""`Result`: a `concurrent.futures.Future` that can be called, joined and notified."""

from __future__ import annotations

from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from taskqueue_nb.fsm import CancellationError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator


class Result(Future[Any]):
    """The outcome of some work, perhaps not there yet.

    Parameters
    ----------
    name : str, optional
        What it is the result of; used in messages.

    Notes
    -----
    Unlike a plain future's, the result of cancelled work raises `CancellationError`. It works with
    `concurrent.futures.wait` and `as_completed`, and can be awaited.

    Examples
    --------
    >>> answer = Result("answer")
    >>> answer.notify(print, "it is there")
    >>> answer.set_result(42)
    it is there
    >>> answer()
    42
    """

    def __init__(self, name: str | None = None) -> None:
        super().__init__()
        self.name = name
        self.claimed = False
        self._on_cancel: Callable[[], object] | None = None
        self._load: Callable[[], Any] | None = None

    def __repr__(self) -> str:
        state = "cancelled" if self.cancelled() else "done" if self.done() else "pending"
        return f"<{type(self).__name__} {self.name!r}: {state}>"

    def __call__(self, timeout: float | None = None) -> Any:
        """Wait for the value, or raise what the work raised; the same as `result`."""
        return self.result(timeout)

    def result(self, timeout: float | None = None) -> Any:
        """Wait for the value, or raise what the work raised.

        Parameters
        ----------
        timeout : float, optional
            How long to wait at most, in seconds; bringing a value from elsewhere is not counted.
        """
        value = super().result(timeout)
        return value if self._load is None else self._load()

    def cancel(self) -> bool:
        """Give the work up; say whether the result is cancelled now."""
        if not self.done():
            if self._on_cancel is None:
                self.settle(error=CancellationError(f"{self.name or 'the work'} was cancelled"))
            else:
                self._on_cancel()
        return self.cancelled()

    def cancelled(self) -> bool:
        """Say whether the work was given up."""
        return self.done() and isinstance(self.exception(), CancellationError)

    def join(self, timeout: float | None = None) -> bool:
        """Wait until the work is complete, however it ends.

        Parameters
        ----------
        timeout : float, optional
            How long to wait at most, in seconds.

        Returns
        -------
        bool
            Whether it is complete.
        """
        try:
            self.exception(timeout)
        except FutureTimeoutError:
            return self.done()
        return True

    def notify(self, callback: Callable[..., object], *args: Any, **kwargs: Any) -> None:
        """Call something once the work is complete, at once if it is already.

        Parameters
        ----------
        callback : callable
            Called in the thread that completes the work: `callback(*args, **kwargs)` when
            arguments are given, else `callback(result)`. What it raises is logged.
        *args, **kwargs
            Its arguments.
        """
        if args or kwargs:
            self.add_done_callback(lambda _: callback(*args, **kwargs))
        else:
            self.add_done_callback(callback)

    def claim(self) -> bool:
        """Take the right to give the outcome; True for the first who asks."""
        with self._condition:
            first = not self.claimed and not self.done()
            self.claimed = True
        return first

    def deliver(self, value: Any = None, error: BaseException | None = None) -> None:
        """Give the outcome; for whoever holds the claim."""
        if error is None:
            self.set_result(value)
        else:
            self.set_exception(error)

    def deliver_later(self, load: Callable[[], Any]) -> None:
        """Say that the value is there, and how to bring it once somebody wants it."""
        self._load = load
        self.set_result(None)

    def settle(self, value: Any = None, error: BaseException | None = None) -> bool:
        """Give the outcome; say whether this was the first one. Later ones change nothing."""
        if first := self.claim():
            self.deliver(value, error)
        return first

    def __await__(self) -> Generator[Any, None, Any]:
        """Wait in a coroutine; giving up the wait does not give up the work."""
        import asyncio  # noqa: PLC0415 - heavy, and only coroutines need it

        loop = asyncio.get_running_loop()
        arrived = loop.create_future()

        def wake() -> None:
            if not arrived.done():
                arrived.set_result(None)

        def call(_: object) -> None:
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(wake)

        self.add_done_callback(call)
        yield from arrived
        if self._load is not None:
            return (yield from loop.run_in_executor(None, self.result).__await__())
        return self.result()
