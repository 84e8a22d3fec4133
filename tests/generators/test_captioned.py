"""A real image as a mixture of captions: for generators with an encoder and phrases of their own."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from ltg_core.errors import InputError, UnsupportedError
from ltg_core.generators.base import Like
from ltg_core.generators.loading import load_generator

PROMPTS = ["a photo of a stop sign", "a photo of a yield sign at night"]


@pytest.fixture(scope="module")
def phrased(tiny_generator: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny generator with phrases in its card."""
    folder = tmp_path_factory.mktemp("phrased") / "generator"
    shutil.copytree(tiny_generator, folder)
    card = json.loads((folder / "card.json").read_text())
    card["phrases"] = {"night": "at night", "clear day": "on a clear day"}
    (folder / "card.json").write_text(json.dumps(card))
    return folder


def pictures(count: int = 2) -> torch.Tensor:
    return torch.rand(count, 3, 32, 32, generator=torch.Generator().manual_seed(5))


def test_states_are_mixed_by_the_cosines_of_image_and_captions(phrased: Path) -> None:
    from transformers import CLIPModel, CLIPTokenizer

    generator = load_generator(phrased)
    assert generator.likenesses == ("captions", "start") and generator.likeness_by() == "captions"
    images = pictures()
    mixed = generator.condition(PROMPTS, like=Like(images, (1, 2), by="captions")).asked["text"]
    clip, tokenizer = (
        CLIPModel.from_pretrained(phrased / "clip").float(),
        CLIPTokenizer.from_pretrained(phrased / "clip"),
    )
    captions = [
        [PROMPTS[0], PROMPTS[0] + " at night", PROMPTS[0] + " on a clear day"],
        [PROMPTS[1], PROMPTS[1] + " on a clear day"],  # what the prompt says already is not said twice
    ]
    for row, texts in enumerate(captions):
        ids = tokenizer(
            texts,
            padding="max_length",
            max_length=tokenizer.model_max_length,
            truncation=True,
            return_tensors="pt",
        ).input_ids
        with torch.no_grad():
            logits = clip(input_ids=ids, pixel_values=images[row : row + 1] * 2 - 1).logits_per_image[0]
        weights = np.exp(logits.numpy() - logits.numpy().max())
        weights /= weights.sum()
        states = [generator.condition([text]).asked["text"][0].numpy() for text in texts]
        expected = sum(w * s for w, s in zip(weights, states, strict=True))
        np.testing.assert_allclose(mixed[row].numpy(), expected, rtol=1e-3, atol=1e-4)


def test_dropout_is_an_images_own_and_everything_left_out_is_the_prompt_alone(phrased: Path) -> None:
    generator = load_generator(phrased)

    def states(rows: slice, dropout: float) -> torch.Tensor:
        like = Like(pictures()[rows], (1, 2)[rows], dropout, "captions")
        return generator.condition(PROMPTS[rows], like=like).asked["text"]

    both = states(slice(0, 2), 0.5)
    torch.testing.assert_close(states(slice(1, 2), 0.5)[0], both[1], rtol=0, atol=0)
    assert not torch.allclose(both, states(slice(0, 2), 0.0))
    plain = generator.condition(PROMPTS).asked["text"]
    torch.testing.assert_close(states(slice(0, 2), 1.0), plain, rtol=0, atol=0)


def test_what_a_generator_cannot_do_is_said(phrased: Path, tiny_generator: Path) -> None:
    plain = load_generator(tiny_generator)
    assert plain.likenesses == ("start",)
    with pytest.raises(UnsupportedError, match=r"cannot resemble images by 'captions'.*it can by start"):
        plain.likeness_by("captions")
    with pytest.raises(UnsupportedError, match="an image adapter"):
        load_generator(phrased).likeness_by("adapter")
    with pytest.raises(InputError, match="one of each"):
        Like(pictures(), (1,))
