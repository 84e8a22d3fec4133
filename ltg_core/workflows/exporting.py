"""Export as a run, and what it would do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ltg_core import export as exports
from ltg_core.curation import sets
from ltg_core.data.images import content_hash
from ltg_core.data.records import REAL, Filter, Run
from ltg_core.data.workspace import Workspace
from ltg_core.errors import InputError
from ltg_core.export import EXPORTERS, Exporter, ExportReport, Plan, Source
from ltg_core.export.guard import protected
from ltg_core.jobs import CancelToken, ProgressFn, no_progress
from ltg_core.workflows.recording import recorded

_LISTED = 10_000
_EXAMPLES = 8


def export(
    ws: Workspace,
    ids: Sequence[str] | None,
    fmt: str | Exporter = "imagefolder",
    dest: str | Path | None = None,
    *,
    set_ref: str | None = None,
    with_real: bool = False,
    held_out: bool = False,
    overwrite: bool = False,
    on_progress: ProgressFn = no_progress,
    cancel: CancelToken | None = None,
) -> tuple[Run, ExportReport]:
    """Write samples as training data, with full provenance and a leakage guard.

    Args:
        ws: The workspace.
        ids: The samples; None for all that were accepted, or those of ``set_ref``.
        fmt: Name of a format in ``EXPORTERS``, or one with its settings.
        dest: A folder that does not exist yet; None for one in the workspace, named after the run.
        set_ref: A set, ``name`` or ``name@version``; its classes, verdicts and tags are written as they were then.
        with_real: Add the real training samples, but for those that were rejected.
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
    chosen, source = _chosen(ws, ids, set_ref, with_real)
    settings = {
        "format": exporter.NAME,
        "options": exporter.to_dict(),
        "dest": None if dest is None else str(dest),
        "accepted": ids is None and set_ref is None,
        "set": set_ref and sets.get(ws, set_ref).ref,
        "with_real": with_real,
        "held_out": held_out,
        "overwrite": overwrite,
        "samples": len(chosen),
        "ids": chosen[:_LISTED],
    }
    hashes = {"ids": content_hash("\n".join(chosen).encode())}
    if set_ref is not None:
        hashes["set"] = sets.get(ws, set_ref).hash
    with recorded(ws, "export", settings, hashes=hashes) as recording:
        place = Path(dest) if dest is not None else ws.exports_folder / recording.run.id
        report = exports.export(
            ws,
            chosen,
            place,
            exporter,
            held_out=held_out,
            overwrite=overwrite,
            source=source,
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


def plan_export(
    ws: Workspace,
    ids: Sequence[str] | None,
    fmt: str | Exporter = "imagefolder",
    *,
    set_ref: str | None = None,
    with_real: bool = False,
    held_out: bool = False,
    on_progress: ProgressFn = no_progress,
    cancel: CancelToken | None = None,
) -> Plan:
    """What ``export`` with these arguments would hold and leave out; writes nothing and is no run."""
    exporter = EXPORTERS[fmt]() if isinstance(fmt, str) else fmt
    chosen, source = _chosen(ws, ids, set_ref, with_real)
    return exports.plan(
        ws, chosen, exporter, held_out=held_out, source=source, on_progress=on_progress, cancel=cancel
    )


def summary(found: ExportReport | Plan) -> dict[str, Any]:
    """What an export did, or would do, as small JSON values: counts, and a few ids of what was left out and why."""
    by: dict[str, list[str]] = {}
    for id, reason in found.left_out:
        by.setdefault(reason, []).append(id)
    ranked = sorted(by.items(), key=lambda pair: -len(pair[1]))
    shown: dict[str, Any] = {
        "n": found.n,
        "classes": found.classes,
        "splits": found.splits,
        "left_out": len(found.left_out),
        "reasons": [{"reason": reason, "n": len(ids), "ids": ids[:_EXAMPLES]} for reason, ids in ranked],
    }
    if isinstance(found, Plan):
        return shown | {"real": found.real, "examples": list(found.examples)}
    return shown | {"name": found.path.name}


def _chosen(
    ws: Workspace, ids: Sequence[str] | None, set_ref: str | None, with_real: bool
) -> tuple[list[str], Source]:
    if ids is not None and set_ref is not None:
        raise InputError("name samples or a set to export, not both")
    source = Source()
    if set_ref is not None:
        chosen, source = _members(ws, set_ref)
    else:
        chosen = ws.query(Filter(verdict="accepted")) if ids is None else list(dict.fromkeys(ids))
    if not chosen and not source.gone:
        raise InputError("no sample is accepted yet; accept some, or name the samples to export")
    if with_real:
        rejected = set(ws.query(Filter(origin=REAL, verdict="rejected")))
        trained = [split for split in ("", *ws.splits()) if not protected(split)]
        found = [id for split in trained for id in ws.query(Filter(origin=REAL, split=split))]
        chosen = list(dict.fromkeys([*chosen, *(id for id in found if id not in rejected)]))
    return chosen, source


def _members(ws: Workspace, set_ref: str) -> tuple[list[str], Source]:
    kept, members = sets.get(ws, set_ref), sets.members(ws, set_ref)
    wanted = [member.sample for member in members]
    there = set(ws.query(Filter(ids=tuple(wanted))))
    about = f"The set {kept.ref}: {kept.n:,} samples, content hash sha256 {kept.hash}."
    gone = tuple(id for id in wanted if id not in there)
    as_of = {member.sample: member for member in members}
    return [id for id in wanted if id in there], Source(about, as_of, gone)
