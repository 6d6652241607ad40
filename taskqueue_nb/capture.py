"""What a task prints, kept with its attempt."""

from __future__ import annotations

import sys
import threading
from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from taskqueue_nb.runstate import CURRENT

if TYPE_CHECKING:
    from collections.abc import Iterator

HEAD: Final = 50_000  # characters kept of the beginning of an attempt's output
TAIL: Final = 50_000  # and of its end


class Output:
    """Text in bounded memory: its beginning and its end are kept, the cut is said.

    Examples
    --------
    >>> output = Output()
    >>> output.write("hello")
    >>> str(output)
    'hello'
    """

    __slots__ = ("_head", "_left", "_lock", "_tail", "_tail_size", "dropped")

    def __init__(self) -> None:
        self._head: list[str] = []
        self._left = HEAD
        self._tail: deque[str] = deque()
        self._tail_size = 0
        self._lock = threading.Lock()
        self.dropped = 0

    def write(self, text: str) -> None:
        """Keep some text, from any thread."""
        with self._lock:
            head, tail = text[: self._left], text[self._left :]
            if head:
                self._head.append(head)
                self._left -= len(head)
            if tail:
                self._tail.append(tail)
                self._tail_size += len(tail)
                self._drop()

    def _drop(self) -> None:
        """Drop the oldest of the tail until it fits."""
        while (excess := self._tail_size - TAIL) > 0:
            oldest = self._tail.popleft()
            if len(oldest) > excess:
                self._tail.appendleft(oldest[excess:])
            cut = min(excess, len(oldest))
            self._tail_size -= cut
            self.dropped += cut

    def __str__(self) -> str:
        with self._lock:
            cut = [f"\n… {self.dropped:,} characters dropped …\n"] if self.dropped else []
            return "".join([*self._head, *cut, *self._tail])


class Tee:
    """A standard stream that gives what a task writes to its attempt."""

    def __init__(self, real: Any) -> None:
        self._real = real

    def write(self, text: str) -> int:
        """Write to the attempt that this context is making, and, if it echoes, as usual."""
        attempt = CURRENT.get()
        if attempt is None:
            return int(self._real.write(text) or 0)
        attempt.write(text)
        if attempt.echo:
            self._real.write(text)
        return len(text)

    def writelines(self, lines: Any) -> None:
        """Write each of some texts."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


_LOCK = threading.Lock()
_STREAMS: Final = ("stdout", "stderr")
_users = 0


@contextmanager
def capturing() -> Iterator[None]:
    """Give what tasks print to their attempts, for as long as anybody wants it."""
    global _users  # noqa: PLW0603 - the standard streams are global too
    with _LOCK:
        _users += 1
        for name in _STREAMS:
            stream = getattr(sys, name)
            if stream is not None and type(stream) is not Tee:
                setattr(sys, name, Tee(stream))
    try:
        yield
    finally:
        with _LOCK:
            _users -= 1
            for name in _STREAMS:
                stream = getattr(sys, name)
                if not _users and type(stream) is Tee:
                    setattr(sys, name, stream._real)
