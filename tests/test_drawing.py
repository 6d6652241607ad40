"""Tasks become one safe picture per structure, whatever the engine does, however many they are."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import threading
import time
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final
from xml.etree import ElementTree as ET

import pytest

from checks import LIMIT, Calls, at_once, build
from graphs import GRAPHS, Graph
from taskqueue_nb import FSM, Task, TaskQueue
from taskqueue_nb.drawing import (
    Drawing,
    NoEngine,
    draw,
    drawing_of,
    letters,
    machine_as_dot,
    machine_as_svg,
    stamp,
    tasks_as_dot,
    tasks_as_svg,
)
from taskqueue_nb.drawing import engine as engines
from taskqueue_nb.drawing.fold import EDGES, Wish, folded
from taskqueue_nb.drawing.picture import _LAYOUTS
from taskqueue_nb.palette import PALETTE, VICTIM
from taskqueue_nb.task import FSM_TRANSITIONS, GRAPH_LOCK

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

SVG: Final = "{http://www.w3.org/2000/svg}"


@pytest.fixture(autouse=True)
def _nothing_kept() -> Iterator[None]:
    """Begin without layouts of other tests, and leave none of a broken engine."""
    _LAYOUTS.clear()
    yield
    _LAYOUTS.clear()


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the sources that engines are asked to lay out, as they come."""
    sources: list[str] = []
    run = engines.run

    def noted(engine: str, source: str, seconds: float) -> bytes:
        sources.append(source)
        return run(engine, source, seconds)

    monkeypatch.setattr(engines, "run", noted)
    return sources


def chain(count: int, **options: Any) -> list[Task]:
    """Return tasks in a row, named step 0, step 1 and so on."""
    tasks = [Task(f"step {i}", print, **options) for i in range(count)]
    for one, other in pairwise(tasks):
        other.require(one)
    return tasks


def groups_of(svg: str, kind: str) -> list[ET.Element]:
    """Return the elements of one class in a picture."""
    root = ET.fromstring(svg)  # noqa: S314 - our own picture
    return [g for g in root.iter(f"{SVG}g") if g.get("class") == kind]


def text_of(node: ET.Element, kind: str) -> str:
    """Return what stands in a box in the texts of one class."""
    return "".join(t.text or "" for t in node.iter(f"{SVG}text") if t.get("class") == kind)


# -- one picture per structure -----------------------------------------------------------------


@pytest.mark.parametrize("graph", GRAPHS.values(), ids=GRAPHS)
def test_a_picture_has_each_task_and_each_requirement(graph: Graph) -> None:
    """Boxes are t0, t1, ... in the order of the queue, edges e0-1 from cause to dependent."""
    queue = TaskQueue(*build(graph, Calls()).values())
    names = list(graph)

    drawing = draw(queue.tasks)

    assert [box.id for box in drawing.boxes] == [f"t{i}" for i in range(len(graph))]
    assert [box.label for box in drawing.boxes] == names
    assert {g.get("id") for g in groups_of(drawing.svg, "node")} == {b.id for b in drawing.boxes}
    wanted = {f"e{names.index(r)}-{i}" for i, name in enumerate(names) for r in graph[name]}
    assert {g.get("id") for g in groups_of(drawing.svg, "edge")} == wanted


def test_a_queue_is_laid_out_once_per_structure(asked: list[str]) -> None:
    """A whole run and many looks ask the engine once; a new requirement asks it once more."""
    tasks = build(GRAPHS["penguins"], Calls())
    queue = TaskQueue(*tasks.values())

    for _ in queue.run():
        queue.as_svg()
        queue._repr_mimebundle_()
        stamp(drawing_of(queue))
    assert len(asked) == 1

    queue.add(tasks["report"].then("mail", print))
    queue.as_svg()
    queue.as_svg()
    assert len(asked) == 2


def test_a_list_is_laid_out_once_too(asked: list[str]) -> None:
    """The same tasks in a plain list, and the same graph built anew, need no second layout."""
    tasks = chain(4)

    Task.tasks_as_svg(tasks)
    Task.tasks_as_svg(iter(tasks))
    Task.tasks_as_svg(chain(4))

    assert len(asked) == 1


def test_threads_that_draw_at_once_ask_once(asked: list[str]) -> None:
    """Two views that want the same new structure wait for one layout."""
    tasks = chain(30)

    pictures = at_once(8, lambda _: draw(tasks).svg)

    assert len(set(pictures)) == 1
    assert len(asked) == 1


def test_the_engine_sees_no_text_of_ours(asked: list[str]) -> None:
    """What is laid out are sizes and generated names."""
    Task("secret name", print, group="secret group").as_svg()
    queue = TaskQueue(*[Task(f"secret {i}", print, group="secret group") for i in range(3)])
    queue.as_svg()

    assert len(asked) == 2
    assert not any("secret" in source for source in asked)


@pytest.mark.parametrize("state", FSM_TRANSITIONS)
def test_a_stamp_tells_the_state_three_times(state: str) -> None:
    """A box has its state's colours, glyph and word, and says it in its title."""
    shown = PALETTE[state]

    svg = stamp(draw([Task("load", print, state=state)]))

    (node,) = groups_of(svg, "node")
    assert node.get("data-state") == state.casefold()
    assert text_of(node, "glyph") == shown.glyph
    assert text_of(node, "word") == shown.word
    assert node.findtext(f"{SVG}title") == f"load: {shown.word}"
    box = node.find(f"{SVG}rect")
    assert box is not None
    assert (box.get("fill"), box.get("stroke")) == shown.light[:2]


def test_letters_follow_the_states() -> None:
    """There is a letter per box, in the order of the boxes."""
    tasks = [Task(state, print, state=state) for state in FSM_TRANSITIONS]

    assert letters(draw(tasks)) == "epqrcfda"


def test_a_stamp_shows_the_truth_again_after_any_change() -> None:
    """A drawing holds no states: the same one shows what was undone."""
    task = Task("load", Calls(failing={"load"})["load"])
    drawing = draw([task])

    pending = stamp(drawing)
    task.dispatch()
    failed = stamp(drawing)
    task.retry()

    assert "RuntimeError" in failed
    assert stamp(drawing) == pending != failed


def test_a_cause_is_marked_and_its_victims_are_not_red() -> None:
    """A task that failed on another's account has the quiet look, the cause the red one."""
    cause = Task("cause", Calls(failing={"cause"})["cause"])
    victim = cause.then("victim", print)
    victim.make()

    nodes = groups_of(Task.tasks_as_svg([cause, victim]), "node")

    assert victim.fsm_state == "FAILED"
    assert [node.get("data-victim") for node in nodes] == [None, "true"]
    fills = [node.find(f"{SVG}rect").get("fill") for node in nodes]  # type: ignore[union-attr]  # a box has one
    assert fills[0] == PALETTE["FAILED"].light.fill != fills[1]


def test_a_victim_is_told_from_a_cause_in_every_picture() -> None:
    """The live view's letters and the DOT for other programs keep them apart as well."""
    cause = Task("cause", Calls(failing={"cause"})["cause"])
    victim = cause.then("victim", print)
    victim.make()

    assert letters(draw([cause, victim])) == "fv"
    rows = [row for row in tasks_as_dot([cause, victim]).splitlines() if "label=" in row]
    assert [PALETTE["FAILED"].light.fill in row for row in rows] == [True, False]
    assert [VICTIM.light.fill in row for row in rows] == [False, True]
    assert ["dashed" in row for row in rows] == [False, True]

    cause.supply(1)
    assert letters(draw([cause, victim])) == "dp"


def test_progress_stands_beside_the_word() -> None:
    """A running task that reports shows how much is done."""
    shown: list[str] = []

    def work() -> None:
        task = Task.current()
        assert task is not None
        task.progress(3, 4)
        shown.append(task.as_svg())

    Task("work", work).dispatch()

    assert "running 75%" in shown[0]


def test_the_same_queue_gives_the_same_bytes() -> None:
    """Nothing in a picture depends on addresses, times or chance."""
    first, second = (TaskQueue(*build(GRAPHS["penguins"], Calls()).values()) for _ in range(2))

    for queue in (first, second):
        list(queue.run())

    assert first.as_svg() == second.as_svg()
    assert first.as_dot() == second.as_dot()


@pytest.mark.parametrize("tasks", [[], [Task("only", print)]], ids=["none", "one"])
def test_small_pictures_are_no_larger_than_they_need(tasks: list[Task]) -> None:
    """Nothing, or one box, is a small picture and not an empty one."""
    drawing = draw(tasks)

    assert 0 < drawing.width < 260
    assert 0 < drawing.height < 90
    assert ("no tasks" in stamp(drawing)) is (not tasks)


def test_a_short_chain_fits_a_page() -> None:
    """Five boxes stand in a row that needs no shrinking."""
    drawing = draw(chain(5))

    assert drawing.width < 960
    assert drawing.height < 100


@pytest.mark.parametrize(
    "name",
    [
        "x",
        "w" * 60,
        "MWMW" * 12,
        "i" * 90,
        "load the data of the year 2026 " * 4,
        "process_file[/data/very/long/path/2026-11-23/part-0001.csv]",
        "Überprüfung der Ergebnisse für Österreich",
        "Загрузка данных и проверка пропущенных значений",
        "\N{CJK UNIFIED IDEOGRAPH-6570}\N{CJK UNIFIED IDEOGRAPH-636E}" * 20,
    ],
)
def test_a_text_stays_inside_its_box(name: str) -> None:
    """Even the widest usual font does not leave the box: long names have two lines, and are cut."""
    (node,) = groups_of(draw([Task(name, print)]).svg, "node")
    box = node.find(f"{SVG}rect")
    assert box is not None
    right = float(box.get("x", "nan")) + float(box.get("width", "nan"))
    bottom = float(box.get("y", "nan")) + float(box.get("height", "nan"))

    for text in node.iter(f"{SVG}text"):
        row = text.text or ""
        assert float(text.get("x", "nan")) + width_in_dejavu(row) <= right
        assert float(text.get("y", "nan")) < bottom
    assert node.findtext(f"{SVG}title") == name


def width_in_dejavu(text: str) -> float:
    """Return the width of a text in the widest of the usual fonts; what it lacks is a square."""
    from matplotlib.font_manager import FontProperties, findfont
    from matplotlib.ft2font import FT2Font

    font = FT2Font(findfont(FontProperties(family="DejaVu Sans")))
    known = font.get_charmap()
    font.set_size(13, 72)
    font.set_text("".join(c for c in text if ord(c) in known), 0.0)
    return float(font.get_width_height()[0] / 64 + 13 * sum(ord(c) not in known for c in text))


def test_boxes_do_not_overlap() -> None:
    """In a drawing with frames, long names and many edges, no two boxes touch."""
    tasks = build(GRAPHS["penguins"], Calls(), group="penguins")
    tasks["report"].name = "a report with a rather long name that needs two lines"

    rects = [
        [float(rect.get(key, "nan")) for key in ("x", "y", "width", "height")]
        for node in groups_of(draw(tasks.values()).svg, "node")
        if (rect := node.find(f"{SVG}rect")) is not None
    ]

    for i, (x, y, w, h) in enumerate(rects):
        for x2, y2, w2, h2 in rects[:i]:
            assert x + w < x2 or x2 + w2 < x or y + h < y2 or y2 + h2 < y


# -- folding -----------------------------------------------------------------------------------


def test_a_small_queue_is_not_folded() -> None:
    """Up to `max_nodes` tasks each have a box."""
    assert not draw(chain(200)).is_folded
    assert draw(chain(201)).is_folded


def test_folding_goes_by_group_then_function_then_name() -> None:
    """What the user grouped folds together, then what one function does, then names alike."""
    grouped = [Task(f"g{i}", len, group="by hand") for i in range(40)]
    same = [Task(f"some {i}", sum) for i in range(40)]
    alike = [Task(f"part-{i:04}") for i in range(40)]

    drawing = draw([*grouped, *same, *alike], max_nodes=20)

    assert [box.label for box in drawing.boxes] == [
        "by hand \N{MULTIPLICATION SIGN} 40",
        "sum \N{MULTIPLICATION SIGN} 40",
        "part \N{MULTIPLICATION SIGN} 40",
    ]


def test_names_tell_more_when_one_function_does_everything() -> None:
    """Tasks of one function fold by the stems of their names."""
    tasks = [Task(f"{stem}_ID{i:04}", print) for stem in ("load", "fit") for i in range(150)]

    assert {box.key for box in draw(tasks).boxes} == {"load", "fit"}


@pytest.mark.parametrize("flat", [True, False], ids=["flat", "deep"])
def test_tasks_with_nothing_in_common_fold_by_place(flat: bool) -> None:
    """Functions and names that are all different still give a small picture, of bands."""
    tasks = [Task(chr(97 + i % 26) * (i // 26 + 1), lambda: None) for i in range(600)]
    if not flat:
        for one, other in pairwise(tasks):
            other.require(one)

    drawing = draw(tasks)

    assert len(drawing.boxes) <= 200
    assert sum(len(box.tasks) for box in drawing.boxes) == 600
    assert all(re.match(r"tasks|levels", box.label) for box in drawing.boxes if box.is_folded)


def test_a_folded_box_counts_by_state() -> None:
    """It says how many of its tasks are in which state, and has the colour of the most urgent."""
    tasks = [Task(f"part {i}", print, state="DONE" if i < 200 else "QUEUED") for i in range(250)]
    drawing = draw(tasks)

    (node,) = groups_of(stamp(drawing), "node")

    assert text_of(node, "word") == "50 queued · 200 done"
    assert node.get("data-state") == "queued"
    assert letters(drawing) == "q"


def test_what_failed_or_runs_is_unfolded_with_its_neighbours() -> None:
    """A failure and a running task among thousands have boxes, as has what stands beside them."""
    tasks = chain(3000)
    tasks[1000].fsm_state, tasks[2000].fsm_state = "FAILED", "RUNNING"

    own = draw(tasks).own

    assert own == {tasks[i] for i in (999, 1000, 1001, 1999, 2000, 2001)}


def test_what_is_wanted_first_is_unfolded_before_failures() -> None:
    """Tasks that somebody asks for have boxes before all others, as far as there is room."""
    tasks = chain(3000)
    tasks[1000].fsm_state = "FAILED"

    drawing = draw(tasks, 60, wish=Wish(tuple(tasks[2000:2040])))
    crowded = draw(tasks, 60, wish=Wish(tuple(tasks[2000:])))

    assert drawing.own >= {*tasks[2000:2040], tasks[1000]}
    assert crowded.own <= {*tasks[2000:]}
    assert len(crowded.boxes) <= 60


TIMES: Final = " \N{MULTIPLICATION SIGN} "


def labels(drawing: Drawing) -> list[str]:
    """Return what the boxes are called, in their order."""
    return [box.label for box in drawing.boxes]


def test_an_opened_group_has_a_box_for_each_of_its_tasks() -> None:
    """What does not come by itself comes on demand, the last opened before the others."""
    tasks = [Task(f"{stem}{i}", list) for stem in ("a", "b") for i in range(150)]
    folded_away = labels(draw(tasks, 200))

    a = draw(tasks, 200, wish=Wish(opened=("a",)))
    b = draw(tasks, 200, wish=Wish(opened=("a", "b")))

    assert folded_away == [f"a{TIMES}150", f"b{TIMES}150"]
    assert a.own >= {*tasks[:100]}
    assert b.own >= {*tasks[150:250]}


def test_a_group_that_does_not_fit_opens_into_parts_that_open() -> None:
    """However many tasks there are, a few steps lead to each of them."""
    tasks = [Task(f"t{i}", list) for i in range(100_000)]
    (key,) = [box.key for box in draw(tasks).boxes]
    assert key is not None

    opened = [key]
    while not (drawing := draw(tasks, wish=Wish(opened=tuple(opened)))).own:
        assert len(drawing.boxes) <= 200
        last = drawing.boxes[-1]
        assert last.key is not None
        opened.append(last.key)

    assert len(opened) <= 4
    assert tasks[-1] in drawing.own
    assert len(drawing.boxes) <= 200
    assert sum(len(box.tasks) for box in drawing.boxes) == 100_000


def test_what_is_shut_is_folded_though_there_is_room() -> None:
    """A box says what it can be folded by; what fails in there comes out by itself."""
    tasks = [*(Task(f"part-{i}", list) for i in range(9)), Task("report", str)]
    open_ = draw(tasks)
    (of,) = {box.of for box in open_.boxes if box.of}

    shut = draw(tasks, wish=Wish(shut=frozenset({of})))
    tasks[4].error()
    after = draw(tasks, wish=Wish(shut=frozenset({of})))

    assert [box.of for box in open_.boxes] == [of] * 9 + [""]
    assert labels(shut) == [f"{of}{TIMES}9", "report"]
    assert labels(after) == [f"{of}{TIMES}8", "part-4", "report"]


def test_what_is_shut_stays_so_in_a_large_graph() -> None:
    """Neither room nor an earlier picture opens it again."""
    tasks = [*(Task(f"few{i}", list) for i in range(5)), *(Task(f"t{i}", str) for i in range(900))]
    before = draw(tasks)
    assert before.own >= {*tasks[:5]}

    after = draw(tasks, keep=before.own, wish=Wish(shut=frozenset({before.boxes[0].of})))

    assert not after.own & {*tasks[:5]}


def test_a_drawing_for_somebody_else_is_not_kept(asked: list[str]) -> None:
    """The queue's own drawing stays where it was when a folded one is made for a plan."""
    queue = TaskQueue(*chain(1000))
    own = drawing_of(queue)

    other = drawing_of(queue, wish=Wish(queue.tasks[500:520]))

    assert other.own >= {*queue.tasks[500:520]}
    assert drawing_of(queue) is own
    assert len(asked) == 2


def test_more_failures_than_boxes_stay_within_the_budget() -> None:
    """As many failures as there is room for are unfolded; the rest is counted."""
    tasks = [Task(f"part {i}", print, state="FAILED") for i in range(5000)]

    drawing = draw(tasks)

    assert len(drawing.boxes) <= 200
    assert len(drawing.own) > 150
    assert sum(len(box.tasks) for box in drawing.boxes) == 5000


def test_a_folded_drawing_is_laid_out_again_only_for_what_must_be_seen(asked: list[str]) -> None:
    """Transitions that stay folded cost no layout; a failure inside a fold unfolds it, once."""
    queue = TaskQueue(*chain(1000))
    queue.as_svg()

    for task in queue.tasks[:100]:
        task.supply(1)
    queue.as_svg()
    assert len(asked) == 1

    failing = queue.tasks[100]
    failing.func = Calls(failing={"x"})["x"]
    failing.dispatch()
    assert drawing_of(queue).own >= {failing}
    queue.as_svg()
    queue.as_svg()
    assert len(asked) == 2


def test_boxes_once_unfolded_stay_so() -> None:
    """A drawing that grows by a failure keeps the boxes that were there, so that less moves."""
    tasks = chain(1000)
    tasks[10].fsm_state = "FAILED"
    first = draw(tasks)

    tasks[10].fsm_state = "DONE"
    tasks[500].fsm_state = "FAILED"
    second = draw(tasks, keep=first.own)

    assert first.own < second.own
    assert tasks[500] in second.own


@pytest.mark.parametrize("count", [100_000])
def test_a_long_chain_is_a_summary(count: int) -> None:
    """It is drawn without recursion, in seconds at the very most."""
    tasks = chain(count)
    began = time.process_time()

    drawing = draw(tasks)

    assert time.process_time() - began < 10
    assert len(drawing.boxes) == 1
    assert drawing.boxes[0].label == f"print \N{MULTIPLICATION SIGN} {count:,}"


def test_a_ladder_of_diamonds_is_drawn_once_each() -> None:
    """Two to the power of forty ways through a graph are no reason to walk them."""
    tasks = [Task("start", print)]
    for i in range(40):
        left, right = tasks[-1].then(f"left {i}", print), tasks[-1].then(f"right {i}", print)
        bottom = left.then(f"bottom {i}", print)
        right.block(bottom)
        tasks += [left, right, bottom]

    drawing = draw(tasks)

    assert len(drawing.boxes) == 121
    assert len(drawing.edges) == 160


def test_too_many_requirements_fold_too() -> None:
    """Two layers of which everyone requires everyone are no picture but two boxes."""
    first = [Task(f"first {i}", print) for i in range(60)]
    second = [Task(f"second {i}", print) for i in range(60)]
    for one in first:
        for other in second:
            other.require(one)

    folding = folded([*first, *second], 200)

    assert len(folding.edges) <= EDGES
    assert {fold.key for fold in folding.folds} == {"first", "second"}


@pytest.mark.parametrize("shape", ["one into 3,000", "3,000 into one", "4,000 apart"])
def test_wide_graphs_are_drawn_in_seconds(shape: str) -> None:
    """Thousands of tasks give a picture of a few boxes."""
    tasks = [Task(f"part {i}", print) for i in range(4000 if "apart" in shape else 3000)]
    hub = Task("hub", len)
    for task in tasks:
        if shape.startswith("one"):
            task.require(hub)
        elif shape.startswith("3"):
            hub.require(task)
    began = time.perf_counter()

    svg = Task.tasks_as_svg([hub, *tasks])

    assert time.perf_counter() - began < 10
    assert len(groups_of(svg, "node")) == 2
    assert len(svg) < 20_000


# -- engines -----------------------------------------------------------------------------------

_START: Final = 'cat >/dev/null; echo \'<svg xmlns="http://www.w3.org/2000/svg"'
BROKEN: Final = {
    "exits 1": "exit 1",
    "exits 3 with a complaint": "echo 'syntax error' >&2; exit 3",
    "segfaults": "kill -SEGV $$",
    "hangs": "sleep 60",
    "hangs and forks": "sleep 60 & sleep 60",
    "prints nothing": "cat >/dev/null",
    "prints garbage": "cat >/dev/null; head -c 5000 /dev/urandom",
    "prints 10 MB of complaints": "head -c 10000000 /dev/zero | tr '\\0' x >&2; exit 1",
    "prints without end": "yes '<svg>'",
    "closes its input": "exec 0<&-; exit 1",
    "closes all": "exec 0<&- 1>&- 2>&-; sleep 60",
    "prints half an SVG": f"{_START}><g'",
    "prints an empty SVG": f"{_START}/>'",
    "prints another SVG": (
        f'{_START} viewBox="0 0 9 9"><g class="graph"><g class="node" id="t7">'
        '<polygon points="0,0 1,1"/></g></g></svg>\''
    ),
    "prints entities": f'{_START}><!DOCTYPE a [<!ENTITY b "c">]><g>&b;</g></svg>\'',
    "prints no numbers": f'{_START} viewBox="a b c d"><g/></svg>\'',
}


def program(folder: Path, script: str) -> str:
    """Write an engine of a few lines."""
    path = folder / "dot"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give engines half a second."""
    monkeypatch.setattr(engines, "SECONDS", 0.5)


@pytest.mark.usefixtures("impatient", "no_threads_left")
@pytest.mark.parametrize("script", BROKEN.values(), ids=BROKEN)
def test_a_broken_engine_leaves_a_list_and_a_sentence(
    script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the engine does, the tasks are listed, the sentence helps, and the run goes on."""
    monkeypatch.setenv("TASKQUEUE_NB_DOT", program(tmp_path, script))
    queue = TaskQueue(*build(GRAPHS["diamond"], Calls()).values())

    with pytest.raises(NoEngine, match="pip install graphviz-pure"):
        draw(queue.tasks)
    began = time.perf_counter()
    bundle = queue._repr_mimebundle_()
    svg = queue.as_svg()

    assert time.perf_counter() - began < LIMIT
    assert set(bundle) == {"text/plain", "text/html"}
    assert "graphviz-pure" in bundle["text/html"]
    ET.fromstring(svg)  # noqa: S314 - our own picture
    assert all(name in svg and name in bundle["text/html"] for name in GRAPHS["diamond"])
    assert [task.name for task in queue.run()] == ["top", "left", "right", "bottom"]


@pytest.mark.usefixtures("impatient")
def test_what_a_hanging_engine_started_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No process is left, also none that the engine started and forgot."""
    noted = tmp_path / "pid"
    script = f"sleep 60 & echo $! > {noted}; wait"
    monkeypatch.setenv("TASKQUEUE_NB_DOT", program(tmp_path, script))

    with pytest.raises(NoEngine, match=r"no answer within 0\.5 s"):
        draw(chain(2))

    assert not runs(int(noted.read_text()))


def runs(pid: int) -> bool:
    """Say whether a process is there and no zombie, which only its parent could bury."""
    try:
        with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123 - not a path that one handles
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_missing_engine_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sentence says which program could not be started."""
    monkeypatch.setenv("TASKQUEUE_NB_DOT", "/no/such/program")

    with pytest.raises(NoEngine, match=r"/no/such/program cannot be started"):
        draw(chain(2))


def test_no_engine_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without `dot` and without the package there is a sentence."""
    monkeypatch.setattr(engines, "engines", list)

    with pytest.raises(NoEngine, match="pip install graphviz-pure"):
        draw(chain(2))
    assert "graphviz-pure" in Task("a", print).as_svg()
    assert "graphviz-pure" in machine_as_svg(Task("a", print))


def test_a_failed_layout_is_not_tried_at_each_look(
    asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looks that follow a failure do not wait for the same engine again, for a while."""
    monkeypatch.setenv("TASKQUEUE_NB_DOT", "/no/such/program")
    queue = TaskQueue(*chain(3))

    for _ in range(5):
        queue.as_svg()

    assert len(asked) == 1


def test_a_broken_dot_gives_way_to_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`dot` on the PATH is tried first; the package's program draws if that fails."""
    program(tmp_path, f"touch {tmp_path}/tried; exit 1")
    monkeypatch.delenv("TASKQUEUE_NB_DOT", raising=False)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    drawing = draw(chain(3))

    assert (tmp_path / "tried").exists()
    assert len(drawing.boxes) == 3


def test_a_chatty_engine_is_heard_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten megabytes of complaints beside a good picture stop nothing."""
    (wheel,) = [path for path in engines.engines() if "graphviz-pure" in path]
    script = f"head -c 10000000 /dev/zero | tr '\\0' x >&2; exec {wheel} \"$@\""
    monkeypatch.setenv("TASKQUEUE_NB_DOT", program(tmp_path, script))

    assert len(groups_of(draw(chain(3)).svg, "node")) == 3


def test_a_program_in_the_current_directory_is_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relative entry of the PATH would run whatever lies in the folder that one works in."""
    program(tmp_path, f"touch {tmp_path}/ran")
    monkeypatch.delenv("TASKQUEUE_NB_DOT", raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", ".")

    draw(chain(3))

    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("which", ["package", "system"])
def test_both_engines_draw_the_same(which: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Boxes, edges and texts do not depend on the engine, and neither do the sizes of the boxes."""
    path = engines._program_of_wheel() if which == "package" else shutil.which("dot")
    if path is None:
        pytest.skip("there is no dot on this machine")
    monkeypatch.setenv("TASKQUEUE_NB_DOT", path)
    tasks = [*build(GRAPHS["penguins"], Calls(), group="g").values(), Task("läng" * 20, print)]

    drawing = draw(tasks)

    nodes = groups_of(drawing.svg, "node")
    assert {node.get("id") for node in nodes} == {f"t{i}" for i in range(11)}
    assert len(groups_of(drawing.svg, "edge")) == len(drawing.edges) == 12
    assert len(groups_of(drawing.svg, "cluster")) == 1
    first = nodes[0].find(f"{SVG}rect")
    assert first is not None
    assert (first.get("width"), first.get("height")) == ("144.0", "43.0")


# -- what a look costs and does ----------------------------------------------------------------


def test_drawing_needs_no_lock_and_fires_nothing() -> None:
    """Another thread may hold the lock of the graph: pictures and texts come all the same."""
    queue = TaskQueue(*build(GRAPHS["penguins"], Calls()).values())
    before = [(task.fsm_state, len(task.fsm_history)) for task in queue.tasks]
    made: list[Any] = []

    def look() -> None:
        made.append((queue.as_svg(), queue.as_dot(), queue.tasks[0].as_svg(), letters(draw(queue))))
        made.append(queue._repr_mimebundle_())

    with GRAPH_LOCK:
        thread = threading.Thread(target=look)
        thread.start()
        thread.join(LIMIT)
        assert not thread.is_alive()

    assert len(made) == 2
    assert [(task.fsm_state, len(task.fsm_history)) for task in queue.tasks] == before


def test_a_running_task_does_not_hold_up_its_picture() -> None:
    """A picture of a task that hangs is made at once."""
    started, release = threading.Event(), threading.Event()

    def hang() -> None:
        started.set()
        release.wait(LIMIT)

    queue = TaskQueue(Task("hang", hang)).start()
    assert started.wait(LIMIT)

    began = time.perf_counter()
    svg = queue.as_svg()
    took = time.perf_counter() - began
    release.set()

    assert queue.wait(LIMIT)
    assert took < 5
    assert 'data-state="running"' in svg


def test_drawing_while_the_graph_grows() -> None:
    """Requirements that come while others draw disturb neither."""
    queue = TaskQueue(*chain(60))
    done = threading.Event()

    def grow(i: int) -> Any:
        if i == 0:
            for n in range(100):
                queue.add(queue.tasks[n % 60].then(f"more {n}", print))
            done.set()
            return None
        looks = 0
        while not done.is_set() or not looks:
            queue.as_dot()
            letters(draw(queue.tasks, max_nodes=50))
            looks += 1
        return None

    assert at_once(3, grow, 60) == [None] * 3


# -- DOT and state diagrams --------------------------------------------------------------------


def as_read(source: str) -> tuple[set[str], list[tuple[str, str]]]:
    """Return the nodes and edges of some DOT as an engine reads it."""
    engine = engines.engines()[0]
    plain = subprocess.run(
        [engine, "-Tplain"], input=source, capture_output=True, text=True, check=True, timeout=60
    ).stdout
    rows = [row.split() for row in plain.splitlines()]
    nodes = {row[1] for row in rows if row[:1] == ["node"]}
    return nodes, [(row[1], row[2]) for row in rows if row[:1] == ["edge"]]


def test_dot_holds_the_states_and_can_be_read() -> None:
    """The DOT for other programs has each task with its state, and each requirement."""
    tasks = build(GRAPHS["diamond"], Calls(failing={"left"}))
    queue = TaskQueue(*tasks.values(), name="my graph")
    list(queue.run())

    source = queue.as_dot()

    assert source.startswith('digraph "my graph"')
    assert r"left\n✗ failed: RuntimeError" in source
    nodes, edges = as_read(source)
    assert nodes == {"t0", "t1", "t2", "t3"}
    assert sorted(edges) == [("t0", "t1"), ("t0", "t2"), ("t1", "t3"), ("t2", "t3")]


def test_dot_follows_what_is_blocked_when_asked() -> None:
    """Only the given tasks are drawn, or all that require them as well."""
    tasks = chain(4)

    assert as_read(tasks_as_dot([tasks[1]])) == ({"t0"}, [])
    nodes, edges = as_read(tasks_as_dot([tasks[1]], follow_blocking=True))
    assert (len(nodes), len(edges)) == (3, 2)
    assert len(groups_of(tasks_as_svg([tasks[1]], follow_blocking=True), "node")) == 3


def test_dot_takes_another_separator() -> None:
    """`sep` stands between the statements, and what comes out is still DOT."""
    source = tasks_as_dot(chain(3), "three", sep=";\n\n")

    assert source.count(";\n\n") >= 4
    assert as_read(source) == ({"t0", "t1", "t2"}, [("t0", "t1"), ("t1", "t2")])


def test_a_state_diagram_has_every_state_and_event() -> None:
    """The diagram follows from the table; the present state alone is lit."""
    task = Task("load", print, state="RUNNING")

    svg, dot = task.fsm_svg, task.fsm_dot

    nodes = groups_of(svg, "node")
    assert [text_of(node, "ink") or text_of(node, "label") for node in nodes] == [*FSM_TRANSITIONS]
    assert [text_of(n, "label") for n in nodes if n.get("data-state")] == ["RUNNING"]
    events = {event for row in FSM_TRANSITIONS.values() for event in row}
    words = {
        word.strip() for edge in groups_of(svg, "edge") for word in text_of(edge, "soft").split(",")
    }
    assert words == events
    assert as_read(dot)[0] == {f"s{i}" for i in range(8)}


@pytest.mark.parametrize(
    "table",
    [{"shut": {"push": "open"}, "open": {"pull": "shut", "push": "open"}}, {"only": {}}],
    ids=["door", "single"],
)
def test_any_machine_has_a_diagram(table: dict[str, dict[str, str]]) -> None:
    """A machine of the user's own, with loops, is drawn like ours."""
    machine = FSM(transitions=table)

    nodes = groups_of(machine_as_svg(machine), "node")

    assert len(nodes) == len(table)
    assert nodes[0].get("data-state") is not None
    assert "digraph" in machine_as_dot(machine)


def stamped_in(drawing: Drawing, tasks: Sequence[Task]) -> float:
    """Return the seconds of one stamp, at best, with half of the states changed before each."""
    times = []
    for i in range(9):
        for task in tasks[i % 2 :: 2]:
            task.fsm_state = "RUNNING" if task.fsm_state == "PENDING" else "PENDING"
        began = time.process_time()
        stamp(drawing)
        times.append(time.process_time() - began)
    return min(times)


def test_stamping_is_far_cheaper_than_a_layout(asked: list[str]) -> None:
    """States are written into 200 boxes in a small part of the time of their layout."""
    tasks = [Task(f"part {i}", print) for i in range(200)]
    for i, task in enumerate(tasks[20:]):
        task.require(tasks[i])
    began = time.perf_counter()
    drawing = draw(tasks)
    layout = time.perf_counter() - began

    assert stamped_in(drawing, tasks) < layout / 4
    assert len(asked) == 1
