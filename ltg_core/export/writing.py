"""One export from the first sample to the renamed folder: guard, files, manifest, card."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ltg_core.data import leftovers
from ltg_core.data.database import explained
from ltg_core.data.images import encode_png, read_image
from ltg_core.data.records import Sample
from ltg_core.data.workspace import Workspace
from ltg_core.errors import InputError
from ltg_core.export import guard
from ltg_core.export.base import Exporter, ExportReport, Item
from ltg_core.export.card import dataset_card
from ltg_core.export.marking import png_text
from ltg_core.export.planning import Source
from ltg_core.export.provenance import RUNS_FILE, Runs, records
from ltg_core.export.text import json_line
from ltg_core.jobs import CancelToken, Progress, ProgressFn
from ltg_core.workers.engine import There

MANIFEST = "manifest.jsonl"
LEFT_OUT = "left_out.jsonl"
_BATCH = 100


def write_export(
    ws: Workspace,
    ids: Sequence[str],
    dest: Path,
    exporter: Exporter,
    on_progress: ProgressFn,
    cancel: CancelToken,
    *,
    held_out: bool,
    overwrite: bool,
    source: Source,
) -> ExportReport:
    """Write into a folder beside ``dest`` and rename it at the end; ``export.export`` says the rest."""
    dest = dest.expanduser().resolve()
    leftovers.sweep(dest.parent)
    _free(dest, overwrite)
    on_progress(Progress(0, len(ids), "checking for leaks"))
    checked = guard.sort_out(
        ws, ids, needs_label=exporter.NEEDS_LABEL, held_out=held_out, on_progress=on_progress, cancel=cancel
    )
    checked.left_out.extend(source.left_out)
    if not checked.kept:
        raise InputError(f"nothing is left to export: {_reasons(checked.left_out)}")
    with explained(dest.parent, "export folder"):
        dest.parent.mkdir(parents=True, exist_ok=True)
        partial = dest.parent / leftovers.hidden_name("partial")
        partial.mkdir()
        try:
            kept, left_out = checked.kept, checked.left_out
            classes, splits = _write(ws, kept, left_out, partial, exporter, on_progress, cancel, source)
            if not classes:
                raise InputError(f"nothing is left to export: {_reasons(left_out)}")
            about = dataset_card(exporter, classes, splits, checked.left_out, source.about)
            (partial / "README.md").write_text(about, encoding="utf-8")
            with open(partial / LEFT_OUT, "w", encoding="utf-8") as file:
                for id, reason in checked.left_out:
                    twin = checked.twins.get(id)
                    file.write(json_line({"id": id, "reason": reason} | ({"copy_of": twin} if twin else {})))
            cancel.check()
            _put(partial, dest, overwrite)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
    written = classes.total()
    on_progress(Progress(written, written, "exported"))
    return ExportReport(dest, written, checked.left_out, exporter.NAME, dict(classes), dict(splits))


def _reasons(left_out: Sequence[tuple[str, str]]) -> str:
    found = guard.summary(left_out).items()
    return "; ".join(f"{count} x {reason}" for reason, count in found) or "no samples were chosen"


def zip_export(path: str | Path, *, overwrite: bool = False) -> Path:
    """Pack an export into ``<folder>.zip`` beside it, for download; returns the zip file.

    Raises:
        InputError: The folder does not exist, or the zip file does and ``overwrite`` is not set.
        WorkspaceError: The disk is full; nothing is left behind.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise InputError(f"'{folder.name}' is no export folder")
    target = folder.with_name(folder.name + ".zip")
    if target.exists() and not overwrite:
        raise InputError(f"'{target}' exists; remove it, or ask for it to be overwritten")
    partial = folder.with_name(leftovers.hidden_name("zip.partial"))
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


def _free(dest: Path, overwrite: bool) -> None:
    if not dest.exists() or (dest.is_dir() and not any(dest.iterdir())):
        return
    if not overwrite:
        raise InputError(
            f"'{dest}' is in use; choose a folder that does not exist yet, or ask for it to be overwritten"
        )
    if not all((dest / name).is_file() for name in (MANIFEST, LEFT_OUT)):
        raise InputError(f"'{dest}' is no earlier export, so it is not overwritten; choose another folder")


def _put(partial: Path, dest: Path, overwrite: bool) -> None:
    """Rename the finished folder; an earlier export there is set aside first and removed last."""
    with contextlib.suppress(OSError):
        dest.rmdir()  # only ever an empty one
    _free(dest, overwrite)  # somebody may have put something there since
    if not dest.exists():
        os.replace(partial, dest)
        return
    old = partial.with_suffix(".old")
    leftovers.set_aside(dest, old)
    try:
        os.replace(partial, dest)
    except BaseException:
        leftovers.put_back(old)
        raise
    leftovers.remove(old)


def _write(
    ws: Workspace,
    kept: Sequence[tuple[str, str]],
    left_out: list[tuple[str, str]],
    folder: Path,
    exporter: Exporter,
    on_progress: ProgressFn,
    cancel: CancelToken,
    source: Source,
) -> tuple[Counter[str], Counter[str]]:
    classes: Counter[str] = Counter()
    splits: Counter[str] = Counter()
    runs: Runs = {}
    last = 0.0
    labels = ws.label_names()
    items = _items(ws, kept, left_out, runs, cancel, source, labels)
    with open(folder / MANIFEST, "w", encoding="utf-8") as manifest:
        for done, record in enumerate(exporter.write(folder, items, labels), start=1):
            manifest.write(json_line(record))
            classes[record["class_name"] or "no label"] += 1
            splits[record["split"]] += 1
            if time.monotonic() - last > 0.2:
                on_progress(Progress(done, len(kept), "writing images"))
                last = time.monotonic()
    with open(folder / RUNS_FILE, "w", encoding="utf-8") as file:
        file.writelines(json_line(run) for run in runs.values() if run is not None)
    return classes, splits


def _items(
    ws: Workspace,
    kept: Sequence[tuple[str, str]],
    left_out: list[tuple[str, str]],
    runs: Runs,
    cancel: CancelToken,
    source: Source,
    labels: Sequence[str],
) -> Iterator[Item]:
    """What is written; what was deleted since it was looked at goes to ``left_out``."""

    def parts() -> Iterator[_Part]:
        for start in range(0, len(kept), _BATCH):
            homes = dict(kept[start : start + _BATCH])
            samples = [source.then(sample, labels) for sample in ws.there(list(homes))]
            made = records(ws, samples, runs)
            for sample, record in zip(samples, made, strict=True):
                record["split"] = homes[sample.id]
            yield _Part(list(homes), samples, made, [_where(ws, sample) for sample in samples])

    there = There[_Part]("ltg_core.export.writing:pictures_there", dict, _Part.asked)
    for part, pictures in ws.engine.map(parts(), lambda part: _pictures(part.asked()), there, cancel):
        found = {sample.id for sample in part.samples}
        left_out += [(id, guard.GONE) for id in part.ids if id not in found]
        for sample, record, png in zip(part.samples, part.records, pictures, strict=True):
            cancel.check()
            if png is None:
                left_out.append((sample.id, guard.NO_PICTURE))
            else:
                yield Item(sample, png, record, record["split"])


_Asked = list[tuple["Path | None", dict[str, str]]]


class _Part(NamedTuple):
    """Some samples on their way out."""

    ids: list[str]
    samples: list[Sample]
    records: list[dict[str, Any]]
    files: list[Path | None]

    def asked(self) -> _Asked:
        """Where each picture is, and what it shall say of itself."""
        texts = [png_text(s, r) for s, r in zip(self.samples, self.records, strict=True)]
        return list(zip(self.files, texts, strict=True))


def _where(ws: Workspace, sample: Sample) -> Path | None:
    try:
        return ws.image_path(sample.id)
    except InputError:  # deleted just now
        return None


def pictures_there(options: Mapping[str, Any]) -> Callable[[_Asked], list[bytes | None]]:
    """Writes pictures in another process."""
    return lambda asked: list(_pictures(asked))


def _pictures(asked: _Asked) -> Iterator[bytes | None]:
    """PNG bytes one by one, None where a picture cannot be read."""
    for path, text in asked:
        try:
            picture = None if path is None else read_image(path)
        except InputError:
            picture = None
        yield None if picture is None else encode_png(picture, text)
