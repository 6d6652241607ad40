"""The demonstration in the terminal tells the truth."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from taskqueue_nb.__main__ import main


def test_demonstration_fails_repairs_and_finishes(capsys: pytest.CaptureFixture[str]) -> None:
    """It shows the failure with its cause, and runs only what had to run again."""
    assert main([]) == 0

    shown = capsys.readouterr().out
    before, failed, repaired = shown.split("\nqueue.")
    assert "done" not in before
    assert "ValueError" in failed
    assert "failed" not in repaired
    assert "The report says: smallest 17.4, largest 20.6, mean 19.0." in shown
    second_time = shown.partition("The second time ran: ")[2].partition(".")[0].split(", ")
    assert second_time[0] == "parse"
    assert "load" not in second_time
    assert second_time[-1] == "report"


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_demonstration_runs_in_any_terminal(encoding: str) -> None:
    """A terminal that knows no glyphs shows something else in their place."""
    environment = {**os.environ, "PYTHONIOENCODING": encoding}

    done = subprocess.run(
        [sys.executable, "-m", "taskqueue_nb"], capture_output=True, env=environment, check=False
    )

    assert done.returncode == 0, done.stderr.decode()
    assert b"The report says" in done.stdout
