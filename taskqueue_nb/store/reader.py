"""Reading a store: the rows of tasks at once, their results one by one when they are asked for."""

from __future__ import annotations

import json
import os
import threading
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from weakref import WeakSet

from taskqueue_nb.store.errors import StoreError
from taskqueue_nb.store.file import connect
from taskqueue_nb.store.pack import checked, joined, unpack

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Collection, Generator
    from pathlib import Path

_FEW: Final = 300  # tasks up to which rows are looked for one by one
_OPEN: Final[WeakSet[Reader]] = WeakSet()
_FORSAKEN: Final[list[Any]] = []  # connections of a parent process, which must not be closed


class Row(NamedTuple):
    """What the file says of a task."""

    row: int
    name: bytes
    ordinal: int
    state: str
    own: str | None
    digest: str | None
    supplied: int
    result: int | None
    lost: str | None


class Reader:
    """A connection that only reads; it is opened when needed, and outlives the writer.

    Parameters
    ----------
    path : Path
        The file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._file: Any = None
        self._process = os.getpid()

    def _opened(self) -> sqlite3.Connection:
        """Return the connection; our lock is held."""
        if self._process != os.getpid():
            _FORSAKEN.append(self._connection)
            self._connection = None
            reason = "a forked process cannot read it; load what it needs before the fork"
            raise StoreError(str(self.path), reason)
        if self._connection is None:
            found = self.path.stat()
            if self._file is not None and not os.path.samestat(self._file, found):
                raise StoreError(str(self.path), "the file was replaced by another one")
            self._file = found
            self._connection = connect(self.path)
            _OPEN.add(self)
        return self._connection

    def close(self) -> None:
        """Close the connection; whoever reads again opens it again."""
        with self._lock:
            if self._connection is not None and self._process == os.getpid():
                self._connection.close()
                self._connection = None

    def __del__(self) -> None:
        if getattr(self, "_connection", None) is not None:
            with suppress(Exception):
                self.close()

    def all(self, query: str, values: tuple[Any, ...] = ()) -> list[Any]:
        """Return the rows of a query."""
        with self._lock:
            return self._opened().execute(query, values).fetchall()

    # -- tasks -----------------------------------------------------------------------------------

    def rows(self, wanted: Collection[tuple[bytes, int]]) -> dict[tuple[bytes, int], Row]:
        """Return what there is of some tasks, by name and number."""
        columns = "id, name, ordinal, state, own, digest, supplied, result, lost"
        if len(wanted) > _FEW:
            found = self.all(f"SELECT {columns} FROM tasks")  # noqa: S608 - no value in it
        else:
            query = f"SELECT {columns} FROM tasks WHERE name = ? AND ordinal = ?"  # noqa: S608
            found = [row for key in wanted for row in self.all(query, key)]
        return {(row[1], row[2]): Row(*row) for row in found}

    def of_each(
        self, table: str, columns: str, order: str, rows: list[int]
    ) -> dict[int, list[tuple[Any, ...]]]:
        """Return the rows of a table that belong to some tasks, each with its task first."""
        query = f"SELECT task, {columns} FROM {table}"  # noqa: S608 - no value in it
        if len(rows) <= _FEW:
            one = f"{query} WHERE task = ? ORDER BY {order}"
            return {row: self.all(one, (row,)) for row in rows}
        found: dict[int, list[tuple[Any, ...]]] = {}
        task, mine = 0, list[tuple[Any, ...]]()
        for each in self.all(f"{query} ORDER BY task, {order}"):
            if each[0] != task:
                task = each[0]
                found[task] = mine = []
            mine.append(each)
        return found

    def prints(self, row: int) -> tuple[str, str]:
        """Return a task's fingerprint, and what it required, as JSON."""
        found = self.all("SELECT parts, requires FROM tasks WHERE id = ?", (row,))
        return found[0] if found else ("", "")

    # -- results ---------------------------------------------------------------------------------

    def load(self, number: int) -> Any:
        """Unpickle a result.

        Raises
        ------
        Exception
            Of whatever kind, if it is gone or damaged, or its class cannot be had.
        """
        with self._lock:
            connection = self._opened()
            query = "SELECT lengths, checksum, data FROM results WHERE id = ?"
            found = connection.execute(query, (number,)).fetchone()
            if found is None:
                raise LookupError("it is no longer in the file")
            lengths, checksum, data = found
            parts: list[Any]
            if data is not None:
                parts = list(checked(data, checksum))
            else:
                with closing(pieces_of(connection, number)) as pieces:
                    parts = list(joined(json.loads(lengths), checksum, pieces))
        return unpack(*parts)  # our lock is free: what is unpickled may ask for more


def close_all(path: Path | None = None) -> None:
    """Close what can be opened again, so that a writer that ends can put the file in order."""
    for reader in list(_OPEN):
        if path is None or reader.path == path:
            reader.close()


def pieces_of(
    connection: sqlite3.Connection, result: int
) -> Generator[tuple[int, bytes], None, None]:
    """Yield the pieces of a large result, one in memory at a time."""
    query = "SELECT part, bytes FROM pieces WHERE result = ? ORDER BY part, number"
    yield from connection.execute(query, (result,))
