"""Sets: keep what is accepted under a name, compare two versions, set everything back."""

from __future__ import annotations

import html
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import gradio as gr

from app.components import View
from app.context import AppContext
from app.curation.choice import Choice
from app.curation.decide import page_of
from app.render import Node, empty, h, label_of, view
from app.session import EVERY, LATEST, clicked, polite

if TYPE_CHECKING:
    from ltg_core.curation.sets import Difference, SampleSet

NOW = "now"
_WHAT = [("All accepted samples", "accepted"), ("What Decide shows", "shown")]
_THUMBS = 24
_MOST = 200_000


def build(ctx: AppContext) -> SimpleNamespace:
    """Keep, list, compare."""
    w = SimpleNamespace()
    with gr.Row(elem_classes="two"):
        with gr.Column(elem_classes="rail"):
            w.name = gr.Textbox(
                label="Name of the set", placeholder="night signs", max_length=100, elem_id="set-name"
            )
            w.what = gr.Radio(_WHAT, value="accepted", label="Keep", elem_id="set-what")
            w.keep = gr.Button("Keep this version", variant="primary", elem_id="set-keep")
            with gr.Column(elem_classes="stack"):
                w.first = gr.Dropdown([], label="Compare", elem_id="set-first", interactive=True)
                w.second = gr.Dropdown([("Accepted now", NOW)], value=NOW, label="with", elem_id="set-second",
                                       interactive=True)  # fmt: skip
                w.compare = gr.Button("Show the difference", elem_id="set-compare")
        with gr.Column(elem_classes="middle"):
            w.list = View(elem_id="set-list")
            w.difference = View(elem_id="set-difference")
    return w


def listed(ctx: AppContext) -> Node:
    """All versions, the newest first."""
    from ltg_core.curation import sets

    found = sets.every(ctx.workspace)
    if not found:
        text = "Give what is accepted a name on the left. Later you can see what changed since, and go back to it."
        return view(empty("No set was kept yet", text))
    return view(h("div.sets", *[_row(one) for one in found]))


def _row(one: SampleSet) -> Node:
    classes = ", ".join(f"{name[:60]} {count:,}" for name, count in list(one.classes.items())[:6])
    more = len(one.classes) - 6
    when = time.strftime("%d %b %Y %H:%M", time.localtime(one.created))
    return h(
        "div.set",
        h(
            "div.set-text",
            h("div.set-head", h("b", one.name, title=one.name), h("span.badge", f"version {one.version}")),
            h(
                "span.soft",
                f"{one.n:,} samples · {when}" + ("" if one.scope == "accepted" else " · chosen samples"),
            ),
            h("span.soft.set-classes", classes + (f" and {more} more" if more > 0 else "")),
            h("span.soft.hash", f"sha256 {one.hash[:16]}…", title=one.hash),
        ),
        h(
            "div.actions",
            _button("Difference to now", "compare", one) if one.scope == "accepted" else None,
            _button("Restore", "restore", one),
            _button("Export", "export", one),
            _button("Delete", "delete", one),
        ),
        key=one.ref,
    )


def _button(text: str, name: str, one: SampleSet) -> Node:
    return h("button", text, act=(name, {"set": one.ref}), type="button", aria_label=f"{text}: {one.ref}")


def difference(ctx: AppContext, first: str, second: str) -> Node:
    """What came, went and changed, with thumbnails."""
    from ltg_core.curation import sets

    found = sets.difference(ctx.workspace, first, second)
    names = [ref if ref != NOW else "what is accepted now" for ref in (first, second)]
    changed = len({sample for sample, *_ in found.changed})
    counts = (
        (len(found.added), "added"),
        (len(found.removed), "removed"),
        (changed, "changed"),
        (found.same, "same"),
    )
    figures = [h("div.figure", h("b", f"{n:,}"), h("span", text)) for n, text in counts]
    parts = [
        _thumbs(ctx, f"Only in {names[1]}", list(found.added)),
        _thumbs(ctx, f"Only in {names[0]}", list(found.removed)),
        _changes(ctx, found),
    ]
    equal = not any(n for n, _ in counts[:3])
    return view(
        h("h3", f"From {names[0]} to {names[1]}"),
        h("div.figures", *figures),
        h("p.soft", "The two are the same.") if equal else None,
        *parts,
        classes="panel difference",
    )


def _thumbs(ctx: AppContext, title: str, ids: list[str]) -> Node | None:
    from app.curation.items import known

    if not ids:
        return None
    there = set(known(ctx, ids[:_THUMBS]))
    shown = [
        h("img.thumb", src=f"thumb:{one}", alt="") if one in there else h("span.thumb.is-none", "gone")
        for one in ids[:_THUMBS]
    ]
    rest = f" · the first {_THUMBS} of {len(ids):,}" if len(ids) > _THUMBS else ""
    return h("div", h("h4", f"{title}{rest}"), h("div.thumbs", *shown))


def _changes(ctx: AppContext, found: Difference) -> Node | None:
    if not found.changed:
        return None
    shown = found.changed[:_THUMBS]
    labels = {s.id: label_of(s, []) for s in ctx.workspace.there([sample for sample, *_ in shown])}
    rows = [
        h(
            "div.change-row",
            h("img.thumb", src=f"thumb:{sample}", alt="")
            if sample in labels
            else h("span.thumb.is-none", "gone"),
            h("b", labels.get(sample, "")),
            h("span", field),
            h("span.soft", old or "–"),
            h("span", "→"),
            h("span", new or "–"),
        )
        for sample, field, old, new in shown
    ]
    rest = f" · the first {_THUMBS} of {len(found.changed):,}" if len(found.changed) > _THUMBS else ""
    return h("div", h("h4", f"Changed{rest}"), h("div.changes", *rows))


def wire(ctx: AppContext, w: SimpleNamespace, decide: SimpleNamespace, after: Any) -> None:
    """Connect the events but for "export", which the export part listens to."""

    def shown(first: Any = None, second: Any = None) -> dict[Any, Any]:
        from ltg_core.curation import sets

        refs = [(one.ref, one.ref) for one in sets.every(ctx.workspace)]
        known = [ref for _, ref in refs]
        first = first if first in known else known[0] if known else None
        second = second if second in [*known, NOW] else NOW
        return {
            w.list: listed(ctx),
            w.first: gr.Dropdown(refs, value=first),
            w.second: gr.Dropdown([("Accepted now", NOW), *refs], value=second),
        }

    @polite
    def refresh(first: Any, second: Any) -> dict[Any, Any]:
        return shown(first, second)

    @polite
    def keep(name: str, what: str, choice: Choice, request: gr.Request) -> dict[Any, Any]:
        from ltg_core.curation import sets

        ids = None
        if what == "shown":
            chosen = (choice or Choice()).as_filter(ctx.workspace.label_names())
            ids = ctx.workspace.query(chosen, limit=_MOST)
        before = {one.ref for one in sets.every(ctx.workspace)}
        made = sets.snapshot(ctx.workspace, name or "", ids, author=page_of(request))
        same = made.ref in before
        words = f"Nothing changed since {made.ref}." if same else f"Kept {made.n:,} samples as {made.ref}."
        gr.Info(html.escape(words), duration=5)
        return {w.name: "", **shown(made.ref)}

    @polite
    def act(event: gr.EventData, request: gr.Request) -> Any:
        from ltg_core.curation import sets

        data, author = clicked(event), page_of(request)
        ref, name = str(data.get("set", "")), data.get("name")
        if name == "compare":
            return {w.difference: difference(ctx, ref, NOW)}
        if name == "restore":
            done = sets.restore(ctx.workspace, ref, author=author)
            gone = f" {len(done.gone):,} of its samples are gone." if done.gone else ""
            words = f"{done.description[:1].upper()}{done.description[1:]}.{gone} Undo takes it back."
            gr.Info(html.escape(words), duration=6)
            return shown() | {w.difference: view()}
        if name == "delete":
            words = sets.delete(ctx.workspace, ref, author=author)
            gr.Info(html.escape(f"{words[:1].upper()}{words[1:]}. Undo brings it back."), duration=6)
            return shown() | {w.difference: view()}
        return gr.skip()

    @polite
    def compare(first: str, second: str) -> dict[Any, Any]:
        return {w.difference: difference(ctx, first or "", second or NOW)}

    w.refresh, w.refresh_inputs, w.outputs = refresh, [w.first, w.second], [w.list, w.first, w.second]
    once = {"concurrency_id": "verdicts", **EVERY}
    for trigger in (w.keep.click, w.name.submit):
        after(trigger(keep, [w.name, w.what, decide.choice], [w.name, *w.outputs], **once))
    after(w.list.act(act, None, [*w.outputs, w.difference], **once))
    w.compare.click(compare, [w.first, w.second], w.difference, **LATEST)
