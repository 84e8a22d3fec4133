"""Our own components: a tree of nodes, a grid of thumbnails with keys, a map with a lasso.

Each is a ``gr.HTML`` with a fixed template; its script builds the page's nodes from the value and writes texts through
``textContent``. No string of a user ever becomes part of a template.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import gradio as gr

ASSETS = Path(__file__).resolve().parent.parent / "assets"


@functools.cache
def _script(name: str) -> str:
    folder = ASSETS / "components"
    return "\n".join((folder / part).read_text(encoding="utf-8") for part in ("nodes.js", name))


class _Drawn(gr.HTML):
    """Common part: the value is JSON, sent as it is."""

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
        """As it is."""
        return payload

    def postprocess(self, value: Any) -> Any:
        """As it is."""
        return value

    def api_info(self) -> dict[str, Any]:
        """Any JSON value."""
        return {"type": "object", "additionalProperties": True}

    def example_payload(self) -> Any:
        """Nothing."""
        return None

    def example_value(self) -> Any:
        """Nothing."""
        return None


class View(_Drawn):
    """Nodes made by ``app.render``; event ``act`` carries what was clicked."""


class Grid(_Drawn):
    """Thumbnails; events ``pick`` (one has the focus), ``open`` (double click), ``decide`` (a curation key)."""

    SCRIPT = "grid.js"
    CLASS = "ltg-grid"


class Address(_Drawn):
    """The address bar; event ``go`` says what it shows when the page opens and on back and forward."""

    SCRIPT = "address.js"
    CLASS = "ltg-address"


class PlotMap(_Drawn):
    """Points; events ``lasso`` (ids inside) and ``point`` (one id); ``highlight`` is a list of ids to ring."""

    SCRIPT = "map.js"
    CLASS = "ltg-map"

    def __init__(self, value: Any = None, *, highlight: list[str] | None = None, **given: Any) -> None:
        # A plain attribute: gr.HTML would take any word that the script quotes for the name of an event.
        self.highlight = highlight or []
        super().__init__(value, highlight=self.highlight, **given)
