"""What sending tasks to worker processes costs, beside a bare pebble pool, in one go.

    python benchmarks/executors.py            # some two minutes
    python benchmarks/executors.py --quick    # half a minute

The bare pool gets the same payload: the very bytes that ours sends, packed anew for each call, made
by the same function in the worker, and an outcome of the same bytes that are unpickled here. Sides
take turns; a figure is the minimum, or the median, of batches of tasks in workers that are up. Read
the ratios.

The promise is about a bare pool that is given all calls at once, so that it hides the way to a
worker behind the work of others. Ours has one call per worker, and one that waits there and can be
withdrawn; beside it stands a bare pool that has one call per worker. The last line is for those who
can do without all that: a function that goes by name, and a result that is only pickled.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import statistics
import sys
import time
from concurrent.futures import FIRST_COMPLETED, wait
from typing import TYPE_CHECKING, Any, Final

from taskqueue_nb import Task, TaskQueue

if TYPE_CHECKING:
    from collections.abc import Callable

WORKERS: Final = 2
BATCH: Final = 300  # tasks
BATCHES: Final = 6  # in workers that are up
PROMISED: Final = 1.15  # of the bare pool that is given all calls at once


def nothing() -> None:
    """Be the function of every task."""


def size_of(value: Any) -> int:
    """Take an array and return something small."""
    return int(value.nbytes)


def packer_of(func: Callable[..., Any]) -> Callable[[], Any]:
    """Return what packs a call of a function as ours is packed."""
    from taskqueue_nb.executors.processes import Processes, _ProcessTrip

    trip = _ProcessTrip(Task("task", func), lambda *_: None, None, Processes(WORKERS), 1)
    return trip.packed


def made(parcel: Any) -> Any:
    """Make a call in a worker of the bare pool."""
    from taskqueue_nb import _worker

    value, error, stage = _worker._made(1, parcel)
    answer, _ = _worker._answer(value, error, stage, "", 0)
    return answer


def opened(answer: Any) -> Any:
    """Unpickle an answer."""
    from taskqueue_nb._worker import unpacked

    items = unpacked(answer)
    next(items)
    kind, *_ = next(items)
    assert kind == "done", kind
    return next(items)


def bare(batches: int, at_once: int) -> list[float]:
    """Make calls in a bare pebble pool, so many at once; return the seconds per call and batch."""
    from pebble import ProcessPool

    pool: Any = ProcessPool(WORKERS, context=multiprocessing.get_context("spawn"))
    packed = packer_of(nothing)
    taken = []
    for _ in range(batches + 1):  # the first one starts the workers
        begin = time.perf_counter()
        due: set[Any] = set()
        for _ in range(BATCH):
            if len(due) >= at_once:
                done, due = wait(due, return_when=FIRST_COMPLETED)
                for future in done:
                    assert opened(future.result()) is None
            due.add(pool.schedule(made, (packed(),)))
        for future in due:
            assert opened(future.result()) is None
        taken.append((time.perf_counter() - begin) / BATCH)
    pool.stop()
    pool.join()
    return taken[1:]


def plain(batches: int) -> list[float]:
    """Make calls in a bare pebble pool in its own way; return the seconds per call and batch."""
    from pebble import ProcessPool

    pool: Any = ProcessPool(WORKERS, context=multiprocessing.get_context("spawn"))
    taken = []
    for _ in range(batches + 1):  # the first one starts the workers
        begin = time.perf_counter()
        futures = [pool.schedule(nothing) for _ in range(BATCH)]
        for future in futures:
            assert future.result() is None
        taken.append((time.perf_counter() - begin) / BATCH)
    pool.stop()
    pool.join()
    return taken[1:]


def ours(batches: int) -> list[float]:
    """Run batches of tasks, each when the last one is done; return the seconds per task and batch.

    When each is done is told by a task behind it, not by who takes the tasks from `run`: that one
    may come late, and find many at once.
    """
    queue = TaskQueue()
    gates: list[Task] = []
    for _ in range(batches + 1):  # the first one starts the workers
        batch = [Task("task", nothing) for _ in range(BATCH)]
        gate = Task("gate", time.perf_counter, executor=1)
        for task in batch:
            gate.require(task)
            if gates:
                task.require(gates[-1])
        gates.append(gate)
        queue.add(*batch, gate)
    for _ in queue.run(executor=f"processes:{WORKERS}"):
        pass
    assert queue.counts() == {"DONE": (BATCH + 1) * (batches + 1)}
    moments = [gate.result() for gate in gates]
    return [(end - begin) / BATCH for begin, end in itertools.pairwise(moments)]


def whole_run() -> float:
    """Run one empty task from beginning to end; return the seconds, with starting and ending."""
    begin = time.perf_counter()
    assert len(list(TaskQueue(Task("task", nothing)).run(executor="processes:1"))) == 1
    return time.perf_counter() - begin


def array_ours(megabytes: int) -> float:
    """Send an array to a worker; return the seconds, without starting it."""
    import numpy as np

    value = np.ones(megabytes * 125_000)
    times: list[float] = []
    tasks = [Task("task", nothing)]
    tasks += [Task("size", size_of, func_args=(value,)) for _ in range(3)]
    begin = time.perf_counter()
    for task in TaskQueue(*tasks).run(executor="processes:1"):
        assert task.is_done, task.exception
        times.append(time.perf_counter() - begin)
        begin = time.perf_counter()
    return min(times[1:])


def array_bare(megabytes: int) -> float:
    """Send an array by the pipe of a bare pebble pool, as its users do; return the seconds."""
    import numpy as np
    from pebble import ProcessPool

    value = np.ones(megabytes * 125_000)
    pool: Any = ProcessPool(1, context=multiprocessing.get_context("spawn"))
    pool.schedule(nothing).result()
    times = []
    for _ in range(3):
        begin = time.perf_counter()
        assert pool.schedule(size_of, (value,)).result() == value.nbytes
        times.append(time.perf_counter() - begin)
    pool.stop()
    pool.join()
    return min(times)


def main() -> int:
    """Measure, print, and say by the exit status whether the promise is kept."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    quick = parser.parse_args().quick
    sides: dict[str, Callable[[], list[float]]] = {
        "ours": lambda: ours(BATCHES),
        "bare, one call per worker": lambda: bare(BATCHES, WORKERS),
        "bare, all at once": lambda: bare(BATCHES, BATCH),
        "bare, all at once, by name": lambda: plain(BATCHES),
    }
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(3 if quick else 10):
        for name, side in sides.items():
            seconds[name] += side()
    least = {name: min(taken) for name, taken in seconds.items()}
    middle = {name: statistics.median(taken) for name, taken in seconds.items()}
    print(f"an empty task, {WORKERS} workers: least and median of batches, ours to each")
    for name in sides:
        print(
            f"  {name:28}{least[name] * 1e6:6.0f} µs{middle[name] * 1e6:8.0f} µs"
            f"{least['ours'] / least[name]:8.2f}{middle['ours'] / middle[name]:8.2f}"
        )
    print(f"a whole run of one task: {min(whole_run() for _ in range(5)):.3f} s")
    for megabytes in (8,) if quick else (8, 80, 400):
        mine, theirs = array_ours(megabytes), array_bare(megabytes)
        print(f"an array of {megabytes} MB: {mine:.4f} s, by pebble's pipe {theirs:.4f} s")
    ratio = least["ours"] / least["bare, all at once"]
    print(f"ours to bare, all at once: {ratio:.2f}, promised {PROMISED}")
    return int(ratio > PROMISED)


if __name__ == "__main__":
    sys.exit(main())
