"""A text as the syntax tree of one function, or an error that its user understands."""

from __future__ import annotations

import ast
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from taskqueue_nb.source.layout import first_line, margin_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda

UNNAMED: Final = "<edited>"  # the file of a text that is no function yet
_WANTED: Final = "one function definition, `def name(...):` with its body, or one lambda"
_BEGINNING: Final = re.compile(r"\s*(@|async\b|def\b|\(*lambda\b)")


def one_function(text: str) -> Function:
    """Parse a text that is one function."""
    if not first_line(text):
        message = f"there is no function in the text; {_WANTED} is wanted"
        raise ValueError(message)
    with explained(text, UNNAMED):
        body = parsed(text)
    nodes = [node.value if isinstance(node, ast.Expr) else node for node in body]
    if len(nodes) == 1 and isinstance(nodes[0], Function):
        return nodes[0]
    raise ValueError(_refusal(nodes))


def parsed(text: str) -> Sequence[ast.AST]:
    """Parse statements at any margin, or a lambda that may go over several lines."""
    first = first_line(text)
    if margin_of(first) and not _begins_with_lambda(text):
        ours: Any = _parsed_within("if 1:\n", text, "")[0]
        return list(ours.body)
    if not _begins_with_lambda(text):
        return ast.parse(text).body
    try:
        return [_parsed_within("(\n", text, "\n)")[0].value]  # type: ignore[attr-defined]  # in ()
    except SyntaxError as error:
        try:
            return ast.parse(text).body  # statements, of which the first is a lambda
        except SyntaxError:
            raise error from None


def _begins_with_lambda(text: str) -> bool:
    return re.match(r"[\s(]*lambda\b", first_line(text)) is not None


def _parsed_within(before: str, text: str, after: str) -> list[ast.stmt]:
    """Parse a text with a line of ours before it, which does not count."""
    try:
        tree = ast.parse(f"{before}{text}{after}")
    except SyntaxError as error:
        error.lineno = (error.lineno or 1) - 1
        error.end_lineno = error.end_lineno and error.end_lineno - 1
        raise
    return ast.increment_lineno(tree, -1).body


def _refusal(body: Sequence[ast.AST]) -> str:
    """Say why a text is not one function."""
    functions = [node for node in body if isinstance(node, Function)]
    if len(functions) == len(body) > 1:
        return f"there are {len(body)} functions in the text, and {_WANTED} is wanted"
    if len(functions) == 1 and len(body) > 1:
        line = next(node.lineno for node in body if node is not functions[0])  # type: ignore[attr-defined]  # statements have lines
        return (
            f"line {line} stands outside the function, where it would change names of the "
            "notebook; put it, also an import, inside the function"
        )
    if isinstance(body[0], ast.Assign) and isinstance(body[0].value, ast.Lambda):
        return "an assignment would bind a name; the lambda alone is wanted"
    return f"this is no function; {_WANTED} is wanted"


@contextmanager
def explained(text: str, filename: str) -> Iterator[None]:
    """Raise what Python says of a text as errors that its user understands."""
    try:
        yield
    except SyntaxError as error:
        raise _with_line(error, text, filename) from None
    except (MemoryError, RecursionError):
        message = "the text is nested too deeply for Python; give parts of it names of their own"
        raise ValueError(message) from None


def _with_line(error: SyntaxError, text: str, filename: str) -> SyntaxError:
    """Return a syntax error that tells the line of the text as the user sees it."""
    lines = text.split("\n")
    number = min(max(error.lineno or 1, 1), len(lines) - 1)
    place = (filename, number, error.offset, lines[number - 1], error.end_lineno, error.end_offset)
    hint = "" if _BEGINNING.match(first_line(text)) else f"; {_WANTED} is wanted"
    return type(error)(f"{error.msg}{hint}", place)
