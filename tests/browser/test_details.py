"""The details of a task in a real browser: tracebacks, pictures, foreign HTML, the editor."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest
from playwright.sync_api import Page, expect

from browser.conftest import MakeNotebook
from browser.graphs_live import View

#: Tasks whose results, failures and arguments are of every kind that the panel shows.
SHOWING: Final = """
import json
from typing import Literal

from IPython.display import HTML, display
from taskqueue_nb import TaskQueue, task

class Frame:
    def __repr__(self):
        return "Frame of 5 rows"
    def _repr_html_(self):
        names = ["Adelie", "Chinstrap", "Gentoo", "Adelie", "Gentoo"]
        rows = "".join(
            f"<tr><th>{i}</th><td>{name}</td><td>{39.1 + i:.1f}</td><td>{3750 + 250 * i}</td></tr>"
            for i, name in enumerate(names))
        return ('<style scoped>th { vertical-align: top; }</style><table border="1" class="dataframe">'
            "<thead><tr><th></th><th>species</th><th>bill_length_mm</th><th>body_mass_g</th></tr>"
            f"</thead><tbody>{rows}</tbody></table><p>5 rows × 3 columns</p>")

@task
def load(path="penguins.csv", *, rows=344, header=True):
    print("read", rows, "rows")
    display(HTML("<b>first</b> look: <i>all there</i>"))
    return Frame()

@task
def plot(table, kind: Literal["line", "bar"] = "line", *, alpha: float = 0.5):
    from matplotlib.figure import Figure
    figure = Figure(figsize=(5, 3))
    figure.subplots().plot([3, 1, 4, 1, 5])
    return figure

def parsed(text):
    # the settings, as they were sent
    settings = json.loads(text)
    return settings["degree"]

@task
def fit(table, settings: str = '{"degree": 3', degrees=(1, 2, 3), *, strict: bool = True):
    \"\"\"Fit a polynomial.\"\"\"
    try:
        degree = parsed(settings)
    except ValueError as error:
        error.add_note("the settings came from the form")
        raise RuntimeError(f"no settings in {settings!r}") from error
    return degree

table = load()
queue = TaskQueue.of(fit(table), plot(table), name="penguins")
"""

#: What of the panel is cut, stands over something else, or is wider than the panel.
CUT: Final = """side => {
  const found = [];
  const body = side.querySelector('.tq-body');
  if (body.scrollWidth > body.clientWidth) found.push(`the panel scrolls sideways by ${body.scrollWidth - body.clientWidth}`);
  const right = body.getBoundingClientRect().right;
  for (const e of side.querySelectorAll('.tq-body *')) {
    const area = e.getBoundingClientRect();
    if (!area.width || e.closest('.tq-code, .tq-pre, .tq-editor, .tq-links, table')) continue;
    if (area.right > right + 0.5) found.push(`${e.className || e.tagName} reaches out of the panel`);
  }
  const buttons = [...side.querySelectorAll('button')].filter(b => b.offsetParent);
  for (const b of buttons) if (b.scrollWidth > b.clientWidth + 1) found.push(`${b.textContent} is cut`);
  return found;
}"""


def shown(notebook: MakeNotebook, *more: str) -> View:
    """Show the queue in cell 1 and run it."""
    opened = notebook([SHOWING, "queue", "queue.start().wait()", *more])
    for number in range(3):
        opened.run_cell(number)
    view = View(opened, 1)
    view.expect_states(load="done", fit="failed", plot="done")
    return view


@pytest.mark.parametrize("theme", ["JupyterLab Light", "JupyterLab Dark"])
def test_everything_is_shown_whole(
    notebook: MakeNotebook, page: Page, shots: Path, theme: str
) -> None:
    """A table, a picture and a failure, in both themes; nothing is cut or wider than the panel."""
    view = shown(notebook)
    view.notebook.theme(theme)
    short = theme.rpartition(" ")[2].lower()
    for name in ("load", "plot", "fit"):
        view.box(name).dispatch_event("click")  # the graph may have been laid out anew
        expect(view.side.locator(".tq-title")).to_have_text(name)
        if name == "load":
            inside = view.side.locator('iframe[title="Result as HTML"]').content_frame
            expect(inside.locator("tbody tr")).to_have_count(5)
        elif name == "plot":
            expect(view.side.get_by_alt_text("Result as a picture")).to_be_visible()
        else:
            expect(view.side.locator(".tq-failing").first).to_be_visible()
        view.root.evaluate("e => e.style.setProperty('--tq-height', '1500px')")
        view.root.evaluate("e => e.scrollIntoView()")
        assert view.side.evaluate(CUT) == []
        page.set_viewport_size({"width": 1280, "height": 1700})
        view.root.screenshot(path=shots / f"details-{name}-{short}.png")


