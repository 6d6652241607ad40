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

#: What is wrong with a drawing: boxes outside its pane or on one another, texts wider than theirs.
FAULTS: Final = """root => {
  const pane = root.querySelector('.tq-pane').getBoundingClientRect();
  const inside = (a, b) =>
    a.left >= b.left && a.right <= b.right && a.top >= b.top && a.bottom <= b.bottom;
  const meet = (a, b) =>
    a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;
  const found = [];
  const boxes = [...root.querySelectorAll('.node')].map((node) => ({
    name: node.getAttribute('aria-label'),
    area: node.querySelector('rect, path, polygon').getBoundingClientRect(),
    texts: [...node.querySelectorAll('text')]
      .map((text) => text.getBoundingClientRect())
      .filter((area) => area.width > 0), // from afar no texts are shown
  }));
  for (const [i, { name, area, texts }] of boxes.entries()) {
    if (!inside(area, pane)) found.push(`${name} is cut`);
    if (!texts.every((text) => inside(text, area))) found.push(`a text of ${name} is too large`);
    for (const other of boxes.slice(i + 1))
      if (meet(area, other.area)) found.push(`${name} stands on ${other.name}`);
  }
  return found.length || boxes.length ? found : ['there are no boxes'];
}"""


class Shown:
    """A live view, wherever it is shown."""

    def __init__(self, root: Locator) -> None:
        self.root = root
        self.side = root.locator(".tq-side")

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
        found = self.root.locator(".tq-sheet").get_attribute("transform")
        assert found is not None
        return found

    def faults(self) -> list[str]:
        """Return what is cut or overlaps in the drawing, in words."""
        found: list[str] = self.root.evaluate(FAULTS)
        return found


class View(Shown):
    """The live view in a cell of a notebook."""

    def __init__(self, notebook: Notebook, cell: int) -> None:
        super().__init__(notebook.cell(cell).locator(".tq"))
        self.notebook, self.cell = notebook, cell
        self.still = notebook.cell(cell).locator('img[alt^="Task graph"]')
