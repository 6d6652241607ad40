"""Screenshots of the live view: 5, 50 and 300 tasks, light and dark, narrow and wide.

They are files to be looked at; what a machine can tell is checked here: nothing is cut or overlaps.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest
from playwright.sync_api import Page, expect

from browser.conftest import MakeNotebook
from browser.graphs_live import REPAIRABLE, View

LAYERS: Final = """
import random
from taskqueue_nb import Task, TaskQueue

GROUPS = ["load", "align", "call variants", "annotate", "merge"]

def work(*parts):
    return len(parts)

def fail(*parts):
    raise RuntimeError("disk full: /scratch has 0 bytes left of 2,000,000,000")

def layered(count, width):
    drawn, tasks = random.Random(1), []
    for i in range(count):
        layer = i // width
        before = tasks[(layer - 1) * width : layer * width] if layer else []
        chosen = drawn.sample(before, k=min(2, len(before)))
        group = GROUPS[layer * len(GROUPS) // (count // width + 1)]
        tasks.append(Task(
            f"{group} {i}", fail if i in (count // 2, count // 3) else work,
            func_args=tuple(chosen), group=group if count > 200 else None,
        ))
    return TaskQueue(*tasks, name=f"{count} tasks")
"""
QUEUES: Final = {
    5: REPAIRABLE + "@task\ndef send(text):\n    return text\nqueue.add(send(final))",
    50: LAYERS + "queue = layered(50, 8)",
    300: LAYERS + "queue = layered(300, 20)",
}

# What sticks out of its parent, or lies over its neighbour, among the parts of the view.
FAULTS: Final = """(root) => {
  const faults = [];
  const seen = (e) => e.getClientRects().length > 0;
  const parts = ".tq-button, .tq-chip, .tq-standing, .tq-says, .tq-title, .tq-input";
  for (const e of root.querySelectorAll(parts)) {
    const cut = e.scrollWidth > e.clientWidth + 1 || e.scrollHeight > e.clientHeight + 4;
    if (seen(e) && cut && !e.matches("input, textarea"))
      faults.push(`cut: ${e.textContent}`);
    const inner = e.getBoundingClientRect(), outer = root.getBoundingClientRect();
    if (seen(e) && (inner.left < outer.left - 1 || inner.right > outer.right + 1))
      faults.push(`outside: ${e.textContent}`);
  }
  const rows = ".tq-bar, .tq-line, .tq-chips, .tq-does, .tq-actions, .tq-tools";
  for (const row of root.querySelectorAll(rows)) {
    const boxes = [...row.children].filter(seen).map((e) => [e, e.getBoundingClientRect()]);
    for (const [a, p] of boxes) for (const [b, q] of boxes)
      if (a !== b && p.left < q.right - 1 && q.left < p.right - 1
          && p.top < q.bottom - 1 && q.top < p.bottom - 1)
        faults.push(`overlap: ${a.textContent} and ${b.textContent}`);
  }
  for (const node of root.querySelectorAll(".node")) {
    const box = node.querySelector("rect").getBBox();
    for (const text of node.querySelectorAll("text")) {
      const inner = text.getBBox();
      if (inner.width && (inner.x < box.x - 1 || inner.x + inner.width > box.x + box.width + 1))
        faults.push(`cut in its box: ${text.textContent}`);
    }
  }
  return faults;
}"""


# Where the graph begins, and where the buttons of the details stand: texts must not move them.
PLACE: Final = """(root) => {
  const top = (e) => e.getBoundingClientRect().top;
  return Math.round(top(root.querySelector(".tq-main")) - top(root));
}"""
BUTTONS: Final = """(root) =>
  [...root.querySelectorAll(".tq-actions button")].map((e) => {
    const inner = e.getBoundingClientRect(), outer = root.getBoundingClientRect();
    return [e.textContent, Math.round(inner.left - outer.left), Math.round(inner.top - outer.top)];
  })"""

LOOKS: Final = [
    (count, theme, width)
    for count in QUEUES
    for theme in ("light", "dark")
    for width in (1280, 500)
]


@pytest.mark.parametrize("look", LOOKS, ids=lambda look: f"{look[0]}-{look[1]}-{look[2]}")
def test_nothing_is_cut_or_overlaps(
    notebook: MakeNotebook, page: Page, shots: Path, look: tuple[int, str, int]
) -> None:
    """Closed, and with a failed task's details open."""
    count, theme, width = look
    narrow = width == 500
    page.set_viewport_size({"width": width + 140, "height": 1300})
    opened = notebook([QUEUES[count], "queue", "queue.start().wait()"])
    opened.js("app.shell.collapseLeft();")
    opened.theme(f"JupyterLab {theme.title()}")
    for number in range(2):
        opened.run_cell(number)
    view = View(opened, 1)
    expect(view.root.locator(".node").first).to_be_visible()
    place = view.root.evaluate(PLACE)
    opened.run_cell(2)
    opened.js("await panel.content.scrollToItem(1, 'start')")
    failed = view.root.locator('.node[aria-label*="failed: "]').first  # unfolded, if it was not
    expect(failed).to_be_visible()
    name = f"{count}-{theme}-{'narrow' if narrow else 'wide'}"

    view.root.screenshot(path=shots / f"{name}.png")
    assert view.root.evaluate(FAULTS) == []
    expect(view.root.locator(".tq-line")).to_contain_text("Retry all failed: next run: ")
    assert view.root.evaluate(PLACE) == place

    failed.click()
    expect(view.button("Retry and continue")).to_have_accessible_description(re.compile("will run"))
    view.root.screenshot(path=shots / f"{name}-details.png")
    assert view.root.evaluate(FAULTS) == []
    buttons = view.root.evaluate(BUTTONS)

    source = view.side.get_by_label("Source of the function")
    source.fill("def fit(*parts):\n    retrun len(parts)")
    view.button("Repair and rerun").click()
    expect(view.side.get_by_role("alert")).to_contain_text("Line 2: invalid syntax")
    source.scroll_into_view_if_needed()
    view.root.screenshot(path=shots / f"{name}-edited.png")
    assert view.root.evaluate(FAULTS) == []
    assert view.root.evaluate(PLACE) == place
    assert view.root.evaluate(BUTTONS) == buttons
