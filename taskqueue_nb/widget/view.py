"""`View`, what the widgets have in common: their loader, and a layout that ends with them."""

from __future__ import annotations

from typing import Any

import anywidget
from ipywidgets import Layout
from ipywidgets.widgets import widget as _of_ipywidgets

from taskqueue_nb.widget.modules import linked

__all__ = ["View"]


class View(anywidget.AnyWidget):
    """A widget whose page imports its module, the trait `core`, once for all of its kind.

    Parameters
    ----------
    **options
        Traits of an ipywidget. A `layout` that was made for the view is closed with it.

    Notes
    -----
    A front end imports `_esm` anew for each widget, and no browser ever frees a module; so that is
    a small loader. ipywidgets closes no layout: kernel and page would keep one for each view.
    """

    _esm = linked("loader")

    _own_layout: Layout | None = None

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        if not isinstance(options.get("layout"), Layout):
            self._own_layout = self.layout

    def close(self) -> None:
        """Close the channel, and that of the layout unless another widget was given it too."""
        super().close()
        layout, self._own_layout = self._own_layout, None
        others = tuple(_of_ipywidgets._instances.values())  # ipywidgets has no public name for them
        if layout is not None and not any(
            getattr(each, "layout", None) is layout for each in others
        ):
            layout.close()
