"""A queue as a page without a kernel: one file, which asks for nothing from anywhere.

The page holds the modules of the live view, and what the kernel would tell them as data. No text
of a user is in it but as JSON or escaped, so none can be a script, and the page's own policy lets
no script run but that one.
"""

from __future__ import annotations

import json
import logging
import threading
from base64 import b64encode
from datetime import datetime
from functools import partial
from hashlib import sha256
from queue import Empty, SimpleQueue
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from taskqueue_nb import palette
from taskqueue_nb.drawing import look_of, xml
from taskqueue_nb.drawing.picture import DARK, summary, themed
from taskqueue_nb.reprs import below_html
from taskqueue_nb.widget import (
    TaskGraph,
    _at_of,
    _group,
    _heading,
    _Laid,
    _lay_out,
    _looks,
    _picture,
    _task_at,
)
from taskqueue_nb.widget.details import details_of, one_line
from taskqueue_nb.widget.mending import Mending
from taskqueue_nb.widget.modules import linked, styles
from taskqueue_nb.widget.progress import FALLEN, Clock
from taskqueue_nb.widget.record import Record, _critical_message, _structure
from taskqueue_nb.widget.table import _row

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from taskqueue_nb.taskqueue import TaskQueue

__all__ = ["page_of"]

_LOG: Final = logging.getLogger("taskqueue_nb")

_PATIENCE: Final = 1.0  # seconds for one task, whose objects may hang when they are looked at
_REPEATED: Final = 100  # characters from which on a value that comes again is written once
_ROWS: Final = 500_000  # transitions, 20 bytes each
_LISTED: Final = 20_000  # tasks that can be found by their names, and are in the table
_KEPT: Final = 2_000_000  # bytes of the details of one task

_LATE: Final = "Its details were left out: reading them took too long."
_LARGE: Final = "Its details were left out, so that this page did not grow too large."


def page_of(queue: TaskQueue, *, limit: int = 20_000_000, seconds: float = 20.0) -> str:
    """Return a page that shows a queue as it is now.

    Parameters
    ----------
    queue : TaskQueue
        What to show.
    limit : int
        Bytes that the details of all tasks together may have.
    seconds : float
        Time for looking at objects of others.
    """
    until = monotonic() + seconds
    saved = datetime.now().astimezone()
    laid, mending = _lay_out(queue), Mending(queue)
    running = queue.running
    record = _record(queue, laid, saved)
    trouble = _mended(queue, mending, laid, until)
    counts = queue.counts()
    progress = Clock().progress(queue, counts)
    traits: dict[str, Any] = {
        "svg": "",
        "says": {},
        **_picture(laid, mending.is_stale),
        "counts": counts,
        "progress": {**progress, "running": False, "held": False, "left": None},
        "mending": trouble,
        "looks": _looks(),
        "heading": _heading(queue),
        "key": "a page has no other picture to hide",
        "still": True,
        "details": {},
        "answers": [],
        "table": {},
        "finds": {"text": "", "hits": [], "total": 0},
        "selected": "",
        "parts": {},
    }
    boxes = None if laid.drawing is None else laid.boxes
    still = _still(queue, laid, counts, _one(lambda: below_html(queue, boxes), until) or "")
    details = _Details(limit)
    details.read(_in_order(laid), laid, mending, until)
    parts = {"traits": _json(traits), **details.parts(), **_rows(laid), "record": _json(record)}
    return _page(traits["heading"], _when(saved, running=running), still, _object(parts))


def _mended(queue: TaskQueue, mending: Mending, laid: _Laid, until: float) -> dict[str, Any]:
    """Return what stands above the graph: causes, but nothing that could be done about them."""
    if not queue.running:
        _one(mending.look_for_stale, until)  # it compares values
    nothing = {"says": "", "plan": ""}
    found = _one(lambda: mending.toolbar(laid.places), until) or {"causes": "", "at": []}
    return {**found, "undo": "", "retry": nothing, "refresh": nothing}


# -- what has happened -------------------------------------------------------------------------


def _record(
    queue: TaskQueue, laid: _Laid, saved: datetime
) -> list[tuple[dict[str, Any], list[str]]]:
    """Return what the kernel would send of every transition; nothing if there are very many."""
    record = Record(queue)
    count = record.gather(0.0)
    if count > _ROWS:
        return []
    structure, buffers = _structure(laid, _at_of)
    rows = {
        "part": "record",
        "from": 0,
        "count": count,
        "total": count,
        "now": saved.timestamp(),
        "patch": [],
        "workers": record.workers,
    }
    critical = None if queue.running else record.critical()
    messages = [
        ({**structure, "names": {}}, buffers),  # they stand elsewhere in the page
        (rows, record.columns(0, count)),
        _critical_message(critical),
    ]
    return [
        (message, [b64encode(each).decode("ascii") for each in data]) for message, data in messages
    ]


# -- details -----------------------------------------------------------------------------------


def _in_order(laid: _Laid) -> list[str]:
    """Return what has details as the page calls it, what will be wanted first."""
    own = [_at_of(box, laid) for box in laid.boxes]
    fallen = [str(place) for task, place in laid.places.items() if task.fsm_state in FALLEN]
    return [*dict.fromkeys([*fallen, *own, *map(str, range(len(laid.tasks)))])]


class _Details:
    """The details of tasks and groups as JSON, of bounded size."""

    def __init__(self, limit: int) -> None:
        self._left = limit
        self._of: list[str] = []
        self._values: dict[str, int] = {}
        self.rest = _LATE

    def read(self, places: Sequence[str], laid: _Laid, mending: Mending, until: float) -> None:
        """Take in the details at some places, as many as there are time and room for."""
        jobs = [partial(_found, at, laid, mending) for at in places]
        for at, found in zip(places, _each(jobs, until), strict=False):
            told = found or {**_bare(at, laid), "why": _LATE}
            if not self._add(at, told):
                self.rest = _LARGE
                return

    def _add(self, at: str, details: dict[str, Any]) -> bool:
        parts = {key: _json(value) for key, value in details.items()}
        if sum(map(len, parts.values())) > _KEPT:
            wanted = ("at", "label", "letter", "error", "attempts")
            parts = {key: parts[key] for key in wanted if key in parts} | {"why": _json(_LARGE)}
        new: dict[str, int] = {}
        for key, text in parts.items():
            if len(text) > _REPEATED:
                number = self._values.get(text, len(self._values) + len(new))
                if text not in self._values:
                    number = new.setdefault(text, number)
                parts[key] = f'{{"$":{number}}}'
        row = f"{_json(at)}:{_object(parts)}"
        size = len(row) + sum(map(len, new))
        if size > self._left:
            return False
        self._left -= size
        self._of.append(row)
        self._values |= new
        return True

    def parts(self) -> dict[str, str]:
        """Return members of the page's data."""
        return {
            "details": f"{{{','.join(self._of)}}}",
            "values": f"[{','.join(self._values)}]",
            "rest": _json(self.rest),
        }


def _found(at: str, laid: _Laid, mending: Mending) -> dict[str, Any]:
    """Return the details of a task or a group, without anything that could be pressed."""
    task = _task_at(at, laid)
    if task is None:
        return _group(at, laid)
    try:
        details = details_of(task, at, laid.places)
        details |= {"actions": [], "suppliable": False, "editable": False}
        return mending.of_task(task, laid.places[task], details)
    except Exception:  # noqa: BLE001 - foreign objects are looked at here
        _LOG.exception("the details of a task could not be read")
        return {**_bare(at, laid), "why": "Its details could not be read."}


def _bare(at: str, laid: _Laid) -> dict[str, Any]:
    """Return the details that need no look at anything of others."""
    task = _task_at(at, laid)
    if task is None:
        return {"at": at, "label": "", "letter": ""}
    return {"at": at, "label": one_line(task.name), "letter": look_of(task).letter}


# -- looks at objects of others ----------------------------------------------------------------


def _one(job: Callable[[], Any], until: float) -> Any:
    """Return what a job returns; None if it fails or hangs."""
    return next(iter(_each([job], until)), None)


def _each(jobs: Sequence[Callable[[], Any]], until: float) -> Iterator[Any]:
    """Yield what each job returns, None for one that fails or hangs, as long as there is time.

    The jobs run in a thread that is left behind when one of them hangs: a `__repr__` of somebody
    cannot be ended, but the next ones need not wait for it.
    """
    next_job = 0
    while next_job < len(jobs) and monotonic() < until:
        reader = _Reader(jobs[next_job:])
        try:
            for found in reader.results(until):
                yield found
                next_job += 1
            if next_job < len(jobs):
                yield None  # it hangs
                next_job += 1
        finally:
            reader.wanted = False


class _Reader:
    """Does jobs in a thread of its own, one after another, until nobody wants them any more."""

    def __init__(self, jobs: Sequence[Callable[[], Any]]) -> None:
        self.wanted = True
        self._jobs = jobs
        self._done: SimpleQueue[Any] = SimpleQueue()
        try:
            threading.Thread(target=self._work, name="taskqueue_nb export", daemon=True).start()
        except RuntimeError:  # Pyodide has no threads
            self._work()

    def results(self, until: float) -> Iterator[Any]:
        """Yield results as they come, until one takes too long."""
        for _ in self._jobs:
            try:
                yield self._done.get(timeout=max(0.0, min(_PATIENCE, until - monotonic())))
            except Empty:
                return

    def _work(self) -> None:
        for job in self._jobs:
            if not self.wanted:
                return
            try:
                found = job()
            except BaseException:  # noqa: BLE001 - objects of others may raise anything
                _LOG.debug("something of a task could not be read", exc_info=True)
                found = None
            self._done.put(found)


# -- the page ----------------------------------------------------------------------------------


def _json(value: object) -> str:
    """Return JSON that can stand in a page: it ends no element and begins none."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _object(parts: dict[str, str]) -> str:
    return "{" + ",".join(f"{_json(key)}:{text}" for key, text in parts.items()) + "}"


def _hash(text: str) -> str:
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode('ascii')}'"


def _policy(script: str) -> str:
    """Return what the page may do: run its own script and style itself; nothing from anywhere."""
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src {_hash(script)}",
            "style-src 'unsafe-inline'",  # of pictures and of results as HTML
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )


def _page(heading: str, when: str, still: str, data: str) -> str:
    """Put the parts together; all but the heading are made of our own elements and JSON."""
    script, title = linked("page"), xml(heading)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_policy(script)}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<meta name="generator" content="taskqueue_nb">
<title>{title}</title>
<style>
{_styles()}</style>
</head>
<body class="tq-alone">
<header>
<h1>{title}</h1>
<p>{when}</p>
<div id="tq-tools"></div>
</header>
<main>
<section id="tq-still" aria-label="Still picture">
{still}
</section>
</main>
<script type="application/json" id="tq-saved">{data}</script>
<script type="module">{script}</script>
</body>
</html>
"""


def _styles() -> str:
    view = str(TaskGraph._css)
    still = DARK.replace(".tq-picture", "#tq-still .tq-picture")  # the view has a button
    dark = f"@media screen and (prefers-color-scheme: dark) {{ {still} }}\n"
    return view + palette.css(".tq-alone") + dark + styles("page")


def _when(saved: datetime, *, running: bool) -> str:
    time = f'<time datetime="{saved.isoformat(timespec="seconds")}">{saved:%Y-%m-%d %H:%M}</time>'
    return f"Saved {time}{', while it ran' if running else ''}; a record without a kernel"


def _still(queue: TaskQueue, laid: _Laid, counts: dict[str, int], below: str) -> str:
    """Return what is there for paper, and for those without scripts."""
    said = f"{len(queue):,} task{'' if len(queue) == 1 else 's'}: {summary(counts)}"
    if laid.drawing is None:
        picture = f"<p>{xml(laid.note)}</p>"
    else:
        picture = themed(laid.drawing.stamp(_heading(queue)), "light")
    return f"<p>{xml(said)}</p>\n{picture}\n{below}"


def _rows(laid: _Laid) -> dict[str, str]:
    """Return what tasks are found and listed by, as members of the page's data."""
    tasks = laid.tasks[:_LISTED]
    return {
        "rows": _json([_row(task, laid.places) for task in tasks]),
        "urgency": _json("".join(palette.look(state).letter for state in palette.URGENCY)),
    }
