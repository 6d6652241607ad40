"""What the widgets have in common: what they bring along, and what is left of them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, Final

import pytest
from ipywidgets import HTML, Layout
from ipywidgets.widgets import widget as of_ipywidgets

from taskqueue_nb import Task
from taskqueue_nb.widget import TaskGraph
from taskqueue_nb.widget.machine import TaskMachine
from taskqueue_nb.widget.modules import linked
from taskqueue_nb.widget.view import View

MAKERS: Final[dict[str, Callable[..., View]]] = {
    "graph": lambda **options: TaskGraph([Task(f"load {i}", list) for i in range(60)], **options),
    "machine": lambda **options: TaskMachine(Task("load", list), **options),
}


@pytest.fixture(params=MAKERS)
def make(request: pytest.FixtureRequest) -> Callable[..., View]:
    """Return what makes a widget."""
    return MAKERS[request.param]


@pytest.mark.parametrize("core", MAKERS)
def test_a_view_brings_a_loader_and_its_core(core: str) -> None:
    """Both are in the first state: no page has to ask for what it draws with."""
    view = MAKERS[core]()
    state: dict[str, Any] = view.get_state()

    assert state["_esm"] == linked("loader")
    assert state["core"] == linked(core)
    view.close()


def test_the_loader_empties_all_that_is_large(make: Callable[..., View]) -> None:
    """JupyterLab keeps the model of a closed view: what that was told is small, or let go."""
    listed = re.search(r"LARGE = (\[.*?\]);", linked("loader"), flags=re.DOTALL)
    assert listed is not None
    names = set(json.loads(listed[1]))
    view = make()
    state = view.get_state()

    large = {name for name, value in state.items() if len(json.dumps(value, default=str)) > 2_000}

    assert large - names == {"_esm"}  # the module that the page keeps anyhow
    assert names <= {name for kind in (TaskGraph, TaskMachine) for name in kind.class_traits()} | {
        "_css"
    }
    view.close()


def test_a_closed_view_leaves_no_channel(make: Callable[..., View]) -> None:
    """Neither its own nor that of its layout, however often it is closed."""
    before = set(of_ipywidgets._instances)
    views = [make(), make(layout={"width": "50%"})]
    assert len(of_ipywidgets._instances) == len(before) + 4

    for view in (*views, *views):
        view.close()

    assert set(of_ipywidgets._instances) == before


def test_the_layout_of_somebody_else_stays(make: Callable[..., View]) -> None:
    """One that was given to the view, and one that another widget took over from it."""
    given = Layout(width="50%")
    one, two = make(layout=given), make()
    other = HTML(layout=two.layout)

    one.close()
    two.close()

    assert given.comm is not None
    assert other.layout.comm is not None
    for widget in (given, other.layout, other):
        widget.close()
