"""What it brings to start the longest path first, and that graphs which grow pay little for it.

    python benchmarks/order.py            # half a minute

Read the ratios: absolute times belong to one machine and one hour.
"""

from __future__ import annotations

import gc
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.core import REPEATS, SHAPES, Bar, build_ours
from taskqueue_nb import Task, TaskQueue

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LENGTH: Final = 20  # tasks of the long path
NAP: Final = 0.01  # seconds that each task takes
SIZES: Final = (2_000, 20_000)  # of graphs that grow


def nap() -> None:
    """Take as long as each task of the unbalanced graph."""
    time.sleep(NAP)


def unbalanced(workers: int, order: str | None) -> float:
    """Return the seconds of a run of one long path beside as many short ones as fill the others.

    The long path becomes ready last. At best all takes no longer than that path.
    """
    short = [Task(f"short {i}", nap) for i in range(LENGTH * (workers - 1))]
    path = [Task("path 0", nap)]
    for i in range(1, LENGTH):
        path.append(path[-1].then(f"path {i}", nap))
    queue = TaskQueue(*short, *path, order=order)
    begin = time.perf_counter()
    assert queue.start(executor=workers).wait()
    taken = time.perf_counter() - begin
    assert queue.counts() == {"DONE": len(short) + len(path)}
    return taken


def growing(size: int) -> float:
    """Return the CPU seconds of a chain in which each task adds the next as it runs."""
    queue = TaskQueue()
    chain: list[Task] = []

    def grow() -> None:
        if len(chain) < size:
            chain.append(Task(f"t{len(chain)}", grow))
            if len(chain) > 1:
                chain[-1].require(chain[-2])
            queue.add(chain[-1])

    grow()
    return run_of(queue, size)


def growing_at_its_end(size: int) -> float:
    """Return the same of one that grows as long while its first task waits: all before rise."""
    queue = TaskQueue()
    chain = [Task("t0", list)]

    def grow() -> None:
        if len(chain) < size // 2:
            chain.append(chain[-1].then(f"t{len(chain)}", list))
            beside = Task(f"beside {len(chain)}", grow)
            chain[0].require(beside)
            queue.add(chain[-1], beside)

    gate = Task("gate", grow)
    chain[0].require(gate)
    queue.add(gate, chain[0])
    return run_of(queue, size // 2 * 2)


def run_of(queue: TaskQueue, size: int) -> float:
    """Return the CPU seconds of a run in one thread."""
    gc.collect()
    begin = time.process_time()
    assert queue.start(executor=1).wait()
    taken = time.process_time() - begin
    assert queue.counts() == {"DONE": size}
    return taken


def in_this_thread(shape: str, size: int, order: str) -> float:
    """Return the CPU seconds of empty tasks in the caller's thread."""
    queue = TaskQueue(*build_ours(SHAPES[shape](size)), order=order)
    gc.collect()
    begin = time.process_time()
    assert sum(1 for _ in queue.run()) == size
    return time.process_time() - begin


def least(measure: Callable[..., float], *args: object) -> float:
    """Return the least of some repetitions."""
    return min(measure(*args) for _ in range(REPEATS))


def bars() -> Iterator[Bar]:
    """Measure, and compare."""
    for workers, promised in ((2, 1.35), (4, 1.5)):
        ready, longest = (least(unbalanced, workers, order) for order in ("ready", None))
        what = f'unbalanced graph, {workers} threads: order="ready" / by default'
        yield Bar(what, ready / longest, at_least=promised, aim=2 - 1 / workers - 0.05)
    for what, grows in (("grows as it runs", growing), ("grows as it waits", growing_at_its_end)):
        small, large = (least(grows, size) / size for size in SIZES)
        title = f"a chain that {what}: per task of {SIZES[1]:,} / of {SIZES[0]:,}"
        yield Bar(title, large / small, at_most=2, aim=1.3)
    for shape in SHAPES:
        ready, longest = (
            least(in_this_thread, shape, SIZES[1], order) for order in ("ready", "longest")
        )
        yield Bar(f"{shape} in one thread: longest / ready", longest / ready, at_most=2.5)


def main() -> int:
    """Print each ratio, and say whether all are as promised."""
    missed = 0
    for bar in bars():
        print(bar, flush=True)
        missed += not bar.is_met
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
