"""The pictures of the documentation, taken in both themes; nothing in them is cut."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest
from playwright.sync_api import Page, expect

from browser.conftest import MakeNotebook
from browser.graphs_live import View
from browser.test_large import LARGE
from browser.test_machine import FAULTS as MACHINE_FAULTS
from browser.test_screens import FAULTS

SCENE: Final = """
import time
from taskqueue_nb import TaskQueue, task

@task
def load(station):
    time.sleep(0.12 + 0.05 * (len(station) % 4))
    return station

@task
def clean(station):
    time.sleep(0.2)
    return station

@task
def fit(station, degree=2):
    time.sleep(0.15 + 0.1 * (len(station) % 3))
    if station == "Halley":
        raise ValueError(f"degree {degree} is too high for 2 points")
    return degree

@task
def compare(*fits):
    time.sleep(0.1)
    return sorted(fits)

@task
def report(table):
    return f"{len(table)} stations"

stations = ["Vostok", "Halley", "Mawson", "Amundsen-Scott"]
final = report(compare(*[fit(clean(load(name))) for name in stations]))
queue = TaskQueue.of(final, name="stations")
"""


MACHINE: Final = """
from taskqueue_nb import Task
fit = Task("fit", lambda degree: 1 / degree, func_args=(0,))
machine = fit.machine()
fit.dispatch()
fit.repair(args=(2,))
fit.dispatch()
machine
"""


def shown(notebook: MakeNotebook, page: Page, code: str, theme: str) -> View:
    """Show a queue that has run up to its failure."""
    page.set_viewport_size({"width": 1240, "height": 1300})
    opened = notebook([code, "queue", "queue.start(executor=3).wait()"])
    opened.js("app.shell.collapseLeft();")
    opened.theme(f"JupyterLab {theme.title()}")
    for number in range(3):
        opened.run_cell(number)
    opened.js("await panel.content.scrollToItem(1, 'start')")
    view = View(opened, 1)
    expect(view.root.locator('.node[data-state="failed"]').first).to_be_visible()
    return view


def picture(view: View, shots: Path, name: str) -> None:
    """Take a picture once nothing moves, and look for what is cut."""
    view.notebook.page.mouse.move(0, 0)
    view.notebook.page.wait_for_function(
        "(root) => root.getAnimations({subtree: true}).length === 0",
        arg=view.root.element_handle(),
    )
    view.root.screenshot(path=shots / f"{name}.png")
    assert view.root.evaluate(FAULTS) == []


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_pictures_of_a_small_graph(
    notebook: MakeNotebook, page: Page, shots: Path, theme: str
) -> None:
    """The graph with details, and each panel of the dock."""
    view = shown(notebook, page, SCENE, theme)
    view.root.locator('.node[data-state="failed"]').click()
    expect(view.side).to_contain_text("degree 2 is too high")
    page.wait_for_timeout(800)  # the pane follows the details
    picture(view, shots, f"graph-{theme}")
    page.keyboard.press("Escape")

    for name, seen in (
        ("Timeline", ".tq-time"),
        ("History", ".tq-history"),
        ("Table", ".tq-tasks"),
    ):
        view.button(name).click()
        expect(view.root.locator(seen)).to_be_visible()
        page.wait_for_timeout(300)  # what is drawn on a canvas has no other sign
        if name == "History":
            for _ in range(9):
                view.root.get_by_role("slider").press("ArrowLeft")
            expect(view.button("Live")).to_be_visible()
        picture(view, shots, f"{name.lower()}-{theme}")
        view.button(name).click()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_pictures_of_a_state_machine(
    notebook: MakeNotebook, page: Page, shots: Path, theme: str
) -> None:
    """A task that has failed, was retried and is done."""
    page.set_viewport_size({"width": 1240, "height": 1300})
    opened = notebook([MACHINE])
    opened.js("app.shell.collapseLeft();")
    opened.theme(f"JupyterLab {theme.title()}")
    opened.run_cell(0)
    root = opened.cell(0).locator(".tq-machine")
    expect(root.locator(".tq-log li").first).to_contain_text("done")
    page.mouse.move(0, 0)
    page.wait_for_timeout(600)  # the last transition is emphasised for a moment
    root.screenshot(path=shots / f"machine-{theme}.png")
    assert root.evaluate(MACHINE_FAULTS) == []


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_pictures_of_a_large_graph(
    notebook: MakeNotebook, page: Page, shots: Path, theme: str
) -> None:
    """Thousands of tasks, of which one has failed."""
    view = shown(notebook, page, LARGE, theme)
    expect(view.box("fit-421")).to_be_visible()
    picture(view, shots, f"large-{theme}")
