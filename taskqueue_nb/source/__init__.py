"""Code as text: what a function's source is, edited source as a function, a call as a cell.

Imported by who wants one of these: the parsing modules that it needs are slow to import.

```
a function   -> text: its text            -> edited: the text, changed, as a function again
a call       -> cell: a cell that makes it again; kept: the arguments that have no literal
two calls    -> comparison: what changed
an error     -> debugger
```

Below these stand `lines` (where tracebacks find edited text), `parsing` and `layout` (text taken
apart), `functions` (functions taken apart), `literals` and `foreign` (values as text).
"""

from __future__ import annotations

from taskqueue_nb.source.cell import snippet
from taskqueue_nb.source.comparison import Call, Comparison, compare
from taskqueue_nb.source.debugger import post_mortem
from taskqueue_nb.source.edited import compiled
from taskqueue_nb.source.kept import inputs, keep
from taskqueue_nb.source.text import LONGEST, source_of

__all__ = [
    "LONGEST",
    "Call",
    "Comparison",
    "compare",
    "compiled",
    "inputs",
    "keep",
    "post_mortem",
    "snippet",
    "source_of",
]
