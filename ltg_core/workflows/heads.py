"""Fitting the epistemic head and all else that is learnt from real data about one frozen classifier."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence

import torch

from ltg_core.data.database import explained
from ltg_core.data.records import Filter, Run
from ltg_core.data.sources import split_of
from ltg_core.data.workspace import Workspace
from ltg_core.errors import DatasetError
from ltg_core.jobs import CancelToken, Progress, ProgressFn, no_progress
from ltg_core.models.classifier import Classifier
from ltg_core.signals.head import HeadSettings
from ltg_core.signals.reference import ReferenceSettings, fit_reference
from ltg_core.types import Outputs
from ltg_core.workflows.computing import compute_outputs
from ltg_core.workflows.recording import recorded
from ltg_core.workflows.scoring import labels_of, moved, refresh_scores
from ltg_core.workflows.setup import reference_path
from ltg_core.workflows.store import FeatureStore

_FEW_HELD = 20
_LEAST_HELD = 4


def fit_head(
    ws: Workspace,
    classifier: Classifier,
    settings: HeadSettings | None = None,
    *,
    options: ReferenceSettings | None = None,
    seed: int = 0,
    on_progress: ProgressFn = no_progress,
    cancel: CancelToken | None = None,
) -> Run:
    """Fit the reference of a classifier on the workspace's real data and score all samples with it.

    Fitted on the split "train"; percentiles come from "val", or from a tenth of the training samples where there
    is no validation split. Without a training split every labelled real sample that is not held out is used.
    The test split is never read. Samples that lack outputs are run through the classifier first.

    Args:
        ws: The workspace.
        classifier: The frozen classifier; neither its weights nor its predictions change.
        settings: Size and training of the head.
        options: Size of the bank of real samples and the like.
        seed: Of every random draw.
        on_progress: Told about every stage.
        cancel: Checked at every step; the earlier reference stays until the new one is complete.

    Returns:
        The run.

    Raises:
        DatasetError: Too few labelled real samples.
        Cancelled: On request.
        WorkspaceError: The disk is full; the earlier reference stays.
    """
    token = cancel or CancelToken()
    settings, options = settings or HeadSettings(), options or ReferenceSettings()
    record = {"head": settings.to_dict(), "reference": options.to_dict()}
    with recorded(ws, "fit-head", record, seed=seed, hashes={"classifier": classifier.hash}) as recording:
        started = time.monotonic()
        fitting, held, where = division(ws, classifier)
        compute_outputs(ws, classifier, [*fitting, *held], on_progress=on_progress, cancel=token)
        store = FeatureStore(ws, classifier)
        fitting, held = _scored(store, fitting), _scored(store, held)
        if len(fitting) < 2 * _LEAST_HELD or len(held) < _LEAST_HELD:
            raise DatasetError(
                f"the head needs labelled real samples to learn from; there are {len(fitting)} to fit on and "
                f"{len(held)} held out. Import a labelled split 'train' (and 'val')"
            )
        device = classifier.device
        ref = fit_reference(
            _outputs(store, fitting, device),
            torch.from_numpy(labels_of(ws, fitting, classifier.num_classes)).to(device),
            _outputs(store, held, device),
            torch.from_numpy(labels_of(ws, held, classifier.num_classes)).to(device),
            classifier.num_classes,
            settings,
            generator=torch.Generator().manual_seed(seed),
            on_progress=on_progress,
            cancel=token,
            options=options,
            ids=fitting,
            model_hash=classifier.hash,
        )
        with explained(ws.path):
            ref.save(reference_path(ws, classifier.hash))
        recording.result |= {"fitted_on": len(fitting), "held_out": len(held), "splits": where}
        on_progress(Progress(0, 0, "scoring with the new head"))
        scored = refresh_scores(ws, classifier, [], force=True, on_progress=on_progress, cancel=token)
        recording.result |= {
            "scored": scored,
            "limits": ref.limits._asdict(),
            "seconds": round(time.monotonic() - started, 2),
        }
    return recording.run


def division(ws: Workspace, classifier: Classifier) -> tuple[list[str], list[str], dict[str, str]]:
    """Ids to fit on, ids to hold out, and in words where they come from."""
    by_role: dict[str, list[str]] = {"train": [], "val": [], "": []}
    for name in ["", *ws.splits()]:
        role = split_of(name) if name else ""
        if role == "test":
            continue
        ids = ws.query(Filter(split=name, origin="real"))
        labels = labels_of(ws, ids, classifier.num_classes)
        some = [sample for sample, label in zip(ids, labels, strict=True) if label >= 0]
        by_role[role if role in by_role else ""] += some
    fitting, source = (
        (by_role["train"], "train") if by_role["train"] else (by_role[""], "samples of no split")
    )
    if len(by_role["val"]) >= _LEAST_HELD:
        return fitting, by_role["val"], {"fitted_on": source, "held_out": "val"}
    # A tenth, but of little data enough for percentiles to mean something; the same samples whatever their order.
    count = max(len(fitting) // 10, min(_FEW_HELD, len(fitting) // 4))
    chosen = set(sorted(fitting, key=lambda sample: hashlib.sha256(sample.encode()).digest())[:count])
    held = [sample for sample in fitting if sample in chosen]
    rest = [sample for sample in fitting if sample not in chosen]
    return rest, held, {"fitted_on": source, "held_out": f"a part of {source}"}


def _scored(store: FeatureStore, ids: Sequence[str]) -> list[str]:
    """Those with outputs; images that cannot be read have none."""
    absent = set(store.missing(list(ids)))
    return [sample for sample in ids if sample not in absent]


def _outputs(store: FeatureStore, ids: Sequence[str], device: torch.device) -> Outputs:
    return moved(store.outputs(ids), device)
