"""The front end's modules, linked into texts that a page can import."""

from __future__ import annotations

import re
from importlib.resources import files
from itertools import product

import pytest

from taskqueue_nb.widget.modules import PARTS, linked, styles

STATIC = files("taskqueue_nb") / "static"
NAMES = sorted(
    entry.name.removesuffix(".js") for entry in STATIC.iterdir() if entry.name.endswith(".js")
)


@pytest.mark.parametrize("name", NAMES)
def test_a_linked_text_stands_alone(name: str) -> None:
    """No other file is asked for, and no name is given twice."""
    text = linked(name)
    assert not re.search(r'^(?:import|export) .*\bfrom "', text, flags=re.MULTILINE)
    names = re.findall(
        r"^(?:export )?(?:async )?(?:function|const|let|class) (\w+)", text, flags=re.MULTILINE
    )
    assert len(names) == len(set(names))


@pytest.mark.parametrize("name", ["graph", "machine"])
def test_what_the_first_picture_needs_is_small(name: str) -> None:
    """A core stays below 60 kB; parts come when they are wanted."""
    assert len(linked(name).encode()) < 60_000


def _plain_rules(name: str) -> dict[str, set[str]]:
    """Return what a style sheet sets for each class by rules as weak as that of `.tq .tq-input`."""
    text = re.sub(r"/\*.*?\*/", "", (STATIC / f"{name}.css").read_text("utf-8"), flags=re.DOTALL)
    found: dict[str, set[str]] = {}
    for selectors, body in re.findall(r"([^{}]+)\{([^{}]*)\}", text):
        for selector in selectors.split(","):
            if match := re.fullmatch(r"\.tq \.(tq-[\w-]+)", selector.strip()):
                properties = {part.split(":")[0].strip() for part in body.split(";") if ":" in part}
                found.setdefault(match[1], set()).update(properties)
    return found


@pytest.mark.parametrize("name", ["details", "record", "machine"])
def test_no_style_depends_on_which_view_came_first(name: str) -> None:
    """Each kind of view brings `graph.css` once more, which must not undo the rules of another."""
    base, own = _plain_rules("graph"), _plain_rules(name)
    undone = {}

    for module in NAMES:
        for line in (STATIC / f"{module}.js").read_text("utf-8").splitlines():
            for text in re.findall(r'"(tq-[\w-]+(?: tq-[\w-]+)*)"', line):
                classes = {*text.split(), *(["tq-button"] if "button(" in line else [])}
                for general, special in product(classes & base.keys(), classes & own.keys()):
                    if general != special and (shared := base[general] & own[special]):
                        undone[general, special] = shared

    assert undone == {}


def test_what_no_page_frees_is_small() -> None:
    """The loader, of which a page keeps a copy for each view, holds nothing of the view itself."""
    loader = linked("loader")
    assert len(loader.encode()) < 2_500
    assert "createElementNS" not in loader


def test_every_part_is_a_module() -> None:
    """What a page may ask for is there."""
    assert set(PARTS) <= set(NAMES)
    assert ".tq" in styles("graph")
