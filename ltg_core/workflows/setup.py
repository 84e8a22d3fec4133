"""What a workspace works with: the classifier under test, the generator, the reference."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ltg_core.data.classes import checked_match, read_as_text
from ltg_core.data.database import explained
from ltg_core.data.workspace import Workspace
from ltg_core.errors import InputError, ModelError
from ltg_core.generators.base import Generator
from ltg_core.generators.hub import cached, is_name
from ltg_core.generators.judge import prompt_of
from ltg_core.generators.options import BEST, GeneratorOptions
from ltg_core.generators.samplers import CHOICES
from ltg_core.models.classifier import Classifier
from ltg_core.models.loaders import (
    FACTORY,
    classifier_from_factory,
    load_classifier,
    read_card,
    save_classifier,
)
from ltg_core.models.preprocess import Preprocess
from ltg_core.signals.reference import Reference
from ltg_core.workflows.importing import label_mapping, unnamed
from ltg_core.workflows.loaded import classifier_at, generator_at, load_at, reference_at
from ltg_core.workflows.packed import unpacked
from ltg_core.workflows.relabelling import apply_map

log = logging.getLogger(__name__)


def use_classifier(
    ws: Workspace,
    source: str | Path | Classifier | None,
    *,
    arch: str | None = None,
    labels: Sequence[str] | None = None,
    preprocess: Preprocess | None = None,
    name: str | None = None,
    key: str | None = None,
    factory: str | None = None,
    programs: bool = False,
    restrict: Sequence[str] | None = None,
    device: str | None = None,
) -> Classifier:
    """Make a classifier the active one; its weights are copied into the workspace as safetensors with a card.

    Args:
        ws: The workspace.
        source: A weight file, a model folder or a zip of one, or a classifier that is loaded already; None where
            ``factory`` gives the weights too.
        arch: As in ``load_classifier``.
        labels: Class names in the order of the outputs. Without any, and without a card, the names that the
            workspace's data has are taken where their number is right.
        preprocess: From images in [0, 1] to the network's input.
        name: For people.
        key: Which entry of a wrapped checkpoint holds the weights.
        factory: ``"package.module:function"`` that builds the network. It is called now and whenever this workspace's
            classifier is loaded: only the operator of the machine may name it, never a page.
        programs: As in ``load_classifier``: the operator's decision, never a page's.
        restrict: Classes that may be predicted, the others are as if they did not exist; ``["data"]`` for those that
            the workspace's images have.
        device: Where it will run; None for the device of the workspace.

    Raises:
        ModelError: It cannot be loaded; the message says why.
        InputError: There is nothing to restrict to.
    """
    device = device or ws.device
    if factory is not None:
        arch = FACTORY + factory
    if isinstance(source, Classifier):
        classifier = source
    elif source is None:
        if factory is None:
            raise InputError("name a weight file, a model folder or a factory")
        classifier = classifier_from_factory(
            factory, labels=labels, preprocess=preprocess, device=device, name=name
        )
    else:
        with unpacked(Path(source), ws.path / "tmp") as place:
            classifier = load_classifier(
                place,
                arch=arch,
                labels=labels,
                preprocess=preprocess,
                device=device,
                name=name,
                key=key,
                factories=[factory] if factory else (),
                programs=programs,
            )
    known = ws.label_names()
    if (
        not isinstance(source, Classifier)
        and labels is None
        and unnamed(classifier.labels)
        and len(known) == classifier.num_classes
    ):
        classifier.labels = tuple(known)
    if restrict is not None:
        classifier = classifier.restricted(_restriction(ws, classifier, restrict))
    if factory is not None:
        ws.put_state("factories", sorted({*ws.get_state("factories", []), factory}))
    file = Path("models") / classifier.hash / "classifier.safetensors"
    with explained(ws.path):
        card = {"source": _source_name(source), **_card_so_far(ws.path / file)}
        save_classifier(classifier, ws.path / file, card)
    record: dict[str, Any] = {"hash": classifier.hash, "file": file.as_posix(), "name": classifier.name}
    if classifier.units.keep is not None:
        record["restricted_from"] = classifier.units.count
    ws.put_state("classifier", {**record, "labels": list(classifier.labels)})
    if not unnamed(classifier.labels):
        if len(set(classifier.labels)) == len(classifier.labels):
            read_as = ws.set_label_names(classifier.labels)
            ws.put_state("read_as", read_as)
            apply_map(ws)
            if read_as:
                log.warning("%s", read_as_text(read_as))
        mapping = label_mapping(ws)
        if mapping["unknown"]:
            log.warning("%s", mapping["text"])
    return classifier


def _restriction(ws: Workspace, classifier: Classifier, given: Sequence[str]) -> list[str]:
    """Class names to keep, in the classifier's order."""
    if list(given) != ["data"]:
        return list(given)
    rows = ws.database.rows(
        "SELECT DISTINCT label_name FROM samples WHERE origin = 'real' AND label_name IS NOT NULL"
    )
    found = {row[0] for row in rows}
    read_as = checked_match(found, classifier.labels, "the workspace")
    meant = found | set(read_as.values())
    kept = [label for label in classifier.labels if label in meant]
    if len(kept) < 2:
        raise InputError(
            f"the images of this workspace have {len(kept)} of the classifier's classes; import images first, or name "
            "the classes to restrict it to"
        )
    return kept


def active_classifier(ws: Workspace, *, device: str | None = None) -> Classifier:
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
    ws: Workspace, model_hash: str, *, labels: Sequence[str] | None = None, device: str | None = None
) -> Classifier:
    """A classifier that was active in this workspace at some time, by its hash.

    Raises:
        InputError: Its file is not there.
        ModelError: Its file is damaged.
    """
    known = ws.get_state("factories", [])
    return classifier_at(
        _classifier_path(ws, model_hash), model_hash, labels, known, device=device or ws.device
    )


def _classifier_path(ws: Workspace, model_hash: str) -> Path:
    return ws.path / "models" / model_hash / "classifier.safetensors"


def where_classifier(ws: Workspace, classifier: Classifier) -> dict[str, Any]:
    """What ``classifier_at`` needs to load this classifier in another process, as plain values.

    Raises:
        InputError: It was never made the workspace's, so that there is no file to read.
    """
    path = _classifier_path(ws, classifier.hash)
    if not path.is_file():
        raise InputError(
            f"{classifier.name} is not kept in this workspace, and other processes read it from there; choose it with "
            "'use --classifier FILE' first"
        )
    factories = list(ws.get_state("factories", []))
    return {
        "path": str(path),
        "model_hash": classifier.hash,
        "labels": list(classifier.labels),
        "factories": factories,
    }


def use_generator(
    ws: Workspace,
    folder: str | Path,
    *,
    options: GeneratorOptions | None = None,
    device: str | None = None,
) -> Generator:
    """Make a generator the active one. It stays where it is; the workspace remembers the place.

    Args:
        ws: The workspace.
        folder: A directory in diffusers' layout, or the name of a model that was fetched before.
        options: What is loaded onto it, and how it is run; remembered too, a number of rows as it was measured.
        device: Where it will run; None for the device of the workspace.

    Raises:
        ModelError: It cannot be loaded.
        InputError: A name that is not on this machine.
        UnsupportedError: A family that is not supported.
    """
    path = cached(str(folder)) if is_name(str(folder)) else Path(folder).expanduser().resolve()
    options = (options or GeneratorOptions()).resolved()
    generator = load_at(path, device or ws.device, options)
    record: dict[str, Any] = {"path": str(path), "hash": generator.hash, "name": generator.name}
    record["language"] = generator.language
    record["samplers"] = list(generator.samplers)
    record["running"] = {
        "dtype": str(generator.dtype).removeprefix("torch."),
        "chunk": generator.chunk,
        "compiled": generator.compiled,
        "decoder": generator.codec.tiny,
    }
    extras = {"options": generator.options.to_dict(), "suggested": dict(generator.suggested)}
    ws.put_state("generator", record | {name: value for name, value in extras.items() if value})
    return generator


def active_generator(ws: Workspace, *, device: str | None = None) -> Generator:
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
    given = record.get("options")
    generator = generator_at(record["path"], options=given, device=device or ws.device)
    if (
        given and given.get("chunk") == BEST
    ):  # by an earlier version: another process would find another number
        ws.put_state("generator", record | {"options": generator.options.to_dict()})
    return generator


def generator_options(ws: Workspace) -> dict[str, Any]:
    """What is loaded onto the active generator, as plain values; empty where nothing is."""
    return dict((ws.get_state("generator") or {}).get("options") or {})


def suggested_settings(ws: Workspace) -> dict[str, Any]:
    """Settings of guidance that the active generator needs to work at all, by name, such as few steps and its own
    scale; empty for most. Nothing is loaded.
    """
    return dict((ws.get_state("generator") or {}).get("suggested") or {})


def fitting_samplers(ws: Workspace) -> tuple[str, ...]:
    """Names of the samplers that fit the active generator; all of them while that is not known. Nothing is loaded."""
    return tuple((ws.get_state("generator") or {}).get("samplers") or CHOICES)


def prompt_for(generator: Generator, label: str) -> str:
    """How this generator is asked for a class: in the words of its captions, from its card ("a photo of a <label>"
    where it says nothing), by the class's name alone, or not at all where it is unconditional.
    """
    return _prompt_at(getattr(generator, "folder", None), label, generator.language)


def plain_prompt(ws: Workspace, label: str) -> str:
    """The same for the active generator, from its card alone: nothing is loaded."""
    record = ws.get_state("generator") or {}
    return _prompt_at(record.get("path"), label, record.get("language", "text"))


def _prompt_at(folder: str | Path | None, label: str, language: str) -> str:
    if language != "text":
        return label if language == "classes" else ""
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
    return reference_at(reference_path(ws, classifier.hash), classifier)


def _card_so_far(file: Path) -> dict[str, Any]:
    """What is on a card already: how a retrained classifier came to be stays there."""
    try:
        return read_card(file)
    except ModelError:
        return {}


def _source_name(source: str | Path | Classifier | None) -> str:
    return source.name if isinstance(source, Classifier) else "" if source is None else Path(source).name
