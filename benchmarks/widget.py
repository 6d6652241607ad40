"""What watching costs: a run of 10,000 transitions with the live view attached, and without.

Run it as `python benchmarks/widget.py`. It prints ratios: times move with the machine. The view is
the kernel's side with a page that swallows every message; `tests/browser` has the page's side.
The command ends with status 1 when a promise is not kept.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from typing import Any

from taskqueue_nb import Task, TaskQueue
from taskqueue_nb.widget import TaskGraph

TRANSITIONS = 10_000
ROUNDS = 7
BAR = 1.10  # of the time without a view
MESSAGES = 20  # a second, at most


def busy(seconds: float) -> None:
    """Compute for a while."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


def made(boxes: int, seconds: float) -> TaskQueue:
    """Return a queue of tasks in rows of ten."""
    tasks = [Task(f"t{i}", busy, func_args=(seconds,)) for i in range(boxes)]
    for before, after in zip(tasks, tasks[10:], strict=False):
        after.require(before)
    return TaskQueue(*tasks)


def timed(queue: TaskQueue) -> float:
    """Run a queue again and again until there were so many transitions; return the seconds."""
    first = queue.tasks[:10]
    rounds = TRANSITIONS // (2 * len(queue))
    began = time.perf_counter()
    for number in range(rounds):
        for _ in queue.run():
            pass
        if number < rounds - 1:
            queue.invalidate(*first)
    took = time.perf_counter() - began
    assert set(queue.counts()) == {"DONE"}
    queue.invalidate(*first)
    return took


class Page:
    """Swallows what a view sends, and counts it."""

    def __init__(self, widget: TaskGraph) -> None:
        self.sizes: list[int] = []
        widget.comm.publish_msg = self.publish

    def publish(self, _kind: str, data: Any = None, **_more: Any) -> None:
        """Take a message; the kernel would make JSON of it."""
        self.sizes.append(len(json.dumps(data)))


def main() -> int:
    """Measure, print, and say whether the promises are kept."""
    kept = True
    print(f"{TRANSITIONS:,} transitions, median of {ROUNDS} alternating runs\n")
    print("boxes  a task takes  attached/without  messages/s  bytes/message")
    for boxes, seconds in ((10, 1e-4), (100, 1e-4), (200, 1e-4), (200, 0.0)):
        queue = made(boxes, seconds)
        timed(queue)  # warm
        ratios, rates, sizes = [], [], []
        for _ in range(ROUNDS):
            without = timed(queue)
            widget = TaskGraph(queue)
            page = Page(widget)
            attached = timed(queue)
            ratios.append(attached / without)
            rates.append(len(page.sizes) / attached)
            sizes += page.sizes
            widget.close()
        ratio, rate = statistics.median(ratios), max(rates)
        size = statistics.median(sizes) if sizes else 0
        print(f"{boxes:5}  {seconds * 1e3:9.1f} ms  {ratio:16.3f}  {rate:10.1f}  {size:13.0f}")
        if seconds:  # an empty task is none that anybody watches; its figure is told all the same
            kept &= ratio <= BAR and rate <= MESSAGES + 2 / attached
    print("\nkept" if kept else f"\nnot kept: at most {BAR} and {MESSAGES} messages a second")
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
