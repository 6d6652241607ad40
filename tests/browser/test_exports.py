"""The exported page in a browser: from a file, without a kernel, a network, or a complaint."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from taskqueue_nb import Task, TaskQueue
from test_text import HOSTILE, named

Opened = Callable[..., Page]

SCHEMES: Final = ("light", "dark")


def load(city: str) -> list[int]:
    """Return readings."""
    print(f"reading {city}")
    return {"Oslo": [3, 5], "Rome": [17, 0, 19]}[city]


def mean(values: list[int], *, missing: str = "keep") -> float:
    """Fail where a reading is missing."""
    if 0 in values and missing == "keep":
        raise ValueError("a reading is missing")
    return sum(values) / len(values)


def temperatures() -> TaskQueue:
    """Return a queue of six tasks that ran: one failed, one is blocked."""
    loads = [Task(f"load {city}", load, func_args=(city,)) for city in ("Oslo", "Rome")]
    means = [Task(f"mean of {task.name[5:]}", mean, func_args=(task,)) for task in loads]
    report = Task("report", list, func_args=(means,))
    queue = TaskQueue(*loads, *means, report, name="Temperatures")
    list(queue.run())
    return queue


@pytest.fixture
def opened(browser: Browser, tmp_path: Path) -> Iterator[Opened]:
    """Open queues as pages from files; a complaint, or a request for anything else, is an error."""
    wrong: list[str] = []
    contexts: list[BrowserContext] = []

    def open_(queue: TaskQueue, **options: Any) -> Page:
        path = queue.to_html(tmp_path / f"page {len(contexts)}.html", seconds=120)
        context = browser.new_context(
            viewport=options.pop("viewport", {"width": 1280, "height": 800}),
            reduced_motion="reduce",
            **options,
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(15_000)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda said: wrong.append(said.text))
        page.on("dialog", lambda dialog: wrong.append(f"a dialog: {dialog.message}"))
        page.on(
            "request",
            lambda asked: wrong.append(asked.url) if asked.url != path.as_uri() else None,
        )
        page.goto(path.as_uri())
        return page

    yield open_
    for context in contexts:
        context.close()
    assert wrong == []


def scale_of(page: Page) -> float:
    """Return how large the graph is drawn."""
    found: float = page.evaluate(
        "() => document.querySelector('.tq-pane .node').closest('svg').firstElementChild.getCTM().a"
    )
    return found


def node(page: Page, name: str) -> Any:
    """Return the box of a task."""
    return page.locator(f'.tq-pane .node[aria-label^="{name}:"]')


def test_a_click_on_a_failed_box_shows_its_traceback(opened: Opened) -> None:
    """The graph has the states at the end; a click shows all that is known, and no dead button."""
    page = opened(temperatures())

    expect(page).to_have_title("Temperatures")
    expect(page.locator(".tq-pane .node")).to_have_count(5)
    expect(node(page, "mean of Rome")).to_have_attribute("data-state", "failed")
    expect(page.locator("#tq-still")).to_be_hidden()
    node(page, "mean of Rome").click()
    side = page.locator(".tq-side")
    expect(side).to_contain_text("a reading is missing")
    expect(side).to_contain_text("in mean")
    expect(side).to_contain_text("Required by")
    expect(page.locator("[data-verb], [role=toolbar], [aria-disabled=true]")).to_have_count(0)
    expect(page.get_by_text("a record without a kernel")).to_be_visible()
    side.get_by_role("button", name="Go to load Rome: done").first.click()
    expect(page.locator(".tq-title")).to_have_text("load Rome")
    expect(side).to_contain_text("reading Rome")
    expect(side).to_contain_text("[17, 0, 19]")


def test_the_keyboard_alone_will_do(opened: Opened) -> None:
    """Arrow keys move, Enter selects, + and 0 zoom, n goes to what failed, Escape leaves."""
    page = opened(temperatures())
    node(page, "load Oslo").focus()
    before = scale_of(page)

    page.keyboard.press("+")
    assert scale_of(page) > before * 1.2
    page.keyboard.press("0")
    assert scale_of(page) == pytest.approx(before)
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    expect(page.locator(".tq-title")).to_have_text("mean of Oslo")
    page.keyboard.press("n")
    expect(page.locator(".tq-title")).to_have_text("mean of Rome")
    page.keyboard.press("Escape")
    expect(page.locator(".tq-side")).to_be_hidden()


def test_wheel_and_drag_move_the_graph(opened: Opened) -> None:
    """Pan and zoom are those of the live view."""
    page = opened(temperatures())
    before = scale_of(page)
    box = node(page, "report").bounding_box()
    page.mouse.move(640, 700)

    page.keyboard.down("Control")
    page.mouse.wheel(0, -300)
    page.keyboard.up("Control")
    assert scale_of(page) > before
    page.get_by_role("button", name="Fit the graph").click()
    page.mouse.move(640, 700)
    page.mouse.down()
    page.mouse.move(600, 650, steps=4)
    page.mouse.up()
    moved = node(page, "report").bounding_box()

    assert (moved["x"] - box["x"], moved["y"] - box["y"]) == pytest.approx((-40, -50), abs=2)


def test_the_slider_rewinds_the_picture(opened: Opened) -> None:
    """The history is that of the live view: the graph as it was at any moment, and back."""
    page = opened(temperatures())
    page.get_by_role("button", name="History").click()
    slider = page.get_by_role("slider", name="Moment")
    expect(page.locator(".tq-moment")).to_have_text("As saved: 8 transitions")

    slider.fill("1")
    expect(page.locator('.tq-pane .node[data-state="running"]')).to_have_count(1)
    expect(page.locator('.tq-pane .node[data-state="pending"]')).to_have_count(4)
    expect(page.locator(".tq-past")).to_contain_text("1 of 8 transitions")
    page.locator(".tq-past").get_by_role("button", name="As saved").click()
    expect(node(page, "mean of Rome")).to_have_attribute("data-state", "failed")
    expect(page.locator(".tq-past")).to_be_hidden()


def test_the_timeline_has_the_attempts(opened: Opened) -> None:
    """A bar for each attempt, and nothing that follows a present."""
    page = opened(temperatures())
    page.get_by_role("button", name="Timeline").click()

    expect(page.locator(".tq-canvas")).to_be_visible()
    page.get_by_role("button", name="List").click()
    expect(page.locator(".tq-attempts")).to_contain_text("mean of Rome")
    expect(page.get_by_role("button", name="Follow now")).to_have_count(0)


def test_tasks_are_found_by_their_names(opened: Opened) -> None:
    """Also those that stand in no box of their own: ten thousand tasks are all there."""
    queue = TaskQueue(*(Task(f"part {i}", print) for i in range(10_000)), name="parts")
    page = opened(queue)

    page.get_by_role("combobox").fill("part 9999")
    page.keyboard.press("Enter")

    expect(page.locator(".tq-title")).to_have_text("part 9999")
    expect(page.locator(".tq-side")).to_contain_text("Ready to run.")


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_theme_is_the_readers_and_can_be_changed(opened: Opened, scheme: str) -> None:
    """It begins as the system is, and a button changes it."""
    page = opened(temperatures(), color_scheme=scheme)
    ground = "() => getComputedStyle(document.body).backgroundColor"
    grounds = {"light": "rgb(255, 255, 255)", "dark": "rgb(21, 24, 28)"}
    other = "dark" if scheme == "light" else "light"

    assert page.evaluate(ground) == grounds[scheme]
    page.get_by_role("button", name=other.capitalize(), exact=True).click()
    assert page.evaluate(ground) == grounds[other]
    fills = {"light": "rgb(176, 38, 26)", "dark": "rgb(255, 128, 96)"}
    expect(node(page, "mean of Rome").locator("rect")).to_have_css("fill", fills[other])


def test_without_scripts_the_picture_stands(opened: Opened) -> None:
    """Where no script runs there are the picture with the states at the end, and a table."""
    page = opened(temperatures(), java_script_enabled=False)

    picture = page.locator("#tq-still svg")
    expect(picture).to_be_visible()
    expect(picture.locator('[data-state="failed"]')).to_have_count(1)
    expect(page.locator("#tq-still table")).to_contain_text("a reading is missing")
    expect(page.get_by_text("a record without a kernel")).to_be_visible()


def test_on_paper_there_is_the_whole_picture(opened: Opened) -> None:
    """Printing shows picture and table, and the details that are open."""
    page = opened(temperatures())
    node(page, "mean of Rome").click()

    page.emulate_media(media="print")

    expect(page.locator("#tq-still svg")).to_be_visible()
    expect(page.locator(".tq-side")).to_be_visible()
    expect(page.locator(".tq-pane")).to_be_hidden()
    expect(page.locator("#tq-tools")).to_be_hidden()


@pytest.mark.parametrize("width", [1280, 480])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_it_looks_right(opened: Opened, shots: Path, scheme: str, width: int) -> None:
    """Nothing stands out of the window; there is a picture of it to look at."""
    page = opened(temperatures(), color_scheme=scheme, viewport={"width": width, "height": 800})
    node(page, "mean of Rome").click()
    page.get_by_role("button", name="Fit the graph to the pane").click()
    page.screenshot(path=shots / f"export-{scheme}-{width}.png", full_page=True)

    assert page.evaluate("() => document.documentElement.scrollWidth") <= width


def test_hostile_texts_do_nothing(opened: Opened) -> None:
    """Sixty-three texts as names, errors, arguments and output: none runs, none is an element."""
    tasks = [task for text in HOSTILE for task in named(text).tasks]
    said = [Task(text, lambda text=text: print(text) or text) for text in HOSTILE]
    for task in said:
        task.dispatch()
    page = opened(TaskQueue(*tasks, *said, name=HOSTILE[24]))

    expect(page).to_have_title(HOSTILE[24])
    expect(page.locator("img, a, iframe, object, embed, link")).to_have_count(0)
    boxes = page.locator(".tq-pane .node")
    for i in range(0, boxes.count(), 3):
        boxes.nth(i).dispatch_event("click")
        expect(page.locator(".tq-side")).to_be_visible()
        expect(page.locator("img, a, iframe, object, embed, link, script")).to_have_count(2)
    assert page.evaluate("() => document.querySelectorAll('style').length") == 1
