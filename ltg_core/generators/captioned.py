"""Likeness without an image adapter: a real image becomes a mixture of captions that the generator knows.

A text-to-image model that comes with the text-image encoder whose text side conditions it (those of fit-generator, the
demo's) has images and texts in one space. The image's embedding is compared with the prompt and with the prompt under
each condition that the generator's card has a phrase for, and the text states of these captions are mixed by the
softmax of the cosines at the encoder's own temperature. Nothing is trained. All of this is ours; it stands in for the
image-embedding path of the published method, which such a model does not have. It can say of an image what those
captions say, and no more.

Putting the image's embedding itself into the text states (through the inverse of the text projection, in place of the
end token or as a shift of it, with the gap between texts and images taken out) was tried first: of 32 images of the
demo, 31 to 38 % showed their class, against 97 % (docs/feedback.md).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import final

import torch
from torch.nn import functional as F

from ltg_core.generators.base import Like
from ltg_core.generators.judge import phrases_of
from ltg_core.generators.likeness import dropped
from ltg_core.models.textimage import TextImage

Embed = Callable[[Sequence[str]], torch.Tensor]
"""Texts to the states that the denoiser reads, (N, L, W)."""


@final
class Captioned:
    """Reads images as captions.

    Args:
        encoder: Compares images with texts.
        phrases: What a caption can say beyond the prompt ("at night").
    """

    def __init__(self, encoder: TextImage, phrases: Sequence[str]) -> None:
        self.encoder, self.phrases = encoder, tuple(phrases)

    def captions(self, prompt: str) -> list[str]:
        """The prompt, and the prompt with each phrase that it does not have."""
        return [prompt, *(f"{prompt} {phrase}" for phrase in self.phrases if phrase not in prompt)]

    @torch.no_grad()
    def weights(self, prompts: Sequence[str], like: Like) -> list[torch.Tensor]:
        """For each prompt the weights of its captions, which sum to 1."""
        texts = {prompt: self.encoder.texts(self.captions(prompt)) for prompt in dict.fromkeys(prompts)}
        found = []
        for prompt, image, seed in zip(prompts, like.images, like.seeds, strict=True):
            vector = self.encoder.images(image[None])[0]
            vector = F.normalize(vector * dropped(vector.shape, seed, like.dropout), dim=0)
            found.append((self.encoder.temperature * (texts[prompt] @ vector)).softmax(dim=0))
        return found

    def mixed(self, embed: Embed, prompts: Sequence[str], states: torch.Tensor, like: Like) -> torch.Tensor:
        """Text states (B, L, W) of the mixtures; ``states``, those of the prompts, where all is left out.

        Raises:
            InputError: Another number of images than prompts.
        """
        if like.dropout >= 1:
            return states
        known = {prompt: embed(self.captions(prompt)) for prompt in dict.fromkeys(prompts)}
        rows = [
            (share.to(known[prompt])[:, None, None] * known[prompt]).sum(dim=0)
            for prompt, share in zip(prompts, self.weights(prompts, like), strict=True)
        ]
        return torch.stack(rows)


def find_captioned(folder: Path) -> Captioned | None:
    """What a generator's folder allows: its encoder ("clip") and the phrases of its card, or None."""
    phrases = list(phrases_of(folder).values())
    if not phrases or not (folder / "clip" / "config.json").is_file():
        return None
    return Captioned(TextImage(folder / "clip"), phrases)
