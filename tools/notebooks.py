"""Open the tour in JupyterLab, write it as a page, or store the outputs of the notebooks.

The tour is copied first, without its outputs, so that the checkout stays as it is.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

import nbformat
from nbclient import NotebookClient

ROOT: Final = Path(__file__).resolve().parent.parent
NOTEBOOKS: Final = ROOT / "notebooks"
TOUR: Final = "01-tour.ipynb"
CELL_SECONDS: Final = 120
LIVE: Final = "application/vnd.jupyter.widget-view+json"
#: What the page would otherwise fetch from the network; it has no formulas and no live views.
NO_NETWORK: Final = dict.fromkeys(
    [
        "require_js_url",
        "jquery_url",
        "mathjax_url",
        "mermaid_js_url",
        "mermaid_layout_elk_js_url",
        "widget_renderer_url",
    ],
    "",
)


def main() -> int:
    """Do what is asked for: open, page or store."""
    match sys.argv[1:]:
        case ["open"]:
            return open_lab(Path(tempfile.mkdtemp(prefix="taskqueue-nb-tour-")))
        case ["page"]:
            print(f"The tour ran to its end: {write_page(ROOT / 'build' / 'demo')}")
        case ["page", folder]:
            print(f"The tour ran to its end: {write_page(Path(folder))}")
        case ["store"]:
            for path in sorted(NOTEBOOKS.glob("*.ipynb")):
                nbformat.write(executed(path), path)
                print(f"stored the outputs of {path}")
        case _:
            print("usage: notebooks.py open | page [FOLDER] | store")
            return 2
    return 0


def executed(path: Path) -> nbformat.NotebookNode:
    """Run a notebook from top to bottom; keep of its outputs what can be seen without a kernel."""
    notebook: nbformat.NotebookNode = nbformat.read(path, as_version=4)
    NotebookClient(
        notebook,
        timeout=CELL_SECONDS,
        resources={"metadata": {"path": str(path.parent)}},
        extra_arguments=["--IPKernelApp.log_level=ERROR"],  # it warns of TCP, here on loopback
    ).execute()
    notebook.metadata.pop("widgets", None)
    notebook.metadata.language_info.pop("version", None)
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = [one for one in cell.outputs if LIVE not in one.get("data", {})]
    return notebook


def copied(folder: Path) -> Path:
    """Copy the tour, with its outputs cleared, and its data into a folder."""
    shutil.copytree(NOTEBOOKS / "data", folder / "data", dirs_exist_ok=True)
    notebook = nbformat.read(NOTEBOOKS / TOUR, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    nbformat.write(notebook, folder / TOUR)
    return folder / TOUR


def write_page(folder: Path) -> Path:
    """Run the tour to its end and write it as one HTML file that needs no network."""
    from nbconvert import HTMLExporter  # noqa: PLC0415 - only this needs it, and it is slow

    path = copied(folder)
    notebook = executed(path)
    nbformat.write(notebook, path)
    text, _ = HTMLExporter(**NO_NETWORK).from_notebook_node(notebook)
    page = path.with_suffix(".html")
    page.write_text(text, encoding="utf-8")
    return page


def open_lab(folder: Path) -> int:
    """Open the tour in JupyterLab, on this machine alone."""
    path = copied(folder)
    displays = (os.environ.get("DISPLAY"), os.environ.get("WAYLAND_DISPLAY"))
    has_display = sys.platform != "linux" or any(displays)
    command = [
        sys.executable,
        "-m",
        "jupyterlab",
        "--ip=127.0.0.1",
        f"--LabApp.default_url=/lab/tree/{path.name}",
        "--log-level=WARN",  # the address is said in any case
    ]
    if not has_display:
        command.append("--no-browser")
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        command.append("--allow-root")  # in a container there is nobody else
    print(f"The tour is a copy in {folder}; what you change there stays there.")
    if has_display:
        print("JupyterLab opens in your browser; Ctrl+C ends it.", flush=True)
    else:
        print("No display here: open the http://127.0.0.1:… address that JupyterLab prints below.")
        print("Ctrl+C ends it.", flush=True)
    try:
        return subprocess.run(command, cwd=folder, check=False).returncode
    except KeyboardInterrupt:
        return 0


if __name__ == "__main__":
    sys.exit(main())
