"""What is written into files: whole or not at all."""

from __future__ import annotations

import errno
import os
import secrets
import stat
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["write"]


def write(path: str | os.PathLike[str], make: Callable[[], bytes]) -> Path:
    """Write a file so that whoever reads it sees the old content or the new one, never a part.

    Parameters
    ----------
    path : str or path-like
        Where. A link is followed; a file that is there is replaced, and keeps its permissions.
    make : callable
        Returns the content. It is called once the folder is known to take a file.

    Returns
    -------
    Path
        The path, as it was given.

    Raises
    ------
    OSError
        If there is no such folder, or it takes no file. Nothing is left there then.
    """
    given = Path(path)
    if given.is_dir():
        raise IsADirectoryError(errno.EISDIR, "a folder, where a file is wanted", os.fspath(given))
    if given.exists() and not given.is_file():  # a pipe, a terminal: nothing to be replaced
        given.write_bytes(make())
        return given
    target = Path(os.path.realpath(given))
    temporary = target.with_name(f".{target.name[:80]}.{secrets.token_hex(4)}.tmp")
    try:
        # not tempfile, whose files nobody else may read: a page is for others
        with temporary.open("xb") as file:
            file.write(make())
        with suppress(FileNotFoundError):
            temporary.chmod(stat.S_IMODE(target.stat().st_mode))
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return given
