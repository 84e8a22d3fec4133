"""Blind review: somebody looks again without seeing the verdicts; then, how well the two agree."""

from __future__ import annotations

import html
import secrets
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import gradio as gr

from app.components import Curator, View
from app.context import AppContext
from app.curation.agreement import outcome
from app.curation.choice import Choice
from app.curation.decide import page_of
from app.curation.items import PAGE
from app.discreet import discreet
from app.render import Node, empty, h, label_of, view
from app.session import CARRIED, EVERY, clicked, polite, text_ids
from ltg_core.errors import InputError, LtgError

if TYPE_CHECKING:
    from ltg_core.curation.review import Review

_WHAT = [
    ("What Decide shows", "shown"),
    ("All decided generated images", "generated"),
    ("All decided", "all"),
]
_BEFORE = (
    "Would somebody else decide the same?",
    "A second person judges the same images in another order, without seeing the first verdict or what the judge said. "
    "Then you see how well the two agree, and where not.",
)


def build(ctx: AppContext) -> SimpleNamespace:
    """Start a review, go through it, read its outcome."""
    w = SimpleNamespace(review=gr.State(""), offset=gr.State(0), acked=gr.State(0))
    with gr.Row(elem_classes="two decide"):
        with gr.Column(elem_classes="rail"):
            w.name = gr.Textbox(
                label="Who reviews", placeholder="Grace", max_length=60, elem_id="review-name"
            )
            w.what = gr.Radio(_WHAT, value="shown", label="Of", elem_id="review-what")
            w.number = gr.Number(
                0,
                label="How many, drawn at random",
                info="0 for all",
                precision=0,
                minimum=0,
                elem_id="review-number",
            )
            w.start = gr.Button("Start the review", variant="primary", elem_id="review-start")
            w.list = View(elem_id="review-list")
        with gr.Column(elem_classes="middle"):
            w.result = View(view(empty(*_BEFORE)), elem_id="review-result")
            w.grid = Curator(
                {"items": [], "empty": [], "mode": "review"}, elem_id="review-grid", visible="hidden"
            )
    w.outputs = [w.review, w.offset, w.list, w.grid, w.result]
    return w


def listed(ctx: AppContext, chosen: str) -> Node:
    """All reviews, the newest first."""
    from ltg_core.curation import review

    rows = []
    for one in review.every(ctx.workspace):
        when = time.strftime("%d %b %H:%M", time.localtime(one.created))
        done = one.answered == one.n
        rows.append(
            h(
                "div.review" + (".is-on" if one.id == chosen else ""),
                h("b", one.reviewer, title=one.reviewer),
                h("span.soft", f"{one.answered:,} of {one.n:,} answered · {when}"),
                h(
                    "div.actions",
                    None if done else h("button", "Go on", act=("open", {"id": one.id}), type="button"),
                    h("button", "Agreement", act=("agreement", {"id": one.id}), type="button"),
                    h("button", "Delete", act=("delete", {"id": one.id}), type="button"),
                ),
                key=one.id,
            )
        )
    return view(h("h4", "Reviews") if rows else None, *rows)


def asked(ctx: AppContext, one: Review, offset: int) -> dict[str, Any]:
    """One page of a review: pictures and classes, nothing of what was decided or believed."""
    from ltg_core.curation import review

    every = review.questions(ctx.workspace, one.id)
    offset = max(0, min(offset, (len(every) - 1) // PAGE * PAGE if every else 0))
    shown = every[offset : offset + PAGE]
    labels = ctx.workspace.label_names()
    samples = {s.id: s for s in ctx.workspace.there([q.sample for q in shown])}
    cards = [
        {"id": q.sample, "t": label_of(samples[q.sample], labels), "v": q.answer or "undecided", "g": [], "n": "",
         "r": 0, "from": "generated"}
        for q in shown
        if q.sample in samples
    ]  # fmt: skip
    return {
        "mode": "review",
        "items": cards,
        "empty": ["These samples are gone", "They are no longer in this workspace."],
        "label": f"Images for {one.reviewer} to judge",
        "offset": offset,
        "total": len(every),
        "more": offset + len(shown) < len(every),
        "first": True,
        "tags": [],
        **_figures(ctx, one),
    }


def _figures(ctx: AppContext, one: Review) -> dict[str, Any]:
    from ltg_core.curation import clock, overview

    undo, redo = overview.ahead(ctx.workspace)
    return {
        "clock": clock(ctx.workspace), "progress": [one.answered, one.n], "tally": {}, "undo": undo, "redo": redo
    }  # fmt: skip


def answer(
    ctx: AppContext, review_id: str, data: dict[str, Any], acked: int, author: str
) -> tuple[int, dict[str, Any]]:
    """Record what the reviewer decided, in order; what the page should know now."""
    from ltg_core.curation import redo, review, undo

    number = data.get("number")
    number = number if isinstance(number, int) and not isinstance(number, bool) else 0
    told: list[str] = []
    steps = data.get("steps") if number > acked else []
    for step in (steps if isinstance(steps, list) else [])[:200]:
        step = step if isinstance(step, dict) else {}
        try:
            if step.get("action") in ("undo", "redo"):
                walk = undo if step["action"] == "undo" else redo
                words = walk(ctx.workspace, author=author)
                told.append(
                    f"{'Undone' if walk is undo else 'Done again'}: {words}" if words else "Nothing to do."
                )
                continue
            if step.get("action") != "verdict":
                raise InputError("in a review an image is accepted, rejected or flagged, no more")
            value = None if step.get("value") == "undecided" else str(step.get("value"))
            given = dict.fromkeys(text_ids(step.get("ids"), limit=PAGE), value)
            review.answer(ctx.workspace, review_id, given, author=author)
        except LtgError as error:
            told.append(discreet(str(error)[:1].upper() + str(error)[1:]))
    one = review.get(ctx.workspace, review_id)
    wanted = set(text_ids(data.get("shown"), limit=PAGE))
    found: dict[str, Any] = dict.fromkeys(wanted)
    found |= {
        q.sample: {"v": q.answer or "undecided"}
        for q in review.questions(ctx.workspace, review_id)
        if q.sample in wanted
    }
    patch = {"ack": number, "items": found, "notice": " ".join(dict.fromkeys(told)), **_figures(ctx, one)}
    return max(number, acked), patch


def wire(ctx: AppContext, w: SimpleNamespace, decide: SimpleNamespace, after: Any) -> None:
    """Connect the events but for "resolve", which opens Decide."""

    def opened(review_id: str, offset: int = 0) -> dict[Any, Any]:
        from ltg_core.curation import review

        value = asked(ctx, review.get(ctx.workspace, review_id), offset)
        return {
            w.review: review_id,
            w.offset: value["offset"],
            w.list: listed(ctx, review_id),
            w.grid: gr.update(value=value, visible=True),
            w.result: view(),
        }

    @polite
    def refresh(review_id: str) -> dict[Any, Any]:
        return {w.list: listed(ctx, review_id or "")}

    @polite
    def start(
        name: str, what: str, number: float | None, choice: Choice, request: gr.Request
    ) -> dict[Any, Any]:
        from ltg_core.curation import review
        from ltg_core.data.records import Filter

        choice = choice or Choice()
        chosen = choice.as_filter(ctx.workspace.label_names()) if what == "shown" else Filter(
            origin="generated" if what == "generated" else None
        )  # fmt: skip
        about = choice.words() if what == "shown" else {v: k for k, v in _WHAT}.get(what, "")
        made = review.start(
            ctx.workspace,
            ctx.workspace.query(chosen),
            name or "",
            number=int(number) if number else None,
            seed=secrets.randbelow(2**31),
            about=about,
            author=page_of(request),
        )
        return opened(made.id)

    @polite
    def act(review_id: str, event: gr.EventData, request: gr.Request) -> Any:
        from ltg_core.curation import review

        data = clicked(event)
        wanted, name = str(data.get("id", "")), data.get("name")
        if name == "open":
            return opened(wanted)
        if name == "agreement":
            shown = {w.result: outcome(ctx, wanted), w.grid: gr.update(visible="hidden")}
            return shown | {w.review: wanted, w.list: listed(ctx, wanted)}
        if name == "delete":
            words = review.delete(ctx.workspace, wanted, author=page_of(request))
            gr.Info(html.escape(f"{words[:1].upper()}{words[1:]}. Undo brings it back."), duration=6)
            hidden = (
                {w.result: view(empty(*_BEFORE)), w.grid: gr.update(visible="hidden")}
                if wanted == review_id
                else {}
            )
            return {w.list: listed(ctx, "")} | hidden
        return gr.skip()

    @polite
    def judge(review_id: str, acked: int, event: gr.EventData, request: gr.Request) -> dict[Any, Any]:
        acked, patch = answer(ctx, review_id or "", clicked(event), acked or 0, page_of(request))
        return {w.acked: acked, w.grid: gr.update(patch=patch)}

    @polite
    def turn(review_id: str, offset: int, event: gr.EventData) -> dict[Any, Any]:
        step = PAGE if clicked(event).get("to") == "next" else -PAGE
        return opened(review_id or "", (offset or 0) + step)

    @polite
    def settle(review_id: str) -> dict[Any, Any]:
        from ltg_core.curation import review

        one = review.get(ctx.workspace, review_id or "")
        shown: dict[Any, Any] = {w.list: listed(ctx, one.id)}
        return shown | ({w.result: outcome(ctx, one.id)} if one.answered == one.n else {})

    w.refresh, once = refresh, {"concurrency_id": "verdicts", **EVERY}
    after(w.start.click(start, [w.name, w.what, w.number, decide.choice], w.outputs, **once))
    after(w.list.act(act, w.review, w.outputs, **once))
    w.grid.decide(judge, [w.review, w.acked], [w.acked, w.grid], **once)
    w.grid.turn(turn, [w.review, w.offset], w.outputs, **once)
    w.grid.settle(settle, w.review, [w.list, w.result], **CARRIED)
