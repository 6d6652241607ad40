"""What was called, kept for as long as an attempt lives, and found again by a cell."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakValueDictionary

from taskqueue_nb.fsm import shorten
from taskqueue_nb.source.functions import positional_names, variables_of
from taskqueue_nb.source.text import owner_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_KEPT: Final[WeakValueDictionary[str, Inputs]] = WeakValueDictionary()
_PLACE: Final = "_kept_inputs"  # the attribute by which an owner keeps them: (key, inputs)


class Inputs:
    """What a function was called with, by the names of its parameters.

    Attributes
    ----------
    func : callable
        The function.
    args, kwargs
        The arguments, as they were given.
    variables : dict
        What the function closes over.
    """

    def __init__(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any] | None) -> None:
        self.func, self.args, self.kwargs = func, tuple(args), dict(kwargs or {})
        owner = owner_of(func)[0]
        self.variables = variables_of(owner) if owner else {}
        self._names = positional_names(func)[: len(self.args)]

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

    def key_of(self, place: int) -> str | int:
        """Return by what name or place a positional argument is found."""
        if place < len(self._names) and self._names[place] not in self.kwargs:
            return self._names[place]
        return place


def keep(owner: Any, args: Sequence[Any], kwargs: Mapping[str, Any] | None, func: Any) -> str:
    """Keep what was called for as long as an owner lives.

    Parameters
    ----------
    owner : object
        Usually an attempt. It is given an attribute, and is not kept alive by it.
    args, kwargs
        The arguments.
    func : callable
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
