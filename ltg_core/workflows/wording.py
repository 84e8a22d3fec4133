"""A finding in words and figures: what fails, how often, what can be done."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator

from ltg_core.data.records import Filter
from ltg_core.data.workspace import Workspace
from ltg_core.errors import InputError
from ltg_core.models.classifier import Classifier
from ltg_core.report import Measure, Redactor
from ltg_core.workflows.finding import Finding, State, samples_of
from ltg_core.workflows.intervals import Share, share

_LONGEST = {"title": 200, "weakness": 6000}


@dataclasses.dataclass(frozen=True)
class Draft:
    """What a report says in somebody's own words, and what it shows.

    Attributes:
        title: "" for the suggestion.
        weakness: "" for the suggestion.
        redact: Leave out file names and paths.
        show_map: Show where the cases lie among all samples, where a map was made.
        show_change: Show before and after, where this classifier was compared.
        attribution: Show what each answer rests on (Grad-CAM; computed where it is not stored yet).
    """

    title: str = ""
    weakness: str = ""
    redact: bool = False
    show_map: bool = True
    show_change: bool = True
    attribution: bool = True

    def __post_init__(self) -> None:
        for name, most in _LONGEST.items():
            if len(getattr(self, name)) > most:
                raise InputError(
                    f"the {name} has {len(getattr(self, name)):,} characters; the limit is {most:,}"
                )


def suggested(ws: Workspace, classifier: Classifier, state: State) -> Draft:
    found = state.finding
    if found is None or found.wrong.value <= found.rest.value:
        return Draft("How this classifier does", often(None, state.right))
    under = f" with {_column(found)} “{found.value}”" if found.column else ""
    title = f"“{found.label}”{under} is often read wrongly"
    said = _mostly(ws, classifier, found)
    mostly = f" {said[:1].upper()}{said[1:]}." if said else ""
    return Draft(title, f"{found.sentence}{mostly}")


def what(ws: Workspace, classifier: Classifier, found: Finding | None) -> str:
    if found is None:
        return "Nothing stands out."
    under = f" where {_column(found)} is “{found.value}”" if found.column else ""
    said = _mostly(ws, classifier, found)
    return f"“{found.label}”{under}{'; ' + said if said else ''}."


def often(found: Finding | None, right: Share) -> str:
    if found is None:
        return f"{_percent(1 - right.value)} of {right.whole:,} held-out images are read wrongly."
    return (
        f"{found.wrong.part:,} of {found.wrong.whole:,} are read wrongly ({_percent(found.wrong.value)}; between "
        f"{_percent(found.wrong.low)} and {_percent(found.wrong.high)} with 95\u00a0% confidence). Elsewhere: "
        f"{_percent(found.rest.value)}."
    )


def _mostly(ws: Workspace, classifier: Classifier, found: Finding) -> str:
    """What the errors of a finding are read as."""
    ids = ws.query(samples_of(found, classifier))
    said = Counter(one.pred for one in ws.predictions(ids, classifier.hash).values())
    if not said:
        return ""
    pred, n = said.most_common(1)[0]
    return f"{n:,} of the {len(ids):,} errors are read as “{classifier.labels[pred]}”"


def measures(
    ws: Workspace, classifier: Classifier, state: State, ids: list[str], hide: Redactor
) -> Iterator[Measure]:
    yield _measure("All held-out samples", state.right)
    found = state.finding
    if found is not None:
        others = f"All other “{found.label}”" if found.column else "All other classes"
        yield _measure(hide(others), share(found.rest.whole - found.rest.part, found.rest.whole))
        under = f" · {_column(found)} “{found.value}”" if found.column else ""
        own = share(found.wrong.whole - found.wrong.part, found.wrong.whole)
        yield _measure(hide(f"“{found.label}”{under}"), own, weak=True)
    for run in dict.fromkeys(sample.origin for sample in ws.samples(ids) if not sample.real):
        for role, name in (("control", "unguided"), ("guided", "guided, believed")):
            some = Filter(
                origin=run,
                meta={"role": role},
                believed=True if role == "guided" else None,
                model_hash=classifier.hash,
            )
            right = ws.count(dataclasses.replace(some, correct=True))
            wrong = ws.count(dataclasses.replace(some, correct=False))
            if right + wrong:
                yield _measure(f"Generated in run {run[:8]}, {name}", share(right, right + wrong))


def _measure(name: str, right: Share, *, weak: bool = False) -> Measure:
    return Measure(name, right.part, right.whole, right.low, right.high, weak)


def actions(ws: Workspace, classifier: Classifier, state: State) -> Iterator[str]:
    found = state.finding
    if found is not None and found.column:
        label = classifier.labels.index(found.label)
        cell = Filter(split="train", label=label, origin="real", meta={found.column: found.value})
        n, whole = ws.count(cell), ws.count(Filter(split="train", label=label, origin="real"))
        if whole:
            yield (
                f"Collect more of it: of {whole:,} training images of “{found.label}”, "
                f"{f'{n:,} have' if n else 'not one has'} {_column(found)} “{found.value}”."
            )
        yield (
            f"Until then, let a person look at images whose {_column(found)} is “{found.value}” wherever "
            f"“{found.label}” matters."
        )
    elif found is not None:
        yield f"Collect more of “{found.label}”, or check its labels first."
    if state.accepted:
        yield f"{state.accepted:,} generated images were accepted by a person and can be exported as training data."
    yield "After a change, score the same groups again: a fix shows as an interval that has moved, not as one example."


def _column(found: Finding) -> str:
    return found.column.replace("_", " ")


def _percent(value: float) -> str:
    return f"{100 * value:.0f}\u00a0%"
