"""Any text is safe in any place: 63 hostile ones, everywhere a text can come from."""

from __future__ import annotations

import json
import re
import subprocess
import time
from base64 import b64decode
from html.parser import HTMLParser
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final
from xml.etree import ElementTree as ET

import pytest

from taskqueue_nb import FSM, Task, TaskQueue
from taskqueue_nb.drawing import clean
from taskqueue_nb.drawing import engine as engines
from taskqueue_nb.drawing.words import attribute, cut, error_name, lines, name_of, width
from taskqueue_nb.reprs import mimebundle, preview, said, tree

if TYPE_CHECKING:
    from collections.abc import Callable

HOSTILE: Final = (
    "",
    " ",
    "\t",
    "\n",
    "a\nb",
    "a\r\nb",
    "\x00",
    "a\x00b",
    "\x1b[31mred\x1b[0m",
    "\x1b]0;title\x07",
    "\x07\x08\x0b\x0c",
    "\x7f\x80\x9b31m",
    "\ud800",
    "a\udfffb",
    "\ufffe\uffff",
    "\u202egnp.exe",
    "\u2066hidden\u2069",
    "\u2028\u2029",
    "\ufeffbom",
    "\u200b\u200c\u200d",
    "e" + "\u0301" * 300,
    "\U0001f469\u200d\U0001f52c" * 40,
    "\U0010ffff",
    "<b>bold</b>",
    "<script>alert(1)</script>",
    "</title><script>alert(1)</script>",
    "</svg><script>alert(1)</script><svg>",
    "</table></details><img src=x onerror=alert(1)>",
    '"><img src=x onerror=alert(1)>',
    "'><svg onload=alert(1)>",
    '" onload="alert(1)',
    "' style='position:fixed",
    "<style>*{display:none}</style>",
    "<!-- comment",
    "-->",
    "<![CDATA[",
    "]]>",
    "<?xml version='1.0'?>",
    "<!DOCTYPE a [<!ENTITY b 'c'>]>&b;",
    "&lt;b&gt;",
    "&#60;script&#62;",
    "&amp;amp;",
    "&",
    "javascript:alert(1)",
    "data:text/html,<script>alert(1)</script>",
    "<a href='javascript:alert(1)'>x</a>",
    '<x>]; pwn [URL="javascript:alert(1)" label=<y>',
    '<<TABLE><TR><TD HREF="javascript:alert(1)">x</TD></TR></TABLE>>',
    "<>",
    "<<>>",
    '"]; pwn [label="',
    "\\",
    "\\\\",
    'a\\"; pwn; "',
    "\\N \\G \\E \\L \\n \\l",
    "task:one:n",
    "t1 -> pwn",
    "}\ndigraph x { pwn",
    "node",
    "subgraph",
    "__class__",
    "{0.__class__} %s %n ${jndi:x}",
    "x" * 16_383,
)
NUMBERS: Final = [f"{i:02}" for i in range(len(HOSTILE))]
BIG: Final = "<&\"'\\\x00\ud800" * 600_000  # 4 MB

ELEMENTS: Final = {"svg", "g", "rect", "path", "polygon", "text", "tspan", "title", "style"}
ATTRIBUTES: Final = {
    "aria-label", "class", "d", "data-role", "data-state", "data-victim", "fill", "font-family",
    "font-size", "height", "id", "points", "role", "rx", "stroke", "stroke-dasharray",
    "stroke-width", "text-anchor", "viewBox", "width", "x", "y",
}  # fmt: skip
TAGS: Final = {
    "caption", "details", "div", "img", "li", "p", "span", "strong", "summary", "table", "tbody",
    "td", "th", "thead", "tr", "ul",
}  # fmt: skip


def raising(error: BaseException) -> Callable[[], None]:
    """Return a function that raises."""

    def work() -> None:
        raise error

    return work


def named(text: str) -> TaskQueue:
    """Return two tasks, one of which has failed, with a text wherever a text may come from."""
    kind = (
        type(text.replace("\x00", "") or "x", (ValueError,), {"__doc__": text})
        if _ok(text)
        else ValueError
    )
    work = raising(kind(text))
    work.__name__ = work.__qualname__ = work.__module__ = text
    work.__doc__ = text
    first = Task(text, work, group=text, func_args=())
    second = Task(text, print, func_args=(first, text), func_kwargs={"sep": text}, group=text)
    first.dispatch()
    return TaskQueue(first, second, name=text)


def _ok(text: str) -> bool:
    """Say whether Python allows a class of that name."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\x00" not in text


def check_svg(svg: str, nodes: int | None = None) -> None:
    """Fail unless a picture is well-formed, and made of nothing but what we put into pictures."""
    svg.encode()
    root = ET.fromstring(svg)  # noqa: S314 - this is what is tested
    found = list(root.iter())
    assert {e.tag.removeprefix("{http://www.w3.org/2000/svg}") for e in found} <= ELEMENTS
    assert {name for e in found for name in e.attrib} <= ATTRIBUTES
    for element in found:
        assert re.fullmatch(r"(?:[tgs]\d+|e\d+-\d+)?", element.get("id", ""))
        values = [value for name, value in element.attrib.items() if name != "aria-label"]
        assert not any("script" in value or "url(" in value for value in values)
        if element.tag.endswith("style"):
            assert "hostile" not in (element.text or "")
            assert "@import" not in (element.text or "")
    assert "<!" not in svg
    assert "<?" not in svg
    if nodes is not None:
        assert sum(e.get("class") == "node" for e in found) == nodes


class Page(HTMLParser):
    """Collects what a browser would make of a piece of HTML."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a tag with its attributes."""
        self.tags.append((tag, dict(attrs)))
        if tag != "img":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """Check that it ends what was begun last."""
        assert self.open.pop() == tag

    def handle_comment(self, data: str) -> None:
        """Refuse comments."""
        raise AssertionError(data)

    def handle_decl(self, decl: str) -> None:
        """Refuse declarations."""
        raise AssertionError(decl)


def check_html(html: str) -> None:
    """Fail unless a page holds our tags and attributes alone, and its picture is safe."""
    html.encode()
    page = Page(html)
    assert page.open == []
    assert {tag for tag, _ in page.tags} <= TAGS
    for tag, attributes in page.tags:
        allowed = {"style", "class", "scope", "aria-hidden", "open"}
        if tag == "img":
            allowed |= {"alt", "src", "width"}
            kind, _, data = (attributes["src"] or "").partition(",")
            assert kind == "data:image/svg+xml;base64"
            check_svg(b64decode(data).decode())
        assert set(attributes) <= allowed
        style = attributes.get("style") or ""
        assert re.fullmatch(r"[a-z0-9 :;%-]*", style)


def check_line(line: str) -> None:
    """Fail unless a text stays on its line and does nothing to a terminal."""
    line.encode()
    assert all(c.isprintable() or c in "\u200c\u200d" for c in line)


def check_plain(text: str) -> None:
    """Fail unless every line is clean."""
    for line in text.split("\n"):
        check_line(line)


# -- the function that every text goes through -------------------------------------------------


@pytest.mark.parametrize("text", HOSTILE, ids=NUMBERS)
def test_clean_makes_one_line(text: str) -> None:
    """A clean text is printable, encodable, on one line, and no longer than asked for."""
    for limit in (1, 2, 10, 200):
        line = clean(text, limit)
        check_line(line)
        assert len(line) <= limit


def test_clean_keeps_what_can_be_read() -> None:
    """Scripts of this world and emoji made of several characters stay as they are."""
    for text in ("Größe", "数据", "नमस्ते", "بيانات", "👩\u200d🔬", "a — b", "naïve café"):
        assert clean(text) == text
    assert clean("a\u00a0b") == "a b"


@pytest.mark.parametrize("text", HOSTILE, ids=NUMBERS)
@pytest.mark.parametrize("room", [5.0, 60.0, 190.0])
def test_lines_fit_their_room(text: str, room: float) -> None:
    """At most two lines come out, and none is wider than the room unless it is one character."""
    rows = lines(clean(text), 13, room)

    assert 1 <= len(rows) <= 2
    assert all(width(row, 13) <= room or len(row) <= 1 for row in rows)


def test_cut_keeps_both_ends() -> None:
    """Names of mapped tasks differ at their end, so the middle is left out."""
    assert cut("process_file[part-0001.csv]", 16) == "process_fi….csv]"
    assert [cut("abc", n) for n in (1, 2, 3)] == ["…", "a…", "abc"]


# -- every text in every place -----------------------------------------------------------------


@pytest.mark.parametrize("text", HOSTILE, ids=NUMBERS)
def test_a_hostile_text_is_a_text_everywhere(text: str) -> None:
    """Names, groups, errors, functions, classes and arguments stay texts in all representations."""
    queue = named(text)

    for shown in (queue, queue.tasks[0], queue.tasks[1]):
        bundle = mimebundle(shown)
        check_plain(bundle["text/plain"])
        check_html(bundle["text/html"])
        check_svg(bundle["image/svg+xml"], nodes=2)
        json.dumps(bundle).encode()
    check_svg(queue.as_svg(), nodes=2)
    check_svg(queue.as_svg(text), nodes=2)
    check_svg(queue.tasks[0].fsm_svg, nodes=8)


@pytest.mark.parametrize("text", HOSTILE, ids=NUMBERS)
def test_a_hostile_text_is_a_text_in_a_plan(text: str) -> None:
    """Names and errors stay texts in a plan's list, table and picture, whatever it plans."""
    queue = named(text)
    plans = [
        queue.plan("retry"),
        queue.plan("supply", queue.tasks[0], text),
        queue.plan("cancel", queue.tasks[1]),
        queue.tasks[0].plan("retry"),
    ]

    for plan in plans:
        bundle = plan._repr_mimebundle_()
        check_plain(bundle["text/plain"])
        check_html(bundle["text/html"])
        check_svg(bundle["image/svg+xml"], nodes=2)
        check_svg(plan.as_svg(text), nodes=2)
        assert bundle["text/plain"].split("\n")[0] == repr(plan)
        json.dumps(bundle).encode()


def test_hostile_texts_together() -> None:
    """All of them in one queue make one picture with a box each."""
    queue = TaskQueue(*[Task(text, print) for text in HOSTILE])

    check_svg(queue.as_svg(), nodes=len(HOSTILE))
    check_svg(Task.tasks_as_svg(queue, max_nodes=10))
    check_html(mimebundle(queue)["text/html"])


@pytest.mark.parametrize("text", HOSTILE, ids=NUMBERS)
def test_hostile_dot_has_two_nodes_as_an_engine_reads_it(text: str) -> None:
    """DOT for other programs holds our two nodes, one edge, and no link."""
    source = named(text).as_dot(text)

    answer = subprocess.run(
        [engines.engines()[0], "-Tsvg"],
        input=source.encode(),
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert answer.returncode == 0, answer.stderr
    picture = answer.stdout[answer.stdout.index(b"<svg") :].decode()
    root = ET.fromstring(picture)  # noqa: S314 - what an engine made of our DOT
    kinds = [g.get("class") for g in root.iter("{http://www.w3.org/2000/svg}g")]
    assert (kinds.count("node"), kinds.count("edge")) == (2, 1)
    assert not [e for e in root.iter() if e.tag.endswith("}a")]
    assert not any(
        "href" in name or name.startswith("on") for e in root.iter() for name in e.attrib
    )


@pytest.mark.parametrize("text", HOSTILE, ids=NUMBERS)
def test_hostile_states_and_events(text: str) -> None:
    """A machine whose table holds such texts has a diagram all the same."""
    machine = FSM(text, transitions={text: {text: "end"}, "end": {}})

    check_svg(machine.fsm_svg, nodes=1 if text == "end" else 2)
    machine.fsm_dot.encode()


@pytest.mark.parametrize("text", HOSTILE, ids=NUMBERS)
def test_hostile_texts_without_an_engine(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The list and the table in the place of the picture are as safe as the picture."""
    monkeypatch.setattr(engines, "engines", list)
    queue = named(text)

    check_svg(queue.as_svg(text))
    check_svg(queue.tasks[0].fsm_svg)
    check_html(mimebundle(queue)["text/html"])
    check_svg(queue.plan("retry").as_svg(text))
    check_html(queue.plan("retry")._repr_mimebundle_()["text/html"])


# -- huge texts --------------------------------------------------------------------------------


def test_four_megabytes_stay_below_200_kb() -> None:
    """A name, group, error and argument of 4 MB each give small representations, soon."""
    began = time.perf_counter()
    queue = named(BIG)

    for shown in (queue, *queue.tasks):
        for text in mimebundle(shown).values():
            assert len(text.encode()) <= 200_000
    for text in (queue.as_svg(BIG), queue.as_dot(BIG), queue.tasks[0].as_svg()):
        assert len(text.encode()) <= 200_000
    for text in queue.plan("retry")._repr_mimebundle_().values():
        assert len(text.encode()) <= 200_000
    check_svg(queue.as_svg(BIG), nodes=2)
    assert time.perf_counter() - began < 30


def test_a_big_queue_has_a_bounded_bundle() -> None:
    """Four thousand tasks with long names and a thousand causes fit a notebook."""
    tasks = [
        Task(f"{i} " + "long name " * 30, raising(ValueError("x" * 5000))) for i in range(1000)
    ]
    tasks += [Task(f"part {i}", print) for i in range(3000)]
    for task in tasks[:1000]:
        task.dispatch()
    began = time.perf_counter()

    bundle = mimebundle(TaskQueue(*tasks))

    assert time.perf_counter() - began < 10
    assert all(len(text) < 1_000_000 for text in bundle.values())
    assert bundle["text/plain"].count("\n") < 80


# -- other people's objects --------------------------------------------------------------------


class _Evil:
    """Base of objects that misbehave when they are looked at."""

    touched = 0


class RaisingRepr(_Evil):
    """Raises in repr and str."""

    def __repr__(self) -> str:
        raise RuntimeError("no repr")

    __str__ = __repr__


class LeavingRepr(_Evil):
    """Tries to end the interpreter."""

    def __repr__(self) -> str:
        raise SystemExit(3)

    __str__ = __repr__


class DeepRepr(_Evil):
    """Recurses without end."""

    def __repr__(self) -> str:
        return repr(self)

    __str__ = __repr__


class HugeRepr(_Evil):
    """Is 120 MB long."""

    def __repr__(self) -> str:
        return "<&" * 60_000_000

    __str__ = __repr__


class NoText(_Evil):
    """Returns what is no text."""

    def __repr__(self) -> str:
        return 5  # type: ignore[return-value]  # this is the misbehaviour

    __str__ = __repr__


class Grabbing(_Evil):
    """Answers to every name, with itself or an exception, and claims to be anything."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise KeyError(name)
        return self

    def __call__(self, *args: object, **kwargs: object) -> Grabbing:
        """Return itself, whatever is asked."""
        return self

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("not comparable")

    __hash__ = None  # type: ignore[assignment]  # part of the misbehaviour


class EvilError(Exception):
    """An exception that cannot be put into words."""

    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


def evil_objects() -> list[Any]:
    """Return one of each, and containers that hold themselves."""
    ring: list[Any] = []
    ring.append(ring)
    deep: list[Any] = []
    for _ in range(50_000):
        deep = [deep]
    return [
        RaisingRepr(), LeavingRepr(), DeepRepr(), HugeRepr(), NoText(), Grabbing(), ring, deep,
        {"k" * 1_000_000: ring}, "x" * 5_000_000, 10**5000, float("nan"), b"\xff" * 3_000_000,
    ]  # fmt: skip


EVIL: Final = [
    "repr raises", "repr exits", "repr recurses", "repr is huge", "repr is no text", "grabs names",
    "holds itself", "deep", "huge key", "huge text", "huge number", "nan", "huge bytes",
]  # fmt: skip


@pytest.mark.parametrize("at", range(len(EVIL)), ids=EVIL)
def test_evil_objects_are_survived(at: int) -> None:
    """As arguments, results and in exceptions, no object keeps any representation from coming."""
    evil = evil_objects()[at]
    began = time.perf_counter()
    done = Task("done", lambda value: value, func_args=([evil],), func_kwargs=None)
    done.dispatch()
    failed = Task("failed", raising(ValueError(evil)), func_args=())
    failed.require(done)
    failed.dispatch()
    queue = TaskQueue(done, failed)

    for shown in (queue, done, failed):
        bundle = mimebundle(shown)
        assert set(bundle) == {"text/plain", "text/html", "image/svg+xml"}
        assert all(len(text) < 200_000 for text in bundle.values())
        assert len(repr(shown)) < 5_000_000
        assert len(str(shown)) < 5_000_000
    assert "failed: ValueError" in tree(queue)
    planned = queue.plan("retry")._repr_mimebundle_()
    assert set(planned) == {"text/plain", "text/html", "image/svg+xml"}
    assert all(len(text) < 200_000 for text in planned.values())
    assert time.perf_counter() - began < 20


@pytest.mark.parametrize("at", range(len(EVIL)), ids=EVIL)
def test_preview_survives_evil_objects(at: int) -> None:
    """The one place where a foreign repr is asked for gives a short text for anything."""
    text = preview(evil_objects()[at], 300)

    assert isinstance(text, str)
    assert 0 < len(text) <= 300


def test_evil_exceptions_and_callables_are_survived() -> None:
    """An exception without words has its class's name, a callable that grabs names its type's."""
    failed = Task("failed", raising(EvilError()))
    failed.dispatch()
    grabbing = Task(Grabbing(), group=None)

    bundle = mimebundle(TaskQueue(failed, grabbing))

    assert "failed: EvilError" in bundle["text/plain"]
    assert "EvilError" in TaskQueue(failed).plan("retry")._repr_mimebundle_()["text/html"]
    assert "EvilError" in bundle["text/html"]
    assert said(EvilError()) == "EvilError"


class Meta(type):
    """A class of classes that have no name."""

    @property
    def __name__(cls) -> str:  # type: ignore[override]  # this is the misbehaviour
        raise RuntimeError("nameless")


def test_guards_look_at_anything() -> None:
    """The functions that touch foreign objects return plain texts, whatever these are."""

    class Nameless(Exception, metaclass=Meta):  # noqa: N818 - it has no name at all
        """Has no name."""

    class Text(str):
        """A text that lies about itself."""

        __slots__ = ()

        def __str__(self) -> str:
            raise RuntimeError("no")

        __repr__ = __str__

    assert error_name(Nameless()) == "object"
    assert clean(Text("a\nb")) == r"a\nb"
    assert type(clean(Text("plain"))) is str
    assert attribute(Grabbing(), "__anything__", "default") == "default"
    assert name_of(object()) == "object"


def test_looking_changes_nothing() -> None:
    """No look runs, fires or touches anything."""
    ran: list[int] = []
    tasks = [Task(f"t{i}", ran.append, func_args=(i,)) for i in range(5)]
    seen: list[object] = []
    for one, other in pairwise(tasks):
        other.require(one)
        one.fsm_callback(FSM.FSM_ANY_STATE, lambda task, step: seen.append(step))
    queue = TaskQueue(*tasks)
    changes: list[int] = []
    queue.on_change(lambda: changes.append(1))

    assert mimebundle(queue)
    assert queue.plan("run")._repr_mimebundle_()
    assert repr(queue)
    assert queue.as_dot()
    assert queue.as_svg()
    for task in tasks:
        assert mimebundle(task)
        assert repr(task)
        assert task.as_dot()
        assert task.as_svg()
        assert task.fsm_svg

    assert (ran, seen, changes) == ([], [], [])
    assert {task.fsm_state for task in tasks} == {"PENDING"}
    assert all(not task.attempts for task in tasks)
