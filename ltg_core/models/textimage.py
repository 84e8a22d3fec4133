"""Text-image encoders (CLIP, Radford et al. 2021): unit vectors of texts and of images, to be compared by cosine."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, final

import torch
from torch.nn import functional as F

from ltg_core.compat import ensure_torchvision
from ltg_core.errors import ModelError
from ltg_core.models.preprocess import Preprocess
from ltg_core.models.weights import first_line
from ltg_core.types import Features, Images

_BATCH = 64


@final
class TextImage:
    """A CLIPModel with its tokenizer, in transformers' layout: the demo's own, openai/CLIP, OpenCLIP converted.

    Pictures are brought to the encoder's size and, where a ``preprocessor_config.json`` says so, shrunk to the short
    side, cut to the middle and normalised; without one they are squeezed to the size and scaled to [-1, 1].

    Args:
        folder: Holds config, weights (safetensors) and tokenizer.

    Attributes:
        name: For people.
        size: Side of its pictures in pixels.
        preprocess: From pictures in [0, 1] to its input.

    Raises:
        ModelError: The folder cannot be read.
    """

    def __init__(self, folder: str | Path) -> None:
        ensure_torchvision()
        from transformers import CLIPModel, CLIPTokenizer

        self.folder = Path(folder)
        try:
            clip = CLIPModel.from_pretrained(
                self.folder, dtype=torch.float32, local_files_only=True, use_safetensors=True
            )
            self.tokenizer: Any = CLIPTokenizer.from_pretrained(self.folder, local_files_only=True)
            path = self.folder / "preprocessor_config.json"
            given = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        except (OSError, ValueError, RuntimeError) as error:
            raise ModelError(
                f"the text-image encoder in {self.folder.name!r} cannot be read: {first_line(error)}"
            ) from error
        self.clip: Any = clip.eval().requires_grad_(False)
        self.name = str(given.get("name", self.folder.name))
        self.size = int(self.clip.config.vision_config.image_size)
        mean, std = (tuple(given.get(key, (0.5,) * 3)) for key in ("image_mean", "image_std"))
        self.preprocess = Preprocess(
            height=self.size,
            width=self.size,
            resize="crop" if given.get("do_center_crop") else "squash",
            interpolation="bicubic",
            crop_pct=1.0,
            mean=mean,
            std=std,
        )

    @property
    def temperature(self) -> torch.Tensor:
        """By which cosines are multiplied before a softmax; on the CPU, one number."""
        scale: torch.Tensor = self.clip.logit_scale.exp().cpu()
        return scale

    @functools.cached_property
    def hash(self) -> str:
        """16 hex digits of the weights and of what is done to a picture before."""
        digest = hashlib.sha256(repr(self.preprocess).encode())
        for name, value in sorted(self.clip.state_dict().items()):
            digest.update(name.encode() + value.cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]

    @torch.no_grad()
    def texts(self, texts: Sequence[str]) -> Features:
        """Unit vectors of texts, (N, width), on the CPU."""
        found = []
        for start in range(0, len(texts), _BATCH):
            ids = self.tokenizer(
                list(texts[start : start + _BATCH]),
                padding="max_length",
                max_length=self.tokenizer.model_max_length,
                truncation=True,
                return_tensors="pt",
            ).input_ids
            out = self.clip.get_text_features(input_ids=ids.to(self.clip.device))
            found.append(F.normalize(out.pooler_output, dim=-1))
        return torch.cat(found).cpu()

    def images(self, images: Images) -> Features:
        """Unit vectors of pictures of one size, (N, width), on their device; differentiable."""
        pixels = self.preprocess(images).to(self.clip.device)
        found = self.clip.get_image_features(pixel_values=pixels).pooler_output
        return F.normalize(found, dim=-1).to(images.device)

    def knows(self, text: str) -> bool:
        """Whether the tokenizer has learned the words, rather than spelling them: a guess is worth nothing else."""
        return all(
            len(self.tokenizer.tokenize(word)) <= max(1, -(-len(word) // 3))
            for word in "".join(c if c.isalpha() else " " for c in text).split()
        )
