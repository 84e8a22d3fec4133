"""The bundled demo: its data, classifier, generator and reference in a workspace."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from ltg_core.data.blobs import safe_name
from ltg_core.data.database import explained
from ltg_core.data.workspace import Workspace
from ltg_core.errors import InputError, LtgError
from ltg_core.jobs import CancelToken, Progress, ProgressFn, no_progress
from ltg_core.models.classifier import Classifier
from ltg_core.signals.reference import Reference
from ltg_core.workflows.heads import fit_head
from ltg_core.workflows.importing import import_data
from ltg_core.workflows.scoring import score
from ltg_core.workflows.setup import (
    active_classifier,
    reference,
    reference_path,
    use_classifier,
    use_generator,
)

DEMO = Path(__file__).resolve().parents[2] / "assets" / "demo"
"""Where the repository keeps the demo."""


def open_demo(
    ws: Workspace,
    folder: str | Path = DEMO,
    *,
    on_progress: ProgressFn = no_progress,
    cancel: CancelToken | None = None,
) -> None:
    """Load the demo into a workspace: real samples, classifier, generator and, where it fits, the reference.

    Idempotent: what is there stays, and a classifier or generator that was chosen since stays the active one.
    The samples are not scored here (``prepare_demo``).

    Raises:
        InputError: The demo is not there.
    """
    folder = Path(folder)
    missing = [name for name in ("data.parquet", "classifier.safetensors") if not (folder / name).is_file()]
    if missing:
        raise InputError(
            f"the demo lacks {' and '.join(missing)}; it comes with the repository, or 'demo build' makes it"
        )
    stamp = _stamp(folder)
    before, active = ws.get_state("demo") or {}, ws.get_state("classifier") or {}
    if before and active and active["hash"] != before["classifier"]:
        return  # somebody works with a classifier of their own here
    if before.get("stamp") == stamp and active and ws.get_state("generator"):
        return
    classifier = use_classifier(ws, folder / "classifier.safetensors")
    import_data(ws, folder / "data.parquet", on_progress=on_progress, cancel=cancel)
    _install_reference(ws, folder, classifier)
    if (folder / "generator" / "model_index.json").is_file():
        use_generator(ws, folder / "generator")
        ws.put_state("demo", {"stamp": stamp, "classifier": classifier.hash})


def prepare_demo(
    ws: Workspace,
    folder: str | Path = DEMO,
    *,
    device: str | None = None,
    on_progress: ProgressFn = no_progress,
    cancel: CancelToken | None = None,
) -> Classifier:
    """The demo, ready to generate: opened, all samples scored, and the head fitted where none fits.

    What is there already is not done again. The page and the command line both call this.

    Returns:
        The active classifier.

    Raises:
        InputError: The demo is not there.
        Cancelled: On request; what was finished is kept.
    """
    open_demo(ws, folder, on_progress=on_progress, cancel=cancel)
    classifier = active_classifier(ws, device=device)
    on_progress(Progress(0, 0, "scoring the samples", changed=True))
    score(ws, classifier, on_progress=on_progress, cancel=cancel)
    if reference(ws, classifier) is None:  # not shipped, or of another version
        on_progress(Progress(0, 0, "fitting the epistemic head", changed=True))
        fit_head(ws, classifier, on_progress=on_progress, cancel=cancel)
    return classifier


def _install_reference(ws: Workspace, folder: Path, classifier: Classifier) -> None:
    """Copy the shipped reference unless one was fitted here, or it belongs to another classifier."""
    shipped = next(
        (
            p
            for p in (folder / "reference.safetensors", folder / "reference" / "reference.safetensors")
            if p.is_file()
        ),
        None,
    )
    target = reference_path(ws, classifier.hash)
    if shipped is None or target.exists():
        return
    try:
        if Reference.load(shipped).model_hash != classifier.hash:
            return
    except LtgError:  # a reference of another version: the head can be fitted again
        return
    temporary = target.with_name(safe_name(f"{target.name}.{os.getpid()}.part"))
    with explained(ws.path):
        shutil.copyfile(shipped, temporary)
        os.replace(temporary, target)


def _stamp(folder: Path) -> str:
    """Changes when the demo's files do."""
    names = ("data.parquet", "classifier.safetensors", "generator/model_index.json")
    files = [folder / name for name in names if (folder / name).is_file()]
    return "|".join([str(folder.resolve()), *(f"{f.stat().st_size}@{int(f.stat().st_mtime)}" for f in files)])
