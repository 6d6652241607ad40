"""The layout engine: found without a system Graphviz, and called so that it can do no harm.

An engine is a program that reads DOT and writes SVG. It may be missing, crash, hang, close its
input or write rubbish: then it is named in the sentence of `NoEngine`, and nothing else happens.
"""

from __future__ import annotations

import functools
import importlib.metadata
import os
import shutil
import signal
import subprocess
import threading
from pathlib import Path
from time import monotonic
from typing import IO, Final

SECONDS: Final = 10.0  # for one layout
LARGEST: Final = 20_000_000  # bytes of SVG that are looked at
_CHUNK: Final = 1 << 16
_SAID: Final = 300  # bytes of the engine's complaint that are repeated

ADVICE: Final = (
    "`pip install graphviz-pure` brings a layout engine, as does Graphviz from "
    "https://graphviz.org/download/"
)


class NoEngine(Exception):  # noqa: N818 - it reads as what it says: there is no engine
    """There is no layout engine that works.

    Parameters
    ----------
    sentence : str
        What is wrong and what to install, for the user.
    """

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence)
        self.sentence = sentence


class EngineError(Exception):
    """One engine gave no picture; the message says what it did instead."""


def engines() -> list[str]:
    """Return the engines to try, best first.

    `TASKQUEUE_NB_DOT` names the only one; else it is `dot` on the PATH, the most tried, then the
    program that the package graphviz-pure brings.
    """
    named = os.environ.get("TASKQUEUE_NB_DOT")
    if named:
        return [named]
    found = [shutil.which("dot"), _program_of_wheel()]
    # a relative path would be a program in the current directory, which is anybody's
    return [path for path in found if path is not None and Path(path).is_absolute()]


@functools.cache
def _program_of_wheel() -> str | None:
    try:
        files = importlib.metadata.files("graphviz-pure") or ()
    except importlib.metadata.PackageNotFoundError:
        return None
    for file in files:
        if file.name in ("graphviz-pure", "graphviz-pure.exe"):
            return os.path.normpath(str(file.locate()))
    return None


def run(engine: str, source: str, seconds: float = SECONDS) -> bytes:
    """Have one engine turn DOT into SVG.

    Parameters
    ----------
    engine : str
        The program.
    source : str
        The DOT.
    seconds : float
        The time after which the program and all that it started are ended.

    Returns
    -------
    bytes
        What it wrote.

    Raises
    ------
    EngineError
        If that is not to be had.
    """
    try:
        process = subprocess.Popen(  # noqa: S603 - a program of the user's own, without a shell
            [engine, "-Tsvg"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,  # so that whatever it starts can be ended with it
        )
    except (OSError, ValueError) as error:
        message = f"cannot be started ({type(error).__name__})"
        raise EngineError(message) from error
    call = _Call(process, source.encode())
    try:
        return call.answer(monotonic() + seconds, seconds)
    finally:
        call.end()


class _Call:
    """One child process with a thread per pipe, so that no full pipe can stop the others."""

    def __init__(self, process: subprocess.Popen[bytes], given: bytes) -> None:
        self._process = process
        self._wrote = bytearray()
        self._said = bytearray()
        self._overflowed = False
        pipes = process.stdin, process.stdout, process.stderr
        assert all(pipe is not None for pipe in pipes)  # noqa: S101 - they were all asked for
        stdin, stdout, stderr = pipes
        jobs = (self._give, stdin, given), (self._read, stdout), (self._hear, stderr)
        self._threads = [
            threading.Thread(target=job, args=args, name="taskqueue_nb layout", daemon=True)
            for job, *args in jobs
        ]
        for thread in self._threads:
            thread.start()

    @staticmethod
    def _give(pipe: IO[bytes], given: bytes) -> None:
        try:
            with pipe:
                pipe.write(given)
        except OSError:  # it closed its input: what it wrote tells whether that was well
            return

    def _read(self, pipe: IO[bytes]) -> None:
        with pipe:
            while chunk := pipe.read(_CHUNK):
                self._wrote += chunk
                if len(self._wrote) > LARGEST:
                    self._overflowed = True
                    self._kill()
                    return

    def _hear(self, pipe: IO[bytes]) -> None:
        with pipe:
            while chunk := pipe.read(_CHUNK):
                self._said += chunk[: _SAID - len(self._said)]

    def answer(self, deadline: float, seconds: float) -> bytes:
        """Wait for the end and return what was written."""
        for thread in self._threads:
            thread.join(max(0.0, deadline - monotonic()))
        try:
            code = self._process.wait(max(0.0, deadline - monotonic()))
        except subprocess.TimeoutExpired:
            code = None
        if self._overflowed:
            message = f"wrote more than {LARGEST // 1_000_000} MB"
            raise EngineError(message)
        if code is None or any(thread.is_alive() for thread in self._threads):
            message = f"gave no answer within {seconds:g} s"
            raise EngineError(message)
        if code:
            raise EngineError(_ended(code) + self._complaint())
        if not self._wrote:
            message = f"wrote nothing{self._complaint()}"
            raise EngineError(message)
        return bytes(self._wrote)

    def _complaint(self) -> str:
        said = " ".join(self._said.decode("utf-8", "replace").split())
        return f": {said[:_SAID]}" if said else ""

    def end(self) -> None:
        """Leave no process and no thread behind."""
        if self._process.poll() is None or any(t.is_alive() for t in self._threads):
            self._kill()
        self._process.wait()
        for thread in self._threads:
            thread.join(1.0)

    def _kill(self) -> None:
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except (AttributeError, OSError):  # Windows has no groups; or it has ended already
            self._process.kill()


def _ended(code: int) -> str:
    if code > 0:
        return f"ended with code {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"
