"""Tasks → DOT → an engine → one safe SVG per structure → the same SVG stamped with states.

Nothing here takes the lock of the graph, fires an event, runs a task or waits for one: states and
requirements are read as they are, and a drawing that a change overtakes is drawn anew by the next
look at it.
"""

from __future__ import annotations

from taskqueue_nb.drawing.dot import (
    MAX_NODES,
    drawing_of,
    forget_drawing,
    tasks_as_dot,
    tasks_as_svg,
)
from taskqueue_nb.drawing.engine import NoEngine
from taskqueue_nb.drawing.fold import NO_WISH, Wish
from taskqueue_nb.drawing.machine import (
    Diagram,
    Path,
    diagram_of,
    machine_as_dot,
    machine_as_svg,
    path_of,
    signed,
    states_of,
    times,
    traced_as_svg,
)
from taskqueue_nb.drawing.picture import Box, Drawing, draw, letters, look_of, summary
from taskqueue_nb.drawing.plans import draw_plan, plan_as_svg
from taskqueue_nb.drawing.words import clean, error_name, name_of, xml

__all__ = [
    "MAX_NODES",
    "NO_WISH",
    "Box",
    "Diagram",
    "Drawing",
    "NoEngine",
    "Path",
    "Wish",
    "clean",
    "diagram_of",
    "draw",
    "draw_plan",
    "drawing_of",
    "error_name",
    "forget_drawing",
    "letters",
    "look_of",
    "machine_as_dot",
    "machine_as_svg",
    "name_of",
    "path_of",
    "plan_as_svg",
    "signed",
    "stamp",
    "states_of",
    "summary",
    "tasks_as_dot",
    "tasks_as_svg",
    "times",
    "traced_as_svg",
    "xml",
]


def stamp(drawing: Drawing) -> str:
    """Return a drawing's picture with the states as they are now, without a new layout."""
    return drawing.stamp()
