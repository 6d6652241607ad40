"""Cells with queues that the browser tests look at."""

from __future__ import annotations

from typing import Final

from playwright.sync_api import Locator, expect

from browser.conftest import Notebook

#: Five tasks in a row, of which the third fails until its `degree` is at most 3.
REPAIRABLE: Final = """
from taskqueue_nb import TaskQueue, task

calls = []

@task
def load(rows):
    calls.append("load")
    return list(range(rows))

@task
def clean(rows):
    calls.append("clean")
    return rows[1:]

@task
def fit(rows, degree, *, strict=True):
    calls.append("fit")
    if degree > 3:
        raise ValueError(f"degree {degree} is too high for {len(rows)} rows")
    return degree

@task
def report(degree):
    calls.append("report")
    return f"degree {degree}"

final = report(fit(clean(load(10)), degree=9))
queue = TaskQueue.of(final, name="fits")
"""


class View:
    """The live view in a cell of a notebook."""

    def __init__(self, notebook: Notebook, cell: int) -> None:
        self.notebook, self.cell = notebook, cell
        self.root = notebook.cell(cell).locator(".tq")
        self.side = self.root.locator(".tq-side")
        self.still = notebook.cell(cell).locator('img[alt^="Task graph"]')

    def box(self, name: str) -> Locator:
        """Return the box of a task."""
        return self.root.locator(f'.node[aria-label^="{name}:"]')

    def button(self, name: str) -> Locator:
        """Return a button of the toolbar or of the details."""
        return self.root.get_by_role("button", name=name, exact=True)

    def expect_states(self, **states: str) -> None:
        """Wait until boxes are in these states."""
        for name, state in states.items():
            expect(self.box(name)).to_have_attribute("data-state", state)

    def transform(self) -> str:
        """Return where the drawing stands in its pane."""
        found = self.root.locator(".tq-pane > svg > g").get_attribute("transform")
        assert found is not None
        return found
