"""What a store costs: writing as tasks complete, and taking 100,000 of them back.

    python benchmarks/store.py            # everything, about a minute
    python benchmarks/store.py --quick    # a tenth of the sizes

Each figure comes from a fresh child process; CPU time is that of all its threads together, and
wall time stands beside it. A promise that is not kept ends the command with status 1.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parent.parent
PER_TASK: Final = 100e-6  # seconds of CPU that storing a small result may take, in batches
PER_PUT: Final = 2e-6  # seconds on the thread that runs the functions
RESUME: Final = 3.0  # seconds of CPU for 100,000 tasks


class Times:
    """How much wall and CPU time has passed since it was made."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def passed(self) -> tuple[float, float]:
        """Return wall and CPU time, in seconds."""
        return time.perf_counter() - self._wall, time.process_time() - self._cpu


def number(value: int) -> int:
    """Do as little as a task can."""
    return value + 1


class Loaded:
    """A result that tells when it is unpickled."""

    def __reduce__(self) -> Any:
        return (print, ("UNPICKLED",))


def build(size: int, store: str | None) -> Any:
    """Make a queue of tasks in tens: each tenth requires the one before."""
    from taskqueue_nb import Task, TaskQueue

    tasks: list[Any] = []
    for place in range(size):
        before = [tasks[-10]] if place >= 10 else []
        task = Task(f"t{place}", number, func_args=(place,))
        for other in before:
            task.require(other)
        tasks.append(task)
    begun = Times()
    queue = TaskQueue(*tasks, store=store)
    return queue, begun.passed()


def measure_run(size: int, how: str, path: str) -> dict[str, Any]:
    """Run with and without a store."""
    found: dict[str, Any] = {}
    for name, store in (("without", None), ("with", path)):
        queue, _ = build(size, store)
        begun = Times()
        if how == "start":
            queue.start().wait()
        else:
            for _ in queue.run(executor=2 if how == "threads" else None):
                pass
        found[name] = begun.passed()
        if queue.store is not None:
            queue.store.close()
    found["bytes"] = Path(path).stat().st_size / size
    return found


def measure_resume(size: int, path: str) -> dict[str, Any]:
    """Take everything back."""
    queue, added = build(size, path)
    assert queue.counts() == {"DONE": size}, queue
    begun = time.perf_counter()
    assert queue.tasks[-1].value == size
    loaded = time.perf_counter() - begun
    begun = time.perf_counter()
    total = sum(task.value for task in queue)
    assert total == size * (size + 1) // 2
    return {"adding": added, "one value": loaded, "every value": time.perf_counter() - begun}


def measure_put(size: int, path: str) -> dict[str, float]:
    """Time the hand-over alone, with the writer at work."""
    from taskqueue_nb.task import GRAPH_LOCK

    queue, _ = build(10, path)
    list(queue.run())
    task = queue.tasks[0]
    with GRAPH_LOCK:
        put = queue.store.put
        begun = time.perf_counter()
        for _ in range(size):
            put(task, "PENDING")
        return {"put": (time.perf_counter() - begun) / size}


def measure_array(megabytes: int, path: str) -> dict[str, float]:
    """Store a large array, and look at how much memory that takes beside it."""
    import resource

    import numpy as np

    from taskqueue_nb import Task, TaskQueue

    def peak() -> float:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

    task = Task("array", np.ones, func_args=(megabytes * 2**17,))
    queue = TaskQueue(task, store=path)
    store = queue.store
    assert store is not None
    task.dispatch()
    before = peak()
    begun = time.perf_counter()
    store.flush()
    written = time.perf_counter() - begun
    more = peak() - before
    store.close()
    return {"write": written, "peak": more}


def child(what: str, *arguments: Any) -> dict[str, Any]:
    """Measure in a process of its own."""
    done = subprocess.run(
        [sys.executable, __file__, "--child", json.dumps([what, *arguments])],
        check=True, capture_output=True, text=True, cwd=ROOT, env=None,
    )  # fmt: skip
    assert "UNPICKLED" not in done.stdout
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> int:
    """Print the table; say whether every promise is kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--child")
    options = parser.parse_args()
    if options.child:
        what, *arguments = json.loads(options.child)
        print(json.dumps(globals()[f"measure_{what}"](*arguments)))
        return 0
    size = 10_000 if options.quick else 100_000
    kept = True
    with tempfile.TemporaryDirectory() as folder:

        def path(name: str) -> str:
            return str(Path(folder) / f"{name}.tq")

        for how in ("start", "threads", "run"):
            many = size if how == "start" else size // 10
            found = child("run", many, how, path(how))
            wall, cpu = (
                (then - now) / many
                for now, then in zip(found["without"], found["with"], strict=True)
            )
            print(
                f"{how:8} {many:7,} tasks: {cpu * 1e6:6.1f} µs of CPU more a task, "
                f"{wall * 1e6:6.1f} of wall time; {found['bytes']:.0f} bytes a task"
            )
            if how == "start":
                kept &= cpu < PER_TASK
        found = child("resume", size, path("start"))
        print(
            f"resume   {size:7,} tasks: {found['adding'][1]:.2f} s of CPU, "
            f"{found['adding'][0]:.2f} of wall time; "
            f"one value {found['one value'] * 1e6:.0f} µs, every value {found['every value']:.2f} s"
        )
        kept &= found["adding"][1] < RESUME
        found = child("put", 100_000, path("put"))
        print(f"put      {found['put'] * 1e6:.2f} µs on the thread that runs the functions")
        kept &= found["put"] < PER_PUT
        found = child("array", 200, path("array"))
        print(f"array    200 MB: {found['write']:.2f} s, {found['peak']:.0f} MB more at the peak")
        kept &= found["peak"] < 100
    return 0 if kept else 1


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    sys.exit(main())
