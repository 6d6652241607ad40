"""Clicks with the versions of ipykernel that differ in how they hear one while a cell runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

import pytest
from playwright.sync_api import Page, expect

from browser.conftest import MakeNotebook
from browser.graphs_live import View


class Kernel(NamedTuple):
    """A version of ipykernel, and whether it hears a click while a cell runs."""

    version: str
    hears: bool


KERNELS: Final = (
    Kernel("6.31.0", hears=False),
    Kernel("7.1.0", hears=True),
    Kernel("7.3.0", hears=True),
    Kernel("7.4.0", hears=True),
)

#: Each step waits for its gate; each time that Hold was heard is noted.
STEPS: Final = """
import threading, time
from taskqueue_nb import Task, TaskQueue
gates = [threading.Event() for _ in range(4)]
tasks = [Task(f"step{i}", gate.wait, func_args=(60,)) for i, gate in enumerate(gates)]
for before, after in zip(tasks, tasks[1:]):
    after.require(before)
queue = TaskQueue(*tasks, name="steps")
asked = []
hold = queue.hold
queue.hold = lambda: (asked.append("hold"), hold())[1]
"""
#: How long the click on a button takes until the page says so, seen by the page itself.
WATCH: Final = """(root) => {
  const hold = [...root.querySelectorAll(".tq-bar button")].find((b) => b.textContent === "Hold");
  window.clicked = { at: 0, heard: 0, waits: 0 };
  hold.addEventListener("click", () => { window.clicked.at ||= performance.now(); });
  new MutationObserver(() => {
    const since = performance.now() - window.clicked.at;
    const { textContent: standing } = root.querySelector(".tq-standing");
    const { textContent: message } = root.querySelector(".tq-top-message [role=status]");
    if (window.clicked.at && standing.includes("held")) window.clicked.heard ||= since;
    if (window.clicked.at && message.includes("Waiting for the running cell"))
      window.clicked.waits ||= since;
  }).observe(root, { subtree: true, childList: true, characterData: true });
}"""


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel.version)
def test_a_click_is_heard_once(
    notebook: MakeNotebook, page: Page, kernel_of: Callable[[str], str], kernel: Kernel
) -> None:
    """While a cell runs at once, or with a word that it waits; while none does at once."""
    cells = [STEPS, "queue", "queue.start()\nNone", "time.sleep(3)", "print(asked)"]
    opened = notebook(cells, kernel=kernel_of(kernel.version))
    assert opened.evaluate("import ipykernel; print(ipykernel.__version__)") == kernel.version
    for number in range(3):
        opened.run_cell(number)
    view = View(opened, 1)
    view.expect_states(step0="running")
    hold = view.button("Hold")

    def click() -> dict[str, float]:
        expect(hold).to_be_enabled()
        view.root.evaluate(WATCH)
        hold.dblclick()
        expect(view.root.locator(".tq-standing")).to_contain_text("held")
        clicked: dict[str, float] = page.evaluate("() => window.clicked")
        return clicked

    opened.start_cell(3)  # the first click of all: where it goes must not hang on one before it
    expect(opened.cell(3).locator(".jp-InputPrompt")).to_contain_text("*")
    busy = click()
    if kernel.hears:
        assert opened.running(3)
        assert busy["heard"] < 1000
        assert busy["waits"] == 0
    else:
        assert 900 < busy["waits"] < 2000
        assert busy["waits"] < busy["heard"]
        expect(view.root.locator(".tq-top-message")).not_to_contain_text("Waiting")
    opened.wait_cell(3)

    view.button("Resume").click()
    idle = click()
    assert idle["heard"] < 1000
    assert idle["waits"] == 0
    opened.run_cell(4)
    assert opened.text(4) == "['hold', 'hold']"  # one for each double click
    opened.evaluate("queue.stop(); [gate.set() for gate in gates]; queue.wait()")
