"""Timeline and history in a real browser: what a user sees, drags and plays."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest
from playwright.sync_api import Locator, Page, expect

from browser.conftest import MakeNotebook, Notebook
from browser.graphs_live import View

#: Fifteen tasks on three threads, of which one fails; and a way to mend it.
RUN: Final = """
import time
from taskqueue_nb import Task, TaskQueue

class Disk:
    full = True

def work(*parts, seconds=0.05):
    time.sleep(seconds)
    return len(parts)

def write(*parts, seconds=0.1):
    time.sleep(seconds)
    if Disk.full:
        raise OSError("the disk is full")

loads = [Task(f"load {i}", work, func_kwargs={"seconds": 0.05 + 0.04 * i}) for i in range(6)]
cleans = [Task(f"clean {i}", work, func_args=(load,)) for i, load in enumerate(loads)]
merge = Task("merge", work, func_args=tuple(cleans), func_kwargs={"seconds": 0.3})
save = Task("write to disk", write, func_args=(merge,))
report = Task("report", work, func_args=(save,), func_kwargs={"seconds": 0.2})
queue = TaskQueue(*loads, *cleans, merge, save, report, name="survey")
"""


class Panels(View):
    """The live view with what stands below it."""

    def open(self, name: str) -> None:
        """Open a panel of the dock."""
        tab = self.root.locator(".tq-tab", has_text=name)
        if tab.get_attribute("aria-expanded") != "true":
            tab.click()
        expect(tab).to_have_attribute("aria-expanded", "true")

    @property
    def canvas(self) -> Locator:
        """What the timeline is painted on."""
        return self.root.locator(".tq-canvas")

    @property
    def slider(self) -> Locator:
        """What moves the moment."""
        return self.root.get_by_role("slider", name="Moment")

    @property
    def past(self) -> Locator:
        """What says that another moment is shown."""
        return self.root.locator(".tq-past")

    def states(self) -> dict[str, str]:
        """Return what the boxes show."""
        found: dict[str, str] = self.root.evaluate(
            "(root) => Object.fromEntries([...root.querySelectorAll('.node')]"
            ".map((node) => [node.getAttribute('aria-label').split(':')[0], node.dataset.state]))"
        )
        return found

    def drag(self, part: float) -> None:
        """Drag the slider to a part of its way."""
        box = self.slider.bounding_box()
        assert box is not None
        mouse = self.notebook.page.mouse
        y = box["y"] + box["height"] / 2
        mouse.move(box["x"] + box["width"] - 8, y)
        mouse.down()
        mouse.move(box["x"] + 8 + (box["width"] - 16) * part, y, steps=6)
        mouse.up()


def opened(notebook: MakeNotebook, source: str = RUN, *more: str) -> Panels:
    """Show a queue in cell 1."""
    made = notebook([source, "queue", *more])
    made.run_cell(0)
    made.run_cell(1)
    made.js("app.shell.collapseLeft();")
    view = Panels(made, 1)
    expect(view.root.locator(".node").first).to_be_visible()
    return view


def ran(notebook: MakeNotebook, source: str = RUN) -> Panels:
    """Show a queue, run it on three threads up to its failure."""
    view = opened(notebook, source, "queue.start(executor=3).wait()")
    view.notebook.run_cell(2)
    view.expect_states(**{"merge": "done", "write to disk": "failed", "report": "pending"})
    return view


@pytest.mark.parametrize("width", [1280, 480])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_shots(notebook: MakeNotebook, page: Page, shots: Path, theme: str, width: int) -> None:
    """x."""
    page.set_viewport_size({"width": width + 140, "height": 1400})
    view = ran(notebook)
    view.notebook.theme(f"JupyterLab {theme.title()}")
    view.open("Timeline")
    expect(view.root.locator(".tq-critical")).to_contain_text("Critical path")
    view.notebook.evaluate(
        "import time; time.sleep(4); Disk.full = False; queue.retry(then_run=True); queue.wait()"
    )
    view.expect_states(report="done")
    expect(view.canvas).to_have_attribute("aria-label", re.compile("16 attempts"))
    page.wait_for_timeout(1500)
    view.root.screenshot(path=shots / f"timeline-{theme}-{width}.png")
    view.open("History")
    page.wait_for_timeout(500)
    view.root.screenshot(path=shots / f"history-{theme}-{width}.png")
    view.drag(0.4)
    page.wait_for_timeout(300)
    view.root.screenshot(path=shots / f"history-rewound-{theme}-{width}.png")
