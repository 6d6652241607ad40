"""The file of a store: where it may lie, how it is made, and whether it is sound."""

from __future__ import annotations

import os
import sqlite3
import stat
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Final

from taskqueue_nb.store.errors import StoreError

FORMAT: Final = 1
_APPLICATION: Final = 0x74714E42  # "tqNB": whose SQLite file it is
SMALLEST: Final = 512  # bytes of a database
_CHECKED: Final = 128 * 2**20  # bytes up to which a file is looked through when it is opened
_FIRST_USER: Final = 1000  # smaller numbers are the system's own

SCHEMA: Final = """
CREATE TABLE tasks(
    id INTEGER PRIMARY KEY,
    name BLOB NOT NULL,          -- UTF-8, lone surrogates included
    ordinal INTEGER NOT NULL,    -- which of those of this name
    state TEXT NOT NULL,
    own TEXT,                    -- digest of code and arguments; NULL: cannot be seen
    digest TEXT,                 -- the same with all that it requires, or of a value given by hand
    parts TEXT,                  -- the fingerprint as JSON
    requires TEXT,               -- [[name, digest], ...] as JSON
    supplied INTEGER NOT NULL DEFAULT 0,
    result INTEGER,
    lost TEXT,                   -- why a DONE task has no result here
    UNIQUE(name, ordinal)
);
CREATE TABLE journal(
    task INTEGER NOT NULL,
    step INTEGER NOT NULL,
    event TEXT NOT NULL,
    state TEXT NOT NULL,
    at REAL NOT NULL,            -- seconds since the epoch
    attempt INTEGER NOT NULL,    -- 0 before the first
    extra TEXT,
    said BLOB,                   -- an error's class and words
    PRIMARY KEY(task, step)
) WITHOUT ROWID;
CREATE TABLE attempts(
    task INTEGER NOT NULL,
    number INTEGER NOT NULL,
    said BLOB,
    trace BLOB,
    output BLOB,
    PRIMARY KEY(task, number)
);
CREATE TABLE results(
    id INTEGER PRIMARY KEY AUTOINCREMENT,  -- a number is never used twice
    task INTEGER NOT NULL,
    size INTEGER NOT NULL,
    lengths TEXT NOT NULL,
    checksum BLOB NOT NULL,
    data BLOB                    -- NULL: in pieces
);
CREATE TABLE pieces(
    id INTEGER PRIMARY KEY,
    result INTEGER NOT NULL,
    part INTEGER NOT NULL,       -- 0 is the pickle stream, then its buffers
    number INTEGER NOT NULL,
    bytes BLOB NOT NULL
);
CREATE INDEX pieces_of ON pieces(result, part, number);
CREATE TABLE verbs(id INTEGER PRIMARY KEY, at REAL NOT NULL, words TEXT NOT NULL);
"""


def beside(path: Path, suffix: str) -> Path:
    """Return the path of a file that belongs to a store's."""
    return path.with_name(path.name + suffix)


# -- where it may lie --------------------------------------------------------------------------


def placed(path: Any) -> Path:
    """Return where a store is to be, once that is found to be a place that is ours alone.

    Raises
    ------
    StoreError
        If it cannot be there.
    """
    try:
        text = os.fspath(path)
    except TypeError:
        text = None
    if not isinstance(text, str) or not text or "\0" in text or text == ":memory:":
        reason = "a store is a file: give its path, such as store='run.tq'"
        raise StoreError(text if isinstance(text, str) else type(path).__name__, reason)
    given = Path(text).expanduser()
    try:
        folder = given.parent.resolve(strict=True)
    except (OSError, RuntimeError):  # RuntimeError: links in a circle
        reason = f"its folder {str(given.parent)!r} does not exist; make it first"
        raise StoreError(text, reason) from None
    if not folder.is_dir():
        raise StoreError(text, f"{str(folder)!r} is no folder")
    found = folder / given.name
    if not given.name or found.is_dir():
        raise StoreError(str(found), "that is a folder; give a file in it, such as 'run.tq'")
    try:
        _check_folder(found)
        for suffix in ("", "-wal", "-shm", "-lock"):
            _check_file(found, suffix)
    except OSError as error:
        raise StoreError(str(found), f"it cannot be looked at ({error.strerror})") from None
    return found


def _check_folder(path: Path) -> None:
    if not hasattr(os, "getuid"):  # Windows: the user's profile is private already
        return
    folder = path.parent
    for place in (folder, *folder.parents):
        found = place.stat()
        if _others_may_write(found) and not found.st_mode & stat.S_ISVTX:
            reason = (
                f"others may write in {str(place)!r}, and whoever can replace a store runs code "
                f"in your name; choose a folder of yours, or take the right away (chmod go-w)"
            )
            raise StoreError(str(path), reason)
    found = folder.stat()
    if found.st_uid not in (os.getuid(), 0):
        reason = f"its folder {str(folder)!r} belongs to another user; choose one of yours"
        raise StoreError(str(path), reason)
    if not os.access(folder, os.W_OK) or not found.st_mode & 0o222:
        reason = f"its folder {str(folder)!r} is read-only; choose one that can be written"
        raise StoreError(str(path), reason)


def _others_may_write(found: os.stat_result) -> bool:
    mode = found.st_mode
    return bool(mode & stat.S_IWOTH or (mode & stat.S_IWGRP and not _is_own_group(found)))


def _is_own_group(found: os.stat_result) -> bool:
    """Say whether a group is one person's own, as many systems give one to each of their users."""
    user = os.getuid()
    if user < _FIRST_USER or found.st_uid != user:
        return False
    import grp  # noqa: PLC0415 - not on Windows
    import pwd  # noqa: PLC0415 - likewise

    try:
        me, group = pwd.getpwuid(user), grp.getgrgid(found.st_gid)
    except KeyError:
        return False
    is_mine = me.pw_gid == group.gr_gid and group.gr_name == me.pw_name
    return is_mine and set(group.gr_mem) <= {me.pw_name}


def _check_file(path: Path, suffix: str) -> None:
    file = beside(path, suffix)
    called = "it" if not suffix else f"its {file.name!r}"
    try:
        found = file.lstat()
    except FileNotFoundError:
        return
    if stat.S_ISLNK(found.st_mode):
        raise StoreError(str(path), f"{called} is a link; give the path of the file itself")
    if not stat.S_ISREG(found.st_mode):
        raise StoreError(str(path), f"{called} is no regular file; choose another path")
    if not hasattr(os, "getuid"):
        return
    if found.st_uid != os.getuid():
        reason = (
            f"{called} belongs to another user, and what is in it would run code in your name; "
            f"choose another path"
        )
        raise StoreError(str(path), reason)
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        reason = (
            f"others may write {called if suffix else 'to it'}, and what is in it would run code "
            f"in your name; if you trust it, chmod 600 it"
        )
        raise StoreError(str(path), reason)
    if not found.st_mode & stat.S_IWUSR:
        raise StoreError(str(path), f"{called} is read-only; chmod 600 it, or choose another path")


# -- opening -----------------------------------------------------------------------------------


def connect(path: Path, *, writing: bool = False, quiet: bool = False) -> sqlite3.Connection:
    """Open the database of a store; several threads may use it, one at a time.

    `quiet` makes no files beside it: for a file that nobody writes, and that has no log.
    """
    mode = "rw" if writing else "ro&immutable=1" if quiet else "ro"
    connection = sqlite3.connect(
        f"{path.as_uri()}?mode={mode}",
        uri=True,
        timeout=30.0,
        isolation_level=None,
        check_same_thread=False,
    )
    if writing:
        connection.execute("PRAGMA synchronous=NORMAL")  # whole after kill -9
        connection.execute("PRAGMA journal_size_limit=67108864")
    return connection


def make(path: Path) -> None:
    """Make an empty store, at once or not at all; the lock is held."""
    draft = beside(path, "-new")
    try:
        for suffix in ("", "-journal", "-wal", "-shm"):  # of somebody killed in the middle
            with suppress(FileNotFoundError):
                beside(draft, suffix).unlink()
        os.close(os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        try:
            with closing(connect(draft, writing=True)) as connection:
                connection.execute("PRAGMA journal_mode=WAL")
                connection.executescript(
                    f"BEGIN; {SCHEMA} PRAGMA application_id={_APPLICATION};"
                    f"PRAGMA user_version={FORMAT}; COMMIT;"
                )
            draft.rename(path)
        except BaseException:
            for suffix in ("", "-journal", "-wal", "-shm"):
                with suppress(OSError):
                    beside(draft, suffix).unlink()
            raise
    except (OSError, sqlite3.Error) as error:
        reason = f"it cannot be made there ({getattr(error, 'strerror', None) or error})"
        raise StoreError(str(path), reason) from None


def check(path: Path, *, is_ours: bool = True) -> None:
    """Find out whether a file is a sound store, without changing it.

    Parameters
    ----------
    path : Path
        The file.
    is_ours : bool
        Whether we hold its lock, so that nobody writes it meanwhile.

    Raises
    ------
    StoreError
        If it is none, of another format, or damaged.
    """
    size = path.stat().st_size
    if size < SMALLEST:  # SQLite would take it for a new one
        raise StoreError(str(path), damaged(path, f"it has {size} bytes"))
    has_log = log_size(path) > 0
    try:
        with closing(connect(path, quiet=is_ours and not has_log)) as connection:
            check_format(path, connection)
            pages = connection.execute("PRAGMA page_count").fetchone()[0]
            length = connection.execute("PRAGMA page_size").fetchone()[0]
            if not has_log and pages * length > size:
                reason = f"{size:,} bytes are there, and {pages * length:,} should be"
                raise StoreError(str(path), damaged(path, reason))
            connection.execute("SELECT count(*) FROM verbs").fetchone()
            if size <= _CHECKED:
                said = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
                if said != "ok":
                    raise StoreError(str(path), damaged(path, said))
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_BUSY):
            raise StoreError(str(path), f"it cannot be opened ({error})") from None
        raise StoreError(str(path), damaged(path, str(error))) from None
    except sqlite3.Error as error:
        raise StoreError(str(path), damaged(path, str(error))) from None


def log_size(path: Path) -> int:
    """Return how many bytes SQLite's log of a file has."""
    try:
        return beside(path, "-wal").stat().st_size
    except FileNotFoundError:
        return 0


def check_format(path: Path, connection: sqlite3.Connection) -> None:
    """Refuse what is no store, or one of another format."""
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if application != _APPLICATION:
        raise StoreError(str(path), "it is an SQLite file of something else; choose another path")
    if version != FORMAT:
        age = "newer" if version > FORMAT else "older"
        reason = (
            f"it has the {age} format {version}, and this taskqueue_nb reads format {FORMAT}; "
            f"nothing in it was changed. Use the version that wrote it, or another path"
        )
        raise StoreError(str(path), reason)


def damaged(path: Path, what: str) -> str:
    """Return the sentence for a file that cannot be trusted."""
    import shlex  # noqa: PLC0415 - for this sentence alone

    what = " ".join(what.split())[:200]
    shown = shlex.quote(str(path)) if str(path).isprintable() else repr(str(path))
    return (
        f"it is damaged, or no store ({what}). Nothing in it was changed. "
        f"`python -m taskqueue_nb store check {shown}` says what is sound and can copy that to a "
        f"new file"
    )


def bytes_of(text: str) -> bytes:
    """Return any text as bytes, lone surrogates included."""
    return text.encode("utf-8", "surrogatepass")


def text_of(data: Any) -> str:
    """Return the text of such bytes."""
    return data.decode("utf-8", "surrogatepass") if isinstance(data, bytes) else str(data or "")
