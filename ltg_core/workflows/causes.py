"""The causal check: does asking for a term, with nothing else changed, move the signal or the errors?"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ltg_core.data.records import Filter, Run
from ltg_core.data.workspace import Workspace
from ltg_core.errors import InputError
from ltg_core.generators.base import Generator
from ltg_core.guidance.settings import PRESETS
from ltg_core.introspection.paired import moved
from ltg_core.introspection.terms import Term
from ltg_core.jobs import CancelToken, ProgressFn, no_progress
from ltg_core.models.classifier import Classifier
from ltg_core.models.textimage import TextImage
from ltg_core.params import Params, param
from ltg_core.workflows.coverage import prompt_for_cell
from ltg_core.workflows.generating import generate
from ltg_core.workflows.planning import class_index
from ltg_core.workflows.recording import recorded
from ltg_core.workflows.setup import plain_prompt, suggested_settings
from ltg_core.workflows.slicing import Slice, add_evidence, slice_of
from ltg_core.workflows.terming import encoder_of, showing, vectors

NOT_CAUSAL = "associated, not causal"
MOVES = "moves the signal"
PRESET = "causal check"


@dataclasses.dataclass(frozen=True)
class CauseSettings(Params):
    """How a cause is checked."""

    pairs: int = param(16, "Pairs of images, with and without the term", low=4, high=1000)
    signal: str = param("epistemic", "Signal whose percentile is compared")
    seed: int = param(0, "Of the first pair; each has the next one", low=0, high=2**31 - 1)


def check_cause(
    ws: Workspace,
    classifier: Classifier,
    generator: Generator,
    cell: Mapping[str, Any],
    settings: CauseSettings | None = None,
    *,
    slice_id: str = "",
    on_progress: ProgressFn = no_progress,
    cancel: CancelToken | None = None,
) -> Run:
    """Draw pairs of unguided images whose prompts differ in one term and in nothing else.

    Both images of a pair have the same seed. The change of the signal's percentile and of the errors is a mean of
    paired differences with its bootstrap interval; where that of the signal does not lie above zero, the term is
    called "associated, not causal"; where that of the errors does, the term also makes errors. Images that fail to
    show what was asked for count like all others.

    Args:
        ws: The workspace.
        classifier: Its reference must be fitted.
        generator: Must understand text.
        cell: What to ask for: ``class`` ("" for all in turn), ``value`` with the metadata ``column``, or ``phrase``.
        settings: None for the defaults.
        slice_id: A slice to whose evidence the result is written, as ``cause``.
        on_progress: Told at every step.
        cancel: Checked at every step.

    Returns:
        The run; its result says ``verdict``, ``errs`` (whether it makes errors), ``change`` and ``errors`` (mean
        without and with, difference, interval), ``run`` (the generation), ``without`` and ``with`` (ids, pair by
        pair), ``seen`` (share of images in which the encoder sees the term, without and with).

    Raises:
        InputError: An unknown class, or a generator that understands no text.
        Cancelled: On request.
    """
    settings = settings or CauseSettings()
    if generator.language != "text":
        raise InputError(f"{generator.name} understands no text, so a term cannot be asked for")
    labels = _labels(classifier, cell, settings.pairs)
    texts = prompts(ws, classifier, cell)
    record = {"slice": slice_id, "cell": dict(cell), **settings.to_dict()}
    hashes = {"classifier": classifier.hash, "generator": generator.hash}
    with recorded(ws, "cause", record, seed=settings.seed, hashes=hashes) as recording:
        guidance = dataclasses.replace(PRESETS["unguided"], signal=settings.signal)
        guidance = dataclasses.replace(guidance, **suggested_settings(ws))
        made = generate(
            ws,
            classifier,
            generator,
            prompts=[text for label in labels for text in texts[label]],
            labels=[label for label in labels for _ in (0, 1)],
            seeds=[settings.seed + i for i in range(len(labels)) for _ in (0, 1)],
            guidance=guidance,
            preset=PRESET,
            on_progress=on_progress,
            cancel=cancel,
        )
        recording.result |= {"run": made.id, **compared(ws, classifier, made.id, labels, cell, settings)}
        if slice_id:
            add_evidence(ws, slice_id, {"cause": recording.result})
    return recording.run


def cell_to_check(ws: Workspace, slice_id: str) -> dict[str, Any]:
    """What a found slice asks a generator for.

    Raises:
        InputError: There is no such slice, or it cannot be asked for in words.
    """
    found = slice_of(ws, slice_id)
    cell: dict[str, Any] | None = found.evidence.get("cell")
    if not cell:
        raise InputError(f"{found.name!r} cannot be asked for in words, so there is nothing to leave out")
    return cell


def prompt_of(ws: Workspace, classifier: Classifier, cell: Mapping[str, Any]) -> str:
    """What a cell of one class asks a generator for.

    Raises:
        InputError: The classifier has no such class.
    """
    return prompts(ws, classifier, cell)[class_index(classifier, cell["class"])][1]


def untested(found: Sequence[Slice]) -> list[str]:
    """Ids of the slices whose cause could be checked and was not."""
    return [one.id for one in found if one.evidence.get("cell") and not one.evidence.get("cause")]


def prompts(ws: Workspace, classifier: Classifier, cell: Mapping[str, Any]) -> dict[int, tuple[str, str]]:
    """The texts without and with the term, by class."""
    names = list(classifier.labels)
    found = {}
    for label, name in enumerate(names):
        plain = plain_prompt(ws, name)
        asked = (
            f"{plain} {cell['phrase']}"
            if cell["phrase"]
            else prompt_for_cell(ws, names, label, str(cell["column"]), cell["value"])
        )
        found[label] = (plain, asked)
    return found


def _labels(classifier: Classifier, cell: Mapping[str, Any], pairs: int) -> list[int]:
    """The class of each pair: that of the slice, or all in turn."""
    if cell["class"]:
        return [class_index(classifier, cell["class"])] * pairs
    return [i % classifier.num_classes for i in range(pairs)]


def compared(
    ws: Workspace,
    classifier: Classifier,
    run: str,
    labels: list[int],
    cell: Mapping[str, Any],
    settings: CauseSettings,
) -> dict[str, Any]:
    """What the pairs of a generation say."""
    made = sorted(ws.samples(ws.query(Filter(origin=run))), key=lambda sample: int(sample.meta["index"]))
    ids = [sample.id for sample in made]
    encoder = encoder_of(ws)
    return effect(ws, classifier, (ids[0::2], ids[1::2]), labels, cell, settings, encoder)


def effect(
    ws: Workspace,
    classifier: Classifier,
    sides: tuple[list[str], list[str]],
    labels: list[int],
    cell: Mapping[str, Any],
    settings: CauseSettings,
    encoder: TextImage | None,
) -> dict[str, Any]:
    """What pairs of images say: ids without and with the term, the class of each pair, who looks for the term."""
    without, with_ = sides
    ids = [*without, *with_]
    ranks = ws.scores(ids, classifier.hash, settings.signal)
    said = ws.predictions(ids, classifier.hash)
    signal = [
        [ranks[one].percentile if one in ranks else np.nan for one in side] for side in (without, with_)
    ]
    wrong = [
        np.array([said[one].pred != label for one, label in zip(side, labels, strict=True)], dtype=float)
        for side in (without, with_)
    ]
    change, errors = (moved(a, b, settings.seed) for a, b in (signal, wrong))
    return {
        "verdict": MOVES if change.moves else NOT_CAUSAL,
        "errs": errors.moves,
        "signal": settings.signal,
        "change": dataclasses.asdict(change),
        "errors": dataclasses.asdict(errors),
        "without": without,
        "with": with_,
        "seen": _seen(ws, ids, labels, cell, encoder),
    }


def _seen(
    ws: Workspace, ids: list[str], labels: list[int], cell: Mapping[str, Any], encoder: TextImage | None
) -> list[float] | None:
    """Share of images without and with the term in which the encoder sees it, None where there is no encoder."""
    phrase = str(cell["phrase"] or cell["value"])
    if encoder is None or not encoder.knows(phrase):
        return None
    seen, _ = vectors(ws, encoder, ids)
    of, n = np.array([*labels, *labels]), len(labels)
    there = showing(ws, encoder, seen, of, [Term(str(cell["value"]), phrase)])[:, 0]
    return [float(there[:n].mean()), float(there[n:].mean())]
