"""Open the tour in JupyterLab; with HEADLESS=1 run it to its end and write it as a page.

The notebook is copied first, without its outputs, so that the checkout stays as it is.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
TOUR: Final = "01-tour.ipynb"
CELL_SECONDS: Final = 120
# What the page would otherwise fetch from the network; it has no formulas and no live widget.
NO_NETWORK: Final = dict.fromkeys(
    ["require_js_url", "jquery_url", "mathjax_url", "mermaid_js_url", "widget_renderer_url"], ""
)


def copied(folder: Path) -> Path:
    """Copy the notebook, with its outputs cleared, and its data into a folder."""
    import nbformat  # noqa: PLC0415 - the sentence of main() comes first where it is missing

    shutil.copytree(ROOT / "notebooks" / "data", folder / "data", dirs_exist_ok=True)
    notebook = nbformat.read(ROOT / "notebooks" / TOUR, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    nbformat.write(notebook, folder / TOUR)
    return folder / TOUR


def write_page(folder: Path) -> Path:
    """Run the notebook from top to bottom and write it as one HTML file that needs no network."""
    import nbformat  # noqa: PLC0415 - as above
    from nbclient import NotebookClient  # noqa: PLC0415
    from nbconvert import HTMLExporter  # noqa: PLC0415

    path = copied(folder)
    # A page has no kernel, so the live view is left out, and its still picture stands alone.
    environment = {**os.environ, "TASKQUEUE_NB_STATIC": "1"}
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=CELL_SECONDS,
        resources={"metadata": {"path": str(folder)}},
        extra_arguments=["--IPKernelApp.log_level=ERROR"],  # on this machine alone, TCP is fine
    )
    client.execute(env=environment)
    nbformat.write(notebook, path)
    text, _ = HTMLExporter(**NO_NETWORK).from_notebook_node(notebook)
    page = path.with_suffix(".html")
    page.write_text(text, encoding="utf-8")
    return page


def open_lab(folder: Path) -> int:
    """Open the notebook in JupyterLab, on this machine alone."""
    path = copied(folder)
    shown = sys.platform != "linux" or any(
        os.environ.get(k) for k in ("DISPLAY", "WAYLAND_DISPLAY")
    )
    command = [sys.executable, "-m", "jupyterlab", path.name, "--ip=127.0.0.1"]
    if not shown:
        command.append("--no-browser")
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        command.append("--allow-root")  # in a container there is nobody else
    print(f"The tour is a copy in {folder}; what you change there stays there.")
    print(
        "JupyterLab opens in your browser."
        if shown
        else "No display here: open the http://127.0.0.1:… address that JupyterLab prints.",
        "Ctrl+C ends it.",
        flush=True,
    )
    try:
        return subprocess.run(command, cwd=folder, check=False).returncode
    except KeyboardInterrupt:
        return 0


def main() -> int:
    """Do what the environment asks for."""
    if os.environ.get("HEADLESS", "0") not in ("", "0"):
        folder = Path(os.environ.get("DEMO_FOLDER") or ROOT / "build" / "demo")
        folder.mkdir(parents=True, exist_ok=True)
        print(f"The tour ran to its end: {write_page(folder)}")
        return 0
    return open_lab(Path(tempfile.mkdtemp(prefix="taskqueue-nb-tour-")))


if __name__ == "__main__":
    sys.exit(main())
