"""Edited text as a function that can stand in for another one."""

from __future__ import annotations

import ast
import inspect
import sys
from functools import partial
from itertools import takewhile
from types import CodeType, FunctionType, MethodType
from typing import Any, Final

from taskqueue_nb.fsm import shorten
from taskqueue_nb.source.foreign import attribute
from taskqueue_nb.source.functions import FUTURES, class_of, codes_in, is_wrapping, layers_of
from taskqueue_nb.source.lines import keep_lines, next_filename
from taskqueue_nb.source.parsing import UNNAMED, Function, explained, one_function
from taskqueue_nb.source.text import LONGEST, owner_of

_NEW: Final = "<edited>"  # no name that a text can use, so that none is bound


def compiled(source: str, like: Any = None) -> Any:
    """Turn edited text into a function that can stand in for another one.

    Parameters
    ----------
    source : str
        One function definition, with decorators if need be, or one lambda.
    like : callable, optional
        The function that it replaces. The new one sees the same global names and closes over the
        same variables, and has its name and module; its defaults are those of the text. A partial
        or a bound method gives one again. Without it, the text runs in `__main__`.

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

    Tracebacks call its file `<clean, edited 2>`, by the name of the function that it replaces, and
    show its lines.

    Examples
    --------
    >>> def clean(rows, threshold=3):
    ...     return [row for row in rows if row > threshold]
    >>> edited = compiled("def clean(rows): return [row for row in rows if row > 1]", clean)
    >>> edited([1, 2, 3, 4]), clean([1, 2, 3, 4])
    ([2, 3, 4], [4])
    """
    text = _checked(source)
    owner = owner_of(like)[0]
    node = one_function(text)
    own_name = "<lambda>" if isinstance(node, ast.Lambda) else node.name
    filename = next_filename(owner.__name__ if owner else own_name)
    with explained(text, filename):
        code = _factory_code(node, owner, filename)
    code = _renamed(code, own_name, owner)
    keep_lines(text, code, _function_code(code))
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
            raise SyntaxError(f"{what} in the text", (UNNAMED, number, 1, shown))
    return text if text.endswith("\n") else f"{text}\n"


def _factory_code(node: Function, owner: FunctionType | None, filename: str) -> CodeType:
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
    home = class_of(owner)
    enclosing.name = home
    if home is None:
        module.body = [outer]
    flags = owner.__code__.co_flags & FUTURES if owner else 0
    code: CodeType = compile(module, filename, "exec", flags, dont_inherit=True)
    for inner in ("outer", "factory") if home is None else (home, "outer", "factory"):
        code = next(one for one in codes_in(code) if one.co_name == inner)
    return code


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
    code = codes_in(factory)[-1]
    while code.co_name.startswith("<generic parameters"):  # since Python 3.12
        code = codes_in(code)[-1]
    return code


def _plain(made: Any) -> Any:
    """Return the function that the decorators of a text have made."""
    if isinstance(made, (staticmethod, classmethod)):
        return made.__func__
    if type(made) is not FunctionType and not isinstance(made, (partial, MethodType)):
        inner = attribute(made, "func")
        if inner is not None and inner is attribute(made, "__wrapped__"):
            return inner
    if not callable(made):
        message = (
            f"the decorators make {shorten(made)} of the function; something to call is wanted"
        )
        raise ValueError(message)  # noqa: TRY004 - what is wrong is the text, not its type
    return made


def _dressed_like(like: Any, made: Any) -> Any:
    """Put a function into the partials and methods that another one was in."""
    layers: list[Any] = list(takewhile(is_wrapping, layers_of(like)))
    for layer in reversed(layers):
        if type(layer) is MethodType:
            made = MethodType(made, layer.__self__)
        else:
            made = partial(made, *layer.args, **layer.keywords)
    return made
