"""What each tab keeps in the address, and how every tab is told what the address says."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import gradio as gr

from app.brief import brief
from app.context import AppContext
from app.query import read_address
from app.session import CARRIED, Session, clicked, message, polite
from ltg_core.errors import LtgError

ALWAYS = "browse"
"""The tab whose state stays in the address whatever is shown."""


@dataclasses.dataclass(frozen=True)
class Arrival:
    """An address that a page was opened with, or that back and forward lead to.

    Attributes:
        given: Its names and values.
        tab: The tab that it shows.
        first: Whether the page has just been opened.
    """

    given: Mapping[str, str]
    tab: str
    first: bool = False

    def of(self, tab: str) -> dict[str, str]:
        """What one tab has kept there; the names without that of the tab."""
        start = f"{tab}."
        return {name.removeprefix(start): text for name, text in self.given.items() if name.startswith(start)}


def kept(
    tab: str, state: Mapping[str, str], *, replace: bool = False, show: bool = False, go: bool = False
) -> dict[str, Any]:
    """The value of the address when something on a tab has changed.

    Args:
        tab: Its id; its names in the address begin with it.
        state: All that it keeps; "" for what is as it is at first, and is left out.
        replace: Whether this is no step to go back to.
        show: Whether the address is to show the tab from now on.
        go: Whether the page is to follow the address, as if it had been opened.
    """
    named = {f"{tab}.{name}": brief(text) for name, text in state.items() if text}
    shown = {"tab": tab} if show or go else {}
    return {"set": {**shown, **named}, "of": tab, "replace": replace, "go": go, "at": time.time()}


def wire(ctx: AppContext, session: Session, widgets: dict[str, SimpleNamespace]) -> Any:
    """One event for all tabs; its answer says to which question it belongs.

    A tab that keeps something has ``arrive(values, arrival)``, which gives updates, ``arrive_inputs`` and
    ``arrive_outputs``. The address speaks of Browse and of the tab that it shows; the others stay as they are.
    """
    tabs = {name: w for name, w in widgets.items() if hasattr(w, "arrive")}

    @polite
    def arrive(values: dict[Any, Any], event: gr.EventData) -> dict[Any, Any]:
        data = clicked(event)
        given, tab = read_address(str(data.get("query", "")))
        tab = tab if tab in widgets else ALWAYS
        arrival = Arrival(given, tab, first=data.get("number", 1) == 1)
        found: dict[Any, Any] = {}
        for name in dict.fromkeys((ALWAYS, tab) if tab in tabs else (ALWAYS,)):
            try:
                found |= tabs[name].arrive(values, arrival)
            except LtgError as error:  # what one tab cannot show does not hinder the others
                gr.Warning(message(error), title="A part of this address is left out", duration=8)
        found |= {session.tabs: gr.Tabs(selected=tab), session.shown: tab}
        return found | {session.address: {"answered": data.get("number"), "at": time.time()}}

    inputs = {part for w in tabs.values() for part in w.arrive_inputs}
    drawn = [part for w in tabs.values() for part in w.arrive_outputs]
    outputs = list(dict.fromkeys([*drawn, session.tabs, session.shown, session.address]))
    return session.address.go(arrive, inputs, outputs, **CARRIED)
