"""What a live view shows of a large queue: folded, unfolded, around one task, found by name."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskqueue_nb import Task, TaskQueue
from taskqueue_nb.drawing import drawing_of
from taskqueue_nb.drawing.blocks import between, units
from taskqueue_nb.widget.finding import found
from taskqueue_nb.widget.lens import PLAIN, Lens


@pytest.fixture
def mapped() -> TaskQueue:
    """Return 300 loads, each with its own fit, and one report of all fits."""
    loads = [Task(f"load-{i}", list) for i in range(300)]
    fits = [Task(f"fit-{i}", len, func_args=(load,)) for i, load in enumerate(loads)]
    return TaskQueue.of(Task("report", max, func_args=(fits,)))


def named(queue: TaskQueue, name: str) -> Task:
    """Return the task of this name."""
    return next(task for task in queue if task.name == name)


def labels(queue: TaskQueue, lens: Lens) -> list[str]:
    """Return what the boxes are called, sorted."""
    return sorted(box.label for box in lens.drawing(queue, ()).boxes)


def test_a_plain_lens_shows_the_queues_own_picture(mapped: TaskQueue) -> None:
    """Nobody chose anything: it is laid out once for all."""
    assert PLAIN.drawing(mapped, ()) is drawing_of(mapped)


def test_around_a_task_stands_what_leads_to_it_and_what_follows(mapped: TaskQueue) -> None:
    """Not its 299 siblings, though they have the same dependent."""
    lens = PLAIN.around([named(mapped, "fit-7")])

    assert labels(mapped, lens) == ["fit-7", "load-7", "report"]
    assert not lens.is_plain
    assert lens.around(()).is_plain


def test_around_a_task_of_many_prerequisites_these_are_folded(mapped: TaskQueue) -> None:
    """The direct ones are always there, however many; more distant ones are not."""
    (fits, report) = labels(mapped, PLAIN.around([named(mapped, "report")]))
    assert fits.startswith("fit")
    assert report == "report"


def test_a_task_that_is_asked_for_has_a_box(mapped: TaskQueue) -> None:
    """The last ones that were asked for; and one elsewhere ends the look around another."""
    lens = PLAIN.around([named(mapped, "report")])
    for i in range(20):
        lens = lens.showing(named(mapped, f"load-{i}"))

    shown = labels(mapped, lens)

    assert {"load-19", "load-12"} <= set(shown)
    assert "load-11" not in shown
    assert not lens.centre


def test_what_was_opened_is_shut_and_the_other_way_round(mapped: TaskQueue) -> None:
    """The last word counts, and what was shown of the group is not wanted any more."""
    (key, *_) = [box.key for box in PLAIN.drawing(mapped, ()).boxes if box.key]
    assert key is not None
    opened = PLAIN.opened(key).showing(named(mapped, "load-3"))

    shut = opened.shut(key, [named(mapped, "load-3")])

    assert key in opened.wish.opened
    assert shut.wish.opened == ()
    assert shut.wish.first == ()
    assert shut.wish.shut == {key}
    assert key not in shut.opened(key).wish.shut


# -- finding ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "names", "best"),
    [
        ("fit", ["misfit", "refit", "fit", "fit-1"], ["fit", "fit-1", "refit", "misfit"]),
        ("FIT 1", ["fit-10", "fit-1"], ["fit-1", "fit-10"]),
        ("b c", ["abc", "bc", "a_b_c"], ["bc", "abc", "a_b_c"]),
        ("(", ["a(b", "a"], ["a(b"]),
        ("\\", ["a\\", "b"], ["a\\"]),
        ("", ["a"], []),
        (" ", ["a"], []),
        ("é", ["Été"], ["Été"]),
        ("zz", ["z"], []),
        ("a" * 40 + "b", ["a" * 300], []),  # at once, however often it nearly matches
    ],
)
def test_the_best_match_comes_first(text: str, names: list[str], best: list[str]) -> None:
    """Whole, beginning, word, part, scattered; among equals the shorter one."""
    assert [names[i] for i in found(text, names).places] == best


@given(st.text(max_size=12), st.lists(st.text(max_size=20), max_size=20))
def test_what_is_found_holds_the_characters_in_their_order(text: str, names: list[str]) -> None:
    """Whatever is typed, nothing raises, and no more is found than there is."""
    places, total = found(text, names, limit=5)
    assert len(places) == min(5, total)
    for place in places:
        rest = iter(names[place].lower())
        assert all(character in rest for character in text.lower() if not character.isspace())


# -- blocks ----------------------------------------------------------------------------------------

SIZES = [(100.0, 40.0)] * 40


def fan(count: int) -> list[tuple[int, int]]:
    """Return the requirements of 0 before 1 … count before count + 1."""
    middle = range(1, count + 1)
    return [(0, i) for i in middle] + [(i, count + 1) for i in middle]


def test_what_stands_alike_is_one_block() -> None:
    """It has one arrow in and one out, and a place for each of its boxes, in rows."""
    edges = fan(30)
    placed = units(SIZES[:32], edges, [None] * 32)

    assert [unit.name for unit in placed] == ["t0", "b1", "t31"]
    assert list(between(placed, edges).values()) == [
        "e0-" + "_".join(map(str, range(1, 31))),
        "e" + "_".join(map(str, range(1, 31))) + "-31",
    ]
    places = placed[1].places(10.0, 20.0)
    assert len(set(places)) == 30
    assert all(10 <= x <= 10 + placed[1].width - wide for x, _, wide, _ in places)
    assert 1.5 < placed[1].width / placed[1].height < 3.5


@pytest.mark.parametrize(
    ("edges", "groups"),
    [
        (fan(9), [None] * 11),
        (fan(12), ["a"] * 7 + ["b"] * 7),
        ([(i, i + 20) for i in range(20)], [None] * 40),
    ],
    ids=["few", "two frames", "each its own"],
)
def test_what_does_not_stand_alike_has_a_place_of_its_own(
    edges: list[tuple[int, int]], groups: list[Any]
) -> None:
    """Few boxes, boxes of two groups, boxes with prerequisites of their own."""
    placed = units(SIZES[: len(groups)], edges, groups)
    assert not [unit for unit in placed if unit.is_block]
    assert sorted(between(placed, edges).values()) == sorted(f"e{a}-{b}" for a, b in edges)
