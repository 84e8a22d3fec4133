"""Independent judges of the intended class: the classifier under test cannot be asked where it is blind."""

from __future__ import annotations

import abc
import json
from collections.abc import Sequence
from pathlib import Path

import torch

from ltg_core.errors import InputError
from ltg_core.generators.base import in_chunks
from ltg_core.models.classifier import Classifier
from ltg_core.models.textimage import TextImage
from ltg_core.types import Images

DEFAULT_PROMPT = "a photo of a {label}"


class Judge(abc.ABC):
    """Says how likely each of the classifier's classes is, from sources of its own.

    Attributes:
        name: For people.
        labels: The classes it was asked about.
    """

    name: str
    labels: tuple[str, ...]

    @abc.abstractmethod
    def log_prob(self, images: Images) -> torch.Tensor:
        """(B, classes) log-probabilities on the images' device; differentiable with respect to the images."""


class ClipJudge(Judge):
    """Zero-shot classification by a CLIP-style encoder (Radford et al. 2021): the nearest class prompt.

    Args:
        folder: A CLIPModel with its tokenizer, in transformers' layout.
        labels: The classes.
        prompt: How a class is described, with ``{label}``.
        device: Where the encoder is.

    Raises:
        ModelError: The folder cannot be read.
    """

    def __init__(
        self, folder: str | Path, labels: Sequence[str], prompt: str = DEFAULT_PROMPT, device: str = "cpu"
    ) -> None:
        self.encoder = TextImage(folder)
        self.encoder.clip.to(device)
        self.name, self.labels = "text-image encoder", tuple(labels)
        self.texts = self.encoder.texts([prompt.format(label=label) for label in labels])

    def log_prob(self, images: Images) -> torch.Tensor:
        """(B, classes) log-probabilities among the class prompts, on the images' device."""
        seen = self.encoder.images(images)
        logits: torch.Tensor = self.encoder.temperature.to(seen) * seen @ self.texts.T.to(seen)
        return logits.log_softmax(dim=1)


class ClassifierJudge(Judge):
    """Another classifier with the same classes, trained by somebody else or otherwise.

    Raises:
        InputError: Its classes differ.
    """

    def __init__(self, classifier: Classifier, labels: Sequence[str]) -> None:
        if tuple(classifier.labels) != tuple(labels):
            raise InputError(
                f"the judge {classifier.name!r} knows {list(classifier.labels)[:5]}…, the classifier under test "
                f"{list(labels)[:5]}…; use a judge with the same classes in the same order"
            )
        self.classifier, self.name, self.labels = classifier, classifier.name, tuple(labels)

    def log_prob(self, images: Images) -> torch.Tensor:
        """(B, classes) log-probabilities of the other classifier."""
        return self.classifier.logits(images).float().log_softmax(dim=1).to(images.device)


def find_judge(folder: str | Path, labels: Sequence[str], device: str = "cpu") -> Judge | None:
    """The judge that comes with a generator (its folder ``clip``), on a device, or None."""
    folder = Path(folder)
    if not (folder / "clip" / "config.json").exists():
        return None
    return ClipJudge(folder / "clip", labels, prompt_of(folder), device)


def prompt_of(folder: str | Path) -> str:
    """How the generator's captions describe a class, from its card; contains ``{label}``."""
    path = Path(folder) / "card.json"
    if not path.exists():
        return DEFAULT_PROMPT
    prompt = str(json.loads(path.read_text(encoding="utf-8")).get("prompt", DEFAULT_PROMPT))
    return prompt if "{label}" in prompt else DEFAULT_PROMPT


def phrases_of(folder: str | Path) -> dict[str, str]:
    """How the generator's captions name conditions ("night": "at night"), from its card; may be empty."""
    path = Path(folder) / "card.json"
    found = json.loads(path.read_text(encoding="utf-8")).get("phrases") if path.exists() else None
    return {str(name): str(words) for name, words in found.items()} if isinstance(found, dict) else {}


@torch.no_grad()
def judge_all(judge: Judge, images: Images) -> torch.Tensor:
    """Log-probabilities of many images, (N, classes), in chunks."""
    return in_chunks(judge.log_prob, images)
