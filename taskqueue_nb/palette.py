"""How each state looks: one table of words, glyphs, letters and colours for light and dark.

A state is told three times: by its word, by its glyph and by its fill. The fills differ in
lightness as well as in hue, so that they stay apart for colour-blind people and in grey print; the
only red one is FAILED, the cause of whatever else does not move. What a plan does with a task is
told in the same way, by a second table.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping

Theme: TypeAlias = Literal["light", "dark"]


class Shade(NamedTuple):
    """The colours of one state in one theme.

    Attributes
    ----------
    fill, line, text : str
        Of the box, its outline and what is written on it, as `#rrggbb`.
    """

    fill: str
    line: str
    text: str


class Look(NamedTuple):
    """How one state looks.

    Attributes
    ----------
    state : str
        As the task's table has it; of a role in a plan, its key in `ROLES`.
    letter : str
        One ASCII letter, for a string with a letter per box; empty for a role.
    word : str
        For people, in the singular of a sentence: "3 failed".
    glyph : str
        One character that common fonts have, and that none of them draws as an emoji.
    light, dark : Shade
        The colours.
    dash : str
        The outline's pattern, empty for a line without gaps: a dashed one says that nothing will
        come of the task unless somebody acts.
    """

    state: str
    letter: str
    word: str
    glyph: str
    light: Shade
    dark: Shade
    dash: str = ""

    @property
    def mark(self) -> str:
        """The state in an attribute: one of ours, or `unknown`, never a foreign text."""
        return self.state.casefold() if self.state in PALETTE else "unknown"

    def shade(self, theme: Theme) -> Shade:
        """Return the colours of a theme."""
        return self.light if theme == "light" else self.dark


class Ground(NamedTuple):
    """What stands behind and between the boxes in one theme, as `#rrggbb`.

    Attributes
    ----------
    paper, ink, soft, rule : str
        The background, text on it, text that steps back, and outlines that step back further.
    """

    paper: str
    ink: str
    soft: str
    rule: str


_INK, _WHITE = "#14171a", "#ffffff"
_DASHED: Final = "5 3"

_LOOKS: Final = (
    Look(
        "PREPARE", "e", "preparing", "◇",
        Shade("#ffffff", "#6b7280", _INK), Shade("#23272d", "#8b949e", _WHITE), _DASHED,
    ),
    Look(
        "PENDING", "p", "pending", "○",
        Shade("#d3d7dd", "#6b7280", _INK), Shade("#565c64", "#9aa3ad", _WHITE),
    ),
    Look(
        "QUEUED", "q", "queued", "◔",
        Shade("#9dc6fb", "#1f5fae", _INK), Shade("#2f66cf", "#8db8ff", _WHITE),
    ),
    Look(
        "RUNNING", "r", "running", "►",
        Shade("#f7c52e", "#8a6100", _INK), Shade("#fad22d", "#fff0a8", _INK),
    ),
    Look(
        "CANCELLED", "c", "cancelled", "⊘",
        Shade("#a584aa", "#5e3a66", _INK), Shade("#c294c6", "#ecd3ee", _INK), _DASHED,
    ),
    Look(
        "FAILED", "f", "failed", "✗",
        Shade("#b0261a", "#5f0d06", _WHITE), Shade("#ff8060", "#ffd2c6", _INK),
    ),
    Look(
        "DONE", "d", "done", "✓",
        Shade("#35a06f", "#0f5c3c", _INK), Shade("#0d7a58", "#5fd3aa", _WHITE),
    ),
    Look(
        "ABORT", "a", "aborted", "■",
        Shade("#3a3a44", "#14171a", _WHITE), Shade("#000000", "#b8bcc4", _WHITE), _DASHED,
    ),
)  # fmt: skip

#: State → how it looks, in the order in which a task lives through the states.
PALETTE: Final[Mapping[str, Look]] = MappingProxyType({look.state: look for look in _LOOKS})

#: The states from the one that most wants to be seen to the one that least does.
URGENCY: Final = (
    "FAILED", "RUNNING", "QUEUED", "CANCELLED", "ABORT", "PREPARE", "PENDING", "DONE",
)  # fmt: skip

#: For a task that failed only because another did: it is not what has to be mended.
VICTIM: Final = Look(
    "FAILED", "v", "failed", "✗",
    Shade("#eceef1", "#6b7280", _INK), Shade("#343a41", "#9aa3ad", _WHITE), _DASHED,
)  # fmt: skip

_ROLES: Final = (
    Look(
        "run", "", "will run", "▷",
        Shade("#4433e6", "#1d0fa0", _WHITE), Shade("#a9c4ff", "#e4eeff", _INK),
    ),
    Look(
        "stale", "", "stale", "↻",
        Shade("#d05cc8", "#7a1474", _INK), Shade("#8a1a86", "#f0a8ec", _WHITE),
    ),
    Look(
        "supplied", "", "supplied", "✎",
        Shade("#9dfccb", "#0f5c3c", _INK), Shade("#d5ffdc", "#5fd3aa", _INK),
    ),
    PALETTE["CANCELLED"]._replace(state="given-up", letter="", word="given up"),
    PALETTE["PENDING"]._replace(
        state="blocked", letter="", word="blocked", glyph="◌", dash=_DASHED
    ),
    PALETTE["DONE"]._replace(state="reused", letter="", word="reused"),
)  # fmt: skip

#: What a plan does with a task → how it looks, from what most wants to be seen to what least does.
#: A role that leaves the state as it is has the state's colours. In the place of its glyph, a task
#: that runs has its number.
ROLES: Final[Mapping[str, Look]] = MappingProxyType({role.state: role for role in _ROLES})

GROUND: Final[Mapping[Theme, Ground]] = MappingProxyType(
    {
        "light": Ground(paper="#ffffff", ink="#1b1f24", soft="#57606a", rule="#b4bac2"),
        "dark": Ground(paper="#15181c", ink="#e9ecef", soft="#a9b1ba", rule="#4b525a"),
    }
)


def look(state: object) -> Look:
    """Return how a state looks, also one of a subclass that this table does not know.

    Examples
    --------
    >>> look("DONE").word, look("DONE").glyph
    ('done', '✓')
    >>> look("PARKED").word
    'parked'
    """
    if isinstance(state, str):
        known = PALETTE.get(state)
        if known is not None:
            return known
        word = state.casefold() if state.isidentifier() and len(state) <= _WORD else "unknown"
        return _UNKNOWN._replace(state=state, word=word)
    return _UNKNOWN


_WORD: Final = 12  # characters of a foreign state's name
_UNKNOWN: Final = PALETTE["PREPARE"]._replace(state="", letter="u", word="unknown", glyph="?")


def css(root: str = ".tq") -> str:
    """Return the custom properties of both themes, and the rules that give each state its own.

    Parameters
    ----------
    root : str
        The selector of the element that holds everything.

    Returns
    -------
    str
        A style sheet. Below `root`, `--tq-failed-fill`, `-line` and `-text` hold the colours of a
        state, `--tq-paper-still` and so on those of the ground; an element with
        `data-state="failed"` has its colours as `--tq-state-fill`, `-line` and `-text`, unless
        `data-victim="true"` gives it those of `VICTIM`; any other has those of `PREPARE`. The theme
        is the notebook's where it says so, else the system's; in a shadow tree, where no selector
        sees the page, that of the `color-scheme` which it inherits.

    Examples
    --------
    >>> "--tq-failed-fill: #b0261a;" in css()
    True
    """
    light, dark = _properties("light"), _properties("dark")
    saying_light = f':is([data-jp-theme-light="true"], .vscode-light, [data-theme="light"]) {root}'
    saying_dark = (
        ':is([data-jp-theme-light="false"], .vscode-dark, .vscode-high-contrast, '
        f'[data-theme="dark"], .dark) {root}'
    )
    selectors = {state.casefold(): f'[data-state="{state.casefold()}"]' for state in PALETTE}
    selectors["victim"] = '[data-victim="true"]'  # the last of equal weight decides
    rules = [("prepare", root)]  # without any, what is of no known state is black on black
    rules += [(word, f"{root} {selector}") for word, selector in selectors.items()]
    states = "\n".join(
        f"{selector} {{ {parts} }}"
        for word, selector in rules
        for parts in [
            " ".join(f"--tq-state-{part}: var(--tq-{word}-{part});" for part in Shade._fields)
        ]
    )
    return (
        f"{root} {{ {light} }}\n"
        f"@media (prefers-color-scheme: dark) {{ {root} {{ {dark} }} }}\n"
        f"{saying_light} {{ {light} }}\n"
        f"{saying_dark} {{ {dark} }}\n"
        f":host {root} {{ {_properties('light', 'dark')} }}\n"
        f"{states}\n"
    )


def _properties(*themes: Theme) -> str:
    """Return the custom properties of a theme, or those that follow `color-scheme`."""

    def told(*colours: str) -> str:
        return colours[0] if len(colours) == 1 else f"light-dark({', '.join(colours)})"

    looks = {shown.state.casefold(): shown for shown in _LOOKS} | {"victim": VICTIM}
    states = [
        f"--tq-{word}-{part}: {told(*colours)};"
        for word, shown in looks.items()
        for part, *colours in zip(Shade._fields, *map(shown.shade, themes), strict=True)
    ]
    grounds = [
        f"--tq-{part}-still: {told(*(getattr(GROUND[theme], part) for theme in themes))};"
        for part in Ground._fields
    ]
    return " ".join([*states, *grounds])
