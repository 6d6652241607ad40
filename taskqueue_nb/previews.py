"""Values as pictures, tables and marked-up text: what their classes show of them.

A front end would ask a value for all that it can be shown as. Here it is asked for one form after
another, until one is there that is small enough; whatever its methods do, nothing is raised, and
nothing is printed. What is HTML stays foreign: whoever shows it has to lock it up.
"""

from __future__ import annotations

import struct
import sys
from base64 import b64decode, b64encode
from typing import TYPE_CHECKING, Any, Final

from taskqueue_nb.reprs import described
from taskqueue_nb.source.foreign import attribute, guarded

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["Rich", "chosen", "described_richly", "is_plain", "rich"]

LARGEST: Final = 200_000  # bytes of a picture, characters of a text
_PIXELS: Final = 25_000_000  # that a page has to unpack
_SIDE: Final = 900  # px to which a photograph is made smaller

#: The forms, the best one for a page without scripts first: MIME type, method, what people call it.
_FORMS: Final = (
    ("image/png", "_repr_png_", "picture"),
    ("image/jpeg", "_repr_jpeg_", "picture"),
    ("image/svg+xml", "_repr_svg_", "picture"),
    ("text/html", "_repr_html_", "HTML"),
    ("text/markdown", "_repr_markdown_", "Markdown"),
    ("text/latex", "_repr_latex_", "LaTeX"),
)
_PLAIN: Final = frozenset(
    {bool, int, float, complex, str, bytes, type(None), list, tuple, set, frozenset, dict, range}
)

Rich = dict[str, Any]
"""The `Rich` of `static/types.d.ts`: what kind of thing it is, its data, a sentence about it."""


def is_plain(value: object) -> bool:
    """Say whether a value is of a builtin type, of which there is nothing but text to show."""
    return type(value) in _PLAIN


def rich(value: object) -> Rich | None:
    """Return what a value's class shows of it besides text.

    Parameters
    ----------
    value : object
        Anything. Its methods are called, so it takes as long as they do.

    Returns
    -------
    dict or None
        `kind` is "image" with a data URL, "html", "text", or "" if there are only forms that are
        too large; `called` is the form's name, `note` a sentence for whoever looks. None if
        there is only text.

    Examples
    --------
    >>> class Sum:
    ...     def _repr_latex_(self): return "$a + b$"
    >>> rich(Sum())
    {'kind': 'text', 'called': 'LaTeX', 'data': '$a + b$', 'note': ''}
    >>> rich(3) is None
    True
    """
    if is_plain(value) or issubclass(type(value), type):
        return None
    found: Rich | None = guarded(lambda: _first(_Asked(value).form))
    return found


def chosen(bundle: Mapping[str, Any]) -> Rich | None:
    """Return the same of what was displayed, a MIME bundle.

    Examples
    --------
    >>> chosen({"text/plain": "a table", "text/html": "<table></table>"})["kind"]
    'html'
    """
    found: Rich | None = guarded(lambda: _first(lambda mime, _method: bundle.get(mime)))
    return found


def described_richly(value: object, limit: int) -> tuple[tuple[str, str], Rich | None]:
    """Return the name of a value's type and its repr, cut, and what else its class shows of it.

    It raises nothing, and is found by its name on workers of a cluster, where results may be.
    """
    return described(value, limit), rich(value)


def _first(ask: Callable[[str, str], Any]) -> Rich | None:
    """Return the first form that is there and small enough, else why none is."""
    notes = []
    for mime, method, called in _FORMS:
        data = ask(mime, method)
        if isinstance(data, tuple) and data:  # with metadata
            data = data[0]
        if isinstance(data, list) and all(isinstance(line, str) for line in data):
            data = "".join(data)  # lines, as a notebook file has them
        if isinstance(data, str):
            data = str.__str__(data)  # and not what a class derived from it does
        elif isinstance(data, bytes):
            data = bytes(memoryview(data))
        if not isinstance(data, (str, bytes)) or not data:
            continue
        shown, note = _image(mime, data) if called == "picture" else _text(called, data)
        if shown is not None:
            return shown
        notes.append(note)
    return {"kind": "", "called": "", "data": "", "note": notes[0]} if notes else None


def _text(called: str, data: str | bytes) -> tuple[Rich | None, str]:
    text = data if isinstance(data, str) else data.decode(errors="replace")
    if len(text) > LARGEST:
        return None, _too_large(called, len(text), "characters")
    note = ""
    if called == "HTML" and "<script" in text.casefold():
        note = "Its scripts do not run here; display it in a cell for that."
    kind = "html" if called == "HTML" else "text"
    return {"kind": kind, "called": called, "data": text, "note": note}, ""


def _too_large(called: str, size: int, unit: str) -> str:
    return f"Its {called} has {size:,} {unit}; up to {LARGEST:,} are shown here."


def _image(mime: str, data: str | bytes) -> tuple[Rich | None, str]:
    """Return a picture as a data URL, if it is what it says."""
    if isinstance(data, bytes):
        raw = data
    elif mime == "image/svg+xml":
        raw = data.encode(errors="replace")
    else:
        raw = b64decode(data[: 2 * LARGEST], validate=False)
    if len(raw) > LARGEST:
        return None, _too_large("picture", len(raw), "bytes")
    size = _SIZES[mime](raw)
    if size is None:
        return None, f"Its picture is no {mime.partition('/')[2]}."
    if size[0] * size[1] > _PIXELS:
        return None, f"Its picture has {size[0]:,} by {size[1]:,} pixels, too many to show here."
    url = f"data:{mime};base64,{b64encode(raw).decode('ascii')}"
    return {"kind": "image", "called": "picture", "data": url, "note": ""}, ""


def _size_of_png(raw: bytes) -> tuple[int, int] | None:
    if raw[:8] != b"\x89PNG\r\n\x1a\n" or raw[12:16] != b"IHDR" or len(raw) < 24:  # noqa: PLR2004 - of the format
        return None
    width, height = struct.unpack(">II", raw[16:24])
    return width, height


def _size_of_jpeg(raw: bytes) -> tuple[int, int] | None:
    """Read the segments of a JPEG up to the one that tells its size."""
    if raw[:2] != b"\xff\xd8":
        return None
    at = 2
    while at + 9 <= len(raw) and raw[at] == 0xFF:  # noqa: PLR2004 - as above
        kind, length = raw[at + 1], int.from_bytes(raw[at + 2 : at + 4], "big")
        if 0xC0 <= kind <= 0xCF and kind not in (0xC4, 0xC8, 0xCC):  # noqa: PLR2004 - as above
            height, width = struct.unpack(">HH", raw[at + 5 : at + 9])
            return width, height
        at += 2 + length
    return None


def _size_of_svg(raw: bytes) -> tuple[int, int] | None:
    return (1, 1) if b"<svg" in raw else None  # it is drawn as large as it is shown


_SIZES: Final = {
    "image/png": _size_of_png,
    "image/jpeg": _size_of_jpeg,
    "image/svg+xml": _size_of_svg,
}


class _Asked:
    """A value that is asked for one form after another."""

    def __init__(self, value: Any) -> None:
        self._value = _smaller(value)
        shell = attribute(_module("IPython"), "get_ipython")
        formatter = attribute(guarded(shell), "display_formatter") if shell is not None else None
        self._formatters = attribute(formatter, "formatters")
        self._bundle: Any = None
        method = attribute(type(value), "_repr_mimebundle_")
        if callable(method):
            bundle = guarded(lambda: method(value, include=None, exclude=None))
            self._bundle = bundle[0] if isinstance(bundle, tuple) and bundle else bundle

    def form(self, mime: str, name: str) -> Any:
        """Return a form of the value; None if it has no such form, or that raises."""
        value = self._value
        if isinstance(self._bundle, dict) and self._bundle.get(mime) is not None:
            return self._bundle[mime]
        printer = guarded(lambda: self._formatters[mime].lookup(value))
        if callable(printer):  # somebody has told IPython how to show such values
            return guarded(lambda: printer(value))
        method = attribute(type(value), name)
        if callable(method):
            return guarded(lambda: method(value))
        return _figure(value) if mime == "image/png" else None


def _module(name: str) -> Any:
    """Return a module that somebody has imported already."""
    return sys.modules.get(name)


def _is_a(value: object, module: str, name: str) -> bool:
    kind = attribute(_module(module), name)
    return isinstance(kind, type) and isinstance(value, kind)


def _smaller(value: Any) -> Any:
    """Return a photograph as large as it is shown; anything else as it is."""
    if not _is_a(value, "PIL.Image", "Image") or max(value.size) <= _SIDE:
        return value
    copy = value.copy()
    copy.thumbnail((_SIDE, _SIDE))
    return copy


def _figure(value: Any) -> bytes | None:
    """Draw a figure of matplotlib, which IPython knows only once pyplot is imported."""
    if not _is_a(value, "matplotlib.figure", "Figure"):
        return None
    from io import BytesIO  # noqa: PLC0415 - only figures need it

    drawn = BytesIO()
    guarded(lambda: value.savefig(drawn, format="png", bbox_inches="tight"))
    return drawn.getvalue()
