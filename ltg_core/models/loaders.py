"""Weight files to classifiers and back; shapes are compared before any weight is used."""

from __future__ import annotations

import json
import logging
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from ltg_core.errors import ArchitectureMismatch, InputError, ModelError, UnsupportedError
from ltg_core.models import architectures
from ltg_core.models.classifier import Classifier, weights_hash
from ltg_core.models.preprocess import Preprocess
from ltg_core.models.weights import LOADERS, first_line, read_state

__all__ = ["LOADERS", "load_classifier", "read_state", "save_classifier"]

log = logging.getLogger(__name__)

_CARD_LIMIT = 16 * 2**20  # bytes; the names of 20,000 classes take less than 1 MB


def load_classifier(
    path: str | Path,
    *,
    arch: str | None = None,
    labels: Sequence[str] | None = None,
    preprocess: Preprocess | None = None,
    device: str | torch.device = "cpu",
    name: str | None = None,
) -> Classifier:
    """A classifier from a weight file.

    What is not given comes from the JSON card beside the file (same stem), then from the architecture: its
    usual preprocessing, and "class 0", "class 1", ... as labels.

    Args:
        path: The weights.
        arch: As in ``architectures.build``.
        labels: Names of the classes, in the order of the outputs.
        preprocess: From images in [0, 1] to the network's input.
        device: Where it will run.
        name: For people; the file's stem when not given.

    Raises:
        ModelError: The file, the card or the number of labels is wrong, or the architecture is neither given
            nor on a card; the message then names those that fit.
        ArchitectureMismatch: The tensors are those of another network; the message names the layers.
        UnsafeFile: Reading it would run code.
    """
    path = Path(path)
    state, notes = read_state(path)
    for note in notes:
        log.info("%s: %s", path.name, note)
    card = _read_card(path)
    shapes = {n: tuple(t.shape) for n, t in state.items()}
    wanted = arch or card.get("arch")
    if wanted is None:
        raise ModelError(
            f"the architecture of {path.name} is not known: there is no card "
            f"{path.with_suffix('.json').name} beside it; name an architecture. {_advice(shapes)}"
        )
    wanted = architectures.canonical(wanted)
    found = architectures.infer_num_classes(wanted, shapes)
    _check_fit(path, wanted, shapes, found)
    assert found is not None  # _check_fit has refused a file without a last layer
    if "weights" in card and card["weights"] != weights_hash(state):
        raise ModelError(
            f"the card {path.with_suffix('.json').name} belongs to other weights than {path.name}"
        )
    chosen = labels if labels is not None else card.get("labels", [f"class {i}" for i in range(found)])
    if len(chosen) != found:
        raise ModelError(
            f"{len(chosen)} labels were given, but the last layer of {path.name} has {found} outputs; "
            "give one label for each output, in their order"
        )
    with torch.random.fork_rng(
        devices=[]
    ):  # the weights drawn here are overwritten; the caller's stream is not used
        net = architectures.build(wanted, found)
    net.load_state_dict(state, strict=False)  # compared above; only batch counters may be absent
    return Classifier(
        net,
        chosen,
        preprocess or _card_preprocess(card) or architectures.default_preprocess(wanted),
        name=name or card.get("name") or path.stem,
        arch=wanted,
        feature_layer=card.get("feature_layer"),
        early_layer=card.get("early_layer"),
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
    try:
        expected = architectures.shapes_of(classifier.arch, classifier.num_classes)
        fits = expected == {n: tuple(t.shape) for n, t in state.items()}
    except ModelError:
        fits = False
    if not fits:
        raise UnsupportedError(
            f"{classifier.name} cannot be saved: its architecture {classifier.arch!r} is none that this "
            "package, timm or torchvision builds with these tensors"
        )
    info = classifier.info()
    own = {
        k: info[k] for k in ("name", "arch", "labels", "preprocess", "feature_layer", "early_layer", "hash")
    }
    text = json.dumps({**(card or {}), **own, "weights": weights_hash(state)}, indent=2, ensure_ascii=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    _atomic(path, lambda part: safetensors.torch.save_file(state, part, metadata={"format": "pt"}))
    _atomic(path.with_suffix(".json"), lambda part: part.write_text(text + "\n", encoding="utf-8"))


def _check_fit(path: Path, arch: str, shapes: architectures.Shapes, classes: int | None) -> None:
    """Compare names and shapes with the architecture, before anything is built."""
    expected = architectures.shapes_of(arch, classes or 2)
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


def _read_card(path: Path) -> dict[str, Any]:
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
