"""What a workspace works with: its data, the classifier under test, the generator, the reference."""

from __future__ import annotations

import functools
import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ltg_core.data import datasets
from ltg_core.data.datasets import ImportReport
from ltg_core.data.sources import closing
from ltg_core.data.workspace import Workspace
from ltg_core.errors import DatasetError, InputError, ModelError
from ltg_core.generators.base import Generator
from ltg_core.generators.judge import prompt_of
from ltg_core.jobs import CancelToken, ProgressFn, no_progress
from ltg_core.models.classifier import Classifier
from ltg_core.models.loaders import load_classifier, save_classifier
from ltg_core.models.preprocess import Preprocess
from ltg_core.signals.reference import Reference

log = logging.getLogger(__name__)

_UNNAMED = re.compile(r"(class[ _]?)?\d+")
_SHOWN = 12


def import_data(
    ws: Workspace,
    path: str | Path,
    *,
    split: str | None = None,
    limit: int | None = None,
    on_progress: ProgressFn = no_progress,
    cancel: CancelToken | None = None,
) -> ImportReport:
    """Import a data set; where a classifier is active, its classes give the labels their numbers.

    Classes that the classifier does not know are kept without a label; classes of the classifier that the
    data lacks are no matter. A classifier without class names takes those of the data, where the two can be
    brought together.

    Raises:
        DatasetError: Nothing usable is there, or not one class of the data is among the classifier's; nothing
            is imported then.
    """
    labels, adopt = _labels_for(ws, Path(path).expanduser())
    report = datasets.import_dataset(
        ws, path, split=split, label_names=labels, limit=limit, on_progress=on_progress, cancel=cancel
    )
    if adopt:
        _rename_classes(ws, report.labels)
    if report.unknown_labels:
        log.warning("%s", _unknown_text(report, labels or []))
    return report


def use_classifier(
    ws: Workspace,
    source: str | Path | Classifier,
    *,
    arch: str | None = None,
    labels: Sequence[str] | None = None,
    preprocess: Preprocess | None = None,
    name: str | None = None,
    device: str = "cpu",
) -> Classifier:
    """Make a classifier the active one; its weights are copied into the workspace as safetensors with a card.

    Args:
        ws: The workspace.
        source: A weight file, or a classifier that is loaded already.
        arch: As in ``load_classifier``.
        labels: Class names in the order of the outputs. Without any, and without a card, the names that the
            workspace's data has are taken where their number is right.
        preprocess: From images in [0, 1] to the network's input.
        name: For people.
        device: Where it will run.

    Raises:
        ModelError: It cannot be loaded; the message says why.
    """
    if isinstance(source, Classifier):
        classifier = source
    else:
        known = ws.label_names()
        classifier = load_classifier(
            source, arch=arch, labels=labels, preprocess=preprocess, device=device, name=name
        )
        if labels is None and unnamed(classifier.labels) and len(known) == classifier.num_classes:
            classifier.labels = tuple(known)
    file = Path("models") / classifier.hash / "classifier.safetensors"
    save_classifier(classifier, ws.path / file, {"source": _source_name(source)})
    record = {"hash": classifier.hash, "file": file.as_posix(), "name": classifier.name}
    ws.put_state("classifier", {**record, "labels": list(classifier.labels)})
    if not unnamed(classifier.labels):
        if len(set(classifier.labels)) == len(classifier.labels):
            ws.set_label_names(classifier.labels)
        mapping = label_mapping(ws)
        if mapping["unknown"]:
            log.warning("%s", mapping["text"])
    return classifier


def active_classifier(ws: Workspace, *, device: str = "cpu") -> Classifier:
    """The classifier that this workspace works with; loaded once a process.

    Raises:
        InputError: None was chosen yet, or its file has vanished.
    """
    record = ws.get_state("classifier")
    if record is None:
        raise InputError(
            "no classifier yet: choose one with 'use --classifier FILE', or load the demo with 'demo load'"
        )
    return stored_classifier(ws, record["hash"], labels=record["labels"], device=device)


def stored_classifier(
    ws: Workspace, model_hash: str, *, labels: Sequence[str] | None = None, device: str = "cpu"
) -> Classifier:
    """A classifier that was active in this workspace at some time, by its hash.

    Raises:
        InputError: Its file is not there.
        ModelError: Its file is damaged.
    """
    path = ws.path / "models" / model_hash / "classifier.safetensors"
    if not path.is_file():
        raise InputError(
            f"the workspace names the classifier {model_hash}, but its file "
            f"models/{model_hash}/{path.name} has vanished; choose the classifier again"
        )
    classifier = _load_classifier(str(path), path.stat().st_mtime_ns, tuple(labels or ()), device)
    if classifier.hash != model_hash:
        raise ModelError(
            f"the file models/{model_hash}/{path.name} holds another classifier ({classifier.hash}); choose "
            "it again"
        )
    return classifier


def use_generator(ws: Workspace, folder: str | Path, *, device: str = "cpu") -> Generator:
    """Make a generator the active one. It stays where it is; the workspace remembers the place.

    Raises:
        ModelError: It cannot be loaded.
    """
    path = Path(folder).expanduser().resolve()
    generator = _load_at(path, device)
    ws.put_state("generator", {"path": str(path), "hash": generator.hash, "name": generator.name})
    return generator


def active_generator(ws: Workspace, *, device: str = "cpu") -> Generator:
    """The generator that this workspace works with; loaded once a process.

    Raises:
        InputError: None was chosen yet, or its folder has vanished.
    """
    record = ws.get_state("generator")
    if record is None:
        raise InputError(
            "no generator yet: choose one with 'use --generator FOLDER', train one with 'fit-generator', or "
            "load the "
            "demo with 'demo load'"
        )
    return generator_at(record["path"], device=device)


def generator_at(folder: str | Path, *, device: str = "cpu") -> Generator:
    """The generator in a folder that a workspace remembers; loaded once a process.

    Raises:
        InputError: The folder is gone.
    """
    path = Path(folder)
    if not (path / "model_index.json").is_file():
        raise InputError(f"the generator's folder '{path}' has vanished; choose the generator again")
    return _load_at(path, device)


def prompt_for(generator: Generator, label: str) -> str:
    """How this generator's captions describe a class, from its card; "a photo of a <label>" where it says
    nothing.
    """
    folder = getattr(generator, "folder", None)
    template = prompt_of(folder) if folder is not None else "a photo of a {label}"
    return template.replace("{label}", label)


def reference_path(ws: Workspace, model_hash: str) -> Path:
    """Where the reference of a classifier is kept."""
    return ws.path / "arrays" / f"reference-{model_hash}.safetensors"


def reference(ws: Workspace, classifier: Classifier) -> Reference | None:
    """What was fitted on real data of this classifier, None where nothing was; read once a process.

    Raises:
        ModelError: Its file is damaged.
    """
    path = reference_path(ws, classifier.hash)
    try:
        stamp = path.stat().st_mtime_ns
    except FileNotFoundError:
        return None
    found = _load_reference(str(path), stamp)
    if found.model_hash and found.model_hash != classifier.hash:
        raise ModelError(
            f"{path.name} belongs to another classifier ({found.model_hash}); fit the head again"
        )
    return found if classifier.device.type == "cpu" else found.to(classifier.device)


def unnamed(labels: Sequence[str]) -> bool:
    """Whether the classes have numbers instead of names ("class 3", "3")."""
    return bool(labels) and all(_UNNAMED.fullmatch(label) for label in labels)


def label_mapping(ws: Workspace) -> dict[str, Any]:
    """How the classes of the real data meet those of the active classifier.

    Returns:
        ``matched`` and ``unknown`` (class → number of images; unknown ones are those that the classifier has
        no output for), ``absent`` (classes of the classifier without an image) and ``text``, one or two
        sentences.
    """
    record = ws.get_state("classifier")
    labels = list(record["labels"]) if record else ws.label_names()
    rows = ws.database.rows(
        "SELECT coalesce(label_name, 'class ' || label), label, count(*) FROM samples WHERE origin = 'real'"
        " AND (label_name IS NOT NULL OR label IS NOT NULL) GROUP BY 1, 2 ORDER BY 2, 1"
    )
    matched = {row[0]: row[2] for row in rows if row[1] is not None and row[1] < len(labels)}
    unknown = {row[0]: row[2] for row in rows if row[1] is None or row[1] >= len(labels)}
    absent = [label for label in labels if label not in matched]
    text = f"{len(matched)} of the classifier's {len(labels)} classes have images"
    if unknown:
        text += (
            f"; {sum(unknown.values()):,} images have classes that the classifier does not know "
            f"({shown(list(unknown))}) and count as unlabelled. It knows {shown(labels)}"
        )
    return {"matched": matched, "unknown": unknown, "absent": absent, "text": text + "."}


def shown(names: Sequence[str]) -> str:
    """A list of class names that fits into a message."""
    more = f", … ({len(names)} in all)" if len(names) > _SHOWN else ""
    return ", ".join(repr(name) for name in names[:_SHOWN]) + more


def _labels_for(ws: Workspace, path: Path) -> tuple[list[str] | None, bool]:
    """The names to import with (None: the data's own), and whether the classifier takes over the data's
    names.
    """
    record = ws.get_state("classifier")
    if record is None:
        return None, False
    labels = list(record["labels"])
    with closing(datasets._open(path)) as source:
        keys = source.keys()
        names = datasets._class_names(keys, None, [], source.declared)
    found = {key.class_name for key in keys if key.class_name is not None}
    if not found and all(key.label is None for key in keys):
        return labels, False
    numbered = any(key.label is not None for key in keys)
    if not unnamed(labels):
        usable = found & set(labels) or (not found and any(_below(key.label, len(labels)) for key in keys))
        if not usable:
            raise DatasetError(
                f"no class of '{path.name}' is one of the classifier's. The data has "
                f"{shown(sorted(found) or names)}; the "
                f"classifier has {shown(labels)}. Rename the classes of the data, or choose the classifier "
                "again with "
                "its class names in the order of its outputs"
            )
        return labels, False
    if not found:
        return labels, False
    if len(names) == len(labels) or (numbered and len(names) < len(labels)):
        return None, True
    raise DatasetError(
        f"'{path.name}' has {len(names)} classes ({shown(names)}) and the classifier has {len(labels)} "
        "outputs without "
        "names; choose the classifier again with one class name for each output, in their order"
    )


def _below(label: int | None, count: int) -> bool:
    return label is not None and label < count


def _rename_classes(ws: Workspace, names: Sequence[str]) -> None:
    record = ws.get_state("classifier")
    labels = [*names, *(f"class {number}" for number in range(len(names), len(record["labels"])))]
    if len(labels) == len(record["labels"]):
        ws.put_state("classifier", {**record, "labels": labels})
        ws.set_label_names(labels)


def _unknown_text(report: ImportReport, labels: Sequence[str]) -> str:
    names = sorted(report.unknown_labels, key=lambda name: -report.unknown_labels[name])
    return (
        f"{sum(report.unknown_labels.values()):,} images have classes that the classifier does not know "
        f"({shown(names)}); "
        f"they are kept without a label. The classifier knows {shown(labels or report.labels)}"
    )


def _source_name(source: str | Path | Classifier) -> str:
    return source.name if isinstance(source, Classifier) else Path(source).name


def _load_at(path: Path, device: str) -> Generator:
    index = path / "model_index.json"
    stamp = index.stat().st_mtime_ns if index.is_file() else 0
    return _load_generator(str(path), stamp, device)


# One copy of each model a process, whoever asks: keyed by file and time of change, so a replaced file is read
# again.
@functools.lru_cache(maxsize=4)
def _load_classifier(path: str, stamp: int, labels: tuple[str, ...], device: str) -> Classifier:
    classifier = load_classifier(path, device=device)
    if labels and len(labels) == classifier.num_classes:
        classifier.labels = labels
    return classifier


@functools.lru_cache(maxsize=2)
def _load_generator(path: str, stamp: int, device: str) -> Generator:
    from ltg_core.generators.loading import load_generator

    return load_generator(path, device=device)


@functools.lru_cache(maxsize=4)
def _load_reference(path: str, stamp: int) -> Reference:
    return Reference.load(path)


__all__ = [
    "active_classifier",
    "active_generator",
    "generator_at",
    "import_data",
    "label_mapping",
    "prompt_for",
    "reference",
    "reference_path",
    "stored_classifier",
    "unnamed",
    "use_classifier",
    "use_generator",
]
