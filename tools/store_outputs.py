"""Run every notebook from top to bottom and store its outputs, with which nbval compares.

What a reader without kernel cannot see (the live views and their state) is left out.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

import nbformat
from nbclient import NotebookClient

NOTEBOOKS: Final = Path(__file__).resolve().parent.parent / "notebooks"
CELL_SECONDS: Final = 120
LIVE: Final = "application/vnd.jupyter.widget-view+json"


def main() -> int:
    """Do it for the notebooks named, or for all."""
    for path in [Path(name) for name in sys.argv[1:]] or sorted(NOTEBOOKS.glob("*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        where = {"metadata": {"path": str(path.parent)}}
        NotebookClient(notebook, timeout=CELL_SECONDS, resources=where).execute()
        notebook.metadata.pop("widgets", None)
        notebook.metadata.language_info.pop("version", None)
        for cell in notebook.cells:
            cell.metadata.pop("execution", None)
            if cell.cell_type == "code":
                cell.outputs = [one for one in cell.outputs if LIVE not in one.get("data", {})]
        nbformat.write(notebook, path)
        print(f"stored the outputs of {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
