"""What a queue is written to: pictures and a page for whoever has no kernel."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import os
import re
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path
from typing import Any, Final
from xml.etree import ElementTree as ET

import pytest
from PIL import Image

from taskqueue_nb import Task, TaskQueue
from taskqueue_nb.drawing import png
from taskqueue_nb.drawing.files import write
from taskqueue_nb.palette import GROUND, PALETTE
from taskqueue_nb.widget import TaskGraph, export
from taskqueue_nb.widget.modules import PARTS, linked
from test_text import BIG, EVIL, HOSTILE, NUMBERS, check_svg, evil_objects, named

SVG: Final = "{http://www.w3.org/2000/svg}"


def broken() -> int:
    """Fail as tasks do."""
    raise ValueError("a reading is missing")


def fits() -> TaskQueue:
    """Return a queue that ran: one done, one failed, one blocked."""
    load = Task("load", lambda: [1, 2, 3])
    fit = Task("fit", broken)
    fit.require(load)
    report = fit.then("report", print)
    queue = TaskQueue(load, fit, report, name="fits")
    list(queue.run())
    return queue


def colours(picture: bytes) -> set[str]:
    """Return the colours of a PNG that fill at least a thousandth of it."""
    image = Image.open(BytesIO(picture)).convert("RGB")
    found = image.getcolors(image.width * image.height)
    assert found is not None
    least = image.width * image.height / 1000
    return {"#{:02x}{:02x}{:02x}".format(*colour) for count, colour in found if count >= least}  # type: ignore[misc]  # three numbers


# -- files -------------------------------------------------------------------------------------


def test_a_file_is_whole_or_as_it_was(tmp_path: Path) -> None:
    """What fails while it is made leaves the old file and nothing beside it."""
    path = tmp_path / "a.svg"
    path.write_text("old")

    def fails() -> bytes:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        write(path, fails)

    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
    assert write(str(path), lambda: b"new") == path
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(os.name == "nt", reason="there are other permissions")
def test_a_file_can_be_read_by_whom_the_user_lets(tmp_path: Path) -> None:
    """A new file has the permissions that any new file has; one that is replaced keeps its own."""
    plain, mine, others = tmp_path / "plain", tmp_path / "mine", tmp_path / "others"
    plain.touch()
    others.touch(mode=0o640)
    others.chmod(0o640)

    for path in (mine, others):
        write(path, lambda: b"x")

    assert mine.stat().st_mode == plain.stat().st_mode
    assert others.stat().st_mode & 0o777 == 0o640


@pytest.mark.skipif(os.name == "nt", reason="links need a right there")
def test_a_link_is_followed_and_stays(tmp_path: Path) -> None:
    """What a link leads to is replaced."""
    (tmp_path / "kept").mkdir()
    target, link = tmp_path / "kept" / "a.svg", tmp_path / "a.svg"
    link.symlink_to(target)

    assert write(link, lambda: b"x") == link

    assert link.is_symlink()
    assert target.read_bytes() == b"x"


def test_a_pipe_is_written_to(tmp_path: Path) -> None:
    """Only files are replaced: /dev/stdout stays what it is."""
    code = "from taskqueue_nb import *; TaskQueue(Task('a', print)).to_svg('/dev/stdout')"

    said = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)

    assert said.stdout.startswith(b"<svg")


@pytest.mark.parametrize("method", ["to_html", "to_svg", "to_png"])
def test_a_folder_that_is_not_there_is_named(method: str, tmp_path: Path) -> None:
    """A wrong path is said as Python says it, and no file is left."""
    export = getattr(fits(), method)

    with pytest.raises(FileNotFoundError):
        export(tmp_path / "nowhere" / "a")
    with pytest.raises(IsADirectoryError):
        export(tmp_path)

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("method", ["to_html", "to_svg", "to_png"])
def test_with_a_path_it_is_written_and_returned(method: str, tmp_path: Path) -> None:
    """The path comes back, and the file holds what is returned without one."""
    queue = fits()
    path = tmp_path / "größe 1.out"

    assert getattr(queue, method)(str(path)) == path

    content = getattr(queue, method)()
    written = path.read_bytes() if isinstance(content, bytes) else path.read_text("utf-8")
    assert len(written) == pytest.approx(len(content), abs=100)  # a page says when it was saved
    assert written[:100] == content[:100]


# -- pictures ----------------------------------------------------------------------------------


def test_svg_has_the_states_at_the_end() -> None:
    """The picture stands alone, with the states as they are, and a title."""
    queue = fits()

    svg = queue.to_svg()

    check_svg(svg, nodes=3)
    root = ET.fromstring(svg)  # noqa: S314 - our own picture
    nodes = [g for g in root.iter(f"{SVG}g") if g.get("class") == "node"]
    assert [g.get("data-state") for g in nodes] == ["done", "failed", "pending"]
    assert root.get("aria-label") == "fits: 1 pending, 1 failed, 1 done"
    assert svg == queue.as_svg()


def test_png_shows_states_and_text() -> None:
    """The colours of each state are in it, in light and dark, at the scale that is asked for."""
    queue = fits()
    small, large, dark = queue.to_png(scale=1), queue.to_png(), queue.to_png(dark=True)
    states = ("DONE", "FAILED", "PENDING")

    assert {PALETTE[state].light.fill for state in states} <= colours(large)
    assert {PALETTE[state].dark.fill for state in states} <= colours(dark)
    assert GROUND["light"].paper in colours(large)
    assert GROUND["dark"].paper in colours(dark)
    sizes = [Image.open(BytesIO(each)).size for each in (small, large)]
    assert sizes[1] == (2 * sizes[0][0], 2 * sizes[0][1])


def test_png_has_text_where_there_are_fonts() -> None:
    """A task's name is drawn: the picture of another one differs."""
    one, other = (TaskQueue(Task(name, print)).to_png() for name in ("load", "fold"))

    assert Image.open(BytesIO(one)).size == Image.open(BytesIO(other)).size
    assert one != other


def test_png_without_fonts_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where text is missing, a warning says what would bring it."""
    monkeypatch.setattr(png, "_fonts", lambda: {"skip_system_fonts": True})

    with pytest.warns(UserWarning, match="no font was found.*fonts-dejavu-core") as said:
        picture = fits().to_png()

    assert picture.startswith(b"\x89PNG")
    assert said[0].filename == __file__


def test_png_without_its_extra_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing package is named with the extra that brings it."""
    monkeypatch.setitem(sys.modules, "resvg_py", None)

    with pytest.raises(ImportError, match=r"pip install 'taskqueue-nb\[png\]'"):
        fits().to_png()


@pytest.mark.parametrize("scale", [0, -1, math.nan, math.inf, 1e-9, 1e9])
def test_png_of_no_size_is_refused(scale: float) -> None:
    """A scale that makes no picture, or one too large to be drawn, is refused in a sentence."""
    with pytest.raises(ValueError, match="scale"):
        fits().to_png(scale=scale)


@pytest.mark.parametrize("scale", ["2", None, True, 2j])
def test_png_wants_a_number(scale: Any) -> None:
    """What is no number is refused."""
    with pytest.raises(TypeError, match="scale is a number"):
        fits().to_png(scale=scale)


def test_png_says_the_largest_scale() -> None:
    """The sentence names a scale that works."""
    queue = TaskQueue(*(Task(f"a rather long name {i}", print) for i in range(150)))

    with pytest.raises(ValueError, match="scale=") as refused:
        queue.to_png(scale=40)

    most = float(str(refused.value).split("scale=")[1].split()[0])
    wide, high = Image.open(BytesIO(queue.to_png(scale=1))).size
    assert 0.95 * png.MOST < wide * high * most * most <= png.MOST


@pytest.mark.parametrize("text", HOSTILE, ids=NUMBERS)
def test_hostile_texts_are_drawn(text: str) -> None:
    """Any text is a text in both pictures."""
    queue = named(text)

    check_svg(queue.to_svg(), nodes=2)
    assert Image.open(BytesIO(queue.to_png(scale=1))).size[0] > 100


def test_pictures_need_no_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a layout engine there is a list in their place."""
    monkeypatch.setenv("TASKQUEUE_NB_DOT", "/nowhere/dot")
    queue = TaskQueue(Task("only", print), Task("two", print))

    check_svg(queue.to_svg())
    assert Image.open(BytesIO(queue.to_png())).size[0] > 100


def test_many_tasks_are_folded() -> None:
    """Ten thousand tasks are a picture of at most so many boxes."""
    queue = TaskQueue(*(Task(f"part {i}", print) for i in range(10_000)))

    svg = queue.to_svg(max_nodes=50)

    assert 1 <= svg.count('class="node"') <= 50
    assert len(svg) < 100_000
    assert len(queue.to_png(max_nodes=50)) < 1_000_000


# -- the page ----------------------------------------------------------------------------------

#: All elements of a page, in their order, up to the picture; and what may stand below that.
HEAD: Final = [
    "html", "head", "meta", "meta", "meta", "meta", "meta", "title", "style", "body", "header",
    "h1", "p", "time", "div", "main", "section", "p", "svg",
]  # fmt: skip
BELOW: Final = {
    "caption", "g", "li", "path", "p", "polygon", "rect", "span", "strong", "table", "tbody", "td",
    "text", "th", "thead", "title", "tr", "ul",
}  # fmt: skip


class Parsed(HTMLParser):
    """A page as a browser reads it: its elements, and the texts of those that are no markup."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        page.encode()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self._open: list[str] = []
        self.feed(page)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element with its attributes."""
        self.tags.append((tag, dict(attrs)))
        if tag != "meta":
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element of a picture that holds nothing."""
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        """Check that it ends what was begun last."""
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Keep a text by its element."""
        if self._open:
            self.texts.setdefault(self._open[-1], []).append(data)

    def handle_comment(self, data: str) -> None:
        """Refuse comments."""
        raise AssertionError(data)

    def handle_decl(self, decl: str) -> None:
        """Refuse declarations, but for the first."""
        assert decl == "DOCTYPE html"
        assert not self.tags

    @property
    def data(self) -> dict[str, Any]:
        """What the page's script reads."""
        found: dict[str, Any] = json.loads(self.texts["script"][0], parse_constant=refused)
        return found

    def details(self, at: str) -> dict[str, Any]:
        """Return the details of a task as the page shows them."""
        data = self.data
        return {
            key: data["values"][value["$"]] if isinstance(value, dict) and "$" in value else value
            for key, value in data["details"][at].items()
        }


def refused(constant: str) -> None:
    """Fail on what is no JSON."""
    raise AssertionError(constant)


def check_page(page: str) -> Parsed:
    """Fail unless a page holds our elements alone, asks for nothing, and runs one script."""
    parsed = Parsed(page)
    tags = [tag for tag, _ in parsed.tags]
    assert tags[: len(HEAD) - 1] == HEAD[:-1]
    assert tags[-2:] == ["script", "script"]
    assert set(tags[len(HEAD) - 1 : -2]) <= {*BELOW, "svg"}
    for tag, attributes in parsed.tags:
        assert not {"src", "href", "srcset", "action", "data", "background", "xlink:href"} & set(
            attributes
        )
        assert not any(name.startswith("on") for name in attributes)
        if tag == "meta":
            assert attributes.get("http-equiv") in (None, "Content-Security-Policy")
    (style,) = parsed.texts["style"]
    assert "url(" not in style
    assert "@import" not in style
    policy = next(a["content"] or "" for _, a in parsed.tags if a.get("http-equiv"))
    _, script = parsed.texts["script"]
    sha = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert "default-src 'none'" in policy
    assert f"script-src 'sha256-{sha}';" in policy
    assert script == linked("page")
    assert "<!--" not in script
    assert not re.search(r"[<>&]", parsed.texts["script"][0])
    return parsed


def test_a_page_is_one_safe_file() -> None:
    """It has a title, a policy, the picture with the states as they are, and the view's data."""
    parsed = check_page(fits().to_html())

    assert parsed.texts["title"][0] == "fits"
    assert dict(parsed.tags[0][1]) == {"lang": "en"}
    data = parsed.data
    assert data["traits"]["states"] == "dfp"
    assert data["traits"]["counts"] == {"PENDING": 1, "FAILED": 1, "DONE": 1}
    assert data["traits"]["still"] is True
    assert [row[:4] for row in data["rows"]] == [
        ["0", "load", "d", 1],
        ["1", "fit", "f", 1],
        ["2", "report", "p", 0],
    ]
    assert data["rows"][1][6:] == ["ValueError", 1]
    nodes = [a["data-state"] for tag, a in parsed.tags if tag == "g" and a.get("class") == "node"]
    assert nodes == ["done", "failed", "pending"]
    assert any("a reading is missing" in text for text in parsed.texts["li"])


def test_a_page_has_the_details_of_every_task() -> None:
    """Traceback, result, source and neighbours are there; nothing that could be pressed is."""
    parsed = check_page(fits().to_html())

    load, fit, report = (parsed.details(at) for at in "012")
    assert load["result"] == {"type": "list", "text": "[1, 2, 3]"}
    assert "a reading is missing" in fit["traceback"]
    assert "def broken" in fit["source"]
    assert fit["cause"].startswith("Cause 1 of 1")
    assert report["why"] == "Blocked by fit, which is failed."
    assert report["required"] == [["1", "fit", "f"]]
    for details in (load, fit, report):
        assert (details["actions"], details["suppliable"], details["editable"]) == (
            [],
            False,
            False,
        )
    assert parsed.data["traits"]["mending"]["causes"] == "1 cause blocks 1 task"
    assert parsed.data["traits"]["mending"]["at"] == ["1"]


def test_a_page_has_the_record() -> None:
    """Every transition is there, as the kernel would send it: played to the end it is the state."""
    queue = fits()
    queue.retry()
    list(queue.run())

    data = check_page(queue.to_html()).data

    structure, rows, critical = data["record"]
    when, task, letter, _ = (base64.b64decode(column) for column in rows[1])
    count = rows[0]["count"]
    assert count == rows[0]["total"] == sum(len(each.fsm_history) for each in queue.tasks)
    assert list(struct.unpack(f"<{count}d", when)) == sorted(struct.unpack(f"<{count}d", when))
    states = [*base64.b64decode(structure[1][1]).decode()]
    for number, now in zip(struct.unpack(f"<{count}I", task), letter.decode(), strict=True):
        states[number] = now
    assert "".join(states) == data["traits"]["states"] == "dfp"
    assert critical[0]["critical"]["tasks"] == 2


def test_a_long_record_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond some number of transitions the page does without."""
    monkeypatch.setattr(export, "_ROWS", 3)

    assert check_page(fits().to_html()).data["record"] == []


def test_a_page_shows_every_part_of_the_view() -> None:
    """Whatever the kernel would send when it is wanted is there from the start."""
    script = linked("page")
    ready = re.search(r"^export const ready = .*?;$", script, flags=re.MULTILINE | re.DOTALL)

    assert ready is not None
    for part in PARTS:
        assert re.search(rf"\b{part}: \{{", ready[0]), f"page.js does not show {part}"


def test_a_page_of_the_live_view_is_the_same() -> None:
    """The view and its queue give the same page, but for the time."""
    queue = fits()
    with closing(TaskGraph(queue)) as view:
        one, other = check_page(view.to_html()).data, check_page(queue.to_html()).data
        pictures = view.to_svg(), view.to_png()

    for data in (one, other):
        del data["record"][1][0]["now"]
    assert one == other
    assert pictures == (queue.to_svg(), queue.to_png())


@pytest.mark.parametrize("text", HOSTILE, ids=NUMBERS)
def test_hostile_texts_are_texts_in_a_page(text: str) -> None:
    """Names, groups, arguments, results, output and errors of any text leave the page as it is."""
    queue = named(text)
    said = Task(f"say {text}", lambda: print(text) or text)
    said.dispatch()
    queue.add(said)

    parsed = check_page(queue.to_html())

    details = parsed.details("0")
    assert details["letter"] == "f"
    assert parsed.data["details"].keys() == {"0", "1", "2"}
    assert "why" in parsed.details("1")
    assert sum(a.get("class") == "node" for _, a in parsed.tags) == 3


@pytest.mark.parametrize("at", range(len(EVIL)), ids=EVIL)
def test_evil_objects_leave_the_page_whole(at: int) -> None:
    """As arguments, results and in exceptions, no object keeps the page from coming."""
    evil = evil_objects()[at]
    done = Task("done", lambda value: value, func_args=([evil],))
    done.dispatch()

    def fails() -> None:
        raise ValueError(evil)

    failed = Task("failed", fails)
    failed.dispatch()
    began = time.perf_counter()

    page = TaskQueue(failed, done).to_html()

    parsed = check_page(page)
    assert time.perf_counter() - began < 20
    assert len(page) < 1_000_000
    assert parsed.details("0")["letter"] == "f"
    assert parsed.details("1")["label"] == "done"


class Hangs:
    """Does not come back when it is looked at, until the test ends."""

    ended = threading.Event()

    def __repr__(self) -> str:
        self.ended.wait(60)
        return "late"


@pytest.fixture
def hanging() -> Iterator[Hangs]:
    """Return an object that hangs."""
    Hangs.ended.clear()
    yield Hangs()
    Hangs.ended.set()
    for thread in threading.enumerate():
        if thread.name == "taskqueue_nb export":
            thread.join(10)


def test_a_repr_that_hangs_hides_its_own_task_alone(hanging: Hangs) -> None:
    """The page comes, with a sentence in the place of those details and all of the others."""
    tasks = [Task("first", lambda: 1), Task("hangs", lambda: hanging), Task("last", lambda: 3)]
    queue = TaskQueue(*tasks)
    list(queue.run())
    began = time.perf_counter()

    parsed = check_page(queue.to_html())

    assert time.perf_counter() - began < 10
    first, hangs, last = (parsed.details(at) for at in "012")
    assert (first["result"]["text"], last["result"]["text"]) == ("1", "3")
    assert (hangs["label"], hangs["letter"]) == ("hangs", "d")
    assert "took too long" in hangs["why"]


def test_time_is_bounded(hanging: Hangs) -> None:
    """However many hang, the page comes when the time is up; the rest have a sentence."""
    queue = TaskQueue(*(Task(f"hangs {i}", lambda: hanging) for i in range(30)))
    list(queue.run())
    began = time.perf_counter()

    parsed = check_page(queue.to_html(seconds=1.5))

    assert time.perf_counter() - began < 10
    assert len(parsed.data["details"]) < 10
    assert "took too long" in parsed.data["rest"]
    assert len(parsed.data["rows"]) == 30


def test_without_time_there_is_the_picture() -> None:
    """Details may be left out altogether."""
    parsed = check_page(fits().to_html(seconds=0))

    assert parsed.data["details"] == {}
    assert parsed.data["traits"]["states"] == "dfp"


def test_size_is_bounded_and_failures_come_first() -> None:
    """What has failed has its details, and of the rest as many as there is room for."""
    tasks = [Task(f"part {i}", lambda i=i: "x" * 3000 + str(i)) for i in range(40)]
    tasks[25] = Task("fails", broken)
    queue = TaskQueue(*tasks)
    list(queue.run())

    page = queue.to_html(limit=60_000)
    parsed = check_page(page)

    assert len(page) < 60_000 + len(queue.to_html(limit=0))
    assert "a reading is missing" in parsed.details("25")["traceback"]
    assert 5 < len(parsed.data["details"]) < 30
    assert "too large" in parsed.data["rest"]
    assert parsed.data["rows"][39][1] == "part 39"


def test_huge_texts_stay_small() -> None:
    """A name, group, error and argument of 4 MB each give a page of bounded size."""
    page = named(BIG).to_html()

    check_page(page)
    assert len(page) < 500_000


def test_what_comes_again_is_written_once() -> None:
    """A hundred tasks of one function hold its source once, and the lines around its failure."""
    queue = TaskQueue(*(Task(f"part {i}", broken) for i in range(100)))
    list(queue.run())

    page = queue.to_html()

    parsed = check_page(page)
    assert page.count("Fail as tasks do") <= 2  # a traceback may quote it
    assert all("Fail as tasks do" in parsed.details(str(i))["source"] for i in range(100))


def test_a_page_of_a_running_queue_shows_the_moment() -> None:
    """It says that it was saved amid a run, and nothing in it runs on."""
    started, may_end = threading.Event(), threading.Event()

    def work() -> None:
        started.set()
        may_end.wait(20)

    queue = TaskQueue(Task("works", work), executor=1)
    queue.start()
    assert started.wait(20)

    page = queue.to_html()
    may_end.set()
    queue.wait(20)

    parsed = check_page(page)
    assert "while it ran" in page
    assert parsed.data["traits"]["states"] == "r"
    assert parsed.data["traits"]["progress"]["running"] is False


def test_a_page_needs_no_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a layout engine the tasks are listed."""
    monkeypatch.setenv("TASKQUEUE_NB_DOT", "/nowhere/dot")
    queue = TaskQueue(Task("only", print), Task("two", print))

    parsed = Parsed(queue.to_html())

    assert parsed.data["traits"]["svg"] == ""
    assert [box["label"] for box in parsed.data["traits"]["boxes"]] == ["only", "two"]
    assert "graphviz" in parsed.data["traits"]["note"]


def test_a_page_of_no_tasks() -> None:
    """An empty queue has a page, too."""
    parsed = check_page(TaskQueue().to_html())

    assert parsed.texts["title"][0] == "0 tasks"
    assert parsed.data["traits"]["note"] == "There are no tasks yet."


def test_exports_change_nothing() -> None:
    """No export runs, fires or touches anything."""
    ran: list[int] = []
    seen: list[object] = []
    tasks = [Task(f"t{i}", ran.append, func_args=(i,)) for i in range(5)]
    for task in tasks:
        task.fsm_callback(task.FSM_ANY_STATE, lambda task, step: seen.append(step))
    queue = TaskQueue(*tasks)
    changes: list[int] = []
    queue.on_change(lambda: changes.append(1))

    queue.to_html(), queue.to_svg(), queue.to_png()

    assert (ran, seen, changes) == ([], [], [])
    assert {task.fsm_state for task in tasks} == {"PENDING"}


def test_a_large_queue_has_a_page_in_time() -> None:
    """Two thousand tasks: a page of a few megabytes, in seconds."""
    queue = TaskQueue(*(Task(f"part {i}", lambda i=i: [i] * 50) for i in range(2_000)))
    list(queue.run())
    began = time.perf_counter()

    page = queue.to_html()

    assert time.perf_counter() - began < 20
    assert len(page) < 4_000_000
    assert len(check_page(page).data["details"]) > 2_000
