"""From boxes to one safe SVG, laid out once and stamped with states as often as you like.

The engine sees no text of anybody: it gets boxes of a fixed size, named by us, and gives their
places and the curves between them. All that is taken from its answer are numbers.
"""

from __future__ import annotations

import re
import threading
from collections import Counter, OrderedDict
from concurrent.futures import Future
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from xml.etree import ElementTree as ET

import graphviz

from taskqueue_nb.drawing import engine as engines
from taskqueue_nb.drawing.blocks import Unit, between, units
from taskqueue_nb.drawing.engine import ADVICE, EngineError, NoEngine
from taskqueue_nb.drawing.fold import NO_WISH, Edges, Fold, Wish, folded, is_victim, levels
from taskqueue_nb.drawing.words import attribute, clean, error_name, lines, name_of, width, xml
from taskqueue_nb.palette import GROUND, PALETTE, ROLES, URGENCY, VICTIM, Look, Theme, look

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence

FONT: Final = "Arial, Helvetica, Liberation Sans, DejaVu Sans, sans-serif"
SIZE: Final = 13.0  # px of a box's name
SMALL: Final = 11.0  # px of its state
_LINE: Final = 16.0  # from one line of a name to the next
_ROOM: Final = (104.0, 190.0)  # least and largest width of the text in a box
_GLYPH: Final = 30.0  # left of the text
_PAD: Final = 10.0  # right of it
MARGIN: Final = 10.0  # around the picture
_PAGE: Final = 960.0  # the width of a notebook's cell, roughly
_STACK: Final = 4.0  # how far the cards of a folded box stand out
_TITLE: Final = 300  # characters of a box's title
_INCH: Final = 72.0
_GLYPH_SIZE: Final = 15.0
_WORD_FONT: Final = f'font-size="{SMALL:g}"'


class Box(NamedTuple):
    """One box of a drawing, in the order of the queue.

    Attributes
    ----------
    id : str
        `t0`, `t1`, ...: the id of its element, and its name in DOT.
    label : str
        What it is called, on one clean line.
    tasks : tuple of Task
        The task, or all that are folded into the box.
    key : str or None
        What a folded box was folded by; None for a box of one task.
    of : str
        What a box of one task can be folded by, with others; "" if there are none.
    """

    id: str
    label: str
    tasks: tuple[Any, ...]
    key: str | None
    of: str = ""

    @property
    def is_folded(self) -> bool:
        """Whether it stands for several tasks."""
        return self.key is not None


class Face(NamedTuple):
    """What a box shows besides its name.

    Attributes
    ----------
    look : Look
        The colours.
    glyph : str
        A sign or a number, left of the name.
    says : tuple of str
        What stands below the name: the first text for which there is room, or else the last.
    title : str
        What is said when one points at the box, after its name.
    role : str
        What a plan does with the task, one of `ROLES`; empty where a state is shown.
    """

    look: Look
    glyph: str
    says: tuple[str, ...]
    title: str
    role: str = ""


class Captioned(NamedTuple):
    """A picture with a caption, and its width in px at the size at which texts are read best."""

    svg: str
    width: float


class _Shape(NamedTuple):
    """What is written in a box, and how large that makes it, in px."""

    rows: tuple[str, ...]
    width: float
    height: float


class _Place(NamedTuple):
    """Where the engine put something, in px from the top left."""

    x: float
    y: float
    width: float
    height: float


class Curve(NamedTuple):
    """A line that the engine drew, its arrowhead and where a text on it stands."""

    path: str
    heads: tuple[str, ...]
    label: tuple[float, float] | None


class Layout(NamedTuple):
    """All that is taken from an engine's answer."""

    size: tuple[float, float]
    nodes: dict[str, _Place]
    edges: dict[str, Curve]
    clusters: dict[str, _Place]
    blocks: tuple[_Place, ...] = ()  # of boxes that stand alike, where an arrow leads to all


class Drawing:
    """A graph laid out, which `stamp` fills with the states of its tasks.

    Attributes
    ----------
    svg : str
        The picture without states. Box i is `<g id="ti" class="node">` and holds `text.glyph` and
        `text.word`, empty, where the state's belong; edges are `<g id="e3-17" class="edge">`, or
        `e3-17_18_19` where one arrow leads to a block of boxes that stand alike.
    boxes : tuple of Box
        In the order of the queue.
    edges : tuple of tuple of int
        Pairs of indices of boxes, prerequisite first.
    width, height : float
        In px, at the size at which texts are read best.
    is_kept : bool
        Whether some task of a folded group has a box of its own only because it had one before.
    """

    def __init__(
        self, boxes: Sequence[Box], edges: Edges, parts: _Parts, room: int, *, is_kept: bool = False
    ) -> None:
        self.boxes = tuple(boxes)
        self.edges = tuple(edges)
        self.width, self.height = parts.size
        self._parts = parts
        self._room = room
        self.is_kept = is_kept
        self._stamped: dict[tuple[int, Hashable], str] = {}
        self.svg = parts.assembled([part.bare() for part in parts.boxes], paper=False)

    def __repr__(self) -> str:
        return f"<Drawing of {len(self.boxes)} boxes, {self.width:.0f} x {self.height:.0f} px>"

    @property
    def tasks(self) -> tuple[Any, ...]:
        """Every task that it shows, box by box."""
        return tuple(task for box in self.boxes for task in box.tasks)

    @property
    def is_folded(self) -> bool:
        """Whether some box stands for several tasks."""
        return any(box.is_folded for box in self.boxes)

    @property
    def own(self) -> frozenset[Any]:
        """The tasks that have a box of their own."""
        return frozenset(box.tasks[0] for box in self.boxes if not box.is_folded)

    def outdated(self) -> bool:
        """Say whether a task that failed or runs is folded away, though there is room for it.

        Never true of a drawing without folded boxes: its layout holds as long as the structure.
        """
        if not self._room:
            return False
        return any(
            state in ("FAILED", "RUNNING")
            for box in self.boxes
            if box.is_folded
            for state in {task.fsm_state for task in box.tasks}
        )

    def stamp(self, name: str | None = None) -> str:
        """Return the picture with the states as they are now, without a new layout.

        Parameters
        ----------
        name : str, optional
            A title, for those who do not see the picture.
        """
        stamped, parts = self._stamped, self._parts.boxes
        counts: Counter[str] = Counter()
        shown: list[str] = []
        for i, box in enumerate(self.boxes):
            if box.key is None:
                task = box.tasks[0]
                facts: Any = facts_of(task)
                counts[facts[0]] += 1
            else:
                facts = tuple(Counter([task.fsm_state for task in box.tasks]).items())
                counts.update(dict(facts))
            text = stamped.get((i, facts))
            if text is None:
                face = face_of(facts) if box.key is None else _face_of_many(facts)
                text = stamped[i, facts] = parts[i].stamped(face)
                if len(stamped) > _KEPT * len(self.boxes):
                    stamped.clear()
            shown.append(text)
        title = "Task graph" if name is None else clean(name)
        return self._parts.assembled(shown, paper=True, said=f"{title}: {summary(counts)}")

    def filled(
        self, faces: Iterable[Face], heading: str, legend: Sequence[Look], said: str
    ) -> Captioned:
        """Return the picture with a face for each box, in place of the states.

        Parameters
        ----------
        faces : iterable of Face
            In the order of the boxes.
        heading : str
            One clean line that stands above it.
        legend : sequence of Look
            What is explained below the heading.
        said : str
            What it shows, for those who do not see it.
        """
        shown = [part.stamped(face) for part, face in zip(self._parts.boxes, faces, strict=True)]
        caption = _Caption(heading, legend, self.width)
        svg = self._parts.assembled(shown, paper=True, said=said, caption=caption)
        return Captioned(svg, max(self.width, caption.width))


_KEPT: Final = 12  # stamps per box


def facts_of(task: Any) -> tuple[Any, ...]:
    """Return what a box tells of its task: state, and what is said behind the state's word."""
    state = attribute(task, "fsm_state")
    if state == "DONE" or state == "PENDING":  # most of them, most of the time  # noqa: PLR1714 - three times as fast as `in`
        return (state, None, False)
    if state == "FAILED":
        return (state, _failure(task), is_victim(task))
    if state == "RUNNING":
        return (state, _progress(task), False)
    return (str(state), None, False)


def _failure(task: Any) -> str | None:
    error = attribute(task, "exception")
    return None if error is None else error_name(error)


def _progress(task: Any) -> str | None:
    reported = attribute(task, "progressed")
    try:
        done, total = reported
        return f"{min(max(float(done) / float(total), 0.0), 1.0):.0%}"
    except Exception:  # noqa: BLE001 - nothing was reported, or no number: a user's object
        return None


def face_of(facts: tuple[Any, ...]) -> Face:
    """Return how a task looks of which `facts_of` told these facts."""
    state, more, victim = facts
    shown = VICTIM if victim else look(state)
    if more is None:
        return Face(shown, shown.glyph, (shown.word,), shown.word)
    long = f"{shown.word}: {more}" if state == "FAILED" else f"{shown.word} {more}"
    return Face(shown, shown.glyph, (long, shown.word), long)


def _face_of_many(facts: tuple[tuple[str, int], ...]) -> Face:
    counts = dict(facts)
    shown = look(most_urgent(counts))
    known = [(look(state), counts[state]) for state in URGENCY if counts.get(state)]
    return Face(shown, shown.glyph, counted(known), summary(counts))


def counted(counts: Sequence[tuple[Look, int]]) -> tuple[str, ...]:
    """Say counts with words, or with glyphs where words need too much room, or the first alone."""
    if not counts:
        return ("",)
    (first, number), *_ = counts
    return (
        " · ".join(f"{count:,} {shown.word}" for shown, count in counts),
        "  ".join(f"{shown.glyph} {count:,}" for shown, count in counts),
        f"{number:,} {first.word}, and more",
    )


def look_of(task: Any) -> Look:
    """Return how a task's state looks; a task that fell with another one is no cause."""
    state = attribute(task, "fsm_state")
    return VICTIM if state == "FAILED" and is_victim(task) else look(state)


def summary(counts: Mapping[str, int]) -> str:
    """Say how many tasks are in which state: "3 done, 1 failed"."""
    known = [state for state in PALETTE if counts.get(state)]
    known += [state for state in counts if state not in PALETTE]
    return ", ".join(f"{counts[state]:,} {look(state).word}" for state in known) or "no tasks"


def letters(drawing: Drawing) -> str:
    """Return a letter per box for the states as they are now; of a folded box, the most urgent.

    A task that failed on another's account has the letter of `VICTIM`.
    """
    found = []
    for box in drawing.boxes:
        if box.key is None:
            found.append(look_of(box.tasks[0]).letter)
        else:
            states = {attribute(task, "fsm_state") for task in box.tasks}
            found.append(look(most_urgent(states)).letter)
    return "".join(found)


def most_urgent(states: Collection[Any]) -> Any:
    """Return the state that most wants to be seen."""
    return next((state for state in URGENCY if state in states), next(iter(states), None))


# -- drawing -----------------------------------------------------------------------------------


def draw(
    tasks: Iterable[Any],
    max_nodes: int = 200,
    keep: Collection[Any] = (),
    wish: Wish = NO_WISH,
) -> Drawing:
    """Lay tasks out.

    Parameters
    ----------
    tasks : iterable of Task
        In the order of their queue.
    max_nodes : int
        The largest number of boxes; more tasks are folded into groups.
    keep : collection of Task
        Those that had a box of their own in the drawing before this one.
    wish : Wish
        What is to be seen before all else.

    Returns
    -------
    Drawing
        Of the same structure the same; the engine is asked once for it.

    Raises
    ------
    NoEngine
        If nothing on this machine can lay it out; its `sentence` says what to install.
    """
    folding = folded(tasks, max_nodes, keep, wish)
    folds, edges = folding.folds, folding.edges
    shapes = [_shape(fold) for fold in folds]
    boxes = [
        Box(f"t{i}", fold.label, fold.tasks, fold.key, fold.of) for i, fold in enumerate(folds)
    ]
    if not boxes:
        return Drawing([], [], _Parts(Layout((160.0, 44.0), {}, {}, {}), [], {}), 0)
    clusters = _clusters(folds)
    placed = units([shape[1:] for shape in shapes], edges, [fold.group for fold in folds])
    for unit in placed:
        for i in unit.boxes if unit.is_block else ():
            shapes[i] = shapes[i]._replace(width=unit.cell[0], height=unit.cell[1])
    source = _source(placed, between(placed, edges), clusters)
    layout = _with_boxes(laid_out(source, [unit.name for unit in placed]), placed)
    parts = _Parts(layout, list(zip(boxes, shapes, strict=True)), clusters)
    return Drawing(boxes, edges, parts, folding.room, is_kept=folding.kept)


def _shape(fold: Fold) -> _Shape:
    if fold.key is None:
        rows = lines(name_of(fold.tasks[0]), SIZE, _ROOM[1])
        room = max(_ROOM[0], *(width(row, SIZE) for row in rows))
        return _Shape(rows, _GLYPH + room + _PAD, 27.0 + _LINE * len(rows))
    count = fold.times
    rows = lines(fold.key, SIZE, _ROOM[1] - width(count, SIZE), at_most=1)
    return _Shape((rows[0] + count,), _GLYPH + _ROOM[1] + _PAD, 27.0 + _LINE)


def _clusters(folds: Sequence[Fold]) -> dict[str, tuple[str, list[int]]]:
    """Return the frames around groups: id → label and members. A single frame says nothing."""
    groups: dict[str, list[int]] = {}
    for i, fold in enumerate(folds):
        if fold.group is not None:
            groups.setdefault(fold.group, []).append(i)
    return {
        f"g{n}": (group, members)
        for n, (group, members) in enumerate(groups.items())
        if len(members) > 1
    }


def _source(
    placed: Sequence[Unit],
    edges: Mapping[tuple[int, int], str],
    clusters: Mapping[str, tuple[str, list[int]]],
) -> str:
    """Write the DOT that the engine gets: sizes and names of ours, no texts."""
    direction = _direction(placed, list(edges))
    # from left to right the engine piles up what it is given from below, and readers begin above
    turn = reversed if direction == "LR" else iter
    dot = graphviz.Digraph(
        "tasks",
        graph_attr={
            "rankdir": direction,
            "nodesep": "0.2",
            "ranksep": "0.45",
            "pad": "0",
        },
        node_attr={"shape": "box", "fixedsize": "true", "label": ""},
        edge_attr={"arrowsize": "0.7"},
    )
    framed = {}
    for name, (_, members) in clusters.items():
        framed.update(dict.fromkeys(members, name))
    for unit in turn(placed):
        if unit.boxes[0] not in framed:
            _add_node(dot, unit)
    for name, (label, _) in turn(list(clusters.items())):
        with dot.subgraph(name=f"cluster_{name}") as frame:
            filler = "x" * min(24, max(1, round(width(label, SMALL) / 6)))
            frame.attr(id=name, label=filler, fontname="Arial", fontsize="11", margin="9")
            for unit in turn([unit for unit in placed if framed.get(unit.boxes[0]) == name]):
                _add_node(frame, unit)
    for (start, end), name in turn(list(edges.items())):
        dot.edge(placed[start].name, placed[end].name, id=name)
    return str(dot.source)


def _add_node(dot: Any, unit: Unit) -> None:
    dot.node(
        unit.name,
        id=unit.name,
        width=f"{unit.width / _INCH:.3f}",
        height=f"{unit.height / _INCH:.3f}",
    )


def _with_boxes(layout: Layout, placed: Sequence[Unit]) -> Layout:
    """Put the boxes of each block where the engine has put the block."""
    if not any(unit.is_block for unit in placed):
        return layout
    nodes = dict(layout.nodes)
    for unit in placed:
        if unit.is_block:
            place = nodes.pop(unit.name)
            for i, inner in zip(unit.boxes, unit.places(place.x, place.y), strict=True):
                nodes[f"t{i}"] = _Place(*inner)
    ends = {end for name in layout.edges for end in name.removeprefix("e").split("-")}
    blocks = [
        layout.nodes[unit.name]
        for unit in placed
        if unit.is_block and "_".join(map(str, unit.boxes)) in ends
    ]
    return layout._replace(nodes=nodes, blocks=tuple(blocks))


def _direction(shapes: Sequence[Unit], edges: Edges) -> str:
    """Choose the direction that leaves the picture larger on a page.

    From left to right where that is nearly full size: a page has more width than height.
    """
    required: dict[int, list[int]] = {i: [] for i in range(len(shapes))}
    for start, end in edges:
        required[end].append(start)
    rows: dict[int, list[float]] = {}
    for i, level in levels(required).items():
        rows.setdefault(level, []).append(shapes[i].width)
    across = _PAGE / sum(max(widths) + 34 for widths in rows.values())
    down = _PAGE / max(sum(widths) + 15 * len(widths) for widths in rows.values())
    return "LR" if across >= min(down, _NEARLY) else "TB"


_NEARLY: Final = 0.8


# -- the engine's answer -----------------------------------------------------------------------

_NUMBER = r"-?\d+(?:\.\d+)?(?:e-?\d+)?"
_POINT = re.compile(f"({_NUMBER})[ ,]+({_NUMBER})")
_PATH = re.compile(rf"(?:[MCL]|{_NUMBER}|[\s,])+")
_MOVE = re.compile(rf"translate\(({_NUMBER})[ ,]+({_NUMBER})\)")
_SVG: Final = "{http://www.w3.org/2000/svg}"


def laid_out(source: str, names: Iterable[str]) -> Layout:
    """Return where an engine puts the nodes of some DOT; the same DOT is laid out once.

    Raises
    ------
    NoEngine
        If no engine gave a picture with all of the names.
    """
    candidates = tuple(engines.engines())
    if not candidates:
        raise NoEngine(f"There is no picture, for want of a layout engine: {ADVICE}.")
    return _LAYOUTS.get((candidates, source), lambda: _lay_out(candidates, source, set(names)))


def _lay_out(candidates: Sequence[str], source: str, names: Collection[str]) -> Layout:
    complaints = []
    for path in candidates:
        try:
            answer = engines.run(path, source, engines.SECONDS)
            layout = _read(answer)
            if not layout.nodes.keys() >= set(names):
                message = "left out some of the boxes"
                raise EngineError(message)  # noqa: TRY301 - it failed like the others
        except EngineError as error:
            complaints.append(f"{clean(path, 80)} {clean(str(error), 300)}")
        else:
            return layout
    raise NoEngine(f"There is no picture: {'; '.join(complaints)}. {ADVICE}.")


class _Layouts:
    """The layouts of the last structures, each computed once, also when two threads want it."""

    def __init__(self, size: int, patience: float) -> None:
        self._size = size
        self._patience = patience  # s until a failure is tried again
        self._lock = threading.Lock()
        self._kept: OrderedDict[Hashable, tuple[float, Future[Layout]]] = OrderedDict()

    def get(self, key: Hashable, compute: Callable[[], Layout]) -> Layout:
        now = monotonic()
        with self._lock:
            since, future = self._kept.get(key, (now, None))
            failed = future is not None and future.done() and future.exception() is not None
            mine = future is None or (failed and now - since > self._patience)
            if mine:
                future = Future()
                self._kept[key] = (now, future)
                while len(self._kept) > self._size:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(key)
        assert future is not None  # noqa: S101 - for the type checker
        if mine:
            try:
                future.set_result(compute())
            except BaseException as error:
                future.set_exception(error)
                if not isinstance(error, NoEngine):  # an interrupt is nobody else's answer
                    self.forget(key)
                raise
        return future.result()

    def forget(self, key: Hashable) -> None:
        with self._lock:
            self._kept.pop(key, None)

    def clear(self) -> None:
        with self._lock:
            self._kept.clear()


_LAYOUTS: Final = _Layouts(size=32, patience=60.0)


def _read(answer: bytes) -> Layout:
    """Take the numbers out of an engine's SVG; anything unexpected in it is an error."""
    start = answer.find(b"<svg")
    if start < 0:
        message = "wrote no SVG"
        raise EngineError(message)
    body = answer[start:]
    if b"<!DOCTYPE" in body or b"<!ENTITY" in body:
        message = "wrote entities"
        raise EngineError(message)
    try:
        root = ET.fromstring(body)  # noqa: S314 - no document type is left that could hold entities
        graph = next(child for child in root if child.tag == f"{_SVG}g")
        return _layout(root, graph)
    except (ET.ParseError, StopIteration, ValueError, RecursionError, MemoryError) as error:
        message = f"wrote no picture ({type(error).__name__})"
        raise EngineError(message) from error


def _layout(root: ET.Element, graph: ET.Element) -> Layout:
    moved = _MOVE.search(graph.get("transform", ""))
    x, y = (float(moved[1]), float(moved[2])) if moved else (0.0, 0.0)
    by = (x + MARGIN, y + MARGIN)
    view = [float(number) for number in root.get("viewBox", "").split()]
    if len(view) != 4 or not all(abs(number) < 1e7 for number in view):  # noqa: PLR2004 - x, y, width, height
        message = "no viewBox"
        raise ValueError(message)
    layout = Layout((view[2], view[3]), {}, {}, {})
    for element in graph:
        if element.tag != f"{_SVG}g":
            continue
        kind, name = element.get("class"), element.get("id", "")
        if kind == "node":
            layout.nodes[name] = _place(element, by)
        elif kind == "edge":
            layout.edges[name] = _curve(element, by)
        elif kind == "cluster":
            layout.clusters[name] = _place(element, by)
    return layout


def _points(text: str, by: tuple[float, float]) -> list[tuple[float, float]]:
    return [(float(x) + by[0], float(y) + by[1]) for x, y in _POINT.findall(text)]


def _place(element: ET.Element, by: tuple[float, float]) -> _Place:
    for child in element.iter():
        if child.tag in (f"{_SVG}polygon", f"{_SVG}path"):
            points = _points(child.get("points") or child.get("d") or "", by)
            xs, ys = [x for x, _ in points], [y for _, y in points]
            return _Place(min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys))
        if child.tag == f"{_SVG}ellipse":
            x, y, rx, ry = (float(child.get(name, "nan")) for name in ("cx", "cy", "rx", "ry"))
            return _Place(x + by[0] - rx, y + by[1] - ry, 2 * rx, 2 * ry)
    message = "a box without a shape"
    raise ValueError(message)


def _curve(element: ET.Element, by: tuple[float, float]) -> Curve:
    path, heads, label = "", [], None
    for child in element.iter():
        if child.tag == f"{_SVG}path":
            d = child.get("d", "")
            if not _PATH.fullmatch(d):
                message = "a curve of unknown kind"
                raise ValueError(message)
            path += _POINT.sub(lambda m: f"{float(m[1]) + by[0]:.1f},{float(m[2]) + by[1]:.1f}", d)
        elif child.tag == f"{_SVG}polygon":
            points = _points(child.get("points", ""), by)
            heads.append(" ".join(f"{x:.1f},{y:.1f}" for x, y in points))
        elif child.tag == f"{_SVG}text":
            label = (float(child.get("x", "nan")) + by[0], float(child.get("y", "nan")) + by[1])
    return Curve(path, tuple(heads), label)


# -- the safe picture --------------------------------------------------------------------------


class _Part:
    """One box: what is the same in every state, and how to add the state."""

    def __init__(self, box: Box, shape: _Shape, place: _Place) -> None:
        self._id, self._label = box.id, xml(box.label)
        self._room = shape.width - _GLYPH - _PAD
        w, h = shape.width, shape.height
        x, y = place.x + (place.width - w) / 2, place.y + (place.height - h) / 2
        card = f'width="{w:.1f}" height="{h:.1f}" rx="7"'
        self._cards = [f'<rect class="box" x="{x:.1f}" y="{y:.1f}" {card}']
        if box.is_folded:
            behind = f'x="{x + _STACK:.1f}" y="{y + _STACK:.1f}"'
            self._cards.insert(0, f'<rect class="box" {behind} {card}')
        left = x + _GLYPH
        self._rows = "".join(
            f'<text class="label" x="{left:.1f}" y="{y + 19 + i * _LINE:.1f}">{xml(row)}</text>'
            for i, row in enumerate(shape.rows)
        )
        self._centre = (x + _GLYPH / 2, y + h / 2)
        self._word = f'<text class="word" x="{left:.1f}" y="{y + h - 9:.1f}" {_WORD_FONT}'

    def _glyph(self, text: str) -> str:
        """Put a sign or a number into its place, smaller if it needs more room."""
        x, y = self._centre
        size = min(_GLYPH_SIZE, (_GLYPH - 4) / width(text, 1.0)) if len(text) > 1 else _GLYPH_SIZE
        return (
            f'<text class="glyph" x="{x:.1f}" y="{y + 5.5 * size / _GLYPH_SIZE:.1f}" '
            f'text-anchor="middle" font-size="{size:.3g}">{text}</text>'
        )

    def bare(self) -> str:
        ground = GROUND["light"]
        shape = f' fill="{ground.paper}" stroke="{ground.soft}" stroke-width="1.3"/>'
        return (
            f'<g id="{self._id}" class="node"><title>{self._label}</title>'
            f"{''.join(card + shape for card in self._cards)}{self._rows}"
            f"{self._glyph('')}{self._word}></text></g>"
        )

    def stamped(self, face: Face) -> str:
        shown, title = face.look, xml(clean(face.title, _TITLE))
        said = next((t for t in face.says if width(t, SMALL) <= self._room), face.says[-1])
        fill, line, ink = shown.light
        dash = f' stroke-dasharray="{shown.dash}"' if shown.dash else ""
        thick = "2.2" if shown.state in _THICK and not shown.dash else "1.3"
        shape = f' fill="{fill}" stroke="{line}" stroke-width="{thick}"{dash}/>'
        return (
            f'<g id="{self._id}" class="node" {_mark(face)} fill="{ink}">'
            f"<title>{self._label}: {title}</title>"
            f"{''.join(card + shape for card in self._cards)}{self._rows}"
            f"{self._glyph(face.glyph)}{self._word}>{xml(said)}</text></g>"
        )


_THICK: Final = frozenset({"FAILED", "RUNNING", "run", "stale"})


def _mark(face: Face) -> str:
    """Return what the style sheet knows a face by."""
    if face.role:
        return f'data-role="{face.role}"'
    victim = ' data-victim="true"' if face.look is VICTIM else ""
    return f'data-state="{face.look.mark}"{victim}'


class _Parts:
    """A picture in pieces, so that states can be put between them."""

    def __init__(
        self,
        layout: Layout,
        boxes: Sequence[tuple[Box, _Shape]],
        clusters: Mapping[str, tuple[str, list[int]]],
    ) -> None:
        wide, high = layout.size
        self.size = (wide + 2 * MARGIN + _STACK, high + 2 * MARGIN + _STACK)
        self.boxes = [_Part(box, shape, layout.nodes[box.id]) for box, shape in boxes]
        frames = [
            _frame(name, label, layout.clusters[name])
            for name, (label, _) in clusters.items()
            if name in layout.clusters
        ]
        frames += [
            f'<rect class="frame" x="{place.x:.1f}" y="{place.y:.1f}" width="{place.width:.1f}" '
            f'height="{place.height:.1f}" rx="9" fill="none" stroke="{GROUND["light"].rule}"/>'
            for place in layout.blocks
        ]
        edges = [
            f'<g id="{name}" class="edge">{curve_svg(curve)}</g>'
            for name, curve in layout.edges.items()
            if _EDGE.fullmatch(name)
        ]
        self._middle = (
            f'<g class="frames">{"".join(frames)}</g><g class="edges">{"".join(edges)}</g>'
        )

    def assembled(
        self,
        boxes: Sequence[str],
        *,
        paper: bool,
        said: str = "",
        caption: _Caption | None = None,
    ) -> str:
        inner = (self._middle, *boxes) if boxes else (_NOTHING,)
        if caption is None:
            return picture(self.size, inner, paper=paper, said=said)
        size = (max(self.size[0], caption.width), self.size[1] + caption.height)
        inner = (caption.svg, *inner)
        return picture(size, inner, paper=paper, said=said, above=caption.height)


_EDGE = re.compile(r"e[\d_]+-[\d_]+")


class _Caption:
    """A heading and a legend above a picture, from y = -height to 0."""

    def __init__(self, heading: str, legend: Sequence[Look], wide: float) -> None:
        room = max(wide, _LEAST_CAPTION) - 2 * MARGIN
        rows = lines(heading, _HEADING, room, at_most=3)
        entries: list[list[tuple[float, Look]]] = [[]]
        x = 0.0
        for shown in legend:
            need = _GLYPH + width(shown.word, SMALL) + 14
            if entries[-1] and x + need > room:
                entries.append([])
                x = 0.0
            entries[-1].append((x, shown))
            x += need
        self.height = MARGIN + 19.0 * len(rows) + 21.0 * len(entries)
        self.width = max(
            *(width(row, _HEADING) for row in rows),
            *(at + _GLYPH + width(shown.word, SMALL) for row in entries for at, shown in row),
            0.0,
        ) + 2 * MARGIN  # fmt: skip
        y = MARGIN + 13.0 - self.height
        ink = GROUND["light"].ink
        texts = [
            f'<text class="ink" x="{MARGIN:.1f}" y="{y + 19 * i:.1f}" fill="{ink}" '
            f'font-size="{_HEADING:g}">'
            f"{xml(row)}</text>"
            for i, row in enumerate(rows)
        ]
        y += 19.0 * len(rows) - 9
        signs = [
            _legend_entry(MARGIN + at, y + 21 * i, shown)
            for i, row in enumerate(entries)
            for at, shown in row
        ]
        self.svg = f'<g class="caption">{"".join(texts)}{"".join(signs)}</g>'


_HEADING: Final = 15.0
_LEAST_CAPTION: Final = 460.0


def _legend_entry(x: float, y: float, shown: Look) -> str:
    fill, line, text = shown.light
    ink = GROUND["light"].ink
    dash = f' stroke-dasharray="{shown.dash}"' if shown.dash else ""
    return (
        f'<g data-role="{shown.state}" fill="{text}"><rect class="box" x="{x:.1f}" y="{y:.1f}" '
        f'width="22.0" height="16.0" rx="4" fill="{fill}" stroke="{line}" stroke-width="1.3"'
        f'{dash}/><text x="{x + 11:.1f}" y="{y + 12:.1f}" text-anchor="middle" '
        f'font-size="{SMALL:g}">{shown.glyph}</text></g>'
        f'<text class="ink" x="{x + 28:.1f}" y="{y + 12:.1f}" font-size="{SMALL:g}" '
        f'fill="{ink}">{shown.word}</text>'
    )


def _frame(name: str, label: str, place: _Place) -> str:
    row = lines(label, SMALL, place.width - 16, at_most=1)[0]
    rule, soft = GROUND["light"].rule, GROUND["light"].soft
    return (
        f'<g id="{name}" class="cluster"><title>{xml(label)}</title>'
        f'<rect class="frame" x="{place.x:.1f}" y="{place.y:.1f}" width="{place.width:.1f}" '
        f'height="{place.height:.1f}" rx="9" fill="none" stroke="{rule}"/>'
        f'<text class="soft" x="{place.x + 10:.1f}" y="{place.y + 16:.1f}" font-size="{SMALL:g}" '
        f'fill="{soft}">{xml(row)}</text></g>'
    )


def curve_svg(curve: Curve) -> str:
    """Return a line with its arrowhead as SVG, of nothing but numbers."""
    soft = GROUND["light"].soft
    heads = "".join(f'<polygon points="{points}" fill="{soft}"/>' for points in curve.heads)
    return f'<path d="{curve.path}" fill="none" stroke="{soft}" stroke-width="1.2"/>{heads}'


def _dark() -> str:
    """Return the rules that turn a still picture dark; they reach it alone."""
    ground = GROUND["dark"]
    rules = [
        f".paper{{fill:{ground.paper}}}",
        f".ink{{fill:{ground.ink}}}",
        f".soft{{fill:{ground.soft}}}",
        f".frame{{stroke:{ground.rule}}}",
        f".edge path{{stroke:{ground.soft}}}",
        f".edge polygon{{fill:{ground.soft}}}",
    ]
    shown: list[tuple[str, Look]] = [
        (f'[data-state="{state.casefold()}"]', known) for state, known in PALETTE.items()
    ]
    shown += [('[data-victim="true"]', VICTIM)]
    shown += [(f'[data-role="{role}"]', known) for role, known in ROLES.items()]
    for selector, known in shown:
        fill, line, ink = known.dark
        rules.append(f"{selector}{{fill:{ink}}}{selector} .box{{fill:{fill};stroke:{line}}}")
    return re.sub(r"(^|\})(?=[.\[])", r"\1.tq-picture ", "".join(rules))


DARK: Final = _dark()
_BY_PAGE: Final = f"<style>@media (prefers-color-scheme:dark){{{DARK}}}</style>"


def themed(svg: str, theme: Theme) -> str:
    """Return a still picture for light or dark pages alone, whatever the page prefers."""
    return svg.replace(_BY_PAGE, f"<style>{DARK}</style>" if theme == "dark" else "", 1)


_NOTHING: Final = (
    f'<text class="ink" x="80" y="38" text-anchor="middle" fill="{GROUND["light"].ink}">'
    "no tasks</text>"
)


def picture(
    size: tuple[float, float],
    inner: Iterable[str],
    *,
    paper: bool,
    said: str = "",
    above: float = 0.0,
) -> str:
    """Put a root around the pieces of a picture.

    Parameters
    ----------
    size : tuple of float
        Width and height, in px.
    inner : iterable of str
        The pieces, all of our own making.
    paper : bool
        Whether it stands alone: with a background, and dark where the page is.
    said : str
        What it shows, for those who do not see it.
    above : float
        How much of the height lies above y = 0.
    """
    wide, high = size
    ground = GROUND["light"]
    top = f' y="{-above:.0f}"' if above else ""
    back = f'<rect class="paper"{top} width="100%" height="100%" fill="{ground.paper}"/>'
    head = (
        '<svg xmlns="http://www.w3.org/2000/svg" class="tq-picture" role="img" '
        f'aria-label="{xml(said or "Task graph")}" width="{wide:.0f}" height="{high:.0f}" '
        f'viewBox="0 {-above:.0f} {wide:.0f} {high:.0f}">'
        f'<g class="graph" font-family="{FONT}" font-size="{SIZE:g}" fill="{ground.ink}">'
    )
    return "".join((head, _BY_PAGE + back if paper else "", *inner, "</g></svg>"))
