"""What can be done with several samples at once, and the one line in which a name or a tag is written."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import gradio as gr

from app import named
from app.components import View
from app.context import AppContext
from app.looking import filter_of, look
from app.query import Query
from app.render import Node, h, view
from app.session import CARRIED, QUICK, clicked, polite, text_ids
from app.slicelist import Undo
from app.viewing import summary
from ltg_core.errors import InputError

_ESCAPE = """() => {
  const grid = document.querySelector('#browse-grid .ltg-grid');
  if (grid) grid.dispatchEvent(new KeyboardEvent('keydown', { key: 'Escape', bubbles: true }));
}"""
# The line is shown a moment after its state has changed; whoever asked for it goes on there.
_FOCUS = """() => { let tries = 0; const wait = setInterval(() => {
  const field = document.querySelector('#browse-words input, #browse-words textarea');
  if (field && field.offsetParent) { field.focus(); tries = 200; }
  if ((tries += 1) > 200) clearInterval(wait);
}, 50); }"""
NOTHING: dict[str, str] = {}
TAG, SLICE, FILTER, RENAME, TERMS = "tag", "slice", "filter", "rename", "terms"
_NAME, _TERMS = 200, 2_000  # letters of a name, and of words to look for


def build(w: SimpleNamespace) -> None:
    """The bar, and the line below it."""
    w.bar = View(elem_id="browse-selection")
    with gr.Row(visible=False, elem_id="browse-ask", elem_classes="ask") as w.ask_row:
        w.words = gr.Textbox(
            label="Name", max_length=_NAME, elem_id="browse-words", submit_btn="Save", scale=1, lines=1
        )
        w.ask_away = gr.Button("Cancel", elem_id="browse-ask-away", size="sm", min_width=80, scale=0)
    w.asked, w.cleared = gr.State(NOTHING), gr.State(0)
    w.selection = gr.State([])
    w.asking = [w.ask_row, w.words, w.asked]


def bar(ids: list[str]) -> Node:
    """The selection, and what can be done with it; empty where fewer than two are selected."""
    if len(ids) < 2:
        return view()

    def button(text: str, name: str, title: str, **given: Any) -> Node:
        return h("button", text, act=(name, given), type="button", title=title)

    return view(
        h(
            "div.selection",
            h("b", f"{len(ids):,} selected"),
            button("Explain", "explain", "Explain these predictions side by side"),
            button("Imagine from these", "imagine", "Start a generation from these samples"),
            button("On the map", "map", "Ring these samples on the map"),
            button("Tag", "ask", "Add tags to these samples", what=TAG),
            button("Save as slice", "ask", "Keep these samples under a name", what=SLICE),
            h(
                "button.link",
                "Clear",
                act=("deselect", {}),
                type="button",
                title="Select nothing (Esc in the grid)",
            ),
            role="group",
            aria_label="Selected samples",
        )
    )


def hidden(w: SimpleNamespace) -> dict[Any, Any]:
    """The line put away."""
    return {w.ask_row: gr.update(visible=False), w.asked: NOTHING}


def wire(ctx: AppContext, w: SimpleNamespace, redraw: Any) -> None:
    """Connect the bar and the line.

    Args:
        ctx: The process.
        w: Browse's widgets.
        redraw: (query, opened, sample) → updates of everything that the query shows.
    """

    @polite
    def away() -> dict[Any, Any]:
        return hidden(w)

    @polite
    def done(
        text: str, asked: dict[str, str], selection: list[str], query: Query, opened: list[str], sample: str
    ) -> dict[Any, Any]:
        asked, query = asked or NOTHING, query or Query()
        undo = _way_back(ctx, asked)
        gr.Info(answer(ctx, asked, text or "", text_ids(selection), query), duration=6)
        # The samples have not moved, so the grid keeps its selection.
        found = redraw(query, opened, sample)
        if undo is not None:
            found[w.summary] = summary(ctx, look(ctx, query), undo)
        return {part: found[part] for part in (w.facets, w.count, w.summary)} | hidden(w)

    @polite
    def act(selection: list[str], cleared: int, event: gr.EventData) -> Any:
        data = clicked(event)
        if data.get("name") == "deselect":
            return {w.cleared: cleared + 1}
        return asking(ctx, w, data, selection) if data.get("name") == "ask" else gr.skip()

    line = [w.ask_row, w.asked]
    w.bar.act(act, [w.selection, w.cleared], [*w.asking, w.cleared], **CARRIED)
    w.asked.change(None, None, None, js=_FOCUS)
    w.ask_away.click(away, None, line, **QUICK)
    w.cleared.change(None, None, None, js=_ESCAPE)
    given = [w.words, w.asked, w.selection, w.query, w.opened, w.sample]
    w.words.submit(
        done, given, [w.facets, w.count, w.summary, *line], show_progress="hidden", concurrency_limit=1
    )


def asking(ctx: AppContext, w: SimpleNamespace, data: dict[str, Any], selection: list[str]) -> dict[Any, Any]:
    """The line for what a button asks."""
    what, slice_id = str(data.get("what")), str(data.get("id", ""))[:64]
    label, button, value = _question(ctx, what, slice_id, len(text_ids(selection)))
    return {
        w.ask_row: gr.update(visible=True),
        w.words: gr.Textbox(
            label=label, submit_btn=button, value=value, max_length=_TERMS if what == TERMS else _NAME
        ),
        w.asked: {"what": what, "id": slice_id, "at": str(time.time())},
    }


def _question(ctx: AppContext, what: str, slice_id: str, n: int) -> tuple[str, str, str]:
    """Label, button and first value of the line."""
    from ltg_core import workflows

    if what == TAG:
        return f"Tags for {n:,} samples, with commas between them", "Tag", ""
    if what == TERMS:
        return "Words to look for in the pictures, with commas between them: fog, dirt, at night", "Find", ""
    if what == RENAME:
        return "New name of the slice", "Rename", workflows.slice_of(ctx.workspace, slice_id).name
    return (f"Name of the slice of {n:,} samples" if what == SLICE else "Name of the slice"), "Save", ""


def _way_back(ctx: AppContext, asked: dict[str, str]) -> Undo | None:
    """How a renaming is taken back; made before it is done."""
    from ltg_core import workflows

    if asked.get("what") != RENAME:
        return None
    old = workflows.slice_of(ctx.workspace, asked.get("id", "")).name
    return Undo(f"It was called “{old}”.", "slice-name", asked.get("id", ""), old)


def answer(ctx: AppContext, asked: dict[str, str], text: str, ids: list[str], query: Query) -> str:
    """Do what was asked for; returns what was done, in words.

    Raises:
        InputError: Nothing was written or selected, or the name is taken.
    """
    import html

    from ltg_core import workflows
    from ltg_core.curation import verdicts
    from ltg_core.data.records import Filter

    what = asked.get("what")
    if what == TAG:
        wanted = [one.strip() for one in text.split(",") if one.strip()]
        if not wanted or not ids:
            raise InputError("select samples and write a tag")
        told = f"{verdicts.tag(ctx.workspace, ids, add=wanted)}; Undo in Curate takes it back."
    elif what == RENAME:
        told = (
            f"“{workflows.rename_slice(ctx.workspace, asked.get('id', ''), text)}” is now “{text.strip()}”."
        )
    elif what == TERMS:
        if not text.strip():
            raise InputError("write the words to look for, with commas between them")
        named.search(ctx, "errors", "vocabulary", text.strip()[:_TERMS])
        told = "Looking for weak slices that these words describe; what is found appears under Slices."
    elif what == SLICE:
        if not ids:
            raise InputError("the selection is gone; select the samples again")
        workflows.save_slice(ctx.workspace, text, Filter(ids=tuple(ids)))
        told = f"Saved {len(ids):,} samples as the slice “{text.strip()}”; see Slices."
    elif what == FILTER:
        workflows.save_slice(ctx.workspace, text, filter_of(ctx, query))
        told = f"Saved these filters as the slice “{text.strip()}”; see Slices."
    else:
        raise InputError("nothing was asked; choose Tag or Save as slice again")
    return html.escape(told[:1].upper() + told[1:])
