"""What a workspace works with: the classifier under test, the generator, the reference."""

from __future__ import annotations

import functools
import logging
from collections.abc import Sequence
from pathlib import Path

from ltg_core.data.classes import read_as_text
from ltg_core.data.database import explained
from ltg_core.data.workspace import Workspace
from ltg_core.errors import InputError, ModelError
from ltg_core.generators.base import Generator
from ltg_core.generators.judge import prompt_of
from ltg_core.models.classifier import Classifier
from ltg_core.models.loaders import load_classifier, save_classifier
from ltg_core.models.preprocess import Preprocess
from ltg_core.signals.reference import Reference
from ltg_core.workflows.importing import label_mapping, unnamed

log = logging.getLogger(__name__)


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
    with explained(ws.path):
        save_classifier(classifier, ws.path / file, {"source": _source_name(source)})
    record = {"hash": classifier.hash, "file": file.as_posix(), "name": classifier.name}
    ws.put_state("classifier", {**record, "labels": list(classifier.labels)})
    if not unnamed(classifier.labels):
        if len(set(classifier.labels)) == len(classifier.labels):
            read_as = ws.set_label_names(classifier.labels)
            ws.put_state("read_as", read_as)
            if read_as:
                log.warning("%s", read_as_text(read_as))
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
            f"the workspace names the classifier {model_hash}, but its file models/{model_hash}/{path.name} has "
            "vanished; choose the classifier again"
        )
    classifier = _load_classifier(str(path), path.stat().st_mtime_ns, tuple(labels or ()), device)
    if classifier.hash != model_hash:
        raise ModelError(
            f"the file models/{model_hash}/{path.name} holds another classifier ({classifier.hash}); choose it again"
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
            "no generator yet: choose one with 'use --generator FOLDER', train one with 'fit-generator', or load the "
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
