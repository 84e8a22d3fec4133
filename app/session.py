"""The state of one page: ids only. And the handlers' common manners."""

from __future__ import annotations

import dataclasses
import functools
import html
import logging
from collections.abc import Callable
from typing import Any

import gradio as gr

from app.components import Address
from app.discreet import discreet
from app.serving import PAGE
from ltg_core.errors import LtgError

log = logging.getLogger(__name__)

KINDS = (
    "generate",
    "explain",
    "map",
    "export",
    "setup",
    "measure",
    "tell",
    "slices",
    "retrain",
    "compare",
    "adopt",
    "loop",
    "extend",
)
"""Kinds of jobs that a tab follows."""
BEATS = (*KINDS, "open")
"""Kinds of jobs whose every step a page hears of."""
QUICK: dict[str, Any] = {"show_progress": "hidden", "concurrency_limit": None}
"""For cheap handlers: nothing flickers, and one user does not wait for another."""
BESIDE: dict[str, Any] = {**QUICK, "trigger_mode": "multiple"}
"""For what a component sends along and nothing waits for."""
IN_ORDER: dict[str, Any] = {**QUICK, "concurrency_id": PAGE}
"""For clicks: a page's are done one after the other, each on what the one before has left."""
LATEST: dict[str, Any] = {**IN_ORDER, "trigger_mode": "always_last"}
"""For what follows the pointer: of several events in a hurry the last one counts."""
CARRIED: dict[str, Any] = {**IN_ORDER, "trigger_mode": "multiple"}
"""For what a component sends along: Gradio holds a ``LATEST`` event back while one runs, and then forgets its data."""
EVERY: dict[str, Any] = {"show_progress": "hidden", "concurrency_limit": 1, "trigger_mode": "multiple"}
"""For decisions: none is dropped, and they are done in order."""


@dataclasses.dataclass
class Seen:
    """What a page has been told, as one state that is changed in place.

    Gradio's script goes through all inputs of a handler at every event, so that thirty states of their own were felt.

    Attributes:
        heard: The pulse that the last answer said; a page that says another one has not got that answer.
        header: What the header shows.
        beats: By kind of job, what the page has seen of the newest one.
        due: By tab, the revision of the workspace that it is to show.
    """

    heard: str = ""
    header: str = ""
    beats: dict[str, str] = dataclasses.field(default_factory=dict)
    due: dict[str, int] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Session:
    """Gradio's state components of a page, shared by its tabs.

    Attributes:
        tabs: To change the tab.
        address: What the browser's address bar shows.
        sample: Id of the selected sample.
        sources: Ids of the real samples that Imagine starts from.
        explained: Ids that Explain shows.
        run: Id of the generation that Imagine shows.
        shown: Id of the tab that the address led to; "" until the page has arrived there.
        due: By tab, the revision of the workspace that it is to show; a tab is drawn when it changes.
        drawn: By tab, the revision that it shows; -1 for a tab that has not been drawn yet.
        beats: By kind of job, what the page has seen of the newest one; a tab redraws when it changes.
    """

    tabs: gr.Tabs
    address: Address
    sample: gr.State
    sources: gr.State
    explained: gr.State
    run: gr.State
    shown: gr.State
    due: dict[str, gr.State]
    drawn: dict[str, gr.State]
    beats: dict[str, gr.State]


def polite(handler: Callable[..., Any]) -> Callable[..., Any]:
    """A handler whose errors become a message that says what to do; the page keeps what it shows."""

    @functools.wraps(handler)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        try:
            return handler(*args, **kwargs)
        except LtgError as error:
            gr.Warning(message(error), title="That did not work", duration=12)
        except gr.Error:
            raise
        except Exception as error:  # the user gets one sentence, the log gets the rest
            log.exception("%s failed", handler.__name__)
            gr.Warning(message(error), title="Something went wrong", duration=12)
        return gr.skip()

    return wrapped


def message(error: Exception) -> str:
    """An error for a toast: first letter large, no markup."""
    text = discreet(str(error).strip()) or type(error).__name__
    return html.escape(text[:1].upper() + text[1:])


def clicked(event: gr.EventData) -> dict[str, Any]:
    """What a component sent along, always a dictionary."""
    data = event._data
    return data if isinstance(data, dict) else {}


def text_ids(value: Any, limit: int = 100_000) -> list[str]:
    """A list of ids from the browser, or none of it: only short alphanumeric strings pass."""
    if not isinstance(value, list):
        return []
    return [one for one in value[:limit] if isinstance(one, str) and one.isalnum() and len(one) <= 64]
