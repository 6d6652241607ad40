"""What a picture costs: the layout once, and the stamp of the states each time.

Run it as `python benchmarks/drawing.py`. Each figure is the least of several runs in one process;
the ratios are what counts, since the times move with the machine.
"""

from __future__ import annotations

import random
import time
from functools import partial
from typing import TYPE_CHECKING

from taskqueue_nb import Task, TaskQueue
from taskqueue_nb.drawing import draw, drawing_of, letters, stamp
from taskqueue_nb.drawing.picture import _LAYOUTS
from taskqueue_nb.reprs import mimebundle

if TYPE_CHECKING:
    from collections.abc import Callable

RUNS = 5


def layered(count: int, width: int = 15) -> list[Task]:
    """Return tasks in layers, each requiring two of the layer before."""
    drawn = random.Random(7)
    tasks = [Task(f"part {i}", print, group=f"layer {i // width % 10}") for i in range(count)]
    for i, task in enumerate(tasks):
        layer = i // width * width
        for other in drawn.sample(tasks[max(0, layer - width) : layer], 2 if layer else 0):
            task.require(other)
    return tasks


def ungrouped(tasks: list[Task]) -> list[Task]:
    """Return the tasks without their groups, so that no frames are drawn."""
    for task in tasks:
        task.group = None
    return tasks


def least(work: Callable[[], object], runs: int = RUNS) -> float:
    """Return the seconds of the fastest of some calls."""
    times = []
    for _ in range(runs):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return min(times)


def fresh(tasks: list[Task], max_nodes: int) -> Callable[[], object]:
    """Return a call that lays tasks out anew."""

    def work() -> object:
        _LAYOUTS.clear()
        return draw(tasks, max_nodes)

    return work


def moved(tasks: list[Task], work: Callable[[], object]) -> Callable[[], object]:
    """Return a call that changes every third state first, so that nothing kept will do."""
    turn = iter(range(1_000_000))
    states = ("PENDING", "RUNNING", "DONE", "QUEUED")

    def after() -> object:
        at = next(turn)
        for task in tasks[at % 3 :: 3]:
            task.fsm_state = states[at % 4]
        return work()

    return after


def restamp(queue: TaskQueue) -> str:
    """Return a queue's picture as it is shown again."""
    return stamp(drawing_of(queue))


def first_stamp(tasks: list[Task], count: int) -> float:
    """Return the seconds of the first stamp of a drawing, which keeps nothing yet."""
    times = []
    for _ in range(RUNS):
        drawing = draw(tasks, count)
        began = time.perf_counter()
        stamp(drawing)
        times.append(time.perf_counter() - began)
    return min(times)


def main() -> None:
    """Print the costs."""
    print("layered graphs, ms            layout   first stamp   stamp   layout / stamp")
    for count in (10, 50, 100, 200, 300, 900):
        tasks = ungrouped(layered(count))
        layout = least(fresh(tasks, count), 3)
        first = first_stamp(tasks, count)
        drawing = draw(tasks, count)
        assert not drawing.is_folded
        changing = least(moved(tasks, drawing.stamp), 20)
        print(
            f"{count:>8,} tasks {len(drawing.boxes):>6} boxes {layout * 1e3:>8.1f} "
            f"{first * 1e3:>13.2f} {changing * 1e3:>7.2f} {layout / changing:>16.0f}"
        )

    print("\nfolded queues, ms             first   again   bundle   letters   first / that of 200")
    base = least(fresh(ungrouped(layered(200)), 200), 3)
    for count in (1000, 10_000, 100_000):
        queue = TaskQueue(*layered(count))
        first = least(fresh(list(queue.tasks), 200), 3)
        drawing = drawing_of(queue)
        again = least(partial(restamp, queue))
        bundle = least(partial(mimebundle, queue), 2)
        each = least(partial(letters, drawing))
        print(
            f"{count:>8,} tasks {len(drawing.boxes):>6} boxes "
            f"{first * 1e3:>7.0f} {again * 1e3:>7.1f} {bundle * 1e3:>8.0f} "
            f"{each * 1e3:>9.2f} {first / base:>22.1f}"
        )


if __name__ == "__main__":
    main()
