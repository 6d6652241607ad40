"""Graphs of every size look right, in both themes, in a wide cell and a narrow one."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from browser.conftest import MakeNotebook
from browser.graphs_live import View

THEMES = {"light": "JupyterLab Light", "dark": "JupyterLab Dark"}
WIDTHS = {"wide": 1280, "narrow": 620}

GRAPH = """
from taskqueue_nb import Task, TaskQueue

def measure(number, *before):
    if number and number % 17 == 3:
        raise ValueError(f"station {{number}} did not answer")
    return number

def build(count, width):
    tasks = []
    for number in range(count):
        before = [tasks[n] for n in {{number - width, number - width + 1}} if 0 <= n < number]
        tasks.append(Task(f"station {{number}}", measure, func_args=(number, *before)))
    return TaskQueue(*tasks, name="stations")

queue = build({count}, {width})
"""


@pytest.mark.parametrize(("count", "width"), [(5, 1), (50, 7), (300, 20)])
def test_nothing_is_cut_or_overlaps(
    count: int, width: int, notebook: MakeNotebook, page: Page, shots: Path
) -> None:
    """Fitted into its pane, a graph is whole; with details beside it the pane keeps its place."""
    opened = notebook([GRAPH.format(count=count, width=width), "queue", "queue.start().wait()"])
    for number in range(3):
        opened.run_cell(number)
    view = View(opened, 1)
    failed = view.root.locator(".node[data-state=failed]").first
    expect(failed).to_have_count(1)

    for theme, name in THEMES.items():
        opened.theme(name)
        for breadth, pixels in WIDTHS.items():
            page.set_viewport_size({"width": pixels, "height": 900})
            view.root.evaluate("root => root.scrollIntoView()")
            view.button("Fit the graph to the pane").click()
            page.mouse.move(2, 2)
            view.root.screenshot(path=shots / f"stations-{count}-{theme}-{breadth}.png")
            assert view.faults() == []

            failed.click()
            expect(view.side).to_contain_text("did not answer")
            view.root.screenshot(path=shots / f"stations-{count}-{theme}-{breadth}-open.png")
            expect(failed).to_be_in_viewport()
            page.keyboard.press("Escape")
            expect(view.side).to_be_hidden()
