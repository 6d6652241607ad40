"""The view for everybody: rules of axe-core, forced colours, large type, no motion."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final, Literal

import pytest
from playwright.sync_api import Page, expect

from browser.conftest import ROOT, MakeNotebook
from browser.graphs_live import REPAIRABLE, View
from browser.test_screens import FAULTS as CUT

AXE: Final = ROOT / "node_modules" / "axe-core" / "axe.min.js"

#: What axe-core finds below an element that is serious or critical, with where it is.
FIND: Final = """async (root) => {
  document.body.style.overflow = "visible"; // JupyterLab's is 0 px high: axe takes all for cut off
  const { violations, passes } = await axe.run(root);
  const contrasts = passes.find(({ id }) => id === "color-contrast");
  if (!(contrasts?.nodes.length > 5)) return ["the colours of the texts were not looked at"];
  return violations
    .filter(({ impact }) => impact === "serious" || impact === "critical")
    .flatMap(({ id, nodes }) => nodes.map(({ html, any, all }) =>
      `${id}: ${html} ${[...any, ...all].map(({ message }) => message).join("; ")}`));
}"""


@pytest.fixture(scope="session")
def axe() -> str:
    """Return the text of axe-core."""
    if not AXE.exists():
        message = f"{AXE} is missing: run tools/setup node"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return AXE.read_text()


def opened_view(notebook: MakeNotebook) -> View:
    """Show the repairable queue as it is after its failure."""
    opened = notebook([REPAIRABLE, "queue", "queue.start().wait()"])
    for number in range(3):
        opened.run_cell(number)
    view = View(opened, 1)
    view.expect_states(load="done", fit="failed", report="pending")
    return view


def test_axe_finds_nothing_serious(notebook: MakeNotebook, page: Page, axe: str) -> None:
    """In light and dark; the graph alone, with details, and with each panel of the dock."""
    view = opened_view(notebook)
    page.evaluate(axe)
    found: list[str] = []

    def look(what: str) -> None:
        found.extend(f"{theme}, {what}: {each}" for each in view.root.evaluate(FIND))

    expect(view.root.locator(".tq-tab")).not_to_have_count(0)
    for theme in ("JupyterLab Light", "JupyterLab Dark"):
        view.notebook.theme(theme)
        look("graph")
        view.box("fit").click()
        expect(view.side.get_by_label("Argument degree")).to_have_value("9")
        look("details")
        view.button("Close the details").click()
        for tab in view.root.locator(".tq-tab").all():
            tab.click()
            expect(tab).to_have_attribute("aria-expanded", "true")
            expect(view.root.locator(".tq-docked > .tq-more")).to_have_count(0)
            look(tab.inner_text())
            tab.click()
    assert found == []


#: The least contrast between a text and what it stands on, over all boxes, buttons and counts.
CONTRAST: Final = """(root) => {
  const parts = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = (colour) => {
    const [r, g, b] = parts(colour).map((c) => c / 255)
      .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ratio = (a, b) => {
    const [less, more] = [light(a), light(b)].sort((x, y) => x - y);
    return (more + 0.05) / (less + 0.05);
  };
  const behind = (e) => {
    for (; e; e = e.parentElement) {
      const { backgroundColor: colour } = getComputedStyle(e);
      if (parts(colour)[3] !== 0) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  const found = [];
  for (const node of root.querySelectorAll(".node")) {
    const { fill: under, stroke } = getComputedStyle(node.querySelector("rect"));
    for (const text of node.querySelectorAll("text"))
      found.push([node.getAttribute("aria-label"), ratio(getComputedStyle(text).fill, under)]);
    found.push([`the outline of ${node.getAttribute("aria-label")}`, ratio(stroke, behind(root))]);
  }
  for (const e of root.querySelectorAll("button:not([aria-disabled=true]), .tq-glyph, .tq-error"))
    if (e.getClientRects().length)
      found.push([e.textContent, ratio(getComputedStyle(e).color, behind(e))]);
  return found.sort(([, a], [, b]) => a - b)[0];
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_forced_colours(
    notebook: MakeNotebook, page: Page, shots: Path, scheme: Literal["light", "dark"]
) -> None:
    """With the system's few colours every text stands out, and so does what is selected."""
    view = opened_view(notebook)
    page.emulate_media(forced_colors="active", color_scheme=scheme, reduced_motion="reduce")
    view.box("fit").click()
    expect(view.button("Retry and continue")).to_be_visible()
    view.root.scroll_into_view_if_needed()
    view.root.screenshot(path=shots / f"forced-{scheme}.png")

    what, least = view.root.evaluate(CONTRAST)
    assert least >= 4.5, what
    outlines = {
        name: view.box(name).locator("rect").first.evaluate("(e) => getComputedStyle(e).stroke")
        for name in ("load", "fit")
    }
    assert outlines["load"] != outlines["fit"]


def test_large_type(notebook: MakeNotebook, page: Page, shots: Path) -> None:
    """At 200 % a page has half as many px: nothing is cut, nothing is wider than its cell."""
    page.set_viewport_size({"width": 640, "height": 1200})  # high, for the pictures
    view = opened_view(notebook)
    view.notebook.js("app.shell.collapseLeft(); await panel.content.scrollToItem(1, 'start')")
    view.root.screenshot(path=shots / "large.png")
    assert view.root.evaluate(CUT) == []
    assert view.faults() == []

    view.box("fit").click()
    expect(view.button("Retry and continue")).to_be_visible()
    view.root.screenshot(path=shots / "large-details.png")
    assert view.root.evaluate(CUT) == []
    assert view.root.evaluate("(e) => e.scrollWidth <= e.clientWidth")


def test_nothing_moves_for_those_who_say_so(notebook: MakeNotebook, page: Page) -> None:
    """A running task pulses, unless the system says that motion is unwelcome."""
    moving = "(root) => root.getAnimations({ subtree: true }).length"
    wait = "import threading; gate = threading.Event(); from taskqueue_nb import Task, TaskQueue"
    opened = notebook(
        [wait, "queue = TaskQueue(Task('wait', gate.wait, func_args=(60,)))\nqueue", "gate.set()"]
    )
    opened.run_cell(0)
    opened.run_cell(1)
    view = View(opened, 1)
    view.button("Run").click()
    view.expect_states(wait="running")

    assert view.root.evaluate(moving) == 0
    page.emulate_media(reduced_motion="no-preference")
    assert view.root.evaluate(moving) > 0
    opened.run_cell(2)
    view.expect_states(wait="done")
