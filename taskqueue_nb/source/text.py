"""The text of a function: found, cut out of its file, and trusted only if it is the function's."""

from __future__ import annotations

import ast
import inspect
import linecache
import tokenize
from functools import lru_cache
from types import CodeType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Any, Final

from taskqueue_nb.source.functions import FUTURES, codes_in, essence, layers_of
from taskqueue_nb.source.layout import first_line, margin_of, shifted, tokens_of, without_margin
from taskqueue_nb.source.lines import text_given_for
from taskqueue_nb.source.parsing import parsed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

LONGEST: Final = 200_000  # characters of a function's text, read or given
_LONGEST_FILE: Final = 2_000_000  # characters of a file in which a lambda is looked for


def source_of(func: object) -> str | None:
    """Return the text of a function as one would edit it.

    Parameters
    ----------
    func : callable
        A function or lambda from a file, a notebook's cell or `compiled`; of a partial or a bound
        method, what is inside.

    Returns
    -------
    str or None
        Beginning at the margin, without `@task`, with its other decorators and no line break at
        the end. Lines inside a string of several lines stay as they are, so that the text means
        the same. None where there is no text: builtins, functions made by `exec`, files that are
        gone, more than `LONGEST` characters.

    Examples
    --------
    >>> def double(number):
    ...     return 2 * number
    >>> print(source_of(double))
    def double(number):
        return 2 * number
    >>> source_of(len) is None
    True
    """
    return owner_of(func)[1]


def owner_of(func: object) -> tuple[FunctionType | None, str | None]:
    """Find the function that a callable's text is the text of, and the text.

    A decorator's wrapper stands for the text of what it wraps if the decorator stands there too;
    otherwise the wrapper's own text is the one that does what it does.
    """
    layers = list(layers_of(func))
    innermost = layers[-1] if layers and type(layers[-1]) is FunctionType else None
    for layer in reversed(layers):
        if type(layer) is FunctionType:
            text = _text(layer)
            outer = next((one for one in layers if type(one) is FunctionType), layer)
            if text is not None and (outer is layer or first_line(text).startswith("@")):
                return layer, text
    return innermost, None


def _text(function: FunctionType) -> str | None:
    """Return the text of a plain function, if it is to be had and to be trusted."""
    code = function.__code__
    if given := text_given_for(code):  # with the comments before it
        return without_margin(given)
    try:
        linecache.checkcache(code.co_filename)
        lines = linecache.getlines(code.co_filename, function.__globals__)
        if code.co_name == "<lambda>":
            text = _lambda_text(code, lines)
        else:
            text = _definition_text(function, lines[code.co_firstlineno - 1 :])
    except Exception:  # noqa: BLE001 - a file that has changed is any text, a loader foreign code
        return None
    return text if text is not None and len(text) <= LONGEST else None


def _definition_text(function: FunctionType, lines: list[str]) -> str | None:
    """Cut the definition at the top of some lines out, if it is that of the function."""
    lines = inspect.getblock(lines)
    if not lines or sum(map(len, lines)) > 2 * LONGEST:  # a margin may be half of it
        return None
    ours: set[int] = set()
    name = None
    tokens = tokens_of("".join(lines))
    for token in tokens:
        if token.string == "@":
            dotted, end = _decorator(tokens)
            if _is_task_decorator(dotted, function.__globals__):
                ours.update(range(token.start[0], end + 1))
        elif token.string == "def":
            name = next(tokens).string
            break
        elif token.type == tokenize.NAME and token.string != "async":
            break
    if name != function.__code__.co_name:
        return None
    text = shifted("".join(lines), margin_of(lines[0]), "")
    rows = text.split("\n")
    return "\n".join(row for number, row in enumerate(rows, 1) if number not in ours).rstrip("\n")


def _decorator(tokens: Iterator[tokenize.TokenInfo]) -> tuple[str, int]:
    """Read on to the end of a decorator; return its dotted name and its last row."""
    dotted, at_name = "", True
    for token in tokens:
        if token.type == tokenize.NEWLINE:
            return dotted, token.start[0]
        at_name = at_name and (token.type == tokenize.NAME or token.string == ".")
        if at_name:
            dotted += token.string
    return "", 0


def _is_task_decorator(dotted: str, names: Mapping[str, Any]) -> bool:
    """Say whether a name means our `task`, here where the function looks its names up."""
    first, *rest = dotted.split(".")
    if first not in names:  # imported inside another function
        return dotted.rpartition(".")[2] == "task"
    found = names[first]
    for part in rest:
        found = vars(found).get(part) if type(found) is ModuleType else None
    home = f"{__name__.rsplit('.', 2)[0]}.task"
    return type(found) is FunctionType and (found.__module__, found.__qualname__) == (home, "task")


def _lambda_text(code: CodeType, lines: list[str]) -> str | None:
    """Cut a lambda out of the lines of its file: the one where the code says that it stands."""
    text = "".join(lines)
    if len(text) > _LONGEST_FILE:
        return None
    first = code.co_firstlineno
    found = [
        node
        for node in _lambdas(text)
        if node.lineno == first and _parameters(node) == code.co_varnames[: len(_parameters(node))]
    ]
    spots = [
        ((line, column), (end_line, end_column))
        for line, end_line, column, end_column in code.co_positions()
        if None not in (line, end_line, column, end_column) and (line, column) != (first, 0)
    ]
    if spots:
        found = [node for node in found if all(_spans(node.body, *spot) for spot in spots)]
        found = found[-1:]  # a lambda in a lambda: `walk` comes to the innermost last
    elif len(found) > 1:  # Python 3.12 forgets the place of a constant, and others when told to
        found = [node for node in found if _is_code_of(node, code)]
    texts = {_cut_out(node, lines) for node in found}
    return texts.pop() if len(texts) == 1 else None


@lru_cache(maxsize=4)
def _lambdas(text: str) -> tuple[ast.Lambda, ...]:
    """Return the lambdas of a file, outer ones first; of many tasks the functions stand in one."""
    tops = parsed(text)
    return tuple(n for top in tops for n in ast.walk(top) if isinstance(n, ast.Lambda))


def _is_code_of(node: ast.Lambda, code: CodeType) -> bool:
    flags = code.co_flags & FUTURES
    whole = compile(ast.Expression(node), "<lambda>", "eval", flags, dont_inherit=True)
    return essence(codes_in(whole)[-1]) == essence(code)


def _parameters(node: ast.Lambda) -> tuple[str, ...]:
    of = node.args
    last = [one for one in (of.vararg, of.kwarg) if one]
    return tuple(one.arg for one in (*of.posonlyargs, *of.args, *of.kwonlyargs, *last))


def _spans(node: ast.expr, start: Any, end: Any) -> bool:
    """Say whether a node reaches from one place to another, or farther."""
    last = (node.end_lineno or 0, node.end_col_offset or 0)
    return bool((node.lineno, node.col_offset) <= start and end <= last)


def _cut_out(node: ast.expr, lines: list[str]) -> str:
    """Return the text of a node; its columns count bytes of UTF-8."""
    rows = [line.encode() for line in lines[node.lineno - 1 : node.end_lineno]]
    rows[-1] = rows[-1][: node.end_col_offset]
    rows[0] = rows[0][node.col_offset :]
    return b"".join(rows).decode()
