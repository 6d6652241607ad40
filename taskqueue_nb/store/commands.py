"""`python -m taskqueue_nb store …`: look at a store, save what is sound of it, clear it."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from contextlib import closing, suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from taskqueue_nb.fsm import shorten
from taskqueue_nb.store import file
from taskqueue_nb.store.errors import StoreError
from taskqueue_nb.store.lock import FileLock, HeldError, holder
from taskqueue_nb.store.pack import is_sound
from taskqueue_nb.store.reader import pieces_of
from taskqueue_nb.task import FSM_TRANSITIONS

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

SOUND, DAMAGED, UNUSABLE = 0, 1, 2

_PROBED: Final = 1_000_000  # numbers of rows that are tried one by one where a table is torn
_VAIN: Final = 10_000  # of them, how many in a row may fail before the rest is given up
_SHOWN: Final = 20  # damages that are named
_TASK: Final = "id, name, ordinal, state, own, digest, parts, requires, supplied, result, lost"


def add_parser(commands: Any) -> None:
    """Add `store` to a program's commands."""
    parser = commands.add_parser("store", help="look at the file of a queue with store=")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="info|check|clear")
    info = verbs.add_parser("info", help="say what is in it")
    check = verbs.add_parser("check", help="say what is sound: exit 0 all, 1 some, 2 nothing")
    check.add_argument("--to", metavar="NEW", help="write the sound part to a new file")
    clear = verbs.add_parser("clear", help="delete it")
    clear.add_argument("--yes", action="store_true", help="do not ask")
    for each in (info, check, clear):
        each.add_argument("file", metavar="FILE")


def run(options: argparse.Namespace) -> int:
    """Do what was asked for on the command line; return the exit code."""
    try:
        path = _found(options.file)
        if options.verb == "info":
            return _info(path)
        if options.verb == "check":
            return _check(path, options.to)
        return _clear(path, is_sure=options.yes)
    except StoreError as error:
        print(error)
        return UNUSABLE
    except sqlite3.Error as error:
        print(StoreError(options.file, f"it cannot be read ({error})"))
        return UNUSABLE


def _found(given: str) -> Path:
    path = Path(given).expanduser().absolute()
    if not path.is_file():
        raise StoreError(str(path), "there is no such file")
    return path


def _opened(path: Path) -> sqlite3.Connection:
    """Open a file that may be damaged, for reading alone."""
    if (size := path.stat().st_size) < file.SMALLEST:
        raise StoreError(str(path), f"it has {size} bytes: nothing is left, or it is no store")
    is_quiet = not file.log_size(path) and holder(file.beside(path, "-lock")) == 0
    connection = file.connect(path, quiet=is_quiet)
    try:
        connection.execute("PRAGMA writable_schema=ON")  # opens a file that was cut, too
        file.check_format(path, connection)
    except sqlite3.Error as error:
        connection.close()
        reason = f"nothing of it can be read ({error}); it is damaged from the start, or no store"
        raise StoreError(str(path), reason) from None
    except StoreError:
        connection.close()
        raise
    return connection


# -- info --------------------------------------------------------------------------------------


def _info(path: Path) -> int:
    with closing(_opened(path)) as connection:
        states = dict(connection.execute("SELECT state, count(*) FROM tasks GROUP BY state"))
        results, size = connection.execute(
            "SELECT count(*), coalesce(sum(size), 0) FROM results"
        ).fetchone()
        steps, last = connection.execute("SELECT count(*), max(at) FROM journal").fetchone()
        print(f"store    {_shown(path)}, format {file.FORMAT}")
        print(f"tasks    {_by_state(Counter(states))}")
        print(f"results  {results:,}, {size:,} bytes")
        print(f"journal  {steps:,} steps, the last {_time(last)}")
        print(f"file     {path.stat().st_size + file.log_size(path):,} bytes")
        print(f"open     {_who(path)}")
    return SOUND


def _shown(path: Path) -> str:
    return str(path) if str(path).isprintable() else repr(str(path))


def _by_state(states: Counter[str]) -> str:
    known = {state: states[state] for state in FSM_TRANSITIONS if states[state]}
    shown = ", ".join(f"{count:,} {state}" for state, count in known.items())
    return f"{states.total():,}" + (f" ({shown})" if shown else "")


def _time(when: float | None) -> str:
    if when is None:
        return "never"
    try:
        return f"on {datetime.fromtimestamp(when).astimezone():%Y-%m-%d at %H:%M:%S}"
    except (ValueError, OverflowError, OSError):
        return "at no known time"


def _who(path: Path) -> str:
    try:
        pid = holder(file.beside(path, "-lock"))
    except StoreError as error:
        return f"unknown ({error.reason})"
    if pid == 0:
        return "nowhere"
    return "in another process" if pid is None else f"in process {pid}"


# -- check -------------------------------------------------------------------------------------


class _Found(NamedTuple):
    """A task as it could be read."""

    row: tuple[Any, ...]
    steps: list[tuple[Any, ...]]
    attempts: list[tuple[Any, ...]]
    result: tuple[Any, ...] | None
    damage: str | None


def _check(path: Path, to: str | None) -> int:
    report = _Report()
    target = None if to is None else _Target(to)
    try:
        with closing(_opened(path)) as connection:
            report.look(connection, target)
        if target is not None:
            target.keep()
    finally:
        if target is not None:
            target.close()
    report.show(path)
    if target is not None:
        print(f"written  {_shown(target.path)}: {target.count:,} tasks, {target.results:,} results")
    if not report.damages:
        print("sound    all of it")
        return SOUND
    if not report.states:
        print("Nothing of it can be saved.")
        return UNUSABLE
    if target is None:
        print("What is sound can be copied to a new file: --to NEW")
    return DAMAGED


class _Report:
    """What a check found."""

    def __init__(self) -> None:
        self.states: Counter[str] = Counter()
        self.results = 0
        self.damages: list[str] = []

    def look(self, connection: sqlite3.Connection, target: _Target | None) -> None:
        """Go through a file, and hand what is sound to a new one."""
        self.damages += _integrity(connection)
        for found in _tasks(connection):
            self.states[found.row[3]] += 1
            self.results += found.result is not None
            if found.damage is not None:
                name = shorten(file.text_of(found.row[1]))
                self.damages.append(f"task {name}: {found.damage}")
            if target is not None:
                target.take(found, connection)

    def show(self, path: Path) -> None:
        """Print it."""
        print(f"store    {_shown(path)}, format {file.FORMAT}")
        print(f"tasks    {_by_state(self.states)}")
        print(f"results  {self.results:,} sound")
        for line in self.damages[:_SHOWN]:
            print(f"damage   {line}")
        if (more := len(self.damages) - _SHOWN) > 0:
            print(f"damage   and {more:,} more")


def _integrity(connection: sqlite3.Connection) -> list[str]:
    """Return what SQLite finds wrong with the file, a line each."""
    try:
        lines = [row[0] for row in connection.execute(f"PRAGMA integrity_check({_SHOWN})")]
    except sqlite3.Error as error:
        return [f"the file: {error}"]
    return [" ".join(f"the file: {line}".split())[:200] for line in lines if line != "ok"]


def _tasks(connection: sqlite3.Connection) -> Iterator[_Found]:
    """Yield each task that can be read, with all of it that can be."""
    for row in _rows(connection):
        number, state, result = row[0], row[3], row[9]
        steps, damage = _of(connection, "journal", number, "step")
        attempts, _ = _of(connection, "attempts", number, "number")
        found = None
        if damage is None and not _walks(steps, state):
            damage = "its history is torn"
        if result is not None:
            found = _result(connection, result)
            if found is None:
                damage = "its result is damaged" + (f", and {damage}" if damage else "")
        yield _Found(row, steps, attempts, found, damage)


def _rows(connection: sqlite3.Connection) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of tasks, from both ends and then one by one where the table is torn."""
    low, high = 0, None
    query = f"SELECT {_TASK} FROM tasks"  # noqa: S608 - no value in it
    try:
        for row in connection.execute(f"{query} ORDER BY id"):
            if _makes_sense(row):
                yield row
            low = row[0]
    except sqlite3.Error:
        pass
    else:
        return
    with suppress(sqlite3.Error):
        for row in connection.execute(f"{query} WHERE id > ? ORDER BY id DESC", (low,)):
            high = row[0]
            if _makes_sense(row):
                yield row
    vain = 0
    for number in range(low + 1, min(high or low + _PROBED, low + _PROBED)):
        row = None
        with suppress(sqlite3.Error):
            row = connection.execute(f"{query} WHERE id = ?", (number,)).fetchone()
        vain = 0 if row is not None else vain + 1
        if row is not None and _makes_sense(row):
            yield row
        if vain > _VAIN:
            return


def _makes_sense(row: tuple[Any, ...]) -> bool:
    _, name, ordinal, state, own, digest, parts, requires, supplied, result, lost = row
    return (
        isinstance(name, bytes)
        and isinstance(ordinal, int)
        and state in FSM_TRANSITIONS
        and all(each is None or isinstance(each, str) for each in (own, digest, parts, lost))
        and isinstance(requires, str | None)
        and supplied in (0, 1)
        and isinstance(result, int | None)
    )


def _of(
    connection: sqlite3.Connection, table: str, number: int, order: str
) -> tuple[list[tuple[Any, ...]], str | None]:
    """Return a task's rows of a table, and what is wrong with them."""
    found: list[tuple[Any, ...]] = []
    query = f"SELECT * FROM {table} WHERE task = ? ORDER BY {order}"  # noqa: S608 - as above
    try:
        found.extend(connection.execute(query, (number,)))
    except sqlite3.Error:
        return found, f"its {table} cannot be read to the end"
    return found, None


def _walks(steps: list[tuple[Any, ...]], last: str) -> bool:
    """Say whether steps are one walk through the table, which ends in a state."""
    state = "PREPARE" if steps and steps[0][2] == "prepared" else "PENDING"
    for place, (_, step, event, new, at, *_rest) in enumerate(steps):
        if step != place or FSM_TRANSITIONS[state].get(event) != new or not isinstance(at, float):
            return False
        state = new
    return state == last


def _result(connection: sqlite3.Connection, number: int) -> tuple[Any, ...] | None:
    """Return the row of a result whose bytes are what was written; it is not unpickled."""
    try:
        row = connection.execute(
            "SELECT id, task, size, lengths, checksum, data FROM results WHERE id = ?", (number,)
        ).fetchone()
        if row is None or not isinstance(row[4], bytes):
            return None
        with closing(pieces_of(connection, number)) as pieces:
            if not is_sound(row[5], row[4], pieces):
                return None
        return row if all(isinstance(each, int) for each in json.loads(row[3])) else None
    except (sqlite3.Error, ValueError, TypeError):
        return None


class _Target:
    """The new file that takes what is sound."""

    def __init__(self, given: str) -> None:
        self.path = file.placed(given)
        self.count = self.results = 0
        self._is_kept = False
        if self.path.exists():
            raise StoreError(str(self.path), "it is there already; choose another name for --to")
        file.make(self.path)
        self._connection = file.connect(self.path, writing=True)
        self._connection.execute("BEGIN")

    def take(self, found: _Found, source: sqlite3.Connection) -> None:
        """Copy a task; what is lost of it is said in its row, so that it runs again."""
        number, name, ordinal, state, *prints, supplied, result, lost = found.row
        steps = found.steps
        if not _walks(steps, state):
            if found.result is None:
                return  # neither what became of it nor what it made is left
            when = max((step[4] for step in steps if isinstance(step[4], float)), default=0.0)
            extra = json.dumps({"because": "its history was damaged"})
            steps = [
                (number, 0, "dispatch", "RUNNING", when, 1, extra, None),
                (number, 1, "done", "DONE", when, 1, extra, None),
            ]
            state = "DONE"
        if result is not None and found.result is None:
            result, lost = None, "it was damaged in the file"
        facts = (supplied, result, lost)
        insert = self._connection.execute
        marks = ", ".join("?" * 11)
        insert(
            f"INSERT OR IGNORE INTO tasks({_TASK}) VALUES({marks})",
            (number, name, ordinal, state, *prints, *facts),
        )
        many = self._connection.executemany
        many("INSERT OR IGNORE INTO journal VALUES(?, ?, ?, ?, ?, ?, ?, ?)", steps)
        many("INSERT OR IGNORE INTO attempts VALUES(?, ?, ?, ?, ?)", found.attempts)
        self.count += 1
        if found.result is not None:
            insert("INSERT OR IGNORE INTO results VALUES(?, ?, ?, ?, ?, ?)", found.result)
            query = "SELECT result, part, number, bytes FROM pieces WHERE result = ?"
            pieces = source.execute(query, (found.result[0],))
            many("INSERT INTO pieces(result, part, number, bytes) VALUES(?, ?, ?, ?)", pieces)
            self.results += 1

    def keep(self) -> None:
        """End well."""
        self._connection.execute("COMMIT")
        self._is_kept = True

    def close(self) -> None:
        """End; a file that is not whole does not stay."""
        self._connection.close()
        if not self._is_kept:
            self.path.unlink()


# -- clear -------------------------------------------------------------------------------------


def _clear(path: Path, *, is_sure: bool) -> int:
    _opened(path).close()  # nothing but a store is deleted
    path = file.placed(path)
    try:
        lock = FileLock(file.beside(path, "-lock"))
    except HeldError as held:
        who = "another process" if held.pid is None else f"process {held.pid}"
        print(StoreError(str(path), f"it is open in {who}; end that first"))
        return UNUSABLE
    try:
        if not is_sure and not _is_agreed(path):
            print("Nothing was deleted.")
            return DAMAGED
        for suffix in ("-wal", "-shm", ""):
            file.beside(path, suffix).unlink(missing_ok=True)
    finally:
        lock.release()
    print(f"{_shown(path)} is deleted.")
    return SOUND


def _is_agreed(path: Path) -> bool:
    try:
        answer = input(f"Delete {_shown(path)} and every result in it? [y/N] ")
    except EOFError:
        return False
    return answer.strip().lower() in ("y", "yes")
