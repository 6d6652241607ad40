"""Named example graphs: each task's name with the names that it requires.

The small ones are written out, so that a failing test shows what it ran; the large ones are drawn
from a size. Every mapping lists a task after what it requires, unless its name says otherwise.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, TypeAlias

Graph: TypeAlias = Mapping[str, Sequence[str]]

SINGLE: Final[Graph] = {"only": []}
PAIR: Final[Graph] = {"load": [], "clean": ["load"]}
APART: Final[Graph] = {"left": [], "right": [], "middle": []}
CHAIN: Final[Graph] = {"a": [], "b": ["a"], "c": ["b"], "d": ["c"], "e": ["d"]}
DIAMOND: Final[Graph] = {"top": [], "left": ["top"], "right": ["top"], "bottom": ["left", "right"]}
FORK: Final[Graph] = {"load": [], "x": ["load"], "y": ["load"], "z": ["load"]}
JOIN: Final[Graph] = {"x": [], "y": [], "z": [], "report": ["x", "y", "z"]}
SHORTCUT: Final[Graph] = {"a": [], "b": ["a"], "c": ["b"], "d": ["a", "b", "c"]}
TWO_ISLANDS: Final[Graph] = {"a": [], "b": ["a"], "c": ["b"], "x": [], "y": ["x"]}
PENGUINS: Final[Graph] = {
    "load": [],
    "clean": ["load"],
    "adelie": ["clean"],
    "chinstrap": ["clean"],
    "gentoo": ["clean"],
    "fit adelie": ["adelie"],
    "fit chinstrap": ["chinstrap"],
    "fit gentoo": ["gentoo"],
    "plot": ["clean", "fit adelie", "fit chinstrap", "fit gentoo"],
    "report": ["plot"],
}

#: What a test of any graph walks through, name → graph.
GRAPHS: Final[Mapping[str, Graph]] = {
    "single": SINGLE,
    "pair": PAIR,
    "apart": APART,
    "chain": CHAIN,
    "diamond": DIAMOND,
    "fork": FORK,
    "join": JOIN,
    "shortcut": SHORTCUT,
    "two islands": TWO_ISLANDS,
    "penguins": PENGUINS,
}


def chain(size: int) -> Graph:
    """Return `size` tasks in a row, t0 first."""
    return {f"t{i}": [f"t{i - 1}"] if i else [] for i in range(size)}


def fan_out(size: int) -> Graph:
    """Return one task that `size` others require."""
    return {"one": []} | {f"t{i}": ["one"] for i in range(size)}


def fan_in(size: int) -> Graph:
    """Return one task that requires `size` others."""
    return {f"t{i}": [] for i in range(size)} | {"one": [f"t{i}" for i in range(size)]}


def ladder(rungs: int) -> Graph:
    """Return diamonds in a row, two tasks a rung: 2 ** rungs ways lead from end to end."""
    graph: dict[str, list[str]] = {"start": []}
    above = ["start"]
    for rung in range(rungs):
        left, right = f"l{rung}", f"r{rung}"
        graph |= {left: list(above), right: list(above)}
        above = [left, right]
    graph["end"] = above
    return graph


def layered(width: int, depth: int, seed: int = 1) -> Graph:
    """Return layers of `width` tasks, each requiring 1 to 3 of the layer before."""
    draw = random.Random(seed)
    graph: dict[str, list[str]] = {}
    before: list[str] = []
    for layer in range(depth):
        names = [f"t{layer}.{place}" for place in range(width)]
        for name in names:
            many = min(draw.randint(1, 3), len(before))
            graph[name] = draw.sample(before, many)
        before = names
    return graph


def shuffled(graph: Graph, seed: int = 1) -> Graph:
    """Return the same graph listed in a drawn order."""
    names = list(graph)
    random.Random(seed).shuffle(names)
    return {name: graph[name] for name in names}


def dependents(graph: Graph) -> dict[str, list[str]]:
    """Return each task's name with the names that require it."""
    found: dict[str, list[str]] = {name: [] for name in graph}
    for name, required in graph.items():
        for other in required:
            found[other].append(name)
    return found


def victims(graph: Graph, failing: Iterable[str]) -> set[str]:
    """Return what requires a task of `failing`, however far away: what cannot run without it."""
    later = dependents(graph)
    causes = set(failing)
    lost: set[str] = set()
    found = [name for cause in causes for name in later[cause]]
    while found:
        name = found.pop()
        if name not in lost:
            lost.add(name)
            found += later[name]
    return lost - causes


def apart(graph: Graph, *names: str) -> set[str]:
    """Return tasks that can all fail in one run: each name, or the next that none blocks."""
    chosen: set[str] = set()
    order = list(graph)
    for name in names:
        places = range(order.index(name), len(order))
        lost = victims(graph, chosen)
        chosen.add(next(order[i] for i in places if order[i] not in lost | chosen))
    return chosen
