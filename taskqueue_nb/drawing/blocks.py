"""Tasks that stand alike in a graph are placed as one block, in rows, as text is.

An engine puts all that have the same prerequisites and the same dependents into one long column.
It gets one box of their common size instead; the boxes then stand inside of it.
"""

from __future__ import annotations

from math import ceil, sqrt
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

__all__ = ["Unit", "between", "units"]

_ALIKE: Final = 10  # boxes from which on they stand in a block
_GAP: Final = 9.0  # px between the boxes of a block, and around them
_WIDE: Final = 2.2  # a block's width, in parts of its height: as a page's cell has it

Size = tuple[float, float]
Edges = list[tuple[int, int]]


class Unit(NamedTuple):
    """What an engine places as one: a box, or a block of boxes that stand alike.

    Attributes
    ----------
    name : str
        `t17` for box 17, `b17` for a block that begins with it.
    boxes : tuple of int
        Their indices, in the order of the picture.
    width, height : float
        In px.
    cell : tuple of float
        Width and height of the place for each box of a block, in px.
    columns : int
        How many boxes stand in a row.
    """

    name: str
    boxes: tuple[int, ...]
    width: float
    height: float
    cell: Size
    columns: int

    @property
    def is_block(self) -> bool:
        """Whether it holds several boxes."""
        return len(self.boxes) > 1

    def places(self, x: float, y: float) -> list[tuple[float, float, float, float]]:
        """Return x, y, width and height of the place of each box if the unit stands at (x, y)."""
        wide, high = self.cell
        gap = _GAP if self.is_block else 0.0
        return [
            (
                x + gap + i % self.columns * (wide + gap),
                y + gap + i // self.columns * (high + gap),
                wide,
                high,
            )
            for i in range(len(self.boxes))
        ]


def units(sizes: Sequence[Size], edges: Edges, groups: Sequence[Hashable]) -> list[Unit]:
    """Find what is placed as one.

    Parameters
    ----------
    sizes : sequence of tuple of float
        Width and height of each box, in px.
    edges : list of tuple of int
        Pairs of indices of boxes, prerequisite first.
    groups : sequence of hashable
        The frame in which each box stands: boxes of different ones never share a block.

    Returns
    -------
    list of Unit
        In the order of the first box in each; every box is in one of them.
    """
    before: list[list[int]] = [[] for _ in sizes]
    after: list[list[int]] = [[] for _ in sizes]
    for start, end in edges:
        before[end].append(start)
        after[start].append(end)
    alike: dict[Hashable, list[int]] = {}
    for i, group in enumerate(groups):
        around = (group, tuple(sorted(before[i])), tuple(sorted(after[i])))
        alike.setdefault(around, []).append(i)
    found = []
    for members in alike.values():
        if len(members) < _ALIKE:
            found += [Unit(f"t{i}", (i,), *sizes[i], sizes[i], 1) for i in members]
        else:
            found.append(_block(members, sizes))
    return sorted(found, key=lambda unit: unit.boxes[0])


def _block(members: Sequence[int], sizes: Sequence[Size]) -> Unit:
    wide = max(sizes[i][0] for i in members)
    high = max(sizes[i][1] for i in members)
    columns = max(1, round(sqrt(_WIDE * len(members) * (high + _GAP) / (wide + _GAP))))
    rows = ceil(len(members) / columns)
    return Unit(
        f"b{members[0]}",
        tuple(members),
        columns * (wide + _GAP) + _GAP,
        rows * (high + _GAP) + _GAP,
        (wide, high),
        columns,
    )


def between(chosen: Sequence[Unit], edges: Edges) -> dict[tuple[int, int], str]:
    """Return the requirements between units, by their indices, each once.

    The name of each tells the boxes at either end: `e3-17`, or `e3-17_18_19` into a block.
    """
    unit_of = {i: number for number, unit in enumerate(chosen) for i in unit.boxes}
    found: dict[tuple[int, int], str] = {}
    for start, end in edges:
        pair = unit_of[start], unit_of[end]
        if pair not in found:
            ends = ("_".join(map(str, chosen[number].boxes)) for number in pair)
            found[pair] = f"e{'-'.join(ends)}"
    return found
