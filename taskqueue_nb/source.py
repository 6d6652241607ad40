"""Code as text: what a function's source is, edited source as a function, a call as a cell.

Imported by who wants one of these: the parsing modules that it needs are slow to import.
"""

from __future__ import annotations
import __future__

import ast
import builtins
import difflib
import inspect
import itertools
import keyword
import linecache
import os
import pickle
import re
import reprlib
import sys
import tokenize
import unicodedata
from functools import partial
from types import CodeType, FunctionType, MappingProxyType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias
from weakref import WeakValueDictionary, finalize

from taskqueue_nb.fsm import shorten

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

LONGEST: Final = 200_000  # characters of a function's text, read or given
_LONGEST_FILE: Final = 2_000_000  # characters of a file in which a lambda is looked for
_LAYERS: Final = 20  # partials, methods and decorators around a function that are looked through
_SHOWN: Final = 200  # characters of a foreign text on one line
_LITERAL: Final = 500  # characters of an argument that is written out
_FUTURES: Final = sum(
    getattr(__future__, name).compiler_flag for name in __future__.all_feature_names
)

_Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda


# -- the text of a function --------------------------------------------------------------------


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
    return _owner(func)[1]


def _owner(func: object) -> tuple[FunctionType | None, str | None]:
    """Find the function that a callable's text is the text of, and the text.

    A decorator's wrapper stands for the text of what it wraps if the decorator stands there too;
    otherwise the wrapper's own text is the one that does what it does.
    """
    layers = list(_layers(func))
    innermost = layers[-1] if layers and type(layers[-1]) is FunctionType else None
    for layer in reversed(layers):
        if type(layer) is FunctionType:
            text = _text(layer)
            outer = next((one for one in layers if type(one) is FunctionType), layer)
            if text is not None and (outer is layer or _first_line(text).startswith("@")):
                return layer, text
    return innermost, None


def _layers(func: object) -> Iterator[object]:
    """Walk from a callable to the function inside: partials, methods, decorators."""
    seen: set[int] = set()
    while func is not None and id(func) not in seen and len(seen) < _LAYERS:
        seen.add(id(func))
        yield func
        kind = type(func)
        if issubclass(kind, partial):
            func = _attribute(func, "func")
        elif kind is MethodType:
            func = _attribute(func, "__func__")
        else:
            func = _attribute(func, "__wrapped__")


def _is_wrapping(layer: object) -> bool:
    """Say whether something is a partial or a bound method, which brings arguments along."""
    return issubclass(type(layer), (partial, MethodType))


def _attribute(thing: object, name: str) -> Any:
    try:
        return getattr(thing, name, None)
    except Exception:  # noqa: BLE001 - a foreign `__getattr__` may raise anything
        return None


def _text(function: FunctionType) -> str | None:
    """Return the text of a plain function, if it is to be had and to be trusted."""
    code = function.__code__
    whole, text = _edited.get(code.co_filename, (0, None))
    if whole == id(code):  # as it was given, with the comments before it
        return _without_margin(text or "")
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
    tokens = _tokens("".join(lines))
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
    text = _shifted("".join(lines), _margin(lines[0]), "")
    rows = text.split("\n")
    return "\n".join(row for number, row in enumerate(rows, 1) if number not in ours).rstrip("\n")


def _without_margin(text: str) -> str:
    return _shifted(text, _margin(_first_line(text)), "").strip("\n")


def _tokens(text: str) -> Iterator[tokenize.TokenInfo]:
    """Return the tokens of a text that may begin at a margin."""
    return tokenize.generate_tokens(iter(text.splitlines(keepends=True)).__next__)


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
    home = f"{__name__.rpartition('.')[0]}.task"
    return type(found) is FunctionType and (found.__module__, found.__qualname__) == (home, "task")


def _margin(line: str) -> str:
    return line[: len(line) - len(line.lstrip(" \t"))]


def _shifted(text: str, old: str, new: str) -> str:
    """Move the lines of a text from one margin to another; what is inside strings stays."""
    inside: set[int] = set()
    started: list[int] = []
    for token in _tokens(text):
        kind = tokenize.tok_name[token.type]
        if kind == "STRING":
            inside.update(range(token.start[0] + 1, token.end[0] + 1))
        elif kind.endswith("STRING_START"):  # an f-string, since Python 3.12
            started.append(token.start[0])
        elif kind.endswith("STRING_END"):
            inside.update(range(started.pop() + 1, token.end[0] + 1))
    rows = text.split("\n")
    for number, row in enumerate(rows, 1):
        if number not in inside and row.strip():
            rows[number - 1] = new + row[_common(old, row) :]
    return "\n".join(rows)


def _common(margin: str, row: str) -> int:
    """Count how much of a margin a row has: a comment or a line in brackets may have less."""
    pairs = enumerate(zip(margin, row, strict=False))
    return next(
        (place for place, (one, other) in pairs if one != other), min(map(len, (margin, row)))
    )


def _lambda_text(code: CodeType, lines: list[str]) -> str | None:
    """Cut a lambda out of the lines of its file: the one where the code says that it stands."""
    text = "".join(lines)
    if len(text) > _LONGEST_FILE:
        return None
    first = code.co_firstlineno
    found = [
        node
        for top in _parsed(text)
        for node in ast.walk(top)
        if isinstance(node, ast.Lambda)
        and node.lineno == first
        and _parameters(node) == code.co_varnames[: len(_parameters(node))]
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


def _is_code_of(node: ast.Lambda, code: CodeType) -> bool:
    flags = code.co_flags & _FUTURES
    whole = compile(ast.Expression(node), "<lambda>", "eval", flags, dont_inherit=True)
    return _essence(_codes_in(whole)[-1]) == _essence(code)


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


# -- text to function --------------------------------------------------------------------------

_WANTED: Final = "one function definition, `def name(...):` with its body, or one lambda"
_BEGINNING: Final = re.compile(r"\s*(@|async\b|def\b|\(*lambda\b)")
_NEW: Final = "<edited>"  # no name that a text can use, so that none is bound
_edited: Final[dict[str, tuple[int, str]]] = {}  # file → which code is the whole of its text
# Code goes at any moment, also while `linecache.checkcache` walks through its entries, and
# before Python 3.13 trips over a missing one. So an entry is emptied at once, and taken out at the
# next edit.
_gone: Final[list[str]] = []
_edits: Final[dict[str, Iterator[int]]] = {}  # what an edited function is called → its numbers


def compiled(source: str, like: Any = None, *, name: str | None = None) -> Any:
    """Turn edited text into a function that can stand in for another one.

    Parameters
    ----------
    source : str
        One function definition, with decorators if need be, or one lambda.
    like : callable, optional
        The function that it replaces. The new one sees the same global names and closes over the
        same variables, and has its name and module; its defaults are those of the text. A partial
        or a bound method gives one again. Without it, the text runs in `__main__`.
    name : str, optional
        What its file is called in tracebacks: `<name, edited 2>`; by default the function's name.

    Returns
    -------
    callable
        The function; where a decorator made something else of it, that, except that our `@task`
        gives the plain function.

    Raises
    ------
    SyntaxError
        If the text is no Python; with its line.
    ValueError
        If it is anything else than one function, too long or nested too deeply.

    Notes
    -----
    No global name is bound: whoever else calls the old function still does. A function that calls
    itself by its own name looks that name up as ever, and so finds the old one too.

    Examples
    --------
    >>> def clean(rows, threshold=3):
    ...     return [row for row in rows if row > threshold]
    >>> edited = compiled("def clean(rows): return [row for row in rows if row > 1]", clean)
    >>> edited([1, 2, 3, 4]), clean([1, 2, 3, 4])
    ([2, 3, 4], [4])
    """
    text = _checked(source)
    owner = _owner(like)[0]
    called = name or (owner.__name__ if owner else None)
    node = _one_function(text, "<edited>")
    own_name = "<lambda>" if isinstance(node, ast.Lambda) else node.name
    filename = _next_filename(called or own_name)
    try:
        code = _factory_code(node, owner, filename)
    except SyntaxError as error:
        raise _explained(error, text, filename) from None
    except (MemoryError, RecursionError):
        raise ValueError(_TOO_DEEP) from None
    code = _renamed(code, own_name, owner)
    _keep_lines(text, filename, code)
    cells = (
        dict(zip(owner.__code__.co_freevars, owner.__closure__ or (), strict=True)) if owner else {}
    )
    names = owner.__globals__ if owner else vars(sys.modules["__main__"])
    closure = tuple(cells[free] for free in code.co_freevars)
    made = _plain(FunctionType(code, names, "factory", None, closure)())
    if owner is not None and type(made) is FunctionType:
        made.__name__, made.__qualname__ = owner.__name__, owner.__qualname__
        made.__module__ = owner.__module__
    return _dressed_like(like, made)


_TOO_DEEP: Final = "the text is nested too deeply for Python; give parts of it names of their own"


def _checked(source: object) -> str:
    """Return a text with plain line ends, if it can be compiled at all."""
    if not isinstance(source, str):
        message = f"the text of a function is wanted, not {shorten(source)}"
        raise TypeError(message)
    text = str.__str__(source).removeprefix("\ufeff")  # the mark that some editors put first
    if len(text) > LONGEST:
        message = (
            f"the text has {len(text):,} characters; {LONGEST:,} are allowed: keep data in files"
        )
        raise ValueError(message)
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    for number, line in enumerate(text.split("\n"), 1):
        if "\0" in line or any("\ud800" <= character <= "\udfff" for character in line):
            what = "a null byte" if "\0" in line else "half a character (a lone surrogate)"
            shown = line.encode("ascii", "backslashreplace").decode().replace("\0", "\\0")
            raise SyntaxError(f"{what} in the text", ("<edited>", number, 1, shown))
    return text if text.endswith("\n") else f"{text}\n"


def _first_line(text: str) -> str:
    """Return the first line that says something."""
    lines = (
        line for line in text.split("\n") if line.strip() and not line.lstrip().startswith("#")
    )
    return next(lines, "")


def _begins_with_lambda(text: str) -> bool:
    return re.match(r"[\s(]*lambda\b", _first_line(text)) is not None


def _parsed(text: str) -> Sequence[ast.AST]:
    """Parse statements at any margin, or a lambda that may go over several lines."""
    first = _first_line(text)
    if _margin(first) and not _begins_with_lambda(text):
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


def _parsed_within(before: str, text: str, after: str) -> list[ast.stmt]:
    """Parse a text with a line of ours before it, which does not count."""
    try:
        tree = ast.parse(f"{before}{text}{after}")
    except SyntaxError as error:
        error.lineno = (error.lineno or 1) - 1
        error.end_lineno = error.end_lineno and error.end_lineno - 1
        raise
    return ast.increment_lineno(tree, -1).body


def _one_function(text: str, filename: str) -> _Function:
    """Parse a text that is one function."""
    if not _first_line(text):
        message = f"there is no function in the text; {_WANTED} is wanted"
        raise ValueError(message)
    try:
        body = _parsed(text)
    except SyntaxError as error:
        raise _explained(error, text, filename) from None
    except (MemoryError, RecursionError):
        raise ValueError(_TOO_DEEP) from None
    nodes = [node.value if isinstance(node, ast.Expr) else node for node in body]
    if len(nodes) == 1 and isinstance(nodes[0], _Function):
        return nodes[0]
    raise ValueError(_refusal(nodes))


def _refusal(body: Sequence[ast.AST]) -> str:
    """Say why a text is not one function."""
    functions = [node for node in body if isinstance(node, _Function)]
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


def _explained(error: SyntaxError, text: str, filename: str) -> SyntaxError:
    """Return a syntax error that tells the line of the text as the user sees it."""
    lines = text.split("\n")
    number = min(max(error.lineno or 1, 1), len(lines) - 1)
    place = (filename, number, error.offset, lines[number - 1], error.end_lineno, error.end_offset)
    hint = "" if _BEGINNING.match(_first_line(text)) else f"; {_WANTED} is wanted"
    return type(error)(f"{error.msg}{hint}", place)


def _next_filename(called: str) -> str:
    called = _line(called, 60).strip("<>") or "function"
    return f"<{called}, edited {next(_edits.setdefault(called, itertools.count(1)))}>"


def _factory_code(node: _Function, owner: FunctionType | None, filename: str) -> CodeType:
    """Compile a function inside one that makes it, which closes over the owner's variables.

    A method's text is compiled as in its class, where `self.__name` means another name.
    """
    module = ast.parse("class C:\n def outer():\n  def factory():\n   return 0\n  return factory")
    enclosing: Any = module.body[0]
    outer = enclosing.body[0]
    factory = outer.body[0]
    free = owner.__code__.co_freevars if owner else ()
    outer.args.args = [ast.arg(one, lineno=1, col_offset=0) for one in free]
    if isinstance(node, ast.Lambda):
        factory.body[0].value = node
    else:
        node.name = _NEW
        factory.body[0].value = ast.copy_location(ast.Name(_NEW, ast.Load()), factory.body[0].value)
        factory.body.insert(0, node)
    home = _class_of(owner)
    enclosing.name = home
    if home is None:
        module.body = [outer]
    flags = owner.__code__.co_flags & _FUTURES if owner else 0
    code: CodeType = compile(module, filename, "exec", flags, dont_inherit=True)
    for inner in ("outer", "factory") if home is None else (home, "outer", "factory"):
        code = next(one for one in _codes_in(code) if one.co_name == inner)
    return code


def _class_of(owner: FunctionType | None) -> str | None:
    """Return the name of the class in whose body a function, or one around it, was defined."""
    *homes, _ = owner.__qualname__.split(".") if owner else [""]
    while homes[-1:] == ["<locals>"]:
        del homes[-2:]
    return homes[-1] if homes and homes[-1].isidentifier() else None


def _codes_in(code: CodeType) -> list[CodeType]:
    return [constant for constant in code.co_consts if isinstance(constant, CodeType)]


def _renamed(factory: CodeType, name: str, owner: FunctionType | None) -> CodeType:
    """Give the code inside a factory the names, and the mark, that it would have without it."""
    inside = f"{factory.co_qualname}.<locals>."
    qualname = owner.__qualname__ if owner else name
    home = qualname[: len(qualname) - len(qualname.rpartition(".")[2])]
    nested = owner.__code__.co_flags & inspect.CO_NESTED if owner else 0

    def renamed(constant: Any, mark: int = inspect.CO_NESTED) -> Any:
        if not isinstance(constant, CodeType):
            return constant
        return constant.replace(
            co_name=constant.co_name.replace(_NEW, name),
            co_qualname=constant.co_qualname.replace(inside, home, 1).replace(_NEW, name),
            co_consts=tuple(map(renamed, constant.co_consts)),
            co_flags=constant.co_flags & ~inspect.CO_NESTED | constant.co_flags & mark,
        )

    return factory.replace(co_consts=tuple(renamed(one, nested) for one in factory.co_consts))


def _function_code(factory: CodeType) -> CodeType:
    """Return the code of the function that a factory makes: it comes after its defaults."""
    code = _codes_in(factory)[-1]
    while code.co_name.startswith("<generic parameters"):  # since Python 3.12
        code = _codes_in(code)[-1]
    return code


def _keep_lines(text: str, filename: str, code: CodeType) -> None:
    """Let tracebacks and debuggers find the lines for as long as any of the code is there."""
    while _gone:
        linecache.cache.pop(_gone.pop(), None)
    lines = [f"{line}\n" for line in text.split("\n")[:-1]]
    linecache.cache[filename] = (len(text), None, lines, filename)  # None: not to be looked for
    codes = [code]
    for one in codes:
        codes += _codes_in(one)
    left = list(map(id, codes))
    _edited[filename] = (id(_function_code(code)), text)

    def is_gone() -> None:
        left.pop()
        if not left and filename in linecache.cache:
            linecache.cache[filename] = (0, None, [], filename)
            _edited.pop(filename, None)
            _gone.append(filename)

    for one in codes:
        finalize(one, is_gone).atexit = False


def _plain(made: Any) -> Any:
    """Return the function that the decorators of a text have made."""
    if isinstance(made, (staticmethod, classmethod)):
        return made.__func__
    if type(made) is not FunctionType and not isinstance(made, (partial, MethodType)):
        inner = _attribute(made, "func")
        if inner is not None and inner is _attribute(made, "__wrapped__"):
            return inner
    if not callable(made):
        message = (
            f"the decorators make {shorten(made)} of the function; something to call is wanted"
        )
        raise ValueError(message)  # noqa: TRY004 - what is wrong is the text, not its type
    return made


def _dressed_like(like: Any, made: Any) -> Any:
    """Put a function into the partials and methods that another one was in."""
    wraps: list[Callable[[Any], Any]] = []
    for layer in _layers(like):
        if not _is_wrapping(layer):
            break
        if issubclass(type(layer), partial):
            wraps.append(partial(_in_partial, layer))
        else:
            wraps.append(partial(_in_method, layer))
    for wrap in reversed(wraps):
        made = wrap(made)
    return made


def _in_partial(like: Any, made: Any) -> Any:
    return partial(made, *like.args, **like.keywords)


def _in_method(like: Any, made: Any) -> Any:
    return MethodType(made, like.__self__)


# -- a call as a cell --------------------------------------------------------------------------


class Inputs:
    """What a function was called with, by the names of its parameters.

    Attributes
    ----------
    func : callable or None
        The function.
    args, kwargs
        The arguments, as they were given.
    variables : dict
        What the function closes over.
    """

    def __init__(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any] | None) -> None:
        self.func, self.args, self.kwargs = func, tuple(args), dict(kwargs or {})
        owner = _owner(func)[0]
        self.variables = _variables(owner) if owner else {}
        self._names = _positional_names(func)[: len(self.args)]

    def __getitem__(self, key: str | int) -> Any:
        """Return an argument, by its parameter's name or by its place."""
        if isinstance(key, int):
            return self.args[key]
        if key in self.kwargs:
            return self.kwargs[key]
        if key in self._names:
            return self.args[self._names.index(key)]
        known = ", ".join(repr(name) for name in (*self._names, *self.kwargs))
        message = f"no input {shorten(key)}; there are {known or 'none by name'}"
        raise KeyError(message)

    def __repr__(self) -> str:
        return f"<Inputs {', '.join((*self._names, *map(str, self.kwargs))) or len(self.args)}>"

    def _key(self, place: int) -> str | int:
        """Return by what name or place a positional argument is found."""
        if place < len(self._names) and self._names[place] not in self.kwargs:
            return self._names[place]
        return place


_KEPT: Final[WeakValueDictionary[str, Inputs]] = WeakValueDictionary()
_PLACE: Final = "_kept_inputs"  # the attribute by which an owner keeps them: (key, inputs)


def keep(
    owner: Any, args: Sequence[Any], kwargs: Mapping[str, Any] | None, func: Any = None
) -> str:
    """Keep what was called for as long as an owner lives.

    Parameters
    ----------
    owner : object
        Usually an attempt. It is given an attribute, and is not kept alive by it.
    args, kwargs
        The arguments.
    func : callable, optional
        The function. Its parameters give the arguments' names.

    Returns
    -------
    str
        For `inputs`. One owner has one key; what it keeps is what was given last.

    Examples
    --------
    >>> class Owner: pass
    >>> owner = Owner()
    >>> inputs(keep(owner, ([3, 1, 2],), {}, sorted))[0]
    [3, 1, 2]
    """
    kept = Inputs(func, args, kwargs)
    key = getattr(owner, _PLACE, ("",))[0] or os.urandom(4).hex()
    setattr(owner, _PLACE, (key, kept))
    _KEPT[key] = kept
    return key


def inputs(key: str) -> Inputs:
    """Return what was kept under a key, as long as the attempt is there.

    Raises
    ------
    KeyError
        If the attempt, or the kernel in which it was made, is gone.
    """
    kept = _KEPT.get(key)
    if kept is None:
        message = f"{shorten(key)} is of an attempt that is gone; ask task.snippet() again"
        raise KeyError(message)
    return kept


def snippet(  # noqa: PLR0913, PLR0917 - a call has as many parts
    name: str,
    number: int,
    func: Any,
    args: Sequence[Any],
    kwargs: Mapping[str, Any] | None,
    error: BaseException | str | None = None,
    key: str | None = None,
) -> str:
    """Write a call as a cell that makes it again.

    Parameters
    ----------
    name, number : str, int
        The task's name, and which of its attempts made the call.
    func, args, kwargs
        What was called. Tasks among the arguments are replaced by their results already.
    error : exception or str, optional
        What it raised.
    key : str, optional
        What `keep` gave for this call. Arguments without an exact literal are taken from there.

    Returns
    -------
    str
        A comment, the function, and the call. A function of the notebook stands there with its
        text; its name is another one if that name means something else by now. One of a module is
        called where it is. Any other is taken from what was kept.

    Raises
    ------
    ValueError
        If something has to be taken from what was kept, and there is no key.
    KeyError
        If the key is of an attempt that is gone.

    Examples
    --------
    >>> import math
    >>> print(snippet("root", 2, math.sqrt, (-1,), {}, "ValueError: math domain error"))
    # task 'root', attempt 2, raised ValueError: math domain error
    import math
    <BLANKLINE>
    math.sqrt(-1)
    """
    return _Cell(name, number, func, args, kwargs or {}, error, key).text()


class _Cell:
    """How a call is put down."""

    def __init__(  # noqa: PLR0913, PLR0917 - those of `snippet`
        self,
        name: str,
        number: int,
        func: Any,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        error: BaseException | str | None,
        key: str | None,
    ) -> None:
        self.func, self.args, self.kwargs = func, args, kwargs
        raised = f", raised {_said(error)}" if error is not None else ""
        self.comment = (
            f"# task {_line(shorten(str.__str__(name)), _SHOWN)}, attempt {int(number)}{raised}"
        )
        self.key = key
        self.owner, self.source = _owner(func)
        self.taken = _names_of(self.owner.__code__) if self.owner else set()
        self.names = vars(sys.modules["__main__"])  # of the notebook
        if self.owner is not None and not _is_of_module(self.owner.__globals__):
            self.names = self.owner.__globals__
        self.kept_as = self._unused("inputs")
        self.kept: Inputs | None = None
        self.imports: list[str] = []

    def _unused(self, name: str) -> str:
        """Return a name that the function does not use, and that is free, or of an earlier cell."""
        while name in self.taken or not self._is_ours(name):
            name += "_"
        return name

    def _is_ours(self, name: str) -> bool:
        if name not in self.names:
            return True
        value = self.names[name]
        if name.startswith("inputs"):
            return type(value) is Inputs
        return type(value) is FunctionType and value.__name__ == name

    def text(self) -> str:
        """Return the whole cell."""
        definition, callee = self._function()
        arguments = ", ".join(self._arguments())
        awaited = "await " if inspect.iscoroutinefunction(self.func) else ""
        call = f"{awaited}{callee}({arguments})"
        top = [self.comment, *self.imports]
        if self.kept is not None:
            top += [
                "import taskqueue_nb.source",
                "",
                f"{self.kept_as} = taskqueue_nb.source.inputs({_quoted(self.key)})",
            ]
        return "\n\n".join(("\n".join(top), *definition, call))

    def _inputs(self) -> Inputs:
        """Use what was kept."""
        if self.key is None:
            message = "the call cannot be written out; give the key of its inputs: key=keep(...)"
            raise ValueError(message)
        self.kept = inputs(self.key)
        if self.kept.func is not None and self.kept.func is not self.func:
            message = f"what is kept under {shorten(self.key)} is of a call of something else"
            raise ValueError(message)
        return self.kept

    def _need_function(self) -> None:
        """Use what was kept, and the function with it."""
        if self._inputs().func is None:
            message = "the function cannot be written out; keep it: keep(owner, args, kwargs, func)"
            raise ValueError(message)

    def _function(self) -> tuple[list[str], str]:
        """Return the blocks that define the function, and how it is called."""
        owner, source = self.owner, self.source
        if owner and source and self._is_of_the_notebook(source, owner):
            return self._definition(source, owner)
        if found := _import_path(self.func):
            module, qualname = found
            self.imports = [f"import {module}"]
            return [], f"{module}.{qualname}"
        self._need_function()
        return [], f"{self.kept_as}.func"

    def _is_of_the_notebook(self, source: str, owner: FunctionType) -> bool:
        """Say whether the text, run in a cell, gives the same function."""
        is_decorated = _first_line(source).startswith("@") and not _is_wrapping(self.func)
        if not (type(self.func) is FunctionType or is_decorated) or _class_of(owner) is not None:
            return False
        names = owner.__globals__
        if names is not self.names:
            return False
        used = _names_at_definition(source)
        return used is not None and used <= {*names, *vars(builtins), *owner.__code__.co_freevars}

    def _definition(self, source: str, owner: FunctionType) -> tuple[list[str], str]:
        """Return the blocks that define the function from its text, and its name there."""
        own_name, names = owner.__code__.co_name, owner.__globals__
        is_lambda = own_name == "<lambda>"
        if is_lambda:
            name = self._unused("function")
            source = f"(\n{source}\n)" if "\n" in source else f"({source})"
        elif own_name not in names or names[own_name] is self.func:
            name = own_name
        else:  # it means a task's maker, or a later version, which is to stay
            name = self._unused(f"{own_name}_again")
        free = [one for one in owner.__code__.co_freevars if one in _variables(owner)]
        if not free:
            return [f"{name} = {source}" if is_lambda else _with_name(source, name)], name
        self._need_function()
        maker = self._unused("with_variables")
        inside = f"return {source}" if is_lambda else f"{source}\nreturn {own_name}"
        made = f"def {maker}({', '.join(free)}):\n{_shifted(inside, '', '    ')}"
        return [made, f"{name} = {maker}(**{self.kept_as}.variables)"], name

    def _arguments(self) -> Iterator[str]:
        """Write the arguments."""
        for place, value in enumerate(self.args):
            yield _literal(value) or f"{self.kept_as}[{_quoted(self._inputs()._key(place))}]"
        if not all(map(_is_plain_name, self.kwargs)):
            self._inputs()
            yield f"**{self.kept_as}.kwargs"
            return
        for name, value in self.kwargs.items():
            if (written := _literal(value)) is None:
                self._inputs()
                written = f"{self.kept_as}[{_quoted(name)}]"
            yield f"{name}={written}"


def _is_of_module(names: dict[str, Any]) -> bool:
    """Say whether some global names are those of a module, and not of a notebook."""
    name = str(names.get("__name__"))
    return name != "__main__" and _attribute(sys.modules.get(name), "__dict__") is names


def _quoted(key: object) -> str:
    """Write a key as people do, in double quotes."""
    return f'"{key}"' if isinstance(key, str) and re.fullmatch(r"\w+", key) else repr(key)


def _with_name(source: str, name: str) -> str:
    """Give the definition in a text another name."""
    tokens = _tokens(source)
    for token in tokens:
        if token.string == "def":
            row, column = (old := next(tokens)).start
            lines = source.split("\n")
            lines[row - 1] = lines[row - 1][:column] + name + lines[row - 1][old.end[1] :]
            return "\n".join(lines)
    return source


def _names_at_definition(source: str) -> set[str] | None:
    """Return the names that are looked up when a definition is run, before any call."""
    try:
        node = _one_function(source, "<source>")
    except (SyntaxError, ValueError):
        return None
    of = node.args
    parts: list[ast.expr | None] = [*of.defaults, *of.kw_defaults]
    if not isinstance(node, ast.Lambda):
        every = (*of.posonlyargs, *of.args, *of.kwonlyargs, of.vararg, of.kwarg)
        parts += [*node.decorator_list, node.returns, *(one.annotation for one in every if one)]
    return {
        name.id
        for part in parts
        if part is not None
        for name in ast.walk(part)
        if isinstance(name, ast.Name)
    }


def _names_of(code: CodeType) -> set[str]:
    """Return every name that some code, and the code inside it, uses."""
    codes = [code]
    for one in codes:
        codes += _codes_in(one)
    return {name for one in codes for name in (*one.co_names, *one.co_varnames, *one.co_freevars)}


def _variables(owner: FunctionType) -> dict[str, Any]:
    """Return what a function closes over, without what has no value yet."""
    found = {}
    for name, cell in zip(owner.__code__.co_freevars, owner.__closure__ or (), strict=True):
        try:
            found[name] = cell.cell_contents
        except ValueError:
            continue
    return found


def _import_path(func: Any) -> tuple[str, str] | None:
    """Return the module and the dotted name under which a callable is found, if it is."""
    module, qualname = _attribute(func, "__module__"), _attribute(func, "__qualname__")
    if not (_is_dotted(module) and _is_dotted(qualname)) or module == "__main__":
        return None
    found: Any = sys.modules.get(module)
    for part in qualname.split("."):
        found = _attribute(found, part)
    return (module, qualname) if found is func else None


def _is_dotted(path: object) -> bool:
    return type(path) is str and all(map(_is_plain_name, path.split(".")))


def _is_plain_name(name: object) -> bool:
    """Say whether a name can be written in code, and means itself there."""
    return (
        type(name) is str
        and len(name) <= _SHOWN
        and name.isidentifier()
        and not keyword.iskeyword(name)
        and unicodedata.normalize("NFKC", name) == name
    )


def _positional_names(func: Any) -> tuple[str, ...]:
    """Return the names of the parameters that positional arguments go to, as far as there are."""
    names = []
    for parameter in _signature(func):
        if parameter.kind not in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            break
        names.append(parameter.name)
    return tuple(names)


def _signature(func: Any) -> tuple[inspect.Parameter, ...]:
    try:
        return tuple(inspect.signature(func).parameters.values())
    except Exception:  # noqa: BLE001 - a foreign `__signature__` may raise anything
        return ()


_ATOMS: Final = (type(None), bool, int, float, complex, str, bytes)


def _literal(value: Any) -> str | None:
    """Return the text that means exactly this value; None if there is none, or a long one."""
    due: list[Any] = [value]
    containers: set[int] = set()
    for part in due:
        kind = type(part)
        if kind in (list, dict, set):
            if id(part) in containers:
                return None  # what is one thing in two places, or contains itself
            containers.add(id(part))
        if kind in (list, tuple, set, dict):
            due += part if len(part) < _LITERAL else [part] * _LITERAL
            due += part.values() if kind is dict else ()
        elif kind not in _ATOMS or (kind in (str, bytes) and len(part) > _LITERAL):
            return None
        if len(due) > _LITERAL or (kind is int and part.bit_length() > _LITERAL):
            return None
    try:
        text = repr(value)
        exact = len(text) <= _LITERAL and bool(ast.literal_eval(text) == value)
    except (ValueError, SyntaxError, RecursionError, MemoryError):  # inf, nan; nested deeply
        return None
    return text if exact else None


# -- the debugger ------------------------------------------------------------------------------


def post_mortem(error: BaseException | str | None) -> None:
    """Open the debugger where an error was raised.

    In IPython it is the shell's own, as `%debug` would open it; elsewhere it is `pdb`.

    Parameters
    ----------
    error : exception
        Its frames are looked at, so it must be the one that was raised.

    Raises
    ------
    ValueError
        If it is None, or has no frames: earlier attempts keep the text of theirs alone.

    Examples
    --------
    >>> post_mortem("ValueError: too high")
    Traceback (most recent call last):
        ...
    ValueError: there are no frames to look at: only the text of this error was kept; ...
    """
    if error is None:
        raise ValueError("there are no frames to look at: nothing failed")
    trace = error.__traceback__ if isinstance(error, BaseException) else None
    if not isinstance(error, BaseException) or trace is None:
        message = (
            "there are no frames to look at: only the text of this error was kept; run the "
            "task again to fail with frames"
        )
        raise ValueError(message)
    sys.last_type, sys.last_value, sys.last_traceback = type(error), error, trace
    sys.last_exc = error  # type: ignore[attr-defined,unused-ignore]  # since Python 3.12
    shell = _shell()
    if shell is None:
        import pdb  # noqa: PLC0415, T100 - opened on demand

        pdb.post_mortem(trace)
    else:
        shell.debugger(force=True)


def _shell() -> Any:
    """Return IPython's shell, if we are in one."""
    ipython = sys.modules.get("IPython")
    get_shell = _attribute(ipython, "get_ipython")
    return None if get_shell is None else get_shell()


# -- what changed ------------------------------------------------------------------------------

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
    labels = (_line(before.label, _SHOWN), _line(after.label, _SHOWN))
    old_func, old = _taken_apart(before)
    new_func, new = _taken_apart(after)
    arguments = {}
    for name in dict.fromkeys([*old, *new]):
        if not (name in old and name in new and _same(old[name], new[name])):
            pair = [_short(side[name]) if name in side else NOT_GIVEN for side in (old, new)]
            if pair[0] == pair[1]:
                pair[1] += " (another one, or not comparable)"
            arguments[_line(name, _SHOWN)] = (pair[0], pair[1])
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
    for layer in _layers(func):
        func = layer
        if issubclass(type(layer), partial):
            args = (*_attribute(layer, "args"), *args)
            kwargs = {**_attribute(layer, "keywords"), **kwargs}
        elif type(layer) is MethodType:
            args = (layer.__self__, *args)
        else:
            break
    parameters = _signature(func)
    names = _positional_names(func)[: len(args)]
    rest = next((one.name for one in parameters if one.kind is one.VAR_POSITIONAL), None)
    given = dict(zip(names, args, strict=False))
    for place, value in enumerate(args[len(names) :]):
        given[f"argument {len(names) + place + 1}" if rest is None else f"{rest}[{place}]"] = value
    return func, {**given, **kwargs}


def _code_changes(old: Any, new: Any, labels: tuple[str, str]) -> Iterator[str]:
    """Say how the code of two functions differs."""
    if old is new:
        return
    (old_owner, old_text), (new_owner, new_text) = _owner(old), _owner(new)
    if old_text is not None and new_text is not None:
        sides = old_text.split("\n"), new_text.split("\n")
        for line in difflib.unified_diff(*sides, *labels, lineterm=""):
            yield _printable(line)
    elif old_owner is None or new_owner is None or not _same_code(old_owner, new_owner):
        silent = [_called(f) for f, text in ((old, old_text), (new, new_text)) if text is None]
        both = f"{_called(old)} -> {_called(new)}"
        yield f"{both}; there is no text of {' and of '.join(dict.fromkeys(silent))}"
    if old_owner is None or new_owner is None:
        return
    pairs = [("it closes over", _variables(old_owner), _variables(new_owner))]
    if old_text == new_text:
        pairs.append(("its default of", _defaults(old_owner), _defaults(new_owner)))
    for what, first, then in pairs:
        for name in first:
            if name in then and not _same(first[name], then[name]):
                yield f"{what} {name}: {_short(first[name])} -> {_short(then[name])}"


def _defaults(owner: FunctionType) -> dict[str, Any]:
    parameters = _signature(owner)
    return {one.name: one.default for one in parameters if one.default is not one.empty}


def _same_code(old: FunctionType, new: FunctionType) -> bool:
    """Compare what Python compiled, without where it stood."""
    return _essence(old.__code__) == _essence(new.__code__)


def _essence(code: CodeType) -> tuple[Any, ...]:
    constants = [
        _essence(one) if isinstance(one, CodeType) else repr(one) for one in code.co_consts
    ]
    flags = code.co_flags & ~inspect.CO_NESTED  # where it stood
    names = (code.co_names, code.co_varnames, code.co_freevars, flags)
    return (code.co_code, *names, *constants)


def _called(func: Any) -> str:
    name = _attribute(func, "__qualname__") or type(func).__name__
    return _line(name, 60) if isinstance(name, str) else "a function"


def _is_task(value: object) -> bool:
    return hasattr(type(value), "fsm_state")


def _same(old: Any, new: Any) -> bool:
    """Say whether two arguments are the same, as far as they let themselves be looked at."""
    if old is new or type(old) is not type(new) or _is_task(old):
        return old is new
    texts = _literal(old), _literal(new)
    if None not in texts and texts[0] == texts[1]:
        return True
    if type(old) in _ATOMS:
        return repr(old) == repr(new)  # 0.0 and -0.0 differ, nan and nan do not
    alike = _guarded(lambda: pickle.dumps(old) == pickle.dumps(new))
    return alike is True or (None in texts and _guarded(lambda: old == new) is True)


def _guarded(look: Callable[[], Any]) -> Any:
    """Run code of other people's classes, which may raise anything, SystemExit too."""
    try:
        return look()
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - as said
        return None


class _Short(reprlib.Repr):
    """Short reprs, in which tasks have their names."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 3
        self.maxlist = self.maxtuple = self.maxset = self.maxfrozenset = self.maxdeque = 20
        self.maxdict = self.maxarray = 20
        self.maxstring = self.maxother = self.maxlong = _SHOWN

    def repr1(self, x: Any, level: int) -> str:
        if _is_task(x):
            name = _attribute(x, "name")
            return f"task {shorten(name)}" if isinstance(name, str) else type(x).__name__
        return super().repr1(x, level)


def _short(value: object) -> str:
    """Return the repr of anything on one line, cut, whatever its `__repr__` does."""
    text = _guarded(lambda: _line(_Short().repr(value), _SHOWN))
    return text or f"<{_line(type(value).__name__, 60)} without a repr>"


def _said(error: BaseException | str) -> str:
    """Return an exception's class and words on one line."""
    if isinstance(error, str):
        return _line(error, _SHOWN)
    words = _guarded(lambda: str(error))
    words = words if isinstance(words, str) else "(its text cannot be had)"
    name = type(error).__name__
    return _line(f"{name}: {words}" if words else name, _SHOWN)


def _line(text: object, limit: int) -> str:
    """Return a text on one line of printable characters, cut."""
    if not isinstance(text, str):
        return shorten(text)
    line = " ".join(str.__str__(text)[: 4 * limit].split("\n"))
    shown = _printable(line)
    return shown if len(shown) <= limit and len(text) <= 4 * limit else f"{shown[: limit - 1]}…"


def _printable(line: str) -> str:
    """Write control characters, odd line breaks and lone surrogates as Python would."""
    if line.isprintable():
        return line
    return "".join(
        one if one.isprintable() else one.encode("unicode_escape", "backslashreplace").decode()
        for one in line
    )
