"""Still pictures as PNG: drawn by resvg, which comes in a wheel and needs nothing of the system."""

from __future__ import annotations

import importlib.util
import math
import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from taskqueue_nb.drawing.picture import FONT, themed

if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["png_of"]

MOST: Final = 50_000_000  # pixels of a picture, four bytes each while it is drawn
_SIZE: Final = re.compile(r' width="([\d.]+)" height="([\d.]+)"')
_PROBE: Final = (
    f'<svg xmlns="http://www.w3.org/2000/svg" width="40" height="20"><text x="2" y="15" '
    f'font-family="{FONT}">'
    "{}</text></svg>"
)
_NO_FONT: Final = (
    "no font was found on this machine, so the picture has no text: install one, such as the "
    "package fonts-dejavu-core of Debian, or use to_svg(), whose text is drawn by whoever shows it"
)


def png_of(svg: str, scale: float = 2.0, *, dark: bool = False) -> bytes:
    """Return one of our own pictures as PNG.

    Parameters
    ----------
    svg : str
        What `tasks_as_svg` returns.
    scale : float
        Pixels for each px of the picture.
    dark : bool
        Whether it has the colours for a dark page.

    Raises
    ------
    ValueError
        If the scale is no positive number, or the picture would have too many pixels.
    ImportError
        If resvg-py is not installed.
    """
    resvg = _resvg()
    factor = _checked(scale, svg)
    fonts = _fonts()
    if not _has_text(resvg, fonts):
        warnings.warn(_NO_FONT, stacklevel=3)
    picture = themed(svg, "dark" if dark else "light")
    return bytes(resvg.svg_to_bytes(svg_string=picture, zoom=factor, **fonts))


def _resvg() -> ModuleType:
    try:
        import resvg_py  # noqa: PLC0415 - an extra
    except ImportError as error:
        message = "to_png needs resvg-py: pip install 'taskqueue-nb[png]'"
        raise ImportError(message, name="resvg_py") from error
    return resvg_py


def _checked(scale: object, svg: str) -> float:
    """Return the scale, unless it makes no picture."""
    if isinstance(scale, bool) or not isinstance(scale, (int, float)):
        message = f"scale is a number of pixels for each px, not a {type(scale).__name__}"
        raise TypeError(message)
    if not math.isfinite(scale) or scale <= 0:
        message = f"scale is a number of pixels above 0, not {scale!r}"
        raise ValueError(message)
    size = _SIZE.search(svg)
    wide, high = (float(side) for side in size.groups()) if size else (0.0, 0.0)
    if wide * high * scale * scale > MOST:
        most = math.floor(math.sqrt(MOST / (wide * high)) * 100) / 100
        message = (
            f"a picture of {wide * scale:,.0f} x {high * scale:,.0f} pixels is too large: "
            f"scale={most:g} is the most here, or use to_svg()"
        )
        raise ValueError(message)
    if min(wide, high) * scale < 1:
        message = f"scale={scale:g} leaves nothing of a picture of {wide:.0f} x {high:.0f} px"
        raise ValueError(message)
    return float(scale)


def _fonts() -> dict[str, Any]:
    """Return what fonts to use beside those of the system.

    Not every system font has the glyphs of the states; the one that matplotlib brings has them.
    """
    found = importlib.util.find_spec("matplotlib")
    folders = (found and found.submodule_search_locations) or ()
    files = [Path(folder, "mpl-data", "fonts", "ttf", "DejaVuSans.ttf") for folder in folders]
    return {"font_files": [str(file) for file in files if file.is_file()]}


def _has_text(resvg: ModuleType, fonts: dict[str, Any]) -> bool:
    """Say whether there is a font; without one, text is left out without a word."""
    empty, text = (
        resvg.svg_to_bytes(svg_string=_PROBE.format(letters), **fonts) for letters in ("", "Ag")
    )
    return bool(empty != text)
