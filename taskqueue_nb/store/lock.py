"""One writer per store: a lock of the operating system, which ends with its holder."""

from __future__ import annotations

import os
from contextlib import suppress
from time import sleep
from typing import TYPE_CHECKING, Any, Final

from taskqueue_nb.store.errors import StoreError

if TYPE_CHECKING:
    from pathlib import Path

_FAR: Final = 1 << 30  # Windows locks bytes, and locked ones cannot be read: lock one nobody writes
_TRIES: Final = 5  # should others remove their lock files just as we open them, or only look
_PAUSE: Final = 0.02  # seconds between them


class HeldError(Exception):
    """Another process, or another store of this one, holds the lock.

    Attributes
    ----------
    pid : int or None
        Whose it is, if that is known.
    """

    def __init__(self, pid: int | None = None) -> None:
        super().__init__(pid)
        self.pid = pid


class FileLock:
    """A lock on a file beside the store.

    It stands beside it because closing any descriptor of the database would drop the locks that
    SQLite itself holds on it.

    Parameters
    ----------
    path : Path
        The lock file; made if need be, and removed when the lock is given back.

    Raises
    ------
    HeldError
        If somebody else holds it.
    StoreError
        If the system cannot lock there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None
        held = HeldError()
        for _ in range(_TRIES):
            try:
                if self._tried():
                    return
            except HeldError as error:
                held = error
                sleep(_PAUSE)
        raise held

    def _tried(self) -> bool:
        """Take the lock; False if its file was removed meanwhile."""
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
        try:
            descriptor = os.open(self.path, flags, 0o600)
        except OSError as error:
            reason = f"its lock file {self.path.name!r} cannot be opened ({error.strerror})"
            raise StoreError(str(self.path), reason) from None
        try:
            _lock(descriptor, self.path)
            if not self._is_still(descriptor):
                os.close(descriptor)
                return False
            os.ftruncate(descriptor, 0)
            os.write(descriptor, str(os.getpid()).encode())
        except BaseException as error:
            os.close(descriptor)
            if isinstance(error, StoreError):  # nothing is locked here, by nobody
                with suppress(OSError):
                    self.path.unlink()
            raise
        self._descriptor = descriptor
        return True

    def _is_still(self, descriptor: int) -> bool:
        """Say whether the file that is locked is the one that others will find."""
        try:
            return os.path.samestat(os.fstat(descriptor), self.path.stat())
        except FileNotFoundError:
            return False

    def release(self) -> None:
        """Give the lock back, and remove its file."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            with suppress(OSError):  # Windows removes no open file; the next holder takes it over
                self.path.unlink()
            os.close(descriptor)

    def abandon(self) -> None:
        """Let go of it in a forked child: it stays with the parent."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)


def _lock(descriptor: int, path: Path) -> None:
    try:
        import fcntl  # noqa: PLC0415 - not on every system
    except ImportError:
        _lock_bytes(descriptor, path)
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise HeldError(_pid(os.pread(descriptor, 20, 0))) from None
    except OSError as error:
        raise StoreError(str(path), _NO_LOCKS.format(error.strerror)) from None


def _lock_bytes(descriptor: int, path: Path) -> None:
    """Lock on Windows."""
    try:
        import msvcrt  # noqa: PLC0415 - on Windows alone
    except ImportError:
        reason = _NO_LOCKS.format("neither fcntl nor msvcrt is there")
        raise StoreError(str(path), reason) from None
    windows: Any = msvcrt
    os.lseek(descriptor, _FAR, os.SEEK_SET)
    try:
        windows.locking(descriptor, windows.LK_NBLCK, 1)
    except OSError:
        os.lseek(descriptor, 0, os.SEEK_SET)
        raise HeldError(_pid(os.read(descriptor, 20))) from None
    os.lseek(descriptor, 0, os.SEEK_SET)


_NO_LOCKS: Final = (
    "files cannot be locked there ({}), so nothing would keep two kernels from writing at once; "
    "choose a folder on a local disk"
)


def _pid(text: bytes) -> int | None:
    return int(text) if text.isdigit() else None


def holder(path: Path) -> int | None:
    """Say which process holds a lock file: 0 for nobody, None if its number is not known."""
    try:
        descriptor = os.open(path, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0))
    except OSError:
        return 0
    try:
        _lock(descriptor, path)  # given back by closing
    except HeldError as held:
        return held.pid
    finally:
        os.close(descriptor)
    return 0
