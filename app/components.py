"""Our own components: a tree of nodes, a grid of thumbnails with keys, a map with a lasso.

Each is a ``gr.HTML`` with a fixed template; its script builds the page's nodes from the value and writes texts through
``textContent``. No string of a user ever becomes part of a template.
"""

from __future__ import annotations

import functools
import itertools
import json
from pathlib import Path
from typing import Any

import gradio as gr

ASSETS = Path(__file__).resolve().parent.parent / "assets"
_number = itertools.count()


@functools.cache
def _script(name: str) -> str:
    folder = ASSETS / "components"
    return "\n".join((folder / part).read_text(encoding="utf-8") for part in ("nodes.js", *name.split()))


class _Drawn(gr.HTML):
    """Common part: the value is anything that JSON can say.

    It travels as text with a number of its own: the page's framework watches and copies each field of an object, which
    takes longer than to draw it, and passes over a text that it has already.
    """

    SCRIPT = "view.js"
    CLASS = "ltg-view"

    def __init__(self, value: Any = None, **given: Any) -> None:
        for fixed in ("html_template", "js_on_load", "apply_default_css"):
            given.pop(fixed, None)  # Gradio hands them back when it copies a component for an update
        super().__init__(
            value,
            html_template=f'<div class="{self.CLASS}"></div>',
            js_on_load=_script(self.SCRIPT),
            apply_default_css=False,
            **given,
        )

    def preprocess(self, payload: Any) -> Any:
        """What was sent."""
        return json.loads(payload)[1] if isinstance(payload, str) else payload

    def postprocess(self, value: Any) -> str:
        """``[number, value]`` as text."""
        return json.dumps([next(_number), value], separators=(",", ":"))

    def api_info(self) -> dict[str, Any]:
        """A text."""
        return {"type": "string"}

    def example_payload(self) -> Any:
        """Nothing."""
        return None

    def example_value(self) -> Any:
        """Nothing."""
        return None


class View(_Drawn):
    """Nodes made by ``app.render``; event ``act`` carries what was clicked."""


class Pager(View):
    """A ``View`` whose field named "page" tells its number, and whose pages the keys of the grid beside it turn."""

    SCRIPT = "view.js pager.js"


class Heats(_Drawn):
    """Heat maps side by side: a ``View`` that fades its overlays by itself; ``charts`` of the value become curves."""

    SCRIPT = "heat.js"
    CLASS = "ltg-heats"


class Grid(_Drawn):
    """Thumbnails; events ``pick`` (one has the focus), ``open`` (double click, Enter)."""

    SCRIPT = "cards.js grid.js"
    CLASS = "ltg-grid"


class Curator(_Drawn):
    """Thumbnails to decide on by key, one of them beside or alone.

    Events: ``decide`` (steps in order, with a number), ``turn`` (to the next page or the previous), ``settle`` (what
    was decided is saved). ``patch`` answers a ``decide``: its number, and what is there now.
    """

    SCRIPT = "cards.js curate.js curate-parts.js"
    CLASS = "ltg-curate"

    def __init__(self, value: Any = None, *, patch: dict[str, Any] | None = None, **given: Any) -> None:
        self.patch = patch  # a plain attribute, as ``highlight`` of the map
        super().__init__(value, patch=patch, **given)


class Forest(_Drawn):
    """Differences with their intervals, one a row; names stand beside the drawing as text, and Plotly never sees one.

    The value has ``title``, ``note`` and ``rows`` (``name``, ``at``, ``low``, ``high``, ``said``, ``kind``: "good",
    "bad" or "open"); {} for nothing.
    """

    SCRIPT = "plotly.js forest.js"
    CLASS = "ltg-forest"


class Address(_Drawn):
    """The address bar; event ``go`` says what it shows when the page opens and on back and forward."""

    SCRIPT = "address.js"
    CLASS = "ltg-address"


class Pulse(_Drawn):
    """Nothing to see; event ``tick`` comes when ``GET /pulse`` differs from what the page has ``heard``.

    It says which tab is shown, for only that one is drawn, and comes when that changes as well.
    """

    SCRIPT = "pulse.js"
    CLASS = "ltg-pulse"


class PlotMap(_Drawn):
    """Points; events ``lasso`` (ids that are selected now) and ``point`` (one id).

    Args:
        value: As ``app.plots.base`` makes it.
        paint: Their colours, as ``app.plots.paint`` makes them.
        highlight: Ids to ring.
        chosen: Ids to select.
    """

    SCRIPT = "plotly.js map_data.js map_traces.js map.js"
    CLASS = "ltg-mapbox"

    def __init__(
        self,
        value: Any = None,
        *,
        paint: dict[str, Any] | None = None,
        highlight: list[str] | None = None,
        chosen: list[str] | None = None,
        **given: Any,
    ) -> None:
        # Plain attributes: gr.HTML would take any word that the script quotes for the name of an event.
        self.paint, self.highlight, self.chosen = paint or {}, highlight or [], chosen or []
        super().__init__(value, paint=self.paint, highlight=self.highlight, chosen=self.chosen, **given)
