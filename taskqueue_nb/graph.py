"""Graphs as plain mappings and neighbour functions: order, closure, dependents, circles.

Nothing here recurses: a chain of a million tasks is as good as any other graph.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping
from typing import TypeAlias, TypeVar

from taskqueue_nb.fsm import FSMError, shorten

K = TypeVar("K", bound=Hashable)
Neighbours: TypeAlias = Callable[[K], Iterable[K]]

_NAMED = 12  # members of a circle that its error spells out


class CycleError(FSMError, ValueError):
    """Requirements form a circle, so that none of its members could ever be first.

    Parameters
    ----------
    path : tuple of str
        The names along the circle, each requiring the next; the first one stands at both ends.
    """

    def __init__(self, path: tuple[str, ...], fsm: object = None) -> None:
        super().__init__("", fsm)
        self.args = (path,)
        self.path = path

    def __str__(self) -> str:
        names = [shorten(name) for name in self.path]
        if len(names) > _NAMED:
            half = _NAMED // 2
            more = f"({len(names) - _NAMED} more)"
            names = [*names[:half], more, *names[-half:]]
        return f"the requirements would form a circle: {' requires '.join(names)}"


def dependents(graph: Mapping[K, Collection[K]]) -> dict[K, list[K]]:
    """Turn a graph round.

    Parameters
    ----------
    graph : mapping
        Each node with the nodes that it requires.

    Returns
    -------
    dict
        Each node with the nodes that require it, in the graph's order.

    Examples
    --------
    >>> dependents({"load": [], "fit": ["load"], "plot": ["load"]})
    {'load': ['fit', 'plot'], 'fit': [], 'plot': []}
    """
    behind: dict[K, list[K]] = {node: [] for node in graph}
    for node, required in graph.items():
        for prerequisite in required:
            behind.setdefault(prerequisite, []).append(node)
    return behind


def order(graph: Mapping[K, Collection[K]]) -> list[K]:
    """Sort a graph so that every node stands after all that it requires.

    Parameters
    ----------
    graph : mapping
        Each node with the nodes that it requires. Requirements that are no keys count as met.

    Returns
    -------
    list
        The keys; among those that could stand next, the graph's own order decides.

    Raises
    ------
    CycleError
        If the requirements form a circle; `CycleError.path` names it.

    Examples
    --------
    >>> order({"plot": ["fit"], "fit": ["load"], "load": []})
    ['load', 'fit', 'plot']
    """
    missing = {node: sum(r in graph for r in required) for node, required in graph.items()}
    behind = dependents(graph)
    ready = deque(node for node, count in missing.items() if not count)
    ordered: list[K] = []
    while ready:
        node = ready.popleft()
        ordered.append(node)
        for dependent in behind[node]:
            missing[dependent] -= 1
            if not missing[dependent]:
                ready.append(dependent)
    if len(ordered) < len(graph):
        raise CycleError(tuple(str(node) for node in _circle(graph, set(ordered))))
    return ordered


def _circle(graph: Mapping[K, Collection[K]], sound: set[K]) -> list[K]:
    """Walk from requirement to requirement until a node comes up again."""
    node = next(node for node in graph if node not in sound)
    walked: dict[K, None] = {}
    while node not in walked:
        walked[node] = None
        node = next(r for r in graph[node] if r in graph and r not in sound)
    path = list(walked)
    return [*path[path.index(node) :], node]


def closure(starts: Iterable[K], neighbours: Neighbours[K]) -> list[K]:
    """Collect all that can be reached.

    Parameters
    ----------
    starts : iterable
        Where to begin; they belong to the closure.
    neighbours : callable
        Gives the nodes that one node leads to.

    Returns
    -------
    list
        Every node once, in the order of discovery, nearest first.

    Examples
    --------
    >>> closure(["plot"], {"plot": ["fit"], "fit": ["load"], "load": []}.__getitem__)
    ['plot', 'fit', 'load']
    """
    return list(_walk(starts, neighbours))


def _walk(starts: Iterable[K], neighbours: Neighbours[K]) -> Iterator[K]:
    seen = set()
    due = deque(starts)
    while due:
        node = due.popleft()
        if node not in seen:
            seen.add(node)
            yield node
            due.extend(neighbours(node))


def path(start: K, goal: K, neighbours: Neighbours[K]) -> list[K] | None:
    """Find a shortest way from node to node, both ends included; None if there is none.

    Examples
    --------
    >>> path("plot", "load", {"plot": ["fit"], "fit": ["load"], "load": []}.__getitem__)
    ['plot', 'fit', 'load']
    """
    came_from: dict[K, K] = {}
    due = deque([start])
    seen = {start}
    while due:
        node = due.popleft()
        if node == goal:
            way = [node]
            while node != start:
                node = came_from[node]
                way.append(node)
            return way[::-1]
        for following in neighbours(node):
            if following not in seen:
                seen.add(following)
                came_from[following] = node
                due.append(following)
    return None
