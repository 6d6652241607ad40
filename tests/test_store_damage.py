"""A store that is damaged, foreign or of another format is refused, kept, and saved in parts."""

from __future__ import annotations

import random
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import taskqueue_nb.store.pack
from stores import change, kernel, query, run_all, said, script, store_of
from taskqueue_nb import StoreError, Task, TaskQueue
from taskqueue_nb.__main__ import main
from taskqueue_nb.store.file import FORMAT
from taskqueue_nb.task import LostValueError

COUNT = 150
PAGE = 4096


def text(number: int) -> str:
    """Return a result that is known again."""
    return f"result {number} " * 20


def fail() -> None:
    """Fail."""
    raise ValueError("bad")


def tasks() -> list[Task]:
    """Return a graph with enough results to fill some pages, and one failure."""
    made = [Task(f"t{i}", text, func_args=(i,)) for i in range(COUNT)]
    return [*made, Task("bad", fail)]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a store as a kernel leaves it that ended well."""
    path = tmp_path_factory.mktemp("sound") / "run.tq"
    with kernel(*tasks(), store=path) as queue:
        run_all(queue)
    return path


@pytest.fixture
def path(sound: Path, tmp_path: Path) -> Path:
    """Return a copy of it that may be spoilt."""
    path = tmp_path / "run.tq"
    shutil.copy(sound, path)
    return path


def bytes_of_all(folder: Path) -> dict[str, bytes]:
    """Return every file of a folder with its content."""
    return {each.name: each.read_bytes() for each in folder.iterdir()}


def check_refused(path: Path, message: str) -> None:
    """Check that opening says what is the matter and how to go on, and changes nothing."""
    before = bytes_of_all(path.parent)
    with pytest.raises(StoreError, match=message) as caught:
        TaskQueue(*tasks(), store=path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert bytes_of_all(path.parent) == before


DAMAGED = r"it is damaged, or no store \(.*\)\. Nothing in it was changed\..*store check .*run\.tq"


@pytest.mark.parametrize("filling", [b"\0", b"\xff", b"SQLite format 3\0"])
@pytest.mark.parametrize("size", [16, 100, PAGE])
def test_a_damaged_beginning_is_refused(filling: bytes, size: int, path: Path) -> None:
    """Whatever overwrites the first bytes: one clear error, nothing overwritten, never empty."""
    content = (filling * size)[:size]
    if content == path.read_bytes()[:size]:
        pytest.skip("that is how a sound file begins")
    with path.open("r+b") as opened:
        opened.write(content)

    check_refused(path, DAMAGED)


def test_a_file_cut_at_any_page_is_refused(sound: Path, tmp_path: Path) -> None:
    """However much of the end is missing, it is noticed at opening."""
    pages = sound.stat().st_size // PAGE
    assert pages > 20
    for number in range(pages):
        path = tmp_path / str(number) / "run.tq"
        path.parent.mkdir(mode=0o700)
        path.write_bytes(sound.read_bytes()[: number * PAGE])
        path.chmod(0o600)
        check_refused(path, DAMAGED)


def test_a_file_cut_within_a_page_is_refused(path: Path) -> None:
    """A cut need not fall between two pages."""
    path.write_bytes(path.read_bytes()[:-100])

    check_refused(path, DAMAGED)


@pytest.mark.parametrize(
    "content", [b"", b"a", b"PK\x03\x04" + b"x" * 10_000, b"\0" * 8192], ids=len
)
def test_what_is_no_store_is_refused(content: bytes, tmp_path: Path) -> None:
    """A file of 0 bytes, of one, of something else: refused, and still there afterwards."""
    path = tmp_path / "run.tq"
    path.write_bytes(content)
    path.chmod(0o600)

    check_refused(path, DAMAGED)


def test_another_program_s_database_is_refused(tmp_path: Path) -> None:
    """SQLite alone does not make a store."""
    path = tmp_path / "run.tq"
    change(path, "CREATE TABLE notes(text)")
    path.chmod(0o600)

    check_refused(path, "an SQLite file of something else")


@pytest.mark.parametrize(("version", "age"), [(FORMAT + 1, "newer"), (0, "older")])
def test_another_format_is_refused_with_both_numbers(version: int, age: str, path: Path) -> None:
    """A store of another version of the package says which one is wanted."""
    change(path, f"PRAGMA user_version={version}")

    check_refused(path, f"it has the {age} format {version}, and this .* reads format {FORMAT}")


def test_a_missing_table_is_refused(path: Path) -> None:
    """What calls itself a store and is none is damaged."""
    change(path, "DROP TABLE verbs")

    check_refused(path, DAMAGED)


def test_overwritten_pages_never_give_a_wrong_value(sound: Path, tmp_path: Path) -> None:
    """Any page is spoilt: the store is refused, or every value that comes back is right."""
    draw = random.Random(5)
    pages = sound.stat().st_size // PAGE
    refused = 0
    for number in range(1, pages):
        path = tmp_path / str(number) / "run.tq"
        path.parent.mkdir(mode=0o700)
        shutil.copy(sound, path)
        with path.open("r+b") as opened:
            opened.seek(number * PAGE + draw.randrange(0, PAGE - 64))
            opened.write(draw.randbytes(64))
        try:
            queue = TaskQueue(*tasks(), store=path)
        except StoreError:
            refused += 1
            continue
        for place, task in enumerate(queue.tasks[:-1]):
            if task.is_done:
                try:
                    assert task.value == text(place)
                except LostValueError as lost:
                    assert "damaged" in str(lost)  # noqa: PT017 - one of two good ways
        for _ in queue.run():
            pass
        assert [task.value for task in queue.tasks[:-1]] == [text(i) for i in range(COUNT)]
        store_of(queue).close()
    assert refused


def test_a_damaged_result_is_made_again(path: Path) -> None:
    """A checksum tells; that task runs again, and all others are reused."""
    change(path, "UPDATE results SET data = zeroblob(length(data)) WHERE id = 7")

    with kernel(*tasks(), store=path) as queue:
        with pytest.raises(LostValueError, match="it is damaged in the file"):
            [task.value for task in queue.tasks[:-1]]
        assert run_all(queue) == ["t6"]
        assert [task.value for task in queue.tasks[:-1]] == [text(i) for i in range(COUNT)]


SPOILT = [
    "UPDATE journal SET state = 'NONSENSE' WHERE task = 3 AND step = 1",
    "UPDATE journal SET event = 'except' WHERE task = 3 AND step = 1",
    "DELETE FROM journal WHERE task = 3 AND step = 0",
    "DELETE FROM journal WHERE task = 3",
    "UPDATE journal SET extra = '{' WHERE task = 3 AND step = 1",
    "UPDATE journal SET extra = '[1]' WHERE task = 3 AND step = 1",
    "UPDATE journal SET at = 'noon' WHERE task = 3 AND step = 1",
    "UPDATE tasks SET state = 'RUNNING' WHERE id = 3",
    "UPDATE tasks SET state = 'NONSENSE' WHERE id = 3",
    "UPDATE tasks SET parts = 'x', digest = 'y' WHERE id = 3",
    "UPDATE tasks SET requires = '5', digest = 'y' WHERE id = 3",
    "UPDATE tasks SET result = 99999 WHERE id = 3",
    "UPDATE results SET checksum = 5 WHERE id = 3",
    "UPDATE results SET lengths = 'x', data = NULL WHERE id = 3",
    "DELETE FROM results WHERE id = 3",
]


@pytest.mark.parametrize("statement", SPOILT)
def test_rows_that_make_no_sense_cost_their_task_alone(statement: str, path: Path) -> None:
    """Whatever stands in a task's rows: it runs again, and no other one does."""
    change(path, statement)

    with kernel(*tasks(), store=path) as queue:
        for task in queue.tasks[:-1]:
            if task.is_done:
                try:
                    task.value  # noqa: B018 - what cannot be loaded is found by asking
                except LostValueError:
                    assert task.name == "t2"
        assert run_all(queue) == ["t2"]
        assert queue.tasks[2].value == text(2)
    with kernel(*tasks(), store=path) as queue:
        assert run_all(queue) == []
        assert [task.value for task in queue.tasks[:-1]] == [text(i) for i in range(COUNT)]


# -- python -m taskqueue_nb store --------------------------------------------------------------


def store(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    """Run the command in this process; return its exit code and what it said."""
    code = main(["store", *words])
    return code, capsys.readouterr().out


def test_check_of_a_sound_store(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It says so, counts, changes nothing and leaves nothing behind."""
    before = bytes_of_all(path.parent)

    code, shown = store(capsys, "check", str(path))

    assert code == 0
    assert f"{COUNT + 1} (1 FAILED, {COUNT} DONE)" in shown
    assert f"{COUNT} sound" in shown
    assert "sound    all of it" in shown
    assert bytes_of_all(path.parent) == before


def test_check_names_what_is_damaged(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A result with a wrong checksum, a torn history: named by the task, cleaned."""
    change(
        path,
        "UPDATE results SET data = zeroblob(length(data)) WHERE id = 7",
        "DELETE FROM journal WHERE task = 9",
        "UPDATE tasks SET name = CAST('t\n\x1b[31m' AS BLOB) WHERE id = 9",
    )

    code, shown = store(capsys, "check", str(path))

    assert code == 1
    assert "damage   task 't6': its result is damaged" in shown
    assert r"damage   task 't\n\x1b[31m': its history is torn" in shown
    assert "--to NEW" in shown


def test_the_sound_part_can_be_copied(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A damaged result is left out; the copy is a sound store, from which the rest comes back."""
    change(
        path,
        "UPDATE results SET data = zeroblob(length(data)) WHERE id = 7",
        "DELETE FROM journal WHERE task = 9",
    )
    new = tmp_path / "new.tq"

    code, shown = store(capsys, "check", str(path), "--to", str(new))

    assert code == 1
    assert f"new.tq: {COUNT + 1} tasks, {COUNT - 1} results" in shown
    assert store(capsys, "check", str(new))[0] == 0
    with kernel(*tasks(), store=new) as queue:
        assert queue.counts() == {"PENDING": 1, "FAILED": 1, "DONE": COUNT - 1}
        reason = "its result was not stored: it was damaged in the file"
        assert list(store_of(queue).changed.values()) == [reason]
        assert run_all(queue) == ["t6"]
        assert [task.value for task in queue.tasks[:-1]] == [text(i) for i in range(COUNT)]
    assert store(capsys, "check", str(path), "--to", str(new))[0] == 2


def test_large_results_are_copied_in_pieces(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A result in many rows is checked and copied as well."""
    monkeypatch.setattr(taskqueue_nb.store.pack, "PIECE", 1000)
    with kernel(Task("large", bytes, func_args=(10_500,)), store=tmp_path / "a.tq") as queue:
        run_all(queue)

    assert store(capsys, "check", str(tmp_path / "a.tq"), "--to", str(tmp_path / "b.tq"))[0] == 0

    with kernel(Task("large", bytes, func_args=(10_500,)), store=tmp_path / "b.tq") as queue:
        assert queue.tasks[0].value == bytes(10_500)
    change(tmp_path / "b.tq", "DELETE FROM pieces WHERE number = 5")
    assert store(capsys, "check", str(tmp_path / "b.tq"))[0] == 1


def test_what_is_left_of_a_cut_file_is_saved(sound: Path, tmp_path: Path) -> None:
    """The more of the file there is, the more comes back; what comes back is right."""
    pages = sound.stat().st_size // PAGE
    saved = []
    for number in range(0, pages + 1, 5):
        path = tmp_path / f"{number}.tq"
        path.write_bytes(sound.read_bytes()[: number * PAGE])
        new = tmp_path / f"{number}-new.tq"
        code = main(["store", "check", str(path), "--to", str(new)])
        assert code in (0, 1, 2)
        saved.append(0)
        if new.exists():
            with kernel(*tasks(), store=new) as queue:
                done = [task for task in queue if task.is_done]
                saved[-1] = len(done)
                assert all(task.value == text(int(task.name[1:])) for task in done)
                run_all(queue)
        else:
            assert code == 2
    assert saved[0] == 0
    assert max(saved) > COUNT // 2


def test_spoilt_pages_leave_the_rest(sound: Path, tmp_path: Path) -> None:
    """Whichever page is overwritten: what is saved is right, and mostly it is much."""
    pages = sound.stat().st_size // PAGE
    saved = []
    for number in range(1, pages):
        path = tmp_path / f"{number}.tq"
        shutil.copy(sound, path)
        with path.open("r+b") as opened:
            opened.seek(number * PAGE)
            opened.write(b"\xa5" * PAGE)
        new = tmp_path / f"{number}-new.tq"
        code = main(["store", "check", str(path), "--to", str(new)])
        assert code in (1, 2)
        saved.append(0)
        if new.exists():
            with kernel(*tasks(), store=new) as queue:
                done = [task for task in queue if task.is_done]
                saved[-1] = len(done)
                assert all(task.value == text(int(task.name[1:])) for task in done)
    assert sorted(saved)[len(saved) // 2] > COUNT // 2


@pytest.mark.parametrize("content", [b"", b"no store" * 1000])
def test_check_of_what_is_no_store(
    content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing can be made of it: exit 2, one line, no new file."""
    path, new = tmp_path / "x.tq", tmp_path / "new.tq"
    path.write_bytes(content)

    code, shown = store(capsys, "check", str(path), "--to", str(new))

    assert code == 2
    assert shown.count("\n") == 1
    assert list(tmp_path.iterdir()) == [path]


def test_nothing_is_unpickled_by_the_command(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`check` and `info` look at bytes alone."""

    def explode() -> Any:
        return Explosive()

    with kernel(*tasks(), Task("explosive", explode), store=path) as queue:
        run_all(queue)

    for verb in ("info", "check"):
        code, shown = store(capsys, verb, str(path))
        assert code == 0
        assert "boom" not in shown


class Explosive:
    """Says so when it is unpickled."""

    def __reduce__(self) -> Any:
        return (print, ("boom",))


def test_info_says_what_is_in_it(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Tasks by state, results and their size, format, the last step, and who has it open."""
    code, shown = store(capsys, "info", str(path))

    assert code == 0
    size = query(path, "SELECT sum(size) FROM results")[0][0]
    for word in (str(path), f"format {FORMAT}", f"({1} FAILED, {COUNT} DONE)", f"{size:,} bytes"):
        assert word in shown
    assert "open     nowhere" in shown
    with kernel(store=path):
        assert "open     in process " in store(capsys, "info", str(path))[1]


def test_clear_deletes_a_store_and_nothing_else(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It asks first, refuses what is open or no store, and leaves nothing of the store."""
    monkeypatch.setattr("builtins.input", lambda _: "n")
    assert store(capsys, "clear", str(path)) == (1, "Nothing was deleted.\n")
    with kernel(store=path):
        code, shown = store(capsys, "clear", str(path), "--yes")
        assert code == 2
        assert "it is open in process" in shown
    thesis = tmp_path / "thesis.docx"
    thesis.write_bytes(b"PK" * 1000)
    assert store(capsys, "clear", str(thesis), "--yes")[0] == 2
    assert thesis.exists()

    monkeypatch.setattr("builtins.input", lambda _: "y")
    assert store(capsys, "clear", str(path))[0] == 0
    assert list(tmp_path.iterdir()) == [thesis]


def test_the_command_can_be_called_from_a_shell(path: Path) -> None:
    """`python -m taskqueue_nb store` explains itself, and passes its exit code on."""
    assert "info|check|clear" in script("-m", "taskqueue_nb", "store").stderr
    assert script("-m", "taskqueue_nb", "store", "info", str(path)).returncode == 0
    assert script("-m", "taskqueue_nb", "store", "info", str(path) + "x").returncode == 2


def test_a_kernel_killed_while_it_made_the_store_is_no_damage(tmp_path: Path) -> None:
    """What is left of a file that was being made is swept away."""
    path = tmp_path / "run.tq"
    for suffix in ("-new", "-new-journal", "-new-wal"):
        path.with_name(path.name + suffix).write_bytes(b"half of it")

    with said() as messages, kernel(*tasks(), store=path) as queue:
        run_all(queue)

    assert not messages
    assert list(tmp_path.iterdir()) == [path]


def test_a_log_that_was_cut_loses_its_end_alone(path: Path, tmp_path: Path) -> None:
    """A torn log of SQLite is what a killed kernel leaves: what was whole in it counts."""
    with kernel(*tasks(), store=path) as queue:
        queue.invalidate(queue.tasks[0])
        store_of(queue).flush()
        left = tmp_path / "left"
        left.mkdir(mode=0o700)
        for each in tmp_path.glob("run.tq*"):
            shutil.copy(each, left)
    log = left / "run.tq-wal"
    log.write_bytes(log.read_bytes()[:-5])
    (left / "run.tq-shm").unlink()

    with kernel(*tasks(), store=left / "run.tq") as queue:
        assert queue.counts() == {"FAILED": 1, "DONE": COUNT}
    with closing(sqlite3.connect(left / "run.tq")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
