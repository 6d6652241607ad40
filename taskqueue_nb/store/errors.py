"""What goes wrong with a store, and how errors of an earlier kernel come back."""

from __future__ import annotations

from taskqueue_nb.task import TaskError


class StoreError(RuntimeError):
    """A store cannot be used; nothing in it was changed.

    Parameters
    ----------
    path : str
        The file.
    reason : str
        What is the matter, and what would help.
    """

    def __init__(self, path: str = "", reason: str = "") -> None:
        super().__init__(path, reason)
        self.path, self.reason = path, reason

    def __str__(self) -> str:
        return f"store {self.path!r}: {self.reason}"


class StoreWarning(UserWarning):
    """Something is not stored, or not as usual; the run goes on."""


class EarlierError(TaskError):
    """What a task raised in an earlier kernel, in words: the exception itself is gone.

    Its class is not looked up by name, so that a store cannot have anything imported.
    """
