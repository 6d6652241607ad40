"""Values as bytes: a pickle stream, and beside it the buffers of large arrays, in bounded pieces.

A buffer goes from the array into its rows and from the rows into a new buffer; at no time is there
a second copy of more than one row.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import blake2b
from typing import Any, Final, NamedTuple

from taskqueue_nb.task import words_of

PIECE: Final = 16 * 2**20  # bytes of one row at most
_BESIDE: Final = 4096  # bytes from which a buffer stands beside the stream

Emit = Callable[[int, int, Any], object]  # part (0 is the stream), number of the piece, bytes


class NotStorableError(Exception):
    """A value cannot be stored; the message says why."""


class _TooLargeError(Exception):
    """More bytes than are allowed."""


class _HandOnError(Exception):
    """A piece could not be written: no fault of the value."""


class Packed(NamedTuple):
    """A value as bytes.

    Attributes
    ----------
    data : bytes or None
        The stream, if all fits into one row; else the pieces were handed on.
    lengths : list of int
        How long the stream and each of the buffers are.
    checksum : bytes
        Of all of it.
    """

    data: bytes | None
    lengths: list[int]
    checksum: bytes

    @property
    def size(self) -> int:
        """How many bytes there are."""
        return sum(self.lengths)


class _Sink(io.RawIOBase):
    """Takes a stream, hands on what fills a row, and stops what grows too large."""

    def __init__(self, limit: int, emit: Emit) -> None:
        super().__init__()
        self._left = limit
        self._emit = emit
        self._waiting = bytearray()
        self._pieces = 0
        self.length = 0
        self.checksum = blake2b(digest_size=16)
        self.buffers: list[memoryview] = []

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        self._take(view.nbytes)
        self.length += view.nbytes
        self.checksum.update(view)
        place = 0
        while place < view.nbytes:
            part = view[place : place + PIECE - len(self._waiting)]
            self._waiting += part
            place += part.nbytes
            if len(self._waiting) == PIECE:
                self._hand_on()
        return view.nbytes

    def beside(self, buffer: pickle.PickleBuffer) -> bool:
        """Say whether a buffer is to stay in the stream; else keep it for the end."""
        try:
            view = buffer.raw()
        except BufferError:  # not in one piece
            return True
        if view.nbytes < _BESIDE:
            return True
        self._take(view.nbytes)
        self.buffers.append(view)
        return False

    def _take(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise _TooLargeError

    def _hand_on(self) -> None:
        try:
            self._emit(0, self._pieces, self._waiting)
        except Exception as error:
            raise _HandOnError from error  # pickling would take it for its own
        self._pieces += 1
        self._waiting = bytearray()

    def packed(self) -> Packed:
        """End the stream, and hand on the buffers."""
        lengths = [self.length, *(view.nbytes for view in self.buffers)]
        data = None
        if self._pieces or self.buffers:
            if self._waiting:
                self._hand_on()
            for part, view in enumerate(self.buffers, 1):
                for number, start in enumerate(range(0, view.nbytes, PIECE)):
                    piece = view[start : start + PIECE]
                    self.checksum.update(piece)
                    self._emit(part, number, piece)
        else:
            data = bytes(self._waiting)
        return Packed(data, lengths, self.checksum.digest())


def pack(value: Any, limit: int, emit: Emit, forget: Callable[[], object]) -> Packed:
    """Turn a value into bytes.

    Parameters
    ----------
    value : object
        Pickled as usual, so that a notebook's class stays the notebook's; by cloudpickle if that
        fails, as for a function without a name.
    limit : int
        How many bytes it may have.
    emit : callable
        Takes `(part, number, bytes)`: each piece of a value that does not fit into one row.
    forget : callable
        Called when the pieces so far are void, and another pickler tries.

    Raises
    ------
    NotStorableError
        If it cannot be pickled, or is too large.
    """
    try:
        return _packed(pickle.Pickler, value, limit, emit)
    except _UnpicklableError as error:
        forget()
        reason = str(error)
    try:
        from cloudpickle import Pickler  # noqa: PLC0415 - a guest of the core, and rarely needed
    except ImportError:
        raise NotStorableError(reason) from None
    try:
        return _packed(Pickler, value, limit, emit)
    except _UnpicklableError:
        forget()
        raise NotStorableError(reason) from None  # what pickle said is what a user can act on


class _UnpicklableError(Exception):
    """A pickler refused a value."""


def _packed(pickler: Any, value: Any, limit: int, emit: Emit) -> Packed:
    sink = _Sink(limit, emit)
    try:
        pickler(sink, protocol=5, buffer_callback=sink.beside).dump(value)
    except _TooLargeError:
        message = f"it takes more than store_limit, {limit:,} bytes"
        raise NotStorableError(message) from None
    except _HandOnError as error:
        raise (error.__cause__ or error) from None
    except BaseException as error:  # noqa: BLE001 - pickling runs foreign code, and no run ends by it
        message = f"it cannot be pickled ({words_of(error)[:300]})"
        raise _UnpicklableError(message) from None
    return sink.packed()


def joined(
    lengths: Sequence[int], checksum: bytes, pieces: Iterable[tuple[int, bytes]]
) -> list[bytearray]:
    """Put pieces together: the stream, then its buffers, which arrays may write into.

    Raises
    ------
    ValueError
        If they are not what was written.
    """
    parts = [bytearray(length) for length in lengths]
    found = blake2b(digest_size=16)
    filled = [0] * len(parts)
    for part, piece in pieces:
        found.update(piece)
        if not (0 <= part < len(parts) and filled[part] + len(piece) <= lengths[part]):
            raise ValueError(_DAMAGED)
        parts[part][filled[part] : filled[part] + len(piece)] = piece
        filled[part] += len(piece)
    if filled != list(lengths) or found.digest() != checksum:
        raise ValueError(_DAMAGED)
    return parts


def checked(data: bytes, checksum: bytes) -> list[bytes]:
    """Return a stream that stands in one row, once it is found to be what was written."""
    if blake2b(data, digest_size=16).digest() != checksum:
        raise ValueError(_DAMAGED)
    return [data]


def unpack(stream: Any, *buffers: Any) -> Any:
    """Unpickle what `joined` or `checked` gave; raises whatever unpickling raises."""
    return pickle.loads(stream, buffers=buffers)  # noqa: S301 - the file is ours, and was checked


_DAMAGED: Final = "it is damaged in the file"


def is_sound(data: bytes | None, checksum: bytes, pieces: Iterator[tuple[int, bytes]]) -> bool:
    """Say whether bytes are what was written, without unpickling them."""
    found = blake2b(digest_size=16)
    for piece in [data] if data is not None else (piece for _, piece in pieces):
        found.update(piece)
    return found.digest() == checksum
