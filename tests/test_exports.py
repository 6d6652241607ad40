"""What a queue is written to: pictures and a page for whoever has no kernel."""

from __future__ import annotations

import math
import os
import subprocess
import sys
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
from test_text import HOSTILE, NUMBERS, check_svg, named

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
