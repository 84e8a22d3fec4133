"""What Imagine says about its own controls: the preset in words, the price, the sources, the empty page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from app.context import AppContext
from app.controls import words
from app.discreet import discreet
from app.imagining import ABOUT, COUNTERFACTUAL, custom, order_of
from app.render import Node, empty, h, label_of, view
from ltg_core.errors import LtgError
from ltg_core.guidance.settings import Guidance

if TYPE_CHECKING:
    from ltg_core.workflows import Estimate, Order

LONG = 300.0  # seconds; a longer wait is said before it begins
_SHOWN = 12
_NEEDED = {"cfg": "guidance scale"}


def about_view(
    preset: str, guidance: Guidance | None, sources: Sequence[str], needs: Mapping[str, Any] | None = None
) -> Node:
    """What a preset is for, what the generator needs instead, whether it still is that preset, and what it lacks."""
    title, purpose = ABOUT.get(preset, ("", ""))
    changed = custom(preset, guidance, needs) if guidance is not None else {}
    lines: list[Node | None] = [h("p.soft", purpose)]
    if needs:
        lines.append(h("p.soft", f"With {needed(needs)}, as this generator was made for."))
    if changed:
        shown = [
            f"{words(name).lower()} {_value(a)} → {_value(b)}" for name, (a, b) in list(changed.items())[:4]
        ]
        more = f" and {len(changed) - 4} more" if len(changed) > 4 else ""
        lines.append(
            h(
                "p.custom",
                h("b", "Custom"),
                f", from {title}: {'; '.join(shown)}{more}. ",
                h("button.link", f"Back to {title}", act=("preset", {}), type="button"),
            )
        )
    if preset == COUNTERFACTUAL and not sources:
        lines.append(
            h(
                "p.warn",
                "Choose the sample to start from: open one in Browse and press “Imagine from this”. ",
                h("button.link", "Go to Browse", act=("browse", {}), type="button"),
            )
        )
    return view(*lines)


def needed(needs: Mapping[str, Any]) -> str:
    """Settings that a generator asks for, in words."""
    return " and ".join(
        f"{_NEEDED.get(name, words(name).lower())} {_value(value)}" for name, value in needs.items()
    )


def _value(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _estimate(ctx: AppContext, order: Order) -> Estimate:
    from ltg_core import workflows

    runs = ctx.cached("generations", lambda: ctx.workspace.runs("generate"))
    return workflows.estimate(ctx.workspace, order, runs=runs, device=ctx.device)


def price(ctx: AppContext, order: Order) -> Node:
    """What an order will cost, in words."""
    found = _estimate(ctx, order)
    if found.seconds is None:
        first = "Time not known yet: it is measured once on this machine, which takes a few seconds."
        return view(h("div.price", h("b", "First run"), h("span.soft", first)), _calls(found))
    some = f"{found.images} image{'s' if found.images != 1 else ''}"
    early = found.images > order.unit
    lines = [
        h(
            "div.price",
            h("b", f"About {duration(found.seconds)}"),
            h(
                "span.soft",
                f" for {some}" + (f"; the first after {duration(found.first or 0)}" if early else ""),
            ),
        ),
        h("div.price", h("span.soft", f"Memory: {_memory(found)}")),
    ]
    if found.seconds > LONG:
        lines.append(
            h(
                "p.warn",
                "That is long. Fewer images, candidates or steps make it shorter; you can cancel at any time and keep "
                "what is finished.",
            )
        )
    return view(*lines, _calls(found))


def told(ctx: AppContext, order: Order) -> str:
    """The time of an order as a sentence; "" where none was measured yet."""
    seconds = _estimate(ctx, order).seconds
    return (
        f"About {duration(seconds)}; you can cancel at any time and keep what is finished." if seconds else ""
    )


def _memory(found: Estimate) -> str:
    extra, models = found.memory or 0, found.weights or 0
    total = extra + models
    size = f"{total / 1e9:.1f} GB" if total >= 9.5e8 else f"{max(10, round(total / 1e7) * 10)} MB"
    words = "light" if total < 1e9 else "moderate" if total < 6e9 else "heavy; a GPU or a server"
    return f"{words}, at most about {size}, models included"


def _calls(found: Estimate) -> Node:
    names = (
        ("U", "denoiser"),
        ("T", "small decoder"),
        ("D", "full decoder"),
        ("C", "classifier"),
        ("J", "judge"),
    )
    rows = [(name, found.calls.get(key, 0), found.calls.get(key + "b", 0)) for key, name in names]
    shown = [
        h(
            "div.fact",
            h("span.fact-name", name),
            h("span.fact-value", f"{n:,}" + (f" + {b:,} gradients" if b else "")),
        )
        for name, n, b in rows
        if n
    ]
    basis = (
        f"Corrected by the last {found.runs} run{'s' if found.runs != 1 else ''} here." if found.runs else ""
    )
    return h(
        "details.calls",
        h("summary", "How this is counted"),
        h("p.soft", f"Network calls a sample, controls included. {basis}".strip()),
        h("div.facts", *shown),
    )


def duration(seconds: float) -> str:
    """A time that nobody takes for exact."""
    if seconds < 2:
        return "a second"
    if seconds < 90:
        return f"{5 * round(seconds / 5) if seconds >= 20 else round(seconds)} s"
    if seconds < 5400:
        return f"{round(seconds / 60)} min"
    return f"{seconds / 3600:.1f} h"


def priced(
    ctx: AppContext, w: SimpleNamespace, values: Mapping[Any, Any], sources: Sequence[str]
) -> dict[Any, Any]:
    """The lines about preset and price for what the controls show."""
    preset, needs = str(values[w.preset]), values[w.needs]
    try:
        order = order_of(w, values, sources)
        found = price(ctx, order) if ctx.generator_name() is not None else view()
        return {
            w.about: about_view(preset, Guidance.from_dict(dict(order.guidance)), sources, needs),
            w.estimate: found,
        }
    except LtgError as error:
        text = discreet(str(error))
        return {
            w.about: about_view(preset, None, sources, needs),
            w.estimate: view(h("p.warn", text[:1].upper() + text[1:])),
        }


def sources_view(ctx: AppContext, ids: Sequence[str], about: str = "") -> Node:
    """What the generation starts from or is aimed at: thumbnails, how many, and the way out."""
    if not ids and not about:
        return view()
    samples = ctx.workspace.there(list(ids)[:_SHOWN])
    labels = ctx.workspace.label_names()
    shown = [
        h(
            "button.source",
            h("img.thumb", src=f"thumb:{sample.id}", alt=label_of(sample, labels)),
            h("span.source-x", "✕", aria_hidden="true"),
            act=("remove", {"id": sample.id}),
            type="button",
            title=f"{label_of(sample, labels)}: remove",
            aria_label=f"Remove {label_of(sample, labels)} from the sources",
            key=sample.id,
        )
        for sample in samples
    ]
    number = f"From {len(ids):,} real sample{'s' if len(ids) != 1 else ''}" if ids else "Aimed at"
    more = h("span.soft", f"and {len(ids) - _SHOWN:,} more") if len(ids) > _SHOWN else None
    text = "Each is re-drawn until it becomes rarer; taken in turn." if ids else ""
    return view(
        h(
            "div.sources",
            h(
                "div.sources-head",
                h("b", number),
                h("span.soft", about) if about else None,
                h(
                    "button.link",
                    "Remove",
                    act=("clear", {}),
                    type="button",
                    title="Start from nothing again",
                ),
            ),
            h("div.sources-row", *shown, more) if shown else None,
            h("span.soft", text) if text else None,
        )
    )


def invitation(ctx: AppContext) -> Node:
    """What stands where the images will be."""
    if ctx.generator_name() is None:
        return empty(
            "No generator yet",
            "Add a folder with a diffusion model under Setup, or train one on your images with fit-generator.",
        )
    return empty(
        "Nothing imagined yet",
        "Choose a class and press Imagine. Each image appears beside its unguided twin of the same seed, the nearest "
        "real sample and the difference, with the reason why it is believed or not.",
    )
