"""A task or a queue shows itself as text, as a table with its picture, and as the picture."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from base64 import b64decode
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from checks import LIMIT, Calls, build
from graphs import GRAPHS, Graph
from taskqueue_nb import Task, TaskQueue
from taskqueue_nb.palette import PALETTE
from taskqueue_nb.reprs import LINES, _forest, mimebundle, preview, said, still_html, tree
from taskqueue_nb.task import FSM_TRANSITIONS

if TYPE_CHECKING:
    from collections.abc import Collection

TYPES: Final = ("text/plain", "text/html", "image/svg+xml")


def penguins(failing: str = "") -> TaskQueue:
    """Return the example analysis after a run in which one task failed."""
    calls = Calls({failing})
    queue = TaskQueue(*build(GRAPHS["penguins"], calls).values(), name="penguins")
    list(queue.run())
    return queue


def rows_of(html: str) -> list[list[str]]:
    """Return the cells of a page's table as texts."""
    body = html.partition("<tbody>")[2].partition("</tbody>")[0]
    cells = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in body.split("</tr>")[:-1]]
    return [[re.sub(r"<[^>]*>", "", cell) for cell in row] for row in cells]


# -- the bundle --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("include", "exclude", "wanted"),
    [
        (None, None, TYPES),
        (None, {"image/svg+xml"}, TYPES[:2]),
        ({"text/html"}, None, TYPES[:2]),
        ({"image/svg+xml"}, None, ("text/plain", "image/svg+xml")),
        ({"text/html"}, {"text/html"}, TYPES[:1]),
        ((), None, TYPES[:1]),
        (None, TYPES, TYPES[:1]),
        (["application/javascript", "text/plain"], [], TYPES[:1]),
    ],
)
def test_a_bundle_honours_what_is_wanted(
    include: Collection[str] | None, exclude: Collection[str] | None, wanted: tuple[str, ...]
) -> None:
    """Only what is asked for comes, but the text always does."""
    for shown in (penguins(), Task("a", print)):
        assert tuple(shown._repr_mimebundle_(include, exclude)) == wanted


def test_text_alone_needs_no_layout(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who wants the text does not wait for a picture."""
    monkeypatch.setattr("taskqueue_nb.reprs._picture", None)

    assert set(mimebundle(penguins(), include=["text/plain"])) == {"text/plain"}


def test_ipython_shows_all_of_it() -> None:
    """IPython's own formatter finds the bundle of a task, and warns of nothing."""
    from IPython.core.formatters import DisplayFormatter

    data, _ = DisplayFormatter().format(Task("load", print))  # type: ignore[no-untyped-call]  # IPython brings no types

    assert set(TYPES) <= set(data)


@pytest.mark.parametrize("shown", ["queue", "task", "list"])
def test_bundles_of_equal_things_are_equal(shown: str) -> None:
    """The same graph in the same states gives the same bytes, but for the times in the table."""

    def bundle() -> dict[str, str]:
        queue = penguins("fit gentoo")
        which: Any = {"queue": queue, "task": queue.tasks[3], "list": list(queue.tasks)}[shown]
        return mimebundle(which)

    first, second = bundle(), bundle()

    for kind in TYPES:
        assert re.sub(r"\d+\.\d+ s", "", first[kind]) == re.sub(r"\d+\.\d+ s", "", second[kind])
    assert "0x" not in first["text/plain"]


# -- the tree ----------------------------------------------------------------------------------


def test_the_tree_of_an_analysis() -> None:
    """Each task stands once, below the last of what it requires, with its glyph and its word."""
    assert tree(penguins("fit chinstrap")) == (
        """\
TaskQueue 'penguins': 2 pending, 1 failed, 7 done
✓ load  done
└─ ✓ clean  done
   ├─ ✓ adelie  done
   │  └─ ✓ fit adelie  done
   ├─ ✓ chinstrap  done
   │  └─ ✗ fit chinstrap  failed: RuntimeError
   └─ ✓ gentoo  done
      └─ ✓ fit gentoo  done
         └─ ○ plot  pending  (also after clean, fit adelie, fit chinstrap)
            └─ ○ report  pending
1 cause blocks 2 tasks"""
    )


@pytest.mark.parametrize("state", FSM_TRANSITIONS)
def test_the_tree_tells_a_state_by_glyph_and_word(state: str) -> None:
    """Every state can be read without colours."""
    shown = PALETTE[state]

    assert f"{shown.glyph} load  {shown.word}" in tree([Task("load", print, state=state)])


def test_the_tree_of_nothing() -> None:
    """An empty queue says so."""
    assert tree(TaskQueue()) == "TaskQueue: no tasks"


@pytest.mark.parametrize("count", [LINES, LINES + 1, 1000, 100_000])
def test_a_tree_has_a_bounded_number_of_lines(count: int) -> None:
    """A long chain fits a screen or two, in width and height, and every task is counted."""
    tasks = [Task(f"step {i}", print) for i in range(count)]
    for one, other in pairwise(tasks):
        other.require(one)

    rows = tree(tasks).split("\n")

    assert len(rows) <= LINES + 1
    assert max(map(len, rows)) < 120
    assert rows[0] == f"Tasks: {count:,} pending"


def test_failures_are_in_every_tree() -> None:
    """What failed among thousands has a line of its own."""
    calls = Calls({"part 700"})
    tasks = [Task(f"part {i}", calls[f"part {i}"]) for i in range(2000)]
    list(TaskQueue(*tasks).run())

    assert "✗ part 700  failed: RuntimeError" in tree(tasks)


@given(
    st.integers(1, 12).flatmap(
        lambda n: st.tuples(
            st.just(n),
            st.sets(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)), max_size=30),
        )
    )
)
def test_a_forest_shows_each_node_once(graph: tuple[int, set[tuple[int, int]]]) -> None:
    """Whatever the edges, also in circles, all nodes are there, those without circles in order."""
    count, pairs = graph
    edges = [(one, other) for one, other in sorted(pairs) if one != other]

    rows, before = _forest(count, edges)

    order = [node for node, _ in rows]
    assert sorted(order) == list(range(count))
    if all(one < other for one, other in edges):
        assert all(order.index(one) < order.index(other) for one, other in edges)
        assert all({*before[b]} == {x for x, y in edges if y == b} for b in range(count))


def test_a_tree_can_be_printed_anywhere() -> None:
    """It goes through a terminal of UTF-8, and is the text of a queue outside of a notebook."""
    code = (
        "from taskqueue_nb import Task, TaskQueue; from taskqueue_nb.reprs import tree; "
        "print(tree(TaskQueue(Task('load', print))))"
    )

    shown = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        check=True,
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
        timeout=LIMIT,
    ).stdout.decode()

    assert shown.splitlines() == ["TaskQueue: 1 pending", "○ load  pending"]


# -- the table and the picture -----------------------------------------------------------------


def test_the_table_tells_state_time_attempts_and_why() -> None:
    """A row per task: a failure with its exception and message, what waits with its cause."""
    queue = penguins("fit gentoo")

    rows = {row[0]: row[1:] for row in rows_of(mimebundle(queue)["text/html"])}

    assert list(rows) == list(GRAPHS["penguins"])
    assert rows["load"][0] == "✓ done"
    assert re.fullmatch(r"\d+\.\d\d s", rows["load"][1])
    assert rows["load"][2:] == ["1", ""]
    assert rows["fit gentoo"][0] == "✗ failed"
    assert rows["fit gentoo"][3] == "RuntimeError: fit gentoo was told to fail"
    assert rows["plot"] == ["○ pending", "", "", "blocked by fit gentoo"]
    assert rows["report"][3] == "blocked by fit gentoo"


def test_causes_stand_under_the_picture_with_what_they_block() -> None:
    """The page names what to mend, and how much hangs on it."""
    html = mimebundle(penguins("fit gentoo"))["text/html"]

    (told,) = re.findall(r"<li>(.*?)</li>", html)
    assert re.sub("<[^>]*>", "", told) == (
        "✗ fit gentoo failed: RuntimeError: fit gentoo was told to fail, blocks 2 tasks"
    )
    assert "<li>" not in mimebundle(penguins())["text/html"]


def test_a_repaired_task_shows_its_attempts() -> None:
    """Only the last attempt's state counts; their number is told."""
    calls = Calls({"load"})
    task = Task("load", calls["load"])
    task.dispatch()
    calls.failing.clear()
    task.retry()
    task.dispatch()

    (row,) = rows_of(mimebundle([task])["text/html"])

    assert row[:2] == ["load", "✓ done"]
    assert row[3:] == ["2", ""]


def test_a_cancelled_task_says_why() -> None:
    """What ended it stands in the table."""
    task = Task("load", print, cancel_on_result=lambda value: True)
    task.dispatch()

    (row,) = rows_of(mimebundle([task])["text/html"])

    assert row[1] == "⊘ cancelled"
    assert "its result asks for cancellation" in row[4]


def test_the_picture_is_an_image_with_words() -> None:
    """The picture is in the page as data, with what it shows in words, and a key when asked."""
    queue = penguins("fit gentoo")

    html = still_html(queue, key="tq-7")

    (image,) = re.findall(r"<img [^>]*>", html)
    said_of_it = "tq-7 TaskQueue &#x27;penguins&#x27;: 2 pending, 1 failed, 7 done"
    assert f'alt="{said_of_it}"' in image
    (data,) = re.findall(r'src="data:image/svg\+xml;base64,([^"]+)"', image)
    assert b64decode(data).decode() == queue.as_svg()


def test_a_picture_alone_has_its_own_ground_and_follows_a_dark_page() -> None:
    """The still picture needs no style of the page: an opaque ground, and rules for dark ones."""
    svg = mimebundle(penguins())["image/svg+xml"]

    assert '<rect class="paper" width="100%" height="100%" fill="#ffffff"/>' in svg
    assert "prefers-color-scheme:dark" in svg
    assert all(
        rule.lstrip().startswith(".tq-picture ")
        for rule in re.findall(
            r"[{}]([^{}@]+)\{", svg.partition("<style>")[2].partition("</style>")[0]
        )
    )


def test_a_task_is_shown_with_its_neighbours() -> None:
    """A task's own bundle draws what it requires and what requires it."""
    queue = penguins()
    clean = queue.tasks[1]

    bundle = clean._repr_mimebundle_()

    assert bundle["text/plain"].startswith("Task 'clean': done\n")
    names = [row[0] for row in rows_of(bundle["text/html"])]
    assert names == ["load", "clean", "adelie", "chinstrap", "gentoo", "plot"]


@pytest.mark.parametrize("graph", GRAPHS.values(), ids=GRAPHS)
def test_every_graph_has_a_bundle_at_every_step(graph: Graph) -> None:
    """A queue can be shown before, between and after its steps."""
    queue = TaskQueue(*build(graph, Calls()).values())

    shown = [set(mimebundle(queue))]
    while queue.step() is not None:
        shown.append(set(mimebundle(queue)))

    assert shown == [set(TYPES)] * (len(graph) + 1)


def test_a_hanging_task_does_not_hold_up_its_repr() -> None:
    """What is running is shown as running, at once."""
    started, release = threading.Event(), threading.Event()

    def hang() -> None:
        started.set()
        release.wait(LIMIT)

    queue = TaskQueue(Task("hang", hang), Task("next", print)).start()
    try:
        assert started.wait(LIMIT)
        assert "► hang  running" in mimebundle(queue)["text/plain"]
    finally:
        release.set()
    assert queue.wait(LIMIT)


def test_a_large_queue_has_a_short_table() -> None:
    """Rows fold like boxes: a group of hundreds is one row with its counts."""
    tasks = [Task(f"fit[{i}]", print, group="fit", state="DONE") for i in range(500)]
    tasks.append(Task("report", print))

    rows = rows_of(mimebundle(TaskQueue(*tasks))["text/html"])

    assert [row[:2] for row in rows] == [
        ["fit \N{MULTIPLICATION SIGN} 500", "✓ 500 done"],
        ["report", "○ pending"],
    ]


# -- other people's objects --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "None"),
        (5, "5"),
        ("text", "'text'"),
        ([1, [2, (3,)]], "[1, [2, (3,)]]"),
        ({"a": {1}}, "{'a': {1}}"),
    ],
)
def test_preview_is_the_repr_of_plain_values(value: object, text: str) -> None:
    """Short values look as Python shows them."""
    assert preview(value) == text


def test_said_is_one_line() -> None:
    """An exception's class and words stand on one line, cut."""
    assert said(ValueError("a\nb")) == r"ValueError: a\nb"
    assert said(KeyError()) == "KeyError"
    assert said("ValueError: kept as text") == "ValueError: kept as text"
    assert len(said(ValueError("x" * 10_000))) <= 200
