"""Text-image encoders give what transformers' own processor and model give."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from ltg_core.errors import ModelError
from ltg_core.models.textimage import TextImage


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny CLIP in the layout of openai/CLIP, with its processor."""
    from transformers import CLIPImageProcessor

    from ltg_core.generators.fit.textimage import TextSettings, build_clip, build_tokenizer

    place = tmp_path_factory.mktemp("clip")
    tokenizer = build_tokenizer(["a photo of a cat at night", "a dog in fog"], place, 16)
    settings = TextSettings(width=32, layers=1)
    clip: Any = build_clip(settings, len(tokenizer), tokenizer.eos_token_id, 32)
    clip.save_pretrained(place)
    size = {"shortest_edge": 32}, {"height": 32, "width": 32}
    CLIPImageProcessor(size=size[0], crop_size=size[1]).save_pretrained(place)
    return place


def test_pictures_and_texts_are_embedded_as_by_the_library(folder: Path) -> None:
    from transformers import CLIPImageProcessor, CLIPModel

    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 255, (6, 9, 3), dtype=np.uint8))
    picture = coarse.resize((90, 60), Image.Resampling.BICUBIC)
    encoder, model = TextImage(folder), CLIPModel.from_pretrained(folder).eval()
    pixels = CLIPImageProcessor.from_pretrained(folder)(images=picture, return_tensors="pt")
    with torch.no_grad():
        wanted = torch.nn.functional.normalize(model.get_image_features(**pixels).pooler_output, dim=-1)
        found = encoder.images(
            torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1)[None].float() / 255
        )
    assert float((wanted * found).sum()) > 0.999
    texts = encoder.texts(["a cat at night", "a dog"])
    assert texts.shape == (2, 32) and torch.allclose(texts.norm(dim=1), torch.ones(2))
    assert encoder.preprocess.resize == "crop" and len(encoder.hash) == 16


def test_words_that_were_never_learned_are_known_as_such(folder: Path) -> None:
    encoder = TextImage(folder)
    assert encoder.knows("at night, in fog") and not encoder.knows("at night, overcast")


def test_a_folder_that_is_none_is_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be read"):
        TextImage(tmp_path)
