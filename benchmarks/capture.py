"""What it costs a task that prints nothing that its output would be captured.

    python benchmarks/capture.py

Each figure is the difference between the same calls with and without capture, in one process: turn
by turn, the minimum of several repetitions of CPU time. It ends with status 1 if a task pays 2 µs.
"""

from __future__ import annotations

import contextlib
import gc
import io
import logging
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, Final

from taskqueue_nb import Task, TaskQueue

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TASKS: Final = 5_000
REPEATS: Final = 15
PROMISE: Final = 2.0  # microseconds
NOTHING: Final = contextlib.nullcontext()


def nothing() -> None:
    """Be the function of every task."""


def run(tasks: list[Task]) -> None:
    """Run a queue in the caller's thread."""
    assert sum(1 for _ in TaskQueue(*tasks).run()) == len(tasks)


def start(tasks: list[Task]) -> None:
    """Run a queue with two threads in the background."""
    assert TaskQueue(*tasks).start(executor=2).wait(60)


def dispatch(tasks: list[Task]) -> None:
    """Run each task by itself: capture begins and ends with every one."""
    for task in tasks:
        task.dispatch()


def dispatch_during(tasks: list[Task]) -> None:
    """Run each by itself while a background run goes on, so that capture is there already."""
    gate = threading.Event()
    other = TaskQueue(Task("other", gate.wait, func_args=(60,))).start()
    dispatch(tasks)
    gate.set()
    assert other.wait(60)


WAYS: Final[dict[str, Callable[[list[Task]], None]]] = {
    "queue.run()": run,
    "queue.start(executor=2)": start,
    "task.dispatch()": dispatch,
    "task.dispatch(), capture on": dispatch_during,
}


@contextlib.contextmanager
def without_capture() -> Iterator[None]:
    """Leave the standard streams, logging and display alone."""
    modules: list[Any] = [sys.modules[f"taskqueue_nb.{name}"] for name in ("task", "taskqueue")]
    kept = [module.capturing for module in modules]
    for module in modules:
        module.capturing = lambda **_: NOTHING
    try:
        yield
    finally:
        for module, capturing in zip(modules, kept, strict=True):
            module.capturing = capturing


def cost(way: Callable[[list[Task]], None]) -> float:
    """Return the CPU time of one task, in microseconds."""
    tasks = [Task("nothing", nothing) for _ in range(TASKS)]
    gc.collect()
    began = time.process_time()
    way(tasks)
    return (time.process_time() - began) / TASKS * 1e6


def hooked() -> list[object]:
    """Return all that capture changes while it is on."""
    found: list[object] = [sys.stdout, sys.stderr, vars(logging.Logger)["callHandlers"]]
    if "IPython" in sys.modules:
        from IPython.core.displaypub import DisplayPublisher
        from IPython.core.interactiveshell import InteractiveShell

        found += [vars(DisplayPublisher)["publish"], vars(DisplayPublisher)["clear_output"]]
        found.append(sorted(vars(InteractiveShell.instance().display_pub)))
    return found


def measure(where: str) -> float:
    """Print a row for each way to run; return the highest price."""
    worst = 0.0
    for name, way in WAYS.items():
        bare: list[float] = []
        captured: list[float] = []
        before = hooked()
        for _ in range(REPEATS):
            with without_capture():
                bare.append(cost(way))
            captured.append(cost(way))
        assert hooked() == before, "a run left something behind"
        price = min(captured) - min(bare)
        worst = max(worst, price)
        print(
            f"{where:8} {name:28} {min(bare):8.2f} {min(captured):8.2f} {price:+8.2f} µs"
            f" {min(captured) / min(bare):6.2f}x"
        )
    return worst


def printing() -> None:
    """Print what a task pays that does print, beside what printing costs anyway."""
    lines = 20_000
    sink = io.StringIO()

    def work() -> None:
        for _ in range(lines):
            print("a line")

    def timed(call: Callable[[], object]) -> float:
        began = time.process_time()
        with contextlib.redirect_stdout(sink):
            call()
        return (time.process_time() - began) / lines * 1e6

    bare = min(timed(work) for _ in range(5))
    kept = min(timed(lambda: Task("printing", work).dispatch()) for _ in range(5))
    print(f"a line printed: {bare:.2f} µs, kept and shown {kept:.2f} µs, {kept / bare:.1f}x")


def main() -> int:
    """Measure everything; return 1 if the promise is not kept."""
    print(f"{'':8} {'per task':28} {'without':>8} {'with':>8} {'price':>8}")
    worst = measure("Python")
    try:
        from IPython.core.interactiveshell import InteractiveShell
        from traitlets.config import Config
    except ImportError:
        print("IPython is not installed")
    else:
        InteractiveShell.instance(config=Config({"HistoryManager": {"enabled": False}}))
        worst = max(worst, measure("IPython"))
    printing()
    is_kept = worst < PROMISE
    print(f"dearest: {worst:+.2f} µs a task; below {PROMISE:g} µs: {'yes' if is_kept else 'NO'}")
    return 0 if is_kept else 1


if __name__ == "__main__":
    sys.exit(main())
