"""What running, building and keeping tasks costs, beside peers, in one go.

    python benchmarks/core.py            # everything, some minutes
    python benchmarks/core.py --quick    # small sizes, about half a minute

Every figure comes from a fresh child process; a cell is the minimum of up to five repetitions of
the process's CPU time. Read the ratios: absolute times belong to one machine and one hour.
"""

from __future__ import annotations

import argparse
import gc
import graphlib
import importlib.util
import itertools
import json
import math
import operator
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any, Final, NamedTuple

ROOT: Final = Path(__file__).resolve().parent.parent
LAYERS: Final = 10
REPEATS: Final = 5
SECONDS: Final = 20.0  # a repetition is only begun before this much has been spent
PATIENCE: Final = 240.0  # after which a child is ended and its cell says so

Graph = list[list[int]]
Prepared = Callable[[], int]  # runs everything, returns how many functions were called


# ----------------------------------------------------------------------------------------- shapes
def chain(size: int) -> Graph:
    """Return each task's requirements: the task before."""
    return [[i - 1] if i else [] for i in range(size)]


def fan_out(size: int) -> Graph:
    """Return one task that all others require."""
    return [[0] if i else [] for i in range(size)]


def layered(size: int) -> Graph:
    """Return ten layers, each task requiring 1 to 3 drawn ones of the layer before.

    Few wide layers are what dask likes best: 100,000 tasks in layers of 100 take it some ten
    times as long.
    """
    draw = random.Random(7)
    width = size // LAYERS
    graph: Graph = []
    for i in range(size):
        start = (i // width - 1) * width
        many = draw.randint(1, 3) if start >= 0 else 0
        graph.append([start + place for place in draw.sample(range(width), many)])
    return graph


SHAPES: Final = {"chain": chain, "fan-out": fan_out, "layered": layered}


# ------------------------------------------------------------------------------------------ peers
def nothing(*_: object) -> None:
    """Be the function of every task."""


def build_ours(graph: Graph) -> list[Any]:
    """Build the graph from tasks of this package."""
    from taskqueue_nb import Task

    tasks: list[Any] = []
    for i, required in enumerate(graph):
        task = Task(f"t{i}", nothing)
        for other in required:
            task.require(tasks[other])
        tasks.append(task)
    return tasks


def prepare_ours(graph: Graph) -> Prepared:
    """Run a queue in the caller's thread."""
    from taskqueue_nb import TaskQueue

    queue = TaskQueue(*build_ours(graph))
    return lambda: sum(1 for _ in queue.run())


def prepare_ours_threads(graph: Graph) -> Prepared:
    """Run a queue with two threads."""
    from taskqueue_nb import TaskQueue

    queue = TaskQueue(*build_ours(graph))

    def run() -> int:
        assert queue.start(executor=2).wait(PATIENCE)
        return queue.counts()["DONE"]

    return run


def prepare_ours_make(graph: Graph) -> Prepared:
    """Complete all tasks by `make`."""
    from taskqueue_nb import make

    tasks = build_ours(graph)
    return lambda: sum(1 for _ in make(*tasks))


def prepare_bare(graph: Graph) -> Prepared:
    """Call the functions in a loop."""
    functions = [nothing] * len(graph)

    def run() -> int:
        for function in functions:
            function()
        return len(functions)

    return run


def prepare_graphlib(graph: Graph) -> Prepared:
    """Loop over the same tasks in the order of the standard library, without states."""
    tasks = build_ours(graph)
    required = {task: task.required for task in tasks}

    def run() -> int:
        called = 0
        for task in graphlib.TopologicalSorter(required).static_order():
            task.func()
            called += 1
        return called

    return run


def prepare_graphlib_pool(graph: Graph) -> Prepared:
    """Do what the manual of `graphlib` shows, with a pool of two threads."""
    required = dict(enumerate(graph))

    def run() -> int:
        called = 0
        sorter = graphlib.TopologicalSorter(required)
        sorter.prepare()
        due: dict[Future[None], int] = {}
        with ThreadPoolExecutor(2) as pool:
            while sorter.is_active():
                for node in sorter.get_ready():
                    due[pool.submit(nothing)] = node
                for future in wait(due, return_when=FIRST_COMPLETED).done:
                    sorter.done(due.pop(future))
                    called += 1
        return called

    return run


def prepare_dask(graph: Graph, *, threads: bool) -> Prepared:
    """Give dask the graph in its own form, and ask for what nobody requires."""
    import dask.local
    import dask.threaded

    tasks = {f"t{i}": (nothing, *(f"t{r}" for r in required)) for i, required in enumerate(graph)}
    inner = set(itertools.chain.from_iterable(graph))
    wanted = [f"t{i}" for i in range(len(graph)) if i not in inner]

    def run() -> int:
        if threads:
            dask.threaded.get(tasks, wanted, num_workers=2)
        else:
            dask.local.get_sync(tasks, wanted)
        return len(tasks)

    return run


def prepare_seed(graph: Graph) -> Prepared:
    """Run the library that this one grew from."""
    from cs.taskqueue import Task, TaskQueue

    tasks: list[Any] = []
    for i, required in enumerate(graph):
        task = Task(f"t{i}", nothing)
        for other in required:
            task.require(tasks[other])
        tasks.append(task)
    queue = TaskQueue(*tasks)
    return lambda: sum(1 for _ in queue.run())


class Peer(NamedTuple):
    """Somebody who runs a graph."""

    title: str
    prepare: Callable[[Graph], Prepared]
    module: str | None = None
    largest: int = 100_000


PEERS: Final = {
    "ours": Peer("run", prepare_ours),
    "ours make": Peer("make", prepare_ours_make),
    "ours 2": Peer("2 threads", prepare_ours_threads),
    "bare": Peer("bare loop", prepare_bare),
    "graphlib": Peer("graphlib loop", prepare_graphlib),
    "graphlib 2": Peer("graphlib, 2 threads", prepare_graphlib_pool),
    "dask": Peer("dask.get_sync", lambda g: prepare_dask(g, threads=False), "dask"),
    "dask 2": Peer("dask.threaded, 2", lambda g: prepare_dask(g, threads=True), "dask"),
    "seed": Peer("cs.taskqueue", prepare_seed, "cs.taskqueue"),
}


# ------------------------------------------------------------------------- what a child measures
def measure_run(peer: str, shape: str, size: int) -> dict[str, float]:
    """Return the least CPU and wall seconds of some repetitions, each on a newly built graph."""
    graph = SHAPES[shape](size)
    cpu: list[float] = []
    wall: list[float] = []
    begun = time.monotonic()
    while len(cpu) < REPEATS and (not cpu or time.monotonic() - begun < SECONDS):
        run = PEERS[peer].prepare(graph)
        gc.collect()
        at_wall, at_cpu = time.perf_counter(), time.process_time()
        called = run()
        cpu.append(time.process_time() - at_cpu)
        wall.append(time.perf_counter() - at_wall)
        assert called == size, f"{peer} ran {called} of {size} tasks"
        del run
    return {"cpu": min(cpu), "wall": min(wall), "repeats": len(cpu)}


def measure_build(_peer: str, shape: str, size: int) -> dict[str, float]:
    """Return the least CPU seconds of building tasks and their requirements."""
    graph = SHAPES[shape](size)
    cpu: list[float] = []
    begun = time.monotonic()
    while len(cpu) < REPEATS and (not cpu or time.monotonic() - begun < SECONDS):
        gc.collect()
        at = time.process_time()
        tasks = build_ours(graph)
        cpu.append(time.process_time() - at)
        assert len(tasks) == size
        del tasks
    return {"cpu": min(cpu)}


def measure_memory(_peer: str, shape: str, size: int) -> dict[str, float]:
    """Return the bytes that tasks, queue, history and results take at most, by tracemalloc."""
    graph = SHAPES[shape](size)
    gc.collect()
    tracemalloc.start()
    run = prepare_ours(graph)
    assert run() == size
    kept, peak = tracemalloc.get_traced_memory()
    return {"kept": kept, "peak": peak}


def measure_large(_peer: str, shape: str, size: int) -> dict[str, float]:
    """Return the CPU seconds of one run and of building, and the process's peak memory."""
    graph = SHAPES[shape](size)
    at = time.process_time()
    run = prepare_ours(graph)
    built = time.process_time()
    assert run() == size
    ran = time.process_time()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"build": built - at, "run": ran - built, "peak": peak}


def measure_mending(_peer: str, shape: str, size: int) -> dict[str, float]:
    """Return what one failure costs: the full run, planning and doing a retry, running the rest.

    And what it costs to invalidate the last task, of which nothing else is made, and to plan that.
    """
    from taskqueue_nb import TaskQueue

    tasks = build_ours(SHAPES[shape](size))
    called: list[int] = []
    cause = tasks[size // 2]

    def fails_once() -> None:
        called.append(1)
        if len(called) == 1:
            raise ValueError("the first time")

    cause.func = fails_once
    queue = TaskQueue(*tasks)
    at = time.process_time()
    for _ in queue.run():
        pass
    full = time.process_time() - at
    missing = size - queue.counts()["DONE"]
    mending = math.inf
    for _ in range(REPEATS):
        at = time.perf_counter()
        plan = queue.plan("retry")
        plan.apply()
        mending = min(mending, time.perf_counter() - at)
        assert len(plan.will_run) == missing
        queue.undo()
    queue.retry()
    at = time.process_time()
    again = sum(1 for _ in queue.run())
    rest = time.process_time() - at
    assert queue.counts() == {"DONE": size}
    assert again == missing
    invalidating = math.inf
    for _ in range(REPEATS):
        at = time.perf_counter()
        queue.plan("invalidate", tasks[-1])
        queue.invalidate(tasks[-1])
        invalidating = min(invalidating, time.perf_counter() - at)
        queue.undo()
    return {
        "full": full, "retry": mending, "rest": rest, "again": again, "invalidate": invalidating,
    }  # fmt: skip


MEASURES: Final = {
    "run": measure_run,
    "build": measure_build,
    "memory": measure_memory,
    "large": measure_large,
    "mending": measure_mending,
}


#: Without argparse, asyncio and whatever else this script brings.
IMPORT: Final = """
import sys, time
modules, at = len(sys.modules), time.perf_counter()
import taskqueue_nb
print('{"wall": %r, "modules": %r}' % (time.perf_counter() - at, len(sys.modules) - modules))
"""


def in_child(
    measure: str,
    peer: str = "-",
    shape: str = "-",
    size: int = 0,
    env: Mapping[str, str] | None = None,
) -> dict[str, float]:
    """Measure in a fresh process; an empty answer means that it took too long."""
    command = [sys.executable, __file__, "--child", measure, peer, shape, str(size)]
    if measure == "import":
        command = [sys.executable, "-c", IMPORT]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            cwd=ROOT,
            env=env,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return {}
    if done.returncode:
        raise SystemExit(f"{measure} {peer} {shape} {size} failed:\n{done.stderr}")
    answer: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return answer


# ----------------------------------------------------------------------------------------- report
class Bar(NamedTuple):
    """A ratio that is promised, and one that is aimed at."""

    what: str
    ratio: float
    at_least: float | None = None
    at_most: float | None = None
    aim: float | None = None
    unit: str = "times"

    @property
    def is_met(self) -> bool:
        """Whether the promise is kept."""
        low = self.at_least is None or self.ratio >= self.at_least
        return low and (self.at_most is None or self.ratio <= self.at_most)

    def __str__(self) -> str:
        bound = f">= {self.at_least:g}" if self.at_least is not None else f"<= {self.at_most:g}"
        hit = operator.ge if self.at_least is not None else operator.le
        aim = "" if self.aim is None else f", aim {self.aim:.3g}"
        word = "MISSED" if not self.is_met else "met"
        if self.is_met and self.aim is not None and hit(self.ratio, self.aim):
            word = "met, and the aim"
        return f"{self.what:<62}{self.ratio:>9.3g} {self.unit:<8}{bound}{aim}: {word}"


def table_of_runs(sizes: list[int], names: list[str]) -> dict[tuple[str, int, str], float]:
    """Measure and print µs per task, a line per shape and size; return what was measured."""
    found: dict[tuple[str, int, str], float] = {}
    titles = [PEERS[name].title for name in names]
    print("\nµs of CPU time per task\n")
    print(f"| {'shape':<8} | {'tasks':>7} | " + " | ".join(titles) + " |", flush=True)
    print("|---|---:|" + "---:|" * len(titles))
    for shape, size in itertools.product(SHAPES, sizes):
        print(f"| {shape:<8} | {size:>7,} |", end="", flush=True)
        for name in names:
            seconds = in_child("run", name, shape, size).get("cpu")
            if seconds is None:
                print(f" over {PATIENCE:g} s |", end="", flush=True)
            else:
                found[shape, size, name] = seconds / size * 1e6
                print(f" {seconds / size * 1e6:.3g} |", end="", flush=True)
        print()
    return found


def bars_of_runs(found: dict[tuple[str, int, str], float]) -> Iterator[Bar]:
    """Compare ours with the peers at every shape and size."""
    for shape, size in dict.fromkeys((shape, size) for shape, size, _ in found):
        at = f"{shape} {size:,}"

        def against(peer: str, ours: str, key: tuple[str, int] = (shape, size)) -> float | None:
            return found.get((*key, peer), 0) / found[*key, ours] or None

        if (ratio := against("dask", "ours")) is not None:
            yield Bar(f"run, {at}: dask.get_sync / ours", ratio, at_least=5, aim=15)
        if (ratio := against("seed", "ours")) is not None:
            yield Bar(f"run, {at}: cs.taskqueue / ours", ratio, at_least=20, aim=60)
        if (ratio := against("graphlib", "ours")) is not None and size >= 10_000:
            most, aim = (4, 2) if size == 10_000 else (2.5, 1)
            yield Bar(f"run, {at}: ours / graphlib loop", 1 / ratio, at_most=most, aim=aim)
        if (ratio := against("dask 2", "ours 2")) is not None:
            yield Bar(f"2 threads, {at}: dask.threaded / ours", ratio, at_least=4, aim=10)
        if (ratio := against("graphlib 2", "ours 2")) is not None and shape == "chain":
            yield Bar(f"2 threads, {at}: graphlib with pool / ours", ratio, at_least=3, aim=5)


def bars_of_the_rest(*, quick: bool) -> Iterator[Bar]:
    """Measure building, memory, mending, the largest sizes and the import."""
    size = 10_000 if quick else 100_000
    for shape in SHAPES:
        per_task = in_child("build", "-", shape, size)["cpu"] / size * 1e6
        yield Bar(f"build, {shape} {size:,}", per_task, at_most=5, aim=2, unit="µs/task")
    for shape in SHAPES:
        peak = in_child("memory", "-", shape, size)["peak"] / size
        yield Bar(f"memory, {shape} {size:,}", peak, at_most=1500, aim=1000, unit="B/task")
    mending = in_child("mending", "-", "layered", size)
    share = mending["retry"] / mending["full"] * 100
    what = f"plan and retry one of {size:,} ({mending['again']:,.0f} called again)"
    yield Bar(what, share, at_most=1, unit="%")
    smaller = in_child("mending", "-", "layered", size // 10)
    yield Bar(
        f"plan and invalidate the last of {size:,} / of {size // 10:,}",
        mending["invalidate"] / smaller["invalidate"], at_most=3, aim=1.5,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:  # compiled once, as for users
        environment = {**os.environ, "PYTHONPYCACHEPREFIX": folder, "PYTHONDONTWRITEBYTECODE": ""}
        imports = [in_child("import", env=environment) for _ in range(5 if quick else 15)]
    fastest = min(each["wall"] for each in imports) * 1000
    modules = imports[0]["modules"]
    yield Bar(
        f"import taskqueue_nb ({modules:.0f} modules)", fastest, at_most=50, aim=25, unit="ms"
    )
    if quick:
        return
    for shape in ("chain", "layered"):
        small = in_child("large", "-", shape, 100_000)
        large = in_child("large", "-", shape, 1_000_000)
        for what in ("build", "run"):
            each = large[what]
            yield Bar(
                f"{what}, {shape} 1,000,000 in {each:.1f} s: per task / that at 100,000",
                each / small[what] / 10, at_most=1.5, aim=1.1,
            )  # fmt: skip
        yield Bar(f"peak RSS, {shape} 1,000,000", large["peak"] / 1e9, at_most=2, unit="GB")


def report(*, quick: bool) -> int:
    """Measure everything and print it; return how many promises are not kept."""
    names = [
        name for name, peer in PEERS.items()
        if peer.module is None or importlib.util.find_spec(peer.module.split(".", maxsplit=1)[0])
    ]  # fmt: skip
    for missing in [peer.title for name, peer in PEERS.items() if name not in names]:
        print(f"{missing} is not installed: left out")
    print(f"Python {sys.version.split()[0]}, {time.strftime('%Y-%m-%d %H:%M')}")
    found = table_of_runs([1_000] if quick else [1_000, 10_000, 100_000], names)
    print("\nRatios and the bars that they must reach\n")
    missed = 0
    for bar in itertools.chain(bars_of_runs(found), bars_of_the_rest(quick=quick)):
        print(bar, flush=True)
        missed += not bar.is_met
    print(f"\n{missed} bars missed" if missed else "\nevery bar met")
    return missed


def main() -> int:
    """Measure, or be the child that measures one thing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="small sizes, about half a minute")
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        measure, peer, shape, size = arguments.child
        sys.path.insert(0, str(ROOT))
        print(json.dumps(MEASURES[measure](peer, shape, int(size))))
        return 0
    return 1 if report(quick=arguments.quick) else 0


if __name__ == "__main__":
    sys.exit(main())
