"""Several views of several queues, and what is left of a view that is closed."""

from __future__ import annotations

from pathlib import Path
from typing import Final
from zlib import crc32

from playwright.sync_api import CDPSession, Page, expect

from browser.conftest import MakeNotebook, Notebook
from browser.graphs_live import REPAIRABLE, View

TWO: Final = (
    REPAIRABLE + "\nother = TaskQueue.of(report(fit(clean(load(5)), degree=1)), name='other')\n"
)


def test_several_views_of_several_queues(notebook: MakeNotebook, page: Page) -> None:
    """Views of one queue are of one mind, another queue has its own; also after a reload."""
    opened = notebook([TWO, "queue", "other", "queue"])
    for number in range(4):
        opened.run_cell(number)
    first, other, second = (View(opened, number) for number in (1, 2, 3))

    first.button("Run").click()
    for view in (first, second):
        view.expect_states(load="done", fit="failed", report="pending")
    other.expect_states(load="pending", fit="pending", report="pending")
    second.box("fit").click()
    other.box("load").click()
    expect(first.side).to_be_hidden()
    expect(second.side.locator(".tq-title")).to_have_text("fit")
    expect(other.side.locator(".tq-title")).to_have_text("load")
    other.button("Run").click()
    other.expect_states(report="done")
    expect(first.root.locator(".tq-standing")).to_have_text("2 of 4 done")
    opened.save()

    page.reload()
    opened.open()
    for view in (first, second):
        view.expect_states(load="done", fit="failed", report="pending")
        expect(view.still).to_be_hidden()
    other.expect_states(load="done", report="done")
    first.box("fit").click()  # the details are a part that the kernel sends again
    first.side.get_by_label("Argument degree").fill("2")
    first.button("Repair and rerun").click()
    for view in (first, second):
        view.expect_states(fit="done", report="done")


#: Note what the page imports from texts, and let it fail while `refuse` says so.
IMPORTS: Final = """() => {
  window.imports = [];
  const real = URL.createObjectURL.bind(URL);
  URL.createObjectURL = (blob) => {
    if (blob.type !== "text/javascript") return real(blob);
    blob.text().then((text) => window.imports.push(text));
    const url = real(blob);
    if (localStorage.refuse && blob.size > 10000) URL.revokeObjectURL(url); // the loader comes
    return url;
  };
}"""


def imports(opened: Notebook, page: Page, widget: str) -> int:
    """Return how often the page has imported the core of a widget."""
    core = opened.evaluate(f"import zlib; print(zlib.crc32({widget}.core.encode()))")
    texts: list[str] = page.evaluate("() => window.imports")
    return [str(crc32(text.encode())) for text in texts].count(core)


def test_a_page_imports_a_view_once(notebook: MakeNotebook, page: Page) -> None:
    """However many it opens and closes, at once and one after another; a reload begins anew."""
    page.add_init_script(f"({IMPORTS})()")
    opened = notebook(
        [
            TWO + "final.machine()",
            "queue",
            "other",
            "queue.widget().close(); other.widget().close()",
        ]
    )
    opened.run_cell(0)
    for _ in range(4):
        opened.run_cell(1)
        opened.run_cell(2)
        for number in (1, 2):
            View(opened, number).expect_states(load="pending")
        opened.run_cell(3)
        expect(page.locator(".tq-pane")).to_have_count(0)
    opened.evaluate("final.machine().close()")
    opened.run_cell(0)
    expect(page.locator(".tq-machine")).to_have_count(1)
    opened.run_cell(1)
    assert imports(opened, page, "queue.widget()") == 1
    assert imports(opened, page, "final.machine()") == 1
    opened.save()

    page.reload()
    opened.open()
    View(opened, 1).expect_states(load="pending")
    assert imports(opened, page, "queue.widget()") == 1


def test_a_view_that_does_not_come_says_so(notebook: MakeNotebook, page: Page, shots: Path) -> None:
    """In its place, above the still picture; and it comes when the cell is run again."""
    page.add_init_script(f"({IMPORTS})()")
    opened = notebook([TWO, "queue", "other"])
    opened.run_cell(0)
    page.evaluate("() => { localStorage.refuse = true; }")
    opened.run_cell(1)
    view = View(opened, 1)
    told = view.root.get_by_role("alert")
    expect(told).to_contain_text("The live view could not be started (TypeError: Failed to fetch")
    expect(view.still).to_be_visible()
    page.screenshot(path=shots / "view-refused.png")

    page.evaluate("() => { delete localStorage.refuse; }")
    opened.run_cell(2)
    View(opened, 2).expect_states(load="pending")
    opened.run_cell(1)
    view.expect_states(load="pending")
    expect(view.still).to_be_hidden()
    assert imports(opened, page, "queue.widget()") == 2


#: Count what the page's own scripts leave behind: timers, frames, observers.
COUNT: Final = """() => {
  const due = new Map(), observers = new Set();
  const ours = () => /\\bblob:/.test(new Error().stack); // the module of a view is a blob
  window.left = () => ({ due: [...due.values()], observers: [...observers] });
  for (const [start, end, again] of [
    ["setTimeout", "clearTimeout", false], ["setInterval", "clearInterval", true],
    ["requestAnimationFrame", "cancelAnimationFrame", false],
  ]) {
    const [real, stop] = [window[start].bind(window), window[end].bind(window)];
    window[start] = (does, ...rest) => {
      const id = real((...args) => {
        if (!again) due.delete(`${start} ${id}`);
        return does(...args);
      }, ...rest);
      if (ours()) due.set(`${start} ${id}`, `${start} ${does}`);
      return id;
    };
    window[end] = (id) => { due.delete(`${start} ${id}`); return stop(id); };
  }
  for (const name of ["MutationObserver", "ResizeObserver", "IntersectionObserver"]) {
    window[name] = class extends window[name] {
      constructor(does) { super(does); this.ours = ours(); }
      observe(...args) { if (this.ours) observers.add(this); return super.observe(...args); }
      disconnect() { observers.delete(this); return super.disconnect(); }
    };
  }
}"""


#: How many of these are parts of a view; prototypes, which are no elements, are among them.
OURS: Final = """function () {
  const made = this.filter((e) => !Object.hasOwn(e, "constructor"));
  return made.filter((e) => /^(tq|node)\\b/.test(e.getAttribute("class") ?? "")).length;
}"""


def alive(page: Page, cdp: CDPSession) -> int:
    """Return how many elements of a view are in memory, shown or not."""
    cdp.send("HeapProfiler.collectGarbage")
    kind = cdp.send("Runtime.evaluate", {"expression": "Element.prototype"})
    found = cdp.send("Runtime.queryObjects", {"prototypeObjectId": kind["result"]["objectId"]})
    counted = cdp.send(
        "Runtime.callFunctionOn",
        {
            "objectId": found["objects"]["objectId"],
            "functionDeclaration": OURS,
            "returnByValue": True,
        },
    )
    cdp.send("Runtime.releaseObject", {"objectId": found["objects"]["objectId"]})
    number: int = counted["result"]["value"]
    return number


def test_nothing_is_left_of_a_closed_view(notebook: MakeNotebook, page: Page) -> None:
    """No element, timer or observer on the page, whatever it was doing; nothing in the kernel."""
    page.add_init_script(f"({COUNT})()")
    opened = notebook(
        [
            TWO + "import gc, weakref",
            "views = [queue.widget(), other.widget()]\ngone = [weakref.ref(v) for v in views]",
            "queue",
            "other",
            "for view in views: view.close()\ndel view, views",
            "gc.collect(); print([ref() for ref in gone])",
        ]
    )
    for number in range(4):
        opened.run_cell(number)
    cdp = page.context.new_cdp_session(page)
    view, other = View(opened, 2), View(opened, 3)
    view.button("Run").click()
    view.expect_states(fit="failed")
    view.box("fit").click()
    view.button("Retry").click()  # praise that would go after a while: a timer
    view.expect_states(fit="pending")
    expect(other.box("report")).to_be_visible()
    assert alive(page, cdp) > 100
    assert page.evaluate("() => window.left().observers.length") >= 4
    assert page.evaluate("() => window.left().due.length") >= 1

    opened.run_cell(4)
    for each in (view, other):
        expect(each.root).to_have_count(0)
        expect(each.still).to_be_visible()
    assert page.evaluate("() => window.left()") == {"due": [], "observers": []}
    opened.cell(5).locator(".cm-content").focus()  # the browser itself keeps where the focus was
    assert alive(page, cdp) == 0
    opened.run_cell(5)
    assert opened.text(5) == "[None, None]"
