"""Weight files to classifiers and back; shapes are compared before any weight is used."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from ltg_core.errors import ArchitectureMismatch, InputError, MissingExtra, ModelError, UnsupportedError
from ltg_core.models import architectures
from ltg_core.models.classifier import Classifier, weights_hash
from ltg_core.models.imagenet import imagenet_names
from ltg_core.models.preprocess import Preprocess
from ltg_core.models.units import Units
from ltg_core.models.weights import LOADERS, Weights, first_line, read_state, read_weights

__all__ = [
    "LOADERS",
    "classifier_from_factory",
    "load_classifier",
    "read_card",
    "read_state",
    "save_classifier",
    "usual_preprocess",
]

FACTORY = "factory:"
ONNX = "onnx"
_CARD = (
    "name",
    "arch",
    "options",
    "labels",
    "keep",
    "outputs",
    "preprocess",
    "feature_layer",
    "early_layer",
    "hash",
)
_CARD_LIMIT = 16 * 2**20  # bytes; the names of 20,000 classes take less than 1 MB


def load_classifier(
    path: str | Path,
    *,
    arch: str | None = None,
    labels: Sequence[str] | None = None,
    preprocess: Preprocess | None = None,
    device: str | torch.device = "cpu",
    name: str | None = None,
    key: str | None = None,
    factories: Sequence[str] = (),
    programs: bool = False,
) -> Classifier:
    """A classifier from a weight file or a model folder.

    What is not given comes from the JSON card beside the file (same stem) or the folder's configuration, then from
    the architecture: its usual preprocessing, and "class 0", "class 1", ... as labels (ImageNet's names where the
    number of outputs is one of its).

    Args:
        path: The weights: safetensors, a weights-only state dict, an ONNX file, or a folder written by
            ``save_pretrained`` (transformers, timm).
        arch: As in ``architectures.build``, or ``"factory:package.module:function"`` where that is among ``factories``.
        labels: Names of the classes, in the order of the outputs.
        preprocess: From images in [0, 1] to the network's input.
        device: Where it will run.
        name: For people; the file's stem when not given.
        key: Which entry of a wrapped checkpoint holds the weights; None for the usual one.
        factories: Functions that the operator of this machine allows to be called.
        programs: Whether the operator allows weights to be taken out of torch.export and TorchScript files, in a
            locked process.

    Raises:
        ModelError: The file, the card or the number of labels is wrong, or the architecture is neither given
            nor on a card; the message then names those that fit.
        ArchitectureMismatch: The tensors are those of another network; the message names the layers.
        UnsafeFile: Reading it would run code.
    """
    path = Path(path)
    if path.is_dir():
        return _from_folder(path, arch, labels, preprocess, device, name)
    if path.suffix.lower() == ".onnx":
        from ltg_core.models import program

        return program.load_onnx(path, labels, preprocess, device, name)
    found = read_weights(path, key, programs=programs)
    card = read_card(path)
    wanted, notes = _chosen_arch(path, found, card, arch)
    given = preprocess or _card_preprocess(card)
    wants = {"outputs": len(labels)} if labels is not None else {}
    net, options, outputs = _network(path, wanted, found.state, {**wants, **card}, given, factories)
    kept = card.get("keep")
    standing = _labels(path, labels, card, outputs, len(kept) if kept else None, notes)
    usual = given or (
        Preprocess() if _made_elsewhere(wanted) else architectures.default_preprocess(wanted, options)
    )
    return Classifier(
        net,
        standing,
        usual,
        name=name or card.get("name") or path.stem,
        arch=wanted,
        feature_layer=card.get("feature_layer"),
        early_layer=card.get("early_layer"),
        options=options,
        keep=kept,
        notes=notes,
        device=device,
    )


def _chosen_arch(
    path: Path, found: Weights, card: Mapping[str, Any], given: str | None
) -> tuple[str, list[str]]:
    """The architecture that is given, on the card, or named by the checkpoint itself where it fits; with notes."""
    notes = list(found.notes)
    wanted = given or card.get("arch")
    if wanted is not None:
        return str(wanted) if _made_elsewhere(str(wanted)) else architectures.canonical(wanted), notes
    shapes = {n: tuple(t.shape) for n, t in found.state.items()}
    for named in (found.arch, f"torchvision:{found.arch}") if found.arch else ():
        try:
            arch = architectures.canonical(named)
            outputs = architectures.infer_num_classes(arch, shapes)
            expected = architectures.shapes_of(arch, outputs or 2)
        except (ModelError, MissingExtra):
            continue
        if outputs and not any(architectures.differences(expected, shapes)):
            return arch, [*notes, f"the checkpoint itself names the architecture {arch}, and its tensors fit"]
    raise ModelError(
        f"the architecture of {path.name} is not known: there is no card "
        f"{path.with_suffix('.json').name} beside it; name an architecture. {_advice(shapes)}"
    )


def _network(
    path: Path,
    arch: str,
    state: Mapping[str, torch.Tensor],
    card: Mapping[str, Any],
    preprocess: Preprocess | None,
    factories: Sequence[str],
) -> tuple[torch.nn.Module, dict[str, Any], int]:
    """The network with these tensors, the options of its architecture, and its number of outputs."""
    if "weights" in card and card["weights"] != weights_hash(state):
        raise ModelError(
            f"the card {path.with_suffix('.json').name} belongs to other weights than {path.name}"
        )
    shapes = {n: tuple(t.shape) for n, t in state.items()}
    if _made_elsewhere(arch):
        net, outputs = _made(path, arch, card, factories)
        expected = {n: tuple(t.shape) for n, t in net.state_dict().items()}
        _check_fit(path, arch, expected, shapes, outputs)
        net.load_state_dict(state, strict=False)
        return net, dict(card.get("options", {})), outputs
    options = dict(card.get("options", {}))
    if not options:
        size = None if preprocess is None else (preprocess.height, preprocess.width)
        options = architectures.infer_options(arch, shapes, size)
    found = architectures.infer_num_classes(arch, shapes, options)
    _check_fit(path, arch, architectures.shapes_of(arch, found or 2, options), shapes, found)
    assert found is not None  # _check_fit has refused a file without a last layer
    with torch.random.fork_rng(
        devices=[]
    ):  # the weights drawn here are overwritten; the caller's stream is not used
        net = architectures.build(arch, found, options)
    net.load_state_dict(state, strict=False)  # compared above; only batch counters may be absent
    return net, options, found


def _made_elsewhere(arch: str) -> bool:
    """Whether a network is not built by name: it comes from the operator's own function or an ONNX program."""
    return arch.startswith(FACTORY) or arch == ONNX


def _made(
    path: Path, arch: str, card: Mapping[str, Any], factories: Sequence[str]
) -> tuple[torch.nn.Module, int]:
    outputs = card.get("outputs")
    if arch == ONNX:
        from ltg_core.models import program

        return program.read_beside(path, card), int(outputs or 0)
    from ltg_core.models.factory import build_from

    return build_from(arch, factories, outputs if isinstance(outputs, int) else None)


def _labels(
    path: Path,
    given: Sequence[str] | None,
    card: Mapping[str, Any],
    outputs: int,
    kept: int | None,
    notes: list[str],
) -> list[str]:
    """One name for each output that counts."""
    wanted = kept or Units.labels_for(outputs)
    chosen = given if given is not None else card.get("labels")
    if chosen is None:
        names = imagenet_names(outputs)
        if names is not None and kept is None:
            notes.append(
                f"no class names; with {outputs:,} outputs those of ImageNet in its usual order were taken"
            )
            return list(names)
        return [f"class {i}" for i in range(wanted)]
    if len(chosen) != wanted:
        raise ModelError(
            f"{len(chosen)} labels were given, but the last layer of {path.name} has {outputs} outputs"
            + (f", of which {kept} count" if kept else "")
            + (
                "; give one label for each output, in their order"
                if outputs > 1
                else "; give two: absent, present"
            )
        )
    return [str(label) for label in chosen]


def usual_preprocess(path: str | Path, arch: str | None = None) -> Preprocess:
    """The preprocessing that ``load_classifier`` takes where none is given.

    Raises:
        ModelError: As ``load_classifier``.
    """
    path = Path(path)
    if path.is_dir():
        from ltg_core.models.folders import read_folder

        return read_folder(path).preprocess
    if path.suffix.lower() == ".onnx":
        return load_classifier(path).preprocess
    card = read_card(path)
    known = _card_preprocess(card)
    if known is not None:
        return known
    wanted = arch or card.get("arch") or _chosen_arch(path, read_weights(path), card, None)[0]
    return Preprocess() if _made_elsewhere(wanted) else architectures.default_preprocess(wanted)


def classifier_from_factory(
    factory: str,
    *,
    labels: Sequence[str] | None = None,
    preprocess: Preprocess | None = None,
    device: str | torch.device = "cpu",
    name: str | None = None,
) -> Classifier:
    """A classifier that the operator's own function builds, weights included.

    Args:
        factory: ``"package.module:function"``; it is called, so nobody but the operator may name it.
        labels: As in ``load_classifier``.
        preprocess: From images in [0, 1] to the network's input; ImageNet's usual if not given.
        device: Where it will run.
        name: For people.

    Raises:
        ModelError: It cannot be called or returns no classifier.
    """
    from ltg_core.models.factory import build_from

    arch = FACTORY + factory
    net, outputs = build_from(arch, (factory,), None if labels is None else len(labels))
    notes = [f"built by {factory}, with the weights that it gave"]
    chosen = _labels(Path(factory), labels, {}, outputs, None, notes)
    return Classifier(
        net, chosen, preprocess or Preprocess(), name=name or factory, arch=arch, notes=notes, device=device
    )


def _from_folder(
    path: Path,
    arch: str | None,
    labels: Sequence[str] | None,
    preprocess: Preprocess | None,
    device: str | torch.device,
    name: str | None,
) -> Classifier:
    from ltg_core.models.folders import read_folder

    found = read_folder(path)
    if arch is not None and architectures.canonical(arch) != found.arch:
        raise ModelError(
            f"'{path.name}' is a {found.arch} by its configuration, but {arch} was given; leave it out"
        )
    card = {"options": found.options, **({"labels": found.labels} if found.labels else {})}
    net, options, outputs = _network(path, found.arch, found.state, card, found.preprocess, ())
    notes = list(found.notes)
    return Classifier(
        net,
        _labels(path, labels, card, outputs, None, notes),
        preprocess or found.preprocess,
        name=name or found.name,
        arch=found.arch,
        options=options,
        notes=notes,
        device=device,
    )


def save_classifier(classifier: Classifier, path: str | Path, card: Mapping[str, Any] | None = None) -> None:
    """Write weights (safetensors) and card (JSON, same stem), each complete or not at all.

    The card gets what ``load_classifier`` needs and a hash that ties it to these weights; ``card`` adds what
    people want to know: data, settings, seeds, metrics.

    Raises:
        InputError: The path does not end in ``.safetensors``.
        UnsupportedError: The classifier's architecture name does not build its network, so that it could
            not be read again.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise InputError(f"{path.name} must end in .safetensors")
    state = {n: t.detach().cpu().contiguous().clone() for n, t in classifier.net.state_dict().items()}
    _check_savable(classifier, state)
    info = classifier.info()
    own = {k: info[k] for k in _CARD if info[k] is not None and info[k] != [] and info[k] != {}}
    text = json.dumps({**(card or {}), **own, "weights": weights_hash(state)}, indent=2, ensure_ascii=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    if classifier.arch == ONNX:
        program = bytes(classifier.net.source)  # type: ignore[arg-type]  # the bytes of the file, see OnnxNet
        _atomic(path.with_suffix(".onnx"), lambda part: part.write_bytes(program))
    _atomic(path, lambda part: safetensors.torch.save_file(state, part, metadata={"format": "pt"}))
    _atomic(path.with_suffix(".json"), lambda part: part.write_text(text + "\n", encoding="utf-8"))


def _check_savable(classifier: Classifier, state: Mapping[str, torch.Tensor]) -> None:
    if _made_elsewhere(classifier.arch):
        return
    try:
        expected = architectures.shapes_of(classifier.arch, classifier.units.count, classifier.options)
        fits = expected == {n: tuple(t.shape) for n, t in state.items()}
    except ModelError:
        fits = False
    if not fits:
        raise UnsupportedError(
            f"{classifier.name} cannot be saved: its architecture {classifier.arch!r} is none that this "
            "package, timm, torchvision or transformers builds with these tensors"
        )


def _check_fit(
    path: Path,
    arch: str,
    expected: architectures.Shapes,
    shapes: architectures.Shapes,
    classes: int | None,
) -> None:
    """Compare names and shapes with the architecture, before anything is built."""
    missing, unexpected, reshaped = architectures.differences(expected, shapes)
    if classes is not None and not (missing or unexpected or reshaped):
        return
    parts = []
    for tensors, what in ((missing, "layers are missing"), (unexpected, "are unexpected")):
        names = list(dict.fromkeys(name.rpartition(".")[0] or name for name in tensors))
        if names:
            parts.append(f"{len(names)} {what} ({', '.join(names[:5])}{', ...' if len(names) > 5 else ''})")
    if reshaped:
        sizes = [f"{n} is {_size(shapes[n])} instead of {_size(expected[n])}" for n in reshaped[:5]]
        more = ", ..." if len(reshaped) > 5 else ""
        parts.append(f"{len(reshaped)} have another shape ({', '.join(sizes)}{more})")
    raise ArchitectureMismatch(f"{path.name} does not fit {arch}: {'; '.join(parts)}. {_advice(shapes)}")


def _advice(shapes: architectures.Shapes) -> str:
    best = [f"{arch} ({score:.0%})" for arch, score in architectures.suggest(shapes)[:3] if score > 0.1]
    if not best:
        return "No architecture that was tried resembles its tensors."
    return f"By its tensors it could be {', '.join(best)}."


def _size(shape: Sequence[int]) -> str:
    return "×".join(str(n) for n in shape) or "a single number"


def read_card(path: Path) -> dict[str, Any]:
    """The card beside a weight file, {} where there is none."""
    file = path.with_suffix(".json")
    if not file.is_file():
        return {}
    try:
        if file.stat().st_size > _CARD_LIMIT:
            raise ModelError(f"the card {file.name} is larger than {_CARD_LIMIT // 2**20} MB")
        card = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError, OSError) as error:
        raise ModelError(f"the card {file.name} is not readable JSON: {first_line(error)}") from error
    kinds = {
        "arch": str,
        "name": str,
        "labels": list,
        "preprocess": dict,
        "feature_layer": str,
        "early_layer": str,
        "options": dict,
        "keep": list,
        "outputs": int,
    }
    if not isinstance(card, dict):
        raise ModelError(
            f"the card {file.name} holds a {type(card).__name__}; expected an object with 'arch'"
        )
    for key, kind in kinds.items():
        if card.get(key) is not None and not isinstance(card[key], kind):
            raise ModelError(
                f"{key!r} on the card {file.name} is {card[key]!r:.60}; expected a {kind.__name__}"
            )
    return {key: value for key, value in card.items() if value is not None}


def _card_preprocess(card: Mapping[str, Any]) -> Preprocess | None:
    if "preprocess" not in card:
        return None
    try:
        return Preprocess.from_dict(card["preprocess"])
    except InputError as error:
        raise ModelError(f"the preprocessing on the card cannot be used: {error}") from error


def _atomic(path: Path, write: Callable[[Path], Any]) -> None:
    """Write beside the goal, flush to the disk, then take its place."""
    handle, part = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    try:
        write(Path(part))
        with open(part, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:
        Path(part).unlink(missing_ok=True)
        raise
