"""README tells the truth: its code runs, its links lead somewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parent.parent
README: Final = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES: Final = sorted(
    path.relative_to(ROOT) for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]
)
LINK: Final = re.compile(r"""\]\(([^)\s]+)\)|(?:src|srcset|href)="([^"]+)\"""")


def blocks(language: str) -> list[str]:
    """Return the fenced blocks of one language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)


def test_the_code_of_readme_says_what_readme_says(tmp_path: Path) -> None:
    """The Python of README, run as one program, prints what stands beside and below it."""
    program = "\n".join(blocks("python"))
    promised = "".join(blocks("text"))

    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        capture_output=True, text=True, cwd=tmp_path, timeout=60, check=False,
    )  # fmt: skip

    assert run.returncode == 0, run.stderr
    assert run.stdout == promised


def test_the_tree_of_readme_is_what_ipython_shows(tmp_path: Path) -> None:
    """Shown before the repair, the queue of README is the tree that stands there."""
    program = blocks("python")[0].split("queue.repair")[0] + "\nqueue\n"
    promised = blocks("console")[0].splitlines()

    run = subprocess.run(
        [sys.executable, "-m", "IPython", "--no-banner", "--colors=nocolor", "-c", program],
        capture_output=True, text=True, cwd=tmp_path, timeout=60, check=False,
        env={**os.environ, "IPYTHONDIR": str(tmp_path), "PYTHONUTF8": "1"},
    )  # fmt: skip

    shown = run.stdout.partition("Out[0]: ")[2].splitlines()
    assert shown[:1] == promised[:1], run.stderr
    assert sorted(shown) == sorted(promised)  # islands may stand in either order


def test_the_first_lines_are_the_two_commands() -> None:
    """Whoever opens README sees first what to type."""
    head = README.split("\n## ")[0]

    assert "make demo" in head
    assert "make test" in head
    assert head.index("make demo") < 400


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_links_lead_somewhere(page: Path) -> None:
    """Every link to a file of the project names a file that is there."""
    text = (ROOT / page).read_text(encoding="utf-8")
    targets = {one or other for one, other in LINK.findall(text)}

    lost = {
        target
        for target in targets
        if not re.match(r"[a-z]+:|#", target)
        and not (ROOT / page.parent / target.split("#")[0]).exists()
    }

    assert lost == set()
