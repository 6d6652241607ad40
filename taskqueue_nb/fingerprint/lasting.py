"""What can change in place: of that no digest is kept for later."""

from __future__ import annotations

import marshal
from types import (
    BuiltinFunctionType,
    FunctionType,
    GetSetDescriptorType,
    MemberDescriptorType,
    MethodDescriptorType,
    MethodType,
    ModuleType,
    WrapperDescriptorType,
)
from typing import TYPE_CHECKING, Any, Final

from taskqueue_nb.fingerprint.code import is_foreign_file, notes_of
from taskqueue_nb.fingerprint.values import (
    ATOMS,
    Named,
    Own,
    OwnClass,
    has_plain_defaults,
    inside,
    is_foreign_class,
    is_resource,
    module_of,
    plain_function,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

_SMALL: Final = 100  # values of a container that is looked at again at every attempt
_SHORT: Final = 10_000  # characters or bytes of its texts, together
_DEEP: Final = 10  # levels of a value that are looked at to find out whether it lasts
_MARSHAL: Final = 2  # the last version that notes neither identity nor interning
_NO_PART: Final = ATOMS - {str, bytes, int}
_CONTAINERS: Final = frozenset({list, tuple, set, frozenset})
_ALWAYS: Final = frozenset(
    {
        Named,
        range,
        GetSetDescriptorType,
        MemberDescriptorType,
        MethodDescriptorType,
        WrapperDescriptorType,
    }
)
#: Classes of Python's own whose objects stay what they are, or count by what stays.
_CONSTANT: Final = frozenset(
    [
        ("_decimal", "Decimal"),
        ("datetime", "date"),
        ("datetime", "datetime"),
        ("datetime", "time"),
        ("datetime", "timedelta"),
        ("datetime", "timezone"),
        ("decimal", "Decimal"),
        ("fractions", "Fraction"),
        ("logging", "Logger"),
        ("operator", "attrgetter"),
        ("operator", "itemgetter"),
        ("pathlib", "PosixPath"),
        ("pathlib", "WindowsPath"),
        ("pathlib._local", "PosixPath"),
        ("pathlib._local", "WindowsPath"),
        ("re", "Pattern"),
        ("uuid", "UUID"),
        ("zoneinfo", "ZoneInfo"),
    ]
)


def lasts(value: Any, levels: int = _DEEP) -> bool:  # noqa: C901, PLR0911, PLR0912 - one line per kind
    """Whether a value stays what it is: nothing in it can be changed in place.

    Functions and classes of the user's inside it do not count: whoever asks looks at them, too.
    """
    kind = type(value)
    if kind in ATOMS or kind in _ALWAYS:
        return True
    if levels == 0:
        return False
    if kind is Own:
        return has_plain_defaults(value)
    if kind is OwnClass:
        return all(_is_told(name) or lasts(part, levels - 1) for name, part in value.members)
    if kind in (tuple, frozenset):
        return len(value) <= _SMALL and _all_last(value, levels)
    if kind is FunctionType:
        if not is_foreign_file(value.__code__.co_filename):
            return True
        return _all_last(map(inside, value.__closure__ or ()), levels)
    if kind is BuiltinFunctionType:
        return value.__self__ is None or isinstance(value.__self__, ModuleType)
    if kind is MethodType:
        return _all_last((value.__func__, value.__self__), levels)
    if kind in (staticmethod, classmethod):
        return lasts(value.__func__, levels - 1)
    if kind is property:
        return all(map(_reads_nothing, (value.fget, value.fset, value.fdel)))
    if issubclass(kind, (type, ModuleType)):
        return True
    if hasattr(kind, "fsm_state") or plain_function(value) is not None:
        return True  # a task counts by its name
    module = module_of(kind)
    if module == "functools" and hasattr(value, "__wrapped__"):
        return lasts(value.__wrapped__, levels - 1)
    if type(kind).__module__ == "enum" or is_resource(kind):
        return True
    if module == "numpy" and any(base.__name__ == "generic" for base in kind.__mro__):
        return True
    return is_foreign_class(kind) and (module, kind.__name__) in _CONSTANT


def _all_last(values: Iterable[Any], levels: int) -> bool:
    return all(lasts(each, levels - 1) for each in values)


def _is_told(name: str) -> bool:
    """Whether an attribute of a class is one that Python or `enum` puts there."""
    return name.startswith("_") and name.endswith("_")


def _reads_nothing(function: Any) -> bool:
    return function is None or (
        type(function) is FunctionType
        and notes_of(function.__code__).only_builtins
        and function.__closure__ is None
    )


def written(value: Any) -> bytes | None:
    """Write a small container of plain values; None for anything else. Runs no foreign code."""
    due = [value]
    left = _SMALL
    room = _SHORT
    for each in due:  # grows while it is walked
        kind = type(each)
        if kind in _NO_PART:
            continue
        if kind is str or kind is bytes:
            room -= len(each)
        elif kind is int:
            room -= each.bit_length() >> 3
        elif kind is dict:
            left -= len(each) * 2
            if left >= 0:
                due += each
                due += each.values()
        elif kind in _CONTAINERS:
            left -= len(each)
            if left >= 0:
                due += each
        else:
            return None
        if left < 0 or room < 0:
            return None
    return marshal.dumps(value, _MARSHAL)


def copied(text: bytes) -> Any:
    """Return a container as it was written: nobody else has this one."""
    return marshal.loads(text)  # noqa: S302 - what `written` wrote
