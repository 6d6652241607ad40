"""No output is ever blank: live, reloaded, without a kernel, saved, exported."""

from __future__ import annotations

import html
import subprocess
import sys
from typing import Final

from playwright.sync_api import Page, expect

from browser.conftest import MakeNotebook, Server
from browser.graphs_live import REPAIRABLE, View

ENDED: Final = "Task graph 1 TaskQueue 'fits': 1 pending, 1 failed, 2 done"


def ran(notebook: MakeNotebook, *more: str) -> View:
    """Show the repairable queue in cell 1, and run it; more cells stand ready."""
    opened = notebook([REPAIRABLE, "queue", "queue.start().wait(); queue.counts()", *more])
    for number in range(3):
        opened.run_cell(number)
    view = View(opened, 1)
    view.expect_states(load="done", fit="failed")
    expect(view.still).to_have_attribute("alt", ENDED)  # a little behind the live view
    return view


def expect_picture(view: View) -> None:
    """Wait for the still picture with the states at the end of the run."""
    expect(view.still).to_be_visible()
    expect(view.still).to_have_attribute("alt", ENDED)
    assert view.still.evaluate("(image) => image.complete && image.naturalWidth > 50")


def test_the_view_hides_its_still_picture(notebook: MakeNotebook) -> None:
    """Live there is one picture, not two; the still one behind it follows the run."""
    view = ran(notebook)

    expect(view.still).to_have_count(1)
    expect(view.still).to_be_hidden()
    expect(view.still).to_have_attribute("alt", ENDED)


def test_after_a_reload_the_view_lives_again(notebook: MakeNotebook, page: Page) -> None:
    """With its kernel alive, a reloaded page shows the view with the right states."""
    view = ran(notebook)
    view.notebook.save()

    page.reload()
    view.notebook.open()

    view.expect_states(load="done", clean="done", fit="failed", report="pending")
    expect(view.still).to_be_hidden()
    view.button("Retry all failed").click()
    view.expect_states(fit="pending")


def test_without_its_kernel_the_picture_stands(notebook: MakeNotebook, page: Page) -> None:
    """The kernel is gone and the page is new: the saved picture is there."""
    view = ran(notebook)
    view.notebook.save()
    view.notebook.js("await panel.sessionContext.shutdown()")

    view.notebook.open(kernel=False)

    expect_picture(view)


def test_the_saved_file_holds_the_last_picture(notebook: MakeNotebook) -> None:
    """Whoever reads the file finds a text and a picture with the states at the end."""
    view = ran(
        notebook, "queue.repair(queue.tasks[2], kwargs={'degree': 1}, then_run=True); queue.wait()"
    )

    view.notebook.run_cell(3)
    view.expect_states(report="done")
    expect(view.still).to_have_attribute("alt", "Task graph 1 TaskQueue 'fits': 4 done")

    live, still = view.notebook.save().cells[1].outputs

    assert live.data["text/plain"] == still.data["text/plain"] == "TaskQueue 'fits': 4 tasks"
    assert "Task graph 1 TaskQueue 'fits': 4 done" in html.unescape(still.data["text/html"])
    assert "data:image/svg+xml;base64," in still.data["text/html"]


def test_an_export_has_the_picture(
    notebook: MakeNotebook, page: Page, jupyter_server: Server
) -> None:
    """`nbconvert --to html` of the saved notebook shows it, without a network."""
    view = ran(notebook)
    view.notebook.save()
    page.context.set_offline(True)

    subprocess.run(
        [sys.executable, "-m", "nbconvert", "--to", "html", view.notebook.name],
        cwd=jupyter_server.root, env=jupyter_server.env, check=True, capture_output=True,
    )  # fmt: skip
    path = (jupyter_server.root / view.notebook.name).with_suffix(".html")
    other = page.context.new_page()
    other.goto(path.as_uri())

    picture = other.locator('img[alt^="Task graph 1"]')
    expect(picture).to_be_visible()
    assert picture.evaluate("(image) => image.naturalWidth > 50")


def test_an_executed_export_has_the_picture(page: Page, jupyter_server: Server) -> None:
    """`nbconvert --execute --to html` shows the picture as the run left it."""
    jupyter_server.write("executed.ipynb", [REPAIRABLE, "queue", "queue.start().wait()"])

    subprocess.run(
        [sys.executable, "-m", "nbconvert", "--execute", "--to", "html", "executed.ipynb"],
        cwd=jupyter_server.root, env=jupyter_server.env, check=True, capture_output=True,
    )  # fmt: skip
    page.context.set_offline(True)
    page.goto((jupyter_server.root / "executed.html").as_uri())

    expect(page.locator('img[alt^="Task graph 1"]')).to_be_visible()


def test_the_live_part_can_be_left_out(notebook: MakeNotebook) -> None:
    """With TASKQUEUE_NB_STATIC=1 there is the still picture alone."""
    opened = notebook(["import os; os.environ['TASKQUEUE_NB_STATIC'] = '1'" + REPAIRABLE, "queue"])
    opened.run_cell(0)
    opened.run_cell(1)

    (output,) = opened.model_outputs(1)

    assert "application/vnd.jupyter.widget-view+json" not in output["data"]
    expect(opened.cell(1).locator("img").first).to_be_visible()


def test_closing_brings_the_still_picture_back(notebook: MakeNotebook) -> None:
    """A closed view leaves the picture as it was at the end."""
    view = ran(notebook, "queue.widget().close()")

    view.notebook.run_cell(3)

    expect_picture(view)
