"""Bring your own: a classifier, data, what is changed about them after a look, each with everything that follows."""

from __future__ import annotations

import dataclasses
import math
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ltg_core.data.records import Filter
from ltg_core.data.workspace import Workspace
from ltg_core.errors import DatasetError, InputError
from ltg_core.jobs import CancelToken, Progress, ProgressFn, no_progress
from ltg_core.models import architectures
from ltg_core.models.classifier import Classifier
from ltg_core.models.folders import ModelFolder, read_folder
from ltg_core.models.loaders import load_classifier, read_card
from ltg_core.models.preprocess import Preprocess
from ltg_core.models.weights import read_state
from ltg_core.workflows import relabelling
from ltg_core.workflows.examining import alternatives, check_accepted, examine
from ltg_core.workflows.heads import fit_head
from ltg_core.workflows.importing import import_data
from ltg_core.workflows.packed import unpacked
from ltg_core.workflows.scoring import refresh_scores, score
from ltg_core.workflows.setup import active_classifier, reference_path, use_classifier

_LIKELY = 0.5


@dataclasses.dataclass(frozen=True)
class WeightsReport:
    """What a weight file tells about itself.

    Attributes:
        name: File name.
        tensors: How many.
        parameters: Numbers in them.
        card: Whether a card with everything lies beside it, or it is a folder with its configuration.
        suggested: (architecture, share of its tensors that agree), the best first.
        arch: The one to use: the card's, else a suggestion that fits completely, else "".
        classes: Outputs of the last layer under it, None where it is not known.
        labels: The card's class names.
        preprocess: The card's, else the architecture's own; None where neither is known.
    """

    name: str
    tensors: int
    parameters: int
    card: bool
    suggested: tuple[tuple[str, float], ...]
    arch: str
    classes: int | None
    labels: tuple[str, ...]
    preprocess: Preprocess | None


def inspect_weights(path: str | Path, arch: str = "", *, room: Path | None = None) -> WeightsReport:
    """Look at a weight file, a model folder or a zip of one before it is used; nothing in it is executed.

    Args:
        path: The file; a JSON card beside it is read.
        arch: Its architecture where somebody knows it; a folder's configuration knows better.
        room: Where a zip may be unpacked for the moment; the system's place for temporary files if not given.

    Raises:
        ModelError: The file or the card is damaged, or there is no such architecture.
        UnsafeFile: Reading it would run code.
    """
    path = Path(path)
    with unpacked(path, room or Path(tempfile.gettempdir())) as place:
        if place.is_dir():
            return _folder_report(path.name, read_folder(place))
    state, _ = read_state(path)
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    card = read_card(path)
    known = arch or str(card.get("arch", ""))
    suggested = () if known else tuple(architectures.suggest(shapes)[:3])
    if not known and suggested and suggested[0][1] > 0.999:
        known = suggested[0][0]
    found, classes = None, None
    if known:
        known = architectures.canonical(known)
        classes = architectures.infer_num_classes(known, shapes)
        given = card.get("preprocess")
        found = Preprocess.from_dict(given) if given else architectures.default_preprocess(known)
    return WeightsReport(
        path.name,
        len(state),
        sum(tensor.numel() for tensor in state.values()),
        bool(card),
        tuple((name, score) for name, score in suggested if score > _LIKELY),
        known,
        classes,
        tuple(str(label) for label in card.get("labels", ())),
        found,
    )


def _folder_report(name: str, found: ModelFolder) -> WeightsReport:
    """The same of a model folder, whose configuration says everything."""
    shapes = {key: tuple(tensor.shape) for key, tensor in found.state.items()}
    return WeightsReport(
        name,
        len(shapes),
        sum(math.prod(shape) for shape in shapes.values()),
        True,
        (),
        found.arch,
        architectures.infer_num_classes(found.arch, shapes, found.options),
        tuple(found.labels or ()),
        found.preprocess,
    )


def bring_classifier(
    ws: Workspace,
    weights: str | Path,
    *,
    card: str | Path | None = None,
    arch: str = "",
    labels: Sequence[str] | None = None,
    preprocess: Mapping[str, Any] | None = None,
    on_progress: ProgressFn = no_progress,
    cancel: CancelToken | None = None,
) -> str:
    """Use a classifier, score what is there, and look for the cause where it does no better than chance.

    Args:
        ws: The workspace.
        weights: Its file, or a model folder, or a zip of one.
        card: Its JSON card where that lies elsewhere (uploads lie in a folder each).
        arch: As in ``load_classifier``.
        labels: Class names in the order of the outputs.
        preprocess: What differs from the card's or the architecture's own.
        on_progress: Told about every stage.
        cancel: Checked at every step.

    Returns:
        What was done, in words.
    """
    path = Path(weights)
    on_progress(Progress(0, 0, f"reading {path.name}"))
    if card is not None:
        shutil.copyfile(card, path.with_suffix(".json"))
    chosen = None
    if preprocess:
        usual = inspect_weights(path, arch, room=ws.path / "tmp").preprocess or Preprocess()
        chosen = Preprocess.from_dict({**usual.to_dict(), **preprocess})
    classifier = use_classifier(ws, path, arch=arch or None, labels=labels, preprocess=chosen)
    _follow_up(ws, classifier, on_progress, cancel)
    return f"{classifier.name}: {classifier.num_classes} classes, {classifier.arch}."


def bring_data(
    ws: Workspace,
    path: str | Path,
    *,
    split: str = "",
    holdout: Sequence[float] | None = None,
    group: str = "",
    on_progress: ProgressFn = no_progress,
    cancel: CancelToken | None = None,
) -> str:
    """Import, score what is new, and look for the cause where the classifier does no better than chance.

    Args as ``import_data``; names that match no class are kept, to be mapped by hand. Returns what was done, in words.
    """
    report = import_data(
        ws,
        path,
        split=split or None,
        holdout=holdout,
        group=group,
        strict=False,
        on_progress=on_progress,
        cancel=cancel,
    )
    classifier = _active(ws)
    if classifier is not None:
        _follow_up(ws, classifier, on_progress, cancel)
    return report.summary()


def revise_classifier(
    ws: Workspace,
    *,
    labels: Sequence[str] | None = None,
    preprocess: Mapping[str, Any] | None = None,
    on_progress: ProgressFn = no_progress,
    cancel: CancelToken | None = None,
) -> str:
    """Change the class names or the preprocessing of the active classifier, and score again.

    A head that was fitted under other labels is dropped. Returns what was done, in words.

    Raises:
        InputError: Another number of class names, or two that are the same.
    """
    now = active_classifier(ws)
    names = list(now.labels if labels is None else labels)
    if len(set(names)) != len(names):
        raise InputError("two of the class names are the same; every output needs a name of its own")
    chosen = now.preprocess
    if preprocess is not None:
        chosen = Preprocess.from_dict({**chosen.to_dict(), **preprocess})
    file = ws.path / "models" / now.hash / "classifier.safetensors"
    known = ws.get_state("factories", [])
    new = load_classifier(file, labels=names, preprocess=chosen, device=now.device, factories=known)
    dropped = names != list(now.labels) and _drop_head(ws, now)
    classifier = use_classifier(ws, new)
    _follow_up(ws, classifier, on_progress, cancel, again=names != list(now.labels))
    parts = ["the class names" if labels is not None else "", "the preprocessing" if preprocess else ""]
    text = f"Changed {' and '.join(part for part in parts if part)}."
    return f"{text} The head was fitted under other labels; fit it again." if dropped else text


def map_labels(
    ws: Workspace,
    chosen: Mapping[str, str],
    *,
    on_progress: ProgressFn = no_progress,
    cancel: CancelToken | None = None,
) -> str:
    """Say what names of the data mean (see ``relabelling.map_labels``) and renew what depends on labels."""
    changed = relabelling.map_labels(ws, chosen)
    classifier = _active(ws)
    dropped = False
    if classifier is not None and changed:
        dropped = _drop_head(ws, classifier)
        _follow_up(ws, classifier, on_progress, cancel, again=True)
    text = f"{changed:,} samples have another class now."
    return f"{text} The head was fitted under other labels; fit it again." if dropped else text


def bring_head(
    ws: Workspace, *, on_progress: ProgressFn = no_progress, cancel: CancelToken | None = None
) -> str:
    """Fit the epistemic head of the active classifier, unless the check has found something that nobody looked at.

    Raises:
        InputError: Accuracy is no better than a constant answer and nobody has said to go on.
    """
    classifier = active_classifier(ws)
    if not check_accepted(ws, classifier) and examine(ws, classifier).suspicious:
        raise InputError(
            "the check found something that should be looked at first; see its causes, or tick there that you want to "
            "go on"
        )
    run = fit_head(ws, classifier, on_progress=on_progress, cancel=cancel)
    return f"Fitted on {run.result['fitted_on']:,} samples in {run.result['seconds']:.0f} s."


def _follow_up(
    ws: Workspace,
    classifier: Classifier,
    on_progress: ProgressFn,
    cancel: CancelToken | None,
    *,
    again: bool = False,
) -> None:
    """Scores, and a search for the cause where they look wrong."""
    if not ws.count():
        return
    on_progress(Progress(0, 0, "scoring the samples", changed=True))
    score(ws, classifier, on_progress=on_progress, cancel=cancel)
    if again:  # labels decide loss and hardness
        refresh_scores(ws, classifier, [], force=True, on_progress=on_progress, cancel=cancel)
    try:
        wrong = examine(ws, classifier).suspicious
    except DatasetError:  # nothing is labelled: there is nothing to check yet
        return
    if wrong:
        alternatives(ws, classifier, on_progress=on_progress, cancel=cancel)


def _drop_head(ws: Workspace, classifier: Classifier) -> bool:
    """Remove a reference that was fitted under labels that no longer hold; says whether there was one."""
    path = reference_path(ws, classifier.hash)
    there = path.exists()
    path.unlink(missing_ok=True)
    return there


def _active(ws: Workspace) -> Classifier | None:
    return active_classifier(ws) if ws.get_state("classifier") else None


def last_import(ws: Workspace) -> dict[str, Any] | None:
    """What the newest finished import did: ``added``, ``present``, ``skipped``, ``first_skipped`` (name, reason) …"""
    run = next((run for run in ws.runs("import") if run.state == "done"), None)
    held = next((one for one in ws.runs("hold-out") if run and one.started >= run.started), None)
    if run is None:
        return None
    splits = {name: ws.count(Filter(split=name, origin="real")) for name in ("", *ws.splits())}
    return {
        **run.result,
        "name": Path(str(run.settings.get("path", ""))).name,
        "now": {name: count for name, count in splits.items() if count and name != "generated"},
        "held_out": dict(held.settings) if held else {},
    }
