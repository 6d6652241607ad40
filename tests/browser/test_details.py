"""The details of a task in a real browser: tracebacks, pictures, foreign HTML, the editor."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
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
  const under = getComputedStyle(side.querySelector('.tq-coloured'));
  const first = side.querySelector('.tq-behind-row');
  const apart = ['fontFamily', 'fontSize', 'fontWeight', 'lineHeight', 'letterSpacing', 'tabSize',
    'wordSpacing', 'fontVariantLigatures', 'fontFeatureSettings', 'textIndent'].filter(
      name => style[name] !== under[name]);
  const [a, b] = [field.getBoundingClientRect(), first.getBoundingClientRect()];
  const text = { x: a.left + parseFloat(style.paddingLeft) - field.scrollLeft,
                 y: a.top + parseFloat(style.paddingTop) - field.scrollTop };
  const colour = { x: b.left + parseFloat(getComputedStyle(first).paddingLeft), y: b.top };
  for (const axis of ['x', 'y'])
    if (Math.abs(text[axis] - colour[axis]) > 0.5) apart.push(`${axis} ${colour[axis]}`);
  const lines = side.querySelectorAll('.tq-behind-row');
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

    signs = view.side.locator(".tq-changes [data-sign] .tq-mark")
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


def test_arguments_are_edited_by_what_they_are(notebook: MakeNotebook, page: Page) -> None:
    """A list, a number, a box to tick and a text, by keyboard; a refusal stands at its field."""
    view = shown(notebook)
    view.box("plot").dispatch_event("click")
    kind = view.side.get_by_label("Argument kind")
    expect(kind).to_have_value("'line'")
    kind.focus()
    page.keyboard.press("ArrowDown")
    expect(kind).to_have_value("'bar'")
    expect(view.side.get_by_label("Argument alpha")).to_have_attribute("inputmode", "decimal")

    view.box("fit").dispatch_event("click")
    strict = view.side.get_by_label("Argument strict")
    expect(strict).to_be_checked()
    strict.focus()
    page.keyboard.press("Space")
    settings = view.side.get_by_label("Argument settings", exact=True)
    expect(settings).to_have_value('{"degree": 3')
    degrees = view.side.get_by_label("Argument degrees")
    degrees.fill("one")
    settings.focus()
    page.keyboard.press("End")
    page.keyboard.type("}")
    page.keyboard.press("Enter")

    expect(view.side.get_by_role("alert")).to_contain_text("degrees: one is no Python literal")
    expect(degrees).to_be_focused()
    page.keyboard.press("Control+a")
    page.keyboard.type("(1,)")
    expect(view.side.get_by_role("alert")).to_have_count(0)
    page.keyboard.press("Enter")
    view.expect_states(fit="done")
    assert (
        view.notebook.evaluate(
            "fit = next(t for t in queue if t.name == 'fit'); print(fit.value, fit.func_kwargs)"
        )
        == "3 {'settings': '{\"degree\": 3}', 'degrees': (1,), 'strict': False}"
    )


#: A task with texts of every length, and what else stands in the form beside them.
LETTERS: Final = """
from taskqueue_nb import TaskQueue, task

@task
def send(letter, title="Greetings", book="", *, copies=1, to=("you", "me")):
    return letter, title, book

queue = TaskQueue(send("Dear reader,\\n\\n  yours\\n", book="All is well.\\n" * 250))
queue.start().wait()
"""


@pytest.mark.parametrize("theme", ["JupyterLab Light", "JupyterLab Dark"])
def test_texts_keep_their_line_breaks(
    notebook: MakeNotebook, page: Page, shots: Path, theme: str
) -> None:
    """Typed, pasted and untouched, by keyboard; Enter submits from a field of one line."""
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    opened = notebook([LETTERS, "queue"])
    opened.run_cell(0)
    opened.run_cell(1)
    view = View(opened, 1)
    opened.theme(theme)
    short = theme.rpartition(" ")[2].lower()
    view.box("send").dispatch_event("click")
    letter, title, book = (
        view.side.get_by_label(f"Argument {name}", exact=True)
        for name in ("letter", "title", "book")
    )
    expect(letter).to_have_value("Dear reader,\n\n  yours\n")
    expect(book).to_have_value("All is well.\n" * 250)
    view.root.evaluate("e => e.style.setProperty('--tq-height', '900px')")
    page.set_viewport_size({"width": 1280, "height": 1100})
    page.mouse.move(0, 0)
    view.root.screenshot(path=shots / f"details-texts-{short}.png")
    assert view.side.evaluate(CUT) == []

    letter.focus()
    page.keyboard.press("Control+End")
    page.keyboard.type("Bye")
    page.keyboard.press("Enter")  # a line break
    page.evaluate("navigator.clipboard.writeText('Two lines\\nof a title')")
    title.focus()
    page.keyboard.press("Control+a")
    page.keyboard.press("Control+v")
    expect(title).to_have_value("Two lines\nof a title")
    view.root.screenshot(path=shots / f"details-texts-edited-{short}.png")
    assert view.side.evaluate(CUT) == []
    view.side.get_by_label("Argument copies", exact=True).focus()
    page.keyboard.press("Enter")

    expect(view.side.locator(".tq-table tbody tr")).to_have_count(2)
    view.expect_states(send="done")
    said = opened.evaluate("(t,) = queue; t.join(10); print(len(t.attempts), t.value[:2])")
    assert said == "2 ('Dear reader,\\n\\n  yours\\nBye\\n', 'Two lines\\nof a title')"
    assert opened.evaluate("print(t.value[2] == 'All is well.\\n' * 250)") == "True"


def test_a_call_is_copied_as_a_cell(notebook: MakeNotebook, page: Page) -> None:
    """To the clipboard, by keyboard; pasted and run it fails as the task did."""
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    view = shown(notebook)
    view.box("fit").dispatch_event("click")
    copy = view.button("Copy as cell")
    expect(copy).to_have_accessible_description(
        "a cell that makes the last call again; nothing runs"
    )
    copy.focus()
    page.keyboard.press("Enter")
    expect(view.side.get_by_role("status")).to_contain_text("Copied")

    text = page.evaluate("() => navigator.clipboard.readText()")
    assert "def fit" in text
    said = view.notebook.evaluate(text)
    assert "RuntimeError: no settings in" in re.sub(r"\x1b\[[0-9;]*m", "", said)


class Listener:
    """A server of which nothing may be asked; it knows how often it was."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        asked = self.asked

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked.append(self.path)
                self.send_error(404)

            def log_message(self, *args: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def close(self) -> None:
        """End it."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def listener() -> Iterator[Listener]:
    """Listen while a page shows what is hostile."""
    made = Listener()
    yield made
    made.close()


HOSTILE: Final = """
from taskqueue_nb import Task, TaskQueue
from IPython.display import HTML, display
run = "<script>top.hacked=1;parent.hacked=1;window.hacked=1</script>"
handlers = '<img src=x onerror="top.hacked=1"><svg onload="top.hacked=1"></svg>'
evil = f"</iframe></textarea></pre></style>]]>{run}{handlers}\\x1b[31m\\u202egnp"
ask = "".join(
    f'<{tag} {name}="LISTENER/{tag}"></{tag.split()[0]}>' for tag, name in
    [("img", "src"), ("link rel=stylesheet", "href"), ("iframe", "src"), ("object", "data"),
     ("video autoplay", "src"), ("input type=image", "src"), ("body", "background")])
ask += '<style>@import "LISTENER/i";p{background:url(LISTENER/b)}</style>'
ask += '<meta http-equiv="refresh" content="0;url=LISTENER/r"><p>here</p>'
ask += '<a id="go" href="LISTENER/a" style="display:block">go</a>'

class Evil(Exception):
    pass

class Shown:
    def __repr__(self): return evil
    def _repr_html_(self): return f"<p>{evil}</p>{ask}"

class Drawn:
    def _repr_svg_(self):
        return ('<svg xmlns="http://www.w3.org/2000/svg" onload="top.hacked=1" width="60" '
            'height="30"><script>top.hacked=1</script><image href="LISTENER/s"/>'
            '<rect width="60" height="30" fill="teal"/></svg>')

def fail(x=evil, *, y: "Literal['</select><script>x()</script>', 1]" = 1):
    print(evil)
    display(HTML(f"<p>{evil}</p>{ask}"))
    try:
        raise Evil(evil)
    except Evil as error:
        error.add_note(evil)
        raise ExceptionGroup(evil, [Evil(evil)]) from error

queue = TaskQueue(Task(evil, fail), Task("shown", Shown), Task("drawn", Drawn), name=evil)
"""


def test_hostile_values_run_and_ask_nothing(
    notebook: MakeNotebook, page: Page, listener: Listener
) -> None:
    """In names, arguments, results, errors and displays: no script, no request, no way out."""
    hostile = HOSTILE.replace("LISTENER", listener.url)
    opened = notebook([hostile, "queue", "queue.start().wait()"])
    for number in range(3):
        opened.run_cell(number)
    view = View(opened, 1)
    view.root.locator('.node[data-at="0"]').dispatch_event("click")
    expect(view.side.locator(".tq-raised")).to_have_count(3)
    expect(view.side.locator("iframe").content_frame.locator("p").last).to_have_text("here")
    view.root.locator('.node[data-at="1"]').dispatch_event("click")
    inside = view.side.locator('iframe[title="Result as HTML"]')
    go = inside.content_frame.locator("#go")
    expect(go).to_be_visible()
    go.click()
    expect(go).to_be_visible()  # it went nowhere
    view.root.locator('.node[data-at="2"]').dispatch_event("click")
    picture = view.side.get_by_alt_text("Result as a picture")
    expect(picture).to_be_visible()
    assert picture.evaluate("e => e.naturalWidth") == 60

    assert opened.js("return window.hacked ?? 0") == 0
    assert page.evaluate("u => fetch(u, {mode: 'no-cors'}).then(() => 1, () => 0)", listener.url)
    assert listener.asked == ["/"]  # but for our own question, which shows that it hears
    for frame in page.frames[1:]:
        assert frame.url in ("about:srcdoc", "about:blank"), frame.url


@pytest.mark.parametrize("width", [560, 400])
def test_in_a_narrow_cell_everything_is_there(
    notebook: MakeNotebook, page: Page, shots: Path, width: int
) -> None:
    """The details stand under the graph; nothing is cut, nothing wider than the cell."""
    view = shown(notebook)
    view.root.evaluate(f"e => e.parentElement.style.width = '{width}px'")
    page.set_viewport_size({"width": 1280, "height": 1300})
    for name in ("load", "fit"):
        view.box(name).dispatch_event("click")
        expect(view.side.locator(".tq-title")).to_have_text(name)
        expect(view.side.locator(".tq-foreign, .tq-failing").first).to_be_visible()
        assert view.side.evaluate(CUT) == []
        view.root.screenshot(path=shots / f"details-narrow-{name}-{width}.png")
