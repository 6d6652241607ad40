"""Messages from the page: untrusted until `read` has looked at every part of them."""

from __future__ import annotations

import reprlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from taskqueue_nb.faults import LONGEST as LONGEST_DELAY
from taskqueue_nb.widget.literals import LONGEST
from taskqueue_nb.widget.modules import PARTS
from taskqueue_nb.widget.table import COLUMNS

if TYPE_CHECKING:
    from collections.abc import Mapping

QUEUE_VERBS: Final = frozenset(
    {"run", "hold", "resume", "step", "stop", "retry_failed", "refresh", "undo"}
)
# Of what is seen alone: they need no answer.
VIEW_VERBS: Final = frozenset(
    {"look", "part", "record", "table", "find", "unfold", "fold", "around"}
)
TASK_VERBS: Final = frozenset(
    {"retry", "retry_cause", "repair", "cancel", "supply", "rerun", "cell"}
)
GRAPH_VERBS: Final = VIEW_VERBS | QUEUE_VERBS | TASK_VERBS
#: Those of the view of one machine, which has no other task.
MACHINE_VERBS: Final = frozenset({"fire", "step", "inject"})
# What each verb may bring besides its name, its task and the id of the click.
_BRINGS: Final[Mapping[str, frozenset[str]]] = {
    "look": frozenset({"at"}),
    "part": frozenset({"at"}),
    "record": frozenset({"from", "view", "names"}),
    "table": frozenset({"at", "from", "down", "value", "states"}),
    "find": frozenset({"value"}),
    "unfold": frozenset({"at"}),
    "fold": frozenset({"at"}),
    "around": frozenset({"at"}),
    "retry_failed": frozenset({"plan"}),
    "refresh": frozenset({"plan"}),
    "retry": frozenset({"run", "plan"}),
    "retry_cause": frozenset({"run", "plan"}),
    "repair": frozenset({"run", "edits", "source"}),  # of all verbs, the only one with code
    "supply": frozenset({"run", "value"}),
    "cancel": frozenset({"run", "plan"}),
    "rerun": frozenset({"run", "plan"}),
    "fire": frozenset({"event", "value"}),
    "inject": frozenset({"fail", "slow"}),
}
_LONGEST_ID: Final = 80
_LONGEST_KEY: Final = 200
_LONGEST_PLAN: Final = 20
_LONGEST_EVENT: Final = 100
_MOST_EDITS: Final = 60
_MOST_ROWS: Final = 1 << 32
_MOST_NAMES: Final = 500
LONGEST_SOURCE: Final = 100_000  # characters

_SHORT: Final = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 40
_SHORT.maxlong = 20


class RefusedError(ValueError):
    """A message is not understood; its words say why, for whoever clicked."""


@dataclass(frozen=True, slots=True)
class Command:
    """A message in which everything has the right shape."""

    click: str
    verb: str
    task: int = -1
    run: bool = False
    at: str = ""
    value: str = ""
    edits: Mapping[str, str] = field(default_factory=dict)
    plan: str = ""
    source: str | None = None
    event: str = ""
    fail: bool = False
    slow: float = 0.0
    start: int = 0
    view: str = ""
    names: tuple[int, ...] = ()
    down: bool = False
    states: str = ""


def click_of(content: object) -> str:
    """Return the id of the click that sent a message; "" if there is none that could be one."""
    click = content.get("id") if type(content) is dict else None
    if type(click) is str and 0 < len(click) <= _LONGEST_ID and click.isprintable():
        return click
    return ""


def read(content: object, tasks: int, verbs: frozenset[str] = GRAPH_VERBS) -> Command:
    """Return the command in a message.

    Parameters
    ----------
    content : object
        Whatever the page sent.
    tasks : int
        How many tasks there are: the known ones are 0, 1, … tasks - 1.
    verbs : frozenset of str
        What the view can do.

    Raises
    ------
    RefusedError
        In a sentence, if anything about it is not as it should be.

    Examples
    --------
    >>> command = read({"id": "a-1", "verb": "retry", "task": 3, "run": True}, tasks=4)
    >>> command.verb, command.task, command.run
    ('retry', 3, True)
    >>> read({"id": "a-1", "verb": "delete", "task": 3}, tasks=4)
    Traceback (most recent call last):
    ...
    taskqueue_nb.widget.messages.RefusedError: The view cannot 'delete'.
    """
    if type(content) is not dict:
        raise RefusedError("The page sent something that is no command.")
    verb = content.get("verb")
    if type(verb) is not str or verb not in verbs:
        raise RefusedError(
            f"The view cannot {_SHORT.repr(verb) if _is_plain(verb) else 'do that'}."
        )
    of_task = verb in TASK_VERBS
    known = {"id", "verb"} | ({"task"} if of_task else set()) | _BRINGS.get(verb, frozenset())
    if len(content) > len(known) or not all(type(key) is str and key in known for key in content):
        raise RefusedError(f"{verb!r} came with something that does not belong to it.")
    click = click_of(content)
    if not click and verb not in VIEW_VERBS:
        raise RefusedError(f"{verb!r} came without the id of a click.")
    if verb == "part" and content.get("at") not in PARTS:
        raise RefusedError("There is no such part of the view.")
    if verb == "table" and content.get("at") not in ("", *COLUMNS):  # compared, not hashed
        raise RefusedError("The table has no such column.")
    return Command(
        click=click,
        verb=verb,
        task=_task(content.get("task"), tasks) if of_task else -1,
        run=_flag(content.get("run", False)),
        at=_text(content.get("at", ""), _LONGEST_KEY),
        value=_text(content.get("value", ""), LONGEST),
        edits=_edits(content.get("edits", {})),
        plan=_text(content.get("plan", ""), _LONGEST_PLAN),
        source=_text(content["source"], LONGEST_SOURCE) if "source" in content else None,
        event=_text(content.get("event", ""), _LONGEST_EVENT),
        fail=_flag(content.get("fail", False)),
        slow=_seconds(content.get("slow", 0.0)),
        start=_row(content.get("from", 0)),
        view=_text(content.get("view", ""), _LONGEST_ID),
        names=_numbers(content.get("names", []), tasks),
        down=_flag(content.get("down", False)),
        states=_text(content.get("states", ""), _LONGEST_PLAN),
    )


def _is_plain(value: object) -> bool:
    return type(value) in (str, int, float, bool, type(None))


def _task(number: Any, tasks: int) -> int:
    if type(number) is not int or not 0 <= number < tasks:
        shown = _SHORT.repr(number) if _is_plain(number) else "that"
        raise RefusedError(f"There is no task {shown} in this queue.")
    return number


def _flag(flag: Any) -> bool:
    if type(flag) is not bool:
        raise RefusedError("Yes or no was expected.")
    return flag


def _seconds(number: Any) -> float:
    if type(number) not in (int, float) or not 0 <= number <= LONGEST_DELAY:
        raise RefusedError(f"A time is a number of seconds, from 0 to {LONGEST_DELAY:g}.")
    return float(number)


def _text(text: Any, longest: int) -> str:
    if type(text) is not str:
        raise RefusedError("A text was expected.")
    if len(text) > longest:
        raise RefusedError(f"{len(text):,} characters are too many; {longest:,} are allowed.")
    return text


def _row(number: Any) -> int:
    if type(number) is not int or not -1 <= number < _MOST_ROWS:
        raise RefusedError("The record has no such row.")
    return number


def _numbers(numbers: Any, tasks: int) -> tuple[int, ...]:
    if type(numbers) is not list or len(numbers) > _MOST_NAMES:
        raise RefusedError(f"At most {_MOST_NAMES} names are given at once.")
    return tuple(_task(number, tasks) for number in numbers)


def _edits(edits: Any) -> Mapping[str, str]:
    if type(edits) is not dict or len(edits) > _MOST_EDITS:
        raise RefusedError("The edited arguments are not a form of this view.")
    return {_text(key, _LONGEST_KEY): _text(text, LONGEST) for key, text in edits.items()}
