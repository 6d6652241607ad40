"""`python -m taskqueue_nb`: a graph runs, breaks, is repaired and finishes, in the terminal.

`python -m taskqueue_nb store info|check|clear FILE` looks at the file of a queue with a store.
"""

from __future__ import annotations

import argparse
import sys
from io import TextIOWrapper
from statistics import mean
from typing import TYPE_CHECKING

from taskqueue_nb import TaskQueue, task
from taskqueue_nb.reprs import tree
from taskqueue_nb.store import commands

if TYPE_CHECKING:
    from collections.abc import Sequence


@task
def load() -> list[str]:
    """Return readings as a file would give them: texts, one of them no number."""
    return ["18.7", "17.4", "n/a", "19.3", "20.6"]


@task
def parse(readings: list[str], missing: str = "raise") -> list[float]:
    """Turn texts into numbers."""
    if missing == "drop":
        readings = [reading for reading in readings if reading != "n/a"]
    return [float(reading) for reading in readings]


@task
def summarise(what: str, numbers: list[float]) -> str:
    """Say the smallest, the largest or the mean."""
    found = {"smallest": min(numbers), "largest": max(numbers), "mean": mean(numbers)}
    return f"{what} {found[what]:.1f}"


@task
def report(parts: list[str]) -> str:
    """Put the parts into one line."""
    return ", ".join(parts)


def main(argv: Sequence[str] | None = None) -> int:
    """Show what the package does, in words and a tree; or look at a store.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments of the command line: none for the demonstration, or `store …`.

    Returns
    -------
    int
        0 once the graph is finished. For a store: 0 if all is well, 1 if only a part of it is sound
        (or nothing was deleted), 2 if it cannot be used.
    """
    parser = argparse.ArgumentParser(
        prog="python -m taskqueue_nb", description=(__doc__ or "").partition("\n")[0]
    )
    commands.add_parser(parser.add_subparsers(dest="command", metavar="store"))
    options = parser.parse_args(argv)
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # not every terminal knows the glyphs
    if options.command == "store":
        return commands.run(options)
    return _demonstrate()


def _demonstrate() -> int:
    numbers = parse(load())
    parts = summarise.map(["smallest", "largest", "mean"], numbers=numbers)
    queue = TaskQueue.of(report(parts), name="readings")

    print("A graph of tasks, each with what it requires:\n")
    print(tree(queue))

    for _ in queue.run():
        pass
    print("\nqueue.run() ran what it could. One task failed, and what needs it waits:\n")
    print(tree(queue))

    queue.repair(numbers, kwargs={"missing": "drop"})
    again = [done.name for done in queue.run()]
    print('\nqueue.repair(task, kwargs={"missing": "drop"}), and run() again:\n')
    print(tree(queue))
    print(f"\nWhat was done already did not run again. The second time ran: {', '.join(again)}.")
    print(f"The report says: {queue.tasks[-1].result()}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
