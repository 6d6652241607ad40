"""A real JupyterLab (or Notebook 7), driven by Playwright.

Environment
-----------
CHROMIUM               the browser; by default the one on the PATH
JUPYTER_APP            lab (default) or notebook
HEADED=1               show the window
SHOTS                  folder for screenshots; by default build/screenshots
TASKQUEUE_NB_KERNELS   folder of older ipykernels, each in a folder of its own that is made once;
                       by default build/kernels
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any, Final, Self

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook
from playwright.sync_api import Browser, Locator, Page, WebSocket, expect, sync_playwright

ROOT: Final = Path(__file__).parent.parent.parent
APP: Final = os.environ.get("JUPYTER_APP", "lab")
BROWSER_ARGS: Final = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
#: Notebook 7.6 says the first itself on every load; the second is JupyterLab's doubt about a frame
#: of the server's own, seen now and then.
_NOISE: Final = ("reading 'schema'", "Kernel message validation error")
_START_S: Final = 60.0
_WAIT_MS: Final = float(os.environ.get("BROWSER_WAIT_MS", "30000"))
expect.set_options(timeout=_WAIT_MS / 2)


def chromium() -> str | None:
    """Return the path of a browser, or nothing where there is none."""
    if given := os.environ.get("CHROMIUM"):
        return given if Path(given).exists() else None
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    return next((found for name in names if (found := shutil.which(name))), None)


def free_port() -> int:
    """Return a port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Server:
    """One Jupyter server with everything of its own: settings, workspace, runtime, kernels."""

    def __init__(
        self,
        home: Path,
        app: str = APP,
        settings: Mapping[str, Mapping[str, Any]] | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.home, self.app = home, app
        self.root = home / "notebooks"
        self.root.mkdir(parents=True, exist_ok=True)
        self.token = secrets.token_hex(16)
        self.url = ""
        self._log = home / "server.log"
        self._process: subprocess.Popen[bytes] | None = None
        folders = {
            "JUPYTER_CONFIG_DIR": "config",
            "JUPYTER_RUNTIME_DIR": "runtime",
            "JUPYTER_DATA_DIR": "data",
            "IPYTHONDIR": "ipython",
            "JUPYTERLAB_SETTINGS_DIR": "settings",
            "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
        }
        self.env = dict(os.environ, PYDEVD_DISABLE_FILE_VALIDATION="1")
        self.env.update({name: str(home / folder) for name, folder in folders.items()})
        self.env["PYTHONPATH"] = os.pathsep.join(
            part for part in (str(ROOT), self.env.get("PYTHONPATH", "")) if part
        )
        self.env.update(env or {})
        calm: dict[str, Mapping[str, Any]] = {  # no news over the page, no saving amid a test
            "@jupyterlab/apputils-extension/notification": {
                "fetchNews": "false",
                "checkForUpdates": False,
                "doNotDisturbMode": True,
            },
            "@jupyterlab/docmanager-extension/plugin": {"autosave": False},
        }
        for name, value in {**calm, **(settings or {})}.items():
            path = home / "settings" / f"{name}.jupyterlab-settings"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(value))

    def start(self) -> Self:
        """Start the server and wait until it answers."""
        module, exposing = {
            "lab": ("jupyterlab", "LabApp"),
            "notebook": ("notebook", "JupyterNotebookApp"),
        }[self.app]
        for _ in range(3):  # the free port may be taken between the look and the start
            port = free_port()
            self.url = f"http://127.0.0.1:{port}"
            with self._log.open("ab") as log:
                self._process = subprocess.Popen(
                    [
                        sys.executable, "-m", module, "--no-browser", "--allow-root",
                        "--ip=127.0.0.1", f"--port={port}", "--ServerApp.port_retries=0",
                        f"--IdentityProvider.token={self.token}",
                        f"--ServerApp.root_dir={self.root}",
                        f"--{exposing}.expose_app_in_browser=True",
                    ],
                    env=self.env, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                    start_new_session=True,
                )  # fmt: skip
            end = time.monotonic() + _START_S
            while time.monotonic() < end and self._process.poll() is None:
                try:
                    self.api("status")
                except OSError:  # it does not listen yet; there is nothing else to wait on
                    time.sleep(0.1)
                else:
                    return self
            self.stop()
        raise RuntimeError(f"the Jupyter server did not start:\n{self.log()[-4000:]}")

    def log(self) -> str:
        """Return what the server said."""
        return self._log.read_text(errors="replace")

    def api(self, path: str, method: str = "GET") -> Any:
        """Ask the server's REST interface."""
        request = urllib.request.Request(  # noqa: S310 - our own server
            f"{self.url}/api/{path}",
            method=method,
            headers={"Authorization": f"token {self.token}"},
        )
        with urllib.request.urlopen(request, timeout=10) as response:  # noqa: S310 - as above
            body = response.read()
        return json.loads(body) if body else None

    def shutdown_sessions(self) -> None:
        """End every kernel."""
        for session in self.api("sessions"):
            with suppress(urllib.error.HTTPError):  # it has ended by itself
                self.api(f"sessions/{session['id']}", "DELETE")

    def stop(self) -> None:
        """End the server and its kernels."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.send_signal(signal.SIGTERM)  # no question is asked then
        try:
            self._process.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(5)

    def add_kernel(self, name: str, path: Path) -> None:
        """Add a kernel that finds its packages in a folder first."""
        spec = {
            "argv": [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
            "display_name": name,
            "language": "python",
            "env": {"PYTHONPATH": os.pathsep.join([str(path), self.env["PYTHONPATH"]])},
        }
        folder = self.home / "data" / "kernels" / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "kernel.json").write_text(json.dumps(spec))

    def write(self, name: str, cells: Sequence[Any], kernel: str = "python3") -> Path:
        """Write a notebook of cells: sources of code, or cells of nbformat."""
        made = new_notebook(
            cells=[new_code_cell(cell) if isinstance(cell, str) else cell for cell in cells],
            metadata={"kernelspec": {"name": kernel, "display_name": kernel, "language": "python"}},
        )
        path = self.root / name
        nbformat.write(made, path)
        return path


class Notebook:
    """An open notebook. Everything is waited for by what the page says, never by sleeping."""

    def __init__(self, page: Page, server: Server, name: str) -> None:
        self.page, self.server, self.name = page, server, name

    def open(self, *, kernel: bool = True) -> Self:
        """Open it and wait until its cells are there and its kernel is idle."""
        where = {"lab": "doc/tree", "notebook": "notebooks"}[self.server.app]
        self.page.goto(f"{self.server.url}/{where}/{self.name}?token={self.server.token}")
        self.page.wait_for_function("() => !!window.jupyterapp", timeout=_WAIT_MS)
        expect(self.page.locator(".jp-Notebook .jp-Cell").first).to_be_visible(timeout=_WAIT_MS)
        if kernel:
            self.wait_idle()
        return self

    def js(self, body: str, arg: Any = None) -> Any:
        """Run JavaScript with `app`, `panel` (the notebook's) and `arg` in scope."""
        return self.page.evaluate(
            "async (arg) => { const app = window.jupyterapp;"
            f" const panel = app.shell.currentWidget; {body} }}",
            arg,
        )

    def wait_idle(self, timeout_ms: float = _WAIT_MS) -> None:
        """Wait until the kernel is connected and idle.

        The page's own `data-status="idle"` is no proof: it says so before there is a kernel.
        """
        self.page.wait_for_function(
            "() => { const c = window.jupyterapp.shell.currentWidget?.sessionContext;"
            " const k = c?.session?.kernel;"
            " return c?.isReady && k?.connectionStatus === 'connected' && k.status === 'idle'; }",
            timeout=timeout_ms,
        )

    def start_cell(self, number: int) -> None:
        """Start a cell and return at once."""
        self.js(
            "panel.content.activeCellIndex = arg; panel.content.deselectAll();"
            "const runs = (window.__runs ??= {}); const run = (runs[arg] = { done: false });"
            "const end = () => { run.done = true; };"
            "void app.commands.execute('notebook:run-cell').then(end, end);",
            number,
        )

    def running(self, number: int) -> bool:
        """Whether the run started by `start_cell` is still going on."""
        return bool(self.page.evaluate("(i) => window.__runs?.[i]?.done === false", number))

    def wait_cell(self, number: int, timeout_ms: float = _WAIT_MS) -> None:
        """Wait until the run started by `start_cell` has ended."""
        self.page.wait_for_function(
            "(i) => window.__runs?.[i]?.done === true", arg=number, timeout=timeout_ms
        )

    def run_cell(self, number: int, timeout_ms: float = _WAIT_MS, *, check: bool = True) -> None:
        """Run a cell to its end; an error in it fails the test."""
        self.start_cell(number)
        self.wait_cell(number, timeout_ms)
        if check and (error := self.error(number)):
            raise AssertionError(f"cell {number} failed:\n{error}")

    def run_all(self) -> None:
        """Run all cells of code."""
        for number in range(self.js("return panel.content.widgets.length")):
            if self.js("return panel.content.widgets[arg].model.type", number) == "code":
                self.run_cell(number)

    def cell(self, number: int) -> Locator:
        """Return a cell."""
        return self.page.locator(f".jp-Notebook .jp-Cell[data-windowed-list-index='{number}']")

    def outputs(self, number: int) -> Locator:
        """Return the outputs of a cell."""
        return self.cell(number).locator(".jp-OutputArea-output")

    def text(self, number: int) -> str:
        """Return what a cell's outputs say."""
        return "\n".join(self.outputs(number).all_inner_texts()).strip()

    def model_outputs(self, number: int) -> list[dict[str, Any]]:
        """Return the outputs as they would be saved."""
        found: list[dict[str, Any]] = self.js(
            "return panel.content.widgets[arg].model.sharedModel.getOutputs()", number
        )
        return found

    def error(self, number: int) -> str:
        """Return the traceback of a cell, or nothing."""
        for output in self.model_outputs(number):
            if output["output_type"] == "error":
                return "\n".join(output["traceback"])
        return ""

    def evaluate(self, code: str) -> str:
        """Run code in the kernel, beside the cells, and return what it printed."""
        found: str = self.js(
            "const future = panel.sessionContext.session.kernel.requestExecute({code: arg});"
            "let text = ''; future.onIOPub = (m) => { text += m.content.text ?? '';"
            "  if (m.header.msg_type === 'error') text += m.content.traceback.join('\\n'); };"
            "await future.done; return text.trim();",
            code,
        )
        return found

    def theme(self, name: str) -> None:
        """Change to a theme, such as "JupyterLab Dark"."""
        self.js("await app.commands.execute('apputils:change-theme', {theme: arg})", name)
        self.page.wait_for_function(
            "(n) => document.body.dataset.jpThemeName === n", arg=name, timeout=_WAIT_MS
        )

    def restart(self) -> None:
        """Restart the kernel."""
        self.js("await panel.sessionContext.restartKernel()")
        self.wait_idle()

    def save(self) -> nbformat.NotebookNode:
        """Save, and return what was saved."""
        self.js("await panel.context.save()")
        saved: nbformat.NotebookNode = nbformat.read(self.server.root / self.name, as_version=4)
        return saved


class Traffic:
    """The messages of a page's kernels, counted; make it before the notebook is opened."""

    def __init__(self, page: Page) -> None:
        self.received: list[str | bytes] = []
        page.on("websocket", self._on)

    def _on(self, socket: WebSocket) -> None:
        if "/channels" in socket.url:
            socket.on("framereceived", self._receive)

    def _receive(self, frame: str | bytes) -> None:
        self.received.append(frame)

    def updates(self) -> list[int]:
        """Return the size of each message that changed the traits of a widget."""
        frames = [f.encode() if isinstance(f, str) else f for f in self.received]
        return [len(f) for f in frames if b'"comm_msg"' in f and b'"update"' in f]


# -- fixtures -------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Start the browser once."""
    path = chromium()
    if path is None:
        message = "no Chromium was found: apt-get install chromium, or name one by CHROMIUM=/path"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(
            executable_path=path, args=BROWSER_ARGS, headless=not os.environ.get("HEADED")
        )
        yield started
        started.close()


@pytest.fixture(scope="session")
def jupyter_server(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Start the server once; without a browser there is no use for it."""
    server = Server(tmp_path_factory.mktemp("jupyter")).start()
    yield server
    server.stop()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """Open a page; whatever it complains of fails the test."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, reduced_motion="reduce")
    opened = context.new_page()
    opened.set_default_timeout(_WAIT_MS)
    errors: list[str] = []
    opened.on("pageerror", lambda error: errors.append(str(error)))
    opened.on("console", lambda said: errors.append(said.text) if said.type == "error" else None)
    yield opened
    context.close()
    assert [e for e in errors if not any(noise in e for noise in (*_NOISE, *_EXPECTED))] == []


_EXPECTED: Final = (
    "model not found",  # said by the widget manager once a kernel is gone
    "Failed to fetch",  # a page that was taken offline goes on asking
    "Failed to load resource",  # a kernel that was shut down is asked for once more
    "WebSocket",  # its connection ends
    "debugger state: Canceled",  # asked of a kernel that was shut down meanwhile
)

MakeNotebook = Callable[..., Notebook]


@pytest.fixture
def notebook(
    page: Page, jupyter_server: Server, request: pytest.FixtureRequest
) -> Iterator[MakeNotebook]:
    """Make notebooks of cells, each opened with a kernel that is idle."""
    made: list[Notebook] = []

    def make(cells: Sequence[Any], kernel: str = "python3") -> Notebook:
        test = "".join(c if c.isalnum() else "-" for c in request.node.name)[:60]
        name = f"{test}-{len(made)}.ipynb"
        jupyter_server.write(name, cells, kernel)
        made.append(Notebook(page, jupyter_server, name).open())
        return made[-1]

    yield make
    jupyter_server.shutdown_sessions()


def _ipykernel(version: str) -> Path:
    """Return a folder that holds one version of ipykernel; all else is found where it always is."""
    kernels = Path(os.environ.get("TASKQUEUE_NB_KERNELS") or ROOT / "build" / "kernels")
    folder = kernels / version
    if (folder / ".ready").exists():
        return folder
    made = subprocess.run(
        [
            sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--upgrade",
            "--disable-pip-version-check", "--target", str(folder),
            f"ipykernel=={version}", "nest-asyncio",  # which newer ones no longer need
        ],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if made.returncode:
        message = f"ipykernel {version} could not be installed in {folder}: {made.stderr}"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    (folder / ".ready").touch()
    return folder


@pytest.fixture(scope="session")
def kernel_of(jupyter_server: Server) -> Callable[[str], str]:
    """Return what gives the name of a kernel with a version of ipykernel."""
    known: dict[str, str] = {metadata.version("ipykernel"): "python3"}

    def kernel(version: str) -> str:
        if version not in known:
            known[version] = f"ipykernel-{version}"
            jupyter_server.add_kernel(known[version], _ipykernel(version))
        return known[version]

    return kernel


@pytest.fixture(scope="session")
def shots() -> Path:
    """Return the folder for screenshots."""
    folder = Path(os.environ.get("SHOTS") or ROOT / "build" / "screenshots")
    folder.mkdir(parents=True, exist_ok=True)
    return folder
