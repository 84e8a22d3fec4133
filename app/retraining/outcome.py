"""A comparison in nodes: what became worse first, then everything else, with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from app.context import AppContext
from app.controls import run_time
from app.render import Node, cut, empty, h, view
from app.retraining.using import targets

if TYPE_CHECKING:
    from ltg_core.data.records import Run

_WORSE = 10
_DRAWN = 12
_LOWER_IS_BETTER = ("ece",)
Record = Mapping[str, Any]


def nothing() -> Node:
    """Before the first comparison."""
    return view(
        empty(
            "Nothing compared yet",
            "Choose what to compare and press Compare: every classifier answers for the same real images that none has "
            "learned from. What became worse comes first, then all figures before and after with their intervals.",
        )
    )


def choices(ctx: AppContext) -> list[tuple[str, str]]:
    """Comparisons that are done: (words, run), the newest first."""
    found = []
    for run in ctx.workspace.runs("compare"):
        if run.state == "done":
            names = ", ".join(cut(arm["name"], 40) for arm in run.result["arms"][:2])
            found.append((f"{run_time(run.started)} · {names or 'nothing'}", run.id))
    return found[:40]


def find(ctx: AppContext, ref: str) -> Run | None:
    """A comparison that is done; the newest where ``ref`` is none."""
    done = [run for run in ctx.workspace.runs("compare") if run.state == "done"]
    return next((run for run in done if run.id == ref), next(iter(done), None))


def head(ctx: AppContext, run: Run, place: int) -> Node:
    """What was compared, the arms to choose from, and what became worse in the chosen one."""
    result = run.result
    arm, images = result["arms"][place], result["images"]
    number = len(result["arms"])
    arms = f"{number} classifiers" if number != 1 else "One classifier"
    return view(
        h(
            "div.compared-head",
            h(
                "div",
                h("h3", f"{arms} against “{cut(result['base']['name'], 80)}”"),
                h(
                    "p.soft",
                    f"On the same {images['n']:,} real images ({images['split']}), none of which was learned from. "
                    f"{run_time(run.started)}; intervals: paired bootstrap, 95 %.",
                ),
            ),
            h("a.button", "Download (JSON)", href=f"comparison:{run.id}"),
        ),
        h("div.arms", *[_arm(one, k, k == place) for k, one in enumerate(result["arms"])], role="group",
          aria_label="What is compared"),
        _worse(arm, result["regressions"][arm["name"]]),
        classes="compared",
    )  # fmt: skip


def _arm(arm: Record, place: int, on: bool) -> Node:
    """An arm as a card: its balanced accuracy, and how much became worse."""
    main = next((one for one in arm["differences"] if one["name"] == "balanced_accuracy"), None)
    worse = [one for one in arm["differences"] if one["worse"]]
    sure = sum(one["certain"] for one in worse)
    text = f"{sure} clearly worse" if sure else f"{len(worse)} perhaps worse" if worse else "nothing worse"
    return h(
        "button.arm" + (".is-on" if on else ""),
        h("b", cut(arm["name"], 80)),
        h("span.soft", cut(arm["how"], 80)) if arm["how"] else None,
        h("span.soft", "Balanced accuracy") if main else None,
        h("span.arm-figure", f"{share(main['before'])} → {share(main['after'])}") if main else None,
        h(f"span.arm-change.{_tone(main)}", f"{_change(main)} points{_within(main)}") if main else None,
        h("span.arm-worse" + (".is-sure" if sure else ""), text),
        act=("arm", {"place": place}),
        type="button",
        aria_pressed="true" if on else "false",
        key=f"arm-{place}",
    )


def _worse(arm: Record, found: Sequence[Record]) -> Node:
    if not found:
        return h(
            "section.regressions.is-none",
            h("h3", "Nothing became worse"),
            h("p.soft", "No figure of these images is lower than before. Others may show what these do not."),
        )
    sure = sum(one["certain"] for one in found)
    title = f"What became worse: {len(found):,}" + (
        f", {sure:,} of them clearly" if sure else ", none of them clearly"
    )
    rest = found[_WORSE:]
    return h(
        "section.regressions" + (".is-sure" if sure else ""),
        h("h3", title),
        h(
            "p.soft",
            "Clearly: the interval of the change leaves out 0. The others may be chance; a few images decide them.",
        ),
        _table(found[:_WORSE]),
        h("details.more", h("summary", f"{len(rest):,} more"), _table(rest)) if rest else None,
        key=f"worse-{arm['name'][:40]}",
    )


def rest(ctx: AppContext, run: Run, place: int) -> Node:
    """All in all, every class, group and slice, the notes, and what to do with this arm."""
    from ltg_core import workflows

    arm = run.result["arms"][place]
    whole = workflows.overall(arm)
    names = {one["name"] for one in whole}
    others = sorted((one for one in arm["differences"] if one["name"] not in names), key=_gain)
    notes = [workflows.chances(arm), *run.result["notes"]]
    notes += _seed_note(arm)
    return view(
        h("section", h("h3", "All in all"), _table(whole)),
        h(
            "details.more",
            h("summary", f"Every class, group and slice ({len(others):,})"),
            _table(others),
        )
        if others
        else None,
        _learned_from(arm.get("quality")),
        h(
            "section.notes",
            h("h3", "How sure that is"),
            *[
                h("p", note[:1].upper() + note[1:] + ("" if note.endswith(".") else "."))
                for note in notes
                if note
            ],
        ),
        h("div.actions", *_actions(ctx, run, place)),
        classes="compared",
    )


def _learned_from(quality: Record | None) -> Node | None:
    """How good the synthetic images of an arm are beside the real ones of the comparison."""
    from ltg_core import workflows

    title, *texts = workflows.learned_from(quality) or ("",)
    if not title:
        return None
    kinds = ("p", "p.soft") if len(texts) > 1 else ("p.soft",)
    return h("section", h("h3", title), *[h(kind, text) for kind, text in zip(kinds, texts, strict=True)])


def _seed_note(arm: Record) -> list[str]:
    seeds = len(arm["classifiers"])
    if arm.get("free") is not None:
        return []
    if seeds == 1:
        return [
            "One training only: another seed may give another result by as much as the interval or more. Train three "
            "to see by how much"
        ]
    return [
        f"Mean of {seeds} trainings; “over seeds” is their standard deviation, and the interval says what other images "
        "would do, not what another training would"
    ]


def _actions(ctx: AppContext, run: Run, place: int) -> list[Node]:
    arm, asked = run.result["arms"][place], run.settings["arms"]
    if arm.get("free") is not None:
        return [
            h("button", "Make it a classifier", act=("free", {"run": run.id, "place": place}), type="button",
              title="Writes the formula into the last layer of a copy; nothing is trained")
        ]  # fmt: skip
    found = targets(ctx).get(asked[place]) if place < len(asked) else None
    if found is None:
        return []
    if found.hash == ctx.model_hash:
        return [h("span.badge.badge-accepted", "in use")]
    return [h("button.primary", "Use this classifier", act=("use", {"ref": found.ref}), type="button")]


def figure(run: Run, place: int) -> dict[str, Any]:
    """The differences of one arm for the figure, sorted: the worst first.

    All figures of all images and of the parts; of classes, groups and slices those that changed most.
    """
    from ltg_core import workflows

    arm = run.result["arms"][place]
    whole = workflows.overall(arm)
    names = {one["name"] for one in whole}
    some = [one for one in arm["differences"] if one["low"] is not None]
    others = sorted((one for one in some if one["name"] not in names), key=_gain)
    if len(others) > 2 * _DRAWN:
        others = [*others[:_DRAWN], *others[-_DRAWN:]]
    rows = sorted([*[one for one in whole if one["low"] is not None], *others], key=_gain)
    left = len(some) - len(rows)
    return {
        "title": "Change with its interval, the worst first",
        "note": "In points; to the left of the line is worse. Filled: the interval leaves out 0."
        + (f" {left:,} figures that changed less are left out." if left > 0 else ""),
        "rows": [_drawn(one) for one in rows],
    }


def _drawn(one: Record) -> dict[str, Any]:
    from ltg_core.workflows import figure_words

    turned = one["name"] in _LOWER_IS_BETTER
    ends = sorted(-100 * one[end] if turned else 100 * one[end] for end in ("low", "high"))
    name = figure_words(one["name"]) + (" (less is better)" if turned else "")
    return {
        "name": cut(name, 120),
        "at": round(100 * _gain(one), 3),
        "low": round(ends[0], 3),
        "high": round(ends[1], 3),
        "said": f"{_change(one)}{_within(one)}",
        "kind": _tone(one),
    }


def _gain(one: Record) -> float:
    """How much better, whichever way is better."""
    value = float(one["change"])
    return -value if one["name"] in _LOWER_IS_BETTER else value


def _tone(one: Record) -> str:
    if not one["certain"]:
        return "open"
    return "bad" if one["worse"] else "good"


def _table(found: Sequence[Record]) -> Node:
    """Figures before and after; a table of its own scroll box, for a narrow window."""
    heads = ("What", "Before → after", "Change", "95 % interval", "Images", "Over seeds")
    return h(
        "div.table-box",
        h(
            "table.before-after",
            h("thead", h("tr", *[h("th", name, scope="col") for name in heads])),
            h("tbody", *[_line(one) for one in found]),
        ),
        tabindex="0",
        role="region",
        aria_label="Figures before and after",
    )


def _line(one: Record) -> Node:
    from ltg_core.workflows import figure_words

    mark = {"bad": "▼ ", "good": "▲ ", "open": ""}[_tone(one)]
    n, spread = one["n"], one["spread"]
    name = figure_words(one["name"])
    return h(
        f"tr.{_tone(one)}",
        h("th", cut(name, 160), scope="row", title=name[:1000]),
        h("td", f"{share(one['before'])} → {share(one['after'])}"),
        h("td.moved", mark + _change(one)),
        h("td", interval(one) or "too few images"),
        h("td", f"{n:,}" if n is not None else "all"),
        h("td", f"± {100 * spread:.1f}" if spread is not None else "–"),
    )


def share(value: float) -> str:
    return f"{100 * value:.1f} %"


def _change(one: Record) -> str:
    return points(one["change"])


def interval(one: Record) -> str:
    if one["low"] is None:
        return ""
    return f"{points(one['low'])} to {points(one['high'])}"


def points(value: float) -> str:
    """A difference of shares in points, with its sign."""
    text = f"{100 * value:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text.replace("-", "−")


def _within(one: Record) -> str:
    """The interval behind a change."""
    found = interval(one)
    return f" ({found})" if found else ""
