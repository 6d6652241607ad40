"""What sending tasks to worker processes or a Dask cluster costs, beside those alone, in one go.

    python benchmarks/executors.py            # some two minutes
    python benchmarks/executors.py --quick    # half a minute

The bare pool gets the same payload: each call is pickled by cloudpickle, made by a function of an
importable module, and its outcome comes back as bytes that are unpickled here. Sides take turns,
each figure is the minimum of several rounds, and a task's cost is the slope between two sizes, so
that starting the workers does not count. Read the ratios.

On a Dask cluster the same layered graph goes through `dask.delayed`, which hands over all of it at
once; ours hands over each task when it is ready, and is told when each begins and ends.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import sys
import time
from collections import deque
from concurrent.futures import FIRST_COMPLETED, wait
from typing import TYPE_CHECKING, Any, Final

from taskqueue_nb import Task, TaskQueue

if TYPE_CHECKING:
    from collections.abc import Callable

WORKERS: Final = 2
SMALL: Final = 200
PROMISED_DASK: Final = 1.1  # of the same graph through `dask.delayed` on the same cluster
PROMISED: Final = 1.15  # of the bare pool that has one call per worker, as ours has


def nothing() -> None:
    """Be the function of every task."""


def size_of(value: Any) -> int:
    """Take an array and return something small."""
    return int(value.nbytes)


def packed(func: Callable[..., Any], *args: Any) -> Any:
    """Pickle a call as ours is pickled, and say what keeps it."""
    from taskqueue_nb._worker import Packer

    packer = Packer()
    packer.add(("task", [("value", None)] * len(args)))
    packer.add(func)
    for value in args:
        packer.add(value)
    packer.add(packer.sources())
    return packer.parcel()


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


def bare(count: int, at_once: int) -> float:
    """Make calls in a bare pebble pool, so many at once; return the seconds."""
    from pebble import ProcessPool

    pool = ProcessPool(WORKERS, context=multiprocessing.get_context("spawn"))
    begin = time.perf_counter()
    due: set[Any] = set()
    if at_once >= count:
        for future in deque(pool.schedule(made, (packed(nothing)[0],)) for _ in range(count)):
            assert opened(future.result()) is None
    else:
        for _ in range(count):
            if len(due) >= at_once:
                done, due = wait(due, return_when=FIRST_COMPLETED)
                for future in done:
                    assert opened(future.result()) is None
            due.add(pool.schedule(made, (packed(nothing)[0],)))
        for future in due:
            assert opened(future.result()) is None
    taken = time.perf_counter() - begin
    pool.stop()
    pool.join()
    return taken


def ours(count: int) -> float:
    """Run a queue of independent tasks; return the seconds until the last is done."""
    queue = TaskQueue(*(Task("task", nothing) for _ in range(count)))
    begin = taken = time.perf_counter()
    for _ in queue.run(executor=f"processes:{WORKERS}"):
        taken = time.perf_counter()
    assert queue.counts() == {"DONE": count}
    return taken - begin


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
    pool = ProcessPool(1, context=multiprocessing.get_context("spawn"))
    pool.schedule(nothing).result()
    times = []
    for _ in range(3):
        begin = time.perf_counter()
        assert pool.schedule(size_of, (value,)).result() == value.nbytes
        times.append(time.perf_counter() - begin)
    pool.stop()
    pool.join()
    return min(times)


def pause(seconds: float, *_: Any) -> int:
    """Be the function of a task that takes its time, and takes results."""
    time.sleep(seconds)
    return 1


def layers(wide: int, deep: int) -> list[list[tuple[int, ...]]]:
    """Return a graph: for each task of each layer the places of two tasks of the layer before."""
    first: list[tuple[int, ...]] = [()] * wide
    further: list[tuple[int, ...]] = [(i, (i + 1) % wide) for i in range(wide)]
    return [first, *[further] * (deep - 1)]


def on_dask(client: Any, seconds: float, wide: int, deep: int) -> float:
    """Run a layered graph on a cluster; return the seconds, without bringing anything."""
    made: list[list[Task]] = []
    for layer in layers(wide, deep):
        before = made[-1] if made else []
        made.append(
            [
                Task(f"layer {len(made)}", pause, func_args=(seconds, *(before[i] for i in places)))
                for places in layer
            ]
        )
    queue = TaskQueue(*(task for layer in made for task in layer))
    begin = time.perf_counter()
    for _ in queue.run(executor=client):
        pass
    taken = time.perf_counter() - begin
    assert queue.counts() == {"DONE": wide * deep}
    return taken


def delayed(client: Any, seconds: float, wide: int, deep: int) -> float:
    """Run the same graph through `dask.delayed`, also to where the results stay."""
    from dask.delayed import delayed as later
    from distributed import wait as until_done

    function = later(pause, pure=False)
    made: list[Any] = []
    for layer in layers(wide, deep):
        made = [function(seconds, *(made[i] for i in places)) for places in layer]
    begin = time.perf_counter()
    until_done(client.compute(made))
    return time.perf_counter() - begin


def compare_dask(*, quick: bool) -> float:
    """Measure both ways on one cluster, in turns; print, and return the ratio that is promised."""
    from distributed import Client, LocalCluster

    cases = [(0.0, 50, 4), (0.02, 20, 5), (0.1, 10, 4)]
    ratios = []
    with (
        LocalCluster(
            n_workers=WORKERS, threads_per_worker=1, host="127.0.0.1", dashboard_address=":0"
        ) as cluster,
        Client(cluster) as client,
    ):
        for side in (on_dask, delayed):
            side(client, 0.0, 10, 2)  # imports on the workers
        for seconds, wide, deep in cases:
            best = {on_dask: math.inf, delayed: math.inf}
            for _ in range(3 if quick else 7):
                for side, least in list(best.items()):
                    best[side] = min(least, side(client, seconds, wide, deep))
            ratios.append(best[on_dask] / best[delayed])
            print(
                f"Dask, {deep} layers of {wide} tasks of {seconds * 1e3:g} ms: "
                f"{best[on_dask]:.3f} s, dask.delayed {best[delayed]:.3f} s, "
                f"ratio {ratios[-1]:.2f}"
            )
    return max(ratios[1:])  # empty tasks measure Dask's own optimiser alone


def slopes(sides: dict[str, Callable[[int], float]], large: int, rounds: int) -> dict[str, float]:
    """Return the seconds that one more task takes, per side; the sides take turns."""
    best: dict[tuple[str, int], float] = {}
    for _ in range(rounds):
        for count in (SMALL, large):
            for name, side in sides.items():
                taken = side(count)
                best[name, count] = min(taken, best.get((name, count), taken))
    return {name: (best[name, large] - best[name, SMALL]) / (large - SMALL) for name in sides}


def main() -> int:
    """Measure, print, and say by the exit status whether the promise is kept."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer tasks and rounds")
    parser.add_argument("--dask", action="store_true", help="the cluster alone")
    options = parser.parse_args()
    quick = options.quick
    dask = compare_dask(quick=quick)
    print(f"ours to dask.delayed, tasks of 20 ms or more: {dask:.2f}, promised {PROMISED_DASK}")
    if options.dask:
        return int(dask > PROMISED_DASK)
    costs = slopes(
        {
            "ours": ours,
            "bare, one call per worker": lambda count: bare(count, WORKERS),
            "bare, all at once": lambda count: bare(count, count),
        },
        large=1_200 if quick else 3_200,
        rounds=4 if quick else 7,
    )
    print(f"an empty task, {WORKERS} workers")
    for name, seconds in costs.items():
        print(f"  {name:28}{seconds * 1e6:8.0f} µs{seconds / costs['ours']:8.2f} of ours")
    print(f"a whole run of one task: {min(whole_run() for _ in range(5)):.3f} s")
    for megabytes in (8,) if quick else (8, 80, 400):
        mine, theirs = array_ours(megabytes), array_bare(megabytes)
        print(f"an array of {megabytes} MB: {mine:.4f} s, by pebble's pipe {theirs:.4f} s")
    ratio = costs["ours"] / costs["bare, one call per worker"]
    print(f"ours to bare, one call per worker: {ratio:.2f}, promised {PROMISED}")
    return int(ratio > PROMISED or dask > PROMISED_DASK)


if __name__ == "__main__":
    sys.exit(main())
