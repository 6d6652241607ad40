"""Large graphs in a real browser: fold and unfold, find, look around, the map; nothing jumps."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from playwright.sync_api import Page, expect

from browser.conftest import MakeNotebook
from browser.graphs_live import View

TIMES: Final = "\N{MULTIPLICATION SIGN}"
DASH: Final = "\N{EN DASH}"
LARGE: Final = """
from taskqueue_nb import Task, TaskQueue

def load(i):
    return i

def clean(part):
    return part

def fit(part):
    if part == 421:
        raise ValueError("no convergence")
    return part

def report(*parts):
    return len(parts)

loads = [Task(f"load-{i}", load, func_args=(i,)) for i in range(900)]
cleans = [Task(f"clean-{i}", clean, func_args=(each,)) for i, each in enumerate(loads)]
fits = [Task(f"fit-{i}", fit, func_args=(each,)) for i, each in enumerate(cleans)]
final = Task("report", report, func_args=tuple(fits))
queue = TaskQueue.of(final, name="large")
"""


def shown(notebook: MakeNotebook, page: Page, *more: str) -> View:
    """Show the queue of 2,701 tasks in cell 1."""
    page.set_viewport_size({"width": 1280, "height": 1000})
    opened = notebook([LARGE, "queue", *more])
    opened.js("app.shell.collapseLeft();")
    opened.run_cell(0)
    opened.run_cell(1)
    view = View(opened, 1)
    expect(view.box("report")).to_be_visible()
    return view


def group(view: View, name: str) -> str:
    """Return how a box is found that stands for tasks of this name."""
    return f'.node[aria-label^="{name}"]'


def test_a_group_is_unfolded_and_folded(notebook: MakeNotebook, page: Page, shots: Path) -> None:
    """By click and by key, down to single tasks and back; the page holds 200 boxes at most."""
    view = shown(notebook, page)
    boxes = view.root.locator(".node")
    expect(boxes).to_have_count(4)
    view.root.screenshot(path=shots / "large-folded.png")

    view.root.locator(group(view, f"load {TIMES}")).dblclick()
    part = view.root.locator(group(view, f"load 1{DASH}45 "))
    expect(part).to_be_visible()
    expect(view.side).to_be_hidden()
    view.root.screenshot(path=shots / "large-parts.png")
    part.focus()
    page.keyboard.press("u")
    expect(view.box("load-7")).to_be_visible()
    assert boxes.count() <= 200
    view.root.screenshot(path=shots / "large-unfolded.png")

    view.box("load-7").click()
    view.button("Fold").click()
    expect(view.box("load-7")).to_have_count(0)
    view.button("Reset folding").click()
    expect(boxes).to_have_count(4)


def test_a_task_is_found_wherever_it_is(notebook: MakeNotebook, page: Page, shots: Path) -> None:
    """Slash, a few letters, Enter: the task has a box, is selected, and has the focus."""
    view = shown(notebook, page)
    view.box("report").focus()
    page.keyboard.press("/")
    field = view.root.get_by_role("combobox", name="Find a task by its name")
    expect(field).to_be_focused()

    page.keyboard.type("ft421")
    hits = view.root.get_by_role("option")
    expect(hits.first).to_contain_text("fit-421")
    view.root.screenshot(path=shots / "large-find.png")
    page.keyboard.press("Enter")

    expect(view.box("fit-421")).to_be_visible()
    expect(view.side.locator(".tq-title")).to_have_text("fit-421")
    expect(view.box("fit-421")).to_be_focused()
    expect(field).to_have_value("")
    field.fill("zzz")
    expect(view.root.locator(".tq-drop")).to_have_text("No task is called like that.")


def test_a_failure_is_looked_at_with_what_stands_around_it(
    notebook: MakeNotebook, page: Page, shots: Path
) -> None:
    """What failed is unfolded by itself; alone with its neighbours it is read from afar."""
    view = shown(notebook, page, "queue.start().wait()")
    view.notebook.run_cell(2)
    view.notebook.js("await panel.content.scrollToItem(1, 'start')")
    view.expect_states(**{"fit-421": "failed"})

    view.box("fit-421").focus()
    page.keyboard.press("a")
    expect(view.root.locator(".tq-scope")).to_contain_text("Around fit-421: ")
    expect(view.box("clean-421")).to_be_visible()
    expect(view.box("load-421")).to_be_visible()
    view.root.screenshot(path=shots / "large-around.png")
    view.button("Show all").click()
    expect(view.root.locator(".tq-scope")).to_be_hidden()
    expect(view.root.locator(group(view, f"load {TIMES}"))).to_be_visible()


def test_the_map_leads_elsewhere(notebook: MakeNotebook, page: Page, shots: Path) -> None:
    """It is there when not everything is seen, and a click on it looks there."""
    view = shown(notebook, page)
    view.root.locator(group(view, f"load {TIMES}")).dblclick()
    expect(view.root.locator(group(view, f"load 1{DASH}45 "))).to_be_visible()
    small = view.root.locator(".tq-map")
    expect(small).to_be_hidden()
    for _ in range(6):
        view.button("Zoom in").click()
    expect(small).to_be_visible()
    before = view.transform()
    view.root.screenshot(path=shots / "large-map.png")

    small.click(position={"x": 3, "y": 3})

    assert view.transform() != before
    view.button("Fit the graph to the pane").click()
    expect(small).to_be_hidden()


def test_what_one_looks_at_stays_under_the_eye(notebook: MakeNotebook, page: Page) -> None:
    """Tasks that are added move the others; the selected one stays where it is, and glides."""
    more = "[queue.add(Task(f'more-{i}', print)) for i in range(5)];"
    view = shown(notebook, page, more)
    view.box("report").click()
    expect(view.side.locator(".tq-title")).to_have_text("report")
    page.wait_for_timeout(900)  # the pane has followed the details
    view.button("Zoom in").click()
    before = view.box("report").bounding_box()
    assert before is not None

    view.notebook.run_cell(2)
    expect(view.box("more-4")).to_have_count(1)
    page.wait_for_function(
        "(root) => root.getAnimations({subtree: true}).length === 0",
        arg=view.root.element_handle(),
    )

    after = view.box("report").bounding_box()
    assert after is not None
    assert abs(after["x"] - before["x"]) < 2
    assert abs(after["y"] - before["y"]) < 2


def test_arrow_keys_walk_along_requirements(notebook: MakeNotebook, page: Page) -> None:
    """Right leads to what requires a task, left back to its prerequisite."""
    code = """
from taskqueue_nb import Task, TaskQueue
a, b, c, d = (Task(name, list) for name in "abcd")
c.require(a); d.require(b)
TaskQueue(a, b, c, d)
"""
    opened = notebook([code])
    opened.run_cell(0)
    view = View(opened, 0)
    expect(view.box("d")).to_be_visible()
    view.box("b").focus()
    page.keyboard.press("ArrowRight")
    expect(view.box("d")).to_be_focused()
    page.keyboard.press("ArrowLeft")
    expect(view.box("b")).to_be_focused()
    label = view.root.locator("svg[role=group]").get_attribute("aria-label")
    assert label is not None
    assert re.search("arrow keys walk along requirements", label)


def test_the_table_says_what_the_picture_shows(
    notebook: MakeNotebook, page: Page, shots: Path
) -> None:
    """Every task, folded or not: sorted by its state, failures first; a name leads to its task."""
    view = shown(notebook, page, "queue.start().wait()")
    view.button("Table").click()
    table = view.root.get_by_role("table", name="Tasks of this queue")
    expect(table.locator("tbody tr")).to_have_count(50)
    view.button("state").click()
    view.notebook.run_cell(2)
    view.notebook.js("await panel.content.scrollToItem(1, 'start')")

    first = table.locator("tbody tr").first
    expect(first).to_contain_text("fit-421")
    expect(first).to_contain_text("ValueError")
    expect(view.root.locator(".tq-tabled")).to_contain_text("1 to 50 of 2701 tasks")
    view.root.screenshot(path=shots / "large-table.png")
    first.get_by_role("button", name="fit-421").click()

    expect(view.side.locator(".tq-title")).to_have_text("fit-421")
    expect(view.box("fit-421")).to_be_visible()
