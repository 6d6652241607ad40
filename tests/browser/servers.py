"""Front ends that are no Jupyter server: Voila and marimo, each on a port of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, Self

from browser.conftest import ROOT, free_port

_START_S: Final = 60.0


class Served:
    """A program that serves pages on loopback.

    Parameters
    ----------
    home : Path
        Where it has its settings, its log and everything else that it writes.
    command : callable
        The arguments of the program for a port.
    env : mapping
        Further variables of its environment.
    """

    def __init__(
        self, home: Path, command: Callable[[int], Sequence[str]], env: Mapping[str, str]
    ) -> None:
        self.url = ""
        self._home, self._command = home, command
        self._env = {**os.environ, "PYTHONPATH": str(ROOT), **env}
        self._log = home / "server.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        """Start it, and wait until it answers."""
        for _ in range(3):  # the free port may be taken between the look and the start
            port = free_port()
            self.url = f"http://127.0.0.1:{port}"
            with self._log.open("ab") as log:
                self._process = subprocess.Popen(
                    self._command(port), env=self._env, cwd=self._home,
                    stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                )  # fmt: skip
            end = time.monotonic() + _START_S
            while time.monotonic() < end and self._process.poll() is None:
                if self._answers():
                    return self
                time.sleep(0.1)  # it does not listen yet; there is nothing else to wait on
            self.stop()
        raise RuntimeError(f"{self._command(0)} did not start:\n{self._log.read_text()[-4000:]}")

    def _answers(self) -> bool:
        try:
            # a page that does not exist: a notebook that is asked for is run
            urllib.request.urlopen(f"{self.url}/static/nothing", timeout=10).close()  # noqa: S310 - our own server
        except urllib.error.HTTPError:
            return True
        except OSError:
            return False
        return True

    def stop(self) -> None:
        """End it and the kernels that it started."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(5)
