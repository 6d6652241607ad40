"""What a field of the form looks like: by the annotation of its parameter and by its value."""

from __future__ import annotations

import ast
import inspect
import types
import typing
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from taskqueue_nb.source.foreign import attribute, guarded
from taskqueue_nb.widget.literals import literal_of
from taskqueue_nb.widget.words import clean

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["shape_of"]

_MOST: Final = 100  # values to choose from
_LONGEST: Final = 2_000  # characters of an annotation that is a text
_NUMBERS: Final = {int: "int", float: "float"}


def shape_of(
    annotation: Any, value: object, names: Mapping[str, Any] = MappingProxyType({})
) -> dict[str, Any]:
    """Return how a value with a literal is edited.

    Parameters
    ----------
    annotation : object
        That of the parameter. One that is a text is parsed, and never evaluated.
    value : object
        What stands there now.
    names : mapping
        What names in such a text mean, as in the module of the function.

    Returns
    -------
    dict
        `as` is "bool", "choice" with the literals to choose from as `choices`, "int", "float",
        "str" with the text itself as `plain`, or "" for a field in which a literal is written.

    Examples
    --------
    >>> shape_of("Literal['line', 'bar'] | None", "bar")
    {'as': 'choice', 'choices': ["'line'", "'bar'", 'None']}
    >>> shape_of(float, 3)
    {'as': 'float'}
    """
    parts = list(guarded(lambda: list(_parts(annotation, names))) or ())
    named = [part[1] for part in parts if part[0] == "value"]
    choices = list(dict.fromkeys(filter(None, map(literal_of, named))))
    present = literal_of(value)
    if parts and present is not None and len(named) == len(parts) and 1 < len(choices) <= _MOST:
        if sorted(choices) == ["False", "True"] and present in choices:
            return {"as": "bool"}
        return {"as": "choice", "choices": choices if present in choices else [present, *choices]}
    if type(value) is bool:
        return {"as": "bool"}
    if type(value) in _NUMBERS:
        is_float = type(value) is float or ("type", "float") in parts
        return {"as": "float" if is_float else "int"}
    if type(value) is str and clean(value, len(value)) == value:
        return {"as": "str", "plain": value}
    return {"as": ""}


def _parts(annotation: Any, names: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the values that an annotation names, and what else it allows by its name."""
    origin, inside = typing.get_origin(annotation), typing.get_args(annotation)
    if isinstance(annotation, str):
        if len(annotation) <= _LONGEST:
            yield from _parts_of_text(ast.parse(str.__str__(annotation), mode="eval").body, names)
    elif origin is typing.Literal:
        yield from (("value", value) for value in inside)
    elif origin in (typing.Union, types.UnionType):
        yield from (part for each in inside for part in _parts(each, names))
    elif origin is typing.Annotated:
        yield from _parts(inside[0], names)
    elif annotation in _NAMED:
        yield from (("value", value) for value in _NAMED[annotation])
    elif annotation is not inspect.Parameter.empty:
        yield "type", attribute(annotation, "__name__")


_NAMED: Final[dict[Any, tuple[Any, ...]]] = {
    bool: (True, False),
    None: (None,),
    type(None): (None,),
}
_NAMES: Final = {"bool": _NAMED[bool], "None": _NAMED[None]}


def _parts_of_text(node: ast.expr, names: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the same of an annotation that is a text, by the names that are usual for it."""
    name = _last_name(node)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        yield from (
            part for each in (node.left, node.right) for part in _parts_of_text(each, names)
        )
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield from _parts(node.value, names)
    elif isinstance(node, ast.Subscript):
        yield from _parts_of_subscript(node, names)
    elif name in _NAMES:
        yield from (("value", value) for value in _NAMES[name])
    elif typing.get_origin(known := names.get(name)) is not None:  # a name for Literal[...]
        yield from _parts(known, names)
    else:
        yield "type", name


def _parts_of_subscript(node: ast.Subscript, names: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    inside = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
    name = _last_name(node.value)
    if name == "Literal":
        yield from (("value", ast.literal_eval(each)) for each in inside)
    elif name in ("Optional", "Union"):
        yield from (part for each in inside for part in _parts_of_text(each, names))
        if name == "Optional":
            yield "value", None
    elif name == "Annotated":
        yield from _parts_of_text(inside[0], names)
    else:
        yield "type", name


def _last_name(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return node.attr
    if isinstance(node, ast.Constant):
        return str(node.value)[:_LONGEST]
    return node.id if isinstance(node, ast.Name) else ""
