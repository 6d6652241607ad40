"""The debugger, opened where an error was raised."""

from __future__ import annotations

import sys
from typing import Any

from taskqueue_nb.source.foreign import attribute


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
    get_shell = attribute(ipython, "get_ipython")
    return None if get_shell is None else get_shell()
