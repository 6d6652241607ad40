"""A call as a cell that makes it again."""

from __future__ import annotations

import ast
import builtins
import inspect
import keyword
import re
import sys
import unicodedata
from types import CodeType, FunctionType
from typing import TYPE_CHECKING, Any

from taskqueue_nb.fsm import shorten
from taskqueue_nb.source.foreign import SHOWN, attribute, one_line, said
from taskqueue_nb.source.functions import all_codes, class_of, is_wrapping, variables_of
from taskqueue_nb.source.kept import Inputs, inputs
from taskqueue_nb.source.layout import first_line, shifted, tokens_of
from taskqueue_nb.source.literals import literal
from taskqueue_nb.source.parsing import one_function
from taskqueue_nb.source.text import owner_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence


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
    raised = f", raised {said(error)}" if error is not None else ""
    shown = one_line(shorten(str.__str__(name)), SHOWN)
    comment = f"# task {shown}, attempt {int(number)}{raised}"
    return _Cell(func, args, kwargs or {}, key).text(comment)


class _Cell:
    """How a call is put down."""

    def __init__(
        self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any], key: str | None
    ) -> None:
        self.func, self.args, self.kwargs, self.key = func, args, kwargs, key
        self.owner, self.source = owner_of(func)
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

    def text(self, comment: str) -> str:
        """Return the whole cell."""
        definition, callee = self._function()
        arguments = ", ".join(self._arguments())
        awaited = "await " if inspect.iscoroutinefunction(self.func) else ""
        call = f"{awaited}{callee}({arguments})"
        top = [comment, *self.imports]
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
        if self.kept.func is not self.func:
            message = f"what is kept under {shorten(self.key)} is of a call of something else"
            raise ValueError(message)
        return self.kept

    def _function(self) -> tuple[list[str], str]:
        """Return the blocks that define the function, and how it is called."""
        owner, source = self.owner, self.source
        if owner and source and self._is_of_the_notebook(source, owner):
            return self._definition(source, owner)
        if found := _import_path(self.func):
            module, qualname = found
            self.imports = [f"import {module}"]
            return [], f"{module}.{qualname}"
        self._inputs()
        return [], f"{self.kept_as}.func"

    def _is_of_the_notebook(self, source: str, owner: FunctionType) -> bool:
        """Say whether the text, run in a cell, gives the same function."""
        is_decorated = first_line(source).startswith("@") and not is_wrapping(self.func)
        if not (type(self.func) is FunctionType or is_decorated) or class_of(owner) is not None:
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
        free = [one for one in owner.__code__.co_freevars if one in variables_of(owner)]
        if not free:
            return [f"{name} = {source}" if is_lambda else _with_name(source, name)], name
        self._inputs()
        maker = self._unused("with_variables")
        inside = f"return {source}" if is_lambda else f"{source}\nreturn {own_name}"
        made = f"def {maker}({', '.join(free)}):\n{shifted(inside, '', '    ')}"
        return [made, f"{name} = {maker}(**{self.kept_as}.variables)"], name

    def _arguments(self) -> Iterator[str]:
        """Write the arguments."""
        for place, value in enumerate(self.args):
            yield literal(value) or f"{self.kept_as}[{_quoted(self._inputs().key_of(place))}]"
        if not all(map(_is_plain_name, self.kwargs)):
            self._inputs()
            yield f"**{self.kept_as}.kwargs"
            return
        for name, value in self.kwargs.items():
            if (written := literal(value)) is None:
                self._inputs()
                written = f"{self.kept_as}[{_quoted(name)}]"
            yield f"{name}={written}"


def _is_of_module(names: dict[str, Any]) -> bool:
    """Say whether some global names are those of a module, and not of a notebook."""
    name = str(names.get("__name__"))
    return name != "__main__" and attribute(sys.modules.get(name), "__dict__") is names


def _quoted(key: object) -> str:
    """Write a key as people do, in double quotes."""
    return f'"{key}"' if isinstance(key, str) and re.fullmatch(r"\w+", key) else repr(key)


def _with_name(source: str, name: str) -> str:
    """Give the definition in a text another name."""
    tokens = tokens_of(source)
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
        node = one_function(source)
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
    return {
        name
        for one in all_codes(code)
        for name in (*one.co_names, *one.co_varnames, *one.co_freevars)
    }


def _import_path(func: Any) -> tuple[str, str] | None:
    """Return the module and the dotted name under which a callable is found, if it is."""
    module, qualname = attribute(func, "__module__"), attribute(func, "__qualname__")
    if not (_is_dotted(module) and _is_dotted(qualname)) or module == "__main__":
        return None
    found: Any = sys.modules.get(module)
    for part in qualname.split("."):
        found = attribute(found, part)
    return (module, qualname) if found is func else None


def _is_dotted(path: object) -> bool:
    return type(path) is str and all(map(_is_plain_name, path.split(".")))


def _is_plain_name(name: object) -> bool:
    """Say whether a name can be written in code, and means itself there."""
    return (
        type(name) is str
        and len(name) <= SHOWN
        and name.isidentifier()
        and not keyword.iskeyword(name)
        and unicodedata.normalize("NFKC", name) == name
    )
