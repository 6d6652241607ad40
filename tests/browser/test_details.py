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
        return ("<style scoped>th { vertical-align: top; }</style>"
            '<table border="1" class="dataframe">'
            "<thead><tr><th></th><th>species</th><th>bill_length_mm</th><th>body_mass_g</th></tr>"
            f"</thead><tbody>{rows}</tbody></table><p>5 rows, 3 columns</p>")

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
  const sideways = body.scrollWidth - body.clientWidth;
  if (sideways > 0) found.push(`the panel scrolls sideways by ${sideways}`);
  const right = body.getBoundingClientRect().right;
  for (const e of side.querySelectorAll('.tq-body *')) {
    const area = e.getBoundingClientRect();
    if (!area.width || e.closest('.tq-code, .tq-pre, .tq-editor, .tq-links, table')) continue;
    if (area.right > right + 0.5) found.push(`${e.className || e.tagName} reaches out`);
  }
  const buttons = [...side.querySelectorAll('button')].filter(b => b.offsetParent);
  for (const b of buttons)
    if (b.scrollWidth > b.clientWidth + 1) found.push(`${b.textContent} is cut`);
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


#: Where the caret's line and column stand on the page, in the field and in the coloured text.
APART: Final = """side => {
  const field = side.querySelector('.tq-source');
  const style = getComputedStyle(field);
  const under = getComputedStyle(side.querySelector('.tq-lines'));
  const first = side.querySelector('.tq-under-row');
  const apart = ['fontFamily', 'fontSize', 'fontWeight', 'lineHeight', 'letterSpacing', 'tabSize',
    'wordSpacing', 'fontVariantLigatures', 'fontFeatureSettings', 'textIndent'].filter(
      name => style[name] !== under[name]);
  const [a, b] = [field.getBoundingClientRect(), first.getBoundingClientRect()];
  const text = { x: a.left + parseFloat(style.paddingLeft) - field.scrollLeft,
                 y: a.top + parseFloat(style.paddingTop) - field.scrollTop };
  const colour = { x: b.left + parseFloat(getComputedStyle(first).paddingLeft), y: b.top };
  for (const axis of ['x', 'y'])
    if (Math.abs(text[axis] - colour[axis]) > 0.5) apart.push(`${axis} ${colour[axis]}`);
  const lines = side.querySelectorAll('.tq-under-row');
  const rows = lines.length;
  const numbers = side.querySelectorAll('.tq-numbers > span');
  if (rows !== numbers.length || rows !== field.value.split('\\n').length) apart.push('lines');
  const [last, row] = [numbers[rows - 1], lines[rows - 1]].map(e => e.getBoundingClientRect().top);
  if (Math.abs(last - row) > 0.5) apart.push('numbers');
  const padding = parseFloat(style.paddingTop) + parseFloat(style.paddingBottom);
  const content = field.scrollHeight - padding;
  if (field.scrollHeight > field.clientHeight && Math.abs(content - rows * 18) > 1)
    apart.push(`height ${content} of ${rows}`);
  return apart;
}"""


def test_the_colours_stay_under_the_text(notebook: MakeNotebook, page: Page, shots: Path) -> None:
    """Typed, scrolled both ways, with characters of all kinds: no line and no column is off."""
    view = shown(notebook)
    view.box("fit").dispatch_event("click")
    source = view.side.get_by_label("Source of the function")
    expect(source).to_be_visible()
    assert view.side.evaluate(APART) == []

    source.click()
    page.keyboard.press("Control+Home")
    page.keyboard.press("Control+a")
    page.keyboard.press("Delete")
    lines = [f"    x{i} = {'é🙂' * (i % 5)}{i}  # {'long ' * (i % 7 * 6)}" for i in range(60)]
    page.keyboard.insert_text("def fit(table):\n" + "\n".join(lines))
    assert view.side.evaluate(APART) == []
    source.evaluate("e => { e.scrollTop = 1e6; e.scrollLeft = 1e6; }")
    view.side.evaluate("() => new Promise(resolve => requestAnimationFrame(() => resolve()))")
    assert source.evaluate("e => e.scrollTop > 100 && e.scrollLeft > 100")
    assert view.side.evaluate(APART) == []
    view.root.screenshot(path=shots / "details-editor-scrolled.png")


def test_keys_of_the_editor_can_be_undone(notebook: MakeNotebook, page: Page) -> None:
    """Pairs close, lines move and are commented, and Ctrl+Z takes back each of them."""
    view = shown(notebook)
    view.box("fit").dispatch_event("click")
    source = view.side.get_by_label("Source of the function")
    press, type_ = page.keyboard.press, page.keyboard.type
    source.click()
    before = source.input_value()
    press("Control+a")
    press("Delete")

    type_("def fit(table")
    expect(source).to_have_value("def fit(table)")
    type_("):")
    press("Enter")
    type_('x = {"a": [1, "b')
    expect(source).to_have_value('def fit(table):\n    x = {"a": [1, "b"]}')
    type_('"]}')
    press("Enter")
    type_("return x")
    whole = 'def fit(table):\n    x = {"a": [1, "b"]}\n    return x'
    expect(source).to_have_value(whole)
    press("Control+/")
    expect(source).to_have_value(whole.replace("return", "# return"))
    press("Control+z")
    expect(source).to_have_value(whole)
    press("Control+End")
    press("Shift+ArrowUp")
    press("Tab")
    expect(source).to_have_value(whole.replace("\n    ", "\n        "))
    press("Shift+Tab")
    expect(source).to_have_value(whole)

    for _ in range(80):
        if source.input_value() == before:
            break
        press("Control+z")
    expect(source).to_have_value(before)
    expect(view.side.locator(".tq-changes")).to_have_count(0)
    expect(view.button("Repair and rerun")).to_be_disabled()


def test_what_is_edited_is_compared_with_what_ran(
    notebook: MakeNotebook, page: Page, shots: Path
) -> None:
    """Below the editor, with signs; after the repair there is nothing to compare."""
    view = shown(notebook)
    view.box("fit").dispatch_event("click")
    expect(view.side.locator(".tq-numbers .tq-failing")).to_have_text("✗ 7")
    source = view.side.get_by_label("Source of the function")

    source.fill(source.input_value().replace("parsed(settings)", "len(settings)"))

    signs = view.side.locator(".tq-changes [data-sign] .tq-sign")
    expect(signs).to_have_text(["\N{MINUS SIGN}", "+"])
    for theme in ("Dark", "Light"):
        view.notebook.theme(f"JupyterLab {theme}")
        view.root.evaluate("e => e.style.setProperty('--tq-height', '1500px')")
        page.set_viewport_size({"width": 1280, "height": 1700})
        view.root.screenshot(path=shots / f"details-changes-{theme.lower()}.png")
    view.button("Repair and rerun").click()
    view.expect_states(fit="done")
    expect(view.side.locator(".tq-changes")).to_have_count(0)
    expect(view.side.locator(".tq-numbers .tq-failing")).to_have_count(0)
