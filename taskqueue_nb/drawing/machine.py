"""State diagrams: a machine's table is laid out once, and stamped with where the machine stands."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import graphviz

from taskqueue_nb.drawing.dot import listed
from taskqueue_nb.drawing.engine import NoEngine
from taskqueue_nb.drawing.picture import MARGIN, SIZE, SMALL, Curve, curve_svg, laid_out, picture
from taskqueue_nb.drawing.words import attribute, clean, quoted, width, xml
from taskqueue_nb.palette import GROUND, PALETTE, look

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_STATES: Final = 200  # of a machine
_STATE: Final = 40  # characters of a state's or an event's name
_LABEL: Final = 60  # characters of the events on one way
_INCH: Final = 72.0
_ROW: Final = 11.5  # px from a line of small text to the next
_SLACK: Final = 6.0  # px beside an event's name

#: How the engine is asked: from left to right for a picture alone, downwards for a page, which is
#: narrow.
_WAYS: Final[Mapping[str, Mapping[str, str]]] = {
    "LR": {"rankdir": "LR", "nodesep": "0.3", "ranksep": "0.4", "pad": "0"},
    "TB": {"rankdir": "TB", "nodesep": "0.1", "ranksep": "0.3", "pad": "0"},
}


class Path(NamedTuple):
    """Where a machine stands, and how it came there; states by their places in the table.

    Attributes
    ----------
    current : int or None
        The state.
    taken : mapping
        From state to state → how often that way was taken.
    last : tuple of int or None
        The way that was taken last.
    """

    current: int | None
    taken: Mapping[tuple[int, int], int]
    last: tuple[int, int] | None


class Way(NamedTuple):
    """All events that lead from one state to another."""

    start: int
    end: int
    says: str
    curve: Curve


class Diagram(NamedTuple):
    """A table that is laid out.

    Attributes
    ----------
    size : tuple of float
        In px.
    states : tuple of str
        Their names, cleaned.
    boxes : tuple
        Of each state, left, top, width and height.
    ways : tuple of Way
        The lines between them.
    """

    size: tuple[float, float]
    states: tuple[str, ...]
    boxes: tuple[tuple[float, float, float, float], ...]
    ways: tuple[Way, ...]


def states_of(fsm: Any) -> list[str]:
    """Return the states of a machine's table, in its order, as they are."""
    table: Mapping[str, Mapping[str, str]] = fsm.FSM_TRANSITIONS
    reached = [state for events in table.values() for state in events.values()]
    return list(dict.fromkeys([*table, *reached]))[:_STATES]


def path_of(fsm: Any, steps: Iterable[Any]) -> Path:
    """Return where a machine stands, and the ways that its steps took.

    Parameters
    ----------
    fsm : FSM
        The machine.
    steps : iterable of FSMTransitionEvent
        Oldest first.
    """
    at = {state: i for i, state in enumerate(states_of(fsm))}
    taken: Counter[tuple[int, int]] = Counter()
    last = None
    for step in steps:
        way = (at.get(step.old_state, -1), at.get(step.new_state, -1))
        if min(way) >= 0:
            taken[way] += 1
            last = way
    return Path(at.get(attribute(fsm, "fsm_state")), taken, last)


def _machine(fsm: Any) -> tuple[list[str], dict[tuple[int, int], str], Any]:
    """Return a machine's states, the events from state to state, and where it stands."""
    states = states_of(fsm)
    at = {state: i for i, state in enumerate(states)}
    events: dict[tuple[int, int], list[str]] = {}
    for state, moves in fsm.FSM_TRANSITIONS.items():
        for event, new in moves.items():
            if state in at and new in at:
                events.setdefault((at[state], at[new]), []).append(clean(event, _STATE))
    labels = {pair: clean(", ".join(names), _LABEL) for pair, names in events.items()}
    return [clean(state, _STATE) for state in states], labels, at.get(attribute(fsm, "fsm_state"))


def machine_as_dot(fsm: Any) -> str:
    """Return the state diagram of a machine as DOT, with the present state lit."""
    states, events, current = _machine(fsm)
    dot = graphviz.Digraph(
        graph_attr={"rankdir": "LR"},
        node_attr={"shape": "box", "style": "rounded,filled", "fontname": "Arial"},
        edge_attr={"fontname": "Arial", "fontsize": "11"},
    )
    for i, state in enumerate(states):
        fill, line, ink = _machine_colours(state, lit=i == current)
        dot.node(
            f"s{i}",
            id=f"s{i}",
            label=graphviz.nohtml(quoted(state)),
            fillcolor=fill,
            color=line,
            fontcolor=ink,
            penwidth="3" if i == current else "1",
        )
    for (start, end), label in events.items():
        dot.edge(f"s{start}", f"s{end}", id=f"e{start}-{end}", label=graphviz.nohtml(quoted(label)))
    return str(dot.source)


def _machine_colours(state: str, *, lit: bool) -> tuple[str, str, str]:
    ground = GROUND["light"]
    return tuple(look(state).light) if lit else (ground.paper, ground.soft, ground.ink)  # type: ignore[return-value]  # three texts


def times(count: int) -> str:
    """Return how often something was, as it stands behind it."""
    return f"\N{MULTIPLICATION SIGN}{count}"


def signed(state: str) -> str:
    """Return a state's name with its glyph, if it has one of its own."""
    return f"{PALETTE[state].glyph} {state}" if state in PALETTE else state


def diagram_of(fsm: Any, way: str = "TB", *, traced: bool = True) -> Diagram:
    """Return the diagram of a machine's table; the same table is laid out once.

    Parameters
    ----------
    fsm : FSM
        The machine.
    way : str
        "TB", downwards, or "LR".
    traced : bool
        Whether there is to be room for glyphs, and for how often a way was taken.

    Raises
    ------
    NoEngine
        If nothing on this machine can lay it out.
    """
    states, events, _ = _machine(fsm)
    shown = [signed(state) for state in states] if traced else states
    rooms = [max(64.0, width(state, SIZE) + 24.0) for state in shown]
    dot = graphviz.Digraph(
        graph_attr=dict(_WAYS[way]),
        node_attr={"shape": "box", "fixedsize": "true", "label": "", "height": "0.45"},
        edge_attr={"fontname": "Arial", "fontsize": "12", "arrowsize": "0.7"},
    )
    for i, room in enumerate(rooms):
        dot.node(f"s{i}", id=f"s{i}", width=f"{room / _INCH:.3f}")
    for (start, end), label in events.items():
        wide = width(label, SMALL) + (_SLACK if traced else 0.0)
        filler = "x" * max(1, round(wide / 6.0))
        dot.edge(f"s{start}", f"s{end}", id=f"e{start}-{end}", label=filler)
    layout = laid_out(str(dot.source), [f"s{i}" for i in range(len(states))])
    ways = [
        Way(start, end, label, layout.edges[f"e{start}-{end}"])
        for (start, end), label in events.items()
    ]
    boxes = [layout.nodes[f"s{i}"] for i in range(len(states))]
    size = (layout.size[0] + 2 * MARGIN, layout.size[1] + 2 * MARGIN)
    places = tuple((box.x, box.y, box.width, box.height) for box in boxes)
    return Diagram(size, tuple(states), places, tuple(ways))


def machine_as_svg(fsm: Any) -> str:
    """Return the state diagram of a machine as SVG, with the present state lit."""
    states, events, current = _machine(fsm)
    try:
        diagram = diagram_of(fsm, "LR", traced=False)
    except NoEngine as problem:
        return _listed_machine(states, events, current, problem.sentence)
    return _stamped(diagram, Path(current, {}, None), traced=False)


def traced_as_svg(fsm: Any, steps: Iterable[Any]) -> str:
    """Return the state diagram with the present state lit and the way there marked, as SVG.

    Parameters
    ----------
    fsm : FSM
        The machine.
    steps : iterable of FSMTransitionEvent
        Oldest first.
    """
    path = path_of(fsm, steps)
    try:
        diagram = diagram_of(fsm)
    except NoEngine as problem:
        states, events, current = _machine(fsm)
        return _listed_machine(states, events, current, problem.sentence)
    return _stamped(diagram, path, traced=True)


def _stamped(diagram: Diagram, path: Path, *, traced: bool) -> str:
    states = diagram.states
    here = None if path.current is None else states[path.current]
    said = "State diagram" if here is None else f"State diagram, now {here}"
    ink = GROUND["light"].ink
    # what was taken last is drawn above the rest, and the boxes above the lines
    ways = sorted(diagram.ways, key=lambda way: (way[:2] in path.taken, way[:2] == path.last))
    parts = []
    for way in ways:
        pair = (way.start, way.end)
        count = path.taken.get(pair, 0)
        text = _way_text(way, count)
        line = curve_svg(way.curve)
        if count:
            broad = "3.6" if pair == path.last else "2.4"
            line = line.replace('stroke-width="1.2"', f'stroke-width="{broad}"')
        parts.append(f'<g id="e{way.start}-{way.end}" class="edge">{line}{text}</g>')
    for i, state in enumerate(states):
        x, y, w, h = diagram.boxes[i]
        lit = i == path.current
        fill, line, text_colour = _machine_colours(state, lit=lit)
        mark = f' data-state="{look(state).mark}" fill="{text_colour}"' if lit else ""
        shape = (
            f'rx="{h / 2:.1f}" fill="{fill}" stroke="{line}" stroke-width="{2.6 if lit else 1.2}"'
        )
        kind = "box" if lit else "paper"
        tone = "label" if lit else "ink"
        name = signed(state) if traced else state
        parts.append(
            f'<g id="s{i}" class="node"{mark}><rect class="{kind}" x="{x:.1f}" y="{y:.1f}" '
            f'width="{w:.1f}" height="{h:.1f}" {shape}/><text class="{tone}" x="{x + w / 2:.1f}" '
            f'y="{y + h / 2 + 4.5:.1f}" text-anchor="middle" fill="{text_colour if lit else ink}">'
            f"{xml(name)}</text></g>"
        )
    return picture(diagram.size, parts, paper=True, said=said)


def _way_text(way: Way, count: int) -> str:
    """Return the events on a way, and below them how often it was taken."""
    if way.curve.label is None:
        return ""
    x, y = way.curve.label
    ground = GROUND["light"]
    tone, colour, bold = ("soft", ground.soft, "")
    if count:
        tone, colour, bold = ("ink", ground.ink, ' font-weight="bold"')
    rows = [way.says, times(count)] if count > 1 else [way.says]
    return "".join(
        f'<text class="{tone}" x="{x:.1f}" y="{y + _ROW * row:.1f}" text-anchor="middle" '
        f'font-size="{SMALL:g}" fill="{colour}"{bold}>{xml(shown)}</text>'
        for row, shown in enumerate(rows)
    )


def _listed_machine(
    states: Sequence[str],
    events: Mapping[tuple[int, int], str],
    current: Any,
    sentence: str,
) -> str:
    rows = []
    for i, state in enumerate(states):
        moves = [f"{label} → {states[end]}" for (start, end), label in events.items() if start == i]
        here = look("RUNNING")._replace(
            word="now" if i == current else "", glyph="►" if i == current else ""
        )
        rows.append((here, f"{state}: {', '.join(moves) or 'the end'}"))
    return listed(rows, sentence)
