"""What a graph costs on a Dask cluster, beside the same graph through `dask.delayed`, in one go.

    python benchmarks/cluster.py            # about two minutes
    python benchmarks/cluster.py --quick    # half of it

`dask.delayed` hands over the whole graph at once; ours hands over each task when it is ready or,
while the cluster has little to do, a few ahead of that, and is told when each begins and ends. Both
sides give their tasks the same names: a scheduler puts together what is called alike, and treats
many calls of one name that need nothing in a way of its own, so that a graph with other names is
another graph to it. Sides take turns, each figure is the minimum of several rounds. Beside the time
that passes stands what processors have done, here (the scheduler is in this process, too) and in
the workers: on a busy machine that tells more.
"""

from __future__ import annotations

import argparse
import sys
import time
from typing import Any, Final
from uuid import uuid4

from taskqueue_nb import Task, TaskQueue

WORKERS: Final = 2
FIGURES: Final = ("time", "processor here", "processors of the workers")
GRAPHS: Final = {  # seconds of each task, how many in a layer, layers, whether all have one name
    "4 layers of 50 empty tasks": (0.0, 50, 4, False),
    "4 layers of 50 empty tasks of one name": (0.0, 50, 4, True),
    "5 layers of 200 empty tasks of one name": (0.0, 200, 5, True),
    "a chain of 50 empty tasks": (0.0, 1, 50, False),
    "a chain of 200 empty tasks of one name": (0.0, 1, 200, True),
    "5 layers of 20 tasks of 20 ms": (0.02, 20, 5, False),
    "5 layers of 20 tasks of 20 ms of one name": (0.02, 20, 5, True),
    "4 layers of 10 tasks of 100 ms": (0.1, 10, 4, False),
}
PROMISED: Final = 1.1  # of the same graph through `dask.delayed` on the same cluster


def pause(seconds: float, *_: Any) -> int:
    """Be the function of a task that takes its time, and takes results."""
    time.sleep(seconds)
    return 1


def layers(wide: int, deep: int) -> list[list[tuple[int, ...]]]:
    """Return a graph: for each task of each layer the places of two tasks of the layer before."""
    first: list[tuple[int, ...]] = [()] * wide
    further: list[tuple[int, ...]] = [(i, (i + 1) % wide) for i in range(wide)]
    return [first, *[further] * (deep - 1)]


def name_of(layer: int, *, alike: bool) -> str:
    """Return the name of the tasks of a layer."""
    return "pause" if alike else f"layer {layer}"


def on_dask(client: Any, seconds: float, wide: int, deep: int, *, alike: bool) -> float:
    """Run a layered graph on a cluster; return the seconds, without bringing anything."""
    made: list[list[Task]] = []
    for layer in layers(wide, deep):
        before = made[-1] if made else []
        name = name_of(len(made), alike=alike)
        made.append(
            [
                Task(name, pause, func_args=(seconds, *(before[i] for i in places)))
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


def delayed(client: Any, seconds: float, wide: int, deep: int, *, alike: bool) -> float:
    """Run the same graph through `dask.delayed`, also to where the results stay."""
    from dask.delayed import delayed as later
    from distributed import wait as until_done

    function = later(pause, pure=False)
    made: list[Any] = []
    for number, layer in enumerate(layers(wide, deep)):
        made = [
            function(
                seconds,
                *(made[i] for i in places),
                dask_key_name=f"{name_of(number, alike=alike)}-{uuid4().hex}",
            )
            for places in layer
        ]
    begin = time.perf_counter()
    until_done(client.compute(made))
    return time.perf_counter() - begin


def spent(client: Any) -> tuple[float, float]:
    """Return the processor time of this process, and of all workers, in seconds."""
    return time.process_time(), float(sum(client.run(time.process_time).values()))


def least(rounds: list[tuple[float, float, float]]) -> list[float]:
    """Return the least of each figure."""
    return [min(figures) for figures in zip(*rounds, strict=True)]


def compare_dask(*, quick: bool) -> dict[str, float]:
    """Measure both ways on one cluster, in turns; print, and return the ratio of each graph."""
    from distributed import Client, LocalCluster

    ratios = {}
    with (
        LocalCluster(
            n_workers=WORKERS, threads_per_worker=1, host="127.0.0.1", dashboard_address=":0"
        ) as cluster,
        Client(cluster) as client,
    ):
        for side in (on_dask, delayed):
            side(client, 0.0, 10, 2, alike=False)  # imports on the workers
        for what, (seconds, wide, deep, alike) in GRAPHS.items():
            taken: dict[Any, list[tuple[float, float, float]]] = {on_dask: [], delayed: []}
            for _ in range(3 if quick else 7):
                for side, rounds in taken.items():
                    here, there = spent(client)
                    passed = side(client, seconds, wide, deep, alike=alike)
                    here_then, there_then = spent(client)
                    rounds.append((passed, here_then - here, there_then - there))
            ours, theirs = least(taken[on_dask]), least(taken[delayed])
            ratios[what] = ours[0] / theirs[0]
            print(f"Dask, {what}:")
            for figure, our, their in zip(FIGURES, ours, theirs, strict=True):
                ratio = our / their
                print(f"  {figure}: {our:.3f} s, dask.delayed {their:.3f} s, ratio {ratio:.2f}")
    return ratios


def main() -> int:
    """Measure, print, and say by the exit status whether the promise is kept."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    ratios = compare_dask(quick=parser.parse_args().quick)
    for what, ratio in ratios.items():
        word = "kept" if ratio <= PROMISED else "missed"
        print(f"{what}: {ratio:.2f} of dask.delayed, promised {PROMISED}: {word}")
    return int(max(ratios.values()) > PROMISED)


if __name__ == "__main__":
    sys.exit(main())
