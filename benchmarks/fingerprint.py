"""What it costs to note what a call was, and to take its fingerprint.

    python benchmarks/fingerprint.py

Each figure is the least of several repetitions of the process's CPU time, in microseconds unless a
unit is given. `a call` is what Python itself takes to call an empty function, for comparison.
"""

from __future__ import annotations

import pickle
import timeit
from time import process_time
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from taskqueue_nb.fingerprint import digest, fingerprint_of, version_of

if TYPE_CHECKING:
    from collections.abc import Callable

REPEATS: Final = 7

LIMIT = 3


def plain(left: int, right: str = "") -> object:
    """Read nothing."""
    return left, right


def builtin(rows: list[int]) -> int:
    """Read builtins."""
    return len(rows) + max(rows)


def helper(number: int) -> bool:
    """Read a constant."""
    return number < LIMIT


def calling(number: int) -> bool:
    """Call a function that reads a constant."""
    return helper(number)


def closing(number: int) -> Callable[[], int]:
    """Return a function that closes over a plain value."""
    return lambda: number


def each(func: Callable[[], object], count: int = 100_000) -> float:
    """Return the microseconds that one call takes, less those of calling nothing."""
    empty = min(timeit.repeat(_nothing, number=count, repeat=REPEATS, timer=process_time))
    took = min(timeit.repeat(func, number=count, repeat=REPEATS, timer=process_time))
    return (took - empty) / count * 1e6


def _nothing() -> None:
    pass


def _calling_nothing() -> None:
    _nothing()


def first_sights(count: int = 300) -> tuple[float, float]:
    """Return what the first look at a function of 20 instructions costs, and its first digest."""
    namespace: dict[str, Any] = {"helper": helper, "LIMIT": 3}
    for place in range(count):
        text = f"def f{place}(x):\n    y = helper(x) + LIMIT\n    for i in range(x): y += i\n"
        exec(text + "    return y", namespace)  # noqa: S102 - new code each time
    functions = [namespace[f"f{place}"] for place in range(count)]
    began = process_time()
    versions = [version_of(function) for function in functions]
    looked = process_time()
    assert all(version is not None and version.parts for version in versions)
    return (looked - began) / count * 1e6, (process_time() - looked) / count * 1e6


def once(value: object) -> float:
    """Return the seconds that the digest of a large value takes."""
    return min(timeit.repeat(lambda: digest(value), number=1, repeat=3, timer=process_time))


def main() -> None:
    """Measure and print."""
    keep = [version_of(function) for function in (helper, calling)]
    closed = closing(1)
    print(f"a call                                  {each(_calling_nothing):8.2f}")
    print("version_of, seen before:")
    for name, function in (
        ("reads nothing", plain),
        ("reads builtins", builtin),
        ("closes over a plain value", closed),
        ("reads a global", helper),
        ("calls a function that reads one", calling),
    ):
        print(f"    {name:36}{each(lambda f=function: version_of(f)):8.2f}")  # type: ignore[misc]
    looked, digested = first_sights()
    print(f"version_of, first sight                 {looked:8.2f}")
    print(f"its first digests                       {digested:8.2f}")
    version = keep[1]
    took = fingerprint_of(calling, (1,), {})
    print("fingerprint_of, two small arguments:")
    two = (1, "a")
    bare = each(lambda: fingerprint_of(plain, two, {}), 20_000)
    print(f"    reads nothing                       {bare:8.2f}")
    known = each(lambda: fingerprint_of(calling, two, {}, version), 20_000)
    print(f"    with a version                      {known:8.2f}")
    print(f"its digest                              {each(lambda: took.digest, 20_000):8.2f}")
    numbers = list(range(1_000_000))
    rows = [(place, str(place), 1.5) for place in range(100_000)]
    deep = [{"name": str(place), "at": (place, 0.5)} for place in range(100_000)]
    array = np.arange(12_500_000, dtype="f8")
    print("digest, in seconds (beside pickle.dumps of the same):")
    for name, value in (
        ("1,000,000 ints", numbers),
        ("100,000 rows of three", rows),
        ("100,000 dicts with a tuple inside", deep),
        ("an array of 100 MB", array),
    ):
        began = process_time()
        pickle.dumps(value, 5)
        pickled = process_time() - began
        print(f"    {name:36}{once(value):8.3f} ({pickled:.3f})")


if __name__ == "__main__":
    main()
