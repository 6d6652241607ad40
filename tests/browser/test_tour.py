"""The tour as a user takes it: a real JupyterLab, a failure on the picture, its repair by hand."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import nbformat
import pytest
from playwright.sync_api import Page, expect

from browser.conftest import ROOT, Notebook, Server
from browser.graphs_live import View

NOTEBOOKS: Final = ROOT / "notebooks"
TOUR: Final = "01-tour.ipynb"
FAILING: Final = "fit[Gentoo]"
TASKS: Final = 10
THEMES: Final = {"light": "JupyterLab Light", "dark": "JupyterLab Dark"}


class Tour:
    """The tour in JupyterLab, without outputs and with a new kernel."""

    def __init__(self, page: Page, server: Server, name: str) -> None:
        self.page = page
        shutil.copytree(NOTEBOOKS / "data", server.root / "data", dirs_exist_ok=True)
        stored = nbformat.read(NOTEBOOKS / TOUR, as_version=4)
        for cell in stored.cells:
            if cell.cell_type == "code":
                cell.outputs, cell.execution_count = [], None
        nbformat.write(stored, server.root / name)
        self.sources = [cell.source if cell.cell_type == "code" else "" for cell in stored.cells]
        self.notebook = Notebook(page, server, name).open()
        self.picture = self.index("queue")
        self.view = View(self.notebook, self.picture)

    def index(self, start: str) -> int:
        """Return the number of the code cell that starts like this."""
        return next(i for i, source in enumerate(self.sources) if source.startswith(start))

    def run(self, first: int, last: int) -> None:
        """Run the cells of code from the first to the last of these."""
        for number in range(first, last + 1):
            if self.sources[number]:
                self.notebook.run_cell(number)

    def run_to_the_failure(self) -> None:
        """Run every cell down to the one that starts the queue, and look at the picture."""
        self.run(0, self.index("queue.start()"))
        self.look()
        self.expect_counts(failed=1, done=7, pending=2)

    def run_to_the_end(self) -> None:
        """Run the cells after the failure; the last of them asserts what the tour showed."""
        self.run(self.index("queue.start()") + 1, len(self.sources) - 1)

    def look(self) -> None:
        """Bring the picture to the top of the window."""
        self.view.root.evaluate("root => root.scrollIntoView()")
        expect(self.view.box(FAILING)).to_be_in_viewport()

    def expect_counts(self, **counts: int) -> None:
        """Wait until the picture has so many boxes in each state."""
        for state, count in counts.items():
            expect(self.view.root.locator(f".node[data-state={state}]")).to_have_count(count)

    def expect_nothing_ran_twice(self) -> None:
        """Check by the kernel that each task has one attempt, and the failed one two."""
        said = self.notebook.evaluate(
            "print({each.name: len(each.attempts) for each in queue if len(each.attempts) != 1})"
        )
        assert said == f"{{'{FAILING}': 2}}"


@pytest.fixture
def tour(page: Page, jupyter_server: Server, request: pytest.FixtureRequest) -> Iterator[Tour]:
    """Open the tour and run it up to its failure."""
    name = re.sub(r"\W+", "-", request.node.name)
    opened = Tour(page, jupyter_server, f"{name}.ipynb")
    opened.run_to_the_failure()
    yield opened
    jupyter_server.shutdown_sessions()


def test_the_tour_by_mouse(tour: Tour, page: Page, shots: Path) -> None:
    """A click on the failed box, one edited argument, one button: the graph is complete."""
    view = tour.view
    page.screenshot(path=shots / "tour-1-failed.png")

    view.box(FAILING).click()
    expect(view.side).to_contain_text("1 of 90 Gentoo penguins not measured")
    field = view.side.get_by_label("Argument missing")
    expect(field).to_have_value("raise")
    field.fill("drop")
    page.screenshot(path=shots / "tour-2-edited.png")
    view.button("Repair and rerun").click()

    tour.expect_counts(done=TASKS)
    page.screenshot(path=shots / "tour-3-done.png")
    tour.expect_nothing_ran_twice()
    tour.run_to_the_end()


def test_the_tour_by_keyboard(tour: Tour, page: Page, shots: Path) -> None:
    """The same without a mouse: Tab, arrow keys, Enter and typing do all of it."""
    view, press = tour.view, page.keyboard.press

    def press_until(key: str, selector: str, most: int = 60) -> None:
        for _ in range(most):
            if page.evaluate("s => document.activeElement.matches(s)", selector):
                return
            press(key)
        raise AssertionError(f"{most} times {key} never came to {selector}")

    view.button("Run").focus()
    press_until("Tab", ".tq .node")
    for key in ("Home", *3 * ["ArrowRight"], "ArrowDown"):
        press(key)
    expect(view.box(FAILING)).to_be_focused()
    press("Enter")
    expect(view.side).to_contain_text("1 of 90 Gentoo penguins not measured")
    press_until("Tab", '.tq-side [aria-label="Argument missing"]')
    press("Control+a")
    page.keyboard.type("drop")
    page.screenshot(path=shots / "tour-keyboard.png")
    press_until("Tab", '.tq-side [data-key="repair-true"]')
    press("Enter")

    tour.expect_counts(done=TASKS)
    tour.expect_nothing_ran_twice()
    tour.run_to_the_end()


def test_the_picture_of_the_readme(page: Page, jupyter_server: Server, shots: Path) -> None:
    """In either theme the failure with its details fits, and stands in the folder of the run."""
    tour = Tour(page, jupyter_server, "readme.ipynb")
    page.set_viewport_size({"width": 1280, "height": 900})
    tour.run_to_the_failure()
    view = tour.view
    view.box(FAILING).click()
    expect(view.side.get_by_label("Argument missing")).to_have_value("raise")

    view.button("Fit the graph to the pane").click()

    for name, theme in THEMES.items():
        tour.notebook.theme(theme)
        tour.look()
        page.mouse.move(2, 2)
        view.root.screenshot(path=shots / f"tour-{name}.png")
        page.screenshot(path=shots / f"tour-{name}-page.png")
        assert view.faults() == [], f"cut or overlapping in {theme}"
    jupyter_server.shutdown_sessions()
