"""One export from the first sample to the renamed folder: guard, files, manifest, card."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import time
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ltg_core.data.database import explained
from ltg_core.data.images import encode_png
from ltg_core.data.runs import dump
from ltg_core.data.workspace import Workspace
from ltg_core.errors import InputError
from ltg_core.export import guard
from ltg_core.export.base import Exporter, ExportReport, Item
from ltg_core.export.card import dataset_card
from ltg_core.export.provenance import png_text, records
from ltg_core.jobs import CancelToken, Progress, ProgressFn

_BATCH = 100


def write_export(
    ws: Workspace,
    ids: Sequence[str],
    dest: Path,
    exporter: Exporter,
    on_progress: ProgressFn,
    cancel: CancelToken,
) -> ExportReport:
    """Write into a folder beside ``dest`` and rename it at the end; ``export.export`` says the rest."""
    dest = dest.expanduser().absolute()
    _free(dest)
    on_progress(Progress(0, len(ids), "checking for leaks"))
    kept, left_out = guard.check(ws, ids, needs_label=exporter.NEEDS_LABEL)
    if not kept:
        reasons = "; ".join(f"{count} x {reason}" for reason, count in guard.summary(left_out).items())
        raise InputError(f"nothing is left to export: {reasons or 'no samples were chosen'}")
    with explained(dest.parent, "export folder"):
        dest.parent.mkdir(parents=True, exist_ok=True)
        partial = dest.parent / f".{dest.name}.{secrets.token_hex(4)}.partial"
        partial.mkdir()
        try:
            classes = _write(ws, kept, partial, exporter, on_progress, cancel)
            card = dataset_card(exporter, classes, left_out)
            (partial / "README.md").write_text(card, encoding="utf-8")
            (partial / "left_out.jsonl").write_text(
                "".join(dump({"id": i, "reason": reason}) + "\n" for i, reason in left_out), encoding="utf-8"
            )
            cancel.check()
            with contextlib.suppress(FileNotFoundError):
                dest.rmdir()
            os.replace(partial, dest)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
    on_progress(Progress(len(kept), len(kept), "exported"))
    return ExportReport(dest, len(kept), left_out, exporter.NAME, dict(classes))


def zip_export(path: str | Path) -> Path:
    """Pack an export into ``<folder>.zip`` beside it, for download; returns the zip file.

    Raises:
        InputError: The folder does not exist.
        WorkspaceError: The disk is full; nothing is left behind.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise InputError(f"'{folder.name}' is no export folder")
    target = folder.with_name(folder.name + ".zip")
    partial = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.zip.partial")
    with explained(folder.parent, "export folder"):
        try:
            # PNG, WebP and Parquet are packed already.
            with zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED) as archive:
                for file in sorted(folder.rglob("*")):
                    if file.is_file():
                        archive.write(file, Path(folder.name) / file.relative_to(folder))
            os.replace(partial, target)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
    return target


def _free(dest: Path) -> None:
    if dest.exists() and (not dest.is_dir() or any(dest.iterdir())):
        raise InputError(f"'{dest}' is in use; choose a folder that does not exist yet")


def _write(
    ws: Workspace,
    ids: Sequence[str],
    folder: Path,
    exporter: Exporter,
    on_progress: ProgressFn,
    cancel: CancelToken,
) -> Counter[str]:
    classes: Counter[str] = Counter()
    last = 0.0
    items = _items(ws, ids, cancel)
    with open(folder / "manifest.jsonl", "w", encoding="utf-8") as manifest:
        for done, record in enumerate(exporter.write(folder, items, ws.label_names()), start=1):
            manifest.write(dump(record) + "\n")
            classes[record["class_name"] or "no label"] += 1
            if time.monotonic() - last > 0.2:
                on_progress(Progress(done, len(ids), "writing images"))
                last = time.monotonic()
    return classes


def _items(ws: Workspace, ids: Sequence[str], cancel: CancelToken) -> Iterator[Item]:
    runs: dict[str, dict[str, Any] | None] = {}
    for start in range(0, len(ids), _BATCH):
        samples = ws.samples(ids[start : start + _BATCH])
        for sample, record in zip(samples, records(ws, samples, runs), strict=True):
            cancel.check()
            yield Item(sample, encode_png(ws.image(sample.id), png_text(sample)), record)
