"""The project around the package: what is shipped and promised, and the scripts of make."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parent.parent
PROJECT: Final = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PACKAGE: Final = ROOT / "taskqueue_nb"
HEAVY: Final = (
    "IPython", "anywidget", "cloudpickle", "distributed", "graphviz", "ipywidgets", "numpy",
    "pebble", "rich", "traitlets",
)  # fmt: skip


def run(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command in the checkout and return all that it said."""
    return subprocess.run(
        command, cwd=ROOT, env={**os.environ, **environment}, text=True, timeout=240, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """Build the wheel that would be published."""
    folder = tmp_path_factory.mktemp("wheel")
    built = run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder))
    assert built.returncode == 0, built.stdout
    return zipfile.ZipFile(next(folder.glob("*.whl")))


def test_the_wheel_holds_the_whole_package(wheel: zipfile.ZipFile) -> None:
    """Whatever stands in the package is shipped: modules, py.typed, the widget's files."""
    here = {
        path.relative_to(ROOT).as_posix()
        for path in PACKAGE.rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }

    shipped = {name for name in wheel.namelist() if ".dist-info/" not in name}

    assert shipped == here
    assert {"taskqueue_nb/py.typed", "taskqueue_nb/static/graph.js"} <= shipped


def test_the_wheel_runs_everywhere(wheel: zipfile.ZipFile) -> None:
    """It is pure Python, for any system, and names its licence."""
    metadata = next(name for name in wheel.namelist() if name.endswith("/METADATA"))

    text = wheel.read(metadata).decode()

    assert Path(str(wheel.filename)).name.endswith("-py3-none-any.whl")
    assert "License-Expression: BSD-3-Clause" in text
    assert "Requires-Python: >=3.11" in text


def test_the_core_needs_the_standard_library_only() -> None:
    """Importing the package and running a queue loads nothing that is heavy."""
    program = (
        "import sys; from taskqueue_nb import Task, TaskQueue\n"
        "list(TaskQueue(Task('one', list)).run())\n"
        f"print(sorted(set({HEAVY!r}) & set(sys.modules)))"
    )

    said = run(sys.executable, "-c", program)

    assert said.stdout.strip() == "[]"


def test_the_version_stands_in_the_changelog() -> None:
    """The version, or what is not released yet, has its section."""
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")

    headings = re.findall(r"^## \[([^\]]+)\]", changelog, flags=re.MULTILINE)

    assert headings[0] in ("Unreleased", PROJECT["project"]["version"])


def test_every_dependency_has_its_reason() -> None:
    """No requirement stands in pyproject.toml without a comment beside it."""
    lines = (ROOT / "pyproject.toml").read_text(encoding="utf-8").splitlines()
    start, end = lines.index("dependencies = ["), lines.index("[tool.hatch.build.targets.wheel]")

    bare = [
        line
        for line in lines[start:end]
        if line.startswith('  "') and "#" not in line and "taskqueue-nb[" not in line
    ]

    assert bare == []


def test_the_lock_file_names_no_registry() -> None:
    """What npm locks is the content, not the host that it came from."""
    lock = json.loads((ROOT / "package-lock.json").read_text(encoding="utf-8"))

    packages = [package for name, package in lock["packages"].items() if name]

    assert packages
    assert all("resolved" not in package for package in packages)
    assert all("integrity" in package for package in packages)


def test_the_widget_has_no_dependencies() -> None:
    """Node's packages check the widget; none is shipped with it."""
    package = json.loads((ROOT / "package.json").read_text(encoding="utf-8"))

    assert "dependencies" not in package


def test_the_data_is_what_its_page_says() -> None:
    """The measurements are the published ones, unchanged."""
    data = (ROOT / "notebooks" / "data" / "penguins.csv").read_bytes()
    page = (ROOT / "notebooks" / "data" / "README.md").read_text(encoding="utf-8")

    assert hashlib.sha256(data).hexdigest() in page
    assert "CC0" in page


def test_the_tour_is_a_page_without_network_and_with_pictures(tmp_path: Path) -> None:
    """The tour runs to its end; its page fetches nothing, and shows the pictures and the plot."""
    said = run(sys.executable, "tools/notebooks.py", "page", str(tmp_path))

    assert said.returncode == 0, said.stdout
    page = (tmp_path / "01-tour.html").read_text(encoding="utf-8")
    assert str(tmp_path / "01-tour.html") in said.stdout
    assert re.findall(r"""(?:src|href|from|import\()\s*=?\s*["']https?://[^"']*""", page) == []
    assert page.count("data:image/svg+xml;base64,") >= 2, "the picture before and after the repair"
    assert "data:image/png;base64," in page, "the plot"
    assert "Traceback" not in page


# ------------------------------------------------------------------------- the scripts behind make


@pytest.fixture
def bare_machine(tmp_path: Path) -> Path:
    """Give a PATH with what every Debian has, and no Python, Node, browser, apt or sudo."""
    for name in ("bash", "cat", "cksum", "dirname", "id", "env", "rm", "mkdir"):
        (tmp_path / name).symlink_to(str(shutil.which(name)))
    return tmp_path


def setup(part: str, path: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run one part of the set-up on that PATH."""
    names = {"PATH": str(path), "CI": "", "CHROMIUM": "", "PYTHON": "", **environment}
    return run(str(path / "bash"), "tools/setup", part, **names)


def test_an_old_python_is_named(bare_machine: Path) -> None:
    """With a Python that is too old the set-up says which is needed and which was found."""
    old = bare_machine / "python3"
    old.write_text('#!/usr/bin/env bash\n[ "$1" = --version ] && echo Python 3.9.2\nexit 1\n')
    old.chmod(0o755)

    said = setup("python", bare_machine)

    assert said.returncode == 1
    assert "Python 3.11 or later is needed and Python 3.9.2 was found" in said.stdout


def test_a_named_python_that_will_not_do_is_refused(bare_machine: Path) -> None:
    """PYTHON=… is checked, not believed."""
    said = setup("python", bare_machine, PYTHON="/bin/false")

    assert said.returncode == 1
    assert "PYTHON=/bin/false is not a Python of 3.11 or later" in said.stdout


def test_a_missing_browser_stops_ci_and_nobody_else(bare_machine: Path) -> None:
    """In CI nothing is left out; elsewhere it is said loudly."""
    here, ci = setup("browser", bare_machine), setup("browser", bare_machine, CI="true")

    assert here.returncode == 3
    assert "The browser tests are LEFT OUT" in here.stdout
    assert "apt-get install chromium" in here.stdout
    assert ci.returncode == 1
    assert "Chromium" in ci.stdout


def test_a_browser_on_the_path_is_taken(bare_machine: Path) -> None:
    """The browser's place is all that stands on the output."""
    browser = bare_machine / "chromium"
    browser.write_text("#!/usr/bin/env bash\n")
    browser.chmod(0o755)

    assert setup("browser", bare_machine).stdout.strip() == str(browser)
