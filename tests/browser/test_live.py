"""The live view in a real browser: what a user sees, clicks and types."""

from __future__ import annotations

import json
import re

from playwright.sync_api import Page, expect

from browser.conftest import MakeNotebook, Traffic
from browser.graphs_live import REPAIRABLE, View


def shown(notebook: MakeNotebook, *more: str) -> View:
    """Show the repairable queue in cell 1, with further cells behind it."""
    opened = notebook([REPAIRABLE, "queue", *more])
    opened.run_cell(0)
    opened.run_cell(1)
    view = View(opened, 1)
    expect(view.box("report")).to_be_visible()
    return view


def failed(notebook: MakeNotebook, *more: str) -> View:
    """Show it, run it, and wait until it has failed."""
    view = shown(notebook, *more)
    view.button("Run").click()
    view.expect_states(load="done", clean="done", fit="failed", report="pending")
    return view


def test_a_task_is_repaired_by_mouse(notebook: MakeNotebook) -> None:
    """An edited argument and one click finish the run; what was done is not run again."""
    view = failed(notebook, "print(calls, final.result())")

    view.box("fit").click()
    expect(view.side).to_contain_text("ValueError: degree 9 is too high for 9 rows")
    field = view.side.get_by_label("Argument degree")
    expect(field).to_have_value("9")
    field.fill("2")
    expect(view.side.locator(".tq-does").filter(has_text="Repair")).to_contain_text("2 will run")
    view.button("Repair and rerun").click()

    view.expect_states(fit="done", report="done")
    view.notebook.run_cell(2)
    assert view.notebook.text(2) == "['load', 'clean', 'fit', 'fit', 'report'] degree 2"


def test_a_task_is_repaired_by_keyboard(notebook: MakeNotebook, page: Page) -> None:
    """The same without a mouse: Tab, arrows, Enter, typing; the notebook hears none of it."""
    view = shown(notebook, "print(calls, final.result())")
    press = page.keyboard.press

    view.button("Run").focus()
    press("Enter")
    view.expect_states(fit="failed")
    for _ in range(40):
        if page.evaluate("() => document.activeElement.classList.contains('node')"):
            break
        press("Tab")
    press("Home")
    for _ in range(2):
        press("ArrowRight")
    expect(view.box("fit")).to_be_focused()
    press("Enter")
    field = view.side.get_by_label("Argument degree")
    expect(field).to_have_value("9")
    for _ in range(20):
        if field.evaluate("(e) => e === document.activeElement"):
            break
        press("Tab")
    press("Control+a")
    page.keyboard.type("2")
    press("Enter")

    view.expect_states(fit="done", report="done")
    press("Escape")
    expect(view.side).to_be_hidden()
    expect(view.box("fit")).to_be_focused()
    assert view.notebook.js("return panel.content.widgets.length") == 3
    view.notebook.run_cell(2)
    assert view.notebook.text(2) == "['load', 'clean', 'fit', 'fit', 'report'] degree 2"


def test_a_double_click_retries_once(notebook: MakeNotebook) -> None:
    """Two clicks on Retry are one retry, and Retry alone starts nothing."""
    view = failed(notebook, "print(calls.count('fit'), len(queue.tasks[2].fsm_history))")
    view.box("fit").click()

    view.button("Retry").dblclick()

    view.expect_states(fit="pending")
    expect(view.button("Retry")).to_have_count(0)
    view.notebook.run_cell(2)
    assert view.notebook.text(2) == "1 3"  # dispatch, except, one retry


def test_a_refusal_is_a_sentence(notebook: MakeNotebook) -> None:
    """What is no literal is refused where the user looks, and nothing changes."""
    view = failed(notebook)
    view.box("fit").click()

    view.side.get_by_label("Argument degree").fill("two")
    view.button("Repair and rerun").click()

    expect(view.side.get_by_role("alert")).to_contain_text("degree: two is no Python literal")
    expect(view.side.get_by_label("Argument degree")).to_have_value("two")
    view.expect_states(fit="failed")


def test_run_says_what_blocks(notebook: MakeNotebook) -> None:
    """Run on a queue in which nothing can run names the cause."""
    view = failed(notebook)

    view.button("Run").click()

    expect(view.root.locator(".tq-top-message")).to_contain_text("Nothing can run: fit is failed")


def test_undo_takes_a_click_back(notebook: MakeNotebook) -> None:
    """The button says which verb, and is off where there is none."""
    view = failed(notebook)
    expect(view.button("There is nothing to undo")).to_be_disabled()
    view.box("fit").click()
    view.button("Retry").click()
    view.expect_states(fit="pending")

    view.button("Undo: retry 'fit'").click()

    view.expect_states(fit="failed")
    expect(view.root.get_by_role("status").filter(has_text="Undone: retry 'fit'.")).to_be_visible()
    expect(view.button("There is nothing to undo")).to_be_disabled()


def test_a_button_says_what_it_will_do_and_does_that(notebook: MakeNotebook) -> None:
    """To the eye and to a screen reader; when the graph has moved it refuses, and says so anew."""
    view = failed(notebook)
    view.box("fit").click()
    expect(view.button("Retry and continue")).to_have_accessible_description(
        re.compile("^2 will run, 2 are reused")
    )
    expect(view.button("Retry all failed")).to_have_accessible_description(
        re.compile("^Retry all failed: next run: 2 will run, 2 are reused")
    )
    # news that are late: the click brings back the plan of before
    view.notebook.evaluate(
        "from taskqueue_nb.widget import PUMP; view = queue.widget(); PUMP.remove(view._mark)"
    )
    view.notebook.evaluate("queue.add(final.then('more', str))")
    view.button("Retry and continue").click()
    view.notebook.evaluate(
        "import time\nend = time.monotonic() + 20\n"
        "while not view._given and time.monotonic() < end: time.sleep(0.01)\n"
        "PUMP.add(view, view._mark); view._mark()"
    )

    expect(view.side.get_by_role("alert")).to_contain_text("the graph has moved since this plan")
    expect(view.button("Retry and continue")).to_have_accessible_description(
        re.compile("^3 will run, 2 are reused")
    )
    view.expect_states(fit="failed")
    view.button("Retry and continue").click()
    view.expect_states(fit="failed", more="pending")
    expect(view.side.get_by_role("table").locator("tbody tr")).to_have_count(2)


def test_the_source_is_edited_by_keyboard(notebook: MakeNotebook, page: Page) -> None:
    """Tab and Enter indent, the browser's undo works, a wrong line is named, the right one runs."""
    view = failed(notebook, "print(calls, final.result())")
    view.box("fit").click()
    source = view.side.get_by_label("Source of the function")
    expect(source).to_have_value(re.compile(r"^def fit\(rows, degree, \*, strict=True\):\n"))
    press = page.keyboard.press
    before = source.input_value()

    source.focus()
    press("Control+a")
    page.keyboard.type("def fit(rows, degree, *, strict=True):")
    press("Enter")
    page.keyboard.type("retrun")
    press("Tab")
    page.keyboard.type("degree")
    press("Control+Enter")
    expect(view.side.get_by_role("alert")).to_contain_text("Line 2")
    view.expect_states(fit="failed")
    for _ in range(60):
        if source.input_value() == before:
            break
        press("Control+z")
    expect(source).to_have_value(before)
    expect(view.button("Repair and rerun")).to_be_disabled()

    press("Control+a")
    page.keyboard.type("def fit(rows, degree, *, strict=True):")
    press("Enter")
    page.keyboard.type("if degree:")
    press("Enter")
    page.keyboard.type("return len(rows)")
    expect(source).to_have_value(re.compile(r"\n    if degree:\n        return len\(rows\)$"))
    press("Escape")
    press("Tab")
    expect(source).not_to_be_focused()
    press("Shift+Tab")
    expect(source).to_be_focused()
    press("Tab")
    expect(source).not_to_be_focused()
    press("Shift+Tab")
    press("Control+Enter")

    view.expect_states(fit="done", report="done")
    view.notebook.run_cell(2)
    assert view.notebook.text(2) == "['load', 'clean', 'fit', 'report'] degree 9"


def test_a_cell_run_again_makes_its_tasks_stale(notebook: MakeNotebook) -> None:
    """The boxes say so, nothing runs unasked, and one button brings them up to date."""
    again = """
@task
def clean(rows):
    calls.append("clean")
    return rows[2:]
"""
    view = shown(notebook, "queue.repair(queue.tasks[2], kwargs={'degree': 1})", again)
    view.notebook.run_cell(2)
    view.button("Run").click()
    view.expect_states(report="done")
    expect(view.button("Refresh stale")).to_have_count(0)

    view.notebook.run_cell(3)

    for name in ("clean", "fit", "report"):
        expect(view.box(name)).to_have_attribute("aria-label", f"{name}: done, stale")
    view.box("clean").click()
    expect(view.side.locator(".tq-why")).to_contain_text("Stale: code changed:")
    expect(view.button("Refresh stale")).to_have_accessible_description(
        re.compile("Refresh stale: 3 will run, 1 is reused")
    )
    assert view.notebook.evaluate("print(calls)") == "['load', 'clean', 'fit', 'report']"
    view.button("Refresh stale").click()
    for name in ("clean", "fit", "report"):
        expect(view.box(name)).to_have_attribute("aria-label", f"{name}: done")
    expect(view.button("Refresh stale")).to_have_count(0)
    assert view.notebook.evaluate("print(calls[4:])") == "['clean', 'fit', 'report']"


CAUSES = """
from taskqueue_nb import Task, TaskQueue

broken = True

def fetch(number):
    if broken:
        raise OSError(f"no route to {number}")

pages = [Task(f"fetch {i}", fetch, func_args=(i,)) for i in range(3)]
readers = [page.then(f"read {page.name}", str) for page in pages]
queue = TaskQueue(Task("divide", lambda: 1 / 0), *pages, *readers)
"""


def test_causes_are_gone_through_and_retried_together(notebook: MakeNotebook, page: Page) -> None:
    """By key and by button; one button for all that failed in the same way."""
    opened = notebook([CAUSES, "queue", "queue.start().wait()", "broken = False"])
    for number in range(3):
        opened.run_cell(number)
    view = View(opened, 1)
    expect(view.root.locator(".tq-line")).to_contain_text("2 causes block 3 tasks")

    view.button("Next cause").click()
    expect(view.side.locator(".tq-title")).to_have_text("fetch 0")
    expect(view.side).to_contain_text("Cause 1 of 2: OSError in fetch(), line ")
    view.root.locator(".node[tabindex='0']").focus()
    page.keyboard.press("n")
    expect(view.side.locator(".tq-title")).to_have_text("divide")
    expect(view.box("divide")).to_be_focused()
    expect(view.button("Retry this cause")).to_have_count(0)
    page.keyboard.press("p")
    opened.run_cell(3)
    view.button("Retry this cause").click()

    for i in range(3):
        view.expect_states(**{f"fetch {i}": "done", f"read fetch {i}": "done"})
    view.expect_states(divide="failed")
    expect(view.root.locator(".tq-line")).to_contain_text("1 cause")
    expect(view.root.locator(".tq-line")).not_to_contain_text("block")


def place_in_pane(view: View, name: str) -> tuple[float, float]:
    """Return where a box stands in the pane, in px: the notebook itself may scroll."""
    box, pane = view.box(name).bounding_box(), view.root.locator(".tq-pane").bounding_box()
    assert box is not None
    assert pane is not None
    return box["x"] - pane["x"], box["y"] - pane["y"]


def test_pan_zoom_and_selection_survive(notebook: MakeNotebook, page: Page) -> None:
    """Neither a run nor a new task moves what the user looks at."""
    more = (
        "queue.retry(); queue.wait(); queue.start().wait()",
        "@task\ndef more(x):\n    return x\nqueue.add(more(final))",
    )
    view = failed(notebook, *more)
    view.box("clean").click()
    pane = view.root.locator(".tq-pane > svg[role=group]").bounding_box()
    assert pane is not None
    x, y = pane["x"] + pane["width"] / 2, pane["y"] + pane["height"] - 60
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 60, y - 25, steps=4)
    page.mouse.up()
    page.keyboard.down("Control")
    page.mouse.wheel(0, -120)
    page.keyboard.up("Control")
    before, place = view.transform(), place_in_pane(view, "clean")

    view.notebook.run_cell(2)
    view.expect_states(fit="failed")
    assert view.transform() == before

    view.notebook.run_cell(3)
    expect(view.box("more")).to_have_count(1)
    after = place_in_pane(view, "clean")
    assert max(abs(after[0] - place[0]), abs(after[1] - place[1])) < 2
    expect(view.box("clean")).to_have_class(re.compile("tq-on"))
    expect(view.side.locator(".tq-title")).to_have_text("clean")


def test_a_plain_wheel_scrolls_the_page(notebook: MakeNotebook, page: Page) -> None:
    """Only with Ctrl does the wheel zoom."""
    view = shown(notebook)
    before = view.transform()
    view.box("fit").hover()

    page.mouse.wheel(0, 100)
    view.button("Fit the graph to the pane").hover()

    assert view.transform() == before


MANY = """
from taskqueue_nb import Task, TaskQueue
tasks = [Task(f"t{i}", len, func_args=([],)) for i in range(100)]
for before, after in zip(tasks, tasks[10:]):
    after.require(before)
queue = TaskQueue(*tasks, name="many")
"""

FULL_SPEED = """
for _ in range(50):            # 100 tasks, 50 times: dispatch and done are 10,000 transitions
    for task in queue.run():
        pass
    if _ < 49:
        queue.invalidate(*[task for task in tasks[:10]])
transitions = sum(1 for t in tasks for step in t.fsm_history if step.event in ("dispatch", "done"))
print(transitions)
"""


def test_ten_thousand_transitions_end_right(notebook: MakeNotebook, page: Page) -> None:
    """At full speed no message is lost: every box is right and the cell is idle at the end."""
    traffic = Traffic(page)
    opened = notebook([MANY, "queue", FULL_SPEED, "print('next')"])
    opened.run_cell(0)
    opened.run_cell(1)
    view = View(opened, 1)
    expect(view.root.locator(".node")).to_have_count(100)
    traffic.received.clear()

    opened.run_cell(2)

    expect(view.root.locator('.node[data-state="done"]')).to_have_count(100)
    assert int(opened.text(2)) == 10_000
    assert len(traffic.updates()) < 100
    opened.run_cell(3)
    assert opened.text(3) == "next"


COUNTING = """
import subprocess
calls_of_engine = []
real = subprocess.Popen.__init__
def counting(self, args, *rest, **more):
    if "dot" in str(args) or "graphviz" in str(args):
        calls_of_engine.append(args)
    return real(self, args, *rest, **more)
subprocess.Popen.__init__ = counting
"""


def test_each_structure_is_laid_out_once(notebook: MakeNotebook) -> None:
    """Two views, a still picture and a run: one call of the engine; one more for a new task."""
    opened = notebook(
        [
            COUNTING + REPAIRABLE,
            "queue",
            "queue",
            "queue.start().wait(); print(len(calls_of_engine))",
            "@task\ndef more(x):\n    return x\nqueue.add(more(final))",
            "print(len(calls_of_engine))",
        ]
    )
    for number in range(4):
        opened.run_cell(number)
    View(opened, 2).expect_states(fit="failed")
    assert opened.text(3) == "1"

    opened.run_cell(4)
    expect(View(opened, 1).box("more")).to_have_count(1)
    opened.run_cell(5)
    assert opened.text(5) == "2"


def test_a_closed_view_is_freed(notebook: MakeNotebook) -> None:
    """After close() the page is cleared, and the kernel holds nothing of the widget."""
    free = (
        "import gc, weakref\nwidget = weakref.ref(queue.widget())\nqueue.widget().close()",
        "gc.collect(); print(widget())",
    )
    view = shown(notebook, *free)

    view.notebook.run_cell(2)
    expect(view.root).to_have_count(0)
    expect(view.still).to_be_visible()
    view.notebook.run_cell(3)

    assert view.notebook.text(3) == "None"


def test_what_the_page_sends_is_not_believed(notebook: MakeNotebook) -> None:
    """Messages that no button sends change neither the code nor the drawing nor a task."""
    attack = """
    const id = arg;
    const kernel = panel.sessionContext.session.kernel;
    const send = (data) => kernel.sendShellMessage({
      header: {msg_id: Math.random().toString(36), msg_type: "comm_msg", session: kernel.clientId,
               username: "", version: "5.3", date: new Date().toISOString()},
      parent_header: {}, metadata: {}, buffers: [], channel: "shell",
      content: {comm_id: id, data},
    }, false, false);
    const code = {_esm: "alert(1)", core: "alert(1)", _css: "*{}"};
    send({method: "update", state: {...code, svg: "<svg/>", states: "dddd"}});
    send({method: "custom", content: {id: "x", verb: "retry", task: "2"}});
    send({method: "custom", content: {id: "y", verb: "__class__"}});
    send({method: "custom", content: null});
    send({});
    """
    state = "print(queue.widget().svg.count('class=\"node\"'), queue.widget().states)"
    view = failed(notebook)
    model = view.notebook.evaluate("print(queue.widget().model_id)")

    view.notebook.js(attack, model)

    expect(view.root.get_by_role("alert").first).not_to_be_empty()
    assert view.notebook.evaluate(state) == "4 ddfp"
    for name in ("_esm", "core"):
        assert "alert(1)" not in view.notebook.evaluate(f"print(queue.widget().{name})")


def test_two_views_are_of_one_mind(notebook: MakeNotebook) -> None:
    """A second view shows the truth from the start, and each has a selection of its own."""
    view = failed(notebook, "queue")
    view.box("fit").click()
    view.notebook.run_cell(2)
    second = View(view.notebook, 2)

    second.expect_states(load="done", fit="failed")
    second.button("Retry all failed").click()

    view.expect_states(fit="pending")
    second.expect_states(fit="pending")


def test_hold_resume_and_stop(notebook: MakeNotebook) -> None:
    """A held run starts nothing until it is resumed; a stopped one ends."""
    slow = """
import threading
from taskqueue_nb import Task, TaskQueue
gates = [threading.Event() for _ in range(4)]
tasks = [Task(f"step{i}", gate.wait, func_args=(20,)) for i, gate in enumerate(gates)]
for before, after in zip(tasks, tasks[1:]):
    after.require(before)
queue = TaskQueue(*tasks, name="slow")
"""
    opened = notebook([slow, "queue", *(f"gates[{i}].set()" for i in range(4))])
    opened.run_cell(0)
    opened.run_cell(1)
    view = View(opened, 1)

    view.button("Run").click()
    view.expect_states(step0="running")
    view.button("Hold").click()
    expect(view.button("Resume")).to_be_enabled()
    opened.run_cell(2)
    view.expect_states(step0="done", step1="pending")
    expect(view.root.locator(".tq-standing")).to_contain_text("held")
    view.button("Resume").click()
    view.expect_states(step1="running")
    view.button("Stop").click()
    opened.run_cell(3)
    view.expect_states(step1="done", step2="pending")
    expect(view.button("Run")).to_be_enabled()
    opened.run_cell(4)
    view.button("Step").click()
    view.expect_states(step2="done", step3="pending")


def test_a_restarted_kernel_is_told(notebook: MakeNotebook) -> None:
    """The view says that its kernel is gone, keeps its last picture, and offers nothing."""
    view = failed(notebook)
    view.box("fit").click()
    expect(view.button("Retry and continue")).to_be_enabled()

    view.notebook.restart()

    expect(view.root.locator(".tq-top-message")).to_contain_text("The kernel is gone")
    view.expect_states(load="done", fit="failed")
    for name in ("Run", "Step", "Retry all failed", "Retry and continue"):
        expect(view.button(name)).to_be_disabled()


def test_it_sits_in_a_box_of_widgets(notebook: MakeNotebook) -> None:
    """It is an ipywidget among others."""
    opened = notebook([REPAIRABLE, "import ipywidgets\nipywidgets.VBox([queue.widget()])"])
    opened.run_cell(0)
    opened.run_cell(1)

    View(opened, 1).expect_states(load="pending", report="pending")


def test_hostile_texts_run_nothing(notebook: MakeNotebook) -> None:
    """Names, errors, outputs and results of others are text, wherever they are shown."""
    evil = '<img src=x onerror="window.hacked=1"><script>window.hacked=1</script>'
    cell = f"""
from taskqueue_nb import Task, TaskQueue
evil = {json.dumps(evil)}
class Evil(Exception):
    pass
def fail(x=evil):
    print(evil)
    raise Evil(evil)
queue = TaskQueue(Task(evil, fail), Task("fine", str, func_args=(evil,)), name=evil)
"""
    opened = notebook([cell, "queue", "queue.start().wait()"])
    for number in range(3):
        opened.run_cell(number)
    view = View(opened, 1)
    expect(view.root.locator(".node")).to_have_count(2)
    for number in range(2):
        view.root.locator(f'.node[data-at="{number}"]').click()
        expect(view.side.locator(".tq-pre").first).to_contain_text("onerror")

    assert opened.js("return window.hacked ?? 0") == 0
    expect(view.root.locator("img, script")).to_have_count(0)
