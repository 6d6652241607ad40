"""A task or a queue shows itself as text, as a table with its picture, and as the picture."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from base64 import b64decode
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from checks import LIMIT, Background, Calls, build
from graphs import GRAPHS, Graph, ladder
from taskqueue_nb import Task, TaskQueue
from taskqueue_nb.palette import PALETTE
from taskqueue_nb.reprs import LINES, _forest, mimebundle, preview, said, still_html, tree
from taskqueue_nb.task import FSM_TRANSITIONS, GRAPH_LOCK

if TYPE_CHECKING:
    from collections.abc import Collection

SVG: Final = "{http://www.w3.org/2000/svg}"
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
    for shown in (penguins(), Task("a", print), penguins("load").plan("retry")):
        assert tuple(shown._repr_mimebundle_(include, exclude)) == wanted


def test_text_alone_needs_no_layout(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who wants the text does not wait for a picture."""
    monkeypatch.setattr("taskqueue_nb.reprs._picture", None)

    assert set(mimebundle(penguins(), include=["text/plain"])) == {"text/plain"}
    plan = penguins("load").plan("retry")
    assert set(plan._repr_mimebundle_(include=["text/plain"])) == {"text/plain"}


def test_ipython_shows_all_of_it() -> None:
    """IPython's own formatter finds the bundle of a task, and warns of nothing."""
    from IPython.core.formatters import DisplayFormatter

    for shown in (Task("load", print), penguins("load").plan("retry")):
        data, _ = DisplayFormatter().format(shown)  # type: ignore[no-untyped-call]  # IPython brings no types
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


@pytest.mark.parametrize("graph", GRAPHS.values(), ids=GRAPHS)
@pytest.mark.parametrize("make", [False, True], ids=["run", "make"])
def test_the_tree_and_the_page_count_causes_as_the_queue_does(graph: Graph, make: bool) -> None:
    """Where something is blocked, one line says so, in the words of `causes()`; else none does."""
    queue = TaskQueue(*build(graph, Calls(failing={*list(graph)[::4]})).values())
    if make:
        queue.tasks[-1].make()
    list(queue.run())
    blame = str(queue.causes())
    blocked = any(queue.causes().values())

    assert (tree(queue).splitlines()[-1] == blame) is blocked
    assert (f"<p>{blame}</p>" in mimebundle(queue)["text/html"]) is blocked
    assert "block" not in tree(queue.tasks[0]).splitlines()[-1]


def test_a_cause_whose_dependents_run_all_the_same_is_not_said_to_block() -> None:
    """A task that was started before its prerequisite was invalidated and failed goes on."""
    bad = Task("bad", Calls(failing={"bad"})["bad"])
    bad.supply(1)
    after = bad.then("after", print)
    after.fsm_event("dispatch")
    bad.invalidate()
    bad.dispatch()
    queue = TaskQueue(bad, after)

    assert not any(queue.causes().values())
    assert "cause" not in tree(queue)
    assert "cause" not in mimebundle(queue)["text/html"]


def test_causes_that_are_alike_count_once() -> None:
    """A thousand failures at the same line are one cause, as in `causes()`, and soon counted."""
    calls = Calls()
    tasks = [Task(f"part {i}", calls["part"]) for i in range(1000)]
    tail = [each.then(f"use {i}", print) for i, each in enumerate(tasks)]
    report = tail[0].then("report", print)
    for each in tail[1:]:
        report.require(each)
    calls.failing.add("part")
    queue = TaskQueue(*tasks, *tail, report)
    list(queue.run())

    assert tree(queue).splitlines()[-1] == str(queue.causes()) == "1 cause blocks 1001 tasks"


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


# -- a plan ------------------------------------------------------------------------------------


def nodes_of(svg: str) -> dict[str, ET.Element]:
    """Return the boxes of a picture by the first line of their label."""
    root = ET.fromstring(svg)  # noqa: S314 - our own picture
    found = [g for g in root.iter(f"{SVG}g") if g.get("class") == "node"]
    return {text_of(node, "label"): node for node in found}


def text_of(node: ET.Element, kind: str) -> str:
    """Return what stands in a box in the texts of one class."""
    return "".join(t.text or "" for t in node.iter(f"{SVG}text") if t.get("class") == kind)


def told(svg: str) -> dict[str, tuple[str | None, str, str]]:
    """Return what each box of a plan's picture tells: role, sign or number, word."""
    return {
        name: (node.get("data-role"), text_of(node, "glyph"), text_of(node, "word"))
        for name, node in nodes_of(svg).items()
    }


def test_the_text_of_a_plan() -> None:
    """The first line is the sentence; then what runs, in order, each with its reason."""
    plan = penguins("fit gentoo").plan("retry")

    assert repr(plan) == "3 will run, 7 are reused"
    assert plan._repr_mimebundle_()["text/plain"] == (
        """\
3 will run, 7 are reused
1. fit gentoo  it failed: RuntimeError: fit gentoo was told to fail
2. plot  it waited for 'fit gentoo'
3. report  it waited for 'plot'"""
    )


def test_the_text_of_a_plan_names_who_else_is_concerned() -> None:
    """What is stale is counted, and what stays blocked is named with its cause."""
    queue = penguins("fit gentoo")

    rows = queue.plan("invalidate", queue.tasks[4])._repr_mimebundle_()["text/plain"].splitlines()

    assert rows[1] == "1. gentoo  stale: it is to run again"
    assert rows[2:] == [
        "1 is stale",
        (
            "2 stay blocked: plot (blocked by 'fit gentoo', which is failed), "
            "report (it requires 'plot', which is not done)"
        ),
    ]


@pytest.mark.parametrize(
    ("verb", "at", "row"),
    [
        ("supply", 7, "1 is supplied: fit gentoo (its value is given by hand)"),
        ("cancel", 8, "1 is given up: plot (it is given up)"),
    ],
)
def test_the_text_of_a_plan_names_what_is_done_by_hand(verb: str, at: int, row: str) -> None:
    """What gets its value or is given up does not run, and has a line of its own."""
    queue = penguins("fit gentoo")
    how = (7,) if verb == "supply" else ()

    shown = queue.plan(verb, queue.tasks[at], *how)._repr_mimebundle_()

    assert row in shown["text/plain"].splitlines()


def test_the_text_of_a_plan_tells_times_that_one_waits_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where a task takes a second or more, each known time stands behind its reason."""
    now = 1e9

    def slow(seconds: float) -> None:
        nonlocal now
        now += seconds
        if seconds > 100:
            raise TimeoutError

    def tick() -> float:
        nonlocal now
        now += 1e-3
        return now

    for module in ("task", "repair.changes", "repair.plans"):
        monkeypatch.setattr(sys.modules[f"taskqueue_nb.{module}"], "time", tick)
    load = Task("load", slow, func_args=(200,))
    queue = TaskQueue(load, load.then("clean", print), Task("aside", slow, func_args=(0.5,)))
    list(queue.run())
    queue.invalidate(queue.tasks[2])

    bundle = queue.plan("retry")._repr_mimebundle_()

    assert sorted(bundle["text/plain"].splitlines()[1:]) == [
        "1. aside  it is ready anyway (under 1 s)",
        "2. load  it failed: TimeoutError (3 min)",
        "3. clean  it waited for 'load'",
    ]
    assert told(bundle["image/svg+xml"])["load"] == ("run", "2", "will run, 3 min")
    assert told(bundle["image/svg+xml"])["aside"] == ("run", "1", "will run")
    assert [row[-1] for row in rows_of(bundle["text/html"])] == ["under 1 s", "3 min", ""]


def test_a_long_plan_has_a_short_text() -> None:
    """Some forty tasks are listed; the others are counted."""
    tasks = [Task(f"part {i}", print) for i in range(10_000)]

    rows = TaskQueue(*tasks).plan()._repr_mimebundle_(["text/plain"])["text/plain"].splitlines()

    assert len(rows) == 42
    assert rows[1] == " 1. part 0  it is ready anyway"
    assert rows[40:] == ["40. part 39  it is ready anyway", "and 9,960 more"]


def test_the_picture_of_a_plan_tells_roles_in_place_of_states() -> None:
    """What runs has its number; what is reused or stays blocked says so, the rest its state."""
    queue = penguins("fit gentoo")

    svg = queue.plan("invalidate", queue.tasks[2]).as_svg()

    assert told(svg) == {
        "load": ("reused", "✓", "reused"),
        "clean": ("reused", "✓", "reused"),
        "adelie": ("stale", "1", "stale, runs again"),
        "chinstrap": ("reused", "✓", "reused"),
        "gentoo": ("reused", "✓", "reused"),
        "fit adelie": ("stale", "2", "stale, runs again"),
        "fit chinstrap": ("reused", "✓", "reused"),
        "fit gentoo": (None, "✗", "failed"),
        "plot": ("blocked", "◌", "stays blocked"),
        "report": ("blocked", "◌", "stays blocked"),
    }
    title = nodes_of(svg)["fit adelie"].findtext(f"{SVG}title")
    assert title == (
        "fit adelie: stale, runs again as number 2: 'adelie', which it requires, runs again"
    )


def test_a_stale_task_that_does_not_run_has_no_number() -> None:
    """Who asks for no run of what is behind sees what gives up its result all the same."""
    load = Task("load", Calls()["load"])
    plot = load.then("plot", Calls()["plot"])
    queue = TaskQueue(load)
    load.make()
    plot.make()

    plan = queue.plan("invalidate", load)

    assert told(plan.as_svg())["plot"] == ("stale", "↻", "stale")
    assert plan._repr_mimebundle_()["text/plain"].splitlines()[-1].startswith("2 are stale: plot (")


def test_the_sentence_and_a_legend_stand_above_the_picture() -> None:
    """A caption says what is planned and explains the roles that occur, and fits the picture."""
    plan = penguins("fit gentoo").plan("retry")

    root = ET.fromstring(plan.as_svg("Monday"))  # noqa: S314 - our own picture

    (caption,) = [g for g in root.iter(f"{SVG}g") if g.get("class") == "caption"]
    texts = [text.text for text in caption.iter(f"{SVG}text") if text.get("class") == "ink"]
    assert texts == ["Monday: 3 will run, 7 are reused", "will run", "reused"]
    _, top, wide, high = map(float, (root.get("viewBox") or "").split())
    assert top < 0
    places = [
        (float(e.get("x", "nan")), float(e.get("y", "nan")))
        for e in root.iter()
        if e.get("x") is not None
    ]
    assert all(0 <= x <= wide and top <= y <= top + high for x, y in places)
    assert root.get("aria-label") == "Monday: 3 will run, 7 are reused"


def test_the_legend_of_a_narrow_picture_has_room() -> None:
    """A plan of one task is as wide as its sentence needs."""
    task = Task("a", print, state="FAILED")

    root = ET.fromstring(TaskQueue(task).plan("retry").as_svg("x" * 60))  # noqa: S314 - our own

    assert float(root.get("width", "nan")) > 300


def test_a_plan_is_laid_out_as_its_queue_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """The picture of a plan asks no engine where the queue has been drawn."""
    queue = penguins("fit gentoo")
    before = queue.as_svg()
    monkeypatch.setattr("taskqueue_nb.drawing.engine.run", None)

    planned = queue.plan("retry").as_svg()

    def places(svg: str) -> list[tuple[str | None, ...]]:
        boxes = [node.find(f"{SVG}rect") for node in nodes_of(svg).values()]
        return [(box.get("x"), box.get("y")) for box in boxes if box is not None]

    assert places(planned) == places(before)
    assert queue.as_svg() == before


def test_the_page_of_a_plan() -> None:
    """The picture with its sentence in words, the sentence, and a row for each task."""
    queue = penguins("fit gentoo")
    plan = queue.plan("retry")

    html = plan._repr_mimebundle_()["text/html"]

    (image,) = re.findall(r"<img [^>]*>", html)
    assert 'alt="Plan of retry: 3 will run, 7 are reused"' in image
    (data,) = re.findall(r'src="data:image/svg\+xml;base64,([^"]+)"', image)
    assert b64decode(data).decode() == plan.as_svg()
    assert "<strong>3 will run, 7 are reused</strong>" in html
    rows = rows_of(html)
    assert rows[0][:5] == [
        "1", "fit gentoo", "✗ failed", "▷ will run",
        "it failed: RuntimeError: fit gentoo was told to fail",
    ]  # fmt: skip
    assert rows[1] == [
        "2",
        "plot",
        "○ pending",
        "▷ will run",
        "it waited for &#x27;fit gentoo&#x27;",
        "",
    ]
    assert [row[1] for row in rows[3:]] == list(GRAPHS["penguins"])[:7]
    assert {(row[0], row[3]) for row in rows[3:]} == {("", "✓ reused")}


def test_a_plan_of_one_task_draws_what_it_touches_with_its_neighbours() -> None:
    """Without a queue, what the verb sets in motion is drawn, and what stands beside it."""
    queue = penguins("fit gentoo")

    svg = queue.tasks[7].plan("retry").as_svg()

    assert told(svg) == {
        "gentoo": ("reused", "✓", "reused"),
        "fit gentoo": ("run", "1", "will run"),
        "clean": ("reused", "✓", "reused"),
        "fit adelie": ("reused", "✓", "reused"),
        "fit chinstrap": ("reused", "✓", "reused"),
        "plot": ("run", "2", "will run"),
        "report": ("run", "3", "will run"),
    }


def test_the_plan_of_an_empty_queue() -> None:
    """A plan of nothing is a sentence and a small picture."""
    bundle = TaskQueue().plan()._repr_mimebundle_()

    assert bundle["text/plain"] == "nothing will run"
    assert "no tasks" in bundle["image/svg+xml"]
    assert rows_of(bundle["text/html"]) == []


def test_a_plan_whose_graph_has_moved_shows_what_was_planned() -> None:
    """After runs, new tasks and requirements, the picture is of the plan, and nothing raises."""
    calls = Calls({"fit gentoo"})
    tasks = build(GRAPHS["penguins"], calls)
    queue = TaskQueue(*tasks.values())
    list(queue.run())
    retry, late = queue.plan("retry"), queue.plan("retry")
    stale = queue.plan("invalidate", tasks["adelie"])
    before = told(retry.as_svg())

    calls.failing.clear()
    queue.retry()
    list(queue.run())
    queue.add(tasks["report"].then("mail", print))
    queue.repair(queue.tasks[-1], kwargs={"sep": tasks["load"]})
    queue.invalidate(tasks["load"])

    assert told(retry.as_svg()) == told(late.as_svg()) == before
    for plan in (retry, late, stale):
        bundle = plan._repr_mimebundle_()
        assert set(bundle) == set(TYPES)
        assert bundle["text/plain"].splitlines()[0] == repr(plan)
        assert "mail" not in bundle["image/svg+xml"]


def test_a_requirement_that_is_gone_does_not_keep_a_plan_from_being_shown() -> None:
    """A reason that held when the plan was made may name what is required no longer."""
    load, other = Task("load", lambda: 1), Task("other", lambda: 2)
    fit = Task("fit", str, func_args=(load,))
    queue = TaskQueue(load, other, fit)
    list(queue.run())
    plan = queue.plan("invalidate", load)
    queue.invalidate(fit)
    queue.repair(fit, args=(other,))

    bundle = plan._repr_mimebundle_()

    assert set(bundle) == set(TYPES)
    assert bundle["text/plain"].splitlines()[:3] == [
        "2 will run, 1 is reused, under 1 s",
        "1. load  stale: it is to run again",
        "2. fit  stale: something that it required runs again",
    ]


def test_a_plan_in_a_graph_of_thousands_shows_what_runs() -> None:
    """What runs is unfolded, the rest is counted by role; it is a matter of seconds at most."""
    calls = Calls({"part 700"})
    parts = [Task(f"part {i}", calls[f"part {i}"]) for i in range(10_000)]
    report = parts[700].then("report", calls["report"])
    queue = TaskQueue(*parts, report)
    list(queue.run())
    began = time.perf_counter()

    bundle = queue.plan("retry")._repr_mimebundle_()

    assert time.perf_counter() - began < 10
    boxes = told(bundle["image/svg+xml"])
    assert boxes["part 700"] == ("run", "1", "will run")
    assert boxes["report"] == ("run", "2", "will run")
    folded = {name: rest for name, rest in boxes.items() if "\N{MULTIPLICATION SIGN}" in name}
    assert [rest[::2] for rest in folded.values()] == [("reused", "9,999 reused")]
    assert all(len(text) < 500_000 for text in bundle.values())


def test_a_folded_box_counts_by_role() -> None:
    """Where more run than fit, a box says how many, and how many are stale among them."""
    tasks = [Task(f"part {i}", Calls()["part"]) for i in range(1000)]
    queue = TaskQueue(*tasks)
    list(queue.run())
    queue.invalidate(*tasks[:300])

    svg = queue.plan("invalidate", *tasks[300:600]).as_svg(max_nodes=1)

    ((name, said_of_it),) = told(svg).items()
    assert name == "work \N{MULTIPLICATION SIGN} 1,000"
    assert said_of_it == ("run", "▷", "600 will run · 400 reused")
    assert "of these 300 stale" in svg


def test_a_folded_box_counts_what_stays_blocked() -> None:
    """What waits in vain is counted beside what is reused."""
    calls = Calls({"hub"})
    hub = Task("hub", calls["hub"])
    queue = TaskQueue(hub, *[hub.then(f"part {i}", print) for i in range(500)])
    list(queue.run())

    boxes = told(queue.plan("run").as_svg())

    assert boxes["hub"] == (None, "✗", "failed")
    assert boxes["part 0"] == ("blocked", "◌", "stays blocked")  # beside the cause
    assert boxes["part \N{MULTIPLICATION SIGN} 492"] == ("blocked", "◌", "492 blocked")


def test_numbers_of_a_long_plan_stay_in_their_place() -> None:
    """A number of five digits is as small as it must be."""
    tasks = [Task(f"part {i}", print) for i in range(12_000)]
    queue = TaskQueue(*tasks)
    plan = queue.plan()

    svg = plan.as_svg(max_nodes=100)

    signs = re.findall(r'class="glyph"[^>]* font-size="([\d.]+)">(\d+)<', svg)
    assert len(signs) >= 30
    assert all(float(size) * 0.56 * len(number) < 28 for size, number in signs)


def test_a_long_plan_in_the_middle_of_a_ladder_is_drawn() -> None:
    """What runs begins and ends beside the same folded boxes, and is laid out all the same."""
    graph = ladder(5000)
    calls = Calls({list(graph)[5000]})
    queue = TaskQueue(*build(graph, calls).values())
    list(queue.run())
    began = time.perf_counter()

    boxes = told(queue.plan("retry").as_svg())

    assert time.perf_counter() - began < 8
    numbers = {int(sign) for role, sign, _ in boxes.values() if role == "run" and sign.isdigit()}
    assert numbers >= set(range(1, 61))  # and their neighbours


def test_a_small_number_is_as_large_as_a_sign() -> None:
    """Numbers of one and two digits are as large as signs, longer ones as large as fits."""
    tasks = [Task(f"part {i}", print) for i in range(120)]

    svg = TaskQueue(*tasks).plan().as_svg()

    signs = re.findall(r'class="glyph"[^>]* font-size="([\d.]+)">(\d+)<', svg)
    assert len(signs) == 120
    assert {len(number): size for size, number in signs} == {1: "15", 2: "15", 3: "14"}


def test_a_plan_without_an_engine_is_a_list(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing can lay it out, its tasks are listed with their roles, and the advice."""
    monkeypatch.setattr("taskqueue_nb.drawing.engine.engines", list)
    plan = penguins("fit gentoo").plan("retry")

    bundle = plan._repr_mimebundle_()
    svg = plan.as_svg()

    assert set(bundle) == {"text/plain", "text/html"}
    assert "graphviz-pure" in bundle["text/html"]
    assert len(rows_of(bundle["text/html"])) == 10
    assert "3 will run, 7 are reused" in svg
    assert "▷ will run" in svg
    assert "graphviz-pure" in svg


def test_looking_at_a_plan_needs_no_lock() -> None:
    """Another thread may hold the lock of the graph: the plan is shown all the same."""
    plan = penguins("fit gentoo").plan("retry")

    with GRAPH_LOCK:
        shown = Background(plan._repr_mimebundle_).join()

    assert set(shown) == set(TYPES)


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
