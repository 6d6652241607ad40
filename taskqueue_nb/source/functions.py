"""Functions taken apart: what is around one, what it takes, closes over and consists of."""

from __future__ import annotations
import __future__

import inspect
from functools import partial
from types import CodeType, FunctionType, MethodType
from typing import TYPE_CHECKING, Any, Final

from taskqueue_nb.source.foreign import attribute, guarded

if TYPE_CHECKING:
    from collections.abc import Iterator

FUTURES: Final = sum(  # the flags of some code that `from __future__ import` sets
    getattr(__future__, name).compiler_flag for name in __future__.all_feature_names
)
_LAYERS: Final = 20  # partials, methods and decorators around a function that are looked through


def layers_of(func: object) -> Iterator[object]:
    """Walk from a callable to the function inside: partials, methods, decorators."""
    seen: set[int] = set()
    while func is not None and id(func) not in seen and len(seen) < _LAYERS:
        seen.add(id(func))
        yield func
        kind = type(func)
        if issubclass(kind, partial):
            func = attribute(func, "func")
        elif kind is MethodType:
            func = attribute(func, "__func__")
        else:
            func = attribute(func, "__wrapped__")


def is_wrapping(layer: object) -> bool:
    """Say whether something is a partial or a bound method, which brings arguments along."""
    return issubclass(type(layer), (partial, MethodType))


def class_of(owner: FunctionType | None) -> str | None:
    """Return the name of the class in whose body a function, or one around it, was defined."""
    *homes, _ = owner.__qualname__.split(".") if owner else [""]
    while homes[-1:] == ["<locals>"]:
        del homes[-2:]
    return homes[-1] if homes and homes[-1].isidentifier() else None


def variables_of(owner: FunctionType) -> dict[str, Any]:
    """Return what a function closes over, without what has no value yet."""
    found = {}
    for name, cell in zip(owner.__code__.co_freevars, owner.__closure__ or (), strict=True):
        try:
            found[name] = cell.cell_contents
        except ValueError:
            continue
    return found


def positional_names(func: Any) -> tuple[str, ...]:
    """Return the names of the parameters that positional arguments go to, as far as there are."""
    names = []
    for parameter in parameters_of(func):
        if parameter.kind not in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            break
        names.append(parameter.name)
    return tuple(names)


def parameters_of(func: Any) -> tuple[inspect.Parameter, ...]:
    """Return a callable's parameters; none if they cannot be had."""
    return guarded(lambda: tuple(inspect.signature(func).parameters.values())) or ()


def codes_in(code: CodeType) -> list[CodeType]:
    """Return the code of the functions and classes that stand directly inside some code."""
    return [constant for constant in code.co_consts if isinstance(constant, CodeType)]


def all_codes(code: CodeType) -> list[CodeType]:
    """Return some code, and the code inside it at any depth."""
    codes = [code]
    for one in codes:
        codes += codes_in(one)
    return codes


def essence(code: CodeType) -> tuple[Any, ...]:
    """Return what Python compiled, without where it stood."""
    constants = [essence(one) if isinstance(one, CodeType) else repr(one) for one in code.co_consts]
    flags = code.co_flags & ~inspect.CO_NESTED  # where it stood
    names = (code.co_names, code.co_varnames, code.co_freevars, flags)
    return (code.co_code, *names, *constants)
