"""What changed from one call to another."""

from __future__ import annotations

import difflib
import pickle
import re
from functools import partial
from types import FunctionType, MappingProxyType, MethodType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from taskqueue_nb.source.foreign import (
    SHOWN,
    attribute,
    guarded,
    is_task,
    one_line,
    printable,
    short,
)
from taskqueue_nb.source.functions import (
    essence,
    layers_of,
    parameters_of,
    positional_names,
    variables_of,
)
from taskqueue_nb.source.literals import ATOMS, literal
from taskqueue_nb.source.text import owner_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

NOT_GIVEN: Final = "not given"


class Call(NamedTuple):
    """A call to be compared with another.

    Attributes
    ----------
    label : str
        What it is called: "attempt 2".
    func, args, kwargs
        What was called.
    """

    label: str
    func: Any
    args: Sequence[Any] = ()
    kwargs: Mapping[str, Any] | None = None


class Comparison:
    """What differs between two calls; true if anything does.

    Attributes
    ----------
    labels : tuple of str
        What the calls are called.
    code : tuple of str
        The lines of a unified diff of the sources, or sentences where there are none; empty if
        the code is the same.
    arguments : mapping
        Parameter → its value before and after, as short texts; only of those that differ.
    """

    __slots__ = ("arguments", "code", "labels")

    def __init__(
        self,
        labels: tuple[str, str],
        code: Iterable[str],
        arguments: Mapping[str, tuple[str, str]],
    ) -> None:
        self.labels = labels
        self.code = tuple(code)
        self.arguments = MappingProxyType(dict(arguments))

    def __bool__(self) -> bool:
        return bool(self.code or self.arguments)

    def __str__(self) -> str:
        if not self:
            return f"{_both(*self.labels)} made the same call"
        lines = [f"from {self.labels[0]} to {self.labels[1]}"]
        if len(self.code) == 1:
            lines.append(f"code: {self.code[0]}")
        elif self.code:
            lines += ["code:", *(f"  {line}" for line in self.code)]
        changes = [f"{name} {old} -> {new}" for name, (old, new) in self.arguments.items()]
        if changes:
            lines.append(f"arguments: {changes[0]}")
            lines += [f"           {change}" for change in changes[1:]]
        return "\n".join(lines)

    def __repr__(self) -> str:
        return str(self)


def compare(before: Call, after: Call) -> Comparison:
    """Say what changed from one call to another.

    Parameters
    ----------
    before, after : Call
        A task among the arguments counts as itself, and is shown by its name.

    Returns
    -------
    Comparison
        Prints as text.

    Examples
    --------
    >>> compare(Call("attempt 2", pow, (2, 3)), Call("attempt 3", pow, (2, 5)))
    from attempt 2 to attempt 3
    arguments: exp 3 -> 5
    >>> compare(Call("attempt 2", pow, (2, 3)), Call("attempt 3", pow, (2, 3)))
    attempts 2 and 3 made the same call
    """
    labels = (one_line(before.label, SHOWN), one_line(after.label, SHOWN))
    old_func, old = _taken_apart(before)
    new_func, new = _taken_apart(after)
    arguments = {}
    for name in dict.fromkeys([*old, *new]):
        if not (name in old and name in new and _same(old[name], new[name])):
            pair = [short(side[name]) if name in side else NOT_GIVEN for side in (old, new)]
            if pair[0] == pair[1]:
                pair[1] += " (another one, or not comparable)"
            arguments[one_line(name, SHOWN)] = (pair[0], pair[1])
    return Comparison(labels, _code_changes(old_func, new_func, labels), arguments)


def _both(first: str, second: str) -> str:
    """Name two things together: "attempts 2 and 3"."""
    numbers = [re.fullmatch(r"attempt (\d+)", label) for label in (first, second)]
    if numbers[0] and numbers[1]:
        return f"attempts {numbers[0][1]} and {numbers[1][1]}"
    return f"{first} and {second}"


def _taken_apart(call: Call) -> tuple[Any, dict[str, Any]]:
    """Return the function inside a call's partials and methods, and all arguments by name."""
    func, args, kwargs = call.func, tuple(call.args), dict(call.kwargs or {})
    for layer in layers_of(func):
        func = layer
        if issubclass(type(layer), partial):
            args = (*attribute(layer, "args"), *args)
            kwargs = {**attribute(layer, "keywords"), **kwargs}
        elif type(layer) is MethodType:
            args = (layer.__self__, *args)
        else:
            break
    parameters = parameters_of(func)
    names = positional_names(func)[: len(args)]
    rest = next((one.name for one in parameters if one.kind is one.VAR_POSITIONAL), None)
    given = dict(zip(names, args, strict=False))
    for place, value in enumerate(args[len(names) :]):
        given[f"argument {len(names) + place + 1}" if rest is None else f"{rest}[{place}]"] = value
    return func, {**given, **kwargs}


def _code_changes(old: Any, new: Any, labels: tuple[str, str]) -> Iterator[str]:
    """Say how the code of two functions differs."""
    if old is new:
        return
    (old_owner, old_text), (new_owner, new_text) = owner_of(old), owner_of(new)
    if old_text is not None and new_text is not None:
        sides = old_text.split("\n"), new_text.split("\n")
        for line in difflib.unified_diff(*sides, *labels, lineterm=""):
            yield printable(line)
    elif old_owner is None or new_owner is None or not _same_code(old_owner, new_owner):
        silent = [_called(f) for f, text in ((old, old_text), (new, new_text)) if text is None]
        both = f"{_called(old)} -> {_called(new)}"
        yield f"{both}; there is no text of {' and of '.join(dict.fromkeys(silent))}"
    if old_owner is None or new_owner is None:
        return
    pairs = [("it closes over", variables_of(old_owner), variables_of(new_owner))]
    if old_text == new_text:
        pairs.append(("its default of", _defaults(old_owner), _defaults(new_owner)))
    for what, first, then in pairs:
        for name in first:
            if name in then and not _same(first[name], then[name]):
                yield f"{what} {name}: {short(first[name])} -> {short(then[name])}"


def _defaults(owner: FunctionType) -> dict[str, Any]:
    parameters = parameters_of(owner)
    return {one.name: one.default for one in parameters if one.default is not one.empty}


def _same_code(old: FunctionType, new: FunctionType) -> bool:
    """Compare what Python compiled, without where it stood."""
    return essence(old.__code__) == essence(new.__code__)


def _called(func: Any) -> str:
    name = attribute(func, "__qualname__") or type(func).__name__
    return one_line(name, 60) if isinstance(name, str) else "a function"


def _same(old: Any, new: Any) -> bool:
    """Say whether two arguments are the same, as far as they let themselves be looked at."""
    if old is new or type(old) is not type(new) or is_task(old):
        return old is new
    texts = literal(old), literal(new)
    if None not in texts and texts[0] == texts[1]:
        return True
    if type(old) in ATOMS:
        return repr(old) == repr(new)  # 0.0 and -0.0 differ, nan and nan do not
    if type(old) in (set, frozenset):  # their order is another one in each process
        return guarded(lambda: sorted(map(repr, old)) == sorted(map(repr, new))) is True
    alike = guarded(lambda: pickle.dumps(old) == pickle.dumps(new))
    return alike is True or (None in texts and guarded(lambda: old == new) is True)
