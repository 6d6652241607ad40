"""Timeline and history in a real browser: what a user sees, drags and plays."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Final

import pytest
from playwright.sync_api import Locator, Page, Position, expect

from browser.conftest import MakeNotebook
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


#: What sticks out of the panels, is cut in its place, or lies over its neighbour.
FAULTS: Final = """(root) => {
  const faults = [];
  const seen = (e) => e.getClientRects().length > 0;
  const dock = root.querySelector('.tq-docked').getBoundingClientRect();
  const parts = '.tq-docked .tq-button, .tq-critical, .tq-slider, .tq-pace, .tq-moment, .tq-check, '
    + '.tq-chart';
  for (const e of root.querySelectorAll(parts)) {
    if (!seen(e)) continue;
    const inner = e.getBoundingClientRect();
    if (e.scrollWidth > e.clientWidth + 1 && !e.matches('input, select, .tq-chart'))
      faults.push(`cut: ${e.textContent}`);
    if (inner.left < dock.left - 1 || inner.right > dock.right + 1
        || inner.bottom > dock.bottom + 1)
      faults.push(`outside: ${e.className} ${e.textContent}`);
  }
  for (const row of root.querySelectorAll('.tq-strip, .tq-step, .tq-past')) {
    const boxes = [...row.children].filter(seen).map((e) => [e, e.getBoundingClientRect()]);
    for (const [a, p] of boxes) for (const [b, q] of boxes)
      if (a !== b && p.left < q.right - 1 && q.left < p.right - 1
          && p.top < q.bottom - 1 && q.top < p.bottom - 1)
        faults.push(`overlap: ${a.textContent} and ${b.textContent}`);
  }
  for (const e of root.querySelectorAll('.tq-step .tq-when, .tq-step .tq-went'))
    if (e.scrollWidth > e.clientWidth + 1) faults.push(`cut: ${e.textContent}`);
  return faults;
}"""

#: How long each of 40 pictures takes while the timeline is zoomed, in ms.
PICTURES: Final = """async (canvas) => {
  const took = [];
  const frame = () =>
    new Promise((resolve) => requestAnimationFrame(() => resolve(performance.now())));
  const box = canvas.getBoundingClientRect();
  for (let i = 0; i < 40; i++) {
    await frame();
    const before = frame(); // asked for before the picture, and the next one after it
    canvas.dispatchEvent(new WheelEvent('wheel', {
      ctrlKey: true, deltaY: i % 2 ? 90 : -90, clientX: box.left + 400, clientY: box.top + 40,
      bubbles: true, cancelable: true,
    }));
    const after = frame();
    const [a, b] = await Promise.all([before, after]);
    took.push(b - a);
  }
  return took;
}"""


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

    def painted(self) -> str:
        """Return the picture of the timeline."""
        picture: str = self.canvas.evaluate("(canvas) => canvas.toDataURL()")
        return picture

    def settle(self) -> None:
        """Wait until what was asked for is painted."""
        self.notebook.page.evaluate(
            "() => new Promise((r) => requestAnimationFrame(() => requestAnimationFrame(r)))"
        )

    def hover(self, name: str) -> Position:
        """Move the mouse over the canvas until the tip names a task; return the place."""
        self.canvas.scroll_into_view_if_needed()
        box = self.canvas.bounding_box()
        assert box is not None
        tip = self.root.locator(".tq-tip b")
        for y in range(36, int(box["height"]), 24):
            for x in range(80, int(box["width"]), 12):
                self.notebook.page.mouse.move(box["x"] + x, box["y"] + y)
                if tip.is_visible() and tip.inner_text() == name:
                    return {"x": x, "y": y}
        raise AssertionError(f"no bar of {name}")

    def drag(self, part: float) -> None:
        """Drag the slider to a part of its way."""
        expect(self.slider).to_be_enabled()
        self.slider.scroll_into_view_if_needed()
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


def test_a_bar_selects_its_task(notebook: MakeNotebook, page: Page) -> None:
    """The timeline has a bar for each attempt; a click on one, or Enter, selects the task."""
    view = ran(notebook)
    view.open("Timeline")
    expect(view.canvas).to_have_attribute(
        "aria-label", re.compile("14 attempts in 3 lanes, 1 failed")
    )
    expect(view.root.locator(".tq-critical")).to_have_text(
        re.compile(r"^Critical path: 4 tasks, \d\.\d s of \d\.\d s$")
    )

    place = view.hover("merge")
    expect(view.root.locator(".tq-tip")).to_contain_text("attempt 1, done, on the critical path")
    view.canvas.click(position=place)
    expect(view.side).to_contain_text("merge")
    expect(view.box("merge")).to_have_attribute("aria-pressed", "true")

    view.canvas.focus()
    page.keyboard.press("ArrowRight")
    expect(view.root.locator(".tq-time .tq-live")).to_contain_text(
        "write to disk, attempt 1, failed"
    )
    page.keyboard.press("Enter")
    expect(view.box("write to disk")).to_have_attribute("aria-pressed", "true")


def test_the_timeline_grows_while_the_queue_runs(notebook: MakeNotebook) -> None:
    """A running attempt is there, grows, and ends; also while a cell holds the kernel."""
    view = opened(
        notebook,
        "import time\nfrom taskqueue_nb import Task, TaskQueue\n"
        "queue = TaskQueue(*(Task(f'nap {i}', time.sleep, func_args=(1.2,)) for i in range(3)))",
        "for _ in queue.run(): pass",
    )
    view.open("Timeline")
    expect(view.root.locator(".tq-time .tq-empty")).to_have_text("Nothing has run yet.")
    view.notebook.start_cell(2)

    expect(view.canvas).to_have_attribute("aria-label", re.compile("1 running"))
    before = view.painted()
    view.notebook.page.wait_for_function(
        "([canvas, before]) => canvas.toDataURL() !== before",
        arg=[view.canvas.element_handle(), before],
    )
    expect(view.canvas).to_have_attribute("aria-label", re.compile("2 attempts .*1 running"))
    view.notebook.wait_cell(2)
    expect(view.canvas).to_have_attribute(
        "aria-label", re.compile("3 attempts in 1 lane, Critical")
    )


def test_the_present_is_followed(notebook: MakeNotebook) -> None:
    """However far it is zoomed in, the bar that runs stays in view, until the user pans."""
    view = opened(
        notebook,
        "import time\nfrom taskqueue_nb import Task, TaskQueue\n"
        "queue = TaskQueue(*(Task(f'nap {i}', time.sleep, func_args=(0.37,)) for i in range(400)))",
        "queue.start()",
    )
    view.open("Timeline")
    view.notebook.run_cell(2)
    expect(view.canvas).to_have_attribute("aria-label", re.compile(r"([4-9]|\d\d) attempts"))
    tools = view.root.get_by_role("toolbar", name="Timeline")
    follow = tools.get_by_role("button", name="Follow now")
    follow.click()
    expect(follow).to_have_attribute("aria-pressed", "true")
    for _ in range(3):
        tools.get_by_role("button", name="Zoom in").click()
    view.button("List").click()
    rows = view.root.locator(".tq-attempts tbody tr")
    expect(rows.last).to_contain_text("running")
    expect(view.canvas).to_have_attribute("aria-label", re.compile(r"([3-9]\d|\d{3}) attempts"))

    expect(rows.last).to_contain_text("running")
    assert rows.count() < 10
    view.canvas.focus()
    view.notebook.page.keyboard.press("Shift+ArrowLeft")
    expect(follow).to_have_attribute("aria-pressed", "false")
    view.notebook.evaluate("queue.stop(); queue.wait()")


def test_zoom_and_pan(notebook: MakeNotebook, page: Page) -> None:
    """By buttons, keys, ctrl and wheel, and drag; Fit shows all again."""
    view = ran(notebook)
    view.open("Timeline")
    expect(view.canvas).to_have_attribute("aria-label", re.compile("14 attempts"))
    tools = view.root.get_by_role("toolbar", name="Timeline")
    view.settle()
    whole = view.painted()

    def changes() -> None:
        view.settle()
        seen.append(view.painted())
        assert len(set(seen)) == len(seen)

    seen = [whole]
    tools.get_by_role("button", name="Zoom in").click()
    changes()
    view.canvas.focus()
    page.keyboard.press("+")
    changes()
    page.keyboard.press("Shift+ArrowRight")
    changes()
    view.canvas.hover()
    page.keyboard.down("Control")
    page.mouse.wheel(0, -200)
    page.keyboard.up("Control")
    page.mouse.move(0, 0)
    changes()
    box = view.canvas.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 500, box["y"] + 50)
    page.mouse.down()
    page.mouse.move(box["x"] + 380, box["y"] + 50, steps=4)
    page.mouse.up()
    page.mouse.move(0, 0)
    changes()
    expect(view.side).to_be_hidden()

    tools.get_by_role("button", name="Fit").click()
    page.evaluate("() => document.activeElement.blur()")
    view.settle()
    assert view.painted() == whole


def test_the_slider_rewinds_the_graph(notebook: MakeNotebook, page: Page) -> None:
    """Earlier states are seen and nothing can be done, until Live, which is now."""
    view = ran(notebook)
    now = view.states()
    view.open("History")
    expect(view.root.locator(".tq-moment")).to_have_text("Live: 28 transitions")
    place = view.root.locator(".tq-main").bounding_box()

    view.drag(0.5)

    expect(view.past).to_contain_text(
        re.compile(r"Looking at \d\d:\d\d:\d\d, 1[345] of 28 transitions")
    )
    expect(view.box("merge")).to_have_attribute("data-state", "pending")
    assert view.root.locator(".tq-main").bounding_box() == place
    assert set(view.states().values()) >= {"done", "running", "pending"}
    for name in ("Retry all failed", "Run"):
        expect(view.button(name)).to_be_disabled()
    page.keyboard.press("Home")
    expect(view.past).to_contain_text("Looking at the beginning, 0 of 28 transitions")
    assert set(view.states().values()) == {"pending"}
    view.button("One transition forward").click()
    expect(view.past).to_contain_text("1 of 28")
    assert sorted(view.states().values()) == ["pending"] * 14 + ["running"]

    view.past.get_by_role("button", name="Live").click()
    expect(view.past).to_be_hidden()
    assert view.states() == now
    expect(view.button("Retry all failed")).to_be_enabled()
    expect(view.slider).to_have_value("28")


def test_every_moment_is_as_the_queue_says(notebook: MakeNotebook) -> None:
    """What the page replays is what `queue.history(when)` tells."""
    view = ran(notebook)
    view.open("History")
    expect(view.root.locator(".tq-moment")).to_have_text("Live: 28 transitions")
    said = view.notebook.evaluate(
        "import json\n"
        "moments = sorted({s.when for t in queue for s in t.fsm_history})\n"
        "print(json.dumps([{t.name: s.lower() for t, s in queue.history(when).items()}"
        " for when in moments]))"
    )
    truth = json.loads(said)
    seen = []
    for moment in range(28):
        view.slider.evaluate(
            "(e, to) => { e.value = to; e.dispatchEvent(new Event('input', {bubbles: true})); }",
            str(moment),
        )
        seen.append(view.states())

    assert len(truth) == 28, "two transitions at the same time: run it again"
    assert seen[1:] == truth[:-1]


def test_a_run_is_played(notebook: MakeNotebook, page: Page) -> None:
    """From the beginning to the present, and it can be paused."""
    view = ran(notebook)
    view.open("History")
    expect(view.root.locator(".tq-moment")).to_have_text("Live: 28 transitions")

    view.button("Play").click()
    expect(view.past).to_contain_text("of 28 transitions")
    expect(view.box("merge")).to_have_attribute("data-state", "running")
    view.button("Pause").click()
    here = view.slider.input_value()
    assert 0 < int(here) < 28
    view.button("Play").click()

    expect(view.past).to_be_hidden()
    expect(view.button("Play")).to_be_enabled()
    expect(view.slider).to_have_value("28")


def test_what_happens_meanwhile_does_not_move_the_moment(notebook: MakeNotebook) -> None:
    """The run goes on; the graph shows what was, until Live."""
    view = ran(notebook)
    view.open("History")
    view.drag(0.3)
    expect(view.past).to_contain_text("of 28 transitions")
    before, value = view.states(), view.slider.input_value()

    view.notebook.evaluate("Disk.full = False; queue.retry(then_run=True); queue.wait()")

    expect(view.past).to_contain_text("of 33 transitions")
    assert (view.states(), view.slider.input_value()) == (before, value)
    view.past.get_by_role("button", name="Live").click()
    view.expect_states(report="done")


def test_a_second_view_and_a_reloaded_page_show_the_same(notebook: MakeNotebook) -> None:
    """Each asks for what it lacks, and one that is closed does not stop the other."""
    made = notebook([RUN, "queue", "queue", "queue.start(executor=3).wait()"])
    made.js("app.shell.collapseLeft();")
    for number in range(3):
        made.run_cell(number)
    first, second = Panels(made, 1), Panels(made, 2)
    first.open("History")
    expect(first.root.locator(".tq-moment")).to_have_text("Live: 0 transitions")
    made.run_cell(3)
    expect(first.root.locator(".tq-moment")).to_have_text("Live: 28 transitions")
    second.open("History")
    expect(second.root.locator(".tq-moment")).to_have_text("Live: 28 transitions")
    expect(second.root.locator(".tq-step").last).to_contain_text("write to disk")

    first.drag(0.5)
    expect(first.past).to_be_visible()
    expect(second.past).to_be_hidden()
    first.root.locator(".tq-tab", has_text="History").click()
    expect(first.past).to_be_hidden()
    made.evaluate("Disk.full = False; queue.retry(then_run=True); queue.wait()")
    expect(second.root.locator(".tq-moment")).to_have_text("Live: 33 transitions")

    made.save()
    made.open()
    again = Panels(made, 1)
    expect(again.root.locator(".node").first).to_be_visible()
    again.open("History")
    expect(again.root.locator(".tq-moment")).to_have_text("Live: 33 transitions")
    made.evaluate("queue.invalidate(queue.tasks[-1], then_run=True); queue.wait()")
    expect(again.root.locator(".tq-moment")).to_have_text("Live: 36 transitions")


def test_ten_thousand_attempts_stay_smooth(notebook: MakeNotebook, page: Page) -> None:
    """They are all there, a picture takes less than 16 ms, and the list holds a few rows."""
    view = opened(
        notebook,
        "from taskqueue_nb import Task, TaskQueue\n"
        "queue = TaskQueue(*(Task(f'work {i}', int) for i in range(10_000)), name='many')",
        "queue.start(executor=8).wait()",
    )
    view.notebook.run_cell(2)
    view.open("Timeline")
    expect(view.canvas).to_have_attribute("aria-label", re.compile("10,000 attempts"))

    took = view.canvas.evaluate(PICTURES)
    print("pictures of 10,000 attempts, ms:", sorted(took)[len(took) // 2], max(took))
    assert sorted(took)[len(took) // 2] < 16

    view.open("History")
    expect(view.root.locator(".tq-moment")).to_have_text("Live: 20,000 transitions")
    assert view.root.locator(".tq-step").count() < 20
    view.drag(0.5)
    expect(view.past).to_contain_text("of 20,000 transitions")
    assert view.root.locator(".tq-step").count() < 20


def test_process_workers_have_lanes(notebook: MakeNotebook) -> None:
    """Their attempts stand by the number of the process."""
    view = opened(
        notebook,
        "import time\nfrom taskqueue_nb import Task, TaskQueue\n"
        "queue = TaskQueue(*(Task(f'nap {i}', time.sleep, func_args=(0.2,)) for i in range(6)))",
        "for _ in queue.run(executor='processes'): pass\n"
        "print(*sorted({t.attempts[0].worker for t in queue}))",
    )
    view.open("Timeline")
    view.notebook.run_cell(2)
    view.button("List").click()
    rows = view.root.locator(".tq-attempts tbody tr")
    expect(rows).to_have_count(6)

    names = {text.split("\t")[-1] for text in rows.all_inner_texts()}

    assert " ".join(sorted(names)) == view.notebook.text(2)


LOOKS: Final = [(theme, width) for theme in ("light", "dark") for width in (1280, 480)]


@pytest.mark.parametrize("look", LOOKS, ids=lambda look: f"{look[0]}-{look[1]}")
def test_nothing_is_cut_or_overlaps(
    notebook: MakeNotebook, page: Page, shots: Path, look: tuple[str, int]
) -> None:
    """Timeline, history, and history at another moment, with a task selected."""
    theme, width = look
    page.set_viewport_size({"width": width + 140, "height": 1500})
    view = ran(notebook)
    view.notebook.theme(f"JupyterLab {theme.title()}")
    view.notebook.evaluate(
        "import time; time.sleep(3.5); Disk.full = False; queue.retry(then_run=True); queue.wait()"
    )
    view.expect_states(report="done")
    view.open("Timeline")
    expect(view.root.locator(".tq-critical")).to_contain_text("5 tasks")
    view.settle()
    view.root.screenshot(path=shots / f"timeline-{theme}-{width}.png")
    assert view.root.evaluate(FAULTS) == []
    view.box("write to disk").click()
    view.hover("merge")
    view.root.screenshot(path=shots / f"timeline-selected-{theme}-{width}.png")
    assert view.root.evaluate(FAULTS) == []

    view.open("History")
    expect(view.root.locator(".tq-moment")).to_have_text("Live: 33 transitions")
    view.root.screenshot(path=shots / f"history-{theme}-{width}.png")
    assert view.root.evaluate(FAULTS) == []
    view.drag(0.4)
    expect(view.past).to_be_visible()
    view.root.screenshot(path=shots / f"history-past-{theme}-{width}.png")
    assert view.root.evaluate(FAULTS) == []


def test_forced_colours(notebook: MakeNotebook, page: Page, shots: Path) -> None:
    """Glyphs and lines tell what colours cannot."""
    page.emulate_media(forced_colors="active")
    view = ran(notebook)
    view.open("Timeline")
    expect(view.root.locator(".tq-critical")).to_contain_text("Critical path")
    view.box("merge").click()
    view.settle()
    view.root.screenshot(path=shots / "timeline-forced.png")
    colours = view.canvas.evaluate(
        "(e) => { const d = e.getContext('2d').getImageData(0, 0, e.width, e.height).data;"
        " const seen = new Set(); for (let i = 0; i < d.length; i += 4)"
        " if (d[i + 3] === 255) seen.add(`${d[i]} ${d[i + 1]} ${d[i + 2]}`); return seen.size; }"
    )
    assert colours < 600, "shades of what the system gives, and of its smoothing"
