"""Export as a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ltg_core import export as exports
from ltg_core.data.images import content_hash
from ltg_core.data.records import Filter, Run
from ltg_core.data.workspace import Workspace
from ltg_core.errors import InputError
from ltg_core.export import EXPORTERS, Exporter, ExportReport
from ltg_core.jobs import CancelToken, ProgressFn, no_progress
from ltg_core.workflows.recording import recorded

_LISTED = 10_000


def export(
    ws: Workspace,
    ids: Sequence[str] | None,
    fmt: str | Exporter = "imagefolder",
    dest: str | Path | None = None,
    *,
    held_out: bool = False,
    overwrite: bool = False,
    on_progress: ProgressFn = no_progress,
    cancel: CancelToken | None = None,
) -> tuple[Run, ExportReport]:
    """Write samples as training data, with full provenance and a leakage guard.

    Args:
        ws: The workspace.
        ids: The samples; None for all that were accepted.
        fmt: Name of a format in ``EXPORTERS``, or one with its settings.
        dest: A folder that does not exist yet; None for one in the workspace, named after the run.
        held_out: Samples of the validation and test splits and what was made from them too, each as its split.
        overwrite: Replace an earlier export at ``dest``.
        on_progress: Told about every few samples.
        cancel: Checked at every sample; a stopped export leaves nothing behind.

    Raises:
        InputError: Nothing was accepted, the folder is in use, or nothing may be exported.
        WorkspaceError: The disk is full; nothing is left behind.
        Cancelled: On request.
    """
    exporter = EXPORTERS[fmt]() if isinstance(fmt, str) else fmt
    chosen = ws.query(Filter(verdict="accepted")) if ids is None else list(dict.fromkeys(ids))
    if not chosen:
        raise InputError("no sample is accepted yet; accept some, or name the samples to export")
    settings = {
        "format": exporter.NAME,
        "options": exporter.to_dict(),
        "dest": None if dest is None else str(dest),
        "accepted": ids is None,
        "held_out": held_out,
        "overwrite": overwrite,
        "samples": len(chosen),
        "ids": chosen[:_LISTED],
    }
    with recorded(
        ws, "export", settings, hashes={"ids": content_hash("\n".join(chosen).encode())}
    ) as recording:
        place = Path(dest) if dest is not None else ws.exports_folder / recording.run.id
        report = exports.export(
            ws,
            chosen,
            place,
            exporter,
            held_out=held_out,
            overwrite=overwrite,
            on_progress=on_progress,
            cancel=cancel,
        )
        recording.result |= {
            "path": str(report.path),
            "samples": report.n,
            "left_out": len(report.left_out),
            "reasons": exports.reasons(report.left_out),
            "classes": report.classes,
            "splits": report.splits,
        }
    return recording.run, report
