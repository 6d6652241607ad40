"""The state machine of one task in a page: its buttons, its steps, its faults, how it looks."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest
from playwright.sync_api import Locator, Page, expect

from browser.conftest import MakeNotebook, Notebook

CELL: Final = """
from taskqueue_nb import Task, TaskQueue

load = Task("load", lambda: [3, 4])
work = Task("fit the model", lambda rows: sum(rows), func_args=(load,))
load.make()
"""

#: What stands outside its parent, on another thing, or is cut: buttons, rows, boxes, texts.
FAULTS: Final = """root => {
  const found = [];
  const area = (e) => e.getBoundingClientRect();
  const outer = area(root);
  const seen = (e) => e.getClientRects().length && getComputedStyle(e).visibility !== "hidden";
  const all = (selector) => [...root.querySelectorAll(selector)].filter(seen);
  for (const e of all("button, input, h3, h4, .tq-log, .tq-diagram, .tq-injected")) {
    const box = area(e);
    if (box.left < outer.left - 1 || box.right > outer.right + 1)
      found.push(`outside: ${e.className}`);
    if (e.tagName === "BUTTON" && e.scrollWidth > e.clientWidth + 1)
      found.push(`cut: ${e.textContent}`);
  }
  const apart = (selector, name, slack = 1) => {
    const boxes = all(selector).map((e) => [e, area(e)]);
    for (const [i, [a, p]] of boxes.entries()) for (const [b, q] of boxes.slice(i + 1))
      if (a.parentNode.closest(".tq-way") !== b.parentNode.closest(".tq-way") || slack === 1)
        if (p.left < q.right - slack && q.left < p.right - slack
            && p.top < q.bottom - slack && q.top < p.bottom - slack)
          found.push(`${name} overlap: ${a.textContent} and ${b.textContent}`);
  };
  apart(".tq-controls button, .tq-controls input, .tq-log, .tq-controls h4", "controls");
  apart(".tq-box rect", "states");
  apart(".tq-way text:not(:empty)", "events", 2); // a line of text has air above and below
  for (const box of root.querySelectorAll(".tq-box")) {
    const room = box.querySelector("rect").getBBox(), text = box.querySelector("text").getBBox();
    if (text.x < room.x + 2 || text.x + text.width > room.x + room.width - 2)
      found.push(`too wide for its box: ${box.textContent}`);
  }
  const svg = area(root.querySelector(".tq-diagram svg"));
  for (const part of root.querySelectorAll(".tq-diagram text, .tq-diagram rect")) {
    const { width, left, right, bottom } = area(part);
    if (width && (left < svg.left - 3 || right > svg.right + 3 || bottom > svg.bottom + 3))
      found.push(`outside the diagram: ${part.textContent || part.tagName}`);
  }
  return found;
}"""

#: Where everything stands that must not move: a jump would put a button under another's click.
PLACES: Final = """root =>
  [...root.querySelectorAll("button:not(.tq-close), input, .tq-diagram, .tq-log")].map((e) => {
    const inner = e.getBoundingClientRect(), outer = root.getBoundingClientRect();
    const name = e.closest(".tq-fire, .tq-teach button")?.textContent ?? e.className;
    return [name, ...[inner.left - outer.left, inner.top - outer.top, inner.width].map(Math.round)];
  })"""


class Machine:
    """The live machine in a cell of a notebook."""

    def __init__(self, notebook: Notebook, cell: int) -> None:
        self.notebook = notebook
        self.root = notebook.cell(cell).locator(".tq-machine")
        self.still = notebook.cell(cell).locator('img[alt^="State machine"]')
        self.log = self.root.locator(".tq-log li")
        self.says = self.root.locator(".tq-stepping .tq-says")

    def button(self, name: str) -> Locator:
        """Return a button."""
        return self.root.get_by_role("button", name=name, exact=True)

    def expect_state(self, name: str) -> None:
        """Wait until a state is lit, in the diagram and in words."""
        expect(self.root.locator(".tq-box.tq-lit")).to_contain_text(name)
        expect(self.root.locator(".tq-state")).to_contain_text(name)

    def step(self, says: str) -> None:
        """Take the step that is said."""
        expect(self.says).to_contain_text(says)
        expect(self.button("Step")).to_be_enabled()
        self.button("Step").click()

    def places(self) -> list[list[object]]:
        """Return where the controls stand."""
        found: list[list[object]] = self.root.evaluate(PLACES)
        return found


def shown(notebook: MakeNotebook, *more: str) -> Machine:
    """Open a notebook that shows the machine of a task."""
    opened = notebook([CELL, "work.machine()", *more])
    opened.js("app.shell.collapseLeft();")
    for number in range(2 + len(more)):
        opened.run_cell(number)
    machine = Machine(opened, 1)
    machine.expect_state("PENDING")
    return machine


def test_a_task_is_taken_through_its_life(notebook: MakeNotebook) -> None:
    """Step by step; its events by hand; the diagram keeps the path and the log says it."""
    machine = shown(notebook)
    expect(machine.still).to_have_count(1)
    expect(machine.still).to_be_hidden()
    places = machine.places()

    machine.step("dispatch, without calling")
    machine.expect_state("RUNNING")
    machine.step("call its function")
    machine.step("done: its function has returned")
    machine.expect_state("DONE")
    expect(machine.log.first).to_contain_text(
        re.compile(r"\d\d:\d\d:\d\d.*fit the model: running → done, its function has returned")
    )
    assert machine.notebook.evaluate("print(work.value)") == "7"

    machine.button("invalidate").click()
    machine.expect_state("PENDING")
    machine.button("dispatch").click()
    machine.expect_state("DONE")
    expect(machine.root.locator(".tq-way.tq-taken")).to_have_count(3)
    expect(machine.root.locator(".tq-way.tq-last .tq-times")).to_have_text(
        "\N{MULTIPLICATION SIGN}2"
    )
    assert machine.places() == places
    assert machine.root.evaluate(FAULTS) == []


def test_a_failure_is_injected_and_retried(notebook: MakeNotebook) -> None:
    """Fail this and Slow this say what they will do, and act once."""
    machine = shown(notebook)
    machine.root.get_by_label("Seconds that the next attempt takes longer").fill("0.3")
    machine.button("Fail this").click()
    expect(machine.root.locator(".tq-injected")).to_have_text("will fail: injected")
    machine.button("Slow this").click()
    expect(machine.root.locator(".tq-injected")).to_have_text(
        "will take 0.3 s longer and fail: injected"
    )

    machine.button("dispatch").click()
    machine.expect_state("FAILED")
    expect(machine.log.first).to_contain_text("InjectedError: this failure was injected")
    expect(machine.button("Fail this")).to_have_attribute("aria-pressed", "false")
    machine.button("retry").click()
    machine.expect_state("PENDING")
    machine.button("dispatch").click()
    machine.expect_state("DONE")


def test_by_keyboard_alone(notebook: MakeNotebook, page: Page) -> None:
    """Every control is reached by Tab, off ones say why, and a change of state is said."""
    machine = shown(notebook)
    machine.button("dispatch").focus()
    page.keyboard.press("Enter")
    machine.expect_state("DONE")
    live = machine.root.locator(".tq-live")
    expect(live).to_have_text("fit the model: running → done, its function has returned")
    expect(live).to_have_attribute("role", "status")
    expect(machine.button("dispatch")).to_be_focused()
    expect(machine.button("dispatch")).to_have_accessible_description(re.compile("cannot dispatch"))
    page.keyboard.press("Enter")
    expect(machine.root.get_by_role("alert")).to_contain_text("is DONE, cannot dispatch")

    seen = []
    machine.button("prepared").focus()
    for _ in range(16):
        seen.append(
            page.evaluate("document.activeElement.textContent || document.activeElement.type")
        )
        page.keyboard.press("Tab")
    assert seen[:12] == [
        "prepared", "dispatch", "queue", "cancel", "error", "abort", "supply",
        "done", "except", "retry", "invalidate", "Step",
    ]  # fmt: skip


def test_a_running_function_is_cancelled(notebook: MakeNotebook) -> None:
    """While it runs its buttons live; cancel asks it to stop."""
    machine = shown(
        notebook,
        "def wait(rows):\n"
        "    Task.current().runstate.sleep(60)\n"
        "    Task.current().runstate.raiseif()\n"
        "_ = work.repair(wait)",
    )
    machine.button("dispatch").click()
    machine.expect_state("RUNNING")
    expect(machine.button("done")).to_have_attribute("title", re.compile("Its function is running"))
    machine.button("cancel").click()
    machine.expect_state("CANCELLED")


def test_what_is_left_halfway_goes_on_or_is_given_up(notebook: MakeNotebook) -> None:
    """A run in a cell finishes it and does not hang; closing the machine cancels it."""
    machine = shown(notebook, "")
    machine.step("dispatch")
    machine.expect_state("RUNNING")
    assert machine.notebook.evaluate("print([t.name for t in TaskQueue(work).run()])") == (
        "['fit the model']"
    )
    machine.expect_state("DONE")
    machine.button("invalidate").click()
    machine.step("dispatch")
    machine.expect_state("RUNNING")

    said = machine.notebook.evaluate(
        "work.machine().close(); print(work.join(10), work.fsm_state, load.fsm_state)"
    )
    assert said == "True CANCELLED DONE"
    expect(machine.root).to_have_count(0)
    expect(machine.still).to_be_visible()


def test_reduced_motion_and_forced_colours(notebook: MakeNotebook, page: Page, shots: Path) -> None:
    """Nothing moves for who asks for that; the state is lit in the system's colours."""
    machine = shown(notebook)
    page.emulate_media(reduced_motion="reduce", forced_colors="active")
    machine.step("dispatch")
    machine.expect_state("RUNNING")

    moving = machine.root.evaluate(
        "root => root.getAnimations({subtree: true}).map((each) => each.animationName)"
    )
    assert moving == []
    lit, unlit = (
        machine.root.locator(f".tq-box{which} rect").first.evaluate(
            "rect => getComputedStyle(rect).fill"
        )
        for which in (".tq-lit", ":not(.tq-lit)")
    )
    assert lit != unlit
    machine.root.screenshot(path=shots / "machine-forced-colours.png")
    page.emulate_media(reduced_motion="no-preference", forced_colors="none")


LOOKS: Final = [(theme, width) for theme in ("light", "dark") for width in (1100, 400)]


@pytest.mark.parametrize("look", LOOKS, ids=lambda look: f"{look[0]}-{look[1]}")
def test_nothing_is_cut_overlaps_or_jumps(
    notebook: MakeNotebook, page: Page, shots: Path, look: tuple[str, int]
) -> None:
    """Narrow and wide, light and dark: at rest, in the middle, and with a long story."""
    theme, width = look
    page.set_viewport_size({"width": width + 104, "height": 1300})
    machine = shown(notebook, "")
    machine.notebook.theme(f"JupyterLab {theme.title()}")
    machine.notebook.js("await panel.content.scrollToItem(1, 'start')")
    name = f"machine-{theme}-{width}"
    machine.root.screenshot(path=shots / f"{name}-pending.png")
    assert machine.root.evaluate(FAULTS) == []
    places = machine.places()

    field = machine.root.get_by_label("The value that supply gives, a Python literal")
    machine.button("supply").click()
    expect(machine.root.get_by_role("alert")).to_contain_text("The value: it is empty.")
    expect(field).to_be_focused()
    machine.root.screenshot(path=shots / f"{name}-empty.png")
    assert machine.root.evaluate(FAULTS) == []
    page.keyboard.type("1")  # what was said is taken back
    expect(machine.root.get_by_role("alert")).to_have_count(0)
    page.keyboard.press("Backspace")
    assert machine.places() == places

    machine.notebook.evaluate(
        "for _ in range(12):\n"
        "    _ = work.inject(fail='the disk is full, and the message is a long one'), "
        "work.dispatch(), work.retry()\n"
    )
    machine.button("Fail this").click()
    machine.step("dispatch")
    machine.expect_state("RUNNING")
    expect(machine.says).to_have_text("call its function")
    expect(machine.root.locator(".tq-status")).to_be_empty(timeout=10_000)  # good news goes away
    machine.root.screenshot(path=shots / f"{name}-running.png")
    assert machine.root.evaluate(FAULTS) == []
    assert machine.places() == places

    machine.button("done").click(force=True)  # it is off, and says why
    expect(machine.root.get_by_role("alert")).to_contain_text("has not been called yet")
    machine.step("call its function")
    expect(machine.says).to_contain_text("except: its function raised InjectedError")
    machine.step("except")
    machine.expect_state("FAILED")
    machine.root.screenshot(path=shots / f"{name}-failed.png")
    assert machine.places() == places
