"""Independent judges of the intended class: the classifier under test cannot be asked where it is blind."""

from __future__ import annotations

import abc
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

from ltg_core.compat import ensure_torchvision
from ltg_core.errors import InputError, ModelError
from ltg_core.generators.base import in_chunks
from ltg_core.models.classifier import Classifier
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
        """(B, classes) log-probabilities; differentiable with respect to the images."""


class ClipJudge(Judge):
    """Zero-shot classification by a CLIP-style encoder (Radford et al. 2021): the nearest class prompt.

    Args:
        folder: A CLIPModel with its tokenizer, in transformers' layout.
        labels: The classes.
        prompt: How a class is described, with ``{label}``.

    Raises:
        ModelError: The folder cannot be read.
    """

    def __init__(self, folder: str | Path, labels: Sequence[str], prompt: str = DEFAULT_PROMPT) -> None:
        ensure_torchvision()
        from transformers import CLIPModel, CLIPTokenizer

        folder = Path(folder)
        try:
            clip = CLIPModel.from_pretrained(
                folder, dtype=torch.float32, local_files_only=True, use_safetensors=True
            )
            self.tokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
        except (OSError, ValueError) as error:
            raise ModelError(f"the text-image encoder in {folder.name!r} cannot be read: {error}") from error
        self.clip: Any = clip.eval().requires_grad_(False)
        self.name, self.labels = "text-image encoder", tuple(labels)
        self.size = int(self.clip.config.vision_config.image_size)
        self.texts = self.embed_texts([prompt.format(label=label) for label in labels])

    @torch.no_grad()
    def embed_texts(self, texts: Sequence[str]) -> torch.Tensor:
        """Unit vectors of texts, (N, width)."""
        ids = self.tokenizer(
            list(texts),
            padding="max_length",
            max_length=self.tokenizer.model_max_length,
            truncation=True,
            return_tensors="pt",
        ).input_ids
        return F.normalize(self.clip.get_text_features(input_ids=ids).pooler_output, dim=-1)

    def embed_images(self, images: Images) -> torch.Tensor:
        """Unit vectors of images, (N, width); differentiable."""
        if images.shape[-1] != self.size or images.shape[-2] != self.size:
            images = F.interpolate(images, size=(self.size, self.size), mode="bicubic", antialias=True)
        return F.normalize(self.clip.get_image_features(pixel_values=2 * images - 1).pooler_output, dim=-1)

    def log_prob(self, images: Images) -> torch.Tensor:
        """(B, classes) log-probabilities among the class prompts."""
        scale = self.clip.logit_scale.exp()
        logits: torch.Tensor = scale * self.embed_images(images) @ self.texts.T
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
        return self.classifier.logits(images).float().log_softmax(dim=1)


def find_judge(folder: str | Path, labels: Sequence[str]) -> Judge | None:
    """The judge that comes with a generator (its folder ``clip``), or None."""
    folder = Path(folder)
    if not (folder / "clip" / "config.json").exists():
        return None
    return ClipJudge(folder / "clip", labels, prompt_of(folder))


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
