"""SIGKILL at any moment loses at most what was running."""

from __future__ import annotations

import pickle
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

import killed
from stores import environment, query

PROGRAM = Path(__file__).parent / "killed.py"
HOWS = ("caller", "threads", "start")


class Watched:
    """One life after another in one folder, each killed at a drawn moment, until one ends."""

    def __init__(self, folder: Path, draw: random.Random) -> None:
        folder.mkdir(mode=0o700)
        self.folder, self.draw = folder, draw
        self.kills = 0
        self.told: dict[str, int] = {}  # acknowledged task -> how often it had been called by then

    def lines(self, file: str) -> list[str]:
        """Return what the lives noted in a file."""
        path = self.folder / file
        return path.read_text().splitlines() if path.exists() else []

    def live(self, longest: float | None = None) -> bool:
        """Run once, killing it at a moment drawn up to `longest`; say whether it was killed."""
        how = self.draw.choice(HOWS)
        moment = 60.0 if longest is None else self.draw.uniform(0.02, longest)
        process = subprocess.Popen(
            [sys.executable, str(PROGRAM), str(self.folder), how],
            env=environment(),
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            _, said = process.communicate(timeout=moment)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            _, said = process.communicate(timeout=20)
        if process.returncode == -signal.SIGKILL:
            self.kills += 1
            return True
        assert process.returncode == 0, said
        return False

    def check(self) -> None:
        """Check what is on the disk now."""
        effects = Counter(self.lines("effects"))
        path = self.folder / "run.tq"
        rows: dict[str, tuple[str, bytes | None]] = {}
        if path.exists():
            assert query(path, "PRAGMA integrity_check") == [("ok",)]
            found = query(
                path,
                "SELECT CAST(name AS TEXT), state, data FROM tasks LEFT JOIN results "
                "ON results.id = tasks.result",
            )
            rows = {name: (state, data) for name, state, data in found}
        for name in self.lines("acknowledged"):
            self.told.setdefault(name, effects[name])
        for name, (state, data) in rows.items():
            if state == "DONE":
                assert data is not None, f"{name} is DONE without a value"
                assert pickle.loads(data) == (name, killed.expected()[name])  # noqa: S301 - ours
        for name, calls in self.told.items():
            assert rows[name][0] == "DONE", f"{name} was acknowledged, and is {rows[name][0]}"
            assert effects[name] == calls, f"{name} was acknowledged, and called again"
        for name, count in effects.items():
            assert count <= 1 + self.kills, f"{name} was called {count} times, {self.kills} kills"

    def check_end(self) -> None:
        """Check that the whole is done, as if nobody had been killed."""
        effects = self.lines("effects")
        assert set(effects) == set(killed.graph())
        states = query(self.folder / "run.tq", "SELECT state, count(*) FROM tasks GROUP BY state")
        assert states == [("DONE", len(killed.graph()))]


def test_a_run_that_nobody_kills_calls_each_function_once(tmp_path: Path) -> None:
    """The program itself is right, and a second life of it has nothing to do."""
    watched = Watched(tmp_path / "life", random.Random(1))

    for _ in range(2):
        assert not watched.live()
        watched.check()

    assert Counter(watched.lines("effects")) == dict.fromkeys(killed.graph(), 1)


def _rounds(folder: Path, seed: int, kills: int) -> int:
    """Kill until there were so many; return how many lives ended by themselves."""
    draw = random.Random(seed)
    begun = time.monotonic()
    watched = Watched(folder / "timed", draw)
    assert not watched.live()
    longest = 1.15 * (time.monotonic() - begun)  # of a whole life, on this machine and now
    ended = total = 0
    while total < kills:
        watched = Watched(folder / f"{seed}-{ended}", draw)
        while watched.live(longest if total + watched.kills < kills else None):
            watched.check()
        watched.check()
        watched.check_end()
        total += watched.kills
        ended += 1
    return ended


def test_a_few_kills_lose_nothing(tmp_path: Path) -> None:
    """Ten kills, so that `make check` sees what breaks at once."""
    assert _rounds(tmp_path, seed=7, kills=10) >= 1


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", range(4))
def test_two_hundred_kills_lose_nothing(seed: int, tmp_path: Path) -> None:
    """At any of 200 moments: the store opens, is whole, and no result is lost or wrong."""
    assert _rounds(tmp_path, seed=seed, kills=50) >= 1
