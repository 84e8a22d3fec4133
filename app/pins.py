"""Pinning samples, wherever they are shown."""

from __future__ import annotations

from typing import Any

from app.context import AppContext
from app.render import Node, h


def change(ctx: AppContext, data: dict[str, Any]) -> str:
    """Do what a click on a pin asks for; returns what was done, "" where the click was about something else.

    Raises:
        InputError: An unknown sample, too many pins, or too long a note.
    """
    from ltg_core import curation

    name, sample = data.get("name"), str(data.get("id", ""))
    if name == "pin":
        done = (curation.pin if data.get("on") else curation.unpin)(ctx.workspace, [sample])
    elif name == "pin-move":
        done = curation.move(ctx.workspace, sample, 1 if data.get("by") == 1 else -1)
    elif name == "pin-note":
        done = curation.annotate(ctx.workspace, sample, str(data.get("value", "")))
    else:
        return ""
    return done


def pin_button(ctx: AppContext, sample: str) -> Node:
    """Pins a sample for the report, or takes the pin away."""
    from ltg_core import curation

    on = any(one.id == sample for one in curation.pinned(ctx.workspace))
    return h(
        "button.pin-button" + (".is-on" if on else ""),
        "Pinned" if on else "Pin",
        act=("pin", {"id": sample, "on": not on}),
        type="button",
        title="Take it out of the report" if on else "A case for the report (Tell)",
        aria_pressed=str(on).lower(),
    )
