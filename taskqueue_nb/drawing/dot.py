"""What `as_dot`, `as_svg`, `fsm_dot` and `fsm_svg` return, and the one drawing that a queue has."""

from __future__ import annotations

import threading
import weakref
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import graphviz

from taskqueue_nb.drawing.engine import NoEngine
from taskqueue_nb.drawing.fold import NO_WISH, Wish, folded
from taskqueue_nb.drawing.picture import (
    MARGIN,
    SIZE,
    SMALL,
    Drawing,
    draw,
    look_of,
    most_urgent,
    picture,
)
from taskqueue_nb.drawing.words import attribute, clean, error_name, name_of, quoted, width, xml
from taskqueue_nb.graph import closure
from taskqueue_nb.palette import GROUND, Look, look

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

MAX_NODES: Final = 200
LISTED: Final = 40  # rows of the list that stands where no engine is
_STATES: Final = 200  # of a machine
_INCH: Final = 72.0


# -- one drawing per queue ---------------------------------------------------------------------

_KEPT: weakref.WeakKeyDictionary[Any, dict[int, tuple[Any, Drawing]]] = weakref.WeakKeyDictionary()
_KEPT_LOCK: Final = threading.Lock()


def drawing_of(tasks: Any, max_nodes: int = MAX_NODES, wish: Wish = NO_WISH) -> Drawing:
    """Return the drawing of a queue, laid out once for each of its structures; or of some tasks.

    A drawing with folded boxes is laid out again when a task that failed or runs is folded away.

    Parameters
    ----------
    tasks : TaskQueue or iterable of Task
        What to draw.
    max_nodes : int
        The largest number of boxes.
    wish : Wish
        What is to be seen before all else. A drawing that is folded for its sake is not kept: it is
        a second one beside the queue's own.

    Raises
    ------
    NoEngine
        If nothing on this machine can lay it out.
    """
    structure = attribute(tasks, "structure")
    if not isinstance(structure, int):
        return draw(tasks, max_nodes, wish=wish)
    with _KEPT_LOCK:
        known = _KEPT.setdefault(tasks, {}).get(max_nodes)
    keep: frozenset[Any] = frozenset()
    if known is not None and known[0] == structure:
        grants = known[1].own.issuperset(wish.first) and not (wish.opened or wish.shut)
        if grants and not known[1].outdated():
            return known[1]
        keep = known[1].own
    drawing = draw(tasks.tasks, max_nodes, keep, wish)
    if wish != NO_WISH and drawing.is_folded:
        return drawing
    with _KEPT_LOCK:
        _KEPT.setdefault(tasks, {})[max_nodes] = (structure, drawing)
    return drawing


def forget_drawing(queue: Any) -> None:
    """Have the next drawing of a queue folded by what fails and runs then, not by what once did."""
    with _KEPT_LOCK:
        _KEPT.pop(queue, None)


# -- tasks -------------------------------------------------------------------------------------


def tasks_as_dot(
    tasks: Iterable[Any],
    name: str | None = None,
    *,
    follow_blocking: bool = False,
    sep: str | None = None,
    max_nodes: int = MAX_NODES,
) -> str:
    """Return tasks as DOT, each with its state's word and colours.

    Parameters
    ----------
    tasks : TaskQueue or iterable of Task
        What to draw.
    name : str, optional
        The name of the graph.
    follow_blocking : bool
        Whether the tasks that require these, and so on, are drawn too.
    sep : str, optional
        What stands between two statements, by default a line break.
    max_nodes : int
        The largest number of boxes; more tasks are folded into groups.
    """
    chosen = _chosen(tasks, follow_blocking=follow_blocking)
    folding = folded(chosen, max_nodes)
    dot = graphviz.Digraph(
        None if name is None else quoted(clean(name)),
        graph_attr={"rankdir": "LR"},
        node_attr={"shape": "box", "style": "rounded,filled", "fontname": "Arial"},
    )
    groups: dict[str | None, list[int]] = {}
    for i, fold in enumerate(folding.folds):
        groups.setdefault(fold.group, []).append(i)
    for number, (group, members) in enumerate(groups.items()):
        if group is None or len(members) == 1:
            for i in members:
                _state_node(dot, i, folding.folds[i])
        else:
            with dot.subgraph(name=f"cluster_g{number}") as frame:
                frame.attr(label=quoted(group), style="rounded", fontname="Arial")
                for i in members:
                    _state_node(frame, i, folding.folds[i])
    for start, end in folding.edges:
        dot.edge(f"t{start}", f"t{end}", id=f"e{start}-{end}")
    return _joined(dot.source, sep)


def _chosen(tasks: Iterable[Any], *, follow_blocking: bool) -> tuple[Any, ...]:
    found = tuple(attribute(tasks, "tasks", None) or tasks)
    return tuple(closure(found, lambda task: task.blocking)) if follow_blocking else found


def _state_node(dot: Any, i: int, fold: Any) -> None:
    if fold.key is None:
        task = fold.tasks[0]
        shown, label, more = look_of(task), name_of(task), ""
        if shown.state == "FAILED" and (error := attribute(task, "exception")) is not None:
            more = f": {error_name(error)}"
    else:
        shown = look(most_urgent({attribute(task, "fsm_state") for task in fold.tasks}))
        label, more = fold.label, ""
    fill, line, ink = shown.light
    text = rf"{quoted(label)}\n{shown.glyph} {quoted(shown.word + more)}"
    dot.node(
        f"t{i}",
        id=f"t{i}",
        label=graphviz.nohtml(text),
        fillcolor=fill,
        color=line,
        fontcolor=ink,
        style=_DASHED if shown.dash else None,
    )


_DASHED: Final = "rounded,filled,dashed"


def _joined(source: str, sep: str | None) -> str:
    """Put something else between the statements; a brace is none."""
    rows = source.rstrip("\n").split("\n")
    if sep is None or not rows:
        return source
    joined = rows[0]
    for before, after in pairwise(rows):
        bare = before.endswith("{") or after.strip() == "}" or before.strip() == "}"
        joined += ("\n" if bare else sep) + after
    return joined


def tasks_as_svg(
    tasks: Iterable[Any],
    name: str | None = None,
    *,
    follow_blocking: bool = False,
    sep: str | None = None,  # noqa: ARG001 - so that the options of `tasks_as_dot` will do
    max_nodes: int = MAX_NODES,
) -> str:
    """Return a picture of tasks with their states, as SVG that is safe anywhere.

    The parameters are those of `tasks_as_dot`. Without a layout engine it is a list of the tasks,
    with the sentence that says what to install.
    """
    chosen = _chosen(tasks, follow_blocking=True) if follow_blocking else tasks
    chosen = chosen if isinstance(attribute(chosen, "structure"), int) else tuple(chosen)
    try:
        return drawing_of(chosen, max_nodes).stamp(name)
    except NoEngine as problem:
        some = _chosen(chosen, follow_blocking=False)[: LISTED + 1]
        rows = [(look(attribute(task, "fsm_state")), name_of(task)) for task in some]
        return listed(rows, problem.sentence)


def listed(rows: Sequence[tuple[Look, str]], sentence: str) -> str:
    """Return a list in the place of a picture."""
    more = len(rows) > LISTED
    ink, soft = GROUND["light"].ink, GROUND["light"].soft
    texts = [(f"{shown.glyph} {shown.word}", name, ink, SIZE) for shown, name in rows[:LISTED]]
    texts += [("", "and more", soft, SIZE)] if more else []
    texts += [("", part, soft, SMALL) for part in _sentences(sentence)]
    column = max(100.0, *(width(state, SIZE) + 10 for state, *_ in texts))
    wide = max(width(text, size) + (column if state else 0) for state, text, _, size in texts)
    body = "".join(
        f'<text class="{"ink" if colour == ink else "soft"}" y="{MARGIN + 14 + 19 * i:.0f}" '
        f'font-size="{size:g}" fill="{colour}"><tspan x="{MARGIN:.0f}">{xml(state)}</tspan>'
        f'<tspan x="{MARGIN + (column if state else 0):.0f}">{xml(text)}</tspan></text>'
        for i, (state, text, colour, size) in enumerate(texts)
    )
    size = (wide + 2 * MARGIN, 19.0 * len(texts) + 2 * MARGIN)
    return picture(size, [body], paper=True, said="Tasks, without a picture of their graph")


def _sentences(text: str, longest: int = 110) -> list[str]:
    rows = [""]
    for word in text.split():
        if len(rows[-1]) + len(word) >= longest and rows[-1]:
            rows.append("")
        rows[-1] = f"{rows[-1]} {word}".strip()
    return rows
