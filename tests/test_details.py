"""What the details panel is told: tracebacks as data, previews of results, forms of arguments."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final

import pytest

from taskqueue_nb import Task, TaskQueue
from taskqueue_nb.source import compiled
from taskqueue_nb.widget.details import details_of
from taskqueue_nb.widget.traces import failing_line, trace_of

HOSTILE: Final = "</iframe><script>x()</script>]]>\x1b[31m\u202egnp"


def ran(func: Callable[..., Any], *args: Any, name: str = "t", **options: Any) -> Task:
    """Return a task that has run."""
    task = Task(name, func, func_args=args, **options)
    for _ in TaskQueue(task).run():
        pass
    return task


def told(task: Task) -> dict[str, Any]:
    """Return the details of a task alone."""
    return details_of(task, "0", {task: 0})


# -- tracebacks -----------------------------------------------------------------------------------


def parsed(text: Any) -> Any:
    """Fail inside a library."""
    return json.loads(text)


def wrapped(text: Any) -> Any:
    """Fail because of a failure."""
    try:
        return parsed(text)
    except ValueError as error:
        error.add_note("the text was short")
        raise RuntimeError("not read") from error


def places(error: dict[str, Any]) -> list[tuple[str, str]]:
    """Return whose each frame is, and what its function is called."""
    return [(frame["package"], frame["name"]) for frame in error["frames"]]


def test_a_traceback_is_told_as_frames() -> None:
    """The user's own frames have the lines around, those of libraries their package's name."""
    (error,) = told(ran(parsed, "{"))["trace"]

    assert places(error)[0] == ("", "parsed")
    assert {package for package, _ in places(error)[1:]} == {"json"}
    own = error["frames"][0]
    assert own["file"] == "test_details.py"
    assert own["code"][own["line"] - own["first"]] == "    return json.loads(text)"
    assert own["code"][0].startswith("def parsed")
    assert own["part"] == [11, 27]
    assert error["says"].startswith("json.decoder.JSONDecodeError: Expecting")


def test_a_chain_is_told_from_its_end() -> None:
    """What was raised, then the cause that it names, with the notes of each."""
    last, first = told(ran(wrapped, "{"))["trace"]

    assert (last["says"], last["lead"]) == ("RuntimeError: not read", "")
    assert first["lead"] == "The direct cause was:"
    assert first["notes"] == ["the text was short"]
    assert places(first)[:2] == [("", "wrapped"), ("", "parsed")]


def during(number: int) -> float:
    """Fail while a failure is handled."""
    try:
        return 1 / number
    except ZeroDivisionError:
        return dict[str, float]()["gone"]


def test_what_was_handled_is_told_unless_it_is_suppressed() -> None:
    """As Python does it."""

    def suppressed() -> None:
        try:
            during(0)
        except KeyError:
            raise ValueError("hidden") from None

    leads = [error["lead"] for error in told(ran(during, 0))["trace"]]
    assert leads == ["", "It was raised while this was handled:"]
    assert len(told(ran(suppressed))["trace"]) == 1


def test_the_members_of_a_group_are_told_in_it() -> None:
    """Each with its place, also of a group in a group."""

    def fail() -> None:
        inner = ExceptionGroup("inner", [KeyError("b")])
        raise ExceptionGroup("many", [ValueError("a"), inner])

    found = [(e["depth"], e["lead"], e["says"]) for e in told(ran(fail))["trace"]]
    assert found == [
        (0, "", "ExceptionGroup: many (2 sub-exceptions)"),
        (1, "1 of 2 in this group:", "ValueError: a"),
        (1, "2 of 2 in this group:", "ExceptionGroup: inner (1 sub-exception)"),
        (2, "1 of 1 in this group:", "KeyError: 'b'"),
    ]


def endless(number: int) -> int:
    """Never return."""
    return endless(number + 1)


def test_a_deep_recursion_is_told_by_its_ends() -> None:
    """The rest is counted."""
    (error,) = told(ran(endless, 0))["trace"]

    (left,) = [frame["left"] for frame in error["frames"] if "left" in frame]
    assert left > 900
    assert len(error["frames"]) < 40


@pytest.mark.parametrize("func", [parsed, wrapped, during])
def test_a_text_is_taken_apart_as_the_exception_is(func: Callable[..., Any]) -> None:
    """Of earlier attempts there is only text; it has the same frames with the same lines."""
    task = ran(func, "{")
    live = told(task)["trace"]
    task.retry()
    for _ in TaskQueue(task).run():
        pass
    text = task.attempts[0]._error_text
    assert isinstance(text, str)

    again = trace_of(task.attempts[0].error, text)

    assert [e["lead"] for e in again] == [e["lead"] for e in live]
    for one, other in zip(again, live, strict=True):
        assert one["says"] == "\n".join([other["says"], *other["notes"]])
        for frame in (*one["frames"], *other["frames"]):
            frame["part"] = None
        assert one["frames"] == other["frames"]


def test_a_failure_in_a_worker_process_is_told_as_frames() -> None:
    """Its traceback comes as text; frames that carry the answer are not shown."""
    task = Task("t", parsed, func_args=("{",))
    for _ in TaskQueue(task).run(executor="processes"):
        pass

    (error,) = told(task)["trace"]

    assert places(error)[0] == ("", "parsed")
    assert error["frames"][0]["code"][0].startswith("def parsed")


@pytest.mark.parametrize(
    "text",
    [
        "the process was killed by SIGKILL",
        "Traceback (most recent call last):\n",
        'Traceback (most recent call last):\n  File "a.py", line 1, in f\n    x',
        "  + Exception Group Traceback (most recent call last):\n  | ValueError: a\n",
        "Fatal: Traceback (most recent call last):\n",
        "\n\nDuring handling of the above exception, another exception occurred:\n\n",
    ],
)
def test_a_text_of_another_form_is_not_taken_apart(text: str) -> None:
    """It is shown as it is."""
    assert trace_of(None, text) == []


def test_a_text_that_names_other_files_opens_none() -> None:
    """Lines around are shown only where they are known already, and say the same."""
    text = (
        'Traceback (most recent call last):\n  File "/dev/zero", line 1, in f\n    forged()\n'
        f'  File "{__file__}", line 2, in g\n    forged()\nValueError: no\n'
    )

    (error,) = trace_of(None, text)

    assert [frame["code"] for frame in error["frames"]] == [["forged()"], ["forged()"]]


def test_hostile_failures_are_told_in_plain_characters() -> None:
    """Words, notes and code of others are bounded, and turn nothing around."""

    class Wordless(Exception):  # noqa: N818 - its name is no matter
        def __str__(self) -> str:
            raise RuntimeError("no words")

        def __getattribute__(self, name: str) -> Any:
            if name in ("__notes__", "__context__"):
                raise RuntimeError(name)
            return super().__getattribute__(name)

    def fail() -> None:
        try:
            raise Wordless
        except Wordless as error:
            worse = ValueError(HOSTILE * 10_000)
            for _ in range(1000):
                worse.add_note(HOSTILE * 100)
            raise worse from error

    found = told(ran(fail))

    text = json.dumps(found, ensure_ascii=False)
    assert len(text) < 300_000
    assert not {"\x1b", "\u202e", "\ud800"} & set(text)
    assert found["trace"][1]["says"].endswith("Wordless: (its text cannot be had)")


def test_the_line_of_the_source_that_failed_is_told() -> None:
    """In the text as the user edits it, for edited text too; not after the function is another."""

    def fail(number: int) -> int:
        number += 1

        return number // 0

    task = ran(fail, 1)
    assert told(task)["failing"] == 4

    task.edit("# first\ndef fail(number):\n    return number / 0")
    for _ in TaskQueue(task).run():
        pass
    assert told(task)["failing"] == 3
    assert told(task)["trace"][0]["frames"][0]["file"] == "fail, edited 1"
    assert failing_line(compiled("def other(): pass"), "def other(): pass", task.exception) is None


def test_a_pending_task_still_tells_how_its_last_attempt_failed() -> None:
    """Until it has another result."""
    task = ran(parsed, "{")
    task.retry()
    found = told(task)
    assert (found["of_attempt"], len(found["trace"])) == (0, 1)

    task.supply(3)
    assert told(task)["trace"] == []
