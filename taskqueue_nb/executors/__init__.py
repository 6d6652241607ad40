"""Where tasks run: here, in threads, in worker processes, in any `concurrent.futures.Executor`.

`trip` is the one road of a task that goes elsewhere, `processes` the engine of our own that can end
what it started, `dask` the one whose results stay where they were made.
"""

from __future__ import annotations

import os
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from taskqueue_nb.executors.trip import Place, TravelError, WorkerError
from taskqueue_nb.fsm import shorten

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import ThreadPoolExecutor

    from taskqueue_nb.executors.dask import Dask
    from taskqueue_nb.executors.processes import Processes
    from taskqueue_nb.task import Task

__all__ = ["Place", "Places", "TravelError", "WorkerError", "check_executor", "process_count"]

PROCESSES: Final = "processes"
_NEEDED: Final = {"processes": ("pebble", "cloudpickle"), "dask": ("distributed",)}  # by extra


class Places:
    """The executors of one run, each known by what the user gave."""

    def __init__(self) -> None:
        self._known: dict[Any, Place] = {}
        self._threads: list[ThreadPoolExecutor] = []
        self._engines: list[Processes | Dask] = []
        self._line: Callable[..., Any] = deque  # in which parked tasks stand

    def of(self, executor: Any) -> Place:
        """Return the place for an executor; the same one for the same executor.

        Raises
        ------
        TypeError
            If it is nothing that could run a function.
        """
        key = executor if isinstance(executor, (int, str)) else id(executor)
        if key not in self._known:
            self._known[key] = self._made(executor)
            self._known[key].parked = self._line()
        return self._known[key]

    def stand_in(self, line: Callable[..., Any]) -> None:
        """Have parked tasks stand in a line of this kind, those who do already, too."""
        self._line = line
        for place in self:
            place.parked = line(place.parked)

    def _made(self, executor: Any) -> Place:
        from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415 - rarely needed

        check_executor(executor)
        if isinstance(executor, str):
            from taskqueue_nb.executors.processes import Processes  # noqa: PLC0415 - likewise

            self._engines.append(Processes(process_count(executor)))
            return self._engines[-1]
        if is_dask_client(executor):
            from taskqueue_nb.executors.dask import Dask  # noqa: PLC0415 - likewise

            self._engines.append(Dask(executor))
            return self._engines[-1]
        if isinstance(executor, int):
            executor = ThreadPoolExecutor(executor, thread_name_prefix="taskqueue_nb")
            self._threads.append(executor)
        if callable(submit := getattr(executor, "submit", None)):
            workers = getattr(executor, "_max_workers", None) or (os.cpu_count() or 1)
            return Place(submit, workers, is_here=isinstance(executor, ThreadPoolExecutor))
        submit = executor.defer if callable(getattr(executor, "defer", None)) else executor
        return Place(lambda func, *args: submit(lambda: func(*args)), None, is_here=True)

    def unpark(self, ready: Any) -> bool:
        """Make a parked task ready wherever there is room for one; say whether there was any.

        Each task that comes back makes room for one, but that may have been cancelled meanwhile.
        """
        found = False
        for place in self._known.values():
            if place.parked and (task := place.let_out()) is not None:
                ready.appendleft(task)
                found = True
        return found

    def clear(self) -> list[Task]:
        """Let nobody wait for room any longer; return who did."""
        parked = [task for place in self for task in place.parked]
        for place in self:
            place.parked = self._line()
        return parked

    def recall(self) -> list[Task]:
        """Return what waits behind others, withdrawn and still QUEUED; the lock is held."""
        return [task for engine in self._engines for task in engine.recall()]

    def close(self) -> None:
        """End the pools that the run made itself; what processes still do ends with them."""
        for pool in self._threads:
            pool.shutdown(wait=False)
        for engine in self._engines:
            engine.close()

    def __iter__(self) -> Iterator[Place]:
        return iter(self._known.values())


def process_count(executor: str) -> int:
    """Return how many workers a text such as "processes" or "processes:4" asks for.

    Raises
    ------
    ValueError
        If it is no such text.
    """
    word, colon, number = executor.partition(":")
    if word == PROCESSES and not colon:
        usable = getattr(os, "sched_getaffinity", None)
        return len(usable(0)) if usable else os.cpu_count() or 1
    if word == PROCESSES and number.isascii() and number.isdigit() and int(number) > 0:
        return int(number)
    message = (
        f'executor is a number of threads, "{PROCESSES}" or "{PROCESSES}:4" for 4 worker '
        f"processes, not {shorten(executor)}"
    )
    raise ValueError(message)


def check_executor(executor: Any) -> None:
    """Refuse what could run nothing.

    Raises
    ------
    ValueError
        If it is a number below one, or a text that asks for no processes.
    TypeError
        If it is nothing that runs functions.
    ImportError
        If processes are asked for, and what they need is not installed.
    """
    if isinstance(executor, str):
        process_count(executor)
        _check_installed(f'executor="{PROCESSES}"', "processes")
        return
    if is_dask_client(executor):
        _check_client(executor)
        return
    if isinstance(executor, int) and not isinstance(executor, bool):
        if executor < 1:
            message = f"executor is a number of threads, at least 1, not {executor}"
            raise ValueError(message)
        return
    if executor is None or isinstance(executor, type):
        runs = executor is None
    else:
        runs = any(
            callable(getattr(executor, name, None)) for name in ("submit", "defer", "__call__")
        )
    if not runs:
        message = (
            f'executor is None, a number of threads, "{PROCESSES}", a distributed.Client, a '
            "concurrent.futures.Executor, an object with defer(), or a callable that takes a "
            f"function, not "
            f"{shorten(executor)}"
        )
        raise TypeError(message)


def is_dask_client(executor: object) -> bool:
    """Say whether this is a client of a Dask cluster, without importing what it comes from."""
    return any(
        kind.__name__ == "Client" and kind.__module__.partition(".")[0] == "distributed"
        for kind in type(executor).__mro__
    )


def _check_client(client: Any) -> None:
    _check_installed("a Dask client as executor", "dask")
    if getattr(client, "_asynchronous", False):
        message = (
            "a client made with asynchronous=True cannot be waited for in a thread: "
            "give distributed.Client(address) without it"
        )
        raise TypeError(message)


def _check_installed(what: str, extra: str) -> None:
    from importlib.util import find_spec  # noqa: PLC0415 - few executors need it

    missing = [name for name in _NEEDED[extra] if find_spec(name) is None]
    if missing:
        message = f"{what} needs {' and '.join(missing)}: pip install 'taskqueue-nb[{extra}]'"
        raise ImportError(message, name=missing[0])
