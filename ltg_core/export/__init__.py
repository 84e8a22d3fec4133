"""Export of samples as training data: formats, leakage guard, provenance."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ltg_core.data.workspace import Workspace
from ltg_core.export.base import Exporter, ExportReport, Item
from ltg_core.export.imagefolder import ImageFolderExporter
from ltg_core.export.parquet import ParquetExporter
from ltg_core.export.writing import write_export, zip_export
from ltg_core.jobs import CancelToken, ProgressFn, no_progress
from ltg_core.registry import Registry

__all__ = ["EXPORTERS", "ExportReport", "Exporter", "Item", "export", "zip_export"]

EXPORTERS: Registry[Exporter] = Registry("export format", (ImageFolderExporter, ParquetExporter))


def export(
    ws: Workspace,
    ids: Sequence[str],
    dest: str | Path,
    fmt: str | Exporter = "imagefolder",
    *,
    on_progress: ProgressFn = no_progress,
    cancel: CancelToken | None = None,
) -> ExportReport:
    """Write samples to a new folder, ready for training.

    Args:
        ws: The workspace.
        ids: The samples, in the order in which they are written.
        dest: The folder to make; it must not exist yet, or be empty.
        fmt: Name of a format in ``EXPORTERS``, or one with its settings.
        on_progress: Told about every few samples.
        cancel: Checked at every sample; a stopped export leaves nothing behind.

    Returns:
        Where it is, how many samples it has, and which were left out and why: samples of the validation and
        test splits, what was made from them, exact copies of them and of each other, samples without a label
        where the format needs one.

    Raises:
        InputError: The folder is in use, or nothing may be exported.
        WorkspaceError: The disk is full; nothing is left behind.
        Cancelled: The user stopped it.
    """
    exporter = EXPORTERS[fmt]() if isinstance(fmt, str) else fmt
    return write_export(ws, ids, Path(dest), exporter, on_progress, cancel or CancelToken())
