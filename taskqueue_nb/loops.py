"""Coroutines of attempts on an event loop: the running one, or a private one in its own thread."""

from __future__ import annotations

import _thread
import os
import threading
from contextlib import suppress
from contextvars import copy_context
from types import CoroutineType, FunctionType
from typing import TYPE_CHECKING, Any, Final

from taskqueue_nb.fsm import CancellationError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Coroutine
    from contextvars import Context

_COROUTINE: Final = 0x80  # `inspect.CO_COROUTINE`, of an `async def`
_CLEANING: Final = 1.0  # seconds that cancelled coroutines have to end before their loop is closed


def has_threads() -> bool:
    """Say whether this interpreter can start a thread; one in a web page cannot."""
    try:
        _thread.start_new_thread(int, ())
    except RuntimeError:
        return False
    return True


def is_coroutine_function(func: Any) -> bool:
    """Say whether a call gives a coroutine, whatever kind of callable it is."""
    if type(func) is FunctionType and not func.__dict__:  # nor any mark: asked for every task
        return bool(func.__code__.co_flags & _COROUTINE)
    from inspect import iscoroutinefunction  # noqa: PLC0415 - asyncio is needed then anyway

    return iscoroutinefunction(func) or iscoroutinefunction(getattr(type(func), "__call__", None))  # noqa: B004 - not whether it is callable, but how


def running_loop() -> asyncio.AbstractEventLoop | None:
    """Return the event loop that runs in this thread, if any."""
    import asyncio  # noqa: PLC0415 - heavy, and only coroutines need it

    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def awaited(value: Any) -> Any:
    """Return a value; if it is a coroutine, what becomes of it on an event loop of its own.

    That loop runs here, or in a thread where another one runs here already.
    """
    if type(value) is not CoroutineType:
        return value
    import asyncio  # noqa: PLC0415 - heavy, and only coroutines need it

    if running_loop() is None:
        return asyncio.run(value)
    from concurrent.futures import Future  # noqa: PLC0415 - rarely needed

    outcome: Future[Any] = Future()
    context = copy_context()

    def whole() -> None:
        try:
            outcome.set_result(context.run(asyncio.run, value))
        except BaseException as error:  # noqa: BLE001 - handed to the thread that waits
            outcome.set_exception(error)

    threading.Thread(target=whole, name="taskqueue_nb loop", daemon=True).start()
    return outcome.result()


class Awaiting:
    """The coroutine that an attempt's function returned, from its first turn to its outcome.

    Parameters
    ----------
    attempt : Attempt
        To ask it to stop cancels the coroutine.
    coroutine : coroutine
        Awaited once, whatever happens, or closed.
    context : contextvars.Context
        The attempt's own.
    seconds : float or None
        After which the attempt is given up.
    ended : callable
        Called once as `ended(value, error)`, in the thread of the loop.

    Attributes
    ----------
    task : asyncio.Task
        What the loop makes of it, once it has begun.
    """

    def __init__(
        self,
        attempt: Any,
        coroutine: Coroutine[Any, Any, Any],
        context: Context,
        seconds: float | None,
        ended: Callable[[Any, BaseException | None], object],
    ) -> None:
        self._attempt, self._coroutine, self._context = attempt, coroutine, context
        self._seconds = seconds
        self._tell = ended
        self._loop: Any = None
        self._among: set[Any] = set()
        self.task: Any = None
        self._clock: Any = None
        self._ended = self._asked = False

    def begin(self, loop: asyncio.AbstractEventLoop, among: set[Any]) -> None:
        """Begin, in the thread of the loop; `among` holds the loop's task as long as it lives."""
        self._loop, self._among = loop, among
        name = f"task {self._attempt.task.name}"
        self.task = loop.create_task(self._awaited(), name=name, context=self._context)
        among.add(self.task)
        self.task.add_done_callback(self._over)
        if self._seconds is not None:
            self._clock = loop.call_later(self._seconds, self._give_up)
        self._attempt.runstate.on_cancel(self._ask)

    def refuse(self, error: BaseException) -> None:
        """End without having begun: there is no loop to await it."""
        self._coroutine.close()
        self._end(None, error)

    async def _awaited(self) -> None:
        home = os.getpid()
        value = raised = None
        try:
            value = self._attempt.task._judged(await self._coroutine)
        except BaseException as error:  # noqa: BLE001 - any failure is the task's, not the loop's
            raised = error
        if os.getpid() != home:
            self._attempt.end_child(raised)
        self._end(value, raised)

    def _over(self, task: object) -> None:
        """Let go of the loop's task; take note of one that was cancelled before its first turn."""
        self._among.discard(task)
        if not self._ended:
            import asyncio  # noqa: PLC0415 - heavy, and only coroutines need it

            self.refuse(asyncio.CancelledError())

    def _ask(self) -> None:
        """Cancel the coroutine, from any thread."""
        if running_loop() is self._loop:
            self._cancel()
        else:
            with suppress(RuntimeError):  # the loop is closed, and the coroutine with it
                self._loop.call_soon_threadsafe(self._cancel)

    def _cancel(self) -> None:
        if not self._asked:  # a second request would cut short how it cleans up
            self._asked = True
            self.task.cancel()

    def _give_up(self) -> None:
        message = f"no answer within {self._seconds:g} s; the coroutine was cancelled"
        self._end(None, TimeoutError(message))
        self._cancel()

    def _end(self, value: Any, error: BaseException | None) -> None:
        import asyncio  # noqa: PLC0415 - heavy, and only coroutines need it

        attempt = self._attempt
        is_cancelled = isinstance(error, asyncio.CancelledError)
        if self._ended:
            if not is_cancelled:
                attempt.come_too_late(error)
            return
        self._ended = True
        if self._clock is not None:
            self._clock.cancel()
        attempt.runstate.on_cancel(None)
        if is_cancelled:
            if not attempt.asked_to_stop and self.task is not None and self.task.cancelling():
                attempt.interrupt()  # by whoever runs the loop
            error = CancellationError("the coroutine was cancelled")
        self._tell(value, error)


class Loop:
    """An event loop that awaits coroutines of attempts.

    Parameters
    ----------
    running : event loop, optional
        One that runs already; without it, one is made that runs in a thread of its own.

    Raises
    ------
    RuntimeError
        If a thread is needed, and none can be had.
    """

    def __init__(self, running: asyncio.AbstractEventLoop | None = None) -> None:
        import asyncio  # noqa: PLC0415 - heavy, and only coroutines need it

        self.tasks: set[asyncio.Task[Any]] = set()
        self._thread: threading.Thread | None = None
        self._loop = running or asyncio.new_event_loop()
        if running is None:
            thread = threading.Thread(target=self._turn, name="taskqueue_nb loop", daemon=True)
            try:
                thread.start()
            except RuntimeError:
                self._loop.close()
                raise
            self._thread = thread

    def spawn(self, awaiting: Awaiting) -> None:
        """Have a coroutine awaited; from any thread."""
        if self.is_here:
            awaiting.begin(self._loop, self.tasks)
            return
        try:
            self._loop.call_soon_threadsafe(awaiting.begin, self._loop, self.tasks)
        except RuntimeError as error:  # whose loop it is has closed it
            awaiting.refuse(error)

    @property
    def is_here(self) -> bool:
        """Whether it runs in this thread."""
        return running_loop() is self._loop

    def _turn(self) -> None:
        loop = self._loop
        try:
            loop.run_forever()
            self._cancel_what_is_left()
            loop.run_until_complete(loop.shutdown_asyncgens())
        finally:
            loop.close()

    def _cancel_what_is_left(self) -> None:
        import asyncio  # noqa: PLC0415 - heavy, and only coroutines need it

        left = asyncio.all_tasks(self._loop)
        for task in left:
            task.cancel()
        if left:
            self._loop.run_until_complete(asyncio.wait(left, timeout=_CLEANING))

    def close(self) -> None:
        """End a loop of our own; what it still awaits is cancelled."""
        thread, self._thread = self._thread, None
        if thread is not None:
            with suppress(RuntimeError):  # it has ended by itself
                self._loop.call_soon_threadsafe(self._loop.stop)
            if thread is not threading.current_thread():
                thread.join(2 * _CLEANING)


class Bell:
    """What a run on an event loop waits for: it is rung from any thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        import asyncio  # noqa: PLC0415 - heavy, and only coroutines need it

        self._loop, self._rung = loop, asyncio.Event()
        self.armed = False

    def arm(self) -> None:
        """Be silent until the next ring; in the thread of the loop."""
        self._rung.clear()
        self.armed = True

    def ring(self) -> None:
        """Wake whoever waits, or is about to."""
        with suppress(RuntimeError):  # the loop is closed: nobody waits
            self._loop.call_soon_threadsafe(self._rung.set)

    async def wait(self, seconds: float | None) -> None:
        """Wait until it rings, or for a time."""
        clock = None if seconds is None else self._loop.call_later(seconds, self._rung.set)
        try:
            await self._rung.wait()
        finally:
            self.armed = False
            if clock is not None:
                clock.cancel()
