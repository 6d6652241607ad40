"""What the details panel is told: tracebacks as data, previews of results, forms of arguments."""

from __future__ import annotations

import base64
import inspect
import json
import re
import struct
import sys
from collections.abc import Callable
from typing import Annotated, Any, Final, Literal

import pytest

from taskqueue_nb import Task, TaskQueue, task
from taskqueue_nb.palette import PALETTE
from taskqueue_nb.previews import rich
from taskqueue_nb.source import compiled
from taskqueue_nb.widget.details import details_of, edited_arguments, link_to
from taskqueue_nb.widget.modules import styles
from taskqueue_nb.widget.shapes import shape_of
from taskqueue_nb.widget.table import Order, table
from taskqueue_nb.widget.traces import failing_line, trace_of
from taskqueue_nb.widget.words import Places, called

HOSTILE: Final = "</iframe><script>x()</script>]]>\x1b[31m\u202egnp"


def ran(func: Callable[..., Any], *args: Any, name: str = "t", **options: Any) -> Task:
    """Return a task that has run."""
    task = Task(name, func, func_args=args, **options)
    for _ in TaskQueue(task).run():
        pass
    return task


def told(task: Task) -> dict[str, Any]:
    """Return the details of a task alone."""
    return details_of(task, "0", {task: 0})


# -- tracebacks -----------------------------------------------------------------------------------


def parsed(text: Any) -> Any:
    """Fail inside a library."""
    return json.loads(text)


def wrapped(text: Any) -> Any:
    """Fail because of a failure."""
    try:
        return parsed(text)
    except ValueError as error:
        error.add_note("the text was short")
        raise RuntimeError("not read") from error


def places(error: dict[str, Any]) -> list[tuple[str, str]]:
    """Return whose each frame is, and what its function is called."""
    return [(frame["package"], frame["name"]) for frame in error["frames"]]


def test_a_traceback_is_told_as_frames() -> None:
    """The user's own frames have the lines around, those of libraries their package's name."""
    (error,) = told(ran(parsed, "{"))["trace"]

    assert places(error)[0] == ("", "parsed")
    assert {package for package, _ in places(error)[1:]} == {"json"}
    own = error["frames"][0]
    assert own["file"] == "test_details.py"
    assert own["code"][own["line"] - own["first"]] == "    return json.loads(text)"
    assert own["code"][0].startswith("def parsed")
    assert own["part"] == [11, 27]
    assert error["says"].startswith("json.decoder.JSONDecodeError: Expecting")


def test_a_chain_is_told_from_its_end() -> None:
    """What was raised, then the cause that it names, with the notes of each."""
    last, first = told(ran(wrapped, "{"))["trace"]

    assert (last["says"], last["lead"]) == ("RuntimeError: not read", "")
    assert first["lead"] == "The direct cause was:"
    assert first["notes"] == ["the text was short"]
    assert places(first)[:2] == [("", "wrapped"), ("", "parsed")]


def during(number: int) -> float:
    """Fail while a failure is handled."""
    try:
        return 1 / number
    except ZeroDivisionError:
        return dict[str, float]()["gone"]


def test_what_was_handled_is_told_unless_it_is_suppressed() -> None:
    """As Python does it."""

    def suppressed() -> None:
        try:
            during(0)
        except KeyError:
            raise ValueError("hidden") from None

    leads = [error["lead"] for error in told(ran(during, 0))["trace"]]
    assert leads == ["", "It was raised while this was handled:"]
    assert len(told(ran(suppressed))["trace"]) == 1


def test_the_members_of_a_group_are_told_in_it() -> None:
    """Each with its place, also of a group in a group."""

    def fail() -> None:
        inner = ExceptionGroup("inner", [KeyError("b")])
        raise ExceptionGroup("many", [ValueError("a"), inner])

    found = [(e["depth"], e["lead"], e["says"]) for e in told(ran(fail))["trace"]]
    assert found == [
        (0, "", "ExceptionGroup: many (2 sub-exceptions)"),
        (1, "1 of 2 in this group:", "ValueError: a"),
        (1, "2 of 2 in this group:", "ExceptionGroup: inner (1 sub-exception)"),
        (2, "1 of 1 in this group:", "KeyError: 'b'"),
    ]


def endless(number: int) -> int:
    """Never return."""
    return endless(number + 1)


def test_a_deep_recursion_is_told_by_its_ends() -> None:
    """The rest is counted."""
    (error,) = told(ran(endless, 0))["trace"]

    (left,) = [frame["left"] for frame in error["frames"] if "left" in frame]
    assert left > 900
    assert len(error["frames"]) < 40


@pytest.mark.parametrize("func", [parsed, wrapped, during])
def test_a_text_is_taken_apart_as_the_exception_is(func: Callable[..., Any]) -> None:
    """Of earlier attempts there is only text; it has the same frames with the same lines."""
    task = ran(func, "{")
    live = told(task)["trace"]
    task.retry()
    for _ in TaskQueue(task).run():
        pass
    text = task.attempts[0]._error_text
    assert isinstance(text, str)

    again = trace_of(task.attempts[0].error, text)

    assert [e["lead"] for e in again] == [e["lead"] for e in live]
    for one, other in zip(again, live, strict=True):
        assert one["says"] == "\n".join([other["says"], *other["notes"]])
        for frame in (*one["frames"], *other["frames"]):
            frame["part"] = None
        assert one["frames"] == other["frames"]


def test_a_failure_in_a_worker_process_is_told_as_frames() -> None:
    """Its traceback comes as text; frames that carry the answer are not shown."""
    task = Task("t", parsed, func_args=("{",))
    for _ in TaskQueue(task).run(executor="processes"):
        pass

    (error,) = told(task)["trace"]

    assert places(error)[0] == ("", "parsed")
    assert error["frames"][0]["code"][0].startswith("def parsed")


@pytest.mark.parametrize(
    "text",
    [
        "the process was killed by SIGKILL",
        "Traceback (most recent call last):\n",
        'Traceback (most recent call last):\n  File "a.py", line 1, in f\n    x',
        "  + Exception Group Traceback (most recent call last):\n  | ValueError: a\n",
        "Fatal: Traceback (most recent call last):\n",
        "\n\nDuring handling of the above exception, another exception occurred:\n\n",
    ],
)
def test_a_text_of_another_form_is_not_taken_apart(text: str) -> None:
    """It is shown as it is."""
    assert trace_of(None, text) == []


def test_a_text_that_names_other_files_opens_none() -> None:
    """Lines around are shown only where they are known already, and say the same."""
    text = (
        'Traceback (most recent call last):\n  File "/dev/zero", line 1, in f\n    forged()\n'
        f'  File "{__file__}", line 2, in g\n    forged()\nValueError: no\n'
    )

    (error,) = trace_of(None, text)

    assert [frame["code"] for frame in error["frames"]] == [["forged()"], ["forged()"]]


def test_hostile_failures_are_told_in_plain_characters() -> None:
    """Words, notes and code of others are bounded, and turn nothing around."""

    class Wordless(Exception):  # noqa: N818 - its name is no matter
        def __str__(self) -> str:
            raise RuntimeError("no words")

        def __getattribute__(self, name: str) -> Any:
            if name in ("__notes__", "__context__"):
                raise RuntimeError(name)
            return super().__getattribute__(name)

    def fail() -> None:
        try:
            raise Wordless
        except Wordless as error:
            worse = ValueError(HOSTILE * 10_000)
            for _ in range(1000):
                worse.add_note(HOSTILE * 100)
            raise worse from error

    found = told(ran(fail))

    text = json.dumps(found, ensure_ascii=False)
    assert len(text) < 300_000
    assert not {"\x1b", "\u202e", "\ud800"} & set(text)
    assert found["trace"][1]["says"].endswith("Wordless: (its text cannot be had)")


def test_the_line_of_the_source_that_failed_is_told() -> None:
    """In the text as the user edits it, for edited text too; not after the function is another."""

    def fail(number: int) -> int:
        number += 1

        return number // 0

    task = ran(fail, 1)
    assert told(task)["failing"] == 4

    task.edit("# first\ndef fail(number):\n    return number / 0")
    for _ in TaskQueue(task).run():
        pass
    assert told(task)["failing"] == 3
    assert told(task)["trace"][0]["frames"][0]["file"] == "fail, edited 1"
    assert failing_line(compiled("def other(): pass"), "def other(): pass", task.exception) is None


def test_a_pending_task_still_tells_how_its_last_attempt_failed() -> None:
    """Until it has another result."""
    task = ran(parsed, "{")
    task.retry()
    found = told(task)
    assert (found["of_attempt"], len(found["trace"])) == (0, 1)

    task.supply(3)
    assert told(task)["trace"] == []


# -- previews -------------------------------------------------------------------------------------

PNG: Final = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=="
)
SVG: Final = '<svg xmlns="http://www.w3.org/2000/svg"/>'


def shows(**forms: Any) -> Any:
    """Return a value whose class has such `_repr_*_` methods; what is callable is called."""

    def method(form: Any) -> Callable[[Any], Any]:
        return lambda _self: form() if callable(form) else form

    return type("Shown", (), {f"_repr_{name}_": method(form) for name, form in forms.items()})()


@pytest.mark.parametrize(
    ("forms", "kind", "begins"),
    [
        ({"html": "<b>x</b>"}, "html", "<b>x</b>"),
        ({"png": PNG}, "image", "data:image/png;base64,iVBOR"),
        ({"png": base64.b64encode(PNG).decode()}, "image", "data:image/png;base64,iVBOR"),
        ({"png": (PNG, {"width": 3})}, "image", "data:image/png;base64,iVBOR"),
        ({"svg": SVG}, "image", "data:image/svg+xml;base64,PHN2Zy"),
        ({"html": "<b>x</b>", "png": PNG}, "image", "data:image/png"),
        ({"markdown": "# a"}, "text", "# a"),
        ({"latex": "$x$", "html": lambda: 1 / 0}, "text", "$x$"),
        ({"png": b"no picture", "html": "<i>y</i>"}, "html", "<i>y</i>"),
        ({"png": sys.exit, "html": "<i>y</i>"}, "html", "<i>y</i>"),
    ],
)
def test_a_value_is_shown_in_the_best_of_its_forms(
    forms: dict[str, Any], kind: str, begins: str
) -> None:
    """Pictures go before HTML, which has no scripts here; a form that raises is passed over."""
    shown = rich(shows(**forms))
    assert shown is not None
    assert (shown["kind"], shown["data"].startswith(begins)) == (kind, True)


@pytest.mark.parametrize("value", [3, "text", [1], None, object(), shows, int, shows(html=None)])
def test_what_has_no_form_is_shown_as_text(value: Any) -> None:
    """So is a class, whose methods are those of its instances."""
    assert rich(value) is None


def huge(side: int) -> bytes:
    """Return the beginning of a PNG of so many pixels a side."""
    return PNG[:16] + struct.pack(">II", side, side) + PNG[24:]


@pytest.mark.parametrize(
    ("forms", "note"),
    [
        ({"html": "x" * 200_001}, "Its HTML has 200,001 characters; up to 200,000 are shown here."),
        ({"png": PNG + b"x" * 300_000}, "bytes; up to 200,000 are shown here."),
        ({"png": huge(60_000)}, "60,000 by 60,000 pixels, too many to show here."),
        ({"jpeg": b"\xff\xd8\xff\xc0\x00\x11\x08\xff\xff\xff\xff\x03"}, "65,535 by 65,535 pixels"),
        ({"jpeg": b"\xff\xd8\xff"}, "Its picture is no jpeg."),
        ({"svg": "<p>no</p>"}, "Its picture is no svg+xml."),
    ],
)
def test_what_is_too_large_says_so(forms: dict[str, Any], note: str) -> None:
    """In a sentence; its text is shown then."""
    shown = rich(shows(**forms))
    assert shown is not None
    assert (shown["kind"], shown["data"]) == ("", "")
    assert note in shown["note"]


def test_a_bundle_of_its_own_is_asked_first() -> None:
    """As front ends do; one that raises, or has only other types, leaves the other forms."""

    class Bundled:
        def __init__(self, bundle: Any) -> None:
            self.bundle = bundle

        def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> Any:
            if self.bundle is None:
                raise RuntimeError("no bundle")
            return self.bundle

        def _repr_html_(self) -> str:
            return "<p>own</p>"

    bundles: list[Any] = [
        {"text/html": "<p>bundle</p>"},
        ({"image/png": PNG}, {}),
        {"a/b": 1},
        None,
    ]
    found = [rich(Bundled(bundle)) for bundle in bundles]

    assert [each["data"][:14] for each in found if each] == [
        "<p>bundle</p>",
        "data:image/png",
        "<p>own</p>",
        "<p>own</p>",
    ]


def test_what_ipython_was_told_to_show_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """A function that was registered for a type goes before the type's own method."""
    from IPython.core.formatters import DisplayFormatter

    class Point:
        pass

    class Shell:
        display_formatter = DisplayFormatter()

    Shell.display_formatter.formatters["text/html"].for_type(Point, lambda _: "<b>point</b>")
    monkeypatch.setattr("IPython.get_ipython", Shell)

    shown = rich(Point())

    assert shown is not None
    assert shown["data"] == "<b>point</b>"


def test_hostile_values_are_shown_as_text_and_print_nothing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Attributes that raise, or are there whatever they are called."""

    class Any_:  # noqa: N801 - its name is no matter
        def __getattr__(self, name: str) -> Any:
            return lambda *_args, **_kwargs: HOSTILE

    class Raising:
        @property  # type: ignore[misc]  # it may only be read
        def __class__(self) -> Any:
            raise RuntimeError("class")

        def __getattribute__(self, name: str) -> Any:
            raise RuntimeError(name)

        def _repr_html_(self) -> str:
            raise SystemExit

    class Text(str):
        __slots__ = ()

        def __len__(self) -> int:
            raise RuntimeError("len")

    assert [rich(value) for value in (Any_(), Raising())] == [None, None]
    assert rich(shows(html=Text("<b>x</b>"))) == {
        "kind": "html", "called": "HTML", "data": "<b>x</b>", "note": ""
    }  # fmt: skip
    assert capsys.readouterr() == ("", "")


def test_figures_and_photographs_are_pictures() -> None:
    """Of matplotlib also where pyplot was never imported; a large photograph is made smaller."""
    from matplotlib.figure import Figure
    from PIL import Image

    figure = Figure()
    figure.subplots().plot([1, 3, 2])

    for value in (figure, Image.effect_noise((3000, 2000), 60).convert("RGB")):
        shown = rich(value)
        assert shown is not None
        assert shown["kind"] == "image", shown


def test_the_result_is_shown_and_what_was_displayed() -> None:
    """Both in the same way; of what was displayed as text alone the output has the text."""
    from IPython.display import HTML, display

    def work() -> Any:
        display(HTML("<b>on its way</b>"))  # type: ignore[no-untyped-call]
        return shows(html=f"<p>{HOSTILE}</p>")

    from IPython.core.interactiveshell import InteractiveShell

    shell = InteractiveShell.instance()
    try:
        task = ran(work)
    finally:
        InteractiveShell.clear_instance()
    assert shell is not None

    found = told(task)

    assert [each["data"] for each in found["displayed"]] == ["<b>on its way</b>"]
    assert found["result"]["rich"]["kind"] == "html"
    assert not {"\x1b", "\u202e"} & set(found["result"]["rich"]["data"])


def test_many_displays_are_cut() -> None:
    """The last ones are kept, and the cut is said."""
    task = ran(list)
    for number in range(20):
        task.attempts[-1]._displays.add({"text/html": f"<p>{number}</p>"})

    found = told(task)["displayed"]

    assert found[0]["note"] == "What was displayed before is left out."
    assert [each["data"] for each in found[1:]] == [f"<p>{n}</p>" for n in range(12, 20)]


# -- the source -----------------------------------------------------------------------------------


def test_the_text_that_the_last_attempt_ran_is_told() -> None:
    """None if it is the present one, so that what was changed since can be shown."""

    def fail(number: int) -> float:
        return number / 0

    task = Task("t", fail, func_args=(1,))
    assert told(task)["ran"] is None
    for _ in TaskQueue(task).run():
        pass
    assert told(task)["ran"] == {"number": 1, "source": None}

    before = task.source
    task.edit("def fail(number):\n    return number")

    found = told(task)
    assert found["ran"] == {"number": 1, "source": before}
    assert found["source"] == "def fail(number):\n    return number"
    assert found["failing"] is None


def channels(colour: str) -> tuple[int, ...]:
    """Return the red, green and blue of a colour."""
    return tuple(int(colour[i : i + 2], 16) for i in (1, 3, 5))


def luminance(colour: tuple[float, ...]) -> float:
    """Return how bright a colour is, as WCAG defines it."""
    parts = [c / 255 for c in colour]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    """Return the contrast of two colours, from 1 to 21."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


#: What the code may stand on: the paper of each theme, its shade, JupyterLab's own.
PAPERS: Final = {"light": ("#ffffff", "#eeeeee"), "dark": ("#111111", "#212121", "#2b2f33")}


@pytest.mark.parametrize("theme", PAPERS)
def test_the_colours_of_code_can_be_read(theme: Literal["light", "dark"]) -> None:
    """On every ground of their theme, and on the band of the line that failed."""
    blocks = re.findall(r"\.tq \{\s*(--tq-py-[^}]+)\}", styles("details"))
    assert len(blocks) == 4  # light, dark by the system, light and dark by the page
    assert blocks[0].split() == blocks[2].split()
    assert blocks[1].split() == blocks[3].split()
    colours = re.findall(r"--tq-py-(\w+): (#\w{6});", blocks[("light", "dark").index(theme)])
    assert len(colours) == 7

    failed = channels(PALETTE["FAILED"].shade(theme).fill)
    for paper in PAPERS[theme]:
        ground = channels(paper)
        band = tuple(0.16 * f + 0.84 * g for f, g in zip(failed, ground, strict=True))
        for name, colour in colours:
            assert contrast(channels(colour), ground) >= 4.5, (name, paper)
            assert contrast(channels(colour), band) >= 4.5, (name, paper, "band")


# -- the form -------------------------------------------------------------------------------------

Either = Literal["line", "bar"]


@pytest.mark.parametrize(
    ("annotation", "value", "shape"),
    [
        (bool, True, {"as": "bool"}),
        ("bool", False, {"as": "bool"}),
        (inspect.Parameter.empty, True, {"as": "bool"}),
        (bool | None, None, {"as": "choice", "choices": ["True", "False", "None"]}),
        ("Optional[bool]", True, {"as": "choice", "choices": ["True", "False", "None"]}),
        (bool, 3, {"as": "choice", "choices": ["3", "True", "False"]}),
        (Either, "bar", {"as": "choice", "choices": ["'line'", "'bar'"]}),
        (Annotated[Either, "how"], "bar", {"as": "choice", "choices": ["'line'", "'bar'"]}),
        ("t.Literal['a', 'b']", "c", {"as": "choice", "choices": ["'c'", "'a'", "'b'"]}),
        ("'Literal[1, -2] | None'", 1, {"as": "choice", "choices": ["1", "-2", "None"]}),
        ("Literal[1] | int", 1, {"as": "int"}),
        (int, 3, {"as": "int"}),
        (float, 3, {"as": "float"}),
        ("float | None", 3, {"as": "float"}),
        ("", 0.5, {"as": "float"}),
        (str, "a 'b'", {"as": "str", "plain": "a 'b'"}),
        (str, "a\nb", {"as": "str", "plain": "a\nb"}),
        (str, "a\r\u202e", {"as": ""}),
        (str, None, {"as": ""}),
        (list[int], [1], {"as": ""}),
        ("open('/x')", 3, {"as": "int"}),
        ("(", 3, {"as": "int"}),
        ("Literal[open('/x')]", 3, {"as": "int"}),
    ],
)
def test_a_field_has_the_form_of_its_value(
    annotation: Any, value: Any, shape: dict[str, Any]
) -> None:
    """By the annotation where that says more; a text among annotations is never evaluated."""
    assert shape_of(annotation, value) == shape


def _load(year: object, part: str = "a", **more: object) -> None: ...


class _Sly(int):
    def __repr__(self) -> str:
        raise AssertionError("a repr was asked for")


@pytest.mark.parametrize(
    ("task", "name"),
    [
        (Task(_load, func_args=(2001,)), "_load(2001)"),
        (Task(_load, func_args=(2001,), func_kwargs={"part": "b"}), "_load(2001, part='b')"),
        (Task(_load, func_args=("x" * 100,)), f"_load('{'x' * 29}…')"),
        (Task(_load, func_args=(None, True)), "_load(None, True)"),
        (Task(_load, func_args=([1], 2.5)), "_load(…, 2.5)"),
        (Task(_load, func_args=(Task(_load, func_args=(7,)),)), "_load(_load(7))"),
        (Task(_load, func_args=(Task("table a"),)), "_load(table a)"),
        (Task(_load, func_args=("\x1b[2J\n",)), "_load('\\x1b[2J\\n')"),
        (Task(_load, func_args=range(9)), "_load(0, 1, 2, …)"),
        # by these nobody could tell it from another
        (Task(_load), "_load"),
        (Task(_load, func_args=([1], object())), "_load"),
        (Task(_load, func_args=(Task(_load),)), "_load"),
        (Task(_load, func_args=(_Sly(3), 10**400)), "_load"),
        # and these have names of their own
        (Task("first", _load, func_args=(2001,)), "first"),
        (task(_load).map([2001])[0], "_load[2001]"),
    ],
    ids=str,
)
def test_a_task_with_the_name_of_its_function_is_told_by_its_arguments(
    task: Task, name: str
) -> None:
    """In lists, in the heading of its details and in the finder; no foreign repr is asked for."""
    several = Places([task, Task(task.name)])

    assert called(task, several) == name
    assert details_of(task, "0", several)["label"] == link_to(task, several)[1] == name
    assert table([task], several, Order())["rows"][0][1] == name
    assert called(task, Places([task])) == task.name  # no other has it


def test_a_long_chain_of_calls_has_a_short_name() -> None:
    """It is cut in depth, not walked."""
    chain = Task(_load, func_args=(1,))
    for _ in range(2_000):
        chain = Task(_load, func_args=(chain, 1))

    assert called(chain, Places([chain, *chain.required])) == "_load(_load(_load(…, 1), 1), 1)"


def test_a_long_text_can_be_edited_as_long_as_the_form_stays_small() -> None:
    """With its line breaks; what would be too much is kept, and so is what cannot be edited now."""
    long = "A line, and 'another' \"one\".\n" * 170
    task = Task("t", lambda *texts: None, func_args=[long] * 4)

    fields = told(task)["fields"]

    assert [field["kind"] for field in fields] == ["literal"] * 3 + ["kept"]
    assert [field["plain"] for field in fields[:3]] == [long] * 3
    for field in fields[:3]:
        assert edited_arguments(task, {field["key"]: field["text"]})[0] == task.func_args
    task.abort()
    assert [field["kind"] for field in told(task)["fields"]] == ["kept"] * 4


def test_the_form_knows_the_annotations_of_its_function() -> None:
    """Of positional and named arguments and of defaults; what stands behind `*args` has none."""

    def func(kind: Either, *rest: bool, alpha: float = 1, **more: bool) -> None:
        raise ValueError(kind)

    fields = told(Task("t", func, func_args=("bar", 3), func_kwargs={"extra": "x"}))["fields"]

    found = {field["name"]: field["as"] for field in fields}
    assert found == {"kind": "choice", "rest[0]": "int", "extra": "str", "alpha": "float"}


def test_hostile_annotations_leave_a_plain_field() -> None:
    """Those that raise whatever is asked of them."""

    class Hostile:
        def __getattribute__(self, name: str) -> Any:
            raise RuntimeError(name)

        def __eq__(self, other: object) -> bool:
            raise RuntimeError("eq")

        def __hash__(self) -> int:
            raise SystemExit

    assert shape_of(Hostile(), [1]) == {"as": ""}
