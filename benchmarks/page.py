"""What the live view costs the page: JupyterLab in Chromium, with 200 boxes.

Run it as `python benchmarks/page.py`, with the `test` extra and a Chromium (CHROMIUM=... names
one); `updates`, `pictures`, `run` and `views` as arguments choose from it. It takes three minutes
and prints each figure beside the bar that it is held to; the command ends with status 1 when one is
not kept. Times are the page's own (`performance.now`), and move with the machine; sizes and counts
do not.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any, Final, NamedTuple

from playwright.sync_api import CDPSession, Page, expect, sync_playwright

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from browser.conftest import (
    BROWSER_ARGS,
    Notebook,
    Server,
    Traffic,
    chromium,
)

BOXES: Final = 200
FRAME: Final = 1000 + BOXES  # bytes of one update
RATE: Final = 20  # updates a second
HANDLERS: Final = 8.0  # ms of the page's handlers for one update, at the 95th percentile
FIRST: Final = 150.0  # ms from the end of the cell to the picture, beyond the layout's own time
WAITED: Final = 250.0  # ms of the layout that the cell itself waits for
PICTURES: Final = 7
RUNS: Final = 5  # of which the quietest counts: the machine may have had other things to do
READY: Final = 10_000  # ms after which JupyterLab has made what it makes after its page is there
ROUNDS: Final = 250  # of BOXES tasks with two transitions each: 100,000
VIEWS: Final = 50
WARM: Final = 20  # with so many a browser has compiled what it finds to be used often
HEAP: Final = 2_000_000  # bytes that the page may hold more after that
VIEW_HEAP: Final = 2_000_000  # the same after VIEWS views
IDLE_HEAP: Final = 700_000  # and more than after as many widgets that do nothing
COUNTS: Final = 25  # nodes and listeners likewise: JupyterLab has some more for itself

#: The graph.
MADE: Final = """
import random, sys, time
from taskqueue_nb import Task, TaskQueue
from taskqueue_nb.drawing import engine
from taskqueue_nb.widget import TaskGraph

engine_ms = []
run_engine = engine.run
def timed_engine(*args):
    began = time.perf_counter()
    try:
        return run_engine(*args)
    finally:
        engine_ms.append((time.perf_counter() - began) * 1000)
for module in [m for m in sys.modules.values() if getattr(m, "run", None) is run_engine]:
    module.run = timed_engine

def busy(seconds):
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass

def made(seed, seconds=0.0, boxes=BOXES):
    drawn = random.Random(seed)
    tasks = [Task(f"part {i}", busy, func_args=(seconds,)) for i in range(boxes)]
    for i, task in enumerate(tasks):
        layer = i // 15 * 15
        for other in drawn.sample(tasks[max(0, layer - 15) : layer], 2 if layer else 0):
            task.require(other)
    return TaskQueue(*tasks)

def again(queue, rounds):
    for number in range(rounds):
        queue.start(echo=False).wait()
        assert set(queue.counts()) == {"DONE"}
        if number < rounds - 1:
            queue.invalidate(*queue.tasks[:15])
""".replace("BOXES", str(BOXES))

#: The same, in a page that notes how long its handlers take, for each message together.
TIMED: Final = (
    MADE
    + """
TIMED = '''
export default { render({ model, el }) {
  const frames = (window.frames_ ??= []);
  const known = new Map();
  window.model_ = model;
  let spent = 0, due = false;
  const timed = (does) => (...args) => {
    const began = performance.now();
    try { return does(...args); } finally {
      spent += performance.now() - began;
      if (!due) {
        due = true;
        queueMicrotask(() => { frames.push(spent); spent = 0; due = false; });
      }
    }
  };
  return render({ el, model: new Proxy(model, { get(of, name) {
    if (name === "on") return (event, does) => {
      known.set(does, known.get(does) ?? timed(does)); of.on(event, known.get(does));
    };
    if (name === "off") return (event, does) => of.off(event, known.get(does) ?? does);
    return typeof of[name] === "function" ? of[name].bind(of) : of[name];
  } }) });
} };
'''
assert TaskGraph._esm.count("export default { render };") == 1
TaskGraph._esm = TaskGraph._esm.replace("export default { render };", TIMED)
"""
)

#: A cell that shows a view, and what it shows instead: a widget with as many elements that is told
#: nothing, and does nothing.
VIEW: Final = """
view = lambda: made(0).widget()
"""
IDLE: Final = """
from taskqueue_nb.widget.view import View
class Idle(View):
    _esm = '''
      export default { render({ el }) {
        const root = document.createElement("div");
        root.className = "tq";
        for (let i = 0; i < BOXES; i++) {
          const node = document.createElement("i");
          node.className = "node";
          root.append(node);
        }
        el.append(root);
        return () => root.remove();
      } };
    '''
view = Idle
""".replace("BOXES", str(BOXES))


class Figure(NamedTuple):
    """One line of the table."""

    what: str
    value: float
    bar: float
    unit: str
    more: str = ""

    @property
    def kept(self) -> bool:
        """Whether the bar is met."""
        return self.value <= self.bar


class Memory(NamedTuple):
    """What a page holds once its garbage is collected."""

    heap: int
    nodes: int
    listeners: int


def held(cdp: CDPSession) -> Memory:
    """Collect garbage until nothing goes any more, and count."""
    least: Memory | None = None
    for _ in range(5):
        cdp.send("HeapProfiler.collectGarbage")
        found = {m["name"]: int(m["value"]) for m in cdp.send("Performance.getMetrics")["metrics"]}
        now = Memory(found["JSHeapUsedSize"], found["Nodes"], found["JSEventListeners"])
        least = now if least is None else Memory(*map(min, least, now))
    assert least is not None
    return least


class Bench:
    """A notebook in a page of its own, with the graph's cell run."""

    def __init__(self, page: Page, server: Server, name: str, cells: list[str]) -> None:
        self.page, self.traffic = page, Traffic(page)
        server.write(name, cells)
        self.notebook = Notebook(page, server, name).open()
        self.notebook.run_cell(0)
        self.cdp = page.context.new_cdp_session(page)
        self.cdp.send("Performance.enable")
        page.wait_for_timeout(READY)

    def boxes(self) -> None:
        """Wait until all boxes are drawn."""
        expect(self.page.locator(".tq .node")).to_have_count(BOXES)

    def settled(self) -> None:
        """Wait until all boxes are done, and what is said about them has come."""
        expect(self.page.locator('.tq .node[data-state="done"]')).to_have_count(BOXES)
        expect(self.page.locator(".tq-standing")).to_have_text(f"{BOXES} of {BOXES} done")

    def frames(self) -> list[float]:
        """Return how long the handlers took for each message since the last time, in ms."""
        found: list[float] = self.page.evaluate("() => (window.frames_ ?? []).splice(0)")
        return found


def updates(bench: Bench) -> list[Figure]:
    """Measure the messages of runs of ten thousand transitions, and what they cost the page."""
    bench.notebook.run_cell(1)
    bench.boxes()
    bench.notebook.run_cell(2)  # warm
    bench.settled()
    sizes: list[int] = []
    rates: list[float] = []
    handlers: list[tuple[float, str]] = []
    for _ in range(RUNS):
        bench.frames()
        bench.traffic.received.clear()
        style = metrics(bench.cdp)
        began = now(bench.page)
        bench.notebook.run_cell(2)
        seconds = (now(bench.page) - began) / 1000
        rates.append(len(bench.traffic.updates()) / seconds)
        bench.settled()
        sizes += bench.traffic.updates()
        spent = metrics(bench.cdp) - style
        frames = bench.frames()
        note = (
            f"median {statistics.median(frames):.1f}, most {max(frames):.1f}; "
            f"style and layout {1000 * spent / len(frames):.1f} each"
        )
        handlers.append((statistics.quantiles(frames, n=20)[-1], note))
    p95, note = min(handlers)
    return [
        Figure("bytes of an update, median", statistics.median(sizes), FRAME, "bytes",
               f"{len(sizes)} updates, largest {max(sizes)}"),
        Figure("updates a second, most", max(rates), RATE, ""),
        Figure(f"handlers of an update, p95, least of {RUNS} runs", p95, HANDLERS, "ms", note),
        Figure("handlers when every box changes, median", bench.page.evaluate(ALL), HANDLERS, "ms"),
    ]  # fmt: skip


#: Let every box change, forty times; return the median of what that took, in ms.
ALL: Final = """async () => {
  const model = window.model_, took = [];
  for (let i = 0; i < 40; i++) {
    const began = performance.now();
    model.set("states", (i % 2 ? "d" : "p").repeat(model.get("states").length));
    took.push(performance.now() - began);
    await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
  }
  return took.sort((a, b) => a - b)[20];
}"""


def now(page: Page) -> float:
    """Return the page's time, in ms."""
    found: float = page.evaluate("() => performance.now()")
    return found


def metrics(cdp: CDPSession) -> float:
    """Return how long the page was busy with style and layout so far, in s."""
    found = {m["name"]: m["value"] for m in cdp.send("Performance.getMetrics")["metrics"]}
    return float(found["RecalcStyleDuration"] + found["LayoutDuration"])


#: From the start of a cell to its end, and to the last box, in ms.
PICTURE: Final = """
  const began = performance.now();
  const drawn = new Promise((done) => {
    const look = () => {
      if (document.querySelectorAll(".tq .node[data-state]").length !== arg.boxes) return;
      observer.disconnect();
      requestAnimationFrame(() => setTimeout(() => done(performance.now() - began)));
    };
    const observer = new MutationObserver(look);
    observer.observe(document.body, { childList: true, subtree: true, attributes: true });
  });
  panel.content.activeCellIndex = arg.cell;
  panel.content.deselectAll();
  await app.commands.execute("notebook:run-cell");
  const ended = performance.now() - began;
  return [ended, await drawn];
"""


def first_pictures(bench: Bench) -> list[Figure]:
    """Measure how long after its cell a picture is on the screen; each graph is laid out anew."""
    late, notes = [], []
    for seed in range(PICTURES):
        bench.notebook.evaluate(f"queue = made({seed}); engine_ms.clear()")
        ended, drawn = bench.notebook.js(PICTURE, {"cell": 1, "boxes": BOXES})
        engine = float(bench.notebook.evaluate("print(sum(engine_ms))"))
        late.append(drawn - ended - max(0.0, engine - WAITED))
        notes.append(engine)
        bench.notebook.run_cell(2)  # close it
        expect(bench.page.locator(".tq")).to_have_count(0)
    return [
        Figure("first picture after its cell, median", statistics.median(late), FIRST, "ms",
               f"from {min(late):.0f} to {max(late):.0f}; layout {statistics.median(notes):.0f}"),
    ]  # fmt: skip


def flat(
    what: str, before: Memory, after: Memory, idle: tuple[Memory, Memory] | None = None,
    heap: int = HEAP,
) -> list[Figure]:  # fmt: skip
    """Return how much more a page holds than before, and than if nothing had been drawn."""

    def grown(old: Memory, new: Memory) -> Memory:
        return Memory(*(b - a for a, b in zip(old, new, strict=True)))

    ours = grown(before, after)
    less = Memory(0, 0, 0) if idle is None else grown(*idle)
    more = grown(less, ours)
    notes = [f"{a:,} of {b:,}" for a, b in zip(ours, before, strict=True)]
    return [
        Figure(f"{what}: heap", more.heap / 1e6, heap / 1e6, "MB", notes[0]),
        Figure(f"{what}: nodes", more.nodes, COUNTS, "", notes[1]),
        Figure(f"{what}: listeners", more.listeners, COUNTS, "", notes[2]),
    ]


def long_run(bench: Bench) -> list[Figure]:
    """Measure what a page holds after 100,000 transitions."""
    bench.notebook.run_cell(1)
    bench.boxes()
    bench.notebook.evaluate("again(queue, 10)")  # warm
    bench.settled()
    before = held(bench.cdp)
    bench.notebook.evaluate(f"again(queue, {ROUNDS})")
    bench.settled()
    return flat(f"{2 * BOXES * ROUNDS:,} transitions", before, held(bench.cdp))


def many_views(bench: Bench) -> list[Figure]:
    """Measure what a page holds after 50 views were opened and closed.

    JupyterLab keeps the model of each widget, and a browser its module. So the page is compared
    with itself after as many widgets that are told nothing and have next to no module.
    """

    def opened_and_closed() -> tuple[Memory, Memory]:
        before = Memory(0, 0, 0)
        for number in range(WARM + VIEWS):
            if number == WARM:
                before = held(bench.cdp)
            bench.notebook.run_cell(1)
            bench.boxes()
            bench.notebook.evaluate("shown.close()")
            expect(bench.page.locator(".tq")).to_have_count(0)
        return before, held(bench.cdp)

    ours = opened_and_closed()
    bench.notebook.evaluate(IDLE)
    idle = opened_and_closed()
    heap, *_ = flat(f"{VIEWS} views opened and closed", *ours, heap=VIEW_HEAP)
    return [heap, *flat("the same, beyond idle ones", *ours, idle, heap=IDLE_HEAP)]


#: What is measured: the name, what does it, and the cells that it runs.
PARTS: Final[tuple[tuple[str, Any, list[str]], ...]] = (
    ("updates", updates, [TIMED, "queue = made(0, 2e-4)\nqueue.widget()", "again(queue, 25)"]),
    ("pictures", first_pictures, [TIMED, "queue.widget()", "queue.widget().close()"]),
    # these run one cell only: JupyterLab keeps the toolbar of each cell that was the active one
    ("run", long_run, [TIMED, "queue = made(0)\nqueue.widget()"]),
    ("views", many_views, [MADE + VIEW, "shown = view()\nshown"]),
)


def main() -> int:
    """Measure, print, and say whether the bars are met."""
    path = chromium()
    if path is None:
        print("no Chromium was found; name one by CHROMIUM=/path")
        return 2
    kept = True
    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    print(f"{BOXES} boxes; JupyterLab in Chromium\n")
    if load > cores / 2:
        print(f"{cores} cores have a load of {load:.1f}: the times below are too long\n")
    print(f"{'':60}{'measured':>10}{'bar':>10}")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        server = Server(Path(folder), app="lab").start()
        try:
            browser = playwright.chromium.launch(executable_path=path, args=BROWSER_ARGS)
            for name, measure, cells in PARTS:
                if len(sys.argv) > 1 and name not in sys.argv[1:]:
                    continue
                page = browser.new_page(viewport={"width": 1280, "height": 900})
                figures: list[Figure] = measure(Bench(page, server, f"{name}.ipynb", cells))
                for what, value, bar, unit, more in figures:
                    print(f"{what:60}{value:10.1f}{bar:10.1f} {unit:5} {more}", flush=True)
                kept &= all(figure.kept for figure in figures)
                page.close()
                server.shutdown_sessions()
            browser.close()
        finally:
            server.stop()
    print("\nkept" if kept else "\nnot kept: some figure is above its bar")
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
