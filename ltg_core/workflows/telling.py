"""Telling of a weakness: everything for one HTML file is gathered here; ``ltg_core.report`` writes it."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Iterator
from pathlib import Path

from ltg_core.curation.pins import pinned
from ltg_core.data.database import explained
from ltg_core.data.records import Filter, Run
from ltg_core.data.workspace import Workspace
from ltg_core.errors import InputError
from ltg_core.jobs import CancelToken, Progress, ProgressFn, no_progress
from ltg_core.models.classifier import Classifier
from ltg_core.report import Redactor, Report, Scatter, render
from ltg_core.workflows.casing import Cases
from ltg_core.workflows.finding import Finding, State, glance, held_out_split, samples_of
from ltg_core.workflows.mapping import map_points
from ltg_core.workflows.recording import recorded
from ltg_core.workflows.setup import active_classifier, reference
from ltg_core.workflows.telling_change import before_after, comparison_record
from ltg_core.workflows.wording import Draft, actions, measures, often, suggested, what

_AUTOMATIC = 3
_POINTS = 2500


def suggest(ws: Workspace) -> Draft:
    """A title and a weakness in plain words, from the most surprising finding.

    Raises:
        InputError: There is no classifier.
    """
    classifier = active_classifier(ws)
    return suggested(ws, classifier, glance(ws, classifier))


def tell(
    ws: Workspace,
    draft: Draft | None = None,
    *,
    out: str | Path | None = None,
    on_progress: ProgressFn = no_progress,
    cancel: CancelToken | None = None,
) -> Run:
    """Write one self-contained HTML file: the weakness, numbers with intervals, before and after, the pinned cases.

    Without pins, the errors behind the most surprising finding are the cases.

    Args:
        ws: The workspace.
        draft: Words and options.
        out: The file; None for one in the workspace's folder ``reports``, named after the run.
        on_progress: Told about every part.
        cancel: Checked at every case; nothing is written then.

    Returns:
        The run; its result has ``file``, ``bytes`` and ``cases``.

    Raises:
        InputError: There is no classifier, or nothing is scored.
        WorkspaceError: The disk is full.
    """
    token, given = cancel or CancelToken(), draft or Draft()
    classifier = active_classifier(ws)
    settings = {**dataclasses.asdict(given), "pins": len(pinned(ws))}
    with recorded(ws, "tell", settings, hashes={"classifier": classifier.hash}) as recording:
        on_progress(Progress(0, 0, "reading the numbers"))
        state = glance(ws, classifier)
        if not state.right.whole:
            raise InputError(
                "a report rests on labelled real samples that the classifier has not seen; import some as the split "
                "'test' or 'val', or hold some out when you import"
            )
        made = _Telling(ws, classifier, state, given, recording.run)
        report = made.report(on_progress, token)
        place = Path(out) if out is not None else report_path(ws, recording.run.id)
        data = render(report).encode("utf-8")
        with explained(place.parent, "folder"):
            place.parent.mkdir(parents=True, exist_ok=True)
            part = place.with_name(f".{place.name}.{os.getpid()}.part")
            part.write_bytes(data)
            os.replace(part, place)
        recording.result |= {"file": str(place), "bytes": len(data), "cases": len(report.cases)}
    return recording.run


def report_path(ws: Workspace, run: str) -> Path:
    """Where the report of a run lies."""
    return ws.path / "reports" / f"{run}.html"


class _Telling:
    """One report while it is put together."""

    def __init__(self, ws: Workspace, classifier: Classifier, state: State, draft: Draft, run: Run) -> None:
        self.ws, self.classifier, self.state, self.draft, self.run = ws, classifier, state, draft, run
        self.pins = {one.id: one.note for one in pinned(ws)}
        self.ids = list(self.pins) or list(_automatic(ws, classifier, state.finding))
        self.hide = Redactor(_names(ws, classifier, self.ids), on=draft.redact)

    def report(self, on_progress: ProgressFn, cancel: CancelToken) -> Report:
        """Everything, with every text redacted where that is asked for."""
        proposed = suggested(self.ws, self.classifier, self.state)
        cases = Cases(self.ws, self.classifier, self.hide, attribution=self.draft.attribution)
        shown = cases.of(self.ids, self.pins, on_progress, cancel)
        found, hide = self.state.finding, self.hide
        split = f"the split “{self.state.split}”"
        automatic = (
            ""
            if self.pins
            else "Nothing was pinned: these are errors behind the finding, the most confident first. "
        )
        return Report(
            title=hide(self.draft.title.strip() or proposed.title),
            about=hide(self._about()),
            date=time.strftime("%d %B %Y", time.localtime(self.run.started)),
            weakness=hide(self.draft.weakness.strip() or proposed.weakness),
            what=hide(what(self.ws, self.classifier, found)),
            often=hide(often(found, self.state.right)),
            sure=found.certainty if found else "No group of samples stands out from the rest.",
            measures=tuple(measures(self.ws, self.classifier, self.state, self.ids, hide)),
            measured=hide(
                f"Real samples of {split}, which the classifier was not trained on; 95\u00a0% intervals (Wilson). "
                "The wider the line, the less is known."
            ),
            actions=tuple(hide(one) for one in actions(self.ws, self.classifier, self.state)),
            cases=shown,
            chosen=hide(
                f"{automatic}Green is read rightly, red wrongly; the figure is the classifier's confidence."
            ),
            scatter=_scatter(self.ws, self.ids) if self.draft.show_map else None,
            method=tuple(self._method()),
            change=before_after(self.ws, self.classifier, hide) if self.draft.show_change else None,
        )

    def _about(self) -> str:
        name = "An image classifier" if self.draft.redact else self.classifier.name
        return f"{name} with {self.classifier.num_classes} classes, checked on {self.state.right.whole:,} real images"

    def _method(self) -> Iterator[tuple[str, str]]:
        """Models, data, seeds, versions, dates."""
        ws, classifier, state = self.ws, self.classifier, self.state
        name = "" if self.draft.redact else f"{classifier.name}, "
        yield "Classifier", f"{name}{classifier.arch}, {classifier.hash}"
        yield "Images are", classifier.preprocess.describe()
        counts = {split: ws.count(Filter(split=split, origin="real")) for split in ("", *ws.splits())}
        yield (
            "Real data",
            self.hide(", ".join(f"{split or 'no split'} {n:,}" for split, n in counts.items() if n)),
        )
        if state.finding:
            yield (
                "Finding",
                f"every class × metadata value with enough samples ({state.finding.tried:,} groups) against the "
                "rest of its class; Fisher's exact test, one-sided, p multiplied by their number",
            )
        if reference(ws, classifier) is not None:
            run = next((run for run in ws.runs("fit-head") if run.state == "done"), None)
            yield "Epistemic head", f"seed {run.seed}, {_day(run.started)}" if run else "as shipped"
        origins = {sample.origin for sample in ws.samples(self.ids) if not sample.real}
        for run in (run for run in ws.runs("generate") if run.id in origins):
            seeds = run.settings.get("seeds") or []
            span = f"seeds {min(seeds)} to {max(seeds)}" if seeds else "seeds with each image"
            hashes = ", ".join(f"{key} {value}" for key, value in run.hashes.items() if value)
            yield f"Generation {run.id}", f"{_day(run.started)}; {span}; {hashes}"
        compared = comparison_record(ws, classifier) if self.draft.show_change else None
        if compared is not None:
            yield compared
        yield "Versions", ", ".join(f"{key} {value}" for key, value in self.run.versions.items() if value)
        yield "This report", f"run {self.run.id}, {_day(self.run.started)}"


def _automatic(ws: Workspace, classifier: Classifier, found: Finding | None) -> list[str]:
    if found is None:
        return ws.query(
            Filter(split=held_out_split(ws), origin="real", correct=False, model_hash=classifier.hash),
            sort="confidence",
            limit=_AUTOMATIC,
        )
    return ws.query(samples_of(found, classifier), sort="confidence", limit=_AUTOMATIC)


def _scatter(ws: Workspace, ids: list[str]) -> Scatter | None:
    """The last map, thinned out evenly where it is large; errors, generated samples and the cases all stay."""
    columns = map_points(ws)
    if not columns:
        return None
    rows = list(
        zip(columns["id"], columns["x"], columns["y"], columns["origin"], columns["correct"], strict=True)
    )
    plain = [row for row in rows if row[3] == "real" and row[4] is not False]
    others = [row for row in rows if not (row[3] == "real" and row[4] is not False)]
    step, other_step = (max(1, -(-len(some) // _POINTS)) for some in (plain, others))
    kept = plain[::step] + others[::other_step]
    points = tuple(
        (x, y, "made" if origin != "real" else "wrong" if correct is False else "right")
        for _, x, y, origin, correct in kept
    )
    at = {row[0]: (row[1], row[2]) for row in rows}
    marks = tuple((number, *at[one]) for number, one in enumerate(ids, 1) if one in at)
    shown = "all" if len(kept) == len(rows) else f"{len(kept):,} of"
    return Scatter(
        points,
        marks,
        f"Images that the classifier sees alike lie close together (UMAP); {shown} {len(rows):,} shown.",
    )


def _names(ws: Workspace, classifier: Classifier, ids: list[str]) -> list[str]:
    """Everything that tells of files: sources, the workspace, imports, the models."""
    samples = ws.samples(ids)
    near = [one for sample in samples for one in _relatives(sample.meta)]
    known = set(ws.query(Filter(ids=tuple(near)))) if near else set()
    found = [sample.source for sample in [*samples, *ws.samples([one for one in near if one in known])]]
    found += [str(run.settings.get("path", "")) for run in ws.runs("import")]
    found += [str((ws.get_state("generator") or {}).get("path", "")), str(ws.path), classifier.name]
    return [one for one in found if one]


def _relatives(meta: dict[str, object]) -> list[str]:
    near = meta.get("neighbours")
    some = [meta.get("source"), meta.get("control"), *(near if isinstance(near, list) else [])]
    return [one for one in some if isinstance(one, str)]


def _day(seconds: float) -> str:
    return time.strftime("%Y-%m-%d", time.localtime(seconds))
