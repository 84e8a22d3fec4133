"""The start page as nodes: what this is, how things stand, the first finding, and what to do next."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.context import AppContext
from app.render import Node, h, percent, picture, view

if TYPE_CHECKING:
    from ltg_core.workflows import Finding, Share, State

_WHAT = (
    "Longtail takes an image classifier and real images, and finds the kinds of images that it reads wrongly or knows "
    "little about.",
    "It imagines more of them with a text-to-image model, shows what each answer rests on, and lets you decide image "
    "by image what to believe.",
    "What you accept becomes training data, what you learned becomes one file for a colleague; nothing leaves this "
    "machine.",
)
_SHOWN = 6
_NEXT = (
    ("browse", "Browse", "Rank the samples by how little the classifier knows, and narrow them down."),
    (
        "coverage",
        "Coverage",
        "See which classes are thin and misread under which conditions, and aim at one.",
    ),
    (
        "imagine",
        "Imagine",
        "Generate new images where the classifier is weak, each beside its unguided twin.",
    ),
    ("map", "Map", "See real and generated images by likeness; circle what belongs together."),
    (
        "curate",
        "Curate and export",
        "Accept or reject with the keyboard, and take the set away as training data.",
    ),
    (
        "retrain",
        "Retrain and prove",
        "Let a copy learn from what you accepted, and see what became worse before what became better.",
    ),
    ("tell", "Tell", "Pin cases and write one file that a colleague understands in two minutes."),
    (
        "setup",
        "Bring your own",
        "Your classifier, your images: checked on real samples before anything else.",
    ),
)


def glance(ctx: AppContext) -> State | None:
    """The workspace at a glance; computed once a change."""
    from ltg_core import workflows

    key = ("glance", workflows.stamp(ctx.workspace))
    found: State | None = ctx.cached(key, lambda: workflows.glance(ctx.workspace, ctx.classifier()))
    return found


def start_view(ctx: AppContext, been: list[str]) -> Node:
    """The whole page."""
    job = ctx.latest("open")
    busy = job is not None and not job.ended
    if busy and (ctx.classifier() is None or not ctx.workspace.count()):
        return waiting(ctx)
    state = glance(ctx)
    assert state is not None
    empty_ = not state.real or ctx.classifier() is None
    return view(
        _hero(ctx, state),
        ctx.bar(job, cancel=False) if job is not None and busy else None,
        None if empty_ else _figures(state),
        _missing(ctx, state) if empty_ or state.finding is None else _finding(ctx, state.finding, busy),
        h("h3", "What next"),
        h("div.next", *[_card(ctx, state, been, *one) for one in _NEXT]),
        classes="start",
    )


_SHARED = (
    "Visitors of this page share one machine and one workspace: jobs wait for each other, and everybody sees the "
    "samples, slices and decisions of all. Upload nothing that others must not see, and export what you want to keep."
)

_APART = (
    "This workspace is yours alone: other users of this server see nothing of it but how many jobs wait before theirs. "
    "Who runs the server can read it."
)


def _hero(ctx: AppContext | None, state: State | None) -> Node:
    others = "" if ctx is None or ctx.settings.local else _APART if ctx.settings.apart else _SHARED
    return h(
        "section.hero-text",
        h("h2", "Where will your image classifier fail, and how do you fix that?"),
        h("p", " ".join(_WHAT)),
        h("p.shared", others, role="note") if others else None,
        h("p.soft", _loaded(ctx, state)) if ctx is not None and state is not None else None,
    )


def _loaded(ctx: AppContext, state: State) -> str:
    demo, record = ctx.workspace.get_state("demo"), ctx.workspace.get_state("classifier")
    if not record:
        return "No classifier is loaded."
    if demo and demo.get("classifier") == record["hash"]:
        return (
            "Loaded is the demo: rendered road signs with blind spots planted in them. The finding below is computed "
            "from the classifier's errors; the list of what was planted is never read."
        )
    return f"Loaded: {record['name']}, {state.classes:,} classes."


def waiting(ctx: AppContext | None) -> Node:
    """While the demo, or somebody's own data, is being opened."""
    job = ctx.latest("open") if ctx is not None else None
    blocks = [
        h("div.figure.blank", h("b", " "), h("span", name))
        for name in ("Classes", "Samples", "Accuracy", "Errors")
    ]
    return view(
        _hero(ctx, None),
        h(
            "section.opening",
            ctx.bar(job, cancel=False) if ctx is not None and job is not None else h("p.soft", "Starting …"),
            h(
                "p.soft",
                "The first time takes half a minute: images are read, the classifier answers for each.",
            ),
        ),
        h("div.figures.glance", *blocks),
        classes="start is-loading",
    )


def _figures(state: State) -> Node:
    cover, right = state.coverage, state.right
    cells = f"of class × {cover.column.replace('_', ' ')}" if cover.column else "of the classes"
    share = percent(cover.filled / cover.cells) if cover.cells else "–"
    rows = [
        ("Classes", f"{state.classes:,}", ""),
        ("Samples", f"{state.real:,}", f"real, and {state.generated:,} generated"),
        ("Accuracy", percent(right.value, 1), _interval(right) or "needs a held-out split"),
        (
            "Errors",
            f"{right.whole - right.part:,}" if right.whole else "–",
            f"of {right.whole:,} held-out samples",
        ),
        ("Coverage", share, f"{cells} have 20 or more real samples ({cover.filled:,} of {cover.cells:,})"),
        ("Accepted", f"{state.accepted:,}", "generated images, ready for export"),
    ]
    return h(
        "div.figures.glance",
        *[h("div.figure", h("span.figure-name", n), h("b", v), h("span", t)) for n, v, t in rows],
    )


def _interval(value: Share) -> str:
    if not value.whole:
        return ""
    return f"{100 * value.low:.1f} to {percent(value.high, 1)} with 95 % confidence"


def _finding(ctx: AppContext, found: Finding, busy: bool) -> Node:
    from ltg_core import workflows

    classifier = ctx.need_classifier()
    wrong = ctx.workspace.query(workflows.samples_of(found, classifier), sort="confidence", limit=_SHOWN)
    said = ctx.workspace.predictions(wrong, classifier.hash)
    labels = classifier.labels
    pictures = [
        h(
            "figure.frame",
            picture(one, f"{found.label}, read as {labels[said[one].pred]}"),
            h("figcaption", h("span", "read as "), h("b", labels[said[one].pred])),
            key=one,
        )
        for one in wrong
    ]
    others = f"all other {found.label}" if found.column else "all other classes"
    return h(
        "section.finding",
        h(
            "div.finding-text",
            h("span.kicker", "The first surprising finding"),
            h("p.sentence", found.sentence),
            _bar(f"this group, {found.wrong.whole:,} samples", found.wrong, "high"),
            _bar(f"{others}, {found.rest.whole:,} samples", found.rest, "low"),
            h("p.soft", found.certainty),
            h(
                "button.primary.large",
                "Show me the first surprising finding",
                act=("finding", {}),
                type="button",
            ),
            h("p.soft", "More may come while the samples are still being scored.") if busy else None,
        ),
        h("div.finding-pictures", *pictures),
    )


def _bar(name: str, wrong: Share, level: str) -> Node:
    return h(
        f"div.meter.rate.{level}",
        h("span.meter-name", name),
        h("span.meter-bar", h("span.meter-fill"), w=f"{100 * wrong.value:.1f}%"),
        h("span.meter-value", f"{percent(wrong.value)} wrong"),
    )


def _missing(ctx: AppContext, state: State) -> Node:
    """What a finding still needs, and the way there."""
    has_model, scored = ctx.classifier() is not None, bool(state.right.whole)
    steps = [
        ("A classifier", has_model),
        ("Real images with labels", bool(state.real)),
        ("Some of them held out as “test” or “val”, and scored", scored),
    ]
    note = None
    if has_model and scored:
        note = h("p.soft", "No group has enough samples yet to be compared with the rest (8 each).")
    return h(
        "section.finding.is-missing",
        h(
            "div.finding-text",
            h("span.kicker", "The first surprising finding"),
            h("p.sentence", "It comes by itself as soon as these are there:"),
            h(
                "ul.needs",
                *[
                    h("li.is-there" if ok else "li", h("span.tick", "✓" if ok else "○"), h("span", t))
                    for t, ok in steps
                ],
            ),
            note,
            h("button.primary.large", "Bring your own", act=("go", {"tab": "setup"}), type="button"),
        ),
    )


def _card(ctx: AppContext, state: State, been: list[str], tab: str, title: str, text: str) -> Node:
    done, fact = _progress(ctx, state, been, tab)
    return h(
        "button.step-card" + (".is-done" if done else ""),
        h("span.step-head", h("b", title), h("span.tick", "✓" if done else "", title="done" if done else "")),
        h("span.step-text", text),
        h("span.step-fact", fact),
        act=("go", {"tab": tab}),
        type="button",
        aria_label=f"{title}: {text} {'Done. ' if done else ''}{fact}",
    )


def _progress(ctx: AppContext, state: State, been: list[str], tab: str) -> tuple[bool, str]:
    """Whether a step of the journey was taken, and what came out of it."""
    from ltg_core import curation

    ws = ctx.workspace
    if tab == "browse":
        return (
            "browse" in been,
            f"{state.right.whole - state.right.part:,} errors wait" if state.right.whole else "",
        )
    if tab == "imagine":
        return (
            state.generated > 0,
            f"{state.generated:,} images generated" if state.generated else "about half a minute",
        )
    if tab == "coverage":
        cover = state.coverage
        return False, f"{cover.cells - cover.filled:,} thin cells" if cover.cells else ""
    if tab == "retrain":
        made = sum(run.state == "done" for run in ws.runs("retrain"))
        return any(run.state == "done" for run in ws.runs("compare")), f"{made:,} trained" if made else ""
    if tab == "map":
        drawn = ws.get_state("map") is not None
        return drawn, "a map is drawn" if drawn else ""
    if tab == "curate":
        return state.accepted > 0, f"{state.accepted:,} accepted" if state.accepted else ""
    if tab == "tell":
        pins, told = len(curation.pinned(ws)), any(run.state == "done" for run in ws.runs("tell"))
        return told, f"{pins} pinned" if pins else ""
    demo, record = ws.get_state("demo"), ws.get_state("classifier")
    own = bool(record) and (not demo or demo.get("classifier") != record["hash"])
    return own, str(record["name"]) if own else ""
