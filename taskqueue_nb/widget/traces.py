"""Tracebacks as data: whose frames they are, the lines around, and how one error led to another."""

from __future__ import annotations

import linecache
import os
import re
import sysconfig
import traceback
from functools import cache
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from IPython.core.getipython import get_ipython

from taskqueue_nb.source.foreign import attribute, guarded
from taskqueue_nb.widget.words import clean, one_line

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import CodeType, TracebackType

__all__ = ["failing_line", "trace_of"]

_ERRORS: Final = 12  # of a chain or a group
_HEAD: Final = 10  # frames of one error that are kept from its beginning
_TAIL: Final = 20  # and from its end
_FRAMES: Final = 60  # of all errors together
_AROUND: Final = 2  # lines before and after the failing one
_LINE: Final = 200  # characters of a line of code
_WORDS: Final = 3_000  # of an exception's words
_NOTES: Final = 10
_DEEPEST: Final = 3  # groups within groups
_LONGEST: Final = 300_000  # characters of a text that is taken apart

_OURS: Final = __name__.partition(".")[0]
_EDITED: Final = re.compile(r"<(?P<called>.+, edited \d+)>")
_INSTALLED: Final = re.compile(r"[/\\](?:site|dist)-packages[/\\](?P<path>.+)")

_LEADS: Final = {
    "cause": "The direct cause was:",
    "context": "It was raised while this was handled:",
}


class _Home(NamedTuple):
    """Where some code stands: its label, and the library that it is of; "" for the user's own."""

    label: str
    package: str


def trace_of(error: object, text: str) -> list[dict[str, Any]]:
    """Return a failure as data.

    Parameters
    ----------
    error : exception, str or None
        What was raised; its frames are looked at if there are any.
    text : str
        Its traceback, where only that came here from another process, or was kept; else "".

    Returns
    -------
    list of dict
        The `Raised` of `static/types.d.ts`, what was raised first, then how it came to that; empty
        if the text is none of Python's usual ones. Less than 100 kB.
    """
    if text:
        return _from_text(text)
    if not isinstance(error, BaseException):
        return []
    found = list(islice(_errors(error, "", 0, set()), _ERRORS + 1))
    if len(found) > _ERRORS:
        found[-1:] = [_raised("… and more", "Further errors are left out.", [], depth=0)]
    return _bounded(found)


def _raised(
    says: str, lead: str, frames: list[dict[str, Any]], *, depth: int, notes: Sequence[str] = ()
) -> dict[str, Any]:
    return {
        "says": clean(says, _WORDS),
        "lead": lead,
        "depth": depth,
        "notes": [clean(note, _WORDS) for note in notes[:_NOTES]],
        "frames": frames,
    }


def _bounded(errors: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Leave out frames of what comes last, if there are very many."""
    left = _FRAMES
    for error in errors:
        kept = error["frames"][-left:] if left > 0 else []
        if len(kept) < len(error["frames"]):
            kept = [_left_out(len(error["frames"]) - len(kept)), *kept]
        error["frames"] = kept
        left -= len(kept)
    return errors


# -- from an exception --------------------------------------------------------------------------


def _errors(
    error: BaseException, lead: str, depth: int, seen: set[int]
) -> Iterator[dict[str, Any]]:
    """Yield an error, the members of a group, and what led to it; each once."""
    seen.add(id(error))
    yield _raised(
        _words(error),
        lead,
        _frames(attribute(error, "__traceback__")),
        depth=depth,
        notes=_notes(error),
    )
    members = attribute(error, "exceptions") if isinstance(error, BaseExceptionGroup) else None
    if isinstance(members, tuple) and depth < _DEEPEST:
        for number, member in enumerate(members, 1):
            if isinstance(member, BaseException) and id(member) not in seen:
                which = f"{number} of {len(members)} in this group:"
                yield from _errors(member, which, depth + 1, seen)
    cause, context = attribute(error, "__cause__"), attribute(error, "__context__")
    if attribute(error, "__suppress_context__") is True:
        context = None
    for link, before in (("cause", cause), ("context", None if cause is not None else context)):
        if isinstance(before, BaseException) and id(before) not in seen:
            yield from _errors(before, _LEADS[link], depth, seen)


def _words(error: BaseException) -> str:
    """Return the last lines of a traceback, without notes."""
    kind = type(error)
    if issubclass(kind, SyntaxError):
        lines = guarded(lambda: traceback.format_exception_only(kind, error))
        if isinstance(lines, list):
            notes = attribute(error, "__notes__") or ()
            return "".join(map(str, lines[: len(lines) - len(notes)])).rstrip("\n")
    module = kind.__module__
    name = kind.__qualname__
    if isinstance(module, str) and module not in ("builtins", "__main__"):
        name = f"{module}.{name}"
    words = guarded(lambda: str(error))
    if not isinstance(words, str):
        words = "(its text cannot be had)"
    return f"{name}: {words}" if words else name


def _notes(error: BaseException) -> list[str]:
    notes = attribute(error, "__notes__")
    if not isinstance(notes, (list, tuple)):
        return []
    return [note for note in notes if isinstance(note, str)]


def _frames(trace: TracebackType | None) -> list[dict[str, Any]]:
    """Return the frames of a traceback, of many the first and the last ones."""
    found = []
    while trace is not None:
        found.append(trace)
        trace = trace.tb_next
    cut = len(found) - _HEAD - _TAIL
    if cut <= 1:
        return list(map(_frame, found))
    head = list(map(_frame, found[:_HEAD]))
    return [*head, _left_out(cut), *map(_frame, found[-_TAIL:])]


def _left_out(count: int) -> dict[str, Any]:
    return {"left": count}


def _frame(trace: TracebackType) -> dict[str, Any]:
    code = trace.tb_frame.f_code
    filename, number = code.co_filename, trace.tb_lineno
    home = _home(filename)
    lines: list[str] = []
    if os.path.isfile(filename) or filename in linecache.cache:  # noqa: PTH113 - a text that may be no path
        linecache.checkcache(filename)
        lines = linecache.getlines(filename, trace.tb_frame.f_globals)
    return _told(home, filename, number, code.co_name, lines, _span(code, trace.tb_lasti, number))


def _span(code: CodeType, last: int, number: int) -> tuple[int, int] | None:
    """Return which bytes of the failing line were being worked out, if they are of one line."""
    spot = next(islice(code.co_positions(), last // 2, None), None) if last >= 0 else None
    if spot is None or spot[:2] != (number, number) or spot[2] is None or spot[3] is None:
        return None
    return spot[2], spot[3]


def _told(  # noqa: PLR0913, PLR0917 - a frame has as many parts
    home: _Home,
    filename: str,
    number: int,
    name: str,
    lines: Sequence[str],
    span: tuple[int, int] | None,
) -> dict[str, Any]:
    """Return a frame with the line at which it stands, and those around it if it is the user's."""
    first, shown = _lines_around(lines, number, 0 if home.package else _AROUND)
    margin = min((len(line) - len(line.lstrip()) for line in shown if line.strip()), default=0)
    part = None
    if span is not None and 1 <= number <= len(lines):
        raw = lines[number - 1].encode(errors="surrogatepass")
        ends = [len(raw[:end].decode(errors="replace")) - margin for end in span]
        whole = lines[number - 1].strip()
        if 0 <= ends[0] < ends[1] <= _LINE and ends[1] - ends[0] < len(whole):
            part = ends
    return {
        "file": home.label,
        "path": one_line(filename, 300),
        "line": number,
        "name": one_line(name, 100),
        "package": home.package,
        "first": first,
        "code": [clean(line[margin : margin + _LINE], _LINE) for line in shown],
        "part": part,
    }


def _lines_around(lines: Sequence[str], number: int, around: int) -> tuple[int, list[str]]:
    """Return the lines around one, as far as they belong to the same function, and the first's."""
    if not 1 <= number <= len(lines):
        return number, []
    here = lines[number - 1]
    before, after = [], []
    for line in reversed(lines[max(0, number - 1 - around) : number - 1]):
        before.append(line)
        if _begins_outside(line, here):
            break
    for line in lines[number : number + around]:
        if _begins_outside(line, here):
            break
        after.append(line)
    while after and not after[-1].strip():
        del after[-1]
    while before and not before[-1].strip():
        del before[-1]
    shown = [line.rstrip("\r\n") for line in (*reversed(before), here, *after)]
    return number - len(before), shown


def _begins_outside(line: str, here: str) -> bool:
    """Say whether a line begins a function or class that is further out than another line."""
    begins = _BEGINNING.match(line)
    return begins is not None and len(begins["margin"]) <= len(here) - len(here.lstrip())


_BEGINNING: Final = re.compile(r"(?P<margin>\s*)(?:@|def\b|async def\b|class\b)")


def _home(filename: str) -> _Home:
    """Say where some code stands, as its user knows it."""
    compiler = attribute(get_ipython(), "compile")
    told = guarded(lambda: compiler.format_code_name(filename)) if compiler is not None else None
    if isinstance(told, tuple):  # "Cell", "In[3]"
        return _Home(one_line(" ".join(map(str, told)), 60), "")
    if edited := _EDITED.fullmatch(filename):
        return _Home(one_line(edited["called"], 80), "")
    if filename.startswith("<frozen "):
        return _Home(one_line(filename, 80), "Python")
    if filename.startswith("<__array_function__"):
        return _Home(one_line(filename, 80), "numpy")
    return _home_of_file(filename)


def _home_of_file(filename: str) -> _Home:
    if installed := _INSTALLED.search(filename):
        return _of_library(installed["path"])
    path = os.path.normpath(filename)
    ours, *places = _places()
    if path.startswith(ours):
        return _Home(one_line(f"{_OURS}/{path[len(ours) :]}", 80), _OURS)
    for place in places:
        if path.startswith(place):
            return _of_library(path[len(place) :])
    return _Home(one_line(os.path.basename(path), 80), "")  # noqa: PTH119 - of a text, not of a file


@cache
def _places() -> tuple[str, ...]:
    """Return the folders of this package and of the standard library, with what ends them."""
    ours = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120 - prefixes of texts
    library = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib")}
    return tuple(os.path.normpath(path) + os.sep for path in (ours, *sorted(filter(None, library))))


def _of_library(path: str) -> _Home:
    path = path.replace("\\", "/")
    package = path.partition("/")[0].removesuffix(".py")
    return _Home(one_line(path, 80), one_line(package, 40) or "Python")


# -- from a text --------------------------------------------------------------------------------

_BEGINS: Final = "Traceback (most recent call last):"
_PLACE: Final = re.compile(r'  File "(?P<file>[^"\n]*)", line (?P<line>\d{1,9}), in (?P<name>.*)')
_REPEATED: Final = re.compile(r"  \[Previous line repeated (?P<count>\d{1,9}) more times?\]")
_MARKS: Final = re.compile(r"[ ~^]*[~^][ ~^]*")
_CHAINED: Final = re.compile(
    r"\n\n(?:(?P<cause>The above exception was the direct cause of the following exception:)"
    r"|During handling of the above exception, another exception occurred:)\n\n"
)


def _from_text(text: str) -> list[dict[str, Any]]:
    """Take a traceback of Python's usual form apart; of any other one nothing is known."""
    if len(text) > _LONGEST or _BEGINS not in text:
        return []
    blocks, links, start = [], [], 0
    for joint in _CHAINED.finditer(text):
        blocks.append(text[start : joint.start()])
        links.append("cause" if joint["cause"] else "context")
        start = joint.end()
    blocks.append(text[start:])
    found = []
    for block, link in zip(reversed(blocks), ("", *reversed(links)), strict=True):
        error = _from_block(block, _LEADS.get(link, ""))
        if error is None:
            return []
        found.append(error)
    if not any(error["frames"] for error in found):
        return []
    return _bounded(found[:_ERRORS])


def _from_block(block: str, lead: str) -> dict[str, Any] | None:
    lines = block.rstrip("\n").split("\n")
    frames: list[dict[str, Any]] = []
    if lines[0] == _BEGINS:
        del lines[0]
        while lines and (place := _PLACE.fullmatch(lines[0])):
            del lines[0]
            code = []
            while lines and lines[0].startswith("    "):
                code.append(lines.pop(0))
            frames.append(_frame_told(place, code))
            if lines and (again := _REPEATED.fullmatch(lines[0])):
                del lines[0]
                frames.append(_left_out(int(again["count"])))
        cut = len(frames) - _HEAD - _TAIL
        if cut > 1:
            frames = [*frames[:_HEAD], _left_out(cut), *frames[-_TAIL:]]
    if not lines or not lines[0].strip() or (lines[0][0] == " " and not frames):
        return None
    return _raised("\n".join(lines), lead, frames, depth=0)


def _frame_told(place: re.Match[str], code: Sequence[str]) -> dict[str, Any]:
    """Return a frame that a text tells of; the lines around it where they are still the same."""
    filename, number = place["file"], int(place["line"])
    home = _home(filename)
    said = code[0].strip() if code else ""
    known = linecache.getlines(filename) if filename in linecache.cache else []
    if said and number <= len(known) and known[number - 1].strip() == said:
        return _told(home, filename, number, place["name"], known, None)
    frame = _told(home, filename, number, place["name"], (), None)
    frame["first"] = number
    frame["code"] = [clean(said, _LINE)] if said and not _MARKS.fullmatch(said) else []
    return frame


# -- where the source of a function failed --------------------------------------------------------


def failing_line(func: Any, source: str, error: object) -> int | None:
    """Return the line of a function's text at which an error left it, from 1; None if unknown."""
    code = attribute(func, "__code__")
    trace = attribute(error, "__traceback__") if isinstance(error, BaseException) else None
    number = None
    while trace is not None:
        if trace.tb_frame.f_code is code:
            number = trace.tb_lineno
        trace = trace.tb_next
    if code is None or number is None:
        return None
    rows = source.split("\n")
    said = linecache.getline(code.co_filename, number).strip()
    alike = [row for row, line in enumerate(rows, 1) if said and line.strip() == said]
    offset = number - code.co_firstlineno + 1  # decorators that are left out stand before it
    edited = _EDITED.fullmatch(code.co_filename) is not None
    wanted = number if edited else offset
    return min(alike, key=lambda row: abs(row - wanted), default=None)
