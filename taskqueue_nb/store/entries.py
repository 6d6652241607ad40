"""What a store knows of each task, beside the task itself."""

from __future__ import annotations

import json
import operator
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

from taskqueue_nb.fingerprint import Fingerprint, fingerprint_of, version_of
from taskqueue_nb.fingerprint.values import ATOMS
from taskqueue_nb.fsm import shorten
from taskqueue_nb.task import Task

if TYPE_CHECKING:
    from collections.abc import Mapping

_UNSEEN: Final = Fingerprint({}, {"its function": None})
_WORDS: Final = 2000  # characters of a text that is kept with a step


class Entry:
    """One task's place in the file.

    Attributes
    ----------
    name, ordinal : str, int
        What it is found again by: its name, and which of those of this name.
    row : int
        The number of its row; 0 for none yet.
    written : int
        How far its log is in the file, in items of the log.
    attempts : int
        How many attempts began in that part.
    own : Fingerprint
        Of its call.
    digest : str or None
        Of its call and all that it requires, or of the value that was given by hand.
    stored : tuple
        The digests that its row has.
    result : int or None
        The number of its stored result.
    """

    __slots__ = (
        "_call",
        "_others",
        "_own_digest",
        "attempts",
        "digest",
        "is_member",
        "is_new_life",
        "lost",
        "name",
        "ordinal",
        "own",
        "result",
        "row",
        "stored",
        "supplied",
        "written",
    )

    def __init__(self, name: str, ordinal: int, *, is_member: bool = True) -> None:
        self.name, self.ordinal, self.is_member = name, ordinal, is_member
        self.row = self.written = self.attempts = 0
        self.own: Fingerprint = _UNSEEN
        self.digest: str | None = None
        self.stored: tuple[str | None, str | None] | None = None
        self.result: int | None = None
        self.lost: str | None = None
        self.supplied = False
        self.is_new_life = False  # whether what the file tells of it is void
        self._own_digest: str | None = None
        self._call: tuple[Any, ...] = (self, None, None, None, None)
        self._others: list[str | None] | None = None

    @property
    def own_digest(self) -> str | None:
        """The digest of its call."""
        if self._own_digest is None:
            self._own_digest = _whole(self.own)
        return self._own_digest

    def look_at(self, call: Any, task: Task, known: Mapping[Task, Entry]) -> None:
        """Take the digests of a call: an attempt's, or the task's own to come."""
        if call is task:
            func, args, kwargs = task.func, task._args, task._kwargs
            version = None if func is None else version_of(func)
        else:
            func, args, kwargs, version = call.func, call.args, call.kwargs, call.version
        may_change = not all(map(_stays, (*args, *(kwargs or {}).values())))
        now = (func, args, kwargs, version, call if may_change else None)
        if not all(map(operator.is_, now, self._call)):
            self._call = now
            self._own_digest = None
            self.own = _fingerprint(func, args, kwargs or {}, version)
            self._others = None
        if call is not task:
            call._call = self.own
        others = [_digest(other, known) for other in tuple(task._required)]
        if others != self._others:
            self._others = others
            self.digest = _together(self.own_digest, others)

    def give(self, checksum: bytes | None) -> None:
        """Take the digest of a value that was given by hand."""
        own = self.own_digest
        self.use(None if own is None or checksum is None else f"{own}+{checksum.hex()}")

    def use(self, digest: str | None) -> None:
        """Count as something that what it requires has no part in, until it runs."""
        self._others = None
        self.digest = digest

    def requires(self, task: Task, known: Mapping[Task, Entry]) -> str:
        """Return what the task requires, with its digests, as JSON."""
        if not task._required:
            return "[]"
        return json.dumps([[t.name[:_WORDS], _digest(t, known)] for t in tuple(task._required)])


def _stays(argument: Any) -> bool:
    """Whether an argument cannot be changed in place; a task counts by its name."""
    return type(argument) in ATOMS or isinstance(argument, Task)


def _whole(own: Fingerprint) -> str | None:
    """Digest a fingerprint: what `Fingerprint.digest` is for, in a third of its time."""
    if not own.known:
        return None
    first = next(iter(own.code), "")  # the function's own name; the rest has no order
    parts = (("", first), *sorted(own.code.items()), ("", ""), *sorted(own.arguments.items()))
    text = "\n".join([f"{len(label)}:{label}{digest}" for label, digest in parts])
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _together(own: str | None, others: list[str | None]) -> str | None:
    """Digest a call with all that it requires, in whatever order; None if any is not known."""
    known = sorted(each for each in others if each is not None)
    if own is None or len(known) < len(others):
        return None
    return sha256("\n".join([own, *known]).encode()).hexdigest()


def _digest(task: Task, known: Mapping[Task, Entry]) -> str | None:
    entry = known.get(task)
    return None if entry is None else entry.digest


def _fingerprint(func: Any, args: Any, kwargs: Any, version: Any) -> Fingerprint:
    if func is None:
        return _UNSEEN
    try:
        return fingerprint_of(func, args, kwargs, version)
    except Exception:  # noqa: BLE001 - looking at arguments runs foreign code
        return _UNSEEN


# -- what is said of a step, as JSON -----------------------------------------------------------


def written_extra(extra: Mapping[str, Any] | None, known: Mapping[Task, Entry]) -> str | None:
    """Return what was said of a step as JSON; a task in it by its name and number."""

    def plain(value: Any, depth: int = 0) -> Any:
        if value is None or type(value) in (bool, int, float):
            return value
        if type(value) is str:
            return value[:_WORDS]
        if isinstance(value, Task):
            entry = known.get(value)
            return {"task": None if entry is None else [entry.name, entry.ordinal]}
        if type(value) in (list, tuple, dict) and depth < 3:  # noqa: PLR2004 - deeper is no fact
            if type(value) is dict:
                return {"dict": [[str(k)[:_WORDS], plain(v, depth + 1)] for k, v in value.items()]}
            return [plain(each, depth + 1) for each in value]
        return shorten(value)

    if not extra:
        return None
    return json.dumps({key: plain(value) for key, value in extra.items()})


def read_extra(text: str | None, tasks: Mapping[tuple[str, int], Task]) -> dict[str, Any] | None:
    """Read such JSON; tasks that are there no more are left out.

    Raises
    ------
    ValueError
        If it is no such JSON.
    """

    def whole(value: Any) -> Any:
        if isinstance(value, list):
            found = [whole(each) for each in value]
            return [each for each in found if each is not _GONE]
        if isinstance(value, dict) and "dict" in value:
            return {key: each for key, part in value["dict"] if (each := whole(part)) is not _GONE}
        if isinstance(value, dict):
            name, ordinal = value.get("task") or ("", -1)
            return tasks.get((name, ordinal), _GONE)
        return value

    if text is None:
        return None
    if not isinstance(found := json.loads(text), dict):
        raise ValueError("no facts of a step")  # noqa: TRY004 - what was read is the matter
    read = {str(key): whole(value) for key, value in found.items()}
    return {key: value for key, value in read.items() if value is not _GONE}


_GONE: Final = object()
