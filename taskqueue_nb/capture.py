"""What a task prints, logs, warns of and displays, kept with its attempt."""

from __future__ import annotations

import logging
import sys
import threading
from collections import deque
from contextlib import suppress
from io import StringIO
from typing import TYPE_CHECKING, Any, Final

from taskqueue_nb.runstate import CURRENT

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager
    from types import TracebackType

HEAD: Final = 50_000  # characters kept of the beginning of an attempt's output
TAIL: Final = 50_000  # and of its end
MOST_SHOWN: Final = 40  # things displayed that an attempt keeps: the first and the last ones
MOST_SHOWN_BYTES: Final = 4_000_000  # that they may have together; one alone, half of it
_CAPTION: Final = 10_000  # characters of the text that stands for something displayed
_KINDS: Final = 200  # characters of its types there


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


class Displayed:
    """What was displayed, as MIME bundles in bounded memory; what was dropped is said.

    Examples
    --------
    >>> shown = Displayed()
    >>> shown.add({"text/plain": "a table", "text/html": "<table></table>"})
    >>> shown.bundles()
    [{'text/plain': 'a table', 'text/html': '<table></table>'}]
    """

    __slots__ = ("_dropped", "_is_to_clear", "_kept", "_lock", "_size")

    def __init__(self) -> None:
        self._kept: list[tuple[dict[str, Any], int, str | None]] = []
        self._size = 0
        self._dropped = 0
        self._is_to_clear = False
        self._lock = threading.Lock()

    def add(self, data: dict[str, Any], key: str | None = None) -> None:
        """Keep a bundle, which may be replaced by its key."""
        entry = _bounded(data, key)
        with self._lock:
            if self._is_to_clear:
                self._clear()
            self._kept.append(entry)
            self._size += entry[1]
            while len(self._kept) > MOST_SHOWN or self._size > MOST_SHOWN_BYTES:
                self._size -= self._kept.pop(self._middle)[1]
                self._dropped += 1

    @property
    def _middle(self) -> int:
        """Where the next bundle would be dropped, or has been."""
        return min(len(self._kept), MOST_SHOWN) // 2

    def replace(self, data: dict[str, Any], key: str | None) -> bool:
        """Put a bundle in the place of those with this key; False if there are none."""
        entry = _bounded(data, key)
        with self._lock:
            places = [] if key is None else [i for i, e in enumerate(self._kept) if e[2] == key]
            for place in places:
                self._size += entry[1] - self._kept[place][1]
                self._kept[place] = entry
            while self._size > MOST_SHOWN_BYTES:
                self._size -= self._kept.pop(self._middle)[1]
                self._dropped += 1
        return bool(places)

    def clear(self, *, wait: bool) -> None:
        """Forget all, at once or when the next one comes."""
        with self._lock:
            self._is_to_clear = wait
            if not wait:
                self._clear()

    def _clear(self) -> None:
        self._kept.clear()
        self._size = self._dropped = 0
        self._is_to_clear = False

    def bundles(self) -> list[dict[str, Any]]:
        """Return what is kept, in order."""
        with self._lock:
            bundles = [dict(data) for data, _, _ in self._kept]
            if self._dropped:
                cut = {"text/plain": f"… {self._dropped:,} displays dropped …"}
                bundles.insert(self._middle, cut)
            return bundles


def _bounded(data: dict[str, Any], key: str | None) -> tuple[dict[str, Any], int, str | None]:
    """Return a bundle, its size and its key; of one that is too large, the text and its types."""
    size = sum(len(str(kind)) + _size_of(value) for kind, value in data.items())
    if size > MOST_SHOWN_BYTES // 2:
        kinds = ", ".join(kind for kind in data if kind != "text/plain")[:_KINDS] or "text/plain"
        data = {"text/plain": f"{caption_of(data)}\n… {kinds}: {size:,} bytes, not kept …"}
        size = len(data["text/plain"])
    return dict(data), size, key


def _size_of(value: object) -> int:
    if isinstance(value, (str, bytes, bytearray)):
        return len(value)
    return len(repr(value))  # a JSON document


def caption_of(data: dict[str, Any]) -> str:
    """Return the text that stands for a bundle where there is only text."""
    text = data.get("text/plain")
    if not isinstance(text, str):
        return f"<{', '.join(map(str, data))[:_KINDS]}>"
    if len(text) > _CAPTION:
        return f"{text[:_CAPTION]}…"
    return text


class Tee:
    """A standard stream that gives what a task writes to its attempt."""

    def __init__(self, real: Any) -> None:
        self._real = real

    def write(self, text: str) -> int:
        """Write to the attempt that this context is making, and, if it echoes, as usual."""
        attempt = CURRENT.get()
        if attempt is None:
            return int(self._real.write(text) or 0)
        if not isinstance(text, str):
            message = f"write() argument must be str, not {type(text).__name__}"
            raise TypeError(message)
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


def show(text: str) -> None:
    """Write where this context prints, if it can be written there."""
    if sys.stdout is not None:
        with suppress(OSError, ValueError):  # closed, or it has no such characters
            sys.stdout.write(text)


# -- hooks -------------------------------------------------------------------------------------
class _Hook:
    """A method of somebody else's class in whose place ours is called for a while."""

    __slots__ = ("_dict", "_is_in", "_name", "_original", "_ours", "_own", "_owner")

    def __init__(self, owner: type, name: str, instead: Callable[..., Any]) -> None:
        self._owner, self._name, self._dict = owner, name, owner.__dict__
        self._own: Any = None  # what the class has itself; None if it has it from another one
        self._original: Any = None  # kept after `remove`: another thread may be on its way to it
        self._is_in = False

        def ours(this: Any, *args: Any, **kwargs: Any) -> Any:
            return instead(self._original, this, *args, **kwargs)

        self._ours = ours

    def install(self) -> None:
        """Put ours in its place, unless it is there already, perhaps below somebody else's."""
        if not self._is_in:
            owner, name = self._owner, self._name
            self._own = own = self._dict.get(name)
            self._original = getattr(owner, name) if own is None else own
            setattr(owner, name, self._ours)
            self._is_in = True

    def remove(self) -> None:
        """Put back what was there; but leave alone what somebody has put over ours meanwhile.

        Ours passes everything on outside of tasks, so it may stay below.
        """
        owner, name = self._owner, self._name
        if self._is_in and self._dict.get(name) is self._ours:
            if self._own is None:
                delattr(owner, name)
            else:
                setattr(owner, name, self._own)
            self._is_in = False


class _Displaying:
    """The two methods of one publisher in whose place ours are called for a while.

    Quicker than to change its class: that is what a task pays that is run by itself.
    """

    __slots__ = ("_clear", "_dict", "_is_in", "_own_clear", "_own_publish", "_publish", "publisher")

    def __init__(self, publisher: Any) -> None:
        self.publisher, self._dict = publisher, vars(publisher)
        self._own_publish: Any = None  # what the object has itself; None if its class has it
        self._own_clear: Any = None
        self._is_in = False

        def publish(*args: Any, **kwargs: Any) -> None:
            _publish(self._real_publish, publisher, *args, **kwargs)

        def clear(*args: Any, **kwargs: Any) -> None:
            _clear(self._real_clear, publisher, *args, **kwargs)

        self._publish, self._clear = publish, clear

    def _real_publish(self, publisher: Any, *args: Any, **kwargs: Any) -> Any:
        own = self._own_publish
        if own is not None:
            return own(*args, **kwargs)
        return type(publisher).publish(publisher, *args, **kwargs)

    def _real_clear(self, publisher: Any, *args: Any, **kwargs: Any) -> Any:
        own = self._own_clear
        if own is not None:
            return own(*args, **kwargs)
        return type(publisher).clear_output(publisher, *args, **kwargs)

    def install(self) -> None:
        """Put ours in their place, unless they are there already, perhaps below somebody else's."""
        if not self._is_in:
            methods = self._dict
            self._own_publish = methods.get("publish")
            self._own_clear = methods.get("clear_output")
            methods["publish"] = self._publish
            methods["clear_output"] = self._clear
            self._is_in = True

    def remove(self) -> None:
        """Put back what was there; but leave alone what somebody has put over ours meanwhile."""
        if not self._is_in:
            return
        methods = self._dict
        is_ours = methods.get("publish") is self._publish
        if is_ours and methods.get("clear_output") is self._clear:
            self._is_in = False
            if self._own_publish is None:
                del methods["publish"]
            else:
                methods["publish"] = self._own_publish
            if self._own_clear is None:
                del methods["clear_output"]
            else:
                methods["clear_output"] = self._own_clear


def _past_the_attempt(call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call something whose own printing is only shown, as it has been kept in another form."""
    token = CURRENT.set(None)
    try:
        return call(*args, **kwargs)
    finally:
        CURRENT.reset(token)


# -- logging -----------------------------------------------------------------------------------
_PLAIN: Final = logging.Formatter(logging.BASIC_FORMAT)


def _handle_record(original: Any, logger: logging.Logger, record: logging.LogRecord) -> None:
    """Keep a record that a task logged, and have the handlers called as usual.

    This stands in the place of `Logger.callHandlers` and not in a handler of the root: with one of
    ours there, `basicConfig()` would do nothing, and nobody would print what has no handler.
    """
    attempt = CURRENT.get()
    if attempt is None:
        original(logger, record)
        return
    handlers = _handlers_of(logger)
    try:
        line = _line_of(record, handlers)
    except Exception:  # noqa: BLE001 - the usual handlers say on the standard error what is wrong with it
        original(logger, record)
        return
    if line is not None:
        attempt.write(line)
    if handlers:
        original(logger, record)
    elif attempt.echo:
        _past_the_attempt(original, logger, record)


def _handlers_of(logger: logging.Logger) -> list[logging.Handler]:
    handlers: list[logging.Handler] = []
    this: logging.Logger | None = logger
    while this is not None:
        handlers += this.handlers
        this = this.parent if this.propagate else None
    return handlers


def _line_of(record: logging.LogRecord, handlers: Sequence[logging.Handler]) -> str | None:
    """Return a record as its handler would show it, None if it shows it through us, or not at all.

    Whoever has no handler that shows records gets the format of `basicConfig`.
    """
    formatter: logging.Handler | logging.Formatter | None = None
    is_shown = False
    for handler in handlers:
        stream = _stream_of(handler)
        if not _is_standard(stream):
            continue
        is_shown = True
        if record.levelno >= handler.level:
            if isinstance(stream, Tee):
                return None
            formatter = formatter or handler
    if formatter is None:
        if is_shown:
            return None
        formatter = _PLAIN
    return f"{formatter.format(record)}\n"


def _stream_of(handler: logging.Handler) -> Any:
    """Return where a handler writes; the standard library's have a stream, rich's a console."""
    stream = getattr(handler, "stream", None)
    return getattr(getattr(handler, "console", None), "file", None) if stream is None else stream


def _is_standard(stream: Any) -> bool:
    if stream is None or isinstance(stream, Tee):
        return stream is not None
    return any(
        stream is (each._real if isinstance(each, Tee) else each)
        for each in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__)
    )


# -- display -----------------------------------------------------------------------------------
def _publish(original: Any, publisher: Any, *args: Any, **kwargs: Any) -> None:
    """Keep what a task displays, in the place of IPython's `DisplayPublisher.publish`."""
    attempt = CURRENT.get()
    data = args[0] if args else kwargs.get("data")
    if attempt is None or not isinstance(data, dict):
        original(publisher, *args, **kwargs)
        return
    key = (kwargs.get("transient") or {}).get("display_id")
    if kwargs.get("update"):
        is_ours = attempt._displays.replace(data, key)
    else:
        is_ours = True
        attempt._displays.add(data, key)
        attempt.write(f"{caption_of(data)}\n")
    if attempt.echo or not is_ours:  # what the cell displayed may be updated from anywhere
        _past_the_attempt(original, publisher, *args, **kwargs)


def _clear(original: Any, publisher: Any, *args: Any, **kwargs: Any) -> None:
    """Forget what a task has displayed, in the place of `DisplayPublisher.clear_output`."""
    attempt = CURRENT.get()
    if attempt is None:
        original(publisher, *args, **kwargs)
        return
    attempt._displays.clear(wait=bool(args[0] if args else kwargs.get("wait", False)))
    if attempt.echo:
        _past_the_attempt(original, publisher, *args, **kwargs)


def _displaying() -> _Displaying | None:
    """Return the hooks in the publisher of IPython's shell, if there is one."""
    global _shown  # noqa: PLW0603 - the shell's publisher is global too
    shells = _MODULES.get("IPython.core.interactiveshell")
    if shells is None or (shell := shells.InteractiveShell._instance) is None:
        return None
    publisher = shell.display_pub
    if _shown is None or _shown.publisher is not publisher:
        _shown = _Displaying(publisher)
    return _shown


def _hook_classes() -> None:
    """Put hooks into the classes of IPython's publishers, if there are any.

    `%%capture` puts a publisher of its own in the place of the shell's. It would take what tasks
    display meanwhile that run beside the cells.
    """
    if (shown := _displaying()) is None:
        return
    owners = [type(shown.publisher)]
    if (module := _MODULES.get("IPython.core.displaypub")) is not None:
        owners.append(module.CapturingDisplayPublisher)
    for owner in owners:
        if owner not in _DISPLAYS:
            named = (("publish", _publish), ("clear_output", _clear))
            _DISPLAYS[owner] = tuple(_Hook(owner, name, instead) for name, instead in named)
        _IN_CLASSES.add(_DISPLAYS[owner])
        for hook in _DISPLAYS[owner]:
            hook.install()


# -- all of them -------------------------------------------------------------------------------
_LOCK: Final = threading.Lock()
_MODULES: Final[dict[str, Any]] = sys.modules
_LOGGING: Final = _Hook(logging.Logger, "callHandlers", _handle_record)
_DISPLAYS: Final[dict[type, tuple[_Hook, ...]]] = {}
_IN_CLASSES: Final[set[tuple[_Hook, ...]]] = set()  # those of them that a run has put there
_shown: _Displaying | None = None
_tees: Final = [Tee(None), Tee(None)]  # the last ones, for the next time
_users = 0


def _tee_of(real: Any, place: int) -> Tee:
    """Make a tee, and keep it unless its stream is one that holds all that is written to it."""
    tee = Tee(real)
    if not isinstance(real, StringIO):
        _tees[place] = tee
    return tee


class _Capturing:
    """Gives what tasks print, log and display to their attempts, while anybody is inside.

    A task that is run by itself goes in and out, so this is written to be quick.
    """

    __slots__ = ("_apart",)

    def __init__(self, *, apart: bool) -> None:
        self._apart = apart

    def __enter__(self) -> None:
        global _users  # noqa: PLW0603 - the standard streams are global too
        with _LOCK:
            _users += 1
            try:
                out, err = sys.stdout, sys.stderr
                if type(out) is not Tee and out is not None:
                    sys.stdout = _tees[0] if _tees[0]._real is out else _tee_of(out, 0)
                if type(err) is not Tee and err is not None:
                    sys.stderr = _tees[1] if _tees[1]._real is err else _tee_of(err, 1)
                if self._apart:
                    _LOGGING.install()
                    _hook_classes()
                elif _users == 1:
                    _LOGGING.install()
                    if (shown := _displaying()) is not None:
                        shown.install()
            except BaseException:  # an interrupt
                _leave()
                raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with _LOCK:
            _leave()


def _leave() -> None:
    """Count one user less; after the last one everything is as it was."""
    global _users  # noqa: PLW0603 - as above
    _users -= 1
    if not _users:
        out, err = sys.stdout, sys.stderr
        if type(out) is Tee:
            sys.stdout = out._real
        if type(err) is Tee:
            sys.stderr = err._real
        _LOGGING.remove()
        if _shown is not None:
            _shown.remove()
        if _IN_CLASSES:
            for hooks in _IN_CLASSES:
                for hook in hooks:
                    hook.remove()
            _IN_CLASSES.clear()


_WITHIN: Final = _Capturing(apart=False)
_APART: Final = _Capturing(apart=True)


def capturing(*, apart: bool = False) -> AbstractContextManager[None]:
    """Give what tasks print, log and display to their attempts, for as long as anybody wants it.

    Parameters
    ----------
    apart : bool
        Whether tasks run beside the cells and not inside one.
    """
    return _APART if apart else _WITHIN


def log_to_attempts() -> None:
    """Give what tasks log to their attempts, for as long as this process lives."""
    _LOGGING.install()
