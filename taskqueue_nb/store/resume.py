"""A new kernel takes back what an earlier one did, where the call is still the same."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from taskqueue_nb.fingerprint import UNKNOWN, Fingerprint, is_unknown, listed
from taskqueue_nb.fsm import shorten
from taskqueue_nb.graph import closure
from taskqueue_nb.store.entries import Entry, read_extra
from taskqueue_nb.store.errors import EarlierError
from taskqueue_nb.store.file import bytes_of, text_of
from taskqueue_nb.task import (
    ACTIVE,
    FSM_TRANSITIONS,
    GRAPH_LOCK,
    INTERRUPTED,
    SETTLED,
    Attempt,
    LazyValue,
    Task,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from taskqueue_nb.store.reader import Reader, Row

_FALLEN: Final = SETTLED - {"DONE"}
_GIVEN_UP: Final = ("CANCELLED", "ABORT")
_FRESH: Final = ("PENDING", "PREPARE")
_BACK: Final[Mapping[str, str]] = {"DONE": "invalidate", "FAILED": "retry", "CANCELLED": "retry"}


class Earlier:
    """What the file knows of a task, and whether that still holds.

    Attributes
    ----------
    reason : str or None
        Why not, in a sentence.
    """

    __slots__ = ("attempts", "reason", "row", "steps", "was")

    def __init__(self, row: Row) -> None:
        self.row = row
        self.reason: str | None = None
        self.was: Fingerprint | None = None  # that of the call, if it was another one
        self.steps: list[Any] = []
        self.attempts: list[Any] = []


def in_order(tasks: Iterable[Task]) -> list[Task]:
    """Return tasks and all that they require, those first."""
    with GRAPH_LOCK:
        needed = closure(tasks, lambda task: task._required)
        return sorted(needed, key=lambda task: (task._level, task._rank))


def earlier_of(tasks: list[Task], known: dict[Task, Entry], reader: Reader) -> dict[Task, Earlier]:
    """Take the fingerprints of new tasks and of what they require, and compare.

    Returns
    -------
    dict
        The tasks that the file knows, with what it knows of them.
    """
    keys = {task: (bytes_of(known[task].name), known[task].ordinal) for task in tasks}
    rows = reader.rows(keys.values())
    found: dict[Task, Earlier] = {}
    for task in in_order(tasks):
        entry = known.get(task)
        if entry is None:
            entry = known[task] = Entry(task.name, -1, is_member=False)
        elif task not in keys:
            continue  # known since it was added
        entry.look_at(task, task, known)
        row = rows.get(keys[task]) if task in keys else None
        if row is None:
            continue
        entry.row, entry.result, entry.lost = row.row, row.result, row.lost
        entry.stored = (row.own, row.digest)
        entry.supplied = bool(row.supplied)
        if row.supplied and row.own is not None and row.own == entry.own_digest:
            entry.use(row.digest)
        found[task] = earlier = Earlier(row)
        if row.state != "PENDING":
            earlier.reason = _reason(task, entry, earlier, known, reader)
    numbers = [earlier.row.row for earlier in found.values()]
    steps = reader.of_each("journal", "step, event, state, at, extra, said", "step", numbers)
    attempts = reader.of_each("attempts", "number, said, trace, output", "number", numbers)
    for earlier in found.values():
        earlier.steps = steps.get(earlier.row.row, [])
        earlier.attempts = attempts.get(earlier.row.row, [])
    return found


def _reason(
    task: Task, entry: Entry, earlier: Earlier, known: Mapping[Task, Entry], reader: Reader
) -> str | None:
    """Say why the stored state does not hold any more; None if it does."""
    row = earlier.row
    if row.state in _GIVEN_UP and row.own is not None and row.own == entry.own_digest:
        return None  # nobody wants it to run, whatever became of what it requires
    if row.digest is None or row.digest != entry.digest:
        return _difference(task, entry, earlier, known, reader)
    if row.state == "DONE" and row.result is None:
        return f"its result was not stored: {row.lost or 'nobody knows why'}"
    return None


def _difference(
    task: Task, entry: Entry, earlier: Earlier, known: Mapping[Task, Entry], reader: Reader
) -> str:
    row = earlier.row
    parts, requires = reader.prints(row.row)
    try:
        was = earlier.was = Fingerprint.from_json(parts)
        before = {name: digest for name, digest in json.loads(requires)}  # noqa: C416 - pairs, checked
    except (ValueError, TypeError, KeyError):
        return "unknown: what is stored of its call cannot be read"
    own = was.reason(entry.own)
    if own and not is_unknown(own):
        return own
    now = {t.name[:2000]: known[t].digest if t in known else None for t in task._required}
    upstream, unseen = ([], []) if row.supplied else _upstream(before, now)
    if upstream:
        return f"upstream changed: {listed(upstream)}"
    return own or f"{UNKNOWN}{listed(unseen) or 'what it is cannot be compared'}"


def _upstream(
    before: Mapping[str, str | None], now: Mapping[str, str | None]
) -> tuple[list[str], list[str]]:
    """Say which prerequisites are others, and which cannot be compared."""
    changed: list[str] = []
    unseen: list[str] = []
    for name, digest in now.items():
        if name not in before:
            changed.append(f"{shorten(name)} is new")
        elif digest is None or before[name] is None:
            unseen.append(f"prerequisite {shorten(name)} cannot be compared")
        elif before[name] != digest:
            changed.append(shorten(name))
    changed += [f"{shorten(name)} is gone" for name in before if name not in now]
    return changed, unseen


# -- the lock of the graph is held ---------------------------------------------------------------


class Kernel(NamedTuple):
    """Who takes back: its tasks by name and number, and what it knows of the one before.

    Attributes
    ----------
    last_sign : float
        When the file was last written, in seconds since the epoch.
    is_writer : bool
        Whether nobody else runs what the file tells of.
    """

    tasks: Mapping[tuple[str, int], Task]
    reader: Reader
    last_sign: float
    is_writer: bool


def take_back(task: Task, entry: Entry, earlier: Earlier, kernel: Kernel) -> bool:
    """Give a fresh task its earlier life; say whether its state is another one now."""
    row = earlier.row
    if task._log or task.fsm_state not in _FRESH or task.fsm_state != task._first_state:
        entry.is_new_life = True  # it has lived on meanwhile, and what it did counts
        return False
    log, errors = _log_of(task, earlier, kernel.tasks)
    state = log[-3] if log else task.fsm_state
    if log is None or state != row.state:
        earlier.reason = "its stored history makes no sense"
        entry.is_new_life = True
        return False
    if (state in ACTIVE and not kernel.is_writer) or (
        state == "ABORT" and earlier.reason is not None
    ):
        entry.is_new_life = True  # it runs elsewhere just now; or was given up, and is another now
        return False
    entry.written = len(log)
    _live_again(task, entry, log, earlier)
    if state in ACTIVE:
        when = max(kernel.last_sign, task._log[-2])
        task._log += ["cancel", "CANCELLED", when, {"because": INTERRUPTED}]
        state = "CANCELLED"
    if earlier.reason is not None:
        extra = {"because": earlier.reason}
        task._log += [_BACK[state], "PENDING", task._log[-2], extra]
        state = "PENDING"
    elif state == "FAILED":
        said = errors.get(len(log)) or "it failed in an earlier kernel"
        attempt = task._attempt
        trace = "" if attempt is None or attempt.outcome != "FAILED" else attempt._error_text
        task._error = EarlierError(said, task, trace or "")
        if task._attempt is not None and task._attempt.outcome == "FAILED":
            task._attempt._error = task._error
    elif state == "DONE" and row.result is not None:
        key = (kernel.reader.path, row.result)
        task._value = LazyValue(partial(kernel.reader.load, row.result), key)
    return _become(task, state)


def _log_of(
    task: Task, earlier: Earlier, tasks: Mapping[tuple[str, int], Task]
) -> tuple[Any, dict[int, str]]:
    """Return a task's log, if it is one walk through the table, and the words of its errors."""
    log: list[Any] = []
    errors: dict[int, str] = {}
    state = task._first_state
    for place, (_, step, event, new, at, extra, said) in enumerate(earlier.steps):
        if step != place or type(at) is not float or FSM_TRANSITIONS[state].get(event) != new:
            return None, {}
        try:
            log += event, new, at, None if extra is None else read_extra(extra, tasks)
        except ValueError:
            return None, {}
        if said is not None:
            errors[len(log)] = text_of(said)
        state = new
    return log, errors


def _live_again(task: Task, entry: Entry, log: list[Any], earlier: Earlier) -> None:
    """Give a task its log, and the attempts that are in it."""
    task._log = []
    texts = {number: rest for _, number, *rest in earlier.attempts}
    for place in range(0, len(log), 4):
        if log[place] == "dispatch":
            attempt = Attempt(task, task._attempt)  # it begins where the log ends for now
            if attempt.number in texts:
                said, trace, output = texts[attempt.number]
                attempt._error = None if said is None else text_of(said)
                attempt._error_text = None if trace is None else text_of(trace)
                if output is not None:
                    attempt.write(text_of(output))
            task._attempt = attempt
            entry.attempts += 1
        task._log += log[place : place + 4]
    if task._attempt is not None:
        task._attempt._call = earlier.was or entry.own


def _become(task: Task, state: str) -> bool:
    """Put a task into a state that it had before, and tell who counts on it."""
    old, task.fsm_state = task.fsm_state, state
    if state == old:
        return False
    if state == "DONE":
        for dependent in task._blocking:
            dependent._missing -= 1
            if not dependent._missing and dependent.fsm_state == "PENDING":
                for queue in dependent._told_queues():
                    queue._is_ready(dependent)
    for queue in task._told_queues():
        if state in _FALLEN:
            queue._has_fallen(task)
        queue._has_moved(task, old, state)
    return True
