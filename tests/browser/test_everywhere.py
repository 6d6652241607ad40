"""The live view in the other front ends: Notebook 7, Voila and marimo."""

from __future__ import annotations

import re
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from browser.conftest import Notebook, Server
from browser.graphs_live import REPAIRABLE, Shown, View
from browser.servers import Served


@pytest.fixture
def outside(page: Page) -> list[str]:
    """Collect what the page asks of any other machine; it gets none of it."""
    asked: list[str] = []

    def ask(route: Route) -> None:
        if urlsplit(route.request.url).hostname in ("127.0.0.1", None):  # blob: and data: have none
            route.fallback()
        else:
            asked.append(route.request.url)
            route.abort()

    page.context.route("**/*", ask)
    return asked


def run_and_repair(view: Shown) -> None:
    """Run to the failure, look at it, edit an argument, and finish."""
    view.expect_states(load="pending", clean="pending", fit="pending", report="pending")
    view.button("Run").click()
    view.expect_states(load="done", clean="done", fit="failed", report="pending")
    assert view.faults() == []

    view.box("fit").click()
    expect(view.side).to_contain_text("ValueError: degree 9 is too high for 9 rows")
    expect(view.side.get_by_label("Source of the function")).to_have_value(re.compile("def fit"))
    field = view.side.get_by_label("Argument degree")
    expect(field).to_have_value("9")
    field.fill("2")
    view.button("Repair and rerun").click()

    view.expect_states(load="done", clean="done", fit="done", report="done")
    expect(view.root.locator(".tq-standing")).to_have_text("4 of 4 done")


PAPER: Final = """(root) => {
  const colour = getComputedStyle(root.querySelector(".tq-main")).backgroundColor;
  const [red, green, blue] = colour.match(/[0-9.]+/g).map(Number);
  return (red + green + blue) / 3;
}"""


def look(view: Shown, page: Page, shots: Path, front_end: str, theme: str) -> None:
    """Run to the failure, open its details, and take a picture of the page in its theme."""
    view.button("Run").click()
    view.expect_states(load="done", fit="failed")
    view.box("fit").click()
    expect(view.side).to_contain_text("ValueError: degree 9 is too high for 9 rows")
    view.button("Fit the graph to the pane").click()
    page.mouse.move(0, 0)
    view.root.scroll_into_view_if_needed()
    page.screenshot(path=shots / f"{front_end}-{theme}.png")

    assert view.faults() == []
    assert (view.root.evaluate(PAPER) < 128) == (theme == "dark")


THEMES: Final = ("light", "dark")


# -- Notebook 7 -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def notebook_7(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Start Notebook 7; all other tests run there too with JUPYTER_APP=notebook."""
    server = Server(tmp_path_factory.mktemp("notebook"), app="notebook").start()
    yield server
    server.stop()


def test_notebook_7(notebook_7: Server, page: Page, outside: list[str]) -> None:
    """From the first picture to the repair; then a reload; then the picture without a kernel."""
    notebook_7.write("fits.ipynb", [REPAIRABLE, "queue", "print(calls, final.result())"])
    notebook = Notebook(page, notebook_7, "fits.ipynb").open()
    notebook.run_cell(0)
    notebook.run_cell(1)
    view = View(notebook, 1)
    run_and_repair(view)
    expect(view.still).to_be_hidden()
    notebook.run_cell(2)
    assert notebook.text(2) == "['load', 'clean', 'fit', 'fit', 'report'] degree 2"
    expect(view.still).to_have_attribute("alt", "Task graph 1 TaskQueue 'fits': 4 done")
    notebook.save()

    page.reload()
    notebook.open()
    view.expect_states(fit="done", report="done")
    expect(view.still).to_be_hidden()

    notebook.js("await panel.sessionContext.shutdown()")
    notebook.open(kernel=False)
    expect(view.still).to_be_visible()
    assert view.still.evaluate("(image) => image.complete && image.naturalWidth > 50")
    assert outside == []
    notebook_7.shutdown_sessions()


@pytest.mark.parametrize("theme", THEMES)
def test_notebook_7_in_either_theme(
    notebook_7: Server, page: Page, shots: Path, theme: str
) -> None:
    """The view has the theme of Notebook 7, and nothing in it is cut."""
    notebook_7.write(f"{theme}.ipynb", [REPAIRABLE, "queue"])
    notebook = Notebook(page, notebook_7, f"{theme}.ipynb").open()
    notebook.theme(f"JupyterLab {theme.title()}")
    notebook.run_cell(0)
    notebook.run_cell(1)

    look(View(notebook, 1), page, shots, "notebook", theme)
    notebook_7.shutdown_sessions()


# -- Voila ----------------------------------------------------------------------------------------

#: Voila's own template asks a CDN for the signs of its menus, and goes on without them.
OF_VOILA: Final = "https://cdn.jsdelivr.net/npm/@fortawesome/"


@pytest.fixture(scope="module")
def voila(jupyter_server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Serve a notebook as a page."""
    home = tmp_path_factory.mktemp("voila")
    path = jupyter_server.write("voila.ipynb", [REPAIRABLE, "queue"])
    server = Served(
        home,
        lambda port: [
            sys.executable, "-m", "voila", str(path), "--no-browser",
            f"--port={port}", "--Voila.ip=127.0.0.1",
            # made for JupyterLab 4.6, while Voila 0.5 brings parts of 4.2
            "--VoilaConfiguration.extension_denylist=@jupyter-notebook/lab-extension",
        ],
        jupyter_server.env,
    )  # fmt: skip
    yield server.start()
    server.stop()


def test_voila(voila: Served, page: Page, outside: list[str]) -> None:
    """A page without cells: the same view, and one picture only."""
    page.goto(voila.url)
    view = Shown(page.locator(".tq"))

    run_and_repair(view)

    expect(page.locator('img[alt^="Task graph"]')).to_be_hidden()
    assert [url for url in outside if not url.startswith(OF_VOILA)] == []


@pytest.mark.parametrize("theme", THEMES)
def test_voila_in_either_theme(voila: Served, page: Page, shots: Path, theme: str) -> None:
    """The view has the theme of the page that Voila makes."""
    page.goto(f"{voila.url}?theme={theme}")

    look(Shown(page.locator(".tq")), page, shots, "voila", theme)


# -- marimo ---------------------------------------------------------------------------------------

MARIMO: Final = f"""
import marimo

app = marimo.App()

@app.cell
def _():
{textwrap.indent(REPAIRABLE, "    ")}
    return (queue,)

@app.cell
def _(queue):
    queue
    return

@app.cell
def _(queue):
    queue.widget()
    return
"""


def marimo_of(home: Path, theme: str) -> Served:
    """Return a server that opens a notebook of marimo for editing."""
    (home / "fits.py").write_text(MARIMO)
    (home / "marimo").mkdir()
    # run all cells when the page is opened
    (home / "marimo" / "marimo.toml").write_text(
        f'[runtime]\nauto_instantiate = true\n[display]\ntheme = "{theme}"\n'
    )
    return Served(
        home,
        lambda port: [
            sys.executable, "-m", "marimo", "-q", "edit", "fits.py", "--headless", "--no-token",
            "--skip-update-check", "--host=127.0.0.1", f"--port={port}",
        ],
        {"HOME": str(home)}
        | {f"XDG_{kind}_HOME": str(home) for kind in ("CONFIG", "STATE", "CACHE")},
    )  # fmt: skip


@pytest.fixture(scope="module")
def marimo(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Open a notebook in a light marimo; without a browser there is no use for it."""
    server = marimo_of(tmp_path_factory.mktemp("marimo"), "light").start()
    yield server
    server.stop()


@pytest.mark.parametrize("theme", THEMES)
def test_marimo_in_either_theme(page: Page, tmp_path: Path, shots: Path, theme: str) -> None:
    """The view has marimo's theme, also in its shadow tree."""
    server = marimo_of(tmp_path, theme).start()
    page.goto(server.url)
    expect(page.locator(".tq")).to_have_count(2)

    look(Shown(page.locator(".tq").first), page, shots, "marimo", theme)
    page.goto("about:blank")
    server.stop()


def test_marimo(marimo: Served, page: Page, outside: list[str]) -> None:
    """A queue as a cell's value is live, as `queue.widget()` is, also in cells that run again."""
    page.emulate_media(color_scheme="dark")  # while marimo is light
    page.goto(marimo.url)
    views = page.locator(".tq")
    expect(views).to_have_count(2)
    bare, widget = (Shown(views.nth(number)) for number in range(2))
    paper = bare.root.locator(".tq-main").evaluate("(e) => getComputedStyle(e).backgroundColor")
    assert paper == "rgb(255, 255, 255)"
    run_and_repair(bare)
    widget.expect_states(load="done", clean="done", fit="done", report="done")

    # by keyboard: the focus is kept in a shadow tree, too
    widget.box("load").focus()
    for _ in range(2):
        page.keyboard.press("ArrowRight")
    expect(widget.box("fit")).to_be_focused()
    page.keyboard.press("Enter")
    field = widget.side.get_by_label("Argument degree")
    expect(field).to_have_value("2")
    field.focus()
    page.keyboard.press("Control+a")
    page.keyboard.type("7")
    page.keyboard.press("Enter")
    for view in (bare, widget):
        view.expect_states(fit="failed", report="pending")
    page.keyboard.press("Escape")  # heard only where the focus is still in the details
    expect(widget.side).to_be_hidden()
    expect(widget.box("fit")).to_be_focused()

    for number in (1, 2):
        old = views.nth(number - 1).element_handle()
        page.locator(".marimo-cell").nth(number).locator(".cm-content").click()
        page.keyboard.press("Control+Enter")
        old.wait_for_element_state("hidden")
        expect(views).to_have_count(2)
    for view in (bare, widget):
        view.expect_states(load="done", fit="failed")
    widget.button("Retry all failed").click()
    for view in (bare, widget):
        view.expect_states(load="done", fit="pending")
    assert outside == []
