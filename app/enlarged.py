"""One generated image at full size: beside what it came from, why it is believed, and how it was made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from app.context import AppContext
from app.controls import words
from app.render import Node, facts, h, label_of, percent, view
from app.rows import Book, buttons, frames, head, said
from app.tracing import trace_figure
from ltg_core.guidance.settings import PRESETS, Guidance

if TYPE_CHECKING:
    from ltg_core.data.records import Run, Sample


def enlarged(ctx: AppContext, run: str, sample_id: str) -> Node:
    """The large view.

    Raises:
        InputError: The image is not of this run, or gone.
    """
    from ltg_core import workflows
    from ltg_core.errors import InputError

    rows = workflows.triplets(ctx.workspace, run)
    ids = [row["guided"] for row in rows]
    if sample_id not in ids:
        raise InputError("this image is no longer in the workspace; choose another one")
    place = ids.index(sample_id)
    row = rows[place]
    book = Book(ctx, [row])
    sample: Sample = book.samples[sample_id]
    record = ctx.workspace.run(run)
    trace = trace_figure(workflows.run_trace(ctx.workspace, run), int(sample.meta.get("index", -1)))
    return view(
        _bar(ids, place, len(rows)),
        h("div.large-head", head(book, sample), said(book, sample), buttons(sample)),
        h("div.quad.large-quad", *[_still(node) for node in frames(book, row)]),
        h(
            "p.large-why",
            h("b", "Believed: " if sample.belief == "believed" else "Quarantined: " if sample.belief else ""),
            sample.belief_reason or "",
        ),
        h(
            "div.large-columns",
            h("section", h("h4", "Why"), facts(_validity(row, sample)), *_neighbours(ctx, book, sample)),
            h("section", h("h4", "How it was made"), facts(_making(record, sample)), *_provenance(record)),
            h("section", h("h4", "Signal and weight by step"), trace) if trace else None,
        ),
        classes="large",
    )


def _still(node: Node) -> Node:
    """The frame without its button: it is open already."""
    kids = [kid["k"][0] if kid.get("t") == "button" else kid for kid in node["k"]]
    return {**node, "k": kids}


def _bar(ids: Sequence[str], place: int, number: int) -> Node:
    def step(text: str, to: int, name: str) -> Node:
        there = 0 <= to < len(ids)
        off = {} if there else {"disabled": "true"}
        act = ("enlarge", {"id": ids[to]}) if there else None
        return h("button", text, act=act, type="button", title=name, aria_label=name, **off)

    return h(
        "div.large-bar",
        h(
            "button.link.back.takes-focus",
            "← All images of this run",
            act=("back", {}),
            type="button",
            key="back",
        ),
        h("span.soft", f"{place + 1} of {number}"),
        step("←", place - 1, "Previous image"),
        step("→", place + 1, "Next image"),
    )


def _validity(row: Mapping[str, Any], sample: Sample) -> list[tuple[str, Any]]:
    meta = sample.meta

    def share(name: str) -> str:
        value = meta.get(name)
        return "–" if value is None else percent(float(value))

    distance, limit = meta.get("distance"), meta.get("distance_limit")
    near = "–"
    if distance is not None and limit:
        side = "within" if distance <= limit else "beyond"
        near = f"{float(distance):.3g}, {side} the limit {float(limit):.3g} of 99 % of real data"
    before = row.get("percentile_control")
    return [
        ("Signal", f"{words(str(meta.get('signal', '')))}, percentile of held-out real data"),
        ("Unguided", None if before is None else f"P {float(before):.1f}"),
        ("Guided", None if row.get("percentile") is None else f"P {float(row['percentile']):.1f}"),
        (
            "Judge",
            f"{share('judge')} for the class"
            + ("" if meta.get("agrees", True) else ", but another is likelier"),
        ),
        ("Distance", near),
        ("Survival", f"{share('survival')} of the signal after JPEG, blur, crop and re-encoding"),
    ]


def _neighbours(ctx: AppContext, book: Book, sample: Sample) -> list[Node]:
    ids = [str(one) for one in sample.meta.get("neighbours") or []][:5]
    there = set(ctx.workspace.query(_only(ids))) if ids else set()
    found = ctx.workspace.samples([one for one in ids if one in there])
    if not found:
        return []
    cards = [
        h(
            "button.neighbour",
            h("img.thumb", src=f"thumb:{one.id}", alt=label_of(one, book.labels)),
            h("span", label_of(one, book.labels)),
            act=("open", {"id": one.id}),
            type="button",
            title="Open it in Browse",
            key=one.id,
        )
        for one in found
    ]
    return [h("h4", "Nearest real samples, by the classifier's features"), h("div.neighbours", *cards)]


def _only(ids: Sequence[str]) -> Any:
    from ltg_core.data.records import Filter

    return Filter(ids=tuple(ids))


def _making(record: Run, sample: Sample) -> list[tuple[str, Any]]:
    settings, meta = record.settings, sample.meta
    given = settings.get("guidance")
    guidance = Guidance.from_dict(given) if given else PRESETS["unguided"]
    aims, place = settings.get("aims") or [], meta.get("index")
    own = aims[place] if isinstance(place, int) and place < len(aims) else {}
    aimed = {**(settings.get("aim") or {}), **own}
    aim = ", ".join(f"{words(str(k)).lower()}: {v}" for k, v in aimed.items())
    searched = (
        f"{int(meta.get('candidate', 0)) + 1} of {guidance.candidates} drafts" if guidance.searches else ""
    )
    return [
        ("Prompt", str(meta.get("prompt") or sample.caption)),
        ("Negative", settings.get("negative")),
        ("Seed", meta.get("seed")),
        ("Aimed at", aim),
        ("Chosen", searched),
        ("Weight", f"{float(meta.get('weight') or 0):g}"),
        ("Preset", settings.get("preset")),
        ("Source", meta.get("source")),
        ("Resembles", meta.get("like")),
    ]


def _provenance(record: Run) -> list[Node]:
    settings = record.settings.get("guidance") or {}
    models = [(words(role), str(value)) for role, value in record.hashes.items() if value]
    versions = ", ".join(f"{name} {value}" for name, value in record.versions.items())
    return [
        h(
            "details.calls",
            h("summary", "All settings"),
            facts([(words(name), str(value)) for name, value in settings.items() if value != ""]),
        ),
        h(
            "details.calls",
            h("summary", "Provenance"),
            facts([("Run", record.id), *models, ("Versions", versions)]),
            h("p.soft", "The run, the seed and these models give the same image again, bit for bit."),
        ),
    ]
