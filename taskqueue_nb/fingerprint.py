"""A fingerprint of a call: the same for the same code with the same arguments.

Code counts as Python compiles it, so comments, layout and where the text stands do not. Nothing
depends on addresses, on hash randomisation or on the order of a set.
"""

from __future__ import annotations

import hashlib
import pickle
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_ATOMS: Final = (type(None), bool, int, float, complex, str, bytes, type(Ellipsis))


class _OpaqueError(Exception):
    """Something was met of which no fingerprint can be taken."""


def fingerprint(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str | None:
    """Take the fingerprint of a call.

    Parameters
    ----------
    func : callable
        Its own code counts, with its defaults and what it closes over; the code of functions that
        it calls does not.
    args, kwargs
        The arguments. A task among them counts by its name.

    Returns
    -------
    str or None
        A SHA-256 in hexadecimal digits; None if something cannot be looked at, such as a lock or
        an open file: then nobody can say whether the call is the same.

    Examples
    --------
    >>> fingerprint(max, (1, 2), {}) == fingerprint(max, (1, 2), {})
    True
    >>> fingerprint(max, (1, 2), {}) == fingerprint(max, (1, 3), {})
    False
    """
    try:
        return _digest((func, tuple(args), dict(sorted(kwargs.items())))).hex()
    except _OpaqueError:
        return None


def _digest(value: Any) -> bytes:
    """Digest a value by way of its parts, the innermost first, without recursion."""
    taken_apart: dict[int, tuple[Any, Sequence[Any]]] = {}  # keeps what it names alive
    digests: dict[int, bytes] = {}
    under_way: set[int] = set()
    due = [value]
    while due:
        part = due[-1]
        key = id(part)
        if key not in taken_apart:
            taken_apart[key] = (part, () if type(part) in _ATOMS else _parts(part))
        parts = taken_apart[key][1]
        missing = [inner for inner in parts if not (id(inner) in digests or id(inner) in under_way)]
        if missing and key not in digests:
            under_way.add(key)
            due += missing
            continue
        due.pop()
        if key not in digests:
            shown = repr(part) if type(part) in _ATOMS else str(len(parts))
            kind = f"{type(part).__module__}.{type(part).__qualname__}"
            whole = hashlib.sha256(f"{kind}:{shown}".encode("utf-8", "surrogatepass"))
            for inner in parts:  # one that contains this one has no digest yet
                whole.update(digests.get(id(inner), b"circle"))
            digests[key] = whole.digest()
    return digests[id(value)]


def _parts(part: Any) -> list[Any]:  # noqa: PLR0911 - one line per kind of value
    """Take a value apart."""
    if isinstance(part, FunctionType):
        cells = [_cell(cell) for cell in part.__closure__ or ()]
        return [part.__code__, part.__defaults__, part.__kwdefaults__, *cells]
    if isinstance(part, CodeType):
        names = (part.co_names, part.co_varnames, part.co_freevars, part.co_flags)
        return [part.co_code, *names, *part.co_consts]
    if isinstance(part, MethodType):
        return [part.__func__, part.__self__]
    if isinstance(part, (type, ModuleType, BuiltinFunctionType)):
        return [getattr(part, "__module__", ""), getattr(part, "__qualname__", part.__name__)]
    if type(part) in (list, tuple):
        return list(part)
    if type(part) is dict:
        return [item for pair in part.items() for item in pair]
    if type(part) in (set, frozenset):
        return sorted((fingerprint(None, (member,), {}) or _refuse()) for member in part)
    if hasattr(type(part), "fsm_state"):  # a task, which stands for its result
        return [part.name]
    try:
        return [pickle.dumps(part, protocol=5)]
    except Exception:  # noqa: BLE001 - pickling runs foreign code
        return [_refuse()]


def _cell(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not yet filled
        return None


def _refuse() -> str:
    raise _OpaqueError
