"""What a call was, told apart from what it is now.

A `Fingerprint` is the same in every process for the same code with the same arguments, and says in
words what differs from another one. A `Version` holds what a function referred to when it was
called, for as long as somebody may ask whether it has changed since.

Code counts as Python compiles it, so comments, docstrings, layout and where the text stands do not.
Nothing depends on addresses, on hash randomisation or on the order of a set. What counts is written
down in docs/decisions/0006-what-a-fingerprint-sees.md.
"""

from __future__ import annotations

from types import FunctionType, MappingProxyType, MethodType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from taskqueue_nb.fingerprint.values import UnseenError, digest_of
from taskqueue_nb.fingerprint.version import Version, hidden_from, parts_of, version_of
from taskqueue_nb.fsm import shorten

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

__all__ = [
    "Fingerprint",
    "UnseenError",
    "Version",
    "digest",
    "fingerprint",
    "fingerprint_of",
    "is_unknown",
    "listed",
    "version_of",
    "whole",
]

_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})
_FOUND_LATE: Final = "code that is found at run time"
_SHOWN: Final = 80  # characters of a label that a sentence repeats
_NAMED: Final = 3  # differences that a reason names
UNKNOWN: Final = "unknown: "  # how a reason begins that is none for sure


def is_unknown(reason: str) -> bool:
    """Say whether a reason only says that something cannot be compared."""
    return reason.startswith(UNKNOWN)


def listed(sentences: Sequence[str]) -> str:
    """Return the first few of some sentences as one."""
    more = len(sentences) - _NAMED
    return ", ".join(sentences[:_NAMED]) + (f" and {more} more" if more > 0 else "")


class Fingerprint(NamedTuple):
    """What a call was.

    Attributes
    ----------
    code : mapping of str to str
        The digest of each part of the code, by what it is called: the function's own first, such
        as ``clean()``, then what it refers to, such as ``helper()``, ``class Point``, ``limit``.
    arguments : mapping of str to str or None
        The digest of each argument by its parameter's name; None if it cannot be seen. What the
        code calls to reach what cannot be seen stands here, too, such as ``eval()``.
    unseen : mapping of str to str
        What those are that cannot be seen, such as "a generator".

    Examples
    --------
    >>> def area(width, height=1): return width * height
    >>> was = fingerprint_of(area, (2,), {})
    >>> was == fingerprint_of(area, (), {"width": 2})
    True
    >>> was.differences(fingerprint_of(area, (3,), {"height": 5}))
    ("argument 'width' changed", "argument 'height' is new")
    """

    code: Mapping[str, str]
    arguments: Mapping[str, str | None]
    unseen: Mapping[str, str] = _NOTHING

    @property
    def known(self) -> bool:
        """Whether all of it can be seen, so that nothing changes unnoticed."""
        return None not in self.arguments.values()

    @property
    def digest(self) -> str | None:
        """A SHA-256 in hexadecimal digits of all of it; None if something cannot be seen."""
        if not self.known:
            return None
        own = next(iter(self.code), "")
        return _combined(own, *_sorted(self.code), "", *_sorted(self.arguments))

    def differences(self, now: Fingerprint) -> tuple[str, ...]:
        """Say in words what is different now, the most telling first.

        Parameters
        ----------
        now : Fingerprint
            That of the call as it would be made now.

        Returns
        -------
        tuple of str
            One sentence without a full stop each; empty if nothing is different.
        """
        return (*_code_words(self.code, now.code), *_argument_words(self, now))

    def reason(self, now: Fingerprint) -> str:
        """Say in one sentence why the call would not be the same now.

        Parameters
        ----------
        now : Fingerprint
            That of the call as it would be made now.

        Returns
        -------
        str
            "" if nothing is different. If that cannot be told, as something cannot be seen, it
            begins with "unknown: ".
        """
        if code := _code_words(self.code, now.code):
            return f"code changed: {listed(code)}"
        arguments = _argument_words(self, now)
        if self.known and now.known:
            return f"arguments changed: {listed(arguments)}" if arguments else ""
        return f"{UNKNOWN}{listed(arguments) or 'an argument cannot be compared'}"

    def as_json(self) -> str:
        """Return it as text, to be stored."""
        import json  # noqa: PLC0415 - only who stores needs it

        return json.dumps(
            {
                "code": dict(self.code),
                "arguments": dict(self.arguments),
                "unseen": dict(self.unseen),
            }
        )

    @classmethod
    def from_json(cls, text: str) -> Fingerprint:
        """Make it of what `as_json` returned.

        Raises
        ------
        ValueError
            If the text is anything else.
        """
        import json  # noqa: PLC0415 - only who stores needs it

        try:
            stored = json.loads(text)
            made = cls(stored["code"], stored["arguments"], stored["unseen"])
            digests = [*made.code.values(), *made.unseen.values()]
            digests += [each for each in made.arguments.values() if each is not None]
            right = all(isinstance(each, str) for each in digests)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            right = False
        if not right:
            raise ValueError("this is not a stored fingerprint; as_json() makes one")
        return made


def fingerprint_of(
    func: Callable[..., Any],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    version: Version | None = None,
) -> Fingerprint:
    """Take the fingerprint of a call.

    Parameters
    ----------
    func : callable
        What is called.
    args, kwargs
        Its arguments. A task among them stands for its result, and counts by its name.
    version : Version, optional
        What the function referred to when it was called; by default what it refers to now.

    Returns
    -------
    Fingerprint
        Whatever the arguments are: what cannot be seen is said in it.
    """
    seen = version_of(func) if version is None else version
    code = parts_of(func) if seen is None else seen.parts
    arguments: dict[str, str | None] = {}
    unseen: dict[str, str] = {}
    for label, value in _labelled(func, args, kwargs):
        try:
            arguments[label] = digest_of(value).hex()
        except UnseenError as error:
            arguments[label] = None
            unseen[label] = error.what
    for called in hidden_from(func, seen):
        arguments[called] = None
        unseen[called] = _FOUND_LATE
    return Fingerprint(code, arguments, unseen or _NOTHING)


def fingerprint(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str | None:
    """Take the fingerprint of a call, as one text.

    Parameters
    ----------
    func : callable
        What is called.
    args, kwargs
        The arguments. A task among them counts by its name.

    Returns
    -------
    str or None
        A SHA-256 in hexadecimal digits; None if an argument cannot be looked at, such as a
        generator: then nobody can say whether the call is the same.

    Examples
    --------
    >>> fingerprint(max, (1, 2), {}) == fingerprint(max, (1, 2), {})
    True
    >>> fingerprint(max, (1, 2), {}) == fingerprint(max, (1, 3), {})
    False
    """
    return fingerprint_of(func, args, kwargs).digest


def whole(own: Fingerprint, prerequisites: Iterable[str | None]) -> str | None:
    """Digest a call together with the calls whose results it uses.

    Parameters
    ----------
    own : Fingerprint
        That of the call.
    prerequisites : iterable of str or None
        What this function returned for each of them; their order does not matter.

    Returns
    -------
    str or None
        None if any of it is not known.
    """
    mine, others = own.digest, list(prerequisites)
    known = [each for each in others if each is not None]
    if mine is None or len(known) < len(others):
        return None
    return _combined(mine, *sorted(known))


def digest(value: Any) -> str:
    """Digest any value by its content.

    Equal plain data has equal digests in every process; the order of a set does not count, that of
    a dict does, and so do types: 1, 1.0 and True are different.

    Returns
    -------
    str
        A SHA-256 in hexadecimal digits.

    Raises
    ------
    UnseenError
        If it holds something that cannot be looked at (a generator, an object that does not let
        itself be taken apart), or more than a million objects.

    Examples
    --------
    >>> digest({"a": {1, 2}}) == digest({"a": {2, 1}})
    True
    >>> digest(x for x in [])
    Traceback (most recent call last):
        ...
    taskqueue_nb.fingerprint.values.UnseenError: no fingerprint can be taken of a generator
    """
    return digest_of(value).hex()


# ------------------------------------------------------------------------------------- details
def _combined(*texts: str | None) -> str:
    """Digest some texts, in their order."""
    return digest_of(texts).hex()


def _sorted(digests: Mapping[str, str | None]) -> list[str | None]:
    return [text for label in sorted(digests) for text in (label, digests[label])]


def _labelled(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Give each argument the name of its parameter, however it was passed."""
    names, rest, itself = _parameters(func)
    labelled: list[tuple[str, Any]] = list(itself)
    labelled += zip(names, args, strict=False)
    labelled += [(f"{rest}[{at}]", value) for at, value in enumerate(args[len(names) :])]
    taken = {name for name, _value in labelled}
    for name, value in kwargs.items():
        labelled.append((f"**{name}" if name in taken else name, value))
    return labelled


def _parameters(func: Any) -> tuple[Sequence[str], str, list[tuple[str, Any]]]:
    """Return the positional parameters, the name for more of them, and the object of a method."""
    itself: list[tuple[str, Any]] = []
    if type(func) is MethodType and type(func.__func__) is FunctionType:
        itself = [("self", func.__self__)]
        func = func.__func__
    if type(func) is FunctionType:
        code = func.__code__
        names = code.co_varnames[: code.co_argcount]
        more = code.co_varnames[code.co_argcount + code.co_kwonlyargcount :][:1]
        rest = more[0] if code.co_flags & 0x04 else "args"
        if itself and names:
            itself = [(names[0], itself[0][1])]
        return names[len(itself) :], rest, itself
    try:
        import inspect  # noqa: PLC0415 - is slow to import, and few callables are no functions

        parameters = inspect.signature(func).parameters.values()
    except Exception:  # noqa: BLE001 - foreign code, and many builtins have no signature
        return (), "args", itself
    positional = [
        each.name
        for each in parameters
        if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)
    ]
    rests = [each.name for each in parameters if each.kind == each.VAR_POSITIONAL]
    return positional, rests[0] if rests else "args", itself


def _clean(label: str) -> str:
    """Return a label as it may stand in a sentence: on one line, and not too long."""
    shown = label if len(label) <= _SHOWN else label[: _SHOWN - 1] + "…"
    return "".join(letter if letter.isprintable() else "?" for letter in shown)


def _role(label: str) -> str:
    """Say what a function does with something that it refers to."""
    bare = label.partition(" (")[0]
    if bare.endswith("()"):
        return "calls"
    return "uses" if bare.startswith("class ") else "reads"


def _code_words(was: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    own_before, own_now = next(iter(was), ""), next(iter(now), "")
    words: list[str] = []
    if was.get(own_before) != now.get(own_now):
        words.append("its code changed")
    elif own_before != own_now:
        words.append(f"it is called {_clean(own_now)} now")
    for roles in ("calls", "uses", "reads"):
        for label in [*list(was)[1:], *[each for each in list(now)[1:] if each not in was]]:
            if _role(label) != roles or was.get(label) == now.get(label):
                continue
            what = "changed" if label in was and label in now else "is new"
            if label not in now:
                what = f"is not what it {roles} any more"
                words.append(f"{_clean(label)} {what}")
                continue
            words.append(f"{_clean(label)}, which it {roles}, {what}")
    return words


def _argument_words(was: Fingerprint, now: Fingerprint) -> list[str]:
    words: list[str] = []
    unseen: list[str] = []
    for label in [*was.arguments, *[each for each in now.arguments if each not in was.arguments]]:
        said = f"argument {shorten(label)}"
        if _FOUND_LATE in (was.unseen.get(label), now.unseen.get(label)):
            unseen.append(f"what {_clean(label)} reaches cannot be compared")
        elif label not in now.arguments:
            words.append(f"{said} is gone")
        elif label not in was.arguments:
            words.append(f"{said} is new")
        elif was.arguments[label] is None or now.arguments[label] is None:
            what = now.unseen.get(label) or was.unseen.get(label) or "something unseen"
            unseen.append(f"{said} ({_clean(what)}) cannot be compared")
        elif was.arguments[label] != now.arguments[label]:
            words.append(f"{said} changed")
    return [*words, *unseen]
