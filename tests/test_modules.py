"""The front end's modules, linked into texts that a page can import."""

from __future__ import annotations

import re
from importlib.resources import files

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


def test_what_no_page_frees_is_small() -> None:
    """The loader, of which a page keeps a copy for each view, holds nothing of the view itself."""
    loader = linked("loader")
    assert len(loader.encode()) < 2_500
    assert "createElementNS" not in loader


def test_every_part_is_a_module() -> None:
    """What a page may ask for is there."""
    assert set(PARTS) <= set(NAMES)
    assert ".tq" in styles("graph")
