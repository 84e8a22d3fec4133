"""Export of samples as training data: formats, leakage guard, provenance."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ltg_core.data.workspace import Workspace
from ltg_core.export.base import Exporter, ExportReport, Item
from ltg_core.export.coco import CocoExporter
from ltg_core.export.csv import CsvExporter
from ltg_core.export.fiftyone import FiftyOneExporter
from ltg_core.export.guard import summary as reasons
from ltg_core.export.huggingface import HuggingFaceExporter
from ltg_core.export.imagefolder import ImageFolderExporter
from ltg_core.export.jsonl import JsonlExporter
from ltg_core.export.parquet import ParquetExporter
from ltg_core.export.planning import Plan, Source, plan
from ltg_core.export.webdataset import WebDatasetExporter
from ltg_core.export.writing import write_export, zip_export
from ltg_core.jobs import CancelToken, ProgressFn, no_progress
from ltg_core.registry import Registry

__all__ = [
    "EXPORTERS", "ExportReport", "Exporter", "Item", "Plan", "Source", "export", "plan", "reasons", "zip_export",
]  # fmt: skip

EXPORTERS: Registry[Exporter] = Registry(
    "export format",
    (
        ImageFolderExporter,
        WebDatasetExporter,
        HuggingFaceExporter,
        ParquetExporter,
        CsvExporter,
        JsonlExporter,
        CocoExporter,
        FiftyOneExporter,
    ),
)


def export(
    ws: Workspace,
    ids: Sequence[str],
    dest: str | Path,
    fmt: str | Exporter = "imagefolder",
    *,
    held_out: bool = False,
    overwrite: bool = False,
    source: Source | None = None,
    on_progress: ProgressFn = no_progress,
    cancel: CancelToken | None = None,
) -> ExportReport:
    """Write samples to a new folder, ready for training.

    Args:
        ws: The workspace.
        ids: The samples, in the order in which they are written.
        dest: The folder to make; it must not exist yet, or be empty.
        fmt: Name of a format in ``EXPORTERS``, or one with its settings.
        held_out: Export samples of the validation and test splits and what was made from them too, each as the
            split it belongs to. Everything else is "train".
        overwrite: Replace an earlier export at ``dest``, once the new one is complete; never another folder.
        source: What the samples are, where there is more to say than their ids.
        on_progress: Told about every few samples.
        cancel: Checked at every sample; a stopped export leaves nothing behind.

    Returns:
        Where it is, how many samples it has, and which were left out and why: samples of the validation and
        test splits, what was made from them, exact and near copies of them, exact copies of each other, samples
        without a label where the format needs one.

    Raises:
        InputError: The folder is in use or no earlier export, or nothing may be exported.
        WorkspaceError: The disk is full; nothing is left behind.
        Cancelled: The user stopped it.
    """
    exporter = EXPORTERS[fmt]() if isinstance(fmt, str) else fmt
    return write_export(
        ws,
        ids,
        Path(dest),
        exporter,
        on_progress,
        cancel or CancelToken(),
        held_out=held_out,
        overwrite=overwrite,
        source=source or Source(),
    )
