"""Models that a process keeps in memory: one copy of each, however many workspaces work with it."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

from ltg_core.errors import InputError, ModelError
from ltg_core.generators.base import Generator
from ltg_core.generators.options import BEST, GeneratorOptions
from ltg_core.models.classifier import Classifier
from ltg_core.models.loaders import load_classifier
from ltg_core.signals.reference import Reference

T = TypeVar("T")


class Loaded(Generic[T]):
    """The models that were used last.

    Args:
        size: How many different ones.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._kept: OrderedDict[Hashable, tuple[T, set[Hashable]]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, what: Hashable, stamp: Hashable, load: Callable[[], T]) -> T:
        """One copy of a model.

        Args:
            what: Says which model it is, its hash among it: where two agree, one copy serves both.
            stamp: Of the file. One that was not seen yet is read, so that damage is found, but not kept twice.
            load: Reads it, and raises where the file does not hold what its name says.
        """
        with self._lock:
            found = self._kept.get(what)
            if found is not None and stamp in found[1]:
                self._kept.move_to_end(what)
                return found[0]
        made = load()
        with self._lock:
            model, stamps = self._kept.setdefault(what, (made, set()))
            stamps.add(stamp)
            self._kept.move_to_end(what)
            while len(self._kept) > self._size:
                self._kept.popitem(last=False)
            return model


def classifier_at(
    path: str | Path,
    model_hash: str,
    labels: Sequence[str] | None = None,
    factories: Sequence[str] = (),
    *,
    device: str = "cpu",
) -> Classifier:
    """The classifier in a workspace's file; loaded once a process.

    Raises:
        InputError: The file is not there.
        ModelError: It is damaged.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(
            f"the workspace names the classifier {model_hash}, but its file models/{model_hash}/{path.name} has "
            "vanished; choose the classifier again"
        )
    named, factories = tuple(labels or ()), tuple(factories)

    def load() -> Classifier:
        made = load_classifier(path, device=device, factories=factories)
        if made.hash != model_hash:
            raise ModelError(
                f"the file models/{model_hash}/{path.name} holds another classifier ({made.hash}); choose it again"
            )
        if named and len(named) == made.num_classes:
            made.labels = named
        return made

    # Two workspaces may know the same weights by other names: only where the card is the same, one copy serves both.
    card = path.with_suffix(".json")
    said = card.read_text(encoding="utf-8") if card.is_file() else ""
    return _CLASSIFIERS.get((model_hash, said, named, device, factories), _stamp(path), load)


def generator_at(
    folder: str | Path, *, options: dict[str, Any] | None = None, device: str = "cpu"
) -> Generator:
    """The generator in a folder that a workspace remembers; loaded once a process.

    Args:
        folder: The directory.
        options: Plain values of `GeneratorOptions`.
        device: Where it will run.

    Raises:
        InputError: The folder is gone.
    """
    path = Path(folder)
    if not (path / "model_index.json").is_file():
        raise InputError(f"the generator's folder '{path}' has vanished; choose the generator again")
    return load_at(path, device, GeneratorOptions.from_dict(options))


def reference_at(path: Path, classifier: Classifier) -> Reference | None:
    """What was fitted on real data of this classifier, from its file; None where there is none; read once a process.

    Raises:
        ModelError: It is damaged, or of another classifier.
    """
    try:
        stamp = _stamp(path)
    except FileNotFoundError:
        return None
    found = _REFERENCES.get((classifier.hash, stamp), stamp, lambda: Reference.load(path))
    if found.model_hash and found.model_hash != classifier.hash:
        raise ModelError(
            f"{path.name} belongs to another classifier ({found.model_hash}); fit the head again"
        )
    return found if classifier.device.type == "cpu" else found.to(classifier.device)


def load_at(path: Path, device: str, options: GeneratorOptions) -> Generator:
    """The same, with options as they are. A number of rows that has to be measured is measured once a process."""
    index = path / "model_index.json"
    place = str(path), index.stat().st_mtime_ns if index.is_file() else 0, device

    known = _MEASURED.get((*place, options), options)

    def load() -> Generator:
        from ltg_core.generators.loading import load_generator

        return load_generator(path, device=device, options=known)

    if known.chunk != BEST:
        return _GENERATORS.get((*place, known), None, load)
    made = load()
    _MEASURED[(*place, options)] = made.options
    return _GENERATORS.get((*place, made.options), None, lambda: made)


def _stamp(path: Path) -> tuple[int, ...]:
    """Changes with the file; that of a link or a true copy is the same."""
    state = path.stat()
    return state.st_mtime_ns, state.st_size


# One copy of each model a process, whoever asks; a replaced file is read again.
_CLASSIFIERS: Loaded[Classifier] = Loaded(4)
_REFERENCES: Loaded[Reference] = Loaded(4)

_GENERATORS: Loaded[Generator] = Loaded(2)
_MEASURED: dict[Hashable, GeneratorOptions] = {}
