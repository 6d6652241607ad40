"""What happens in a worker process, and how calls and outcomes are packed for the way.

The notebook packs a call (`Packer`), a worker makes it (`serve`) and packs what came of it, the
notebook unpacks that. Nobody unpickles anything while a lock is held, a large thing is pickled once
and passed by an anonymous file, and what cannot travel is known by name.
"""

from __future__ import annotations

import contextlib
import faulthandler
import io
import linecache
import mmap
import os
import pickle
import select
import signal
import sys
import tempfile
import threading
from collections import deque
from pathlib import Path
from struct import Struct
from time import monotonic, sleep, time
from types import CodeType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import cloudpickle

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

from taskqueue_nb.capture import HEAD, Output, Tee, log_to_attempts
from taskqueue_nb.fsm import CancellationError, shorten
from taskqueue_nb.loops import awaited
from taskqueue_nb.runstate import CURRENT
from taskqueue_nb.task import (
    Attempt,
    Task,
    _end_child,
    _forks,
    _traceback_text,
    without_our_frames,
    words_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.connection import Connection

_INLINE: Final = 16_000  # bytes that go by the pipe itself; it holds four times as many
_READ: Final = 4 * _INLINE  # bytes that are taken at once
_LENGTH: Final = Struct("!I")  # goes before each message
_ALIGNED: Final = 64  # bytes; arrays are quicker to work with when they begin at a multiple
_AT_ONCE: Final = 200  # reports that a task may make in a row before some of them are put together
_PER_SECOND: Final = 100.0  # how many more it may make as time goes by
_SOON: Final = 0.0002  # seconds; what is waited for takes a few microseconds
_LOOK: Final = 0.5  # seconds between looks at what nobody tells
_NO_NAME: Final = "<dynamic-code>"  # what cloudpickle calls every file
_F_SETSIG: Final = 10  # of Linux; Python has no name for it before 3.13


# -- packing -----------------------------------------------------------------------------------
class Parcel(NamedTuple):
    """Pickled objects on their way to another process.

    Attributes
    ----------
    data : bytes
        All of it, if it is short.
    path : str
        Else the file that holds it.
    sizes : tuple of int
        How long the pickle is, and each buffer that stands beside it.
    """

    data: bytes
    path: str = ""
    sizes: tuple[int, ...] = ()


class Held:
    """Keeps the file of a parcel alive until it has arrived."""

    def __init__(self, descriptor: int, path: str, *, is_named: bool) -> None:
        self.descriptor, self._path, self._is_named = descriptor, path, is_named

    def close(self) -> None:
        """Let the file go."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1
            if self._is_named:
                with contextlib.suppress(OSError):
                    Path(self._path).unlink()


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # brings no types
    """Lets code that travels by value keep the name of its file, and notes those names.

    cloudpickle takes the name out, and with it the lines of every traceback.
    """

    def __init__(
        self, file: io.BytesIO, buffers: Callable[[pickle.PickleBuffer], bool], files: set[str]
    ) -> None:
        super().__init__(file, protocol=5, buffer_callback=buffers)
        self.files = files

    def reducer_override(self, obj: Any) -> Any:
        if type(obj) is not CodeType:
            return super().reducer_override(obj)
        name = obj.co_filename
        self.files.add(name)
        kind, parts = self.dispatch_table[CodeType](obj)
        return kind, tuple(name if part == _NO_NAME else part for part in parts)


class Packer:
    """Pickles one object after the other, each once; what one shares with another stays shared."""

    def __init__(self, *, is_plain: bool = False) -> None:
        self._file = io.BytesIO()
        self._buffers: list[memoryview] = []
        self._files: set[str] = set()
        self._pickler: pickle.Pickler = (
            pickle.Pickler(self._file, protocol=5)
            if is_plain  # texts and numbers: it does what cloudpickle's would, in half the time
            else _Pickler(self._file, self._stands_beside, self._files)
        )

    @property
    def has_code(self) -> bool:
        """Whether code has been packed, so that something travels by value."""
        return bool(self._files)

    def _stands_beside(self, buffer: pickle.PickleBuffer) -> bool:
        """Keep a large buffer out of the pickle; say whether this one goes into it."""
        view = buffer.raw()
        if view.nbytes <= _INLINE:
            return True
        self._buffers.append(view)
        return False

    def add(self, item: object) -> None:
        """Pickle an object; whatever that raises is raised."""
        self._pickler.dump(item)

    def sources(self) -> dict[str, str]:
        """Return the text of the notebook's cells that what was packed stands in.

        A traceback that is made elsewhere can show its lines only if they have been sent along.
        """
        cells = [name for name in self._files if _is_cell(name)]
        return {name: "".join(linecache.getlines(name)) for name in cells}

    def parcel(self) -> tuple[Parcel, Held | None]:
        """Return what was packed, and what to close once it has arrived."""
        pickled = self._file.getbuffer()
        if not self._buffers and pickled.nbytes <= _INLINE:
            return Parcel(bytes(pickled)), None
        parts: list[memoryview] = [pickled, *self._buffers]
        held, path = anonymous_file()
        with open(held.descriptor, "wb", closefd=False) as file:
            for part in parts:
                file.write(part)
                file.write(bytes(-part.nbytes % _ALIGNED))
        return Parcel(b"", path, tuple(part.nbytes for part in parts)), held


def _is_cell(name: str) -> bool:
    """Say whether a text is known for a name, and there is no such file."""
    entry: tuple[Any, ...] = linecache.cache.get(name, ())  # one without a time has no file
    return bool(entry) and (entry[1:2] == (None,) or not Path(name).exists())


def anonymous_file() -> tuple[Held, str]:
    """Open a file that vanishes with this process, however that ends; else a temporary one.

    Returns
    -------
    tuple of Held and str
        What keeps it, and the path by which other processes of this user open it.
    """
    if hasattr(os, "memfd_create"):
        try:
            descriptor = os.memfd_create("taskqueue_nb")
        except OSError:
            descriptor = -1
        path = f"/proc/{os.getpid()}/fd/{descriptor}"
        if descriptor >= 0 and Path(path).exists():
            return Held(descriptor, path, is_named=False), path
    descriptor, path = tempfile.mkstemp(prefix="taskqueue_nb-")
    return Held(descriptor, path, is_named=True), path


def unpacked(parcel: Parcel) -> Iterator[Any]:
    """Unpickle one object after the other; whatever that raises is raised.

    The file, if there is one, has been read when the first object is asked for.
    """
    if not parcel.path:
        unpickler = pickle.Unpickler(io.BytesIO(parcel.data))  # noqa: S301 - made by `Packer`
    else:
        whole = bytearray(sum(size + -size % _ALIGNED for size in parcel.sizes))
        with open(parcel.path, "rb", buffering=0) as file:  # noqa: PTH123 - no path
            _fill(memoryview(whole), file)
        parts, start = [], 0
        for size in parcel.sizes:
            parts.append(memoryview(whole)[start : start + size])
            start += size + -size % _ALIGNED
        pickled, *buffers = parts
        unpickler = pickle.Unpickler(io.BytesIO(pickled), buffers=buffers)  # noqa: S301 - as above
    yield None  # all is here
    while True:
        yield unpickler.load()


def _fill(view: memoryview, file: Any) -> None:
    while len(view):
        count = file.readinto(view)
        if not count:
            message = "the file that carries it is too short"
            raise EOFError(message)
        view = view[count:]


# -- on the way --------------------------------------------------------------------------------
class Wire:
    """Brings tuples of plain things by a connection, both ways.

    Where that can be done, a message takes one system call on either side, where `Connection` makes
    three to wait for one and receive it: after each a thread has to wait for its turn again.

    Parameters
    ----------
    connection : Connection
        Both ends have a wire.
    patience : float, optional
        Seconds for which `receive` waits; by default without end.
    """

    def __init__(self, connection: Connection, patience: float | None = None) -> None:
        self._connection, self._patience = connection, patience
        self._is_file = os.name == "posix"
        self._is_timed = (
            patience is not None and self._is_file and _has_patience(connection, patience)
        )
        self._came = b""
        self._ready: Any = None
        if self._is_file and hasattr(select, "poll"):  # far quicker than the connection's own
            self._ready = select.poll()
            self._ready.register(connection.fileno(), select.POLLIN)

    def send(self, *message: Any) -> None:
        """Send a message; OSError if there is nobody to take it any more."""
        data = pickle.dumps(message, protocol=5)
        if not self._is_file:
            self._connection.send_bytes(data)
            return
        data = _LENGTH.pack(len(data)) + data
        sent = os.write(self._connection.fileno(), data)
        while sent < len(data):
            sent += os.write(self._connection.fileno(), data[sent:])

    def has_more(self) -> bool:
        """Say whether `receive` would not have to wait."""
        if self._came:
            return True
        if self._ready is not None:
            return bool(self._ready.poll(0))
        try:
            return self._connection.poll(0)
        except OSError:  # nobody is there any more, and `receive` will say that
            return True

    def receive(self) -> tuple[Any, ...] | None:
        """Wait for a message; None if there is none in time, EOFError or OSError at the end."""
        if self._is_file:
            data = self._received()
        elif self._patience is None or self._connection.poll(self._patience):
            data = self._connection.recv_bytes()
        else:
            data = None
        message: tuple[Any, ...] | None = None if data is None else pickle.loads(data)  # noqa: S301 - ours
        return message

    def _received(self) -> bytes | None:
        """Read until a whole message is there; what comes behind it is kept for the next."""
        begin = _LENGTH.size
        while True:
            if len(self._came) >= begin:
                end = begin + _LENGTH.unpack_from(self._came)[0]
                if len(self._came) >= end:
                    data, self._came = self._came[begin:end], self._came[end:]
                    return data
            if (
                not self._is_timed
                and self._patience is not None
                and not self._connection.poll(self._patience)
            ):
                return None
            try:
                more = os.read(self._connection.fileno(), _READ)
            except BlockingIOError:
                return None
            if not more:
                raise EOFError
            self._came += more


def _has_patience(connection: Connection, seconds: float) -> bool:
    """Have reads from a connection end after a time; say whether that can be done."""
    import socket  # noqa: PLC0415 - kept beside its one use

    try:
        with socket.socket(fileno=os.dup(connection.fileno())) as known:
            time = Struct("@ll").pack(0, int(seconds * 1e6))
            known.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, time)
    except OSError:
        return False  # a pipe, or another notion of time: `poll` does it
    return True


# -- in the worker -----------------------------------------------------------------------------
class _Line:
    """The way on which a running task reports: what it prints, and how far it is."""

    def __init__(self, wire: Any) -> None:
        self._wire = wire
        self._lock = threading.Lock()
        self._home = os.getpid()
        self._key = 0
        self._begin(0)

    def _begin(self, key: int) -> None:
        self._key = key
        self._texts: list[str] = []
        self._left = HEAD  # what is printed beyond that is kept here, and goes with the outcome
        self._rest = Output()
        self._progress: tuple[float, float] | None = None
        self._allowed = float(_AT_ONCE)
        self._last = monotonic()

    def begin(self, key: int) -> None:
        """Report for a further call from now on."""
        with self._lock:
            self._begin(key)

    def write(self, text: str) -> bool:
        """Take something that was printed; False if there is no call that it belongs to."""
        if not self._key or os.getpid() != self._home:
            return False
        with self._lock:
            head, rest = text[: self._left], text[self._left :]
            self._left -= len(head)
            if head:
                self._texts.append(head)
            if rest:
                self._rest.write(rest)
        self._tell()
        return True

    def progress(self, done: float, total: float) -> None:
        """Take a report of how far the task is."""
        if os.getpid() == self._home:
            self._progress = (done, total)
            self._tell()

    def _tell(self) -> None:
        """Report at once, as it may be the last word; but if there are too many, in a while."""
        now = monotonic()
        self._allowed = min(_AT_ONCE, self._allowed + (now - self._last) * _PER_SECOND)
        self._last = now
        if self._allowed >= 1:
            self._allowed -= 1
            self.flush()

    def flush(self) -> None:
        """Report what has not been reported."""
        with self._lock:
            if self._texts or self._progress is not None:
                text, progress = "".join(self._texts), self._progress
                self._texts, self._progress = [], None
                self._send(self._key, text, progress)

    def _send(self, *message: Any) -> None:
        with contextlib.suppress(OSError):  # nobody listens any more: the end is near
            self._wire.send(*message)

    def answer(self, key: int, parcel: Parcel) -> None:
        """Send what came of a call, and when."""
        with self._lock:
            self._send(key, "", None, time(), *parcel)

    def calls(self) -> Iterator[tuple[int, int, int, Parcel]]:
        """Yield each call that is sent, until the parent has ended.

        With its key come the attempt's number and how many answers have been heard.
        """
        while True:
            try:
                message = self._wire.receive()
            except (EOFError, OSError):
                return
            if message is not None:
                key, number, heard, *parcel = message
                yield key, number, heard, Parcel(*parcel)

    def end(self) -> tuple[str, int]:
        """Report for no call any more; return what was not reported, and how much was dropped."""
        self.flush()
        with self._lock:
            self._key = 0
            rest, dropped = self._rest, self._rest.dropped
            rest.dropped = 0  # whoever shows the whole says it
            return str(rest), dropped


class _Stream(Tee):
    """A standard stream of a worker: all that is printed belongs to the one call."""

    def write(self, text: str) -> int:
        if _line is None or not _line.write(text):
            self._real.write(text)
        return len(text)


class _WorkerAttempt(Attempt):
    """The attempt as its own process sees it: what it reports is passed on."""

    echo = False

    @property
    def progressed(self) -> tuple[float, float] | None:
        return self._progressed

    @progressed.setter
    def progressed(self, value: tuple[float, float] | None) -> None:
        self._progressed = value
        if _line is not None and value is not None:
            _line.progress(*value)

    _progressed: tuple[float, float] | None = None

    def write(self, text: str) -> None:
        if _line is not None:
            _line.write(text)


#: A worker's notes begin with the key of the call that it took up last; then comes that of one
#: that is withdrawn. What Python says when it crashes follows.
KEY: Final = Struct("@Q")
NOTES: Final = Struct("@QQ")

#: What Python's own pickler packs as well as cloudpickle's.
_PLAIN: Final = frozenset({type(None), bool, int, float, str})

_line: _Line | None = None
_notes: Any = None  # memory that the parent sees


def start(connection: Connection, lifeline: Connection, notes: str) -> None:
    """Prepare a new worker process.

    Parameters
    ----------
    connection : Connection
        Brings calls; takes what they report, and the answers.
    lifeline : Connection
        Nothing ever comes by it; it ends when the parent does.
    notes : str
        The file for what the parent must know of this process at any moment: see `NOTES`.
    """
    global _line, _notes  # noqa: PLW0603 - the process has one
    if hasattr(os, "setsid"):
        os.setsid()  # an interrupt of the notebook is not ours, and what we start ends with us
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _line = _Line(Wire(connection))
    for name in ("stdout", "stderr"):
        if (stream := getattr(sys, name)) is not None:
            setattr(sys, name, _Stream(stream))
    log_to_attempts()
    file = os.open(notes, os.O_RDWR | getattr(os, "O_BINARY", 0))
    os.write(file, bytes(NOTES.size))
    _notes = _Notes(file)
    faulthandler.enable(file)  # its words go behind the keys
    _die_with_parent(lifeline)
    threading.Thread(target=_watch, args=(lifeline, os.getppid()), daemon=True).start()


class _Notes:
    """What a worker and its parent leave word of, each for the other."""

    def __init__(self, file: int) -> None:
        self._file = file
        self._memory = mmap.mmap(file, NOTES.size)

    def take_up(self, key: int) -> bool:
        """Leave word of a call that is taken up, even if this process dies of it.

        False if the parent has withdrawn it. Only one of the two can have its way.
        """
        if fcntl is not None:
            fcntl.lockf(self._file, fcntl.LOCK_EX, NOTES.size)
        try:
            if NOTES.unpack_from(self._memory)[1] == key:
                return False
            KEY.pack_into(self._memory, 0, key)
            return True
        finally:
            if fcntl is not None:
                fcntl.lockf(self._file, fcntl.LOCK_UN, NOTES.size)


def withdrawn(notes: int, key: int, patience: float) -> bool | None:
    """Have a call that was sent to a worker not taken up.

    Parameters
    ----------
    notes : int
        The file of that worker.
    key : int
        Of the call.
    patience : float
        Seconds within which a worker that lives lets the file go.

    Returns
    -------
    bool or None
        False if it has been taken up already, None if that cannot be known now.
    """
    if fcntl is None:
        return None
    due = monotonic() + patience
    while True:
        try:
            fcntl.lockf(notes, fcntl.LOCK_EX | fcntl.LOCK_NB, NOTES.size)
            break
        except OSError:
            if monotonic() > due:
                return None  # it stands still in the middle of `take_up`
            sleep(_SOON)
    try:
        if KEY.unpack(os.pread(notes, KEY.size, 0))[0] == key:
            return False
        os.pwrite(notes, KEY.pack(key), KEY.size)
        return True
    finally:
        fcntl.lockf(notes, fcntl.LOCK_UN, NOTES.size)


def _die_with_parent(lifeline: Connection) -> None:
    """Have the kernel end this process group with the parent, even in the middle of C code."""
    if sys.platform != "linux" or fcntl is None:
        return
    descriptor = lifeline.fileno()
    with contextlib.suppress(OSError):  # the thread below does it then
        fcntl.fcntl(descriptor, fcntl.F_SETOWN, -os.getpgid(0))
        fcntl.fcntl(descriptor, _F_SETSIG, signal.SIGKILL)
        flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
        fcntl.fcntl(descriptor, fcntl.F_SETFL, flags | os.O_ASYNC)


def _watch(lifeline: Connection, parent: int) -> None:
    """Report what nobody reported, and end this process when the parent has ended."""
    while not lifeline.poll(_LOOK) and os.getppid() == parent:
        if _line is not None:
            _line.flush()
    end_group(os.getpid())


def end_group(process: int) -> None:
    """End a worker, and what it has started, at once."""
    with contextlib.suppress(OSError):  # it has ended already
        if hasattr(os, "killpg"):
            os.killpg(process, signal.SIGKILL)
        else:
            os.kill(process, signal.SIGTERM)  # on Windows that is as final


def serve() -> None:
    """Make one call after the other; each answer is data, even if the call cannot be unpickled."""
    line = _line
    if line is None:
        message = "start() prepares a worker first"
        raise RuntimeError(message)
    line.answer(0, Parcel(b""))  # it is up
    sent: deque[tuple[int, Held]] = deque()
    answers = 0
    for key, number, heard, parcel in line.calls():
        while sent and sent[0][0] <= heard:
            sent.popleft()[1].close()
        if not _notes.take_up(key):
            continue
        line.begin(key)
        answer, held = _called(number, parcel, line)
        if held is not None:
            sent.append((answers + 1, held))
        line.answer(key, answer)
        answers += 1


def _called(number: int, parcel: Parcel, line: _Line) -> tuple[Parcel, Held | None]:
    """Make a call and pack what comes of it; a process that it forked ends here."""
    forks = _forks[0]
    value, error, stage = _made(number, parcel)
    if forks != _forks[0]:
        _end_child(error)
    rest, dropped = line.end()
    return _answer(value, error, stage, rest, dropped)


def _made(number: int, parcel: Parcel) -> tuple[Any, BaseException | None, str]:
    """Make a call: its value, or the error, and what could not be read on the way.

    The parcel holds a tuple of the task's name, the names of its arguments and the pickled function
    if that goes by name; the function, if it goes by value; each argument; and the text of the
    cells that these come from, if there can be any.
    """
    stage = "the call"
    token = None
    try:
        items = unpacked(parcel)
        next(items)
        name, places, by_name = next(items)
        stage = "the function"
        func = next(items) if by_name is None else pickle.loads(by_name)  # noqa: S301 - as above
        args: list[Any] = []
        kwargs: dict[str, Any] = {}
        for word, keyword in places:
            stage = f"argument {shorten(word)}"
            if keyword is None:
                args.append(next(items))
            else:
                kwargs[keyword] = next(items)
        stage = ""
        for file, text in next(items).items() if places or by_name is None else ():
            linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
        task = Task(name, func, state="RUNNING")
        task._attempt = attempt = _WorkerAttempt(task, None)
        attempt.number = number
        token = CURRENT.set(attempt)
        value = awaited(func(*args, **kwargs))
        if attempt.asked_to_stop:
            message = f"{task._fsm_called()} was cancelled"
            return None, CancellationError(message), ""
    except BaseException as error:  # noqa: BLE001 - whatever it is, it is the task's
        return None, without_our_frames(error), stage
    else:
        return value, None, ""
    finally:
        if token is not None:
            CURRENT.reset(token)


def _answer(
    value: Any, error: BaseException | None, stage: str, rest: str, dropped: int
) -> tuple[Parcel, Held | None]:
    """Pack what came of a call.

    First comes a tuple of its kind, words, the rest of the output, how much of that was dropped,
    and then, of a call that is
    - "done": nothing; the words are the type's name, and the value follows;
    - "raised": the traceback, and whether it is an exit or an interrupt; the pickled error follows,
      or None if it cannot travel;
    - "unread": the traceback, and what could not be read;
    - "unsent": the name of the type of a result that cannot be pickled.
    """
    kind = type(value).__name__
    try:
        packer = Packer(is_plain=error is None and type(value) in _PLAIN)
        if error is None:
            packer.add(("done", kind, rest, dropped))
            packer.add(value)
        elif stage:
            packer.add(("unread", words_of(error), rest, dropped, _traceback_text(error), stage))
        else:
            is_exit = not isinstance(error, Exception)
            packer.add(("raised", words_of(error), rest, dropped, _traceback_text(error), is_exit))
            packer.add(_portable(error))
        return packer.parcel()
    except BaseException as refusal:  # noqa: BLE001 - pickling runs foreign code
        packer = Packer()
        packer.add(("unsent", words_of(refusal), rest, dropped, kind))
        return packer.parcel()


def _portable(error: BaseException) -> bytes | None:
    """Pickle an error so that it arrives as what it is; None if there is no way."""
    if not isinstance(error, Exception):
        return None  # an exit or an interrupt is this process's own affair
    for candidate in (error, _ByParts(error)):
        try:
            pickled: bytes = cloudpickle.dumps(candidate, protocol=5)
            arrived = pickle.loads(pickled)  # noqa: S301 - our own bytes
        except BaseException:  # noqa: BLE001, S112 - pickling runs foreign code; there is another way
            continue
        if type(arrived) is type(error) and words_of(arrived) == words_of(error):
            return pickled
    return None


class _ByParts:
    """Pickles an error whose `__init__` takes other arguments than those it keeps."""

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def __reduce__(self) -> tuple[Any, ...]:
        kept = {name: value for name, value in vars(self._error).items() if _travels(value)}
        return _from_parts, (type(self._error), self._error.args, kept)


def _travels(value: object) -> bool:
    try:
        pickle.loads(cloudpickle.dumps(value))  # noqa: S301 - our own bytes
    except BaseException:  # noqa: BLE001 - pickling runs foreign code
        return False
    return True


def _from_parts(kind: type[BaseException], args: Any, kept: dict[str, Any]) -> BaseException:
    error = kind.__new__(kind, *args)
    vars(error).update(kept)
    return error
