"""The states can be told apart by everybody, on light and on dark."""

from __future__ import annotations

import itertools
import math
import re
import unicodedata
from typing import TYPE_CHECKING, Final

import pytest

from taskqueue_nb.palette import GROUND, PALETTE, ROLES, URGENCY, VICTIM, Look, Theme, css, look
from taskqueue_nb.task import FSM_TRANSITIONS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

THEMES: Final[tuple[Theme, ...]] = ("light", "dark")

# Machado, Oliveira and Fernandes 2009, severity 1, on linear RGB
VISION: Final = {
    "usual": ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)),
    "protanopia": (
        (0.152286, 1.052583, -0.204868),
        (0.114503, 0.786281, 0.099216),
        (-0.003882, -0.048116, 1.051998),
    ),
    "deuteranopia": (
        (0.367322, 0.860646, -0.227968),
        (0.280085, 0.672501, 0.047413),
        (-0.011820, 0.042940, 0.968881),
    ),
    "tritanopia": (
        (1.255528, -0.076749, -0.178779),
        (-0.078411, 0.930809, 0.147602),
        (0.004733, 0.691367, 0.303900),
    ),
}


def linear(colour: str) -> list[float]:
    """Return the linear red, green and blue of a colour."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    return [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]


def luminance(colour: str) -> float:
    """Return how light a colour is, from 0 to 1."""
    red, green, blue = linear(colour)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    """Return the contrast of two colours as WCAG 2 counts it."""
    return contrast_of(luminance(one), luminance(other))


def lab(colour: str, vision: str) -> tuple[float, float, float]:
    """Return a colour as somebody sees it, in CIELAB, where 2.3 is just noticed."""
    seen = [
        min(1.0, max(0.0, sum(a * b for a, b in zip(row, linear(colour), strict=True))))
        for row in VISION[vision]
    ]
    x, y, z = (
        sum(a * b for a, b in zip(row, seen, strict=True)) / white
        for row, white in (
            ((0.4124, 0.3576, 0.1805), 0.95047),
            ((0.2126, 0.7152, 0.0722), 1.0),
            ((0.0193, 0.1192, 0.9505), 1.08883),
        )
    )
    fx, fy, fz = (t ** (1 / 3) if t > 0.008856 else 7.787 * t + 16 / 116 for t in (x, y, z))
    return 116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)


def distance(one: str, other: str, vision: str) -> float:
    """Return how different two colours look to somebody."""
    return math.dist(lab(one, vision), lab(other, vision))


def pairs(looks: Sequence[Look]) -> list[tuple[Look, Look]]:
    """Return every two looks."""
    return list(itertools.combinations(looks, 2))


def test_palette_has_each_state_once() -> None:
    """Every state of the task's table has a look, with a letter, a word and a glyph of its own."""
    looks = list(PALETTE.values())

    assert list(PALETTE) == list(FSM_TRANSITIONS)
    assert sorted(URGENCY) == sorted(FSM_TRANSITIONS)
    assert "".join(shown.letter for shown in looks) == "epqrcfda"
    assert len({shown.word for shown in looks}) == len({shown.glyph for shown in looks}) == 8


def test_roles_have_a_word_and_a_glyph_each() -> None:
    """What a plan does with a task can be read without colours."""
    assert [*ROLES] == ["run", "stale", "supplied", "given-up", "blocked", "reused"]
    assert len({role.word for role in ROLES.values()}) == len(ROLES)
    assert len({role.glyph for role in ROLES.values()}) == len(ROLES)


@pytest.mark.parametrize("shown", [*PALETTE.values(), *ROLES.values()], ids=lambda s: s.state)
def test_a_glyph_is_one_character_that_no_font_draws_as_emoji(shown: Look) -> None:
    """A glyph is a plain symbol: it keeps the colour of the text and its place in a line."""
    glyph = shown.glyph

    assert len(glyph) == 1
    assert unicodedata.category(glyph) in ("So", "Sm")
    assert glyph not in "▶⏸⏹⏺✔✖◻◼◽◾▪▫"


@pytest.mark.parametrize("vision", VISION)
@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("table", [PALETTE, ROLES], ids=["states", "roles"])
def test_fills_differ_for_everybody(table: Mapping[str, Look], theme: Theme, vision: str) -> None:
    """Any two fills of a table are far apart, also for people who see fewer colours."""
    near = [
        (
            one.state,
            other.state,
            round(distance(one.shade(theme)[0], other.shade(theme)[0], vision)),
        )
        for one, other in pairs(list(table.values()))
        if distance(one.shade(theme).fill, other.shade(theme).fill, vision) < 13
    ]

    assert near == []


#: The roles whose tasks keep the state that they have, so that they look as in a picture of states.
KEPT: Final = {"reused": "DONE", "blocked": "PENDING", "given-up": "CANCELLED"}


@pytest.mark.parametrize("vision", VISION)
@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("role", [role for role in ROLES if role not in KEPT])
def test_a_role_is_told_from_the_states_beside_it(role: str, theme: Theme, vision: str) -> None:
    """A task that a plan sets in motion looks like no task that it leaves as it is."""
    fill = ROLES[role].shade(theme).fill

    near = {
        state: round(distance(fill, shown.shade(theme).fill, vision))
        for state, shown in PALETTE.items()
        if distance(fill, shown.shade(theme).fill, vision) < 13
    }

    assert near == {}


@pytest.mark.parametrize(("role", "state"), KEPT.items())
def test_a_role_that_keeps_a_state_has_its_colours(role: str, state: str) -> None:
    """What a plan reuses is as green as what is done."""
    assert (ROLES[role].light, ROLES[role].dark) == (PALETTE[state].light, PALETTE[state].dark)


@pytest.mark.parametrize("theme", THEMES)
def test_what_runs_and_what_is_reused_differ_in_grey_print(theme: Theme) -> None:
    """The three that fill most plans keep apart by lightness alone."""
    greys = [luminance(ROLES[role].shade(theme).fill) for role in ("run", "stale", "reused")]

    assert contrast_of(greys[0], greys[2]) >= 1.5
    assert contrast_of(greys[0], greys[1]) >= 1.5


def contrast_of(one: float, other: float) -> float:
    """Return the contrast of two luminances."""
    low, high = sorted((one, other))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("vision", VISION)
@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("other", [state for state in PALETTE if state != "FAILED"])
def test_failed_stands_out(other: str, theme: Theme, vision: str) -> None:
    """What failed is farther still from all that did not."""
    failed, fill = PALETTE["FAILED"].shade(theme).fill, PALETTE[other].shade(theme).fill

    assert distance(failed, fill, vision) >= 20


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize(
    "shown", [*PALETTE.values(), VICTIM, *ROLES.values()], ids=lambda shown: shown.state
)
def test_text_and_outline_can_be_read(shown: Look, theme: Theme) -> None:
    """Text has a contrast of 4.5 on its fill, and an outline one of 3 on the paper (WCAG 2 AA)."""
    fill, line, text = shown.shade(theme)

    assert contrast(text, fill) >= 4.5
    assert contrast(line, GROUND[theme].paper) >= 3


@pytest.mark.parametrize("theme", THEMES)
def test_the_ground_can_be_read(theme: Theme) -> None:
    """Both kinds of text have a contrast of 4.5 on the paper."""
    ground = GROUND[theme]

    assert contrast(ground.ink, ground.paper) >= 4.5
    assert contrast(ground.soft, ground.paper) >= 4.5


def test_only_a_cause_is_red() -> None:
    """A task that failed on another's account has neither the red nor the solid outline."""
    for theme in THEMES:
        red, green, _ = (int(VICTIM.shade(theme).fill[i : i + 2], 16) for i in (1, 3, 5))
        assert abs(red - green) < 16
    assert VICTIM.dash
    assert not PALETTE["FAILED"].dash
    assert VICTIM.letter not in {shown.letter for shown in PALETTE.values()}


@pytest.mark.parametrize(
    ("state", "word"),
    [
        ("PARKED", "parked"),
        ("<script>", "unknown"),
        ("x" * 500, "unknown"),
        ("", "unknown"),
        (None, "unknown"),
        (5, "unknown"),
        (["DONE"], "unknown"),
    ],
)
def test_look_survives_any_state(state: object, word: str) -> None:
    """A state from elsewhere has a look too, and brings no text with it that could do harm."""
    assert look(state).word == word
    assert look(state).letter == "u"


def test_what_is_of_no_known_state_has_colours_too() -> None:
    """A state of a user's own machine is no black box with black text."""
    (rule,) = [line for line in css(".x").splitlines() if line.startswith(".x { --tq-state-fill")]

    for part in ("fill", "line", "text"):
        assert f"--tq-state-{part}: var(--tq-prepare-{part});" in rule


def test_css_has_every_property_in_both_themes() -> None:
    """The style sheet holds each colour of each state four times: two themes, said or preferred."""
    sheet = css(".here")

    for state in (*PALETTE, "VICTIM"):
        for part in ("fill", "line", "text"):
            name = f"--tq-{state.casefold()}-{part}"
            assert len(re.findall(rf"{name}: #[0-9a-f]{{6}};", sheet)) == 4
            assert re.search(rf"{name}: light-dark\(#[0-9a-f]{{6}}, #[0-9a-f]{{6}}\);", sheet)
            assert f"--tq-state-{part}: var({name});" in sheet
    assert sheet.count("{") == sheet.count("}")
    assert all(".here" in line for line in sheet.splitlines())
