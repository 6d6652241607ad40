"""`Exports`: what a queue, and its live view, can be written to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, overload

if TYPE_CHECKING:
    import os
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["Exports"]

Made = TypeVar("Made", str, bytes)


class Exports:
    """A page and pictures of a queue, for whoever has no kernel.

    Each method takes a path and returns it, or returns the content if there is none. A file is
    written whole or not at all: one that is there already is replaced at the end. Nothing runs,
    and no task changes; of a queue that runs they show the moment.
    """

    __slots__ = ()

    def _exported(self) -> Any:
        """Return the queue that is meant; its class is a layer above."""
        raise NotImplementedError

    @overload
    def to_html(
        self, path: None = None, *, limit: int = 20_000_000, seconds: float = 20.0
    ) -> str: ...

    @overload
    def to_html(
        self, path: str | os.PathLike[str], *, limit: int = 20_000_000, seconds: float = 20.0
    ) -> Path: ...

    def to_html(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        limit: int = 20_000_000,
        seconds: float = 20.0,
    ) -> str | Path:
        """Return or write a page that shows the graph as the live view does, without a kernel.

        It is one file, asks for nothing from anywhere, and can be opened, sent and published. It
        keeps pan, zoom, search, the details of each task, timeline, history with its slider, and
        table; without JavaScript, and on paper, it is a still picture and a table. Whoever gets it
        can read what the details show: arguments, code, output, results as far as they are shown.

        Parameters
        ----------
        path : str or path-like, optional
            The file to write.
        limit : int
            Bytes that the details of all tasks together may have. Beyond it, and after `seconds`,
            the rest have a sentence in their place: tasks that failed, and those with a box of
            their own, come first.
        seconds : float
            Time for looking at arguments and results, whose own `__repr__` may take long or hang.

        Returns
        -------
        str or Path
            The page, or where it was written.

        Examples
        --------
        >>> from taskqueue_nb import Task, TaskQueue
        >>> page = TaskQueue(Task("load", print), name="readings").to_html()
        >>> page[:15], "<title>readings</title>" in page
        ('<!DOCTYPE html>', True)
        """
        from taskqueue_nb.widget.export import page_of  # noqa: PLC0415 - the widget is a layer above

        queue = self._exported()
        return _given(path, lambda: page_of(queue, limit=limit, seconds=seconds))

    @overload
    def to_svg(self, path: None = None, *, max_nodes: int = 200) -> str: ...

    @overload
    def to_svg(self, path: str | os.PathLike[str], *, max_nodes: int = 200) -> Path: ...

    def to_svg(
        self, path: str | os.PathLike[str] | None = None, *, max_nodes: int = 200
    ) -> str | Path:
        """Return or write a still picture as SVG, with the states as they are now.

        It is safe wherever it is shown, dark on a dark page, and names its fonts without bringing
        them.

        Parameters
        ----------
        path : str or path-like, optional
            The file to write.
        max_nodes : int
            The largest number of boxes; more tasks are folded into groups.

        Returns
        -------
        str or Path
            The picture, or where it was written.

        Examples
        --------
        >>> from taskqueue_nb import Task, TaskQueue
        >>> TaskQueue(Task("load", print)).to_svg()[:4]
        '<svg'
        """
        queue = self._exported()
        return _given(path, lambda: _svg_of(queue, max_nodes))

    @overload
    def to_png(
        self, path: None = None, *, scale: float = 2.0, dark: bool = False, max_nodes: int = 200
    ) -> bytes: ...

    @overload
    def to_png(
        self,
        path: str | os.PathLike[str],
        *,
        scale: float = 2.0,
        dark: bool = False,
        max_nodes: int = 200,
    ) -> Path: ...

    def to_png(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        scale: float = 2.0,
        dark: bool = False,
        max_nodes: int = 200,
    ) -> bytes | Path:
        """Return or write a still picture as PNG, with the states as they are now.

        This needs the extra `png`. The text is drawn with the fonts of this machine: where there
        are none, a warning says so.

        Parameters
        ----------
        path : str or path-like, optional
            The file to write.
        scale : float
            Pixels for each px of the picture: 2 is sharp on today's screens and in print.
        dark : bool
            Whether it has the colours for a dark page.
        max_nodes : int
            The largest number of boxes; more tasks are folded into groups.

        Returns
        -------
        bytes or Path
            The picture, or where it was written.

        Raises
        ------
        ImportError
            If the extra is not installed.
        ValueError
            If the scale is no positive number, or the picture would have too many pixels.

        Examples
        --------
        >>> from taskqueue_nb import Task, TaskQueue
        >>> TaskQueue(Task("load", print)).to_png()[1:4]
        b'PNG'
        """
        from taskqueue_nb.drawing.png import png_of  # noqa: PLC0415 - drawing is a layer above

        png = png_of(_svg_of(self._exported(), max_nodes), scale, dark=dark)  # may warn our caller
        return _given(path, lambda: png)


def _svg_of(queue: Any, max_nodes: int) -> str:
    from taskqueue_nb.drawing import tasks_as_svg  # noqa: PLC0415 - drawing is a layer above

    return tasks_as_svg(queue, queue.name, max_nodes=max_nodes)


def _given(path: str | os.PathLike[str] | None, make: Callable[[], Made]) -> Made | Path:
    """Return what is made, or write it into a file and return its path."""
    from taskqueue_nb.drawing.files import write  # noqa: PLC0415 - drawing is a layer above

    if path is None:
        return make()

    def content() -> bytes:
        made = make()
        return made.encode() if isinstance(made, str) else made

    return write(path, content)
